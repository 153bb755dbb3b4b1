"""Training with minclip beside training with open_clip: speed, memory, accuracy against time, and where time goes.

    python benchmarks/training.py                         # steps, breakdown, memory: see --help for the minutes
    python benchmarks/training.py --only tune accuracy    # seconds until 15 %, 25 %, 40 %: hours
    python benchmarks/training.py --quick                 # seconds: does it run?

Each part replaces its own section of the result file and leaves the others; all sections there are printed and drawn.

steps: the libraries take turns with the same towers (training_peers.py: the same function of the same weights), the
same batches, already on the device; then each library's default pipeline, pictures and tokenizing included.
breakdown: minclip's default step in parts, each beside the time that its floating-point operations would take at the
rate of a large matrix product here. memory: the peak of three first steps beyond weights and batch, which holds
gradients, optimizer state and activations, each library in a fresh process. tune, accuracy: time_to_accuracy.py.
"""

import argparse
import json
import statistics
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from common import PeakMemory, in_fresh_process, machine, table_head, table_line
from losses import stopwatch
from training_parts import PART_COLUMNS, breakdown_rows, part_line
from training_peers import (
    CONTEXT_LENGTH,
    LIBRARIES,
    TOWERS,
    PeerDataset,
    batch,
    difference,
    emoji,
    emoji_tokens,
    equal_models,
    equal_steps,
    open_clip,
    peer_model,
    peer_optimizer,
    peer_step,
    peer_version,
)

from minclip.checkpoint import write_json
from minclip.train import TrainConfig, train

EQUAL_TOWERS = ("vit", "resnet")
PEER_DEFAULT = {"precision": "fp16", "workers": 4}  # open_clip_train/params.py: --precision amp --workers 4
SECTIONS = ("steps", "breakdown", "memory", "tune", "accuracy")
STEP_COLUMNS = {"tower": -7, "precision": 9, "minclip": 12, "open_clip": 12, "ratio": 7, "middle half of it": 17}
DEFAULT_COLUMNS = {"pipeline": -49, "images/s": 9, "minclip's early": 15, "full": 6, "schedule": 8}
MEMORY_COLUMNS = {"tower": -7, "precision": 9, "minclip MB": 10, "open_clip MB": 12, "ratio": 6}


def equal_rows(args: argparse.Namespace, device: str) -> list[dict]:
    """Images/s of a training step of both libraries on the same towers, batches and precision."""
    rows = []
    for tower in EQUAL_TOWERS:
        batches = [batch(step, args.batch_size, TOWERS[tower]["image_size"], device) for step in range(3)]
        for precision in ("fp32", "bf16"):
            torch.manual_seed(0)
            models = equal_models(tower, emoji_tokens()[0].vocab_size, device)
            with_gap = difference(models, batches[0][0][:16], batches[0][1][:16])
            steps = equal_steps(tower, precision, device, models)
            seconds = {name: [] for name in LIBRARIES}
            for repetition in range(-args.warm_up, args.repetitions):
                order = LIBRARIES if repetition % 2 else LIBRARIES[::-1]  # neither always follows the other
                taken = {name: stopwatch(device, steps[name], *batches[repetition % 3]) for name in order}
                if repetition >= 0:
                    for name in LIBRARIES:
                        seconds[name].append(taken[name])
            ratios = [b / a for a, b in zip(seconds["minclip"], seconds["open_clip"])]
            row = {"tower": tower, "precision": precision, "batch_size": args.batch_size, "difference": with_gap}
            row |= {f"parameters_{name}": sum(p.numel() for p in models[name].parameters()) for name in LIBRARIES}
            row |= {f"seconds_{name}": seconds[name] for name in LIBRARIES}
            row |= {name: args.batch_size / statistics.median(seconds[name]) for name in LIBRARIES}
            row |= {"ratio": row["minclip"] / row["open_clip"], "ratio_quartiles": quartiles(ratios)}
            rows.append(row)
            print(step_line(row), flush=True)
    return rows


