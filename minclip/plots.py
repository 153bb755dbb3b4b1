"""Pictures of runs: loss curves, contact sheets of searches."""

from collections.abc import Sequence
from pathlib import Path

import torch
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


def contact_sheet(rows: Sequence[tuple[str, Tensor, Sequence[bool]]], notice: str = "") -> Figure:
    """Rows of small pictures, each after its text.

    A row is (text, pictures uint8 `[K, 3, H, W]`, K truths: framed green where true); notice: a line under the
    sheet, such as the pictures' licence.
    """
    columns = max(len(pictures) for _, pictures, _ in rows)
    figure = Figure(figsize=(2.4 + 0.62 * columns, 0.62 * len(rows) + 0.3), layout="constrained")
    grid = figure.add_gridspec(len(rows), columns)
    for row, (text, pictures, hits) in enumerate(rows):
        for column, (picture, hit) in enumerate(zip(pictures, hits)):
            axes = figure.add_subplot(grid[row, column], xticks=[], yticks=[])
            axes.imshow(picture.permute(1, 2, 0).numpy())
            axes.set_ylabel("" if column else text, rotation=0, ha="right", va="center", fontsize=9, parse_math=False)
            axes.spines[:].set(color="tab:green" if hit else "lightgray", linewidth=2 if hit else 0.5)
    figure.supxlabel(notice, fontsize=6, color="gray")
    return figure


def plot_search(
    queries: Sequence[str], images: Tensor, indices: Tensor, correct: Tensor | None = None, notice: str = ""
) -> Figure:
    """One row a query, its nearest pictures from left to right.

    images: uint8 `[N, 3, H, W]`; indices: long `[Q, K]` into them; correct: bool `[Q, K]`, framed green
    where true; notice: see `contact_sheet`.
    """
    hits = torch.zeros_like(indices) if correct is None else correct
    return contact_sheet([(query, images[i], hit.tolist()) for query, i, hit in zip(queries, indices, hits)], notice)
