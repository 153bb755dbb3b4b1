"""A sigmoid loss that balances positives and negatives itself."""

import torch
import torch.nn.functional as F
from torch import Tensor


def balanced_sigmoid_loss(
    image_features: Tensor, text_features: Tensor, logit_scale: Tensor, logit_bias: Tensor | float = 0.0
) -> Tensor:
    """Mean of -log sigmoid(logit) over the B positives plus mean of -log sigmoid(-logit) over the B^2 - B negatives.

    The same as SigLIP's loss (sum / B) with every negative weighted 1 / (B - 1). A model that knows nothing is
    right at logit 0 whatever B is, so that no bias has to say how rare positives are. Features `[B, D]`,
    L2-normalised, B >= 2; logit_scale: the log, t'. Returns a scalar in nats, 2 ln 2 when all logits are 0.
    """
    logits = logit_scale.exp() * image_features @ text_features.T + logit_bias  # [B, B]
    b = len(logits)
    if b < 2:
        raise ValueError("a batch of one pair has no negatives to balance")
    positives = torch.eye(b, dtype=torch.bool, device=logits.device)
    log_right = F.logsigmoid(torch.where(positives, logits, -logits))  # [B, B]
    negatives = log_right.masked_fill(positives, 0).sum() / (b * (b - 1))
    return -(log_right.diagonal().mean() + negatives)
