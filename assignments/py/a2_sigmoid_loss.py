# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A2 · The sigmoid loss and its bias
#
# **Paper.** SigLIP ([Zhai et al., 2023](https://arxiv.org/abs/2303.15343)): section 3.2 and Algorithm 1 (the loss), Table 4 (the
# bias and the temperature at the start), section 3.3 (the loss in blocks).
#
# **What you will learn.** How to write a loss that judges each pair alone, without overflow; why it needs a bias, and
# which one; what the two kinds of pairs do to the bias; why this loss can be computed in blocks.
#
# **What you need first.** [04 · The sigmoid loss](../../../notebooks/04_sigmoid_loss.ipynb). The last exercise goes with
# [05 · The chunked loss](../../../notebooks/05_chunked_loss.ipynb). From school: logarithms and derivatives.
#
# **Time.** About 105 minutes: 90 for the exercises, 15 for reading.
#
# **Points.** 19, in six exercises. Under each of your functions stand a few checks whose numbers you can see. The grader runs
# *hidden tests* as well: your function is also called with other numbers and other sizes. The cells with tests are restored
# before grading, so changing them changes nothing.
#
# **How to hand in.** Write your code where it says `YOUR CODE HERE`, and delete the line that raises the error. Keep the name of the
# file. Before you hand in, restart the kernel and run all cells from the top.

# %% nbgrader={"grade": false, "grade_id": "imports", "locked": true, "schema_version": 3, "solution": false, "task": false}
import math
import time
from unittest.mock import patch

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Tensor

plt.rcParams.update({"figure.figsize": (3.5, 2.5), "figure.dpi": 150, "font.size": 8})
torch.set_num_threads(1)  # matrices this small are not worth sharing


