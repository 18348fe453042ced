import shlex

import pytest

from tests.helpers.synthetic import layer, scores
from topocompress.reporting.advice import Situation, advise, ahead, hasten, loss, outdone
from topocompress.types import Control, GroupPlan, Latency, Measurement, PruningPlan

FOUND = scores({"a": layer([100, 310, 320]), "b": layer([330, 350, 200, 90, 80, 70, 60])})
PLAN = PruningPlan(
    model="m",
    rule={},
    criterion="betti",
    groups=(
        GroupPlan(root="a", width=3, remove=(1,)),
        GroupPlan(root="b", width=7, remove=(0, 1)),
        GroupPlan(root="head", width=90, protected="feeds the model's output"),
    ),
    macs_before=2,
    macs_after=1,
)
COMMAND = ("prune", "my model.pt", "--max-betti", "300", "--data", "digits", "--out", "run")
BLOCKS = "Let blocks learn from the original for a few minutes, which takes no labels"
LABELS = "Fine-tune on your own labelled images (one folder per class)"


def advice(command=COMMAND, *, plan=PLAN, found=FOUND, controls=(), **changes):
    situation = Situation(**{"command": command, "labelled": True, "finetune": 0, "max_betti": 300.0, **changes})
    return advise(situation, found, plan, controls)


def test_a_run_without_reconstruction_is_told_of_it_first():
    what, command = advice((*COMMAND, "--no-reconstruct"))[0]
    assert what == "Let layers be refitted, which takes no labels"
    assert words(command) == [*COMMAND, "--force"]


def words(command):
    split = shlex.split(command)
    assert split[0] == "topocompress"
    return split[1:]


def test_remedies_come_in_order_tuning_then_blocks_then_threshold_then_criterion():
    what, commands = zip(*advice(), strict=True)
    assert what == (
        "Fine-tune for 5 epochs",
        BLOCKS,
        "Raise the threshold: 2 filters are above 325, 4 above 300",
        "Choose by another criterion (persistence) at the same share of channels",
    )
    start = ["prune", "my model.pt"]
    tail = ["--data", "digits", "--out", "run"]
    assert [words(command) for command in commands] == [
        [*start, "--max-betti", "300", *tail, "--finetune", "5", "--force"],
        [*start, "--max-betti", "300", *tail, "--distill-blocks", "40", "--force"],
        [*start, *tail, "--max-betti", "325", "--force"],
        [*start, *tail, "--criterion", "persistence", "--ratio", "0.30", "--force"],
    ]
    assert commands[0].startswith("topocompress prune 'my model.pt' ")


def test_a_threshold_that_was_scaled_is_given_with_its_samples():
    what, command = next(each for each in advice(scaled=True) if each[0].startswith("Raise the threshold"))
    assert what == "Raise the threshold: 2 filters are above 325, 4 above 300"
    given = ["--max-betti", "325", "--samples", str(FOUND.samples), "--force"]
    assert words(command) == ["prune", "my model.pt", "--data", "digits", "--out", "run", *given]


def test_a_network_without_one_class_per_image_is_not_to_be_tuned_on_labelled_images():
    assert [what for what, _ in advice(labelled=False)[:2]] == [BLOCKS, LABELS]
    assert "tune" not in advice(labelled=False, classifies=False)[0][0]


def test_tuning_that_was_done_is_doubled_and_its_option_replaced():
    command = (*COMMAND, "--finetune=4", "--force")
    what, first = advice(command, finetune=4)[0]
    assert what == "Fine-tune for 8 epochs instead"
    assert words(first) == [*COMMAND, "--finetune", "8", "--force"]
    assert advice(finetune=1)[0][0] == "Fine-tune for 5 epochs instead"


def test_without_labels_own_labelled_images_come_first():
    command = ("prune", "model.pt", "--max-betti", "300", "--data", "imagefolder:flat")
    what, first = advice((*command, "--distill-blocks", "20"), labelled=False)[0]
    assert what == LABELS
    assert words(first) == [
        *command[:4],
        "--distill-blocks",
        "20",
        "--data",
        "imagefolder:PATH",
        "--finetune",
        "5",
        "--force",
    ]


def test_without_labels_own_images_serve_to_learn_from_the_original():
    command = ("prune", "model.pt", "--max-betti", "300", "--data", "imagefolder:flat", "--distill", "--finetune", "4")
    (what, first), (then, _), (other, _), *_ = advice(command, labelled=False, teachable=True, finetune=4)
    assert what == "Let it learn from the original on your images for 8 epochs instead"
    assert words(first) == [*command[:6], "--distill", "--finetune", "8", "--force"]
    assert (then, other) == (BLOCKS, LABELS)
    what, _ = advice(labelled=False, teachable=True, classifies=False)[0]
    assert what == "Let it learn from the original on your images for 5 epochs"


