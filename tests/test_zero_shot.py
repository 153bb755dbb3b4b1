"""Zero-shot classification against brute force."""

import pytest
import torch
from conftest import assert_close
from sklearn import metrics

from minclip.clip import CLIPConfig, build_clip
from minclip.data import Pairs, plain
from minclip.tokenizer import Tokenizer
from minclip.zero_shot import (
    balanced_accuracy,
    classify,
    confusion_matrix,
    embed_images,
    embed_texts,
    evaluate_zero_shot,
    per_class_accuracy,
    top_k_accuracy,
    zero_shot_weights,
)

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


def test_all_names_of_a_class_are_averaged(model, tokenizer):
    names = ["cat", ["dog", "red flag", "fox"], ("owl",), ["bee", "cow"]]
    weights = zero_shot_weights(model, tokenizer, names, TEMPLATES)
    model.eval()
    for row, own in enumerate([["cat"], ["dog", "red flag", "fox"], ["owl"], ["bee", "cow"]]):
        prompts = [t.replace("{}", name) for t in TEMPLATES for name in own]
        mean = torch.stack([model.encode_text(tokenizer([prompt], 24))[0] for prompt in prompts]).mean(0)
        assert_close(weights[row], mean / mean.norm())
    assert weights.shape == (4, 16)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "there is no name"),
        (["cat", ""], "class 1 has no name, or a blank one"),
        (["cat", "dog", []], "class 2 has no name"),
        ([["cat", " "], "dog"], "class 0 has no name, or a blank one"),
    ],
)
def test_classes_without_a_name_are_named(model, tokenizer, names, message):
    with pytest.raises(ValueError, match=message):
        zero_shot_weights(model, tokenizer, names)


def test_classify_is_the_inner_product():
    scores = classify(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[1.0, 0.0], [0.5, 1.0], [0.0, -1.0]]))
    assert scores.tolist() == [[1, 2.5, -2], [3, 5.5, -4]]


@pytest.mark.parametrize("features", [torch.zeros(2, 5), torch.zeros(4)])
def test_features_of_two_models_are_named(features):
    said = rf"image_features \[{', '.join(map(str, features.shape))}\], weights \[3, 4\].*two different models"
    with pytest.raises(ValueError, match=said):
        classify(features, torch.zeros(3, 4))


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


def test_top_k_is_the_hand_worked_one_and_scikit_learns():
    scores = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.7, 0.2], [0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])
    labels = torch.tensor([0, 2, 1, 2])  # first, second, second, last
    assert [top_k_accuracy(scores, labels, k) for k in (1, 2, 3)] == [0.25, 0.75, 1]
    generator = torch.Generator().manual_seed(0)
    scores, labels = torch.rand(200, 9, generator=generator), torch.randint(9, (200,), generator=generator)
    for k in (1, 2, 5):
        assert top_k_accuracy(scores, labels, k) == metrics.top_k_accuracy_score(labels, scores, k=k, labels=range(9))


def predicted():
    generator = torch.Generator().manual_seed(3)
    labels = torch.randint(5, (80,), generator=generator) ** 2 // 4  # skewed over 0, 1, 2, 4; class 3 has no pictures
    predictions = torch.where(
        torch.rand(80, generator=generator) < 0.6, labels, torch.randint(6, (80,), generator=generator)
    )
    return predictions, labels


def test_confusions_and_balanced_accuracy_are_scikit_learns():
    predictions, labels = predicted()
    expected = metrics.confusion_matrix(labels, predictions, labels=range(6))
    found = confusion_matrix(predictions, labels, 6)
    assert found.dtype == torch.long and found.tolist() == expected.tolist()
    right = per_class_accuracy(predictions, labels, 6)
    for c in range(6):
        own = predictions[labels == c].tolist()
        assert right[c].isnan() if not own else right[c].item() == sum(p == c for p in own) / len(own)
    assert right.dtype == torch.float64 and right.isnan().tolist() == [False, False, False, True, False, True]
    # scikit-learn's balanced accuracy warns of predicted classes without pictures, and leaves them out as well
    expected = metrics.recall_score(labels, predictions, average="macro", labels=labels.unique().numpy())
    assert balanced_accuracy(predictions, labels, 6) == pytest.approx(expected, abs=1e-12)
    predictions[predictions == 3], predictions[predictions == 5] = 0, 0
    expected = metrics.balanced_accuracy_score(labels, predictions)
    assert balanced_accuracy(predictions, labels, 6) == pytest.approx(expected, abs=1e-12)


def test_balanced_accuracy_of_a_skewed_set_by_hand():
    labels, predictions = torch.tensor([0, 0, 0, 0, 1]), torch.tensor([0, 0, 0, 0, 0])
    assert confusion_matrix(predictions, labels, 2).tolist() == [[4, 0], [1, 0]]
    assert per_class_accuracy(predictions, labels, 2).tolist() == [1, 0]
    assert balanced_accuracy(predictions, labels, 2) == 0.5


def test_evaluation_is_balanced_over_the_classes_that_have_pictures(model, tokenizer, pairs):
    names = ["unicorn", *CLASSES[1:]]
    result = evaluate_zero_shot(model, tokenizer, pairs, names, 16)
    scores = embed_images(model, pairs.images, 16) @ zero_shot_weights(model, tokenizer, names).T
    kept = pairs.labels > 0  # unicorn stands where cat stood
    expected = metrics.recall_score(
        pairs.labels[kept], scores[kept].argmax(1), average="macro", labels=list(range(1, 8)), zero_division=0
    )
    assert result["balanced"] == pytest.approx(expected, abs=1e-12) and result["balanced"] != result["top1"]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0, 3, 1]), r"labels\[1\] is 3, outside \[0, 3\)"),
        (torch.tensor([0, 1, -1]), r"labels\[2\] is -1"),
        (torch.tensor([0, 1]), r"labels \[2\] must be \[N\], one for each of the 3 rows"),
    ],
)
def test_labels_out_of_range_are_named(labels, message):
    with pytest.raises(ValueError, match=message):
        top_k_accuracy(torch.zeros(3, 3), labels, 1)


def test_more_bad_input_of_the_metrics_is_named():
    with pytest.raises(ValueError, match="k 0 must be at least 1"):
        top_k_accuracy(torch.zeros(3, 3), torch.zeros(3).long(), 0)
    with pytest.raises(ValueError, match="N >= 1"):
        top_k_accuracy(torch.zeros(0, 3), torch.zeros(0).long(), 1)
    for metric in (confusion_matrix, per_class_accuracy, balanced_accuracy):
        with pytest.raises(ValueError, match=r"predictions\[1\] is 2, outside \[0, 2\)"):
            metric(torch.tensor([0, 2]), torch.tensor([0, 1]), 2)
        with pytest.raises(ValueError, match=r"labels\[0\] is 5"):
            metric(torch.tensor([0, 1]), torch.tensor([5, 1]), 2)
        with pytest.raises(ValueError, match=r"predictions \[3\] must be \[N\], one for each of the 2"):
            metric(torch.tensor([0, 1, 1]), torch.tensor([0, 1]), 2)


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
