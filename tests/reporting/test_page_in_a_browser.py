"""The page of a report works in a real browser."""

import dataclasses
import json
import re
from dataclasses import replace

import pytest

from tests.helpers.browsing import opened, started_browser
from tests.helpers.pages import check_number
from tests.helpers.reports import full_report, metric_report, report
from topocompress.reporting import wording
from topocompress.reporting.page import to_html
from topocompress.types import Control


def written(value):
    return json.loads(json.dumps(dataclasses.asdict(value)))


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
        "l1": full_report(
            scoring=low, plan=ratio, quantized=None, half=None, data={**report().data, "labelled": False}
        ),
        "bare": report(),
        "psnr": metric_report(),
        "neg_loss": metric_report((-0.031, -0.5, -0.2, -0.04), name="neg_loss"),
        "loss": full_report(finetune={**full_report().finetune, "measure": "loss"}),
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
        ("psnr", ["scores", "overview", "stages", "budget", *["latency"] * 2, *["tuning"] * 3]),
        ("loss", ["scores", "overview", "stages", "budget", *["latency"] * 2, *["tuning"] * 2]),
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
        assert count(page, "stages", "dot") == 6 + 4  # steps, and four seeds of controls
        assert count(page, "budget", "dot") == 3
        dots = page.query_selector_all("[data-chart=latency] g[aria-label=dot] circle")
        smaller = (content[kind]["measurement"] for kind in ("quantized", "half"))
        sides = (content["before"], content["after"], *smaller)
        ends = [max(side["latency"][batch]["p95_ms"] for side in sides) for batch in (0, 1)]
        shown = [[ms for ms in side["latency"][n]["times_ms"] if ms <= ends[n]] for side in sides for n in (0, 1)]
        assert len(dots) == sum(map(len, shown)) < 2 * 4 * 30
        beyond = page.locator("[data-chart=latency] text", has_text=re.compile(r"^\+ \d+$")).all_text_contents()
        assert sum(int(text.removeprefix("+ ")) for text in beyond) == 2 * 4 * 30 - len(dots)
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


@pytest.mark.parametrize(("name", "low", "high"), [("psnr", 22.5, 31.2), ("neg_loss", -0.5, -0.031)])
def test_a_metric_is_drawn_on_its_own_scale_under_its_own_name(browser, place, name, low, high):
    with opened(browser, place / f"{name}.html") as page:
        for chart, label, axis in (
            ("stages", f"{name} →", "x"),
            ("tuning][data-of=accuracy", f"↑ validation {name}", "y"),
        ):
            figure = page.locator(f"[data-chart={chart}]")
            text = figure.text_content()
            assert label in text
            ticks = figure.locator(f"g[aria-label='{axis}-axis tick label'] text").all_text_contents()
            assert len(ticks) > 2
            assert not any("%" in tick for tick in ticks)
            numbers = [float(tick.replace("−", "-")) for tick in ticks]
            assert min(numbers) > low - (high - low)
            assert max(numbers) < high + (high - low)
            frame = figure.locator("svg").bounding_box()
            dots = [dot.bounding_box() for dot in figure.locator("g[aria-label=dot] > *").all()]
            size = {"x": "width", "y": "height"}[axis]
            assert all(frame[axis] < dot[axis] < frame[axis] + frame[size] - 20 for dot in dots)
            assert len({round(dot[axis]) for dot in dots}) > 2
        cells = page.locator("#stages tbody td").all_text_contents()
        assert f"{high:.4g}" in cells
        assert page.locator("th", has_text=f"validation {name}").count() == 1
        assert page.inner_text("#stages-title") == f"{name} by stage"


