"""Networks trained as one stack, each as it would be alone."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.activation.stack import Samples, Stack, Training
from benchmarks.activation.starts import Norm, started
from benchmarks.activation.zoo import OURS, in_first_layer
from tests.benchmarks.activation.made_up import normal


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


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_a_stack_steps_as_torchs_adam_does(samples, decay):
    stack = Stack("ReLU", 2, 4, 1, [5])
    copies = [tensor.detach().clone().requires_grad_() for tensor in stack.tensors()]
    matrices, biases = copies[::2], copies[1::2]
    groups = [{"params": matrices, "weight_decay": decay}, {"params": biases, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=0.01)
    points, labels = samples.training
    chosen = torch.from_numpy(np.random.default_rng([7, 5]).permutation(600)[:512])
    first, second, third, fourth = copies
    logits = F.relu(points[chosen] @ first[0] + second[0]) @ third[0] + fourth[0]
    F.cross_entropy(logits, labels[chosen]).backward()
    optimiser.step()
    Training(stack, samples, [0.01], [5], decay=decay).run(1)
    for found, expected in zip(stack.tensors(), copies, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["BatchNorm", "LayerNorm"])
def test_a_norm_is_torchs_in_every_run(kind):
    points, weights = (3 * normal(2, 50, 4) + 1).requires_grad_(), normal(2, 50, 4)
    norm = Norm(kind, 2, 4)
    alone = [nn.BatchNorm1d(4) if kind == "BatchNorm" else nn.LayerNorm(4) for _ in range(2)]
    for tensor, name in zip(norm.tensors, ("weight", "bias"), strict=True):
        tensor.normal_(generator=torch.Generator().manual_seed(1))
        for run, module in enumerate(alone):
            getattr(module, name).data.copy_(tensor[run, 0])
        tensor.requires_grad_()

    def by_torch():
        return torch.stack([module(each) for module, each in zip(alone, points, strict=True)])

    found, expected = norm(points, training=True), by_torch()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        torch.autograd.grad((found * weights).sum(), [points, *norm.tensors]),
        (
            *torch.autograd.grad((expected * weights).sum(), points, retain_graph=True),
            *(
                torch.stack(torch.autograd.grad((expected * weights).sum(), some, retain_graph=True))[:, None]
                for some in ([each.weight for each in alone], [each.bias for each in alone])
            ),
        ),
    )
    for module in alone:
        module.eval()
    torch.testing.assert_close(norm(points, training=False), by_torch())


@pytest.mark.parametrize(
    ("start", "variance"), [("torch", 1 / 300), ("Kaiming", 2 / 100), ("Xavier", 2 / 500), ("orthogonal", 1 / 400)]
)
def test_starts_have_the_variance_they_are_known_by(start, variance):
    weights, biases = started(start, 100, 400, torch.Generator().manual_seed(0))
    assert float(weights.var()) == pytest.approx(variance, rel=0.03)
    assert bool(biases.any()) == (start == "torch")


def test_a_stack_steps_as_torchs_sgd_does(samples):
    stack = Stack("ReLU", 2, 4, 1, [5], start="Kaiming")
    copies = [tensor.detach().clone().requires_grad_() for tensor in stack.tensors()]
    optimiser = torch.optim.SGD(copies, lr=0.1, momentum=0.9)
    points, labels = samples.training
    order = torch.from_numpy(np.random.default_rng([7, 5]).permutation(600)[:256]).view(2, 128)
    first, second, third, fourth = copies
    for chosen in order:
        optimiser.zero_grad()
        logits = F.relu(points[chosen] @ first[0] + second[0]) @ third[0] + fourth[0]
        F.cross_entropy(logits, labels[chosen]).backward()
        optimiser.step()
    Training(stack, samples, [0.1], [5], momentum=0.9, batch=128).run(2)
    for found, expected in zip(stack.tensors(), copies, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_a_stack_takes_an_activation_for_each_layer_and_the_start_of_linear_layers():
    stack = Stack(in_first_layer(2), 2, 400, 2, [0], plain=True)
    assert [len(own) for own in stack.parameters] == [1, 0]
    weights, biases = (each.detach() for each in stack.layers[1])
    assert float(weights.std()) == pytest.approx(1 / math.sqrt(3 * 400), rel=0.02)
    assert float(biases.abs().max()) <= 1 / math.sqrt(400)
