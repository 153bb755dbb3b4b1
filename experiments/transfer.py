"""CLIPs that the claims about transfer share, and what they are tried on: drawings by artists they never saw.

CLIP learns from pictures of the whole web and is tried on data sets that are none of its training. Here it learns
from four artists, and the *benchmark* (the paper's ImageNet) is a fifth one, `twemoji`, no drawing of which it has
seen; the natural shifts are `fxemoji` (near) and `openmoji` (line drawings, far). Concepts and their names do occur
in training, drawn by others; the pictures and the artists do not. What is trained is kept in runs/cache/, so that
claims share it.
"""

import json
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.common import MUON_LR, SHARED
from experiments.emoji import IMAGE_SIZE, compute_device, emoji, kept, tokenised
from experiments.fit import fit, make_model
from experiments.tokens import short
from minclip.clip import CLIP
from minclip.data import Augmentation, Pairs, augment, plain, step_generator
from minclip.resnet import ResNet
from minclip.tokenizer import CaptionTokens
from minclip.zero_shot import embed_images, embed_texts

VERSION = 1  # of the CLIPs that are kept
PRETRAINING = ("noto", "blob", "fluent", "emojione")
BENCHMARK, NEAR, FAR = "twemoji", "fxemoji", "openmoji"
UNSEEN = (BENCHMARK, NEAR, FAR)
WIDTHS = (4, 8, 16, 32)
CAPTION_LENGTH = 24
SENTENCES = ("a drawing of {}", "a picture of {}", "this shows {}", "an icon of {} in colour")
CLIPS = {
    **SHARED,
    "loss": "softmax",
    "batch_size": 256,
    "steps": 800,
    "muon_lr": MUON_LR,
    "image_width": 32,
    "captions": "mixed",  # a name, a sentence with it, the name and keywords; or sentences: never a bare name
}


# The CLIPs


@lru_cache
def pretraining_pairs() -> Pairs:
    """The training drawings of the four artists."""
    pairs = emoji("train")
    return pairs.select(torch.tensor([artist in PRETRAINING for artist in pairs.metadata["artist"]]))


@lru_cache
def pretraining_tokens(captions: str) -> CaptionTokens:
    """What is said about them, as tokens. Raises ValueError for an unknown kind of captions."""
    texts = pretraining_pairs().captions
    if captions == "sentences":
        texts = [[sentence.format(name) for sentence in SENTENCES] for name, *_ in texts]
    elif captions != "mixed":
        raise ValueError(f"unknown captions {captions!r}; choose from mixed, sentences")
    return CaptionTokens(texts, tokenised()[0], CAPTION_LENGTH)


def pretrained_clip(setting: dict, seed: int) -> CLIP:
    """The CLIP of a complete setting (its keys of CLIPS), in evaluation mode; trained once, the same whoever asks."""
    setting = {key: setting[key] for key in CLIPS}
    torch.manual_seed(seed)
    model = make_model(ResNet(IMAGE_SIZE, width=setting["image_width"]), setting, seed, None, CAPTION_LENGTH)

    def features_of(model: CLIP, images: Tensor, ids: Tensor, step: int) -> tuple[Tensor, Tensor]:
        with short():
            return model(images, ids)[:2]

    def look(rows: Tensor, draw: Tensor) -> Tensor:
        x = augment(pairs.images[rows].to(compute_device()), IMAGE_SIZE, draw, Augmentation())
        return x.contiguous(memory_format=torch.channels_last)

    def compute() -> dict[str, Tensor]:
        fit(model, look, setting, seed, say, features_of=features_of, pairs=pairs)
        return model.state_dict()

    pairs, tokens = pretraining_pairs(), pretraining_tokens(setting["captions"])
    first = 1 / len(SENTENCES) if setting["captions"] == "sentences" else 1 / 3
    say = lambda rows, draw, step: tokens.pick(rows, draw, first)  # noqa: E731
    about = {key: value for key, value in setting.items() if value != CLIPS[key]}
    model.load_state_dict(kept("clip", [VERSION, json.dumps(about, sort_keys=True), seed], compute))
    return model.eval()


# What they are tried on


@lru_cache
def drawings(artist: str) -> Pairs:
    """All drawings of an artist that no CLIP here was trained on, those with skin tones left out.

    Of the four artists of the training these are the ones of `in_distribution`; of an unseen artist, all there are.
    """
    splits = {NEAR: (NEAR,), FAR: (FAR,), BENCHMARK: ("train", "in_distribution")}.get(artist, ("in_distribution",))
    return join([emoji(split) for split in splits], lambda row: row["artist"] == artist and not row["skin_tones"])


