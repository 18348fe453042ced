"""ONNX files against each other."""

import itertools
import os
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from tests.helpers.onnx_files import graph
from topocompress.deploy.bench import bench, interval
from topocompress.errors import DataError, ExportError


@pytest.fixture
def pair(tmp_path):
    return graph(tmp_path / "a.onnx"), graph(tmp_path / "b.onnx")


def test_every_file_and_batch_size_is_timed(pair):
    found = bench(pair, batch_sizes=(1, 4), runs=6, warmup=1)
    assert [file.path for file in found.files] == [str(path) for path in pair]
    for file in found.files:
        assert [(timing.batch, timing.runs) for timing in file.timings] == [(1, 6), (4, 6)]
        assert all(0 < timing.median_ms <= timing.p95_ms for timing in file.timings)
        assert all(timing.low <= timing.speedup <= timing.high for timing in file.timings)
        assert file.file_bytes == Path(file.path).stat().st_size
        assert file.fresh.load_ms > 0
        assert file.fresh.first_ms > 0
        assert file.fixed_batch is None
    first = found.files[0].timings[0]
    assert (first.low, first.speedup, first.high) == (1.0, 1.0, 1.0)
    assert found.provider == "CPUExecutionProvider"
    assert found.provider in found.available


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot keep threads on cores")
def test_threads_are_kept_on_as_many_cores_and_let_go_afterwards(pair, tmp_path):
    before = os.sched_getaffinity(0)
    found = bench(pair, batch_sizes=(1,), runs=1, threads=1)
    assert (found.threads, found.cpus) == (1, (min(before),))
    with pytest.raises(ExportError):
        bench([pair[0], graph(tmp_path / "two.onnx", inputs=2)], runs=1)
    assert os.sched_getaffinity(0) == before


def test_speedup_and_its_interval_by_hand(pair, monkeypatch):
    slow, fast = [4.0] * 9, [2.0] * 9
    monkeypatch.setattr("topocompress.deploy.bench.time_in_turn", lambda *_args: [slow, fast])
    (_, second) = bench(pair, batch_sizes=(1,), runs=9).files
    timing = second.timings[0]
    assert (timing.median_ms, timing.speedup, timing.low, timing.high) == (2.0, 2.0, 2.0, 2.0)


def test_what_slows_a_whole_round_down_does_not_widen_the_interval():
    generator = np.random.default_rng(0)
    busy = 1 + 9 * generator.random(200)
    alike = interval(3 * busy, busy, np.random.default_rng(1))
    apart = interval(3 * busy, generator.permutation(busy), np.random.default_rng(1))
    assert alike == pytest.approx((3.0, 3.0))
    assert apart[0] < 2.8
    assert apart[1] > 3.2


def test_the_interval_holds_the_true_ratio_about_as_often_as_it_says():
    held = 0
    for seed in range(100):
        generator = np.random.default_rng(seed)
        first, second = generator.lognormal(0.5, 0.3, 40), generator.lognormal(0.0, 0.3, 40)
        low, high = interval(first, second, generator)
        held += low <= np.exp(0.5) <= high
    assert 88 <= held <= 100


def test_a_file_with_a_fixed_batch_size_takes_part_there_only(tmp_path, pair):
    fixed = graph(tmp_path / "fixed.onnx", shape=(1, 3, 8, 8))
    found = bench([pair[0], fixed], batch_sizes=(1, 4), runs=2)
    assert found.files[1].fixed_batch == 1
    assert [timing.batch for timing in found.files[1].timings] == [1]
    assert [timing.batch for timing in found.files[0].timings] == [1, 4]


@pytest.mark.parametrize("kind", [TensorProto.UINT8, TensorProto.FLOAT16])
def test_other_types_of_input(tmp_path, kind):
    found = bench([graph(tmp_path / "a.onnx", kind=kind)], batch_sizes=(2,), runs=1)
    assert found.files[0].timings[0].runs == 1


def test_an_open_image_size_must_be_told(tmp_path):
    path = graph(tmp_path / "open.onnx", shape=("n", 3, "h", "w"))
    with pytest.raises(ExportError, match="leaves the size of images open"):
        bench([path], runs=1)
    assert bench([path], runs=1, batch_sizes=(1,), input_size=(8, 16)).files[0].timings[0].runs == 1


def test_files_of_two_networks_are_not_compared(tmp_path, pair):
    with pytest.raises(DataError, match=r"different inputs: a.onnx \(3, 8, 8\), other.onnx \(3, 9, 9\)"):
        bench([pair[0], graph(tmp_path / "other.onnx", shape=("n", 3, 9, 9))], runs=1)


def test_what_is_no_image_network_is_refused(tmp_path):
    with pytest.raises(ExportError, match="one batch of images"):
        bench([graph(tmp_path / "flat.onnx", shape=("n", 3))], runs=1)


def test_what_is_no_onnx_file_is_refused_with_the_way_to_one(tmp_path):
    (tmp_path / "model.pt").write_bytes(b"weights")
    with pytest.raises(ExportError, match=r"cannot load model.pt(.|\n)*Give ONNX files"):
        bench([tmp_path / "model.pt"], runs=1)


@pytest.mark.parametrize(
    "changes", [{"runs": 0}, {"batch_sizes": (0,)}, {"threads": 0}, {"warmup": -1}], ids=lambda each: next(iter(each))
)
def test_impossible_numbers(pair, changes):
    with pytest.raises(DataError, match="not possible"):
        bench(pair, **changes)


def test_no_file_and_a_missing_one(tmp_path):
    with pytest.raises(DataError, match="there is no file"):
        bench([])
    with pytest.raises(DataError, match="is no file"):
        bench([tmp_path / "gone.onnx"])


def test_progress_is_told_to_the_end(pair):
    told = []
    bench(pair, batch_sizes=(1, 2), runs=1, progress=lambda *step: told.append(step))
    parts = {
        name: [step[1:] for step in steps]
        for name, steps in itertools.groupby(sorted(told, key=lambda step: step[0]), key=lambda step: step[0])
    }
    assert parts["timing"] == [(2, 2)]
    assert parts["starting fresh"] == [(0, 2), (1, 2), (2, 2)]
