"""A network of the study, small enough for tests."""

import pytest
import torch
from safetensors.torch import save_file

from benchmarks.arena.setting import NETWORKS, Setting
from benchmarks.arena.study import Subject
from benchmarks.common.cifar_resnet import resnet20

SIZES = {"calibration": 40, "train": 60, "evaluation": 50}


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    """ResNet-20 with the weights it starts from, and noise for images."""
    folder = tmp_path_factory.mktemp("study")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(resnet20().state_dict(), folder / NETWORKS["resnet20"].weights)
    found = Setting(weights=folder, data={}, work=folder / "work", samples=20, images=50)
    generator = torch.Generator().manual_seed(0)
    made = {
        use: (torch.randn(count, 3, 32, 32, generator=generator), torch.randint(10, (count,), generator=generator))
        for use, count in SIZES.items()
    }
    found.work.mkdir()
    torch.save(made, found.images_file("cifar"))
    return found


@pytest.fixture(scope="module")
def subject(setting):
    return Subject("resnet20", setting)
