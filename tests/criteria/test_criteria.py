import inspect
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.helpers.shapes import circle
from topocompress.criteria import L1, Betti, CloudCriterion, Random, WeightCriterion
from topocompress.criteria.registry import available, create
from topocompress.errors import CriterionError, DataError, TopologyError
from topocompress.scoring.dispatch import score_layers
from topocompress.scoring.workers import score_filters
from topocompress.testing import check_criterion

CONTROLS = {"random"}
"""Criteria whose score of a filter depends on its place."""


def betti_of(criterion: Betti, *clouds: np.ndarray, spread: float | None = None) -> list[list[float]]:
    return criterion.score(np.stack(clouds).astype(np.float32), layer_spread=spread).tolist()


# --- the contract, for everything registered ---


@pytest.mark.parametrize("name", [info.name for info in available() if not info.error])
def test_every_registered_criterion_keeps_the_contract(name):
    criterion = create(name)

    check_criterion(criterion, equivariant=name not in CONTROLS)

    assert criterion.name == name


@pytest.mark.parametrize("scale", ["quantile:0.3", "relative:0.8", "layer:0.5", "absolute:1.5", "knn:3,2"])
def test_betti_keeps_the_contract_with_every_scale(scale):
    criterion = Betti(scale=scale, dimensions=(0, 1, 2))

    check_criterion(criterion, seed=3)

    assert criterion.settings() == {"scale": scale, "dimensions": [0, 1, 2]}


def test_betti_can_be_turned_round():
    assert (Betti().higher, Betti(orientation="inverse").higher) == ("remove", "keep")
    assert Betti(orientation="inverse").settings()["orientation"] == "inverse"
    check_criterion(Betti(orientation="inverse", per_class=True))
    with pytest.raises(TopologyError, match="'upside-down'"):
        Betti(orientation="upside-down")


def test_betti_per_class_adds_up_the_classes():
    """Each class lies on a circle of its own: one loop each, while together they are two circles."""
    points = np.concatenate([circle(20), circle(20) + 10]).astype(np.float32)
    labels = np.repeat([3, 7], 20)
    criterion = Betti(scale="relative:0.4", per_class=True)

    scores, dead = score_filters(criterion, points[None], None, "cpu", labels)

    assert scores.tolist() == [[2, 2]]
    assert not dead.any()
    assert score_filters(criterion, points[None, :20], None, "cpu", labels[:20])[0].tolist() == [[1, 1]]


