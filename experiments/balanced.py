"""A sigmoid loss that balances positives and negatives itself, and the run that compares it with the usual one."""

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.common import SCRATCH, TEST_SPLITS, bias_of, evaluate
from experiments.open_fit import TRAINING, as_they_are, augmented, fit_open, scratch_model, usual_loss
from minclip.clip import CLIP
from minclip.sweep import run_function

DEFAULTS = {key: SCRATCH[key] for key in (*TRAINING, "init_logit_scale", "init_logit_bias", "bias")}
DEFAULTS |= {key: SCRATCH[key] for key in ("embed_dim", "text_width", "image_width")} | {"balanced": False}


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


def balanced_loss_of(images: Tensor, texts: Tensor, model: CLIP, setting: dict) -> Tensor:
    """The balanced loss of features `[B, D]`; with `bias` "none", the bias is 0 and does not learn."""
    return balanced_sigmoid_loss(images, texts, model.logit_scale, bias_of(model, setting))


@run_function(version=1, defaults=DEFAULTS)
def train_balanced(setting: dict, seed: int) -> dict:
    """SigLIP in small, from scratch, as `common.train_from_scratch`; `balanced` exchanges the loss.

    Returns what `fit_open` and `evaluate` return. Losses of the two kinds cannot be compared, accuracies can.
    """
    model = scratch_model(setting, seed)
    curves = fit_open(model, augmented, setting, seed, loss_of=balanced_loss_of if setting["balanced"] else usual_loss)
    return {**curves, **evaluate(model, as_they_are(TEST_SPLITS))}
