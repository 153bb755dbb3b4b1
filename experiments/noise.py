"""SigLIP 4.8's noise (Figure 7): pictures of nothing, words at random, captions of other pictures."""

import torch
from torch import Tensor


def corrupt(
    images: Tensor, ids: Tensor, setting: dict, vocab_size: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Exchange the shares that `noise_image`, `noise_text` and `noise_alignment` of the setting say, each on its own.

    images: `[B, 3, S, S]` in [-1, 1], or features `[B, D]`, whose noise then has their mean and spread; ids: token
    ids `[B, L]`, replaced by others under vocab_size. Returns both; what no share concerns comes back as it was.
    """
    shares = [setting[f"noise_{kind}"] for kind in ("image", "text", "alignment")]
    if not any(shares):
        return images, ids
    hit = torch.rand(len(ids), 3, generator=generator) < torch.tensor(shares)  # [B, 3]
    noise = torch.randn(images.shape, generator=generator).to(images)
    noise = noise.clamp(-1, 1) if images.ndim == 4 else noise * images.std(0) + images.mean(0)
    images = torch.where(hit[:, 0].to(images.device).view(-1, *[1] * (images.ndim - 1)), noise, images)
    words = torch.randint(3, vocab_size, ids.shape, generator=generator).to(ids)  # 3: no special tokens
    words = torch.where(ids > 2, words, ids)  # start, end and padding stay where they are
    ids = torch.where(hit[:, 1].to(ids.device)[:, None], words, ids)
    moved = hit[:, 2].nonzero().flatten()
    source = torch.arange(len(ids))
    source[moved] = moved[torch.randperm(len(moved), generator=generator)]
    return images, ids[source.to(ids.device)]
