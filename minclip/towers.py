"""The two transformers: pictures as patches (ViT) and captions as tokens (CLIP section 2.4).

Both are the same pre-norm blocks; what differs is what goes in, what may be attended to, and which
token's state stands for the whole.
"""

import math
from functools import cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minclip.tokenizer import END_ID, PAD_ID


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """softmax(q k^T / sqrt(d)) v for `[B, heads, N, d]`; mask: bool, True where a query may see a key.

    Written out for bfloat16 on a CPU, where the fused kernel's backward is five times slower for the
    short sequences of this repository. Elsewhere the fused kernel does the same, and holds no N x N matrix.
    """
    if q.device.type != "cpu" or q.dtype != torch.bfloat16:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    with torch.autocast("cpu", enabled=False):  # else the softmax would be kept for the backward in float32, too
        scores = (q @ k.transpose(-2, -1)).mul_(q.shape[-1] ** -0.5)  # [B, heads, N, N]
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
        return scores.softmax(-1) @ v  # [B, heads, N, d]


class QuickGELU(nn.Module):
    """x sigmoid(1.702 x): OpenAI's weights were trained with this approximation of the GELU."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, element by element."""
        return x * torch.sigmoid(1.702 * x)


ACTIVATIONS = {"gelu": nn.GELU, "gelu_tanh": partial(nn.GELU, "tanh"), "quick_gelu": QuickGELU}


def fit_positions(embedding: Tensor, positions: int) -> Tensor:
    """Learned embeddings of a square grid, `[extra + n^2, W]`, for a grid of `positions` cells instead (bicubic).

    Rows before the grid (a class token, a mean) stay as they are. So a tower that was made for one
    resolution can train on another, such as on fewer tokens first (CLIPA section 3).
    """
    extra = len(embedding) - math.isqrt(len(embedding)) ** 2
    old, new = math.isqrt(len(embedding) - extra), math.isqrt(positions)
    if old == new:
        return embedding
    grid = embedding[extra:].T.unflatten(1, (old, old))[None]  # [1, W, n, n]
    grid = F.interpolate(grid, (new, new), mode="bicubic", align_corners=False)[0]
    return torch.cat([embedding[:extra], grid.flatten(1).T])  # [extra + positions, W]


def patchify(images: Tensor, patch_size: int) -> Tensor:
    """`[B, 3, S, S]` -> patches `[B, N, 3 P^2]`, row by row, each laid out like a filter of the convolution."""
    x = images.unflatten(3, (-1, patch_size)).unflatten(2, (-1, patch_size))  # [B, 3, n, P, n, P]
    return x.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


@cache  # a tower asks in every step
def sincos_positions(side: int, width: int) -> Tensor:
    """Fixed embeddings of a `side` x `side` grid, `[side^2, width]`: half of them for the row, half for the column.

    A quarter each of sines and cosines, whose wavelengths grow from 2 pi patches to 10,000 times that (CLIPA, after
    MoCo v3). They are made for any grid, so another resolution needs no interpolation.
    """
    rates = 10_000 ** -(torch.arange(width // 4, dtype=torch.float64) / max(1, width // 4 - 1))  # [W / 4]
    angle = torch.arange(side, dtype=torch.float64)[:, None] * rates  # [side, W / 4]
    waves = torch.cat([angle.sin(), angle.cos()], 1)  # [side, W / 2]
    rows, columns = waves[:, None].expand(-1, side, -1), waves.expand(side, -1, -1)  # each [side, side, W / 2]
    return torch.cat([columns, rows], 2).flatten(0, 1)


def fit_text_positions(embedding: Tensor, length: int) -> Tensor:
    """Embeddings of a text tower's positions, `[L, W]`, for another context length: `[length, W]`.

    A shorter one takes the first rows: a caption that fits keeps its positions, as when a tower trains on few text
    tokens (CLIPA section 3). For a longer one they are interpolated (linear).
    """
    if length <= len(embedding):
        return embedding[:length]
    return F.interpolate(embedding.T[None], length, mode="linear", align_corners=False)[0].T


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)).

    hidden: width inside the MLP, 0 for 4 width. activation: one of ACTIVATIONS. eps: what a norm adds to a variance.
    """

    def __init__(
        self, width: int, heads: int, dropout: float = 0.0, hidden: int = 0, activation: str = "gelu", eps: float = 1e-5
    ) -> None:
        super().__init__()
        hidden = hidden or 4 * width
        self.norm1, self.norm2 = nn.LayerNorm(width, eps), nn.LayerNorm(width, eps)
        self.activation = ACTIVATIONS[activation]()
        self.qkv, self.attention_out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp_in, self.mlp_out = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.heads, self.dropout = heads, nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """x: `[B, N, W]`; mask: bool, True where a query (row) may see a key (column). Returns `[B, N, W]`."""
        qkv = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1))  # [B, N, 3, heads, W / heads]
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each [B, heads, N, W / heads]
        attended = attention(q, k, v, mask)
        x = x + self.dropout(self.attention_out(attended.transpose(1, 2).flatten(2)))
        return x + self.dropout(self.mlp_out(self.activation(self.mlp_in(self.norm2(x)))))


def init_transformer(blocks: nn.ModuleList, width: int) -> None:
    """CLIP's initialisation: output layers are scaled down with depth, so the residual stream keeps its size."""
    for block in blocks:
        nn.init.normal_(block.qkv.weight, std=width**-0.5)
        nn.init.normal_(block.mlp_in.weight, std=(2 * width) ** -0.5)
        for layer in (block.attention_out, block.mlp_out):
            nn.init.normal_(layer.weight, std=width**-0.5 * (2 * len(blocks)) ** -0.5)
        for layer in (block.qkv, block.attention_out, block.mlp_in, block.mlp_out):
            nn.init.zeros_(layer.bias)


