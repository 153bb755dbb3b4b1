"""How many labelled pictures a class is a name worth? (CLIP section 3.1.5, Figures 6 and 7)

The benchmark (`transfer.subgroups`): 23 kinds of things drawn by an artist that the CLIP never saw. Zero-shot, by the
names of each kind's members, against a linear probe on the same features that sees 1, 2, 4, 8 or 16 drawings of each
kind, mean of ten draws. The paper's average over 20 data sets crosses at 4, single data sets between less than 1 and
184.
"""

from experiments.claims import Claim
from experiments.shots import SHOTS, measure_shots, shots_to_match
from experiments.transfer import BENCHMARK, FAR, NEAR
from experiments.verdicts import Check, default_verdict, effect_of, values

LEAD, PAPER = 0.05, 4
SETTINGS = {"CLIP, 32 wide": {}}
(NAME,) = SETTINGS


def curve(measurements: list[dict], method: str, artist: str) -> dict[int, dict[int, float]]:
    """For each seed, accuracy by the number of shots."""
    columns = {k: values(measurements, NAME, f"{method}_{k}_{artist}") for k in SHOTS}
    return {seed: {k: column[seed] for k, column in columns.items()} for seed in columns[SHOTS[0]]}


def judge(measurements: list[dict]) -> list[Check]:
    """Is zero-shot above one shot and below sixteen? Beside it: how many shots match it, and unseen artists."""

    def check(sentence: str, artist: str, k: int, sign: int, margin: float, decisive: bool = False) -> Check:
        zero, probe = values(measurements, NAME, f"zero_{artist}"), values(measurements, NAME, f"probe_{k}_{artist}")
        effect = effect_of([sign * (zero[seed] - probe[seed]) for seed in zero])
        return Check(sentence, effect, default_verdict(effect, margin), decisive=decisive)

    zero, probe = values(measurements, NAME, f"zero_{BENCHMARK}"), curve(measurements, "probe", BENCHMARK)
    match = effect_of([shots_to_match(zero[seed], probe[seed]) - PAPER for seed in zero])
    return [
        check("zero-shot over a probe of 1 shot", BENCHMARK, 1, 1, LEAD, True),
        check("a probe of 16 shots over zero-shot", BENCHMARK, 16, -1, 0.0, True),
        Check(f"shots that match zero-shot, minus {PAPER}", match, default_verdict(match), "shots", False),
        check("zero-shot over 4 shots", BENCHMARK, 4, 1, 0.0),
        check("unseen artist, far: zero-shot over 16 shots", FAR, 16, 1, 0.0),
        check("unseen artist, near: zero-shot over 16 shots", NEAR, 16, 1, 0.0),
    ]


CLAIM = Claim(
    id="clip-zero-shot-vs-few-shot",
    paper="CLIP (2103.00020)",
    figure="Figures 6 and 7",
    statement="Zero-shot is as good as a probe of a few labelled pictures a class on the same features.",
    paper_numbers="mean of 20 data sets: zero-shot matches 4 shots; shots to match by data set: median 5.4, mean 20.8",
    data="CLIPs of four artists' drawings; 23 kinds of concepts by an unseen artist, some 215 test "
    "concepts, ten draws of the shots",
    settings=SETTINGS,
    run=measure_shots,
    rule=f"Zero-shot is above the probe of 1 shot by more than {100 * LEAD:.0f} points, and the probe of 16 "
    "shots is above zero-shot, so that they cross in between; each with the 95 % interval above zero and the "
    "same sign in every seed. Reported beside it (margin 0): where they cross, and the same on artists that "
    "neither has seen.",
    judge=judge,
    why="Zero-shot has 46.5 %; probes of 1 to 16 shots 30, 37, 43, 48 and 54 %: they meet between 4 and 8 "
    "shots. The names bring what the CLIP has learned about each concept from other artists; a probe has "
    "to find it in the pictures. On the far artist the 16 shots of another one help little: 25 %, zero- "
    "shot 38.",
    notebook="16_probes_and_few_shots",
    minutes=1.0,
    columns=tuple(f"{m}_{a}" for a in (BENCHMARK, NEAR, FAR) for m in ("zero", *(f"probe_{k}" for k in SHOTS))),
    n_seeds=5,
)
