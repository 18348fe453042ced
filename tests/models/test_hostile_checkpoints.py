"""Files made to harm whoever reads them: nothing of theirs runs, and they end in a message."""

from __future__ import annotations

import json
import os
import pickle
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from tests.helpers import checkpoints as made
from topocompress.errors import ModelError
from topocompress.models import pickle_survey
from topocompress.models.checkpoints import read_checkpoint
from topocompress.models.pickle_survey import MAGIC, survey
from topocompress.models.pickles import Foreign, read_inert


class Bomb:
    """Makes a folder when unpickled."""

    def __init__(self, target, function=os.mkdir) -> None:
        self.target, self.function = target, function

    def __reduce__(self):
        return self.function, (str(self.target),)


class Installer:
    """Makes a folder when its state is set, or when it is called."""

    def __init__(self, target) -> None:
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),), {"a": 1}, iter([1]), iter([("k", 2)])


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("new_format", [True, False])
@pytest.mark.parametrize("bomb", [Bomb, Installer])
def test_code_beside_the_weights_does_not_run_and_is_named(tmp_path, protocol, new_format, bomb):
    target = tmp_path / "exploded"
    contents = {"state_dict": made.raw(), "args": bomb(target), "more": [bomb(target)]}
    path = made.by_torch(lambda: contents, pickle_protocol=protocol, _use_new_zipfile_serialization=new_format)(
        tmp_path
    )
    found = read_checkpoint(path)
    assert not target.exists()
    assert f"{os.mkdir.__module__}.mkdir" in found.note
    (candidate,) = found.candidates
    assert all(torch.equal(value, candidate.state[key]) for key, value in made.raw().items())


@pytest.mark.parametrize(
    "code",
    [
        b"cposix\nsystem\nX\x05\x00\x00\x00false\x85R",
        b"(cposix\nsystem\nX\x05\x00\x00\x00falseo",
        b"(X\x05\x00\x00\x00falseiposix\nsystem\n",
        b"cbuiltins\neval\nX\x03\x00\x00\x001/0\x85R",
        b"cbuiltins\ngetattr\ncos\n_exit\nX\x04\x00\x00\x00name\x86RK\x01\x85R",
        b"c__main__\nNet\n)\x81}X\x01\x00\x00\x00aK\x01sb",
    ],
)
def test_code_in_other_opcodes_is_inert(tmp_path, code):
    (tmp_path / "m.pkl").write_bytes(b"\x80\x02" + code + b".")
    assert isinstance(read_inert(tmp_path / "m.pkl"), Foreign)
    with pytest.raises(ModelError, match="pickled Python objects"):
        read_checkpoint(tmp_path / "m.pkl")


def test_an_attribute_set_on_a_class_reaches_no_real_class(tmp_path):
    (tmp_path / "m.pkl").write_bytes(b"\x80\x02ctorch\nTensor\n}X\x08\x00\x00\x00touched_K\x01sb.")
    with pytest.raises(ModelError):
        read_checkpoint(tmp_path / "m.pkl")
    assert not hasattr(torch.Tensor, "touched_")


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02}" + b")" + b"\x85" * 2_000_000 + b"K\x01s.",  # a key nested two million deep
        b"\x80\x02" + b")" + b"\x85q\x00h\x00" * 300 + b".",  # the same by way of the memo
        b"\x80\x02]r\xff\xff\xff\xff.",  # a memo of four thousand million places
        b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x0fab.",  # a text of 2^60 bytes
        b"\x80\x04\x8e\x00\x00\x00\x00\x00\x01\x00\x00ab.",  # bytes, 2^40 of them
        b"\x80\x02h\x05.",  # a memo that is empty
        b"\x80\x02...",
        b"\x80\x02t.",  # no mark
        b"\x80\x02\x82\x01.",  # the registry of extensions
        b"\x80\x05\x97.",  # a buffer that is elsewhere
    ],
)
def test_pickles_that_exhaust_or_confuse(tmp_path, content):
    (tmp_path / "m.pt").write_bytes(content)
    with pytest.raises(ModelError, match=r"truncated|not a PyTorch checkpoint|no weights"):
        read_checkpoint(tmp_path / "m.pt")


def nested(levels, tensor):
    for _ in range(levels):
        tensor = {"a": tensor}
    return tensor


def test_dictionaries_nested_too_deep(tmp_path):
    torch.save(nested(150, made.raw()), tmp_path / "m.pt")
    with pytest.raises(ModelError, match="no weights"):
        read_checkpoint(tmp_path / "m.pt")


