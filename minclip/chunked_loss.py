"""The two losses without the B x B matrix: tile by tile in a process, in a ring of neighbours across processes.

The same values and gradients as `softmax_loss` and `sigmoid_loss`, in memory that grows with B, not with B^2.
What the sigmoid buys is visible in the code: a pair's loss needs nothing but the pair, so each tile is visited
once and its gradient is formed on the spot (3 matrix products in all). A pair's softmax needs the normalisers
of its row and its column, so every tile is visited twice (4 products).

Both losses say of the positive logit p_i of row i, where `row_i` is log sum exp over the row's negatives:
    sigmoid: softplus(-p_i) + the sum over the negatives of softplus(logit)     softmax: softplus(row_i - p_i)
so the B positives are handled on their own, and the tiles hold negatives only.

SigLIP section 3.3 and Figure 1 (the ring, which the softmax can use as well: Inf-CL, arXiv 2410.17243).
"""

from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def chunked_sigmoid_loss(
    image_features: Tensor,
    text_features: Tensor,
    logit_scale: Tensor,
    logit_bias: Tensor,
    chunk_size: int | None = None,
    labels: Tensor | None = None,
    group: dist.ProcessGroup | None = None,
) -> Tensor:
    """`sigmoid_loss`, in one pass over the tiles (SigLIP Algorithm 1 and section 3.3).

    image_features, text_features: `[B, D]`, L2-normalised, pair i in row i of both; with W processes each
    passes its own `[B/W, D]`. logit_scale: scalar, the *log* inverse temperature. logit_bias: scalar, added.
    chunk_size: side of a tile, in pairs (default: 512 on a CPU, 4096 elsewhere). labels: optional, long `[B]`
    (own pairs only: `[B/W]`); two pairs of one label are not each other's negatives. group: the processes that
    share the batch (default: all, so all must call; a group of one keeps to itself).

    Returns a scalar in nats, float32 at least: with W processes the terms of the own images / (B/W), so that
    the mean over processes is the loss of the whole batch, and DistributedDataParallel's mean of the gradients
    its gradient. Raises ValueError, on every process, for features that are not finite floating point
    matrices of one shape, and when processes disagree on it.
    """
    inputs = (image_features, text_features, logit_scale.reshape(()), logit_bias.reshape(()))
    return _loss(_sigmoid, inputs, chunk_size, labels, group)


def chunked_softmax_loss(
    image_features: Tensor,
    text_features: Tensor,
    logit_scale: Tensor,
    chunk_size: int | None = None,
    labels: Tensor | None = None,
    group: dist.ProcessGroup | None = None,
) -> Tensor:
    """`softmax_loss`, in two passes over the tiles (CLIP Figure 3).

    Arguments, result and errors as in `chunked_sigmoid_loss`, without a bias. With W processes the result
    holds the terms of the own images (rows) and of the own texts (columns), / (2 B/W).
    """
    return _loss(_softmax, (image_features, text_features, logit_scale.reshape(())), chunk_size, labels, group)


def _sigmoid(image, text, logit_scale, bias, labels, chunk, ring, with_gradient):
    """The local loss, and the gradients of its sum over the processes: one visit to every tile."""
    scaled = logit_scale.exp() * image  # [B, D]
    positive = (scaled * text).sum(1) + bias  # [B]
    pull = -torch.sigmoid(-positive)[:, None]  # [B, 1], d loss / d positive
    loss, grad_bias = softplus(-positive).sum(), pull.sum()
    grad_scaled = pull * text  # [B, D]

    def visit(own: bool, text: Tensor, text_labels: Tensor | None) -> Tensor | None:
        text = text.to(scaled.dtype)
        grad_text = pull * scaled if own else torch.zeros_like(text)  # [B, D]
        for rows, columns, logits in negative_tiles(scaled, text, labels, text_labels, own, chunk):
            logits += bias
            loss.add_(softplus(logits).sum())
            if with_gradient:
                push = logits.sigmoid_()  # [m, n], d loss / d logit
                grad_bias.add_(push.sum())
                grad_scaled[rows].addmm_(push, text[columns])
                grad_text[columns].addmm_(push.T, scaled[rows])
        return grad_text if with_gradient else None

    grad_text = ring.round_trip(visit, torch.add, text, labels)
    return _finish(len(image), loss, scaled, logit_scale, grad_scaled, grad_text, grad_bias)


