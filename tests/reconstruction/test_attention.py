"""Attention: the projection behind heads that went, and networks whose attention stays."""

import torch
from torchvision.models import VisionTransformer

from topocompress import distill_blocks, plan, reconstruct, score
from topocompress.surgery.removal import apply


def transformer():
    torch.manual_seed(0)
    return VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=4, hidden_dim=32, mlp_dim=64, num_classes=5
    ).eval()


def images():
    return [torch.randn(50, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) for seed in range(4)]


def cut(model, **options):
    heads = score(model, [(each, torch.zeros(50)) for each in images()], criterion="l1", **options)
    chosen = plan(model, heads, example=images()[0][:1], ratio=0.5, round_to=1, **options)
    return chosen, apply(model, chosen, example=images()[0][:1])


def test_the_projection_behind_heads_that_went_is_refitted_and_blocks_can_learn():
    model = transformer()
    chosen, smaller = cut(model)

    found = reconstruct(smaller, model, chosen, images())

    refits = {refit.layer: refit for refit in found.layers}
    projection = refits["encoder.layers.encoder_layer_0.self_attention.proj"]
    assert projection.after < projection.before
    taught = distill_blocks(found.model, model, images(), epochs=1)
    assert taught(images()[0]).shape == (50, 5)


def test_attention_that_stays_whole_is_left_as_torch_computes_it():
    model = transformer()
    chosen, smaller = cut(model, ignore=["*self_attention*"])

    found = reconstruct(smaller, model, chosen, images())

    refitted = [refit.layer for refit in found.layers]
    assert "encoder.layers.encoder_layer_0.mlp.3" in refitted
    assert not any("attention" in layer for layer in refitted)
    assert distill_blocks(found.model, model, images(), epochs=1)(images()[0]).shape == (50, 5)
