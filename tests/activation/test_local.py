"""Activations of a single arch."""

import math

import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.helpers.waves import normal, with_amplitudes
from topocompress import TopologicalActivation, export_onnx
from topocompress.activation.module import Hinge, arch
from topocompress.deploy.export import open_session
from topocompress.errors import ModelError
from topocompress.network.hook_points import hooked
from topocompress.surgery.activations import fold_back


def test_an_arch_ends_where_its_width_says():
    inputs = torch.tensor([-9.0, -2.0, -1.0, 0.0, 1.0, 2.0, 9.0])
    assert arch(inputs, 2.0).tolist() == [0.0, 0.0, 0.75, 1.0, 0.75, 0.0, 0.0]


def test_a_hinge_of_3_is_a_hardswish():
    inputs = 3 * normal(100)
    torch.testing.assert_close(Hinge(3.0)(inputs), F.hardswish(inputs))
    assert Hinge(2.0)(torch.tensor([-9.0, -2.0, -1.0, 0.0, 1.0, 2.0, 9.0])).tolist() == [0, 0, -0.25, 0, 0.75, 2, 9]


def test_a_local_activation_is_its_hinge_less_the_arch():
    inputs = torch.tensor([-9.0, -2.0, -1.0, 0.0, 1.0, 2.0, 9.0])[:, None]
    local = TopologicalActivation(1, local=2.0, amplitude=0.5)
    assert local(inputs)[:, 0].tolist() == [0.0, 0.0, -0.625, -0.5, 0.375, 2.0, 9.0]
    on_relu = TopologicalActivation(1, local=2.0, amplitude=0.5, base=nn.ReLU())
    assert on_relu(inputs)[:, 0].tolist() == [0.0, 0.0, -0.375, -0.5, 0.625, 2.0, 9.0]


def test_a_local_activation_starts_at_a_quarter_and_says_what_it_is():
    local = TopologicalActivation(3, local=1.5)
    assert local.amplitude.tolist() == [0.25, 0.25, 0.25]
    assert (local.local, local.frequency, local.base.bend) == (1.5, None, 1.5)
    assert "3, local=1.5, axis=1" in repr(local)
    assert "3, frequency=2, axis=1" in repr(TopologicalActivation(3, frequency=2.0))


@pytest.mark.parametrize("base", [None, nn.Tanh()])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gradients_of_a_local_activation_are_those_of_the_formula(axis, base):
    activation = TopologicalActivation(4, axis=axis, local=1.3, base=base).double()
    plain = Hinge(1.3) if base is None else base
    inputs = normal(4, 4, 4, dtype=torch.float64).requires_grad_()
    amplitude = normal(4, seed=1, dtype=torch.float64).requires_grad_()
    shape = [1, 1, 1]
    shape[axis] = 4

    def through_module(x, a):
        return torch.func.functional_call(activation, {"amplitude": a}, (x,))

    assert torch.autograd.gradcheck(through_module, (inputs, amplitude))
    weights = normal(4, 4, 4, seed=2, dtype=torch.float64)
    found, expected = through_module(inputs, amplitude), plain(inputs) - amplitude.view(shape) * arch(inputs, 1.3)
    torch.testing.assert_close(found, expected)
    for one, other in zip(
        torch.autograd.grad((found * weights).sum(), (inputs, amplitude)),
        torch.autograd.grad((expected * weights).sum(), (inputs, amplitude)),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_large_inputs_go_through_a_local_activation_in_parts(monkeypatch):
    monkeypatch.setattr("topocompress.activation.kernels.BLOCK", 20)
    activation = with_amplitudes(0.3, -0.4, local=1.5)
    inputs = normal(7, 2, 3).requires_grad_()
    found = activation(inputs)
    expected = Hinge(1.5)(inputs) - torch.tensor([0.3, -0.4]).view(2, 1) * arch(inputs, 1.5)
    torch.testing.assert_close(found, expected)
    for wanted in (inputs, activation.amplitude):
        gradient = torch.autograd.grad(found.square().sum(), wanted, retain_graph=True)[0]
        assert gradient.abs().sum() > 0
    gradient = torch.autograd.grad(found.square().sum(), inputs)[0]
    torch.testing.assert_close(gradient, torch.autograd.grad(expected.square().sum(), inputs)[0])


@pytest.mark.parametrize("base", [None, nn.GELU()])
def test_a_local_activation_of_amplitude_0_is_its_base_bit_for_bit(base):
    inputs = 2 * normal(5, 3, 4, 4)
    activation = TopologicalActivation(3, amplitude=0.0, local=1.5, base=base)
    assert torch.equal(activation(inputs), (base or Hinge(1.5))(inputs))
    plain = fold_back(nn.Sequential(activation))[0]
    assert type(plain) is (Hinge if base is None else nn.GELU)
    assert torch.equal(plain(inputs), activation(inputs))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"local": 0.0}, "local width 0.0"),
        ({"local": math.inf}, "local width inf"),
        ({"local": 1.0, "frequency": 2.0}, "is local"),
    ],
)
def test_local_settings_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ModelError, match=message):
        TopologicalActivation(**options)


def local_network(base=None):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1),
            with_amplitudes(*torch.linspace(-1, 1, 16).tolist(), local=1.5, base=base),
            nn.Conv2d(16, 16, 3, padding=1),
            TopologicalActivation(local=2.0, base=base),
            nn.Flatten(),
            nn.Linear(16 * 36, 6),
            TopologicalActivation(6, local=1.5, base=base),
            nn.Linear(6, 2),
            Hinge(1.0),
        )


@pytest.mark.parametrize("base", [None, nn.ReLU()])
@pytest.mark.parametrize("opset", [None, 18])
def test_a_local_activation_is_exported_in_one_operator_for_its_bend(tmp_path, base, opset):
    model = local_network(base).eval()
    check = export_onnx(model, tmp_path / "m.onnx", samples=3 * normal(4, 3, 6, 6), opset=opset)
    assert check.max_rel < 1e-5
    graph = onnx.load(tmp_path / "m.onnx").graph
    assert {node.domain for node in graph.node} == {""}
    kinds = [node.op_type for node in graph.node]
    assert kinds.count("HardSigmoid") == 4
    assert set(kinds) <= {"Conv", "HardSigmoid", "Add", "Sub", "Mul", "Relu", "Reshape", "Flatten", "Gemm"}


def test_a_local_activation_stays_in_onnx_runtimes_blocked_layout(tmp_path):
    model = local_network().eval()
    export_onnx(model, tmp_path / "m.onnx", samples=normal(4, 3, 6, 6))
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    open_session(tmp_path / "m.onnx", options)
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
    assert kinds.count("ReorderInput") + kinds.count("ReorderOutput") <= 2  # on the way in and on the way out


def test_a_local_activation_can_be_compiled():
    model, inputs = local_network().eval(), normal(2, 3, 6, 6)
    program = torch.export.export(model, (inputs,))  # what compiling traces
    torch.testing.assert_close(program.module()(inputs), model(inputs))


def test_filters_are_read_after_a_hinge():
    model, images = local_network().eval(), normal(2, 3, 6, 6)
    model[1] = model[1].base
    delivered = {}
    with hooked(model, ["0", "2"], delivered.__setitem__) as run:
        run(images)
    assert torch.equal(delivered["0"], model[:2](images))
    assert torch.equal(delivered["2"], model[:4](images))
