import dataclasses
import html
import json
import re

import numpy as np
import pytest
from markdown_it import MarkdownIt

from tests.helpers.reports import HOSTILE, full_report, latency, report
from topocompress.errors import OutputError
from topocompress.reporting.page import to_html
from topocompress.reporting.quantities import comparison_rows, comparison_table, stages
from topocompress.reporting.wording import headline, parity, stage_lines, tuning_line, verdict
from topocompress.reporting.write import to_markdown, write_report, write_scores
from topocompress.types import Control, ExportCheck, Latency, LayerScores, Measurement, Report, Scores

USES = "1000 samples to calibrate, 400 for fine-tuning, 397 held out"


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


def test_stages_say_in_how_many_steps_channels_went():
    assert "After 6 epochs of fine-tuning after each of 3 steps of removal (best: 4): accuracy 87.5 %." in stage_lines(
        report(finetune={"epochs": 6, "best_epoch": 4, "steps": 3})
    )


def test_a_note_on_the_data_stands_beside_its_source():
    lines = stage_lines(report(data={**report().data, "note": "handwritten"}))
    assert lines[0] == f"Data: digits (handwritten); {USES}."


def test_without_labels_the_stages_say_agreement():
    lines = stage_lines(report(data={**report().data, "labelled": False}))
    assert lines == [
        "Data: digits; 1000 samples to calibrate, 397 held out.",
        "After removal: agreement 55.0 %; with BatchNorm statistics re-estimated: unknown.",
    ]


def test_stand_in_images_are_named():
    data = {**report().data, "source": "photographs", "stand_in": True, "note": "two of them"}
    removed = {"accuracy": 0.5, "accuracy_recalibrated": 0.55, "statistics": "matched"}
    assert stage_lines(report(data=data, removed=removed)) == [
        f"Data: photographs; {USES}.",
        "After removal: accuracy 50.0 %; with BatchNorm statistics corrected for what removal changed: 55.0 %.",
    ]


@pytest.mark.parametrize(
    ("statistics", "said", "stage"),
    [
        ("kept", "BatchNorm statistics were left alone", []),
        ("re-estimated", "with BatchNorm statistics re-estimated: 61.0 %", ["BatchNorm re-estimated"]),
        (
            "matched",
            "with BatchNorm statistics corrected for what removal changed, since those of the calibration samples did "
            "harm: 61.0 %",
            ["BatchNorm matched"],
        ),
    ],
)
def test_what_became_of_the_statistics_is_said(statistics, said, stage):
    found = report(removed={"accuracy": 0.5, "accuracy_recalibrated": 0.61, "statistics": statistics})
    assert stage_lines(found)[1] == f"After removal: accuracy 50.0 %; {said}."
    assert [each.name for each in stages(found)] == ["Original", "After removal", *stage]


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
        advice=(("Fine-tune", "topocompress prune --finetune 5"), ("Raise", "topocompress prune --max-betti 400")),
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
    assert "1. Fine-tune:\n\n   ```sh\n   topocompress prune --finetune 5\n   ```\n\n2. Raise:\n" in text
    assert "| `stem.0` | 32 | 16 | 20 | 3 |  |\n| `head` | 10 | 10 | 0 | 0 | feeds the output |\n" in text
    assert "A Processor, 2 cores" in text
    assert "- Seed: 7\n- Versions: torch 2.9, onnx 1.19\n- Original model: sha256:1\n" in text
    assert "Judged on 397 held-out samples of digits." in text


def test_markdown_says_what_else_was_done():
    text = to_markdown(full_report())
    assert "|  | before | after | change | INT8 | change |\n|---|---:|---:|---:|---:|---:|\n" in text
    assert "| Accuracy | 90.0 % | 87.5 % | -2.5 points | 86.1 % | -3.9 points |" in text
    assert "## INT8\n\nINT8 is 1.67 times as fast at batch 1.\n" in text
    assert "--target-latency 0.7: 3 tries, 2 of them within it, judged on 500 calibration samples; of those the" in text
    assert "the largest network was taken." in text
    assert "```sh\ntopocompress prune model.pt --max-betti 300 --out 'my run'\n```" in text


def test_markdown_shows_hostile_names_as_they_are_and_nothing_of_them_is_html():
    names = [HOSTILE, "a|b", "``", "_x_*y*", "<b>", "[a](b)", "\\|", "a\n# b"]
    rows = [{**report().plan["groups"][0], "root": name} for name in names]
    model = {**report().model, "source": HOSTILE}
    hostile = report(plan={**report().plan, "groups": rows}, model=model, warnings=tuple(names))
    page = MarkdownIt("commonmark").enable("table").render(to_markdown(hostile))
    assert re.findall(r"<(?!/)(\w+)", page).count("h1") == 1
    assert not re.search(r"<(img|b|script|em|strong|a)\b", page)
    shown = [html.unescape(re.sub(r"<.*?>", "", cell)) for cell in re.findall(r"<td><code>(.*?)</code></td>", page)]
    # a backslash before a bar in code is the one thing that a table cannot show
    assert [each.replace("\\", "") for each in shown] == [" ".join(name.split()).replace("\\", "") for name in names]
    heading = html.unescape(re.findall(r"<h1>(.*?)</h1>", page)[0])
    assert heading == f"{HOSTILE.rpartition('/')[2]}, pruned by betti"
    warned = page.partition("Read this")[2].partition("<h2>")[0]
    items = [html.unescape(item) for item in re.findall(r"<li>(.*?)</li>", warned)]
    assert items == [" ".join(name.split()) for name in names]


