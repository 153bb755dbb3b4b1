"""Where pairs come from: the embedded emoji, any local parquet in the hub's layout, and what all readers share.

Every source returns the same columns, which `minclip.data.Pairs` holds:

    images    uint8 [N, 3, H, W]
    captions  N lists of strings: everything that may be said about the picture
    labels    N ints into class_names (-1: no label)
    class_names
    groups    N ints: pictures of one group say the same thing and never meet in a batch
    skipped   one string a row that was left out, with the reason (none for the emoji, which are read strictly)
"""

import io
import json
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from unicodedata import category

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, UnidentifiedImageError
from torch import Tensor

EMOJI_DIR = Path(__file__).resolve().parent.parent / "data"
EMOJI_SPLITS = ("train", "in_distribution", "held_out_compositions", "fxemoji", "openmoji")
SPLITS = ("train", "test", "validation", "valid", "val", "dev")
IMAGE_COLUMNS, LABEL_COLUMNS = ("image", "img"), ("label", "fine_label", "labels")
CAPTION_COLUMNS = ("caption", "captions", "text", "title", "sentence", "sentences")

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")  # not EPS: Pillow would start Ghostscript
MAX_PIXELS, MAX_BYTES = 100_000_000, 100_000_000  # of one picture, and of its file
MIN_SIDE, MAX_SIDE = 8, 256  # below: counting pixels of web pages; above: reduced, unless the caller asks for more
MAX_CAPTION = 10_000  # characters
MAX_CLASSES = 100_000  # where a file does not name them
HANDFUL, NAMED = 5, 20  # rows that may fail in a data set of any size; rows that a message names
CONTROLS = {code: None for code in (*range(32), *range(127, 160)) if not chr(code).isspace()}
TURNS = dict(zip(range(2, 9), (0, 3, 1, 5, 4, 6, 2)))  # EXIF orientation -> Image.Transpose


def decode_picture(content: bytes, size: int | None = None) -> Tensor:
    """A picture file -> uint8 `[3, size, size]`: its centre square, whatever the file's name says it is.

    size: default, the picture's shorter side, at most MAX_SIDE. Transparent pictures are laid on white, 16 bits
    become 8, photographs are turned as their EXIF says, of an animation the first frame is taken. Raises ValueError
    for what is no picture in one of FORMATS, and, before a pixel is decoded, for more than MAX_PIXELS; for damaged
    files Pillow raises errors of many kinds. Decoding takes up to about 9 bytes a pixel.
    """
    if not isinstance(content, bytes) or len(content) > MAX_BYTES:
        got = f"{len(content):,}" if isinstance(content, bytes) else type(content).__name__
        raise ValueError(f"a file of at most {MAX_BYTES:,} bytes was expected, got {got}")
    Image.init()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on damaged metadata, and on sizes, which are checked here
        try:
            picture = Image.open(io.BytesIO(content), formats=[name for name in FORMATS if name in Image.OPEN])
        except UnidentifiedImageError:
            raise ValueError(f"it is no picture ({', '.join(FORMATS)}); it begins with {content[:12]}") from None
        width, height = picture.size
        short = min(width, height)
        if width * height > MAX_PIXELS or short < MIN_SIDE:
            raise ValueError(f"it has {width} x {height} pixels; {MIN_SIDE} a side to {MAX_PIXELS:,} in all are read")
        size = size or min(short, MAX_SIDE)
        picture.draft(None, (2 * size, 2 * size))  # a large JPEG is decoded at a half to an eighth of its size
        picture.load()
        turn = attempt(lambda: TURNS.get(picture.getexif().get(0x0112)))  # bad metadata must not cost the picture
        picture = to_rgb(picture, 2 * size)
    picture = picture.transpose(turn) if isinstance(turn, int) else picture
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)  # [3, short, short]
    return pixels if len(pixels[0]) == size else resize(pixels, size)


