"""Four objectives for one image tower (CLIP section 2.3, Figure 2): say the caption word by word, say which words
occur, or recognise the caption among others, as a bag of words or in order.

Each objective is a model with `objective(images, ids)`, the loss, and `scores(images, ids)`, how well each caption
fits each picture. All share pictures, captions, optimizer, and the exam at the end.
"""

import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.common import SCRATCH, SCRATCH_BASE
from experiments.emoji import IMAGE_SIZE, augmented, compute_device, emoji, names_without_tones, tokenised
from experiments.sweep import run_function
from experiments.tokens import CAPTION_LENGTH, short
from minclip.clip import CLIP
from minclip.data import BatchOrder, plain, step_generator
from minclip.optimizer import make_optimizer, set_learning_rate
from minclip.resnet import ResNet
from minclip.softmax_loss import softmax_loss
from minclip.tokenizer import END_ID, PAD_ID, CaptionTokens
from minclip.towers import Block, TextTransformer, init_transformer
from minclip.zero_shot import top_k_accuracy

NAMES = 250  # that an exam has at most: the language model reads every name to every picture
OBJECTIVES = ("language model", "bag of words", "bag-of-words contrastive", "contrastive")
DEFAULTS = {
    **{key: SCRATCH[key] for key in ("lr", "weight_decay", "beta2", "warmup", "scalar_lr_factor", "image_width")},
    **{key: SCRATCH[key] for key in ("embed_dim", "text_width", "text_layers")},
    **{key: SCRATCH_BASE[key] for key in ("batch_size", "muon_lr")},
    "objective": "contrastive",
    "steps": 360,
    "measured": [30, 60, 120, 240],  # steps after which there is an exam, too
}


def exact() -> torch.autocast:
    """What decides a ranking is not rounded to bfloat16, whose 8 bits would make ties."""
    return torch.autocast(compute_device().type, enabled=False)


class Predictor(nn.Module):
    """A model that predicts captions; what `make_optimizer` asks of a CLIP, it has, but there is no temperature."""

    logit_bias = None

    def __init__(self, image_tower: nn.Module) -> None:
        super().__init__()
        self.image_tower = image_tower
        self.logit_scale = nn.Parameter(torch.zeros(()), requires_grad=False)

    def clamp_logit_scale(self) -> None:
        """There is none."""


