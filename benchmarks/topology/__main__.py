"""How fast and how large the topology engine is, against other engines and against the forward pass.

    python -m benchmarks.topology loop      one ripser_parallel(X) per filter, as a user would write it
    python -m benchmarks.topology engines   giotto-ph, ripser and GUDHI on the same clouds
    python -m benchmarks.topology score     the whole of score against the bare forward passes
    python -m benchmarks.topology memory    ResNet-50 within --memory 2GB
    python -m benchmarks.topology growth    how the cost grows with samples, numbers per map and processes
    python -m benchmarks.topology show      the tables

Every measurement goes into one file as it is made (--results) and is not made again; a run that was stopped goes on.
``--data imagefolder:FOLDER`` takes images of your own. Ratios are of medians of runs side by side in one process tree.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import topology_parts as parts
from topocompress.reporting import environment
from topocompress.runtime.files import atomic_file

PARTS: dict[str, Callable[[argparse.Namespace, Results], None]] = {
    "loop": parts.loop,
    "engines": parts.engines,
    "score": parts.score,
    "memory": parts.memory,
    "growth": parts.growth,
}


class Results:
    """Measurements by name, kept in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.rows: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def once(self, name: str, measure: Callable[[], Any]) -> Any:
        """The measurement of a name, made now if it has not been made yet."""
        if name not in self.rows:
            self.rows[name] = measure()
            self.rows["machine"] = environment.describe()
            with atomic_file(self._path) as temporary:
                temporary.write_text(json.dumps(self.rows, indent=1) + "\n", encoding="utf-8")
        return self.rows[name]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=(*PARTS, "show"))
    parser.add_argument("--data", default=None, help="images as topocompress takes them")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument(
        "--filters", type=int, default=None, help="filters per layer in loop and engines; all if absent"
    )
    parser.add_argument("--results", type=Path, default=Path("benchmarks/topology.json"))
    args = parser.parse_args()
    results = Results(args.results)
    if args.part != "show":
        PARTS[args.part](args, results)
    parts.show(results.rows)


if __name__ == "__main__":
    main()
