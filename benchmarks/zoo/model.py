"""One network of ``python -m benchmarks.zoo``, in a process of its own.

    python -m benchmarks.zoo.model NAME [--data SOURCE] [--threads N]

Prints one JSON object per line: ``step`` when one begins, ``facts`` of the network, and a ``row`` per criterion.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import topocompress
from benchmarks.common.networks import estimate_statistics, relative_spread
from benchmarks.zoo.subject import Subject, build_subject, ordinary
from topocompress.criteria.registry import create
from topocompress.dependencies.groups import explicit
from topocompress.dependencies.heads import HeadAttention
from topocompress.deploy.export import export_onnx
from topocompress.deploy.latency import compare_latency
from topocompress.deploy.measurement import count_macs, count_parameters
from topocompress.errors import ExportError, TopocompressError
from topocompress.network.capture import Maps
from topocompress.network.inference import first_line
from topocompress.planning.plan import make_plan
from topocompress.runtime.resources import Resources
from topocompress.surgery.trial import prunable_groups
from topocompress.types import PruningPlan
from topocompress.workflows.single_steps import layer_costs, score_groups

RATIO = 0.3
CRITERIA = ("l1", "betti")
MINIMUM_SPREAD = 0.05
"""How much outputs must differ from image to image, relative to their size, for comparing them to say anything."""

PRUNED_SPREAD = 0.01
"""The same once filters are gone: ten times what the export check tolerates."""

MAP_SIZE = 8
"""Maps are averaged down to this many pixels a side for ``betti``, so that one pass over the images is enough."""

CLOUD_BYTES = 4 * 10**9
LATENCY_RUNS, LATENCY_SECONDS = 10, 20.0


class CheckFailedError(TopocompressError):
    """A pruned network is not what was planned."""


@dataclass(kw_only=True)
class Steps:
    """Tells what is being done, and keeps how long each took."""

    seconds: dict[str, float] = field(default_factory=dict)
    current: str = ""

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Name what the block does; the name stays if it fails."""
        self.current = name
        _say(step=name)
        started = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - started, 2)


def outputs_of(model: nn.Module, images: Tensor) -> Tensor:
    """(samples, classes)."""
    with torch.no_grad():
        found: Tensor = model(images)
    return found


def planned(subject: Subject, criterion: str) -> PruningPlan:
    """30 % of every group's filters."""
    scores = score_groups(
        subject.model,
        subject.groups,
        create(criterion),
        subject.calibration,
        resources=Resources(memory=CLOUD_BYTES, workers=subject.threads),
        maps=Maps(size=MAP_SIZE),
    )
    return make_plan(scores, subject.groups, layer_costs(subject.model, subject.example), ratio=RATIO)


def width_of(layer: nn.Module) -> int:
    """Output channels of a layer; the heads of an attention layer."""
    return layer.num_heads if isinstance(layer, HeadAttention) else len(layer.weight)  # type: ignore[arg-type]


def check(subject: Subject, plan: PruningPlan, smaller: nn.Module) -> dict[str, Any]:
    """What the pruned network is like.

    Raises:
        CheckFailedError: It is not what was planned, or its outputs are not those of a network.
    """
    layers = dict(explicit(smaller).named_modules())
    for group in plan.groups:
        for name, (_, kept) in {**group.filters, group.root: (group.width, group.kept)}.items():
            if (width := width_of(layers[name])) != kept:
                raise CheckFailedError(f"{name} has {width} channels, planned were {kept}")
    shape = outputs_of(subject.model, subject.example).shape[1:]
    outputs = outputs_of(smaller, subject.held_out)
    if outputs.shape[1:] != shape:
        raise CheckFailedError(f"outputs have the shape {tuple(outputs.shape[1:])}, it was {tuple(shape)}")
    if not torch.isfinite(outputs).all():
        raise CheckFailedError("outputs hold NaN or infinity")
    macs = count_macs(smaller, subject.example)
    if macs != plan.macs_after:
        raise CheckFailedError(f"it does {macs} multiply-accumulates, predicted were {plan.macs_after}")
    spread = relative_spread(outputs)
    if spread < PRUNED_SPREAD:
        raise CheckFailedError(f"outputs hardly differ from image to image: by {spread:.1e} of their size")
    return {"parameters": count_parameters(smaller), "macs": macs, "spread": spread}


