"""Rows, stages and sentences of a report."""

import dataclasses

import pytest

from tests.helpers.reports import full_report, latency, report
from topocompress.reporting.budgets import missed
from topocompress.reporting.page import to_html
from topocompress.reporting.quantities import chance, comparison_rows, comparison_table, stages
from topocompress.reporting.wording import (
    fewer_bits,
    headline,
    inputs,
    judges,
    over_budget,
    parity,
    scales_taken,
    stage_lines,
    tuning_line,
    verdict,
    warnings,
)
from topocompress.reporting.write import to_markdown
from topocompress.types import Budget, Control, ExportCheck, Measurement, Probe

REFITTED = {"refitted": [{"layer": "a", "before": 0.5, "after": 0.1, "ridge": 0.1}], "refit_samples": 400}
USES = "1000 samples to calibrate, 397 held out"


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
        "Data: digits; 1000 samples to calibrate, 400 for fine-tuning, 397 held out.",
        "After removal: accuracy 50.0 %; with BatchNorm statistics re-estimated: 61.0 %.",
        "After 6 epochs of fine-tuning (best: 4): accuracy 87.5 %.",
        "Control, the same widths by random, BatchNorm re-estimated, no fine-tuning: accuracy 10.0 %, 20.0 %, 25.0 %.",
        "Control, the same widths by l1, BatchNorm re-estimated, no fine-tuning: accuracy 70.0 %.",
    ]


def test_a_control_that_was_drawn_once_says_why():
    once = report(controls=(Control(criterion="random", accuracies=(0.1,)),))
    assert stage_lines(once)[-1].endswith("accuracy 10.0 % (one draw: on these samples more would tell nothing).")


def test_stages_say_in_how_many_iterations_channels_went():
    lines = stage_lines(report(finetune={"epochs": 6, "best_epoch": 4, "iterations": 3}))
    assert "After 6 epochs of fine-tuning after each of 3 iterations of pruning (best: 4): accuracy 87.5 %." in lines


@pytest.mark.parametrize(("finetune", "train"), [({}, 400), ({"epochs": 1, "best_epoch": 1}, 0)])
def test_samples_to_fine_tune_on_are_counted_only_where_there_were_some(finetune, train):
    samples = {**report().data["samples"], "train": train}
    assert stage_lines(report(data={**report().data, "samples": samples}, finetune=finetune))[0] == (
        f"Data: digits; {USES}."
    )


def test_samples_held_out_of_another_folder_are_said_to_be_from_there():
    other = report(data={**report().data, "held_out_source": "others/"})
    assert stage_lines(other)[0].endswith("held out from others/.")
    assert judges(other) == f"{report().data['samples']['evaluation']} held-out samples of others/"


def test_a_note_on_the_data_is_said_once():
    noted = report(data={**report().data, "note": "handwritten"}, notes=("handwritten",))
    assert to_markdown(noted).count("handwritten") == 1
    assert "## Notes\n\n- Data: handwritten\n" in to_markdown(noted)


def test_the_file_in_fewer_bits_is_in_the_verdict_where_it_is_the_better_one():
    full = full_report()
    first, small = full.before.latency[0].median_ms, full.quantized.measurement.latency[0].median_ms
    end = f"; in INT8 {first / small:.2f}× faster, 10.00× smaller, accuracy 90.0 % → 86.1 % (-3.9 points)."
    assert verdict(full).endswith(f"accuracy 90.0 % → 87.5 % (-2.5 points){end}")
    worse = dataclasses.replace(full.quantized, kept=False)
    assert "INT8" not in verdict(full_report(quantized=worse))
    assert fewer_bits(full) == {"INT8": full.quantized.message}
    assert fewer_bits(full_report(quantized=worse)) == fewer_bits(report()) == {}


def test_of_two_files_in_fewer_bits_the_faster_one_is_in_the_verdict_and_both_are_told_of():
    full = full_report()
    half = dataclasses.replace(full.half, kept=True)
    assert "; in INT8 " in verdict(full_report(half=half))
    assert "FP16" not in verdict(full_report(half=half))
    fast = dataclasses.replace(half, measurement=dataclasses.replace(half.measurement, latency=(latency(1, 2.0),) * 2))
    both = full_report(half=fast)
    first = full.before.latency[0].median_ms
    assert f"; in FP16 {first / 2:.2f}× faster, 5.00× smaller, accuracy 90.0 % → 87.3 %" in verdict(both)
    assert "INT8" not in verdict(both)
    assert fewer_bits(both) == {"INT8": full.quantized.message, "FP16": full.half.message}


