"""Criteria: one algorithm per file, under its published name, found through :mod:`topocompress.criteria.registry`.

In: what a criterion reads, of one of five kinds (``base``): weights, norms, maps, feature clouds or gradients. Out: one
score per filter. May import :mod:`~topocompress.topology`, :mod:`~topocompress.types` and below. They are imported on
first use: the processes that score clouds need neither the others nor torch.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