def test_betti_per_class_needs_the_labels_of_at_least_two_samples_per_class():
    images = torch.randn(4, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    model = torch.nn.Conv2d(1, 2, 1)

    for labels, message in (([0, 0, 1, -1], "needs the label"), ([0, 0, 0, 1], "class 1 has one")):
        with pytest.raises(DataError, match=message):
            score_layers(model, [""], Betti(per_class=True), [(images, torch.tensor(labels))])


def broken(promise: str):
    """A criterion that keeps every promise but one."""

    class Sound(WeightCriterion):
        """Sum of squares."""

        name, higher = "sound", "keep"

        def score(self, weight: Tensor) -> Tensor:
            return weight.flatten(1).square().sum(dim=1)

    class Unsound(Sound):
        """Sum of squares."""

        calls = 0

        def score(self, weight: Tensor) -> Tensor:
            good = super().score(weight)
            Unsound.calls += 1
            if promise == "call to call":
                return good + Unsound.calls
            if promise == "changed the weights":
                weight.mul_(2)
            elif promise == "random state":
                torch.rand(1)
            elif promise == "move with their filters":
                return good + torch.arange(len(good))
            elif promise == "settings() changed":
                self.seen = Unsound.calls
            elif promise == "raised KeyError":
                raise KeyError("no")
            elif promise == "shape":
                return good[:-1]
            elif promise == "NaN or infinity":
                return good / good
            return good

    changes = {
        "lower case": {"name": "Not Good"},
        "'keep' or 'remove'": {"higher": "up"},
        "docstring": {"__doc__": None},
        "JSON": {"settings": lambda self: {"weights": object()}},
    }
    for attribute, value in changes.get(promise, {}).items():
        setattr(Unsound, attribute, value)
    return Unsound()


PROMISES = (
    *("call to call", "changed the weights", "random state", "move with their filters", "settings() changed"),
    *("raised KeyError", "shape", "NaN or infinity", "lower case", "'keep' or 'remove'", "docstring", "JSON"),
)


@pytest.mark.parametrize("promise", PROMISES)
def test_a_broken_promise_is_named(promise):
    with pytest.raises(CriterionError) as caught:
        check_criterion(broken(promise))

    assert promise in str(caught.value)


def test_the_sound_criterion_passes():
    criterion = broken("none")

    check_criterion(criterion)

    assert type(criterion).calls > 3


class Variance(CloudCriterion):
    """Total variance of the cloud (higher: keep)."""

    name, higher = "variance", "keep"

    def __init__(self, broken: str = "") -> None:
        self.broken = broken

    def score(self, clouds, *, layer_spread=None, device="cpu"):
        if self.broken == "clouds":
            clouds -= clouds.mean(axis=1, keepdims=True)
        values = clouds.var(axis=1, dtype=np.float64).sum(axis=1)
        return values - values.max() if self.broken == "filters" else values

    def __reduce__(self):
        return (int, ("no number",)) if self.broken == "another process" else super().__reduce__()


BROKEN = {
    "clouds": "read-only|changed the weights or clouds",
    "filters": "depend",
    "another process": "cannot be sent to another process",
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_promise_of_a_cloud_criterion_is_named(broken):
    check_criterion(Variance())

    with pytest.raises(CriterionError, match=BROKEN[broken]):
        check_criterion(Variance(broken))


def test_a_class_that_is_no_criterion_is_refused():
    with pytest.raises(CriterionError, match="not a criterion"):
        check_criterion(object())


# --- betti ---


def test_betti_by_hand():
    circle_of_twelve, still, halves = circle(12), np.ones((12, 2)), np.repeat([[0.0, 0.0], [9.0, 9.0]], 6, axis=0)

    assert betti_of(Betti(scale="quantile:0.18"), circle_of_twelve, still, halves) == [[1, 1], [1, 0], [2, 0]]
    assert betti_of(Betti(scale="absolute:0.5"), circle_of_twelve, still, halves) == [[12, 0], [1, 0], [2, 0]]
    assert betti_of(Betti(scale="absolute:20"), circle_of_twelve, still, halves) == [[1, 0]] * 3


def test_betti_counts_cavities_on_request():
    corners = np.concatenate([np.eye(3), -np.eye(3)])  # an octahedron: all but opposite corners at distance √2

    assert betti_of(Betti(scale="absolute:1.5", dimensions=(0, 1, 2)), corners) == [[1, 0, 1]]
    assert betti_of(Betti(scale="absolute:1.5", dimensions=[2]), corners) == [[1]]


def test_betti_layer_scale_sees_amplitude_and_the_others_do_not():
    small, large = circle(12), 2 * circle(12)
    # Sides of 0.52 and 1.04; ε is 0.5 · 1.4 for both.
    assert betti_of(Betti(scale="layer:0.5"), small, large, spread=1.4) == [[1, 1], [12, 0]]
    assert betti_of(Betti(scale="relative:0.5"), small, large) == [[1, 1], [1, 1]]
    assert Betti(scale="layer:0.5").needs_spread
    assert Betti().needs_spread
    assert not Betti(scale="quantile:0.2").needs_spread


def test_betti_settings_name_what_was_computed():
    criterion = Betti(scale="knn:14,2", dimensions=(1, 0, 1))

    assert criterion.settings() == {"scale": "knn:14,2", "dimensions": [0, 1]}
    assert criterion.parts == ("beta0", "beta1")
    assert Betti().settings() == {"scale": "components:0.2", "dimensions": [0, 1]}
    assert Betti.higher == "remove"


@pytest.mark.parametrize("wrong", [{"scale": "eps:3"}, {"dimensions": ()}, {"dimensions": (0, 3)}])
def test_betti_refuses_what_is_not_supported(wrong):
    with pytest.raises(TopologyError):
        Betti(**wrong)


def test_betti_obeys_the_backend_it_is_given():
    corners = np.concatenate([np.eye(3), -np.eye(3)])
    for name in ("giotto-ph", "ripser"):
        criterion = Betti(scale="absolute:1.5", dimensions=(2,), backend=name)
        assert betti_of(criterion, corners) == [[1]]
        assert "backend" not in criterion.settings()  # all give the same numbers
    with pytest.raises(TopologyError, match="unknown backend"):
        Betti(backend="other")


def test_a_filter_scores_alone_as_it_does_among_others():
    points = np.random.default_rng(0).standard_normal((6, 40, 5)).astype(np.float32)

    together = betti_of(Betti(scale="quantile:0.2"), *points)

    assert together == [betti_of(Betti(scale="quantile:0.2"), cloud)[0] for cloud in points]


# --- l1 ---


def test_l1_by_hand():
    weight = torch.tensor([[[[1.0, -2.0]], [[0.0, 3.0]]], [[[0.0, 0.0]], [[0.0, -0.5]]]])

    assert L1().score(weight).tolist() == [6.0, 0.5]
    assert L1().score(torch.tensor([[1.0, -1.0], [0.0, 0.0]])).tolist() == [2.0, 0.0]
    assert L1.higher == "keep"
    assert L1().settings() == {}


# --- random ---


def test_random_is_uniform_seeded_and_differs_between_layers():
    generator = torch.Generator().manual_seed(0)
    one, other = torch.randn(4000, 3, generator=generator), torch.randn(4000, 3, generator=generator)

    values = Random().score(one)

    assert torch.equal(values, Random(seed=0).score(one.clone()))
    assert not torch.equal(values, Random(seed=1).score(one))
    assert not torch.equal(values, Random().score(other))
    assert 0 <= values.min() < 0.01
    assert 0.99 < values.max() <= 1
    assert values.mean().item() == pytest.approx(0.5, abs=4 / math.sqrt(12 * 4000))
    assert Random(seed=7).settings() == {"seed": 7}


def test_random_reads_any_memory_layout():
    weight = torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(1))

    assert torch.equal(Random().score(weight.to(memory_format=torch.channels_last)), Random().score(weight))


# --- what users read ---


@pytest.mark.parametrize("cls", [Betti, L1, Random])
def test_built_in_criteria_say_their_direction_and_their_paper(cls):
    first = inspect.getdoc(cls).splitlines()[0]

    assert first.endswith(f"(higher: {cls.higher}).")
    assert cls is Random or "arXiv:" in cls.__doc__
