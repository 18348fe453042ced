"""What a pickle asks for and how it is built, found by walking through it; nothing is executed."""

from __future__ import annotations

import io
import pickletools
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

MAGIC = 0x1950A86A20F9469CFC6C
"""What torch.save's format from before torch 1.6 begins with."""
ARRAYS = re.compile(r"numpy\.(_?core\.(multiarray\._reconstruct|numeric\._frombuffer)|ndarray|dtype)|_codecs\.encode")
"""Classes and functions that a pickled numpy array asks for."""
_PLAIN = frozenset(
    {
        "collections.OrderedDict",
        *(f"{module}.{name}" for module in ("builtins", "__builtin__") for name in ("int", "long", "set", "frozenset")),
        *(f"{module}.{name}" for module in ("builtins", "__builtin__") for name in ("bytearray", "complex", "dict")),
    }
)
_PICKLES = 5
"""Pickles of that format: magic number, version, system, contents, keys of the storages."""
_NESTED_TUPLES = 200
"""Hashing deeper ones, as keys of a dictionary, exhausts the stack of the interpreter."""
_INFLATION = 4
"""Times its size on disk that an archive may unpack to; torch.save does not compress."""
_MOST = 4_000_000
"""Instructions of a pickle; the numbers of a tensor are one, or none."""
_CALLS = frozenset({"REDUCE", "NEWOBJ", "NEWOBJ_EX", "OBJ", "INST"})
_BOUNDED = frozenset(
    {
        "collections.OrderedDict",
        "torch.Size",
        "torch.device",
        "_codecs.encode",
        "torch.serialization._get_layout",
        *(f"torch._utils._rebuild_{kind}" for kind in ("parameter", "parameter_with_state", "tensor", "tensor_v2")),
        *(f"torch._utils._rebuild_{kind}" for kind in ("tensor_v3", "sparse_tensor", "qtensor")),
    }
)
"""What torch.load calls at most for a state dict."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the pickles of a file ask for.

    Attributes:
        names: Classes and functions, dotted.
        calls: Those of them that are called; an empty text for one that cannot be told.
    """

    names: list[str]
    calls: frozenset[str]

    @property
    def bounded(self) -> bool:
        """Whether all that is called takes no more memory than the file has bytes."""
        return self.calls <= _BOUNDED


def survey(file: Path) -> Asked:
    """Names of the classes and functions that the pickles of a file ask for, found in one pass over it.

    Raises:
        ValueError: The file is damaged, or made to exhaust whoever reads it.
    """
    names: dict[str, None] = {}
    calls: set[str] = set()
    with open_pickle(file) as stream:
        for number in range(_PICKLES):
            first = list(_globals_in(stream, names, calls))
            if number == 0 and first != [MAGIC]:
                break
    return Asked(names=list(names), calls=frozenset(calls))


def foreign_names(names: list[str]) -> list[str]:
    """Those that neither tensors nor numpy arrays nor dictionaries need."""
    code = ("torch.nn.modules.", "torch.fx.", "torch.jit.", "torch.optim.")
    return [
        name
        for name in names
        if (not name.startswith("torch.") or name.startswith(code))
        and name not in _PLAIN
        and not ARRAYS.fullmatch(name)
    ]


def open_pickle(file: Path) -> IO[bytes]:
    """The pickle of a file that ``torch.save`` or ``pickle.dump`` wrote.

    Raises:
        ValueError: Its archive is damaged, or made to exhaust whoever reads it.
    """
    if not zipfile.is_zipfile(file):
        return file.open("rb")
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if len({member.filename for member in members}) < len(members):
            raise ValueError("its archive holds two members of one name")
        if sum(member.file_size for member in members) > _INFLATION * file.stat().st_size:
            raise ValueError("its archive unpacks to many times its size")
        return io.BytesIO(archive.read(data_pickle(archive)))


def data_pickle(archive: zipfile.ZipFile) -> str:
    """Name of the pickle in an archive of ``torch.save``."""
    found = [name for name in archive.namelist() if name == "data.pkl" or name.endswith("/data.pkl")]
    if len(found) != 1:
        raise ValueError(f"its archive holds {len(found)} pickles")
    return found[0]


def _globals_in(stream: IO[bytes], names: dict[str, None], calls: set[str]) -> Iterator[Any]:
    """Walk through one pickle without executing it; yields its contents if they are a single number.

    The stack holds for each object how deep tuples are nested in it, and its text if it is one.
    """
    mark = (-1, None)
    stack: list[tuple[int, Any]] = []
    memo: dict[int, tuple[int, Any]] = {}
    argument: Any
    for count, opcode, argument in _instructions(stream):
        name, before = opcode.name, opcode.stack_before
        if name.endswith("PUT") or name == "MEMOIZE":
            index: int = len(memo) if argument is None else argument
            if index > count:  # the reader would make room for all numbers below
                raise ValueError("its memo has gaps")
            memo[index] = stack[-1]
            continue
        if name.endswith("GET"):
            stack.append(memo[argument])
            continue
        popped: list[tuple[int, Any]] = []
        if pickletools.markobject in before:
            while (top := stack.pop()) is not mark:
                popped.append(top)
            fixed = before.index(pickletools.markobject)
        else:
            fixed = len(before)
        popped += [stack.pop() for _ in range(fixed)]
        pushed = argument
        if asked := _asked(name, argument, popped):
            names[asked] = None
            pushed = asked
        elif name == "STOP" and len(popped) == 1 and type(popped[0][1]) is int:
            yield popped[0][1]
        calls.update(_called(name, asked, popped))
        builds = name.startswith(("TUPLE", "FROZENSET", "REDUCE", "NEWOBJ", "OBJ", "INST"))
        depth = max((item[0] for item in popped), default=0) + builds
        if depth > _NESTED_TUPLES:
            raise ValueError(f"its tuples are nested more than {_NESTED_TUPLES} deep")
        if name == "MARK":
            stack.append(mark)
        else:
            stack.extend((depth, pushed) for _ in opcode.stack_after)


def _instructions(stream: IO[bytes]) -> Iterator[tuple[int, pickletools.OpcodeInfo, Any]]:
    """Number, opcode and argument of each instruction."""
    for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
        if count > _MOST:
            raise ValueError(f"it has more than {_MOST} instructions beside its numbers")
        yield count, opcode, argument


def _called(name: str, asked: str, popped: list[tuple[int, Any]]) -> list[str]:
    """What an opcode calls, if it calls something; an empty text where that cannot be told."""
    if name not in _CALLS:
        return []
    return [asked if name == "INST" else str(popped[-1][1] or "")]


def _asked(name: str, argument: Any, popped: list[tuple[int, Any]]) -> str:
    """The class or function that an opcode asks for, dotted; empty if it asks for none."""
    if name in ("GLOBAL", "INST"):
        return str(argument).replace(" ", ".")
    return f"{popped[1][1]}.{popped[0][1]}" if name == "STACK_GLOBAL" else ""
