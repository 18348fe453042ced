"""The tools of ``benchmarks.arena``: cells that are those of ``compare``, processes that share them, tables."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.utils.data import TensorDataset

from benchmarks.arena import study, work
from benchmarks.arena.page import free, lasting, oracle, tuned, write
from benchmarks.arena.rows import (
    BASELINES,
    EPOCHS,
    OURS,
    aimed,
    cells,
    heavy,
    inner_layers,
    known,
    last,
    light,
    name_of,
    plain_of,
    scored_first,
)
from benchmarks.arena.scores import read_scores, scored_as, write_scores
from benchmarks.arena.setting import NETWORKS, Setting
from benchmarks.arena.study import Subject
from benchmarks.arena.work import Worker, share_out
from benchmarks.common.cifar_resnet import INNER_ONLY, resnet20
from benchmarks.common.oracle import blocks, consult
from topocompress.data.loading import Data
from topocompress.training.recipe import Recipe
from topocompress.types import LayerScores, Scores
from topocompress.workflows.compare import compare

SHORT = Recipe(epochs=1, batch_size=16)
SIZES = {"calibration": 40, "train": 60, "evaluation": 50}


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    """ResNet-20 with the weights it starts from, and noise for images."""
    folder = tmp_path_factory.mktemp("study")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(resnet20().state_dict(), folder / NETWORKS["resnet20"].weights)
    found = Setting(weights=folder, data={}, work=folder / "work", samples=20, images=50)
    generator = torch.Generator().manual_seed(0)
    made = {
        use: (torch.randn(count, 3, 32, 32, generator=generator), torch.randint(10, (count,), generator=generator))
        for use, count in SIZES.items()
    }
    found.work.mkdir()
    torch.save(made, found.images_file("cifar"))
    return found


@pytest.fixture(scope="module")
def subject(setting):
    return Subject("resnet20", setting)


def test_a_cell_is_that_of_compare(subject):
    parts = {use: TensorDataset(*subject.images[use]) for use in SIZES}
    parts["train"].augmentation = "natural"
    data = Data(
        **parts,
        labelled=True,
        classes=(),
        source="noise",
        note="",
        skipped=(),
        fingerprint="of the calibration samples",
    )
    names = ["l1", "persistence+rounds=2", "persistence+rounds=2@global"]
    expected = compare(
        subject.loaded,
        data,
        criteria=names,
        ratios=[0.5],
        samples=20,
        seeds=2,
        finetune=Recipe(epochs=1),
        ignore=INNER_ONLY,
        round_to=1,
    )

    for name in names:
        for cell in expected.of(name, 0.5):
            found = subject.cell(name, 0.5, cell.seed, 1)
            assert found["macs"] == pytest.approx(cell.macs / expected.macs)
            measured = [found[stage] for stage in ("removed", "settled", "tuned")]
            assert measured == pytest.approx([cell.removed, cell.settled, cell.tuned], abs=1e-5)
            assert not found["recorded"]
    assert subject.original() == {"accuracy": expected.original, "macs": expected.macs}
    assert "tuned" not in subject.cell("l1", 0.5, 0, 0)


def test_what_a_cell_without_fine_tuning_has_measured_is_taken_over(setting):
    there = {"cell/resnet20/persistence+rounds=1+alone=1000@global/0.5/1/0": {"removed": 0.25, "settled": 0.75}}
    row = ("cell", "resnet20", "persistence+rounds=1@global", "0.5", "1", "2")
    assert name_of(plain_of(row)) in there

    asked = []

    class Noting(Subject):
        def cell(self, *given):
            asked.append(given)
            return {}

    worker = Worker(setting, there)
    worker._subjects["resnet20"] = Noting("resnet20", setting)
    worker.measured(row)
    assert asked == [("persistence+rounds=1@global", 0.5, 1, 2, there[name_of(plain_of(row))])]
    found = Subject("resnet20", setting).cell("l1", 0.5, 0, 0, {"removed": 0.25, "settled": 0.75})
    assert (found["removed"], found["settled"]) == (0.25, 0.75)


def test_recorded_steps_are_the_steps_as_they_are(subject, monkeypatch):
    """Recording itself needs a GPU; what stands in for it warms up and then plays back."""
    played = []

    def recording(model, arguments):
        as_written = model.forward
        model(*arguments)  # moves the statistics of norms

        def forward(images):
            assert images.shape == arguments[0].shape
            played.append(1)
            return as_written(images)

        model.forward = forward

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", recording)
    subject = Subject("resnet20", replace(subject.setting, recorded=True))
    model = subject.loaded.module
    expected, recorded = Subject("resnet20", replace(subject.setting, recorded=False))._tuned(model, SHORT, 0)
    assert not recorded
    found, recorded = subject._tuned(model, SHORT, 0)

    assert recorded
    assert len(played) == 3  # of 4 batches, the last is smaller
    assert [epoch.loss for epoch in found.history] == [epoch.loss for epoch in expected.history]
    for name, value in found.model.state_dict().items():
        assert torch.equal(value, expected.model.state_dict()[name])

    def failing(*_given):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", failing)
    found, recorded = subject._tuned(model, SHORT, 0)
    assert not recorded
    assert found.history[1].loss == expected.history[1].loss


def test_scores_come_from_their_file_once_they_are_there(subject, monkeypatch):
    first = subject.scores("random", 1)
    monkeypatch.setattr(study, "score_groups", None)

    again = subject.scores("random", 1)

    assert list(again.layers) == list(first.layers)
    for layer, scores in first.layers.items():
        assert again.layers[layer].values.tolist() == scores.values.tolist()


def test_scores_are_kept_whole(tmp_path):
    layer = LayerScores(values=np.array([0.1, 1 / 3]), dead=np.array([False, True]))
    scores = Scores(
        criterion="l1", higher="keep", comparable=True, settings={"a": 1}, layers={"x": layer}, samples=3, model="m"
    )
    write_scores(tmp_path / "scores.json.gz", scores)

    found = read_scores(tmp_path / "scores.json.gz")

    assert replace(found, layers={}) == replace(scores, layers={})
    assert found.layers["x"].values.tolist() == [0.1, 1 / 3]
    assert found.layers["x"].dead.tolist() == [False, True]


def test_the_oracle_switches_one_filter_off(setting, subject):
    model = subject.whole
    images, labels = subject.images["evaluation"]
    layer = inner_layers("resnet20")[4]
    assert [name for name, _ in blocks(model)] == inner_layers("resnet20")
    found = Worker(setting, {}).measured(("oracle", "resnet20", layer))
    assert found == consult(model, layer, images, labels)

    block = dict(blocks(model))[layer]
    with torch.no_grad():
        before = model(images).double().log_softmax(1)
        kept = block.conv2.weight[:, 3].clone()
        block.conv2.weight[:, 3] = 0
        after = model(images).double().log_softmax(1)
        block.conv2.weight[:, 3] = kept
    rise = torch.nn.functional.nll_loss(after, labels) - torch.nn.functional.nll_loss(before, labels)
    divergence = (before.exp() * (before - after)).sum(1).mean()
    assert found[3] == pytest.approx([float(rise), float(divergence)], rel=1e-3, abs=1e-7)


def test_every_row_has_a_name_of_its_own_and_the_bar_comes_first():
    rows = [*heavy(), *light("cuda"), *last()]
    assert len({name_of(row) for row in rows}) == len(rows)
    for network in NETWORKS:
        assert set(cells(network, (OURS, *BASELINES), EPOCHS)) <= set(heavy())
    assert heavy()[:90] == list(cells("resnet20", (OURS, *BASELINES), EPOCHS))
    assert name_of(heavy()[0]) == "cell/resnet20/persistence/0.25/0/2"


def test_a_run_can_be_aimed():
    found = aimed(["l1", "fashion/persistence+alone=2", "l1"], ["resnet20", "fashion"], 0)

    assert len(found) == len(set(found)) == 27
    assert found[0] == ("cell", "resnet20", "l1", "0.5", "0", "0")  # what removes most comes first
    assert {row[1:3] for row in found} == {("resnet20", "l1"), ("fashion", "l1"), ("fashion", "persistence+alone=2")}
    assert not aimed(["resnet56/l1"], ["fashion"], 2)


def test_scores_that_are_missing_are_made_before_cells_ask_for_them(setting):
    asked = [*cells("resnet20", ("taylor", "l2@global", "l2"), 0), ("oracle", "resnet20", "layer1.0.conv1")]
    missing = scored_first(setting, asked)

    assert ("scores", "resnet20", "taylor", "0") in missing
    assert ("scores", "resnet20", "persistence+rounds=1+signed=false", "1") in missing
    assert len(missing) == len(set(missing)) == 9
    assert Worker(setting, {}).measured(("scores", "resnet20", "l2", "2")) == 9
    assert set(missing) - set(scored_first(setting, asked)) == {("scores", "resnet20", "l2", "2")}


def test_a_cell_with_fine_tuning_says_what_one_without_would():
    there = {"cell/resnet20/l1/0.5/0/2", "cell/resnet20/l2/0.5/0/0", "original/resnet20"}

    assert known(("cell", "resnet20", "l1", "0.5", "0", "0"), there)
    assert known(("original", "resnet20"), there)
    assert not known(("cell", "resnet20", "l2", "0.5", "0", "2"), there)
    assert not known(("original", "resnet56"), there)


def test_where_fine_tuning_changes_a_criterion_a_cell_with_it_says_nothing_of_one_without():
    row = ("cell", "resnet20", OURS, "0.5", "0", "0")

    assert not known(row, {"cell/resnet20/persistence/0.5/0/2"})
    assert known(
        ("cell", "resnet20", "persistence+alone=3", "0.5", "0", "0"), {"cell/resnet20/persistence+alone=3/0.5/0/2"}
    )
    assert scored_as("persistence@global", 0) == "persistence"
    assert scored_as("persistence@global", 2) == "persistence+alone=1000+rounds=1"
    assert scored_as("l1", 2) == "l1"
    assert scored_as("from a package that is not here", 2) == "from a package that is not here"


def test_a_row_that_fails_leaves_the_others(setting, monkeypatch, capsys):
    def measured(_self, row):
        if row[1] == "bad":
            raise ValueError("nothing there")
        return {"macs": 1}

    monkeypatch.setattr(Worker, "measured", measured)
    rows = [("oracle", "bad"), ("oracle", "good"), ("oracle", "late")]
    Worker(setting, {}).work(rows[:2], float("inf"))
    Worker(setting, {}).work(rows, 0)

    results = work.Results(setting.work / "results.json")
    assert results.collect(setting.work / "done") == 1
    assert results.collect(setting.work / "done") == 0
    assert json.loads((setting.work / "results.json").read_text()) == {"oracle/good": {"macs": 1}}
    assert "nothing there" in capsys.readouterr().out


def test_a_process_that_lost_its_gpu_gives_its_row_back(setting, monkeypatch):
    def measured(_self, _row):
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(Worker, "measured", measured)
    for _ in range(2):  # the second finds it free
        with pytest.raises(SystemExit):
            Worker(setting, {}).work([("oracle", "large")], float("inf"))


WORKER = """
import json, pathlib, sys
folder = pathlib.Path(sys.argv[1])
for row in json.loads(pathlib.Path(sys.argv[2]).read_text()):
    tried = folder / f"tried-{row[0]}"
    if row[0] == "fragile" and not tried.exists():
        tried.touch()
        sys.exit(1)
    (folder / f"{row[0]}.json").write_text("1")
