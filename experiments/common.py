"""The runs that claims share: a text tower on a locked image tower, and both towers from scratch, on emoji.

Pictures are 16 x 16: small enough that a run takes seconds, so that a claim can have many settings and seeds.
Every run sees the training artists; a step draws different concepts (see `BatchOrder`), and what it draws
depends on the seed and the step alone, so that settings are compared on the same data.
"""

import hashlib
import json
import math
from functools import lru_cache

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from minclip.checkpoint import write_atomically
from minclip.clip import CLIP
from minclip.data import Augmentation, BatchOrder, Pairs, augment, load_pairs, plain, step_generator
from minclip.lit import CachedImages, cached_image_features, lock, train_image_tower
from minclip.optimizer import make_optimizer, set_learning_rate
from minclip.resnet import ResNet
from minclip.retrieval import recall_at_k
from minclip.sigmoid_loss import sigmoid_loss
from minclip.softmax_loss import softmax_loss
from minclip.sweep import ROOT, run_function
from minclip.tokenizer import CaptionTokens, Tokenizer
from minclip.towers import TextTransformer
from minclip.zero_shot import embed_texts, top_k_accuracy

IMAGE_SIZE = 16
CONTEXT_LENGTH = 16
TEST_SPLITS = ("in_distribution", "fxemoji", "held_out_compositions")
CURVE_POINTS = 40
BIASES = ("learned", "constant", "relative", "none")
CACHE = ROOT / "runs" / "cache"

SHARED = {
    "loss": "sigmoid",
    "batch_size": 256,
    "steps": 400,
    "lr": 3e-3,
    "weight_decay": 0.2,
    "beta2": 0.95,
    "warmup": 0.1,  # share of the steps
    "scalar_lr_factor": 10.0,  # logit_scale and logit_bias learn so much faster than the towers
    "init_logit_scale": None,  # the log, t'; None for the loss's own: log 10 (sigmoid), log(1 / 0.07) (softmax)
    "init_logit_bias": -10.0,
    "bias": "learned",  # or constant, relative (logits t (x . y - b_rel), the same at the start), none
    "embed_dim": 128,
    "text_width": 64,
    "text_layers": 1,
    "distinct": True,  # no two pictures of a concept in a batch; False draws pairs whatever they say
    "noise_image": 0.0,  # SigLIP 4.8: share of pictures that are replaced by noise,
    "noise_text": 0.0,  # of captions that are replaced by random tokens,
    "noise_alignment": 0.0,  # and of pairs that exchange their captions
}
LOCKED = {**SHARED, "tower_width": 32, "tower_steps": 400, "tower_seed": 0, "projection": True}
SCRATCH = {**SHARED, "image_width": 16}


# Data


@lru_cache
def emoji(split: str) -> Pairs:
    """The pairs of one split, at the size of the experiments."""
    return load_pairs("emoji", split, IMAGE_SIZE)


@lru_cache
def tokenised() -> tuple[Tokenizer, CaptionTokens]:
    """A tokenizer trained on the training captions, and the training names tokenised."""
    captions = emoji("train").captions
    tokenizer = Tokenizer.train(sorted({text for texts in captions for text in texts}), 2048)
    return tokenizer, CaptionTokens([texts[:1] for texts in captions], tokenizer, CONTEXT_LENGTH)


@lru_cache
def locked_features(width: int, steps: int, seed: int) -> dict[str, Tensor]:
    """The features `[N, D]` of every split by an image tower trained on the training names, by split.

    Trained once (about a minute and a half) and kept in runs/cache/, on one thread: the same features whoever asks.
    """
    device = compute_device()
    content = json.dumps([1, IMAGE_SIZE, width, steps, seed, device.type, torch.__version__])
    path = CACHE / f"tower_{hashlib.sha256(content.encode()).hexdigest()[:16]}.safetensors"
    if not path.exists():
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            tower = train_image_tower(emoji("train"), IMAGE_SIZE, width, steps, seed=seed, device=device)
            features = {
                split: cached_image_features(tower, emoji(split).images, IMAGE_SIZE).cpu()
                for split in ("train", *TEST_SPLITS)
            }
        finally:
            torch.set_num_threads(threads)
        CACHE.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda part: save_file(features, part))
    return load_file(path)


def prepare_locked() -> None:
    """Train the default tower before a sweep's processes would each do so."""
    locked_features(LOCKED["tower_width"], LOCKED["tower_steps"], LOCKED["tower_seed"])


