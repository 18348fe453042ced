"""Training after surgery: SGD on labels, on the unpruned network's outputs, or on both, on any number of processes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from topocompress.errors import DataError
from topocompress.models.loading import fingerprint
from topocompress.network.copying import copied
from topocompress.network.inference import batch_parts, device_of, evaluating, preserved, run_forward
from topocompress.network.outputs import Outputs, outputs_of
from topocompress.network.task import Loss, Metric, identity_of
from topocompress.network.variation import error_weights
from topocompress.training.accelerator import accelerator
from topocompress.training.augmentation import augmentation_of
from topocompress.training.checkpoints import TuningStore
from topocompress.training.epochs import Epoch
from topocompress.training.objective import Objective
from topocompress.training.random_state import denormals_flushed, seeded
from topocompress.training.recipe import Recipe
from topocompress.training.trainer import Chosen, Progress, Trainer
from topocompress.training.training_set import (
    Samples,
    batch_indices,
    class_labels,
    labelled_indices,
    loaded_batches,
    no_labels,
    split_indices,
)
from topocompress.types import Augmentation


@dataclass(frozen=True, kw_only=True)
class FinetuneResult:
    """What fine-tuning made of the model.

    Attributes:
        model: A copy of the given model with the weights of the best epoch, on the same device.
        history: One entry per epoch, epoch 0 included.
        best_epoch: The epoch whose weights were kept.
        validation_samples: How many samples chose it.
        measure: What the history calls accuracy: the user's ``metric``, ``loss`` (which leaves it at 0) with none,
            ``accuracy``, ``agreement`` with the teacher, or the
            ``explained_variation`` of its outputs.
        augmentation: What was done to training images.
        resumed: Epochs taken from checkpoints of an interrupted run.
        processes: How many processes trained.
        device: What they trained on, such as ``cpu`` or ``cuda``.
    """

    model: nn.Module
    history: tuple[Epoch, ...]
    best_epoch: int
    validation_samples: int
    measure: str = "accuracy"
    augmentation: Augmentation = "none"
    resumed: int = 0
    processes: int = 1
    device: str = "cpu"


def finetune(
    model: nn.Module,
    training: Samples,
    recipe: Recipe,
    *,
    validation: Samples | None = None,
    teacher: nn.Module | None = None,
    outputs: Outputs | None = None,
    loss: Loss | None = None,
    metric: Metric | None = None,
    checkpoints: Path | None = None,
    cached: bool = False,
    resume: bool = False,
    identity: str = "",
    seed: int = 0,
    progress: Progress | None = None,
) -> FinetuneResult:
    """Train a copy of the model and keep the weights of its best epoch.

    SGD with Nesterov momentum. The best epoch is the one with the highest validation accuracy, then the lowest
    validation loss; where labels are unused, the one with the lowest distillation loss. Epoch 0, before tuning, takes
    part, so the choice is never worse than the given model *on those samples*. Choosing on the samples that are
    reported later would flatter the report: pass neither them nor anything that shares samples with them. Without
    ``validation``, a seeded tenth of the training samples (at least one per class that has two) is held out of
    training for it.

    Processes that ``accelerate launch`` or ``torchrun`` has started share each batch. They go through the same samples
    in the same order as one process would. With BatchNorm on CPUs each process normalises by its own part of a batch,
    and dropout draws differ, so such networks do not train exactly as in one process.

    Args:
        model: The network; not changed.
        training: Map-style dataset of (input (C, H, W), class label ≥ 0); samples with a label < 0 are left out.
            Labels are neither needed nor read where ``recipe.distill`` is 1.
        recipe: The settings.
        validation: Samples that choose the best epoch, of the same form; never augmented.
        teacher: The network whose outputs are learned where ``recipe.distill`` is above 0; not changed. Where labels
            are not used and its outputs are no scores of classes, the squared error of all of them is minimised, as a
            share of their variation over the validation samples.
        outputs: Which of its outputs are compared, and how; decided on a few samples if ``None``.
        loss: Minimised in place of cross-entropy: see :data:`topocompress.network.task.Loss`. All samples count then,
            whatever their targets are.
        metric: Chooses the best epoch, the highest: see :data:`topocompress.network.task.Metric`.
        checkpoints: Folder where each finished epoch replaces the one before it; nothing is kept if ``None``.
        cached: Whether that is a place in the cache: there a file of another training is ignored, and a warning says
            so; in a folder of your own it is refused.
        resume: Continue from what an interrupted run has left in ``checkpoints``. On the CPU the result is bit for bit
            that of a run without interruption.
        identity: What else tells this training from others, such as a fingerprint of the samples.
        seed: Decides hold-out, order, augmentation, and all that model and dataset draw from torch, numpy and Python.
        progress: Called after each step with (steps done, steps in all, message).

    Raises:
        DataError: Fewer than 3 labelled samples, dense labels, labels beyond the model's classes, no teacher where one
            is needed, a precision that the device cannot do, or checkpoints of another training.
        ModelError: The model does not accept the samples, or none of its parameters requires gradients.
        TrainingError: The loss became NaN or infinite.
        OutputError: The folder for checkpoints cannot be made.
    """
    if recipe.distill and teacher is None:
        raise DataError("distillation needs the network to learn from", hint="Give teacher=, or a recipe without it.")
    if recipe.distill and loss is not None:
        raise DataError("a loss of one's own and distillation are two ways to learn", hint="Leave one out.")
    free = recipe.label_free or loss is not None
    labels_of = no_labels if free else class_labels
    labels = labels_of(training)
    train_indices, held_out = split_indices(labels, seed, hold_out=validation is None)
    judged = labels if validation is None else labels_of(validation)
    chooser = held_out if validation is None else labelled_indices(judged)
    highest = int(max(labels[train_indices].max(), judged[chooser].max()))
    read = (
        None
        if loss is not None
        else outputs
        or outputs_of(
            model if teacher is None else teacher,
            torch.stack(
                [batch_parts((training if validation is None else validation)[index])[0] for index in chooser[:3]]
            ),
            **({} if recipe.label_free else {"labels": 0, "highest": highest}),
        )
    )
    if read is not None and recipe.label_free and read.measure == "agreement" and read.classes is None:
        raise DataError(
            "the network's outputs are boxes or whole numbers, which no gradient can follow",
            hint="Fine-tune it with its own training code; topocompress.load gives the pruned network.",
        )
    scored = read is None or read.classes is not None
    if read is not None and not recipe.label_free and (not scored or read.label_axes != 0):
        raise DataError(
            "fine-tuning on labels needs a classifier's scores, (samples, classes) or one for two classes; outputs are "
            f"compared by {read.what}",
            hint="Without labels, by distillation of weight 1, it takes any outputs.",
        )
    store = None
    if checkpoints is not None:
        run = {
            "model": fingerprint(model),
            "network": repr(model),
            "teacher": None if teacher is None or not recipe.distill else fingerprint(teacher),
            "recipe": recipe.settings(),
            "samples": [len(labels), train_indices, chooser],
            "identity": identity,
            "seed": seed,
            **({} if read is None or scored else {"measure": read.measure}),
            **({"task": [identity_of(loss), identity_of(metric)]} if loss or metric else {}),
        }
        store = TuningStore(Path(checkpoints), run, cached=cached)
    kind = augmentation_of(training, recipe.augment)
    with (
        accelerator(recipe.precision, device_of(model)) as helper,
        seeded(seed + helper.process_index, helper.device),
        denormals_flushed(),
        _teaching(teacher if recipe.distill else None, helper.device) as teaching,
    ):
        judging = (training if validation is None else validation, chooser)
        weights = (
            None if read is None or scored or teaching is None else _weights(teaching, read, judging, helper.device)
        )
        trainer = Trainer(
            helper=helper,
            objective=Objective(
                recipe=recipe, highest=highest, outputs=read, weights=weights, loss=loss, metric=metric
            ),
            teacher=teaching,
            training=(training, train_indices),
            chooser=judging,
            augmentation=kind,
            seed=seed,
            progress=progress,
        )
        resumed = trainer.run(model, store, resume=resume)
        tuned = copied(model)
        tuned.load_state_dict(trainer.best_state)
        return FinetuneResult(
            model=tuned,
            history=tuple(trainer.history),
            best_epoch=trainer.best_epoch,
            validation_samples=len(chooser),
            measure=trainer.objective.measure,
            augmentation=kind,
            resumed=resumed,
            processes=helper.num_processes,
            device=helper.device.type,
        )


@contextlib.contextmanager
def _teaching(teacher: nn.Module | None, device: torch.device) -> Iterator[nn.Module | None]:
    """The teacher on a device and in eval mode; on another device than its own, a copy."""
    if teacher is None:
        yield None
        return
    there = torch.device("cuda", torch.cuda.current_device()) if device == torch.device("cuda") else device
    placed = teacher if device_of(teacher) == there else copied(teacher).to(there)
    with preserved(placed):
        yield placed.eval()


def _weights(teacher: nn.Module, outputs: Outputs, judging: Chosen, device: torch.device) -> torch.Tensor:
    """(numbers,) what makes squared errors of the teacher's outputs shares of their variation."""
    samples, indices = judging
    with evaluating(teacher):
        loaded = loaded_batches(samples, batch_indices(indices, 64, shuffle=None), device)
        said = (outputs.tensors(run_forward(teacher, images), len(images)) for images, _ in loaded)
        return torch.cat(error_weights(said)).to(device)
