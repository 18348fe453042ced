import errno
import os
import stat
from pathlib import Path

import pytest

from topocompress.errors import OutputError, PlanError
from topocompress.runtime.files import atomic_directory, atomic_file, check_free


def names(folder):
    return sorted(path.name for path in folder.iterdir())


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
    target.mkdir()
    (target / "old").write_text("old", encoding="utf-8")
    with pytest.raises(OutputError, match="run already exists") as caught, atomic_directory(target):
        pytest.fail("the work must not start")
    assert "--force" in caught.value.hint
    with atomic_directory(target, force=True) as staging:
        (staging / "new").write_text("new", encoding="utf-8")
        assert names(target) == ["old"]
    assert names(target) == ["new"]
    assert names(tmp_path) == ["run"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, PlanError, OutputError])
@pytest.mark.parametrize("force", [False, True])
def test_nothing_is_left_of_a_directory_when_the_work_fails(tmp_path, error, force):
    target = tmp_path / "run"
    if force:
        target.mkdir()
        (target / "old").write_text("old", encoding="utf-8")
    with pytest.raises(error, match="stop"), atomic_directory(target, force=force) as staging:
        (staging / "sub").mkdir()
        (staging / "sub" / "half").write_text("half", encoding="utf-8")
        raise error("stop")
    assert names(tmp_path) == (["run"] if force else [])
    assert not force or (target / "old").read_text(encoding="utf-8") == "old"


def test_a_full_disk_is_our_error_and_keeps_the_directory_before_it(tmp_path, monkeypatch):
    target = tmp_path / "run"
    target.mkdir()
    (target / "old").write_text("old", encoding="utf-8")
    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OutputError, match=r"cannot write .*run: No space left"):  # noqa: SIM117
        with atomic_directory(target, force=True) as staging:
            (staging / "first").write_text("x", encoding="utf-8")
            (staging / "second").write_bytes(b"y")
    assert names(tmp_path) == ["run"]
    assert names(target) == ["old"]


def test_a_failure_of_the_last_step_puts_the_old_directory_back(tmp_path, monkeypatch):
    target = tmp_path / "run"
    target.mkdir()
    (target / "old").write_text("old", encoding="utf-8")
    real = Path.replace

    def replace(path, other):
        if Path(other) == target and not path.name.endswith(".old"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(path, other)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(OutputError), atomic_directory(target, force=True) as staging:
        (staging / "new").write_text("new", encoding="utf-8")
    assert names(tmp_path) == ["run"]
    assert names(target) == ["old"]


def test_a_place_that_is_a_file_or_under_one_is_refused(tmp_path):
    (tmp_path / "file").write_text("x", encoding="utf-8")
    for force in (False, True):
        with pytest.raises(OutputError, match="file is a file, not a directory"):
            check_free(tmp_path / "file", force=force)
        with pytest.raises(OutputError, match="file is not a writable directory"):
            check_free(tmp_path / "file" / "deep" / "run", force=force)
    with pytest.raises(OutputError), atomic_directory(tmp_path / "file" / "run"):
        pytest.fail("the work must not start")
    assert names(tmp_path) == ["file"]


def test_a_parent_without_rights_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: not (Path(path) == tmp_path and mode == os.W_OK))
    with pytest.raises(OutputError, match="is not a writable directory") as caught:
        check_free(tmp_path / "new" / "run")
    assert "--out" in caught.value.hint


def test_free_places(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").write_text("x", encoding="utf-8")
    check_free("run")
    check_free(tmp_path / "not" / "yet" / "there")
    check_free(tmp_path / "full", force=True)
    assert names(tmp_path) == ["full"]


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
    target.mkdir()
    (target / "old").write_text("old", encoding="utf-8")
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