# %% nbgrader={"grade": false, "grade_id": "helpers", "locked": true, "schema_version": 3, "solution": false, "task": false}
def random_vectors(rows: int, width: int, seed: int) -> Tensor:
    """Random vectors of any length, in double precision: [rows, width]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, width, generator=generator, dtype=torch.float64)


def number(value: float) -> Tensor:
    """A scalar in double precision."""
    return torch.tensor(value, dtype=torch.float64)


# %% [markdown]
# ## Exercise 1 · The right answers (2 points, 5 minutes)
#
# A batch has $B$ pictures and their $B$ captions. Caption $i$ belongs to picture $i$. The table of scores has a row for each
# picture and a column for each caption. SigLIP asks of each of its $B^2$ cells: *does this caption belong to this picture?* The
# right answer is written as a sign (`labels` in Algorithm 1):
#
# $$z_{ij} = +1 \text{ if caption } j \text{ belongs to picture } i, \quad z_{ij} = -1 \text{ if not.}$$
#
# Write the table of the signs.

# %% nbgrader={"grade": false, "grade_id": "signs", "locked": false, "schema_version": 3, "solution": true, "task": false}
def signs(batch_size: int) -> Tensor:
    """The right answer for each pair of a batch.

    batch_size: B, at least 1. Returns a table of floats `[B, B]`, row i for picture i, column j for
    caption j: +1 for yes, -1 for no.
    """
    ### BEGIN SOLUTION
    return 2 * torch.eye(batch_size) - 1  # [B, B]
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "signs_check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
got = signs(3)
assert got.shape == (3, 3), f"expected a table of shape (3, 3), got {tuple(got.shape)}"
assert got[1, 1] == 1, f"expected +1 in row 1, column 1, got {got[1, 1]}: caption 1 belongs to picture 1"
assert got[0, 2] == -1, f"expected -1 in row 0, column 2, got {got[0, 2]}: a no is -1, and not 0"
print(got)
### BEGIN HIDDEN TESTS
for B in (1, 2, 3, 6, 17):
    got = signs(B)
    assert got.shape == (B, B)
    for i in range(B):
        for j in range(B):
            assert float(got[i, j]) == (1 if i == j else -1), f"B = {B}: row {i}, column {j}"
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
#
# `torch.eye(B)` has 1 on the diagonal and 0 elsewhere. What must you do to a 1 so that it stays 1, and to a 0 so that it becomes -1?
#
# </details>

# %% [markdown]
# ## Exercise 2 · The cost of one answer (3 points, 15 minutes)
#
# The sigmoid $\sigma(s) = 1 / (1 + e^{-s})$ turns a score into the probability of a yes. Since $1 - \sigma(s) = \sigma(-s)$, the
# probability that the model gives to the right answer is $\sigma(z\,s)$ for a yes and for a no alike. The cost of the
# answer is $-\log \sigma(z\,s)$.
#
# There is a trap for computers. In single precision, $\sigma(-200)$ is rounded to 0, and the logarithm of 0 is minus infinity. But
# $\log \sigma(-200)$ is an ordinary number: $-200$, to all digits that we have. The scale may grow to 100, so that scores of -100 do
# occur. This is what happens:

# %%
x = torch.tensor([-200.0, -100.0, -50.0, 0.0], requires_grad=True)
naive = torch.log(torch.sigmoid(x))
print("log(sigmoid(x))", naive.tolist())
print("its gradient   ", torch.autograd.grad(naive.sum(), x)[0].tolist())


# %% [markdown]
# Write a function that gives the right value for all scores, from simple functions such as `torch.exp`, `torch.log1p` (the logarithm of
# $1 + x$), `torch.abs` and `torch.minimum`. Do not call `F.logsigmoid`, which does it for you: from exercise 3 on you may, and then you know what it
# does. (One point each: the check, other values, the gradient. The gradient must be right for large scores, too.)

# %% nbgrader={"grade": false, "grade_id": "log_sigmoid", "locked": false, "schema_version": 3, "solution": true, "task": false}
def log_sigmoid(x: Tensor) -> Tensor:
    """The logarithm of sigmoid(x), without overflow, and with a finite gradient.

    x: scores `[...]`, any shape, each from -1000 to 1000. Returns a tensor `[...]`, all values at most 0.
    """
    ### BEGIN SOLUTION
    # The exponent is never positive, so it cannot overflow. minimum (and not clamp) gives the right gradient at 0.
    return torch.minimum(x, torch.zeros_like(x)) - torch.log1p(torch.exp(-x.abs()))
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "log_sigmoid_check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
with patch.object(F, "logsigmoid", side_effect=AssertionError("please write it without F.logsigmoid")):
    got = log_sigmoid(torch.tensor([-200.0, -2.0, 0.0, 2.0]))
for value, x, expected in zip(got.tolist(), (-200, -2, 0, 2), (-200.0, -2.1269, -0.6931, -0.1269)):
    assert abs(value - expected) < 1e-4, f"expected {expected} for a score of {x}, got {value:.4f}"
    print(f"log sigmoid({x:4d}) = {value:9.4f}")

# %% nbgrader={"grade": true, "grade_id": "log_sigmoid_hidden", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# The values: many scores, in single and in double precision.
### BEGIN HIDDEN TESTS
for scale, seed in ((1, 0), (10, 1), (300, 2)):
    x = (scale * random_vectors(40, 5, seed)).clamp(-1000, 1000)
    expected = [[min(s, 0) - math.log1p(math.exp(-abs(s))) for s in row] for row in x.tolist()]
    assert log_sigmoid(x).shape == x.shape
    torch.testing.assert_close(log_sigmoid(x), torch.tensor(expected, dtype=torch.float64), atol=1e-10, rtol=0)
    torch.testing.assert_close(log_sigmoid(x.float()).double(), torch.tensor(expected).double(), atol=1e-4, rtol=1e-4)
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "log_sigmoid_gradient", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# The gradient, for small and for large scores of both signs.
### BEGIN HIDDEN TESTS
for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-10)):
    x = torch.tensor([-1000, -200, -30, -3, -0.5, 0.5, 3, 30, 200, 1000], dtype=dtype, requires_grad=True)
    slope = torch.autograd.grad(log_sigmoid(x).sum(), x)[0]
    expected = (1 - torch.tanh(x.detach() / 2)) / 2  # sigmoid(-x)
    torch.testing.assert_close(slope, expected, atol=tolerance, rtol=0)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
#
# For a positive score, $\log \sigma(x) = -\log(1 + e^{-x})$ cannot overflow. For a negative one, take $e^{x}$ out of the fraction: $\sigma(x) =
# e^{x} / (1 + e^{x})$, so $\log \sigma(x) = x - \log(1 + e^{x})$. In both cases the exponent is $-|x|$. Can you write both in
# one line? With `torch.where` you compute both sides everywhere, and the side that you do not take
# spoils the gradient: $0 \cdot \infty$ is not a number.
#
# </details>

# %% [markdown]
# The figure draws your function in single precision. You should see one line where both agree, and that the naive curve ends near
# a score of -88: further left it is minus infinity.

# %%
x = torch.linspace(-120, 20, 561)
plt.plot(x, torch.log(torch.sigmoid(x)), color="C0", lw=4, alpha=0.5, label="log(sigmoid(x))")
plt.plot(x, log_sigmoid(x), color="C1", ls="--", lw=1, label="log_sigmoid(x)")
plt.gca().set(xlabel="score x (no unit)", ylabel="log-probability (nats)")
plt.legend(frameon=False)
plt.show()


# %% [markdown]
# ## Exercise 3 · Algorithm 1 (4 points, 20 minutes)
#
# The score of picture $i$ and caption $j$ is their cosine, times a scale $t = e^{t'}$, plus a **bias** $b$. The loss is
#
# $$L = -\frac{1}{B} \sum_{i=1}^{B} \sum_{j=1}^{B} \log \sigma\big(z_{ij}\,(t \cos_{ij} + b)\big).$$
#
# Three things are easily overlooked. The sum runs over $B^2$ cells and is divided by $B$. The bias is *added*, as in Algorithm 1; the
# equation displayed in section 3.2, read literally, subtracts it. And what is learned and handed to you is $t'$, the *logarithm* of
# the scale. The vectors come straight from the towers, of any length, and Algorithm 1 begins by normalising them.
#
# You need no function of yours here. `F.logsigmoid` is allowed. The check has three pairs, each along an axis of its own. So a right pair has
# cosine 1 and a wrong one has cosine 0. With a scale of 5 and $b = -2$, each picture has one score of 3 and two of -2.

# %% nbgrader={"grade": false, "grade_id": "sigmoid_loss", "locked": false, "schema_version": 3, "solution": true, "task": false}
def sigmoid_loss(image_features: Tensor, text_features: Tensor, logit_scale: Tensor, logit_bias: Tensor) -> Tensor:
    """SigLIP's loss (Algorithm 1).

    image_features, text_features: `[B, D]`, not yet normalised; row i of both is pair i.
    logit_scale: scalar t', the logarithm of the scale. logit_bias: scalar b. Returns a scalar, in nats.
    """
    ### BEGIN SOLUTION
    cosines = F.normalize(image_features, dim=1) @ F.normalize(text_features, dim=1).T  # [B, B]
    logits = logit_scale.exp() * cosines + logit_bias
    labels = 2 * torch.eye(len(logits), dtype=logits.dtype) - 1  # +1 on the diagonal, -1 elsewhere
    return -F.logsigmoid(labels * logits).sum() / len(logits)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "sigmoid_loss_check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
images, texts = torch.diag(torch.tensor([2.0, 3.0, 1.0])), torch.diag(torch.tensor([1.0, 0.5, 4.0]))
got = sigmoid_loss(images, texts, torch.tensor(math.log(5)), torch.tensor(-2.0))
assert got.shape == (), f"expected one number, got the shape {tuple(got.shape)}"
known = {0.1008: "is the sum divided by B?", 0.9073: "is the sum divided by B?", 4.2548: "is the bias added?"}
known |= {1.1612: "is the scale exp(t')?", 0.2553: "are the vectors normalised?", 5.0068: "is only the cosine scaled?"}
known |= {1.4349: "is the label of a wrong pair -1?", 7.3024: "is the label of a right pair +1?"}
why = [question for value, question in known.items() if abs(got.item() - value) < 1e-3] or ["see the hint"]
assert abs(got.item() - 0.3024) < 1e-4, f"expected 0.3024, got {got.item():.4f}: {why[0]}"
print(f"loss {got.item():.4f} nats")

# %% nbgrader={"grade": true, "grade_id": "sigmoid_loss_hidden", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# Other vectors, batches of other sizes, other scales and biases; values and gradients.
### BEGIN HIDDEN TESTS
def pair_by_pair(images, texts, log_scale, bias):
    total = 0.0
    for i, image in enumerate(images.tolist()):
        for j, text in enumerate(texts.tolist()):
            dot = sum(a * b for a, b in zip(image, text))
            score = math.exp(log_scale) * dot / (math.hypot(*image) * math.hypot(*text)) + bias
            total += math.log1p(math.exp(-score if i == j else score))
    return total / len(images)


cases = [(1, 3, 0.5, 1.0), (2, 8, 2.3, -10.0), (5, 4, 1.5, -1.4), (9, 2, 0.0, 3.0), (12, 7, 3.0, -5.0)]
for B, width, log_scale, bias in cases:
    inputs = [random_vectors(B, width, B), 3 * random_vectors(B, width, 50 + B), number(log_scale), number(bias)]
    inputs = [x.requires_grad_() for x in inputs]
    loss = sigmoid_loss(*inputs)
    assert abs(loss.item() - pair_by_pair(*inputs[:2], log_scale, bias)) < 1e-10
    x, y = (z / z.norm(dim=1, keepdim=True) for z in inputs[:2])
    logits = inputs[2].exp() * x @ y.T + inputs[3]
    other = F.binary_cross_entropy_with_logits(logits, torch.eye(B).double(), reduction="sum") / B
    slopes = torch.autograd.grad(loss, inputs), torch.autograd.grad(other, inputs)
    torch.testing.assert_close(*slopes, atol=1e-10, rtol=0)
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "sigmoid_loss_extreme", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# Very large scores: the loss is large, but finite, and so is its gradient.
### BEGIN HIDDEN TESTS
for bias in (-1000.0, 1000.0):
    images, texts, b = random_vectors(4, 3, 0), random_vectors(4, 3, 1), number(bias).requires_grad_()
    loss = sigmoid_loss(images, texts, number(math.log(100)), b)
    scores = 100 * F.cosine_similarity(images[:, None], texts[None], dim=2) + bias
    right = scores.diagonal()
    expected = -right.sum() / 4 if bias < 0 else (scores.sum() - right.sum()) / 4
    torch.testing.assert_close(loss.detach(), expected, atol=1e-8, rtol=0)
    torch.testing.assert_close(torch.autograd.grad(loss, b)[0], number(-1.0 if bias < 0 else 3.0), atol=1e-8, rtol=0)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
#
# Five lines, in the order of Algorithm 1: normalise each *row* of both (`F.normalize(x, dim=1)`); multiply, so that you get a table `[B, B]`; scale
# it with `logit_scale.exp()` and add the bias; make the signs; take `F.logsigmoid` of signs times scores, add everything up
# and divide by B. If your number is three times too small, look at the last step.
#
# </details>

# %% [markdown]
# ## Exercise 4 · Which bias? (4 points, 20 minutes)
#
# Take a model that knows nothing: every cosine is 0, so every score is $b$. Each picture has one right caption and $B - 1$ wrong ones. **4a** (2 points):
# what is the loss for a given $b$? **4b** (2 points): for which $b$ is it lowest? Think before you compute: somebody picks a cell of the table at
# random. How likely is it that it holds a right pair? The sigmoid of the best bias says just this. Or set the derivative of 4a
# to zero. SigLIP starts with $b = -10$ for batches of 8,192 pairs (Table 4), because the many wrong pairs would otherwise rule the first steps.

# %% nbgrader={"grade": false, "grade_id": "constant_loss", "locked": false, "schema_version": 3, "solution": true, "task": false}
def constant_loss(batch_size: int, logit_bias: float) -> float:
    """The sigmoid loss of a model that gives the score b to every pair.

    batch_size: B, at least 1. logit_bias: b, from -12 to 12, the score in each cell of the table `[B, B]`.
    Returns the loss in nats: the sum over all cells, divided by B.
    """
    ### BEGIN SOLUTION
    right, wrong = math.log1p(math.exp(-logit_bias)), math.log1p(math.exp(logit_bias))
    return right + (batch_size - 1) * wrong
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "constant_loss_check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
got = float(constant_loss(4, 0.0))
assert abs(got - 2.7726) < 1e-4, f"expected 2.7726 (four times ln 2), got {got:.4f}: one right pair, three wrong ones"
got = float(constant_loss(4, -10.0))
assert abs(got - 10.0002) < 1e-4, f"expected 10.0002, got {got:.4f}: now the right pair is the expensive one"
print("loss of a constant score, B = 4:", [round(float(constant_loss(4, b)), 4) for b in (-10.0, -1.0, 0.0, 10.0)])
### BEGIN HIDDEN TESTS
for B in (1, 2, 7, 30):
    for b in (-10.0, -5.54, -2.0, 0.5, 9.0):
        table = torch.full((B, B), b, dtype=torch.float64)
        expected = F.binary_cross_entropy_with_logits(table, torch.eye(B).double(), reduction="sum").item() / B
        assert abs(float(constant_loss(B, b)) - expected) < 1e-8 * max(1, expected), f"B = {B}, b = {b}"
### END HIDDEN TESTS

# %% nbgrader={"grade": false, "grade_id": "best_bias", "locked": false, "schema_version": 3, "solution": true, "task": false}
def best_bias(batch_size: int) -> float:
    """The bias with the lowest loss, for a model that gives the same score to every pair.

    batch_size: B, at least 2. Returns b, exactly (not searched on a grid).
    """
    ### BEGIN SOLUTION
    return -math.log(batch_size - 1)  # sigmoid(b) = 1/B, the share of right pairs
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "best_bias_check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
got = float(best_bias(16))
assert abs(got + 2.7081) < 1e-4, f"expected -2.7081 for a batch of 16, got {got:.4f}: is sigmoid(b) = 1/16?"
print("best bias:", {B: round(float(best_bias(B)), 2) for B in (16, 256, 8192, 32768)})
### BEGIN HIDDEN TESTS
for B in (2, 3, 10, 256, 8192, 1_000_000):
    got = float(best_bias(B))
    assert math.isclose(1 + math.exp(-got), B, rel_tol=1e-9), f"B = {B}: {got}"  # sigmoid(b) = 1/B
    low, *beside = (math.log1p(math.exp(-b)) + (B - 1) * math.log1p(math.exp(b)) for b in (got, got - 0.01, got + 0.01))
    assert low < min(beside)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
#
# 4a: a right pair costs $-\log \sigma(b)$, a wrong one $-\log \sigma(-b)$. Count both for one picture. 4b: one cell in $B$ holds a right pair, so
# $\sigma(b) = 1/B$, and then $1 + e^{-b} = B$. Solve it for $b$. (Divide right by *wrong*, not right by *all*: $-\log B$ is close, but not it.)
#
# </details>

# %% [markdown]
# Now put both together. The lowest loss that a model without any knowledge can reach is a number to compare training curves with: a
# run that stays there has learned how many pairs are right, and nothing about which. In the table below, the last two columns should be
# nearly equal.

# %%
for B in (16, 256, 8192):
    lowest = constant_loss(B, best_bias(B))
    print(f"B = {B:5d}: best bias {best_bias(B):6.2f}, loss {lowest:7.3f} nats, ln B + 1 = {math.log(B) + 1:7.3f}")

# %% [markdown]
# In the figure each curve has one lowest point, where your function places the dot. To the left of it the loss grows slowly, by at most one nat for each
# unit of $b$. To the right it explodes, more so the larger the batch is. Too low a bias is a small mistake, too high a bias is
# a big one. The dotted line is SigLIP's $b = -10$: it is almost the best one for a batch of 8,192 (Table 4), and on the careful side for a smaller one.

# %%
biases = [-14 + i / 10 for i in range(181)]
for B, color, style in ((16, "C0", "-"), (256, "C1", "--"), (8192, "C2", "-.")):
    plt.semilogy(biases, [constant_loss(B, b) for b in biases], color=color, ls=style, lw=1, label=f"B = {B:,}")
    plt.plot(best_bias(B), constant_loss(B, best_bias(B)), "o", color=color, ms=5)
plt.axvline(-10, color="gray", ls=":", lw=1)
plt.gca().set(xlabel="bias b (no unit)", ylabel="loss (nats)", ylim=(1, 1e5), xticks=range(-12, 5, 4))
plt.legend(frameon=False)
plt.show()


# %% [markdown]
# ## Exercise 5 · Pull and push (3 points, 15 minutes)
#
# Why does the loss explode only on one side? Look at the derivative with respect to the bias, by hand. The bias is added to all scores, so
# each cell of the table adds one term. Right pairs want a higher bias: they **pull** it up. Wrong pairs want a lower one: they **push** it
# down. Both together are the gradient:
#
# $$\frac{\partial L}{\partial b} = \text{push} - \text{pull}.$$
#
# First find the derivative of $-\log \sigma(s)$ and of $-\log \sigma(-s)$ on paper. Then write both sums, from the table of the scores $s_{ij} = t \cos_{ij} + b$.

# %% nbgrader={"grade": false, "grade_id": "pull_and_push", "locked": false, "schema_version": 3, "solution": true, "task": false}
def pull_and_push(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The two parts of the derivative of the sigmoid loss with respect to its bias.

    logits: scores `[B, B]`, the bias included, right pairs on the diagonal. Returns two scalars, neither of them
    negative: pull (of all right pairs) and push (of all wrong pairs), so that d loss / d b = push - pull.
    """
    ### BEGIN SOLUTION
    batch_size = len(logits)
    pull = torch.sigmoid(-logits.diagonal()).sum() / batch_size  # what is missing to a certain yes
    belief = torch.sigmoid(logits)  # [B, B]
    push = (belief.sum() - belief.diagonal().sum()) / batch_size  # what is believed and wrong
    return pull, push
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "pull_and_push_check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
pull, push = pull_and_push(torch.zeros(4, 4))
assert abs(float(pull) - 0.5) < 1e-4, f"expected a pull of 0.5, got {float(pull):.4f}: one right pair for each picture"
assert abs(float(push) - 1.5) < 1e-4, f"expected a push of 1.5, got {float(push):.4f}: three wrong pairs for each"
pull, push = pull_and_push(torch.full((4, 4), -2.0))
assert abs(float(pull) - 0.8808) < 1e-4, f"expected a pull of 0.8808 at scores of -2, got {float(pull):.4f}"
assert abs(float(push) - 0.3576) < 1e-4, f"expected a push of 0.3576 at scores of -2, got {float(push):.4f}"
print(f"pull {float(pull):.4f}, push {float(push):.4f}")

