"""The figure of benchmarks/training.py, drawn from its result file.

python benchmarks/draw_training.py results/bench_training.json    # once more, into results/bench_training.png
"""

import json
import sys
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from minclip.plots import save_figure

COLORS = {"minclip": "tab:blue", "open_clip": "tab:orange"}
PARTS = {
    "data": "tab:green", "image tower": "tab:blue", "text tower": "tab:cyan", "loss": "tab:red", "optimizer": "tab:gray"
}  # fmt: skip


def draw(path: Path) -> None:
    """Draw the sections of a result file into a PNG beside it, a panel for each that is there."""
    result = json.loads(path.read_text())
    panels = [(name, panel) for name, panel in PANELS.items() if name in result]
    if not panels:
        return
    figure = Figure(figsize=(4.4 * len(panels), 3.4), layout="constrained")
    for axes, (name, panel) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels):
        panel(axes, result[name])
    save_figure(figure, path.with_suffix(".png"))


def draw_accuracy(axes: Axes, section: dict) -> None:
    """Accuracy against seconds of training, a line for each run."""
    for library, color in COLORS.items():
        for number, run in enumerate(run for run in section["runs"] if run["library"] == library):
            seconds, top1 = ([point[key] for point in run["curve"]] for key in ("seconds", "top1"))
            axes.plot(seconds, [100 * x for x in top1], color=color, lw=1, alpha=0.7, label="" if number else library)
    for row in section["targets"]:
        axes.axhline(100 * row["target"], color="gray", lw=0.6, ls=":")
    axes.set(xlabel="seconds of training", ylabel="zero-shot top-1 on fxemoji (%)", ylim=(0, None), xscale="log")
    axes.legend(frameon=False)


def draw_steps(axes: Axes, section: dict) -> None:
    """Images/s of a step at equal towers, and of the default pipelines."""
    groups = {f"{row['tower']}\n{row['precision']}": [row[name] for name in COLORS] for row in section["equal"]}
    speed = {row["pipeline"]: row["images_per_second"] for row in section["defaults"]}
    find = lambda start: next(value for name, value in speed.items() if name.startswith(start))  # noqa: E731
    groups["defaults"] = [find("minclip, mean"), find("open_clip, its best")]
    for offset, (library, color) in enumerate(COLORS.items()):
        places = [place + 0.4 * offset for place in range(len(groups))]
        bars = axes.bar(places, [values[offset] for values in groups.values()], 0.38, color=color, label=library)
        if offset == 0:
            axes.bar_label(bars, [f"{ours / theirs:.2f} x" for ours, theirs in groups.values()], fontsize=8)
    axes.set_xticks([place + 0.2 for place in range(len(groups))], list(groups), fontsize=8)
    axes.set(ylabel="images/s in training")
    axes.margins(y=0.1)
    axes.legend(frameon=False)


def draw_breakdown(axes: Axes, section: dict) -> None:
    """The parts of a step, and the matrix products under them."""
    sizes = list(dict.fromkeys(row["size"] for row in section["rows"]))
    for place, size in enumerate(sizes):
        rows = {row["part"]: row for row in section["rows"] if row["size"] == size}
        for column, key in enumerate(("seconds", "floor_seconds")):
            bottom = 0.0
            for part, color in PARTS.items():
                height = 1e3 * rows[part][key]
                label = part if (place, column) == (0, 0) else ""
                axes.bar(2.2 * place + column, height, bottom=bottom, color=color, alpha=1 - 0.5 * column, label=label)
                bottom += height
    ticks = {2.2 * place + column: f"{kind}\n{size}" for place, size in enumerate(sizes)
             for column, kind in enumerate(("measured", "products\nalone"))}  # fmt: skip
    axes.set_xticks(list(ticks), list(ticks.values()), fontsize=8)
    axes.set(ylabel=f"ms of minclip's default step ({section['precision']})", ylim=(0, 1.3 * axes.get_ylim()[1]))
    axes.legend(frameon=False, fontsize=8, ncol=2, loc="upper left")


PANELS = {"accuracy": draw_accuracy, "steps": draw_steps, "breakdown": draw_breakdown}

if __name__ == "__main__":
    draw(Path(sys.argv[1]))
