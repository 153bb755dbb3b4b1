"""What a recipe asks of many machines: memory of a GPU, bytes between GPUs, days. The tables of docs/scaling.md.

    python -m experiments.scaling            # prints the tables
    python -m experiments.scaling --write    # puts them into docs/scaling.md

All of it is arithmetic on shapes, and nothing of it was measured on a GPU. What a CPU can count (parameters, what a
block keeps for its backward in float32, the bytes that a ring sends) is held against the code by tests/test_scaling.py.
"""

import re
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from experiments import cost
from experiments.recipes import RECIPES, Stage, learning_rate, recipe_cost, short
from minclip.clip import CLIPConfig, build_clip

PAGE = Path(__file__).resolve().parents[1] / "docs" / "scaling.md"
GPU_BYTES = 80e9
"""memory of the largest A100"""
USABLE = 0.85
"""share of it that is counted on: the rest is the loss's tiles, buffers of NCCL, and holes between tensors"""
HOST_LINK = 25e9
"""bytes a second out of a host: one network card of 200 Gbit/s; large clusters have up to eight"""
FLOAT32, BFLOAT16 = 4, 2


@dataclass(frozen=True)
class Parameters:
    """How many parameters a model has: in all its blocks, in the largest block, and outside blocks."""

    blocks: int
    largest_block: int
    rest: int

    @property
    def all(self) -> int:
        """All of them."""
        return self.blocks + self.rest


@cache
def parameters(recipe: str) -> Parameters:
    """Those of a recipe's model, counted on it (without memory: on the meta device)."""
    with torch.device("meta"):
        model = build_clip(RECIPES[recipe].model)
    sizes = [sum(p.numel() for p in b.parameters()) for t in (model.image_tower, model.text_tower) for b in t.blocks]
    return Parameters(sum(sizes), max(sizes), sum(p.numel() for p in model.parameters()) - sum(sizes))


# Memory of one GPU, in bytes


def state_bytes(count: Parameters, processes: int, fsdp: bool) -> dict[str, float]:
    """Bytes that do not depend on the batch, on each of the processes. AdamW, float32 weights, bf16 autocast.

    DDP: weights, gradients, their copies in the buckets that are averaged, and AdamW's two moments: 4 bytes each.
    FSDP: 1/W of weights, gradients and moments, and whole for a moment: what is outside blocks, two blocks' weights
    (the one that computes and the next) and one block's gradients. Both: autocast's bfloat16 copies of the weights,
    which it keeps until the forward is through.
    """
    casts = BFLOAT16 * count.all
    if not fsdp or processes == 1:
        buckets = FLOAT32 * count.all * (processes > 1)
        kept = {"weights": FLOAT32 * count.all, "gradients": FLOAT32 * count.all, "moments": 2 * FLOAT32 * count.all}
        return {**kept, "whole for a moment": buckets, "bf16 copies": casts}
    part = FLOAT32 * count.all / processes
    moment = FLOAT32 * (2 * count.rest + 3 * count.largest_block)
    return {"weights": part, "gradients": part, "moments": 2 * part, "whole for a moment": moment, "bf16 copies": casts}


def block_bytes(tokens: int, width: int, heads: int, checkpointing: bool = False, precision: str = "bf16") -> int:
    """Bytes that one block keeps of one sequence of N tokens until its backward, by what each operation needs.

    In float32, in units of N W: the input 1 (norm1), norm1's output 1 (qkv), q k v 3 and the result 1 (attention),
    the sum 1 (norm2), its output 1 (the MLP), its hidden layer before and after GELU 4 + 4: 16 x 4 bytes. In bfloat16
    autocast on a GPU the norms compute in float32 and keep 4 bytes of what enters them, all others 2: 36 bytes.
    And a few numbers a token: mean and deviation of two norms, attention's normaliser a head. With checkpointing the
    block keeps its input alone. Attention is the fused kernel, which keeps no N x N matrix.
    """
    size = FLOAT32 if precision == "fp32" else BFLOAT16
    if checkpointing:
        return size * tokens * width
    per_token = 2 * FLOAT32 + 14 * size if precision == "bf16" else 16 * size
    return per_token * tokens * width + FLOAT32 * tokens * (4 + heads)


