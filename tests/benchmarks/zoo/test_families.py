"""One network of each of torchvision's families: pruned, run, saved and loaded. ``benchmarks.zoo`` looks at all."""

from functools import partial

import pytest
import torch
from torch import nn
from torchvision import models
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.efficientnet import FusedMBConvConfig, MBConvConfig
from torchvision.models.maxvit import MaxVit
from torchvision.models.regnet import BlockParams
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformer, SwinTransformerBlockV2
from torchvision.models.vgg import make_layers

import topocompress
from benchmarks.common.networks import make_informative, relative_spread
from benchmarks.zoo.model import width_of
from topocompress.criteria import L1
from topocompress.dependencies.groups import explicit
from topocompress.deploy.measurement import count_macs
from topocompress.network.batchnorm import recalibrate_batchnorm
from topocompress.planning.plan import make_plan
from topocompress.surgery.trial import found_on_trial, prunable_groups
from topocompress.types import Preprocessing
from topocompress.types.reasons import Kind, Reason
from topocompress.workflows.single_steps import layer_costs, score_groups


def named(name, **options):
    return lambda: models.get_model(name, num_classes=10, **options)


def small_alexnet():
    """With a head of 600 thousand parameters instead of 55 million."""
    model = models.AlexNet(num_classes=10)
    model.classifier = nn.Sequential(
        nn.Dropout(), nn.Linear(9216, 64), nn.ReLU(), nn.Dropout(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)
    )
    return model


def small_convnext():
    stages = [CNBlockConfig(32, 64, 2), CNBlockConfig(64, 128, 2), CNBlockConfig(128, None, 1)]
    return models.ConvNeXt(stages, num_classes=10)


def small_densenet():
    return models.DenseNet(growth_rate=16, block_config=(3, 2, 2), num_init_features=32, bn_size=4, num_classes=10)


def small_efficientnet():
    """One block of each of B0's kinds: without expansion, strided, repeated, with the larger kernel."""
    blocks = [
        MBConvConfig(1, 3, 1, 32, 16, 1),
        MBConvConfig(6, 3, 2, 16, 24, 2),
        MBConvConfig(6, 5, 2, 24, 40, 2),
        MBConvConfig(6, 3, 1, 40, 80, 1),
    ]
    return models.EfficientNet(blocks, dropout=0.2, num_classes=10)


def small_efficientnet_v2():
    blocks = [
        FusedMBConvConfig(1, 3, 1, 24, 24, 2),
        FusedMBConvConfig(4, 3, 2, 24, 48, 2),
        MBConvConfig(4, 3, 2, 48, 64, 2),
        MBConvConfig(6, 3, 1, 64, 80, 1),
    ]
    return models.EfficientNet(blocks, dropout=0.2, num_classes=10, norm_layer=partial(nn.BatchNorm2d, eps=1e-3))


def small_mobilenet_v2():
    blocks = [[1, 16, 1, 1], [6, 24, 2, 2], [6, 32, 3, 2], [6, 64, 1, 1]]
    return models.MobileNetV2(num_classes=10, inverted_residual_setting=blocks)


def small_regnet(*parameters, **options):
    return models.RegNet(BlockParams.from_init_params(*parameters, **options), num_classes=10)


def small_resnet(block, *layers, **options):
    """With two of the four stages."""
    model = models.ResNet(block, [*layers, 1, 1], **options)
    model.layer3 = model.layer4 = nn.Identity()
    model.fc = nn.Linear(128 * block.expansion, 10)
    return model


def without(names, build):
    """A network with some blocks left out, before and after which maps have the same shape."""

    def shorter():
        model = build()
        for name in names.split():
            setattr(model, name, nn.Identity())
        return model

    return shorter


def small_swin(**options):
    return SwinTransformer(
        patch_size=[4, 4],
        embed_dim=24,
        depths=[2, 2],
        num_heads=[3, 6],
        window_size=[4, 4],
        num_classes=10,
        **options,
    )


def small_maxvit():
    return MaxVit(
        input_size=(64, 64),
        stem_channels=16,
        partition_size=4,
        block_channels=[16, 32],
        block_layers=[1, 2],
        head_dim=8,
        stochastic_depth_prob=0.0,
        num_classes=10,
    )


def small_vgg(*, batch_norm=False):
    """With a head of 50 thousand parameters instead of a hundred million."""
    features = make_layers([16, "M", 32, "M", 32, 32, "M", 64, 64, "M"], batch_norm)
    return nn.Sequential(
        features, nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(576, 64), nn.ReLU(), nn.Linear(64, 10)
    )