# %% nbgrader={"grade": true, "grade_id": "pull_and_push_hidden", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# Other tables, compared with the derivative that PyTorch finds.
### BEGIN HIDDEN TESTS
for B, scale, seed in ((1, 2, 0), (2, 1, 1), (5, 4, 2), (13, 2, 3)):
    table = scale * random_vectors(B, B, seed) - 1
    right, wrong = number(0.0).requires_grad_(), number(0.0).requires_grad_()  # a bias for each kind of pair
    yes = torch.eye(B).double()
    scores = table + right * yes + wrong * (1 - yes)
    loss = F.binary_cross_entropy_with_logits(scores, yes, reduction="sum") / B
    slopes = torch.autograd.grad(loss, (right, wrong))
    pull, push = pull_and_push(table.clone())
    assert abs(float(pull) + slopes[0].item()) < 1e-10 and abs(float(push) - slopes[1].item()) < 1e-10, f"B = {B}"
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
#
# The derivative of $-\log \sigma(s) = \log(1 + e^{-s})$ is $-\sigma(-s)$: the closer a right pair is to a certain yes, the less it pulls. The
# derivative of $-\log \sigma(-s)$ is $\sigma(s)$: a wrong pair pushes as strongly as the model believes in it. Mind
# the $1/B$ of the loss, and that right pairs do not push.
#
# </details>

