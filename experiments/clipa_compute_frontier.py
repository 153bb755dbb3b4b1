"""Is a wide tower on few tokens better than a narrow one on all of them, at equal cost? (CLIPA Figure 8)

The runs of `clipa_image_tokens` against what they cost, the short stage with all tokens included. The towers that see
all tokens, of three widths, make a line: accuracy against the logarithm of FLOPs, straight between them. A run with
fewer tokens is compared with that line at its own price, and with the ends of the line where it is cheaper or dearer
than those. All runs have the same steps, so the line is not what an optimal use of compute would give. FLOPs are
counted (`experiments.cost`), seconds measured on one thread beside other work.
"""

import math
from statistics import mean

from experiments.claims import Claim
from experiments.clipa_image_tokens import SETTINGS, name
from experiments.sweep import complete
from experiments.tokens import STRATEGIES, WIDTHS, flops_of, train_on_fewer_tokens
from experiments.verdicts import Check, default_verdict, effect_of, values

MARGIN = 0.01


def price(measurements: list[dict], setting: str, by: str, stages: int = 2) -> float:
    """What a setting costs: training FLOPs of its first stages, or the mean of its seconds."""
    if by == "FLOPs":
        some = {**SETTINGS[setting], "stages": SETTINGS[setting]["stages"][:stages]}
        return flops_of(complete(train_on_fewer_tokens, some))
    return mean(values(measurements, setting, "seconds_trained").values())


def on_line(x: float, xs: list[float], ys: list[float]) -> float:
    """The height of the line through (xs, ys), ascending, at x; beyond its ends that of the end."""
    if x <= xs[0] or x >= xs[-1]:
        return ys[0] if x <= xs[0] else ys[-1]
    i = next(i for i in range(1, len(xs)) if x < xs[i])
    return ys[i - 1] + (ys[i] - ys[i - 1]) * (x - xs[i - 1]) / (xs[i] - xs[i - 1])


def above_line(measurements: list[dict], setting: str, by: str = "FLOPs", stages: int = 2) -> dict[int, float]:
    """How far a setting's accuracy is above the line of the towers with all tokens, by seed.

    stages: 1 compares what both were before the last stage, each measured at the size that it had trained on.
    """
    line = [name(width) for width in WIDTHS]
    key = "in_distribution" if stages == 2 else "before_in_distribution"
    xs = [math.log(price(measurements, s, by, stages)) for s in line]
    full = [values(measurements, s, key) for s in line]
    own, x = values(measurements, setting, key), math.log(price(measurements, setting, by, stages))
    return {seed: own[seed] - on_line(x, xs, [f[seed] for f in full]) for seed in own}


def judge(measurements: list[dict]) -> list[Check]:
    """Are the wider towers, resized to 16 tokens, above the line? Beside it: by seconds, masks, 4 tokens."""

    def check(sentence: str, settings: list[str], by: str = "FLOPs", decisive: bool = False, stages=2) -> Check:
        each = [above_line(measurements, setting, by, stages) for setting in settings]
        effect = effect_of([mean(one[seed] for one in each) for seed in each[0]])
        return Check(f"{sentence}, above the line by {by}", effect, default_verdict(effect, MARGIN), decisive=decisive)

    wider = WIDTHS[1:]
    resized, tiny = ([name(w, tokens, "resize") for w in wider] for tokens in (16, 4))
    masked = [name(w, 16, s) for w in wider for s in STRATEGIES[1:]]
    return [
        check("widths 64 and 128 with 16 tokens, resized", resized, decisive=True),
        check("the same", resized, "seconds"),
        check("width 128 with 16 tokens, resized", resized[-1:]),
        check("widths 64 and 128 with 16 tokens, masked", masked),
        check("widths 64 and 128 with 4 tokens, resized", tiny),
        check("16 tokens, resized, before the last stage, measured at 16 x 16", resized, stages=1),
        check("4 tokens, resized, before the last stage, measured at 8 x 8", tiny, stages=1),
    ]


CLAIM = Claim(
    id="clipa-compute-frontier",
    paper="CLIPA (2305.07017)",
    figure="Figure 8",
    statement="At equal compute a larger image tower on fewer tokens is better than a smaller one on all of them.",
    paper_numbers="ImageNet zero-shot against GFLOPs times samples, read off the plot: 1.4 times less and +3.2 "
    "points, 1.7 and +2.5, 2.9 and +1.1, 1.8 and +3.6",
    data="emoji at 32 x 32; the runs of clipa-image-tokens; zero-shot top-1 of new drawings among 1,914 names",
    settings=SETTINGS,
    run=train_on_fewer_tokens,
    rule="The two wider towers, trained on pictures resized to 16 of 64 tokens and tuned on all, are above the line of "
    "accuracy against the logarithm of FLOPs through the three towers with all tokens, on average by more than "
    f"{100 * MARGIN:.0f} point, with the 95 % interval above zero and the same sign in every seed. Reported beside it, "
    "with the same margin: by seconds, the widest alone, masks, 4 tokens; and, added when the verdict was known, "
    "before the last stage.",
    judge=judge,
    why="The last stage at full size costs nearly half as much as all before it and takes from the resized towers "
    "what they had. Without it, measured at the size that they know, they are far above the line: in so few steps, "
    "with positions to be learned, small pictures are the better use of compute.",
    notebook="13_full_token_fine_tuning",
    minutes=0.7,
    columns=("in_distribution", "seconds_trained"),
    n_seeds=5,
)
