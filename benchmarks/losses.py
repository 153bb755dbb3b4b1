"""Time and memory of the losses, forward and backward, beside open_clip's and beside the least they could take.

    python benchmarks/losses.py            # about 8 minutes on two CPU cores
    python benchmarks/losses.py --quick    # seconds: does it run?

Memory: the peak beyond inputs and gradients, each variant in a fresh process. Time: up to B = 8,192 the variants of a
loss take turns in one process, and medians count; beyond, each but the textbook's runs once, in the process that
measures its memory. The floor (peers.py): the same matrix products in tiles and nothing else, at the best of several
tile sizes, in the process that the time is from; beyond B = 8,192 for a strip of rows, and scaled.
"""

import argparse
import importlib.metadata
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from common import (
    OutOfMemory,
    PeakMemory,
    free_memory,
    in_fresh_process,
    machine,
    make_leaves,
    table_head,
    table_line,
    value_and_gradients,
)
from peers import CHUNKED, CHUNKED_PEER, PEER, TEXTBOOK, floor, open_clip_losses, variants
from torch import Tensor

from minclip.checkpoint import write_json

MATRICES = 8  # B x B matrices that a loss which is not chunked may hold at once
TAKE_TURNS = {"cpu": 8192, "cuda": 131072}  # largest batch whose variants are timed in turns
TILES = {"cpu": (512, 1024, 2048), "cuda": (2048, 4096, 8192)}  # of the floor
PATIENCE = 900  # seconds until a process is given up
COLUMNS = {"loss": -39, "B": 7, "D": 4, "seconds": 8, "x peer": 6, "floor": 6, "extra MB": 9, "x peer's": 8}


@dataclass(frozen=True)
class Case:
    """One comparison."""

    loss: str
    batch_size: int
    dim: int
    device: str
    dtype: str = "float32"

    def leaves(self) -> list[Tensor]:
        """Its inputs."""
        return make_leaves(self.loss, self.batch_size, self.dim, self.device, getattr(torch, self.dtype))


def plan(args: argparse.Namespace, device: str) -> Iterator[tuple[Case, list[str], int]]:
    """What to compare: cases, names of variants, repetitions."""
    sizes, dims = ((64,), (32,)) if args.quick else (args.sizes, args.dims)
    for dim in dims:
        for size in sizes:
            in_turns = size <= TAKE_TURNS[device]
            often = args.repetitions * 4096 // size if size <= 4096 else min(3, args.repetitions) if in_turns else 1
            for loss in PEER:
                names = [name for name in variants(loss) if in_turns or name != TEXTBOOK]
                yield Case(loss, size, dim, device), names, min(often, 100)
    for loss in PEER:  # for the report alone
        size = max((size for size in sizes if size <= 4096), default=min(sizes))
        yield Case(loss, size, dims[0], device, "bfloat16"), [CHUNKED, PEER[loss]], min(3, args.repetitions)
        if args.largest and not args.quick:
            yield Case(loss, args.largest, 64, device), [CHUNKED], 1


def compare(case: Case, names: list[str], repetitions: int) -> Iterator[dict]:
    """Measure the variants of one case; yields a row of the result file for each."""
    alone, skipped, in_turns = {}, {}, case.batch_size <= TAKE_TURNS[case.device]
    for name in names:
        try:
            alone[name] = in_fresh_process(measure, case, [name], 1, not in_turns, timeout=PATIENCE)
        except (OutOfMemory, TimeoutError) as error:
            skipped[name] = str(error)
    timed = alone
    if in_turns and alone:
        try:
            together = in_fresh_process(measure, case, list(alone), repetitions, True, timeout=2 * PATIENCE)
        except (OutOfMemory, TimeoutError) as error:
            alone, skipped, together = {}, dict.fromkeys(names, str(error)), None
        timed = dict.fromkeys(alone, together)
    peer = PEER[case.loss]
    seconds = {name: statistics.median(timed[name]["seconds"][name]) for name in alone}
    extra = {name: alone[name]["extra"][name] for name in alone}
    for name in names:
        row = {"variant": name, "loss": case.loss, "batch_size": case.batch_size, "dim": case.dim, "dtype": case.dtype}
        if name in skipped:
            yield row | {"skipped": skipped[name]}
            continue
        floor_seconds, tile = min((statistics.median(times), tile) for tile, times in timed[name]["floor"].items())
        yield row | {
            "seconds": seconds[name],
            "repetitions": len(timed[name]["seconds"][name]),
            "peak_extra_mb": extra[name] / 1e6,
            "ratio_to_peer": seconds[name] / seconds[peer] if peer in alone else None,
            "memory_ratio_to_peer": extra[name] / extra[peer] if extra.get(peer) else None,
            "floor_seconds": floor_seconds,
            "floor_tile": tile,
            "share_of_floor": floor_seconds / seconds[name],
        }


