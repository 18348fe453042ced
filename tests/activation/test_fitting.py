"""Activations that fit themselves to their inputs."""

import copy
import io
import pickle

import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.helpers.waves import normal
from topocompress import TopologicalActivation, export_onnx
from topocompress.activation.fitting import FEW, dimensions, local_dimensions, strengths
from topocompress.activation.module import Hinge, arch, wave
from topocompress.deploy.export import open_session


def fitted(channels, inputs, **options):
    activation = TopologicalActivation(channels, **options)
    activation(inputs)
    return activation


# --- what is measured ---


def test_dimensions_are_counted():
    square = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    assert float(dimensions(square)) == 2  # four times the covariance is diag(2, 2): 16 / 8
    assert float(dimensions(square + 100)) == pytest.approx(2)
    assert float(dimensions(square * torch.tensor([3.0, 1.0]))) == pytest.approx(400 / 328)  # diag(18, 2)
    line = torch.tensor([[1.0, 2.0, -1.0], [-3.0, -6.0, 3.0]])
    assert float(dimensions(line)) == pytest.approx(1)
    assert float(dimensions(torch.ones(4, 3))) == 0


def test_strength_falls_with_the_square_of_the_dimension_from_2_on():
    eight = torch.cat([torch.eye(8), -torch.eye(8)])
    assert strengths(torch.stack([eight, 5 * eight])).tolist() == pytest.approx([3 / 16, 3 / 16])  # 3 (2/8)²
    assert float(strengths(torch.eye(3))) == pytest.approx(3)  # a triangle
    assert float(strengths(torch.ones(4, 3))) == 3


def test_local_dimensions_are_those_of_the_manifold():
    turn = 2 * torch.pi * torch.rand(2, 500, generator=torch.Generator().manual_seed(0))
    circle = torch.stack([turn.cos(), turn.sin(), (2 * turn).cos()], -1)
    torus = torch.cat([circle[:1], circle[1:]], -1)
    assert local_dimensions(circle).tolist() == pytest.approx([1, 1], abs=0.15)
    assert local_dimensions(torus).tolist() == pytest.approx([2], abs=0.3)
    assert float(local_dimensions(normal(500, 20))) > 10
    # Two and two: each has the others at 1, 10 and 11, or at 1, 9 and 10, and two ratios to the last.
    pairs = torch.tensor([[0.0], [1.0], [10.0], [11.0]])
    ratios = torch.tensor([11, 11 / 10, 10, 10 / 9] * 2)
    assert float(local_dimensions(pairs)) == pytest.approx(8 / float(ratios.log().sum()))


def test_local_dimensions_do_not_exceed_the_linear_ones():
    grid = torch.cartesian_prod(torch.arange(20.0), torch.arange(20.0))
    assert float(local_dimensions(grid @ normal(2, 16, seed=2))) <= 2
    assert float(local_dimensions(torch.ones(9, 3))) == 0
    assert float(local_dimensions(normal(3, 3))) == 0  # too few
    assert float(local_dimensions(torch.cat([normal(50, 2)] * 2))) <= 2  # each there twice


def test_inputs_of_many_dimensions_that_vary_most_along_one_hardly_fold():
    bright = torch.cat([10 * normal(64, 1), normal(64, 31, seed=1)], 1)
    assert float(dimensions(bright)) < 2
    near = float(local_dimensions(bright))
    assert near > FEW
    assert float(strengths(bright)) == pytest.approx(3 * (2 / near) ** 2)
    flat = torch.cat([10 * normal(64, 1), normal(64, 1, seed=1), torch.zeros(64, 30)], 1)
    assert float(strengths(flat)) == 3


def test_the_first_batch_is_measured_and_no_other():
    inputs = torch.tensor([[3.0, -4.0], [-3.0, 4.0], [4.0, 3.0], [-4.0, -3.0]])
    activation = fitted(2, inputs)
    scale, strength, gain, _ = activation.fit.tolist()
    assert (scale, strength) == pytest.approx((12.5**0.5, 3))
    unit = inputs / scale
    shape = F.silu(unit) + 3 * wave(unit, 2.0)
    assert gain == pytest.approx(float(shape.square().mean().rsqrt()))
    torch.testing.assert_close(activation(inputs), gain * shape)
    activation(7 * inputs)
    assert activation.fit.tolist() == [scale, strength, gain, 1]


def test_outputs_start_with_mean_square_1():
    inputs = 5 * normal(1000, 3) + 2
    assert fitted(3, inputs)(inputs).detach().square().mean().item() == pytest.approx(1, rel=1e-5)


@given(st.floats(1e-4, 1e4), st.integers(1, 6))
def test_the_scale_of_inputs_changes_nothing(scale, channels):
    inputs = normal(40, channels, seed=channels)
    plain, scaled = (fitted(channels, each)(each) for each in (inputs, scale * inputs))
    torch.testing.assert_close(scaled, plain, rtol=1e-3, atol=1e-4)


def test_images_are_folded_once_within_one_and_a_half_of_their_size():
    inputs = 3 * normal(5, 2, 4, 4)
    activation = fitted(2, inputs)
    scale = float(inputs.square().mean().sqrt())
    half = 1.5 * scale
    expected = Hinge(half)(inputs) - 0.25 * scale * arch(inputs, half)
    torch.testing.assert_close(activation(inputs), expected * expected.square().mean().rsqrt())
    assert torch.equal(fitted(2, inputs)(inputs), fitted(2, inputs / 8)(inputs / 8))


