"""Data loaded for a network: its labels held against the network's outputs, so that both mean the same classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from topocompress.data.labels import BY_NUMBER, BY_ORDER, plain
from topocompress.data.loading import IMAGENET, ONE_LABEL, Data, check_classes, load_data, without_labels
from topocompress.errors import DataError
from topocompress.models.class_names import given_classes
from topocompress.models.loading import LoadedModel
from topocompress.network.detectors import boxes_of
from topocompress.network.inference import device_of, evaluating, main_output, run_forward

Classes = Sequence[str] | str | Path
"""What may be said of a network's outputs: see :func:`topocompress.data.load_data`."""


def open_data(
    loaded: LoadedModel,
    data: Data | str | None,
    *,
    classes: Classes | None = None,
    unlabelled: bool = False,
    outputs_matter: bool = True,
    **options: Any,
) -> tuple[LoadedModel, Data]:
    """Load data for a network, unless it is loaded, and see that labels mean the network's outputs.

    Args:
        loaded: The network; the names of its outputs are those of ``classes``, or its own.
        data: A data source, loaded data, or ``None`` for photographs.
        classes: Names of the outputs, or how to number classes; see :func:`topocompress.data.load_data`.
        unlabelled: Leave out all labels.
        outputs_matter: Whether labels are held against outputs; if not, they only tell the classes apart.
        options: Further arguments of :func:`topocompress.data.load_data`.

    Returns:
        The network with the names of its classes as far as they are known, and its data.

    Raises:
        DataError: The data is not usable, or which output a class means is not known.
    """
    said = None if classes is None else given_classes(classes, (BY_ORDER, BY_NUMBER, IMAGENET))
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
        loaded = replace(loaded, classes=said)
    if not isinstance(data, Data):
        # What gives no class per image has its labels left out below; by which names, is of no interest.
        names = said or loaded.classes or None if outputs is not None else said or BY_ORDER
        data = load_data(data, preprocessing=loaded.preprocessing, classes=names, unlabelled=unlabelled, **options)
        if said == IMAGENET and len(loaded.classes) == len(data.classes):
            data = replace(data, classes=loaded.classes)
        elif said is not None and data.labelled:
            loaded = replace(loaded, classes=data.classes or loaded.classes)
    elif unlabelled:
        data = without_labels(data)
    return loaded, fitted_labels(loaded, data) if outputs_matter else data


def fitted_labels(loaded: LoadedModel, data: Data) -> Data:
    """Loaded data, unlabelled for a network that gives no class per image.

    Raises:
        DataError: Its classes are not those of the network's outputs.
    """
    if not data.labelled:
        return data
    image, label = data.evaluation[0]
    with evaluating(loaded.module) as device:
        output = run_forward(loaded.module, image[None].to(device))
    if boxes_of(output) is not None or (main_output(output).ndim > 2 and np.ndim(label) == 0):
        return replace(data, labelled=False, note=ONE_LABEL)
    named, own = [plain(name) for name in loaded.classes], [plain(name) for name in data.classes]
    if named and own and named != own:
        raise DataError(
            f"{data.source} was loaded with other classes than the network's: {', '.join(data.classes[:5])}, ... "
            f"against {', '.join(loaded.classes[:5])}, ...",
            hint="Load it with load_data(..., classes=loaded.classes): Data.classes are the names of the outputs, in "
            "their order, or empty where labels are numbers of outputs.",
        )
    check_classes(data, main_output(output).shape[1])
    return data


def _outputs(loaded: LoadedModel) -> int | None:
    """How many classes the network tells apart, one per image; ``None`` where it does another thing."""
    with evaluating(loaded.module), torch.random.fork_rng(devices=[]):
        output = run_forward(
            loaded.module, torch.zeros(1, *loaded.preprocessing.input_shape, device=device_of(loaded.module))
        )
    if boxes_of(output) is not None:
        return None
    scores = main_output(output)
    return scores.shape[1] if scores.ndim == 2 else None
