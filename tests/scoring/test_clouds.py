"""Scores do not depend on workers or memory, nobody is left behind, and the budget holds."""

import gc
import os

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.helpers.children import descriptors, workers_left
from tests.helpers.cloud_criteria import Failing, Spread, Where, Writing
from tests.helpers.oracles import few
from tests.helpers.scoring_nets import FEATURES, FILTERS, LAYERS, network, noise, plain
from topocompress.criteria import Betti
from topocompress.network.capture import plan_passes
from topocompress.runtime.parallel import workers
from topocompress.runtime.resources import Resources
from topocompress.scoring import clouds
from topocompress.scoring.dispatch import score_layers

MUCH = 64 << 30  # enough for any number of processes; a plan, not an allocation


@pytest.fixture(autouse=True)
def nobody_left():
    yield
    assert workers_left() == []


@pytest.fixture
def small_tasks(monkeypatch):
    """One filter a task, so that every worker gets some."""
    monkeypatch.setattr(clouds, "_MOST_FILTERS", 1)


def scored(criterion, model=None, **resources):
    return score_layers(model or network(), LAYERS, criterion, noise(), resources=Resources(**resources))


# --- the same scores ---


@pytest.mark.parametrize(("count", "scale"), [(2, "layer:0.6"), (3, "quantile:0.3")])
def test_scores_do_not_depend_on_the_number_of_processes(count, scale, small_tasks):
    criterion = Betti(scale=scale, dimensions=(0, 1, 2))
    expected = scored(criterion, workers=1)

    found = scored(criterion, workers=count, memory=MUCH)

    assert found.run["workers"] == count
    assert plain(found) == plain(expected)


def test_scores_do_not_depend_on_threads_instead_of_processes(small_tasks, monkeypatch):
    expected = scored(Betti(scale="layer:0.6"), workers=1)
    kinds = []

    def in_threads(count, *, cluster, threads):
        kinds.append(threads)
        return workers(count, cluster=cluster, threads=True)

    monkeypatch.setattr(clouds, "workers", in_threads)

    assert plain(scored(Betti(scale="layer:0.6"), workers=3, memory=MUCH)) == plain(expected)
    assert kinds == [False]


def test_filters_are_scored_in_other_processes(small_tasks):
    places = {place for layer in scored(Where(), workers=2, memory=MUCH).layers.values() for place in layer.values}
    assert os.getpid() not in places
    assert 1 <= len(places) <= 2

    alone = {place for layer in scored(Where(), workers=1).layers.values() for place in layer.values}
    assert alone == {os.getpid()}


@pytest.mark.parametrize(("filters", "count"), [(1, 1), (2, 1), (5, 1), (2, 2)])
def test_scores_do_not_depend_on_the_budget(filters, count, monkeypatch):
    expected = scored(Betti(), workers=1)
    monkeypatch.setattr(clouds, "_share", lambda *_: (count, filters * 4 * 20 * 25))

    found = scored(Betti(), workers=count)

    assert plain(found) == plain(expected)
    assert found.run["passes"] > 1
    assert found.run["peak_cloud_bytes"] <= filters * 4 * 20 * 25


# --- nothing is left behind ---


@pytest.mark.parametrize("count", [1, 2])
def test_an_error_in_a_criterion_comes_through_and_leaves_no_worker(count, small_tasks):
    with pytest.raises(ZeroDivisionError, match="9 features"):
        scored(Failing(9), workers=count, memory=MUCH)

    assert workers_left() == []


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("step", ["running samples", "scoring filters"])
def test_an_interruption_leaves_no_worker_and_no_trace(step, count, small_tasks):
    model = network().train()
    modes, hooks = [m.training for m in model.modules()], [len(m._forward_hooks) for m in model.modules()]
    random_state = torch.get_rng_state()

    def interrupt(current, done, total):
        if current == step and done > 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score_layers(
            model,
            LAYERS,
            Betti(),
            noise(),
            resources=Resources(workers=count, memory=MUCH),
            progress=interrupt,
        )

    assert workers_left() == []
    assert [m.training for m in model.modules()] == modes
    assert [len(m._forward_hooks) for m in model.modules()] == hooks
    assert torch.equal(torch.get_rng_state(), random_state)


