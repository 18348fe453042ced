"""The command of ``benchmarks.hostile``."""

from __future__ import annotations

import collections
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import hostile
from benchmarks.common.commands import parser_of
from benchmarks.hostile.bounded import OUTCOMES, outcome
from benchmarks.hostile.cases import table


def main() -> None:
    parser = parser_of(hostile)
    parser.add_argument("kinds", nargs="*", help="which kinds of cases; all by default")
    parser.add_argument("--quick", action="store_true", help="the share that the suite runs")
    given = parser.parse_args()
    cases = [
        case for case in table() if (not given.kinds or case.kind in given.kinds) and (case.quick or not given.quick)
    ]
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "home" / "work"
        folder.mkdir(parents=True)
        # In a process of its own: what is forked from one in which torch has computed waits for threads that are gone.
        subprocess.run([sys.executable, "-m", "benchmarks.hostile.place", str(folder)], check=True)
        for case in cases:
            found, said = outcome(case, folder)
            counts[case.kind][found] += 1
            if found != OUTCOMES[0]:
                print(f"{found}: {case.kind}, {case.name!a}\n    {ascii(said.strip())[-600:]}", flush=True)
    print(f"\n{'kind':<14}{'cases':>6}" + "".join(f"{name:>17}" for name in OUTCOMES))
    for kind, found in counts.items():
        print(f"{kind:<14}{found.total():>6}" + "".join(f"{found[name]:>17}" for name in OUTCOMES))


if __name__ == "__main__":
    main()
