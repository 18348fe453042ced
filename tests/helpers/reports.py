"""Reports made up by hand: a bare one, and one with everything that a run can say."""

from dataclasses import replace

import numpy as np

from topocompress.types import Budget, Control, ExportCheck, Latency, Measurement, Probe, Quantized, Report

HOSTILE = '</script><img src=x onerror="window.attacked = 1">|`${1}`'
"""A layer name as nobody should call a layer."""


def latency(batch, median):
    return Latency(batch=batch, median_ms=median, p95_ms=median * 1.5, runs=30)


def report(**changes):
    settings = {
        "model": {"source": "model.pt", "architecture": {"name": "resnet18"}, "fingerprint": "sha256:1"},
        "data": {
            "source": "digits",
            "labelled": True,
            "samples": {"calibration": 1000, "train": 400, "evaluation": 397},
            "note": "",
            "stand_in": False,
        },
        "scoring": {"criterion": "betti"},
        "plan": {
            "criterion": "betti",
            "channels_before": 96,
            "channels_removed": 24,
            "dead_removed": 3,
            "groups": [
                {"root": "stem.0", "before": 32, "after": 16, "asked": 20, "dead": 3, "kept_because": ""},
                {"root": "head", "before": 10, "after": 10, "asked": 0, "dead": 0, "kept_because": "feeds the output"},
            ],
        },
        "before": Measurement(
            parameters=11_170_000,
            macs=1_820_000_000,
            file_bytes=44_700_000,
            accuracy=0.9,
            agreement=1.0,
            latency=(latency(1, 8.0), latency(8, 40.0)),
            peak_bytes=120_000_000,
        ),
        "removed": {"accuracy": 0.5, "accuracy_recalibrated": 0.61, "agreement": 0.55, "agreement_recalibrated": None},
        "after": Measurement(
            parameters=5_585_000,
            macs=700_000,
            file_bytes=999,
            accuracy=0.875,
            agreement=0.934,
            latency=(latency(1, 4.0), latency(8, 50.0)),
        ),
        "export": ExportCheck(samples=64, max_abs=1.5e-6, max_rel=2.5e-7, top1_agreement=1.0, opset=18),
    }
    return Report(**{**settings, **changes})


def times(batch, centre, seed):
    found = np.round(centre * (1 + 0.1 * np.random.default_rng(seed).standard_exponential(30)), 3)
    median, p95 = np.percentile(found, (50, 95))
    return Latency(batch=batch, median_ms=float(median), p95_ms=float(p95), runs=30, times_ms=tuple(found.tolist()))


def group(root, before, after, scores, dead=(), **changes):
    order = sorted(range(before), key=lambda unit: (unit not in dead, -scores[unit]))
    row = {
        "root": root,
        "before": before,
        "after": after,
        "asked": sum(score > 300 for score in scores),
        "dead": len(dead),
        "coupled": [root, f"{root}.norm"],
        "kept_because": "",
        "units": {
            "layers": [root],
            "scores": scores,
            "removed": sorted(order[: before - after]),
            "dead": sorted(dead),
        },
    }
    return {**row, **changes}


