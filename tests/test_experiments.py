"""The runs that claims share, at tiny size on a few hundred emoji."""

import math

import pytest
import torch
from conftest import runner

from experiments import (
    common,
    emoji,
    fit,
    languages,
    scoring,
    siglip_batch_size,
    siglip_bias_init,
    siglip_large_batch,
    siglip_negatives,
    siglip_noise,
    siglip_weight_decay,
    siglit_batch_size,
)
from experiments.judging import above, contrast
from experiments.negatives import masked_sigmoid_loss, step_loss, used_pairs
from experiments.noise import corrupt
from experiments.sweep import complete, run_key
from experiments.verdicts import overall
from minclip.data import step_generator
from minclip.resnet import ResNet

TINY = {"batch_size": 32, "steps": 4, "lr": 3e-3, "embed_dim": 16, "text_width": 32}
RUNS = {
    "locked": (common.train_text_on_locked, {**TINY, "tower_width": 16, "tower_steps": 2}),
    "scratch": (common.train_from_scratch, {**TINY, "image_width": 16, "tower_steps": 2}),
}
run = runner(RUNS)
pytestmark = pytest.mark.usefixtures("few_emoji")


@pytest.fixture(scope="module")
def plain_results(few_emoji):
    return {name: run(name) for name in RUNS}


@pytest.mark.parametrize("name", RUNS)
def test_same_seed_same_result(name, plain_results):
    assert run(name) == plain_results[name]
    assert run(name, seed=1)["curve_loss"] != plain_results[name]["curve_loss"]


@pytest.mark.parametrize("name", RUNS)
def test_result_holds_curves_and_fractions(name, plain_results):
    result = plain_results[name]
    assert result["curve_step"] == [1, 2, 3, 4]
    for key in ("loss", "logit_scale", "logit_bias", "gradient_norm"):
        assert len(result[f"curve_{key}"]) == 4 and all(map(math.isfinite, result[f"curve_{key}"]))
    assert all(0 <= result[key] <= 1 for key in ("in_distribution", "fxemoji", "retrieval", "held_out"))


def test_curves_are_short_and_end_with_the_last_step():
    result = run("locked", steps=83)
    assert len(result["curve_step"]) <= fit.CURVE_POINTS + 1 and result["curve_step"][-1] == 83


CHANGES = {
    "loss": "softmax", "batch_size": 16, "steps": 5, "lr": 1e-2, "weight_decay": 50.0, "beta2": 0.5, "warmup": 1.0,
    "scalar_lr_factor": 30.0, "init_logit_scale": 1.0, "init_logit_bias": -5.0, "bias": "constant", "embed_dim": 24,
    "text_width": 64, "text_layers": 2, "distinct": False, "noise_image": 0.5, "noise_text": 0.5,
    "noise_alignment": 0.5, "tower_width": 32, "tower_steps": 3, "tower_seed": 1, "projection": False,
    "image_width": 32, "muon_lr": 0.02, "tower_decay": 0.0, "negatives": "hard", "negative_ratio": 3.0,
    "mask_duplicates": True, "image_tower": "tuned", "positives": "all", "scale": "fixed",
    "projection_head": "nonlinear", "skew": 1.0, "cap": 100, "tones": False,
}  # fmt: skip
# What a setting needs beside it to matter.
MATTERS_WITH = {
    "negative_ratio": {"negatives": "hard"}, "mask_duplicates": {"distinct": False, "batch_size": 300},
    "positives": {"distinct": False, "batch_size": 300}, "cap": {"skew": 1.0},
    ("scratch", "tower_steps"): {"image_tower": "tuned"}, ("scratch", "tower_seed"): {"image_tower": "tuned"},
    ("scratch", "tower_decay"): {"weight_decay": 50.0},
}  # fmt: skip
MEASURES = ("few_shot",)  # settings that change what is measured, not the training
NO_TRAINED_TOWER = ("locked", "tower_decay")


@pytest.mark.parametrize(
    ("name", "key"),
    [(name, key) for name, (function, _) in RUNS.items() for key in function.defaults if key not in MEASURES],
)
def test_every_setting_changes_the_training(name, key, plain_results):
    beside = MATTERS_WITH.get(key, MATTERS_WITH.get((name, key), {}))
    without = run(name, **beside) if beside else plain_results[name]
    changed = run(name, **{**beside, key: CHANGES[key]})
    assert (changed["curve_loss"] == without["curve_loss"]) == ((name, key) == NO_TRAINED_TOWER)


