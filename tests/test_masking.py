"""What a mask keeps, what it drops first, and that chance is fair and depends on the draw alone."""

import pytest
import torch
import torch.nn.functional as F
from conftest import assert_close

from minclip.masking import TEXT_STRATEGIES, image_token_budget, mask_image, mask_text, resize
from minclip.tokenizer import END_ID, PAD_ID, START_ID

# strategy, side, keep, tokens
GEOMETRIES = [
    ("random", 8, 0.25, 16), ("random", 7, 0.5, 24), ("random", 3, 0.01, 1), ("random", 8, 0.7, 45),
    ("grid", 8, 0.25, 16), ("grid", 8, 1 / 16, 4), ("grid", 9, 1 / 9, 9), ("grid", 6, 1 / 36, 1),
    ("block", 8, 0.25, 16), ("block", 8, 9 / 64, 9), ("block", 7, 16 / 49, 16), ("block", 5, 1 / 25, 1),
]  # fmt: skip
EVERY_GEOMETRY = pytest.mark.parametrize(("strategy", "side", "keep", "tokens"), GEOMETRIES)
EVERY_TEXT_STRATEGY = pytest.mark.parametrize("strategy", TEXT_STRATEGIES)


def uniform(rows, columns, seed=0):
    return torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def captions(rows, length, seed=0):
    """Captions with 0 to length - 2 words, `[rows, length]`: all words of a row differ."""
    generator = torch.Generator().manual_seed(seed)
    words = 3 + torch.rand(rows, length - 2, generator=generator).argsort(1)
    ids = torch.full((rows, length), PAD_ID)
    for row, n in enumerate(torch.randint(0, length - 1, (rows,), generator=generator).tolist()):
        ids[row, : n + 2] = torch.tensor([START_ID, *words[row, :n].tolist(), END_ID])
    return ids


def content(row):
    return [i for i in row.tolist() if i not in (PAD_ID, START_ID, END_ID)]


def masked(ids, budget, strategy, seed=0):
    """`mask_text` with a draw and a priority of its own."""
    draw = uniform(*ids.shape, seed=seed)
    return mask_text(ids, budget, strategy, draw, priority=(4 * uniform(*ids.shape, seed=seed + 1)).long())


# --- pictures


@EVERY_GEOMETRY
def test_exactly_the_budget_stays_in_order_and_nothing_twice(strategy, side, keep, tokens):
    assert image_token_budget(side, keep, strategy) == tokens
    for seed in range(5):
        kept = mask_image(uniform(50, side**2, seed), side, keep, strategy)
        assert kept.shape == (50, tokens) and kept.dtype == torch.long
        assert kept.min() >= 0 and kept.max() < side**2
        assert (kept.diff(dim=1) > 0).all()  # ascending, hence no duplicates


@EVERY_GEOMETRY
def test_a_mask_depends_on_the_rows_draw_alone(strategy, side, keep, tokens):
    draw = uniform(40, side**2)
    kept = mask_image(draw, side, keep, strategy)
    assert torch.equal(mask_image(uniform(40, side**2), side, keep, strategy), kept)  # the same generator
    assert not torch.equal(mask_image(uniform(40, side**2, seed=1), side, keep, strategy), kept)
    assert len(kept.unique(dim=0)) > 3  # pictures of one batch show different patches
    parts = [mask_image(part, side, keep, strategy) for part in draw.split(7)]
    assert torch.equal(torch.cat(parts), kept)


def test_random_keeps_each_patch_equally_often():
    kept = mask_image(uniform(20_000, 36), 6, 0.25)
    share = kept.flatten().bincount(minlength=36) / 20_000  # standard error 0.003
    assert (share - 0.25).abs().max() < 0.015
    together = (kept == 3).any(1) & (kept == 20).any(1)  # and pairs as of draws without replacement
    assert abs(together.double().mean() - 9 / 36 * 8 / 35) < 0.01


