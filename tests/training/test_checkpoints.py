import os

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from topocompress.errors import DataError, KeptWarning, OutputError
from topocompress.training.checkpoints import FILE, Snapshot, TuningStore, optimiser_tensors, place, restore_optimiser
from topocompress.training.trainer import optimiser

RUN = {"model": "sha256:1", "seed": 0}
MOST = 10**6


def snapshot(epoch=1):
    shared = torch.arange(4.0)
    return Snapshot(
        tensors={"model": {"a.weight": shared, "tied": shared}, "best": {"a.weight": shared + 1}},
        state={"history": [{"epoch": epoch, "loss": 0.1 + 0.2}], "random": [{"torch": "00ff"}]},
    )


def test_what_was_saved_is_loaded(tmp_path):
    store = TuningStore(tmp_path / "run", RUN)
    assert store.load(MOST) is None
    assert store.save(snapshot(1))
    assert store.save(snapshot(2))
    found = TuningStore(tmp_path / "run", RUN).load(MOST)
    assert found.state == snapshot(2).state
    assert {part: sorted(group) for part, group in found.tensors.items()} == {
        "best": ["a.weight"],
        "model": ["a.weight", "tied"],
    }
    assert torch.equal(found.tensors["best"]["a.weight"], torch.arange(4.0) + 1)
    assert [path.name for path in (tmp_path / "run").iterdir()] == [FILE]  # one epoch at a time, nothing half-written


def test_the_file_is_plain_safetensors(tmp_path):
    TuningStore(tmp_path, RUN).save(snapshot())
    assert set(load_file(tmp_path / FILE)) == {"model/a.weight", "model/tied", "best/a.weight"}


def test_another_training_is_refused(tmp_path):
    TuningStore(tmp_path, RUN).save(snapshot())
    with pytest.raises(DataError, match="of another training: network, samples, settings or seed differ"):
        TuningStore(tmp_path, {**RUN, "seed": 1}).load(MOST)
    with pytest.warns(KeptWarning, match="of another training"):
        assert TuningStore(tmp_path, {**RUN, "seed": 1}, cached=True).load(MOST) is None


@pytest.mark.parametrize("damage", ["cut", "noise", "foreign", "a bit", "large"])
def test_a_damaged_file_counts_as_none_and_is_said(tmp_path, damage):
    store = TuningStore(tmp_path, RUN)
    store.save(snapshot())
    content = store.path.read_bytes()
    if damage == "foreign":
        save_file({"a": torch.zeros(1)}, store.path)
    elif damage == "a bit":
        store.path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "large":
        os.truncate(store.path, 10**9)
    else:
        store.path.write_bytes(content[: len(content) // 2] if damage == "cut" else b"no tensors" * 30)
    with pytest.warns(KeptWarning, match=f"not used, and done again: {FILE} of"):
        assert store.load(MOST) is None


def test_a_folder_that_cannot_be_made_is_refused_and_one_that_vanishes_is_not(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot make"):
        TuningStore(tmp_path / "file" / "run", RUN)
    store = TuningStore(tmp_path / "run", RUN)
    (tmp_path / "run").rmdir()
    (tmp_path / "run").touch()
    assert not store.save(snapshot())


def test_each_training_has_a_place_and_the_oldest_others_go(tmp_path):
    folders = [place(tmp_path, {**RUN, "seed": seed}) for seed in range(16)]
    assert len(set(folders)) == 16
    assert place(tmp_path, dict(reversed(RUN.items()))) == folders[0]
    for age, folder in enumerate(folders):
        folder.mkdir(parents=True)
        os.utime(folder, (age, age))
    assert place(tmp_path, RUN) == folders[0]
    assert {path for path in folders if path.exists()} == {folders[0], *folders[4:]}


def test_momentum_goes_back_to_its_parameter():
    def trained():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
        model[0].weight.requires_grad_(False)
        sgd = optimiser(
            [each for each in model.parameters() if each.requires_grad], lr=0.1, momentum=0.9, weight_decay=0
        )
        return model, sgd

    def step(model, sgd):
        sgd.zero_grad()
        model(torch.ones(1, 3)).square().sum().backward()
        sgd.step()

    with torch.random.fork_rng():
        (model, sgd), (other, fresh) = trained(), trained()
    step(model, sgd)
    found = optimiser_tensors(sgd)
    assert len(found) == 3
    other.load_state_dict(model.state_dict())
    restore_optimiser(fresh, {name: tensor.clone() for name, tensor in found.items()})
    step(model, sgd)
    step(other, fresh)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    assert optimiser_tensors(optimiser(list(model.parameters()), lr=1, momentum=0.5, weight_decay=0)) == {}
