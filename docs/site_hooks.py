"""What MkDocs is told besides ``mkdocs.yml``.

Pages link to files outside of ``docs/`` as they do in the repository: whatever they link to (``../CONTRIBUTING.md``, a
plugin's folder, an example) becomes part of the site under its own path in the repository, and pages among it may link
on. A search puts guides before studies. Docstrings name code by Sphinx's roles: of ``:func:`~package.name` `` the site
shows the name.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

LINK = re.compile(r"(?<=\]\()[^)#\s]+")
ROLE = re.compile(r":[a-z]+:<code>(?:~(?:\w+\.)*)?([^<]+)</code>")


def on_files(files: Files, config: Any) -> Files:
    """Adds the files that pages link to."""
    waiting = list(files.documentation_pages())
    while waiting:
        page = waiting.pop()
        for link in LINK.findall(page.content_string):
            target = _target(page, link)
            if target is None or files.get_file_from_path(uri := _place(target, config)):
                continue
            files.append(File.generated(config, uri, abs_src_path=str(target)))
            if target.suffix == ".md":
                waiting.append(files.src_uris[uri])
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Points links at where files lie in the site; a search puts studies last."""
    if page.file.src_uri.startswith("research/"):
        page.meta["search"] = {"boost": 0.01}

    def moved(link: re.Match[str]) -> str:
        target = _target(page.file, link.group())
        if target is None or not files.get_file_from_path(uri := _place(target, config)):
            return link.group()
        return posixpath.relpath(uri, posixpath.dirname(page.file.src_uri))

    return LINK.sub(moved, markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Leaves Sphinx's roles out."""
    return ROLE.sub(r"<code>\1</code>", html)


def _target(page: File, link: str) -> Path | None:
    """The file that a page's link leads to; a folder stands for its README."""
    if "://" in link or not page.abs_src_path:
        return None
    target = (Path(page.abs_src_path).parent / link).resolve()
    target = target / "README.md" if target.is_dir() else target
    return target if target.is_file() else None


def _place(target: Path, config: Any) -> str:
    """A file's path in the site: that in ``docs/``, or else that in the repository."""
    docs = Path(config.docs_dir).resolve()
    inside = target.is_relative_to(docs)
    return target.relative_to(docs if inside else docs.parent).as_posix()
