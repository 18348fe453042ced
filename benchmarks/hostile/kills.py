"""Runs that are killed at any moment, continued, and compared with one that nobody disturbed."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from benchmarks.hostile.commands import ended, living, spent, start, taken
from benchmarks.hostile.delivered import delivered, kept
from benchmarks.hostile.poison import POISONS, entries

_DIGITS = "--samples 40 --eval-samples 40"
COMMANDS = {
    "prune": f"prune digits --data digits {_DIGITS} --ratio 0.3 --criterion betti --finetune 4 --no-controls --out out",
    "compare": f"compare digits --data digits {_DIGITS} --criteria l1,betti --ratios 0.25,0.5 --seeds 1 --finetune 1 "
    "--out out",
    "sweep": f"sweep digits --data digits {_DIGITS} --criterion betti --macs 0.75,0.5 --finetune 1 --out out",
}
KINDS = ("kills", "together", "poison")
SIGNALS = ("SIGKILL", "SIGTERM", "SIGINT")
_NUMBER = re.compile(r"(?<![0-9a-f])\d{1,9}(?![0-9a-f])")
TURNS = 6
"""Of every command and signal; the scores of every second one are computed by two more processes."""
_LONGEST, _PATIENCE = 600.0, 10.0
_SHARED = Path("/dev/shm")
_OTHERS = {".ses"}
"""One file of ONNX Runtime's in the folder for temporary files, which it uses again in every session."""


class Place:
    """A folder in which a command runs, with a cache and a folder for temporary files of its own."""

    def __init__(self, above: Path) -> None:
        self.root = Path(tempfile.mkdtemp(dir=above))
        self.work, self.cache, self.temporary = (self.root / name for name in ("work", "cache", "tmp"))
        for folder in (self.work, self.temporary):
            folder.mkdir()
        self._shared = _shared()

    def start(self, words: str, *, log: str = "log") -> int:
        """Start a command; returns its process."""
        settings = {"TOPOCOMPRESS_CACHE": str(self.cache), "TMPDIR": str(self.temporary), "OMP_NUM_THREADS": "1"}
        return start(words.split(), self.work, self.root / log, settings)

    def run(self, words: str) -> tuple[int, str]:
        """Exit code of a command, and what it said."""
        child = self.start(words)
        code = ended(child, _LONGEST)
        if code is None:
            os.killpg(child, signal.SIGKILL)
            code = ended(child, _LONGEST)
        return code or 0, (self.root / "log").read_text(encoding="utf-8", errors="replace")

    def left(self) -> list[str]:
        """What should be gone: staging folders, temporary files, shared memory."""
        staged = [path for path in self.root.rglob("*") if ".topocompress" in path.name]
        temporary = [path for path in self.temporary.iterdir() if path.name not in _OTHERS]
        shared = _shared() - self._shared
        return sorted({*(str(path.relative_to(self.root)) for path in (*staged, *temporary)), *shared})

    def settled(self) -> list[str]:
        """What is still left after some seconds, in which helpers of processes that have ended clean up."""
        until = time.monotonic() + _PATIENCE
        while (found := self.left()) and time.monotonic() < until:
            time.sleep(0.1)
        return found

    def remove(self) -> None:
        """Forget it."""
        shutil.rmtree(self.root, ignore_errors=True)


def _shared() -> set[str]:
    """Names of shared memory, but for what has the number of a process that lives: the tests of others run beside."""
    names = {path.name for path in _SHARED.iterdir()} if _SHARED.is_dir() else set()
    return {name for name in names if not any(psutil.pid_exists(int(each)) for each in _NUMBER.findall(name))}


def continuing(command: str, words: str) -> str:
    """The words that continue a run."""
    return f"{words} --resume" if command == "prune" else words


def undisturbed(command: str, above: Path) -> dict[str, Any]:
    """What a command delivers, the same twice, and what processor time it takes."""
    found: dict[str, Any] = {"same": False}
    for _ in range(2):  # the first may compile
        place, before = Place(above), spent()
        code, said = place.run(COMMANDS[command])
        if code:
            raise RuntimeError(said)
        files = delivered(place.work / "out")
        found = {
            "same": found.get("files") == files,
            "cpu_seconds": round(spent() - before, 1),
            "files": files,
            "left": place.left(),
        }
        place.remove()
    return found


def killed(command: str, name: str, turn: int, whole: dict[str, Any], above: Path) -> dict[str, Any]:
    """A run that gets a signal, and is continued.

    Args:
        command: Which.
        name: Of the signal.
        turn: Decides at which share of the processor time that an undisturbed run takes.
        whole: From :func:`undisturbed`.
        above: Folder for the run.
    """
    moment = random.Random(f"{command} {name} {turn}").uniform(0.02, 0.98)
    words = f"{COMMANDS[command]} --workers 2" if turn % 2 and command != "compare" else COMMANDS[command]
    place = Place(above)
    child = place.start(words)
    code, until = None, time.monotonic() + _LONGEST
    while code is None and taken(child) < moment * whole["cpu_seconds"] and time.monotonic() < until:
        code = ended(child, 0.02)
    if code is None:
        os.kill(child, getattr(signal, name))
    stopped = ended(child, _PATIENCE) if code is None else code
    if stopped is None:
        os.killpg(child, signal.SIGKILL)
        ended(child, _PATIENCE)
    until = time.monotonic() + _PATIENCE
    while living(child) and time.monotonic() < until:
        time.sleep(0.1)
    processes, half = living(child), place.left()
    before = kept(place.root)
    second, said = place.run(continuing(command, words))
    already = second == 2 and "already exists" in said and command == "prune"  # it was finished before
    found = {
        "moment": round(moment, 3),
        "ended": "not" if stopped is None else stopped,
        "finished": code == 0 or already,
        "processes": processes,
        "left": half,
        "continued": 0 if already else second,
        "said": said[-600:] if second and not already else "",
        "different": _different(whole["files"], delivered(place.work / "out")),
        "left_after": place.settled(),
        **_repeated(before, place.work / "out", already=already),
    }
    place.remove()
    return found


