"""Finding criteria: the built-in ones and those that installed packages offer as ``topocompress.criteria``."""

from __future__ import annotations

import ast
import contextlib
import difflib
import importlib.util
import inspect
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from topocompress.criteria.base import KINDS, Criterion
from topocompress.errors import CriterionError
from topocompress.runtime.borders import border
from topocompress.types import Direction

GROUP = "topocompress.criteria"

_LARGEST = 2**32 - 1
"""What a number behind a criterion's name may be at most: a seed, all others are smaller."""
_BUILT_IN = {
    "persistence": "topocompress.criteria.persistence:Persistence",
    "betti": "topocompress.criteria.betti:Betti",
    "taylor": "topocompress.criteria.taylor:Taylor",
    "chip": "topocompress.criteria.chip:CHIP",
    "hrank": "topocompress.criteria.hrank:HRank",
    "fpgm": "topocompress.criteria.fpgm:FPGM",
    "bn-scale": "topocompress.criteria.bn_scale:BNScale",
    "l1": "topocompress.criteria.l1:L1",
    "l2": "topocompress.criteria.l2:L2",
    "random": "topocompress.criteria.random:Random",
}


@dataclass(frozen=True, kw_only=True)
class CriterionInfo:
    """One line of ``topocompress criteria``.

    Attributes:
        name: What ``--criterion`` takes.
        distribution: The installed package it comes from.
        summary: First line of its docstring; empty if it cannot be imported.
        error: Why it cannot be used; empty otherwise.
    """

    name: str
    distribution: str
    summary: str = ""
    error: str = ""


def _entries() -> list[tuple[str, str, EntryPoint]]:
    """(name, distribution, entry point) of everything on offer, built-in first.

    Raises:
        CriterionError: Two distributions offer one name.
    """
    built_in = [(name, "topocompress", EntryPoint(name, value, GROUP)) for name, value in _BUILT_IN.items()]
    plugins = [(entry.name, entry.dist.name if entry.dist else "unknown", entry) for entry in entry_points(group=GROUP)]
    owners: dict[str, str] = {}
    for name, distribution, _ in (*built_in, *plugins):
        if name in owners:
            raise CriterionError(
                f"two packages offer a criterion named {name!r}: {owners[name]} and {distribution}",
                hint=f"Uninstall one of them: pip uninstall {distribution}",
            )
        owners[name] = distribution
    return built_in + sorted(plugins, key=lambda entry: entry[0])


def _load(name: str, distribution: str, entry: EntryPoint) -> type[Criterion]:
    try:
        loaded = entry.load()
    except (Exception, SystemExit) as error:
        raise CriterionError(
            f"criterion {name!r} from {distribution} cannot be imported: {type(error).__name__}: {error}",
            hint=f"Reinstall or uninstall it: pip uninstall {distribution}",
        ) from error
    if not (isinstance(loaded, type) and issubclass(loaded, KINDS)):
        raise CriterionError(
            f"criterion {name!r} from {distribution} is not a criterion: {loaded!r}",
            hint=f"Its entry point must name a subclass of {', '.join(kind.__name__ for kind in KINDS)}.",
        )
    if getattr(loaded, "name", None) != name or getattr(loaded, "higher", None) not in ("keep", "remove"):
        raise CriterionError(
            f"criterion {name!r} from {distribution} must set name = {name!r} and higher = 'keep' or 'remove'"
        )
    return loaded


def _source_of(entry: EntryPoint) -> ast.ClassDef:
    """The class of one of our own, as it is written: a list of them must not wait for torch."""
    found = importlib.util.find_spec(entry.module)
    module = ast.parse(Path(str(found and found.origin)).read_text(encoding="utf-8"))
    return next(node for node in module.body if isinstance(node, ast.ClassDef) and node.name == entry.attr)


@dataclass(frozen=True, kw_only=True)
class Declared:
    """What a criterion says of itself.

    Attributes:
        higher: Whether a higher score speaks for keeping or for removing; ``None`` where that is not known yet.
        comparable: Whether scores of different layers can be compared; likewise.
    """

    higher: Direction | None = None
    comparable: bool | None = None


