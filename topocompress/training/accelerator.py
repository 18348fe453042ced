"""Where training runs: devices, processes and precision, by Hugging Face Accelerate.

Accelerate keeps its state in attributes of its classes, one set per process. Here it is put aside and given back, so
that two trainings may differ in precision and a caller's own Accelerator stays what it was.
"""

from __future__ import annotations

import atexit
import contextlib
import datetime
import gc
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed, nn

from topocompress.errors import DataError
from topocompress.training import processes
from topocompress.training.recipe import Precision

if TYPE_CHECKING:
    from accelerate import Accelerator

_PATIENCE = datetime.timedelta(days=7)
"""How long processes wait for the main one, which alone scores filters."""


@contextlib.contextmanager
def team() -> Iterator[None]:
    """Connect the processes that were launched together; nothing where there is one, or where they are connected.

    They stay connected until they end: a second connection could meet the first while another process still closes it.
    """
    processes.join()
    if not processes.launched() or distributed.is_initialized():
        yield
        return
    # Its functions take the connection of that moment for their default: imported later, they keep it open for ever.
    import torch.distributed.nn.functional  # noqa: F401
    from accelerate.state import PartialState

    before = dict(PartialState._shared_state)
    PartialState._shared_state.clear()
    try:
        with _quiet():
            PartialState(cpu=_on_cpu(), timeout=_PATIENCE)
        atexit.register(_disconnect)
    finally:
        _put_back(PartialState, before)
    yield


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Accelerate chooses the number of threads of processes that share a CPU; it need not say so every time."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="OMP_NUM_THREADS")
        yield


@contextlib.contextmanager
def accelerator(precision: Precision, device: torch.device | None = None) -> Iterator[Accelerator]:
    """An Accelerator of one's own.

    Args:
        precision: ``no``, ``bf16`` or ``fp16``.
        device: Where the network is. A single process trains there if that is a GPU; else Accelerate chooses, which is
            the GPU where there is one and ``ACCELERATE_USE_CPU`` does not forbid it.

    Raises:
        DataError: The precision is not for the device, or the processes were not launched for data parallelism.
    """
    from accelerate import Accelerator, DistributedDataParallelKwargs
    from accelerate.state import AcceleratorState, GradientState, PartialState

    there = torch.cuda.device(device) if device is not None and device.type == "cuda" else contextlib.nullcontext()
    with team(), there:
        states = (AcceleratorState, GradientState, PartialState)
        before = [dict(state._shared_state) for state in states]
        AcceleratorState._shared_state.clear()
        GradientState._shared_state.clear()
        try:
            # Statistics are averaged once an epoch instead of taken from the main process at every step.
            handlers = [DistributedDataParallelKwargs(broadcast_buffers=False)]
            with _quiet():
                found = Accelerator(mixed_precision=precision, cpu=_on_cpu(), kwargs_handlers=handlers)
            kind = str(found.distributed_type).rpartition(".")[2]
            if kind != "NO" and not kind.startswith("MULTI_"):
                raise DataError(
                    f"fine-tuning runs data-parallel; the launcher asks for {kind}",
                    hint="Launch without FSDP, DeepSpeed and Megatron.",
                )
            if precision == "fp16" and found.device.type == "cpu":
                raise DataError(
                    "fp16 needs a GPU: on a CPU, small gradients would vanish",
                    hint="Take --precision bf16, or leave it out.",
                )
            yield found
        finally:
            for state, content in zip(states, before, strict=True):
                _put_back(state, content)


def check_precision(precision: Precision) -> None:
    """Refuse a precision that the device training would run on cannot do, before any work is spent.

    Raises:
        DataError: As said.
    """
    if precision != "no":
        with accelerator(precision):
            pass


def wrapped(helper: Accelerator, model: nn.Module, used: set[str]) -> nn.Module:
    """The network on its device, in its precision, its gradients averaged over the processes.

    With several GPUs its BatchNorm layers are made to share their statistics. On CPUs torch cannot do that, and each
    process normalises by its own part of a batch.

    Args:
        helper: From :func:`accelerator`.
        model: The network; it is changed, and weights it shares with the result move.
        used: Names of the parameters that get gradients; the others are frozen, because processes wait for each.
    """
    model.to(helper.device)
    if helper.num_processes > 1:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in used)
        if helper.device.type == "cuda":
            model = _with_shared_statistics(model)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated")  # what replaces it is newer
        prepared: nn.Module = helper.prepare_model(model)
    return prepared


def _with_shared_statistics(model: nn.Module) -> nn.Module:
    """SyncBatchNorm in place of torch's own BatchNorm; subclasses, which may do more, stay."""
    plain = {nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d}
    made: dict[nn.Module, nn.Module] = {}
    for module in list(model.modules()):
        for name, child in list(module._modules.items()):
            if child is not None and type(child) in plain:
                convert: Callable[[nn.Module], nn.Module] = nn.SyncBatchNorm.convert_sync_batchnorm
                made[child] = made.get(child) or convert(child)
                setattr(module, name, made[child])
    return made.get(model, model)


def _put_back(state: Any, content: dict[str, Any]) -> None:
    state._shared_state.clear()
    state._shared_state.update(content)


def _disconnect() -> None:
    """Close the connection while Python still runs: gloo's threads may not outlive it."""
    if distributed.is_initialized():
        distributed.destroy_process_group()
        gc.collect()  # networks that shared it are cycles


def _on_cpu() -> bool:
    from accelerate.utils import parse_flag_from_env

    return bool(parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available())


def summed(helper: Accelerator, values: list[float]) -> list[float]:
    """Each number added up over the processes, in the order of their numbers, so that all get the same."""
    if helper.num_processes == 1:
        return values
    found: Any = helper.gather(torch.tensor([values], dtype=torch.float64, device=helper.device))
    total: list[float] = found.sum(0).tolist()
    return total
