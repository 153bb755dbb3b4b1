import pytest
import torch
from conftest import images_column, write_parquet

from minclip.data import Augmentation, BatchOrder, Pairs, augment, load_pairs, plain, shrink, step_generator
from minclip.sources import EMOJI_SPLITS

STILL = Augmentation(zoom=0, shift=0, rotate=0, color=0, gray=0, hue=0, erase=0)


@pytest.fixture(scope="module")
def emoji():
    return {split: load_pairs("emoji", split) for split in EMOJI_SPLITS}


def drawn(pairs):
    """(concept, artist) of every picture."""
    return set(zip(pairs.metadata["code_points"], pairs.metadata["artist"]))


def test_splits_are_disjoint_and_whole(emoji):
    sets = [drawn(pairs) for pairs in emoji.values()]
    assert len(set().union(*sets)) == sum(map(len, sets)) == sum(map(len, emoji.values())) == 18_766


def test_unseen_artists_never_reach_training(emoji):
    assert set(emoji["train"].metadata["artist"]) == {"noto", "blob", "twemoji", "fluent", "emojione"}
    assert set(emoji["fxemoji"].metadata["artist"]) == {"fxemoji"}
    assert set(emoji["openmoji"].metadata["artist"]) == {"openmoji"}


def test_held_out_compositions_are_drawn_by_no_training_artist_but_their_parts_are(emoji):
    held_out = emoji["held_out_compositions"]
    names = {held_out.class_names[i] for i in held_out.labels.tolist()}
    seen = emoji["train"], emoji["in_distribution"]
    assert not names & {pairs.class_names[i] for pairs in seen for i in pairs.labels.tolist()}
    assert len(names) == 83
    assert set(held_out.metadata["base_name"]) <= set(emoji["train"].metadata["base_name"])


def test_labels_captions_and_groups_agree(emoji):
    pairs = emoji["train"]
    for row in range(0, len(pairs), 997):
        name, base = pairs.class_names[pairs.labels[row]], pairs.metadata["base_name"][row]
        assert pairs.captions[row][0] == name and name.startswith(base.split(":")[0])
        same = (pairs.groups == pairs.groups[row]).nonzero().flatten().tolist()
        assert {pairs.metadata["base_name"][i] for i in same} == {base}


def test_unknown_dataset_is_named():
    with pytest.raises(FileNotFoundError, match="unknown dataset 'emojo'"):
        load_pairs("emojo")


def test_empty_caption_is_named():
    with pytest.raises(ValueError, match="caption of pair 1 is empty"):
        Pairs(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), [["a"], [" "]], [0, 1], [], [0, 1])


def test_what_is_skipped_is_carried_and_said_once(tmp_path):
    write_parquet(tmp_path / "train.parquet", {"image": images_column(2), "text": ["a cat", " "]})
    with pytest.warns(UserWarning, match="1 rows were skipped:\n  train.parquet row 1: the caption is empty") as said:
        pairs = load_pairs(tmp_path)
    assert len(said) == 1 and len(pairs) == 1 and len(pairs.skipped) == 1
    assert pairs.metadata == {"source": ["train.parquet row 0"]}


def test_select_by_mask_and_by_index(tiny_pairs):
    mask = torch.zeros(64, dtype=torch.bool)
    mask[[3, 60]] = True
    by_mask, by_index = tiny_pairs.select(mask), tiny_pairs.select(torch.tensor([3, 60]))
    assert torch.equal(by_mask.images, tiny_pairs.images[[3, 60]]) and torch.equal(by_mask.labels, by_index.labels)
    assert by_mask.captions == by_index.captions == [tiny_pairs.captions[3], tiny_pairs.captions[60]]


def test_a_batch_never_holds_a_group_twice_and_an_epoch_holds_each_once():
    groups = torch.tensor([0] * 50 + [1, 2, 3, 4, 5, 6, 7])  # one group has most of the pictures
    order = BatchOrder(groups, batch_size=4, seed=5)
    for step in range(0, 40, 2):  # two steps are an epoch of the 8 groups
        epoch = [groups[order.indices(step + i)] for i in range(2)]
        assert torch.cat(epoch).sort().values.tolist() == list(range(8))


def test_every_picture_of_a_group_is_drawn():
    order = BatchOrder(torch.tensor([0, 0, 0, 1]), batch_size=2, seed=0)
    assert {int(i) for step in range(60) for i in order.indices(step)} == {0, 1, 2, 3}


