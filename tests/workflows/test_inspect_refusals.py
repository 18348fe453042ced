"""What cannot be inspected, and what the message says."""

import pytest
from torch import nn

from tests.helpers.filters import Filters, samples_of, seen
from tests.helpers.shapes import circle
from topocompress import inspect_filter
from topocompress.errors import DataError, ModelError, TopologyError


@pytest.mark.parametrize(
    ("options", "error", "what", "hint"),
    [
        ({"layer": "body.O"}, ModelError, "no layer 'body.O'", "Did you mean body.0?"),
        ({"layer": "zzz"}, ModelError, "no layer 'zzz'", "Its layers: body.0, unused, head."),
        ({"layer": "body"}, ModelError, "'body' is a Sequential", "Did you mean body.0?"),
        ({"layer": "body.2"}, ModelError, "'body.2' is a Dropout; only convolutions and linear layers", "body.0"),
        ({"layer": "unused"}, ModelError, "the forward pass does not run unused", ""),
        ({"filter_index": 1}, ModelError, "body.0 has no filter 1: it has 1 filters", "0..0"),
        ({"filter_index": -1}, ModelError, "body.0 has no filter -1", "0..0"),
        ({"dimensions": (0, 3)}, TopologyError, "dimensions", "0, 1 and 2"),
        ({"dimensions": ()}, TopologyError, "dimensions", "0, 1 and 2"),
        ({"scale": "quantil:0.2"}, TopologyError, "unknown scale", "quantile:Q"),
        ({"scale": "knn:12,2"}, TopologyError, "scale knn:12,2 needs more than 12 samples, got 12", "smaller k"),
    ],
)
def test_what_cannot_be_inspected_is_refused(options, error, what, hint):
    with pytest.raises(error, match=what) as caught:
        seen(circle(12), **options)
    assert hint in caught.value.hint


def test_the_layers_of_a_large_network_are_not_all_listed():
    model = nn.Sequential(*[nn.Conv2d(1, 1, 1) for _ in range(20)])
    with pytest.raises(ModelError) as caught:
        seen(circle(12), model, layer="nothing")
    assert caught.value.hint == "Its layers: 0, 1, 2, 3, 4, 5, 6, 7 and 12 more."
    with pytest.raises(ModelError) as caught:
        seen(circle(12), nn.Sequential(nn.ReLU()), layer="nothing")
    assert caught.value.hint == "It has no such layer at all."


def test_one_sample_is_refused():
    with pytest.raises(DataError, match="at least 2"):
        seen(circle(1))


def test_a_generator_is_refused():
    with pytest.raises(DataError, match="only once"):
        inspect_filter(Filters(), iter(samples_of(circle(12))), layer="body.0", filter_index=0)


def test_nan_in_the_maps_is_refused():
    with pytest.raises(ModelError, match=r"body\.0: NaN"):
        seen(circle(12), Filters([float("nan")]))
