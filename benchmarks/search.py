"""Indexing a folder of pictures against the image tower alone, and how long a query takes.

    python benchmarks/search.py             # about six minutes on two cores; writes results/bench_search.json

10,000 picture files are made from the embedded emoji: WebP of 64 pixels as they are stored, PNG of 128, JPEG of 256,
and 1 % as large as photographs (1600 x 1200, JPEG). Two things take turns: `minclip.search.index_folder` into a fresh
index, and the image tower on the same pictures as ready tensors. The ratio of the two is what reading, decoding and
keeping the index add; medians over the repetitions. The query is timed afterwards: text tower and ranking, without
the contact sheet. A tower as large as CLIP's ViT-B/32 gets fewer of the pictures, since each takes it far longer.
"""

import argparse
import io
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from common import machine
from PIL import Image

from minclip.checkpoint import write_json
from minclip.clip import CLIP, CLIPConfig, build_clip
from minclip.retrieval import nearest
from minclip.search import embed_queries, index_folder
from minclip.sources import EMOJI_DIR, decode_picture, read_parquet
from minclip.tokenizer import Tokenizer
from minclip.zero_shot import embed_images

VIT_B_32 = CLIPConfig(
    "vit", image_size=224, patch_size=32, image_width=768, image_layers=(12,), heads=8, image_pool="cls",
    text_width=512, text_layers=12, context_length=77, vocab_size=4096, embed_dim=512,
)  # fmt: skip
MODELS = {"demo": (CLIPConfig(), 1), "vit_b_32": (VIT_B_32, 25)}  # shape, and how many times fewer pictures it gets
QUERIES = ("red heart", "a smiling cat", "penguin", "a drawing of a traffic light", "snow on a mountain at night")


def make_folder(folder: Path, count: int) -> None:
    """`count` picture files, in subfolders of 1,000, of the kinds above in fixed shares."""
    rows = read_parquet([EMOJI_DIR / "train.parquet"])["image"]
    for i in range(count):
        content, place = rows[i % len(rows)]["bytes"], folder / f"{i // 1000:03d}"
        place.mkdir(parents=True, exist_ok=True)
        kind, size = ("webp", 64) if i % 10 < 4 else ("png", 128) if i % 10 < 7 else ("jpeg", 256)
        if kind != "webp":
            picture = Image.open(io.BytesIO(content)).convert("RGB").resize((size, size))
            picture = picture.resize((1600, 1200)) if i % 100 == 99 else picture
            out = io.BytesIO()
            picture.save(out, kind)
            content = out.getvalue()
        (place / f"{i:05d}.{kind}").write_bytes(content)


def ready(folder: Path, size: int) -> torch.Tensor:
    """All pictures of the folder, decoded: uint8 `[N, 3, size, size]`."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return torch.stack([decode_picture(file.read_bytes(), size) for file in files])


def seconds(function, *arguments) -> float:
    """How long one call takes."""
    began = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - began


def measure(model: CLIP, tokenizer: Tokenizer, folder: Path, repetitions: int) -> dict:
    """Tower and indexing in turns, then queries one by one."""
    size = model.config.image_size
    pictures, alone, indexed = ready(folder, size), [], []
    embed_images(model, pictures[:256], size, 64)  # warm up
    for _ in range(repetitions):
        alone.append(seconds(embed_images, model, pictures, size, 64))
        with tempfile.TemporaryDirectory() as cache:
            indexed.append(seconds(index_folder, model, folder, cache))
            _, gallery = index_folder(model, folder, cache)
    query = [
        1000 * seconds(lambda text=text: nearest(embed_queries(model, tokenizer, [text]), gallery, 10))
        for text in QUERIES * 5
    ]
    return {
        "pictures": len(pictures), "image_size": size, "parameters": sum(p.numel() for p in model.parameters()),
        "tower_seconds": alone, "index_seconds": indexed,
        "tower_images_per_second": len(pictures) / statistics.median(alone),
        "index_images_per_second": len(pictures) / statistics.median(indexed),
        "ratio": statistics.median(b / a for a, b in zip(alone, indexed)),
        "query_ms_median": statistics.median(query), "query_ms_max": max(query[1:]), "query_ms_first": query[0],
    }  # fmt: skip


def main(flags: list[str]) -> dict:
    """Make the folders, measure, write the file; returns its content."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000, help="pictures (default: 10,000)")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--output", default=str(Path(__file__).parents[1] / "results" / "bench_search.json"))
    args = parser.parse_args(flags)
    result = {**machine("cpu", __file__, flags), "repetitions": args.repetitions, "models": {}}
    captions = read_parquet([EMOJI_DIR / "names.parquet"])["en"]
    for name in args.models:
        config, fewer = MODELS[name]
        torch.manual_seed(0)
        model = build_clip(config).eval()
        tokenizer = Tokenizer.train(captions, config.vocab_size)
        with tempfile.TemporaryDirectory() as folder:
            make_folder(Path(folder), args.count // fewer)
            row = result["models"][name] = measure(model, tokenizer, Path(folder), args.repetitions)
        print(
            f"{name}: tower alone {row['tower_images_per_second']:,.0f} images/s, indexing a folder "
            f"{row['index_images_per_second']:,.0f}: {row['ratio']:.2f} times the tower's seconds; "
            f"a query takes {row['query_ms_median']:.1f} ms (at most {row['query_ms_max']:.1f})"
        )
    write_json(args.output, result)
    return result


if __name__ == "__main__":
    main(sys.argv[1:])
