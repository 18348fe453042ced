"""What of a network's outputs is compared with another's, and how: decided once, from what can be seen of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from topocompress.errors import ModelError
from topocompress.network.class_scores import repeated, why_classes
from topocompress.network.detectors import boxes_of
from topocompress.network.inference import evaluating, named_outputs, run_forward

Measure = Literal["agreement", "explained_variation"]

_LEAST = 1e-6
"""Nearest to 0 and 1 that a probability comes, so that its logit stays finite."""


@dataclass(frozen=True, kw_only=True)
class Output:
    """One tensor among a network's outputs.

    Attributes:
        index: Its place among :func:`~topocompress.network.inference.all_outputs`.
        name: What it is called.
        axis: Which of its axes counts the samples.
    """

    index: int
    name: str
    axis: int


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """What is compared, and how.

    Attributes:
        measure: ``agreement`` (of classes, or of a detector's boxes), or ``explained_variation``, see
            :func:`~topocompress.network.variation.explained`.
        compared: The tensors; for agreement of classes the one with their scores, (samples, classes, ...); none for a
            detector.
        label_axes: Axes of the labels that can be held against the classes: 0 for one per sample, 2 for one per pixel;
            ``None`` where there are no classes.
        classes: How many classes there are, where they have scores.
        threshold: Of a single score for two classes: the second is meant where the score is above it; ``None`` where
            every class has its score.
        aside: Names of the tensors that are not compared.
        what: What is compared and why so, as the end of a sentence that begins with "Outputs are compared by".
    """

    measure: Measure
    compared: tuple[Output, ...]
    label_axes: int | None = None
    classes: int | None = None
    threshold: float | None = None
    aside: tuple[str, ...] = ()
    what: str

    def decided(self, scores: Tensor) -> Tensor:
        """(samples, ...) the most likely classes.

        Args:
            scores: (samples, classes, ...), (samples, [1,] ...) of a single score, or the classes themselves.
        """
        if self.threshold is not None:
            return (single(scores) > self.threshold).long()
        return scores.argmax(1) if scores.is_floating_point() else scores

    def scores(self, output: Any, samples: int) -> Tensor:
        """(samples, classes, ...) of what a network returned, in float32; a single score beside 0, as logits."""
        found = self.tensors(output, samples)[0].float()
        if self.threshold is None:
            return found
        found = single(found)
        if self.threshold:  # a probability
            found = found.clamp(_LEAST, 1 - _LEAST).logit()
        return torch.stack([torch.zeros_like(found), found], dim=1)

    def tensors(self, output: Any, samples: int) -> list[Tensor]:
        """The compared tensors of what a network returned, each (samples, ...).

        Raises:
            ModelError: One is missing, or does not hold so many samples.
        """
        pairs = named_outputs(output)
        found = []
        for each in self.compared:
            tensor = pairs[each.index][1] if each.index < len(pairs) else None
            if tensor is None or tensor.ndim <= each.axis or tensor.shape[each.axis] != samples:
                shape = "nothing" if tensor is None else f"shape {tuple(tensor.shape)}"
                raise ModelError(
                    f"output {each.name!r} has {shape} for {samples} samples, which axis {each.axis} should count",
                    hint="Wrap the model so that its outputs have one entry per sample, whatever the batch size.",
                )
            found.append(tensor.movedim(each.axis, 0))
        return found


def single(scores: Tensor) -> Tensor:
    """(samples, ...) of (samples, 1, ...) scores, or of (samples,)."""
    return scores if scores.ndim == 1 else scores.squeeze(1)


def watched(model: nn.Module, images: Tensor, labels: int | None = None) -> Callable[[Any, int], Tensor]:
    """How to read the one tensor by which a network's output is watched: the first with an entry per sample.

    That is its ``out`` entry, or else the first that labels fit, or the first floating-point tensor that has one.

    Args:
        model: The network; left as it was.
        images: (N, ...) inputs, N from 1 on; a few are run.
        labels: Axes of one sample's label, where labels are to be held against it.

    Returns:
        A function of an output and its number of samples; it gives (samples, ...), (samples, 1) of one number each.

    Raises:
        ModelError: As :func:`outputs_of`.
    """
    pairs, found = _tensors(model, images)
    floating = [each for each in found if pairs[each.index][1].is_floating_point()] or found
    main = _main(floating) if labels is None else _main_with(labels, None, pairs, floating)
    chosen = Outputs(measure="explained_variation", compared=(main,), what="")

    def read(output: Any, samples: int) -> Tensor:
        tensor = chosen.tensors(output, samples)[0].float()
        return tensor[:, None] if tensor.ndim == 1 else tensor

    return read


def _main(found: Sequence[Output]) -> Output:
    return next((each for each in found if each.name == "out"), found[0])


def _main_with(
    labels: int, classes: int | None, pairs: Sequence[tuple[str, Tensor]], found: Sequence[Output]
) -> Output:
    """The one that labels of so many axes fit, and so many classes."""
    main = _main(found)
    fitting = (each for each in found if _fits(each, pairs[each.index][1], labels, classes))
    return main if main.name == "out" else next(fitting, main)


def _tensors(model: nn.Module, images: Tensor) -> tuple[list[tuple[str, Tensor]], list[Output]]:
    """What a network returns for two samples, by name; and those tensors among it that have an entry per sample."""
    with evaluating(model) as device:
        two, three = (run_forward(model, images[repeated(len(images), count)].to(device)) for count in (2, 3))
    pairs = named_outputs(two)
    if boxes_of(two):
        return pairs, []
    found = [
        Output(index=index, name=f"output {name}" if name[:1].isdigit() else name, axis=axis)
        for index, ((name, small), (_, large)) in enumerate(zip(pairs, named_outputs(three), strict=False))
        if (axis := _sample_axis(small, large)) is not None
    ]
    if not found:
        shapes = ", ".join(f"{tuple(tensor.shape)}" for _, tensor in pairs) or f"{type(two).__name__} without a tensor"
        raise ModelError(
            f"the model returns {shapes} for two samples; expected a tensor (samples, ...)",
            hint="Wrap the model so that it returns its scores, one entry per sample.",
        )
    return pairs, found


def outputs_of(
    model: nn.Module,
    images: Tensor,
    *,
    labels: int | None = None,
    classes: int | None = None,
    names: int = 0,
    highest: int | None = None,
) -> Outputs:
    """Decide how a network's outputs are compared with those of a smaller one.

    Scores of classes are compared by which is highest. That a tensor holds such scores is taken from labels that fit
    it; else from the network (its kind, the class count it or the user names, probabilities that sum to 1, a linear or
    convolutional layer that gives (samples, classes)). A single score counts as that of two classes where labels of 0
    and 1 fit it. Of several tensors the one counts that labels fit; where none do, or nothing tells, all are compared
    by the variation they explain.

    Args:
        model: The network; left as it was.
        images: (N, C, H, W) inputs, N from 1 on; a few are run.
        labels: Axes of one sample's label: 0 for one number, 2 for one per pixel; ``None`` without labels.
        classes: How many classes the labels tell apart; ``None`` if that is not known, and labels are believed.
        names: How many names of classes come with the network; 0 if none do.
        highest: The highest label, where that is known.

    Raises:
        ModelError: The network does not accept the images, or returns no tensor with an entry per sample.
    """
    pairs, found = _tensors(model, images)
    if not found:
        what = "agreement: the share of boxes that both networks find, of all that either finds"
        return Outputs(measure="agreement", compared=(), what=what)
    main = _main(found) if labels is None else _main_with(labels, classes, pairs, found)
    if len(found) == 1 and not (pairs[main.index][1].is_floating_point() or pairs[main.index][1].is_complex()):
        what = "agreement: the share of equal numbers, which are whole and taken for classes"
        return Outputs(measure="agreement", compared=(main,), label_axes=pairs[main.index][1].ndim - 1, what=what)
    aside = [each for each in found if each is not main]
    convention = main.name == "out" and all(each.name.startswith("aux") for each in aside)
    scores = pairs[main.index][1]
    if labels is not None and classes in (None, 2) and highest is not None and highest <= 1:
        one = next((each for each in found if _is_single(each, pairs[each.index][1], labels)), None)
        if one is not None and (one is main or scores.shape[-1] == 1):
            return _two_classes(one, pairs[one.index][1], labels, [each for each in found if each is not one])
    axes = {2: 0, 4: 2}.get(scores.ndim)
    if axes is not None and main.axis == 0 and scores.shape[1] > 1 and scores.is_floating_point():
        why = why_classes(model, images, scores, main.index, names, convention=convention)
        if labels == axes and (why or classes in (None, scores.shape[1])):
            why = why or "which the labels fit"
        elif aside and not convention:
            why = ""
        if why:
            return _classes(main, scores, why, aside)
    return _variation(tuple(found))


def _fits(output: Output, scores: Tensor, labels: int, classes: int | None) -> bool:
    """Whether labels of so many axes can be held against a tensor's second axis, or against a single score."""
    if output.axis != 0 or not scores.is_floating_point():
        return False
    wide = scores.ndim == labels + 2 and scores.shape[1] > 1 and classes in (None, scores.shape[1])
    return wide or (_is_single(output, scores, labels) and classes in (None, 2))


def _is_single(output: Output, scores: Tensor, labels: int) -> bool:
    if output.axis != 0 or not scores.is_floating_point():
        return False
    return (
        scores.ndim == labels + 1
        if labels == 0 and scores.ndim == 1
        else scores.ndim == labels + 2 and (scores.shape[1] == 1)
    )


def _two_classes(main: Output, scores: Tensor, labels: int, aside: Sequence[Output]) -> Outputs:
    """A single score, as binary classifiers give it: a logit, or a probability where all lie in 0..1."""
    probability = bool(((scores >= 0) & (scores <= 1)).all())
    unit, names = "samples" if labels == 0 else "pixels", tuple(each.name for each in aside)
    rest = f"; not compared: {_listed(names)}" if aside else ""
    kind = "probability, above 0.5" if probability else "logit, above 0"
    return Outputs(
        measure="agreement",
        compared=(main,),
        label_axes=labels,
        classes=2,
        threshold=0.5 if probability else 0.0,
        aside=names,
        what=f"agreement: the share of {unit} with the same of 2 classes (taken for a binary classifier, since labels "
        f"are 0 and 1: 1 where the single {kind}{rest})",
    )


def _classes(main: Output, scores: Tensor, why: str, aside: Sequence[Output]) -> Outputs:
    width, unit = scores.shape[1], "samples" if scores.ndim == 2 else "pixels"
    names = tuple(each.name for each in aside)
    rest = f"; not compared: {_listed(names)}" if aside else ""
    return Outputs(
        measure="agreement",
        compared=(main,),
        label_axes=scores.ndim - 2,
        classes=width,
        aside=names,
        what=f"agreement: the share of {unit} with the same most likely of {width} classes ({why}{rest})",
    )


def _variation(found: tuple[Output, ...]) -> Outputs:
    if len(found) > 1:
        which = f"each of {_listed([each.name for each in found])} by itself; the worst counts"
    else:
        which = "nothing tells that the output is scores of classes"
    return Outputs(
        measure="explained_variation",
        compared=found,
        what=f"explained variation (R²): 100 % is equal, 0 % no better than always giving the mean ({which})",
    )


def _sample_axis(small: Tensor, large: Tensor) -> int | None:
    """The axis on which outputs for two and for three samples differ; ``None`` where there is no such one."""
    if small.ndim != large.ndim:
        return None
    axes = [axis for axis in range(small.ndim) if (small.shape[axis], large.shape[axis]) == (2, 3)]
    return axes[0] if axes else None


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
