"""Seconds of training until a zero-shot accuracy on the pictures of an unseen artist: minclip beside open_clip.

Each library has its own recipe and is given several lengths of its schedule; the best length counts for each target.
minclip: the default `TrainConfig`, only `max_steps` varies. open_clip: its ResNet or its ViT, its AdamW (betas, eps
and decay as in open_clip_train/params.py), a learning rate tuned on a seed of its own, a warm-up of 50 steps (its
default, 10,000, is longer than any run here), its cosine, bf16. What would slow open_clip down is taken away: it gets
minclip's pictures (batched augmentation), batches (no caption twice) and tokens (24 instead of 77).

The clock stands while a model is evaluated, on pictures of the size that it trains on at that step.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable, Iterator
from copy import deepcopy

import torch
from common import table_head, table_line
from training_peers import (
    LIBRARIES,
    TOWERS,
    batch,
    emoji,
    emoji_tokens,
    peer_model,
    peer_optimizer,
    peer_step,
    searchable,
)

from minclip.report import names_without_skin_tones
from minclip.train import TrainConfig, train
from minclip.zero_shot import evaluate_zero_shot

TARGETS = (0.15, 0.25, 0.40)
PEER_TOWERS = ("resnet, 32 px", "vit, width 128")
TUNE_SEED = 100
WARM_UP = 50
ACCURACY_COLUMNS = {"top-1": -5, "minclip": 10, "steps": 6, "open_clip": 10, "steps ": 6, "ratio": 7}
TUNE_COLUMNS = {"tower": -14, "learning rate": 13, "steps": 6, "seconds": 7, "top-1": 6}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """What can be said about this part on the command line."""
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of accuracy")
    parser.add_argument("--cap", type=float, default=900, help="seconds of training until a run is given up")
    parser.add_argument("--every", type=int, default=25, help="steps from one evaluation to the next (multiple of 5)")
    parser.add_argument("--schedules", type=int, nargs="+", default=[200, 400, 900], help="max_steps of minclip")
    parser.add_argument("--peer_schedules", type=int, nargs="+", default=[600, 1500, 4000], help="steps of open_clip")
    parser.add_argument("--lrs", type=float, nargs="+", default=[5e-4, 1e-3, 2e-3, 4e-3], help="tried by tune")
    parser.add_argument("--tune_seconds", type=float, default=120, help="length of tune's runs")
    parser.add_argument("--add", action="store_true", help="keep the runs of accuracy that are there")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="bf16", help="of open_clip")


def zero_shot(model, image_size: int, data: tuple) -> float:
    """Top-1 on fxemoji among all names without skin tones, as minclip.report evaluates it."""
    pairs, names = data
    return evaluate_zero_shot(model, emoji_tokens()[0], pairs, names, image_size)["top1"]


def evaluation_data() -> tuple:
    """The pictures of the unseen artist and the names that compete."""
    pairs = emoji("fxemoji")
    return pairs, names_without_skin_tones(pairs)


def minclip_curve(seed: int, steps: int, args: argparse.Namespace) -> list[dict]:
    """Accuracy against seconds of one run of minclip.train, whose own log has the clock.

    Weights are put aside during the run and evaluated after it.
    """
    config = TrainConfig(seed=seed, max_steps=steps, batch_size=args.batch_size, output_dir="", progress=False)
    snapshots = {}

    def on_step(step: int, model: torch.nn.Module) -> None:
        if step % args.every == 0 or step == steps:
            snapshots[step] = deepcopy(model.state_dict())

    from training import quiet

    with quiet():
        result = train(config, on_step, emoji())
    seconds, data, curve = {line["step"]: line["seconds"] for line in result.history}, evaluation_data(), []
    for step, weights in snapshots.items():
        result.model.load_state_dict(weights)
        full, early = config.model.image_size, config.early_image_size
        is_early = 0 < early < full and step - 1 < config.early_fraction * steps  # as train.make_batch decides
        top1 = zero_shot(result.model, early if is_early else full, data)
        curve.append({"step": step, "seconds": seconds[step], "top1": top1})
    return [point for point in curve if point["seconds"] <= args.cap]


def peer_run(
    seed: int, tower: str, lr: float, args: argparse.Namespace, device: str
) -> tuple[torch.nn.Module, Callable[[int, int], None]]:
    """An open_clip model and a function (step, steps in all) that trains it for one step, batch included."""
    torch.manual_seed(seed)
    model = peer_model(tower, emoji_tokens()[0].vocab_size).to(device)
    optimizer = peer_optimizer(model, tower, lr)
    train_on = peer_step(model, device, args.precision, optimizer)

    def step(number: int, steps: int) -> None:
        warm_up = min(WARM_UP, steps // 4)  # open_clip_train/scheduler.py: cosine_lr
        cosine = 0.5 * (1 + math.cos(math.pi * (number - warm_up) / max(1, steps - warm_up)))
        for group in optimizer.param_groups:
            group["lr"] = lr * ((number + 1) / warm_up if number < warm_up else cosine)
        train_on(*batch(number, args.batch_size, TOWERS[tower]["image_size"], device, seed))

    return model, step


def peer_curve(
    seed: int, tower: str, lr: float, steps: int, args: argparse.Namespace, device: str, every: int | None = None
) -> list[dict]:
    """Accuracy against seconds of one run of open_clip; ends at the cap or with the last target."""
    model, step = peer_run(seed, tower, lr, args, device)
    data, every, curve, seconds, began = evaluation_data(), every or args.every, [], 0.0, time.perf_counter()
    for done in range(1, steps + 1):
        step(done - 1, steps)
        if done % every and done < steps:
            continue
        if device == "cuda":
            torch.cuda.synchronize()
        seconds += time.perf_counter() - began
        if seconds > args.cap:
            break
        top1 = zero_shot(searchable(model), TOWERS[tower]["image_size"], data)
        curve.append({"step": done, "seconds": seconds, "top1": top1})
        if top1 >= max(TARGETS):
            break
        began = time.perf_counter()
    return curve


def tune(args: argparse.Namespace, device: str) -> dict:
    """Try open_clip's towers and learning rates for equal seconds; the best accuracy at the end chooses."""
    rows = []
    for tower in PEER_TOWERS:
        _, step = peer_run(TUNE_SEED, tower, args.lrs[0], args, device)
        seconds = []
        for number in range(8):
            began = time.perf_counter()
            step(number, 100)
            if device == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - began)
        steps = max(1, int(args.tune_seconds / statistics.median(seconds)))
        for lr in args.lrs:
            curve = peer_curve(TUNE_SEED, tower, lr, steps, args, device, every=steps)
            last = curve[-1] if curve else {"top1": 0.0, "seconds": args.cap}
            rows.append({"tower": tower, "lr": lr, "steps": steps, "seconds": last["seconds"], "top1": last["top1"]})
            print(tune_line(rows[-1]), flush=True)
    best = max(rows, key=lambda row: row["top1"])
    return {"seed": TUNE_SEED, "precision": args.precision, "rows": rows, "tower": best["tower"], "lr": best["lr"]}


