"""A folder with what a user works with, and with files made to harm."""

from __future__ import annotations

import json
import os
import pickle
import struct
import sys
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

import topocompress
from topocompress.models.digits import CHECKPOINT, DigitsNet
from topocompress.models.loading import load_model
from topocompress.surgery.run_directory import _own_digest

EXECUTED = "executed"
"""A file of this name means that code of an attacker's ran."""

FACTORIES = """
import sys
from pathlib import Path
import torch
from torch import nn
from topocompress.models.digits import DigitsNet

def good(): return DigitsNet()
def attacked(**options): Path("executed").write_text(str(options)); return DigitsNet()
def ends(): sys.exit(0)
def ends_badly(): sys.exit(3)
def nothing(): return None
def number(): return 7
def raises(): raise ValueError("mine\\n\\x1b[31mred")
def memory(): raise MemoryError
def deep(): return deep()
def unsayable():
    class Odd(Exception):
        def __str__(self): raise RuntimeError
    raise Odd
def interrupt_group(): raise ExceptionGroup("many", [ValueError("a")])
class Ending(DigitsNet):
    def forward(self, images): sys.exit(0)
class Failing(DigitsNet):
    def forward(self, images): raise KeyError("no")
def named(*names):
    class Net(torch.nn.Module):
        input_shape = (1, 16, 16)
        def __init__(self):
            super().__init__()
            for number, name in enumerate(names):
                self.add_module(name, nn.Conv2d(1 if not number else 8, 8, 3, padding=1))
            self.head = nn.Linear(8, 10)
        def forward(self, images):
            for name in names: images = torch.relu(self.get_submodule(name)(images))
            return self.head(images.mean((2, 3)))
    torch.manual_seed(0)
    return Net()
def marked_up(): return named("[/]x", "[red]conv[/]", ":smiley:")
def escaping(): return named("\x1b[31mred", "\x1b]0;owned\x07", "\u202ea")
def complex_weights():
    net = DigitsNet(); net.head.weight = nn.Parameter(net.head.weight.detach().cfloat()); return net
class Samples:
    def __init__(self, item=None, size=60): self.item, self.size = item, size
    def __len__(self): return self.size
    def __getitem__(self, index):
        if index >= 60: raise IndexError
        return self.item(index) if self.item else (torch.rand(1, 16, 16), index % 10)
def data(): return Samples()
def data_ends(): sys.exit(0)
def item_ends(): return Samples(lambda index: sys.exit(0))
def item_raises(): return Samples(lambda index: {}["no"])
def item_none(): return Samples(lambda index: None)
def half_labels(): return Samples(lambda index: (torch.rand(1, 16, 16), 0.5))
def nan_labels(): return Samples(lambda index: (torch.rand(1, 16, 16), float("nan")))
def text_labels(): return Samples(lambda index: (torch.rand(1, 16, 16), "cat"))
def huge_labels(): return Samples(lambda index: (torch.rand(1, 16, 16), 2**70))
def negative_size():
    class Odd(Samples):
        def __len__(self): return -1
    return Odd()
def no_samples(): return Samples(size=0)
"""


