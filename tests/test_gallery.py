"""The README's gallery and tally are those of the committed results."""

import json
import re

import pytest
from matplotlib.container import BarContainer, ErrorbarContainer

from experiments import gallery
from experiments.claims import ROOT, load_claims, read_result
from experiments.verdicts import VERDICTS

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_tally_counts_the_verdicts():
    found = [json.loads(path.read_text())["verdict"] for path in (ROOT / "results").glob("*.json")
             if path.stem in load_claims()]  # fmt: skip
    said = gallery.tally()
    assert said.startswith(f"{len(found)} claims: ")
    assert [int(n) for n in re.findall(r"\*\*(\d+)\*\*", said)] == [found.count(v) for v in VERDICTS]


def test_the_readme_shows_the_tally_and_every_figure_with_words_for_it():
    assert gallery.TALLY.search(README)[0] == f"<!-- TALLY -->\n{gallery.tally()}\n<!-- /TALLY -->"
    for name in gallery.FIGURES:
        (alt,) = re.findall(rf'<img src="docs/gallery_{name}\.png"[^>]* alt="([^"]+)"', README)
        assert len(alt.split()) > 5
        assert (ROOT / "docs" / f"gallery_{name}.png").stat().st_size > 5_000


@pytest.mark.parametrize("name", gallery.FIGURES)
def test_figures_have_words_at_their_axes_and_something_drawn(name):
    (ax,) = gallery.draw(name).axes
    assert ax.get_xlabel() or name == "syntax"  # whose bars are named below
    assert ax.get_ylabel() or name == "bias"
    assert ax.lines or ax.containers


def test_figures_show_the_means_of_the_results():
    record = read_result("siglip-bias-init")
    rows = [m["in_distribution"] for m in record["measurements"] if m["setting"] == "b -10, t' log 10"]
    (bars,) = [c for c in gallery.draw("bias").axes[0].containers if isinstance(c, BarContainer)]
    assert bars[1].get_width() == pytest.approx(100 * sum(rows) / len(rows))

    record = read_result("clip-zero-shot-vs-few-shot")
    rows = [m["probe_4_twemoji"] for m in record["measurements"]]
    first = [c for c in gallery.draw("few_shot").axes[0].containers if isinstance(c, ErrorbarContainer)][0]
    assert first[0].get_ydata()[2] == pytest.approx(100 * sum(rows) / len(rows))

    record = read_result("clipa-image-tokens")
    drop = {s: [m["in_distribution"] for m in record["measurements"] if m["setting"] == f"64 wide, {s}"]
            for s in ("all 64", "resize 16")}  # fmt: skip
    resize = [c for c in gallery.draw("tokens").axes[0].containers if isinstance(c, ErrorbarContainer)][0]
    lost = 100 * (sum(drop["all 64"]) - sum(drop["resize 16"])) / 5
    assert resize[0].get_ydata()[1] == pytest.approx(lost)
