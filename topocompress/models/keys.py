"""Names of weights as trainers write them, matched with those of the network.

Wrappers put a prefix before every key, and add tensors of their own. Which prefix it is follows from the keys that the
network uses, so any wrapper will do.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from topocompress.models.contents import is_averaged, preference, taken_note

_WRAPPERS = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"})
"""Modules that torch.compile, FSDP, activation checkpointing and Fabric put anywhere into a path."""
_LEFTOVERS = ("total_ops", "total_params")  # buffers that counting operations (thop) leaves in every module


@dataclass(frozen=True, kw_only=True)
class View:
    """A state dict seen through one prefix.

    Attributes:
        prefix: What stands before the network's own names, with its dot; may be empty.
        state: The weights under the network's names.
        missing: The network's names that are not there, counters aside.
        stray: Names, as the network would have them, inside its own modules which it does not use: the weights are of
            another network.
        unused: Names, as they are in the file, of tensors that belong to nothing in the network.
    """

    prefix: str
    state: Mapping[str, Tensor]
    missing: tuple[str, ...]
    stray: tuple[str, ...]
    unused: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether every name of the network is there, and none that its modules do not know."""
        return not self.missing and not self.stray


def optional(key: str) -> bool:
    """Whether a network can do without an entry of its state dict."""
    return key.endswith("num_batches_tracked")  # a counter; checkpoints from before torch 0.4.1 lack it


def unwrapped(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The state dict without the names of wrappers that stand anywhere in a key."""
    found = {".".join(part for part in key.split(".") if part not in _WRAPPERS): value for key, value in state.items()}
    return found if len(found) == len(state) else state


def views(own: Iterable[str], state: Mapping[str, Tensor]) -> list[View]:
    """The ways to find a network's names in a state dict, the best first.

    The first is always there. Others follow if they are complete: a file may hold several copies of the weights.
    Averages (EMA) come before others.
    """
    own = list(own)
    state = unwrapped(state)
    needed = {key for key in own if not optional(key)}
    common = _common([key.split(".")[:-1] for key in needed])
    votes: Counter[tuple[str, str]] = Counter()
    for added in {"", *("".join(f"{part}." for part in common[: n + 1]) for n in range(len(common)))}:
        names = {key.removeprefix(added) for key in needed}
        for key in state:
            rest = key
            while True:
                if rest in names:
                    votes[key[: len(key) - len(rest)], added] += 1
                _, dot, rest = rest.partition(".")
                if not dot:
                    break
    best = max(votes.values(), default=0)
    # Of equal ones that which adds least, and that which strips least.
    ranked = sorted(
        (pair for pair, count in votes.items() if count == best),
        key=lambda pair: (preference(pair[0]), len(pair[1]), len(pair[0])),
    )
    found: dict[frozenset[int], View] = {}  # by the tensors that are used
    # Fewer than half say nothing: the last part of a name alone is often alike.
    for prefix, added in ranked if 2 * best >= len(needed) and ranked else [("", "")]:
        view = _view(own, needed, state, prefix, added)
        found.setdefault(frozenset(map(id, view.state.values())), view)
    complete = [view for view in found.values() if view.complete]
    return complete or list(found.values())[:1]


def _common(paths: Sequence[Sequence[str]]) -> list[str]:
    """The modules that all paths go through first."""
    return [parts[0] for parts in itertools.takewhile(lambda parts: len(set(parts)) == 1, zip(*paths, strict=False))]


def _view(own: Sequence[str], needed: set[str], state: Mapping[str, Tensor], prefix: str, added: str) -> View:
    names = set(own)
    children: dict[str, set[str]] = defaultdict(set)
    for key in own:
        parts = key.split(".")
        for depth, part in enumerate(parts):
            children[".".join(parts[:depth])].add(part)
    root = added.removesuffix(".")
    used: dict[str, Tensor] = {}
    stray, unused = [], []
    for key, value in state.items():
        name = added + key.removeprefix(prefix)
        if not key.startswith(prefix):
            unused.append(key)
        elif name in names:
            used[name] = value
        elif _inside(name, root, children) and name.rpartition(".")[2] not in _LEFTOVERS and not optional(name):
            stray.append(name)
        elif not optional(name):
            unused.append(key)
    missing = tuple(key for key in own if key in needed and key not in used)
    return View(prefix=prefix, state=used, missing=missing, stray=tuple(stray), unused=tuple(unused))


def _inside(name: str, root: str, children: Mapping[str, set[str]]) -> bool:
    """Whether a name lies in one of the network's modules, or continues a sequence of them, and not beside them."""
    first = name.removeprefix(f"{root}.").partition(".")[0]
    siblings = children[root]
    return first in siblings or (first.isdigit() and all(sibling.isdigit() for sibling in siblings))


def view_note(view: View, others: Sequence[View] = (), *, known: tuple[str, ...] = ()) -> str:
    """What to say of a view that was taken: which others there are, and what was not used; empty if there is nothing.

    Args:
        view: The one that was taken.
        others: Others that fit as well.
        known: Beginnings of names, as the network would have them, that are spoken of elsewhere.
    """
    copies = [other.prefix.rstrip(".") for other in others if not same_values(view.state, other.state)]
    skipped = tuple(view.prefix + name for name in known) + tuple(other.prefix for other in others if other.prefix)
    names = [name for name in view.unused if not (skipped and name.startswith(skipped))]
    notes = [taken_note(view.prefix.rstrip("."), copies, ())] if copies else []
    if names:
        plural = "s" * (len(names) > 1)
        averaged = ", averages (EMA) that do not fit among them" if any(map(is_averaged, names)) else ""
        notes.append(f"{len(names)} tensor{plural} of the file not used: {listed(names)}{averaged}")
    return "; ".join(notes)


def same_values(one: Mapping[str, Tensor], two: Mapping[str, Tensor]) -> bool:
    """Whether two state dicts hold the same numbers of the same kind, counters aside."""
    needed = [key for key in {**one, **two} if not optional(key)]
    return all(
        key in one and key in two and one[key].dtype == two[key].dtype and torch.equal(one[key], two[key])
        for key in needed
    )


def differences(view: View, shapes: Mapping[str, Sequence[int]]) -> str:
    """How a state dict differs from a network with these shapes, in a few words."""
    unlike = [
        f"{key} {tuple(tensor.shape)} instead of {tuple(shapes[key])}"
        for key, tensor in view.state.items()
        if not optional(key) and tuple(tensor.shape) != tuple(shapes[key])
    ]
    found = {"missing": view.missing, "unexpected": [*view.stray, *view.unused], "shape of": unlike}
    parts = [f"{what} {listed(keys)}" for what, keys in found.items() if keys]
    return "; ".join(parts) if parts else "no difference"


def listed(keys: Sequence[str], limit: int = 3) -> str:
    """The first of some names, and how many more there are."""
    more = f" and {len(keys) - limit} more" if len(keys) > limit else ""
    return ", ".join(keys[:limit]) + more
