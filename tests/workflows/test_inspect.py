"""One filter looked at closely: hand-made clouds, agreement with the engine, and what is refused."""

import itertools
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.filters import Filters, samples_of, seen
from tests.helpers.shapes import circle
from topocompress import inspect_filter
from topocompress.criteria import Betti
from topocompress.network.capture import Maps
from topocompress.scoring.dispatch import score_layers
from topocompress.topology import Scale, betti_numbers, neighbourhood_graph, pairwise_distances, unpack

TWO_CLUSTERS = np.concatenate([circle(6, 0.1), circle(8, 0.1) + np.array([5, 5])])


def engine_graph(points, scale):
    """The ε-graph by which the criterion judges the cloud."""
    graph = unpack(neighbourhood_graph(points.astype(np.float32), Scale.parse(scale)).rows)
    np.fill_diagonal(graph, False)
    return graph


# --- worked out by hand ---


def test_a_circle_has_one_long_loop():
    view = seen(circle(12), scale="absolute:0.6")

    side, last = 2 * np.sin(np.pi / 12), 3**0.5  # every fourth point: their triangle spans the circle
    assert (view.layer, view.filter, view.samples, view.scale, view.unit) == (
        "body.0",
        0,
        12,
        "absolute:0.6",
        "distance",
    )
    assert view.betti == {0: 1, 1: 1}
    np.testing.assert_allclose(view.diagrams[0], [[0, side]] * 11 + [[0, np.inf]], rtol=1e-6)
    np.testing.assert_allclose(view.diagrams[1], [[side, last]], rtol=1e-6)
    assert view.longest(1) == tuple(view.diagrams[1][0])
    np.testing.assert_allclose(view.grid, [0, side, 0.6, last], rtol=1e-6)
    assert view.curves[0].tolist() == [12, 1, 1, 1]
    assert view.curves[1].tolist() == [0, 1, 1, 0]
    assert sorted(map(tuple, view.edges.tolist())) == sorted([(i, i + 1) for i in range(11)] + [(0, 11)])
    np.testing.assert_allclose(view.mean_distance, 2 * np.sin(np.pi * np.arange(1, 12) / 12).mean(), rtol=1e-6)
    np.testing.assert_allclose(view.explained, [0.5, 0.5], rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(view.view, axis=1), 1, rtol=1e-6)
    assert not view.dead


def test_two_clusters_are_two_until_they_meet():
    view = seen(TWO_CLUSTERS, scale="absolute:0.3", dimensions=(0,))

    assert view.betti == {0: 2}
    assert list(view.diagrams) == list(view.curves) == [0]
    birth, death = view.longest(0)
    assert birth == 0
    assert death == pytest.approx(50**0.5, abs=0.21)
    assert view.explained[0] > 0.99
    assert len(set(np.sign(view.view[:6, 0]))) == len(set(np.sign(view.view[6:, 0]))) == 1


def test_a_filter_that_never_fires_is_dead_and_one_point():
    view = seen(circle(12), Filters([1.0, 1.0], [1.0, -1.5], relu=True), filter_index=1)

    assert view.dead
    assert view.epsilon == view.mean_distance == 0
    assert view.betti == {0: 1, 1: 0}
    assert view.longest(1) is None
    assert view.explained == (0.0, 0.0)
    assert not view.view.any()


def test_a_map_of_one_pixel_is_a_line():
    view = seen(np.array([[0.0], [1.0], [3.0]]), scale="absolute:1")

    assert view.betti == {0: 2, 1: 0}
    assert view.explained == (1.0, 0.0)
    np.testing.assert_allclose(view.view, [[-4 / 3, 0], [-1 / 3, 0], [5 / 3, 0]], atol=1e-6)


def test_hops_join_what_the_neighbour_graph_joins():
    view = seen(TWO_CLUSTERS, scale="knn:2,2")

    assert view.unit == "hops"
    assert view.epsilon == 2
    assert view.betti[0] == 2
    assert np.isinf(view.diagrams[0][:, 1]).sum() == 2  # no path joins them
    assert set(view.diagrams[0][:-2, 1]) == {1.0}
    assert tuple(view.betti.values()) == betti_numbers(engine_graph(TWO_CLUSTERS, "knn:2,2"))


def test_hops_beyond_the_longest_path_join_no_more():
    view = seen(TWO_CLUSTERS, scale="knn:2,99")

    assert view.betti == {0: 2, 1: 0}
    assert len(view.edges) == 6 * 5 // 2 + 8 * 7 // 2


def test_a_linear_layer_has_filters_too():
    view = seen(circle(12), layer="head", filter_index=1)

    assert view.samples == 12
    assert view.explained[1] == 0


@pytest.mark.parametrize("epsilon", ["1e30", "3e38"])
def test_an_epsilon_at_the_end_of_float32_joins_everything(epsilon):
    assert seen(circle(5), scale=f"absolute:{epsilon}").betti == {0: 1, 1: 0}


