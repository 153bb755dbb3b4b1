"""The claims that train small CLIPs from scratch: temperature, duplicates, ConVIRT's head, curation; by hand."""

import itertools
import math
from collections import Counter

import pytest
import torch
from conftest import assert_close, assert_differ, judged_by_hand, runner

from experiments import (
    clip_convirt,
    clip_curation,
    clip_duplicates,
    clip_temperature,
    common,
    curation,
    duplicates,
    emoji,
    fit,
)
from experiments.sweep import complete, run_key
from minclip.data import BatchOrder, Pairs, load_pairs
from minclip.resnet import ResNet
from minclip.sigmoid_loss import sigmoid_loss
from minclip.softmax_loss import softmax_loss

TINY = {"batch_size": 32, "steps": 4, "lr": 3e-3, "embed_dim": 16, "text_width": 32, "image_width": 16}
RUNS = {"scratch": (common.train_from_scratch, TINY)}
run = runner(RUNS)


def setting(**changes) -> dict:
    return complete(common.train_from_scratch, {**TINY, **changes})


# Several right captions


def features(labels: torch.Tensor, same_text: bool = False):
    """Unit vectors of pictures and captions, in float64, with gradients; same_text: a caption a label."""
    g = torch.Generator().manual_seed(0)
    images, captions = (torch.randn(len(labels), 6, generator=g, dtype=torch.float64) for _ in range(2))
    scale, bias = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (1.3, -2.0))
    unit = lambda x: torch.nn.functional.normalize(x, dim=1).requires_grad_()  # noqa: E731
    images, captions = unit(images), unit(captions)
    return (images, captions, scale, bias), (images, captions[labels] if same_text else captions, scale, bias)


LABELS = torch.tensor([0, 1, 0, 2, 3, 0, 1])


def textbook(images, texts, scale, bias, labels, loss):
    """Pair by pair."""
    n, t = len(labels), scale.exp()
    logit = lambda i, j: t * images[i] @ texts[j]  # noqa: E731
    right = [[j for j in range(n) if labels[j] == labels[i]] for i in range(n)]
    total = 0
    for i in range(n):
        if loss == "sigmoid":
            for j in range(n):
                sign = 1 if j in right[i] else -1
                total = total + torch.log(1 + torch.exp(-sign * (logit(i, j) + bias)))
            continue
        row = torch.log(sum(torch.exp(logit(i, j)) for j in range(n)))
        column = torch.log(sum(torch.exp(logit(j, i)) for j in range(n)))
        for j in right[i]:
            total = total + (row - logit(i, j) + column - logit(j, i)) / (2 * len(right[i]))
    return total / n


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_multi_positive_loss_and_gradients_are_the_textbooks(loss):
    leaves, given = features(LABELS)
    leaves = leaves if loss == "sigmoid" else leaves[:3]
    ours = duplicates.multi_positive_loss(*given[:3], given[3] if loss == "sigmoid" else None, LABELS)
    theirs = textbook(*given, LABELS, loss)
    assert_close(ours, theirs)
    for a, b in zip(torch.autograd.grad(ours, leaves), torch.autograd.grad(theirs, leaves)):
        assert_close(a, b)


def test_multi_positive_softmax_is_the_softmax_when_captions_are_the_same_but_masking_is_not():
    leaves, (images, texts, scale, _) = features(LABELS, same_text=True)
    ours = duplicates.multi_positive_loss(images, texts, scale, None, LABELS)
    usual = softmax_loss(images, texts, scale)
    assert_close(ours, usual)
    gradients = (torch.autograd.grad(loss, leaves[:3], retain_graph=True) for loss in (ours, usual))
    for a, b in zip(*gradients):
        assert_close(a, b)
    assert_differ(softmax_loss(images, texts, scale, LABELS), usual)
    _, (images, texts, scale, _) = features(LABELS)
    assert_differ(
        duplicates.multi_positive_loss(images, texts, scale, None, LABELS), softmax_loss(images, texts, scale)
    )


