"""A few minutes of gradients after the closed form, without labels: each block learns to give what it gave before."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from topocompress.errors import DataError, ModelError
from topocompress.network.copying import copied
from topocompress.network.inference import all_outputs, batch_parts, device_of, evaluating, first_line, run_forward
from topocompress.reconstruction.pairs import HELD_OUT, layers_of_both, written_alike
from topocompress.reconstruction.streams import Cutting, order_of
from topocompress.runtime.progress import Progress, silent

LEARNING_RATE = 1e-3
"""Of Adam, falling to 0 along a cosine: a larger one moves what later blocks read faster than they can follow."""
_BATCH = 64
_TINY = 1e-12


def distill_blocks(
    model: nn.Module,
    original: nn.Module,
    batches: Iterable[Any],
    *,
    epochs: int,
    seed: int = 0,
    progress: Progress = silent,
) -> nn.Module:
    """Let the layers of a pruned network learn from the original, block by block and all at once.

    Blocks meet where a stream is read by what is added to it later. There the pruned network is to give what the
    original gave, and the gradient of that reaches back to the joint before and no further, so that a block is all that
    learns from it; outputs of the network are compared too. In the layers before a reader, which the closed form cannot
    reach, this is the same least squares by other means. Where a stream's own channels went, the blocks on both sides
    of the joint learn as one. BatchNorm statistics and frozen parameters stay.

    Args:
        model: The pruned network, best after reconstruction; not changed.
        original: What it was before; not changed.
        batches: Calibration inputs (B, C, ...), or (inputs, labels) pairs; every fifth sample is left out, for whoever
            judges the result.
        epochs: Rounds over the samples.
        seed: Seed of their order.
        progress: Called as ``progress(step, done, total)`` after each batch.

    Raises:
        DataError: Fewer than five samples, of different shapes, or not finite; no epochs.
        ModelError: A network does not accept the inputs, gives NaN or nothing that gradients can follow, or one is not
            the other pruned.
    """
    if not isinstance(epochs, int) or epochs < 1:
        raise DataError(f"{epochs!r} epochs of distillation", hint="Give a whole number above 0, about 40.")
    pupil = copied(model)
    images = _samples(batches)
    original = written_alike(original, pupil)
    lesson = _Lesson(pupil, original, images[:1].to(device_of(pupil)))
    required = {name: parameter.requires_grad for name, parameter in pupil.named_parameters()}
    learning = lesson.parameters()
    optimiser = torch.optim.Adam(learning, lr=LEARNING_RATE)
    per_epoch = -(-len(images) // _BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs * per_epoch)
    generator = torch.Generator().manual_seed(seed)
    done = 0
    with evaluating(pupil), evaluating(original), torch.enable_grad():
        for _ in range(epochs):
            for index in torch.randperm(len(images), generator=generator).chunk(per_epoch):
                loss = lesson.loss(images[index].to(device_of(pupil)))
                if not loss.isfinite():
                    raise ModelError(
                        "what the pruned network and the original give differs by NaN or infinity",
                        hint="Look for NaN among the weights, or leave distillation out.",
                    )
                optimiser.zero_grad()
                try:
                    loss.backward()  # type: ignore[no-untyped-call]
                except RuntimeError as error:
                    raise ModelError(
                        f"gradients cannot be followed through the network: {first_line(error)}",
                        hint="It must be trainable as it is; or leave distillation out.",
                    ) from error
                optimiser.step()
                schedule.step()
                done += 1
                progress("distilling blocks", done, epochs * per_epoch)
    for name, parameter in pupil.named_parameters():
        parameter.requires_grad_(required[name])
        parameter.grad = None
    return pupil


class _Lesson:
    """What a pruned network is to give at the joints between its blocks, and at its end."""

    def __init__(self, pupil: nn.Module, original: nn.Module, example: Tensor) -> None:
        self.pupil, self.original = pupil, original
        order = order_of(original, example, list(layers_of_both(pupil, original)))
        joints = {stream.other for stream in order.streams.values()} - {-1}
        with torch.no_grad(), evaluating(pupil), evaluating(original):
            pairs = list(zip(*(_run(each, example, joints) for each in (pupil, original)), strict=True))
        if any(given.shape != wanted.shape for given, wanted in pairs[len(joints) :]):
            raise ModelError(
                "the two networks give outputs of different shapes: one is not the other pruned",
                hint="Give the very network that was pruned as the original.",
            )
        # Where a stream lost channels there is nothing to compare, and the blocks on both sides learn as one.
        self.joints = {
            joint for joint, (given, wanted) in zip(sorted(joints), pairs, strict=False) if given.shape == wanted.shape
        }

    def parameters(self) -> list[nn.Parameter]:
        """What learns: whatever is not frozen; everything where everything is."""
        if not any(parameter.requires_grad for parameter in self.pupil.parameters()):
            for parameter in self.pupil.parameters():
                parameter.requires_grad_(parameter.is_floating_point())
        return [parameter for parameter in self.pupil.parameters() if parameter.requires_grad]

    def loss(self, images: Tensor) -> Tensor:
        """Mean square errors at joints and outputs, over the variances of what is to be given, added up."""
        with torch.no_grad():
            expected = _run(self.original, images, self.joints)
        pairs = zip(_run(self.pupil, images, self.joints), expected, strict=True)
        losses = [_error(given, wanted) for given, wanted in pairs if given.requires_grad]
        if not losses:
            raise ModelError(
                "nothing that the network gives depends on its weights in a way that gradients can follow",
                hint="Its forward pass must not run under torch.no_grad; or leave distillation out.",
            )
        return torch.stack(losses).sum()


def _samples(batches: Iterable[Any]) -> Tensor:
    """All inputs but those that are held out.

    Raises:
        DataError: Fewer than five, of different shapes, or NaN or infinity among them.
    """
    given = [batch_parts(batch)[0] for batch in batches]
    count = sum(map(len, given))
    if count < HELD_OUT:
        raise DataError(f"{count} samples to learn from", hint=f"Give {HELD_OUT} or more, in a list or a DataLoader.")
    if len({each.shape[1:] for each in given}) > 1:
        raise DataError("samples to learn from differ in shape", hint="Resize them to one.")
    images = torch.cat(given)
    if not images.isfinite().all():
        raise DataError("NaN or infinity in the samples to learn from", hint="Leave those samples out.")
    return images[torch.arange(count) % HELD_OUT != HELD_OUT - 1]


def _run(model: nn.Module, images: Tensor, joints: Collection[int]) -> list[Tensor]:
    """What a network gives at its joints, in the order of the calls, and at its end."""
    with Cutting(images, joints) as cutting:
        found = run_forward(model, images)
    outputs = [each for each in all_outputs(found) if each.is_floating_point()]
    return [cutting.outputs[joint] for joint in sorted(joints)] + outputs


def _error(given: Tensor, wanted: Tensor) -> Tensor:
    return (given - wanted).square().mean() / wanted.var(correction=0).clamp_min(_TINY)
