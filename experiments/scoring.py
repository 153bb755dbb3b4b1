"""What a trained model is good for, on pictures that it never saw."""

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.emoji import TEST_SPLITS, compute_device, emoji, names_without_tones, tokenised
from minclip.clip import CLIP
from minclip.retrieval import recall_at_k
from minclip.zero_shot import embed_texts, top_k_accuracy


@torch.no_grad()
def evaluate(model: CLIP, pictures: dict[str, Tensor]) -> dict[str, float]:
    """What the model is good for, as fractions; pictures: the image tower's inputs for TEST_SPLITS.

    `in_distribution` and `fxemoji`: zero-shot top-1 of new drawings by the training artists, and of an unseen
    artist, among the ~1,900 names without skin tones. `retrieval`: recall at 1 of a caption, in_distribution's
    1,428 pictures among all its captions. `held_out`: the same for compositions that no picture or caption of the
    training showed. All names but those of the last occur in training; the pictures never do.
    """
    tokenizer, _ = tokenised()
    model.eval()
    device, result = compute_device(), {}
    plain_names = names_without_tones()
    text = embed_texts(model, tokenizer, emoji("train").class_names)  # [C, D]
    for split in TEST_SPLITS:
        labels = emoji(split).labels
        parts = pictures[split].split(512)
        scores = (torch.cat([model.encode_image(part.to(device)) for part in parts]) @ text.T).cpu()  # [N, C]
        if split != "held_out_compositions":
            known = torch.isin(labels, plain_names)
            targets = torch.searchsorted(plain_names, labels[known])
            result[split] = top_k_accuracy(scores[known][:, plain_names], targets, 1)
        if split != "fxemoji":
            gallery = labels.unique()  # the captions of this split
            key = "retrieval" if split == "in_distribution" else "held_out"
            result[key] = recall_at_k(scores[:, gallery], labels[:, None] == gallery)
    return result


def few_shot(features: dict[str, Tensor]) -> float:
    """How good an image tower is without any text: top-1 of in_distribution's pictures, a fraction.

    features: the tower's own, `[N, D]`, of `train` and `in_distribution`. The name whose training pictures (three on
    average) have the nearest mean is said, among the ~1,900 without skin tones.
    """
    train, test = emoji("train"), emoji("in_distribution")
    unit = {split: F.normalize(features[split], dim=1) for split in ("train", "in_distribution")}
    names = names_without_tones()
    means = torch.zeros(len(train.class_names), unit["train"].shape[1]).index_add_(0, train.labels, unit["train"])
    known = torch.isin(test.labels, names)
    scores = unit["in_distribution"][known] @ F.normalize(means[names], dim=1).T  # [N, C]
    return top_k_accuracy(scores, torch.searchsorted(names, test.labels[known]), 1)
