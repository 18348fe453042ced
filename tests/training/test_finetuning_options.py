"""Steps, distillation, augmentation and memory layout of fine-tuning."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset, TensorDataset

from tests.helpers.trained import held_out_part, trained, training_part, untrained
from tests.helpers.weights import same_state, state_of
from topocompress.errors import DataError
from topocompress.training.finetuning import finetune
from topocompress.training.recipe import Recipe

# --- steps ---


def plain_net() -> nn.Sequential:
    """Neither BatchNorm nor dropout: a batch may be cut up without changing anything."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, 6, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(54, 10))


def close(first: nn.Module, second: nn.Module, tolerance: float = 1e-6) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.allclose(a, b, atol=tolerance) for a, b in pairs)


def test_two_batches_accumulated_are_one_of_twice_the_size():
    data = Subset(training_part(), range(301))  # 270 are trained on: the last step is smaller
    whole = finetune(plain_net(), data, Recipe(epochs=2, lr=0.05, batch_size=64))
    halves = finetune(plain_net(), data, Recipe(epochs=2, lr=0.05, batch_size=32, accumulate=2))
    other = finetune(plain_net(), data, Recipe(epochs=2, lr=0.05, batch_size=32))
    assert close(whole.model, halves.model)
    assert not close(whole.model, other.model, 1e-3)
    assert [epoch.loss for epoch in halves.history[1:]] == pytest.approx([epoch.loss for epoch in whole.history[1:]])


def test_progress_counts_steps_not_batches():
    calls = []
    data = Subset(training_part(), range(100))
    recipe = Recipe(epochs=2, batch_size=16, accumulate=3)
    finetune(plain_net(), data, recipe, validation=data, progress=lambda *call: calls.append(call[:2]))
    assert calls == [(step, 6) for step in range(1, 7)]  # 7 batches make 3 steps


def test_no_improvement_for_as_long_as_patience_lasts_ends_it():
    data = training_part()
    wrong = TensorDataset(data.tensors[0], (data.tensors[1] + 1) % 10)
    result = finetune(trained(), wrong, Recipe(epochs=9, lr=0.05, batch_size=64, patience=2), validation=data)
    assert [epoch.epoch for epoch in result.history] == [0, 1, 2]
    assert result.best_epoch == 0
    longer = finetune(untrained(), Subset(data, range(200)), Recipe(epochs=3, lr=0.05, patience=2))
    assert len(longer.history) == 4


def test_one_cycle_and_label_smoothing_reach_the_training():
    data = Subset(training_part(), range(200))
    plain = finetune(plain_net(), data, Recipe(epochs=1, batch_size=32))
    smooth = finetune(plain_net(), data, Recipe(epochs=1, batch_size=32, label_smoothing=0.5))
    cycle = finetune(plain_net(), data, Recipe(epochs=1, batch_size=32, schedule="one-cycle"))
    assert not close(plain.model, smooth.model)
    assert not close(plain.model, cycle.model)
    assert smooth.history[0] == replace(plain.history[0], seconds=smooth.history[0].seconds)


def test_half_precision_on_a_cpu():
    data = Subset(training_part(), range(300))
    full = finetune(untrained(), data, Recipe(epochs=2, lr=0.1, batch_size=32))
    half = finetune(untrained(), data, Recipe(epochs=2, lr=0.1, batch_size=32, precision="bf16"))
    assert half.history[0].validation_loss == full.history[0].validation_loss  # validation is in float32
    assert half.history[2].loss != full.history[2].loss
    assert half.history[2].loss == pytest.approx(full.history[2].loss, abs=0.1)
    assert half.model[0].weight.dtype == torch.float32
    assert not hasattr(half.model, "_original_forward")
    with pytest.raises(DataError, match=r"fp16 needs a GPU(.|\n)*bf16"):
        finetune(untrained(), data, Recipe(epochs=1, precision="fp16"))


# --- distillation ---


class Images(Dataset):
    """Inputs without labels."""

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.images[index]


def damaged() -> nn.Module:
    model = trained()
    with torch.no_grad():
        model[3].weight[:11] = 0
    return model


