"""Many small data sets from the benchmark artist's drawings: what zero-shot can do beside a probe on the same features.

A task gives each drawing a class by one rule, such as its kind of animal or its skin tone. A class is said in words
by the names of its training concepts, averaged. Concepts (without skin tones) are in training, validation or test,
never in two.
"""

import re
from collections.abc import Callable
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.emoji import IMAGE_SIZE, compute_device, emoji, kept, tokenised
from experiments.probe import linear_probe
from experiments.supervised import train_image_tower
from experiments.sweep import run_function
from experiments.transfer import (
    BENCHMARK,
    CLIPS,
    join,
    pretrained_clip,
    pretraining_pairs,
    shared_features,
    tower_features,
)
from minclip.data import Pairs, step_generator
from minclip.lit import cached_image_features
from minclip.resnet import ResNet
from minclip.zero_shot import classify, top_k_accuracy, zero_shot_weights

LEAST, MOST = 12, 60  # drawings of a class: fewer and it is left out; of more, some are drawn at random
PARTS = ("train", "test", "train", "validation", "train", "test")  # of the concepts of a class, in a random order
LABELLED = {**CLIPS, "labelled_steps": 300}


def first_word(name: str, words: tuple[str, ...]) -> str | None:
    """The name's first word, if it is one of those asked for."""
    word = re.split("[ :]", name)[0]
    return word if word in words else None


def subgroup_of(group: str, begins: str = "") -> Callable[[dict], str | None]:
    """A rule: the subgroup, of the drawings of one group (and of subgroups that begin so)."""
    return lambda row: row["subgroup"] if row["group"] == group and row["subgroup"].startswith(begins) else None


# A rule: what is known of a drawing -> its class, or None if the task does not ask about it.
TASKS: dict[str, Callable[[dict], str | None]] = {
    "group": lambda row: row["group"] if row["group"] != "flags" else None,
    "faces": subgroup_of("smileys-emotion", "face-"),
    "people": subgroup_of("people-body", "person-"),
    "hands": subgroup_of("people-body", "hand"),
    "animals": subgroup_of("animals-nature"),
    "food": subgroup_of("food-drink"),
    "travel": subgroup_of("travel-places"),
    "activities": subgroup_of("activities"),
    "objects": subgroup_of("objects"),
    "symbols": subgroup_of("symbols"),
    "skin tone": lambda row: row["skin_tones"][0] if len(row["skin_tones"]) == 1 else None,
    "gender": lambda row: first_word(row["name"], ("man", "woman", "person")),
    "facing": lambda row: (
        ("right" if "facing right" in row["name"] else "left")
        if re.match("(man|woman|person) (walking|running|kneeling|with white cane|in )", row["name"])
        else None
    ),
    "how many": lambda row: (
        {"couple": "two", "kiss": "two", "family": "more"}.get(row["name"].split(":")[0].split()[0])
        if row["subgroup"] == "family"
        else ("one" if row["subgroup"] in ("person-role", "person") else None)
    ),
}


@lru_cache
def all_drawings() -> tuple[Pairs, list[dict]]:
    """The benchmark artist's drawings, skin tones included, and what is known of each."""
    pairs = join([emoji(s) for s in ("train", "in_distribution", "held_out_compositions")],
                 lambda row: row["artist"] == BENCHMARK)  # fmt: skip
    rows = [dict(zip(pairs.metadata, values)) for values in zip(*pairs.metadata.values())]
    return pairs, [{**row, "name": pairs.class_names[i]} for row, i in zip(rows, pairs.labels.tolist())]


def parts_of(task: str, seed: int) -> tuple[list[str], dict[str, tuple[Tensor, Tensor]]]:
    """The classes of a task and, by part, rows of `all_drawings` and their classes, each long `[N]`.

    Of six concepts three are for training, one for validation, two for the test, class after class, so that each class
    has its share of all parts.
    """
    rows = all_drawings()[1]
    by_class: dict[str, list[int]] = {}
    for i in torch.randperm(len(rows), generator=step_generator(seed, 16)).tolist():
        found = TASKS[task](rows[i])
        if found is not None:
            by_class.setdefault(found, []).append(i)
    concepts_of = lambda members: {rows[i]["base_name"] for i in members}  # noqa: E731
    large = {name: members[:MOST] for name, members in sorted(by_class.items()) if len(members) >= LEAST}
    by_class = {name: members for name, members in large.items() if len(concepts_of(members)) >= len(PARTS)}
    order = list(dict.fromkeys(rows[i]["base_name"] for members in by_class.values() for i in members))
    place = {concept: PARTS[n % len(PARTS)] for n, concept in enumerate(order)}
    result = {}
    for name in dict.fromkeys(PARTS):
        pairs = [(i, y) for y, members in enumerate(by_class.values()) for i in members
                 if place[rows[i]["base_name"]] == name]  # fmt: skip
        result[name] = tuple(torch.tensor(column, dtype=torch.long) for column in zip(*pairs))
    return list(by_class), result


@lru_cache
def labelled_tower(width: int, steps: int, seed: int) -> ResNet:
    """A ResNet that learned the names of CLIP's pictures as labels; trained once, the same whoever asks.

    It stands for the paper's ResNet-50 of ImageNet: features that labels made, not language.
    """

    def compute() -> dict[str, Tensor]:
        tower = train_image_tower(pretraining_pairs(), IMAGE_SIZE, width, steps, seed=seed, device=compute_device())
        return tower.state_dict()

    tower = ResNet(IMAGE_SIZE, width=width)
    tower.load_state_dict(kept("labelled", [width, steps, seed], compute))
    return tower.eval()


@run_function(version=1, defaults=LABELLED)
def measure_tasks(setting: dict, seed: int) -> dict:
    """Accuracy by task, `zero_<task>`, `probe_<task>` (the CLIP's own features), `labelled_<task>` (a probe on features
    of a ResNet trained on labels) and `chance_<task>` (always the most frequent class of the training part).
    """
    model, (pairs, rows) = pretrained_clip(setting, seed), all_drawings()
    shared, tower = shared_features(model, pairs.images), tower_features(model, pairs.images)
    other = labelled_tower(setting["image_width"], setting["labelled_steps"], seed)
    labelled = F.normalize(cached_image_features(other, pairs.images, IMAGE_SIZE), dim=1)  # [N, W]
    result = {}
    for task in TASKS:
        classes, parts = parts_of(task, seed)
        train, test = parts["train"], parts["test"]
        names = [[rows[i]["name"] for i in train[0][train[1] == y].tolist()] for y in range(len(classes))]
        weights = zero_shot_weights(model, tokenised()[0], names).cpu()
        key = task.replace(" ", "_")
        result[f"zero_{key}"] = top_k_accuracy(classify(shared[test[0]], weights), test[1], 1)
        for kind, features in (("probe", tower), ("labelled", labelled)):
            sets = [(features[parts[p][0]], parts[p][1]) for p in ("train", "validation", "test")]
            result[f"{kind}_{key}"] = linear_probe(*sets[:2], {"test": sets[2]})["test"]
        result[f"chance_{key}"] = (test[1] == train[1].mode().values).double().mean().item()
    return result
