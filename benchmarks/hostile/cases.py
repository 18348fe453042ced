"""The table: what is run, and what must come of it."""

from __future__ import annotations

import os
from collections.abc import Iterator

from benchmarks.hostile.case import PRUNE, SAMPLES, SCORE, Case
from benchmarks.hostile.shown import bench, files, names
from benchmarks.hostile.spoiled import changes


def table() -> list[Case]:
    """All cases."""
    return [*_outputs(), *_options(), *_checkpoints(), *_runs(), *_factories(), *_data(), *names(), *files(), *bench()]


def _outputs() -> Iterator[Case]:
    places = {
        "the model": "m.safetensors",
        "the model, written otherwise": "./project/../m.safetensors",
        "the images": "photos",
        "inside the images": "photos/run",
        "inside a class of images": "photos/cat/run",
        "above everything": "..",
        "here": ".",
        "here, spelled": "project/..",
        "the root": "/",
        "empty": "",
        "a device": "/dev/full",
        "nothing": "/dev/null",
        "under a device": "/dev/null/run",
        "a pipe": "pipe",
        "a link": "link",
        "a link to a file": "link.json",
        "a project": "project",
        "a file of a project": "project/thesis.tex",
        "a checkpoint": "m.pt",
        "code": "nets.py",
        "a long name": "n" * 250,
        "a longer name": "n" * 5000,
        "many folders": "/".join(["n" * 100] * 60),
        "no UTF-8": os.fsdecode(b"caf\xe9"),
        "no rights": "/proc/run",
    }
    model = "m.safetensors --arch digits --data imagefolder:photos --unlabelled"
    for name, place in places.items():
        for command, option in (
            (f"prune {model} {SAMPLES} --criterion l1 --ratio 0.3 --no-controls --force", "--out"),
            (f"score {model} --samples 20 --criterion l1", "--out"),
            (f"score {model} --samples 20 --criterion l1", "--plot"),
            (f"sweep {model} {SAMPLES} --macs 0.5 --criterion l1", "--out"),
            (f"compare {model} {SAMPLES} --criteria l1 --seeds 1 --ratios 0.5", "--out"),
            (f"inspect {model} --samples 20 --layer stem.0 --filter 0", "--out"),
        ):
            if place == "project" and command.startswith(("sweep", "compare")):
                continue  # results may be put into a folder that is there
            words = (*command.split(), option, place)
            quick = command.startswith("score") and option == "--out"
            yield Case(kind="outputs", name=f"{name}: {words[0]} {option}", words=words, quick=quick)
    both = (*SCORE.format(model="digits").split(), "--out", "a.png", "--plot", "a.png")
    yield Case(kind="outputs", name="two in one", words=both, quick=True)
    yield Case(kind="outputs", name="a factory's own file", words=("score", "nets:good", "--out", "nets.py"))


