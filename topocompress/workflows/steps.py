"""The steps that :func:`topocompress.compress` runs on one model and one set of data, each timed."""

from __future__ import annotations

import contextlib
import functools
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from topocompress.criteria import L1, CloudCriterion, Criterion, Random
from topocompress.data.loading import STAND_IN, Data, batches
from topocompress.dependencies.groups import explicit
from topocompress.deploy.measurement import Predictions, agreement, evaluate
from topocompress.models.loading import LoadedModel
from topocompress.network.batchnorm import match_moments, recalibrate_batchnorm, with_statistics
from topocompress.network.capture import EXACT, Batches, Maps
from topocompress.network.inference import device_of, sample_count
from topocompress.planning.controls import matched_plan
from topocompress.planning.rules import TOPOLOGICAL
from topocompress.runtime.progress import Progress
from topocompress.runtime.resources import ANY, Resources
from topocompress.scoring.dispatch import open_store, score_layers
from topocompress.surgery.activations import Swapped, swap_activations
from topocompress.surgery.removal import apply, kept_channels
from topocompress.training import processes, step
from topocompress.training.finetuning import FinetuneResult
from topocompress.training.recipe import Recipe
from topocompress.types import ChannelGroup, Control, PruningPlan, Scores
from topocompress.workflows.single_steps import score_groups

_RANDOM_SEEDS = 3
_HELD_BYTES = 1 << 30


Statistics = Literal["re-estimated", "matched", "kept"]


@dataclass(frozen=True, kw_only=True)
class Settled:
    """A pruned network, and what became of its BatchNorm statistics."""

    model: nn.Module
    statistics: Statistics


@dataclass(kw_only=True)
class Job:
    """Everything the steps share."""

    loaded: LoadedModel
    data: Data
    seed: int
    progress: Progress
    seconds: dict[str, float] = field(default_factory=dict)
    checkpoints: list[Path] = field(default_factory=list)

    @property
    def example(self) -> Tensor:
        """(1, C, H, W): the first calibration sample, on the model's device."""
        image, _ = self.data.calibration[0]
        return image[None].to(device_of(self.loaded.module))

    @functools.cached_property
    def calibration(self) -> Batches:
        """The calibration samples in batches, the same at every pass."""
        return batches(_held(self.data.calibration))

    @functools.cached_property
    def evaluation(self) -> Batches:
        """The held-out samples in batches."""
        return batches(_held(self.data.evaluation))

    @contextlib.contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Add the seconds spent inside to the step's."""
        started = time.perf_counter()
        yield
        self.seconds[step] = round(self.seconds.get(step, 0.0) + time.perf_counter() - started, 2)

    def evaluated(self, model: nn.Module, what: str) -> Predictions:
        """Predictions on the held-out samples."""
        with self.timed("evaluate"):
            return processes.from_main(
                lambda: evaluate(
                    model,
                    self.evaluation,
                    labelled=self.data.labelled,
                    progress=lambda done, total: self.progress(what, done, total),
                )
            )

    def forget_checkpoints(self) -> None:
        """Remove the epochs kept for a run that is finished."""
        for folder in self.checkpoints:
            shutil.rmtree(folder, ignore_errors=True)

    def recalibrated(self, model: nn.Module, plan: PruningPlan) -> Settled:
        """The job's model without a plan's channels, with statistics that fit what is left.

        Those of the calibration samples, as long as with them the network does not answer less like the original on
        these. Else, and where photographs stand in for the user's images, the trained ones, corrected for what removal
        changed, if that does good; or else just those.
        """
        if not any(with_statistics(model)):
            return Settled(model=model, statistics="kept")
        bare = processes.from_main(lambda: self._likeness(model))
        if self.data.source != STAND_IN:
            settled = recalibrate_batchnorm(model, self.calibration)
            if processes.from_main(lambda: self._likeness(settled)) >= bare:
                return Settled(model=settled, statistics="re-estimated")
        original = self.loaded.module
        kept = kept_channels(original, plan, example=self.example)
        matched = match_moments(model, original, kept, self.calibration)
        if processes.from_main(lambda: self._likeness(matched)) > bare:
            return Settled(model=matched, statistics="matched")
        return Settled(model=model, statistics="kept")

    @functools.cached_property
    def _answers(self) -> Predictions:
        return evaluate(self.loaded.module, self.calibration, labelled=False)

    def _likeness(self, model: nn.Module) -> float:
        return agreement(self._answers, evaluate(model, self.calibration, labelled=False))


