"""Batches that run through a network side by side, all stopping at the same layers: one pass instead of one a layer."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from topocompress.errors import ModelError
from topocompress.network.inference import run_forward


class _Abandoned(BaseException):
    """Ends a batch that is not wanted any more; no model's ``except Exception`` holds it up."""


class _Runner:
    """One batch on its way, in a thread of its own that runs only while it is its turn."""

    def __init__(self, work: Callable[[_Runner], None], join: int) -> None:
        self.join = join
        self.stop: str | None = None
        self.inputs: Tensor | None = None
        self.error: BaseException | None = None
        self.done = self.abandoned = False
        self._mine, self._theirs = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()

    def _run(self, work: Callable[[_Runner], None]) -> None:
        self._mine.acquire()
        try:
            if not self.abandoned:
                work(self)
        except _Abandoned:
            pass
        except BaseException as error:  # noqa: BLE001 - raised where the batch is waited for
            self.error = error
        self.done, self.stop, self.inputs = True, None, None
        self._theirs.release()

    def go(self) -> None:
        """Let it run to its next stop or its end."""
        self._mine.release()
        self._theirs.acquire()
        if self.error is not None:
            raise self.error

    def halt(self, stop: str, inputs: Tensor) -> None:
        """Called by the batch itself: wait at a stop."""
        self.stop, self.inputs = stop, inputs
        self._theirs.release()
        self._mine.acquire()
        self.inputs = None
        if self.abandoned:
            raise _Abandoned

    def abandon(self) -> None:
        """End it, wherever it is."""
        if not self.done:
            self.abandoned = True
            self._mine.release()
            self._thread.join()


def in_step(
    model: nn.Module,
    batches: Sequence[Tensor],
    stops: Sequence[str],
    at: Callable[[str, Sequence[Tensor]], None],
    around: Callable[[int, Callable[[], None]], None],
    joins: Sequence[int] = (),
) -> None:
    """Run batches through a network, halting all before each stop.

    A batch that joins late starts when the stop before that has been left, and goes straight to where it joins: it has
    no maps in memory until then.

    Args:
        model: The network, in evaluation mode.
        batches: Inputs (B, ...) on its device.
        stops: Names of modules that every batch calls once.
        at: Called with a stop and what each batch brings to it, when all have arrived; may change the module.
        around: Called with a batch's number and a function that runs it; runs it within contexts of its own.
        joins: Per batch the number of its first stop, none lower than that of the batch before; 0 by default.

    Raises:
        ModelError: The batches do not take the same way.
    """
    current: list[_Runner] = []

    def hook(number: int, name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _, inputs: current[0].halt(name, inputs[0]) if number >= current[0].join else None

    def work(number: int) -> Callable[[_Runner], None]:
        def run(_: _Runner) -> None:
            with torch.no_grad():
                around(number, lambda: run_forward(model, batches[number]))

        return run

    modules = dict(model.named_modules())
    handles = [modules[name].register_forward_pre_hook(hook(number, name)) for number, name in enumerate(stops)]
    runners: list[_Runner] = []
    waiting = [*enumerate(joins or [0] * len(batches))]
    try:
        for number in itertools.count():
            while waiting and waiting[0][1] <= number:
                index, join = waiting.pop(0)
                runners.append(_Runner(work(index), join))
            if all(runner.done for runner in runners):
                break
            for runner in runners:
                current[:] = [runner]
                runner.go()
            arrived = {runner.stop for runner in runners}
            if len(arrived) > 1:
                raise ModelError("which layers run depends on the samples")
            stop = arrived.pop()
            if stop is not None:
                at(stop, [runner.inputs for runner in runners if runner.inputs is not None])
    finally:
        for runner in runners:
            runner.abandon()
        for handle in handles:
            handle.remove()