def _options() -> Iterator[Case]:
    numbers = ("-1", "0", "1e12", "nan", "inf", "-inf", "9" * 30, "9" * 5000, "x", "", "1.5", "\u0661")
    values = {
        PRUNE: {
            "--seed": ("-1", "1e12", "nan", "9" * 30, "x"),
            "--iterations": ("0", "-1", "1000000"),
            "--finetune": ("-1", "9" * 20, "nan"),
            "--resize": ("0", "-5", "200000", "9" * 20),
            "--input-size": ("0", "-1", "200000", "12000x12000", "9" * 20, "x", "1x2x3", "nan"),
            "--samples": ("0", "1", "-5", "9" * 20),
            "--eval-samples": ("0", "-1", "9" * 20),
            "--workers": ("0", "-1", "9" * 20, "100000"),
            "--memory": ("0", "-1GB", "nan", "inf", "x", ""),
            "--mean": ("nan", "inf", "1,2", "x", "", "-inf", "255"),
            "--std": ("nan", "0", "-1", "inf", "x", ""),
            "--pixel-range": ("nan,1", "1,0", "0,inf", "0", "x", ""),
            "--round-to": ("0", "-1", "x", "nan", "9" * 20),
            "--min-channels": ("0", "-1", "9" * 20),
            "--max-ratio": ("0", "1", "nan", "inf", "-1"),
            "--batch-size": ("0", "-1", "9" * 20),
            "--distill-blocks": ("-1", "9" * 20),
            "--criterion": (
                *("", "x", "persistence+draws=99999999999", "persistence+draws=nan", "persistence+draws=-1"),
                *("persistence+batch=1e99", "persistence+looks=1e9", "taylor+looks=9999999", "l1+x=1", "betti+"),
                *("random+seed=-1", "random+seed=1e99", "chip+samples=-1", "[red]x[/]", "\x1b[31mx"),
            ),
            "--lr": ("0", "nan", "inf", "-1"),
            "--arch-args": (
                "x",
                "a=1 a=2",
                f"a={'[' * 100_000}",
                "num_classes=2000000",
                "num_classes=NaN",
                "weights=x",
            ),
            "--classes": ("no such file", "/dev/null", "photos", "nets.py", "", "pipe", "zeros.txt"),
            "--cluster": ("x", "tcp://", "\x1b[31m"),
            "--val-data": ("", "no such", "/dev/null", "pipe", "m.pt", "project", "n" * 5000),
            "--opset": ("-1", "0", "99", "9" * 20, "nan", "x"),
            "--allocation": ("", "x"),
        },
        f"{PRUNE} --criterion betti": {
            "--scale": (
                "x",
                "quantile:nan",
                "quantile:-1",
                "quantile:2",
                "absolute:inf",
                "knn:0,1",
                "relative:nan",
                "",
            ),
            "--dims": ("3", "-1", "x", "", "0,0,9"),
        },
        SCORE: {"--thresholds": ("nan", "inf", "x", "", ",".join(["1"] * 5000)), "--map-size": ("0", "-1", "9" * 20)},
    }
    needing = {"--cluster": " --criterion betti", "--lr": " --finetune 1", "--batch-size": " --finetune 1"}
    for command, options in values.items():
        for option, words in options.items():
            for word in words:
                line = f"{command.format(model='digits')}{needing.get(option, '')}"
                name = f"{option} {ascii(word)[:40]} ({len(word)})"
                sure = option != "--workers" or word == "0"
                yield Case(
                    kind="options",
                    name=name,
                    words=(*line.split(), option, word),
                    refused=True if sure else None,
                    quick=option in ("--seed", "--iterations", "--mean", "--criterion", "--input-size"),
                )
    for word in numbers:
        yield Case(
            kind="options",
            name=f"--ratio {word[:20]} ({len(word)})",
            words=(*PRUNE.format(model="digits").split(), "--ratio", word),
        )
        yield Case(
            kind="options", name=f"bench --batch {word[:20]} ({len(word)})", words=("bench", "m.pt", "--batch", word)
        )


def _checkpoints() -> Iterator[Case]:
    refused = (
        *("only code", "complex", "whole", "true", "nan", "sparse", "empty", "repeated", "marks", "tuples"),
        *("digits", "endless", "nothing", "zeros", "cut", "inflating", "names", "pickle"),
    )
    files = {
        **{f"{name}.pt": True for name in refused},
        **{f"{name}.pt": None for name in ("code", "bytes", "a storage", "a tensor")},
        **{f"{name}.safetensors": True for name in ("header", "deep", "part")},
        **dict.fromkeys(("outside.safetensors.index.json", "deep.index.json", "nets.py", "pipe", "/dev/zero"), True),
        **dict.fromkeys(("photos", "project", "a\x00b".replace("\x00", "%00"), "no such file", "n" * 300, ""), True),
        **dict.fromkeys(("link.json", "/dev/null", os.fsdecode(b"caf\xe9.pt"), "\x1b[31mred.pt"), True),
    }
    for file, sure in files.items():
        for arch in (("--arch", "digits"), ()):
            words = tuple(file if word == "{model}" else word for word in PRUNE.split())
            name = f"{ascii(file)[:40]} {' '.join(arch)}"
            yield Case(kind="checkpoints", name=name, words=(*words, *arch), refused=sure, quick=bool(arch))


