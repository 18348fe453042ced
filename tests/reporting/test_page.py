"""The page of a report: what it says, that nothing in it is dangerous, and that it works in a real browser."""

import base64
import dataclasses
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.helpers.browsing import opened, started_browser
from tests.helpers.reports import HOSTILE, full_report, report
from topocompress.reporting import page as module
from topocompress.reporting import quantities, wording
from topocompress.reporting.page import to_html
from topocompress.reporting.write import write_report
from topocompress.types import Measurement

SECTIONS = {
    "read-this": "warnings",
    "scores": "scores",
    "stages-title": "stages",
    "budget": "budget",
    "latency": "latency",
    "tuning": "fine-tuning",
    "advice": "advice",
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


def at(content, path):
    """The value at a dotted path of ``report.json``; keys may hold dots."""
    for key in path.split("."):
        content = content[int(key)] if isinstance(content, list) else content[key]
    return content


def written(value):
    return json.loads(json.dumps(dataclasses.asdict(value)))


SHOWN = {
    "parameters": quantities.count,
    "macs": quantities.count,
    "file_bytes": quantities.size,
    "peak_bytes": quantities.size,
    "accuracy": quantities.percent,
    "agreement": quantities.percent,
}


def check_number(content, path, exact, text):
    """That one marked number is the one in report.json, exactly and as it is shown."""
    value = at(content, path)
    assert exact == ("" if value is None else str(value)), path
    last = path.rpartition(".")[2]
    if last in SHOWN:
        assert text == SHOWN[last](value), path
    elif last in ("median_ms", "p95_ms"):
        digits = len(text.partition(".")[2])
        assert digits >= 2
        assert text == f"{value:.{digits}f}", path
    elif path.startswith("environment.seconds"):
        assert text == f"{value:.1f} s"
    else:
        assert text == str(value), path


# --- without a browser ---


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
    assert {f"quantized.measurement.latency.{n}.{name}" for n in (0, 1) for name in ("median_ms", "p95_ms")} <= fields
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
    assert full.advice[0][1] in text
    assert full.quantized.message in "".join(text)


def test_steps_of_removal_are_told_of():
    text = to_html(full_report())
    assert "these are the scores of the first" in text
    assert "after each of 2 steps of removal. Epoch 3 of the last was kept" in text
    once = to_html(full_report(finetune={**full_report().finetune, "steps": 1}))
    assert "scores of the first" not in once
    assert "after each of" not in once


def test_names_from_a_model_file_stay_text():
    hostile = full_report(model={**report().model, "source": HOSTILE, "fingerprint": HOSTILE})
    text = to_html(hostile)
    page = Elements(text)
    assert not page.of("img")
    assert len(page.of("script")) == text.count("<script") == text.count("</script>") == 4
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
    assert "1 epochs. Epoch 1 was kept." in [element["text"] for element in found.of("p")]


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


# --- in a browser ---


@pytest.fixture(scope="module")
def browser():
    with started_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The page of a full report, of one without a threshold, and of a bare one."""
    folder = tmp_path_factory.mktemp("pages")
    low = {**full_report().scoring, "higher": "keep", "criterion": "l1"}
    ratio = {**full_report().plan, "criterion": "l1", "rule": {"ratio": 0.25}}
    for unit in ratio["groups"][0]["units"]["scores"][:1]:
        assert unit
    pages = {
        "full": full_report(),
        "l1": full_report(scoring=low, plan=ratio, quantized=None, data={**report().data, "labelled": False}),
        "bare": report(),
    }
    for name, each in pages.items():
        (folder / f"{name}.html").write_text(to_html(each), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def content():
    return written(full_report())


def charts_of(page):
    return page.eval_on_selector_all(
        "figure.chart",
        "all => all.map(f => [f.dataset.chart, f.querySelector('svg[role=img]')?.getAttribute('aria-label') ?? ''])",
    )


@pytest.mark.parametrize(
    ("name", "charts"),
    [
        ("full", ["scores", "overview", "stages", "budget", *["latency"] * 2, *["tuning"] * 3]),
        ("l1", ["scores", "stages", "budget", *["latency"] * 2, *["tuning"] * 3]),
        ("bare", ["stages"]),
    ],
)
def test_every_chart_is_drawn_and_described(browser, place, name, charts):
    with opened(browser, place / f"{name}.html") as page:
        found = charts_of(page)
    assert [chart for chart, _ in found] == charts
    assert all(label for _, label in found)


def test_the_numbers_that_a_reader_sees_are_those_of_the_json_file(browser, place, content):
    with opened(browser, place / "full.html") as page:
        assert page.evaluate("JSON.parse(document.getElementById('report').textContent)") == content
        seen = page.eval_on_selector_all(
            "[data-field]", "all => all.map(e => [e.dataset.field, e.dataset.value, e.innerText])"
        )
        assert page.evaluate("window.attacked") is None
    assert len(seen) > 40
    for path, exact, text in seen:
        check_number(content, path, exact, text)


def test_points_of_the_charts_are_those_of_the_report(browser, place, content):
    def count(page, chart, mark):
        return len(page.query_selector_all(f"[data-chart={chart}] g[aria-label={mark}] > *"))

    with opened(browser, place / "full.html") as page:
        assert count(page, "stages", "dot") == 5 + 4  # steps, and four seeds of controls
        assert count(page, "budget", "dot") == 3
        dots = page.query_selector_all("[data-chart=latency] g[aria-label=dot] circle")
        assert len(dots) == 2 * 3 * 30
        assert count(page, "tuning", "dot") == 8 + 1 + 6 + 8 + 1 + 6  # and a ring around the best one
        heights = page.eval_on_selector_all(
            "[data-chart=scores] g[aria-label=rect] rect", "all => all.map(r => Number(r.getAttribute('height')))"
        )
        axis = page.eval_on_selector_all(
            "[data-chart=scores] g[aria-label='y-grid'] line", "all => all.map(l => Number(l.getAttribute('y1')))"
        )
        ticks = page.eval_on_selector_all(
            "[data-chart=scores] g[aria-label='y-axis tick label'] text", "all => all.map(t => Number(t.textContent))"
        )
    per_channel = abs(axis[1] - axis[0]) / (ticks[1] - ticks[0])
    # each bar is inset by half a pixel on either side
    assert sum(height + 1 for height in heights) == pytest.approx(160 * per_channel, rel=0.02)


def test_rows_are_sorted_by_value_and_back(browser, place):
    def column(page, number):
        return page.eval_on_selector_all(
            "#layers tbody tr", f"all => all.map(row => row.cells[{number}].innerText.trim())"
        )

    with opened(browser, place / "full.html") as page:
        head = page.locator("#layers thead th", has_text="after")
        head.locator("button").click()
        assert column(page, 3) == ["64", "48", "24", "10"]
        assert head.get_attribute("aria-sort") == "descending"
        head.locator("button").click()
        assert column(page, 3) == ["10", "24", "48", "64"]
        page.locator("#layers thead button", has_text="layer").click()
        assert [name[:4] for name in column(page, 0)] == ["</sc", "head", "stag", "stem"]
        assert head.get_attribute("aria-sort") is None


def test_a_layer_is_picked_from_the_list_or_from_the_table(browser, place, content):
    def bars(page):
        return page.inner_html("[data-chart=scores]")

    with opened(browser, place / "full.html") as page:
        whole = bars(page)
        units = [row["units"] for row in content["plan"]["groups"] if row["units"]]
        above = sum(score > 300 for unit in units for score in unit["scores"])
        gone = sum(len(unit["removed"]) for unit in units)
        note = page.inner_text("#scores-note")
        assert note.startswith(f"160 judged, {above} above the threshold, 1 dead; {gone} removed, 1 of them dead")
        page.select_option("#layer", "1")
        first = bars(page)
        assert first != whole
        assert page.inner_text("#scores-note").startswith("64 judged")
        page.click("#layers a[data-layer='2']")
        assert page.input_value("#layer") == "2"
        assert bars(page) not in (whole, first)
        assert len(page.query_selector_all("tr.picked")) == 1


def test_pointing_at_a_chart_says_what_is_there(browser, place):
    with opened(browser, place / "full.html") as page:
        figure = page.locator("[data-chart=stages]")
        figure.scroll_into_view_if_needed()
        dot = page.locator("[data-chart=stages] g[aria-label=dot] > *").first.bounding_box()
        page.mouse.move(dot["x"] + dot["width"] / 2, dot["y"] + dot["height"] / 2)
        assert "Original" in page.locator("[data-chart=stages] g[aria-label=tip]").text_content()


def test_commands_can_be_copied(browser, place, content):
    with opened(browser, place / "full.html", permissions=["clipboard-read", "clipboard-write"]) as page:
        block = page.locator("pre.copy", has=page.locator("#command"))
        block.locator("button").click()
        block.locator("button", has_text="Copied").wait_for()
        assert page.evaluate("navigator.clipboard.readText()") == wording.command_line(full_report())


def test_nothing_sticks_out_on_a_phone_and_charts_grow_with_the_window(browser, place):
    def fits(page):
        right = "all => Math.max(...all.map(svg => svg.getBoundingClientRect().right))"
        widest = page.eval_on_selector_all("figure.chart svg", right)
        return widest <= page.evaluate("innerWidth") == page.evaluate("document.documentElement.scrollWidth")

    with opened(browser, place / "full.html", viewport={"width": 375, "height": 700}) as page:
        assert fits(page)
        for width in (320, 768):
            drawn = page.get_attribute("[data-chart=stages]", "data-width")
            page.set_viewport_size({"width": width, "height": 700})
            page.locator(f"[data-chart=stages]:not([data-width='{drawn}'])").wait_for()
            assert fits(page)
        assert int(page.get_attribute("[data-chart=stages] svg", "width")) > 700


def luminance(colour):
    channels = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_legible_by_day_and_by_night(browser, place, scheme):
    queries = ("body", ".warnings li", ".card .change", ".card .worse", "summary", "thead th", "figure svg text", "a")
    script = """query => {
        const element = document.querySelector(query);
        let under = element;
        while (getComputedStyle(under).backgroundColor === 'rgba(0, 0, 0, 0)') under = under.parentElement;
        const style = getComputedStyle(element);
        return [element instanceof SVGElement ? style.fill : style.color, getComputedStyle(under).backgroundColor];
    }"""
    with opened(browser, place / "full.html", color_scheme=scheme) as page:
        pairs = {query: [luminance(each) for each in page.evaluate(script, query)] for query in queries}
    assert (pairs["body"][1] < 0.1) == (scheme == "dark")
    for query, (text, ground) in pairs.items():
        lighter, darker = max(text, ground), min(text, ground)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, query  # WCAG 2.2, 1.4.3


def test_on_paper_everything_is_there_and_nothing_to_click(browser, place):
    with opened(browser, place / "full.html", color_scheme="dark") as page:
        page.emulate_media(media="print")
        assert not page.is_visible("#layer")
        assert not page.is_visible(".copy button")
        assert luminance(page.evaluate("getComputedStyle(document.body).backgroundColor")) == 1
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.locator("details:not([open])").count() == 0
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert page.locator("details:not([open])").count() > 0
        assert page.evaluate("[...document.querySelectorAll('.tall')].every(e => e.scrollHeight <= e.clientHeight)")
        assert page.pdf(format="A4").startswith(b"%PDF")


def test_without_scripts_the_tables_say_it_all(browser, place):
    with opened(browser, place / "full.html", java_script_enabled=False) as page:
        assert page.is_visible("#layers")
        assert page.is_visible("#stages")
        assert page.is_visible("noscript p")
        assert page.locator("figure.chart:visible").count() == 0
        assert not page.is_visible("#layer")
        assert page.locator("button").count() == 0
