"""Networks that set hooks, or read channels at times only: pruned, trained, saved, and loaded where nothing has run."""

import subprocess
import sys

import pytest
import torch
from torch.utils.data import TensorDataset

import topocompress
from tests.helpers.living_nets import (
    HOOKED,
    READ_AT_TIMES,
    HookedByClosure,
    OnBrightImages,
    OnOneImage,
    SharedHead,
    TrainedAuxiliary,
    TrainedWeights,
    Uncalled,
)
from tests.helpers.tiny_nets import example, seeded
from topocompress.data.loading import Data
from topocompress.surgery.trial import found_on_trial, prunable_groups
from topocompress.types import Preprocessing


def labelled() -> Data:
    images = torch.randn(40, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    samples = TensorDataset(images, torch.arange(40) % 5)
    return Data(
        calibration=samples,
        train=samples,
        evaluation=samples,
        labelled=True,
        classes=tuple("abcde"),
        source="made up",
        note="",
        skipped=(),
        fingerprint="sha256:0",
    )


@pytest.mark.usefixtures("unexported")
@pytest.mark.parametrize("kind", [*HOOKED, *READ_AT_TIMES, SharedHead, OnOneImage, Uncalled])
def test_a_network_that_lives_is_pruned_trained_and_loaded_anew(kind, tmp_path):
    model = seeded(kind)
    result = topocompress.compress(
        model, labelled(), ratio=0.5, criterion="l1", round_to=1, finetune=1, out=tmp_path / "run"
    )
    small = result.model
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in model.parameters())
    again = topocompress.load(tmp_path / "run", arch=kind)
    images = labelled().evaluation.tensors[0]
    odd = images[:4].clone()
    odd[0, 0, 0, 0] = 7
    for batch in (images, images + 3, odd):
        with torch.no_grad():
            assert torch.equal(again(batch), small(batch))
    small.train()(images)


@pytest.mark.parametrize("kind", READ_AT_TIMES)
def test_readers_of_all_modes_and_images_lose_what_goes(kind):
    model = seeded(kind)
    scores = topocompress.score(model, example=example(), criterion="l1")
    plan = topocompress.plan(model, scores, example=example(), ratio=0.5, round_to=1)
    small = topocompress.apply(model, plan, example=example())
    entries = {entry.root: entry for entry in plan.groups}
    assert entries["first"].readers == {"aux_conv": (8, 4), "second": (8, 4)}
    assert (small.second.in_channels, small.aux_conv.in_channels, small.aux_conv.out_channels) == (4, 4, 2)
    gone = list(entries["first"].remove)
    inner = {"second": list(entries["second"].remove), "aux_conv": list(entries["aux_conv"].remove)}
    masked = seeded(kind)
    with torch.no_grad():
        masked.second.weight[:, gone] = 0
        masked.aux_conv.weight[:, gone] = 0
        masked.head.weight[:, inner["second"]] = 0
        masked.aux_head.weight[:, inner["aux_conv"]] = 0
        x = example() + 2
        torch.testing.assert_close(small.aux(small.first(x).relu()), masked.aux(masked.first(x).relu()))
        torch.testing.assert_close(small(x), masked(x))


def test_a_reader_in_training_that_is_no_layer_keeps_its_channels():
    kept = {group.root: group.protected for group in prunable_groups(seeded(TrainedWeights), example())}
    assert found_on_trial(kept.pop("first"))
    assert kept == {"second": "", "head": "feeds the model's output"}


@pytest.mark.parametrize("kind", [TrainedAuxiliary, OnBrightImages])
def test_the_caller_s_network_is_not_changed(kind):
    model = seeded(kind).train()
    state, random = {key: value.clone() for key, value in model.state_dict().items()}, torch.get_rng_state()
    prunable_groups(model, example())
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert model.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert torch.equal(torch.get_rng_state(), random)


def test_hooks_of_the_network_s_own_stay_on_it():
    model = HookedByClosure()
    topocompress.score(model, example=example(), criterion="l1")
    model(example())
    (hook,) = model.first._forward_hooks.values()
    assert hook.__qualname__.startswith("HookedByClosure")


def test_a_network_with_hooks_loads_in_a_process_of_its_own(tmp_path):
    model = seeded(HookedByClosure)
    scores = topocompress.score(model, example=example(), criterion="l1")
    plan = topocompress.plan(model, scores, example=example(), ratio=0.5, round_to=1)
    small = topocompress.apply(model, plan, example=example()).eval()
    preprocessing = Preprocessing(input_shape=(3, 8, 8), resize=8, mean=(0.0,) * 3, std=(1.0,) * 3)
    topocompress.save(tmp_path / "run", small, plans=[plan], preprocessing=preprocessing)
    program = (
        "import sys, torch, topocompress\n"
        "from tests.helpers.living_nets import HookedByClosure\n"
        "from tests.helpers.tiny_nets import example\n"
        "model = topocompress.load(sys.argv[1], arch=HookedByClosure)\n"
        "print(model(example()).tolist())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "run")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(small(example()).tolist())
