"""What the judges of the claims about transfer compute, from made-up measurements and numbers worked out by hand."""

import math

import pytest

from experiments import (
    clip_adaptation_costs_robustness,
    clip_effective_robustness,
    clip_few_shot_robustness,
    clip_fine_grained,
    clip_prompts,
    clip_scaling,
    clip_zero_shot_vs_few_shot,
    clip_zero_shot_vs_probe,
    few_shot_adapters,
)
from experiments.robustness import baseline, effective, logit
from experiments.shots import shots_to_match
from experiments.sweep import complete, run_key
from experiments.verdicts import overall

YES, NO, CONTRARY = "reproduced", "not at this scale", "opposite"
HOME, NEAR, FAR = "twemoji", "fxemoji", "openmoji"
SHOTS = (1, 2, 4, 8, 16)
MODULES = {
    module.CLAIM.id: module
    for module in (
        clip_scaling, clip_prompts, clip_fine_grained, clip_zero_shot_vs_probe, clip_zero_shot_vs_few_shot,
        clip_few_shot_robustness, few_shot_adapters, clip_effective_robustness, clip_adaptation_costs_robustness,
    )
}  # fmt: skip


def scaling(far_end: dict[str, float], seen: float):
    """Errors of 80, 40, 20 and (in the mean of artists) some more percent; each tower costs four times the last."""

    def value(name):
        i = ("4 wide", "8 wide", "16 wide", "32 wide").index(name)
        found = far_end if i == 3 else dict.fromkeys((HOME, NEAR, FAR), (0.2, 0.6, far_end["16 wide"])[i])
        bare = {f"bare_{artist}": found[artist] for artist in (HOME, NEAR, FAR)}
        return {"mflops": 5.0 * 4**i, **bare, "seen_bare": (0.3, 0.9, 0.9, seen)[i]}

    return value


def prompts(sentences: dict[str, float], mixed: dict[str, float]):
    """What prompts gain over bare names, mean of three artists: half of it, all, and half as much again."""
    gains = {"sentences": sentences, "mixed": mixed}
    bare = {HOME: 0.3, NEAR: 0.2, FAR: 0.1}
    return lambda name: {
        f"{prompt}_{artist}": bare[artist] + share * gains[name].get(prompt, 0)
        for prompt in ("bare", "one", "known", "new", "ensemble", "with_bare")
        for artist, share in ((HOME, 0.5), (NEAR, 1), (FAR, 1.5))
    }


def fine_grained(above_chance: float, **lost: float):
    """What is lost among twins by family; 20 % are right among them."""
    found = {f"twins_{family}": 0.2 for family in lost} | {f"others_{f}": 0.2 + x for f, x in lost.items()}
    return lambda name: {**found, "tone_above_chance": above_chance}


FAMILIES = ("clock", "moon", "arrow", "keycap", "family", "flag", "square", "heart", "face")
LOST = {"moon": 0.2, "arrow": 0.2, "flag": 0.05, "square": 0.2, "heart": 0.2, "tone": 0.35}


def tasks(probe: float, wins: int, chance: float, follows: float):
    """Fourteen tasks: zero-shot is 50 +- 10 %, and above the probe on labelled features in the first `wins`.

    Its own probe is `probe`, +- 10 % with zero-shot and +- 15 % on its own, on twelve of them; always saying one class
    gets `chance`, and the share `follows` of zero-shot's +- 10 %.
    """
    found = {}
    for i, key in enumerate(clip_zero_shot_vs_probe.KEYS):
        u, v = (0.1 if i % 2 else -0.1), (0 if i >= 12 else 0.15 if i % 4 < 2 else -0.15)
        found |= {f"zero_{key}": 0.5 + u, f"probe_{key}": probe + u + v, f"chance_{key}": chance + follows * u}
        found[f"labelled_{key}"] = 0.5 + u + (-0.01 if i < wins else 0.01)
    return lambda name: found


def by_artist(**numbers: tuple) -> dict[str, float]:
    """model=(home, near, far)."""
    return {f"{model}_{a}": x for model, found in numbers.items() for a, x in zip((HOME, NEAR, FAR), found)}


def few_shot(zero: tuple, **more: tuple):
    """Probes of 1 to 16 shots have these accuracies at home, near and far; zero-shot and others have what is said."""
    home, near, far = (0.3, 0.4, 0.45, 0.55, 0.7), (0.25, 0.35, 0.4, 0.5, 0.6), (0.2, 0.22, 0.24, 0.28, 0.3)
    curve = {f"probe_{k}": row for k, row in zip(SHOTS, zip(home, near, far))}
    return lambda name: by_artist(zero=zero, **curve, **more)


