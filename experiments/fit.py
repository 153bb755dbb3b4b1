"""The one training loop of all runs: what a claim changes about it is a setting, or one of the
functions that it calls.

What a step draws depends on the seed and the step alone, and it draws different concepts (see `batch_order`): settings
are compared on the same data. A setting here is complete: it has every key of `common.SHARED`.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from experiments.curation import batch_order
from experiments.emoji import CONTEXT_LENGTH, compute_device, emoji, tokenised
from experiments.negatives import step_loss
from experiments.noise import corrupt
from minclip.clip import CLIP
from minclip.data import Pairs, step_generator
from minclip.optimizer import make_optimizer, set_learning_rate
from minclip.tokenizer import Tokenizer
from minclip.towers import TextTransformer

CURVE_POINTS = 40
LOSSES = ("sigmoid", "softmax", "balanced")
BIASES = ("learned", "constant", "relative", "none")
SCALES = ("learned", "fixed", "unclipped")
PROJECTION_HEADS = ("linear", "nonlinear")


def make_model(
    image_tower: nn.Module,
    setting: dict,
    seed: int,
    tokenizer: Tokenizer | None = None,
    context_length: int = CONTEXT_LENGTH,
) -> CLIP:
    """The image tower beside a fresh text tower; scale and bias start as the setting says.

    tokenizer: what turns captions into ids; default: that of `tokenised`. The balanced loss begins as the sigmoid
    does and has a bias, too. Raises ValueError for an unknown loss, bias, scale or projection head.
    """
    known_values = {"loss": LOSSES, "bias": BIASES, "scale": SCALES, "projection_head": PROJECTION_HEADS}
    for key, known in known_values.items():
        if setting[key] not in known:
            raise ValueError(f"unknown {key} {setting[key]!r}; choose from {', '.join(known)}")
    torch.manual_seed(seed)
    tokenizer = tokenizer or tokenised()[0]
    heads = max(1, setting["text_width"] // 32)
    text = TextTransformer(
        tokenizer.vocab_size, context_length, setting["text_width"], setting["text_layers"], heads
    )  # fmt: skip
    loss = "softmax" if setting["loss"] == "softmax" else "sigmoid"
    model = CLIP(image_tower, text, setting["embed_dim"], loss)
    if setting["projection_head"] == "nonlinear":
        model.image_projection = nonlinear_projection(image_tower.output_dim, setting["embed_dim"])
        model.text_projection = nonlinear_projection(text.output_dim, setting["embed_dim"])
    model.logit_scale.requires_grad_(setting["scale"] != "fixed")
    with torch.no_grad():
        if setting["init_logit_scale"] is not None:
            model.logit_scale.fill_(setting["init_logit_scale"])
        if model.logit_bias is not None:
            start = setting["init_logit_bias"] if setting["bias"] != "none" else 0.0
            model.logit_bias.fill_(-start / model.logit_scale.exp() if setting["bias"] == "relative" else start)
            model.logit_bias.requires_grad_(setting["bias"] in ("learned", "relative"))
    return model.to(compute_device(), memory_format=torch.channels_last)


def nonlinear_projection(width: int, embed_dim: int) -> nn.Sequential:
    """ConVIRT's W2 relu(W1 x) from a tower `[B, width]` to `[B, embed_dim]`, without biases, as CLIP's linear one."""
    head = nn.Sequential(nn.Linear(width, width, bias=False), nn.ReLU(), nn.Linear(width, embed_dim, bias=False))
    for layer in (head[0], head[2]):
        nn.init.normal_(layer.weight, std=width**-0.5)
    return head


def bias_of(model: CLIP, setting: dict) -> Tensor | None:
    """What is added to the sigmoid's logits; with the relative bias, -t b_rel."""
    if setting["bias"] == "relative" and model.logit_bias is not None:
        return -model.logit_scale.exp() * model.logit_bias
    return model.logit_bias


def scalars(model: CLIP, setting: dict) -> dict[str, float]:
    """The inverse temperature t and, for the sigmoid, the bias as it is added to the logits."""
    bias = bias_of(model, setting)
    return {"logit_scale": model.logit_scale.exp().item(), **({} if bias is None else {"logit_bias": bias.item()})}


