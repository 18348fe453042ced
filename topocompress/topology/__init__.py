"""Betti numbers of feature clouds: distances, scales, graphs, reductions, persistence.

The Betti numbers of the Vietoris–Rips complex at one scale ε depend only on the ε-graph (the complex is the graph's
clique complex), so that graph is the working object here: the filtration beyond ε is never built.

In: arrays. Out: arrays and numbers. May import :mod:`~topocompress.runtime` and below, and no torch, except for
``layers``, which runs networks by :mod:`~topocompress.network`; the only user of giotto-ph and ripser.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
