"""What tells that outputs are scores of classes, and what is compared where nothing does."""

import pytest
import torch
import torchvision
from torch import nn

from tests.helpers.output_kinds import CLASSIFIERS, KINDS, Kind, broken, images, made
from topocompress.deploy.measurement import agreement, evaluate, likeness, output_agreements
from topocompress.errors import ModelError
from topocompress.network.inference import named_outputs
from topocompress.network.outputs import outputs_of

NAMES = {
    "detr": ["logits", "boxes"],
    "dataclass": ["logits", "boxes"],
    "two heads": ["colour", "shape"],
    "tuple": ["output 0", "output 1"],
}


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_that_are_no_classes_are_compared_by_the_variation_they_explain(kind):
    model = made(KINDS[kind])
    outputs = outputs_of(model, images(4))
    assert outputs.measure == "explained_variation"
    assert outputs.label_axes is None
    assert "explained variation (R²)" in outputs.what
    assert [each.name for each in outputs.compared] == NAMES.get(kind, ["output"])
    batches = images().split(20)  # the last is smaller
    whole, again, other = (evaluate(each, batches, outputs=outputs) for each in (model, model, broken(model)))
    assert agreement(whole, again) == 1.0
    assert agreement(whole, other) < 0.6
    each = output_agreements(whole, other)
    assert list(each) == NAMES.get(kind, ["output"])
    assert agreement(whole, other) == min(each.values())


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_scores_of_classes_are_compared_by_the_highest(kind):
    model = made(CLASSIFIERS[kind])
    outputs = outputs_of(model, images(4))
    assert outputs.measure == "agreement"
    assert outputs.what.startswith("agreement: the share of ")
    whole, other = (evaluate(each, images().split(20), outputs=outputs) for each in (model, broken(model)))
    assert agreement(whole, whole) == 1.0
    assert agreement(whole, other) == (whole.classes == other.classes).mean()
    assert agreement(whole, other) < 0.95


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (CLASSIFIERS["classes"], "5 classes (assumed: they come from a linear or convolutional layer)"),
        (CLASSIFIERS["probabilities"], "5 classes (probabilities that sum to 1)"),
        (CLASSIFIERS["segmentation"], "pixels with the same most likely of 4 classes (by the kind of the network)"),
        (KINDS["binary"], "nothing tells that the output is scores of classes"),
        (KINDS["detr"], "each of logits, boxes by itself; the worst counts"),
    ],
)
def test_why_is_said(make, words):
    model = made(make)
    said = outputs_of(model, images(4)).what
    assert words in said or words in said.replace("; not compared: aux", "")


@pytest.mark.parametrize(
    ("kind", "labels", "classes", "names", "measure"),
    [
        ("embedding", 0, 10, 0, "explained_variation"),  # labels of ten classes say nothing of 16 features
        ("embedding", 0, 16, 0, "agreement"),
        ("embedding", 0, None, 0, "agreement"),  # nothing is known of the labels but that they are there
        ("embedding", None, None, 16, "agreement"),
        ("embedding", None, 16, 0, "explained_variation"),
        ("binary", 0, 2, 0, "explained_variation"),
        ("two heads", 0, 5, 0, "agreement"),
        ("two heads", 0, None, 0, "agreement"),
        ("many maps", 0, 9, 0, "explained_variation"),  # labels of images say nothing of their pixels
        ("many maps", None, None, 9, "agreement"),
        ("many maps", 2, None, 0, "agreement"),
        ("super-resolution", 0, 3, 0, "explained_variation"),
    ],
)
def test_what_labels_and_names_tell(kind, labels, classes, names, measure):
    model = made(KINDS[kind])
    assert outputs_of(model, images(4), labels=labels, classes=classes, names=names).measure == measure


def test_what_is_not_compared_is_said():
    found = outputs_of(made(KINDS["two heads"]), images(4), labels=0, classes=5)
    assert "; not compared: shape)" in found.what


def test_a_class_count_of_the_networks_own_tells():
    model = made(KINDS["embedding"])
    model.num_classes = 16
    assert outputs_of(model, images(4)).measure == "agreement"
    model.num_classes = 0  # as timm has it for networks without a head
    assert outputs_of(model, images(4)).measure == "explained_variation"


