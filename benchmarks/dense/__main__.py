"""The command of ``benchmarks.dense``."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from benchmarks import dense
from benchmarks.common.commands import parser_of
from benchmarks.common.networks import images_at_224, make_informative
from benchmarks.common.results import read, write
from topocompress import compress
from topocompress.data.loading import load_data
from topocompress.errors import TopocompressError
from topocompress.models.loading import load_model
from topocompress.reporting import environment

NETWORKS = (
    "fcn_resnet50",
    "deeplabv3_mobilenet_v3_large",
    "lraspp_mobilenet_v3_large",
    "ssdlite320_mobilenet_v3_large",
    "fasterrcnn_mobilenet_v3_large_fpn",
    "retinanet_resnet50_fpn_v2",
)
RATIO, SAMPLES = 0.3, 8
CLASS_SCORES = {
    "ssdlite320_mobilenet_v3_large": ("head.classification_head.module_list.*.1", 5.0, 0.0),
    "fasterrcnn_mobilenet_v3_large_fpn": ("roi_heads.box_predictor.cls_score", 5.0, 0.0),
    "retinanet_resnet50_fpn_v2": ("head.classification_head.cls_logits", 2.0, -7.0),
}
"""Detector → the layers that give its class scores, what they are multiplied by and what is added (one score for each
class by itself needs a low start, scores of which only the largest counts do not)."""


def seeded(name: str) -> nn.Module:
    """The network with weights whose outputs carry information."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: nn.Module = torchvision.models.get_model(name, weights=None, weights_backbone=None)
    make_informative(model, images_at_224(None, 8)[0][0])
    if name in CLASS_SCORES:
        pattern, factor, shift = CLASS_SCORES[name]
        layers = [module for child, module in model.named_modules() if Path(child).match(pattern)]
        with torch.no_grad():
            for layer in layers:
                layer.weight.mul_(factor)  # type: ignore[operator]
                layer.bias.mul_(factor).add_(shift)  # type: ignore[operator]
    return model


def examine(name: str, criterion: str, folder: Path) -> dict[str, Any]:
    """Prune one network as ``topocompress prune`` does; what its report says."""
    weights = folder / f"{name}.safetensors"
    save_file(seeded(name).state_dict(), weights)
    loaded = load_model(str(weights), arch=name)
    try:
        result = compress(
            loaded,
            load_data(None, preprocessing=loaded.preprocessing, samples=SAMPLES, eval_samples=SAMPLES),
            criterion=criterion,
            ratio=RATIO,
            controls=False,
            out=folder / "run",
            force=True,
        )
    except TopocompressError as error:
        return {"network": name, "refused": error.what}
    if result.report is None:
        raise RuntimeError("a finished run has a report")
    before, after, groups = result.report.before, result.report.after, result.plan.groups
    kept: dict[str, int] = {}
    for group in groups:
        if group.protected:
            kept[group.protected] = kept.get(group.protected, 0) + 1
    return {
        "network": name,
        "macs": [before.macs, after.macs],
        "parameters": [before.parameters, after.parameters],
        "latency_ms": [side.latency[0].median_ms for side in (before, after)],
        "parity": result.report.export.max_rel,
        "same": result.report.export.top1_agreement,
        "stability": result.report.export.stability,
        "pruned": sum(bool(group.remove) for group in groups),
        "kept": kept,
    }


def line(row: Mapping[str, Any]) -> str:
    """One row of the table."""
    if "refused" in row:
        return f"| `{row['network']}` | refused: {row['refused']} | | | | | |"
    fewer, faster, smaller = (row[key][0] / row[key][1] for key in ("macs", "latency_ms", "parameters"))
    same = f"{row['same']:.1%}" + ("" if row["stability"] is None else f" ({row['stability']:.1%})")
    kept = "; ".join(f"{count}: {why}" for why, count in row["kept"].items())
    return f"| `{row['network']}` | {fewer:.2f}× | {smaller:.2f}× | {faster:.2f}× | {same} | {row['pruned']} | {kept} |"


def main() -> None:
    parser = parser_of(dense)
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--criterion", default="l1")
    parser.add_argument("--results", type=Path, help="what is finished is kept here and not done again")
    given = parser.parse_args()
    rows: list[dict[str, Any]] = read(given.results).get("rows", []) if given.results else []
    for name in given.networks.split(","):
        if any(row["network"] == name for row in rows):
            continue
        with tempfile.TemporaryDirectory() as folder:
            rows.append(examine(name, given.criterion, Path(folder)))
        if given.results:
            write(given.results, {"rows": rows})
    print(
        "| network | MACs fewer | parameters fewer | times faster | ONNX Runtime agrees | groups pruned | kept whole |"
    )
    print("|---|---:|---:|---:|---:|---:|---|")
    print("\n".join(map(line, rows)))
    about = environment.describe()
    versions = ", ".join(f"{package} {version}" for package, version in about["versions"].items())
    print(f"\n{about['processor']}, {about['cores']} cores; {versions}.")


if __name__ == "__main__":
    main()
