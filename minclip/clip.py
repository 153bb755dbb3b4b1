"""CLIP: two towers, one space (CLIP section 2, Figure 3)."""

import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minclip.checkpoint import write_atomically, write_json
from minclip.resnet import ResNet
from minclip.towers import TextTransformer, VisionTransformer, fit_positions, fit_text_positions

IMAGE_TOWERS = {"resnet": (32, (1, 1, 1)), "vit": (128, (4,))}  # default width and layers
LOSSES = ("softmax", "sigmoid")
FREE = ("image_size", "context_length", "loss", "dropout")  # what may change from a checkpoint to the next run
MAX_LOGIT_SCALE = math.log(100)  # CLIP section 2.5: more than 100 made training unstable


@dataclass
class CLIPConfig:
    """Everything that fixes the shape of a model."""

    image_tower: str = "resnet"
    """resnet or vit"""
    loss: str = "softmax"
    """softmax (CLIP) or sigmoid (SigLIP)"""
    image_size: int = 32
    """side of the pictures that the model sees, in pixels"""
    image_width: int = 0
    """channels after the ResNet's stem, or width of the ViT; 0 for the tower's default (32, 128)"""
    image_layers: tuple[int, ...] = ()
    """blocks in each stage of the ResNet, or in the ViT; empty for the tower's default (1 1 1, 4)"""
    stem_stride: int = 2
    """by how much the ResNet's stem reduces the picture: 1, 2 or 4"""
    norm: str = "batch"
    """the ResNet's normalisation: batch or group"""
    patch_size: int = 4
    """side of the ViT's patches, in pixels"""
    image_pool: str = "mean"
    """how the ViT's tokens become one vector: cls, mean or map"""
    image_positions: str = "learned"
    """the ViT's position embeddings: learned, or sincos (fixed, as in CLIPA)"""
    context_length: int = 24
    """most tokens a caption may have, start and end counted"""
    vocab_size: int = 4096
    """most entries of the tokenizer"""
    text_width: int = 128
    """width of the text transformer"""
    text_layers: int = 2
    """blocks of the text transformer"""
    heads: int = 4
    """attention heads of both transformers"""
    embed_dim: int = 256
    """dimensions of the shared space"""
    dropout: float = 0.0
    """dropout inside the transformers"""


class CLIP(nn.Module):
    """An image tower and a text tower, each followed by a linear projection into one space.

    The towers return `[B, tower.output_dim]`. The projections have no bias and no hidden layer (CLIP
    section 2.3). `logit_scale` is the log inverse temperature; `logit_bias` exists for the sigmoid loss
    only, since a parameter that no loss uses would stop DistributedDataParallel.
    """

    def __init__(
        self, image_tower: nn.Module, text_tower: nn.Module, embed_dim: int = 256, loss: str = "softmax"
    ) -> None:
        super().__init__()
        if loss not in LOSSES:
            raise ValueError(f"unknown loss {loss!r}; choose from {', '.join(LOSSES)}")
        self.image_tower, self.text_tower, self.loss = image_tower, text_tower, loss
        self.image_projection = nn.Linear(image_tower.output_dim, embed_dim, bias=False)
        self.text_projection = nn.Linear(text_tower.output_dim, embed_dim, bias=False)
        for projection in (self.image_projection, self.text_projection):
            nn.init.normal_(projection.weight, std=projection.in_features**-0.5)
        # CLIP: temperature 0.07. SigLIP: t' = log 10 and b = -10, so that at the start the many
        # negatives are not all called wrong at once (section 3.2).
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07) if loss == "softmax" else math.log(10)))
        self.logit_bias = nn.Parameter(torch.tensor(-10.0)) if loss == "sigmoid" else None

    def encode_image(self, images: Tensor, kept: Tensor | None = None) -> Tensor:
        """Pictures `[B, 3, S, S]` in [-1, 1] -> unit vectors `[B, D]`.

        kept: long `[B, K]`, the patches that the ViT sees (`minclip.masking.mask_image`); default: all. Raises
        ValueError for an image tower that has no patches.
        """
        if kept is not None and not isinstance(self.image_tower, VisionTransformer):
            raise ValueError("only a ViT can leave out patches; use --image_tower vit, or --image_keep 1")
        features = self.image_tower(images) if kept is None else self.image_tower(images, kept)  # [B, W]
        return F.normalize(at_least_float32(self.image_projection(features)), dim=-1)

    def encode_text(self, ids: Tensor) -> Tensor:
        """Token ids `[B, L]` -> unit vectors `[B, D]`."""
        return F.normalize(at_least_float32(self.text_projection(self.text_tower(ids))), dim=-1)

    def forward(self, images: Tensor, ids: Tensor, kept: Tensor | None = None) -> tuple[Tensor, ...]:
        """The arguments of the loss: (image_features, text_features, logit_scale[, logit_bias])."""
        scalars = [self.logit_scale] if self.logit_bias is None else [self.logit_scale, self.logit_bias]
        return self.encode_image(images, kept), self.encode_text(ids), *scalars

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `model.safetensors` and, under the key `model` of `config.json`, the shape (see `build_clip`)."""
        from safetensors.torch import save_file

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {name: tensor.contiguous() for name, tensor in self.state_dict().items()}
        write_atomically(folder / "model.safetensors", lambda part: save_file(tensors, part))
        known = json.loads((folder / "config.json").read_text()) if (folder / "config.json").exists() else {}
        write_json(folder / "config.json", {**known, "model": asdict(self.config)})

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "CLIP":
        """Load what `save_pretrained` or a training run wrote. Nothing that is read can run code.

        Raises FileNotFoundError or ValueError naming the file that is missing or does not fit.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        folder = Path(folder)
        for name in ("config.json", "model.safetensors"):
            if not (folder / name).exists():
                raise FileNotFoundError(f"{folder} does not hold {name}; is it a finished run?")
        try:
            shape = json.loads((folder / "config.json").read_text())["model"]
            config = CLIPConfig(**{**shape, "image_layers": tuple(shape["image_layers"])})
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"{folder / 'config.json'} does not describe a minclip model ({error})") from error
        model = build_clip(config)
        try:
            tensors = load_file(folder / "model.safetensors")
            model.to(tensors["logit_scale"].dtype).load_state_dict(tensors)
        except (SafetensorError, KeyError, RuntimeError) as error:
            raise ValueError(f"{folder / 'model.safetensors'} does not fit its config.json: {error}") from error
        return model.eval()

    @torch.no_grad()
    def clamp_logit_scale(self) -> None:
        """Keep the softmax loss's scale at or under 100 (CLIP section 2.5). The sigmoid loss needs no such care."""
        if self.loss == "softmax":
            self.logit_scale.clamp_(max=MAX_LOGIT_SCALE)


