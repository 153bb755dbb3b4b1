"""Pictures of runs: loss curves and contact sheets of searches."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from torch import Tensor

from minclip.checkpoint import write_atomically

FIGURE_SIZE = (3.5, 2.5)  # inches, as in d2l: one size for every small figure


def save_figure(figure: Figure, path: str | Path, dpi: int = 150) -> None:
    """Write a PNG atomically."""
    write_atomically(path, lambda part: figure.savefig(part, format="png", dpi=dpi, bbox_inches="tight"))


def plot_curves(history: Sequence[dict], uninformed_loss: float) -> Figure:
    """Loss and inverse temperature against steps; `history` holds lines of metrics.jsonl."""
    figure = Figure(figsize=(2 * FIGURE_SIZE[0], FIGURE_SIZE[1]), layout="constrained")
    left, right = figure.subplots(1, 2)
    steps = [line["step"] for line in history]
    left.plot(steps, [line["loss"] for line in history], lw=1, label="training loss")
    left.axhline(uninformed_loss, color="gray", ls="--", lw=1, label="uninformed model")
    left.set(xlabel="step", ylabel="loss (nats)", ylim=(0, None))
    left.legend(frameon=False, fontsize=8)
    right.plot(steps, [line["logit_scale"] for line in history], lw=1, color="C1")
    right.set(xlabel="step", ylabel="exp(logit_scale)", ylim=(0, None))
    return figure


def plot_search(
    queries: Sequence[str], images: Tensor, indices: Tensor, correct: Tensor | None = None, notice: str = ""
) -> Figure:
    """A contact sheet: one row a query, its nearest pictures from left to right.

    images: uint8 `[N, 3, H, W]`; indices: long `[Q, K]` into them; correct: bool `[Q, K]`, framed green
    where true; notice: a line under the sheet, such as the pictures' licence.
    """
    rows, columns = indices.shape
    figure = Figure(figsize=(2.4 + 0.62 * columns, 0.62 * rows + 0.3), layout="constrained")
    grid = figure.add_gridspec(rows, columns + 1, width_ratios=[2.4 / 0.62] + [1] * columns)
    for row, query in enumerate(queries):
        label = figure.add_subplot(grid[row, 0])
        label.axis("off")
        label.text(1, 0.5, query, ha="right", va="center", fontsize=9, transform=label.transAxes)
        for column in range(columns):
            axes = figure.add_subplot(grid[row, column + 1])
            axes.imshow(images[indices[row, column]].permute(1, 2, 0).numpy())
            axes.set(xticks=[], yticks=[])
            hit = correct is not None and bool(correct[row, column])
            for side in axes.spines.values():
                side.set(color="tab:green" if hit else "lightgray", linewidth=2 if hit else 0.5)
    if notice:
        figure.supxlabel(notice, fontsize=6, color="gray")
    return figure
