from __future__ import annotations

import gzip
import struct
from collections import Counter

import numpy as np
import pytest
import torch

from tests.helpers.imagesets import COLOUR, GREY, numbers, write_images
from topocompress.data.images import prepare
from topocompress.data.loading import load_data
from topocompress.errors import DataError


def test_class_folders(two_classes):
    data = load_data(f"imagefolder:{two_classes}", preprocessing=COLOUR, samples=16)
    assert data.labelled
    assert data.classes == ("cat", "dog")
    assert Counter(data.calibration.targets.tolist()) == {0: 8, 1: 8}
    assert (len(data.train), len(data.evaluation)) == (16, 8)
    uses = [numbers(part) for part in (data.calibration, data.train, data.evaluation)]
    assert len(set.union(*uses)) == 40 == sum(map(len, uses))
    assert data.skipped == ()


@pytest.mark.parametrize("name", ["test", "val", "valid"])
def test_train_and_evaluation_folders(tmp_path, name):
    for part, count in (("train", 10), (name, 4)):
        write_images(tmp_path / part / "a", count, seed=1)
        write_images(tmp_path / part / "b", count, seed=2)
    data = load_data(f"imagefolder:{tmp_path}", preprocessing=COLOUR, samples=12)
    assert data.classes == ("a", "b")
    assert (len(data.calibration), len(data.train), len(data.evaluation)) == (12, 8, 8)
    paths = data.evaluation.source.paths
    assert all(name in paths[index].parts for index in numbers(data.evaluation))
    assert all("train" in paths[index].parts for index in numbers(data.calibration) | numbers(data.train))


def test_evaluation_folder_with_an_unknown_class(tmp_path):
    write_images(tmp_path / "train" / "a", 4)
    write_images(tmp_path / "test" / "b", 4)
    with pytest.raises(DataError, match=r"lacks: b"):
        load_data(f"imagefolder:{tmp_path}", preprocessing=COLOUR, samples=2)


def test_evaluation_folder_that_lacks_a_class_keeps_the_labels(tmp_path):
    for name in "ab":
        write_images(tmp_path / "train" / name, 4)
    write_images(tmp_path / "test" / "b", 3)
    data = load_data(f"imagefolder:{tmp_path}", preprocessing=COLOUR, samples=2)
    assert data.evaluation.targets.tolist() == [1, 1, 1]


def test_the_kind_of_a_source_in_any_case(two_classes):
    assert load_data(f"ImageFolder:{two_classes}", preprocessing=COLOUR, samples=16).classes == ("cat", "dog")


def test_flat_folder_is_unlabelled(tmp_path):
    write_images(tmp_path, 20)
    data = load_data(f"imagefolder:{tmp_path}", preprocessing=COLOUR, samples=10)
    assert not data.labelled
    assert data.classes == ()
    assert data.calibration[0][1] == -1
    assert (len(data.calibration), len(data.train), len(data.evaluation)) == (10, 6, 4)


def test_folder_without_images(tmp_path):
    (tmp_path / "notes.txt").write_text("hello", encoding="utf-8")
    with pytest.raises(DataError, match="holds no images"):
        load_data(f"imagefolder:{tmp_path}", preprocessing=COLOUR)


