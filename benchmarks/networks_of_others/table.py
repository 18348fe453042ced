"""The networks: whose they are, how they are built without any download, and the shape of a sample."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor, nn

from benchmarks.networks_of_others.small import SMALL


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A network of the table.

    Attributes:
        package: What must be installed to build it.
        make: Builds it.
        shape: Of one sample.
        settled: Whether its norms take their statistics from noise: with those that it is built with, the network
            magnifies rounding so much that float32 and float64 differ by a tenth, and nothing can be compared.
    """

    package: str
    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    settled: bool = False

    @property
    def installed(self) -> bool:
        """Whether its package is here."""
        return importlib.util.find_spec(self.package) is not None


class Chosen(nn.Module):
    """One tensor of what a network returns, and how it is called."""

    def __init__(self, net: nn.Module, output: str, keyword: str = "") -> None:
        super().__init__()
        self.net, self.output, self.keyword = net, output, keyword

    def forward(self, x: Tensor) -> Any:
        """What the network is used for."""
        found = self.net(**{self.keyword: x}) if self.keyword else self.net(x)
        return found[self.output] if isinstance(found, Mapping) else getattr(found, self.output)


class First(nn.Module):
    """The first of what a network returns."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Any:
        """The first of the outputs."""
        return self.net(x)[0]


def _call(where: str, *args: Any, **kwargs: Any) -> Callable[[], nn.Module]:
    """A builder of another package, imported when it is called."""

    def make() -> nn.Module:
        module, _, name = where.partition(":")
        found: nn.Module = functools.reduce(getattr, name.split("."), importlib.import_module(module))(*args, **kwargs)
        return found

    return make


def _timm(name: str, **options: Any) -> Callable[[], nn.Module]:
    return _call("timm:create_model", name, pretrained=False, num_classes=10, **options)


def _yolo(file: str) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        import logging

        logging.disable(logging.WARNING)
        tasks: Any = importlib.import_module("ultralytics.nn.tasks")
        with contextlib.redirect_stdout(io.StringIO()):
            kind = next((c for k, c in _TASKS.items() if k in file), "DetectionModel")
            found: Any = getattr(tasks, kind)(file, verbose=False)
        if kind == "ClassificationModel":
            return cast(nn.Module, found)
        found.model[-1].dynamic = True  # else it keeps anchors for the last batch, and exports for that size alone
        return First(found)

    return make


_TASKS = {"-cls": "ClassificationModel", "-seg": "SegmentationModel", "-pose": "PoseModel"}


def _hugging(model: str, output: str, **config: Any) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        transformers: Any = importlib.import_module("transformers")
        kind = next(part for part in ("For", "Model") if part in model)
        net = getattr(transformers, model)(getattr(transformers, f"{model.partition(kind)[0]}Config")(**config))
        return Chosen(net, output, "pixel_values")

    return make


def _smp(kind: str, encoder: str = "resnet18") -> Callable[[], nn.Module]:
    return _call(f"segmentation_models_pytorch:{kind}", encoder, encoder_weights=None, classes=3)


def _monai(kind: str, *args: Any, first: bool = False, **kwargs: Any) -> Callable[[], nn.Module]:
    make = _call(f"monai.networks.nets:{kind}", *args, **kwargs)
    return (lambda: First(make())) if first else make


def _reid(where: str) -> Callable[[], nn.Module]:
    return _call(f"torchreid.reid.models.{where}", 10, pretrained=False)


def _cv(name: str, **options: Any) -> Callable[[], nn.Module]:
    return _call("pytorchcv.model_provider:get_model", name, pretrained=False, **options)


_SIZES: Mapping[str, tuple[int, ...]] = {
    "resnet26d": (3, 64, 64),
    "resnetv2_18": (3, 64, 64),
    "seresnext26t_32x4d": (3, 64, 64),
    "skresnet18": (3, 64, 64),
    "densenet121": (3, 64, 64),
    "dla34": (3, 64, 64),
    "hrnet_w18_small": (3, 64, 64),
    "res2net50_26w_4s": (3, 64, 64),
    "nf_resnet26": (3, 64, 64),
    "cspresnet50": (3, 64, 64),
    "vovnet39a": (3, 64, 64),
    "ghostnet_100": (3, 64, 64),
    "mobilenetv3_small_100": (3, 64, 64),
    "mobilenetv4_conv_small": (3, 64, 64),
    "efficientnet_b0": (3, 64, 64),
    "tf_efficientnetv2_b0": (3, 64, 64),
    "mnasnet_small": (3, 64, 64),
    "regnety_004": (3, 64, 64),
    "repvgg_a0": (3, 64, 64),
    "convnext_atto": (3, 64, 64),
    "convnextv2_atto": (3, 64, 64),
    "inception_v4": (3, 128, 128),
    "xception41": (3, 96, 96),
    "vit_tiny_patch16_224": (3, 64, 64),
    "deit_tiny_distilled_patch16_224": (3, 64, 64),
    "swin_tiny_patch4_window7_224": (3, 112, 112),
    "mobilevit_xxs": (3, 64, 64),
    "poolformer_s12": (3, 64, 64),
    "fastvit_t8": (3, 64, 64),
    "edgenext_xx_small": (3, 64, 64),
    "cait_xxs24_224": (3, 64, 64),
    "pvt_v2_b0": (3, 64, 64),
}
_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "vit_tiny_patch16_224": {"img_size": 64, "depth": 4},
    "deit_tiny_distilled_patch16_224": {"img_size": 64, "depth": 4},
    "cait_xxs24_224": {"img_size": 64, "depth": 3},
    "swin_tiny_patch4_window7_224": {"img_size": 112, "depths": (1, 1, 2, 1), "embed_dim": 48},
    "res2net50_26w_4s": {"layers": (1, 1, 1, 1)},
    "densenet121": {"block_config": (2, 2, 4, 2)},
    "edgenext_xx_small": {"depths": (1, 1, 2, 1)},
    "fastvit_t8": {"layers": (1, 1, 2, 1)},
}
"""Fewer blocks of a kind than the network of the name has, so that it does not take minutes."""
_VIT = {"hidden_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 192, "image_size": 64}

OTHERS: dict[str, Entry] = {
    **{
        f"timm {name}": Entry(package="timm", make=_timm(name, **_OPTIONS.get(name, {})), shape=shape)
        for name, shape in _SIZES.items()
    },
    "timm MlpMixer": Entry(
        package="timm",
        make=_call("timm.models.mlp_mixer:MlpMixer", 10, 64, patch_size=16, num_blocks=3, embed_dim=128),
        shape=(3, 64, 64),
    ),
    "timm VGG": Entry(
        package="timm",
        make=_call("timm.models.vgg:VGG", [16, "M", 32, 32, "M", 64, 64, "M"], 10, mlp_ratio=1 / 32),
        shape=(3, 64, 64),
    ),
    "timm ConvMixer": Entry(
        package="timm", make=_call("timm.models.convmixer:ConvMixer", 96, 4, num_classes=10), shape=(3, 64, 64)
    ),
    **{
        f"ultralytics {name}": Entry(package="ultralytics", make=_yolo(f"{name}.yaml"), shape=(3, 64, 64))
        for name in ("yolov5n", "yolov8n", "yolo11n", "yolov8n-seg", "yolov8n-cls", "yolov3-tiny", "yolov10n")
    },
    **{
        f"transformers {name}": Entry(package="transformers", make=make, shape=(3, 64, 64))
        for name, make in {
            "ViT": _hugging("ViTForImageClassification", "logits", **_VIT),
            "DeiT": _hugging("DeiTForImageClassification", "logits", **_VIT),
            "BEiT": _hugging("BeitForImageClassification", "logits", **_VIT),
            "DINOv2": _hugging("Dinov2ForImageClassification", "logits", **_VIT | {"patch_size": 16}),
            "Swin": _hugging(
                "SwinForImageClassification", "logits", image_size=64, embed_dim=32, depths=[2, 2], num_heads=[2, 4],
                window_size=4,
            ),
            "SegFormer": _hugging(
                "SegformerForSemanticSegmentation", "logits", depths=[1, 1, 1, 1], decoder_hidden_size=64
            ),
            "ResNet": _hugging(
                "ResNetForImageClassification", "logits", layer_type="basic", depths=[1, 1, 1, 1],
                hidden_sizes=[32, 64, 96, 128], embedding_size=32,
            ),
            "ConvNeXt": _hugging("ConvNextForImageClassification", "logits", hidden_sizes=[32, 64, 96, 128]),
            "PVT": _hugging(
                "PvtForImageClassification", "logits", image_size=64, depths=[1] * 4, hidden_sizes=[32, 64, 160, 256]
            ),
            "MobileViT": _hugging("MobileViTForImageClassification", "logits", image_size=64),
            "RegNet": _hugging("RegNetForImageClassification", "logits", hidden_sizes=[32, 64, 96, 128]),
        }.items()
    },
    **{
        f"segmentation-models-pytorch {kind}": Entry(
            package="segmentation_models_pytorch", make=_smp(kind, encoder), shape=(3, 128, 128)
        )
        for kind, encoder in {
            "Unet": "resnet18", "UnetPlusPlus": "resnet18", "MAnet": "resnet18", "Linknet": "resnet18",
            "FPN": "resnet18", "PSPNet": "resnet18", "PAN": "resnet18", "DeepLabV3": "resnet18",
            "DeepLabV3Plus": "mobilenet_v2", "UPerNet": "resnet18", "Segformer": "mit_b0",
        }.items()
    },
    **{
        f"monai {name}": Entry(package="monai", make=make, shape=shape)
        for name, (make, shape) in {
            "UNet": (_monai("UNet", 2, 1, 2, (16, 32, 64), (2, 2), num_res_units=2), (1, 64, 64)),
            "UNet 3d": (_monai("UNet", 3, 1, 2, (16, 32, 64), (2, 2)), (1, 16, 16, 16)),
            "BasicUNet": (_monai("BasicUNet", 2, 1, 2), (1, 64, 64)),
            "SegResNet": (_monai("SegResNet", 3, 8, 1, 2), (1, 16, 16, 16)),
            "VNet": (_monai("VNet", 3, 1, 2), (1, 16, 16, 16)),
            "DenseNet121": (_monai("DenseNet121", 2, 1, 5), (1, 64, 64)),
            "AttentionUnet": (_monai("AttentionUnet", 2, 1, 2, (16, 32, 64), (2, 2)), (1, 64, 64)),
            "DynUNet": (_monai("DynUNet", 2, 1, 2, [3, 3, 3], [1, 2, 2], [2, 2]), (1, 64, 64)),
            "UNETR": (
                _monai("UNETR", 1, 2, (32, 32, 32), feature_size=8, hidden_size=48, mlp_dim=96, num_heads=4),
                (1, 32, 32, 32),
            ),
            "ViT": (
                _monai("ViT", 1, (32, 32), (8, 8), 48, 96, 4, 4, classification=True, spatial_dims=2, first=True),
                (1, 32, 32),
            ),
            "AutoEncoder": (_monai("AutoEncoder", 2, 1, 1, (16, 32, 64), (2, 2, 2)), (1, 64, 64)),
        }.items()
    },
    **{
        f"pytorchcv {name}": Entry(
            package="pytorchcv", make=_cv(name), shape=shape, settled=name == "menet108_8x1_g3"
        )
        for name, shape in {
            "shufflenetv2_wd2": (3, 224, 224), "shufflenet_g1_wd4": (3, 224, 224), "squeezenet_v1_1": (3, 224, 224),
            "preresnet18": (3, 224, 224), "resnet20_cifar10": (3, 32, 32), "pyramidnet110_a48_cifar10": (3, 32, 32),
            "cbam_resnet18": (3, 224, 224), "bam_resnet18": (3, 224, 224), "menet108_8x1_g3": (3, 224, 224),
            "darknet_tiny": (3, 224, 224), "lwopenpose2d_mobilenet_cmupan_coco": (3, 64, 64),
        }.items()
    },
    **{
        f"facenet-pytorch {name}": Entry(package="facenet_pytorch", make=make, shape=shape)
        for name, (make, shape) in {
            "InceptionResnetV1": (
                _call("facenet_pytorch:InceptionResnetV1", pretrained=None, classify=True, num_classes=10), (3, 96, 96)
            ),
            "MTCNN P": (_call("facenet_pytorch.models.mtcnn:PNet", pretrained=False), (3, 24, 24)),
            "MTCNN R": (_call("facenet_pytorch.models.mtcnn:RNet", pretrained=False), (3, 24, 24)),
            "MTCNN O": (_call("facenet_pytorch.models.mtcnn:ONet", pretrained=False), (3, 48, 48)),
        }.items()
    },
    **{
        f"torchreid {name}": Entry(
            package="torchreid", make=_reid(f"{file}:{name}"), shape=(3, 64, 32)
        )
        for name, file in {"osnet_x0_25": "osnet", "osnet_ain_x0_25": "osnet_ain"}.items()
    },
}  # fmt: skip

TABLE: dict[str, Entry] = {
    **OTHERS,
    **{f"ours {name}": Entry(package="torch", make=make, shape=shape) for name, (make, shape) in SMALL.items()},
}
