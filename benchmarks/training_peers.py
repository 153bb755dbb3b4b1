"""Who competes in training: minclip's step and open_clip's, on towers that are the same function of the same weights.

minclip's step is what `minclip.train` does: model and pictures in channels-last, the towers in autocast, the loss in
float32, AdamW from `make_optimizer`. open_clip's is `open_clip_train.train.train_one_epoch` without its logging, with
the AdamW that `open_clip_train.main` makes.
"""

import contextlib
import importlib.metadata
import math
from collections.abc import Callable
from functools import cache
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from minclip.clip import CLIP
from minclip.data import Augmentation, BatchOrder, Pairs, augment, load_pairs, step_generator
from minclip.grad_cache import cached_step
from minclip.optimizer import make_optimizer
from minclip.resnet import ResNet
from minclip.softmax_loss import softmax_loss
from minclip.tokenizer import END_ID, PAD_ID, CaptionTokens, Tokenizer
from minclip.towers import TextTransformer, VisionTransformer

LIBRARIES = ("minclip", "open_clip")
EMBED_DIM, CONTEXT_LENGTH, HEAD_WIDTH = 256, 24, 64
TEXT = {"width": 128, "layers": 2, "heads": 2}
AUTOCAST = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
# open_clip_train/params.py: what its AdamW gets unless told otherwise
PEER_ADAM = {"vit": {"betas": (0.9, 0.98), "eps": 1e-6}, "resnet": {"betas": (0.9, 0.999), "eps": 1e-8}}
PEER_WEIGHT_DECAY = 0.2
TOWERS = {  # open_clip's vision_cfg; the first two are compared at equal weights, the others learn against time
    "vit": {"image_size": 32, "patch_size": 4, "width": 192, "layers": 4},
    "resnet": {"image_size": 64, "width": 32, "layers": (1, 1, 1, 1)},
    "resnet, 32 px": {"image_size": 32, "width": 32, "layers": (1, 1, 1, 1)},
    "vit, width 128": {"image_size": 32, "patch_size": 4, "width": 128, "layers": 4},
}


@cache
def open_clip():
    """The package, or a word about its absence."""
    try:
        import open_clip
    except ImportError:
        raise SystemExit(
            "error: training is compared with open_clip's; install it: pip install -e '.[bench]'"
        ) from None
    return open_clip


def peer_version() -> str:
    """The version of open_clip that is installed."""
    return importlib.metadata.version("open_clip_torch")


@cache
def emoji(split: str = "train") -> Pairs:
    """The embedded emoji, decoded once."""
    return load_pairs("emoji", split)


@cache
def emoji_tokens() -> tuple[Tokenizer, CaptionTokens]:
    """minclip's tokenizer for the training captions, and all of them in tokens."""
    captions = emoji().captions
    tokenizer = Tokenizer.train(sorted({text for texts in captions for text in texts}), 4096)
    return tokenizer, CaptionTokens(captions, tokenizer, CONTEXT_LENGTH)