def test_bias_is_what_the_setting_says():
    learned, constant, relative, none = (run("locked", bias=kind, init_logit_bias=-4.0) for kind in fit.BIASES)
    assert constant["curve_logit_bias"] == [-4.0] * 4 and none["curve_logit_bias"] == [0.0] * 4
    assert learned["curve_logit_bias"][0] == -4.0 != learned["curve_logit_bias"][-1]
    assert relative["curve_logit_bias"][0] == pytest.approx(-4.0) and relative["curve_logit_bias"][1] != -4.0
    assert relative["curve_loss"][0] == pytest.approx(learned["curve_loss"][0], rel=1e-5)
    assert relative["curve_loss"][3] != pytest.approx(learned["curve_loss"][3], rel=1e-7)
    with pytest.raises(ValueError, match="unknown bias 'some'; choose from learned, constant, relative, none"):
        run("locked", bias="some")


def test_softmax_has_no_bias_and_starts_at_its_own_temperature():
    result = run("scratch", loss="softmax", steps=1)
    assert "logit_bias" not in result and "curve_logit_bias" not in result
    assert result["curve_logit_scale"] == pytest.approx([1 / 0.07])


def test_relative_bias_moves_with_the_temperature():
    model = fit.make_model(common.CachedImages(8), complete(*locked(bias="relative")), 0)
    with torch.no_grad():
        model.logit_scale.add_(math.log(2))
    assert fit.bias_of(model, {"bias": "relative"}).item() == pytest.approx(-20)


def locked(**changes):
    return common.train_text_on_locked, changes


def batch(n: int = 400):
    images = torch.zeros(n, 3, 4, 4)
    ids = torch.tensor([1, 9, 9, 9, 2, 0]).repeat(n, 1)
    ids[:, 1] = torch.arange(n) % 200 + 3
    return images, ids


def test_noise_hits_the_share_that_is_asked_for():
    images, ids = batch()
    quiet = {f"noise_{kind}": 0.0 for kind in ("image", "text", "alignment")}
    same_images, same_ids = corrupt(images, ids, quiet, 203, step_generator(0, 5, 0))
    assert same_images is images and same_ids is ids
    noisy, same_ids = corrupt(images, ids, {**quiet, "noise_image": 0.3}, 203, step_generator(0, 5, 0))
    assert 0.2 < noisy.flatten(1).any(1).float().mean() < 0.4 and torch.equal(same_ids, ids)
    assert noisy.abs().max() == 1
    same_images, words = corrupt(images, ids, {**quiet, "noise_text": 0.3}, 203, step_generator(0, 5, 0))
    assert 0.2 < (words != ids).any(1).float().mean() < 0.4 and torch.equal(same_images, images)
    assert torch.equal(words[:, [0, 4, 5]], ids[:, [0, 4, 5]]) and (words[:, 1:4] > 2).all()
    _, moved = corrupt(images, ids, {**quiet, "noise_alignment": 0.3}, 203, step_generator(0, 5, 0))
    assert 0.2 < (moved != ids).any(1).float().mean() < 0.4
    assert torch.equal(moved[:, 1].sort().values, ids[:, 1].sort().values)  # exchanged, none lost
    _, other = corrupt(images, ids, {**quiet, "noise_alignment": 0.3}, 203, step_generator(0, 5, 1))
    assert not torch.equal(other, moved)  # drawn anew each step


def test_each_noise_hits_on_its_own():
    images, ids = batch(4000)
    setting = {"noise_image": 0.3, "noise_text": 0.3, "noise_alignment": 0.0}
    noisy, words = corrupt(images, ids, setting, 203, step_generator(0, 5, 0))
    picture, caption = noisy.flatten(1).any(1), (words != ids).any(1)
    assert picture.float().mean() == pytest.approx(0.3, abs=0.03) == caption.float().mean()
    assert (picture & caption).float().mean() == pytest.approx(0.09, abs=0.02)  # 0.3 if one draw decided for both
    _, exchanged = corrupt(images, ids, {**setting, "noise_alignment": 0.3}, 203, step_generator(0, 5, 0))
    moved = (exchanged != words).any(1)  # the same draws otherwise
    assert all((moved & hit).float().mean() == pytest.approx(0.09, abs=0.02) for hit in (picture, caption))


