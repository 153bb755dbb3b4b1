"""The two losses without the B x B matrix: tile by tile in a process, in a ring of neighbours across processes.

The same values and gradients as `softmax_loss` and `sigmoid_loss`, in memory that grows with B, not with B^2.
What the sigmoid buys is visible in the code: a pair's loss needs nothing but the pair, so every tile is visited
once and its gradient is formed on the spot (3 matrix products in all). A pair's softmax needs the normalisers
of its row and its column, so every tile is visited twice (4 products).

Both losses treat the positive logit p of a row apart from the row's B - 1 negatives:
    sigmoid: softplus(-p) + the sum over the negatives of softplus(logit)
    softmax: softplus(log of the sum over the negatives of exp(logit) - p), and the same for the columns
so the tiles only have to visit negatives. SigLIP section 3.3 and Figure 1 describe the ring; the softmax can
use it as well (Inf-CL, arXiv 2410.17243).
"""

from collections.abc import Callable, Iterator

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
    """`sigmoid_loss` in one pass over the tiles (SigLIP Algorithm 1 and section 3.3).

    image_features, text_features: `[B, D]`, L2-normalised, pair i in row i of both; each of W processes passes
    its own `[B/W, D]`. logit_scale: scalar, the *log* inverse temperature. logit_bias: scalar, added.
    chunk_size: side of a tile, in pairs (default: 512 on a CPU, 4096 elsewhere). labels: optional, long `[B]`
    (`[B/W]`, those of the own pairs); two pairs of one label are not each other's negatives. group: the
    processes that share the batch. By default all of them: then all must call, or those that do wait for ever.

    Returns a scalar in nats, float32 or float64: of W processes, each gets the terms of its own images divided
    by B/W. So the mean over the processes is the loss of the whole batch, and the mean of the gradients, which
    DistributedDataParallel takes, is its gradient. Raises ValueError, and on every process, for features that
    are not finite floating point matrices of one shape and for processes whose shapes or dtypes differ.
    """
    return _loss(_sigmoid, image_features, text_features, (logit_scale, logit_bias), chunk_size, labels, group)


def chunked_softmax_loss(
    image_features: Tensor,
    text_features: Tensor,
    logit_scale: Tensor,
    chunk_size: int | None = None,
    labels: Tensor | None = None,
    group: dist.ProcessGroup | None = None,
) -> Tensor:
    """`softmax_loss` in two passes over the tiles (CLIP Figure 3).

    Arguments, result and errors as in `chunked_sigmoid_loss`, without the bias. Of W processes, each gets the
    terms of its own images (rows) and of its own texts (columns), divided by 2 B/W.
    """
    return _loss(_softmax, image_features, text_features, (logit_scale,), chunk_size, labels, group)


def _sigmoid(image, text, logit_scale, bias, labels, chunk, ring, with_gradient):
    """One visit to every tile: the loss and, as no pair waits for another, the gradients of its logits."""
    scaled = logit_scale.exp() * image  # [B, D]
    positive = (scaled * text).sum(1) + bias  # [B]
    loss = softplus(-positive)  # [B], what each image's pairs cost
    pull = -torch.sigmoid(-positive)  # [B], d loss / d positive
    grad_bias, grad_scaled = pull.clone(), pull[:, None] * text  # [B], [B, D]

    def visit(own: bool, text: Tensor, text_labels: Tensor | None) -> Tensor | None:
        text = text.to(scaled.dtype)
        grad_text = pull[:, None] * scaled if own else torch.zeros_like(text)  # [B, D]
        for rows, columns, logits in negative_tiles(scaled, text, labels, text_labels, own, chunk):
            logits += bias
            loss[rows] += softplus(logits).sum(1)
            if with_gradient:
                push = logits.sigmoid_()  # [m, n], d loss / d logit
                grad_bias[rows] += push.sum(1)
                grad_scaled[rows].addmm_(push, text[columns])
                grad_text[columns].addmm_(push.T, scaled[rows])
        return grad_text if with_gradient else None

    grad_text = ring.round_trip(visit, torch.add, text, labels)
    if not with_gradient:
        return loss.mean(), ()
    return loss.mean(), (*factor_gradients(logit_scale, scaled, grad_scaled, grad_text, len(image)), grad_bias.mean())


