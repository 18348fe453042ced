"""How the scale ε of a feature cloud is chosen."""

from __future__ import annotations

import math
from dataclasses import dataclass

from topocompress.errors import TopologyError

_PARAMETERS = {"components": 1, "quantile": 1, "relative": 1, "layer": 1, "absolute": 1, "knn": 2}


@dataclass(frozen=True)
class Scale:
    """How ε is chosen for a feature cloud.

    Attributes:
        kind: ``components`` (the quantile at which the layer's median cloud falls into so large a share of N pieces),
            ``quantile`` (of the cloud's own pairwise distances), ``relative`` (times the cloud's own mean distance),
            ``layer`` (times the mean distance over all clouds of the layer, so that amplitude counts),
            ``absolute`` (in units of the maps) or ``knn`` (hops in the k-nearest-neighbour graph, as in Naitzat,
            Zhitnikov & Lim, JMLR 21(184), 2020, section 6.3).
        values: (s,), (q,), (r,), (r,), (ε,) or (k, hops).
    """

    kind: str
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.kind not in _PARAMETERS or len(self.values) != _PARAMETERS[self.kind]:
            raise TopologyError(f"unknown scale {str(self)!r}", hint=_SCALE_HELP)
        if not all(math.isfinite(value) and value > 0 for value in self.values):
            raise TopologyError(f"scale {str(self)!r}: its values must be positive and finite", hint=_SCALE_HELP)
        if self.kind in ("components", "quantile") and self.values[0] >= 1:
            what = "quantile" if self.kind == "quantile" else "share"
            raise TopologyError(f"scale {str(self)!r}: a {what} lies between 0 and 1", hint=_SCALE_HELP)
        if self.kind == "knn" and not all(value.is_integer() for value in self.values):
            raise TopologyError(f"scale {str(self)!r}: neighbours and hops are whole numbers", hint=_SCALE_HELP)

    @classmethod
    def parse(cls, text: str) -> Scale:
        """Read ``components:0.2``, ``quantile:0.2``, ``relative:0.5``, ``layer:0.5``, ``absolute:1.5`` or ``knn:14,2``.

        Raises:
            TopologyError: The text is none of these.
        """
        kind, _, values = text.partition(":")
        try:
            return cls(kind, tuple(float(value) for value in values.split(",")))
        except ValueError as error:
            if isinstance(error, TopologyError):
                raise
            raise TopologyError(f"cannot read the scale {text!r}", hint=_SCALE_HELP) from error

    @property
    def of_layer(self) -> bool:
        """Whether ε follows from all clouds of a layer."""
        return self.kind in ("components", "layer")

    def __str__(self) -> str:
        return f"{self.kind}:{','.join(map(_shortest, self.values))}"


def _shortest(value: float) -> str:
    """The shortest text that reads back as the same number."""
    return f"{value:g}" if float(f"{value:g}") == value else repr(value)


DEFAULT_SCALE = "components:0.2"
"""Whatever the maps of a layer are: at N = 1,000 its median filter falls into 200 pieces, and 300 cuts a tail."""

_SCALE_HELP = "Use components:S, quantile:Q, relative:R, layer:R, absolute:E or knn:K,HOPS, for example quantile:0.2."
