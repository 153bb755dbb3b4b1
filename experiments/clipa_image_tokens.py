"""The inverse scaling law: do wider image towers lose less when they train on fewer image tokens? (CLIPA section 4.2)

ViTs of three widths (three blocks each) train on emoji at 32 x 32, 64 patches of 4 x 4, for 300 steps of 256: on all
patches, on 16 of them by each of the four strategies, or on 4 by resizing. Then all of them train on all patches for
30 steps at 0.3 times the learning rate. The drop is what a width loses against itself with all patches at equal
examples. CLIPA's towers are deeper as well as wider (S, B, L), see 2.56 billion pairs and tune on a twentieth; here
text is not shortened, the text tower is the same for all widths, and so are the learning rates. Masks have one budget.
"""

from experiments.claims import Claim
from experiments.judging import above, contrast
from experiments.tokens import FULL, PRETRAIN, STRATEGIES, TUNE, WIDTHS, few, train_on_fewer_tokens, tune
from experiments.verdicts import Check, default_verdict, effect_of, values

BUDGETS = {16: STRATEGIES, 4: ("resize",)}
LAW = 0.01  # margin: the widest loses a point less than the narrowest


def name(width: int, tokens: int = FULL, strategy: str = "") -> str:
    """The setting's name."""
    return f"{width} wide, {f'{strategy} {tokens}' if strategy else 'all 64'}"


SETTINGS = {name(w): {"image_width": w, "stages": [few(FULL), tune()]} for w in WIDTHS} | {
    name(w, tokens, s): {"image_width": w, "stages": [few(tokens, s), tune()]}
    for tokens, strategies in BUDGETS.items()
    for w in WIDTHS
    for s in strategies
}


def drop(width: int, tokens: int, strategies: tuple[str, ...] = (), sign: float = 1.0) -> dict[str, float]:
    """The weights (`contrast`) of a width's drop, the mean over strategies; default: all there are."""
    strategies = strategies or BUDGETS[tokens]
    some = {name(width, tokens, s): -sign / len(strategies) for s in strategies}
    return {name(width): sign, **some}


def shares(measurements: list[dict], width: int, tokens: int, split: str = "in_distribution") -> dict[int, float]:
    """The share of a width's accuracy that fewer tokens cost, mean of the strategies, by seed."""
    full = values(measurements, name(width), split)
    some = [values(measurements, name(width, tokens, s), split) for s in BUDGETS[tokens]]
    return {seed: 1 - sum(v[seed] for v in some) / len(some) / full[seed] for seed in full}


def relative_law(measurements: list[dict], tokens: int) -> dict:
    """The drop of the narrowest minus that of the widest, each as a share of what the width has with all patches."""

    narrow, wide = (shares(measurements, width, tokens) for width in (WIDTHS[0], WIDTHS[-1]))
    return effect_of([narrow[seed] - wide[seed] for seed in narrow])


def judge(measurements: list[dict]) -> list[Check]:
    """Is the drop smaller for the widest than for the narrowest tower? Beside it, by strategy, relative, and drops."""
    narrow, wide = WIDTHS[0], WIDTHS[-1]
    checks = []
    for tokens in BUDGETS:
        weights = drop(narrow, tokens) | drop(wide, tokens, sign=-1.0)
        sentence = f"{tokens} tokens: the drop of width {narrow} over that of width {wide}, mean of strategies"
        checks.append(above(measurements, sentence, weights, LAW))
    for tokens in BUDGETS:
        effect = relative_law(measurements, tokens)
        sentence = f"{tokens} tokens: the same, drops as shares of the accuracy with all tokens"
        checks.append(Check(sentence, effect, default_verdict(effect, 0.05), decisive=False))
    slope = drop(narrow, 16) | drop(wide, 16, sign=-1.0)  # least squares through three widths, each twice the last
    slope = {key: weight / 2 for key, weight in slope.items()}
    sentence = "16 tokens: slope, the points less of drop for each doubling of the width"
    checks.append(above(measurements, sentence, slope, LAW / 2, decisive=False))
    for s in STRATEGIES:
        weights = drop(narrow, 16, (s,)) | drop(wide, 16, (s,), -1.0)
        checks.append(above(measurements, f"16 tokens, {s}: the same", weights, LAW, decisive=False))
    for width in WIDTHS:
        for tokens in BUDGETS:
            effect = contrast(measurements, drop(width, tokens))
            sentence = f"width {width}: the drop with {tokens} tokens, mean of strategies"
            checks.append(Check(sentence, effect, default_verdict(effect, LAW), decisive=False))
        full, own = (values(measurements, *at) for at in (
            (name(width), "in_distribution"), (name(width, 16, "resize"), "before_in_distribution")
        ))  # fmt: skip
        effect = effect_of([full[seed] - own[seed] for seed in full])
        sentence = f"width {width}: the drop with 16 tokens, resized, measured at 16 x 16 before the last stage"
        checks.append(Check(sentence, effect, default_verdict(effect, LAW), decisive=False))
    return checks


CLAIM = Claim(
    id="clipa-image-tokens",
    paper="CLIPA (2305.07017)",
    figure="Figure 4",
    statement="The larger the image tower, the less accuracy it loses when it trains on fewer image tokens.",
    paper_numbers="ImageNet zero-shot, shortest against full, read off the plot: S/16 56.7 to 50.5, B/16 64.1 to 59.9, "
    "L/16 69.2 to 66.2, so drops of 6.2, 4.2 and 3.0 points",
    data=f"emoji at 32 x 32, {256 * PRETRAIN:,} examples with few tokens and {256 * TUNE:,} with all; zero-shot top-1 "
    "of new drawings among 1,914 names",
    settings=SETTINGS,
    run=train_on_fewer_tokens,
    rule=f"For 16 and for 4 of 64 tokens, the drop of the narrowest tower is above that of the widest by more than "
    f"{100 * LAW:.0f} point, mean of the strategies, with the 95 % interval above zero and the same sign in every "
    "seed. Reported beside it: drops as shares (margin 5 %), each strategy, each width; added when the verdict was "
    "known: the slope "
    "(margin half a point), and the drop before the last stage.",
    judge=judge,
    why="No tower here is limited by its size: all are limited by 300 steps, and small pictures teach more in a step, "
    "partly since they have fewer positions to learn (with fixed ones all tokens are ahead, see "
    "clipa-full-token-tuning). Before the last stage the resized towers, measured at their own size, are ahead; the "
    "verdict is about what 30 steps at another resolution leave of that. With 4 tokens all fall to 2 or 3 %, so that "
    "the drop in points is what there was to lose; as shares the widths are alike.",
    notebook="11_fewer_image_tokens",
    minutes=0.7,
    columns=("in_distribution", "fxemoji", "retrieval", "before_in_distribution", "seconds_trained"),
    n_seeds=5,
)