def test_noise_of_features_has_their_spread():
    features = 5 + 3 * torch.randn(400, 8, generator=torch.Generator().manual_seed(0))
    everything = {"noise_image": 1.0, "noise_text": 0.0, "noise_alignment": 0.0}
    noisy, _ = corrupt(features, batch()[1], everything, 203, step_generator(0, 5, 0))
    assert not torch.equal(noisy, features)
    assert noisy.mean() == pytest.approx(5, abs=0.3) and noisy.std() == pytest.approx(3, abs=0.3)


class Oracle(torch.nn.Module):
    """A model whose picture i says which of the names it is."""

    def __init__(self, text: torch.Tensor) -> None:
        super().__init__()
        self.text = text

    def encode_image(self, rows: torch.Tensor) -> torch.Tensor:
        return self.text[rows]


@pytest.mark.parametrize("right", [True, False])
def test_evaluation_of_a_perfect_and_of_a_wrong_model(monkeypatch, right):
    names = emoji.emoji("train").class_names
    text = torch.nn.functional.normalize(torch.randn(len(names), 64, generator=torch.Generator().manual_seed(0)), dim=1)
    monkeypatch.setattr(scoring, "embed_texts", lambda *_: text)
    monkeypatch.setattr(scoring, "compute_device", lambda: torch.device("cpu"))
    labels = {split: emoji.emoji(split).labels for split in emoji.TEST_SPLITS}
    if not right:  # each picture says the name of the next one
        labels = {split: values.roll(1) for split, values in labels.items()}
    result = scoring.evaluate(Oracle(text), labels)
    assert set(result) == {"in_distribution", "fxemoji", "retrieval", "held_out"}
    assert set(result.values()) == {1.0} if right else max(result.values()) < 0.2


def test_locked_features_are_kept_and_read_again(monkeypatch):
    first = emoji.locked_features(16, 2, 5)
    assert {split: len(x) for split, x in first.items()} == {
        split: len(emoji.emoji(split)) for split in ("train", *emoji.TEST_SPLITS)
    }
    emoji.locked_features.cache_clear()
    monkeypatch.setattr(emoji, "train_image_tower", None)  # may not be called again
    again = emoji.locked_features(16, 2, 5)
    assert all(torch.equal(first[split], again[split]) for split in first)


def test_judge_of_siglip_bias_init():
    matched = {name: 0.12 for name in siglip_bias_init.SETTINGS if "ln(B-1)" in name}
    top1 = dict.fromkeys(siglip_bias_init.SETTINGS, 0.02) | matched | {"b -10, t' log 10": 0.05}
    top1["b -ln(B-1), t' log 1"] = 0.04

    def judged(**raised) -> list[str]:
        rows = [
            {"setting": name, "seed": seed, "in_distribution": value + raised.get(name[:3], 0) + 0.001 * (seed % 2)}
            for seed in range(5)
            for name, value in top1.items()
        ]
        return siglip_bias_init.judge(rows)

    checks = judged()
    assert [check.verdict for check in checks] == ["reproduced"] * 8
    assert checks[0].effect["mean"] == pytest.approx(0.03) and checks[4].effect["mean"] == pytest.approx(0.07)
    assert [check.decisive for check in checks] == [True] * 4 + [False] * 4
    assert overall(checks) == "reproduced"
    checks = judged(**{"b 0": 0.2})
    assert [check.verdict for check in checks[:4]] == ["opposite", "reproduced", "reproduced", "opposite"]
    assert overall(checks) == "not at this scale"


def test_settings_of_siglip_bias_init():
    settings = siglip_bias_init.SETTINGS
    assert len(settings) == 9 == len({run_key(common.train_from_scratch, s) for s in settings.values()})
    assert settings["b -ln(B-1), t' log 10"]["init_logit_bias"] == pytest.approx(-math.log(255), abs=1e-5)
    assert settings["b -10, t' log 1"]["init_logit_scale"] == 0 and settings["b n/a, t' log 10"]["bias"] == "none"


# Negatives


def unit_features(n: int = 12, d: int = 6):
    g = torch.Generator().manual_seed(0)
    return [torch.nn.functional.normalize(torch.randn(n, d, generator=g).double(), dim=1) for _ in range(2)]


