"""How often each concept is drawn: all as often, by Zipf's law as the web would, or that with its head cut."""

import torch
from torch import Tensor

from experiments.emoji import IMAGE_SIZE, compute_device, emoji, names_without_tones, tokenised
from minclip.clip import CLIP
from minclip.data import BatchOrder, Pairs, plain, step_generator
from minclip.zero_shot import embed_texts, top_k_accuracy


def ranks(concepts: int, seed: int) -> Tensor:
    """Which concept is how frequent: a shuffled 1, 2, ..., the most frequent first; long `[concepts]`."""
    return 1 + torch.randperm(concepts, generator=step_generator(seed, 14))


class SkewedOrder(BatchOrder):
    """A `BatchOrder` in which the concept of rank r is drawn with weight max(r, cap)^-skew.

    Still every concept at most once a batch: a weighted draw without replacement (the largest sums of log weight and
    Gumbel noise), so that the most frequent are in nearly every batch, and no caption is a false negative of another.
    cap 1 cuts nothing; a cap of all concepts leaves a uniform draw. `indices(step)` is a pure function of (seed, step).
    Raises ValueError for a cap under 1.
    """

    def __init__(self, groups: Tensor, batch_size: int, seed: int, skew: float, cap: int = 1) -> None:
        super().__init__(groups, batch_size, seed)
        if cap < 1:
            raise ValueError(f"cap is {cap}; it is a rank: choose 1 to cut nothing, or more")
        self.log_weights = -skew * ranks(len(self.counts), seed).clamp(min=cap).double().log()  # [G]

    def indices(self, step: int) -> Tensor:
        """Rows of the pairs that step `step` trains on, long `[batch_size]`."""
        generator = step_generator(self.seed, 15, step)
        gumbel = -torch.empty_like(self.log_weights).exponential_(generator=generator).log()
        groups = (self.log_weights + gumbel).topk(self.batch_size).indices
        uniform = torch.rand(self.batch_size, generator=generator, dtype=torch.float64)
        return self.members[self.starts[groups] + (uniform * self.counts[groups]).long()]


def batch_order(pairs: Pairs, setting: dict, seed: int) -> BatchOrder:
    """What each step of a run draws, as `distinct`, `skew` and `cap` say. Raises ValueError for a skew of pictures."""
    groups = pairs.groups if setting["distinct"] else torch.arange(len(pairs))
    if not setting["skew"]:
        return BatchOrder(groups, setting["batch_size"], seed)
    if not setting["distinct"]:
        raise ValueError(
            f"skew {setting['skew']} is of concepts, which needs distinct batches; set distinct, or skew 0"
        )
    return SkewedOrder(groups, setting["batch_size"], seed, setting["skew"], setting["cap"])


@torch.no_grad()
def accuracy_by_frequency(model: CLIP, seed: int) -> dict[str, float]:
    """Zero-shot top-1 as `in_distribution` of `evaluate`, of the most and the least frequent third of the concepts.

    Fractions `head` and `tail`, by the ranks of the seed, whatever was drawn of them.
    """
    model.eval()
    train, test, names = emoji("train"), emoji("in_distribution"), names_without_tones()
    order = ranks(len(train.groups.unique()), seed)
    rank_of = dict(zip(train.metadata["base_name"], order[train.groups].tolist()))
    known = torch.isin(test.labels, names)
    rank = torch.tensor([rank_of.get(name, 0) for name in test.metadata["base_name"]])[known]  # [N]; 0: never seen
    text = embed_texts(model, tokenised()[0], [train.class_names[i] for i in names.tolist()])  # [C, D]
    images = plain(test.images[known], IMAGE_SIZE).to(compute_device())
    scores = (torch.cat([model.encode_image(part) for part in images.split(512)]) @ text.T).cpu()  # [N, C]
    targets = torch.searchsorted(names, test.labels[known])
    thirds = {"head": (rank > 0) & (rank <= len(order) / 3), "tail": rank > len(order) * 2 / 3}
    return {key: top_k_accuracy(scores[here], targets[here], 1) for key, here in thirds.items()}