def _held(samples: Dataset[tuple[Tensor, int]]) -> Dataset[Any]:
    """The samples, read and prepared once for all passes where they fit in memory."""
    image, _ = samples[0]
    count = sample_count(samples)
    if count * image.numel() * image.element_size() > _HELD_BYTES:
        return samples
    images, labels = zip(*(samples[index] for index in range(count)), strict=True)
    return TensorDataset(torch.stack(images), torch.tensor(labels))


def score_job(
    job: Job,
    groups: Sequence[ChannelGroup],
    criterion: Criterion,
    *,
    resources: Resources = ANY,
    maps: Maps = EXACT,
    cache: str | Path | None = None,
    resume: bool = False,
) -> Scores:
    """Score the filters of groups, with what an earlier run has left in the cache.

    Raises:
        KeyboardInterrupt: As it came; its message says what has been kept.
    """
    model = job.loaded.module
    store = None
    if cache is not None and isinstance(criterion, CloudCriterion):
        store = open_store(Path(cache), model, criterion, job.data.fingerprint, maps=maps, resume=resume)
    try:
        return processes.from_main(
            lambda: score_groups(
                model,
                groups,
                criterion,
                job.calibration,
                resources=resources,
                maps=maps,
                store=store,
                progress=job.progress,
            )
        )
    except KeyboardInterrupt as error:
        if store is None:
            raise
        raise KeyboardInterrupt("the layers that are finished are kept; --resume continues from there") from error


def left_after_removal(
    job: Job, bare: nn.Module, cut: nn.Module, statistics: Statistics, before: Predictions
) -> dict[str, Any]:
    """What is left right after removal, and once BatchNorm has other statistics (the same where it kept its own)."""
    raw = job.evaluated(bare, "evaluating after removal")
    settled = job.evaluated(cut, "evaluating after re-estimation") if cut is not bare else raw
    return {
        "accuracy": raw.accuracy,
        "agreement": agreement(before, raw),
        "accuracy_recalibrated": settled.accuracy,
        "agreement_recalibrated": agreement(before, settled),
        "statistics": statistics,
    }


def swap(job: Job, model: nn.Module, activation: str | None) -> Swapped | None:
    """Topological activations in place of plain ones, at amplitude 0; ``None`` if none are asked for.

    Raises:
        ModelError: No activation of the network can be swapped.
    """
    return swap_activations(model, job.example) if activation == TOPOLOGICAL else None


def tune(
    job: Job,
    model: nn.Module,
    recipe: Recipe,
    *,
    teacher: nn.Module | None = None,
    cache: str | Path | None = None,
    resume: bool = False,
) -> FinetuneResult | None:
    """Fine-tune by a recipe from :func:`topocompress.training.step.fitted`; ``None`` if it has no epochs.

    Args:
        job: Its data is trained on.
        model: The pruned network.
        recipe: How.
        teacher: The unpruned network, to learn from; the job's own by default.
        cache: Folder where epochs are kept until the run is finished; nowhere if ``None``.
        resume: Continue from there.

    Raises:
        KeyboardInterrupt: As it came; its message says what has been kept.
    """
    if not recipe.epochs:
        return None
    original = job.loaded.module if teacher is None else teacher
    with job.timed("finetune"):
        folder = step.kept(cache, model, original, job.data, recipe, job.seed)
        if folder is not None:
            job.checkpoints.append(folder)
        return step.tuned(
            model,
            original,
            job.data,
            recipe,
            seed=job.seed,
            folder=folder,
            resume=resume,
            progress=job.progress,
        )


def run_controls(job: Job, plan: PruningPlan, groups: Sequence[ChannelGroup], scores: Scores) -> tuple[Control, ...]:
    """The same widths by L1 and at random: accuracy after BatchNorm re-estimation, before any fine-tuning."""
    found: dict[str, list[float]] = {}
    listened = explicit(job.loaded.module)
    for other in (*(Random(seed=job.seed + run) for run in range(_RANDOM_SEEDS)), L1()):
        if other.name == plan.criterion and not isinstance(other, Random):
            continue
        with job.timed("controls"):
            chosen = matched_plan(plan, groups, score_layers(listened, scores.layers, other))
            cut = job.recalibrated(apply(job.loaded.module, chosen, example=job.example), chosen).model
        predictions = job.evaluated(cut, f"evaluating the {other.name} control")
        if predictions.accuracy is not None:
            found.setdefault(other.name, []).append(predictions.accuracy)
    return tuple(Control(criterion=name, accuracies=tuple(values)) for name, values in found.items())
