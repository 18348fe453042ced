"""Networks whose maps are laid out in other shapes, and whose attention is written with plain layers."""

import torch
import torch.nn.functional as F
from torch import nn

from tests.helpers.tiny_nets import conv


class Laid(nn.Module):
    """Two layers, maps of 4 x 4 in another shape, a linear layer that reads them."""

    def __init__(self, inputs, how):
        super().__init__()
        self.body, self.pool = conv(3, 8), nn.MaxPool2d(2)
        self.hidden, self.head = nn.Linear(inputs, 6), nn.Linear(6, 5)
        self.how = how

    def forward(self, x):
        return self.head(F.relu(self.hidden(self.how(self.pool(F.relu(self.body(x)))))))


def viewed(x):
    return x.view(x.shape[0], x.shape[1] * x.shape[2] * x.shape[3])


def rest(x):
    return x.reshape(x.size(0), -1)


def channels_last(x):
    return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1)


def squeezed(x):
    return x.mean((2, 3), keepdim=True).squeeze(-1).squeeze(-1)


def tokens(x):
    return x.flatten(2).transpose(1, 2).mean(1)


def hard_coded(x):
    return x.view(-1, 8 * 4 * 4)


class Twice(nn.Module):
    """A shared backbone applied to two halves of the input, then concatenated."""

    def __init__(self, flatten=False):
        super().__init__()
        self.first, self.second, self.flatten = nn.Conv2d(3, 6, 3, 2, 1), nn.Conv2d(6, 4, 3, 2, 1), flatten
        self.hidden, self.head = nn.Linear(16 if flatten else 8, 6), nn.Linear(6, 5)

    def see(self, x):
        x = F.relu(self.second(F.relu(self.first(x))))
        return x.flatten(1) if self.flatten else x.mean((2, 3))

    def forward(self, x):
        x = torch.cat([self.see(x[..., :4]), self.see(x[..., 4:])], 1)
        return self.head(F.relu(self.hidden(x)))


class FlatConcat(nn.Module):
    """Maps of two widths and sizes, flattened, then concatenated with a vector."""

    def __init__(self):
        super().__init__()
        self.left, self.right, self.extra = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(3, 6, 3, 4, 1), nn.Linear(3, 5)
        self.hidden, self.head = nn.Linear(4 * 16 + 6 * 4 + 5, 6), nn.Linear(6, 5)

    def forward(self, x):
        parts = [self.left(x).flatten(1), self.right(x).flatten(1), self.extra(x.mean((2, 3)))]
        return self.head(F.relu(self.hidden(F.relu(torch.cat(parts, 1)))))


class Parted(nn.Module):
    """Splits by numbers that the module keeps, as CSP stages and Res2Net do."""

    def __init__(self, how):
        super().__init__()
        self.stem, self.inner, self.reader = conv(3, 8), conv(4, 4), conv(8, 6)
        self.whole, self.one, self.sizes, self.how = 8, 4, [4, 4], how
        self.head = nn.Linear(6, 5)

    def forward(self, x):
        one, two = F.relu(self.stem(x)).split(self.how(self), 1)
        x = self.reader(torch.cat([one, self.inner(two)], 1))
        return self.head(F.relu(x).mean((2, 3)))


class ScaledBy(nn.Module):
    """A scale for each channel, seen in a shape that the module keeps, as MetaFormer's."""

    def __init__(self):
        super().__init__()
        self.body, self.by, self.head = conv(3, 8), ByShape(8), nn.Linear(8, 5)

    def forward(self, x):
        return self.head(self.by(F.relu(self.body(x))).mean((2, 3)))


class ByShape(nn.Module):
    """The scale."""

    def __init__(self, width):
        super().__init__()
        self.scale, self.shape = nn.Parameter(torch.linspace(1, 2, width)), (width, 1, 1)

    def forward(self, x):
        return x * self.scale.view(self.shape)


class Mixer(nn.Module):
    """A layer that mixes places."""

    def __init__(self):
        super().__init__()
        self.embed, self.places, self.head = nn.Conv2d(3, 8, 4, 4), nn.Linear(4, 4), nn.Linear(8, 5)

    def forward(self, x):
        return self.head(F.relu(self.places(self.embed(x).flatten(2))).mean(2))


