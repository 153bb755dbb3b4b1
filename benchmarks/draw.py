"""The figure of benchmarks/losses.py, drawn from its result file.

python benchmarks/draw.py results/bench_losses.json    # once more, into results/bench_losses.png
"""

import json
import sys
from pathlib import Path

from matplotlib.figure import Figure
from peers import CHUNKED, CHUNKED_PEER, PEER, TEXTBOOK

from minclip.plots import save_figure


def draw(path: Path) -> None:
    """Draw the rows of a result file, those of its first D, into a PNG beside it."""
    rows = json.loads(path.read_text())["rows"]
    save_figure(plot(rows, rows[0]["dim"]), path.with_suffix(".png"))


def plot(rows: list[dict], dim: int) -> Figure:
    """Time and memory against the batch size: a colour for each loss, a line style for each implementation."""
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    rows = [row for row in rows if row["dim"] == dim and row["dtype"] == "float32" and "skipped" not in row]
    colors = {"sigmoid": "tab:blue", "softmax": "tab:orange"}
    styles = {CHUNKED: "-o", TEXTBOOK: ":s", PEER["softmax"]: "--^", PEER["sigmoid"]: "--^", CHUNKED_PEER: "-.v"}
    for axes, key, label in zip(
        figure.subplots(1, 2),
        ("seconds", "peak_extra_mb"),
        ("forward + backward (seconds)", "peak memory beyond inputs\nand gradients (MB)"),
    ):
        for loss, variant in dict.fromkeys((row["loss"], row["variant"]) for row in rows):
            points = [row for row in rows if (row["loss"], row["variant"]) == (loss, variant)]
            sizes = [row["batch_size"] for row in points]
            values = [row[key] for row in points]
            name = f"{variant} {loss}" if variant.startswith("minclip") else variant
            axes.loglog(sizes, values, styles[variant], color=colors[loss], lw=1.2, ms=3.5, label=name)
            if key == "seconds" and variant == CHUNKED:
                floors = [row["floor_seconds"] for row in points]
                axes.loglog(sizes, floors, color=colors[loss], lw=4, alpha=0.25, label=f"{loss}: products alone")
        sizes = sorted({row["batch_size"] for row in rows})
        axes.set(xlabel=f"batch size B (pairs), D = {dim}", ylabel=label)
        axes.set_xticks(sizes, [f"{size // 1024}k" if size >= 1024 else str(size) for size in sizes])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return figure


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
