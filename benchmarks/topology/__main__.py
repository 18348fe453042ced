"""The command of ``benchmarks.topology``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from benchmarks import topology
from benchmarks.common.commands import parser_of
from benchmarks.common.results import Results, kept
from benchmarks.topology import parts

PARTS: dict[str, Callable[[argparse.Namespace, Results], None]] = {
    "loop": parts.loop,
    "engines": parts.engines,
    "score": parts.score,
    "memory": parts.memory,
    "growth": parts.growth,
}


def main() -> None:
    parser = parser_of(topology)
    parser.add_argument("part", choices=(*PARTS, "show"))
    parser.add_argument("--data", default=None, help="images as topocompress takes them")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument(
        "--filters", type=int, default=None, help="filters per layer in loop and engines; all if absent"
    )
    parser.add_argument("--results", type=Path, default=kept("topology"))
    args = parser.parse_args()
    results = Results(args.results)
    if args.part != "show":
        PARTS[args.part](args, results)
    parts.show(results.rows)


if __name__ == "__main__":
    main()