def textbook_kept(logits: list[list[float]], kind: str, count: int) -> set[tuple[int, int]]:
    """The pairs that stay: the positives, and the negatives first or last when sorted by their logit."""
    n = len(logits)
    negatives = sorted((logits[i][j], i, j) for i in range(n) for j in range(n) if i != j)
    chosen = negatives[-count:] if kind == "hard" else negatives[:count]
    return {(i, i) for i in range(n)} | {(i, j) for _, i, j in chosen}


@pytest.mark.parametrize(("kind", "ratio"), [("hard", 2.0), ("easy", 2.0), ("hard", 1.6), ("random", 2.5)])
def test_masked_loss_and_gradient_are_the_textbooks(kind, ratio):
    images, texts = (x.requires_grad_() for x in unit_features())
    scale, bias = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (1.2, -2.0))
    parameters = (images, texts, scale, bias)
    generator = lambda: torch.Generator().manual_seed(5)  # noqa: E731
    loss, used = masked_sigmoid_loss(*parameters, kind, ratio, generator=generator())
    ours = torch.autograd.grad(loss, parameters)
    logits = scale.exp() * images @ texts.T + bias
    if kind == "random":  # which are drawn is another test's question
        kept = {tuple(pair) for pair in used_pairs(logits, kind, ratio, generator=generator()).nonzero().tolist()}
    else:
        kept = textbook_kept(logits.tolist(), kind, round(12 * ratio))
    assert used == len(kept) == 12 + round(12 * ratio)
    by_hand = sum(-torch.log(1 / (1 + torch.exp(-(1 if i == j else -1) * logits[i, j]))) for i, j in kept) / 12
    theirs = torch.autograd.grad(by_hand, parameters)
    torch.testing.assert_close(loss, by_hand, rtol=1e-12, atol=0)
    for a, b in zip(ours, theirs):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_hard_keeps_the_highest_logits_and_easy_the_lowest():
    logits = torch.arange(16.0).view(4, 4)  # off the diagonal: 1 2 3 4 6 7 8 9 11 12 13 14
    assert logits[used_pairs(logits, "hard", 0.75) & ~torch.eye(4).bool()].tolist() == [12, 13, 14]
    assert logits[used_pairs(logits, "easy", 0.75) & ~torch.eye(4).bool()].tolist() == [1, 2, 3]
    assert used_pairs(logits, "hard", 99.0).all()  # as many as there are


def test_random_negatives_are_uniform_and_positives_always_used():
    logits, g = torch.arange(36.0).view(6, 6), torch.Generator().manual_seed(0)
    counts = sum(used_pairs(logits, "random", 2.0, generator=g).int() for _ in range(2000))  # [6, 6]
    negatives = counts[~torch.eye(6).bool()]
    assert (counts.diagonal() == 2000).all() and negatives.sum() == 2000 * 12
    assert (negatives - 800).abs().max() < 5 * (2000 * 0.4 * 0.6) ** 0.5  # 12 of 30, five standard deviations


@pytest.mark.parametrize("kind", ["hard", "easy", "random"])
def test_two_pictures_of_a_name_are_never_each_others_negatives(kind):
    labels = torch.tensor([0, 1, 0, 2])
    logits = torch.zeros(4, 4)
    logits[0, 2] = logits[2, 0] = 9.0 if kind == "hard" else -9.0
    used = used_pairs(logits, kind, 99.0, labels, torch.Generator())
    assert used.sum() == 14 and not used[0, 2] and not used[2, 0]
    assert not used_pairs(logits, kind, 0.5, labels, torch.Generator())[[0, 2], [2, 0]].any()


def test_negatives_say_what_they_cannot_do():
    with pytest.raises(ValueError, match="negatives 'soft', ratio 1: choose from random, hard, easy, ratio above 0"):
        used_pairs(torch.zeros(2, 2), "soft", 1)
    with pytest.raises(ValueError, match="ratio above 0"):
        used_pairs(torch.zeros(2, 2), "hard", 0)
    with pytest.raises(ValueError, match="negatives 'hard' are for the sigmoid loss; the softmax uses all"):
        run("locked", loss="softmax", negatives="hard")


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_duplicates_are_masked_and_counted(loss):
    images, texts = unit_features(4)
    labels, none = torch.tensor([0, 1, 0, 2]), torch.Generator()
    setting = {"loss": loss, "negatives": "all", "mask_duplicates": True, "positives": "own"}
    features = images, texts, torch.tensor(1.0), torch.tensor(-1.0)
    masked, used = step_loss(*features, labels, setting, none)
    plain, everything = step_loss(*features, labels, {**setting, "mask_duplicates": False}, none)
    assert (used, everything) == (14, 16) and masked < plain


