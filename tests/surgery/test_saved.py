"""What an earlier version has written must load for ever: run directories, and scores in the cache."""

import json
import shutil
import tarfile
from pathlib import Path

import pytest
import torch

from tests.helpers.saved import options
from topocompress import compress, load

SAVED = Path(__file__).parents[1] / "saved"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The run of the digits' network, and one that prunes it again."""
    folder = tmp_path_factory.mktemp("runs")
    with tarfile.open(SAVED / "runs.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


def test_a_run_of_an_earlier_version_loads_and_computes_what_it_did(runs):
    images = torch.linspace(-1, 1, 3 * 64).reshape(3, 1, 8, 8)
    with torch.no_grad():
        found = load(runs / "twice")(images)
    expected = torch.tensor(json.loads((SAVED / "logits.json").read_text(encoding="utf-8")))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("unexported")
def test_it_can_be_pruned_again(runs):
    whole = load(runs / "once")
    result = compress(runs / "once", "digits", **{**options("unused"), "ratio": 0.5, "cache": None})
    assert sum(p.numel() for p in result.model.parameters()) < sum(p.numel() for p in whole.parameters())


def test_scores_that_an_earlier_version_has_kept_are_used_again(runs, tmp_path, monkeypatch):
    def refuse(*_, **__):
        pytest.fail("it scored anew")

    shutil.copytree(SAVED / "scores", tmp_path / "scores")
    monkeypatch.setattr("topocompress.scoring.clouds.collect_clouds", refuse)
    result = compress("digits", "digits", **options(tmp_path / "scores"), dry_run=True)
    plans = json.loads((runs / "once" / "plan.json").read_text(encoding="utf-8"))["plans"]
    assert [entry.remove for entry in result.plan.groups] == [tuple(group["remove"]) for group in plans[0]["groups"]]
