"""What a finished run says: measurements, checks, controls, the report. Frozen, inert, plain data for JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Inference time of one batch.

    Attributes:
        batch: Samples per inference.
        median_ms: Median over the runs, milliseconds.
        p95_ms: 95th percentile, milliseconds.
        runs: Counted runs, after warm-up.
        times_ms: Each of them, milliseconds rounded to 0.001, in order.
    """

    batch: int
    median_ms: float
    p95_ms: float
    runs: int
    times_ms: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class NodeTimes:
    """Where the time of one inference goes.

    Attributes:
        layers: Convolution or linear layer → milliseconds.
        layout: Milliseconds spent on changes of memory layout between layers.
        rest: Milliseconds of everything else.
    """

    layers: Mapping[str, float]
    layout: float
    rest: float


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One side of the before/after table.

    Attributes:
        parameters: Number of parameters, frozen ones included.
        macs: Multiply-accumulates of convolutions, linear layers and attention for one sample.
        file_bytes: Size of the ONNX file, bytes; ``None`` if not exported.
        accuracy: Top-1 accuracy in 0..1 on held-out samples; ``None`` without labels.
        agreement: Share in 0..1 of held-out samples on which the top-1 class equals the original model's, or of boxes
            that both find; ``None`` where outputs are neither.
        explained_variation: Of outputs that are neither: how much of the variation of the original's outputs over the
            held-out samples the model's explain (R²), 0..1; of several outputs the least. ``None`` for other models.
        outputs: The same of each output by its name, where there are several.
        metric: The user's own metric on the held-out samples, the higher the better; ``None`` without one.
        latency: Inference times in ONNX Runtime, one per batch size.
        peak_bytes: Peak resident memory of a fresh process that runs the ONNX file once, bytes; ``None`` if this
            system does not tell.
    """

    parameters: int
    macs: int
    file_bytes: int | None = None
    accuracy: float | None = None
    agreement: float | None = None
    explained_variation: float | None = None
    outputs: Mapping[str, float] = field(default_factory=dict)
    metric: float | None = None
    latency: tuple[Latency, ...] = ()
    peak_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class ExportCheck:
    """How closely ONNX Runtime follows PyTorch on real samples.

    Attributes:
        samples: Number of samples compared.
        max_abs: Largest absolute difference of any output.
        max_rel: ``max_abs`` divided by the largest absolute PyTorch output.
        top1_agreement: Share in 0..1 of samples with the same top-1 class; of a detector, of boxes that both find;
            ``None`` where outputs are neither.
        opset: ONNX opset of the file.
        stability: Share in 0..1 of a detector's boxes that PyTorch alone finds again in images with 1e-5 of noise;
            ``None`` for other networks.
    """

    samples: int
    max_abs: float
    max_rel: float
    top1_agreement: float | None
    opset: int
    stability: float | None = None


@dataclass(frozen=True, kw_only=True)
class Refit:
    """One layer fitted anew to what it gave before removal.

    Attributes:
        layer: Its name.
        before: Mean square error of its outputs on samples held out, over their variance, with the weights it had.
        after: The same with those it has now.
        ridge: How strongly the new weights are held near the old ones; ``None`` where the old ones stay.
    """

    layer: str
    before: float
    after: float
    ridge: float | None


@dataclass(frozen=True, kw_only=True)
class Control:
    """Another choice of as many channels per group, for comparison, before any fine-tuning.

    Attributes:
        criterion: How the channels were chosen.
        accuracies: Top-1 accuracy in 0..1, one per seed; of chance a single one where more draws would tell nothing.
        error: Standard error, as a share of 1, of how far the accuracy of what the plan left is ahead; the largest of
            the seeds. ``None`` where it is not known, as of the user's metric.
    """

    criterion: str
    accuracies: tuple[float, ...]
    error: float | None = None

    @property
    def mean(self) -> float:
        """Mean accuracy over the seeds."""
        return float(np.mean(self.accuracies))

    @property
    def drawn_once(self) -> bool:
        """Whether it is chance and was drawn but once: see :func:`topocompress.planning.confidence.drawn_enough`."""
        return self.criterion == "random" and len(self.accuracies) == 1


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One try of the search for a budget.

    Attributes:
        macs: Share of the original's multiply-accumulates that the try leaves, 0..1.
        value: What it reaches, in the budget's unit.
        met: Whether that is within the budget; of accuracy, whether ``upper`` is.
        upper: Upper end of its confidence interval, where it is accuracy measured on samples.
    """

    macs: float
    value: float
    met: bool
    upper: float | None = None


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a result had to stay within, and how it was found.

    Attributes:
        option: Command-line option, such as ``--target-latency``.
        limit: What was asked for, in the option's unit: points, a share of the original's latency, or bytes.
        probes: Every try, in order. Of those that met the budget the smallest network was taken where it is accuracy,
            else the largest.
        samples: Samples that judged the tries; 0 where none were needed.
        apart: Whether those are others than the held-out ones, on which the result is measured.
        stepped_back: How many of the networks that met it were given up for a larger one, since the held-out samples
            showed more lost.
        kept: Whether the result, as measured in the end, is within it.
    """

    option: str
    limit: float
    probes: tuple[Probe, ...]
    samples: int = 0
    apart: bool = False
    stepped_back: int = 0
    kept: bool = True


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """The pruned network with weights and activations of 8 bits, or of 16.

    Attributes:
        measurement: Of its ONNX file, measured in the same run as the other two.
        kept: Whether it is faster at batch 1 than the pruned network in 32 bits; its file is written all the same.
        message: What to think of it, in one sentence.
    """

    measurement: Measurement
    kept: bool
    message: str


FEWER_BITS = {"INT8": "quantized", "FP16": "half"}
"""What the files in fewer bits are called → the field of a :class:`Delivery` or :class:`Report` that has them."""


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """What was written, and how it compares.

    Attributes:
        before: The original.
        after: The finished network.
        export: ONNX parity of the finished network.
        quantized: The finished network in INT8; ``None`` where it was not asked for, or failed.
        half: The same in FP16.
        slow: What holds the finished network back, if it is slower than its multiply-accumulates promise.
        failed: Why there is no INT8 or FP16 file, where one was asked for.
    """

    before: Measurement
    after: Measurement
    export: ExportCheck
    quantized: Quantized | None = None
    half: Quantized | None = None
    slow: str = ""
    failed: str = ""


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything a run says about itself; ``report.json`` is this, field by field.

    Attributes:
        model: ``source``, ``architecture``, ``fingerprint`` and ``preprocessing``.
        data: ``source``, ``labelled``, sample counts per use, ``note``, ``skipped`` and ``fingerprint``; ``trained_on``
            says whether the network was trained on the held-out ones, if anybody has; ``measure`` is what is judged by
            (``accuracy``, ``agreement`` or ``explained_variation``), ``compared_by`` says in words how outputs are
            compared with the original's.
        scoring: Criterion, settings, samples, and per-layer quartiles.
        plan: Rule, channels before and after, channels removed, dead ones, and one row per group with the scores of its
            units and which of them went.
        before: The original model.
        removed: The measures right after removal, and once BatchNorm has other statistics (``_recalibrated``),
            both before fine-tuning; ``statistics`` says whether these were ``re-estimated`` on the calibration samples,
            ``matched`` (corrected for what removal changed) or ``kept``.
        after: The finished model.
        export: ONNX parity of the finished model.
        quantized: The finished model in INT8, if asked for.
        half: The finished model in FP16, if asked for.
        budget: What the result had to stay within, if it was found by trying.
        controls: The same widths chosen otherwise, accuracy comparable with ``removed``.
        finetune: Settings, what chose the best epoch, and per-epoch history; empty if there was none.
        warnings: Sentences the user must not miss.
        notes: What was taken for granted, how samples were read, and how the criterion did: nothing to act on.
        advice: ``(what, command)`` in the order in which to try them, where the measure fell too far.
        faster: The same where the file is not as much faster as it has fewer multiply-accumulates.
        environment: Versions, machine, threads, seed, command, seconds per step.
    """

    model: Mapping[str, Any]
    data: Mapping[str, Any]
    scoring: Mapping[str, Any]
    plan: Mapping[str, Any]
    before: Measurement
    removed: Mapping[str, Any]
    after: Measurement
    export: ExportCheck
    quantized: Quantized | None = None
    half: Quantized | None = None
    budget: Budget | None = None
    controls: tuple[Control, ...] = ()
    finetune: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    advice: tuple[tuple[str, str], ...] = ()
    faster: tuple[tuple[str, str], ...] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)


def in_fewer_bits(found: Delivery | Report) -> dict[str, Quantized]:
    """The finished network in fewer bits, where that was asked for and there is a file: ``INT8`` or ``FP16`` → it."""
    return {kind: each for kind, name in FEWER_BITS.items() if (each := getattr(found, name)) is not None}
