"""Latency and memory of ONNX files."""

import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from torch import nn

from tests.helpers.processes import python
from tests.helpers.trained import digits, trained
from topocompress.deploy import latency
from topocompress.deploy.export import export_onnx
from topocompress.deploy.latency import compare_latency, peak_memory
from topocompress.errors import DataError, ExportError


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> tuple[Path, Path]:
    """The digits network and one with 64 MB of weights that must all be read."""
    folder = tmp_path_factory.mktemp("onnx")
    images, _ = digits()
    export_onnx(trained(), folder / "small.onnx", samples=images[:4])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        large = nn.Sequential(nn.Flatten(), nn.Linear(64, 4000), nn.ReLU(), nn.Linear(4000, 4000), nn.Linear(4000, 10))
    export_onnx(large, folder / "large.onnx", samples=images[:4])
    return folder / "small.onnx", folder / "large.onnx"


@pytest.fixture
def sample() -> np.ndarray:
    return digits()[0][:1].numpy()


def test_latency_of_each_file_and_batch_size(files, sample):
    small, large = compare_latency(files, sample=sample, batch_sizes=(1, 4), runs=7, warmup=1, threads=1)
    for found in (small, large):
        assert [each.batch for each in found] == [1, 4]
        assert [each.runs for each in found] == [7, 7]
        for each in found:
            assert len(each.times_ms) == 7
            assert abs(np.median(each.times_ms) - each.median_ms) < 0.001
        assert all(0 < each.median_ms <= each.p95_ms for each in found)


@pytest.fixture
def clock(monkeypatch):
    """Inference that takes a made-up time: small 1, 2, 3 … ms, large ten times as long; and a record of the order."""

    class Clock:
        now, calls, shapes = 0, [], []

        def perf_counter_ns(self) -> int:
            return self.now

        def perf_counter(self) -> float:
            return self.now / 1e9

    clock = Clock()

    def run(session: str, inputs: np.ndarray) -> None:
        clock.calls.append(session)
        clock.shapes.append(inputs.shape)
        clock.now += clock.calls.count(session) * (10 if session == "large" else 1) * 1_000_000

    monkeypatch.setattr(latency, "time", clock)
    monkeypatch.setattr(latency, "run_session", run)
    monkeypatch.setattr(latency, "open_session", lambda path, options: path)
    return clock


def test_files_take_turns_and_the_order_rotates(clock, sample):
    compare_latency(["a", "b", "c"], sample=sample, batch_sizes=(2,), runs=3, warmup=1)
    assert "".join(clock.calls) == "cab" + "abc" + "bca" + "cab"
    assert set(clock.shapes) == {(2, 1, 8, 8)}


def test_median_and_p95_of_the_counted_runs(clock, sample):
    small, large = compare_latency(["small", "large"], sample=sample, batch_sizes=(1,), runs=9, warmup=2)
    # the two warm-up runs of 1 and 2 ms do not count: 3, 4, …, 11 ms remain
    assert (small[0].median_ms, small[0].p95_ms) == pytest.approx((7, 10.6))
    assert (large[0].median_ms, large[0].p95_ms) == pytest.approx((70, 106))
    assert small[0].times_ms == tuple(range(3, 12))


def test_a_ratio_that_is_known_well_ends_the_count(clock, sample):
    small, large = compare_latency(["small", "large"], sample=sample, batch_sizes=(1,), runs=30, warmup=0)
    assert small[0].runs == large[0].runs == 10  # always ten times as long
    (alone,) = compare_latency(["alone"], sample=sample, batch_sizes=(1,), runs=30, warmup=0)
    assert alone[0].runs == 30  # its own time grows from run to run