def check_heads(width: int, heads: int) -> None:
    """Raise a clear error when the width cannot be divided among the heads."""
    if width % heads:
        raise ValueError(f"width {width} is not a multiple of heads {heads}; choose another width or number of heads")


class MapPool(nn.Module):
    """Multi-head attention pooling with a learned query, then an MLP (SigLIP's image head)."""

    def __init__(self, width: int, heads: int, hidden: int = 0, activation: str = "gelu", eps: float = 1e-5) -> None:
        super().__init__()
        hidden = hidden or 4 * width
        self.probe = nn.Parameter(torch.randn(1, 1, width) * width**-0.5)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm = nn.LayerNorm(width, eps)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), ACTIVATIONS[activation](), nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        """`[B, N, W]` -> `[B, W]`."""
        probe = self.probe.expand(len(x), -1, -1)  # [B, 1, W]
        pooled = self.attention(probe, x, x, need_weights=False)[0]
        return (pooled + self.mlp(self.norm(pooled)))[:, 0]


class VisionTransformer(nn.Module):
    """Image tower: `[B, 3, S, S]` in [-1, 1] -> features `[B, width]`.

    pool: `cls` (an extra token, CLIP), `mean` (of the patches), `map` (attention, SigLIP) or `cls_mean` (of the
    patches, with an extra token among them that is not pooled: CLIPA's released weights). positions: `learned` (CLIP,
    SigLIP) or `sincos` (fixed, CLIPA; width must be a multiple of 4). norms: `both`, before and after the blocks
    (CLIP), or only `after` (SigLIP, CLIPA). block: what else a `Block` can be told.
    """

    def __init__(
        self,
        image_size: int = 32,
        patch_size: int = 4,
        width: int = 128,
        layers: int = 4,
        heads: int = 4,
        pool: str = "mean",
        dropout: float = 0.0,
        positions: str = "learned",
        norms: str = "both",
        **block: object,
    ) -> None:
        super().__init__()
        if image_size % patch_size:
            raise ValueError(f"image_size {image_size} is not a multiple of patch_size {patch_size}")
        if pool not in ("cls", "mean", "map", "cls_mean"):
            raise ValueError(f"unknown pool {pool!r}; choose cls, mean, map or cls_mean")
        if positions not in ("learned", "sincos") or (positions == "sincos" and width % 4):
            raise ValueError(f"positions {positions!r} with width {width}: choose learned, or sincos (width 4 n)")
        check_heads(width, heads)
        self.pool, self.output_dim, self.patch_size = pool, width, patch_size
        self.patch_embedding = nn.Conv2d(3, width, patch_size, patch_size, bias=False)
        self.extra = int(pool in ("cls", "cls_mean"))
        tokens = (image_size // patch_size) ** 2 + self.extra
        learned = positions == "learned"
        self.position_embedding = nn.Parameter(torch.randn(tokens, width) * width**-0.5) if learned else None
        self.cls_embedding = nn.Parameter(torch.randn(width) * width**-0.5) if self.extra else None
        norm = partial(nn.LayerNorm, width, block.get("eps", 1e-5))
        self.norm_in, self.norm_out = norm() if norms == "both" else nn.Identity(), norm()  # in: CLIP's one extra norm
        self.blocks = nn.ModuleList(Block(width, heads, dropout, **block) for _ in range(layers))
        self.map_pool = MapPool(width, heads, **block) if pool == "map" else None
        init_transformer(self.blocks, width)

    def forward(self, images: Tensor, kept: Tensor | None = None) -> Tensor:
        """`[B, 3, S, S]` -> `[B, width]`; S may be any multiple of the patch size.

        kept: the places of the patches that each picture shows, long `[B, K]` (`minclip.masking.mask_image`);
        the others are not computed. Default: all. Raises ValueError for pictures that do not fit the patches.
        """
        if images.shape[2] != images.shape[3] or images.shape[2] % self.patch_size:
            raise ValueError(f"pictures are {list(images.shape[2:])}: not square or no multiple of {self.patch_size}")
        positions, extra = self.positions(images.shape[2] // self.patch_size), self.extra
        if kept is None:
            x = self.patch_embedding(images).flatten(2).transpose(1, 2)  # [B, N, W]
            x = x + positions[extra:].to(x.dtype)
        else:
            patches = patchify(images, self.patch_size)  # [B, N, 3 P^2]
            patches = patches.gather(1, kept[..., None].expand(-1, -1, patches.shape[2]))  # [B, K, 3 P^2]
            x = F.linear(patches, self.patch_embedding.weight.flatten(1))  # the same as the convolution
            x = x + positions[extra:][kept].to(x.dtype)  # [B, K, W]
        if extra:
            cls = (self.cls_embedding + positions[0]).to(x.dtype)
            x = torch.cat([cls.expand(len(x), 1, -1), x], 1)  # [B, 1 + N, W]
        # In autocast the residual stream stays in the short type of the patches, which halves its memory.
        x = self.norm_in(x)
        for block in self.blocks:
            x = block(x)
        if self.pool == "map":
            return self.map_pool(self.norm_out(x))
        return self.norm_out(x[:, 0] if self.pool == "cls" else x[:, extra:].mean(1))

    def positions(self, side: int) -> Tensor:
        """What is added to the tokens of a `side` x `side` grid: `[extra + side^2, width]`; extra: the class token."""
        if self.position_embedding is not None:
            return fit_positions(self.position_embedding, side**2)
        weight = self.patch_embedding.weight
        grid = sincos_positions(side, self.output_dim).to(weight)
        return F.pad(grid, (0, 0, self.extra, 0))  # the class token has no place


class TextTransformer(nn.Module):
    """Text tower: ids `[B, L]` -> features `[B, width]`.

    causal: each token sees only those before it (CLIP). pool: `eos` (the state at the end token, CLIP),
    `last` (the last position, SigLIP, padding and all) or `mean` (of the tokens that are not padding).
    block: what else a `Block` can be told. Ids may be shorter than `context_length`. With `eos` and
    `mean`, padding changes nothing: causal tokens never see it, and without `causal` it is masked out.
    """

    def __init__(
        self,
        vocab_size: int,
        context_length: int = 24,
        width: int = 128,
        layers: int = 2,
        heads: int = 4,
        causal: bool = True,
        pool: str = "eos",
        dropout: float = 0.0,
        **block: object,
    ) -> None:
        super().__init__()
        if pool not in ("eos", "last", "mean"):
            raise ValueError(f"unknown pool {pool!r}; choose eos, last or mean")
        check_heads(width, heads)
        self.causal, self.pool, self.output_dim, self.context_length = causal, pool, width, context_length
        self.token_embedding = nn.Embedding(vocab_size, width)
        self.position_embedding = nn.Parameter(torch.randn(context_length, width) * 0.01)
        self.blocks = nn.ModuleList(Block(width, heads, dropout, **block) for _ in range(layers))
        self.norm_out = nn.LayerNorm(width, block.get("eps", 1e-5))
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        init_transformer(self.blocks, width)

    def forward(self, ids: Tensor) -> Tensor:
        """Long `[B, L]` -> `[B, width]`. Raises ValueError when L exceeds context_length.

        On a CPU, captions of like length go through together, so that one long caption does not make
        all others as long: two thirds of the emoji's tokens would be padding.
        """
        if ids.device.type != "cpu" or self.pool == "last":
            return self.encode(ids)
        place = torch.arange(1, ids.shape[1] + 1)  # [L]
        lengths = ((ids != PAD_ID) * place).amax(1).clamp(min=1)  # [B]
        parts = lengths.argsort(stable=True).chunk(4)  # rows of the shortest, ..., of the longest
        features = torch.cat([self.encode(ids[rows, : lengths[rows].max()]) for rows in parts])  # [B, W], sorted
        return features[torch.cat(parts).argsort()]

    def encode(self, ids: Tensor) -> Tensor:
        """Long `[B, L]` -> `[B, width]`, with all the padding that is there."""
        length = ids.shape[1]
        if length > self.context_length:
            raise ValueError(f"captions of {length} tokens do not fit context_length {self.context_length}")
        x = self.token_embedding(ids) + self.position_embedding[:length]  # [B, L, W]
        mask = None
        if self.causal:
            mask = torch.ones(length, length, dtype=torch.bool, device=ids.device).tril()  # [L, L]
        elif self.pool != "last":  # SigLIP's `last` pools a padding position, so there padding must be seen
            mask = (ids != PAD_ID)[:, None, None, :]  # [B, 1, 1, L]
        for block in self.blocks:
            x = block(x, mask)
        if self.pool == "last":
            return self.norm_out(x[:, -1])
        if self.pool == "mean":
            real = (ids != PAD_ID).unsqueeze(-1).to(x.dtype)  # [B, L, 1]
            return self.norm_out((x * real).sum(1) / real.sum(1))
        end = (ids == END_ID).int().argmax(1)  # [B], the first end token
        return self.norm_out(x[torch.arange(len(x), device=x.device), end])
