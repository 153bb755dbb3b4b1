"""A contrastive batch larger than memory: micro-batches through the towers, one loss over the whole batch.

Plain accumulation would show each micro-batch only its own negatives. GradCache (Gao et al. 2021,
arXiv 2101.06983, section 3) cuts the graph at the features: they are small, the towers' activations are not.
"""

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor, nn


def cached_step(
    model: nn.Module, batch: tuple[Tensor, ...], loss_fn: Callable[..., Tensor], micro_batch_size: int
) -> Tensor:
    """Forward and backward over a batch of B pairs with the activations of `micro_batch_size` pairs in memory.

    model(*batch) returns (image_features, text_features, logit_scale[, logit_bias]), and so does
    DistributedDataParallel around it; batch: (images `[B, ...]`, ids `[B, L]`[, kept patches `[B, K]`]), those of
    this process;
    loss_fn(image_features, text_features, *scalars) -> scalar. Returns the detached loss and adds to the
    parameters' `.grad` what autograd would, had it kept the graphs of all the micro-batches: random state is
    replayed, so dropout may be on, and afterwards it stands as after one forward. The price is that forward,
    a second time. Wrap the call in autocast if you wish. micro_batch_size: B or more is one micro-batch and
    costs nothing extra. Raises ValueError when it is under 1 or the tensors of the batch differ in length.

    Statistics over the batch (BatchNorm) are those of each micro-batch, and are gathered twice.
    """
    sizes = [len(part) for part in batch]
    if micro_batch_size < 1:
        raise ValueError(f"micro_batch_size is {micro_batch_size}; pass how many pairs fit into memory, 1 or more")
    if len(set(sizes)) != 1 or not sizes[0]:
        raise ValueError(f"the tensors of the batch have {sizes} rows; they must have the same number, 1 or more")
    if micro_batch_size >= sizes[0]:
        loss = loss_fn(*model(*batch))
        loss.backward()
        return loss.detach()
    micro_batches = list(zip(*(part.split(micro_batch_size) for part in batch)))
    device = next(model.parameters()).device

    # 1. Features without a graph. What dropout draws here, it must draw again in step 3.
    states, outputs = [], []
    with torch.no_grad():
        for micro_batch in micro_batches:
            states.append(random_state(device))
            outputs.append(model(*micro_batch))
    torch.clear_autocast_cache()  # before pytorch#165068, casts made here were reused below: without a graph

    # 2. One loss over the whole batch. Its gradient stops at the features and the scalars.
    image_features, text_features = (torch.cat(parts) for parts in list(zip(*outputs))[:2])  # [B, D]
    leaves = [leaf.detach().requires_grad_() for leaf in (image_features, text_features, *outputs[0][2:])]
    loss = loss_fn(*leaves)
    image_gradient, text_gradient, *scalar_gradients = torch.autograd.grad(loss, leaves)
    after = random_state(device)

    # 3. Each micro-batch again, now with its graph, which takes the gradient on from the features. Only the
    # last one lets DistributedDataParallel average, and only there the scalars get theirs: once, not k times.
    micro_gradients = zip(image_gradient.split(micro_batch_size), text_gradient.split(micro_batch_size))
    for k, (micro_batch, state, gradients) in enumerate(zip(micro_batches, states, micro_gradients)):
        last = k + 1 == len(micro_batches)
        with nullcontext() if last or not hasattr(model, "no_sync") else model.no_sync():
            restore_random_state(device, state)
            outputs = model(*micro_batch)
            received = zip(outputs, (*gradients, *scalar_gradients) if last else gradients)
            trained = [(output, gradient) for output, gradient in received if output.requires_grad]
            if trained:
                torch.autograd.backward(*zip(*trained))
    restore_random_state(device, after)
    return loss.detach()


def random_state(device: torch.device) -> tuple[Tensor, Tensor | None]:
    """The state of torch's generators on the CPU and, if the model lives there, on the GPU."""
    return torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None


def restore_random_state(device: torch.device, state: tuple[Tensor, Tensor | None]) -> None:
    """Draw again from where `random_state` was called."""
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1], device)