def _runs() -> Iterator[Case]:
    for name, (change, words) in changes().items():
        line = PRUNE.format(model="spoiled").split()
        allowed = None if name.startswith(("plans []", "classes")) else True
        quick = name.startswith(("object os", "resnet18", "files"))
        offered = "--arch runpy" if name.startswith("object runpy") and "--arch runpy:run_path" not in name else ""
        yield Case(
            kind="runs", name=name, words=(*line, *words), refused=allowed, change=change, quick=quick, unsaid=offered
        )
    beside = {
        **dict.fromkeys(
            ("--weights m.pt", "--weights DEFAULT", "--weights-key model", "--arch-args num_classes=3"), True
        ),
        **dict.fromkeys(("--input-size 12000", "--mean nan", "--std 0", "--resize 200000"), True),
        **dict.fromkeys(("--mean 0.5", "--std 0.5", "--resize 16", ""), False),
    }
    for words, refused in beside.items():
        line = PRUNE.format(model="run").split()
        yield Case(
            kind="runs", name=f"beside: {words}", words=(*line, *words.split()), refused=refused, quick=not words
        )


def _factories() -> Iterator[Case]:
    wrong = (
        *("ends", "ends_badly", "nothing", "number", "raises", "memory", "deep", "unsayable", "interrupt_group"),
        *("Ending", "Failing", "complex_weights", "no_such", "sys", "Path"),
    )
    for name in wrong:
        words = tuple(PRUNE.format(model=f"nets:{name}").split())
        yield Case(kind="factories", name=name, words=words, quick=name in ("ends", "raises", "Ending"))
    for model in (
        "os:abort.x",
        "no_such_module:x",
        "nets:",
        ":x",
        "nets:good:x",
        "sys:exit",
        "builtins:quit",
        "this:x",
    ):
        yield Case(kind="factories", name=model, words=tuple(PRUNE.format(model=model).split()))
    good = tuple(PRUNE.format(model="nets:good").split())
    yield Case(kind="factories", name="a good one", words=good, refused=False, quick=True)


def _data() -> Iterator[Case]:
    base = f"prune digits {SAMPLES} --criterion l1 --ratio 0.3 --no-controls --dry-run"
    wrong = (
        *("data_ends", "item_ends", "item_raises", "item_none", "half_labels", "nan_labels", "text_labels"),
        *("huge_labels", "negative_size", "no_samples", "no_such", "number"),
    )
    for name in wrong:
        yield Case(kind="data", name=name, words=(*base.split(), "--data", f"nets:{name}"), quick="item" in name)
    yield Case(kind="data", name="a good set", words=(*base.split(), "--data", "nets:data"), refused=False)
    for folder in ("bombs", "broken", "odd names"):
        words = (*base.split(), "--unlabelled", "--data", f"imagefolder:{folder}")
        yield Case(kind="data", name=folder, words=words, refused=False, quick=True)
        yield Case(kind="data", name=f"{folder}, --strict", words=(*words, "--strict"), refused=folder != "odd names")
    for place in ("", ".", "no such", "/dev/null", "pipe", "m.pt", "n" * 300, os.fsdecode(b"caf\xe9"), "\x1b[31m"):
        name = f"imagefolder:{ascii(place)[:30]}"
        words = (*base.split(), "--data", f"imagefolder:{place}")
        yield Case(kind="data", name=name, words=words, refused=None if place == "." else True)
    for source in ("cifar10:project", "fashion-mnist:project", "cifar10:", "http://x", "x:y:z", ""):
        yield Case(
            kind="data", name=source, words=(*base.split(), "--data", source), refused=None if not source else True
        )
