"""The activations that are compared."""

import pytest
import torch
import torch.nn.functional as F

from benchmarks.activation.zoo import (
    ACTIVATIONS,
    CANDIDATES,
    FIXED,
    IMAGE,
    OURS,
    QuickMish,
    gain,
    in_first_layer,
    layer,
)
from tests.benchmarks.activation.made_up import normal
from topocompress import TopologicalActivation
from topocompress.activation.module import wave


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_works_as_a_layer_and_its_gain_gives_mean_square_1(name):
    generator = torch.Generator().manual_seed(0)
    outputs = layer(name, 6, generator)(normal(2, 6, 4, 4))
    assert outputs.shape == (2, 6, 4, 4)
    assert torch.isfinite(outputs).all()
    activation = ACTIVATIONS[name]
    started = activation.start((1, 1, 6), (1, 1, 1), torch.Generator().manual_seed(0))
    scaled = gain(activation, (1, 1, 6), (1, 1, 1)) * activation.call(normal(1, 50_000, 6), started)
    if name != "ParametricSplit":  # its parameters are drawn
        assert float(scaled.detach().square().mean()) == pytest.approx(1, abs=0.05)


def test_parametric_split_is_a_shifted_relu_at_0():
    inputs = normal(50)
    zero = torch.zeros(1)
    found = ACTIVATIONS["ParametricSplit"].call(inputs, (zero, zero))
    torch.testing.assert_close(found, F.relu(inputs - 1))


def test_ours_in_the_first_layer_is_the_module_there_and_silu_behind_it():
    inputs = normal(5, 7)
    leading, *others = in_first_layer(3)
    two, waved, gelu = in_first_layer(3, frequency=1.5, amplitude=0.5, waves=2, behind="GELU")
    assert two is waved
    torch.testing.assert_close(gelu.call(inputs, ()), F.gelu(inputs))
    torch.testing.assert_close(
        two.call(inputs, two.start((7,), (1,), None)),
        TopologicalActivation(7, frequency=1.5, amplitude=0.5)(inputs),
    )
    module = TopologicalActivation(7, frequency=4.0)
    torch.testing.assert_close(leading.call(inputs, leading.start((7,), (1,), None)), module(inputs))
    assert len(others) == 2
    for other in others:
        torch.testing.assert_close(other.call(inputs, ()), F.silu(inputs))


def test_mish_by_one_exponential_is_mish():
    inputs = torch.cat([torch.linspace(-30, 30, 601), torch.tensor([-200.0, 200.0])]).requires_grad_()
    plain, quick = (call(inputs, ()) for call in (ACTIVATIONS["Mish"].call, ACTIVATIONS["Mish"].compiled))
    torch.testing.assert_close(quick, plain)
    torch.testing.assert_close(
        *(torch.autograd.grad(each.sum(), inputs)[0] for each in (quick, plain)), atol=1e-5, rtol=1e-5
    )


def test_mish_of_a_cpu_is_mish():
    inputs = torch.linspace(-30, 30, 601, requires_grad=True)
    quick, plain = QuickMish.apply(inputs), F.mish(inputs)
    torch.testing.assert_close(quick, plain)
    weights = normal(601)
    torch.testing.assert_close(*(torch.autograd.grad((each * weights).sum(), inputs)[0] for each in (quick, plain)))


def test_ours_in_a_stack_is_the_products_module():
    inputs = (1.7 * normal(2, 300, 7)).requires_grad_()
    amplitude = normal(2, 1, 7).requires_grad_()
    modules = [TopologicalActivation(7) for _ in range(2)]
    for module, own in zip(modules, amplitude.detach(), strict=True):
        module.load_state_dict({"amplitude": own[0], "fit": torch.zeros(4)})
    activation = ACTIVATIONS[OURS]
    stacked = activation.call(inputs, (amplitude, *activation.settle(inputs.detach())))
    alone = torch.stack([module(each) for module, each in zip(modules, inputs, strict=True)])
    torch.testing.assert_close(stacked, alone)
    weights = normal(2, 300, 7)
    found = torch.autograd.grad((stacked * weights).sum(), [inputs, amplitude])
    expected = torch.autograd.grad((alone * weights).sum(), [inputs, *(module.amplitude for module in modules)])
    torch.testing.assert_close(found[0], expected[0])
    torch.testing.assert_close(found[1][:, 0], torch.stack(expected[1:]))
    torch.testing.assert_close(
        ACTIVATIONS[FIXED].call(inputs[0], (amplitude[0],)),
        F.silu(inputs[0]) + amplitude[0] * wave(inputs[0], 2.0),
    )


def test_ours_on_a_gpu_is_the_products_module():
    module = layer(OURS, 3, torch.Generator()).module
    inputs = (3 * normal(2, 3, 4, 4)).requires_grad_()
    formula = IMAGE.call(inputs, (-module.amplitude.view(3, 1, 1),))
    expected = torch.autograd.grad(formula.square().sum(), [inputs, module.amplitude])
    outputs = module(inputs)
    torch.testing.assert_close(outputs, formula)
    found = torch.autograd.grad(outputs.square().sum(), [inputs, module.amplitude])
    torch.testing.assert_close(found, expected)
    assert IMAGE.start((3, 1, 1))[0].tolist() == (-module.amplitude.view(3, 1, 1)).tolist()


@pytest.mark.parametrize("name", CANDIDATES)
def test_what_was_tried_learns_its_amplitude(name):
    made = layer(name, 3, torch.Generator())
    made(normal(2, 3, 4, 4)).sum().backward()
    assert all(value.grad is not None and value.shape == (3, 1, 1) for value in made.parameters())