# --- agreement ---


@st.composite
def clouds(draw):
    """Random points, on a lattice too, where many distances are equal and some are 0."""
    samples, features = draw(st.integers(2, 14)), draw(st.integers(1, 3))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if draw(st.booleans()):
        return generator.integers(0, 3, (samples, features)).astype(float)
    return generator.standard_normal((samples, features))


SCALES = ["quantile:0.2", "quantile:0.77", "relative:0.6", "absolute:1", "absolute:0.7", "absolute:1e-9", "knn:1,2"]


@settings(max_examples=60)
@given(clouds(), st.sampled_from(SCALES), st.sampled_from([(0,), (1,), (0, 1), (0, 1, 2)]))
def test_the_numbers_at_epsilon_are_those_of_the_engine(points, scale, dimensions):
    view = seen(points, scale=scale, dimensions=dimensions)

    graph = engine_graph(points, scale)
    assert tuple(view.betti.values()) == betti_numbers(graph, dimensions)
    assert tuple(view.betti) == dimensions
    assert view.edges.tolist() == np.argwhere(np.triu(graph)).tolist()


@settings(max_examples=15)
@given(clouds())
def test_the_curves_are_right_everywhere(points):
    view = seen(points, scale="quantile:0.3")

    distances = pairwise_distances(points)
    for place, (low, high) in enumerate(itertools.pairwise(view.grid)):
        if high - low < 1e-5:  # rounding
            continue
        graph = distances <= (low + high) / 2
        np.fill_diagonal(graph, False)
        assert (view.curves[0][place], view.curves[1][place]) == betti_numbers(graph)


@pytest.mark.parametrize("memory", [1 << 20, 1])
@pytest.mark.parametrize("scale", ["layer:0.5", "quantile:0.18"])
def test_every_filter_is_seen_as_the_criterion_sees_it(scale, memory):
    model = Filters([1.0, 0.0, -2.0, 1e-9], [0.0, 0.0, 0.0, 5.0])
    scores = score_layers(model, ["body.0"], Betti(scale=scale), samples_of(circle(12))).layers["body.0"]

    for index in range(4):
        view = seen(circle(12), model, filter_index=index, scale=scale, memory=memory)
        assert view.betti == {0: scores.parts["beta0"][index], 1: scores.parts["beta1"][index]}
        assert view.dead == scores.dead[index]


@pytest.mark.parametrize("maps", [Maps(size=1), Maps(sketch=3)], ids=["size", "sketch"])
def test_reduced_maps_are_reduced_as_for_the_criterion(maps):
    points = np.random.default_rng(0).standard_normal((15, 5))
    scores = score_layers(Filters(), ["body.0"], Betti(scale="quantile:0.2"), samples_of(points), maps=maps)
    view = seen(points, scale="quantile:0.2", maps=maps)

    assert view.betti == {0: scores.layers["body.0"].parts["beta0"][0], 1: scores.layers["body.0"].parts["beta1"][0]}
    assert view.maps == maps.settings()
    assert view.mean_distance != seen(points, scale="quantile:0.2").mean_distance


@pytest.mark.parametrize("shape", [(40, 3), (20, 50)])
def test_the_view_is_the_first_two_principal_components(shape):
    points = np.random.default_rng(0).standard_normal(shape) * np.linspace(1, 3, shape[1])

    view = seen(points, maps=Maps())

    centred = points - points.mean(axis=0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(view.explained, (sizes**2 / (sizes**2).sum())[:2], rtol=1e-5)
    np.testing.assert_allclose(np.abs(view.view), np.abs(left * sizes)[:, :2], atol=1e-4)
    assert (view.view.max(axis=0) == np.abs(view.view).max(axis=0)).all()


# --- labels, progress, traces ---


def test_labels_are_known_only_if_all_are():
    assert seen(circle(4), labels=[2, 0, 1, 2]).labels.tolist() == [2, 0, 1, 2]
    assert seen(circle(4), labels=[2, 0, -1, 2]).labels is None
    assert seen(circle(4), labels=torch.zeros(4, 3, 3)).labels is None


def test_progress_ends_at_its_total():
    steps = {}
    seen(
        circle(12), Filters([1.0, 2.0]), scale="layer:1", memory=1, progress=lambda *step: steps.update({step[0]: step})
    )

    assert steps == {
        "running samples": ("running samples", 24, 24),
        "computing persistence": ("computing persistence", 1, 1),
    }


def test_the_model_and_the_random_states_are_left_alone():
    model = Filters()
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    batches = samples_of(circle(12))
    states = torch.get_rng_state(), random.getstate()

    inspect_filter(model, batches, layer="body.0", filter_index=0)

    assert model.training
    assert not any(module._forward_hooks for module in model.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
