"""What leaving out image tokens saves: a ViT with 64 patches, all of them against a half, a quarter, a sixteenth.

    python benchmarks/masking.py            # two minutes; writes results/bench_masking.json

Two things take turns: the image tower alone, forward and backward, beside what `experiments.cost` counts for it; and
the whole step of `train.py`, from stored pictures to moved weights. The rest of a step (augmentation, text tower, loss,
optimizer) does not depend on the image tokens, so the whole gains less than the tower. Medians of ratios within one
repetition, so that a busy machine slows both sides.
"""

import argparse
import statistics
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from common import machine
from losses import stopwatch
from training_peers import autocast, emoji

from experiments.cost import image_flops
from experiments.recipes import shape_of
from minclip.batches import make_batch, tokenise
from minclip.checkpoint import write_json
from minclip.clip import CLIPConfig, build_clip
from minclip.data import BatchOrder
from minclip.grad_cache import cached_step
from minclip.masking import mask_image
from minclip.optimizer import make_optimizer
from minclip.softmax_loss import softmax_loss
from minclip.train import TrainConfig, train_tokenizer

KEEPS = (1.0, 0.5, 0.25, 1 / 16)
MODEL = CLIPConfig(image_tower="vit", image_size=32, patch_size=4, image_width=128, image_layers=(4,))


def calls(config: TrainConfig, tokenizer, device: str, precision: str) -> dict[tuple[str, float], Callable]:
    """What is timed, by (what, keep): the image tower's forward and backward, and a whole training step."""
    torch.manual_seed(0)
    model = build_clip(replace(config.model, vocab_size=tokenizer.vocab_size)).to(device).train()
    optimizer = make_optimizer(model, config.lr, config.weight_decay, config.beta2, 10.0, config.muon_lr)
    pairs, order = emoji(), BatchOrder(emoji().groups, config.batch_size, 0)
    tokens = tokenise(pairs, tokenizer, config)
    images = torch.rand(config.batch_size, 3, 32, 32, device=device) * 2 - 1
    state = {"step": 0}

    def tower(keep: float) -> None:
        kept = mask_image(torch.rand(config.batch_size, 64), 8, keep)
        with autocast(device, precision):
            model.image_tower(images, None if kept is None else kept.to(device)).float().sum().backward()

    def step(keep: float) -> None:
        state["step"] += 1
        now = replace(config, image_keep=keep)
        batch = make_batch(pairs, tokens, order, now, state["step"], slice(None), torch.device(device))
        with autocast(device, precision):
            cached_step(model, batch, softmax_loss, config.batch_size)
        optimizer.step()
        optimizer.zero_grad()

    return {(what.__name__, keep): lambda what=what, keep=keep: what(keep) for what in (tower, step) for keep in KEEPS}


def measure(args: argparse.Namespace, device: str, precision: str, tokenizer) -> list[dict]:
    """One row for each keep: images/s of tower and step, and how many times as fast as with all patches."""
    config = TrainConfig(model=MODEL, batch_size=args.batch_size, early_image_size=0, lr=1e-4, muon_lr=1e-3)
    timed = calls(config, tokenizer, device, precision)
    seconds = {key: [] for key in timed}
    for repetition in range(-2, args.repetitions):
        taken = {key: stopwatch(device, call) for key, call in timed.items()}
        if repetition >= 0:
            for key, value in taken.items():
                seconds[key].append(value)
    rows, flops = [], {keep: image_flops(shape_of(MODEL), 32, keep, projection=False) for keep in KEEPS}
    for keep in KEEPS:
        row = {
            "precision": precision,
            "keep": keep,
            "tokens": round(64 * keep),
            "flops_ratio": flops[1.0] / flops[keep],
        }
        for what in ("tower", "step"):
            ratios = [a / b for a, b in zip(seconds[what, 1.0], seconds[what, keep])]
            row[f"{what}_images_per_second"] = config.batch_size / statistics.median(seconds[what, keep])
            row[f"{what}_ratio"] = statistics.median(ratios)
        rows.append(row)
    return rows


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch_size", type=int, default=256)
    parser.add_argument("--repetitions", type=int, default=15)
    parser.add_argument("--output", type=Path, default=Path("results/bench_masking.json"))
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = train_tokenizer(emoji(), MODEL)
    rows = [row for precision in ("fp32", "bf16") for row in measure(args, device, precision, tokenizer)]
    print("precision  tokens  tower x  (FLOPs x)  whole step x  images/s of the step")
    for r in rows:
        ratios = f"{r['tower_ratio']:7.2f}  {r['flops_ratio']:10.2f}  {r['step_ratio']:12.2f}"
        print(f"{r['precision']:>9}  {r['tokens']:6}  {ratios}  {r['step_images_per_second']:20.0f}")
    write_json(args.output, {**machine(device, __file__, sys.argv[1:]), "batch_size": args.batch_size, "rows": rows})


if __name__ == "__main__":
    main()
