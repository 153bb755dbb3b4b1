# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A5 · Zero-shot classification and robustness
#
# **Paper.** CLIP ([Radford et al., 2021](https://arxiv.org/abs/2103.00020)): section 3.1 and Figure 4 (names and prompts as a
# classifier), section 3.3 and Figures 13 to 15 (robustness to natural shifts). The idea of effective robustness is from
# [Taori et al. (2020)](https://arxiv.org/abs/2007.00644).
#
# **What you will learn.** To build a classifier out of names, without one training step. To count what it gets right, with an
# honest interval. To tell a model that is *better* from a model that is *more robust*. And to ask what "zero-shot" means.
#
# **What you need first.** [15 · Zero-shot and prompts](../../../notebooks/15_zero_shot_and_prompts.ipynb) and
# [17 · Robustness to unseen artists](../../../notebooks/17_robustness_to_unseen_artists.ipynb). From school: logarithms, the
# straight line through points.
#
# **Time.** About 105 minutes.
#
# **Points.** 24: 20 are given automatically, 4 by a person who reads your answer to exercise 7.
#
# **How it is graded.** Below each solution cell stands a check with a small example that you can compute on paper. When
# you hand in, your function is also called with other numbers, so a function that fits the example only earns little. Test cells are
# restored before grading. Editing them changes nothing.
#
# **Handing in.** Keep the name of this file, and the file `a5_features.npz` in the same folder. Restart the kernel and run all
# cells before you hand in.

# %% [markdown]
# ## The data
#
# Nothing is trained in this notebook. A small CLIP has been trained already, on pictures of emoji by five artists with their names as captions. Its two towers have
# turned names and pictures into vectors, and these are in `a5_features.npz`. All are **raw**: what the last linear layer says, before
# any normalising. The pictures are drawings that the model has not been trained on, in three splits:
#
# - `in_distribution`: by the five artists of training, a tenth of their drawings that was kept apart;
# - `fxemoji`: by an artist that the model has never seen, near to the others in style;
# - `openmoji`: by another such artist, with line drawings, far from the others.
#
# The *names* are not new: of the 1,914 all but 31, which are flags, were captions in training. What is new is the drawing, and in two splits the hand that drew it. (How the file was made:
# `assignments/features.py` in the repository.)

# %% nbgrader={"grade": false, "grade_id": "imports", "locked": true, "schema_version": 3, "solution": false, "task": false}
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

plt.rcParams.update({"figure.figsize": (3.5, 2.5), "figure.dpi": 110, "font.size": 8})


def drawn(*size, seed):
    """Random float64 numbers of the given size, the same for the same seed."""
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# %% nbgrader={"grade": false, "grade_id": "data", "locked": true, "schema_version": 3, "solution": false, "task": false}
if not Path("a5_features.npz").exists():
    raise FileNotFoundError("a5_features.npz is not in the folder of this notebook. Copy it there: it comes with the "
                            "assignment. (Colab: click on the folder symbol at the left, then upload it.)")
data = np.load("a5_features.npz", allow_pickle=False)
names, templates, splits = (data[key].tolist() for key in ("names", "templates", "splits"))
text_features, image_features = (  # whole numbers times one factor for each vector: the raw features, as float32
    torch.from_numpy(data[f"{what}_int8"] * data[f"{what}_factor"][..., None]) for what in ("text", "image"))
labels, split, flag = (torch.from_numpy(data[key]) for key in ("labels", "split", "flag"))  # each [N]
labels, split = labels.long(), split.long()  # labels: into names; split: into splits; flag: is it a country's flag?
print(f"names in {len(templates)} templates {list(text_features.shape)}, pictures {list(image_features.shape)}")
print("templates:", *templates, sep="\n  ")

# %% [markdown]
# ## Exercise 1 · Class weights out of names (4 points, 15 minutes)
#
# A classifier usually has one row of weights for each class, learned from labelled pictures. Here the text tower writes the rows (CLIP, section 3.1.2). The name of a class
# is put into several **templates**, such as "a drawing of {}", and each prompt gives a vector $t_{kc}$, for template $k$ and class $c$. The paper (section 3.1.4) averages these *embeddings*, not
# the answers that each template gives, so that at last there is one vector for each class. Vectors are compared by their direction. So each prompt has one vote, whatever its length, and
# the mean has length one again:
#
# $$ w_c = \frac{m_c}{\lVert m_c \rVert}, \qquad m_c = \frac{1}{T} \sum_{k=1}^{T} \frac{t_{kc}}{\lVert t_{kc} \rVert} . $$

