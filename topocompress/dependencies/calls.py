"""Which layers a network calls, when, and with what: as it is used, as it is trained, and on other images.

What a network computes in training only, or on some images only, reads channels too. So it is run in the ways that
make it call its layers, and all of these are followed. The images are made up, and the same every time: a network is
cut in the same way again when it is loaded, where there are no others.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._functorch import config as functorch_config
from torch._subclasses.fake_tensor import FakeTensorMode

from topocompress.errors import ModelError
from topocompress.network.copying import copied
from topocompress.network.functions import FunctionCalls
from topocompress.network.hook_points import tensors_in
from topocompress.network.inference import run_forward
from topocompress.network.inputs import called, made_up
from topocompress.network.layers import LAYERS
from topocompress.network.modes import Run, in_mode


@dataclass(frozen=True, kw_only=True)
class Explored:
    """The ways to run a network in which it calls all that it is known to call.

    Attributes:
        runs: The example first; others only where they call what it does not.
        chancy: Layers that are called on the example and on no image that was made up.
        never: Layers that are never called, and whose weights nothing else uses either, of a network that looks at
            numbers to decide what to call. One that does not calls the same layers on every image.
    """

    runs: tuple[Run, ...]
    chancy: frozenset[str] = frozenset()
    never: frozenset[str] = frozenset()


def explore(model: nn.Module, example: Tensor) -> Explored:
    """Find the runs to follow a network by.

    Args:
        model: The network; left as it was.
        example: (1, C, H, W) input.

    Raises:
        ModelError: It does not run on the example.
    """
    layers = {name for name, module in model.named_modules() if isinstance(module, LAYERS)}
    usual = _called(model, Run(example))
    trained = _tried(model, Run(example, training=True))
    runs = _both(example, usual, trained)
    known = usual.keys() | trained.keys()
    made_up: set[str] = set()
    for run in (Run(inputs, training) for inputs in _images(model, example) for training in (False, True)):
        found = _tried(model, run).keys()
        if found - known:
            runs.append(run)
        known |= found
        made_up |= found
        if made_up >= layers:
            break
    never = layers - known
    tried = [Run(example), *([Run(example, training=True)] if trained else [])]
    if never and not any(looks_at_numbers(model, run) for run in tried):
        never = set()
    return Explored(runs=tuple(runs), chancy=frozenset(known - made_up), never=frozenset(never))


def _both(example: Tensor, usual: Counter[str], trained: Counter[str]) -> list[Run]:
    """The fewest runs that call what a network calls as it is used and as it is trained."""
    if trained <= usual:
        return [Run(example)]
    return [*([] if usual <= trained else [Run(example)]), Run(example, training=True)]


def _images(model: nn.Module, example: Tensor) -> Iterator[Tensor]:
    """Images that send a network different ways: none, noise, noise about a bright and a dark grey, and two at once."""
    yield made_up(model, torch.zeros_like(example), example)
    noise = torch.randn(example.shape, generator=torch.Generator().manual_seed(0)).to(example)
    for strength, grey in ((1.0, 0.0), (0.1, 2.0), (0.1, -2.0), (10.0, 0.0)):
        yield made_up(model, strength * noise + grey, example)
    yield made_up(model, torch.cat([noise, -noise]), example)


def looks_at_numbers(model: nn.Module, run: Run) -> bool:
    """Whether what a network calls may depend on the numbers it sees, and not on their shape alone.

    It is run on tensors that have none; asked for one, they raise.

    Args:
        model: The network; left as it was.
        run: How it is run.
    """
    twin = copied(model)
    try:
        with (
            in_mode(twin, training=run.training),
            functorch_config.patch(fake_tensor_allow_unsafe_data_ptr_access=False),
            FakeTensorMode(allow_non_fake_inputs=True) as fake,
            torch.no_grad(),
        ):
            called(twin, fake.from_tensor(run.inputs))
    except Exception:  # noqa: BLE001 - it does not run without numbers, whatever it does with them
        return True
    return False


def _tried(model: nn.Module, run: Run) -> Counter[str]:
    try:
        return _called(model, run)
    except ModelError:  # it does not run like this, so nobody will run it like this
        return Counter()


def _called(model: nn.Module, run: Run) -> Counter[str]:
    """How often each layer is called; once for one whose weights something else uses."""
    counts: Counter[str] = Counter()
    layers = [(name, module) for name, module in model.named_modules() if isinstance(module, LAYERS)]
    touched = _Touched()

    def count(name: str) -> Callable[..., None]:
        return lambda *_: counts.update([name])

    with contextlib.ExitStack() as stack:
        for name, module in layers:
            stack.callback(module.register_forward_pre_hook(count(name)).remove)
        stack.enter_context(in_mode(model, training=run.training))
        stack.enter_context(torch.no_grad())
        stack.enter_context(touched)
        run_forward(model, run.inputs)
    weights = {name: module.weight for name, module in layers if isinstance(module.weight, Tensor)}
    counts.update(name for name, weight in weights.items() if name not in counts and id(weight) in touched.found)
    return counts


class _Touched(FunctionCalls):
    """Notes which parameters are given to functions."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[int] = set()

    def _call(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if getattr(func, "__name__", "") not in ("__get__", "size", "dim"):  # looking at a weight is not using it
            given = tensors_in((*args, *kwargs.values()))
            self.found.update(id(each) for each in given if isinstance(each, nn.Parameter))
        return func(*args, **kwargs)


class Calls:
    """Which modules are called in some runs, with what."""

    def __init__(self, model: nn.Module, runs: Sequence[Run]) -> None:
        self._model = model
        self._inputs: dict[str, list[Run | None]] = {}
        self._counts: Counter[str] = Counter()
        self._within: Counter[tuple[str, str]] = Counter()
        self._linear = {name for name, module in model.named_modules() if isinstance(module, nn.Linear)}
        self._runs = tuple(runs)
        for run in runs:
            self._follow(run)

    def _follow(self, run: Run) -> None:
        active: list[str] = []
        seen: set[str] = set()
        with contextlib.ExitStack() as stack:
            for name, module in self._model.named_modules():
                if name:
                    enter = self._enter(name, active, seen, run)
                    stack.callback(module.register_forward_pre_hook(enter, with_kwargs=True).remove)
                    stack.callback(module.register_forward_hook(lambda *_: _leave(active)).remove)
            stack.enter_context(in_mode(self._model, training=run.training))
            stack.enter_context(torch.no_grad())
            run_forward(self._model, run.inputs)

    def _enter(self, name: str, active: list[str], seen: set[str], run: Run) -> Callable[..., None]:
        def enter(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            alone = len(args) == 1 and not kwargs and isinstance(args[0], Tensor)
            if name not in seen:
                received = Run(args[0].detach().clone(), run.training) if alone else None
                self._inputs.setdefault(name, []).append(received)
            seen.add(name)
            self._counts[name] += 1
            self._within.update((outer, name) for outer in active)
            active.append(name)

        return enter

    def lost(self, held: Iterable[nn.Module], part: nn.Module, name: str) -> list[str]:
        """Layers of a part that are called and are not among ``held``; they may be read by others."""
        known = set(held)
        names = ((".".join(filter(None, (name, child))), each) for child, each in part.named_modules())
        return [own for own, each in names if isinstance(each, LAYERS) and self._counts[own] and each not in known]

    @property
    def everywhere(self) -> frozenset[str]:
        """The linear layers whose input has more axes than samples and features."""
        received = ((name, run) for name in self._linear for run in self._inputs.get(name, ()))
        return frozenset(name for name, run in received if run is not None and run.inputs.ndim > 2)

    def runs_of(self, name: str) -> tuple[Run, ...]:
        """What a module was called with, once per run; empty unless that is one tensor and nobody else reaches in."""
        if not name:
            return self._runs
        module = self._model.get_submodule(name)
        inner = [f"{name}.{child}" for child, _ in module.named_modules() if child]
        if any(self._counts[child] != self._within[name, child] for child in inner):
            return ()
        own = {id(parameter) for parameter in module.parameters()}
        elsewhere = (
            each
            for other, holder in self._model.named_modules()
            if other != name and not other.startswith(f"{name}.")
            for each in holder.parameters(recurse=False)
        )
        if any(id(each) in own for each in elsewhere):
            return ()
        found = self._inputs.get(name, [])
        return () if None in found else tuple(run for run in found if run is not None)


def _leave(active: list[str]) -> None:
    active.pop()
