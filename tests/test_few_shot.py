"""Few shots: against scikit-learn, loops, and the limits where one method becomes another."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import assert_close, assert_differ
from sklearn.linear_model import LogisticRegression
from torch import nn

from experiments.few_shot import draw_shots, fit_linear, interpolate_weights, tip_adapter, tune_tip_adapter


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def units(n: int, width: int = 6, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(n, width, generator=rng(seed), dtype=torch.float64), dim=1)


LABELS = torch.tensor([2, 7, 0, 2, 7, 0, 0, 7, 2, 2, 7, 0, 0])  # classes of 5, 4 and 4


@pytest.mark.parametrize("k", [1, 3, 4])
def test_shots_are_k_different_pictures_of_each_class(k):
    rows = draw_shots(LABELS, k, rng())
    assert rows.dtype == torch.long and LABELS[rows].tolist() == [0] * k + [2] * k + [7] * k
    assert len(rows.unique()) == 3 * k


def test_draws_follow_the_generator_and_grow_with_k():
    assert torch.equal(draw_shots(LABELS, 3, rng(1)), draw_shots(LABELS, 3, rng(1)))
    generator = rng(1)
    assert not torch.equal(draw_shots(LABELS, 3, generator), draw_shots(LABELS, 3, generator))
    few, many = draw_shots(LABELS, 2, rng(1)).view(3, 2), draw_shots(LABELS, 4, rng(1)).view(3, 4)
    assert torch.equal(few, many[:, :2])


def test_every_picture_is_drawn_alike():
    counts = torch.zeros(13)
    generator = rng()
    for _ in range(2000):
        counts[draw_shots(LABELS, 1, generator)] += 1
    expected = 2000 / torch.tensor([{0: 5, 2: 4, 7: 4}[label] for label in LABELS.tolist()])
    assert ((counts - expected).abs() < 5 * expected.sqrt()).all()


@pytest.mark.parametrize("k", [0, 5])
def test_a_class_smaller_than_k_is_named_with_its_size(k):
    with pytest.raises(ValueError, match=f"k {k} is not within 1 to 4, the pictures of class 2"):
        draw_shots(LABELS, k, rng())


def objective(W, x, y, l2, start, scale):
    """The objective, written out row by row."""
    total = 0
    for row, label in zip(x, y.tolist()):
        logits = torch.stack([scale * (row @ w) for w in W])
        total = total + torch.logsumexp(logits, 0) - logits[label]
    return total / len(x) + l2 / 2 * ((W - start) ** 2).sum()


@pytest.mark.parametrize("l2", [1e-4, 1e-2, 1.0])
def test_plain_probe_is_scikit_learns(l2):
    x, y = torch.randn(60, 7, generator=rng(), dtype=torch.float64), torch.arange(60) % 4
    expected = LogisticRegression(fit_intercept=False, C=1 / (l2 * 60), tol=1e-12, max_iter=10**5)
    expected = expected.fit(x.numpy(), y.numpy()).coef_
    np.testing.assert_allclose(fit_linear(x, y, 4, l2).numpy(), expected, atol=1e-6)


@pytest.mark.parametrize(("scale", "l2"), [(1.0, 1e-3), (20.0, 0.1), (100.0, 10.0)])
@pytest.mark.parametrize("text_initialised", [False, True])
def test_gradient_is_zero_at_the_solution(scale, l2, text_initialised):
    x, y, names = units(24), torch.arange(24) % 4, units(5, seed=1)  # a fifth class has no shots
    start = names if text_initialised else torch.zeros_like(names)
    W = fit_linear(x, y, 5, l2, names if text_initialised else None, scale).requires_grad_()
    (gradient,) = torch.autograd.grad(objective(W, x, y, l2, start, scale), W)
    assert gradient.abs().max() < 1e-7
    (far,) = torch.autograd.grad(objective(start.requires_grad_(), x, y, l2, start.detach(), scale), start)
    assert far.abs().max() > 1e-3


def test_a_strong_penalty_is_zero_shot_and_a_weak_one_forgets_it():
    x, y, names = units(24), torch.arange(24) % 4, units(4, seed=1)
    torch.testing.assert_close(fit_linear(x, y, 4, 1e9, names), names, atol=1e-8, rtol=0)
    plain, text = fit_linear(x, y, 4, 1e-6), fit_linear(x, y, 4, 1e-6, names)
    plain, text = plain - plain.mean(0), text - text.mean(0)  # a shift of all classes is all that it leaves
    assert (plain - text).norm() < 1e-3 * plain.norm()


def test_linear_weights_come_in_the_features_precision():
    x, y = units(24), torch.arange(24) % 4
    single = fit_linear(x.float(), y, 4, 0.1, units(4, seed=1).float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), fit_linear(x, y, 4, 0.1, units(4, seed=1)), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": torch.tensor([0, 1, 4])}, r"labels\[2\] is 4, outside \[0, 4\)"),
        ({"labels": torch.tensor([0, -1, 3])}, r"labels\[1\] is -1"),
        ({"labels": torch.tensor([0, 1])}, r"labels \[2\] must be \[N\], one for each of the 3 rows"),
        ({"start": torch.zeros(4, 5)}, r"features \[3, 6\], start \[4, 5\].*two different models"),
        ({"start": torch.zeros(3, 6)}, "start must have 4 rows, one a class, got 3"),
        ({"l2": 0.0}, "l2 0.0 must be positive"),
    ],
)
def test_fit_linear_names_the_bad_input(changes, message):
    with pytest.raises(ValueError, match=message):
        fit_linear(**{"features": units(3), "labels": torch.tensor([0, 1, 3]), "n_classes": 4, "l2": 1.0} | changes)


def shots():
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    return units(6, seed=2), F.one_hot(labels, 4).double(), labels, units(4, seed=3)  # class 3 has no shots


def test_tip_adapter_is_the_loop():
    features, (keys, values, _, weights) = units(5, seed=4), shots()
    found = tip_adapter(features, keys, values, weights, alpha=1.3, beta=5.5)
    for n in range(5):
        for c in range(4):
            vote = sum(math.exp(-5.5 * (1 - float(features[n] @ keys[m]))) * float(values[m, c]) for m in range(6))
            assert float(found[n, c]) == pytest.approx(100 * float(features[n] @ weights[c]) + 1.3 * vote, abs=1e-10)


def test_tip_adapter_without_alpha_is_zero_shot_and_with_much_the_nearest_shot():
    features, (keys, values, labels, weights) = units(50, seed=4), shots()
    assert_close(tip_adapter(features, keys, values, weights, 0.0, 5.5), 100 * features @ weights.T)
    nearest = labels[(features @ keys.T).argmax(1)]
    voted = tip_adapter(features, keys, values, weights, 1e100, 100.0).argmax(1)
    sure = (features @ keys.T).topk(2).values.diff().abs()[:, 0] > 0.05  # no vote of two near ones
    assert sure.sum() > 20 and torch.equal(voted[sure], nearest[sure])


def test_tuned_keys_are_textbook_adam():
    keys, values, labels, weights = shots()
    more = F.normalize(keys + 0.1 * units(6, seed=5), dim=1)
    w, m, v = keys.clone(), 0, 0
    for t in range(1, 5):
        w.requires_grad_()
        logits = 10 * more @ weights.T + 2.0 * torch.exp(-3.0 * (1 - more @ w.T)) @ values
        (g,) = torch.autograd.grad(F.cross_entropy(logits, labels), w)
        lr = 0.01 * (1 + math.cos(math.pi * (t - 1) / 4)) / 2
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        w = w.detach() * (1 - 0.01 * lr) - lr * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-4)
    found = tune_tip_adapter(keys, values, labels, weights, 2.0, 3.0, steps=4, lr=0.01, scale=10.0, features=more)
    assert_close(found, w)
    assert_differ(found, keys)
    assert not found.requires_grad and torch.equal(keys, shots()[0])  # the caller's keys stay


def test_tuning_helps_on_the_shots_and_is_deterministic():
    keys, values, labels, weights = shots()

    def loss(k):
        return F.cross_entropy(tip_adapter(keys, k, values, weights, 1.0, 1.0, 10.0), labels)

    tuned = [tune_tip_adapter(keys, values, labels, weights, 1.0, 1.0, 20, 0.05, 10.0) for _ in range(2)]
    assert torch.equal(*tuned) and loss(tuned[0]) < loss(keys) - 0.1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keys": torch.zeros(6, 5)}, r"keys \[6, 5\].*two different models"),
        ({"weights": torch.zeros(4, 5)}, r"weights \[4, 5\].*two different models"),
        ({"values": torch.zeros(6, 3)}, r"values \[6, 3\] must be one-hot, \[M, C\] = \[6, 4\]"),
        ({"values": torch.zeros(5, 4)}, r"values \[5, 4\]"),
        ({"labels": torch.tensor([0, 0, 1, 1, 2, 4])}, r"labels\[5\] is 4, outside \[0, 4\)"),
    ],
)
def test_tip_adapter_names_the_bad_input(changes, message):
    keys, values, labels, weights = shots()
    given = {"keys": keys, "values": values, "labels": labels, "weights": weights, "features": units(6)} | changes
    with pytest.raises(ValueError, match=message):
        tune_tip_adapter(**given, alpha=1.0, beta=1.0, steps=1)


def two_models():
    torch.manual_seed(0)
    models = [nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).double() for _ in range(2)]
    for steps, model in enumerate(models, start=1):
        for _ in range(steps):
            model(torch.randn(8, 3).double())
    return [model.state_dict() for model in models]


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_interpolation_is_the_weighted_mean(alpha):
    start, end = two_models()
    mixed = interpolate_weights(start, end, alpha)
    assert list(mixed) == list(end) and mixed["1.num_batches_tracked"] == 2
    for name in set(end) - {"1.num_batches_tracked"}:
        assert_close(mixed[name], (1 - alpha) * start[name] + alpha * end[name])
        if alpha in (0, 1):
            assert torch.equal(mixed[name], (start, end)[int(alpha)][name])
    assert_differ(start["0.weight"], end["0.weight"])


def test_interpolation_names_the_bad_input():
    start, end = two_models()
    for alpha in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match=f"alpha {alpha} is not within"):
            interpolate_weights(start, end, alpha)
    without = {name: value for name, value in end.items() if name != "0.bias"}
    with pytest.raises(ValueError, match=r"0.bias is \[4\] in the first and missing in the second"):
        interpolate_weights(start, without, 0.5)
    with pytest.raises(ValueError, match=r"0.bias is missing in the first and \[4\]"):
        interpolate_weights(without, end, 0.5)
    with pytest.raises(ValueError, match=r"0.bias is \[4\] in the first and \[1\] in the second"):
        interpolate_weights(start, end | {"0.bias": torch.zeros(1)}, 0.5)
