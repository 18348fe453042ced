"""How well each criterion's scores predict what removing one filter does.

    python -m benchmarks.oracle resnet20 WEIGHTS.safetensors CIFAR_FOLDERS --out oracle20.json

Takes a trained ResNet for CIFAR-10 and its images, in folders train/ and test/ with one folder per class. On a CPU the
oracle of a ResNet-20 takes some twenty minutes and that of a ResNet-56 hours (less with --device cuda); scores come on
top.

The oracle: each inner filter is removed alone, and two things are measured on held-out test images: by how much the
cross-entropy rises, and the Kullback-Leibler divergence of the class probabilities from those before. The network is
run from the filter's block on, from inputs that are kept. Then every criterion scores the filters from calibration
samples of three seeds; the table has Spearman's rank correlation with both, over all filters and, averaged, within
layers. What is finished is in ``--out`` and is used again. Prints a Markdown table.
"""