def accuracy(
    args: argparse.Namespace, device: str, tuned: dict | None, keep: Callable[[dict], None], before: dict | None = None
) -> None:
    """Run all seeds and schedules of both libraries in turns; `keep` is given the section after every run.

    With `--add`, the runs of the section `before` stay, and count.
    """
    if tuned is None:
        raise SystemExit("error: no learning rate of open_clip was chosen yet; run with --only tune accuracy")
    section = {"cap": args.cap, "seeds": args.seeds, "peer": {key: tuned[key] for key in ("tower", "lr")}, "runs": []}
    if args.add and before:
        section["runs"] = list(before["runs"])
        section |= {"seeds": sorted({*before["seeds"], *args.seeds}), "added_to": before["command"]}
    lengths = {"minclip": args.schedules, "open_clip": args.peer_schedules}
    for seed in args.seeds:
        for library, steps in in_turns(lengths):
            if library == "minclip":
                curve = minclip_curve(seed, steps, args)
            else:
                curve = peer_curve(seed, tuned["tower"], tuned["lr"], steps, args, device)
            run = {"library": library, "seed": seed, "steps": steps, "curve": curve}
            run["seconds_to"] = {f"{target:.0%}": seconds_to(curve, target) for target in TARGETS}
            section["runs"].append(run)
            best = max((point["top1"] for point in curve), default=0)
            print(f"{library}, seed {seed}, {steps} steps: {run['seconds_to']}, best {best:.1%}", flush=True)
            keep(section | {"targets": summary(section)})


