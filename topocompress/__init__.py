"""topocompress: smaller, faster vision networks by removing filters, chosen by the topology of what they compute.

The names below are the public interface. They are imported on first use, so that ``import topocompress`` (and the
command line's ``--help``) does not wait for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from topocompress.activation import TopologicalActivation
    from topocompress.artifact import load, save
    from topocompress.benching import bench
    from topocompress.criteria.betti import Betti
    from topocompress.errors import TopocompressError
    from topocompress.export import export_onnx
    from topocompress.finetuning import finetune
    from topocompress.inspection import inspect_filter
    from topocompress.latency import compare_latency
    from topocompress.pipeline import compress
    from topocompress.recipe import Recipe
    from topocompress.surgery import apply
    from topocompress.swapping import fold_back, swap_activations
    from topocompress.verbs import measure, plan, score

_HOMES = {
    "Betti": "criteria.betti",
    "Recipe": "recipe",
    "TopocompressError": "errors",
    "TopologicalActivation": "activation",
    "apply": "surgery",
    "bench": "benching",
    "compare_latency": "latency",
    "compress": "pipeline",
    "export_onnx": "export",
    "finetune": "finetuning",
    "fold_back": "swapping",
    "inspect_filter": "inspection",
    "load": "artifact",
    "measure": "verbs",
    "plan": "verbs",
    "save": "artifact",
    "score": "verbs",
    "swap_activations": "swapping",
}

__all__ = [
    "Betti",
    "Recipe",
    "TopocompressError",
    "TopologicalActivation",
    "apply",
    "bench",
    "compare_latency",
    "compress",
    "export_onnx",
    "finetune",
    "fold_back",
    "inspect_filter",
    "load",
    "measure",
    "plan",
    "save",
    "score",
    "swap_activations",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'topocompress' has no attribute {name!r}")
    return getattr(importlib.import_module(f"topocompress.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
