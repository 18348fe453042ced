"""One model, its samples, and what is asked of them: what every step of a job takes."""

from __future__ import annotations

import contextlib
import functools
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn
from torch.utils.data import Dataset

from topocompress.data.image_sizes import common_size
from topocompress.data.loading import Data
from topocompress.data.looking import check_seen
from topocompress.deploy.measurement import Predictions, count_macs, likeness
from topocompress.deploy.metadata import metadata_of, write_metadata
from topocompress.errors import DataError
from topocompress.models.factories import load_factory
from topocompress.models.loading import LoadedModel, fingerprint
from topocompress.network.capture import Batches
from topocompress.network.inference import check_steady, device_of
from topocompress.network.outputs import Outputs
from topocompress.network.task import Loss, Metric, name_of
from topocompress.runtime.arguments import check_seed
from topocompress.runtime.progress import Progress, silent
from topocompress.runtime.resources import cpu_seconds, give_back
from topocompress.training import processes
from topocompress.training.step import fitted
from topocompress.workflows.defaults import judges_for
from topocompress.workflows.opening import open_model
from topocompress.workflows.options import Recovery, Removal, Scoring
from topocompress.workflows.own_modules import own_module
from topocompress.workflows.passes import Passes, Use
from topocompress.workflows.samples import open_data, outputs_with
from topocompress.workflows.sampling import check_judges, no_accuracy, scaled


@dataclass(kw_only=True)
class Job:
    """Everything the steps share.

    Attributes:
        loaded: The model; not changed.
        data: Its samples.
        seed: Seed of everything random.
        progress: Called as ``progress(step, done, total)``.
        removal: What to remove.
        scoring: How to score; its criterion is an instance.
        recovery: How to recover.
        cache: Folder where scores and, until the run is finished, epochs are kept; nowhere if ``None``.
        resume: Continue what an interrupted run has left there.
        opset: Version of ONNX's operators in its files; the exporter's own choice if ``None``.
        seconds: What each step has taken so far.
        cpu_seconds: The same in processor time, of all processes that worked for it.
        checkpoints: Folders of epochs kept for this run.
    """

    loaded: LoadedModel
    data: Data
    seed: int = 0
    progress: Progress = silent
    removal: Removal = field(default_factory=Removal)
    scoring: Scoring = field(default_factory=Scoring)
    recovery: Recovery = field(default_factory=Recovery)
    cache: str | Path | None = None
    resume: bool = False
    opset: int | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    cpu_seconds: dict[str, float] = field(default_factory=dict)
    checkpoints: list[Path] = field(default_factory=list)

    @property
    def model(self) -> nn.Module:
        """The network."""
        return self.loaded.module

    @property
    def example(self) -> Tensor:
        """(1, C, H, W): the first calibration sample, on the model's device."""
        image, _ = self.data.calibration[0]
        return image[None].to(device_of(self.model))

    @functools.cached_property
    def outputs(self) -> Outputs:
        """What of the outputs is compared with the original's, and how."""
        return outputs_with(self.loaded, self.data)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the outputs, from labelled data or with the weights; empty where they are not known."""
        return (self.data.classes if self.data.labelled else ()) or self.loaded.classes

    @property
    def measure(self) -> str:
        """What is judged by: the user's ``metric``, ``accuracy``, or without labels what outputs are compared by."""
        if self.metric is not None:
            return "metric"
        return "accuracy" if self.data.labelled else self.outputs.measure

    @property
    def judged_by(self) -> str:
        """The same, the user's metric by its name."""
        return self.measure if self.metric is None else name_of(self.metric)

    @functools.cached_property
    def metric(self) -> Metric | None:
        """The user's own metric."""
        return cast("Metric | None", named(self.recovery.metric))

    @functools.cached_property
    def loss(self) -> Loss | None:
        """The user's own loss."""
        return cast("Loss | None", named(self.recovery.loss))

    @functools.cached_property
    def macs(self) -> int:
        """Multiply-accumulates of the network for one sample."""
        return count_macs(self.model, self.example)

    @functools.cached_property
    def passes(self) -> Passes:
        """Its samples in batches, and what networks say of them."""
        return Passes(self.model, self.data, lambda: self.outputs, lambda: self.macs, metric=self.metric)

    @property
    def calibration(self) -> Batches:
        """The calibration samples in batches, the same at every pass."""
        return self.passes.calibration

    @contextlib.contextmanager
    def timed(self, step: str, *, traces: bool = False) -> Iterator[None]:
        """Add the seconds spent inside to the step's, by the clock and of the processors, and free what it leaves.

        Args:
            step: Under which they count.
            traces: Whether it leaves traced networks behind, whose graphs refer to themselves.
        """
        started, taken = time.perf_counter(), cpu_seconds()
        yield
        give_back(cycles=traces)
        for kept, spent in ((self.seconds, time.perf_counter() - started), (self.cpu_seconds, cpu_seconds() - taken)):
            kept[step] = round(kept.get(step, 0.0) + spent, 2)

    def evaluated(self, model: nn.Module, what: str) -> Predictions:
        """Predictions on the held-out samples."""
        with self.timed("evaluate"):
            return processes.from_main(
                lambda: self.passes.said(
                    model, "evaluation", progress=lambda done, total: self.progress(what, done, total)
                )
            )

    def likeness(self, model: nn.Module, *, held_out: bool = False) -> float:
        """How much like the job's own a network answers on the samples that choose a way of repair, at most 1.

        See :func:`topocompress.deploy.measurement.likeness`.

        Args:
            model: The network.
            held_out: Count only the samples that reconstruction holds out.
        """
        use: Use = "held out" if held_out else "choice"
        return processes.from_main(lambda: likeness(*(self.passes.said(each, use) for each in (self.model, model))))

    def explained(self, model: nn.Module) -> float:
        """How much of the variation of the job's own outputs a network's explain on the samples held out, at most 1.

        Also where the outputs are scores of classes: of few samples it tells more than which score is the highest. Of
        detectors it is the share of boxes.
        """
        compared = replace(self.outputs, measure="explained_variation")
        both = self.model, model
        return processes.from_main(
            lambda: likeness(*(self.passes.said(each, "held out", outputs=compared) for each in both))
        )

    def describe_file(self, path: Path, model: nn.Module) -> None:
        """Write into the ONNX file of a network how it is fed and what its classes are called."""
        write_metadata(path, metadata_of(fingerprint(model), self.loaded.preprocessing, self.class_names))

    def forget_checkpoints(self) -> None:
        """Remove the epochs kept for a run that is finished."""
        for folder in self.checkpoints:
            shutil.rmtree(folder, ignore_errors=True)


