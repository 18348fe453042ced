"""A job's samples in batches, each read once, and what networks say of them, each asked once."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset

from topocompress.data.keeping import Kept
from topocompress.data.loading import STAND_IN, Data, batches
from topocompress.deploy.measurement import Predictions, evaluate
from topocompress.network.capture import Batches
from topocompress.network.inference import device_of, sample_count
from topocompress.network.memory_layout import fast_layout, laid_out
from topocompress.network.outputs import Outputs
from topocompress.network.task import Metric, measured
from topocompress.reconstruction.pairs import HELD_OUT

Use = Literal["evaluation", "judging", "choice", "held out"]

_ROOM = 1 << 30
"""Bytes of images kept in memory, by use."""
_BATCH, _LEAST_BATCH, _BATCH_BYTES = 64, 8, 5_000_000
"""Samples a batch. On a CPU fewer where they are large: maps of a few megabytes stay in memory that is used again."""
_REPAIR_WORK, _LEAST_REPAIR = 1e12, 128
"""Multiply-accumulates that one pass for repair may take, and samples it has at least."""
_STAND_IN_WORK, _LEAST_STAND_IN, _MOST_STAND_IN = 2.5e11, 64, 100
"""The same where photographs stand in, of which more do no more good, and samples it has at most."""
_STATISTICS_WORK, _LEAST_STATISTICS = 1.25e11, 32
"""The same of a pass for BatchNorm statistics, which need fewer."""
_CHOICE_WORK, _LEAST_CHOICE = 2.5e11, 64
"""The same of a pass that chooses between two ways of repair."""


class Passes:
    """What passes over a job's samples are made of.

    Args:
        model: The job's own network.
        data: Its samples.
        outputs: What of the outputs is compared.
        macs: Multiply-accumulates of the network for one sample.
        room: Bytes of images that may be kept for each use.
        metric: The user's own, of held-out samples.
    """

    def __init__(
        self,
        model: nn.Module,
        data: Data,
        outputs: Callable[[], Outputs],
        macs: Callable[[], int],
        room: int = _ROOM,
        *,
        metric: Metric | None = None,
    ) -> None:
        self._metric, self._room = metric, room
        self._model, self._data, self._outputs, self._macs = model, data, outputs, macs
        self._calibration, self._evaluation = (Kept(part, room) for part in (data.calibration, data.evaluation))
        self._networks: dict[int, weakref.ref[nn.Module]] = {}
        self._answers: dict[int, dict[tuple[str, str, int], Predictions]] = {}

    @functools.cached_property
    def calibration(self) -> Batches:
        """The calibration samples, the same at every pass."""
        return self._batches(self._calibration)

    @functools.cached_property
    def evaluation(self) -> Batches:
        """The held-out samples."""
        return self._batches(self._evaluation)

    @functools.cached_property
    def judging(self) -> Batches:
        """Samples that judge what is chosen by trying: others than the held-out ones where there are enough."""
        apart = self._data.judging
        return self.evaluation if apart is None else self._batches(Kept(apart, self._room))

    @functools.cached_property
    def repair(self) -> Batches:
        """Calibration samples for repair: all, or as many, evenly spaced, as are worth the time a large network takes.

        An image of 224 pixels a side shows a layer fifty times as many places as one of 32, and is fifty times the
        work; what is fitted to places needs so many fewer of them.
        """
        return self._batches(self._part)

    @functools.cached_property
    def statistics(self) -> Batches:
        """A part of them for BatchNorm statistics, in larger batches, since a variance is that within a batch."""
        most = self._within(_STATISTICS_WORK, _LEAST_STATISTICS)
        return self._batches(_spaced(self._part, most), larger=2)

    @functools.cached_property
    def choice(self) -> Batches:
        """Those of the samples for repair by which one way of it is chosen over another."""
        return self._batches(Subset(self._part, self._chosen_by))

    @functools.cached_property
    def held_out(self) -> Batches:
        """Those of the samples for repair that reconstruction holds out."""
        return self._batches(Subset(self._part, [*filter(self._is_held_out, self._chosen_by)]))

    @functools.cached_property
    def choice_count(self) -> int:
        """How many samples choose."""
        return len(self._chosen_by)

    def said(self, model: nn.Module, use: Use, outputs: Outputs | None = None, **options: Any) -> Predictions:
        """What a network says of samples; asked once, as long as its weights stay what they are.

        Args:
            model: The network.
            use: Which samples.
            outputs: What is compared of its outputs; by default as the job has it.
            options: Further arguments of :func:`topocompress.deploy.measurement.evaluate` if it has to be asked.
        """
        compared = self._outputs() if outputs is None else outputs
        known = self._known(model)
        if use == "judging" and self._data.judging is None:
            use = "evaluation"
        key = use, compared.measure, _versions(model)
        if key not in known and use == "held out" and ("choice", *key[1:]) in known:
            places = [place for place, number in enumerate(self._chosen_by) if self._is_held_out(number)]
            known[key] = known["choice", *key[1:]].part(places)
        if key not in known:
            samples = {"held out": "held_out"}.get(use, use)
            known[key] = evaluate(
                model,
                getattr(self, samples),
                labelled=use in ("evaluation", "judging") and self._data.labelled,
                outputs=compared,
                **options,
            )
            if use in ("evaluation", "judging") and self._metric is not None:
                value = measured(model, getattr(self, use), self._metric)
                known[key] = replace(known[key], metric=value)
        return known[key]

    def _known(self, model: nn.Module) -> dict[tuple[str, str, int], Predictions]:
        """What a network has said so far; forgotten when it goes."""
        number = id(model)
        if number not in self._answers:
            self._answers[number] = {}
            self._networks[number] = weakref.ref(model, lambda _: self._answers.pop(number, None))
        return self._answers[number]

    @functools.cached_property
    def _part(self) -> Dataset[tuple[Tensor, int]]:
        most = self._within(_REPAIR_WORK, _LEAST_REPAIR)
        if self._data.source == STAND_IN:
            most = min(_MOST_STAND_IN, self._within(_STAND_IN_WORK, _LEAST_STAND_IN))
        return _spaced(self._calibration, most)

    def _within(self, work: float, least: int) -> int:
        """Samples that take so many multiply-accumulates."""
        return max(least, int(work / max(1, self._macs())))

    @functools.cached_property
    def _chosen_by(self) -> list[int]:
        """Numbers of samples for repair: whole fifths, as many as it takes."""
        count = sample_count(self._part)
        fifth = max(1, count // HELD_OUT)
        wanted = -(-self._within(_CHOICE_WORK, _LEAST_CHOICE) // fifth)
        return [number for number in range(count) if number % HELD_OUT >= HELD_OUT - wanted]

    def _is_held_out(self, number: int) -> bool:
        return number % HELD_OUT == HELD_OUT - 1 or sample_count(self._part) < HELD_OUT

    @functools.cached_property
    def _layout(self) -> torch.memory_format:
        return fast_layout(self._model, self._calibration[0][0][None])

    def _batches(self, samples: Dataset[tuple[Tensor, int]], larger: int = 1) -> Batches:
        image = self._calibration[0][0]
        size = _BATCH
        if device_of(self._model).type == "cpu":
            size = min(size, larger * max(_LEAST_BATCH, _BATCH_BYTES // (image.numel() * image.element_size())))
        return _LaidOut(batches(samples, size), self._layout)


def _spaced(samples: Dataset[tuple[Tensor, int]], most: int) -> Dataset[tuple[Tensor, int]]:
    """So many of the samples, evenly spaced; all if there are no more."""
    count = sample_count(samples)
    return samples if count <= most else Subset(samples, np.linspace(0, count - 1, most).round().astype(int).tolist())


class _LaidOut:
    """Batches whose images lie in memory as the network takes them fastest."""

    def __init__(self, source: Any, layout: torch.memory_format) -> None:
        self._source, self._layout = source, layout

    def __len__(self) -> int:
        return len(self._source)

    def __iter__(self) -> Any:
        for images, labels in self._source:
            yield laid_out(images, self._layout), labels


def _versions(model: nn.Module) -> int:
    """A number that grows with every change of a weight or a statistic in place."""
    tensors = (*model.parameters(), *model.buffers())
    return sum(tensor._version for tensor in tensors if not tensor.is_inference())
