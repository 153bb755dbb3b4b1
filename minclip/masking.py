"""Fewer tokens: which patches of a picture and which words of a caption the towers see (CLIPA section 3).

Training with a fraction of the tokens costs a fraction of the time; nothing is masked at evaluation. What is
dropped is dropped before the towers, which never compute it. Every choice is a function of uniform numbers `draw`,
one row a sample, so that it depends on the seed and the step and not on how a batch is split.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from minclip.tokenizer import END_ID, PAD_ID, START_ID

IMAGE_STRATEGIES = ("random", "grid", "block")
TEXT_STRATEGIES = ("truncate", "random", "block", "syntax")


def image_token_budget(side: int, keep: float, strategy: str = "random") -> int:
    """How many of the `side` x `side` patches `keep` leaves; keep in (0, 1], 1 is all of them.

    *random* leaves any number, the nearest to keep. *grid* leaves one of each window: 1, 1/4, 1/9, ... for windows
    that divide the side. *block* leaves a square. Raises ValueError for a keep that is out of range or that the
    strategy's geometry does not allow, naming those that it does.
    """
    check_strategy(strategy, IMAGE_STRATEGIES)
    if not 0 < keep <= 1:
        raise ValueError(f"keep {keep} is not in (0, 1]; choose the share of the tokens that stays")
    tokens = round(keep * side**2)
    if strategy == "random":
        return max(1, tokens)
    sides = range(1, side + 1) if strategy == "block" else [n for n in range(1, side + 1) if side % n == 0]
    if tokens not in [n**2 for n in sides]:
        allowed = ", ".join(f"{n**2 / side**2:.4g}" for n in sides)
        raise ValueError(f"{strategy} cannot keep {keep} of {side} x {side} patches; choose keep from {allowed}")
    return tokens


def mask_image(draw: Tensor, side: int, keep: float, strategy: str = "random") -> Tensor | None:
    """The places of the patches that stay, long `[B, K]`, ascending; None when all do.

    draw: uniform in [0, 1), `[B, side^2]`. *random*: any K (FLIP section 3). *grid*: one patch of each window, the
    same place in every window of a picture. *block*: one square. K and errors: see `image_token_budget`. The
    fourth strategy of the paper, *resize*, makes the picture smaller instead (`resize`).
    """
    tokens = image_token_budget(side, keep, strategy)
    if tokens == side**2:
        return None
    if strategy == "random":
        return draw.argsort(1)[:, :tokens].sort(1).values  # [B, K]
    n = math.isqrt(tokens)  # of each row and column
    axis = torch.arange(n, device=draw.device)
    places, step = (side // n, side // n) if strategy == "grid" else (side - n + 1, 1)
    first = (draw[:, :2] * places).long()[:, :, None] + step * axis  # [B, 2, n]: rows and columns
    return (first[:, 0, :, None] * side + first[:, 1, None, :]).flatten(1)  # [B, n^2]


def resize(images: Tensor, size: int) -> Tensor:
    """Pictures `[B, 3, H, W]` -> `[B, 3, size, size]`, anti-aliased: fewer patches of the same size.

    The paper's fourth strategy: nothing is cut away, all is coarser. At the picture's own size, the same tensor.
    """
    if images.shape[-2:] == (size, size):
        return images
    return F.interpolate(images, [size, size], mode="bilinear", antialias=True, align_corners=False)


def mask_text(
    ids: Tensor, budget: int, strategy: str = "truncate", draw: Tensor | None = None, priority: Tensor | None = None
) -> Tensor:
    """Captions `[B, L]` -> `[B, at most budget]`: start, what stays of the content in its order, end, padding.

    budget counts start and end. *truncate*: the first tokens. *random*: any (draw `[B, L]`, uniform in [0, 1)).
    *block*: a run of neighbours (draw). *syntax*: those of the lowest `priority` `[B, L]` (nouns, adjectives, verbs,
    the rest; see `minclip.syntax`), of equals the first. Padding is dropped first: a caption that fits stays whole.
    Raises ValueError for a budget under 3 and when draw or priority is missing.
    """
    check_strategy(strategy, TEXT_STRATEGIES)
    if budget < 3:
        raise ValueError(f"a budget of {budget} tokens leaves no word beside start and end; choose 3 or more")
    needed = {"truncate": "", "random": "draw", "block": "draw", "syntax": "priority"}[strategy]
    if needed and {"draw": draw, "priority": priority}[needed] is None:
        raise ValueError(f"the strategy {strategy} needs {needed}, one number for each token")
    length = ids.shape[1]
    if length <= budget:
        return ids
    place = torch.arange(length, device=ids.device)
    content = (ids != PAD_ID) & (ids != START_ID) & (ids != END_ID)  # [B, L]
    counts, most = content.sum(1, keepdim=True), budget - 2  # [B, 1]
    if strategy == "random":
        order = draw.to(ids.device)
    elif strategy == "block":
        first = 1 + (draw[:, :1].to(ids.device) * ((counts - most).clamp(min=0) + 1)).long()  # [B, 1]
        order = ((place < first) | (place >= first + most)).float()
    else:
        order = priority.to(ids.device).float() if strategy == "syntax" else torch.zeros(ids.shape, device=ids.device)
    order = order.masked_fill(~content, torch.inf)  # [B, L]: what is not content comes last
    kept = order.argsort(dim=1, stable=True)[:, :most].sort(1).values  # [B, most], in the caption's order
    # Where a caption has fewer tokens than the budget, places of start, end and padding were taken, too: they go.
    words = ids.gather(1, kept).masked_fill(~content.gather(1, kept), PAD_ID)
    words = words.gather(1, (words == PAD_ID).int().argsort(dim=1, stable=True))  # padding to the end
    masked = torch.full((len(ids), budget), PAD_ID, device=ids.device)
    masked[:, 0], masked[:, 1:-1] = START_ID, words
    return masked.scatter(1, 1 + counts.clamp(max=most), END_ID)


def check_strategy(strategy: str, known: tuple[str, ...]) -> None:
    """Raise ValueError for an unknown strategy."""
    if strategy not in known:
        raise ValueError(f"unknown strategy {strategy!r}; choose from {', '.join(known)}")
