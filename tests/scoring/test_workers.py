import numpy as np
import pytest

from tests.helpers.cloud_criteria import Spread, Writing
from tests.helpers.shapes import circle
from topocompress.criteria import Betti, CloudCriterion
from topocompress.scoring.workers import first_looks, score_filters
from topocompress.topology import mean_distance


class Recording(CloudCriterion):
    """Keeps what it is given (higher: keep)."""

    name, higher = "recording", "keep"

    def score(self, clouds, *, layer_spread=None, device="cpu"):
        self.given = type(clouds), clouds.shape, clouds.flags.writeable, layer_spread, device
        return np.arange(len(clouds), dtype=np.float32)


def clouds(filters: int = 3) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((filters, 12, 4)).astype(np.float32)


def test_a_criterion_gets_plain_read_only_arrays_and_what_it_needs():
    criterion = Recording()
    memory = clouds().view(np.memmap)

    scores, dead = score_filters(criterion, memory, 2.5, "cpu")

    assert criterion.given == (np.ndarray, (3, 12, 4), False, 2.5, "cpu")
    assert scores.tolist() == [0, 1, 2]
    assert scores.dtype == np.float64
    assert dead.tolist() == [False] * 3
    assert memory.flags.writeable


def test_scores_may_have_parts():
    points = np.stack([circle(12), np.ones((12, 2))]).astype(np.float32)

    scores, dead = score_filters(Betti(scale="absolute:0.6"), points, None, "cpu")

    assert scores.tolist() == [[1, 1], [1, 0]]
    assert dead.tolist() == [False, True]


@pytest.mark.parametrize(
    ("values", "dead"),
    [
        ([[0.0, 0.0], [0.0, 0.0]], True),
        ([[5.0, -7.0], [5.0, -7.0]], True),
        ([[1.0, 1.0], [1.0, 1.0 + 9e-7]], True),
        ([[1.0, 1.0], [1.0, 1.0 + 2e-6]], False),
        ([[1e-9, 0.0], [0.0, 0.0]], False),
        ([[1e6, 0.0], [1e6, 0.5]], True),  # half a millionth of the largest
        ([[-1e6, 0.0], [-1e6, 2.0]], False),
        ([[3.0, 1.0]], True),
    ],
)
def test_a_filter_is_dead_when_its_maps_are_the_same_up_to_rounding(values, dead):
    cloud = np.array([values], dtype=np.float32)

    assert score_filters(Recording(), cloud, None, "cpu")[1].tolist() == [dead]


def test_a_change_in_any_place_is_seen():
    for sample in range(1, 6):
        for feature in range(3):
            cloud = np.ones((1, 6, 3), dtype=np.float32)
            cloud[0, sample, feature] = -1
            assert score_filters(Recording(), cloud, None, "cpu")[1].tolist() == [False]


def test_the_first_look_is_the_mean_distance_unless_a_criterion_says_otherwise():
    points = clouds(4)

    found = first_looks(Spread(), points, "cpu")

    assert found.tolist() == [mean_distance(cloud) for cloud in points]
    assert found.tolist() == score_filters(Spread(), points, None, "cpu")[0].tolist()
    assert Writing.name == Spread.name
