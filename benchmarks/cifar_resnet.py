"""The name under which commands and saved runs may know :mod:`benchmarks.common.cifar_resnet`."""

from benchmarks.common.cifar_resnet import resnet20, resnet56

__all__ = ["resnet20", "resnet56"]