def test_missing_folder_and_file_for_folder(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        load_data(f"imagefolder:{tmp_path / 'none'}", preprocessing=COLOUR)
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(DataError, match="is not a directory"):
        load_data(f"imagefolder:{tmp_path / 'file'}", preprocessing=COLOUR)


def test_images_beside_class_folders(two_classes):
    write_images(two_classes, 1)
    with pytest.raises(DataError, match="holds both images"):
        load_data(f"imagefolder:{two_classes}", preprocessing=COLOUR)


def write_fashion_mnist(root, *, zipped=False, train=40, test=10):
    raw = root / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, count in (("train", train), ("t10k", test)):
        images = struct.pack(">IIII", 0x803, count, 28, 28) + rng.integers(0, 256, count * 784, np.uint8).tobytes()
        labels = struct.pack(">II", 0x801, count) + bytes(index % 10 for index in range(count))
        for kind, content in (("images-idx3-ubyte", images), ("labels-idx1-ubyte", labels)):
            if zipped:
                (raw / f"{name}-{kind}.gz").write_bytes(gzip.compress(content))
            else:
                (raw / f"{name}-{kind}").write_bytes(content)
    return raw


def test_fashion_mnist(tmp_path):
    write_fashion_mnist(tmp_path)
    data = load_data(f"fashion-mnist:{tmp_path}", preprocessing=GREY, samples=20, eval_samples=8)
    assert (len(data.calibration), len(data.train), len(data.evaluation)) == (20, 20, 8)
    assert set(Counter(data.calibration.targets.tolist()).values()) == {2}
    assert min(numbers(data.evaluation)) >= 40
    assert max(numbers(data.calibration) | numbers(data.train)) < 40
    assert data.classes[9] == "Ankle boot"


def test_fashion_mnist_that_is_still_zipped(tmp_path):
    write_fashion_mnist(tmp_path, zipped=True)
    with pytest.raises(DataError, match="cannot read Fashion-MNIST") as caught:
        load_data(f"fashion-mnist:{tmp_path}", preprocessing=GREY)
    assert "gunzip" in caught.value.hint
    assert "--download" in caught.value.hint


def test_fashion_mnist_truncated(tmp_path):
    raw = write_fashion_mnist(tmp_path)
    path = raw / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match="cannot read Fashion-MNIST"):
        load_data(f"fashion-mnist:{tmp_path}", preprocessing=GREY)


def test_cifar10_missing_and_tampered(tmp_path):
    with pytest.raises(DataError, match="cannot read CIFAR-10"):
        load_data(f"cifar10:{tmp_path}", preprocessing=COLOUR)
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"]:
        (folder / name).write_bytes(b"cos\nsystem\n(S'false'\ntR.")  # must not be unpickled
    with pytest.raises(DataError, match="not found or corrupted"):
        load_data(f"cifar10:{tmp_path}", preprocessing=COLOUR)


def test_cifar10_layout(tmp_path, monkeypatch):
    import hashlib
    import pickle

    from torchvision.datasets import CIFAR10

    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    rng = np.random.default_rng(0)

    def write(name, content):
        (folder / name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((folder / name).read_bytes()).hexdigest()]

    def batch(name, count):
        labels = [index % 10 for index in range(count)]
        return write(name, {"data": rng.integers(0, 256, (count, 3072), np.uint8), "labels": labels})

    names = tuple("abcdefghij")
    meta_name, meta_sum = write("batches.meta", {"label_names": list(names)})
    monkeypatch.setattr(CIFAR10, "train_list", [batch("data_batch_1", 30)])
    monkeypatch.setattr(CIFAR10, "test_list", [batch("test_batch", 10)])
    monkeypatch.setattr(CIFAR10, "meta", {"filename": meta_name, "key": "label_names", "md5": meta_sum})
    data = load_data(f"cifar10:{tmp_path}", preprocessing=COLOUR, samples=20)
    assert (len(data.calibration), len(data.train), len(data.evaluation)) == (20, 10, 10)
    assert data.classes == names
    assert data.calibration[0][0].shape == (3, 16, 16)


def test_download_fails_without_a_network(tmp_path, monkeypatch):
    from urllib.error import URLError

    def fail(*_, **__):
        raise URLError("no route")

    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", fail)
    with pytest.raises(DataError, match="no route"):
        load_data(f"cifar10:{tmp_path}", preprocessing=COLOUR, download=True)