def test_multi_positive_sigmoid_differs_by_the_signs_of_the_duplicates():
    """-log s(x) + log s(-x) = -x: what was a wrong pair and is a right one lowers the loss by its logit."""
    _, given = features(LABELS, same_text=True)
    images, texts, scale, bias = given
    logits = scale.exp() * images @ texts.T + bias
    twins = (LABELS[:, None] == LABELS).fill_diagonal_(False)
    ours = duplicates.multi_positive_loss(*given, LABELS)
    assert_close(ours, sigmoid_loss(*given) - logits[twins].sum() / len(LABELS))
    assert_close(duplicates.multi_positive_loss(*given, torch.arange(7)), sigmoid_loss(*given))


def test_twins_are_labels_that_occur_again():
    assert duplicates.twins(LABELS).tolist() == [count > 1 for count in (3, 2, 3, 1, 1, 3, 2)]


@pytest.mark.parametrize("wrong", [{"positives": "any"}, {"positives": "all", "mask_duplicates": True},
                                   {"positives": "all", "negatives": "hard"}])  # fmt: skip
def test_positives_say_what_they_cannot_be(few_emoji, wrong):
    with pytest.raises(ValueError, match=f"positives '{wrong['positives']}': choose own, or all without masking"):
        run("scratch", **wrong)


def test_balanced_loss_has_one_positive(few_emoji):
    with pytest.raises(ValueError, match="balanced loss uses all pairs, as they are; it cannot have positives 'all'"):
        run("scratch", loss="balanced", positives="all")


def test_without_tones_each_picture_says_its_plain_name(few_emoji):
    said, train, tokenizer = duplicates.without_tones(), emoji.emoji("train"), emoji.tokenised()[0]
    rows = torch.arange(len(train))
    ids = said["captions"](rows, torch.rand(len(rows)), 0)
    plain = [name.split(": ")[0] if "skin tone" in name else name for name in (c[0] for c in train.captions)]
    with_tones = [i for i, name in enumerate(train.metadata["base_name"]) if name != train.captions[i][0]]
    assert len(with_tones) > 50 and all("skin tone" in train.captions[i][0] for i in with_tones)
    assert not any("skin tone" in name for name in said["pairs"].class_names)
    for i in rows.tolist():
        name = said["pairs"].class_names[said["pairs"].labels[i]]
        assert name == train.metadata["base_name"][i] and name.startswith(plain[i].split(": ")[0])
        expected = tokenizer([name], emoji.CONTEXT_LENGTH)[0]
        assert ids[i].tolist() == expected[: ids.shape[1]].tolist() and not expected[ids.shape[1] :].any()


def test_a_run_without_tones_learns_from_plain_names_and_counts_their_twins(few_emoji, monkeypatch):
    seen = []
    step_loss = fit.step_loss
    monkeypatch.setattr(fit, "step_loss", lambda *args: [seen.append(args[4]), step_loss(*args)][1])
    result = run("scratch", tones=False, distinct=False, batch_size=128)
    shares = []
    for labels in seen:
        times = Counter(labels.tolist())
        shares.append(sum(n for n in times.values() if n > 1) / 128)
    assert len(shares) == 4 and result["twins"] == pytest.approx(sum(shares) / 4, abs=1e-12) and result["twins"] > 0.05
    assert run("scratch", tones=False)["twins"] == 0 and "twins" not in run("scratch")


# The temperature


def test_a_fixed_scale_stays_and_a_learned_one_moves(few_emoji):
    fixed, learned = (run("scratch", loss="softmax", scale=kind) for kind in ("fixed", "learned"))
    assert fixed["curve_logit_scale"] == pytest.approx([1 / 0.07] * 4) and fixed["logit_scale"] == pytest.approx(
        1 / 0.07
    )
    assert learned["curve_logit_scale"][0] == fixed["curve_logit_scale"][0]
    assert learned["logit_scale"] != pytest.approx(1 / 0.07, rel=1e-4)


