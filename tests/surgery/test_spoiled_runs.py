"""Runs that were edited, cut or mixed up are refused."""

import json

import pytest
from safetensors.torch import load_file, save_file

import topocompress
from tests.helpers.run_directories import edited
from topocompress.errors import ArtifactError, TopocompressError
from topocompress.runtime.outputs import MANIFEST, is_run
from topocompress.surgery.run_directory import WEIGHTS


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
    manifest = json.loads((run / MANIFEST).read_text(encoding="utf-8"))
    change(manifest)
    (run / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
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
        lambda m: m["preprocessing"].update(input_shape=[3]),
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
    (tmp_path / "secret").write_text("x", encoding="utf-8")
    edited(run, lambda manifest: manifest["files"].update({name: "sha256:0"}))
    with pytest.raises(ArtifactError, match=r"names a file outside|is missing"):
        topocompress.load(run)


def arch(**options):
    return lambda m: m["architecture"].update(kind="torchvision", **options)


def sizes(**values):
    return lambda m: m["preprocessing"].update(values)


HOSTILE = {
    "a backbone to download": arch(name="fcn_resnet50", options={"weights_backbone": "DEFAULT"}),
    "weights to download": arch(name="resnet18", options={"weights": "DEFAULT"}),
    "many classes": arch(name="resnet18", options={"num_classes": 2_000_000}),
    "no classes": arch(name="resnet18", options={"num_classes": -1}),
    "classes as text": arch(name="resnet18", options={"num_classes": "10"}),
    "wide layers": arch(name="wide_resnet50_2", options={"width_per_group": 10**7}),
    "many groups": arch(name="resnet50", options={"groups": 10**6}),
    "everything at its widest": arch(name="resnext101_64x4d", options={"width_per_group": 512, "groups": 64}),
    "a deep tree": arch(name="densenet121", options={"growth_rate": 10**5}),
    "an infinite width": arch(name="mobilenet_v2", options={"width_mult": 1e300}),
    "many input channels": arch(name="resnet18", options={"in_channels": 10**8}),
    "a file for timm": lambda m: m["architecture"].update(
        kind="timm", name="resnet10t", options={"checkpoint_path": "evil.pth"}
    ),
    "options of ours": lambda m: m["architecture"].update(options={"num_classes": 10**9}),
    "a large input": sizes(input_shape=[1, 12_000, 12_000]),
    "an input without pixels": sizes(input_shape=[1, 0, 8]),
    "a negative input": sizes(input_shape=[-1, 8, 8]),
    "many channels": sizes(input_shape=[10**6, 8, 8]),
    "a mean that is none": sizes(mean=[float("nan")]),
    "a std without end": sizes(std=[float("inf")]),
    "a std of nothing": sizes(std=[0.0]),
    "a large short side": sizes(resize=200_000),
    "plans without end": lambda m: m.update(plans=m["plans"] * 20_000),
    "negative channels": lambda m: m["plans"][0]["groups"][0].update(remove=[-1]),
    "repeated channels": lambda m: m["plans"][0]["groups"][0].update(remove=[1, 1]),
    "channels as text": lambda m: m["plans"][0]["groups"][0].update(remove=["1"]),
    "channels as true": lambda m: m["plans"][0]["groups"][0].update(remove=[True]),
    "a wide group": lambda m: m["plans"][0]["groups"][0].update(width=10**15),
    "files that are a list": lambda m: m.update(files=["model.safetensors"]),
    "files that are a text": lambda m: m.update(files="model.safetensors"),
    "files that are a number": lambda m: m.update(files=7),
    "files that are none": lambda m: m.update(files=None),
    "a long name": lambda m: m.update(files={"n" * 300: "sha256:" + "0" * 64}),
    "a null byte": lambda m: m.update(files={"a\0b": "sha256:" + "0" * 64}),
    "classes without end": lambda m: m.update(classes=["x"] * 100_001),
    "a class of ten megabytes": lambda m: m.update(classes=["x" * 10**7]),
    "a version as text": lambda m: m.update(version="2"),
    "deep": lambda m: m.update(more=json.loads("[" * 500 + "]" * 500)),
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE)
def test_nothing_that_a_plan_says_is_obeyed_or_takes_memory(run, monkeypatch, change):
    edited(run, change)
    for place in ("torch.hub.load_state_dict_from_url", "torch.hub.download_url_to_file", "urllib.request.urlopen"):
        monkeypatch.setattr(place, lambda *_, **__: pytest.fail("it would download"))
    with pytest.raises(TopocompressError) as caught:
        topocompress.load(run)
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize("content", [b"[" * 10**6, b"9" * 10**6, b'{"a":' * 10**6, b"\x00" * 10**6])
def test_plans_made_to_exhaust_their_reader_are_refused(run, content):
    (run / MANIFEST).write_bytes(content)
    with pytest.raises(ArtifactError, match=r"plan\.json"):
        topocompress.load(run)
