from collections import OrderedDict

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.utils.data import DataLoader

from tests.helpers.trained import held_out_part, trained
from topocompress.deploy.measurement import (
    Predictions,
    agreement,
    count_macs,
    count_parameters,
    evaluate,
    layer_macs,
    step_macs,
)
from topocompress.errors import DataError, ModelError

# --- parameters and multiply-accumulates ---


def test_parameters_of_a_small_net_by_hand():
    shared = nn.Linear(10, 10)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 10), shared, shared)
    model[0].weight.requires_grad_(False)
    assert count_parameters(model) == (3 * 8 * 9 + 8) + 2 * 8 + (8 * 10 + 10) + (10 * 10 + 10)


@pytest.mark.parametrize(
    ("layer", "macs"),
    [
        (nn.Conv2d(6, 12, 3, padding=1), 10 * 10 * 12 * 6 * 9),
        (nn.Conv2d(6, 12, 3, padding=1, bias=False), 10 * 10 * 12 * 6 * 9),
        (nn.Conv2d(6, 12, 3, stride=2), 4 * 4 * 12 * 6 * 9),
        (nn.Conv2d(6, 12, 3, dilation=2), 6 * 6 * 12 * 6 * 9),
        (nn.Conv2d(6, 12, 3, padding=1, groups=3), 10 * 10 * 12 * 2 * 9),
        (nn.Conv2d(6, 6, 3, padding=1, groups=6), 10 * 10 * 6 * 9),
        (nn.Conv2d(6, 12, 1), 10 * 10 * 12 * 6),
        (nn.ConvTranspose2d(6, 12, 2, stride=2), 10 * 10 * 6 * 12 * 4),
        (nn.ConvTranspose2d(6, 12, 2, stride=2, groups=2), 10 * 10 * 6 * 6 * 4),
        (nn.Linear(10, 7), 6 * 10 * 10 * 7),
    ],
)
def test_one_layer_by_hand(layer, macs):
    assert layer_macs(nn.Sequential(OrderedDict(layer=layer)), torch.zeros(1, 6, 10, 10)) == {"layer": macs}


def test_a_small_net_by_hand_norms_and_activations_are_free():
    model = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    )
    expected = {"0.0": 64 * 8 * 27, "1": 2 * 2 * 8 * 9, "4": 8 * 5}
    assert layer_macs(model, torch.zeros(1, 3, 8, 8)) == expected
    assert layer_macs(model, torch.zeros(4, 3, 8, 8)) == expected  # per sample
    assert count_macs(model, torch.zeros(1, 3, 8, 8)) == sum(expected.values())


@pytest.mark.parametrize("batch_first", [True, False])
def test_attention_counts_its_projections_and_both_products(batch_first):
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(16, 2, batch_first=batch_first)

        def forward(self, x: Tensor) -> Tensor:
            tokens = x.flatten(2).transpose(1, 2) if batch_first else x.flatten(2).permute(2, 0, 1)
            return self.attention(tokens, tokens, tokens, need_weights=False)[0]

    tokens = 6 * 6
    found = layer_macs(Attention(), torch.zeros(1, 16, 6, 6))
    assert found == {"attention": 4 * tokens * 16 * 16 + 2 * tokens * tokens * 16}


def test_work_is_booked_on_the_module_that_does_it():
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shared = nn.Linear(4, 4)
            self.features = nn.Sequential(nn.Linear(4, 3))

        def forward(self, x: Tensor) -> Tensor:
            x = self.shared(self.shared(x.flatten(1)))
            x = x @ torch.ones(4, 4)
            return self.features[0](x)  # the container around it never runs

    assert layer_macs(Model(), torch.zeros(1, 1, 2, 2)) == {"shared": 2 * 16, "": 16, "features.0": 12}


def test_resnet18_has_its_published_cost():
    model = torchvision.models.resnet18()
    found = layer_macs(model, torch.zeros(1, 3, 224, 224))
    assert sum(found.values()) == pytest.approx(1.814e9, rel=0.01)
    assert found["conv1"] == 112 * 112 * 64 * 3 * 49
    assert found["fc"] == 512 * 1000
    names = {name for name, m in model.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))}
    assert set(found) == names


def test_counting_leaves_no_trace_even_when_it_fails():
    model = trained().train()
    model[1].eval()
    calls = []
    handle = model[0].register_forward_hook(lambda *_: calls.append(1))
    modes = [module.training for module in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    random, fast = torch.get_rng_state(), torch.backends.mha.get_fastpath_enabled()
    layer_macs(model, torch.zeros(1, 1, 8, 8))
    with pytest.raises(ModelError, match=r"\(1, 3, 8, 8\)"):
        layer_macs(model, torch.zeros(1, 3, 8, 8))
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()) == 1
    assert calls == [1]
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.backends.mha.get_fastpath_enabled() == fast
    handle.remove()


# --- accuracy and agreement ---

SCORES = torch.tensor([[3.0, 1.0, 0.0], [0.0, 2.0, 1.0], [0.0, 1.0, 5.0], [9.0, 0.0, 1.0]])


def batches(labels: list[int]) -> list[tuple[Tensor, Tensor]]:
    return list(zip(SCORES.split(3), torch.tensor(labels).split(3), strict=True))


class Returns(nn.Module):
    """Scores as they are, given by a layer, in whatever form."""

    def __init__(self, wrap=lambda scores: scores) -> None:
        super().__init__()
        self.wrap = wrap
        self.head = nn.Linear(3, 3, bias=False)
        nn.init.eye_(self.head.weight)

    def forward(self, x: Tensor) -> object:
        return self.wrap(self.head(x) if x.ndim == 2 else x)


