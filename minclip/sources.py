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
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice
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
FILE_COLUMNS = ("file_name", "filename", "file", "image", "image_path", "filepath", "path")  # of tables
IMAGE_COLUMNS = ("image", "img", "jpg", "png", "webp")
LABEL_COLUMNS = ("label", "fine_label", "labels", "class")
CAPTION_COLUMNS = ("caption", "captions", "text", "txt", "title", "sentence", "sentences")

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")  # not EPS: Pillow would start Ghostscript
MAX_PIXELS, MAX_BYTES = 100_000_000, 100_000_000  # of one picture, and of its file
MIN_SIDE, MAX_SIDE = 8, 256  # below: counting pixels of web pages; above: reduced, unless the caller asks for more
MAX_CAPTION = 10_000  # characters
MAX_CLASSES = 100_000  # where a file does not name them
HANDFUL, NAMED = 5, 20  # rows that may fail in a data set of any size; rows that a message names
CONTROLS = {code: None for code in (*range(32), *range(127, 160)) if not chr(code).isspace()}
TURNS = dict(zip(range(2, 9), (0, 3, 1, 5, 4, 6, 2)))  # EXIF orientation -> Image.Transpose
# Pillow warns of damaged metadata and of sizes, which are checked here; not in a `with`, for threads share the filters.
warnings.filterwarnings("ignore", module="PIL")


@dataclass(frozen=True)
class Reading:
    """How files of one's own and data sets of the hub are read; the embedded emoji need none of it."""

    # column of the pictures (of their file names in a table); empty: IMAGE_COLUMNS (FILE_COLUMNS)
    image_column: str = ""
    # column of the captions; empty: one of CAPTION_COLUMNS, unless label_column is given
    caption_column: str = ""
    # column of the classes; empty: one of LABEL_COLUMNS
    label_column: str = ""
    # captions of a picture that has a class and no caption, {} being the class's name
    templates: tuple[str, ...] = ("a photo of a {}",)
    # do not hold all pairs in memory, but one window after the other (minclip.streaming)
    streaming: bool = False
    # rows that a window of a stream reads, over all processes
    window: int = 8192
    # how often a window is trained on before the next one: 2 halves the reading and decoding
    window_passes: int = 1
    # threads that decode pictures
    workers: int = 1

    def find(self, there: Iterable[str], where: object, pictures: Sequence[str] = IMAGE_COLUMNS) -> tuple[str, ...]:
        """The columns of (pictures, captions, labels) among those that are `there`; "" for captions or for labels.

        Raises ValueError, with the columns that are there, if one that is needed or asked for is missing.
        """
        asked, there = (self.image_column, self.caption_column, self.label_column), list(there)
        known = (pictures, () if self.label_column else CAPTION_COLUMNS, LABEL_COLUMNS)
        image, caption, label = (own or next((c for c in n if c in there), "") for own, n in zip(asked, known))
        if not image or not (caption or label) or not {*asked} <= {*there, ""}:
            raise ValueError(
                f"{where} has columns {[name[:40] for name in there[:50]]}; it needs one that names pictures or "
                f"holds them {pictures}, and one of captions {CAPTION_COLUMNS} or labels {LABEL_COLUMNS}; others are "
                "named by --image_column, --caption_column, --label_column"
            )
        return image, caption, label

    def row(self, names: tuple[str, ...], cells: Sequence, class_names: Sequence[str] = ()) -> tuple:
        """A row for `collect` of the cells in the columns that `find` gave: (picture, captions, label).

        A label stays a number, or is the name of the class. Raises ValueError for one that captions would need
        and that is none of `class_names` (where these are not known: no number below MAX_CLASSES).
        """
        content, said, label = cells
        content = content.get("bytes") if isinstance(content, dict) else content
        label = clean_caption(label.replace("_", " ")) if isinstance(label, str) else label
        n = len(class_names) or MAX_CLASSES
        known = label if isinstance(label, str) else isinstance(label, int) and 0 <= label < n
        if not names[1]:
            if not known:
                raise ValueError(f"its {names[2]} is none of the {n:,} classes")
            name = class_names[label] if class_names and isinstance(label, int) else str(label)
            said = [template.replace("{}", name) for template in self.templates]
        return content, said, label if known else -1


PLAIN = Reading()  # everything found by itself


@dataclass
class Source:
    """Rows for `collect`, in parts that can be read in any order: shards, files. Each part can be read again."""

    where: str
    parts: list[Callable[[], Iterator[tuple[str, object]]]]
    class_names: list[str] = field(default_factory=list)

    def rows(self) -> Iterator[tuple[str, object]]:
        """All rows, in the order of the parts."""
        return chain.from_iterable(part() for part in self.parts)


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
    if factor > 1 or picture.size != (short, short):
        picture = picture.reduce(factor, (left, top, left + short, top + short))
    if transparent:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def resize(image: Tensor, size: int) -> Tensor:
    """A square picture, uint8 `[3, S, S]`, with `size` pixels a side (anti-aliased bicubic)."""
    resized = F.interpolate(image[None].float(), [size, size], mode="bicubic", antialias=True)
    return resized[0].round().clamp(0, 255).to(torch.uint8)


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