class Payload:
    """Calls something when unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


def make(folder: Path) -> None:
    """Fill an empty folder."""
    (folder / "nets.py").write_text(FACTORIES, encoding="utf-8")
    state = DigitsNet().state_dict()
    (folder / "m.safetensors").write_bytes(CHECKPOINT.read_bytes())
    torch.save(load_model("digits").module.state_dict(), folder / "m.pt")
    (folder / "project").mkdir()
    (folder / "project" / "thesis.tex").write_text("years of work", encoding="utf-8")
    random = np.random.default_rng(0)
    for kind in ("cat", "dog"):
        (folder / "photos" / kind).mkdir(parents=True)
        for number in range(12):
            Image.fromarray(random.integers(0, 255, (16, 16), dtype=np.uint8)).save(
                folder / "photos" / kind / f"{number}.png"
            )
    (folder / "link").symlink_to("project")
    (folder / "link.json").symlink_to("project/thesis.tex")
    (folder / "zeros.txt").symlink_to("/dev/zero")
    (folder / ".mine.topocompress" / "thesis").mkdir(parents=True)  # as a staging folder is called
    (folder / ".mine.topocompress" / "thesis" / "x.tex").write_text("years of work", encoding="utf-8")
    (folder / "linked").mkdir()
    for name in ("points", "cells"):
        (folder / "linked" / name).symlink_to("../project")
    os.mkfifo(folder / "pipe")
    _run(folder / "run")
    _onnx(folder)
    _checkpoints(folder, state)
    _images(folder)


def _run(path: Path) -> None:
    loaded = load_model("digits")
    example = torch.zeros(1, 1, 16, 16)
    scores = topocompress.score(loaded.module, criterion="l1", example=example)
    plan = topocompress.plan(loaded.module, scores, example=example, ratio=0.3)
    model = topocompress.apply(loaded.module, plan, example=example)
    topocompress.save(path, model, plans=[plan], preprocessing=loaded.preprocessing, architecture=loaded.architecture)


def _onnx(folder: Path) -> None:
    model = load_model("digits").module
    topocompress.export_onnx(model, folder / "m.onnx", samples=torch.rand(2, 1, 16, 16))
    (folder / "cut.onnx").write_bytes((folder / "m.onnx").read_bytes()[:5000])


def rewritten(run: Path, copy: Path, change: Any) -> None:
    """A copy of a run whose description an attacker has changed and signed again."""
    copy.mkdir()
    for file in run.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    manifest = json.loads((run / "plan.json").read_text(encoding="utf-8"))
    change(manifest)
    manifest["fingerprint"] = _own_digest(manifest)
    (copy / "plan.json").write_text(json.dumps(manifest), encoding="utf-8")


def _checkpoints(folder: Path, state: dict[str, torch.Tensor]) -> None:
    first = next(iter(state))
    bomb = Payload(os.system, f"touch {EXECUTED}")
    contents: dict[str, Any] = {
        "code": {"state_dict": state, "args": bomb},
        "only code": bomb,
        "bytes": {**state, "w": Payload(bytearray, 3_000_000_000)},
        "a storage": {**state, "w": Payload(torch.FloatStorage, 800_000_000)},
        "a tensor": {**state, "w": Payload(torch.Tensor, 40_000, 40_000)},
        "complex": {**state, first: state[first].cfloat()},
        "whole": {**state, first: state[first].long()},
        "true": {**state, first: state[first].bool()},
        "nan": {**state, first: state[first] * torch.nan},
        "sparse": {**state, first: state[first].reshape(32, -1).to_sparse()},
        "empty": {},
        "names": {f"\x1b]0;owned\x07[red]{key}:smiley:": value for key, value in state.items()},
    }
    for name, content in contents.items():
        torch.save(content, folder / f"{name}.pt")
    raw = {
        "repeated": b"\x80\x02." * 1_500_000,
        "marks": b"\x80\x02" + b"(" * 2_000_000 + b".",
        "tuples": b"\x80\x02" + b"(t" * 2_000_000 + b".",
        "digits": b"\x80\x02I" + b"9" * 4_000_000 + b"\n.",
        "endless": b"\x80\x02\x8b\xff\xff\xff\x7f.",
        "nothing": b"",
        "zeros": b"\0" * 1_000_000,
        "cut": (folder / "m.pt").read_bytes()[:9000],
    }
    for name, content in raw.items():
        (folder / f"{name}.pt").write_bytes(content)
    with zipfile.ZipFile(folder / "inflating.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"\x80\x02X" + (2 * 10**8).to_bytes(4, "little") + b"a" * 2 * 10**8 + b".")
        archive.writestr("a/version", "3")
    (folder / "header.safetensors").write_bytes(struct.pack("<Q", 2**62) + b"{}")
    (folder / "deep.safetensors").write_bytes(struct.pack("<Q", 200_000) + b'{"a":' * 40_000)
    save_file({first: state[first]}, folder / "part.safetensors")
    index = {"weight_map": {"a": "../project/thesis.tex"}}
    (folder / "outside.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    (folder / "deep.index.json").write_text("[" * 100_000, encoding="utf-8")
    with (folder / "pickle.pt").open("wb") as stream:
        pickle.dump(bomb, stream)


def _png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        whole = kind + content
        return struct.pack(">I", len(content)) + whole + struct.pack(">I", zlib.crc32(whole))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    packer = zlib.compressobj(9)
    row = b"\0" * (1 + 3 * width)
    packed = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def _images(folder: Path) -> None:
    for name in ("bombs", "broken", "odd names"):
        for kind in ("cat", "dog"):
            (folder / name / kind).mkdir(parents=True)
            for file in (folder / "photos" / kind).iterdir():
                (folder / name / kind / file.name).write_bytes(file.read_bytes())
    (folder / "bombs" / "cat" / "bomb.png").write_bytes(_png(13_300, 13_300))
    good = (folder / "photos" / "cat" / "0.png").read_bytes()
    for number, content in enumerate(
        (b"", b"x", good[:40], good[:-20], b"GIF89a", b"BM" + b"\xff" * 60, b"II*\0" * 99)
    ):
        (folder / "broken" / "cat" / f"broken{number}.png").write_bytes(content)
    for kind in ("\x1b[31mred", "[/]x", ":smiley:"):
        (folder / "odd classes" / kind).mkdir(parents=True)
        for number, file in enumerate((folder / "photos" / "cat").iterdir()):
            (folder / "odd classes" / kind / f"{number}.png").write_bytes(file.read_bytes())
    for name in (b"caf\xe9.png", b"\x1b[31mred.png", b"a\nError: b.png", b"[bold]x[-].png"):
        Path(os.fsdecode(os.fsencode(folder) + b"/odd names/cat/" + name)).write_bytes(good)


if __name__ == "__main__":
    make(Path(sys.argv[1]))
