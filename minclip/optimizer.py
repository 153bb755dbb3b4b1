"""AdamW as CLIP uses it (CLIP section 2.5), or Muon; what decays; the learning rate's course."""

import math

import torch
from torch import nn

from minclip.clip import CLIP
from minclip.muon import Muon


def make_optimizer(
    model: CLIP,
    lr: float,
    weight_decay: float = 0.2,
    beta2: float = 0.98,
    scalar_lr_factor: float = 10.0,
    muon_lr: float = 0.0,
) -> torch.optim.AdamW:
    """AdamW without decay on gains, biases and the loss's scalars, which learn `scalar_lr_factor` times faster.

    Adam moves a parameter by about lr a step, whatever its size: at 2e-3, a bias of -10 would move by 1
    in 500 steps. beta2: CLIP uses 0.98 for the ViT and 0.999 for the ResNet, SigLIP and CLIPA 0.95.
    With `muon_lr`, the weights of all linear and convolutional layers move by Muon at that rate and decay
    as before; embeddings, gains and biases stay AdamW's.
    """
    hidden = [layer.weight for layer in model.modules() if muon_lr and isinstance(layer, (nn.Linear, nn.Conv2d))]
    scalars = [p for p in (model.logit_scale, model.logit_bias) if p is not None]
    elsewhere = {id(p) for p in hidden + scalars}
    others = [p for p in model.parameters() if id(p) not in elsewhere]
    groups = [
        {"params": [p for p in others if p.ndim >= 2], "weight_decay": weight_decay, "lr_factor": 1.0},
        {"params": [p for p in others if p.ndim < 2], "weight_decay": 0.0, "lr_factor": 1.0},
        {"params": scalars, "weight_decay": 0.0, "lr_factor": scalar_lr_factor},
    ]
    settings = {"lr": lr, "betas": (0.9, beta2), "eps": 1e-6}
    settings["fused"] = model.logit_scale.device.type in ("cpu", "cuda")
    if not hidden:
        return torch.optim.AdamW(groups, **settings)
    factor = muon_lr / lr
    decay = {"weight_decay": weight_decay / factor}  # decoupled decay is lr times this: the same share a step
    return Muon([*groups, {"params": hidden, "momentum": 0.95, "lr_factor": factor, **decay}], **settings)


def set_learning_rate(
    optimizer: torch.optim.Optimizer, lr: float, step: int, warmup_steps: int, max_steps: int
) -> float:
    """Linear warm-up to `lr`, then a cosine to zero; returns the rate of the towers at `step` (from 0)."""
    rate = lr * min(1, (step + 1) / max(1, warmup_steps)) * 0.5 * (1 + math.cos(math.pi * step / max_steps))
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_factor"]
    return rate
