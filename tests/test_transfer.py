"""What the claims about transfer are tried on, and how: the real emoji, with tiny CLIPs trained for two steps."""

import re
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from conftest import assert_close, assert_differ

from experiments import emoji, fit, names, robustness, shots, tasks, tokens, transfer
from experiments.few_shot import draw_shots, fit_linear
from experiments.sweep import complete
from minclip.data import Pairs, plain, step_generator
from minclip.zero_shot import top_k_accuracy

ARTISTS = ("noto", "blob", "fluent", "emojione")
TINY = {"batch_size": 32, "steps": 2, "embed_dim": 8, "text_width": 32, "image_width": 4}
KEPT = (
    emoji.emoji, emoji.names_without_tones, emoji.tokenised, transfer.pretraining_pairs, transfer.pretraining_tokens,
    transfer.drawings, transfer.subgroups, names.toned, tasks.all_drawings, tasks.labelled_tower,
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    """A folder of its own for what runs keep; on the CPU, on one thread; nothing stays in memory for other tests."""
    patch, threads = pytest.MonkeyPatch(), torch.get_num_threads()
    patch.setattr(emoji, "CACHE", tmp_path_factory.mktemp("cache"))
    for module in (emoji, fit, tokens, transfer, tasks, robustness):
        patch.setattr(module, "compute_device", lambda: torch.device("cpu"))
    for function in KEPT:
        function.cache_clear()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    patch.undo()
    for function in KEPT:
        function.cache_clear()


def setting(run=shots.measure_shots, **changes) -> dict:
    return complete(run, {**TINY, **changes})


@pytest.fixture(scope="module")
def model(own_cache):
    return transfer.pretrained_clip(setting(), 0)


def made_up(labels: list[int], **metadata: list) -> Pairs:
    """Pictures that are as dark as their row says, of classes `name 0` and so on."""
    images = torch.arange(len(labels), dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 4, 4).contiguous()
    class_names = [f"name {i}" for i in range(max(labels) + 1)]
    captions = [[class_names[i]] for i in labels]
    return Pairs(images, captions, torch.tensor(labels), class_names, torch.tensor(labels), metadata)


# What is seen in training, and what is not


def test_no_drawing_of_an_unseen_artist_is_trained_on():
    pairs = transfer.pretraining_pairs()
    assert set(pairs.metadata["artist"]) == set(ARTISTS)
    counts = Counter(emoji.emoji("train").metadata["artist"])
    assert len(pairs) == sum(counts[artist] for artist in ARTISTS) < len(emoji.emoji("train"))


@pytest.mark.parametrize("artist", [*ARTISTS, *transfer.UNSEEN])
def test_drawings_are_the_artists_own_and_new(artist):
    pairs = transfer.drawings(artist)
    assert set(pairs.metadata["artist"]) == {artist} and not any(pairs.metadata["skin_tones"])
    assert len(set(pairs.labels.tolist())) == len(pairs)
    seen = transfer.pretraining_pairs()
    trained = set(zip(seen.metadata["artist"], seen.labels.tolist()))
    assert not trained & {(artist, label) for label in pairs.labels.tolist()}
    if artist in transfer.UNSEEN:  # all there are
        everything = [emoji.emoji(s) for s in ("train", *emoji.TEST_SPLITS, "openmoji")]
        rows = [r for p in everything for r in zip(p.metadata["artist"], p.metadata["skin_tones"])]
        assert len(pairs) == sum(who == artist and not tones for who, tones in rows)


def test_join_keeps_order_and_all_columns():
    one = made_up([3, 1, 2], artist=["a", "b", "a"], n=[1, 2, 3])
    other = made_up([0, 3], artist=["a", "a"], n=[9, 4])
    pairs = transfer.join([one, other], lambda row: row["artist"] == "a" and row["n"] != 9)
    assert pairs.labels.tolist() == [3, 2, 3] == pairs.groups.tolist() and pairs.class_names == one.class_names
    assert pairs.captions == [["name 3"], ["name 2"], ["name 3"]]
    assert pairs.metadata == {"artist": ["a", "a", "a"], "n": [1, 3, 4]}
    assert pairs.images[:, 0, 0, 0].tolist() == [0, 2, 1]


# The benchmark


def test_a_concept_is_in_one_part_only_and_classes_are_large_enough():
    split, pairs = transfer.subgroups(0), transfer.drawings("twemoji")
    assert len(split.classes) == 23 == len(split.names)
    concepts = [c for part in split.concepts.values() for c in part.tolist()]
    assert len(set(concepts)) == len(concepts)
    about = dict(zip(pairs.labels.tolist(), zip(pairs.metadata["group"], pairs.metadata["subgroup"])))
    for part, found in split.concepts.items():
        assert found.shape == split.labels[part].shape
        for concept, label in zip(found.tolist(), split.labels[part].tolist()):
            group, kind = about[concept]
            assert group != "flags" and kind == split.classes[label]
    sizes = Counter(about[c][1] for c in pairs.labels.tolist() if about[c][0] != "flags")
    for label, kind in enumerate(split.classes):
        train, validation, test = (
            int((split.labels[part] == label).sum()) for part in ("train", "validation", "test")
        )  # fmt: skip
        assert train >= 16 and train + validation + test == sizes[kind]
        assert test == max(6, round(sizes[kind] / 4)) and validation == max(2, round(sizes[kind] / 10))
        own = split.concepts["train"][split.labels["train"] == label].tolist()
        assert split.names[label] == [pairs.class_names[i] for i in own]
    enough = {k for k, n in sizes.items() if n - max(6, round(n / 4)) - max(2, round(n / 10)) >= 16}
    assert set(split.classes) == enough


def test_split_is_drawn_anew_for_another_seed():
    first, second = (transfer.subgroups.__wrapped__(seed) for seed in (0, 1))
    assert first.classes == second.classes
    assert set(first.concepts["test"].tolist()) != set(second.concepts["test"].tolist())
    again = transfer.subgroups.__wrapped__(0)
    assert all(torch.equal(first.concepts[part], again.concepts[part]) for part in first.concepts)
    one = transfer.split_class(list(range(40)), 0)
    assert {part: len(members) for part, members in one.items()} == {"test": 10, "validation": 4, "train": 26}
    assert sorted(sum(one.values(), [])) == list(range(40)) and one["test"] != list(range(10))


def test_exam_is_what_the_artist_drew_with_its_classes(monkeypatch):
    monkeypatch.setattr(transfer, "drawings", lambda artist: made_up([5, 2, 7, 0]))
    images, labels = transfer.exam("someone", torch.tensor([7, 1, 5, 6, 2]), torch.tensor([0, 1, 0, 1, 2]))
    assert images[:, 0, 0, 0].tolist() == [2, 0, 1] and labels.tolist() == [0, 0, 2]
    assert labels.dtype == torch.long and images.dtype == torch.uint8


def test_exams_of_the_three_artists_ask_for_the_same_concepts():
    split = transfer.subgroups(0)
    parts = {a: transfer.exam(a, split.concepts["test"], split.labels["test"]) for a in transfer.UNSEEN}
    drawn = {a: set(transfer.drawings(a).labels.tolist()) for a in transfer.UNSEEN}
    for artist, (images, labels) in parts.items():
        asked = [(c, y) for c, y in zip(split.concepts["test"].tolist(), split.labels["test"].tolist())
                 if c in drawn[artist]]  # fmt: skip
        assert labels.tolist() == [y for _, y in asked]
        pairs = transfer.drawings(artist)
        assert torch.equal(images, torch.cat([pairs.images[pairs.labels == c] for c, _ in asked]))
    assert len(parts["twemoji"][1]) == len(split.concepts["test"]) > 3 * len(parts["fxemoji"][1]) > 0


# The CLIPs


def equal(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_a_clip_is_trained_once_and_the_same_whoever_asks(monkeypatch, tmp_path, model):
    monkeypatch.setattr(emoji, "CACHE", tmp_path)
    weights = transfer.pretrained_clip(setting(names.measure_names), 0).state_dict()
    assert equal(weights, model.state_dict()) and len(list(tmp_path.iterdir())) == 1  # trained again, the same
    assert not model.training
    other = transfer.pretrained_clip(setting(), 1).state_dict()
    assert_differ(other["image_projection.weight"], weights["image_projection.weight"])
    sentences = transfer.pretrained_clip(setting(captions="sentences"), 0).state_dict()
    assert_differ(sentences["text_projection.weight"], weights["text_projection.weight"])
    longer = transfer.pretrained_clip(setting(steps=3), 0).state_dict()
    assert_differ(longer["image_projection.weight"], weights["image_projection.weight"])
    assert len(list(tmp_path.iterdir())) == 4
    monkeypatch.setattr(transfer, "fit", None)  # may not be called again
    torch.manual_seed(5)
    assert equal(transfer.pretrained_clip(setting(), 0).state_dict(), weights)
    assert equal(transfer.pretrained_clip(setting(draws=3, alpha=0.1), 0).state_dict(), weights)
    assert equal(transfer.pretrained_clip(setting(captions="sentences"), 0).state_dict(), sentences)


def test_training_sees_the_four_artists_and_captions_of_all_kinds(monkeypatch, tmp_path):
    seen = {}
    monkeypatch.setattr(emoji, "CACHE", tmp_path)
    monkeypatch.setattr(transfer, "fit", lambda model, look, about, seed, say, **more: seen.update(say=say, **more))
    transfer.pretrained_clip(setting(), 0)
    assert seen["pairs"] is transfer.pretraining_pairs()
    rows, tokenizer = torch.arange(3000), emoji.tokenised()[0]
    draw = torch.rand(3000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    texts = [tokenizer.decode(ids) for ids in seen["say"](rows, draw, 0)]
    bare = [tokenizer.decode(ids) for ids in seen["say"](rows, torch.zeros(3000).double(), 0)]
    drawing = sum(text.startswith("a drawing of") for text in texts)
    assert sum(a == b for a, b in zip(texts, bare)) == pytest.approx(1000, abs=130)
    assert drawing == pytest.approx(1000, abs=130)
    transfer.pretrained_clip(setting(captions="sentences"), 0)
    kinds = Counter(
        next(i for i, s in enumerate(transfer.SENTENCES) if tokenizer.decode(ids).startswith(s.split("{}")[0]))
        for ids in seen["say"](rows, draw, 0)
    )
    assert len(kinds) == 4 and min(kinds.values()) > 620  # of 750


def test_sentences_never_hold_a_bare_name():
    kept, tokenizer = transfer.pretraining_tokens("sentences"), emoji.tokenised()[0]
    assert set(kept.counts.tolist()) == {4} and len(kept.counts) == len(transfer.pretraining_pairs())
    beginnings = tuple(sentence.split("{}")[0] for sentence in transfer.SENTENCES)
    assert all(tokenizer.decode(ids).startswith(beginnings) for ids in kept.ids[:2000])
    assert set(transfer.pretraining_tokens("mixed").counts.tolist()) == {3}
    with pytest.raises(ValueError, match="unknown captions 'names'; choose from mixed, sentences"):
        transfer.pretraining_tokens("names")


def test_features_are_unit_vectors_before_and_after_the_projection(model):
    images = transfer.drawings("fxemoji").images[:5]
    with torch.no_grad():
        tower = model.image_tower(plain(images, 16))
        shared = F.normalize(tower @ model.image_projection.weight.T, dim=1)
    torch.testing.assert_close(transfer.tower_features(model, images), tower / tower.norm(dim=1, keepdim=True))
    torch.testing.assert_close(transfer.shared_features(model, images), shared)
    assert tower.shape[1] != shared.shape[1]


# Names


def test_among_is_brute_force_and_a_tie_is_lost():
    g = torch.Generator().manual_seed(0)
    similarity, own = torch.randint(0, 6, (200, 9), generator=g).double(), torch.randint(0, 9, (200,), generator=g)
    rivals = torch.stack(
        [torch.tensor([j for j in range(9) if j != i])[torch.randperm(8, generator=g)[:2]] for i in own]
    )
    right = [all(similarity[n, own[n]] > similarity[n, j] for j in rivals[n].tolist()) for n in range(200)]
    ties = sum(similarity[n, own[n]] == similarity[n, rivals[n]].max() for n in range(200))
    assert names.among(similarity, own, rivals) == pytest.approx(sum(right) / 200, abs=1e-12) and ties > 10


@pytest.fixture
def asked(monkeypatch):
    """What `twins` asks of `among`, by what it returns; names have a vector each."""
    calls = []
    monkeypatch.setattr(names, "said", lambda model, texts: torch.zeros(len(texts), 2))
    monkeypatch.setattr(names, "shared_features", lambda model, images: torch.zeros(len(images), 2))
    monkeypatch.setattr(names, "among", lambda similarity, own, rivals: calls.append((own, rivals)) or len(calls) / 100)

    def of(seed: int) -> dict:
        calls.clear()
        result = names.twins(None, seed)
        return {key: calls[round(100 * value) - 1] for key, value in result.items() if key != "tone_above_chance"}

    return of


def test_twins_are_of_the_family_and_others_of_other_kinds(asked):
    found, again, other = asked(0), asked(0), asked(1)
    openmoji = transfer.drawings("openmoji")
    kind = dict(zip(openmoji.labels.tolist(), openmoji.metadata["subgroup"]))
    assert found.keys() == {f"{w}_{f}" for w in ("twins", "others") for f in (*names.FAMILIES, "tone")}
    for family in names.FAMILIES:
        (own, twins), (same, others) = found[f"twins_{family}"], found[f"others_{family}"]
        assert torch.equal(own, same) and twins.shape == others.shape and len(own) > 20
        assert not (twins == own[:, None]).any() and not (others == own[:, None]).any()
        members = set(own.tolist())
        assert all({i, *row} == members and len(set(row)) == len(row) for i, row in zip(own.tolist(), twins.tolist()))
        inside = {kind[i] for i in members}
        assert all(len(set(row)) == len(row) and not inside & {kind[i] for i in row} for row in others.tolist())
        assert torch.equal(others, again[f"others_{family}"][1])
        assert not torch.equal(others, other[f"others_{family}"][1])
        assert torch.equal(twins, other[f"twins_{family}"][1])
        assert len(set(map(tuple, others.tolist()))) > len(own) / 2  # drawn for each picture


def test_tones_rivals_are_the_other_four_and_others_the_same_number(asked):
    (own, twins), (same, others) = (asked(0)[f"{which}_tone"] for which in ("twins", "others"))
    class_names = emoji.emoji("train").class_names
    assert torch.equal(own, same) and twins.shape == others.shape == (len(own), 4)
    for i, row in list(zip(own.tolist(), twins.tolist()))[::50]:
        base, tones = class_names[i].split(":")[0], {class_names[i], *(class_names[j] for j in row)}
        assert len(tones) == 5 and all(name.split(":")[0] == base and "skin tone" in name for name in tones)


def test_tones_others_are_four_other_people(asked):
    own, others = asked(0)["others_tone"]
    class_names = emoji.emoji("train").class_names
    without = [re.sub(r"(medium-)?(light|medium|dark) skin tone", "", name) for name in class_names]
    assert not any(without[i] in {without[j] for j in row} for i, row in zip(own.tolist(), others.tolist()))
    assert all(len({without[j] for j in row}) == 4 for row in others.tolist())


def test_tone_above_chance_is_over_one_in_five(monkeypatch):
    monkeypatch.setattr(names, "FAMILIES", {})
    monkeypatch.setattr(names, "said", lambda model, texts: torch.zeros(len(texts), 2))
    monkeypatch.setattr(names, "shared_features", lambda model, images: torch.zeros(len(images), 2))
    monkeypatch.setattr(names, "among", lambda *_: 0.3)
    assert names.twins(None, 0)["tone_above_chance"] == pytest.approx(0.1, abs=1e-12)


def test_with_tone_and_back():
    tones = names.names_of_tones()
    assert len(set(tones)) == 5
    for base in ("waving hand: {}", "man: {}, bald", "medium dark horse: {}"):
        for one in tones:
            assert [names.with_tone(base.format(one), other) for other in tones] == [base.format(x) for x in tones]
    assert names.with_tone("red apple", tones[0]) == "red apple"


@pytest.mark.parametrize("artist", ["twemoji", "openmoji"])
def test_toned_are_people_with_one_of_five_tones(artist):
    pairs = names.toned(artist)
    known = set(pairs.class_names)
    assert set(pairs.metadata["artist"]) == {artist} and {len(t) for t in pairs.metadata["skin_tones"]} == {1}
    assert all(names.with_tone(pairs.class_names[i], t) in known for i in pairs.labels for t in names.names_of_tones())
    assert len(pairs) > 1000 and len(set(pairs.labels.tolist())) == len(pairs)


def test_a_concept_without_all_five_tones_is_left_out(monkeypatch):
    class_names = [f"hand: {tone}" for tone in names.names_of_tones()] + ["foot: dark skin tone", "foot", "hand"]
    pairs = made_up([0, 5, 7, 4, 0], artist=["openmoji"] * 4 + ["noto"], skin_tones=[[1], [5], [], [5], [1]])
    pairs.class_names = class_names
    monkeypatch.setattr(names, "emoji", lambda split: pairs)
    assert names.toned.__wrapped__("openmoji").labels.tolist() == [0, 4]


def test_top_1_leaves_flags_out_and_finds_names_by_their_place(monkeypatch):
    pairs = made_up([2, 5, 9, 5], group=["objects", "flags", "objects", "objects"])
    features = torch.eye(3)[torch.tensor([0, 2, 1, 1])]  # by row; rows 0 and 3 are right, 2 and the flag are not
    monkeypatch.setattr(names, "shared_features", lambda model, images: features[images[:, 0, 0, 0].long()])
    found = names.top_1(None, pairs, torch.eye(3), torch.tensor([2, 5, 9]))
    assert found == pytest.approx(2 / 3, abs=1e-12)


def test_flops_of_a_picture_are_counted():
    """One linear map from 16 x 16 pixels to 5 numbers."""
    layer = torch.nn.Linear(3 * 16 * 16, 5)
    model = SimpleNamespace(logit_scale=torch.zeros(()), encode_image=lambda x: layer(x.flatten(1)))
    assert names.image_flops(model) == 2 * 3 * 16 * 16 * 5


def test_names_are_measured_by_prompt_and_artist(monkeypatch, model):
    templates = {"bare": ("{}",), "two": ("a {}", "this {} here")}
    monkeypatch.setattr(names, "PROMPTS", templates)
    monkeypatch.setattr(names, "twins", lambda model, seed: {"twins_x": 0.5 + seed})
    found = names.measure_names(setting(names.measure_names), 0)
    assert found.pop("twins_x") == 0.5 and found.pop("mflops") == names.image_flops(model) / 1e6
    places = emoji.names_without_tones().tolist()
    texts = [emoji.emoji("train").class_names[i] for i in places]
    assert len(texts) == 1914 and not any("skin tone" in text for text in texts)

    def top_1(pairs, prompts) -> float:
        weights = F.normalize(sum(transfer.said(model, [p.format(t) for t in texts]) for p in prompts), dim=1)
        rows = torch.tensor([group != "flags" for group in pairs.metadata["group"]])
        best = (transfer.shared_features(model, pairs.images[rows]) @ weights.T).argmax(1).tolist()
        return sum(places[i] == y for i, y in zip(best, pairs.labels[rows].tolist())) / len(best)

    expected = {f"{p}_{a}": top_1(transfer.drawings(a), t) for p, t in templates.items() for a in transfer.UNSEEN}
    new = emoji.emoji("in_distribution")
    keep = [a in ARTISTS and not t for a, t in zip(new.metadata["artist"], new.metadata["skin_tones"])]
    assert found == pytest.approx({**expected, "seen_bare": top_1(new.select(torch.tensor(keep)), ("{}",))}, abs=1e-12)


# Few shots


def class_weights(model, split) -> torch.Tensor:
    """The mean of the names' unit vectors, normalised, one row a class."""
    return torch.stack([F.normalize(transfer.said(model, own).sum(0), dim=0) for own in split.names])


def test_shots_are_measured_as_by_hand(monkeypatch, model):
    monkeypatch.setattr(shots, "SHOTS", (1, 3))
    about = setting(draws=2, tip_steps=2, tip_lr=0.1, probe_l2=0.2, text_l2=0.5, free_l2=0.05, alpha=3.0)
    found, split = shots.measure_shots(about, 0), transfer.subgroups(0)
    artists = ("twemoji", "fxemoji", "openmoji")
    assert found.keys() == {
        *(f"{m}_{k}_{a}" for m in shots.METHODS for k in (1, 3) for a in artists),
        *(f"{m}_{a}" for m in ("zero", "probe_all", "text_all") for a in artists),
    }
    weights, scale = class_weights(model, split), model.logit_scale.exp().item()

    def seen(part, artist="twemoji"):
        images, labels = transfer.exam(artist, split.concepts[part], split.labels[part])
        return transfer.shared_features(model, images), labels

    keys, labels = seen("train")
    n, expected = 23, Counter()
    fits = {"probe": (0.2, None), "text": (0.5, weights), "free": (0.05, weights)}
    for a in artists:
        x, y = seen("test", a)
        accuracy = lambda logits, y=y: (logits.argmax(1) == y).double().mean().item()  # noqa: E731
        expected[f"zero_{a}"] = accuracy(x @ weights.T)
        for method in ("probe", "text"):
            expected[f"{method}_all_{a}"] = accuracy(x @ fit_linear(keys, labels, n, *fits[method], scale).T)
        for k in (1, 3):
            for draw in (0, 1):
                rows = draw_shots(labels, k, step_generator(0, 14, draw))
                W = {m: fit_linear(keys[rows], labels[rows], n, *how, scale) for m, how in fits.items()}
                W["blend"] = (weights + W["free"]) / 2
                for method, w in W.items():
                    expected[f"{method}_{k}_{a}"] += accuracy(x @ w.T) / 2
                votes = torch.exp(-5.5 * (1 - x @ keys[rows].T))  # [N, M]
                votes = torch.stack([votes[:, labels[rows] == c].sum(1) for c in range(n)], 1)
                expected[f"tip_{k}_{a}"] += accuracy(scale * x @ weights.T + 3 * votes) / 2
    rest = {key: value for key, value in found.items() if key.startswith(("tip_chosen", "tip_tuned"))}
    assert {key: found[key] for key in expected} == pytest.approx(dict(expected), abs=1e-6)
    assert len(set(found.values())) > 8 and all(0 <= value <= 1 for value in rest.values())


def unit(*shape: int, seed: int) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=-1)


def test_alpha_is_chosen_on_the_validation_pictures_and_keys_are_tuned():
    keys, weights, x = unit(12, 5, seed=0), unit(4, 5, seed=1), unit(50, 5, seed=2)
    labels = torch.arange(12) % 4
    about = setting(tip_steps=3, tip_lr=0.1)

    def tip(x, keys, alpha):
        votes = torch.exp(-about["beta"] * (1 - x @ keys.T)) @ F.one_hot(labels, 4).double()
        return 9.0 * x @ weights.T + alpha * votes

    right = {}
    for alpha in shots.ALPHAS:  # what this alpha says is what validation holds to be right
        validation = unit(40, 5, seed=3)
        answers = tip(validation, keys, alpha).argmax(1)
        found = shots.adapters(keys, labels, weights, 9.0, (validation, answers), about)
        same = [a for a in shots.ALPHAS if torch.equal(tip(validation, keys, a).argmax(1), answers)]
        assert_close(found["tip_chosen"](x), tip(x, keys, same[0]))
        right[alpha] = same[0]
    assert len(set(right.values())) > 3
    assert_close(found["tip"](x), tip(x, keys, about["alpha"]))
    tuned = shots.tune_tip_adapter(keys, F.one_hot(labels, 4).double(), labels, weights, about["alpha"], about["beta"],
                                   3, 0.1, 9.0)  # fmt: skip
    assert_close(found["tip_tuned"](x), tip(x, tuned, about["alpha"]))
    assert_differ(found["tip_tuned"](x), found["tip"](x))


# Robustness


@pytest.fixture
def named(model):
    split = transfer.subgroups(0)
    fresh = transfer.pretrained_clip(setting(), 0)  # tuning changes it
    weights = class_weights(model, split)
    return robustness.Named(fresh, weights), weights, split


def test_before_training_the_classifier_is_zero_shot(named, model):
    net, weights, split = named
    images, _ = transfer.exam("openmoji", split.concepts["test"][:40], split.labels["test"][:40])
    logits = model.logit_scale.exp() * transfer.shared_features(model, images) @ weights.T
    with torch.no_grad():
        torch.testing.assert_close(net.eval()(plain(images, 16)), logits, atol=1e-5, rtol=1e-5)
    weights += 1
    assert_differ(net.weights.detach(), weights)  # a copy


def test_tuning_moves_tower_and_class_weights_but_no_batch_statistics(named):
    net, _, split = named
    train = transfer.exam("twemoji", split.concepts["train"], split.labels["train"])
    before = {name: x.clone() for name, x in net.state_dict().items()}
    robustness.tune(net, *train, {"tune_steps": 2, "tune_lr": 1e-2}, 0)
    after = net.state_dict()
    statistics = [name for name in after if "running" in name or "num_batches" in name]
    assert statistics and all(torch.equal(before[name], after[name]) for name in statistics)
    learned = [n for n, _ in net.named_parameters() if n == "weights" or "image_" in n]
    assert len(learned) > 10 and all(not torch.equal(before[name], after[name]) for name in learned)
    rest = set(after) - set(learned) - set(statistics)
    assert rest and all(torch.equal(before[name], after[name]) for name in rest)  # the text tower


def test_tuning_learns_what_it_is_shown(named):
    net, _, split = named
    images, labels = transfer.exam("twemoji", split.concepts["train"], split.labels["train"])
    loss = lambda: F.cross_entropy(net(plain(images, 16)), labels).item()  # noqa: E731
    net.eval()
    with torch.no_grad():
        before = loss()
        with torch.enable_grad():
            robustness.tune(net, images, labels, {"tune_steps": 12, "tune_lr": 1e-2}, 0)
        assert loss() < before - 0.1


def test_own_drawings_are_the_pretraining_artists_with_the_classes_of_the_benchmark(monkeypatch):
    pairs = made_up([4, 0, 2, 4, 3], artist=["noto", "blob", "fluent", "emojione", "noto"])
    monkeypatch.setattr(robustness, "pretraining_pairs", lambda: pairs)
    concepts = {"train": torch.tensor([4]), "validation": torch.tensor([1]), "test": torch.tensor([2, 3])}
    labels = {"train": torch.tensor([1]), "validation": torch.tensor([0]), "test": torch.tensor([0, 1])}
    images, classes = robustness.own_drawings(transfer.Split(["a", "b"], concepts, labels, [["x"], ["y"]]))
    assert images[:, 0, 0, 0].tolist() == [0, 2, 3, 4] and classes.tolist() == [1, 0, 1, 1]


def test_own_drawings_of_the_benchmark():
    split = transfer.subgroups(0)
    images, labels = robustness.own_drawings(split)
    seen = transfer.pretraining_pairs()  # of the four artists alone, as above
    kind = dict(zip(seen.labels.tolist(), seen.metadata["subgroup"]))
    concepts = {c for part in split.concepts.values() for c in part.tolist()}
    rows = [row for row, c in enumerate(seen.labels.tolist()) if c in concepts]
    assert len(images) == len(rows) > 1500 and torch.equal(images, seen.images[rows])
    assert [split.classes[y] for y in labels.tolist()] == [kind[c] for c in seen.labels[rows].tolist()]


def test_measured_is_the_share_that_is_right():
    tests = {"a": (made_up([0, 1, 2]).images, torch.tensor([0, 1, 1])), "b": (made_up([0]).images, torch.tensor([2]))}
    net = lambda x: torch.eye(3)[: len(x)]  # noqa: E731
    assert robustness.measured("x", net, tests) == pytest.approx({"x_a": 2 / 3, "x_b": 0.0}, abs=1e-12)


def test_adaptation_is_measured_from_zero_shot_to_tuned(monkeypatch, model):
    probes, trained = [], []

    def probe(train, validation, tests):
        probes.append((train, validation, tests))
        return {**dict.fromkeys(tests, 0.25), "C": 2.0}

    def classifier(pairs, size, width, steps, batch_size, lr, seed, device):
        trained.append((pairs, width, steps, lr))
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * size * size, len(pairs.class_names)))

    monkeypatch.setattr(robustness, "linear_probe", probe)
    monkeypatch.setattr(robustness, "train_classifier", classifier)
    about = setting(robustness.measure_adaptation, tune_steps=3, tune_lr=1e-2)
    found, split = robustness.measure_adaptation(about, 0), transfer.subgroups(0)
    models = ("zero", "probe", "own", *(f"wise_{p}" for p in (0, 25, 50, 75, 100)),
              *(f"supervised_{w}_{s}" for w in (8, 16, 32) for s in (60, 240)))  # fmt: skip
    artists = ("twemoji", "fxemoji", "openmoji")
    assert found.keys() == {"probe_C", *(f"{m}_{a}" for m in models for a in artists)}
    for a in artists:
        images, labels = transfer.exam(a, split.concepts["test"], split.labels["test"])
        scores = transfer.shared_features(model, images) @ class_weights(model, split).T
        assert found[f"zero_{a}"] == pytest.approx(top_k_accuracy(scores, labels, 1), abs=1e-12)
        assert found[f"wise_0_{a}"] == found[f"zero_{a}"] and found[f"probe_{a}"] == 0.25
        assert torch.equal(probes[0][2][a][0], transfer.tower_features(model, images))
    parts = {p: transfer.exam("twemoji", split.concepts[p], split.labels[p]) for p in ("train", "validation")}
    for (features, labels), (images, expected) in zip(probes[0], parts.values()):
        assert torch.equal(features, transfer.tower_features(model, images)) and torch.equal(labels, expected)
    assert set(probes[0][2]) == set(artists)

    net = robustness.Named(transfer.pretrained_clip(about, 0), class_weights(model, split))
    both = tuple(torch.cat(x) for x in zip(*parts.values()))
    before = {name: x.clone() for name, x in net.state_dict().items()}
    robustness.tune(net, *both, about, 0)
    tests = {a: transfer.exam(a, split.concepts["test"], split.labels["test"]) for a in artists}
    assert robustness.measured("wise_100", net, tests).items() <= found.items()
    after = net.state_dict()
    net.load_state_dict({n: 0.75 * before[n] + 0.25 * x if x.is_floating_point() else x for n, x in after.items()})
    quarter = robustness.measured("wise_25", net, tests)
    assert quarter == pytest.approx({key: found[key] for key in quarter}, abs=0.01)
    assert {found[f"wise_100_{a}"] for a in artists} != {found[f"zero_{a}"] for a in artists}

    *bench, own = trained
    assert [(w, s) for _, w, s, _ in bench] == [(w, s) for w in (8, 16, 32) for s in (60, 240)]
    assert all(torch.equal(pairs.images, both[0]) and torch.equal(pairs.labels, both[1]) for pairs, *_ in bench)
    assert own[1:] == (4, 240, 3e-3) and torch.equal(own[0].images, robustness.own_drawings(split)[0])
    part = robustness.measure_adaptation({**about, "whole": False}, 0)
    assert part == {key: found[key] for key in part} and {key.split("_")[0] for key in part} == {"zero", "probe"}