def test_only_unclipped_may_pass_100(few_emoji):
    start = {"loss": "softmax", "init_logit_scale": math.log(120)}
    learned, unclipped = (run("scratch", scale=kind, **start) for kind in ("learned", "unclipped"))
    assert max(learned["curve_logit_scale"][1:]) <= 100 + 1e-3 and learned["logit_scale"] <= 100 + 1e-3
    assert min(unclipped["curve_logit_scale"]) > 100 and unclipped["logit_scale"] > 100


def test_unknown_scales_and_heads_are_named(few_emoji):
    with pytest.raises(ValueError, match="unknown scale 'free'; choose from learned, fixed, unclipped"):
        run("scratch", scale="free")
    with pytest.raises(ValueError, match="unknown projection_head 'mlp'; choose from linear, nonlinear"):
        run("scratch", projection_head="mlp")


# The projection


def test_nonlinear_projection_is_two_maps_with_a_relu_between_on_both_towers(few_emoji):
    model = fit.make_model(ResNet(16, width=16), setting(projection_head="nonlinear"), 0).double()
    for head, tower in ((model.image_projection, model.image_tower), (model.text_projection, model.text_tower)):
        (w1, w2), x = head.parameters(), torch.randn(5, tower.output_dim, dtype=torch.float64)
        assert w1.shape == (tower.output_dim, tower.output_dim) and w2.shape == (16, tower.output_dim)
        assert_close(head(x), (x @ w1.T).clamp(min=0) @ w2.T)
        assert abs(w1.std().item() * tower.output_dim**0.5 - 1) < 0.1
    linear = fit.make_model(ResNet(16, width=16), setting(), 0)
    assert isinstance(linear.image_projection, torch.nn.Linear)


@pytest.mark.parametrize("muon_lr", [0.0, 0.02])
def test_every_layer_of_the_nonlinear_projection_learns(few_emoji, monkeypatch, muon_lr):
    models = []
    watched = lambda model, *rest, **more: [models.append(model), fit.fit(model, *rest, **more)][1]  # noqa: E731
    monkeypatch.setattr(common, "fit", watched)
    changes = {"projection_head": "nonlinear", "muon_lr": muon_lr}
    run("scratch", **changes)
    fresh = common.scratch_model(setting(**changes), 0)
    for name in ("image_projection", "text_projection"):
        for before, after in zip(getattr(fresh, name).parameters(), getattr(models[0], name).parameters()):
            assert_differ(before, after)


# Skewed concepts

GROUPS = torch.tensor([3, 0, 1, 1, 2, 3, 3, 0, 2, 3])


def test_weights_are_the_ranks_power_with_the_head_cut():
    order = curation.SkewedOrder(GROUPS, 2, 5, 1.5, cap=3)
    rank = curation.ranks(4, 5)
    assert sorted(rank.tolist()) == [1, 2, 3, 4]
    for weight, r in zip(order.log_weights.exp().tolist(), rank.tolist()):
        assert weight == pytest.approx(max(r, 3) ** -1.5, rel=1e-12)
    assert any(not torch.equal(curation.ranks(4, 5), curation.ranks(4, seed)) for seed in range(4))


@pytest.mark.parametrize(("skew", "cap"), [(1.0, 1), (2.0, 2), (1.0, 4)])
def test_concepts_are_drawn_one_after_the_other_by_their_weights(skew, cap):
    """The chance of a batch of two: of all ways to draw one, then another of the three that are left."""
    order, n = curation.SkewedOrder(GROUPS, 2, 5, skew, cap), 4000
    weights = [max(r, cap) ** -skew for r in curation.ranks(4, 5).tolist()]
    chance = Counter()
    for i, j in itertools.permutations(range(4), 2):
        chance[frozenset((i, j))] += weights[i] / sum(weights) * weights[j] / (sum(weights) - weights[i])
    found = Counter(frozenset(GROUPS[order.indices(step)].tolist()) for step in range(n))
    for pair, p in chance.items():
        assert abs(found[pair] - n * p) < 5 * (n * p * (1 - p)) ** 0.5, pair


