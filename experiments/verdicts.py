"""Verdicts by rule: an effect over paired seeds with its interval, and what may be concluded from it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev

VERDICTS = ("reproduced", "opposite", "not at this scale", "inconclusive")
# 97.5 % quantiles of Student's t for 1 to 29 degrees of freedom (Abramowitz & Stegun, table 26.10).
T_QUANTILES = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045,
)  # fmt: skip


@dataclass(frozen=True)
class Check:
    """One sentence that the runs can answer, its effect (`paired_difference`) and its verdict.

    unit: what the effect counts; `points` shows fractions times 100. decisive: whether the claim's verdict
    rests on it; what the paper did not say is only reported.
    """

    sentence: str
    effect: dict
    verdict: str
    unit: str = "points"
    decisive: bool = True


def values(measurements: list[dict], setting: str, key: str) -> dict[int, float]:
    """One measured value by seed. Raises ValueError when the setting or key is missing or a value is not finite."""
    found = {m["seed"]: m.get(key) for m in measurements if m["setting"] == setting}
    if not found:
        known = ", ".join(dict.fromkeys(m["setting"] for m in measurements))
        raise ValueError(f"no measurements of the setting {setting!r}; there are: {known}")
    bad = [seed for seed, value in found.items() if value is None]
    if bad:
        raise ValueError(f"setting {setting!r} has no finite {key!r} for seed {bad[0]}; it cannot be compared")
    return found


def paired_difference(measurements: list[dict], a: str, b: str, key: str) -> dict:
    """a minus b, seed by seed: {mean, ci95, sign_agreement, n}; see `effect_of`."""
    left, right = values(measurements, a, key), values(measurements, b, key)
    if left.keys() != right.keys():
        raise ValueError(f"{a!r} and {b!r} were not run with the same seeds: {sorted(left)} and {sorted(right)}")
    return effect_of([left[seed] - right[seed] for seed in left])


def effect_of(differences: Sequence[float]) -> dict:
    """Mean of one number a seed, its 95 % interval (Student's t), and the share of seeds with the mean's sign.

    One seed has no interval: (-infinity, infinity). Raises ValueError for none, or more than 30.
    """
    n = len(differences)
    if not 1 <= n <= 30:
        raise ValueError(f"an effect needs 1 to 30 seeds, got {n}")
    centre = mean(differences)
    half = T_QUANTILES[n - 2] * stdev(differences) / math.sqrt(n) if n > 1 else math.inf
    same = sum(d * centre > 0 for d in differences) / n
    return {"mean": centre, "ci95": [centre - half, centre + half], "sign_agreement": same, "n": n}


def default_verdict(effect: dict, margin: float = 0.0) -> str:
    """The verdict on "there is a positive effect larger than `margin`" (in the unit of the effect, >= 0).

    reproduced: mean above the margin, interval above zero, and the same sign in every seed. opposite: the
    same for minus the effect. not at this scale: neither, and the whole interval below the margin, so that
    an effect of the claimed size is excluded. inconclusive: anything else; more seeds would tell.
    """
    lo, hi = effect["ci95"]
    agreed = effect["sign_agreement"] == 1
    if effect["mean"] > margin and lo > 0 and agreed:
        return "reproduced"
    if effect["mean"] < -margin and hi < 0 and agreed:
        return "opposite"
    return "not at this scale" if hi < margin else "inconclusive"


def equivalence_verdict(effect: dict, margin: float) -> str:
    """The verdict on "there is no difference as large as `margin`": is the interval inside, outside, or across it?"""
    lo, hi = effect["ci95"]
    if -margin < lo and hi < margin:
        return "reproduced"
    return "not at this scale" if lo > margin or hi < -margin else "inconclusive"


def overall(checks: Sequence[Check]) -> str:
    """The verdict on all decisive checks together, as a conjunction.

    reproduced or opposite: every one is. not at this scale: some part was measured not to hold (opposite or
    not at this scale). inconclusive: none was, but some are inconclusive.
    """
    found = {check.verdict for check in checks if check.decisive}
    if not found or found - set(VERDICTS):
        raise ValueError(f"verdicts {sorted(found)} are not among {VERDICTS}; a judge returns a decisive Check")
    if len(found) == 1:
        return found.pop()
    return "not at this scale" if found & {"opposite", "not at this scale"} else "inconclusive"


def number(value: float, unit: str) -> str:
    """A signed number: fractions as points (percent), all else with three digits, thousands as whole numbers."""
    if unit == "points":
        return f"{100 * value:+.1f}"
    return f"{value:+,.0f}" if abs(value) >= 1000 else f"{value:+.3g}"


def describe(check: Check) -> str:
    """A check in words: `sentence: +3.2 points [+1.1, +5.3], 5 of 5 seeds`."""
    effect, n = check.effect, check.effect["n"]
    low, high = (number(x, check.unit) for x in effect["ci95"])
    interval = f"[{low}, {high}]" if n > 1 else "(one seed, no interval)"
    agree = f"{round(effect['sign_agreement'] * n)} of {n} seeds"
    return f"{check.sentence}: {number(effect['mean'], check.unit)} {check.unit} {interval}, {agree}"
