"""Arguments for a factory or an architecture: read, passed, refused, kept with a run."""

from __future__ import annotations

import json

import pytest
import torch

import topocompress
from tests.helpers import checkpoints as made
from tests.helpers.run_directories import edited, pruned
from tests.helpers.weights import same_state
from topocompress.cli.values import arguments
from topocompress.errors import ArtifactError, ModelError
from topocompress.models.architectures import build
from topocompress.models.loading import load_model
from topocompress.surgery.run_directory import load_run
from topocompress.types import Architecture, Preprocessing
from topocompress.workflows.opening import open_model

FACTORY = "tests.helpers.checkpoints:Net"
SMALL = Preprocessing(input_shape=(3, 8, 8), resize=None)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], {}),
        (["num_classes=5"], {"num_classes": 5}),
        (["num_classes=5 width=0.5", "name=abc"], {"num_classes": 5, "width": 0.5, "name": "abc"}),
        (["a=true b=false c=null"], {"a": True, "b": False, "c": None}),
        (["a=True b=False c=None"], {"a": True, "b": False, "c": None}),
        (['a="5"'], {"a": "5"}),
        (["a=b=c d="], {"a": "b=c", "d": ""}),
    ],
)
def test_values_are_json_or_text(words, expected):
    found = arguments(words)
    assert found == expected
    assert list(map(type, found.values())) == list(map(type, expected.values()))


@pytest.mark.parametrize(
    ("words", "message"), [(["five"], "cannot read"), (["2x=1"], "cannot read"), (["a=1", "a=2"], "names a twice")]
)
def test_other_words_are_refused(words, message):
    with pytest.raises(ModelError, match=message) as caught:
        arguments(words)
    assert caught.value.hint


@pytest.mark.parametrize("value", [[1, 2], {"a": 1}, float("nan"), float("inf"), object()])
def test_values_that_a_run_could_not_keep_are_refused(value):
    with pytest.raises(ModelError, match="no text, number"):
        load_model(FACTORY, arch_args={"width": value}, input_size=8)


@pytest.fixture
def wide(tmp_path):
    network = made.net(num_classes=5, width=6)
    return made.by_torch(network.state_dict)(tmp_path), network


def test_a_factory_is_called_with_them(wide):
    path, network = wide
    args = {"num_classes": 5, "width": 6}
    for found in (
        load_model(path, arch=FACTORY, arch_args=args, input_size=8),
        load_model(FACTORY, weights=str(path), arch_args=args, input_size=8),
    ):
        assert found.architecture == Architecture(kind="factory", name=FACTORY, options=args)
        assert same_state(found.module, network.state_dict())
    assert load_model(FACTORY, arch_args={"width": 9}, input_size=8).module.fc.in_features == 9


def test_arguments_that_a_factory_does_not_take(wide):
    with pytest.raises(ModelError, match="cannot be called with depth=3") as caught:
        load_model(wide[0], arch=FACTORY, arch_args={"depth": 3})
    assert "(num_classes=3, width=4)" in caught.value.hint


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        (None, {}, "no architecture"),
        (None, {"arch": FACTORY, "num_classes": 3}, "has 5 classes, not 3"),
        ("squeezenet1_1", {"weights": "DEFAULT"}, "beside the published weights"),
    ],
)
def test_where_they_make_no_sense(wide, source, options, message):
    with pytest.raises(ModelError, match=message):
        load_model(source or wide[0], arch_args={"num_classes": 5, "width": 6}, input_size=8, **options)


def test_torchvision_takes_its_own(tmp_path):
    from torchvision import models

    network = models.mobilenet_v2(num_classes=3, width_mult=0.25).eval()
    path = made.by_torch(network.state_dict)(tmp_path)
    found = load_model(path, arch="mobilenet_v2", arch_args={"width_mult": 0.25}, input_size=32)
    assert found.architecture.options == {"width_mult": 0.25, "num_classes": 3}
    assert same_state(found.module, network.state_dict())
    with pytest.raises(ModelError, match="do not fit mobilenet_v2: shape of"):
        load_model(path, arch="mobilenet_v2", input_size=32)
    with pytest.raises(ModelError, match="width_multiple"):
        load_model(path, arch="mobilenet_v2", arch_args={"width_multiple": 0.25})


def test_no_argument_makes_torchvision_download():
    with pytest.raises(ModelError, match="no such option: weights_backbone"):
        build(Architecture(kind="torchvision", name="fcn_resnet50", options={"weights_backbone": "DEFAULT"}))


# --- kept with a run


@pytest.fixture
def run(tmp_path):
    architecture = Architecture(kind="factory", name=FACTORY, options={"num_classes": 5, "width": 8})
    inputs = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    model, plans = pruned(made.net(num_classes=5, width=8), inputs)
    topocompress.save(tmp_path / "run", model, plans=plans, preprocessing=SMALL, architecture=architecture)
    return tmp_path / "run", model, inputs


KEPT = {"num_classes": 5, "width": 8}


@pytest.mark.parametrize(("arch", "args"), [(FACTORY, KEPT), (made.Net, KEPT), (lambda: made.Net(5, 8), None)])
def test_loading_a_run_takes_them_from_its_caller_again(run, arch, args):
    path, model, inputs = run
    found = load_run(path, arch=arch, arch_args=args)
    assert torch.equal(found.module(inputs), model(inputs))
    assert found.architecture.options == KEPT
    assert open_model(path, arch=arch, arch_args=args).history


@pytest.mark.parametrize("args", [None, {}, {"num_classes": 5}, {**KEPT, "width": 9}, {**KEPT, "more": 1}])
def test_what_a_file_says_is_never_passed_to_a_factory(run, monkeypatch, args):
    called = []
    monkeypatch.setattr(made, "Net", lambda **options: called.append(options))
    with pytest.raises(ArtifactError, match="num_classes=5, width=8") as caught:
        load_run(run[0], arch=FACTORY, arch_args=args)
    assert not called
    assert "num_classes" not in caught.value.hint


def test_no_message_offers_what_a_file_names_as_a_command(run):
    edited(run[0], lambda m: m["architecture"].update(kind="object", name="runpy:run_path", options={"path_name": "x"}))
    with pytest.raises(ArtifactError) as caught:
        load_run(run[0])
    assert "runpy" not in caught.value.hint


@pytest.mark.parametrize("value", [[1], {"a": 1}, {"__reduce__": "x"}])
def test_a_run_with_other_values_is_refused(run, value):
    path, _, _ = run
    edited(path, lambda manifest: manifest["architecture"]["options"].update(width=value))
    with pytest.raises(ArtifactError, match="the argument width="):
        load_run(path, arch=FACTORY)


def test_a_run_says_itself_how_it_is_built(run):
    path, _, _ = run
    assert json.loads((path / "plan.json").read_text())["architecture"]["options"] == {"num_classes": 5, "width": 8}
    for option in ({"weights_key": "ema"}, {"weights": "w.pt"}):
        with pytest.raises(ModelError, match="beside the run directory"):
            open_model(path, arch=FACTORY, arch_args=KEPT, **option)
    assert open_model(path, arch=FACTORY, arch_args=KEPT, weights_key=None, trust_pickle=False).history
