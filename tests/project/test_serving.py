"""The serving example: what the exported file says without torch is what the network says with it."""

import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits, load_sample_image
from torch import nn
from torchvision.transforms.v2 import functional as F

from tests.helpers.processes import python
from topocompress.data.images import prepare, read_image
from topocompress.deploy.export import export_onnx
from topocompress.deploy.metadata import metadata_of, write_metadata
from topocompress.models.digits import DigitsNet
from topocompress.models.loading import fingerprint, load_model
from topocompress.surgery.run_directory import load_run, save
from topocompress.types import Preprocessing

EXAMPLE = Path(__file__).parents[2] / "examples" / "serve_onnx.py"
FOREIGN = ("torch", "torchvision", "topocompress", "torch_pruning", "timm", "onnx", "scipy", "sklearn")
DIGITS = Preprocessing(input_shape=DigitsNet.input_shape, mean=(0.3,), std=(0.3,))
ALONE = f"""
import runpy, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {FOREIGN}:
            raise ImportError(name + " is not here")

sys.meta_path.insert(0, Blocker())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def served(*arguments):
    """What the example prints in a process that has neither torch nor topocompress."""
    done = python("-c", ALONE, EXAMPLE, *arguments)
    lines = [line.partition(" %  ") for line in done.stdout.splitlines()]
    return [(name, float(share)) for share, _, name in lines]


def expected(model, image, preprocessing, classes):
    """The same by PyTorch and topocompress's own preparation."""
    with torch.no_grad():
        shares = torch.softmax(model(prepare(read_image(image), preprocessing)[None])[0], 0)
    return [(classes[k], 100 * float(shares[k])) for k in shares.argsort(descending=True)]


def write(folder, model, preprocessing, classes=()):
    """A directory with an ONNX file as a run has it, and nothing else."""
    example = torch.rand(2, *preprocessing.input_shape, generator=torch.Generator().manual_seed(0))
    export_onnx(model, folder / "model.onnx", samples=example)
    write_metadata(folder / "model.onnx", metadata_of(fingerprint(model), preprocessing, classes))
    return folder


def said_in_a_file(folder, preprocessing):
    """What the example reads in a file of a network with these inputs."""
    import serve_onnx

    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in ("input", "output")]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["input"], ["output"])], "g", ends[:1], ends[1:])
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10),
        folder / "m.onnx",
    )
    write_metadata(folder / "m.onnx", metadata_of(fingerprint(DigitsNet()), preprocessing))
    return serve_onnx.said_by(ort.InferenceSession(folder / "m.onnx", providers=["CPUExecutionProvider"]))


def assert_same(found, wanted):
    assert found[0][0] == wanted[0][0]
    shares = dict(wanted)
    assert all(abs(share - shares[name]) < 1.0 for name, share in found)  # in points


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    loaded = load_model("digits")
    names = tuple(f"digit {number}" for number in range(10))
    folder = tmp_path_factory.mktemp("digits") / "run"
    return (
        write(folder, loaded.module, loaded.preprocessing, names),
        loaded,
        names,
    )


@pytest.mark.parametrize("mode", ["L", "RGB", "P"])
def test_a_digit_is_recognised_without_torch(digits, tmp_path, mode):
    run, loaded, names = digits
    for index in (3, 7):
        pixels = np.uint8(load_digits().images[index] * 255 / 16)
        Image.fromarray(pixels).resize((48, 48)).convert(mode).save(tmp_path / "digit.png")
        found = served(run, tmp_path / "digit.png")
        assert len(found) == 5
        assert found[0][0] == f"digit {load_digits().target[index]}"
        assert_same(found, expected(loaded.module, tmp_path / "digit.png", loaded.preprocessing, names))


@pytest.mark.parametrize("photograph", ["china.jpg", "flower.jpg"])
def test_a_photograph_is_resized_and_cropped_as_ours(tmp_path, photograph):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 8, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 4))
    preprocessing = Preprocessing(input_shape=(3, 56, 64), resize=72)
    run = write(tmp_path / "run", model.eval(), preprocessing, classes=("a", "b", "c"))
    Image.fromarray(load_sample_image(photograph)).save(tmp_path / "photo.png")
    found = served(run, tmp_path / "photo.png", "--top", "4")
    assert {name for name, _ in found} == {"a", "b", "c", "class 3"}  # one class has no name
    assert_same(found, expected(model, tmp_path / "photo.png", preprocessing, ("a", "b", "c", "class 3")))


