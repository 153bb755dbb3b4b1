"""Zero-shot classification: the names of the classes are the weights of the classifier (CLIP section 3.1)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from minclip.clip import CLIP
from minclip.data import Pairs, plain
from minclip.tokenizer import Tokenizer


@torch.no_grad()
def embed_images(model: CLIP, images: Tensor, image_size: int, batch_size: int = 256) -> Tensor:
    """Pictures uint8 `[N, 3, H, W]` -> unit vectors `[N, D]`, in evaluation mode."""
    was_training, device = model.training, model.logit_scale.device
    model.eval()
    dtype = model.logit_scale.dtype
    features = [model.encode_image(plain(part.to(device), image_size).to(dtype)) for part in images.split(batch_size)]
    model.train(was_training)
    return torch.cat(features)


@torch.no_grad()
def embed_texts(model: CLIP, tokenizer: Tokenizer, texts: Sequence[str], batch_size: int = 256) -> Tensor:
    """Captions -> unit vectors `[N, D]`, in evaluation mode."""
    was_training, device = model.training, model.logit_scale.device
    model.eval()
    ids = tokenizer(list(texts), model.text_tower.context_length).to(device)
    features = [model.encode_text(part) for part in ids.split(batch_size)]
    model.train(was_training)
    return torch.cat(features)


def zero_shot_weights(
    model: CLIP, tokenizer: Tokenizer, names: Sequence[str], templates: Sequence[str] = ("{}",)
) -> Tensor:
    """One unit vector a class, `[C, D]`: the mean over templates of the prompts' embeddings, normalised again.

    Templates hold `{}` for the name. CLIP section 3.1.4 averages embeddings, not probabilities.
    """
    if not templates or any("{}" not in template for template in templates):
        raise ValueError(f"templates {list(templates)} must each hold {{}} where the name goes")
    mean = sum(embed_texts(model, tokenizer, [template.format(name) for name in names]) for template in templates)
    return F.normalize(mean, dim=-1)


def top_k_accuracy(scores: Tensor, labels: Tensor, k: int) -> float:
    """Share of rows of `scores` `[N, C]` whose label is among the k highest."""
    best = scores.topk(min(k, scores.shape[1]), dim=1).indices  # [N, k]
    return (best == labels[:, None]).any(1).double().mean().item()


def evaluate_zero_shot(
    model: CLIP,
    tokenizer: Tokenizer,
    pairs: Pairs,
    names: Sequence[str],
    image_size: int,
    templates: Sequence[str] = ("{}",),
    flags: str = "flags",
) -> dict[str, float]:
    """Classify every picture of `pairs` among `names`.

    Pictures whose own name is not among `names` are left out. Returns top1, top5 (fractions), n_images,
    n_classes, and, where the metadata know groups, top1_without_flags: the same names compete, but
    pictures of flags, which look alike at every artist, are not counted.
    """
    index = {name: i for i, name in enumerate(names)}
    own = [pairs.class_names[label] if label >= 0 else None for label in pairs.labels.tolist()]
    labels = torch.tensor([index.get(name, -1) for name in own])
    known = labels >= 0
    if not known.any():
        raise ValueError("none of the pictures has a name among the given names; check the names' spelling")
    weights = zero_shot_weights(model, tokenizer, names, templates)  # [C, D]
    features = embed_images(model, pairs.images[known], image_size)  # [N, D]
    scores, labels = (features @ weights.T).cpu(), labels[known]  # [N, C]
    result = {"top1": top_k_accuracy(scores, labels, 1), "top5": top_k_accuracy(scores, labels, 5)}
    result |= {"n_images": len(labels), "n_classes": len(names)}
    if "group" in pairs.metadata:
        no_flag = torch.tensor([group != flags for group in pairs.metadata["group"]])[known]
        if no_flag.any():
            result["top1_without_flags"] = top_k_accuracy(scores[no_flag], labels[no_flag], 1)
    return result
