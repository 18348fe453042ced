"""What a job is opened with: preparation as the data have it, or as it is said to be; nothing dropped in silence."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import Dataset, TensorDataset
from torchvision import transforms

from tests.helpers.imagesets import COLOUR, write_images
from topocompress.data.loading import Data, load_data
from topocompress.errors import DataError, ModelError
from topocompress.models.digits import DigitsNet
from topocompress.models.loading import load_model
from topocompress.surgery.run_directory import save
from topocompress.types import Architecture, Preprocessing
from topocompress.workflows.job import open_job
from topocompress.workflows.opening import open_model
from topocompress.workflows.options import Recovery, Removal, Scoring


def small():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()


def made_up(images):
    part = TensorDataset(images, torch.full((len(images),), -1))
    return Data(
        calibration=part,
        train=None,
        evaluation=part,
        labelled=False,
        classes=(),
        source="made up",
        note="",
        skipped=(),
        fingerprint="sha256:0",
    )


def opened(model, data):
    return open_job(model, data, scoring=Scoring(), recovery=Recovery(), seed=0)


def noise(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def run(tmp_path):
    settings = Preprocessing(input_shape=(1, 16, 16), mean=(0.3,), std=(0.3,), pixel_range=(0.0, 4095.0))
    network = Architecture(kind="builtin", name="digits")
    save(tmp_path / "run", DigitsNet(), plans=[], preprocessing=settings, architecture=network)
    return tmp_path / "run"


def test_a_module_of_ones_own_is_fed_as_the_data_were_prepared(tmp_path):
    data = load_data(f"imagefolder:{write_images(tmp_path / 'set', 20)}", preprocessing=COLOUR, samples=12)
    job = opened(small(), data)
    assert job.loaded.preprocessing == COLOUR
    assert "assumed" not in job.loaded.note


def test_a_module_of_ones_own_with_data_that_do_not_say():
    job = opened(small(), made_up(noise(8, 3, 16, 16)))
    assert job.loaded.preprocessing == Preprocessing(input_shape=(3, 16, 16))
    assert "how images are prepared is not known; assumed, as for ImageNet" in job.loaded.note
    grey = opened(DigitsNet(), made_up(noise(8, 1, 16, 16)))
    assert len(grey.loaded.preprocessing.mean) == 1


@pytest.mark.parametrize(
    ("images", "message"),
    [(torch.ones(8, 3, 16, 16), "single colour"), (noise(1, 3, 16, 16).repeat(8, 1, 1, 1), "all are the same image")],
)
def test_data_with_nothing_in_them_are_refused(images, message):
    with pytest.raises(DataError, match=f"made up: .*{message}"):
        opened(small(), made_up(images))


def test_data_that_look_unfinished_are_said():
    data = opened(small(), made_up(100 * noise(8, 3, 16, 16))).data
    assert "the float tensors hold values of" in data.pixels


def test_a_run_directory_keeps_its_range_of_pixels(run):
    assert open_model(run).preprocessing.pixel_range == (0, 4095)


def test_a_run_directory_takes_what_is_said_of_images(run):
    found = open_model(run, input_size=20, mean=[0.5], std=None, resize=None, pixel_range=(0, 255)).preprocessing
    assert found == Preprocessing(input_shape=(1, 20, 20), mean=(0.5,), std=(0.3,), pixel_range=(0, 255))
    with pytest.raises(ModelError, match="1 input channels"):
        open_model(run, mean=[0.1, 0.2])


def test_a_run_directory_has_its_own_weights(run):
    with pytest.raises(ModelError, match="weights= given beside the run directory"):
        open_model(run, weights="DEFAULT")


def test_published_weights_leave_nothing_to_assume():
    assert "assumed" not in load_model("digits").note


class Pictures(Dataset):
    """(image, label) pairs as torchvision's ImageFolder has them."""

    classes = ("dark", "light")
    targets = tuple(number % 2 for number in range(60))

    def __init__(self, transform=None):
        self.transform = transform

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, index):
        pixels = np.random.default_rng(index).integers(0, 120, (40, 40, 3), dtype=np.uint8) + 120 * (index % 2)
        image = Image.fromarray(pixels.astype(np.uint8))
        return (self.transform(image) if self.transform else image), self.targets[index]


@pytest.mark.parametrize("tensors", [False, True])
def test_a_dataset_goes_in_beside_a_module_as_it_is(tensors):
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()
    module.input_shape = (3, 32, 32)
    dataset = Pictures(transforms.Compose([transforms.CenterCrop(32), transforms.ToTensor()]) if tensors else None)
    job = open_job(
        module, dataset, scoring=Scoring(samples=20), recovery=Recovery(), seed=0, removal=Removal(ratio=0.5)
    )
    assert (job.data.source, job.data.labelled, job.data.classes) == ("Pictures", True, ("dark", "light"))
    assert (len(job.data.calibration), len(job.data.train), len(job.data.evaluation)) == (20, 28, 12)
    assert tuple(job.example.shape) == (1, 3, 32, 32)
    assert any("float tensors" in text for text in (job.data.pixels, *job.data.warnings)) == tensors