def test_pairs_are_counted_over_the_run(plain_results):
    for result in plain_results.values():
        assert result["pairs_computed"] == result["pairs_used"] == 4 * 32**2
    result = run("locked", negatives="random", negative_ratio=1.6)
    assert (result["pairs_computed"], result["pairs_used"]) == (4 * 32**2, 4 * (32 + 51))


def test_matched_runs_use_as_many_pairs_as_one_with_all():
    assert siglip_negatives.matched_steps(1.0, steps=10, size=32) == 160  # 10 x 32^2 pairs, 64 a step
    assert siglip_negatives.matched_steps(31, steps=10, size=32) == 10
    everything = siglip_negatives.STEPS * siglip_negatives.SIZE**2
    setting = siglip_negatives.SETTINGS["hard 1:64, matched"]
    used = setting["steps"] * setting["batch_size"] * (1 + setting["negative_ratio"])
    assert used == pytest.approx(everything, rel=1e-3)


# Towers


def test_locked_tower_stays_tuned_and_fresh_ones_learn(monkeypatch):
    towers = []
    watched = lambda model, *rest: [towers.append(model.image_tower), fit.fit(model, *rest)][1]  # noqa: E731
    monkeypatch.setattr(common, "fit", watched)
    trained = emoji.pretrained_tower(16, 2, 0).state_dict()
    # the tower to lock had seed 0, and this run may not begin at the same weights
    results = {kind: run("scratch", seed=1, image_tower=kind, few_shot=True) for kind in common.IMAGE_TOWERS}
    assert isinstance(towers[0], ResNet) and isinstance(towers[1], ResNet)
    assert isinstance(towers[2], common.CachedImages)
    for tower in towers[:2]:
        assert not torch.equal(tower.state_dict()["stem.0.weight"], trained["stem.0.weight"])
    change = [(tower.state_dict()["stem.0.weight"] - trained["stem.0.weight"]).norm() for tower in towers[:2]]
    assert change[1] < 0.1 * change[0]  # the tuned one began where the training on names ended
    again = scoring.few_shot(emoji.tower_features(emoji.pretrained_tower(16, 2, 0), ("train", "in_distribution")))
    assert results["locked"]["few_shot"] == again
    assert all(0 <= result["few_shot"] <= 1 for result in results.values())
    with pytest.raises(ValueError, match="unknown image_tower 'frozen'; choose from scratch, tuned, locked"):
        run("scratch", image_tower="frozen")


def test_each_tower_that_a_sweep_needs_is_prepared_once(monkeypatch):
    asked = []
    monkeypatch.setattr(common, "locked_features", lambda *about: asked.append(("features", *about)))
    monkeypatch.setattr(common, "pretrained_tower", lambda *about: asked.append(("tower", *about)))
    runs = [{"image_tower": kind, "lr": lr} for lr in (1, 2) for kind in ("scratch", "tuned", "locked")]
    runs += [{"image_tower": "tuned", "tower_seed": 3}, {"image_tower": "scratch", "tower_seed": 4}]
    common.train_from_scratch.prepare([complete(common.train_from_scratch, setting) for setting in runs])
    assert sorted(asked) == [("features", 16, 400, 0), ("tower", 16, 400, 0), ("tower", 16, 400, 3)]
    asked.clear()
    for run_function in (common.train_text_on_locked, languages.train_on_languages):
        run_function.prepare([complete(run_function, s) for s in ({}, {"lr": 1}, {"tower_width": 8})])
    assert asked == [("features", 8, 400, 0), ("features", 32, 400, 0)] * 2


def test_pretrained_tower_is_kept_and_read_again(monkeypatch):
    first = emoji.pretrained_tower(16, 2, 7).state_dict()
    monkeypatch.setattr(emoji, "train_image_tower", None)  # may not be called again
    again = emoji.pretrained_tower(16, 2, 7).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)


