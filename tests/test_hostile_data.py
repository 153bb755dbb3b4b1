"""Pictures, captions and files of strangers: nothing crashes, nothing is read outside, all that is skipped is named."""

import csv
import gzip
import io
import json
import os
import random
import resource
import struct
import subprocess
import sys
import tarfile
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import images_column, png, write_parquet
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from minclip import own_data, sources
from minclip.data import load_pairs
from minclip.sources import MAX_CAPTION, clean_caption, decode_picture
from minclip.tokenizer import END_ID, Tokenizer

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "soak"))
import fuzz  # noqa: E402

few = settings(
    max_examples=40, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip


def encode(picture: Image.Image, form: str = "PNG", **options) -> bytes:
    out = io.BytesIO()
    picture.save(out, form, **options)
    return out.getvalue()


def ramp() -> np.ndarray:
    """Values 0..255 along 16 x 16 pixels."""
    return np.arange(256, dtype=np.uint8).reshape(16, 16)


def quiet(path, split="train"):
    """What `load_pairs` gives, without its warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load_pairs(path, split)


# Pictures


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(side: int) -> bytes:
    """A PNG of a few kB that says it has side x side pixels."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(10**6), 9)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [50_000, 10_001])
@pytest.mark.parametrize("limit", [Image.MAX_IMAGE_PIXELS, None])  # other libraries set it to None
def test_a_bomb_is_refused_by_its_header(side, limit, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(Exception, match="pixels"):
        decode_picture(bomb(side))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB
    assert Image.MAX_IMAGE_PIXELS == limit


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "begins with b''"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no picture .*<svg"),
        (b"<!DOCTYPE html><html>404</html>", "no picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n", "no picture"),  # Pillow would start Ghostscript
        (None, "NoneType"),
        ("a.png", "str"),
        (encode(Image.new("RGB", (1, 1))), "1 x 1 pixels"),
        (encode(Image.new("F", (16, 16)), "TIFF"), "not whole numbers of 16 bits"),
    ],
)
def test_what_is_no_picture_is_refused_with_a_reason(content, words):
    with pytest.raises(ValueError, match=words):
        decode_picture(content)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_a_truncated_picture_is_an_error_not_a_gray_one(form):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    content = encode(noise, form)
    assert decode_picture(content).shape == (3, 64, 64)
    for share in (0.2, 0.5, 0.8):
        with pytest.raises(Exception, match="."):
            decode_picture(content[: int(len(content) * share)])


def test_the_content_decides_not_the_name(tmp_path):
    (tmp_path / "a.jpg").write_bytes(png(0))
    (tmp_path / "a.txt").write_text("a png by another name")
    assert torch.equal(load_pairs(tmp_path).images[0], decode_picture(png(0)))


def test_sixteen_bits_are_scaled_not_clipped():
    deep = ramp().astype(np.uint16) * 257
    for form in ("PNG", "TIFF"):
        assert (decode_picture(encode(Image.fromarray(deep), form)).numpy() == ramp()).all()
    rgb = b"".join(b"\0" + row.repeat(3, 1).astype(">u2").tobytes() for row in deep[..., None])  # Pillow writes none
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 16, 16, 16, 2, 0, 0, 0))
    content = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rgb)) + chunk(b"IEND", b"")
    assert (decode_picture(content).numpy() == ramp()).all()


