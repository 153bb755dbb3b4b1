"""Where a step's time goes: minclip's default step in parts, beside the floor of their matrix products.

The parts are timed one by one. Each stands beside the time that its floating-point operations would take at the rate
of one large matrix product on this machine; `training.py` is the command.
"""

import argparse
import statistics
from collections.abc import Callable
from dataclasses import replace

import torch
from common import table_line
from losses import stopwatch
from training_peers import autocast, emoji, emoji_tokens

from minclip.clip import build_clip
from minclip.data import BatchOrder
from minclip.optimizer import make_optimizer
from minclip.precision import resolve_precision
from minclip.softmax_loss import softmax_loss
from minclip.train import TrainConfig, make_batch

PART_COLUMNS = {"part": -13, "ms": 8, "share": 6, "GFLOP": 8, "floor ms": 8, "of the floor": 12}


def breakdown_rows(args: argparse.Namespace, device: str) -> dict:
    """The parts of minclip's default step, early and at full size, beside the floor of their matrix products."""
    from torch.utils.flop_counter import FlopCounterMode

    config = replace(TrainConfig(), batch_size=args.batch_size, precision=resolve_precision("auto"))
    rate = matmul_rate(device, config.precision, 256 if args.quick else 2048 if device == "cpu" else 8192)
    result = {"precision": config.precision, "matmul_gflops": rate / 1e9, "batch_size": args.batch_size, "rows": []}
    tokenizer, tokens = emoji_tokens()
    order = BatchOrder(emoji().groups, args.batch_size, 0)
    for name, share in (("early", 1.0), ("full size", 0.0)):
        torch.manual_seed(0)
        model = build_clip(replace(config.model, vocab_size=tokenizer.vocab_size))
        model.to(device, memory_format=torch.channels_last).train()
        how = (config.lr, config.weight_decay, config.beta2, config.scalar_lr_factor, config.muon_lr)
        optimizer = make_optimizer(model, *how)
        now = replace(config, early_fraction=share)
        parts = step_parts(model, optimizer, order, tokens, now, device)
        flops = {}
        for part, call in parts.items():
            with FlopCounterMode(display=False) as counter:
                call()
            flops[part] = counter.get_total_flops()
        seconds = {part: [] for part in [*parts, "whole step"]}
        for repetition in range(-args.warm_up, args.repetitions):
            taken = {part: stopwatch(device, call) for part, call in parts.items()}
            taken["whole step"] = stopwatch(device, lambda: [call() for call in whole(parts)])  # noqa: B023
            if repetition >= 0:
                for part, value in taken.items():
                    seconds[part].append(value)
        total = statistics.median(seconds["whole step"])
        flops["whole step"] = sum(flops.values())
        for part, values in seconds.items():
            median = statistics.median(values)
            row = {"size": name, "part": part, "seconds": median, "share": median / total, "flops": flops[part]}
            row |= {"floor_seconds": flops[part] / rate, "share_of_floor": flops[part] / rate / median}
            row |= {"images_per_second": args.batch_size / median}
            result["rows"].append(row)
    return result


def step_parts(model, optimizer, order: BatchOrder, tokens, config: TrainConfig, device: str) -> dict[str, Callable]:
    """The parts of a step, by name, to be called in this order; the graph is cut at the features.

    Called one after another they do what a step does: the features' gradients of the loss go on into the towers,
    only here the towers' own backward follows at once, with the gradients that the features had in the step before.
    """
    state = {"step": 0}

    def data() -> None:
        state["step"] += 1
        state["images"], state["ids"] = make_batch(
            emoji(), tokens, order, config, state["step"], slice(None), torch.device(device)
        )

    def tower(encode: Callable, key: str) -> None:
        with autocast(device, config.precision):
            features = encode(state[key])
        features.backward(state.get(f"{key} gradient", torch.full_like(features, 1e-3)))
        state[f"{key} features"] = features.detach().requires_grad_()

    def loss() -> None:
        features = [state[f"{key} features"] for key in ("images", "ids")]
        softmax_loss(*features, model.logit_scale).backward()
        state.update({f"{key} gradient": x.grad for key, x in zip(("images", "ids"), features)})

    def update() -> None:
        optimizer.step()
        optimizer.zero_grad()
        model.clamp_logit_scale()

    return {
        "data": data,
        "image tower": lambda: tower(model.encode_image, "images"),
        "text tower": lambda: tower(model.encode_text, "ids"),
        "loss": loss,
        "optimizer": update,
    }


def whole(parts: dict[str, Callable]) -> list[Callable]:
    """The calls of one whole step, timed as one: on a GPU without waiting between them."""
    return list(parts.values())


def matmul_rate(device: str, precision: str, size: int) -> float:
    """Floating-point operations a second of one large square matrix product, the median of nine."""
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    seconds = [stopwatch(device, torch.mm, a, b) for _ in range(12)][3:]
    return 2 * size**3 / statistics.median(seconds)


def part_line(row: dict) -> str:
    """A part of the step as a line of the table."""
    floor = [f"{row['flops'] / 1e9:.2f}", f"{1e3 * row['floor_seconds']:.2f}", f"{row['share_of_floor']:.0%}"]
    cells = [row["part"], f"{1e3 * row['seconds']:.2f}", f"{row['share']:.0%}"]
    return table_line(PART_COLUMNS, cells + (floor if row["flops"] else ["", "", ""]))
