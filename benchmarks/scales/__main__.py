"""The command of ``benchmarks.scales``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

from benchmarks import scales
from benchmarks.arena.setting import CHAINS, NETWORKS, SOURCES, Setting, opened
from benchmarks.common.commands import add_places, parser_of
from topocompress import Betti, apply, reconstruct, score
from topocompress.criteria import Random
from topocompress.data.loading import batches, load_data
from topocompress.dependencies.groups import find_groups
from topocompress.deploy.measurement import evaluate
from topocompress.errors import PlanError
from topocompress.models.loading import load_model
from topocompress.planning.controls import matched_plan
from topocompress.planning.plan import make_plan
from topocompress.planning.rules import Limits
from topocompress.reporting import environment
from topocompress.scoring.dispatch import score_layers
from topocompress.types import PruningPlan
from topocompress.workflows.single_steps import layer_costs

KNOWN = {**NETWORKS, **CHAINS}
THRESHOLD = 300
REFITTED = 500


def main() -> None:
    parser = parser_of(scales)
    parser.add_argument("network", choices=("digits", *KNOWN))
    add_places(parser)
    parser.add_argument("--scales", default="components:0.2,quantile:0.05,quantile:0.1,quantile:0.2")
    parser.add_argument("--seeds", type=int, default=3, help="random choices per scale")
    args = parser.parse_args()
    network = KNOWN.get(args.network)
    if network is None:
        loaded, source = load_model(args.network), "digits"
    else:
        loaded = opened(Setting(weights=args.weights, data={}, work=Path()), network)
        source = f"{SOURCES[network.data]}:{getattr(args, network.data)}"
    ignore = () if network is None else network.ignore
    data = load_data(source, preprocessing=loaded.preprocessing)
    model, example = loaded.module, torch.zeros(1, *loaded.preprocessing.input_shape)
    images, labels = zip(*(data.evaluation[index] for index in range(len(data.evaluation))), strict=True)
    held_out = DataLoader(TensorDataset(torch.stack(images), torch.tensor(labels)), batch_size=500)
    groups = find_groups(model, example, ignore=ignore)
    costs = layer_costs(model, example)
    limits = Limits(max_ratio=0.99, round_to=1)
    facts = environment.describe()
    print(f"{args.network}, {evaluate(model, held_out).accuracy:.1%} before, N = 1,000, {len(images)} test images;")
    print(f"{facts['processor']}, {facts['cores']} cores, torch {facts['versions']['torch']}\n")  # type: ignore[index]
    print("| scale | filters above 300 | right after removal | reconstructed | random, same widths, reconstructed |")
    print("|---|---:|---:|---:|---:|")
    calibration = list(batches(data.calibration))[: -(-REFITTED // len(next(iter(batches(data.calibration)))[0]))]

    def left(plan: PruningPlan) -> list[float]:
        """Accuracy right after removal, and reconstructed."""
        bare = apply(model, plan, example=example)
        repaired = reconstruct(bare, model, plan, calibration).model
        return [evaluate(each, held_out).accuracy or 0.0 for each in (bare, repaired)]

    for scale in args.scales.split(","):
        scores = score(model, batches(data.calibration), criterion=Betti(scale=scale), ignore=ignore)
        share = np.mean(np.concatenate([layer.values for layer in scores.layers.values()]) > THRESHOLD)
        try:
            plan = make_plan(scores, groups, costs, max_betti=THRESHOLD, limits=limits)
        except PlanError as error:
            print(f"| `{scale}` | {share:.0%} | {error.what} | |", flush=True)
            continue
        bare, repaired = left(plan)
        chance = []
        for seed in range(args.seeds):
            other = matched_plan(plan, groups, score_layers(model, scores.layers, Random(seed=seed)))
            chance.append(left(other)[1])
        among = f"{min(chance):.1%}–{max(chance):.1%}"
        print(f"| `{scale}` | {share:.0%} | {bare:.1%} | {repaired:.1%} | {among} |", flush=True)


if __name__ == "__main__":
    main()
