"""Networks small enough to know every channel of, one per way in which channels hang together."""

import torch
import torch.nn.functional as F
from torch import nn

EXAMPLE_SHAPE = (1, 3, 8, 8)


def example():
    return torch.randn(EXAMPLE_SHAPE, generator=torch.Generator().manual_seed(1))


def seeded(kind, *arguments):
    """A network with weights and BatchNorm statistics that are far from their initial values, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = kind(*arguments).train()
        for module in model.modules():
            if isinstance(module, (nn.BatchNorm2d, nn.GroupNorm)):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.uniform_(module.bias, -0.5, 0.5)
        with torch.no_grad():
            model(torch.randn(16, *EXAMPLE_SHAPE[1:]) * 2 + 0.5)
    return model.eval()


def conv(inputs, outputs, groups=1):
    return nn.Conv2d(inputs, outputs, 3, padding=1, groups=groups)


class Chain(nn.Module):
    """conv → norm → conv → flatten → hidden → head."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.second = conv(3, 6), nn.BatchNorm2d(6), conv(6, 4)
        self.pool, self.hidden, self.head = nn.AdaptiveAvgPool2d(2), nn.Linear(16, 8), nn.Linear(8, 5)

    def forward(self, x):
        x = F.relu(self.second(F.relu(self.norm(self.first(x)))))
        return self.head(F.relu(self.hidden(self.pool(x).flatten(1))))


class Residual(nn.Module):
    """Two layers whose outputs are added, a free one between them."""

    def __init__(self):
        super().__init__()
        self.stem, self.inner, self.outer, self.norm = conv(3, 8), conv(8, 6), conv(6, 8), nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = F.relu(self.stem(x))
        x = F.relu(x + self.norm(self.outer(F.relu(self.inner(x)))))
        return self.head(x.mean((2, 3)))


class Concat(nn.Module):
    """Two layers side by side, then a norm and a layer that read both."""

    def __init__(self):
        super().__init__()
        self.left, self.right, self.norm = conv(3, 4), conv(3, 6), nn.BatchNorm2d(10)
        self.reader, self.head = conv(10, 4), nn.Linear(4, 5)

    def forward(self, x):
        x = F.relu(self.norm(torch.cat([self.left(x), self.right(x)], 1)))
        return self.head(F.relu(self.reader(x)).mean((2, 3)))


class Depthwise(nn.Module):
    """A depthwise layer between two pointwise ones."""

    def __init__(self):
        super().__init__()
        self.expand, self.deep, self.project = conv(3, 8), conv(8, 8, groups=8), nn.Conv2d(8, 6, 1)
        self.head = nn.Linear(6, 5)

    def forward(self, x):
        x = F.relu(self.deep(F.relu(self.expand(x))))
        return self.head(F.relu(self.project(x)).mean((2, 3)))


class SqueezeExcite(nn.Module):
    """A layer scaled by a gate that is computed from itself."""

    def __init__(self):
        super().__init__()
        self.body, self.squeeze, self.excite = conv(3, 8), nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = F.relu(self.body(x))
        gate = torch.sigmoid(self.excite(F.relu(self.squeeze(x.mean((2, 3), keepdim=True)))))
        return self.head((x * gate).mean((2, 3)))


class Grouped(nn.Module):
    """A grouped convolution that reads one layer and is read by another."""

    def __init__(self):
        super().__init__()
        self.before, self.grouped, self.after = conv(3, 8), conv(8, 12, groups=4), conv(12, 4)
        self.head = nn.Linear(4, 5)

    def forward(self, x):
        x = F.relu(self.grouped(F.relu(self.before(x))))
        return self.head(F.relu(self.after(x)).mean((2, 3)))


class Normed(nn.Module):
    """GroupNorm over groups of channels; two groups of four, unless told otherwise."""

    def __init__(self, groups=2, reading=1):
        super().__init__()
        self.body, self.norm, self.reader = conv(3, 8), nn.GroupNorm(groups, 8), conv(8, 4, reading)
        self.head = nn.Linear(4, 5)

    def forward(self, x):
        return self.head(F.relu(self.reader(F.relu(self.norm(self.body(x))))).mean((2, 3)))


