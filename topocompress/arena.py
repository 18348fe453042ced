"""Where :func:`topocompress.compare` was found in version 0.1."""

from topocompress.workflows.compare import compare

__all__ = ["compare"]