def _softmax(image, text, logit_scale, labels, chunk, ring, with_gradient):
    """Two visits to every tile: first the normalisers of its rows and columns, then the gradients."""
    scaled = logit_scale.exp() * image  # [B, D]
    positive = (scaled * text).sum(1)  # [B]
    row = torch.full_like(positive, -torch.inf)  # [B], log of the sum of exp over an image's negatives

    def normalise(own: bool, text: Tensor, text_labels: Tensor | None) -> Tensor:
        text = text.to(scaled.dtype)
        column = torch.full_like(row, -torch.inf)  # [B], the same over a text's negatives here
        for rows, columns, logits in negative_tiles(scaled, text, labels, text_labels, own, chunk):
            row[rows] = torch.logaddexp(row[rows], logits.logsumexp(1))
            column[columns] = torch.logaddexp(column[columns], logits.logsumexp(0))
        return column

    column = ring.round_trip(normalise, torch.logaddexp, text, labels)  # [B], over all negatives of the own texts
    loss = (softplus(row - positive) + softplus(column - positive)).mean() / 2
    if not with_gradient:
        return loss, ()

    pull = -torch.sigmoid(row - positive) - torch.sigmoid(column - positive)  # [B]
    row, column = torch.logaddexp(row, positive), torch.logaddexp(column, positive)  # now over all pairs
    grad_scaled = pull[:, None] * text  # [B, D]

    def visit(own: bool, text: Tensor, text_labels: Tensor | None, column: Tensor) -> Tensor:
        text = text.to(scaled.dtype)
        grad_text = pull[:, None] * scaled if own else torch.zeros_like(text)  # [B, D]
        for rows, columns, logits in negative_tiles(scaled, text, labels, text_labels, own, chunk):
            push = (logits - column[columns]).exp_()  # [m, n], the share of each image among a text's images
            push += logits.sub_(row[rows, None]).exp_()  # and of each text among an image's texts
            grad_scaled[rows].addmm_(push, text[columns])
            grad_text[columns].addmm_(push.T, scaled[rows])
        return grad_text

    grad_text = ring.round_trip(visit, torch.add, text, labels, column)
    return loss, factor_gradients(logit_scale, scaled, grad_scaled, grad_text, 2 * len(image))


def factor_gradients(logit_scale, scaled, grad_scaled, grad_text, terms) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of images, texts and log scale from those of the scaled images and the texts, over `terms`.

    The loss sees scale and images as their product only, so d loss / d log scale = <scaled, d loss / d scaled>.
    """
    grad_scale = (scaled * grad_scaled).sum() / terms
    return grad_scaled.mul_(logit_scale.exp() / terms), grad_text.div_(terms), grad_scale


def softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)), safe at both ends. (torch's own threshold of 20 would cost exp(-20) = 2e-9 of accuracy.)"""
    return F.softplus(x, threshold=40)


def negative_tiles(
    images: Tensor, texts: Tensor, image_labels: Tensor | None, text_labels: Tensor | None, own: bool, chunk: int
) -> Iterator[tuple[slice, slice, Tensor]]:
    """Visit the logits of all negative pairs: yields (rows, columns, logits `[m, n]`), m and n at most `chunk`.

    images, already scaled, and texts: `[B, D]`; own: whether pair i of both is a positive. A pair that is no
    negative has logit -infinity, which adds nothing to a sum of exp or of softplus. All tiles share one
    buffer, so that it stays in the processor's cache: be done with a tile before asking for the next.
    """
    buffer = images.new_empty(min(chunk, len(images)) * min(chunk, len(texts)))
    for top in range(0, len(images), chunk):
        rows = slice(top, top + chunk)
        for left in range(0, len(texts), chunk):
            columns = slice(left, left + chunk)
            a, b = images[rows], texts[columns]  # [m, D], [n, D]
            # Autocast, which would make it bfloat16, leaves a product into a given tensor alone.
            logits = torch.mm(a, b.T, out=buffer[: len(a) * len(b)].view(len(a), len(b)))
            if image_labels is not None:  # a positive's labels are equal as well
                logits.masked_fill_(image_labels[rows, None] == text_labels[columns], -torch.inf)
            elif own:
                logits.diagonal(top - left).fill_(-torch.inf)  # empty where the tile misses the diagonal
            yield rows, columns, logits