def test_order_depends_on_seed_and_step_alone():
    groups = torch.arange(100)
    one, two = BatchOrder(groups, 10, seed=1), BatchOrder(groups, 10, seed=1)
    two.indices(3)  # having been asked for other steps changes nothing
    assert torch.equal(one.indices(17), two.indices(17))
    assert not torch.equal(one.indices(17), one.indices(27))
    assert not torch.equal(one.indices(17), BatchOrder(groups, 10, seed=2).indices(17))


def test_batch_larger_than_dataset():
    with pytest.raises(ValueError, match="batch_size 5 is larger than the dataset's 4 different captions"):
        BatchOrder(torch.tensor([0, 1, 2, 3, 3, 3]), 5, seed=0)


def test_the_first_deck_begins_where_it_is_told_to():
    """A window of a stream begins in the middle of a run: its first steps must show each of its groups once."""
    order = BatchOrder(torch.arange(12), 4, seed=0, start=5)
    assert sorted(torch.cat([order.indices(step) for step in (5, 6, 7)]).tolist()) == list(range(12))
    assert not torch.equal(order.indices(5), BatchOrder(torch.arange(12), 4, seed=0).indices(0))


def test_step_generators_of_neighbours_differ():
    keys = [(seed, stream, step) for seed in range(5) for stream in range(5) for step in range(40)]
    assert len({torch.rand(1, generator=step_generator(*key), dtype=torch.float64).item() for key in keys}) == 1000


def test_no_augmentation_is_the_plain_picture(tiny_pairs):
    draw = torch.rand(64, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.allclose(augment(tiny_pairs.images, 16, draw, STILL), plain(tiny_pairs.images, 16), atol=1e-5, rtol=0)


def test_every_augmentation_changes_pictures_and_stays_in_range(tiny_pairs):
    draw = torch.rand(64, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    still = augment(tiny_pairs.images, 16, draw, STILL)
    for name in ("zoom", "shift", "rotate", "color", "gray", "hue", "erase"):
        strength = 20.0 if name == "rotate" else 0.5
        changed = augment(tiny_pairs.images, 16, draw, Augmentation(**{**vars(STILL), name: strength}))
        share = ((changed - still).abs().amax((1, 2, 3)) > 0.01).float().mean()
        assert share > 0.3, name
        assert changed.min() >= -1 and changed.max() <= 1


def test_augmentation_is_drawn_per_sample(tiny_pairs):
    draw = torch.rand(64, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole = augment(tiny_pairs.images, 16, draw, Augmentation())
    part = augment(tiny_pairs.images[10:20], 16, draw[10:20], Augmentation())
    assert torch.equal(whole[10:20], part)


def test_white_lies_outside_the_picture():
    black = torch.zeros(1, 3, 16, 16, dtype=torch.uint8)
    draw = torch.full((1, 16), 0.5, dtype=torch.float64)
    draw[0, 3] = 1.0  # shift to the side by its full strength
    moved = augment(black, 16, draw, Augmentation(**{**vars(STILL), "shift": 0.5}))
    assert moved[..., 0, 0].eq(-1).all() and moved[..., 0, -1].eq(1).all()


def test_much_larger_pictures_are_made_smaller_first_and_once(tiny_pairs):
    stripes = torch.zeros(3, 3, 64, 64, dtype=torch.uint8)
    stripes[..., ::4] = 255  # in 64 -> 16 pixels, a bilinear sample falls between two black columns each time
    pairs = Pairs(stripes, [["a"]] * 3, [0] * 3, [], [0] * 3)
    assert pairs.images_for(32) is pairs.images and pairs.images_for(24) is pairs.images  # at most three times
    smaller = pairs.images_for(16)
    assert smaller.shape == (3, 3, 32, 32) and smaller.dtype == torch.uint8
    assert pairs.images_for(16) is smaller
    assert pairs.select(torch.tensor([1])).images_for(16).shape == (1, 3, 32, 32)
    draw = torch.rand(3, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    gray = augment(smaller, 16, draw, STILL)[..., 2:-2]
    assert (gray - -0.5).abs().max() < 0.02  # a quarter of the columns is white
    assert augment(stripes, 16, draw, STILL)[..., 2:-2].max() == -1  # all that was white is lost


def test_smaller_pictures_are_the_anti_aliased_ones():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (1030, 3, 28, 36), generator=generator, dtype=torch.uint8)  # more than one part
    smaller = shrink(images, 8)
    assert (plain(images, 8) - (smaller / 127.5 - 1)).abs().max() <= 0.5 / 127.5 + 1e-6  # rounded to whole numbers
    assert shrink(images, 30).shape == (1030, 3, 28, 30)


def test_plain_is_anti_aliased():
    stripes = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    stripes[..., ::2] = 255
    assert plain(stripes, 16)[..., 2:-2].abs().max() < 0.1
