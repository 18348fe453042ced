"""Whole jobs on networks that take several tensors, in all the ways in which a forward can."""

import onnx
import pytest
import torch

import topocompress
from tests.helpers.several_inputs import FORMS, data_for, made, named, positional
from topocompress import compress
from topocompress.deploy.export import open_session
from topocompress.errors import DataError, ModelError
from topocompress.models.loading import load_model
from topocompress.training.recipe import Recipe


@pytest.mark.parametrize("form", FORMS)
def test_several_inputs_go_all_the_way(form, tmp_path):
    model, data = made(form), data_for(form)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    recipe = Recipe(epochs=1, distill=1.0, batch_size=8)
    result = compress(model, data, ratio=0.5, linear=True, criterion="persistence", finetune=recipe, out=tmp_path / "r")
    assert result.report.after.macs < 0.4 * result.report.before.macs
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not hasattr(model, "_topocompress_inputs")
    names = [each.name for each in onnx.load(tmp_path / "r" / "model.onnx").graph.input]
    assert names == (["input_0", "input_1"] if form == "starred" else ["image", "words"])

    inputs, _ = data.evaluation[0]
    inputs = inputs if isinstance(inputs, dict) else dict(zip(names, inputs, strict=True))
    batch = {name: each[None] for name, each in inputs.items()}
    by = {"positional": lambda m: m(*batch.values()), "starred": lambda m: m(*batch.values())}
    expected = by.get(form, lambda m: m(batch) if form == "dict" else m(**batch))(result.model)
    session = open_session(tmp_path / "r" / "model.onnx")
    (found,) = session.run(None, {name: each.numpy() for name, each in batch.items()})
    torch.testing.assert_close(torch.from_numpy(found), expected.detach(), rtol=1e-4, atol=1e-5)

    again = topocompress.load(tmp_path / "r", arch=FORMS[form])
    one = by.get(form, lambda m: m(batch) if form == "dict" else m(**batch))(again)
    assert torch.equal(one, expected)


@pytest.mark.parametrize("factory", [positional, named])
def test_a_factory_names_its_example_inputs(factory, tmp_path):
    spec = f"tests.helpers.several_inputs:{factory.__name__}"
    loaded = load_model(spec)
    assert [part.name for part in loaded.preprocessing.inputs] == ["image", "words"]
    source = "tests.helpers.several_inputs:pairs"
    report = compress(spec, source, ratio=0.5, criterion="l1", samples=20, out=tmp_path / "run").report
    assert report.data["labelled"] is True
    assert 0 <= report.after.accuracy <= 1


def test_what_does_not_fit_is_refused_with_names():
    data = data_for("positional")
    model = made("positional")
    model.example_inputs = (torch.zeros(1, 3, 8, 8), torch.zeros(1, 4, dtype=torch.long))
    with pytest.raises(ModelError, match=r"input image has shape \(3, 16, 16\), and the network takes \(3, 8, 8\)"):
        compress(model, data, ratio=0.5, criterion="l1")
    model.example_inputs = torch.zeros(1, 3, 16, 16)
    with pytest.raises(ModelError, match="example_inputs is a Tensor"):
        compress(model, data, ratio=0.5, criterion="l1")
    with pytest.raises(DataError, match="photographs cannot stand in"):
        compress("tests.helpers.several_inputs:positional", ratio=0.5, criterion="l1")
