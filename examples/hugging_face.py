"""Prune an image classifier of Hugging Face from a folder that ``save_pretrained`` wrote, whole or in shards.

    pip install transformers
    python examples/hugging_face.py path/to/folder --data photos/ -- --ratio 0.3

The folder holds ``config.json`` and the weights, ``model.safetensors`` or shards with ``model.safetensors.index.json``,
which are read without unpickling; preparation of images is taken from ``preprocessor_config.json`` where there is one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

FOLDER = "TOPOCOMPRESS_HF_FOLDER"
"""Environment variable that names the folder to the factory."""


def classifier() -> Any:
    """The network of the folder, untrained: (samples, channels, height, width) -> ModelOutput with logits."""
    from transformers import AutoConfig, AutoModelForImageClassification

    folder = Path(os.environ[FOLDER])
    config = AutoConfig.from_pretrained(folder)
    network = AutoModelForImageClassification.from_config(config)
    side = getattr(config, "image_size", None) or prepared(folder).get("side", 224)
    network.input_shape = (config.num_channels, side, side)
    return network


def prepared(folder: Path) -> dict[str, Any]:
    """Side, mean and standard deviation of inputs, as far as the folder says."""
    file = folder / "preprocessor_config.json"
    content = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    size = content.get("crop_size") or content.get("size") or {}
    side = size.get("height") or size.get("shortest_edge") if isinstance(size, dict) else size
    found = {"side": side, "mean": content.get("image_mean"), "std": content.get("image_std")}
    return {name: value for name, value in found.items() if value}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        usage="%(prog)s [-h] [--data DATA] [--out OUT] folder [-- --ratio 0.3 ...]",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="as save_pretrained wrote it")
    parser.add_argument("--data", help="as for `topocompress prune`, such as imagefolder:PATH")
    parser.add_argument("--out", type=Path, default=Path("hugging-face-run"))
    words = sys.argv[1:]
    middle = words.index("--") if "--" in words else len(words)  # argparse takes no second positional argument there
    args, options = parser.parse_args(words[:middle]), words[middle + 1 :]
    command = ["prune", str(args.folder), "--arch", "hugging_face:classifier"]
    for name in ("mean", "std"):
        if values := prepared(args.folder).get(name):
            command += [f"--{name}", ",".join(map(str, values))]
    command += ["--data", args.data] if args.data else []
    command += ["--out", str(args.out), "--force", *(options or ["--ratio", "0.3", "--criterion", "persistence"])]
    os.environ[FOLDER] = str(args.folder.resolve())
    # The factory is named as a module, so this directory must be importable.
    places = [str(Path(__file__).resolve().parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
    return subprocess.run([sys.executable, "-m", "topocompress", *command], env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
