"""Runs with fewer tokens: a ViT and a text tower, trained in stages (CLIPA sections 3 and 4), on emoji or on scenes.

A stage trains for some steps at one picture size, with some of the patches and words. What all stages but the last
left is kept in runs/cache/, so that settings which begin alike share their beginning.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.common import SHARED
from experiments.cost import Phase, Shape, run_flops
from experiments.emoji import CONTEXT_LENGTH, TEST_SPLITS, compute_device, kept, tokenised
from experiments.fit import fit, make_model
from experiments.scoring import evaluate
from experiments.sweep import run_function
from minclip.clip import CLIP
from minclip.data import Augmentation, Pairs, augment, load_pairs, plain, step_generator
from minclip.masking import mask_image, mask_text, resize
from minclip.syntax import word_priority
from minclip.tokenizer import CaptionTokens, Tokenizer
from minclip.towers import VisionTransformer

VERSION = 1  # of the runs and of what is kept between their stages
CAPTION_LENGTH = 24  # most tokens of a caption
MILD = Augmentation(zoom=0.1, shift=0.05, rotate=5, color=0.2, gray=0, hue=0)  # CLIPA crops and changes no colours
TOKENS = {
    **SHARED,
    "loss": "softmax",
    "lr": 6e-3,
    "muon_lr": 0.02,
    "image_width": 64,
    "image_layers": 3,
    "positions": "learned",  # or sincos, which any grid has; a learned table is interpolated in every step
    "image_size": 32,
    "patch_size": 4,
    "stages": [],  # of `stage`
    "captions": "names",  # or all: a name, a sentence with it, or the name and keywords, as often
    "drawings": 1.0,  # the share of the training pictures that is seen; of each concept one at least
    "teacher": [],  # the `stage` of a tower, 64 wide, that is imitated
    "imitate": "none",  # or features, similarity
    "imitation": 1.0,  # weight of what the imitation adds to the loss
}


def stage(
    steps: int,
    size: int = 32,
    keep: float = 1.0,
    masking: str = "random",
    text_tokens: int = 0,
    text_masking: str = "truncate",
    rate: float = 1.0,
) -> dict:
    """One stage: pictures of `size`, of whose patches the share `keep` is seen, and captions of at most `text_tokens`.

    masking: `mask_image`'s strategies; text_masking: `mask_text`'s; 0 text tokens: all. rate: times the learning
    rates of the setting.
    """
    part = {"steps": steps, "size": size, "keep": float(keep), "masking": masking}
    return part | {"text_tokens": text_tokens, "text_masking": text_masking, "rate": float(rate)}


# What the claims share: 300 steps of 256 pictures with few tokens, then a tenth as many with all (CLIPA: a twentieth).
FULL, PRETRAIN, TUNE, TUNE_RATE = 64, 300, 30, 0.3
WIDTHS = (32, 64, 128)
STRATEGIES = ("resize", "random", "grid", "block")


def few(tokens: int, strategy: str = "resize", steps: int = PRETRAIN, **text) -> dict:
    """A stage with so many of the 64 patches."""
    if strategy == "resize":
        return stage(steps, 4 * round(tokens**0.5), **text)
    return stage(steps, 32, tokens / FULL, strategy, **text)


def tune(steps: int = TUNE, size: int = 32, keep: float = 1.0) -> dict:
    """A short stage with all words and all patches (or some), at a lower rate."""
    return stage(steps, size, keep, rate=TUNE_RATE)


TEXT_TOKENS = 8  # of a name, about, start and end counted; `flops_of` needs a number


def flops_of(setting: dict) -> float:
    """Training FLOPs of both towers through all stages of a complete setting (`experiments.cost`)."""
    keys = ("patch_size", "image_width", "image_layers", "text_width", "text_layers", "embed_dim")
    shape = Shape(*(setting[key] for key in keys))
    phases = [
        Phase(part["steps"] * setting["batch_size"], part["size"], part["text_tokens"] or TEXT_TOKENS, part["keep"])
        for part in setting["stages"]
    ]
    return run_flops(shape, phases)


@dataclass(frozen=True)
class World:
    """What a run learns from: its pairs, their pictures at the run's size, and their captions as tokens."""

    name: str
    pairs: Pairs
    tokenizer: Tokenizer
    tokens: CaptionTokens
    first: float  # how often a picture is shown with its first caption


@lru_cache
def emoji_pairs(split: str, image_size: int) -> Pairs:
    """The pairs of a split, their pictures uint8 `[N, 3, S, S]`."""
    return load_pairs("emoji", split, image_size)


