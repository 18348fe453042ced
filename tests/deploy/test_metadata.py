import json
import math

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

import topocompress
from tests.helpers.trained import held_out_part, trained
from topocompress.deploy.export import export_onnx
from topocompress.deploy.metadata import Metadata, metadata_of, read_metadata, write_metadata
from topocompress.errors import ArtifactError, ExportError
from topocompress.types import InputPart, Preprocessing

MODEL = "sha256:" + "0a" * 32
IMAGES = Preprocessing(input_shape=(1, 8, 8), resize=9, mean=(0.25,), std=(0.5,), pixel_range=(0.0, 4095.0))
COLOURED = Preprocessing(input_shape=(3, 30, 40), interpolation="bicubic")


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    path = tmp_path_factory.mktemp("metadata") / "m.onnx"
    export_onnx(trained(), path, samples=held_out_part().tensors[0][:4])
    return path.read_bytes()


@pytest.fixture
def file(content, tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    return path


def properties(file):
    """What any reader sees, by ONNX Runtime."""
    session = ort.InferenceSession(file, providers=["CPUExecutionProvider"])
    return {name: json.loads(value) for name, value in session.get_modelmeta().custom_metadata_map.items()}


def with_entries(file, *entries):
    """The file with other properties, key and value, as anybody might write them."""
    proto = onnx.load(file)
    del proto.metadata_props[:]
    for key, value in entries:
        proto.metadata_props.add(key=key, value=value)
    onnx.save(proto, file)
    return file


def test_each_entry_is_a_property_in_json(file):
    write_metadata(file, metadata_of(MODEL, IMAGES, ("naught", "один")))
    assert properties(file) == {
        "topocompress.format": 1,
        "topocompress.version": topocompress.__version__,
        "topocompress.model": MODEL,
        "topocompress.input_shape": [1, 8, 8],
        "topocompress.resize": 9,
        "topocompress.interpolation": "bilinear",
        "topocompress.mean": [0.25],
        "topocompress.std": [0.5],
        "topocompress.pixel_range": [0.0, 4095.0],
        "topocompress.channel_order": "L",
        "topocompress.scale": [0.0, 1.0],
        "topocompress.classes": ["naught", "один"],
    }


@pytest.mark.parametrize(
    ("preprocessing", "classes"), [(IMAGES, ("a", "b")), (COLOURED, ()), (Preprocessing(input_shape=(3, 8)), ("a",))]
)
def test_what_is_written_is_read(file, preprocessing, classes):
    write_metadata(file, metadata_of(MODEL, preprocessing, classes))
    found = read_metadata(file)
    images = preprocessing if preprocessing.is_image else None
    assert found == Metadata(model=MODEL, preprocessing=images, classes=classes)


def test_it_changes_nothing_else_and_a_second_time_replaces_the_first(file, content):
    with_entries(file, ("someone", "else's"))
    write_metadata(file, metadata_of(MODEL, IMAGES, ("a",)))
    write_metadata(file, metadata_of(MODEL, COLOURED))
    proto, before = onnx.load(file), onnx.load_model_from_string(content)
    kept = {entry.key: entry.value for entry in proto.metadata_props}
    assert kept["someone"] == "else's"
    assert "topocompress.classes" not in kept
    assert len(kept) == len(proto.metadata_props)
    assert proto.graph == before.graph
    images = np.zeros((2, 1, 8, 8), np.float32)
    assert ort.InferenceSession(file, providers=["CPUExecutionProvider"]).run(None, {"input": images})[0].shape == (
        2,
        10,
    )
    assert [path.name for path in file.parent.iterdir()] == ["m.onnx"]


@pytest.mark.parametrize(
    "preprocessing",
    [
        Preprocessing(input_shape=(1, 8, 8)),  # with three means: what comes finished is never normalised
        Preprocessing(input_shape=(5, 8, 8), mean=(0.0,) * 5, std=(1.0,) * 5),
        Preprocessing(input_shape=(3, 100)),
        Preprocessing(
            input_shape=(1, 3, 8),
            mean=(0.0,),
            std=(1.0,),
            inputs=(InputPart(name="x", shape=(24,), dtype="float32", call="positional"),),
        ),
    ],
)
def test_inputs_that_are_made_of_no_image_say_nothing_of_one(file, preprocessing):
    write_metadata(file, metadata_of(MODEL, preprocessing))
    assert sorted(properties(file)) == ["topocompress.format", "topocompress.model", "topocompress.version"]
    assert read_metadata(file).preprocessing is None


def changed(file, **entries):
    """The entries of a file of ours with others in their place; ``None`` takes one out."""
    write_metadata(file, metadata_of(MODEL, COLOURED, ("a", "b")))
    named = {entry.key: entry.value for entry in onnx.load(file).metadata_props}
    named |= {f"topocompress.{name}": value for name, value in entries.items()}
    return with_entries(file, *((key, value) for key, value in named.items() if value is not None))


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"format": None}, "does not say how its inputs are prepared"),
        ({"format": "2"}, "metadata of format '2', this topocompress reads 1"),
        ({"model": None}, "model: Field required"),
        ({"model": '"sha256:0"'}, "model: String should match"),
        ({"resize": '"33"'}, "preprocessing.resize: Input should be a valid integer"),
        ({"resize": "1e99"}, r"preprocessing.resize: Input should be a valid integer"),
        ({"resize": "100000"}, "a short side of 100000 pixels"),
        ({"resize": None}, "resize is missing"),
        ({"input_shape": "[3, 4000000000, 8]"}, "an input of 3 x 4000000000 x 8 is not possible"),
        ({"input_shape": "[3, true, 8]"}, r"preprocessing.input_shape.1: Input should be a valid integer"),
        ({"interpolation": '"lanczos"'}, "preprocessing.interpolation: Input should be 'bilinear' or 'bicubic'"),
        ({"mean": "[0.5, 0.5]"}, "mean and std are not those of so many channels"),
        ({"mean": "[NaN, 0, 0]"}, "NaN is no number of JSON"),
        ({"std": "[0, 1, 1]"}, "std must be above 0"),
        ({"channel_order": '"BGR"'}, "channel_order and scale do not follow"),
        ({"scale": "[0, 255]"}, "channel_order and scale do not follow"),
        ({"classes": '"ab"'}, "classes: Input should be a valid"),
        ({"classes": "[1]"}, "classes.0: Input should be a valid string"),
        ({"classes": json.dumps(["x" * 10_001])}, "classes.0: String should have at most 10000 characters"),
        ({"classes": json.dumps(["x"] * 100_001)}, "classes: Tuple should have at most 100000 items"),
        ({"classes": json.dumps(["x" * 10_000] * 1700)}, "they have more than 17 MB"),
        ({"classes": "[" * 100 + "]" * 100}, "nested too deeply"),
        ({"classes": "no json"}, "Expecting value"),
        ({"more": "1"}, "more: Unexpected keyword argument"),
        ({"version": "1"}, "version: Input should be a valid string"),
    ],
)
def test_what_cannot_be_is_refused(file, entries, message):
    with pytest.raises(ArtifactError, match=message) as caught:
        read_metadata(changed(file, **entries))
    assert caught.value.hint
    assert len(str(caught.value)) < 500


