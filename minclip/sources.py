"""Where pairs come from: the embedded emoji, or any local parquet in the hub's layout.

Every source returns the same columns, which `minclip.data.Pairs` holds:

    images    uint8 [N, 3, H, W]
    captions  N lists of strings: everything that may be said about the picture
    labels    N ints into class_names (-1: no label)
    class_names
    groups    N ints: pictures of one group say the same thing and never meet in a batch
"""

import io
import re
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

EMOJI_DIR = Path(__file__).resolve().parent.parent / "data"
EMOJI_SPLITS = ("train", "in_distribution", "held_out_compositions", "fxemoji", "openmoji")
IMAGE_COLUMNS, LABEL_COLUMNS = ("image", "img"), ("label", "fine_label", "labels")
CAPTION_COLUMNS = ("caption", "captions", "text", "sentence", "sentences")


def decode_images(encoded: list[bytes], where: str, size: int | None = None) -> Tensor:
    """Picture files -> uint8 `[N, 3, H, W]`; all are brought to `size` (default: the first picture's).

    Transparent pictures are laid on white. Raises ValueError naming the row that cannot be read.
    """
    images = []
    for row, content in enumerate(encoded):
        try:
            picture = Image.open(io.BytesIO(content))
            if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
                picture = picture.convert("RGBA")
                white = Image.new("RGBA", picture.size, "white")
                picture = Image.alpha_composite(white, picture)
            picture = picture.convert("RGB")
        except Exception as error:  # Pillow raises many kinds; the row is what the reader needs
            raise ValueError(f"{where}: the image in row {row} cannot be read ({error}); mend or remove it") from error
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)  # [3, H, W]
        if size is None:
            size = min(pixels.shape[1:])
        if pixels.shape[1:] != (size, size):
            pixels = resize_and_crop(pixels, size)
        images.append(pixels)
    return torch.stack(images)


def resize_and_crop(image: Tensor, size: int) -> Tensor:
    """Shorter side to `size` (anti-aliased bicubic), then the centre square, as CLIP evaluates."""
    height, width = image.shape[1:]
    scale = size / min(height, width)
    shape = [max(size, round(height * scale)), max(size, round(width * scale))]
    resized = F.interpolate(image[None].float(), shape, mode="bicubic", antialias=True).round().clamp(0, 255)
    top, left = (shape[0] - size) // 2, (shape[1] - size) // 2
    return resized[0, :, top : top + size, left : left + size].to(torch.uint8)


def read_parquet(files: list[Path]) -> dict[str, list]:
    """All rows of the parquet files as columns, in file-name order."""
    import pyarrow.parquet as pq

    columns: dict[str, list] = {}
    for file in files:
        try:
            table = pq.read_table(file)
        except Exception as error:
            raise ValueError(f"{file} cannot be read as parquet ({error}); fetch or build it again") from error
        for name in table.column_names:
            columns.setdefault(name, []).extend(table[name].to_pylist())
    return columns


def load_emoji(split: str, folder: str | Path = EMOJI_DIR, image_size: int | None = None) -> dict:
    """The embedded emoji: ~3,900 concepts by seven artists (`data/README.md` is its card).

    Captions of a picture: its CLDR name, the name in a sentence, the name with its keywords. Labels
    are names; `groups` are names without skin tones, since "waving hand" and "waving hand: light
    skin tone" would be near-duplicates in a batch.
    """
    folder = Path(folder)
    if split not in EMOJI_SPLITS:
        raise ValueError(f"emoji has no split {split!r}; choose from {', '.join(EMOJI_SPLITS)}")
    if not (folder / f"{split}.parquet").exists():
        raise FileNotFoundError(
            f"{folder} does not hold {split}.parquet; check it out from the repository or run data/build_emoji.py"
        )
    rows = read_parquet([folder / f"{split}.parquet"])
    names = read_parquet([folder / "names.parquet"])["en"]  # all concepts, in CLDR order
    index = {name: i for i, name in enumerate(names)}
    bases = {name: i for i, name in enumerate(dict.fromkeys(rows["base_name"]))}
    columns = {
        "images": decode_images([image["bytes"] for image in rows["image"]], f"emoji/{split}", image_size),
        "captions": [emoji_captions(n, k) for n, k in zip(rows["name"], rows["keywords"])],
        "labels": [index[name] for name in rows["name"]],
        "class_names": names,
        "groups": [bases[name] for name in rows["base_name"]],
    }
    columns["metadata"] = {
        key: rows[key] for key in ("artist", "code_points", "group", "subgroup", "base_name", "skin_tones")
    }
    return columns


