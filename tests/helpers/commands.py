"""Commands run in this process, in a folder with a tiny network and images."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from topocompress import cli

FACTORY = """
import torch
from torch import nn


class Tiny(nn.Module):
    input_shape = (3, 16, 16)

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2)
        )
        self.head = nn.Linear(32, 2)

    def forward(self, images):
        return self.head(self.body(images).flatten(1))


def nan_images():
    images = torch.rand(60, 3, 16, 16)
    images[41] = torch.nan
    return torch.utils.data.TensorDataset(images, torch.arange(60) % 2)


class Exploding(Tiny):
    def forward(self, images):
        return super().forward(images / 0.0)
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a tiny factory, its trained-looking checkpoint and 60 labelled images; the current directory."""
    (tmp_path / "tinynet.py").write_text(FACTORY, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "tinynet", raising=False)
    import tinynet

    torch.manual_seed(0)
    save_file(tinynet.Tiny().state_dict(), tmp_path / "tiny.safetensors")
    random = np.random.default_rng(0)
    for kind in ("cat", "dog"):
        (tmp_path / "photos" / kind).mkdir(parents=True)
        for number in range(30):
            pixels = random.integers(0, 255, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / kind / f"{number}.png")
    return tmp_path


BASE = ["--arch", "tinynet:Tiny", "--data", "imagefolder:photos", "--samples", "20"]


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """The command line in this process; its exit code."""
    monkeypatch.setattr(sys, "argv", ["topocompress", *words])
    with pytest.raises(SystemExit) as stop:
        cli.main()
        raise SystemExit(0)
    return int(stop.value.code or 0)


def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The error text of a command that must be refused and leave nothing behind."""
    before = sorted(Path().rglob("*"))
    code = run(monkeypatch, *words)
    text = " ".join(capsys.readouterr().err.split())
    assert code == 2, text
    assert "Traceback" not in text
    assert sorted(path for path in Path().rglob("*") if "__pycache__" not in path.parts) == [
        path for path in before if "__pycache__" not in path.parts
    ]
    return text
