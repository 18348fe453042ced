"""Steps that take minutes and give a network: kept in the cache, for a run that continues one that was stopped."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import TypeAdapter
from torch import nn

import topocompress
from topocompress.errors import OutputError
from topocompress.models.loading import fingerprint
from topocompress.network.copying import copied
from topocompress.training.checkpoints import Snapshot, TuningStore, place
from topocompress.training.epochs import check_alike
from topocompress.workflows.job import Job

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")


def once(
    job: Job,
    network: nn.Module,
    settings: Mapping[str, Any],
    kind: type[T],
    make: Callable[[], tuple[nn.Module, T]],
) -> tuple[nn.Module, T]:
    """What a step gives, from the cache where the run continues another that has come so far.

    Args:
        job: Its cache, and whether it resumes.
        network: What the step changes a copy of; the result has its structure.
        settings: What else the result depends on, as plain data.
        kind: A dataclass of plain data, which says what is known of the new network.
        make: Takes the step: the new network, and what is known of it.
    """
    store = _store(job, network, settings)
    found = _kept(store, network, kind) if store is not None and job.resume else None
    if found is not None:
        return found
    model, known = make()
    if store is not None:
        with contextlib.suppress(OSError, OutputError):  # a cache that cannot be written is no reason to lose the step
            store.save(Snapshot(tensors={"model": model.state_dict()}, state=asdict(known)))
    return model, known


def _kept(store: TuningStore, network: nn.Module, kind: type[T]) -> tuple[nn.Module, T] | None:
    """What the cache holds; ``None`` where that is nothing, or does not verify, which is said."""
    own = network.state_dict()
    snapshot = store.load(2 * sum(tensor.nbytes for tensor in own.values()))
    if snapshot is None:
        return None
    try:
        tensors = dict(snapshot.tensors.get("model", {}))
        check_alike(own, tensors)
        known = TypeAdapter(kind).validate_json(json.dumps(snapshot.state), strict=True)
    except ValueError as error:  # of pydantic, too
        store.unused(error)
        return None
    model = copied(network)
    model.load_state_dict(tensors)
    return model, known


def _store(job: Job, network: nn.Module, settings: Mapping[str, Any]) -> TuningStore | None:
    if job.cache is None:
        return None
    key = {
        "topocompress": topocompress.__version__,
        "network": [fingerprint(network), repr(network)],
        "original": fingerprint(job.model),
        "data": job.data.fingerprint,
        "seed": job.seed,
        **settings,
    }
    with contextlib.suppress(OSError, OutputError):
        folder = place(Path(job.cache) / "repairs", key)
        store = TuningStore(folder, key, cached=True)
        job.checkpoints.append(folder)
        return store
    return None
