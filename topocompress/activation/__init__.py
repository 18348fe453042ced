"""The topological activation: a plain activation plus a wave, which can fold its input and glue the folds.

In: tensors. Out: tensors; and point sets of known topology to try it on. May import :mod:`~topocompress.errors`.
Putting it into a trained network is surgery: :mod:`topocompress.surgery.activations`.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
