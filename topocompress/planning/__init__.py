"""Scores, channel groups and a rule, to a plan: what stays of every group. Pure numpy, no torch.

In: :class:`~topocompress.types.Scores`, :class:`~topocompress.types.ChannelGroup`, a rule within limits. Out:
:class:`~topocompress.types.PruningPlan`. May import :mod:`~topocompress.types` and :mod:`~topocompress.errors` alone.
"""
