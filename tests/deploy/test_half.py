import sys

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn

from tests.helpers.trained import held_out_part, trained
from topocompress.deploy.export import export_onnx
from topocompress.deploy.half import halve_onnx
from topocompress.errors import ExportError


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("half")
    export_onnx(trained(), folder / "m.onnx", samples=held_out_part().tensors[0][:4])
    before = list(sys.path)
    halve_onnx(folder / "m.onnx", folder / "half.onnx", samples=held_out_part().tensors[0][:2].numpy())
    assert sys.path == before
    return folder


def test_weights_are_in_16_bits_and_ends_in_32(files):
    proto = onnx.load(files / "half.onnx")
    onnx.checker.check_model(proto, full_check=True)
    kinds = {each.data_type for each in proto.graph.initializer if np.prod(each.dims) > 8}
    assert kinds == {onnx.TensorProto.FLOAT16}
    ends = [*proto.graph.input, *proto.graph.output]
    assert [end.name for end in ends] == ["input", "output"]
    assert {end.type.tensor_type.elem_type for end in ends} == {onnx.TensorProto.FLOAT}
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    assert (files / "half.onnx").stat().st_size < 0.6 * (files / "m.onnx").stat().st_size


@pytest.mark.parametrize("batch", [1, 7])
def test_it_says_what_32_bits_say(files, batch):
    images = held_out_part().tensors[0][:batch].numpy()
    one, other = (
        ort.InferenceSession(files / name, providers=["CPUExecutionProvider"]).run(None, {"input": images})[0]
        for name in ("m.onnx", "half.onnx")
    )
    assert 0 < np.abs(one - other).max() < 0.01 * np.abs(one).max()  # 11 bits of a number are kept


class Resizes(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Conv2d(1, 4, 3, padding=1)

    def forward(self, x):
        x = nn.functional.interpolate(self.body(x), scale_factor=2.0, mode="bilinear")
        return torch.softmax(x.mean((2, 3)), 1), x.amax((2, 3))


def test_operators_that_need_32_bits_and_several_outputs(tmp_path):
    torch.manual_seed(0)
    images = torch.rand(3, 1, 8, 8)
    export_onnx(Resizes().eval(), tmp_path / "m.onnx", samples=images)
    halve_onnx(tmp_path / "m.onnx", tmp_path / "half.onnx", samples=images.numpy())
    one, other = (
        ort.InferenceSession(tmp_path / name, providers=["CPUExecutionProvider"]).run(None, {"input": images.numpy()})
        for name in ("m.onnx", "half.onnx")
    )
    assert all(np.allclose(first, second, atol=5e-3) for first, second in zip(one, other, strict=True))


def test_what_is_no_onnx_file(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"no protobuf")
    with pytest.raises(ExportError, match=r"m\.onnx cannot be converted to 16 bits") as caught:
        halve_onnx(tmp_path / "m.onnx", tmp_path / "half.onnx", samples=np.zeros((1, 1, 8, 8), np.float32))
    assert "--half" in caught.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


class Scaled(nn.Module):
    """Says what it is given, by way of larger numbers."""

    def __init__(self, factor):
        super().__init__()
        self.body = nn.Conv2d(1, 1, 1, bias=False)
        nn.init.constant_(self.body.weight, factor)
        self.factor = factor

    def forward(self, x):
        return (self.body(x).relu() / self.factor).flatten(1)


@pytest.mark.parametrize(("factor", "fits"), [(65_000.0, True), (66_000.0, False)])
def test_numbers_on_the_way_must_be_those_of_float16(tmp_path, factor, fits):
    images = torch.ones(2, 1, 4, 4)
    images[1] = 0
    export_onnx(Scaled(factor), tmp_path / "m.onnx", samples=images)
    if fits:
        halve_onnx(tmp_path / "m.onnx", tmp_path / "half.onnx", samples=images.numpy())
        return
    with pytest.raises(ExportError, match=r"computes numbers up to 6.6e\+04, and float16 ends at 65,504"):
        halve_onnx(tmp_path / "m.onnx", tmp_path / "half.onnx", samples=images.numpy())
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]
