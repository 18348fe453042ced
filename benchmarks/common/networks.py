"""Networks and images that several benchmarks share."""

from __future__ import annotations

import contextlib

import torch
import torchvision
from torch import Tensor, nn

from topocompress.data.loading import load_data
from topocompress.types import Preprocessing

Batches = list[tuple[Tensor, Tensor]]
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
_ESTIMATED_ON = 128


def images_at_224(source: str | None, samples: int, *, batch: int = 32) -> Batches:
    """Calibration images at 224 × 224 in memory; photographs that ship with scikit-learn without a source."""
    found = load_data(source, preprocessing=Preprocessing(input_shape=(3, 224, 224), **IMAGENET), samples=samples)
    return in_batches(torch.stack([found.calibration[index][0] for index in range(samples)]), batch)


def in_batches(images: Tensor, batch: int) -> Batches:
    """Images in batches, with zeros for labels."""
    return [(part, torch.zeros(len(part), dtype=torch.long)) for part in images.split(batch)]


def untrained(name: str, batches: Batches, *, classes: int = 1000, seed: int = 0) -> nn.Module:
    """A torchvision network with seeded weights whose BatchNorm statistics fit the images, so that maps carry them."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=classes)
        model.train()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None  # type: ignore[assignment]  # a plain average
        images = torch.cat([part for part, _ in batches])[:_ESTIMATED_ON]
        for part in images.split(32):
            model(part)
    return model.eval()


def convolutions(model: nn.Module) -> list[str]:
    """Names of all convolutions."""
    return [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]


def inner_convolutions(model: nn.Module) -> list[str]:
    """The first convolution of each basic block: its filters are no part of a residual stream."""
    return [name for name in convolutions(model) if name.startswith("layer") and name.endswith(".conv1")]


def make_informative(model: nn.Module, images: Tensor, *, seed: int = 0) -> None:
    """Give a freshly built network, in place, weights with which different images give different outputs.

    Matrices are drawn anew, and whatever starts as a constant (norms, layer scales, zero biases and heads) is spread.
    Then one forward pass sets the statistics of each BatchNorm, and scales and shifts each biased layer, such that its
    outputs have about unit variance and zero mean per channel over the images (Salimans & Kingma 2016,
    arXiv:1602.07868, section 3). Without that, deep networks without norms give nearly the same output for any image.

    Args:
        model: Any network of convolutions, linear layers, attention and norms; left in eval mode.
        images: (samples, C, H, W), run at once.
        seed: Seed of what is drawn.
    """
    generator = torch.Generator().manual_seed(seed)

    def standardise(layer: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        across = [
            axis for axis in range(output.ndim) if axis != (1 if isinstance(layer, nn.Conv2d) else output.ndim - 1)
        ]
        variance, mean = torch.var_mean(output, across, correction=0)
        # Where the images hardly differ in a channel, full variance would be mostly rounding error; a layer that
        # magnifies it twenty times costs EfficientNet-B3 a decimal digit more than one that does so five times.
        deviation = variance.sqrt().clamp_min(0.2 * (variance + mean**2).sqrt() + 1e-6)
        scale = _between(0.5, 1.5, mean.shape, generator) / deviation
        shift = _between(-0.5, 0.5, mean.shape, generator) - mean * scale
        layer.weight.mul_(scale.view(-1, *(1 for _ in layer.weight.shape[1:])))
        layer.bias.mul_(scale).add_(shift)
        return output * _aligned(scale, layer) + _aligned(shift, layer)

    with torch.no_grad(), contextlib.ExitStack() as hooks:
        for module in model.eval().modules():
            _draw(module, generator)
            if isinstance(module, nn.BatchNorm2d):
                hooks.callback(module.register_forward_pre_hook(_set_statistics).remove)
            elif isinstance(module, (nn.Conv2d, nn.Linear)) and module.bias is not None:
                hooks.callback(module.register_forward_hook(standardise).remove)
        model(images)


def estimate_statistics(model: nn.Module, images: Tensor) -> None:
    """Set the statistics of every BatchNorm, in place, from one forward pass, norm by norm.

    Unlike :func:`topocompress.network.batchnorm.recalibrate_batchnorm` it magnifies no channel that hardly varies.

    Args:
        model: Any network; left in eval mode.
        images: (samples, C, H, W), run at once.
    """
    with torch.no_grad(), contextlib.ExitStack() as hooks:
        for module in model.eval().modules():
            if isinstance(module, nn.BatchNorm2d):
                hooks.callback(module.register_forward_pre_hook(_set_statistics).remove)
        model(images)


def _draw(module: nn.Module, generator: torch.Generator) -> None:
    layer = isinstance(module, (nn.Conv2d, nn.Linear))
    for name, parameter in module.named_parameters(recurse=False):
        if parameter.ndim > 1 and (layer or name == "in_proj_weight"):
            parameter.normal_(0, parameter[0].numel() ** -0.5, generator=generator)
        elif layer or _tiny(parameter):
            parameter.uniform_(-0.5, 0.5, generator=generator)
        elif parameter.numel() > 1 and bool((parameter == parameter.flatten()[0]).all()):
            parameter.mul_(_between(0.5, 1.5, parameter.shape, generator))


def _tiny(parameter: Tensor) -> bool:
    """Whether it is all zeros, or the 1e-6 of a layer scale."""
    return parameter.numel() > 1 and bool((parameter.abs() < 1e-3).all())


def _set_statistics(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    variance, mean = torch.var_mean(inputs[0], (0, 2, 3), correction=0)
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance.clamp_min(1e-2 * float(variance.mean()) + 1e-6))


def _between(low: float, high: float, shape: torch.Size, generator: torch.Generator) -> Tensor:
    return torch.empty(shape).uniform_(low, high, generator=generator)


def _aligned(values: Tensor, layer: nn.Module) -> Tensor:
    return values[:, None, None] if isinstance(layer, nn.Conv2d) else values


def relative_spread(outputs: Tensor) -> float:
    """How much outputs differ from sample to sample; 0 where all samples give the same.

    It is the mean over outputs of their standard deviation over the samples, divided by the root mean square of all.

    Args:
        outputs: (samples, classes), at least two samples.
    """
    outputs = outputs.detach()
    return float(outputs.std(dim=0).mean() / outputs.square().mean().sqrt().clamp_min(1e-30))