def test_each_picture_of_a_concept_is_as_likely_and_no_concept_comes_twice():
    order = curation.SkewedOrder(GROUPS, 3, 5, 1.0)
    drawn = torch.stack([order.indices(step) for step in range(4000)])
    assert (GROUPS[drawn].sort(1).values.diff(dim=1) > 0).all()
    for group in range(4):
        times = torch.bincount(drawn.flatten(), minlength=10)[GROUPS == group].double()
        mean = times.mean()
        assert ((times - mean).abs() < 5 * mean.sqrt()).all() and mean > 100
    again, other = curation.SkewedOrder(GROUPS, 3, 5, 1.0), curation.SkewedOrder(GROUPS, 3, 6, 1.0)
    assert torch.equal(again.indices(17), order.indices(17))
    assert any(not torch.equal(other.indices(step), order.indices(step)) for step in range(5))


def test_order_is_what_the_setting_says(few_emoji):
    train = emoji.emoji("train")
    usual, pictures, skewed = (
        curation.batch_order(train, setting(**changes), 3) for changes in ({}, {"distinct": False}, {"skew": 1.0})
    )
    assert type(usual) is BatchOrder and torch.equal(usual.indices(2), BatchOrder(train.groups, 32, 3).indices(2))
    assert type(pictures) is BatchOrder and len(pictures.counts) == len(train)
    assert isinstance(skewed, curation.SkewedOrder)
    with pytest.raises(ValueError, match="skew 1.0 is of concepts, which needs distinct batches; set distinct, or"):
        curation.batch_order(train, setting(skew=1.0, distinct=False), 3)
    with pytest.raises(ValueError, match="cap is 0; it is a rank: choose 1 to cut nothing, or more"):
        curation.batch_order(train, setting(skew=1.0, cap=0), 3)


class Knower(torch.nn.Module):
    """A model that says the right name of pictures that are marked, and the wrong one of others."""

    def __init__(self, said: torch.Tensor) -> None:
        super().__init__()
        self.said = said

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        return self.said[images[:, 0, 0, 0].long()]


@pytest.mark.parametrize("seed", [0, 1])
def test_head_and_tail_are_the_thirds_of_the_ranks(few_emoji, monkeypatch, seed):
    """A model that knows concepts in the order of their ranks: all of the first half."""
    train, test, names = emoji.emoji("train"), emoji.emoji("in_distribution"), emoji.names_without_tones()
    count = len(set(train.metadata["base_name"]))
    rank = curation.ranks(count, seed)
    rank_of = {name: rank[train.groups[i]].item() for i, name in enumerate(train.metadata["base_name"])}
    known = torch.isin(test.labels, names)
    base = [name for name, keep in zip(test.metadata["base_name"], known.tolist()) if keep]
    targets = torch.searchsorted(names, test.labels[known])
    knows = lambda name: rank_of.get(name, 10**6) <= count / 6 or rank_of.get(name, 0) > 5 * count / 6  # noqa: E731
    text = torch.eye(len(names))
    said = text[torch.tensor([t if knows(name) else (t + 1) % len(names) for name, t in zip(base, targets.tolist())])]
    monkeypatch.setattr(curation, "embed_texts", lambda *_: text)
    monkeypatch.setattr(curation, "compute_device", lambda: torch.device("cpu"))
    numbers = torch.arange(len(base)).float().view(-1, 1, 1, 1)
    monkeypatch.setattr(curation, "plain", lambda *_: numbers)
    result = curation.accuracy_by_frequency(Knower(said), seed)
    head = [knows(name) for name in base if name in rank_of and rank_of[name] <= count / 3]
    tail = [knows(name) for name in base if rank_of.get(name, 0) > 2 * count / 3]
    assert min(len(head), len(tail)) > 3
    assert result == pytest.approx({"head": sum(head) / len(head), "tail": sum(tail) / len(tail)}, abs=1e-6)


def test_skewed_runs_are_measured_by_frequency(few_emoji):
    result = run("scratch", skew=1.0)
    assert 0 <= result["head"] <= 1 and 0 <= result["tail"] <= 1
    assert "head" not in run("scratch")


