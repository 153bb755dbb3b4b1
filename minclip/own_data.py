"""One's own pictures and captions: tables, pictures with a text beside each, WebDataset shards, parquet.

Nothing outside the folder is read, whatever a file names or links to; nothing is written or extracted. A row that
cannot be used is skipped and named (`minclip.sources.collect`); a file that cannot be used at all is a ValueError.
"""

import codecs
import csv
import gzip
import json
import os
import posixpath
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import IO

from minclip import sources
from minclip.sources import CAPTION_COLUMNS, FILE_COLUMNS, MAX_BYTES, PLAIN, Reading, Source, attempt, clean_captions

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".avif")  # as files are named
SHARDS, PARQUET, TABLES = (".tar", ".tar.gz", ".tgz"), (".parquet",), (".csv", ".tsv", ".jsonl", ".ndjson")
MAX_LINE = 4_000_000  # characters of a line of a table; a longer one is read as several, which fail and are named
MAX_HEADER = 8_192  # bytes that a shard may use to give one member a long name


def open_own_data(path: str | Path, split: str = "train", reading: Reading = PLAIN) -> Source:
    """The rows of a folder or file, by what is found there.

    - WebDataset shards (`.tar`, gzipped or not): `key.jpg` with `key.txt`, or a caption in `key.json`;
    - parquet in the hub's layout;
    - tables (`captions.csv`, `metadata.jsonl` and such, or else any CSV, TSV or JSON lines): one of FILE_COLUMNS
      names pictures relative to the table, one of CAPTION_COLUMNS or LABEL_COLUMNS says something; several rows of a
      picture are captions of one pair;
    - pictures, each with its caption in a `.txt` of the same name, or all in folders named like their classes.

    The first kind that is there counts, in this order. `reading` names other columns. Splits: see
    `minclip.sources.files_of_split`. Links may not lead out of the folder (for a downloaded snapshot of the hub: out
    of its repository's folder).
    """
    path = Path(path) if Path(path).is_dir() else Path(path).resolve()
    files, root = [path], path.parent
    if path.is_dir():
        files = [Path(folder) / name for folder, _, names in os.walk(path) for name in names]
        files = sorted(f for f in files if not any(part[0] == "." for part in f.relative_to(path).parts))
        root = path.resolve()
        root = root.parents[1] if root.parent.name == "snapshots" else root
    for endings in (SHARDS, PARQUET, TABLES, (*PICTURES, ".txt")):
        if found := [file for file in files if file.name.lower().endswith(endings)]:
            break
    else:
        raise ValueError(f"{path} holds no {', '.join(SHARDS + PARQUET + TABLES)}, and no pictures with a .txt beside")
    files = sources.files_of_split(path, split, found, by_name=".txt" not in endings)
    for file in files if ".txt" not in endings else ():
        find_inside(root, file)
    if endings is PARQUET:
        from datasets import load_dataset

        load = partial(load_dataset, "parquet", split="train", streaming=True)
        return sources.open_tables(
            str(path), {file.name: partial(load, data_files=str(file)) for file in files}, reading
        )
    if endings is SHARDS:
        return Source(str(path), [partial(shard_rows, file, reading) for file in files])
    rows = table_rows if endings is TABLES else text_rows
    return Source(str(path), [partial(rows, files, root, reading)])


def find_inside(root: Path, file: Path) -> Path:
    """The file, links followed. Raises ValueError if it lies outside `root`, is missing, or is a device or a pipe."""
    real = file.resolve()
    if not real.is_relative_to(root):
        raise ValueError(f"{file} leads out of {root}; copy it into the folder")
    if not real.is_file():
        raise ValueError(f"there is no file {file}")
    return real


def read_inside(root: Path, file: Path) -> bytes:
    """The content of a file inside `root`; of one that is too large, only so much that it is refused."""
    with open(find_inside(root, file), "rb") as content:
        return content.read(MAX_BYTES + 1)


def decode_text(content: bytes) -> str:
    """Text in UTF-8, or in UTF-16 with its byte-order mark. Raises ValueError for anything else."""
    if content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return content.decode("utf-16")
    return content.decode("utf-8-sig")


