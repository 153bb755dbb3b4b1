"""Model, data and schedule scaled together, against one at a time, at equal FLOPs (CLIPA-v2 section 4)

The base is a ViT 32 wide on emoji resized to 16 tokens, one drawing of each concept (a third of the pictures), 100
steps. Four times its FLOPs go into a wider model, or into a longer schedule, or into some of both; more pictures cost
nothing, so each is also run on all of them. "Together" is a model 48 wide, a schedule to fit, and all pictures. The
paper scales all three and does not hold FLOPs equal. Heads are 32 to 48 wide.
"""

from experiments.claims import Claim
from experiments.judging import above
from experiments.sweep import complete
from experiments.tokens import few, flops_of, train_on_fewer_tokens
from experiments.verdicts import Check

STEPS, TIMES, MARGIN = 100, 4, 0.01
WIDE, BETWEEN, NARROW = 80, 48, 32  # 80: as many steps cost about four times as much


def setting(width: int, steps: int, drawings: float) -> dict:
    """One stage on 16 tokens."""
    return {"image_width": width, "drawings": drawings, "stages": [few(16, steps=steps)]}


def steps_for(width: int) -> int:
    """The steps that cost four times the base."""
    cost = lambda w, n: flops_of(complete(train_on_fewer_tokens, setting(w, n, 1.0)))  # noqa: E731
    return round(TIMES * cost(NARROW, STEPS) / cost(width, 1))


FEW, ALL = 0.35, 1.0
SETTINGS = {
    "base": setting(NARROW, STEPS, FEW),
    "data": setting(NARROW, STEPS, ALL),
    "model": setting(WIDE, steps_for(WIDE), FEW),
    "schedule": setting(NARROW, steps_for(NARROW), FEW),
    "model, data": setting(WIDE, steps_for(WIDE), ALL),
    "schedule, data": setting(NARROW, steps_for(NARROW), ALL),
    "together": setting(BETWEEN, steps_for(BETWEEN), ALL),
}


def judge(measurements: list[dict]) -> list[Check]:
    """Is together above each alone? Beside it: above each with all data, and what each alone gives."""

    def check(a: str, b: str, decisive: bool = False) -> Check:
        return above(measurements, f"{a} over {b}", {a: 1, b: -1}, MARGIN, decisive=decisive)

    checks = [check("together", one, True) for one in ("model", "schedule", "data")]
    checks += [check("together", f"{one}, data") for one in ("model", "schedule")]
    return checks + [check(one, "base") for one in ("model", "schedule", "data")]


CLAIM = Claim(
    id="clipav2-scaling",
    paper="CLIPA-v2 (2306.15658)",
    figure="Section 4; scaling of model, data and schedule",
    statement="Scaling model, data and schedule together is better than scaling one of them, here at equal FLOPs.",
    paper_numbers="84, 224 and 336 pixels, 12.8 billion samples: H/14 on DataComp-1B 81.8, L/14 80.3; "
    "H/14 on LAION-2B 79.1",
    data="emoji at 16 x 16, a third of the training pictures or all; zero-shot top-1 of new drawings among 1,914 names",
    settings=SETTINGS,
    run=train_on_fewer_tokens,
    rule=f"Together is above model, schedule and data alone, each by more than {100 * MARGIN:.0f} point, with the 95 % "
    "interval above zero and the same sign in every seed. All but data and base cost four times the base's FLOPs. "
    "Reported beside it, with the same margin: against model or schedule with all data, and what each alone gives.",
    judge=judge,
    why="Steps are what is missing: with all pictures on both sides, four times the steps are 7.2 points above a bit "
    "of everything, and that is 6.7 above the wider model. The decisive checks give together three times the pictures "
    "of model and schedule; more pictures alone, at as many steps, change nothing.",
    notebook="13_full_token_fine_tuning",
    minutes=0.4,
    columns=("in_distribution", "fxemoji", "seconds_trained"),
    n_seeds=5,
)