# %% nbgrader={"grade": false, "grade_id": "class_weights", "locked": false, "schema_version": 3, "solution": true, "task": false}
def class_weights(text_features: torch.Tensor) -> torch.Tensor:
    """One unit vector for each class, from its prompts in several templates.

    text_features: raw vectors `[T, C, D]`, for T templates and C classes; their lengths differ.
    Returns unit vectors `[C, D]`: the normalised mean of the normalised prompts.
    """
    ### BEGIN SOLUTION
    prompts = text_features / text_features.norm(dim=-1, keepdim=True)  # [T, C, D]
    mean = prompts.mean(dim=0)  # [C, D]
    return mean / mean.norm(dim=-1, keepdim=True)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "class_weights_check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
toy = torch.tensor([[[3.0, 0.0], [0.0, 2.0]], [[0.0, 1.0], [0.0, 5.0]]])  # [T = 2, C = 2, D = 2]
got = class_weights(toy)
print(got)
assert got.shape == (2, 2), f"expected one vector for each of 2 classes, [2, 2], got {list(got.shape)}"
assert abs(got[1, 1] - 1.0) < 1e-4, f"expected 1.0000, got {got[1, 1]:.4f}: the second class's prompts agree"
assert abs(got[0, 0] - 0.7071) < 1e-4, (
    f"expected 0.7071, got {got[0, 0]:.4f}: is each prompt normalised, and the mean of them again?")

# %% nbgrader={"grade": true, "grade_id": "class_weights_hidden", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Your function is called with other numbers of templates, classes and dimensions, and with prompts of other lengths.
### BEGIN HIDDEN TESTS
for seed, (T, C, D) in enumerate([(1, 5, 3), (3, 4, 6), (4, 2, 8), (2, 7, 7), (5, 5, 5)]):
    raw = drawn(T, C, D, seed=seed) * (3 * drawn(T, C, 1, seed=100 + seed)).exp()  # lengths differ by far
    before, got = raw.clone(), class_weights(raw)
    assert torch.equal(raw, before), "the argument was changed"
    assert got.shape == (C, D), f"expected {[C, D]}, got {list(got.shape)}"
    for c in range(C):  # the direction of the sum is that of the mean
        total = sum(raw[k, c] / raw[k, c].square().sum().sqrt() for k in range(T))
        assert (got[c] - total / total.square().sum().sqrt()).abs().max() < 1e-10
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
#
# There are three steps: normalise, average over the templates, normalise. The length of a vector is `x.norm(dim=-1, keepdim=True)`; without `keepdim` the division does not fit. Which axis
# of `[T, C, D]` holds the numbers of one vector, and which one the templates? (`torch.nn.functional.normalize` does the division, too, but look up which axis it takes if you do not say.)
#
# </details>

# %% [markdown]
# ## Exercise 2 · The best names (3 points, 10 minutes)
#
# Now give names to pictures. The score of picture $i$ for class $c$ is their **cosine**: the product of two vectors of length one. The larger, the better. The temperature and the softmax of training are not
# needed, since they do not change which score is the largest.
#
# The class weights are unit vectors already. The pictures' features are raw. (Their lengths do not change the order of the names of *one* picture. Why not? But a score that is
# not a cosine cannot be compared from picture to picture.)