def quartiles(values: list[float]) -> list[float]:
    """Where the middle half of the values lies."""
    return [values[0]] * 2 if len(values) < 2 else statistics.quantiles(values, n=4)[::2]


def default_rows(args: argparse.Namespace, device: str) -> list[dict]:
    """Images/s of both libraries' default pipelines, in turns; open_clip's as it is, and at its best here.

    Its best: of --workers 0, 1, 2, 4 and of the three precisions, chosen by a short measurement. The tower of
    open_clip is its ResNet of minclip's width with one block a stage at 32 px, its text tower minclip's with
    open_clip's 77 tokens and 49,408 entries.
    """
    dataset = PeerDataset(32, 4 * args.batch_size if args.quick else None)
    fastest = lambda candidates: max(candidates, key=lambda c: peer_speed(args, device, dataset, **c))  # noqa: E731
    workers = fastest([{"precision": "bf16", "workers": n} for n in ((0,) if args.quick else (0, 1, 2, 4))])["workers"]
    names = ("fp32", "bf16") if device == "cpu" else ("fp32", "bf16", "fp16")  # on a CPU, fp16 is 30 times slower
    best = fastest([{"precision": precision, "workers": workers} for precision in names])
    variants = {
        "minclip, early steps": lambda: minclip_speed(args, device, early_fraction=1.0),
        "minclip, full size": lambda: minclip_speed(args, device, early_fraction=0.0),
        f"open_clip, its best ({best['precision']}, {best['workers']} workers)": lambda: peer_speed(
            args, device, dataset, **best
        ),
    }
    speeds = {name: [] for name in variants}
    for _ in range(args.chunks):
        for name, measure in variants.items():
            speeds[name].append(measure())
    if not args.quick:
        once = peer_speed(args, device, dataset, **PEER_DEFAULT, steps=2 if device == "cpu" else None)
        speeds["open_clip, as it is (amp = fp16, 4 workers)"] = [once]
    rows = [{"pipeline": name, "images_per_second": statistics.median(s), "all": s} for name, s in speeds.items()]
    early, full = (row["images_per_second"] for row in rows[:2])
    share = TrainConfig().early_fraction
    mean = {"pipeline": f"minclip, mean over its schedule ({share:.0%} early)", "all": []}
    rows.insert(2, mean | {"images_per_second": 1 / (share / early + (1 - share) / full)})
    for row in rows:
        row |= {"ratios": [minclip["images_per_second"] / row["images_per_second"] for minclip in rows[:3]]}
        print(default_line(row), flush=True)
    return rows


def minclip_speed(args: argparse.Namespace, device: str, early_fraction: float) -> float:
    """Images/s of minclip.train itself, everything in the loop included, after a warm-up."""
    marks = {}

    def on_step(step: int, _: torch.nn.Module) -> None:
        if step in (args.warm_up, args.warm_up + args.chunk_steps):
            if device == "cuda":
                torch.cuda.synchronize()
            marks[step] = time.perf_counter()

    config = TrainConfig(batch_size=args.batch_size, max_steps=args.warm_up + args.chunk_steps, output_dir="")
    config = replace(config, early_fraction=early_fraction, warmup_steps=1, progress=False)
    with quiet():
        train(config, on_step, emoji())
    first, last = marks.values()
    return args.chunk_steps * args.batch_size / (last - first)


