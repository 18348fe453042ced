"""What fine-tuning gives back to the ResNet-20 for CIFAR-10: with labels, without any, and on images of another kind.

    python -m benchmarks.tuning CHECKPOINT CIFAR_FOLDER

Takes a trained ResNet-20 and the images of CIFAR-10, in folders train/ and test/ with one folder per class, and minutes
for each of five ways and each seed.

37.5 % of the inner filters go by L1. With images at hand, BatchNorm is re-estimated on 500 of them before training. The
photographs are crops of two pictures that stand in where no data is given; then BatchNorm is not re-estimated. Test
labels serve to measure only. One JSON row per result.
"""
