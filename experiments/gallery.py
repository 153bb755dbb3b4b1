"""The README's gallery: five figures of the papers, redrawn from the committed results, and the tally of verdicts.

    python -m experiments.gallery     # writes docs/gallery_*.png and the tally in README.md

Every number comes from results/<claim>.json; error bars are 95 % intervals over seeds (`claims.means`).
"""

import re
from collections import Counter

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter

from experiments.claims import load_claims, means, read_result
from experiments.clipa_image_tokens import name as width_name
from experiments.robustness import SUPERVISED, baseline, logit
from experiments.shots import SHOTS
from experiments.sweep import ROOT
from experiments.tokens import WIDTHS
from experiments.transfer import BENCHMARK, FAR
from experiments.verdicts import VERDICTS, effect_of, values
from minclip.checkpoint import write_atomically
from minclip.plots import FIGURE_SIZE, save_figure

BLUE, ORANGE, GREEN, PINK, RED = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00"  # Okabe and Ito's
TALLY = re.compile(r"(<!-- TALLY -->\n).*?(\n<!-- /TALLY -->)", re.DOTALL)


def percent(record: dict, setting: str, key: str) -> tuple[float, float]:
    """Mean over seeds and half its interval, in percent."""
    (y,), (half,) = means(record, [setting], key)
    return 100 * y, 100 * half


def draw_few_shot(ax: Axes) -> None:
    """CLIP, Figure 6: zero-shot against probes of few shots, at home and on the far artist."""
    record = read_result("clip-zero-shot-vs-few-shot")
    (name,) = record["settings"]
    for artist, color, label in ((BENCHMARK, BLUE, "artist of the shots"), (FAR, ORANGE, "unseen artist")):
        points = [percent(record, name, f"probe_{k}_{artist}") for k in SHOTS]
        ax.errorbar(SHOTS, *zip(*points), fmt="o-", ms=3, lw=1, capsize=2, color=color, label=f"probe, {label}")
        zero, _ = percent(record, name, f"zero_{artist}")
        ax.axhline(zero, color=color, ls="--", lw=1, label=f"zero-shot, {label}")
    ax.set(xscale="log", xlabel="labelled pictures a class", ylabel="top-1 of 23 kinds (%)", ylim=(0, None))
    ax.set_xticks(SHOTS, SHOTS), ax.minorticks_off()


def logit_axes(ax: Axes, low: float, high: float) -> None:
    """Both axes as logits, labelled in percent."""
    ticks = [p for p in (5, 10, 20, 30, 40, 50, 60, 70, 80, 90) if low <= p / 100 <= high]
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(FixedLocator([logit(p / 100) for p in ticks]))
        axis.set_major_formatter(FuncFormatter(lambda _, place: str(ticks[place])))
    ax.set(xlim=(logit(low), logit(high)), ylim=(logit(low), logit(high)))


def draw_robustness(ax: Axes) -> None:
    """CLIP, Figure 13: accuracy on the artist that supervised models know against an unseen one; one point a seed."""
    record = read_result("clip-effective-robustness")
    wide, narrow = record["settings"]

    def points(setting: str, model: str) -> list[tuple[float, float]]:
        home, away = (values(record["measurements"], setting, f"{model}_{a}") for a in (BENCHMARK, FAR))
        return [(home[seed], away[seed]) for seed in home]

    supervised = [p for width, steps in SUPERVISED for p in points(wide, f"supervised_{width}_{steps}")]
    kinds = {
        "supervised on that artist": (supervised, "s", BLUE),
        "probe on CLIP": (points(wide, "probe"), "^", GREEN),
        "zero-shot CLIP": (points(wide, "zero") + points(narrow, "zero"), "o", RED),
        "labels of CLIP's pictures": (points(wide, "own"), "x", PINK),
    }
    for label, (found, mark, color) in kinds.items():
        ax.plot(*zip(*[(logit(x), logit(y)) for x, y in found]), mark, ms=4, color=color, label=label)
    intercept, slope = baseline(supervised)
    ends = [logit(0.05), logit(0.75)]
    ax.plot(ends, [intercept + slope * x for x in ends], color=BLUE, lw=1)
    ax.plot(ends, ends, color="gray", ls=":", lw=1, label="no loss")
    logit_axes(ax, 0.05, 0.75)
    ax.set(xlabel="top-1, artist of the labels (%)", ylabel="top-1, unseen artist (%)")