def test_a_point_on_the_line_has_no_effective_robustness():
    line = robustness.baseline([(0.3, 0.2), (0.6, 0.35), (0.9, 0.7)])
    for p in (0.2, 0.5, 0.95):
        on_it = 1 / (1 + torch.tensor(-(line[0] + line[1] * robustness.logit(p)), dtype=torch.float64).exp().item())
        assert robustness.effective((p, on_it), line) == pytest.approx(0, abs=1e-12)
        assert robustness.effective((p, on_it + 0.04), line) == pytest.approx(0.04, abs=1e-12)


# Many small tasks


@pytest.mark.parametrize("task", tasks.TASKS)
def test_parts_of_a_task_share_no_concept_and_hold_every_class(task):
    rows = tasks.all_drawings()[1]
    for seed in (0, 1):
        classes, parts = tasks.parts_of(task, seed)
        assert set(parts) == {"train", "validation", "test"} and len(classes) >= 2
        concepts = {name: {rows[i]["base_name"] for i in found.tolist()} for name, (found, _) in parts.items()}
        assert sum(map(len, concepts.values())) == len(set.union(*concepts.values()))
        counts = torch.stack([labels.bincount(minlength=len(classes)) for _, labels in parts.values()])  # [3, C]
        assert (counts > 0).all()
        assert counts.sum(0).min() >= 12 and counts.sum(0).max() <= 60
        for found, labels in parts.values():
            asked = [tasks.TASKS[task](rows[i]) for i in found.tolist()]
            assert asked == [classes[y] for y in labels.tolist()] and len(set(found.tolist())) == len(found)
    again = tasks.parts_of(task, 1)[1]
    assert all(torch.equal(parts[name][0], again[name][0]) for name in parts)
    assert not torch.equal(parts["train"][0], tasks.parts_of(task, 0)[1]["train"][0])


