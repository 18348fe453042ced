"""The command of ``benchmarks.sampling``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr
from torch.utils.data import Subset

from benchmarks import sampling
from benchmarks.arena.setting import CHAINS, NETWORKS, SOURCES, Setting, opened
from benchmarks.common.commands import add_places, parser_of
from benchmarks.common.results import Results, kept
from benchmarks.sampling.summary import table
from topocompress.criteria.registry import create
from topocompress.data.loading import STAND_IN, batches, load_data
from topocompress.errors import PlanError
from topocompress.models.loading import load_model
from topocompress.network.capture import Maps
from topocompress.planning.plan import make_plan
from topocompress.planning.rules import Limits
from topocompress.runtime.resources import Resources, cpu_seconds
from topocompress.surgery.removal import apply
from topocompress.surgery.trial import prunable_groups
from topocompress.types import PruningPlan, Scores
from topocompress.workflows.job import Job
from topocompress.workflows.options import Recovery
from topocompress.workflows.repair import repair
from topocompress.workflows.selecting import suited
from topocompress.workflows.single_steps import layer_costs, score_groups

KNOWN = {**NETWORKS, **CHAINS}
RATIO, REFITTED = 0.25, 500
WAYS: Mapping[str, tuple[float, int | None, int]] = {
    "yardstick": (1, None, 0),
    "other images": (1, None, 1),
    "map size 16": (1, 16, 0),
    "map size 8": (1, 8, 0),
    "half the images": (1 / 2, None, 0),
    "half the images, map size 16": (1 / 2, 16, 0),
    "a quarter of the images": (1 / 4, None, 0),
    "a quarter of the images, map size 16": (1 / 4, 16, 0),
}
"""Name → share of the images, map size, and which set of images."""
LIMITS = Limits(max_ratio=0.99, round_to=1)


def main() -> None:
    parser = parser_of(sampling)
    parser.add_argument("part", choices=("run", "show"))
    parser.add_argument("--networks", default="resnet20,resnet56,fashion")
    add_places(parser)
    parser.add_argument("--samples", type=int, default=1000, help="of the yardstick")
    parser.add_argument("--checkpoint", help="of a factory named in --networks")
    parser.add_argument("--mean", type=float, help="of its normalisation")
    parser.add_argument("--std", type=float)
    parser.add_argument("--ignore", default="", help="layers of it that stay whole")
    parser.add_argument("--results", type=Path, default=kept("sampling"))
    args = parser.parse_args()
    results = Results(args.results)
    for name in args.networks.split(",") if args.part == "run" else ():
        subject = Subject.open(name, args)
        for way in WAYS:
            print(f"{name}, {way}", results.once(f"{name} {way}", partial(subject.row, way)), flush=True)
    print(table(results.rows))


@dataclass(kw_only=True)
class Subject:
    """A network with its samples, and what has been scored of it."""

    job: Job
    groups: Any
    costs: Any
    known: dict[str, Scores]
    samples: int

    @classmethod
    def open(cls, name: str, args: Any) -> Subject:
        """A network of the arena by its name, or by its factory."""
        network = KNOWN.get(name)
        if network is None:
            loaded = load_model(args.checkpoint, arch=name, mean=(args.mean,) * 3, std=(args.std,) * 3)
            source = None
        else:
            loaded = opened(Setting(weights=args.weights, data={}, work=Path()), network)
            source = f"{SOURCES[network.data]}:{getattr(args, network.data)}"
        data = load_data(source, preprocessing=loaded.preprocessing, samples=2 * args.samples)
        job = Job(loaded=loaded, data=data, recovery=Recovery())
        ignore = args.ignore.split(",") if network is None else network.ignore
        groups = prunable_groups(loaded.module, job.example, ignore=ignore)
        return cls(
            job=job, groups=groups, costs=layer_costs(loaded.module, job.example), known={}, samples=args.samples
        )

    def scores(self, way: str) -> Scores:
        """Betti numbers."""
        if way not in self.known:
            share, size, part = WAYS[way]
            start = part * self.samples
            images = Subset(self.job.data.calibration, range(start, start + int(share * self.samples)))
            criterion = suited(create("betti"), self.job.recovery, self.job.model)
            self.known[way] = score_groups(
                self.job.model, self.groups, criterion, batches(images), example=self.job.example,
                resources=Resources(workers=1, memory=4 << 30), maps=Maps(size=size),
            )  # fmt: skip
        return self.known[way]

    def row(self, way: str) -> dict[str, Any]:
        """What a way of sampling costs and changes."""
        self.known.pop(way, None)
        started = cpu_seconds()
        scores = self.scores(way)
        found: dict[str, Any] = {"cpu_seconds": cpu_seconds() - started}
        reference = self.scores("yardstick")
        layers = scores.layers
        ranks = [
            float(spearmanr(layers[name].values, reference.layers[name].values).statistic)
            for name in layers
            if len(set(layers[name].values)) > 1 and len(set(reference.layers[name].values)) > 1
        ]
        found["rank"] = float(np.mean(ranks))
        plan = self._plan(scores, ratio=RATIO)
        found["overlap"] = shared(plan, self._plan(reference, ratio=RATIO))
        try:
            above = self._plan(scores, max_betti=0.3 * scores.samples)
            found["above"] = sum(len(entry.remove) for entry in above.groups)
            found["overlap_above"] = shared(above, self._plan(reference, max_betti=0.3 * reference.samples))
        except PlanError:  # none lie above
            found["above"] = 0
        found["left"] = self._left(plan)
        return found

    def _plan(self, scores: Scores, **rule: float) -> PruningPlan:
        return make_plan(scores, self.groups, self.costs, limits=LIMITS, **rule)

    def _left(self, plan: PruningPlan) -> float:
        """Accuracy, or agreement where photographs stand in, after reconstruction."""
        part = Subset(self.job.data.calibration, range(min(REFITTED, self.samples)))
        job = replace(self.job, data=replace(self.job.data, calibration=part))
        cut = repair(job, apply(job.model, plan, example=job.example), plan).model
        if job.data.source == STAND_IN:
            return job.likeness(cut, held_out=True)
        return float(job.evaluated(cut, "").accuracy or 0.0)


def shared(one: PruningPlan, other: PruningPlan) -> float:
    """The share of the channels that one plan removes that another removes too."""
    gone = [{(entry.root, channel) for entry in plan.groups for channel in entry.remove} for plan in (one, other)]
    return len(gone[0] & gone[1]) / max(1, len(gone[0]))


if __name__ == "__main__":
    main()