def test_tokens_are_measured_along_their_own_axis():
    tokens = normal(6, 5, 3)
    torch.testing.assert_close(fitted(3, tokens, axis=-1).fit, fitted(3, tokens.flatten(0, 1)).fit)


# --- when ---


def test_before_any_batch_inputs_are_taken_as_they_come():
    inputs = normal(4, 2)
    activation = TopologicalActivation(2).eval()
    torch.testing.assert_close(activation(inputs), F.silu(inputs) + wave(inputs, 2.0))
    assert activation.fit.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("inputs", [torch.zeros(4, 2), torch.empty(0, 2), torch.full((3, 2), float("nan"))])
def test_where_there_is_nothing_to_measure_the_next_batch_is(inputs):
    activation = TopologicalActivation(2)
    assert activation(inputs).shape == inputs.shape
    assert activation.fit.tolist() == [0, 0, 0, 0]
    activation(normal(4, 2))
    assert activation.fit[0] > 0


@pytest.mark.parametrize("options", [{"frequency": 2.0}, {"local": 1.5}, {"base": nn.ReLU()}])
def test_with_a_setting_nothing_is_measured(options):
    activation = TopologicalActivation(2, **options)
    activation(9 * normal(4, 2))
    assert not activation.adaptive
    assert list(activation.state_dict()) == ["amplitude"]


# --- where it goes ---


def test_copies_and_state_dicts_carry_it():
    inputs = 3 * normal(20, 2)
    activation = fitted(2, inputs)
    expected = activation(inputs)
    loaded = TopologicalActivation(2)
    loaded.load_state_dict(activation.state_dict())
    stream = io.BytesIO()
    torch.save(activation.state_dict(), stream)
    stream.seek(0)
    again = TopologicalActivation(2).eval()
    again.load_state_dict(torch.load(stream))
    pickled = pickle.loads(pickle.dumps(activation))  # noqa: S301
    for other in (copy.deepcopy(activation), pickled, loaded, again):
        assert torch.equal(other(inputs), expected)
        assert torch.equal(other.fit, activation.fit)


def test_a_state_dict_without_a_fit_computes_what_it_did():
    inputs = 3 * normal(20, 2)
    activation = TopologicalActivation(2)
    activation.load_state_dict({"amplitude": torch.tensor([1.0, 0.5])})
    expected = F.silu(inputs) + torch.tensor([1.0, 0.5]) * wave(inputs, 2.0)
    torch.testing.assert_close(activation(inputs), expected)  # in training, too
    torch.testing.assert_close(activation.eval()(inputs), expected)


def test_what_another_process_has_measured_is_taken_over_at_the_second_batch():
    inputs = normal(20, 2)
    activation = fitted(2, inputs)
    activation.fit.copy_(torch.tensor([2.0, 0.5, 1.5, 1.0]))  # as DistributedDataParallel does
    unit = inputs / 2
    torch.testing.assert_close(activation(inputs), 1.5 * (F.silu(unit) + 0.5 * wave(unit, 2.0)))


def test_a_moving_average_from_before_the_first_batch_has_the_fit():
    inputs = 3 * normal(20, 2)
    activation = TopologicalActivation(2)
    averaged = copy.deepcopy(activation).eval()
    averaged(inputs)
    expected = activation(inputs)
    with torch.no_grad():
        averaged.fit.lerp_(activation.fit, 0.01)
    torch.testing.assert_close(averaged(inputs), expected)


def test_it_is_exported_as_constants(tmp_path):
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), TopologicalActivation(4), nn.Flatten(), nn.Linear(64, 5), TopologicalActivation(5)
    )
    images = 4 * normal(6, 3, 6, 6)
    model(images)
    assert export_onnx(model.eval(), tmp_path / "m.onnx", samples=images).max_rel < 1e-5


def test_the_scale_of_images_costs_no_operator_of_its_own(tmp_path):
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), TopologicalActivation(4), nn.Conv2d(4, 2, 3), nn.ReLU()
    )
    images = 4 * normal(6, 3, 6, 6)
    model(images)
    export_onnx(model.eval(), tmp_path / "m.onnx", samples=images)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    open_session(tmp_path / "m.onnx", options)
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
    assert kinds.count("Mul") == 1  # of the bend and what it bends; σ and gain are in the first convolution


def test_gradients_are_those_of_the_formula():
    inputs = (3 * normal(12, 2, dtype=torch.float64)).requires_grad_()
    activation = TopologicalActivation(2).double()
    activation(inputs)
    assert torch.autograd.gradcheck(activation, (inputs,))
    scale, strength, gain, _ = activation.fit.tolist()
    plain = gain * (F.silu(inputs / scale) + strength * activation.amplitude * wave(inputs / scale, 2.0))
    wanted = (inputs, activation.amplitude)
    for found, expected in zip(
        torch.autograd.grad(activation(inputs).square().sum(), wanted),
        torch.autograd.grad(plain.square().sum(), wanted),
        strict=True,
    ):
        torch.testing.assert_close(found, expected)
