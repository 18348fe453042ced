"""The command of ``benchmarks.deployment``."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from benchmarks import deployment
from benchmarks.common.commands import parser_of
from benchmarks.common.networks import images_at_224, untrained
from benchmarks.common.results import read, write
from topocompress import compress
from topocompress.deploy.export import export_onnx
from topocompress.deploy.latency import compare_latency
from topocompress.models.loading import load_model
from topocompress.reporting import environment

_BLOCKS = 7
_RULES: tuple[dict[str, float], ...] = ({"target_macs": 0.5}, {"target_latency": 0.6})


def measure(name: str, rule: dict[str, float], folder: Path) -> dict[str, Any]:
    """One network by one rule: share of MACs left, share of latency left, over blocks."""
    weights = folder / f"{name}.safetensors"
    if not weights.exists():
        save_file(untrained(name, images_at_224(None, 64)).state_dict(), weights)
    samples = images_at_224(None, 2)[0][0]
    out = folder / "run"
    result = compress(
        load_model(str(weights), arch=name), criterion="l1", samples=16, controls=False, out=out, force=True, **rule
    )
    original = folder / "original.onnx"
    export_onnx(load_model(str(weights), arch=name).module, original, samples=samples)
    shares = []
    for _ in range(_BLOCKS):
        (before,), (after,) = compare_latency(
            (original, out / "model.onnx"), sample=samples[:1].numpy(), batch_sizes=(1,)
        )
        shares.append(after.median_ms / before.median_ms)
    return {
        "network": name,
        "rule": rule,
        "macs": result.plan.macs_after / result.plan.macs_before,
        "latency": statistics.median(shares),
        "blocks": [round(share, 4) for share in shares],
        "tries": len(result.report.budget.probes) if result.report and result.report.budget else 0,
    }


def main() -> None:
    parser = parser_of(deployment)
    parser.add_argument("--networks", default="resnet18,mobilenet_v3_large")
    parser.add_argument("--results", type=Path, help="what is finished is kept here and not done again")
    given = parser.parse_args()
    kept: list[dict[str, Any]] = read(given.results).get("rows", []) if given.results else []
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in given.networks.split(","):
            for rule in _RULES:
                found = [row for row in kept if (row["network"], row["rule"]) == (name, rule)]
                rows += found or [measure(name, rule, Path(folder))]
                if given.results:
                    write(given.results, {"rows": rows, "environment": environment.describe()})
    print("| network | asked for | MACs left | latency left | speed-up / MAC reduction | blocks |")
    print("|---|---|---:|---:|---:|---:|")
    for row in rows:
        asked = ", ".join(f"--{name.replace('_', '-')} {value:g}" for name, value in row["rule"].items())
        gain = row["macs"] / row["latency"]
        numbers = (
            f"{row['macs']:.3f} | {row['latency']:.3f} | {gain:.2f} | {min(row['blocks']):.2f}–{max(row['blocks']):.2f}"
        )
        print(f"| {row['network']} | {asked} | {numbers} |")
    about = environment.describe()
    versions = ", ".join(f"{package} {version}" for package, version in about["versions"].items())
    print(f"\n{about['processor']}, {about['cores']} cores; {versions}.")


if __name__ == "__main__":
    main()
