"""What is known of a training between two epochs, besides its tensors: plain data, checked when it is read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

_MOST_EPOCHS = 1_000_001
_Hex = Annotated[str, Field(pattern=r"^([0-9a-f]{2})+$", max_length=100_000)]
_Word = Annotated[int, Field(ge=0, lt=2**32)]


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One epoch of fine-tuning.

    Attributes:
        epoch: Number of the epoch; 0 is the model before tuning.
        loss: Mean training loss over the epoch; ``None`` for epoch 0.
        validation_loss: On the validation samples after the epoch, the mean cross-entropy, or the mean distillation
            loss where labels are unused.
        accuracy: On the same samples the user's metric, or top-1 accuracy in 0..1, or where labels are unused agreement
            with the teacher, or the variation of its outputs that is explained; 0 with a loss and no metric.
        lr: Highest learning rate of the epoch's steps; 0 for epoch 0.
        seconds: Wall time, validation included.
    """

    epoch: int
    loss: float | None
    validation_loss: float
    accuracy: float
    lr: float
    seconds: float


class _Checked(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class RandomState(_Checked):
    """What :func:`~topocompress.training.random_state.random_state` returns."""

    python: tuple[int, Annotated[list[_Word], Field(max_length=625)], float | None]
    numpy: tuple[str, Annotated[list[_Word], Field(max_length=624)], int, int, float]
    torch: _Hex
    cuda: _Hex | None


class TrainingState(_Checked):
    """A training between two epochs.

    Attributes:
        history: Finished epochs, from 0 on.
        best_epoch: Number of the best of them.
        random: Random states of each process.
        shuffle: That of the order of samples.
        scaler: Of gradients in fp16.
    """

    history: Annotated[tuple[Epoch, ...], Field(min_length=1, max_length=_MOST_EPOCHS)]
    best_epoch: Annotated[int, Field(ge=0)]
    random: Annotated[tuple[RandomState, ...], Field(min_length=1, max_length=10_000)]
    shuffle: _Hex
    scaler: dict[str, int | float] | None

    @classmethod
    def read(cls, state: Mapping[str, Any], epochs: int) -> TrainingState:
        """The state that a file holds.

        Args:
            state: As plain data.
            epochs: How many epochs the training has at most.

        Raises:
            ValueError: It is no such data, or has other epochs.
        """
        found = cls.model_validate_json(json.dumps(state))
        numbers = [epoch.epoch for epoch in found.history]
        if numbers != list(range(len(numbers))) or len(numbers) > epochs + 1 or found.best_epoch >= len(numbers):
            raise ValueError("its epochs are not those of this training")
        return found


def check_alike(own: Mapping[str, Tensor], kept: Mapping[str, Tensor]) -> None:
    """Refuse weights of another network.

    Raises:
        ValueError: Names, shapes or types differ.
    """
    if own.keys() != kept.keys():
        raise ValueError("it has other weights than the network")
    for name, tensor in own.items():
        if (tensor.shape, tensor.dtype) != (kept[name].shape, kept[name].dtype):
            raise ValueError(f"{name} has shape {tuple(kept[name].shape)}, not {tuple(tensor.shape)}")
