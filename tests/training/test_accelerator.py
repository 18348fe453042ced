"""Devices and processes: Accelerate's state is left alone, and two processes train as one does."""

import json

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from tests.helpers import together
from tests.helpers.processes import together as launched
from topocompress.errors import DataError
from topocompress.training import processes
from topocompress.training.accelerator import _with_shared_statistics, accelerator, check_precision, team
from topocompress.training.finetuning import finetune
from topocompress.training.recipe import Recipe

CPU = torch.device("cpu")


def shared_states():
    from accelerate.state import AcceleratorState, GradientState, PartialState

    return [dict(state._shared_state) for state in (AcceleratorState, GradientState, PartialState)]


def test_two_precisions_in_one_process_and_nothing_stays_behind():
    before = shared_states()
    with accelerator("bf16", CPU) as first:
        assert first.mixed_precision == "bf16"
        with accelerator("no") as second:
            assert second.mixed_precision == "no"
        assert first.mixed_precision == "bf16"
    assert shared_states() == before
    with pytest.raises(KeyError), accelerator("no"):
        raise KeyError
    assert shared_states() == before


def test_a_callers_own_accelerator_stays_what_it_was():
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, GradientState, PartialState

    try:
        own = Accelerator(cpu=True, mixed_precision="bf16", gradient_accumulation_steps=3)
        before = shared_states()
        data = TensorDataset(torch.randn(40, 3), torch.arange(40) % 2)
        finetune(nn.Linear(3, 2), data, Recipe(epochs=1, accumulate=2))
        assert shared_states() == before
        assert (own.mixed_precision, own.gradient_accumulation_steps, own.sync_gradients) == ("bf16", 3, True)
    finally:
        for state in (AcceleratorState, GradientState, PartialState):
            state._reset_state()


def test_fp16_needs_a_gpu_and_the_rest_does_not(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    check_precision("no")
    check_precision("bf16")
    with pytest.raises(DataError, match=r"fp16 needs a GPU(.|\n)*precision='bf16'"):
        check_precision("fp16")


def test_launchers_settings_that_the_recipe_has_are_the_recipes(monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "7")
    with accelerator("no") as found:
        assert found.mixed_precision == "no"
    data = TensorDataset(torch.randn(40, 3, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 2)
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    launched = finetune(model, data, Recipe(epochs=2, batch_size=4))
    monkeypatch.undo()
    plain = finetune(model, data, Recipe(epochs=2, batch_size=4))
    assert torch.equal(launched.model.weight, plain.model.weight)


def test_one_process_is_no_team():
    before = shared_states()
    with team():
        assert shared_states() == before
        assert processes.gathered(3) == [3]
        assert processes.from_main(lambda: 4) == 4


def test_batchnorm_shares_its_statistics_unless_it_is_more_than_that():
    class WithActivation(nn.BatchNorm2d):
        def forward(self, maps):
            return super().forward(maps).relu()

    shared = nn.BatchNorm2d(2)
    model = nn.Sequential(shared, nn.Sequential(shared, nn.BatchNorm1d(3)), WithActivation(2), nn.GroupNorm(1, 2))
    names = list(model.state_dict())
    found = _with_shared_statistics(model)
    kinds = [type(module).__name__ for module in (found[0], found[1][0], found[1][1], found[2], found[3])]
    assert kinds == ["SyncBatchNorm", "SyncBatchNorm", "SyncBatchNorm", "WithActivation", "GroupNorm"]
    assert found[0] is found[1][0]
    assert found[0].weight is shared.weight
    assert list(found.state_dict()) == names


def launch(out, processes=2):
    """Start processes as a launcher does; what each of them has found."""
    launched("-W", "error", "-m", "tests.helpers.together", out, count=processes)
    return [json.loads((out / f"{rank}.json").read_text(encoding="utf-8")) for rank in range(processes)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """One process by itself; the first and the second of two."""
    return [together.found(tmp_path_factory.mktemp("one")), *launch(tmp_path_factory.mktemp("two"))]


def flat(found):
    return [value for epoch in found["history"] for value in epoch if value is not None]


@pytest.mark.parametrize("case", ["plain", "accumulated", "distilled"])
def test_two_processes_have_the_loss_curve_of_one(runs, case):
    one, first, second = (found[case] for found in runs)
    assert first["processes"] == 2
    assert flat(first) == pytest.approx(flat(one), abs=1e-5)
    assert first["sum"] == pytest.approx(one["sum"], abs=1e-3)
    assert first["best"] == one["best"]
    assert first == second


def test_with_batchnorm_they_agree_with_each_other_and_nearly_with_one(runs):
    one, first, second = (found["normed"] for found in runs)
    assert first == second
    assert flat(first)[0] == pytest.approx(flat(one)[0])
    assert flat(first) != pytest.approx(flat(one), abs=1e-5)
    assert flat(first) == pytest.approx(flat(one), abs=0.2)


def test_two_processes_resume_bit_for_bit(runs):
    for found in runs:
        assert found["resumed"]["resumed"] == 1
        assert {**found["resumed"], "resumed": 0} == found["normed"]


def test_the_main_process_speaks_for_all(runs):
    _, first, second = runs
    assert (first["from_main"], second["from_main"]) == (True, False)
    assert first["gathered"] == second["gathered"] == [0, 1]
    assert first["error"] == ["no\ngo", False]
    assert second["error"] == ["no\ngo", True]
    assert first["alone"] == 5


def test_the_connection_does_not_outlive_the_training(runs):
    _, first, second = runs
    assert (first["closed"], second["closed"]) == (True, True)
