"""A training step on images channels last against the usual layout, for networks of torchvision.

    python -m benchmarks.layouts [NAME ...]

Takes no data, but a machine with nothing else to do, for minutes.

Both take turns in one process; the ratio of the medians is printed, above 1 where channels last is faster.
"""
