"""The transformers against torch's own layers, and what may and may not change a feature."""

import math

import pytest
import torch
import torch.nn.functional as F
from conftest import assert_close, assert_differ
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from minclip.masking import mask_image
from minclip.tokenizer import END_ID, PAD_ID, START_ID
from minclip.towers import (
    Block,
    MapPool,
    TextTransformer,
    VisionTransformer,
    attention,
    fit_positions,
    fit_text_positions,
    patchify,
    sincos_positions,
)

VOCABULARY = 50


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def vision(pool="mean", **settings):
    torch.manual_seed(0)
    return VisionTransformer(image_size=16, patch_size=4, width=24, layers=2, heads=3, pool=pool, **settings).double()


def text(pool="eos", causal=True, **settings):
    torch.manual_seed(0)
    settings = {"context_length": 12, "width": 24, "layers": 2, "heads": 3, **settings}
    tower = TextTransformer(VOCABULARY, pool=pool, causal=causal, **settings).double()
    nn.init.normal_(tower.token_embedding.weight)  # the small initial embeddings would hide differences
    return tower


def pictures(n=3):
    return torch.randn(n, 3, 16, 16, generator=generator(), dtype=torch.float64)


def captions():
    """Three captions of different lengths, `[3, 12]`."""
    words = torch.randint(3, VOCABULARY, (3, 12), generator=generator())
    rows = [[START_ID, *row[:length].tolist(), END_ID] for row, length in zip(words, (2, 5, 10))]
    return torch.tensor([row + [PAD_ID] * (12 - len(row)) for row in rows])


def states(tower, ids):
    """What the last block hands to the pooling, `[B, L, W]`."""
    kept = []
    handle = tower.blocks[-1].register_forward_hook(lambda module, inputs, output: kept.append(output))
    (tower.encode if isinstance(tower, TextTransformer) else tower)(ids)
    handle.remove()
    return kept[0]


# --- attention and blocks


@pytest.mark.parametrize("kind", ["none", "causal", "padding"])
def test_attention_is_torchs_own(kind):
    qkv = torch.randn(3, 2, 3, 5, 4, generator=generator(), dtype=torch.float64)
    q, k, v = (part.clone().requires_grad_() for part in qkv)
    causal, padding = torch.ones(5, 5).tril() > 0, (torch.arange(5) < 3).expand(2, 1, 1, 5)
    mask = {"none": None, "causal": causal, "padding": padding}[kind]
    ours, theirs = attention(q, k, v, mask), F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    assert_close(ours, theirs)
    weight = torch.randn(ours.shape, generator=generator(3), dtype=torch.float64)
    for a, b in zip(*(torch.autograd.grad(out, (q, k, v), weight) for out in (ours, theirs))):
        assert_close(a, b)


def test_attention_keeps_the_dtype():
    q = torch.randn(1, 1, 3, 4, dtype=torch.bfloat16)
    assert attention(q, q, q).dtype == torch.bfloat16


@pytest.mark.parametrize("causal", [False, True])
def test_block_is_torchs_pre_norm_encoder_layer(causal):
    torch.manual_seed(0)
    block = Block(24, 3).double()
    peer = nn.TransformerEncoderLayer(24, 3, 96, 0.0, "gelu", batch_first=True, norm_first=True, dtype=torch.float64)
    with torch.no_grad():
        for norm in (block.norm1, block.norm2):  # ones and zeros would hide an exchange
            norm.weight.normal_(), norm.bias.normal_()
    pairs = {
        "self_attn.in_proj_": block.qkv, "self_attn.out_proj.": block.attention_out, "linear1.": block.mlp_in,
        "linear2.": block.mlp_out, "norm1.": block.norm1, "norm2.": block.norm2,
    }  # fmt: skip
    parts = ("weight", "bias")
    peer.load_state_dict({name + part: getattr(ours, part) for name, ours in pairs.items() for part in parts})
    x = torch.randn(2, 5, 24, generator=generator(), dtype=torch.float64)
    mask = torch.ones(5, 5).tril() > 0 if causal else None  # theirs is true where a key is hidden
    assert_close(block(x, mask), peer(x, src_mask=~mask if causal else None))