def peer_speed(
    args: argparse.Namespace,
    device: str,
    dataset: PeerDataset,
    precision: str,
    workers: int,
    steps: int | None = None,
) -> float:
    """Images/s of open_clip's pipeline, after as many steps as its workers may have prepared in advance."""
    steps = steps or args.chunk_steps
    warm_up = 1 if steps < args.chunk_steps else max(args.warm_up, 2 * workers + 1)
    torch.manual_seed(0)
    model = peer_model("resnet, 32 px", 49408, 77, pool_type="argmax").to(device)
    step = peer_step(model, device, precision, peer_optimizer(model, "resnet"))
    loader = torch.utils.data.DataLoader(
        dataset, args.batch_size, shuffle=True, num_workers=workers, pin_memory=device == "cuda", drop_last=True
    )
    began = 0.0
    for done, (images, ids) in enumerate(loader, 1):
        step(images.to(device, non_blocking=True), ids.to(device, non_blocking=True))
        if done in (warm_up, warm_up + steps):
            if device == "cuda":
                torch.cuda.synchronize()
            if done > warm_up:
                return steps * args.batch_size / (time.perf_counter() - began)  # the loader's workers end here
            began = time.perf_counter()
    raise ValueError(f"{len(loader)} batches are fewer than the {warm_up + steps} to measure; lower --chunk_steps")


def quiet():
    """Do not print what train says of itself."""
    import contextlib
    import io

    return contextlib.redirect_stdout(io.StringIO())


def memory_rows(args: argparse.Namespace, device: str) -> list[dict]:
    """Peak memory of the first steps of both libraries at equal towers, each alone in a fresh process."""
    rows = []
    for tower in EQUAL_TOWERS:
        for precision in ("fp32", "bf16"):
            row = {"tower": tower, "precision": precision, "batch_size": args.batch_size}
            asked = (tower, precision, device, args.batch_size)
            for name in LIBRARIES:  # the allocator's luck moves one process by a tenth
                runs = [in_fresh_process(memory_of_steps, name, *asked, timeout=600) for _ in range(args.memory_runs)]
                row |= {name: statistics.median(runs), f"all_{name}": runs}
            rows.append(row | {"ratio": row["minclip"] / row["open_clip"]})
            print(memory_line(rows[-1]), flush=True)
    return rows


def memory_of_steps(library: str, tower: str, precision: str, device: str, batch_size: int) -> int:
    """Bytes beyond weights and batch at the worst moment of three first steps."""
    open_clip()  # both with the same libraries in memory
    torch.manual_seed(0)
    models = equal_models(tower, emoji_tokens()[0].vocab_size, device)
    step = equal_steps(tower, precision, device, models)[library]
    batches = [batch(number, batch_size, TOWERS[tower]["image_size"], device) for number in range(3)]
    with PeakMemory(device) as memory:
        for images, ids in batches:
            step(images, ids)
    return memory.extra


def step_line(row: dict) -> str:
    """A row of the equal steps as a line of the table."""
    speeds = [f"{row[name]:,.0f}" for name in LIBRARIES]
    spread = "–".join(f"{value:.2f}" for value in row["ratio_quartiles"])
    return table_line(STEP_COLUMNS, [row["tower"], row["precision"], *speeds, f"{row['ratio']:.2f}", spread])


def default_line(row: dict) -> str:
    """A row of the default pipelines as a line of the table."""
    ratios = ["" if row["pipeline"].startswith("minclip") else f"{ratio:.2f}" for ratio in row["ratios"]]
    return table_line(DEFAULT_COLUMNS, [row["pipeline"], f"{row['images_per_second']:,.0f}", *ratios])


def memory_line(row: dict) -> str:
    """A row of the memory as a line of the table."""
    megabytes = [f"{row[name] / 1e6:,.0f}" for name in LIBRARIES]
    return table_line(MEMORY_COLUMNS, [row["tower"], row["precision"], *megabytes, f"{row['ratio']:.2f}"])