def test_small_classes_are_left_out_and_large_ones_cut(monkeypatch):
    """Of 11 drawings; of 12; of 200; and of 20 drawings of five concepts, too few for six parts."""
    sizes = {"small": 11, "enough": 12, "large": 200, "narrow": 20}
    rows = [{"class": name, "base_name": f"{name} {i % 5 if name == 'narrow' else i}"}
            for name, n in sizes.items() for i in range(n)]  # fmt: skip
    monkeypatch.setattr(tasks, "all_drawings", lambda: (None, rows))
    monkeypatch.setattr(tasks, "TASKS", {"t": lambda row: row["class"]})
    classes, parts = tasks.parts_of("t", 0)
    assert classes == ["enough", "large"]
    counts = {name: labels.bincount().tolist() for name, (_, labels) in parts.items()}
    assert counts == {"train": [6, 30], "validation": [2, 10], "test": [4, 20]}


def row(name: str, group: str = "people-body", subgroup: str = "person", tones: tuple = ()) -> dict:
    return {"name": name, "group": group, "subgroup": subgroup, "skin_tones": list(tones)}


@pytest.mark.parametrize(
    ("task", "about", "found"),
    [
        ("group", row("sun", "travel-places"), "travel-places"), ("group", row("flag: Peru", "flags"), None),
        ("faces", row("grin", "smileys-emotion", "face-smiling"), "face-smiling"),
        ("faces", row("red heart", "smileys-emotion", "heart"), None),
        ("people", row("judge", subgroup="person-role"), "person-role"), ("people", row("child"), None),
        ("hands", row("fist", subgroup="hand-fingers-closed"), "hand-fingers-closed"), ("hands", row("child"), None),
        ("animals", row("cat", "animals-nature", "animal-mammal"), "animal-mammal"),
        ("animals", row("bread", "food-drink", "food-prepared"), None),
        ("food", row("bread", "food-drink", "food-prepared"), "food-prepared"),
        ("travel", row("bus", "travel-places", "transport-ground"), "transport-ground"),
        ("activities", row("ball", "activities", "sport"), "sport"),
        ("objects", row("key", "objects", "lock"), "lock"), ("symbols", row("up", "symbols", "arrow"), "arrow"),
        ("symbols", row("key", "objects", "lock"), None),
        ("skin tone", row("hand: dark skin tone", tones=(5,)), 5), ("skin tone", row("hand"), None),
        ("skin tone", row("couple", tones=(1, 5)), None),
        ("gender", row("man: bald"), "man"), ("gender", row("woman judge"), "woman"),
        ("gender", row("person"), "person"), ("gender", row("mango"), None), ("gender", row("old man"), None),
        ("facing", row("man walking facing right"), "right"), ("facing", row("woman running"), "left"),
        ("facing", row("person in manual wheelchair: dark skin tone, facing right"), "right"),
        ("facing", row("person with white cane"), "left"), ("facing", row("man dancing"), None),
        ("facing", row("boat walking facing right"), None),
        ("how many", row("couple with heart: woman, man", subgroup="family"), "two"),
        ("how many", row("kiss: man, man", subgroup="family"), "two"),
        ("how many", row("family: man, boy", subgroup="family"), "more"),
        ("how many", row("people holding hands", subgroup="family"), None),
        ("how many", row("judge", subgroup="person-role"), "one"), ("how many", row("child"), "one"),
        ("how many", row("waving hand", subgroup="hand-fingers-open"), None),
    ],
)  # fmt: skip
def test_rules_of_tasks(task, about, found):
    assert tasks.TASKS[task](about) == found


