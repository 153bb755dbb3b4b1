"""How well a CLIP names drawings by artists that it never saw: with which prompts, and among which other names."""

import re
from functools import lru_cache

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from experiments.emoji import IMAGE_SIZE, emoji, names_without_tones, tokenised
from experiments.sweep import run_function
from experiments.transfer import (
    BENCHMARK,
    CLIPS,
    FAR,
    SENTENCES,
    UNSEEN,
    drawings,
    join,
    pretrained_clip,
    said,
    shared_features,
)
from minclip.clip import CLIP
from minclip.data import Pairs, step_generator
from minclip.zero_shot import classify, top_k_accuracy, zero_shot_weights

NEW_SENTENCES = ("a photo of the {}", "a small {} on white paper", "{}, an emoji", "the symbol for {}")
PROMPTS = {
    "bare": ("{}",),
    "one": SENTENCES[:1],
    "known": SENTENCES,
    "new": NEW_SENTENCES,
    "ensemble": (*SENTENCES, *NEW_SENTENCES),
    "with_bare": ("{}", *SENTENCES, *NEW_SENTENCES),
}
# Names that are near-twins in picture or in words, by what they ask for: name, group and subgroup -> is it one?
FAMILIES = {
    "clock": lambda name, group, subgroup: bool(re.search("o’clock|-thirty", name)),
    "moon": lambda name, group, subgroup: "moon" in name,
    "arrow": lambda name, group, subgroup: subgroup == "arrow",
    "keycap": lambda name, group, subgroup: subgroup == "keycap",
    "family": lambda name, group, subgroup: name.startswith(("family:", "kiss:", "couple with heart:")),
    "flag": lambda name, group, subgroup: subgroup == "country-flag",
    "square": lambda name, group, subgroup: bool(re.fullmatch(r"\w+ (square|circle)", name)),
    "heart": lambda name, group, subgroup: bool(re.fullmatch(r"(\w+ )+heart", name)) and subgroup == "heart",
    "face": lambda name, group, subgroup: subgroup.startswith("face-"),
}


@lru_cache
def toned(artist: str) -> Pairs:
    """The artist's drawings of people with one skin tone, of concepts that have a name in all five."""
    splits = ("train", "in_distribution") if artist == BENCHMARK else (artist,)
    pairs = join([emoji(s) for s in splits], lambda row: row["artist"] == artist and len(row["skin_tones"]) == 1)
    names = set(pairs.class_names)
    tones = names_of_tones()
    whole = [all(with_tone(pairs.class_names[i], tone) in names for tone in tones) for i in pairs.labels.tolist()]
    return pairs.select(torch.tensor(whole))


def names_of_tones() -> tuple[str, ...]:
    """The five skin tones, as CLDR names them."""
    return tuple(f"{tone} skin tone" for tone in ("light", "medium-light", "medium", "medium-dark", "dark"))


def with_tone(name: str, tone: str) -> str:
    """The same name with another skin tone: `waving hand: light skin tone` and so on."""
    return re.sub(r"(medium-light|medium-dark|light|medium|dark) skin tone", tone, name)


def among(similarity: Tensor, own: Tensor, rivals: Tensor) -> float:
    """How often a picture's own name is ahead of its rivals'; similarity `[N, C]`, own `[N]`, rivals `[N, R]`."""
    best = similarity.gather(1, rivals).amax(1)  # [N]
    return (similarity.gather(1, own[:, None])[:, 0] > best).double().mean().item()