def test_map_pool_is_torchs_attention_with_a_learned_query():
    torch.manual_seed(0)
    pool = MapPool(24, 3).double()
    x = torch.randn(2, 7, 24, generator=generator(), dtype=torch.float64)
    q_weight, k_weight, v_weight = pool.attention.in_proj_weight.chunk(3)
    q_bias, k_bias, v_bias = pool.attention.in_proj_bias.chunk(3)
    split = lambda t: t.unflatten(-1, (3, 8)).transpose(1, 2)  # noqa: E731
    probe = pool.probe.expand(2, 1, 24)
    parts = (F.linear(probe, q_weight, q_bias), F.linear(x, k_weight, k_bias), F.linear(x, v_weight, v_bias))
    pooled = pool.attention.out_proj(F.scaled_dot_product_attention(*map(split, parts)).transpose(1, 2).flatten(1))
    assert_close(pool(x), pooled + pool.mlp(pool.norm(pooled)))


def test_output_layers_start_smaller_the_deeper_the_tower():
    for layers in (1, 8):
        tower = VisionTransformer(16, 4, 128, layers, 4)
        for block in tower.blocks:
            for layer in (block.attention_out, block.mlp_out):
                expected = 128**-0.5 * (2 * layers) ** -0.5
                assert abs(layer.weight.std() / expected - 1) < 0.05 and not layer.bias.any()


def test_dropout_drops_in_training_only():
    for tower, x in ((vision(dropout=0.5), pictures()), (text(dropout=0.5), captions())):
        assert_differ(tower(x), tower(x))
        assert_close(tower.eval()(x), tower(x))


# --- pictures


@pytest.mark.parametrize("pool", ["cls", "mean", "map"])
def test_vision_features_have_the_width(pool):
    tower = vision(pool)
    assert tower(pictures()).shape == (3, 24) and tower.output_dim == 24
    assert len(tower.position_embedding) == 16 + (pool == "cls")


@pytest.mark.parametrize("pool", ["cls", "mean", "map"])
def test_each_picture_has_its_feature_alone(pool):
    tower, images = vision(pool), pictures()
    assert_close(tower(images)[1:2], tower(images[1:2]))
    assert_differ(tower(images)[0], tower(images)[1])


@pytest.mark.parametrize("pool", ["cls", "mean", "map"])
def test_only_the_position_embedding_knows_where_a_patch_is(pool):
    tower, images = vision(pool), pictures()
    swapped = images.roll(4, dims=3)  # by a whole patch
    assert_differ(tower(images), tower(swapped))
    nn.init.zeros_(tower.position_embedding)
    assert_close(tower(images), tower(swapped))


@pytest.mark.parametrize("pool", ["cls", "mean", "map"])
def test_every_pixel_reaches_the_feature(pool):
    tower, images = vision(pool), pictures().requires_grad_()
    (tower(images) * torch.randn(3, 24, generator=generator(1), dtype=torch.float64)).sum().backward()
    assert images.grad.abs().min() > 0


def test_pools_are_what_their_names_say():
    images = pictures()
    tower = vision("mean")
    assert_close(tower(images), tower.norm_out(states(tower, images).mean(1)))
    tower = vision("cls")
    assert_close(tower(images), tower.norm_out(states(tower, images)[:, 0]))
    assert states(tower, images).shape[1] == 17
    tower = vision("map")
    assert_close(tower(images), tower.map_pool(tower.norm_out(states(tower, images))))


def test_tokens_are_normalised_before_the_first_block():
    for pool in ("cls", "mean", "map"):
        tower, kept = vision(pool), []
        tower.blocks[0].register_forward_pre_hook(lambda module, inputs, kept=kept: kept.append(inputs[0]))
        tower(10 * pictures())
        assert_close(kept[0].mean(-1), torch.zeros(kept[0].shape[:2], dtype=torch.float64))
        torch.testing.assert_close(
            kept[0].var(-1, correction=0), torch.ones(kept[0].shape[:2]).double(), atol=1e-3, rtol=0
        )


