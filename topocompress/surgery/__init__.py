"""Networks changed, and checked: channels removed by a plan, groups tried out, activations swapped, runs saved.

In: a module and a plan. Out: a smaller copy that computes what the original computes without what was removed; run
directories, without pickle. May import :mod:`~topocompress.dependencies`, :mod:`~topocompress.models` and below.
"""
