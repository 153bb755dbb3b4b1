"""Which negatives the sigmoid loss sees (SigLIP section 4.5, Figure 6): some of a batch's pairs are masked out.

Masking chooses after all B^2 logits are there, so it saves no computation: pairs computed stay B^2, pairs used fall.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.balanced import balanced_sigmoid_loss
from experiments.duplicates import multi_positive_loss
from minclip.sigmoid_loss import sigmoid_loss
from minclip.softmax_loss import softmax_loss

KINDS = ("random", "hard", "easy")
# What the balanced loss needs: with fewer negatives or false ones, its two means would balance something else.
PAIRS_AS_THEY_ARE = {"negatives": "all", "mask_duplicates": False, "positives": "own"}
PAIRS_AS_THEY_ARE |= {f"noise_{kind}": 0.0 for kind in ("image", "text", "alignment")}


def used_pairs(
    logits: Tensor, kind: str, ratio: float, labels: Tensor | None = None, generator: torch.Generator | None = None
) -> Tensor:
    """Which of the pairs `[B, B]` the loss uses: every positive, and `ratio` negatives for each, chosen in all rows.

    kind: `hard` keeps the negatives with the highest logits, that is the highest loss, `easy` those with the
    lowest, `random` any (drawn by `generator`, on the CPU). labels: optional, long `[B]`; two pairs of one label
    are no negatives of each other and never used. When fewer negatives are there, all are used. Raises ValueError
    for an unknown kind, or a ratio that is not positive.
    """
    if kind not in KINDS or ratio <= 0:
        raise ValueError(f"negatives {kind!r}, ratio {ratio}: choose from {', '.join(KINDS)}, ratio above 0")
    logits = logits.detach()
    positive = torch.eye(len(logits), dtype=torch.bool, device=logits.device)  # [B, B]
    never = positive if labels is None else labels[:, None] == labels
    if kind == "random":
        score = torch.rand(logits.shape, generator=generator).to(logits.device)
    else:
        score = logits if kind == "hard" else -logits
    score = score.masked_fill(never, -torch.inf).flatten()  # [B B]
    count = min(round(ratio * len(logits)), int((~never).sum()))
    used = positive.flatten()
    used[score.topk(count).indices] = True
    return used.view_as(positive)


def masked_sigmoid_loss(
    image_features: Tensor,
    text_features: Tensor,
    logit_scale: Tensor,
    logit_bias: Tensor,
    kind: str,
    ratio: float,
    labels: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, int]:
    """`sigmoid_loss` over the pairs that `used_pairs` leaves, still divided by B; and how many pairs those are.

    The choice takes no gradient: what is masked neither counts nor pushes.
    """
    logits = logit_scale.exp() * image_features @ text_features.T + logit_bias  # [B, B]
    used = used_pairs(logits, kind, ratio, labels, generator)
    signs = 2 * torch.eye(len(logits), device=logits.device, dtype=logits.dtype) - 1  # +1 on the diagonal
    return -F.logsigmoid((signs * logits)[used]).sum() / len(logits), int(used.sum())


def step_loss(
    image_features: Tensor,
    text_features: Tensor,
    logit_scale: Tensor,
    logit_bias: Tensor | None,
    labels: Tensor,
    setting: dict,
    generator: torch.Generator,
) -> tuple[Tensor, int]:
    """The loss that the setting of a run says, and how many of the B^2 pairs it used.

    labels: the names of the pictures, long `[B]`, for `mask_duplicates` and `positives`. Raises ValueError when the
    softmax, whose pairs are no losses of their own, is asked to use only some, when the balanced loss is, or is given
    noise, and when positives that are not the own ones meet a mask.
    """
    features = image_features, text_features, logit_scale
    if setting["loss"] == "balanced":
        asked = [f"{key} {setting[key]!r}" for key, usual in PAIRS_AS_THEY_ARE.items() if setting[key] != usual]
        if asked:
            raise ValueError(f"the balanced loss uses all pairs, as they are; it cannot have {', '.join(asked)}")
        return balanced_sigmoid_loss(*features, logit_bias), len(labels) ** 2
    if setting["positives"] != "own":
        if setting["positives"] != "all" or setting["mask_duplicates"] or setting["negatives"] != "all":
            raise ValueError(f"positives {setting['positives']!r}: choose own, or all without masking anything")
        return multi_positive_loss(*features, logit_bias, labels), len(labels) ** 2
    masked = labels if setting["mask_duplicates"] else None
    if setting["negatives"] != "all":
        if setting["loss"] != "sigmoid":
            raise ValueError(f"negatives {setting['negatives']!r} are for the sigmoid loss; the softmax uses all")
        how = setting["negatives"], setting["negative_ratio"]
        return masked_sigmoid_loss(*features, logit_bias, *how, masked, generator)
    duplicates = 0 if masked is None else int((labels[:, None] == labels).sum()) - len(labels)
    softmax = setting["loss"] == "softmax"
    loss = softmax_loss(*features, masked) if softmax else sigmoid_loss(*features, logit_bias, masked)
    return loss, len(labels) ** 2 - duplicates
