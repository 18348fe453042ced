from __future__ import annotations

import gzip
import struct
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import TensorDataset

from topocompress.data import Data, batches, load_data
from topocompress.datasets import Part, PhotoCrops
from topocompress.errors import DataError
from topocompress.splits import split
from topocompress.types import Preprocessing

GREY = Preprocessing(input_shape=(1, 16, 16), mean=(0.3,), std=(0.3,))
COLOUR = Preprocessing(input_shape=(3, 16, 16), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


def stacked(dataset):
    return torch.stack([dataset[index][0] for index in range(len(dataset))])


def numbers(part: Part) -> set[int]:
    return set(part.indices.tolist())


def write_images(folder, count, *, seed=0, suffix=".png", size=(20, 24)):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for index in range(count):
        pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:03d}{suffix}")
    return folder


@pytest.fixture
def two_classes(tmp_path):
    write_images(tmp_path / "set" / "cat", 30, seed=1)
    write_images(tmp_path / "set" / "dog", 10, seed=2)
    return tmp_path / "set"


# --- dividing


@pytest.mark.parametrize("seed", range(5))
def test_split_is_disjoint_complete_balanced_and_seeded(seed):
    labels = np.repeat([0, 1, 2], [500, 300, 20]).astype(np.int64)
    parts = split(labels, samples=120, eval_samples=None, seed=seed)
    together = np.concatenate([parts.calibration, parts.train, parts.evaluation])
    assert sorted(together) == list(range(820))
    assert Counter(labels[parts.evaluation]) == {0: 100, 1: 60, 2: 4}
    assert Counter(labels[parts.calibration]) == {0: 52, 1: 52, 2: 16}
    again = split(labels, samples=120, eval_samples=None, seed=seed)
    assert np.array_equal(parts.calibration, again.calibration)
    other = split(labels, samples=120, eval_samples=None, seed=seed + 100)
    assert not np.array_equal(parts.calibration, other.calibration)


def test_split_with_given_evaluation_and_unusable_samples():
    labels = np.zeros(100, dtype=np.int64)
    usable = np.ones(100, dtype=bool)
    usable[[3, 95]] = False
    held_out = np.arange(90, 100)
    parts = split(labels, samples=20, eval_samples=4, seed=0, usable=usable, held_out=held_out)
    assert len(parts.evaluation) == 4
    assert set(parts.evaluation) <= set(held_out)
    assert len(parts.calibration) == 20
    assert len(parts.train) == 69
    assert not {3, 95} & {*parts.calibration, *parts.train, *parts.evaluation}


def test_split_of_a_tiny_pool_evaluates_on_something():
    parts = split(np.array([0, 1]), samples=5, eval_samples=None, seed=0)
    assert (len(parts.calibration), len(parts.evaluation)) == (1, 1)


# --- digits


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


def test_grey_digits_for_a_colour_model():
    image = load_data("digits", preprocessing=COLOUR, samples=50).calibration[0][0]
    assert image.shape == (3, 16, 16)
    assert torch.equal(image[0], image[1])


def test_more_samples_than_there_are():
    with pytest.raises(DataError, match="has 1438 samples for calibration") as caught:
        load_data("digits", preprocessing=GREY, samples=5000)
    assert "--samples 1438" in caught.value.hint


def test_all_samples_for_calibration_leave_none_for_training():
    assert load_data("digits", preprocessing=GREY, samples=1438).train is None


@pytest.mark.parametrize("options", [{"samples": 1}, {"samples": 0}, {"eval_samples": 0}])
def test_too_few(options):
    with pytest.raises(DataError, match="too few"):
        load_data("digits", preprocessing=GREY, **options)


def test_augmentation_draws_from_torch_and_only_for_training():
    data = load_data("digits", preprocessing=GREY, samples=50)
    torch.manual_seed(0)
    first = [data.train[0][0] for _ in range(20)]
    torch.manual_seed(0)
    assert all(torch.equal(a, data.train[0][0]) for a in first)
    assert len({image.numpy().tobytes() for image in first}) > 5
    plain = load_data("digits", preprocessing=GREY, samples=50, augment=False)
    assert torch.equal(plain.train[0][0], plain.train[0][0])
    assert torch.equal(data.evaluation[0][0], data.evaluation[0][0])


def test_digits_are_shifted_but_not_mirrored():
    data = load_data("digits", preprocessing=GREY, samples=50)
    image = load_data("digits", preprocessing=GREY, samples=50, augment=False).train[0][0]
    padded = torch.nn.functional.pad(image[None], (2, 2, 2, 2), mode="replicate")[0]
    windows = {padded[:, t : t + 16, c : c + 16].numpy().tobytes() for t in range(5) for c in range(5)}
    torch.manual_seed(0)
    assert all(data.train[0][0].numpy().tobytes() in windows for _ in range(40))


