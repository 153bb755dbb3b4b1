"""Muon: momentum whose matrix has all its singular values made one (Jordan et al. 2024; Liu et al. 2502.16982).

A gradient of a weight matrix is dominated by a few directions; Adam, which scales entry by entry, leaves it
so. Muon replaces the momentum by the orthogonal matrix nearest to it, so that every direction of the layer
moves alike. None of the papers that minclip is about uses it: it is here because the demo learns far more
from it in the same time (README, "Training, timed"); `muon_lr=0` is the papers' AdamW.
"""

import torch
from torch import Tensor

from minclip.sharding import cut_like, whole

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # Jordan's quintic: steep at zero, so that five steps are enough
BLOCK = 128  # rows that are made orthogonal together: the cost grows with the cube of the smaller side


def orthogonalize(matrix: Tensor, steps: int = 5) -> Tensor:
    """The orthogonal matrix near `matrix` `[m, n]`, by Newton-Schulz: singular values become 0.7 to 1.2.

    With the decomposition U S V^T, each step applies a x + b x^3 + c x^5 to every singular value x
    (after a division that brings them under one) by matrix products alone, which a processor does
    fastest, and in bfloat16 where that is faster. Singular values under about 1e-3 of the norm stay
    smaller. A zero matrix stays zero. For `[..., m, n]`, every matrix alone.
    """
    a, b, c = NEWTON_SCHULZ
    x = matrix.mT if matrix.shape[-2] > matrix.shape[-1] else matrix  # the smaller side first: x x^T is small
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)  # the largest singular value is at most the norm
    for _ in range(steps):
        gram = x @ x.mT  # [m, m]
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if matrix.shape[-2] > matrix.shape[-1] else x


class Muon(torch.optim.AdamW):
    """Muon with Nesterov momentum for groups that have a `momentum`; AdamW for the others.

    A group's lr says how far a step moves, relative to an orthogonal matrix; tall matrices move
    sqrt(out / in) times as far, so that outputs change alike. A convolution counts as `[out, in * k * k]`. Of a sharded
    weight the momentum stays sharded; each process gathers the matrix and makes all of it orthogonal.
    """

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """One step. Muon's parameters lose their gradients by it."""
        for group in (group for group in self.param_groups if "momentum" in group):
            for p in (p for p in group["params"] if p.grad is not None):
                if not self.state[p]:  # `step` is unused, but AdamW looks for it when a state is loaded
                    self.state[p] = {"momentum": torch.zeros_like(p), "step": torch.zeros(())}
                momentum = self.state[p]["momentum"]
                momentum.lerp_(p.grad, 1 - group["momentum"])
                update = whole(p.grad.lerp(momentum, group["momentum"])).flatten(1)  # [out, in]
                p.grad = None  # what has no gradient is passed over by AdamW below
                out, fan_in = update.shape
                if min(out, fan_in) > BLOCK and out % BLOCK == 0:
                    update = update.unflatten(0, (-1, BLOCK))  # [out / BLOCK, BLOCK, in]
                if p.dtype == torch.float32:
                    update = update.bfloat16()  # exact enough: the five steps themselves miss one by up to 0.3
                p.mul_(1 - group["lr"] * group["weight_decay"])
                distance = group["lr"] * max(1, out / fan_in) ** 0.5
                p.add_(cut_like(orthogonalize(update).to(p.dtype).view(p.shape), p), alpha=-distance)
        super().step()
