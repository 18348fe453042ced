"""The page on writing a criterion does what it says: its snippets run, its package installs."""

import importlib
import re
import zipfile
from pathlib import Path

from tests.helpers.processes import python
from topocompress.criteria.registry import available

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "writing-a-criterion.md").read_text(encoding="utf-8")


def snippets(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_the_snippets_run(capsys):
    names = {"__name__": "topocompress_loud"}
    for snippet in snippets("python"):
        exec(compile(snippet, "writing-a-criterion.md", "exec"), names)

    assert re.fullmatch(r"[1-9]\d* channels go\n", capsys.readouterr().out)


def test_the_criterion_is_as_short_as_promised():
    assert sum(bool(line.strip()) for line in snippets("python")[0].splitlines()) <= 10


def test_the_package_installs_and_is_listed(tmp_path, monkeypatch):
    source, target = tmp_path / "source", tmp_path / "site"
    source.mkdir()
    (source / "topocompress_loud.py").write_text(snippets("python")[0], encoding="utf-8")
    (source / "pyproject.toml").write_text(snippets("toml")[0], encoding="utf-8")
    python("-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path, cwd=source)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)

    monkeypatch.syspath_prepend(str(target))
    importlib.invalidate_caches()
    (found,) = [criterion for criterion in available() if criterion.name == "loud"]
    assert (found.distribution, found.error) == ("topocompress-loud", "")
    assert "Mean of the largest value" in found.summary
