"""CLIP: two towers, one space (CLIP section 2, Figure 3)."""

import json
import math
import reprlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from minclip.checkpoint import write_atomically, write_json
from minclip.hub import HubModel, download, read_json
from minclip.resnet import ResNet
from minclip.towers import ACTIVATIONS, TextTransformer, VisionTransformer, fit_positions, fit_text_positions

IMAGE_TOWERS = {"resnet": (32, (1, 1, 1)), "vit": (128, (4,))}  # default width and layers
LOSSES = ("softmax", "sigmoid")
FREE = ("image_size", "context_length", "loss", "dropout")  # what may change from a checkpoint to the next run
MAX_LOGIT_SCALE = math.log(100)  # CLIP section 2.5: more than 100 made training unstable

# A folder from a stranger may ask for anything. These are the bounds, all checked before memory is taken.
MAX_PARAMETERS = 2_000_000_000  # 8 GB in float32
MAX_PATCHES = 128 * 128
MAX_STAGES, MAX_LAYERS = 8, 128
MAX_HEADER = 2**22  # bytes of the list of tensors in model.safetensors; of a config.json `read_json` takes 2**20
HALF, RGB = (0.5, 0.5, 0.5), "three numbers from 0.001 to 1, with a decimal point"
ALLOWED = {
    "image_tower": tuple(IMAGE_TOWERS), "loss": LOSSES, "image_size": range(1, 1025), "image_width": range(16_385),
    "image_layers": (f"lists of at most {MAX_STAGES} whole numbers that sum to at most {MAX_LAYERS}",),
    "stem_stride": (1, 2, 4), "norm": ("batch", "group"), "patch_size": range(1, 257),
    "image_pool": ("cls", "mean", "map", "cls_mean"), "image_positions": ("learned", "sincos"),
    "context_length": range(1, 16_385), "vocab_size": range(3, 2_000_001), "text_width": range(1, 16_385),
    "text_layers": range(1, MAX_LAYERS + 1), "heads": range(1, 257), "embed_dim": range(1, 16_385),
    "dropout": ("numbers from 0 to under 1",), "image_heads": range(257), "image_hidden": range(65_537),
    "text_hidden": range(65_537), "activation": tuple(ACTIVATIONS), "norm_eps": (1e-5, 1e-6),
    "image_norms": ("both", "after"), "text_pool": ("eos", "last"), "projection_bias": ("none", "image", "text"),
    "image_mean": (RGB,), "image_std": (RGB,),
}  # fmt: skip


@dataclass
class CLIPConfig:
    """Everything that fixes the shape of a model."""

    # resnet or vit
    image_tower: str = "resnet"
    # softmax (CLIP) or sigmoid (SigLIP)
    loss: str = "softmax"
    # side of the pictures that the model sees, in pixels
    image_size: int = 32
    # channels after the ResNet's stem, or width of the ViT; 0 for the tower's default (32, 128)
    image_width: int = 0
    # blocks in each stage of the ResNet, or in the ViT; empty for the tower's default (1 1 1, 4)
    image_layers: tuple[int, ...] = ()
    # by how much the ResNet's stem reduces the picture: 1, 2 or 4
    stem_stride: int = 2
    # the ResNet's normalisation: batch or group
    norm: str = "batch"
    # side of the ViT's patches, in pixels
    patch_size: int = 4
    # how the ViT's tokens become one vector: cls, mean or map
    image_pool: str = "mean"
    # the ViT's position embeddings: learned, or sincos (fixed, as in CLIPA)
    image_positions: str = "learned"
    # most tokens a caption may have, start and end counted
    context_length: int = 24
    # most entries of the tokenizer
    vocab_size: int = 4096
    # width of the text transformer
    text_width: int = 128
    # blocks of the text transformer
    text_layers: int = 2
    # attention heads of both transformers
    heads: int = 4
    # dimensions of the shared space
    embed_dim: int = 256
    # dropout inside the transformers
    dropout: float = 0.0

    # From here on for published weights: ours have the defaults.

    # attention heads of the ViT; 0 for `heads`
    image_heads: int = 0
    # width of the MLPs inside the ViT's blocks; 0 for four times the ViT's
    image_hidden: int = 0
    # width of the MLPs inside the text transformer's blocks; 0 for four times the transformer's
    text_hidden: int = 0
    # of the MLPs: gelu, quick_gelu (OpenAI) or gelu_tanh (SigLIP)
    activation: str = "gelu"
    # what the transformers' norms add to a variance: 1e-5, or 1e-6 (SigLIP)
    norm_eps: float = 1e-5
    # the ViT's norms outside its blocks: both (CLIP), or only the one after them (SigLIP, CLIPA)
    image_norms: str = "both"
    # eos: causal, pooled at the end token (CLIP); last: every token sees all, the last is pooled (SigLIP, CLIPA)
    text_pool: str = "eos"
    # which projection has a bias: none, image (CLIP's ResNets) or text (SigLIP)
    projection_bias: str = "none"
    # mean of each colour, from 0 to 1, that `CLIP.encode_image` takes off
    image_mean: tuple[float, float, float] = HALF
    # standard deviation of each colour, by which it then divides
    image_std: tuple[float, float, float] = HALF