@pytest.mark.parametrize("changes", [{}, {"quantized": None}])
def test_int8_stands_beside_the_other_two(changes):
    head, *rows = comparison_table(full_report(**changes))
    assert head == ("", "before", "after", "change", *(() if changes else ("INT8", "change")))
    assert {len(row) for row in rows} == {len(head)}
    assert [row[:4] for row in rows] == comparison_rows(full_report(**changes))


def test_stages_are_points_of_accuracy_against_macs():
    found = {stage.name: (stage.macs, stage.values) for stage in stages(full_report())}
    cut = 700_000_000
    assert found == {
        "Original": (1_820_000_000, (0.9,)),
        "After removal": (cut, (0.5,)),
        "BatchNorm re-estimated": (cut, (0.61,)),
        "Fine-tuned": (cut, (0.875,)),
        "INT8": (cut, (0.861,)),
        "Control: random": (cut, (0.55, 0.58, 0.52)),
        "Control: l1": (cut, (0.64,)),
    }


def test_stages_without_labels_are_of_agreement_and_leave_out_what_is_not_known():
    data = {**report().data, "labelled": False, "stand_in": True}
    assert [(stage.name, stage.values) for stage in stages(report(data=data))] == [
        ("Original", (1.0,)),
        ("After removal", (0.55,)),
    ]


@pytest.mark.parametrize(
    ("changes", "end"),
    [
        ({}, "2600.00× fewer MACs, 2.00× faster at batch 1, accuracy 90.0 % → 87.5 % (-2.5 points)."),
        (
            {"data": {**report().data, "labelled": False}},
            "2600.00× fewer MACs, 2.00× faster at batch 1, agreement with the original 93.4 %.",
        ),
        (
            {"after": dataclasses.replace(report().after, macs=3_640_000_000, latency=(latency(1, 16.0),) * 2)},
            "2.00× more MACs, 2.00× slower at batch 1, accuracy 90.0 % → 87.5 % (-2.5 points).",
        ),
    ],
)
def test_the_verdict_is_one_sentence(changes, end):
    text = verdict(report(**changes))
    assert text.startswith("Removed 24 of 96 channels (25 %, 3 of them dead): ")
    assert text.endswith(end)


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
        advice=(("what", "command"),),
        environment={"seed": 0},
    )
    write_report(tmp_path, original)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json", "report.md"]
    found = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert list(found) == [field.name for field in dataclasses.fields(Report)]

    def measurement(entry):
        latencies = tuple(Latency(**{**one, "times_ms": tuple(one["times_ms"])}) for one in entry["latency"])
        return Measurement(**{**entry, "latency": latencies})

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
            "advice": tuple(tuple(remedy) for remedy in found["advice"]),
        }
    )
    assert again == original
    assert (tmp_path / "report.md").read_text(encoding="utf-8") == to_markdown(original)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == to_html(original)


def test_the_file_of_a_detector_is_held_against_its_boxes():
    check = ExportCheck(samples=8, max_abs=0.002, max_rel=0.002, top1_agreement=0.893, opset=20, stability=0.797)
    assert parity(full_report(export=check)) == (
        "ONNX Runtime against PyTorch on 8 images: 89.3 % of the boxes are the same (PyTorch alone keeps 79.7 % where "
        "pixels change by 0.00001 of their range), their scores differ by 0.002 at most."
    )


def test_rows_of_numbers_stand_on_one_line_and_nothing_else_changes(tmp_path):
    original = full_report(warnings=("[\n  1,\n  2\n]",))
    write_report(tmp_path, original)
    text = (tmp_path / "report.json").read_text(encoding="utf-8")
    assert json.loads(text) == json.loads(json.dumps(dataclasses.asdict(original)))
    times = original.before.latency[0].times_ms
    assert f'"times_ms": [{", ".join(map(str, times))}]' in text


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


def test_how_it_was_tuned_in_one_line():
    settings = {"epochs": 4, "lr": 0.1, "best_epoch": 2, "validation_samples": 9}
    kept = "Epoch 2 was kept: best on 9 samples set aside for that, which are not those of the results."
    assert tuning_line(settings) == f"4 epochs, peak learning rate 0.1. {kept}"
    more = {"augmentation": "natural", "distill": 0.5, "epochs_run": 3}
    assert tuning_line({**settings, **more}) == (
        "4 epochs, peak learning rate 0.1, images shifted and mirrored, 50.0 % of the loss from the original's "
        f"outputs; stopped after 3. {kept}"
    )
    assert tuning_line({}) == ""
