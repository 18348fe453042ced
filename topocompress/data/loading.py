"""Turning what a user has - a named set, a folder, a factory, or nothing - into calibration and evaluation samples."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from topocompress.data import sources
from topocompress.data.datasets import FileImages, Part, PhotoCrops, SampleSet
from topocompress.data.splits import Split, split
from topocompress.errors import DataError
from topocompress.models.factories import call_factory, is_factory
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

PHOTO_TRAIN, PHOTO_EVALUATION = 2_000, 500
CHECK_ALL = 5_000
"""Image folders up to this many files are checked whole, larger ones only where used for calibration or evaluation."""


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
        classes: Class names by label.
        source: The data as the user wrote it.
        note: One line for the output and the report.
        skipped: Files that could not be read.
        fingerprint: ``sha256:`` and the hex digest of the calibration samples' content, order and preparation.
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


def load_data(
    source: str | None,
    *,
    preprocessing: Preprocessing,
    samples: int = 1000,
    seed: int = 0,
    eval_samples: int | None = 10_000,
    download: bool = False,
    strict: bool = False,
) -> Data:
    """Load calibration, fine-tuning and evaluation samples.

    Args:
        source: ``digits``, ``fashion-mnist:ROOT``, ``cifar10:ROOT``, ``imagefolder:PATH``, ``pkg.module:factory``, or
            ``None`` for crops of the photographs that ship with scikit-learn. A factory is called without arguments
            and returns a :class:`Data`, a dataset, or a pair of datasets (train, test); for what their items may be
            see :class:`topocompress.data.datasets.ForeignSet`.
        preprocessing: What the model expects.
        samples: Number of calibration samples, class-balanced where there are labels.
        seed: Seed of every choice.
        eval_samples: At most as many evaluation samples; ``None`` for all.
        download: Let torchvision download ``fashion-mnist`` and ``cifar10`` into ROOT.
        strict: Refuse a folder with an unreadable image instead of skipping it.

    Raises:
        DataError: Unknown source, missing or damaged files, too few samples, or samples that do not fit the model.
    """
    if samples < 2:
        raise DataError(f"{samples} calibration samples are too few for any topology", hint="Use --samples 1000.")
    if eval_samples is not None and eval_samples < 1:
        raise DataError(f"{eval_samples} evaluation samples are too few", hint="At least 1.")
    if source is None:
        return _photographs(preprocessing, samples=samples, seed=seed, eval_samples=eval_samples)
    name, _, rest = source.partition(":")
    where = Path(rest).expanduser()
    if source == "digits":
        pool = sources.digits(preprocessing)
    elif name == "fashion-mnist" and rest:
        pool = sources.fashion_mnist(where, preprocessing, download=download)
    elif name == "cifar10" and rest:
        pool = sources.cifar10(where, preprocessing, download=download)
    elif name == "imagefolder" and rest:
        pool = sources.image_folder(where, preprocessing)
    elif is_factory(source):
        made = call_factory(source, DataError)
        if isinstance(made, Data):
            for part in (made.calibration, made.evaluation):
                sources.check_fits(part, preprocessing, source)
            return made
        train, test = made if isinstance(made, tuple | list) and len(made) == 2 else (made, None)
        pool = sources.foreign(train, test, source, preprocessing)
    else:
        raise DataError(f"unknown data source {source!r}", hint=_advice(source))
    parts, skipped = _divide(pool, samples=samples, eval_samples=eval_samples, seed=seed, strict=strict)
    _check_enough(parts, source, samples, skipped)
    return _data(pool, parts, source, preprocessing, skipped=skipped)


def batches(
    dataset: Dataset[tuple[Tensor, int]], batch_size: int = 64, *, shuffle: bool = False, seed: int = 0
) -> DataLoader[Any]:
    """Batches ``(images (samples, channels, height, width), labels (samples,))``, any number of passes.

    Without ``shuffle`` every pass is the same; with it, passes differ and the whole sequence follows from ``seed``.
    """
    # With a generator of its own the loader leaves torch's random state alone.
    generator = torch.Generator().manual_seed(seed)
    return DataLoader(dataset, batch_size=batch_size, shuffle=shuffle, generator=generator)


def check_classes(data: Data, outputs: int) -> None:
    """Make sure that every label has an output of the model; fewer classes than outputs are fine.

    Datasets that a factory puts into a :class:`Data` itself are known by their class names alone; their labels are
    checked where they are read, in evaluation and fine-tuning.

    Args:
        data: Loaded data; unlabelled data fits every model.
        outputs: Length of the model's output for one sample.

    Raises:
        DataError: More classes than outputs, or a label beyond the last output.
    """
    hint = "Give images of the classes that the model was trained on, or a model trained on these."
    if data.labelled and len(data.classes) > outputs:
        raise DataError(f"the data has {len(data.classes)} classes, the model {outputs} outputs", hint=hint)
    parts = [part for part in (data.calibration, data.train, data.evaluation) if isinstance(part, SampleSet)]
    highest = max((int(part.targets.max(initial=-1)) for part in parts), default=-1)
    if highest >= outputs:
        raise DataError(f"the data has the label {highest}, the model outputs 0..{outputs - 1}", hint=hint)


def _advice(source: str) -> str:
    if source and Path(source).is_dir():
        return f"For a folder of images write imagefolder:{source}"
    return f"Accepted: {sources.FORMS}; or leave out --data."


def _photographs(preprocessing: Preprocessing, *, samples: int, seed: int, eval_samples: int | None) -> Data:
    from sklearn.datasets import load_sample_images

    photographs = [torch.from_numpy(photo.copy()).permute(2, 0, 1) for photo in load_sample_images().images]
    used, held_out = samples + PHOTO_TRAIN, min(PHOTO_EVALUATION, eval_samples or PHOTO_EVALUATION)
    crops = PhotoCrops(photographs, used=used, evaluation=held_out, seed=seed, preprocessing=preprocessing)
    numbers = np.arange(len(crops), dtype=np.intp)
    parts = Split(calibration=numbers[:samples], train=numbers[samples:used], evaluation=numbers[used:])
    pool = sources.Pool(samples=crops, classes=(), note=PHOTO_NOTE, augmentation="natural")
    return _data(pool, parts, STAND_IN, preprocessing, skipped=())


def _divide(
    pool: sources.Pool, *, samples: int, eval_samples: int | None, seed: int, strict: bool
) -> tuple[Split, tuple[str, ...]]:
    """Divide the readable samples; those chosen are checked, and the choice repeated without the unreadable ones."""
    files = pool.samples if isinstance(pool.samples, FileImages) else None
    usable = np.ones(len(pool.samples), dtype=np.bool_)
    checked = np.zeros(len(pool.samples), dtype=np.bool_)
    while True:
        parts = split(
            pool.samples.targets,
            samples=samples,
            eval_samples=eval_samples,
            seed=seed,
            usable=usable,
            held_out=pool.held_out,
            split_seed=pool.split_seed,
        )
        if files is None:
            return parts, ()
        chosen = np.concatenate([parts.calibration, parts.evaluation])
        unchecked = np.flatnonzero(~checked) if len(files) <= CHECK_ALL else chosen[~checked[chosen]]
        bad = [int(index) for index in unchecked if not files.readable(int(index))]
        checked[unchecked] = True
        usable[bad] = False
        if strict and bad:
            raise DataError(
                f"{len(bad)} images cannot be read: {_listed([str(files.paths[index]) for index in bad])}",
                hint="Remove or replace them, or leave out --strict to skip them.",
            )
        if not bad:
            return parts, tuple(str(files.paths[index]) for index in np.flatnonzero(~usable))


def _listed(names: Sequence[str], limit: int = 3) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _check_enough(parts: Split, source: str, samples: int, skipped: Sequence[str]) -> None:
    there, held_out = len(parts.calibration), len(parts.evaluation)
    unread = f"; {len(skipped)} cannot be read ({_listed(skipped)})" if skipped else ""
    if there < 2 or held_out < 1:
        raise DataError(
            f"{source} holds {there + held_out} usable samples{unread}: too few to calibrate and evaluate",
            hint="Some hundred images are a minimum for a useful choice of filters.",
        )
    if there < samples:
        raise DataError(
            f"{source} has {there} samples for calibration, beside {held_out} kept for evaluation{unread}; "
            f"{samples} were asked for",
            hint=f"Add --samples {there} or fewer (it must exceed the Betti threshold), or give more data.",
        )


def _data(
    pool: sources.Pool,
    parts: Split,
    source: str,
    preprocessing: Preprocessing,
    *,
    skipped: tuple[str, ...],
) -> Data:
    train = Part(pool.samples, parts.train, augmentation=pool.augmentation) if len(parts.train) else None
    note = pool.note
    if skipped:
        note = f"{note}; " * bool(note) + f"{len(skipped)} unreadable images skipped"
    used = np.concatenate([parts.calibration, parts.evaluation])
    return Data(
        calibration=Part(pool.samples, parts.calibration, augmentation=pool.augmentation),
        train=train,
        evaluation=Part(pool.samples, parts.evaluation),
        labelled=bool((pool.samples.targets[used] >= 0).all()),
        classes=pool.classes,
        source=source,
        note=note,
        skipped=skipped,
        fingerprint=_fingerprint(pool.samples, parts.calibration, preprocessing),
    )


def _fingerprint(samples: SampleSet, calibration: NDArray[np.intp], preprocessing: Preprocessing) -> str:
    digest = hashlib.sha256(repr(preprocessing).encode())
    for index in calibration:
        content = samples.identity(int(index))
        digest.update(f"|{samples.targets[index]}|{len(content)}|".encode())
        digest.update(content)
    return f"sha256:{digest.hexdigest()}"