def twins(model: CLIP, seed: int) -> dict[str, float]:
    """`twins_<family>`: pictures named among the names of their family; `others_<family>`: among as many others.

    The others are drawn for each picture from the names of other subgroups, so chance is the same. Pictures: all of
    the unseen artists. `tone` asks which of the five skin tones a person has; its others are four other people.
    """
    text, names, result = said(model, emoji("train").class_names), emoji("train").class_names, {}
    kind = dict(zip(drawings(FAR).labels.tolist(), drawings(FAR).metadata["subgroup"]))  # who drew every concept
    for family, belongs in FAMILIES.items():
        parts = [picked(artist, belongs) for artist in UNSEEN]
        images, own = torch.cat([p.images for p in parts]), torch.cat([p.labels for p in parts])
        members = own.unique()
        inside = {kind[i] for i in members.tolist()}
        strangers = torch.tensor([i for i in names_without_tones().tolist() if kind[i] not in inside])
        rivals = torch.stack([members[members != i] for i in own])  # [N, R]
        draw = torch.rand(len(own), len(strangers), generator=step_generator(seed, 12, len(own)))
        others = strangers[draw.argsort(1)[:, : rivals.shape[1]]]  # [N, R]
        similarity = classify(shared_features(model, images), text)
        result |= {
            f"twins_{family}": among(similarity, own, rivals),
            f"others_{family}": among(similarity, own, others),
        }
    parts = [toned(artist) for artist in (BENCHMARK, FAR)]
    images, own = torch.cat([p.images for p in parts]), torch.cat([p.labels for p in parts])
    people = [person for p in parts for person in p.metadata["base_name"]]
    tones, strangers = tones_and_strangers(names, own.tolist(), people, seed)
    similarity = classify(shared_features(model, images), text)
    result |= {"twins_tone": among(similarity, own, tones), "others_tone": among(similarity, own, strangers)}
    return {**result, "tone_above_chance": result["twins_tone"] - 1 / 5}


def tones_and_strangers(names: list[str], own: list[int], people: list[str], seed: int) -> tuple[Tensor, Tensor]:
    """The rivals of a toned picture, two times long `[N, 4]`: its other four tones; four other people, in any tone.

    own: the places of the pictures' names in `names`; people: the names without tones, of which no two rivals of one
    picture have the same.
    """
    place, concepts = {name: i for i, name in enumerate(names)}, sorted(set(people))
    first = {person: names[i] for person, i in zip(people, own)}
    five = torch.tensor([[place[with_tone(first[p], tone)] for tone in names_of_tones()] for p in concepts])  # [P, 5]
    person = torch.tensor([concepts.index(p) for p in people])  # [N]
    mine, label = five[person], torch.tensor(own)[:, None]  # [N, 5], [N, 1]
    generator = step_generator(seed, 13)
    draw = torch.rand(len(own), len(concepts), generator=generator).scatter_(1, person[:, None], 2.0)  # never oneself
    others, tone = draw.argsort(1)[:, :4], torch.randint(5, (len(own), 4), generator=generator)
    return mine[mine != label].view(-1, 4), five[others, tone]


def picked(artist: str, belongs) -> Pairs:
    """The artist's drawings whose name is of a family."""
    pairs = drawings(artist)
    about = zip(pairs.labels.tolist(), pairs.metadata["group"], pairs.metadata["subgroup"])
    return pairs.select(torch.tensor([belongs(pairs.class_names[i], group, kind) for i, group, kind in about]))


@run_function(version=2, defaults=CLIPS)
def measure_names(setting: dict, seed: int) -> dict:
    """Zero-shot top-1 of the unseen artists' drawings, flags left out, among 1,914 names: `<prompt>_<artist>`.

    And what `twins` returns. `seen_bare`: new drawings by the artists of the training, for comparison.
    """
    model = pretrained_clip(setting, seed)
    names, places = emoji("train").class_names, names_without_tones()
    result = twins(model, seed)
    for prompt, templates in PROMPTS.items():
        weights = zero_shot_weights(model, tokenised()[0], [names[i] for i in places], templates).cpu()  # [C, D]
        for artist in UNSEEN:
            result[f"{prompt}_{artist}"] = top_1(model, drawings(artist), weights, places)
        if prompt == "bare":
            seen = emoji("in_distribution")
            pairs = join([seen], lambda row: row["artist"] not in UNSEEN and not row["skin_tones"])
            result["seen_bare"] = top_1(model, pairs, weights, places)
    return {**result, "mflops": image_flops(model) / 1e6}


def image_flops(model: CLIP) -> float:
    """Forward FLOPs of one picture, counted while they are done (two a multiply-add)."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.encode_image(torch.zeros(1, 3, IMAGE_SIZE, IMAGE_SIZE, device=model.logit_scale.device))
    return float(counter.get_total_flops())


def top_1(model: CLIP, pairs: Pairs, weights: Tensor, places: Tensor) -> float:
    """Share of the pictures, flags left out, whose name is found; weights `[C, D]` of the names at `places` `[C]`."""
    pairs = pairs.select(torch.tensor([group != "flags" for group in pairs.metadata["group"]]))
    scores = classify(shared_features(model, pairs.images), weights)
    return top_k_accuracy(scores, torch.searchsorted(places, pairs.labels), 1)