# --- batches


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


# --- photographs


def test_photographs_are_lazy_deterministic_and_unlabelled():
    size = Preprocessing(input_shape=(3, 32, 40))
    first, second = (load_data(None, preprocessing=size, samples=30, eval_samples=20) for _ in range(2))
    assert not first.labelled
    assert "your own images" in first.note
    assert "\n" not in first.note
    assert (len(first.calibration), len(first.evaluation)) == (30, 20)
    backwards = torch.stack([second.calibration[index][0] for index in reversed(range(30))]).flip(0)
    assert torch.equal(stacked(first.calibration), backwards)
    assert first.calibration[0][0].shape == (3, 32, 40)
    assert first.calibration[0][1] == -1
    assert first.fingerprint == second.fingerprint
    assert first.fingerprint != load_data(None, preprocessing=size, samples=30, seed=1).fingerprint
    assert len({image.numpy().tobytes() for image in stacked(first.calibration)}) == 30


def test_more_crops_keep_the_first_ones():
    few, many = (load_data(None, preprocessing=COLOUR, samples=count).calibration for count in (5, 9))
    assert torch.equal(stacked(few), stacked(many)[:5])


def test_evaluation_crops_share_no_pixel_with_the_others():
    black_right = torch.full((3, 40, 100), 255, dtype=torch.uint8)
    black_right[:, :, 70:] = 0
    prep = Preprocessing(input_shape=(3, 8, 8), mean=(0.0,) * 3, std=(1.0,) * 3)
    crops = PhotoCrops([black_right], used=30, evaluation=30, seed=0, preprocessing=prep)
    images = stacked(crops)
    assert images[:30].amin() > 0.5
    assert images[30:].amax() < 0.05


def test_photographs_for_a_grey_model():
    data = load_data(None, preprocessing=GREY, samples=5)
    assert data.calibration[0][0].shape == (1, 16, 16)
    assert data.evaluation[0][0].std() > 0


# --- image folders


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


def test_flat_folder_is_unlabelled(tmp_path):
    write_images(tmp_path, 20)
    data = load_data(f"imagefolder:{tmp_path}", preprocessing=COLOUR, samples=10)
    assert not data.labelled
    assert data.classes == ()
    assert data.calibration[0][1] == -1
    assert (len(data.calibration), len(data.train), len(data.evaluation)) == (10, 6, 4)


def test_resize_and_crop_keep_the_aspect(tmp_path):
    pixels = np.zeros((20, 60, 3), dtype=np.uint8)
    pixels[:, 20:40] = 255  # the middle third, which the crop keeps
    for index in range(4):
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
    prep = Preprocessing(input_shape=(3, 16, 16), resize=16, mean=(0.0,) * 3, std=(1.0,) * 3)
    cropped = load_data(f"imagefolder:{tmp_path}", preprocessing=prep, samples=2).calibration[0][0]
    assert cropped[:, :, 2:-2].amin() > 0.95
    squeezed = Preprocessing(input_shape=(3, 16, 16), mean=(0.0,) * 3, std=(1.0,) * 3)
    assert load_data(f"imagefolder:{tmp_path}", preprocessing=squeezed, samples=2).calibration[0][0].amin() < 0.05


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1", "I;16"])
def test_other_colour_modes(tmp_path, mode):
    suffix = ".tif" if mode == "CMYK" else ".png"
    for index in range(4):
        if mode == "I;16":
            image = Image.fromarray(np.full((20, 20), 128 * 256, dtype=np.uint16))
        else:
            image = Image.new("RGB", (20, 20), (128, 128, 128)).convert(mode)
        image.save(tmp_path / f"{index}{suffix}")
    prep = Preprocessing(input_shape=(3, 8, 8), mean=(0.0,) * 3, std=(1.0,) * 3)
    image = load_data(f"imagefolder:{tmp_path}", preprocessing=prep, samples=2).calibration[0][0]
    assert image.shape == (3, 8, 8)
    assert 0.4 < image.mean() < 0.6


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
    monkeypatch.setattr("topocompress.data.CHECK_ALL", 10)
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


