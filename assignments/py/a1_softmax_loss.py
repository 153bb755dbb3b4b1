# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A1 · The softmax loss and its temperature
#
# **Paper.** CLIP ([Radford et al., 2021](https://arxiv.org/abs/2103.00020)): section 2.3 and Figure 3 (the loss),
# section 2.5 (how the temperature starts and where it stops).
#
# **What you will learn.** To write CLIP's loss from its parts; to keep it finite when the scores are large; to know
# without a computer what the loss of an ignorant and of a perfect model is; to derive its gradient; and to see what
# the temperature does when it is trained.
#
# **What you need first.** [02 · Two towers](../../../notebooks/02_two_towers.ipynb) for the table of cosines,
# [03 · The softmax loss](../../../notebooks/03_softmax_loss.ipynb) for the idea of the loss. From school: logarithms
# and the derivative of eˣ. From PyTorch: tensors, broadcasting, `requires_grad`.
#
# **Time.** About 100 minutes: 85 for the six exercises, the rest for reading.
#
# **Points.** 18, three for each exercise.
#
# **How it is graded.** Beneath each of your functions stands a check with numbers that you can see, for one point. The
# other two points come from hidden tests: your function is also called with other numbers, of other sizes. Test cells
# are restored before grading, so editing them changes nothing. An exercise never needs the function of another
# exercise.
#
# **How to hand in.** Replace each `raise NotImplementedError()` by your code. Keep the file's name. Restart the kernel
# and run all cells before you hand in.

# %% nbgrader={"grade": false, "grade_id": "imports", "locked": true, "schema_version": 3, "solution": false, "task": false}
import math

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F

plt.rcParams.update({"figure.figsize": (3.5, 2.5), "figure.dpi": 150, "font.size": 8})


def double(values: list | float) -> torch.Tensor:
    """A tensor in double precision (float64): the tests use it, so that a small error is an error of the formula."""
    return torch.tensor(values, dtype=torch.float64)

# %% [markdown]
# Letters in this notebook: `B` pairs in a batch, `D` numbers in a vector. Pair `i` is row `i` of the pictures' vectors
# and row `i` of the captions' vectors.
#
# Three numbers describe one and the same thing, and they are often mixed up:
#
# | name | symbol | at CLIP's start | what is done with it |
# |---|---|---|---|
# | temperature | $\tau$ | 0.07 | cosines are **divided** by it |
# | scale | $1/\tau$ | 14.29 | cosines are **multiplied** by it |
# | `logit_scale` | $t = \ln(1/\tau)$ | 2.66 | **this one is stored and trained**; the scale is $e^t$ |

# %% [markdown]
# ## Exercise 1 · The table of scores (3 points, 10 minutes)
#
# The towers return vectors of any length. Only their direction should count, so each vector is divided by its length
# (its L2 norm, the root of the sum of squares). The dot product of two such vectors is the cosine of the angle between
# them. Then the cosine is multiplied by the scale. The score of picture $i$ and caption $j$ (CLIP, Figure 3) is
#
# $$s_{ij} = e^{t}\;\frac{x_i \cdot y_j}{\lVert x_i\rVert\,\lVert y_j\rVert}.$$

# %% nbgrader={"grade": false, "grade_id": "score_table", "locked": false, "schema_version": 3, "solution": true, "task": false}
def score_table(image_features: torch.Tensor, text_features: torch.Tensor, logit_scale: torch.Tensor) -> torch.Tensor:
    """Return the scaled cosines of all pictures and all captions.

    image_features, text_features: `[B, D]`, *not* normalised, no row is zero. logit_scale: scalar tensor, the logarithm
    of the scale. Returns `[B, B]`, of the same dtype: row i is a picture, column j a caption. Gradients must reach all
    three arguments, and the arguments stay as they are (nothing in place).
    """
    ### BEGIN SOLUTION
    image_features = image_features / image_features.norm(dim=1, keepdim=True)
    text_features = text_features / text_features.norm(dim=1, keepdim=True)
    return logit_scale.exp() * image_features @ text_features.T  # [B, B]
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "score_table_check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
pictures, captions = double([[3.0, 4.0], [0.0, 2.0]]), double([[1.0, 0.0], [0.0, 5.0]])
got = score_table(pictures, captions, double(0.0))
assert got.shape == (2, 2), f"expected a table of 2 x 2, got {tuple(got.shape)}"
assert got.dtype == torch.float64, f"expected the dtype of the features, got {got.dtype}: zeros(..., dtype=...) helps"
expected = double([[0.6, 0.8], [0.0, 1.0]])
assert torch.allclose(got, expected), f"scale 1: expected 0.6 0.8 / 0 1, got {got.tolist()}: has each row length 1?"
got = score_table(pictures, captions, double(math.log(10)))
assert torch.allclose(got, 10 * expected), f"scale 10: expected 6 8 / 0 10, got {got.tolist()}: t is a logarithm"
print("score_table: the visible numbers are right")

