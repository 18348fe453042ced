"""The examples run, on data small enough for a test."""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
import struct
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.datasets import load_sample_images

from tests.helpers.commands import run
from tests.helpers.processes import python
from topocompress.data.images import prepare
from topocompress.data.loading import load_data
from topocompress.models.digits import DigitsNet
from topocompress.models.loading import load_model

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def example(monkeypatch, tmp_path):
    """``example(name, *words)`` runs an example as a script does; the command that it starts runs in this process."""
    monkeypatch.chdir(tmp_path)

    def started(command, *, env, check):
        assert command[:3] == [sys.executable, "-m", "topocompress"]
        for place in reversed(env["PYTHONPATH"].split(os.pathsep)):
            monkeypatch.syspath_prepend(place)
        return SimpleNamespace(returncode=run(monkeypatch, *command[3:]))

    def run_example(name, *words):
        monkeypatch.delitem(sys.modules, name, raising=False)  # the command finds it where its environment says
        spec = importlib.util.spec_from_file_location("example", EXAMPLES / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.subprocess = SimpleNamespace(run=started)
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, words)])
        return module.main()

    return run_example


def write_idx(path: Path, array: np.ndarray) -> None:
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    with gzip.open(path, "wb") as archive:
        archive.write(header + array.astype(np.uint8).tobytes())


def test_fashion_mnist(tmp_path, example, capsys):
    source = tmp_path / "source"
    source.mkdir()
    random = np.random.default_rng(0)
    for part, count in (("train", 300), ("t10k", 60)):
        labels = np.arange(count) % 10
        images = random.integers(0, 60, (count, 28, 28)) + 18 * labels[:, None, None]
        write_idx(source / f"{part}-images-idx3-ubyte.gz", images)
        write_idx(source / f"{part}-labels-idx1-ubyte.gz", labels)
    options = ["--ratio", "0.3", "--scale", "quantile:0.1", "--samples", "60", "--finetune", "1"]

    assert example("fashion_mnist", "--source", source, "--epochs", "2", "--", *options) == 0

    assert "epoch 2/2" in capsys.readouterr().out
    report = json.loads((tmp_path / "fashion-run" / "report.json").read_text(encoding="utf-8"))
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


@pytest.mark.usefixtures("unexported")  # timm's lite0 is exported in tests.models
def test_efficientnet_lite0(tmp_path, example):
    few = ["--samples", "4", "--eval-samples", "8", "--input-size", "64", "--ignore", "*_project_conv"]

    assert example("efficientnet_lite0", "--out", "run", "--", "--ratio", "0.1", "--criterion", "l1", *few) == 0

    report = json.loads((tmp_path / "run" / "report.json").read_text(encoding="utf-8"))
    assert report["after"]["macs"] < report["before"]["macs"]
    assert report["before"]["agreement"] == 1
    assert 0 <= report["after"]["agreement"] <= 1
    assert report["after"]["accuracy"] is None
    kept = {row["root"] for row in report["plan"]["groups"] if row["kept_because"].startswith("ignored")}
    assert "_blocks.0._project_conv" in kept


def test_they_are_scripts():
    assert "after --" in python(EXAMPLES / "efficientnet_lite0.py", "--help").stdout


@pytest.mark.parametrize("shard", ["1GB", "8KB"])
def test_hugging_face_prunes_a_saved_folder(example, tmp_path, monkeypatch, shard):
    transformers = pytest.importorskip("transformers")
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=5, image_size=32
    )
    monkeypatch.setenv("TOPOCOMPRESS_HF_FOLDER", "")
    folder = tmp_path / "saved"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformers.ResNetForImageClassification(config).save_pretrained(folder, max_shard_size=shard)
    assert (folder / "model.safetensors.index.json").is_file() == (shard != "1GB")
    words = ["--ratio", "0.5", "--criterion", "l1", "--samples", "20", "--eval-samples", "10", "--no-reconstruct"]
    assert example("hugging_face", folder, "--out", tmp_path / "run", "--", *words) == 0
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["after"]["macs"] < 0.7 * report["before"]["macs"]
    assert report["data"]["compared_by"].startswith("agreement")


def test_yolo_prunes_tunes_and_predicts(monkeypatch, tmp_path, capsys):
    pytest.importorskip("ultralytics")
    monkeypatch.setattr(
        sys, "argv", ["yolo.py", "--out", str(tmp_path / "run"), "--epochs", "1", "--images", "16", "--width", "0.125"]
    )
    spec = importlib.util.spec_from_file_location("yolo_example", EXAMPLES / "yolo.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    result = module.main()
    assert result.report.after.macs < result.report.before.macs
    assert result.report.data["metric"] == "f1"
    assert "predict:" in capsys.readouterr().out
    assert (tmp_path / "run" / "model.onnx").is_file()


def test_segmentation_models_prunes_by_miou(example, tmp_path, capsys):
    pytest.importorskip("segmentation_models_pytorch")
    few = ["--samples", "10", "--eval-samples", "10", "--no-reconstruct", "--finetune", "1"]
    options = ["--ratio", "0.3", "--criterion", "l1", *few]

    assert example("segmentation_models", "--epochs", "1", "--images", "16", "--", *options) == 0

    report = json.loads((tmp_path / "unet-run" / "report.json").read_text(encoding="utf-8"))
    assert report["data"]["metric"] == "miou"
    assert report["after"]["macs"] < 0.8 * report["before"]["macs"]
    assert 0 <= report["after"]["metric"] <= 1
    assert report["finetune"]["measure"] == "metric"
    assert "trained: mIoU" in capsys.readouterr().out