@pytest.mark.parametrize(
    "name", ["squeezenet1_1", "lraspp_mobilenet_v3_large", "fasterrcnn_mobilenet_v3_large_320_fpn"]
)
def test_networks_of_torchvision_keep_agreement(name):
    model = (
        torchvision.models.get_model(name, weights=None, weights_backbone=None)
        if "net_v3" in name
        else (torchvision.models.get_model(name, weights=None))
    )
    assert outputs_of(model.eval(), torch.rand(1, 3, 64, 64)).measure == "agreement"


def test_frozen_parameters_and_forwards_without_gradients():
    model = made(CLASSIFIERS["classes"]).requires_grad_(requires_grad=False)
    assert outputs_of(model, images(1)).measure == "agreement"
    model.forward = torch.no_grad()(model.forward)
    assert outputs_of(model, images(1)).measure == "explained_variation"


def test_samples_are_counted_on_their_own_axis():
    (output,) = outputs_of(made(KINDS["crnn"]), images(1)).compared
    assert output.axis == 1
    steps = evaluate(made(KINDS["crnn"]), images(5).split(2)).values["output"]
    assert (steps.numbers.shape, steps.shape) == ((5, SIDE_STEPS * 7), (SIDE_STEPS, 7))


SIDE_STEPS = 16


def test_an_output_without_samples_takes_no_part():
    anchors = torch.arange(12.0).reshape(3, 4)
    model = made(lambda: Kind(lambda x: (x.sigmoid(), anchors, x.sum()), 6))
    assert [each.name for each in outputs_of(model, images(3)).compared] == ["output 0"]


@pytest.mark.parametrize("give", [lambda _: torch.zeros(3, 4), lambda _: "text", lambda x: x.sum(), lambda _: ()])
def test_no_output_with_an_entry_per_sample_is_refused(give):
    with pytest.raises(ModelError, match="expected a tensor"):
        outputs_of(made(lambda: Kind(give, 2)), images(3))


def test_a_batch_that_loses_its_axis_is_refused():
    model = made(lambda: Kind(lambda x: x.squeeze(), 1))
    with pytest.raises(ModelError, match="1 samples, which axis 0 should count"):
        evaluate(model, images(5).split(4))


def test_outputs_whose_size_depends_on_the_samples_are_refused():
    model = made(lambda: Kind(lambda x: x.new_ones(len(x), 3 if float(x.sum()) > 0 else 4), 1))
    plain = evaluate(made(KINDS["binary"]), [images()]).values["output"].numbers[:, 0]
    ordered = [images()[[index]] for index in (plain.argmax(), plain.argmin())]
    with pytest.raises(ModelError, match="differ between batches"):
        evaluate(model, ordered)


def test_names_of_nested_outputs():
    one, two, three = torch.zeros(1), torch.ones(1), torch.ones(2)
    assert named_outputs({"a": (one, {"b": two}), "c": None, "d": three}) == [
        ("a.0", one),
        ("a.1.b", two),
        ("d", three),
    ]
    assert named_outputs(one) == [("output", one)]


def test_not_finite_outputs_are_refused_in_every_output():
    model = made(lambda: Kind(lambda one, other: (one, other / 0), 3, 3))
    with pytest.raises(ModelError, match="NaN or infinity"):
        evaluate(model, [images(8)])


def test_deciding_leaves_no_trace():
    model = made(CLASSIFIERS["classes"]).train()
    seen = images(3)
    random = torch.get_rng_state()
    outputs_of(model, seen)
    assert model.training
    assert not seen.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), random)


def test_likeness_tells_bad_from_worse():
    model = made(KINDS["binary"])
    worse, worst = broken(model), broken(model)
    with torch.no_grad():
        worse.heads[0].weight *= 20
        worst.heads[0].weight *= 200
    outputs = outputs_of(model, images(3))
    whole, bad, very_bad = (evaluate(each, [images()], outputs=outputs) for each in (model, worse, worst))
    assert agreement(whole, bad) == agreement(whole, very_bad) == 0.0
    assert 0 > likeness(whole, bad) > likeness(whole, very_bad) > -1


def test_an_empty_head_has_no_chance():
    class Constant(nn.Module):
        def forward(self, x):
            return x.new_zeros(len(x), 4)

    assert outputs_of(Constant(), images(3)).measure == "explained_variation"
