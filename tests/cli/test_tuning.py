"""Options of fine-tuning on the command line; runs that are killed, continued, or shared by two processes."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.commands import BASE, refused, run
from tests.helpers.interrupting import interrupted_after
from tests.helpers.processes import python, together
from topocompress.training.checkpoints import TuningStore

PRUNE = ["prune", "tiny.safetensors", *BASE, "--ratio", "0.5", "--criterion", "l1", "--no-controls"]


def report(folder: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(folder, "report.json").read_text(encoding="utf-8"))
    return found


@pytest.mark.usefixtures("place", "unexported")
def test_every_option_reaches_the_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    options = {
        "--finetune": ("epochs", 3),
        "--lr": ("lr", 0.02),
        "--schedule": ("schedule", "one-cycle"),
        "--batch-size": ("batch_size", 8),
        "--accumulate": ("accumulate", 2),
        "--distill-weight": ("distill", 0.25),
        "--patience": ("patience", 1),
        "--label-smoothing": ("label_smoothing", 0.1),
        "--precision": ("precision", "bf16"),
    }
    words = [word for option, (_, value) in options.items() for word in (option, str(value))]
    assert run(monkeypatch, *PRUNE, *words, "--no-augment", "--out", "run") == 0
    found = report("run")["finetune"]
    assert {name: found[name] for name, _ in options.values()} == dict(options.values())
    assert (found["augment"], found["augmentation"], found["measure"]) == (False, "none", "accuracy")
    assert found["epochs_run"] == len(found["history"]) - 1


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--lr", "0"], "the learning rate must be a number above 0"),
        (["--schedule", "linear"], "schedule must be cosine or one-cycle"),
        (["--precision", "fp8"], "precision must be no, bf16 or fp16"),
        (["--precision", "fp16"], "fp16 needs a GPU"),
        (["--distill-weight", "2"], "distillation must lie in 0..1"),
        (["--batch-size", "1", "--patience", "0"], "batch size must be 2 or more, got 1; patience must be 1 or more"),
    ],
)
def test_settings_that_cannot_be_are_refused(
    words: list[str], expected: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    assert expected in refused(monkeypatch, capsys, *PRUNE, "--finetune", "1", *words)


@pytest.mark.usefixtures("place")
def test_distillation_is_fine_tuning(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert "Add --finetune" in refused(monkeypatch, capsys, *PRUNE, "--distill")


@pytest.mark.usefixtures("unexported")
def test_images_without_labels_teach_what_the_original_says(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "flat").mkdir()
    for path in place.glob("photos/*/*.png"):
        shutil.copy(path, place / "flat" / f"{path.parent.name}{path.name}")
    words = [*PRUNE[:4], "--data", "imagefolder:flat", "--ratio", "0.5", "--criterion", "l1", "--finetune", "2"]
    assert run(monkeypatch, *words, "--samples", "20", "--out", "plain") == 2
    assert "--distill" in capsys.readouterr().err
    assert run(monkeypatch, *words, "--samples", "20", "--distill", "--out", "run") == 0
    found = report("run")
    assert (found["finetune"]["measure"], found["finetune"]["distill"]) == ("agreement", 1.0)
    assert found["finetune"]["augmentation"] == "natural"
    assert "epochs of fine-tuning" in capsys.readouterr().out


@pytest.mark.usefixtures("place", "unexported")
def test_photographs_stand_in_for_images_to_learn_from(monkeypatch: pytest.MonkeyPatch) -> None:
    words = [*PRUNE[:4], "--samples", "30", "--eval-samples", "20", "--ratio", "0.5", "--criterion", "l1"]
    assert run(monkeypatch, *words, "--finetune", "1", "--distill", "--out", "run") == 0
    assert any(line.startswith("Fine-tuned on crops of two photographs") for line in report("run")["warnings"])


def epochs_in(cache: Path) -> list[Path]:
    """Epochs that are kept, without the repairs beside them."""
    return [path for path in cache.rglob("tuning.safetensors") if "repairs" not in path.parts]


KILLED = """
import os, signal
from topocompress.training.checkpoints import TuningStore

save = TuningStore.save

def save_and_die(self, snapshot):
    saved = save(self, snapshot)
    if len(snapshot.state.get("history", ())) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return saved

TuningStore.save = save_and_die
from topocompress.cli import main

main()
"""
TUNED = [*PRUNE, "--finetune", "4", "--batch-size", "8", "--out", "run"]


@pytest.mark.usefixtures("place", "unexported")
def test_a_killed_run_is_continued_to_the_identical_weights(monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> None:
    killed = python("-c", KILLED, *TUNED, folders=(Path.cwd(),), check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(epochs_in(own_cache)) == 1

    assert run(monkeypatch, *TUNED, "--resume") == 0

    found = report("run")["finetune"]
    assert (found["epochs_resumed"], found["epochs_run"]) == (2, 4)
    assert not list(own_cache.rglob("tuning.safetensors"))  # the run is finished
    assert run(monkeypatch, *TUNED, "--no-cache", "--out", "whole") == 0
    assert report("whole")["finetune"]["epochs_resumed"] == 0
    assert Path("run/model.safetensors").read_bytes() == Path("whole/model.safetensors").read_bytes()


@pytest.mark.usefixtures("place")
def test_ctrl_c_says_what_is_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], own_cache: Path
) -> None:
    with interrupted_after(TuningStore, "save", when=lambda _, snapshot: len(snapshot.state.get("history", ())) == 3):
        assert run(monkeypatch, *TUNED) == 130
    assert "the epochs that are finished are kept; --resume continues from there" in capsys.readouterr().err
    assert len(epochs_in(own_cache)) == 1
    assert not Path("run").exists()


@pytest.mark.usefixtures("place")
def test_of_two_processes_one_writes_and_prints() -> None:
    words = ("-W", "error", "-m", "topocompress", *TUNED)
    (printed, _), (silent, no_errors) = together(*words, folders=(Path.cwd(),))
    assert "After 4 epochs of fine-tuning" in printed
    assert silent == no_errors == ""
    assert report("run")["finetune"]["processes"] == 2
    assert Path("run/model.onnx").is_file()
