"""One process of the memory benchmark: ResNet-50 at 224 × 224, bare forward passes or scoring within 2 GB.

python -m benchmarks.topology.memory forward|score SAMPLES DATA
"""

from __future__ import annotations

import json
import sys

import torch

from benchmarks.common.networks import convolutions, images_at_224, untrained
from topocompress import Betti
from topocompress.runtime.resources import Resources
from topocompress.scoring.dispatch import score_layers

BUDGET = 2 * 10**9


def main() -> None:
    what, samples, source = sys.argv[1:]
    batches = images_at_224(source or None, int(samples))
    model = untrained("resnet50", batches)
    if what == "forward":
        with torch.inference_mode():
            for images, _ in batches:
                model(images)
        return

    def progress(step: str, done: int, total: int) -> None:
        print(f"\r{step}: {done}/{total}", end="", file=sys.stderr)

    scores = score_layers(
        model, convolutions(model), Betti(), batches, resources=Resources(memory=BUDGET, workers=2), progress=progress
    )
    print(json.dumps(dict(scores.run)))


if __name__ == "__main__":
    main()
