import dataclasses
import json

import numpy as np
import pytest

from topocompress.errors import OutputError
from topocompress.report import comparison_rows, headline, stage_lines, to_markdown, write_report, write_scores
from topocompress.results import Control, ExportCheck, Latency, Measurement, Report
from topocompress.types import LayerScores, Scores

USES = "1000 samples to calibrate, 400 for fine-tuning, 397 held out"


def latency(batch, median):
    return Latency(batch=batch, median_ms=median, p95_ms=median * 1.5, runs=30)


def report(**changes):
    settings = {
        "model": {"source": "model.pt", "architecture": {"name": "resnet18"}, "fingerprint": "sha256:1"},
        "data": {
            "source": "digits",
            "labelled": True,
            "samples": {"calibration": 1000, "train": 400, "evaluation": 397},
            "note": "",
            "stand_in": False,
        },
        "scoring": {"criterion": "betti"},
        "plan": {
            "criterion": "betti",
            "channels_before": 96,
            "channels_removed": 24,
            "dead_removed": 3,
            "groups": [
                {"root": "stem.0", "before": 32, "after": 16, "asked": 20, "dead": 3, "kept_because": ""},
                {"root": "head", "before": 10, "after": 10, "asked": 0, "dead": 0, "kept_because": "feeds the output"},
            ],
        },
        "before": Measurement(
            parameters=11_170_000,
            macs=1_820_000_000,
            file_bytes=44_700_000,
            accuracy=0.9,
            agreement=1.0,
            latency=(latency(1, 8.0), latency(8, 40.0)),
            peak_bytes=120_000_000,
        ),
        "removed": {"accuracy": 0.5, "accuracy_recalibrated": 0.61, "agreement": 0.55, "agreement_recalibrated": None},
        "after": Measurement(
            parameters=5_585_000,
            macs=700_000,
            file_bytes=999,
            accuracy=0.875,
            agreement=0.934,
            latency=(latency(1, 4.0), latency(8, 50.0)),
        ),
        "export": ExportCheck(samples=64, max_abs=1.5e-6, max_rel=2.5e-7, top1_agreement=1.0, opset=18),
    }
    return Report(**{**settings, **changes})


def test_rows_compare_before_and_after():
    assert comparison_rows(report()) == [
        ("Parameters", "11.17 M", "5.58 M", "2.00× smaller"),
        ("MACs", "1.82 G", "700.00 k", "2600.00× smaller"),
        ("ONNX file", "44.70 MB", "1.0 kB", "44744.74× smaller"),
        ("Accuracy", "90.0 %", "87.5 %", "-2.5 points"),
        ("Agreement with the original", "100.0 %", "93.4 %", ""),
        ("Latency ms, batch 1, median/p95", "8.00 / 12.00", "4.00 / 6.00", "2.00× faster"),
        ("Latency ms, batch 8, median/p95", "40.00 / 60.00", "50.00 / 75.00", "1.25× slower"),
        ("Peak memory of inference", "120.00 MB", "not measured", ""),
    ]


def test_a_gain_of_accuracy_has_its_sign_and_small_counts_are_whole():
    before, after = (Measurement(parameters=n, macs=n, accuracy=a) for n, a in ((999, 0.5), (10, 0.625)))
    rows = {row[0]: row[1:] for row in comparison_rows(report(before=before, after=after))}
    assert rows["Parameters"] == ("999", "10", "99.90× smaller")
    assert rows["Accuracy"] == ("50.0 %", "62.5 %", "+12.5 points")
    assert rows["ONNX file"] == ("not measured", "not measured", "")


def test_without_labels_there_is_no_accuracy_row():
    before = dataclasses.replace(report().before, accuracy=None)
    assert "Accuracy" not in {row[0] for row in comparison_rows(report(before=before))}


def test_files_timed_at_unlike_batches_cannot_be_compared():
    with pytest.raises(ValueError, match="zip"):
        comparison_rows(report(after=dataclasses.replace(report().after, latency=(latency(1, 4.0),))))


def test_stages_say_accuracy_step_by_step_and_the_controls():
    controls = (Control(criterion="random", accuracies=(0.1, 0.2, 0.25)), Control(criterion="l1", accuracies=(0.7,)))
    assert stage_lines(report(finetune={"epochs": 6, "best_epoch": 4}, controls=controls)) == [
        f"Data: digits; {USES}.",
        "After removal: accuracy 50.0 %; with BatchNorm statistics re-estimated: 61.0 %.",
        "After 6 epochs of fine-tuning (best: 4): accuracy 87.5 %.",
        "Control, the same widths by random, BatchNorm re-estimated, no fine-tuning: accuracy 10.0 %, 20.0 %, 25.0 %.",
        "Control, the same widths by l1, BatchNorm re-estimated, no fine-tuning: accuracy 70.0 %.",
    ]


def test_a_note_on_the_data_stands_beside_its_source():
    lines = stage_lines(report(data={**report().data, "note": "handwritten"}))
    assert lines[0] == f"Data: digits (handwritten); {USES}."


def test_without_labels_the_stages_say_agreement():
    lines = stage_lines(report(data={**report().data, "labelled": False}))
    assert lines == [
        "Data: digits; 1000 samples to calibrate, 397 held out.",
        "After removal: agreement 55.0 %; with BatchNorm statistics re-estimated: unknown.",
    ]


