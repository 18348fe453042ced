"""What is kept of the networks' processes, and the page about them."""

import json

from benchmarks.zoo.children import Outcome
from benchmarks.zoo.entries import Results, entry_of, wanted
from benchmarks.zoo.model import CheckFailedError, failure
from benchmarks.zoo.page import page, passed
from benchmarks.zoo.subject import samples_for


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


def test_the_page_says_which_networks_ran_where():
    models = {name: entry(row("l1"), processor=which) for name, which in (("one", "a"), ("two", "b"), ("three", "b"))}
    assert "- **Machine**: b (2 networks); a (1 networks), 2 cores" in page({"models": models, "machine": MACHINE}, [])


def test_large_networks_see_fewer_images():
    assert [samples_for(macs) for macs in (10**8, 4 * 10**9, 20 * 10**9, 170 * 10**9)] == [64, 64, 48, 8]


def test_a_failure_is_one_line():
    assert failure("check", CheckFailedError("what", hint="how")) == {"step": "check", "error": "what"}
    assert failure("export", ValueError("one\ntwo")) == {"step": "export", "error": "ValueError: one"}
    assert failure("export", KeyError())["error"] == "KeyError: KeyError"
