from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from tests.helpers.output_kinds import KINDS, images, made
from tests.helpers.trained import held_out_part, trained, training_part
from topocompress.data.loading import batches
from topocompress.deploy.export import export_onnx
from topocompress.deploy.int8 import OnnxNetwork, judged, quantize_onnx
from topocompress.deploy.measurement import agreement, evaluate
from topocompress.errors import ExportError
from topocompress.types import Latency, Measurement


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    samples = torch.stack([held_out_part()[index][0] for index in range(4)])
    export_onnx(trained(), folder / "model.onnx", samples=samples)
    part = TensorDataset(*training_part()[:256])
    quantize_onnx(folder / "model.onnx", folder / "model.int8.onnx", calibration=batches(part))
    return folder


def test_the_file_in_8_bits_is_smaller_and_nearly_as_good(files):
    evaluation = batches(held_out_part())
    before = evaluate(trained(), evaluation)
    exact, small = (evaluate(OnnxNetwork(files / name), evaluation) for name in ("model.onnx", "model.int8.onnx"))
    assert exact.accuracy == before.accuracy
    assert agreement(before, small) > 0.97
    assert (files / "model.int8.onnx").stat().st_size < (files / "model.onnx").stat().st_size


def test_products_are_computed_in_8_bits_with_a_scale_per_channel(files):
    onnx = pytest.importorskip("onnx")
    graph = onnx.load(files / "model.int8.onnx").graph
    kinds = {node.op_type for node in graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    weights = [each for each in graph.initializer if each.data_type == onnx.TensorProto.INT8 and len(each.dims) == 4]
    assert [each.dims[0] for each in weights] == [8, 16]
    for each in weights:
        values = onnx.numpy_helper.to_array(each)
        assert abs(values).reshape(len(values), -1).max(1).tolist() == [64] * len(
            values
        )  # 7 bits, used by each channel


def test_the_same_samples_give_the_same_file(files, tmp_path):
    part = TensorDataset(*training_part()[:256])
    quantize_onnx(files / "model.onnx", tmp_path / "again.onnx", calibration=batches(part))
    assert (tmp_path / "again.onnx").read_bytes() == (files / "model.int8.onnx").read_bytes()


def test_what_cannot_be_quantised_leaves_no_file(files, tmp_path):
    wrong = TensorDataset(torch.zeros(4, 3, 5, 5), torch.zeros(4, dtype=torch.int64))
    with pytest.raises(ExportError, match=r"cannot quantise model.onnx") as caught:
        quantize_onnx(files / "model.onnx", tmp_path / "small.onnx", calibration=batches(wrong))
    assert "--quantize" in caught.value.hint
    assert not list(tmp_path.iterdir())


def side(median, size, accuracy):
    latency = (Latency(batch=1, median_ms=median, p95_ms=99.0, runs=5),)
    return Measurement(parameters=1, macs=1, file_bytes=size, accuracy=accuracy, agreement=0.9, latency=latency)


def test_a_faster_file_is_recommended_and_a_slower_one_is_not():
    good = judged(side(2.0, 250, 0.97), side(3.0, 1000, 0.98), "INT8")
    assert good.kept
    assert "1.50× faster again and its file 4.0× smaller; accuracy 97.0 % against 98.0 %" in good.message
    bad = judged(side(3.0, 250, None), side(2.0, 1000, None), "FP16")
    assert not bad.kept
    assert "FP16 is 1.50× slower than 32 bits on this processor: for such processors ship model.onnx" in bad.message
    assert "agreement 90.0 % against 90.0 %" in bad.message


def test_a_network_so_small_that_scales_take_more_than_is_saved(files):
    assert "its file 1.2× larger" in judged(side(2.0, 1200, None), side(3.0, 1000, None), "INT8").message


def test_an_onnx_file_is_evaluated_without_a_trace(files):
    network = OnnxNetwork(files / "model.onnx")
    assert isinstance(network, nn.Module)
    assert not list(network.parameters())
    assert network(torch.zeros(3, 1, 8, 8)).shape == (3, 10)


def test_explained_variation_is_called_by_its_name():
    small, large = (
        replace(side(ms, 1000, None), agreement=None, explained_variation=share)
        for ms, share in ((2.0, 0.5), (3.0, 0.75))
    )
    assert "explained variation 50.0 % against 75.0 %" in judged(small, large, "INT8").message


def test_every_output_of_a_file_is_evaluated(tmp_path):
    model = made(KINDS["detr"])
    export_onnx(model, tmp_path / "m.onnx", samples=images(4))
    found, whole = OnnxNetwork(tmp_path / "m.onnx")(images(3)), model(images(3))
    assert len(found) == 2
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(found, whole.values(), strict=True))
