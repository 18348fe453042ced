"""The command of ``benchmarks.zoo``."""

from __future__ import annotations

import functools
import os
import signal
import sys
from pathlib import Path

from benchmarks import zoo
from benchmarks.common.commands import parser_of
from benchmarks.common.results import kept
from benchmarks.zoo.children import Limits, Outcome, run_children
from benchmarks.zoo.entries import Results, entry_of, wanted
from benchmarks.zoo.page import page, passed
from topocompress.models.architectures import torchvision_names
from topocompress.runtime.files import atomic_file


def main() -> None:
    parser = parser_of(zoo)
    parser.add_argument("--models", default="*", metavar="PATTERN", help="shell-style patterns, separated by commas")
    parser.add_argument("--jobs", type=int, default=2, help="networks at the same time; they share the cores")
    parser.add_argument("--threads", type=int, default=None, help="of each network; by default its share of the cores")
    parser.add_argument("--time-limit", type=float, default=300, metavar="SECONDS", help="for each network")
    parser.add_argument("--memory-limit", type=float, default=16, metavar="GB", help="for each network")
    parser.add_argument("--data", default=None, help="images as topocompress takes them")
    parser.add_argument("--again", nargs="?", const="all", choices=("all", "failed"), help="also those already done")
    parser.add_argument("--results", type=Path, default=kept("zoo"))
    parser.add_argument("--docs", type=Path, default=Path("docs/research/zoo.md"))
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that it ends its children, as Ctrl-C does
    results = Results(args.results)
    threads = args.threads or max(1, (os.cpu_count() or 1) // args.jobs)
    settings = {"data": args.data, "threads": threads, "time_limit_s": args.time_limit, "jobs": args.jobs}
    names = wanted(args.models, results, args.again)
    child = [sys.executable, "-m", "benchmarks.zoo.model", *(["--data", args.data] if args.data else [])]
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
