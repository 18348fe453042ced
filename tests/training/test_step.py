"""Fine-tuning as a step: which recipe fits which data, what it trains on, what is kept of it."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from tests.helpers.tiny_nets import tiny_detector
from tests.helpers.trained import trained, training_part
from topocompress.data.loading import Data
from topocompress.errors import DataError
from topocompress.training import step
from topocompress.training.recipe import Recipe

SHORT = Recipe(epochs=1, lr=0.05, batch_size=16)


def samples(start: int, stop: int, *, labels: bool) -> TensorDataset:
    images, targets = (tensor[start:stop] for tensor in training_part().tensors)
    return TensorDataset(images, targets if labels else torch.full_like(targets, -1))


def data(*, labels: bool, train: bool = True) -> Data:
    return Data(
        calibration=samples(0, 40, labels=labels),
        train=samples(40, 120, labels=labels) if train else None,
        evaluation=samples(120, 140, labels=labels),
        labelled=labels,
        classes=(),
        source="made up",
        note="",
        skipped=(),
        fingerprint="sha256:0",
    )


def tuned(model: nn.Module, found: Data, recipe: Recipe, **options):
    given = {"seed": 0, "folder": None, "resume": False, "progress": lambda *_: None, **options}
    return step.tuned(model, trained(), found, recipe, **given)


def damaged() -> nn.Module:
    model = trained()
    with torch.no_grad():
        model[3].weight[:8] = 0
    return model


def test_a_number_is_a_recipe_and_labels_keep_their_weight():
    model = trained()
    assert step.fitted(3, model, data(labels=True)) == Recipe(epochs=3)
    half = Recipe(epochs=3, distill=0.5)
    assert step.fitted(half, model, data(labels=True)) is half
    assert step.fitted(half, model, data(labels=False)) == replace(half, distill=1.0)
    assert step.fitted(0, model, data(labels=False, train=False)).epochs == 0


def test_without_labels_distillation_is_advised():
    with pytest.raises(DataError, match=r"needs labelled images(.|\n)*distill="):
        step.fitted(1, trained(), data(labels=False))


def test_calibration_samples_alone_do_for_labels_too():
    assert step.fitted(1, trained(), data(labels=True, train=False)).epochs == 1


def test_a_detector_is_not_tuned():
    with pytest.raises(DataError, match="not for detectors"):
        step.fitted(Recipe(epochs=1, distill=1.0), tiny_detector("retinanet"), data(labels=False))


def test_a_precision_the_device_cannot_do_is_refused_before_any_work(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    with pytest.raises(DataError, match="fp16 needs a GPU"):
        step.fitted(Recipe(epochs=1, precision="fp16"), trained(), data(labels=True))


def test_calibration_samples_serve_only_where_nothing_else_is_left():
    recipe = replace(SHORT, distill=1.0)
    left = tuned(damaged(), data(labels=False), recipe)
    only = tuned(damaged(), data(labels=False, train=False), recipe)
    assert (left.validation_samples, only.validation_samples) == (8, 4)


def stop(step: str, *_: object) -> None:
    if step.startswith("fine-tuning: epoch 2"):
        raise KeyboardInterrupt


def state_of(model: nn.Module) -> list[Tensor]:
    return list(model.state_dict().values())


def test_what_is_kept_says_so_and_serves_an_equal_run_only(tmp_path):
    model, found, recipe = damaged(), data(labels=True), replace(SHORT, epochs=3)
    folder = step.kept(tmp_path, model, trained(), found, recipe, 0)
    assert folder is not None
    with pytest.raises(KeyboardInterrupt, match="epochs that are finished are kept; --resume continues"):
        tuned(model, found, recipe, folder=folder, progress=stop)
    again = tuned(model, found, recipe, folder=folder, resume=True)
    assert again.resumed == 1
    whole = tuned(model, found, recipe)
    assert all(torch.equal(a, b) for a, b in zip(state_of(again.model), state_of(whole.model), strict=True))

    def other(**changes):
        given = {"model": model, "original": trained(), "data": found, "recipe": recipe, "seed": 0, **changes}
        return step.kept(tmp_path, *given.values())

    assert other() == folder
    changes = [{"seed": 1}, {"recipe": SHORT}, {"model": trained()}, {"original": damaged()}]
    changes.append({"data": replace(found, fingerprint="sha256:1")})
    assert len({other(**change) for change in changes} | {folder}) == 6


def test_with_nothing_kept_nothing_is_promised(tmp_path):
    def at_once(*_: object) -> None:
        raise KeyboardInterrupt

    for folder in (None, tmp_path):
        with pytest.raises(KeyboardInterrupt) as stopped:
            tuned(damaged(), data(labels=True), SHORT, folder=folder, progress=at_once)
        assert not stopped.value.args


def test_without_a_cache_that_can_be_written_nothing_is_kept(tmp_path):
    (tmp_path / "file").touch()
    given = (trained(), trained(), data(labels=True), SHORT, 0)
    assert step.kept(None, *given) is None
    assert step.kept(tmp_path / "file", *given) is None
