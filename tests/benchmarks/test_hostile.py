"""The fast share of the harness of hostile inputs, and that it sees harm where there is some."""

import collections
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.hostile.cases import Case, table

SEEN = """
import sys
from pathlib import Path
from benchmarks.hostile import bounded
from benchmarks.hostile.cases import Case

def harm():
    {body}

bounded.cli.main = harm
folder = Path(sys.argv[1])
print(bounded.outcome(Case(kind="", name="", words=()), folder)[0])
"""
HARM = {
    "lost": "Path('m.pt').write_bytes(b'')",
    "executed": "Path('executed').write_text('x')",
    "half-written": "Path('.run.topocompress').mkdir()",
    "traceback": "raise KeyError('x')",
    "raw": "print('\\x1b[31mred')",
    "not as expected": "pass",
    "as expected": "sys.exit(2)",
    "hung": "bounded.time.sleep(100)",
    "over memory": "x = bytearray(b'x') * 2 * 10**8; bounded.time.sleep(100)",
}


@pytest.mark.parametrize(("found", "body"), HARM.items(), ids=HARM)
def test_harm_is_seen(tmp_path, found, body):
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "m.pt").write_bytes(b"weights")
    bounds = "bounded.SECONDS = 1.0" if found == "hung" else "bounded.SECONDS, bounded.BYTES = 60.0, 3 * 10**8"
    code = SEEN.format(body=body).replace(
        "folder = Path", f"{bounds if found in ('hung', 'over memory') else ''}\nfolder = Path"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == found


def test_the_table_is_large_and_names_each_case_once():
    cases = table()
    assert len(cases) >= 300
    twice = [name for name, count in collections.Counter((case.kind, case.name) for case in cases).items() if count > 1]
    assert not twice
    assert all(isinstance(case, Case) for case in cases)


def test_the_fast_share_does_no_harm():
    command = [sys.executable, "-m", "benchmarks.hostile", "--quick", "outputs", "runs", "factories"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    rows = [line.split() for line in done.stdout.strip().splitlines()[-3:]]
    assert [row[0] for row in rows] == ["outputs", "runs", "factories"]
    assert all(row[1] == row[2] and set(row[3:]) == {"0"} for row in rows), done.stdout
