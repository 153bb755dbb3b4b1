"""Feed damaged pictures, captions, tables, shards and parquet files to the loaders, as a stranger might.

    python soak/fuzz.py --minutes 5 --seed 0 --output results/soak_fuzz.json
    python soak/fuzz.py --count 20                                              # the quick form

Each kind runs in a process of its own, so that one that dies (a fault in a library's C code) is counted and named too.
Inputs are whole files of that kind, damaged in one to a few places: bits are flipped, parts cut, doubled, moved or
overwritten, and words put in that have hurt others (`../`, NUL, huge numbers, quotes, brackets). Outcomes:

    loaded    all of it became pairs
    skipped   some of it did, and the loader named what it left out
    refused   ValueError or FileNotFoundError
    crashed   any other error, a dead process, more than SECONDS for one input, or a file read outside the folder

Exit code 1 when anything crashed or a process took more than MEMORY beyond what it had before the first input.
"""

import argparse
import csv
import gzip
import io
import json
import os
import platform
import random
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
import warnings
from collections import Counter
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from minclip.checkpoint import write_json
from minclip.data import load_pairs
from minclip.sources import MAX_CAPTION, clean_caption, decode_picture
from minclip.tokenizer import END_ID, Tokenizer

SECONDS, MEMORY = 10.0, 1024 * 2**20
SECRET = "the secret that lies outside"
ROWS = 6
WORDS = (
    b"../", b"../secret.png", b"../secret.txt", b"/etc/passwd", b"\0", b"\n", b"\r", b'"', b"'", b",", b"\t", b";",
    b"[", b"{", b"[" * 5000, b"99999999999999999999", b"-1", b"1e999", b"NaN", b"null", b"\xff\xfe", b"\xef\xbb\xbf",
    b"\\ud800", b"\x80", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"A" * 3000, b"77777777777",
    "\U0001f469\u200d\U0001f467".encode(), "\u202eabc".encode(),
)  # fmt: skip


