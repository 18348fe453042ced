"""Passes over a job's samples: which samples, how many at once, and no network asked twice."""

import gc

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from topocompress.data.loading import STAND_IN, Data
from topocompress.network.outputs import outputs_of
from topocompress.reconstruction.pairs import HELD_OUT
from topocompress.workflows.passes import Passes


class Asked(nn.Module):
    """Counts the samples it sees."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.seen = nn.Linear(48, 3), 0

    def forward(self, x):
        self.seen += len(x)
        return self.layer(x.flatten(1))


class Viewing(nn.Module):
    """Takes its input to lie plainly in memory."""

    def forward(self, x):
        return x.view(len(x), -1)


def numbered(count, size=4):
    """(count, 3, size, size) noise, each sample with its number for a label."""
    images = torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))
    return TensorDataset(images, torch.arange(count))


def passes(count=40, *, macs=1, source="own", size=4, model=None):
    network = model or Asked()
    data = Data(
        calibration=numbered(count, size), train=None, evaluation=numbered(10, size), labelled=False, classes=(),
        source=source, note="", skipped=(), fingerprint="",
    )  # fmt: skip
    outputs = outputs_of(Asked(), torch.randn(3, 3, 4, 4))
    return Passes(network, data, lambda: outputs, lambda: macs)


def numbers(batches):
    return [int(label) for _, labels in batches for label in labels]


def test_a_network_is_asked_once_as_long_as_it_stays_what_it_is():
    found, model = passes(), Asked()
    first = found.said(model, "evaluation")
    assert found.said(model, "evaluation") is first
    assert model.seen == 10
    with torch.no_grad():
        model.layer.weight.neg_()
    assert found.said(model, "evaluation") is not first
    assert model.seen == 20


def test_what_is_held_out_of_repair_is_taken_from_what_is_known():
    found, known, alone = passes(), Asked(), Asked()
    whole = found.said(known, "choice")
    part = found.said(known, "held out")
    assert known.seen == 40
    assert part.classes.tolist() == whole.classes[HELD_OUT - 1 :: HELD_OUT].tolist()
    assert found.said(alone, "held out").classes.tolist() == part.classes.tolist()
    assert alone.seen == 40 // HELD_OUT


def test_a_network_that_is_gone_is_forgotten():
    found, model = passes(), Asked()
    found.said(model, "evaluation")
    assert len(found._answers) == 1
    del model
    gc.collect()
    assert not found._answers


@pytest.mark.parametrize(
    ("macs", "source", "expected"),
    [
        (1, "own", 300),
        (1e12 / 200, "own", 200),  # as many as the work allows
        (1e12, "own", 128),  # and no fewer than these
        (1, STAND_IN, 100),
        (1e12, STAND_IN, 64),
    ],
)
def test_how_many_samples_repair_takes(macs, source, expected):
    found = passes(300, macs=macs, source=source)
    taken = numbers(found.repair)
    assert len(taken) == expected
    assert taken == sorted(set(taken))
    assert (taken[0], taken[-1]) == (0, 299)  # spread over all of them
    assert set(numbers(found.statistics)) <= set(taken)
    assert len(numbers(found.calibration)) == 300


@pytest.mark.parametrize(
    ("macs", "expected"),
    [
        (1, range(300)),
        (2.5e11 / 110, [number for number in range(300) if number % 5 > 2]),  # 110 samples, of 60 a fifth
    ],
)
def test_repair_is_chosen_by_whole_fifths_the_one_held_out_first(macs, expected):
    found = passes(300, macs=macs)
    taken = numbers(found.repair)
    assert numbers(found.choice) == [taken[number] for number in expected]
    assert found.choice_count == len(expected)
    assert numbers(found.held_out) == taken[HELD_OUT - 1 :: HELD_OUT]


@pytest.mark.parametrize("count", [1, 3, 7])
def test_of_a_few_samples_all_choose_and_where_none_can_be_held_out_all_judge(count):
    found = passes(count)
    assert len(numbers(found.choice)) == count
    assert len(numbers(found.held_out)) == (1 if count == 7 else count)


def test_large_images_run_a_few_at_a_time():
    model = nn.Conv2d(3, 1, 1)
    sizes = {size: [len(images) for images, _ in passes(20, size=size, model=model).calibration] for size in (4, 300)}
    assert sizes == {4: [20], 300: [8, 8, 4]}


def test_images_lie_as_the_network_takes_them_fastest():
    for model, layout in ((nn.Conv2d(3, 8, 3), torch.channels_last), (Viewing(), torch.contiguous_format)):
        images, _ = next(iter(passes(model=model).calibration))
        assert images.is_contiguous(memory_format=layout)