@pytest.mark.parametrize(
    ("labels", "accuracy"),
    [([0, 1, 2, 0], 1.0), ([0, 1, 0, 1], 0.5), ([-1, -1, -1, -1], None), ([0, -1, 1, -1], 0.5), ([-1, -1, -1, 0], 1.0)],
)
def test_accuracy_counts_labelled_samples_only(labels, accuracy):
    found = evaluate(Returns(), batches(labels))
    assert found.classes.tolist() == [0, 1, 2, 0]
    assert found.accuracy == accuracy


def test_inputs_without_labels():
    found = evaluate(Returns(), SCORES.split(2))
    assert found.classes.tolist() == [0, 1, 2, 0]
    assert found.accuracy is None


@pytest.mark.parametrize(
    "wrap",
    [
        lambda x: OrderedDict(aux=-x, out=x),
        lambda x: (x, -x),
        lambda x: [[x], -x],
        lambda x: {"logits": x, "loss": None},
    ],
)
def test_the_main_output_is_found_where_labels_fit_it(wrap):
    assert evaluate(Returns(wrap), [(SCORES, torch.tensor([0, 1, 2, 0]))]).classes.tolist() == [0, 1, 2, 0]


@pytest.mark.parametrize("wrap", [lambda x: x.sum(), lambda x: "text", lambda x: {}])
def test_outputs_without_an_entry_per_sample_are_refused(wrap):
    with pytest.raises(ModelError, match="expected"):
        evaluate(Returns(wrap), [SCORES])


def test_segmentation_is_judged_per_pixel():
    scores = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).reshape(1, 2, 1, 2)  # class 0 left, class 1 right
    labels = torch.tensor([[[0, 0]]])
    found = evaluate(Returns(lambda x: {"out": x}), [(scores, labels), (scores.flip(3), labels * 0 - 1)])
    assert found.classes.tolist() == [[[0, 1]], [[1, 0]]]
    assert found.accuracy == 0.5
    other = Predictions(classes=np.array([[[0, 1]], [[1, 1]]]), accuracy=None)
    assert agreement(found, other) == 0.75


def test_agreement_needs_the_same_samples():
    first = Predictions(classes=np.array([0, 1, 2, 3]), accuracy=None)
    assert agreement(first, Predictions(classes=np.array([0, 1, 0, 0]), accuracy=None)) == 0.5
    with pytest.raises(DataError, match=r"\(4,\) and \(3,\)"):
        agreement(first, Predictions(classes=np.array([0, 1, 2]), accuracy=None))


@pytest.mark.parametrize(
    ("loader", "kind", "message"),
    [
        ([], DataError, "no samples"),
        ([(SCORES, torch.tensor([0, 1, 2, 3]))], DataError, "label 3 among the samples, but the model has 3 classes"),
        ([(SCORES, torch.zeros(4, 2, 2))], DataError, "do not fit predictions"),
        ([SCORES, SCORES * torch.nan], ModelError, "NaN or infinity, first in batch 2"),
    ],
)
def test_what_cannot_be_evaluated(loader, kind, message):
    with pytest.raises(kind, match=message):
        evaluate(Returns(), loader)


def test_a_misfit_is_reported_with_its_shape():
    with pytest.raises(ModelError, match=r"\(2, 3, 8, 8\)"):
        evaluate(trained(), [torch.zeros(2, 3, 8, 8)])


def test_evaluation_reports_progress_and_leaves_flags_and_random_state():
    model = trained().train()
    model[2].eval()
    modes, random, calls = [m.training for m in model.modules()], torch.get_rng_state(), []
    loader = DataLoader(held_out_part(), batch_size=200, shuffle=True)
    first = evaluate(model, loader, progress=lambda *call: calls.append(call))
    assert calls == [(1, 3), (2, 3), (3, 3)]
    assert first.accuracy > 0.85
    assert evaluate(model, loader).accuracy == first.accuracy  # dropout is off, BatchNorm does not move
    assert [m.training for m in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random)
    evaluate(model, iter([held_out_part().tensors[0]]), progress=lambda *call: calls.append(call))
    assert calls[-1] == (1, 0)


def test_accuracy_is_the_share_that_is_right():
    data = held_out_part()
    found = evaluate(trained(), DataLoader(data, batch_size=64))
    assert found.accuracy == pytest.approx(np.mean(found.classes == data.tensors[1].numpy()))


@pytest.mark.parametrize(
    ("layer", "reading", "own"),
    [
        (nn.LSTM(4, 5, batch_first=True), 4 * 5 * 4, 4 * 5 * 5),
        (nn.GRU(4, 5, 2, batch_first=True), 3 * 5 * 4, 3 * 3 * 5 * 5),
        (nn.RNN(4, 5, bidirectional=True, batch_first=True), 2 * 5 * 4, 2 * 5 * 5),
    ],
)
def test_a_recurrent_layer_costs_its_weights_at_every_step(layer, reading, own):
    assert step_macs(layer) == (reading, own)
    assert layer_macs(nn.Sequential(layer), torch.randn(2, 7, 4)) == {"0": 7 * (reading + own)}


def test_a_parameter_may_be_given_to_a_module():
    class Token(nn.Module):
        def __init__(self):
            super().__init__()
            self.token, self.layer = nn.Parameter(torch.ones(1, 4)), nn.Linear(4, 5)

        def forward(self, x):
            return self.layer(self.token) + x

    assert layer_macs(Token(), torch.zeros(1, 5)) == {"layer": 20}
