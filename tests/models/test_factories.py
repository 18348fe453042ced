from __future__ import annotations

import sys

import pytest

from topocompress.errors import DataError, ModelError
from topocompress.models.factories import call_factory, current_directory_importable, is_factory, load_factory

MODULE = """
from topocompress.errors import ExportError

class Maker:
    @staticmethod
    def pair(left=1, right=2):
        return left, right

def late():
    import topocompress_test_helper
    return topocompress_test_helper.VALUE

def broken():
    raise RuntimeError("disk on fire")

def ours():
    raise ExportError("its own words")

class Needing:
    def __init__(self, classes, *, width, depth=3):
        self.asked = classes, width, depth

constant = 5
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "topocompress_test_factory.py").write_text(MODULE, encoding="utf-8")
    (tmp_path / "topocompress_test_helper.py").write_text("VALUE = 7", encoding="utf-8")
    (tmp_path / "topocompress_test_faulty.py").write_text("import no_such_package_at_all", encoding="utf-8")
    (tmp_path / "topocompress_test_wrong.py").write_text("def (", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for name in [name for name in sys.modules if name.startswith("topocompress_test_")]:
        monkeypatch.delitem(sys.modules, name)  # of an earlier test
    return "topocompress_test_factory"


@pytest.mark.parametrize("text", ["a:b", "a.b:c", "a.b_2:C.d", "größe:maß"])
def test_forms(text):
    assert is_factory(text)


@pytest.mark.parametrize(
    "text", ["", "a", "a:", ":b", "a.b", "a:b:c", "a/b:c", "C:\\\\net.pt", "2a:b", "a :b", "a..b:c", "a:b\n"]
)
def test_other_forms(text):
    assert not is_factory(text)
    with pytest.raises(ModelError, match="not of the form pkg"):
        load_factory(text, ModelError)


def test_found_in_the_current_directory_and_called_with_options(module):
    paths = list(sys.path)
    assert call_factory(f"{module}:Maker.pair", ModelError, right=5) == (1, 5)
    assert sys.path == paths


def test_the_factory_may_import_from_there_while_it_runs(module):
    assert call_factory(f"{module}:late", ModelError) == 7


@pytest.mark.parametrize("error", [DataError, ModelError])
@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("topocompress_test_factory:broken", r"broken\(\) failed: RuntimeError: disk on fire"),
        ("topocompress_test_factory:constant", "is a int, not a callable"),
        ("topocompress_test_factory:Maker.none", r"has no Maker\.none"),
        ("topocompress_test_faulty:net", "cannot import .*no_such_package_at_all"),
        ("topocompress_test_wrong:net", "cannot import .*SyntaxError"),
        ("no_such_module_at_all:net", "cannot import no_such_module_at_all"),
    ],
)
def test_failures_become_the_callers_error(module, spec, message, error):
    paths = list(sys.path)
    with pytest.raises(error, match=message) as caught:
        call_factory(spec, error)
    assert type(caught.value) is error
    assert caught.value.hint
    assert sys.path == paths


def test_options_that_do_not_fit_are_shown(module):
    with pytest.raises(ModelError, match=r"Maker\.pair cannot be called with middle='x'.*middle") as caught:
        call_factory(f"{module}:Maker.pair", ModelError, middle="x")
    assert "(left=1, right=2)" in caught.value.hint


def test_a_class_that_needs_values_gets_a_factory_to_paste_that_works(module, tmp_path):
    with pytest.raises(ModelError, match="needs values for width") as caught:
        call_factory(f"{module}:Needing", ModelError, classes=7)
    head, *lines = caught.value.hint.splitlines()
    assert f"({module}:build)" in head
    filled = "\n".join(lines).replace("width=...", "width=8")
    source = tmp_path / f"{module}.py"
    source.write_text(f"{source.read_text(encoding='utf-8')}\n{filled}\n", encoding="utf-8")
    del sys.modules[module]
    assert call_factory(f"{module}:build", ModelError).asked == (7, 8, 3)


def test_an_error_of_ours_is_passed_on(module):
    from topocompress.errors import ExportError

    with pytest.raises(ExportError, match="its own words"):
        call_factory(f"{module}:ours", ModelError)


def test_the_path_is_restored_even_if_the_block_edits_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = list(sys.path)
    with current_directory_importable():
        sys.path.pop(0)
    assert sys.path == paths
