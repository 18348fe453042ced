import logging
import warnings
from collections import OrderedDict

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn

from tests.helpers.output_kinds import KINDS, Kind, images, made
from tests.helpers.trained import digits, held_out_part, trained
from topocompress.deploy import export
from topocompress.deploy.export import export_onnx
from topocompress.errors import DataError, ExportError, ModelError, OutputError
from topocompress.network.outputs import Output, Outputs


@pytest.fixture(scope="module")
def samples() -> Tensor:
    return held_out_part().tensors[0][:40]


@pytest.fixture(scope="module")
def exported(samples, tmp_path_factory):
    model, path = trained(), tmp_path_factory.mktemp("export") / "digits.onnx"
    return model, path, export_onnx(model, path, samples=samples)


def run(path, images: Tensor) -> list[np.ndarray]:
    return ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"input": images.numpy()})


def test_a_trained_network_survives_the_trip(exported, samples):
    model, path, check = exported
    assert check.samples == 40
    assert 0 <= check.max_rel < 1e-5
    assert check.top1_agreement == 1.0
    with torch.no_grad():
        expected = model.eval()(samples).numpy()
    assert check.max_rel < check.max_abs < 1e-3  # trained logits are well above 1
    np.testing.assert_allclose(run(path, samples)[0], expected, atol=1e-4)
    assert (run(path, samples)[0].argmax(1) == digits()[1][1200:1240].numpy()).mean() > 0.8


@pytest.mark.parametrize("batch", [1, 2, 7, 33])
def test_the_batch_axis_is_free(exported, samples, batch):
    _, path, _ = exported
    assert run(path, samples[:batch])[0].shape == (batch, 10)


def test_one_file_with_named_ends_and_nothing_about_this_machine(exported):
    _, path, check = exported
    assert [entry.name for entry in path.parent.iterdir()] == ["digits.onnx"]
    proto = onnx.load(path, load_external_data=False)
    assert [each.name for each in proto.graph.input] == ["input"]
    assert [each.name for each in proto.graph.output] == ["output"]
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert check.opset == proto.opset_import[0].version
    content = path.read_bytes()
    assert [trace for trace in (b"site-packages", b".py", b"stack_trace", b"/torch") if trace in content] == []


def test_the_same_model_gives_the_same_bytes(exported, samples, tmp_path):
    model, path, _ = exported
    export_onnx(model, tmp_path / "again.onnx", samples=samples[:3])
    assert (tmp_path / "again.onnx").read_bytes() == path.read_bytes()


def test_one_sample_is_enough(samples, tmp_path):
    check = export_onnx(trained(), tmp_path / "m.onnx", samples=samples[:1])
    assert check.samples == 1
    assert run(tmp_path / "m.onnx", samples[:5])[0].shape == (5, 10)


def test_the_callers_model_random_state_hooks_warnings_and_logging_stay(samples, tmp_path):
    model = trained().train()
    model[1].eval()
    modes = [module.training for module in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    random, filters, disabled = torch.get_rng_state(), list(warnings.filters), logging.root.manager.disable
    export_onnx(model, tmp_path / "m.onnx", samples=samples)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in model.modules())
    assert torch.equal(torch.get_rng_state(), random)
    assert list(warnings.filters) == filters
    assert logging.root.manager.disable == disabled


