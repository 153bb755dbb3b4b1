"""Retrieval against brute force, with ties, several correct items and NaN."""

import pytest
import torch
from sklearn.metrics import top_k_accuracy_score

from minclip.retrieval import image_text_recall, nearest, recall_at_k


def brute_force_recall(similarity, positives, k):
    """Put wrong items first among equals, take the k highest, look for a correct one."""
    hits = 0
    for scores, correct in zip(similarity.tolist(), positives.tolist()):
        ranking = sorted(range(len(scores)), key=lambda i: (-scores[i], correct[i]))
        hits += any(correct[i] for i in ranking[:k])
    return hits / len(similarity)


@pytest.mark.parametrize("levels", [3, 10, 10**9])  # many ties, some, none
@pytest.mark.parametrize("k", [1, 2, 5, 11])
def test_recall_is_brute_force(levels, k):
    generator = torch.Generator().manual_seed(levels + k)
    similarity = torch.randint(-levels, levels, (40, 11), generator=generator).double()
    positives = torch.rand(40, 11, generator=generator) < 0.2
    positives[:, 3] |= ~positives.any(1)
    assert recall_at_k(similarity, positives, k) == brute_force_recall(similarity, positives, k)


def test_the_diagonal_is_the_default():
    similarity = torch.rand(30, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for k in (1, 4):
        expected = brute_force_recall(similarity, torch.eye(30, dtype=torch.bool), k)
        assert 0 < expected < 1 and recall_at_k(similarity, k=k) == expected


def test_closed_forms():
    assert recall_at_k(torch.eye(5)) == 1
    assert recall_at_k(-torch.eye(5), k=4) == 0 and recall_at_k(-torch.eye(5), k=5) == 1
    shifted = torch.eye(4).roll(1, 0)  # queries in rows: the transpose is another question
    assert recall_at_k(torch.tensor([[1.0, 0.0], [2.0, 1.0]])) == 0.5 and recall_at_k(shifted) == 0
    assert recall_at_k(torch.tensor([[1.0, 0.0], [2.0, 3.0]]).T) == 0.5
    assert recall_at_k(torch.tensor([[1.0, 0.0], [2.0, 3.0]])) == 1


def test_a_model_that_scores_everything_alike_retrieves_nothing():
    for value in (0.0, 1.0, -torch.inf):
        assert recall_at_k(torch.full((6, 6), value), k=5) == 0


def test_nan_counts_against_the_model():
    similarity = torch.eye(4)
    similarity[0, 0] = torch.nan  # its own score
    similarity[1, 2] = torch.nan  # a wrong item's score
    assert recall_at_k(similarity) == 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"similarity": torch.zeros(5)}, r"got \[5\]"),
        ({"similarity": torch.zeros(3, 3), "k": 4}, "k 4"),
        ({"similarity": torch.zeros(3, 3), "k": 0}, "k 0"),
        ({"similarity": torch.zeros(3, 4)}, r"bool \[3, 4\], by default the diagonal, got torch.bool \[3, 3\]"),
        ({"similarity": torch.zeros(3, 4), "positives": torch.ones(4, 3) > 0}, r"got torch.bool \[4, 3\]"),
        ({"similarity": torch.zeros(3, 3), "positives": torch.ones(3, 3)}, "got torch.float32"),
        ({"similarity": torch.zeros(3, 3), "positives": torch.eye(3) * torch.tensor([1, 1, 0]) > 0}, "query 2"),
    ],
)
def test_recall_names_the_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        recall_at_k(**arguments)


def test_two_captions_an_image_by_hand():
    images = torch.eye(2)
    texts = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.95, 0.05]])  # captions 0 and 1 are of image 0
    # image 0 ranks the texts 3 0 2 1, its first is second; image 1 ranks 1 2 0 3, its text 2 is second
    # texts 0 and 2 rank their own image first, texts 1 and 3 last
    assert image_text_recall(images, texts, torch.tensor([0, 0, 1, 1]), ks=(1, 2)) == {
        "image_to_text@1": 0.0, "image_to_text@2": 1.0, "text_to_image@1": 0.5, "text_to_image@2": 1.0,
    }  # fmt: skip
    # with the last caption of image 0 as well, any of the three is enough for it
    found = image_text_recall(images, texts, torch.tensor([0, 0, 1, 0]), ks=(1,))
    assert found == {"image_to_text@1": 0.5, "text_to_image@1": 0.75}


