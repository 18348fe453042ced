"""One network of each of torchvision's families: pruned, run, saved and loaded. ``benchmarks.zoo`` looks at all."""

import pytest
import torch
from torch import nn
from torchvision import models
from torchvision.models.maxvit import MaxVit
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
from topocompress.surgery.trial import prunable_groups
from topocompress.types import Preprocessing
from topocompress.workflows.single_steps import layer_costs, score_groups


def named(name, **options):
    return lambda: models.get_model(name, num_classes=10, **options)


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


def broken(reason):
    return pytest.mark.xfail(strict=True, reason=reason)


# Whole networks where they are small or quick, else the same blocks in smaller numbers.
FAMILIES = [
    pytest.param(named("alexnet"), 64, id="alexnet"),
    pytest.param(named("convnext_tiny"), 32, id="convnext"),
    pytest.param(named("densenet121"), 32, id="densenet"),
    pytest.param(named("efficientnet_b0"), 32, id="efficientnet"),
    pytest.param(named("efficientnet_v2_s"), 32, id="efficientnet_v2"),
    pytest.param(named("googlenet", init_weights=False), 64, id="googlenet"),
    pytest.param(named("inception_v3", init_weights=False), 75, id="inception"),
    pytest.param(small_maxvit, 64, id="maxvit"),
    pytest.param(named("mnasnet0_5"), 32, id="mnasnet"),
    pytest.param(named("mobilenet_v2"), 32, id="mobilenet_v2"),
    pytest.param(named("mobilenet_v3_small"), 32, id="mobilenet_v3"),
    pytest.param(named("regnet_x_400mf"), 32, id="regnet_x"),
    pytest.param(named("regnet_y_400mf"), 32, id="regnet_y"),
    pytest.param(named("resnet18"), 32, id="resnet"),
    pytest.param(named("resnext50_32x4d"), 32, id="resnext"),
    pytest.param(named("wide_resnet50_2"), 32, id="wide_resnet"),
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
    plan = make_plan(score_groups(model, groups, L1(), None), groups, layer_costs(model, example), ratio=0.3)
    smaller = recalibrate_batchnorm(topocompress.apply(model, plan, example=example), [images])
    with torch.no_grad():
        before, after = model(images), smaller(images)
    layers = dict(explicit(smaller).named_modules())
    for group in plan.groups:
        assert width_of(layers[group.root]) == group.kept
        assert {name: width_of(layers[name]) for name in group.filters} == {
            name: after for name, (_, after) in group.filters.items()
        }
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
