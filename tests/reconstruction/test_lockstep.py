"""Batches side by side."""

import threading

import pytest
import torch
from torch import nn

from topocompress.errors import ModelError
from topocompress.reconstruction.lockstep import in_step


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)).eval()


def batches():
    return list(torch.randn(7, 3, generator=torch.Generator().manual_seed(1)).split(3))


def plain(_number, run):
    run()


def test_all_arrive_before_any_goes_on():
    model, seen = network(), []
    in_step(
        model, batches(), ["0", "2", "4"], lambda stop, inputs: seen.append((stop, [len(x) for x in inputs])), plain
    )
    assert seen == [(stop, [3, 3, 1]) for stop in ("0", "2", "4")]


def test_they_bring_what_a_whole_pass_would_after_what_was_changed_on_the_way():
    model, brought = network(), {}

    def at(stop, inputs):
        brought[stop] = torch.cat(list(inputs))
        model.get_submodule(stop).weight.data.mul_(2)

    in_step(model, batches(), ["0", "2", "4"], at, plain)
    whole = torch.cat(batches())
    with torch.no_grad():
        torch.testing.assert_close(brought["2"], model[:2](whole))
        torch.testing.assert_close(brought["4"], model[:4](whole))


def test_batches_that_join_late_come_to_where_they_join_through_what_was_changed_before():
    model, brought, started = network(), {}, []

    def at(stop, inputs):
        brought[stop] = list(inputs)
        model.get_submodule(stop).weight.data.mul_(2)

    def around(number, run):
        started.append((number, list(brought)))
        run()

    in_step(model, batches(), ["0", "2", "4"], at, around, [0, 1, 2])
    assert [len(each) for each in brought.values()] == [1, 2, 3]
    assert started == [(0, []), (1, ["0"]), (2, ["0", "2"])]
    with torch.no_grad():
        for stop, before in (("2", model[:2]), ("4", model[:4])):
            for inputs, batch in zip(brought[stop], batches(), strict=False):
                torch.testing.assert_close(inputs, before(batch))


def failing(_stop, _inputs):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("at", "around", "error"),
    [
        (failing, plain, KeyboardInterrupt),
        (lambda *_: None, lambda number, run: run() if number else 1 / 0, ZeroDivisionError),
    ],
)
def test_what_goes_wrong_comes_through_and_leaves_nothing_behind(at, around, error):
    model, threads = network(), threading.active_count()
    with pytest.raises(error):
        in_step(model, batches(), ["0", "2"], at, around)
    assert threading.active_count() == threads
    assert not any(module._forward_pre_hooks for module in model.modules())


class Fork(nn.Module):
    def __init__(self):
        super().__init__()
        self.few, self.many = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, inputs):
        return self.few(inputs) if len(inputs) < 2 else self.many(inputs)


def test_ways_that_part_are_refused():
    with pytest.raises(ModelError, match="depends on the samples"):
        in_step(Fork(), batches(), ["few", "many"], lambda *_: None, plain)