def in_turns(lengths: dict[str, list[int]]) -> Iterator[tuple[str, int]]:
    """(library, schedule), alternating for as long as both have one left."""
    for position in range(max(map(len, lengths.values()))):
        for library in LIBRARIES:
            if position < len(lengths[library]):
                yield library, lengths[library][position]


def seconds_to(curve: list[dict], target: float) -> float | None:
    """Seconds at the first evaluation that reached the target, or None."""
    return next((point["seconds"] for point in curve if point["top1"] >= target), None)


def summary(section: dict) -> list[dict]:
    """Per target and library: the schedule whose median over seeds is the shortest; None where it is beyond the cap."""
    rows = []
    for target in TARGETS:
        row = {"target": target}
        for library in LIBRARIES:
            times: dict[int, list[float]] = {}
            for run in section["runs"]:
                if run["library"] == library:
                    found = run["seconds_to"][f"{target:.0%}"]
                    times.setdefault(run["steps"], []).append(math.inf if found is None else found)
            medians = {steps: statistics.median(values) for steps, values in times.items()}
            steps = min(medians, key=medians.get, default=None)
            reached = steps is not None and medians[steps] < math.inf
            row[library] = {"seconds": medians[steps], "steps": steps, "all": times[steps]} if reached else None
        ours, theirs = (row[library] for library in LIBRARIES)
        row["given_up"] = [library for library in LIBRARIES if row[library] is None and spent(library, section)]
        bound = theirs["seconds"] if theirs else section["cap"] if "open_clip" in row["given_up"] else None
        row["ratio"] = ours["seconds"] / bound if ours and bound else None
        rows.append(row)
    return rows


def spent(library: str, section: dict) -> bool:
    """Whether the library had the time of the cap, or nearly so: only then it may be said to take longer."""
    ends = [run["curve"][-1]["seconds"] for run in section["runs"] if run["library"] == library and run["curve"]]
    return max(ends, default=0) >= 0.9 * section["cap"]


def tune_line(row: dict) -> str:
    """A learning rate that was tried as a line of the table."""
    cells = [row["tower"], f"{row['lr']:g}", str(row["steps"]), f"{row['seconds']:.0f}", f"{row['top1']:.1%}"]
    return table_line(TUNE_COLUMNS, cells)


def accuracy_tables(name: str, section: dict) -> str:
    """A section of the result file as Markdown."""
    if name == "tune":
        chosen = f"\n\nchosen for open_clip: {section['tower']}, {section['lr']:g}"
        return table_head(TUNE_COLUMNS) + "\n" + "\n".join(map(tune_line, section["rows"])) + chosen
    columns = ACCURACY_COLUMNS
    lines = [table_head(columns)]
    for row in section["targets"]:
        cells = [f"{row['target']:.0%}"]
        for library in LIBRARIES:
            found = row[library]
            missing = f"> {section['cap'] / 60:.3g} min" if library in row["given_up"] else "no"
            cells += [f"{found['seconds']:.0f} s", str(found["steps"])] if found else [missing, ""]
        ratio = "" if row["ratio"] is None else ("" if row["open_clip"] else "< ") + f"{row['ratio']:.2f}"
        lines.append(table_line(columns, [*cells, ratio]))
    peer = "open_clip: {tower}, learning rate {lr:g}".format(**section["peer"])
    seeds = f"medians over seeds {section['seeds']}, at the best of the lengths tried; no: in none of them"
    return "\n".join([*lines, "", f"Seconds of training until zero-shot top-1 on fxemoji; {seeds}. {peer}."])