@lru_cache
def emoji_world(image_size: int, captions: str, drawings: float, seed: int) -> World:
    """The emoji's training pairs: their names, or all their captions; of each concept all drawings, or a share."""
    pairs = emoji_pairs("train", image_size)
    if drawings < 1:
        pairs = pairs.select(some_drawings(pairs.labels, drawings, seed))
    tokenizer, _ = tokenised()
    if captions == "names":
        names = CaptionTokens([texts[:1] for texts in pairs.captions], tokenizer, CONTEXT_LENGTH)
        return World("emoji", pairs, tokenizer, names, 1.0)
    tokens = CaptionTokens(pairs.captions, tokenizer, CAPTION_LENGTH, word_priority)
    return World("emoji", pairs, tokenizer, tokens, 1 / 3)


def some_drawings(labels: Tensor, share: float, seed: int) -> Tensor:
    """Which pairs to keep, bool `[N]`: of each label the first in a random order, of the others the first ones."""
    order = torch.randperm(len(labels), generator=step_generator(seed, 9))
    first = torch.full((int(labels.max()) + 1,), len(labels))
    first.scatter_reduce_(0, labels[order], torch.arange(len(labels)), "amin")
    few = torch.zeros(len(labels), dtype=torch.bool)
    few[order[first[first < len(labels)]]] = True
    others = order[~few[order]]
    few[others[: max(0, round(share * len(labels)) - int(few.sum()))]] = True
    return few


