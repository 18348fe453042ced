"""Masks on filters' maps: switching filters off, and what each does to the output, without touching the network.

A mask stands where the map is read (see ``hook_points``) and multiplies it by one number per sample and
filter, 1, or 0 for a filter that is switched off. The gradient with respect to the mask of (sample, filter) is
Σ a · ∂/∂a over the filter's map a: the first-order effect of the filter on whatever is differentiated.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from topocompress.errors import ModelError
from topocompress.network.hook_points import FOLLOWED, HookPoints, tensors_in, with_hooks
from topocompress.network.inference import evaluating, run_forward
from topocompress.network.memory_layout import laid_out
from topocompress.network.modes import GradientsKept

Mask = Callable[[str, Tensor], Tensor]
"""Takes a layer's name and its maps as they are, gives what is read in their place."""


class _Masks(HookPoints):
    """Follows layers' outputs as :class:`HookPoints` does, and puts something else where their maps are read."""

    def __init__(self, mask: Mask) -> None:
        super().__init__(lambda _layer, _output: None, {""})
        self._mask = mask
        self._masked: dict[int, tuple[Tensor, Tensor]] = {}  # what was there, held so that its id stays its own; masked

    def _call(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if func in FOLLOWED and args and id(args[0]) in self._open:
            return super()._call(func, args, kwargs)
        read = [id(value) for value in tensors_in((*args, *kwargs.values())) if self._knows(value)]
        if not read:
            return func(*args, **kwargs)
        output = func(*map(self._exchanged, args), **{name: self._exchanged(value) for name, value in kwargs.items()})
        if any(True for _ in tensors_in((output,))):  # shape queries do not end the chain
            for key in read:
                self._open.pop(key, None)
        return output

    def _knows(self, value: Tensor) -> bool:
        return id(value) in self._open or id(value) in self._masked

    def _exchanged(self, value: Any) -> Any:
        if isinstance(value, (tuple, list)):
            parts = [self._exchanged(part) for part in value]
            same = all(new is old for new, old in zip(parts, value, strict=True))
            if same:
                return value
            return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
        if not isinstance(value, Tensor) or not self._knows(value):
            return value
        if id(value) not in self._masked:
            self._masked[id(value)] = value, self._mask(self._open[id(value)][0], value)
        return self._masked[id(value)][1]

    def abandon(self) -> None:
        super().abandon()
        self._masked.clear()


@contextlib.contextmanager
def masked(
    model: nn.Module,
    layers: Collection[str],
    mask: Mask,
    *,
    layout: torch.memory_format = torch.contiguous_format,
) -> Iterator[Callable[[Tensor], Any]]:
    """Yield a function that runs a batch with masks on some layers' maps and returns the network's output.

    The model runs in evaluation mode; mode, random state, gradients and hooks are as before on the way out.

    Args:
        model: The network; left as it was.
        layers: Names of convolutions or linear layers.
        mask: Called where a layer's maps are read.
        layout: How images lie in memory; see :func:`topocompress.network.memory_layout.fast_layout`.
    """
    masks = _Masks(mask)

    def run(images: Tensor) -> Any:
        try:
            with masks, GradientsKept() if torch.is_grad_enabled() else contextlib.nullcontext():
                return run_forward(model, laid_out(images.to(device), layout))
        finally:
            masks.abandon()

    with evaluating(model) as device, with_hooks(model, layers, masks):
        yield run


class FilterMasks:
    """One mask per sample and filter of each layer, for :func:`masked`.

    Attributes:
        maps: Layer → the masks of the last run, (samples, filters); they collect gradients where these are enabled.
    """

    def __init__(self, model: nn.Module, layers: Collection[str]) -> None:
        self.maps: dict[str, Tensor] = {}
        self._linear = {name: isinstance(model.get_submodule(name), nn.Linear) for name in layers}
        self._on: dict[str, Tensor] = {}
        self._arriving = 0

    def expect(self, samples: int) -> None:
        """Announce a run of so many samples."""
        self._arriving = samples
        self.maps = {}

    def set(self, layer: str, on: Tensor) -> None:
        """Say which filters of a layer are on, (filters,) of 0 and 1."""
        self._on[layer] = on

    def __call__(self, layer: str, output: Tensor) -> Tensor:
        """The maps with their masks."""
        if len(output) != self._arriving:
            raise ModelError(
                f"{layer}: {len(output)} maps for {self._arriving} samples; it does not see each sample once",
                hint="Keep it whole with --ignore.",
            )
        axis = output.ndim - 1 if self._linear[layer] else 1
        if layer not in self.maps:
            on = self._on.get(layer)
            masks = torch.ones(len(output), output.shape[axis], dtype=output.dtype, device=output.device)
            if on is not None:
                masks *= on.to(masks)
            self.maps[layer] = masks.requires_grad_(torch.is_grad_enabled())
        shape = [1] * output.ndim
        shape[0], shape[axis] = len(output), output.shape[axis]
        return output * self.maps[layer].view(shape)


class MapTaps:
    """Holds maps where they are read, so that gradients can be taken with respect to them; for :func:`masked`.

    Attributes:
        maps: Layer → its maps of the last run, one for each time it ran.
    """

    def __init__(self) -> None:
        self.maps: dict[str, list[Tensor]] = {}

    def expect(self) -> None:
        """Announce a run."""
        self.maps = {}

    def __call__(self, layer: str, output: Tensor) -> Tensor:
        """A copy, so that the maps stay what they are whatever is written over it."""
        maps = output if output.requires_grad else output.detach().requires_grad_()
        self.maps.setdefault(layer, []).append(maps)
        return maps.clone()