"""


def test_workers_are_started_again_and_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(work, "POLL", 0.02)
    done = tmp_path / "done"
    done.mkdir()
    results = work.Results(tmp_path / "results.json")

    share_out(
        [[("fragile",)], [("sound",)]],
        [sys.executable, "-c", WORKER, str(done)],
        tmp_path,
        lambda: results.collect(done),
    )

    assert set(results.rows) == {"fragile", "sound"}
    with pytest.raises(TimeoutError):
        share_out([[]], [sys.executable, "-c", "import time; time.sleep(60)"], tmp_path, _stop)


def _stop():
    raise TimeoutError


def rows(name, network="resnet20", ratio="0.25", seeds=3, epochs=2, **stages):
    return {
        f"cell/{network}/{name}/{ratio}/{seed}/{epochs}": {key: value + seed / 100 for key, value in stages.items()}
        for seed in range(seeds)
    }


def test_tables_by_hand():
    found = {
        **rows(OURS, epochs=0, removed=0.7, settled=0.8),
        **rows(OURS, removed=0.1, settled=0.2, tuned=0.86),  # with another setting
        **rows(f"{OURS}@global", epochs=0, removed=0.6, settled=0.7),
        **rows(f"{OURS}@global", removed=0.1, settled=0.2, tuned=0.85),
        **rows("l1", removed=0.5, settled=0.6, tuned=0.855),
        **rows("l1", epochs=0, removed=0.1, settled=0.1),  # the cell with fine-tuning says it as well
        **rows("taylor", seeds=2, epochs=0, removed=0.8, settled=0.9),
        **rows("fpgm", seeds=1, tuned=0.8),
    }

    assert lasting(found, "resnet20").splitlines() == [
        "| criterion | 25 % | 37.5 % | 50 % |",
        "|---|---:|---:|---:|",
        "| `taylor` | 80.5 ± 0.7 (2 of 3 sets) → 90.5 | – | – |",
        "| `persistence` | 71.0 ± 1.0 → 81.0 | – | – |",
        "| `l1` | 51.0 ± 1.0 → 61.0 | – | – |",
    ]
    assert tuned(found, "resnet20").splitlines()[2:] == [
        "| `persistence` | 87.0 ± 1.0 | – | – |",
        "| `l1` | 86.5 ± 1.0 | – | – |",
        "| `fpgm` | 80.0 (1 of 3 sets) | – | – |",
        "",
        "`persistence` against the best baseline: +0.50 points at 25 % (`l1`).",
    ]
    assert free(found, "resnet20").splitlines()[2:] == [
        "| `persistence` | 71.0 → 81.0 → 87.0 | – | – |",
        "| `persistence@global` | 61.0 → 71.0 → 86.0 | – | – |",
        "| `taylor` | 80.5 → 90.5 | – | – |",
    ]
    spelled = {name.replace(OURS, f"{OURS}+alone=1000+rounds=1"): row for name, row in rows(OURS, tuned=0.86).items()}
    assert tuned(spelled, "resnet20").splitlines()[2:] == ["| `persistence` | 87.0 ± 1.0 | – | – |"]
    assert not tuned(found, "fashion")
    ranks = {f"rank/resnet56/{name}/{seed}": [0.5, 0.4, 0.3, 0.2] for name in ("l1",) for seed in range(3)}
    assert oracle(ranks, "resnet56").splitlines()[2:] == [
        "| `l1` | 0.50 ± 0.00 | 0.40 ± 0.00 | 0.30 ± 0.00 | 0.20 ± 0.00 |"
    ]


def test_tables_stand_between_their_marks(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "before\n<!-- arena: resnet20 -->\nold\n<!-- end -->\nafter\n<!-- arena: fashion -->\nkept\n<!-- end -->\n"
    )

    for _ in range(2):
        write(rows("l1", epochs=0, removed=0.5, settled=0.6), page)

    text = page.read_text()
    assert text.startswith("before\n<!-- arena: resnet20 -->\n\n| criterion |")
    assert "| `l1` | 51.0 ± 1.0 → 61.0 | – | – |\n\n<!-- end -->\nafter\n" in text
    assert "old" not in text
    assert "kept" in text
