"""Rows of bits against bool matrices, in graphs of one and of several words."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.oracles import few, graphs, random_graph
from tests.helpers.shapes import complete
from topocompress.topology import pack, unpack
from topocompress.topology.bits import all_set, clear_bit, count_edges, has_bit, highest, induced, lowest, ones, set_bit

SIZES = (1, 2, 63, 64, 65, 127, 128, 129, 200)


@pytest.mark.parametrize("vertices", SIZES)
def test_bit_j_of_row_i_says_whether_they_are_joined(vertices):
    graph = random_graph(vertices, 0.4, seed=vertices)

    rows = pack(graph)

    assert rows.shape == (vertices, -(-vertices // 64))
    assert rows.dtype == np.uint64
    for i in range(vertices):
        value = sum(int(word) << (64 * place) for place, word in enumerate(rows[i]))
        assert value == sum(1 << j for j in range(vertices) if graph[i, j])


@few()
@given(graphs(20))
def test_unpacking_gives_back_what_was_packed(graph):
    assert np.array_equal(unpack(pack(graph)), graph)


@pytest.mark.parametrize("vertices", [0, *SIZES])
def test_any_size_comes_back(vertices):
    graph = random_graph(vertices, 0.5, seed=1)

    assert np.array_equal(unpack(pack(graph)), graph)


@pytest.mark.parametrize("vertices", [1, 5, 64, 100])
def test_the_diagonal_is_left_out_and_the_matrix_left_alone(vertices):
    full = np.ones((vertices, vertices), dtype=bool)

    assert np.array_equal(unpack(pack(full)), complete(vertices))
    assert full.all()


@pytest.mark.parametrize("vertices", SIZES)
def test_all_vertices_are_set_and_none_beyond(vertices):
    row = all_set(vertices)

    assert places(row) == list(range(vertices))
    assert sum(int(word).bit_count() for word in row) == vertices


def test_bits_are_set_and_cleared_one_at_a_time():
    row = np.zeros(3, dtype=np.uint64)
    for place in (0, 63, 64, 130, 191):
        assert not has_bit(row, place)
        set_bit(row, place)
        assert has_bit(row, place)
    assert places(row) == [0, 63, 64, 130, 191]

    clear_bit(row, 64)
    clear_bit(row, 64)

    assert places(row) == [0, 63, 130, 191]
    assert row.tolist() == [1 | 1 << 63, 0, 1 << 2 | 1 << 63]


@few()
@given(graphs(18), st.randoms(use_true_random=False))
def test_an_induced_graph_keeps_the_edges_of_its_vertices_in_any_order(graph, random):
    some = np.array(random.sample(range(len(graph)), random.randint(0, len(graph))), dtype=np.int64)

    assert np.array_equal(unpack(induced(pack(graph), some)), graph[np.ix_(some, some)])


def test_an_induced_graph_over_several_words():
    graph = random_graph(150, 0.5, seed=3)
    some = np.array([149, 0, 64, 63, 128])

    assert np.array_equal(unpack(induced(pack(graph), some)), graph[np.ix_(some, some)])
    backwards = np.arange(149, -1, -1)
    assert np.array_equal(unpack(induced(pack(graph), backwards)), graph[::-1, ::-1])


@few()
@given(graphs(18))
def test_edges_are_counted_once(graph):
    assert count_edges(pack(graph)) == np.triu(graph, 1).sum()


def places(row: np.ndarray) -> list[int]:
    return [place for place in range(64 * len(row)) if int(row[place >> 6]) >> (place & 63) & 1]


def test_words_are_counted_and_their_outermost_bits_found():
    from numba import njit

    @njit
    def all_three(words):
        return [(lowest(word), highest(word), ones(word)) for word in words]

    words = [1, 2, 1 << 63, (1 << 64) - 1, 0b101000]
    expected = [(0, 0, 1), (1, 1, 1), (63, 63, 1), (0, 63, 64), (3, 5, 2)]
    assert all_three(np.array(words, dtype=np.uint64)) == expected
