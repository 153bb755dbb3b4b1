"""Zero-shot classification: the names of the classes are the weights of the classifier (CLIP section 3.1)."""

import csv
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minclip.clip import CLIP
from minclip.data import Pairs, plain
from minclip.tokenizer import Tokenizer


def embed_images(model: CLIP, images: Tensor, image_size: int, batch_size: int = 256) -> Tensor:
    """Pictures uint8 `[N, 3, H, W]` -> unit vectors `[N, D]`, in evaluation mode."""
    like = model.logit_scale  # its device and precision are the model's
    encode = lambda part: model.encode_image(plain(part.to(like.device), image_size).to(like.dtype))  # noqa: E731
    return evaluate_in_parts(model, encode, images, batch_size)


def embed_texts(model: CLIP, tokenizer: Tokenizer, texts: Sequence[str], batch_size: int = 256) -> Tensor:
    """Captions -> unit vectors `[N, D]`, in evaluation mode."""
    ids = tokenizer(list(texts), model.text_tower.context_length).to(model.logit_scale.device)
    return evaluate_in_parts(model, model.encode_text, ids, batch_size)


@torch.no_grad()
def evaluate_in_parts(module: nn.Module, encode: Callable[[Tensor], Tensor], inputs: Tensor, batch_size: int) -> Tensor:
    """`encode` of all inputs, batch by batch, with `module` in evaluation mode; the mode is restored."""
    was_training = module.training
    module.eval()
    features = [encode(part) for part in inputs.split(batch_size)]
    module.train(was_training)
    return torch.cat(features)


def zero_shot_weights(
    model: CLIP, tokenizer: Tokenizer, names: Sequence[str | Sequence[str]], templates: Sequence[str] = ("{}",)
) -> Tensor:
    """One unit vector a class, `[C, D]`: the mean of its prompts' embeddings, normalised again.

    A class has one name or several; its prompts are all its names in all templates, which hold `{}` for the name.
    CLIP section 3.1.4 averages embeddings, not probabilities. Raises ValueError for a class without name (or with a
    blank one), for no classes, and for no templates or one without `{}`.
    """
    if not templates or any("{}" not in template for template in templates):
        raise ValueError(f"templates {list(templates)} must each hold {{}} where the name goes")
    names_of = [[own] if isinstance(own, str) else list(own) for own in names]
    nameless = [i for i, own in enumerate(names_of) if not own or not all(name.strip() for name in own)]
    if nameless or not names_of:
        raise ValueError(f"names: {f'class {nameless[0]} has' if nameless else 'there is'} no name, or a blank one")
    prompts = [[template.format(name) for name in own for template in templates] for own in names_of]
    embeddings = embed_texts(model, tokenizer, [prompt for own in prompts for prompt in own])
    sums = torch.stack([own.sum(0) for own in embeddings.split([len(own) for own in prompts])])
    return F.normalize(sums, dim=-1)  # [C, D]; a sum points where its mean does


def check_same_width(**parts: Tensor) -> None:
    """Raise ValueError unless all features are `[rows, D]` with one D, naming them."""
    if any(part.ndim != 2 for part in parts.values()) or len({part.shape[1] for part in parts.values()}) > 1:
        said = ", ".join(f"{name} {list(part.shape)}" for name, part in parts.items())
        raise ValueError(f"{said} must be [rows, D] of one D: features of two different models? embed all with one")


def check_labels(n_rows: int, n_classes: float = math.inf, **columns: Tensor) -> None:
    """Raise ValueError unless there are rows and each column is `[n_rows]` with 0 <= label < n_classes."""
    for name, labels in columns.items():
        if not n_rows or labels.shape != (n_rows,):
            raise ValueError(f"{name} {list(labels.shape)} must be [N], one for each of the {n_rows} rows, N >= 1")
        for row in ((labels < 0) | (labels >= n_classes)).nonzero()[:1, 0].tolist():
            raise ValueError(f"{name}[{row}] is {labels[row]}, outside [0, {n_classes}); leave such rows out")


def classify(image_features: Tensor, weights: Tensor) -> Tensor:
    """Scores `[N, C]`, the larger the better: image features `[N, D]` times the classes' weights `[C, D]`."""
    check_same_width(image_features=image_features, weights=weights)
    return image_features @ weights.T


def top_k_accuracy(scores: Tensor, labels: Tensor, k: int) -> float:
    """Share of rows of `scores` `[N, C]` whose label `[N]` is among the k highest; all are, for k of C or more."""
    check_labels(*scores.shape, labels=labels)
    if k < 1:
        raise ValueError(f"k {k} must be at least 1")
    best = scores.topk(min(k, scores.shape[1]), dim=1).indices  # [N, k]
    return (best == labels[:, None]).any(1).double().mean().item()


def confusion_matrix(predictions: Tensor, labels: Tensor, n_classes: int) -> Tensor:
    """How often class i (row: the true one) was called j (column): long `[C, C]`."""
    check_labels(len(labels), n_classes, labels=labels, predictions=predictions)
    return torch.bincount(labels * n_classes + predictions, minlength=n_classes**2).view(n_classes, n_classes)