FACTORY = """
import numpy as np
import torch
from torch.utils.data import IterableDataset, TensorDataset

def tensors(count=40, channels=1, fill=None, size=16):
    images = torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(0))
    if fill is not None:
        images[:, 0, 0, 0] = fill
    return TensorDataset(images, torch.arange(count) % 4)

class Named(TensorDataset):
    classes = ["d", "c", "b", "a"]

def one(): return tensors()
def named(): return Named(*tensors().tensors)
def pair(): return tensors(30), tensors(10)
def wrong_channels(): return tensors(channels=3)
def wrong_size(): return tensors(size=20)
def nan(): return tensors(fill=float("nan"))
def number(): return 3
def broken(): raise KeyError("nothing here")
def empty(): return tensors(0)
def raw(): return [(torch.eye(28, dtype=torch.uint8) * (155 + 10 * i), 0) for i in range(10)]
def words(): return [("a picture", 0) for _ in range(10)]
def labels(): return [(torch.zeros(1, 16, 16), "cat") for _ in range(10)]
def bare(): return list(tensors(10).tensors[0])

def picture(number): return torch.eye(28, dtype=torch.uint8) * (100 + 10 * number)
def labelled(*labels): return [(picture(i), label) for i, label in enumerate(labels)]
def fractions(): return labelled(*[0.5] * 10)
def rows(): return labelled(*torch.eye(3)[[0, 1, 2] * 3])
def masks(): return labelled(*[torch.zeros(28, 28, dtype=torch.long)] * 10)
def boxes(): return labelled(*[{"boxes": torch.zeros(1, 4)}] * 10)
def singles(): return labelled(*[np.array([1])] * 5, *torch.ones(5, 1), 1.0, True)
def nones(): return labelled(*[None] * 10)
def some(): return labelled(0, 1, 0, 1, 0, 1, 0, 1, -1, -1)

class Listed(list):
    def __init__(self, items, **attributes):
        super().__init__(items)
        vars(self).update(attributes)

def retargeted(): return Listed(labelled(*[1, 0] * 5), targets=[0, 1] * 5, classes=["a", "b"])
def by_mapping(): return Listed(labelled(*[1, 0] * 5), classes={"b": 1, "a": 0})
def other_classes(): return by_mapping(), Listed(labelled(0, 0), classes=["b"])
def mixed(): return [(picture(i) if i % 2 else torch.rand(1, 16, 16), 0) for i in range(10)]
def last(): return [(picture(i)[..., None], 0) for i in range(10)]
def same_twice(): return (raw(),) * 2
def copies(): return raw(), raw()

class Stream(IterableDataset):
    def __iter__(self): return iter([])

def stream(): return Stream()
"""


