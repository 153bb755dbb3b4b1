"""Image <-> text retrieval: rank a gallery by its similarity to a query (CLIP appendix E.1)."""

import torch
from torch import Tensor


def recall_at_k(similarity: Tensor, positives: Tensor | None = None, k: int = 1) -> float:
    """Share of queries, in [0, 1], with at least one correct item among the k highest.

    similarity: `[Q, G]`, queries in rows; pass its transpose for the other direction. positives: bool
    `[Q, G]`, true where an item is correct for a query; by default item i for query i. Query q counts when
    fewer than k of its wrong items score at least as high as its best correct one. So a tie counts against
    the model, and so does NaN: scores that are all equal have a recall of 0 unless fewer than k items are
    wrong. Raises ValueError for shapes that do not fit, k outside 1 to G, or a query without correct item.
    """
    if similarity.ndim != 2 or not 1 <= k <= similarity.shape[1]:
        raise ValueError(f"recall at k {k} needs similarity [Q, G] with 1 <= k <= G, got {list(similarity.shape)}")
    if positives is None:
        if similarity.shape[0] != similarity.shape[1]:
            raise ValueError(
                f"similarity {list(similarity.shape)} is not square; say which items are correct: positives"
            )
        positives = torch.eye(len(similarity), dtype=torch.bool, device=similarity.device)
    if positives.dtype != torch.bool or positives.shape != similarity.shape:
        found = f"{positives.dtype} {list(positives.shape)}"
        raise ValueError(f"positives must be bool and {list(similarity.shape)} like similarity, got {found}")
    if not positives.any(1).all():
        row = (~positives.any(1)).nonzero()[0].item()
        raise ValueError(f"query {row} has no correct item among the {similarity.shape[1]}; leave it out")
    best = similarity.masked_fill(~positives, -torch.inf).amax(1, keepdim=True)  # [Q, 1]
    ahead = ~positives & ~(similarity < best)  # [Q, G]; not `>=`, so that NaN is ahead
    return (ahead.sum(1) < k).double().mean().item()


def nearest(queries: Tensor, gallery: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k items of the gallery with the largest inner product with each query, best first.

    queries: `[Q, D]`; gallery: `[G, D]`; both L2-normalised, so that the product is the cosine. Returns
    scores `[Q, k]` and indices, long `[Q, k]`. Raises ValueError when the widths differ or k is not in 1 to G.
    """
    if queries.ndim != 2 or gallery.ndim != 2 or queries.shape[1] != gallery.shape[1]:
        raise ValueError(f"queries {list(queries.shape)} and gallery {list(gallery.shape)} must be [Q, D] and [G, D]")
    if not 1 <= k <= len(gallery):
        raise ValueError(f"k {k} is not within 1 to {len(gallery)}, the items of the gallery")
    return tuple((queries @ gallery.T).topk(k, dim=1))
