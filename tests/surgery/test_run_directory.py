import copy
import json
import re
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import topocompress
from tests.helpers.processes import python
from tests.helpers.run_directories import SMALL, SQUEEZENET, edited, pruned, trained_digits
from tests.helpers.tiny_nets import Chain, Residual, example, seeded
from topocompress.errors import ArtifactError, OutputError
from topocompress.models.architectures import build
from topocompress.models.loading import load_model
from topocompress.runtime.outputs import MANIFEST, is_run
from topocompress.surgery.run_directory import WEIGHTS, load_run, write_run
from topocompress.types import Preprocessing

# --- there and back ---


def test_a_saved_model_computes_the_same_bits_after_loading(saved):
    path, model, inputs = saved
    assert sorted(file.name for file in path.iterdir()) == [WEIGHTS, MANIFEST]
    random = torch.get_rng_state()
    loaded = topocompress.load(path)
    assert torch.equal(torch.get_rng_state(), random)
    assert not any(module.training for module in loaded.modules())
    batch = torch.cat([inputs, inputs * 2, -inputs])
    assert torch.equal(loaded(batch), model(batch))
    assert [p.shape for p in loaded.parameters()] == [p.shape for p in model.parameters()]


def test_a_saved_model_computes_the_same_bits_in_a_new_process(saved, tmp_path):
    path, model, inputs = saved
    torch.save(inputs, tmp_path / "in.pt")
    code = (
        "import sys, torch, topocompress; run, given, out = sys.argv[1:]; "
        "torch.save(topocompress.load(run)(torch.load(given, weights_only=True)).detach(), out)"
    )
    python("-c", code, path, tmp_path / "in.pt", tmp_path / "out.pt", cwd=tmp_path)
    assert torch.equal(torch.load(tmp_path / "out.pt", weights_only=True), model(inputs).detach())


def test_two_plans_in_a_row(tmp_path):
    model, description, inputs = trained_digits(times=2)
    topocompress.save(tmp_path / "run", model, **description)
    loaded = load_run(tmp_path / "run")
    assert torch.equal(loaded.module(inputs), model(inputs))
    assert loaded.history == tuple(description["plans"])
    assert loaded.source == str(tmp_path / "run")
    assert (loaded.architecture, loaded.preprocessing) == (description["architecture"], description["preprocessing"])


def test_a_torchvision_network(tmp_path):
    torch.manual_seed(0)
    inputs = torch.randn(1, 3, 32, 32)
    model, plans = pruned(build(SQUEEZENET).eval(), inputs)
    preprocessing = Preprocessing(input_shape=(3, 32, 32))
    topocompress.save(tmp_path, model, plans=plans, preprocessing=preprocessing, architecture=SQUEEZENET)
    assert torch.equal(topocompress.load(tmp_path)(inputs), model(inputs))


class Versioned(nn.BatchNorm2d):
    """Reads no state without the mark of its version, as torchvision's MNASNet does."""

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *others):
        if local_metadata.get("version") is None:
            raise ValueError("no version")
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *others)


def test_modules_that_insist_on_their_version_load(tmp_path):
    def chain():
        model = seeded(Chain)
        model.norm = Versioned(6).eval()
        return model

    model, plans = pruned(chain(), example())
    with torch.no_grad():
        model.norm.weight.mul_(3)
    topocompress.save(tmp_path / "run", model, plans=plans, preprocessing=SMALL)
    loaded = topocompress.load(tmp_path / "run", arch=chain)
    assert torch.equal(loaded.norm.weight, model.norm.weight)


def test_a_network_that_a_factory_gives_again_and_again_stays_as_it_is(tmp_path):
    model, plans = pruned(seeded(Residual), example())
    topocompress.save(tmp_path / "run", model, plans=plans, preprocessing=SMALL)
    shared = Residual().train()
    before = copy.deepcopy(shared.state_dict())
    for _ in range(2):
        assert torch.equal(topocompress.load(tmp_path / "run", arch=lambda: shared)(example()), model(example()))
    assert all(torch.equal(value, before[name]) for name, value in shared.state_dict().items())
    assert shared.training


