"""The command of ``benchmarks.budgets``."""

from __future__ import annotations

from argparse import Namespace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import budgets
from benchmarks.arena.setting import NETWORKS, SOURCES, Setting, opened
from benchmarks.budgets.summary import table
from benchmarks.common.commands import add_places, parser_of
from benchmarks.common.results import Results, kept
from topocompress.data.loading import load_data
from topocompress.errors import PlanError
from topocompress.workflows.job import Job
from topocompress.workflows.options import Recovery, Removal, Scoring
from topocompress.workflows.selecting import select
from topocompress.workflows.shrinking import carry_out

SHARES = tuple(round(float(share), 3) for share in np.linspace(0.97, 0.3, 21))
"""Shares of the multiply-accumulates that the networks of the study leave."""


def main() -> None:
    parser = parser_of(budgets)
    parser.add_argument("part", choices=("run", "show"))
    parser.add_argument("--networks", default="resnet20,fashion")
    add_places(parser)
    parser.add_argument("--samples", type=int, default=500, help="that calibrate")
    parser.add_argument("--results", type=Path, default=kept("budgets"))
    args = parser.parse_args()
    results = Results(args.results)
    for name in args.networks.split(",") if args.part == "run" else ():
        _run(name, args, results)
    print(table(results.rows))


def _run(name: str, args: Namespace, results: Results) -> None:
    wanted = [share for share in (1.0, *SHARES) if f"{name}/{share}" not in results.rows]
    if not wanted:
        return
    network = NETWORKS[name]
    loaded = opened(Setting(weights=args.weights, data={}, work=Path()), network)
    source = f"{SOURCES[network.data]}:{getattr(args, network.data)}"
    data = load_data(source, preprocessing=loaded.preprocessing, samples=args.samples, eval_samples=None)
    job = Job(
        loaded=loaded,
        data=data,
        recovery=Recovery(),
        removal=Removal(ignore=network.ignore),
        scoring=Scoring(criterion="persistence"),
    )
    selection = select(job)

    def row(share: float) -> dict[str, Any]:
        if share == 1.0:
            macs, model = 1.0, job.model
        else:
            try:
                plan = selection.plan({"target_macs": share})
            except PlanError as error:
                return {"refused": error.what}
            macs, model = plan.macs_after / plan.macs_before, carry_out(job, plan).model
        said = job.passes.said(model, "evaluation")
        right = said.classes == said.labels
        return {"macs": macs, "right": np.packbits(right).tobytes().hex(), "images": len(right)}

    for share in wanted:
        found = results.once(f"{name}/{share}", partial(row, share))
        print(name, share, {key: value for key, value in found.items() if key != "right"}, flush=True)


if __name__ == "__main__":
    main()