def test_positions_fit_another_resolution():
    row, column = torch.meshgrid(torch.arange(6), torch.arange(6), indexing="ij")
    special = torch.tensor([[7.0, -7.0, 7.0]])
    grid = torch.stack([row, column, torch.ones(6, 6)], -1).flatten(0, 1).float()  # [36, 3]
    assert fit_positions(grid, 36) is grid
    for extra in (0, 1):
        embedding = torch.cat([special[:extra], grid]).double()
        small = fit_positions(embedding, 9)
        torch.testing.assert_close(small[:extra], special[:extra].double(), atol=0, rtol=0)
        rows, columns, ones = small[extra:].unflatten(0, (3, 3)).unbind(-1)  # each [3, 3]
        middles = torch.tensor([0.5, 2.5, 4.5], dtype=torch.float64)  # a large cell's centre, counted in small cells
        torch.testing.assert_close(rows, middles[:, None].expand(3, 3), atol=0.1, rtol=0)  # the border is clamped
        torch.testing.assert_close(columns, middles.expand(3, 3), atol=0.1, rtol=0)
        assert_close(rows[1], torch.full((3,), 2.5, dtype=torch.float64))
        assert_close(ones, torch.ones(3, 3, dtype=torch.float64))
        assert fit_positions(embedding, 100).shape == (100 + extra, 3)


@pytest.mark.parametrize("pool", ["cls", "mean", "map"])
def test_a_tower_sees_pictures_of_another_size(pool):
    tower = vision(pool)
    larger = torch.randn(2, 3, 24, 24, generator=generator(), dtype=torch.float64)
    assert tower(larger).shape == tower(larger[..., :8, :8]).shape == (2, 24)


# --- fewer patches

POOLS = pytest.mark.parametrize("pool", ["cls", "mean", "map"])
POSITIONS = pytest.mark.parametrize("positions", ["learned", "sincos"])