class LanguageModel(Predictor):
    """Predicts the caption's tokens in order; the picture is the first token of a small causal transformer."""

    def __init__(self, image_tower: nn.Module, vocab_size: int, width: int, layers: int) -> None:
        super().__init__(image_tower)
        self.image_projection = nn.Linear(image_tower.output_dim, width)
        self.token_embedding = nn.Embedding(vocab_size, width)
        self.position_embedding = nn.Parameter(torch.randn(CAPTION_LENGTH - 1, width) * 0.01)
        self.blocks = nn.ModuleList(Block(width, max(1, width // 32)) for _ in range(layers))
        self.norm_out, self.vocabulary = nn.LayerNorm(width), nn.Linear(width, vocab_size)
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        init_transformer(self.blocks, width)

    def states(self, features: Tensor, ids: Tensor) -> Tensor:
        """Image features `[B, D]`, ids `[B, L]` -> `[B, L - 1, W]`: state t has seen the picture and tokens 1 to t.

        Where a text tower has the start token, this has the picture; the last token is only predicted.
        """
        x = torch.cat([self.image_projection(features)[:, None], self.token_embedding(ids[:, 1:-1])], 1)
        x = x + self.position_embedding[: x.shape[1]]  # [B, L - 1, W]
        mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril()
        for block in self.blocks:
            x = block(x, mask)
        return self.norm_out(x)

    def token_scores(self, features: Tensor, ids: Tensor) -> Tensor:
        """Log-probability of each token after the first, the end's too, `[B, L - 1]`; 0 where there is padding.

        Captions of like length go through together: most tokens of a batch would be padding.
        """
        lengths, found = (ids != PAD_ID).sum(1), []  # [B]
        parts = lengths.argsort(stable=True).chunk(4)  # rows of the shortest, ..., of the longest
        for rows in parts:
            targets = ids[rows, 1 : lengths[rows].max()]  # [B / 4, l - 1]
            told = targets != PAD_ID
            states = self.states(features[rows], ids[rows, : lengths[rows].max()])[told]  # [tokens, W]
            logits = self.vocabulary(states).to(self.logit_scale.dtype)
            losses = F.cross_entropy(logits, targets[told], reduction="none")
            part = losses.new_zeros(told.shape).masked_scatter(told, -losses)
            found.append(F.pad(part, (0, ids.shape[1] - 1 - part.shape[1])))
        return torch.cat(found)[torch.cat(parts).argsort()]

    def objective(self, images: Tensor, ids: Tensor) -> Tensor:
        """Mean cross-entropy over the tokens that are not padding."""
        return -self.token_scores(self.image_tower(images), ids).sum() / (ids[:, 1:] != PAD_ID).sum()

    def scores(self, images: Tensor, ids: Tensor) -> Tensor:
        """Log-probability of each caption `[C, L]` given each picture, `[B, C]`."""
        features = self.image_tower(images)  # one by one: all probabilities at once would not fit into memory
        return torch.stack([self.token_scores(one.expand(len(ids), -1), ids).sum(1) for one in features])


class BagOfWords(Predictor):
    """Predicts which tokens the caption has, in any order (Joulin et al. 2016): one linear map, one softmax."""

    def __init__(self, image_tower: nn.Module, vocab_size: int) -> None:
        super().__init__(image_tower)
        self.vocabulary = nn.Linear(image_tower.output_dim, vocab_size)

    def log_probabilities(self, images: Tensor) -> Tensor:
        """Of each token of the vocabulary, `[B, V]`."""
        features = self.image_tower(images).to(self.logit_scale.dtype)  # [B, D]
        with exact():
            return self.vocabulary(features).log_softmax(1)

    def counts(self, ids: Tensor) -> Tensor:
        """How often each token is in each caption `[B, L]`: `[B, V]`; start, end and padding are no words."""
        word = (ids > END_ID).to(self.logit_scale.dtype)
        return word.new_zeros(len(ids), self.vocabulary.out_features).scatter_add_(1, ids, word)

    def objective(self, images: Tensor, ids: Tensor) -> Tensor:
        """Mean cross-entropy against the share that each token has of the caption."""
        counts = self.counts(ids)  # [B, V]
        return -(counts / counts.sum(1, keepdim=True) * self.log_probabilities(images)).sum(1).mean()

    def scores(self, images: Tensor, ids: Tensor) -> Tensor:
        """Log-probability of the tokens of each caption `[C, L]` given each picture, `[B, C]`."""
        said = self.log_probabilities(images)  # [B, V]
        with exact():
            return said @ self.counts(ids).T


class Contrastive(CLIP):
    """CLIP, whose loss is a method, as the predictors' are."""

    def objective(self, images: Tensor, ids: Tensor) -> Tensor:
        """CLIP's Figure 3."""
        features = self(images, ids)
        with exact():
            return softmax_loss(*features)

    def scores(self, images: Tensor, ids: Tensor) -> Tensor:
        """Cosines of pictures and captions `[C, L]`, `[B, C]`."""
        image_features, text_features = self.encode_image(images), self.encode_text(ids)
        with exact():
            return image_features @ text_features.T


class MeanEmbedding(nn.Module):
    """A text tower that knows no order: the mean of the caption's token embeddings, `[B, L]` -> `[B, W]`."""

    def __init__(self, vocab_size: int, width: int) -> None:
        super().__init__()
        self.output_dim, self.token_embedding = width, nn.Embedding(vocab_size, width)
        nn.init.normal_(self.token_embedding.weight, std=0.02)

    def forward(self, ids: Tensor) -> Tensor:
        """Long `[B, L]` -> `[B, W]`; start, end and padding say nothing."""
        word = (ids > END_ID).unsqueeze(-1).to(self.token_embedding.weight.dtype)  # [B, L, 1]
        return (self.token_embedding(ids) * word).sum(1) / word.sum(1)


def objective_model(setting: dict, seed: int) -> nn.Module:
    """The model of a setting's `objective`; the image tower starts from the same weights for all of them.

    Raises ValueError for an unknown objective.
    """
    if setting["objective"] not in OBJECTIVES:
        raise ValueError(f"unknown objective {setting['objective']!r}; choose from {', '.join(OBJECTIVES)}")
    torch.manual_seed(seed)
    tower, vocab_size = ResNet(IMAGE_SIZE, width=setting["image_width"]), tokenised()[0].vocab_size
    width, layers = setting["text_width"], setting["text_layers"]
    if setting["objective"] == "language model":
        model = LanguageModel(tower, vocab_size, width, layers)
    elif setting["objective"] == "bag of words":
        model = BagOfWords(tower, vocab_size)
    elif setting["objective"] == "bag-of-words contrastive":
        model = Contrastive(tower, MeanEmbedding(vocab_size, width), setting["embed_dim"])
    else:
        text = TextTransformer(vocab_size, CAPTION_LENGTH, width, layers, max(1, width // 32))
        model = Contrastive(tower, text, setting["embed_dim"])
    return model.to(compute_device(), memory_format=torch.channels_last)


# The exam


def exam(split: str) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures `[N, 3, S, S]`, the names that compete as ids `[C, L]`, and the place of each picture's name `[N]`.

    All pictures of at most NAMES of the split's names without skin tones, always the same ones.
    """
    pairs, (tokenizer, _) = emoji(split), tokenised()
    names = pairs.labels[torch.isin(pairs.labels, names_without_tones())].unique()
    names = names[torch.randperm(len(names), generator=step_generator(0, 10))[:NAMES]].sort().values
    rows = torch.isin(pairs.labels, names)
    ids = tokenizer([pairs.class_names[i] for i in names.tolist()], CAPTION_LENGTH)
    ids = ids[:, : (ids != PAD_ID).sum(1).max()]
    return plain(pairs.images[rows], IMAGE_SIZE), ids, torch.searchsorted(names, pairs.labels[rows])


def information(scores: Tensor, prior: Tensor) -> Tensor:
    """Pointwise mutual information of pictures and names: log p(name | picture) `[N, C]` - log p(name).

    p(name) is, up to a factor, the sum over other pictures, whose log p(name | picture) are `prior` `[M, C]`.
    """
    return scores - prior.logsumexp(0)


@torch.no_grad()
def accuracy(model: nn.Module, split: str) -> tuple[float, float]:
    """Zero-shot top-1 of the exam of a split, a fraction; and what it would be by the scores alone.

    Predictors choose by `information`: a name's own log-probability says, too, how usual its words are.
    """
    (images, ids, labels), device = exam(split), compute_device()
    model.eval()

    def score(images: Tensor) -> Tensor:
        return torch.cat([model.scores(part.to(device), ids.to(device)) for part in images.split(256)]).cpu()

    with short():
        scores = chosen = score(images)  # [N, C]
        if isinstance(model, Predictor):
            chosen = information(scores, score(other_pictures()))
    model.train()
    return top_k_accuracy(chosen, labels, 1), top_k_accuracy(scores, labels, 1)


def other_pictures() -> Tensor:
    """128 training pictures of different concepts, always the same ones: what names are likely by themselves."""
    train = emoji("train")
    return plain(train.images[BatchOrder(train.groups, 128, 0).indices(0)], IMAGE_SIZE)


# The run


@run_function(version=1, defaults=DEFAULTS)
def train_with_objective(setting: dict, seed: int) -> dict:
    """Train the image tower from scratch with one objective, and examine it on the way.

    A picture's caption is its name, a sentence with it, or the name and keywords, as often. Returns `curve_step`,
    `curve_accuracy` and its points `accuracy_<step>`, of new drawings of the training artists; after the last step
    `accuracy`, the same, `accuracy_alone`, by the scores alone, `fxemoji`, of an unseen artist, and `loss`; and
    `seconds_per_step`, without the exams.
    """
    model, train = objective_model(setting, seed), emoji("train")
    tokens = CaptionTokens(train.captions, tokenised()[0], CAPTION_LENGTH)
    order = BatchOrder(train.groups, setting["batch_size"], seed)
    keys = ("lr", "weight_decay", "beta2", "scalar_lr_factor", "muon_lr")
    optimizer = make_optimizer(model, *(setting[key] for key in keys))
    steps, seconds, curve = setting["steps"], 0.0, {}
    for step in range(steps):
        began = time.perf_counter()
        set_learning_rate(optimizer, setting["lr"], step, round(setting["warmup"] * steps), steps)
        draw = torch.rand(setting["batch_size"], 17, generator=step_generator(seed, 3, step), dtype=torch.float64)
        rows = order.indices(step)
        images, ids = augmented(rows, draw[:, :16]), tokens.pick(rows, draw[:, 16], 1 / 3)
        with short():
            loss = model.objective(images, ids.to(images.device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.clamp_logit_scale()
        seconds += time.perf_counter() - began
        if step + 1 in setting["measured"]:
            curve[step + 1] = accuracy(model, "in_distribution")[0]
    curve[steps], alone = accuracy(model, "in_distribution")
    return {
        "curve_step": list(curve),
        "curve_accuracy": list(curve.values()),
        **{f"accuracy_{step}": value for step, value in curve.items()},
        "accuracy": curve[steps],
        "accuracy_alone": alone,
        "fxemoji": accuracy(model, "fxemoji")[0],
        "loss": loss.item(),
        "seconds_per_step": seconds / steps,
    }
