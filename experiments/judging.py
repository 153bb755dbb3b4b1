"""What judges share: effects that concern more than two settings, and limits."""

from collections.abc import Sequence

from experiments.verdicts import Check, default_verdict, effect_of, values


def contrast(measurements: list[dict], weights: dict[str, float], key: str = "in_distribution") -> dict:
    """The effect (`effect_of`) of a weighted sum of settings, seed by seed; weights: setting's name -> its weight.

    Raises ValueError when the settings were not run with the same seeds.
    """
    found = {name: values(measurements, name, key) for name in weights}
    if len({frozenset(of_seed) for of_seed in found.values()}) != 1:
        raise ValueError(f"not run with the same seeds: {', '.join(f'{n} {sorted(v)}' for n, v in found.items())}")
    seeds = next(iter(found.values()))
    return effect_of([sum(weight * found[name][seed] for name, weight in weights.items()) for seed in seeds])


def above(measurements: list[dict], sentence: str, weights: dict[str, float], margin: float, **more) -> Check:
    """A Check that a weighted sum of settings is above `margin`; more: its `key`, or what else a Check has."""
    effect = contrast(measurements, weights, more.pop("key", "in_distribution"))
    return Check(sentence, effect, default_verdict(effect, margin), **more)


def below(sentence: str, numbers: Sequence[float], limit: float, **more) -> Check:
    """A Check that a number is below `limit`, from one number a seed; more: what else a Check has.

    Shown are the number, its interval, and how many seeds are below the limit; judged is how far below they are.
    """
    judged = effect_of([limit - number for number in numbers])
    under = sum(number < limit for number in numbers) / len(numbers)
    return Check(sentence, {**effect_of(numbers), "sign_agreement": under}, default_verdict(judged), **more)
