"""Whether fewer multiply-accumulates mean less time, and whether a latency asked for is the latency had.

    python -m benchmarks.deployment [--networks resnet18,mobilenet_v3_large] [--results FILE.json]

Takes no data, but a machine with nothing else to do, for minutes for each network.

For each network, at 224 × 224 with seeded weights (time does not depend on what a network has learned): pruned by L1 to
half its multiply-accumulates, and to ``--target-latency 0.6``, by the command that users run. Original and pruned file
are timed in turn in one run, in fresh sessions, several times; the number is the median over these blocks of the ratio
of medians. Prints a Markdown table with machine and versions.
"""