@pytest.fixture
def factory(tmp_path, monkeypatch):
    (tmp_path / "topocompress_test_sets.py").write_text(FACTORY, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return "topocompress_test_sets"


def test_factory_of_one_dataset(factory):
    data = load_data(f"{factory}:one", preprocessing=GREY, samples=8)
    assert (len(data.calibration), len(data.train), len(data.evaluation)) == (8, 24, 8)
    assert Counter(data.calibration.targets.tolist()) == {0: 2, 1: 2, 2: 2, 3: 2}
    assert data.classes == ()  # its labels are numbers of outputs


def test_factory_of_a_dataset_with_names(factory):
    plain = load_data(f"{factory}:named", preprocessing=GREY, samples=8)
    assert plain.classes == ("d", "c", "b", "a")
    matched = load_data(f"{factory}:named", preprocessing=GREY, samples=8, classes=("a", "b", "c", "d"))
    assert matched.classes == ("a", "b", "c", "d")
    assert matched.calibration.targets.tolist() == [3 - label for label in plain.calibration.targets]
    assert matched.calibration[0][1] == matched.calibration.targets[0]


def test_factory_without_names_takes_those_of_the_outputs(factory):
    data = load_data(f"{factory}:one", preprocessing=GREY, samples=8, classes=("a", "b", "c", "d", "e"))
    assert data.classes == ("a", "b", "c", "d", "e")
    assert Counter(data.calibration.targets.tolist()) == {0: 2, 1: 2, 2: 2, 3: 2}


def test_factory_of_two_datasets(factory):
    data = load_data(f"{factory}:pair", preprocessing=GREY, samples=8)
    assert (len(data.calibration), len(data.train), len(data.evaluation)) == (8, 22, 10)
    assert numbers(data.evaluation) == set(range(30, 40))
    assert data.evaluation[0][1] == 0


def test_factory_of_raw_images(factory):
    data = load_data(f"{factory}:raw", preprocessing=GREY, samples=2)
    number = int(data.calibration.indices[0])
    wanted = prepare(torch.eye(28, dtype=torch.uint8)[None] * (155 + 10 * number), GREY)
    assert torch.equal(data.calibration[0][0], wanted)


def test_factory_without_labels(factory):
    data = load_data(f"{factory}:bare", preprocessing=GREY, samples=4)
    assert not data.labelled
    assert data.calibration[0][1] == -1


@pytest.mark.parametrize(
    ("name", "classes", "found", "said"),
    [
        ("singles", (), {1}, ""),
        ("nones", (), {-1}, ""),
        ("some", (), None, "2 of 10 samples used have no label"),
        ("retargeted", (), {0, 1}, "taken for numbers of outputs"),
        ("by_mapping", ("a", "b"), {0, 1}, ""),
        ("copies", (), {0}, "10 of the 10 held-out samples of topocompress_test_sets:copies are also among"),
    ],
)
def test_what_is_taken_for_labels(factory, name, classes, found, said):
    data = load_data(f"{factory}:{name}", preprocessing=GREY, samples=100)
    assert data.classes == classes
    assert data.labelled == (found not in (None, {-1}))
    assert found is None or set(data.calibration.targets.tolist()) == found
    assert said in "; ".join([data.note, *data.warnings])
    if name == "retargeted":  # as the items say
        assert [label for _, label in data.calibration] == [1 - number % 2 for number in data.calibration.indices]


@pytest.mark.parametrize("name", ["rows", "masks", "boxes", "fractions"])
def test_labels_that_nobody_asks_for_may_be_anything(factory, name):
    assert not load_data(f"{factory}:{name}", preprocessing=GREY, samples=4, unlabelled=True).labelled


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("wrong_channels", r"wrong channels: .*\(3, 16, 16\), and the model takes \(1, 16, 16\)"),
        ("wrong_size", r"wrong shape: .*\(1, 20, 20\)"),
        ("nan", "NaN or Inf"),
        ("number", "is a int, not a dataset|int, not a dataset"),
        ("broken", "KeyError"),
        ("empty", "0 usable samples"),
        ("words", "is a str"),
        ("labels", "no integer"),
        ("fractions", "no integer: 0.5"),
        ("rows", r"no integer: tensor\(\[1"),
        ("masks", "no integer: tensor"),
        ("boxes", "no integer: {'boxes'"),
        ("other_classes", "number classes differently: a, b and b"),
        ("mixed", "float tensors, which go to the network as they are, and others"),
        ("last", r"\(28, 28, 1\): its last axis looks like the channels"),
        ("same_twice", "the same dataset for training and for evaluation"),
        ("stream", "not a dataset"),
        ("nothing", "has no nothing"),
    ],
)
def test_bad_factories(factory, name, message):
    with pytest.raises(DataError, match=message) as caught:
        load_data(f"{factory}:{name}", preprocessing=GREY, samples=4)
    assert caught.value.hint


def test_a_folder_is_one_of_images(two_classes):
    plain, named = (
        load_data(source, preprocessing=COLOUR, samples=16)
        for source in (str(two_classes), f"imagefolder:{two_classes}")
    )
    assert plain.source == named.source == f"imagefolder:{two_classes}"
    assert plain.fingerprint == named.fingerprint