def batch(step: int, batch_size: int, image_size: int, device: str, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Pictures and captions of one step as minclip draws them, captions padded as open_clip wants them."""
    rows = BatchOrder(emoji().groups, batch_size, seed).indices(step)
    draw = torch.rand(batch_size, 17, generator=step_generator(seed, 3, step), dtype=torch.float64)
    images = augment(emoji().images[rows].to(device), image_size, draw[:, :16], Augmentation())
    ids = emoji_tokens()[1].pick(rows, draw[:, 16], 0.8)
    return images, nn.functional.pad(ids, (0, CONTEXT_LENGTH - ids.shape[1]), value=PAD_ID).to(device)


def peer_model(tower: str, vocab_size: int, context_length: int = CONTEXT_LENGTH, **text) -> nn.Module:
    """An open_clip model for minclip's tokens; with its own tokenizer, `pool_type="argmax"`, as it pools by default."""
    text = {"pool_type": "eos", "eos_id": END_ID, "pad_id": PAD_ID} | TEXT | text
    text |= {"vocab_size": vocab_size, "context_length": context_length}
    vision = TOWERS[tower] | {"head_width": HEAD_WIDTH}
    return open_clip().CLIP(EMBED_DIM, open_clip().model.CLIPVisionCfg(**vision), text, output_dict=True)


def minclip_model(tower: str, vocab_size: int) -> CLIP:
    """minclip's model of the same shape."""
    shape = TOWERS[tower]
    if tower.startswith("vit"):
        heads = shape["width"] // HEAD_WIDTH
        image = VisionTransformer(
            shape["image_size"], shape["patch_size"], shape["width"], shape["layers"], heads, "cls"
        )
    else:
        image = ResNet(shape["image_size"], shape["layers"], shape["width"], stem_stride=4, head_dim=HEAD_WIDTH)
    return CLIP(image, TextTransformer(vocab_size, CONTEXT_LENGTH, **TEXT), EMBED_DIM)


@torch.no_grad()
def copy_weights(theirs: nn.Module, ours: CLIP) -> None:
    """Give minclip's model the weights of open_clip's, whose one parameter more, a bias after the pool, becomes 0."""
    image, text, visual = ours.image_tower, ours.text_tower, theirs.visual
    if isinstance(image, ResNet):
        pool, their_pool = image.pool, visual.attnpool
        stem = [visual.conv1, visual.bn1, visual.conv2, visual.bn2, visual.conv3, visual.bn3]
        stages = [visual.layer1, visual.layer2, visual.layer3, visual.layer4]
        found = [image.stem, image.blocks, pool.query, pool.key, pool.value]
        wanted = [*stem, *stages, their_pool.q_proj, their_pool.k_proj, their_pool.v_proj]
        image_projection = their_pool.c_proj.weight
        their_pool.c_proj.bias.zero_()
        single = [(pool.position_embedding, their_pool.positional_embedding)]
    else:
        found = [image.patch_embedding, image.norm_in, image.norm_out, *map(parts, image.blocks)]
        wanted = [visual.conv1, visual.ln_pre, visual.ln_post, *map(parts, visual.transformer.resblocks)]
        image_projection = visual.proj.T
        single = [(image.position_embedding, visual.positional_embedding)]
        single += [(image.cls_embedding, visual.class_embedding)]
    found += [text.token_embedding, text.norm_out, *map(parts, text.blocks)]
    wanted += [theirs.token_embedding, theirs.ln_final, *map(parts, theirs.transformer.resblocks)]
    single += [(text.position_embedding, theirs.positional_embedding), (ours.logit_scale, theirs.logit_scale)]
    single += [(ours.image_projection.weight, image_projection)]
    single += [(ours.text_projection.weight, theirs.text_projection.T)]
    tensors = lambda modules: [p for module in modules for p in module.parameters()]  # noqa: E731
    for mine, other in [*zip(tensors(found), tensors(wanted), strict=True), *single]:
        if mine.shape != other.shape:
            raise ValueError(f"the towers differ: {list(mine.shape)} in minclip, {list(other.shape)} in open_clip")
        mine.copy_(other)


def parts(block: nn.Module) -> nn.ModuleList:
    """The layers of a transformer block, of either library, in the order of the computation."""
    if hasattr(block, "ln_1"):
        return nn.ModuleList([block.ln_1, block.attn, block.ln_2, block.mlp])
    layers = (block.norm1, block.qkv, block.attention_out, block.norm2, block.mlp_in, block.mlp_out)
    return nn.ModuleList(layers)


def equal_models(tower: str, vocab_size: int, device: str) -> dict[str, nn.Module]:
    """Both libraries' model with the same weights, by library, each as its own training code places it."""
    theirs, ours = peer_model(tower, vocab_size), minclip_model(tower, vocab_size)
    copy_weights(theirs, ours)
    return {"minclip": ours.to(device, memory_format=torch.channels_last), "open_clip": theirs.to(device)}


@torch.no_grad()
def difference(models: dict[str, nn.Module], images: Tensor, ids: Tensor) -> float:
    """The largest difference between the two libraries' features, in evaluation mode (unit vectors)."""
    training = {name: model.training for name, model in models.items()}
    ours, theirs = (models[name].eval() for name in LIBRARIES)
    image, text, *_ = ours(images, ids)
    out = theirs(images, ids)
    for name, model in models.items():
        model.train(training[name])
    return max((image - out["image_features"]).abs().max().item(), (text - out["text_features"]).abs().max().item())


def peer_optimizer(model: nn.Module, tower: str, lr: float = 5e-4) -> torch.optim.AdamW:
    """AdamW as open_clip_train/main.py makes it."""
    exclude = lambda n, p: p.ndim < 2 or "bn" in n or "ln" in n or "bias" in n or "logit_scale" in n  # noqa: E731
    named = list(model.named_parameters())
    groups = [
        {"params": [p for n, p in named if exclude(n, p)], "weight_decay": 0.0},
        {"params": [p for n, p in named if not exclude(n, p)], "weight_decay": PEER_WEIGHT_DECAY},
    ]
    return torch.optim.AdamW(groups, lr=lr, **PEER_ADAM[tower[: 3 if tower.startswith("vit") else 6]])


def autocast(device: str, precision: str) -> contextlib.AbstractContextManager:
    """Autocast to a precision; nothing for fp32."""
    dtype = AUTOCAST[precision]
    return contextlib.nullcontext() if dtype is None else torch.autocast(device, dtype)


def minclip_step(model: CLIP, device: str, precision: str) -> Callable[[Tensor, Tensor], Tensor]:
    """A function of one batch that does one step as minclip.train does, and returns the loss."""
    optimizer = make_optimizer(model.train(), 5e-4)

    def forward(images: Tensor, ids: Tensor) -> tuple[Tensor, ...]:
        with autocast(device, precision):
            return model(images, ids)

    def step(images: Tensor, ids: Tensor) -> Tensor:
        images = images.contiguous(memory_format=torch.channels_last)
        loss = cached_step(forward, (images, ids), softmax_loss, len(ids))
        optimizer.step()
        optimizer.zero_grad()
        model.clamp_logit_scale()
        return loss

    return step


def peer_step(
    model: nn.Module, device: str, precision: str, optimizer: torch.optim.Optimizer
) -> Callable[[Tensor, Tensor], Tensor]:
    """A function of one batch that does one step as open_clip_train does; fp16 with its gradient scaler."""
    loss_fn = open_clip().ClipLoss(cache_labels=True)  # as create_loss makes it
    scaler = torch.amp.GradScaler(device) if precision == "fp16" else None
    model.train()

    def step(images: Tensor, ids: Tensor) -> Tensor:
        optimizer.zero_grad()
        with autocast(device, precision):
            losses = loss_fn(**model(images, ids), output_dict=True)
            loss = sum(losses.values())
        if scaler is None:
            loss.backward()
            optimizer.step()
        else:
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        return loss.detach()

    return step


def equal_steps(
    tower: str, precision: str, device: str, models: dict[str, nn.Module]
) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """Both libraries' training step, by library."""
    theirs = models["open_clip"]
    return {
        "minclip": minclip_step(models["minclip"], device, precision),
        "open_clip": peer_step(theirs, device, precision, peer_optimizer(theirs, tower)),
    }


class PeerDataset(torch.utils.data.Dataset):
    """The pictures as open_clip's CSV dataset gives them: opened, transformed and tokenised one by one.

    It reads files; this keeps the same files in memory, which can only be faster.
    """

    def __init__(self, image_size: int, rows: int | None = None) -> None:
        from minclip.sources import EMOJI_DIR, read_parquet

        columns = read_parquet([EMOJI_DIR / "train.parquet"])
        self.images = [image["bytes"] for image in columns["image"][:rows]]
        self.captions = columns["name"][:rows]
        self.transform = open_clip().image_transform(image_size, is_train=True)
        self.tokenize = open_clip().SimpleTokenizer()

    def __len__(self) -> int:
        return len(self.captions)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        import io

        from PIL import Image

        return self.transform(Image.open(io.BytesIO(self.images[index]))), self.tokenize([self.captions[index]])[0]


def searchable(model: nn.Module) -> SimpleNamespace:
    """What minclip.zero_shot needs of a model, made of open_clip's."""
    return SimpleNamespace(
        training=model.training,
        eval=model.eval,
        train=model.train,
        logit_scale=model.logit_scale,
        encode_image=lambda images: model.encode_image(images, normalize=True),
        encode_text=lambda ids: model.encode_text(ids, normalize=True),
        text_tower=SimpleNamespace(context_length=model.context_length),
    )