def test_other_modes_become_rgb():
    half = Image.new("1", (16, 16))
    half.paste(1, (0, 0, 8, 16))
    pixels = decode_picture(encode(half))
    assert pixels[:, :, :8].eq(255).all() and pixels[:, :, 8:].eq(0).all()
    cmyk = decode_picture(encode(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG"))
    assert cmyk[0].min() > 240 and cmyk[1:].max() < 15  # no cyan, all magenta and yellow: red
    palette = Image.new("P", (16, 16), 1)
    palette.putpalette([0, 0, 0, 200, 10, 20])
    palette.paste(0, (0, 0, 8, 16))
    pixels = decode_picture(encode(palette, transparency=0))
    assert pixels[:, :, :8].eq(255).all() and pixels[:, 0, 15].tolist() == [200, 10, 20]
    assert decode_picture(encode(Image.new("LA", (16, 16), (0, 0)))).eq(255).all()


@pytest.mark.parametrize("mode", ["1", "P", "L", "RGBA"])
def test_large_pictures_of_every_mode_are_averaged(mode):
    stripes = np.zeros((2304, 2304), dtype=np.uint8)
    stripes[:, ::3] = 255
    picture = Image.fromarray(stripes).convert(mode)
    pixels = decode_picture(encode(picture, compress_level=1), 64).float()
    assert (pixels - 85).abs().max() < 3


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP"])
def test_of_an_animation_the_first_frame_is_taken(form):
    frames = [Image.new("RGB", (16, 16), color) for color in ("red", "blue")]
    content = encode(frames[0], form, save_all=True, append_images=frames[1:], duration=100)
    assert decode_picture(content)[0].min() > 240 and decode_picture(content)[2].max() < 20


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_the_picture_as_pillow_would(form, orientation):
    from PIL import ImageOps

    picture = Image.fromarray(np.kron(np.arange(4).reshape(2, 2), np.full((16, 16), 80)).astype(np.uint8)).convert(
        "RGB"
    )
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encode(picture, form, exif=exif.tobytes(), **({"lossless": True} if form == "WEBP" else {}))
    turned = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))))
    assert np.array_equal(decode_picture(content).permute(1, 2, 0).numpy(), turned)
    assert np.array_equal(turned, np.asarray(picture)) == (orientation == 1) or form == "JPEG"


def test_bad_or_gigantic_metadata_does_not_cost_the_picture():
    red = Image.new("RGB", (16, 16), "red")
    plain = encode(red, "JPEG")
    for form in ("PNG", "WEBP"):  # in a JPEG Pillow passes over it
        for note in (b"Exif\0\0no exif at all", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"):
            assert torch.equal(decode_picture(encode(red, form, exif=note)), decode_picture(encode(red, form)))
    long = plain[:2] + (b"\xff\xe1\xff\xff" + bytes(65_533)) * 200 + plain[2:]  # 13 MB in front of the picture
    assert torch.equal(decode_picture(long), decode_picture(plain))
    head = png(0)
    text = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(50_000_000), 9))  # 50 kB that become 50 MB
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(Exception, match="."):
        decode_picture(head[:33] + text + head[33:])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


def test_a_file_too_large_for_a_picture_is_refused(monkeypatch):
    monkeypatch.setattr(sources, "MAX_BYTES", 100)
    with pytest.raises(ValueError, match="at most 100 bytes was expected, got [0-9]+"):
        decode_picture(png(0))