def report(result: dict) -> None:
    """Print every section of a result file as Markdown."""
    from time_to_accuracy import accuracy_tables

    for name in SECTIONS:
        if name not in result:
            continue
        section = result[name]
        print("\n### {}: {device}, {threads} threads, torch {torch}, open_clip {open_clip}\n".format(name, **section))
        if name == "steps":
            print("Images/s of a training step, the same towers and weights, batch", section["equal"][0]["batch_size"])
            print(f"\n{table_head(STEP_COLUMNS)}")
            print(*map(step_line, section["equal"]), sep="\n")
            print("\nImages/s of the default pipelines; on the right minclip's as a multiple\n")
            print(table_head(DEFAULT_COLUMNS))
            print(*map(default_line, section["defaults"]), sep="\n")
        elif name == "breakdown":
            for size in dict.fromkeys(row["size"] for row in section["rows"]):
                rows = [row for row in section["rows"] if row["size"] == size]
                print(f"minclip's default step ({section['precision']}), {size}\n\n{table_head(PART_COLUMNS)}")
                print(*map(part_line, rows), sep="\n")
                data, step = (row["images_per_second"] for row in (rows[0], rows[-1]))
                print(f"\nimages/s: {step:,.0f} in a step, {data:,.0f} through the data path alone\n")
            print(
                f"floor: the operations at the {section['matmul_gflops']:,.0f} GFLOP/s of a large matrix product here"
            )
        elif name == "memory":
            print(table_head(MEMORY_COLUMNS))
            print(*map(memory_line, section["rows"]), sep="\n")
        else:
            print(accuracy_tables(name, section))


def main(flags: Sequence[str] | None = None) -> None:
    """Measure the parts asked for, write the result file, print and draw all of it."""
    from time_to_accuracy import accuracy, add_flags, tune

    flags = sys.argv[1:] if flags is None else flags
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=SECTIONS, nargs="+", default=["steps", "breakdown", "memory"])
    parser.add_argument("--batch_size", type=int, default=256)
    parser.add_argument("--repetitions", type=int, default=15, help="steps of each library, and of each part")
    parser.add_argument("--warm_up", type=int, default=3, help="steps before them")
    parser.add_argument("--chunks", type=int, default=5, help="how often the default pipelines take turns")
    parser.add_argument("--chunk_steps", type=int, default=15, help="steps of each turn")
    parser.add_argument("--memory_runs", type=int, default=3, help="processes of each library and tower")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--output", type=Path, default=Path("results/bench_training.json"), help="and with .png")
    parser.add_argument("--quick", action="store_true", help="a batch of 16, one repetition: does it run?")
    add_flags(parser)
    args = parser.parse_args(flags)
    if args.quick:
        args.batch_size, args.repetitions, args.warm_up, args.chunks, args.chunk_steps = 16, 1, 1, 1, 1
    if min(args.batch_size, args.repetitions, args.warm_up, args.chunks, args.chunk_steps) < 1:
        parser.error("--batch_size, --repetitions, --warm_up, --chunks and --chunk_steps must be 1 or more")
    if args.every % 5 or args.every < 1:
        parser.error("--every must be a multiple of 5, the steps from one line of minclip's log to the next")
    device = args.device if args.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    open_clip()  # or a word about its absence
    warnings.filterwarnings("ignore", "This DataLoader will create")  # 4 workers on two cores are its default
    if device == "cuda":  # as open_clip_train/main.py sets them; for both
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True
    head = machine(device, __file__, flags) | {"open_clip": peer_version(), "context_length": CONTEXT_LENGTH}
    result = json.loads(args.output.read_text()) if args.output.exists() else {}
    args.output.parent.mkdir(parents=True, exist_ok=True)

    def keep(name: str, section: dict) -> None:
        result[name] = head | section
        write_json(args.output, {key: result[key] for key in SECTIONS if key in result})

    for name in [section for section in SECTIONS if section in args.only]:
        print(f"measuring {name} on {head['device']}", flush=True)
        if name == "steps":
            keep(name, {"equal": equal_rows(args, device), "defaults": default_rows(args, device)})
        elif name == "breakdown":
            keep(name, breakdown_rows(args, device))
        elif name == "memory":
            keep(name, {"rows": memory_rows(args, device)})
        elif name == "tune":
            keep(name, tune(args, device))
        else:
            accuracy(args, device, result.get("tune"), lambda section: keep("accuracy", section), result.get(name))
    report(result)
    from draw_training import draw  # matplotlib, which the processes that measure need not wait for

    draw(args.output)


if __name__ == "__main__":
    main()
