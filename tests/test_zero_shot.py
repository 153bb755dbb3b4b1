"""Zero-shot classification against brute force."""

import pytest
import torch
from conftest import assert_close

from minclip.clip import CLIPConfig, build_clip
from minclip.data import Pairs, plain
from minclip.tokenizer import Tokenizer
from minclip.zero_shot import embed_images, embed_texts, evaluate_zero_shot, top_k_accuracy, zero_shot_weights

CLASSES = ["cat", "dog", "red flag", "blue flag", "fox", "cow", "owl", "bee"]
TEMPLATES = ["{}", "a drawing of a {}", "the {}, seen from the side"]


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(CLASSES + TEMPLATES, 400)


@pytest.fixture
def model():
    """Random weights, float64, dropout on: whoever forgets evaluation mode gets other numbers each time."""
    torch.manual_seed(0)
    config = CLIPConfig(
        "vit", image_size=16, image_width=32, image_layers=(1,), context_length=24, vocab_size=400, text_width=32,
        text_layers=1, embed_dim=16, dropout=0.3,
    )  # fmt: skip
    model = build_clip(config).double()
    torch.nn.init.normal_(model.text_tower.token_embedding.weight)
    return model


@pytest.fixture(scope="module")
def pairs():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (60, 3, 16, 16), generator=generator, dtype=torch.uint8)
    labels = torch.randint(len(CLASSES), (60,), generator=generator)
    captions = [[CLASSES[label]] for label in labels]
    kinds = ["flags" if "flag" in caption else "animals" for (caption,) in captions]
    return Pairs(images, captions, labels, CLASSES, labels, {"group": kinds})


@torch.no_grad()
def brute_force(model, tokenizer, pairs, names, templates=("{}",), without=()):
    """One picture at a time: score every name, sort, look where the right one is. Returns top1, top5, n."""
    model.eval()
    weights = []
    for name in names:
        prompts = [model.encode_text(tokenizer([t.replace("{}", name)], 24))[0] for t in templates]
        mean = torch.stack(prompts).mean(0)
        weights.append(mean / mean.norm())
    ranks = []
    for image, (caption,) in zip(pairs.images, pairs.captions):
        if caption not in names or caption in without:
            continue
        feature = model.encode_image(plain(image[None], 16).double())[0]
        scores = [float(feature @ weight) for weight in weights]
        ranks.append(sum(score > scores[names.index(caption)] for score in scores))
    return sum(r < 1 for r in ranks) / len(ranks), sum(r < 5 for r in ranks) / len(ranks), len(ranks)


def test_templates_are_averaged_in_embedding_space(model, tokenizer):
    weights = zero_shot_weights(model, tokenizer, CLASSES, TEMPLATES)
    model.eval()
    for row, name in enumerate(CLASSES):
        prompts = model.encode_text(tokenizer([t.replace("{}", name) for t in TEMPLATES], 24))  # [3, D]
        mean = prompts.mean(0)
        assert mean.norm() < 0.999  # so that normalising again is a step that can be forgotten
        assert_close(weights[row], mean / mean.norm())


def test_one_bare_template_is_the_name(model, tokenizer):
    assert_close(zero_shot_weights(model, tokenizer, CLASSES), embed_texts(model, tokenizer, CLASSES))


def test_embedding_is_evaluation_and_leaves_the_mode(model, tokenizer, pairs):
    for training in (True, False):
        model.train(training)
        images, texts = embed_images(model, pairs.images, 16), embed_texts(model, tokenizer, CLASSES)
        assert model.training == training and not images.requires_grad and not texts.requires_grad
    model.eval()
    assert_close(images, model.encode_image(plain(pairs.images, 16).double()))
    assert_close(texts, model.encode_text(tokenizer(CLASSES, 24)))


def test_embedding_does_not_depend_on_the_batch_size(model, tokenizer, pairs):
    assert_close(embed_images(model, pairs.images, 16, batch_size=7), embed_images(model, pairs.images, 16))
    assert_close(embed_texts(model, tokenizer, CLASSES, batch_size=3), embed_texts(model, tokenizer, CLASSES))


def test_pictures_of_another_size_are_resized(model, pairs):
    larger = pairs.images.repeat_interleave(2, 2).repeat_interleave(2, 3)
    smaller = torch.nn.functional.interpolate(larger / 127.5 - 1, [16, 16], mode="bilinear", antialias=True)
    assert_close(embed_images(model, larger, 16), model.eval().encode_image(smaller.double()))


