"""Scores that are kept: resumed after an interruption, reused when nothing has changed, and never otherwise."""

import inspect
import json
import os

import numpy as np
import pytest
import torch

from tests.helpers.cloud_criteria import Failing, Spread
from tests.helpers.scoring_nets import LAYERS, network, noise, plain
from topocompress.criteria import Betti
from topocompress.errors import KeptWarning
from topocompress.network.capture import Maps
from topocompress.scoring.dispatch import open_store, score_layers
from topocompress.scoring.store import ScoreStore, default_cache
from topocompress.types import LayerScores

KEY = {"weights": "sha256:1", "settings": {"scale": "quantile:0.2", "dimensions": [0, 1]}}


def layer(*values: float) -> LayerScores:
    numbers = np.array(values)
    return LayerScores(values=numbers, parts={"beta0": numbers / 3}, dead=numbers > 1)


def same(one: LayerScores, other: LayerScores) -> bool:
    parts = all(np.array_equal(one.parts[name], other.parts[name]) for name in {*one.parts, *other.parts})
    return parts and np.array_equal(one.values, other.values) and np.array_equal(one.dead, other.dead)


def finished(cache, key=KEY) -> ScoreStore:
    store = ScoreStore(cache, key, resume=False)
    store.save("a", layer(0.1, 2.0))
    store.save("features.0/../x", layer(1 / 3))
    store.finish()
    return store


def test_what_is_kept_comes_back_to_the_last_bit(tmp_path):
    finished(tmp_path)

    store = ScoreStore(tmp_path, KEY, resume=False)

    found = store.load()
    assert set(found) == {"a", "features.0/../x"}
    assert same(found["a"], layer(0.1, 2.0))
    assert same(found["features.0/../x"], layer(1 / 3))


def test_nothing_is_there_at_first_and_nothing_is_written_by_looking(tmp_path):
    store = ScoreStore(tmp_path / "cache", KEY, resume=True)

    assert store.load() == {}
    assert not (tmp_path / "cache").exists()


def test_an_interrupted_store_is_continued_only_on_request(tmp_path):
    ScoreStore(tmp_path, KEY, resume=False).save("a", layer(1.0))

    assert list(ScoreStore(tmp_path, KEY, resume=True).load()) == ["a"]
    assert ScoreStore(tmp_path, KEY, resume=False).load() == {}
    assert list(ScoreStore(tmp_path, KEY, resume=True).load()) == ["a"]  # nor is it dropped


@pytest.mark.parametrize(
    "other", [{"weights": "sha256:2"}, {"settings": {"scale": "quantile:0.3", "dimensions": [0, 1]}}, {"more": 1}]
)
def test_another_key_is_another_store(other, tmp_path):
    finished(tmp_path)

    assert ScoreStore(tmp_path, {**KEY, **other}, resume=True).load() == {}
    assert len(ScoreStore(tmp_path, dict(reversed(KEY.items())), resume=True).load()) == 2


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "null", "7", '{"layer": "a"}', "\x00\x01"),
        '{"layer": "a", "values": ["x"], "parts": {}, "dead": [false]}',
        '{"layer": "a", "values": [1.0, 2.0], "parts": {}, "dead": [false]}',
        '{"layer": "a", "values": [NaN], "parts": {}, "dead": [false]}',
        '{"layer": "a", "values": [1.0], "parts": [], "dead": [false]}',
    ],
)
def test_what_cannot_be_read_counts_as_missing(text, tmp_path):
    store = finished(tmp_path)
    for path in store.folder.glob("*.json"):
        if json.loads(path.read_text(encoding="utf-8"))["layer"] == "a":
            path.write_text(text, encoding="utf-8")

    with pytest.warns(KeptWarning, match="not used, and done again"):
        assert list(ScoreStore(tmp_path, KEY, resume=False).load()) == ["features.0/../x"]


def test_edited_and_foreign_entries_count_as_missing_and_are_said_in_one_line(tmp_path):
    store, other = finished(tmp_path), finished(tmp_path, {**KEY, "more": 1})
    first, second = sorted(store.folder.glob("*.json"))
    first.write_text(first.read_text(encoding="utf-8").replace("2.0", "3.0").replace("0.3333", "0.4444"))
    (other.folder / second.name).replace(second)

    with pytest.warns(KeptWarning, match="2 files of .* hash does not match") as said:
        assert ScoreStore(tmp_path, KEY, resume=False).load() == {}
    assert len(said) == 1


def test_the_oldest_of_too_many_stores_go(tmp_path, monkeypatch):
    monkeypatch.setattr("topocompress.scoring.store._KEPT", 3)
    folders = []
    for number in range(5):
        store = ScoreStore(tmp_path, {"number": number}, resume=False)
        store.save("a", layer(1.0))
        store.finish()
        os.utime(store.folder, (1000 + number, 1000 + number))
        folders.append(store.folder)
    last = finished(tmp_path)

    assert [folder.exists() for folder in folders] == [False, False, False, True, True]
    assert last.folder.exists()


def test_the_cache_is_a_folder_of_the_user(monkeypatch, own_cache):
    assert default_cache() == own_cache / "scores"
    monkeypatch.delenv("TOPOCOMPRESS_CACHE")
    assert "topocompress" in default_cache().parts
    assert default_cache().is_absolute()


# --- runs ---


