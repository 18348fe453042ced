"""The ways to run a network in which it calls all its layers."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.helpers.living_nets import (
    Dropped,
    EitherOr,
    EvaluatedOnly,
    OnBrightImages,
    OnOneImage,
    OnSeveralImages,
    SharedHead,
    TrainedAuxiliary,
    Uncalled,
)
from tests.helpers.tiny_nets import ALL, example, seeded
from topocompress.dependencies.calls import explore
from topocompress.dependencies.groups import find_groups
from topocompress.errors import ModelError

AUX = {"aux_conv", "aux_head"}
EVAL, TRAIN = (False, True), (True, True)
"""(as in training, on the example)"""


def ways(model, inputs):
    found = explore(model, inputs)
    return [(run.training, run.inputs is inputs) for run in found.runs], found.chancy, found.never


@pytest.mark.parametrize("kind", ALL)
def test_one_run_is_enough_for_most_networks(kind):
    assert ways(seeded(kind), example()) == ([EVAL], set(), set())


@pytest.mark.parametrize(
    ("kind", "runs"),
    [
        (TrainedAuxiliary, [TRAIN]),
        (SharedHead, [TRAIN]),
        (EvaluatedOnly, [EVAL]),
        (EitherOr, [EVAL, TRAIN]),
        (Dropped, [EVAL]),
        (OnBrightImages, [EVAL, (False, False)]),
        (OnSeveralImages, [EVAL, (False, False)]),
    ],
)
def test_what_only_a_mode_or_some_images_call_is_seen(kind, runs):
    assert ways(seeded(kind), example()) == (runs, set(), set())


def test_layers_that_another_image_might_call_are_named():
    assert ways(seeded(OnOneImage), example()) == ([EVAL], set(), AUX)
    assert ways(seeded(Uncalled), example()) == ([EVAL], set(), set())


def by_numpy(x):
    return float(x.detach().numpy().mean()) > 100


def by_list(x):
    return x.flatten().tolist()[0] == 7


def by_size_of_choice(x):
    return len(x[x == 7]) > 0


class Choosing(Uncalled):
    """Calls its auxiliary layers where a function says so."""

    def __init__(self, chooses, training=False):
        super().__init__()
        self.chooses, self.only_training = chooses, training

    def forward(self, x):
        chosen = self.training == self.only_training and self.chooses(x)
        x = F.relu(self.first(x))
        return self.main(x) + self.aux(x) if chosen else self.main(x)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("chooses", [by_numpy, by_list, by_size_of_choice])
def test_a_network_that_looks_at_numbers_may_call_anything(chooses, training):
    assert ways(seeded(Choosing, chooses, training), example()) == ([EVAL], set(), AUX)


def test_a_network_that_looks_at_no_numbers_calls_the_same_on_every_image():
    model = seeded(Choosing, lambda x: x.shape[-1] > 1000)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert ways(model, example()) == ([EVAL], set(), set())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    kept = {group.root: group.protected for group in find_groups(model, example())}
    assert (kept["first"], kept["second"]) == ("", "")
    assert kept["aux_conv"] == "not called as a layer of its own when the network runs"


def test_layers_that_only_the_example_calls_are_told_from_others():
    inputs = example()
    inputs[0, 0, 0, 0] = 7
    model = seeded(OnOneImage)
    assert ways(model, inputs) == ([EVAL], AUX, set())
    kept = {group.root: group.protected for group in find_groups(model, inputs)}
    assert kept["first"] == "reaches a layer that is called on some images only: aux_conv"
    assert kept["second"] == ""


def test_what_an_uncalled_layer_may_read_stays_whole_and_nothing_else():
    kept = {group.root: group.protected for group in find_groups(seeded(OnOneImage), example())}
    assert kept["first"] == "may be read by a layer that was never called when the network was tried: aux_conv"
    assert kept["second"] == ""


def test_an_uncalled_linear_layer_may_read_flattened_maps():
    model = seeded(OnOneImage)
    model.aux_conv, model.aux_head = nn.Identity(), nn.Linear(6 * 4, 5)
    kept = {group.root: group.protected for group in find_groups(model, example())}
    assert kept["first"] == kept["second"] != ""  # 24 are 3 · 8 and 4 · 6
    model.aux_head = nn.Linear(6 * 5, 5)
    kept = {group.root: group.protected for group in find_groups(model, example())}
    assert (kept["first"], kept["second"] != "") == ("", True)


def test_weights_that_something_else_uses_count_as_called():
    class Reaching(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.spare = nn.Conv2d(3, 8, 1), nn.Linear(8, 5)

        def forward(self, x):
            return nn.functional.linear(self.body(x).mean((2, 3)), self.spare.weight, self.spare.bias)

    assert explore(seeded(Reaching), example()).never == set()


def test_a_network_that_does_not_train_on_images_alone_is_run_as_it_is_used():
    class Targets(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Conv2d(3, 8, 1)

        def forward(self, x, targets=None):
            if self.training:
                return self.body(x) - targets["there are none"]
            return self.body(x)

    assert ways(Targets().eval(), example())[0] == [EVAL]


def test_a_network_that_does_not_run_is_refused():
    with pytest.raises(ModelError, match="does not accept inputs"):
        explore(seeded(ALL[0]), torch.zeros(1, 4, 8, 8))
