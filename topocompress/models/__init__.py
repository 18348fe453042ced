"""What a user has, to a module and its preprocessing.

In: a name, a checkpoint, a factory. Out: :class:`LoadedModel`. ``checkpoints`` is the one place that reads untrusted
model files, ``timm`` the only user of timm. May import :mod:`~topocompress.network` and below.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
