"""What a finished run says of itself: zero-shot accuracy, loss curves, and a picture of its searches."""

from pathlib import Path

import torch

from minclip import plots
from minclip.checkpoint import write_json
from minclip.clip import CLIP
from minclip.data import Pairs, load_pairs
from minclip.hub_data import completed
from minclip.retrieval import nearest
from minclip.sources import PLAIN, Reading
from minclip.tokenizer import Tokenizer
from minclip.zero_shot import embed_images, embed_texts, evaluate_zero_shot

QUERIES = (
    "red heart", "a smiling cat", "Christmas tree", "penguin", "strawberry", "guitar", "snowman", "sunflower",
    "traffic light", "butterfly",
)  # fmt: skip
OPENMOJI_NOTICE = "Pictures: OpenMoji (CC BY-SA 4.0), FxEmoji by Mozilla (CC BY 4.0)"


def evaluate(model: CLIP, tokenizer: Tokenizer, data: str, reading: Reading = PLAIN) -> dict[str, dict]:
    """Zero-shot accuracy on the splits that `data` was not trained on, by split; empty without labels.

    Emoji: `in_distribution` (training artists), `fxemoji` and `openmoji` (unseen artists) among all names
    without skin tones; `held_out_compositions` among all names, skin tones included.
    """
    image_size = model.config.image_size
    if data == "emoji":
        results = {}
        for split in ("in_distribution", "fxemoji", "openmoji", "held_out_compositions"):
            pairs = load_pairs("emoji", split)
            names = pairs.class_names if split == "held_out_compositions" else names_without_skin_tones(pairs)
            results[split] = evaluate_zero_shot(model, tokenizer, pairs, names, image_size)
        return results
    pairs = load_if_there(data, "test", reading)
    if pairs is None or not pairs.class_names:
        return {}
    templates = completed(data, reading).templates
    return {"test": evaluate_zero_shot(model, tokenizer, pairs, pairs.class_names, image_size, templates)}


def names_without_skin_tones(pairs: Pairs) -> list[str]:
    """The ~1,900 emoji names that name no skin tone."""
    return [name for name in pairs.class_names if "skin tone" not in name]


def search_samples(model: CLIP, tokenizer: Tokenizer, data: str, reading: Reading = PLAIN) -> plots.Figure:
    """Ten text queries, each with its five nearest pictures (for emoji: by artists that were never trained on).

    A picture with the query among its captions is framed green.
    """
    if data == "emoji":
        unseen = [load_pairs("emoji", split) for split in ("fxemoji", "openmoji")]
        unseen = [pairs.select(torch.tensor([not tones for tones in pairs.metadata["skin_tones"]])) for pairs in unseen]
        images = torch.cat([pairs.images for pairs in unseen])
        captions = [texts for pairs in unseen for texts in pairs.captions]
        queries, notice = QUERIES, OPENMOJI_NOTICE
    else:
        pairs = load_if_there(data, "test", reading, 2000) or load_pairs(data, "train", None, reading, 2000)
        images, captions, notice = pairs.images[:2000], pairs.captions[:2000], ""
        queries = list(dict.fromkeys(texts[0] for texts in pairs.captions))[:10]
    features = embed_images(model, images, model.config.image_size)
    _, indices = nearest(embed_texts(model, tokenizer, queries), features, 5)
    named = [[query in captions[i] for i in row] for query, row in zip(queries, indices.tolist())]
    return plots.plot_search(queries, images, indices.cpu(), torch.tensor(named), notice)


def load_if_there(data: str, split: str, reading: Reading, limit: int | None = None) -> Pairs | None:
    """The pairs of a split, or None if `data` has no such split."""
    try:
        return load_pairs(data, split, None, reading, limit)
    except FileNotFoundError:
        return None


def write_report(
    output: Path, model: CLIP, tokenizer: Tokenizer, data: str | None, history: list[dict], metrics: dict,
    reading: Reading = PLAIN,
) -> None:  # fmt: skip
    """Write `curves.png`, `samples.png` and, last of all, `metrics.json`."""
    plots.save_figure(plots.plot_curves(history, metrics["loss_uninformed"]), output / "curves.png")
    if data:
        plots.save_figure(search_samples(model, tokenizer, data, reading), output / "samples.png")
    write_json(output / "metrics.json", metrics)


def table(metrics: dict) -> str:
    """The zero-shot results as a Markdown table, chance beside them."""
    lines = ["| split | top-1 | top-1 without flags | top-5 | chance | pictures | names |", "|---" * 7 + "|"]
    for split, r in metrics["zero_shot"].items():
        row = [split, f"{r['top1']:.1%}", f"{r['top1_without_flags']:.1%}" if "top1_without_flags" in r else ""]
        row += [f"{r['top5']:.1%}", f"{1 / r['n_classes']:.2%}", f"{r['n_images']:,}", f"{r['n_classes']:,}"]
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)
