"""Which rows the study behind docs/research/criteria.md has, and in what order they are measured."""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterator, Sequence

from benchmarks.arena.scores import scored_as
from benchmarks.arena.setting import NETWORKS, RATIOS, SEEDS, Setting
from topocompress.workflows.compare import GLOBAL

EPOCHS = 2
OURS = "persistence"
BASELINES = ("taylor", "l1", "l2", "bn-scale", "chip", "fpgm", "hrank", "random", "betti")
SETTLED = "persistence+settled=true"
FIRST_ORDER = "persistence+looks=1"
VARIANTS = (SETTLED, FIRST_ORDER, "taylor+looks=9", "cubical")
"""Not in the bar."""
AS_TUNED = f"{OURS}+alone=1000+looks=1"
"""What it is where fine-tuning follows, without fine-tuning."""
PLAIN, FIRST_PLAIN = f"{OURS}+alone=0", f"{FIRST_ORDER}+alone=0"
"""What they are without fine-tuning, fine-tuned."""
BETWEEN = (*(f"{OURS}+alone={alone}+norm=0.5" for alone in (3, 10, 30)), f"{OURS}+alone=30")
FIRST_BETWEEN = f"{FIRST_ORDER}+alone=30+norm=0.5"
TRIED = {
    "resnet20": (PLAIN, *BETWEEN, FIRST_PLAIN, FIRST_BETWEEN),
    "fashion": (PLAIN, *BETWEEN),
    "resnet56": (PLAIN, *BETWEEN[2:], FIRST_BETWEEN),
}
"""Fine-tuned, on which network; not in the bar either."""
ORACLE_ONLY = ("persistence+looks=1+signed=false",)
GLOBALS = (f"{OURS}{GLOBAL}", f"taylor{GLOBAL}")
STRONGEST, WEAKER = BASELINES[:4], BASELINES[4:]
"""Without fine-tuning."""
ORDER = ("resnet20", "fashion", "resnet56")
"""In which the networks' turns come."""
Row = tuple[str, ...]
"""``original NETWORK``, ``cell NETWORK CRITERION RATIO SET EPOCHS``, ``oracle NETWORK LAYER``,
``scores NETWORK CRITERION SET``, and how a GPU compares: ``recording NETWORK``, ``scored NETWORK CRITERION``."""


def name_of(row: Row) -> str:
    """The name under which a row is kept."""
    return "/".join(row)


def known(row: Row, results: Container[str]) -> bool:
    """Whether a row is among the results, or another that says all of it."""
    return name_of(row) in results or (row[0] == "cell" and name_of(with_tuning(row)) in results)


def with_tuning(row: Row) -> Row:
    """The cell with fine-tuning that says what this one says; itself if its criterion does otherwise then."""
    if scored_as(row[2], 0) != scored_as(row[2], EPOCHS):
        return row
    return (*row[:-1], str(EPOCHS))


def plain_of(row: Row) -> Row:
    """The cell without fine-tuning that removes the same filters as this one."""
    kind, network, name, ratio, seed, epochs = row
    suffix = GLOBAL if name.endswith(GLOBAL) else ""
    return (kind, network, scored_as(name, int(epochs)) + suffix, ratio, seed, "0")


def cells(network: str, names: Sequence[str], epochs: int, *, ratios: Sequence[float] = RATIOS) -> Iterator[Row]:
    """Criterion by criterion."""
    for name, ratio, seed in itertools.product(names, ratios, range(SEEDS)):
        yield ("cell", network, name, f"{ratio:g}", str(seed), str(epochs))


def heavy() -> list[Row]:
    """Cells with fine-tuning, those that count most first."""
    found = [
        *cells("resnet20", (OURS, *BASELINES), EPOCHS),
        *cells("resnet20", (FIRST_ORDER,), EPOCHS),
        *tried("resnet20"),
        *cells("fashion", (OURS, FIRST_ORDER, *STRONGEST), EPOCHS),
        *cells("resnet56", (OURS, FIRST_ORDER, *STRONGEST), EPOCHS, ratios=RATIOS[-1:]),
        *tried("fashion"),
        *cells("fashion", WEAKER, EPOCHS),
        *cells("resnet20", (*GLOBALS, SETTLED), EPOCHS),
        *cells("resnet56", (OURS, *STRONGEST, *GLOBALS), EPOCHS),
        *tried("resnet56"),
        *cells("resnet56", (*WEAKER, SETTLED), EPOCHS),
        *cells("fashion", (SETTLED,), EPOCHS),
        *cells("resnet20", VARIANTS[1:], EPOCHS),
        *cells("fashion", VARIANTS[1:], EPOCHS),
    ]
    return list(dict.fromkeys(found))


def tried(network: str) -> list[Row]:
    """Cells of what was tried, those that remove most first: there the criteria differ most."""
    return [row for ratio in reversed(RATIOS) for row in cells(network, TRIED[network], EPOCHS, ratios=(ratio,))]


def aimed(only: Sequence[str], networks: Sequence[str], epochs: int) -> list[Row]:
    """Cells of some criteria alone, whether the study has them or not.

    Args:
        only: Names, each with ``NETWORK/`` before it if it is for one network alone.
        networks: Which take part.
        epochs: Of fine-tuning.
    """
    found: list[Row] = []
    for text in only:
        network, slash, name = text.partition("/")
        for each in (network,) if slash else networks:
            found += cells(each, (name if slash else text,), epochs) if each in networks else []
    return sorted(dict.fromkeys(found), key=lambda row: -float(row[3]))


def scored_first(setting: Setting, asked: Sequence[Row]) -> list[Row]:
    """Scores that rows ask for and that are not there yet, made once before several cells need them."""
    wanted = [(row[1], scored_as(row[2], int(row[-1]))) for row in asked if row[0] == "cell"]
    wanted += [(row[1], name) for row in asked if row[0] == "oracle" for name in ORACLE_ONLY]
    found = []
    for network, name in dict.fromkeys(wanted):
        missing = [seed for seed in range(SEEDS) if not setting.scores_file(network, name, seed).exists()]
        found += [("scores", network, name, str(seed)) for seed in missing]
    return found


def light(device: str) -> list[Row]:
    """Cells that do not come early with fine-tuning, the oracles, and how the device does."""
    there = [("recording", "resnet20")] if device != "cpu" else []
    scored = [("scored", "resnet20", name) for name in ("persistence+looks=1", "taylor", "chip", "betti", OURS)]
    return [
        *(("original", network) for network in NETWORKS),
        *there,
        *cells("resnet56", (*WEAKER, *VARIANTS[1:]), 0),
        *cells("resnet20", VARIANTS[1:], 0),
        *cells("fashion", VARIANTS, 0),
        *(("oracle", network, layer) for network in ("resnet56", "resnet20") for layer in inner_layers(network)),
        *(scored if device != "cpu" else []),
    ]


def last() -> list[Row]:
    """Cells that come with fine-tuning if there is time for it, and without if not."""
    return [
        *cells("resnet56", (OURS, *STRONGEST, *GLOBALS, SETTLED, AS_TUNED), 0),
        *cells("resnet20", (OURS, *GLOBALS, SETTLED, AS_TUNED), 0),
        *cells("fashion", (OURS, *BASELINES, AS_TUNED), 0),
    ]


def inner_layers(network: str) -> list[str]:
    """Names of the inner layers of a ResNet, in the order in which they run."""
    each = {"resnet20": 3, "resnet56": 9}[network]
    return [f"layer{stage}.{block}.conv1" for stage in (1, 2, 3) for block in range(each)]
