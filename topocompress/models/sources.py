"""What a user writes as a model, looked at before torch is loaded: what cannot be loaded is refused at once."""

from __future__ import annotations

import difflib
import functools
import importlib.util
import re
from pathlib import Path

from topocompress.errors import ModelError
from topocompress.models.factories import is_factory, module_files
from topocompress.models.files import check_file
from topocompress.models.shards import index_in
from topocompress.runtime.outputs import is_run

_WEIGHTS = re.compile(r"(\w+_Weights\.)?\w+")
"""How published weights are called; what is none of these is a file."""


def check_source(model: str, *, arch: str | None = None, weights: str | None = None) -> None:
    """Refuse what surely is no model: missing, empty and foreign files, unknown names, names without weights.

    Args:
        model: What the user wrote, see :func:`topocompress.models.load_model`.
        arch: The architecture of a checkpoint.
        weights: The weights of a name or a factory.

    Raises:
        ModelError: It cannot be loaded; says why and what to do.
    """
    path = Path(model)
    if weights is not None and Path(weights).exists():
        _check_there(Path(weights))
    elif weights is not None and not _WEIGHTS.fullmatch(weights):
        raise ModelError(f"{weights} does not exist", hint="Give --weights a checkpoint file, or DEFAULT.")
    for spec in filter(None, (arch, model)):
        if is_factory(spec) and ".py:" in spec and not Path(spec).exists():
            raise ModelError(f"{spec} names a file", hint=f"Leave out .py: {spec.replace('.py:', ':')}")
    if arch is not None and not (is_factory(arch) or arch.startswith("timm:") or arch in known_names()):
        near = _meant(arch) or _near(arch)
        raise ModelError(f"unknown architecture {arch!r}", hint=f"{near}Accepted: {_KINDS}.")
    if path.exists():
        if not is_run(path):
            _check_there(path)
    elif model.startswith("timm:") or is_factory(model):
        return
    elif not _bare(model):
        raise ModelError(f"{model} does not exist", hint="Check the path of the checkpoint.")
    elif model not in known_names():
        raise ModelError(
            f"{model} is neither a file nor a known model",
            hint=f"{_near(model)}Accepted: a file, {_KINDS} or a run directory.",
        )
    elif weights is None and model != "digits":
        raise untrained(model, "the published ones, where there are any")


def paths_of(model: str, *, arch: str | None = None, weights: str | None = None) -> list[Path]:
    """Files and folders that loading a model reads, as far as its words say; some need not be there."""
    found = [Path(model)]
    if weights is not None:
        found.append(Path(weights))
    for spec in filter(None, (model, arch)):
        found += module_files(spec)
    return found


_KINDS = "a torchvision name, timm:NAME, digits, pkg.module:factory"


def untrained(name: str, published: str) -> ModelError:
    """The error where an architecture is named and no weights are."""
    own = f", or --weights DEFAULT for {published}" if published else ""
    return ModelError(
        f"{name} without weights is untrained, and there is nothing to learn from what it computes",
        hint=f"Add --weights FILE{own}.",
    )


@functools.cache
def known_names() -> frozenset[str]:
    """``digits`` and the names of torchvision's architectures, read from its source, which takes no import of torch."""
    found = importlib.util.find_spec("torchvision")
    names = {"digits"}
    for folder in [] if found is None else found.submodule_search_locations or []:
        for file in (Path(folder) / "models").rglob("*.py"):
            parts = file.read_text(encoding="utf-8").split("@register_model")[1:]
            names |= {match[1] for part in parts if (match := re.search(r"^def (\w+)\(", part, re.MULTILINE))}
    return frozenset(names)


def _bare(text: str) -> bool:
    path = Path(text)
    return path.suffix == "" and len(path.parts) == 1 and ":" not in text


def _meant(arch: str) -> str:
    """Which factory may be meant by what is none: a module alone, its file, or a function as imports write it."""
    file = Path(f"{arch.removesuffix('.py').replace('.', '/')}.py")
    colon = ":".join(arch.rsplit(".", 1))
    if file.is_file():
        return f"Name the function or class in {file}, too: {arch.removesuffix('.py')}:NAME. "
    return f"Did you mean {colon}? " if is_factory(colon) else ""


def _near(name: str) -> str:
    near = difflib.get_close_matches(name, sorted(known_names()), n=3)
    return f"Did you mean {', '.join(near)}? " if near else ""


def _check_there(path: Path) -> None:
    check_file(index_in(path) if path.is_dir() else path)
