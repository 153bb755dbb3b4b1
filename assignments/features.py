"""Make the data file of assignment A5 from a finished demo run: features, labels, thumbnails, accuracies.

    python -m minclip.train --output_dir runs/demo           the run, about three minutes on two cores
    python assignments/features.py --run_dir runs/demo --output assignments/data/a5_features.npz

The file holds plain arrays, no pickle, and no drawing by OpenMoji (CC BY-SA), only vectors of them. A feature is stored
as whole numbers from -127 to 127 and one factor for each vector. Their product is what the tower said before any
normalising, to about half a hundredth of the vector's largest entry.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from experiments.claims import read_result
from minclip.checkpoint import write_atomically
from minclip.clip import CLIP
from minclip.data import load_pairs, plain, shrink
from minclip.report import names_without_skin_tones
from minclip.tokenizer import Tokenizer
from minclip.zero_shot import evaluate_in_parts

SPLITS = ("in_distribution", "fxemoji", "openmoji")  # known artists, an unseen one near to them, an unseen one far away
TEMPLATES = ("{}", "a drawing of {}", "a picture of {}")  # the first two are among the demo's captions
CONCEPTS, SIDE = 20, 32  # thumbnails: so many concepts, by a known artist and by fxemoji, in pixels
NOTICE = (
    "Thumbnails: Noto Emoji and its older style Blob (Apache-2.0, Google), Twemoji (CC BY 4.0, Twitter, Inc and other "
    "contributors), Fluent emoji (MIT, Microsoft Corporation), EmojiOne 2 (CC BY 4.0, Emoji One), FxEmoji (CC BY 4.0, "
    "Mozilla Foundation). Changes: rendered on white and shrunk to 32 x 32 pixels. Names: Unicode CLDR (Unicode-3.0)."
)
HOME, NEAR, FAR = "twemoji", "fxemoji", "openmoji"  # the artists of experiments/robustness.py
WIDE, NARROW = "32 wide", "16 wide"
MODELS = [  # kind, what it is called, its setting and its key in results/clip-effective-robustness.json
    *(
        ("home labels", f"ResNet {width} wide, {steps} steps", WIDE, f"supervised_{width}_{steps}")
        for width in (8, 16, 32)
        for steps in (60, 240)
    ),
    ("CLIP's labels", "ResNet on labels of CLIP's drawings", WIDE, "own"),
    ("zero-shot", "zero-shot CLIP, 32 wide", WIDE, "zero"),
    ("zero-shot", "zero-shot CLIP, 16 wide", NARROW, "zero"),
    ("adapted", "probe on CLIP, 32 wide", WIDE, "probe"),
    ("adapted", "probe on CLIP, 16 wide", NARROW, "probe"),
    *(("adapted", f"CLIP, {mix} % of the way to tuned", WIDE, f"wise_{mix}") for mix in (25, 50, 75, 100)),
]


def main() -> None:
    """Read the command line; write the file whole, or not at all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run_dir", type=Path, default=Path("runs/demo"), help="a finished run on the emoji")
    parser.add_argument("--output", type=Path, default=Path("assignments/data/a5_features.npz"))
    args = parser.parse_args()
    model = CLIP.from_pretrained(args.run_dir).eval()
    arrays = {**zero_shot_arrays(model, Tokenizer.load(args.run_dir / "tokenizer.json")), **robustness_arrays()}

    def write(path: Path) -> None:
        with path.open("wb") as file:  # a path without .npz would be given that ending
            np.savez_compressed(file, **arrays)

    write_atomically(args.output, write)
    print(f"{args.output}: {args.output.stat().st_size / 1e6:.2f} MB")
    print(json.dumps({name: [str(array.dtype), *array.shape] for name, array in arrays.items()}, indent=1))