# %% [markdown]
# The figure shows both for a batch of 64 pairs of random vectors. You should see that pull is never larger than 1, while push goes up to
# 63, the number of wrong pairs. They meet near the best bias of exercise 4 (dotted; a little to the left of it, since
# the scores scatter). Without a bias, at 0, push is about 60 times as strong as pull.

# %%
B, biases = 64, torch.linspace(-14, 4, 37).double()
scores = 10 * F.normalize(random_vectors(B, 64, 0), dim=1) @ F.normalize(random_vectors(B, 64, 1), dim=1).T
forces = torch.tensor([[float(part) for part in pull_and_push(scores + b)] for b in biases])  # [37, 2]
plt.semilogy(biases, forces[:, 0], color="C0", lw=1, label="pull: 1 right pair per picture")
plt.semilogy(biases, forces[:, 1], color="C1", ls="--", lw=1, label="push: 63 wrong pairs")
plt.axvline(best_bias(B), color="gray", ls=":", lw=1)
plt.gca().set(xlabel="bias b (no unit)", ylabel="force on b (no unit)", ylim=(1e-3, 1e4), xticks=range(-12, 5, 4))
plt.legend(framealpha=1, edgecolor="white", loc="upper left")
plt.show()


# %% [markdown]
# ## Exercise 6 · The loss, block by block (3 points, 15 minutes)
#
# The softmax must know a whole row before it can say anything. The sigmoid loss is a plain sum over cells, and a sum may be taken in parts. In section
# 3.3 of the paper, each device meets the captions in **blocks**. Compute the part of the loss that one block of captions adds: all $B$ pictures, but only
# the $N$ captions from number `first` on. The parts of all blocks must add up to the loss of the batch.
#
# Two questions to answer before you write: Where in a block are the right pairs, if there are any? And what must each part be divided by?

