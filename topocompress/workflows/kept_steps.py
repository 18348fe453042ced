"""Steps that take minutes and give a network: kept in the cache, for a run that continues one that was stopped."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

import topocompress
from topocompress.errors import OutputError
from topocompress.models.loading import fingerprint
from topocompress.network.copying import copied
from topocompress.training.checkpoints import Snapshot, TuningStore, place
from topocompress.workflows.job import Job


def once(
    job: Job,
    network: nn.Module,
    settings: Mapping[str, Any],
    make: Callable[[], tuple[nn.Module, dict[str, Any]]],
) -> tuple[nn.Module, dict[str, Any]]:
    """What a step gives, from the cache where the run continues another that has come so far.

    Args:
        job: Its cache, and whether it resumes.
        network: What the step changes a copy of; the result has its structure.
        settings: What else the result depends on, as plain data.
        make: Takes the step: the new network, and what is known of it as plain data.
    """
    store = _store(job, network, settings)
    found = store.load() if store is not None and job.resume else None
    if found is not None:
        model = copied(network)
        model.load_state_dict(dict(found.tensors["model"]))
        return model, dict(found.state)
    model, state = make()
    if store is not None:
        with contextlib.suppress(OSError, OutputError):  # a cache that cannot be written is no reason to lose the step
            store.save(Snapshot(tensors={"model": model.state_dict()}, state=state))
    return model, state


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
        store = TuningStore(folder, key)
        job.checkpoints.append(folder)
        return store
    return None