def adapters(text_1: float, free_far: float):
    found = by_artist(
        zero=(0.5, 0.4, 0.3), text_1=(text_1, 0, 0), probe_1=(0.3, 0, 0), tip_1=(0.505, 0, 0),
        tip_16=(0.55, 0.42, 0.295), blend_16=(0.6, 0, 0.33), free_16=(0.62, 0, free_far), text_16=(0.64, 0, 0.31),
        probe_16=(0.6, 0, 0.25), tip_chosen_16=(0.57, 0, 0), tip_tuned_16=(0.59, 0, 0.28),
    )  # fmt: skip
    return lambda name: found


def shifted(zero: tuple, narrow_far: float):
    """Supervised models with odds 1 to 6 at home, the same on the near artist, and half of them on the far one.

    So the lines are y = x, and odds(y) = odds(x) / 2: 1/2 -> 1/3, 2/3 -> 1/2, 3/4 -> 3/5, 4/5 -> 2/3.
    """
    p = lambda odds: odds / (1 + odds)  # noqa: E731
    names = [f"supervised_{width}_{steps}" for width in (8, 16, 32) for steps in (60, 240)]
    line = {name: (p(odds), p(odds), p(odds / 2)) for name, odds in zip(names, (3, 1, 2, 6, 4, 5))}
    wide = by_artist(zero=zero, probe=(3 / 4, 0, 0.61), wise_100=(4 / 5, 0, 0.6), own=(2 / 3, 0, 0.53), **line)
    return lambda name: wide if name == "32 wide" else by_artist(zero=(1 / 2, 0.9, narrow_far))


def adaptation(probe_far: float, half_far: float):
    wide = by_artist(
        zero=(0.5, 0.4, 0.3), probe=(0.6, 0.42, probe_far), wise_50=(0.65, 0, half_far), wise_100=(0.7, 0.39, 0.2)
    )
    return lambda name: wide if name == "32 wide" else by_artist(zero=(0.4, 0, 0.2), probe=(0.45, 0, 0.23))


def even(**odd):
    return {"16 wide": 0.8, HOME: 0.96, NEAR: 0.93, FAR: 0.81, **odd}


