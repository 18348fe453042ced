import numpy as np
import pytest
import torch
from torch import nn

from tests.helpers.scoring_nets import FEATURES, FILTERS, LAYERS, POINTS, Filters, network, noise, on_a_circle, plain
from topocompress.criteria import L1, Betti, CloudCriterion, Criterion, Random, WeightCriterion
from topocompress.errors import CriterionError, DataError, ModelError
from topocompress.models.loading import fingerprint
from topocompress.network.capture import Maps
from topocompress.runtime.resources import Resources
from topocompress.scoring.dispatch import read_maps, score_layers


def scored(model: nn.Module, criterion: Criterion, **options):
    return score_layers(model, ["conv"], criterion, on_a_circle(), **options)


# --- worked out by hand ---


def test_betti_of_filters_that_scale_the_circle():
    scores = scored(Filters([1.0, 0.0, -2.0]), Betti(scale="quantile:0.18"))

    layer = scores.layers["conv"]
    assert layer.parts["beta0"].tolist() == [1, 1, 1]
    assert layer.parts["beta1"].tolist() == [1, 0, 1]
    assert layer.values.tolist() == [2, 1, 2]
    assert layer.dead.tolist() == [False, True, False]


def test_what_a_run_says_of_itself():
    model = Filters([1.0, 0.0, -2.0])

    scores = scored(model, Betti(scale="quantile:0.18", dimensions=(1,)))

    assert (scores.criterion, scores.higher, scores.samples) == ("betti", "remove", POINTS)
    assert scores.settings == {"scale": "quantile:0.18", "dimensions": [1]}
    assert scores.model == fingerprint(model)
    memory = scores.run.pop("peak_process_bytes")
    assert scores.run == {"passes": 1, "peak_cloud_bytes": 3 * 4 * POINTS * 2, "workers": 1, "layers_reused": 0}
    assert memory > 10 << 20
    assert list(scores.layers["conv"].parts) == ["beta1"]


def test_the_activation_decides_what_is_seen_and_what_is_dead():
    # relu(x + 1) leaves the circle as it is, relu(x - 1) makes it one point.
    model = Filters([1.0, 1.0], [1.0, -1.0], nn.ReLU())

    layer = scored(model, Betti(scale="absolute:0.6")).layers["conv"]

    assert layer.parts["beta1"].tolist() == [1, 0]
    assert layer.dead.tolist() == [False, True]


def test_a_constant_filter_is_dead_whatever_its_constant():
    layer = scored(Filters([1e-9, 1e-3, 0.0], [5.0, 5.0, -7.0]), Betti()).layers["conv"]

    assert layer.dead.tolist() == [True, False, True]
    assert layer.values[[0, 2]].tolist() == [1, 1]


@pytest.mark.parametrize("filters", [3, 2, 1])
def test_the_layer_scale_uses_the_mean_over_the_whole_layer(filters):
    # Mean distances are m, 0 and 2m with m = 1.38, so ε = 0.5 m; the sides of the circles are 0.52 and 1.04.
    model, own = Filters([1.0, 0.0, -2.0]), 16 * POINTS**2
    resources = Resources(memory=own + filters * 4 * POINTS * 2, workers=1)

    scores = scored(model, Betti(scale="layer:0.5"), resources=resources)

    assert scores.layers["conv"].parts["beta0"].tolist() == [1, 1, POINTS]
    assert scores.layers["conv"].parts["beta1"].tolist() == [1, 0, 0]
    assert scores.run["passes"] == {3: 1, 2: 2, 1: 3}[filters]
    assert scores.run["peak_cloud_bytes"] == filters * 4 * POINTS * 2


# --- more layers ---


@pytest.mark.parametrize(
    "scale", ["quantile:0.2", "components:0.2", "relative:0.7", "layer:0.6", "absolute:1", "knn:3,2"]
)
def test_scores_are_the_same_for_any_memory_and_batch_size(scale):
    criterion = Betti(scale=scale, dimensions=(0, 1, 2))
    whole = score_layers(network(), LAYERS, criterion, noise())

    pieces = score_layers(network(), LAYERS, criterion, noise(size=7), resources=Resources(memory=1))

    assert (whole.run["passes"], pieces.run["passes"]) == (1, 12)
    assert pieces.run["peak_cloud_bytes"] == 4 * 20 * 25
    assert plain(pieces) == plain(whole)
    for layer in whole.layers.values():
        assert layer.values.tolist() == sum(layer.parts.values()).tolist()


def test_layers_come_in_the_order_in_which_they_run():
    assert list(score_layers(network(), ["5", "0", "3"], Betti(), noise()).layers) == ["0", "3", "5"]