# %% nbgrader={"grade": true, "grade_id": "score_table_hidden", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# Hidden tests: other sizes, other scales (also below 1), and the gradients of all three arguments.
### BEGIN HIDDEN TESTS
def textbook_scores(x, y, t):
    return F.cosine_similarity(x[:, None], y[None], dim=2) * torch.exp(t)


for B, D, log_scale, seed in ((1, 3, 0.5, 0), (4, 7, math.log(1 / 0.07), 1), (9, 2, -1.3, 2), (6, 30, 4.6, 3)):
    generator = torch.Generator().manual_seed(seed)
    x, y = (5 * torch.randn(B, D, generator=generator, dtype=torch.float64) + 1 for _ in range(2))
    weights = torch.randn(B, B, generator=generator, dtype=torch.float64)
    inputs = [v.clone().requires_grad_() for v in (x, y, double(log_scale))]
    right, result = textbook_scores(*inputs), score_table(*inputs)
    torch.testing.assert_close(result, right, atol=1e-10, rtol=1e-10)
    wanted = torch.autograd.grad((weights * right).sum(), inputs)
    torch.testing.assert_close(torch.autograd.grad((weights * result).sum(), inputs), wanted, atol=1e-10, rtol=1e-10)
    assert torch.equal(inputs[0], x) and torch.equal(inputs[1], y), "the arguments were changed in place"
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
#
# `norm(dim=1, keepdim=True)` gives the lengths as a column `[B, 1]`, and a division by it broadcasts over each row.
# All dot products of all pairs at once are one matrix product. Use `logit_scale.exp()` and not `math.exp`, through
# which no gradient flows.
#
# </details>

# %% [markdown]
# ## Exercise 2 · The cross-entropy of one row, safely (3 points, 15 minutes)
#
# One row of the table is a quiz: which of these captions belongs to this picture? The **softmax** turns the scores
# into probabilities, and the **cross-entropy** is minus the logarithm of the probability of the right choice $k$:
#
# $$-\ln \frac{e^{s_k}}{\sum_j e^{s_j}} \;=\; \ln\Big(\sum_j e^{s_j}\Big) - s_k .$$
#
# The first term on the right is called *log-sum-exp*. Written down just so, it breaks: in double precision $e^{s}$ is
# infinite from $s = 710$ on, and it is zero below $-746$, so that the logarithm fails. (In half precision, which CLIP
# uses in parts of its training, $e^{s}$ is infinite from $s = 12$ on.) The way out: subtract a number $m$ from all
# scores first. What does that do to the probabilities? Which $m$ makes the largest exponential harmless?
#
# PyTorch has `F.cross_entropy`, `log_softmax` and `logsumexp` for this. Write it without them, from `exp`, `log`,
# `sum` and `max`. Then use them to test yourself.

# %% nbgrader={"grade": false, "grade_id": "cross_entropy", "locked": false, "schema_version": 3, "solution": true, "task": false}
def cross_entropy(scores: torch.Tensor, target: int) -> torch.Tensor:
    """Return the cross-entropy of one quiz, in nats.

    scores: `[N]`, one score for each choice, of any size (try 1,000 and -1,000). target: which choice is right, from 0
    to N - 1. Returns a scalar tensor of the same dtype, finite and accurate whenever the scores are finite.
    """
    ### BEGIN SOLUTION
    shifted = scores - scores.max()  # the largest is now 0, so its exponential is 1
    return shifted.exp().sum().log() - shifted[target]  # the shift is in both terms and cancels
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "cross_entropy_check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
quiz = double([math.log(2), 0.0, 0.0])  # the probabilities are 1/2, 1/4, 1/4
got = cross_entropy(quiz, 0)
assert got.shape == () and got.dtype == torch.float64, f"expected one float64, got {tuple(got.shape)} {got.dtype}"
assert abs(got - 0.6931) < 1e-4, f"target 0: expected ln 2 = 0.6931, got {got:.4f}"
got = cross_entropy(quiz, 1)
assert abs(got - 1.3863) < 1e-4, f"target 1: expected ln 4 = 1.3863, got {got:.4f}: is the target's score subtracted?"
print("cross_entropy: the visible numbers are right. Have you tried large scores?")

