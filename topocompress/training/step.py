"""Fine-tuning as a step of the whole job: a recipe that fits the data, what is trained on, where epochs are kept."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

from torch import nn

import topocompress
from topocompress.data.loading import Data
from topocompress.errors import DataError, OutputError
from topocompress.models.loading import fingerprint
from topocompress.network.detectors import is_detector
from topocompress.network.outputs import Outputs
from topocompress.network.task import Loss, Metric
from topocompress.runtime.progress import Progress
from topocompress.surgery.activations import fold_back
from topocompress.training.accelerator import check_precision
from topocompress.training.checkpoints import place
from topocompress.training.finetuning import FinetuneResult, finetune
from topocompress.training.recipe import Recipe, no_teacher


def fitted(recipe: Recipe | int, model: nn.Module, data: Data, *, own_loss: bool = False) -> Recipe:
    """The recipe for this data: where there are no labels, distillation gets all the weight.

    Args:
        recipe: Settings, or a number of epochs.
        model: The unpruned network.
        data: Loaded data.
        own_loss: Whether the user's own loss is minimised, which needs no labels and suits any network.

    Raises:
        DataError: Fine-tuning without labels and without distillation, without samples, of a detector, or in a
            precision that the device cannot do.
    """
    found = recipe if isinstance(recipe, Recipe) else Recipe(epochs=recipe)
    if not found.epochs:
        return found
    if found.distill and not data.labelled:
        found = replace(found, distill=1.0)
    if is_detector(model) and not own_loss:
        raise DataError(
            "--finetune is not for detectors, whose losses are their own",
            hint="Add --loss pkg.module:function, or train the smaller network with the detector's own recipe.",
        )
    if not found.label_free and not data.labelled and not own_loss:
        raise no_teacher()
    check_precision(found.precision)
    return found


def tuned(
    model: nn.Module,
    original: nn.Module,
    data: Data,
    recipe: Recipe,
    *,
    seed: int,
    folder: Path | None,
    resume: bool,
    progress: Progress,
    outputs: Outputs | None = None,
    loss: Loss | None = None,
    metric: Metric | None = None,
) -> FinetuneResult:
    """Fine-tune on what is left for it, and fold back what learned no wave.

    Where nothing else is left, that is the calibration samples.

    Args:
        model: The pruned network; not changed.
        original: The unpruned one, to learn from.
        data: Loaded data.
        recipe: From :func:`fitted`.
        seed: Seed of everything random.
        folder: Where finished epochs are kept, from :func:`kept`; nowhere if ``None``.
        resume: Continue from there.
        progress: Called as ``progress(step, done, total)``.
        outputs: What of the original's outputs is learned, and how; decided on a few samples if ``None``.
        loss: The user's own.
        metric: The user's own, which chooses the best epoch.

    Raises:
        KeyboardInterrupt: As it came; its message says what has been kept.
    """
    try:
        found = finetune(
            model,
            data.train if data.train is not None else data.calibration,
            recipe,
            teacher=original if recipe.distill else None,
            outputs=outputs,
            loss=loss,
            metric=metric,
            checkpoints=folder,
            cached=True,
            resume=resume,
            identity=data.fingerprint,
            seed=seed,
            progress=lambda done, total, message: progress(f"fine-tuning: {message}", done, total),
        )
    except KeyboardInterrupt as error:
        if folder is None or not any(folder.iterdir()):
            raise
        raise KeyboardInterrupt("the epochs that are finished are kept; --resume continues from there") from error
    return replace(found, model=fold_back(found.model))


def kept(
    cache: str | Path | None,
    model: nn.Module,
    original: nn.Module,
    data: Data,
    recipe: Recipe,
    seed: int,
    task: str = "",
) -> Path | None:
    """Folder in the cache for the epochs of this training; ``None`` without a cache that can be written."""
    if cache is None:
        return None
    key = {
        "topocompress": topocompress.__version__,
        "model": fingerprint(model),
        "network": repr(model),
        "original": fingerprint(original),
        "data": data.fingerprint,
        "recipe": recipe.settings(),
        "seed": seed,
        **({"task": task} if task else {}),
    }
    with contextlib.suppress(OSError, OutputError):
        folder = place(Path(cache), key)
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    return None
