from __future__ import annotations

import argparse
import os
import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from topocompress.errors import ModelError
from topocompress.models.checkpoints import check_dense, check_finite, read_checkpoint


@pytest.fixture
def module():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()


def same(checkpoint, module) -> bool:
    (candidate,) = checkpoint.candidates
    found = candidate.state
    expected = module.state_dict()
    return found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ckpt"])
@pytest.mark.parametrize("new_format", [True, False])
def test_reads_what_torch_saves(tmp_path, module, suffix, new_format):
    path = tmp_path / f"model{suffix}"
    torch.save(module.state_dict(), path, _use_new_zipfile_serialization=new_format)
    assert same(read_checkpoint(path), module)


@pytest.mark.parametrize("name", ["model.safetensors", "model.pt"])
def test_reads_safetensors_whatever_the_extension(tmp_path, module, name):
    save_file(module.state_dict(), tmp_path / name)
    assert same(read_checkpoint(tmp_path / name), module)


@pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict"])
def test_finds_nested_weights(tmp_path, module, key):
    torch.save({"epoch": 3, key: module.state_dict(), "optimizer": {"state": {}}}, tmp_path / "m.pt")
    assert same(read_checkpoint(tmp_path / "m.pt"), module)


def test_finds_weights_nested_twice(tmp_path, module):
    torch.save({"model": {"state_dict": module.state_dict()}}, tmp_path / "m.pt")
    assert same(read_checkpoint(tmp_path / "m.pt"), module)


def test_reading_leaves_the_random_state(tmp_path, module):
    torch.save(module.state_dict(), tmp_path / "m.pt")
    before = torch.get_rng_state()
    read_checkpoint(tmp_path / "m.pt")
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("new_format", [True, False])
def test_a_whole_module_needs_trust(tmp_path, module, new_format):
    path = tmp_path / "whole.pt"
    torch.save(module, path, _use_new_zipfile_serialization=new_format)
    with pytest.raises(ModelError, match="whole pickled module") as caught:
        read_checkpoint(path)
    assert "--trust-pickle" in caught.value.hint
    found = read_checkpoint(path, trust_pickle=True)
    assert same(found, module)
    assert isinstance(found.candidates[0].module, nn.Sequential)


def test_pickled_objects_beside_the_weights_are_left_out_and_named(tmp_path, module):
    path = tmp_path / "args.pt"
    torch.save({"state_dict": module.state_dict(), "args": argparse.Namespace(lr=0.1)}, path)
    found = read_checkpoint(path)
    assert same(found, module)
    assert "argparse.Namespace" in found.note
    trusted = read_checkpoint(path, trust_pickle=True)
    assert same(trusted, module)
    assert trusted.note == ""