def over(kept):
    tries = (Probe(macs=0.5, value=0.4, met=True), Probe(macs=0.25, value=0.9, met=True))
    return Budget(option="--max-accuracy-drop", limit=1.0, probes=tries, samples=200, kept=kept)


def test_a_budget_that_was_not_kept_comes_first_and_is_said_once():
    said = missed(over(False), (report().before, report().after))
    assert said.startswith("--max-accuracy-drop 1 is not kept to: 2.50 points are lost")
    found = report(budget=over(False), warnings=(said, "Another."))
    text = to_markdown(found)
    assert text.splitlines()[2] == said
    assert text.count("is not kept to") == 1
    assert warnings(found) == ["Another."]
    assert over_budget(report(budget=over(True))) == over_budget(report()) == ""


def test_what_goes_in_is_known_of_images_and_of_other_inputs():
    def of(**preprocessing):
        return inputs(report(model={**report().model, "preprocessing": preprocessing}))

    how = {"resize": 256, "mean": (0.5,), "std": (0.25,)}
    assert of(input_shape=(1, 224, 200), **how) == (
        "1 × 224 × 200, short side to 256 pixels, centre crop (bilinear), scaled to 0..1, mean 0.5, standard "
        "deviation 0.25"
    )
    assert of(input_shape=(16, 8)) == "16 × 8"
    assert inputs(report()) == ""


@pytest.mark.parametrize(
    ("changes", "share"), [({"classes": 10}, 0.1), ({"classes": 1}, None), ({}, None), ({"labelled": False}, None)]
)
def test_chance_is_a_guess_among_the_classes(changes, share):
    assert chance(report(data={**report().data, **changes})) == share


def test_without_labels_the_stages_say_agreement():
    lines = stage_lines(report(data={**report().data, "labelled": False}))
    assert lines == [
        "Data: digits; 1000 samples to calibrate, 397 held out.",
        "After removal: agreement 55.0 %; with BatchNorm statistics re-estimated: unknown.",
    ]


def test_outputs_that_are_no_classes_are_spoken_of_as_what_was_compared():
    data = {
        **report().data,
        "labelled": False,
        "measure": "explained_variation",
        "compared_by": "R²",
    }
    removed = {"explained_variation": 0.25, "explained_variation_recalibrated": 0.5}
    before, after = (
        dataclasses.replace(
            side, accuracy=None, agreement=None, explained_variation=share, outputs={"boxes": share, "a|b": 0.99}
        )
        for side, share in ((report().before, 1.0), (report().after, 0.75))
    )
    export = dataclasses.replace(report().export, top1_agreement=None)
    made = report(data=data, removed=removed, before=before, after=after, export=export)
    assert stage_lines(made)[1:] == [
        "Outputs are compared by R².",
        "After removal: explained variation 25.0 %; with BatchNorm statistics re-estimated: 50.0 %.",
    ]
    assert verdict(made).endswith("explains 75.0 % of the variation of the original's outputs.")
    rows = {row[0]: row[1:3] for row in comparison_rows(made)}
    assert rows["Explained variation of the outputs"] == ("100.0 %", "75.0 %")
    assert rows["... of boxes"] == ("100.0 %", "75.0 %")
    assert not any("greement" in row for row in rows)
    assert parity(made).endswith("of the largest output).")
    assert r"| ... of a\|b | 99.0 % |" in to_markdown(made)


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


@pytest.mark.parametrize(
    ("changes", "kinds"),
    [
        ({}, ["INT8", "FP16"]),
        ({"quantized": None}, ["FP16"]),
        ({"half": None}, ["INT8"]),
        ({"quantized": None, "half": None}, []),
    ],
)
def test_files_in_fewer_bits_stand_beside_the_other_two(changes, kinds):
    head, *rows = comparison_table(full_report(**changes))
    assert head == ("", "before", "after", "change", *(cell for kind in kinds for cell in (kind, "change")))
    (accuracy,) = [row for row in rows if row[0] == "Accuracy"]
    shown = {"INT8": ("86.1 %", "-3.9 points"), "FP16": ("87.3 %", "-2.7 points")}
    assert accuracy[4:] == tuple(cell for kind in kinds for cell in shown[kind])
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
        "FP16": (cut, (0.873,)),
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


def test_the_file_of_a_detector_is_held_against_its_boxes():
    check = ExportCheck(samples=8, max_abs=0.002, max_rel=0.002, top1_agreement=0.893, opset=20, stability=0.797)
    assert parity(full_report(export=check)) == (
        "ONNX Runtime against PyTorch on 8 images: 89.3 % of the boxes are the same (PyTorch alone keeps 79.7 % where "
        "pixels change by 0.00001 of their range), their scores differ by 0.002 at most."
    )


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