@pytest.mark.parametrize(
    ("scale", "memory", "runs"),
    [
        ("quantile:0.2", 1, 9),  # a pass for each filter
        ("layer:0.5", 1, 10),  # and one before, for what follows from a whole layer
        ("quantile:0.2", None, 1),
        ("layer:0.5", None, 1),  # layers that fit into a pass need no other
    ],
)
def test_progress_counts_up_to_its_total(scale, memory, runs):
    seen: dict[str, list[tuple[int, int]]] = {}

    score_layers(
        network(),
        ["0", "3"],
        Betti(scale=scale),
        noise(),
        resources=Resources(memory=memory),
        progress=lambda step, done, total: seen.setdefault(step, []).append((done, total)),
    )

    assert [done for done, _ in seen["scoring filters"]] == list(range(1, 10)) or memory is None
    assert seen["scoring filters"][-1] == (9, 9)
    samples = [done for done, _ in seen["running samples"]]
    assert seen["running samples"][-1] == (runs * 20, runs * 20)
    assert samples == sorted(samples)


class Looking(Betti):
    """Notes how many clouds are looked at first."""

    def first_look(self, clouds, *, device="cpu"):
        SEEN.append(len(clouds))
        return super().first_look(clouds, device=device)


SEEN: list[int] = []


@pytest.mark.parametrize("memory", [None, 1])
def test_of_a_wide_layer_some_filters_are_looked_at_first_however_it_is_cut_into_passes(memory):
    torch.manual_seed(0)
    model, samples = nn.Sequential(nn.Conv2d(2, 100, 3), nn.ReLU()).eval(), noise()
    SEEN.clear()

    found = score_layers(model, ["0"], Looking(), samples, resources=Resources(memory=memory, workers=1))

    assert SEEN == [1] * 64
    every = np.stack(list(torch.cat([model(x) for x, _ in samples]).detach().numpy().swapaxes(0, 1)))
    looks = Betti().first_look(every.reshape(100, 20, -1)[np.linspace(0, 99, 64).round().astype(int)])
    assert found.layers["0"].scale == Betti().scale_taken(Betti().spread_of(looks))


# --- smaller points ---


class Coarse(Betti):
    """Reads averaged maps."""

    map_size = 16


@pytest.mark.parametrize(
    ("criterion", "asked", "taken"),
    [
        (Betti(), None, Maps()),
        (Coarse(), None, Maps(size=16)),
        (Coarse(), Maps(), Maps()),
        (Coarse(), Maps(sketch=5), Maps(sketch=5)),
        (L1(), None, Maps()),
    ],
)
def test_how_maps_become_points_unless_it_is_said(criterion, asked, taken):
    assert read_maps(criterion, asked) == taken


def test_large_maps_are_averaged_down_if_the_criterion_has_it_so():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU()).eval()
    samples = [(torch.randn(20, 1, 24, 24, generator=torch.Generator().manual_seed(1)), torch.zeros(20))]
    given, sized, whole = (
        score_layers(model, ["0"], Coarse(), samples, maps=maps) for maps in (None, Maps(size=16), Maps())
    )
    assert plain(given) == plain(sized) != plain(whole)


@pytest.mark.parametrize(
    ("maps", "settings"),
    [
        (Maps(), {}),
        (Maps(size=2), {"map_size": 2}),
        (Maps(sketch=3), {"sketch": 3}),
        (Maps(size=3, sketch=4), {"map_size": 3, "sketch": 4}),
    ],
)
def test_settings_say_how_maps_were_read(maps, settings):
    scores = score_layers(network(), LAYERS, Betti(), noise(), maps=maps)

    assert scores.settings == {**Betti().settings(), **settings}
    assert {name: len(layer.values) for name, layer in scores.layers.items()} == FILTERS
    features = [min(FEATURES[name], (maps.size or 5) ** 2, maps.sketch or 25) for name in LAYERS]
    assert scores.run["peak_cloud_bytes"] == sum(
        4 * 20 * count * size for count, size in zip(FILTERS.values(), features, strict=True)
    )


def test_maps_that_are_small_already_score_the_same():
    exact = score_layers(network(), LAYERS, Betti(), noise())

    assert plain(score_layers(network(), LAYERS, Betti(), noise(), maps=Maps(size=5, sketch=25))) == plain(exact)
    other = score_layers(network(), LAYERS, Betti(dimensions=(0,)), noise(60), maps=Maps(sketch=2))
    assert plain(other) != plain(score_layers(network(), LAYERS, Betti(dimensions=(0,)), noise(60)))


@pytest.mark.parametrize("maps", [Maps(size=3), Maps(sketch=4)])
def test_smaller_points_are_the_same_every_time_and_draw_nothing(maps):
    before = torch.get_rng_state()

    one, other = (score_layers(network(), LAYERS, Betti(), noise(), maps=maps) for _ in range(2))

    assert plain(one) == plain(other)
    assert torch.equal(torch.get_rng_state(), before)


