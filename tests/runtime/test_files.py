import errno
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from topocompress.errors import OutputError, PlanError
from topocompress.runtime.files import atomic_directory, atomic_file
from topocompress.runtime.outputs import FORMAT, MANIFEST


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def a_run(target):
    """A run of ours with one more file, the only thing that force replaces."""
    target.mkdir()
    (target / MANIFEST).write_text(json.dumps({"format": FORMAT}), encoding="utf-8")
    (target / "old").write_text("old", encoding="utf-8")


def full_disk(*_arguments, **_options):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


# --- one file ---


def test_a_file_appears_whole_under_its_name_with_its_folders(tmp_path):
    target = tmp_path / "new" / "deep" / "scores.json"
    with atomic_file(target) as temporary:
        temporary.write_text("{}", encoding="utf-8")
        assert temporary.suffix == ".json"
        assert temporary.parent == target.parent
        assert not target.exists()
    assert target.read_text(encoding="utf-8") == "{}"
    assert names(target.parent) == ["scores.json"]


def test_a_file_replaces_the_one_before_it(tmp_path):
    target = tmp_path / "scores.json"
    target.write_text("old", encoding="utf-8")
    with atomic_file(str(target)) as temporary:
        temporary.write_text("new", encoding="utf-8")
        assert target.read_text(encoding="utf-8") == "old"
    assert target.read_text(encoding="utf-8") == "new"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, PlanError, OutputError])
def test_nothing_is_left_of_a_file_when_the_work_fails(tmp_path, error):
    target = tmp_path / "scores.json"
    target.write_text("old", encoding="utf-8")
    with pytest.raises(error, match="stop"), atomic_file(target) as temporary:
        temporary.write_text("half", encoding="utf-8")
        raise error("stop")
    assert names(tmp_path) == ["scores.json"]
    assert target.read_text(encoding="utf-8") == "old"


def test_a_full_disk_is_our_error_and_leaves_no_file(tmp_path, monkeypatch):
    target = tmp_path / "scores.json"

    def write_half(path, text, *_arguments, **_options):
        with path.open("w") as stream:
            stream.write(text[:3])
        full_disk()

    monkeypatch.setattr(Path, "write_text", write_half)
    with pytest.raises(OutputError, match=r"cannot write .*scores\.json: No space left") as caught:  # noqa: SIM117
        with atomic_file(target) as temporary:
            temporary.write_text("content", encoding="utf-8")
    assert "--out" in caught.value.hint
    assert caught.value.__cause__.errno == errno.ENOSPC
    assert names(tmp_path) == []


def test_a_file_cannot_take_the_place_of_a_directory_or_lie_in_a_file(tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "file").write_text("x", encoding="utf-8")
    for target in (tmp_path / "taken", tmp_path / "file" / "scores.json"):
        with pytest.raises(OutputError, match="cannot write"), atomic_file(target) as temporary:
            temporary.write_text("{}", encoding="utf-8")
    assert names(tmp_path) == ["file", "taken"]
    assert names(tmp_path / "taken") == []


# --- a directory ---


def test_a_directory_appears_whole_under_its_name(tmp_path):
    target = tmp_path / "new" / "run"
    with atomic_directory(target) as staging:
        (staging / "model.onnx").write_text("onnx", encoding="utf-8")
        assert staging.parent == target.parent
        assert not target.exists()
    assert names(target.parent) == ["run"]
    assert names(target) == ["model.onnx"]


def test_an_empty_directory_is_free_to_take(tmp_path):
    (tmp_path / "run").mkdir()
    with atomic_directory(tmp_path / "run") as staging:
        (staging / "a").write_text("x", encoding="utf-8")
    assert names(tmp_path / "run") == ["a"]


