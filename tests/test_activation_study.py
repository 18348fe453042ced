"""The tools of ``benchmarks.activation``."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from benchmarks.activation import BEGIN, END, insert
from benchmarks.activation_images import TESTED_AT
from benchmarks.activation_page import reached, spread
from benchmarks.activation_stack import Samples, Stack, Training
from benchmarks.activation_zoo import ACTIVATIONS, OURS, gain, layer


def normal(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def samples():
    points = normal(600, 2)
    labels = (points.prod(dim=1) > 0).long()
    return Samples(training=(points, labels), test=(points[:100], labels[:100]))


@pytest.mark.parametrize("name", [OURS, "ReLU", "ParametricSplit"])
def test_a_run_in_a_stack_is_what_it_would_be_alone(samples, name):
    seeds, rates = [3, 4], [1e-3, 1e-2]

    def trained(seeds, rates):
        training = Training(Stack(name, 2, 5, 2, seeds), samples, rates, seeds)
        training.run(4)
        return [tensor.detach() for tensor in training.stack.tensors()]

    together = trained(seeds, rates)
    for place in (0, 1):
        for mine, alone in zip(together, trained(seeds[place : place + 1], rates[place : place + 1]), strict=True):
            torch.testing.assert_close(mine[place : place + 1], alone, rtol=1e-3, atol=1e-5)


def test_a_stack_steps_as_torchs_adam_does(samples):
    stack = Stack("ReLU", 2, 4, 1, [5])
    copies = [tensor.detach().clone().requires_grad_() for tensor in stack.tensors()]
    optimiser = torch.optim.Adam(copies, lr=0.01)
    points, labels = samples.training
    chosen = torch.from_numpy(np.random.default_rng([7, 5]).permutation(600)[:512])
    first, second, third, fourth = copies
    logits = F.relu(points[chosen] @ first[0] + second[0]) @ third[0] + fourth[0]
    F.cross_entropy(logits, labels[chosen]).backward()
    optimiser.step()
    Training(stack, samples, [0.01], [5]).run(1)
    for found, expected in zip(stack.tensors(), copies, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


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


def test_steps_are_summed_up_with_failures_last():
    assert spread([10.0, 20.0, 30.0, 40.0, 50.0]) == "30 (20–40)"
    assert spread([10.0, 20.0, 30.0, None, None]) == "30 (20–never)"
    assert spread([10.0, None, None]) == "never"


def test_the_first_test_that_is_good_enough_counts():
    rising = np.linspace(0, 1, len(TESTED_AT))
    assert reached(rising, float(rising[7])) == TESTED_AT[7]
    assert reached(rising, math.inf) is None


def test_tables_stand_between_the_marks_of_the_page(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    insert(page, "new")
    insert(page, "newer")
    assert page.read_text() == f"before\n{BEGIN}\n\nnewer\n{END}\nafter\n"