def test_large_pictures_and_long_strips_are_reduced_before_they_are_resized():
    """In a process of its own, for the peak of its memory: 16 megapixels as float alone would be 200 MB."""
    code = """if True:
        import io, resource
        from PIL import Image
        from minclip.sources import decode_picture
        def encode(size):
            out = io.BytesIO()
            Image.new("RGB", size, (10, 20, 30)).save(out, "png", compress_level=1)
            return out.getvalue()
        files = [encode(size) for size in ((4000, 4000), (8, 2_000_000), (2_000_000, 8))]
        decode_picture(encode((64, 64)), 32)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for content in files:
            pixels = decode_picture(content, 256)
            assert pixels.shape == (3, 256, 256) and pixels[:, 9, 9].tolist() == [10, 20, 30]
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1000)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert int(done.stdout or 1e9) < 100, done.stdout + done.stderr


# Captions


@pytest.mark.parametrize(
    "text, clean",
    [
        ("a cat", "a cat"),
        ("  a\tcat\r\n on a  mat ", "a cat on a mat"),
        ("a\0 c\x07a\x1bt\x9f", "a cat"),
        ("a \ud800 b", "a \ufffd b"),
        ("\ud83d\ude00", "\U0001f600"),  # two halves of one
        ("\U0001f469\u200d\U0001f467", "\U0001f469\u200d\U0001f467"),  # a joined emoji stays joined
        ("\u202bשלום\u202c \u200fabc", "\u202bשלום\u202c \u200fabc"),
        ("é", "é"), ("e\u0301", "e\u0301"),  # NFC is the tokenizer's
        ("", ""), (" \n\t\u3000\xa0", ""), ("\0\0", ""), ("\u200f\u200d\ufeff", ""),
        (None, ""), (3, ""), (b"bytes", ""), ([], ""), (float("nan"), ""),
        ("a" * 10**6, "a" * MAX_CAPTION),
        (" " * 10**6 + "b", "b"),
    ],
)  # fmt: skip
def test_captions_are_cleaned(text, clean):
    assert clean_caption(text) == clean


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(["a cat on a mat", "Äpfel", "猫"], 300)


# Own data: the four layouts


ROWS = [("0.png", "a cat"), ("sub/1.png", 'a "red" dog, sitting'), ("2.png", "ein Äpfelchen 猫")]


@pytest.fixture
def folder(tmp_path):
    """Three pictures in a folder; beside the folder lies what must never be read."""
    inside = tmp_path / "data"
    (inside / "sub").mkdir(parents=True)
    for i, (name, _) in enumerate(ROWS):
        (inside / name).write_bytes(png(i))
    (tmp_path / "secret.png").write_bytes(png(99))
    (tmp_path / "secret.txt").write_text("a secret")
    return inside


def write_csv(path, rows, delimiter=",", encoding="utf-8", header=("file_name", "caption")):
    with open(path, "w", newline="", encoding=encoding) as file:
        csv.writer(file, delimiter=delimiter).writerows([header, *rows])


def write_jsonl(path, rows, encoding="utf-8"):
    path.write_text("".join(json.dumps({"file_name": n, "text": t}) + "\n" for n, t in rows), encoding=encoding)


def tar_bytes(members, form=tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(None, "w", out, format=form) as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(content), 1.5 if form == tarfile.PAX_FORMAT else 0
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


def open_end(content: bytes) -> bytes:
    """A tar file without its final blocks of zeros."""
    return content[: -(-len(content.rstrip(b"\0")) // 512) * 512]


def samples(n: int = 3, key: str = "key{}") -> list[tuple[str, bytes]]:
    return [
        m
        for i in range(n)
        for m in ((f"{key.format(i)}.png", png(i)), (f"{key.format(i)}.txt", f"picture {i}".encode()))
    ]


def said(pairs) -> list[str]:
    return [texts[0] for texts in pairs.captions]


@pytest.mark.parametrize(
    "write",
    [
        lambda folder: write_csv(folder / "captions.csv", ROWS),
        lambda folder: write_csv(folder / "metadata.csv", ROWS, ";", "utf-8-sig", ("Image", " Caption ")),
        lambda folder: write_csv(folder / "captions.tsv", ROWS, "\t", "utf-16"),
        lambda folder: write_csv(folder / "train.csv", ROWS, header=("path", "title")),
        lambda folder: write_jsonl(folder / "metadata.jsonl", ROWS),
        lambda folder: write_jsonl(folder / "metadata.jsonl", ROWS, "utf-16"),
        lambda folder: [(folder / n).with_suffix(".txt").write_text(t, encoding="utf-8") for n, t in sorted(ROWS)],
    ],
    ids=["csv", "excel", "tsv", "train.csv", "jsonl", "jsonl16", "txt"],
)
def test_pictures_with_captions_are_read_from_every_layout(folder, write):
    write(folder)
    pairs = load_pairs(folder)
    assert not pairs.skipped
    loaded = {caption: image for caption, image in zip(said(pairs), pairs.images)}
    assert loaded.keys() == {text for _, text in ROWS}
    assert all(torch.equal(loaded[text], decode_picture(png(i))) for i, (_, text) in enumerate(ROWS))
    with pytest.raises(FileNotFoundError, match="no files of a split 'test'"):
        load_pairs(folder, "test")
    tables = [file for file in folder.iterdir() if file.suffix in own_data.TABLES]
    for file in tables:  # the table alone says as much
        assert said(load_pairs(file)) == said(pairs)


def test_several_rows_of_a_picture_are_its_captions(folder):
    write_csv(folder / "captions.csv", [("0.png", "one"), ("2.png", "other"), ("0.png", "two")])
    assert load_pairs(folder).captions == [["one", "two"], ["other"]]
    (folder / "captions.csv").unlink()
    write_jsonl(folder / "metadata.jsonl", [("0.png", ["one", "", "two"])])
    assert load_pairs(folder).captions == [["one", "two"]]


def test_splits_are_folders_or_beginnings_of_names(folder):
    for split in ("train", "test"):
        (folder / split).mkdir()
        (folder / split / "test_tube.png").write_bytes(png(5))  # the name of a picture is no split
        (folder / split / "test_tube.txt").write_text(split)
    for png_ in [folder / name for name, _ in ROWS]:
        png_.unlink()
    assert said(load_pairs(folder)) == ["train"] and said(load_pairs(folder, "test")) == ["test"]
    (folder / "test-0.tar").write_bytes(tar_bytes(samples(1)))
    (folder / "train-0.tar").write_bytes(tar_bytes(samples(2)))
    assert len(load_pairs(folder)) == 2 and len(load_pairs(folder, "test")) == 1


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("key", ["key{}", "deep/er/{}", "d" * 90 + "/" + "k" * 80 + "{}", "äöü猫" * 5 + "{}"])
def test_shards_are_read_as_python_writes_them(tmp_path, form, key):
    (tmp_path / "00000.tar").write_bytes(tar_bytes(samples(3, key), form))
    (tmp_path / "00001.tar.gz").write_bytes(gzip.compress(tar_bytes(samples(2, key), form)))
    pairs = load_pairs(tmp_path)
    assert said(pairs) == [f"picture {i}" for i in (0, 1, 2, 0, 1)] and not pairs.skipped
    assert pairs.metadata["source"][0] == f"00000.tar: {key.format(0)}"


def test_a_shard_may_hold_json_and_what_is_not_needed(tmp_path):
    members = [
        ("a.json", b'{"Caption": "from json", "x": [1]}'),
        ("a.jpg", png(0)),
        ("a.cls", b"3"),
        ("._a.jpg", b"mac"),
    ]
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        folder = tarfile.TarInfo("sub")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    pairs = load_pairs(tmp_path / "s.tar")
    assert said(pairs) == ["from json"] and not pairs.skipped


def test_the_first_kind_counts_and_hidden_files_do_not(tmp_path):
    (tmp_path / ".cache").mkdir()
    for name in ("a.jpg", "._a.jpg", ".cache/b.jpg"):
        (tmp_path / name).write_bytes(png(0))
    (tmp_path / "a.txt").write_text("beside")
    assert said(load_pairs(tmp_path)) == ["beside"] and not load_pairs(tmp_path).skipped
    write_csv(tmp_path / "notes.csv", [("a.jpg", "in a table")])
    assert said(load_pairs(tmp_path)) == ["in a table"]
    write_csv(tmp_path / "captions.csv", [("a.jpg", "in the table named for it")])
    assert said(load_pairs(tmp_path)) == ["in the table named for it"]
    write_parquet(tmp_path / "0.parquet", {"image": images_column(1), "text": ["in parquet"]})
    assert said(load_pairs(tmp_path)) == ["in parquet"]
    write_parquet(tmp_path / "0.parquet", {"url": ["x"], "caption": ["img2dataset writes this beside its shards"]})
    (tmp_path / "0.tar").write_bytes(tar_bytes(samples(1)))
    assert said(load_pairs(tmp_path)) == ["picture 0"]


# Nothing outside


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_tables_cannot_lead_out(folder, kind):
    (folder / "link.png").symlink_to("../secret.png")
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "out").symlink_to("..")
    os.mkfifo(folder / "pipe.png")  # to open it would wait for ever
    out = ("../secret.png", str(folder.parent / "secret.png"), "link.png", "out/secret.png", "sub/../../secret.png")
    none = (
        "missing.png",
        "pipe.png",
        "loop.png",
        "sub",
        ".",
        "0.png/x",
        "a" * 5000,
        "x\0y" if kind == "jsonl" else "x",
    )
    rows = [(name, "a trap") for name in out + none]
    write = write_csv if kind == "csv" else write_jsonl
    for i in range(len(rows) * 100):
        (folder / f"good{i}.png").write_bytes(png(0, 8))
    write(folder / f"metadata.{kind}", [(f"good{i}.png", f"good {i}") for i in range(len(rows) * 100)] + rows)
    pairs = quiet(folder)
    assert "a trap" not in said(pairs) and len(pairs.skipped) == len(rows)
    assert sum("leads out of" in text for text in pairs.skipped) == len(out)
    assert "sub/../../secret.png" in "".join(pairs.skipped)


def test_texts_cannot_lead_out(folder):
    for i in (0, 2):
        (folder / f"{i}.txt").write_text("fine")
    (folder / "sub/1.txt").symlink_to("../../secret.txt")
    (folder / "2.png").unlink()
    (folder / "2.png").symlink_to("../secret.png")
    pairs = quiet(folder)
    assert said(pairs) == ["fine"] and torch.equal(pairs.images[0], decode_picture(png(0)))
    assert len(pairs.skipped) == 2 and all("leads out of" in text for text in pairs.skipped)
    (folder / "4.txt").write_text("of no picture")
    assert any("4.txt: no picture of the same name" in text for text in quiet(folder).skipped)


@pytest.mark.parametrize("name", ["captions.csv", "train.parquet", "train.tar"])
def test_a_table_or_shard_that_is_a_link_out_is_refused(folder, name):
    (folder.parent / name).write_text("file_name,caption\n0.png,a secret\n")
    (folder / name).symlink_to(f"../{name}")
    with pytest.raises(ValueError, match="leads out of"):
        load_pairs(folder)


def test_a_snapshot_of_the_hub_may_link_into_its_blobs(tmp_path):
    blobs, snapshot = tmp_path / "datasets--me--cats/blobs", tmp_path / "datasets--me--cats/snapshots/abc"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    write_parquet(blobs / "0123", {"image": images_column(2), "text": ["a", "b"]})
    (snapshot / "train.parquet").symlink_to("../../blobs/0123")
    assert said(load_pairs(snapshot)) == ["a", "b"]


def test_links_and_devices_in_a_shard_are_named_and_nothing_is_written(tmp_path):
    out = io.BytesIO()
    with tarfile.open(None, "w", out) as tar:
        for i, kind in enumerate((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE)):
            member = tarfile.TarInfo(f"odd{i}.png")
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
            text = tarfile.TarInfo(f"odd{i}.txt")
            text.size = 1
            tar.addfile(text, io.BytesIO(b"x"))
    (tmp_path / "in").mkdir()
    hard = header("odd4.png", b"00000010000", b"1")  # says the size of what it links to; nothing follows
    (tmp_path / "in/s.tar").write_bytes(open_end(out.getvalue()) + hard + tar_bytes(samples(2, "../../out{}")))
    with pytest.warns(UserWarning, match="5 rows were skipped"):
        pairs = load_pairs(tmp_path / "in")
    assert said(pairs) == ["picture 0", "picture 1"]  # a name is only a name
    assert all("odd" in text and "is a link or a device" in text for text in pairs.skipped)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["in", "s.tar"]


# Damaged files


def header(name: str, size: bytes, kind: bytes = b"0") -> bytes:
    """A tar header whose checksum is right, whatever else is not."""
    block = bytearray(512)
    block[: len(name)], block[124 : 124 + len(size)], block[156:157] = name.encode(), size, kind
    block[148:156] = b"        "
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize(
    "tail, reason",
    [
        (b"", "it ends early"),
        (b"\1" * 512, "invalid literal"),
        (header("big.png", b"77777777777"), "it ends early"),  # 8 GB
        (header("back.png", b"-7777"), "no tar header"),  # tarfile goes back and never ends
        (header("back.png", b"\xff" * 12), "invalid literal"),
        (header("x", b"77777777777", b"x"), "a name of 8,589,934,591 bytes"),
        (header("x", b"77777777777", b"L"), "a name of 8,589,934,591 bytes"),
        (header("cut.txt", b"00000002000") + b"half", "cut.txt ends early"),
    ],
    ids=["cut", "garbage", "huge", "back", "minus", "pax", "longname", "half"],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_a_damaged_shard_gives_what_precedes_the_damage(tmp_path, tail, reason, zipped):
    content = open_end(tar_bytes(samples(3))) + tail
    (tmp_path / "s.tar").write_bytes(gzip.compress(content) if zipped else content)
    pairs = quiet(tmp_path)
    assert said(pairs) == ["picture 0", "picture 1", "picture 2"]
    assert "s.tar: the rest: the shard is damaged" in pairs.skipped[-1] and reason in pairs.skipped[-1]


def test_a_truncated_gzip_and_what_is_no_tar(tmp_path):
    noise = random.Random(0).randbytes
    members = [m for i in range(9) for m in ((f"{i}.png", png(i, 64)), (f"{i}.txt", noise(3000).hex().encode()))]
    content = gzip.compress(tar_bytes(members))
    (tmp_path / "s.tar.gz").write_bytes(content[: len(content) // 2])
    pairs = quiet(tmp_path)
    assert 0 < len(pairs) < 9 and "s.tar.gz: the rest" in pairs.skipped[-1]
    for content in (b"", b"hello", b"PK\x03\x04" + bytes(600), b"\x1f\x8b"):
        (tmp_path / "s.tar.gz").write_bytes(content)
        with pytest.raises(ValueError, match="only 0 pairs could be read.*\n.*the rest"):
            load_pairs(tmp_path)


def test_a_gzip_bomb_takes_no_memory(tmp_path):
    member = header("bomb.png", b"02000000000")  # 256 MB of zeros in 260 kB
    with gzip.open(tmp_path / "s.tar.gz", "wb") as file:
        file.write(member)
        for _ in range(128):
            file.write(bytes(2**20))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match="bomb"):
        load_pairs(tmp_path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


def test_keys_that_come_back_and_samples_without_a_half_are_named(tmp_path):
    members = samples(2) + [("key0.png", png(7)), ("key0.txt", b"again")]
    members += [("alone.png", png(0)), ("mute.txt", b"x"), ("two.png", png(0)), ("two.jpg", png(1)), ("two.txt", b"x")]
    (tmp_path / "s.tar").write_bytes(tar_bytes(members))
    pairs = quiet(tmp_path)
    assert said(pairs) == ["picture 0", "picture 1"]
    assert [text.split(": ")[1] for text in pairs.skipped] == ["key0", "alone", "mute", "two"]
    assert "was there before" in pairs.skipped[0] and "is there twice" in pairs.skipped[3]


def test_ragged_rows_and_open_quotes_are_named_line_by_line(folder):
    text = 'file_name,caption\n0.png,a cat, sitting\n0.png\n\n2.png,"fine,\nin two lines"\n'
    (folder / "captions.csv").write_text(text + '0.png,"never closed\n2.png,lost\n')
    pairs = quiet(folder)
    assert said(pairs) == ["fine, in two lines"]
    assert [text.split(":")[0] for text in pairs.skipped] == [f"captions.csv line {n}" for n in (2, 3, 7, 8)]
    assert "3 cells for 2 columns; put text with ',' in quotes" in pairs.skipped[0]


def test_huge_lines_are_skipped_without_reading_them_whole(folder, monkeypatch):
    monkeypatch.setattr(own_data, "MAX_LINE", 1000)
    (folder / "captions.csv").write_text(f"file_name,caption\n0.png,{'x' * 200_000}\n2.png,fine\n")
    with pytest.raises(
        ValueError, match="only 2 pairs could be read. 200 rows were skipped:.*\n.*cells for 2"
    ) as error:
        load_pairs(folder)
    assert "captions.csv line 3: 1 cells" in str(error.value) and "and 180 more" in str(error.value)


def test_a_wrong_file_of_many_lines_is_not_read_to_its_end(folder):
    lines = iter(["file_name,caption\n"] + ["x.png,\n"] * 30_000)
    seen = []
    rows = ((seen.append(1), ("row", ValueError("bad")))[1] for _ in lines)
    with pytest.raises(ValueError, match="10,001 rows were skipped"):
        sources.collect(rows, "here")
    assert len(seen) == 10_001


def test_a_disk_that_fails_ends_the_reading(folder):
    def lines():
        yield "file_name,caption\n"
        yield "0.png,fine\n"
        raise OSError("Input/output error")

    class Failing:  # as a file does, it fails again each time
        def __init__(self):
            self.lines = lines()

        def __iter__(self):
            return self

        def __next__(self):
            try:
                return next(self.lines)
            except StopIteration:
                raise OSError("Input/output error") from None

    records = own_data.csv_records(folder / "captions.csv", Failing(), sources.PLAIN)
    assert next(records) == (2, {"file_name": "0.png", "caption": "fine"})
    with pytest.raises(OSError, match="Input/output"):
        next(records)


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16-le"])
def test_other_encodings_are_named_not_guessed(folder, encoding):
    write_csv(folder / "captions.csv", [("0.png", "fine"), ("2.png", "Äpfel")], encoding=encoding)
    if encoding == "utf-16-le":  # without a mark the header is not understood
        with pytest.raises(ValueError, match="has columns"):
            load_pairs(folder)
        return
    pairs = quiet(folder)
    assert said(pairs) == ["fine"] and "captions.csv line 3: it is not UTF-8" in pairs.skipped[0]
    (folder / "captions.csv").unlink()
    (folder / "0.txt").write_text("Äpfel", encoding=encoding)
    (folder / "2.txt").write_text("fine")
    pairs = quiet(folder)
    assert said(pairs) == ["fine"] and any("0.png: 'utf-8' codec" in text for text in pairs.skipped)


def test_json_of_the_wrong_kind_is_named(folder):
    lines = ["[1]", "3", "null", "{", "[" * 100_000]
    good = [json.dumps({"file_name": "0.png", "text": "fine"})]
    (folder / "metadata.jsonl").write_text("\n".join(lines + good))
    pairs = quiet(folder)
    assert said(pairs) == ["fine"] and len(pairs.skipped) == 5 and "a JSON object was expected" in pairs.skipped[0]
    odd = [{"file_name": 3, "text": "a"}, {"text": "a"}, {"file_name": "2.png", "text": {}}, {"file_name": "2.png"}]
    (folder / "metadata.jsonl").write_text("\n".join([json.dumps(record) for record in odd] + good))
    pairs = quiet(folder)
    assert said(pairs) == ["fine"] and len(pairs.skipped) == 4 and "columns ['text']" in pairs.skipped[1]


@pytest.mark.parametrize("name", ["captions.csv", "captions.tsv"])
def test_missing_columns_are_listed(folder, name):
    for text in ("", "a,b\n1,2\n", "file_name\n0.png\n", "\0\0\0"):
        (folder / name).write_text(text)
        with pytest.raises(ValueError, match="has columns \\[.*it needs one that names pictures"):
            load_pairs(folder)


def test_an_empty_folder_and_another_kind_of_file_are_refused(tmp_path):
    for path in (tmp_path, tmp_path / "x.zip"):
        if path.suffix:
            path.write_bytes(b"PK")
        with pytest.raises(ValueError, match="holds no .tar"):
            load_pairs(path)


def test_parquet_of_the_wrong_kind_is_named(tmp_path):
    file = tmp_path / "train.parquet"
    write_parquet(file, {"image": ["a.png", "b.png"], "text": ["a", "b"]})
    with pytest.raises(ValueError, match="only 0 pairs.*\n.*row 0: a file .* got str"):
        load_pairs(tmp_path)
    write_parquet(file, {"image": images_column(2), "text": [1.5, 2.5]})
    with pytest.raises(ValueError, match="caption is empty or no text"):
        load_pairs(tmp_path)
    write_parquet(file, {"image": [*images_column(2), None, {"bytes": None, "path": "x.png"}], "text": list("abcd")})
    assert said(quiet(tmp_path)) == ["a", "b"]
    content = file.read_bytes()
    for damaged in (content[:4] + bytes(60) + content[64:], content[:-20], content[:50] + content[90:]):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match="train.parquet cannot be read"):
            load_pairs(tmp_path)


# The limit, the report, and a training


def many(folder: Path, good: int, bad: int) -> None:
    folder.mkdir(exist_ok=True)
    images = [*images_column(good, 8), *[{"bytes": b"<html>", "path": None}] * bad]
    write_parquet(folder / "train.parquet", {"image": images, "text": [f"thing {i}" for i in range(good + bad)]})


@pytest.mark.parametrize(
    "good, bad, loads", [(5, 5, True), (5, 6, False), (990, 10, True), (989, 11, False), (0, 1, False)]
)
def test_more_than_one_percent_and_a_handful_is_refused_with_the_list(tmp_path, good, bad, loads):
    many(tmp_path, good, bad)
    if loads:
        with pytest.warns(UserWarning, match=f"{bad} rows were skipped"):
            pairs = load_pairs(tmp_path)
        assert len(pairs) == good and len(pairs.skipped) == bad
        assert pairs.skipped[-1].startswith(f"train.parquet row {good + bad - 1}: it is no picture")
    else:
        with pytest.raises(
            ValueError, match=f"only {good} pairs could be read. {bad} rows were skipped:\n  train.parquet"
        ):
            load_pairs(tmp_path)


def test_the_report_names_twenty_and_counts_all():
    report = sources.skip_report([f"row {i}" for i in range(1234)])
    assert "1,234 rows were skipped" in report and "row 19" in report and "row 20\n" not in report
    assert report.endswith("and 1,214 more") and len(report.splitlines()) == 22


def test_a_report_cannot_steer_the_terminal(folder):
    write_jsonl(folder / "metadata.jsonl", [("0.png", "fine"), ("\x1b[2J\ud800\u202e" + "x" * 10**6, "a")])
    (name,) = quiet(folder).skipped
    assert name.isprintable() and len(name) < 450


def test_a_training_on_a_folder_with_bad_rows_runs_and_reports_them(tmp_path):
    many(tmp_path / "data", 594, 6)
    command = (
        f"-m minclip.train --data {tmp_path / 'data'} --output_dir {tmp_path / 'run'} --max_steps 3 --batch_size 16"
    )
    done = subprocess.run([sys.executable, *command.split()], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "6 rows were skipped" in done.stderr and "train.parquet row 599: it is no picture" in done.stderr
    assert (tmp_path / "run/metrics.json").exists()


# Any bytes


@few
@given(st.binary(max_size=300))
def test_any_bytes_as_a_picture(content):
    result = sources.attempt(decode_picture, content)
    assert isinstance(result, ValueError)


@few
@given(st.sampled_from(range(20)), st.integers(0, 2**32))
def test_pictures_with_changed_bytes(which, seed):
    files = fuzz.pictures()
    rng = random.Random(seed)
    result = sources.attempt(decode_picture, fuzz.damage(files[which * len(files) // 20], rng), 16)
    assert isinstance(result, Exception) or result.shape == (3, 16, 16)


@few
@given(st.text(st.characters(exclude_categories=()), max_size=200))
def test_any_text_as_a_caption(tokenizer, text):
    clean = clean_caption(text)
    assert clean == clean_caption(clean)  # once is enough
    if clean:
        clean.encode("utf-8")
        ids = tokenizer([clean], 16)
        assert ids.shape == (1, 16) and (ids == END_ID).any()


def any_file(folder, name: str, content: bytes) -> None:
    """Pairs, or an error of a kind that `load_pairs` promises."""
    (folder / name).write_bytes(content)
    try:
        pairs = quiet(folder)
    except (ValueError, FileNotFoundError):
        return
    assert len(pairs) > 0 and "a secret" not in said(pairs)


@few
@given(st.binary(max_size=200), st.sampled_from([b"", b"file_name,caption\n", b"file_name\tcaption\n", b"\xff\xfe"]))
def test_any_bytes_as_a_csv_file(folder, content, begin):
    any_file(folder, "captions.csv", begin + content)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=20) | st.sampled_from(["0.png", "../secret.png"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["file_name", "text", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@few
@given(st.lists(json_values | st.binary(max_size=30), max_size=6))
def test_any_json_lines(folder, values):
    lines = [value if isinstance(value, bytes) else json.dumps(value).encode() for value in values]
    any_file(folder, "metadata.jsonl", b"\n".join([*lines, b'{"file_name": "0.png", "text": "fine"}']))


@few
@given(st.binary(max_size=1500), st.booleans())
def test_any_bytes_as_a_shard(folder, content, zipped):
    content = tar_bytes(samples(1))[:2048] + content
    any_file(folder, "s.tar", gzip.compress(content) if zipped else content)


@pytest.mark.parametrize("kind", fuzz.KINDS)
def test_a_few_of_the_long_run(kind):
    counts = fuzz.run_kind(kind, seed=0, count=25, seconds=0)
    assert counts["crashed"] == 0, counts["crashes"]
    assert counts["loaded"] + counts["skipped"] > 0 and counts["loaded"] < 25
