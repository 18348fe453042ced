"""Engines of persistent homology: chosen by name or by what is installed, and of one opinion."""

import importlib.util
import itertools
import random

import gudhi
import numpy as np
import pytest

from tests.helpers.oracles import near_graph
from tests.helpers.shapes import circle, cycle, distances_of, octahedron
from topocompress.errors import TopologyError
from topocompress.topology import betti_numbers, choose_backend, persistence_diagrams

MODULES = {"giotto-ph": "gph", "ripser": "ripser"}
_find_spec = importlib.util.find_spec


def hide(monkeypatch, *backends: str) -> None:
    hidden = {MODULES[backend] for backend in backends}
    monkeypatch.setattr(
        "topocompress.topology.backends.importlib.util.find_spec",
        lambda name, *rest: None if name in hidden else _find_spec(name, *rest),
    )


@pytest.fixture(params=MODULES)
def backend(request) -> str:
    pytest.importorskip(MODULES[request.param])
    return request.param


# --- diagrams ---


def test_diagrams_of_a_square(backend):
    zeroth, first = persistence_diagrams(distances_of(circle(4)), backend=backend)

    side, diagonal = 2**0.5, 2.0
    np.testing.assert_allclose(zeroth, [[0, side]] * 3 + [[0, np.inf]], rtol=1e-6)
    np.testing.assert_allclose(first, [[side, diagonal]], rtol=1e-6)
    assert zeroth.dtype == first.dtype == np.float64


def test_a_bar_alive_at_the_threshold_is_infinite(backend):
    _, first = persistence_diagrams(distances_of(circle(4)), threshold=1.5, backend=backend)

    np.testing.assert_allclose(first, [[2**0.5, np.inf]], rtol=1e-6)


def test_a_dimension_without_bars_has_no_rows(backend):
    diagrams = persistence_diagrams(distances_of(circle(3)), 2, backend=backend)

    assert [diagram.shape for diagram in diagrams] == [(3, 2), (0, 2), (0, 2)]


@pytest.mark.parametrize("threshold", [np.inf, 1.3])
def test_all_backends_give_the_same_rows(threshold):
    pytest.importorskip("gph")
    points = np.random.default_rng(5).standard_normal((40, 3))
    distances = distances_of(points)

    found = {name: persistence_diagrams(distances, 2, threshold=threshold, backend=name) for name in MODULES}

    assert sum(map(len, found["ripser"])) > 45  # holes as well as components
    for one, other in zip(found["giotto-ph"], found["ripser"], strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=1e-6)
        assert all(tuple(row) <= tuple(following) for row, following in itertools.pairwise(one))


def test_gudhi_gives_the_same_bars(backend):
    distances = distances_of(np.random.default_rng(6).standard_normal((25, 3)))
    tree = gudhi.RipsComplex(distance_matrix=distances.astype(float)).create_simplex_tree(max_dimension=3)
    tree.compute_persistence(homology_coeff_field=2)

    for dimension, diagram in enumerate(persistence_diagrams(distances, 2, backend=backend)):
        expected = tree.persistence_intervals_in_dimension(dimension).reshape(-1, 2)
        order = np.lexsort((expected[:, 1], expected[:, 0]))
        np.testing.assert_allclose(diagram, expected[order], rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_distances_that_are_no_numbers_are_refused(bad):
    distances = distances_of(circle(5))
    distances[1, 2] = distances[2, 1] = bad

    with pytest.raises(TopologyError, match="finite"):
        persistence_diagrams(distances)


def test_random_states_stay(backend):
    python, numpy = random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002 - the state that must stay

    persistence_diagrams(distances_of(circle(4)), backend=backend)

    assert random.getstate() == python
    assert np.array_equal(np.random.get_state()[1], numpy)  # noqa: NPY002


# --- the choice ---


def test_the_first_that_is_installed_is_chosen(monkeypatch):
    pytest.importorskip("gph")
    assert choose_backend() == "giotto-ph"

    hide(monkeypatch, "giotto-ph")

    assert choose_backend() == "ripser"
    assert choose_backend("ripser") == "ripser"


def test_a_name_is_obeyed(backend):
    assert choose_backend(backend) == backend


def test_an_unknown_name_is_refused_with_the_names():
    with pytest.raises(TopologyError, match="unknown backend 'gudhi'") as caught:
        choose_backend("gudhi")
    assert caught.value.hint == "Choose among giotto-ph, ripser."


@pytest.mark.parametrize("name", MODULES)
def test_a_backend_that_is_not_installed_is_refused(name, monkeypatch):
    hide(monkeypatch, name)

    with pytest.raises(TopologyError, match=f"the backend {name} is not installed") as caught:
        persistence_diagrams(distances_of(circle(4)), backend=name)
    assert caught.value.hint == f"pip install {name}"


def test_without_a_backend_what_reduces_is_counted_and_the_rest_refused(monkeypatch):
    hide(monkeypatch, *MODULES)

    assert betti_numbers(octahedron(), (0,)) == (1,)
    assert betti_numbers(cycle(5)) == (1, 1)
    with pytest.raises(TopologyError, match="no persistent-homology backend") as caught:
        betti_numbers(octahedron(), (0, 1, 2))
    assert caught.value.hint == "pip install ripser"


def test_the_backend_asked_for_is_the_one_that_runs(monkeypatch):
    seen = []

    def run(name):
        def fake(distances, max_dimension, threshold):
            seen.append((name, len(distances), max_dimension, threshold))
            return [np.array([[0.0, np.inf]]), np.empty((0, 2)), np.array([[1.0, np.inf]])]

        return fake

    fakes = {name: (module, run(name)) for name, module in MODULES.items()}
    monkeypatch.setattr("topocompress.topology.backends._BACKENDS", fakes)

    for name in MODULES:
        assert betti_numbers(octahedron(), (0, 1, 2), backend=name) == (1, 0, 1)
    assert seen == [(name, 6, 2, 1.0) for name in MODULES]


@pytest.mark.parametrize("share", [0.05, 0.15, 0.3])
def test_betti_numbers_do_not_depend_on_the_backend(share):
    pytest.importorskip("gph")
    for seed in range(5):
        graph = near_graph(90, share, seed)
        assert betti_numbers(graph, (0, 1, 2), backend="giotto-ph") == betti_numbers(graph, (0, 1, 2), backend="ripser")
