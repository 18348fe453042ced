"""Fine-tuning that is stopped, killed or finished, and continued: always the weights of a run without interruption."""

import json
import random
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

from tests.helpers.processes import python
from tests.helpers.trained import trained, training_part, untrained
from tests.helpers.weights import same_state, state_of
from topocompress.errors import DataError, KeptWarning
from topocompress.training.checkpoints import Snapshot, TuningStore
from topocompress.training.finetuning import finetune
from topocompress.training.recipe import Recipe


class Noisy(Dataset):
    """Samples that draw from all three random states, as augmentations of one's own do."""

    def __init__(self, samples: TensorDataset) -> None:
        self.samples, self.targets = samples, samples.tensors[1]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, label = self.samples[index]
        return image + 0.01 * (random.random() + np.random.rand() + torch.rand(())), label  # noqa: NPY002


NOISY = Noisy(TensorDataset(*(tensor[:150] for tensor in training_part().tensors)))
LONG = Recipe(epochs=4, lr=0.1, batch_size=32, accumulate=2, schedule="one-cycle")


def without_seconds(result) -> list:
    return [replace(epoch, seconds=0.0) for epoch in result.history]


def stop_at(step: int):
    def stop(done: int, *_: object) -> None:
        if done == step:
            raise KeyboardInterrupt

    return stop


@pytest.mark.parametrize(("step", "resumed"), [(2, 0), (4, 1), (8, 2), (12, 3)])
def test_an_interrupted_training_ends_as_if_it_had_not_been(step, resumed, tmp_path):
    whole = finetune(untrained(), NOISY, LONG)
    with pytest.raises(KeyboardInterrupt):
        finetune(untrained(), NOISY, LONG, checkpoints=tmp_path, progress=stop_at(step))
    again = finetune(untrained(), NOISY, LONG, checkpoints=tmp_path, resume=True)
    assert again.resumed == resumed
    assert same_state(again.model, state_of(whole.model))
    assert without_seconds(again) == without_seconds(whole)
    assert (again.best_epoch, whole.resumed) == (whole.best_epoch, 0)


def test_a_finished_training_is_not_repeated(tmp_path):
    first = finetune(untrained(), NOISY, LONG, checkpoints=tmp_path)
    again = finetune(untrained(), NOISY, LONG, checkpoints=tmp_path, resume=True, progress=stop_at(1))
    assert again.resumed == 4
    assert again.history == first.history
    assert same_state(again.model, state_of(first.model))


def test_patience_that_ran_out_before_the_interruption_has_run_out_after_it(tmp_path):
    data = training_part()
    wrong = TensorDataset(data.tensors[0][:200], (data.tensors[1][:200] + 1) % 10)
    recipe = Recipe(epochs=9, lr=0.05, batch_size=64, patience=1)
    first = finetune(trained(), wrong, recipe, validation=data, checkpoints=tmp_path)
    again = finetune(trained(), wrong, recipe, validation=data, checkpoints=tmp_path, resume=True)
    assert len(first.history) == len(again.history) == 2


def test_without_resuming_it_starts_anew_and_other_settings_are_refused(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        finetune(untrained(), NOISY, LONG, checkpoints=tmp_path, progress=stop_at(4))
    for change in ({"seed": 1}, {"identity": "other"}):
        with pytest.raises(DataError, match="another training"):
            finetune(untrained(), NOISY, LONG, checkpoints=tmp_path, resume=True, **change)
    with pytest.raises(DataError, match="another training"):
        finetune(untrained(), NOISY, replace(LONG, lr=0.2), checkpoints=tmp_path, resume=True)
    assert finetune(untrained(), NOISY, LONG, checkpoints=tmp_path).resumed == 0


def of_a_bad_state(change):
    def spoil(snapshot: Snapshot) -> Snapshot:
        return replace(snapshot, state=change(json.loads(json.dumps(snapshot.state))))

    return spoil


def without(part: str, name: str):
    return lambda snapshot: replace(
        snapshot,
        tensors={
            key: {each: tensor for each, tensor in group.items() if (key, each) != (part, name)}
            for key, group in snapshot.tensors.items()
        },
    )


SPOILED = {
    "no history": of_a_bad_state(lambda state: {**state, "history": []}),
    "epochs that there are not": of_a_bad_state(lambda state: {**state, "best_epoch": 9}),
    "a state of another generator": of_a_bad_state(lambda state: {**state, "shuffle": "00ff"}),
    "random numbers out of range": of_a_bad_state(
        lambda state: {**state, "random": [{**state["random"][0], "python": [3, [2**40] * 625, None]}]}
    ),
    "too few random numbers": of_a_bad_state(
        lambda state: {**state, "random": [{**state["random"][0], "numpy": ["MT19937", [1], 0, 0, 0.0]}]}
    ),
    "something more": of_a_bad_state(lambda state: {**state, "more": 1}),
    "weights that are missing": without("model", "0.weight"),
    "best weights that are missing": without("best", "0.weight"),
    "momentum of another parameter": lambda snapshot: replace(
        snapshot, tensors={**snapshot.tensors, "momentum": {"0": torch.zeros(())}}
    ),
}


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED)
def test_epochs_that_do_not_verify_are_said_and_trained_again(spoil, tmp_path, monkeypatch):
    short = replace(LONG, epochs=2)
    save = TuningStore.save
    with monkeypatch.context() as patch:  # signed as ours are
        patch.setattr(TuningStore, "save", lambda self, snapshot: save(self, spoil(snapshot)))
        whole = finetune(untrained(), NOISY, short, checkpoints=tmp_path)
    with pytest.warns(KeptWarning, match="not used, and done again: tuning.safetensors of"):
        again = finetune(untrained(), NOISY, short, checkpoints=tmp_path, resume=True)
    assert again.resumed == 0
    assert same_state(again.model, state_of(whole.model))
    assert without_seconds(again) == without_seconds(whole)


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.training.test_interrupted import LONG, NOISY, untrained
from topocompress.training import checkpoints
from topocompress.training.finetuning import finetune

die = lambda: os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[2] == "writing":
    save = checkpoints.save_file
    def half(tensors, path, metadata):
        save(tensors, path, metadata=metadata)
        if '"epoch": 2' in metadata["state"]:
            Path(path).write_bytes(Path(path).read_bytes()[:999])
            die()
    checkpoints.save_file = half
progress = lambda done, *_: die() if sys.argv[2] == "mid-epoch" and done == 8 else None
finetune(untrained(), NOISY, LONG, checkpoints=Path(sys.argv[1]), progress=progress)
"""


@pytest.mark.parametrize(("moment", "resumed"), [("mid-epoch", 2), ("writing", 1)])
def test_a_killed_training_is_continued_to_the_same_weights_bit_for_bit(moment, resumed, tmp_path):
    done = python("-c", KILLED, tmp_path, moment, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    again = finetune(untrained(), NOISY, LONG, checkpoints=tmp_path, resume=True)
    assert again.resumed == resumed
    assert same_state(again.model, state_of(finetune(untrained(), NOISY, LONG).model))
