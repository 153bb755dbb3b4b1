"""What a step sees: which pairs, at what size and how varied, and which of their patches and words.

All of it is drawn for the whole batch from (seed, step), then cut to this process's part: neither the number of
processes nor the micro-batch size changes what a picture looks like or which of its tokens stay.
"""

import math
import warnings
from dataclasses import dataclass, field

import torch
from torch import Tensor

from minclip.clip import CLIPConfig
from minclip.data import Augmentation, BatchOrder, Pairs, augment, step_generator
from minclip.masking import IMAGE_STRATEGIES, TEXT_STRATEGIES, image_token_budget, mask_image, mask_text
from minclip.sources import Reading
from minclip.syntax import word_priority
from minclip.tokenizer import CaptionTokens, Tokenizer

AT_LEAST_ONE = "batch_size max_steps log_every checkpoint_every window window_passes workers".split()


@dataclass
class BatchConfig:
    """What fixes the batches of a run."""

    model: CLIPConfig = field(default_factory=CLIPConfig)
    augmentation: Augmentation = field(default_factory=Augmentation)
    # emoji (embedded), a file or folder of one's own, a recipe or a data set of the hub (minclip.hub_data)
    data: str = "emoji"
    # the split to train on
    split: str = "train"
    # how files of one's own and data sets of the hub are read; the embedded emoji need none of it
    reading: Reading = field(default_factory=Reading)
    # pairs a step, over all processes
    batch_size: int = 256
    # how often a pair is shown with its first caption; its others share the rest
    first_caption: float = 0.8
    # steps in all
    max_steps: int = 850
    # side of the pictures in the early steps, which so cost less (CLIPA); ignored unless under image_size
    early_image_size: int = 24
    # the share of the steps that are early
    early_fraction: float = 0.85
    # the share of the patches that training pictures show (ViT only; the others are not computed)
    image_keep: float = 1.0
    # which patches stay: random, grid (one of each window) or block (a square); ViT only
    image_masking: str = "random"
    # most tokens of a training caption, start and end counted; 0 for all
    text_tokens: int = 0
    # which words stay: truncate (the first), random, block (neighbours) or syntax (nouns first)
    text_masking: str = "truncate"
    # fixes weights, batches, augmentation and masks
    seed: int = 0