def compute_device() -> torch.device:
    """The GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


# Runs


@run_function(version=1, defaults=LOCKED, prepare=prepare_locked)
def train_text_on_locked(setting: dict, seed: int) -> dict:
    """SigLiT in small: a text tower from scratch against the cached features of a locked image tower.

    Returns what `fit` and `evaluate` return.
    """
    features = locked_features(setting["tower_width"], setting["tower_steps"], setting["tower_seed"])
    train = features["train"].to(compute_device())  # [N, D]
    model = make_model(CachedImages(train.shape[1]), setting, seed)
    lock(model, setting["projection"])
    curves = fit(model, lambda rows, _: train[rows], setting, seed)
    return {**curves, **evaluate(model, {split: features[split] for split in TEST_SPLITS})}


@run_function(version=1, defaults=SCRATCH)
def train_from_scratch(setting: dict, seed: int) -> dict:
    """SigLIP in small: a ResNet and a text tower, both from scratch, on augmented pictures.

    Returns what `fit` and `evaluate` return.
    """
    torch.manual_seed(seed)
    model = make_model(ResNet(IMAGE_SIZE, width=setting["image_width"]), setting, seed)
    images = emoji("train").images

    def pictures(rows: Tensor, draw: Tensor) -> Tensor:
        x = augment(images[rows].to(compute_device()), IMAGE_SIZE, draw, Augmentation())
        return x.contiguous(memory_format=torch.channels_last)

    curves = fit(model, pictures, setting, seed)
    return {**curves, **evaluate(model, {split: plain(emoji(split).images, IMAGE_SIZE) for split in TEST_SPLITS})}


def make_model(image_tower: nn.Module, setting: dict, seed: int) -> CLIP:
    """The image tower beside a fresh text tower; scale and bias start as the setting says."""
    if setting["bias"] not in BIASES:
        raise ValueError(f"unknown bias {setting['bias']!r}; choose from {', '.join(BIASES)}")
    torch.manual_seed(seed)
    tokenizer, _ = tokenised()
    heads = max(1, setting["text_width"] // 32)
    text = TextTransformer(
        tokenizer.vocab_size, CONTEXT_LENGTH, setting["text_width"], setting["text_layers"], heads
    )  # fmt: skip
    model = CLIP(image_tower, text, setting["embed_dim"], setting["loss"])
    with torch.no_grad():
        if setting["init_logit_scale"] is not None:
            model.logit_scale.fill_(setting["init_logit_scale"])
        if model.logit_bias is not None:
            start = setting["init_logit_bias"] if setting["bias"] != "none" else 0.0
            model.logit_bias.fill_(-start / model.logit_scale.exp() if setting["bias"] == "relative" else start)
            model.logit_bias.requires_grad_(setting["bias"] in ("learned", "relative"))
    return model.to(compute_device(), memory_format=torch.channels_last)


def bias_of(model: CLIP, setting: dict) -> Tensor | None:
    """What is added to the sigmoid's logits; with the relative bias, -t b_rel."""
    if setting["bias"] == "relative" and model.logit_bias is not None:
        return -model.logit_scale.exp() * model.logit_bias
    return model.logit_bias


def fit(model: CLIP, pictures, setting: dict, seed: int) -> dict:
    """Train `model` on the emoji; pictures(rows, draw) gives the images of the rows `[B]`, draw being `[B, 16]`.

    Returns the curves `curve_step`, `curve_loss` (mean since the last point), `curve_logit_scale` (t itself),
    `curve_logit_bias`, `curve_gradient_norm`, and the last `logit_scale` and `logit_bias`.
    """
    pairs, (_, tokens) = emoji("train"), tokenised()
    groups = pairs.groups if setting["distinct"] else torch.arange(len(pairs))
    order = BatchOrder(groups, setting["batch_size"], seed)
    optimizer = make_optimizer(
        model, setting["lr"], setting["weight_decay"], setting["beta2"], setting["scalar_lr_factor"]
    )
    parameters = [p for p in model.parameters() if p.requires_grad]
    steps = setting["steps"]
    every, since = max(1, math.ceil(steps / CURVE_POINTS)), []
    curves: dict[str, list] = {f"curve_{key}": [] for key in ("step", "loss", "logit_scale", "gradient_norm")}
    curves |= {} if model.logit_bias is None else {"curve_logit_bias": []}
    model.train()
    for step in range(steps):
        set_learning_rate(optimizer, setting["lr"], step, round(setting["warmup"] * steps), steps)
        draw = torch.rand(setting["batch_size"], 17, generator=step_generator(seed, 3, step), dtype=torch.float64)
        rows = order.indices(step)
        images, ids = pictures(rows, draw[:, :16]), tokens.pick(rows, draw[:, 16], 1.0)
        images, ids = corrupt(images, ids.to(images.device), setting, seed, step)
        image_features, text_features, *_ = model(images, ids)
        if setting["loss"] == "softmax":
            loss = softmax_loss(image_features, text_features, model.logit_scale)
        else:
            loss = sigmoid_loss(image_features, text_features, model.logit_scale, bias_of(model, setting))
        optimizer.zero_grad()
        loss.backward()
        since.append(loss.detach())
        if (step + 1) % every == 0 or step + 1 == steps:
            norm = torch.stack([p.grad.norm() for p in parameters if p.grad is not None]).norm()
            now = {"step": step + 1, "loss": torch.stack(since).mean().item(), "gradient_norm": norm.item()}
            now |= scalars(model, setting)
            for key, value in now.items():
                curves[f"curve_{key}"].append(value)
            since = []
        optimizer.step()
        model.clamp_logit_scale()
    return {**curves, **scalars(model, setting)}


