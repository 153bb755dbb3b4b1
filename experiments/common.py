"""The runs that claims share: a text tower on a locked image tower, and both towers from scratch, on emoji."""

import math

import torch
from torch import Tensor

from experiments.curation import accuracy_by_frequency
from experiments.duplicates import share_of_twins, without_tones
from experiments.emoji import (
    IMAGE_SIZE,
    TEST_SPLITS,
    as_they_are,
    augmented,
    compute_device,
    locked_features,
    pretrained_tower,
    tower_features,
)
from experiments.fit import fit, make_model
from experiments.scoring import evaluate, few_shot
from experiments.sweep import run_function
from minclip.clip import CLIP
from minclip.lit import CachedImages, lock
from minclip.resnet import ResNet

IMAGE_TOWERS = ("scratch", "tuned", "locked")

SHARED = {
    "loss": "sigmoid",  # or softmax, balanced (`balanced_sigmoid_loss`)
    "batch_size": 256,
    "steps": 400,
    "lr": 3e-3,
    "weight_decay": 0.2,
    "beta2": 0.95,
    "warmup": 0.1,  # share of the steps
    "scalar_lr_factor": 10.0,  # logit_scale and logit_bias learn so much faster than the towers
    "init_logit_scale": None,  # the log, t'; None for the loss's own: log 10; softmax: log(1 / 0.07)
    "init_logit_bias": -10.0,
    "bias": "learned",  # or constant, relative (logits t (x . y - b_rel), the same at the start), none
    "embed_dim": 128,
    "text_width": 64,
    "text_layers": 1,
    "distinct": True,  # no two pictures of a concept in a batch; False draws pairs whatever they say
    "noise_image": 0.0,  # SigLIP 4.8: share of pictures that are replaced by noise,
    "noise_text": 0.0,  # of captions that are replaced by random tokens,
    "noise_alignment": 0.0,  # and of pairs that exchange their captions
    "muon_lr": 0.0,  # the layers' weights move by Muon at that rate (`make_optimizer`); 0: AdamW, as in the papers
    "tower_decay": 1.0,  # the image tower decays so many times as fast as the rest; 0: not at all
    "negatives": "all",  # that the sigmoid loss uses; or random, hard, easy: so many for each positive:
    "negative_ratio": 16.0,
    "mask_duplicates": False,  # two pictures of one name are not each other's negatives
    "positives": "own",  # a picture's right captions: its own; or all of its name (`experiments.duplicates`)
    "scale": "learned",  # or fixed, unclipped (learned, but the softmax's may pass 100)
    "projection_head": "linear",  # as CLIP's; or nonlinear (Linear, ReLU, Linear), as ConVIRT's
    "skew": 0.0,  # concepts are drawn by rank^-skew (`experiments.curation`), 0: all as often; and at most as often
    "cap": 1,  # as the concept of this rank
}
LOCKED = {**SHARED, "tower_width": 32, "tower_steps": 400, "tower_seed": 0, "projection": True}
SCRATCH = {
    **SHARED,
    "image_width": 16,
    "image_tower": "scratch",  # or tuned, locked: first trained on the training names, like the locked one above,
    "tower_steps": 400,  # so many steps
    "tower_seed": 0,
    "few_shot": False,  # measure the image tower alone too
    "tones": True,  # captions say skin tones
}

# What runs of other files, which have keys of their own, take over.
TRAINING = ("batch_size", "steps", "lr", "muon_lr", "weight_decay", "beta2", "warmup", "scalar_lr_factor")

# What claims that train from scratch, or on the locked tower, share unless they ask about it: one place to change
# how long and with what. With AdamW 300 steps leave the best settings at 4 to 11 % of 1,914 names; Muon needs half.
MUON_LR = 0.02
SCRATCH_BASE = {"batch_size": 256, "steps": 240, "muon_lr": MUON_LR}
LOCKED_BASE = {"batch_size": 256, "steps": 400, "muon_lr": MUON_LR}


