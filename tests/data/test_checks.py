"""What a user writes as data, before torch is loaded."""

import pytest

from topocompress.data.checks import check_source
from topocompress.errors import DataError


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("photos", "unknown data source 'photos': there is no such folder"),
        (__file__, "it is a file"),
        ("imagefolder:", "unknown data source"),
        ("imagefolder:nosuch", "does not exist"),
        ("imagefolder:file", "is not a directory"),
        ("cifar10:nosuch", "does not exist"),
        ("fashion-mnist:nosuch", "does not exist"),
    ],
)
def test_what_is_no_data_is_refused(tmp_path, monkeypatch, source, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=message) as caught:
        check_source(source)
    assert caught.value.hint


def test_what_may_be_some_is_left_to_loading(tmp_path):
    for source in (None, "digits", f"imagefolder:{tmp_path}", f"ImageFolder:{tmp_path}", "mydata:load"):
        check_source(source)
    check_source(f"cifar10:{tmp_path / 'new'}", download=True)
