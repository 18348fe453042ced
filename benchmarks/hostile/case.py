"""One command on a hostile input, and what must come of it."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.hostile.spoiled import Change

SAMPLES = "--samples 20 --eval-samples 20"
L1 = f"--data digits {SAMPLES} --criterion l1"
PRUNE = f"prune {{model}} {L1} --ratio 0.3 --no-controls --dry-run"
SCORE = "score {model} --data digits --samples 20 --criterion l1"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One command.

    Attributes:
        kind: What is hostile.
        name: How, in words.
        words: Words of the command line.
        refused: Whether it must be refused; ``None`` where both will do, as long as nothing is harmed.
        change: What an attacker did to the description of ``run``, which becomes ``spoiled``.
        quick: Whether it belongs to the share that the suite runs.
        unsaid: Words that must not be said: an attacker's.
        largest: Bytes that a file of the command's may have before the system refuses more, as a full disk does.
    """

    kind: str
    name: str
    words: tuple[str, ...]
    refused: bool | None = True
    change: Change | None = None
    quick: bool = False
    unsaid: str = ""
    largest: int | None = None
