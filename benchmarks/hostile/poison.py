"""Ways in which what a cache keeps is spoiled."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

Poison = Callable[[Path, Sequence[Path]], None]


def entries(root: Path) -> list[Path]:
    """Files of scores, refitted layers, epochs and finished results."""
    scores = list(root.glob("cache/**/*.json"))
    results = [path for kind in ("cells", "points") for path in root.glob(f"work/out/{kind}/*.json")]
    return sorted([*scores, *results, *root.glob("cache/**/tuning.safetensors")])


def _cut(path: Path, _: Sequence[Path]) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _bit(path: Path, _: Sequence[Path]) -> None:
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)


def _number(path: Path, _: Sequence[Path]) -> None:
    """Plausible numbers of an attacker's in JSON; weights of zero in tensors."""
    content = path.read_bytes()
    if path.suffix == ".json":
        found = json.loads(content)
        for name, value in found.items():
            if isinstance(value, float):
                found[name] = 0.5
            elif isinstance(value, list) and value and isinstance(value[0], float):
                found[name] = value[::-1]
        path.write_text(json.dumps(found), encoding="utf-8")
    else:
        path.write_bytes(content[:-400] + bytes(400))


def _foreign(path: Path, found: Sequence[Path]) -> None:
    """Another entry of the same kind, or nonsense where there is none."""
    others = [each for each in found if each != path and each.suffix == path.suffix]
    path.write_bytes(others[0].read_bytes() if others else b"{}")


def _empty(path: Path, _: Sequence[Path]) -> None:
    path.write_bytes(b"")


def _huge(path: Path, _: Sequence[Path]) -> None:
    os.truncate(path, 3 * 10**9)


def _deep(path: Path, _: Sequence[Path]) -> None:
    path.write_bytes(b"[" * 100_000)


def _pipe(path: Path, _: Sequence[Path]) -> None:
    path.unlink()
    os.mkfifo(path)


def _link(path: Path, _: Sequence[Path]) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


POISONS: dict[str, Poison] = {
    "cut": _cut,
    "a bit": _bit,
    "other numbers": _number,
    "foreign": _foreign,
    "empty": _empty,
    "huge": _huge,
    "deep": _deep,
    "a pipe": _pipe,
    "a link to a device": _link,
}
