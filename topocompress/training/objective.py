"""What fine-tuning minimises, and by what an epoch is judged: labels, the unpruned network's outputs, or both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from topocompress.errors import DataError
from topocompress.network.inference import main_output
from topocompress.network.outputs import Outputs
from topocompress.network.task import Loss, Metric, losses_of
from topocompress.training.recipe import Recipe


def distillation_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T² · KL(teacher ‖ student) of the softened class probabilities, in nats; 0 where both say the same.

    Hinton, Vinyals & Dean 2015, "Distilling the Knowledge in a Neural Network", arXiv 1503.02531.

    Args:
        student: (samples, classes, ...) logits.
        teacher: Logits of the same shape.
        temperature: T, by which logits are divided; T² keeps the size of gradients.

    Returns:
        (samples,) the mean over all further axes, such as pixels.
    """
    log_student = F.log_softmax(student / temperature, dim=1)
    log_teacher = F.log_softmax(teacher / temperature, dim=1)
    found = F.kl_div(log_student, log_teacher, reduction="none", log_target=True).sum(1)
    return temperature**2 * found.reshape(len(found), -1).mean(1)


@dataclass(frozen=True, kw_only=True)
class Objective:
    """The loss of a recipe.

    Attributes:
        recipe: Weights of its parts.
        highest: Highest label among the samples.
        outputs: What is compared of the network's outputs, and how; ``None`` for the first of them, as class scores.
        weights: (numbers,) of squared errors then, from :func:`topocompress.network.variation.error_weights`.
        loss: The user's own, in place of all of that.
        metric: The user's own, which tells the best epoch.
    """

    recipe: Recipe
    highest: int
    outputs: Outputs | None = None
    weights: Tensor | None = None
    loss: Loss | None = None
    metric: Metric | None = None

    @property
    def measure(self) -> str:
        """What an epoch is said to reach: ``accuracy``; where labels are unused ``agreement`` with the teacher, or the
        ``explained_variation`` of its outputs.
        """
        if self.metric is not None:
            return "metric"
        if self.loss is not None:
            return "loss"
        if not self.recipe.label_free:
            return "accuracy"
        return "agreement" if self.outputs is None else self.outputs.measure

    def read(self, output: Any, samples: int) -> Any:
        """What of a network's output is compared: (samples, classes, ...), or (samples, numbers) of all its outputs.

        Raises:
            ModelError: There is nothing to compare.
        """
        if self.loss is not None:
            return output
        if self.outputs is None:
            return main_output(output).float()
        if self.outputs.classes is not None:
            return self.outputs.scores(output, samples)
        return torch.cat([each.reshape(samples, -1).float() for each in self.outputs.tensors(output, samples)], dim=1)

    def check(self, logits: Any, taught: Any) -> None:
        """Refuse outputs that the loss is not for.

        Raises:
            DataError: No classifier, fewer classes than labels, or another shape than the teacher's.
        """
        if self.loss is not None:
            return
        shape = tuple(logits.shape)
        if logits.ndim != 2 and not self.recipe.label_free:
            raise DataError(
                f"fine-tuning needs a classifier's (samples, classes) output; the model returns {shape}",
                hint="Without labels, by distillation of weight 1, it takes outputs with further axes.",
            )
        if not self.recipe.label_free and self.highest >= shape[1]:
            raise DataError(
                f"label {self.highest} among the samples, but the model has {shape[1]} classes",
                hint="Labels must be the class indices that the model was trained with, counted from 0.",
            )
        if taught is not None and taught.shape != logits.shape:
            raise DataError(f"the teacher returns {tuple(taught.shape)}, the model {shape}; they must be the same")

    def losses(self, logits: Any, labels: Any, taught: Any, samples: int = 1) -> Tensor:
        """(samples,) what training minimises.

        Args:
            logits: (samples, classes, ...), or the network's output for a loss of the user's own.
            labels: (samples,), not read where distillation has all the weight.
            taught: The teacher's logits, ``None`` without distillation.
            samples: How many there are; asked for with a loss of the user's own.
        """
        if self.loss is not None:
            return losses_of(self.loss, logits, labels, samples)
        recipe = self.recipe
        parts = []
        if not recipe.label_free:
            own = F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing, reduction="none")
            parts.append((1 - recipe.distill) * own if recipe.distill else own)
        if taught is not None:
            parts.append(recipe.distill * self._apart(logits, taught))
        return torch.stack(parts).sum(0) if len(parts) > 1 else parts[0]

    def _apart(self, given: Tensor, taught: Tensor) -> Tensor:
        """(samples,) how far outputs are from the teacher's."""
        if self.weights is None:
            return distillation_loss(given, taught, self.recipe.temperature)
        return ((given - taught).square() * self.weights).sum(1)

    def judge(self, logits: Any, labels: Any, taught: Any, samples: int = 1) -> tuple[float, float]:
        """Validation loss and the number of right samples, each summed over the samples.

        Cross-entropy and right labels; without labels, distillation loss and the teacher's classes, or the variation
        explained.
        """
        if self.loss is not None:
            return float(losses_of(self.loss, logits, labels, samples).sum()), 0.0
        if self.recipe.label_free and taught is not None:
            loss = self._apart(logits, taught).sum().item()
            if self.weights is not None:
                return loss, len(logits) - loss
            same = (logits.argmax(1) == taught.argmax(1)).double()
            return loss, same.reshape(len(same), -1).mean(1).sum().item()
        loss = F.cross_entropy(logits, labels, reduction="sum").item()
        return loss, float((logits.argmax(1) == labels).sum())

    def better(self, new: tuple[float, float], old: tuple[float, float]) -> bool:
        """Whether an epoch of such (validation loss, measure) is better than another.

        By accuracy, then by loss; without labels by loss, which says more than whether the largest logit is the same.
        """
        if self.metric is None and (self.recipe.label_free or self.loss is not None):
            return new[0] < old[0]
        return (new[1], -new[0]) > (old[1], -old[0])


def optimiser(
    parameters: Sequence[nn.Parameter], *, lr: float, momentum: float, weight_decay: float
) -> torch.optim.SGD:
    """SGD with Nesterov momentum that spares norms and biases its weight decay."""
    groups = [
        {"params": [each for each in parameters if each.ndim > 1], "weight_decay": weight_decay},
        {"params": [each for each in parameters if each.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=True)
