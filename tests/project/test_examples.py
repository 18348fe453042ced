"""The examples run, on data small enough for a test."""

from __future__ import annotations

import gzip
import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from sklearn.datasets import load_sample_images

from topocompress.data.images import prepare
from topocompress.data.loading import load_data
from topocompress.models.digits import DigitsNet
from topocompress.models.loading import load_model

EXAMPLES = Path(__file__).parents[2] / "examples"


def write_idx(path: Path, array: np.ndarray) -> None:
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    with gzip.open(path, "wb") as archive:
        archive.write(header + array.astype(np.uint8).tobytes())


def test_fashion_mnist(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    random = np.random.default_rng(0)
    for part, count in (("train", 300), ("t10k", 60)):
        labels = np.arange(count) % 10
        images = random.integers(0, 60, (count, 28, 28)) + 18 * labels[:, None, None]
        write_idx(source / f"{part}-images-idx3-ubyte.gz", images)
        write_idx(source / f"{part}-labels-idx1-ubyte.gz", labels)
    options = ["--ratio", "0.3", "--scale", "quantile:0.1", "--samples", "60", "--finetune", "1"]
    command = [sys.executable, EXAMPLES / "fashion_mnist.py", "--source", source, "--epochs", "2", "--", *options]

    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert run.returncode == 0, run.stderr
    assert "epoch 2/2" in run.stdout
    report = json.loads((tmp_path / "fashion-run" / "report.json").read_text())
    assert report["after"]["macs"] < report["before"]["macs"]
    assert [control["criterion"] for control in report["controls"]] == ["random", "l1"]


def test_train_digits(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import train_digits

    monkeypatch.setattr(train_digits, "EPOCHS", 2)
    target = tmp_path / "digits.safetensors"
    train_digits.main(target)
    model = DigitsNet()
    model.load_state_dict(load_file(target))
    assert train_digits.accuracy(model, load_data("digits", preprocessing=load_model("digits").preprocessing)) > 0.5
    assert "held-out digits right" in capsys.readouterr().out


def test_efficientnet_lite0_sees_what_the_photographs_show(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    from efficientnet_lite0 import MEAN, SHORT_SIDE, STD, weights

    model = load_model(weights(), arch="efficientnet_lite0:lite0", mean=(MEAN,), std=(STD,), resize=SHORT_SIDE)
    palace, daisy = 698, 985
    with torch.no_grad():
        for photograph, expected in zip(load_sample_images().images, (palace, daisy), strict=True):
            pixels = torch.from_numpy(photograph.copy()).permute(2, 0, 1)
            assert int(model.module(prepare(pixels, model.preprocessing)[None]).argmax()) == expected


def test_efficientnet_lite0(tmp_path):
    few = ["--samples", "4", "--eval-samples", "8", "--ignore", "*_project_conv"]
    command = [sys.executable, EXAMPLES / "efficientnet_lite0.py", "--out", tmp_path / "run", "--"]
    command += ["--ratio", "0.1", "--criterion", "l1", *few]

    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert run.returncode == 0, run.stderr
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["after"]["macs"] < report["before"]["macs"]
    assert report["before"]["agreement"] == 1
    assert 0 <= report["after"]["agreement"] <= 1
    assert report["after"]["accuracy"] is None
    kept = {row["root"] for row in report["plan"]["groups"] if row["kept_because"].startswith("ignored")}
    assert "_blocks.0._project_conv" in kept
