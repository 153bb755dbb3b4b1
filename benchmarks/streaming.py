"""Is training from a stream as fast as from memory? The demo's model on the same WebDataset shards, both ways.

    python benchmarks/streaming.py      # about five minutes on two idle CPU cores

The embedded emoji are written as shards (WebP pictures of 64 x 64 pixels, their names as captions). Each round trains
the demo (`train.py`'s defaults) for some windows from memory, and from a stream with one pass and with two passes a
window, in turns. The clock runs from the second window on, and the run would go on, so that one window is read for
each that is trained on. Writes results/bench_streaming.json: medians over the rounds of pairs a second.
"""

import argparse
import io
import statistics
import sys
import tarfile
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).resolve().parent)]

from common import machine  # noqa: E402

from minclip.checkpoint import write_json  # noqa: E402
from minclip.sources import EMOJI_DIR, Reading, read_parquet  # noqa: E402
from minclip.train import TrainConfig, train  # noqa: E402

SETTINGS = {"memory": {}, "stream": {"streaming": True}, "stream, 2 passes": {"streaming": True, "window_passes": 2}}


class Enough(Exception):
    """The clock has been read."""


def write_shards(folder: Path, count: int) -> int:
    """The training emoji as `count` WebDataset shards; returns the number of pairs."""
    rows = read_parquet([EMOJI_DIR / "train.parquet"])
    n = len(rows["image"])
    for shard in range(count):
        with tarfile.open(folder / f"{shard:05}.tar", "w") as tar:
            for i in range(shard, n, count):
                for ending, content in (("webp", rows["image"][i]["bytes"]), ("txt", rows["name"][i].encode())):
                    member = tarfile.TarInfo(f"{i}.{ending}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    return n


def pairs_a_second(data: Path, reading: Reading, windows: int) -> float:
    """Speed of the demo's training over `windows` windows, after a first one."""
    config = TrainConfig(output_dir="", data=str(data), reading=reading, precision="fp32", progress=False)
    steps = reading.window // config.batch_size  # of one pass
    first, last = steps * reading.window_passes, steps * (reading.window_passes + windows)
    marks = {}

    def on_step(step: int, _) -> None:
        if step in (first, last):
            marks[step] = time.perf_counter()
        if step == last:
            raise Enough

    before = set(threading.enumerate())
    try:
        train(config, on_step)
    except Enough:
        pass
    for thread in set(threading.enumerate()) - before:
        if thread.daemon and "_monitor" not in thread.name:
            thread.join(60)  # it still reads a window, which must not slow down the next run
    return (last - first) * config.batch_size / (marks[last] - marks[first])


def main() -> None:
    """Write the shards, measure in turns, print and keep the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--windows", type=int, default=4, help="windows that are timed; even, for two passes each")
    parser.add_argument("--window", type=int, default=4096)
    parser.add_argument("--output", type=Path, default=ROOT / "results/bench_streaming.json")
    args = parser.parse_args()
    speeds = {name: [] for name in SETTINGS}
    with tempfile.TemporaryDirectory() as folder:
        n = write_shards(Path(folder), 16)
        for _ in range(args.rounds):
            for name, changes in SETTINGS.items():
                reading = Reading(window=args.window, **changes)
                speeds[name].append(round(pairs_a_second(Path(folder), reading, args.windows), 1))
                print(f"{name:16} {speeds[name][-1]:8.1f} pairs a second", flush=True)
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    ratios = {name: round(medians[name] / medians["memory"], 3) for name in SETTINGS}
    print(
        "\n".join(f"{name:16} {medians[name]:8.1f} pairs a second, {ratios[name]:.0%} of memory" for name in SETTINGS)
    )
    settings = {"pairs": n, "rounds": args.rounds, "windows": args.windows, "window": args.window}
    flags = [arg for arg in sys.argv[1:] if not arg.startswith("--output")]
    write_json(
        args.output,
        {**machine("cpu", __file__, flags), **settings, "speeds": speeds, "medians": medians, "ratios": ratios},
    )


if __name__ == "__main__":
    main()
