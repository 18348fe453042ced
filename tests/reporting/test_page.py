"""The page of a report: what it says, and that nothing in it is dangerous."""

import base64
import dataclasses
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.helpers.pages import SHOWN, check_number
from tests.helpers.reports import HOSTILE, full_report, report
from topocompress.reporting import budgets, quantities, wording
from topocompress.reporting import page as module
from topocompress.reporting.page import to_html
from topocompress.reporting.write import write_report
from topocompress.types import Measurement

SECTIONS = {
    "warnings": "warnings",
    "scores": "scores",
    "stages-title": "stages",
    "budget": "budget",
    "latency": "latency",
    "tuning": "fine-tuning",
    "advice": "advice",
    "faster": "faster",
}


class Elements(HTMLParser):
    """Every element with its attributes and the text directly inside it."""

    def __init__(self, text):
        super().__init__()
        self.found, self.open = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append({"tag": tag, "text": "", **dict(attributes)})
        if tag not in ("meta", "link", "br", "img", "input"):
            self.open.append(self.found[-1])

    def handle_endtag(self, tag):
        while self.open and self.open.pop()["tag"] != tag:
            pass

    def handle_data(self, data):
        if self.open:
            self.open[-1]["text"] += data

    def of(self, tag):
        return [element for element in self.found if element["tag"] == tag]


def test_every_number_is_that_of_the_json_file(tmp_path):
    write_report(tmp_path, full_report())
    content = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    page = Elements((tmp_path / "report.html").read_text(encoding="utf-8"))
    (data,) = [script for script in page.of("script") if script.get("type") == "application/json"]
    assert json.loads(data["text"]) == content
    marked = [element for element in page.found if "data-field" in element]
    for element in marked:
        check_number(content, element["data-field"], element["data-value"], element["text"])
    fields = {element["data-field"] for element in marked}
    for side in ("before", "after"):
        for name in (*SHOWN, "latency.0.median_ms", "latency.1.median_ms"):
            assert f"{side}.{name}" in fields
    assert {f"plan.groups.{n}.{name}" for n in range(4) for name in ("before", "after", "asked", "dead")} <= fields
    for kind in ("quantized", "half"):
        assert {f"{kind}.measurement.latency.{n}.{name}" for n in (0, 1) for name in ("median_ms", "p95_ms")} <= fields
    assert {
        "environment.seed",
        "model.fingerprint",
        "environment.versions.torch",
        "environment.seconds.score",
    } <= fields


def test_what_stands_in_terminal_and_markdown_stands_on_the_page():
    full = full_report()
    page = Elements(to_html(full))
    text = [element["text"].replace("\xa0", " ") for element in page.found]
    assert wording.verdict(full) in text
    assert [element["text"].replace("\xa0", " ") for element in page.of("li")][: len(full.warnings)] == list(
        full.warnings
    )
    for line in (*wording.stage_lines(full), wording.parity(full), wording.command_line(full)):
        assert line in text
    cells = [element["text"] for element in page.found if element["tag"] in ("th", "td")]
    for row in quantities.comparison_table(full):
        assert [cells[i : i + len(row)] for i in range(len(cells))].count(list(row)) >= 1
    for ((_, command),) in (full.advice, full.faster):
        assert command in text
    assert "The file is not as much faster as it has fewer multiply-accumulates." in text
    assert [each.get("href") for each in page.of("a") if each["text"].startswith("What to try if")] == [
        "#advice",
        "#faster",
    ]
    assert full.quantized.message in "".join(text)


def test_good_news_does_not_stand_among_the_warnings():
    text = to_html(full_report(notes=("Ahead of l1.",)))
    box = text.partition('<aside class="warnings"')[2].partition("</aside>")[0]
    assert "On this model l1 pruning" in box
    assert "Ahead of l1." not in box
    assert "<li>Ahead of l1.</li>" in text.partition('<h3 id="notes">')[2]


def test_a_budget_that_was_not_kept_is_the_first_line_and_said_once():
    over = dataclasses.replace(full_report().budget, limit=0.4, kept=False)
    found = full_report(budget=over, warnings=(budgets.missed(over, (full_report().before, full_report().after)),))
    page = Elements(to_html(found))
    lines = [element for element in page.of("p") if element.get("class") in ("over", "verdict")]
    assert [line["class"] for line in lines] == ["over", "verdict"]
    assert lines[0]["text"].startswith("--target-latency 0.4 is not kept to")
    assert to_html(found).count("is not kept to: measured") == 2  # shown, and in the JSON
    assert "warnings" not in {element.get("id") for element in page.found}
    assert "over" not in {element.get("class") for element in Elements(to_html(full_report())).of("p")}


def test_input_and_samples_stand_above_everything_else():
    shape = {"input_shape": (3, 224, 224), "resize": 256, "mean": (0.5,), "std": (0.25,)}
    top = to_html(full_report(model={**report().model, "preprocessing": shape})).partition("<main>")[0]
    assert "Input: 3 × 224 × 224, short side to 256 pixels" in top
    assert "Judged on 397 held-out samples of digits." in top