def emoji_captions(name: str, keywords: list[str]) -> list[str]:
    """What may be said about an emoji, from bare to rich."""
    new = [word for word in keywords if word not in name.lower().split()]
    rich = f"{name}, {', '.join(new[:4])}" if new else name
    return [name, f"a drawing of {name}", rich]


def load_parquet(path: str | Path, split: str, image_size: int | None = None) -> dict:
    """A local folder (or file) of parquet in the hub's layout: an image column and a label or caption column.

    `split` picks the files whose name starts with it (`train-00000-of-00001.parquet`). Class names come
    from the hub's metadata in the file; a label `cat` becomes the caption `a photo of a cat`.
    """
    path = Path(path)
    found = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    files = [f for f in found if re.match(rf"{re.escape(split)}([-_.]|$)", f.name)] if path.is_dir() else found
    if not files:
        splits = sorted({re.split(r"[-_.]", f.name)[0] for f in found})
        raise FileNotFoundError(f"{path} holds no parquet files of a split {split!r}; splits found: {splits or 'none'}")
    rows = read_parquet(files)
    image_column = next((c for c in IMAGE_COLUMNS if c in rows), None)
    label_column = next((c for c in LABEL_COLUMNS if c in rows), None)
    caption_column = next((c for c in CAPTION_COLUMNS if c in rows), None)
    if image_column is None or (label_column is None and caption_column is None):
        raise ValueError(
            f"{path} has columns {sorted(rows)}; it needs an image column {IMAGE_COLUMNS} and a column of "
            f"captions {CAPTION_COLUMNS} or labels {LABEL_COLUMNS}"
        )
    n = len(rows[image_column])
    class_names = parquet_class_names(files[0], label_column) if label_column else []
    if label_column and not class_names:
        class_names = [str(i) for i in range(max(rows[label_column]) + 1)]
    labels = rows[label_column] if label_column else [-1] * n
    if caption_column:
        captions = [[c] if isinstance(c, str) else list(c or []) for c in rows[caption_column]]
    else:
        captions = [[f"a photo of a {class_names[label]}"] for label in labels]
    for row, texts in enumerate(captions):
        if not texts or not all(text and text.strip() for text in texts):
            raise ValueError(f"{path}: the caption in row {row} is empty; fill or remove it")
    # The same first caption is the same thing said: such pictures are false negatives of one another.
    said = {text: i for i, text in enumerate(dict.fromkeys(texts[0] for texts in captions))}
    encoded = [image["bytes"] if isinstance(image, dict) else image for image in rows[image_column]]
    return {
        "images": decode_images(encoded, str(path), image_size),
        "captions": captions,
        "labels": labels,
        "class_names": class_names,
        "groups": [said[texts[0]] for texts in captions],
    }


def parquet_class_names(file: Path, label_column: str) -> list[str]:
    """Class names from the note that `datasets` leaves in a parquet file; empty where there is none."""
    import json

    import pyarrow.parquet as pq

    note = (pq.read_schema(file).metadata or {}).get(b"huggingface", b"{}")
    feature = json.loads(note).get("info", {}).get("features", {}).get(label_column, {})
    return [name.replace("_", " ") for name in feature.get("names", [])]
