"""The plugins: built with their own build backend, installed, found, and used."""

import importlib
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers.processes import ROOT, python
from topocompress.criteria.registry import available, create
from topocompress.testing import check_criterion

PLUGINS = {"peak": "topocompress-template", "cubical": "topocompress-cubical"}


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A directory that holds the installed plugins: a wheel of pure Python is installed by unpacking it."""
    target = tmp_path_factory.mktemp("site")
    for plugin in PLUGINS.values():
        wheels = tmp_path_factory.mktemp("wheels")
        python("-m", "hatchling", "build", "-t", "wheel", "-d", wheels, cwd=ROOT / "plugins" / plugin)
        (wheel,) = wheels.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(target)
    return target


@pytest.fixture
def importable(installed, monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(installed))
    importlib.invalidate_caches()


def criteria_command(*folders, check: bool = True):
    variables = {"COLUMNS": 160, "NO_COLOR": 1}
    return python("-m", "topocompress", "criteria", folders=folders, variables=variables, check=check)


def test_the_installed_plugins_are_on_the_list(installed):
    found = criteria_command(installed)

    rows = {line.split()[0]: line for line in found.stdout.splitlines() if line.split()}
    for name, plugin in PLUGINS.items():
        assert plugin in rows[name]
    assert "Largest absolute weight of the filter (higher: keep)." in rows["peak"]
    assert "betti" in rows


def test_a_second_package_with_its_name_ends_the_command_with_both_names(installed, tmp_path):
    info = tmp_path / "rival-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: rival\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(
        "[topocompress.criteria]\npeak = topocompress_template:Peak\n", encoding="utf-8"
    )

    found = criteria_command(installed, tmp_path, check=False)

    assert found.returncode == 2
    assert "topocompress-template" in found.stderr
    assert "rival" in found.stderr
    assert "Traceback" not in found.stderr


@pytest.mark.usefixtures("importable")
@pytest.mark.parametrize("name", PLUGINS)
def test_an_installed_plugin_keeps_the_contract(name):
    assert name in [info.name for info in available()]

    check_criterion(create(name))


@pytest.mark.usefixtures("importable")
def test_the_template_scores():
    assert create("peak").score(torch.tensor([[3.0, -4.0], [0.0, 0.0]])).tolist() == [4.0, 0.0]


def test_the_template_is_as_short_as_promised():
    lines = (
        (ROOT / "plugins" / "topocompress-template" / "topocompress_template.py")
        .read_text(encoding="utf-8")
        .splitlines()
    )

    assert sum(bool(line.strip()) for line in lines) <= 10


IMAGES = {
    "a ring, and a dot": (["....... .###... .#.#... .###... ....... .....#."], (2, 1)),
    "corners touch": (["#... .#.. ...."], (1, 0)),
    "open at the border": (["#.# #.# ###"], (1, 0)),
    "all alike": (["### ###"], (0, 0)),
    "two rings": ([".###. .#.#. .###. .#.#. .###."], (1, 2)),
}


@pytest.mark.usefixtures("importable")
@pytest.mark.parametrize("name", IMAGES)
def test_cubical_counts_pieces_and_holes(name):
    from topocompress_cubical import betti_numbers

    (rows,), expected = IMAGES[name]
    image = np.array([[5.0 if pixel == "#" else -2.0 for pixel in row] for row in rows.split()], dtype=np.float32)

    assert betti_numbers(image) == expected


@pytest.mark.usefixtures("importable")
def test_cubical_scores_each_map_of_each_sample():
    from topocompress_cubical import Cubical

    from topocompress.errors import CriterionError

    maps = torch.zeros(2, 2, 3, 3)
    maps[0, 1] = torch.tensor([[1.0, 1, 1], [1, 0, 1], [1, 1, 1]])
    maps[1, 0, 0, 0] = maps[1, 0, 2, 2] = 7

    assert Cubical().score(maps).tolist() == [[0, 2], [2, 0]]
    with pytest.raises(CriterionError, match="0 samples"):
        Cubical(samples=0)
