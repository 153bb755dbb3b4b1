"""Adam after a spike of the gradient: the exact arithmetic, and a training run into which one spike is injected."""

import math

import torch
from torch import Tensor

from experiments.common import SCRATCH, TRAINING, scratch_model
from experiments.emoji import TEST_SPLITS, as_they_are, augmented
from experiments.fit import CURVE_POINTS, fit
from experiments.scoring import evaluate
from experiments.sweep import run_function

BETA1 = 0.9
BEFORE, AFTER = 10, 40  # steps around the spike that are kept one by one
SETTLED = 20  # steps after the spike whose mean loss is compared
WINDOW = 20  # steps before a step, whose median norm tells whether it spikes


# Exact arithmetic, in units of the learning rate


def adam_updates(gradients: list[float], beta2: float, beta1: float = BETA1) -> list[float]:
    """What Adam subtracts from one weight at each step, divided by the learning rate (no epsilon, no decay)."""
    m = v = 0.0
    updates = []
    for t, g in enumerate(gradients, 1):
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
        updates.append((m / (1 - beta1**t)) / math.sqrt(v / (1 - beta2**t)) if v else 0.0)
    return updates


def largest_update(beta2: float, steps: float = math.inf, beta1: float = BETA1) -> float:
    """The update by a spike that dwarfs all gradients before it, at step number `steps` (counted from 1).

    (1 - beta1) / sqrt(1 - beta2) long after the start: 0.447 for beta2 = 0.95, 3.162 for 0.999. Early on,
    the bias corrections divide it by (1 - beta1^t) / sqrt(1 - beta2^t): v is then an average over few steps, in
    which one spike weighs more, and the update is smaller.
    """
    corrected = (1 - beta1**steps) / math.sqrt(1 - beta2**steps)
    return (1 - beta1) / math.sqrt(1 - beta2) / corrected


def steps_to_recover(beta2: float, spike: float = 100.0, tolerance: float = 0.1) -> int:
    """Steps after a spike (over gradients of size 1) until sqrt(v) is within `tolerance` of 1 again.

    Until then every update is too small: for a spike of 100, 152 steps with beta2 = 0.95 and 3,862 with 0.999.
    """
    excess = (1 - beta2) * (spike**2 - 1)  # v - 1 at the spike
    return max(0, math.ceil(math.log(((1 + tolerance) ** 2 - 1) / excess) / math.log(beta2)))


# The run


DEFAULTS = {key: SCRATCH[key] for key in (*TRAINING, "init_logit_bias", "embed_dim", "text_width", "image_width")}
del DEFAULTS["muon_lr"]  # Muon has no second moment
DEFAULTS |= {"spike": 1.0, "spike_at": 0.5}  # factor on one step's gradient; share of the steps


@run_function(version=1, defaults=DEFAULTS)
def train_with_spike(setting: dict, seed: int) -> dict:
    """SigLIP in small, from scratch; the gradient of one step is multiplied by `spike` (1: it is left alone).

    Nobody clips it. Returns what `fit` and `evaluate` return and `summary`'s numbers.
    """
    setting = {**SCRATCH, **setting}
    model = scratch_model(setting, seed)
    parameters = [p for p in model.parameters() if p.requires_grad]
    size = math.sqrt(sum(p.numel() for p in parameters))
    at = round(setting["spike_at"] * setting["steps"])
    if not 0 <= at < setting["steps"] - 1:
        raise ValueError(f"spike_at {setting['spike_at']} leaves no step after the spike; choose from 0 to under 1")
    rows = []

    def take_step(step: int, loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
        gradients = [p.grad for p in parameters if p.grad is not None]
        if step == at:
            for gradient in gradients:
                gradient.mul_(setting["spike"])
        before = [p.detach().clone() for p in parameters]
        optimizer.step()
        lr = optimizer.param_groups[0]["lr"]  # the towers'; t' and b learn scalar_lr_factor times faster
        moved = torch.stack([(p.detach() - q).norm() for p, q in zip(parameters, before)]).norm() / (lr * size)
        rows.append(torch.stack([loss, torch.stack([g.norm() for g in gradients]).norm(), moved]))

    curves = fit(model, augmented, setting, seed, take_step=take_step)
    history = torch.stack(rows).cpu()  # [steps, 3]
    return {**curves, **summary(history, at), **evaluate(model, as_they_are(TEST_SPLITS))}


def summary(history: Tensor, at: int) -> dict:
    """Loss (nats), gradient norm and update of every step, `[steps, 3]`, in few numbers; `at`: the spike's step.

    An update is the root mean square over all weights in units of the learning rate, decay included, so that
    it can be held against `largest_update`. `update`: that of the step `at`; `update_before`: the median of the
    steps just before; `loss_after`: mean over the steps just after; `largest_jump`: the largest gradient norm
    over the median of the steps before it, spike included. `peak_*`: the maximum of each interval, so that no
    spike is lost between points; `near_*`: every step around `at`.
    """
    loss, gradient, update = history.T
    every = max(1, math.ceil(len(loss) / CURVE_POINTS))
    jumps = [gradient[i] / gradient[i - WINDOW : i].median() for i in range(WINDOW, len(gradient))]
    first = max(0, at - BEFORE)
    near = slice(first, at + AFTER)
    return {
        "update": update[at].item(),
        "update_before": update[first : max(at, first + 1)].median().item(),
        "loss_after": loss[at + 1 : at + 1 + SETTLED].mean().item(),
        "largest_jump": max(jumps).item() if jumps else math.nan,
        "peak_gradient_norm": [part.max().item() for part in gradient.split(every)],
        "peak_update": [part.max().item() for part in update.split(every)],
        "near_step": list(range(len(loss)))[near],
        "near_loss": loss[near].tolist(),
        "near_gradient_norm": gradient[near].tolist(),
        "near_update": update[near].tolist(),
    }
