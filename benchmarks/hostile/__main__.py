"""The command of ``benchmarks.hostile``."""

from __future__ import annotations

import importlib
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import hostile
from benchmarks.common.commands import parser_of
from benchmarks.common.results import Results
from benchmarks.hostile.bounded import outcome
from benchmarks.hostile.cases import table
from benchmarks.hostile.kills import COMMANDS, KINDS, trials
from benchmarks.hostile.summary import OUTCOMES, lines

_LOADED = (
    *(f"topocompress.workflows.{name}" for name in ("compress", "compare", "sweep")),
    *("topocompress.reporting.plots", "accelerate", "onnxscript", "torch.onnx", "torch._dynamo", "torch.export"),
    "torch.onnx._internal.exporter._core",
)
"""What commands import, loaded once and not in each process."""


def main() -> None:
    parser = parser_of(hostile)
    parser.add_argument("kinds", nargs="*", help=f"which kinds of inputs, all by default; or {', '.join(KINDS)}")
    parser.add_argument("--quick", action="store_true", help="the share that the suite runs")
    parser.add_argument("--results", type=Path, help="file of results; what stands in it is not run again")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        results = Results(given.results or Path(scratch) / "results.json")
        inputs, kills = set(given.kinds) - set(KINDS), set(given.kinds) & set(KINDS)
        if kills:
            _kill(results, Path(scratch), kills)
        if inputs or not kills:
            _try(results, Path(scratch), inputs, quick=given.quick)
        print("\n".join(["", *lines(results.rows)]))


def _try(results: Results, scratch: Path, kinds: set[str], *, quick: bool) -> None:
    """Run every input that has no result yet."""
    folder = scratch / "home" / "work"
    folder.mkdir(parents=True)
    # In a process of its own: what is forked from one in which torch has computed waits for threads that are gone.
    subprocess.run([sys.executable, "-m", "benchmarks.hostile.place", str(folder)], check=True)

    def tried(case: Any) -> dict[str, str]:
        found, said = outcome(case, folder)
        if found == OUTCOMES[0]:
            return {"outcome": found}
        print(f"{found}: {case.kind}, {case.name!a}\n    {ascii(said.strip())[-600:]}", flush=True)
        return {"outcome": found, "said": ascii(said.strip())[-600:]}

    for case in table():
        if (not kinds or case.kind in kinds) and (case.quick or not quick):
            name = f"input/{case.kind}/{ascii(case.name)[1:-1]}"
            results.once(name, lambda case=case: tried(case))


def _kill(results: Results, scratch: Path, kinds: set[str]) -> None:
    """Kill, spoil and continue what has no result yet."""
    for module in _LOADED:
        importlib.import_module(module)
    for name, measure in trials(kinds, scratch):
        whole = {each: row for each in COMMANDS if (row := results.rows.get(f"whole/{each}"))}
        row = results.once(name, lambda measure=measure, whole=whole: measure(whole))
        print(f"{name}: {row}"[:400], flush=True)


if __name__ == "__main__":
    main()