# %% nbgrader={"grade": false, "grade_id": "best_names", "locked": false, "schema_version": 3, "solution": true, "task": false}
def best_names(image_features: torch.Tensor, weights: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The k classes with the highest cosines for each picture, the best one first.

    image_features: raw vectors `[N, D]`; weights: unit vectors `[C, D]`; k: 1 to C.
    Returns the cosines `[N, k]`, from -1 to 1 and falling from left to right, and the classes `[N, k]`, 0 to C - 1.
    """
    ### BEGIN SOLUTION
    pictures = image_features / image_features.norm(dim=-1, keepdim=True)  # [N, D]
    cosines, classes = (pictures @ weights.T).topk(k, dim=1)  # [N, C] -> [N, k]
    return cosines, classes
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "best_names_check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
pictures = torch.tensor([[3.0, 4.0], [0.0, 2.0]])  # [N = 2, D = 2]
weights = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])  # [C = 3, D = 2]
cosines, classes = best_names(pictures, weights, 2)
print(cosines, classes)
assert classes.tolist() == [[2, 1], [1, 2]], f"expected [[2, 1], [1, 2]], got {classes.tolist()}"
assert abs(cosines[0, 1] - 0.8) < 1e-4, f"expected 0.8000, got {cosines[0, 1]:.4f}: are the pictures normalised?"

# %% nbgrader={"grade": true, "grade_id": "best_names_hidden", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# Your function is called with other pictures, other numbers of classes and other k.
### BEGIN HIDDEN TESTS
for seed, (N, C, D, k) in enumerate([(6, 4, 3, 1), (3, 9, 5, 4), (5, 5, 5, 5), (8, 3, 7, 2)]):
    x, w = drawn(N, D, seed=seed) * (2 * drawn(N, 1, seed=50 + seed)).exp(), drawn(C, D, seed=100 + seed)
    w = w / w.square().sum(1, keepdim=True).sqrt()
    cosines, classes = best_names(x, w, k)
    assert cosines.shape == classes.shape == (N, k), f"expected {[N, k]}, got {list(cosines.shape)}"
    for i in range(N):
        each = [float((x[i] * w[c]).sum() / (x[i] * x[i]).sum().sqrt()) for c in range(C)]
        best = sorted(range(C), key=lambda c: -each[c])[:k]
        assert classes[i].tolist() == best, "these are not the best names, or not in order"
        assert all(abs(float(cosines[i, j]) - each[c]) < 1e-10 for j, c in enumerate(best)), "no cosines"
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
#
# All cosines at once are one product of two matrices; it should have the shape `[N, C]`, a row for each picture. `scores.topk(k, dim=...)` returns the values and where they stand, in falling order. The classes
# of one picture are in one row.
#
# </details>

# %% [markdown]
# Here are your two functions at work, on drawings that the model has not seen. The upper two rows are by artists of the training, the lower two show the same concepts by the unseen artist of `fxemoji`. Above each drawing stands
# your best name, in blue with a tick where it is right, in orange with a cross where it is not. The two halves are in the same order: look for concepts that are found in one and missed in the other.

# %%
rows = torch.from_numpy(data["thumbnail_rows"]).long()
_, called = best_names(image_features[rows], class_weights(text_features[:2]), 1)
figure, axes = plt.subplots(4, 10, figsize=(9, 4.2), layout="constrained")
for ax, picture, row, (c,) in zip(axes.flat, data["thumbnails"], rows.tolist(), called.tolist()):
    right = c == labels[row]
    ax.imshow(picture), ax.set(xticks=[], yticks=[])
    ax.set_title(f"{'✓' if right else '✗'} {names[c][:15]}", fontsize=6, color="C0" if right else "C1")
figure.supxlabel("Drawings: Noto, Blob (Apache-2.0); Twemoji, EmojiOne 2, FxEmoji (CC BY 4.0); Fluent (MIT). "
                 "Changes: 32 × 32 pixels on white.", fontsize=6, color="gray")
plt.show()

# %% [markdown]
# Attribution: Noto Emoji and its older style Blob are by Google, Twemoji by Twitter, Inc and other contributors, Fluent emoji by Microsoft Corporation, EmojiOne 2 by Emoji One, FxEmoji by the Mozilla Foundation. The names are from the
# Unicode CLDR (© Unicode, Inc.). The links are in `data/README.md` of the repository; the file itself says the same: `print(data["notice"])`.

# %% [markdown]
# ## Exercise 3 · Top-k accuracy (3 points, 10 minutes)
#
# **Top-k accuracy** is the share of the pictures whose right class is among the k with the highest scores. With k = 1 it is the usual accuracy, and with k = C it is 1. It can only grow with k. Someone who guesses has k / C.

# %% nbgrader={"grade": false, "grade_id": "top_k_accuracy", "locked": false, "schema_version": 3, "solution": true, "task": false}
def top_k_accuracy(scores: torch.Tensor, labels: torch.Tensor, k: int) -> float:
    """Share of the pictures whose own class is among the k highest scores.

    scores: `[N, C]`, the larger the better, without ties; labels: the right classes `[N]`, 0 to C - 1; k: 1 to C.
    Returns a number from 0 to 1.
    """
    ### BEGIN SOLUTION
    best = scores.topk(k, dim=1).indices  # [N, k]
    found = (best == labels[:, None]).any(dim=1)  # [N]
    return found.double().mean().item()
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "top_k_accuracy_check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
toy_scores = torch.tensor([[0.9, 0.1, 0.3], [0.2, 0.5, 0.4], [0.1, 0.8, 0.6], [0.3, 0.2, 0.7]])  # [N = 4, C = 3]
toy_labels = torch.tensor([0, 2, 0, 2])
for k, expected in ((1, 0.5), (2, 0.75), (3, 1.0)):
    got = top_k_accuracy(toy_scores, toy_labels, k)
    print(f"top-{k}: {got:.4f}")
    assert abs(got - expected) < 1e-4, f"expected {expected:.4f} for k = {k}, got {got:.4f}"

# %% nbgrader={"grade": true, "grade_id": "top_k_accuracy_hidden", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# Your function is called with other scores, also with as many pictures as classes, and with a k of 1, a few, and all.
### BEGIN HIDDEN TESTS
for seed, (N, C) in enumerate([(7, 7), (40, 6), (9, 30), (200, 12)]):
    scores = drawn(N, C, seed=seed)
    own = torch.randint(C, (N,), generator=torch.Generator().manual_seed(seed))
    higher = [int((scores[i] > scores[i, own[i]]).sum()) for i in range(N)]  # how many classes beat the right one
    for k in {1, 2, 5, C}:
        got = float(top_k_accuracy(scores, own, k))
        assert abs(got - sum(rank < k for rank in higher) / N) < 1e-6, f"wrong for k = {k}"
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
#
# Take the k best classes of each row and compare them with the label, which needs a second axis for this: `labels[:, None]`. A picture counts once, if *any* of its k is right.
#
# </details>

# %% [markdown]
# Now all pictures, with each template alone and with their mean. Two of the templates were captions in training, the bare name and "a drawing of {}". The last one was not.

# %%
print(f"guessing: top-1 {1 / len(names):.2%}, top-5 {5 / len(names):.2%}")
means = {"mean of the first two": text_features[:2], "mean of all three": text_features}  # each [T, C, D]
for what, raw in {**dict(zip(templates, text_features[:, None])), **means}.items():
    table = image_features @ class_weights(raw).T  # [N, C], not cosines, but in each row in their order
    print(f"{what:22s}", *(f"{s} {top_k_accuracy(table[split == i], labels[split == i], 1):.1%}  "
                           for i, s in enumerate(splits)))

# %% [markdown]
# The two templates of the training are level. (A difference of one or two points is within the noise, as exercise 5 will show.) The third one is a disaster: 2.8 % where the bare name has 43.3. No caption of the training
# had this form, and the text tower answers it with nearly the same vector for every name. The mean cosine between two names is 0.97 in this template, and 0.10 for the bare names. This is Figure 4 of the paper, seen from the other
# side. A sentence around the name helps where the captions of the training were sentences. Ours were names, and "a drawing of" a name.
#
# The mean of all three loses five or six points, not forty (one on `openmoji`). To add nearly the same vector to every class moves all scores of a picture together, and that changes the order of the names much less. From here on we use the first two templates.

# %% [markdown]
# ## Exercise 4 · Accuracy by split, without flags (3 points, 10 minutes)
#
# Two traps wait in a table of accuracies. First, *which pictures count*. The flag of a country looks alike at every artist, so a flag by an "unseen" artist is hardly a new picture. And many flags cannot be told apart at 32 × 32 pixels.
# We leave the pictures of flags out. (Their *names* still compete.)
#
# Second, *what a total is*. The splits have very different sizes. The accuracy over all pictures is not the mean of the splits' accuracies: each picture must count once. (The mean of splits is another measure,
# which is used as well. One has to say which one is meant.)

# %% nbgrader={"grade": false, "grade_id": "accuracy_by_split", "locked": false, "schema_version": 3, "solution": true, "task": false}
def accuracy_by_split(right: torch.Tensor, split: torch.Tensor, flag: torch.Tensor, n_splits: int) -> torch.Tensor:
    """Accuracy of each split and of all pictures together, without the pictures of flags.

    right: bool `[N]`, was the picture named right; split: long `[N]`, 0 to n_splits - 1; flag: bool `[N]`.
    Every split has a picture that is no flag.
    Returns shares from 0 to 1, float `[n_splits + 1]`: one for each split, then one in which each picture counts once.
    """
    ### BEGIN SOLUTION
    kept, where = right[~flag].double(), split[~flag]
    each = [kept[where == s].mean() for s in range(n_splits)]
    return torch.stack([*each, kept.mean()])
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "accuracy_by_split_check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
toy_right = torch.tensor([1, 0, 1, 1, 0, 0, 0, 1]).bool()
toy_split = torch.tensor([0, 0, 0, 1, 1, 1, 1, 1])
toy_flag = torch.tensor([0, 0, 1, 0, 0, 0, 0, 1]).bool()
got = accuracy_by_split(toy_right, toy_split, toy_flag, 2)
print(got)
assert len(got) == 3, f"expected 3 numbers, two splits and all together, got {len(got)}"
for what, a, expected in zip(("split 0", "split 1", "all"), got, (0.5, 0.25, 0.3333)):
    assert abs(a - expected) < 1e-4, f"{what}: expected {expected:.4f}, got {a:.4f}: flags left out, each picture once?"

# %% nbgrader={"grade": true, "grade_id": "accuracy_by_split_hidden", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# Your function is called with other pictures, and with other numbers of splits.
### BEGIN HIDDEN TESTS
for seed, (N, S) in enumerate([(60, 1), (90, 3), (200, 5)]):
    part = (drawn(N, seed=seed).abs() * S / 2).long().clamp(max=S - 1)  # splits of different sizes, in no order
    part[:S] = torch.arange(S)
    is_flag, hit = drawn(N, seed=50 + seed) > 0.3, drawn(N, seed=100 + seed) > 0.4
    is_flag[:S] = False
    tally = [[0, 0] for _ in range(S + 1)]
    for s, f, h in zip(part.tolist(), is_flag.tolist(), hit.tolist()):
        for at in () if f else (s, S):
            tally[at][0], tally[at][1] = tally[at][0] + h, tally[at][1] + 1
    got = accuracy_by_split(hit, part, is_flag, S)
    assert len(got) == S + 1
    assert all(abs(float(a) - h / n) < 1e-6 for a, (h, n) in zip(got, tally))
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
#
# Throw the flags out of `right` *and* of `split` first (`~flag` is "not a flag"). Then a split's accuracy is the mean over `where == s`, and the total is the mean over what is left.
#
# </details>

# %% [markdown]
# ## Exercise 5 · A 95 % interval (3 points, 10 minutes)
#
# Another hundred drawings by the same artist would give another accuracy. How far away could it be? Think of each picture as a coin that shows "right" with probability $p$. One such answer, 0 or 1, has the variance $p\,(1 - p)$. The mean
# of $N$ independent ones has a variance that is $N$ times smaller, and the root of *this* is the **standard error**. For not too few pictures the mean is nearly normally distributed, and 95 % of a normal distribution lie within 1.96 standard errors:
#
# $$ p \pm 1.96 \sqrt{\frac{p\,(1 - p)}{N}} , $$
#
# where one puts the measured accuracy for $p$. An accuracy is between 0 and 1, so cut the interval off there.

# %% nbgrader={"grade": false, "grade_id": "accuracy_interval", "locked": false, "schema_version": 3, "solution": true, "task": false}
def accuracy_interval(right: torch.Tensor) -> tuple[float, float, float]:
    """Accuracy with its 95 % interval, by the normal approximation.

    right: bool `[N]`, was the picture named right.
    Returns three numbers from 0 to 1: the accuracy, the lower and the upper end of the interval.
    """
    ### BEGIN SOLUTION
    p = right.double().mean().item()
    half = 1.96 * (p * (1 - p) / len(right)) ** 0.5
    return p, max(p - half, 0.0), min(p + half, 1.0)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "accuracy_interval_check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
p, low, high = accuracy_interval(torch.arange(100) < 40)  # 40 of 100 are right
print(f"{p:.4f}, from {low:.4f} to {high:.4f}")
assert abs(p - 0.4) < 1e-4, f"expected 0.4000, got {p:.4f}"
assert abs(low - 0.3040) < 1e-4, f"expected 0.3040, got {low:.4f}: the variance of a mean of 100, and its root?"
assert abs(high - 0.4960) < 1e-4, f"expected 0.4960, got {high:.4f}"

# %% nbgrader={"grade": true, "grade_id": "accuracy_interval_hidden", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# Your function is called with few and with many pictures, and where nearly all of them, or none, are right.
### BEGIN HIDDEN TESTS
for n, hits in ((10, 5), (400, 3), (400, 397), (50, 0), (50, 50), (1914, 300), (7, 2)):
    answers = torch.arange(n) < hits
    answers = answers[torch.randperm(n, generator=torch.Generator().manual_seed(n))]
    spread = float(np.std(answers.numpy().astype(float))) / n**0.5  # the standard error
    expected = hits / n, float(np.clip(hits / n - 1.96 * spread, 0, 1)), float(np.clip(hits / n + 1.96 * spread, 0, 1))
    got = [float(number) for number in accuracy_interval(answers)]
    assert len(got) == 3 and max(abs(a - b) for a, b in zip(got, expected)) < 1e-6, f"{hits} of {n}: {got}"
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
#
# A mean of true and false needs numbers: `right.double()`. The root is over the whole quotient, $N$ included. `max` and `min` cut off.
#
# </details>

# %% [markdown]
# The figure has your accuracy for each split, without flags, with your interval. The dotted line is what guessing would give, 1 in 1,914. The orange crosses are the same with the flags.

# %%
right = best_names(image_features, class_weights(text_features[:2]), 1)[1][:, 0] == labels  # [N]
each = accuracy_by_split(right, split, flag, len(splits))
for s in range(len(splits)):
    p, low, high = (100 * number for number in accuracy_interval(right[(split == s) & ~flag]))
    plt.errorbar(s, p, [[p - low], [high - p]], fmt="o", color="C0", capsize=4, label="" if s else "without flags")
    plt.plot(s + 0.15, 100 * accuracy_interval(right[split == s])[0], "x", color="C1", label="" if s else "with flags")
    assert abs(p / 100 - each[s]) < 1e-6  # exercises 4 and 5 agree
plt.axhline(100 / len(names), color="gray", ls=":", label="guessing"), plt.legend(frameon=False)
plt.xticks(range(3), splits), plt.gca().set(ylabel="top-1 accuracy (%)", ylim=(0, 85), xlim=(-0.5, 2.5))
plt.show()
print(f"all pictures {each[-1]:.1%}; mean of the splits {each[:-1].mean():.1%}")

# %% [markdown]
# What one should see: 45.6 ± 3.7 % for the known artists, 46.8 ± 4.5 for `fxemoji`, 15.0 ± 1.7 for `openmoji`. Guessing would be right for 0.05 %, so the dotted line lies on the axis. Over all pictures it is 27.9 %, and the mean of the splits would be 35.8, as
# most of the pictures are openmoji's.
#
# Are the drawings by an unseen artist no harder than those by known ones? This figure cannot tell. The intervals overlap, and the splits hold *different concepts*. On the 188 concepts that all three have, it is 50.9, 48.4 and 19.7 %. A shift is measured on the same concepts.
#
# The flags move the outer splits in opposite directions. Of the five artists of training, one alone drew flags of countries. So 32 of the 35 flags in `in_distribution` were not drawn in training by anybody, and their names were no captions: the model names none of the 32. Of the flags in `openmoji` it has
# seen most (239 of 270), by that one artist, and it names 28 % of all, nearly twice as many as of the other drawings. With flags the shift looks smaller than it is.

# %% [markdown]
# ## Exercise 6 · Effective robustness (4 points, 20 minutes)
#
# A model that is better at home is better abroad, too. So accuracy abroad alone does not show robustness. Taori et al. (2020) measured 204 models of ImageNet, and CLIP's Figure 13 follows them: draw accuracy abroad against
# accuracy at home, both on **logit** axes, $\operatorname{logit}(p) = \ln \frac{p}{1 - p}$, and the usual models lie near a straight line,
#
# $$ \operatorname{logit}(\text{away}) \approx a + b \operatorname{logit}(\text{home}) . $$
#
# Fit $a$ and $b$ by least squares through **reference models** (the errors to keep small are those of logit(away)). Then the line says what to expect abroad of *any* model, from its accuracy at home. Turn this logit into
# an accuracy again, by the sigmoid $1 / (1 + e^{-x})$. The **effective robustness** of a model is what it has more than that:
#
# $$ \text{away} - \operatorname{sigmoid}\bigl(a + b \operatorname{logit}(\text{home})\bigr) . $$

# %% nbgrader={"grade": false, "grade_id": "effective_robustness", "locked": false, "schema_version": 3, "solution": true, "task": false}
def effective_robustness(
    home: torch.Tensor, away: torch.Tensor, reference_home: torch.Tensor, reference_away: torch.Tensor
) -> torch.Tensor:
    """How far each model's accuracy abroad is above the line through the reference models, on logit axes.

    home, away: accuracies of K models `[K]`; reference_home, reference_away: of M other models `[M]`, M at least 2.
    All are shares, more than 0 and less than 1. Returns differences of shares `[K]` (0.1 is ten points).
    """
    ### BEGIN SOLUTION
    x, y = torch.logit(reference_home), torch.logit(reference_away)  # [M]
    slope = ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()
    intercept = y.mean() - slope * x.mean()
    return away - torch.sigmoid(intercept + slope * torch.logit(home))  # [K]
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "effective_robustness_check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# Abroad, the odds p / (1 - p) of the three reference models are a third of those at home: 1/4 -> 1/12, 1 -> 1/3, 4 -> 4/3.
reference = torch.tensor([[1 / 5, 1 / 2, 4 / 5], [1 / 13, 1 / 4, 4 / 7]], dtype=torch.float64)  # home, away
home, away = torch.tensor([[0.6, 0.6], [0.45, 1 / 3]], dtype=torch.float64)  # the second model is on the line
got = effective_robustness(home, away, *reference)
print(got)
assert got.shape == (2,), f"expected one number for each of 2 models, got {list(got.shape)}"
assert abs(got[0] - 0.1167) < 1e-4, f"expected 0.1167, got {got[0]:.4f}: 0.45, less what the line says (odds 1.5 / 3)"
assert abs(got[1]) < 1e-4, f"expected 0.0000, got {got[1]:.4f}: this model is as good as the line says"

# %% nbgrader={"grade": true, "grade_id": "effective_robustness_hidden", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Your function is called with other models, and with references that lie near a line, not on it.
### BEGIN HIDDEN TESTS
for seed, (K, M, steep) in enumerate([(1, 2, 0.7), (4, 6, 1.3), (9, 30, 0.5), (6, 6, -0.4)]):
    x = drawn(M, seed=seed)
    y = steep * x - 0.8 + 0.5 * drawn(M, seed=20 + seed)
    at, above = drawn(2, K, seed=40 + seed).numpy()
    b, a = np.polyfit(x.numpy(), y.numpy(), 1)
    squash = lambda z: 1 / (1 + np.exp(-z))  # noqa: E731
    got = effective_robustness(*map(torch.from_numpy, (squash(at), squash(above))), x.sigmoid(), y.sigmoid())
    assert tuple(got.shape) == (K,), f"expected {[K]}, got {list(got.shape)}"
    assert np.abs(np.asarray(got) - (squash(above) - squash(a + b * at))).max() < 1e-10
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
#
# `torch.logit` and `torch.sigmoid` are inverse to each other. For the line, with $x$ and $y$ the logits of the reference models: the slope is the mean of $(x - \bar x)(y - \bar y)$ over the mean of $(x - \bar x)^2$, and the line goes through
# $(\bar x, \bar y)$. What is returned is a difference of *accuracies*, so the sigmoid comes before the difference.
#
# </details>

# %% [markdown]
# Now the paper's Figure 13 with real models. These are **other** models than the one above, and another test: 23 kinds of things, at 16 × 16 pixels (notebook 17 has it all). The *home* artist is Twemoji. The unseen artist here is
# OpenMoji. The accuracies are means of five seeds.
#
# - **home labels**: six ResNets that have learned labels of the home artist's drawings. They are the reference;
# - **zero-shot**: two CLIPs that learned from four *other* artists' drawings with captions, and were told the 23 classes in words;
# - **adapted**: these CLIPs after they have learned from the home artist's labels, too (a probe on their features, or all weights tuned, or part of the way);
# - **CLIP's labels**: a ResNet that has learned labels of the *same drawings* as CLIP, and has never read a word.

# %%
accuracy = torch.from_numpy(data["model_accuracy"]).double().mean(0)  # [seeds, models, 3] -> [models, 3]
home, far, kinds = accuracy[:, 0], accuracy[:, 2], data["model_kinds"]
is_reference = torch.from_numpy(kinds == "home labels")
reference = home[is_reference], far[is_reference]
above = effective_robustness(home, far, *reference)  # [models]
for name, h, f, e in zip(data["model_names"].tolist(), home, far, above):
    print(f"{name:36s} home {h:5.1%}   far {f:5.1%}   effective robustness {100 * e:+5.1f} points")

# %%
plt.figure(figsize=(5, 3.2), layout="constrained")
ends = torch.linspace(0.3, 0.7, 50, dtype=torch.float64)
line = -effective_robustness(ends, torch.zeros_like(ends), *reference)  # 0 less what the line says
plt.plot(ends, line, color="C0", label="line through the references")
plt.plot(ends, ends, ":", color="gray", label="nothing lost")
for kind, style in {"home labels": "sC0", "zero-shot": "oC1", "adapted": "^C2", "CLIP's labels": "XC3"}.items():
    plt.plot(home[kinds == kind], far[kinds == kind], style[0], color=style[1:], label=kind)
plt.gca().set(xscale="logit", yscale="logit", xlabel="top-1 at home (%), logit axis", ylabel="top-1, far artist (%)")
for axis, ticks in ((plt.gca().xaxis, (0.3, 0.4, 0.5, 0.6, 0.7)), (plt.gca().yaxis, (0.1, 0.2, 0.3, 0.4, 0.6))):
    axis.set_ticks(ticks, [f"{100 * tick:.0f}" for tick in ticks]), axis.set_ticks([], minor=True)
plt.legend(frameon=False, bbox_to_anchor=(1, 1))
plt.show()

# %% [markdown]
# What one should see: go straight up from the line to the orange circles. Zero-shot CLIP is as good at home as the references and 16 to 18 points better abroad. (Notebook 17 fits a line for each seed by itself and has 18.1 and 16.0.) The references lie up to 2.2
# points beside their own line, so a difference of two points says little. The triangles are Figure 14: the more a CLIP has learned from the home artist's labels, the further right it is, and the nearer to the line. The two probes are the best models at home, and two or three points below the line. The red cross is for exercise 7.

# %% [markdown]
# ## Exercise 7 · Is this zero-shot, and is it language? (4 points, 15 minutes)
#
# Answer in words, in about 150 to 250 of them, in the cell below. A person reads your answer, and each of these four earns one point:
#
# - **What is new to the model, and what is not (1 point).** Look at the CLIP of exercises 1 to 5. In which sense does it name the drawings by an unseen artist "zero-shot", and in which sense has it *not* done without examples?
# - **What else differs (1 point).** In the last figure zero-shot CLIP is far above the line. Name at least two things, other than language, in which it differs from the reference models and which may explain that.
# - **An experiment (1 point).** Describe a training and a test that would tell the effect of *language* from the effect of the *drawings* (their style and number). Say what is the same in all models, and the one thing that differs.
# - **What one would conclude (1 point).** Say which outcome would speak for language and which against it, and what the figure above, with its numbers, already says about this question.

# %% [markdown] nbgrader={"grade": true, "grade_id": "explain", "locked": false, "points": 4, "schema_version": 3, "solution": true, "task": false}
# ### BEGIN SOLUTION
# **What is new.** New are the drawings, and for two splits the artist. No example of a new artist was used, and no weight was trained for this task, so for the *style* it is zero-shot. For the *concepts* it is not: the names were captions, each with drawings by up to five artists, so there
# were examples of every class. (Only the flags that nobody drew in training are new as concepts, and there it is right for none of 32.)
#
# **What else differs.** CLIP saw drawings by four artists, the references by one. It saw more of them (2,529, not 651), among them the test's concepts. Size, loss and length of training differ, too.
#
# **An experiment.** Train an image tower twice on the *same* drawings by the same four artists, as wide and for as many steps: once with captions, once with the labels of the 23 kinds. Language is the one thing that differs. Test both at home and abroad on the same concepts, with several seeds, and compare the effective robustness. (A third model on labels of one artist, with as many drawings,
# would show what style does.)
#
# **What one would conclude.** If the model with captions is clearly higher, language helps. If both are level, the drawings do it. The figure has this model: *CLIP's labels*, without a word, is 12.8 points above the line, zero-shot CLIP 17.7. So most of the effect comes from the drawings. The other 5 points may be language or chance. Both have about the same accuracy
# abroad (37.1 and 37.9 %), and they differ at home.
# ### END SOLUTION

# %% [markdown]
# ## What you have now
#
# A zero-shot classifier, from raw vectors to a table with intervals, and the measure with which CLIP's paper makes its strongest claim. [17 · Robustness to unseen artists](../../../notebooks/17_robustness_to_unseen_artists.ipynb) has the claim with
# five seeds and its control experiments. [18 · Locked towers](../../../notebooks/18_locked_towers.ipynb) goes on from here.
#
# Further questions, without points:
#
# - The interval of exercise 5 knows of the choice of pictures only. What other choices would change the accuracy if all were done again, and how would you measure that? (The file has five seeds of each model in the last figure: `data["model_accuracy"]`.)
# - For no right answer among 50 the interval has the width zero. Is that plausible? Look up Wilson's interval, and compare.
# - Replace the logit by the identity in exercise 6, and draw the last figure anew. Which conclusions stay?
