"""Robustness to natural shifts: models that learned from the benchmark artist, and models that never did.

Accuracy on the benchmark's test concepts against accuracy on the same concepts drawn by others (CLIP section 3.3).
Models: zero-shot; a linear probe on the CLIP's features; the CLIP tuned end to end, and averaged with itself before
(WiSE-FT); ResNets trained from scratch on the benchmark's labelled drawings, in three widths and for two budgets; and
one trained on labelled drawings by CLIP's own four artists, which asks whether language or pictures make the
difference.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.emoji import IMAGE_SIZE, compute_device, tokenised
from experiments.few_shot import interpolate_weights
from experiments.probe import linear_probe
from experiments.supervised import train_classifier
from experiments.sweep import run_function
from experiments.transfer import (
    BENCHMARK,
    CLIPS,
    FAR,
    NEAR,
    Split,
    exam,
    pretrained_clip,
    pretraining_pairs,
    subgroups,
    tower_features,
)
from minclip.clip import CLIP
from minclip.data import Augmentation, BatchOrder, Pairs, augment, plain, step_generator
from minclip.zero_shot import top_k_accuracy, zero_shot_weights

ARTISTS = (BENCHMARK, NEAR, FAR)  # the first is what supervised models and probes learn from
MIXES = (0.0, 0.25, 0.5, 0.75, 1.0)
SUPERVISED = [(width, steps) for width in (8, 16, 32) for steps in (60, 240)]
ADAPTED = {
    **CLIPS,
    "tune_steps": 100,
    "tune_lr": 1e-3,
    "supervised_lr": 3e-3,
    "own_steps": 240,  # of the ResNet on the four artists' labels
    "whole": True,  # False: zero-shot and the probe alone
}


@run_function(version=1, defaults=ADAPTED)
def measure_adaptation(setting: dict, seed: int) -> dict:
    """Accuracy by artist, `<model>_<artist>`, of: zero, probe, wise_<percent>, supervised_<width>_<steps>, own.

    wise_100 is tuned end to end, the others averages of that with zero-shot; own has learned CLIP's artists by labels.

    Tests are the benchmark's test concepts, by each artist that drew them; `probe_C` is the strength that was chosen.
    """
    model, split = pretrained_clip(setting, seed), subgroups(seed)
    tests = {artist: exam(artist, split.concepts["test"], split.labels["test"]) for artist in ARTISTS}
    train, validation = (exam(BENCHMARK, split.concepts[p], split.labels[p]) for p in ("train", "validation"))
    weights = zero_shot_weights(model, tokenised()[0], split.names)  # [C, D]
    features = {key: (tower_features(model, x), y) for key, (x, y) in
                {"train": train, "validation": validation, **tests}.items()}  # fmt: skip
    probe = linear_probe(features.pop("train"), features.pop("validation"), features)
    result = {f"probe_{name}": value for name, value in probe.items()}

    named = Named(model, weights)
    result |= measured("zero", named, tests)
    if not setting["whole"]:
        return result
    both = tuple(torch.cat(parts) for parts in zip(train, validation))  # as the probe is fitted in the end
    before = {name: x.clone() for name, x in named.state_dict().items()}
    tune(named, *both, setting, seed)
    after = {name: x.clone() for name, x in named.state_dict().items()}
    for mix in MIXES:
        named.load_state_dict(interpolate_weights(before, after, mix))
        result |= measured(f"wise_{100 * mix:.0f}", named, tests)

    for width, steps in SUPERVISED:
        net = supervised(*both, split, width, steps, setting["supervised_lr"], seed)
        result |= measured(f"supervised_{width}_{steps}", net, tests)
    own = supervised(*own_drawings(split), split, setting["image_width"], setting["own_steps"],
                     setting["supervised_lr"], seed)  # fmt: skip
    return result | measured("own", own, tests)


class Named(nn.Module):
    """A CLIP's image tower with class weights: logits `[N, C]`; before any training it is zero-shot."""

    def __init__(self, model: CLIP, weights: Tensor) -> None:
        super().__init__()
        self.model, self.weights = model, nn.Parameter(weights.clone())
        self.scale = model.logit_scale.exp().item()

    def forward(self, images: Tensor) -> Tensor:
        """Pictures `[N, 3, S, S]` in [-1, 1] -> logits `[N, C]`."""
        return self.scale * self.model.encode_image(images) @ self.weights.T


