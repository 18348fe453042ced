"""Data loaded for a network: its labels held against the network's outputs, so that both mean the same classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from topocompress.data.checks import BY_ORDER, IMAGENET, WORDS
from topocompress.data.datasets import SampleSet
from topocompress.data.keeping import with_packed
from topocompress.data.labels import plain
from topocompress.data.loading import (
    NO_CLASSES,
    ONE_LABEL,
    Data,
    check_classes,
    load_data,
    without_labels,
)
from topocompress.errors import DataError
from topocompress.models.class_names import given_classes
from topocompress.models.loading import LoadedModel
from topocompress.network.detectors import boxes_of
from topocompress.network.inference import device_of, evaluating, named_outputs, run_forward, sample_count
from topocompress.network.outputs import Outputs, outputs_of
from topocompress.workflows.defaults import AUTO
from topocompress.workflows.sampling import samples_for, taken_by_size

Classes = Sequence[str] | str | Path
"""What may be said of a network's outputs: see :func:`topocompress.data.load_data`."""


def open_data(
    loaded: LoadedModel,
    data: Data | Dataset[Any] | str | None,
    *,
    classes: Classes | None = None,
    unlabelled: bool = False,
    outputs_matter: bool = True,
    samples: int | str = AUTO,
    **options: Any,
) -> tuple[LoadedModel, Data]:
    """Load data for a network, unless it is loaded, and see that labels mean the network's outputs.

    Args:
        loaded: The network; the names of its outputs are those of ``classes``, or its own.
        data: A data source, a dataset, loaded data, or ``None`` for photographs.
        classes: Names of the outputs, or how to number classes; see :func:`topocompress.data.load_data`.
        unlabelled: Leave out all labels.
        outputs_matter: Whether labels are held against outputs; if not, they only tell the classes apart.
        samples: Calibration samples to load; ``auto`` for as many as suit the network's size.
        options: Further arguments of :func:`topocompress.data.load_data`.

    Returns:
        The network with the names of its classes as far as they are known, and its data.

    Raises:
        DataError: The data is not usable, or which output a class means is not known.
    """
    if isinstance(data, Data) and loaded.preprocessing.inputs:
        data = with_packed(data, loaded.preprocessing.inputs, loaded.preprocessing)
    said = None if classes is None else given_classes(classes, WORDS)
    outputs = None
    if outputs_matter and (isinstance(said, tuple) or not isinstance(data, Data | None)):
        outputs = _outputs(loaded)
    if outputs is not None and loaded.classes and len(loaded.classes) != outputs:
        note = f"the {len(loaded.classes)} names of classes that come with it are not used: it has {outputs} outputs"
        loaded = replace(loaded, classes=(), note="; ".join(part for part in (loaded.note, note) if part))
    if isinstance(said, tuple):
        if outputs is not None and len(said) != outputs:
            raise DataError(
                f"--classes names {len(said)} classes, and the model has {outputs} outputs",
                hint="Name every output once, in their order.",
            )
        note = loaded.note
        if loaded.classes and [plain(name) for name in loaded.classes] != [plain(name) for name in said]:
            own, given = (", ".join(names[:5]) for names in (loaded.classes, said))
            note = "; ".join(
                filter(None, (note, f"--classes: {given}, where the names that come with the model are {own}"))
            )
        loaded = replace(loaded, classes=said, note=note)
    if not isinstance(data, Data):
        # What gives no class per image has its labels left out below; by which names, is of no interest.
        names = said or loaded.classes or None if outputs is not None else said or BY_ORDER
        count = samples_for(loaded) if isinstance(samples, str) else samples
        data = load_data(
            data, preprocessing=loaded.preprocessing, classes=names, unlabelled=unlabelled, samples=count, **options
        )
        data = taken_by_size(data, count) if samples == AUTO else data
        if said == IMAGENET and len(loaded.classes) == len(data.classes):
            data = replace(data, classes=loaded.classes)
        elif said is not None and data.labelled:
            loaded = replace(loaded, classes=data.classes or loaded.classes)
    elif unlabelled:
        data = without_labels(data)
    return loaded, fitted_labels(loaded, data) if outputs_matter else data


def fitted_labels(loaded: LoadedModel, data: Data) -> Data:
    """Loaded data, its labels set aside where they cannot be held against the network's outputs.

    Raises:
        DataError: Its classes are not those of the network's outputs.
    """
    if not data.labelled:
        return data
    outputs, axes = outputs_with(loaded, data), np.ndim(data.evaluation[0][1])
    if outputs.label_axes != axes:
        dense = outputs.measure == "agreement" and axes == 0
        return replace(data, labelled=False, note=ONE_LABEL if dense else NO_CLASSES)
    named, own = [plain(name) for name in loaded.classes], [plain(name) for name in data.classes]
    if named and own and named != own:
        raise DataError(
            f"{data.source} was loaded with other classes than the network's: {', '.join(data.classes[:5])}, ... "
            f"against {', '.join(loaded.classes[:5])}, ...",
            hint="Load it with load_data(..., classes=loaded.classes): Data.classes are the names of the outputs, in "
            "their order, or empty where labels are numbers of outputs.",
        )
    if outputs.classes is not None:
        check_classes(data, outputs.classes)
    return data


def outputs_with(loaded: LoadedModel, data: Data) -> Outputs:
    """What of the network's outputs is compared, and how, given what the data says of them."""
    return outputs_of(
        loaded.module,
        torch.stack([data.calibration[index][0] for index in range(min(3, sample_count(data.calibration)))]),
        labels=np.ndim(data.evaluation[0][1]) if data.labelled else None,
        classes=len(data.classes) or None,
        names=len(loaded.classes),
        highest=_highest_label(data),
    )


_LOOKED_AT = 200
"""Samples of which labels are read where they stand in no list."""


def _highest_label(data: Data) -> int | None:
    """The highest label of what filters are judged on and of what is held out; ``None`` where there are none.

    Of datasets that keep no list of labels the first few hundred samples are looked at.
    """
    if not data.labelled:
        return None
    found = []
    for part in (data.calibration, data.evaluation):
        if isinstance(part, SampleSet):
            found.append(int(part.targets.max(initial=-1)))
        else:
            some = range(min(sample_count(part), _LOOKED_AT))
            found += [int(torch.as_tensor(part[index][1]).max()) for index in some]
    return max(found)


def _outputs(loaded: LoadedModel) -> int | None:
    """How many classes the network tells apart, one per image; ``None`` where it does another thing."""
    with evaluating(loaded.module), torch.random.fork_rng(devices=[]):
        output = run_forward(
            loaded.module, torch.zeros(1, *loaded.preprocessing.input_shape, device=device_of(loaded.module))
        )
    if boxes_of(output) is not None:
        return None
    named = named_outputs(output)
    scores = next((tensor for name, tensor in named if name == "out"), named[0][1] if named else None)
    if scores is None or scores.ndim != 2:
        return None
    return scores.shape[1] if scores.shape[1] > 1 else None  # a single score: of two classes, or a number
