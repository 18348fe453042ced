"""What of a network's outputs is compared with another's, and how: decided once, from what can be seen of them."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from topocompress.errors import ModelError
from topocompress.network.detectors import boxes_of
from topocompress.network.inference import device_of, evaluating, named_outputs, preserved, run_forward

Measure = Literal["agreement", "explained_variation"]

_SEGMENTATION = "torchvision.models.segmentation."
_HEADS = {2: "ForImageClassification", 4: "ForSemanticSegmentation"}
"""What the names of Hugging Face's networks with class scores end in, by the number of axes of these."""

_CHANGED_NOTHING = re.compile(
    r"(View|UnsafeView|ReshapeAlias|Alias|Clone|ToCopy|Squeeze|Unsqueeze|Transpose|Permute|Mean|AvgPool2D|"
    r"AdaptiveAvgPool2D|Mul|Div|Add)Backward\d*"
)
"""Steps from a layer's output to the network's that leave its columns what they are. Sums and products count with a
parameter or a constant only."""
_LAYER = re.compile(r"(Addmm|Mm|Convolution|Softmax|LogSoftmax)Backward\d*")


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
        aside: Names of the tensors that are not compared.
        what: What is compared and why so, as the end of a sentence that begins with "Outputs are compared by".
    """

    measure: Measure
    compared: tuple[Output, ...]
    label_axes: int | None = None
    classes: int | None = None
    aside: tuple[str, ...] = ()
    what: str

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


def outputs_of(
    model: nn.Module, images: Tensor, *, labels: int | None = None, classes: int | None = None, names: int = 0
) -> Outputs:
    """Decide how a network's outputs are compared with those of a smaller one.

    Scores of classes are compared by which is highest. That a tensor holds such scores is taken from labels that fit
    it; else from the network (its kind, the class count it or the user names, probabilities that sum to 1, a linear or
    convolutional layer that gives (samples, classes)). Where several tensors come out, or nothing tells, all are
    compared by the variation they explain.

    Args:
        model: The network; left as it was.
        images: (N, C, H, W) inputs, N from 1 on; a few are run.
        labels: Axes of one sample's label: 0 for one number, 2 for one per pixel; ``None`` without labels.
        classes: How many classes the labels tell apart; ``None`` if that is not known, and labels are believed.
        names: How many names of classes come with the network; 0 if none do.

    Raises:
        ModelError: The network does not accept the images, or returns no tensor with an entry per sample.
    """
    with evaluating(model) as device:
        two, three = (run_forward(model, images[_numbers(len(images), count)].to(device)) for count in (2, 3))
    if boxes_of(two):
        what = "agreement: the share of boxes that both networks find, of all that either finds"
        return Outputs(measure="agreement", compared=(), what=what)
    pairs = named_outputs(two)
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
    main = next((each for each in found if each.name == "out"), found[0])
    if len(found) == 1 and not (pairs[main.index][1].is_floating_point() or pairs[main.index][1].is_complex()):
        what = "agreement: the share of equal numbers, which are whole and taken for classes"
        return Outputs(measure="agreement", compared=(main,), label_axes=pairs[main.index][1].ndim - 1, what=what)
    aside = [each for each in found if each is not main]
    convention = main.name == "out" and all(each.name.startswith("aux") for each in aside)
    scores = pairs[main.index][1]
    axes = {2: 0, 4: 2}.get(scores.ndim)
    if axes is not None and main.axis == 0 and scores.shape[1] > 1 and scores.is_floating_point():
        why = _why_classes(model, images, main, scores, names, convention=convention)
        if labels == axes and (why or classes in (None, scores.shape[1])):
            why = why or "which the labels fit"
        elif aside and not convention:
            why = ""
        if why:
            return _classes(main, scores, why, aside)
    return _variation(tuple(found))


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


def _numbers(there: int, count: int) -> list[int]:
    return [number % there for number in range(count)]


def _sample_axis(small: Tensor, large: Tensor) -> int | None:
    """The axis on which outputs for two and for three samples differ; ``None`` where there is no such one."""
    if small.ndim != large.ndim:
        return None
    axes = [axis for axis in range(small.ndim) if (small.shape[axis], large.shape[axis]) == (2, 3)]
    return axes[0] if axes else None


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _why_classes(
    model: nn.Module, images: Tensor, main: Output, scores: Tensor, names: int, *, convention: bool
) -> str:
    """Why an output is taken for scores of classes; empty where nothing tells."""
    width, kinds = scores.shape[1], type(model).__mro__
    config = getattr(model, "config", None)
    if width in (names, getattr(model, "num_classes", None), getattr(config, "num_labels", None)):
        return "as many as the network names"
    if any(kind.__name__.endswith(_HEADS[scores.ndim]) for kind in kinds):
        return "by the kind of the network"
    if scores.ndim == 4 and (convention or any(kind.__module__.startswith(_SEGMENTATION) for kind in kinds)):
        return "by the kind of the network"
    if bool((scores >= 0).all()) and bool(((scores.sum(1) - 1).abs() < 1e-3).all()):
        return "probabilities that sum to 1"
    if scores.ndim == 2 and _from_a_layer(model, images, main.index):
        return "assumed: they come from a linear or convolutional layer"
    return ""


def _from_a_layer(model: nn.Module, images: Tensor, index: int) -> bool:
    """Whether an output is what a linear or convolutional layer gives, at most averaged, reshaped or scaled."""
    with preserved(model), torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what is odd with gradients only
        model.eval()
        inputs = images[_numbers(len(images), 2)].to(device_of(model)).requires_grad_() + 0
        try:
            step = named_outputs(run_forward(model, inputs))[index][1].grad_fn
        except ModelError:  # runs without gradients only
            return False
    while step is not None:
        name = type(step).__name__
        if _LAYER.fullmatch(name):
            return True
        before = [each for each, _ in step.next_functions if each is not None and "AccumulateGrad" not in str(each)]
        if not _CHANGED_NOTHING.fullmatch(name) or len(before) != 1:
            return False
        step = before[0]
    return False
