"""Cells of the study, which are those of ``compare``; scores, recorded steps and the oracle."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from benchmarks.arena import study
from benchmarks.arena.rows import (
    inner_layers,
    name_of,
    plain_of,
)
from benchmarks.arena.scores import read_scores, write_scores
from benchmarks.arena.study import Subject
from benchmarks.arena.work import Worker
from benchmarks.common.cifar_resnet import INNER_ONLY
from benchmarks.common.oracle import blocks, consult
from topocompress.data.loading import Data
from topocompress.training.recipe import Recipe
from topocompress.types import LayerScores, Scores
from topocompress.workflows.compare import compare

SHORT = Recipe(epochs=1, batch_size=16)


def test_a_cell_is_that_of_compare(subject):
    parts = {use: TensorDataset(*images) for use, images in subject.images.items()}
    parts["train"].augmentation = "natural"
    data = Data(
        **parts,
        labelled=True,
        classes=(),
        source="noise",
        note="",
        skipped=(),
        fingerprint="of the calibration samples",
    )
    names = ["persistence+looks=2", "persistence+looks=2@global"]
    expected = compare(
        subject.loaded,
        data,
        criteria=names,
        ratios=[0.5],
        samples=20,
        seeds=2,
        finetune=Recipe(epochs=1),
        reconstruct=False,
        ignore=INNER_ONLY,
        round_to=1,
    )

    for name in names:
        for cell in expected.of(name, 0.5):
            found = subject.cell(name, 0.5, cell.seed, 1)
            assert found["macs"] == pytest.approx(cell.macs / expected.macs)
            measured = [found[stage] for stage in ("removed", "settled", "tuned")]
            assert measured == pytest.approx([cell.removed, cell.settled, cell.tuned], abs=1e-5)
            assert not found["recorded"]
    assert subject.original() == {"accuracy": expected.original, "macs": expected.macs}
    assert "tuned" not in subject.cell("l1", 0.5, 0, 0)


def test_what_a_cell_without_fine_tuning_has_measured_is_taken_over(setting):
    there = {"cell/resnet20/persistence+looks=1+alone=1000@global/0.5/1/0": {"removed": 0.25, "settled": 0.75}}
    row = ("cell", "resnet20", "persistence+looks=1@global", "0.5", "1", "2")
    assert name_of(plain_of(row)) in there

    asked = []

    class Noting(Subject):
        def cell(self, *given):
            asked.append(given)
            return {}

    worker = Worker(setting, there)
    worker._subjects["resnet20"] = Noting("resnet20", setting)
    worker.measured(row)
    assert asked == [("persistence+looks=1@global", 0.5, 1, 2, there[name_of(plain_of(row))])]
    found = Subject("resnet20", setting).cell("l1", 0.5, 0, 0, {"removed": 0.25, "settled": 0.75})
    assert (found["removed"], found["settled"]) == (0.25, 0.75)


def test_recorded_steps_are_the_steps_as_they_are(subject, monkeypatch):
    """Recording itself needs a GPU; what stands in for it warms up and then plays back."""
    played = []

    def recording(model, arguments):
        as_written = model.forward
        model(*arguments)  # moves the statistics of norms

        def forward(images):
            assert images.shape == arguments[0].shape
            played.append(1)
            return as_written(images)

        model.forward = forward

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", recording)
    subject = Subject("resnet20", replace(subject.setting, recorded=True))
    model = subject.loaded.module
    expected, recorded = Subject("resnet20", replace(subject.setting, recorded=False))._tuned(model, SHORT, 0)
    assert not recorded
    found, recorded = subject._tuned(model, SHORT, 0)

    assert recorded
    assert len(played) == 3  # of 4 batches, the last is smaller
    assert [epoch.loss for epoch in found.history] == [epoch.loss for epoch in expected.history]
    for name, value in found.model.state_dict().items():
        assert torch.equal(value, expected.model.state_dict()[name])

    def failing(*_given):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", failing)
    found, recorded = subject._tuned(model, SHORT, 0)
    assert not recorded
    assert found.history[1].loss == expected.history[1].loss


def test_scores_come_from_their_file_once_they_are_there(subject, monkeypatch):
    first = subject.scores("random", 1)
    monkeypatch.setattr(study, "score_groups", None)

    again = subject.scores("random", 1)

    assert list(again.layers) == list(first.layers)
    for layer, scores in first.layers.items():
        assert again.layers[layer].values.tolist() == scores.values.tolist()


def test_scores_are_kept_whole(tmp_path):
    layer = LayerScores(values=np.array([0.1, 1 / 3]), dead=np.array([False, True]))
    scores = Scores(
        criterion="l1", higher="keep", comparable=True, settings={"a": 1}, layers={"x": layer}, samples=3, model="m"
    )
    write_scores(tmp_path / "scores.json.gz", scores)

    found = read_scores(tmp_path / "scores.json.gz")

    assert replace(found, layers={}) == replace(scores, layers={})
    assert found.layers["x"].values.tolist() == [0.1, 1 / 3]
    assert found.layers["x"].dead.tolist() == [False, True]


def test_the_oracle_switches_one_filter_off(setting, subject):
    model = subject.whole
    images, labels = subject.images["evaluation"]
    layer = inner_layers("resnet20")[4]
    assert [name for name, _ in blocks(model)] == inner_layers("resnet20")
    found = Worker(setting, {}).measured(("oracle", "resnet20", layer))
    assert found == consult(model, layer, images, labels)

    block = dict(blocks(model))[layer]
    with torch.no_grad():
        before = model(images).double().log_softmax(1)
        kept = block.conv2.weight[:, 3].clone()
        block.conv2.weight[:, 3] = 0
        after = model(images).double().log_softmax(1)
        block.conv2.weight[:, 3] = kept
    rise = torch.nn.functional.nll_loss(after, labels) - torch.nn.functional.nll_loss(before, labels)
    divergence = (before.exp() * (before - after)).sum(1).mean()
    assert found[3] == pytest.approx([float(rise), float(divergence)], rel=1e-3, abs=1e-7)
