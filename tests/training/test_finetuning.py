import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from tests.helpers.trained import held_out_part, trained, training_part, untrained
from tests.helpers.weights import same_state, state_of
from topocompress.deploy.measurement import evaluate
from topocompress.errors import DataError, ModelError, TrainingError
from topocompress.training.finetuning import finetune
from topocompress.training.recipe import Recipe
from topocompress.training.trainer import optimiser
from topocompress.training.training_set import batch_indices, class_labels, split_indices


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
    random = torch.get_rng_state()
    with pytest.raises(TrainingError, match=r"epoch 1, step 2 of 3(.|\n)*Lower lr=, for example to 1e\+29"):
        finetune(model, Subset(training_part(), range(100)), Recipe(epochs=1, lr=1e30, batch_size=32))
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