def small_vit():
    return models.VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=4, hidden_dim=32, mlp_dim=64, num_classes=10
    )


# Whole networks where they are small or quick, else the same blocks in smaller numbers.
FAMILIES = [
    pytest.param(small_alexnet, 64, id="alexnet"),
    pytest.param(small_convnext, 32, id="convnext"),
    pytest.param(small_densenet, 32, id="densenet"),
    pytest.param(small_efficientnet, 32, id="efficientnet"),
    pytest.param(small_efficientnet_v2, 32, id="efficientnet_v2"),
    pytest.param(without("inception4c inception5a", named("googlenet", init_weights=False)), 64, id="googlenet"),
    pytest.param(
        without("Mixed_5d Mixed_6c Mixed_6d Mixed_6e Mixed_7c", named("inception_v3", init_weights=False)),
        75,
        id="inception",
    ),
    pytest.param(small_maxvit, 64, id="maxvit"),
    pytest.param(named("mnasnet0_5"), 32, id="mnasnet"),
    pytest.param(small_mobilenet_v2, 32, id="mobilenet_v2"),
    pytest.param(named("mobilenet_v3_small"), 32, id="mobilenet_v3"),
    pytest.param(partial(small_regnet, 8, 24, 24.48, 2.54, 16), 32, id="regnet_x"),
    pytest.param(partial(small_regnet, 8, 48, 27.89, 2.09, 8, se_ratio=0.25), 32, id="regnet_y"),
    pytest.param(partial(small_resnet, BasicBlock, 2, 2), 32, id="resnet"),
    pytest.param(partial(small_resnet, Bottleneck, 2, 2, groups=32, width_per_group=4), 32, id="resnext"),
    pytest.param(partial(small_resnet, Bottleneck, 2, 2, width_per_group=128), 32, id="wide_resnet"),
    pytest.param(named("shufflenet_v2_x0_5"), 32, id="shufflenet"),
    pytest.param(named("squeezenet1_1"), 64, id="squeezenet"),
    pytest.param(small_swin, 32, id="swin"),
    pytest.param(lambda: small_swin(block=SwinTransformerBlockV2, downsample_layer=PatchMergingV2), 32, id="swin_v2"),
    pytest.param(small_vgg, 32, id="vgg"),
    pytest.param(lambda: small_vgg(batch_norm=True), 32, id="vgg_bn"),
    pytest.param(small_vit, 32, id="vit"),
]


def pictures(side):
    """(8, 3, side, side) smooth random images: noise has the same statistics in every one, pictures have not."""
    coarse = torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    return torch.nn.functional.interpolate(coarse, size=(side, side), mode="bilinear")


def seeded(build, images):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build()
        make_informative(model, images)
    return model


@pytest.mark.parametrize("build, side", FAMILIES)
def test_a_third_of_the_filters_goes_and_the_rest_runs_and_loads_again(build, side, tmp_path):
    images = pictures(side)
    model, example = seeded(build, images), images[:1]
    groups = prunable_groups(model, example)
    reasons = {group.protected for group in groups}
    assert Reason(Kind.UNTRIED) not in reasons
    shuffled = side == 32 and hasattr(model, "stage2")  # ShuffleNet's halves change sides
    assert any(map(found_on_trial, reasons)) is shuffled
    plan = make_plan(score_groups(model, groups, L1(), None), groups, layer_costs(model, example), ratio=0.3)
    smaller = recalibrate_batchnorm(topocompress.apply(model, plan, example=example), [images])
    with torch.no_grad():
        before, after = model(images), smaller(images)
    layers, whole = (dict(explicit(each).named_modules()) for each in (smaller, model))
    for group in plan.groups:
        assert width_of(layers[group.root]) == group.kept
        for name, (width, left) in group.filters.items():
            if width == width_of(whole[name]):  # else other groups have the rest of it
                assert width_of(layers[name]) == left
    assert sum(len(group.remove) for group in plan.groups) > 0
    assert count_macs(smaller, example) == plan.macs_after < plan.macs_before
    assert after.shape == before.shape
    assert torch.isfinite(after).all()
    assert relative_spread(before) > 0.05
    assert relative_spread(after) > 0.05
    preprocessing = Preprocessing(input_shape=(3, side, side))
    topocompress.save(tmp_path / "run", smaller, plans=(plan,), preprocessing=preprocessing)
    loaded = topocompress.load(tmp_path / "run", arch=build)
    with torch.no_grad():
        assert torch.equal(loaded(images), after)
