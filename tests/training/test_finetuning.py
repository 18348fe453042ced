from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from tests.helpers.trained import held_out_part, trained, training_part, untrained
from topocompress.deploy.measurement import evaluate
from topocompress.errors import DataError, ModelError, TrainingError
from topocompress.training.finetuning import finetune
from topocompress.training.recipe import Recipe
from topocompress.training.trainer import optimiser
from topocompress.training.training_set import batch_indices, class_labels, split_indices


def state_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same_state(model: nn.Module, state: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_finetuning_learns_and_generalises():
    result = finetune(untrained(), training_part(), Recipe(epochs=4, lr=0.1, batch_size=64))
    assert result.history[0].accuracy < 0.3
    assert result.history[-1].accuracy > 0.9
    assert result.history[0].loss is None
    assert [epoch.epoch for epoch in result.history] == [0, 1, 2, 3, 4]
    losses = [epoch.loss for epoch in result.history[1:]]
    assert losses == sorted(losses, reverse=True)
    assert evaluate(result.model, DataLoader(held_out_part(), batch_size=100)).accuracy > 0.85
    assert result.validation_samples == pytest.approx(120, abs=5)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others():
    data = Subset(training_part(), range(200))
    with torch.random.fork_rng():
        found = []
        for seed, outside in ((1, 10), (1, 20), (2, 20)):
            torch.manual_seed(outside)  # the caller's random state plays no part
            found.append(finetune(untrained(), data, Recipe(epochs=1, batch_size=32, lr=0.05), seed=seed).model)
    first, again, other = found
    assert same_state(first, state_of(again))
    assert not same_state(first, state_of(other))


def test_the_callers_model_flags_gradients_and_random_state_stay():
    model = untrained().train()
    model[7].eval()
    modes = [module.training for module in model.modules()]
    before, random = state_of(model), torch.get_rng_state()
    result = finetune(model, Subset(training_part(), range(100)), Recipe(epochs=1, batch_size=32))
    assert same_state(model, before)
    assert not same_state(result.model, before)
    assert [module.training for module in model.modules()] == modes
    assert [module.training for module in result.model.modules()] == modes
    assert all(parameter.grad is None for parameter in (*model.parameters(), *result.model.parameters()))
    assert torch.equal(torch.get_rng_state(), random)


def test_a_model_given_in_evaluation_mode_is_still_trained_in_training_mode():
    model = untrained().eval()
    result = finetune(model, Subset(training_part(), range(100)), Recipe(epochs=1, batch_size=32))
    assert result.best_epoch == 1
    assert not torch.equal(result.model[1].running_mean, model[1].running_mean)  # BatchNorm moved
    assert not any(module.training for module in result.model.modules())


def test_the_best_epoch_is_kept_and_epoch_0_counts():
    model, data = trained(), training_part()
    labels = data.tensors[1]
    wrong = TensorDataset(data.tensors[0], (labels + 1) % 10)  # training on these can only harm
    result = finetune(model, wrong, Recipe(epochs=2, lr=0.05, batch_size=64), validation=data)
    assert result.history[-1].accuracy < result.history[0].accuracy - 0.2
    assert result.best_epoch == 0
    assert same_state(result.model, state_of(model))


def test_the_kept_weights_are_those_of_the_reported_epoch():
    data = held_out_part()
    result = finetune(untrained(), training_part(), Recipe(epochs=3, lr=0.1, batch_size=64), validation=data)
    best = result.history[result.best_epoch]
    assert best.accuracy == max(epoch.accuracy for epoch in result.history)
    assert evaluate(result.model, DataLoader(data, batch_size=100)).accuracy == pytest.approx(best.accuracy)
    assert result.validation_samples == len(data)


def test_no_epochs_give_a_measured_copy():
    model = trained()
    result = finetune(model, training_part(), Recipe(epochs=0))
    assert result.model is not model
    assert same_state(result.model, state_of(model))
    assert len(result.history) == 1


class Recording(Dataset):
    """Yields (image, label) and remembers which indices were read since the last reset."""

    def __init__(self, samples: TensorDataset) -> None:
        self.samples, self.targets, self.read = samples, samples.tensors[1], []

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        self.read.append(index)
        return self.samples[index]


def test_training_never_reads_the_held_out_samples():
    data = Recording(TensorDataset(*(tensor[:100] for tensor in training_part().tensors)))
    marks: list[int] = []
    finetune(untrained(), data, Recipe(epochs=1, batch_size=30), progress=lambda *_: marks.append(len(data.read)))
    held = set(data.read[: marks[0] - 30])  # epoch 0 reads the held-out part, then comes the first batch of 30
    trained_on = data.read[marks[0] - 30 : marks[-1]]
    assert held == set(data.read[marks[-1] :])
    assert held.isdisjoint(trained_on)
    assert sorted(held | set(trained_on)) == list(range(100))
    assert len(trained_on) == len(set(trained_on))


def test_every_class_with_two_samples_is_held_out_once_and_no_single_one():
    labels = class_labels(TensorDataset(torch.zeros(64), torch.tensor([0] * 40 + [1] * 20 + [2] * 2 + [3] + [-1])))
    kept, held = split_indices(labels, 0, hold_out=True)
    assert [int((labels[held] == label).sum()) for label in (0, 1, 2, 3)] == [4, 2, 1, 0]
    assert sorted(kept + held) == list(range(63))  # the unlabelled sample is in neither
    assert split_indices(labels, 0, hold_out=True) == (kept, held)
    assert split_indices(labels, 1, hold_out=True)[1] != held


def test_classes_of_one_sample_each_still_leave_a_validation_part():
    kept, held = split_indices(class_labels(TensorDataset(torch.zeros(12), torch.arange(12))), 0, hold_out=True)
    assert (len(kept), len(held)) == (10, 2)


@pytest.mark.parametrize(("count", "sizes"), [(9, [4, 5]), (8, [4, 4]), (10, [4, 4, 2]), (1, [1])])
def test_a_last_batch_of_one_joins_the_one_before(count, sizes):
    batches = batch_indices(range(count), 4, shuffle=torch.Generator().manual_seed(0))
    assert [len(batch) for batch in batches] == sizes
    assert sorted(index for batch in batches for index in batch) == list(range(count))


def test_batchnorm_on_single_values_survives_a_last_batch_of_one():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.BatchNorm1d(4), nn.Linear(4, 10))
    data = Subset(training_part(), range(33))
    result = finetune(model, data, Recipe(epochs=1, batch_size=32), validation=held_out_part())
    assert len(result.history) == 2


