"""Prune a YOLO of Ultralytics with its own loss and a metric for boxes, predict with it, and export it.

    pip install ultralytics
    python examples/yolo.py --epochs 30 --out yolo-run

The network is built from its yaml and the images are made here, so nothing is downloaded: bright and dark rectangles on
noise. With a network and images of your own, ``network()`` returns ``YOLO("best.pt").model`` and ``Rectangles`` gives
way to a dataset of (image in 0..1, {"boxes": (boxes, 4) left, top, right, bottom in pixels, "classes": (boxes,)}).
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchvision.ops import box_iou
from ultralytics import YOLO
from ultralytics.nn.tasks import DetectionModel, yaml_model_load
from ultralytics.utils.loss import v8DetectionLoss
from ultralytics.utils.nms import non_max_suppression

import topocompress
from topocompress.data.loading import Data
from topocompress.training.finetuning import finetune
from topocompress.training.recipe import Recipe

SIDE, CLASSES = 64, ("bright", "dark")
GAINS = SimpleNamespace(box=7.5, cls=0.5, dfl=1.5, epochs=100)
"""How Ultralytics weighs the parts of its loss."""


def network(width: float = 0.25) -> nn.Module:
    """An untrained YOLOv8n for two classes: (samples, 3, 64, 64) images in 0..1 to boxes.

    Args:
        width: Multiple of the widths that its yaml names; 0.25 makes it YOLOv8n.
    """
    plan = yaml_model_load("yolov8n.yaml")
    plan["scales"]["n"][1] = width
    made = DetectionModel(plan, nc=len(CLASSES), verbose=False)
    made.model[-1].dynamic = True  # no anchors kept for the last batch, which an export of any batch size could not use
    return made


class Rectangles(Dataset[Any]):
    """Noise with one or two rectangles on it.

    Args:
        start: Seed of the first image.
        count: How many images.
    """

    def __init__(self, start: int, count: int) -> None:
        self.start, self.count = start, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        if not 0 <= index < self.count:
            raise IndexError(index)
        generator = torch.Generator().manual_seed(self.start + index)
        image = 0.4 + 0.2 * torch.rand(3, SIDE, SIDE, generator=generator)
        count = int(torch.randint(1, 3, (), generator=generator))
        corners = torch.randint(0, SIDE // 2, (count, 2), generator=generator)
        sizes = torch.randint(SIDE // 4, SIDE // 2, (count, 2), generator=generator)
        classes = torch.randint(0, 2, (count,), generator=generator)
        for (left, top), (width, height), dark in zip(corners.tolist(), sizes.tolist(), classes.tolist(), strict=True):
            image[:, top : top + height, left : left + width] = 0.05 if dark else 0.95
        return image, {"boxes": torch.cat([corners, corners + sizes], 1).float(), "classes": classes}


class OwnLoss:
    """The loss of Ultralytics, from outputs and targets as topocompress gives them.

    Args:
        model: The unpruned network; of it only strides and the number of classes are read, which pruning leaves alone.
    """

    def __init__(self, model: nn.Module) -> None:
        model.args = GAINS  # type: ignore[assignment]
        self._loss = v8DetectionLoss(model)

    def __call__(self, outputs: Any, targets: list[dict[str, Tensor]]) -> Tensor:
        """The sum of its parts, the mean over the samples."""
        counts = torch.tensor([len(target["classes"]) for target in targets])
        boxes = torch.cat([target["boxes"] for target in targets]) / SIDE
        sizes = boxes[:, 2:] - boxes[:, :2]
        batch = {
            "batch_idx": torch.arange(len(targets)).repeat_interleave(counts).float(),
            "cls": torch.cat([target["classes"] for target in targets]).float(),
            "bboxes": torch.cat([boxes[:, :2] + sizes / 2, sizes], 1),
        }
        total, _ = self._loss(outputs, batch)
        return total.sum() / len(targets)


def f1(batches: Iterable[tuple[Any, list[dict[str, Tensor]]]]) -> float:
    """F1 of boxes with a score of 0.25 or more: found where class and place (IoU of 0.5 or more) are right."""
    right = count = 0
    for outputs, targets in batches:
        for boxes, target in zip(non_max_suppression(outputs, conf_thres=0.25), targets, strict=True):
            count += len(boxes) + len(target["classes"])
            if len(boxes):
                overlaps = box_iou(target["boxes"], boxes[:, :4]) * (target["classes"][:, None] == boxes[None, :, 5])
                right += 2 * int((overlaps.amax(1) >= 0.5).sum())
    return min(1.0, right / max(1, count))


def data(count: int) -> Data:
    """Images for calibration, for training and held out."""
    empty = {"labelled": False, "classes": (), "note": "", "skipped": ()}
    return Data(
        calibration=Rectangles(0, count),
        train=Rectangles(10_000, count),
        evaluation=Rectangles(20_000, count),
        source="rectangles",
        fingerprint=f"rectangles {count}",
        **empty,  # type: ignore[arg-type]
    )


def main() -> topocompress.Result:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("yolo-run"))
    parser.add_argument("--epochs", type=int, default=30, help="of training; a third as many of fine-tuning")
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--width", type=float, default=0.25, help="of the network; 0.25 is YOLOv8n")
    parser.add_argument("--ratio", type=float, default=0.3)
    args = parser.parse_args()

    torch.manual_seed(0)
    images, model = data(args.images), network(args.width)
    loss = OwnLoss(model)
    recipe = Recipe(epochs=args.epochs, batch_size=16, lr=0.01, augment=False)
    trained = finetune(model, Rectangles(10_000, args.images), recipe, loss=loss, metric=f1).model

    result = topocompress.compress(
        trained,
        images,
        ratio=args.ratio,
        criterion="l1",
        metric=f1,
        loss=loss,
        finetune=replace(recipe, epochs=max(1, args.epochs // 3)),
        out=args.out,
        force=True,
    )
    print(f"MACs {result.report.before.macs / 1e6:.0f} M -> {result.report.after.macs / 1e6:.0f} M")
    print(f"F1 {result.report.before.metric:.3f} -> {result.report.after.metric:.3f}")

    yolo = YOLO("yolov8n.yaml")
    yolo.model = copy.deepcopy(result.model)
    yolo.model.names = dict(enumerate(CLASSES))
    image = (Rectangles(30_000, 1)[0][0].permute(1, 2, 0) * 255).byte().numpy()
    for found in yolo.predict(image, imgsz=SIDE, verbose=False):
        print(f"predict: {len(found.boxes)} boxes")
    print(f"ONNX: {args.out / 'model.onnx'}")
    return result


if __name__ == "__main__":
    main()
