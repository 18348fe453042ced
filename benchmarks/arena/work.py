"""The processes that share the rows of the study, and what they have found."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.arena.rows import BASELINES, ORACLE_ONLY, OURS, TRIED, VARIANTS, Row, name_of, plain_of, with_tuning
from benchmarks.arena.setting import SEEDS, Setting
from benchmarks.arena.study import Subject
from benchmarks.common import results
from benchmarks.common.oracle import consult
from benchmarks.common.results import read, write
from topocompress.errors import TopocompressError

POLL = 2.0
FAILURES = (
    TopocompressError, RuntimeError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, OSError,
)  # fmt: skip


class Worker:
    """Takes one row after the other that nobody has taken.

    Args:
        setting: The study's.
        results: Rows that there are already.
    """

    def __init__(self, setting: Setting, results: Mapping[str, Any]) -> None:
        self.setting, self._results = setting, results
        self._subjects: dict[str, Subject] = {}

    def work(self, rows: Iterable[Row], until: float) -> None:
        """Measure rows until there are none, or it is ``until`` by the clock; one that fails leaves its reason."""
        for row in rows:
            if time.time() > until:
                return
            if not self._take(row):
                continue
            try:
                found = self.measured(row)
            except FAILURES as error:  # the other rows are still worth having
                print(f"{name_of(row)} failed\n{traceback.format_exc()}", flush=True)
                if "CUDA" in str(error):  # a process that has met one such error may meet nothing else
                    self._file(row, "taken").unlink(missing_ok=True)
                    sys.exit(1)
                continue
            write(self._file(row, "done"), found)

    def measured(self, row: Row) -> Any:
        """What a row says."""
        kind, network, *rest = row
        subject = self._subject(network)
        if kind == "original":
            return subject.original()
        if kind == "scores":
            return len(subject.scores(rest[0], int(rest[1])).layers)
        if kind == "recording":
            return subject.recording()
        if kind == "scored":
            return subject.scored_there(rest[0])
        if kind == "oracle":
            return self._oracle(subject, rest[0])
        name, ratio, seed, epochs = rest
        plain = self._results.get(name_of(plain_of(row)))
        return subject.cell(name, float(ratio), int(seed), int(epochs), plain)

    def _oracle(self, subject: Subject, layer: str) -> list[list[float]]:
        model: Any = subject.whole
        parts = zip(*subject.evaluation, strict=True)
        images, labels = (torch.cat(part).to(subject.device) for part in parts)
        before = torch.backends.cudnn.allow_tf32
        torch.backends.cudnn.allow_tf32 = False  # a filter may do less than its rounding
        try:
            return consult(model, layer, images, labels)
        finally:
            torch.backends.cudnn.allow_tf32 = before

    def _subject(self, network: str) -> Subject:
        if network not in self._subjects:
            self._subjects[network] = Subject(network, self.setting)
        return self._subjects[network]

    def _take(self, row: Row) -> bool:
        if row[0] == "cell" and self._file(with_tuning(row), "done").exists():
            return False  # with fine-tuning it says all of it
        claim = self._file(row, "taken")
        claim.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.close(os.open(claim, os.O_CREAT | os.O_EXCL))
            return True
        return False

    def _file(self, row: Row, state: str) -> Path:
        return self.setting.work / state / f"{name_of(row).replace('/', '~')}.json"


def scoring(setting: Setting, networks: Sequence[str]) -> None:
    """Score every criterion on every set of calibration samples, what is there already left out."""
    torch.set_num_threads(1)
    for network in networks:
        subject = Subject(network, setting)
        names = (OURS, *BASELINES, *VARIANTS, *TRIED[network], *ORACLE_ONLY)
        for name, seed in itertools.product(names, range(SEEDS)):
            if setting.scores_file(network, name, seed).exists():
                continue
            started = time.perf_counter()
            subject.scores(name, seed)
            print(f"{network} {name} {seed}: {time.perf_counter() - started:.1f} s", flush=True)


class Results(results.Results):
    """Rows by name, which workers add to."""

    def collect(self, folder: Path) -> int:
        """Add what workers have finished; returns how many rows came."""
        found = {}
        for file in sorted(folder.glob("*.json")) if folder.is_dir() else ():
            name = file.stem.replace("~", "/")
            if name not in self.rows and not name.startswith("scores/"):
                found[name] = read(file)
        if found:
            self.rows |= found
            self.save()
        return len(found)


def share_out(rows: Sequence[Sequence[Row]], command: Sequence[str], folder: Path, collect: Callable[[], int]) -> None:
    """Run workers until all of them have ended; one that dies is started again, twice at most.

    Args:
        rows: For each worker, what it goes through, in this order.
        command: Starts a worker; the file with its rows follows.
        folder: For files of rows and what workers say.
        collect: Called every few seconds.
    """
    shutil.rmtree(folder / "taken", ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    started = [0] * len(rows)
    running: dict[int, subprocess.Popen[bytes]] = {}

    def start(number: int) -> None:
        file = folder / f"rows-{number}.json"
        write(file, rows[number])
        with (folder / f"said-{number}.log").open("ab") as log:
            running[number] = subprocess.Popen(
                [*command, str(file)], stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        started[number] += 1

    try:
        for number in range(len(rows)):
            start(number)
        while running:
            time.sleep(POLL)
            collect()
            for number, process in list(running.items()):
                if process.poll() is None:
                    continue
                del running[number]
                if process.returncode and started[number] < 3:
                    start(number)
    finally:
        for process in running.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        collect()
