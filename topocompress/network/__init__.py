"""Running somebody's network without leaving a trace on it: outputs, maps, masks, BatchNorm statistics.

In: a module and samples. Out: its outputs, feature clouds, effects of masked filters. Mode, hooks, random state and
weights are left as they were. May import :mod:`~topocompress.activation` and below.
"""
