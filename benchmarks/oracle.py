"""How well each criterion's scores predict what removing one filter does.

    python -m benchmarks.oracle resnet20 WEIGHTS.safetensors CIFAR_FOLDERS --out oracle20.json

The oracle: each inner filter is removed alone, and two things are measured on held-out test images: by how much the
cross-entropy rises, and the Kullback-Leibler divergence of the class probabilities from those before. The network is
run from the filter's block on, from inputs that are kept. Then every criterion scores the filters from calibration
samples of three seeds; the table has Spearman's rank correlation with both, over all filters and, averaged, within
layers. What is finished is in ``--out`` and is used again. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.utils.data import Subset

from benchmarks.cifar_resnet import INNER_ONLY, Block, CifarResNet
from topocompress import score
from topocompress.criteria.registry import create, split_names
from topocompress.data import Data, batches, load_data
from topocompress.files import atomic_file
from topocompress.models import load_model

CRITERIA = (
    "persistence+rounds=1,persistence+rounds=1+signed=false,persistence,taylor,l1,l2,fpgm,bn-scale,hrank,chip,"
    "betti,random"
)
CHUNK = 250


def blocks(model: CifarResNet) -> list[tuple[str, Block]]:
    """Name of the inner layer and block, in the order in which they run."""
    return [(f"{name}.conv1", module) for name, module in model.named_modules() if isinstance(module, Block)]


def logits(model: CifarResNet, maps: Tensor, later: list[Block]) -> Tensor:
    run = nn.Sequential(*later)
    return torch.cat([model.linear(run(part).mean(dim=(2, 3))) for part in maps.split(CHUNK)])


@torch.no_grad()
def consult(model: CifarResNet, images: Tensor, labels: Tensor, kept: dict[str, Any], save: Any) -> None:
    """Add, layer by layer, rise of the mean cross-entropy and mean divergence without each filter."""
    chain = blocks(model)
    maps = F.relu(model.bn1(model.conv1(images)))
    before = logits(model, maps, [block for _, block in chain]).log_softmax(dim=1)
    for place, (name, block) in enumerate(chain):
        shortcut = maps[:, :, :: block.stride, :: block.stride]
        if block.pad:
            shortcut = F.pad(shortcut, (0, 0, 0, 0, block.pad, block.pad))
        inner = F.relu(block.bn1(block.conv1(maps)))
        whole = block.conv2(inner)
        later = [following for _, following in chain[place + 1 :]]
        if name not in kept:
            found = []
            for channel in range(inner.shape[1]):
                part = slice(channel, channel + 1)
                less = whole - F.conv2d(inner[:, part], block.conv2.weight[:, part], padding=1)
                without = logits(model, F.relu(block.bn2(less) + shortcut), later)
                after = without.log_softmax(dim=1)
                rise = F.nll_loss(after, labels) - F.nll_loss(before, labels)
                divergence = (before.exp() * (before - after)).sum(dim=1).mean()
                found.append([float(rise), float(divergence)])
            kept[name] = found
            save()
        maps = F.relu(block.bn2(whole) + shortcut)


def scores_of(model: nn.Module, data: Data, name: str, seed: int, samples: int, layers: list[str]) -> list[list[float]]:
    part = Subset(data.calibration, range(seed * samples, (seed + 1) * samples))
    criterion = create(name, **({"seed": seed} if name == "random" else {}))
    found = score(model, batches(part), criterion=criterion, ignore=INNER_ONLY)
    sign = 1.0 if criterion.higher == "keep" else -1.0
    return [(sign * found.layers[layer].values).tolist() for layer in layers]


def correlations(truth: list[NDArray[Any]], scores: list[list[float]]) -> tuple[float, float]:
    """Over all filters, and the mean within layers."""
    everywhere = float(spearmanr(np.concatenate(truth), np.concatenate(scores)).statistic)
    within = [spearmanr(one, other).statistic for one, other in zip(truth, scores, strict=True)]
    return everywhere, float(np.nanmean(within))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=("resnet20", "resnet56"))
    parser.add_argument("weights")
    parser.add_argument("folders")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=int, default=10_000, help="test images of the oracle")
    parser.add_argument("--samples", type=int, default=500, help="calibration samples of each seed")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--criteria", default=CRITERIA)
    args = parser.parse_args()
    loaded = load_model(args.weights, arch=f"benchmarks.cifar_resnet:{args.network}")
    data = load_data(
        f"imagefolder:{args.folders}",
        preprocessing=loaded.preprocessing,
        samples=args.samples * args.seeds,
        eval_samples=args.images,
    )
    model = loaded.module
    key = [args.network, args.samples]
    content: dict[str, Any] = json.loads(args.out.read_text()) if args.out.exists() else {}
    if content.get("key") != key:
        content = {"key": key, "scores": {}}
    oracle = content.setdefault(f"oracle {args.images}", {})

    def save() -> None:
        with atomic_file(args.out) as temporary:
            temporary.write_text(json.dumps(content))

    images, labels = zip(*(data.evaluation[index] for index in range(len(data.evaluation))), strict=True)
    inputs = torch.stack(images).contiguous(memory_format=torch.channels_last)
    consult(model.eval(), inputs, torch.tensor(labels), oracle, save)
    layers = [name for name, _ in blocks(model)]
    truths = [[np.array(oracle[layer])[:, column] for layer in layers] for column in (0, 1)]
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
