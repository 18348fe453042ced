from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch.utils.data import TensorDataset

from tests.helpers.imagesets import COLOUR, GREY, numbers, stacked, write_images
from topocompress.data.loading import Data, batches, check_classes, load_data
from topocompress.errors import DataError, OptionError
from topocompress.types import Preprocessing


def test_digits():
    data = load_data("digits", preprocessing=GREY, samples=300)
    assert (len(data.calibration), len(data.train), len(data.evaluation)) == (300, 1138, 359)
    assert data.labelled
    assert data.classes == tuple("0123456789")
    assert set(Counter(data.calibration.targets.tolist()).values()) == {30}
    image, label = data.calibration[0]
    assert (image.shape, image.dtype) == ((1, 16, 16), torch.float32)
    assert isinstance(label, int)
    uses = [numbers(part) for part in (data.calibration, data.train, data.evaluation)]
    assert len(set.union(*uses)) == 1797 == sum(map(len, uses))


def test_digits_are_held_out_alike_for_every_seed():
    # The shipped network was trained on all others.
    first, second = (load_data("digits", preprocessing=GREY, samples=300, seed=seed) for seed in (0, 1))
    assert numbers(first.evaluation) == numbers(second.evaluation)
    assert numbers(first.calibration) != numbers(second.calibration)
    assert first.fingerprint != second.fingerprint


def test_same_call_same_samples_and_untouched_random_state():
    before = torch.get_rng_state()
    first, second = (load_data("digits", preprocessing=GREY, samples=50) for _ in range(2))
    assert first.fingerprint == second.fingerprint
    assert torch.equal(stacked(first.calibration), stacked(second.calibration))
    assert sum(len(labels) for _, labels in batches(first.calibration, 16, shuffle=True)) == 50
    assert torch.equal(before, torch.get_rng_state())


def test_fingerprint_depends_on_preparation():
    first = load_data("digits", preprocessing=GREY, samples=50)
    second = load_data(
        "digits", preprocessing=Preprocessing(input_shape=(1, 16, 16), mean=(0.0,), std=(1.0,)), samples=50
    )
    assert first.fingerprint != second.fingerprint


def test_more_samples_than_there_are_take_all_and_say_so():
    data = load_data("digits", preprocessing=GREY, samples=5000)
    assert (len(data.calibration), data.train, len(data.evaluation)) == (1438, None, 359)
    (said,) = data.warnings
    assert "1438 samples for calibration, where 5000 were wanted" in said
    assert "Betti numbers are smaller" in said


def test_enough_samples_need_no_word():
    assert load_data("digits", preprocessing=GREY, samples=50).warnings == ()


def test_all_samples_for_calibration_leave_none_for_training():
    assert load_data("digits", preprocessing=GREY, samples=1438).train is None


@pytest.mark.parametrize("options", [{"samples": 1}, {"samples": 0}, {"eval_samples": 0}])
def test_too_few(options):
    with pytest.raises(DataError, match="too few"):
        load_data("digits", preprocessing=GREY, **options)


def test_batches_are_repeatable():
    dataset = load_data("digits", preprocessing=GREY, samples=50).calibration
    loader = batches(dataset, 16)
    first, second = [labels.tolist() for _, labels in loader], [labels.tolist() for _, labels in loader]
    assert first == second
    assert [len(labels) for labels in first] == [16, 16, 16, 2]
    runs = [[labels.tolist() for _, labels in batches(dataset, 16, shuffle=True, seed=seed)] for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]
    images, labels = next(iter(loader))
    assert images.shape == (16, 1, 16, 16)
    assert labels.dtype == torch.int64


@pytest.mark.parametrize("damage", ["text", "empty", "truncated"])
def test_corrupt_images_are_skipped_and_named(two_classes, damage):
    victim = two_classes / "cat" / "007.png"
    content = {"text": b"no image", "empty": b"", "truncated": victim.read_bytes()[:600]}[damage]
    victim.write_bytes(content)
    data = load_data(f"imagefolder:{two_classes}", preprocessing=COLOUR, samples=10)
    assert data.skipped == (str(victim),)
    assert "1 unreadable images skipped" in data.note
    assert len(data.calibration) + len(data.train) + len(data.evaluation) == 39
    assert len(stacked(data.train)) == len(data.train)
    with pytest.raises(DataError, match=r"007\.png"):
        load_data(f"imagefolder:{two_classes}", preprocessing=COLOUR, samples=10, strict=True)


def test_large_folders_are_checked_where_used(two_classes, monkeypatch):
    monkeypatch.setattr("topocompress.data.division.CHECK_ALL", 10)
    for path in [*two_classes.glob("*/00[02468].png"), *two_classes.glob("cat/01?.png")]:
        path.write_bytes(b"")
    data = load_data(f"imagefolder:{two_classes}", preprocessing=COLOUR, samples=6)
    assert len(data.calibration) == 6
    assert stacked(data.calibration).isfinite().all()
    assert stacked(data.evaluation).isfinite().all()
    assert 0 < len(data.skipped) < 20
    with pytest.raises(DataError, match="cannot read the image"):
        stacked(data.train)


