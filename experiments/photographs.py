"""From drawings to photographs: the CLIPs of `transfer` on CIFAR-10, the farthest shift, where a copy is at hand.

    python -m experiments.photographs FOLDER     # parquet in the hub's layout (uoft-cs/cifar10); some minutes

The ten classes are words that the CLIPs know from drawings (airplane, cat, frog, ...). Zero-shot by bare names; a
linear probe on the same tower's features, on those of a ResNet that learned CLIP's drawings by labels, and on the
pixels. No claim: a claim has to run on what the repository holds. Writes results/photographs.json.
"""

import sys

import torch
import torch.nn.functional as F

from experiments.emoji import IMAGE_SIZE, compute_device, tokenised
from experiments.probe import linear_probe
from experiments.sweep import ROOT, write_lines
from experiments.tasks import LABELLED, labelled_tower
from experiments.transfer import CLIPS, pretrained_clip, shared_features, tower_features
from experiments.verdicts import effect_of
from minclip.data import Pairs, load_pairs, step_generator
from minclip.lit import cached_image_features
from minclip.runs import device_name
from minclip.zero_shot import classify, top_k_accuracy, zero_shot_weights

SEEDS, TRAIN, VALIDATION = (0, 1, 2), 1000, 250


def measure(train: Pairs, test: Pairs, seed: int) -> dict[str, float]:
    """Accuracy on the test photographs: zero-shot, and of three probes that learn from 1,000 others."""
    model = pretrained_clip(CLIPS, seed)
    weights = zero_shot_weights(model, tokenised()[0], test.class_names).cpu()  # [C, D]
    result = {"zero": top_k_accuracy(classify(shared_features(model, test.images), weights), test.labels, 1)}
    rows = torch.randperm(len(train), generator=step_generator(seed, 18))[: TRAIN + VALIDATION]
    few = train.select(rows)
    labelled = labelled_tower(CLIPS["image_width"], LABELLED["labelled_steps"], seed)
    kinds = {
        "probe": lambda x: tower_features(model, x),
        "labelled": lambda x: F.normalize(cached_image_features(labelled, x, IMAGE_SIZE), dim=1),
        "pixels": lambda x: F.normalize(x.flatten(1).float() - 127.5, dim=1),
    }
    for kind, features_of in kinds.items():
        seen = features_of(few.images)
        parts = [(seen[part], few.labels[part]) for part in (slice(TRAIN), slice(TRAIN, None))]
        result[kind] = linear_probe(*parts, {"test": (features_of(test.images), test.labels)})["test"]
    return result


def main() -> None:
    """Measure all seeds and write the result."""
    if len(sys.argv) != 2:
        raise SystemExit("say where CIFAR-10 is, as parquet: python -m experiments.photographs FOLDER")
    train, test = (load_pairs(sys.argv[1], split, IMAGE_SIZE) for split in ("train", "test"))
    rows = [{"seed": seed, **measure(train, test, seed)} for seed in SEEDS]
    about = {
        "data": f"CIFAR-10 at {IMAGE_SIZE} x {IMAGE_SIZE}, {len(test):,} test photographs; {TRAIN:,} for probes",
        "command": "python -m experiments.photographs FOLDER", "seeds": list(SEEDS),
        "device": device_name(compute_device()), "torch": torch.__version__,
    }  # fmt: skip
    effects = {key: effect_of([row[key] for row in rows]) for key in rows[0] if key != "seed"}
    write_lines(ROOT / "results" / "photographs.json", {**about, "effects": effects, "measurements": rows})
    for key, effect in effects.items():
        print(f"{key}: {effect['mean']:.1%} [{effect['ci95'][0]:.1%}, {effect['ci95'][1]:.1%}]")


if __name__ == "__main__":
    main()
