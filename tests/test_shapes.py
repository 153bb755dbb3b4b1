"""Scenes: what the caption says is in the picture, what the metadata say too, and the knobs do what they say."""

import re

import pytest
import torch
import torch.nn.functional as F

from experiments.shapes import (
    COLORS,
    PART_OF_SPEECH,
    PLURALS,
    POSITIONS,
    SHAPES,
    SIZES,
    TEXTURES,
    describe_scenes,
    make_shapes,
    render,
)

ADJECTIVES = {"colors": COLORS, "sizes": SIZES, "textures": TEXTURES}
ATTRIBUTE_OF = {word: key for key, words in ADJECTIVES.items() for word in words}
ROW = {position: i // 2 for i, position in enumerate(POSITIONS)}
COLUMN = {position: i % 2 for i, position in enumerate(POSITIONS)}
HOLDS = {  # relation -> is it true of the positions of two objects?
    "above": lambda a, b: ROW[a] < ROW[b],
    "below": lambda a, b: ROW[a] > ROW[b],
    "to the left of": lambda a, b: COLUMN[a] < COLUMN[b],
    "to the right of": lambda a, b: COLUMN[a] > COLUMN[b],
}


@pytest.fixture(scope="module")
def pairs():
    return make_shapes(3000, seed=7)


@pytest.fixture(scope="module")
def singles():
    return make_shapes(1500, seed=8, n_objects=(1, 1), image_size=48)


def texts(pairs):
    return [caption for (caption,) in pairs.captions]


def objects(pairs, row):
    """The objects of a scene, each a dict of its attributes."""
    keys = ("shapes", "colors", "sizes", "textures", "positions")
    return [dict(zip(keys, values)) for values in zip(*(pairs.metadata[key][row] for key in keys))]


def painted(images):
    """uint8 `[N, 3, S, S]` -> bool `[N, S, S]`: where there is colour; the paper is gray."""
    return images.amax(1).int() - images.amin(1).int() > 30


def is_described_by(thing, phrase):
    """Does `a large red circle` hold for the object?"""
    article, *adjectives, noun = phrase.split()
    right_article = article == ("an" if [*adjectives, noun][0][0] in "aeiou" else "a")
    return right_article and noun == thing["shapes"] and all(thing[ATTRIBUTE_OF[word]] == word for word in adjectives)


def is_true(caption, things):
    """Parse a caption and check every statement in it against the scene."""
    caption, alone = re.subn(r" alone$", "", caption)
    if alone and len(things) != 1:
        return False
    if among := re.search(r" among (two|three) objects$", caption):
        caption = caption[: among.start()]
        if len(things) != {"two": 2, "three": 3}[among[1]]:
            return False
    opener = re.match(r"(a picture of |there is |there are |the picture shows |)", caption)[0]
    caption = caption.removeprefix(opener)
    plural = re.match(r"(two|three) ", caption)
    if opener == ("there is " if plural else "there are "):
        return False
    if plural:
        *adjectives, noun = caption.split()[1:]
        attributes = all(thing[ATTRIBUTE_OF[word]] == word for thing in things for word in adjectives)
        return attributes and len(things) == {"two": 2, "three": 3}[plural[1]] and noun == PLURALS[things[0]["shapes"]]
    clauses = caption.split(" and ")
    for clause in clauses:
        if related := re.fullmatch(r"(.+) (above|below|to the left of|to the right of) (.+)", clause):
            firsts = [thing["positions"] for thing in things if is_described_by(thing, related[1])]
            seconds = [thing["positions"] for thing in things if is_described_by(thing, related[3])]
            if not any(HOLDS[related[2]](a, b) for a in firsts for b in seconds):
                return False
            continue
        phrase, _, place = clause.partition(" in the ")
        if not any(is_described_by(thing, phrase) and place in ("", thing["positions"]) for thing in things):
            return False
    return len(clauses) <= len(things)


def test_columns_have_the_promised_types_and_lengths():
    pairs = make_shapes(50, seed=0, image_size=40)
    assert pairs.images.shape == (50, 3, 40, 40) and pairs.images.dtype == torch.uint8
    assert pairs.labels.shape == pairs.groups.shape == (50,)
    assert pairs.labels.dtype == pairs.groups.dtype == torch.long
    assert [len(column) for column in (pairs.captions, *pairs.metadata.values())] == [50] * 7
    assert len(set(pairs.class_names)) == len(COLORS) * len(SHAPES)


def test_the_seed_fixes_everything():
    first, again, other = (make_shapes(200, seed, duplicates=0.2, text_noise=0.2) for seed in (3, 3, 4))
    assert torch.equal(first.images, again.images) and first.captions == again.captions
    assert first.metadata == again.metadata and torch.equal(first.groups, again.groups)
    assert (first.images != other.images).flatten(1).any(1).all()
    paper = [pairs.images[:, 0, 15:17, 15:17].amax((1, 2)) for pairs in (first, other)]  # what no caption mentions
    assert (paper[0] != paper[1]).float().mean() > 0.5
    assert len(set(texts(first)) & set(texts(other))) < 100


def test_global_random_state_is_neither_used_nor_changed():
    torch.manual_seed(0)
    state, first = torch.get_rng_state(), make_shapes(20, seed=1, image_noise=0.5, text_noise=0.5, alignment_noise=0.5)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    again = make_shapes(20, seed=1, image_noise=0.5, text_noise=0.5, alignment_noise=0.5)
    assert torch.equal(first.images, again.images) and first.captions == again.captions


def test_every_word_has_a_tag_and_every_tagged_word_occurs(pairs):
    said = {word for caption in texts(pairs) for word in caption.split()}
    assert said == set(PART_OF_SPEECH)
    expected = {"circle": "NN", "crosses": "NN", "red": "JJ", "large": "JJ", "striped": "JJ", "shows": "VB", "is": "VB"}
    assert {word: PART_OF_SPEECH[word] for word in expected} == expected


def test_captions_are_true(pairs):
    wrong = [row for row, caption in enumerate(texts(pairs)) if not is_true(caption, objects(pairs, row))]
    assert not wrong, (texts(pairs)[wrong[0]], objects(pairs, wrong[0]))
    # The parser can say no: captions of other scenes are mostly wrong.
    assert sum(is_true(texts(pairs)[row - 1], objects(pairs, row)) for row in range(500)) < 50


def test_captions_mention_a_random_part(pairs):
    counts = pairs.metadata["count"]
    for words in (COLORS, SIZES, TEXTURES, ["above", "below", "to"], ["in"]):
        share = sum(any(word in caption.split() for word in words) for caption in texts(pairs)) / len(pairs)
        assert 0.1 < share < 0.95, (words, share)
    mentioned = [sum(word in SHAPES for word in caption.split()) for caption in texts(pairs)]
    assert {m for m, count in zip(mentioned, counts) if count == 3} == {0, 1, 2, 3}  # 0: "three circles"


def test_counts_keep_to_their_range(pairs):
    shares = torch.bincount(torch.tensor(pairs.metadata["count"]), minlength=4) / len(pairs)
    torch.testing.assert_close(shares, torch.tensor([0, 1 / 3, 1 / 3, 1 / 3]), atol=0.04, rtol=0)
    assert set(make_shapes(100, seed=0, n_objects=(2, 2)).metadata["count"]) == {2}
    assert set(make_shapes(100, seed=0, n_objects=(2, 3)).metadata["count"]) == {2, 3}


def test_what_there_is_is_drawn_evenly(singles):
    for key, kinds in [("shapes", 8), ("colors", 8), ("sizes", 2), ("textures", 3), ("positions", 4)]:
        values = [value for (value,) in singles.metadata[key]]
        shares = torch.tensor([values.count(value) / len(values) for value in sorted(set(values))])
        torch.testing.assert_close(shares, torch.full((kinds,), 1 / kinds), atol=0.05, rtol=0)


def test_the_paper_is_of_many_grays(singles):
    centre = singles.images[:, :, 23:25, 23:25].amax((2, 3))  # [N, 3], between the quarters
    assert centre.min() > 215 and torch.equal(centre.amin(1), centre.amax(1)) and len(centre.unique()) > 30


def test_objects_stand_in_their_own_quarters(pairs):
    quarters = painted(pairs.images).unflatten(1, (2, 16)).unflatten(3, (2, 16))  # [N, 2, 16, 2, 16]
    seen = quarters.any(4).any(2).flatten(1)  # [N, 4]
    said = torch.tensor([[p in row for p in POSITIONS] for row in pairs.metadata["positions"]])
    assert torch.equal(seen, said)


def test_pictures_have_the_color_of_the_metadata(singles):
    palette = torch.tensor(list(COLORS.values())).float()
    solid = torch.tensor([row == ["solid"] for row in singles.metadata["textures"]])
    images, mask = singles.images[solid].float(), painted(singles.images[solid])
    # The most saturated pixel lies wholly inside the object: no paper is mixed in.
    saturation = (images.amax(1) - images.amin(1)).flatten(1).argmax(1)
    inside = images.flatten(2)[torch.arange(len(images)), :, saturation]  # [n, 3]
    seen = torch.cdist(inside, palette).argmin(1)
    said = [row[0] for row, keep in zip(singles.metadata["colors"], solid.tolist()) if keep]
    assert [list(COLORS)[i] for i in seen.tolist()] == said and mask.any()


def test_large_is_larger_than_small(singles):
    areas = {}
    for row, area in enumerate(painted(singles.images).flatten(1).sum(1).tolist()):
        (thing,) = objects(singles, row)
        areas.setdefault((thing["shapes"], thing["sizes"]), []).append(area)
    for shape in SHAPES:
        small, large = (sum(areas[shape, size]) / len(areas[shape, size]) for size in ("small", "large"))
        assert 1.8 < large / small < 4  # (0.2 / 0.12)^2 = 2.8


def test_textures_differ(singles):
    """Stripes and dots are dark spots, solid has none, and no two textures give the same picture."""
    value = singles.images.amax(1).float() / 255  # [N, S, S]; of the palette's colours at least 0.62
    dark = ((value < 0.5) & painted(singles.images)).flatten(1).any(1)
    textured = torch.tensor([row != ["solid"] for row in singles.metadata["textures"]])
    assert not dark[~textured].any() and dark[textured].float().mean() > 0.95
    scene = lambda texture: torch.tensor([[[1, 5, 1, texture, 0]] * 3])  # noqa: E731  # a large blue square
    images = [render(scene(t), torch.tensor([1]), 64, torch.Generator().manual_seed(0)).float() for t in range(3)]
    for i, j in [(0, 1), (0, 2), (1, 2)]:
        assert (images[i] - images[j]).abs().mean() > 1


def test_shapes_look_different():
    scenes = torch.tensor([[[shape, 0, 1, 0, 0]] * 3 for shape in range(len(SHAPES))])
    masks = []
    for scene in scenes:  # one at a time from the same seed: the same place, radius and angle
        masks.append(painted(render(scene[None], torch.tensor([1]), 64, torch.Generator().manual_seed(1)))[0])
    for i, first in enumerate(masks):
        assert first.sum() > 100
        for second in masks[:i]:
            assert (first & second).sum() / (first | second).sum() < 0.9  # a circle and a square have 0.84


def test_outlines_are_smooth():
    """A picture is nearly what averaging a four times finer one gives."""
    scenes = torch.tensor([[[shape, 0, 1, 0, p] for p in range(3)] for shape in range(len(SHAPES))])
    counts, seed = torch.full((len(SHAPES),), 3), 2
    coarse, fine = (render(scenes, counts, s, torch.Generator().manual_seed(seed)).float() for s in (32, 128))
    error = (coarse - F.avg_pool2d(fine, 4)).abs().flatten(1).mean(1)  # [8]
    assert error.max() < 1.5, error


def test_the_label_is_the_largest_object_first_in_reading_order(pairs):
    for row in range(len(pairs)):
        best = min(objects(pairs, row), key=lambda o: (o["sizes"] != "large", POSITIONS.index(o["positions"])))
        assert pairs.class_names[pairs.labels[row]] == f"{best['colors']} {best['shapes']}"
    assert len(set(pairs.labels.tolist())) == len(COLORS) * len(SHAPES)


def test_groups_are_equal_captions():
    pairs = make_shapes(300, seed=5, duplicates=0.5)
    same_group = pairs.groups[:, None] == pairs.groups
    same_caption = torch.tensor([[a == b for b in pairs.captions] for a in pairs.captions])
    assert torch.equal(same_group, same_caption)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.9])