def join(parts: list[Pairs], keep) -> Pairs:
    """The pairs of the parts, one after the other, for which keep(their metadata) is true."""
    chosen = []
    for pairs in parts:
        rows = [dict(zip(pairs.metadata, values)) for values in zip(*pairs.metadata.values())]
        chosen.append(pairs.select(torch.tensor([bool(keep(row)) for row in rows])))
    metadata = {key: [value for pairs in chosen for value in pairs.metadata[key]] for key in chosen[0].metadata}
    images, labels, groups = (torch.cat([getattr(p, k) for p in chosen]) for k in ("images", "labels", "groups"))
    return Pairs(images, [c for p in chosen for c in p.captions], labels, chosen[0].class_names, groups, metadata)


@torch.no_grad()
def tower_features(model: CLIP, images: Tensor) -> Tensor:
    """What the image tower says before the projection, L2-normalised, `[N, W]`: CLIP's probes see this (App. A.3)."""
    parts = [model.image_tower(plain(part.to(compute_device()), IMAGE_SIZE)) for part in images.split(512)]
    return F.normalize(torch.cat(parts), dim=1).cpu()


def shared_features(model: CLIP, images: Tensor) -> Tensor:
    """The unit vectors in the space of pictures and captions, `[N, D]`."""
    return embed_images(model, images, IMAGE_SIZE, 512).cpu()


def said(model: CLIP, texts: list[str]) -> Tensor:
    """The unit vectors of texts, `[N, D]`."""
    return embed_texts(model, tokenised()[0], texts).cpu()


# The benchmark: which subgroup of Unicode's does a drawing belong to?

TEST_SHARE, VALIDATION_SHARE, MOST_SHOTS = 0.25, 0.1, 16


@dataclass(frozen=True)
class Split:
    """Concepts of a benchmark, by part: their places in `Pairs.class_names` and their classes, each long `[N]`.

    names: of each class, the names of its training concepts, which say in words what the class holds.
    """

    classes: list[str]
    concepts: dict[str, Tensor]  # train, validation, test
    labels: dict[str, Tensor]
    names: list[list[str]]


@lru_cache
def subgroups(seed: int) -> Split:
    """The subgroups of which `twemoji` drew enough for 16 training pictures, without flags, split at random.

    Flags look alike at every artist, and the four of the training drew no country's. About a quarter of each class
    is for the test and a tenth for validation. A concept is in one part only, whoever draws it.
    """
    pairs = drawings(BENCHMARK)
    rows: dict[str, list[int]] = {}
    for concept, kind, group in zip(pairs.labels.tolist(), pairs.metadata["subgroup"], pairs.metadata["group"]):
        if group != "flags":
            rows.setdefault(kind, []).append(concept)
    parts = {kind: split_class(members, seed) for kind, members in sorted(rows.items())}
    parts = {kind: part for kind, part in parts.items() if len(part["train"]) >= MOST_SHOTS}
    places = {which: [part[which] for part in parts.values()] for which in ("train", "validation", "test")}
    names = [[pairs.class_names[i] for i in part["train"]] for part in parts.values()]
    label = {which: torch.arange(len(parts)).repeat_interleave(torch.tensor([len(p) for p in lists]))
             for which, lists in places.items()}  # fmt: skip
    return Split(list(parts), {w: torch.tensor(sum(lists, [])) for w, lists in places.items()}, label, names)


def split_class(members: list[int], seed: int) -> dict[str, list[int]]:
    """Some of the concepts of a class for the test, a few for validation, the others for training."""
    order = torch.randperm(len(members), generator=step_generator(seed, 11, len(members), members[0])).tolist()
    n, m = max(6, round(TEST_SHARE * len(members))), max(2, round(VALIDATION_SHARE * len(members)))
    shuffled = [members[i] for i in order]
    return {"test": shuffled[:n], "validation": shuffled[n : n + m], "train": shuffled[n + m :]}


def exam(artist: str, concepts: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The artist's drawings of the concepts, and their classes: images uint8 `[N, 3, S, S]`, long `[N]`.

    Concepts that the artist did not draw, or whose drawing a CLIP was trained on, are left out.
    """
    pairs = drawings(artist)
    place = {concept: row for row, concept in enumerate(pairs.labels.tolist())}
    found = [(place[c], y) for c, y in zip(concepts.tolist(), labels.tolist()) if c in place]
    rows, kept_labels = (torch.tensor(column, dtype=torch.long) for column in zip(*found))
    return pairs.images[rows], kept_labels