# %% nbgrader={"grade": false, "grade_id": "block_loss", "locked": false, "schema_version": 3, "solution": true, "task": false}
def block_loss(
    image_features: Tensor, text_features: Tensor, first: int, logit_scale: Tensor, logit_bias: Tensor
) -> Tensor:
    """The part of the sigmoid loss that comes from one block of captions.

    image_features: `[B, D]`, all pictures of the batch. text_features: `[N, D]`, captions first, first + 1, ...,
    first + N - 1 of the batch. All vectors are L2-normalised already. logit_scale: scalar t', the
    logarithm of the scale. logit_bias: scalar b. Returns a scalar; over all blocks they add up to the loss.
    """
    ### BEGIN SOLUTION
    batch_size, block = len(image_features), len(text_features)
    logits = logit_scale.exp() * image_features @ text_features.T + logit_bias  # [B, N]
    right = torch.arange(batch_size)[:, None] == first + torch.arange(block)  # [B, N]
    return -F.logsigmoid(torch.where(right, logits, -logits)).sum() / batch_size
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "block_loss_check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
axes, scalars = torch.eye(3), (torch.tensor(math.log(5)), torch.tensor(-2.0))  # the three pairs of exercise 3
one, two = float(block_loss(axes, axes[:2], 0, *scalars)), float(block_loss(axes, axes[2:], 2, *scalars))
assert abs(one - 0.2016) < 1e-4, f"expected 0.2016 for captions 0 and 1, got {one:.4f}: divided by the whole batch?"
assert abs(two - 0.1008) < 1e-4, f"expected 0.1008 for caption 2, got {two:.4f}: is its right pair in row 2?"
print(f"{one:.4f} + {two:.4f} = {one + two:.4f}")

