"""The steps called one by one on networks that take several tensors, in all the ways in which a forward can."""

import pytest
import torch

import topocompress
from tests.helpers.several_inputs import FORMS, example_inputs, made
from topocompress.errors import ModelError

NOISE = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(2))
WORDS = torch.randint(0, 11, (6, 4), generator=torch.Generator().manual_seed(2))


def batches(form):
    both = NOISE, WORDS
    inputs = both if form in ("positional", "starred") else dict(zip(("image", "words"), both, strict=True))
    return [(inputs, torch.arange(6) % 5)]


def outputs(model, form):
    ((inputs, _),) = batches(form)
    with torch.no_grad():
        return {"named": lambda: model(**inputs), "dict": lambda: model(inputs)}.get(form, lambda: model(*inputs))()


@pytest.mark.parametrize("form", FORMS)
def test_score_plan_apply_and_measure_take_what_forward_takes(form):
    model, example = made(form), example_inputs(form)
    before = outputs(model, form)
    scores = topocompress.score(model, batches(form), criterion="hrank", example=example)
    plan = topocompress.plan(model, scores, example=example, ratio=0.5)
    smaller = topocompress.apply(model, plan, example=example)
    assert [smaller.first.out_channels, smaller.second.out_channels] == [8, 8]
    assert torch.equal(outputs(model, form), before)
    assert outputs(smaller, form).shape == before.shape  # called as the network itself is
    assert not any("topocompress" in name for net in (model, smaller) for name in vars(net))
    found = topocompress.measure(smaller, example=example, evaluation=batches(form), reference=model)
    assert found.macs == plan.macs_after < plan.macs_before
    expected = (outputs(smaller, form).argmax(1) == torch.arange(6) % 5).float().mean()
    assert found.accuracy == pytest.approx(float(expected))


def test_the_first_sample_is_the_example_where_none_is_given():
    scored = [
        topocompress.score(made("named"), batches("named"), criterion="hrank", **options)
        for options in ({}, {"example": example_inputs("named")})
    ]
    assert (scored[0].layers["first"].values == scored[1].layers["first"].values).all()


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        (NOISE, "batch 0 holds a Tensor, and the network takes image, words"),
        ((NOISE, WORDS[:4]), r"batch 0: its inputs have \[4, 6\] samples"),
        ((NOISE, WORDS[:, :3]), r"batch 0: the input words has shape \(3,\), and the network takes \(4,\)"),
    ],
)
def test_batches_that_do_not_fit_are_refused_by_name(inputs, said):
    labels = torch.zeros(6, dtype=torch.long)
    with pytest.raises(ModelError, match=said):
        topocompress.score(
            made("positional"), [(inputs, labels)], criterion="hrank", example=example_inputs("positional")
        )
