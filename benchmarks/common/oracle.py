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
import copy
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
from topocompress.data.loading import Data, batches, load_data
from topocompress.models.loading import load_model
from topocompress.runtime.files import atomic_file

CRITERIA = (
    "persistence+rounds=1,persistence+rounds=1+signed=false,persistence,taylor,l1,l2,fpgm,bn-scale,hrank,chip,"
    "betti,random"
)
CHUNK = {"cpu": 250, "cuda": 2500}
"""Images at a time: few that their maps stay in a CPU's cache, many that a GPU is busy."""


def blocks(model: CifarResNet) -> list[tuple[str, Block]]:
    """Name of the inner layer and block, in the order in which they run."""
    return [(f"{name}.conv1", module) for name, module in model.named_modules() if isinstance(module, Block)]


@torch.no_grad()
def consult(model: CifarResNet, layer: str, images: Tensor, labels: Tensor) -> list[list[float]]:
    """Rise of the mean cross-entropy, and mean divergence, without each filter of an inner layer.

    Args:
        model: The network, in evaluation mode.
        layer: Name of the layer.
        images: (samples, 3, h, w) on the network's device.
        labels: (samples,) likewise.

    Returns:
        (filters, 2) as lists.
    """
    size = CHUNK.get(images.device.type, CHUNK["cpu"])
    parts = [_sums(model, layer, *part) for part in zip(images.split(size), labels.split(size), strict=True)]
    found: list[list[float]] = (torch.stack(parts).sum(dim=0) / len(images)).tolist()
    return found


def _sums(model: CifarResNet, layer: str, images: Tensor, labels: Tensor) -> Tensor:
    chain = blocks(model)
    place = [name for name, _ in chain].index(layer)
    block = chain[place][1]
    maps = F.relu(model.bn1(model.conv1(images)))
    for _, earlier in chain[:place]:
        maps = earlier(maps)
    shortcut = maps[:, :, :: block.stride, :: block.stride]
    if block.pad:
        shortcut = F.pad(shortcut, (0, 0, 0, 0, block.pad, block.pad))
    inner = F.relu(block.bn1(block.conv1(maps)))
    whole = block.conv2(inner)
    later = nn.Sequential(*(following for _, following in chain[place + 1 :]))

    def outputs(read: Tensor) -> Tensor:
        logits: Tensor = model.linear(later(F.relu(block.bn2(read) + shortcut)).mean(dim=(2, 3)))
        return logits.double().log_softmax(dim=1)

    before = outputs(whole)
    loss = F.nll_loss(before, labels, reduction="sum")
    found = []
    for channel in range(inner.shape[1]):
        part = slice(channel, channel + 1)
        after = outputs(whole - F.conv2d(inner[:, part], block.conv2.weight[:, part], padding=1))
        rise = F.nll_loss(after, labels, reduction="sum") - loss
        found.append(torch.stack([rise, (before.exp() * (before - after)).sum()]))
    return torch.stack(found).cpu()


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
    parser.add_argument("--device", default="cpu", help="where the oracle runs, such as cuda")
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

    layers = [name for name, _ in blocks(model)]
    if missing := [name for name in layers if name not in oracle]:
        images, labels = zip(*(data.evaluation[index] for index in range(len(data.evaluation))), strict=True)
        inputs = torch.stack(images).contiguous(memory_format=torch.channels_last).to(args.device)
        torch.backends.cudnn.allow_tf32 = False  # a filter may do less than its rounding
        asked = copy.deepcopy(model).eval().to(args.device)
        for name in missing:
            oracle[name] = consult(asked, name, inputs, torch.tensor(labels).to(args.device))
            save()
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