def full_report(**changes):
    """Pruned by Betti number within a budget in two iterations, fine-tuned, in 8 and 16 bits, with hostile names."""
    draw = np.random.default_rng(0)
    spread = [np.round(draw.normal(260, 60, width), 1).tolist() for width in (32, 64, 64)]
    spread[0][5] = 1.0
    groups = [
        group("stem.0", 32, 24, spread[0], dead=(5,)),
        group(f"stage.{'inner.' * 12}conv", 64, 48, spread[1]),
        group(HOSTILE, 64, 64, spread[2]),
        {**group("head", 10, 10, [0.0] * 10, kept_because="feeds the output"), "units": {}, "asked": 0},
    ]
    history = [
        {
            "iteration": iteration,
            "epoch": epoch,
            "loss": None if epoch == 0 else 1.5 / (epoch + iteration),
            "validation_loss": 1.8 / (epoch + iteration),
            "accuracy": 1 - 0.5 / (epoch + iteration),
            "lr": 0.01 * epoch / 3,
            "seconds": 1.25,
        }
        for iteration in (1, 2)
        for epoch in range(4)
    ]
    before = replace(report().before, latency=(times(1, 8.0, 1), times(8, 40.0, 2)))
    after = replace(
        report().after,
        macs=700_000_000,
        file_bytes=17_200_000,
        latency=(times(1, 5.0, 3), times(8, 45.0, 4)),
        peak_bytes=99_000_000,
    )
    small = replace(
        after, file_bytes=4_470_000, accuracy=0.861, agreement=0.91, latency=(times(1, 3.0, 5), times(8, 30.0, 6))
    )
    half = replace(
        after, file_bytes=8_940_000, accuracy=0.873, agreement=0.933, latency=(times(1, 6.0, 7), times(8, 50.0, 8))
    )
    settings = {
        "scoring": {
            "criterion": "betti",
            "higher": "remove",
            "settings": {"scale": "quantile:0.2", "dimensions": [0, 1]},
            "samples": 1000,
            "layers": [],
        },
        "plan": {
            "criterion": "betti",
            "rule": {"max_betti": 300, "max_ratio": 0.5, "round_to": "auto"},
            "channels_before": 160,
            "channels_removed": 24,
            "dead_removed": 1,
            "groups": groups,
        },
        "before": before,
        "removed": {"accuracy": 0.5, "accuracy_recalibrated": 0.61, "agreement": 0.5, "agreement_recalibrated": 0.6},
        "after": after,
        "quantized": Quantized(measurement=small, kept=True, message="INT8 is 1.67 times as fast at batch 1."),
        "half": Quantized(measurement=half, kept=False, message="FP16 is 1.2 times slower."),
        "budget": Budget(
            option="--target-latency",
            limit=0.7,
            probes=(
                Probe(macs=0.5, value=0.8, met=False),
                Probe(macs=0.25, value=0.55, met=True),
                Probe(macs=0.38, value=0.66, met=True),
            ),
        ),
        "controls": (
            Control(criterion="random", accuracies=(0.55, 0.58, 0.52)),
            Control(criterion="l1", accuracies=(0.64,)),
        ),
        "finetune": {
            "epochs": 3,
            "lr": 0.01,
            "iterations": 2,
            "best_epoch": 3,
            "validation_samples": 40,
            "history": history,
        },
        "warnings": ("On this model l1 pruning did as well.", f"The layer {HOSTILE} is odd."),
        "advice": (("Fine-tune for 6 epochs instead", "topocompress prune model.pt --finetune 6"),),
        "faster": (("Keep multiples of 8 channels", "topocompress prune model.pt --round-to 8"),),
        "environment": {
            "python": "3.11.7",
            "versions": {"topocompress": "0.1.0", "torch": "2.15.0"},
            "system": "Linux",
            "processor": "A Processor",
            "cores": 2,
            "threads": 1,
            "seed": 7,
            "command": ["prune", "model.pt", "--max-betti", "300", "--out", "my run"],
            "seconds": {"score": 1.5, "finetune": 12.25},
        },
    }
    return report(**{**settings, **changes})


def metric_report(values=(31.2, 22.5, 24.0, 29.9), name="psnr", **changes):
    """The same, judged by a metric with a scale of its own: before, after removal, with new statistics, at the end."""
    full = full_report()
    first, removed, settled, last = values
    history = [{**row, "accuracy": last - 0.2 * abs(last) * row["validation_loss"]} for row in full.finetune["history"]]
    measured = {key: value for key, value in full.removed.items() if not key.startswith("agreement")}
    settings = {
        "data": {**full.data, "measure": "metric", "metric": name},
        "before": replace(full.before, metric=first),
        "removed": {**measured, "metric": removed, "metric_recalibrated": settled},
        "after": replace(full.after, metric=last),
        "quantized": None,
        "half": None,
        "controls": (Control(criterion="random", accuracies=(removed, settled)),),
        "finetune": {**full.finetune, "measure": "metric", "history": history},
    }
    return full_report(**{**settings, **changes})
