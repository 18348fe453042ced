import dataclasses
import html
import json
import re

import numpy as np
import pytest
from markdown_it import MarkdownIt

from tests.helpers.reports import HOSTILE, full_report, report
from topocompress.errors import OutputError
from topocompress.reporting.page import to_html
from topocompress.reporting.wording import stage_lines
from topocompress.reporting.write import to_markdown, write_report, write_scores
from topocompress.types import Control, ExportCheck, Latency, LayerScores, Measurement, Report, Scores


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
    assert "## Warnings\n\n- The photographs are a stand-in.\n- Not faster.\n" in text
    assert "should be faster" not in text
    first = "1. Fine-tune:\n\n   ```sh\n   topocompress prune --finetune 5\n   ```\n\n"
    assert f"## If that is too much lost\n\n{first}2. Raise:\n" in text
    assert "| `stem.0` | 32 | 16 | 20 | 3 |  |\n| `head` | 10 | 10 | 0 | 0 | feeds the output |\n" in text
    assert "A Processor, 2 cores" in text
    assert "- Seed: 7\n- Versions: torch 2.9, onnx 1.19\n- Original model: sha256:1\n" in text
    assert "Judged on 397 held-out samples of digits." in text


def test_markdown_says_what_else_was_done():
    text = to_markdown(full_report())
    head = "|  | before | after | change | INT8 | change | FP16 | change |\n|---|---:|---:|---:|---:|---:|---:|---:|\n"
    assert head in text
    assert "| Accuracy | 90.0 % | 87.5 % | -2.5 points | 86.1 % | -3.9 points | 87.3 % | -2.7 points |" in text
    assert "## If it should be faster\n\n1. Keep multiples of 8 channels:\n\n   ```sh\n" in text
    assert "## INT8\n\nINT8 is 1.67 times as fast at batch 1.\n" in text
    assert "## FP16" not in text  # a warning says that it is slower
    half = dataclasses.replace(full_report().half, kept=True)
    assert "## FP16\n\nFP16 is 1.2 times slower.\n" in to_markdown(full_report(half=half))
    assert "--target-latency 0.7: 3 tries, 2 of them within it; of those the largest network was taken." in text
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
    warned = page.partition("Warnings")[2].partition("<h2>")[0]
    items = [html.unescape(item) for item in re.findall(r"<li>(.*?)</li>", warned)]
    assert items == [" ".join(name.split()) for name in names]


def test_every_table_row_has_as_many_cells_as_its_head():
    head = None
    for line in to_markdown(report()).splitlines():
        cells = line.count("|") if line.startswith("|") else None
        assert head is None or cells is None or cells == head
        head = cells
    assert "## Warnings" not in to_markdown(report())
    assert "too much lost" not in to_markdown(report())


def test_the_json_file_is_the_report_field_by_field(tmp_path):
    original = report(
        controls=(Control(criterion="l1", accuracies=(0.7, 0.75)),),
        finetune={"epochs": 3, "best_epoch": 2},
        warnings=("Größer als 1 ×",),
        notes=("Read as 8 bits.",),
        advice=(("what", "command"),),
        faster=(("how", "other command"),),
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
            "notes": tuple(found["notes"]),
            "advice": tuple(tuple(remedy) for remedy in found["advice"]),
            "faster": tuple(tuple(remedy) for remedy in found["faster"]),
        }
    )
    assert again == original
    assert (tmp_path / "report.md").read_text(encoding="utf-8") == to_markdown(original)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == to_html(original)


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
    assert json.loads((tmp_path / "new" / "scores.json").read_text(encoding="utf-8")) == {
        "criterion": "betti",
        "higher": "remove",
        "settings": {"scale": "quantile:0.2"},
        "samples": 1000,
        "model": "sha256:1",
        "layers": {"conv": {"scores": [3.0, 5.5], "b0": [1.0, 2.0], "b1": [2.0, 3.5], "dead": [False, True]}},
    }
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(OutputError, match="cannot write"):
        write_scores(tmp_path / "file" / "scores.json", scores)
