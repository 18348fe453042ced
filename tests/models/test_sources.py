"""What a user writes as a model, before torch is loaded."""

import pytest

from topocompress.errors import ModelError
from topocompress.models.architectures import dense_names, torchvision_names
from topocompress.models.sources import check_source, known_names


def test_the_names_of_torchvision_are_known_without_it():
    assert {"digits", *torchvision_names(), *dense_names()} <= known_names()


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("nosuch.pt", {}, "nosuch.pt does not exist"),
        ("folder/nosuch", {}, "does not exist"),
        ("resnet18", {}, "without weights is untrained"),
        ("resnet18x", {}, "neither a file nor a known model"),
        ("resnet18", {"weights": "folder/nosuch.pt"}, "nosuch.pt does not exist"),
        ("empty.pt", {}, "is empty"),
        ("text.pt", {}, "not a PyTorch checkpoint"),
        ("resnet18", {"weights": "text.pt"}, "not a PyTorch checkpoint"),
        ("digits", {"arch": "resnet18x"}, "unknown architecture"),
        (
            "digits",
            {"arch": "mynets.small.build"},
            r"unknown architecture 'mynets.small.build'\nDid you mean mynets.small:build",
        ),
        ("digits", {"arch": "own"}, r"unknown architecture 'own'\nName the function or class in own.py, too: own:NAME"),
        ("digits", {"arch": "own.py"}, r"Name the function or class in own.py, too: own:NAME"),
        ("digits", {"arch": "own.py:build"}, r"names a file\nLeave out .py: own:build"),
        ("own.py:build", {}, r"names a file\nLeave out .py: own:build"),
        (".", {}, "is a directory"),
    ],
)
def test_what_is_no_model_is_refused(tmp_path, monkeypatch, model, options, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.pt").touch()
    (tmp_path / "own.py").touch()
    (tmp_path / "text.pt").write_text("weights")
    with pytest.raises(ModelError, match=message) as caught:
        check_source(model, **options)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("digits", {}),
        ("resnet18", {"weights": "DEFAULT"}),
        ("resnet18", {"weights": "ResNet18_Weights.IMAGENET1K_V1"}),
        ("timm:resnet10t", {}),
        ("mynets.small:build", {}),
        ("run", {}),
    ],
)
def test_what_may_be_one_is_left_to_loading(tmp_path, monkeypatch, model, options):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "plan.json").write_text("{}")
    check_source(model, **options)
