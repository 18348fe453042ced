"""CNNs on images: how they are trained side by side, what they learn from, what is studied."""

import gzip
import math
import tarfile
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from benchmarks.activation import images as cnns
from benchmarks.activation.data import chosen, cifar
from benchmarks.activation.images import KINDS, LONGER, STEPS, TRIED_ON, moments, network, row, study
from benchmarks.activation.replay import CPU
from benchmarks.activation.runs import AVERAGED, BATCH, Runs
from benchmarks.activation.zoo import CANDIDATES
from benchmarks.common.results import Results
from tests.benchmarks.activation.made_up import pictures


@pytest.mark.parametrize("norm", [False, True])
def test_cnns_side_by_side_step_as_torchs_adam_does(norm):
    images, steps = pictures(), 4

    def make(seed):
        return network("SiLU", 1, 2, seed, norm=norm, widths=(3, 3, 4, 4))

    runs = Runs(make, 2, images, steps, CPU)
    runs.begin([5, 6], [0.02, 0.02])
    for _ in range(steps):
        runs.step()
    found = runs.accuracies()
    assert len(found) == 2
    pixels, labels = images.training
    for place, seed in enumerate((5, 6)):
        model = make(seed)
        mean = {name: value.clone() for name, value in model.state_dict().items()}
        optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
        draw = np.random.default_rng([7, seed])
        batches = [draw.permutation(200)[: 3 * BATCH].reshape(3, BATCH) for _ in range(2)]
        for batch in np.concatenate(batches)[:steps]:
            optimiser.zero_grad()
            F.cross_entropy(model(pixels[batch]), labels[batch]).backward()
            optimiser.step()
            for name, value in model.state_dict().items():
                if value.is_floating_point():
                    mean[name].lerp_(value, 1 - AVERAGED)
        model.load_state_dict(mean)
        with torch.no_grad():
            right = (model.eval()(images.test[0]).argmax(1) == images.test[1]).double().mean()
        assert found[place] == pytest.approx(float(right), abs=1 / 60)
        state = runs._runs[place].averaged.state_dict()
        for name, value in mean.items():
            if value.is_floating_point():
                torch.testing.assert_close(state[name], value, rtol=1e-3, atol=1e-4)


def test_cnns_in_16_bits_learn_what_they_do_in_32():
    found = []
    for precision in ("no", "bf16"):
        runs = Runs(lambda seed: network("GELU", 1, 2, seed, norm=True), 1, pictures(), 6, CPU, precision)
        runs.begin([1], [0.01])
        for _ in range(6):
            runs.step()
        weights = list(runs._runs[0].model.parameters())
        assert all(value.dtype == torch.float32 for value in weights)
        found.append(torch.cat([value.detach().flatten() for value in weights]))
    start = torch.cat([value.detach().flatten() for value in network("GELU", 1, 2, 1, norm=True).parameters()])
    moved, difference = (found[0] - start).norm(), (found[1] - found[0]).norm()
    assert 0 < difference < 0.2 * moved


def test_runs_that_begin_anew_forget_what_they_have_learned():
    runs = Runs(lambda seed: network("ReLU", 1, 2, seed, norm=True, widths=(3, 3, 4, 4)), 1, pictures(), 3, CPU)
    kept = []
    for _ in range(2):
        runs.begin([1], [0.01])
        for _ in range(3):
            runs.step()
        kept.append([value.clone() for value in runs._runs[0].averaged.state_dict().values()])
    for first, second in zip(*kept, strict=True):
        torch.testing.assert_close(first, second)


def test_images_are_read_from_folders_and_from_an_archive(tmp_path):
    for part, shade in (("train", 40), ("test", 200)):
        for label in ("cat", "dog", "owl"):
            folder = tmp_path / "images" / part / label
            folder.mkdir(parents=True)
            for number in range(2):
                Image.new("RGB", (4, 4), (shade + number, 0, len(label))).save(folder / f"{number}.png")
    with tarfile.open(tmp_path / "images.tar.gz", "w:gz") as archive:
        for part in ("train", "test"):
            archive.add(tmp_path / "images" / part, arcname=part)
    folder, archived = cifar(tmp_path / "images"), cifar(tmp_path / "images.tar.gz")
    for part, (pixels, labels) in folder.items():
        assert pixels.shape == (6, 3, 4, 4)
        assert labels.tolist() == [0, 0, 1, 1, 2, 2]
        assert np.array_equal(pixels, archived[part][0])
    found = chosen(folder, (0, 2), CPU)
    assert sorted(found.training[1].tolist()) == [0, 0, 1, 1]
    assert found.training[0].shape == (4, 3, 4, 4)
    assert float(found.training[0][:, 0].mean()) == pytest.approx(0, abs=1e-5)


def test_the_last_three_tests_are_in_the_last_twentieth():
    for steps in STEPS.values():
        tests = moments(steps)
        assert tests[-1] == steps
        assert tests[-4] < 0.95 * steps < tests[-3]


def test_what_is_to_be_trained_in_full_was_tried():
    assert all(name in CANDIDATES for names in LONGER.values() for name in names)
    assert all(title in TRIED_ON and kind in KINDS for title, kind in LONGER)


def test_images_are_studied_once_and_not_after_the_deadline(tmp_path, monkeypatch):
    generator = np.random.default_rng(0)
    for prefix, count in (("train", 800), ("t10k", 50)):
        for kind, skip, size in (("images-idx3", 16, count * 784), ("labels-idx1", 8, count)):
            data = generator.integers(0, 10, size, dtype=np.uint8).tobytes()
            with gzip.open(tmp_path / f"{prefix}-{kind}-ubyte.gz", "wb") as stream:
                stream.write(bytes(skip) + data)
    monkeypatch.setattr(cnns, "network", partial(network, widths=(2, 2, 3, 3)))
    monkeypatch.setitem(STEPS, 10, 2)
    monkeypatch.setitem(STEPS, 2, 2)
    results = Results(tmp_path / "results.json")
    monkeypatch.setattr(cnns, "NAMES", ("ReLU",))
    folders = {"fashion": tmp_path, "cifar": None}
    study(results, folders, CPU, math.inf, table=True)
    found = {name: entry for name, entry in results.rows.items() if name.endswith("/runs")}
    assert sorted(found) == sorted(
        row("ReLU", title, kind, "runs")
        for title in ("Fashion-MNIST, 10", "Fashion-MNIST, T-shirt or shirt")
        for kind in ("plain", "BatchNorm")
    )
    assert all(len(entry["final"]) == 10 for entry in found.values())
    before = dict(results.rows)
    study(results, folders, CPU, math.inf, table=True)
    assert results.rows == before
    tried = Results(tmp_path / "tried.json")
    monkeypatch.setattr(cnns, "CANDIDATES", ("ReLU", "tanh"))
    monkeypatch.setattr(cnns, "LONGER", {("Fashion-MNIST, 10", "plain"): ("tanh",)})
    study(tried, folders, CPU, math.inf, table=False)
    full = [name for name in tried.rows if name.endswith("/runs")]
    assert full == [row("tanh", "Fashion-MNIST, 10", "plain", "runs")]
    assert sum(name.endswith("/trial") for name in tried.rows) == 4
    late = Results(tmp_path / "late.json")
    study(late, folders, CPU, 0.0, table=True)
    assert late.rows == {}