def test_weights_alone_need_no_data():
    model = Filters([1.0, 0.0, -2.0], [3.0, 3.0, 3.0])

    scores = score_layers(model, ["conv"], L1())

    assert scores.layers["conv"].values.tolist() == [1, 0, 2]
    assert scores.layers["conv"].dead.tolist() == [False, True, False]
    assert scores.layers["conv"].parts == {}
    assert (scores.samples, scores.run, scores.higher) == (0, {}, "keep")


def test_random_scores_differ_between_layers_of_one_shape():
    model = nn.Sequential(nn.Conv2d(1, 6, 1), nn.Conv2d(1, 6, 1))
    with torch.no_grad():
        model[0].weight.fill_(0.25)
        model[1].weight.fill_(0.75)

    layers = score_layers(model, ["0", "1"], Random()).layers

    assert layers["0"].values.tolist() != layers["1"].values.tolist()


# --- refusals ---


@pytest.mark.parametrize("batches", [[], [(torch.zeros(1, 1, 1, 2), torch.zeros(1))]], ids=["none", "one"])
def test_fewer_than_two_samples_are_refused(batches):
    with pytest.raises(DataError, match="at least 2 calibration samples") as caught:
        score_layers(Filters([1.0]), ["conv"], Betti(), batches)
    assert "--samples" in caught.value.hint


def test_two_samples_are_enough():
    scores = score_layers(Filters([1.0]), ["conv"], Betti(), [(torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1), None)])

    assert scores.layers["conv"].values.tolist() == [1]


def test_no_data_for_a_criterion_that_needs_them():
    with pytest.raises(DataError, match="'betti' needs calibration data"):
        score_layers(Filters([1.0]), ["conv"], Betti())


def test_a_layer_that_is_not_there():
    with pytest.raises(ModelError, match="no layer 'convolution'"):
        score_layers(Filters([1.0]), ["conv", "convolution"], L1())


def test_samples_that_are_no_numbers():
    batches = on_a_circle()
    batches[1][0][2] = torch.nan

    with pytest.raises(DataError, match=r"input samples 5\.\.9"):
        score_layers(Filters([1.0]), ["conv"], Betti(), batches)


def returning(base: type[Criterion], value, parts: tuple[str, ...] = ()) -> Criterion:
    class Fixed(base):
        name, higher = "fixed", "keep"

        def score(self, *_args, **_options):
            return value

    made = Fixed()
    if issubclass(base, CloudCriterion):
        made.parts = parts
    return made


WRONG = {
    "too few": (np.zeros(2), ()),
    "a scalar": (torch.tensor(1.0), ()),
    "a column": (np.zeros((3, 1)), ()),
    "one part of two": (np.zeros((3, 1)), ("one", "two")),
}


@pytest.mark.parametrize("base", [WeightCriterion, CloudCriterion])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_that_are_no_numbers_are_refused_with_criterion_and_layer(base, bad):
    with pytest.raises(CriterionError, match="'fixed' returned NaN or infinity for conv"):
        scored(Filters([1.0, 2.0, 3.0]), returning(base, np.array([1.0, bad, 2.0])))


@pytest.mark.parametrize("how", [how for how in WRONG if how != "a scalar"])
def test_scores_of_a_wrong_shape_are_refused(how):
    value, parts = WRONG[how]

    with pytest.raises(CriterionError, match=r"'fixed' returned shape .* for conv, expected \(3,"):
        scored(Filters([1.0, 2.0, 3.0]), returning(CloudCriterion, value, parts))


@pytest.mark.parametrize("how", ["too few", "a scalar", "a column"])
def test_weight_scores_of_a_wrong_shape_are_refused(how):
    with pytest.raises(CriterionError, match=r"'fixed' returned shape .* for conv, expected \(3,\)"):
        scored(Filters([1.0, 2.0, 3.0]), returning(WeightCriterion, WRONG[how][0]))


def test_something_else_than_a_criterion_is_refused():
    with pytest.raises(CriterionError, match="none of WeightCriterion"):
        score_layers(Filters([1.0]), ["conv"], object(), on_a_circle())


def test_batches_that_can_be_read_only_once_are_refused():
    with pytest.raises(DataError, match="only once"):
        score_layers(network(), ["0"], Betti(), ((images, labels) for images, labels in noise()))


def test_only_convolutions_and_linear_layers_are_scored():
    with pytest.raises(ModelError, match="1 is a ReLU"):
        score_layers(nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU()), ["1"], L1())


def test_weights_that_are_no_numbers_are_named():
    model = nn.Sequential(nn.Conv2d(1, 2, 1))
    with torch.no_grad():
        model[0].weight[1] = torch.nan
    with pytest.raises(ModelError, match="0: NaN"):
        score_layers(model, ["0"], L1())


def test_random_takes_any_seed():
    layer = nn.Sequential(nn.Conv2d(1, 2, 1))
    assert score_layers(layer, ["0"], Random(seed=2**40)).layers["0"].values.shape == (2,)
