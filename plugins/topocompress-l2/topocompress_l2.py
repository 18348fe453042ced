"""The l2 criterion for topocompress."""

from torch import Tensor

from topocompress.criteria import WeightCriterion


class L2(WeightCriterion):
    """L2 norm of the filter's weights (higher: keep). He et al., IJCAI 2018, arXiv:1808.06866."""

    name, higher = "l2", "keep"

    def score(self, weight: Tensor) -> Tensor:
        """Root of the sum of squared weights, (filters,)."""
        return weight.flatten(1).norm(dim=1)
