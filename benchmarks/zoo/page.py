"""The page that says what ``python -m benchmarks.zoo`` has found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.zoo.model import CRITERIA, MAP_SIZE, MINIMUM_SPREAD, PRUNED_SPREAD, RATIO
from benchmarks.zoo.subject import MOST_SAMPLES

_HEAD = (
    "| network | result | input | parameters | MACs | parameters kept | MACs kept "
    "| times faster: {criteria} | parity | groups pruned | groups kept whole |"
)


def passed(entry: Mapping[str, Any]) -> bool:
    """Whether every check of every criterion held."""
    done = [row["criterion"] for row in entry["rows"] if "failure" not in row]
    return "failure" not in entry and set(done) == set(CRITERIA)


def page(found: Mapping[str, Any], names: Sequence[str]) -> str:
    """The whole page, in Markdown.

    Args:
        found: The file of results.
        names: All networks that there are.
    """
    models: Mapping[str, Any] = found["models"]
    count = sum(passed(models[name]) for name in names if name in models)
    left = [name for name in names if name not in models]
    lines = [
        "# Every torchvision network",
        "",
        "Written by `python -m benchmarks.zoo` from `benchmarks/results/zoo.json`; not edited by hand.",
        "",
        f"**{count} of {len(names)}** classification networks were pruned by "
        + " and by ".join(f"`{criterion}`" for criterion in CRITERIA)
        + ", ran, were saved and loaded again bit for bit in a new process, and were exported to ONNX with the outputs "
        "that PyTorch gives.",
    ]
    if left:
        lines += ["", f"Not looked at yet: {', '.join(left)}."]
    lines += ["", *_method(found), "", _HEAD.format(criteria=", ".join(CRITERIA)), _rule(_HEAD)]
    lines += [_row(name, models[name]) for name in names if name in models]
    lines += ["", *_failures(models)] if any(not passed(entry) for entry in models.values()) else []
    lines += ["", *_reasons(models), ""]
    return "\n".join(lines)


def _method(found: Mapping[str, Any]) -> list[str]:
    machine = found["machine"]
    return [
        "- **Weights** are seeded, not trained: drawn at random, then each layer scaled and shifted on images so that "
        "its outputs vary. The outputs' standard deviation over held-out images is at least "
        f"{MINIMUM_SPREAD:.0%} of their size before pruning and {PRUNED_SPREAD:.0%} after, so that equal outputs mean "
        "something. These networks know no classes; nothing here says how well a pruned network can be trained.",
        f"- **Pruned** are {RATIO:.0%} of every group's filters, widths aligned as by default. `betti` sees at most "
        f"{MOST_SAMPLES} images, fewer where a network is large, with maps averaged to {MAP_SIZE} × {MAP_SIZE}. Both "
        "criteria cut to the same widths; they choose other filters. BatchNorm statistics are re-estimated afterwards.",
        "- **Checked** are the widths, the shape of the outputs, that they are finite, and that the "
        "multiply-accumulates are exactly those predicted. Outputs are those for held-out images that are answered "
        "with at most three times the usual size: networks with random weights answer a few far more strongly, and "
        "magnify rounding as much.",
        "- **Parity** is the largest difference between ONNX Runtime and PyTorch, relative to the largest output; the "
        "worse of the two criteria.",
        "- **Times faster** is the median latency before, divided by that after, at batch 1 in ONNX Runtime on the "
        "CPU, timed in turn in one run; in some runs the machine had other work to do. A dash: not measured, mostly "
        "since the original exceeds the 2 GiB of one ONNX file.",
        f"- **Machine**: {_processors(found)}, {machine['cores']} cores; Python {machine['python']}, "
        + ", ".join(f"{name} {machine['versions'][name]}" for name in ("torch", "torchvision", "onnxruntime"))
        + ".",
    ]


def _processors(found: Mapping[str, Any]) -> str:
    """Those that the networks ran on, the most frequent first, with how many if there are several."""
    usual = found["machine"]["processor"]
    counts = Counter(entry.get("processor", usual) for entry in found["models"].values()).most_common()
    if len(counts) < 2:
        return str(counts[0][0] if counts else usual)
    return "; ".join(f"{processor} ({count} networks)" for processor, count in counts)


def _row(name: str, entry: Mapping[str, Any]) -> str:
    rows = {row["criterion"]: row for row in entry["rows"]}
    first: Mapping[str, Any] = next((row for row in entry["rows"] if "macs" in row), {})
    parities = [row["parity"] for row in entry["rows"] if "parity" in row]
    groups = next((row["groups"] for row in entry["rows"] if "groups" in row), None)
    cells = [
        f"`{name}`",
        "ok" if passed(entry) else "**failed**",
        " × ".join(str(side) for side in entry["input"][1:]) if "input" in entry else "",
        _amount(entry.get("parameters")),
        _amount(entry.get("macs")),
        _share(first.get("parameters"), entry.get("parameters")),
        _share(first.get("macs"), entry.get("macs")),
        ", ".join(_faster(rows.get(criterion, {})) for criterion in CRITERIA),
        f"{max(parities):.0e}" if parities else "",
        str(groups["pruned"]) if groups else "",
        _kept(groups) if groups else "",
    ]
    return f"| {' | '.join(cells)} |"


def _kept(groups: Mapping[str, Any]) -> str:
    return "; ".join(f"{len(roots)}: {why}" for why, roots in _by_reason(groups).items())


def _by_reason(groups: Mapping[str, Any]) -> dict[str, list[str]]:
    narrow = {"too narrow to lose so small a share": groups["too_narrow"]} if groups["too_narrow"] else {}
    return {**groups["kept"], **narrow}


def _failures(models: Mapping[str, Any]) -> list[str]:
    lines = ["## What failed", "", "| network | step | why |", "|---|---|---|"]
    for name, entry in models.items():
        for part in (entry, *entry["rows"]):
            if "failure" in part:
                why = part["failure"]["error"].replace("|", "\\|")
                lines.append(f"| `{name}` | {part['failure']['step']} | {why} |")
    return lines


def _reasons(models: Mapping[str, Any]) -> list[str]:
    total: dict[str, list[str]] = {}
    for name, entry in models.items():
        groups = next((row["groups"] for row in entry["rows"] if "groups" in row), None)
        for why, roots in _by_reason(groups).items() if groups else ():
            total.setdefault(why, []).extend(f"{name}: {root}" for root in roots)
    lines = ["## Why groups were kept whole", "", "| reason | groups | for example |", "|---|---:|---|"]
    ordered = sorted(total.items(), key=lambda item: -len(item[1]))
    return lines + [f"| {why} | {len(found)} | `{found[0]}` |" for why, found in ordered]


def _rule(head: str) -> str:
    return "|" + "---|" * (head.count("|") - 1)


def _amount(number: int | None) -> str:
    if number is None:
        return ""
    return f"{number / 1e9:.2f} G" if number >= 1e9 else f"{number / 1e6:.1f} M"


def _share(after: int | None, before: int | None) -> str:
    return f"{after / before:.0%}" if after and before else ""


def _faster(row: Mapping[str, Any]) -> str:
    before, after = row.get("latency_ms", (None, None))
    return f"{before / after:.2f}" if before and after else "–"
