"""What reconstruction gives back without labels or training, beside other tools, and what it costs in forward passes.

    python -m benchmarks.reconstruction run|pipeline|single|cost|show --weights DIR --cifar DIR --fashion DIR

Takes three checkpoints in --weights (resnet20-cifar10.safetensors, resnet56-cifar10.safetensors, and
fashion.safetensors, which examples/fashion_mnist.py leaves), CIFAR-10 in --cifar (train/ and test/ with a folder of
images for each class) and the folder FashionMNIST/raw in --fashion; no data for ``cost``. Prepared images and scores
are kept in --work, finished cells in --results. Hours on two cores.

Parts:

    run       criteria reconstructed alike; with --epochs fine-tuned after it
    pipeline  Torch-Pruning's own importances at the same widths, with BatchNorm re-estimated
    single    rank correlation of scores with the change of the outputs when one filter goes and readers are refitted
    cost      processor seconds in bare forward passes, ResNet-18 and ResNet-50 at 224 × 224
    show      tables

500 calibration images of which ours reads no labels, 10,000 test images, as many sets of images as --sets says.
"""
