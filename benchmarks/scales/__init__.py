"""What ``--max-betti 300`` does to a network at different scales, against random filters of the same widths.

    python -m benchmarks.scales NETWORK --weights DIR --cifar DIR --fashion DIR

Takes digits, or a network of ``benchmarks.reconstruction`` with its --weights, --cifar and --fashion, and minutes for
each scale.

No ceiling and no alignment: the bare rule on the inner filters, then readers refitted on 500 of the samples, no labels
and no training. Prints a Markdown table.
"""
