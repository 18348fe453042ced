"""The command of ``benchmarks.networks_of_others``."""

from __future__ import annotations

import json
import tempfile
import time
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks import networks_of_others
from benchmarks.common.commands import parser_of
from benchmarks.common.results import Results, kept
from benchmarks.networks_of_others.bounded import Limits, bounded
from benchmarks.networks_of_others.model import reload, work
from benchmarks.networks_of_others.setting import ratio_of
from benchmarks.networks_of_others.summary import summary, table
from benchmarks.networks_of_others.table import TABLE
from topocompress.reporting import environment


def measured(name: str, limits: Limits) -> dict[str, Any]:
    """What was found out about one network, also where its process did not live to the end."""
    row: dict[str, Any] = {"ratio": ratio_of(name)}
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="networks-", ignore_cleanup_errors=True) as place:
        folder = Path(place)
        stopped = bounded(partial(work, name, folder), folder / "said", limits)
        for line in (folder / "said").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith('{"') and line.endswith("}"):
                row |= json.loads(line)
        if (folder / "seen.npz").exists():
            row["reloaded"] = bounded(partial(reload, name, folder), folder / "reloaded", limits) or "bit for bit"
    if "ours" in row and "theirs" not in row:  # which came second
        row["theirs"] = {"verdict": "fails", "why": stopped[:200]}
    row["wall_seconds"] = round(time.monotonic() - started, 1)
    return row | ({"stopped": stopped[:300]} if stopped else {})


def main() -> None:
    parser = parser_of(networks_of_others)
    parser.add_argument("--networks", default="*", metavar="PATTERN", help="shell-style patterns, separated by commas")
    parser.add_argument("--time-limit", type=float, default=240, metavar="SECONDS", help="for each network")
    parser.add_argument("--memory-limit", type=float, default=6, metavar="GB", help="for each network")
    parser.add_argument("--again", action="store_true", help="also those already done")
    parser.add_argument("--results", type=Path, default=kept("networks_of_others"))
    parser.add_argument("--table", action="store_true", help="run nothing; print the table of what is there")
    args = parser.parse_args()
    results = Results(args.results)
    if args.table:
        print(table(results.rows))
        return
    chosen = [name for name in TABLE if any(fnmatchcase(name, part) for part in args.networks.split(","))]
    missing = sorted({TABLE[name].package for name in chosen if not TABLE[name].installed})
    for package in missing:
        print(f"not installed, so its networks are skipped: {package}")
    names = [name for name in chosen if TABLE[name].installed and (args.again or name not in results.rows)]
    limits = Limits(seconds=args.time_limit, memory=int(args.memory_limit * 1e9))
    torch.set_num_threads(1)  # before any fork
    for name in names:
        results.rows[name] = measured(name, limits)
        results.rows["machine"] = environment.describe()
        results.save()
        print(table({name: results.rows[name]}).splitlines()[-1], flush=True)
    print(summary(results.rows))


if __name__ == "__main__":
    main()
