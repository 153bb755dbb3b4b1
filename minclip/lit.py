"""Locked-image tuning: keep a trained image tower as it is, teach a text tower to speak about it (LiT, SigLIP 3.1).

The image tower neither learns nor changes, so each picture's features are computed once; a step then costs a
text tower alone, and large batches fit (SigLiT trains with a million pairs a step).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minclip.clip import CLIP
from minclip.data import Augmentation, BatchOrder, Pairs, augment, plain, step_generator
from minclip.resnet import ResNet


def lock(model: CLIP, projection: bool = True) -> CLIP:
    """Freeze the image tower of `model`, in place; returns the model.

    No parameter of the tower takes gradients, and it runs in evaluation mode (batch statistics stay) even
    after `model.train()`. projection: whether the linear map from the tower into the shared space learns.
    LiT calls that map optional; big_vision's LiT and SigLiT configurations have none, and the text tower's
    output has the image features' width. `projection=False` is the nearest to it here: a fixed random map.
    """
    model.image_tower.requires_grad_(False).eval()
    model.image_tower.register_forward_pre_hook(stay_in_evaluation)
    model.image_projection.requires_grad_(projection)
    return model


def stay_in_evaluation(tower: nn.Module, _inputs: tuple) -> None:
    """Undo what `model.train()` did to a locked tower, before it sees the pictures."""
    tower.eval()


class CachedImages(nn.Identity):
    """An image tower whose pictures are features `[B, output_dim]` already: CLIP on `cached_image_features`."""

    def __init__(self, output_dim: int) -> None:
        super().__init__()
        self.output_dim = output_dim


@torch.no_grad()
def cached_image_features(tower: nn.Module, images: Tensor, image_size: int, batch_size: int = 256) -> Tensor:
    """What the tower says of each picture, without augmentation: uint8 `[N, 3, H, W]` -> `[N, output_dim]`.

    In evaluation mode, on the tower's device and in its precision; the mode is restored.
    """
    was_training, parameter = tower.training, next(tower.parameters())
    tower.eval()
    parts = [
        tower(plain(part.to(parameter.device), image_size).to(parameter.dtype)) for part in images.split(batch_size)
    ]
    tower.train(was_training)
    return torch.cat(parts)


def train_image_tower(
    pairs: Pairs,
    image_size: int = 24,
    width: int = 24,
    steps: int = 500,
    batch_size: int = 256,
    lr: float = 3e-3,
    weight_decay: float = 0.1,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> ResNet:
    """A small ResNet trained to name the pictures of `pairs` by their labels: a supervised tower to lock.

    Cross-entropy over `pairs.class_names`, label smoothing 0.1, AdamW, one-cycle learning rate, augmented
    pictures; returned in evaluation mode. The same seed gives the same tower (on one machine, with one
    number of threads). Raises ValueError when a pair has no label.
    """
    if not len(pairs) or (pairs.labels < 0).any():
        raise ValueError("a tower is trained on labels, and some pair has none; leave those pairs out (Pairs.select)")
    with torch.random.fork_rng():  # the caller's random numbers are not ours to move
        torch.manual_seed(seed)
        tower = ResNet(image_size, width=width)
        head = nn.Linear(tower.output_dim, len(pairs.class_names))
    model = nn.Sequential(tower, head).to(device=device, memory_format=torch.channels_last).train()
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
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
    return tower.eval()
