"""``python -m benchmarks``: every study, its command and its last results; each study's own ``--help``."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import __main__ as listing
from benchmarks.common import results
from benchmarks.common.commands import parser_of
from benchmarks.common.results import FOLDER, read, write

ROOT = Path(__file__).parents[2]
FOLDERS = sorted(
    path.name for path in (ROOT / "benchmarks").iterdir() if path.is_dir() and not path.name.startswith("_")
)
STUDIES = [name for name in FOLDERS if name not in ("common", "results")]
KEPT = [path.stem for path in sorted(FOLDER.iterdir())]


def test_every_folder_is_a_study_with_a_description_and_a_page():
    assert listing.studies() == STUDIES
    assert len(STUDIES) >= 12
    for name in STUDIES:
        first, command, takes = importlib.import_module(f"benchmarks.{name}").__doc__.split("\n\n")[:3]
        assert first.endswith(".") and "\n" not in first
        assert command.startswith(f"    python -m benchmarks.{name} ") and "\n" not in command
        assert takes.startswith("Takes ")
        assert listing.pages(name)
        assert (ROOT / "benchmarks" / name / "__main__.py").is_file()


def test_only_studies_keep_results():
    assert set(KEPT) <= set(STUDIES)
    assert len(KEPT) >= 5
    assert all(path.suffix == ".json" for path in FOLDER.iterdir())


def test_the_list_shows_every_study(capsys):
    listing.main()
    parts = capsys.readouterr().out.strip().split("\n\n")
    assert [part.partition(":")[0] for part in parts] == STUDIES
    for name, part in zip(STUDIES, parts, strict=True):
        assert f"\n    python -m benchmarks.{name} " in part
        assert "\n    Takes " in part
        assert ("Last results: no file keeps any" in part) == (name not in KEPT)
        assert "nothing has been measured yet" not in part


@pytest.mark.parametrize("name", KEPT)
def test_without_measurements_a_study_says_so(name, tmp_path, monkeypatch):
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    assert listing.said(name) == "no file keeps any; see the pages"
    write(tmp_path / f"{name}.json", {"machine": {"cores": 2}})
    assert listing.said(name) == "nothing has been measured yet"


def said(name, rows, folder):
    write(folder / f"{name}.json", rows)
    return listing.said(name)


def test_what_is_said_follows_from_the_file(tmp_path, monkeypatch):
    kept = {name: read(FOLDER / f"{name}.json") for name in KEPT}
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    steps = {
        f"sets/D-I/{name}/runs": {"steps": {"0.99": [each] * 3}}
        for name, each in (("topological, frequency 2", 7.0), ("ReLU", None))
    }
    assert said("activation", steps, tmp_path) == "median steps to 99 % at frequency 2: 7 on D-I (ReLU never)"
    ends = {
        f"images/CIFAR-10/{kind}/{name}/runs": {"final": [end, end]}
        for kind, name, end in (
            ("plain", "topological", 0.8),
            ("plain", "ReLU", 0.75),
            ("BatchNorm", "topological", 0.8),
            ("BatchNorm", "tanh", 0.81),
        )
    }
    assert said("activation", ends, tmp_path).endswith("-1.00 to +5.00 points, ahead in 1 of 2 cells")

    times = {"batch 1": [2.0, 2.2, 2.1], "batch 8": [1.0], "macs_reduction": 1.5}
    row = {**dict.fromkeys(map(str, (1, 2, 4, 8, 16, 32)), times), "auto": {**times, "batch 1": [3.0]}}
    text = said("alignment", {"small/0": row}, tmp_path)
    assert text.startswith("geometric mean of 1 networks at batch 1")
    assert "2.10 (1), " in text and text.endswith("3.00 (auto)")

    cells = {f"cell/fashion/{name}/0.5/0/2": {"tuned": tuned} for name, tuned in (("persistence", 0.9), ("l1", 0.88))}
    assert said("arena", cells, tmp_path).endswith("best baseline: fashion +2.00 points at 50 % (`l1`)")

    loops = {f"loop/{layer}": {"loop_s": 9.0, "ours_s": 1.0, "filters": 1} for layer in "ab"}
    assert said("topology", loops, tmp_path) == "a loop of ripser_parallel takes 9 times as long"
    runs = {f"score/exact/{turn}": {"score_s": 5.0 + turn, "forward_s": [2.0, 2.0]} for turn in range(3)}
    assert said("topology", runs, tmp_path) == "score takes 3.0 times as long as the bare forward passes"

    models = {name: kept["zoo"]["models"][name] for name in ("alexnet", "vgg11")}
    broken = {**models["alexnet"], "failure": {"step": "group", "error": "e"}}
    assert said("zoo", {"models": models}, tmp_path) == "2 of 2 networks pass by l1 and by betti"
    text = said("zoo", {"models": {**models, "alexnet": broken}}, tmp_path)
    assert text == "1 of 2 networks pass by l1 and by betti; failed: alexnet"


@pytest.mark.parametrize("name", STUDIES)
def test_help_is_the_description_of_the_study(name, monkeypatch, capsys):
    study = importlib.import_module(f"benchmarks.{name}")
    assert parser_of(study).description == study.__doc__
    monkeypatch.setattr(sys, "argv", ["main", "--help"])
    with pytest.raises(SystemExit) as stop:
        importlib.import_module(f"benchmarks.{name}.__main__").main()
    assert stop.value.code == 0
    output = capsys.readouterr().out
    assert output.startswith(f"usage: python -m benchmarks.{name} ")
    assert study.__doc__.partition("\n")[0] in output


def test_the_processes_of_topology_do_not_load_torch():
    code = "import sys, benchmarks.topology.tasks; print([name for name in ('torch', 'onnx') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "[]\n"


def test_the_earlier_name_of_the_resnets_is_theirs():
    earlier, now = (importlib.import_module(f"benchmarks.{name}") for name in ("cifar_resnet", "common.cifar_resnet"))
    assert earlier.resnet20 is now.resnet20
    assert earlier.resnet56 is now.resnet56


def test_modules_are_short():
    files = list((ROOT / "benchmarks").rglob("*.py"))
    assert len(files) > 50
    assert not [path for path in files if len(path.read_text(encoding="utf-8").splitlines()) >= 300]
