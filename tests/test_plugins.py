"""The example plugin: built with its own build backend, installed, found, and used."""

import importlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from topocompress.criteria.registry import available, create
from topocompress.testing import check_criterion

ROOT = Path(__file__).parents[1]
PLUGIN = ROOT / "plugins" / "topocompress-l2"


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A directory that holds the installed plugin: a wheel of pure Python is installed by unpacking it."""
    wheels, target = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(wheels)]
    subprocess.run(command, cwd=PLUGIN, check=True, capture_output=True)
    (wheel,) = wheels.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return target


def criteria_command(*folders: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([*map(str, folders), str(ROOT)])
    return subprocess.run(
        [sys.executable, "-m", "topocompress", "criteria"],
        env={**os.environ, "PYTHONPATH": path, "COLUMNS": "140", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_installed_plugin_is_on_the_list(installed):
    found = criteria_command(installed)

    assert found.returncode == 0, found.stderr
    (row,) = [line for line in found.stdout.splitlines() if line.split()[:1] == ["l2"]]
    assert "topocompress-l2" in row
    assert "L2 norm of the filter's weights (higher: keep)." in row
    assert any("betti" in line for line in found.stdout.splitlines())


def test_a_second_package_with_its_name_ends_the_command_with_both_names(installed, tmp_path):
    info = tmp_path / "rival-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: rival\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[topocompress.criteria]\nl2 = topocompress_l2:L2\n")

    found = criteria_command(installed, tmp_path)

    assert found.returncode == 2
    assert "topocompress-l2" in found.stderr
    assert "rival" in found.stderr
    assert "Traceback" not in found.stderr


def test_the_installed_plugin_scores_and_keeps_the_contract(installed, monkeypatch):
    monkeypatch.syspath_prepend(str(installed))
    importlib.invalidate_caches()
    assert "l2" in [info.name for info in available()]

    criterion = create("l2")

    assert criterion.score(torch.tensor([[3.0, -4.0], [0.0, 0.0]])).tolist() == [5.0, 0.0]
    check_criterion(criterion)


def test_the_plugin_is_as_short_as_promised():
    lines = (PLUGIN / "topocompress_l2.py").read_text().splitlines()

    assert sum(bool(line.strip()) for line in lines) <= 10
