"""The runs that claims share, at tiny size on a few hundred emoji."""

import math

import pytest
import torch

from experiments import common, siglip_bias_init
from minclip.claims import overall
from minclip.data import load_pairs
from minclip.sweep import complete, run_key

TINY = {"batch_size": 32, "steps": 4, "lr": 3e-3, "embed_dim": 16, "text_width": 32}
RUNS = {
    "locked": (common.train_text_on_locked, {**TINY, "tower_width": 16, "tower_steps": 2}),
    "scratch": (common.train_from_scratch, {**TINY, "image_width": 16}),
}


@pytest.fixture(scope="module", autouse=True)
def few_emoji(tmp_path_factory):
    """Every 30th training pair, every 10th of the tests, and a cache of their own."""
    patch = pytest.MonkeyPatch()
    splits = {}
    for split in ("train", *common.TEST_SPLITS):
        pairs = load_pairs("emoji", split, common.IMAGE_SIZE)
        splits[split] = pairs.select(torch.arange(0, len(pairs), 30 if split == "train" else 10))
    patch.setattr(common, "emoji", splits.__getitem__)
    patch.setattr(common, "CACHE", tmp_path_factory.mktemp("cache"))
    for cached in (common.tokenised, common.locked_features):
        cached.cache_clear()
    yield
    patch.undo()
    for cached in (common.tokenised, common.locked_features):
        cached.cache_clear()


def run(name: str, seed: int = 0, **changes) -> dict:
    function, tiny = RUNS[name]
    return function(complete(function, {**tiny, **changes}), seed)


@pytest.fixture(scope="module")
def plain_results():
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
    assert len(result["curve_step"]) <= common.CURVE_POINTS + 1 and result["curve_step"][-1] == 83


CHANGES = {
    "loss": "softmax", "batch_size": 16, "steps": 5, "lr": 1e-2, "weight_decay": 50.0, "beta2": 0.5, "warmup": 1.0,
    "scalar_lr_factor": 30.0, "init_logit_scale": 1.0, "init_logit_bias": -5.0, "bias": "constant", "embed_dim": 24,
    "text_width": 64, "text_layers": 2, "distinct": False, "noise_image": 0.5, "noise_text": 0.5,
    "noise_alignment": 0.5, "tower_width": 32, "tower_steps": 3, "tower_seed": 1, "projection": False,
    "image_width": 32,
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "key"), [(name, key) for name, (function, _) in RUNS.items() for key in function.defaults]
)
def test_every_setting_changes_the_training(name, key, plain_results):
    changed = run(name, **{key: CHANGES[key]})
    assert changed["curve_loss"] != plain_results[name]["curve_loss"]


def test_bias_is_what_the_setting_says():
    learned, constant, relative, none = (run("locked", bias=kind, init_logit_bias=-4.0) for kind in common.BIASES)
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
    model = common.make_model(common.CachedImages(8), complete(*locked(bias="relative")), 0)
    with torch.no_grad():
        model.logit_scale.add_(math.log(2))
    assert common.bias_of(model, {"bias": "relative"}).item() == pytest.approx(-20)


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
    same_images, same_ids = common.corrupt(images, ids, quiet, 0, 0)
    assert same_images is images and same_ids is ids
    noisy, same_ids = common.corrupt(images, ids, {**quiet, "noise_image": 0.3}, 0, 0)
    assert 0.2 < noisy.flatten(1).any(1).float().mean() < 0.4 and torch.equal(same_ids, ids)
    assert noisy.abs().max() == 1
    same_images, words = common.corrupt(images, ids, {**quiet, "noise_text": 0.3}, 0, 0)
    assert 0.2 < (words != ids).any(1).float().mean() < 0.4 and torch.equal(same_images, images)
    assert torch.equal(words[:, [0, 4, 5]], ids[:, [0, 4, 5]]) and (words[:, 1:4] > 2).all()
    _, moved = common.corrupt(images, ids, {**quiet, "noise_alignment": 0.3}, 0, 0)
    assert 0.2 < (moved != ids).any(1).float().mean() < 0.4
    assert torch.equal(moved[:, 1].sort().values, ids[:, 1].sort().values)  # exchanged, none lost
    _, other = common.corrupt(images, ids, {**quiet, "noise_alignment": 0.3}, 0, 1)
    assert not torch.equal(other, moved)  # drawn anew each step


def test_noise_of_features_has_their_spread():
    features = 5 + 3 * torch.randn(400, 8, generator=torch.Generator().manual_seed(0))
    everything = {"noise_image": 1.0, "noise_text": 0.0, "noise_alignment": 0.0}
    noisy, _ = common.corrupt(features, batch()[1], everything, 0, 0)
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
    names = common.emoji("train").class_names
    text = torch.nn.functional.normalize(torch.randn(len(names), 64, generator=torch.Generator().manual_seed(0)), dim=1)
    monkeypatch.setattr(common, "embed_texts", lambda *_: text)
    monkeypatch.setattr(common, "compute_device", lambda: torch.device("cpu"))
    labels = {split: common.emoji(split).labels for split in common.TEST_SPLITS}
    if not right:  # each picture says the name of the next one
        labels = {split: values.roll(1) for split, values in labels.items()}
    result = common.evaluate(Oracle(text), labels)
    assert set(result) == {"in_distribution", "fxemoji", "retrieval", "held_out"}
    assert set(result.values()) == {1.0} if right else max(result.values()) < 0.2


def test_locked_features_are_kept_and_read_again(monkeypatch):
    first = common.locked_features(16, 2, 5)
    assert {split: len(x) for split, x in first.items()} == {
        split: len(common.emoji(split)) for split in ("train", *common.TEST_SPLITS)
    }
    common.locked_features.cache_clear()
    monkeypatch.setattr(common, "train_image_tower", None)  # may not be called again
    again = common.locked_features(16, 2, 5)
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
