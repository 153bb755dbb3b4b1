"""The runs that claims share: a text tower on a locked image tower, and both towers from scratch, on emoji.

Pictures are 16 x 16: small enough that a run takes seconds, so that a claim can have many settings and seeds.
Every run sees the training artists; a step draws different concepts (see `BatchOrder`), and what it draws
depends on the seed and the step alone, so that settings are compared on the same data.
"""

import hashlib
import json
import math
from collections.abc import Callable
from functools import lru_cache

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from experiments.negatives import step_loss
from experiments.noise import corrupt
from minclip.checkpoint import write_atomically
from minclip.clip import CLIP
from minclip.data import Augmentation, BatchOrder, Pairs, augment, load_pairs, plain, step_generator
from minclip.lit import CachedImages, cached_image_features, lock, train_image_tower
from minclip.optimizer import make_optimizer, set_learning_rate
from minclip.resnet import ResNet
from minclip.retrieval import recall_at_k
from minclip.sweep import ROOT, run_function
from minclip.tokenizer import CaptionTokens, Tokenizer
from minclip.towers import TextTransformer
from minclip.zero_shot import embed_texts, top_k_accuracy

IMAGE_SIZE = 16
CONTEXT_LENGTH = 16
TEST_SPLITS = ("in_distribution", "fxemoji", "held_out_compositions")
CURVE_POINTS = 40
BIASES = ("learned", "constant", "relative", "none")
IMAGE_TOWERS = ("scratch", "tuned", "locked")
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
    "muon_lr": 0.0,  # the layers' weights move by Muon at that rate (`make_optimizer`); 0: AdamW, as in the papers
    "tower_decay": 1.0,  # the image tower decays so many times as fast as the rest; 0: not at all
    "negatives": "all",  # that the sigmoid loss uses; or random, hard, easy: so many for each positive:
    "negative_ratio": 16.0,
    "mask_duplicates": False,  # two pictures of one name are not each other's negatives
}
LOCKED = {**SHARED, "tower_width": 32, "tower_steps": 400, "tower_seed": 0, "projection": True}
SCRATCH = {
    **SHARED,
    "image_width": 16,
    "image_tower": "scratch",  # or tuned, locked: first trained on the training names, like the locked one above,
    "tower_steps": 400,  # so many steps
    "tower_seed": 0,
    "few_shot": False,  # measure the image tower alone too
}

# What claims that train from scratch, or on the locked tower, share unless they ask about it: one place to change
# how long and with what. With AdamW 300 steps leave some settings at the floor (4 % of 1,914 names); Muon needs half.
MUON_LR = 0.02
SCRATCH_BASE = {"batch_size": 256, "steps": 240, "muon_lr": MUON_LR}
LOCKED_BASE = {"batch_size": 256, "steps": 400, "muon_lr": MUON_LR}


def sigmoid_setting(batch_size: int, extra_bias: float = 0.0) -> dict:
    """The sigmoid loss from the bias at which a model that knows nothing is right on average: -ln(B - 1).

    That is what SigLIP's -10 is at its usual batches (-9.7 at 16 thousand pairs). extra_bias: added to it.
    """
    return {"batch_size": batch_size, "init_logit_bias": round(-math.log(batch_size - 1) + extra_bias, 6)}


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