def folders(tmp_path, *, first=("cat", "dog"), other=("Dog", "cat")):
    for number, (part, names) in enumerate({"photos": first, "other": other}.items()):
        for name in names:
            write_images(tmp_path / part / name, 6, seed=10 * number + len(name))
    return tmp_path / "photos", tmp_path / "other"


def test_all_that_is_held_out_is_from_another_folder_whose_classes_are_matched_by_name(tmp_path):
    photos, other = folders(tmp_path)
    data = load_data(photos, preprocessing=COLOUR, samples=8, validation=other)
    assert (len(data.calibration), len(data.train), len(data.evaluation)) == (8, 4, 12)
    paths = data.evaluation.source.paths
    for index, label in zip(data.evaluation.indices, data.evaluation.targets, strict=True):
        assert paths[index].is_relative_to(other)
        assert paths[index].parent.name.lower() == data.classes[label]
    assert all(paths[index].is_relative_to(photos) for index in data.calibration.indices)
    assert f"evaluated on {other}" in data.note
    assert data.held_out_source == str(other)
    assert not any("--val-data" in warning for warning in data.warnings)


def test_a_part_of_images_of_ones_own_may_have_been_trained_on(tmp_path):
    photos, _ = folders(tmp_path, other=("cat", "dog"))
    assert any("--val-data" in said for said in load_data(photos, preprocessing=COLOUR, samples=4).warnings)
    unlabelled = load_data(photos, preprocessing=COLOUR, samples=4, unlabelled=True)
    assert not any("--val-data" in said for said in unlabelled.warnings)
    (tmp_path / "parts").mkdir()
    photos.rename(tmp_path / "parts" / "train")
    (tmp_path / "other").rename(tmp_path / "parts" / "val")
    divided = load_data(tmp_path / "parts", preprocessing=COLOUR, samples=4)
    assert not any("--val-data" in said for said in divided.warnings)


@pytest.mark.parametrize(
    ("other", "said"),
    [(("cat", "bird"), "the class 'bird'"), (("",), "has no class folders, and the other images have")],
)
def test_another_folder_must_have_the_same_classes(tmp_path, other, said):
    photos, validation = folders(tmp_path, other=other)
    with pytest.raises(DataError, match=said):
        load_data(photos, preprocessing=COLOUR, samples=4, validation=validation)


@pytest.mark.parametrize("source", [None, "digits"])
def test_another_folder_goes_with_a_folder(tmp_path, source):
    with pytest.raises(DataError, match="val_data"):
        load_data(source, preprocessing=GREY, samples=4, validation=tmp_path)
    with pytest.raises(DataError, match="no directory"):
        load_data(tmp_path, preprocessing=GREY, samples=4, validation=tmp_path / "gone")


@pytest.mark.parametrize(
    ("said", "text", "marked"),
    [(None, "If the network was trained on them", None), (True, "was trained on the images that it", True)],
)
def test_what_is_said_of_training_images(two_classes, said, text, marked):
    data = load_data(two_classes, preprocessing=COLOUR, samples=4, trained_on=said)
    assert data.trained_on is marked
    assert sum(text in warning for warning in data.warnings) == 1
    assert sum("--val-data" in warning for warning in data.warnings) == 1


def test_images_that_are_new_to_a_network_need_no_word(two_classes):
    data = load_data(two_classes, preprocessing=COLOUR, samples=4, trained_on=False)
    assert data.trained_on is False
    assert not any("--val-data" in warning for warning in data.warnings)


def test_other_images_are_none_that_a_network_was_trained_on(two_classes, tmp_path):
    others = tmp_path / "others"
    write_images(others / "cat", 3)
    write_images(others / "dog", 3)
    data = load_data(two_classes, preprocessing=COLOUR, samples=4, validation=others, trained_on=True)
    assert data.trained_on is False
    assert not any("trained on" in warning for warning in data.warnings)
    assert sum("count as new ones" in warning for warning in data.warnings) == 1
