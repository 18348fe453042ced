"""What is assumed of images and networks is printed, by every command that reads both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.commands import BASE, run

COMMANDS = {
    "score": [],
    "inspect": ["--layer", "body.0", "--filter", "0", "--out", "filter.png"],
    "sweep": ["--macs", "0.8", "--criterion", "l1", "--out", "sweep"],
    "compare": ["--criteria", "l1,random", "--out", "comparison"],
    "prune": ["--ratio", "0.5", "--criterion", "l1", "--dry-run"],
}


@pytest.mark.usefixtures("unexported")
@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_assumed_is_printed(
    command: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    random = np.random.default_rng(0)
    for number in range(60):
        pixels = random.integers(0, 4096, (16, 16), dtype=np.uint16)
        Image.fromarray(pixels).save(place / "photos" / "cat" / f"deep{number}.png")
    assert run(monkeypatch, command, "tiny.safetensors", *BASE, *COMMANDS[command]) == 0
    shown = capsys.readouterr()
    text = " ".join((shown.out + shown.err).split())
    assert "60 of 120 images have more than 8 bits a sample, values 0..4095 seen: 0 is taken for black and 4095" in text
    assert "the network does not say how images are prepared; assumed, as for ImageNet: mean 0.485" in text


@pytest.mark.usefixtures("unexported", "place")
@pytest.mark.parametrize("given", ["--trained-on", "--not-trained-on", ""])
def test_accuracy_on_training_images_says_so_at_the_number(
    given: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*BASE, "--ratio", "0.5", "--criterion", "l1", "--no-controls", "--out", "run", *filter(None, [given])]
    assert run(monkeypatch, "prune", "tiny.safetensors", *words) == 0
    shown = capsys.readouterr()
    text = " ".join((shown.out + shown.err).split())
    assert ("Accuracy on training images" in text) == (given == "--trained-on")
    assert ("--val-data FOLDER measures on others" in text) == (given != "--not-trained-on")
    assert ("The network was trained on the images that it is measured on" in text) == (given == "--trained-on")
    page = Path("run/report.html").read_text(encoding="utf-8")
    assert ("accuracy on training images" in page) == (given == "--trained-on")