def pair_bytes(model: CLIPConfig, image_tokens: int, text_tokens: int, checkpointing: bool) -> float:
    """Bytes of activations for one more pair: of all blocks; with checkpointing, all inputs and one block whole."""
    towers = (
        (image_tokens, model.image_width, sum(model.image_layers)),
        (text_tokens, model.text_width, model.text_layers),
    )
    kept = sum(layers * block_bytes(n, width, model.heads, checkpointing) for n, width, layers in towers)
    return kept + checkpointing * max(block_bytes(n, width, model.heads) for n, width, _ in towers)


def pairs_that_fit(states: float, pair: float) -> int:
    """Most pairs a micro-batch on a GPU of GPU_BYTES whose states take `states` bytes; 0 if they do not fit at all."""
    return max(0, int((USABLE * GPU_BYTES - states) / pair))


# Bytes that each process sends in a step. Those that leave a host are as many: of its processes, which sit one behind
# the other in the ring, only the last one sends to another host.


def gradient_bytes(count: Parameters, processes: int, fsdp: bool, micro_batches: int = 1) -> float:
    """DDP: a ring averages float32 gradients, 2 (W - 1) / W of them, once a step however many micro-batches.

    FSDP: (W - 1) / W of the weights for a forward, of the blocks' for the backward, of the gradients after it; with
    several micro-batches each of them, and once more the weights for the forward without a graph (`cached_step`).
    """
    share = (processes - 1) / processes * FLOAT32
    if not fsdp:
        return 2 * share * count.all
    forwards = 1 if micro_batches == 1 else 2
    return micro_batches * share * (forwards * count.all + count.blocks + count.all)


def ring_bytes(loss: str, processes: int, batch_size: int, embed_dim: int) -> float:
    """The chunked loss: texts, their gradients and, for softmax, normalisers, in float32 (minclip.chunked_loss).

    A block of B/W texts hops W - 1 times, what is added up behind it W times. The softmax goes round twice.
    """
    if processes == 1:
        return 0
    w, number = processes, FLOAT32 * batch_size / processes
    if loss == "sigmoid":
        return (2 * w - 1) * number * embed_dim
    return (3 * w - 2) * number * embed_dim + (2 * w - 1) * number


# Tables


def two_digits(value: float) -> str:
    """A number for a table: whole from 100 on, two digits below."""
    return f"{value:,.0f}" if value >= 99.5 else f"{value:.2g}"


def gb(value: float) -> str:
    """Bytes as GB (10^9)."""
    return two_digits(value / 1e9)


def memory_table() -> str:
    """Bytes a GPU of the recipes' first stages under DDP and FSDP, and the pairs that fit beside them."""
    lines = ["| model | | GPUs | weights | gradients | moments | whole for a moment | bf16 copies | sum, GB |"]
    lines += ["|" + "---|" * 9]
    for name, title in (("clipa-b16-i50-t16", "B/16"), ("clipa-l16-i17-t16", "L/16"), ("clipav2-h14-84", "H/14")):
        count = parameters(name)
        for way, processes in (("DDP", 8), ("FSDP", 8), ("FSDP", 64)):
            states = state_bytes(count, processes, way == "FSDP")
            head = f"{title}, {count.all / 1e6:,.0f} M" if way == "DDP" else ""
            cells = " | ".join(gb(value) for value in states.values())
            lines.append(f"| {head} | {way} | {processes} | {cells} | {gb(sum(states.values()))} |")
    return "\n".join(lines)