# id -> decisive checks, which come first, then twice (what a setting measured, [(effect, verdict) of each check], the
# claim's verdict): it holds; it fails.
BY_HAND = {
    "clip-scaling": (
        1,
        (
            scaling(even(), 0.5),
            [(0.7, YES), (0.4, YES), (0.2, YES), (0.1, YES), (0.76, YES), (0.73, YES), (0.61, YES), (0.2, YES),
             (0.5, YES)],  # half the error for four times the FLOPs
            YES,
        ),
        (
            scaling({"16 wide": 0.6, HOME: 0.26, NEAR: 0.22, FAR: 0.18}, 0.25),
            [(0.02, NO), (0.4, YES), (0, NO), (-0.38, CONTRARY), (0.06, YES), (0.02, NO), (-0.02, NO),
             (-0.05, CONTRARY), (0.3 * math.log(0.8 / 0.78) / math.log(4), YES)],
            NO,
        ),
    ),
    "clip-prompts": (
        2,
        (
            prompts({"one": 0.05, "known": 0.08, "new": 0.02, "ensemble": 0.09}, {"ensemble": -0.02, "one": 0.005}),
            [(0.09, YES), (0.04, YES), (0.05, YES), (0.03, YES), (0.02, YES), (-0.02, CONTRARY), (0.005, NO), (0, NO)],
            YES,
        ),
        (
            prompts({"one": 0.05, "known": 0.05, "new": -0.03, "ensemble": 0.055}, {"with_bare": 0.02, "one": -0.04}),
            [(0.055, YES), (0.005, NO), (0.05, YES), (0, NO), (-0.03, CONTRARY), (0, NO), (-0.04, CONTRARY),
             (0.02, YES)],
            NO,
        ),
    ),
    "clip-fine-grained": (
        3,
        (
            fine_grained(0.1, **LOST, clock=0.4, keycap=0.3, family=0.2, face=-0.2),
            [(0.19, YES), (0.3, YES), (0.35, YES), (0.4, YES), (0.2, YES), (0.2, YES), (0.3, YES), (0.2, YES),
             (0.05, NO), (0.2, YES), (0.2, YES), (-0.2, CONTRARY), (0.1, YES)],
            YES,
        ),
        (
            fine_grained(-0.02, **LOST, clock=0.2, keycap=0, family=0.04, face=0.4),
            [(0.184, YES), (0.08, NO), (0.35, YES), (0.2, YES), (0.2, YES), (0.2, YES), (0, NO), (0.04, NO),
             (0.05, NO), (0.2, YES), (0.2, YES), (0.4, YES), (-0.02, CONTRARY)],
            NO,
        ),
    ),
    "clip-zero-shot-vs-probe": (
        3,
        (
            tasks(0.6, 9, 0.2, 0.5),  # squares: 14 x 0.1^2 of zero-shot, 12 x 0.15^2 of the probe's own
            [(math.sqrt(14 / 41), YES), (0.1, YES), (9 / 14, YES), (6 / 14, CONTRARY), (8 / 14, YES), (0.3, YES),
             (math.sqrt(35 / 305), CONTRARY)],
            YES,
        ),
        (
            tasks(0.52, 5, 0.55, 0),
            [(math.sqrt(14 / 41), YES), (0.02, CONTRARY), (5 / 14, CONTRARY), (6 / 14, CONTRARY), (8 / 14, YES),
             (-0.05, CONTRARY), (math.sqrt(14 / 41), YES)],
            NO,
        ),
    ),
    "clip-zero-shot-vs-few-shot": (
        2,
        (
            few_shot((0.5, 0.4, 0.35)),
            [(0.2, YES), (0.2, YES), (2**2.5 - 4, YES), (0.05, YES), (0.05, YES), (-0.2, CONTRARY)],
            YES,
        ),
        (
            few_shot((0.72, 0.65, 0.25)),
            [(0.42, YES), (-0.02, CONTRARY), (28, YES), (0.27, YES), (-0.05, CONTRARY), (0.05, YES)],
            NO,
        ),
    ),
    "clip-few-shot-robustness": (
        1,
        (
            few_shot((0.5, 0.46, 0.35), text_16=(0.8, 0.55, 0.33), tip_16=(0.425, 0, 0.2)),
            [(0.09, YES), (0.01, NO), (0.03, YES), (-0.03, CONTRARY), (-0.05, CONTRARY)],
            YES,
        ),
        (
            few_shot((0.25, 0.3, 0.21), text_16=(0.625, 0.6, 0.28), tip_16=(0.5, 0, 0.3)),
            [(0.01, NO), (0.05, YES), (-0.01, NO), (0.04, YES), (0.05, YES)],
            NO,
        ),
    ),
    "few-shot-adapters": (
        3,
        (
            adapters(0.45, 0.29),
            [(0.15, YES), (0.05, YES), (0.04, YES), (-0.02, CONTRARY), (0.1, YES), (0.03, YES), (0.04, YES),
             (0.06, YES), (0.005, NO), (0.02, YES), (0.04, YES), (-0.015, CONTRARY), (-0.005, NO), (0.02, YES),
             (-0.05, CONTRARY)],
            YES,
        ),
        (
            adapters(0.34, 0.4),
            [(0.04, NO), (0.05, YES), (-0.07, CONTRARY), (-0.02, CONTRARY), (0.1, YES), (0.03, YES), (0.04, YES),
             (0.06, YES), (0.005, NO), (0.02, YES), (0.04, YES), (-0.015, CONTRARY), (-0.005, NO), (0.02, YES),
             (-0.16, CONTRARY)],
            NO,
        ),
    ),
    "clip-effective-robustness": (
        2,
        (
            shifted((2 / 3, 0.65, 0.6), 0.4),
            [(0.1, YES), (1 / 15, YES), (0.65 - 2 / 3, NO), (0.01, NO), (-1 / 15, CONTRARY), (0.03, YES), (0.07, YES),
             (0.6, YES)],
            YES,
        ),
        (
            shifted((2 / 3, 0.7, 0.45), 0.34),
            [(-0.05, CONTRARY), (0.34 - 1 / 3, NO), (0.7 - 2 / 3, YES), (0.01, NO), (-1 / 15, CONTRARY), (0.03, YES),
             (-0.08, CONTRARY), (-0.3, CONTRARY)],
            NO,
        ),
    ),
    "clip-adaptation-costs-robustness": (
        2,
        (
            adaptation(0.28, 0.31),
            [(0.1, YES), (0.12, YES), (0.02, YES), (0.02, YES), (0.02, NO), (0.2, YES), (0.1, YES), (-0.01, CONTRARY),
             (0.11, YES), (0.05, YES)],
            YES,
        ),
        (
            adaptation(0.38, 0.15),
            [(0.1, YES), (0.02, NO), (-0.08, CONTRARY), (0.02, YES), (0.02, NO), (0.2, YES), (0.1, YES),
             (-0.01, CONTRARY), (-0.05, CONTRARY), (0.05, YES)],
            NO,
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", [0, 1], ids=["holds", "fails"])
@pytest.mark.parametrize("id", BY_HAND)
def test_effects_and_verdicts_of_numbers_by_hand(id, case):
    claim, (decisive, *cases) = MODULES[id].CLAIM, BY_HAND[id]
    value, expected, verdict = cases[case]
    rows = [{"setting": name, "seed": seed, **value(name)} for seed in claim.seeds for name in claim.settings]
    checks = claim.judge(rows)
    for check, (effect, said) in zip(checks, expected, strict=True):
        assert check.effect["mean"] == pytest.approx(effect, abs=1e-12), check.sentence
        assert check.verdict == said, check.sentence
    assert [check.decisive for check in checks] == [i < decisive for i in range(len(checks))]
    assert overall(checks) == verdict


def test_settings_are_what_the_claims_say():
    settings = {id: module.CLAIM.settings for id, module in MODULES.items()}
    assert [s["image_width"] for s in settings["clip-scaling"].values()] == [4, 8, 16, 32]
    for id, module in MODULES.items():
        run = module.CLAIM.run
        assert len({run_key(run, s) for s in settings[id].values()}) == len(settings[id])
        for name, setting in settings[id].items():
            about = complete(run, setting)
            assert about["steps"] * about["batch_size"] == 204_800
            assert "wide" not in name or f"{about['image_width']} wide" in name
    kinds = {name: complete(clip_prompts.CLAIM.run, s)["captions"] for name, s in settings["clip-prompts"].items()}
    assert kinds == {"sentences": "sentences", "mixed": "mixed"}
    assert tuple(clip_fine_grained.FAMILIES) == FAMILIES and clip_zero_shot_vs_few_shot.SHOTS == SHOTS


@pytest.mark.parametrize("id", MODULES)
def test_columns_of_a_claim_are_measured(id):
    """The made-up measurements, or their names, have what the table shows."""
    claim, known = MODULES[id].CLAIM, set(BY_HAND[id][1][0](next(iter(MODULES[id].SETTINGS))))
    if id == "few-shot-adapters":  # shows more than is judged
        known |= {f"{m}_{k}_{a}" for m in few_shot_adapters.METHODS for k in SHOTS for a in (HOME, NEAR, FAR)}
    if id == "clip-adaptation-costs-robustness":
        known |= {f"wise_{percent}_{a}" for percent in (25, 75) for a in (HOME, NEAR, FAR)}
    assert set(claim.columns) <= known


# Closed forms


def test_slope_of_the_error_by_seed():
    """Error to the power: seed 0 halves it for each four times the FLOPs, seed 1 leaves it as it is."""
    rows = [
        {"setting": f"{width} wide", "seed": seed, "mflops": 3.0 * 4**i, "bare_twemoji": 1 - error, "bare_fxemoji": 0.9,
         "bare_openmoji": 1 - error}
        for i, width in enumerate((4, 8, 16, 32)) for seed, error in ((0, 0.8 / 2**i), (1, 0.5))
    ]  # fmt: skip
    assert clip_scaling.slopes(rows, (HOME,)) == pytest.approx([-0.5, 0], abs=1e-12)
    assert clip_scaling.slopes(rows, (HOME, FAR)) == pytest.approx([-0.5, 0], abs=1e-12)
    assert clip_scaling.slopes(rows, (NEAR,)) == pytest.approx([0, 0], abs=1e-12)


@pytest.mark.parametrize(
    ("zero", "shots"),
    [(0.1, 0.5), (0.2, 0.5), (0.25, 2**0.5), (0.3, 2), (0.45, 4 * 2**0.5), (0.5, 8), (0.55, 8 * 2**0.5),
     (0.575, 8 * 2**0.75), (0.6, 16), (0.61, 32)],
)  # fmt: skip
def test_shots_to_match(zero, shots):
    """A curve that falls once: 20, 30, 40, 50, 60 % but 25 % for 4 shots is first reached at 8."""
    curve = {16: 0.6, 1: 0.2, 2: 0.3, 4: 0.4, 8: 0.5}
    assert shots_to_match(zero, curve) == pytest.approx(shots, abs=1e-12)
    falling = curve | {4: 0.25}
    assert shots_to_match(0.375, falling) == pytest.approx(4 * 2**0.5, abs=1e-12)  # half-way from 25 to 50 %


def test_curves_and_lines_are_of_their_own_seed():
    """Not in the order of shots: the line goes through the points as they stand at home."""
    home, far = (0.3, 0.5, 0.4, 0.6, 0.7), (0.2, 0.3, 0.1, 0.4, 0.5)
    name = clip_zero_shot_vs_few_shot.NAME
    rows = []
    for seed in range(2):
        row = by_artist(zero=(0.45, 0, 0.25 + 0.1 * seed))
        row |= by_artist(**{f"probe_{k}": (h, 0, f - 0.05 * seed) for k, h, f in zip(SHOTS, home, far)})
        rows.append({"setting": name, "seed": seed, **row})
    assert clip_zero_shot_vs_few_shot.curve(rows, "probe", HOME) == dict.fromkeys((0, 1), dict(zip(SHOTS, home)))
    effect = clip_few_shot_robustness.above_line(rows, "zero", FAR)
    assert effect["mean"] == pytest.approx((0.05 + 0.2) / 2, abs=1e-12)  # the line has 0.2, then 0.15
    assert sum(effect["ci95"]) == pytest.approx(0.25, abs=1e-12) and effect["n"] == 2


def test_line_on_logit_axes_and_what_is_above_it():
    """logit(3/4) = ln 3. Three points with residuals, and one on the line."""
    assert logit(0.75) == pytest.approx(math.log(3), abs=1e-12) == -logit(0.25)
    assert logit(0) == logit(0.0005) == pytest.approx(-math.log(999), abs=1e-12) == -logit(1)
    flat = baseline([(0.25, 0.5), (0.5, 2 / 3), (0.75, 0.5)])  # y: 0, ln 2, 0
    assert flat == pytest.approx((math.log(2) / 3, 0), abs=1e-12)
    rising = baseline([(0.25, 0.5), (0.5, 0.5), (0.75, 0.75)])  # x: -ln 3, 0, ln 3; y: 0, 0, ln 3
    assert rising == pytest.approx((math.log(3) / 3, 0.5), abs=1e-12)
    steep = baseline([(0.5, 0.25), (0.75, 0.75)])  # x: 0, ln 3; y: -ln 3, ln 3
    assert steep == pytest.approx((-math.log(3), 2), abs=1e-12)
    assert effective((0.5, 0.5), (0.0, 1.0)) == pytest.approx(0, abs=1e-12)
    assert effective((2 / 3, 0.6), (-math.log(2), 1.0)) == pytest.approx(0.1, abs=1e-12)
    assert effective((0.9, 0.7), (0.0, 0.5)) == pytest.approx(0.7 - 3 / 4, abs=1e-12)  # odds 9 -> 3


def test_gap_closed_by_seed():
    """At home 2/3; the line has 1/2 there, a gap of 1/6; zero-shot has the half of it, or all, or none."""
    cases = {0: (7 / 12, 0.5), 1: (1 / 2, 0.0), 2: (2 / 3, 1.0)}
    rows = [
        {"setting": name, "seed": seed, **shifted((2 / 3, 0, far), 0.4)(name)}
        for name in clip_effective_robustness.SETTINGS
        for seed, (far, _) in cases.items()
    ]
    expected = [share for _, share in cases.values()]
    assert clip_effective_robustness.gap_closed(rows) == pytest.approx(expected, abs=1e-12)
    narrow = clip_effective_robustness.robustness(rows, "zero", FAR, "16 wide")
    assert narrow == pytest.approx(dict.fromkeys(cases, 1 / 15), abs=1e-12)


def test_correlation_by_hand():
    correlation = clip_zero_shot_vs_probe.correlation
    assert correlation([1, 2, 3], [2, 4, 6]) == pytest.approx(1, abs=1e-12)
    assert correlation([1, 2, 3], [3, 2, 1]) == pytest.approx(-1, abs=1e-12)
    assert correlation([1, 2, 3], [1, 3, 2]) == pytest.approx(0.5, abs=1e-12)  # (1 + 0 + 0) / 2
    assert correlation([0, 0, 1, 1], [0, 1, 0, 1]) == pytest.approx(0, abs=1e-12)