class PaddedShortcut(nn.Module):
    """The CIFAR ResNets' parameter-free shortcut (option A): subsample, and pad the channel axis with zeros."""

    def __init__(self):
        super().__init__()
        self.stem, self.inner, self.outer = conv(3, 4), nn.Conv2d(4, 8, 3, 2, 1), conv(8, 8)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = F.relu(self.stem(x))
        short = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2))
        return self.head(F.relu(short + self.outer(F.relu(self.inner(x)))).mean((2, 3)))


class Halves(nn.Module):
    """Channels picked by hand: the second half of a layer is read on its own."""

    def __init__(self):
        super().__init__()
        self.body, self.reader, self.head = conv(3, 8), conv(4, 6), nn.Linear(6, 5)

    def forward(self, x):
        return self.head(F.relu(self.reader(F.relu(self.body(x))[:, 4:])).mean((2, 3)))


class Rolled(nn.Module):
    """Channels turned by two places between a layer and its reader."""

    def __init__(self):
        super().__init__()
        self.body, self.reader, self.head = conv(3, 8), conv(8, 6), nn.Linear(6, 5)

    def forward(self, x):
        return self.head(F.relu(self.reader(F.relu(self.body(x)).roll(2, 1))).mean((2, 3)))


class Shuffled(nn.Module):
    """ShuffleNet's channel shuffle between a layer and its reader."""

    def __init__(self):
        super().__init__()
        self.body, self.reader, self.head = conv(3, 8), conv(8, 6), nn.Linear(6, 5)

    def forward(self, x):
        x = F.relu(self.body(x))
        x = x.reshape(len(x), 2, -1, *x.shape[2:]).transpose(1, 2).flatten(1, 2)
        return self.head(F.relu(self.reader(x)).mean((2, 3)))


class Split(nn.Module):
    """A layer cut in two halves, each with a reader of its own."""

    def __init__(self):
        super().__init__()
        self.body, self.left, self.right, self.head = conv(3, 8), conv(4, 6), conv(4, 6), nn.Linear(6, 5)

    def forward(self, x):
        one, two = F.relu(self.body(x)).chunk(2, 1)
        return self.head(F.relu(self.left(one) + self.right(two)).mean((2, 3)))


class Pointwise(nn.Module):
    """ConvNeXt's block: two linear layers at every place of a map whose channels lie last."""

    def __init__(self):
        super().__init__()
        self.stem, self.up, self.down, self.head = conv(3, 8), nn.Linear(8, 12), nn.Linear(12, 8), nn.Linear(8, 5)

    def forward(self, x):
        x = F.relu(self.stem(x))
        x = x + self.down(F.gelu(self.up(x.permute(0, 2, 3, 1)))).permute(0, 3, 1, 2)
        return self.head(x.mean((2, 3)))


ALL = (Chain, Residual, Concat, Depthwise, SqueezeExcite, Grouped, Normed, Pointwise)
HAND_WIRED = (PaddedShortcut, Halves, Rolled, Shuffled, Split)


def tiny_detector(kind: str) -> nn.Module:
    """One of torchvision's detectors on two convolutions, for images of 64 x 64 pixels; it finds something."""
    from torchvision.models import detection
    from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
    from torchvision.ops import MultiScaleRoIAlign

    torch.manual_seed(1)
    backbone = nn.Sequential(nn.Conv2d(3, 8, 3, stride=4, padding=1), nn.ReLU(), conv(8, 8), nn.ReLU())
    backbone.out_channels = 8
    sizes = {"min_size": 64, "max_size": 64}
    model: nn.Module
    if kind == "ssd":
        model = detection.ssd.SSD(
            backbone,
            DefaultBoxGenerator([[2]], scales=[0.2, 0.5]),
            (64, 64),
            3,
            head=detection.ssd.SSDHead([8], [4], 3),
        )
    elif kind == "retinanet":
        anchors = AnchorGenerator(((16,),), ((1.0,),))
        model = detection.RetinaNet(backbone, 3, anchor_generator=anchors, **sizes)
    else:
        anchors = AnchorGenerator(((16,),), ((1.0,),))
        pool = MultiScaleRoIAlign(["0"], output_size=2, sampling_ratio=1)
        model = detection.FasterRCNN(
            backbone,
            rpn_anchor_generator=anchors,
            box_roi_pool=pool,
            box_head=detection.faster_rcnn.TwoMLPHead(8 * 4, 16),
            box_predictor=detection.faster_rcnn.FastRCNNPredictor(16, 3),
            **sizes,
        )
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.15)
    return model.eval()
