"""Cases of names that are shown, of disks that are full, and of ONNX files that are timed."""

from __future__ import annotations

import os
from collections.abc import Iterator

from benchmarks.hostile.case import L1, PRUNE, SAMPLES, SCORE, Case


def names() -> Iterator[Case]:
    for text in ("\x1b[31mred", "\x1b]0;owned\x07", "[/]x", "[red]x[/]", ":smiley:", "\u202egnp", os.fsdecode(b"\xe9")):
        for line in (
            ("prune", text),
            ("score", text, "--arch", text),
            ("bench", text),
            ("compare", "digits", "--criteria", text),
        ):
            yield Case(
                kind="names",
                name=f"{line[0]} {text!a}",
                words=(*line, *(("--ratio", "0.3") if line[0] == "prune" else ())),
                quick=line[0] == "prune",
            )
    for model in ("nets:marked_up", "nets:escaping"):
        for command in (PRUNE, SCORE, f"{SCORE} --linear", f"{PRUNE} --ignore [/]x"):
            refused = None if "--ignore" in command else False
            words = tuple(command.format(model=model).split())
            yield Case(kind="names", name=f"layers of {' '.join(words[:2])} {words[-1]}", words=words, refused=refused)
    base = PRUNE.replace("--data digits", "--data imagefolder:odd classes").format(model="digits")
    words = tuple(
        word.replace("imagefolder:odd", "imagefolder:odd classes") for word in base.split() if word != "classes"
    )
    yield Case(kind="names", name="classes", words=(*line, "--classes", "by-order"), refused=None)


def files() -> Iterator[Case]:
    """Disks that are full, at first or after a while, and places that only look like ours."""
    model = f"m.safetensors --arch digits {L1} --ratio 0.3 --no-controls"
    for command, option in ((f"prune {model}", "--out"), (SCORE.format(model="digits"), "--out")):
        for largest in (0, 1000, 100_000):
            name = f"full after {largest}: {command.split()[0]}"
            refused = None if largest == 100_000 else True
            words = (*command.split(), option, "new" if command.startswith("prune") else "new.json")
            yield Case(kind="files", name=name, words=words, refused=refused, largest=largest)

    for name, words in (
        ("a folder called as staging is", f"prune {model} --out mine"),
        ("a link for points", f"sweep digits {L1} --macs 0.5 --out linked"),
        ("a link for cells", f"compare digits --data digits {SAMPLES} --criteria l1 --seeds 1 --out linked"),
    ):
        yield Case(kind="files", name=name, words=tuple(words.split()), quick=name.startswith("a link"))


def bench() -> Iterator[Case]:
    numbers = ("-1", "0", "2147483648", "1e12", "nan", "x", "9" * 30)
    for option in ("--threads", "--runs", "--batch", "--seconds", "--warmup", "--input-size", "--seed"):
        for word in numbers:
            sure = (option, word) not in (
                ("--warmup", "0"),
                ("--seed", "0"),
                ("--seconds", "0"),
                ("--seed", "2147483648"),
            )
            words = ("bench", "m.onnx", "--runs", "2", "--batch", "1", option, word)
            name = f"bench {option} {word[:12]}"
            yield Case(kind="bench", name=name, words=words, refused=True if sure else None)
    for out in ("m.onnx", "./project/../m.onnx", "m.pt", "photos", "/dev/full", "link.json"):
        words = ("bench", "m.onnx", "--runs", "2", "--batch", "1", "--json", out)
        yield Case(kind="bench", name=f"--json {out}", words=words, quick=out == "m.onnx")
    for file in ("m.pt", "nets.py", "pipe", "photos", "/dev/zero", "cut.onnx", "x" * 300, "zeros.pt"):
        yield Case(kind="bench", name=file[:20], words=("bench", file, "--runs", "2"))
    yield Case(kind="bench", name="a good one", words=("bench", "m.onnx", "--runs", "2", "--batch", "1"), refused=False)
