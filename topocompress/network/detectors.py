"""Detectors: what of them computes with channels, and how much two of them find in common.

A detector of torchvision returns boxes, which no channel can be followed through: how many there are depends on the
image. What its layers compute before that, the scores and offsets of every anchor, are plain tensors.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from topocompress.network.inference import all_outputs

_PACKAGE = "torchvision.models.detection."
_TWO_STAGES = f"{_PACKAGE}generalized_rcnn"
POOLED = 8
"""Pixels on a side to which maps are averaged down where a network's output is judged as a whole."""

REGIONS = "roi_heads."
"""What the names of the modules behind the proposals of a two-stage detector begin with."""

SCORE, OVERLAP = 0.5, 0.5
"""A box counts as found from this score on, and as found by both where the boxes overlap (IoU) at least so much."""


@dataclass(frozen=True, kw_only=True)
class Boxes:
    """What a detector finds in one image.

    Attributes:
        corners: (boxes, 4) left, top, right, bottom, pixels.
        scores: (boxes,) in 0..1.
        labels: (boxes,) class indices.
    """

    corners: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]

    def certain(self) -> Boxes:
        """Those with a score of :data:`SCORE` or more."""
        sure = self.scores >= SCORE
        return Boxes(corners=self.corners[sure], scores=self.scores[sure], labels=self.labels[sure])


def is_detector(model: nn.Module) -> bool:
    """Whether a network is one of torchvision's detectors, or of a class derived from them."""
    return any(kind.__module__.startswith(_PACKAGE) for kind in type(model).__mro__) and hasattr(model, "backbone")


def followed(model: nn.Module) -> nn.Module:
    """The part of a network through which channels can be followed; its modules keep their names.

    Returns:
        For a detector a module that shares its layers and takes (samples, C, H, W) images, normalised, to the raw
        outputs of all heads. Any other network itself.
    """
    return _core(model, judged=False) if is_detector(model) else model


def judged(model: nn.Module) -> nn.Module:
    """A network whose output is one tensor, to ask what its filters do to that; its modules keep their names.

    Returns:
        For a detector a module that shares its layers, resizes and normalises (samples, C, H, W) images as the detector
        does, and returns (samples, numbers): the raw outputs of all heads, maps averaged down to
        :data:`POOLED` × :data:`POOLED`, end to end. Any other network itself.
    """
    return _core(model, judged=True) if is_detector(model) else model


def _core(detector: nn.Module, *, judged: bool) -> nn.Module:
    two_stages = any(kind.__module__ == _TWO_STAGES for kind in type(detector).__mro__)
    return (_TwoStages if two_stages else _OneStage)(detector, judged=judged).train(detector.training)


class _OneStage(nn.Module):
    """SSD, RetinaNet, FCOS: a backbone, and heads that see all its maps."""

    backbone: nn.Module

    def __init__(self, detector: nn.Module, *, judged: bool) -> None:
        super().__init__()
        self._judged = judged
        for name, child in detector.named_children():
            self.add_module(name, child)

    def forward(self, images: Tensor) -> Any:
        if not self._judged:
            return self._raw(images)
        prepared, _ = self.get_submodule("transform")(list(images))
        return torch.cat([_pooled(raw, len(images)) for raw in all_outputs(self._raw(prepared.tensors))], dim=1)

    def _raw(self, images: Tensor) -> Any:
        features = _maps(self.backbone(images))
        # What the last layers give, and not the head's own output, which deals channels out to anchors and classes.
        return [raw for head in self.get_submodule("head").children() for raw in _last_maps(head, features)]


def _pooled(raw: Tensor, samples: int) -> Tensor:
    if raw.ndim == 4:
        raw = F.adaptive_avg_pool2d(raw, (min(POOLED, raw.shape[2]), min(POOLED, raw.shape[3])))
    return raw.reshape(samples, -1)


def _last_maps(head: nn.Module, features: Sequence[Tensor]) -> Iterator[Tensor]:
    """Maps of a head's last layers: layers of its own for each level (SSD), or the same for all behind ``conv``."""
    layers = dict(head.named_children())
    if "module_list" in layers:
        for layer, maps in zip(layers["module_list"].children(), features, strict=True):
            yield layer(maps)
        return
    shared = layers.pop("conv")
    for maps in features:
        hidden = shared(maps)
        yield from (layer(hidden) for layer in layers.values())


class _TwoStages(_OneStage):
    """Faster R-CNN and what is built on it. Two fixed boxes stand in for the proposals, which depend on the image."""

    def _raw(self, images: Tensor) -> Any:
        features = self.backbone(images)
        named = features if isinstance(features, Mapping) else {"0": features}
        height, width = images.shape[-2:]
        boxes = images.new_tensor([[0, 0, width, height], [width / 4, height / 4, width / 2, height / 2]])
        raw = [self.get_submodule("rpn.head")(_maps(features))]
        for kind in ("box", "mask", "keypoint"):
            pool = getattr(self.roi_heads, f"{kind}_roi_pool", None)
            if pool is not None:  # a copy, because it remembers the sizes of the maps
                maps = copy.copy(pool)(named, [boxes] * len(images), [(height, width)] * len(images))
                head = getattr(self.roi_heads, f"{kind}_head")
                raw.append(getattr(self.roi_heads, f"{kind}_predictor")(head(maps)))
        return raw


def _maps(features: Any) -> list[Tensor]:
    return list(features.values()) if isinstance(features, Mapping) else [features]


def boxes_of(output: Any) -> list[Boxes] | None:
    """What a detector returned, image by image; ``None`` if the output is not a detector's."""
    if not isinstance(output, Sequence) or not all(isinstance(image, Mapping) and "boxes" in image for image in output):
        return None
    return [
        Boxes(
            corners=image["boxes"].detach().cpu().numpy(),
            scores=image["scores"].detach().cpu().numpy(),
            labels=image["labels"].detach().cpu().numpy(),
        )
        for image in output
    ]


def common(first: Boxes, second: Boxes, overlap: float = OVERLAP) -> list[tuple[int, int]]:
    """Pairs of boxes of one class that overlap, each box in one pair at most, the best overlaps first.

    Returns:
        (index in ``first``, index in ``second``) of every pair.
    """
    from torchvision.ops import box_iou

    overlaps = box_iou(torch.from_numpy(first.corners), torch.from_numpy(second.corners)).numpy()
    same = (first.corners[:, None] == second.corners[None, :]).all(axis=-1)
    overlaps[same] = 1.0  # boxes without an area overlap with nothing, not even themselves
    overlaps = np.where(first.labels[:, None] == second.labels[None, :], overlaps, 0.0)
    pairs: list[tuple[int, int]] = []
    left, right = set[int](), set[int]()
    for flat in np.argsort(-overlaps, axis=None, kind="stable"):
        row, column = divmod(int(flat), overlaps.shape[1])
        if overlaps[row, column] < overlap:
            break
        if row not in left and column not in right:
            left.add(row)
            right.add(column)
            pairs.append((row, column))
    return pairs


def box_agreement(first: Sequence[Boxes], second: Sequence[Boxes]) -> float:
    """Share in 0..1 of the boxes of two detectors that both find, over all images; 1 where neither finds any.

    Twice the number of common boxes over the number of all boxes with a score of :data:`SCORE` or more (the F1 score of
    one detector with the other's boxes for the truth).
    """
    both = count = 0
    for all_of_one, all_of_other in zip(first, second, strict=True):
        one, other = all_of_one.certain(), all_of_other.certain()
        both += len(common(one, other))
        count += len(one.scores) + len(other.scores)
    return 2 * both / count if count else 1.0
