"""Run one ONNX file once and print as JSON what that took: memory, and the time until the first answer.

A script of its own, started by its path: importing it as part of the package would load more than the inference needs.

    python -P _inference_process.py MODEL.onnx INPUT.npy [INPUT.npy ...] THREADS
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort


def peak_resident_bytes() -> int | None:
    """Peak resident memory of this process; ``None`` where the system does not tell."""
    if sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux. Not ru_maxrss: it survives exec, so it would report the parent when that was larger.
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        return None
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None


def main() -> None:
    """Load, run, print."""
    model, *inputs, threads = sys.argv[1:]
    batch = [np.load(file) for file in inputs]
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = int(threads)  # 0: one per core
    started = time.perf_counter()
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    loaded = time.perf_counter()
    session.run(None, dict(zip([each.name for each in session.get_inputs()], batch, strict=True)))
    first = time.perf_counter()
    found = {
        "peak_bytes": peak_resident_bytes(),
        "load_ms": 1e3 * (loaded - started),
        "first_ms": 1e3 * (first - loaded),
    }
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
