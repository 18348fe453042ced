"""The networks that are known by name, and building them."""

from __future__ import annotations

import difflib
import functools
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from topocompress.errors import ModelError
from topocompress.models.architecture_options import MOST_PARAMETERS, check_known
from topocompress.models.checkpoints import check_dense
from topocompress.models.digits import DigitsNet
from topocompress.models.factories import attribute_of, call_factory, is_factory
from topocompress.models.timm import PREFIX, check_timm_name, construct_timm, is_timm, timm_classes
from topocompress.models.wrappers import settled, unwrapped
from topocompress.network.copying import copied
from topocompress.network.functions import FunctionCalls
from topocompress.network.inputs import numbers_of, parts_of, take_several
from topocompress.runtime.borders import border
from topocompress.types import Architecture

BUILTIN = {"digits": DigitsNet}
HINT = "Name the architecture: --arch NAME (torchvision), --arch timm:NAME or --arch pkg.module:factory (your own)."
ARGUMENTS_HINT = "For example: --arch-args num_classes=5; what is not plain goes into a factory of your own."
RGB = 3
"""Input channels of all of torchvision's architectures."""

Shapes = Mapping[str, tuple[int, ...]]


class _WithoutMemory(FunctionCalls):
    """Put parameters, which layers create with ``torch.empty``, on the meta device, and leave out filling them.

    All else stays real, since some builders (RegNet) compute their widths with tensors.
    """

    _FILLING = frozenset(
        {Tensor.normal_, Tensor.uniform_, Tensor.fill_, Tensor.zero_, Tensor.erfinv_, Tensor.mul_, Tensor.add_}
    )

    def _call(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if func is torch.empty:
            return func(*args, **{**kwargs, "device": "meta"})
        if func in self._FILLING and args[0].is_meta:
            return args[0]
        if getattr(func, "__module__", "") == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


def torchvision_names() -> list[str]:
    """Names of torchvision's classification architectures, sorted."""
    from torchvision import models

    return sorted(models.list_models(module=models))


def dense_names() -> list[str]:
    """Names of torchvision's architectures for segmentation and detection, sorted."""
    from torchvision import models

    return sorted([*models.list_models(module=models.segmentation), *models.list_models(module=models.detection)])


def published_weights(name: str) -> dict[str, Any]:
    """Torchvision's published weights for an architecture, by name, the oldest first."""
    from torchvision import models

    return {member.name: member for member in models.get_model_weights(name)}


def build(architecture: Architecture) -> nn.Module:
    """Build a network in eval mode, with untrained weights. The caller's random state is left as it was.

    Beside the options of its own builder a torchvision network takes ``in_channels``, the number of channels of its
    input where that is not 3. A network of timm takes ``num_classes``, ``in_channels``, ``img_size`` and
    ``global_pool`` only.

    Raises:
        ModelError: The name is unknown, the options do not fit, or the factory fails.
    """
    kind, name, options = architecture.kind, architecture.name, dict(architecture.options)
    check_options(options)
    if kind == "object":
        raise ModelError(f"{name} is the caller's own module, which only the caller can build", hint=HINT)
    with torch.random.fork_rng(devices=[]):
        if kind == "factory":
            module = call_factory(name, ModelError, **options)
            if not isinstance(module, nn.Module):
                raise ModelError(
                    f"{name} returned {type(module).__name__}, not a torch.nn.Module",
                    hint="The factory must return the network itself.",
                )
            return _of_factory(unwrapped(module), name)
        name = spelled(architecture)
        check_name(name)
        with border(lambda why: ModelError(f"cannot build {name} with {options}: {why}", hint="Check its options.")):
            check_size(name, options)
            return _construct(name, options).eval()


def _of_factory(module: nn.Module, name: str) -> nn.Module:
    own = copied(module).eval()  # it may give the same network every time
    if (example := declared_inputs(own, name)) is not None:
        parts = parts_of(own, example)
        take_several(own, parts)
        shape: Any = (1, numbers_of(parts))
    else:
        shape = getattr(own, "input_shape", None) or attribute_of(name, "input_shape") or (RGB, 224, 224)
    settled(own, lambda: torch.zeros(2, *shape))
    check_dense(own.state_dict(), name)
    return own


def declared_inputs(module: nn.Module, factory: str | None = None) -> Any:
    """``example_inputs`` of a network or of its factory: what forward takes, with one sample; ``None`` without."""
    found = getattr(module, "example_inputs", None)
    if found is None and factory is not None:
        found = attribute_of(factory, "example_inputs")
    if not callable(found):
        return found
    with border(lambda why: ModelError(f"example_inputs failed: {why}", hint="It is called without arguments.")):
        return found()


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse arguments that a run directory could not keep, or that are no arguments: a file may name them.

    Raises:
        ModelError: A name that is none, or a value that is no text, finite number, true, false or null.
    """
    for name, value in options.items():
        if not isinstance(name, str) or not name.isidentifier():
            raise ModelError(f"{name!r} is not the name of an argument", hint=ARGUMENTS_HINT)
        plain = value is None or type(value) in (str, int, bool) or (type(value) is float and math.isfinite(value))
        if not plain:
            raise ModelError(
                f"the argument {name}={value!r} is no text, number, true, false or null", hint=ARGUMENTS_HINT
            )


def check_size(name: str, options: Mapping[str, Any]) -> None:
    """Refuse options of a known network that make it larger than any; found without the memory for it.

    Raises:
        ValueError: Says how many numbers it would hold.
    """
    if not options.keys() - {"num_classes", "aux_logits", "transform_input"}:  # which its range bounds
        return
    numbers = sum(map(math.prod, shapes_of(name, tuple(options.items())).values()))
    if numbers > MOST_PARAMETERS:
        raise ValueError(f"it would hold {numbers / 1e9:.1f} billion numbers")


def is_known(name: str) -> bool:
    """Whether ``name`` is a torchvision architecture for images, one shipped with topocompress, or left to timm."""
    return name in BUILTIN or is_timm(name) or name in torchvision_names() or name in dense_names()


def of_kind(name: str, options: Mapping[str, Any]) -> Architecture:
    """An :class:`Architecture` whose kind follows from the form of ``name``."""
    if is_timm(name):  # which has the form of a factory, too
        return Architecture(kind="timm", name=name.removeprefix(PREFIX), options=options)
    if is_factory(name):
        return Architecture(kind="factory", name=name, options=options)
    return Architecture(kind="builtin" if name in BUILTIN else "torchvision", name=name, options=options)


def spelled(architecture: Architecture) -> str:
    """The name from which :func:`of_kind` makes this architecture."""
    return f"{PREFIX}{architecture.name}" if architecture.kind == "timm" else architecture.name


def classes_of(name: str) -> int:
    """Classes of a known network unless another number is asked for."""
    if name in BUILTIN:
        return 10
    if is_timm(name):
        return timm_classes(name)
    return 1000 if name in torchvision_names() else len(published_categories(name))


def published_categories(name: str) -> list[str]:
    """The classes of a torchvision architecture's first published weights."""
    return list(next(iter(published_weights(name).values())).meta["categories"])


def check_name(name: str) -> None:
    """Nothing, if the network can be built here.

    Raises:
        ModelError: Unknown; names the nearest ones. Or it is timm's, and timm is not installed.
    """
    if is_timm(name):
        check_timm_name(name)
        return
    if is_known(name):
        return
    known = [*BUILTIN, *torchvision_names(), *dense_names()]
    near = difflib.get_close_matches(name, known, n=3) or difflib.get_close_matches(name.lower(), known, n=3)
    guess = f"Did you mean {', '.join(near)}? " if near else ""
    raise ModelError(
        f"unknown architecture {name!r}",
        hint=f"{guess}Accepted: digits, a torchvision model, timm:NAME, or pkg.module:factory.",
    )


def _construct(name: str, options: Mapping[str, Any]) -> nn.Module:
    check_known(of_kind(name, {}).kind, options)
    if name in BUILTIN:
        return BUILTIN[name](**options)
    if is_timm(name):
        return construct_timm(name, options)
    from torchvision import models

    # avoids a slow start and a warning about it
    given: dict[str, Any] = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    if name in dense_names():
        given["weights_backbone"] = None  # which torchvision would download
    given.update(options)
    channels = given.pop("in_channels", RGB)
    module: nn.Module = models.get_model(name, weights=None, **given)
    if channels != RGB:
        _replace_first(module, channels)
    return module


def _replace_first(module: nn.Module, channels: int) -> None:
    """Put a convolution with another number of input channels in place of the first one."""
    name, old = next((name, layer) for name, layer in module.named_modules() if isinstance(layer, nn.Conv2d))
    new = nn.Conv2d(
        channels,
        old.out_channels,
        old.kernel_size,  # type: ignore[arg-type]  # torch declares tuples of any length
        stride=old.stride,  # type: ignore[arg-type]
        padding=old.padding,  # type: ignore[arg-type]
        dilation=old.dilation,  # type: ignore[arg-type]
        groups=old.groups,
        bias=old.bias is not None,
        padding_mode=old.padding_mode,
    )
    module.set_submodule(name, new)


@functools.lru_cache(maxsize=256)
def shapes_of(name: str, options: tuple[tuple[str, Any], ...]) -> Shapes:
    """Shape of every entry of a network's state dict, found without the memory for it where that can be."""
    with torch.random.fork_rng(devices=[]):
        try:
            with _WithoutMemory():
                module = _construct(name, dict(options))
        except RuntimeError:  # a builder that runs its backbone (SSDlite) needs one that is there
            module = _construct(name, dict(options))
    return {key: tuple(value.shape) for key, value in module.state_dict().items()}