def _softmax(image, text, logit_scale, labels, chunk, ring, with_gradient):
    """The local loss, and the gradients of its sum over the processes: normalisers first, then gradients."""
    scaled = logit_scale.exp() * image  # [B, D]
    positive = (scaled * text).sum(1)  # [B]
    row = torch.full_like(positive, -torch.inf)  # [B], log of the sum of exponentials over the negatives

    def normalise(own: bool, text: Tensor, text_labels: Tensor | None) -> Tensor:
        text = text.to(scaled.dtype)
        column = torch.full_like(row, -torch.inf)  # [B]
        for rows, columns, logits in negative_tiles(scaled, text, labels, text_labels, own, chunk):
            row[rows] = torch.logaddexp(row[rows], logits.logsumexp(1))
            column[columns] = torch.logaddexp(column[columns], logits.logsumexp(0))
        return column

    column = ring.round_trip(normalise, torch.logaddexp, text, labels)
    loss = (softplus(row - positive) + softplus(column - positive)).sum() / 2
    if not with_gradient:
        return _finish(len(image), loss, scaled, logit_scale, None, None)

    pull = -(torch.sigmoid(row - positive) + torch.sigmoid(column - positive))[:, None] / 2  # [B, 1]
    row, column = torch.logaddexp(row, positive), torch.logaddexp(column, positive)  # now over all pairs
    grad_scaled = pull * text  # [B, D]

    def visit(own: bool, text: Tensor, text_labels: Tensor | None, column: Tensor) -> Tensor:
        text = text.to(scaled.dtype)
        grad_text = pull * scaled if own else torch.zeros_like(text)  # [B, D]
        for rows, columns, logits in negative_tiles(scaled, text, labels, text_labels, own, chunk):
            push = (logits - column[columns]).exp_()  # [m, n], the softmax over a text's images
            push.add_(logits.sub_(row[rows, None]).exp_()).div_(2)  # and that over an image's texts
            grad_scaled[rows].addmm_(push, text[columns])
            grad_text[columns].addmm_(push.T, scaled[rows])
        return grad_text

    grad_text = ring.round_trip(visit, torch.add, text, labels, column)
    return _finish(len(image), loss, scaled, logit_scale, grad_scaled, grad_text)


def _finish(batch, loss, scaled, logit_scale, grad_scaled, grad_text, *grad_bias):
    """Divide by the (local) batch size, and turn the gradient of the scaled features into those of both factors."""
    if grad_text is None:
        return loss / batch, ()
    # The loss sees scale and images only as their product: d loss / d log scale = <scaled, d loss / d scaled>.
    grad_scale = (scaled * grad_scaled).sum()
    grad_image = grad_scaled.mul_(logit_scale.exp() / batch)
    return loss / batch, (grad_image, grad_text.div_(batch), grad_scale / batch, *(g / batch for g in grad_bias))


def softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)), safe at both ends. torch's own threshold of 20 costs exp(-20) = 2e-9 of accuracy."""
    return F.softplus(x, threshold=40)


def negative_tiles(
    images: Tensor, texts: Tensor, image_labels: Tensor | None, text_labels: Tensor | None, own: bool, chunk: int
) -> Iterator[tuple[slice, slice, Tensor]]:
    """Visit the logits of all negative pairs: yields (rows, columns, logits `[m, n]`), m and n at most `chunk`.

    images (already scaled), texts: `[B, D]`; own: whether pair i of both is a positive. A pair that is no
    negative has logit -infinity, which adds nothing to a sum of exponentials or of softplus. Every tile
    lies in the same buffer, which stays in the processor's cache: use it up before asking for the next.
    """
    buffer = images.new_empty(min(chunk, len(images)) * min(chunk, len(texts)))
    for top in range(0, len(images), chunk):
        rows = slice(top, top + chunk)
        for left in range(0, len(texts), chunk):
            columns = slice(left, left + chunk)
            a, b = images[rows], texts[columns]  # [m, D], [n, D]
            logits = torch.mm(a, b.T, out=buffer[: len(a) * len(b)].view(len(a), len(b)))
            if image_labels is not None:  # the positives, too, have equal labels
                logits.masked_fill_(image_labels[rows, None] == text_labels[columns], -torch.inf)
            elif own:
                logits.diagonal(top - left).fill_(-torch.inf)  # empty where the tile misses the diagonal
            yield rows, columns, logits


