from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from topocompress.errors import DataError
from topocompress.models.checkpoints import read_checkpoint
from topocompress.models.class_names import given_classes, names_beside, read_class_names
from topocompress.models.loading import load_model

NAMES = ("hen", "cock", "egg")


def beside_weights(folder, outputs):
    return names_beside(read_checkpoint(folder / "model.pt").contents, outputs)


@pytest.mark.parametrize(
    "text",
    [
        "hen\ncock\negg",
        "hen \r\ncock\r\negg\r\n\r\n",
        "\ufeffhen\ncock\negg\n",
        '["hen", "cock", "egg"]',
        '{"cock": 1, "egg": 2, "hen": 0}',
        ' {"2": "egg", "0": "hen", "1": "cock"}',
    ],
)
def test_forms_of_a_file(tmp_path, text):
    (tmp_path / "names").write_text(text, encoding="utf-8")
    assert read_class_names(tmp_path / "names") == NAMES
    assert given_classes(tmp_path / "names", ()) == NAMES
    assert given_classes(str(tmp_path / "names"), ()) == NAMES


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"hen\n\negg", "line 2 is empty"),
        (b"\xff\xfe\x00", "no text in UTF-8"),
        (b'["hen",', "not valid JSON"),
        (b'["hen", 3]', "does not name every output"),
        (b'{"hen": 0, "egg": 2}', "does not name every output"),
        (b'{"hen": 0, "egg": 0}', "does not name every output"),
        (b'{"0": ["n01", "hen"]}', "does not name every output"),
        (b"{}", "does not name every output"),
    ],
)
def test_files_that_do_not_name_every_output(tmp_path, content, message):
    (tmp_path / "names").write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_class_names(tmp_path / "names")
    assert "One name a line" in caught.value.hint


def test_words_go_before_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "by-order").write_text("hen", encoding="utf-8")
    assert given_classes("by-order", ("by-order",)) == "by-order"
    assert given_classes("./by-order", ("by-order",)) == ("hen",)
    with pytest.raises(DataError, match="no such file"):
        given_classes("none", ("by-order",))


@pytest.mark.parametrize(
    "beside",
    [
        {"classes": list(NAMES)},
        {"class_to_idx": {"egg": 2, "hen": 0, "cock": 1}},
        {"idx_to_class": {0: "hen", 1: "cock", 2: "egg"}},
        {"meta": {"CLASSES": NAMES}},
        {"hyper_parameters": {"class_names": list(NAMES), "lr": 0.1}},
    ],
)
def test_names_beside_the_weights(tmp_path, beside):
    torch.save({"state_dict": {"weight": torch.zeros(2)}, "epoch": 3, **beside}, tmp_path / "model.pt")
    assert beside_weights(tmp_path, 3) == NAMES
    assert beside_weights(tmp_path, 4) == ()  # these are of something else


@pytest.mark.parametrize(
    "beside", [{}, {"classes": 3}, {"classes": torch.arange(3)}, {"class_to_idx": {"a": 0, "b": 2, "c": 3}}]
)
def test_nothing_of_use_beside_the_weights(tmp_path, beside):
    torch.save({"weight": torch.zeros(2), **beside}, tmp_path / "model.pt")
    assert beside_weights(tmp_path, 3) == ()


def factory():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))


@pytest.mark.parametrize("through", ["checkpoint", "weights"])
def test_a_checkpoint_brings_its_names(tmp_path, through):
    path = tmp_path / "model.pt"
    torch.save({"model": factory().state_dict(), "classes": list(NAMES)}, path)
    spec = f"{__name__}:factory"
    loaded = load_model(path, arch=spec) if through == "checkpoint" else load_model(spec, weights=str(path))
    assert loaded.classes == NAMES


class Settings:
    pass


def test_pickled_objects_beside_the_names_are_read_as_data(tmp_path):
    torch.save({"weight": torch.zeros(2), "classes": list(NAMES), "settings": Settings()}, tmp_path / "model.pt")
    assert beside_weights(tmp_path, 3) == NAMES


def test_json_of_names_with_quotes(tmp_path):
    (tmp_path / "names.json").write_text(json.dumps(["crow's nest", "ø"]), encoding="utf-8")
    assert read_class_names(tmp_path / "names.json") == ("crow's nest", "ø")


def test_a_number_that_is_named_twice(tmp_path):
    (tmp_path / "names.json").write_text('{"0": "a", "1": "b", "1": "c"}', encoding="utf-8")
    with pytest.raises(DataError, match="twice"):
        read_class_names(tmp_path / "names.json")