def check_batches(config: BatchConfig) -> None:
    """Raise ValueError for settings of batches that no run can have, at any of its picture sizes."""
    for name, value in {**vars(config), **vars(config.reading)}.items():
        if name in AT_LEAST_ONE and value < 1:
            raise ValueError(f"{name} is {value}; it must be at least 1")
    if config.reading.streaming and (config.data == "emoji" or config.reading.window < 2 * config.batch_size):
        raise ValueError("streaming needs a --window of two batches or more, and --data other than emoji (in memory)")
    if not all("{}" in template for template in config.reading.templates):
        raise ValueError(f"templates {list(config.reading.templates)} must each hold {{}} where the class's name goes")
    for name, known in (("image_masking", IMAGE_STRATEGIES), ("text_masking", TEXT_STRATEGIES)):
        if getattr(config, name) not in known:
            raise ValueError(f"unknown {name} {getattr(config, name)!r}; choose from {', '.join(known)}")
    if config.text_tokens and config.text_tokens < 3:
        raise ValueError(
            f"text_tokens is {config.text_tokens}; start, a word and end need 3: choose 3 or more, or 0 for all"
        )
    keep, patch = config.image_keep, config.model.patch_size
    if not 0 < keep <= 1:
        raise ValueError(f"image_keep is {keep}; it is a share of the patches: choose one in (0, 1]")
    if config.model.image_tower != "vit":
        for name, plain in (("image_keep", 1), ("image_masking", BatchConfig.image_masking)):
            given, tower = getattr(config, name), config.model.image_tower
            if given != plain:
                raise ValueError(
                    f"{name} is {given}, but image_tower {tower} has no patches; choose vit, or {name} {plain}"
                )
        return
    sizes = {"image_size": config.model.image_size, "early_image_size": image_size_at(config, 0)}
    for name, size in sizes.items():
        if patch < 1 or size % patch:
            or_none = ", or 0" if name == "early_image_size" else ""
            raise ValueError(f"{name} {size} is not a multiple of patch_size {patch}; choose one that is{or_none}")
        try:
            image_token_budget(size // patch, keep, config.image_masking)
        except ValueError as error:
            raise ValueError(f"image_keep does not suit {name} {size}: {error}") from error


def image_size_at(config: BatchConfig, step: int) -> int:
    """Side of the pictures of step `step` (from 0), in pixels.

    Early steps see smaller pictures, so fewer tokens (CLIPA section 3): most of what is to be learned can
    be learned from them, and the last steps, at full size, repair the rest.
    """
    size, early = config.model.image_size, config.early_image_size
    return early if 0 < early < size and step < config.early_fraction * config.max_steps else size


def tokenise(pairs: Pairs, tokenizer: Tokenizer, config: BatchConfig) -> CaptionTokens:
    """All captions of `pairs` as ids, and with the ranks of their words if the masking of text goes by those."""
    priority = word_priority if config.text_tokens and config.text_masking == "syntax" else None
    padded = config.model.text_pool == "last"
    return CaptionTokens(pairs.captions, tokenizer, config.model.context_length, priority, padded)


def fair_groups(pairs: Pairs, batch_size: int) -> Tensor:
    """Groups `[N]` for BatchOrder: those of `pairs`, but each picture is its own where captions only name a class.

    A batch larger than the number of classes is wanted there, and must show some of them twice: a warning says what
    that means. Where captions say more than a class, BatchOrder refuses such a batch.
    """
    labels, groups = pairs.labels.tolist(), pairs.groups.tolist()
    n = len(set(labels))
    if min(labels) < 0 or not n == len(set(groups)) == len(set(zip(labels, groups))) < batch_size <= len(pairs):
        return pairs.groups
    said = f"captions name {n} classes only: of a batch of {batch_size}, many pictures have the same, which the loss"
    floor = math.log(batch_size / n)
    warnings.warn(f"{said} calls wrong for one another (softmax cannot fall below {floor:.2f})", stacklevel=2)
    return torch.arange(len(pairs))


def make_batch(
    pairs: Pairs,
    tokens: CaptionTokens,
    order: BatchOrder,
    config: BatchConfig,
    step: int,
    local: slice,
    device: torch.device,
) -> tuple[Tensor, ...]:
    """This process's part of step `step`: augmented pictures `[B / n, 3, S, S]` and ids `[B / n, L]`.

    With `image_keep` also the places of the patches that stay, long `[B / n, K]`: the arguments of `CLIP.forward`.
    local: the part of the global batch; B is `config.batch_size`.
    """
    uniform = lambda width, key: torch.rand(  # noqa: E731
        config.batch_size, width, generator=step_generator(config.seed, key, step), dtype=torch.float64
    )[local]  # [B / n, width]
    rows, draw = order.indices(step), uniform(17, 3)
    rows = rows[local] if len(rows) == config.batch_size else rows  # a stream's order has this process's alone
    size = image_size_at(config, step)
    images = augment(pairs.images_for(size)[rows].to(device), size, draw[:, :16], config.augmentation)
    images = images.contiguous(memory_format=torch.channels_last)
    which = rows, draw[:, 16], config.first_caption
    ids, priority = tokens.pick(*which), None  # [B / n, L]
    if config.text_tokens:
        if config.text_masking == "syntax":
            ids, priority = tokens.pick_with_priority(*which)
        draw = uniform(tokens.ids.shape[1], 8)[:, : ids.shape[1]]  # processes may have an L of their own
        ids = mask_text(ids, config.text_tokens, config.text_masking, draw, priority)
    if config.image_keep == 1:
        return images, ids.to(device)
    side = size // config.model.patch_size
    kept = mask_image(uniform(side**2, 7), side, config.image_keep, config.image_masking)
    return (images, ids.to(device)) if kept is None else (images, ids.to(device), kept.to(device))
