"""Pairs of an image and its captions, batches of them, and batched augmentation.

Everything random here is drawn per sample from (seed, step, index in the global batch), so neither
the number of processes nor the micro-batch size changes what a step sees.
"""

import math
import warnings
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from minclip import hub_data, sources
from minclip.sources import PLAIN, Reading


@dataclass
class Pairs:
    """Images and what may be said about them.

    images: uint8 `[N, 3, H, W]`; captions: N non-empty lists of strings; labels: long `[N]` into
    class_names (-1: none); groups: long `[N]`, pictures of one group never meet in a batch;
    metadata: further columns of N values; skipped: what a loader left out of a stranger's files, one string a row.
    """

    images: Tensor
    captions: list[list[str]]
    labels: Tensor
    class_names: list[str]
    groups: Tensor
    metadata: dict[str, list] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    smaller: dict[int, Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.labels, self.groups = torch.as_tensor(self.labels), torch.as_tensor(self.groups)
        for row, texts in enumerate(self.captions):
            if not texts or not all(text.strip() for text in texts):
                raise ValueError(f"the caption of pair {row} is empty; give it a text or leave the pair out")

    def __len__(self) -> int:
        return len(self.images)

    def images_for(self, size: int) -> Tensor:
        """The images as `augment` should get them for pictures of side `size`: uint8 `[N, 3, h, w]`.

        It reads four pixels for each that it makes, so pictures of more than three times the size are made twice
        the size first, anti-aliased; that is done once and kept. Others stay as they are.
        """
        if max(self.images.shape[2:]) <= 3 * size:
            return self.images
        if size not in self.smaller:
            self.smaller[size] = shrink(self.images, 2 * size)
        return self.smaller[size]

    def select(self, keep: Tensor) -> "Pairs":
        """The pairs at the given indices (long) or where a mask (bool `[N]`) is true."""
        rows = keep.nonzero().flatten() if keep.dtype == torch.bool else keep
        pick = lambda column: [column[i] for i in rows.tolist()]  # noqa: E731
        metadata = {key: pick(column) for key, column in self.metadata.items()}
        labels, groups = self.labels[rows], self.groups[rows]
        return Pairs(self.images[rows], pick(self.captions), labels, self.class_names, groups, metadata)


def load_pairs(
    name_or_path: str | Path, split: str = "train", image_size: int | None = None,
    reading: Reading = PLAIN, limit: int | None = None,
) -> Pairs:  # fmt: skip
    """Load a dataset: `emoji` (embedded), one's own files (`minclip.own_data`), a recipe's or the hub's (`hub_data`).

    `image_size` brings all pictures to one size in pixels (default: as stored; one's own: as the first one, at most
    256). `reading` names columns and templates; `limit` rows are read (all, by default; emoji are read as a whole).
    Pictures that cannot be read and empty captions in one's own files are left out: `skipped` of the result names
    each, and a warning says how many. Raises ValueError if they are more than 1 % (and more than five) or a file
    cannot be used, and FileNotFoundError for an unknown name or a missing split.
    """
    if str(name_or_path) == "emoji":
        return Pairs(**sources.load_emoji(split, image_size=image_size))
    source = hub_data.open_data(name_or_path, split, reading)
    rows = islice(source.rows(), limit)
    pairs = Pairs(**sources.collect(rows, source.where, image_size, source.class_names, reading.workers))
    if pairs.skipped:
        warnings.warn(f"{name_or_path}: {sources.skip_report(pairs.skipped)}", stacklevel=2)
    return pairs


def step_generator(*key: int) -> torch.Generator:
    """A generator whose stream depends on all integers of `key`, such as (seed, step)."""
    mixed = 0
    for part in key:  # a small multiplicative hash; neighbouring seeds and steps must not share streams
        mixed = ((mixed ^ (int(part) + 0x9E3779B97F4A7C15)) * 0xBF58476D1CE4E5B9) % 2**63
        mixed ^= mixed >> 31
    return torch.Generator().manual_seed(mixed)


class BatchOrder:
    """Which pairs each step sees: every group at most once a batch, every group as often as any other.

    Two pictures of the same thing in one batch would be false negatives of each other (a duplicate
    caption is called wrong). So a step draws `batch_size` different groups, each from a reshuffled
    deck, and one picture of each group. `indices(step)` is a pure function of (seed, step); the first deck is
    begun at step `start`.
    """

    def __init__(self, groups: Tensor, batch_size: int, seed: int, start: int = 0) -> None:
        order = groups.argsort(stable=True)
        _, counts = groups[order].unique_consecutive(return_counts=True)
        self.members = order  # [N], sorted by group
        self.starts, self.counts = counts.cumsum(0) - counts, counts  # [G]
        if batch_size > len(counts):
            raise ValueError(
                f"batch_size {batch_size} is larger than the dataset's {len(counts)} different captions "
                f"({len(groups)} pairs); choose a smaller --batch_size"
            )
        self.batch_size, self.seed, self.start = batch_size, seed, start

    def indices(self, step: int) -> Tensor:
        """Rows of the pairs that step `step` trains on, long `[batch_size]`."""
        steps_per_epoch = len(self.counts) // self.batch_size
        epoch, position = divmod(step - self.start, steps_per_epoch)
        deck = torch.randperm(len(self.counts), generator=step_generator(self.seed, 1, self.start + epoch))
        groups = deck[position * self.batch_size : (position + 1) * self.batch_size]
        uniform = torch.rand(self.batch_size, generator=step_generator(self.seed, 2, step), dtype=torch.float64)
        return self.members[self.starts[groups] + (uniform * self.counts[groups]).long()]


@dataclass
class Augmentation:
    """How much training pictures vary; all zero is none.

    zoom, shift: fractions of the picture; rotate: degrees; color: strength of brightness, contrast and
    saturation; gray: share of pictures made gray; hue: share whose channels are mixed; erase: side of
    a blanked square as a fraction of the picture.
    """

    zoom: float = 0.2
    shift: float = 0.1
    rotate: float = 15.0
    color: float = 0.4
    gray: float = 0.1
    hue: float = 0.2
    erase: float = 0.0


def augment(images: Tensor, size: int, draw: Tensor, how: Augmentation) -> Tensor:
    """Random zoom, shift, rotation and colour for a batch at once.

    images: uint8 `[B, 3, H, W]`; draw: uniform random numbers `[B, 16]`, one row a sample. Returns
    float `[B, 3, size, size]` in [-1, 1]. White (1) lies outside the picture.
    """
    u = draw.to(images.device).float() * 2 - 1  # [B, 16] in [-1, 1]
    x = images.float() / 127.5 - 1  # [B, 3, H, W]
    angle, zoom = u[:, 0] * math.radians(how.rotate), 1 + how.zoom * u[:, 1]
    stretch = 1 + 0.5 * how.zoom * u[:, 2]
    cos, sin = angle.cos() * zoom, angle.sin() * zoom
    rows = [
        torch.stack([cos * stretch, -sin, how.shift * 2 * u[:, 3]], 1),
        torch.stack([sin, cos / stretch, how.shift * 2 * u[:, 4]], 1),
    ]
    grid = F.affine_grid(torch.stack(rows, 1), [len(x), 3, size, size], align_corners=False)
    x = 1 + F.grid_sample(x - 1, grid, mode="bilinear", padding_mode="zeros", align_corners=False)  # [B, 3, size, size]

    column = lambda i: u[:, i, None, None, None]  # noqa: E731
    gray = x.mean(1, keepdim=True)
    x = gray + (x - gray) * (1 + how.color * column(5))  # saturation
    mixed = x.gather(1, torch.argsort(draw[:, 6:9].to(x.device), dim=1)[:, :, None, None].expand_as(x))
    x = torch.where(column(9) < 2 * how.hue - 1, mixed, x)
    x = torch.where(column(10) < 2 * how.gray - 1, x.mean(1, keepdim=True), x)
    x = 1 + (x - 1) * (1 + how.color * column(11))  # contrast around the white paper
    x = x + 0.3 * how.color * column(12)  # brightness
    if how.erase:
        axis = torch.linspace(-1, 1, size, device=x.device)
        inside = lambda centre: (axis[None] - centre[:, None]).abs() < how.erase  # noqa: E731  # [B, size]
        hole = inside(u[:, 13])[:, None, :, None] & inside(u[:, 14])[:, None, None, :]
        x = torch.where(hole, u[:, 15, None, None, None], x)
    return x.clamp(-1, 1)


def plain(images: Tensor, size: int) -> Tensor:
    """Pictures for evaluation: uint8 `[B, 3, H, W]` -> float `[B, 3, size, size]` in [-1, 1], anti-aliased."""
    x = images.float() / 127.5 - 1
    return x if x.shape[-1] == size else F.interpolate(x, [size, size], mode="bilinear", antialias=True)


def shrink(images: Tensor, size: int) -> Tensor:
    """Pictures of at most `size` x `size` pixels, anti-aliased: uint8 `[N, 3, H, W]` -> uint8 `[N, 3, h, w]`."""
    shape = [min(side, size) for side in images.shape[2:]]
    return torch.cat(
        [
            F.interpolate(part.float(), shape, mode="bilinear", antialias=True).round().clamp(0, 255).to(torch.uint8)
            for part in images.split(1024)  # in parts, for as float a data set may not fit into memory
        ]
    )
