"""Small instances of torchvision's networks with attention, all of whose parameters carry information."""

import torch
from torch import nn
from torchvision.models.maxvit import MaxVit
from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformer, SwinTransformerBlockV2
from torchvision.models.vision_transformer import VisionTransformer


def vit(stages):
    return VisionTransformer(
        image_size=32, patch_size=8, num_layers=stages, num_heads=4, hidden_dim=32, mlp_dim=64, num_classes=5
    )


def swin(stages, **settings):
    return SwinTransformer(
        patch_size=[4, 4],
        embed_dim=24,
        depths=[2] * stages,
        num_heads=[2, 4][:stages],
        window_size=[4, 4],
        num_classes=5,
        **settings,
    )


def swin_v2(stages):
    return swin(stages, block=SwinTransformerBlockV2, downsample_layer=PatchMergingV2)


def maxvit(stages):
    return MaxVit(
        input_size=(32, 32),
        stem_channels=8,
        partition_size=4,
        block_channels=[16, 32][:stages],
        block_layers=[1] * stages,
        head_dim=8,
        stochastic_depth_prob=0.2,
        num_classes=5,
    )


NETWORKS = {"vit": vit, "swin": swin, "swin_v2": swin_v2, "maxvit": maxvit}
HEADS = {"vit": [4, 4], "swin": [2, 2, 4, 4], "swin_v2": [2, 2, 4, 4], "maxvit": [2, 2, 4, 4]}


def randomised(model):
    """Every parameter random, those that start as zeros or ones too; in eval mode."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            if parameter.ndim > 1:
                parameter.copy_(noise * parameter[0].numel() ** -0.5)
            else:  # scales of norms are near 1, biases near 0
                parameter.copy_(0.3 * noise + name.endswith("weight"))
    return model.eval()


def attention_net(name, stages=2) -> nn.Module:
    """A network for (n, 3, 32, 32), with 4 heads per attention layer (vit) or 2 in the first stage, 4 in the next."""
    with torch.random.fork_rng(devices=[]):
        return randomised(NETWORKS[name](stages))


def images(count=2, dtype=torch.float32):
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(1)).to(dtype)
