"""Segmentation networks and detectors of torchvision: pruned, checked, exported and timed by the command of users.

    python -m benchmarks.dense [--networks NAME,...] [--criterion l1] [--results FILE.json]

Takes no data, and minutes for each network.

Weights are seeded, not trained: spread so that outputs differ from image to image (see ``benchmarks.common.networks``),
and a detector's class scores sharpened so that it finds some boxes and not all. So nothing here says how well a pruned
network can be trained. Each network is pruned by 30 % on photographs, saved, exported, and compared with PyTorch; what
``topocompress prune`` refuses is a row with the reason. Prints a Markdown table with machine and versions.
"""