def some_patches(images, keep=0.25, strategy="random"):
    draw = torch.rand(len(images), (images.shape[2] // 4) ** 2, generator=generator(5))
    return mask_image(draw, images.shape[2] // 4, keep, strategy)


def textbook(tower, images, kept):
    """All patches are embedded and get their positions; then those that stay are gathered."""
    x = tower.patch_embedding(images).flatten(2).transpose(1, 2)  # [B, N, W]
    side = images.shape[2] // tower.patch_size
    if tower.position_embedding is None:
        grid, cls = sincos_positions(side, tower.output_dim), 0
    else:
        fitted = fit_positions(tower.position_embedding, side**2)
        grid, cls = fitted[-(side**2) :], fitted[0]
    x = torch.stack([row[places] for row, places in zip(x + grid, kept)])  # [B, K, W]
    if tower.pool == "cls":
        x = torch.cat([(tower.cls_embedding + cls).expand(len(x), 1, -1), x], 1)
    x = tower.norm_in(x)
    for block in tower.blocks:
        x = block(x)
    x = {"cls": lambda: x[:, 0], "mean": lambda: x.mean(1), "map": lambda: tower.norm_out(x)}[tower.pool]()
    return tower.map_pool(x) if tower.pool == "map" else tower.norm_out(x)


def values_and_gradients(tower, features):
    weight = torch.randn(features.shape, generator=generator(9), dtype=torch.float64)
    return [features, *torch.autograd.grad((features * weight).sum(), list(tower.parameters()))]


@POOLS
@POSITIONS
@pytest.mark.parametrize("size", [16, 24])
@pytest.mark.parametrize(("keep", "strategy"), [(0.5, "random"), (0.25, "grid"), (0.25, "block")])
def test_masked_features_and_gradients_are_those_of_the_textbook(pool, positions, size, keep, strategy):
    tower = vision(pool, positions=positions)
    images = torch.randn(3, 3, size, size, generator=generator(), dtype=torch.float64)
    kept = some_patches(images, keep, strategy)
    for ours, theirs in zip(
        values_and_gradients(tower, tower(images, kept)),
        values_and_gradients(tower, textbook(tower, images, kept)),
        strict=True,
    ):
        assert_close(ours, theirs)


@POOLS
@POSITIONS
def test_a_mask_that_keeps_all_patches_changes_nothing(pool, positions):
    tower, images = vision(pool, positions=positions), pictures()
    every = torch.arange(16).expand(3, 16)
    for ours, theirs in zip(
        values_and_gradients(tower, tower(images, every)), values_and_gradients(tower, tower(images)), strict=True
    ):
        assert_close(ours, theirs)
    assert_close(tower(images, every.flip(1)), tower(images))  # a set: the order of patches does not matter


@POOLS
@POSITIONS
def test_keep_1_is_bit_for_bit_the_plain_tower(pool, positions):
    tower, images = vision(pool, positions=positions).float(), pictures().float()
    kept = some_patches(images, keep=1.0)
    assert kept is None
    weight = torch.randn(3, 24, generator=generator(9))
    results = []
    for features in (tower(images, kept), tower(images)):
        results.append([features, *torch.autograd.grad((features * weight).sum(), list(tower.parameters()))])
    for ours, theirs in zip(*results, strict=True):
        assert torch.equal(ours, theirs)


@POOLS
def test_dropped_patches_do_not_reach_the_features(pool):
    tower, images = vision(pool), pictures()
    kept = some_patches(images)
    shown = torch.zeros(3, 16, dtype=torch.bool).scatter(1, kept, True).unflatten(1, (4, 4))
    shown = shown.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, None]  # [3, 1, 16, 16]
    assert_close(tower(images.where(shown, 100.0), kept), tower(images, kept))
    images.requires_grad_()
    gradient = torch.autograd.grad((tower(images, kept) * torch.randn(3, 24).double()).sum(), images)[0]
    assert torch.equal((gradient != 0).all(1, keepdim=True), shown)


@POOLS
def test_dropped_patches_are_not_computed(pool):
    tower, images, flops = vision(pool), pictures(), {}
    for keep in (1.0, 0.25):
        kept, seen = some_patches(images, keep), []
        handle = tower.blocks[0].register_forward_pre_hook(lambda module, inputs, seen=seen: seen.append(inputs[0]))
        # the math kernel: of the fused one not every PyTorch counts the products
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            tower(images, kept)
        handle.remove()
        assert seen[0].shape == (3, round(16 * keep) + (pool == "cls"), 24)
        flops[keep] = counter.get_total_flops()
        layers = sum(p.numel() for name, p in tower.named_parameters() if p.dim() == 2 and "blocks" in name)
        tokens = 3 * seen[0].shape[1]
        blocks = 2 * tokens * layers + 2 * 2 * 2 * tokens * seen[0].shape[1] * 24  # two products of attention
        embedding = 2 * 3 * round(16 * keep) * 48 * 24  # the embedding of the patches falls with the rest
        if pool != "map":
            assert flops[keep] == blocks + embedding
        else:
            assert flops[keep] > blocks + embedding
    assert flops[0.25] < 0.4 * flops[1.0]


@pytest.mark.parametrize(("size", "patch"), [(16, 4), (24, 4), (12, 3), (8, 8), (5, 1)])
def test_patches_times_filters_are_the_convolution(size, patch):
    images = torch.randn(2, 3, size, size, generator=generator(), dtype=torch.float64)
    filters = torch.randn(7, 3, patch, patch, generator=generator(1), dtype=torch.float64)
    patches = patchify(images, patch)
    assert patches.shape == (2, (size // patch) ** 2, 3 * patch**2)
    assert_close(F.linear(patches, filters.flatten(1)), F.conv2d(images, filters, stride=patch).flatten(2).mT)
    for i, place in enumerate((0, -1)):  # the first and the last patch
        corner = images[:, :, :patch, :patch] if i == 0 else images[:, :, -patch:, -patch:]
        assert torch.equal(patches[:, place], corner.flatten(1))


@pytest.mark.parametrize(("side", "width"), [(1, 8), (4, 24), (7, 128), (3, 4)])
def test_sincos_positions_by_hand(side, width):
    quarter = width // 4
    rates = [10_000 ** -(k / max(1, quarter - 1)) for k in range(quarter)]
    waves = lambda x: [math.sin(x * rate) for rate in rates] + [math.cos(x * rate) for rate in rates]  # noqa: E731
    expected = [waves(column) + waves(row) for row in range(side) for column in range(side)]
    assert_close(sincos_positions(side, width), torch.tensor(expected, dtype=torch.float64))


def test_sincos_positions_are_the_same_at_every_resolution():
    small, large = sincos_positions(4, 24).unflatten(0, (4, 4)), sincos_positions(9, 24).unflatten(0, (9, 9))
    assert_close(large[:4, :4], small)
    assert (torch.cdist(large.flatten(0, 1), large.flatten(0, 1)) + 9 * torch.eye(81)).min() > 0.1  # all differ


@POOLS
def test_sincos_positions_are_no_parameters(pool):
    tower, images = vision(pool, positions="sincos"), pictures()
    assert "position_embedding" not in tower.state_dict()
    tokens = tower.positions(4)
    assert tokens.dtype == torch.float64 and not tokens.requires_grad
    assert_close(tokens[int(pool == "cls") :], sincos_positions(4, 24))
    assert pool != "cls" or not tokens[0].any()
    assert_differ(tower(images), tower(images.roll(4, dims=3)))  # the tower knows where a patch is
    larger = torch.randn(2, 3, 24, 24, generator=generator(), dtype=torch.float64)
    assert tower(larger).shape == (2, 24)


def test_text_positions_fit_another_length():
    embedding = torch.randn(12, 5, generator=generator(), dtype=torch.float64)
    for length in (12, 11, 4, 1):  # cut: a caption that fits keeps its positions
        assert torch.equal(fit_text_positions(embedding, length), embedding[:length])
    line = torch.stack([torch.arange(12.0), torch.ones(12)], 1).double()  # [12, 2]: a ramp and a constant
    for length in (13, 23, 48):
        fitted = fit_text_positions(line, length)
        centres = ((torch.arange(length).double() + 0.5) * 12 / length - 0.5).clamp(0, 11)
        assert_close(fitted, torch.stack([centres, torch.ones(length).double()], 1))
    longer = fit_text_positions(embedding, 36)  # three for one: the middle one is the old one
    assert_close(longer[1::3], embedding)
    assert_close(longer[[0, -1]], embedding[[0, -1]])  # the ends stay the ends


# --- captions


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("pool", ["eos", "last", "mean"])
def test_text_features_have_the_width(pool, causal):
    tower = text(pool, causal)
    assert tower(captions()).shape == (3, 24) and tower.output_dim == 24
    assert_close(tower(captions())[1:2], tower(captions()[1:2]))


def test_a_causal_state_depends_on_the_tokens_before_it_only():
    ids = captions()
    for position in range(1, 11):
        changed = ids.clone()
        changed[:, position] = (ids[:, position] + 7) % VOCABULARY
        before, after = states(text(), ids), states(text(), changed)
        assert_close(after[:, :position], before[:, :position])
        assert_differ(after[:, position:].mean(1), before[:, position:].mean(1))
        assert_differ(after[:, -1], before[:, -1])  # and on all of these
    x, tower = text().token_embedding(ids) + text().position_embedding, text()  # [3, 12, 24]
    for block in tower.blocks:
        x = block(x, nn.Transformer.generate_square_subsequent_mask(12) == 0)  # and itself, as in torch's own
    assert_close(states(tower, ids), x)
    bidirectional = text(causal=False)
    changed = ids.clone()
    changed[2, 10] += 1
    assert_differ(states(bidirectional, changed)[2, 0], states(bidirectional, ids)[2, 0])


def test_what_follows_the_end_token_does_not_matter_to_eos():
    ids, tower = captions(), text()
    changed = ids.clone()
    changed[0, 4:], changed[1, 7:] = 9, END_ID  # words, and further end tokens: the first one counts
    assert_close(tower(changed), tower(ids))
    changed[0, 2] += 1
    assert_differ(tower(changed)[0], tower(ids)[0])


@pytest.mark.parametrize(("pool", "causal"), [("eos", True), ("eos", False), ("mean", True), ("mean", False)])
def test_padding_changes_nothing(pool, causal):
    ids, tower = captions()[:2], text(pool, causal)
    assert_close(tower(ids[:, :7]), tower(ids))  # 7 tokens hold both captions
    assert_close(tower(ids[:1, :4]), tower(ids[:1]))


@pytest.mark.parametrize("causal", [True, False])
def test_siglips_last_position_sees_the_padding(causal):
    ids, tower = captions()[:2], text("last", causal)
    assert_differ(tower(ids[:, :7]), tower(ids))
    before = states(tower, ids)
    assert_close(tower(ids), tower.norm_out(before[:, -1]))
    nn.init.ones_(tower.token_embedding.weight.data[PAD_ID])
    assert_differ(states(tower, ids)[:, -1], before[:, -1])
    if causal:
        assert_close(states(tower, ids)[:, 0], before[:, 0])
    else:  # the words see the padding too
        assert_differ(states(tower, ids)[:, 0], before[:, 0])


@pytest.mark.parametrize("causal", [True, False])
def test_mean_and_eos_pool_the_right_states(causal):
    ids = captions()
    lengths = (ids != PAD_ID).sum(1).tolist()
    tower = text("mean", causal)
    means = [state[:length].mean(0) for state, length in zip(states(tower, ids), lengths)]
    assert_close(tower(ids), tower.norm_out(torch.stack(means)))
    tower = text("eos", causal)
    ends = [state[length - 1] for state, length in zip(states(tower, ids), lengths)]
    assert_close(tower(ids), tower.norm_out(torch.stack(ends)))


def test_word_order_matters():
    ids = captions()
    swapped = ids.clone()
    swapped[:, 1:3] = ids[:, 1:3].flip(1)
    for pool in ("eos", "mean"):
        assert_differ(text(pool, causal=False)(swapped), text(pool, causal=False)(ids))


# --- errors


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: VisionTransformer(image_size=30, patch_size=4), "image_size 30 is not a multiple of patch_size 4"),
        (lambda: VisionTransformer(pool="eos"), "unknown pool 'eos'"),
        (lambda: VisionTransformer(positions="rotary"), "positions 'rotary' with width 128: choose learned, or sincos"),
        (lambda: VisionTransformer(width=6, heads=3, positions="sincos"), "positions 'sincos' with width 6"),
        (lambda: VisionTransformer(width=100, heads=3), "width 100 is not a multiple of heads 3"),
        (lambda: TextTransformer(VOCABULARY, pool="cls"), "unknown pool 'cls'"),
        (lambda: TextTransformer(VOCABULARY, width=100, heads=3), "width 100 is not a multiple of heads 3"),
        (lambda: text()(torch.ones(1, 13, dtype=torch.long)), "captions of 13 tokens do not fit context_length 12"),
    ],
)
def test_errors_name_the_bad_input(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("shape", [(18, 18), (16, 8)])
def test_pictures_that_do_not_divide_into_patches_are_named(shape):
    tower = VisionTransformer(image_size=16, patch_size=4, width=32, layers=1, heads=2)
    with pytest.raises(ValueError, match="not square or no multiple of 4"):
        tower(torch.zeros(1, 3, *shape))


@pytest.mark.parametrize("pool", ["eos", "mean"])
@pytest.mark.parametrize("rows", [1, 3, 9])
def test_captions_sorted_by_length_give_the_features_and_gradients_of_one_padded_batch(pool, rows):
    ids = captions().repeat(3, 1)[torch.randperm(9, generator=torch.Generator().manual_seed(1))][:rows]
    tower = text(pool=pool, causal=pool == "eos")
    weight = torch.randn(rows, tower.output_dim, dtype=torch.float64)
    results = []
    for run in (tower.forward, tower.encode):
        features = run(ids)
        results.append([features, *torch.autograd.grad((features * weight).sum(), list(tower.parameters()))])
    for sorted_result, padded_result in zip(*results, strict=True):
        assert_close(sorted_result, padded_result)


def test_short_captions_are_not_padded_to_the_longest():
    tower, seen = text(), []
    tower.blocks[0].register_forward_hook(lambda module, inputs, output: seen.append(tuple(output.shape[:2])))
    tower(captions().repeat(4, 1))  # lengths 4, 7 and 12, four of each
    assert seen == [(3, 4), (3, 7), (3, 12), (3, 12)] and sum(b * length for b, length in seen) < 12 * 12


def test_short_numbers_on_a_cpu_do_without_the_fused_kernel(monkeypatch):
    q, k, v = (torch.randn(2, 3, 5, 8, generator=torch.Generator().manual_seed(i)) for i in range(3))
    mask = torch.ones(5, 5, dtype=torch.bool).tril()
    fused = attention(q, k, v, mask)
    monkeypatch.delattr("torch.nn.functional.scaled_dot_product_attention")
    written = attention(q.bfloat16(), k.bfloat16(), v.bfloat16(), mask)
    assert written.dtype == torch.bfloat16 and (written.float() - fused).abs().max() < 0.03
