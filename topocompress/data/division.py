"""A pool of samples divided into uses, unreadable files left out; what to say where there are few."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from topocompress.data.datasets import FileImages, ForeignSet, SampleSet
from topocompress.data.sources import Pool
from topocompress.data.splits import Split, split
from topocompress.errors import DataError
from topocompress.types import Preprocessing

CHECK_ALL = 5_000
"""Image folders up to this many files are checked whole, larger ones only where used for calibration or evaluation."""
FEWEST, FEW = 2, 50
"""Calibration samples without which nothing is done; evaluation samples below which it is said what one is worth."""
MANY = 0.01
"""Share of samples that may be in two uses without a word: data sets hold a few images twice."""


def divide(
    pool: Pool, *, samples: int, eval_samples: int | None, judging: int, seed: int, strict: bool
) -> tuple[Split, tuple[str, ...]]:
    """Divide the readable samples; those chosen are checked, and the choice repeated without the unreadable ones.

    Returns:
        Which sample has which use, and the files that cannot be read.

    Raises:
        DataError: ``strict``, and a file cannot be read.
    """
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
            judging=judging,
        )
        if files is None:
            return parts, ()
        chosen = np.concatenate([parts.calibration, parts.evaluation, parts.judging])
        unchecked = np.flatnonzero(~checked) if len(files) <= CHECK_ALL else chosen[~checked[chosen]]
        bad = [int(index) for index in unchecked if not files.readable(int(index))]
        checked[unchecked] = True
        usable[bad] = False
        if strict and bad:
            raise DataError(
                f"{len(bad)} images cannot be read: {_listed([str(files.paths[index]) for index in bad])}"
                f"{files.first_problem}",
                hint="Remove or replace them, or leave out --strict to skip them.",
            )
        if not bad:
            return parts, tuple(str(files.paths[index]) for index in np.flatnonzero(~usable))


def _listed(names: Sequence[str], limit: int = 3) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def partly_labelled(samples: SampleSet, parts: Split) -> tuple[str, ...]:
    """A sentence where labels go unused because some samples have none."""
    targets = samples.targets[np.concatenate([parts.calibration, parts.evaluation, parts.judging])]
    without = int((targets < 0).sum())
    if without in (0, len(targets)):
        return ()
    return (
        f"{without} of {len(targets)} samples used have no label, or one below 0, which means none: labels are not "
        "used, and accuracy is not measured.",
    )


def perhaps_seen(pool: Pool, said: bool | None = None) -> tuple[str, ...]:
    """A sentence where a network was trained on what is held out, or may have been.

    Args:
        pool: The samples.
        said: Whether the network was trained on them, if the user has said so.
    """
    own = isinstance(pool.samples, FileImages | ForeignSet)
    if pool.held_out is not None and said:
        return (
            "--trained-on is taken to be said of the images that are not held out: those that are count as new ones.",
        )
    if pool.held_out is not None or said is False or not (pool.samples.targets >= 0).any():
        return ()
    if said:
        return (
            "The network was trained on the images that it is measured on: its accuracy is higher than on new images, "
            "and pruning seems to cost more than it does. --val-data FOLDER measures on others.",
        )
    if not own:
        return ()
    return (
        "Held out is a part of the images given. If the network was trained on them, its accuracy here is higher than "
        "on new images, and pruning seems to cost more than it does: --val-data FOLDER measures on others. "
        "--trained-on or --not-trained-on says which it is.",
    )


def overlap(samples: SampleSet, parts: Split, source: str) -> tuple[str, ...]:
    """A sentence where samples held out are the same as some of those used."""
    used = {hashlib.sha256(samples.identity(int(index))).digest() for index in parts.calibration}
    twice = sum(hashlib.sha256(samples.identity(int(index))).digest() in used for index in parts.evaluation)
    if twice <= MANY * min(len(used), len(parts.evaluation)):
        return ()
    return (
        f"{twice} of the {len(parts.evaluation)} held-out samples of {source} are also among those for calibration: "
        "what is measured on them is no evidence of how new images will fare.",
    )


def shortage(
    parts: Split, source: str, samples: int, eval_samples: int | None, skipped: Sequence[str], problem: str
) -> tuple[str, ...]:
    """What to say where there are fewer samples than were asked for.

    Args:
        parts: Who has which use.
        source: For messages.
        samples: Calibration samples that were asked for.
        eval_samples: Evaluation samples likewise, ``None`` for all.
        skipped: Files that cannot be read.
        problem: Why the first cannot, where that is known.

    Raises:
        DataError: They are too few for anything.
    """
    there, held_out = len(parts.calibration), len(parts.evaluation)
    unread = f"; {len(skipped)} cannot be read ({_listed(skipped)}{problem})" if skipped else ""
    if there < FEWEST or held_out < 1:
        raise DataError(
            f"{source} holds {there + held_out} usable samples{unread}: too few to calibrate and evaluate",
            hint="Some hundred images are a minimum for a useful choice of filters.",
        )
    found = []
    if there < samples:
        found.append(
            f"{source} has {there} samples for calibration, where {samples} were wanted, beside {held_out} kept for "
            f"evaluation: all {there} are taken. Scores that read samples are less certain with fewer, and Betti "
            f"numbers are smaller (β0 is at most {there}): --max-betti then removes less."
        )
    if held_out < min(FEW, eval_samples or FEW):
        found.append(
            f"Evaluated on {held_out} held-out sample{'s' * (held_out > 1)}: where these are counted, as in accuracy "
            f"and agreement, one is {100 / held_out:.3g} points."
        )
    return tuple(found)


def fingerprint(samples: SampleSet, calibration: NDArray[np.intp], preprocessing: Preprocessing) -> str:
    """The hash of the calibration samples' content, order and preparation."""
    digest = hashlib.sha256(repr(preprocessing).encode())
    if preprocessing.pixel_range is not None:
        digest.update(repr(preprocessing.pixel_range).encode())
    for index in calibration:
        content = samples.identity(int(index))
        digest.update(f"|{samples.targets[index]}|{len(content)}|".encode())
        digest.update(content)
    return f"sha256:{digest.hexdigest()}"
