"""What a report says about where it was made."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from pathlib import Path

_PACKAGES = ("torch", "torchvision", "torch-pruning", "onnx", "onnxruntime", "giotto-ph", "ripser", "numpy")


def describe() -> dict[str, object]:
    """Versions and machine, as plain data."""
    import torch

    return {
        "python": sys.version.split()[0],
        "versions": {name: version for name in ("topocompress", *_PACKAGES) if (version := _version(name))},
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _processor() -> str:
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
