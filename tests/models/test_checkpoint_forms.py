"""What trainers write, and what must come out of it: the deployed weights bit for bit, and a word on the rest."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.helpers import checkpoints as made
from tests.helpers.checkpoint_forms import FORMS
from tests.helpers.weights import same_state
from topocompress.errors import ModelError
from topocompress.models.loading import load_model

FACTORY = "tests.helpers.checkpoints:Net"


def loaded(path, **options):
    """With all that would be assumed of its input given."""
    return load_model(path, arch=FACTORY, input_size=8, mean=(0.5,), std=(0.5,), **options)


@pytest.mark.parametrize("form", FORMS)
def test_forms(tmp_path, form):
    write, expected, words = FORMS[form]
    found = loaded(write(tmp_path))
    counters = {name for name in expected.state_dict() if "num_batches" in name}
    for name, value in expected.state_dict().items():
        assert name in counters or torch.equal(found.module.state_dict()[name], value), name
    for word in words:
        assert word in found.note
    if not words:
        assert found.note == ""
    assert found.architecture.options == {}


@pytest.mark.parametrize(
    ("contents", "key", "expected"),
    [
        (lambda: {"model": made.raw(), "model_ema": made.averaged()}, "model", made.RAW),
        (lambda: {"a": {"b": made.raw()}, "ema": made.averaged()}, "a.b", made.RAW),
        (lambda: {"a.b": made.raw(), "ema": made.averaged()}, "a.b", made.RAW),
        (lambda: (made.raw(), made.averaged()), "1", made.AVERAGED),
        (lambda: made.under("one.", made.raw()) | made.under("two.", made.averaged()), "two", made.AVERAGED),
        (lambda: {"s": made.under("p.q.", made.raw()) | made.under("ema.", made.averaged())}, "s.p.q", made.RAW),
    ],
)
def test_a_key_chooses(tmp_path, contents, key, expected):
    found = loaded(made.by_torch(contents)(tmp_path), weights_key=key)
    assert same_state(found.module, expected.state_dict())
    assert "fits as well" not in found.note


def test_a_wrong_key_lists_what_is_there(tmp_path):
    path = made.by_torch(lambda: {"model": made.raw(), "a": {"model_ema": made.averaged()}})(tmp_path)
    with pytest.raises(ModelError, match="no weights under 'ema'") as caught:
        loaded(path, weights_key="ema")
    assert "model, a.model_ema" in caught.value.hint


def test_a_key_without_a_file():
    with pytest.raises(ModelError, match="weights_key= ema is given without a file"):
        load_model("digits", weights_key="ema")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_converted_and_said(tmp_path, dtype):
    state = {key: value.to(dtype) if value.is_floating_point() else value for key, value in made.raw().items()}
    found = loaded(made.by_torch(lambda: state)(tmp_path))
    assert f"weights converted from {str(dtype).removeprefix('torch.')} to float32" in found.note
    assert all(torch.equal(value, state[key].to(value.dtype)) for key, value in found.module.state_dict().items())


def test_a_class_count_shows(tmp_path):
    path = made.by_torch(lambda: made.net(num_classes=7).state_dict())(tmp_path)
    found = loaded(path)
    assert found.architecture.options == {"num_classes": 7}
    assert "num_classes=7, as the weights show" in found.note
    with pytest.raises(ModelError, match=r"fc\.weight \(7, 4\) instead of \(5, 4\)"):
        loaded(path, arch_args={"num_classes": 5})


def test_recognised_without_a_name(tmp_path):
    """The same for torchvision's networks: prefix, foreign keys, averages."""
    from torchvision import models

    one, two = (models.squeezenet1_1(num_classes=4) for _ in range(2))
    contents = {
        "state_dict": {**made.under("model._orig_mod.", one.state_dict()), "criterion.weight": torch.ones(4)},
        "ema": {**made.under("module.", two.state_dict()), "n_averaged": torch.tensor(3)},
    }
    path = made.by_torch(lambda: contents)(tmp_path)
    found = load_model(path, input_size=64)
    assert (found.architecture.name, found.architecture.options["num_classes"]) == ("squeezenet1_1", 4)
    assert same_state(found.module, two.state_dict())
    assert "'state_dict' fits as well" in found.note
    other = load_model(path, weights_key="state_dict", input_size=64)
    assert same_state(other.module, one.state_dict())
    assert "criterion.weight" in other.note


