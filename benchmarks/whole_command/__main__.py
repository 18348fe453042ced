"""The command of ``benchmarks.whole_command``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from benchmarks import whole_command
from benchmarks.common.commands import parser_of
from benchmarks.common.networks import images_at_224, untrained
from benchmarks.common.results import Results, kept
from benchmarks.whole_command import plain
from benchmarks.whole_command.summary import table
from topocompress.data.loading import load_data
from topocompress.types import Preprocessing

ROOT = Path(__file__).parents[2]
L1, BETTI = ("--criterion", "l1", "--ratio", "0.3"), ("--max-betti", "300")
CASES: Mapping[str, tuple[str, tuple[str, ...], bool]] = {
    "resnet50": ("resnet50", L1, False),
    "resnet18": ("resnet18", BETTI, False),
    "resnet18-quick": ("resnet18", L1, False),
    "resnet50-folder": ("resnet50", L1, True),
    "resnet18-folder": ("resnet18", BETTI, True),
}
"""Case → network, what is asked, and whether there is a class folder."""
CLASSES, EACH = 5, 250


def main() -> None:
    parser = parser_of(whole_command)
    parser.add_argument("part", choices=("run", "show"))
    parser.add_argument("--cases", default="resnet50,resnet18,resnet18-quick")
    parser.add_argument("--work", type=Path, default=Path("whole-command-work"))
    parser.add_argument("--before", type=Path, help="another checkout, run side by side")
    parser.add_argument("--results", type=Path, default=kept("whole_command"))
    args = parser.parse_args()
    results = Results(args.results)
    for case in args.cases.split(",") if args.part == "run" else ():
        found = measured(case, args.work.absolute(), args.before)
        results.rows[case] = results.rows.get(case, {}) | found
        results.once("machine", dict)  # with versions
        results.save()
        print(case, json.dumps(found), flush=True)
    print(table(results.rows))


def measured(case: str, work: Path, before: Path | None) -> dict[str, Any]:
    """Seconds, processor seconds and peak memory of each command of a case."""
    name, asked, folder = CASES[case]
    checkpoint = made(name, work, CLASSES if folder else 1000)
    data = ("--data", f"imagefolder:{photographs(work)}", "--classes", "by-order") if folder else ()
    commands = {"plain": [sys.executable, plain.__file__, name, str(checkpoint), "0.3", str(work / f"{case}.onnx")]}
    for side, checkout in (("before", before), ("ours", ROOT)):
        if checkout is not None:
            run = [
                "prune",
                str(checkpoint),
                *asked,
                *data,
                "--no-cache",
                "--force",
                "--out",
                str(work / f"{case}-{side}"),
            ]
            commands[side] = [sys.executable, "-m", "topocompress", *run]
    found = {}
    for side, command in commands.items():
        checkout = before if side == "before" and before is not None else ROOT
        found[side] = timed(command, checkout)
        report = work / f"{case}-{side}" / "report.json"
        if report.exists():
            spent = json.loads(report.read_text(encoding="utf-8"))["environment"]
            found[side] |= {"steps": spent.get("cpu_seconds", {})}
    return found


def timed(command: Sequence[str], checkout: Path) -> dict[str, Any]:
    """A command and all its processes: seconds by the clock and of the processors, and its own peak memory in bytes."""
    started = time.perf_counter()
    process = subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": str(checkout.absolute())}, stdout=subprocess.DEVNULL
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return {
        "seconds": round(time.perf_counter() - started, 1),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
        "peak_bytes": used.ru_maxrss * 1024,
    }


def made(name: str, work: Path, classes: int) -> Path:
    """A checkpoint, as people keep it."""
    path = work / f"{name}-{classes}.pt"
    if not path.exists():
        work.mkdir(parents=True, exist_ok=True)
        torch.save(untrained(name, images_at_224(None, 128), classes=classes).state_dict(), path)
    return path


def photographs(work: Path) -> Path:
    """A class folder, made of crops of photographs."""
    folder = work / "photographs"
    if not folder.exists():
        crops = load_data(
            None,
            preprocessing=Preprocessing(input_shape=(3, 256, 256), mean=(0,) * 3, std=(1,) * 3),
            samples=CLASSES * EACH,
        ).calibration
        for index in range(CLASSES * EACH):
            path = folder / f"class{index % CLASSES}" / f"{index}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = (crops[index][0] * 255).round().byte().permute(1, 2, 0).numpy()
            Image.fromarray(pixels).save(path, quality=90)
    return folder


if __name__ == "__main__":
    main()
