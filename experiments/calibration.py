"""Scores as probabilities: "is this caption right?", and how often it is when the model says so."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.common import SCRATCH, TRAINING, scratch_model
from experiments.emoji import as_they_are, augmented, compute_device, emoji, names_without_tones, tokenised
from experiments.fit import fit
from experiments.sweep import run_function
from minclip.clip import CLIP, LOSSES
from minclip.data import step_generator
from minclip.zero_shot import embed_texts

SPLITS = ("in_distribution", "fxemoji", "openmoji")  # the training artists, and two that no training saw
BINS = 10

DEFAULTS = {key: SCRATCH[key] for key in (*TRAINING, "loss", "init_logit_bias", "embed_dim", "text_width")}
DEFAULTS |= {"image_width": SCRATCH["image_width"]}


# Reliability


def reliability(probability: Tensor, right: Tensor, weight: Tensor | None = None, bins: int = BINS) -> Tensor:
    """Equal bins of the probability, `[3, bins]`: its mean, the share that is right, and the share of all pairs.

    probability: in [0, 1]; right: bool; weight: how much each counts (default: all the same); all of one shape.
    Empty bins have NaN means and no share. Raises ValueError for a probability outside [0, 1].
    """
    if not ((probability >= 0) & (probability <= 1)).all():
        raise ValueError("probabilities lie in [0, 1], and none is NaN")
    p, hit = probability.flatten().double(), right.flatten().double()
    w = torch.ones_like(p) if weight is None else weight.expand_as(probability).flatten().double()
    place = (p * bins).long().clamp(max=bins - 1)  # 1 belongs to the last bin
    total = lambda x: torch.zeros(bins, dtype=torch.float64).index_add(0, place, x)  # noqa: E731
    mass = total(w)  # [bins]
    return torch.stack([total(w * p) / mass, total(w * hit) / mass, mass / mass.sum()])


def expected_calibration_error(bins: Tensor) -> float:
    """Mean distance of probability and share that is right, over what `reliability` returned (Guo et al. 2017)."""
    probability, right, share = bins
    return (share * (probability - right).abs()).nan_to_num().sum().item()


# What a model says of pairs


def log_odds(logits: Tensor, loss: str) -> Tensor:
    """log p / (1 - p) of "caption j is right for picture i", `[N, C]`, from logits `[N, C]` in float64.

    sigmoid: the logit is just that, whatever the other captions. softmax: p is the row's softmax, so the odds
    are against the C - 1 other captions, which have to be there: l_j - log sum over k != j of exp l_k.
    """
    if loss == "sigmoid":
        return logits
    log_p = F.log_softmax(logits, 1)
    return log_p - torch.log(-torch.expm1(log_p))


def candidates(labels: Tensor, classes: int, count: int, generator: torch.Generator) -> Tensor:
    """For each label `[N]` itself, then count - 1 different others drawn from `classes`: long `[N, count]`."""
    draw = torch.rand(len(labels), classes, generator=generator)
    draw[torch.arange(len(labels)), labels] = 2.0  # its own comes first
    return draw.topk(count, dim=1).indices


@torch.no_grad()
def calibrate(model: CLIP, pictures: dict[str, Tensor], setting: dict, seed: int) -> dict:
    """How far the model's probabilities can be trusted, split by split; fractions, and the bins of `reliability`.

    Each picture meets its own name and B - 1 others, drawn from the names without skin tones: the odds at which
    the model was trained, 1 to B - 1. Three readings of the log-odds:

    pairs_*: any one pair, when right and wrong captions are as frequent. By Bayes the log-odds are then higher by
    ln(B - 1); every pair is used, wrong ones with weight 1 / (B - 1).
    raw_*: the same question, but the probability taken as it comes out of the model, without that shift.
    best_*: the best of the B captions, at the odds of training: no shift. The softmax's own question; a sigmoid's
    score of one pair does not know that all other captions scored lower, so that even exact odds err a little here.
    """
    model.eval()
    device, result = compute_device(), {}
    names = emoji("train").class_names
    plain_names = names_without_tones()
    text = embed_texts(model, tokenised()[0], [names[i] for i in plain_names.tolist()])  # [C, D]
    bias = 0.0 if model.logit_bias is None else model.logit_bias
    for number, (split, images) in enumerate(pictures.items()):
        known = torch.isin(emoji(split).labels, plain_names)
        targets = torch.searchsorted(plain_names, emoji(split).labels[known])  # [N]
        features = torch.cat([model.encode_image(part.to(device)) for part in images[known].split(512)])
        logits = (model.logit_scale.exp() * features @ text.T + bias).cpu().double()  # [N, C]
        count = min(setting["batch_size"], len(plain_names))
        chosen = candidates(targets, len(plain_names), count, step_generator(seed, 12, number))
        odds = log_odds(logits.gather(1, chosen), setting["loss"])  # [N, B]; the right caption first
        right = torch.zeros_like(odds, dtype=torch.bool)
        right[:, 0] = True
        even = torch.full_like(odds, 1 / (count - 1)).masked_fill(right, 1)  # right and wrong captions weigh the same
        best = odds.argmax(1, keepdim=True)  # [N, 1]
        readings = {
            "pairs": reliability((odds + math.log(count - 1)).sigmoid(), right, even),
            "raw": reliability(odds.sigmoid(), right, even),
            "best": reliability(odds.gather(1, best).sigmoid(), right.gather(1, best)),
        }
        for reading, bins in readings.items():
            result[f"{reading}_{split}"] = expected_calibration_error(bins)
            for key, row in zip(("probability", "right", "share"), bins.tolist()):
                result[f"bins_{reading}_{split}_{key}"] = row
        result[f"accuracy_{split}"] = (best == 0).double().mean().item()
        result[f"confidence_{split}"] = odds.gather(1, best).sigmoid().mean().item()
    return result


@run_function(version=1, defaults=DEFAULTS)
def train_and_calibrate(setting: dict, seed: int) -> dict:
    """CLIP or SigLIP in small, from scratch as in `common`; returns what `fit` and `calibrate` return.

    Raises ValueError for the balanced loss, whose logits are the log-odds of another question.
    """
    if setting["loss"] not in LOSSES:
        raise ValueError(f"no calibration of the loss {setting['loss']!r}; choose from {', '.join(LOSSES)}")
    setting = {**SCRATCH, **setting}
    model = scratch_model(setting, seed)
    curves = fit(model, augmented, setting, seed)
    return {**curves, **calibrate(model, as_they_are(SPLITS), setting, seed)}
