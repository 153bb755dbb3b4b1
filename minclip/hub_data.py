"""Data sets by name: recipes for well-known ones, and any of the hub that has pictures with captions or labels.

    python -m minclip.hub_data                                   # the table of recipes
    python -m minclip.train --data cifar10                       # a recipe: from the hub, or from its cache
    python -m minclip.train --data user/name:config --streaming  # any data set of the hub, without keeping it
    python -m minclip.train --data folder/of/parquet             # the same files, fetched by other means

A recipe (`data/recipes.json`) has the data set's name on the hub, its columns and templates (`Reading`), what
`train`, `validation` and `test` are called there if otherwise (no other split exists then), the number of training
pairs, and a hint at its terms. `datasets` reads the hub, and remote WebDataset shards (`https://...`); local shards,
which anything may be wrong with, are `minclip.own_data`'s.
"""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

from minclip.own_data import open_own_data
from minclip.sources import EMOJI_DIR, PLAIN, Reading, Source, open_tables

RECIPES = json.loads((EMOJI_DIR / "recipes.json").read_text(encoding="utf-8"))


def completed(name: str, reading: Reading) -> Reading:
    """`reading`, with a recipe's settings in place of those that are as by default."""
    given = {key: value for key, value in vars(reading).items() if value != getattr(PLAIN, key)}
    recipe = RECIPES[name]["reading"] if name in RECIPES else {}
    return replace(reading, **{key: tuple(v) if isinstance(v, list) else v for key, v in recipe.items()} | given)


def open_data(name_or_path: str | Path, split: str, reading: Reading) -> Source:
    """The rows of a file or folder, a recipe, a data set of the hub, or remote shards; reading as `completed`.

    Of a data set of the hub each shard is a part, if it is streamed. Raises FileNotFoundError for what is none of
    them, and, with what to do without a network, for a data set or a split that the hub does not give.
    """
    name = str(name_or_path)
    if Path(name_or_path).exists():
        return open_own_data(name_or_path, split, reading)
    import datasets

    recipe, reading = RECIPES.get(name, {"repository": name}), completed(name, reading)
    repository, _, config = recipe["repository"].partition(":")
    source = ("webdataset", None, None, {split: name}) if "://" in name else (repository, config or None)
    try:
        there = recipe["splits"][split] if "splits" in recipe else split
        data = datasets.load_dataset(*source, split=there, streaming=reading.streaming)
    except Exception as error:
        raise FileNotFoundError(
            f"unknown dataset {name!r}, split {split!r}: neither `emoji` nor a file or folder, and the hub did not "
            f"give it ({str(error)[:300]}). Without a network: where there is one, run `hf download {repository} "
            f"--repo-type dataset --local-dir FOLDER`, copy FOLDER here, and use --data FOLDER. Recipes: {[*RECIPES]}"
        ) from error
    n = data.num_shards if reading.streaming else 1
    shards = {f"{name} shard {i}": partial(data.shard, n, i) for i in range(n)} if n > 1 else {name: lambda: data}
    return open_tables(name, shards, reading)


if __name__ == "__main__":
    print("| name | on the hub | training pairs | terms |\n|---|---|---|---|")
    for name, recipe in RECIPES.items():
        print(f"| {name} | {recipe['repository']} | {recipe['pairs']:,} | {recipe['terms']} |")
