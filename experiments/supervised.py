"""The supervised baseline of the claims about transfer: a small ResNet that learns labels; its tower is one to lock."""

import torch
import torch.nn.functional as F
from torch import nn

from minclip.data import Augmentation, BatchOrder, Pairs, augment, step_generator
from minclip.resnet import ResNet
from minclip.zero_shot import check_labels


def train_classifier(
    pairs: Pairs, image_size: int = 24, width: int = 24, steps: int = 500, batch_size: int = 256, lr: float = 3e-3,
    weight_decay: float = 0.1, seed: int = 0, device: str | torch.device = "cpu",
) -> nn.Sequential:  # fmt: skip
    """A small ResNet and a linear head, `Sequential(tower, head)`, trained to name the pictures by their labels.

    The supervised baseline, `[B, 3, S, S]` -> logits `[B, C]`; its tower is one to lock. Cross-entropy over
    `pairs.class_names`, label smoothing 0.1, AdamW, one-cycle learning rate, augmented pictures; returned in
    evaluation mode. The same seed gives the same weights (on one machine, with one number of threads). Raises
    ValueError when a pair has no label.
    """
    check_labels(len(pairs), len(pairs.class_names), labels=pairs.labels)
    with torch.random.fork_rng():  # the caller's random numbers are not ours to move
        torch.manual_seed(seed)
        tower = ResNet(image_size, width=width)
        head = nn.Linear(tower.output_dim, len(pairs.class_names))
    model = nn.Sequential(tower, head).to(device=device, memory_format=torch.channels_last).train()
    # no decay on gains and biases
    groups = [{"params": [p], "weight_decay": weight_decay if p.ndim >= 2 else 0.0} for p in model.parameters()]
    optimizer = torch.optim.AdamW(groups, lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.15)
    order = BatchOrder(torch.arange(len(pairs)), min(batch_size, len(pairs)), seed)
    for step in range(steps):
        rows = order.indices(step)
        draw = torch.rand(len(rows), 16, generator=step_generator(seed, 3, step), dtype=torch.float64)
        images = augment(pairs.images[rows].to(device), image_size, draw, Augmentation())
        logits = model(images.contiguous(memory_format=torch.channels_last))  # [B, C]
        loss = F.cross_entropy(logits, pairs.labels[rows].to(device), label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def train_image_tower(pairs: Pairs, *args, **kwargs) -> ResNet:
    """The tower of `train_classifier`, same arguments, without its head: a supervised tower to lock."""
    return train_classifier(pairs, *args, **kwargs)[0]
