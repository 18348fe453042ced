"""A module that the caller has built, with how its inputs are prepared as far as that can be told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from topocompress.models.architectures import declared_inputs
from topocompress.models.input_sizes import Images, doubt, settled_size
from topocompress.models.loading import LoadedModel
from topocompress.models.preprocessing import default_preprocessing, imagenet_preprocessing, overridden, several
from topocompress.models.wrappers import settled, unwrapped, unwrapped_note
from topocompress.network.copying import copied
from topocompress.network.inputs import packed, parts_of, take_several
from topocompress.types import Architecture, Preprocessing


def own_module(module: nn.Module, first: Any, *, known: bool, images: Images | None = None) -> LoadedModel:
    """A module of the caller's own, by what its data yields first.

    Args:
        module: The network; left as it was.
        first: The input of the data's first sample.
        known: Whether it is known how the data's images were prepared.
        images: Gives the size of the data's images.

    Raises:
        ModelError: It does not run on the first sample where it has lazy layers.
    """
    outer, module = module, unwrapped(module)
    unsure = ""
    if isinstance(first, Image.Image):
        architecture = Architecture(kind="object", name=type(module).__name__)
        preprocessing = default_preprocessing(architecture, module)
        if size := settled_size(architecture, module, preprocessing, images=images):
            preprocessing = overridden(preprocessing, input_size=size.size)
            unsure = doubt(size, architecture, preprocessing.input_shape[0])
    elif isinstance(first, Tensor) and declared_inputs(module) is None:
        preprocessing = imagenet_preprocessing(tuple(first.shape))
    else:
        module, preprocessing = _with_several(module, first)
    known = known or not preprocessing.is_image
    said = unwrapped_note(outer)
    if any(map(is_lazy, (*module.parameters(), *module.buffers()))):
        module = settled(copied(module), lambda: _batch_of(preprocessing, first))
        said = "; ".join(filter(None, (said, "lazy layers ran once, with random weights")))
    note = "" if known else "how images are prepared is not known; assumed, as for ImageNet: mean and std"
    name = f"{type(module).__module__}:{type(module).__qualname__}"
    return LoadedModel(
        module=module,
        architecture=Architecture(kind="object", name=name),
        preprocessing=preprocessing,
        source=name,
        note="; ".join(filter(None, (said, note))),
        doubt=unsure,
    )


def _with_several(module: nn.Module, first: Any) -> tuple[nn.Module, Preprocessing]:
    """A copy of a network that takes several tensors, which are told by its ``example_inputs``, or by a sample."""
    example = declared_inputs(module)
    if example is None and isinstance(first, Mapping):
        example = {name: torch.as_tensor(part)[None] for name, part in first.items()}
    elif example is None:
        example = tuple(torch.as_tensor(part)[None] for part in first)
    parts, own = parts_of(module, example), copied(module)
    take_several(own, parts)
    return own, several(parts)


def _batch_of(preprocessing: Preprocessing, first: Any) -> Tensor:
    """One sample as a batch."""
    if isinstance(first, Image.Image):
        return torch.zeros(1, *preprocessing.input_shape)
    return (packed(preprocessing.inputs, first, "sample 0") if preprocessing.inputs else first)[None]
