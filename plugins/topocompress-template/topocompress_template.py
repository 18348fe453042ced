"""A criterion for topocompress; copy, rename, and put your own idea in."""

from torch import Tensor

from topocompress.criteria import WeightCriterion


class Peak(WeightCriterion):
    """Largest absolute weight of the filter (higher: keep)."""

    name, higher = "peak", "keep"

    def score(self, weight: Tensor) -> Tensor:
        """Largest absolute weight, (filters,)."""
        return weight.flatten(1).abs().amax(dim=1)
