"""The parts of ``python -m benchmarks.zoo``: processes under limits, what is kept of them, the page."""

import json
import sys
from pathlib import Path

import psutil
import pytest
import torch
from torch import nn

from benchmarks.common.networks import make_informative, relative_spread
from benchmarks.zoo.children import Limits, Outcome, run_children
from benchmarks.zoo.entries import Results, entry_of, wanted
from benchmarks.zoo.model import CheckFailedError, failure
from benchmarks.zoo.page import page, passed
from benchmarks.zoo.subject import samples_for

GENEROUS = Limits(seconds=600, memory=10**12)
SLEEPER = ["sh", "-c", "sleep 600 & echo $!; wait"]
SAYS_AND_FAILS = "import sys; print('{\"step\": \"build\"}'); print('first'); sys.exit('what went wrong')"


def python(code):
    return [sys.executable, "-c", code]


def alive(pid):
    """Whether a process that was killed is still there; on a busy machine it may take a moment to go."""
    try:
        process = psutil.Process(pid)
        psutil.wait_procs([process], timeout=30)
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def outcome(**changes):
    facts = {"status": 0, "stopped": "", "output": "", "complaint": "", "seconds": 1.0, "peak": 10}
    return Outcome(**{**facts, **changes})


def row(criterion, **changes):
    good = {
        "criterion": criterion,
        "groups": {"pruned": 3, "kept": {"feeds the model's output": ["fc"]}, "too_narrow": []},
        "parameters": 500_000,
        "macs": 60_000_000,
        "parity": 2e-6,
        "latency_ms": [3.0, 2.0],
    }
    return {**good, **changes}


def entry(*rows, **changes):
    facts = {"input": [3, 224, 224], "parameters": 1_000_000, "macs": 100_000_000}
    return {**facts, "rows": list(rows), **changes}


MACHINE = {
    "processor": "a",
    "cores": 2,
    "python": "3",
    "versions": dict.fromkeys(("torch", "torchvision", "onnxruntime"), "1"),
}


def test_what_a_process_says_and_how_it_ends_is_reported():
    found = {}
    run_children(
        {"a": python("print(1)"), "b": python(SAYS_AND_FAILS)}, jobs=2, limits=GENEROUS, finished=found.__setitem__
    )
    assert (found["a"].status, found["a"].output, found["a"].complaint) == (0, "1\n", "")
    assert (found["b"].status, found["b"].complaint, found["b"].stopped) == (1, "what went wrong", "")


def test_a_process_that_takes_too_long_is_ended_with_its_children():
    found = {}
    run_children({"slow": SLEEPER}, jobs=1, limits=Limits(seconds=2, memory=10**12), finished=found.__setitem__)
    assert found["slow"].stopped == "stopped after 2 s"
    assert not alive(int(found["slow"].output))


def test_a_process_that_takes_too_much_memory_is_ended():
    found = {}
    greedy = python(
        "import time; held = bytearray(300_000_000); held[::4096] = b'1' * len(held[::4096]); time.sleep(600)"
    )
    run_children({"greedy": greedy}, jobs=1, limits=Limits(seconds=600, memory=2 * 10**8), finished=found.__setitem__)
    assert found["greedy"].stopped == "stopped when it held more than 0.2 GB"
    assert found["greedy"].peak > 2 * 10**8


def test_whatever_ends_the_run_ends_all_processes(tmp_path):
    told = tmp_path / "pid"
    sleeper = ["sh", "-c", f"sleep 600 & echo $! > '{told}'; wait"]
    waits = f"""
import pathlib, time
told = pathlib.Path({str(told)!r})
while not told.exists() or not told.read_text():
    time.sleep(0.01)
"""

    def interrupt(_name, _outcome):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_children({"a": sleeper, "b": python(waits)}, jobs=2, limits=GENEROUS, finished=interrupt)
    assert not alive(int(told.read_text()))


def test_temporary_files_of_a_process_go_with_it():
    found = {}
    code = "import tempfile; print(tempfile.mkdtemp())"
    run_children({"a": python(code)}, jobs=1, limits=GENEROUS, finished=found.__setitem__)
    assert not Path(found["a"].output.strip()).exists()


def test_an_entry_gathers_what_was_said():
    lines = [
        {"step": "build"},
        {"facts": {"macs": 5}},
        {"step": "l1: remove"},
        {"row": row("l1")},
        {"row": row("betti")},
    ]
    made = entry_of(outcome(output="\n".join(map(json.dumps, lines))), {"threads": 1})
    assert made["macs"] == 5
    assert [each["criterion"] for each in made["rows"]] == ["l1", "betti"]
    assert made["settings"] == {"threads": 1}
    assert passed(made)


def test_an_entry_of_a_stopped_process_names_the_step_and_is_a_failure():
    said = '{"facts": {"macs": 5}}\n{"step": "l1: export"}\n{"row": {"crit'
    made = entry_of(outcome(output=said, stopped="stopped after 3 s", status=-9), {})
    assert made["failure"] == {"step": "l1: export", "error": "stopped after 3 s"}
    assert made["macs"] == 5
    assert not passed(made)