class CLIP(nn.Module, HubModel):
    """An image tower and a text tower, each followed by a linear projection into one space.

    The towers return `[B, tower.output_dim]`. The projections have no hidden layer and, as in CLIP section 2.3, no
    bias; some published weights have one. `logit_scale` is the log inverse temperature; `logit_bias` exists for the
    sigmoid loss only, since a parameter that no loss uses would stop DistributedDataParallel.
    """

    def __init__(
        self, image_tower: nn.Module, text_tower: nn.Module, embed_dim: int = 256, loss: str = "softmax",
        projection_bias: str = "none", image_mean: tuple[float, ...] = HALF, image_std: tuple[float, ...] = HALF,
    ) -> None:  # fmt: skip
        super().__init__()
        if loss not in LOSSES:
            raise ValueError(f"unknown loss {loss!r}; choose from {', '.join(LOSSES)}")
        self.image_tower, self.text_tower, self.loss = image_tower, text_tower, loss
        self.image_projection = nn.Linear(image_tower.output_dim, embed_dim, projection_bias == "image")
        self.text_projection = nn.Linear(text_tower.output_dim, embed_dim, projection_bias == "text")
        # (x / 2 + 1/2 - mean) / std of a picture in [-1, 1] is x gain + shift; None for ours, which stay as they are
        self.colours = [[0.5 / std, (0.5 - mean) / std] for mean, std in zip(image_mean, image_std)]
        self.colours = None if self.colours == [[1, 0]] * 3 else self.colours
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
        if self.colours:
            gain, shift = images.new_tensor(self.colours).T[..., None, None]  # each [3, 1, 1]
            images = images * gain + shift
        features = self.image_tower(images) if kept is None else self.image_tower(images, kept)  # [B, W]
        return F.normalize(at_least_float32(self.image_projection(features)), dim=-1)

    def encode_text(self, ids: Tensor) -> Tensor:
        """Token ids `[B, L]` -> unit vectors `[B, D]`."""
        return F.normalize(at_least_float32(self.text_projection(self.text_tower(ids))), dim=-1)

    def forward(self, images: Tensor, ids: Tensor, kept: Tensor | None = None) -> tuple[Tensor, ...]:
        """The arguments of the loss: (image_features, text_features, logit_scale[, logit_bias])."""
        scalars = [self.logit_scale] if self.logit_bias is None else [self.logit_scale, self.logit_bias]
        return self.encode_image(images, kept), self.encode_text(ids), *scalars

    def save_pretrained(self, folder: str | Path, **hub: object) -> None:
        """Write `model.safetensors` and, under the key `model` of `config.json`, the shape (see `build_clip`).

        hub: arguments of huggingface_hub's mixin. With any, such as `model_card_kwargs={"title": ...}`, a card for
        people (README.md) and `self.tokenizer`, if there is one, are written, too. `push_to_hub(repo_id)` passes some.
        """
        from safetensors.torch import save_file

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {name: tensor.contiguous() for name, tensor in self.state_dict().items()}
        write_atomically(folder / "model.safetensors", lambda part: save_file(tensors, part))
        known = json.loads((folder / "config.json").read_text()) if (folder / "config.json").exists() else {}
        write_json(folder / "config.json", {**known, "model": asdict(self.config)})
        if hub:
            card = self.generate_model_card(**(hub.get("model_card_kwargs") or {}))
            write_atomically(folder / "README.md", lambda part: part.write_text(str(card), encoding="utf-8"))
        if hub and self.tokenizer:
            self.tokenizer.save(folder / "tokenizer.json")

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "CLIP":
        """Load what `save_pretrained` or a training run wrote. Nothing that is read can run code.

        folder: one of this machine, or a repository of the hub (`download`). Refused with FileNotFoundError or
        ValueError, which name the file and what is wrong in it: settings that are unknown, of another type or out of
        bounds; more than MAX_PARAMETERS; weights that are no safetensors, do not fit the settings, or are not finite.
        Pickled weights are never opened. Memory: at most twice the weights'.
        """
        folder = download(folder, ("config.json", "model.safetensors"))
        pickles = [file.name for file in folder.glob("*") if file.suffix in (".bin", ".pt", ".pth", ".pkl", ".ckpt")]
        for name in ("config.json", "model.safetensors"):
            if not (folder / name).is_file():
                hint = "is it a finished run?"
                if pickles and name == "model.safetensors":
                    hint = f"{min(pickles)} could run code, so it is not opened; if you trust it, convert it with "
                    hint += "torch.load(..., weights_only=True) and safetensors.torch.save_file"
                raise FileNotFoundError(f"{folder} does not hold {name}; {hint}")
        model = read_shape(folder / "config.json")
        read_weights(model, folder / "model.safetensors")
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
    """A model of the given shape with fresh weights (from torch's global generator).

    Raises ValueError for a shape that `from_pretrained` would refuse (but for MAX_PARAMETERS: the machine is yours).
    """
    check_shape(asdict(config))
    width, layers = IMAGE_TOWERS[config.image_tower]
    c = replace(config, image_width=config.image_width or width, image_layers=config.image_layers or layers)
    if c.image_tower == "resnet":
        image_tower = ResNet(c.image_size, c.image_layers, c.image_width, c.stem_stride, c.norm)
    else:
        image_tower = VisionTransformer(
            c.image_size, c.patch_size, c.image_width, sum(c.image_layers), c.image_heads or c.heads, c.image_pool,
            c.dropout, c.image_positions, c.image_norms, hidden=c.image_hidden, activation=c.activation, eps=c.norm_eps,
        )  # fmt: skip
    text_tower = TextTransformer(
        c.vocab_size, c.context_length, c.text_width, c.text_layers, c.heads, c.text_pool == "eos", c.text_pool,
        c.dropout, hidden=c.text_hidden, activation=c.activation, eps=c.norm_eps,
    )  # fmt: skip
    model = CLIP(image_tower, text_tower, c.embed_dim, c.loss, c.projection_bias, c.image_mean, c.image_std)
    model.config = c
    return model


