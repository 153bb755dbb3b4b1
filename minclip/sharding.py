"""Fully sharded data parallelism (FSDP): each of W processes keeps 1/W of every weight, gradient and optimizer state.

DistributedDataParallel keeps all of them on every device, 16 bytes a parameter with AdamW in float32. Here a block's
weights are gathered just before the block computes and dropped right after; backward gathers them again, and hands
each process its part of the gradient, averaged (ZeRO stage 3, Rajbhandari et al. 2019, arXiv 1910.02054, section 5.3;
torch's `fully_shard`). The loss and its ring see nothing of it. What is written is whole, so a run may be resumed,
and a model loaded, on any number of processes, with FSDP or without.
"""

import torch
from torch import Tensor
from torch import distributed as dist
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.utils._pytree import tree_map

from minclip.clip import CLIP, build_clip


def shard(model: CLIP, optimizer: torch.optim.Optimizer) -> CLIP:
    """Cut towers, projections and the optimizer's state, in place, into rows of which each process keeps its part.

    Both must be the same on every process. Returns the model. The loss's scalars stay whole: there is nothing to cut.
    """
    model.to(memory_format=torch.contiguous_format)  # rows of a channels_last tensor do not lie together
    before, towers = list(model.parameters()), (model.image_tower, model.text_tower)
    # Blocks first: a module gathers what none inside it does. Each tower is a root of its own, so it can run alone.
    for module in (*towers[0].blocks, *towers[1].blocks, *towers, model.image_projection, model.text_projection):
        fully_shard(module)
    after = dict(zip(before, model.parameters()))
    for p in (p for p in before if after[p] is p):  # the scalars: nobody else averages their gradients
        p.register_post_accumulate_grad_hook(lambda p: dist.all_reduce(p.grad.div_(dist.get_world_size())))
    for group in optimizer.param_groups:
        group["params"] = [after[p] for p in group["params"]]
    for p in before:
        optimizer.state[after[p]] = {k: cut_like(x, after[p]) for k, x in optimizer.state.pop(p, {}).items()}
    return model


def own(tensor: Tensor) -> Tensor:
    """What this process keeps of a tensor: all of one that is not sharded."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor. If it is sharded, all processes must call, or those that do wait for ever."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def cut_like(tensor: Tensor, sharded: Tensor) -> Tensor:
    """A tensor that is the same on every process, cut as the one of its shape is that is sharded; else as it is."""
    if tensor.shape != sharded.shape or not hasattr(sharded, "device_mesh"):
        return tensor
    return DTensor.from_local(tensor.contiguous(), sharded.device_mesh).redistribute(placements=sharded.placements)


def gather_state(state: dict, keep: bool) -> dict:
    """`state` (dicts and lists of tensors and numbers) with its sharded tensors whole, on the CPU. All must call.

    keep: whether this process needs them; else they hold nothing. Gathered one by one, so that no device needs room
    for more than one. What is not sharded stays as it is.
    """

    def gather(x: Tensor) -> Tensor:
        # As a convolution's weights lie: fused AdamW reads its state in the order of the weight without looking.
        layout = torch.channels_last if x.ndim == 4 else torch.preserve_format
        return whole(x).to("cpu" if keep else "meta", memory_format=layout)

    return tree_map(lambda x: gather(x) if hasattr(x, "full_tensor") else x, state)


def gather_model(model: CLIP) -> CLIP:
    """A model that is not sharded, with the same weights, on every process. All must call."""
    plain = build_clip(model.config).to(model.logit_scale)
    plain.load_state_dict({name: whole(tensor) for name, tensor in model.state_dict().items()})
    return plain
