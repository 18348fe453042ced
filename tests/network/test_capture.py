"""Captures under a memory budget, and what is refused."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchvision.models.resnet import BasicBlock

from tests.helpers.capturing import Net, captured, conv, images, seeded, split
from topocompress.errors import DataError, ModelError
from topocompress.network.capture import EXACT, Maps, Slice, collect_clouds, map_shapes, plan_passes
from topocompress.runtime.shared_arrays import LocalArray


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 50)), max_size=6),
    st.integers(2, 30),
    st.integers(0, 40_000),
)
def test_each_channel_is_in_one_pass_and_each_pass_within_the_budget(layers, samples, budget):
    shapes = {f"layer{index}": shape for index, shape in enumerate(layers)}

    passes = plan_passes(shapes, samples, budget)

    channels = [(part.layer, c) for slices in passes for part in slices for c in range(part.start, part.stop)]
    assert channels == [(layer, c) for layer, (count, _) in shapes.items() for c in range(count)]
    for slices in passes:
        assert all(part.features == shapes[part.layer][1] for part in slices)
        size = sum(4 * samples * part.features * (part.stop - part.start) for part in slices)
        alone = len(slices) == 1 and slices[0].stop - slices[0].start == 1
        assert slices
        assert size <= budget or alone


def test_no_pass_is_wasted():
    shapes = {"a": (3, 10), "b": (2, 5)}  # filters of 80 and 40 bytes with two samples

    assert [len(plan_passes(shapes, 2, budget)) for budget in (320, 319, 160, 80, 1)] == [1, 2, 2, 4, 5]


def collected(model: nn.Module, passes: list[list[Slice]], samples: torch.Tensor) -> dict[tuple[str, int], np.ndarray]:
    """(layer, channel) → (samples, features)."""
    return {
        (part.layer, part.start + offset): cloud
        for slices in passes
        for part, clouds in zip(
            slices,
            collect_clouds(model, slices, split(samples), len(samples)),
            strict=True,
        )
        for offset, cloud in enumerate(clouds)
    }


@pytest.mark.parametrize("budget", [1, 4 * 7 * 36, 4 * 7 * 36 * 2 + 1, 4 * 7 * 36 * 5])
def test_many_passes_give_what_one_gives(budget):
    model, x = seeded(lambda: BasicBlock(3, 3)), images(7)
    shapes = map_shapes(model, ["conv1", "conv2"], x[:1])
    (whole,) = plan_passes(shapes, 7, 1 << 20)

    passes = plan_passes(shapes, 7, budget)
    expected, found = collected(model, [whole], x), collected(model, passes, x)

    assert len(passes) > 1
    assert list(found) == list(expected) == [(layer, c) for layer in ("conv1", "conv2") for c in range(3)]
    assert all(np.array_equal(found[key], expected[key]) for key in expected)


@pytest.mark.parametrize("size", [1, 2, 5, 11])
def test_the_batch_size_does_not_matter(size):
    model, x = seeded(lambda: BasicBlock(3, 3)), images(11)

    maps = captured(model, ["conv1", "conv2"], x, size)

    for name, expected in captured(model, ["conv1", "conv2"], x, 4).items():
        torch.testing.assert_close(maps[name], expected, rtol=1e-5, atol=1e-6)


def test_clouds_are_filters_by_samples_by_features():
    model = seeded(lambda: Net(lambda n, x: n.conv(x), conv=conv()))
    part = Slice(layer="conv", start=1, stop=4, features=40)
    counted = []

    (clouds,) = collect_clouds(model, [part], split(images(7, 3, 5, 8)), 7, on_batch=counted.append)

    assert clouds.shape == (3, 7, 40)
    assert type(clouds) is np.ndarray
    assert clouds.dtype == np.float32
    assert counted == [3, 3, 1]


def test_clouds_are_kept_where_they_are_asked_to_be():
    places = []

    def allocate(shape):
        places.append(LocalArray(shape))
        return places[-1]

    part = Slice(layer="conv", start=0, stop=4, features=36)
    found = collect_clouds(plain(), [part, part], split(images(7)), 7, allocate=allocate)

    assert [id(cloud) for cloud in found] == [id(place.values) for place in places]
    assert np.isfinite(found).all()
    assert np.array_equal(found[0], found[1])


# --- smaller points ---


def test_maps_are_averaged_down_to_a_size():
    maps = images(2, 3, 6, 8)

    points = Maps(size=2).points(maps)

    assert points.shape == (2, 3, 2, 2)
    torch.testing.assert_close(points, F.avg_pool2d(maps, (3, 4)))


@pytest.mark.parametrize(
    ("shape", "points"),
    [((6, 8), (4, 4)), ((3, 9), (3, 4)), ((4, 4), (4, 4)), ((2, 2), (2, 2)), ((50,), (50,)), ((), ())],
)
def test_no_side_is_longer_than_the_size(shape, points):
    assert Maps(size=4).points(images(2, 3, *shape)).shape == (2, 3, *points)


@pytest.mark.parametrize("maps", [Maps(size=6), Maps(size=100), Maps(sketch=36), Maps(sketch=1000), EXACT])
def test_smaller_maps_stay_exact(maps):
    found = maps.points(images(4))

    assert torch.equal(found, images(4))


def test_sketches_have_their_size_after_averaging():
    assert Maps(sketch=7).points(images(2, 3, 20, 20)).shape == (2, 3, 7)
    assert Maps(size=4, sketch=7).points(images(2, 3, 20, 20)).shape == (2, 3, 7)
    assert torch.equal(Maps(size=4, sketch=16).points(images(2, 3, 20, 20)), Maps(size=4).points(images(2, 3, 20, 20)))


def test_a_sketch_is_the_same_for_every_batch_and_channel_and_draws_nothing():
    maps = images(6, 3, 9, 9)
    before = torch.get_rng_state()

    whole = Maps(sketch=5).points(maps)

    assert torch.equal(torch.get_rng_state(), before)
    torch.testing.assert_close(torch.cat([Maps(sketch=5).points(part) for part in maps.split(2)]), whole)
    torch.testing.assert_close(Maps(sketch=5).points(maps[:, 1:2]), whole[:, 1:2])
    same = maps[:1].expand(4, -1, -1, -1)
    torch.testing.assert_close(Maps(sketch=5).points(same), whole[:1].expand(4, -1, -1))


@pytest.mark.parametrize("sketch", [16, 64, 200])
def test_a_sketch_keeps_squared_distances_in_the_mean(sketch):
    maps = images(400, 1, 20, 20)
    ratios = []
    for first, second in zip(maps[::2], maps[1::2], strict=True):
        exact = (first - second).square().sum()
        found = Maps(sketch=sketch).points((first - second)[None]).square().sum()
        ratios.append(float(found / exact))

    error = math.sqrt(2 / sketch)
    assert np.mean(ratios) == pytest.approx(1, abs=5 * error / math.sqrt(len(ratios)))
    assert np.std(ratios) == pytest.approx(error, rel=0.3)


@pytest.mark.parametrize("maps", [Maps(size=3), Maps(sketch=5), Maps(size=4, sketch=5)])
def test_clouds_are_made_of_smaller_points(maps):
    model, x = plain(), images(7)
    shapes = map_shapes(model, ["conv"], x[:1], maps)
    part = Slice(layer="conv", start=1, stop=4, features=shapes["conv"][1])

    (cloud,) = collect_clouds(model, [part], split(x), 7, maps=maps)

    with torch.no_grad():
        expected = maps.points(model.conv(x).relu()).flatten(2)
    assert shapes == {"conv": (4, expected.shape[2])}
    assert expected.shape[2] < 36
    torch.testing.assert_close(torch.from_numpy(cloud), expected[:, 1:].transpose(0, 1), rtol=1e-5, atol=1e-5)


def test_maps_say_how_they_differ_from_exact_ones():
    assert EXACT.settings() == {}
    assert Maps(size=8).settings() == {"map_size": 8}
    assert Maps(size=8, sketch=256).settings() == {"map_size": 8, "sketch": 256}


@pytest.mark.parametrize("wrong", [{"size": 0}, {"sketch": 0}, {"sketch": -3}])
def test_a_size_below_1_is_refused(wrong):
    with pytest.raises(DataError, match=r"a (map size|sketch) of (0|-3)"):
        Maps(**wrong)


# --- refusals ---

PART = Slice(layer="conv", start=0, stop=4, features=36)


def plain(**parts: nn.Module) -> nn.Module:
    return seeded(lambda: Net(lambda n, x: n.conv(x).relu().mean(dim=(2, 3)), conv=conv(), **parts))


def collect(model: nn.Module, batches, samples: int):
    return collect_clouds(model, [PART], batches, samples)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_inputs_that_are_no_numbers_are_refused_with_their_place(bad):
    samples = images(7)
    samples[4, 0, 2, 2] = bad

    with pytest.raises(DataError, match=r"input samples 3\.\.5"):
        collect(plain(), split(samples), 7)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_maps_that_are_no_numbers_are_refused_with_the_layer(bad):
    model = plain()
    model.conv.bias.data[2] = bad

    with pytest.raises(ModelError, match=r"conv: NaN or infinity in its maps, first in samples 0\.\.2"):
        collect(model, split(images(7)), 7)


@pytest.mark.parametrize("shape", [(1, 6, 6), (3, 6), (4, 6, 6)])
def test_a_wrong_input_size_is_refused_with_both_shapes(shape):
    with pytest.raises(ModelError, match="does not accept inputs of shape") as caught:
        map_shapes(plain(), ["conv"], images(1, *shape))
    assert str((1, *shape)) in caught.value.what
    assert "--input-size" in caught.value.hint


def test_maps_that_change_size_are_refused():
    batches = [*split(images(3)), *split(images(3, 3, 7, 7))]

    with pytest.raises(ModelError, match="conv: its maps change size"):
        collect(plain(), batches, 6)


@pytest.mark.parametrize("counted", [5, 9])
def test_a_number_of_samples_that_changes_is_refused(counted):
    with pytest.raises(DataError, match=str(counted)):
        collect(plain(), split(images(7)), counted)
