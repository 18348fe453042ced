"""What ``--round-to`` is worth: speed in ONNX Runtime on the CPU at equal multiply-accumulates.

    python -m benchmarks.alignment run|show

Takes no data, but a machine with nothing else to do, for some tens of minutes.

Parts:

    run     every network pruned at every alignment, timed side by side
    show    the tables

Every network is pruned by L1 to the same share of its MACs (--target-macs) with every alignment; the files of one
network are timed in turn in one run together with the original. One number is the median over the blocks of the ratio
of the medians within a block; files are loaded anew for each block. Results go into one file as they are made
(--results) and are not made again; a run that was stopped goes on. Turns (--turns) repeat all of it later, to see what
holds.
"""