def test_folder_without_images(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(DataError, match="holds no images"):
        load_data(f"imagefolder:{tmp_path}", preprocessing=COLOUR)


def test_missing_folder_and_file_for_folder(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        load_data(f"imagefolder:{tmp_path / 'none'}", preprocessing=COLOUR)
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="is not a directory"):
        load_data(f"imagefolder:{tmp_path / 'file'}", preprocessing=COLOUR)


def test_images_beside_class_folders(two_classes):
    write_images(two_classes, 1)
    with pytest.raises(DataError, match="holds both images"):
        load_data(f"imagefolder:{two_classes}", preprocessing=COLOUR)


def test_too_few_images(tmp_path):
    write_images(tmp_path, 2)
    with pytest.raises(DataError, match="2 usable samples"):
        load_data(f"imagefolder:{tmp_path}", preprocessing=COLOUR)


def test_channels_that_cannot_be_converted(two_classes):
    prep = Preprocessing(input_shape=(4, 16, 16), mean=(0.5,) * 4, std=(0.5,) * 4)
    data = load_data(f"imagefolder:{two_classes}", preprocessing=prep, samples=4)
    with pytest.raises(DataError, match="3 channels do not fit a model with 4"):
        data.calibration[0]


# --- Fashion-MNIST and CIFAR-10


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


# --- factories

FACTORY = """
import torch
from torch.utils.data import IterableDataset, TensorDataset

def tensors(count=40, channels=1, fill=None, size=16):
    images = torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(0))
    if fill is not None:
        images[:, 0, 0, 0] = fill
    return TensorDataset(images, torch.arange(count) % 4)

def one(): return tensors()
def pair(): return tensors(30), tensors(10)
def wrong_channels(): return tensors(channels=3)
def wrong_size(): return tensors(size=20)
def nan(): return tensors(fill=float("nan"))
def number(): return 3
def broken(): raise KeyError("nothing here")
def empty(): return tensors(0)
def raw(): return [(torch.full((28, 28), 255, dtype=torch.uint8), 0) for _ in range(10)]
def words(): return [("a picture", 0) for _ in range(10)]
def labels(): return [(torch.zeros(1, 16, 16), "cat") for _ in range(10)]
def bare(): return [torch.full((1, 16, 16), float(i)) for i in range(10)]

class Stream(IterableDataset):
    def __iter__(self): return iter([])

def stream(): return Stream()
"""


@pytest.fixture
def factory(tmp_path, monkeypatch):
    (tmp_path / "topocompress_test_sets.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    return "topocompress_test_sets"


def test_factory_of_one_dataset(factory):
    data = load_data(f"{factory}:one", preprocessing=GREY, samples=8)
    assert (len(data.calibration), len(data.train), len(data.evaluation)) == (8, 24, 8)
    assert Counter(data.calibration.targets.tolist()) == {0: 2, 1: 2, 2: 2, 3: 2}
    assert data.classes == ("0", "1", "2", "3")


def test_factory_of_two_datasets(factory):
    data = load_data(f"{factory}:pair", preprocessing=GREY, samples=8)
    assert (len(data.calibration), len(data.train), len(data.evaluation)) == (8, 22, 10)
    assert numbers(data.evaluation) == set(range(30, 40))
    assert data.evaluation[0][1] == 0


def test_factory_of_raw_images(factory):
    image = load_data(f"{factory}:raw", preprocessing=GREY, samples=2).calibration[0][0]
    assert image.shape == (1, 16, 16)
    assert torch.allclose(image, torch.full((1, 16, 16), (1 - 0.3) / 0.3))


def test_factory_without_labels(factory):
    data = load_data(f"{factory}:bare", preprocessing=GREY, samples=4)
    assert not data.labelled
    assert data.calibration[0][1] == -1


def test_factory_of_finished_data(factory, monkeypatch):
    import importlib

    part = TensorDataset(torch.zeros(5, 1, 16, 16), torch.zeros(5, dtype=torch.long))
    made = Data(
        calibration=part,
        train=None,
        evaluation=part,
        labelled=True,
        classes=("a",),
        source="mine",
        note="",
        skipped=(),
        fingerprint="sha256:0",
    )
    monkeypatch.setattr(importlib.import_module(factory), "one", lambda: made)
    assert load_data(f"{factory}:one", preprocessing=GREY) is made
    with pytest.raises(DataError, match="wrong channels"):
        load_data(f"{factory}:one", preprocessing=COLOUR)


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
        ("stream", "not a dataset"),
        ("nothing", "has no nothing"),
    ],
)
def test_bad_factories(factory, name, message):
    with pytest.raises(DataError, match=message) as caught:
        load_data(f"{factory}:{name}", preprocessing=GREY, samples=4)
    assert caught.value.hint


@pytest.mark.parametrize("source", ["mnist", "imagefolder:", "cifar10", "fashion-mnist", ""])
def test_unknown_source_lists_the_forms(source):
    with pytest.raises(DataError, match="unknown data source") as caught:
        load_data(source, preprocessing=GREY)
    assert "imagefolder:PATH" in caught.value.hint


def test_a_bare_folder_is_told_how_to_be_written(two_classes):
    with pytest.raises(DataError) as caught:
        load_data(str(two_classes), preprocessing=COLOUR)
    assert f"imagefolder:{two_classes}" in caught.value.hint
