"""Betti numbers through the layers of networks that a finished study has trained."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.activation_sets import TASKS, Task, trained
from benchmarks.activation_zoo import OURS
from benchmarks.topology import Results
from topocompress.topology.layers import INPUT, class_bettis

NAMES = (OURS, "ReLU", "tanh")
POINTS = 5_000
NETWORKS = 3


def measure(results: Results, weights: Path) -> None:
    """Both classes after every layer, for the networks of the first seeds; what is there already is not done again."""
    for title, task in TASKS.items():
        if not task.neighbours:
            continue
        for name in NAMES:
            file = weights / f"{title}-{name}.safetensors"
            if file.exists():
                rows = results.once(f"betti/{title}/{name}", partial(_through, task, name, file))
                print(title, name, [sum(map(sum, seen)) for seen in rows["networks"][0]], flush=True)


def _through(task: Task, name: str, file: Path) -> dict[str, Any]:
    """Layer → class → Betti numbers, for each network; the input is the first layer."""
    points, labels = task.source.sample(POINTS, seed=3)
    stack = trained(task, name, file)
    with torch.no_grad():
        outputs = stack.outputs(torch.from_numpy(points).expand(len(stack.layers[0][0]), *points.shape))
    dimensions = tuple(range(len(task.source.betti[0])))
    see = partial(class_bettis, labels=labels, neighbours=task.neighbours, dimensions=dimensions)
    first = list(see(points).values())
    networks = [[first, *(list(see(out[run].numpy()).values()) for out in outputs)] for run in range(NETWORKS)]
    return {"layers": [INPUT, *map(str, range(1, stack.depth + 1)), "logits"], "networks": networks}
