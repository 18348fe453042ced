"""The fast share of the harness of hostile inputs, and that it sees harm where there is some."""

import collections
import subprocess
import sys
from pathlib import Path

from benchmarks.hostile.case import Case
from benchmarks.hostile.cases import table

SEEN = """
import sys
from pathlib import Path
from benchmarks.hostile import bounded, commands
from benchmarks.hostile.case import Case

folder, harms = Path(sys.argv[1]), eval(sys.argv[2])
for name, body in harms.items():
    (folder / "m.pt").write_bytes(b"weights")
    bounded.SECONDS = 1.0 if name == "hung" else 60.0
    commands.cli.main = lambda: exec(body)
    print(bounded.outcome(Case(kind="", name="", words=()), folder)[0])
"""
HARM = {
    "lost": "Path('m.pt').write_bytes(b'')",
    "executed": "Path('executed').write_text('x')",
    "half-written": "Path('.run.topocompress').mkdir()",
    "traceback": "raise KeyError('x')",
    "raw": "print(chr(27) + '[31mred')",
    "not as expected": "pass",
    "as expected": "sys.exit(2)",
    "hung": "bounded.time.sleep(100)",
    "over memory": "x = bytearray(b'x') * (bounded.BYTES + 1); bounded.time.sleep(100)",
}


def test_harm_is_seen(tmp_path):
    command = [sys.executable, "-c", SEEN, str(tmp_path), repr(HARM)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert done.stdout.split("\n")[:-1] == list(HARM)


def test_the_table_is_large_and_names_each_case_once():
    cases = table()
    assert len(cases) >= 300
    twice = [name for name, count in collections.Counter((case.kind, case.name) for case in cases).items() if count > 1]
    assert not twice
    assert all(isinstance(case, Case) for case in cases)


def test_the_fast_share_does_no_harm():
    command = [sys.executable, "-m", "benchmarks.hostile", "--quick", "outputs", "runs"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    rows = [line.split() for line in done.stdout.strip().splitlines()[-2:]]
    assert [row[0] for row in rows] == ["outputs", "runs"]
    assert all(row[1] == row[2] and set(row[3:]) == {"0"} for row in rows), done.stdout
