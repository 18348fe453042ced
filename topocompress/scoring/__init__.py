"""Model, criterion and data, to scores: one way for each kind of criterion.

In: a module, a criterion, batches. Out: :class:`~topocompress.types.Scores`. ``workers`` is what the scoring processes
run, without torch. May import :mod:`~topocompress.criteria`, :mod:`~topocompress.network`,
:mod:`~topocompress.models` (fingerprints) and below.
"""