# Judges, by hand

YES, CONTRARY, NO = "reproduced", "opposite", "not at this scale"
MODULES = {module.CLAIM.id: module for module in (clip_temperature, clip_duplicates, clip_convirt, clip_curation)}


def temperature(best: float, worst: float, at_14: float, end: float):
    """Learned ones have 34, 33 and 30 %."""
    found = {
        "fixed at 1": worst, "fixed at 5": best, "fixed at 14.3": at_14, "fixed at 100": 0.3,
        "learned from 14.3": 0.34, "learned from 1": 0.33, "learned from 100": 0.3, "unclipped from 100": 0.35,
    }  # fmt: skip
    return lambda name: {"in_distribution": found[name], "logit_scale": end if name.startswith("learned") else 1e6}


def convirt(nonlinear: float, pretrained: float, unseen: float):
    found = {  # in_distribution, fxemoji
        "scratch, linear": (0.3, 0.1), "scratch, nonlinear": (nonlinear, 0.14),
        "pretrained, linear": (pretrained, unseen), "pretrained, nonlinear": (pretrained - 0.01, unseen),
    }  # fmt: skip
    return lambda name: dict(zip(("in_distribution", "fxemoji"), found[name]))


def curated(balanced: float, tail: float):
    """Of raw skew: 20 %, 10 % of the unseen artist, 40 % of the head, 5 % of the tail."""
    found = {"raw skew": (0.2, 0.1, 0.4, 0.05), "balanced": (balanced, 0.15, 0.3, tail)}
    return lambda name: dict(zip(("in_distribution", "fxemoji", "head", "tail"), found[name]))


def repeated(masked: float, right: float):
    found = {  # in_distribution, fxemoji
        "softmax, untreated": (0.3, 0.1), "softmax, masked": (0.33, 0.13), "sigmoid, untreated": (0.2, 0.1),
        "sigmoid, masked": (masked, 0.07),
        "sigmoid, multi-positive": (right, 0.105),
    }  # fmt: skip
    return lambda name: dict(zip(("in_distribution", "fxemoji"), found[name]))


# id -> twice (what a setting measured, [(effect, verdict) of each check], the claim's verdict): it holds; it fails.
BY_HAND = {
    "clip-temperature": [
        (
            temperature(0.35, 0.1, 0.31, 40),
            [(0.01, YES), (0.24, YES), (0.03, YES), (0.01, NO), (0.04, YES), (40, YES), (-0.05, CONTRARY)],
            YES,
        ),
        (
            temperature(0.38, 0.3, 0.335, 105),
            [(0.04, CONTRARY), (0.04, NO), (0.005, NO), (0.01, NO), (0.04, YES), (105, CONTRARY), (-0.05, CONTRARY)],
            NO,
        ),
    ],
    "clip-convirt": [
        (
            convirt(0.31, 0.4, 0.2),
            [(-0.01, YES), (0.01, YES), (-0.04, NO), (0, YES), (0.1, YES), (0.08, YES), (0.1, YES)],
            YES,
        ),
        (
            convirt(0.35, 0.31, 0.05),
            [(-0.05, NO), (0.01, YES), (-0.04, NO), (0, YES), (0.01, NO), (-0.05, CONTRARY), (-0.05, CONTRARY)],
            NO,
        ),
    ],
    "clip-curation": [
        (
            curated(0.3, 0.2),
            [(0.1, YES), (0.05, YES), (0.15, YES), (0.1, YES)],
            YES,
        ),
        (
            curated(0.21, 0.02),
            [(0.01, NO), (0.05, YES), (-0.03, CONTRARY), (0.1, YES)],
            NO,
        ),
    ],
    "clip-duplicates": [
        (
            repeated(0.24, 0.235),
            [(0.03, YES), (0.04, YES), (0.035, YES), (0.03, YES), (-0.03, CONTRARY), (0.005, NO)],
            YES,
        ),
        (
            repeated(0.17, 0.205),
            [(0.03, YES), (-0.03, CONTRARY), (0.005, NO), (0.03, YES), (-0.03, CONTRARY), (0.005, NO)],
            NO,
        ),
    ],
}  # fmt: skip


