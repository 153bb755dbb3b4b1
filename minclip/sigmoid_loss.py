"""SigLIP's loss (SigLIP Algorithm 1): for every pair alone, does this caption belong to this image?"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def sigmoid_loss(
    image_features: Tensor, text_features: Tensor, logit_scale: Tensor, logit_bias: Tensor, labels: Tensor | None = None
) -> Tensor:
    """Sum over all B^2 pairs of -log sigmoid(+-logit), divided by B (not by B^2).

    image_features, text_features: `[B, D]`, L2-normalised, pair i in row i of both. logit_scale: scalar,
    the *log* inverse temperature (t'). logit_bias: scalar b, *added*; the paper's displayed equation
    flips its sign, its Algorithm 1 does not. labels: optional, long `[B]`; two pairs of one label are not
    each other's negatives (the same caption twice, say). Returns a scalar in nats.
    """
    logits = logit_scale.exp() * image_features @ text_features.T + logit_bias  # [B, B]
    if labels is not None:  # -log sigmoid(infinity) = 0
        logits = logits.masked_fill((labels[:, None] == labels).fill_diagonal_(False), -torch.inf)
    signs = 2 * torch.eye(len(logits), device=logits.device, dtype=logits.dtype) - 1  # +1 on the diagonal
    return -F.logsigmoid(signs * logits).sum() / len(logits)


def uninformed_sigmoid_loss(batch_size: int) -> float:
    """The loss of the best constant score, sigmoid(b) = 1/B: ln B + (B - 1) ln(B / (B - 1))."""
    if batch_size == 1:
        return 0.0
    return math.log(batch_size) + (batch_size - 1) * math.log(batch_size / (batch_size - 1))