def test_without_labels_the_damaged_network_learns_to_agree_with_the_whole_one():
    teacher, student = trained().train(), damaged()
    before, random_before = state_of(teacher), torch.get_rng_state()
    data = Images(training_part().tensors[0][:400])
    result = finetune(student, data, Recipe(epochs=4, lr=0.05, batch_size=64, distill=1.0), teacher=teacher)
    assert result.measure == "agreement"
    assert result.history[0].accuracy < 0.75  # 0.7 on one thread, less on two
    assert result.history[result.best_epoch].accuracy > 0.9
    losses = [epoch.validation_loss for epoch in result.history]
    assert result.best_epoch == losses.index(min(losses)) > 0
    images = held_out_part().tensors[0]
    with torch.no_grad():
        taught = teacher.eval()(images).argmax(1)
        agree = [(model.eval()(images).argmax(1) == taught).float().mean() for model in (student, result.model)]
    assert agree[1] > agree[0] + 0.2
    assert same_state(teacher, before)
    assert torch.equal(torch.get_rng_state(), random_before)


def test_a_network_that_is_its_own_teacher_has_nothing_to_learn():
    model = trained()
    data = Images(training_part().tensors[0][:60])
    result = finetune(model, data, Recipe(epochs=0, distill=1.0), teacher=model)
    assert result.history[0].validation_loss == pytest.approx(0, abs=1e-6)
    assert result.history[0].accuracy == 1.0
    assert same_state(result.model, state_of(model))


def test_labels_and_teacher_together_are_judged_by_labels():
    data = Subset(training_part(), range(300))
    recipe = Recipe(epochs=2, lr=0.05, batch_size=32, distill=0.5)
    result = finetune(damaged(), data, recipe, teacher=trained())
    assert result.measure == "accuracy"
    assert not close(result.model, finetune(damaged(), data, replace(recipe, distill=0.0)).model)


def test_the_teacher_is_in_evaluation_mode_only_while_it_teaches():
    teacher = trained().train()
    teacher[1].eval()
    modes = [module.training for module in teacher.modules()]
    seen = []
    handle = teacher[7].register_forward_hook(lambda module, *_: seen.append(module.training))
    finetune(damaged(), Images(torch.zeros(20, 1, 8, 8)), Recipe(epochs=1, distill=1.0), teacher=teacher)
    handle.remove()
    assert seen
    assert not any(seen)
    assert [module.training for module in teacher.modules()] == modes
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_distillation_without_a_teacher():
    with pytest.raises(DataError, match="network to learn from"):
        finetune(untrained(), training_part(), Recipe(epochs=1, distill=0.5))


# --- augmentation ---


def test_training_images_are_changed_and_validation_images_are_not():
    data = TensorDataset(*(tensor[:200] for tensor in training_part().tensors))
    data.augmentation = "shift"
    result = finetune(plain_net(), data, Recipe(epochs=1, batch_size=32))
    plain = finetune(plain_net(), data, Recipe(epochs=1, batch_size=32, augment=False))
    assert (result.augmentation, plain.augmentation) == ("shift", "none")
    assert result.history[0].validation_loss == plain.history[0].validation_loss
    assert result.history[1].loss != plain.history[1].loss


class Watching(nn.Module):
    """Two channels → two classes; notes how its maps lie in memory while it trains."""

    def __init__(self, *, views: bool, seen: set[bool]) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(2, 3, 3, padding=1), nn.Linear(48, 2)
        self.views, self.seen = views, seen

    def forward(self, images: Tensor) -> Tensor:
        maps = self.conv(images)
        if self.training:
            self.seen.add(maps.is_contiguous())
        return self.head(maps.view(len(maps), -1) if self.views else maps.flatten(1))

    def __deepcopy__(self, memo: dict[int, object]) -> "Watching":
        twin = Watching(views=self.views, seen=self.seen)
        twin.load_state_dict(self.state_dict())
        return twin.train(self.training)


@pytest.mark.parametrize("views", [False, True])
def test_maps_lie_channels_last_unless_the_network_views_them(views: bool) -> None:
    torch.manual_seed(0)
    data = TensorDataset(torch.randn(40, 2, 4, 4), torch.arange(40) % 2)
    seen: set[bool] = set()
    finetune(Watching(views=views, seen=seen), data, Recipe(epochs=1, batch_size=10))
    assert seen == {views}
