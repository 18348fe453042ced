"""What all networks are pruned by."""

RATIO = 0.3
"""Share of every group's filters that goes."""
OF_SMALL = 0.5
"""The same of our own small networks, whose layers have four to eight filters: a third of these is no whole number."""
SEED = 0


def ratio_of(name: str) -> float:
    """The share for a network of the table."""
    return OF_SMALL if name.startswith("ours ") else RATIO
