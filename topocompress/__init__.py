"""topocompress: smaller, faster vision networks by removing filters, chosen by the topology of what they compute.

The names below are the public interface. They are imported on first use, so that ``import topocompress`` (and the
command line's ``--help``) does not wait for torch.
"""

from lazy_loader import attach_stub

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