def declared(name: str) -> Declared:
    """What one of our own criteria says of itself, without importing it, which would wait for torch.

    Args:
        name: As :func:`create` takes it. A setting may turn the direction round, and a plugin is known only when it is
            loaded.
    """
    plain, *settings = name.split("+")
    if plain not in _BUILT_IN:
        return Declared()
    said = {
        node.target.id: ast.literal_eval(node.value)
        for node in _source_of(EntryPoint(plain, _BUILT_IN[plain], GROUP)).body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None
    }
    return Declared(higher=None if settings else said["higher"], comparable=said.get("comparable", False))


def available() -> list[CriterionInfo]:
    """Every criterion on offer; one that cannot be used carries its error instead of a summary.

    Raises:
        CriterionError: Two distributions offer one name.
    """
    found = []
    for name, distribution, entry in _entries():
        try:
            ours = entry.value in _BUILT_IN.values()
            text = ast.get_docstring(_source_of(entry)) if ours else _load(name, distribution, entry).__doc__
            summary = (text or "").strip().partition("\n")[0]
            found.append(CriterionInfo(name=name, distribution=distribution, summary=summary))
        except CriterionError as error:
            found.append(CriterionInfo(name=name, distribution=distribution, error=error.what))
    return found


def create(name: str, **options: Any) -> Criterion:
    """A criterion by name.

    Args:
        name: Registered name. Settings may follow, each as ``+setting=value``: ``betti+orientation=inverse``.
        options: Keyword arguments of its class; settings that follow the name win.

    Raises:
        CriterionError: The name is unknown or ambiguous, the plugin is broken, or an option does not exist.
    """
    check_name(name)
    name, *settings = name.split("+")
    options |= dict(_setting(name, text) for text in settings)
    distribution, entry = next((owner, entry) for known, owner, entry in _entries() if known == name)
    cls = _load(name, distribution, entry)
    with border(lambda why: CriterionError(f"criterion {name!r}: {why}", hint=_usual_settings(cls))):
        return cls(**options)


def check_name(name: str) -> None:
    """Refuse a criterion that is not on offer, and settings that cannot be read; nothing is imported for it.

    Raises:
        CriterionError: The name is unknown or ambiguous, or a setting is not of the form ``+setting=value``.
    """
    name, *settings = name.split("+")
    for text in settings:
        _setting(name, text)
    known = [entry for entry, _, _ in _entries()]
    if name not in known:
        raise CriterionError(f"unknown criterion {name!r}", hint=_suggest(name, known))


def _usual_settings(cls: type[Criterion]) -> str:
    """What may stand behind a criterion's name, for an error."""
    named = inspect.signature(cls).parameters.values()
    usual = [f"{each.name}={each.default}" for each in named if each.default is not each.empty]
    return f"Its settings and their defaults: {', '.join(usual)}." if usual else "It has no settings."


def split_names(text: str) -> list[str]:
    """Names in a list with commas; a comma before a digit belongs to a setting, as in ``betti+scale=knn:5,2``."""
    return [name for name in re.split(r",(?!\d)", text.replace(" ", "")) if name]


def _setting(name: str, text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not key.isidentifier() or not equals:
        raise CriterionError(
            f"criterion {name!r}: cannot read the setting {text!r}",
            hint="Write NAME+setting=value.",
        )
    found = _value(value)
    if isinstance(found, int | float) and not abs(found) <= _LARGEST:  # NaN, too
        raise CriterionError(f"criterion {name!r}: {key}={value[:20]} is out of range", hint="Give a smaller number.")
    return key, found


def _value(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for read in (int, float, lambda words: tuple(int(word) for word in words.split(","))):
        with contextlib.suppress(ValueError):
            return read(text)
    return text


def _suggest(name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    near = difflib.get_close_matches(name.lower(), names, n=1)
    return (f"Did you mean {near[0]!r}? " if near else "") + f"Available: {', '.join(names)}."
