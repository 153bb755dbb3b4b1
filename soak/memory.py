"""Train a tiny model over and over and watch the memory of the process: after a warm-up it must stay flat.

    python soak/memory.py --minutes 30 --output results/soak_memory.json
    python soak/memory.py --minutes 0.4                                     # the quick form, with a coarser bound

One round is a run of STEPS steps, alternately of a ViT with masks and micro-batches and of a ResNet, with a checkpoint
every 10 steps, a line of the log at each, a zero-shot evaluation and a search every 25, and the weights read back at
the end. The memory that the process has resident is read every few seconds. The first quarter of the time is warm-up.

Promises, over what follows: the least-squares slope is under 1 MB a minute, and the last quarter's mean is at most 2 %
above the second's. Less than 10 minutes are too short for a slope, since an allocator works in steps of megabytes:
there the growth alone counts, at most 5 %.
"""

import argparse
import ctypes
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import psutil
import torch

from minclip.checkpoint import write_json
from minclip.clip import CLIP, CLIPConfig
from minclip.data import Pairs
from minclip.retrieval import image_text_recall
from minclip.tokenizer import END_ID
from minclip.train import TrainConfig, train
from minclip.zero_shot import classify, embed_images, zero_shot_weights

STEPS = 100
SLOPE, GROWTH = 1.0, 2.0  # MB a minute, and percent from the second to the last quarter
QUICK_GROWTH, ENOUGH = 5.0, 10.0  # percent; minutes from which the slope counts
VIT = CLIPConfig(
    image_tower="vit", image_size=16, image_width=32, image_layers=(2,), patch_size=4, context_length=12,
    vocab_size=300, text_width=32, text_layers=1, heads=2, embed_dim=16, dropout=0.1,
)  # fmt: skip
SETTINGS = (
    {"model": VIT, "image_keep": 0.5, "micro_batch_size": 16},
    {"model": replace(VIT, image_tower="resnet", image_width=8, image_layers=(1, 1), loss="sigmoid")},
)


def tiny_pairs() -> Pairs:
    """64 random pictures with different captions."""
    images = torch.randint(0, 256, (64, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    words, things = ("red", "blue", "green", "small", "large", "old", "new", "wet"), ("cat", "dog", "boat", "tree")
    names = [f"{word} {thing} {place}" for word in words for thing in things for place in ("here", "there")]
    return Pairs(images, [[f"a {name}"] for name in names], torch.arange(64), names, torch.arange(64))


def resident() -> float:
    """MB of this process that are in memory now; what the C library keeps for later is given back first."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
    return psutil.Process().memory_info().rss / 1e6


class TimeIsUp(Exception):
    """Ends the round that is running."""


def watch(
    minutes: float,
    folder: Path,
    every: float = 5.0,
    steps: int = 0,
    after_step: Callable[[], None] | None = None,
) -> dict:
    """Train round after round; returns the samples, as (seconds, MB), and how much was done.

    steps: end after so many, however slow the machine is. after_step: called after each, for a test to leak something.
    """
    pairs, samples, done = tiny_pairs(), [], {"rounds": 0, "steps": 0, "evaluations": 0}
    began = time.monotonic()

    def on_step(step: int, model: CLIP) -> None:
        done["steps"] += 1
        if after_step:
            after_step()
        if step % 25 == 0:
            model.eval()
            texts = torch.randint(3, 250, (64, 12)).index_fill_(1, torch.tensor([11]), END_ID)
            with torch.no_grad():
                image_features = model.encode_image(pairs.images / 127.5 - 1)
                image_text_recall(image_features, model.encode_text(texts), torch.arange(64), (1, 5))
            model.train()
            done["evaluations"] += 1
        passed = time.monotonic() - began
        if passed >= len(samples) * every:
            samples.append((round(passed, 2), round(resident(), 2)))
        if passed > 60 * minutes or done["steps"] == steps:
            raise TimeIsUp

    try:
        for number in count():
            run = folder / f"run_{number % 2}"
            config = TrainConfig(
                **SETTINGS[number % 2], batch_size=64, max_steps=STEPS, seed=number, output_dir=str(run),
                overwrite=True, checkpoint_every=10, log_every=10, precision="fp32", progress=False,
            )  # fmt: skip
            result = train(config, on_step, pairs)
            model = CLIP.from_pretrained(run)
            names = zero_shot_weights(model, result.tokenizer, [texts[0] for texts in pairs.captions])
            classify(embed_images(model, pairs.images, 16), names)
            done["rounds"] += 1
    except TimeIsUp:
        pass
    return {"samples": samples, **done}


def judge(samples: list[tuple[float, float]], minutes: float) -> dict:
    """Slope and growth after the first quarter, and whether the promises are kept."""
    seconds, megabytes = np.array(samples).T
    later = seconds >= seconds[-1] / 4
    slope = 60 * np.polyfit(seconds[later], megabytes[later], 1)[0]
    second = megabytes[later & (seconds < seconds[-1] / 2)].mean()
    last = megabytes[seconds >= 0.75 * seconds[-1]].mean()
    growth = 100 * (last / second - 1)
    kept = growth <= GROWTH and slope <= SLOPE if minutes >= ENOUGH else growth <= QUICK_GROWTH
    numbers = {"mb_a_minute": slope, "growth_percent": growth, "mb_second_quarter": second, "mb_last_quarter": last}
    return {**{key: round(float(value), 3) for key, value in numbers.items()}, "kept": bool(kept)}


def main() -> int:
    """Run, print the samples, write them; 1 when a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        watched = watch(args.minutes, Path(folder), every=5.0 if args.minutes >= 2 else 1.0)
    for seconds, megabytes in watched["samples"]:
        print(f"{seconds:8.1f} s {megabytes:8.1f} MB")
    about = {"command": f"python soak/memory.py --minutes {args.minutes:g}", "minutes": args.minutes}
    about |= {"device": f"cpu ({platform.machine()}, 1 thread)", "torch": torch.__version__}
    bounds = {"mb_a_minute": SLOPE, "growth_percent": GROWTH} if args.minutes >= ENOUGH else {"growth_percent": 5.0}
    result = {**about, "bounds": bounds, **judge(watched["samples"], args.minutes), **watched}
    print(json.dumps({key: value for key, value in result.items() if key != "samples"}, indent=2))
    if args.output:
        write_json(args.output, result)
    return 0 if result["kept"] else 1


if __name__ == "__main__":
    sys.exit(main())