def check_shape(shape: dict) -> None:
    """Raise ValueError naming the first setting that is unknown, of another type, or out of bounds."""
    for key, value in shape.items():
        if key not in ALLOWED:
            raise ValueError(f"unknown setting {reprlib.repr(key)}; this version of minclip does not have it")
        known = ALLOWED[key]
        if key == "dropout":
            fits = type(value) in (int, float) and 0 <= value < 1
        elif known == (RGB,):
            fits = type(value) in (list, tuple) and len(value) == 3
            fits = fits and all(type(n) is float and 1e-3 <= n <= 1 for n in value)
        elif key == "image_layers":
            fits = type(value) in (list, tuple) and len(value) <= MAX_STAGES and all(type(n) is int for n in value)
            fits = fits and min(value, default=1) > 0 and sum(value) <= MAX_LAYERS
        else:  # True is an int to Python, and 32.0 is in range(33): so the type must be the same
            fits = type(value) is type(known[0]) and value in known
        if not fits:
            some = f"{known[0]} to {known[-1]}" if isinstance(known, range) else ", ".join(map(str, known))
            raise ValueError(f"unknown {key} {reprlib.repr(value)}; choose from {some}")


class Unfilled(TorchFunctionMode):
    """Makes layers and fills none: on the meta device, the first random number takes a second (it imports sympy)."""

    def __torch_function__(self, func, types, args=(), kwargs=None) -> Tensor:
        fills = func.__name__ in ("normal_", "kaiming_uniform_", "xavier_uniform_", "uniform_", "zeros_", "mul")
        make = torch.empty if func is torch.randn else func
        return [*args, *(kwargs or {}).values()][0] if fills else make(*args, **(kwargs or {}))


def read_shape(file: Path) -> CLIP:
    """The model that a `config.json` describes, on the meta device: shapes, no memory. Raises ValueError."""
    try:
        content = read_json(file)
        check_shape(shape := content["model"])
        config = CLIPConfig(**{key: tuple(value) if type(value) is list else value for key, value in shape.items()})
        if config.image_tower == "vit" and (config.image_size // config.patch_size) ** 2 > MAX_PATCHES:
            raise ValueError(f"it asks for pictures of more than {MAX_PATCHES:,} patches")
        with torch.device("meta"), Unfilled():
            model = build_clip(config)
        if (count := sum(p.numel() for p in model.parameters())) > MAX_PARAMETERS:
            raise ValueError(f"it asks for {count:,} parameters; MAX_PARAMETERS is {MAX_PARAMETERS:,}")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{file} does not describe a minclip model ({error})") from error
    model.trained = content["train"] if isinstance(content.get("train"), dict) else {}
    return model


def read_weights(model: CLIP, file: Path) -> None:
    """Give `model`, of the meta device, the weights of a safetensors file, which must fit. Raises ValueError."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    expected, size = model.state_dict(), file.stat().st_size
    numbers = sum(tensor.numel() for tensor in expected.values())
    with open(file, "rb") as opened:
        header = int.from_bytes(opened.read(8), "little")
    wrong = f"{file} does not fit its config.json, or is damaged: "
    if header > MAX_HEADER or not 2 * numbers <= size - 8 - header <= 8 * numbers:
        short = f"{size:,} bytes, {header:,} of them for the header by the first 8, for {numbers:,} numbers"
        raise ValueError(f"{wrong}{short}; is it a safetensors file?")
    try:  # load_file's tensors are the file itself: cut it, and the process would die. So they are copied.
        model.load_state_dict({name: tensor.clone() for name, tensor in load_file(file).items()}, assign=True)
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(f"{wrong}{error!s:.1000}") from error
    for name, tensor in model.state_dict().items():
        kind = model.logit_scale.dtype if expected[name].is_floating_point() else torch.int64
        if tensor.dtype != kind or kind.is_complex:
            raise ValueError(f"{wrong}{name} is {tensor.dtype}, logit_scale {model.logit_scale.dtype}")
        if tensor.numel() and not all(bound.isfinite() for bound in tensor.aminmax()):
            raise ValueError(f"{file} holds a NaN or infinite number in {name}: a diverged run, or a damaged file")


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