def measure(case: Case, names: list[str], repetitions: int, with_floor: bool) -> dict:
    """Seconds of every repetition and extra bytes of the first, by variant; seconds of the floor, by tile size.

    For a fresh process. The bytes of the first variant are those to believe. Raises OutOfMemory for what is missing,
    on a CPU before it comes to that: a system short of memory may end other processes than this one.
    """
    functions, leaves = {name: variants(case.loss)[name] for name in names}, case.leaves()
    image, text = (x.detach() for x in leaves[:2])
    matrix = case.batch_size**2 * image.element_size()
    if case.device == "cpu" and set(names) != {CHUNKED} and MATRICES * matrix > free_memory():
        raise OutOfMemory(f"{MATRICES} x {matrix / 1e9:.1f} GB do not fit into {free_memory() / 1e9:.1f} GB")
    for name in names:  # warm up
        value_and_gradients(functions[name], replace(case, batch_size=min(case.batch_size, 256)).leaves())
    tiles = sorted({min(tile, len(text)) for tile in TILES[case.device]}) if with_floor else []
    rows = len(text) if len(text) <= TAKE_TURNS[case.device] else max(tiles)
    floors = {tile: floor(case.loss, image[:rows], text, tile) for tile in tiles}
    seconds, floor_seconds, extra = {name: [] for name in names}, {tile: [] for tile in tiles}, {}
    for _ in range(repetitions):
        for name in names:
            with PeakMemory(case.device) as memory:
                seconds[name].append(stopwatch(case.device, value_and_gradients, functions[name], leaves))
            extra.setdefault(name, max(0, memory.extra - image.nbytes - text.nbytes))  # the gradients are no extra
        for tile in tiles:
            floor_seconds[tile].append(stopwatch(case.device, floors[tile]) * len(text) / rows)
    return {"seconds": seconds, "extra": extra, "floor": floor_seconds}


def stopwatch(device: str, function: Callable, *arguments) -> float:
    """Seconds that a call takes."""
    synchronize = torch.cuda.synchronize if device == "cuda" else lambda: None
    synchronize()
    start = time.perf_counter()
    function(*arguments)
    synchronize()
    return time.perf_counter() - start


def line(row: dict) -> str:
    """A row of the result file as a line of the table."""
    name = f"{row['loss']}: {row['variant']}" + (", bfloat16" if row["dtype"] == "bfloat16" else "")
    cells = [name, f"{row['batch_size']:,}", str(row["dim"])]
    if "skipped" in row:
        return table_line(COLUMNS, [*cells, "skipped", "", "", "", ""])
    ratio = lambda key: "" if row[key] is None else f"{row[key]:.3f}"  # noqa: E731
    cells += [f"{row['seconds']:.3f}", ratio("ratio_to_peer"), f"{row['share_of_floor']:.0%}"]
    return table_line(COLUMNS, [*cells, f"{row['peak_extra_mb']:,.1f}", ratio("memory_ratio_to_peer")])


def main(flags: Sequence[str] | None = None) -> None:
    """Measure, print the table line by line, write the result file and the figure."""
    flags = sys.argv[1:] if flags is None else flags
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1024, 2048, 4096, 8192, 16384, 32768], help="B")
    parser.add_argument("--dims", type=int, nargs="+", default=[256, 512], help="D; the figure shows the first")
    parser.add_argument("--repetitions", type=int, default=4, help="at B = 4096; more below, 3 or 1 above")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--output", type=Path, default=Path("results/bench_losses.json"), help="and the same with .png")
    parser.add_argument("--largest", type=int, default=65536, help="B of the chunked losses alone, D = 64; 0: without")
    parser.add_argument("--quick", action="store_true", help="B = 64, D = 32 alone")
    args = parser.parse_args(flags)
    if min(*args.sizes, *args.dims, args.repetitions) < 1:
        parser.error("--sizes, --dims and --repetitions must be 1 or more")
    device = args.device if args.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    open_clip_losses()  # or a word about its absence
    result = machine(device, __file__, flags)
    result |= {"open_clip": importlib.metadata.version("open_clip_torch"), "rows": []}
    print("{device}, {threads} threads, torch {torch}, open_clip {open_clip}\n".format(**result))
    print(table_head(COLUMNS))
    for case, names, repetitions in plan(args, device):
        for row in compare(case, names, repetitions):
            result["rows"].append(row)
            print(line(row), flush=True)
    print()
    args.output.parent.mkdir(parents=True, exist_ok=True)
    write_json(args.output, result)
    from draw import draw  # matplotlib, which the processes that measure need not wait for

    draw(args.output)
    for row in result["rows"]:
        if "skipped" in row:
            print(f"skipped: {row['variant']}, B = {row['batch_size']:,}, D = {row['dim']}: {row['skipped']}")
    if CHUNKED_PEER not in variants("sigmoid"):
        print(f"skipped: {CHUNKED_PEER}: open_clip {result['open_clip']} has no SigLipLoss(chunk_size=...)")
    print("floor: the part of the seconds that the matrix products alone take. extra: beyond inputs and gradients.")


if __name__ == "__main__":
    main()
