"""What reconstruction gives back without labels or training, and what it costs in forward passes.

    python -m benchmarks.reconstruction run|cost|show [--weights DIR] [--cifar DIR]

Takes two checkpoints in --weights (resnet20-cifar10.safetensors, resnet56-cifar10.safetensors) and CIFAR-10 in --cifar
(train/ and test/ with a folder of images for each class) for ``run``, no data for ``cost``; minutes for each network on
two cores.

Inner filters, the same share of every layer, 500 unlabelled calibration images, all test images.
"""
