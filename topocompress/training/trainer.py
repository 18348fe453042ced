"""The training loop: steps, epochs, the best of them, and what is kept of each to continue from."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from topocompress.errors import DataError, ModelError, TrainingError
from topocompress.network.batchnorm import with_statistics
from topocompress.network.copying import copied
from topocompress.network.inference import all_outputs, evaluating, preserved, run_forward
from topocompress.network.memory_layout import fast_layout
from topocompress.network.task import measured
from topocompress.runtime.borders import border
from topocompress.training import processes
from topocompress.training.accelerator import summed, wrapped
from topocompress.training.augmentation import augmented
from topocompress.training.checkpoints import Snapshot, TuningStore, optimiser_tensors, restore_optimiser
from topocompress.training.epochs import Epoch, TrainingState, check_alike
from topocompress.training.objective import Objective, optimiser
from topocompress.training.random_state import as_text, from_text, random_state, set_random_state
from topocompress.training.training_set import Samples, batch_indices, grouped, loaded_batches, shared_out
from topocompress.types import Augmentation

if TYPE_CHECKING:
    from accelerate import Accelerator

Progress = Callable[[int, int, str], None]
_STEEPEST = 1.0
"""Largest norm of the gradients of squared errors; longer ones are shortened to it."""

_COPIES = 4
"""An epoch holds the weights, the best ones and momentum; it is no larger than so many times the weights."""

Chosen = tuple[Samples, Sequence[int]]
"""A dataset and the numbers of those of its samples that are used."""


@dataclass(kw_only=True)
class Trainer:
    """One training, in this process; each of several processes has one, and all take the same decisions.

    Attributes:
        helper: Device, precision and the other processes.
        objective: What is minimised, and the recipe.
        teacher: The network to learn from, on the device, in eval mode; if any.
        training: What is trained on.
        chooser: What chooses the best epoch.
        augmentation: What is done to training images.
        seed: Seed of order and augmentation.
        progress: Called after each step.
        history: Finished epochs.
        best_epoch: Number of the best of them.
        best_state: Its weights.
    """

    helper: Accelerator
    objective: Objective
    teacher: nn.Module | None
    training: Chosen
    chooser: Chosen
    augmentation: Augmentation
    seed: int
    progress: Progress | None
    history: list[Epoch] = field(default_factory=list)
    best_epoch: int = 0
    best_state: dict[str, Tensor] = field(default_factory=dict)

    def run(self, model: nn.Module, store: TuningStore | None, *, resume: bool) -> int:
        """Train a copy of the model; returns how many epochs came from the store.

        Raises:
            ModelError: None of its parameters requires gradients, or it does not accept the samples.
            DataError: Its outputs do not fit the labels or the teacher, or the store is of another training.
            TrainingError: The loss became NaN or infinite.
        """
        recipe, fresh = self.objective.recipe, random_state(self.helper.device)
        self._prepare(model)
        if store is None or not resume or not self._resumed(model, store, fresh):
            self._finish(self._judged(0, None, 0.0, time.perf_counter()))
        resumed = self.history[-1].epoch
        while self.history[-1].epoch < recipe.epochs and not self._given_up():
            started = time.perf_counter()
            number = self.history[-1].epoch + 1
            loss, lr = self._train(number)
            self._finish(self._judged(number, loss, lr, started))
            if store is not None:
                states = processes.gathered(random_state(self.helper.device))
                if self.helper.is_main_process:
                    store.save(self._snapshot(states))
        return resumed

    def _prepare(self, model: nn.Module) -> None:
        recipe, device = self.objective.recipe, self.helper.device
        self._shuffle = torch.Generator().manual_seed(self.seed)
        self._plain = copied(model).to(device)  # for validation: neither 16 bits nor SyncBatchNorm
        self._layout = self._suitable_layout()
        self._model = wrapped(self.helper, copied(model), self._used(model))
        self._inner: nn.Module = self.helper.unwrap_model(self._model, keep_torch_compile=False)
        trainable = [parameter for parameter in self._inner.parameters() if parameter.requires_grad]
        if not trainable:
            raise ModelError("fine-tuning needs a parameter that requires gradients; the model has none")
        self._sgd = optimiser(trainable, lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay)
        # Accelerate's wrapper scales gradients for fp16. Where nothing is scaled it only costs, at every step.
        scaled = self.helper.scaler is not None
        self._optimiser: Any = self.helper.prepare_optimizer(self._sgd) if scaled else self._sgd
        batches = batch_indices(self.training[1], recipe.batch_size, shuffle=None)
        self._steps = len(grouped(batches, recipe.accumulate))
        self._rates = recipe.rates(recipe.epochs * self._steps, self._steps)
        self._taught_validation: list[Tensor | None] = []

    def _suitable_layout(self) -> torch.memory_format:
        """How images lie in memory so that the network, and the teacher, are fast."""
        samples, indices = self.chooser
        example, _ = next(loaded_batches(samples, [list(indices[:1])], self.helper.device))
        found = {fast_layout(each, example) for each in (self._plain, self.teacher) if each is not None}
        return found.pop() if len(found) == 1 else torch.contiguous_format

    def _used(self, model: nn.Module) -> set[str]:
        """Names of the parameters that get gradients; looked at where several processes must agree on them."""
        if self.helper.num_processes == 1:
            return set()
        probe = copied(model).train()
        samples, indices = self.training
        with preserved(probe):
            for inputs, _ in loaded_batches(samples, [list(indices[:2])], torch.device("cpu")):
                found = self.objective.read(run_forward(probe.cpu(), inputs), len(inputs))
                total = sum(each.sum() for each in all_outputs(found) if each.requires_grad)
                torch.autograd.backward(total)  # type: ignore[arg-type]
        return {name for name, parameter in probe.named_parameters() if parameter.grad is not None}

    def _train(self, number: int) -> tuple[float, float]:
        """One epoch; returns the mean loss per sample and the highest learning rate."""
        recipe, helper, (samples, indices) = self.objective.recipe, self.helper, self.training
        self._model.train()
        batches = batch_indices(indices, recipe.batch_size, shuffle=self._shuffle)
        parts = [shared_out(batch, helper.process_index, helper.num_processes) for batch in batches]
        weights = iter([torch.tensor(weight, device=helper.device) for _, weight in parts])

        def change(images: Tensor, numbers: list[int]) -> Tensor:
            return augmented(images, numbers, self.augmentation, seed=self.seed, epoch=number)

        loaded = loaded_batches(samples, [part for part, _ in parts], helper.device, change, layout=self._layout)
        total, seen = 0.0, 0
        rates = self._rates[(number - 1) * self._steps : number * self._steps]
        for step, group in enumerate(grouped(batches, recipe.accumulate)):
            for settings in self._sgd.param_groups:
                settings["lr"], settings["momentum"] = rates[step]
            size = sum(map(len, group))
            found = self._step(zip(islice(loaded, len(group)), weights, strict=False), len(group), size)
            if not math.isfinite(found):
                raise TrainingError(
                    f"the training loss became {found} in epoch {number}, step {step + 1} of {self._steps}",
                    hint=f"Lower --lr, for example to {max(rate for rate, _ in rates) / 10:g}.",
                )
            if self.objective.weights is not None:  # squared errors have no largest slope, as probabilities have
                helper.clip_grad_norm_((each for part in self._sgd.param_groups for each in part["params"]), _STEEPEST)
            self._optimiser.step()
            self._optimiser.zero_grad()
            total += found
            seen += size
            if self.progress is not None:
                done = (number - 1) * self._steps + step + 1
                message = f"epoch {number}/{recipe.epochs}, loss {total / seen:.3f}"
                self.progress(done, recipe.epochs * self._steps, message)
        return total / seen, max(rate for rate, _ in rates)

    def _step(self, batches: Iterable[tuple[tuple[Tensor, Any], Tensor]], count: int, size: int) -> float:
        """Gradients of the mean loss over so many batches of ``size`` samples in all; returns the summed loss."""
        helper = self.helper
        helper.gradient_accumulation_steps, helper.step = count, 0
        total = 0.0
        for (inputs, labels), weights in batches:
            with helper.accumulate(self._model):
                logits = self.objective.read(run_forward(self._model, inputs), len(inputs))
                taught = self._taught(inputs, amp=True)
                self.objective.check(logits, taught)
                loss = (self.objective.losses(logits, labels, taught, len(inputs)) * weights).sum()
                total += loss.item()
                # Accelerate divides by the number of batches, and torch by that of processes.
                helper.backward(loss * (count * helper.num_processes / size))
        return summed(helper, [total])[0]

    def _taught(self, inputs: Tensor, *, amp: bool) -> Any:
        if self.teacher is None:
            return None
        with torch.no_grad(), self.helper.autocast() if amp else contextlib.nullcontext():
            return self.objective.read(run_forward(self.teacher, inputs), len(inputs))

    def _judged(self, number: int, loss: float | None, lr: float, started: float) -> Epoch:
        """Measure the weights as they are on the samples that choose the best epoch."""
        helper, (samples, indices) = self.helper, self.chooser
        if helper.num_processes > 1:
            for norm in with_statistics(self._inner):
                for statistic in (norm.running_mean, norm.running_var):
                    if statistic is not None:
                        statistic.copy_(helper.reduce(statistic, "mean"))
        self._plain.load_state_dict(self._inner.state_dict())
        own = list(indices[helper.process_index :: helper.num_processes])
        batches = batch_indices(own, self.objective.recipe.batch_size, shuffle=None)
        sums = [0.0, 0.0]
        with evaluating(self._plain):
            loaded = loaded_batches(samples, batches, helper.device, layout=self._layout)
            for place, (inputs, labels) in enumerate(loaded):
                logits = self.objective.read(run_forward(self._plain, inputs), len(inputs))
                if place == len(self._taught_validation):  # the teacher says the same in each epoch
                    self._taught_validation.append(self._taught(inputs, amp=False))
                taught = self._taught_validation[place]
                self.objective.check(logits, taught)
                for index, value in enumerate(self.objective.judge(logits, labels, taught, len(inputs))):
                    sums[index] += value
        if self.objective.metric is not None:  # of several processes, the mean of what each finds in its part
            loaded = loaded_batches(samples, batches, helper.device, layout=self._layout)
            sums[1] = measured(self._plain, loaded, self.objective.metric) * len(own)
        wrong, right = (value / len(indices) for value in summed(helper, sums))
        if not math.isfinite(wrong):
            when = f"after epoch {number}" if number else "before the first epoch"
            hint = (
                f"Lower --lr, for example to {lr / 10:g}." if number else "See what the loss gives for single samples."
            )
            raise TrainingError(f"the loss on the samples set aside for validation is {wrong} {when}", hint=hint)
        if self.objective.metric is None:
            right = max(0.0, right)  # variation is explained from nothing on
        seconds = time.perf_counter() - started
        return Epoch(epoch=number, loss=loss, validation_loss=wrong, accuracy=right, lr=lr, seconds=seconds)

    def _finish(self, epoch: Epoch) -> None:
        """Add an epoch, and keep its weights if it is the best."""
        if not self.history or self._better(epoch, self.history[self.best_epoch]):
            self.best_epoch = epoch.epoch
            self.best_state = {name: tensor.clone() for name, tensor in self._plain.state_dict().items()}
        self.history.append(epoch)

    def _better(self, new: Epoch, old: Epoch) -> bool:
        return self.objective.better((new.validation_loss, new.accuracy), (old.validation_loss, old.accuracy))

    def _given_up(self) -> bool:
        patience = self.objective.recipe.patience
        return patience is not None and self.history[-1].epoch - self.best_epoch >= patience

    def _snapshot(self, states: list[Any]) -> Snapshot:
        return Snapshot(
            tensors={
                "model": self._inner.state_dict(),
                "best": self.best_state,
                "momentum": optimiser_tensors(self._sgd),
            },
            state={
                "history": [asdict(epoch) for epoch in self.history],
                "best_epoch": self.best_epoch,
                "random": states,
                "shuffle": as_text(self._shuffle.get_state()),
                "scaler": None if self.helper.scaler is None else self.helper.scaler.state_dict(),
            },
        )

    def _resumed(self, model: nn.Module, store: TuningStore, fresh: Mapping[str, Any]) -> bool:
        """Take up what is kept of an interrupted run, if anything is and it fits; else all is as at first."""
        most = _COPIES * sum(tensor.nbytes for tensor in model.state_dict().values())
        snapshot = processes.from_main(lambda: store.load(most))
        if snapshot is None:
            return False
        try:
            with border(DataError):
                self._restore(snapshot)
        except DataError as error:
            if self.helper.is_main_process:
                store.unused(error)
            set_random_state(fresh, self.helper.device)
            self.history, self.best_epoch, self.best_state = [], 0, {}
            self._prepare(model)
            return False
        return True

    def _restore(self, snapshot: Snapshot) -> None:
        device, state = self.helper.device, TrainingState.read(snapshot.state, self.objective.recipe.epochs)
        for part in ("model", "best"):
            check_alike(self._plain.state_dict(), snapshot.tensors.get(part, {}))
        self.history, self.best_epoch = list(state.history), state.best_epoch
        self.best_state = {name: tensor.to(device) for name, tensor in snapshot.tensors["best"].items()}
        self._inner.load_state_dict(snapshot.tensors["model"])
        restore_optimiser(self._sgd, snapshot.tensors.get("momentum", {}))
        self._shuffle.set_state(from_text(state.shuffle))
        if self.helper.scaler is not None and state.scaler is not None:
            self.helper.scaler.load_state_dict(state.scaler)
        if self.helper.process_index < len(state.random):  # else it was interrupted with fewer processes
            set_random_state(state.random[self.helper.process_index].model_dump(), device)
