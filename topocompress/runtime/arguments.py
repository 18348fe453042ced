"""Arguments of public functions held against their annotations: what was given and what is asked for, in a sentence."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import numbers
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from topocompress.errors import DataError, OptionError

Function = TypeVar("Function", bound=Callable[..., Any])

_SHOWN = 60


def checked(function: Function) -> Function:
    """Refuse arguments of other types than a function's annotations say, before it is called.

    Raises:
        OptionError: By the function that is returned; says what was given, and what is asked for.
    """
    signature = inspect.signature(function)
    named = vars(sys.modules[function.__module__])

    @functools.wraps(function)
    def checking(*given: Any, **more: Any) -> Any:
        for name, value in signature.bind(*given, **more).arguments.items():
            parameter = signature.parameters[name]
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD:
                check_argument(name, value, str(parameter.annotation), named)
        return function(*given, **more)

    return checking  # type: ignore[return-value]


def check_fields(instance: Any) -> None:
    """The same for the fields of a dataclass.

    Raises:
        OptionError: As :func:`check_argument`.
    """
    named = vars(sys.modules[type(instance).__module__])
    for field in dataclasses.fields(instance):
        check_argument(field.name, getattr(instance, field.name), str(field.type), named)


def check_argument(name: str, value: Any, annotation: str, named: Mapping[str, Any]) -> None:
    """Refuse a value of another type than an annotation says.

    Args:
        name: Of the argument.
        value: What was given.
        annotation: As it is written: alternatives separated by ``|``.
        named: What the names in it stand for; a class that is not among them is known by its name, and need not be
            imported to be asked for.

    Raises:
        OptionError: It is of another type.
    """
    kinds = [each.strip() for each in annotation.split("|")]
    if not any(_is(value, kind, named) for kind in kinds):
        shown = repr(value)
        asked = " or ".join(dict.fromkeys(_SAID.get(kind, _word(kind)) for kind in kinds))
        raise OptionError(
            f"{name}={shown[:_SHOWN]}{'...' * (len(shown) > _SHOWN)} is of type {type(value).__name__}",
            hint=f"Asked for: {asked}.",
        )


def check_seed(seed: int) -> None:
    """Refuse a seed that generators of random numbers do not take.

    Raises:
        DataError: It is negative, or has more than 32 bits.
    """
    if not 0 <= seed < 2**32:
        raise DataError(f"--seed {seed} must lie between 0 and {2**32 - 1}")


_SAID = {
    "int": "a whole number",
    "float": "a number",
    "bool": "True or False",
    "str": "a text",
    "None": "None",
    "Path": "a path",
    "Sequence[str]": "a list of texts",
    "Sequence[float]": "a list of numbers",
    "Progress": "a function of (step, done, total)",
    "Metric": "a function of (outputs, targets), batch by batch, to a number",
    "Loss": "a function of outputs and targets to a tensor",
}


def _word(kind: str) -> str:
    if kind.startswith("Literal["):
        return " or ".join(map(repr, _literals(kind)))
    return f"a {kind.rpartition('.')[2]}"


def _literals(kind: str) -> tuple[Any, ...]:
    found = ast.literal_eval(f"({kind.removeprefix('Literal[').removesuffix(']')},)")
    return tuple(found)


def _is(value: Any, kind: str, named: Mapping[str, Any]) -> bool:
    truth = type(value).__name__ in ("bool", "bool_")  # of numpy, too
    simple: dict[str, bool] = {
        "Any": True,
        "None": value is None,
        "bool": truth,
        "int": isinstance(value, numbers.Integral) and not truth,
        "float": isinstance(value, numbers.Real) and not truth,
        "str": isinstance(value, str),
        "Path": isinstance(value, os.PathLike),
        "Progress": callable(value),
        "Metric": callable(value),
        "Loss": callable(value),
    }
    if kind in simple:
        return simple[kind]
    if kind.startswith("Sequence["):
        inner = kind.removeprefix("Sequence[").removesuffix("]")
        return isinstance(value, Sequence) and not isinstance(value, str) and all(_is(e, inner, named) for e in value)
    if kind.startswith("Literal["):
        return any(value == each and type(value) is type(each) for each in _literals(kind))
    kind = kind.partition("[")[0]
    first, *rest = kind.split(".")
    found = named.get(first)
    for part in rest:
        found = getattr(found, part, None)
    if isinstance(found, type):
        return isinstance(value, found)
    if found is not None:  # an alias
        return True
    return any(each.__name__ == kind.rpartition(".")[2] for each in type(value).__mro__)
