"""Runs that were edited, cut or mixed up are refused."""

import json

import pytest
from safetensors.torch import load_file, save_file

import topocompress
from tests.helpers.run_directories import edited
from topocompress.errors import ArtifactError
from topocompress.runtime.files import MANIFEST, is_run
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