class Counted(Spread):
    """Mean distance; says which layers it saw (higher: keep)."""

    def __init__(self, seen: list[int], settings=()) -> None:
        self._seen, self._settings = seen, dict(settings)

    def settings(self):
        return self._settings

    def score(self, clouds, *, layer_spread=None, device="cpu"):
        self._seen += [clouds.shape[2]] * len(clouds)
        return super().score(clouds)


def counted_network():
    model, runs = network(), []
    model[0].register_forward_hook(lambda *_: runs.append(1))
    return model, runs


def test_an_interrupted_run_scores_what_is_missing_and_ends_the_same(tmp_path):
    # The layers' points have 25, 9 and 1 features; the third layer fails.
    key, expected = {"run": 1}, score_layers(network(), LAYERS, Spread(), noise())
    with pytest.raises(ZeroDivisionError):
        score_layers(network(), LAYERS, Failing(1), noise(), store=ScoreStore(tmp_path, key, resume=False))
    store = ScoreStore(tmp_path, key, resume=True)
    assert set(store.load()) == {"0", "3"}
    seen = []

    scores = score_layers(network(), LAYERS, Counted(seen), noise(), store=store)

    assert seen == [1, 1, 1]
    assert plain(scores) == plain(expected)
    assert list(scores.layers) == list(LAYERS)
    assert scores.run["layers_reused"] == 2
    assert set(ScoreStore(tmp_path, key, resume=False).load()) == set(LAYERS)


def test_an_interruption_between_filters_keeps_finished_layers(tmp_path):
    key, expected = {"run": 1}, score_layers(network(), LAYERS, Betti(scale="layer:0.6"), noise())

    def stop(step, done, total):
        if step == "scoring filters" and done > 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score_layers(
            network(),
            LAYERS,
            Betti(scale="layer:0.6"),
            noise(),
            store=ScoreStore(tmp_path, key, resume=False),
            progress=stop,
        )
    store = ScoreStore(tmp_path, key, resume=True)
    assert list(store.load()) == ["0"]

    assert plain(score_layers(network(), LAYERS, Betti(scale="layer:0.6"), noise(), store=store)) == plain(expected)


def test_without_resuming_an_interrupted_run_starts_anew(tmp_path):
    key, seen = {"run": 1}, []
    with pytest.raises(ZeroDivisionError):
        score_layers(network(), LAYERS, Failing(1), noise(), store=ScoreStore(tmp_path, key, resume=False))

    score_layers(network(), LAYERS, Counted(seen), noise(), store=ScoreStore(tmp_path, key, resume=False))

    assert sorted(seen) == [1] * 3 + [9] * 4 + [25] * 5


def test_finished_scores_are_used_without_scoring(tmp_path):
    key, seen = {"run": 1}, []
    first = score_layers(network(), LAYERS, Spread(), noise(), store=ScoreStore(tmp_path, key, resume=False))
    model, runs = counted_network()

    again = score_layers(model, LAYERS, Counted(seen), noise(), store=ScoreStore(tmp_path, key, resume=False))

    assert seen == []
    assert len(runs) <= 1  # the shapes of the maps, from one sample
    assert plain(again) == plain(first)
    assert again.run["layers_reused"] == 3


def test_a_layer_of_another_width_is_scored_again(tmp_path):
    store, seen = ScoreStore(tmp_path, {"run": 1}, resume=False), []
    store.save("3", layer(1.0))
    store.finish()

    with pytest.warns(KeptWarning, match="it has other filters or parts"):
        scores = score_layers(network(), ["3"], Counted(seen), noise(), store=store)

    assert seen == [9] * 4
    assert len(scores.layers["3"].values) == 4


def folder(tmp_path, model=None, criterion=None, data="sha256:d", **options):
    return open_store(tmp_path, model or network(), criterion or Betti(), data, **options).folder


def test_a_store_is_found_by_model_criterion_settings_and_data(tmp_path):
    trained = network()
    with torch.no_grad():
        trained[0].weight[0, 0, 0, 0] += 1
    other = network()
    other[2] = torch.nn.ReLU6()

    folders = [
        folder(tmp_path),
        folder(tmp_path, trained),
        folder(tmp_path, other),  # the same weights do something else
        folder(tmp_path, criterion=Betti(scale="quantile:0.3")),
        folder(tmp_path, criterion=Betti(dimensions=(0,))),
        folder(tmp_path, criterion=Spread()),
        folder(tmp_path, data="sha256:e"),
        folder(tmp_path, maps=Maps(size=4)),
        folder(tmp_path, maps=Maps(sketch=4)),
    ]

    assert len(set(folders)) == len(folders)
    assert folder(tmp_path) == folders[0]
    assert folder(tmp_path, criterion=Betti(backend="ripser")) == folders[0]


def test_an_edited_criterion_or_network_is_another_store(tmp_path, monkeypatch):
    def folder():
        return open_store(tmp_path, network(), Spread(), "data").folder

    before = folder()
    assert folder() == before

    source = inspect.getsource
    monkeypatch.setattr(inspect, "getsource", lambda cls: source(cls) + ("# edited" if cls is Spread else ""))
    assert folder() != before
    monkeypatch.setattr(inspect, "getsource", lambda cls: source(cls) + ("" if cls is Spread else "# edited"))
    assert folder() != before
