"""Turning what a user has - a named set, a folder, a factory, or nothing - into calibration and evaluation samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from topocompress.data import labels, sources
from topocompress.data.checks import BY_ORDER, IMAGENET, WORDS, advice, check_source, written
from topocompress.data.crops import PhotoCrops
from topocompress.data.datasets import FileImages, ForeignSet, Part, SampleSet
from topocompress.data.division import divide, fingerprint, overlap, partly_labelled, perhaps_seen, shortage
from topocompress.data.looking import check_seen, settle_range
from topocompress.data.named import named
from topocompress.data.splits import Split
from topocompress.errors import DataError
from topocompress.models.class_names import given_classes, imagenet_classes
from topocompress.models.factories import call_factory, is_factory
from topocompress.network.task import collated
from topocompress.runtime.arguments import checked
from topocompress.types import Preprocessing

STAND_IN = "photographs"
"""Source of data where the user named none."""

PHOTO_NOTE = (
    "no --data given: calibrated on random crops of the photographs that ship with scikit-learn; "
    "your own images give a better choice of filters"
)
ONE_LABEL = "one label per image says nothing of its pixels or boxes: accuracy is not measured, agreement is"
"""Note on labelled images for a network that segments or detects."""
NO_CLASSES = (
    "labels cannot be held against the outputs, which are no scores of classes: accuracy is not measured, likeness to "
    "the original's outputs is"
)
"""Note on labelled images for a network without scores of classes."""

UNLABELLED = "labels left out, as asked: likeness to the original is measured, not accuracy"
PHOTO_TRAIN, PHOTO_EVALUATION = 2_000, 100


@dataclass(frozen=True, kw_only=True)
class Data:
    """Samples by use; no sample has two uses.

    Every dataset yields ``(image, label)``: a float32 tensor (channels, height, width), normalised, and an int that is
    -1 where there is no label.

    Attributes:
        calibration: What the filters are judged on.
        train: What is left for fine-tuning; ``None`` if nothing is.
        evaluation: Held out for accuracy, or for agreement where there are no labels.
        labelled: Whether the labels are known.
        classes: Class names by label, in the order of the network's outputs; none where labels are numbers of outputs.
        source: The data as the user wrote it.
        note: One line for the output and the report.
        skipped: Files that could not be read.
        fingerprint: ``sha256:`` and the hex digest of the calibration samples' content, order and preparation.
        warnings: Sentences on what a user may not expect, such as fewer samples than were asked for.
        pixels: What their pixels were taken for where that is not plain, and what is odd about them.
        preprocessing: How images were prepared; ``None`` where nobody knows.
        judging: Held out too, to judge what is chosen by trying; ``None`` where none were wanted, or there are too few.
        threshold_samples: How many calibration samples a threshold on Betti numbers is stated for, where it is to be
            scaled to those that are there.
        trained_on: Whether the network was trained on the samples held out; ``None`` where nobody has said so.
        held_out_source: Where these are from, if from another folder than the others.
    """

    calibration: Dataset[tuple[Tensor, int]]
    train: Dataset[tuple[Tensor, int]] | None
    evaluation: Dataset[tuple[Tensor, int]]
    labelled: bool
    classes: tuple[str, ...]
    source: str
    note: str
    skipped: tuple[str, ...]
    fingerprint: str
    warnings: tuple[str, ...] = ()
    pixels: str = ""
    preprocessing: Preprocessing | None = None
    judging: Dataset[tuple[Tensor, int]] | None = None
    threshold_samples: int | None = None
    trained_on: bool | None = None
    held_out_source: str | None = None


@checked
def load_data(
    source: Dataset[Any] | str | Path | None,
    *,
    preprocessing: Preprocessing,
    samples: int = 1000,
    seed: int = 0,
    eval_samples: int | None = 10_000,
    download: bool = False,
    strict: bool = False,
    classes: Sequence[str] | str | Path | None = None,
    unlabelled: bool = False,
    targets: bool = False,
    judging: int = 0,
    validation: str | Path | None = None,
    trained_on: bool | None = None,
) -> Data:
    """Load calibration, fine-tuning and evaluation samples.

    Args:
        source: A folder of images, ``digits``, ``fashion-mnist:ROOT``, ``cifar10:ROOT``, ``pkg.module:factory``, or
            ``None`` for crops of the photographs that ship with scikit-learn; or a dataset. A factory is called without
            arguments and returns a :class:`Data`, a dataset, or a pair of datasets (train, test); for what items may be
            see :class:`topocompress.data.datasets.ForeignSet`.
        preprocessing: What the model expects.
        samples: Number of calibration samples, class-balanced where there are labels. Where there are fewer beside
            those for evaluation, all of them are taken, and ``Data.warnings`` says so.
        seed: Seed of every choice.
        eval_samples: At most as many evaluation samples; ``None`` for all.
        download: Let torchvision download ``fashion-mnist`` and ``cifar10`` into ROOT.
        strict: Refuse a folder with an unreadable image instead of skipping it.
        classes: Names of the network's outputs in their order, or a file of them (see
            :func:`~topocompress.models.class_names.read_class_names`): classes of the data are matched to them by name.
            ``imagenet`` stands for ImageNet's own names (``n01440764``, ...). ``by-number``: a class's name is the
            number of its output. ``by-order``: the data's classes, folders sorted as text, are in the order of the
            outputs, which is also assumed where nothing is given, or no names (as of a model that has none).
        unlabelled: Leave out all labels.
        targets: What a factory's datasets yield behind an input is for a metric or a loss of the user's own, and may be
            anything: masks, boxes, numbers.
        validation: Another folder of images, with the classes of the first: all held-out samples are from there.
        trained_on: Whether the network was trained on the samples of ``source``; what is then measured on a part of
            them is marked wherever it is reported.
        judging: Samples wanted besides to judge a choice by trying; see :func:`topocompress.data.splits.split`.

    Raises:
        DataError: Unknown source, missing or damaged files, too few samples, or samples that do not fit the model or
            are blank or all alike.
        OptionError: An argument of another type.
    """
    if samples < 2:
        raise DataError(f"{samples} calibration samples are too few for any topology", hint="Use --samples 1000.")
    if eval_samples is not None and eval_samples < 1:
        raise DataError(f"{eval_samples} evaluation samples are too few", hint="At least 1.")
    made: Any = source if isinstance(source, Dataset) else None
    if validation is not None:
        check_source(None if isinstance(source, Dataset) else source, validation=validation)
    if source is None:
        return _photographs(preprocessing, samples=samples, seed=seed, eval_samples=eval_samples)
    said = given_classes(classes, WORDS)
    said = imagenet_classes() if said == IMAGENET else said
    source = type(source).__name__ if isinstance(source, Dataset) else written(source)
    names, other = said if isinstance(said, tuple) else (), None if validation is None else Path(validation)
    pool = None if made is not None else named(source, preprocessing, known=names, download=download, validation=other)
    if pool is None and made is None:
        if not is_factory(source):
            raise DataError(f"unknown data source {source!r}", hint=advice())
        made = call_factory(source, DataError)
        if isinstance(made, Data):
            for part in (made.calibration, made.evaluation):
                sources.check_fits(part, preprocessing, source)
            seen = check_seen(made.calibration, preprocessing, source, ready=True)
            made = made if trained_on is None else replace(made, trained_on=trained_on)
            return _noted(without_labels(made) if unlabelled else made, seen)
    if pool is None:
        train, test = made if isinstance(made, tuple | list) and len(made) == 2 else (made, None)
        pool = sources.foreign(train, test, source, preprocessing, unlabelled=unlabelled, targets=targets)
    pool = _without_labels(pool) if unlabelled else _numbered(pool, said, source)
    parts, skipped = divide(pool, samples=samples, eval_samples=eval_samples, judging=judging, seed=seed, strict=strict)
    few = shortage(parts, source, samples, eval_samples, skipped, pool.samples.first_problem)
    preprocessing, pixels = settle_range(pool.samples, preprocessing, source)
    elsewhere = None if validation is None else str(validation)
    doubts = partly_labelled(pool.samples, parts) + overlap(pool.samples, parts, elsewhere or source)
    pool = replace(pool, warnings=pool.warnings + few + doubts + perhaps_seen(pool, trained_on))
    found = _noted(_data(pool, parts, source, preprocessing, skipped=skipped), pixels)
    told = None if trained_on is None else trained_on and pool.held_out is None
    found = replace(found, trained_on=told, held_out_source=elsewhere)
    ready = isinstance(pool.samples, ForeignSet) and not pool.samples.prepares
    return _noted(found, check_seen(found.calibration, preprocessing, source, ready=ready, pixels=pixels))


def without_labels(data: Data) -> Data:
    """The same samples, whose labels nobody looks at."""
    return replace(data, labelled=False, classes=(), note=_joined(data.note, UNLABELLED)) if data.labelled else data


def _without_labels(pool: sources.Pool) -> sources.Pool:
    if not (pool.samples.targets >= 0).any():
        return pool
    pool.samples.targets = np.full(len(pool.samples), -1, dtype=np.int64)
    return replace(pool, classes=(), note=_joined(pool.note, UNLABELLED))


def _numbered(pool: sources.Pool, said: str | tuple[str, ...] | None, source: str) -> sources.Pool:
    """The pool with numbers of outputs for labels, as far as names tell them."""
    own, targets = pool.classes, pool.samples.targets
    if not own:  # no labels, or numbers of outputs
        return replace(pool, classes=said) if isinstance(said, tuple) and (targets >= 0).any() else pool
    if said is None or said == BY_ORDER:
        if not isinstance(pool.samples, FileImages):
            return pool
        doubts = "" if said else labels.doubtful_order(own, source)
        note = _joined(pool.note, "numbered in the order of their names")
        return replace(pool, note=note, warnings=(*pool.warnings, *([doubts] if doubts else [])))
    used = np.isin(np.arange(len(own)), targets)
    numbers = labels.by_number(own, source) if isinstance(said, str) else labels.by_name(own, used, said, source)
    how, names = (
        ("each the number of its output", ()) if isinstance(said, str) else ("matched to the outputs by name", said)
    )
    pool.samples.targets = np.where(targets >= 0, numbers[targets], -1)
    return replace(pool, classes=names, note=_joined(pool.note, how))


def _joined(*notes: str) -> str:
    return "; ".join(note for note in notes if note)


def batches(
    dataset: Dataset[tuple[Tensor, int]], batch_size: int = 64, *, shuffle: bool = False, seed: int = 0
) -> DataLoader[Any]:
    """Batches ``(images (samples, channels, height, width), labels (samples,))``, any number of passes.

    Without ``shuffle`` every pass is the same; with it, passes differ and the whole sequence follows from ``seed``.
    """
    # With a generator of its own the loader leaves torch's random state alone.
    generator = torch.Generator().manual_seed(seed)
    return DataLoader(dataset, batch_size=batch_size, shuffle=shuffle, generator=generator, collate_fn=collated)


def check_classes(data: Data, outputs: int) -> None:
    """Make sure that every class has an output of the model, and that it is known which.

    Datasets that a factory puts into a :class:`Data` itself are known by their class names alone; their labels are
    checked where they are read, in evaluation and fine-tuning.

    Args:
        data: Loaded data; unlabelled data fits every model.
        outputs: Length of the model's output for one sample.

    Raises:
        DataError: Another number of classes than of outputs, a label beyond the last output, or one output alone.
    """
    if not data.labelled:
        return
    parts = (data.calibration, data.train, data.judging, data.evaluation)
    highest = max((int(part.targets.max(initial=-1)) for part in parts if isinstance(part, SampleSet)), default=-1)
    labels.check_width(data.classes, highest, outputs, data.note)


def _photographs(preprocessing: Preprocessing, *, samples: int, seed: int, eval_samples: int | None) -> Data:
    from sklearn.datasets import load_sample_images

    if not preprocessing.is_image:
        raise DataError(
            f"photographs cannot stand in for inputs of shape {preprocessing.input_shape}",
            hint="Give --data pkg.module:factory, which yields float tensors of that shape.",
        )
    photographs = [torch.from_numpy(photo.copy()).permute(2, 0, 1) for photo in load_sample_images().images]
    used, held_out = samples + PHOTO_TRAIN, min(PHOTO_EVALUATION, eval_samples or PHOTO_EVALUATION)
    crops = PhotoCrops(photographs, used=used, evaluation=held_out, seed=seed, preprocessing=preprocessing)
    numbers = np.arange(len(crops), dtype=np.intp)
    parts = Split(calibration=numbers[:samples], train=numbers[samples:used], evaluation=numbers[used:])
    pool = sources.Pool(samples=crops, classes=(), note=PHOTO_NOTE, augmentation="natural")
    return _data(pool, parts, STAND_IN, preprocessing, skipped=())


def _data(
    pool: sources.Pool,
    parts: Split,
    source: str,
    preprocessing: Preprocessing,
    *,
    skipped: tuple[str, ...],
) -> Data:
    train = Part(pool.samples, parts.train, augmentation=pool.augmentation) if len(parts.train) else None
    unread = f"{len(skipped)} unreadable images skipped{pool.samples.first_problem}" if skipped else ""
    note = _joined(pool.note, unread)
    used = np.concatenate([parts.calibration, parts.evaluation, parts.judging])
    return Data(
        calibration=Part(pool.samples, parts.calibration, augmentation=pool.augmentation),
        train=train,
        evaluation=Part(pool.samples, parts.evaluation),
        judging=Part(pool.samples, parts.judging) if len(parts.judging) else None,
        labelled=bool((pool.samples.targets[used] >= 0).all()),
        classes=pool.classes,
        source=source,
        note=note,
        skipped=skipped,
        fingerprint=fingerprint(pool.samples, parts.calibration, preprocessing),
        warnings=pool.warnings,
        preprocessing=preprocessing,
    )


def _noted(data: Data, pixels: str) -> Data:
    """The data with one thing more that was found out about its pixels."""
    return replace(data, pixels="; ".join(filter(None, (data.pixels, pixels)))) if pixels else data
