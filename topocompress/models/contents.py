"""Finding the weights among what a checkpoint holds."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from topocompress.errors import ModelError
from topocompress.models.files import SAVE_HINT
from topocompress.models.pickles import Foreign

_DEPTH = 5
_WIDTH = 256
"""Elements of a list that may hold weights of several networks, and not numbers."""
_AVERAGED = re.compile(r"(?:^|[._])(?:ema|swa|averaged?|avg|teacher|polyak|shadow)(?:$|[._\d])", re.IGNORECASE)
_BEST = re.compile(r"(?:^|[._])best(?:$|[._])", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A state dict inside a checkpoint.

    Attributes:
        name: The keys that lead to it, joined by dots; empty if it is the whole file.
        state: Name to tensor, as they are in the file.
        module: The module whose weights they are, where the file holds one and may be unpickled.
    """

    name: str
    state: Mapping[str, Tensor]
    module: nn.Module | None = None


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The weights that a file offers.

    Attributes:
        source: The file.
        candidates: Its state dicts, those first that would be deployed: averages (EMA), then the best ones.
        note: What else is in the file that a reader should know of; empty if nothing is.
        contents: All that is in the file.
    """

    source: str
    candidates: tuple[Candidate, ...]
    note: str = ""
    contents: Any = None


def is_averaged(name: str) -> bool:
    """Whether weights of this name are averages over training steps (EMA, SWA, a teacher)."""
    return _AVERAGED.search(name) is not None


def preference(name: str) -> int:
    """Order in which weights of several names are taken for the deployed ones, the lowest first."""
    return 0 if is_averaged(name) else 1 if _BEST.search(name) else 2


def taken_note(taken: str, copies: Sequence[str], rest: Sequence[str]) -> str:
    """Which of several weights were taken; empty if there was no choice.

    Args:
        taken: Their name.
        copies: Names of others that fit as well.
        rest: Names of others that do not.
    """
    if not (copies or rest or is_averaged(taken)):
        return ""
    why = " (averages or a teacher, which is what is usually deployed)" if is_averaged(taken) else ""
    said = f"weights taken: {_shown(taken)}{why}"
    if copies:
        others = f"{_listed([_shown(name) for name in copies])} fit{'s' * (len(copies) == 1)} as well"
        said += f", {others}: --weights-key NAME chooses"
    if rest:
        said += f"; not used, as not fitting: {_listed([_shown(name) for name in rest])}"
    return said


def _shown(name: str) -> str:
    return repr(name) if name else "those without a name of their own"


def find_weights(contents: Any, source: str, *, key: str | None = None, foreign: Sequence[str] = ()) -> Checkpoint:
    """Find every state dict in what a file holds.

    Args:
        contents: What was read.
        source: The file, for messages.
        key: Which ones to take: names that lead there, joined by dots; the last may be the beginning of keys.
        foreign: Classes of the file that were not loaded.

    Raises:
        ModelError: There are none, or none of this name; says what is there.
    """
    found = _Search()
    if key is not None:
        chosen = list(_named(contents, key))
        for node in chosen:
            found.walk(node, key)
    else:
        found.walk(contents, "")
    if not found.candidates:
        if key is not None:
            everything = _Search()
            everything.walk(contents, "")
            raise ModelError(
                f"{source} holds no weights under {key!r}",
                hint=f"There are: {_listed(everything.offers())}. Choose one with --weights-key NAME.",
            )
        _refuse(contents, source, found, foreign)
    notes = []
    if foreign:
        notes.append(f"objects beside the weights were not loaded: {_listed(foreign)}")
    if found.nameless:
        notes.append(f"{_listed(found.nameless)} holds tensors without names, which were not used")
    if found.unread:
        notes.append(f"tensors of a kind that was not read: {_listed(found.unread)}")
    if found.modules:
        notes.append(f"pickled modules were not loaded: {_listed(list(found.modules))}")
    ordered = sorted(found.candidates, key=lambda candidate: preference(candidate.name))
    return Checkpoint(source=source, candidates=tuple(ordered), note="; ".join(notes), contents=contents)


class _Search:
    """A walk through nested dictionaries and lists."""

    def __init__(self) -> None:
        self.candidates: list[Candidate] = []
        self.modules: dict[str, str] = {}
        self.nameless: list[str] = []
        self.optimisers: list[str] = []
        self.unread: list[str] = []
        self.seen: dict[int, Any] = {}

    def walk(self, node: Any, name: str, depth: int = 0) -> None:
        if depth > _DEPTH or id(node) in self.seen:
            return
        self.seen[id(node)] = node
        if isinstance(node, nn.Module):
            self.candidates.append(Candidate(name=name, state=dict(node.state_dict()), module=node))
        elif isinstance(node, Foreign):
            self._foreign(node, name)
        elif isinstance(node, Mapping):
            if "param_groups" in node:
                self.optimisers.append(name)
                return
            if state := _tensors(node):
                self.candidates.append(Candidate(name=name, state=state))
            for key, value in node.items():
                self.walk(value, _joined(name, str(key)), depth + 1)
        elif isinstance(node, (list, tuple)):
            if node and all(_is_weight(value) for value in node):
                self.nameless.append(name or "the file itself")
            elif len(node) <= _WIDTH:
                for number, value in enumerate(node):
                    self.walk(value, _joined(name, str(number)), depth + 1)

    def _foreign(self, node: Foreign, name: str) -> None:
        if node.is_module:
            self.modules[name or "the file itself"] = node.origin
        elif node.origin.startswith(("torch._utils._rebuild", "torch.distributed.")):
            self.unread.append(f"{name} ({node.origin})")

    def offers(self) -> list[str]:
        """What may be named with ``--weights-key``."""
        names = [candidate.name for candidate in self.candidates if candidate.name]
        for candidate in self.candidates:
            tops = dict.fromkeys(key.partition(".")[0] for key in candidate.state if "." in key)
            names += [_joined(candidate.name, top) for top in tops if is_averaged(top)]
        return names or ["nothing but the whole file"]


def _tensors(node: Mapping[Any, Any]) -> dict[str, Tensor]:
    """The tensors of a dictionary, if some of them may be weights; counters and settings beside them are common."""
    if not any(_is_weight(value) for value in node.values()):
        return {}
    return {
        key: value.detach() if isinstance(value, Tensor) else torch.from_numpy(np.array(value, order="C"))
        for key, value in node.items()
        if isinstance(key, str) and (isinstance(value, Tensor) or _is_array(value))
    }


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in "fiub"


def _is_weight(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.is_floating_point() or value.is_quantized
    return isinstance(value, np.ndarray) and value.dtype.kind == "f"


def _joined(*names: str) -> str:
    return ".".join(filter(None, names))


def _named(node: Any, key: str) -> Iterator[Any]:
    """What lies under a dotted name; keys may hold dots themselves."""
    if not key:
        yield node
        return
    if isinstance(node, (list, tuple)):
        node = dict(enumerate(node))
    if isinstance(node, nn.Module):
        node = node.state_dict()
    if not isinstance(node, Mapping):
        return
    for name, value in node.items():
        if str(name) == key and not isinstance(value, Tensor):
            yield value
        elif key.startswith(f"{name}."):
            yield from _named(value, key[len(str(name)) + 1 :])
    prefix = f"{key}."
    if inside := {name[len(prefix) :]: value for name, value in node.items() if str(name).startswith(prefix)}:
        yield inside


def _refuse(contents: Any, source: str, found: _Search, foreign: Sequence[str]) -> None:
    """Say what a file holds in place of weights.

    Raises:
        ModelError: Always.
    """
    trust = f"{SAVE_HINT} If you trust who made the file, add --trust-pickle."
    if found.modules:
        kinds = dict.fromkeys(found.modules.values())
        raise ModelError(
            f"{source} holds a whole pickled module ({_listed(list(kinds))}); loading it would run code from the file",
            hint=trust,
        )
    if found.optimisers:
        raise ModelError(
            f"{source} holds no weights, but the state of an optimiser", hint="Give the checkpoint saved beside it."
        )
    if found.nameless:
        raise ModelError(f"{source} holds no weights: tensors without names", hint=SAVE_HINT)
    if foreign:
        raise ModelError(
            f"{source} holds no weights, but pickled Python objects ({_listed(foreign)}); "
            "loading them would run code from the file",
            hint=trust,
        )
    what = f"a {type(contents).__name__}"
    if isinstance(contents, Mapping):
        what += f" with the keys {', '.join(map(repr, list(contents)[:5]))}" if contents else " without entries"
    raise ModelError(f"{source} holds no weights: {what}", hint=SAVE_HINT)


def _listed(names: Sequence[str], limit: int = 6) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
