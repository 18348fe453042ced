from pathlib import Path

import pytest
import torch
from onnx import TensorProto, helper, numpy_helper, save
from torch import Tensor, nn

from topocompress.deploy.export import export_onnx
from topocompress.deploy.profile import _sum, layer_names, profile
from topocompress.errors import ExportError


class Net(nn.Module):
    """Blocked, depthwise and unblocked convolutions, with and without norm and activation, sums and linear layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.deep = nn.Conv2d(width, width, 3, groups=width, padding=1)
        self.inner = nn.Sequential(nn.Conv2d(width, width, 1), nn.Hardswish())
        self.tokens = nn.Linear(width, 16)
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.inner(nn.functional.relu6(self.deep(x)))
        return self.head(nn.functional.gelu(self.tokens(x.flatten(2).transpose(1, 2))).mean(1))


LAYERS = {"stem.0", "deep", "inner.0", "tokens", "head"}


@pytest.fixture(scope="module", params=[16, 33])
def file(request, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "net.onnx"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        export_onnx(Net(request.param).eval(), path, samples=torch.randn(2, 3, 12, 12))
    return path


def test_every_layer_has_its_time(file):
    found = profile([file, file], sample=torch.zeros(1, 3, 12, 12).numpy(), batch=64, runs=3)
    assert len(found) == 2
    for times in found:
        assert set(times.layers) == LAYERS
        assert all(milliseconds >= 0 for milliseconds in times.layers.values())
        assert times.rest > 0  # the sum, the mean: far more than the microseconds in which it is told


def test_every_layer_has_a_node(file):
    assert set(layer_names(file).values()) == LAYERS


def test_nothing_is_left_where_the_files_are(file, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    profile([file], sample=torch.zeros(1, 3, 12, 12).numpy(), runs=1)
    assert not list(tmp_path.iterdir())
    assert [path.name for path in file.parent.iterdir()] == ["net.onnx"]


def test_a_file_that_cannot_be_run(tmp_path):
    (tmp_path / "broken.onnx").write_bytes(b"not a model")
    with pytest.raises(ExportError, match=r"broken\.onnx"):
        profile([tmp_path / "broken.onnx"], sample=torch.zeros(1, 3, 12, 12).numpy())


def test_nodes_are_traced_to_the_weight_they_compute_with(tmp_path):
    values = [numpy_helper.from_array(torch.ones(2, 2, 1, 1).numpy(), name) for name in ("a.weight", "b.weight", "c")]
    values.append(numpy_helper.from_array(torch.ones(2, 2).numpy(), "fc.weight"))
    values += [numpy_helper.from_array(torch.ones(2, 2).numpy(), "folded")]
    values += [numpy_helper.from_array(torch.ones(2).numpy(), f"{name}.bias") for name in ("out", "unused")]
    nodes = [
        helper.make_node("Conv", ["input", "a.weight"], ["v0"], name="n0"),
        helper.make_node("Relu", ["v0"], ["v1"], name="n1"),
        helper.make_node("Conv", ["v1", "c"], ["v2"], name="n2"),  # no module's weight
        helper.make_node("Add", ["v1", "v2"], ["v3"], name="n3"),
        helper.make_node("Conv", ["v3", "b.weight"], ["v4"], name="n4"),
        helper.make_node("GlobalAveragePool", ["v4"], ["v5"], name="n5"),
        helper.make_node("Flatten", ["v5"], ["v6"], name="n6"),
        helper.make_node("Transpose", ["fc.weight"], ["turned"], name="n7"),
        helper.make_node("MatMul", ["v6", "turned"], ["v7"], name="n8"),
        helper.make_node("MatMul", ["v7", "folded"], ["v8"], name="n9"),  # known by its bias
        helper.make_node("Add", ["out.bias", "v8"], ["v9"], name="n10"),
        helper.make_node("MatMul", ["v9", "v9"], ["output"], name="n11"),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("input", [1, 2, 4, 4]), ("output", [2, 2]))
    ]
    save(helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:], values)), tmp_path / "g.onnx")
    found = layer_names(tmp_path / "g.onnx")
    assert {name: found.get(name) for name in ("n0", "n2", "n4", "n8", "n9", "n11")} == {
        "n0": "a",
        "n2": None,
        "n4": "b",
        "n8": "fc",
        "n9": "out",
        "n11": None,
    }
    assert (found["v0_nchwc"], found["v1_nchwc"], found["v4_nchwc"]) == ("a", "a", "b")
    assert "v2_nchwc" not in found
    assert "v3_nchwc" not in found


def event(name, kind, microseconds):
    return {"cat": "Node", "name": f"{name}_kernel_time", "dur": microseconds, "args": {"op_name": kind}}


def test_times_are_medians_of_the_counted_runs_added_up():
    runs = [(9000, 900), (8000, 800), (30, 1), (10, 2), (20, 30)]  # two that do not count, then three
    events = [{"cat": "Session", "name": "model_run", "dur": 1}]
    for conv, other in runs:
        events += [
            event("v0_nchwc", "Conv", conv),
            event("n1", "FusedConv", conv * 10),
            event("n4/MatMulAddFusion", "Gemm", conv * 100),
            event("n5", "MatMul", 7),  # of two values, no weight
            event("ReorderOutput", "ReorderOutput", other),
            event("ReorderOutput", "ReorderOutput", other),
            event("n2", "Relu", other * 1000),
        ]
    found = _sum(events, {"v0_nchwc": "a", "n1": "a", "n2": "a", "n4": "b"}, 3)
    assert found.layers == pytest.approx({"a": 0.02 + 0.2, "b": 2.0})
    assert found.layout == pytest.approx(2 * 0.002)
    assert found.rest == pytest.approx(2.0 + 0.007)
