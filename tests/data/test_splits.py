from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topocompress.data import splits
from topocompress.data.splits import HELD_OUT, split


@dataclass(frozen=True)
class Case:
    """Labels, and which of the samples are usable and given as held out."""

    labels: np.ndarray
    usable: np.ndarray
    held_out: np.ndarray | None
    seed: int

    def split(self, samples, eval_samples=None, **changes):
        options = {"seed": self.seed, "usable": self.usable, "held_out": self.held_out} | changes
        return split(self.labels, samples=samples, eval_samples=eval_samples, **options)


@st.composite
def cases(draw):
    labels = np.array(draw(st.lists(st.integers(-1, 4), min_size=1, max_size=80)), dtype=np.int64)
    flags = st.lists(st.booleans(), min_size=len(labels), max_size=len(labels))
    usable = np.array(draw(st.one_of(st.just([True] * len(labels)), flags)))
    held_out = draw(st.one_of(st.none(), flags.map(np.flatnonzero)))
    return Case(labels=labels, usable=usable, held_out=held_out, seed=draw(st.integers(0, 2**32 - 1)))


wanted = st.integers(1, 100)
limits = st.none() | st.integers(1, 30)


@given(cases(), wanted, limits)
def test_no_sample_has_two_uses_and_only_usable_ones_have_any(case, samples, eval_samples):
    parts = case.split(samples, eval_samples)
    together = np.concatenate([parts.calibration, parts.train, parts.evaluation]).tolist()
    assert len(set(together)) == len(together)
    assert set(together) <= set(np.flatnonzero(case.usable).tolist())
    if case.held_out is not None:
        assert set(parts.evaluation.tolist()) <= set(case.held_out.tolist())
        assert not {*parts.calibration.tolist(), *parts.train.tolist()} & set(case.held_out.tolist())


@given(cases(), wanted)
def test_every_usable_sample_has_a_use(case, samples):
    parts = case.split(samples)
    together = sorted([*parts.calibration, *parts.train, *parts.evaluation])
    assert together == np.flatnonzero(case.usable).tolist()


@given(cases(), wanted, limits)
def test_sizes(case, samples, eval_samples):
    everything, parts = case.split(samples), case.split(samples, eval_samples)
    pool = int(case.usable.sum()) - len(everything.evaluation)
    assert len(parts.calibration) == min(samples, pool)
    assert len(parts.train) == pool - len(parts.calibration)
    assert len(parts.evaluation) == min(len(everything.evaluation), eval_samples or len(case.labels))
    if case.held_out is None:
        assert len(everything.evaluation) > 0 or not case.usable.any()


@given(cases(), wanted)
def test_calibration_is_balanced_within_one_as_far_as_there_are_samples(case, samples):
    parts = case.split(samples)
    counts = Counter(case.labels[parts.calibration].tolist())
    for label in set(case.labels[parts.train].tolist()):  # classes that could have given more
        assert counts[label] >= max(counts.values()) - 1


@given(cases(), wanted)
def test_a_fifth_of_each_class_is_held_out_within_one(case, samples):
    held_out = Counter(case.labels[case.split(samples, held_out=None).evaluation].tolist())
    for label, size in Counter(case.labels[case.usable].tolist()).items():
        assert abs(held_out[label] - HELD_OUT * size) < 1


@given(cases(), wanted, limits)
def test_the_same_seed_gives_the_same_parts(case, samples, eval_samples):
    first, second = (case.split(samples, eval_samples) for _ in range(2))
    for use in ("calibration", "train", "evaluation"):
        assert getattr(first, use).tolist() == getattr(second, use).tolist()


@given(cases(), wanted, wanted)
def test_more_calibration_samples_keep_the_first_ones(case, few, more):
    first, second = case.split(few), case.split(few + more)
    assert second.calibration[: len(first.calibration)].tolist() == first.calibration.tolist()
    assert second.evaluation.tolist() == first.evaluation.tolist()


