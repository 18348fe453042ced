"""What the tests of ``benchmarks.activation`` work on."""

import torch

from benchmarks.activation.betti import VARIANTS
from benchmarks.activation.data import Images
from benchmarks.activation.sets import DEPTH
from benchmarks.activation.zoo import FIXED


def normal(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def measured():
    """Made-up results of the study on one set."""
    steps = {level: [10.0] * 10 for level in ("0.90", "0.95", "0.99")}
    rows = {f"sets/D-I/{name}/runs": {"rate": 0.01, "steps": steps} for name in (FIXED, "SiLU")}
    rows["sets/D-I/ReLU/runs"] = {"rate": 0.01, "steps": {level: [40.0] * 10 for level in steps}}
    rows["cost-dense"] = {"32": {FIXED: 6.0, "ReLU": 3.0, "SiLU": 4.5}}
    network = [[[9, 0], [1, 9]], *[[[3, 0], [1, 1]]] * DEPTH, [[1, 0], [1, 0]]]
    layers = ["input", *map(str, range(1, DEPTH + 1)), "logits"]
    for name in VARIANTS:
        rows[f"betti/D-I/{name}"] = {"layers": layers, "networks": [network] * 3}
        hits = [None] * 3 if name == "tanh" else [50.0, 50.0, None]
        rows[f"betti-networks/D-I/{name}"] = {"steps": hits, "best": [0.9] * 3}
    rows["tried/D-I/frequency 6"] = rows["betti/D-I/ReLU"]
    rows["tried-networks/D-I/frequency 6"] = rows["betti-networks/D-I/ReLU"]
    return rows


def pictures(count=200, classes=2):
    labels = torch.arange(count) % classes
    pixels = (normal(count, 8, 8, 1) + labels[:, None, None, None]).permute(0, 3, 1, 2)
    return Images(training=(pixels, labels), test=(pixels[:60], labels[:60]), classes=classes)