def sigmoid_setting(batch_size: int, extra_bias: float = 0.0) -> dict:
    """The sigmoid loss from the bias at which a model that knows nothing is right on average: -ln(B - 1).

    That is what SigLIP's -10 is at its usual batches (-9.7 at 16 thousand pairs). extra_bias: added to it.
    """
    return {"batch_size": batch_size, "init_logit_bias": round(-math.log(batch_size - 1) + extra_bias, 6)}


# What sweeps do before their processes start: two of them would both train a tower that both need


def prepare_locked(settings: list[dict]) -> None:
    """Compute the features of each locked tower that the settings need, once."""
    for about in sorted({(s["tower_width"], s["tower_steps"], s["tower_seed"]) for s in settings}):
        locked_features(*about)


def prepare_towers(settings: list[dict]) -> None:
    """Train each tower that the settings tune, and compute the features of each that they lock, once."""
    keys = ("image_tower", "image_width", "tower_steps", "tower_seed")
    for image_tower, *about in sorted({tuple(s[key] for key in keys) for s in settings}):
        if image_tower == "locked":
            locked_features(*about)
        elif image_tower == "tuned":
            pretrained_tower(*about)


# Runs


@run_function(version=1, defaults=LOCKED, prepare=prepare_locked)
def train_text_on_locked(setting: dict, seed: int) -> dict:
    """SigLiT in small: a text tower from scratch against the cached features of a locked image tower.

    Returns what `fit` and `evaluate` return.
    """
    features = locked_features(setting["tower_width"], setting["tower_steps"], setting["tower_seed"])
    return train_on_features(features, setting["projection"], setting, seed)


@run_function(version=1, defaults=SCRATCH, prepare=prepare_towers)
def train_from_scratch(setting: dict, seed: int) -> dict:
    """SigLIP in small: a ResNet and a text tower, both from scratch, on augmented pictures.

    Or the same ResNet first trained on names, and `tuned`, or `locked` (then as `train_text_on_locked`). Returns
    what `fit` and `evaluate` return, and with `few_shot` what that returns; when concepts are skewed, also what
    `accuracy_by_frequency` returns; without tones, `twins` (`share_of_twins`).
    """
    if setting["image_tower"] not in IMAGE_TOWERS:
        raise ValueError(f"unknown image_tower {setting['image_tower']!r}; choose from {', '.join(IMAGE_TOWERS)}")
    trained = setting["image_width"], setting["tower_steps"], setting["tower_seed"]
    said = {} if setting["tones"] else without_tones()
    if setting["image_tower"] == "locked":
        features = locked_features(*trained)
        result = train_on_features(features, True, setting, seed, **said)
        return {**result, **({"few_shot": few_shot(features)} if setting["few_shot"] else {})}
    if setting["image_tower"] == "scratch":
        model = scratch_model(setting, seed)
    else:
        model = make_model(pretrained_tower(*trained), setting, seed)
    result = fit(model, augmented, setting, seed, **said)
    result |= evaluate(model, as_they_are(TEST_SPLITS))
    result |= accuracy_by_frequency(model, seed) if setting["skew"] else {}
    result |= {} if setting["tones"] else {"twins": share_of_twins(said["pairs"], setting, seed)}
    if setting["few_shot"]:
        result["few_shot"] = few_shot(tower_features(model.image_tower, ("train", "in_distribution")))
    return result


def train_on_features(features: dict[str, Tensor], projection: bool, setting: dict, seed: int, **more) -> dict:
    """A text tower, and with `projection` a map of the features `[N, D]`, learn; nothing else does. more: of `fit`."""
    train = features["train"].to(compute_device())
    model = make_model(CachedImages(train.shape[1]), setting, seed)
    lock(model, projection)
    curves = fit(model, lambda rows, _: train[rows], setting, seed, **more)
    return {**curves, **evaluate(model, {split: features[split] for split in TEST_SPLITS})}


def scratch_model(setting: dict, seed: int) -> CLIP:
    """Both towers with fresh weights; the setting has every key of SCRATCH."""
    torch.manual_seed(seed)
    return make_model(ResNet(IMAGE_SIZE, width=setting["image_width"]), setting, seed)
