"""Captions that occur more than once in a batch, as false negatives: left so, masked, or all called right.

CLIP calls every other caption of a batch wrong, the same words under another picture included; both reviews ask what
that costs. Here pairs are drawn whatever they say, and captions leave out skin tones, so that nearly a quarter of a
batch's pictures have another with their caption in it (`twins`). The duplicates are untreated, masked (neither right
nor wrong), or all right (multi-positive): the softmax's target is spread evenly over them, the sigmoid has +1 for each.

For the softmax, all right is the same as untreated, exactly: equal captions have equal features and logits, and to
spread a target over them changes nothing (`multi_positive_loss`). On seed 100 the two runs, which differ by rounding
alone, were 1.2 points apart: so much does rounding do. For the sigmoid, an untreated duplicate is called right once and
wrong as often as it occurs again.
"""

from experiments.claims import Claim
from experiments.common import SCRATCH_BASE, sigmoid_setting, train_from_scratch
from experiments.judging import above
from experiments.verdicts import Check

MARGIN = 0.02  # on seed 100 rounding alone made 1.2 points
LOSSES = {"softmax": {"loss": "softmax"}, "sigmoid": sigmoid_setting(SCRATCH_BASE["batch_size"])}
TREATMENTS = {
    "untreated": {"distinct": False},
    "masked": {"distinct": False, "mask_duplicates": True},
    "multi-positive": {"distinct": False, "positives": "all"},
}
SETTINGS = {
    f"{loss}, {treatment}": {**SCRATCH_BASE, **of_loss, **how, "tones": False}
    for loss, of_loss in LOSSES.items()
    for treatment, how in TREATMENTS.items()
    if (loss, treatment) != ("softmax", "multi-positive")  # the same as untreated
}


def judge(measurements: list[dict]) -> list[Check]:
    """Do masking and calling all right help? Beside it: an unseen artist."""

    def over_untreated(loss: str, treatment: str, key: str = "in_distribution", decisive: bool = False) -> Check:
        sentence = f"{loss}: {treatment} over untreated{'' if key == 'in_distribution' else ', unseen artist'}"
        weights = {f"{loss}, {treatment}": 1, f"{loss}, untreated": -1}
        return above(measurements, sentence, weights, MARGIN, key=key, decisive=decisive)

    kinds = ("softmax", "masked"), ("sigmoid", "masked"), ("sigmoid", "multi-positive")
    return [
        *(over_untreated(*kind, decisive=True) for kind in kinds),
        *(over_untreated(*kind, "fxemoji") for kind in kinds),
    ]


CLAIM = Claim(
    id="clip-duplicates",
    paper="CLIP (2103.00020)",
    figure="Figure 3; asked by reviewers",
    statement="Captions that repeat within a batch are false negatives, and treating them helps.",
    paper_numbers="none given",
    data=f"emoji at 16 x 16, names without skin tones, both towers from scratch, batch {SCRATCH_BASE['batch_size']}, "
    f"{SCRATCH_BASE['steps']} steps; 23 % of the pictures have another with their caption in the batch; zero-shot "
    "top-1 of new drawings among 1,914 names",
    settings=SETTINGS,
    run=train_from_scratch,
    rule=f"Masked duplicates are above untreated ones by more than {100 * MARGIN:.0f} points with the softmax and with "
    "the sigmoid, and with the sigmoid so are duplicates that all are right; all three with the 95 % interval above "
    "zero and the same sign in every seed. Reported beside it, with the same margin: the unseen artist.",
    judge=judge,
    why="Nearly a quarter of the pictures have a twin in the batch, and at 256 pairs a twin is one wrong "
    "negative among 255: what it costs, if anything, is within the noise of three seeds.",
    notebook="19_which_objective_which_data",
    minutes=0.4,
    columns=("in_distribution", "fxemoji", "twins", "logit_scale", "logit_bias"),
)
