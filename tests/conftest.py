"""Small pairs and files that several tests use."""

import io
import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may depend on a network

WORDS = ("red", "blue", "green", "small", "large", "old", "new", "wet")
THINGS = ("cat", "dog", "boat", "tree", "house", "star", "fish", "cup")


def assert_close(a, b) -> None:
    """Equal within 1e-10, the bound of every identity here."""
    torch.testing.assert_close(a, b, atol=1e-10, rtol=0)


def assert_differ(a, b) -> None:
    """Different by more than rounding."""
    assert (a - b).abs().max() > 1e-4


def png(seed: int, size: int = 16, mode: str = "RGB") -> bytes:
    """A random picture as PNG bytes."""
    channels = {"RGB": 3, "RGBA": 4}[mode]
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, channels), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels, mode).save(out, "png")
    return out.getvalue()


def write_parquet(path, columns: dict, features: dict | None = None) -> None:
    """A parquet file as `datasets` writes it: an image column of {bytes, path}, and its note of features."""
    table = pa.table(columns)
    if features is not None:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path)


def images_column(n: int, size: int = 16) -> list[dict]:
    return [{"bytes": png(i, size), "path": None} for i in range(n)]


def runner(runs: dict):
    """run(name, seed, **changes): the result of runs[name], a (run function, setting), with the setting changed."""
    from experiments.sweep import complete

    def run(name: str, seed: int = 0, **changes) -> dict:
        function, tiny = runs[name]
        return function(complete(function, {**tiny, **changes}), seed)

    return run


def judged_by_hand(claim, value, expected: list[tuple], verdict: str) -> None:
    """A claim's judge, given value(setting) in every seed: `expected` has (effect, verdict) of each check, in order."""
    from experiments.verdicts import overall

    rows = [{"setting": name, "seed": seed, **value(name)} for seed in claim.seeds for name in claim.settings]
    checks = claim.judge(rows)
    for check, (effect, said) in zip(checks, expected, strict=True):
        assert check.effect["mean"] == pytest.approx(effect, abs=1e-12), check.sentence
        assert check.verdict == said, check.sentence
    assert overall(checks) == verdict


@pytest.fixture(scope="module")
def few_emoji(tmp_path_factory):
    """Every 30th training pair and every 10th of the tests for all experiments, and a cache of their own."""
    from experiments import emoji
    from minclip.data import Pairs
    from minclip.sources import EMOJI_DIR, load_emoji

    patch, folder, splits = pytest.MonkeyPatch(), tmp_path_factory.mktemp("few"), {}
    pq.write_table(pq.read_table(EMOJI_DIR / "names.parquet"), folder / "names.parquet")
    for split in ("train", *emoji.TEST_SPLITS, "openmoji"):
        rows = pq.read_table(EMOJI_DIR / f"{split}.parquet")
        rows = rows.take(list(range(0, len(rows), 30 if split == "train" else 10)))
        pq.write_table(rows, folder / f"{split}.parquet")
        splits[split] = Pairs(**load_emoji(split, folder, emoji.IMAGE_SIZE))
    patch.setattr(emoji, "load_pairs", lambda _name, split, _size: splits[split])
    patch.setattr(emoji, "CACHE", tmp_path_factory.mktemp("cache"))
    caches = (emoji.emoji, emoji.names_without_tones, emoji.tokenised, emoji.locked_features)
    for cached in caches:
        cached.cache_clear()
    yield
    patch.undo()
    for cached in caches:
        cached.cache_clear()


@pytest.fixture
def caption_folder(tmp_path):
    """64 pictures with different captions, as a local folder in the hub's layout."""
    folder = tmp_path / "captions"
    folder.mkdir()
    captions = [f"a {word} {thing}" for word in WORDS for thing in THINGS]
    write_parquet(folder / "train-00000-of-00001.parquet", {"image": images_column(64), "text": captions})
    return folder


@pytest.fixture
def tiny_pairs():
    """64 random pictures with different captions."""
    from minclip.data import Pairs

    images = torch.randint(0, 256, (64, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    captions = [[f"a {word} {thing}", f"{thing}, {word}"] for word in WORDS for thing in THINGS]
    names = [f"{word} {thing}" for word in WORDS for thing in THINGS]
    return Pairs(images, captions, torch.arange(64), names, torch.arange(64))
