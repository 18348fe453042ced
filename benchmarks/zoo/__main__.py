"""Every classification network of torchvision: prune, run, save and load, export, measure.

    python -m benchmarks.zoo [--models PATTERN] [--jobs 2] [--time-limit 300]

Each network gets a process of its own, limited in time and memory. Its result goes into one file as soon as it is there
(--results) and is not computed again, failures included, unless asked for with --again; a run that was stopped goes on.
The page (--docs) is written from that file.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import signal
import sys
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from benchmarks.children import Limits, Outcome, run_children
from benchmarks.zoo_page import page, passed
from topocompress.models.architectures import torchvision_names
from topocompress.reporting import environment
from topocompress.runtime.files import atomic_file


class Results:
    """What was found out about each network, kept in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        self.found.setdefault("models", {})

    def put(self, name: str, entry: Mapping[str, Any]) -> None:
        """Keep one network's entry, in the order of names."""
        machine = environment.describe()
        models = {**self.found["models"], name: {**entry, "processor": machine["processor"]}}
        self.found["models"] = dict(sorted(models.items()))
        self.found["machine"] = machine
        _write(self._path, json.dumps(self.found, indent=1) + "\n")


def entry_of(outcome: Outcome, settings: Mapping[str, Any]) -> dict[str, Any]:
    """One network's entry from what its process said, also where that process did not live to the end.

    Args:
        outcome: How the process ended.
        settings: What it was run with, kept in the entry.
    """
    said = [json.loads(line) for line in outcome.output.splitlines() if line.startswith("{") and line.endswith("}")]
    entry: dict[str, Any] = {"rows": [], "settings": dict(settings)}
    step = "start"
    for line in said:
        step = line.get("step", step)
        entry |= line.get("facts", {})
        if "row" in line:
            entry["rows"].append(line["row"])
    entry |= {"wall_seconds": round(outcome.seconds, 1), "peak_bytes": outcome.peak}
    if outcome.stopped or outcome.status:
        why = outcome.stopped or f"exit status {outcome.status}: {outcome.complaint}"
        entry["failure"] = {"step": step, "error": why[:300]}
    return entry


def wanted(pattern: str, results: Results, again: str | None) -> list[str]:
    """The networks to look at now: those not looked at, and those that shall be looked at again."""
    chosen = [name for name in torchvision_names() if any(fnmatchcase(name, part) for part in pattern.split(","))]
    found = results.found["models"]
    return [
        name
        for name in chosen
        if name not in found or again == "all" or (again == "failed" and not passed(found[name]))
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="*", metavar="PATTERN", help="shell-style patterns, separated by commas")
    parser.add_argument("--jobs", type=int, default=2, help="networks at the same time; they share the cores")
    parser.add_argument("--threads", type=int, default=None, help="of each network; by default its share of the cores")
    parser.add_argument("--time-limit", type=float, default=300, metavar="SECONDS", help="for each network")
    parser.add_argument("--memory-limit", type=float, default=16, metavar="GB", help="for each network")
    parser.add_argument("--data", default=None, help="images as topocompress takes them")
    parser.add_argument("--again", nargs="?", const="all", choices=("all", "failed"), help="also those already done")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/zoo.json"))
    parser.add_argument("--docs", type=Path, default=Path("docs/zoo.md"))
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that it ends its children, as Ctrl-C does
    results = Results(args.results)
    threads = args.threads or max(1, (os.cpu_count() or 1) // args.jobs)
    settings = {"data": args.data, "threads": threads, "time_limit_s": args.time_limit, "jobs": args.jobs}
    names = wanted(args.models, results, args.again)
    child = [sys.executable, "-m", "benchmarks.zoo_model", *(["--data", args.data] if args.data else [])]
    commands = {name: [*child, "--threads", str(threads), name] for name in names}
    done = 0

    def finished(name: str, outcome: Outcome) -> None:
        nonlocal done
        done += 1
        entry = entry_of(outcome, settings)
        results.put(name, entry)
        _write(args.docs, page(results.found, torchvision_names()))
        state = "ok" if passed(entry) else "FAILED"
        print(f"{done}/{len(names)} {name}: {state}, {outcome.seconds:.0f} s, {outcome.peak / 1e9:.1f} GB", flush=True)

    limits = Limits(seconds=args.time_limit, memory=int(args.memory_limit * 1e9))
    run = functools.partial(run_children, jobs=args.jobs, limits=limits, finished=finished)
    try:
        run(commands)
    except KeyboardInterrupt:
        sys.exit("stopped; what is finished is kept")
    if results.found["models"]:
        _write(args.docs, page(results.found, torchvision_names()))
    print(f"{sum(passed(entry) for entry in results.found['models'].values())} of {len(torchvision_names())} pass")


def _write(path: Path, text: str) -> None:
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
