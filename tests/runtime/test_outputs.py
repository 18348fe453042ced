"""What is ours to write: a table of places, each taken or refused before any work."""

import json
import os
from pathlib import Path

import pytest

from topocompress.errors import OutputError
from topocompress.runtime import outputs
from topocompress.runtime.outputs import FORMAT, MANIFEST, Place, check_outputs, folder_of


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current directory, with inputs, a run, a project and odd files."""
    folder = tmp_path / "home" / "work"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    for name in ("photos/cat", "project", "empty", "run", "foreign", "damaged", "mixed/data"):
        Path(name).mkdir(parents=True)
    Path("photos/cat/1.png").write_bytes(b"\x89PNG")
    Path("project/thesis.tex").write_text("x", encoding="utf-8")
    for run in ("run", "mixed"):
        Path(run, MANIFEST).write_text(json.dumps({"format": FORMAT, "files": {}}), encoding="utf-8")
    Path("run/notes.txt").write_text("x", encoding="utf-8")
    Path("foreign", MANIFEST).write_text(json.dumps({"format": "terraform"}), encoding="utf-8")
    Path("damaged", MANIFEST).write_text("[" * 100_000, encoding="utf-8")
    Path("m.pt").write_bytes(b"PK")
    Path("classes.json").write_text("{}", encoding="utf-8")
    Path("old.json").write_text("{}", encoding="utf-8")
    Path("old.png").write_bytes(b"\x89PNG\r\n")
    Path("thesis.tex").write_text("x", encoding="utf-8")
    Path("link").symlink_to("project")
    Path("link.json").symlink_to("old.json")
    Path("dangling").symlink_to("nowhere")
    os.link("m.pt", "same.json")
    os.mkfifo("pipe")
    return folder


INPUTS = ["m.pt", "photos", "classes.json", "no such file", "resnet18", "x\0y"]


def run(path, force=False):
    return [Place(path, "run", force)]


def file(path):
    return [Place(path, "file")]


def picture(path):
    return [Place(path, "picture")]


REFUSED = {
    "an input": (file("m.pt"), "is an input"),
    "an input, written otherwise": (file("project/../classes.json"), "is an input"),
    "an input by a hard link": (file("same.json"), "is an input"),
    "a folder that is an input": (run("photos", True), f"has no {MANIFEST}"),
    "inside an input": (file("photos/scores.json"), "lies inside"),
    "a run inside an input": (run("photos/cat/run"), "lies inside"),
    "above an input": (run("../work", True), "is the current directory, or above it"),
    "far above": (run("/", True), "is no name of its own"),
    "the current directory": (run("."), "is no name of its own"),
    "the current directory, spelled": (run("../work", True), "is the current directory"),
    "the folder above": (run(".."), "is no name of its own"),
    "empty": (run(""), "--out is empty"),
    "blank": (file("  "), "--out is empty"),
    "a null byte": (file("a\0b"), "no name of a file"),
    "a device": (file("/dev/null"), "is a device"),
    "a device as a directory": (run("/dev/full", True), "is a device"),
    "a pipe": (file("pipe"), "is a device"),
    "a link to a folder": (run("link", True), "is a link"),
    "a link to a file": (file("link.json"), "is a link"),
    "a link to nothing": (run("dangling"), "is a link"),
    "a project, with force": (run("project", True), f"has no {MANIFEST}"),
    "a project": (run("project"), "already exists"),
    "a run without force": (run("run"), "already exists"),
    "a plan.json of another program": (run("foreign", True), "topocompress did not write"),
    "a plan.json that cannot be read": (run("damaged", True), "topocompress did not write"),
    "a run with a folder of the user's": (run("mixed", True), "holds the folder data"),
    "a file as a directory": (run("thesis.tex"), "is a file, not a directory"),
    "a directory as a file": (file("project"), "is a directory, not a file"),
    "under a file": (run("thesis.tex/run"), "is not a writable directory"),
    "a file that is no JSON": (file("thesis.tex"), "is not JSON"),
    "a picture in place of JSON": (picture("old.json"), "unknown picture format"),
    "JSON in place of a picture": (file("old.png"), "is not JSON"),
    "an unknown picture": (picture("a.jpg"), "unknown picture format"),
    "a long name": (file("n" * 240), "has a name of 240 bytes"),
    "a long name of many bytes": (file("\N{PILE OF POO}" * 60), "has a name of 240 bytes"),
    "a long name in between": (file(f"{'n' * 300}/a.json"), "has a name of 300 bytes"),
    "a long path": (file("/".join(["n" * 200] * 30)), "cannot be written: File name too long"),
    "no UTF-8": (run(os.fsdecode(b"caf\xe9")), "is no UTF-8"),
    "twice the same": ([Place("a.png", "file"), Place("./a.png", "picture", option="--plot")], "in each other's way"),
    "one above another": ([Place("a", "file"), Place("a/b.png", "picture", option="--plot")], "in each other's way"),
    "a folder of results that is an input": (folder_of("photos", "sweep", "points"), "is an input"),
    "a folder of results that holds another's": (folder_of("link", "sweep", "points"), "is a link"),
    "a folder of results that is here": (folder_of(".", "sweep", "points"), "is no name of its own"),
}


@pytest.mark.parametrize(("places", "text"), REFUSED.values(), ids=REFUSED)
def test_places_that_are_refused(here, places, text):
    before = sorted(Path().rglob("*"))
    with pytest.raises(OutputError) as caught:
        check_outputs(places, inputs=INPUTS)
    assert text in caught.value.what
    assert caught.value.hint
    str(caught.value).encode()
    assert sorted(Path().rglob("*")) == before


TAKEN = {
    "a new run": run("new"),
    "a new run, deep": run("new/deep/run"),
    "an empty directory": run("empty"),
    "a run, with force": run("run", True),
    "a new file": file("project/scores.json"),
    "a file of the kind": file("old.json"),
    "a picture of the kind": picture("old.png"),
    "a folder of results": folder_of("results", "sweep", "points"),
    "a folder of results that is there": folder_of("project", "sweep", "points"),
    "names in any script": file("\u043c\u043e\u0434\u0435\u043b\u044c \U0001f600.json"),
    "two files": [Place("a.json", "file"), Place("a.png", "picture", option="--plot")],
}


@pytest.mark.parametrize("places", TAKEN.values(), ids=TAKEN)
def test_places_that_are_taken(here, places):
    before = sorted(Path().rglob("*"))
    check_outputs(places, inputs=INPUTS)
    assert sorted(Path().rglob("*")) == before


def test_a_file_that_is_an_input_by_a_hard_link(here):
    os.link("classes.json", "again.json")
    with pytest.raises(OutputError, match="is an input"):
        check_outputs(file("again.json"), inputs=INPUTS)


def test_a_parent_without_rights_is_refused(here, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: not (Path(path) == here and mode == os.W_OK))
    with pytest.raises(OutputError, match="is not a writable directory") as caught:
        check_outputs(run("new/run"))
    assert "--out" in caught.value.hint


@pytest.mark.parametrize(("free", "room", "fits"), [(10**6, 0, False), (10**8, 0, True), (10**8, 10**8, False)])
def test_space_is_asked_for_first(here, monkeypatch, free, room, fits):
    monkeypatch.setattr(outputs.shutil, "disk_usage", lambda path: type("Usage", (), {"free": free})())
    if fits:
        check_outputs(run("new"), room=room)
        return
    with pytest.raises(OutputError, match=r"would take \d+ MB, and \d+ MB are free"):
        check_outputs(run("new"), room=room)
