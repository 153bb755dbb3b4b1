"""Locked-image tuning: keep a trained image tower as it is, teach a text tower to speak about it (LiT, SigLIP 3.1).

The image tower neither learns nor changes, so each picture's features are computed once; a step then costs a
text tower alone, and large batches fit (SigLiT trains with a million pairs a step).
"""

from torch import Tensor, nn

from minclip.clip import CLIP
from minclip.data import plain
from minclip.zero_shot import evaluate_in_parts

DESIGNS = ("Lu", "Uu", "uu")


def lock(model: CLIP, projection: bool = True) -> CLIP:
    """Freeze the image tower of `model`, in place; returns the model.

    No parameter of the tower takes gradients, and it runs in evaluation mode (batch statistics stay) even
    after `model.train()`. projection: whether the linear map from the tower into the shared space learns.
    LiT calls that map optional; big_vision's LiT and SigLiT configurations have none, and the text tower's
    output has the image features' width. `projection=False` is the nearest to it here: a fixed random map.
    """
    model.image_tower.requires_grad_(False).eval()
    model.image_tower.register_forward_pre_hook(stay_in_evaluation)
    model.image_projection.requires_grad_(projection)
    return model


def stay_in_evaluation(tower: nn.Module, _inputs: tuple) -> None:
    """Undo what `model.train()` did to a locked tower, before it sees the pictures."""
    tower.eval()


def start_towers(model: CLIP, design: str, tower: nn.Module) -> CLIP:
    """Prepare the image tower of a fresh `model` in place, by LiT's letters (LiT Table 2); returns the model.

    The first letter is the image tower, the second the text tower: L, pretrained and locked; U, pretrained and
    tuned; u, from scratch and tuned. So `Lu`, which is LiT, gives the model the weights of `tower` and locks them,
    `Uu` gives the same weights and lets them learn, and `uu` leaves the model as it is. Raises ValueError for another
    design, or for a tower that is not the model's in shape, naming the first tensor that differs.
    """
    if design not in DESIGNS:
        raise ValueError(f"unknown design {design!r}; choose from {', '.join(DESIGNS)}")
    if design != "uu":
        check_same_shapes(model.image_tower.state_dict(), tower.state_dict())
        model.image_tower.load_state_dict(tower.state_dict())
    return lock(model) if design == "Lu" else model


class CachedImages(nn.Identity):
    """An image tower whose pictures are features `[B, output_dim]` already: CLIP on `cached_image_features`."""

    def __init__(self, output_dim: int) -> None:
        super().__init__()
        self.output_dim = output_dim


def cached_image_features(tower: nn.Module, images: Tensor, image_size: int, batch_size: int = 256) -> Tensor:
    """What the tower says of each picture, without augmentation: uint8 `[N, 3, H, W]` -> `[N, output_dim]`.

    In evaluation mode, on the tower's device and in its precision; the mode is restored.
    """
    like = next(tower.parameters())
    encode = lambda part: tower(plain(part.to(like.device), image_size).to(like.dtype))  # noqa: E731
    return evaluate_in_parts(tower, encode, images, batch_size)


def check_same_shapes(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    """Raise ValueError, naming the first tensor that differs, unless two state dicts have the same names and shapes."""
    for name in [*one, *other]:
        shapes = [list(state[name].shape) if name in state else "missing" for state in (one, other)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"two architectures: {name} is {shapes[0]} in the first and {shapes[1]} in the second")