# %% nbgrader={"grade": true, "grade_id": "cross_entropy_hidden", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# Hidden tests: other rows and targets, very large and very negative scores.
### BEGIN HIDDEN TESTS
for N, spread, seed in ((1, 1.0, 0), (2, 3.0, 1), (10, 1.0, 2), (50, 20.0, 3), (300, 5.0, 4)):
    row = spread * torch.randn(N, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    for target in (0, N // 2, N - 1):
        right = math.log(math.fsum(math.exp(s - row[target]) for s in row.tolist()))  # all, as a ratio to the right one
        assert abs(float(cross_entropy(row.clone(), target)) - right) < 1e-10 * (1 + right)

large = (([1000.0, 0.0], 0, 0.0), ([1000.0, 0.0], 1, 1000.0), ([-1000.0, -1000.0, -1000.0], 2, math.log(3)))
large += (([1e6, 1e6, -1e6], 1, math.log(2)), ([5e4, 49_990.0], 1, math.log1p(math.exp(10))))
large += (([-800.0, -801.0], 1, math.log1p(math.e)), ([2000.0, 0.0, 0.0, 0.0], 0, 0.0))
for row, target, right in large:
    got = float(cross_entropy(double(row), target))
    assert abs(got - right) < 1e-9, f"scores {row}, target {target}: expected {right:.4f}, got {got:.4f}"
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
#
# If $m$ is subtracted from all scores, numerator and denominator of the softmax are both divided by $e^m$, so nothing
# changes. With $m = \max_j s_j$ the largest exponential is $e^0 = 1$: the sum lies between 1 and N, and its logarithm
# is harmless. Do not take the logarithm of a probability at the end: a probability of $e^{-1000}$ is stored as 0.
#
# </details>

# %% [markdown]
# ## Exercise 3 · The symmetric loss (3 points, 15 minutes)
#
# The table can be read in two directions. Along a row a picture chooses a caption, along a column a caption chooses a
# picture. In both, the right choices are on the diagonal. CLIP takes the mean over the $B$ rows, the mean over the $B$
# columns, and the mean of these two:
#
# $$L = \frac12\left[\;\frac1B\sum_i -\ln\frac{e^{s_{ii}}}{\sum_j e^{s_{ij}}}
# \;+\; \frac1B\sum_i -\ln\frac{e^{s_{ii}}}{\sum_j e^{s_{ji}}}\;\right].$$
#
# Here PyTorch's ready-made functions are welcome.

# %% nbgrader={"grade": false, "grade_id": "symmetric_loss", "locked": false, "schema_version": 3, "solution": true, "task": false}
def symmetric_loss(logits: torch.Tensor) -> torch.Tensor:
    """Return CLIP's loss of a table of scores, in nats.

    logits: `[B, B]`, the scores after scaling, pair i in row i and column i. Returns a scalar tensor of the same dtype,
    through which gradients flow back to `logits`. Scores of 1,000 must not break it.
    """
    ### BEGIN SOLUTION
    targets = torch.arange(len(logits))  # the right choice of row i, and of column i, is number i
    pictures_choose = F.cross_entropy(logits, targets)
    captions_choose = F.cross_entropy(logits.T, targets)
    return (pictures_choose + captions_choose) / 2
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "symmetric_loss_check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
got = symmetric_loss(double([[math.log(3), 0.0], [0.0, math.log(3)]]))  # each right choice has probability 3/4
assert got.shape == () and got.dtype == torch.float64, f"expected one float64, got {tuple(got.shape)} {got.dtype}"
assert abs(got - 0.2877) < 1e-4, f"expected ln(4/3) = 0.2877, got {got:.4f}: a mean of rows, columns, both?"
got = symmetric_loss(double([[math.log(3), 0.0], [math.log(3), 0.0]]))
assert abs(got - 0.7651) < 1e-4, f"expected 0.7651 (rows alone 0.8370, columns alone 0.6931), got {got:.4f}"
print("symmetric_loss: the visible numbers are right")

# %% nbgrader={"grade": true, "grade_id": "symmetric_loss_hidden", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# Hidden tests: other sizes, large scores, and the gradient.
### BEGIN HIDDEN TESTS
def textbook_loss(table):
    rows, columns = torch.logsumexp(table, 1), torch.logsumexp(table, 0)  # [B] each
    return (rows + columns - 2 * table.diagonal()).sum() / (2 * len(table))


for B, spread, seed in ((1, 1.0, 0), (2, 2.0, 1), (3, 0.0, 2), (5, 4.0, 3), (17, 10.0, 4), (6, 800.0, 5)):
    table = spread * torch.randn(B, B, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    table.requires_grad_()
    right, result = textbook_loss(table), symmetric_loss(table)
    assert result.shape == (), "the loss must be one number"
    torch.testing.assert_close(result, right, atol=1e-10, rtol=1e-10)
    wanted = torch.autograd.grad(right, table)
    torch.testing.assert_close(torch.autograd.grad(result, table), wanted, atol=1e-10, rtol=1e-10)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
#
# `F.cross_entropy(table, targets)` takes a table `[B, classes]` and, for each row, the *number* of the right class.
# Which numbers are these for the rows? For the columns, turn the table over with `.T`; the targets stay the same.
#
# </details>

# %% [markdown]
# ## Exercise 4 · What a model can reach (3 points, 10 minutes)
#
# A loss of 2.9: is that good? To read a training curve, you must know the marks on the scale. Think of a model for
# which every right pair has the same cosine $r$, and every wrong pair the same cosine $w$. For such a model the loss
# can be computed with pen and paper, from $B$, $r$, $w$ and the temperature $\tau$ alone. Two cases are worth knowing
# by heart. If $r = w$, the model knows nothing. And $r = 1$, $w = 0$ is about the best that one can hope for in a
# large batch.
#
# Start from exercise 3. All rows and all columns are the same here, so it is enough to look at one row: one score of
# $r/\tau$, and the others. No table is needed. (With CLIP's 32,768 pairs it would have a billion cells, so do not
# build it.)

# %% nbgrader={"grade": false, "grade_id": "reachable_loss", "locked": false, "schema_version": 3, "solution": true, "task": false}
def reachable_loss(batch_size: int, right: float, wrong: float, temperature: float) -> float:
    """Return CLIP's loss, in nats, of a model whose table of cosines, `[B, B]`, holds two numbers only.

    right: the cosine of each of the B right pairs; wrong: that of all other pairs; both from -1 to 1. temperature: tau,
    a positive number, 0.01 or larger (*not* the scale and not its logarithm). Returns a float.
    """
    ### BEGIN SOLUTION
    against_one = math.exp((wrong - right) / temperature)  # weight of one wrong choice, if the right one weighs 1
    return math.log1p((batch_size - 1) * against_one)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "reachable_loss_check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
got = float(reachable_loss(3, 0.0, 0.0, 0.07))
assert abs(got - 1.0986) < 1e-4, f"a model that knows nothing: expected ln 3 = 1.0986, got {got:.4f}: count the choices"
got = float(reachable_loss(256, 1.0, 0.0, 1.0))
assert abs(got - 4.5518) < 1e-4, f"a perfect model at temperature 1: expected 4.5518, got {got:.4f}"
print(f"At temperature 1, a perfect model gets {got:.2f} nats, and an ignorant one ln 256 = {math.log(256):.2f}.")

# %% nbgrader={"grade": true, "grade_id": "reachable_loss_hidden", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# Hidden tests: other batches, cosines and temperatures.
### BEGIN HIDDEN TESTS
for B, right, wrong, tau in (
    (2, 0.3, 0.1, 0.5), (8, 1.0, -1 / 7, 0.07), (16, 0.5, 0.5, 0.2), (64, 0.35, 0.2, 0.07), (90, 0.1, 0.25, 0.01)
):
    table = torch.full((B, B), wrong, dtype=torch.float64).fill_diagonal_(right) / tau
    by_table = float(F.cross_entropy(table, torch.arange(B)))  # a symmetric table: both directions are equal
    assert abs(float(reachable_loss(B, right, wrong, tau)) - by_table) < 1e-4  # float32 is good enough
for B, tau in ((32_768, 1.0), (32_768, 0.07), (4096, 0.1), (1, 0.1)):
    assert abs(float(reachable_loss(B, 1.0, 0.0, tau)) - math.log(1 + (B - 1) * math.exp(-1 / tau))) < 1e-4
    assert abs(float(reachable_loss(B, -0.4, -0.4, tau)) - math.log(B)) < 1e-4
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
#
# Divide numerator and denominator of the softmax by $e^{r/\tau}$. What remains in the denominator is a 1 and $B - 1$
# equal terms.
#
# </details>

# %% [markdown]
# **The figure.** The loss of the perfect model against the temperature, for a small batch and for CLIP's own, 32,768
# pairs. One should see why the temperature is needed at all. At the right edge ($\tau = 1$, the bare cosines) even a
# perfect model is hardly better than one that knows nothing (gray lines). The vertical lines are CLIP's start, 0.07,
# and its limit, 0.01. At the limit the loss of the perfect model is practically zero, even with 32,768 choices. In a
# real model the cosines of right and wrong pairs are closer together than 1 and 0, so it needs a smaller temperature.

# %%
temperatures = torch.logspace(-2, 0, 60).tolist()
for B, style in ((256, "C0-"), (32_768, "C1--")):
    losses = [reachable_loss(B, 1.0, 0.0, tau) for tau in temperatures]
    plt.plot(temperatures, losses, style, lw=1.2, label=f"perfect, B = {B:,}")
    plt.axhline(math.log(B), color="gray", ls=style[2:], lw=0.8)
for tau in (0.07, 0.01):
    plt.axvline(tau, color="k", ls=":", lw=0.8)
plt.gca().set(xscale="log", xlabel="temperature (no unit)", ylabel="loss (nats)", ylim=(-0.5, 15))
plt.legend(frameon=False, loc="upper right")
plt.show()

# %% [markdown]
# ## Exercise 5 · The gradient by hand (3 points, 20 minutes)
#
# What does the loss do to each cell of the table? Take one row with its cross-entropy $\ln\sum_j e^{s_j} - s_k$ and
# derive it with respect to the score $s_j$. The first term gives the softmax probability $p_j$. The second one gives 1
# for the right choice and 0 for the others. So the gradient is
#
# $$\frac{\partial}{\partial s_j}\Big[\ln\sum_l e^{s_l} - s_k\Big] \;=\; p_j - [\,j = k\,],$$
#
# probability minus truth. Each cell of the table takes part in two quizzes: one along its row and one along its
# column. Put both together, with the factors of the means in exercise 3. Do not use autograd here; the tests switch it
# off. (To test yourself, do use it.)

# %% nbgrader={"grade": false, "grade_id": "score_gradient", "locked": false, "schema_version": 3, "solution": true, "task": false}
def score_gradient(logits: torch.Tensor) -> torch.Tensor:
    """Return the gradient of the symmetric loss with respect to each score.

    logits: `[B, B]`, the scores after scaling, pair i in row i and column i. Returns `[B, B]`, of the same dtype: how
    fast the loss of exercise 3 grows with each score. At most 0 on the diagonal, at least 0 beside it. No autograd.
    """
    ### BEGIN SOLUTION
    truth = torch.eye(len(logits))
    rows = logits.softmax(1) - truth  # pictures choose captions
    columns = logits.softmax(0) - truth  # captions choose pictures
    return (rows + columns) / (2 * len(logits))  # [B, B]
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "score_gradient_check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
with torch.inference_mode():  # here, autograd does not work
    got = score_gradient(double([[math.log(3), 0.0], [math.log(3), 0.0]]))
assert got.shape == (2, 2) and got.dtype == torch.float64, f"expected 2 x 2 float64, got {tuple(got.shape)} {got.dtype}"
expected = double([[-0.1875, 0.1875], [0.3125, -0.3125]])
assert torch.allclose(got, expected, atol=1e-4), f"expected {expected.tolist()}, got {got.tolist()}: both directions?"
print("score_gradient: the visible numbers are right")

# %% nbgrader={"grade": true, "grade_id": "score_gradient_hidden", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# Hidden tests: other sizes and scores, also large ones.
### BEGIN HIDDEN TESTS
for B, spread, seed in ((1, 1.0, 0), (2, 1.0, 1), (4, 3.0, 2), (7, 0.5, 3), (13, 10.0, 4), (5, 900.0, 5)):
    table = spread * torch.randn(B, B, generator=torch.Generator().manual_seed(10 + seed), dtype=torch.float64)
    leaf = table.clone().requires_grad_()
    lost = sum(torch.logsumexp(leaf, side) - leaf.diagonal() for side in (0, 1)).mean() / 2
    (wanted,) = torch.autograd.grad(lost, leaf)
    with torch.inference_mode():
        torch.testing.assert_close(score_gradient(table.clone()), wanted, atol=1e-10, rtol=1e-10)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
#
# `logits.softmax(1)` is the table of the rows' probabilities, `logits.softmax(0)` that of the columns. From each of
# them the truth, an identity matrix, is subtracted. Which factor stands before the sum over the rows in exercise 3,
# with both means together? Test: the gradient of a whole table sums to zero, since a constant added to all scores
# changes nothing.
#
# </details>

# %% [markdown]
# **The figure.** Eight made-up pairs at CLIP's starting temperature. Left the scores, right the size of their
# gradient. Pair 2 is spoiled: its caption fits picture 5 best. One should see that the gradient is spent where the
# model is wrong: on pair 2, on the cell that wins in its place (picture 5, caption 2), and on pair 5, which loses its
# row to that cell. For the pairs that are right already, almost nothing is left.

# %%
table = (0.15 * torch.randn(8, 8, generator=torch.Generator().manual_seed(1)) + 0.6 * torch.eye(8)) / 0.07  # [B, B]
table[2, 2], table[5, 2] = 0.0, 10.0
figure, axes = plt.subplots(1, 2, figsize=(5.5, 2.4), layout="constrained")
for ax, cells, title in zip(axes, (table, score_gradient(table).abs()), ("score (no unit)", "|gradient| (nats)")):
    figure.colorbar(ax.imshow(cells.detach(), cmap="viridis"), ax=ax, shrink=0.8)
    ax.set(title=title, xlabel="caption", ylabel="picture")
plt.show()

# %% [markdown]
# ## Exercise 6 · Train the temperature (3 points, 15 minutes)
#
# CLIP does not choose the temperature; it is one more parameter (section 2.3). It starts at 0.07, and the scale may
# not exceed 100, which the authors found necessary to keep training stable (section 2.5). Here the features stay as
# they are, and only $t$ is trained, by plain gradient descent. One step is
#
# $$t \leftarrow t - \text{lr}\cdot\frac{\partial L}{\partial t},\quad\text{then}\quad t \leftarrow \min(t, \ln 100),$$
#
# where $L$ is the loss of exercise 3 (both directions) on the scores $e^{t}\cos_{ij}$. For the gradient you have the
# choice. Let autograd do it. Or use the chain rule: the derivative of a score $s_{ij} = e^t \cos_{ij}$ with respect to
# $t$ is $s_{ij}$ itself, so $\partial L/\partial t = \sum_{ij} G_{ij}\,s_{ij}$, where $G$ is the gradient of exercise
# 5. You may call your earlier functions, but you need not: with `F.cross_entropy` the loss is two lines.

# %% nbgrader={"grade": false, "grade_id": "train_temperature", "locked": false, "schema_version": 3, "solution": true, "task": false}
def train_temperature(cosines: torch.Tensor, start: float, lr: float, steps: int) -> list[float]:
    """Return the logit scale after each step of gradient descent.

    cosines: `[B, B]`, fixed, pair i in row i and column i. start: t before the first step, at most ln 100. lr: the size
    of a step. Returns `steps` numbers: t itself (not the scale), after the step and after the limit. Above, t stops
    at a scale of 100; below there is no limit, so t may become negative.
    """
    ### BEGIN SOLUTION
    t, targets, history = torch.tensor(start, dtype=cosines.dtype), torch.arange(len(cosines)), []
    for _ in range(steps):
        t.requires_grad_()
        logits = t.exp() * cosines  # [B, B]
        loss = (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2
        (gradient,) = torch.autograd.grad(loss, t)
        t = (t - lr * gradient).detach().clamp(max=math.log(100))
        history.append(t.item())
    return history
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "train_temperature_check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
got = train_temperature(double([[1.0, 0.0], [0.0, 1.0]]), start=0.0, lr=1.0, steps=2)
assert len(got) == 2, f"2 steps: expected 2 numbers, got {len(got)}"
assert abs(float(got[0]) - 0.2689) < 1e-4, f"after one step: expected 0.2689, got {float(got[0]):.4f}"
assert abs(float(got[1]) - 0.5473) < 1e-4, f"after two steps: expected 0.5473, got {float(got[1]):.4f}"
got = train_temperature(double([[0.1, 0.0], [0.0, 0.1]]), start=4.6, lr=100.0, steps=1)
assert abs(float(got[0]) - 4.6052) < 1e-4, f"at the limit: expected ln 100 = 4.6052, got {float(got[0]):.4f}"
print("train_temperature: the visible numbers are right")

# %% nbgrader={"grade": true, "grade_id": "train_temperature_hidden", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# Hidden tests: other cosines, starts and steps; models for which t stays inside, falls below 0, rises
# to the limit, or comes back from it.
### BEGIN HIDDEN TESTS
def textbook_descent(cosines, t, lr, steps):
    for _ in range(steps):
        s, diagonal = math.exp(t) * cosines, cosines.diagonal().mean()
        chosen = [(s.softmax(side) * cosines).sum(side).mean() for side in (0, 1)]  # mean cosine of what is chosen
        slope = math.exp(t) * float(sum(chosen) / 2 - diagonal)
        t = min(t - lr * slope, math.log(100))
        yield t


ends = []
for B, right, noise, start, lr, steps in (
    (6, 0.5, 0.1, 2.66, 0.5, 30), (16, 0.2, 0.1, 2.66, 0.3, 40), (9, 0.1, 0.2, 3.0, 0.2, 25),
    (5, 0.15, 0.03, 2.0, 3.0, 80), (12, -0.1, 0.1, 1.0, 1.0, 60), (3, 1.0, 0.2, -1.0, 0.1, 7),
    (24, 0.3, 0.1, 2.66, 3.0, 4),
):
    cosines = noise * torch.randn(B, B, generator=torch.Generator().manual_seed(B), dtype=torch.float64)
    cosines += right * torch.eye(B)
    wanted = list(textbook_descent(cosines, start, lr, steps))
    path = [float(t) for t in train_temperature(cosines.clone(), start, lr, steps)]
    torch.testing.assert_close(double(path), double(wanted), atol=1e-4, rtol=0)  # a t in float32 is good enough
    ends.append(wanted[-1])
assert max(ends) == math.log(100) and min(ends) < 0, "the cases must reach the limit and go below 0"
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
#
# With autograd: make `t` a tensor with `requires_grad=True`, compute the loss, call `backward()`, change `t` under
# `torch.no_grad()`, and set `t.grad` back to `None`, since PyTorch adds to it otherwise. The limit is for $t$, which
# is a logarithm, so it is not 100.
#
# </details>

# %% [markdown]
# **The figure.** Three models with the same noise of 0.1 in their cosines. Their right pairs have a mean cosine of 0.1,
# 0.2 or 0.4. All start at CLIP's 0.07, a scale of 14.3. One should see that the better the model, the larger the scale
# at which it settles. A model that is often wrong lowers the scale, so that its mistakes cost less. If *every* right
# pair had the best score of its row and column, the scale would grow for ever, and only the limit (dotted line) would
# stop it.

# %%
noise = 0.1 * torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
for right, style in ((0.1, "C0-"), (0.2, "C1--"), (0.4, "C2-.")):
    path = train_temperature(noise + right * torch.eye(64), math.log(1 / 0.07), lr=0.1, steps=60)
    plt.plot(range(1, 61), [math.exp(t) for t in path], style, lw=1.2, label=f"right pairs: {right}")
plt.axhline(100, color="k", ls=":", lw=0.8)
plt.gca().set(yscale="log", xlabel="step", ylabel="scale (no unit)", ylim=(5, 600))
plt.legend(frameon=False, loc="upper left")
plt.show()

# %% [markdown]
# ## What you have now
#
# `symmetric_loss(score_table(image_features, text_features, logit_scale))` is CLIP's Figure 3 from the two vectors on.
# You know two marks on its scale, ln B and the loss of a perfect model. You know where its gradient goes, and why the
# scale has a limit. From here, notebook [04 · The sigmoid loss](../../../notebooks/04_sigmoid_loss.ipynb) judges each
# cell alone, and [07 · Bias and temperature](../../../notebooks/07_bias_and_temperature.ipynb) asks again where the
# temperature should start.
#
# Two questions to go on with (no points):
#
# - In exercise 6 the features are fixed. In training they move, too. Once all pairs of a batch are right, a larger
#   scale makes the loss smaller, without any better features. What does that mean for a comparison of two runs by
#   their loss?
# - In a large batch two captions may be the same. What is the smallest loss then, if each caption occurs twice? Which
#   of your functions can answer it?
