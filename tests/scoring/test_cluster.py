"""A real Dask scheduler and two worker processes on loopback, one of which dies while it scores."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from tests.helpers.cloud_criteria import DiesOnce
from tests.helpers.processes import environment
from topocompress.criteria import Betti
from topocompress.errors import DataError
from topocompress.runtime import parallel
from topocompress.runtime.resources import Resources
from topocompress.scoring.dispatch import score_layers

SCHEDULER = ["-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
WORKER = ["-m", "distributed.cli.dask_worker", "--host", "127.0.0.1", "--no-nanny", "--nthreads", "1", "--no-dashboard"]


def started(arguments, folder, word):
    """A process that has said a word on its standard error, and the line in which it did."""
    process = subprocess.Popen(
        [sys.executable, *arguments],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        encoding="utf-8",
        env=environment(),
        cwd=folder,
    )
    for line in process.stderr:
        if word in line:
            return process, line
    raise RuntimeError(f"{arguments} ended with {process.wait()}")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dask")
    scheduler, line = started(SCHEDULER, folder, "Scheduler at:")
    address = line.split()[-1]
    workers = [
        started([*WORKER, "--local-directory", str(folder), address], folder, "Registered to:")[0] for _ in range(2)
    ]
    yield address
    for process in (*workers, scheduler):
        process.terminate()
        process.wait()
        process.stderr.close()


@pytest.fixture
def network():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 12, 3), nn.ReLU(), nn.Conv2d(12, 8, 3), nn.ReLU()).eval()
    images = torch.randn(60, 1, 10, 10)
    return model, [
        (images[start : start + 16], torch.zeros(len(images[start : start + 16]))) for start in range(0, 60, 16)
    ]


def scores(network, criterion, **resources):
    model, batches = network
    return score_layers(model, ["0", "2"], criterion, batches, resources=Resources(**resources)).layers


def test_a_cluster_gives_the_same_scores(cluster, network):
    here, there = scores(network, Betti(), workers=1), scores(network, Betti(), cluster=cluster)

    assert list(here) == list(there)
    for name, layer in here.items():
        np.testing.assert_array_equal(layer.values, there[name].values)
        np.testing.assert_array_equal(layer.dead, there[name].dead)


def test_a_worker_that_is_killed_costs_time_and_nothing_else(cluster, network, tmp_path):
    (tmp_path / "never").touch()
    here = scores(network, DiesOnce(tmp_path / "never"), workers=1)

    there = scores(network, DiesOnce(tmp_path / "once"), cluster=cluster)

    assert (tmp_path / "once").exists(), "no worker has died"
    for name, layer in here.items():
        np.testing.assert_array_equal(layer.values, there[name].values)


def test_no_scheduler_is_said_once_patience_is_over(network, monkeypatch):
    monkeypatch.setattr(parallel, "_PATIENCE", "0.3s")
    with pytest.raises(
        DataError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:1: .* after 0\.3 s"
    ) as caught:
        scores(network, Betti(), cluster="tcp://127.0.0.1:1")
    assert "dask scheduler" in caught.value.hint
