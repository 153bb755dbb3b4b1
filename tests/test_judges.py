"""What judges compute, from expressions written by hand after their rules; and that what is committed has a claim."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from statistics import mean

import pytest
import torch

from minclip.claims import ROOT, load_claims
from minclip.sweep import RUN_FOLDERS, run_path
from minclip.verdicts import effect_of

CLAIMS = load_claims()
LANGUAGES = ("en", "de", "es", "fr", "hi", "ja", "ko", "ru", "th", "zh")
KEYS = (
    "in_distribution", "fxemoji", "retrieval", "held_out", "few_shot", "logit_scale", "logit_bias", "zero_shot",
    "update_before", "update", "loss_after", "largest_jump",
    *(f"{kind}_{split}" for kind in ("pairs", "raw", "best") for split in ("in_distribution", "fxemoji", "openmoji")),
    *(f"retrieval_{language}" for language in LANGUAGES),
)  # fmt: skip


@dataclass(frozen=True)
class Expected:
    """One check: its number in one seed, from v(setting, key="in_distribution"), and from where on it holds.

    margin: as the claim's rule or the sentence names it; None when neither does. kind: the number is to be "more" than
    the margin, "under" it, or "equal" (nearer to zero than that).
    """

    number: Callable
    margin: float | None = None
    decisive: bool = False
    kind: str = "more"
    unit: str = "points"


def decides(number: Callable, margin: float, kind: str = "more", unit: str = "points") -> Expected:
    return Expected(number, margin, True, kind, unit)


def over(a: str, b: str, key: str = "in_distribution") -> Callable:
    return lambda v: v(a, key) - v(b, key)


def ahead(v, loss: str, steps: dict[int, int]) -> float:
    """`loss` over softmax, mean of batch sizes; steps: of each batch size."""
    runs = [f"batch {size}, {n} steps" for size, n in steps.items()]
    return mean(v(f"{loss}, {run}") for run in runs) - mean(v(f"softmax, {run}") for run in runs)


def sigmoid(v, size: int, steps: int) -> float:
    return v(f"sigmoid, batch {size}, {steps} steps")


SMALL, LARGE, SMALL_EQUAL_STEPS = {32: 1920, 64: 960, 128: 480}, {512: 120, 1024: 60}, {32: 240, 64: 240, 128: 240}
BATCH_SIZE = [
    decides(lambda v: ahead(v, "sigmoid", SMALL), 0.01),
    decides(lambda v: sigmoid(v, 128, 480) - sigmoid(v, 1024, 60), 0.05),
    Expected(lambda v: ahead(v, "sigmoid", SMALL) - ahead(v, "sigmoid", LARGE)),
    Expected(lambda v: ahead(v, "sigmoid", SMALL_EQUAL_STEPS)),
    Expected(lambda v: ahead(v, "sigmoid from b -10", SMALL)),
    Expected(lambda v: sigmoid(v, 128, 240) - sigmoid(v, 32, 240) - 2 * (sigmoid(v, 512, 240) - sigmoid(v, 128, 240))),
    Expected(lambda v: sigmoid(v, 256, 240) - sigmoid(v, 1024, 60) - (sigmoid(v, 256, 960) - sigmoid(v, 1024, 240))),
]
L_SMALL, L_LARGE, L_EQUAL_STEPS = {64: 1600, 256: 400}, {2048: 50, 4096: 25}, {64: 400, 256: 400}
LOCKED_BATCH_SIZE = [
    decides(lambda v: ahead(v, "sigmoid", L_SMALL), 0.01),
    decides(
        lambda v: max(sigmoid(v, 1024, 100), sigmoid(v, 2048, 50), sigmoid(v, 4096, 25)) - sigmoid(v, 256, 400),
        0.01,
        "under",
    ),
    Expected(lambda v: ahead(v, "sigmoid", L_SMALL) - ahead(v, "sigmoid", L_LARGE)),
    Expected(lambda v: sigmoid(v, 256, 400) - sigmoid(v, 4096, 25)),
    Expected(lambda v: sigmoid(v, 256, 400) - sigmoid(v, 64, 400) - 2 * (sigmoid(v, 1024, 400) - sigmoid(v, 256, 400))),
    Expected(lambda v: ahead(v, "sigmoid", L_EQUAL_STEPS)),
    Expected(lambda v: ahead(v, "sigmoid from b -10", L_SMALL)),
]


def cost(beta2: str, key: str) -> Callable:
    """By how much the spike raises a value."""
    return over(f"beta2 {beta2}, spike", f"beta2 {beta2}, no spike", key)


SLOW, FAST = "beta2 0.999, ", "beta2 0.95, "
BETA2 = [
    decides(over(SLOW + "spike", FAST + "spike", "update"), 0.5, unit="lr"),
    decides(lambda v: cost("0.999", "loss_after")(v) - cost("0.95", "loss_after")(v), 0.5, unit="nats"),
    Expected(over("beta2 0.98, spike", FAST + "spike", "update"), unit="lr"),
    Expected(cost("0.95", "loss_after"), unit="nats"),
    Expected(lambda v: cost("0.95", "in_distribution")(v) - cost("0.999", "in_distribution")(v)),
    Expected(over(SLOW + "no spike", FAST + "no spike", "largest_jump"), unit="times"),
    Expected(over(SLOW + "no spike", FAST + "no spike"), kind="equal"),
]

FREE = "balanced, no b, t' log 10"


def six(v, loss: str) -> list[float]:
    """Top-1 from the six starts."""
    return [v(f"{loss}, b {b}, t' log {t}") for b in ("-10", "-ln(B-1)", "0") for t in (10, 1)]


def spread(numbers: list[float]) -> float:
    return max(numbers) - min(numbers)


BIAS_FREE = [
    decides(lambda v: spread(six(v, "usual")) - spread(six(v, "balanced")), 0.03),
    decides(over("usual, b -10, t' log 10", FREE), 0.02, "under"),
    Expected(over(FREE, "usual, b -10, t' log 10")),
    Expected(over("usual, b -ln(B-1), t' log 10", FREE), 0.02, kind="under"),
    Expected(over("balanced, b 0, t' log 10", FREE), 0.02, kind="under"),
    Expected(lambda v: max(six(v, "usual")) - max(six(v, "balanced"))),
    Expected(lambda v: spread(six(v, "usual")) - abs(v(FREE) - v("balanced, no b, t' log 1"))),
]

PAPER, MATCHED = "b -10, t' log 10", "b -ln(B-1), t' log 10"
BIAS_INIT = [
    decides(over(PAPER, "b 0, t' log 10"), 0.02),
    decides(over(PAPER, "b n/a, t' log 10"), 0.02),
    decides(over(PAPER, "b -10, t' log 1"), 0.02),
    decides(over(PAPER, "b 0, t' log 1"), 0.02),
    Expected(over(MATCHED, PAPER)),
    Expected(over(MATCHED, "b -ln(B-1), t' log 1")),
    Expected(over("b -ln(B-1) constant, t' log 10", MATCHED), 0.02, kind="equal"),
    Expected(over("b -ln(B-1) relative, t' log 10", MATCHED), 0.02, kind="equal"),
]

OURS = "sigmoid, b from -ln(B-1)"
CALIBRATION = [
    decides(lambda v: v(OURS, "pairs_in_distribution"), 0.05, "under"),
    decides(over("softmax", OURS, "pairs_in_distribution"), 0.01),
    decides(lambda v: v(OURS, "pairs_fxemoji"), 0.05, "under"),
    decides(over("softmax", OURS, "pairs_fxemoji"), 0.01),
    Expected(lambda v: v(OURS, "pairs_openmoji"), 0.05, kind="under"),
    Expected(over("softmax", OURS, "pairs_openmoji")),
    Expected(lambda v: v(OURS, "pairs_fxemoji") - v(OURS, "pairs_in_distribution")),
    Expected(lambda v: v(OURS, "raw_in_distribution") - v(OURS, "pairs_in_distribution")),
    Expected(over("sigmoid, b from -10", OURS, "pairs_in_distribution")),
    Expected(over("softmax", OURS, "best_in_distribution")),
]


def large_batch_loses(tower: str, loss: str = "") -> Callable:
    return over(f"{tower}: 128{loss}", f"{tower}: 1024{loss}")


def factors(tower: str) -> list[Expected]:
    pairs = {
        "1024": "128, steps of 1024", "1024, 4 x steps": "1024", "1024, faster": "1024", "1024 ": "1024, b too high",
        "1024  ": "1024, b -10", "1024, duplicates masked": "1024, duplicates",
    }  # fmt: skip
    return [Expected(over(f"{tower}: {a.strip()}", f"{tower}: {b}"), 0.02) for a, b in pairs.items()]


def sigmoid_loses_more(tower: str) -> Expected:
    return Expected(lambda v: large_batch_loses(tower)(v) - large_batch_loses(tower, ", softmax")(v), 0.02)


LARGE_BATCH = [
    decides(large_batch_loses("scratch"), 0.05),
    decides(lambda v: large_batch_loses("scratch")(v) - large_batch_loses("locked")(v), 0.02),
    *factors("scratch"),
    *factors("locked"),
    sigmoid_loses_more("scratch"),
    sigmoid_loses_more("locked"),
]

NEGATIVES = [
    decides(over("random 1:16", "easy 1:16"), 0.05),
    decides(over("all", "random 1:1.6"), 0.03),
    decides(over("hard 1:16", "random 1:16"), 0.03),
    decides(over("hard 1:64, matched", "all"), 0.0),
    Expected(over("all, 4 x steps", "hard 1:64, matched")),
    Expected(over("all", "hard 1:64")),
    Expected(over("hard 1:1.6", "random 1:1.6")),
    Expected(over("random 1:1.6", "all", "logit_bias"), unit="nats"),
]


KINDS = ("image", "text", "alignment", "all three")


def under_noise(kind: str) -> Callable:
    return lambda v: mean(v(f"sigmoid, {kind} {p}%") - v(f"softmax, {kind} {p}%") for p in (25, 50))


def kept(v, loss: str) -> float:
    clean = v(f"{loss}, clean")
    return mean(v(f"{loss}, {kind} {p}%") / clean for kind in KINDS for p in (25, 50))


def least_harm(v) -> float:
    return min(v(f"{loss}, clean") - v(f"{loss}, {kind} 50%") for loss in ("softmax", "sigmoid") for kind in KINDS)


NOISE = [
    decides(under_noise("image"), 0.01),
    decides(under_noise("text"), 0.01),
    decides(under_noise("alignment"), 0.01),
    decides(under_noise("all three"), 0.01),
    Expected(lambda v: kept(v, "sigmoid") - kept(v, "softmax")),
    Expected(least_harm),
    Expected(over("sigmoid, clean", "softmax, clean")),
]

WITH, WITHOUT = "tuned with decay, 240 steps", "tuned without, 240 steps"
WEIGHT_DECAY = [
    decides(over(WITHOUT, WITH), 0.02),
    decides(over(WITHOUT, WITH, "few_shot"), 0.02),
    Expected(over(WITHOUT, "scratch, 240 steps")),
    Expected(over(WITH, "scratch, 240 steps")),
    Expected(over("tuned without, usual decay, 240 steps", "tuned with decay, usual decay, 240 steps")),
    Expected(over("tuned with decay, usual decay, 240 steps", "scratch, usual decay, 240 steps")),
]

MIDDLE = "ten languages, batch 256"


def each_alone(v) -> float:
    return mean(v(f"{x} alone, batch 256", f"retrieval_{x}") - v(MIDDLE, f"retrieval_{x}") for x in LANGUAGES)


MANY_LANGUAGES = [
    decides(over(MIDDLE, "ten languages, batch 1024", "retrieval"), 0.02),
    Expected(over(MIDDLE, "ten languages, batch 64", "retrieval")),
    Expected(over(MIDDLE, "ten languages, batch 1024", "zero_shot")),
    Expected(each_alone),
    Expected(over("en alone, batch 256", MIDDLE, "retrieval_en")),
    Expected(over(MIDDLE, "en alone, a tenth of the steps", "retrieval_en")),
]

EXPECTED = {
    "siglip-batch-size": BATCH_SIZE, "siglit-batch-size": LOCKED_BATCH_SIZE, "siglip-beta2": BETA2,
    "siglip-bias-free": BIAS_FREE, "siglip-bias-init": BIAS_INIT, "siglip-calibration": CALIBRATION,
    "siglip-large-batch": LARGE_BATCH, "siglip-negatives": NEGATIVES, "siglip-noise": NOISE,
    "siglip-weight-decay": WEIGHT_DECAY, "msiglip-languages": MANY_LANGUAGES,
}  # fmt: skip
every_claim = pytest.mark.parametrize("id", CLAIMS)


def drawn(claim) -> list[dict]:
    """Measurements in which every number is another one, between 0.02 and 0.1, so that limits lie among them."""
    generator = torch.Generator().manual_seed(SEED)
    found = 0.02 + 0.08 * torch.rand(claim.n_seeds, len(claim.settings), len(KEYS), generator=generator)
    return [
        {"setting": name, "seed": seed, **dict(zip(KEYS, numbers))}
        for seed, table in enumerate(found.tolist())
        for name, numbers in zip(claim.settings, table)
    ]


SEED = 18  # one with which limits have seeds on both sides, which the test asserts


def reader(rows: list[dict], seed: int) -> Callable:
    table = {row["setting"]: row for row in rows if row["seed"] == seed}
    return lambda setting, key="in_distribution": table[setting][key]


@every_claim
def test_every_check_shows_the_number_that_its_rule_names(id):
    claim, rows = CLAIMS[id], drawn(CLAIMS[id])
    checks = claim.judge(rows)
    assert len(checks) == len(EXPECTED[id])
    for check, expected in zip(checks, EXPECTED[id]):
        numbers = [expected.number(reader(rows, seed)) for seed in claim.seeds]
        effect = effect_of(numbers)
        assert check.effect["mean"] == pytest.approx(effect["mean"], abs=1e-12), check.sentence
        assert check.effect["ci95"] == pytest.approx(effect["ci95"], abs=1e-12), check.sentence
        assert (check.unit, check.decisive) == (expected.unit, expected.decisive), check.sentence
        share = effect["sign_agreement"]
        if expected.kind == "under":
            share = sum(number < expected.margin for number in numbers) / claim.n_seeds
            assert 0 < share < 1
        assert check.effect["sign_agreement"] == share and check.effect["n"] == claim.n_seeds, check.sentence


def lift(claim, number: Callable, target: float) -> list[dict]:
    """Measurements, the same in every seed, with which a number is `target`: all alike but for one of them."""
    alike = {name: dict.fromkeys(KEYS, 0.5) for name in claim.settings}
    v = lambda setting, key="in_distribution": alike[setting][key]  # noqa: E731
    began = number(v)
    for name in claim.settings:
        for key in KEYS:
            alike[name][key] = 0.5 + 1e-3
            slope = (number(v) - began) / 1e-3
            alike[name][key] = 0.5 + (target - began) / slope if slope > 1e-6 else 0.5
            if slope > 1e-6:
                assert number(v) == pytest.approx(target, abs=1e-9)
                return [{"setting": n, "seed": seed, **row} for seed in claim.seeds for n, row in alike.items()]
    raise AssertionError("nothing raises this number")


@every_claim
def test_a_check_holds_from_the_margin_on_that_the_rule_names(id):
    claim, tested = CLAIMS[id], 0
    for i, expected in enumerate(EXPECTED[id]):
        assert expected.margin is not None or not expected.decisive
        if expected.margin is None:
            continue
        shown = f"{expected.margin * (100 if expected.unit == 'points' else 1):g}"
        assert expected.margin == 0 or shown in re.findall(r"\d+(?:\.\d+)?", claim.rule)
        less, more = (
            claim.judge(lift(claim, expected.number, expected.margin + step))[i].verdict == "reproduced"
            for step in (-1e-4, 1e-4)
        )
        assert (less, more) == ((False, True) if expected.kind == "more" else (True, False)), (i, shown)
        tested += 1
    assert tested


# what is committed


def test_every_kept_run_is_one_of_a_claim():
    wanted = {
        run_path(claim.run, setting, seed).name
        for claim in CLAIMS.values()
        for setting in claim.settings.values()
        for seed in claim.seeds
    }
    found = {path.name for path in (ROOT / RUN_FOLDERS[0]).glob("*.json")}
    assert not found - wanted, f"no claim asks for these runs: {sorted(found - wanted)}"


def test_every_verdict_has_a_claim():
    files = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in (ROOT / "results").glob("*.json")}
    verdicts = {name: content["id"] for name, content in files.items() if "verdict" in content}
    assert verdicts and all(name == id for name, id in verdicts.items())
    assert not verdicts.keys() - CLAIMS.keys()
