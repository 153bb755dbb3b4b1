"""`common.fit` with three places open: the captions, the loss, and the optimizer's step.

The claims that change one of these train by this loop; with nothing changed it gives the curves of `common.fit`,
to the last bit (a test holds them equal).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from experiments.common import (
    CURVE_POINTS,
    IMAGE_SIZE,
    SHARED,
    bias_of,
    compute_device,
    emoji,
    make_model,
    optimizer_for,
    scalars,
    tokenised,
)
from minclip.clip import CLIP
from minclip.data import Augmentation, BatchOrder, augment, plain, step_generator
from minclip.optimizer import set_learning_rate
from minclip.resnet import ResNet
from minclip.sigmoid_loss import sigmoid_loss

TRAINING = ("batch_size", "steps", "lr", "muon_lr", "weight_decay", "beta2", "warmup", "scalar_lr_factor")


def english(rows: Tensor, draw: Tensor, step: int) -> Tensor:
    """The training names of the rows `[B]`, as `common.fit` draws them (draw: `[B]`): ids `[B, L]`."""
    return tokenised()[1].pick(rows, draw, 1.0)


def usual_loss(images: Tensor, texts: Tensor, model: CLIP, setting: dict) -> Tensor:
    """The sigmoid loss of features `[B, D]`, with the bias of the setting."""
    return sigmoid_loss(images, texts, model.logit_scale, bias_of(model, setting))


def usual_step(step: int, loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
    """What every run does once its gradients are there."""
    optimizer.step()


def fit_open(
    model: CLIP,
    pictures: Callable,
    setting: dict,
    seed: int,
    captions: Callable = english,
    loss_of: Callable = usual_loss,
    take_step: Callable = usual_step,
) -> dict:
    """Train `model` on the emoji, no noise; returns the curves of `common.fit` and the last scale and bias.

    pictures(rows `[B]`, draw `[B, 16]`) gives the image tower's input, captions(rows, draw `[B]`, step) token ids,
    loss_of(image_features, text_features, model, setting) a scalar; take_step(step, loss, optimizer) is called
    with the gradients in place and has to move the parameters. setting: what it lacks is as in SHARED.
    """
    setting = {**SHARED, **setting}
    order = BatchOrder(emoji("train").groups, setting["batch_size"], seed)
    optimizer = optimizer_for(model, setting)
    parameters = [p for p in model.parameters() if p.requires_grad]
    steps = setting["steps"]
    every, since = max(1, math.ceil(steps / CURVE_POINTS)), []
    curves: dict[str, list] = {f"curve_{key}": [] for key in ("step", "loss", "logit_scale", "gradient_norm")}
    curves |= {} if model.logit_bias is None else {"curve_logit_bias": []}
    model.train()
    for step in range(steps):
        set_learning_rate(optimizer, setting["lr"], step, round(setting["warmup"] * steps), steps)
        draw = torch.rand(setting["batch_size"], 17, generator=step_generator(seed, 3, step), dtype=torch.float64)
        rows = order.indices(step)
        images, ids = pictures(rows, draw[:, :16]), captions(rows, draw[:, 16], step)
        image_features, text_features, *_ = model(images, ids.to(images.device))
        loss = loss_of(image_features, text_features, model, setting)
        optimizer.zero_grad()
        loss.backward()
        since.append(loss.detach())
        if (step + 1) % every == 0 or step + 1 == steps:
            norm = torch.stack([p.grad.norm() for p in parameters if p.grad is not None]).norm()
            now = {"step": step + 1, "loss": torch.stack(since).mean().item(), "gradient_norm": norm.item()}
            now |= scalars(model, setting)
            for key, value in now.items():
                curves[f"curve_{key}"].append(value)
            since = []
        take_step(step, loss.detach(), optimizer)
        model.clamp_logit_scale()
    return {**curves, **scalars(model, setting)}


def scratch_model(setting: dict, seed: int) -> CLIP:
    """Both towers with fresh weights: those of `common.train_from_scratch` for the same seed."""
    torch.manual_seed(seed)
    return make_model(ResNet(IMAGE_SIZE, width=setting["image_width"]), {**SHARED, **setting}, seed)


def augmented(rows: Tensor, draw: Tensor) -> Tensor:
    """Training pictures of the rows `[B]`, augmented by draw `[B, 16]`: `[B, 3, S, S]`."""
    x = augment(emoji("train").images[rows].to(compute_device()), IMAGE_SIZE, draw, Augmentation())
    return x.contiguous(memory_format=torch.channels_last)


def as_they_are(splits: tuple[str, ...]) -> dict[str, Tensor]:
    """The pictures of the splits for evaluation, each `[N, 3, S, S]`."""
    return {split: plain(emoji(split).images, IMAGE_SIZE) for split in splits}
