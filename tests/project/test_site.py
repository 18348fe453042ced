"""The documentation site: it builds without a warning, reads nothing from elsewhere, and documents the public names."""

import json
import re
from pathlib import Path

import pytest

import topocompress
from tests.helpers.processes import python

ROOT = Path(__file__).parents[2]
FETCHED = re.compile(r"""<(?:script|img|iframe)[^>]*\ssrc="(?:https?:)?//|<link[^>]*\shref="(?:https?:)?//""")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site. Strict: a page that is in no menu, a link or an anchor that leads nowhere is an error."""
    folder = tmp_path_factory.mktemp("site")
    python("-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", folder, cwd=ROOT)
    return folder


def test_nothing_is_fetched_when_it_is_read(site):
    pages = sorted(site.rglob("*.html"))
    assert pages
    assert not [page for page in pages if FETCHED.search(page.read_text(encoding="utf-8"))]


def test_files_outside_of_the_folder_are_reached(site):
    assert 'href="CONTRIBUTING.html"' in (site / "architecture.html").read_text(encoding="utf-8")
    assert (site / "examples" / "serve_onnx.py").is_file()
    assert {path.parent.name for path in site.rglob("*.py*")} == {"examples"}


def test_every_public_name_has_types_and_words(site):
    page = (site / "api.html").read_text(encoding="utf-8")
    for name in topocompress.__all__:
        assert re.search(rf'id="topocompress\.{name}"', page), name
    assert not re.search(r":(?:func|class|meth|mod|data|attr):", page)


def test_every_page_can_be_searched(site):
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    found = {entry["location"].partition("#")[0] for entry in index["docs"]}
    pages = {page.relative_to(ROOT / "docs").with_suffix(".html").as_posix() for page in (ROOT / "docs").rglob("*.md")}
    assert pages <= found
    boosts = {entry["location"].partition("#")[0]: entry.get("boost", 1) for entry in index["docs"]}
    assert boosts["research/criteria.html"] < boosts["criteria.html"]