def test_variation_explained_may_lie_below_zero(browser, tmp_path):
    labels = {"labelled": False, "measure": "explained_variation"}
    sides = {"before": 1.0, "after": -0.4}
    sides = {name: replace(getattr(report(), name), explained_variation=value) for name, value in sides.items()}
    removed = {"explained_variation": -0.4, "explained_variation_recalibrated": 0.1}
    written_page = to_html(report(data={**report().data, **labels}, removed=removed, **sides))
    (tmp_path / "page.html").write_text(written_page, encoding="utf-8")
    with opened(browser, tmp_path / "page.html") as page:
        figure = page.locator("[data-chart=stages]")
        frame = figure.locator("svg").bounding_box()
        dots = [dot.bounding_box() for dot in figure.locator("g[aria-label=dot] > *").all()]
        places = [dot["x"] - frame["x"] for dot in dots]
        assert figure.locator("text", has_text="◀ -40.0 %").count() == 1  # on the way
    assert len(places) == 2
    assert frame["width"] - 20 > places[0] > places[1] > 100  # 1, 0.1


def test_stages_stand_in_rows_of_their_own_on_a_zoomed_axis_and_chance_is_marked(browser, tmp_path):
    def drawn(**changes):
        (tmp_path / "page.html").write_text(to_html(full_report(**changes)), encoding="utf-8")
        with opened(browser, tmp_path / "page.html") as page:
            figure = page.locator("[data-chart=stages]")
            boxes = [dot.bounding_box() for dot in figure.locator("g[aria-label=dot] > *").all()]
            ticks = figure.locator("g[aria-label='x-axis tick label'] text").all_text_contents()
            marked = figure.locator("text").filter(has_text=re.compile("chance|◀")).all_text_contents()
            return boxes, ticks, marked

    dots, ticks, marked = drawn(data={**report().data, "classes": 10})
    rows = [round(dot["y"] + dot["height"] / 2) for dot in dots]
    assert len(set(rows)) == 6 + 2  # six steps, two controls
    assert len(set(rows[6:9])) == 1  # the seeds of random
    assert min(float(tick.removesuffix(" %")) for tick in ticks) == 50  # the lowest is 50.0 %
    assert marked == ["← chance 10.0 %"]
    close = (Control(criterion="random", accuracies=(0.85,)),)
    dots, ticks, marked = drawn(data={**report().data, "classes": 4}, controls=close)
    assert min(float(tick.removesuffix(" %")) for tick in ticks) >= 84
    assert sorted(marked) == ["← chance 25.0 %", "◀ 50.0 %", "◀ 61.0 %"]
    low = (Control(criterion="random", accuracies=(0.2,)),)
    assert drawn(data={**report().data, "classes": 4}, controls=low)[2] == ["chance 25.0 %"]  # the axis reaches there
    assert drawn(controls=low)[2] == []


def test_a_table_that_scrolls_says_so_where_it_does(browser, place):
    visible = "all => all.map(each => each.offsetParent !== null)"
    with opened(browser, place / "full.html", viewport={"width": 390, "height": 700}) as page:
        page.wait_for_function("[...document.querySelectorAll('.hint')].some(each => !each.hidden)")
        assert page.is_visible(".hint:has(+ .scroll #comparison)")
        assert not page.is_visible(".hint:has(+ .scroll #stages)")
        page.emulate_media(media="print")
        assert not any(page.eval_on_selector_all(".hint", visible))
    with opened(browser, place / "full.html", viewport={"width": 1280, "height": 900}) as page:
        assert not any(page.eval_on_selector_all(".hint", visible))


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
        page.set_viewport_size({"width": 688, "height": 900})  # between the margins of an A4 page
        table = page.locator("#comparison")
        assert table.evaluate("e => e.getBoundingClientRect().right") <= 688


def test_without_scripts_the_tables_say_it_all(browser, place):
    with opened(browser, place / "full.html", java_script_enabled=False) as page:
        assert page.is_visible("#layers")
        assert page.is_visible("#stages")
        assert page.is_visible("noscript p")
        assert page.locator("figure.chart:visible").count() == 0
        assert not page.is_visible("#layer")
        assert page.locator("button").count() == 0