def tune(named: Named, images: Tensor, labels: Tensor, setting: dict, seed: int) -> None:
    """Train tower and class weights end to end, from zero-shot, on augmented pictures; batch statistics stay."""
    tower = [*named.model.image_tower.parameters(), *named.model.image_projection.parameters()]
    optimizer = torch.optim.AdamW([*tower, named.weights], lr=setting["tune_lr"], weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, setting["tune_steps"])
    order = BatchOrder(torch.arange(len(images)), 128, seed)
    named.eval()  # the averages of 128 pictures would be others than those of pre-training
    for step in range(setting["tune_steps"]):
        rows = order.indices(step)
        draw = torch.rand(len(rows), 16, generator=step_generator(seed, 15, step), dtype=torch.float64)
        x = augment(images[rows].to(compute_device()), IMAGE_SIZE, draw, Augmentation())
        optimizer.zero_grad()
        F.cross_entropy(named(x), labels[rows].to(compute_device())).backward()
        optimizer.step()
        schedule.step()


def supervised(images: Tensor, labels: Tensor, split: Split, width: int, steps: int, lr: float, seed: int) -> nn.Module:
    """A ResNet from scratch that learns the classes of `split` from labelled pictures."""
    captions = [[split.classes[y]] for y in labels.tolist()]
    pairs = Pairs(images, captions, labels, split.classes, labels)
    return train_classifier(pairs, IMAGE_SIZE, width, steps, 128, lr, seed=seed, device=compute_device()).eval()


def own_drawings(split: Split) -> tuple[Tensor, Tensor]:
    """All that CLIP's four artists drew of the benchmark's concepts, the test's included, with their classes."""
    pairs = pretraining_pairs()
    kind = {c: y for part in split.concepts for c, y in zip(split.concepts[part].tolist(), split.labels[part].tolist())}
    rows = [row for row, concept in enumerate(pairs.labels.tolist()) if concept in kind]
    return pairs.images[rows], torch.tensor([kind[c] for c in pairs.labels[rows].tolist()])


@torch.no_grad()
def measured(name: str, net: nn.Module, tests: dict[str, tuple[Tensor, Tensor]]) -> dict[str, float]:
    """Accuracy of a classifier of pictures on each test."""
    scores = {artist: net(plain(x, IMAGE_SIZE).to(compute_device())).cpu() for artist, (x, _) in tests.items()}
    return {f"{name}_{artist}": top_k_accuracy(scores[artist], tests[artist][1], 1) for artist in tests}


# Effective robustness (Taori et al. 2020; CLIP section 3.3)


def logit(p: float) -> float:
    """log(p / (1 - p)), of shares kept within 0.1 % and 99.9 %."""
    p = min(max(p, 0.001), 0.999)
    return math.log(p / (1 - p))


def baseline(points: list[tuple[float, float]]) -> tuple[float, float]:
    """Intercept and slope of the straight line through (accuracy, accuracy under shift) on logit axes."""
    x, y = torch.tensor([[logit(a), logit(b)] for a, b in points], dtype=torch.float64).T
    slope = ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()
    return float(y.mean() - slope * x.mean()), float(slope)


def effective(point: tuple[float, float], line: tuple[float, float]) -> float:
    """How far accuracy under shift is above what the line says for a model of this accuracy without shift."""
    return point[1] - 1 / (1 + math.exp(-(line[0] + line[1] * logit(point[0]))))
