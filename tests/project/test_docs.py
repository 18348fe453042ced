"""Snippets in the documentation run; its links lead somewhere; the public names are documented."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import topocompress

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [*(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")), *(ROOT / "docs").rglob("*.md")]
)


def test_python_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    (snippet,) = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(encoding="utf-8"), re.DOTALL
    )
    exec(compile(snippet, "python.md", "exec"), {})
    assert "channels go" in capsys.readouterr().out
    assert (tmp_path / "run" / "plan.json").is_file()


@pytest.mark.usefixtures("unexported")
def test_fine_tuning_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (snippet,) = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs" / "finetuning.md").read_text(encoding="utf-8"), re.DOTALL
    )
    exec(compile(snippet, "finetuning.md", "exec"), {})
    assert "agreement" in capsys.readouterr().out


@pytest.mark.usefixtures("unexported")
def test_tasks_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (snippet,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "tasks.md").read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(snippet, "tasks.md", "exec"), {})
    assert capsys.readouterr().out.startswith("iou ")


def test_reconstruction_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (snippet,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "reconstruction.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(snippet, "reconstruction.md", "exec"), names)
    assert all(refit.after < 0.5 * refit.before for refit in names["found"].layers)
    assert "down.0" in capsys.readouterr().out


def test_activation_page_runs() -> None:
    torch.manual_seed(0)
    names: dict[str, Any] = {}
    for snippet in re.findall(
        r"```python\n(.*?)```", (ROOT / "docs" / "activation.md").read_text(encoding="utf-8"), re.DOTALL
    ):
        exec(compile(snippet, "activation.md", "exec"), names)
    trained, example, swapped = names["trained"], names["example"], names["swapped"]
    assert names["model"](torch.ones(3, 2)).shape == (3, 2)
    assert list(swapped.swapped) == ["1"]
    assert torch.equal(swapped.model(example), trained(example))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8"))
    assert all((page.parent / link).exists() for link in links if "://" not in link), links


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == topocompress.__version__
    assert {"cff-version", "message", "title", "authors"} <= set(citation)


@pytest.mark.parametrize("name", ["bug", "feature", "network"])
def test_issues_have_forms(name: str) -> None:
    form = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / f"{name}.yml").read_text(encoding="utf-8"))
    assert form["name"]
    assert form["description"]
    questions = [part for part in form["body"] if part["type"] != "markdown"]
    assert all(part["attributes"]["label"] for part in questions)
    assert len({part["id"] for part in questions}) == len(questions)
    assert any(part.get("validations", {}).get("required") for part in questions)


def test_every_public_name_exists_and_is_documented() -> None:
    pages = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    for name in topocompress.__all__:
        assert getattr(topocompress, name).__doc__, name
        assert name in pages, name


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="nothing_like_it"):
        _ = topocompress.nothing_like_it  # type: ignore[attr-defined]
