"""CLIP's loss against the formula, closed forms and derivatives by hand."""

import math

import pytest
import torch
import torch.nn.functional as F

from minclip.softmax_loss import softmax_loss, uninformed_softmax_loss


def features(n, width, seed):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(n, width, generator=generator, dtype=torch.float64), dim=1)


def inputs(n=7, width=5):
    tensors = features(n, width, 0), features(n, width, 1), torch.tensor(math.log(14.3), dtype=torch.float64)
    return [tensor.requires_grad_() for tensor in tensors]


def textbook(image_features, text_features, logit_scale, labels=None):
    """Figure 3 of the paper, a pair at a time; of a label's pairs only the pair itself competes."""
    n, total = len(image_features), 0.0
    labels = list(range(n)) if labels is None else labels.tolist()
    rivals = [[j for j in range(n) if j == i or labels[j] != labels[i]] for i in range(n)]
    score = lambda i, j: math.exp(logit_scale.item()) * (image_features[i] @ text_features[j]).item()  # noqa: E731
    for i in range(n):
        total -= math.log(math.exp(score(i, i)) / sum(math.exp(score(i, j)) for j in rivals[i]))  # which text?
        total -= math.log(math.exp(score(i, i)) / sum(math.exp(score(j, i)) for j in rivals[i]))  # which image?
    return total / (2 * n)


@pytest.mark.parametrize("n", [1, 2, 7])
def test_value_is_the_textbook(n):
    arguments = [tensor.detach() for tensor in inputs(n)]
    assert abs(softmax_loss(*arguments).item() - textbook(*arguments)) < 1e-10


def test_gradients_are_the_closed_forms():
    """With P the row softmax and Q the column softmax, d loss / d logits = (P + Q - 2 I) / 2B."""
    images, texts, scale = inputs()
    softmax_loss(images, texts, scale).backward()
    with torch.no_grad():
        logits = scale.exp() * images @ texts.T  # [B, B]
        slope = (logits.softmax(1) + logits.softmax(0) - 2 * torch.eye(7)) / 14  # [B, B]
        torch.testing.assert_close(images.grad, scale.exp() * slope @ texts, atol=1e-10, rtol=0)
        torch.testing.assert_close(texts.grad, scale.exp() * slope.T @ images, atol=1e-10, rtol=0)
        torch.testing.assert_close(scale.grad, (slope * logits).sum(), atol=1e-10, rtol=0)


def test_gradients_are_the_finite_differences():
    assert torch.autograd.gradcheck(softmax_loss, inputs(4, 3))


def test_orthogonal_pairs_have_a_closed_form():
    """Own score s, every other 0: ln(1 + (B - 1) e^-s) for rows and columns alike."""
    eye, scale = torch.eye(6, dtype=torch.float64), torch.tensor(math.log(5.0), dtype=torch.float64)
    assert abs(softmax_loss(eye, eye, scale).item() - math.log(1 + 5 * math.exp(-5))) < 1e-10


def test_rows_and_columns_both_count():
    """All images alike: a row is a softmax over the texts' scores, a column is uniform."""
    images, texts = features(1, 5, 0).expand(7, 5), features(7, 5, 1)
    scale = torch.tensor(1.0, dtype=torch.float64)
    logits = math.e * texts @ images[0]  # [B], the same for each image
    expected = ((logits.logsumexp(0) - logits.mean()) + math.log(7)) / 2
    assert abs(softmax_loss(images, texts, scale) - expected) < 1e-10


def test_images_and_texts_may_be_swapped_and_pairs_reordered():
    images, texts, scale = inputs()
    order = torch.randperm(7, generator=torch.Generator().manual_seed(2))
    loss = softmax_loss(images, texts, scale)
    assert abs(softmax_loss(texts, images, scale) - loss) < 1e-10
    assert abs(softmax_loss(images[order], texts[order], scale) - loss) < 1e-10
    assert abs(softmax_loss(images[order], texts, scale) - loss) > 1e-3  # but not taken apart


def test_pairs_of_one_label_are_not_each_others_negatives():
    images, texts, scale = inputs()
    labels = torch.tensor([4, 0, 4, 1, 4, 0, 2])
    loss = softmax_loss(images, texts, scale, labels)
    assert abs(loss.item() - textbook(images, texts, scale, labels)) < 1e-10
    assert abs(loss - softmax_loss(images, texts, scale)) > 1e-3
    assert abs(softmax_loss(images, texts, scale, torch.arange(7)) - softmax_loss(images, texts, scale)) < 1e-10
    assert abs(softmax_loss(images, texts, scale, torch.zeros(7))) < 1e-10  # no rivals
    assert torch.autograd.gradcheck(lambda *tensors: softmax_loss(*tensors, labels), (images, texts, scale))


@pytest.mark.parametrize("n", [1, 2, 64])
def test_a_model_that_knows_nothing_pays_ln_b(n):
    same, scale = features(1, 5, 0).expand(n, 5), torch.tensor(math.log(100.0), dtype=torch.float64)
    assert abs(softmax_loss(same, same, scale).item() - uninformed_softmax_loss(n)) < 1e-10
    assert uninformed_softmax_loss(n) == math.log(n)


def test_half_the_range_of_float32_is_no_problem():
    eye = torch.eye(4)
    worst = softmax_loss(eye, eye.roll(1, 0), torch.tensor(math.log(1e4)))  # exp(1e4) would overflow
    assert worst.isfinite() and abs(worst - 1e4) < 1