class Bomb:
    """Writes a file when unpickled."""

    def __init__(self, target) -> None:
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
def test_no_code_of_the_file_runs(tmp_path, form):
    path, target = tmp_path / "bomb.pt", tmp_path / "exploded"
    if form == "pickle":
        path.write_bytes(pickle.dumps(Bomb(target)))
    else:
        torch.save({"state_dict": Bomb(target)}, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(ModelError, match="mkdir"):
        read_checkpoint(path)
    assert not target.exists()


def test_trusted_pickle_whose_class_is_gone(tmp_path):
    path = tmp_path / "gone.pt"
    path.write_bytes(b"\x80\x02cno_such_package_here\nNet\n.")
    with pytest.raises(ModelError, match="cannot load"):
        read_checkpoint(path, trust_pickle=True)


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_torchscript_is_refused(tmp_path, module):
    torch.jit.script(module).save(str(tmp_path / "m.pt"))
    for trust in (False, True):
        with pytest.raises(ModelError, match="TorchScript") as caught:
            read_checkpoint(tmp_path / "m.pt", trust_pickle=trust)
        assert "state_dict" in caught.value.hint


@pytest.mark.parametrize("name", ["m.pt2", "m.pt"])
def test_exported_program_is_refused(tmp_path, module, name):
    program = torch.export.export(module, (torch.rand(1, 3, 8, 8),))
    torch.export.save(program, tmp_path / "m.pt2")
    (tmp_path / "m.pt2").rename(tmp_path / name)
    with pytest.raises(ModelError, match=r"torch\.export"):
        read_checkpoint(tmp_path / name)


@pytest.mark.parametrize("name", ["m.onnx", "m.pt"])
def test_onnx_is_refused(tmp_path, name):
    import onnx
    from onnx import helper

    value = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [value], [value])
    (tmp_path / name).write_bytes(helper.make_model(graph).SerializeToString())
    with pytest.raises(ModelError, match="ONNX"):
        read_checkpoint(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"\x08", "not a PyTorch checkpoint"),
        (b"hello world, this is text", "not a PyTorch checkpoint"),
        (b"\x89HDF\r\n\x1a\n" + bytes(80), "HDF5"),
        (b"\x1c\x00\x00\x00TFL3" + bytes(80), "TensorFlow Lite"),
        (b"\x80\x02}q\x00.", "holds no weights"),
        (b"\x1f\x8b\x08" + bytes(80), "gzip"),
        (b"\xfd7zXZ\x00" + bytes(80), "xz"),
        (b"\x80", "truncated"),
    ],
)
def test_other_content_is_refused(tmp_path, content, message):
    (tmp_path / "m.pt").write_bytes(content)
    with pytest.raises(ModelError, match=message) as caught:
        read_checkpoint(tmp_path / "m.pt")
    assert caught.value.hint


def test_text_named_safetensors(tmp_path):
    (tmp_path / "m.safetensors").write_text("not tensors", encoding="utf-8")
    with pytest.raises(ModelError, match="not a safetensors file"):
        read_checkpoint(tmp_path / "m.safetensors")


def test_missing_and_directory(tmp_path):
    with pytest.raises(ModelError, match="does not exist"):
        read_checkpoint(tmp_path / "none.pt")
    with pytest.raises(ModelError, match="is a directory"):
        read_checkpoint(tmp_path)


def test_zip_that_is_no_checkpoint(tmp_path):
    import zipfile

    with zipfile.ZipFile(tmp_path / "m.pt", "w") as archive:
        archive.writestr("photos/a.txt", "hello")
    with pytest.raises(ModelError, match="zip archive"):
        read_checkpoint(tmp_path / "m.pt")


@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
@pytest.mark.parametrize("keep", [0.02, 0.3, 0.6, 0.95])
def test_truncated(tmp_path, module, form, keep):
    path = tmp_path / "m.pt"
    if form == "safetensors":
        save_file(module.state_dict(), path)
    else:
        torch.save(module.state_dict(), path, _use_new_zipfile_serialization=form == "zip")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(ModelError, match=r"truncated|not a PyTorch checkpoint"):
        read_checkpoint(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_inf_name_the_first_tensor(module, value):
    state = module.state_dict()
    state["1.running_var"][2] = value
    with pytest.raises(ModelError, match=r"here: 1\.running_var \(4,\) holds 1 values"):
        check_finite(state, "here")


def test_check_finite_passes_integers_and_finite_values():
    check_finite({"a": torch.ones(2), "n": torch.tensor(3)}, "here")


@pytest.mark.parametrize("contents", [{}, [torch.ones(1)], {"epoch": 3}, 7])
def test_no_weights_inside(tmp_path, contents):
    torch.save(contents, tmp_path / "m.pt")
    with pytest.raises(ModelError, match="holds no weights"):
        read_checkpoint(tmp_path / "m.pt")


def test_sparse_weights_are_refused(tmp_path):
    torch.save({"conv.weight": torch.eye(3).to_sparse()}, tmp_path / "m.pt")
    with pytest.raises(ModelError, match=r"conv\.weight is a sparse tensor"):
        check_dense(read_checkpoint(tmp_path / "m.pt").candidates[0].state, "m.pt")
