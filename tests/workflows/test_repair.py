import copy
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from tests.helpers.jobs import data, loaded
from tests.helpers.trained import digits, trained
from topocompress.criteria import L1
from topocompress.data.loading import STAND_IN
from topocompress.deploy.measurement import agreement, evaluate
from topocompress.errors import ModelError
from topocompress.network.batchnorm import recalibrate_batchnorm
from topocompress.planning.plan import make_plan
from topocompress.planning.rules import Limits
from topocompress.reconstruction.refit import Reconstruction
from topocompress.surgery.removal import apply
from topocompress.surgery.trial import prunable_groups
from topocompress.types import PruningPlan, Refit
from topocompress.workflows.controls import left_after_removal
from topocompress.workflows.job import Job
from topocompress.workflows.options import Recovery
from topocompress.workflows.repair import Repaired, repair
from topocompress.workflows.shrinking import Shrunk
from topocompress.workflows.single_steps import layer_costs, score_groups


def job(*, refits=False, **changes):
    recovery = Recovery(reconstruct=refits)
    return Job(loaded=loaded(trained()), data=replace(data(), **changes), recovery=recovery)


def halved(model):
    """The plan that takes half the filters, and the network without them."""
    example = torch.zeros(1, 1, 8, 8)
    groups = prunable_groups(model, example)
    scores = score_groups(model, groups, L1(), None)
    plan = make_plan(scores, groups, layer_costs(model, example), ratio=0.5, limits=Limits(round_to=1))
    return plan, apply(model, plan, example=example)


def statistics(model):
    return [buffer.clone() for buffer in model.buffers()]


def same(first, second):
    return all(torch.equal(*pair) for pair in zip(statistics(first), statistics(second), strict=True))


@pytest.fixture(scope="module")
def pruned():
    return halved(trained())


def test_statistics_are_those_of_the_calibration_samples(pruned):
    plan, bare = pruned
    seen = job()
    settled = repair(seen, bare, plan)
    assert settled.statistics == "re-estimated"
    assert same(settled.model, recalibrate_batchnorm(bare, seen.calibration))


def test_statistics_that_make_a_network_less_like_the_original_are_refused(pruned):
    images, labels = digits()
    faint = TensorDataset(images[:64] * 0.02, labels[:64])  # as good as no picture: all that varies is magnified
    seen = job(calibration=faint)
    before = seen.evaluated(seen.loaded.module, "")
    untouched = PruningPlan(
        model="", rule={}, criterion="", groups=(), macs_before=1, macs_after=1
    )  # of a network that is already as it was
    settled = repair(seen, seen.loaded.module, untouched)
    assert (settled.model, settled.statistics) == (seen.loaded.module, "kept")
    model = settled.model
    kept = Shrunk(model=model, plan=untouched, bare=model, settled=model, cut=model, repaired=settled)
    left = left_after_removal(seen, kept, before)
    assert left["statistics"] == "kept"
    assert left["accuracy_recalibrated"] == left["accuracy"] == before.accuracy


def test_where_images_stand_in_statistics_are_corrected_for_what_removal_changed(pruned):
    plan, bare = pruned
    seen = job(source=STAND_IN)
    settled = repair(seen, bare, plan)
    assert settled.statistics == "matched"
    assert not same(settled.model, bare)
    whole = evaluate(seen.loaded.module, seen.passes.evaluation)
    likeness = [agreement(whole, evaluate(model, seen.passes.evaluation)) for model in (bare, settled.model)]
    assert likeness[1] > likeness[0] + 0.05


def test_without_batchnorm_there_is_nothing_to_set(pruned):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    assert repair(job(), model, pruned[0]) == Repaired(
        model=model, reconstructed=model, settled=model, statistics="kept"
    )