def per_class_accuracy(predictions: Tensor, labels: Tensor, n_classes: int) -> Tensor:
    """Share of each class's pictures that were named right: float64 `[C]`, NaN for a class without pictures."""
    check_labels(len(labels), n_classes, labels=labels, predictions=predictions)
    return labels[predictions == labels].bincount(minlength=n_classes).double() / labels.bincount(minlength=n_classes)


def balanced_accuracy(predictions: Tensor, labels: Tensor, n_classes: int) -> float:
    """The mean of `per_class_accuracy` over the classes that have pictures: each class counts alike."""
    return per_class_accuracy(predictions, labels, n_classes).nanmean().item()


def evaluate_zero_shot(
    model: CLIP, tokenizer: Tokenizer, pairs: Pairs, names: Sequence[str], image_size: int,
    templates: Sequence[str] = ("{}",), flags: str = "flags",
) -> dict[str, float]:  # fmt: skip
    """Classify every picture of `pairs` among `names`.

    Pictures whose own name is not among `names` are left out. Returns top1, top5, balanced (fractions; the last
    counts each class alike), n_images, n_classes, and, where the metadata know groups, top1_without_flags: the same
    names compete, but pictures of flags, which look alike at every artist, are not counted.
    """
    index = {name: i for i, name in enumerate(names)}
    own = [pairs.class_names[label] if label >= 0 else None for label in pairs.labels.tolist()]
    labels = torch.tensor([index.get(name, -1) for name in own])
    known = labels >= 0
    if not known.any():
        raise ValueError("none of the pictures has a name among the given names; check the names' spelling")
    features, labels = embed_images(model, pairs.images[known], image_size), labels[known]  # [N, D], [N]
    scores = classify(features, zero_shot_weights(model, tokenizer, names, templates)).cpu()  # [N, C]
    result = {f"top{k}": top_k_accuracy(scores, labels, k) for k in (1, 5)}
    result["balanced"] = balanced_accuracy(scores.argmax(1), labels, len(names))
    result |= {"n_images": len(labels), "n_classes": len(names)}
    if "group" in pairs.metadata:
        no_flag = torch.tensor([group != flags for group in pairs.metadata["group"]])[known]
        if no_flag.any():
            result["top1_without_flags"] = top_k_accuracy(scores[no_flag], labels[no_flag], 1)
    return result


@torch.no_grad()
def class_probabilities(model: CLIP, scores: Tensor) -> Tensor:
    """Cosines `[N, C]` -> probabilities `[N, C]`, as the model's loss reads them.

    softmax: one of the C names is right, so a row sums to 1, whatever the picture shows. sigmoid: each name is judged
    alone, so none may be right, or several; how well such scores are calibrated is asked in notebook 07.
    """
    logits = model.logit_scale.exp().cpu() * scores
    return logits.softmax(1) if model.logit_bias is None else (logits + model.logit_bias.cpu()).sigmoid()


def classify_folder(
    *, model: str, images: str, names: tuple[str, ...], templates: tuple[str, ...] = ("a photo of a {}",),
    index: str = "",
) -> None:  # fmt: skip
    """Name each picture of a folder: prints CSV, with the best name and the probabilities of all.

    Where the pictures lie in subfolders that are called like the names (`_` and `-` count as blanks, capitals as small
    letters), the accuracy is said, too, on the standard error.

    Args:
        model: folder of a run, or the name of a published model
        images: folder of pictures; subfolders count, hidden files do not
        names: the names to choose from, or a .txt file with one a line
        templates: sentences that hold {} for the name; the mean of their embeddings counts
        index: where the index of `minclip.search` is kept; empty for the user's cache folder
    """
    from minclip.search import open_folder

    if len(names) == 1 and names[0].endswith(".txt"):
        names = [line.strip() for line in Path(names[0]).read_text(encoding="utf-8").splitlines() if line.strip()]
    clip, tokenizer, files, features = open_folder(model, images, index)
    shares = class_probabilities(clip, features @ zero_shot_weights(clip, tokenizer, names, templates).float().cpu().T)
    best = [names[i] for i in shares.argmax(1).tolist()]
    csv.writer(sys.stdout).writerows([("file", "best", *names), *zip(files, best, *shares.T.tolist())])
    bare = lambda text: text.replace("_", " ").replace("-", " ").casefold()  # noqa: E731
    truths = [(bare(file.parent.name), bare(name)) for file, name in zip(files, best)]
    hits = [true == said for true, said in truths if true in map(bare, names)]
    right = f"; {sum(hits) / len(hits):.1%} of {len(hits):,} are in the subfolder of this name" if hits else ""
    print(f"{len(files):,} pictures named, with the probabilities of {clip.loss}{right}", file=sys.stderr)


if __name__ == "__main__":
    from minclip.runs import run_command

    run_command(classify_folder)