def activation_table() -> str:
    """Bytes a pair with and without checkpointing, and the pairs that fit on a GPU."""
    lines = [
        "| recipe, stage | tokens | MB a pair | checkpointed | pairs that fit: DDP | checkpointed | FSDP, 64 GPUs |"
    ]
    lines += ["|" + "---|" * 7]
    for name in ("clipa-b16-i50-t16", "clipa-l16-i17-t16", "clipav2-h14-336"):
        recipe, count = RECIPES[name], parameters(name)
        ddp, fsdp = (sum(state_bytes(count, w, way).values()) for w, way in ((8, False), (64, True)))
        for row in recipe_cost(recipe):
            plain, saved = (pair_bytes(recipe.model, row.image_tokens, row.text_tokens, c) for c in (False, True))
            fits = [pairs_that_fit(ddp, plain), pairs_that_fit(ddp, saved), pairs_that_fit(fsdp, saved)]
            lines.append(
                f"| {name}, {row.name} | {row.image_tokens} + {row.text_tokens} | {plain / 1e6:.3g} "
                f"| {saved / 1e6:.3g} | {' | '.join(f'{fit:,}' for fit in fits)} |"
            )
    return "\n".join(lines)


def wire_table() -> str:
    """Bytes that a process sends in a step of the H/14's stages, and their seconds on one link beside the step's."""
    lines = ["| stage | GPUs | DDP, GB | FSDP, GB | ring, softmax, GB | sigmoid | seconds of DDP and ring | step |"]
    lines += ["|" + "---|" * 8]
    recipe, count = RECIPES["clipav2-h14-84"], parameters("clipav2-h14-84")
    for stage, row in zip(recipe.stages, recipe_cost(recipe), strict=True):
        for processes in (8, 64, 512):
            ddp, fsdp = (gradient_bytes(count, processes, way) for way in (False, True))
            rings = [ring_bytes(loss, processes, stage.batch_size, recipe.model.embed_dim) for loss in LOSSES]
            seconds = "inside the host" if processes == 8 else f"{(ddp + rings[0]) / HOST_LINK:.2f}"
            step = step_seconds(stage, row.hours, processes)
            cells = " | ".join(gb(x) for x in (ddp, fsdp, *rings))
            lines.append(f"| {row.name} | {processes} | {cells} | {seconds} | {step:.2g} |")
    return "\n".join(lines)


LOSSES = ("softmax", "sigmoid")


def step_seconds(stage: Stage, hours: float, processes: int) -> float:
    """Seconds of a step, if `hours` device-hours of the stage are shared evenly and nothing waits."""
    return hours * 3600 / processes / cost.steps(stage.samples, stage.batch_size)


def ladder_table() -> str:
    """The recipes from one GPU to hundreds: days and dollars."""
    lines = ["| recipe | stage | batch | learning rate | A100-hours | $ | days on 1 GPU | 8 | 64 | 512 |"]
    lines += ["|" + "---|" * 10]
    for name in ("clipa-b16-i50-t16", "clipa-l16-i17-t16", "clipav2-h14-70", "clipav2-h14-84", "clipav2-h14-336"):
        recipe = RECIPES[name]
        for stage, row in zip(recipe.stages, recipe_cost(recipe), strict=True):
            days = " | ".join(two_digits(row.hours / 24 / processes) for processes in (1, 8, 64, 512))
            lines.append(
                f"| {name} | {stage.name} | {stage.batch_size:,} | {learning_rate(stage):.3g} | {short(row.hours)} "
                f"| {short(row.dollars)} | {days} |"
            )
    return "\n".join(lines)


TABLES = {"LADDER": ladder_table, "MEMORY": memory_table, "ACTIVATIONS": activation_table, "WIRE": wire_table}


def filled(page: str) -> str:
    """The page with each table between its markers `<!-- NAME -->` and `<!-- /NAME -->`."""
    for name, table in TABLES.items():
        begin, end = f"<!-- {name} -->\n", f"\n<!-- /{name} -->"
        if page.count(begin) != 1 or page.count(end) != 1:
            raise ValueError(f"the page must hold the markers {begin.strip()} and {end.strip()} once each")
        page = re.sub(f"({begin}).*?({end})", lambda found, t=table: found[1] + t() + found[2], page, flags=re.DOTALL)
    return page


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line: print the tables, or write them into the page."""
    parser = ArgumentParser(prog="python -m experiments.scaling", description=__doc__.split("\n")[0])
    parser.add_argument("--write", action="store_true", help="put the tables into docs/scaling.md")
    if parser.parse_args(arguments).write:
        PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        print("\n\n".join(f"{name}\n\n{table()}" for name, table in TABLES.items()))


if __name__ == "__main__":
    main()
