"""CLIP's modified ResNet (CLIP section 2.4): three-conv stem, blur pooling, attention pooling.

Against the textbook ResNet three things change: the stem is three small convolutions instead of one
large; every strided convolution is an average pooling followed by an unstrided one (so nothing is
aliased); the global average at the end is one step of attention whose query is that average.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minclip.towers import check_heads, fit_positions


def make_norm(kind: str, channels: int) -> nn.Module:
    """`batch` (as in CLIP) or `group` (each picture alone: the same result in any split of the batch)."""
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    if kind == "group":
        return nn.GroupNorm(max(1, channels // 16), channels)
    raise ValueError(f"unknown norm {kind!r}; choose batch or group")


def conv_norm_relu(in_channels: int, out_channels: int, stride: int, norm: str) -> list[nn.Module]:
    """One step of the stem: `[B, in, H, W]` -> `[B, out, H / stride, W / stride]`."""
    conv = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
    return [conv, make_norm(norm, out_channels), nn.ReLU(inplace=True)]


class Bottleneck(nn.Module):
    """1x1 -> 3x3 -> (blur pool) -> 1x1, added to a shortcut that is pooled likewise."""

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int, norm: str) -> None:
        super().__init__()
        out_channels = width * self.expansion
        self.conv1, self.norm1 = nn.Conv2d(in_channels, width, 1, bias=False), make_norm(norm, width)
        self.conv2, self.norm2 = nn.Conv2d(width, width, 3, padding=1, bias=False), make_norm(norm, width)
        self.conv3, self.norm3 = nn.Conv2d(width, out_channels, 1, bias=False), make_norm(norm, out_channels)
        self.stride = stride
        self.shortcut = None
        if stride > 1 or in_channels != out_channels:
            conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
            self.shortcut = nn.Sequential(conv, make_norm(norm, out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C, H, W]` -> `[B, 4 width, H / stride, W / stride]`."""
        y = F.relu_(self.norm1(self.conv1(x)))  # in place: no backward needs what a norm returned
        y = F.relu_(self.norm2(self.conv2(y)))
        if self.stride > 1:
            x, y = F.avg_pool2d(x, self.stride), F.avg_pool2d(y, self.stride)
        y = self.norm3(self.conv3(y))
        return F.relu_(y.add_(x if self.shortcut is None else self.shortcut(x)))


class AttentionPool(nn.Module):
    """One query, the mean of the map, attends to the mean and every position (CLIP section 2.4).

    CLIP's output projection of this layer is `CLIP.image_projection` here: every tower gets one.
    """

    def __init__(self, positions: int, channels: int, heads: int) -> None:
        super().__init__()
        self.position_embedding = nn.Parameter(torch.randn(positions + 1, channels) * channels**-0.5)
        self.query, self.key, self.value = (nn.Linear(channels, channels) for _ in range(3))
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C, H, W]` -> `[B, C]`."""
        x = x.flatten(2).transpose(1, 2)  # [B, H W, C]
        positions = fit_positions(self.position_embedding, x.shape[1])  # [1 + H W, C]
        x = torch.cat([x.mean(1, keepdim=True), x], 1) + positions.to(x.dtype)  # [B, 1 + H W, C]
        h, d = self.heads, x.shape[-1] // self.heads
        # One query never needs a key and a value of every position: q (W x + b) = (q W) x + q b, and W_v goes
        # after the weighted sum. So the layer costs as much as two positions, however many there are.
        q = self.query(x[:, 0]).unflatten(-1, (h, d)) * d**-0.5  # [B, heads, d]
        offset = (q * self.key.bias.unflatten(0, (h, d))).sum(-1, keepdim=True)  # [B, heads, 1], no softmax sees it
        q = torch.einsum("bhd,hdc->bhc", q, self.key.weight.unflatten(0, (h, d)))  # [B, heads, C]
        weights = (q @ x.transpose(1, 2) + offset).softmax(-1).to(x.dtype)  # [B, heads, N]
        value = torch.einsum("bhc,hdc->bhd", weights @ x, self.value.weight.unflatten(0, (h, d)))  # [B, heads, d]
        return value.flatten(1) + self.value.bias  # [B, C]


class ResNet(nn.Module):
    """Image tower: pictures `[B, 3, S, S]` in [-1, 1] -> features `[B, 4 width 2^(stages - 1)]`.

    layers: blocks in each stage, the first at full resolution, each later one at half the one before.
    stem_stride: 4 as in CLIP (a strided convolution, then a pooling), 2 (no pooling) or 1 for small pictures.
    norm: `batch` as in CLIP, or `group`, which has no batch statistics and so is exact in micro-batches
    and on several processes.
    """

    def __init__(
        self,
        image_size: int = 32,
        layers: tuple[int, ...] = (1, 1, 1),
        width: int = 32,
        stem_stride: int = 2,
        norm: str = "batch",
        head_dim: int = 64,
    ) -> None:
        super().__init__()
        if stem_stride not in (1, 2, 4):
            raise ValueError(f"stem_stride {stem_stride} is not 1, 2 or 4")
        reduction = stem_stride * 2 ** (len(layers) - 1)
        if image_size % reduction:
            raise ValueError(f"image_size {image_size} is not a multiple of {reduction}, by which this ResNet reduces")
        half, first_stride = width // 2, 1 if stem_stride == 1 else 2
        self.stem = nn.Sequential(
            *conv_norm_relu(3, half, first_stride, norm),
            *conv_norm_relu(half, half, 1, norm),
            *conv_norm_relu(half, width, 1, norm),
            nn.AvgPool2d(2) if stem_stride == 4 else nn.Identity(),
        )
        blocks, channels = [], width
        for stage, depth in enumerate(layers):
            for block in range(depth):
                stride = 2 if stage > 0 and block == 0 else 1
                blocks.append(Bottleneck(channels, width * 2**stage, stride, norm))
                channels = width * 2**stage * Bottleneck.expansion
        self.blocks = nn.Sequential(*blocks)
        heads = max(1, channels // head_dim)
        check_heads(channels, heads)
        self.pool = AttentionPool((image_size // reduction) ** 2, channels, heads)
        self.output_dim = channels
        for block in self.blocks:  # every block starts as its shortcut, as CLIP's code initialises it
            nn.init.zeros_(block.norm3.weight)

    def forward(self, images: Tensor) -> Tensor:
        """`[B, 3, S, S]` -> `[B, output_dim]`."""
        return self.pool(self.blocks(self.stem(images)))
