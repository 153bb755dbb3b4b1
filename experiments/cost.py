"""What a run costs, before it starts: tokens, FLOPs, device-hours, dollars (CLIPA, CLIPA-v2).

All of it is arithmetic on shapes. A multiply-add counts as 2 FLOPs, and only matrix products, convolutions and
attention are counted, as `torch.utils.flop_counter` does: norms, GELU, softmax, embedding look-ups, the optimizer and
the reading of data are not. Memory is another question, and not asked here.

What the papers say their runs cost, and what comes out here, stands in `experiments/published.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, isfinite

from minclip.masking import image_token_budget

A100_PEAK = 312e12
"""FLOP/s of an A100 in bfloat16, dense (its data sheet)"""
A100_RATE = 1.575
"""dollars an A100-hour: what CLIPA-v2's H/14 and L/14 rows imply (`experiments/published.py`); its bigG/14 row 1.645"""
A100_UTILISATION = 0.27
"""share of the peak: what CLIPA-v2's GPU-hours imply by our count (H/14 and bigG/14 0.26 to 0.27, L/14 0.23), so for
those rows it is a fit; CLIPA's imply 0.17 to 0.24, and nobody promises it to you"""


@dataclass(frozen=True)
class Shape:
    """What fixes the FLOPs of a model: two transformers and their projections.

    pool: cls, mean or map, as in `VisionTransformer`. The number of heads changes nothing. image_mlp_ratio: the hidden
    width of the image tower's MLPs by its width (bigG/14: 4.9231; the text towers here all have 4).
    """

    patch_size: int
    image_width: int
    image_layers: int
    text_width: int
    text_layers: int
    embed_dim: int
    pool: str = "mean"
    image_mlp_ratio: float = 4.0


@dataclass(frozen=True)
class Phase:
    """Samples that are seen with the same number of tokens. image_keep: share of the patches that are computed."""

    samples: float
    image_size: int
    text_tokens: int
    image_keep: float = 1.0


# Tokens and FLOPs


