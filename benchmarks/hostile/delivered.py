"""What a run delivers, without the times in it; and what is kept of one that is not finished."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

_TIMED = {"report.html", "report.md", "sweep.png"}
"""Files that show times."""
_TIMES = {
    *("seconds", "cpu_seconds", "latency", "peak_bytes", "environment", "warnings", "advice", "faster", "runs", "run"),
    *("epochs_resumed", "layers_reused", "passes", "peak_cloud_bytes", "peak_process_bytes", "workers"),
    *("key", "sha256", "front"),
}
"""Names of what differs from run to run, and of hashes over it."""


def delivered(out: Path) -> dict[str, str]:
    """Name → hash of every file that a run has delivered; of JSON without times, and of pictures of times none."""
    found = {}
    for path in sorted(out.rglob("*")) if out.is_dir() else []:
        if path.is_file() and path.name not in _TIMED:
            content = path.read_bytes()
            if path.suffix == ".json" and path.name != "plan.json":
                content = json.dumps(_timeless(json.loads(content)), sort_keys=True).encode()
            found[path.relative_to(out).as_posix()] = hashlib.sha256(content).hexdigest()
    return found


def _timeless(content: Any) -> Any:
    if isinstance(content, dict):
        return {name: _timeless(value) for name, value in content.items() if name not in _TIMES}
    return [_timeless(value) for value in content] if isinstance(content, list) else content


def kept(root: Path) -> dict[str, Any]:
    """Layers and epochs in a cache, and results in a folder with the times at which they were written."""
    stores = [path.parent for path in root.glob("cache/**/*.json")]
    tuned = [path for path in root.rglob("tuning.safetensors") if "repairs" not in path.parts]
    results = [path for kind in ("cells", "points") for path in root.glob(f"work/out/{kind}/*.json")]
    return {
        "layers": len(stores),
        "epochs": max((_epochs(path) for path in tuned), default=0),
        "results": {path.relative_to(root / "work" / "out").as_posix(): path.stat().st_mtime_ns for path in results},
    }


def _epochs(path: Path) -> int:
    try:
        with safe_open(path, framework="pt") as file:
            return len(json.loads(file.metadata()["state"])["history"]) - 1
    except (SafetensorError, OSError, ValueError, KeyError, TypeError):
        return 0
