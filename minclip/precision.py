"""Which numbers to compute with: measured, not guessed from the name of the chip."""

import math
import time
from functools import cache

import torch

PRECISIONS = ("auto", "fp32", "bf16", "fp64")


@cache
def resolve_precision(precision: str) -> str:
    """fp32, bf16 or fp64; `auto` times a convolution forward and backward and takes the faster of fp32 and bf16.

    The best of twelve each, in turns, so that a busy machine does not decide; measured once a process.
    """
    if precision != "auto":
        return precision
    device = "cuda" if torch.cuda.is_available() else "cpu"
    seconds = {}
    x = torch.randn(64, 64, 16, 16, device=device).contiguous(memory_format=torch.channels_last).requires_grad_()
    layer = torch.nn.Conv2d(64, 64, 3, padding=1).to(device, memory_format=torch.channels_last)
    for name in ("fp32", "bf16") * 12:
        began = time.perf_counter()
        with torch.autocast(device, torch.bfloat16, enabled=name == "bf16"):
            layer(x).float().sum().backward()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds[name] = min(time.perf_counter() - began, seconds.get(name, math.inf))
    return "bf16" if seconds["bf16"] < 0.9 * seconds["fp32"] else "fp32"
