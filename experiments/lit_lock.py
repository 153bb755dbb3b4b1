"""Lock the image tower, tune it, or start from nothing? (LiT Figure 3, Table 2)

LiT's letters for the image tower: L locked, U pretrained and tuned, u from scratch; the text tower is always u. Three
budgets, each point a run of its own with its own schedule, as in the paper; the same rates for all. L and U begin from
one ResNet that was trained for 400 steps to name the training pictures, and L's features are cached, of pictures
without augmentation. That tower learned from labels which are the very names of the test, where LiT's learned from
other classes: expect more of L here. What the tower knows without any text (`few_shot`, the nearest mean of a name's
training pictures) is the baseline, and its 400 steps count in no budget.
"""

from experiments.claims import Claim
from experiments.common import SCRATCH_BASE, train_from_scratch
from experiments.judging import above
from experiments.verdicts import Check, default_verdict, effect_of, values

BUDGETS = (60, 240, 480)
SHORT, LONG = BUDGETS[0], BUDGETS[-1]
TOWERS = {"Lu": "locked", "Uu": "tuned", "uu": "scratch"}
FAR, NEAR, NATS = 0.03, 0.02, 0.1  # margins; seed 100, 60 steps: Lu 7.0, Uu 3.1, uu 1.2 %


def setting(tower: str, steps: int) -> dict:
    """One image tower and budget, softmax loss."""
    return {**SCRATCH_BASE, "loss": "softmax", "steps": steps, "image_tower": tower, "few_shot": True}


SETTINGS = {f"{name}, {steps} steps": setting(tower, steps) for name, tower in TOWERS.items() for steps in BUDGETS}


def judge(measurements: list[dict]) -> list[Check]:
    """Is Lu above uu, and above Uu, when training is short? Beside it: longer, other tasks, the training loss."""

    def over(other: str, steps: int, key: str = "in_distribution", margin: float = NEAR, **more) -> Check:
        said = {"in_distribution": "", "few_shot": ", the tower alone", "last_loss": ", training loss"}
        what = said.get(key, f", {key}")
        weights = {f"Lu, {steps} steps": 1, f"{other}, {steps} steps": -1}
        about = {"decisive": False, "key": key, **more}
        return above(measurements, f"{steps} steps{what}: Lu over {other}", weights, margin, **about)

    return [
        over("uu", SHORT, margin=FAR, decisive=True),
        over("Uu", SHORT, decisive=True),
        *(over(other, steps) for steps in BUDGETS[1:] for other in ("uu", "Uu")),
        *(over(o, n, key) for key in ("fxemoji", "retrieval", "few_shot") for n in (SHORT, LONG) for o in ("uu", "Uu")),
        *(over(other, LONG, "last_loss", NATS, unit="nats") for other in ("uu", "Uu")),
        *(over_baseline(measurements, steps) for steps in (SHORT, LONG)),
    ]


def over_baseline(measurements: list[dict], steps: int) -> Check:
    """How far Lu's accuracy is above what its image tower knows without any text."""
    name = f"Lu, {steps} steps"
    accuracy, alone = values(measurements, name, "in_distribution"), values(measurements, name, "few_shot")
    effect = effect_of([accuracy[seed] - alone[seed] for seed in accuracy])
    return Check(f"{steps} steps: Lu over its tower alone", effect, default_verdict(effect, NEAR), decisive=False)


CLAIM = Claim(
    id="lit-lock",
    paper="LiT (2111.07991)",
    figure="Figures 3 and 4, Table 2",
    statement="With a short training, a text tower learns best from a pretrained image tower that is locked: better "
    "than if that is tuned, and far better than from scratch.",
    paper_numbers="ImageNet zero-shot, Lu / Uu / uu: 70.1 / 57.2 / 50.6; by run length, 2,500 to 60,000 steps, Lu is "
    "almost always best, and Uu can overtake on retrieval",
    data="emoji at 16 x 16, a ResNet of width 16; zero-shot top-1 of new drawings among 1,914 names",
    settings=SETTINGS,
    run=train_from_scratch,
    rule=f"At {SHORT} steps of 256 pairs Lu is above uu by more than {100 * FAR:.0f} points and above Uu by more than "
    f"{100 * NEAR:.0f} points, both with the 95 % interval above zero and the same sign in every seed. Reported beside "
    f"it, with a margin of {100 * NEAR:.0f} points: {BUDGETS[1]} and {LONG} steps, the unseen artist, retrieval, the "
    "image towers alone (the nearest mean of a name's training pictures), Lu over its own tower alone; with "
    f"{NATS} nats: the training loss of the last steps, for Lu on pictures without augmentation.",
    judge=judge,
    why="A locked tower has nothing to find, so in 60 steps the words settle sooner. By 480 steps Lu has read "
    "out all that its tower knows (22 %, the tower alone 23), which is no more than the tower of uu knows "
    "after 240, and towers that learn pass it: Uu has 29 %, uu 24. LiT's towers had seen hundreds of "
    "millions of labelled pictures, ours twelve thousand for 400 steps. Training loss goes against LiT's "
    "Figure 4, but Lu sees pictures without augmentation that its tower has learned.",
    notebook="18_locked_towers",
    minutes=0.5,
    columns=("in_distribution", "fxemoji", "retrieval", "held_out", "few_shot", "last_loss", "logit_scale"),
    n_seeds=5,
)
