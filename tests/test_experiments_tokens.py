"""Runs in stages on fewer tokens, on emoji and on scenes: what a stage shows, what is kept, what is imitated."""

import math
from collections import Counter
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from conftest import assert_close, assert_differ

from experiments import emoji, scenes, tokens
from experiments.shapes import PART_OF_SPEECH
from experiments.sweep import complete
from experiments.tokens import few, stage, tune
from minclip.data import Pairs, plain
from minclip.masking import resize
from minclip.syntax import word_priority
from minclip.tokenizer import END_ID, PAD_ID, START_ID, CaptionTokens, Tokenizer
from minclip.towers import sincos_positions

BATCH = 8
TINY = {"batch_size": BATCH, "embed_dim": 16, "text_width": 32, "image_width": 32, "image_layers": 1}
THINGS = ("cat", "dog", "boat", "tree", "house", "star", "fish", "cup", "sun", "moon", "hat", "lamp")


def setting(*stages: dict, **changes) -> dict:
    return complete(tokens.train_on_fewer_tokens, {**TINY, "stages": list(stages), **changes})


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """A folder of its own for what runs keep; and all on the CPU, on one thread, as in a sweep."""
    monkeypatch.setattr(emoji, "CACHE", tmp_path / "cache")
    for module in (emoji, tokens, scenes):
        monkeypatch.setattr(module, "compute_device", lambda: torch.device("cpu"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield tmp_path / "cache"
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def world() -> tokens.World:
    """24 random pictures of 12 things, each with its name, a sentence, and a longer one, as often as each other."""
    images = torch.randint(0, 256, (24, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    captions = [
        [thing, f"a drawing of the {thing}", f"with blue and red {thing} and very small running thing"]
        for thing in THINGS * 2
    ]
    labels = torch.arange(24) % 12
    pairs = Pairs(images, captions, labels, list(THINGS), labels)
    tokenizer = Tokenizer.train([text for texts in captions for text in texts], 400)
    return tokens.World("emoji", pairs, tokenizer, CaptionTokens(captions, tokenizer, 24, word_priority), 1 / 3)


@pytest.fixture
def emoji_is_small(monkeypatch, world):
    """`emoji_world` of the pairs above; what runs are measured by is the sum of the weights, and the size."""
    monkeypatch.setattr(tokens, "load_pairs", lambda name, split, size: world.pairs)
    monkeypatch.setattr(tokens, "tokenised", lambda: (world.tokenizer, None))
    monkeypatch.setattr(tokens, "emoji_world", tokens.emoji_world.__wrapped__)
    monkeypatch.setattr(tokens, "measure_on_emoji", weigh)


def weigh(model, size: int) -> dict[str, float]:
    return {"weights": sum(p.double().abs().sum().item() for p in model.parameters()), "size": size}


def watched(model) -> list[dict]:
    """What each training step gives to the towers: images, kept, ids; patches: what the ViT's block computes."""
    steps: list[dict] = []

    def note(module, inputs):
        if not torch.is_grad_enabled():
            return
        if module is model.image_tower:
            steps.append({"images": inputs[0], "kept": inputs[1] if len(inputs) > 1 else None})
        else:
            steps[-1] |= {"ids": inputs[0]} if module is model.text_tower else {"patches": inputs[0].shape[1]}

    for module in (model.image_tower, model.image_tower.blocks[0], model.text_tower):
        module.register_forward_pre_hook(note)
    return steps


def trained(world, about: dict, seed: int = 0, measure=weigh, imitate=None) -> tuple[dict, dict, list[dict]]:
    """The result of all stages, the weights after them, and what was seen."""
    model = tokens.fresh_model(world, about, seed)
    seen = watched(model)
    result = tokens.train_stages(model, world, about, seed, measure, imitate)
    return result, model.state_dict(), seen


def equal(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


# what a stage is, and what it shows


def test_few_and_tune_are_stages():
    whole = {"masking": "random", "text_tokens": 0, "text_masking": "truncate"}
    assert stage(7) == {"steps": 7, "size": 32, "keep": 1.0, "rate": 1.0, **whole}
    for count, size in ((64, 32), (36, 24), (16, 16), (4, 8)):
        assert few(count) == {"steps": 300, "size": size, "keep": 1.0, "rate": 1.0, **whole}
    assert few(16, "block", 9) == {"steps": 9, "size": 32, "keep": 0.25, "rate": 1.0, **whole, "masking": "block"}
    assert few(32, "random")["keep"] == 0.5
    cut = {"text_tokens": 4, "text_masking": "syntax"}
    assert few(16, steps=2, **cut) == {**few(16, steps=2), **cut}
    assert tune() == {"steps": 30, "size": 32, "keep": 1.0, "rate": 0.3, **whole}
    assert tune(5, 24, 0.7) == {"steps": 5, "size": 24, "keep": 0.7, "rate": 0.3, **whole}


@pytest.mark.parametrize(
    ("part", "patches", "size"),
    [
        (few(64, steps=2), 64, 32), (few(16, steps=2), 16, 16), (few(4, steps=2), 4, 8), (tune(2, 24), 36, 24),
        (few(16, "random", 2), 16, 32), (few(16, "grid", 2), 16, 32), (few(16, "block", 2), 16, 32),
        (few(32, "random", 2), 32, 32), (tune(2, keep=0.7), 45, 32), (tune(2, keep=0.25), 16, 32),
        (tune(2, 16, 0.5), 8, 16),
    ],
)  # fmt: skip
def test_the_tower_computes_the_patches_of_the_stage(world, part, patches, size):
    result, _, seen = trained(world, setting(part))
    assert result["curve_step"] == [1, 2] and result["size"] == size and len(seen) == 2
    for step in seen:
        assert step["patches"] == patches and step["images"].shape == (BATCH, 3, size, size)
        assert (step["kept"] is None) == (part["keep"] == 1)
        if step["kept"] is None:
            continue
        assert step["kept"].shape == (BATCH, patches) and len(set(map(tuple, step["kept"].tolist()))) > 1
        rows, columns = step["kept"] // 8, step["kept"] % 8  # [B, K]
        spread = [(x.amax(1) - x.amin(1)).max().item() for x in (rows, columns)]
        windows = [len(set(w.tolist())) for w in 4 * (rows // 2) + columns // 2]
        assert (max(spread) == 3) == (part["masking"] == "block")
        assert patches != 16 or (min(windows) == 16) == (part["masking"] == "grid")
    assert seen[0]["kept"] is None or not torch.equal(seen[0]["kept"], seen[1]["kept"])


def test_pictures_are_augmented_mildly_at_full_size_and_then_resized(monkeypatch, world):
    made, given = [], []

    def augment(images, size, draw, how):
        made.append(real(images, size, draw, how))
        assert size == 32 and how == tokens.MILD
        return made[-1]

    def imitate(features, images, ids):
        given.append((images, ids))
        return features[0].sum() * 0

    real = tokens.augment
    monkeypatch.setattr(tokens, "augment", augment)
    _, _, seen = trained(world, setting(few(16, steps=3, text_tokens=4)), imitate=imitate)
    assert len(made) == len(seen) == len(given) == 3
    for step, picture, (full, ids) in zip(seen, made, given):
        assert torch.equal(step["images"], resize(picture, 16))
        assert full is picture and torch.equal(ids, step["ids"])  # what a teacher sees
    assert_differ(made[0], made[1])


def texts_seen(world, seen: list[dict]) -> list[str]:
    return [world.tokenizer.decode(row) for step in seen for row in step["ids"]]


def test_captions_of_all_kinds_are_shown_as_often(world):
    _, _, seen = trained(world, setting(stage(30)))
    kinds = Counter({1: "name", 5: "sentence", 10: "long"}[len(text.split())] for text in texts_seen(world, seen))
    assert len(kinds) == 3 and sum(kinds.values()) == 30 * BATCH
    assert min(kinds.values()) > 0.25 * 30 * BATCH  # of a third
    known = {text for texts in world.pairs.captions for text in texts}
    assert set(texts_seen(world, seen)) <= known


@pytest.mark.parametrize("budget", [4, 6])
@pytest.mark.parametrize("masking", ["truncate", "random", "block", "syntax"])
def test_captions_are_cut_as_the_stage_says(world, masking, budget):
    longest = [texts[2:] for texts in world.pairs.captions]  # ten words
    world = replace(world, tokens=CaptionTokens(longest, world.tokenizer, 24, word_priority), first=1.0)
    _, _, seen = trained(world, setting(stage(6, text_tokens=budget, text_masking=masking)))
    for step in seen:
        assert step["ids"].shape == (BATCH, budget) and not (step["ids"] == PAD_ID).any()
        assert (step["ids"][:, 0] == START_ID).all() and (step["ids"][:, -1] == END_ID).all()
    few = [text.split() for text in texts_seen(world, seen)]
    if masking == "truncate":
        assert few == [["with", "blue", "and", "red"][: budget - 2]] * len(few)
    elif masking == "syntax":  # nouns, then adjectives, in the caption's order
        assert all(words[-2] in THINGS and words[-1] == "thing" for words in few)
        assert all(words[:-2] == ["blue", "red"][: budget - 4] for words in few)
    else:
        patterns = {tuple("*" if w in THINGS else w for w in words) for words in few}
        whole = " ".join(longest[0][0].split()).replace(THINGS[0], "*")
        in_one_piece = sum(" ".join(words) in whole for words in patterns)
        assert len(patterns) > 3 and (in_one_piece == len(patterns)) == (masking == "block")
        for words in patterns:
            rest = iter(whole.split())
            assert all(w in rest for w in words), words  # in the caption's order


def test_rates_and_steps_are_those_of_the_stage(monkeypatch, world):
    asked = []
    monkeypatch.setattr(tokens, "fit", lambda model, look, about, *more, **most: asked.append(about) or {})
    about = setting(stage(7), stage(3, rate=0.3), lr=0.01, muon_lr=0.05, steps=99)
    trained(world, about)
    assert [(a["steps"], a["lr"], a["muon_lr"]) for a in asked] == [
        (7, 0.01, 0.05), (3, pytest.approx(0.003), pytest.approx(0.015))
    ]  # fmt: skip
    assert all({**a, "steps": 99, "lr": 0.01, "muon_lr": 0.05} == about for a in asked)


def test_positions_are_those_of_the_setting(world):
    learned, fixed = (tokens.fresh_model(world, setting(positions=p), 0).image_tower for p in ("learned", "sincos"))
    assert learned.position_embedding.shape == (64, 32) and fixed.position_embedding is None
    assert_close(fixed.positions(4), sincos_positions(4, 32).float())


# which drawings


def test_some_drawings_are_an_exact_share_with_one_of_each_label():
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 1, 2, 2, 4, 4, 4, 4, 4, 4, 4, 7, 0, 1, 4])  # not all numbers are labels
    for share in (0.35, 0.5, 0.72, 1.0):
        found = tokens.some_drawings(labels, share, 3)
        assert found.dtype == torch.bool and found.sum() == round(share * len(labels)), share
        assert set(labels[found].tolist()) == {0, 1, 2, 4, 7}, share
        assert torch.equal(found, tokens.some_drawings(labels, share, 3))
        assert (found <= tokens.some_drawings(labels, min(1, share + 0.2), 3)).all()  # more: those and others
    one = tokens.some_drawings(labels, 0.01, 3)
    assert one.sum() == 5 and labels[one].unique().tolist() == [0, 1, 2, 4, 7]


def test_each_drawing_is_as_likely_as_the_others_of_its_label():
    labels = torch.tensor([0, 1, 1, 0, 1, 0])
    counts = sum(tokens.some_drawings(labels, 0.1, seed).double() for seed in range(600)) / 600
    assert counts.tolist() == pytest.approx([1 / 3] * 6, abs=0.07)  # the deviation is 0.02


@pytest.mark.usefixtures("emoji_is_small")
def test_an_emoji_world_has_the_captions_and_drawings_that_it_is_asked_for(world):
    names = tokens.emoji_world(32, "names", 1.0, 0)
    assert len(names.pairs) == 24 and names.first == 1 and len(names.tokens.ids) == 24
    whole = tokens.emoji_world(32, "all", 1.0, 0)
    assert len(whole.tokens.ids) == 72 and whole.first == pytest.approx(1 / 3)
    assert whole.tokens.priority.shape == whole.tokens.ids.shape == (72, tokens.CAPTION_LENGTH)
    some, others = (tokens.emoji_world(32, "names", 0.6, seed).pairs for seed in (0, 1))
    assert len(some) == len(others) == 14 and some.labels.unique().tolist() == list(range(12))
    assert not torch.equal(some.images, others.images)
    model = tokens.fresh_model(whole, setting(), 0)
    assert model.text_tower.context_length == tokens.CAPTION_LENGTH >= tokens.CONTEXT_LENGTH


@pytest.mark.usefixtures("emoji_is_small")
def test_a_run_learns_from_the_captions_and_drawings_of_its_setting(monkeypatch):
    found = []

    def train_stages(model, world, *more):
        found.append(world)
        return {}

    monkeypatch.setattr(tokens, "train_stages", train_stages)
    for changes in ({}, {"captions": "all"}, {"drawings": 0.6}):
        tokens.train_on_fewer_tokens(setting(stage(1), **changes), 5)
    assert [len(world.pairs) for world in found] == [24, 24, 14]
    assert [world.first for world in found] == [1, pytest.approx(1 / 3), 1]
    kept = tokens.some_drawings(found[0].pairs.labels, 0.6, 5)  # of the run's own seed
    assert torch.equal(found[2].pairs.images, found[0].pairs.images[kept])


# stages after stages


def test_a_cached_beginning_changes_no_bit(world, cache):
    """Two settings that begin alike, against training one stage after the other."""
    first, second = (setting(few(16, "random", 2), tune(n)) for n in (1, 2))
    trained(world, first)
    assert len(list(cache.iterdir())) == 1
    result, weights, seen = trained(world, second)
    assert len(list(cache.iterdir())) == 1 and len(seen) == 2  # the beginning was not trained again
    model = tokens.fresh_model(world, second, 0)
    curves = [tokens.train_stage(model, world, second, number, 0, None) for number in (0, 1)]
    assert equal(weights, model.state_dict())
    assert result["curve_loss"] == curves[1]["curve_loss"] and result["weights"] == weigh(model, 32)["weights"]
    again, same_weights, _ = trained(world, second)
    assert equal(weights, same_weights)
    timed = {"seconds_trained"}
    assert {k: v for k, v in again.items() if k not in timed} == {k: v for k, v in result.items() if k not in timed}


def test_seeds_and_stages_see_other_batches_and_masks(world):
    about = setting(few(16, "random", 1), few(16, "random", 1))
    (_, zero, seen), (_, one, other) = (trained(world, about, seed) for seed in (0, 1))
    runs = [seen[0], seen[1], other[0], other[1]]
    for key in ("kept", "images"):
        assert len({tuple(run[key].flatten().tolist()) for run in runs}) == 4
    assert not equal(zero, one)
    assert not equal(tokens.fresh_model(world, about, 0).state_dict(), tokens.fresh_model(world, about, 1).state_dict())


def test_measuring_changes_nothing_of_the_training(world, cache, tmp_path, monkeypatch):
    words = {"text_tokens": 4, "text_masking": "random"}
    about = setting(few(16, "random", 2, **words), stage(2, keep=0.5, **words))

    def greedy(model, size):
        torch.rand(1000)
        model.eval()
        with torch.no_grad():
            model(torch.rand(4, 3, size, size), torch.tensor([[START_ID, 5, END_ID]]))
        return weigh(model, size)

    result, weights, seen = trained(world, about)
    monkeypatch.setattr(emoji, "CACHE", tmp_path / "other")
    again, same_weights, same = trained(world, about, measure=greedy)
    assert equal(weights, same_weights) and result["curve_loss"] == again["curve_loss"]
    for step, other in zip(seen, same, strict=True):
        assert all(torch.equal(step[key], other[key]) for key in ("images", "kept", "ids"))


def test_before_and_unadapted_are_measured_before_the_last_stage(world):
    result, *_ = trained(world, setting(few(16, steps=1), tune(1, 24), tune(1)))
    sizes = {key: value for key, value in result.items() if key.endswith("size")}
    assert sizes == {"before_size": 24, "unadapted_size": 32, "size": 32}
    assert result["before_weights"] == result["unadapted_weights"] != result["weights"]
    two, *_ = trained(world, setting(few(16, steps=1), tune(1, 24)))
    assert two["before_size"] == 16 and two["size"] == 24
    assert two["weights"] == result["before_weights"] != two["before_weights"]
    masked, *_ = trained(world, setting(few(16, "random", 1), tune(1)))
    assert {key for key in masked if key.startswith(("before", "unadapted"))} == {"before_size", "before_weights"}
    one, *_ = trained(world, setting(few(16, steps=1)))
    assert one["size"] == 16 and not [key for key in one if key.startswith(("before", "unadapted"))]


def test_what_is_trained_again_and_what_it_took(monkeypatch, world):
    done = []

    def train_stage(model, world, about, number, seed, imitate):
        done.append(number)
        with torch.no_grad():
            model.logit_scale += 1
        return {"seconds": 10.0**number, "curve_loss": [0.5]}

    monkeypatch.setattr(tokens, "train_stage", train_stage)
    first = setting(few(16, steps=1), tune(1, 24), tune(1))
    cases = [
        (first, 0, [0, 1, 2]), (first, 0, [2]), (setting(few(16, steps=1), tune(1, 24), tune(9)), 0, [2]),
        (setting(few(16, steps=1), tune(2, 24), tune(1)), 0, [1, 2]), (first, 1, [0, 1, 2]),
        (setting(few(16, "grid", 1), tune(1, 24), tune(1)), 0, [0, 1, 2]), (setting(tune(1)), 0, [0]),
        (setting(*first["stages"], positions="sincos"), 0, [0, 1, 2]),
        (setting(*first["stages"], lr=0.1), 0, [0, 1, 2]), (setting(*first["stages"], drawings=0.5), 0, [0, 1, 2]),
    ]  # fmt: skip
    for about, seed, expected in cases:
        done.clear()
        result, weights, _ = trained(world, about, seed)
        assert done == expected
        assert result["seconds_trained"] == sum(10.0**n for n in range(len(about["stages"])))
        assert "seconds" not in result and "before_seconds" not in result and result["curve_loss"] == [0.5]
        start = tokens.fresh_model(world, about, seed).logit_scale
        assert weights["logit_scale"].item() == pytest.approx(start.item() + len(about["stages"]))


@pytest.mark.usefixtures("emoji_is_small")
def test_emoji_and_scenes_keep_stages_of_their_own(cache, small_scenes):
    about = setting(few(16, steps=1), tune(1))
    tokens.train_on_fewer_tokens(about, 0)
    scenes.train_on_scenes(about, 0)
    assert len(list(cache.iterdir())) == 2


# what is measured, on emoji


def test_emoji_are_measured_at_the_size_that_is_asked_for(monkeypatch, world):
    asked, given = [], {}
    monkeypatch.setattr(tokens, "load_pairs", lambda *about: asked.append(about) or world.pairs)
    monkeypatch.setattr(tokens, "emoji_pairs", tokens.emoji_pairs.__wrapped__)
    monkeypatch.setattr(tokens, "evaluate", lambda model, pictures: given.update(pictures) or {"a": 1.0})
    for size in (32, 16):
        assert tokens.measure_on_emoji("a model", size) == {"a": 1.0}
        assert given.keys() == set(emoji.TEST_SPLITS)
        assert all(torch.equal(x, plain(world.pairs.images, size)) and x.shape[-1] == size for x in given.values())
    assert set(asked) == {("emoji", split, 32) for split in emoji.TEST_SPLITS}


# a teacher


class Teacher(torch.nn.Module):
    """A trained model that gives the same features `[B, D]` whatever it sees."""

    def __init__(self, image: torch.Tensor, text: torch.Tensor) -> None:
        super().__init__()
        self.image, self.text = torch.nn.Parameter(image), torch.nn.Parameter(text)
        self.logit_scale = torch.nn.Parameter(torch.tensor(1.3, dtype=torch.float64))
        self.seen: list = []

    def forward(self, images, ids):
        self.seen.append((images, ids))
        return self.image * 1, self.text * 1, self.logit_scale  # of a computation, as a tower's are


def unit(n: int, d: int, seed: int) -> torch.Tensor:
    x = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x / x.norm(dim=1, keepdim=True)


def textbook_features(x, y, scale, teacher) -> torch.Tensor:
    cosines = [x[i] @ t / (x[i].norm() * t.norm()) for i, t in enumerate(teacher.image.detach())]
    return sum(1 - c for c in cosines) / len(cosines)


def textbook_similarity(x, y, scale, teacher) -> torch.Tensor:
    """KL(teacher || student) of each picture's captions, and of each caption's pictures."""
    n, total = len(x), 0
    xt, yt, st = (p.detach() for p in (teacher.image, teacher.text, teacher.logit_scale))
    for i in range(n):
        for a, b, at, bt in ((x, y, xt, yt), (y, x, yt, xt)):
            q = torch.stack([(scale.exp() * a[i] @ b[j]).exp() for j in range(n)])
            p = torch.stack([(st.exp() * at[i] @ bt[j]).exp() for j in range(n)])
            p, q = p / p.sum(), q / q.sum()
            total = total + sum(p[j] * (p[j] / q[j]).log() for j in range(n)) / n
    return total / 2


@pytest.mark.parametrize("weight", [1.0, 5.0])
@pytest.mark.parametrize(("way", "textbook"), [("features", textbook_features), ("similarity", textbook_similarity)])
def test_imitation_is_the_textbooks_and_moves_no_teacher(monkeypatch, world, way, textbook, weight):
    teacher = Teacher(unit(5, 4, 1), unit(5, 4, 2))
    monkeypatch.setattr(tokens, "fresh_model", lambda *_: teacher)
    monkeypatch.setattr(tokens, "train_stage", lambda *_: {"seconds": 1.0})
    monkeypatch.setattr(tokens, "measure_on_emoji", weigh)
    about = setting(few(16), teacher=few(64), imitate=way, imitation=weight)
    imitate = tokens.imitation(world, about, 0)

    def student():  # what the towers give is made a unit vector
        x, y = (3 * unit(5, 4, seed) for seed in (3, 4))
        leaves = [p.requires_grad_() for p in (x, y, torch.tensor(0.7, dtype=torch.float64))]
        return leaves, (F.normalize(x), F.normalize(y), leaves[2])

    (ours, features), (theirs, same_features) = student(), student()
    loss, expected = imitate((*features, None), "pictures", "ids"), weight * textbook(*same_features, teacher)
    assert_close(loss, expected)
    assert loss > 0.01 and teacher.seen == [("pictures", "ids")] and not teacher.training
    for a, b in zip(*(torch.autograd.grad(x, y, allow_unused=True) for x, y in ((loss, ours), (expected, theirs)))):
        assert (a is None) == (b is None) == (way == "features" and a is None)
        assert a is None or assert_close(a, b) is None and a.abs().max() > 1e-3
    imitate((*student()[1], None), "pictures", "ids").backward()
    assert all(p.grad is None for p in teacher.parameters())
    same = (teacher.image.detach(), teacher.text.detach(), teacher.logit_scale.detach())
    assert_close(imitate((*same, None), None, None), torch.zeros(()).double())


def test_without_imitation_there_is_none_and_unknown_ways_are_named(world):
    assert tokens.imitation(world, setting(few(16)), 0) is None
    with pytest.raises(ValueError, match="unknown imitate 'logits'; choose from none, features, similarity"):
        tokens.imitation(world, setting(few(16), imitate="logits"), 0)


def test_the_teacher_is_the_tower_64_wide_after_its_own_stage(monkeypatch, world, cache):
    made = []
    real = tokens.fresh_model
    monkeypatch.setattr(tokens, "measure_on_emoji", weigh)
    monkeypatch.setattr(tokens, "fresh_model", lambda *about: made.append(real(*about)) or made[-1])
    about = setting(few(16, steps=1), teacher=few(64, steps=2), imitate="features", imitation=5.0)
    tokens.imitation(world, about, 3)
    alone = setting(few(64, steps=2), tune(1), image_width=64)
    model = real(world, alone, 3)
    tokens.train_stage(model, world, alone, 0, 3, None)
    assert equal(made[0].state_dict(), model.state_dict())
    result, *_ = trained(world, alone, 3)  # begins with the same stage
    assert len(list(cache.iterdir())) == 1 and result["before_weights"] == weigh(model, 32)["weights"]
    monkeypatch.setattr(tokens, "train_stage", None)  # may not be called again
    for other in ({"stages": [few(4, steps=9)]}, {"imitate": "similarity", "imitation": 1.0}, {"image_width": 128}):
        made.clear()
        tokens.imitation(world, {**about, **other}, 3)
        assert equal(made[0].state_dict(), model.state_dict()) and len(list(cache.iterdir())) == 1


@pytest.mark.usefixtures("emoji_is_small")
def test_imitation_changes_a_run_from_its_first_step():
    stages, teacher = [few(16, steps=1)], few(64, steps=1)
    alone, features, similarity = (
        tokens.train_on_fewer_tokens(setting(*stages, imitate=way, teacher=t), 0)
        for way, t in (("none", []), ("features", teacher), ("similarity", teacher))
    )
    losses = [run["curve_loss"][0] for run in (alone, features, similarity)]
    assert losses[1] > losses[0] + 0.1 and losses[2] > losses[0] + 0.01
    assert len({run["weights"] for run in (alone, features, similarity)}) == 3


# scenes


@pytest.fixture
def small_scenes(monkeypatch):
    """150 scenes to learn from, 40 to be asked about."""
    monkeypatch.setattr(scenes, "TRAINING", 150)
    monkeypatch.setattr(scenes, "TEST", 40)
    monkeypatch.setattr(scenes, "scenes", scenes.scenes.__wrapped__)
    world = scenes.scene_world.__wrapped__()
    monkeypatch.setattr(scenes, "scene_world", lambda: world)
    return world


def test_priority_of_the_grammar_is_its_own_tags():
    words = ["a", "large", "circle", "shows", "two", "crosses", "red", "among", "upper", "left", "no-word"]
    assert scenes.known_priority(words) == [4, 2, 1, 3, 4, 1, 2, 4, 2, 1, 4]
    ranks = {"NN": 1, "JJ": 2, "VB": 3}
    assert scenes.known_priority(list(PART_OF_SPEECH)) == [ranks.get(tag, 4) for tag in PART_OF_SPEECH.values()]
    assert Counter(scenes.known_priority(list(PART_OF_SPEECH)))[1] == 20


def test_scenes_are_of_one_object_or_of_several():
    one, many = (scenes.scenes.__wrapped__(60, 1, most) for most in (1, 3))
    assert set(one.metadata["count"]) == {1} and set(many.metadata["count"]) == {1, 2, 3}
    assert len({texts[0] for texts in many.captions}) == 60 and one.images.shape == (60, 3, 32, 32)


class Seer(torch.nn.Module):
    """A model that knows each picture's place in the test, and says what is written there."""

    def __init__(self, known: dict[bytes, torch.Tensor]) -> None:
        super().__init__()
        self.known = known

    def encode_image(self, images):
        return torch.stack([self.known[x.contiguous().numpy().tobytes()] for x in images])


@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize("size", [32, 16])
def test_a_model_that_says_the_right_words_is_right_and_another_as_often_as_words_are_equal(
    monkeypatch, small_scenes, size, right
):
    one, many = scenes.scenes(40, 2, 1), scenes.scenes(40, 1, 3)
    shapes, colors = [name.split()[1] for name in one.class_names[:8]], [name.split()[0] for name in one.class_names]
    names = [one.class_names[label] for label in one.labels.tolist()]
    said = [[name, *name.split()] for name in names]  # which pair, colour, and shape
    sentences = [texts for texts in many.captions]
    if not right:  # each says what the one before is
        said, sentences = said[-1:] + said[:-1], sentences[-1:] + sentences[:-1]
    words = {w: i for i, w in enumerate([*one.class_names, *dict.fromkeys(colors), *shapes])}
    words |= {texts[0]: len(words) + i for i, texts in enumerate(many.captions)}

    def vector(texts):
        return torch.nn.functional.one_hot(torch.tensor([words[t] for t in texts]), len(words)).sum(0).float()

    known = {}
    for pairs, answers in ((one, said), (many, sentences)):
        for picture, texts in zip(plain(pairs.images, size), answers):
            known[picture.contiguous().numpy().tobytes()] = vector(texts)
    assert len(known) == 80
    monkeypatch.setattr(scenes, "embed_texts", lambda model, _, texts: torch.stack([vector([t]) for t in texts]))
    model = Seer(known).train()
    found = scenes.measure_on_scenes(model, size)
    before = one.labels.roll(1)
    alike = {
        "noun": one.labels % 8 == before % 8, "adjective": one.labels // 8 == before // 8, "both": one.labels == before,
    }  # fmt: skip
    expected = {key: same.double().mean().item() for key, same in alike.items()} | {"retrieval": 0.0}
    assert found == ({key: 1.0 for key in expected} if right else pytest.approx(expected))
    assert not model.training and 0 < expected["noun"] < 1 and 0 < expected["adjective"] < 1


def test_a_run_on_scenes_is_measured_at_each_of_its_sizes(small_scenes):
    cut = {"text_tokens": 4, "text_masking": "syntax"}
    result = scenes.train_on_scenes(setting(few(16, steps=1, **cut), tune(1)), 0)
    measured = {f"{when}{key}" for when in ("", "before_", "unadapted_") for key in ("noun", "adjective", "both")}
    assert measured <= result.keys() and all(0 <= result[key] <= 1 for key in measured)
    assert math.isfinite(result["curve_loss"][0]) and {"retrieval", "before_retrieval"} <= result.keys()
    assert scenes.train_on_scenes(setting(few(16, steps=1, **cut), tune(1)), 0)["curve_loss"] == result["curve_loss"]


def test_two_words_of_a_sentence_are_its_nouns_and_then_adjectives(small_scenes):
    about = setting(stage(12, text_tokens=4, text_masking="syntax"), patch_size=8)
    model = tokens.fresh_model(small_scenes, about, 0)
    seen = watched(model)
    tokens.train_stages(model, small_scenes, about, 0, weigh)
    assert {step["patches"] for step in seen} == {16}
    tags = [[PART_OF_SPEECH[word] for word in text.split()] for text in texts_seen(small_scenes, seen)]
    assert all(len(row) == 2 for row in tags)
    rest = [row for row in tags if not {"NN", "JJ"} >= set(row)]
    assert all("NN" in row for row in tags) and len(rest) < len(tags) / 2
    assert {"NN", "JJ"} in map(set, tags) and ["NN", "NN"] in tags
