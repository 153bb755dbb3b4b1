"""Search one's own pictures: a folder is embedded once, then asked in words or with another picture.

    python -m minclip.search --model runs/demo --images FOLDER "red heart" "a smiling cat"

The index holds the image tower's unit vectors in float32, in a cache folder of the user's. It grows by files that
are each written whole, so it may be interrupted anywhere and goes on from there. Nothing is written into the folder
of pictures, and nothing outside of it is read.
"""

import hashlib
import json
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
import tyro
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from minclip.checkpoint import DiskError, write_atomically
from minclip.clip import CLIP
from minclip.own_data import PICTURES, read_inside
from minclip.plots import Figure, plot_search, save_figure
from minclip.retrieval import nearest
from minclip.runs import run_command
from minclip.sources import attempt, decode_picture, skip_report
from minclip.tokenizer import Tokenizer
from minclip.zero_shot import embed_images, embed_texts

PART = 256  # pictures in each file of an index: so many must be embedded again after an interruption
THUMBNAIL = 128  # pixels a side, on the contact sheet


def index_folder(model: CLIP, folder: str | Path, cache: str | Path = "") -> tuple[list[Path], Tensor]:
    """The pictures of `folder` and its subfolders, and their unit vectors, float32 `[N, D]` on the CPU.

    Only what is new, or has another size or time of change than last time, is embedded; the rest is in `cache`
    (default: minclip/search in the user's cache folder). Another folder, image tower or other weights have an index
    of their own. Hidden files are ignored; pictures that cannot be read are left out and named. Raises ValueError for
    a folder that is none or has no (readable) pictures, DiskError where the cache cannot be written.
    """
    folder, root, size = Path(folder), Path(folder).resolve(), model.config.image_size
    wanted = list_pictures(folder)
    place = Path(cache or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "minclip", "search")).expanduser()
    place = place / fingerprint(model, folder)
    if isinstance(error := attempt(place.mkdir, 0o700, True, True), OSError):
        raise DiskError(f"the index {place} cannot be made ({error}); choose another place with --index")
    known = {key: row for file in place.glob("*.safetensors") for key, row in read_part(file) if key in wanted}
    missing, skipped = [key for key in wanted if key not in known], []
    parts = [missing[start : start + PART] for start in range(0, len(missing), PART)] + [[]]
    with ThreadPoolExecutor(initializer=torch.set_num_threads, initargs=(1,)) as pool:
        decode = lambda key: attempt(lambda: decode_picture(read_inside(root, wanted[key]), size))  # noqa: E731
        ahead = pool.map(decode, parts[0])
        for keys, following in zip(parts, parts[1:]):
            found, ahead = dict(zip(keys, ahead)), pool.map(decode, following)  # decoded while the tower computes
            skipped += [repr(f"{wanted[key]}: {found.pop(key)}") for key in keys if isinstance(found[key], Exception)]
            if found:
                features = embed_images(model, torch.stack(list(found.values())), size, 64).float().cpu()  # [n, D]
                write_part(place, list(found), features)
                known |= zip(found, features)
            print(f"{len(known):,} of {len(wanted):,} pictures are indexed", file=sys.stderr)
    if skipped:
        print(skip_report(skipped), file=sys.stderr)
    if not known:
        raise ValueError(f"no picture in {folder} can be read")
    files = [key for key in wanted if key in known]  # in the order of their names, whenever they were embedded
    return [wanted[key] for key in files], torch.stack([known[key] for key in files])


def list_pictures(folder: Path) -> dict[str, Path]:
    """Each picture by its ending, hidden ones left out, sorted; the keys hold size, time of change (ns) and name."""
    wanted = {}
    for file in sorted(Path(parent, name) for parent, _, names in os.walk(folder) for name in names):
        name = file.relative_to(folder)
        if name.suffix.lower() in PICTURES and not any(part[0] == "." for part in name.parts):
            stat = attempt(file.stat)  # an exception, which has no size, for a dead link: reading it will tell
            wanted[f"{getattr(stat, 'st_size', 0)} {getattr(stat, 'st_mtime_ns', 0)} {name.as_posix()}"] = file
    if not wanted:
        raise ValueError(f"there is no folder {folder}, or no picture in it ({' '.join(PICTURES)})")
    return wanted


def fingerprint(model: CLIP, folder: Path) -> str:
    """Names an index: another one for another folder, and for other settings or weights of the image tower."""
    digest = hashlib.sha256(f"{folder.resolve()} {model.config}".encode(errors="surrogateescape"))
    for tensor in (tensor for name, tensor in model.state_dict().items() if name.startswith("image_")):
        digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:20]


