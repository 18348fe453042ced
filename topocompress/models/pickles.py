"""Pickles read as data: nothing that a file names is imported or called.

Every class and function that a pickle asks for is a :class:`Foreign` here, which keeps what the pickle says of it.
Tensors and numpy arrays are then put together from their bytes, within the bounds that the file gives.
"""

from __future__ import annotations

import math
import pickle
import re
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from topocompress.models.pickle_survey import ARRAYS, MAGIC, data_pickle, open_pickle

_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "UntypedStorage": torch.uint8,
}
_NUMPY_TYPE = re.compile(r"[fiu][1248]|b1")
_DEPTH = 32


class Foreign:
    """An object whose class was not loaded.

    Attributes:
        origin: Where its class says it is from, dotted.
        args: What it is made with.
        state: What was set on it afterwards.
        entries: What a dictionary of this class holds.
    """

    origin = ""

    def __new__(cls, *args: Any, **_options: Any) -> Foreign:
        """An instance, which keeps the arguments."""
        made = super().__new__(cls)
        made.args, made.state, made.entries = args, None, {}
        return made

    args: tuple[Any, ...]
    state: Any
    entries: dict[Any, Any]

    def __call__(self, *args: Any, **_options: Any) -> Foreign:
        """A new object, in place of what calling this one would have given."""
        return Foreign(*args)

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.entries[key] = value

    def append(self, item: Any) -> None:
        """Nothing: elements of foreign lists and sets are not needed."""

    extend = add = append

    @property
    def is_module(self) -> bool:
        """Whether this is a pickled ``torch.nn.Module``."""
        return isinstance(self.state, dict) and {"_modules", "_parameters"} <= self.state.keys()


class _Stored:
    """A storage that lies elsewhere in the file."""

    def __init__(self, dtype: torch.dtype, key: str, numel: int) -> None:
        self.dtype, self.key, self.numel = dtype, key, numel


class _Unpickler(pickle.Unpickler):
    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__(stream, encoding="latin1")  # of Python 2, whose byte strings may be numpy's
        self.classes: dict[str, type[Foreign]] = {}
        self.stored: dict[str, _Stored] = {}

    def find_class(self, module: str, name: str) -> Any:
        origin = f"{module}.{name}"
        if origin not in self.classes:
            self.classes[origin] = type("Foreign", (Foreign,), {"origin": origin})
        return self.classes[origin]

    def persistent_load(self, pid: Any) -> Any:
        kind, *rest = pid
        if kind == "module":  # the old format's classes, with their source
            return rest[0]
        storage, key, _, numel, *view = rest
        if kind != "storage" or type(numel) is not int or numel < 0 or any(part is not None for part in view):
            raise ValueError(f"unknown reference {kind!r}")
        key = str(key)
        return self.stored.setdefault(key, _Stored(_DTYPES[storage.origin.rpartition(".")[2]], key, numel))


def read_inert(file: Path) -> Any:
    """What a file of torch.save or ``pickle.dump`` holds: dictionaries, lists, numbers, texts, tensors.

    A numpy array becomes a tensor, an object of another class a :class:`Foreign`.

    Raises:
        ValueError, KeyError, EOFError, pickle.UnpicklingError, and others: The file is damaged.
    """
    size = file.stat().st_size
    with open_pickle(file) as stream:
        unpickler = _Unpickler(stream)
        contents = unpickler.load()
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                root = data_pickle(archive).removesuffix("data.pkl")
                order = f"{root}byteorder"
                if order in archive.namelist() and archive.read(order) != b"little":
                    raise ValueError("its numbers are big-endian")
                return _Maker(lambda stored: archive.read(f"{root}data/{stored.key}"), size).plain(contents)
        if contents != MAGIC:  # pickle.dump
            return _Maker(_nothing, size).plain(contents)
        for _ in range(2):
            _Unpickler(stream).load()
        unpickler = _Unpickler(stream)
        contents = unpickler.load()
        storages = dict(_legacy_storages(stream, _Unpickler(stream).load(), unpickler.stored))
        return _Maker(lambda stored: storages[stored.key], size).plain(contents)


def _nothing(stored: _Stored) -> bytes:
    raise ValueError(f"storage {stored.key} is not in the file")


def _legacy_storages(stream: IO[bytes], keys: Any, stored: dict[str, _Stored]) -> Iterator[tuple[str, bytes]]:
    for key in keys:
        (numel,) = struct.unpack("<q", stream.read(8))
        storage = stored[str(key)]
        if numel != storage.numel:
            raise ValueError(f"storage {key} holds {numel} numbers instead of {storage.numel}")
        yield str(key), stream.read(numel * storage.dtype.itemsize)