@given(cases(), wanted, st.integers(0, 1000))
def test_a_split_seed_fixes_the_evaluation_samples_for_all_seeds(case, samples, other):
    first, second = (case.split(samples, split_seed=7, seed=seed) for seed in (case.seed, other))
    assert first.evaluation.tolist() == second.evaluation.tolist()


@pytest.mark.parametrize("seed", range(5))
def test_by_hand(seed):
    labels = np.repeat([0, 1, 2], [500, 300, 20]).astype(np.int64)
    parts = split(labels, samples=120, eval_samples=None, seed=seed)
    assert Counter(labels[parts.evaluation]) == {0: 100, 1: 60, 2: 4}
    assert Counter(labels[parts.calibration]) == {0: 52, 1: 52, 2: 16}
    other = split(labels, samples=120, eval_samples=None, seed=seed + 100)
    assert parts.calibration.tolist() != other.calibration.tolist()
    assert parts.evaluation.tolist() != other.evaluation.tolist()


def test_a_tiny_pool_still_evaluates_on_something():
    parts = split(np.array([0, 1]), samples=5, eval_samples=None, seed=0)
    assert (len(parts.calibration), len(parts.evaluation)) == (1, 1)


@given(cases(), wanted, limits, st.integers(1, 40))
def test_samples_that_judge_have_no_other_use_and_the_choice_of_calibration_does_not_depend_on_them(
    case, samples, eval_samples, judging
):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(splits, "LEAST_JUDGES", 1)
        parts, without = (case.split(samples, eval_samples, judging=count) for count in (judging, 0))
    uses = (parts.calibration, parts.train, parts.evaluation, parts.judging)
    together = np.concatenate(uses).tolist()
    assert len(set(together)) == len(together)
    assert len(parts.judging) <= judging
    assert len(without.judging) == 0
    np.testing.assert_array_equal(parts.calibration, without.calibration)
    if case.held_out is None:  # they come from what is left for fine-tuning, which keeps half
        np.testing.assert_array_equal(parts.evaluation, without.evaluation)
        assert len(parts.train) >= len(without.train) / 2
    else:
        assert set(parts.judging.tolist()) <= set(case.held_out.tolist())
        np.testing.assert_array_equal(parts.train, without.train)


@pytest.mark.parametrize(
    ("held_out", "evaluation", "judging"), [(5000, 2000, 2000), (3000, 1500, 1500), (600, 300, 300), (500, 500, 0)]
)
def test_judges_of_a_divided_set_are_others_of_those_held_out_or_half_of_them(held_out, evaluation, judging):
    parts = split(
        np.zeros(held_out + 100, dtype=np.int64),
        samples=50,
        eval_samples=2000,
        seed=0,
        held_out=np.arange(100, held_out + 100),
        judging=2000,
    )
    assert (len(parts.evaluation), len(parts.judging)) == (evaluation, judging)
    assert (len(parts.calibration), len(parts.train)) == (50, 50)


@pytest.mark.parametrize(("left", "judging"), [(600, 300), (10_000, 2000)])
def test_judges_of_a_set_that_is_not_divided_are_at_most_half_of_what_is_left(left, judging):
    count = round((left + 400) / (1 - HELD_OUT))
    labels = np.zeros(count, dtype=np.int64)
    parts = split(labels, samples=count - round(HELD_OUT * count) - left, eval_samples=None, seed=0, judging=2000)
    assert (len(parts.judging), len(parts.train)) == (judging, left - judging)


@pytest.mark.parametrize(
    ("total", "evaluation"), [(150, 50), (200, 100), (400, 300), (1249, 300), (1600, 320), (10_000, 2000)]
)
def test_of_few_images_more_are_held_out_where_something_is_judged(total, evaluation):
    labels = np.arange(total, dtype=np.int64) % 2
    parts = split(labels, samples=1000, eval_samples=None, seed=0, judging=2000)
    assert len(parts.evaluation) == evaluation
    assert len(parts.calibration) == min(1000, total - evaluation)
    plain = split(labels, samples=1000, eval_samples=None, seed=0)
    assert len(plain.evaluation) == round(HELD_OUT * total)