def optimizer_for(model: CLIP, setting: dict) -> torch.optim.Optimizer:
    """`make_optimizer`; with a `tower_decay` other than 1, the image tower's weights are groups of their own."""
    keys = ("lr", "weight_decay", "beta2", "scalar_lr_factor", "muon_lr")
    optimizer = make_optimizer(model, *(setting[key] for key in keys))
    if setting["tower_decay"] != 1:
        tower = {id(p) for p in model.image_tower.parameters()}
        for group in list(optimizer.param_groups):
            inside = [p for p in group["params"] if id(p) in tower]
            if group["weight_decay"] and inside:
                group["params"] = [p for p in group["params"] if id(p) not in tower]
                decay = group["weight_decay"] * setting["tower_decay"]
                optimizer.add_param_group({**group, "params": inside, "weight_decay": decay})
    return optimizer


def training_names(rows: Tensor, draw: Tensor, step: int) -> Tensor:
    """The names of the rows `[B]` as ids `[B, L]`; one a picture, so that draw `[B]` decides nothing."""
    return tokenised()[1].pick(rows, draw, 1.0)


def usual_features(model: CLIP, images: Tensor, ids: Tensor, step: int) -> tuple[Tensor, Tensor]:
    """The unit vectors `[B, D]` of pictures and captions that the loss compares."""
    return model(images, ids)[:2]


def usual_step(step: int, loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
    """What a run does once its gradients are there."""
    optimizer.step()


def fit(
    model: CLIP,
    pictures: Callable[[Tensor, Tensor], Tensor],
    setting: dict,
    seed: int,
    captions: Callable[[Tensor, Tensor, int], Tensor] = training_names,
    take_step: Callable[[int, Tensor, torch.optim.Optimizer], None] = usual_step,
    features_of: Callable[[CLIP, Tensor, Tensor, int], tuple[Tensor, Tensor]] = usual_features,
    extra_loss: Callable[[tuple, Tensor], Tensor] | None = None,
    pairs: Pairs | None = None,
) -> dict:
    """Train `model` on the emoji (or other `pairs`), as the setting says.

    pictures(rows `[B]`, draw `[B, 16]`) gives the image tower's input, captions(rows, draw `[B]`, step) token ids
    `[B, L]`; take_step(step, loss, optimizer) is called with the gradients in place and has to move the parameters.
    features_of(model, images, ids, step) gives the features that the loss compares, extra_loss((image_features,
    text_features, logit_scale, logit_bias), ids) what is added to it.
    Returns the curves `curve_step`, `curve_loss` (mean since the last point), `curve_logit_scale` (t itself),
    `curve_logit_bias`, `curve_gradient_norm`, `last_loss` (its last point), the last `logit_scale` and `logit_bias`,
    and the pairs (of pictures and captions) of all steps together: `pairs_computed`, and `pairs_used` by the loss.
    """
    pairs = emoji("train") if pairs is None else pairs
    vocab_size = model.text_tower.token_embedding.num_embeddings
    order = batch_order(pairs, setting, seed)
    optimizer = optimizer_for(model, setting)
    parameters = [p for p in model.parameters() if p.requires_grad]
    steps, pairs_used = setting["steps"], 0
    every, since = max(1, math.ceil(steps / CURVE_POINTS)), []
    curves: dict[str, list] = {f"curve_{key}": [] for key in ("step", "loss", "logit_scale", "gradient_norm")}
    curves |= {} if model.logit_bias is None else {"curve_logit_bias": []}
    model.train()
    for step in range(steps):
        set_learning_rate(optimizer, setting["lr"], step, round(setting["warmup"] * steps), steps)
        draw = torch.rand(setting["batch_size"], 17, generator=step_generator(seed, 3, step), dtype=torch.float64)
        rows = order.indices(step)
        images, ids = pictures(rows, draw[:, :16]), captions(rows, draw[:, 16], step)
        noise = setting, vocab_size, step_generator(seed, 5, step)
        images, ids = corrupt(images, ids.to(images.device), *noise)
        features = *features_of(model, images, ids, step), model.logit_scale, bias_of(model, setting)
        labels = pairs.labels[rows].to(images.device)
        loss, used = step_loss(*features, labels, setting, step_generator(seed, 6, step))
        pairs_used += used
        if extra_loss:
            loss = loss + extra_loss(features, ids)
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
        if setting["scale"] != "unclipped":
            model.clamp_logit_scale()
    counts = {"pairs_computed": steps * setting["batch_size"] ** 2, "pairs_used": pairs_used}
    return {**curves, "last_loss": curves["curve_loss"][-1], **scalars(model, setting), **counts}
