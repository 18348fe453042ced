"""The networks of timm, where it is installed, by the name ``timm:NAME`` or ``timm:NAME.TAG``."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from typing import Any

from torch import nn

from topocompress.errors import ModelError
from topocompress.runtime.borders import border
from topocompress.types import Preprocessing

PREFIX = "timm:"
# Names in timm's own registry only: it takes others for folders, or for places to download code and weights from.
_NAME = re.compile(r"timm:\w+(\.\w+)?")
_OPTIONS = {
    "num_classes": "num_classes",
    "in_channels": "in_chans",
    "img_size": "img_size",
    "global_pool": "global_pool",
}
"""How timm calls what may be asked of a builder."""


def is_timm(name: str) -> bool:
    """Whether ``name`` has the form that is left to timm."""
    return name.startswith(PREFIX)


def check_timm_name(name: str) -> None:
    """Nothing, if timm has a network of this name.

    Raises:
        ModelError: timm is not installed, or the name or its tag is unknown; names the nearest ones.
    """
    timm, own = _timm(name), name.removeprefix(PREFIX)
    base, _, tag = own.partition(".")
    if not _NAME.fullmatch(name) or not timm.is_model(base):
        near = [f"{PREFIX}{known}" for known in difflib.get_close_matches(base.lower(), timm.list_models(), n=3)]
        guess = f"Did you mean {', '.join(near)}? " if near else ""
        raise ModelError(f"timm has no network {own!r}", hint=f"{guess}timm.list_models() has all names.")
    if tag and tag not in (tags := _configurations(timm, base)):
        raise ModelError(f"timm's {base} has no tag {tag!r}", hint=f"Accepted: {', '.join(tags)}.")


def construct_timm(name: str, options: Mapping[str, Any], *, pretrained: bool = False) -> nn.Module:
    """Build a network; nothing is downloaded unless ``pretrained``.

    Args:
        name: A name that :func:`check_timm_name` accepts.
        options: As :class:`~topocompress.models.architecture_options.TimmOptions` has them.
        pretrained: Have timm fetch the weights that belong to the name and its tag.

    Raises:
        ModelError: timm is not installed, or cannot build this.
    """
    given = {_OPTIONS[option]: value for option, value in options.items()}
    what = "download the weights of" if pretrained else "build"
    hint = "Download them elsewhere and give the file: --weights FILE." if pretrained else "Check its options."
    with border(lambda why: ModelError(f"cannot {what} {name}: {why}", hint=hint)):
        module: nn.Module = _timm(name).create_model(name.removeprefix(PREFIX), pretrained=pretrained, **given)
    return module


def timm_weights(name: str) -> dict[str, str]:
    """Tags of the weights that timm publishes for a network, its default first, and the name that each tag makes."""
    base, _, tag = name.removeprefix(PREFIX).partition(".")
    found = _configurations(_timm(name), base)
    return {key: f"{PREFIX}{base}.{key}" for key, cfg in found.items() if key and cfg.has_weights and tag in ("", key)}


def timm_classes(name: str) -> int:
    """Classes of a network as published."""
    return int(_configuration(name).get("num_classes", 1000))


def timm_preprocessing(name: str) -> Preprocessing:
    """Input size, resizing and normalisation that belong to a network and its tag."""
    config = _timm(name).data.resolve_data_config(pretrained_cfg=_configuration(name))
    channels, height, width = config["input_size"]
    # timm resizes the short side to the input size divided by the share that the crop takes, rounded down; its other
    # mode (squash) resizes both sides to the input size.
    crop = config["crop_mode"] == "center"
    return Preprocessing(
        input_shape=(channels, height, width),
        resize=math.floor(max(height, width) / config["crop_pct"]) if crop else None,
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        interpolation="bilinear" if config["interpolation"] == "bilinear" else "bicubic",
    )


def _timm(name: str, role: str = "is a network of timm") -> Any:
    try:
        import timm
        import timm.data
    except ImportError as error:
        raise ModelError(
            f"{name} {role}, which cannot be imported: {error}",
            hint="Install it: pip install 'topocompress[timm]'",
        ) from error
    return timm


def _configurations(timm: Any, base: str) -> dict[str, Any]:
    """Tag → what timm knows of those weights, the default first; a network without any has one without a tag."""
    default = timm.get_pretrained_cfg(base)
    found = timm.models.get_arch_pretrained_cfgs(base)
    tagged = {name.partition(".")[2]: cfg for name, cfg in found.items()}
    first = default.tag or "" if default is not None else ""
    return {key: tagged[key] for key in sorted(tagged, key=lambda key: key != first)}


def _configuration(name: str) -> dict[str, Any]:
    found = _timm(name).get_pretrained_cfg(name.removeprefix(PREFIX))
    return {} if found is None else dict(found.to_dict())


def imagenet_synsets() -> tuple[str, ...]:
    """The 1,000 names of ImageNet-1k's class folders (``n01440764``, ...) in the order of outputs.

    Raises:
        ModelError: timm is not installed.
    """
    return tuple(
        _timm("--classes imagenet", "takes the names from timm").data.ImageNetInfo("imagenet-1k").label_names()
    )