@pytest.mark.parametrize("count", [1, 2])
def test_a_run_leaves_the_model_as_it_was(count, small_tasks):
    model = network().train()
    model[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random_state = torch.get_rng_state()

    scored(Betti(scale="layer:0.6"), model, workers=count, memory=MUCH)

    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [module.training for module in model] == [True, False, *[True] * 6]
    assert not any(module._forward_hooks for module in model.modules())
    assert torch.equal(torch.get_rng_state(), random_state)


@pytest.mark.parametrize("count", [1, 2])
def test_a_criterion_cannot_write_into_shared_clouds(count, small_tasks):
    if count == 2:
        with pytest.raises(ValueError, match="read-only"):
            scored(Writing(), workers=2, memory=MUCH)
        return

    class Careless(Spread):
        def score(self, clouds, *, layer_spread=None, device="cpu"):
            clouds[0] = 0
            return np.zeros(len(clouds))

    with pytest.raises(ValueError, match="read-only"):
        scored(Careless(), workers=1)


def test_clouds_are_given_back_after_every_run(small_tasks):
    counts = []
    for _ in range(2):
        scored(Spread(), workers=2, memory=MUCH)
        gc.collect()
        counts.append(descriptors())

    assert counts[0] == counts[1]


# --- what is run, and what it holds ---


def test_a_pass_goes_no_further_than_its_last_layer(monkeypatch):
    runs = dict.fromkeys(LAYERS, 0)
    model = network()

    def count(name):
        def hook(*_):
            runs[name] += 1

        return hook

    for name in LAYERS:
        model.get_submodule(name).register_forward_hook(count(name))
    whole = 4 * 20 * sum(FILTERS[name] * FEATURES[name] for name in LAYERS[:1])
    monkeypatch.setattr(clouds, "_share", lambda *_: (1, whole))

    scores = score_layers(model, LAYERS, Betti(scale="quantile:0.2"), noise())

    assert scores.run["passes"] == 2  # the first layer alone, then the others
    batches = len(noise())
    tried = 3  # for the sizes of the maps, and for how images may lie in memory, which takes two
    assert runs == {"0": tried + 2 * batches, "3": tried + batches, "5": tried + batches}


@few(60)
@given(
    st.lists(st.tuples(st.integers(1, 30), st.integers(1, 60)), min_size=1, max_size=5),
    st.integers(2, 40),
    st.integers(1, 200_000),
    st.integers(1, 4),
)
def test_what_is_planned_fits_the_budget(layers, samples, memory, count):
    shapes = {f"layer{place}": shape for place, shape in enumerate(layers)}

    given, budget = clouds._share(shapes, samples, Resources(memory=memory, workers=count), "cpu")

    assert 1 <= given <= count
    assert 1 <= budget <= memory
    for slices in plan_passes(shapes, samples, budget):
        held = sum(4 * samples * part.features * (part.stop - part.start) for part in slices)
        assert held <= budget or (len(slices) == 1 and slices[0].stop - slices[0].start == 1)


def test_clouds_and_processes_share_the_memory():
    shapes, process = {"a": (100, 1000)}, clouds._PROCESS_BYTES

    def share(memory, count, device="cpu", **options):
        return clouds._share(shapes, 100, Resources(memory=memory, workers=count, **options), device)

    assert share(100 * process, 4) == (4, 96 * process - 4 * 160_000)
    assert share(5 * process, 4)[0] == 2  # processes take no more than half
    assert share(process, 4)[0] == 1
    assert share(1, 4) == (1, 1)
    assert share(100 * process, 1) == (1, 100 * process - 160_000)
    assert share(process, 4, "cuda:0") == (4, process - 4 * 160_000)  # threads need no memory of their own
    assert share(process, 4, cluster="tcp://host:1") == (4, process)  # nor do machines elsewhere


def test_little_work_is_done_here_and_much_by_all_cores(monkeypatch):
    monkeypatch.setattr(clouds, "cores", lambda: 7)

    assert clouds._share({"a": (4, 25)}, 20, Resources(memory=MUCH), "cpu")[0] == 1
    assert clouds._share({"a": (512, 3000)}, 1000, Resources(memory=MUCH), "cpu")[0] == 7


def test_nothing_to_score():
    scores = score_layers(nn.Sequential(nn.Conv2d(2, 3, 3)), [], Betti(), noise())

    assert scores.layers == {}
    assert scores.run["passes"] == scores.run["peak_cloud_bytes"] == 0