def damage(content: bytes, rng: random.Random, times: int | None = None) -> bytes:
    """The same bytes, damaged in one to four places."""
    data = bytearray(content)
    for _ in range(times or rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(data) + 1)
        end = min(len(data), at + rng.choice((1, 2, 4, 16, 100, 512, 3000)))
        what = rng.randrange(8)
        if what == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif what == 1 and at < len(data):
            data[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif what == 2:
            data[at:at] = rng.choice(WORDS)
        elif what == 3:
            word = rng.choice(WORDS)
            data[at : at + len(word)] = word
        elif what == 4:
            del data[at:end]
        elif what == 5:
            data[at:at] = data[at:end]
        elif what == 6:
            data[at:end] = rng.randbytes(end - at)
        elif what == 7 and rng.random() < 0.5:
            del data[at:]
    return bytes(data)


@lru_cache
def pictures() -> list[bytes]:
    """Sound pictures in every format and mode that Pillow can write here, 20 x 24."""
    photo = Image.effect_noise((20, 24), 80).convert("RGB")
    made = []
    for fmt in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF"):
        for mode in ("RGB", "RGBA", "L", "LA", "1", "P", "CMYK", "I;16"):
            for extra in ({}, {"exif": exif()}, {"save_all": True, "append_images": [photo.rotate(90)] * 2}):
                out = io.BytesIO()
                try:
                    image = photo.convert("L").point(lambda v: v) if mode == "I;16" else photo
                    image.convert(mode).save(out, fmt, **extra)
                    decode_picture(out.getvalue())
                except Exception:  # this format cannot hold this mode
                    continue
                made.append(out.getvalue())
    for compression in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg"):
        out = io.BytesIO()
        photo.save(out, "TIFF", compression=compression)
        made.append(out.getvalue())
    return made


def exif() -> bytes:
    """EXIF that turns a picture."""
    note = Image.Exif()
    note[0x0112], note[0x010E] = 6, "a description"
    return note.tobytes()


@lru_cache
def pngs() -> list[bytes]:
    """Small pictures for the files of pairs."""
    made = []
    for i in range(ROWS):
        out = io.BytesIO()
        Image.new("RGB", (8, 8), (40 * i, 0, 0)).save(out, "png")
        made.append(out.getvalue())
    return made


@lru_cache
def tokenizer() -> Tokenizer:
    """A small tokenizer."""
    return Tokenizer.train(["a cat", "a dog on a boat", "Äpfel und Öl", "猫"], 300)


def fuzz_picture(rng: random.Random, folder: Path) -> str:
    """A damaged picture, or a few bytes behind the mark of a format."""
    content = rng.choice(pictures())
    content = content[: rng.choice((4, 12, 30))] + rng.randbytes(60) if rng.random() < 0.1 else damage(content, rng)
    try:
        pixels = decode_picture(content, rng.choice((None, 8, 16)))
    except (ValueError, OSError) as error:
        return "refused" if str(error) else "crashed: an error without a word"
    except Exception:  # Pillow raises many kinds; `collect` names whichever it is
        return "refused"
    return "loaded" if pixels.shape[1] == pixels.shape[2] and pixels.dtype == torch.uint8 else "crashed: wrong shape"


def fuzz_caption(rng: random.Random, folder: Path) -> str:
    """Any code points, through the cleaning and the tokenizer."""
    pick = lambda: rng.choice((rng.randrange(128), rng.randrange(0x3000), rng.randrange(0x110000), 0xD800, 0x200D))  # noqa: E731
    text = "".join(chr(pick()) for _ in range(rng.choice((0, 1, 5, 50, 500)))) * rng.choice((1, 1, 1, 500))
    clean = clean_caption(rng.choice((text, text, text, None, 3, text.encode("utf-8", "replace"))))
    if not clean:
        return "skipped"
    ids = tokenizer()([clean], 16)
    fine = ids.shape == (1, 16) and bool((ids == END_ID).any()) and len(clean) <= MAX_CAPTION
    clean.encode("utf-8")
    return "loaded" if fine else "crashed: wrong ids"


def rows(rng: random.Random) -> list[tuple[str, str]]:
    """File names and captions, some of them hostile."""
    hostile = (
        "../secret.png",
        "/etc/passwd",
        "0.png\0",
        "link.png",
        "missing.png",
        "",
        ".",
        "a" * 5000,
        "sub/../0.png",
    )
    texts = ("a cat", "", " ", "x" * 20_000, '"quoted", and\ncut', "\0", "\ud800", "👩‍👧", "\u202eabc", "ü,ß")
    return [
        (
            rng.choice(hostile) if rng.random() < 0.1 else f"{i}.png",
            rng.choice(texts) if rng.random() < 0.3 else "a dog",
        )
        for i in range(ROWS)
    ]


def load(folder: Path) -> str:
    """What `load_pairs` makes of a folder; a caption or picture from outside is a crash."""
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        try:
            pairs = load_pairs(folder)
        except (ValueError, FileNotFoundError) as error:
            leak = SECRET in str(error)
            return "crashed: a file outside was read" if leak else "refused"
    texts = [text for captions in pairs.captions for text in captions]
    if any(SECRET in text for text in texts) or (pairs.images[:, 2] == 255).flatten(1).all(1).any():
        return "crashed: a file outside was read"
    tokenizer()(texts, 16)
    return "skipped" if pairs.skipped else "loaded"


def write_pictures(folder: Path) -> None:
    """The pictures that tables name, and a link that leads out."""
    for i, content in enumerate(pngs()):
        (folder / f"{i}.png").write_bytes(content)
    (folder / "link.png").symlink_to("../secret.png")


def fuzz_csv(rng: random.Random, folder: Path) -> str:
    """A damaged CSV or TSV file."""
    out = io.StringIO()
    ending, delimiter = rng.choice(((".csv", ","), (".csv", ";"), (".tsv", "\t")))
    writer = csv.writer(out, delimiter=delimiter)
    writer.writerows([("file_name", "caption"), *rows(rng)])
    text = out.getvalue().encode(rng.choice(("utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1")), "replace")
    write_pictures(folder)
    (folder / f"captions{ending}").write_bytes(damage(text, rng) if rng.random() < 0.8 else text)
    return load(folder)


def fuzz_jsonl(rng: random.Random, folder: Path) -> str:
    """A damaged file of JSON lines, some of the wrong kind."""
    odd = (
        [],
        3,
        None,
        {"file_name": ["0.png"], "text": "a"},
        {"file_name": "0.png", "text": [1, "a", None]},
        {"text": {}},
    )
    lines = [json.dumps({"file_name": name, "text": text}) for name, text in rows(rng)]
    lines = [json.dumps(rng.choice(odd)) if rng.random() < 0.1 else line for line in lines]
    text = "\n".join(lines).encode(rng.choice(("utf-8", "utf-8", "utf-16")))
    write_pictures(folder)
    (folder / "metadata.jsonl").write_bytes(damage(text, rng) if rng.random() < 0.8 else text)
    return load(folder)


def fuzz_texts(rng: random.Random, folder: Path) -> str:
    """Pictures with a text beside each, some damaged, some links."""
    for i, (content, (_, text)) in enumerate(zip(pngs(), rows(rng))):
        text = text.encode("utf-8", "replace")
        (folder / f"{i}.png").write_bytes(damage(content, rng) if rng.random() < 0.2 else content)
        (folder / f"{i}.txt").write_bytes(damage(text, rng) if rng.random() < 0.2 else text)
    for name in ("secret.txt", "secret.png"):
        if rng.random() < 0.3:
            place = folder / f"{rng.randrange(ROWS)}{name[-4:]}"
            place.unlink()
            place.symlink_to(f"../{name}")
    return load(folder)


def fuzz_tar(rng: random.Random, folder: Path) -> str:
    """A damaged shard, gzipped or not, with links, devices and names that lead out."""
    out = io.BytesIO()
    form = rng.choice((tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT))
    with tarfile.open(None, "w", out, format=form, encoding="utf-8", errors="surrogateescape") as tar:
        for i, content in enumerate(pngs()):
            odd = ("../secret", "/etc/passwd", "0", f"{'ä' * 30}{i}", f"{'d' * 60}/{'k' * 80}{i}")
            key = rng.choice(odd) if rng.random() < 0.2 else f"a/{i}"
            for ending, data in (("png", content), ("txt", b"a cat"), ("json", b'{"caption": "a dog"}')):
                member = tarfile.TarInfo(f"{key}.{ending}")
                member.size, member.mtime = len(data), rng.choice((0, 1.5))
                if rng.random() < 0.03:
                    member.type, member.linkname = rng.choice((b"1", b"2", b"3", b"6", b"S")), "../secret.png"
                    member.size = 0
                if rng.random() < 0.97:
                    tar.addfile(member, io.BytesIO(data))
    content = out.getvalue()
    content = damage(content, rng) if rng.random() < 0.8 else content
    zipped = rng.random() < 0.3
    content = gzip.compress(content) if zipped else content
    content = damage(content, rng) if zipped and rng.random() < 0.5 else content
    (folder / f"shard.tar{'.gz' if zipped else ''}").write_bytes(content)
    return load(folder)


def fuzz_parquet(rng: random.Random, folder: Path) -> str:
    """A damaged parquet file, some with columns of the wrong type."""
    images = [{"bytes": content, "path": None} for content in pngs()]
    texts = [text.encode("utf-8", "replace").decode() for _, text in rows(rng)]
    column = rng.choice((images, images, images, pngs(), ["0.png"] * ROWS, [1] * ROWS, [None] * ROWS))
    said = rng.choice((texts, texts, [[text, "b"] for text in texts], [b"\xff\xfe"] * ROWS, [1.5] * ROWS))
    names = {"_type": "ClassLabel", "names": rng.choice((["a", "b"], [], [3], "x", None))}
    table = pa.table({"image": column, rng.choice(("text", "caption", "other")): said, "label": list(range(ROWS))})
    note = rng.choice((json.dumps({"info": {"features": {"label": names}}}), "[", "{}", "3"))
    out = io.BytesIO()
    pq.write_table(
        table.replace_schema_metadata({"huggingface": note}), out, compression=rng.choice(("none", "snappy"))
    )
    content = out.getvalue()
    (folder / "train.parquet").write_bytes(damage(content, rng) if rng.random() < 0.8 else content)
    return load(folder)


KINDS = {name[5:]: function for name, function in list(globals().items()) if name.startswith("fuzz_")}


def one(kind: str, seed: int, number: int) -> str:
    """The outcome of input `number`; the folder that holds it is gone afterwards."""
    rng = random.Random(f"{seed} {kind} {number}")
    with tempfile.TemporaryDirectory() as outside:
        folder = Path(outside) / "data"
        folder.mkdir()
        Image.new("RGB", (8, 8), (0, 0, 255)).save(Path(outside) / "secret.png")
        (Path(outside) / "secret.txt").write_text(SECRET)
        began = time.perf_counter()
        try:
            outcome = KINDS[kind](rng, folder)
        except Exception as error:
            outcome = f"crashed: {type(error).__name__}: {error}"[:300]
        took = time.perf_counter() - began
    return outcome if took < SECONDS else f"crashed: it took {took:.1f} s"


def run_kind(kind: str, seed: int, count: int | None, seconds: float, note: Path | None = None) -> dict:
    """Counts of outcomes, and what crashed by number. `note`: a file that says which input is being tried."""
    one(kind, seed, -1)  # imports and caches are not the inputs' memory
    pictures(), pngs(), tokenizer()
    peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # noqa: E731
    before, end, counts, crashed, number = peak(), time.time() + seconds, Counter(), [], 0
    while number < count if count else time.time() < end:
        if note:
            note.write_text(str(number))
        outcome = one(kind, seed, number)
        counts[outcome.split(":")[0]] += 1
        if outcome.startswith("crashed"):
            crashed.append(f"input {number}: {outcome}")
        number += 1
    wanted = {name: counts[name] for name in ("loaded", "skipped", "refused", "crashed")}
    return {"tried": number, **wanted, "peak_memory_mb": round((peak() - before) / 2**20, 1), "crashes": crashed[:20]}


def main() -> int:
    """Run all kinds, print a line each, write the counts."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--count", type=int, help="inputs a kind, instead of minutes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output")
    parser.add_argument("--kind", choices=KINDS, help="one kind, in this process; its counts as JSON")
    parser.add_argument("--note", type=Path, help="a file in which --kind keeps the number of the input it tries")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.kind:
        print(json.dumps(run_kind(args.kind, args.seed, args.count, args.minutes * 60, args.note)))
        return 0
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        note = Path(folder) / "number"
        for kind in KINDS:
            command = [sys.executable, __file__, "--kind", kind, "--seed", str(args.seed), "--note", str(note)]
            command += ["--count", str(args.count)] if args.count else ["--minutes", str(args.minutes / len(KINDS))]
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            if done.returncode == 0:
                results[kind] = json.loads(done.stdout)
            else:
                number = int(note.read_text()) if note.exists() else -1
                died = f"input {number}: the process died ({done.returncode})"
                results[kind] = {"tried": number + 1, "crashed": 1, "peak_memory_mb": 0.0, "crashes": [died]}
            print(f"{kind:8}", ", ".join(f"{key} {value}" for key, value in results[kind].items()), flush=True)
    broken = [kind for kind, r in results.items() if r["crashed"] or r["peak_memory_mb"] * 2**20 > MEMORY]
    print("broken promises:", ", ".join(broken) or "none")
    if args.output:
        device = f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}"
        write_json(
            args.output,
            {"command": " ".join(["python", *sys.argv]), "seed": args.seed, "device": device, "kinds": results},
        )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