def named(function: Callable[..., Any] | str | None) -> Any:
    """A metric or a loss; imported where it is named."""
    return load_factory(function, DataError) if isinstance(function, str) else function


def open_job(
    model: LoadedModel | nn.Module | str | Path,
    data: Data | Dataset[Any] | str | None,
    *,
    scoring: Scoring,
    recovery: Recovery,
    seed: int,
    **options: Any,
) -> Job:
    """Load what is not loaded yet; see that labels can be held against the network's outputs, and be learned from.

    Args:
        model: Anything :func:`open_model` takes, a loaded model, or a module of the caller's own with loaded data.
        data: A data source, a dataset, loaded data, or ``None`` for photographs.
        scoring: How to score.
        recovery: How to recover.
        seed: Seed of everything random.
        options: The other fields of the :class:`Job`.

    Raises:
        TopocompressError: One of them is not usable.
    """
    check_seed(seed)
    images = None if isinstance(data, Data) else functools.partial(common_size, data)
    if isinstance(model, nn.Module):
        if not isinstance(data, Data | Dataset):
            raise DataError("a module of your own needs loaded data", hint="Use topocompress.data.load_data.")
        known = isinstance(data, Data) and data.preprocessing is not None
        first = (data.calibration if isinstance(data, Data) else data)[0][0]
        loaded = own_module(model, first, known=known, images=images)
    else:
        loaded = model if isinstance(model, LoadedModel) else open_model(model, images=images)
    load: dict[str, Any] = {}
    if not isinstance(data, Data):
        load.update(samples=scoring.samples, judging=judges_for(options.get("removal", Removal())))
        load.update(seed=seed, targets=bool(recovery.metric or recovery.loss))
    loaded, data = open_data(loaded, data, classes=scoring.classes, unlabelled=scoring.unlabelled, **load)
    if data.preprocessing is not None:  # how its images were prepared, whatever the model would have had
        loaded = replace(loaded, preprocessing=data.preprocessing)
    elif not data.pixels:  # of the caller's making
        odd = check_seen(data.calibration, loaded.preprocessing, data.source, ready=True)
        data = replace(data, pixels=odd)
    job = Job(loaded=loaded, data=data, seed=seed, scoring=scoring, **options)
    job.removal = scaled(job.removal, data)
    check_steady(job.model, job.example)
    job.recovery = recovery
    _ = job.metric, job.loss  # what cannot be imported is refused here
    if job.removal.max_accuracy_drop is not None and not job.data.labelled:
        raise no_accuracy(job.data)
    if job.removal.max_accuracy_drop is not None:
        check_judges(job.data, job.removal.max_accuracy_drop)
    job.recovery = replace(
        recovery, finetune=fitted(recovery.finetune, job.model, job.data, own_loss=job.loss is not None)
    )
    return job