def test_tiles_say_what_files_in_fewer_bits_are_like():
    def lines(found):
        shown = [each["text"] for each in Elements(to_html(found)).of("p") if each.get("class") == "sides bits"]
        return [line.replace("\xa0", " ") for line in shown]

    cards = lines(full_report())
    assert cards[2:4] == ["INT8: 86.1 %, -3.9", "FP16: 87.3 %, -2.7"]
    assert cards[8:] == ["INT8: 31.71 ms, 1.35× faster", "FP16: 52.71 ms, 1.24×"]  # 32 bits are slower, too
    assert len(cards) == 2 * 5  # file, accuracy, agreement, two latencies
    assert lines(full_report(quantized=None))[1] == "FP16: 87.3 %, -2.7"
    assert not lines(report())


@pytest.mark.parametrize(
    ("changes", "summary"),
    [
        ({}, "As a table, with INT8 and FP16, and step by step"),
        ({"quantized": None}, "As a table, with FP16, and step by step"),
        ({"quantized": None, "half": None}, "As a table, and step by step"),
    ],
)
def test_the_table_is_open_where_it_has_files_in_fewer_bits(changes, summary):
    page = Elements(to_html(full_report(**changes)))
    assert page.of("summary")[0]["text"] == summary
    assert ("open" in page.of("details")[0]) == ("with" in summary)


def test_steps_of_removal_are_told_of():
    text = to_html(full_report())
    assert "these are the scores of the first" in text
    assert "after each of 2 iterations of pruning. Epoch 3 of the last was kept" in text
    once = to_html(full_report(finetune={**full_report().finetune, "iterations": 1}))
    assert "scores of the first" not in once
    assert "after each of" not in once


def test_fine_tuning_is_not_spoken_of_where_there_was_none():
    before = "chosen otherwise, before any fine-tuning; every seed"
    assert before in to_html(full_report())
    bare = to_html(full_report(finetune={}, advice=(), notes=()))
    assert "chosen otherwise; every seed" in bare
    assert "no fine-tuning" not in bare


def test_names_from_a_model_file_stay_text():
    hostile = full_report(model={**report().model, "source": HOSTILE, "fingerprint": HOSTILE})
    text = to_html(hostile)
    page = Elements(text)
    assert not page.of("img")
    assert len(page.of("script")) == text.count("<script") == text.count("</script>") == 5
    assert not [element for element in page.found if any(name.startswith("on") for name in element)]
    assert [element["text"] for element in page.of("title")] == [f"{HOSTILE.rpartition('/')[2]}, pruned by betti"]
    assert HOSTILE in [element["text"] for element in page.of("option")]


def test_the_page_needs_nothing_else():
    text = to_html(full_report())
    page = Elements(text)
    names = ("src", "href", "srcset", "data", "action")
    links = [(element["tag"], element[name]) for element in page.found for name in names if name in element]
    loading = [(tag, link) for tag, link in links if not link.startswith("#")]
    assert loading == [("link", "data:,")]
    (style,) = page.of("style")
    assert not re.search(r"@import|url\(", style["text"])
    assert len(text.encode()) < 1_000_000


def test_the_policy_lets_nothing_be_loaded_and_only_the_pages_own_scripts_run():
    page = Elements(to_html(full_report()))
    (policy,) = [meta["content"] for meta in page.of("meta") if "http-equiv" in meta]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    scripts = [script["text"] for script in page.of("script") if "type" not in script]
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert rules["script-src"].split() == [f"'sha256-{digest}'" for digest in digests]


def test_the_licences_of_the_libraries_come_with_them():
    text = to_html(report())
    readme = (Path(module.__file__).parent / "templates" / "vendor" / "README.md").read_text(encoding="utf-8")
    for holder, package, version in (
        ("Observable, Inc.", "@observablehq/plot", "0.6.17"),
        ("Mike Bostock", "d3", "7.9.0"),
    ):
        assert re.search(rf"Copyright [\d-]+ {holder}\s+Permission to use, copy, modify", text)
        assert f'version="{version}"' in text
        assert f"`{package}` | {version} |" in readme


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({}, set()),
        ({"warnings": ()}, {"warnings"}),
        ({"advice": ()}, {"advice"}),
        ({"faster": ()}, {"faster"}),
        ({"budget": None}, {"budget"}),
        ({"finetune": {}}, {"fine-tuning"}),
        ({"plan": report().plan}, {"scores"}),
    ],
)
def test_a_section_without_anything_to_say_is_left_out(changes, missing):
    page = Elements(to_html(full_report(**changes)))
    there = {SECTIONS[element["id"]] for element in page.found if element.get("id") in SECTIONS}
    assert there == set(SECTIONS.values()) - missing


def test_fine_tuning_may_say_less_or_more_than_usual():
    history = [{"epoch": epoch, "accuracy": 0.5, "teacher": 1.0} for epoch in (0, 1)]
    found = Elements(to_html(full_report(finetune={"epochs": 1, "best_epoch": 1, "history": history})))
    assert "1 epoch. Epoch 1 was kept." in [element["text"] for element in found.of("p")]


def test_a_bare_report_has_a_page_too():
    bare = Measurement(parameters=10, macs=5)
    data = {**report().data, "labelled": False}
    removed = dict.fromkeys(report().removed)
    page = Elements(to_html(report(before=bare, after=bare, removed=removed, data=data, environment={})))
    assert not {element.get("id") for element in page.found} & set(SECTIONS)
    assert [card["text"] for card in page.of("h3")] == ["Parameters", "MACs"]


def test_hostile_numbers_do_not_get_in():
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_html(report(removed={**report().removed, "accuracy": float("nan")}))
