"""The same pictures in ten languages: which language a caption is in, and how well each can be searched."""

from functools import lru_cache

import torch
from torch import Tensor

from experiments.common import LOCKED, TRAINING, prepare_locked
from experiments.emoji import compute_device, emoji, locked_features, names_without_tones
from experiments.fit import fit, make_model
from experiments.sweep import run_function
from minclip.clip import CLIP
from minclip.data import step_generator
from minclip.lit import CachedImages, lock
from minclip.retrieval import recall_at_k
from minclip.sources import EMOJI_DIR, read_parquet
from minclip.tokenizer import PAD_ID, Tokenizer
from minclip.zero_shot import top_k_accuracy

LANGUAGES = ("en", "de", "es", "fr", "hi", "ja", "ko", "ru", "th", "zh")  # seven scripts; the CLDR names every concept
# The tokenizer cuts a word at every Unicode mark, and vowels of Hindi and Thai are marks: 32 cut a Hindi name in seven.
CONTEXT_LENGTH = 48

DEFAULTS = {key: LOCKED[key] for key in (*TRAINING, "init_logit_bias", "embed_dim", "text_width", "text_layers")}
DEFAULTS |= {key: LOCKED[key] for key in ("tower_width", "tower_steps", "tower_seed", "projection")}
DEFAULTS |= {"languages": " ".join(LANGUAGES), "vocab_size": 4096}


@lru_cache
def names() -> dict[str, list[str]]:
    """What each concept is called, language by language, in the order of `Pairs.class_names`."""
    columns = read_parquet([EMOJI_DIR / "names.parquet"])
    return {language: columns[language] for language in LANGUAGES}


@lru_cache
def tokenised_names(vocab_size: int) -> tuple[Tokenizer, Tensor]:
    """One tokenizer for all ten languages, whichever a run trains on, and every name: long `[10, names, L]`."""
    texts = names()
    tokenizer = Tokenizer.train(sorted({text for column in texts.values() for text in column}), vocab_size)
    return tokenizer, torch.stack([tokenizer(column, CONTEXT_LENGTH) for column in texts.values()])


def choose(languages: str) -> Tensor:
    """`"en de"` -> their places in LANGUAGES, long `[K]`. Raises ValueError for an unknown or repeated one."""
    chosen = languages.split()
    wrong = [language for language in chosen if language not in LANGUAGES or chosen.count(language) > 1]
    if wrong or not chosen:
        raise ValueError(f"languages {languages!r}: choose different ones from {', '.join(LANGUAGES)}")
    return torch.tensor([LANGUAGES.index(language) for language in chosen])


def captions_in(languages: str, ids: Tensor, seed: int):
    """captions(rows, draw, step) for `fit`: the name of each row's concept, in one of the languages by chance.

    ids: `[10, names, L]`. The language has a random stream of its own, so that the pictures are the same whatever
    the languages are.
    """
    chosen, labels = choose(languages), emoji("train").labels

    def captions(rows: Tensor, _draw: Tensor, step: int) -> Tensor:
        which = torch.randint(len(chosen), (len(rows),), generator=step_generator(seed, 11, step))
        said = ids[chosen[which], labels[rows]]  # [B, L]
        return said[:, : (said != PAD_ID).sum(1).max()]

    return captions


@run_function(version=1, defaults=DEFAULTS, prepare=prepare_locked)
def train_on_languages(setting: dict, seed: int) -> dict:
    """A text tower from scratch in some languages, on the locked tower, which learned pictures without any words.

    languages: those of the captions, separated by blanks; each step draws one for each picture. Returns what
    `fit` and `search_in_all` return.
    """
    features = locked_features(setting["tower_width"], setting["tower_steps"], setting["tower_seed"])
    train = features["train"].to(compute_device())  # [N, D]
    setting = {**LOCKED, **setting}
    tokenizer, ids = tokenised_names(setting["vocab_size"])
    model = make_model(CachedImages(train.shape[1]), setting, seed, tokenizer, CONTEXT_LENGTH)
    lock(model, setting["projection"])
    captions = captions_in(setting["languages"], ids, seed)
    curves = fit(model, lambda rows, _: train[rows], setting, seed, captions)
    return {**curves, **search_in_all(model, ids, features["in_distribution"])}


@torch.no_grad()
def search_in_all(model: CLIP, ids: Tensor, features: Tensor) -> dict[str, float]:
    """Retrieval in every language, trained on or not, among new drawings by the training artists; fractions.

    ids: `[10, names, L]`; features: the split's `[N, D]`. Pictures with skin tones are left out, which leaves 746
    with 623 names. `retrieval_de`: mean of recall at 1 of the caption for a picture and of a picture for a caption;
    `retrieval`: its mean over the ten languages, and `to_caption` and `to_picture` the two halves of it.
    `zero_shot`: top-1 in English among the 1,914 names without skin tones.
    """
    model.eval()
    device = compute_device()
    plain_names = names_without_tones()
    labels = emoji("in_distribution").labels
    known = torch.isin(labels, plain_names)
    pictures, labels = model.encode_image(features[known].to(device)), labels[known]
    embed = lambda part: torch.cat([model.encode_text(x) for x in part.to(device).split(512)])  # noqa: E731
    gallery = labels.unique()  # [G]
    right = labels[:, None] == gallery  # [N, G]
    to_caption, to_picture = [], []
    for language in ids:
        scores = (pictures @ embed(language[gallery]).T).cpu()  # [N, G]
        to_caption.append(recall_at_k(scores, right))
        to_picture.append(recall_at_k(scores.T, right.T))
    both = [(a + b) / 2 for a, b in zip(to_caption, to_picture)]
    result = {f"retrieval_{language}": value for language, value in zip(LANGUAGES, both)}
    for key, column in (("retrieval", both), ("to_caption", to_caption), ("to_picture", to_picture)):
        result[key] = sum(column) / len(column)
    scores = (pictures @ embed(ids[LANGUAGES.index("en")][plain_names]).T).cpu()  # [N, C]
    result["zero_shot"] = top_k_accuracy(scores, torch.searchsorted(plain_names, labels), 1)
    return result
