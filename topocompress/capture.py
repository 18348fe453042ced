"""Feature clouds of a network's filters, collected under a memory budget.

A filter's map is taken where the next layer reads it: after the normalisation and the activation that follow the
convolution, whether these are modules or function calls. Anything else (an addition, a concatenation, a pooling)
ends the chain and the map is taken before it.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from topocompress.errors import DataError, ModelError
from topocompress.inference import evaluating, run_forward

Batches = Iterable[tuple[Tensor, Tensor]]
"""Batches of (images (B, C, H, W), labels (B,)) that give the same samples every time they are iterated."""

_FOLLOWED: frozenset[Callable[..., Any]] = frozenset(
    {
        F.batch_norm,
        F.group_norm,
        F.instance_norm,
        F.layer_norm,
        F.relu,
        F.relu_,
        F.relu6,
        F.hardtanh,
        F.hardswish,
        F.leaky_relu,
        F.elu,
        F.selu,
        F.celu,
        F.gelu,
        F.silu,
        F.mish,
        F.softplus,
        F.prelu,
        F.dropout,
        F.dropout2d,
        torch.relu,
        torch.relu_,
        torch.tanh,
        Tensor.relu,
        Tensor.relu_,
        Tensor.tanh,
        Tensor.contiguous,
    }
)

_IN_PLACE = re.compile(r"[a-z0-9_]*[a-z0-9]_|__i(add|sub|mul|truediv|floordiv|mod|pow|and|or|xor)__|__setitem__")


@dataclass(frozen=True, kw_only=True)
class Slice:
    """Some channels of one layer, collected together in one pass.

    Attributes:
        layer: Module name.
        start: First channel.
        stop: One past the last channel.
        features: Numbers per map, h · w.
    """

    layer: str
    start: int
    stop: int
    features: int


class _Taps(TorchFunctionMode):
    """Follows each tapped layer's output through norm and activation and hands it over before anything else."""

    def __init__(self, deliver: Callable[[str, Tensor], None]) -> None:
        super().__init__()
        self._deliver = deliver
        self._open: dict[int, tuple[str, Tensor]] = {}

    def open(self, layer: str, output: Tensor) -> None:
        self._open[id(output)] = (layer, output)

    def finish(self) -> None:
        for layer, output in self._open.values():
            self._deliver(layer, output)
        self._open.clear()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if not self._open:
            return func(*args, **kwargs)
        if func in _FOLLOWED and args and id(args[0]) in self._open:
            layer, _ = self._open.pop(id(args[0]))
            output = func(*args, **kwargs)
            self._open[id(output)] = (layer, output)
            return output
        read = [id(value) for value in _tensors((*args, *kwargs.values())) if id(value) in self._open]
        in_place = kwargs.get("out") is not None or _IN_PLACE.fullmatch(getattr(func, "__name__", ""))
        if read and in_place:  # before the map is overwritten
            self._close(read)
        output = func(*args, **kwargs)
        if read and not in_place and any(True for _ in _tensors((output,))):  # shape queries do not end the chain
            self._close(read)
        return output

    def _close(self, read: Iterable[int]) -> None:
        for key in read:
            if key in self._open:
                self._deliver(*self._open.pop(key))


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from _tensors(value)


