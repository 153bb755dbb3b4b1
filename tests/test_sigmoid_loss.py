"""SigLIP's loss against the formula, closed forms and derivatives by hand."""

import math

import pytest
import torch
import torch.nn.functional as F

from minclip.sigmoid_loss import sigmoid_loss, uninformed_sigmoid_loss


def features(n, width, seed):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(n, width, generator=generator, dtype=torch.float64), dim=1)


def scalar(value):
    return torch.tensor(value, dtype=torch.float64)


def inputs(n=7, width=5, bias=-2.0):
    tensors = features(n, width, 0), features(n, width, 1), scalar(math.log(10.0)), scalar(bias)
    return [tensor.requires_grad_() for tensor in tensors]


def textbook(image_features, text_features, logit_scale, logit_bias, labels=None):
    """Algorithm 1 of the paper, a pair at a time; two different pairs of one label are passed over."""
    n, total = len(image_features), 0.0
    for i in range(n):
        for j in range(n):
            if labels is not None and i != j and labels[i] == labels[j]:
                continue
            score = math.exp(logit_scale.item()) * (image_features[i] @ text_features[j]).item() + logit_bias.item()
            total -= math.log(1 / (1 + math.exp(-score if i == j else score)))
    return total / n


@pytest.mark.parametrize("n", [1, 2, 7])
def test_value_is_the_textbook(n):
    arguments = [tensor.detach() for tensor in inputs(n)]
    assert abs(sigmoid_loss(*arguments).item() - textbook(*arguments)) < 1e-10


def test_gradients_are_the_closed_forms():
    """d loss / d logits = (sigmoid(logits) - I) / B: what is believed minus what is true."""
    images, texts, scale, bias = inputs()
    sigmoid_loss(images, texts, scale, bias).backward()
    with torch.no_grad():
        products = scale.exp() * images @ texts.T  # [B, B]
        slope = ((products + bias).sigmoid() - torch.eye(7)) / 7  # [B, B]
        torch.testing.assert_close(images.grad, scale.exp() * slope @ texts, atol=1e-10, rtol=0)
        torch.testing.assert_close(texts.grad, scale.exp() * slope.T @ images, atol=1e-10, rtol=0)
        torch.testing.assert_close(scale.grad, (slope * products).sum(), atol=1e-10, rtol=0)
        torch.testing.assert_close(bias.grad, slope.sum(), atol=1e-10, rtol=0)


def test_gradients_are_the_finite_differences():
    assert torch.autograd.gradcheck(sigmoid_loss, inputs(4, 3))


def test_orthogonal_pairs_have_a_closed_form():
    """Own score s + b, every other b."""
    eye = torch.eye(6, dtype=torch.float64)
    expected = math.log(1 + math.exp(-(5 - 3))) + 5 * math.log(1 + math.exp(-3))
    assert abs(sigmoid_loss(eye, eye, scalar(math.log(5.0)), scalar(-3.0)).item() - expected) < 1e-10


@pytest.mark.parametrize("n", [2, 16, 256])
def test_the_bias_is_added(n):
    """With b = -10 all pairs are called wrong at the start, which costs 10 per image, not 10 (B - 1)."""
    images, texts = torch.eye(2 * n, dtype=torch.float64).split(n)  # every score is 0
    loss = sigmoid_loss(images, texts, scalar(math.log(10.0)), scalar(-10.0)).item()
    assert abs(loss - (math.log(1 + math.e**10) + (n - 1) * math.log(1 + math.e**-10))) < 1e-10
    assert 10 < loss < 10.02


def test_the_sum_is_divided_by_b_and_not_by_b_squared():
    """The same pairs twice over: each image meets twice as many negatives, and pays for them."""
    zeros = torch.zeros(3, 4, dtype=torch.float64)
    losses = [sigmoid_loss(z, z, scalar(0.0), scalar(0.0)).item() for z in (zeros, zeros.repeat(2, 1))]
    assert abs(losses[0] - 3 * math.log(2)) < 1e-10 and abs(losses[1] - 6 * math.log(2)) < 1e-10


def test_images_and_texts_may_be_swapped_and_pairs_reordered():
    images, texts, scale, bias = inputs()
    order = torch.randperm(7, generator=torch.Generator().manual_seed(2))
    loss = sigmoid_loss(images, texts, scale, bias)
    assert abs(sigmoid_loss(texts, images, scale, bias) - loss) < 1e-10
    assert abs(sigmoid_loss(images[order], texts[order], scale, bias) - loss) < 1e-10
    assert abs(sigmoid_loss(images[order], texts, scale, bias) - loss) > 1e-3  # but not taken apart


def test_pairs_of_one_label_are_not_each_others_negatives():
    arguments = inputs()
    labels = torch.tensor([4, 0, 4, 1, 4, 0, 2])
    loss = sigmoid_loss(*arguments, labels)
    assert abs(loss.item() - textbook(*arguments, labels)) < 1e-10
    assert abs(loss - sigmoid_loss(*arguments)) > 1e-3
    assert abs(sigmoid_loss(*arguments, torch.arange(7)) - sigmoid_loss(*arguments)) < 1e-10
    assert torch.autograd.gradcheck(lambda *tensors: sigmoid_loss(*tensors, labels), arguments)


@pytest.mark.parametrize("n", [2, 16, 256])
def test_a_model_that_knows_nothing_pays_the_best_constant(n):
    """No constant score is cheaper than sigmoid(b) = 1/B."""
    zeros = torch.zeros(n, 4, dtype=torch.float64)
    best = scalar(math.log(1 / (n - 1)) if n > 1 else 0.0).requires_grad_()  # sigmoid(best) = 1/B
    loss = sigmoid_loss(zeros, zeros, scalar(0.0), best)
    loss.backward()
    assert abs(loss.item() - uninformed_sigmoid_loss(n)) < 1e-10 and abs(best.grad) < 1e-10
    for shift in (-0.1, 0.1):
        assert sigmoid_loss(zeros, zeros, scalar(0.0), best + shift) > loss


def test_alone_there_is_nothing_to_know():
    """Without negatives the constant "yes" costs nothing."""
    assert uninformed_sigmoid_loss(1) == 0
    assert sigmoid_loss(*(torch.zeros(1, 2),) * 2, scalar(0.0), scalar(30.0)) < 1e-10


def test_far_scores_are_no_problem_in_float32():
    eye = torch.eye(4)
    worst = sigmoid_loss(eye, eye.roll(1, 0), torch.tensor(math.log(1e4)), torch.tensor(0.0))  # exp(1e4) overflows
    assert worst.isfinite() and abs(worst - 1e4) < 10