def collect(
    rows: Iterable[tuple[str, object]], where: str, size: int | None = None, names: Sequence[str] = (), workers: int = 1
) -> dict:
    """The columns of `rows`, which are (name, (picture file, caption or captions, label)) or (name, exception).

    A picture that cannot be read and captions of which none says anything are left out; an empty one beside others
    only is no loss. All pictures get the size of the first one (see `decode_picture`); `workers` are decoded at a
    time. names: the classes' that numbers as labels mean; -1 is no label. Raises ValueError when more than 1 % (and
    more than HANDFUL) were left out, or nothing is left.
    """
    kept, skipped = [], []
    for name, row in decode_rows(iter(rows), size, workers):
        if isinstance(row, Exception):
            reason = f"{name[:150]}: {str(row)[:250] or type(row).__name__}"
            skipped.append("".join(c if c.isprintable() else "?" for c in reason))
            if len(skipped) > 10_000 and len(skipped) > len(kept):
                break  # a wrong file of a million lines need not be read to its end
            continue
        kept.append((*row, name))
    check_skipped(skipped, len(kept), where)
    images, captions, labels, sources = map(list, zip(*kept))
    # The same first caption is the same thing said: such pictures are false negatives of one another.
    first = {text: i for i, text in enumerate(dict.fromkeys(texts[0] for texts in captions))}
    number = {name: i for i, name in enumerate(sorted({label for label in labels if isinstance(label, str)}))}
    labels = [number.get(label, label) for label in labels]
    return {
        "images": torch.stack(images),
        "captions": captions,
        "labels": labels,
        "class_names": list(names) or list(number) or [str(i) for i in range(max(labels) + 1)],
        "groups": [first[texts[0]] for texts in captions],
        "metadata": {"source": sources},
        "skipped": skipped,
    }


def decode_rows(rows: Iterator[tuple[str, object]], size: int | None, workers: int) -> Iterator[tuple[str, object]]:
    """The rows of `collect` with pictures uint8 `[3, S, S]` and cleaned captions, or with what is wrong with them."""

    def decode(named: tuple[str, object]) -> tuple[str, object]:
        name, row = named
        if isinstance(row, Exception):
            return named
        content, said, label = row
        texts = clean_captions(said)
        row = attempt(decode_picture, content, size) if texts else ValueError("the caption is empty or no text")
        return name, row if isinstance(row, Exception) else (row, texts, label)

    with ThreadPoolExecutor(workers) as pool:
        while chunk := list(islice(rows, 4 * workers if size and workers > 1 else 1)):  # few: files may be large
            for name, row in (pool.map if len(chunk) > 1 else map)(decode, chunk):
                size = size or (None if isinstance(row, Exception) else len(row[0][0]))
                yield name, row


def check_skipped(skipped: list[str], n_kept: int, where: str) -> None:
    """Raise ValueError with the list if more than 1 % of the rows (and more than HANDFUL) were skipped, or all."""
    if not n_kept or len(skipped) > max(HANDFUL, (n_kept + len(skipped)) / 100):
        raise ValueError(f"{where}: only {n_kept:,} pairs could be read. {skip_report(skipped)}")


def skip_report(skipped: list[str]) -> str:
    """How many rows were left out, and the first of them by name."""
    more = [f"and {len(skipped) - NAMED:,} more"] if len(skipped) > NAMED else []
    return "\n  ".join([f"{len(skipped):,} rows were skipped:", *skipped[:NAMED], *more])


def read_parquet(files: list[Path]) -> dict[str, list]:
    """All rows of the parquet files as columns, in the order of the files."""
    import pyarrow.parquet as pq

    return pq.read_table(files).to_pydict()


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
        "images": torch.stack([decode_picture(image["bytes"], image_size) for image in rows["image"]]),
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


def open_tables(where: str, tables: dict[str, Callable], reading: Reading) -> Source:
    """The rows of data sets of the library `datasets` that have the same columns: files of parquet, shards of the hub.

    tables: name -> function that loads it. A label `cat` becomes a caption as `reading` says. Pictures must be stored
    in the files themselves: no other file or address that a row names is opened. Raises ValueError where a table
    cannot be read (on).
    """
    from datasets import Image as Picture

    first = next(iter(tables))
    features = readable(first, tables[first]).features or {}
    names = reading.find(features, where)
    wanted, labels = [name for name in names if name], getattr(features.get(names[2]), "names", None) or []
    class_names = [clean_caption(str(label).replace("_", " ")) or "?" for label in labels]

    def rows(name: str) -> Iterator[tuple[str, object]]:
        table = readable(name, lambda: tables[name]().select_columns(wanted))
        if isinstance(features[names[0]], Picture):
            table = table.cast_column(names[0], Picture(decode=False))
        records = enumerate(table)
        while (record := readable(name, next, records, None)) is not None:
            cells = [record[1].get(column) for column in names]
            yield f"{name} row {record[0]}", attempt(reading.row, names, cells, class_names)

    return Source(where, [partial(rows, name) for name in tables], class_names)


def readable(name: str, read: Callable, *args: object) -> object:
    """What `read(*args)` returns. Raises ValueError, naming the file or table that is damaged, if it fails."""
    result = attempt(read, *args)
    if isinstance(result, Exception):
        raise ValueError(f"{name} cannot be read ({result}); fetch or build it again")
    return result