@contextlib.contextmanager
def _tapped(
    model: nn.Module, layers: Iterable[str], deliver: Callable[[str, Tensor], None], order: list[str] | None = None
) -> Iterator[Callable[[Tensor], None]]:
    """Yield a function that runs a batch and delivers each layer's maps as (batch, channels, features).

    The model runs in evaluation mode; mode, random state and hooks are as before on the way out. ``order``, if given,
    receives the names of the layers as they run; maps may be delivered in another order.
    """
    modules = dict(model.named_modules())

    def deliver_maps(layer: str, output: Tensor) -> None:
        maps = output.movedim(-1, 1) if isinstance(modules[layer], nn.Linear) else output
        deliver(layer, maps.reshape(*maps.shape[:2], -1))

    taps = _Taps(deliver_maps)

    def hook(layer: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def open_tap(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            if order is not None:
                order.append(layer)
            taps.open(layer, output)

        return open_tap

    def run(images: Tensor) -> None:
        with taps:
            run_forward(model, images.to(device))
        taps.finish()

    with contextlib.ExitStack() as stack:
        device = stack.enter_context(evaluating(model))
        for layer in layers:
            stack.callback(modules[layer].register_forward_hook(hook(layer)).remove)
        yield run


def map_shapes(model: nn.Module, layers: Iterable[str], example: Tensor) -> dict[str, tuple[int, int]]:
    """Channels and features per map of each layer, in the order in which the layers run.

    Args:
        model: The network; left as it was.
        layers: Names of modules whose output is (batch, channels, ...), or (batch, ..., channels) for Linear.
        example: (batch, C, H, W) input.

    Returns:
        Name → (channels, h · w). A layer that the forward pass does not run is missing.

    Raises:
        ModelError: The network does not accept the example.
    """
    shapes: dict[str, tuple[int, int]] = {}

    def deliver(layer: str, maps: Tensor) -> None:
        shapes.setdefault(layer, (maps.shape[1], maps.shape[2]))

    order: list[str] = []
    with _tapped(model, layers, deliver, order) as run:
        run(example)
    return {layer: shapes[layer] for layer in order}


def plan_passes(shapes: Mapping[str, tuple[int, int]], samples: int, budget: int) -> list[list[Slice]]:
    """Pack the layers' channels into forward passes whose clouds fit the budget.

    Args:
        shapes: Layer → (channels, features per map).
        samples: Calibration samples.
        budget: Bytes that the clouds of one pass may take. A single filter that exceeds it gets a pass of its own.

    Returns:
        One list of slices per pass; every channel of every layer is in exactly one.
    """
    passes: list[list[Slice]] = [[]]
    free = budget
    for layer, (channels, features) in shapes.items():
        each = 4 * samples * features
        start = 0
        while start < channels:
            count = min(channels - start, free // each)
            if count <= 0 and passes[-1]:
                passes.append([])
                free = budget
                continue
            count = max(1, count)
            passes[-1].append(Slice(layer=layer, start=start, stop=start + count, features=features))
            start += count
            free -= count * each
    return [slices for slices in passes if slices]


def collect_clouds(
    model: nn.Module, slices: Sequence[Slice], batches: Batches, samples: int, *, on_batch: Callable[[int], None]
) -> list[Tensor]:
    """Run every sample through the model once and keep the maps of some channels.

    Args:
        model: The network; left as it was.
        slices: What to keep.
        batches: The samples.
        samples: How many there are.
        on_batch: Called with the number of samples after each batch.

    Returns:
        One (filters, samples, features) float32 tensor per slice, on the CPU.

    Raises:
        DataError: NaN or infinity among the inputs, or the number of samples changes between passes.
        ModelError: NaN or infinity in a map, or a layer's map changes size.
    """
    clouds = [torch.empty(part.stop - part.start, samples, part.features) for part in slices]
    wanted: dict[str, list[int]] = {}
    for index, part in enumerate(slices):
        wanted.setdefault(part.layer, []).append(index)
    seen, arriving, filled = 0, 0, dict.fromkeys(wanted, 0)

    def deliver(layer: str, maps: Tensor) -> None:
        if filled[layer] > seen:  # a layer that runs twice per pass is judged by its first run
            return
        if len(maps) != arriving:
            raise ModelError(
                f"{layer}: {len(maps)} maps for {arriving} samples; it does not see each sample once",
                hint="Keep it whole with --ignore.",
            )
        if maps.shape[2] != slices[wanted[layer][0]].features:
            raise ModelError(f"{layer}: its maps change size from batch to batch; all samples must have one size")
        if not torch.isfinite(maps).all():
            raise ModelError(
                f"{layer}: NaN or infinity in its maps, first in samples {seen}..{seen + len(maps) - 1}",
                hint="Check the weights and that inputs are normalised as in training (--mean, --std).",
            )
        for index in wanted[layer]:
            part = slices[index]
            clouds[index][:, seen : seen + len(maps)] = maps[:, part.start : part.stop].transpose(0, 1)
        filled[layer] += len(maps)

    with _tapped(model, wanted, deliver) as run:
        for images, _ in batches:
            if not torch.isfinite(images).all():
                raise DataError(f"NaN or infinity among input samples {seen}..{seen + len(images) - 1}")
            if seen + len(images) > samples:
                raise DataError(f"the batches hold more than the {samples} samples counted before")
            arriving = len(images)
            run(images)
            seen += len(images)
            on_batch(len(images))
    if seen != samples or any(count != samples for count in filled.values()):
        raise DataError(f"expected {samples} samples in every pass, got {seen}", hint="Batches must be re-iterable.")
    return clouds
