"""Run one ONNX file once and print this process's peak resident memory in bytes, or ``none``.

A script of its own, started by its path: importing it as part of the package would load more than the inference needs.

    python -P _inference_process.py MODEL.onnx INPUT.npy
"""

import sys
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
    model, inputs = sys.argv[1:]
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    session.run(None, {session.get_inputs()[0].name: np.load(inputs)})
    peak = peak_resident_bytes()
    sys.stdout.write("none\n" if peak is None else f"{peak}\n")


if __name__ == "__main__":
    main()
