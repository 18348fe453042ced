"""The report as one self-contained page, ``report.html``: text and tables from here, charts drawn by the page itself.

All text goes through a template that escapes it, for names come from model files that nobody has checked. The page
carries ``report.json`` inside, and draws from that; a policy in its head lets nothing be loaded from anywhere, and no
script run but those written here.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from dataclasses import asdict
from operator import attrgetter
from pathlib import Path
from typing import Any

import jinja2

from topocompress.reporting import budgets, quantities, wording
from topocompress.types import Report, in_fewer_bits
from topocompress.types.results import FEWER_BITS

_TEMPLATES = Path(__file__).with_name("templates")
_SCRIPTS = (
    ("vendor/d3.min.js", "vendor/LICENSE-d3"),
    ("vendor/plot.min.js", "vendor/LICENSE-plot"),
    ("report.js", ""),
    ("tables.js", ""),
)
_UNSAFE = str.maketrans({char: f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"})


def to_html(report: Report) -> str:
    """The whole page. It needs no other file, and no network."""
    content = asdict(report)
    scripts = [_script(*names) for names in _SCRIPTS]
    return _template().render(
        report=report,
        name=wording.name(report),
        title=f"{wording.name(report)}, pruned by {report.plan['criterion']}",
        over=wording.over_budget(report),
        verdict=wording.verdict(report),
        inputs=wording.inputs(report),
        judges=wording.judges(report),
        warnings=wording.warnings(report),
        notes=wording.notes(report),
        remedies=wording.remedies(report),
        fewer_bits=list(wording.fewer_bits(report).values()),
        files=_files(report),
        policy=_policy(scripts),
        scripts=scripts,
        style=_read("report.css"),
        # Within a script element only "<" could end or comment it; escaped, JSON means the same.
        data=json.dumps(content, allow_nan=False, separators=(",", ":")).translate(_UNSAFE),
        cards=[_card(each, list(in_fewer_bits(report))) for each in quantities.quantities(report)],
        comparison=quantities.comparison_table(report),
        lines=[*wording.stage_lines(report), wording.parity(report)],
        measure=_measure(quantities.measure_of(report), report),
        judged_by=_measure(report.finetune.get("measure", "accuracy"), report),
        stages=[_stage(each, report) for each in quantities.stages(report)],
        chance=quantities.chance(report),
        budget=budgets.line(report.budget) if report.budget else "",
        layers=_layers(report),
        judged=_judged(report),
        rule=_options(report.plan.get("rule", {})),
        scoring=_settings(report.scoring.get("settings", {})),
        threshold=report.plan.get("rule", {}).get("max_betti"),
        iterations=report.finetune.get("iterations", 1),
        history=report.finetune.get("history", ()),
        tuning=wording.tuning_line(report.finetune),
        command=wording.command_line(report),
        facts=_facts(report),
        seconds=report.environment.get("seconds", {}),
    )


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": quantities.percent,
        "amount": _amount,
        "count": quantities.count,
        "prose": _prose,
        "at": lambda report, path: attrgetter(path)(report),
    }
    return environment.get_template("report.html")


def _prose(text: str) -> str:
    """With numbers that stay on one line with their sign."""
    return text.replace(" %", "\u00a0%")


@functools.cache
def _read(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8").strip()


@functools.cache
def _script(name: str, licence: str) -> str:
    notice = f"/*\n{_read(licence)}\n*/\n" if licence else ""
    return notice + _read(name)


def _policy(scripts: list[str]) -> str:
    """Nothing may be loaded, and only these scripts run."""
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    return f"default-src 'none'; base-uri 'none'; img-src data:; style-src 'unsafe-inline'; script-src {allowed}"


def _files(report: Report) -> list[tuple[str, str, str]]:
    """(name, where in report.json its measurement is, name of its colour) of every file that was measured."""
    small = [(kind, f"{FEWER_BITS[kind]}.measurement", kind.lower()) for kind in in_fewer_bits(report)]
    return [("before", "before", "before"), ("after", "after", "after"), *small]


def _card(each: quantities.Quantity, kinds: list[str]) -> dict[str, Any]:
    """One quantity at a glance: what is left of it, as a share of the original, where less is better.

    Args:
        each: The quantity, of files in fewer bits too.
        kinds: What these are called.
    """
    first, second = each.values[:2]
    share = None
    if first and second is not None and not _is_likeness(each):
        share = min(1.0, second / first)
    timed = each.path.startswith("latency.")
    return {
        "what": each.what.partition(" with the ")[0].replace("Latency ms, ", "Latency, ").removesuffix(", median/p95"),
        "unit": " ms" if timed else "",
        "change": each.changes[0],
        "worse": _worse(each),
        "share": share,
        "fewer_bits": _fewer_bits(each, kinds) if timed or each.path == "file_bytes" or _judges(each) else [],
        "sides": [
            {"field": f"{side}.{each.path}{'.median_ms' if timed else ''}", "value": value, "text": text.split(" /")[0]}
            for side, value, text in zip(("before", "after"), each.values, each.shown, strict=False)
        ],
    }


def _fewer_bits(each: quantities.Quantity, kinds: list[str]) -> list[str]:
    """The same of the files in fewer bits, without the word that the tile has already: smaller, faster, points."""
    unit = " ms" if each.path.startswith("latency.") else ""
    word = each.changes[0].partition(" ")[2]
    found = zip(kinds, each.values[2:], each.shown[2:], each.changes[1:], strict=True)
    return [
        f"{kind}: {shown.split(' /')[0]}{unit}{f', {change.removesuffix(word).rstrip()}' if change else ''}"
        for kind, value, shown, change in found
        if value is not None
    ]


def _judges(each: quantities.Quantity) -> bool:
    """Whether it says how good answers are."""
    return each.path in ("metric", *quantities.SHARES)


def _is_likeness(each: quantities.Quantity) -> bool:
    """Whether more of it is better: a share of right or equal answers, or the user's metric."""
    return _judges(each) or each.path.startswith("outputs.")


