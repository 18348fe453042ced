"""The new process of ``python -m benchmarks.zoo``: loads a run directory and compares its outputs bit for bit.

    python -m benchmarks.zoo.load RUN INPUTS.npy OUTPUTS.npy THREADS

Exits with 0 if they are the same; else the difference is on the last line of what it says.
"""

from __future__ import annotations

import sys

import numpy as np
import torch

import topocompress


def main() -> None:
    directory, inputs, outputs, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    model = topocompress.load(directory)
    with torch.no_grad():
        actual = model(torch.from_numpy(np.load(inputs))).numpy()
    expected = np.load(outputs)
    if actual.shape != expected.shape or actual.tobytes() != expected.tobytes():
        far = np.abs(actual - expected).max() if actual.shape == expected.shape else "another shape"
        sys.exit(f"loaded again, the outputs differ by {far} where the largest is {np.abs(expected).max()}")


if __name__ == "__main__":
    main()