class Dictionary(nn.Module):
    """Returns what torchvision's segmentation models return, and a score without a class axis."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(1, 3, 1)
        with torch.no_grad():
            self.body.weight.copy_(torch.tensor([1.0, -2.0, 0.5]).reshape(3, 1, 1, 1))

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        maps = self.body(x)
        return OrderedDict(out=maps, aux=maps * 1000, sums=maps.sum((1, 2, 3)))


def test_every_tensor_of_a_dictionary_is_compared(samples, tmp_path):
    path = tmp_path / "segmentation.onnx"
    check = export_onnx(Dictionary(), path, samples=samples)
    assert [output.shape for output in run(path, samples)] == [(40, 3, 8, 8), (40, 3, 8, 8), (40,)]
    assert check.top1_agreement is None  # nothing tells that they are classes
    assert check.max_rel < 1e-5


def test_a_requested_opset_is_kept_or_refused(samples, tmp_path, capfd, caplog):
    assert export_onnx(trained(), tmp_path / "m.onnx", samples=samples, opset=17).opset == 17
    assert onnx.load(tmp_path / "m.onnx").opset_import[0].version == 17
    with pytest.raises(ExportError, match="opset 7"):
        export_onnx(trained(), tmp_path / "old.onnx", samples=samples, opset=7)
    assert not (tmp_path / "old.onnx").exists()
    assert capfd.readouterr() == ("", "")  # converting from one opset to another is what the exporter warns of most
    assert [record.name for record in caplog.records if record.name != "torch.__trace"] == []


# --- what must not pass ---


def tampered(change):
    """The exporter, with its result changed before it is checked."""
    genuine = export.to_onnx

    def convert(*args):
        proto = genuine(*args)
        change(proto)
        return proto

    return convert


def weights(proto: onnx.ModelProto) -> onnx.TensorProto:
    return next(each for each in proto.graph.initializer if list(each.dims) == [10, 144])


def scale_weights(proto: onnx.ModelProto) -> None:
    tensor = weights(proto)
    tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) * np.float32(1.01), tensor.name))


def spoil_weights(proto: onnx.ModelProto) -> None:
    tensor = weights(proto)
    tensor.CopyFrom(onnx.numpy_helper.from_array(np.full((10, 144), np.nan, np.float32), tensor.name))


def rename_operator(proto: onnx.ModelProto) -> None:
    proto.graph.node[0].op_type = "Convolve"


def fix_batch(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 40


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            scale_weights,
            r"differs from PyTorch by 1\.\d+e-02 relative \(\d\.\d+e[-+]\d+ absolute\).*tolerance is 1.00e-03",
        ),
        (spoil_weights, "NaN or infinity"),
        (rename_operator, "no valid ONNX model"),
        (fix_batch, r"batch of shape \(1, 1, 8, 8\)|no valid ONNX"),
    ],
)
def test_a_wrong_file_is_an_error_and_does_not_stay(samples, tmp_path, monkeypatch, change, message):
    monkeypatch.setattr(export, "to_onnx", tampered(change))
    with pytest.raises(ExportError, match=message):
        export_onnx(trained(), tmp_path / "m.onnx", samples=samples)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_export_leaves_the_file_that_was_there(samples, tmp_path, monkeypatch):
    (tmp_path / "m.onnx").write_bytes(b"the one before")
    monkeypatch.setattr(export, "to_onnx", tampered(scale_weights))
    with pytest.raises(ExportError):
        export_onnx(trained(), tmp_path / "m.onnx", samples=samples)
    assert (tmp_path / "m.onnx").read_bytes() == b"the one before"
    assert len(list(tmp_path.iterdir())) == 1


def test_the_tolerance_decides(samples, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "to_onnx", tampered(scale_weights))
    check = export_onnx(trained(), tmp_path / "m.onnx", samples=samples, tolerance=0.02)
    assert 0.005 < check.max_rel < 0.02
    with pytest.raises(ExportError, match=r"tolerance is 1\.00e-09"):
        export_onnx(trained(), tmp_path / "strict.onnx", samples=samples, tolerance=1e-9)
    assert not (tmp_path / "strict.onnx").exists()


SCORES = Outputs(
    measure="agreement", compared=(Output(index=0, name="output", axis=0),), label_axes=0, classes=2, what=""
)


def test_differences_are_those_of_the_worst_output():
    expected = [np.array([[1.0, 4.0], [2.0, 0.0]], np.float32), np.array([100.0, 50.0], np.float32)]
    outputs = [np.array([[1.0, 3.0], [0.0, 0.5]], np.float32), np.array([100.0, 53.0], np.float32)]
    found = export._compare(outputs, expected, "at once", SCORES)
    assert found.max_abs == 3.0
    assert found.max_rel == pytest.approx(2 / 4)
    assert found.top1_agreement == 0.5
    assert found.finite
    zeros = [np.zeros((1, 2), np.float32)]
    assert export._compare(zeros, zeros, "at once", SCORES).max_rel == 0.0
    assert export._compare([np.ones((1, 2), np.float32)], zeros, "at once", SCORES).max_rel == np.inf
    with pytest.raises(ExportError, match=r"one by one.*\[\(1, 2\)\].*\[\(2, 2\), \(2,\)\]"):
        export._compare(zeros, expected, "one by one", SCORES)


class FixedBatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("offset", torch.ones(2, 1, 8, 8))

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.offset).flatten(1)


class CountsSamples(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) + torch.linspace(0, 1, x.shape[2] * x.shape[3]).expand(len(x), -1)


def test_len_of_a_batch_is_a_batch_of_any_size(samples, tmp_path):
    check = export_onnx(CountsSamples(), tmp_path / "m.onnx", samples=samples)
    assert check.samples == len(samples) > 1
    (axis, *_) = onnx.load(tmp_path / "m.onnx").graph.input[0].type.tensor_type.shape.dim
    assert axis.dim_param


class MixesSamples(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) - x.flatten(1).mean(0)


class ReadsValues(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) if x.sum() > 0 else x.amax((2, 3))


class NoOperator(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.eigvals(x).real.mean(1)


class Fails(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise ZeroDivisionError("nothing to divide by")


class Unbounded(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) / 0


@pytest.mark.parametrize(
    ("model", "kind", "message"),
    [
        (FixedBatch(), ExportError, "fixed batch size"),
        (MixesSamples(), ExportError, "differs from PyTorch"),  # right all at once, wrong one by one
        (ReadsValues(), ExportError, "data-dependent"),
        (NoOperator(), ExportError, "linalg_eig"),
        (Fails(), ModelError, "nothing to divide by"),
        (Unbounded(), ExportError, "NaN or infinity"),
    ],
)
def test_models_that_cannot_be_exported(samples, tmp_path, capfd, model, kind, message):
    with pytest.raises(kind, match=message) as caught:
        export_onnx(model, tmp_path / "m.onnx", samples=samples[:2])
    assert caught.value.hint
    assert "\x1b" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_weights_beyond_one_file(samples, tmp_path):
    model = nn.Conv2d(1, 2, 3)
    model.register_buffer("huge", torch.zeros(1).expand(2**29))  # 2 GiB on paper, four bytes in memory
    with pytest.raises(ExportError, match=r"2\.0 GiB"):
        export_onnx(model, tmp_path / "m.onnx", samples=samples)


@pytest.mark.parametrize(
    ("inputs", "kind", "message"),
    [
        (torch.zeros(0, 1, 8, 8), DataError, r"\(0, 1, 8, 8\)"),
        (torch.zeros(1, 8, 8), DataError, r"\(1, 8, 8\)"),
        (torch.zeros(2, 1, 8, 8, dtype=torch.float64), DataError, "float64"),
        (torch.full((2, 1, 8, 8), torch.inf), DataError, "NaN or infinity"),
        (torch.zeros(2, 3, 8, 8), ModelError, r"\(2, 3, 8, 8\)"),
    ],
)
def test_samples_that_do_not_fit(tmp_path, inputs, kind, message):
    with pytest.raises(kind, match=message):
        export_onnx(trained(), tmp_path / "m.onnx", samples=inputs)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written(samples, tmp_path):
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(OutputError, match="cannot write"):
        export_onnx(trained(), tmp_path / "file" / "m.onnx", samples=samples)


@pytest.mark.parametrize(
    "make",
    [
        KINDS["crnn"],
        lambda: Kind(lambda x: (x.sigmoid(), torch.arange(6.0).reshape(3, 2)), 6),
        lambda: Kind(lambda x: x[:, 0], 1),
    ],
    ids=["samples on the second axis", "the same for all samples", "one number each"],
)
def test_outputs_without_a_leading_axis_of_samples_are_compared_one_by_one(make, tmp_path):
    check = export_onnx(made(make), tmp_path / "m.onnx", samples=images(5))
    assert check.max_rel < 1e-5
    assert check.top1_agreement is None
    assert (tmp_path / "m.onnx").is_file()
