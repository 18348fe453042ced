from collections import OrderedDict, namedtuple

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from topocompress.errors import ModelError
from topocompress.network.inference import (
    all_outputs,
    batch_parts,
    check_steady,
    device_of,
    evaluating,
    first_line,
    main_output,
    preserved,
    run_forward,
    sample_count,
)

ONE, TWO = torch.ones(2, 3), torch.zeros(2, 5)


def mixed():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5)).train()
    model[1].eval()
    return model


def modes(model):
    return [module.training for module in model.modules()]


def test_the_device_is_that_of_the_first_parameter_or_buffer():
    assert device_of(nn.Linear(2, 2, device="meta")).type == "meta"
    only_buffers = nn.Module()
    only_buffers.register_buffer("mean", torch.zeros(1, device="meta"))
    assert device_of(only_buffers).type == "meta"
    assert device_of(nn.ReLU()).type == "cpu"


@pytest.mark.parametrize("guard", [preserved, evaluating])
@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt])
def test_modes_gradients_and_random_state_are_restored_even_after_an_error(guard, error):
    model = mixed()
    before, random = modes(model), torch.get_rng_state()
    try:
        with guard(model):
            model.train(not model.training)
            torch.randn(7)
            torch.manual_seed(5)
            if error:
                raise error("stop")
    except (RuntimeError, KeyboardInterrupt) as caught:
        assert type(caught) is error
    assert modes(model) == before
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.is_grad_enabled()


def test_evaluating_switches_off_training_and_gradients():
    model = mixed()
    mean = model[1].running_mean.clone()
    with evaluating(model) as device:
        assert device.type == "cpu"
        assert not any(modes(model))
        assert not model(torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))).requires_grad
    assert torch.equal(model[1].running_mean, mean)


class Fails(nn.Module):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def forward(self, x):
        raise self.error


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("bad\nsize"),
        ValueError("bad"),
        TypeError("bad"),
        IndexError("bad"),
        KeyError("bad"),
        ZeroDivisionError("bad"),
        AssertionError("bad"),
    ],
)
def test_a_model_that_refuses_a_batch_says_shape_type_and_cause(error):
    with pytest.raises(ModelError) as caught:
        run_forward(Fails(error), torch.zeros(2, 3, 8, 8))
    assert "does not accept inputs of shape (2, 3, 8, 8), torch.float32: " in caught.value.what
    assert "bad" in caught.value.what
    assert "size" not in caught.value.what
    assert "--input-size" in caught.value.hint
    assert caught.value.__cause__ is error


def test_errors_that_are_not_about_the_batch_pass_through():
    with pytest.raises(KeyboardInterrupt):
        run_forward(Fails(KeyboardInterrupt()), ONE)
    assert torch.equal(run_forward(nn.Identity(), ONE), ONE)


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (ONE, [ONE]),
        ((ONE, TWO), [ONE, TWO]),
        ([ONE, (TWO, [ONE])], [ONE, TWO, ONE]),
        (OrderedDict(out=TWO, aux=ONE), [TWO, ONE]),
        (namedtuple("Output", "logits aux")(ONE, None), [ONE]),
        ({"a": [ONE], "b": "text", "c": b"bytes", "d": 3}, [ONE]),
        (None, []),
        ("text", []),
        (3.5, []),
    ],
)
def test_all_tensors_of_an_output_are_found_in_order(output, expected):
    found = all_outputs(output)
    assert len(found) == len(expected)
    assert all(one is other for one, other in zip(found, expected, strict=True))


def test_the_main_output_is_the_output_its_out_entry_or_its_first_tensor():
    assert main_output(ONE) is ONE
    assert main_output({"aux": TWO, "out": ONE}) is ONE
    assert main_output({"aux": TWO, "out": None}) is TWO
    assert main_output((TWO, ONE)) is TWO


def test_one_number_each_is_one_score_each():
    assert main_output(torch.tensor([1.0, 2.0])).tolist() == [[1.0], [2.0]]


@pytest.mark.parametrize(
    ("output", "text"),
    [
        (None, "returns NoneType without a tensor"),
        ([], "returns list without a tensor"),
        (torch.zeros(3, dtype=torch.int64), r"a tensor of shape \(3,\)"),
        (torch.tensor(1.0), r"a tensor of shape \(\)"),
    ],
)
def test_an_output_without_class_scores_is_refused(output, text):
    with pytest.raises(ModelError, match=text):
        main_output(output)


def test_batches_come_with_labels_or_without():
    assert batch_parts(ONE) == (ONE, None)
    assert batch_parts([ONE, TWO]) == (ONE, TWO)
    assert batch_parts((ONE, TWO, "path")) == (ONE, TWO)
    assert batch_parts((ONE,)) == (ONE, None)


def test_samples_are_counted_by_length():
    assert sample_count(["a", "b", "c"]) == 3
    assert sample_count(torch.utils.data.TensorDataset(ONE)) == 2


def test_the_first_line_of_an_error_or_else_its_type():
    assert first_line(ValueError("\n  first  \nsecond")) == "first"
    assert first_line(ValueError()) == "ValueError"
    assert first_line(ValueError(" \n ")) == "ValueError"


class Odd(nn.Module):
    """A network that does something of its own to its inputs, knowing how often it has run."""

    def __init__(self, run):
        super().__init__()
        self.run, self.calls = run, 0

    def forward(self, inputs):
        self.calls += 1
        return {"out": inputs.mean(0), "other": self.run(inputs, self.calls)}


@pytest.mark.parametrize(
    "run",
    [
        lambda x, _: F.dropout(x),
        lambda x, _: x + torch.rand(()),
        lambda x, _: x[:, torch.randperm(x.shape[1])],
        lambda x, calls: x * calls,
        lambda x, calls: x[: 1 + calls],
    ],
)
def test_what_computes_something_else_each_time_is_refused(run):
    state = torch.random.get_rng_state()
    with pytest.raises(ModelError, match="something else each time") as caught:
        check_steady(Odd(run), torch.arange(60.0).reshape(5, 12))
    assert "self.training" in caught.value.hint
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize(
    "run",
    [
        lambda x, _: F.dropout(x, training=False),
        lambda x, calls: x + 1e-6 * calls,  # rounding, as where sums run in another order
        lambda x, _: x / 0,
        lambda x, _: x.long(),
        lambda x, _: x[:0],
    ],
)
def test_rounding_is_no_chance(run):
    check_steady(Odd(run), torch.arange(60.0).reshape(5, 12))