# %% nbgrader={"grade": true, "grade_id": "block_loss_hidden", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# Other batches, blocks of other sizes; values and gradients.
### BEGIN HIDDEN TESTS
cases = [((3, 3), 2.3, -10.0), ((1,) * 5, 1.0, -1.4), ((4, 2, 1), 0.3, 2.0), ((8,), 2.0, -2.0), ((1, 6, 4), 3.0, -4.0)]
for sizes, log_scale, bias in cases:
    B = sum(sizes)
    images, texts = (F.normalize(random_vectors(B, 5, seed), dim=1).requires_grad_() for seed in (B, B + 50))
    t, b = number(log_scale).requires_grad_(), number(bias).requires_grad_()
    cells = F.binary_cross_entropy_with_logits(t.exp() * images @ texts.T + b, torch.eye(B).double(), reduction="none")
    parts, first = [], 0
    for N in sizes:
        parts.append(block_loss(images, texts[first : first + N], first, t, b))
        assert abs(parts[-1].item() - cells[:, first : first + N].sum().item() / B) < 1e-10, f"{sizes}, {first}"
        first += N
    slopes = [torch.autograd.grad(loss, (images, texts, t, b)) for loss in (sum(parts), cells.sum() / B)]
    torch.testing.assert_close(*slopes, atol=1e-10, rtol=0)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