def test_a_threshold_is_proposed_only_where_it_was_the_rule_and_more_than_one_filter_is_above():
    command = ("prune", "model.pt", "--ratio", "0.3", "--criterion", "betti")
    what, commands = zip(*advice(command, max_betti=None), strict=True)
    assert [text.split()[0] for text in what] == ["Fine-tune", "Let", "Choose"]
    assert words(commands[2]) == ["prune", "model.pt", "--ratio", "0.3", "--criterion", "persistence", "--force"]
    one = scores({"a": layer([1, 2, 301])})
    assert [text.split()[0] for text, _ in advice(found=one)] == ["Fine-tune", "Let", "Choose"]


def test_after_persistence_a_criterion_is_proposed_only_if_it_kept_more_in_this_run():
    plan = PruningPlan(**{**vars(PLAN), "criterion": "persistence"})
    command = ("prune", "model.pt", "--criterion=persistence", "--ratio", "0.3")

    def proposed(*controls, left=0.8):
        found = advice(command, plan=plan, max_betti=None, left=left, controls=controls)
        return [each for each in found if "criterion" in each[0]]

    worse, better, chance = (
        Control(criterion=name, accuracies=(kept,)) for name, kept in (("l1", 0.7), ("l1", 0.9), ("random", 0.95))
    )
    assert proposed() == proposed(worse) == proposed(chance) == proposed(better, left=None) == []
    ((what, last),) = proposed(better, chance)
    assert "(l1)" in what
    assert words(last) == ["prune", "model.pt", "--ratio", "0.3", "--criterion", "l1", "--force"]


def test_options_of_betti_do_not_go_to_another_criterion():
    command = ("prune", "model.pt", "--max-betti", "300", "--scale", "quantile:0.1", "--dims=0")

    assert not {"--scale", "--dims=0", "quantile:0.1"} & set(words(advice(command)[-1][1]))


def test_words_that_a_shell_would_read_are_quoted():
    command = ("prune", "a b.pt", "--data", "imagefolder:$HOME/it's;here", "--max-betti", "300")
    for _, text in advice(command):
        assert "imagefolder:$HOME/it's;here" in words(text)
        assert "a b.pt" in words(text)


def measured(accuracy=None, agreement=None):
    return Measurement(parameters=1, macs=1, accuracy=accuracy, agreement=agreement)


@pytest.mark.parametrize(
    ("before", "after", "lost"),
    [
        (measured(0.9, 1.0), measured(0.7, 0.75), 0.2),
        (measured(0.7, 1.0), measured(0.9, 0.75), -0.2),
        (measured(None, 1.0), measured(None, 0.75), 0.25),
        (measured(None, 1.0), measured(0.3, 0.75), 0.25),
        (measured(), measured(), 0.0),
    ],
)
def test_loss_is_accuracy_lost_or_else_agreement_lost(before, after, lost):
    assert loss(before, after) == pytest.approx(lost)


RANDOM = Control(criterion="random", accuracies=(0.5, 0.6, 0.7))
L1 = Control(criterion="l1", accuracies=(0.8,))


def test_every_control_that_did_as_well_or_better_is_named():
    assert outdone("betti", 0.55, [RANDOM, L1], tuned=True) == (
        "On this model random and l1 pruning to the same widths did as well or better before fine-tuning: "
        "betti 55.0 %, random 60.0 % and l1 80.0 %."
    )
    assert outdone("betti", 0.7, [RANDOM, L1], tuned=False) == (
        "On this model l1 pruning to the same widths did as well or better: betti 70.0 %, random 60.0 % and l1 80.0 %."
    )
    assert "l1 pruning" in outdone("betti", 0.8, [L1], tuned=False)  # a tie is no win
    assert ahead("betti", 0.8, [L1], tuned=True) == ahead("betti", 0.7, [RANDOM, L1], tuned=True) == ""


def test_a_criterion_that_won_is_not_outdone():
    assert outdone("betti", 0.9, [RANDOM, L1], tuned=True) == ""
    assert ahead("betti", 0.9, [RANDOM, L1], tuned=True) == (
        "Before fine-tuning betti kept 90.0 %, the same widths by random 60.0 % and l1 80.0 %."
    )
    assert ahead("betti", 0.9, [RANDOM, L1], tuned=False) == (
        "At these widths betti kept 90.0 %, random 60.0 % and l1 80.0 %."
    )


def test_nothing_is_said_of_controls_without_labels_or_controls():
    for sentence in (outdone, ahead):
        assert sentence("betti", None, [L1], tuned=False) == sentence("betti", 0.9, [], tuned=False) == ""


