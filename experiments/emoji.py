"""The data that runs share: emoji at 16 x 16, their names, and what trained image towers say of them.

Pictures are that small so that a run takes seconds, and a claim can have many settings and seeds.
"""

import hashlib
import json
from collections.abc import Callable
from functools import lru_cache

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from experiments.supervised import train_image_tower
from experiments.sweep import ROOT
from minclip.checkpoint import write_atomically
from minclip.data import Augmentation, Pairs, augment, load_pairs, plain
from minclip.lit import cached_image_features
from minclip.resnet import ResNet
from minclip.tokenizer import CaptionTokens, Tokenizer

IMAGE_SIZE = 16
CONTEXT_LENGTH = 16
TEST_SPLITS = ("in_distribution", "fxemoji", "held_out_compositions")
CACHE = ROOT / "runs" / "cache"


@lru_cache
def emoji(split: str) -> Pairs:
    """The pairs of one split, at the size of the experiments."""
    return load_pairs("emoji", split, IMAGE_SIZE)


@lru_cache
def names_without_tones() -> Tensor:
    """The places in `Pairs.class_names` of the names without skin tones, long `[1914]`, ascending.

    Tests ask for these: which of six tones a small picture shows is another question than what it shows.
    """
    names = emoji("train").class_names
    return torch.tensor([i for i, name in enumerate(names) if "skin tone" not in name])


@lru_cache
def tokenised() -> tuple[Tokenizer, CaptionTokens]:
    """A tokenizer trained on the training captions, and the training names tokenised."""
    captions = emoji("train").captions
    tokenizer = Tokenizer.train(sorted({text for texts in captions for text in texts}), 2048)
    return tokenizer, CaptionTokens([texts[:1] for texts in captions], tokenizer, CONTEXT_LENGTH)


def augmented(rows: Tensor, draw: Tensor) -> Tensor:
    """Training pictures of the rows `[B]`, augmented by draw `[B, 16]`: `[B, 3, S, S]`."""
    x = augment(emoji("train").images[rows].to(compute_device()), IMAGE_SIZE, draw, Augmentation())
    return x.contiguous(memory_format=torch.channels_last)


def as_they_are(splits: tuple[str, ...]) -> dict[str, Tensor]:
    """The pictures of the splits for evaluation, each `[N, 3, S, S]`."""
    return {split: plain(emoji(split).images, IMAGE_SIZE) for split in splits}


# Trained image towers


def pretrained_tower(width: int, steps: int, seed: int) -> ResNet:
    """An image tower trained on the training names; trained once (a minute or so), the same whoever asks."""

    def compute() -> dict[str, Tensor]:
        device = compute_device()
        return train_image_tower(emoji("train"), IMAGE_SIZE, width, steps, seed=seed, device=device).state_dict()

    tower = ResNet(IMAGE_SIZE, width=width)
    tower.load_state_dict(kept("weights", [width, steps, seed], compute))
    return tower.to(compute_device(), memory_format=torch.channels_last)


@lru_cache
def locked_features(width: int, steps: int, seed: int) -> dict[str, Tensor]:
    """The features `[N, D]` of the splits by the tower of `pretrained_tower`, by split; kept as it is."""
    tower = lambda: pretrained_tower(width, steps, seed)  # noqa: E731
    return kept("tower", [width, steps, seed], lambda: tower_features(tower(), ("train", *TEST_SPLITS)))


def tower_features(tower: nn.Module, splits: tuple[str, ...]) -> dict[str, Tensor]:
    """What the image tower says of each picture of the splits, not augmented, `[N, D]`, by split; on the CPU."""
    return {split: cached_image_features(tower, emoji(split).images, IMAGE_SIZE).cpu() for split in splits}


def kept(kind: str, about: list, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors that `compute()` returns: computed once, on one thread, then read from runs/cache/."""
    content = json.dumps([1, IMAGE_SIZE, *about, compute_device().type, torch.__version__])
    path = CACHE / f"{kind}_{hashlib.sha256(content.encode()).hexdigest()[:16]}.safetensors"
    if not path.exists():
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            tensors = {name: x.cpu().contiguous() for name, x in compute().items()}
        finally:
            torch.set_num_threads(threads)
        CACHE.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda part: save_file(tensors, part))
    return load_file(path)


def compute_device() -> torch.device:
    """The GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