def reload(subject: Subject, plan: PruningPlan, smaller: nn.Module, folder: Path) -> None:
    """Save, load in a new process and compare there.

    Raises:
        CheckFailedError: The loaded network cannot be built, or its outputs are others.
    """
    run = folder / "run"
    topocompress.save(
        run, smaller, plans=(plan,), preprocessing=subject.preprocessing, architecture=subject.architecture
    )
    np.save(folder / "inputs.npy", subject.held_out.numpy())
    np.save(folder / "outputs.npy", outputs_of(smaller, subject.held_out).numpy())
    files = [os.fspath(folder / name) for name in ("run", "inputs.npy", "outputs.npy")]
    command = [sys.executable, "-m", "benchmarks.zoo.load", *files, str(subject.threads)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise CheckFailedError(lines[-1])


def examine(subject: Subject, criterion: str, folder: Path) -> dict[str, Any]:
    """Prune by one criterion and check everything; the row of the table, with the failure if there is one."""
    row: dict[str, Any] = {"criterion": criterion}
    steps = Steps()
    try:
        with steps.step(f"{criterion}: score and plan"):
            plan = planned(subject, criterion)
            row |= {"groups": _groups(plan), "removed": plan.removed}
        with steps.step(f"{criterion}: remove"):
            smaller = topocompress.apply(subject.model, plan, example=subject.example)
            estimate_statistics(smaller, subject.estimation)
            subject.held_out = ordinary(smaller, subject.candidates)
        with steps.step(f"{criterion}: check"):
            row |= check(subject, plan, smaller)
        with steps.step(f"{criterion}: save and load"):
            reload(subject, plan, smaller, folder)
            row["reloaded"] = "bit-equal"
        with steps.step(f"{criterion}: export"):
            file = folder / "pruned.onnx"
            found = export_onnx(smaller, file, samples=subject.held_out)
            row["parity"] = found.max_rel
            row["top1_agreement"] = found.top1_agreement
        with steps.step(f"{criterion}: latency"):
            row["latency_ms"] = latencies(subject, file)
    except Exception as error:  # noqa: BLE001 - whatever goes wrong is the finding
        row["failure"] = failure(steps.current, error)
    return {**row, "seconds": steps.seconds}


def latencies(subject: Subject, pruned: Path) -> list[float | None]:
    """Median milliseconds at batch 1 in ONNX Runtime before and after, timed side by side."""
    files = [file for file in (subject.exported, pruned) if file]
    found = compare_latency(
        files,
        sample=subject.example.numpy(),
        batch_sizes=(1,),
        runs=LATENCY_RUNS,
        warmup=2,
        threads=subject.threads,
        max_seconds=LATENCY_SECONDS,
    )
    medians = [round(each.median_ms, 3) for (each,) in found]
    return medians if len(medians) == 2 else [None, *medians]


def failure(step: str, error: BaseException) -> dict[str, str]:
    """The step that failed and one line of why."""
    text = error.what if isinstance(error, TopocompressError) else f"{type(error).__name__}: {first_line(error)}"
    return {"step": step, "error": text.splitlines()[0][:300]}


def _groups(plan: PruningPlan) -> dict[str, Any]:
    kept: dict[str, list[str]] = {}
    for group in plan.groups:
        if group.protected:
            kept.setdefault(group.protected, []).append(group.root)
    whole = [group.root for group in plan.groups if not group.protected and not group.remove]
    return {"pruned": sum(1 for group in plan.groups if group.remove), "kept": kept, "too_narrow": whole}


def _say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


def run(name: str, *, source: str | None, threads: int, folder: Path) -> None:
    """Everything, told line by line."""
    steps = Steps()
    facts: dict[str, Any] = {}
    try:
        with steps.step("build"):
            subject = build_subject(name, source=source, threads=threads, folder=folder)
            spread = relative_spread(outputs_of(subject.model, subject.held_out))
            facts |= {
                "input": list(subject.preprocessing.input_shape),
                "samples": sum(len(images) for images, _ in subject.calibration),
                "parameters": count_parameters(subject.model),
                "macs": count_macs(subject.model, subject.example),
                "spread": spread,
            }
            if spread < MINIMUM_SPREAD:
                raise CheckFailedError(f"outputs hardly differ from image to image: by {spread:.1e} of their size")
        with steps.step("group"):
            subject.groups = prunable_groups(subject.model, subject.example)
        with steps.step("export"):
            file = folder / "original.onnx"
            try:
                export_onnx(subject.model, file, samples=subject.held_out)
                subject.exported = file
            except ExportError as error:  # then only the pruned network's latency can be measured
                facts["not_exported"] = error.what.splitlines()[0]
    except Exception as error:  # noqa: BLE001 - whatever goes wrong is the finding
        _say(facts={**facts, "seconds": steps.seconds, "failure": failure(steps.current, error)})
        return
    _say(facts={**facts, "seconds": steps.seconds})
    for criterion in CRITERIA:
        with tempfile.TemporaryDirectory(dir=folder) as part:
            _say(row=examine(subject, criterion, Path(part)))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("--data", default=None, help="images as topocompress takes them")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        run(args.name, source=args.data, threads=args.threads, folder=Path(folder))


if __name__ == "__main__":
    main()