def test_a_deeper_network_is_not_taken_for_a_shallower_one(tmp_path):
    from torchvision import models

    path = made.by_torch(lambda: made.under("module.", models.resnet34(num_classes=2).state_dict()))(tmp_path)
    assert load_model(path, input_size=64).architecture.name == "resnet34"
    with pytest.raises(ModelError, match=r"do not fit resnet18: unexpected layer1\.2\.conv1\.weight"):
        load_model(path, arch="resnet18")


def test_copies_in_another_precision_are_named(tmp_path):
    contents = {"model": {key: value.double() for key, value in made.raw().items()}, "model_ema": made.averaged()}
    found = loaded(made.by_torch(lambda: contents)(tmp_path))
    assert "'model' fits as well" in found.note


def test_tensors_of_another_kind_beside_the_weights(tmp_path):
    contents = {"state_dict": made.raw(), "mask": torch.eye(3).to_sparse(), "args": made.namespace()}
    found = loaded(made.by_torch(lambda: contents)(tmp_path))
    assert "not read: mask (torch._utils._rebuild_sparse_tensor)" in found.note


# --- what cannot be loaded


class Foreign:
    """An object of a class that no reader knows."""


@pytest.mark.parametrize(
    ("contents", "message", "hint"),
    [
        (made.optimiser, "state of an optimiser", "beside it"),
        (lambda: {"optimizer": made.optimiser(), "epoch": 3}, "state of an optimiser", "beside it"),
        (lambda: made.RAW, r"a whole pickled module \(tests\.helpers\.checkpoints\.Net", "--trust-pickle"),
        # Ultralytics
        (
            lambda: {"model": made.RAW, "ema": made.AVERAGED, "train_args": {}},
            "a whole pickled module",
            "--trust-pickle",
        ),
        (lambda: {"state": Foreign()}, "pickled Python objects", "--trust-pickle"),
        (
            lambda: {**made.raw(), "fc.weight": torch.ones(3, 4).to_sparse()},
            r"fc\.weight is a sparse tensor",
            "float32",
        ),
        (
            lambda: made.raw() | {"fc.bias": torch.ones(3).cfloat()},
            "fc.bias holds complex numbers",
            "real",
        ),
        (
            lambda: made.raw() | {"fc.bias": torch.ones(3).long()},
            "fc.bias is of int64, where",
            "themselves",
        ),
        (lambda: made.raw() | {"fc.bias": torch.ones(3).bool()}, "fc.bias is of bool, where", "themselves"),
        (lambda: list(made.RAW.parameters()), "tensors without names", "state_dict"),
        (lambda: {k: v for k, v in made.raw().items() if k != "fc.bias"}, r"missing fc\.bias", "--arch-args"),
        (lambda: made.under("backbone.", {k: v for k, v in made.raw().items() if "fc" not in k}), "missing fc", ""),
        (lambda: {**made.raw(), "blocks.2.weight": torch.ones(4, 4, 3, 3)}, r"unexpected blocks\.2\.weight", ""),
        (lambda: {**made.raw(), "blocks.0.extra": torch.ones(4)}, r"unexpected blocks\.0\.extra", ""),
        (
            lambda: {**made.raw(), "fc.bias": torch.full((3,), float("nan"))},
            r"fc\.bias \(3,\) holds 3 values",
            "earlier",
        ),
        (lambda: made.net(width=6).state_dict(), r"stem\.0\.weight \(6, 3, 3, 3\) instead of \(4, 3, 3, 3\)", ""),
    ],
)
def test_refused(tmp_path, contents, message, hint):
    with pytest.raises(ModelError, match=message) as caught:
        loaded(made.by_torch(contents)(tmp_path))
    assert hint in caught.value.hint


def test_a_trusted_module_among_others(tmp_path):
    path = made.by_torch(lambda: {"model": made.RAW, "ema": made.AVERAGED})(tmp_path)
    found = load_model(path, trust_pickle=True, input_size=8)
    assert same_state(found.module, made.AVERAGED.state_dict())
    assert "'ema'" in found.note
    assert "'model' fits as well" in found.note
    assert isinstance(found.module, made.Net)


def test_a_network_that_is_a_sequence(tmp_path):
    """Layers without names of their own continue it: more of them are another network."""
    path = made.by_torch(lambda: nn.Sequential(*(nn.Linear(2, 2) for _ in range(3))).state_dict())(tmp_path)
    with pytest.raises(ModelError, match=r"unexpected 2\.weight"):
        load_model(path, arch="tests.helpers.checkpoints:two_layers")
