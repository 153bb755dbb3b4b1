"""Is the sigmoid's score a probability? Calibration of "is this caption right?", beside the softmax's.

What users ask about: model cards show sigmoid(logit) as the probability of a caption, and it is often tiny. The
sigmoid loss is a log-likelihood of pairs, so that its score should be a probability **at the odds of training**: one
right caption to B - 1 wrong ones. Whoever asks with as many right as wrong captions has to add ln(B - 1) to the logit
(Bayes); without that shift everything looks unlikely. A softmax has no answer for one pair: it needs other captions
to compare with. Here it gets B of them, as in training, and its log-odds are shifted alike.

Measured: the expected calibration error (ten bins) over pairs, on new drawings by the training artists and on two
unseen artists, near (fxemoji) and far (openmoji). The bias starts at -ln(B - 1) or at the paper's -10, from which it
does not arrive in so few steps. Both towers from scratch; the same weights, batches and
augmentation for all settings of a seed (the softmax's temperature starts at its own 0.07).
"""

from experiments.calibration import train_and_calibrate
from experiments.claims import Claim
from experiments.common import SCRATCH_BASE, sigmoid_setting
from experiments.judging import above, below
from experiments.verdicts import Check, default_verdict, effect_of, values

BATCH_SIZE, STEPS = SCRATCH_BASE["batch_size"], SCRATCH_BASE["steps"]
LIMIT, MARGIN = 0.05, 0.01  # "calibrated" is an error under 5 points; seed 100: 2.9 and 4.0 (softmax 4.5 and 4.5)
SIGMOID, PAPER, SOFTMAX = "sigmoid, b from -ln(B-1)", "sigmoid, b from -10", "softmax"
SETTINGS = {
    SIGMOID: {**SCRATCH_BASE, **sigmoid_setting(BATCH_SIZE)},
    PAPER: {**SCRATCH_BASE, "init_logit_bias": -10.0},
    SOFTMAX: {**SCRATCH_BASE, "loss": "softmax"},
}
SPLITS = {"in_distribution": "training artists", "fxemoji": "unseen artist, near", "openmoji": "unseen artist, far"}


def judge(measurements: list[dict]) -> list[Check]:
    """Calibrated, and better than the softmax, on the training artists and the near unseen one; else beside it."""
    checks = []
    for split, where in SPLITS.items():
        key, decisive = f"pairs_{split}", split != "openmoji"
        errors = list(values(measurements, SIGMOID, key).values())
        sentence = f"calibration error under {100 * LIMIT:.0f} ({SIGMOID}; {where})"
        checks.append(below(sentence, errors, LIMIT, decisive=decisive))
        sentence = f"calibration error, softmax minus sigmoid ({where})"
        weights = {SOFTMAX: 1, SIGMOID: -1}
        checks.append(above(measurements, sentence, weights, MARGIN, key=key, decisive=decisive))
    near, unseen, raw = (values(measurements, SIGMOID, key) for key in
                         ("pairs_in_distribution", "pairs_fxemoji", "raw_in_distribution"))  # fmt: skip
    shift, face = (effect_of([x[seed] - near[seed] for seed in near]) for x in (unseen, raw))
    late, other = {PAPER: 1, SIGMOID: -1}, {SOFTMAX: 1, SIGMOID: -1}
    return checks + [
        Check("sigmoid's error, unseen artist (near) minus training artists", shift, default_verdict(shift, MARGIN),
              decisive=False),
        Check("sigmoid's error without the shift by ln(B-1), minus with it", face, default_verdict(face, MARGIN),
              decisive=False),
        above(measurements, "error, b from -10 minus b from -ln(B-1)", late, MARGIN, key="pairs_in_distribution",
              decisive=False),
        above(measurements, f"best of {BATCH_SIZE} captions: error, softmax minus sigmoid", other, MARGIN,
              key="best_in_distribution", decisive=False),
    ]  # fmt: skip


CLAIM = Claim(
    id="siglip-calibration",
    paper="SigLIP (2303.15343)",
    figure="none (what users ask about)",
    statement="The sigmoid's score is the probability that a caption is right, at the odds of training, on artists "
    "seen and unseen, and a better one than the softmax's.",
    paper_numbers="not measured in the paper; model cards show the sigmoid of the logit as a probability",
    data=f"emoji at 16 x 16 from scratch, batch {BATCH_SIZE}, {STEPS} steps; pairs of a picture and one of "
    f"{BATCH_SIZE} names, right and wrong ones weighted alike",
    settings=SETTINGS,
    run=train_and_calibrate,
    rule=f"With b from -ln(B - 1), the expected calibration error over pairs is under {100 * LIMIT:.0f} points (95 % "
    f"interval and every seed), and the softmax's is larger by more than {100 * MARGIN:.0f} point (interval above "
    "zero, every seed), both on new drawings by the training artists and on the unseen artist fxemoji. Beside it: "
    "openmoji, b from -10, no shift by ln(B - 1), and the best of all captions.",
    judge=judge,
    why="After the shift by ln(B - 1) the score of the sigmoid is right within 4 points, on training artists and "
    "a near unseen one, but not on far drawings; without it, it is wrong by 42. The softmax, given as many "
    "captions as in training, is within a point of it, and better at naming the best of them.",
    notebook="07_bias_and_temperature",
    minutes=0.4,
    n_seeds=5,  # three left several checks inconclusive
    columns=("pairs_in_distribution", "pairs_fxemoji", "pairs_openmoji", "raw_in_distribution", "best_in_distribution",
             "best_fxemoji", "accuracy_in_distribution", "confidence_in_distribution", "accuracy_fxemoji",
             "confidence_fxemoji"),
)  # fmt: skip