def test_an_entry_of_a_crash_says_the_last_line():
    made = entry_of(outcome(output='{"step": "group"}', status=1, complaint="MemoryError"), {})
    assert made["failure"] == {"step": "group", "error": "exit status 1: MemoryError"}


def test_a_network_passes_only_with_every_criterion():
    assert passed(entry(row("l1"), row("betti")))
    assert not passed(entry(row("l1")))
    assert not passed(entry(row("l1"), row("betti", failure={"step": "s", "error": "e"})))
    assert not passed(entry(row("l1"), row("betti"), failure={"step": "s", "error": "e"}))


def test_finished_networks_are_not_run_again_unless_asked_for(tmp_path):
    results = Results(tmp_path / "zoo.json")
    results.put("alexnet", entry(row("l1"), row("betti")))
    results.put("vgg11", entry(failure={"step": "group", "error": "e"}))
    results = Results(tmp_path / "zoo.json")
    assert wanted("alexnet,vgg1[13]", results, None) == ["vgg13"]
    assert wanted("alexnet,vgg1[13]", results, "failed") == ["vgg11", "vgg13"]
    assert wanted("alexnet,vgg1[13]", results, "all") == ["alexnet", "vgg11", "vgg13"]
    assert len(wanted("*", results, None)) == 78


def test_the_page_counts_and_names_every_failure():
    why = {"failure": {"step": "l1: remove", "error": "a | b"}}
    models = {
        "good": entry(row("l1"), row("betti", latency_ms=[None, 2.0], parity=3e-5)),
        "bad": entry(row("l1", **why), row("betti")),
        "gone": {"rows": [], "failure": {"step": "group", "error": "stopped after 300 s"}},
    }
    text = page({"models": models, "machine": MACHINE}, ["good", "bad", "gone", "new"])
    assert "- **Machine**: a, 2 cores" in text
    assert "**1 of 4**" in text
    assert "Not looked at yet: new." in text
    assert (
        "| `good` | ok | 224 × 224 | 1.0 M | 100.0 M | 50% | 60% | 1.50, – | 3e-05 | 3 | 1: feeds the model's output |"
        in text
    )
    assert "| `bad` | l1: remove | a \\| b |" in text
    assert "| `gone` | group | stopped after 300 s |" in text
    assert "| feeds the model's output | 2 | `good: fc` |" in text


def test_large_networks_see_fewer_images():
    assert [samples_for(macs) for macs in (10**8, 4 * 10**9, 20 * 10**9, 170 * 10**9)] == [64, 64, 48, 8]


def test_a_failure_is_one_line():
    assert failure("check", CheckFailedError("what", hint="how")) == {"step": "check", "error": "what"}
    assert failure("export", ValueError("one\ntwo")) == {"step": "export", "error": "ValueError: one"}
    assert failure("export", KeyError())["error"] == "KeyError: KeyError"


class Deep(nn.Module):
    """Twenty layers without norms, a layer scale and a zero head."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(*(part for _ in range(20) for part in (nn.Conv2d(3, 3, 3, padding=1), nn.ReLU())))
        self.scale, self.norm = nn.Parameter(torch.ones(3, 1, 1) * 1e-6), nn.BatchNorm2d(3)
        self.head = nn.Linear(3, 5)
        nn.init.zeros_(self.head.weight)

    def forward(self, x):
        return self.head(self.norm(x + self.scale * self.body(x)).mean((2, 3)))


def test_weights_become_informative_in_one_pass():
    images = torch.rand(16, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    model, twin, other = Deep(), Deep(), Deep()
    assert relative_spread(model.eval()(images)) == 0
    before = torch.get_rng_state()
    make_informative(model, images)
    make_informative(twin, images)
    make_informative(other, images, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    with torch.no_grad():
        outputs, wide = model(images), model.norm(images + model.scale * model.body(images))
        assert torch.equal(outputs, twin(images))
        assert not torch.allclose(outputs, other(images), atol=0.1)
        first = model.body[0](images)
    assert relative_spread(outputs) > 0.3
    # Each channel has the deviation and the mean that were drawn for it.
    assert first.std((0, 2, 3), correction=0).gt(0.49).all() and first.std((0, 2, 3), correction=0).lt(1.51).all()
    assert first.mean((0, 2, 3)).abs().lt(0.51).all()
    assert torch.allclose(wide.mean((0, 2, 3)), model.norm.bias, atol=1e-4)
    assert torch.allclose(wide.std((0, 2, 3), correction=0), model.norm.weight, atol=1e-2)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_spread_is_relative_and_zero_without_differences():
    outputs = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    assert relative_spread(outputs) == pytest.approx(2**0.5)
    assert relative_spread(7 * outputs) == pytest.approx(2**0.5)
    assert relative_spread(torch.ones(3, 4)) == 0


def test_the_page_says_which_networks_ran_where():
    models = {name: entry(row("l1"), processor=which) for name, which in (("one", "a"), ("two", "b"), ("three", "b"))}
    assert "- **Machine**: b (2 networks); a (1 networks), 2 cores" in page({"models": models, "machine": MACHINE}, [])
