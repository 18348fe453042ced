"""What ``--max-betti 300`` does to a CIFAR ResNet at different scales, against random filters of the same widths.

    python -m benchmarks.scales resnet20 WEIGHTS.safetensors CIFAR_FOLDERS

Takes a trained ResNet for CIFAR-10 and its images, in folders train/ and test/ with one folder per class, and minutes
for each scale.

Inner filters only, no ceiling and no alignment: the bare rule, then readers refitted on 500 of the samples, no labels
and no training. Prints a Markdown table.
"""