def test_grid_keeps_one_place_of_each_window():
    kept = mask_image(uniform(9_000, 81), 9, 1 / 9, "grid")  # 3 x 3 windows of 3 x 3 patches
    rows, columns = kept // 9, kept % 9
    windows = 3 * (rows // 3) + columns // 3
    assert torch.equal(windows, torch.arange(9).expand(9_000, 9))  # each window once
    places = 3 * (rows % 3) + columns % 3
    assert (places == places[:, :1]).all()  # the same place in all of them
    assert (places[:, 0].bincount(minlength=9) / 9_000 - 1 / 9).abs().max() < 0.02


def test_block_keeps_a_square_anywhere():
    kept = mask_image(uniform(8_000, 36), 6, 16 / 36, "block")  # 4 x 4 of 6 x 6: nine places
    rows, columns = (kept // 6).unflatten(1, (4, 4)), (kept % 6).unflatten(1, (4, 4))  # [B, 4, 4]
    top, left = rows[:, :1, :1], columns[:, :1, :1]
    steps = torch.arange(4)
    assert torch.equal(rows, (top + steps[:, None]).expand_as(rows))
    assert torch.equal(columns, (left + steps).expand_as(columns))
    share = (3 * top + left).flatten().bincount(minlength=9) / 8_000
    assert len(share) == 9 and (share - 1 / 9).abs().max() < 0.02


@pytest.mark.parametrize("strategy", ["random", "grid", "block"])
def test_to_keep_all_is_no_mask(strategy):
    assert mask_image(uniform(3, 64), 8, 1.0, strategy) is None
    assert image_token_budget(8, 1.0, strategy) == 64


@pytest.mark.parametrize("keep", [0.0, -0.25, 1.01, float("nan")])
def test_a_share_out_of_range_is_named(keep):
    for strategy in ("random", "grid", "block"):
        with pytest.raises(ValueError, match=rf"keep {keep} is not in \(0, 1\]; choose the share"):
            mask_image(uniform(2, 64), 8, keep, strategy)


def test_what_the_geometry_allows_is_named():
    with pytest.raises(
        ValueError, match="grid cannot keep 0.5 of 8 x 8 patches; choose keep from 0.01562, 0.0625, 0.25, 1$"
    ):
        image_token_budget(8, 0.5, "grid")
    with pytest.raises(ValueError, match="grid cannot keep 0.25 of 7 x 7 patches; choose keep from 0.02041, 1$"):
        image_token_budget(7, 0.25, "grid")
    with pytest.raises(ValueError, match="block cannot keep 0.5 of 4 x 4.*from 0.0625, 0.25, 0.5625, 1$"):
        image_token_budget(4, 0.5, "block")
    for strategy, side in (("grid", 12), ("block", 7)):  # what is named is accepted
        with pytest.raises(ValueError, match="cannot keep") as error:
            image_token_budget(side, 0.9, strategy)
        for keep in str(error.value).split("from ")[1].split(", "):
            assert image_token_budget(side, float(keep), strategy) > 0


def test_unknown_strategies_are_named():
    with pytest.raises(ValueError, match="unknown strategy 'resize'; choose from random, grid, block"):
        mask_image(uniform(2, 64), 8, 0.25, "resize")
    with pytest.raises(ValueError, match="unknown strategy 'first'; choose from truncate, random, block, syntax"):
        mask_text(captions(2, 8), 4, "first")


# --- resize


def test_resize_makes_a_fine_checkerboard_gray():
    place = torch.arange(24)
    board = ((place[:, None] + place) % 2 * 2 - 1).double().expand(1, 3, 24, 24)
    small = resize(board, 8)
    assert small.shape == (1, 3, 8, 8) and small.abs().max() < 0.05
    plain = F.interpolate(board, [8, 8], mode="bilinear", align_corners=False)
    assert plain.abs().min() == 1  # at a third of the size, that takes single pixels


def test_resize_keeps_means_and_large_objects():
    picture = torch.zeros(1, 3, 32, 32, dtype=torch.float64)
    picture[..., :16] = 1
    small = resize(picture, 8)
    assert_close(small.mean(), picture.mean())
    assert small[..., :3].min() > 0.99 and small[..., 5:].max() < 0.01
    assert_close(resize(torch.full((1, 3, 20, 20), 0.3).double(), 12), torch.full((1, 3, 12, 12), 0.3).double())


def test_resize_to_its_own_size_is_the_same_tensor():
    picture = torch.rand(2, 3, 16, 16)
    assert resize(picture, 16) is picture


# --- captions


@EVERY_TEXT_STRATEGY
@pytest.mark.parametrize(("length", "budget"), [(8, 3), (8, 5), (12, 7), (24, 8), (9, 8)])
def test_a_masked_caption_is_start_words_end_padding(strategy, length, budget):
    for seed in range(5):
        ids = captions(60, length, seed)
        short = masked(ids, budget, strategy, seed)
        assert short.shape == (60, budget) and short.dtype == torch.long
        for before, after in zip(ids, short):
            words, left = content(before), content(after)
            assert len(left) == min(len(words), budget - 2)
            padding = [PAD_ID] * (budget - 2 - len(left))
            assert after.tolist() == [START_ID, *left, END_ID, *padding]  # the end right after the last word
            places = [words.index(word) for word in left]
            assert places == sorted(set(places))  # words of this caption, none twice, in their order


@EVERY_TEXT_STRATEGY
def test_a_caption_that_fits_stays_whole(strategy):
    """Padding is dropped first, whatever the strategy."""
    ids = captions(200, 12)
    fits = (ids != PAD_ID).sum(1) <= 7
    assert 20 < fits.sum() < 180
    assert torch.equal(masked(ids, 7, strategy)[fits], ids[fits, :7])
    assert masked(ids, 12, strategy) is ids and masked(ids, 20, strategy) is ids


def test_truncate_keeps_the_first_words():
    for before, after in zip(captions(100, 12), masked(captions(100, 12), 6, "truncate")):
        assert content(after) == content(before)[:4]


def test_block_keeps_neighbours_from_anywhere():
    ids = captions(8_000, 9)
    ids = ids[(ids != PAD_ID).all(1)]  # seven words: five runs of three
    first = []
    for before, after in zip(ids, masked(ids, 5, "block")):
        words, left = content(before), content(after)
        first.append(words.index(left[0]))
        assert left == words[first[-1] : first[-1] + 3]
    share = torch.tensor(first).bincount(minlength=5) / len(first)
    assert len(first) > 900 and len(share) == 5 and (share - 0.2).abs().max() < 0.06


def test_random_keeps_each_word_equally_often():
    ids = torch.tensor([START_ID, 3, 4, 5, 6, 7, 8, END_ID, PAD_ID, PAD_ID]).expand(10_000, 10)
    kept = masked(ids, 4, "random")[:, 1:3]
    share = kept.flatten().bincount(minlength=9)[3:] / 10_000
    assert (share - 2 / 6).abs().max() < 0.02
    assert (kept.diff(dim=1) > 0).all()  # their order stays
    assert len(kept.unique(dim=0)) == 15  # every pair of six


@pytest.mark.parametrize("strategy", ["random", "block"])
def test_a_masked_caption_depends_on_the_rows_draw_alone(strategy):
    ids, draw = captions(60, 12), uniform(60, 12)
    short = mask_text(ids, 5, strategy, draw)
    assert torch.equal(mask_text(ids, 5, strategy, uniform(60, 12)), short)
    assert not torch.equal(mask_text(ids, 5, strategy, uniform(60, 12, seed=1)), short)
    parts = [mask_text(*part) for part in zip(ids.split(7), [5] * 9, [strategy] * 9, draw.split(7))]
    assert torch.equal(torch.cat(parts), short)
    same = mask_text(ids[ids[:, -2] != PAD_ID][:1].expand(60, -1), 5, strategy, draw)
    assert len(same.unique(dim=0)) > 3  # one caption, masked differently in each row


@pytest.mark.parametrize("strategy", ["random", "block"])
def test_shared_padding_changes_no_mask(strategy):
    """Captions are cut to the longest of a batch, or of a process's part of it; a draw is cut with them."""
    ids, draw = captions(60, 12), uniform(60, 20)
    padded = F.pad(ids, (0, 8), value=PAD_ID)
    assert torch.equal(mask_text(ids, 5, strategy, draw[:, :12]), mask_text(padded, 5, strategy, draw))


@pytest.mark.parametrize(
    ("priority", "budget", "left"),
    [
        # a   red  cat  is   on  the  mat: ids 3 to 9
        ([4, 2, 1, 3, 4, 4, 1], 3, [5]),  # of two nouns, the first
        ([4, 2, 1, 3, 4, 4, 1], 4, [5, 9]),
        ([4, 2, 1, 3, 4, 4, 1], 5, [4, 5, 9]),  # then the adjective, in its place
        ([4, 2, 1, 3, 4, 4, 1], 6, [4, 5, 6, 9]),  # then the verb
        ([4, 2, 1, 3, 4, 4, 1], 7, [3, 4, 5, 6, 9]),  # then the rest, from the first
        ([4, 2, 1, 3, 4, 4, 1], 8, [3, 4, 5, 6, 7, 9]),
        ([1, 1, 1, 1, 1, 1, 1], 5, [3, 4, 5]),
        ([4, 4, 4, 4, 4, 4, 4], 6, [3, 4, 5, 6]),
        ([4, 3, 3, 2, 2, 1, 1], 5, [6, 8, 9]),
    ],
)
def test_syntax_keeps_nouns_then_adjectives_then_verbs(priority, budget, left):
    ids = torch.tensor([[START_ID, 3, 4, 5, 6, 7, 8, 9, END_ID, PAD_ID]])
    ranks = torch.tensor([[0, *priority, 0, 0]])  # of special tokens, whatever
    expected = [START_ID, *left, END_ID]
    assert mask_text(ids, budget, "syntax", priority=ranks).tolist() == [expected]
    assert mask_text(ids, budget, "syntax", priority=ranks.to(torch.uint8)).tolist() == [expected]


def test_ties_go_to_the_first_in_long_captions_too():
    """Sorts that are not stable are so for a few elements, by accident."""
    ids = torch.tensor([[START_ID, *range(3, 203), END_ID]]).expand(50, -1)
    short = mask_text(ids, 60, "syntax", priority=torch.ones_like(ids))
    assert torch.equal(short, torch.tensor([[START_ID, *range(3, 61), END_ID]]).expand(50, -1))


@pytest.mark.parametrize("budget", [2, 0, -1])
def test_a_budget_for_special_tokens_only_is_named(budget):
    with pytest.raises(ValueError, match=f"a budget of {budget} tokens leaves no word.*choose 3 or more"):
        mask_text(captions(2, 8), budget)


@pytest.mark.parametrize(("strategy", "needed"), [("random", "draw"), ("block", "draw"), ("syntax", "priority")])
def test_what_a_strategy_needs_is_named(strategy, needed):
    given = {"draw": uniform(2, 8), "priority": torch.ones(2, 8)}
    del given[needed]
    with pytest.raises(ValueError, match=f"the strategy {strategy} needs {needed}"):
        mask_text(captions(2, 8), 4, strategy, **given)
