import os
import signal
import subprocess
import sys
import tempfile

import pytest

from topocompress.runtime.temporary import scratch_folder, temporary_file

KILLED = """
import os, signal, sys, tempfile
from pathlib import Path
from topocompress.runtime.temporary import scratch_folder, temporary_file

tempfile.tempdir = sys.argv[1]
with temporary_file(Path(sys.argv[1]), ".json") as file, scratch_folder() as folder:
    file.write_text("half")
    (folder / "part").write_text("half")
    print(len(os.listdir(sys.argv[1])), flush=True)
    if sys.argv[2] == "wait":
        sys.stdin.read()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def started(folder, how):
    command = [sys.executable, "-c", KILLED, str(folder), how]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def used(folder, monkeypatch):
    """What lies in a folder while both are in use, and after that."""
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    with temporary_file(folder, ".json") as file, scratch_folder() as scratch:
        during = {path.name for path in folder.iterdir()} - {file.name, scratch.name}
    return during, {path.name for path in folder.iterdir()}


@pytest.mark.skipif(os.name == "nt", reason="there, nothing of others is removed")
def test_what_a_killed_process_has_left_goes_and_what_a_living_one_holds_stays(tmp_path, monkeypatch):
    others = {".topocompress.0123456", ".topocompress.01234567.a.b", "topocompress-mine", "x.topocompress.01234567"}
    for name in others:
        (tmp_path / name).touch()
    (tmp_path / ".topocompress.abcdef01.json").mkdir()
    (tmp_path / "topocompress-abcdef01").symlink_to(tmp_path)
    others |= {".topocompress.abcdef01.json", "topocompress-abcdef01"}

    killed = started(tmp_path, "at once")
    assert (killed.communicate()[0], killed.returncode) == (b"8\n", -signal.SIGKILL)
    assert len(list(tmp_path.iterdir())) == 8
    living = started(tmp_path, "wait")
    assert living.stdout.readline() == b"8\n"  # it has removed what was left
    held = {path.name for path in tmp_path.iterdir()} - others
    assert len(held) == 2
    assert used(tmp_path, monkeypatch) == (others | held, others | held)

    living.communicate()
    assert used(tmp_path, monkeypatch) == (others, others)


def test_both_are_gone_after_an_error_too(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(KeyError), temporary_file(tmp_path, "") as file, scratch_folder() as folder:
        assert file.exists()
        (folder / "part").touch()
        raise KeyError
    assert not list(tmp_path.iterdir())
