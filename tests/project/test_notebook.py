"""The notebook among the examples runs as it is stored, and is stored without what it printed."""

import re
from pathlib import Path

import nbformat
import pytest

from tests.helpers.processes import python

NOTEBOOK = Path(__file__).parents[2] / "examples" / "prune_digits.ipynb"
EXECUTE = """
import sys
import nbformat
from nbclient import NotebookClient

notebook = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(notebook, kernel_name="python3", timeout=600).execute()
nbformat.write(notebook, "executed.ipynb")
"""


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """What each of its cells prints, run in an empty folder."""
    folder = tmp_path_factory.mktemp("notebook")
    python("-c", EXECUTE, NOTEBOOK, cwd=folder)
    cells = nbformat.read(folder / "executed.ipynb", as_version=4).cells
    return ["".join(output.get("text", "") for output in cell.get("outputs", [])) for cell in cells]


def found(printed, pattern):
    (match,) = re.findall(pattern, "\n".join(printed))
    return match


def test_it_is_stored_without_outputs():
    cells = [cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]
    assert cells
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)


def test_it_prunes_reads_and_serves(printed):
    assert "model.onnx" in "\n".join(printed)
    assert float(found(printed, r"macs .* ([\d.]+) times smaller")) > 1.9
    assert float(found(printed, r"accuracy +[\d.]+% -> ([\d.]+)%")) > 95
    assert found(printed, r"read as ([\d ]+)") == found(printed, r"they are ([\d ]+)")
