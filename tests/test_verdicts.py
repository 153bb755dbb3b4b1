"""Verdicts: effects and intervals by hand and against scipy, and what may be concluded from constructed numbers."""

import math

import pytest

from experiments.verdicts import (
    T_QUANTILES,
    Check,
    default_verdict,
    describe,
    effect_of,
    equivalence_verdict,
    overall,
    paired_difference,
)


def test_paired_difference_by_hand():
    rows = [{"setting": "a", "seed": s, "x": x} for s, x in enumerate((5.0, 8.0, 4.0))]
    rows += [{"setting": "b", "seed": s, "x": x} for s, x in reversed(list(enumerate((4.0, 5.0, 2.0))))]
    effect = paired_difference(rows, "a", "b", "x")  # 1, 3, 2: mean 2, standard deviation 1
    half = 4.302652729911275 / math.sqrt(3)  # t with 2 degrees of freedom
    assert effect["mean"] == 2 and effect["n"] == 3 and effect["sign_agreement"] == 1
    assert effect["ci95"] == pytest.approx([2 - half, 2 + half], abs=1e-3)


def test_paired_difference_names_what_is_missing():
    rows = [{"setting": "a", "seed": 0, "x": 1.0}, {"setting": "b", "seed": 1, "x": None}]
    with pytest.raises(ValueError, match="no measurements of the setting 'c'; there are: a, b"):
        paired_difference(rows, "a", "c", "x")
    with pytest.raises(ValueError, match="setting 'b' has no finite 'x' for seed 1"):
        paired_difference(rows, "a", "b", "x")
    rows[1]["x"] = 2.0
    with pytest.raises(ValueError, match=r"not run with the same seeds: \[0\] and \[1\]"):
        paired_difference(rows, "a", "b", "x")


def test_t_quantiles_are_scipys():
    stats = pytest.importorskip("scipy.stats")
    exact = [stats.t.ppf(0.975, df) for df in range(1, 30)]
    assert list(T_QUANTILES) == pytest.approx(exact, abs=6e-4)


def test_interval_is_scipys():
    stats = pytest.importorskip("scipy.stats")
    x = [0.3, -0.1, 0.25, 0.4, 0.05]
    exact = stats.t.interval(0.95, 4, loc=sum(x) / 5, scale=stats.sem(x))
    assert effect_of(x)["ci95"] == pytest.approx(list(exact), abs=1e-4)
    assert effect_of(x)["sign_agreement"] == 0.8


def test_effect_of_one_seed_has_no_interval_and_none_is_an_error():
    assert effect_of([0.5])["ci95"] == [-math.inf, math.inf]
    assert default_verdict(effect_of([0.5]), 0.1) == "inconclusive"
    assert "(one seed, no interval)" in describe(Check("x", effect_of([0.5]), "inconclusive"))
    with pytest.raises(ValueError, match="1 to 30 seeds, got 0"):
        effect_of([])


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [
        ([0.20, 0.22, 0.21], "reproduced"),
        ([-0.20, -0.22, -0.21], "opposite"),
        ([0.01, -0.01, 0.005], "not at this scale"),
        ([0.050, 0.051, 0.052], "not at this scale"),  # there, but smaller than the margin
        ([-0.01, -0.5, 0.0], "inconclusive"),
        ([0.09, 0.11, 0.13], "inconclusive"),  # above the margin, and its interval reaches below it: see next
        ([0.30, 0.32, -0.01], "inconclusive"),
        ([0.0, 0.5, 0.4], "inconclusive"),
    ],
)
def test_default_verdict(differences, verdict):
    margin = 0.12 if differences[0] == 0.09 else 0.1
    assert default_verdict(effect_of(differences), margin) == verdict


def test_reproduced_needs_mean_interval_and_every_seed():
    good = {"mean": 0.2, "ci95": [0.01, 0.39], "sign_agreement": 1.0, "n": 5}
    assert default_verdict(good, 0.1) == "reproduced"
    assert default_verdict({**good, "sign_agreement": 0.8}, 0.1) == "inconclusive"
    assert default_verdict({**good, "ci95": [-0.01, 0.41]}, 0.1) == "inconclusive"
    assert default_verdict(good, 0.2) == "inconclusive"
    bad = {"mean": -0.2, "ci95": [-0.39, -0.01], "sign_agreement": 1.0, "n": 5}
    assert default_verdict(bad, 0.1) == "opposite"
    assert default_verdict({**bad, "sign_agreement": 0.8}, 0.1) == "not at this scale"


@pytest.mark.parametrize(
    ("ci95", "verdict"),
    [
        ([-0.02, 0.02], "reproduced"),
        ([0.01, 0.02], "reproduced"),
        ([0.04, 0.2], "not at this scale"),
        ([-0.2, -0.04], "not at this scale"),
        ([0.0, 0.2], "inconclusive"),
        ([-0.2, 0.0], "inconclusive"),
    ],
)
def test_equivalence_verdict(ci95, verdict):
    assert equivalence_verdict({"ci95": ci95}, 0.03) == verdict


@pytest.mark.parametrize(
    ("verdicts", "together"),
    [
        (["reproduced", "reproduced"], "reproduced"),
        (["opposite"], "opposite"),
        (["reproduced", "opposite"], "not at this scale"),
        (["inconclusive", "not at this scale"], "not at this scale"),
        (["reproduced", "inconclusive"], "inconclusive"),
    ],
)
def test_overall_verdict_is_a_conjunction(verdicts, together):
    assert overall([Check("", {}, verdict) for verdict in verdicts]) == together


def test_what_is_beside_the_claim_does_not_decide():
    assert overall([Check("", {}, "reproduced"), Check("", {}, "opposite", decisive=False)]) == "reproduced"


def test_overall_refuses_no_checks_and_unknown_verdicts():
    for checks in ([], [Check("", {}, "maybe")], [Check("", {}, "reproduced", decisive=False)]):
        with pytest.raises(ValueError, match="a judge returns a decisive Check"):
            overall(checks)


def test_describe_shows_fractions_as_points_and_other_units_as_they_are():
    effect = {"mean": 0.1234, "ci95": [0.1, 0.15], "sign_agreement": 0.8, "n": 5}
    assert describe(Check("gain", effect, "reproduced")) == "gain: +12.3 points [+10.0, +15.0], 4 of 5 seeds"
    assert describe(Check("rise", effect, "reproduced", "nats")) == "rise: +0.123 nats [+0.1, +0.15], 4 of 5 seeds"


def test_thousands_are_whole_numbers():
    effect = {"mean": 9323.85, "ci95": [-1234.4, 12.345], "sign_agreement": 1.0, "n": 2}
    assert describe(Check("price", effect, "reproduced", unit="dollars")) == (
        "price: +9,324 dollars [-1,234, +12.3], 2 of 2 seeds"
    )