@pytest.mark.parametrize(
    ("measured", "lost"),
    [({"explained_variation": 0.75}, 0.25), ({"agreement": 0.5}, 0.5), ({"explained_variation": 0.0}, 1.0), ({}, 0.0)],
)
def test_what_is_lost_without_labels_is_what_lacks_to_the_original(measured, lost):
    before = Measurement(parameters=1, macs=1)
    assert loss(before, Measurement(parameters=1, macs=1, **measured)) == lost


def timed(macs, median):
    return Measurement(parameters=1, macs=macs, latency=(Latency(batch=1, median_ms=median, p95_ms=99.0, runs=9),))


def hastened(command, rule, faster, kept=(18, 16), **changes):
    """What is proposed where 2.5 times fewer multiply-accumulates come to ``faster``."""
    groups = tuple(GroupPlan(root=f"g{n}", width=24, remove=tuple(range(24 - left))) for n, left in enumerate(kept))
    plan = PruningPlan(model="m", rule=rule, criterion="persistence", groups=groups, macs_before=1000, macs_after=400)
    situation = Situation(**{"command": command, "labelled": True, "finetune": 0, "max_betti": None, **changes})
    found = hasten(situation, plan, (timed(1000, 10.0), timed(400, 10.0 / faster)))
    assert all(words(text)[-1] == "--force" for _, text in found)
    return [(what.split()[0], words(text)[:-1]) for what, text in found]


MACS = ("prune", "m.pt", "--target-macs", "0.4")
GLOBAL = {"target_macs": 0.4, "allocation": "global"}


def test_where_time_fell_less_than_macs_whole_blocks_equal_shares_and_a_latency_are_proposed():
    assert hastened(MACS, GLOBAL, 1.2) == [
        ("Keep", [*MACS, "--round-to", "8"]),
        ("Take", [*MACS, "--allocation", "uniform"]),
        ("Ask", ["prune", "m.pt", "--target-latency", "0.62"]),
    ]
    assert [first for first, _ in hastened(MACS, {"target_macs": 0.4}, 1.2)] == ["Keep", "Ask"]
    assert [first for first, _ in hastened(MACS, GLOBAL, 1.2, kept=(16, 8))] == ["Ask"]


def test_nothing_is_proposed_where_time_fell_as_much_as_blocks_let_it():
    assert hastened(MACS, GLOBAL, 2.1) == []
    assert [first for first, _ in hastened(MACS, GLOBAL, 1.8)] == ["Keep"]
    assert hastened(MACS, GLOBAL, 1.8, kept=(16, 24)) == []


def test_nothing_is_proposed_that_the_run_was_given_and_no_other_goal_than_its_budget():
    given = (*MACS, "--round-to=2", "--allocation", "global")
    assert [first for first, _ in hastened(given, GLOBAL, 1.2)] == ["Ask"]
    for budget in ("target_latency", "max_accuracy_drop", "target_size"):
        found = hastened(("prune", "m.pt"), {**GLOBAL, budget: 0.5}, 1.2)
        assert [first for first, _ in found] == ["Keep", "Take"]


def test_a_threshold_gives_way_to_a_latency_by_the_same_criterion():
    command = ("prune", "m.pt", "--max-betti", "300", "--iterations", "2", "--finetune", "1")
    (last,) = hastened(command, {"max_betti": 300}, 1.2, kept=(16, 16), max_betti=300.0)
    kept = ["prune", "m.pt", "--iterations", "2", "--finetune", "1"]  # a latency can be had iteratively
    assert last[1] == [*kept, "--criterion", "persistence", "--target-latency", "0.62"]


def test_a_run_from_python_has_no_command_to_change():
    assert hastened((), GLOBAL, 1.2) == []


@pytest.mark.parametrize(
    ("error", "close"),
    # one-sided 95 % are 1.645 errors: 0.1 is 1.6 of 0.0625 and 1.67 of 0.06
    [(0.0625, " On these samples that is no clear difference from l1."), (0.06, ""), (None, "")],
)
def test_what_the_samples_cannot_tell_from_a_control_is_said(error, close):
    controls = [
        Control(criterion="random", accuracies=(0.5,), error=0.0625),
        Control(criterion="l1", accuracies=(0.8,), error=error),
    ]
    found = ahead("betti", 0.9, controls, tuned=False)
    assert found == f"At these widths betti kept 90.0 %, random 50.0 % and l1 80.0 %.{close}"


def test_labelled_images_of_ones_own_are_not_said_to_be_without_labels():
    said = ("prune", "m.pt", "--data", "photos/", "--unlabelled", "--trained-on", "--ratio", "0.5")
    own = dict(advice(said, labelled=False, max_betti=None))[LABELS]
    assert words(own) == ["prune", "m.pt", "--ratio", "0.5", "--data", "imagefolder:PATH", "--finetune", "5", "--force"]