def test_drawings_of_the_tasks_are_the_benchmark_artists():
    pairs, rows = tasks.all_drawings()
    assert len(pairs) == len(rows) > 3500 and set(pairs.metadata["artist"]) == {"twemoji"}
    assert all(row["name"] == texts[0] for row, texts in zip(rows, pairs.captions))
    assert {len(row["skin_tones"]) for row in rows} >= {0, 1}
    assert len({row["name"] for row in rows}) == len(rows)


def test_tasks_are_measured_by_zero_shot_and_two_probes(monkeypatch, model):
    probes = []
    monkeypatch.setattr(tasks, "TASKS", {name: tasks.TASKS[name] for name in ("faces", "skin tone")})
    monkeypatch.setattr(tasks, "linear_probe", lambda *about: probes.append(about) or {"test": len(probes) / 10})
    found = tasks.measure_tasks(setting(tasks.measure_tasks, labelled_steps=2), 0)
    tower = tasks.labelled_tower(4, 2, 0)
    monkeypatch.setattr(tasks, "train_image_tower", None)  # kept
    assert equal(tasks.labelled_tower.__wrapped__(4, 2, 0).state_dict(), tower.state_dict()) and not tower.training
    pairs, rows = tasks.all_drawings()
    with torch.no_grad():
        labelled = F.normalize(torch.cat([tower(plain(part, 16)) for part in pairs.images.split(256)]), dim=1)
    shared, tower = transfer.shared_features(model, pairs.images), transfer.tower_features(model, pairs.images)
    expected = {"probe_faces": 0.1, "labelled_faces": 0.2, "probe_skin_tone": 0.3, "labelled_skin_tone": 0.4}
    for n, task in enumerate(("faces", "skin tone")):
        classes, parts = tasks.parts_of(task, 0)
        (train, y), (test, labels) = parts["train"], parts["test"]
        own = [[rows[i]["name"] for i, c in zip(train.tolist(), y.tolist()) if c == k] for k in range(len(classes))]
        weights = class_weights(model, SimpleNamespace(names=own))
        key = task.replace(" ", "_")
        expected[f"zero_{key}"] = ((shared[test] @ weights.T).argmax(1) == labels).double().mean().item()
        most = max(range(len(classes)), key=lambda c: (y == c).sum().item())
        expected[f"chance_{key}"] = (labels == most).double().mean().item()
        for features, about in zip((tower, labelled), probes[2 * n :]):
            sets = (about[0], about[1], about[2]["test"])
            for (x, c), part in zip(sets, ("train", "validation", "test"), strict=True):
                assert torch.equal(x, features[parts[part][0]]) and torch.equal(c, parts[part][1])
    assert found == pytest.approx(expected, abs=1e-12)
