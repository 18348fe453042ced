""":class:`~topocompress.types.Report` → files: JSON, the model card in Markdown, the page."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from topocompress.deploy.bench import Bench
from topocompress.reporting import budgets, environment
from topocompress.reporting.page import to_html
from topocompress.reporting.quantities import comparison_table
from topocompress.reporting.wording import (
    command_line,
    fewer_bits,
    inputs,
    judges,
    machine,
    name,
    notes,
    over_budget,
    parity,
    remedies,
    stage_lines,
    verdict,
    warnings,
)
from topocompress.runtime.files import atomic_file
from topocompress.types import Report, Scores

_NUMBERS = re.compile(r"\[\n\s*(-?[\d.][^\[\]{}\"]*?)\s*\]")
_SPECIAL = re.compile(r"([\\`*_\[\]<>|~#])")


def to_markdown(report: Report) -> str:
    """The report as a model card, to be pasted into a pull request."""
    return "\n".join(
        [
            f"# {_text(name(report))}, pruned by {_text(report.plan['criterion'])}",
            "",
            *((_text(over), "") if (over := over_budget(report)) else ()),
            _text(verdict(report)),
            "",
            *((f"Input: {_text(read)}.", "") if (read := inputs(report)) else ()),
            *_table(*(tuple(map(_text, row)) for row in comparison_table(report))),
            "",
            *(f"- {_text(line)}" for line in (*stage_lines(report), parity(report))),
            "",
            *_sections(report),
        ]
    )


def _sections(report: Report) -> Iterator[str]:
    about, data = report.environment, report.data
    for title, texts in (("Warnings", warnings(report)), ("Notes", notes(report))):
        if texts:
            yield from (f"## {title}", "", *(f"- {_text(text)}" for text in texts), "")
    for each in remedies(report):
        yield from (f"## {each.case}", "")
        for number, (what, command) in enumerate(each.steps, 1):
            yield from (f"{number}. {_text(what)}:", "", *(f"   {line}" for line in _fenced(command)), "")
    if report.budget is not None:
        yield from ("## Budget", "", budgets.line(report.budget), "")
    for kind, said in fewer_bits(report).items():
        yield from (f"## {kind}", "", _text(said), "")
    yield from ("## For what", "")
    yield f"- Classes, tasks and images like those of the original, {_text(report.model['source'])}; its limits stay."
    yield (
        f"- Judged on {_text(judges(report))}. "
        "What pruning does to images unlike these, or to single classes, is not known."
    )
    yield "- MACs count convolutions, linear layers and attention."
    yield f"- Latency and memory: {_text(machine(report))}, ONNX Runtime, all files in turn in one run."
    yield from ("", "## Reproduce", "")
    yield from _fenced(command_line(report) or "# made from Python: topocompress.compress(...)")
    versions = {"Python": about.get("python"), **about.get("versions", {})}
    facts = {
        "Seed": about.get("seed"),
        "Versions": ", ".join(f"{package} {version}" for package, version in versions.items() if version),
        "Original model": report.model.get("fingerprint"),
        "Calibration samples": data.get("fingerprint"),
    }
    yield ""
    yield from (f"- {fact}: {_text(value)}" for fact, value in facts.items() if value not in (None, ""))
    yield from ("", "<details>", "<summary>Channels of every layer</summary>", "")
    head = ("layer", "before", "after", "asked for", "dead", "kept because")
    columns = ("before", "after", "asked", "dead", "kept_because")
    rows = [(_code(row["root"]), *(_text(row[column]) for column in columns)) for row in report.plan["groups"]]
    yield from _table(head, *rows, left=(0, 5))
    yield from ("", "</details>", "")


def _table(head: tuple[str, ...], *rows: tuple[str, ...], left: tuple[int, ...] = (0,)) -> list[str]:
    rule = "|".join("---" if column in left else "---:" for column in range(len(head)))
    lines = [f"| {' | '.join(row)} |" for row in (head, *rows)]
    return [lines[0], f"|{rule}|", *lines[1:]]


def _text(value: Any) -> str:
    """Text that Markdown shows as it is, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(str(value).split()))


def _code(value: str) -> str:
    """A name in code type, in a table too, whatever is in it."""
    line = " ".join(value.split()).replace("|", "\\|")
    ticks = "`" * (1 + max((len(run) for run in re.findall("`+", line)), default=0))
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{ticks}{pad}{line}{pad}{ticks}"


def _fenced(command: str) -> list[str]:
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", command)), default=0))
    return [f"{fence}sh", *command.splitlines(), fence]


def write_report(directory: Path, report: Report) -> None:
    """Write ``report.json``, ``report.md`` and ``report.html`` into a directory."""
    text = json.dumps(asdict(report), indent=1, allow_nan=False)
    text = _NUMBERS.sub(lambda found: f"[{' '.join(found[1].split())}]", text)  # rows of numbers on one line
    (directory / "report.json").write_text(text + "\n", encoding="utf-8")
    (directory / "report.md").write_text(to_markdown(report), encoding="utf-8")
    (directory / "report.html").write_text(to_html(report), encoding="utf-8")


def write_bench(path: Path, found: Bench) -> None:
    """Write everything that timing ONNX files against each other has found, with machine and versions.

    Raises:
        OutputError: The file cannot be written.
    """
    with atomic_file(path) as temporary:
        temporary.write_text(
            json.dumps({**asdict(found), "environment": environment.describe()}, indent=1) + "\n", encoding="utf-8"
        )


def write_scores(path: Path, scores: Scores) -> None:
    """Write ``scores.json``: every filter's score, its parts, and whether it is dead.

    Raises:
        OutputError: The file cannot be written.
    """
    content = {
        "criterion": scores.criterion,
        "higher": scores.higher,
        "settings": dict(scores.settings),
        "samples": scores.samples,
        "model": scores.model,
        "layers": {
            name: {
                "scores": layer.values.tolist(),
                **{part: values.tolist() for part, values in layer.parts.items()},
                "dead": layer.dead.tolist(),
                **({"scale": layer.scale} if layer.scale else {}),
            }
            for name, layer in scores.layers.items()
        },
    }
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
