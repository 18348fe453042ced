import copy
from dataclasses import replace

import onnx
import pytest
import torch
from torch import nn

from tests.helpers.jobs import data, loaded
from tests.helpers.trained import trained
from topocompress.criteria import L1
from topocompress.deploy.graphs import opset_of
from topocompress.deploy.measurement import agreement
from topocompress.deploy.metadata import read_metadata
from topocompress.errors import ExportError
from topocompress.models.loading import fingerprint
from topocompress.surgery.removal import apply
from topocompress.types import Latency, Preprocessing
from topocompress.workflows import delivery
from topocompress.workflows.delivery import deliver
from topocompress.workflows.job import Job
from topocompress.workflows.options import Removal, Scoring
from topocompress.workflows.selecting import select


@pytest.fixture(scope="module")
def made():
    job = Job(loaded=loaded(trained()), data=data(), removal=Removal(round_to=1), scoring=Scoring(criterion=L1()))
    smaller = apply(job.model, select(job).plan({"ratio": 0.5}), example=job.example)
    models = (job.model, smaller)
    return job, *((model, job.evaluated(model, "")) for model in models)


def test_both_networks_are_written_and_measured(made, tmp_path):
    job, original, finished = made
    found = deliver(job, tmp_path, original, finished)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "original.onnx"]
    assert found.after.file_bytes == (tmp_path / "model.onnx").stat().st_size < found.before.file_bytes
    assert found.before.file_bytes == (tmp_path / "original.onnx").stat().st_size
    assert found.before.accuracy == original[1].accuracy
    assert found.after.agreement == agreement(original[1], finished[1])
    assert [latency.batch for latency in found.after.latency] == [1, 8]
    assert found.after.macs < found.before.macs
    assert (found.quantized, found.failed) == (None, "")


def test_every_file_says_how_it_is_fed(made, tmp_path):
    job, original, finished = made
    loaded = replace(job.loaded, preprocessing=Preprocessing(input_shape=(1, 8, 8), mean=(0.25,), std=(0.5,)))
    deliver(replace(job, loaded=loaded), tmp_path, original, finished, int8=True)
    for name, network in (("original", original), ("model", finished), ("model.int8", finished)):
        said = read_metadata(tmp_path / f"{name}.onnx")
        assert said.model == fingerprint(network[0])
        assert said.preprocessing == loaded.preprocessing
        assert said.classes == tuple("0123456789")


def test_each_side_has_the_figures_of_its_own_file(made, tmp_path, monkeypatch):
    seen = []

    def timed(paths, **_):
        seen.extend(path.name for path in paths)
        return [
            (Latency(batch=1, runs=1, median_ms=float(number), p95_ms=float(number)),)
            for number, _ in enumerate(paths, 1)
        ]

    monkeypatch.setattr(delivery, "compare_latency", timed)
    monkeypatch.setattr(delivery, "peak_memory", lambda path, **_: path.stat().st_size)
    job, original, finished = made
    found = deliver(job, tmp_path, original, finished)
    assert seen == ["original.onnx", "model.onnx"]
    assert [side.latency[0].median_ms for side in (found.before, found.after)] == [1.0, 2.0]
    assert found.after.peak_bytes == found.after.file_bytes < found.before.file_bytes == found.before.peak_bytes


def test_the_network_in_8_bits_stands_beside_them(made, tmp_path):
    job, original, finished = made
    found = deliver(job, tmp_path, original, finished, int8=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.int8.onnx", "model.onnx", "original.onnx"]
    small = found.quantized.measurement
    assert small.file_bytes == (tmp_path / "model.int8.onnx").stat().st_size
    assert small.accuracy == pytest.approx(found.after.accuracy, abs=0.05)
    assert (small.parameters, small.macs) == (found.after.parameters, found.after.macs)
    assert len(small.latency) == len(found.after.latency)


def test_the_network_in_16_bits_stands_beside_them_in_the_opset_asked_for(made, tmp_path):
    job, original, finished = made
    found = deliver(replace(job, opset=18), tmp_path, original, finished, int8=True, half=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "model.fp16.onnx",
        "model.int8.onnx",
        "model.onnx",
        "original.onnx",
    ]
    opsets = [opset_of(onnx.load(path)) for path in sorted(tmp_path.iterdir()) if "int8" not in path.name]
    assert opsets == [18, 18, 18] == [found.export.opset] * 3
    half, full, quantized = found.half.measurement, found.after, found.quantized.measurement
    assert half.file_bytes == (tmp_path / "model.fp16.onnx").stat().st_size
    assert quantized.file_bytes == (tmp_path / "model.int8.onnx").stat().st_size
    assert half.file_bytes < 0.75 * full.file_bytes
    assert half.accuracy == pytest.approx(full.accuracy, abs=0.005)
    assert half.agreement == pytest.approx(full.agreement, abs=0.005)
    assert "FP16" in found.half.message
    assert read_metadata(tmp_path / "model.fp16.onnx").model == fingerprint(finished[0])


def test_a_network_too_large_for_16_bits_has_no_such_file(made, tmp_path):
    job, original, finished = made
    huge = copy.deepcopy(finished[0])
    (*_, last) = [module for module in huge.modules() if isinstance(module, nn.Linear)]
    with torch.no_grad():
        last.weight *= 2e4  # no weight is too large, but their sums are
    found = deliver(job, tmp_path, original, (huge, job.evaluated(huge, "")), half=True)
    assert found.half is None
    assert found.failed.startswith("There is no FP16 file: model.onnx computes numbers up to ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "original.onnx"]


def test_a_run_goes_on_without_the_file_in_8_bits_where_there_can_be_none(made, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise ExportError("ONNX Runtime cannot quantise model.onnx: because")

    monkeypatch.setattr(delivery, "quantize_onnx", refuse)
    job, original, finished = made
    found = deliver(job, tmp_path, original, finished, int8=True)
    assert found.quantized is None
    assert found.failed == "There is no INT8 file: ONNX Runtime cannot quantise model.onnx: because."
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "original.onnx"]
