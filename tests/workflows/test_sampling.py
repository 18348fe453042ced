"""How many samples a network gets, and what a threshold then means."""

from __future__ import annotations

from dataclasses import replace

import pytest
from torch import nn

from topocompress.data.loading import load_data
from topocompress.models.loading import LoadedModel
from topocompress.models.preprocessing import imagenet_preprocessing
from topocompress.types import Architecture
from topocompress.workflows.job import open_job
from topocompress.workflows.options import Recovery, Removal, Scoring
from topocompress.workflows.samples import open_data
from topocompress.workflows.sampling import samples_for, scaled, taken_by_size, threshold_share


def loaded(side: int, width: int) -> LoadedModel:
    module = nn.Sequential(nn.Conv2d(3, width, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 5)).eval()
    return LoadedModel(
        module=module,
        architecture=Architecture(kind="object", name="tests:none"),
        preprocessing=imagenet_preprocessing((3, side, side)),
        source="tests",
        note="",
    )


@pytest.mark.parametrize(
    ("side", "width", "samples"),
    [
        (8, 8, 1000),
        (512, 2000, 630),  # 512 · 512 · 3 · 2,000 + 2,000 · 5 = 1.573e9
        (1024, 2000, 250),
    ],
)
def test_large_networks_get_as_many_samples_as_a_pass_may_cost(side: int, width: int, samples: int) -> None:
    assert samples_for(loaded(side, width)) == samples


def test_a_threshold_is_scaled_to_the_samples_that_size_left_and_said() -> None:
    network = loaded(8, 8)
    data = load_data(None, preprocessing=network.preprocessing, samples=250, eval_samples=10)

    assert taken_by_size(data, 1000) is data
    assert threshold_share(data) == 1
    fewer = taken_by_size(data, 250)

    assert threshold_share(fewer) == 0.25
    assert "250 calibration samples" in fewer.warnings[0]
    assert scaled(Removal(max_betti=300), fewer).max_betti == 75
    assert scaled(Removal(max_betti=300), data).max_betti == 300
    assert scaled(Removal(ratio=0.5), fewer) == Removal(ratio=0.5)


def test_a_job_takes_the_scaled_threshold_only_where_no_number_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("topocompress.workflows.samples.samples_for", lambda _: 40)
    network = loaded(8, 8)

    def job(samples: int | str) -> object:
        scoring = replace(Scoring(), samples=samples)  # type: ignore[arg-type]
        return open_job(network, None, scoring=scoring, recovery=Recovery(), seed=0, removal=Removal(max_betti=300))

    assert job("auto").removal.max_betti == 12  # type: ignore[attr-defined]
    assert job(50).removal.max_betti == 300  # type: ignore[attr-defined]


def test_data_that_is_loaded_keeps_its_samples() -> None:
    network = loaded(8, 8)
    data = load_data(None, preprocessing=network.preprocessing, samples=30, eval_samples=10)
    assert open_data(network, data)[1].threshold_samples is None