@pytest.mark.parametrize("templates", [["{}"], TEMPLATES])
def test_accuracy_is_brute_force(model, tokenizer, pairs, templates):
    names = CLASSES[::-1]  # the order of the names is not that of the labels
    result = evaluate_zero_shot(model, tokenizer, pairs, names, 16, templates)
    top1, top5, n = brute_force(model, tokenizer, pairs, names, templates)
    assert 0 < top1 < top5 < 1 and n == 60
    assert result["top1"] == top1 and result["top5"] == top5
    assert result["n_images"] == 60 and result["n_classes"] == 8


def test_pictures_of_missing_classes_are_left_out(model, tokenizer, pairs):
    names = ["bee", "cat", "red flag", "owl", "blue flag", "unicorn"]
    result = evaluate_zero_shot(model, tokenizer, pairs, names, 16)
    top1, top5, n = brute_force(model, tokenizer, pairs, names)
    assert (result["top1"], result["top5"], result["n_images"]) == (top1, top5, n)
    assert n < 60 and result["n_classes"] == 6


def test_flags_compete_but_are_not_counted(model, tokenizer, pairs):
    names = CLASSES[1:]  # and one class is missing
    result = evaluate_zero_shot(model, tokenizer, pairs, names, 16)
    top1, _, n = brute_force(model, tokenizer, pairs, names, without=("red flag", "blue flag"))
    assert result["top1_without_flags"] == top1 and n < result["n_images"]
    assert result["top1_without_flags"] != result["top1"]
    bare = Pairs(pairs.images, pairs.captions, pairs.labels, CLASSES, pairs.groups)
    assert "top1_without_flags" not in evaluate_zero_shot(model, tokenizer, bare, names, 16)


def test_no_known_class_is_an_error(model, tokenizer, pairs):
    with pytest.raises(ValueError, match="none of the pictures has a name among the given names"):
        evaluate_zero_shot(model, tokenizer, pairs, ["unicorn", "Cat"], 16)


@pytest.mark.parametrize("k", [1, 3, 7])
def test_top_k_is_brute_force(k):
    generator = torch.Generator().manual_seed(k)
    scores = torch.rand(50, 7, generator=generator, dtype=torch.float64)
    labels = torch.randint(7, (50,), generator=generator)
    rankings = [sorted(range(7), key=lambda c: -row[c]) for row in scores.tolist()]
    hits = [label in ranking[:k] for ranking, label in zip(rankings, labels.tolist())]
    assert top_k_accuracy(scores, labels, k) == sum(hits) / 50


def test_top_5_of_fewer_classes_is_everything():
    assert top_k_accuracy(torch.rand(4, 3), torch.tensor([0, 1, 2, 0]), 5) == 1


def test_pictures_without_a_label_are_left_out(tiny_pairs):
    model, tokenizer = small_model()
    tiny_pairs.labels[:60] = -1
    result = evaluate_zero_shot(model, tokenizer, tiny_pairs, tiny_pairs.class_names, 16)
    assert result["n_images"] == 4


@pytest.mark.parametrize("templates", [[], ["a photo"], ["{}", "a photo"]])
def test_templates_without_a_place_for_the_name_are_named(templates):
    model, tokenizer = small_model()
    with pytest.raises(ValueError, match="must each hold {}"):
        zero_shot_weights(model, tokenizer, ["cat"], templates)


def test_only_flags_is_no_accuracy_without_flags(tiny_pairs):
    model, tokenizer = small_model()
    tiny_pairs.metadata["group"] = ["flags"] * 64
    assert "top1_without_flags" not in evaluate_zero_shot(model, tokenizer, tiny_pairs, tiny_pairs.class_names, 16)


def small_model():
    from minclip.clip import CLIPConfig, build_clip

    tokenizer = Tokenizer.train(["a cat"], 300)
    shape = CLIPConfig(
        image_tower="vit", image_size=16, patch_size=8, image_width=32, image_layers=(1,), text_width=32, text_layers=1,
        heads=2, embed_dim=16, vocab_size=300, context_length=48,
    )  # fmt: skip
    return build_clip(shape), tokenizer
