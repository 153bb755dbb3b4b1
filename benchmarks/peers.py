"""Who competes: minclip's losses, open_clip's, and the floor under all of them."""

import importlib.util
import inspect
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from minclip.chunked_loss import chunked_sigmoid_loss, chunked_softmax_loss
from minclip.sigmoid_loss import sigmoid_loss
from minclip.softmax_loss import softmax_loss

CHUNKED, TEXTBOOK = "minclip chunked", "minclip textbook"
PEER = {"softmax": "open_clip ClipLoss", "sigmoid": "open_clip SigLipLoss"}
CHUNKED_PEER = "open_clip SigLipLoss chunked"  # its option chunk_size, which 3.3.0 does not have yet
CHUNKED_PEER_ROWS = 512


@cache
def open_clip_losses():
    """open_clip's module of losses alone: the whole package would import torchvision, timm and more."""
    package = importlib.util.find_spec("open_clip")
    if package is None:
        raise SystemExit("error: the losses are compared with open_clip's; install it: pip install -e '.[bench]'")
    spec = importlib.util.spec_from_file_location("open_clip_loss", Path(package.origin).with_name("loss.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def variants(loss: str) -> dict[str, Callable[..., Tensor]]:
    """What computes `loss`, by name: functions of image and text features, *log* scale and, for sigmoid, bias."""
    theirs = open_clip_losses()
    if loss == "softmax":
        peer = _with_log_scale(theirs.ClipLoss())
        return {CHUNKED: chunked_softmax_loss, TEXTBOOK: softmax_loss, PEER[loss]: peer}
    peer = _with_log_scale(theirs.SigLipLoss())
    found = {CHUNKED: chunked_sigmoid_loss, TEXTBOOK: sigmoid_loss, PEER[loss]: peer}
    if "chunk_size" in inspect.signature(theirs.SigLipLoss).parameters:
        found[CHUNKED_PEER] = _with_log_scale(theirs.SigLipLoss(chunk_size=CHUNKED_PEER_ROWS))
    return found


def _with_log_scale(peer: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """open_clip's losses take exp(logit_scale)."""
    return lambda image, text, logit_scale, *bias: peer(image, text, logit_scale.exp(), *bias)


def floor(loss: str, image: Tensor, text: Tensor, tile: int) -> Callable[[], tuple[Tensor, Tensor]]:
    """A function that does the matrix products of a chunked loss and nothing else: 3 for sigmoid, 4 for softmax.

    image `[R, D]`, text `[B, D]`; with S = image text^T, each call adds S text and S^T image to two matrices that
    it returns. They and the room for a tile of S exist before the first call.
    """
    grad_image, grad_text = torch.zeros_like(image), torch.zeros_like(text)  # [R, D], [B, D]
    room = image.new_empty(min(tile, len(image)) * min(tile, len(text)))

    def products() -> tuple[Tensor, Tensor]:
        for last in {"sigmoid": (True,), "softmax": (False, True)}[loss]:
            for top in range(0, len(image), tile):
                for left in range(0, len(text), tile):
                    a, b = image[top : top + tile], text[left : left + tile]  # [m, D], [n, D]
                    logits = torch.mm(a, b.T, out=room[: len(a) * len(b)].view(len(a), len(b)))
                    if last:
                        grad_image[top : top + tile].addmm_(logits, b)
                        grad_text[left : left + tile].addmm_(logits.T, a)
        return grad_image, grad_text

    return products
