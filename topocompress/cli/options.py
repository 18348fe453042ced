"""Options that several commands share, and how they become what the pipeline takes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from topocompress.errors import CriterionError, DataError, PlanError, TopologyError
from topocompress.topology.scale import DEFAULT_SCALE as _SCALE

if TYPE_CHECKING:
    from topocompress.criteria.base import Criterion
    from topocompress.network.capture import Maps
    from topocompress.runtime.resources import Resources

MOST_SAMPLES, MOST_EPOCHS, MOST_ROUNDS, MOST_THREADS = 10_000_000, 100_000, 1_000_000, 1024
"""What an option takes at most: more is a slip of the keyboard, and would run for ever."""
_SHOWN = 80
"""Characters of what cannot be read that a message shows."""

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A checkpoint (.pt, .safetensors, ...), a torchvision name or timm:NAME with --weights, a factory "
        "pkg.module:callable, a run directory, or 'digits'.",
        show_default=False,
    ),
]
DataSource = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="FOLDER",
        help="Images, in one folder for each class if labelled; or digits, fashion-mnist:ROOT, cifar10:ROOT, "
        "pkg.module:factory. Without it, crops of two photographs stand in.",
    ),
]
Samples = Annotated[
    str,
    typer.Option(
        "--samples",
        metavar="N",
        help="Calibration samples; must exceed the Betti threshold. Of fewer, all are taken. auto: 1000, or for large "
        "networks down to 250, to which the threshold is then scaled.",
    ),
]
EvalSamples = Annotated[str, typer.Option("--eval-samples", metavar="N", help="Held-out samples at most.")]
CriterionName = Annotated[
    str,
    typer.Option("--criterion", help="See 'topocompress criteria'. Settings may follow: persistence+draws=4+batch=50."),
]
AnyCriterion = Annotated[
    str | None,
    typer.Option(
        "--criterion",
        help="See 'topocompress criteria'. Settings may follow: persistence+draws=4+batch=50.",
        show_default="betti with --max-betti or options of betti, else persistence",
    ),
]
Orientation = Annotated[
    str, typer.Option("--orientation", help="Whether betti removes high numbers (paper) or low ones (inverse).")
]
PerClass = Annotated[bool, typer.Option("--per-class", help="Let betti score each class by itself; needs labels.")]
ScaleText = Annotated[
    str,
    typer.Option(
        "--scale", help="How betti chooses ε: components:S, quantile:Q, relative:R, layer:R, absolute:E, knn:K,HOPS."
    ),
]
Dims = Annotated[str, typer.Option("--dims", help="Homology dimensions that betti counts, among 0,1,2.")]
Ignore = Annotated[
    list[str] | None, typer.Option("--ignore", help="Keep groups with a layer of this pattern whole. Repeatable.")
]
Linear = Annotated[bool, typer.Option("--linear", help="Prune the hidden linear layers of a classifier's head too.")]
Memory = Annotated[
    str | None,
    typer.Option(
        "--memory", help="Memory for scoring and refitting, such as 2GB.", show_default="half of what is free"
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers", help="Processes that score filters.", max=1024, show_default="the cores, or 1 for little work"
    ),
]
Cluster = Annotated[
    str | None, typer.Option("--cluster", help="Score on a Dask cluster: its scheduler's address, tcp://HOST:PORT.")
]
MapSize = Annotated[
    str | None,
    typer.Option(
        "--map-size",
        help="Average larger maps down to this many pixels a side first; full leaves them whole.",
        show_default="as the criterion has it: full, but for some plugins",
    ),
]
Sketch = Annotated[
    int | None,
    typer.Option("--sketch", help="Project larger maps onto this many random directions first.", max=1_000_000),
]
Backend = Annotated[
    str | None,
    typer.Option("--backend", help="Engine for betti, giotto-ph or ripser; both give the same numbers."),
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue what an interrupted run has left.")]
Cache = Annotated[bool, typer.Option(help="Keep scores between runs, and epochs until a run is finished.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of everything random.", min=0, max=2**32 - 1)]

DEFAULT_SCALE = _SCALE
DEFAULT_DIMENSIONS = "0,1"
DEFAULT_ORIENTATION = "paper"
_UNITS = {"K": 10**3, "M": 10**6, "G": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_GROUPED = re.compile(r"\d{1,3}(,\d{3})+")
_UNITS |= {f"{unit}B": _UNITS[unit] for unit in "KMG"}


def make_criterion(
    name: str,
    scale: str,
    dims: str,
    backend: str | None = None,
    orientation: str = DEFAULT_ORIENTATION,
    per_class: bool = False,
) -> Criterion:
    """The criterion that the options ask for.

    Raises:
        CriterionError: The name is unknown, or the options are not for it.
        TopologyError: The scale or a dimension is not supported.
    """
    from topocompress.criteria.registry import create

    if name.partition("+")[0] == "betti":
        return create(
            name,
            scale=scale,
            dimensions=_dimensions(dims),
            orientation=orientation,
            per_class=per_class,
            backend=backend,
        )
    if betti_asked(scale, dims, backend, orientation, per_class):
        raise CriterionError(
            f"--scale, --dims, --orientation, --per-class and --backend are for betti, not for {name!r}",
            hint="Leave them out.",
        )
    return create(name)


def betti_asked(scale: str, dims: str, backend: str | None, orientation: str, per_class: bool) -> bool:
    """Whether something was said that is of the criterion betti alone."""
    given = (scale, dims, backend, orientation, per_class)
    return given != (DEFAULT_SCALE, DEFAULT_DIMENSIONS, None, DEFAULT_ORIENTATION, False)


def make_resources(memory: str | None, workers: int | None, cluster: str | None) -> Resources:
    """What scoring may use.

    Raises:
        DataError: An amount makes no sense.
    """
    from topocompress.runtime.resources import Resources

    budget = None if memory is None else bytes_of(memory)
    return Resources(memory=budget, workers=workers, cluster=cluster)


def make_maps(map_size: str | None, sketch: int | None) -> Maps | None:
    """How maps become points; ``None`` if nothing is said.

    Raises:
        DataError: A size below 1, or a word that is not ``full``.
    """
    from topocompress.network.capture import made_maps

    number = map_size is not None and map_size.removeprefix("-").isdecimal() and len(map_size) <= _SHOWN
    return made_maps(int(map_size) if map_size is not None and number else map_size, sketch)


def cache_folder(cache: bool) -> Path | None:
    """Where scores are kept between runs, if they are."""
    from topocompress.scoring.store import default_cache

    return default_cache() if cache else None


def bytes_of(text: str, option: str = "--memory") -> int:
    """Read ``2GB``, ``2G``, ``500MiB`` or a plain number of bytes.

    Raises:
        DataError: The text is none of these.
    """
    stripped = text.strip().upper()
    unit = next((unit for unit in sorted(_UNITS, key=len, reverse=True) if stripped.endswith(unit)), "")
    try:
        value = float(stripped.removesuffix(unit)) * _UNITS.get(unit, 1)
    except ValueError:
        value = 0
    if not 1 <= value < float("inf"):
        raise DataError(
            f"cannot read {option} {text!r}", hint=f"For example: {option} 2{'MB' if 'size' in option else 'GB'}"
        )
    return int(value)


def whole_or_auto(option: str, text: str, most: int | None = None) -> int | Literal["auto"]:
    """Read a whole number, also as ``1,000`` or ``1k``, or ``auto``.

    Raises:
        PlanError: It is neither, or more than that option takes.
    """
    return "auto" if text == "auto" else whole(option, text, most, other=" or auto")


def whole(option: str, text: str, most: int | None = None, *, other: str = "") -> int:
    """Read a whole number, also as ``1,000`` or ``1k``.

    Args:
        option: What it is of, for the message.
        text: What the user wrote.
        most: The largest there may be.
        other: What else may stand there, for the message.

    Raises:
        PlanError: It is none, or more than that option takes.
    """
    short = text.lower().removesuffix("k")
    grouped = _GROUPED.fullmatch(short) is not None
    try:
        number = int(short.replace(",", "") if grouped else short) * (1 if short == text.lower() else 1000)
    except ValueError as error:
        raise PlanError(f"{option} {text[:_SHOWN]}: give a whole number{other}") from error
    if most is not None and number > most:
        raise PlanError(f"{option} {text[:_SHOWN]}: at most {most:,}")
    return number


def default_out(model: str) -> Path:
    """``model-pruned`` beside the model file, or in the current directory for a name."""
    path = Path(model)
    if path.exists():
        resolved = path.resolve()
        return resolved.parent / f"{resolved.stem if resolved.is_file() else resolved.name}-pruned"
    return Path(f"{model.replace(':', '-')}-pruned")


def _dimensions(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError as error:
        raise TopologyError(f"cannot read the dimensions {text!r}", hint="For example: --dims 0,1") from error