def _different(whole: dict[str, str], found: dict[str, str]) -> list[str]:
    return sorted(name for name in whole.keys() | found.keys() if whole.get(name) != found.get(name))


def _repeated(before: dict[str, Any], out: Path, *, already: bool) -> dict[str, int]:
    """How much was kept when the run was killed, and how much of that was computed again."""
    counts = {"kept": before["layers"] + before["epochs"] + len(before["results"]), "again": 0}
    if already:
        return counts
    report = out / "report.json"
    if report.is_file():
        said = json.loads(report.read_text(encoding="utf-8"))
        counts["again"] = before["layers"] - min(before["layers"], said["scoring"].get("layers_reused", 0))
        counts["again"] += max(0, before["epochs"] - said["finetune"]["epochs_resumed"])
    for name, changed in before["results"].items():
        path = out / name
        counts["again"] += not path.is_file() or path.stat().st_mtime_ns != changed
    return counts


def together(command: str, whole: dict[str, Any], above: Path, *, one_out: bool) -> dict[str, Any]:
    """Two runs at once, into one cache, or into one place."""
    place = Place(above)
    words = [COMMANDS[command], COMMANDS[command]]
    if not one_out:
        words[1] = words[1].replace("--out out", "--out other")
    children = [place.start(each, log=f"log{number}") for number, each in enumerate(words)]
    codes = [ended(child, _LONGEST) for child in children]
    said = [(place.root / f"log{number}").read_text(encoding="utf-8", errors="replace") for number in range(2)]
    outs = ["out"] if one_out else ["out", "other"]
    wrong = [name for out in outs for name in _different(whole["files"], delivered(place.work / out))]
    right = sorted(map(str, codes)) == (["0", "2"] if one_out and command == "prune" else ["0", "0"])
    found = {
        "ended": codes,
        "said": "" if right else "\n".join(said)[-900:],
        "right": right,
        "different": wrong,
        "left_after": place.left(),
    }
    place.remove()
    return found


def poisoned(command: str, poison: str, whole: dict[str, Any], above: Path) -> dict[str, Any]:
    """A run that is killed when it has kept something, whose cache is spoiled, and that is continued."""
    place = Place(above)
    child = place.start(COMMANDS[command])
    wanted = "tuning/*/tuning.safetensors" if command == "prune" else "*.json"
    until = time.monotonic() + _LONGEST
    while time.monotonic() < until and not any(
        wanted == "*.json" or "repairs" not in path.parts for path in place.root.rglob(wanted)
    ):
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    ended(child, _PATIENCE)
    found = entries(place.root)
    for path in found:
        POISONS[poison](path, found)
    second, said = place.run(continuing(command, COMMANDS[command]))
    # In the user's own folder a link or a pipe is not replaced: that is refused, and the user is told.
    refused = second == 2 and found[0].is_relative_to(place.work) and (" is a link" in said or " is a device" in said)
    result = {
        "entries": len(found),
        "refused": refused,
        "continued": 0 if refused else second,
        "said": said[-900:] if second else "",
        "told": said.count("not used, and done again"),
        "different": [] if refused else _different(whole["files"], delivered(place.work / "out")),
        "left_after": place.left(),
    }
    place.remove()
    return result


def trials(kinds: set[str], above: Path) -> Iterator[tuple[str, Callable[[dict[str, Any]], Any]]]:
    """Name and measurement of every trial of some kinds; a measurement takes what undisturbed runs gave, by command."""
    for command in COMMANDS:
        yield f"whole/{command}", lambda _, command=command: undisturbed(command, above)
    if "kills" in kinds:
        yield from _kills(above)
    for command in COMMANDS if "together" in kinds else ():
        for place, one_out in (("cache", False), ("out", True)):
            yield (
                f"together/{command}/one {place}",
                lambda whole, command=command, one_out=one_out: together(
                    command, whole[command], above, one_out=one_out
                ),
            )
    for command in COMMANDS if "poison" in kinds else ():
        for poison in POISONS:
            yield (
                f"poison/{command}/{poison}",
                lambda whole, command=command, poison=poison: poisoned(command, poison, whole[command], above),
            )


def _kills(above: Path) -> Iterator[tuple[str, Callable[[dict[str, Any]], Any]]]:
    for turn in range(TURNS):
        for command in COMMANDS:
            for name in SIGNALS:
                yield (
                    f"kill/{command}/{name}/{turn}",
                    lambda whole, command=command, name=name, turn=turn: killed(
                        command, name, turn, whole[command], above
                    ),
                )