def to_rgb(picture: Image.Image, enough: int) -> Image.Image:
    """The centre square in RGB, on white; one of some megapixels is reduced, to no less than `enough` a side."""
    if picture.mode[0] in "IF":  # 16-bit gray, which convert would clip at 255
        deep = np.asarray(picture)
        if picture.mode == "F" or deep.min() < 0 or deep.max() > 65535:
            raise ValueError("its gray values are not whole numbers of 16 bits; save it with 8 or 16")
        picture = Image.fromarray((deep >> 8).astype(np.uint8))
    transparent = picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info
    if picture.mode in ("1", "P", "PA") or "transparency" in picture.info:
        picture = picture.convert("RGBA" if transparent else "RGB")
    short = min(picture.size)
    left, top = ((side - short) // 2 for side in picture.size)
    factor = max(1, short // enough) if short > 2048 else 1
    picture = picture.reduce(factor, (left, top, left + short, top + short))
    if transparent:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert("RGB")


def resize(image: Tensor, size: int) -> Tensor:
    """A square picture, uint8 `[3, S, S]`, with `size` pixels a side (anti-aliased bicubic)."""
    resized = F.interpolate(image[None].float(), [size, size], mode="bicubic", antialias=True)
    return resized[0].round().clamp(0, 255).to(torch.uint8)


def decode_images(encoded: list[bytes], where: str, size: int | None = None) -> Tensor:
    """Picture files -> uint8 `[N, 3, size, size]` (default: as the first picture).

    Strict: raises ValueError naming the row that cannot be read.
    """
    images = []
    for row, content in enumerate(encoded):
        images.append(attempt(decode_picture, content, size))
        if isinstance(images[-1], Exception):
            raise ValueError(f"{where}: the image in row {row} cannot be read ({images[-1]}); mend or remove it")
        size = size or len(images[0][0])
    return torch.stack(images)


def clean_caption(text: object) -> str:
    """A caption as every reader of strangers' files gives it; "" if nothing is left.

    Control characters go out, white space becomes single blanks, lone surrogates become U+FFFD, and what is longer
    than MAX_CAPTION is cut without a word (a text tower reads far less). Joiners and marks of direction stay.
    """
    if not isinstance(text, str):
        return ""
    text = " ".join(text.translate(CONTROLS).split())[:MAX_CAPTION].rstrip()
    if not text.isascii():
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text if any(category(character) not in ("Cf", "Zs") for character in text) else ""


def clean_captions(said: object) -> list[str]:
    """One caption or a list of them, cleaned; what is empty or no text is left out."""
    texts = [clean_caption(text) for text in (said if isinstance(said, list) else [said])]
    return [text for text in texts if text]


def attempt(read: Callable, *args: object) -> object:
    """What `read(*args)` returns, or the exception it raises (files of strangers raise many kinds)."""
    try:
        return read(*args)
    except Exception as error:
        return error


def collect(rows: Iterable[tuple[str, object]], where: str, size: int | None = None) -> dict:
    """The columns of `rows`, which are (name, (picture file, caption or captions, label)) or (name, exception).

    A picture that cannot be read and captions of which none says anything are left out; an empty one beside others
    only is no loss. One picture is decoded at a time, and all get the size of the first one (see `decode_picture`).
    Raises ValueError when more than 1 % (and more than HANDFUL) were left out, or nothing is left.
    """
    kept, skipped = [], []
    for name, row in rows:
        if not isinstance(row, Exception):
            content, said, label = row
            texts = clean_captions(said)
            row = attempt(decode_picture, content, size) if texts else ValueError("the caption is empty or no text")
        if isinstance(row, Exception):
            reason = f"{name[:150]}: {str(row)[:250] or type(row).__name__}"
            skipped.append("".join(c if c.isprintable() else "?" for c in reason))
            if len(skipped) > 10_000 and len(skipped) > len(kept):
                break  # a wrong file of a million lines need not be read to its end
            continue
        size = size or len(row[0])
        kept.append((row, texts, label, name))
    if not kept or len(skipped) > max(HANDFUL, (len(kept) + len(skipped)) / 100):
        raise ValueError(f"{where}: only {len(kept):,} pairs could be read. {skip_report(skipped)}")
    images, captions, labels, names = map(list, zip(*kept))
    # The same first caption is the same thing said: such pictures are false negatives of one another.
    first = {text: i for i, text in enumerate(dict.fromkeys(texts[0] for texts in captions))}
    return {
        "images": torch.stack(images),
        "captions": captions,
        "labels": labels,
        "class_names": [],
        "groups": [first[texts[0]] for texts in captions],
        "metadata": {"source": names},
        "skipped": skipped,
    }


def skip_report(skipped: list[str]) -> str:
    """How many rows were left out, and the first of them by name."""
    more = [f"and {len(skipped) - NAMED:,} more"] if len(skipped) > NAMED else []
    return "\n  ".join([f"{len(skipped):,} rows were skipped:", *skipped[:NAMED], *more])


def read_parquet(files: list[Path]) -> dict[str, list]:
    """All rows of the parquet files as columns, in file-name order."""
    import pyarrow.parquet as pq

    tables = [as_parquet(file, pq.read_table, file) for file in files]
    return {name: [x for table in tables for x in table[name].to_pylist()] for name in tables[0].column_names}


def as_parquet(file: Path, read: Callable, *args: object) -> object:
    """What `read(*args)` returns. Raises ValueError if `file` is not parquet."""
    result = attempt(read, *args)
    if isinstance(result, Exception):
        raise ValueError(f"{file} cannot be read as parquet ({result}); fetch or build it again")
    return result


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


def files_of_split(path: Path, split: str, files: list[Path], by_name: bool = True) -> list[Path]:
    """Those of `files` (in the folder `path`, or `path` itself) that belong to a split.

    They lie in a folder of its name, or, `by_name`, begin with it (`train-00000-of-00001.parquet`). Where nothing is
    called like one of SPLITS, everything is `train`. Raises FileNotFoundError naming the splits that are there.
    """

    def belongs(file: Path, name: str) -> bool:
        begins = by_name and re.match(rf"{re.escape(name)}([-_.]|$)", file.name)
        return bool(begins) or name in file.relative_to(path).parts[:-1]

    found = [name for name in SPLITS if any(belongs(file, name) for file in files)] or ["train"]
    chosen = [file for file in files if belongs(file, split)]
    if not chosen and split == "train" and (found == ["train"] or path.is_file()):
        chosen = files
    if not chosen:
        raise FileNotFoundError(f"{path} holds no files of a split {split!r}; splits found: {found}")
    return chosen


def load_parquet(path: str | Path, files: list[Path], image_size: int | None = None) -> dict:
    """Parquet files in the hub's layout: an image column and a label or caption column.

    Class names come from the hub's metadata in the file; a label `cat` becomes the caption `a photo of a cat`.
    """
    import pyarrow.parquet as pq

    schema = as_parquet(files[0], pq.read_schema, files[0])
    needed = (IMAGE_COLUMNS, CAPTION_COLUMNS, LABEL_COLUMNS)
    image, caption, label = (next((c for c in names if c in schema.names), "") for names in needed)
    if not image or not (caption or label):
        raise ValueError(
            f"{files[0]} has columns {sorted(schema.names)[:50]}; it needs an image column {IMAGE_COLUMNS} and a "
            f"column of captions {CAPTION_COLUMNS} or labels {LABEL_COLUMNS}"
        )
    known = parquet_class_names(schema.metadata or {}, label)
    class_names = known or [str(i) for i in range(MAX_CLASSES)]

    def cells(batch, i: int) -> tuple[object, object, int]:
        content, said, number = (batch[name][i].as_py() if name else None for name in (image, caption, label))
        content = content.get("bytes") if isinstance(content, dict) else content
        number = number if isinstance(number, int) and 0 <= number < len(class_names) else -1
        if not caption and number < 0:
            raise ValueError(f"its {label} is none of the {len(class_names):,} classes")
        return content, said if caption else f"a photo of a {class_names[number]}", number

    def rows() -> Iterator[tuple[str, object]]:
        for file in files:
            batches = as_parquet(file, lambda: pq.ParquetFile(file).iter_batches(16, columns=wanted))  # noqa: B023
            row = 0
            while (batch := as_parquet(file, next, batches, None)) is not None:
                for i in range(len(batch)):
                    yield f"{file.name} row {row + i}", attempt(cells, batch, i)
                row += len(batch)

    wanted = [name for name in (image, caption, label) if name]
    pairs = collect(rows(), str(path), image_size)
    return {**pairs, "class_names": known or class_names[: max(pairs["labels"]) + 1]}


def parquet_class_names(metadata: dict[bytes, bytes], label_column: str) -> list[str]:
    """Class names from the note that `datasets` leaves in a parquet file; empty where there is none."""
    try:
        feature = json.loads(metadata[b"huggingface"])["info"]["features"][label_column]
        return [clean_caption(name.replace("_", " ")) or "?" for name in feature["names"]]
    except Exception:  # no note, or one of another form
        return []