#
# Column $j$ of the block is caption `first` + $j$, and its picture is the one with the same number. Compare the numbers of the pictures,
# `torch.arange(B)[:, None]`, with the numbers of the captions. A block may have no right pair in most of its rows. Every part is divided by the
# same number, $B$, and not by the size of its block.
#
# </details>

# %% [markdown]
# ## Table 4, in small
#
# No points here: your `sigmoid_loss` trains something. The two "towers" are one matrix each, and the "pictures" and "captions" are two noisy views of
# the same 16 hidden numbers. Four runs from the same weights differ in nothing but the bias at the start.

# %%
views = torch.randn(2, 16, 32, generator=torch.Generator().manual_seed(0)) / 4


def batch(generator: torch.Generator, size: int = 128) -> list[Tensor]:
    hidden = torch.randn(size, 16, generator=generator)
    return [hidden @ view + 0.3 * torch.randn(size, 32, generator=generator) for view in views]  # two times [128, 32]


# %%
def train(bias: float, steps: int = 60) -> tuple[list[float], float]:
    generator, losses = torch.Generator().manual_seed(1), []
    towers = [(torch.randn(32, 32, generator=generator) / 6).requires_grad_() for _ in range(2)]
    t, b = (torch.tensor(value, requires_grad=True) for value in (math.log(10), bias))
    optimizer = torch.optim.Adam([*towers, t, b], lr=0.01)
    for _ in range(steps):
        loss = sigmoid_loss(*(x @ tower for x, tower in zip(batch(generator), towers)), t, b)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    image, text = (F.normalize(x @ tower, dim=1) for x, tower in zip(batch(generator), towers))
    return losses, (image @ text.T).argmax(1).eq(torch.arange(128)).float().mean().item()


