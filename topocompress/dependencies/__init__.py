"""Which channels belong together, read off torch-pruning's dependency graph.

In: a module and an example. Out: :class:`~topocompress.types.ChannelGroup`, with the reason where one must stay whole.
May import :mod:`~topocompress.network` and below; with surgery the only user of torch-pruning.
"""
