from dataclasses import replace

import pytest
import torch
from test_budgets import data, loaded
from torch import nn
from torch.utils.data import TensorDataset
from trained import digits, trained

from topocompress.criteria import L1
from topocompress.data import STAND_IN
from topocompress.planning import make_plan
from topocompress.probing import prunable_groups
from topocompress.rules import Limits
from topocompress.steps import Job, left_after_removal
from topocompress.surgery import apply
from topocompress.verbs import layer_costs, score_groups


def job(**changes):
    return Job(loaded=loaded(trained()), data=replace(data(), **changes), seed=0, progress=lambda *_: None)


def cut(model):
    """Without half its filters."""
    example = torch.zeros(1, 1, 8, 8)
    groups = prunable_groups(model, example)
    scores = score_groups(model, groups, L1(), None)
    plan = make_plan(scores, groups, layer_costs(model, example), ratio=0.5, limits=Limits(round_to=1))
    return apply(model, plan, example=example)


def statistics(model):
    return [buffer.clone() for buffer in model.buffers()]


@pytest.fixture(scope="module")
def bare():
    return cut(trained())


def test_statistics_are_those_of_the_calibration_samples(bare):
    settled = job().recalibrated(bare)
    assert settled is not bare
    assert not all(torch.equal(*pair) for pair in zip(statistics(settled), statistics(bare), strict=True))
    assert not job().refused_statistics(bare, settled)


def test_statistics_that_make_a_network_less_like_the_original_are_refused():
    images, labels = digits()
    faint = TensorDataset(images[:64] * 0.02, labels[:64])  # as good as no picture: all that varies is magnified
    seen = job(calibration=faint)
    model = seen.loaded.module
    assert seen.recalibrated(model) is model
    assert seen.refused_statistics(model, model)
    before = seen.evaluated(model, "")
    left = left_after_removal(seen, model, model, before)
    assert left["statistics_refused"] is True
    assert left["accuracy_recalibrated"] == left["accuracy"] == before.accuracy


def test_photographs_that_stand_in_set_no_statistics(bare):
    seen = job(source=STAND_IN)
    assert seen.recalibrated(bare) is bare
    assert not seen.refused_statistics(bare, bare)


def test_without_batchnorm_there_is_nothing_to_set():
    seen, model = job(), nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    assert seen.recalibrated(model) is model
    assert not seen.refused_statistics(model, model)