def test_exactly_the_asked_share_of_captions_repeats(share):
    pairs = make_shapes(2000, seed=6, duplicates=share)
    assert 2000 - len(set(texts(pairs))) == round(2000 * share)
    repeats = [t in texts(pairs)[:row] for row, t in enumerate(texts(pairs)[:400])]
    assert share == 0 or sum(repeats[200:]) > 0  # spread over the rows


def test_a_duplicate_is_the_same_scene_drawn_anew():
    pairs, first = make_shapes(400, seed=6, duplicates=0.5), {}
    for row, caption in enumerate(texts(pairs)):
        if caption in first:
            assert objects(pairs, row) == objects(pairs, first[caption])
            assert not torch.equal(pairs.images[row], pairs.images[first[caption]])
        first.setdefault(caption, row)
    assert len(set(texts(make_shapes(50, seed=6, duplicates=1.0)))) == 1


def test_image_noise_strikes_pixels_only(pairs):
    noisy = make_shapes(3000, seed=7, image_noise=0.3)
    struck = (noisy.images != pairs.images).flatten(1).any(1)
    assert abs(struck.float().mean() - 0.3) < 0.03
    pixels = noisy.images[struck].float()
    assert abs(pixels.mean() - 127.5) < 0.5 and abs(pixels.std() - 73.9) < 0.5  # uniform on 0..255
    assert noisy.captions == pairs.captions and noisy.metadata == pairs.metadata
    assert torch.equal(noisy.labels, pairs.labels)


