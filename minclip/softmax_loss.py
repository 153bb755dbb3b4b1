"""CLIP's loss (CLIP Figure 3): classify which caption belongs to which image, and the other way round."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def softmax_loss(
    image_features: Tensor, text_features: Tensor, logit_scale: Tensor, labels: Tensor | None = None
) -> Tensor:
    """Mean of the two cross-entropies over the rows and the columns of the similarity matrix.

    image_features, text_features: `[B, D]`, L2-normalised, pair i in row i of both. logit_scale: scalar,
    the *log* inverse temperature (CLIP Figure 3's t). labels: optional, long `[B]`; two pairs of one label
    are not each other's negatives (the same caption twice, say). Returns a scalar in nats.
    """
    logits = logit_scale.exp() * image_features @ text_features.T  # [B, B]
    if labels is not None:  # what is left out of the sum of exponentials competes with nobody
        logits = logits.masked_fill((labels[:, None] == labels).fill_diagonal_(False), -torch.inf)
    targets = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2


def uninformed_softmax_loss(batch_size: int) -> float:
    """The loss of a model that gives every pair the same score: ln B. A run that stays here learns nothing."""
    return math.log(batch_size)
