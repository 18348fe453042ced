import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.utils.data import DataLoader
from trained import digits, held_out_part, trained

from topocompress import measurement
from topocompress.errors import DataError, ExportError, ModelError
from topocompress.export import export_onnx
from topocompress.measurement import (
    Predictions,
    agreement,
    compare_latency,
    count_macs,
    count_parameters,
    evaluate,
    layer_macs,
    peak_memory,
)

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


@pytest.mark.parametrize(
    ("labels", "accuracy"),
    [([0, 1, 2, 0], 1.0), ([0, 1, 0, 1], 0.5), ([-1, -1, -1, -1], None), ([0, -1, 1, -1], 0.5), ([-1, -1, -1, 0], 1.0)],
)
def test_accuracy_counts_labelled_samples_only(labels, accuracy):
    found = evaluate(nn.Identity(), batches(labels))
    assert found.classes.tolist() == [0, 1, 2, 0]
    assert found.accuracy == accuracy


def test_inputs_without_labels():
    found = evaluate(nn.Identity(), SCORES.split(2))
    assert found.classes.tolist() == [0, 1, 2, 0]
    assert found.accuracy is None


class Returns(nn.Module):
    def __init__(self, wrap) -> None:
        super().__init__()
        self.wrap = wrap

    def forward(self, x: Tensor) -> object:
        return self.wrap(x)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda x: OrderedDict(aux=-x, out=x),
        lambda x: (x, -x),
        lambda x: [[x], -x],
        lambda x: {"logits": x, "loss": None},
    ],
)
def test_the_main_output_is_found(wrap):
    assert evaluate(Returns(wrap), [SCORES]).classes.tolist() == [0, 1, 2, 0]


@pytest.mark.parametrize("wrap", [lambda x: x[:, 0], lambda x: "text", lambda x: {}])
def test_outputs_without_classes_are_refused(wrap):
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
        evaluate(nn.Identity(), loader)


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


# --- latency and memory ---


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> tuple[Path, Path]:
    """The digits network and one with 64 MB of weights that must all be read."""
    folder = tmp_path_factory.mktemp("onnx")
    images, _ = digits()
    export_onnx(trained(), folder / "small.onnx", samples=images[:4])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        large = nn.Sequential(nn.Flatten(), nn.Linear(64, 4000), nn.ReLU(), nn.Linear(4000, 4000), nn.Linear(4000, 10))
    export_onnx(large, folder / "large.onnx", samples=images[:4])
    return folder / "small.onnx", folder / "large.onnx"


@pytest.fixture
def sample() -> np.ndarray:
    return digits()[0][:1].numpy()


def test_latency_of_each_file_and_batch_size(files, sample):
    small, large = compare_latency(files, sample=sample, batch_sizes=(1, 4), runs=7, warmup=1, threads=1)
    for found in (small, large):
        assert [each.batch for each in found] == [1, 4]
        assert [each.runs for each in found] == [7, 7]
        assert all(0 < each.median_ms <= each.p95_ms for each in found)
    assert large[0].median_ms > small[0].median_ms  # 16 million against 20 thousand multiply-accumulates


@pytest.fixture
def clock(monkeypatch):
    """Inference that takes a made-up time: small 1, 2, 3 … ms, large ten times as long; and a record of the order."""

    class Clock:
        now, calls, shapes = 0, [], []

        def perf_counter_ns(self) -> int:
            return self.now

        def perf_counter(self) -> float:
            return self.now / 1e9

    clock = Clock()

    def run(session: str, inputs: np.ndarray) -> None:
        clock.calls.append(session)
        clock.shapes.append(inputs.shape)
        clock.now += clock.calls.count(session) * (10 if session == "large" else 1) * 1_000_000

    monkeypatch.setattr(measurement, "time", clock)
    monkeypatch.setattr(measurement, "run_session", run)
    monkeypatch.setattr(measurement, "open_session", lambda path, options: path)
    return clock


def test_files_take_turns_and_the_order_rotates(clock, sample):
    compare_latency(["a", "b", "c"], sample=sample, batch_sizes=(2,), runs=3, warmup=1)
    assert "".join(clock.calls) == "cab" + "abc" + "bca" + "cab"
    assert set(clock.shapes) == {(2, 1, 8, 8)}


def test_median_and_p95_of_the_counted_runs(clock, sample):
    small, large = compare_latency(["small", "large"], sample=sample, batch_sizes=(1,), runs=21, warmup=2)
    # the two warm-up runs of 1 and 2 ms do not count: 3, 4, …, 23 ms remain
    assert (small[0].median_ms, small[0].p95_ms) == pytest.approx((13, 22))
    assert (large[0].median_ms, large[0].p95_ms) == pytest.approx((130, 220))


def test_a_spent_budget_ends_after_one_warm_up_and_five_runs(clock, sample):
    found = compare_latency(["small", "large"], sample=sample, batch_sizes=(1, 2), runs=30, warmup=5, max_seconds=0.001)
    assert [[each.runs for each in file] for file in found] == [[5, 5], [5, 5]]
    assert clock.calls.count("small") == 2 * (1 + 5)


def test_a_budget_in_the_middle_ends_the_count_there(clock, sample):
    (found,) = compare_latency(["small"], sample=sample, batch_sizes=(1,), runs=30, warmup=0, max_seconds=0.0541)
    assert found[0].runs == 10  # 1 + 2 + … + 10 = 55 ms


def test_latency_of_files_that_cannot_be_run(files, sample, tmp_path):
    (tmp_path / "broken.onnx").write_bytes(b"not a model")
    for path, name in ((tmp_path / "broken.onnx", "broken.onnx"), (tmp_path / "none.onnx", "none.onnx")):
        with pytest.raises(ExportError, match=f"cannot load {name}"):
            compare_latency([path], sample=sample)
    with pytest.raises(ExportError, match=r"\(1, 3, 8, 8\)"):
        compare_latency(files[:1], sample=np.zeros((1, 3, 8, 8), np.float32))
    with pytest.raises(DataError, match="1 or more"):
        compare_latency(files, sample=sample, runs=0)
    with pytest.raises(DataError, match="1 or more"):
        compare_latency(files, sample=sample, batch_sizes=(0,))


@pytest.mark.skipif(sys.platform not in {"linux", "darwin"}, reason="this system does not tell")
def test_peak_memory_is_that_of_the_inference_alone(files, sample):
    small, large = (peak_memory(path, sample=sample) for path in files)
    assert 20e6 < small < 200e6  # this process, with torch in it, has far more, and must not show through
    assert 50e6 < large - small < 300e6
    assert peak_memory(files[0], sample=sample, batch=20_000) - small > 30e6  # 8 maps of 8 × 8 floats each: 41 MB


def test_peak_memory_of_a_file_that_cannot_be_run(sample, tmp_path):
    (tmp_path / "broken.onnx").write_bytes(b"not a model")
    with pytest.raises(ExportError, match=r"broken\.onnx"):
        peak_memory(tmp_path / "broken.onnx", sample=sample)


def test_a_system_that_does_not_tell(files, sample, monkeypatch):
    monkeypatch.setattr(measurement.sys, "platform", "win32")
    assert peak_memory(files[0], sample=sample) is None


def test_the_inference_process_loads_neither_torch_nor_the_package(files, sample, tmp_path):
    np.save(tmp_path / "input.npy", sample)
    script = Path(measurement.__file__).with_name("_inference_process.py")
    command = [sys.executable, "-P", "-X", "importtime", script, files[0], tmp_path / "input.npy"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert {"numpy", "onnxruntime"} <= loaded
    assert not {"torch", "topocompress"} & loaded