def test_text_noise_strikes_words_only(pairs):
    noisy = make_shapes(3000, seed=7, text_noise=0.3)
    struck = [row for row in range(3000) if noisy.captions[row] != pairs.captions[row]]
    assert abs(len(struck) / 3000 - 0.3) < 0.03 and torch.equal(noisy.images, pairs.images)
    for row in struck:
        assert len(texts(noisy)[row].split()) == len(texts(pairs)[row].split())
        assert set(texts(noisy)[row].split()) <= set(PART_OF_SPEECH)
    assert sum(texts(noisy)[row].split()[0] in ("a", "an", "the", "there", "two", "three") for row in struck) < 300
    group_of = dict(zip(texts(noisy), noisy.groups.tolist()))  # groups are of the captions after noise
    assert [group_of[t] for t in texts(noisy)] == noisy.groups.tolist()
    assert len(group_of) == len(set(noisy.groups.tolist()))


def test_alignment_noise_trades_captions(pairs):
    noisy = make_shapes(3000, seed=7, alignment_noise=0.3)
    moved = [row for row in range(3000) if noisy.captions[row] != pairs.captions[row]]
    assert abs(len(moved) / 3000 - 0.3) < 0.03 and torch.equal(noisy.images, pairs.images)
    assert sorted(texts(noisy)) == sorted(texts(pairs))
    # More noise strikes more pairs, and among them all that less noise struck; at 1 nobody keeps its caption.
    more = make_shapes(3000, seed=7, alignment_noise=0.5)
    assert all(more.captions[row] != pairs.captions[row] for row in moved)
    everything = make_shapes(3000, seed=7, alignment_noise=1.0)
    assert all(a != b for a, b in zip(everything.captions, pairs.captions))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, "n 0"),
        ({"image_size": 0}, "image_size 0"),
        ({"n_objects": (0, 2)}, r"n_objects \(0, 2\)"),
        ({"n_objects": (2, 4)}, r"n_objects \(2, 4\)"),
        ({"n_objects": (3, 2)}, r"n_objects \(3, 2\)"),
        ({"duplicates": 1.5}, "duplicates 1.5"),
        ({"image_noise": -0.1}, "image_noise -0.1"),
        ({"text_noise": 2}, "text_noise 2"),
        ({"alignment_noise": 2}, "alignment_noise 2"),
    ],
)
def test_numbers_out_of_range_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_shapes(**{"n": 10, "seed": 0, **arguments})


def test_a_grammar_with_nothing_new_to_say_is_an_error():
    with pytest.raises(ValueError, match=r"found only \d+ different captions for 500 scenes"):
        describe_scenes([[[0, 0, 0, 0, 0]] * 3] * 500, [1] * 500, [False] * 500, torch.Generator().manual_seed(0))