def vision_tower(setting: dict) -> VisionTransformer:
    """The ViT of a setting, with fresh weights."""
    width = setting["image_width"]
    heads = max(1, width // 32)
    shape = setting["image_size"], setting["patch_size"], width, setting["image_layers"], heads
    return VisionTransformer(*shape, positions=setting["positions"])


def fresh_model(world: World, setting: dict, seed: int) -> CLIP:
    """Both towers with fresh weights."""
    torch.manual_seed(seed)
    return make_model(vision_tower(setting), setting, seed, world.tokenizer, CAPTION_LENGTH)


def short() -> torch.autocast:
    """Towers in bfloat16: a third of the time, where the processor has it."""
    return torch.autocast(compute_device().type, torch.bfloat16)


def train_stage(model: CLIP, world: World, setting: dict, number: int, seed: int, imitate: Callable | None) -> dict:
    """Train the stage `number` of the setting; returns what `fit` returns and `seconds`.

    imitate(features, images at full size, ids) is added to the loss.
    """
    part, device = setting["stages"][number], compute_device()
    side = part["size"] // setting["patch_size"]
    seed = seed + 1000 * number  # other batches than in the stages before
    seen: list[Tensor] = []  # the pictures of this step at full size, for a teacher

    def look(rows: Tensor, draw: Tensor) -> Tensor:
        seen[:] = [augment(world.pairs.images[rows].to(device), setting["image_size"], draw, MILD)]
        return resize(seen[0], part["size"])

    def say(rows: Tensor, draw: Tensor, step: int) -> Tensor:
        if part["text_masking"] != "syntax":
            ids, priority = world.tokens.pick(rows, draw, world.first), None
        else:
            ids, priority = world.tokens.pick_with_priority(rows, draw, world.first)
        if not part["text_tokens"]:
            return ids
        uniform = torch.rand(ids.shape, generator=step_generator(seed, 8, step))
        return mask_text(ids, part["text_tokens"], part["text_masking"], uniform, priority)

    def features_of(model: CLIP, images: Tensor, ids: Tensor, step: int) -> tuple[Tensor, Tensor]:
        draw = torch.rand(len(ids), side**2, generator=step_generator(seed, 7, step))
        places = mask_image(draw, side, part["keep"], part["masking"])
        with short():
            return model(images, ids, None if places is None else places.to(device))[:2]

    of_stage = {**setting, "steps": part["steps"]}
    of_stage |= {key: setting[key] * part["rate"] for key in ("lr", "muon_lr")}
    extra = (lambda features, ids: imitate(features, seen[0], ids)) if imitate else None
    began = time.perf_counter()
    curves = fit(model, look, of_stage, seed, say, features_of=features_of, extra_loss=extra, pairs=world.pairs)
    return {**curves, "seconds": time.perf_counter() - began}


def train_stages(
    model: CLIP, world: World, setting: dict, seed: int, measure: Callable[[CLIP, int], dict], imitate=None
) -> dict:
    """Train all stages and measure; stages before the last are read from runs/cache/ where a run has left them.

    measure(model, size) -> numbers, at the last stage's size. Returns them, what `fit` returns of the last stage,
    `seconds_trained` of all, and of the moment before the last stage: `before_...`, measured at the size of the one
    that had just ended, and, where that is smaller, `unadapted_...`, measured at the full size.
    """
    *before, last = setting["stages"]
    spent, earlier = 0.0, {}
    for number in range(len(before)):
        earlier = kept_stage(model, world, setting, number, seed, measure, imitate)
        spent += earlier.pop("seconds")
    curves = train_stage(model, world, setting, len(before), seed, imitate)
    spent += curves.pop("seconds")
    return {**curves, **earlier, **measure(model, last["size"]), "seconds_trained": spent}


def kept_stage(
    model: CLIP, world: World, setting: dict, number: int, seed: int, measure: Callable[[CLIP, int], dict], imitate=None
) -> dict[str, float]:
    """Train one stage and measure, or read both from runs/cache/: `seconds`, `before_...` and `unadapted_...`."""
    part = setting["stages"][number]

    def compute() -> dict[str, Tensor]:
        numbers = {"seconds": train_stage(model, world, setting, number, seed, imitate)["seconds"]}
        sizes = {"before": part["size"]}
        if part["size"] != setting["image_size"]:
            sizes["unadapted"] = setting["image_size"]
        for when, size in sizes.items():
            numbers |= {f"{when}_{key}": value for key, value in measure(model, size).items()}
        return model.state_dict() | {f"_{k}": torch.tensor(v, dtype=torch.float64) for k, v in numbers.items()}

    about = {**setting, "stages": setting["stages"][: number + 1]}
    about = {key: value for key, value in about.items() if value != TOKENS[key]}
    tensors = kept("stages", [VERSION, world.name, json.dumps(about, sort_keys=True), seed], compute)
    numbers = {key[1:]: tensors.pop(key).item() for key in list(tensors) if key[0] == "_"}
    model.load_state_dict(tensors)
    return numbers


def measure_on_emoji(model: CLIP, image_size: int) -> dict[str, float]:
    """What `evaluate` says of the emoji at a size, with all patches and words."""
    with short():
        return evaluate(model, {split: plain(emoji_pairs(split, 32).images, image_size) for split in TEST_SPLITS})


def imitation(world: World, setting: dict, seed: int) -> Callable | None:
    """What is added to the loss so that the image tower imitates a trained one (`teacher`); None for nothing.

    `features`: one minus the cosine of the image features, the squared distance of CLIP-KD's feature mimicry up to a
    factor. `similarity`: Kullback-Leibler divergence of the batch's softmax from the teacher's, both ways (affinity
    mimicking, TinyCLIP). Raises ValueError for another way.
    """
    way = setting["imitate"]
    if way == "none":
        return None
    if way not in ("features", "similarity"):
        raise ValueError(f"unknown imitate {way!r}; choose from none, features, similarity")
    about = {**setting, "stages": [setting["teacher"]], "image_width": 64, "teacher": []}
    about |= {key: TOKENS[key] for key in ("imitate", "imitation")}
    teacher = fresh_model(world, about, seed)
    kept_stage(teacher, world, about, 0, seed, measure_on_emoji)
    teacher.eval()

    def imitate(features: tuple, images: Tensor, ids: Tensor) -> Tensor:
        with torch.no_grad(), short():
            image_target, text_target = teacher(images, ids)[:2]  # [B, D]
        if way == "features":
            return setting["imitation"] * (1 - (features[0] * image_target).sum(1)).mean()
        target = teacher.logit_scale.detach().exp() * image_target @ text_target.T  # [B, B]
        logits = features[2].exp() * features[0] @ features[1].T
        both = (F.kl_div(a.log_softmax(1), b.log_softmax(1), reduction="batchmean", log_target=True)
                for a, b in ((logits, target), (logits.T, target.T)))  # fmt: skip
        return setting["imitation"] * sum(both) / 2

    return imitate


@run_function(version=VERSION, defaults=TOKENS)
def train_on_fewer_tokens(setting: dict, seed: int) -> dict:
    """A CLIP on emoji, stage after stage, measured with all tokens; see `train_stages`."""
    world = emoji_world(setting["image_size"], setting["captions"], setting["drawings"], seed)
    model = fresh_model(world, setting, seed)
    return train_stages(model, world, setting, seed, measure_on_emoji, imitation(world, setting, seed))
