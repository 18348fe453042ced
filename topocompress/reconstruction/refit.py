"""Layer after layer, in the order of the forward pass: what each gets now, fitted to what it gave in the original."""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from topocompress.errors import DataError, SurgeryError
from topocompress.models.loading import fingerprint
from topocompress.network.copying import copied
from topocompress.network.inference import batch_parts, device_of, evaluating, run_forward
from topocompress.reconstruction.joining import joining
from topocompress.reconstruction.lockstep import in_step
from topocompress.reconstruction.moments import Moments, Rows, fit
from topocompress.reconstruction.pairs import HELD_OUT, layers_of_both, written_alike
from topocompress.reconstruction.patches import groups_of, matrix, places, rows, set_matrix, targets
from topocompress.reconstruction.streams import Holding, Stream, order_of
from topocompress.runtime.progress import Progress, silent
from topocompress.runtime.resources import Resources, give_back
from topocompress.surgery.kept import kept_outputs
from topocompress.types import PruningPlan, Refit

_ROWS = 40
"""Rows per feature at least, where there are so many."""

_MEMORY = 3 << 29
"""Bytes that are taken at most where nobody says how many."""

_MATRICES = 5  # of second moments, that are there while a layer is fitted


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """A network and what was refitted in it.

    Attributes:
        model: A copy with new weights.
        layers: What became of each layer that was tried, in the order of the forward pass.
        samples: How many samples they were fitted to and judged by.
    """

    model: nn.Module
    layers: tuple[Refit, ...]
    samples: int


def reconstruct(
    model: nn.Module,
    original: nn.Module,
    plan: PruningPlan,
    batches: Iterable[Any],
    *,
    seed: int = 0,
    memory: int | None = None,
    progress: Progress = silent,
) -> Reconstruction:
    """Refit what reads pruned channels: no labels, no training.

    For a layer with the inputs X that it gets in the pruned network and the outputs Y that it gave in the original, the
    new weights are argmin ‖Y − X W‖² + λ ‖W − W₀‖². Where the output is added to a stream, Y is the original's stream
    less the other summand, so that the stream's drift is repaired as well. After He, Zhang & Sun, Channel pruning for
    accelerating very deep neural networks (ICCV 2017, doi:10.1109/ICCV.2017.155); the target in the stream is ours.

    Args:
        model: The original without the plan's channels; not changed.
        original: What it was before; not changed.
        plan: What was removed.
        batches: Calibration inputs (B, C, ...), or (inputs, labels) pairs.
        seed: Seed of the positions that are looked at.
        memory: Bytes for the maps of all samples and what is computed of them; by default half of what is free, and at
            most 1.5 GB. Layers where that is too little for all samples are fitted to the first of them.
        progress: Called as ``progress(step, done, total)`` after each layer.

    Raises:
        DataError: Fewer than five samples, or memory for fewer.
        SurgeryError: The plan was made for another network.
        ModelError: A network does not accept the inputs, or which layers run depends on them.
    """
    if plan.model != fingerprint(original):
        raise SurgeryError(
            "the plan was made for another model than the original: the fingerprints differ",
            hint="Give the very network that was scored and pruned as the original.",
        )
    budget = min(Resources().bytes, _MEMORY) if memory is None else memory
    pruned, original = copied(model), written_alike(original, model)
    given = [batch_parts(batch)[0].to(device_of(pruned)) for batch in batches]
    samples = sum(map(len, given))
    if samples < HELD_OUT:
        raise DataError(
            f"{samples} calibration samples, of which none can be held out", hint=f"Give {HELD_OUT} or more."
        )
    work = _Work(pruned, original, given, budget)
    work.begin(plan, seed)
    give_back()
    found: list[Refit] = []
    with evaluating(original):
        for number, batch in enumerate(work.images):
            work.look(number, batch)
    stops = work.stops

    def at(name: str, inputs: Sequence[Tensor]) -> None:
        found.append(work.refit(name, inputs))
        give_back(cycles=False)  # each of the threads that batches run in keeps what was freed
        progress("reconstructing", len(found), len(stops))

    with evaluating(work.pruned):
        in_step(work.pruned, work.images, stops, at, work.holding, work.joins)
    samples = sum(map(len, work.images))
    vars(work).clear()  # it refers to itself, and would hold maps and targets until somebody looks for such
    return Reconstruction(model=pruned, layers=tuple(found), samples=samples)


