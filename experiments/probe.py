"""Linear probe: logistic regression on a frozen tower's features (CLIP section 3.2 and appendix A.3).

The one number to choose, the strength of the L2 penalty, is chosen on a validation split. scikit-learn's `C` is
its inverse: C * (sum of cross-entropies) + ||W||^2 / 2 is minimised, so a smaller C is a stronger penalty.
"""

import warnings

import torch
from torch import Tensor

from minclip.zero_shot import check_labels, check_same_width

GRID = [10 ** (-6 + i / 8) for i in range(97)]  # values of C: 1e-6 to 1e6, eight steps a decade


def fit_probe(features: Tensor, labels: Tensor, C: float):
    """A `sklearn.linear_model.LogisticRegression`, fitted by L-BFGS in at most 1,000 iterations.

    The same input gives the same numbers. features: `[N, D]`, taken to float64 and not scaled; labels: long `[N]`.
    Raises ValueError for labels that are not one a row or negative, and (scikit-learn's) when there is one class only.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    check_labels(len(features), labels=labels)
    X = features.detach().cpu().double().numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # on purpose: 1,000 iterations are the protocol
        return LogisticRegression(C=C, max_iter=1000).fit(X, labels.cpu().numpy())


def probe_accuracy(probe, features: Tensor, labels: Tensor) -> float:
    """Share of rows that the probe names right, in [0, 1]; a class that it was not trained on counts as wrong."""
    check_labels(len(features), labels=labels)
    right = probe.predict(features.detach().cpu().double().numpy()) == labels.cpu().numpy()
    return float(right.mean())


def sweep_probe(
    train_features: Tensor, train_labels: Tensor, val_features: Tensor, val_labels: Tensor
) -> tuple[float, float]:
    """The C of GRID with the best accuracy on the validation split, and that accuracy; of equals the smallest.

    Every second decade first, then the interval around the best is halved until neighbours on the grid were tried
    (15 fits instead of 97). This finds the best of the whole grid when the accuracy rises to one peak and falls.
    Raises ValueError for features of different widths and what `fit_probe` raises.
    """
    check_same_width(train_features=train_features, val_features=val_features)
    check_labels(len(val_features), val_labels=val_labels)
    found: dict[int, float] = {}  # index into GRID -> accuracy

    def best_of(indices: set[int]) -> int:
        for i in sorted(indices & set(range(len(GRID))) - found.keys()):
            found[i] = probe_accuracy(fit_probe(train_features, train_labels, GRID[i]), val_features, val_labels)
        return max(found, key=lambda i: (found[i], -i))

    best = best_of(set(range(0, len(GRID), 16)))
    for step in (8, 4, 2, 1):
        best = best_of({best - step, best + step})
    return GRID[best], found[best]


def linear_probe(
    train: tuple[Tensor, Tensor], val: tuple[Tensor, Tensor], tests: dict[str, tuple[Tensor, Tensor]]
) -> dict[str, float]:
    """The whole protocol: sweep C on `val`, fit on train and validation together, measure every test.

    Each is (features `[N, D]`, labels `[N]`). Returns the accuracy of each test by its name, in [0, 1], and `C`.
    """
    check_same_width(train=train[0], val=val[0], **{name: features for name, (features, _) in tests.items()})
    C, _ = sweep_probe(*train, *val)
    probe = fit_probe(*(torch.cat(parts) for parts in zip(train, val)), C)
    return {name: probe_accuracy(probe, *test) for name, test in tests.items()} | {"C": C}