def text_rows(files: list[Path], root: Path, reading: Reading) -> Iterator[tuple[str, object]]:
    """Pictures with a `.txt` of the same name, as rows for `collect`; one without the other is a row that fails.

    Where there is no `.txt` at all, the name of a picture's folder is its class, unless it is a split's.
    """

    def read(picture: Path) -> tuple:
        if described:
            return read_inside(root, picture), decode_text(read_inside(root, picture.with_suffix(".txt"))), -1
        if picture.parent.resolve() == root or picture.parent.name in sources.SPLITS:
            raise ValueError("it has neither a .txt beside it nor a folder that is named like its class")
        return reading.row(("", "", "folder"), (read_inside(root, picture), None, picture.parent.name))

    described = {file for file in files if file.suffix == ".txt"}
    for file in sorted(set(files) - described):
        yield str(file), attempt(read, file)
    for file in sorted(described - {file.with_suffix(".txt") for file in set(files) - described}):
        yield str(file), ValueError("no picture of the same name lies beside it")


def table_rows(files: list[Path], root: Path, reading: Reading) -> Iterator[tuple[str, object]]:
    """The pictures that CSV, TSV or JSON lines name, as rows for `collect`; captions of one picture come together."""

    def read(record: dict | Exception) -> tuple[str, list[str], object]:
        if isinstance(record, Exception):
            raise record
        names = lower.find(record, "it", FILE_COLUMNS)
        picture, captions, label = lower.row(names, [record.get(name) for name in names])
        captions = clean_captions(captions)
        if not isinstance(picture, str) or not captions:
            raise ValueError("no picture is named" if captions else "the caption is empty or no text")
        return picture, captions, label

    columns = ("image_column", "caption_column", "label_column")
    lower = replace(reading, **{name: getattr(reading, name).lower() for name in columns})
    for file in [f for f in files if f.stem.lower() in ("captions", "metadata")] or files:
        said: dict[str, tuple[str, list, object]] = {}
        for line, record in read_table(file, lower):  # all first: captions of one picture need not follow one another
            name, row = f"{file.name} line {line}", attempt(read, record)
            if isinstance(row, Exception):
                yield name, row
            else:
                picture, captions, label = row
                said.setdefault(picture, (f"{name} ({picture})", [], label))[1].extend(captions)
        for picture, (name, captions, label) in said.items():
            content = attempt(read_inside, root, file.parent / picture)
            yield name, content if isinstance(content, Exception) else (content, captions, label)


def pick(record: dict, names: Iterable[str]) -> object:
    """The first of the named cells that holds something."""
    return next((record[name] for name in names if record.get(name)), None)


def read_table(file: Path, reading: Reading) -> Iterator[tuple[int, dict | Exception]]:
    """(line, record) or (line, what is wrong with it), from UTF-8, or UTF-16 with a byte-order mark.

    A line in another encoding fails, since a guess would give wrong letters.
    """
    with open(file, "rb") as raw:
        utf16 = raw.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    encoding, errors = ("utf-16", "replace") if utf16 else ("utf-8-sig", "surrogateescape")
    with open(file, encoding=encoding, errors=errors, newline="") as text:
        lines = iter(lambda: text.readline(MAX_LINE), "")
        if file.suffix.lower() in (".csv", ".tsv"):
            yield from csv_records(file, lines, reading)
        else:
            yield from ((i, attempt(json_record, line)) for i, line in enumerate(lines, 1) if line.strip())


def json_record(line: str) -> dict:
    """One JSON object, its keys in lower case."""
    record = json.loads(check_utf8(line))
    if not isinstance(record, dict):
        raise ValueError(f"a JSON object was expected, got {type(record).__name__}")
    return {key.lower(): value for key, value in record.items()}


def csv_records(file: Path, lines: Iterator[str], reading: Reading) -> Iterator[tuple[int, dict | Exception]]:
    """The rows of a CSV or TSV file (comma, semicolon or tab: what its first line has most of).

    Raises ValueError, with the columns that are there, if one that is needed is missing.
    """

    def record(cells: list[str]) -> dict:
        check_utf8("".join(cells))
        if len(cells) != len(columns):
            raise ValueError(f"{len(cells)} cells for {len(columns)} columns; put text with {delimiter!r} in quotes")
        return dict(zip(columns, cells))

    header = next(lines, "")
    delimiter = max(",;\t", key=header.count)
    columns = [name.strip().strip('"').lower() for name in header.split(delimiter)]
    reading.find(columns, file, FILE_COLUMNS)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    cells: object = columns
    while cells is not None:
        begin = reader.line_num
        try:
            cells = next(reader, None)
        except csv.Error as error:  # each line counts: a quote that is never closed swallows many
            yield from ((line + 2, error) for line in range(begin, reader.line_num))
            continue
        if cells:
            yield begin + 2, attempt(record, cells)