def draw_bias(ax: Axes) -> None:
    """SigLIP, Table 4: where bias and temperature start."""
    record = read_result("siglip-bias-init")
    names = [
        n for n in record["settings"] if n.endswith(("log 10", "log 1")) and "constant" not in n and "rel" not in n
    ]
    found = [percent(record, name, "in_distribution") for name in names]
    paper = "b -10, t' log 10"  # where SigLIP starts
    colors = [RED if name == paper else BLUE for name in names]
    ax.barh(range(len(names)), [y for y, _ in found], xerr=[h for _, h in found], color=colors, capsize=2, height=0.7)
    ax.set_yticks(range(len(names)), names, fontsize=7)
    ax.invert_yaxis()
    ax.set(xlabel="zero-shot top-1 (%)")


def draw_syntax(ax: Axes) -> None:
    """CLIPA, Figure 7: captions cut to two words, asked for nouns and for adjectives."""
    record = read_result("clipa-syntax")
    names = ["all tokens", "truncate 4", "random 4", "block 4", "syntax 4"]
    for key, color, beside in (("noun", BLUE, -0.2), ("adjective", ORANGE, 0.2)):
        found = [percent(record, name, key) for name in names]
        places = [i + beside for i in range(len(names))]
        ax.bar(places, [y for y, _ in found], 0.38, yerr=[h for _, h in found], color=color, capsize=2,
               label=f"asked for {key}s")  # fmt: skip
    ax.axhline(100 / 8, color="k", ls=":", lw=1, label="chance")
    labels = ["all\nwords", *(f"{name.split()[0]}\ntwo" for name in names[1:])]
    ax.set_xticks(range(len(names)), labels, fontsize=6)
    ax.set(ylabel="top-1 of eight (%)", ylim=(0, 105))


def draw_tokens(ax: Axes) -> None:
    """CLIPA, Figure 4: what fewer tokens cost by the width of the tower; after tuning on all tokens."""
    record = read_result("clipa-image-tokens")
    for strategy, color in (("resize", BLUE), ("random", ORANGE), ("grid", GREEN), ("block", PINK)):
        drops = []
        for width in WIDTHS:
            full, few = (values(record["measurements"], width_name(width, *few), "in_distribution")
                         for few in ((), (16, strategy)))  # fmt: skip
            drops.append(effect_of([100 * (full[seed] - few[seed]) for seed in full]))
        y, half = [d["mean"] for d in drops], [d["ci95"][1] - d["mean"] for d in drops]
        ax.errorbar(WIDTHS, y, half, fmt="o-", ms=3, lw=1, capsize=2, color=color, label=strategy)
    ax.axhline(0, color="gray", ls=":", lw=1)
    ax.set(xscale="log", xlabel="width of the ViT", ylabel="top-1 lost with 16 of 64 tokens (points)")
    ax.yaxis.label.set_size(8)
    ax.set_xticks(WIDTHS, WIDTHS), ax.minorticks_off()


FIGURES = {
    "few_shot": draw_few_shot, "robustness": draw_robustness, "bias": draw_bias, "syntax": draw_syntax,
    "tokens": draw_tokens,
}  # fmt: skip


def draw(name: str) -> Figure:
    """One figure of the gallery, with its legend below."""
    figure = Figure(figsize=(FIGURE_SIZE[0], FIGURE_SIZE[1] + 0.5), layout="constrained")
    ax = figure.subplots()
    FIGURES[name](ax)
    handles, labels = ax.get_legend_handles_labels()
    if labels:
        figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=7)
    return figure


def tally() -> str:
    """How many claims ended how, in one sentence of Markdown."""
    files = [ROOT / "results" / f"{id}.json" for id in load_claims()]
    counts = Counter(read_result(path.stem)["verdict"] for path in files if path.exists())
    said = ", ".join(f"**{counts[verdict]}** {verdict}" for verdict in VERDICTS)
    return f"{sum(counts.values())} claims: {said}."


def main() -> None:
    """Write the figures, and the tally where README.md has its marks."""
    for name in FIGURES:
        save_figure(draw(name), ROOT / "docs" / f"gallery_{name}.png")
    readme = ROOT / "README.md"
    text = TALLY.sub(lambda found: found[1] + tally() + found[2], readme.read_text(encoding="utf-8"))
    write_atomically(readme, lambda part: part.write_text(text, encoding="utf-8"))


if __name__ == "__main__":
    main()
