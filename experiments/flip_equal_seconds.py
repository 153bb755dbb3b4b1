"""Masking half or three quarters of the patches, at equal seconds (FLIP section 4, Figures 1 and 3)

A ViT on emoji at 32 x 32, nothing tuned afterwards but in one setting. A step with half of the 64 patches takes 0.60,
one with a quarter 0.41 of the time of one with all (one thread, seed 100; the rest of a step does not depend on the
patches), so the masked runs make 1.65 and 2.45 times as many steps. The seconds of the verdict's own runs, measured
beside other work, are reported. FLIP sees each picture at most 32 times; here each is seen 3 to 7 times.
"""

from statistics import mean

from experiments.claims import Claim
from experiments.judging import above
from experiments.tokens import FULL, few, train_on_fewer_tokens, tune
from experiments.verdicts import Check, effect_of, equivalence_verdict, values

STEPS, MARGIN, SECONDS = 150, 0.01, 0.15
TIMES = {32: 1.65, 16: 2.45}  # how many more steps fit in the same seconds
TUNED = 15  # steps on all patches, paid for by as many seconds fewer on a quarter


def masked(tokens: int, steps: int) -> dict:
    """The stage of a random mask, in which *any* number of patches may stay."""
    return few(tokens, "random", steps)


SETTINGS = {
    "none masked": {"stages": [few(FULL, steps=STEPS)]},
    "50 % masked": {"stages": [masked(32, round(TIMES[32] * STEPS))]},
    "75 % masked": {"stages": [masked(16, round(TIMES[16] * STEPS))]},
    "75 % masked, tuned": {"stages": [masked(16, round(TIMES[16] * (STEPS - TUNED))), tune(TUNED)]},
}


def judge(measurements: list[dict]) -> list[Check]:
    """Are both masked runs above the one without? Beside it: tuning, and whether the seconds were equal."""

    def check(a: str, b: str, decisive: bool = False) -> Check:
        sentence = f"{a} over {b}, equal seconds"
        return above(measurements, sentence, {a: 1, b: -1}, MARGIN, decisive=decisive)

    none = "none masked"
    whole = values(measurements, none, "seconds_trained")
    checks = [check(s, none, True) for s in ("50 % masked", "75 % masked")]
    checks += [check("75 % masked, tuned", "75 % masked"), check("75 % masked, tuned", none)]
    for setting in ("50 % masked", "75 % masked"):
        took = values(measurements, setting, "seconds_trained")
        effect = effect_of([took[seed] / mean(whole.values()) - 1 for seed in whole])
        verdict = equivalence_verdict(effect, SECONDS)
        checks.append(Check(f"{setting}: seconds more, as a share", effect, verdict, decisive=False))
    return checks


CLAIM = Claim(
    id="flip-equal-seconds",
    paper="FLIP (2212.00794)",
    figure="Figures 1 and 3, Table 1",
    statement="At equal time, training on half or a quarter of the patches is better than training on all.",
    paper_numbers="ViT-L/16, ImageNet zero-shot: over 3 times faster to equal accuracy; at equal samples 50 % masked "
    "-0.1, with the batch doubled +1.2; 75 % even; tuning without masks +1.3 at 75 %",
    data="emoji at 32 x 32, as many seconds as 38,400 examples with all patches take; zero-shot top-1 of new drawings "
    "among 1,914 names",
    settings=SETTINGS,
    run=train_on_fewer_tokens,
    rule=f"The runs with 50 % and with 75 % masked, at equal seconds, are each above the run without masks by more "
    f"than {100 * MARGIN:.0f} point, with the 95 % interval above zero and the same sign in every seed. Reported "
    f"beside it: a last stage without masks, and whether the seconds were equal within {100 * SECONDS:.0f} %.",
    judge=judge,
    why="Steps are what is missing in so short runs, and masks buy steps: 1.65 and 2.45 times as many for 0.8 and 0.6 "
    "times the FLOPs. Mean seconds were equal within 2 and 6 %; on a busy machine their intervals are wider than the "
    "margin.",
    notebook="13_full_token_fine_tuning",
    minutes=1.0,
    columns=("in_distribution", "fxemoji", "retrieval", "seconds_trained"),
)