def test_stand_in_images_are_named_and_no_statistics_are_estimated_from_them():
    data = {**report().data, "source": "photographs", "stand_in": True, "note": "two of them"}
    assert stage_lines(report(data=data)) == [
        f"Data: photographs; {USES}.",
        "After removal: accuracy 50.0 %; BatchNorm statistics were left alone, as these images are not yours.",
    ]


@pytest.mark.parametrize(
    ("plan", "text"),
    [
        ({"channels_before": 96, "channels_removed": 24, "dead_removed": 0}, "Removed 24 of 96 channels (25 %)."),
        ({"channels_before": 96, "channels_removed": 24, "dead_removed": 3}, "(25 %, 3 of them dead)."),
        ({"channels_before": 0, "channels_removed": 0, "dead_removed": 0}, "Removed 0 of 0 channels (0 %)."),
    ],
)
def test_the_headline(plan, text):
    assert headline(report(plan=plan)).endswith(text)


def test_markdown_holds_every_number_warning_and_command():
    environment = {"versions": {"torch": "2.9", "onnx": "1.19"}, "processor": "A Processor", "cores": 2, "seed": 7}
    full = report(
        warnings=("The photographs are a stand-in.", "Not faster."),
        remedies=(("Fine-tune", "topocompress prune --finetune 5"), ("Raise", "topocompress prune --max-betti 400")),
        controls=(Control(criterion="l1", accuracies=(0.7,)),),
        environment=environment,
    )
    text = to_markdown(full)
    assert text.startswith("# model.pt, pruned by betti\n\nRemoved 24 of 96 channels")
    assert "| MACs | 1.82 G | 700.00 k | 2600.00× smaller |" in text
    assert all(f"- {line}" in text for line in stage_lines(full))
    assert (
        "on 64 samples: largest difference 1.5e-06 (2.5e-07 of the largest output), same top-1 class on 100.0 %" in text
    )
    assert "## Read this\n\n- The photographs are a stand-in.\n- Not faster.\n" in text
    assert "1. Fine-tune: `topocompress prune --finetune 5`\n2. Raise: `topocompress prune --max-betti 400`\n" in text
    assert "| stem.0 | 32 | 16 | 20 | 3 |  |\n| head | 10 | 10 | 0 | 0 | feeds the output |\n" in text
    assert "Measured on A Processor, 2 cores" in text
    assert "torch 2.9, onnx 1.19; seed 7." in text


def test_every_table_row_has_as_many_cells_as_its_head():
    head = None
    for line in to_markdown(report()).splitlines():
        cells = line.count("|") if line.startswith("|") else None
        assert head is None or cells is None or cells == head
        head = cells
    assert "## Read this" not in to_markdown(report())
    assert "too much lost" not in to_markdown(report())


def test_the_json_file_is_the_report_field_by_field(tmp_path):
    original = report(
        controls=(Control(criterion="l1", accuracies=(0.7, 0.75)),),
        finetune={"epochs": 3, "best_epoch": 2},
        warnings=("Größer als 1 ×",),
        remedies=(("what", "command"),),
        environment={"seed": 0},
    )
    write_report(tmp_path, original)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.json", "report.md"]
    found = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert list(found) == [field.name for field in dataclasses.fields(Report)]

    def measurement(entry):
        return Measurement(**{**entry, "latency": tuple(Latency(**one) for one in entry["latency"])})

    again = Report(
        **{
            **found,
            "before": measurement(found["before"]),
            "after": measurement(found["after"]),
            "export": ExportCheck(**found["export"]),
            "controls": tuple(
                Control(criterion=c["criterion"], accuracies=tuple(c["accuracies"])) for c in found["controls"]
            ),
            "warnings": tuple(found["warnings"]),
            "remedies": tuple(tuple(remedy) for remedy in found["remedies"]),
        }
    )
    assert again == original
    assert (tmp_path / "report.md").read_text(encoding="utf-8") == to_markdown(original)


def test_nan_never_gets_into_the_json_file(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_report(tmp_path, report(removed={**report().removed, "accuracy": float("nan")}))


def test_scores_are_written_filter_by_filter_and_without_what_depends_on_the_machine(tmp_path):
    layers = {
        "conv": LayerScores(
            values=np.array([3.0, 5.5]),
            parts={"b0": np.array([1.0, 2.0]), "b1": np.array([2.0, 3.5])},
            dead=np.array([False, True]),
        )
    }
    scores = Scores(
        criterion="betti",
        higher="remove",
        settings={"scale": "quantile:0.2"},
        layers=layers,
        samples=1000,
        model="sha256:1",
        run={"passes": 2},
    )
    write_scores(tmp_path / "new" / "scores.json", scores)
    assert json.loads((tmp_path / "new" / "scores.json").read_text()) == {
        "criterion": "betti",
        "higher": "remove",
        "settings": {"scale": "quantile:0.2"},
        "samples": 1000,
        "model": "sha256:1",
        "layers": {"conv": {"scores": [3.0, 5.5], "b0": [1.0, 2.0], "b1": [2.0, 3.5], "dead": [False, True]}},
    }
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot write"):
        write_scores(tmp_path / "file" / "scores.json", scores)