def test_only_corrupt_images(tmp_path):
    for index in range(5):
        (tmp_path / f"{index}.jpg").write_bytes(b"nothing")
    with pytest.raises(DataError, match="5 cannot be read"):
        load_data(f"imagefolder:{tmp_path}", preprocessing=COLOUR, samples=2)


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_images(tmp_path, count):
    write_images(tmp_path, count)
    with pytest.raises(DataError, match=f"{count} usable samples"):
        load_data(f"imagefolder:{tmp_path}", preprocessing=COLOUR)


@pytest.mark.parametrize(("count", "calibration", "evaluation"), [(3, 2, 1), (5, 4, 1), (10, 8, 2), (250, 200, 50)])
def test_few_images_are_used_up(tmp_path, count, calibration, evaluation):
    write_images(tmp_path, count, size=(8, 8))
    data = load_data(f"imagefolder:{tmp_path}", preprocessing=COLOUR)
    assert (len(data.calibration), data.train, len(data.evaluation)) == (calibration, None, evaluation)
    assert f"{calibration} samples for calibration, where 1000" in data.warnings[0]
    assert len(data.warnings) == 1 + (evaluation < 50)


def test_classes_of_two_images_each_leave_some_for_evaluation(tmp_path):
    for name in "abcdefghij":
        write_images(tmp_path / name, 2)
    data = load_data(f"imagefolder:{tmp_path}", preprocessing=COLOUR)
    assert (len(data.calibration), len(data.evaluation)) == (16, 4)
    assert len(set(data.evaluation.targets.tolist())) == 4
    assert set(data.calibration.targets.tolist()) == set(range(10))


def test_as_few_evaluation_samples_as_asked_need_no_word():
    assert load_data("digits", preprocessing=GREY, samples=50, eval_samples=1).warnings == ()


def finished(classes=("a",), *, labelled=True):
    images = torch.randn(5, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    part = TensorDataset(images, torch.zeros(5, dtype=torch.long))
    return Data(
        calibration=part,
        train=None,
        evaluation=part,
        labelled=labelled,
        classes=classes,
        source="mine",
        note="",
        skipped=(),
        fingerprint="sha256:0",
    )


def test_factory_of_finished_data(monkeypatch):
    made = finished()
    monkeypatch.setattr("topocompress.data.loading.call_factory", lambda spec, error: made)
    assert load_data("mine:data", preprocessing=GREY) is made
    with pytest.raises(DataError, match="wrong channels"):
        load_data("mine:data", preprocessing=COLOUR)


# --- classes


def test_as_many_classes_as_outputs_fit():
    check_classes(load_data("digits", preprocessing=GREY, samples=50), 10)


@pytest.mark.parametrize("outputs", [11, 1000])
def test_fewer_classes_than_outputs(outputs):
    with pytest.raises(DataError, match=f"10 classes, the model {outputs} outputs: which output each") as caught:
        check_classes(load_data("digits", preprocessing=GREY, samples=50), outputs)
    assert "--classes FILE" in caught.value.hint
    assert "--classes by-number" in caught.value.hint


def test_more_classes_than_outputs():
    data = load_data("digits", preprocessing=GREY, samples=50)
    with pytest.raises(DataError, match="the data has 10 classes, the model 9 outputs") as caught:
        check_classes(data, 9)
    assert "trained on" in caught.value.hint


def test_class_names_of_finished_data_are_checked():
    check_classes(finished(("a", "b")), 2)
    with pytest.raises(DataError, match="the data has 3 classes, the model 2 outputs"):
        check_classes(finished(("a", "b", "c")), 2)


@pytest.mark.parametrize("names", [None, (), []])
def test_a_model_without_names_of_its_outputs_takes_folders_in_their_order(two_classes, names):
    data = load_data(f"imagefolder:{two_classes}", preprocessing=COLOUR, samples=20, classes=names)
    assert data.classes == ("cat", "dog")


@pytest.mark.parametrize("use", ["calibration", "train", "evaluation"])
def test_a_label_without_a_class_name(use):
    data = load_data("digits", preprocessing=GREY, samples=50)
    data = replace(data, classes=())  # as of a data set without names
    for part in {"calibration", "train", "evaluation"} - {use}:
        getattr(data, part).targets %= 5
    check_classes(data, 10)
    with pytest.raises(DataError, match=r"the data has the label 9, the model outputs 0\.\.8"):
        check_classes(data, 9)


def test_unlabelled_data_fits_every_model():
    check_classes(load_data(None, preprocessing=GREY, samples=5), 1)
    check_classes(finished(("a", "b"), labelled=False), 1)


# --- what does not work


@pytest.mark.parametrize("source", ["mnist", "imagefolder:", "cifar10", "fashion-mnist", ""])
def test_unknown_source_lists_the_forms(source):
    with pytest.raises(DataError, match="unknown data source") as caught:
        load_data(source, preprocessing=GREY)
    assert "imagefolder:PATH" in caught.value.hint


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"trained_on": "no"}, "trained_on='no'"), ({"samples": "x"}, "samples='x'"), ({"samples": 2.5}, "samples=2.5"),
     ({"validation": 3}, "validation=3"), ({"seed": "a"}, "seed='a'")],
)  # fmt: skip
def test_an_argument_of_another_type_is_refused(wrong, said):
    with pytest.raises(OptionError, match=said):
        load_data("digits", preprocessing=GREY, **wrong)
