"""What is done with one network, in a process of its own, and then in another that loads what was saved.

It prints JSON, a line for each thing as it is known: ``facts`` of the network, ``ours`` and ``theirs``;
where torch-pruning leaves less, also ``alike``: MACs that ours leaves at its widths.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import topocompress
from benchmarks.networks_of_others.building import build
from benchmarks.networks_of_others.setting import SEED, ratio_of
from benchmarks.networks_of_others.summary import worse
from benchmarks.networks_of_others.table import TABLE
from benchmarks.networks_of_others.theirs import by_torch_pruning
from topocompress.criteria.registry import create
from topocompress.deploy.export import export_onnx
from topocompress.deploy.measurement import count_macs, count_parameters
from topocompress.errors import TopocompressError
from topocompress.network.inference import all_outputs, first_line
from topocompress.planning.plan import make_plan
from topocompress.planning.rules import Limits
from topocompress.surgery.trial import prunable_groups
from topocompress.types import Architecture, ChannelGroup, GroupPlan, Preprocessing
from topocompress.workflows.single_steps import layer_costs, score_groups

BUILDER = "benchmarks.networks_of_others.building:build"


def by_us(model: nn.Module, name: str, example: Tensor, images: Tensor, folder: Path) -> dict[str, Any]:
    """Prune, and check all that is promised; what failed, and where, if something did.

    Args:
        model: The network; left as it was.
        name: Its name in the table.
        example: (1, ...) what it is followed with.
        images: (4, ...) what outputs are compared on.
        folder: For files.
    """
    row: dict[str, Any] = {}
    step, started = "groups", time.perf_counter()
    try:
        groups = prunable_groups(model, example, linear=True)
        row |= {"kept": _kept(groups)}
        step = "plan"
        scores = score_groups(model, groups, create("l1"), [(images, torch.zeros(len(images), dtype=torch.long))])
        limits = Limits(round_to=1)  # widths by the ratio alone, as torch-pruning's
        plan = make_plan(scores, groups, layer_costs(model, example), ratio=ratio_of(name), limits=limits)
        step = "removal"
        smaller = topocompress.apply(model, plan, example=example)
        row |= {"macs": count_macs(smaller, example), "predicted": plan.macs_after}
        row |= {"parameters": count_parameters(smaller), "seconds": round(time.perf_counter() - started, 1)}
        step = "save"
        _save(smaller, name, plan, images, folder)
        step = "onnx"
        row["parity"] = export_onnx(smaller, folder / "pruned.onnx", samples=images).max_rel
    except Exception as error:  # noqa: BLE001 - whatever goes wrong is the finding
        why = error.what if isinstance(error, TopocompressError) else f"{type(error).__name__}: {first_line(error)}"
        row["failure"] = {"step": step, "error": why.splitlines()[0][:300]}
    return row


def at_widths(model: nn.Module, name: str, example: Tensor, widths: Mapping[str, int]) -> int:
    """MACs left where every group goes down to the width that torch-pruning left of its root.

    Args:
        model: The network; left as it was.
        name: Its name in the table.
        example: (1, ...) what it is followed with.
        widths: Layer → filters left.
    """
    groups, costs = prunable_groups(model, example, linear=True), layer_costs(model, example)
    scores, limits = score_groups(model, groups, create("l1"), None), Limits(round_to=1)
    plan = make_plan(scores, groups, costs, ratio=ratio_of(name), limits=limits)
    entries = []
    for entry, group in zip(plan.groups, groups, strict=True):
        gone = 1 - widths.get(group.root, group.width) / group.width
        if group.root not in widths or group.protected:
            entries.append(entry)
        elif gone > 0:
            entries += make_plan(scores, [group], costs, ratio=gone, limits=limits).groups
        else:
            entries.append(GroupPlan(root=group.root, width=group.width, part=group.part))
    return count_macs(topocompress.apply(model, replace(plan, groups=tuple(entries)), example=example), example)


def _kept(groups: tuple[ChannelGroup, ...]) -> dict[str, list[str]]:
    """Reason → the layers that stay for it."""
    kept: dict[str, list[str]] = {}
    for group in groups:
        if group.protected:
            kept.setdefault(group.protected, []).append(group.root)
    return kept


def _save(smaller: nn.Module, name: str, plan: Any, images: Tensor, folder: Path) -> None:
    """Save a run, and what it computes."""
    topocompress.save(
        folder / "run",
        smaller,
        plans=(plan,),
        preprocessing=Preprocessing(input_shape=tuple(images.shape[1:]), mean=(0.0,), std=(1.0,)),
        architecture=Architecture(kind="factory", name=BUILDER, options={"name": name}),
    )
    with torch.no_grad():
        outputs = all_outputs(smaller(images))
    np.savez(folder / "seen.npz", images.numpy(), *(each.numpy() for each in outputs))


def reload(name: str, folder: Path) -> None:
    """What another process saved is loaded, and compared bit for bit.

    Raises:
        ValueError: The outputs are others.
    """
    model = topocompress.load(folder / "run", arch=build, arch_args={"name": name})
    with np.load(folder / "seen.npz") as seen:
        images, *expected = (seen[key] for key in seen.files)
    with torch.no_grad():
        actual = [each.numpy() for each in all_outputs(model(torch.from_numpy(images)))]
    if [each.tobytes() for each in actual] != [each.tobytes() for each in expected]:
        raise ValueError("loaded again, the outputs are others")


def work(name: str, folder: Path) -> None:
    """Everything on one network, told line by line."""
    warnings.simplefilter("ignore")
    model = build(name)
    generator = torch.Generator().manual_seed(SEED)
    images = torch.randn(4, *TABLE[name].shape, generator=generator)
    row: dict[str, Any] = {"ratio": ratio_of(name)}
    row["facts"] = {"macs": count_macs(model, images[:1]), "parameters": count_parameters(model)}
    _say(facts=row["facts"])
    row["ours"] = by_us(model, name, images[:1], images, folder)
    _say(ours=row["ours"])
    started = time.perf_counter()
    found = by_torch_pruning(model, images[:1], ratio_of(name))
    widths = found.pop("widths", {})
    row["theirs"] = {**found, "seconds": round(time.perf_counter() - started, 1)}
    _say(theirs=row["theirs"])
    if worse(row):
        _say(alike=at_widths(model, name, images[:1], widths))


def _say(**what: Any) -> None:
    print(json.dumps(what), flush=True)
