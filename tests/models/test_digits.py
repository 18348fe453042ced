from __future__ import annotations

import torch

from topocompress.data.loading import batches, load_data
from topocompress.models.digits import CHECKPOINT, DigitsNet
from topocompress.models.loading import load_model


def test_shape_and_class_count():
    torch.manual_seed(0)
    assert DigitsNet(4).eval()(torch.zeros(2, *DigitsNet.input_shape)).shape == (2, 4)


def test_the_checkpoint_is_small_and_holds_tensors_alone():
    assert CHECKPOINT.stat().st_size < 1_000_000
    assert CHECKPOINT.read_bytes()[8:9] == b"{"  # safetensors


def test_held_out_accuracy():
    model = load_model("digits")
    data = load_data("digits", preprocessing=model.preprocessing)
    with torch.no_grad():
        hits = torch.cat([model.module(images).argmax(1) == labels for images, labels in batches(data.evaluation)])
    assert len(hits) == 359
    assert hits.float().mean() >= 0.98


def test_the_residual_sum_couples_channels():
    model = DigitsNet()
    assert model.down[0].out_channels == model.outer[0].out_channels
