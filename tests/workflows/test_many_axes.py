"""The whole job on networks whose inputs are no images, and on those with transposed convolutions."""

import pytest
import torch
from torch import nn

import topocompress
from tests.helpers.commands import run
from tests.helpers.many_axes import AutoEncoder, Classifier, Recurrent, UNet, data, seeded, shape
from topocompress.errors import DataError, ModelError
from topocompress.models import load_model
from topocompress.models.preprocessing import overridden
from topocompress.types import Preprocessing


@pytest.mark.parametrize(
    ("kind", "arguments", "dims", "most"),
    [
        (Classifier, (1,), 1, 0.31),
        (Classifier, (3,), 3, 0.38),
        (AutoEncoder, (2,), 2, 0.36),
        (UNet, (2,), 2, 0.28),
        (Recurrent, (), 1, 0.54),
    ],
)
@pytest.mark.filterwarnings("ignore:.*RNN.*:UserWarning")
def test_it_goes_from_the_module_to_the_file_and_back(kind, arguments, dims, most, tmp_path):
    model = seeded(kind, *arguments, inputs=shape(dims))
    samples = data(dims, labels=kind in (Classifier, Recurrent))
    result = topocompress.compress(model, samples, criterion="persistence", ratio=0.5, out=tmp_path / "run")
    assert result.plan.macs_after / result.plan.macs_before <= most
    assert result.report.after.macs == result.plan.macs_after
    assert result.report.export.max_rel < 1e-3
    again = topocompress.load(tmp_path / "run", arch=lambda: kind(*arguments))
    inputs = torch.stack([each for each, _ in samples.evaluation])
    with torch.no_grad():
        assert torch.equal(again(inputs), result.model(inputs))
        assert again(inputs).shape == model(inputs).shape


FACTORY = """
import torch
from tests.helpers import many_axes


def {name}():
    return many_axes.{kind}({dims})

{name}.input_shape = {shape}


def samples():
    inputs = torch.randn(90, *{shape}, generator=torch.Generator().manual_seed(0))
    return [(each, {label}) for number, each in enumerate(inputs)]
"""


@pytest.mark.parametrize(("kind", "dims"), [("Classifier", 1), ("Classifier", 3), ("AutoEncoder", 2), ("UNet", 2)])
def test_the_command_line_takes_a_factory_that_says_its_input_shape(kind, dims, tmp_path, monkeypatch, capsys):
    name = f"net_{kind.lower()}{dims}"
    label = "number % 5" if kind == "Classifier" else "None"
    text = FACTORY.format(name=name, kind=kind, dims=dims, shape=shape(dims), label=label)
    (tmp_path / f"{name}s.py").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    torch.manual_seed(0)
    torch.save(__import__(f"{name}s").__dict__[name]().state_dict(), tmp_path / "net.pt")
    arguments = ["prune", "net.pt", "--arch", f"{name}s:{name}", "--data", f"{name}s:samples", "--criterion", "l1"]
    code = run(monkeypatch, *arguments, "--ratio", "0.5", "--samples", "20", "--out", "run")
    assert code == 0, capsys.readouterr().err
    again = topocompress.load("run", arch=f"{name}s:{name}")
    assert again(torch.randn(2, *shape(dims))).shape[0] == 2


class Signal(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Conv1d(2, 4, 3)

    def forward(self, x):
        return self.body(x)


def test_inputs_that_are_no_images_are_neither_assumed_nor_made_of_images(tmp_path, monkeypatch):
    (tmp_path / "signals.py").write_text("from tests.workflows.test_many_axes import Signal\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    torch.save(Signal().state_dict(), tmp_path / "net.pt")
    with pytest.raises(ModelError, match="begins with a Conv1d, and what size its inputs have is not known"):
        load_model(tmp_path / "net.pt", arch="signals:Signal")
    taken = Preprocessing(input_shape=(2, 32), mean=(0, 0), std=(1, 1))
    with pytest.raises(ModelError, match=r"\(2, 32\) are no images"):
        overridden(taken, input_size=16, mean=None, std=None, resize=None)
    with pytest.raises(DataError, match="photographs cannot stand in for inputs of shape"):
        topocompress.data.load_data(None, preprocessing=taken)
    with pytest.raises(DataError, match="images cannot be made into inputs of shape"):
        topocompress.data.load_data("digits", preprocessing=taken)
    with pytest.raises(ModelError, match="is not possible"):
        Preprocessing(input_shape=(3,))