def test_an_existing_directory_is_refused_before_any_work_and_replaced_by_force(tmp_path):
    target = tmp_path / "run"
    a_run(target)
    with pytest.raises(OutputError, match="run already exists") as caught, atomic_directory(target):
        pytest.fail("the work must not start")
    assert "--force" in caught.value.hint
    with atomic_directory(target, force=True) as staging:
        (staging / "new").write_text("new", encoding="utf-8")
        assert names(target) == ["old", MANIFEST]
    assert names(target) == ["new"]
    assert names(tmp_path) == ["run"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, PlanError, OutputError])
@pytest.mark.parametrize("force", [False, True])
def test_nothing_is_left_of_a_directory_when_the_work_fails(tmp_path, error, force):
    target = tmp_path / "run"
    if force:
        a_run(target)
    with pytest.raises(error, match="stop"), atomic_directory(target, force=force) as staging:
        (staging / "sub").mkdir()
        (staging / "sub" / "half").write_text("half", encoding="utf-8")
        raise error("stop")
    assert names(tmp_path) == (["run"] if force else [])
    assert not force or (target / "old").read_text(encoding="utf-8") == "old"


def test_a_full_disk_is_our_error_and_keeps_the_directory_before_it(tmp_path, monkeypatch):
    target = tmp_path / "run"
    a_run(target)
    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OutputError, match=r"cannot write .*run: No space left"):  # noqa: SIM117
        with atomic_directory(target, force=True) as staging:
            (staging / "first").write_text("x", encoding="utf-8")
            (staging / "second").write_bytes(b"y")
    assert names(tmp_path) == ["run"]
    assert names(target) == ["old", MANIFEST]


