"""Captions that occur more than once in a batch: the pairs that have them, and losses that call them all right."""

from dataclasses import replace
from statistics import mean

import torch.nn.functional as F
from torch import Tensor

from experiments.curation import batch_order
from experiments.emoji import CONTEXT_LENGTH, emoji, tokenised
from minclip.data import Pairs
from minclip.tokenizer import CaptionTokens


def multi_positive_loss(
    image_features: Tensor, text_features: Tensor, logit_scale: Tensor, logit_bias: Tensor | None, labels: Tensor
) -> Tensor:
    """`softmax_loss`, or with a bias `sigmoid_loss`, to which every caption of a picture's label `[B]` is right.

    The softmax's target is spread evenly over them (UniCL, 2204.03610; SupCon's L_out, 2004.11362); the sigmoid has a
    +1 for each (still divided by B). Returns a scalar in nats. When pairs of one label have the very same text
    features, the softmax version is `softmax_loss` itself: a picture's right captions have one logit, whichever of
    them is the target, and equal captions have equal rows, whose targets only change places.
    """
    logits = logit_scale.exp() * image_features @ text_features.T  # [B, B]
    right = (labels[:, None] == labels).to(logits.dtype)  # [B, B]
    if logit_bias is not None:
        return -F.logsigmoid((2 * right - 1) * (logits + logit_bias)).sum() / len(logits)
    targets = right / right.sum(1, keepdim=True)
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2


def without_tones() -> dict:
    """What `fit` needs to learn from names that leave out skin tones, so that a toned picture says as the plain one.

    `pairs`: the training's, whose labels are those names; `captions`: their ids.
    """
    train = emoji("train")
    names = train.metadata["base_name"]
    tokens = CaptionTokens([[name] for name in names], tokenised()[0], CONTEXT_LENGTH)
    pairs = replace(train, labels=train.groups, class_names=list(dict.fromkeys(names)))
    return {"pairs": pairs, "captions": lambda rows, draw, step: tokens.pick(rows, draw, 1.0)}


def twins(labels: Tensor) -> Tensor:
    """Which of the labels `[B]` occur more than once: bool `[B]`."""
    _, place, counts = labels.unique(return_inverse=True, return_counts=True)
    return counts[place] > 1


def share_of_twins(pairs: Pairs, setting: dict, seed: int) -> float:
    """The share of a run's pictures that have another one with their caption in the batch."""
    order = batch_order(pairs, setting, seed)
    return mean(twins(pairs.labels[order.indices(step)]).double().mean().item() for step in range(setting["steps"]))
