import importlib.metadata
import json
import os
import sys

import torch

import topocompress
from topocompress.reporting import environment


def test_versions_and_machine_are_plain_data():
    found = environment.describe()
    assert json.loads(json.dumps(found)) == found
    assert found["python"] == ".".join(str(part) for part in sys.version_info[:3])
    assert found["cores"] == os.cpu_count()
    assert found["threads"] == torch.get_num_threads()
    assert found["processor"]
    assert found["system"]


def test_versions_are_those_installed_and_missing_packages_are_left_out(monkeypatch):
    versions = environment.describe()["versions"]
    for name in ("torch", "torchvision", "onnx", "onnxruntime", "numpy"):
        assert versions[name] == importlib.metadata.version(name)
    assert versions.get("topocompress", topocompress.__version__) == topocompress.__version__
    real = importlib.metadata.version

    def without_gph(name):
        if name == "giotto-ph":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", without_gph)
    assert set(environment.describe()["versions"]) == set(versions) - {"giotto-ph"}


def test_a_system_without_a_processor_file_still_says_something(monkeypatch):
    opened = environment.Path.open

    def missing(path, *arguments, **options):
        if str(path) == "/proc/cpuinfo":
            raise FileNotFoundError
        return opened(path, *arguments, **options)

    monkeypatch.setattr(environment.Path, "open", missing)
    assert environment.describe()["processor"]