# %% [markdown]
# Before the runs, a look at the clock. A matrix product computes the 128 × 128 cells in about a millisecond; two loops are right as well, but
# would take a minute or more here.

# %%
start = time.perf_counter()
sigmoid_loss(*batch(torch.Generator().manual_seed(0)), torch.tensor(math.log(10)), torch.tensor(-10.0))
seconds = time.perf_counter() - start
print(f"one loss takes {seconds:.4f} s" + (": too slow, the runs are left out" if seconds > 0.1 else ""))

# %%
runs = {"-10": -10.0, "-ln(B - 1)": best_bias(128), "0": 0.0, "+10": 10.0} if seconds < 0.1 else {}
for (name, bias), style, color in zip(runs.items(), ("-", "--", "-.", ":"), ("C0", "C1", "C2", "C3")):
    losses, found = train(bias)
    print(f"b = {name:10s} first loss {losses[0]:7.1f}, last {losses[-1]:7.1f} nats, new pairs found: {found:.0%}")
    plt.semilogy(losses, color=color, ls=style, lw=1, label=f"b = {name}")
plt.axhline(constant_loss(128, best_bias(128)), color="gray", lw=0.5)
plt.gca().set(xlabel="step", ylabel="loss (nats)", ylim=(0.3, 1e5))
plt.legend(frameon=False, ncols=2, loc="upper right") if runs else None
plt.show()

# %% [markdown]
# The gray line is what the best constant costs. From $b = -10$ and from $-\ln(B - 1)$ the loss should fall below it within a few steps, and nearly all pairs of a new
# batch are found. From 0 the run is still busy with the 127 wrong pairs per picture. The last one is the trap of the sign: who
# takes $b = -10$ and subtracts it starts at +10, with a loss of more than a thousand. Nothing crashes.
#
# This is one seed, sixty steps and two matrices. That -10 ends lowest is no law: $-\ln(B - 1)$ is the best constant for a model that knows
# nothing, which need not be the best start for every training. And short runs exaggerate a bad start: in the paper's Table 4, after 900 million pairs, the
# accuracy on ImageNet is 63.0 % with $b = -10$ and 61.7 % with $b = 0$ (both with $t' = \log 10$).
#
# ## What you have now
#
# A loss that is exact and does not overflow, the bias that it should start from, and the fact that it can be computed in parts.
# [07 · Bias and temperature](../../../notebooks/07_bias_and_temperature.ipynb) asks whether the bias is needed at all, and
# [05 · The chunked loss](../../../notebooks/05_chunked_loss.ipynb) spreads the blocks over several devices.
#
# Further questions (no points):
#
# - Suppose that each picture has $k$ right captions in the batch. What is the best constant bias now?
# - Give each wrong pair the weight $1 / (B - 1)$. What is the best constant bias of this loss, and what does a probability of one half mean then?