def test_an_own_network_needs_its_factory_to_load(tmp_path):
    model, plans = pruned(seeded(Residual), example())
    topocompress.save(tmp_path / "run", model, plans=plans, preprocessing=SMALL)
    with pytest.raises(ArtifactError, match=r"a network of your own \(tests.helpers.tiny_nets:Residual\)") as caught:
        topocompress.load(tmp_path / "run")
    assert "arch=" in caught.value.hint
    for arch in (Residual, "tests.helpers.tiny_nets:Residual"):
        loaded = load_run(tmp_path / "run", arch=arch)
        assert torch.equal(loaded.module(example()), model(example()))
        assert loaded.preprocessing == SMALL


@pytest.mark.parametrize("kind", ["object", "factory"])
def test_nothing_that_a_file_names_is_imported(run, tmp_path, monkeypatch, kind):
    (tmp_path / "trap_named_in_a_plan.py").write_text("raise SystemExit('imported')\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    edited(run, lambda manifest: manifest.update(architecture={"kind": kind, "name": "trap_named_in_a_plan:build"}))
    with pytest.raises(ArtifactError, match="a network of your own"):
        topocompress.load(run)
    assert "trap_named_in_a_plan" not in sys.modules


def test_a_factory_of_another_network_is_refused(tmp_path):
    model, plans = pruned(seeded(Residual), example())
    topocompress.save(tmp_path / "run", model, plans=plans, preprocessing=SMALL)
    with pytest.raises(topocompress.TopocompressError, match="the model has not"):
        topocompress.load(tmp_path / "run", arch=Chain)


def test_plan_json_says_what_became_of_every_layer(saved):
    path, model, _ = saved
    (plan,) = json.loads((path / MANIFEST).read_text(encoding="utf-8"))["plans"]
    modules = dict(model.named_modules())
    original = dict(load_model("digits").module.named_modules())
    named = set()
    for group in plan["groups"]:
        assert group["kept"] == group["width"] - len(group["remove"]) == modules[group["root"]].weight.shape[0]
        for name, (before, after) in group["filters"].items():
            assert (before, after) == tuple(net[name].weight.shape[0] for net in (original, modules))
        for name, (before, after) in group["readers"].items():
            assert (before, after) == tuple(net[name].weight.shape[1] for net in (original, modules))
        assert {*group["filters"], *group["readers"]} <= set(group["coupled"])
        named |= set(group["filters"])
    assert named == {name for name, module in modules.items() if hasattr(module, "weight") and module.weight.ndim > 1}
    assert [group["root"] for group in plan["groups"] if group["protected"]] == ["head"]


def test_the_page_on_run_directories_names_every_field_and_shows_a_group_as_it_is_written(saved):
    page = (Path(__file__).parents[2] / "docs" / "runs.md").read_text(encoding="utf-8")
    manifest = json.loads((saved[0] / MANIFEST).read_text(encoding="utf-8"))
    (plan,) = manifest["plans"]
    (shown,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    (group,) = [group for group in plan["groups"] if group["root"] == "stem.0"]
    assert list(json.loads(shown)) == list(group)
    named = set(re.findall(r"`(\w+)`", page))
    assert {*manifest, *plan, *group} <= named


# --- writing ---


def test_an_existing_directory_is_replaced_by_force_only(run):
    model, description, inputs = trained_digits()
    before = (run / MANIFEST).read_bytes()
    with pytest.raises(OutputError, match="already exists"):
        topocompress.save(run, model, **description)
    assert (run / MANIFEST).read_bytes() == before
    (run / "stale.txt").write_text("x", encoding="utf-8")
    with torch.no_grad():
        model.head.bias += 1
    topocompress.save(run, model, **description, force=True)
    assert torch.equal(topocompress.load(run)(inputs), model(inputs))
    assert not (run / "stale.txt").exists()


def test_files_beside_the_weights_are_fingerprinted_too(tmp_path):
    model, description, _inputs = trained_digits()
    for name in ("model.onnx", "original.onnx"):
        (tmp_path / name).write_bytes(b"onnx")
    write_run(tmp_path, model, **description)
    assert is_run(tmp_path)
    topocompress.load(tmp_path)
    (tmp_path / "original.onnx").unlink()  # no part of the network
    topocompress.load(tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"other")
    with pytest.raises(ArtifactError, match=r"model\.onnx is not the file of this run"):
        topocompress.load(tmp_path)
