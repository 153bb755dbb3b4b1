"""Does zero-shot transfer improve smoothly with the size of the image tower? (CLIP section 3.1.6, Figure 9)

Four ResNets, 4 to 32 wide, trained on the drawings of four artists for the same 204,800 pictures (`transfer`). The
error on the drawings of three artists that they never saw, against the FLOPs of the image tower, both on logarithmic
axes. The paper has five ResNets over 44 times the compute and 39 evaluations; four points make no power law.
"""

import math

from experiments.claims import Claim
from experiments.judging import above
from experiments.names import measure_names
from experiments.transfer import UNSEEN, WIDTHS
from experiments.verdicts import Check, default_verdict, effect_of, values

MARGIN = 0.03
SETTINGS = {f"{width} wide": {"image_width": width} for width in WIDTHS}


def slopes(measurements: list[dict], artists: tuple[str, ...] = UNSEEN) -> list[float]:
    """For each seed, the slope of the logarithm of the mean error of `artists` against that of the FLOPs."""
    keys = ("mflops", *(f"bare_{artist}" for artist in artists))
    columns = {key: {n: values(measurements, n, key) for n in SETTINGS} for key in keys}
    found = []
    for seed in columns["mflops"][next(iter(SETTINGS))]:
        x = [math.log(columns["mflops"][n][seed]) for n in SETTINGS]
        y = [math.log(1 - sum(columns[f"bare_{a}"][n][seed] for a in artists) / len(artists)) for n in SETTINGS]
        mx, my = sum(x) / len(x), sum(y) / len(y)
        found.append(sum((a - mx) * (b - my) for a, b in zip(x, y)) / sum((a - mx) ** 2 for a in x))
    return found


def judge(measurements: list[dict]) -> list[Check]:
    """Is the widest above the narrowest? Beside it: each doubling, each artist, and the slope of the line."""
    first, *_, last = SETTINGS

    def check(wide: str, narrow: str, artists: tuple[str, ...], decisive: bool = False) -> Check:
        effect = effect_of([
            sum(values(measurements, wide, f"bare_{a}")[seed] - values(measurements, narrow, f"bare_{a}")[seed]
                for a in artists) / len(artists)
            for seed in values(measurements, wide, "mflops")
        ])  # fmt: skip
        who = "mean of three artists" if len(artists) > 1 else artists[0]
        return Check(f"{wide} over {narrow}, {who}", effect, default_verdict(effect, MARGIN), decisive=decisive)

    checks = [check(last, first, UNSEEN, True)]
    names = list(SETTINGS)
    checks += [check(wide, narrow, UNSEEN) for narrow, wide in zip(names, names[1:])]
    checks += [check(last, first, (artist,)) for artist in UNSEEN]
    checks += [above(measurements, f"{last} over {first}, seen artists", {last: 1, first: -1}, MARGIN, key="seen_bare",
                     decisive=False)]  # fmt: skip
    effect = effect_of([-slope for slope in slopes(measurements)])
    sentence = "by how much the logarithm of the error falls for each unit of that of the FLOPs"
    return [*checks, Check(sentence, effect, default_verdict(effect), "", False)]


CLAIM = Claim(
    id="clip-scaling",
    paper="CLIP (2103.00020)",
    figure="Figure 9",
    statement="Zero-shot transfer improves with the compute of the image tower, smoothly on average.",
    paper_numbers="5 ResNets, 44 times the compute: average error over 39 evaluations falls along a straight line on "
    "log-log axes",
    data="CLIPs of four artists' drawings, 204,800 pictures seen; zero-shot top-1 among 1,914 bare names of "
    "drawings by three unseen artists, flags left out",
    settings=SETTINGS,
    run=measure_names,
    rule=f"The {WIDTHS[-1]} wide tower is above the {WIDTHS[0]} wide one by more than {100 * MARGIN:.0f} "
    "points, mean of three unseen artists, with the 95 % interval above zero and the same sign in every seed. "
    "Reported beside it: each doubling, each artist, seen artists (the same margin), and the slope on log-log "
    "axes (margin 0).",
    judge=judge,
    why="Each doubling of the width gives 4 to 7 points and takes four times the FLOPs; the error falls by "
    "4.5 % for each factor e, from 89 to 74 %. On the far artist the gain is a third of that at home. All "
    "widths saw as many pictures and had one set of rates.",
    notebook="17_robustness_to_unseen_artists",
    minutes=2.0,
    columns=("mflops", "bare_twemoji", "bare_fxemoji", "bare_openmoji", "seen_bare"),
)