@pytest.mark.parametrize("case", [0, 1], ids=["holds", "fails"])
@pytest.mark.parametrize("id", BY_HAND)
def test_effects_and_verdicts_of_numbers_by_hand(id, case):
    judged_by_hand(MODULES[id].CLAIM, *BY_HAND[id][case])


def test_best_and_worst_fixed_temperature_are_those_of_each_seed():
    rows = [{"setting": name, "seed": seed, **temperature(0.35, 0.1, 0.31, 40)(name)}
            for seed in range(3) for name in clip_temperature.SETTINGS]  # fmt: skip
    for row in rows:  # in seed 1 another one is the best, and another the worst
        if row["seed"] == 1:
            row["in_distribution"] = {"fixed at 5": 0.02, "fixed at 100": 0.37}.get(
                row["setting"], row["in_distribution"]
            )
    behind, over_worst, *_ = clip_temperature.judge(rows)
    assert behind.effect["mean"] == pytest.approx((0.01 + 0.03 + 0.01) / 3, abs=1e-12)
    assert over_worst.effect["mean"] == pytest.approx((0.24 + 0.32 + 0.24) / 3, abs=1e-12)


@pytest.mark.parametrize("id", MODULES)
def test_settings_are_runs_of_their_own_that_the_run_knows(id):
    claim = MODULES[id].CLAIM
    assert claim.paper == "CLIP (2103.00020)" and claim.notebook == "19_which_objective_which_data"
    keys = [run_key(claim.run, s) for s in claim.settings.values()]
    assert len(set(keys)) == len(keys) and all(s["muon_lr"] == common.MUON_LR for s in claim.settings.values())


def test_settings_differ_in_what_their_names_say():
    whole = {id: {name: complete(m.CLAIM.run, s) for name, s in m.SETTINGS.items()} for id, m in MODULES.items()}

    def differ(id: str, a: str, b: str) -> set:
        return {key for key in whole[id][a] if whole[id][a][key] != whole[id][b][key]}

    assert differ("clip-temperature", "fixed at 14.3", "learned from 14.3") == {"scale"}
    for t in ("1", "5", "100"):
        assert differ("clip-temperature", f"fixed at {t}", "fixed at 14.3") == {"init_logit_scale"}
        start = whole["clip-temperature"][f"fixed at {t}"]["init_logit_scale"]
        assert math.exp(start) == pytest.approx(float(t), rel=1e-5)
    for tower in ("scratch", "pretrained"):
        assert differ("clip-convirt", f"{tower}, linear", f"{tower}, nonlinear") == {"projection_head"}
    assert differ("clip-convirt", "scratch, linear", "pretrained, linear") == {"image_tower"}
    assert differ("clip-curation", "raw skew", "balanced") == {"cap"}
    assert whole["clip-curation"]["balanced"]["cap"] == clip_curation.CONCEPTS
    assert whole["clip-curation"]["raw skew"]["steps"] == 720 and "720 steps" in clip_curation.CLAIM.data
    for loss in ("softmax", "sigmoid"):
        base = f"{loss}, untreated"
        assert differ("clip-duplicates", f"{loss}, masked", base) == {"mask_duplicates"}
    assert differ("clip-duplicates", "sigmoid, multi-positive", "sigmoid, untreated") == {"positives"}


def test_numbers_that_claims_state_are_those_of_the_data():
    """On all emoji: the concepts, and the share of twins in batches of 256."""
    train = load_pairs("emoji", "train", 16)  # not the few of the other tests
    assert len(train.groups.unique()) == clip_curation.CONCEPTS
    pairs = Pairs(train.images, train.captions, train.groups, [], train.groups)
    one = complete(common.train_from_scratch, clip_duplicates.SETTINGS["softmax, untreated"])
    assert round(100 * duplicates.share_of_twins(pairs, one, 100)) == 23 and "23 %" in clip_duplicates.CLAIM.data
