"""Retrieval against brute force, with ties, several correct items and NaN."""

import pytest
import torch

from minclip.retrieval import nearest, recall_at_k


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
        ({"similarity": torch.zeros(3, 4)}, r"\[3, 4\] is not square"),
        ({"similarity": torch.zeros(3, 4), "positives": torch.ones(4, 3) > 0}, r"got torch.bool \[4, 3\]"),
        ({"similarity": torch.zeros(3, 3), "positives": torch.ones(3, 3)}, "got torch.float32"),
        ({"similarity": torch.zeros(3, 3), "positives": torch.eye(3) * torch.tensor([1, 1, 0]) > 0}, "query 2"),
    ],
)
def test_recall_names_the_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        recall_at_k(**arguments)


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
        (torch.zeros(2, 3), torch.zeros(4, 5), 1, r"\[2, 3\] and gallery \[4, 5\]"),
        (torch.zeros(3), torch.zeros(4, 3), 1, r"queries \[3\]"),
        (torch.zeros(2, 3), torch.zeros(4, 3), 5, "k 5 is not within 1 to 4"),
        (torch.zeros(2, 3), torch.zeros(4, 3), 0, "k 0 is not within 1 to 4"),
    ],
)
def test_nearest_names_the_bad_input(queries, gallery, k, message):
    with pytest.raises(ValueError, match=message):
        nearest(queries, gallery, k)
