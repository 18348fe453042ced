"""Importing what a user names as ``pkg.module:callable``."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from topocompress.errors import TopocompressError
from topocompress.runtime.borders import border

_SPEC = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


def is_factory(text: str) -> bool:
    """Whether ``text`` has the form ``pkg.module:callable``."""
    return _SPEC.fullmatch(text) is not None


def module_files(text: str) -> list[Path]:
    """Where the module of ``pkg.module:callable`` lies if it is of the current directory; none for other texts."""
    if not is_factory(text):
        return []
    module = Path(*text.partition(":")[0].split("."))
    return [module.with_name(f"{module.name}.py"), module / "__init__.py"]


@contextlib.contextmanager
def current_directory_importable() -> Iterator[None]:
    """Make modules in the current directory importable, as ``python -m`` does, for the time of the block."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # the imported code may have edited the path itself
            sys.path.remove(here)


def load_factory(spec: str, error: type[TopocompressError]) -> Callable[..., Any]:
    """Import the callable that ``spec`` (``pkg.module:callable``) names.

    Args:
        spec: The name as the user wrote it.
        error: The class of error to raise, since models and data share this function.

    Raises:
        TopocompressError: As ``error``: not of this form, cannot be imported, no such name, or not callable.
    """
    if not is_factory(spec):
        raise error(f"{spec!r} is not of the form pkg.module:callable", hint="Example: mynets.small:build")
    module_name, _, attribute = spec.partition(":")
    hint = "Run in the directory that holds the module, or install its package."
    with border(lambda why: error(f"cannot import {module_name} for {spec}: {why}", hint=hint)):
        with current_directory_importable():
            found: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            try:
                found = getattr(found, part)
            except AttributeError as failure:
                raise error(
                    f"{module_name} has no {attribute}", hint=f"Check the name after the colon in {spec}."
                ) from failure
    if not callable(found):
        raise error(f"{spec} is a {type(found).__name__}, not a callable", hint="Name a function or a class.")
    return found  # type: ignore[no-any-return]


def attribute_of(spec: str, attribute: str) -> Any:
    """An attribute of a factory that has been imported already; ``None`` if it has none, or was not imported."""
    module_name, _, path = spec.partition(":")
    found: Any = sys.modules.get(module_name)
    for part in (*path.split("."), attribute):
        found = getattr(found, part, None)
    return found


def call_factory(spec: str, error: type[TopocompressError], **options: Any) -> Any:
    """Import and call ``spec`` with ``options``; whatever it raises becomes ``error``.

    Raises:
        TopocompressError: As ``error``, or any of ours that the factory raises itself.
    """
    factory = load_factory(spec, error)
    if isinstance(factory, type) and (missing := _without_value(factory, options)):
        raise error(f"{spec} needs values for {', '.join(missing)}", hint=_pasted(spec, options, missing))
    if options and (signature := _signature(factory)) is not None:
        try:
            signature.bind(**options)
        except TypeError as failure:
            given = ", ".join(f"{key}={value!r}" for key, value in options.items())
            raise error(
                f"{spec} cannot be called with {given}: {failure}", hint=f"Its arguments are {signature}."
            ) from failure
    given = ", ".join(f"{key}={value!r}" for key, value in options.items())
    hint = "Fix the factory; it must work when called with just these arguments."
    with border(lambda why: error(f"{spec}({given}) failed: {why}", hint=hint)), current_directory_importable():
        return factory(**options)


def accepts(spec: str, argument: str, error: type[TopocompressError]) -> bool:
    """Whether a factory names an argument among its own.

    Raises:
        TopocompressError: As :func:`load_factory`.
    """
    signature = _signature(load_factory(spec, error))
    return signature is not None and argument in signature.parameters


def _signature(factory: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(factory)
    except (TypeError, ValueError):  # some callables written in C have none
        return None


def _without_value(factory: Any, options: Mapping[str, Any]) -> list[str]:
    """Arguments that a call with these options lacks."""
    signature = _signature(factory)
    if signature is None or not set(options) <= set(signature.parameters):
        return []
    found = signature.parameters.items()
    filled = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [
        name for name, each in found if each.default is each.empty and each.kind not in filled and name not in options
    ]


def _pasted(spec: str, options: Mapping[str, Any], missing: Sequence[str]) -> str:
    """A factory for a class whose constructor takes arguments, to be pasted."""
    module, _, name = spec.partition(":")
    words = ", ".join([*(f"{key}={value!r}" for key, value in options.items()), *(f"{key}=..." for key in missing)])
    return (
        f"Write a function with your values, in {module} or beside it, and name that instead ({module}:build):\n"
        "def build():\n"
        f"    return {name}({words})\n"
        "build.input_shape = (3, 224, 224)  # channels, height, width that it was trained on"
    )
