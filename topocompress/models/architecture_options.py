"""What may be asked of the builders of known architectures: a list for each kind, every value of a type and a range.

A run directory names options too, and it may come from anywhere: nothing here makes a builder fetch a file, and no
value makes it take more memory than a network has.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from topocompress.types.networks import MOST_CHANNELS

MOST_CLASSES = 100_000
MOST_PARAMETERS = 10**9
"""Numbers in a network that is built by name; the largest that are published have fewer."""

_Classes = Annotated[int, Field(ge=1, le=MOST_CLASSES)]
_Channels = Annotated[int, Field(ge=1, le=MOST_CHANNELS)]
_Side = Annotated[int, Field(ge=1, le=2048)]
_Share = Annotated[float, Field(ge=0, le=1)]
_Few = Annotated[int, Field(ge=1, le=10_000)]


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class BuiltinOptions(_Options):
    """Of the networks that ship with topocompress."""

    num_classes: _Classes = 10


class TimmOptions(_Options):
    """Of timm's; these as timm's registry takes them for all of its networks."""

    num_classes: Annotated[int, Field(ge=0, le=MOST_CLASSES)] = 1000
    in_channels: _Channels = 3
    img_size: _Side | None = None
    global_pool: Annotated[str, Field(max_length=20, pattern=r"^[a-z_]*$")] | None = None


class TorchvisionOptions(_Options):
    """Of torchvision's, by the names of its builders, which refuse those that are not theirs; and ``in_channels``."""

    num_classes: _Classes = 1000
    in_channels: _Channels = 3
    aux_logits: bool = True
    aux_loss: bool | None = None
    transform_input: bool = False
    init_weights: bool | None = None
    zero_init_residual: bool = False
    memory_efficient: bool = False
    reduced_tail: bool = False
    dilated: bool = False
    progress: bool = False
    dropout: _Share = 0
    dropout_aux: _Share = 0
    drop_rate: _Share = 0
    attention_dropout: _Share = 0
    mlp_dropout: _Share = 0
    stochastic_depth_prob: _Share = 0
    image_size: _Side = 224
    groups: Annotated[int, Field(ge=1, le=64)] = 1
    width_per_group: Annotated[int, Field(ge=1, le=512)] = 64
    width_mult: Annotated[float, Field(gt=0, le=8)] = 1
    round_nearest: Annotated[int, Field(ge=1, le=64)] = 8
    growth_rate: Annotated[int, Field(ge=1, le=256)] = 32
    bn_size: Annotated[int, Field(ge=1, le=16)] = 4
    num_init_features: Annotated[int, Field(ge=1, le=1024)] = 64
    layer_scale: _Share = 1e-6
    representation_size: Annotated[int, Field(ge=1, le=8192)] | None = None
    trainable_backbone_layers: Annotated[int, Field(ge=0, le=6)] | None = None
    min_size: _Side = 800
    max_size: Annotated[int, Field(ge=1, le=4096)] = 1333
    score_thresh: _Share = 0
    nms_thresh: _Share = 0
    box_score_thresh: _Share = 0
    box_nms_thresh: _Share = 0
    rpn_score_thresh: _Share = 0
    rpn_nms_thresh: _Share = 0
    detections_per_img: _Few = 300
    box_detections_per_img: _Few = 100
    topk_candidates: _Few = 1000
    rpn_pre_nms_top_n_test: _Few = 1000
    rpn_post_nms_top_n_test: _Few = 1000


_KINDS: Mapping[str, type[_Options]] = {
    "builtin": BuiltinOptions,
    "timm": TimmOptions,
    "torchvision": TorchvisionOptions,
}


def check_known(kind: str, options: Mapping[str, Any]) -> None:
    """Refuse options that are not on the list of a kind, and values that are out of range.

    Raises:
        ValueError: Says which, and what is accepted.
    """
    model = _KINDS[kind]
    if unknown := sorted(set(options) - set(model.model_fields)):
        raise ValueError(f"no such option: {', '.join(unknown)}; accepted: {', '.join(model.model_fields)}")
    try:
        model.model_validate(dict(options))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        value = repr(first["input"])
        raise ValueError(f"{first['loc'][0]} is {value[:40]}: {first['msg'].lower()}") from error
