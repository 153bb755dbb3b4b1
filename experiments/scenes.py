"""Runs on drawn scenes, whose captions are sentences in a grammar with known parts of speech (`experiments.shapes`).

Two things are asked of a model that are the same question on emoji: what the largest object is (a noun, or an
adjective, or both: classification), and which sentence belongs to which scene (retrieval).
"""

from functools import lru_cache

import torch
from torch import Tensor

from experiments.emoji import compute_device
from experiments.shapes import COLORS, PART_OF_SPEECH, SHAPES, make_shapes
from experiments.sweep import run_function
from experiments.tokens import CAPTION_LENGTH, TOKENS, VERSION, World, fresh_model, short, train_stages
from minclip.clip import CLIP
from minclip.data import Pairs, plain
from minclip.retrieval import recall_at_k
from minclip.syntax import RANKS
from minclip.tokenizer import CaptionTokens, Tokenizer
from minclip.zero_shot import embed_texts, top_k_accuracy

TRAINING, TEST, IMAGE_SIZE = 12_000, 1_000, 32


def known_priority(words: list[str]) -> list[int]:
    """The ranks of the grammar's own words: here no tag is a guess."""
    kinds = {"NN": "noun", "JJ": "adjective", "VB": "verb"}
    return [RANKS[kinds.get(PART_OF_SPEECH.get(word, ""), "other")] for word in words]


@lru_cache
def scenes(n: int, seed: int, most: int) -> Pairs:
    """Scenes of one to `most` objects and their sentences; no two sentences are equal where there is more than one."""
    return make_shapes(n, seed, IMAGE_SIZE, (1, most), duplicates=0.0 if most > 1 else 0.5)


@lru_cache
def scene_world() -> World:
    """The training scenes and their sentences as tokens; every word is one."""
    pairs = scenes(TRAINING, 0, 3)
    tokenizer = Tokenizer.train([texts[0] for texts in pairs.captions], 512)
    tokens = CaptionTokens(pairs.captions, tokenizer, CAPTION_LENGTH, known_priority)
    return World("scenes", pairs, tokenizer, tokens, 1.0)


@torch.no_grad()
def measure_on_scenes(model: CLIP, image_size: int) -> dict[str, float]:
    """What a model knows of scenes that it never saw, as fractions.

    Of single objects, asked by single words: `noun`, which of eight shapes; `adjective`, which of eight colours;
    `both`, which of the 64. `retrieval`: recall at 1 of a scene's sentence among 1,000, up to three objects a scene.
    """
    model.eval()
    tokenizer, device = scene_world().tokenizer, compute_device()

    def scores(pairs: Pairs, texts: list[str]) -> Tensor:
        with short():
            images = plain(pairs.images, image_size).to(device)
            features = torch.cat([model.encode_image(part) for part in images.split(512)])
            return (features @ embed_texts(model, tokenizer, texts).T).float().cpu()  # [N, C]

    one, many = scenes(TEST, 2, 1), scenes(TEST, 1, 3)
    shapes, colors = list(SHAPES), list(COLORS)
    places = [(colors.index(c[0]), shapes.index(s[0])) for c, s in zip(one.metadata["colors"], one.metadata["shapes"])]
    color, shape = torch.tensor(places).T
    return {
        "noun": top_k_accuracy(scores(one, shapes), shape, 1),
        "adjective": top_k_accuracy(scores(one, colors), color, 1),
        "both": top_k_accuracy(scores(one, one.class_names), one.labels, 1),
        "retrieval": recall_at_k(scores(many, [texts[0] for texts in many.captions])),
    }


@run_function(version=VERSION, defaults=TOKENS)
def train_on_scenes(setting: dict, seed: int) -> dict:
    """A CLIP on scenes, stage after stage, measured with all tokens; see `train_stages`."""
    model = fresh_model(scene_world(), setting, seed)
    return train_stages(model, scene_world(), setting, seed, measure_on_scenes)