@pytest.mark.parametrize("muon_lr", [0.0, 0.02])
def test_decay_of_the_image_tower_alone(muon_lr):
    def decays(tower_decay: float) -> dict[str, float]:
        setting = complete(RUNS["scratch"][0], {"weight_decay": 0.3, "tower_decay": tower_decay, "muon_lr": muon_lr})
        model = fit.make_model(ResNet(16, width=16), setting, 0)
        optimizer = fit.optimizer_for(model, setting)
        # the share of a weight that a step takes, in units of the towers' learning rate
        share = {id(p): g["weight_decay"] * g["lr_factor"] for g in optimizer.param_groups for p in g["params"]}
        assert len(share) == sum(len(g["params"]) for g in optimizer.param_groups)  # each parameter once
        return {name: round(share[id(p)], 6) for name, p in model.named_parameters()}

    usual, none, double = decays(1.0), decays(0.0), decays(2.0)
    assert usual["image_tower.stem.0.weight"] == usual["text_projection.weight"] == 0.3
    for name, decay in usual.items():
        inside = name.startswith("image_tower.")
        assert none[name] == (0 if inside else decay) and double[name] == (2 * decay if inside else decay)
    assert usual["image_tower.stem.1.weight"] == 0  # gains never decay


def test_few_shot_of_a_perfect_tower_and_of_one_that_sees_nothing():
    count = len(emoji.emoji("train").class_names)
    perfect = {split: torch.eye(count)[emoji.emoji(split).labels] for split in ("train", "in_distribution")}
    seen = torch.isin(emoji.emoji("in_distribution").labels, emoji.emoji("train").labels)
    plain_name = ["skin tone" not in emoji.emoji("train").class_names[i] for i in emoji.emoji("in_distribution").labels]
    known = torch.tensor(plain_name)
    assert scoring.few_shot(perfect) == pytest.approx((seen & known).sum().item() / known.sum().item(), abs=0.02)
    blind = {split: torch.ones(len(emoji.emoji(split)), 4) for split in ("train", "in_distribution")}
    assert scoring.few_shot(blind) < 0.05


# Judges: a value for each setting with which the claim holds


def holds_batch_size(name: str) -> float:
    loss, size, _ = name.split(", ")
    if loss != "sigmoid":
        return 0.2
    return {"batch 512": 0.2, "batch 1024": 0.1}.get(size, 0.3)


def holds_locked_batch_size(name: str) -> float:
    loss, size, steps = name.split(", ")
    if loss != "sigmoid":
        return 0.2
    if steps == f"{siglit_batch_size.STEPS} steps":
        return {"batch 64": 0.1, "batch 1024": 0.35}.get(size, 0.3)  # saturating
    return 0.3 if size == "batch 64" else 0.25


def holds_negatives(name: str) -> float:
    if name.startswith("easy"):
        return 0.05
    return {"all": 0.5, "random 1:16": 0.4, "random 1:1.6": 0.3}.get(name, 0.6 if "matched" in name else 0.5)


def holds_noise(name: str) -> float:
    return (0.3 if name.startswith("sigmoid") else 0.2) + (0.1 if "clean" in name else 0)


def holds_large_batch(name: str) -> float:
    return {"scratch: 128": 0.5, "scratch: 1024": 0.2, "locked: 128": 0.5, "locked: 1024": 0.45}.get(name, 0.3)


def holds_weight_decay(name: str) -> float:
    return 0.5 if name.startswith("tuned without") else 0.3


CLAIMS = {
    siglip_batch_size: (holds_batch_size, 2),
    siglit_batch_size: (holds_locked_batch_size, 2),
    siglip_negatives: (holds_negatives, 4),
    siglip_noise: (holds_noise, 4),
    siglip_large_batch: (holds_large_batch, 2),
    siglip_weight_decay: (holds_weight_decay, 2),
}


def constructed(module, value, noise: float) -> list[dict]:
    """Measurements of every setting and seed: value(name), and by turns above and below it by up to `noise`."""
    rows, g = [], torch.Generator().manual_seed(0)
    sizes = {name: noise * torch.rand((), generator=g).item() for name in module.SETTINGS}
    for seed in module.CLAIM.seeds:
        for name, size in sizes.items():
            x = value(name) + size * (-1) ** seed
            rows.append({"setting": name, "seed": seed, "in_distribution": x, "few_shot": x, "logit_bias": -x})
    return rows


