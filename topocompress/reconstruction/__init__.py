"""What reads a pruned layer, refitted in closed form to what it gave before: no labels, no training.

In: the original, the network without a plan's channels, calibration samples. Out: a copy whose layers give, from what
they now get, as nearly as they can what they gave in the original; and the error of each before and after. May import
:mod:`~topocompress.network`, :mod:`~topocompress.surgery` (what a plan keeps) and below.
"""