def test_an_entry_that_stands_there_twice(file):
    write_metadata(file, metadata_of(MODEL, COLOURED))
    entries = [(entry.key, entry.value) for entry in onnx.load(file).metadata_props]
    with pytest.raises(ArtifactError, match="stands there twice"):
        read_metadata(with_entries(file, *entries, ("topocompress.resize", "5")))


@pytest.mark.parametrize("broken", ["missing", "folder", "text", "cut"])
def test_files_that_are_none(file, content, tmp_path, broken):
    path = tmp_path / "other.onnx"
    if broken == "folder":
        path.mkdir()
    elif broken != "missing":
        path.write_bytes(b"no protobuf" if broken == "text" else content[:-7])
    for use in (read_metadata, lambda path: write_metadata(path, metadata_of(MODEL, IMAGES))):
        with pytest.raises(ArtifactError, match=r"other.onnx cannot be read") as caught:
            use(path)
        assert caught.value.hint
    assert path.exists() == (broken != "missing")


def test_weights_in_other_files_are_not_looked_for(file):
    proto = onnx.load(file)
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../secret")
    onnx.save(proto, file)
    with pytest.raises(ArtifactError, match="does not say"):
        read_metadata(file)


def test_names_that_do_not_fit(file, content):
    with pytest.raises(ExportError, match=r"17\.0 MB.*m\.onnx") as caught:
        write_metadata(file, metadata_of(MODEL, IMAGES, ("x" * 10_000,) * 1700))
    assert "--classes" in caught.value.hint
    assert file.read_bytes() == content


def test_numbers_survive_to_the_last_bit(file):
    mean = (0.1 + 0.2, math.pi, float(torch.tensor(0.1)))
    write_metadata(file, metadata_of(MODEL, Preprocessing(input_shape=(3, 8, 8), mean=mean)))
    assert read_metadata(file).preprocessing.mean == mean