@pytest.mark.parametrize("make", [lambda node: [node, node], lambda node: {"a": node, "b": node}])
def test_shared_parts_are_read_once(tmp_path, make):
    node = {"w": torch.ones(2)}
    for _ in range(200):
        node = make(node)
    torch.save({"tree": node, "state_dict": made.raw(), "args": made.namespace()}, tmp_path / "m.pt")
    assert [candidate.name for candidate in read_checkpoint(tmp_path / "m.pt").candidates] == ["state_dict"]


def test_a_cycle(tmp_path):
    loop = {"state_dict": made.raw(), "args": made.namespace()}
    loop["self"] = [loop]
    torch.save(loop, tmp_path / "m.pt")
    assert len(read_checkpoint(tmp_path / "m.pt").candidates) == 1


def pickle_calling(size, stride, offset=0, numel=4):
    """A tensor of torch.save's with a shape of one's own, beside something foreign."""

    class Storage:
        pass

    class Tensor:
        def __reduce__(self):
            return torch._utils._rebuild_tensor_v2, (Storage(), offset, size, stride, False, {})

    class Pickler(pickle.Pickler):
        def persistent_id(self, thing):
            if isinstance(thing, Storage):
                return ("storage", torch.FloatStorage, "0", "cpu", numel)
            return None

    def write(path):
        import io

        stream = io.BytesIO()
        Pickler(stream, protocol=2).dump({"state_dict": {"w": Tensor()}, "args": made.namespace()})
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("m/data.pkl", stream.getvalue())
            archive.writestr("m/version", "3\n")
            archive.writestr("m/data/0", torch.arange(4.0).numpy().tobytes())

    return write


def test_a_tensor_within_its_storage(tmp_path):
    pickle_calling((2, 2), (1, 2))(tmp_path / "m.pt")
    found = read_checkpoint(tmp_path / "m.pt").candidates[0].state["w"]
    assert found.tolist() == [[0, 2], [1, 3]]


@pytest.mark.parametrize(
    ("size", "stride", "offset", "numel"),
    [
        ((10**12,), (0,), 0, 4),
        ((10**6, 10**6), (0, 0), 0, 4),
        ((2, 2), (2, 2), 0, 4),
        ((4,), (1,), 1, 4),
        ((4,), (1,), -1, 4),
        ((4,), (-1,), 3, 4),
        ((-4,), (1,), 0, 4),
        ((4,), (1,), 0, 10**12),
        ((4,), (1,), 0, 5),
        ((2.0, 2), (1, 2), 0, 4),
    ],
)
def test_a_tensor_beyond_its_storage(tmp_path, size, stride, offset, numel):
    pickle_calling(size, stride, offset, numel)(tmp_path / "m.pt")
    with pytest.raises(ModelError, match="truncated"):
        read_checkpoint(tmp_path / "m.pt")


def test_an_archive_that_unpacks_to_many_times_its_size(tmp_path):
    with zipfile.ZipFile(tmp_path / "m.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/data.pkl", b"\x80\x02X\x00\x00\x00\x01" + b"a" * 2**24 + b".")
    with pytest.raises(ModelError, match="many times its size"):
        read_checkpoint(tmp_path / "m.pt")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_archive_with_two_pickles(tmp_path):
    torch.save(made.raw(), tmp_path / "m.pt")
    with zipfile.ZipFile(tmp_path / "m.pt", "a") as archive:
        archive.writestr(next(name for name in archive.namelist() if name.endswith("data.pkl")), b"\x80\x02}.")
    with pytest.raises(ModelError, match="two members of one name"):
        read_checkpoint(tmp_path / "m.pt")


# --- an index names files


def index(folder, text):
    (folder / "model.safetensors.index.json").write_text(text, encoding="utf-8")
    return folder / "model.safetensors.index.json"


