"""The ways to share a batch among processes, and the bytes that each of them sends: counted, and calculated."""

import pickle

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from minclip.chunked_loss import chunked_sigmoid_loss, chunked_softmax_loss
from minclip.sigmoid_loss import sigmoid_loss
from minclip.softmax_loss import softmax_loss

ALL_GATHER, RING_SOFTMAX, RING_SIGMOID = "all-gather softmax", "ring softmax", "ring sigmoid"
MILLION = {"batch_size": 1024 * 1024, "dim": 768}


class _Gather(torch.autograd.Function):
    """The blocks of all processes, one below the other; backward adds up what all of them say of the own block."""

    @staticmethod
    def forward(ctx, block):
        blocks = [torch.empty_like(block) for _ in range(dist.get_world_size())]
        dist.all_gather(blocks, block)
        return torch.cat(blocks)  # [B, D]

    @staticmethod
    def backward(ctx, gradient):
        everyones = torch.empty_like(gradient, memory_format=torch.contiguous_format)
        dist.all_to_all_single(everyones, gradient.contiguous())
        return everyones.view(dist.get_world_size(), -1, gradient.shape[1]).sum(0)  # [B/W, D]


def all_gather_softmax_loss(image: Tensor, text: Tensor, logit_scale: Tensor) -> Tensor:
    """CLIP's loss of the own images and texts, `[B/W, D]` each, among those of all processes."""
    images, texts = _Gather.apply(image), _Gather.apply(text)  # [B, D]
    targets = torch.arange(len(image)) + dist.get_rank() * len(image)
    rows, columns = logit_scale.exp() * image @ texts.T, logit_scale.exp() * text @ images.T  # [B/W, B]
    return (F.cross_entropy(rows, targets) + F.cross_entropy(columns, targets)) / 2


VARIANTS = {  # the function, and what its mean over the processes has to be
    ALL_GATHER: (all_gather_softmax_loss, softmax_loss),
    RING_SOFTMAX: (chunked_softmax_loss, softmax_loss),
    RING_SIGMOID: (chunked_sigmoid_loss, sigmoid_loss),
}


def bytes_sent(variant: str, processes: int, batch_size: int, dim: int) -> dict[str, int]:
    """Bytes that each of W processes sends for one loss with its gradients, in float32, by what they hold.

    all-gather: a block of images and one of texts reach the W - 1 others, and their gradients come back from there.
    A ring's blocks of texts hop W - 1 times; what follows a block to be added up (its gradient; for softmax, on a
    first round, its normalisers) hops W times, until it is home. On the softmax's second round the finished
    normalisers travel with their texts. The chunked losses' checks of their arguments are left out.
    """
    w = processes
    if w == 1:
        return {"features": 0, "gradients": 0, "normalisers": 0}
    number = 4 * (batch_size // w)  # bytes of one number for each pair of a block
    if variant == ALL_GATHER:
        return {"features": 2 * (w - 1) * number * dim, "gradients": 2 * (w - 1) * number * dim, "normalisers": 0}
    if variant == RING_SOFTMAX:
        features, normalisers = 2 * (w - 1) * number * dim, (w + w - 1) * number
        return {"features": features, "gradients": w * number * dim, "normalisers": normalisers}
    if variant == RING_SIGMOID:
        return {"features": (w - 1) * number * dim, "gradients": w * number * dim, "normalisers": 0}
    raise ValueError(f"unknown variant {variant!r}; there are {', '.join(VARIANTS)}")


class Sent:
    """`with Sent() as sent: ...`, then the bytes that this process sent to others, seen by wrapping torch's calls.

    sent.tensors: those of tensors; sent.checks: those of Python objects. A gathered block counts W - 1 times.
    """

    def __enter__(self) -> "Sent":
        others, self.tensors, self.checks = dist.get_world_size() - 1, 0, 0
        count = {
            "all_gather": lambda outputs, tensor, **_: tensor.nbytes * others,
            "all_to_all_single": lambda output, tensor, **_: tensor.nbytes * others // (others + 1),
            "batch_isend_irecv": lambda transfers: sum(t.tensor.nbytes for t in transfers if t.op is dist.isend),
            "all_gather_object": lambda outputs, item, **_: len(pickle.dumps(item)) * others,
        }
        self.originals = {name: getattr(dist, name) for name in count}
        for name, size_of in count.items():
            setattr(dist, name, self._wrap(self.originals[name], size_of))
        return self

    def __exit__(self, *_) -> None:
        for name, original in self.originals.items():
            setattr(dist, name, original)

    def _wrap(self, original, size_of):
        kind = "checks" if original.__name__ == "all_gather_object" else "tensors"

        def call(*arguments, **options):
            setattr(self, kind, getattr(self, kind) + size_of(*arguments, **options))
            return original(*arguments, **options)

        return call


def arithmetic() -> list[dict]:
    """What `bytes_sent` says of a million pairs on up to 1,024 devices: nothing of this was run."""
    cases = [{"variant": variant, "processes": w, **MILLION} for w in (16, 128, 1024) for variant in VARIANTS]
    return [case | {"bytes_by_kind": bytes_sent(**case)} for case in cases]
