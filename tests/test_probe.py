"""The linear probe against plain scikit-learn, and the sweep against all 97 values of the grid."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from experiments import probe as module
from experiments.probe import GRID, fit_probe, linear_probe, probe_accuracy, sweep_probe


def clouds(n: int, seed: int, classes: int = 3, width: int = 5):
    """Overlapping clouds of points, float32 features and labels."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, width, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(n) % classes
    return centres[labels] + 1.5 * torch.randn(n, width, generator=generator), labels


def test_probe_is_plain_scikit_learn():
    x, y = clouds(60, 1)
    expected = LogisticRegression(C=0.3, max_iter=1000).fit(x.numpy().astype(np.float64), y.numpy())
    found = fit_probe(x, y, 0.3)
    assert (found.coef_ == expected.coef_).all() and (found.intercept_ == expected.intercept_).all()
    test, labels = clouds(40, 2)
    assert probe_accuracy(found, test, labels) == expected.score(test.numpy().astype(np.float64), labels.numpy())


def test_numbers_are_the_same_to_the_digit():
    parts = clouds(60, 1), clouds(30, 2), {"test": clouds(40, 3)}
    assert linear_probe(*parts) == linear_probe(*parts)
    assert (fit_probe(*parts[0], 10.0).coef_ == fit_probe(*parts[0], 10.0).coef_).all()


def test_the_iterations_are_limited_and_nobody_is_warned(monkeypatch):
    seen = []
    fit = LogisticRegression.fit

    def spy(self, *args):
        seen.append((self.max_iter, self.solver, self.C))
        self.max_iter = 1  # does not converge
        return fit(self, *args)

    monkeypatch.setattr(LogisticRegression, "fit", spy)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = fit_probe(*clouds(60, 1), 2.0)
        with pytest.raises(ConvergenceWarning):  # what would have been said
            LogisticRegression(max_iter=1).fit(*(part.numpy() for part in clouds(60, 1)))
    assert seen[0] == (1000, "lbfgs", 2.0) and found.n_iter_[0] == 1


def test_the_grid_has_eight_steps_a_decade():
    assert len(GRID) == 97 and GRID[0] == 1e-6 and GRID[48] == 1 and GRID[-1] == 1e6
    np.testing.assert_allclose(np.diff(np.log10(GRID)), 1 / 8, atol=1e-12)


def test_sweep_is_the_best_of_the_whole_grid():
    (x, y), (v, w) = clouds(60, 4, width=20), clouds(60, 14, width=20)
    kept = (y == 0) | (torch.arange(60) < 20)  # many of class 0, so that a strong penalty calls everything 0
    accuracies = [probe_accuracy(fit_probe(x[kept], y[kept], C), v, w) for C in GRID]
    best = max(accuracies)
    assert accuracies[0] < best - 0.1 and accuracies[-1] < best - 0.1  # the peak is inside
    assert sweep_probe(x[kept], y[kept], v, w) == (GRID[accuracies.index(best)], best)


@pytest.mark.parametrize("width", [0, 9, 30])
@pytest.mark.parametrize("peak", [0, 1, 16, 37, 50, 95, 96])
def test_sweep_finds_any_single_peak_and_the_left_edge_of_a_flat_one(monkeypatch, peak, width):
    tried = []
    right = min(96, peak + width)

    def accuracy(C, *_):
        i = GRID.index(C)
        tried.append(i)
        return 1 - 0.01 * max(peak - i, i - right, 0)

    monkeypatch.setattr(module, "fit_probe", lambda _x, _y, C: C)
    monkeypatch.setattr(module, "probe_accuracy", accuracy)
    assert sweep_probe(*clouds(6, 1), *clouds(6, 2)) == (GRID[peak], 1.0)
    assert sorted(tried[:7]) == [0, 16, 32, 48, 64, 80, 96]  # the coarse grid first
    assert len(tried) == len(set(tried)) <= 15


def test_protocol_tunes_on_validation_and_fits_on_both():
    train, val, tests = clouds(30, 1), clouds(30, 2), {"near": clouds(50, 3), "far": clouds(70, 4)}
    result = linear_probe(train, val, tests)
    C, _ = sweep_probe(*train, *val)
    both = LogisticRegression(C=C, max_iter=1000).fit(
        np.concatenate([train[0], val[0]]).astype(np.float64), np.concatenate([train[1], val[1]])
    )
    assert result == {name: both.score(x.double().numpy(), y.numpy()) for name, (x, y) in tests.items()} | {"C": C}
    alone = fit_probe(*train, C)
    assert any(probe_accuracy(alone, *tests[name]) != result[name] for name in tests)


def test_a_class_that_training_lacks_counts_as_wrong():
    x, y = clouds(30, 1)
    probe = fit_probe(x, y, 1.0)
    assert probe_accuracy(probe, x, torch.where(y == 0, 7, y)) == pytest.approx(
        probe_accuracy(probe, x, y) - ((torch.tensor(probe.predict(x.double().numpy())) == y) & (y == 0)).sum() / 30
    )
    assert sweep_probe(x, y, x[:4], torch.full((4,), 9))[1] == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": (torch.zeros(6, 3), torch.arange(6) % 2)}, r"train \[6, 3\], val \[6, 5\].*two different models"),
        ({"tests": {"near": (torch.zeros(6, 4), torch.arange(6))}}, r"near \[6, 4\].*two different models"),
        ({"train": (torch.zeros(6, 5), torch.arange(5) % 2)}, r"labels \[5\] must be \[N\], one for each of the 6"),
        ({"train": (torch.randn(6, 5), torch.ones(6).long())}, "one class"),
        ({"train": (torch.zeros(6, 5), torch.arange(6) - 1)}, r"labels\[0\] is -1"),
        ({"val": (torch.zeros(6, 5), torch.arange(6) - 1)}, r"val_labels\[0\] is -1"),
        ({"val": (torch.zeros(0, 5), torch.arange(0))}, "N >= 1"),
    ],
)
def test_bad_input_is_named(changes, message):
    parts = {"train": clouds(6, 1), "val": clouds(6, 2), "tests": {"near": clouds(6, 3)}} | changes
    with pytest.raises(ValueError, match=message):
        linear_probe(**parts)
