"""What processes send each other for one batch: every feature gathered everywhere, or blocks of texts in a ring.

    python benchmarks/scaling.py    # on 1, 2 and 4 processes of this machine: about a minute

All-gather is the textbook way: each process gathers the images and texts of all, with gradient, and computes the
rows and the columns of its own pairs. The rings are minclip's chunked losses. Each process has one thread, the
batch is the same for any number of processes, and what DistributedDataParallel sends afterwards is not counted.
"""

import argparse
import faulthandler
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from common import machine, make_leaves, table_head, table_line, value_and_gradients
from traffic import MILLION, VARIANTS, Sent, arithmetic, bytes_sent

from minclip.checkpoint import write_json

PATIENCE = 120  # seconds for a message, and for a process beyond its work, before an error
COLUMNS = {"loss": -18, "processes": 9, "sent MB": 12, "features": 12, "gradients": 12, "normalisers": 12}


def work(args: argparse.Namespace) -> None:
    """What each process does, started by torchrun; process 0 writes the rows to `args.worker`."""
    faulthandler.dump_traceback_later(args.limit, exit=True)
    dist.init_process_group("gloo", timeout=timedelta(seconds=PATIENCE))
    rank, world, size = dist.get_rank(), dist.get_world_size(), args.batch_size // dist.get_world_size()
    own, rows, leaves = slice(rank * size, (rank + 1) * size), {}, {}
    for variant, (loss_fn, textbook) in VARIANTS.items():
        whole = make_leaves(variant.split()[-1], args.batch_size, args.dim, dtype=torch.float64)
        local = [x.detach()[own if x.dim() else ...] for x in whole]
        exact = [x.requires_grad_() for x in local]
        leaves[variant] = [x.detach().float().requires_grad_() for x in local]
        with Sent() as sent:
            value_and_gradients(loss_fn, leaves[variant])
        rows[variant] = {
            "variant": variant,
            "processes": world,
            "batch_size": args.batch_size,
            "dim": args.dim,
            "bytes_sent": sent.tensors,
            "bytes_by_kind": bytes_sent(variant, world, args.batch_size, args.dim),
            "bytes_of_checks": sent.checks,
            "error": largest_error(value_and_gradients(loss_fn, exact), value_and_gradients(textbook, whole), own),
        }
    seconds = {variant: [] for variant in VARIANTS}
    for _ in range(args.repetitions):
        for variant, (loss_fn, _) in VARIANTS.items():
            dist.barrier()
            start = time.perf_counter()
            value_and_gradients(loss_fn, leaves[variant])
            dist.barrier()  # the slowest counts
            seconds[variant].append(time.perf_counter() - start)
    if rank == 0:
        rows = [row | {"seconds": statistics.median(seconds[variant])} for variant, row in rows.items()]
        Path(args.worker).write_text(json.dumps(rows))
    dist.destroy_process_group()


def largest_error(found: tuple, expected: tuple, own: slice) -> float:
    """How far a loss and its gradients are from the whole batch's, relative to the largest of each, on any process.

    Design section 3: means over the W processes are the whole batch's, so a feature's gradient is W times its.
    """
    world, errors = dist.get_world_size(), []
    for x, y in zip((found[0], *found[1]), (expected[0], *expected[1]), strict=True):
        if x.dim() == 0:
            dist.all_reduce(x)
        errors.append((x / world - (y if y.dim() == 0 else y[own])).abs().max() / y.abs().max())
    worst = torch.stack(errors).max()
    dist.all_reduce(worst, dist.ReduceOp.MAX)
    return worst.item()


def launch(processes: int, args: argparse.Namespace) -> list[dict]:
    """Run `work` on so many processes of this machine; raises RuntimeError if it fails or takes too long."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "rows.json"
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local_addr", "127.0.0.1"]
        command += ["--nproc_per_node", str(processes), __file__, "--worker", str(report)]
        for name in ("batch_size", "dim", "repetitions", "limit"):
            command += [f"--{name}", str(getattr(args, name))]
        loopback = "lo0" if sys.platform == "darwin" else "lo"
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": loopback}
        with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as torchrun:
            try:
                _, errors = torchrun.communicate(timeout=args.limit + PATIENCE)
            except subprocess.TimeoutExpired:
                raise RuntimeError(f"{processes} processes took more than {args.limit:g} s") from None
            finally:
                torchrun.kill()  # if it lives still; what it has started ends by itself, at the limit
        if torchrun.returncode != 0:
            raise RuntimeError(f"{processes} processes failed:\n{errors[-6000:]}")
        return json.loads(report.read_text())


def table(rows: Sequence[dict]) -> str:
    """Megabytes that a process sends, in all and by kind, and the seconds if they were measured."""
    columns = COLUMNS | ({"seconds": 7} if "seconds" in rows[0] else {})
    lines = [table_head(columns)]
    for row in rows:
        kinds = row["bytes_by_kind"].values()
        cells = [row["variant"], str(row["processes"])]
        cells += [f"{x / 1e6:,.2f}" for x in (row.get("bytes_sent", sum(kinds)), *kinds)]
        lines.append(table_line(columns, cells + ([f"{row['seconds']:.3f}"] if "seconds" in row else [])))
    return "\n".join(lines)


def main(flags: Sequence[str] | None = None) -> None:
    """Measure on several numbers of processes, print the tables, write the result file."""
    flags = sys.argv[1:] if flags is None else flags
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--batch_size", type=int, default=4096, help="of all processes together")
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--limit", type=float, default=600, help="seconds before processes are given up")
    parser.add_argument("--output", type=Path, default=Path("results/bench_scaling.json"))
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args(flags)
    if args.worker:
        return work(args)
    if min(*args.processes, args.batch_size, args.dim, args.repetitions) < 1:
        parser.error("--processes, --batch_size, --dim and --repetitions must be 1 or more")
    uneven = [w for w in args.processes if args.batch_size % w]
    if uneven:
        parser.error(f"--batch_size {args.batch_size} cannot be split evenly among {uneven[0]} processes")
    result = machine("cpu", __file__, flags) | {"threads": 1}  # of each process
    try:
        result["rows"] = [row for processes in args.processes for row in launch(processes, args)]
    except RuntimeError as error:
        raise SystemExit(f"error: {error}") from error
    result["arithmetic"] = arithmetic()
    args.output.parent.mkdir(parents=True, exist_ok=True)
    write_json(args.output, result)
    print(f"Measured: B = {args.batch_size:,}, D = {args.dim}, sent by each process\n\n{table(result['rows'])}")
    batch = f"B = {MILLION['batch_size']:,}, D = {MILLION['dim']}"
    print(f"\nArithmetic, nothing of it measured: {batch}, sent by each process\n\n{table(result['arithmetic'])}")


if __name__ == "__main__":
    main()