def test_weight_decay_spares_norms_and_biases():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with torch.no_grad():
        model[1].weight.fill_(0.5)
        model[1].bias.fill_(0.5)
    sgd = optimiser(list(model.parameters()), lr=0.1, momentum=0.9, weight_decay=0.5)
    model(torch.zeros(2, 1, 8, 8)).sum().mul(0).backward()
    sgd.step()
    assert model[1].weight[0, 0].item() == pytest.approx(0.5 - 0.1 * 1.9 * 0.5 * 0.5)  # nesterov: (1 + 0.9) · decay
    assert model[1].bias[0].item() == 0.5


def test_frozen_parameters_stay():
    model = untrained()
    model[0].weight.requires_grad_(False)
    result = finetune(model, Subset(training_part(), range(100)), Recipe(epochs=1, batch_size=32))
    assert torch.equal(result.model[0].weight, model[0].weight)
    assert not torch.equal(result.model[3].weight, model[3].weight)


def test_progress_counts_every_step():
    calls: list[tuple[int, int, str]] = []
    data = Subset(training_part(), range(100))
    finetune(
        untrained(), data, Recipe(epochs=2, batch_size=32), validation=data, progress=lambda *call: calls.append(call)
    )
    assert [call[:2] for call in calls] == [(step, 8) for step in range(1, 9)]
    assert calls[-1][2].startswith("epoch 2/2, loss ")


def test_a_diverging_loss_is_an_error_that_says_where_and_what_to_try():
    model = untrained()
    with torch.no_grad():
        model[8].weight.fill_(1e38)
    random = torch.get_rng_state()
    with pytest.raises(TrainingError, match=r"epoch 1, step 1 of 3(.|\n)*Lower --lr, for example to 0\.005"):
        finetune(model, Subset(training_part(), range(100)), Recipe(epochs=1, lr=0.05, batch_size=32))
    assert torch.equal(torch.get_rng_state(), random)


def test_ctrl_c_passes_through():
    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finetune(untrained(), Subset(training_part(), range(50)), Recipe(epochs=1), progress=stop)


class Unlabelled(Dataset):
    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> Tensor:
        return torch.zeros(1, 8, 8)


IMAGES = torch.zeros(20, 1, 8, 8)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (TensorDataset(IMAGES, torch.full((20,), -1)), "at least 2 labelled training samples"),
        (TensorDataset(IMAGES, torch.arange(20)), "label 1[0-9] among the samples, but the model has 10 classes"),
        (TensorDataset(IMAGES, torch.zeros(20)), "integer class label"),
        (TensorDataset(IMAGES, torch.zeros(20, 8, 8, dtype=torch.int64)), "integer class label"),
        (TensorDataset(IMAGES), "a class label for each sample"),
        (Unlabelled(), "a class label for each sample"),
        (iter([]), "map-style dataset"),
    ],
)
def test_data_that_cannot_be_trained_on(data, message):
    with pytest.raises(DataError, match=message):
        finetune(untrained(), data, Recipe(epochs=1))


def test_models_that_cannot_be_finetuned():
    with pytest.raises(ModelError, match="requires gradients"):
        finetune(untrained().requires_grad_(False), training_part(), Recipe(epochs=1))
    with pytest.raises(DataError, match="classifier"):
        finetune(nn.Conv2d(1, 10, 3), training_part(), Recipe(epochs=1))


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
    finetune(damaged(), Images(IMAGES), Recipe(epochs=1, distill=1.0), teacher=teacher)
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
