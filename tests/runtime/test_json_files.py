"""JSON from a file: bounded, and only what JSON can say."""

import pytest

from topocompress.runtime.json_files import read_json

REFUSED = {
    "no JSON": b"{",
    "nothing": b"",
    "no UTF-8": b'"\xff"',
    "no number": b"[NaN]",
    "infinity": b'{"a": -Infinity}',
    "a number without end": b"[1e999]",
    "a whole number of many digits": b"9" * 10_000,
    "deep lists": b"[" * 200_000,
    "deep objects": b'{"a":' * 200_000,
    "a key twice": b'{"a": 1, "a": 2}',
    "too large": b'"' + b"a" * 10**6 + b'"',
}


@pytest.mark.parametrize("content", REFUSED.values(), ids=REFUSED)
def test_what_is_refused(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError):
        read_json(tmp_path / "a.json", most=500_000 if content.startswith(b'"') else 10**7)


def test_what_is_read(tmp_path):
    (tmp_path / "a.json").write_text('{"a": [1, 2.5, null, true, "\u00e9"], "b": {}}', encoding="utf-8")
    assert read_json(tmp_path / "a.json", most=100) == {"a": [1, 2.5, None, True, "\u00e9"], "b": {}}
