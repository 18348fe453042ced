import copy
import functools
import json
import re
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import topocompress
from tests.helpers.processes import python
from tests.helpers.tiny_nets import Chain, Residual, example, seeded
from topocompress.errors import ArtifactError, OutputError
from topocompress.models.architectures import build
from topocompress.models.loading import load_model
from topocompress.surgery.run_directory import MANIFEST, WEIGHTS, _own_digest, is_run, load_run, write_run
from topocompress.types import Architecture, Preprocessing

SMALL = Preprocessing(input_shape=(3, 8, 8), resize=9, mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 3.0))
SQUEEZENET = Architecture(kind="torchvision", name="squeezenet1_1", options={"num_classes": 4})


def pruned(model, inputs, times=1):
    """The model after ``times`` plans, and the plans."""
    plans = []
    for _ in range(times):
        scores = topocompress.score(model, criterion="l1", example=inputs)
        plans.append(topocompress.plan(model, scores, example=inputs, ratio=0.3, round_to=1))
        model = topocompress.apply(model, plans[-1], example=inputs)
    return model.eval(), plans


def trained_digits(times=1):
    model, description, inputs = _trained_digits(times)
    return copy.deepcopy(model), description, inputs


@functools.cache
def _trained_digits(times):
    loaded = load_model("digits")
    inputs = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    model, plans = pruned(loaded.module, inputs, times)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01)  # as if it had been tuned
    return model, {"plans": plans, "preprocessing": loaded.preprocessing, "architecture": loaded.architecture}, inputs


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A run of the digits network, pruned once; not to be written to."""
    path = tmp_path_factory.mktemp("saved") / "run"
    model, description, inputs = trained_digits()
    topocompress.save(path, model, **description, classes=[str(digit) for digit in range(10)])
    return path, model, inputs


@pytest.fixture
def run(saved, tmp_path):
    """A copy of that run, to be spoiled."""
    copied = tmp_path / "run"
    copied.mkdir()
    for file in saved[0].iterdir():
        (copied / file.name).write_bytes(file.read_bytes())
    return copied


def edited(run, change):
    """Edit plan.json, with a fingerprint that fits."""
    manifest = json.loads((run / MANIFEST).read_text())
    change(manifest)
    manifest["fingerprint"] = _own_digest(manifest)
    (run / MANIFEST).write_text(json.dumps(manifest))


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
    (tmp_path / "trap_named_in_a_plan.py").write_text("raise SystemExit('imported')\n")
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
    (plan,) = json.loads((path / MANIFEST).read_text())["plans"]
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
    manifest = json.loads((saved[0] / MANIFEST).read_text())
    (plan,) = manifest["plans"]
    (shown,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    (group,) = [group for group in plan["groups"] if group["root"] == "stem.0"]
    assert list(json.loads(shown)) == list(group)
    named = set(re.findall(r"`(\w+)`", page))
    assert {*manifest, *plan, *group} <= named


# --- spoiled runs ---


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda m: m["plans"][0]["groups"][0].update(remove=[0]), "plan.json was edited: its fingerprint"),
        (lambda m: m["preprocessing"].update(resize=7), "was edited"),
        (lambda m: m.pop("fingerprint"), "was edited"),
        (lambda m: m.update(more=1), "was edited"),
        (lambda m: m.update(format="other"), "was not written by topocompress"),
        (lambda m: m.update(version=99), "has format version 99, this topocompress reads 2"),
    ],
)
def test_an_edited_plan_is_refused(run, change, text):
    manifest = json.loads((run / MANIFEST).read_text())
    change(manifest)
    (run / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match=text):
        topocompress.load(run)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"null", b"\xff\xfe\x00"])
def test_a_plan_that_is_no_plan_is_refused(run, content):
    (run / MANIFEST).write_bytes(content)
    with pytest.raises(ArtifactError, match=r"plan\.json"):
        topocompress.load(run)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.pop("plans"),
        lambda m: m.pop("model"),
        lambda m: m["architecture"].update(extra=1),
        lambda m: m["preprocessing"].update(input_shape=[3, 8]),
        lambda m: m["plans"][0]["groups"][0].update(remove=[5, 1]),
        lambda m: m["plans"][0].pop("macs_after"),
        lambda m: m["plans"][0]["groups"][0].pop("kept"),
        lambda m: m["plans"][0]["groups"][0].update(kept=1),
        lambda m: m["plans"][0]["groups"][0].update(filters=["stem.0"]),
        lambda m: m["plans"][0]["groups"][0]["readers"].update(head=[4]),
    ],
)
def test_a_plan_with_fields_missing_or_wrong_is_refused(run, change):
    edited(run, change)
    with pytest.raises(ArtifactError, match="is not a valid run description"):
        topocompress.load(run)


def test_weights_that_were_edited_cut_or_taken_from_another_run_are_refused(run):
    good = (run / WEIGHTS).read_bytes()
    for bad in (good[:-1] + bytes([good[-1] ^ 1]), good[: len(good) // 2], b"", good + b"\0"):
        (run / WEIGHTS).write_bytes(bad)
        with pytest.raises(ArtifactError, match=r"model\.safetensors is not the file of this run"):
            topocompress.load(run)


def test_weights_that_do_not_fit_the_plan_are_refused(run):
    weights = load_file(run / WEIGHTS)
    digest = {"files": {}}  # as if nothing had been fingerprinted
    save_file({name: tensor + 1 for name, tensor in weights.items()}, run / WEIGHTS)
    edited(run, lambda manifest: manifest.update(digest))
    with pytest.raises(ArtifactError, match=r"holds other weights than plan\.json says"):
        topocompress.load(run)
    save_file({name: tensor for name, tensor in weights.items() if name != "head.bias"}, run / WEIGHTS)
    with pytest.raises(ArtifactError, match="does not fit the network"):
        topocompress.load(run)
    (run / WEIGHTS).write_bytes(b"no tensors")
    with pytest.raises(ArtifactError, match="does not fit the network"):
        topocompress.load(run)


def test_missing_files_are_named(run, tmp_path):
    (run / WEIGHTS).unlink()
    with pytest.raises(ArtifactError, match=r"model\.safetensors is missing"):
        topocompress.load(run)
    (run / MANIFEST).unlink()
    assert not is_run(run)
    with pytest.raises(ArtifactError, match=r"has no plan\.json"):
        topocompress.load(run)
    with pytest.raises(ArtifactError, match="nowhere is not a directory"):
        topocompress.load(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "a/b", "..", ".", ""])
def test_files_outside_the_run_are_not_looked_at(run, tmp_path, name):
    (tmp_path / "secret").write_text("x")
    edited(run, lambda manifest: manifest["files"].update({name: "sha256:0"}))
    with pytest.raises(ArtifactError, match=r"names a file outside|is missing"):
        topocompress.load(run)


# --- writing ---


def test_an_existing_directory_is_replaced_by_force_only(run):
    model, description, inputs = trained_digits()
    before = (run / MANIFEST).read_bytes()
    with pytest.raises(OutputError, match="already exists"):
        topocompress.save(run, model, **description)
    assert (run / MANIFEST).read_bytes() == before
    (run / "stale.txt").write_text("x")
    with torch.no_grad():
        model.head.bias += 1
    topocompress.save(run, model, **description, force=True)
    assert torch.equal(topocompress.load(run)(inputs), model(inputs))
    assert not (run / "stale.txt").exists()


def test_files_beside_the_weights_are_fingerprinted_too(tmp_path):
    model, description, _inputs = trained_digits()
    (tmp_path / "model.onnx").write_bytes(b"onnx")
    write_run(tmp_path, model, **description)
    assert is_run(tmp_path)
    topocompress.load(tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"other")
    with pytest.raises(ArtifactError, match=r"model\.onnx is not the file of this run"):
        topocompress.load(tmp_path)
