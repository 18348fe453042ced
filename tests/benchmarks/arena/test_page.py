"""The tables of ``docs/research/criteria.md``."""

from benchmarks.arena.page import free, lasting, oracle, tuned, write
from benchmarks.arena.rows import (
    OURS,
)


def rows(name, network="resnet20", ratio="0.25", seeds=3, epochs=2, **stages):
    return {
        f"cell/{network}/{name}/{ratio}/{seed}/{epochs}": {key: value + seed / 100 for key, value in stages.items()}
        for seed in range(seeds)
    }


def test_tables_by_hand():
    found = {
        **rows(OURS, epochs=0, removed=0.7, settled=0.8),
        **rows(OURS, removed=0.1, settled=0.2, tuned=0.86),  # with another setting
        **rows(f"{OURS}@global", epochs=0, removed=0.6, settled=0.7),
        **rows(f"{OURS}@global", removed=0.1, settled=0.2, tuned=0.85),
        **rows("l1", removed=0.5, settled=0.6, tuned=0.855),
        **rows("l1", epochs=0, removed=0.1, settled=0.1),  # the cell with fine-tuning says it as well
        **rows("taylor", seeds=2, epochs=0, removed=0.8, settled=0.9),
        **rows("fpgm", seeds=1, tuned=0.8),
    }

    assert lasting(found, "resnet20").splitlines() == [
        "| criterion | 25 % | 37.5 % | 50 % |",
        "|---|---:|---:|---:|",
        "| `taylor` | 80.5 ± 0.7 (2 of 3 sets) → 90.5 | – | – |",
        "| `persistence` | 71.0 ± 1.0 → 81.0 | – | – |",
        "| `l1` | 51.0 ± 1.0 → 61.0 | – | – |",
    ]
    assert tuned(found, "resnet20").splitlines()[2:] == [
        "| `persistence` | 87.0 ± 1.0 | – | – |",
        "| `l1` | 86.5 ± 1.0 | – | – |",
        "| `fpgm` | 80.0 (1 of 3 sets) | – | – |",
        "",
        "`persistence` against the best baseline: +0.50 points at 25 % (`l1`).",
    ]
    assert free(found, "resnet20").splitlines()[2:] == [
        "| `persistence` | 71.0 → 81.0 → 87.0 | – | – |",
        "| `persistence@global` | 61.0 → 71.0 → 86.0 | – | – |",
        "| `taylor` | 80.5 → 90.5 | – | – |",
    ]
    spelled = {name.replace(OURS, f"{OURS}+alone=1000+looks=1"): row for name, row in rows(OURS, tuned=0.86).items()}
    assert tuned(spelled, "resnet20").splitlines()[2:] == ["| `persistence` | 87.0 ± 1.0 | – | – |"]
    assert not tuned(found, "fashion")
    ranks = {f"rank/resnet56/{name}/{seed}": [0.5, 0.4, 0.3, 0.2] for name in ("l1",) for seed in range(3)}
    assert oracle(ranks, "resnet56").splitlines()[2:] == [
        "| `l1` | 0.50 ± 0.00 | 0.40 ± 0.00 | 0.30 ± 0.00 | 0.20 ± 0.00 |"
    ]


def test_tables_stand_between_their_marks(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "before\n<!-- arena: resnet20 -->\nold\n<!-- end -->\nafter\n<!-- arena: fashion -->\nkept\n<!-- end -->\n"
    )

    for _ in range(2):
        write(rows("l1", epochs=0, removed=0.5, settled=0.6), page)

    text = page.read_text()
    assert text.startswith("before\n<!-- arena: resnet20 -->\n\n| criterion |")
    assert "| `l1` | 51.0 ± 1.0 → 61.0 | – | – |\n\n<!-- end -->\nafter\n" in text
    assert "old" not in text
    assert "kept" in text