def zero_shot_arrays(model: CLIP, tokenizer: Tokenizer) -> dict[str, np.ndarray]:
    """Features of all names in each template `[T, C, D]` and of the pictures of three splits `[N, D]`, with labels."""
    pairs = [load_pairs("emoji", split) for split in SPLITS]
    names = names_without_skin_tones(pairs[0])
    index = {name: i for i, name in enumerate(names)}
    pairs = [part.select(torch.tensor([not tones for tones in part.metadata["skin_tones"]])) for part in pairs]
    labels = torch.cat([torch.tensor([index[part.class_names[i]] for i in part.labels.tolist()]) for part in pairs])
    flag = np.array([group == "flags" for part in pairs for group in part.metadata["group"]])  # [N]
    split = np.repeat(np.arange(len(SPLITS), dtype=np.int8), [len(part) for part in pairs])  # [N]

    images = torch.cat([raw_images(model, part.images) for part in pairs])  # [N, D]
    texts = torch.stack([raw_texts(model, tokenizer, [said.format(name) for name in names]) for said in TEMPLATES])
    rows = thumbnail_rows(labels, torch.from_numpy(split), torch.from_numpy(flag))
    shown = shrink(torch.cat([part.images for part in pairs])[rows], SIDE)  # [2 * CONCEPTS, 3, SIDE, SIDE]
    return {
        "names": np.array(names),
        "templates": np.array(TEMPLATES),
        "splits": np.array(SPLITS),
        **small("text", texts),
        **small("image", images),
        "labels": labels.numpy().astype(np.int16),
        "split": split,
        "flag": flag,
        "thumbnails": shown.permute(0, 2, 3, 1).numpy(),
        "thumbnail_rows": rows.numpy().astype(np.int16),
        "notice": np.array(NOTICE),
    }


def raw_images(model: CLIP, images: Tensor) -> Tensor:
    """Pictures uint8 `[N, 3, H, W]` -> what the image tower's projection gives, `[N, D]`, not normalised."""
    project: Callable[[Tensor], Tensor] = lambda part: model.image_projection(  # noqa: E731
        model.image_tower(plain(part, model.config.image_size))
    )
    return evaluate_in_parts(model, project, images, 256)


def raw_texts(model: CLIP, tokenizer: Tokenizer, texts: list[str]) -> Tensor:
    """Captions -> what the text tower's projection gives, `[N, D]`, not normalised."""
    ids = tokenizer(texts, model.text_tower.context_length)
    return evaluate_in_parts(model, lambda part: model.text_projection(model.text_tower(part)), ids, 256)


def small(name: str, features: Tensor) -> dict[str, np.ndarray]:
    """Vectors `[..., D]` as int8 and one float32 factor each: a quarter of the size, and the lengths are kept."""
    factor = features.abs().amax(-1, keepdim=True) / 127  # [..., 1]
    whole = (features / factor).round().to(torch.int8)
    return {f"{name}_int8": whole.numpy(), f"{name}_factor": factor.squeeze(-1).float().numpy()}


def thumbnail_rows(labels: Tensor, split: Tensor, flag: Tensor) -> Tensor:
    """Rows of pictures to look at: CONCEPTS that a known artist and fxemoji drew, one of each, in the same order."""
    known, near = ({int(labels[i]): i for i in ((split == s) & ~flag).nonzero().flatten().tolist()} for s in (0, 1))
    both = sorted(known.keys() & near.keys())
    chosen = torch.randperm(len(both), generator=torch.Generator().manual_seed(0))[:CONCEPTS].tolist()
    return torch.tensor([by[both[i]] for by in (known, near) for i in chosen])


def robustness_arrays() -> dict[str, np.ndarray]:
    """Accuracies of the models of Figure 13, `[seeds, models, 3]`, at home, near and far, from the committed runs."""
    measured = {(row["setting"], row["seed"]): row for row in read_result("clip-effective-robustness")["measurements"]}
    seeds = sorted({seed for _, seed in measured})
    accuracy = [
        [[measured[setting, seed][f"{key}_{artist}"] for artist in (HOME, NEAR, FAR)] for _, _, setting, key in MODELS]
        for seed in seeds
    ]
    return {
        "model_kinds": np.array([kind for kind, *_ in MODELS]),
        "model_names": np.array([name for _, name, *_ in MODELS]),
        "model_accuracy": np.array(accuracy, dtype=np.float32),
    }


if __name__ == "__main__":
    main()
