"""A few labelled drawings of the benchmark on top of a CLIP: ways to use them, tried on it and on unseen artists."""

import math

import torch.nn.functional as F
from torch import Tensor

from experiments.emoji import tokenised
from experiments.few_shot import draw_shots, fit_linear, interpolate_weights, tip_adapter, tune_tip_adapter
from experiments.sweep import run_function
from experiments.transfer import (
    BENCHMARK,
    CLIPS,
    FAR,
    MOST_SHOTS,
    NEAR,
    exam,
    pretrained_clip,
    shared_features,
    subgroups,
)
from minclip.data import step_generator
from minclip.zero_shot import top_k_accuracy, zero_shot_weights

SHOTS = (1, 2, 4, 8, MOST_SHOTS)
METHODS = ("probe", "text", "free", "blend", "tip", "tip_chosen", "tip_tuned")
EXAMS = (BENCHMARK, NEAR, FAR)
ADAPTERS = {
    **CLIPS,
    "draws": 10,
    # Chosen on seed 100, the same for every k: strengths of the penalties, weight and sharpness of Tip-Adapter's vote,
    "probe_l2": 0.1,
    "text_l2": 1.0,
    "free_l2": 0.01,
    "alpha": 4.0,
    "beta": 5.5,
    "tip_lr": 1e-3,
    "tip_steps": 100,
    "mix": 0.5,  # and WiSE-FT's share of the tuned weights
}
ALPHAS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)  # among which `tip_chosen` chooses on the validation pictures


@run_function(version=1, defaults=ADAPTERS)
def measure_shots(setting: dict, seed: int) -> dict:
    """Accuracy on the benchmark's test concepts, `<method>_<k>_<artist>`, by three artists, means over draws.

    `zero_<artist>` needs no shots. probe: linear, the shots alone; text: a probe held near the zero-shot weights; free:
    one that starts there and is hardly held; blend: the average of the zero-shot weights and those of `free` (WiSE-FT);
    tip: Tip-Adapter without training, `tip_chosen` with its alpha chosen on the validation pictures, `tip_tuned` with
    tuned keys. `<method>_all_<artist>`: probe and text on all training pictures.
    """
    model, split = pretrained_clip(setting, seed), subgroups(seed)
    scale = model.logit_scale.exp().item()
    weights = zero_shot_weights(model, tokenised()[0], split.names).cpu()  # [C, D]
    parts = {part: exam(BENCHMARK, split.concepts[part], split.labels[part]) for part in ("train", "validation")}
    tests = {artist: exam(artist, split.concepts["test"], split.labels["test"]) for artist in EXAMS}
    seen = {key: (shared_features(model, x), y) for key, (x, y) in {**parts, **tests}.items()}

    def scores(logits_of) -> dict[str, float]:
        return {artist: top_k_accuracy(logits_of(seen[artist][0]), seen[artist][1], 1) for artist in EXAMS}

    sums: dict[str, float] = {f"zero_{artist}": value for artist, value in scores(lambda f: f @ weights.T).items()}
    for k in SHOTS:
        for draw in range(setting["draws"]):
            rows = draw_shots(seen["train"][1], k, step_generator(seed, 14, draw))
            for method, logits_of in adapters(seen["train"][0][rows], seen["train"][1][rows], weights, scale,
                                              seen["validation"], setting).items():  # fmt: skip
                for artist, value in scores(logits_of).items():
                    key = f"{method}_{k}_{artist}"
                    sums[key] = sums.get(key, 0.0) + value / setting["draws"]
    for method, start, l2 in (("probe", None, "probe_l2"), ("text", weights, "text_l2")):
        fitted = fit_linear(*seen["train"], len(weights), setting[l2], start, scale)
        sums |= {f"{method}_all_{artist}": value for artist, value in scores(lambda f, w=fitted: f @ w.T).items()}
    return sums


def adapters(
    keys: Tensor, labels: Tensor, weights: Tensor, scale: float, validation: tuple[Tensor, Tensor], setting: dict
) -> dict:
    """By method: features `[N, D]` -> logits `[N, C]`; keys `[M, D]`: features of the shots; labels `[M]`."""
    n = len(weights)
    values = F.one_hot(labels, n).to(keys)  # [M, C]
    probe = fit_linear(keys, labels, n, setting["probe_l2"], None, scale)
    text = fit_linear(keys, labels, n, setting["text_l2"], weights, scale)
    free = fit_linear(keys, labels, n, setting["free_l2"], weights, scale)
    blend = interpolate_weights({"weight": weights}, {"weight": free}, setting["mix"])["weight"]
    alpha, beta = setting["alpha"], setting["beta"]
    tip = lambda keys, alpha: lambda f: tip_adapter(f, keys, values, weights, alpha, beta, scale)  # noqa: E731
    known = {a: top_k_accuracy(tip(keys, a)(validation[0]), validation[1], 1) for a in ALPHAS}
    how = alpha, beta, setting["tip_steps"], setting["tip_lr"], scale
    tuned = tune_tip_adapter(keys, values, labels, weights, *how)
    return {
        "probe": lambda f: f @ probe.T,
        "text": lambda f: f @ text.T,
        "free": lambda f: f @ free.T,
        "tip": tip(keys, alpha),
        "tip_chosen": tip(keys, max(ALPHAS, key=known.get)),  # of equals the smallest
        "tip_tuned": tip(tuned, alpha),
        "blend": lambda f: f @ blend.T,
    }


def shots_to_match(zero: float, by_shots: dict[int, float]) -> float:
    """How many shots a class a probe needs for the accuracy `zero`, straight between the points in log2 k (Figure 7).

    Half of the fewest when already these are enough, twice the most when none are: then the number is a bound.
    """
    ks = sorted(by_shots)
    if by_shots[ks[0]] >= zero:
        return ks[0] / 2
    for low, high in zip(ks, ks[1:]):
        if by_shots[high] >= zero:
            part = (zero - by_shots[low]) / (by_shots[high] - by_shots[low])
            return 2 ** (math.log2(low) + part * math.log2(high / low))
    return 2.0 * ks[-1]