def kept(kind: str, about: list, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors that `compute()` returns: computed once, on one thread, then read from runs/cache/."""
    content = json.dumps([1, IMAGE_SIZE, *about, compute_device().type, torch.__version__])
    path = CACHE / f"{kind}_{hashlib.sha256(content.encode()).hexdigest()[:16]}.safetensors"
    if not path.exists():
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            tensors = {name: x.cpu().contiguous() for name, x in compute().items()}
        finally:
            torch.set_num_threads(threads)
        CACHE.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda part: save_file(tensors, part))
    return load_file(path)


def pretrained_tower(width: int, steps: int, seed: int) -> ResNet:
    """An image tower trained on the training names; trained once (a minute or so), the same whoever asks."""

    def compute() -> dict[str, Tensor]:
        device = compute_device()
        return train_image_tower(emoji("train"), IMAGE_SIZE, width, steps, seed=seed, device=device).state_dict()

    tower = ResNet(IMAGE_SIZE, width=width)
    tower.load_state_dict(kept("weights", [width, steps, seed], compute))
    return tower.to(compute_device(), memory_format=torch.channels_last)


@lru_cache
def locked_features(width: int, steps: int, seed: int) -> dict[str, Tensor]:
    """The features `[N, D]` of every split by the tower of `pretrained_tower`, by split; kept as it is."""
    tower = lambda: pretrained_tower(width, steps, seed)  # noqa: E731
    return kept("tower", [width, steps, seed], lambda: tower_features(tower(), ("train", *TEST_SPLITS)))


def tower_features(tower: nn.Module, splits: tuple[str, ...]) -> dict[str, Tensor]:
    """What the image tower says of each picture of the splits, not augmented, `[N, D]`, by split; on the CPU."""
    return {split: cached_image_features(tower, emoji(split).images, IMAGE_SIZE).cpu() for split in splits}


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
    return train_on_features(features, setting["projection"], setting, seed)


@run_function(version=1, defaults=SCRATCH)
def train_from_scratch(setting: dict, seed: int) -> dict:
    """SigLIP in small: a ResNet and a text tower, both from scratch, on augmented pictures.

    Or the same ResNet first trained on names, and `tuned`, or `locked` (then as `train_text_on_locked`). Returns
    what `fit` and `evaluate` return, and with `few_shot` what that returns.
    """
    if setting["image_tower"] not in IMAGE_TOWERS:
        raise ValueError(f"unknown image_tower {setting['image_tower']!r}; choose from {', '.join(IMAGE_TOWERS)}")
    trained = setting["image_width"], setting["tower_steps"], setting["tower_seed"]
    if setting["image_tower"] == "locked":
        features = locked_features(*trained)
        result = train_on_features(features, True, setting, seed)
        return {**result, **({"few_shot": few_shot(features)} if setting["few_shot"] else {})}
    torch.manual_seed(seed)
    scratch = setting["image_tower"] == "scratch"
    tower = ResNet(IMAGE_SIZE, width=setting["image_width"]) if scratch else pretrained_tower(*trained)
    model = make_model(tower, setting, seed)
    images = emoji("train").images

    def pictures(rows: Tensor, draw: Tensor) -> Tensor:
        x = augment(images[rows].to(compute_device()), IMAGE_SIZE, draw, Augmentation())
        return x.contiguous(memory_format=torch.channels_last)

    result = fit(model, pictures, setting, seed)
    result |= evaluate(model, {split: plain(emoji(split).images, IMAGE_SIZE) for split in TEST_SPLITS})
    if setting["few_shot"]:
        result["few_shot"] = few_shot(tower_features(model.image_tower, ("train", "in_distribution")))
    return result


def train_on_features(features: dict[str, Tensor], projection: bool, setting: dict, seed: int) -> dict:
    """A text tower, and with `projection` a linear map of the features `[N, D]`, learn; nothing else does."""
    train = features["train"].to(compute_device())
    model = make_model(CachedImages(train.shape[1]), setting, seed)
    lock(model, projection)
    curves = fit(model, lambda rows, _: train[rows], setting, seed)
    return {**curves, **evaluate(model, {split: features[split] for split in TEST_SPLITS})}


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
    `curve_logit_bias`, `curve_gradient_norm`, the last `logit_scale` and `logit_bias`, and the pairs (of pictures
    and captions) of all steps together: `pairs_computed`, and `pairs_used` by the loss.
    """
    pairs, (tokenizer, tokens) = emoji("train"), tokenised()
    groups = pairs.groups if setting["distinct"] else torch.arange(len(pairs))
    order = BatchOrder(groups, setting["batch_size"], seed)
    optimizer = optimizer_for(model, setting)
    parameters = [p for p in model.parameters() if p.requires_grad]
    steps, pairs_used = setting["steps"], 0
    every, since = max(1, math.ceil(steps / CURVE_POINTS)), []
    curves: dict[str, list] = {f"curve_{key}": [] for key in ("step", "loss", "logit_scale", "gradient_norm")}
    curves |= {} if model.logit_bias is None else {"curve_logit_bias": []}
    model.train()
    for step in range(steps):
        set_learning_rate(optimizer, setting["lr"], step, round(setting["warmup"] * steps), steps)
        draw = torch.rand(setting["batch_size"], 17, generator=step_generator(seed, 3, step), dtype=torch.float64)
        rows = order.indices(step)
        images, ids = pictures(rows, draw[:, :16]), tokens.pick(rows, draw[:, 16], 1.0)
        noise = setting, tokenizer.vocab_size, step_generator(seed, 5, step)
        images, ids = corrupt(images, ids.to(images.device), *noise)
        features = *model(images, ids)[:2], model.logit_scale, bias_of(model, setting)
        labels = pairs.labels[rows].to(images.device)
        loss, used = step_loss(*features, labels, setting, step_generator(seed, 6, step))
        pairs_used += used
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
    counts = {"pairs_computed": steps * setting["batch_size"] ** 2, "pairs_used": pairs_used}
    return {**curves, **scalars(model, setting), **counts}


def optimizer_for(model: CLIP, setting: dict) -> torch.optim.Optimizer:
    """`make_optimizer`; with a `tower_decay` other than 1, the image tower's weights are groups of their own."""
    keys = ("lr", "weight_decay", "beta2", "scalar_lr_factor", "muon_lr")
    optimizer = make_optimizer(model, *(setting[key] for key in keys))
    if setting["tower_decay"] != 1:
        tower = {id(p) for p in model.image_tower.parameters()}
        for group in list(optimizer.param_groups):
            inside = [p for p in group["params"] if id(p) in tower]
            if group["weight_decay"] and inside:
                group["params"] = [p for p in group["params"] if id(p) not in tower]
                decay = group["weight_decay"] * setting["tower_decay"]
                optimizer.add_param_group({**group, "params": inside, "weight_decay": decay})
    return optimizer


def scalars(model: CLIP, setting: dict) -> dict[str, float]:
    """The inverse temperature t and, for the sigmoid, the bias as it is added to the logits."""
    bias = bias_of(model, setting)
    return {"logit_scale": model.logit_scale.exp().item(), **({} if bias is None else {"logit_bias": bias.item()})}


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


def few_shot(features: dict[str, Tensor]) -> float:
    """How good an image tower is without any text: top-1 of in_distribution's pictures, a fraction.

    features: the tower's own, `[N, D]`, of `train` and `in_distribution`. The name whose training pictures (three on
    average) have the nearest mean is said, among the ~1,900 without skin tones.
    """
    train, test = emoji("train"), emoji("in_distribution")
    unit = {split: F.normalize(features[split], dim=1) for split in ("train", "in_distribution")}
    names = torch.tensor([i for i, name in enumerate(train.class_names) if "skin tone" not in name])
    means = torch.zeros(len(train.class_names), unit["train"].shape[1]).index_add_(0, train.labels, unit["train"])
    known = torch.isin(test.labels, names)
    scores = unit["in_distribution"][known] @ F.normalize(means[names], dim=1).T  # [N, C]
    return top_k_accuracy(scores, torch.searchsorted(names, test.labels[known]), 1)
