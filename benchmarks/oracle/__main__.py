"""The command of ``benchmarks.oracle``."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import Subset

from benchmarks import oracle
from benchmarks.common.cifar_resnet import INNER_ONLY
from benchmarks.common.commands import parser_of
from benchmarks.common.oracle import blocks, consult, correlations
from benchmarks.common.results import read, write
from topocompress import score
from topocompress.criteria.registry import create, split_names
from topocompress.data.loading import Data, batches, load_data
from topocompress.models.loading import load_model

CRITERIA = (
    "persistence+looks=1,persistence+looks=1+signed=false,persistence,taylor,l1,l2,fpgm,bn-scale,hrank,chip,"
    "betti,random"
)


def scores_of(model: nn.Module, data: Data, name: str, seed: int, samples: int, layers: list[str]) -> list[list[float]]:
    part = Subset(data.calibration, range(seed * samples, (seed + 1) * samples))
    criterion = create(name, **({"seed": seed} if name == "random" else {}))
    found = score(model, batches(part), criterion=criterion, ignore=INNER_ONLY)
    sign = 1.0 if criterion.higher == "keep" else -1.0
    return [(sign * found.layers[layer].values).tolist() for layer in layers]


def main() -> None:
    parser = parser_of(oracle)
    parser.add_argument("network", choices=("resnet20", "resnet56"))
    parser.add_argument("weights")
    parser.add_argument("folders")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=int, default=10_000, help="test images of the oracle")
    parser.add_argument("--samples", type=int, default=500, help="calibration samples of each seed")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--criteria", default=CRITERIA)
    parser.add_argument("--device", default="cpu", help="where the oracle runs, such as cuda")
    args = parser.parse_args()
    loaded = load_model(args.weights, arch=f"benchmarks.common.cifar_resnet:{args.network}")
    data = load_data(
        f"imagefolder:{args.folders}",
        preprocessing=loaded.preprocessing,
        samples=args.samples * args.seeds,
        eval_samples=args.images,
    )
    model = loaded.module
    key = [args.network, args.samples]
    content: dict[str, Any] = read(args.out)
    if content.get("key") != key:
        content = {"key": key, "scores": {}}
    known = content.setdefault(f"oracle {args.images}", {})

    def save() -> None:
        write(args.out, content)

    layers = [name for name, _ in blocks(model)]
    if missing := [name for name in layers if name not in known]:
        images, labels = zip(*(data.evaluation[index] for index in range(len(data.evaluation))), strict=True)
        inputs = torch.stack(images).contiguous(memory_format=torch.channels_last).to(args.device)
        torch.backends.cudnn.allow_tf32 = False  # a filter may do less than its rounding
        asked = copy.deepcopy(model).eval().to(args.device)
        for name in missing:
            known[name] = consult(asked, name, inputs, torch.tensor(labels).to(args.device))
            save()
    truths = [[np.array(known[layer])[:, column] for layer in layers] for column in (0, 1)]
    print(f"{args.network}: {sum(map(len, truths[0]))} inner filters, {args.images} test images, N = {args.samples}\n")
    print("| criterion | loss: all filters | within layers | divergence: all filters | within layers |")
    print("|---|---:|---:|---:|---:|")
    for name in split_names(args.criteria):
        found = []
        for seed in range(args.seeds):
            cell = f"{name} {seed}"
            if cell not in content["scores"]:
                content["scores"][cell] = scores_of(model, data, name, seed, args.samples, layers)
                save()
            found.append([value for truth in truths for value in correlations(truth, content["scores"][cell])])
        columns = zip(np.mean(found, axis=0), np.std(found, axis=0), strict=True)
        print(f"| `{name}` | {' | '.join(f'{mean:.2f} ± {spread:.2f}' for mean, spread in columns)} |", flush=True)


if __name__ == "__main__":
    main()