def test_a_failure_of_the_last_step_puts_the_old_directory_back(tmp_path, monkeypatch):
    target = tmp_path / "run"
    a_run(target)
    real = Path.replace

    def replace(path, other):
        if Path(other) == target and not path.name.endswith(".old"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(path, other)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(OutputError), atomic_directory(target, force=True) as staging:
        (staging / "new").write_text("new", encoding="utf-8")
    assert names(tmp_path) == ["run"]
    assert names(target) == ["old", MANIFEST]


def test_results_have_ordinary_permissions(tmp_path):
    plain = tmp_path / "plain"
    plain.mkdir()
    (plain / "file").write_text("x", encoding="utf-8")
    with atomic_directory(tmp_path / "run") as staging:
        (staging / "file").write_text("x", encoding="utf-8")
    with atomic_file(tmp_path / "alone") as temporary:
        temporary.write_text("x", encoding="utf-8")

    def mode(path):
        return stat.S_IMODE(path.stat().st_mode)

    assert mode(tmp_path / "run") == mode(plain)
    assert mode(tmp_path / "run" / "file") == mode(tmp_path / "alone") == mode(plain / "file")


def test_an_interrupt_between_the_two_moves_keeps_the_old_directory(tmp_path, monkeypatch):
    target = tmp_path / "run"
    a_run(target)
    move = Path.replace

    def interrupted(self, goal):
        if Path(goal) == target and not self.name.endswith(".old"):
            raise KeyboardInterrupt
        return move(self, goal)

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt), atomic_directory(target, force=True) as staging:
        (staging / "new").write_text("new", encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert (target / "old").read_text(encoding="utf-8") == "old"


# --- two processes, and what a killed one leaves ---


def test_a_second_writer_is_told_before_its_work(tmp_path):
    target = tmp_path / "run"
    with atomic_directory(target) as staging:
        (staging / "first").write_text("x", encoding="utf-8")
        with pytest.raises(OutputError, match="another process is writing"), atomic_directory(target):
            pytest.fail("the work must not start")
    assert names(target) == ["first"]
    assert names(tmp_path) == ["run"]


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("taken", ["a project", "a run", "a file", "a link"])
def test_a_place_taken_meanwhile_is_left_alone_and_the_result_is_kept_beside_it(tmp_path, taken, force):
    target = tmp_path / "run"
    put = {
        "a project": lambda: (target.mkdir(), (target / "thesis.tex").write_text("x", encoding="utf-8")),
        "a run": lambda: a_run(target),
        "a file": lambda: target.write_text("x", encoding="utf-8"),
        "a link": lambda: target.symlink_to(tmp_path),
    }

    def work():
        with atomic_directory(target, force=force) as staging:
            (staging / "new").write_text("new", encoding="utf-8")
            put[taken]()

    if taken == "a run" and force:
        work()
        assert names(target) == ["new"]
        return
    with pytest.raises(OutputError, match=r"was taken while this run worked .* in .*run-2"):
        work()
    assert names(tmp_path) == ["run", "run-2"]
    assert names(tmp_path / "run-2") == ["new"]
    assert target.is_symlink() == (taken == "a link")
    assert not target.is_dir() or target.is_symlink() or {"thesis.tex", "old"} & set(names(target))


KILLED = """
import os, signal, sys
from topocompress.runtime.files import atomic_directory
with atomic_directory(sys.argv[1]) as staging:
    (staging / "half").write_text("x")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_has_left_is_removed_by_the_next_with_that_place(tmp_path):
    target = tmp_path / "run"
    subprocess.run([sys.executable, "-c", KILLED, str(target)], check=False)
    assert names(tmp_path) == [".run.topocompress", ".run.topocompress.lock"]
    (tmp_path / ".other.topocompress").mkdir()
    with atomic_directory(target) as staging:
        assert names(staging) == []
        (staging / "whole").write_text("x", encoding="utf-8")
    assert names(target) == ["whole"]
    assert names(tmp_path) == [".other.topocompress", "run"]


def test_a_run_that_a_killed_process_had_moved_aside_comes_back(tmp_path):
    a_run(tmp_path / ".run.topocompress.old")
    with pytest.raises(OutputError, match="already exists"), atomic_directory(tmp_path / "run"):
        pytest.fail("the work must not start")
    assert names(tmp_path / "run") == ["old", MANIFEST]


def test_folders_made_for_a_result_go_with_it(tmp_path):
    with pytest.raises(PlanError, match="stop"), atomic_directory(tmp_path / "new" / "deep" / "run"):
        raise PlanError("stop")
    assert names(tmp_path) == []


def test_a_file_takes_the_place_of_no_link_and_no_device(tmp_path):
    (tmp_path / "precious").write_text("x", encoding="utf-8")
    (tmp_path / "link.json").symlink_to("precious")
    os.mkfifo(tmp_path / "pipe.json")
    for name in ("link.json", "pipe.json"):
        with pytest.raises(OutputError, match=r"is a (link|device)"), atomic_file(tmp_path / name) as temporary:
            temporary.write_text("{}", encoding="utf-8")
    assert names(tmp_path) == ["link.json", "pipe.json", "precious"]
    assert (tmp_path / "link.json").read_text(encoding="utf-8") == "x"


@pytest.mark.parametrize("kind", ["a folder with folders", "a link"])
def test_what_only_has_the_name_of_a_staging_folder_stays(tmp_path, kind):
    (tmp_path / "mine" / "thesis").mkdir(parents=True)
    (tmp_path / "mine" / "thesis" / "x.tex").write_text("years")
    staging = tmp_path / ".run.topocompress"
    if kind == "a link":
        staging.symlink_to("mine")
    else:
        (tmp_path / "mine").rename(staging)
    refused = pytest.raises(OutputError, match="is in the way, which topocompress did not make")
    with refused, atomic_directory(tmp_path / "run"):
        pytest.fail("it began")
    assert (staging / "thesis" / "x.tex").read_text() == "years"
    assert not (tmp_path / "run").exists()


def test_a_lock_that_is_a_link_is_not_followed(tmp_path):
    (tmp_path / ".run.topocompress.lock").symlink_to("elsewhere")
    with pytest.raises(OutputError, match="cannot write"), atomic_directory(tmp_path / "run"):
        pytest.fail("it began")
    assert not (tmp_path / "elsewhere").exists()