class _Maker:
    """Turns what was unpickled into plain data and tensors, each object once."""

    def __init__(self, read: Callable[[_Stored], bytes], size: int) -> None:
        self.read, self.size = read, size
        self.made: dict[int, Any] = {}
        self.seen: list[Any] = []  # kept, so that no two have one id
        self.storages: dict[str, Tensor] = {}

    def plain(self, node: Any, depth: int = 0) -> Any:
        if not isinstance(node, (dict, list, tuple, Foreign)) or depth > _DEPTH:
            return node
        if id(node) in self.made:
            return self.made[id(node)]
        self.seen.append(node)
        if isinstance(node, Foreign):
            made = self.object(node, depth + 1)
        elif isinstance(node, dict):
            made = self.made[id(node)] = {}
            made.update((key, self.plain(value, depth + 1)) for key, value in node.items())
        else:
            made = [self.plain(value, depth + 1) for value in node]
        self.made[id(node)] = made
        return made

    def object(self, node: Foreign, depth: int) -> Any:
        name = node.origin.rpartition(".")[2]
        if node.origin.startswith(("torch._utils.", "torch._tensor.", "torch.tensor.")):
            return self.rebuilt(node, name, depth)
        if ARRAYS.fullmatch(node.origin) and name == "_reconstruct":
            _, shape, dtype, fortran, raw = node.state
            return _array(raw, dtype, shape, "F" if fortran else "C")
        if ARRAYS.fullmatch(node.origin) and name == "_frombuffer":
            return _array(*node.args)
        if node.entries or name in ("OrderedDict", "defaultdict"):
            pairs = node.args[0] if node.args and isinstance(node.args[0], list) else ()  # as Python 2 wrote them
            return self.plain({**dict(pairs), **node.entries}, depth)
        return node

    def rebuilt(self, node: Foreign, name: str, depth: int) -> Any:
        if name.startswith("_rebuild_parameter"):
            return self.plain(node.args[0], depth)
        if name.startswith("_rebuild_from_type"):  # a subclass of Tensor
            function, _, args, *_ = node.args
            return self.plain(function(*args), depth)
        if name in ("_rebuild_tensor", "_rebuild_tensor_v2"):
            return self.tensor(*node.args[:4])
        if name == "_rebuild_tensor_v3":
            stored, offset, size, stride, _, _, dtype, *_ = node.args
            return self.tensor(stored, offset, size, stride, getattr(torch, dtype.origin.removeprefix("torch.")))
        return node

    def tensor(self, stored: Any, offset: Any, size: Any, stride: Any, dtype: torch.dtype | None = None) -> Tensor:
        shape = tuple(size.args[0] if isinstance(size, Foreign) else size)  # torch.Size, or a tuple
        steps = tuple(stride)
        if not isinstance(stored, _Stored) or not all(type(n) is int for n in (offset, *shape, *steps)):
            raise ValueError("a tensor of an unknown form")
        if math.prod(shape) > self.size:
            raise ValueError(f"a tensor of shape {shape} in a file of {self.size} bytes")
        if stored.key not in self.storages:
            raw = self.read(stored)
            if len(raw) != stored.numel * stored.dtype.itemsize:
                raise ValueError(f"storage {stored.key} holds {len(raw)} bytes")
            self.storages[stored.key] = _flat(raw, stored.dtype)
        storage = self.storages[stored.key]
        return torch.as_strided(storage if dtype is None else storage.view(dtype), shape, steps, offset)


def _flat(raw: bytes, dtype: torch.dtype) -> Tensor:
    return torch.frombuffer(bytearray(raw), dtype=dtype) if raw else torch.empty(0, dtype=dtype)


def _array(raw: Any, dtype: Foreign, shape: Any, order: Any) -> Tensor | Foreign:
    """A numpy array; one that holds no numbers stays foreign."""
    kind = str(dtype.args[0])
    if not _NUMPY_TYPE.fullmatch(kind):
        return dtype
    if isinstance(raw, Foreign):  # _codecs.encode(text, "latin1"), as older pickles write bytes
        raw = raw.args[0]
    data = raw.encode("latin1") if isinstance(raw, str) else bytes(raw)
    swapped = ">" if dtype.state and dtype.state[1] == ">" else "<"
    flat = np.frombuffer(data, np.dtype(f"{swapped}{kind}"))
    native = flat.astype(flat.dtype.newbyteorder("="))
    return torch.from_numpy(np.array(native.reshape(shape, order="F" if order == "F" else "C"), order="C"))
