import math

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.helpers.waves import normal, with_amplitudes
from topocompress import TopologicalActivation, export_onnx
from topocompress.activation.module import wave
from topocompress.errors import ModelError
from topocompress.network.hook_points import hooked

# --- the wave ---


def test_a_wave_is_0_at_half_turns_and_1_at_quarter_turns():
    turns = torch.tensor([-0.5, -0.25, 0.0, 0.125, 0.25, 0.5, 0.75, 1.0], dtype=torch.float64)
    expected = [0.0, -1.0, 0.0, 0.75, 1.0, 0.0, -1.0, 0.0]
    assert wave(turns * 2 * math.pi / 3.0, 3.0).tolist() == pytest.approx(expected, abs=1e-12)


@given(st.floats(-50, 50), st.floats(0.1, 9))
def test_a_wave_stays_near_the_sine(value, frequency):
    found = wave(torch.tensor(value, dtype=torch.float64), frequency)
    assert abs(float(found) - math.sin(frequency * value)) < 0.0561


# --- the module ---


@pytest.mark.parametrize(
    ("shape", "axis"), [((5, 3), 1), ((2, 3, 4, 4), 1), ((2, 7, 3), -1), ((2, 4, 4, 3), -1), ((3, 6), 0)]
)
def test_each_channel_has_its_own_amplitude(shape, axis):
    activation = with_amplitudes(0.0, 0.5, -2.0, axis=axis, frequency=2.0)
    inputs = normal(*shape)
    channels = activation(inputs).movedim(axis, 0)
    for amplitude, found, received in zip((0.0, 0.5, -2.0), channels, inputs.movedim(axis, 0), strict=True):
        torch.testing.assert_close(found, F.silu(received) + amplitude * wave(received, 2.0))


def test_one_amplitude_serves_all_channels():
    inputs = normal(2, 4, 3, 3)
    torch.testing.assert_close(TopologicalActivation(frequency=2.0)(inputs), F.silu(inputs) + wave(inputs, 2.0))


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gradients_are_those_of_the_formula(axis):
    activation = TopologicalActivation(4, axis=axis, frequency=1.3).double()
    inputs = normal(4, 4, 4, dtype=torch.float64).requires_grad_()
    amplitude = normal(4, seed=1, dtype=torch.float64).requires_grad_()
    shape = [1, 1, 1]
    shape[axis] = 4

    def through_module(x, a):
        return torch.func.functional_call(activation, {"amplitude": a}, (x,))

    assert torch.autograd.gradcheck(through_module, (inputs, amplitude))
    weights = normal(4, 4, 4, seed=2, dtype=torch.float64)
    plain = F.silu(inputs) + amplitude.view(shape) * wave(inputs, 1.3)
    for found, expected in zip(
        torch.autograd.grad((through_module(inputs, amplitude) * weights).sum(), (inputs, amplitude)),
        torch.autograd.grad((plain * weights).sum(), (inputs, amplitude)),
        strict=True,
    ):
        torch.testing.assert_close(found, expected)


def test_large_inputs_go_through_in_parts(monkeypatch):
    monkeypatch.setattr("topocompress.activation.kernels.BLOCK", 20)
    activation = with_amplitudes(0.3, -0.4, frequency=2.0)
    inputs = normal(7, 2, 3).requires_grad_()
    found = activation(inputs)
    expected = F.silu(inputs) + torch.tensor([0.3, -0.4]).view(2, 1) * wave(inputs, 2.0)
    torch.testing.assert_close(found, expected)
    gradient = torch.autograd.grad(found.square().sum(), inputs)[0]
    torch.testing.assert_close(gradient, torch.autograd.grad(expected.square().sum(), inputs)[0])


def test_it_is_many_to_one():
    outputs = TopologicalActivation(1, frequency=2.0)(torch.linspace(-3, 3, 601)[:, None])
    rising = np.sign(np.diff(outputs.detach().numpy()[:, 0]))
    assert np.count_nonzero(np.diff(rising)) >= 4  # folds


def test_at_amplitude_0_it_is_the_base_bit_for_bit_and_leaves_its_input_alone():
    base = nn.ReLU(inplace=True)
    inputs = normal(3, 2)
    kept = inputs.clone()
    assert torch.equal(TopologicalActivation(2, amplitude=0.0, base=base)(inputs), F.relu(kept))
    assert torch.equal(inputs, kept)
    assert base.inplace  # the caller's own is untouched


def test_an_empty_batch_passes():
    assert TopologicalActivation(3)(torch.empty(0, 3, 2, 2)).shape == (0, 3, 2, 2)


@pytest.mark.parametrize("options", [{"channels": 0}, {"frequency": 0.0}, {"frequency": math.nan}])
def test_settings_that_make_no_sense_are_refused(options):
    with pytest.raises(ModelError, match="topological activation of"):
        TopologicalActivation(**options)


def test_inputs_of_another_width_are_refused():
    with pytest.raises(ModelError, match=r"3 channels got an input of shape \(2, 4\)"):
        TopologicalActivation(3)(normal(2, 4))


def test_modules_from_before_there_was_a_local_form_still_work():
    activation, inputs = TopologicalActivation(2, frequency=2.0), normal(3, 2)
    expected = activation(inputs)
    del activation.__dict__["local"]
    assert torch.equal(activation(inputs), expected)


# --- in networks ---


def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1),
            TopologicalActivation(4, amplitude=0.5, frequency=2.0),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(16, 6),
            TopologicalActivation(6, base=nn.ReLU()),
            nn.Linear(6, 2),
        )


def test_it_is_exported_as_standard_operators(tmp_path):
    check = export_onnx(network(), tmp_path / "m.onnx", samples=normal(4, 3, 6, 6))
    assert check.max_rel < 1e-5
    graph = onnx.load(tmp_path / "m.onnx").graph
    assert {node.domain for node in graph.node} == {""}
    added = {"Sigmoid", "Mul", "Round", "Sub", "Abs", "Add", "Relu"}
    assert {node.op_type for node in graph.node} <= {"Conv", "Gemm", "Reshape", "GlobalAveragePool"} | added | {
        "AveragePool",
        "MatMul",
    }


def test_filters_are_read_after_the_whole_activation():
    model, images = network().eval(), normal(2, 3, 6, 6)
    delivered = {}
    with hooked(model, ["0", "4"], delivered.__setitem__) as run:
        run(images)
    assert torch.equal(delivered["0"], model[:2](images))
    assert torch.equal(delivered["4"], model[:6](images))


def test_weights_of_another_network_leave_it_to_fit_itself():
    plain = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
    net = nn.Sequential(nn.Conv2d(3, 8, 3), TopologicalActivation(8))
    missing = net.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert missing == ["1.amplitude", "1.fit"]
    assert net[1].fit.tolist() == [0, 0, 0, 0]
    net.train()(torch.randn(4, 3, 8, 8))
    assert net[1].fit[3] == 1