@pytest.mark.parametrize("size", [(61, 40), (40, 61), (24, 24), (301, 200)])
@pytest.mark.parametrize(
    "preprocessing",
    [
        Preprocessing(input_shape=(3, 24, 24), resize=33),
        Preprocessing(input_shape=(3, 25, 18), resize=30, interpolation="bicubic"),
        Preprocessing(input_shape=(3, 20, 32)),
        Preprocessing(input_shape=(1, 16, 16), resize=20, mean=(0.3,), std=(0.3,)),
    ],
)
def test_inputs_are_ours_up_to_rounding(monkeypatch, tmp_path, preprocessing, size):
    monkeypatch.syspath_prepend(str(EXAMPLE.parent))
    import serve_onnx

    Image.fromarray(load_sample_image("flower.jpg")[100:340, 150:500]).resize(size).save(tmp_path / "photo.png")
    settings = said_in_a_file(tmp_path, preprocessing)
    ours = prepare(read_image(tmp_path / "photo.png"), preprocessing)[None].numpy()
    theirs = serve_onnx.prepare(Image.open(tmp_path / "photo.png"), settings)
    assert theirs.shape == ours.shape
    assert theirs.dtype == ours.dtype
    level = 1 / (255 * min(preprocessing.std))  # one step of 8 bits
    assert np.abs(theirs - ours).max() <= 1.5 * level
    assert np.abs(theirs - ours).mean() <= 0.35 * level


@pytest.mark.parametrize("depth", [8, 16])
def test_grey_images_of_8_and_16_bits_are_read_alike(monkeypatch, tmp_path, depth):
    monkeypatch.syspath_prepend(str(EXAMPLE.parent))
    import serve_onnx

    ramp = np.arange(64, dtype=np.uint16).reshape(8, 8) * 4
    Image.fromarray(ramp.astype(np.uint8) if depth == 8 else ramp * 257).save(tmp_path / "ramp.png")
    rgb = serve_onnx.as_rgb(Image.open(tmp_path / "ramp.png"))
    ours = F.to_dtype(read_image(tmp_path / "ramp.png"), scale=True)
    assert np.allclose(np.asarray(rgb).transpose(2, 0, 1) / 255, ours.numpy())
    assert np.array_equal(np.asarray(rgb)[..., 0], ramp)


@pytest.mark.parametrize(("dtype", "top"), [(np.uint16, 4095), (np.int32, 255), (np.float32, 0.25)])
def test_images_of_more_than_8_bits_on_the_range_of_the_run(monkeypatch, tmp_path, dtype, top):
    monkeypatch.syspath_prepend(str(EXAMPLE.parent))
    import serve_onnx

    ramp = (np.linspace(0, 1, 64).reshape(8, 8) * top).astype(dtype)
    Image.fromarray(ramp).save(tmp_path / "ramp.tif")
    preprocessing = Preprocessing(input_shape=(1, 8, 8), mean=(0.3,), std=(0.3,), pixel_range=(0.0, float(top)))
    settings = said_in_a_file(tmp_path, preprocessing)
    ours = prepare(read_image(tmp_path / "ramp.tif", preprocessing.pixel_range), preprocessing)[None].numpy()
    theirs = serve_onnx.prepare(Image.open(tmp_path / "ramp.tif"), settings)
    assert np.abs(theirs - ours).max() <= 0.6 / (255 * 0.3)  # half a level of 8 bits
    assert np.ptp(ours) == pytest.approx(1 / 0.3)


def test_class_names_survive_a_second_pruning(tmp_path):
    save(tmp_path / "run", DigitsNet(), plans=[], preprocessing=DIGITS, classes=("a", "b"))
    assert load_run(tmp_path / "run", arch=DigitsNet).classes == ("a", "b")


def test_a_file_is_named_by_itself_in_its_run_or_with_its_run(digits, tmp_path):
    run, _, names = digits
    Image.new("L", (8, 8)).save(tmp_path / "image.png")
    other = run / "other.onnx"
    other.write_bytes((run / "model.onnx").read_bytes())
    write_metadata(other, metadata_of(fingerprint(DigitsNet()), DIGITS, tuple(f"other {name}" for name in names)))
    for words, other_names in (
        ((run,), False),
        ((run / "model.onnx",), False),
        ((other,), True),
        ((run, "--model", "other.onnx"), True),
        ((os.path.relpath(run), "--model", os.path.relpath(other)), True),
    ):
        found = served(words[0], tmp_path / "image.png", *words[1:])
        assert {name.startswith("other ") for name, _ in found} == {other_names}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere", "image.png"], "there is no file nowhere"),
        ([".", "image.png", "--model", "mine.onnx"], "there is no file mine.onnx"),
        (["foreign.onnx", "image.png"], "foreign.onnx does not say how images are prepared for it"),
    ],
)
def test_what_cannot_be_served_is_said(digits, tmp_path, words, message):
    proto = onnx.load(digits[0] / "model.onnx")
    del proto.metadata_props[:]
    onnx.save(proto, tmp_path / "foreign.onnx")
    Image.new("L", (8, 8)).save(tmp_path / "image.png")
    done = python(EXAMPLE, *words, cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(message)


def test_what_is_no_classifier_is_refused(tmp_path):
    run = write(tmp_path / "run", nn.Conv2d(3, 4, 1).eval(), Preprocessing(input_shape=(3, 8, 8)))
    Image.new("RGB", (9, 9)).save(tmp_path / "image.png")
    done = python(EXAMPLE, run, tmp_path / "image.png", check=False)
    assert done.returncode == 1
    assert "does not give one score per class, but an output of shape (1, 4, 8, 8)" in done.stderr