class Streams(nn.Module):
    """ShuffleNet V2: one half goes on as it is, the other through a branch; then both are shuffled."""

    def __init__(self):
        super().__init__()
        self.stem, self.head = conv(3, 8), nn.Linear(8, 5)
        self.branches = nn.ModuleList(nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(), conv(4, 4)) for _ in range(2))

    def forward(self, x):
        x = F.relu(self.stem(x))
        for branch in self.branches:
            one, two = x.chunk(2, 1)
            x = torch.cat([one, F.relu(branch(two))], 1)
            x = x.view(x.shape[0], 2, x.shape[1] // 2, *x.shape[2:]).transpose(1, 2).flatten(1, 2)
        return self.head(x.mean((2, 3)))


class Fused(nn.Module):
    """timm's attention: queries, keys and values from one layer."""

    def __init__(self, width, heads, fused=True):
        super().__init__()
        self.num_heads, self.head_dim, self.fused = heads, width // heads, fused
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        samples, count, _ = x.shape
        qkv = self.qkv(x).reshape(samples, count, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        if self.fused:
            x = F.scaled_dot_product_attention(q, k, v)
        else:
            x = (q * self.head_dim**-0.5 @ k.transpose(-2, -1)).softmax(-1) @ v
        return self.proj(x.transpose(1, 2).reshape(samples, count, self.num_heads * self.head_dim))


class Interleaved(Fused):
    """ConViT's and Megatron's order: the query, key and value of a head lie beside one another."""

    def forward(self, x):
        samples, count, _ = x.shape
        qkv = self.qkv(x).reshape(samples, count, self.num_heads, 3, self.head_dim).permute(3, 0, 2, 1, 4)
        x = F.scaled_dot_product_attention(*qkv.unbind(0))
        return self.proj(x.transpose(1, 2).reshape(samples, count, self.num_heads * self.head_dim))


class Plain(Fused):
    """timm's without torch's own attention."""

    def __init__(self, width, heads):
        super().__init__(width, heads, fused=False)


class Separate(nn.Module):
    """Hugging Face's: three layers, and sizes kept on the module."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads, self.size, self.all = heads, width // heads, width
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.proj = nn.Linear(width, width)

    def by_head(self, x):
        return x.view(*x.shape[:-1], self.heads, self.size).permute(0, 2, 1, 3)

    def forward(self, x):
        q, k, v = self.by_head(self.query(x)), self.by_head(self.key(x)), self.by_head(self.value(x))
        mixed = (q @ k.transpose(-1, -2) / self.size**0.5).softmax(-1) @ v
        return self.proj(mixed.permute(0, 2, 1, 3).contiguous().view(*x.shape[:-1], self.all))


class Distribution(nn.Module):
    """YOLO's boxes: each side is the mean of a distribution over four places, read by a convolution over them."""

    def __init__(self):
        super().__init__()
        self.stem, self.sides, self.mean = conv(3, 8), conv(8, 16), nn.Conv2d(4, 1, 1, bias=False)

    def forward(self, x):
        x = self.sides(F.relu(self.stem(x))).flatten(2)
        x = x.view(x.shape[0], 4, 4, x.shape[-1]).transpose(2, 1).softmax(1)
        return self.mean(x).flatten(1, 2)


class Expanded(nn.Module):
    """A gate of one channel, spread over all before it is multiplied."""

    def __init__(self):
        super().__init__()
        self.body, self.gate, self.head = conv(3, 8), nn.Conv2d(8, 1, 1), nn.Linear(8, 5)

    def forward(self, x):
        x = self.body(x)
        return self.head((F.relu(x) * self.gate(x).expand_as(x).sigmoid()).mean((2, 3)))


class Windows(Separate):
    """Attention within two windows, which count as samples."""

    def forward(self, x):
        one, two = super().forward(torch.cat([x, 2 * x])).chunk(2)
        return one + two


class Transformer(nn.Module):
    """A vision transformer: patches, a class token, positions, one block, a norm and a head."""

    def __init__(self, attention=Fused, width=16, heads=4):
        super().__init__()
        self.embed = nn.Conv2d(3, width, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, width) / 2)
        self.places = nn.Parameter(torch.randn(1, 5, width) / 2)
        self.before, self.attention = nn.LayerNorm(width), attention(width, heads)
        self.between, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, 24), nn.Linear(24, width)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 5)

    def forward(self, x):
        x = self.embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.places
        x = x + self.attention(self.before(x))
        x = x + self.down(F.gelu(self.up(self.between(x))))
        return self.head(self.norm(x)[:, 0])


class Borrowed(nn.Module):
    """A map laid out by the width of the tensor that it was made from, as SegFormer and PVT reduce keys."""

    def __init__(self, others=1):
        super().__init__()
        self.embed, self.inner = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 8)
        self.reduce = nn.ModuleList(nn.Conv2d(8, 8, 2, 2) for _ in range(others))
        self.norm, self.read, self.head = nn.LayerNorm(8), nn.Linear(8, 6), nn.Linear(6, 5)

    def forward(self, x):
        x = self.inner(self.embed(x).flatten(2).transpose(1, 2))
        batch, tokens, width = x.shape
        side = int(tokens**0.5)
        found = 0
        for reduce in self.reduce:
            maps = reduce(x.transpose(1, 2).reshape(batch, width, side, side))
            found = found + self.norm(maps.reshape(batch, width, -1).transpose(1, 2))
        return self.head(F.relu(self.read(found)).mean(1))


class OneHead(nn.Module):
    """Attention of a single head whose width the module keeps: queries and keys lose the same channels."""

    def __init__(self, width=8):
        super().__init__()
        self.embed, self.width = nn.Conv2d(3, 6, 4, 4), width
        self.query, self.key, self.value = (nn.Linear(6, width) for _ in range(3))
        self.out, self.head = nn.Linear(width, 6), nn.Linear(6, 5)

    def forward(self, x):
        x = self.embed(x).flatten(2).transpose(1, 2)
        shape = (*x.shape[:-1], -1, self.width)
        query, key, value = (layer(x).view(shape).transpose(1, 2) for layer in (self.query, self.key, self.value))
        found = F.scaled_dot_product_attention(query, key, value, scale=0.5)
        return self.head((x + self.out(found.transpose(1, 2).reshape(*x.shape[:-1], -1))).mean(1))
