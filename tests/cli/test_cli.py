"""Bad input: one clear screen, exit code 2, no traceback, nothing half-written."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from tests.helpers.commands import BASE, refused, run

CASES = {
    "missing file": (["nothing.pt", "--ratio", "0.5"], "nothing.pt"),
    "unknown data": (["tiny.safetensors", "--arch", "tinynet:Tiny", "--data", "nowhere", "--ratio", "0.5"], "nowhere"),
    "no images": (["tiny.safetensors", *BASE[:2], "--data", "imagefolder:empty", "--ratio", "0.5"], "empty"),
    "no rule, too few to judge the usual one": (["tiny.safetensors", *BASE], "it takes 268 at least"),
    "two rules": (["tiny.safetensors", *BASE, "--ratio", "0.5", "--max-betti", "3"], "exactly one"),
    "bad share": (["tiny.safetensors", *BASE, "--ratio", "1.5"], "between 0 and 1"),
    "N below the threshold": (["tiny.safetensors", *BASE, "--max-betti", "300"], "cannot give a Betti number above"),
    "one sample": (["tiny.safetensors", *BASE[:4], "--samples", "1", "--ratio", "0.5"], "too few"),
    "threshold above what is there": (
        ["tiny.safetensors", *BASE[:4], "--max-betti", "300"],
        "48 calibration samples cannot give a Betti number above 300",
    ),
    "unknown criterion": (["tiny.safetensors", *BASE, "--ratio", "0.5", "--criterion", "bety"], "Did you mean 'betti'"),
    "threshold for a keep criterion": (["tiny.safetensors", *BASE, "--max-betti", "3", "--criterion", "l1"], "--ratio"),
    "pattern without a layer": (["tiny.safetensors", *BASE, "--ratio", "0.5", "--ignore", "layer9*"], "layer9*"),
    "unknown scale": (["tiny.safetensors", *BASE, "--ratio", "0.5", "--scale", "quantil:0.2"], "quantile:Q"),
    "bad dimension": (["tiny.safetensors", *BASE, "--ratio", "0.5", "--dims", "3"], "0, 1 and 2"),
    "scale for another criterion": (
        ["tiny.safetensors", *BASE, "--ratio", "0.5", "--criterion", "l1", "--scale", "knn:3,2"],
        "are for betti",
    ),
    "bad memory": (["tiny.safetensors", *BASE, "--ratio", "0.5", "--memory", "much"], "--memory 2GB"),
    "bad alignment": (["tiny.safetensors", *BASE, "--ratio", "0.5", "--round-to", "x"], "--round-to"),
    "no name for weights": (["resnet18", "--ratio", "0.5"], "--weights"),
    "wrong channel count": (
        ["tiny.safetensors", *BASE, "--ratio", "0.5", "--mean", "0.1,0.2", "--std", "1,1"],
        "channel",
    ),
    "one number for the range": (
        ["tiny.safetensors", *BASE, "--ratio", "0.5", "--pixel-range", "4095"],
        "0,4095",
    ),
    "words for black and white": (["tiny.safetensors", *BASE, "--ratio", "0.5", "--pixel-range", "a,b"], "0,4095"),
    "white below black": (["tiny.safetensors", *BASE, "--ratio", "0.5", "--pixel-range", "5,-1"], "pixel range 5, -1"),
    "blank images": (
        ["tiny.safetensors", *BASE[:2], "--data", "imagefolder:blank", "--samples", "40", "--ratio", "0.5"],
        "single colour throughout",
    ),
    "NaN inputs": (
        ["tiny.safetensors", *BASE[:2], "--data", "tinynet:nan_images", "--samples", "40", "--ratio", "0.5"],
        "NaN",
    ),
    "NaN maps": (
        ["tinynet:Exploding", "--weights", "tiny.safetensors", *BASE[2:], "--ratio", "0.5"],
        "NaN",
    ),
    "nothing above": (["tiny.safetensors", *BASE, "--max-betti", "19.5", "--scale", "quantile:0.9"], "removes nothing"),
    "everything above": (["tiny.safetensors", *BASE, "--max-betti", "0"], "everything"),
    "fine-tuning without labels": (
        ["tiny.safetensors", *BASE[:2], *["--samples", "20", "--ratio", "0.5", "--finetune", "1"]],
        "label",
    ),
    "parent is a file": (["tiny.safetensors", *BASE, "--ratio", "0.5", "--out", "tinynet.py/run"], "not a writable"),
    "out is a file": (["tiny.safetensors", *BASE, "--ratio", "0.5", "--out", "tinynet.py"], "is a file"),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_refused(
    case: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "empty").mkdir()
    (place / "blank").mkdir()
    for number in range(50):
        Image.new("L", (16, 16)).save(place / "blank" / f"{number}.png")
    words, expected = CASES[case]
    assert expected in refused(monkeypatch, capsys, "prune", *words)


@pytest.mark.parametrize("size", [0, 100, -100])
def test_damaged_checkpoint(
    size: int, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(nn.Conv2d(3, 8, 3).state_dict(), "model.pt")
    Path("model.pt").write_bytes(Path("model.pt").read_bytes()[:size])
    assert "model.pt" in refused(monkeypatch, capsys, "prune", "model.pt", "--ratio", "0.5")


def test_whole_module_needs_trust(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(nn.Sequential(nn.Conv2d(3, 8, 3)), "model.pt")
    assert "--trust-pickle" in refused(monkeypatch, capsys, "prune", "model.pt", "--ratio", "0.5")


def test_nan_weights(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import tinynet

    state = tinynet.Tiny().state_dict()
    state["body.2.weight"][0, 0, 0, 0] = torch.nan
    save_file(state, "bad.safetensors")
    assert "body.2.weight" in refused(monkeypatch, capsys, "prune", "bad.safetensors", *BASE, "--ratio", "0.5")


@pytest.mark.usefixtures("unexported")
def test_corrupt_image_is_skipped_or_refused(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "photos" / "cat" / "3.png").write_bytes(b"not an image")
    words = ["prune", "tiny.safetensors", *BASE, "--ratio", "0.5", "--criterion", "l1", "--out", "run"]
    assert "3.png" in refused(monkeypatch, capsys, *words, "--strict")
    assert run(monkeypatch, *words) == 0
    assert "1 file could not be read" in capsys.readouterr().out


@pytest.mark.usefixtures("unexported")
def test_full_disk(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("topocompress.workflows.account.write_report", full)
    text = refused(
        monkeypatch, capsys, "prune", "tiny.safetensors", *BASE, "--ratio", "0.5", "--criterion", "l1", "--out", "run"
    )
    assert "No space left on device" in text


@pytest.mark.usefixtures("unexported")
def test_interrupted(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("topocompress.workflows.account.write_report", interrupt)
    before = set(place.iterdir())
    words = ["tiny.safetensors", *BASE, "--ratio", "0.5", "--criterion", "l1", "--out", "run"]
    assert run(monkeypatch, "prune", *words) == 130
    assert "Interrupted" in capsys.readouterr().err
    assert {path for path in place.iterdir() if path.name != "__pycache__"} <= before


def test_more_classes_than_outputs(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "photos" / "bird").mkdir()
    for number in range(30):
        Image.new("RGB", (16, 16), (number, 0, 0)).save(place / "photos" / "bird" / f"{number}.png")
    assert "3 classes" in refused(monkeypatch, capsys, "prune", "tiny.safetensors", *BASE, "--ratio", "0.5")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--plot", "scores.jpg"], "unknown picture format"),
        (["--plot", "photos.png/scores.png"], "not a writable directory"),
        (["--out", "photos"], "is a directory"),
        (["--thresholds", "many"], "--thresholds"),
    ],
)
def test_score_refuses_before_it_works(
    words: list[str], expected: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "photos.png").touch()
    assert expected in refused(monkeypatch, capsys, "score", "no-such-model.pt", *BASE, *words)
