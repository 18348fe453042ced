"""What a user has, to calibration, fine-tuning and evaluation samples that never overlap.

In: a named set, a folder, a factory, or nothing. Out: :class:`Data`. May import :mod:`~topocompress.models` (factories)
and below.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