def test_two_images_a_caption_by_hand():
    images = torch.tensor([[0.9, 0.1], [0.3, 0.7], [0.4, 0.6], [0.1, 0.9]])
    texts = torch.eye(2)  # text 0 is of images 0 and 1, text 1 of images 2 and 3
    positives = torch.tensor([[True, False], [True, False], [False, True], [False, True]])
    # images 0, 2 and 3 have their own text first, image 1 has it second; both texts have an own image first
    assert image_text_recall(images, texts, positives, ks=(1, 2)) == {
        "image_to_text@1": 0.75, "image_to_text@2": 1.0, "text_to_image@1": 1.0, "text_to_image@2": 1.0,
    }  # fmt: skip
    positives[0] = torch.tensor([False, True])  # now text 0 has image 1 alone, which it ranks third
    found = image_text_recall(images, texts, positives, ks=(1, 2))
    assert found["text_to_image@1"] == 0.5 and found["text_to_image@2"] == 0.5 and found["image_to_text@1"] == 0.5


def test_both_directions_are_brute_force_and_scikit_learns():
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(12, 4, generator=generator, dtype=torch.float64)
    image_of_text = torch.arange(60) % 12  # five captions an image
    texts = images[image_of_text] + torch.randn(60, 4, generator=generator, dtype=torch.float64)
    found = image_text_recall(images, texts, image_of_text)
    positives = torch.arange(12)[:, None] == image_of_text
    assert found == image_text_recall(images, texts, positives)
    assert list(found) == [f"{way}@{k}" for way in ("image_to_text", "text_to_image") for k in (1, 5, 10)]
    similarity = images @ texts.T
    for k in (1, 5, 10):
        assert found[f"image_to_text@{k}"] == brute_force_recall(similarity, positives, k)
        expected = top_k_accuracy_score(image_of_text, similarity.T, k=k, labels=range(12))  # one right image a text
        assert found[f"text_to_image@{k}"] == pytest.approx(expected, abs=1e-12)
    assert 0 < found["text_to_image@1"] < found["image_to_text@1"] < 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text_features": torch.zeros(4, 5)}, r"image_features \[2, 3\], text_features \[4, 5\].*different models"),
        ({"positives": torch.tensor([0, 1, 2, 0])}, r"positives\[2\] is 2, outside \[0, 2\)"),
        ({"positives": torch.tensor([0, 1, -1, 0])}, r"positives\[2\] is -1"),
        ({"positives": torch.tensor([0, 1])}, r"positives \[2\] must be \[N\], one for each of the 4 rows"),
        ({"positives": torch.ones(4, 2) > 0}, r"positives must be bool \[2, 4\].*got torch.bool \[4, 2\]"),
        ({"positives": torch.tensor([0, 0, 0, 0])}, "query 1 has no correct item"),
        ({"ks": (3,)}, "k 3"),
    ],
)
def test_image_text_recall_names_the_bad_input(changes, message):
    given = {"image_features": torch.zeros(2, 3), "text_features": torch.zeros(4, 3)}
    given |= {"positives": torch.tensor([0, 1, 1, 0]), "ks": (1,)} | changes
    with pytest.raises(ValueError, match=message):
        image_text_recall(**given)


def test_nearest_is_brute_force():
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(7, 5, generator=generator, dtype=torch.float64)
    gallery = torch.randn(20, 5, generator=generator, dtype=torch.float64)
    scores, indices = nearest(queries, gallery, 4)
    assert scores.shape == indices.shape == (7, 4)
    for q in range(7):
        products = [sum(a * b for a, b in zip(queries[q].tolist(), item)) for item in gallery.tolist()]
        ranking = sorted(range(20), key=lambda i: -products[i])[:4]
        assert indices[q].tolist() == ranking
        torch.testing.assert_close(scores[q].tolist(), [products[i] for i in ranking], atol=1e-10, rtol=0)


@pytest.mark.parametrize(
    ("queries", "gallery", "k", "message"),
    [
        (torch.zeros(2, 3), torch.zeros(4, 5), 1, r"queries \[2, 3\], gallery \[4, 5\].*different models"),
        (torch.zeros(3), torch.zeros(4, 3), 1, r"queries \[3\]"),
        (torch.zeros(2, 3), torch.zeros(4, 3), 5, "k 5 is not within 1 to 4"),
        (torch.zeros(2, 3), torch.zeros(4, 3), 0, "k 0 is not within 1 to 4"),
    ],
)
def test_nearest_names_the_bad_input(queries, gallery, k, message):
    with pytest.raises(ValueError, match=message):
        nearest(queries, gallery, k)
