"""Where :func:`topocompress.plot_filter` was found in version 0.1."""

from topocompress.reporting.persistence_plots import plot_filter

__all__ = ["plot_filter"]