def _worse(each: quantities.Quantity) -> bool:
    """Whether something got worse by more than noise: half a point of accuracy, 0.5 % of a metric, 2 % of the rest."""
    first, second = each.values[:2]
    if first is None or second is None or (_is_likeness(each) and each.path not in ("accuracy", "metric")):
        return False
    if each.path == "metric":
        return second < first - 0.005 * abs(first)
    return second < first - 0.005 if each.path == "accuracy" else second > 1.02 * first


def _amount(value: float, kind: str) -> str:
    return quantities.amount(kind, value)


def _measure(kind: str, report: Report) -> dict[str, Any]:
    """What a chart or a column shows, and whether it is a share; nothing where fine-tuning went by its loss alone."""
    if kind == "loss":
        return {}
    name = quantities.in_words(report) if kind == "metric" else quantities.spoken(kind)
    title = name if kind == "metric" else name.capitalize()
    return {"kind": kind, "name": name, "title": title, "share": kind in quantities.SHARES}


def _stage(stage: quantities.Stage, report: Report) -> dict[str, Any]:
    return {
        "name": stage.name,
        "kind": stage.kind,
        "macs": stage.macs,
        "share": stage.macs / max(1, report.before.macs),
        "values": stage.values,
    }


def _layers(report: Report) -> list[dict[str, Any]]:
    """The groups with the widths of their bars, in percent of the widest."""
    rows = report.plan["groups"]
    widest = max((row["before"] for row in rows), default=1)
    return [
        {
            **row,
            "others": [name for name in row.get("coupled", ()) if name != row["root"]],
            "left": 1 - (row["before"] - row["after"]) / max(1, row["before"]),
            "bar": 100 * row["after"] / widest,
            "cut": 100 * (row["before"] - row["after"]) / widest,
            "units": row.get("units", {}),
        }
        for row in rows
    ]


def _judged(report: Report) -> list[dict[str, Any]]:
    """Groups whose units were scored, with what their scores are like."""
    found = []
    for index, row in enumerate(report.plan["groups"]):
        if not (units := row.get("units")):
            continue
        scores = sorted(units["scores"])
        found.append(
            {
                "index": index,
                "root": row["root"],
                "layers": units["layers"],
                "units": len(scores),
                "removed": len(units["removed"]),
                "dead": len(units["dead"]),
                "low": scores[0],
                "middle": (scores[(len(scores) - 1) // 2] + scores[len(scores) // 2]) / 2,
                "high": scores[-1],
            }
        )
    return found


def _options(rule: Any) -> list[str]:
    shown = {name: f"{value:g}" if isinstance(value, float) else value for name, value in rule.items()}
    return [f"--{name.replace('_', '-')} {value}" for name, value in shown.items() if value is not None]


def _settings(settings: Any) -> str:
    return ", ".join(
        f"{name} {value if not isinstance(value, list | tuple) else '+'.join(map(str, value))}"
        for name, value in settings.items()
        if value is not None
    )


def _facts(report: Report) -> list[tuple[str, str, Any]]:
    """(what, where in report.json, value): what it takes to get the same again."""
    about, model, data = report.environment, report.model, report.data
    found: list[tuple[str, str, Any]] = [
        ("Seed", "environment.seed", about.get("seed")),
        ("Original model", "model.fingerprint", model.get("fingerprint")),
        ("Calibration samples", "data.fingerprint", data.get("fingerprint")),
        ("Machine", "environment.processor", about.get("processor")),
        ("Cores", "environment.cores", about.get("cores")),
        ("Threads of PyTorch", "environment.threads", about.get("threads")),
        ("System", "environment.system", about.get("system")),
        ("Python", "environment.python", about.get("python")),
    ]
    found += [(name, f"environment.versions.{name}", version) for name, version in about.get("versions", {}).items()]
    return [(what, path, value) for what, path, value in found if value not in (None, "")]