def image_tokens(
    image_size: int, patch_size: int, keep: float = 1.0, pool: str = "mean", strategy: str = "random"
) -> int:
    """Tokens that an image tower computes: the patches that stay, and with pool `cls` the class token.

    image_size, patch_size: pixels; keep, strategy: see `image_token_budget`. Raises ValueError when the patches do
    not tile the picture.
    """
    check_positive(image_size=image_size, patch_size=patch_size)
    if image_size % patch_size:
        raise ValueError(f"image_size {image_size} is not a multiple of patch_size {patch_size}; choose one that is")
    if pool not in ("cls", "mean", "map"):
        raise ValueError(f"unknown pool {pool!r}; choose cls, mean or map")
    return image_token_budget(image_size // patch_size, keep, strategy) + (pool == "cls")


def block_flops(tokens: int, width: int, mlp_ratio: float = 4.0) -> int:
    """FLOPs of one transformer block on one sequence of N tokens of width W: 24 N W^2 + 4 N^2 W at mlp_ratio 4.

    Queries, keys and values 6 N W^2; scores and weighted sum 2 N^2 W each (a causal mask saves nothing here); output
    2 N W^2; MLP 4 N W H.
    """
    check_positive(tokens=tokens, width=width, mlp_ratio=mlp_ratio)
    hidden = int(width * mlp_ratio)
    return 8 * tokens * width**2 + 4 * tokens**2 * width + 4 * tokens * width * hidden


def image_flops(
    shape: Shape, image_size: int, keep: float = 1.0, strategy: str = "random", projection: bool = True
) -> int:
    """FLOPs of the image tower's forward pass on one picture, and of its projection into the shared space."""
    tokens, w = image_tokens(image_size, shape.patch_size, keep, shape.pool, strategy), shape.image_width
    patches = tokens - (shape.pool == "cls")
    flops = 2 * 3 * shape.patch_size**2 * patches * w  # patches that are left out are not embedded
    flops += shape.image_layers * block_flops(tokens, w, shape.image_mlp_ratio)
    if shape.pool == "map":  # keys and values of all tokens; one query, its attention and output, its MLP
        flops += 4 * tokens * w**2 + 4 * tokens * w + 20 * w**2
    return flops + projection * 2 * w * shape.embed_dim


def text_flops(shape: Shape, tokens: int, projection: bool = True) -> int:
    """FLOPs of the text tower's forward pass on one caption of `tokens` tokens, and of its projection.

    Start, end and padding count. `TextTransformer.forward` on a CPU sorts captions by length and computes less
    padding than this.
    """
    flops = shape.text_layers * block_flops(tokens, shape.text_width)
    return flops + projection * 2 * shape.text_width * shape.embed_dim


def pair_flops(shape: Shape, phase: Phase) -> int:
    """FLOPs of both towers' forward pass on one pair."""
    return image_flops(shape, phase.image_size, phase.image_keep) + text_flops(shape, phase.text_tokens)


def training_flops(forward: float) -> float:
    """FLOPs of a training step whose forward pass takes `forward`: three times as many.

    Assumed: each product's backward pass is two products of its size, one for each argument's gradient, and nothing
    is computed twice. So gradient checkpointing (4 times) and `cached_step` (4 times) cost more, and a frozen tower
    less. Against the counter one thing is too many: the patch embedding needs no gradient to the pixels.
    """
    check_positive(forward=forward)
    return 3 * forward


def loss_flops(batch_size: int, embed_dim: int, products: int = 3) -> int:
    """FLOPs of the loss in one step, apart from the towers: 6 B^2 D, for the B x B logits and their two gradients.

    products: of matrices, `[B, D]` by `[D, B]`: 3; the chunked softmax makes the logits twice and needs 4.
    """
    check_positive(batch_size=batch_size, embed_dim=embed_dim, products=products)
    return 2 * products * batch_size**2 * embed_dim


def run_flops(shape: Shape, phases: Sequence[Phase]) -> float:
    """FLOPs to train the towers through all phases; the loss is not in it (`loss_flops`)."""
    for phase in phases:
        check_positive(samples=phase.samples)
    return sum(phase.samples * training_flops(pair_flops(shape, phase)) for phase in phases)


# Steps, hours, dollars


def steps(samples: float, batch_size: int) -> int:
    """Steps that show `samples` pairs, `batch_size` a step; the last step may show more than needed."""
    check_positive(samples=samples, batch_size=batch_size)
    return ceil(samples / batch_size)


def device_hours(flops: float, peak: float = A100_PEAK, utilisation: float = A100_UTILISATION) -> float:
    """Hours of one device. peak: FLOP/s; utilisation: the share of it that is reached, in (0, 1]."""
    check_positive(flops=flops, peak=peak, utilisation=utilisation)
    if utilisation > 1:
        raise ValueError(f"utilisation {utilisation} is more than the device's peak; choose a share in (0, 1]")
    return flops / (peak * utilisation) / 3600


def measured_hours(samples: float, images_per_second: float, devices: int = 1) -> float:
    """Device-hours from a speed that was measured on `devices` devices together (`metrics.json` has it)."""
    check_positive(samples=samples, images_per_second=images_per_second, devices=devices)
    return devices * samples / images_per_second / 3600


def implied_utilisation(flops: float, hours: float, peak: float = A100_PEAK) -> float:
    """The share of the peak that `hours` device-hours for `flops` amount to."""
    check_positive(flops=flops, hours=hours, peak=peak)
    return flops / (peak * 3600 * hours)


def dollars(hours: float, rate: float = A100_RATE) -> float:
    """Price of device-hours; rate: dollars an hour."""
    check_positive(hours=hours, rate=rate)
    return hours * rate


def check_positive(**numbers: float) -> None:
    """Raise ValueError, naming it, for a number that is not finite and above zero."""
    for name, value in numbers.items():
        if not (isfinite(value) and value > 0):
            raise ValueError(f"{name} is {value}; it must be finite and above zero")
