"""Few shots: k labelled pictures a class on top of the names (CLIP section 3.1.5), without forgetting the names.

Four ways from the same features `[N, D]` and zero-shot weights `[C, D]`: a linear probe of the shots alone, a probe
held near the zero-shot weights, Tip-Adapter, and WiSE-FT's average of a model before and after fine-tuning.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from minclip.lit import check_same_shapes
from minclip.zero_shot import check_labels, check_same_width, classify


def draw_shots(labels: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """Rows of k random pictures of each class in `labels` `[N]`: long `[C * k]`, sorted by class.

    A generator of the same seed draws the same pictures for a smaller k, and more for a larger one. Raises
    ValueError when k is under 1 or larger than a class, naming the class and its size.
    """
    check_labels(len(labels), labels=labels)
    shuffled = torch.randperm(len(labels), generator=generator)
    order = shuffled[labels[shuffled].argsort(stable=True)]  # [N], by class, random inside a class
    classes, counts = labels[order].unique_consecutive(return_counts=True)  # [C]
    if not 1 <= k <= counts.min():
        smallest = counts.argmin()
        raise ValueError(f"k {k} is not within 1 to {counts[smallest]}, the pictures of class {classes[smallest]}")
    return order[(counts.cumsum(0) - counts)[:, None] + torch.arange(k)].flatten()


def fit_linear(
    features: Tensor, labels: Tensor, n_classes: int, l2: float, start: Tensor | None = None, scale: float = 1.0
) -> Tensor:
    """The weights W `[C, D]` with the smallest mean cross-entropy of `scale * features @ W.T` + l2 / 2 ||W - start||^2.

    No bias. start: zeros (default) for the plain probe, the zero-shot weights for the text-initialised one, which
    turns back into zero-shot where l2 is large. The problem is convex, so `start` matters through the penalty only.
    Solved in float64 by L-BFGS; returned in the features' precision. Raises ValueError for l2 that is not positive.
    """
    check_labels(len(features), n_classes, labels=labels)
    x = features.detach().double()  # [N, D]
    start = x.new_zeros(n_classes, x.shape[1]) if start is None else start.detach().to(x)
    check_same_width(features=features, start=start)
    if len(start) != n_classes or l2 <= 0:
        raise ValueError(f"start must have {n_classes} rows, one a class, got {len(start)}; l2 {l2} must be positive")
    W = start.clone().requires_grad_()
    lbfgs = torch.optim.LBFGS([W], max_iter=999, tolerance_grad=1e-8, tolerance_change=0, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        lbfgs.zero_grad()
        value = F.cross_entropy(scale * x @ W.T, labels) + l2 / 2 * (W - start).square().sum()
        value.backward()
        return value

    lbfgs.step(loss)
    return W.detach().to(features.dtype)


def tip_adapter(
    features: Tensor, keys: Tensor, values: Tensor, weights: Tensor, alpha: float, beta: float, scale: float = 100.0
) -> Tensor:
    """Zero-shot logits plus a vote of the shots, `[N, C]` (Tip-Adapter, 2111.03930, without any training).

    keys: features of the shots `[M, D]`; values: their classes, one-hot `[M, C]`; weights: zero-shot `[C, D]`; all
    features L2-normalised. A shot's vote falls with its distance, the faster the larger beta; alpha weighs them.
    """
    check_same_width(features=features, keys=keys)
    if values.shape != (len(keys), len(weights)):
        raise ValueError(f"values {list(values.shape)} must be one-hot, [M, C] = {[len(keys), len(weights)]}")
    votes = torch.exp(-beta * (1 - features @ keys.T)) @ values.to(features.dtype)  # [N, C]
    return scale * classify(features, weights) + alpha * votes


def tune_tip_adapter(
    keys: Tensor, values: Tensor, labels: Tensor, weights: Tensor, alpha: float, beta: float, steps: int = 100,
    lr: float = 1e-3, scale: float = 100.0, features: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Tip-Adapter-F: the keys `[M, D]` learn, by AdamW with a cosine schedule on the cross-entropy of the shots.

    features: what the adapter should name `labels`, `[N, D]`, such as the shots augmented; default: the keys
    themselves. The full batch each step and no randomness. Returns the new keys; they need not have length one.
    """
    features = keys if features is None else features
    check_labels(len(features), len(weights), labels=labels)
    keys = keys.detach().clone().requires_grad_()
    optimizer = torch.optim.AdamW([keys], lr=lr, eps=1e-4)  # eps as in the authors' code
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(tip_adapter(features, keys, values, weights, alpha, beta, scale), labels).backward()
        optimizer.step()
        schedule.step()
    return keys.detach()


def interpolate_weights(zero_shot: dict[str, Tensor], tuned: dict[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """(1 - alpha) zero_shot + alpha tuned, for every tensor of two state dicts (WiSE-FT, 2109.01903).

    Whole numbers, such as how many batches a normalisation has seen, are taken from `tuned`. Raises ValueError for
    alpha outside [0, 1], and when the state dicts are not of one architecture, naming what differs.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha {alpha} is not within 0 (zero-shot) to 1 (tuned)")
    check_same_shapes(zero_shot, tuned)
    return tuned | {name: torch.lerp(zero_shot[name], t, alpha) for name, t in tuned.items() if t.is_floating_point()}