@pytest.mark.parametrize(
    "name", ["../secret.safetensors", "../../etc/passwd", "/etc/passwd", "a/../b", "sub/part", "..", ".", "a\\b", 7]
)
def test_an_index_that_leads_outside(tmp_path, name):
    (tmp_path / "in").mkdir()
    save_file(made.raw(), tmp_path / "secret.safetensors")
    path = index(tmp_path / "in", json.dumps({"weight_map": {"fc.bias": name}}))
    with pytest.raises(ModelError, match="outside its folder"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "not an index"),
        ("[]", "not an index"),
        ("[" * 100_000, "not an index"),
        ("not json", "not an index"),
        ('{"weight_map": 3}', "not an index"),
        ('{"weight_map": {}}', "index of nothing"),
        ('{"weight_map": {"a": "part.bin"}}', "is missing"),
        ('{"weight_map": {"a": "here.safetensors"}}', "lacks a"),
        ('{"weight_map": {"fc.bias": "here.safetensors", "fc.bias": "here.safetensors"}}', "twice"),
        ('{"weight_map": {"fc.bias": "model.safetensors.index.json"}}', "no part of a checkpoint"),
    ],
)
def test_an_index_that_is_wrong(tmp_path, text, message):
    save_file(made.raw(), tmp_path / "here.safetensors")
    with pytest.raises(ModelError, match=message):
        read_checkpoint(index(tmp_path, text))


def test_a_tensor_in_two_parts_comes_from_the_one_that_the_index_names(tmp_path):
    save_file(made.raw(), tmp_path / "one.safetensors")
    save_file(made.averaged(), tmp_path / "two.safetensors")
    where = dict.fromkeys(made.raw(), "two.safetensors")
    found = read_checkpoint(index(tmp_path, json.dumps({"weight_map": where}))).candidates[0].state
    assert all(torch.equal(value, found[key]) for key, value in made.averaged().items())


def test_a_folder_with_two_models(tmp_path):
    save_file(made.raw(), tmp_path / "model.safetensors")
    torch.save(made.averaged(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"model\.safetensors and pytorch_model\.bin"):
        read_checkpoint(tmp_path)


def test_an_index_whose_part_is_a_pickled_module(tmp_path):
    torch.save(made.RAW, tmp_path / "part.bin")
    with pytest.raises(ModelError, match="whole pickled module"):
        read_checkpoint(index(tmp_path, '{"weight_map": {"fc.bias": "part.bin"}}'))


class Called:
    """Calls something when unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


HUGE = {
    "bytes": (bytearray, 3_000_000_000),
    "a storage": (torch.FloatStorage, 800_000_000),
    "a tensor": (torch.Tensor, 30_000, 30_000),
    "through a tensor of another type": (torch._tensor._rebuild_from_type_v2, bytearray, bytearray, (10**9,), {}),
}


@pytest.mark.parametrize("call", HUGE.values(), ids=HUGE)
def test_what_takes_memory_that_the_file_has_not_is_not_called(tmp_path, monkeypatch, call):
    path = tmp_path / "m.pt"
    torch.save({"state": made.raw(), "w": Called(*call)}, path)
    assert not survey(path).bounded
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("torch would call it"))
    (candidate,) = read_checkpoint(path).candidates
    assert candidate.state.keys() == made.raw().keys()


def test_plain_weights_are_read_by_torch(tmp_path):
    torch.save({"state_dict": made.raw(), "epoch": 3}, tmp_path / "m.pt")
    assert survey(tmp_path / "m.pt").bounded


SPOILED = {
    "a pickle again and again": b"\x80\x02." * 1_000_000,
    "its magic, and then that": pickle.dumps(MAGIC, protocol=2) + b"\x80\x02N." * 100_000,
    "marks": b"\x80\x02" + b"(" * 100_000 + b".",
    "tuples in tuples": b"\x80\x02" + b"(t" * 100_000 + b".",
    "a long number": b"\x80\x02I" + b"9" * 1_000_000 + b"\n.",
    "a number of no end": b"\x80\x02\x8b\xff\xff\xff\x7f.",
}


@pytest.mark.parametrize("content", SPOILED.values(), ids=SPOILED)
def test_pickles_made_to_exhaust_their_reader_are_refused(tmp_path, content):
    (tmp_path / "m.pt").write_bytes(content)
    with pytest.raises(ModelError):
        read_checkpoint(tmp_path / "m.pt")


def test_a_pickle_of_too_many_instructions_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(pickle_survey, "_MOST", 1000)
    torch.save({"w": made.raw(), "log": list(range(2000))}, tmp_path / "m.pt")
    with pytest.raises(ModelError, match="more than 1000 instructions"):
        read_checkpoint(tmp_path / "m.pt")


def test_an_archive_that_unpacks_to_much_more_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "m.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"\x80\x02X" + (10**7).to_bytes(4, "little") + b"a" * 10**7 + b".")
    with pytest.raises(ModelError, match="unpacks to many times its size"):
        read_checkpoint(tmp_path / "m.pt")
