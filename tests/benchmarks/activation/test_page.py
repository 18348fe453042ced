"""The tables and pictures of ``docs/research/activation.md``."""

import math

import numpy as np

from benchmarks.activation.__main__ import insert
from benchmarks.activation.image_page import reached
from benchmarks.activation.images import KINDS, LONGER, STEPS, TRIED_ON, moments, row
from benchmarks.activation.page import tables, tried
from benchmarks.activation.plots import draw
from benchmarks.activation.steps import spread
from benchmarks.activation.zoo import FIRST, FIXED, OURS
from tests.benchmarks.activation.made_up import measured


def test_steps_are_summed_up_with_failures_last():
    assert spread([10.0, 20.0, 30.0, 40.0, 50.0]) == "30 (20–40)"
    assert spread([10.0, 20.0, 30.0, None, None]) == "30 (20–never)"
    assert spread([10.0, None, None]) == "never"


def test_the_first_test_that_is_good_enough_counts():
    tests = moments(STEPS[10])
    rising = np.linspace(0, 1, len(tests))
    assert reached(rising, float(rising[7])) == tests[7]
    assert reached(rising, math.inf) is None


def test_the_page_shows_steps_and_failures_beside_betti_numbers():
    page = tables(measured())
    assert f"| {FIXED} | 10 (10–10) | not run | not run | not run | not run |" in page
    assert "| ReLU | 40 (40–40) | not run | not run | not run | not run |" in page
    assert f"| {FIRST} | 50 (50–never), 1 of 3 failed | 19 | 5 | 5 | 5 | 5 | 5 | 5 | 2 | 0.26 | 1 |" in page
    assert "| tanh | never (best 90.0 %) | 19 |" in page
    assert "frequency 6" not in page
    assert "| frequency 6 | 50 (50–never), 1 of 3 failed | 19 | 5 |" in tried(measured())
    assert "Not counted yet: frequency 4; frequency 4, decay 0.1" in tried(measured())
    assert not tried({})


def test_the_pictures_are_drawn(tmp_path):
    draw(measured(), tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {
        f"activation-{name}.png" for name in ("fold", "steps", "betti")
    }


def test_tables_stand_between_the_marks_of_the_page(tmp_path):
    page = tmp_path / "page.md"
    other = "<!-- tried -->\nas it was\n<!-- end of what was tried -->\n"
    page.write_text(f"before\n<!-- measured -->\nold\n<!-- end of what was measured -->\nafter\n{other}")
    insert(page, "measured", "new")
    insert(page, "measured", "newer")
    assert page.read_text() == (
        f"before\n<!-- measured -->\n\nnewer\n<!-- end of what was measured -->\nafter\n{other}"
    )


def test_the_page_says_by_how_much_ours_is_ahead_on_images():
    tests = len(moments(STEPS[2]))

    def entry(first_half, end):
        accuracy = [first_half] * (tests // 2) + [end] * (tests - tests // 2)
        return {"rate": 0.01, "accuracy": [accuracy] * 2, "final": [end] * 2}

    title = "CIFAR-10, cat or dog"
    rows = {
        row(OURS, title, "plain", "runs"): entry(0.7, 0.71),
        row("ReLU", title, "plain", "runs"): entry(0.5, 0.7),
        row("SiLU", title, "plain", "runs"): entry(0.5, 0.72),
    }
    text = tables(rows)
    first, later = moments(STEPS[2])[0], moments(STEPS[2])[tests // 2]
    assert f"| {title} | without | {later / first:.1f}× | -1.00 | SiLU |" in text
    assert "Trained" not in text
    rows[row(OURS, title, "plain", "runs")].update(device="cuda", precision="no")
    rows[row("ReLU", title, "plain", "runs")].update(device="cpu", precision="no")
    rows[row("SiLU", title, "plain", "runs")].update(device="cpu", precision="bf16")
    text = tables(rows)
    assert f"Trained in bfloat16: {title}, without BatchNorm: SiLU." in text
    assert f"Trained on a CPU in single precision: {title}, without BatchNorm: ReLU." in text


def test_the_page_says_which_trials_ran_in_16_bits():
    def trials(name, **more):
        trial = {"rate": 0.01, "scores": [0.5], "ends": [0.6], **more}
        return {row(name, title, kind, "trial"): trial for title in TRIED_ON for kind in KINDS}

    assert "bfloat16" not in tables(trials("GELU"))
    text = tables(trials("GELU") | trials("Mish", precision="bf16"))
    assert "| Mish | 50.0 · 60.0 |" in text
    assert text.count("Trained in bfloat16: Mish.") == 1


def test_the_page_shows_what_was_tried_and_then_trained_in_full():
    (title, kind), (name, *_) = next(iter(LONGER.items()))
    tests = moments(STEPS[10])
    entry = {"rate": 0.01, "accuracy": [[0.5] * (len(tests) - 3) + [0.75] * 3], "final": [0.75]}
    trials = {
        row("GELU", at, norm, "trial"): {"rate": 0.01, "scores": [0.5], "ends": [0.6]}
        for at in TRIED_ON
        for norm in KINDS
    }
    rows = {**trials, row("ReLU", title, kind, "runs"): entry}
    assert "Trained in full" not in tables(rows)
    text = tables({**rows, row(name, title, kind, "runs"): {**entry, "final": [0.8]}})
    assert f"Trained in full, as in the table of {title}, without BatchNorm:" in text
    assert f"| {name} | 0.01 | {tests[-3]} ({tests[-3]}–{tests[-3]}) | 0 | 80.00 % (80.0–80.0) |" in text