def check_utf8(text: str) -> str:
    """The text. Raises ValueError where bytes that are not UTF-8 were read into it as lone surrogates."""
    if re.search("[\udc80-\udcff]", text):
        raise ValueError("it is not UTF-8; save the file as UTF-8")
    return text


def shard_rows(file: Path, reading: Reading) -> Iterator[tuple[str, object]]:
    """The samples of a WebDataset shard, as rows for `collect`: members in a row whose names begin alike, up to a dot.

    A key that comes back fails, and so does what follows after damage (as one row: nobody knows how many there were).
    """

    def join(members: Iterator[tuple[str, str, object]]) -> tuple[bytes, object, int]:
        parts = {}
        for _, ending, content in members:
            kind = "picture" if ending in PICTURES else ending
            if isinstance(content, Exception) or kind in parts:
                raise content if isinstance(content, Exception) else ValueError(f"its {kind} is there twice")
            parts[kind] = content
        if "picture" not in parts or not parts.keys() & {".txt", ".json"}:
            raise ValueError(f"only {sorted(parts)} follow one another; a picture and a .txt or .json are needed")
        if ".txt" in parts:
            return parts["picture"], decode_text(parts[".txt"]), -1
        return parts["picture"], pick(json_record(decode_text(parts[".json"])), names), -1

    names = [reading.caption_column.lower()] if reading.caption_column else CAPTION_COLUMNS
    seen = set()
    for key, members in groupby(read_shard(file), itemgetter(0)):
        again = ValueError("its key was there before; the files of a sample must follow one another")
        yield f"{file.name}: {key}", again if key in seen else attempt(join, members)
        seen.add(key)


def read_shard(file: Path) -> Iterator[tuple[str, str, bytes | Exception]]:
    """(key, ending, content or what is wrong) of each member of a tar file; after damage, one last fault."""
    with open(file, "rb") as raw:
        stream = gzip.GzipFile(fileobj=raw) if raw.read(2) == b"\x1f\x8b" else raw
        raw.seek(0)
        try:
            yield from read_tar(stream)
        except Exception as error:
            yield "the rest", "", ValueError(f"the shard is damaged, and what follows is lost ({error})")


def read_tar(stream: IO[bytes]) -> Iterator[tuple[str, str, bytes | Exception]]:
    """The members of a tar stream (ustar, pax or GNU) as above, read once from front to end.

    `tarfile` is not used: a header can make it take any amount of memory, or go back and never end. Raises ValueError
    at the first block that is not what it should be.
    """
    long = b""  # the name of the next member, where a header of its own gives it
    while (header := stream.read(512)) != bytes(512):  # a whole archive ends in blocks of zeros
        if len(header) < 512:
            raise ValueError("it ends early")
        prefix, name, digits, checksum = (
            header[start:end].split(b"\0")[0].strip() for start, end in ((345, 500), (0, 100), (124, 136), (148, 156))
        )
        if sum(header) - sum(header[148:156]) + 256 != int(checksum, 8) or digits[:1] == b"-":
            raise ValueError("no tar header where one should be")
        kind, size, begin = header[156:157], int(digits or b"0", 8), stream.tell()
        size = 0 if kind in b"123456" else size  # links, devices and folders have no content
        if kind in b"xL":
            if size > MAX_HEADER:
                raise ValueError(f"a name of {size:,} bytes")
            text = stream.read(size)
            found = re.search(rb" path=([^\n]*)\n" if kind == b"x" else rb"([^\0]*)", text)
            long = found[1] if found else long
        elif kind not in b"gK5":
            name = long or (prefix + b"/") * (header[257:263] == b"ustar\0" and prefix != b"") + name
            folder, name = posixpath.split(name.decode(errors="replace"))
            key, dot, ending = name.partition(".")
            ending, content, long = (dot + ending).lower(), b"", b""
            if kind not in b"0\0" or size > MAX_BYTES:
                content = ValueError(f"{name} is a link or a device, or has more than {MAX_BYTES:,} bytes ({size:,})")
            elif ending in (*PICTURES, ".txt", ".json"):
                content = stream.read(size)
                if len(content) < size:
                    raise ValueError(f"{name} ends early")
            if key:  # hidden files have none
                yield posixpath.join(folder, key), ending, content
        stream.seek(begin + size + -size % 512)
