"""Functions seen as they are called: what a subclass says is what the caller gets."""

import torch

from tests.helpers.tiny_nets import Chain, example, seeded
from topocompress.network.functions import FunctionCalls


class Counting(FunctionCalls):
    def __init__(self):
        super().__init__()
        self.names = []

    def _call(self, func, args, kwargs):
        self.names.append((func.__name__, sorted(kwargs)))
        return super()._call(func, args, kwargs)


class Doubling(FunctionCalls):
    def _call(self, func, args, kwargs):
        output = func(*args, **kwargs)
        return 2 * output if func is torch.sum else output


def test_calls_are_seen_with_their_arguments_and_go_through():
    ones = torch.ones(2, 3)
    with Counting() as counting:
        total = torch.sum(ones, dim=0)
    assert counting.names == [("sum", ["dim"])]
    assert total.tolist() == [2.0, 2.0, 2.0]


def test_what_a_subclass_gives_is_what_the_caller_gets():
    ones = torch.ones(2, 3)
    with Doubling():
        assert float(torch.sum(ones)) == 12
    assert float(torch.sum(ones)) == 6


def test_without_a_say_nothing_changes():
    model = seeded(Chain)
    with torch.no_grad():
        plain = model(example())
        with FunctionCalls():
            assert torch.equal(model(example()), plain)