def test_what_was_refitted_is_said_and_a_stage_of_its_own():
    refits = [
        {"layer": "a", "before": 0.5, "after": 0.1, "ridge": 0.1},
        {"layer": "b", "before": 0.7, "after": 0.3, "ridge": 1.0},
        {"layer": "c", "before": 0.2, "after": 0.2, "ridge": None},
    ]
    removed = {"accuracy": 0.5, "accuracy_recalibrated": 0.61, "accuracy_repaired": 0.8, "refitted": refits}
    found = report(removed={**removed, "refit_samples": 400}, controls=(Control(criterion="l1", accuracies=(0.7,)),))
    assert stage_lines(found)[2:] == [
        "Reconstructed without labels: accuracy 80.0 %; 2 of 3 layers fitted to what they gave before on 400 samples, "
        "their error on those held out 0.60 → 0.20 of the variance.",
        "Control, the same widths by l1, reconstructed alike: accuracy 70.0 %.",
    ]
    names = [each.name for each in stages(found)]
    assert names == ["Original", "After removal", "BatchNorm re-estimated", "Reconstructed", "Control: l1"]


def test_why_nothing_was_refitted_is_said():
    removed = {
        "accuracy": 0.5,
        "accuracy_recalibrated": 0.61,
        "not_refitted": "which layers run depends on the samples",
    }
    found = report(removed=removed)
    assert stage_lines(found)[2] == "Nothing was refitted after removal: which layers run depends on the samples."
    assert "Reconstructed" not in [each.name for each in stages(found)]


def test_distilled_blocks_are_said_and_a_stage_of_their_own():
    removed = {"accuracy": 0.5, "accuracy_recalibrated": 0.61, "accuracy_distilled": 0.83, "distilled_epochs": 20}
    controls = (Control(criterion="l1", accuracies=(0.7,)),)
    alike = report(removed={**removed, "accuracy_repaired": 0.8, **REFITTED}, controls=controls)
    assert "the same widths by l1, reconstructed and distilled alike: accuracy" in stage_lines(alike)[-1]
    found = report(removed=removed)
    assert "Blocks distilled without labels, 20 epochs on the samples: accuracy 83.0 %." in stage_lines(found)
    assert "Blocks distilled" in [each.name for each in stages(found)]
    found = report(removed=removed | {"distilled_epochs": 0, "not_distilled": "too few samples"})
    assert "Blocks were not distilled: too few samples." in stage_lines(found)
    assert "Blocks distilled" not in [each.name for each in stages(found)]


def test_the_scales_that_layers_took_are_said():
    def taken(*scales):
        layers = [{"layer": "a", "scale": scale} if scale else {"layer": "a"} for scale in scales]
        return scales_taken({"settings": {"scale": "components:0.2"}, "layers": layers})

    assert taken("quantile:0.2", "quantile:0.09", "quantile:0.1") == [
        "Scale components:0.2 came to quantile:0.09 to 0.2, layer by layer."
    ]
    assert taken("quantile:0.2") == ["Scale components:0.2 came to quantile:0.2, layer by layer."]
    assert taken("", "") == []
    assert scales_taken({}) == []


def test_figures_on_training_images_say_so():
    seen = report(data={**report().data, "trained_on": True})
    assert "accuracy on training images 90.0 % → 87.5 % (-2.5 points)" in verdict(seen)
    assert ("Accuracy on training images", "90.0 %", "87.5 %", "-2.5 points") in comparison_rows(seen)
    assert f"Data: digits; {USES}, all of them training images." in stage_lines(seen)
    assert judges(seen) == "397 held-out samples of digits, on which the network was trained"
    assert "Judged on 397 held-out samples of digits, on which the network was trained." in to_markdown(seen)
    assert "on which the network was trained" in to_html(seen)
    for said in (None, False):
        other = report(data={**report().data, "trained_on": said})
        assert verdict(other) == verdict(report())
        assert "training images" not in " ".join(stage_lines(other))
        assert "on which the network" not in to_html(other)


@pytest.mark.parametrize(
    ("option", "apart", "said"),
    [("--max-accuracy-drop", False, True), ("--max-accuracy-drop", True, False), ("--target-latency", False, False)],
)
def test_a_loss_measured_on_the_samples_that_chose_the_network_says_so(option, apart, said):
    found = report(budget=Budget(option=option, limit=3.0, probes=(Probe(macs=0.5, value=2.5, met=True),), apart=apart))
    assert ("(-2.5 points on the samples that chose it)" in verdict(found)) == said
    assert ("(-2.5 points)" in verdict(found)) == (not said)
