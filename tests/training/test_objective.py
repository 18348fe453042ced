import math

import pytest
import torch
import torch.nn.functional as F

from tests.helpers.output_kinds import KINDS, images, made
from topocompress.errors import DataError
from topocompress.network.outputs import outputs_of
from topocompress.network.variation import error_weights
from topocompress.training.objective import Objective, distillation_loss
from topocompress.training.recipe import Recipe

LN3 = math.log(3)


def objective(highest=1, **settings):
    return Objective(recipe=Recipe(epochs=1, **settings), highest=highest)


def test_two_classes_by_hand():
    teacher, student = torch.tensor([[LN3, 0.0]]), torch.zeros(1, 2)  # 3/4 and 1/4 against 1/2 and 1/2
    by_hand = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert distillation_loss(student, teacher, 1.0).tolist() == pytest.approx([by_hand])
    assert distillation_loss(student, 2 * teacher, 2.0).tolist() == pytest.approx([4 * by_hand])
    assert distillation_loss(teacher, teacher, 3.0).tolist() == pytest.approx([0.0], abs=1e-6)
    other_way = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert distillation_loss(teacher, student, 1.0).tolist() == pytest.approx([other_way])


def test_pixels_are_averaged():
    teacher, student = torch.zeros(1, 2, 1, 2), torch.zeros(1, 2, 1, 2)
    teacher[0, 0, 0, 0] = LN3
    whole = distillation_loss(student[..., 0, 0], teacher[..., 0, 0], 1.0).item()
    assert distillation_loss(student, teacher, 1.0).tolist() == pytest.approx([whole / 2])


def test_a_gradient_does_not_shrink_with_the_temperature():
    generator = torch.Generator().manual_seed(0)
    teacher = torch.randn(4, 5, generator=generator)
    sizes = []
    for temperature in (10.0, 100.0):
        student = torch.zeros(4, 5, requires_grad=True)
        distillation_loss(student, teacher, temperature).sum().backward()
        sizes.append(student.grad.norm().item())
    assert sizes[0] == pytest.approx(sizes[1], rel=0.1)


def test_labels_and_teacher_share_the_weight():
    logits, taught = torch.tensor([[1.0, 0.0], [0.5, 2.0]]), torch.tensor([[2.0, 0.0], [0.0, 0.0]])
    labels = torch.tensor([0, 1])
    found = objective(distill=0.3, temperature=2.0).losses(logits, labels, taught)
    own = F.cross_entropy(logits, labels, reduction="none")
    assert torch.allclose(found, 0.7 * own + 0.3 * distillation_loss(logits, taught, 2.0))
    assert torch.equal(objective().losses(logits, labels, None), own)


def test_squared_errors_of_outputs_that_are_no_classes_are_shares_of_their_variation():
    wave = torch.linspace(-1, 1, 5)[:, None]
    outputs = outputs_of(made(KINDS["binary"]), images(3))
    learned = Objective(
        recipe=Recipe(epochs=1, distill=1.0), highest=0, outputs=outputs, weights=torch.cat(error_weights([[wave]]))
    )
    assert learned.measure == "explained_variation"
    assert learned.losses(wave.mean(0).expand(5, 1), torch.zeros(5), wave).mean().item() == pytest.approx(1.0)
    assert learned.losses(wave, torch.zeros(5), wave).tolist() == [0.0] * 5
    loss, right = learned.judge(wave / 2, torch.zeros(5), wave)
    assert (loss, right) == (pytest.approx(5 / 4), pytest.approx(5 * 3 / 4))
    assert (
        objective(distill=1.0).losses(wave, torch.zeros(5), 2 * wave).tolist() == [0.0] * 5
    )  # of classes: one is sure


def test_all_outputs_that_are_no_classes_are_read_end_to_end():
    model = made(KINDS["crnn"])
    learned = Objective(recipe=Recipe(epochs=1, distill=1.0), highest=0, outputs=outputs_of(model, images(3)))
    assert learned.read(model(images(4)), 4).shape == (4, 16 * 7)
    assert torch.equal(learned.read(model(images(4)), 4)[1], model(images(4))[:, 1].flatten())


def test_label_smoothing_by_hand():
    logits, labels = torch.tensor([[LN3, 0.0]]), torch.tensor([0])  # -log p = log 4/3 and log 4
    found = objective(label_smoothing=0.2).losses(logits, labels, None)
    assert found.tolist() == pytest.approx([0.9 * math.log(4 / 3) + 0.1 * math.log(4)])


def test_without_weight_for_labels_they_are_not_read():
    logits, nonsense = torch.tensor([[1.0, 0.0]]), torch.tensor([-1])
    taught = torch.tensor([[0.0, 1.0]])
    found = objective(distill=1.0)
    assert found.measure == "agreement"
    assert torch.equal(found.losses(logits, nonsense, taught), distillation_loss(logits, taught, 2.0))
    assert found.judge(logits, nonsense, taught) == (pytest.approx(distillation_loss(logits, taught, 2.0).item()), 0.0)
    assert found.judge(taught, nonsense, taught) == (pytest.approx(0.0, abs=1e-6), 1.0)


def test_epochs_are_judged_by_labels_where_there_are_any():
    logits, labels = torch.tensor([[LN3, 0.0], [LN3, 0.0]]), torch.tensor([0, 1])
    loss, right = objective(distill=0.5).judge(logits, labels, torch.zeros(2, 2))
    assert (loss, right) == (pytest.approx(math.log(4 / 3) + math.log(4)), 1.0)


def test_agreement_of_maps_is_the_share_of_pixels():
    taught = torch.zeros(1, 2, 1, 4)
    taught[0, 1, 0, :3] = 1.0
    logits = torch.zeros(1, 2, 1, 4)
    logits[0, 1] = 1.0
    assert objective(distill=1.0).judge(logits, torch.tensor([-1]), taught)[1] == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("settings", "logits", "taught", "message"),
    [
        ({}, torch.zeros(2, 3, 4), None, r"classifier's \(samples, classes\) output; the model returns \(2, 3, 4\)"),
        ({}, torch.zeros(2, 3), None, "label 7 among the samples, but the model has 3 classes"),
        ({"distill": 1.0}, torch.zeros(2, 3), torch.zeros(2, 4), r"teacher returns \(2, 4\), the model \(2, 3\)"),
    ],
)
def test_outputs_that_do_not_fit(settings, logits, taught, message):
    with pytest.raises(DataError, match=message):
        objective(highest=7, **settings).check(logits, taught)


def test_without_labels_maps_and_few_classes_are_fine():
    objective(highest=7, distill=1.0).check(torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4))