class Ring:
    """W processes in a circle: what one passes on, the next one receives (SigLIP Figure 1)."""

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        distributed = dist.is_available() and dist.is_initialized()
        self.group = group
        self.size = dist.get_world_size(group) if distributed else 1
        self.rank = dist.get_rank(group) if distributed else 0
        if self.rank < 0:
            raise ValueError("this process is no member of the group that it passes; pass one that it belongs to")

    def neighbour(self, distance: int) -> int:
        """Global rank of the process that sits `distance` places further on."""
        rank = (self.rank + distance) % self.size
        return rank if self.group is None else dist.get_global_rank(self.group, rank)

    def pass_on(self, tensors: tuple[Tensor | None, ...]) -> Callable[[], tuple[Tensor | None, ...]]:
        """Start sending to the next process; call the result to wait for what the previous one has sent."""
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
        """Take every process's block round the circle, and bring home what all of them have to add to it.

        visit(own, *block) returns a process's part of it: a tensor (on every process) or None (on every process).
        The parts follow their block one step behind, combined with those of the processes that it has passed;
        both travel while the next block is computed on. A block takes W - 1 hops, its parts one more: home.
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

    def agree(self, problem: str | None, facts: dict[str, object]) -> None:
        """Raise ValueError on every process if one has a problem or the facts differ, so that none is left waiting."""
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
    """A scalar whose gradients come along with it, so that backward has only to multiply."""

    @staticmethod
    def forward(ctx, compute, *inputs):
        loss, gradients = compute(*inputs)
        ctx.save_for_backward(*gradients)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_loss):
        return None, *(grad_loss * gradient for gradient in ctx.saved_tensors)


def _loss(formula, image_features, text_features, scalars, chunk_size, labels, group) -> Tensor:
    """Check the arguments of all processes, then compute in float32 at least."""
    ring, device = Ring(group), image_features.device
    with_gradient = torch.is_grad_enabled() and any(x.requires_grad for x in (image_features, text_features, *scalars))
    facts = {
        "the shape [B/W, D] of the features": tuple(image_features.shape),
        "the dtypes of the features": (image_features.dtype, text_features.dtype),
        "whether labels are given": labels is not None,
        "whether gradients are needed": with_gradient,
    }
    ring.agree(_problem(image_features, text_features, scalars, chunk_size, labels), facts)
    chunk = chunk_size or (512 if device.type == "cpu" else 4096)
    labels = None if labels is None else labels.to(device, torch.long).contiguous()
    dtype = torch.promote_types(torch.promote_types(image_features.dtype, text_features.dtype), torch.float32)

    def compute(image, text, *scalars):
        # bfloat16 can hold neither a logit nor a sum over many pairs. Only the texts keep their dtype: they
        # travel, and are converted on arrival.
        image, *scalars = (x.to(dtype) for x in (image, *scalars))
        return formula(image, text.contiguous(), *scalars, labels, chunk, ring, with_gradient)

    return _KnownGradient.apply(compute, image_features, text_features, *(x.reshape(()) for x in scalars))


def _problem(image_features, text_features, scalars, chunk_size, labels) -> str | None:
    """What is wrong with one process's arguments, in a sentence."""
    for name, x in (("image_features", image_features), ("text_features", text_features)):
        if x.dim() != 2 or not x.numel() or not x.is_floating_point():
            return f"{name} must be a floating point matrix [B, D], not {x.dtype} of shape {list(x.shape)}"
        if not x.detach().sum(dtype=torch.promote_types(x.dtype, torch.float32)).isfinite():
            return f"{name} holds NaN or infinity: the towers have diverged; try a lower learning rate"
    batch = [len(image_features)]
    if image_features.shape != text_features.shape or image_features.device != text_features.device:
        describe = [f"{list(x.shape)} on {x.device}" for x in (image_features, text_features)]
        return f"image_features are {describe[0]}, text_features {describe[1]}; row i of both must be pair i"
    for name, x in zip(("logit_scale", "logit_bias"), scalars):
        if x.numel() != 1 or not x.isfinite().all():
            return f"{name} must be one finite number, not {x.tolist()}"
    if not scalars[0].detach().float().exp().isfinite():
        return f"logit_scale is {scalars[0].item():g}, too large: pass the *log* of what multiplies the similarities"
    if chunk_size is not None and chunk_size < 1:
        return f"chunk_size is {chunk_size}; pass the side of a tile, 1 or more, or None for the default"
    if labels is not None and (list(labels.shape) != batch or labels.is_floating_point()):
        return f"labels must be one integer a pair, {batch}, not {labels.dtype} of shape {list(labels.shape)}"
    return None