def scalars(model: CLIP, setting: dict) -> dict[str, float]:
    """The inverse temperature t and, for the sigmoid, the bias as it is added to the logits."""
    bias = bias_of(model, setting)
    return {"logit_scale": model.logit_scale.exp().item(), **({} if bias is None else {"logit_bias": bias.item()})}


def corrupt(images: Tensor, ids: Tensor, setting: dict, seed: int, step: int) -> tuple[Tensor, Tensor]:
    """SigLIP 4.8's noise, drawn anew each step; images may be features, whose noise then has their spread."""
    shares = [setting[f"noise_{kind}"] for kind in ("image", "text", "alignment")]
    if not any(shares):
        return images, ids
    generator = step_generator(seed, 5, step)
    hit = torch.rand(len(ids), 3, generator=generator) < torch.tensor(shares)  # [B, 3]
    noise = torch.randn(images.shape, generator=generator).to(images)
    noise = noise.clamp(-1, 1) if images.ndim == 4 else noise * images.std(0) + images.mean(0)
    images = torch.where(hit[:, 0].to(images.device).view(-1, *[1] * (images.ndim - 1)), noise, images)
    tokenizer, _ = tokenised()
    words = torch.randint(3, tokenizer.vocab_size, ids.shape, generator=generator).to(ids)  # 3: no special tokens
    words = torch.where(ids > 2, words, ids)  # start, end and padding stay where they are
    ids = torch.where(hit[:, 1].to(ids.device)[:, None], words, ids)
    moved = hit[:, 2].nonzero().flatten()
    source = torch.arange(len(ids))
    source[moved] = moved[torch.randperm(len(moved), generator=generator)]
    return images, ids[source.to(ids.device)]


@torch.no_grad()
def evaluate(model: CLIP, pictures: dict[str, Tensor]) -> dict[str, float]:
    """What the model is good for, as fractions; pictures: the image tower's inputs for TEST_SPLITS.

    `in_distribution` and `fxemoji`: zero-shot top-1 of new drawings by the training artists, and of an unseen
    artist, among the ~1,900 names without skin tones. `retrieval`: recall at 1 of a caption, in_distribution's
    1,428 pictures among all its captions. `held_out`: the same for compositions that no picture or caption of the
    training showed. All names but those of the last occur in training; the pictures never do.
    """
    tokenizer, _ = tokenised()
    model.eval()
    device, result = compute_device(), {}
    names = emoji("train").class_names
    plain_names = torch.tensor([i for i, name in enumerate(names) if "skin tone" not in name])
    text = embed_texts(model, tokenizer, names)  # [C, D]
    for split in TEST_SPLITS:
        labels = emoji(split).labels
        parts = pictures[split].split(512)
        scores = (torch.cat([model.encode_image(part.to(device)) for part in parts]) @ text.T).cpu()  # [N, C]
        if split != "held_out_compositions":
            known = torch.isin(labels, plain_names)
            targets = torch.searchsorted(plain_names, labels[known])
            result[split] = top_k_accuracy(scores[known][:, plain_names], targets, 1)
        if split != "fxemoji":
            gallery = labels.unique()  # the captions of this split
            key = "retrieval" if split == "in_distribution" else "held_out"
            result[key] = recall_at_k(scores[:, gallery], labels[:, None] == gallery)
    return result