@dataclass(kw_only=True)
class _View:
    """How one layer is looked at.

    Attributes:
        kept: Which of the original's outputs it still has.
        where: (samples, q) positions of its output.
        wanted: Batch → (samples · q, outputs) what it is to give, less what the stream brings.
    """

    kept: Tensor
    where: Tensor
    wanted: dict[int, Tensor]


class _Work:
    """Everything about one reconstruction."""

    def __init__(self, pruned: nn.Module, original: nn.Module, images: list[Tensor], budget: int) -> None:
        self.pruned, self.original = pruned, original
        self.budget, self.matrices = budget // 4, budget // 2  # a quarter for maps, one for targets
        self.order = order_of(original, images[0][:1], list(layers_of_both(pruned, original)))
        self.before: dict[str, Any] = dict(original.named_modules())
        self.after: dict[str, Any] = dict(pruned.named_modules())
        self.views: dict[str, _View] = {}
        self.held: dict[int, Holding] = {}
        self.readers: Counter[int] = Counter()  # of each summand that is held, those still to come
        self.norms = Counter(self.order.norms.values())
        sides = [[matrix(side[name]).shape[:2] for side in (self.before, self.after)] for name in self.order.layers]
        # What comes before the first layer that reads fewer channels gets what it got.
        first = next((place for place, (old, new) in enumerate(sides) if old != new), len(sides))
        self.stops = self.order.layers[first:]
        self.images, self.joins = joining(images, self.order, self.stops, self.budget)
        self.starts = [sum(len(batch) for batch in self.images[:number]) for number in range(len(self.images))]

    def begin(self, plan: PruningPlan, seed: int) -> None:
        """Choose the positions at which each layer that is refitted is looked at."""
        kept = kept_outputs(self.original, plan, example=self.images[0][:1])
        for number, name in enumerate(self.stops):
            where = self.positions(name, number, seed * 100_003 + number)
            self.views[name] = _View(kept=kept[name].to(where.device), where=where, wanted={})
        wanted = sum(
            4 * view.where.numel() * matrix(self.after[name])[:, 0].numel() for name, view in self.views.items()
        )
        for view in self.views.values() if wanted > self.budget else ():
            most = max(1, int(view.where.shape[1] * self.budget / wanted))
            order = torch.rand(view.where.shape, generator=torch.Generator().manual_seed(seed)).topk(most).indices
            view.where = view.where.gather(1, order.to(view.where.device))
        self.readers.update(stream.other for name, stream in self.order.streams.items() if name in self.views)

    def positions(self, name: str, stop: int, seed: int) -> Tensor:
        """(samples, q) positions of a layer's output: all, or as many at random as its weights need."""
        layer = self.after[name]
        samples = sum(len(batch) for batch, join in zip(self.images, self.joins, strict=True) if join <= stop)
        count = places(torch.empty(self.order.shapes[name], device="meta"), layer)
        weights = matrix(layer)
        needed = min(count, -(-_ROWS * weights.shape[1] // samples) + 1)
        if not _by_moments(weights, needed * samples, self.matrices):
            room = self.matrices // (8 * weights[..., 0].numel()), self.matrices // (_MATRICES * 8 * len(weights))
            needed = max(1, min(needed, min(room[0], math.isqrt(room[1])) // samples))
        where = torch.arange(count).expand(samples, -1)
        if needed < count:
            where = torch.rand(samples, count, generator=torch.Generator().manual_seed(seed)).topk(needed).indices
        return where.to(self.images[0].device)

    def look(self, number: int, images: Tensor) -> None:
        """Note what the original gives for a batch."""
        with contextlib.ExitStack() as stack:
            holding = stack.enter_context(Holding(images, self.readers.keys()))
            for name in self.stops[self.joins[number] :]:
                stack.callback(self.before[name].register_forward_hook(self._note(name, number, holding)).remove)
            run_forward(self.original, images)

    def _note(self, name: str, number: int, holding: Holding) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            view = self.views[name]
            with holding.paused():
                wanted = targets(output, self.before[name], self._where(name, number))[:, view.kept]
                brought = self._summand(name, number, holding, view.kept)
                view.wanted[number] = wanted if brought is None else wanted + brought

        return hook

    def _where(self, name: str, number: int) -> Tensor:
        start = self.starts[number]
        return self.views[name].where[start : start + len(self.images[number])]

    def _let_go(self, name: str) -> None:
        """Hold a summand no longer than layers read it: those of all batches are as large as the maps that run."""
        stream = self.order.streams.get(name)
        if stream is not None:
            self.readers[stream.other] -= 1
            if not self.readers[stream.other]:
                for holding in self.held.values():
                    holding.outputs.pop(stream.other, None)

    def _summand(self, name: str, number: int, holding: Holding, kept: Tensor | None) -> Tensor | None:
        """(rows, outputs): the other summand where a layer's output goes, in the layer's own units."""
        stream = self.order.streams.get(name)
        if stream is None:
            return None
        other = targets(holding.outputs[stream.other], self.after[name], self._where(name, number))
        if kept is not None:
            other = other[:, kept]
        return other / self._scale(stream)

    def _scale(self, stream: Stream) -> Tensor | float:
        if not stream.norm:
            return 1.0
        norm = self.after[stream.norm]
        scale = (norm.running_var + norm.eps).rsqrt() * (1.0 if norm.weight is None else norm.weight)
        return torch.where(scale.abs() < 1e-3, torch.inf, scale).detach()

    def holding(self, number: int, run: Callable[[], None]) -> None:
        """Run a batch through the pruned network, holding on to what its streams bring."""
        wanted = [call for call, left in self.readers.items() if left]
        with Holding(self.images[number], wanted) as self.held[number]:
            run()

    def refit(self, name: str, inputs: Sequence[Tensor]) -> Refit:
        """New weights for a layer, if they are better on samples held out."""
        layer, view = self.after[name], self.views[name]
        groups, weights = groups_of(layer), matrix(layer).double()
        outputs = weights.shape[2]
        by_moments = _by_moments(weights, view.where.numel(), self.matrices)
        seen, held = (
            Moments(groups, weights.shape[1], outputs, weights.device) if by_moments else Rows() for _ in range(2)
        )
        for number, batch in enumerate(inputs):
            where = self._where(name, number)
            x = rows(batch, layer, where)
            y = view.wanted.pop(number)
            brought = self._summand(name, number, self.held[number], None)
            y = y if brought is None else y - brought
            y = y.reshape(len(y), groups, outputs)
            index = torch.arange(len(batch), device=x.device) + self.starts[number]
            out = (index % HELD_OUT == HELD_OUT - 1).repeat_interleave(where.shape[1])
            seen.add(x[~out], y[~out])
            held.add(x[out], y[out])
        self._let_go(name)
        norm = self.order.norms.get(name)
        if norm is not None and self.norms[norm] > 1:  # another layer's as well
            norm = None
        offset = layer.bias is not None or norm is not None
        bias = torch.zeros(groups, 1, outputs, dtype=weights.dtype, device=weights.device)
        if layer.bias is not None:
            bias += layer.bias.detach().double().view(groups, 1, outputs)
        found = fit(seen, held, torch.cat([weights, bias], dim=1), offset=offset)
        if found.ridge is not None:
            set_matrix(layer, found.weights[:, :-1].to(layer.weight.dtype))
            new = found.weights[:, -1].flatten()
            with torch.no_grad():
                if layer.bias is not None:
                    layer.bias.copy_(new)
                elif norm is not None:
                    self.after[norm].running_mean.sub_(new.to(layer.weight.dtype))
        return Refit(layer=name, before=found.before, after=found.after, ridge=found.ridge)


def _by_moments(weights: Tensor, rows: int, budget: int) -> bool:
    """Whether second moments are the way: there are more rows than features, and their matrices fit."""
    groups, features, _ = weights.shape
    return features <= rows and _MATRICES * groups * features**2 * 8 <= budget