@pytest.mark.parametrize(
    ("times", "enough"),
    [
        ([[1.0] * 10, [2.0] * 10], True),
        ([[float(n) for n in range(1, 11)], [2.0 * n for n in range(1, 11)]], True),  # only the ratio counts
        ([[1.0] * 10, [2.0] * 6 + [2.2] * 4], False),
        ([[1.0] * 10, [2.0] * 9 + [9.0]], True),  # one run that was disturbed
        ([[1.0] * 10, [2.0] * 10, [2.0] * 5 + [3.0] * 5], False),  # every file counts
        ([[1.0] * 5 + [2.0] * 5], False),
    ],
)
def test_when_a_ratio_is_known_well_enough(times, enough):
    assert latency.known(times) is enough


def test_slow_files_are_warm_after_two_rounds(clock, sample, monkeypatch):
    monkeypatch.setattr(latency, "_WARM", 0.0005)
    compare_latency(["small"], sample=sample, batch_sizes=(1,), runs=3, warmup=5)
    assert len(clock.calls) == 2 + 3


def test_a_spent_budget_ends_after_one_warm_up_and_five_runs(clock, sample):
    found = compare_latency(["small", "large"], sample=sample, batch_sizes=(1, 2), runs=30, warmup=5, max_seconds=0.001)
    assert [[each.runs for each in file] for file in found] == [[5, 5], [5, 5]]
    assert clock.calls.count("small") == 2 * (1 + 5)


def test_a_budget_in_the_middle_ends_the_count_there(clock, sample):
    (found,) = compare_latency(["small"], sample=sample, batch_sizes=(1,), runs=30, warmup=0, max_seconds=0.0541)
    assert found[0].runs == 10  # 1 + 2 + … + 10 = 55 ms


def test_latency_of_files_that_cannot_be_run(files, sample, tmp_path):
    (tmp_path / "broken.onnx").write_bytes(b"not a model")
    for path, name in ((tmp_path / "broken.onnx", "broken.onnx"), (tmp_path / "none.onnx", "none.onnx")):
        with pytest.raises(ExportError, match=f"cannot load {name}"):
            compare_latency([path], sample=sample)
    with pytest.raises(ExportError, match=r"\(1, 3, 8, 8\)"):
        compare_latency(files[:1], sample=np.zeros((1, 3, 8, 8), np.float32))
    with pytest.raises(DataError, match="1 or more"):
        compare_latency(files, sample=sample, runs=0)
    with pytest.raises(DataError, match="1 or more"):
        compare_latency(files, sample=sample, batch_sizes=(0,))


@pytest.mark.skipif(sys.platform not in {"linux", "darwin"}, reason="this system does not tell")
def test_peak_memory_is_that_of_the_inference_alone(files, sample):
    ballast = np.ones(200 << 20, dtype=np.uint8)
    here = psutil.Process().memory_info().rss
    small, large = (peak_memory(path, sample=sample) for path in files)
    assert ballast.nbytes < here
    assert small < here - ballast.nbytes / 2  # this process must not show through
    assert large > files[1].stat().st_size  # all of its weights are read
    assert large > small
    assert peak_memory(files[0], sample=sample, batch=20_000) > small + (20 << 20)  # 8 maps of 8 × 8 floats: 41 MB


def test_peak_memory_of_a_file_that_cannot_be_run(sample, tmp_path):
    (tmp_path / "broken.onnx").write_bytes(b"not a model")
    with pytest.raises(ExportError, match=r"broken\.onnx"):
        peak_memory(tmp_path / "broken.onnx", sample=sample)


def test_a_system_that_does_not_tell(files, sample, monkeypatch):
    monkeypatch.setattr(latency.sys, "platform", "win32")
    assert peak_memory(files[0], sample=sample) is None


def test_the_inference_process_loads_neither_torch_nor_the_package(files, sample, tmp_path):
    np.save(tmp_path / "input.npy", sample)
    script = Path(latency.__file__).with_name("_inference_process.py")
    done = python("-P", "-X", "importtime", script, files[0], tmp_path / "input.npy", 1)
    loaded = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert {"numpy", "onnxruntime"} <= loaded
    assert not {"torch", "topocompress"} & loaded
