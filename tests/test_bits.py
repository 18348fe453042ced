"""Rows of bits against bool matrices, in graphs of one and of several words."""

import numpy as np
import pytest
from hypothesis import given
from oracles import few, graphs, random_graph
from shapes import complete, cycle

from topocompress.topology import pack, unpack
from topocompress.topology.bits import all_set, clear_bit, has_bit, lowest, members, ones, set_bit, submatrix

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

    assert members(row).tolist() == list(range(vertices))
    assert sum(int(word).bit_count() for word in row) == vertices


def test_bits_are_set_and_cleared_one_at_a_time():
    row = np.zeros(3, dtype=np.uint64)
    for place in (0, 63, 64, 130, 191):
        assert not has_bit(row, place)
        set_bit(row, place)
        assert has_bit(row, place)
    assert members(row).tolist() == [0, 63, 64, 130, 191]

    clear_bit(row, 64)
    clear_bit(row, 64)

    assert members(row).tolist() == [0, 63, 130, 191]
    assert row.tolist() == [1 | 1 << 63, 0, 1 << 2 | 1 << 63]


@few()
@given(graphs(18))
def test_a_submatrix_keeps_the_edges_of_its_vertices(graph):
    some = np.arange(len(graph))[:: 2 if len(graph) > 3 else 1]

    assert np.array_equal(submatrix(pack(graph), some), graph[np.ix_(some, some)])


def test_a_submatrix_over_several_words():
    graph = random_graph(150, 0.5, seed=3)
    some = np.array([149, 0, 64, 63, 128])

    assert np.array_equal(submatrix(pack(graph), some), graph[np.ix_(some, some)])
    assert submatrix(pack(cycle(70)), np.array([69, 0])).tolist() == [[False, True], [True, False]]


def test_words_are_counted_and_their_lowest_bit_found():
    from numba import njit

    @njit
    def both(words):
        return [(lowest(word), ones(word)) for word in words]

    words = [1, 2, 1 << 63, (1 << 64) - 1, 0b101000]
    expected = [(0, 1), (1, 1), (63, 1), (0, 64), (3, 2)]
    assert both(np.array(words, dtype=np.uint64)) == expected
