"""What is said of a budget."""

from dataclasses import replace

import pytest

from tests.helpers.descriptions import sides
from topocompress.reporting.budgets import line, missed, settled
from topocompress.types import Budget, Probe


def budget(option, limit, *values, **more):
    probes = tuple(Probe(macs=0.9 - n / 10, value=value, met=value <= limit) for n, value in enumerate(values))
    return Budget(option=option, limit=limit, probes=probes, **more)


def kept(found, measured):
    known = settled(found, measured)
    assert bool(missed(known, measured)) is not known.kept
    return known.kept


def test_a_latency_outside_its_budget_is_told_of_beyond_noise():
    asked = budget("--target-latency", 0.6, 0.9, 0.59)
    assert kept(asked, sides((10.0, 6.4)))
    assert not kept(asked, sides((10.0, 6.6)))
    said = missed(settled(asked, sides((10.0, 6.6))), sides((10.0, 6.6)))
    assert said.startswith("--target-latency 0.6 is not kept to: measured again, the finished network takes 0.66 of")


def accuracies(before, after, name="accuracy"):
    return tuple(replace(side, **{name: value}) for side, value in zip(sides(), (before, after), strict=True))


def test_an_accuracy_outside_its_budget_is_told_of_beside_what_chose_it():
    asked = budget("--max-accuracy-drop", 1.0, 0.2, 0.9, 3.0, samples=500, apart=True)
    assert kept(asked, accuracies(0.9, 0.891))
    assert kept(asked, accuracies(0.885, 0.875))  # a point, whose difference as binary fractions is more
    assert not kept(asked, accuracies(0.9, 0.886))
    said = missed(settled(asked, accuracies(0.9, 0.886)), accuracies(0.9, 0.886))
    assert "1.40 points are lost on the held-out samples by the largest of the 2 networks" in said
    assert "were within it on the 500 samples that judged the tries, where it was 0.2" in said
    alone = budget("--max-accuracy-drop", 1.0, 0.2, samples=500)
    said = missed(settled(alone, accuracies(0.9, 0.886)), accuracies(0.9, 0.886))
    assert "by the only network that was within it" in said


def test_a_metric_is_in_its_own_unit():
    asked = budget("--max-metric-drop", 0.01, 0.005, samples=500)
    assert kept(asked, accuracies(0.9, 0.891, "metric"))
    assert not kept(asked, accuracies(0.9, 0.88, "metric"))


def test_what_was_not_measured_or_not_asked_for_is_not_missed():
    assert settled(None, sides()) is None
    assert missed(None, sides()) == ""
    assert kept(budget("--target-size", 1e6, 9e5), sides())


def test_a_sentence_says_who_judged_and_how_sure_it_is():
    assert line(budget("--target-size", 2e6, 1.9e6)) == ("--target-size 2MB: 1 try, within it; that network was taken.")
    assert line(budget("--target-size", 2e6, 1.9e6, 2.1e6, 1.8e6)) == (
        "--target-size 2MB: 3 tries, 2 of them within it; of those the largest network was taken."
    )
    sure = Budget(
        option="--max-accuracy-drop",
        limit=1.0,
        probes=(Probe(macs=0.5, value=0.2, upper=0.9, met=True), Probe(macs=0.4, value=0.3, upper=0.95, met=True)),
        samples=700,
        apart=True,
        stepped_back=2,
    )
    assert "within it, with 95 % confidence for others like these, as judged on 700 samples kept for that" in line(sure)
    assert line(sure).endswith("the smallest network was taken, which 2 smaller were not on the held-out samples.")
    assert "which 1 smaller was not on" in line(replace(sure, stepped_back=1))
    assert "held-out samples, on which the loss reads smaller than it is" in line(replace(sure, apart=False))
    alone = replace(sure, probes=sure.probes[:1], stepped_back=0)
    assert line(alone).startswith("--max-accuracy-drop 1: 1 try, within it, with 95 % confidence for others like these")
    assert line(alone).endswith("; that network was taken.")


def test_what_samples_were_too_few_for_is_said():
    tries = (
        Probe(macs=0.5, value=4.0, upper=7.2, met=False),
        Probe(macs=0.75, value=1.0, upper=3.3, met=False),
        Probe(macs=0.88, value=0.3, upper=2.1, met=False),
        Probe(macs=0.94, value=-0.3, upper=0.9, met=True),
    )
    found = Budget(option="--max-accuracy-drop", limit=1.0, probes=tries, samples=300)
    assert line(found).endswith(
        "of those the smallest network was taken. One with 0.75 of the multiply-accumulates lost 1 point on these 300 "
        "samples, too few to be sure of others: more labelled images may allow it."
    )
    assert "lost nothing on these" in line(replace(found, probes=(replace(tries[2], value=0.0), tries[3])))
    assert "more labelled" not in line(replace(found, probes=(tries[0], tries[3])))


@pytest.mark.parametrize("option", ["--max-accuracy-drop", "--max-metric-drop"])
def test_without_a_bound_no_confidence_is_claimed(option):
    assert "confidence" not in line(budget(option, 1.0, 0.2, samples=10))
