"""Image <-> text retrieval: rank a gallery by its similarity to a query (CLIP appendix E.1)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from minclip.zero_shot import check_labels, check_same_width


def recall_at_k(similarity: Tensor, positives: Tensor | None = None, k: int = 1) -> float:
    """Share of queries, in [0, 1], with at least one correct item among the k highest.

    similarity: `[Q, G]`, queries in rows; pass its transpose for the other direction. positives: bool
    `[Q, G]`, true where an item is correct for a query; by default item i for query i. Several may be: the captions
    of an image, or the images of a caption, are all positives, and one of them is enough. Query q counts when
    fewer than k of its wrong items score at least as high as its best correct one. So a tie counts against
    the model, and so does NaN: scores that are all equal have a recall of 0 unless fewer than k items are
    wrong. Raises ValueError for shapes that do not fit, k outside 1 to G, or a query without correct item.
    """
    if similarity.ndim != 2 or not 1 <= k <= similarity.shape[1]:
        raise ValueError(f"recall at k {k} needs similarity [Q, G] with 1 <= k <= G, got {list(similarity.shape)}")
    if positives is None:
        positives = torch.eye(len(similarity), dtype=torch.bool, device=similarity.device)
    if positives.dtype != torch.bool or positives.shape != similarity.shape:
        found = f"{positives.dtype} {list(positives.shape)}"
        raise ValueError(f"positives must be bool {list(similarity.shape)}, by default the diagonal, got {found}")
    if not positives.any(1).all():
        row = (~positives.any(1)).nonzero()[0].item()
        raise ValueError(f"query {row} has no correct item among the {similarity.shape[1]}; leave it out")
    best = similarity.masked_fill(~positives, -torch.inf).amax(1, keepdim=True)  # [Q, 1]
    ahead = ~positives & ~(similarity < best)  # [Q, G]; not `>=`, so that NaN is ahead
    return (ahead.sum(1) < k).double().mean().item()


def image_text_recall(
    image_features: Tensor, text_features: Tensor, positives: Tensor, ks: Sequence[int] = (1, 5, 10)
) -> dict[str, float]:
    """Recall at each k in both directions: keys such as `image_to_text@1` and `text_to_image@1`, values in [0, 1].

    image_features `[N, D]`; text_features `[T, D]`; positives: long `[T]`, the image of each text (Flickr30k and
    COCO have five texts an image), or bool `[N, T]` where a text may have several images. An image counts when any
    of its texts is among the k best of all T; a text when any of its images is among the k best of all N; ties as in
    `recall_at_k`. Raises ValueError for shapes that do not fit, an image or text without partner, k over N or T.
    """
    check_same_width(image_features=image_features, text_features=text_features)
    similarity = image_features @ text_features.T  # [N, T]
    if positives.dtype != torch.bool:
        check_labels(len(text_features), len(image_features), positives=positives)
        positives = torch.arange(len(image_features), device=positives.device)[:, None] == positives  # [N, T]
    directions = {"image_to_text": (similarity, positives), "text_to_image": (similarity.T, positives.T)}
    return {f"{name}@{k}": recall_at_k(*both, k) for name, both in directions.items() for k in ks}


def nearest(queries: Tensor, gallery: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k items of the gallery with the largest inner product with each query, best first.

    queries: `[Q, D]`; gallery: `[G, D]`; both L2-normalised, so that the product is the cosine. Returns
    scores `[Q, k]` and indices, long `[Q, k]`. Raises ValueError when the widths differ or k is not in 1 to G.
    """
    check_same_width(queries=queries, gallery=gallery)
    if not 1 <= k <= len(gallery):
        raise ValueError(f"k {k} is not within 1 to {len(gallery)}, the items of the gallery")
    return tuple((queries @ gallery.T).topk(k, dim=1))
