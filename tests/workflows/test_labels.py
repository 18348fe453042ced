"""A classifier that is always right stays at 100 %, whatever a folder looks like, or the folder is refused."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.helpers.colours import Colours, colours, paint
from tests.helpers.commands import run
from topocompress.data.loading import NO_CLASSES
from topocompress.errors import DataError, ModelError
from topocompress.models.class_names import imagenet_classes
from topocompress.surgery.run_directory import load_run
from topocompress.workflows.job import open_job
from topocompress.workflows.options import Recovery, Scoring


def accuracy(root, hues, *, names=(), **options):
    scoring = Scoring(samples=6, **options)
    job = open_job(colours(hues, names), f"imagefolder:{root}", scoring=scoring, recovery=Recovery(), seed=0)
    return job.evaluated(job.model, "colours").accuracy, job.data


ABC = {"a": 0, "b": 1, "c": 2}
TWELVE = {str(number): number for number in range(12)}
AS_TEXT = {name: place for place, name in enumerate(sorted(TWELVE))}


@pytest.mark.parametrize(
    ("folders", "hues", "names"),
    [
        (ABC, 3, ()),
        ({"a": 0, "b": -1, "c": 2}, 3, ()),  # an empty class keeps its number
        ({"a": 0, "c": 2}, 3, ("a", "b", "c")),  # a missing one, of names that are known
        ({"c": 2}, 3, ("a", "b", "c")),
        ({"z": 0, "b": 1, "a": 2}, 3, ("z", "b", "a")),  # names in another order than the alphabet's
        ({"Great White": 1, "hen": 0}, 3, ("hen", "great_white", "x")),
        ({**ABC, ".git": 0, "__MACOSX/a": 1, "@eaDir": 1, ".ipynb_checkpoints": 0}, 3, ()),
        ({**ABC, "a/.ipynb_checkpoints": 2, "b/@eaDir": 0, "c/__MACOSX": 1}, 3, ()),
        ({"photos/a": 0, "photos/b": 1, "photos/c": 2, "__MACOSX/photos": 0}, 3, ()),
        ({f"{part}/{name}": hue for part in ("Training", "Testing") for name, hue in ABC.items()}, 3, ()),
        ({f"{part}/{name}": hue for part in ("Train", "Val") for name, hue in ABC.items()}, 3, ()),
        ({f"{part}/{name}": hue for part in ("training", "validation") for name, hue in ABC.items()}, 3, ()),
        ({f"images/{part}/{name}": hue for part in ("train", "val") for name, hue in ABC.items()}, 3, ()),
        ({f"val/{name}": hue for name, hue in ABC.items()}, 3, ()),
        ({f"{part}/{name}": hue for part in ("train2017", "val2017") for name, hue in ABC.items()}, 3, ()),
        ({f"{part}/{name}": hue for part in ("training_set", "Test Images") for name, hue in ABC.items()}, 3, ()),
        ({"testudo": 0, "train_station": 1, "valley": 2}, 3, ()),  # no parts, whatever they begin with
        ({"e\u0301clair": 1, "u\u0308bung": 0}, 3, ("\u00fcbung", "\u00e9clair", "x")),  # as macOS writes them
        ({"\uff48en": 1, "stra\u00dfe": 0}, 3, ("strasse", "hen", "x")),
        ({f"{part}/{name}": hue for part in ("val", "TEST") for name, hue in ABC.items()}, 3, ()),
        ({**{f"{part}/{name}": hue for part in ("train", "val") for name, hue in ABC.items()}, "test": 0}, 3, ()),
        ({**{f"train/{name}": hue for name, hue in ABC.items()}, "test": 0}, 3, ()),
        ({"train/a": 0, "train/c": 2, "test/a": 0, "test/b": 1, "test/c": 2}, 3, ("a", "b", "c")),
        ({"car": 0, "test": 1, "train": 2}, 3, ("car", "test", "train")),  # a railway is no part of a set
        ({f"n{number:08d}": number for number in range(3)}, 3, ("tench", "goldfish", "shark")),  # all of a made-up set
        (TWELVE, 12, tuple(TWELVE)),
        ({"3": 3, "10": 10}, 12, tuple(TWELVE)),
    ],
)
def test_right_stays_right(tmp_path, folders, hues, names):
    found, data = accuracy(paint(tmp_path, folders, hues), hues, names=names)
    assert found == 1.0
    assert data.labelled


@pytest.mark.parametrize(
    ("folders", "hues", "classes"),
    [
        (TWELVE, 12, "by-number"),
        ({"3": 3, "11": 11}, 12, "by-number"),
        ({"003": 3, "011": 11}, 12, "by-number"),
        (AS_TEXT, 12, "by-order"),
        ({"a": 0, "c": 2}, 3, ("a", "b", "c")),
        ({"un": 0, "deux": 1}, 3, ("un", "deux", "trois")),
    ],
)
def test_what_the_user_says_of_the_outputs(tmp_path, folders, hues, classes):
    found, _ = accuracy(paint(tmp_path, folders, hues), hues, classes=classes)
    assert found == 1.0


def test_labels_are_set_aside_for_a_network_that_gives_no_scores_of_classes(tmp_path):
    found, data = accuracy(paint(tmp_path, {"a": 0, "b": 0, "c": 0}, 1), 1)
    assert found is None
    assert (data.labelled, data.note) == (False, NO_CLASSES)


@pytest.mark.parametrize(
    ("folders", "hues", "names", "message"),
    [
        ({"a": 0, "c": 2}, 3, (), "2 classes, the model 3 outputs: which output"),
        ({"a": 0, "b": -1, "c": 2, "notes": -1}, 3, (), r"4 classes, the model 3 outputs .*: b, notes"),
        ({"a": 0, "d": 2}, 3, ("a", "b", "c"), "not named after: d"),
        ({"x": 0, "y": 1, "z": 2}, 3, ("a", "b", "c"), "not named after: x, y, z"),
        ({"hen": 0, "Hen": 1}, 3, ("hen", "cock", "egg"), "both mean"),
        ({"crane": 0}, 3, ("crane", "crane", "egg"), "several outputs are named 'crane'"),
        (TWELVE, 12, (), "sort as text, so that '10' would be output 2"),
        ({"3": 3, "10": 10}, 12, (), "2 classes, the model 12 outputs"),
        ({"cat": 0, "dog": 1, "test": 2}, 3, (), r"test/ beside cat, dog"),
        ({"car": 0, "bus": 1, "train": 2}, 3, (), r"train/ beside bus, car"),
        ({"a": 0, "c": 2, "Test": -1}, 3, (), r"Test/ beside a, c"),
        ({"train/a": 0, "Training/a": 0}, 3, (), "which is for training"),
        ({"a/train": 0, "a/val": 0, "b/train": 1, "b/val": 1, "c/train": 2}, 3, (), "inside a class folder"),
        ({"train/a": 0, "train/c": 2, "test/a": 0, "test/b": 1, "test/c": 2}, 3, (), "lacks: b"),
        ({"all": 0}, 3, (), "1 class, the model 3 outputs"),
        ({f"train{number}/a": 0 for number in range(2)}, 3, (), "train0/ and train1/: which is for training"),
    ],
)
def test_what_cannot_be_told_is_refused(tmp_path, folders, hues, names, message):
    with pytest.raises(DataError, match=message) as caught:
        accuracy(paint(tmp_path, folders, hues), hues, names=names)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("classes", "error", "message"),
    [
        (("a", "b"), DataError, "names 2 classes, and the model has 3 outputs"),
        ("none.txt", DataError, "no such file"),
        ("by-number", DataError, "'a', which is no number"),
        (("a", ""), DataError, "must be words"),
        ("imagenet", (DataError, ModelError), "not named after|timm"),
    ],
)
def test_bad_classes(tmp_path, classes, error, message):
    with pytest.raises(error, match=message):
        accuracy(paint(tmp_path, ABC, 3), 3, classes=classes)


def test_few_synset_folders_are_told_how(tmp_path):
    paint(tmp_path, {"n01440764": 0, "n01443537": 1}, 3)
    with pytest.raises(DataError) as caught:
        accuracy(tmp_path, 3, names=("tench, a fish", "goldfish", "x"))
    assert "--classes imagenet" in caught.value.hint


def test_imagenet_names_are_matched(tmp_path):
    pytest.importorskip("timm")
    paint(tmp_path, {"n01440764": 0, imagenet_classes()[500]: 500}, 1000)
    _, data = accuracy(tmp_path, 1000, names=tuple(str(number) for number in range(1000)), classes="imagenet")
    assert set(data.calibration.targets.tolist()) == {0, 500}
    assert data.classes[3] == "3"  # the network's own names are the better ones


def test_without_labels_on_demand(tmp_path):
    found, data = accuracy(paint(tmp_path, {"x": 0, "y": 1}, 3), 3, unlabelled=True)
    assert found is None
    assert not data.labelled
    assert "as asked" in data.note


def test_an_order_that_others_sort_otherwise_is_said(tmp_path):
    folders = {f"class{number}": number for number in range(12)}
    _, data = accuracy(paint(tmp_path, folders, 12), 12)
    assert any("'class10' is output 2" in line for line in data.warnings)


def test_names_that_are_not_of_the_outputs_are_not_used(tmp_path):
    root = paint(tmp_path, ABC, 3)
    scoring = Scoring(samples=6)
    job = open_job(colours(3, ("a", "c")), f"imagefolder:{root}", scoring=scoring, recovery=Recovery(), seed=0)
    assert job.evaluated(job.model, "colours").accuracy == 1.0
    assert "the 2 names of classes that come with it are not used: it has 3 outputs" in job.loaded.note


def test_a_part_that_is_left_out_is_said(tmp_path):
    folders = {f"{part}/{name}": hue for part in ("train", "val", "valid") for name, hue in ABC.items()}
    _, data = accuracy(paint(tmp_path, {**folders, "Test": 0}, 3), 3)
    assert f"Test/, valid/ in {tmp_path} is not read, for want of class folders: evaluated on val/" in data.warnings[0]
    assert "evaluated on val/" in data.note


def test_without_a_labelled_part_for_evaluation_one_is_held_out(tmp_path):
    _, data = accuracy(paint(tmp_path, {**{f"train/{name}": hue for name, hue in ABC.items()}, "test": 0}, 3), 3)
    assert "evaluated on a part of train/ instead" in data.warnings[0]
    assert len(data.evaluation) == 6


def test_labels_of_one_part_alone_are_not_used(tmp_path):
    found, data = accuracy(paint(tmp_path, {"train": 0, "val/a": 0, "val/b": 1}, 3), 3)
    assert found is None
    assert "labels are not used" in data.warnings[0]


def test_files_that_are_not_read_are_said(tmp_path):
    paint(tmp_path / "classes", ABC, 3)
    for number in range(3):
        (tmp_path / "classes" / "a" / f"{number}.gif").write_bytes(b"GIF89a")
    assert "Not read: 3 .gif files." in accuracy(tmp_path / "classes", 3)[1].warnings
    paint(tmp_path, {"flat": 0}, 3)
    (tmp_path / "flat" / "labels.csv").write_text("00.png,a\n", encoding="utf-8")
    _, data = accuracy(tmp_path / "flat", 3)
    assert not data.labelled
    assert any("labels.csv" in line and "class folders alone" in line for line in data.warnings)


@pytest.mark.parametrize("file", ["a.xml", "deep/a.txt", "LICENSE"])
def test_a_folder_of_other_files_is_no_class(tmp_path, file):
    paint(tmp_path, {"a": 0, "c": 2, "labels": -1}, 3)
    (tmp_path / "labels" / file).parent.mkdir(exist_ok=True)
    (tmp_path / "labels" / file).write_text("", encoding="utf-8")
    with pytest.raises(DataError, match=r"labels holds no images, but .*: is it a class"):
        accuracy(tmp_path, 3)
    assert accuracy(tmp_path, 3, names=("a", "b", "c"))[0] == 1.0


@pytest.mark.parametrize("file", ["Thumbs.db", ".DS_Store", "1.gif", ".git/config"])
def test_a_class_whose_images_are_missing_keeps_its_number(tmp_path, file):
    paint(tmp_path, {"a": 0, "b": -1, "c": 2}, 3)
    (tmp_path / "b" / file).parent.mkdir(exist_ok=True)
    (tmp_path / "b" / file).write_text("", encoding="utf-8")
    found, data = accuracy(tmp_path, 3)
    assert found == 1.0
    assert "without images, and counted as classes: b" in data.note


def test_class_folders_that_are_links(tmp_path):
    paint(tmp_path / "far", ABC, 3)
    (tmp_path / "set").mkdir()
    for name in ABC:
        (tmp_path / "set" / name).symlink_to(tmp_path / "far" / name)
    assert accuracy(tmp_path / "set", 3)[0] == 1.0


def test_loaded_data_of_other_classes_is_refused(tmp_path):
    from topocompress.data.loading import load_data

    model = colours(3, ("c", "b", "a"))
    data = load_data(f"imagefolder:{paint(tmp_path, ABC, 3)}", preprocessing=model.preprocessing, samples=6)
    with pytest.raises(DataError, match="other classes than the network's"):
        open_job(model, data, scoring=Scoring(), recovery=Recovery(), seed=0)


QUICK = ["--ratio", "0.25", "--round-to", "1", "--no-controls", "--no-cache", "--samples", "12", "--criterion", "l1"]


def test_a_run_pruned_again_without_a_class_keeps_its_names(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    paint(tmp_path / "whole", ABC, 3)
    paint(tmp_path / "part", {"a": 0, "c": 2}, 3)
    network = "tests.helpers.colours:Colours"
    first = ["prune", network, *QUICK, "--mean", "0,0,0", "--std", "1,1,1"]
    assert run(monkeypatch, *first, "--data", "imagefolder:whole", "--out", "one") == 0
    assert (
        run(monkeypatch, "prune", "one", "--arch", network, *QUICK, "--data", "imagefolder:part", "--out", "two") == 0
    )
    assert load_run("two", arch=network).classes == ("a", "b", "c")
    reports = [json.loads((tmp_path / out / "report.json").read_text()) for out in ("one", "two")]
    assert [report["before"]["accuracy"] for report in reports] == [1.0, 1.0]
    assert "matched to the outputs by name" in reports[1]["data"]["note"]
    capsys.readouterr()


@pytest.mark.parametrize("command", ["prune", "sweep", "compare", "score"])
def test_commands_take_names_from_a_file(tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    paint(tmp_path / "part", {"a": 0, "c": 2}, 3)
    (tmp_path / "names.txt").write_text("a\nb\nc\n", encoding="utf-8")
    words = [command, "tests.helpers.colours:Colours", "--data", "imagefolder:part", "--samples", "6"]
    words += ["--mean", "0,0,0", "--std", "1,1,1"]
    words += {
        "prune": ["--ratio", "0.25", "--dry-run", "--criterion", "taylor", "--no-cache"],
        "sweep": ["--macs", "0.8", "--criterion", "l1", "--round-to", "1"],
        "compare": ["--criteria", "l1", "--ratios", "0.25", "--seeds", "1", "--round-to", "1"],
        "score": ["--criterion", "taylor", "--no-cache"],
    }[command]
    assert run(monkeypatch, *words) == 2
    assert "--classes FILE" in " ".join(capsys.readouterr().err.split())
    assert run(monkeypatch, *words, "--classes", "names.txt") == 0
    assert "matched to the outputs by name" in " ".join(capsys.readouterr().out.split())


def test_links_are_followed(tmp_path):
    paint(tmp_path / "there", ABC, 3)
    for name in ABC:
        (tmp_path / "photos" / name).mkdir(parents=True)
        (tmp_path / "photos" / name / "session").symlink_to(tmp_path / "there" / name)
    (tmp_path / "photos" / "a" / "back").symlink_to(tmp_path / "photos")  # holds what it lies in
    found, data = accuracy(tmp_path / "photos", 3)
    assert found == 1.0
    assert len(data.calibration) + len(data.train) + len(data.evaluation) == len(list((tmp_path / "there").glob("*/*")))


def test_links_to_nothing(tmp_path):
    paint(tmp_path, ABC, 3)
    (tmp_path / "a" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    assert accuracy(tmp_path, 3)[1].skipped == (str(tmp_path / "a" / "gone.png"),)
    (tmp_path / "aa").symlink_to(tmp_path / "nowhere")
    with pytest.raises(DataError, match="aa is a link to nothing"):
        accuracy(tmp_path, 3)


def test_two_parts_that_are_one(tmp_path):
    paint(tmp_path, {f"train/{name}": hue for name, hue in ABC.items()}, 3)
    (tmp_path / "test").symlink_to(tmp_path / "train")
    with pytest.raises(DataError, match="are the same folder"):
        accuracy(tmp_path, 3)
    (tmp_path / "test").unlink()
    shutil.copytree(tmp_path / "train", tmp_path / "test")
    _, data = accuracy(tmp_path, 3)
    assert "are also among those for calibration" in " ".join(data.warnings)


@pytest.mark.parametrize(
    ("folders", "hues", "names", "said"),
    [
        (
            {f"fold_{fold}/{name}": hue for fold in range(3) for name, hue in ABC.items()},
            3,
            (),
            "fold_0/ holds a, b, c",
        ),
        ({"animal/cat": 0, "animal/dog": 0, "plant/oak": 1}, 2, (), "animal/ holds cat, dog"),
        ({"animal/cat": 0, "animal/dog": 0, "plant/oak": 1}, 2, ("animal", "plant"), None),
        ({f"{name}/images": hue for name, hue in ABC.items()}, 3, (), None),
        ({**ABC, "a/more": 0, "a/most": 0}, 3, (), None),
    ],
)
def test_class_folders_that_hold_what_may_be_the_classes(tmp_path, folders, hues, names, said):
    _, data = accuracy(paint(tmp_path, folders, hues), hues, names=names)
    found = [line for line in data.warnings if "the outer ones" in line]
    assert len(found) == (said is not None)
    assert (said or "") in "".join(found)


def test_a_list_of_classes_that_lies_beside_them_is_told_of(tmp_path):
    paint(tmp_path, ABC, 3)
    (tmp_path / "classes.txt").write_text("c\nb\na\n", encoding="utf-8")
    (tmp_path / "README.txt").write_text("Photographs.", encoding="utf-8")
    _, data = accuracy(tmp_path, 3)
    assert [line for line in data.warnings if "not read" in line] == [
        f"{tmp_path / 'classes.txt'} is not read; if it names the outputs in their order: --classes "
        f"{tmp_path / 'classes.txt'}"
    ]
    _, data = accuracy(tmp_path, 3, classes=str(tmp_path / "classes.txt"))
    assert not [line for line in data.warnings if "not read" in line]


def test_names_given_in_another_order_than_the_networks_own_are_told_of(tmp_path):
    paint(tmp_path, ABC, 3)
    scoring = Scoring(samples=6, classes=("c", "b", "a"))
    job = open_job(colours(3, ("a", "b", "c")), f"imagefolder:{tmp_path}", scoring=scoring, recovery=Recovery(), seed=0)
    assert "--classes: c, b, a, where the names that come with the model are a, b, c" in job.loaded.note


class OneNumber(Colours):
    """The number of the hue, (samples,), as classes decided already or as a measured value."""

    whole = True

    def forward(self, images):
        scores = super().forward(images)
        return scores.argmax(1) if self.whole else scores[:, 0]


@pytest.mark.parametrize(("whole", "reached"), [(True, 1.0), (False, None)])
def test_outputs_of_one_number_for_each_sample(tmp_path, whole, reached):
    model = colours(3)
    model.module.__class__ = OneNumber
    model.module.whole = whole
    root = paint(tmp_path, ABC, 3)
    job = open_job(model, f"imagefolder:{root}", scoring=Scoring(samples=6), recovery=Recovery(), seed=0)
    assert job.evaluated(job.model, "colours").accuracy == reached
    assert job.measure == ("accuracy" if whole else "explained_variation")