class Ring:
    """W processes in a circle: what one passes on, the next receives (SigLIP Figure 1)."""

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        self.group, distributed = group, dist.is_available() and dist.is_initialized()
        self.size = dist.get_world_size(group) if distributed else 1
        self.rank = dist.get_rank(group) if distributed else 0
        if self.rank < 0:
            raise ValueError("this process is no member of the group it passes; pass a group it belongs to, or none")

    def neighbour(self, distance: int) -> int:
        """Global rank of the process `distance` places further round the circle."""
        rank = (self.rank + distance) % self.size
        return rank if self.group is None else dist.get_global_rank(self.group, rank)

    def pass_on(self, tensors: tuple[Tensor | None, ...]) -> Callable[[], tuple[Tensor | None, ...]]:
        """Start sending to the next process; call the result to wait for what the previous one sent."""
        if self.size == 1:
            return lambda: tensors
        arriving = tuple(None if tensor is None else torch.empty_like(tensor) for tensor in tensors)
        transfers = [(dist.isend, tensor, self.neighbour(1)) for tensor in tensors if tensor is not None]
        transfers += [(dist.irecv, tensor, self.neighbour(-1)) for tensor in arriving if tensor is not None]
        requests = dist.batch_isend_irecv([dist.P2POp(*transfer, group=self.group) for transfer in transfers])

        def wait() -> tuple[Tensor | None, ...]:
            for request in requests:
                request.wait()
            return arriving

        return wait

    def round_trip(self, visit: Callable, combine: Callable, *block: Tensor | None) -> Tensor | None:
        """Take the block of every process to every process, and bring home what they all have to say of it.

        visit(own, *block) returns this process's part for the owner of the block (a tensor, or None always).
        The part follows its block at one step's distance, combined with those of the processes before. Both
        travel while the next block is computed: W - 1 hops for a block, W for the part, whose last leads home.
        """
        parts = None
        for step in range(self.size):
            upcoming = self.pass_on(block) if step + 1 < self.size else None
            part = visit(step == 0, *block)
            if part is not None:
                parts = self.pass_on((part if parts is None else combine(part, *parts()),))
            if upcoming is not None:
                block = upcoming()
        return None if parts is None else parts()[0]

    def agree(self, problem: str | None, **facts: object) -> None:
        """Raise the same ValueError on every process if one has a problem or the facts differ: nobody waits."""
        everyone = [(problem, facts)]
        if self.size > 1:
            everyone = [None] * self.size
            dist.all_gather_object(everyone, (problem, facts), group=self.group)
        for rank, (problem, _) in enumerate(everyone):
            if problem is not None:
                raise ValueError(problem if self.size == 1 else f"process {rank}: {problem}")
        for name in facts:
            values = [theirs[name] for _, theirs in everyone]
            if any(value != values[0] for value in values):
                raise ValueError(f"{name} must be the same on every process, but processes 0, 1, ... have {values}")


class _KnownGradient(torch.autograd.Function):
    """A scalar whose gradients are computed along with it: backward has only to multiply."""

    @staticmethod
    def forward(ctx, compute, *inputs):
        loss, gradients = compute(*inputs)
        ctx.save_for_backward(*gradients)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_loss):
        return None, *(grad_loss * gradient for gradient in ctx.saved_tensors)


def _loss(formula: Callable, inputs: tuple[Tensor, ...], chunk_size, labels, group) -> Tensor:
    """Check the inputs on all processes, then compute in float32 at least."""
    ring, device = Ring(group), inputs[0].device
    with_gradient = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs)
    ring.agree(
        _problem(*inputs[:2], inputs[2:], chunk_size, labels),
        **{"the shape of the features [B/W, D]": tuple(inputs[0].shape), "the text features' dtype": inputs[1].dtype},
        **{"whether labels are given": labels is not None, "whether gradients are needed": with_gradient},
    )
    if labels is not None:
        labels = labels.to(device, torch.long)
    chunk = chunk_size or (512 if device.type == "cpu" else 4096)
    # bfloat16 cannot hold a sum over many pairs; in autocast, its matrix products would be bfloat16 as well.
    dtype = torch.promote_types(torch.promote_types(inputs[0].dtype, inputs[1].dtype), torch.float32)

    def compute(image: Tensor, text: Tensor, *scalars: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        with torch.autocast(device.type, enabled=False):
            floats = [tensor.to(dtype) for tensor in (image, *scalars)]
            ...

    return _KnownGradient.apply(compute, *inputs)