@pytest.mark.parametrize("module", CLAIMS, ids=lambda module: module.CLAIM.id)
def test_judge_gives_each_verdict(module):
    value, decisive = CLAIMS[module]
    judged = lambda value, noise: module.judge(constructed(module, value, noise))  # noqa: E731
    checks = judged(value, 0.001)
    assert [check.verdict for check in checks if check.decisive] == ["reproduced"] * decisive
    assert [check.decisive for check in checks[:decisive]] == [True] * decisive or module is siglip_noise
    assert overall(checks) == "reproduced"
    assert overall(judged(lambda name: 1 - value(name), 0.001)) == "opposite"
    assert overall(judged(lambda name: 0.3, 0.001)) == "not at this scale"
    assert overall(judged(lambda name: 0.3 + 0.1 * value(name), 2.0)) == "inconclusive"


@pytest.mark.parametrize("module", CLAIMS, ids=lambda module: module.CLAIM.id)
def test_settings_are_runs_of_their_own_that_the_run_knows(module):
    keys = [run_key(module.CLAIM.run, setting) for setting in module.SETTINGS.values()]
    assert len(set(keys)) == len(keys)
    for setting in module.SETTINGS.values():  # every batch can be drawn, and the loss has a bias to start from
        whole = complete(module.CLAIM.run, setting)
        assert whole["batch_size"] <= (1883 if whole["distinct"] else 12615)
        assert (whole["muon_lr"] > 0) == (common.MUON_LR > 0) and whole["steps"] > 10


def test_claims_share_runs():
    def keys(module):
        return {run_key(module.CLAIM.run, setting) for setting in module.SETTINGS.values()}

    sizes = keys(siglip_batch_size)
    assert len(keys(siglip_large_batch) & sizes) >= 5
    assert len(keys(siglip_negatives) & sizes) == 2 and len(keys(siglip_noise) & sizes) == 2


def test_batch_size_panels_hold_steps_and_examples():
    for module in (siglip_batch_size, siglit_batch_size):
        assert {n * steps for n, steps in module.FIXED_EXAMPLES} == {module.EXAMPLES}
        assert {steps for _, steps in module.FIXED_STEPS} == {module.STEPS}
        for loss in siglip_batch_size.LOSSES:  # -10 is asked at equal examples alone
            runs = module.FIXED_EXAMPLES + (module.FIXED_STEPS if loss in siglip_batch_size.LOSSES[:2] else [])
            for n, steps in runs:
                setting = complete(module.CLAIM.run, module.SETTINGS[siglip_batch_size.name(loss, n, steps)])
                assert (setting["batch_size"], setting["steps"], setting["loss"]) == (n, steps, loss.split()[0])
                if loss != "softmax":
                    bias = -math.log(n - 1) if loss == "sigmoid" else -10
                    assert setting["init_logit_bias"] == pytest.approx(bias, abs=1e-5)


def test_factors_of_the_large_batch_differ_in_one_thing():
    for tower in ("scratch", "locked"):
        settings = siglip_large_batch.factors(tower)
        base = {"128": settings["128"], "1024": settings["1024"]}
        changed = {
            "128, steps of 1024": {"steps"}, "1024, 4 x steps": {"steps"}, "1024, faster": {"lr", "muon_lr"},
            "1024, b too high": {"init_logit_bias"}, "1024, b -10": {"init_logit_bias"},
            "1024, duplicates": {"distinct"}, "1024, duplicates masked": {"distinct", "mask_duplicates"},
        }  # fmt: skip
        for name, keys in changed.items():
            a, b = (complete(common.train_from_scratch, s) for s in (settings[name], base[name.split(", ")[0]]))
            assert {key for key in a if a[key] != b[key]} == keys
    large = siglip_large_batch.factors("scratch")
    assert large["1024, b too high"]["init_logit_bias"] == pytest.approx(
        -math.log(1023) + math.log(307200) - 10, abs=0.01
    )


def test_contrast_weighs_settings_seed_by_seed():
    rows = [{"setting": n, "seed": s, "in_distribution": v + s} for n, v in (("a", 5), ("b", 2)) for s in range(3)]
    effect = contrast(rows, {"a": 2, "b": -1})
    assert effect["mean"] == 9 and effect["n"] == 3 and effect["ci95"][0] < 9 < effect["ci95"][1]
    assert contrast(rows, {"a": 1, "b": -1})["ci95"] == [3, 3]
    check = above(rows, "a over b", {"a": 1, "b": -1}, 3.5, unit="nats", decisive=False)
    assert (check.verdict, check.unit, check.decisive) == ("not at this scale", "nats", False)
    with pytest.raises(ValueError, match=r"not run with the same seeds: a \[0, 1, 2\], b \[0, 1\]"):
        contrast(rows[:-1], {"a": 1, "b": -1})