def at_least_float32(x: Tensor) -> Tensor:
    """bfloat16 has 8 bits of mantissa: too few for the norms and dot products that decide a ranking."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def build_clip(config: CLIPConfig) -> CLIP:
    """A model of the given shape with fresh weights (from torch's global generator)."""
    if config.image_tower not in IMAGE_TOWERS:
        raise ValueError(f"unknown image_tower {config.image_tower!r}; choose from {', '.join(IMAGE_TOWERS)}")
    width, layers = IMAGE_TOWERS[config.image_tower]
    c = replace(config, image_width=config.image_width or width, image_layers=config.image_layers or layers)
    if c.image_tower == "resnet":
        image_tower = ResNet(c.image_size, c.image_layers, c.image_width, c.stem_stride, c.norm)
    else:
        image_tower = VisionTransformer(
            c.image_size, c.patch_size, c.image_width, sum(c.image_layers), c.heads, c.image_pool, c.dropout,
            c.image_positions,
        )  # fmt: skip
    text_tower = TextTransformer(
        c.vocab_size, c.context_length, c.text_width, c.text_layers, c.heads, dropout=c.dropout
    )
    model = CLIP(image_tower, text_tower, c.embed_dim, c.loss)
    model.config = c
    return model


def start_from(model: CLIP, start: CLIP) -> str:
    """Give `model`, in place, the weights of the trained model `start`; returns in words what was taken and changed.

    Both are from `build_clip`. At another image_size, learned positions are interpolated (bicubic; so a tower
    trains on small pictures first, CLIPA section 3). The text tower's are cut to a shorter context_length and
    interpolated to a longer one (linear). With another loss, the scalars stay those of `model`: they mean something
    else. Raises ValueError for any other difference of shape, naming both values.
    """
    here, there = asdict(model.config), asdict(start.config)
    changed = [key for key in here if here[key] != there[key]]
    wrong = [key for key in changed if key not in FREE]
    if wrong:
        flag = lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else value  # noqa: E731
        said = "; ".join(f"{key} is {flag(there[key])} there and {flag(here[key])} in this run" for key in wrong)
        flags = " ".join(f"--{key} {flag(there[key])}" for key in wrong)
        raise ValueError(f"the checkpoint has other towers: {said}; use {flags}, or another checkpoint")
    weights, fresh = start.state_dict(), model.state_dict()
    for name, value in fresh.items():
        if name.startswith("logit_") and "loss" in changed:
            weights[name] = value
        elif name == "text_tower.position_embedding":
            weights[name] = fit_text_positions(weights[name], len(value))  # [L, W]
        elif name.endswith(".position_embedding"):
            weights[name] = fit_positions(weights[name], math.isqrt(len(value)) ** 2)  # [extra + n^2, W]
    model.load_state_dict({name: weights[name] for name in fresh})
    notes = ["weights and tokenizer", *(f"{key} {there[key]} -> {here[key]}" for key in changed)]
    return ", ".join(notes) + ("; the new loss's scalars are fresh" if "loss" in changed else "")