def test_layers_are_refitted_where_that_does_good(pruned):
    plan, bare = pruned
    seen = job(refits=True)
    repaired = repair(seen, bare, plan)
    assert repaired.refits
    assert repaired.left == ""
    assert seen.likeness(repaired.model) > seen.likeness(repaired.settled) + 0.05
    before = seen.evaluated(seen.model, "")
    made = Shrunk(
        model=repaired.model, plan=plan, bare=bare, settled=repaired.settled, cut=repaired.model, repaired=repaired
    )
    left = left_after_removal(seen, made, before)
    assert left["accuracy_repaired"] > left["accuracy_recalibrated"] > left["accuracy"]
    assert len(left["refitted"]) == len(repaired.refits)


def test_a_reconstruction_that_makes_a_network_less_like_the_original_is_refused(pruned, monkeypatch):
    def spoilt(model, *_, **__):
        worse = copy.deepcopy(model)
        with torch.no_grad():
            worse[-1].weight.neg_()
        layers = (Refit(layer="8", before=1.0, after=0.5, ridge=1.0),)
        return Reconstruction(model=worse, layers=layers, samples=9)

    monkeypatch.setattr("topocompress.workflows.repair.reconstruct", spoilt)
    plan, bare = pruned
    repaired = repair(job(refits=True), bare, plan)
    assert repaired.model is repaired.settled
    assert repaired.refits == ()
    assert "less like the original on samples held out" in repaired.left


def test_a_network_whose_way_depends_on_the_samples_is_left_and_says_so(pruned, monkeypatch):
    def refuse(*_, **__):
        raise ModelError("which layers run depends on the samples")

    monkeypatch.setattr("topocompress.workflows.repair.reconstruct", refuse)
    plan, bare = pruned
    repaired = repair(job(refits=True), bare, plan)
    assert repaired.model is repaired.settled
    assert repaired.left == "which layers run depends on the samples"


def test_blocks_are_distilled_where_that_does_good(pruned):
    plan, bare = pruned
    seen = job(refits=True)
    asked = replace(seen, recovery=Recovery(distill_blocks=3))
    repaired = repair(asked, bare, plan)
    assert repaired.model is not repaired.reconstructed
    assert repaired.undistilled == ""
    made = Shrunk(
        model=repaired.model, plan=plan, bare=bare, settled=repaired.settled, cut=repaired.model, repaired=repaired
    )
    left = left_after_removal(asked, made, asked.evaluated(asked.model, ""))
    assert left["distilled_epochs"] == 3
    assert left["agreement_distilled"] >= left["agreement_repaired"] - 0.02


def test_blocks_that_make_a_network_less_like_the_original_are_refused(pruned, monkeypatch):
    def spoilt(model, *_, **__):
        worse = copy.deepcopy(model)
        with torch.no_grad():
            worse[-1].weight.neg_()
        return worse

    monkeypatch.setattr("topocompress.workflows.repair.distill_blocks", spoilt)
    plan, bare = pruned
    repaired = repair(replace(job(), recovery=Recovery(distill_blocks=3)), bare, plan)
    assert repaired.model is repaired.reconstructed
    assert "less like the original's on samples held out" in repaired.undistilled


def test_a_run_that_continues_another_takes_over_what_it_has_repaired(pruned, monkeypatch, tmp_path):
    plan, bare = pruned
    recovery = Recovery(distill_blocks=2)
    first = repair(replace(job(), recovery=recovery, cache=tmp_path), bare, plan)

    def again(*_, **__):
        raise AssertionError("taken again")

    for step in ("reconstruct", "distill_blocks"):
        monkeypatch.setattr(f"topocompress.workflows.repair.{step}", again)
    second = replace(job(), recovery=recovery, cache=tmp_path, resume=True)
    found = repair(second, bare, plan)
    for name, value in first.model.state_dict().items():
        assert torch.equal(found.model.state_dict()[name], value)
    assert found.refits == first.refits
    assert found.samples == first.samples
    second.forget_checkpoints()
    assert not list(tmp_path.rglob("*.safetensors"))
    with pytest.raises(AssertionError, match="taken again"):
        repair(replace(second, resume=False), bare, plan)