def write_part(place: Path, keys: list[str], features: Tensor) -> None:
    """Keep features `[n, D]` of pictures, in a file of its own whose name no other process uses."""
    file, content = place / f"{time.time_ns()}_{os.getpid()}.safetensors", {"features": features}
    write_atomically(file, lambda part: save_file(content, part, {"pictures": json.dumps(keys)}))


def read_part(file: Path) -> list[tuple[str, Tensor]]:
    """(key, unit vector `[D]`) of each picture in a file of an index; of a damaged one none, with a notice."""
    try:
        with safe_open(file, "pt") as part:
            keys, features = json.loads(part.metadata()["pictures"]), part.get_tensor("features").clone()
        if not ((features.norm(dim=1) - 1).abs() < 1e-3).all():  # NaN is none, either
            raise ValueError("it holds no unit vectors")
        return list(zip(keys, features, strict=True))
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, IndexError) as error:
        print(f"{file} is damaged ({error}); its pictures are embedded again", file=sys.stderr)
        file.unlink(missing_ok=True)
        return []


def embed_queries(model: CLIP, tokenizer: Tokenizer, queries: Sequence[str], like: Sequence[str] = ()) -> Tensor:
    """Unit vectors float32 `[Q, D]` of queries in words, then of the picture files `like`.

    Raises ValueError for an empty query, for none at all, and for a file that is no picture.
    """
    if not all(query.strip() for query in queries) or not (queries or like):
        raise ValueError("a query is empty; say in words what to look for")
    size, features = model.config.image_size, [embed_texts(model, tokenizer, queries)] if queries else []
    features += [embed_images(model, decode_picture(Path(file).read_bytes(), size)[None], size) for file in like]
    return torch.cat(features).float().cpu()


def draw_results(files: Sequence[Path], queries: Sequence[str], scores: Tensor, rows: Tensor) -> Figure:
    """A contact sheet: one row a query, the pictures `files[row]` from left to right, each under its cosine.

    scores, rows: `[Q, K]`, as `minclip.retrieval.nearest` returns them.
    """
    pictures = torch.stack([decode_picture(files[row].read_bytes(), THUMBNAIL) for row in rows.flatten().tolist()])
    figure = plot_search([query[-40:] for query in queries], pictures, torch.arange(len(pictures)).view_as(rows))
    for axes, score in zip(figure.axes, scores.flatten().tolist()):
        axes.set_title(f"{score:.2f}", fontsize=6, pad=2)
    return figure


def search_folder(
    *, queries: tyro.conf.Positional[tuple[str, ...]] = (), model: str, images: str, like: tuple[str, ...] = (),
    top: int = 10, output: str = "minclip_search.png", index: str = "",
) -> None:  # fmt: skip
    """Search a folder of pictures in words, or with a picture.

    Args:
        queries: what to look for, each in quotes; without any they are read from the standard input, one a line
        model: folder of a run, or the name of a published model
        images: folder of pictures; subfolders count, hidden files do not
        like: picture files, to find similar pictures
        top: pictures for each query
        output: the contact sheet
        index: where indexes are kept; empty for the user's cache folder
    """
    clip, tokenizer, files, gallery = open_folder(model, images, index)
    for words in [queries] if queries or like else ([line.strip()] for line in sys.stdin):
        began, asked = time.perf_counter(), [*words, *like]
        scores, rows = nearest(embed_queries(clip, tokenizer, words, like), gallery, min(top, len(files)))
        milliseconds = 1000 * (time.perf_counter() - began)
        for query, *found in zip(asked, scores.tolist(), rows.tolist()):
            print(f"\n{query}\nrank  score  file")
            for rank, (score, row) in enumerate(zip(*found), 1):
                print(f"{rank:4}  {score:5.3f}  {str(files[row])!r}")
        save_figure(draw_results(files, asked, scores, rows), output)
        print(f"\n{len(files):,} pictures were asked in {milliseconds:.0f} ms; see {output}")


def open_folder(model: str, images: str, index: str) -> tuple[CLIP, Tokenizer, list[Path], Tensor]:
    """A model by name or folder, on the GPU if there is one, its tokenizer, and what `index_folder` returns."""
    from minclip.pretrained import load

    clip, tokenizer = load(model)
    clip.to("cuda" if torch.cuda.is_available() else "cpu")
    return clip, tokenizer, *index_folder(clip, images, index)


if __name__ == "__main__":
    run_command(search_folder)
