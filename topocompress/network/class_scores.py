"""What tells that an output holds scores of classes, apart from labels that fit it."""

from __future__ import annotations

import re
import warnings

import torch
from torch import Tensor, nn

from topocompress.errors import ModelError
from topocompress.network.inference import device_of, named_outputs, preserved, run_forward

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


def repeated(there: int, count: int) -> list[int]:
    """Numbers of so many samples, beginning anew where there are fewer."""
    return [number % there for number in range(count)]


def why_classes(model: nn.Module, images: Tensor, scores: Tensor, index: int, names: int, *, convention: bool) -> str:
    """Why an output is taken for scores of classes; empty where nothing tells.

    Args:
        model: The network; left as it was.
        images: (N, ...) inputs, N from 1 on.
        scores: (samples, classes, ...) the output.
        index: Its place among :func:`~topocompress.network.inference.all_outputs`.
        names: How many names of classes come with the network.
        convention: Whether it is called as segmenting networks call theirs.
    """
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
    if scores.ndim == 2 and _from_a_layer(model, images, index):
        return "assumed: they come from a linear or convolutional layer"
    return ""


def _from_a_layer(model: nn.Module, images: Tensor, index: int) -> bool:
    """Whether an output is what a linear or convolutional layer gives, at most averaged, reshaped or scaled."""
    with preserved(model), torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what is odd with gradients only
        model.eval()
        inputs = images[repeated(len(images), 2)].to(device_of(model)).requires_grad_() + 0
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
