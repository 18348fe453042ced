"""How finely a cloud must be looked at to fall into so many pieces: by hand, and against the graph itself."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topocompress.criteria import Betti
from topocompress.topology import Scale, betti_numbers, mean_distance, neighbourhood_graph
from topocompress.topology.components import as_quantile, first_look, of_layer

HALF = Scale("components", (0.5,))


def line(*places):
    return np.array(places, dtype=np.float32)[:, None]


def test_four_points_on_a_line_fall_into_two_pairs_at_a_third_of_the_distances():
    """Distances 1, 1, 9, 10, 10, 11: within 1 lie two of six, and two pieces are left."""
    assert first_look(line(0, 1, 10, 11), HALF) == pytest.approx(2 / 6)
    assert first_look(line(0, 1, 10, 11), Scale("components", (0.25,))) == pytest.approx(3 / 6)


def test_samples_that_coincide_are_one_piece_already():
    assert math.isnan(first_look(line(3, 3, 3), HALF))
    assert math.isnan(first_look(line(3), HALF))
    assert first_look(line(0, 0, 0, 5), HALF) == pytest.approx(3 / 6)


@given(st.integers(0, 2**32 - 1), st.integers(4, 40), st.sampled_from([0.1, 0.2, 0.5, 0.9]))
@settings(max_examples=40)
def test_at_that_quantile_so_many_pieces_are_left_and_below_it_more(seed, samples, share):
    cloud = np.random.default_rng(seed).standard_normal((samples, 3)).astype(np.float32)
    scale, pairs = Scale("components", (share,)), samples * (samples - 1) // 2

    found = first_look(cloud, scale)

    def pieces(quantile):
        return betti_numbers(neighbourhood_graph(cloud, Scale("quantile", (quantile,))).rows, (0,))[0]

    most = max(1, round(share * samples))
    assert pieces(min(found, 1 - 1e-9)) <= max(most, 1)
    if found > 1 / pairs:
        assert pieces(found - 0.5 / pairs) <= pieces(found - 1 / pairs)
        assert pieces(found - 1 / pairs) >= most


def test_a_layer_takes_its_median_and_clouds_that_are_points_do_not_count():
    assert of_layer(HALF, [0.1, math.nan, 0.3, 0.2004]) == 0.2
    assert of_layer(HALF, [math.nan]) == 0.2
    assert of_layer(Scale("layer", (1.0,)), [1.0, 2.0]) == 1.5
    assert as_quantile(HALF, 0.3) == Scale("quantile", (0.3,))
    assert first_look(line(0, 1, 5), Scale("layer", (1.0,))) == pytest.approx(mean_distance(line(0, 1, 5)))


def test_the_median_filter_of_a_layer_has_the_share_whatever_the_clouds_are_like():
    """Clouds in 1 to 40 dimensions, in which distances are spread quite differently."""
    generator = np.random.default_rng(0)
    criterion = Betti(scale="components:0.2", dimensions=0)
    for features in (1, 5, 40):
        clouds = generator.standard_normal((9, 100, features)).astype(np.float32)
        layer = criterion.spread_of(criterion.first_look(clouds))

        numbers = criterion.score(clouds, layer_spread=layer)[:, 0]

        assert np.median(numbers) == pytest.approx(20, abs=2)
        assert criterion.scale_taken(layer) == f"quantile:{layer:g}"
        assert criterion.score(clouds, layer_spread=layer).tolist() == (
            Betti(scale=f"quantile:{layer!r}", dimensions=0).score(clouds).tolist()
        )
