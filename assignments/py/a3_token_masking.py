# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A3 · Fewer tokens: masking pictures and captions
#
# **Paper.** CLIPA ([Li et al., 2023](https://arxiv.org/abs/2305.07017)): section 3, Figures 2 and 3 (ways to leave
# tokens out), Figure 7 (captions). Masking patches at random comes from FLIP
# ([Li et al., 2022](https://arxiv.org/abs/2212.00794)), section 3.
#
# **What you will learn.** To cut a picture into patches; to keep a part of them at random, as a grid or as a block; to
# give the tower what is left without losing where it was; to shorten captions without losing their end; and to compute
# what all this saves.
#
# **What you need first.** Notebooks [11 · Fewer image tokens](../../../notebooks/11_fewer_image_tokens.ipynb) and [12 ·
# Fewer text tokens](../../../notebooks/12_fewer_text_tokens.ipynb). For the last exercise, section 1 of [14 · What a
# run costs](../../../notebooks/14_what_a_run_costs.ipynb). Helpful in PyTorch: `reshape`, `permute`, `argsort`,
# `gather`.
#
# **Time.** About 110 minutes: 100 for the exercises and 10 to read.
#
# **Points.** 20.
#
# **How it is graded.** Beneath each exercise stands a check that you can see. In addition there are hidden tests: your
# function is also called with other numbers and other sizes. Test cells are restored before grading, so editing them
# changes nothing. You may add cells of your own.
#
# **How to hand in.** Keep the file's name. Restart the kernel and run all cells before you hand in.
#
# A few words first. A ViT cuts a picture into patches; each patch becomes one **token**. A caption is a row of tokens,
# too. A tower does nearly all of its work once for each token. CLIPA therefore trains with a small part of the tokens
# for most of the run, and shows whole pictures and captions at its end. **Nothing is masked when a model is measured.**
#
# All random choices in this notebook are made from numbers that a function is *given*, `draw`, uniform in [0, 1). Then
# a mask can be repeated, and tested.

# %% nbgrader={"grade": false, "grade_id": "imports", "locked": true, "schema_version": 3, "solution": false, "task": false}
import itertools

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Tensor

plt.rcParams.update({"figure.figsize": (3.5, 2.5), "figure.dpi": 120, "font.size": 8})
plt.rcParams["figure.constrained_layout.use"] = True

# %% [markdown]
# Two pictures to play with, made of discs: a face and a traffic light. They have 64 × 64 pixels and three channels.
# With patches of 8 × 8 pixels that is a grid of 8 × 8 patches, so 64 tokens.

# %% nbgrader={"grade": false, "grade_id": "pictures", "locked": true, "schema_version": 3, "solution": false, "task": false}
def disc(picture, row, column, radius, color):
    rows, columns = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")  # each [64, 64]
    inside = (rows - row) ** 2 + (columns - column) ** 2 <= radius**2
    picture[:, inside] = torch.tensor(color)[:, None]


images = torch.ones(2, 3, 64, 64)  # [B, C, H, W], white
for place in ((0, 32, 32, 28, (1.0, 0.8, 0.2)), (0, 24, 22, 5, (0.2, 0.2, 0.2)), (0, 24, 42, 5, (0.2, 0.2, 0.2)),
              (0, 42, 32, 10, (0.7, 0.2, 0.2)), (0, 37, 32, 10, (1.0, 0.8, 0.2))):
    disc(images[place[0]], *place[1:])
images[1, :, 2:62, 20:44] = 0.25  # the box of the traffic light
for row, color in ((13, (0.9, 0.2, 0.2)), (32, (0.95, 0.7, 0.1)), (51, (0.1, 0.6, 0.5))):
    disc(images[1], row, 32, 8, color)

# %% [markdown]
# ## Exercise 1 · Cut a picture into patches (3 points, 15 minutes)
#
# A picture `[C, H, W]` becomes a row of N = (H / p) · (W / p) patches of p × p pixels. The patches are numbered **row
# by row**, as one reads a page: number 0 is at the top left, and number 1 is its neighbour on the right. Each patch is
# flattened into P = C · p · p numbers: first all of channel 0 (again row by row), then all of channel 1, and so on.
# Patch i begins at the pixel in
#
# $$ \text{row} \quad p \left\lfloor \frac{i}{W / p} \right\rfloor \quad \text{and column} \quad
# p \left( i \bmod \frac{W}{p} \right). $$
#
# Pictures need not be square.

# %% nbgrader={"grade": false, "grade_id": "cut_patches", "locked": false, "schema_version": 3, "solution": true, "task": false}
def cut_patches(images: Tensor, patch_size: int) -> Tensor:
    """Cut pictures into patches, row by row.

    images: `[B, C, H, W]`; H and W are multiples of patch_size (pixels), and may differ.
    Returns `[B, N, P]` with N = H / patch_size * W / patch_size and P = C * patch_size ** 2; the numbers of a
    patch are in the order channel, row, column.
    """
    ### BEGIN SOLUTION
    B, C, H, W = images.shape
    p = patch_size
    x = images.reshape(B, C, H // p, p, W // p, p)
    x = x.permute(0, 2, 4, 1, 3, 5)  # [B, H / p, W / p, C, p, p]: the place first, then what is there
    return x.reshape(B, (H // p) * (W // p), C * p * p)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "cut_patches_check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
numbered = torch.arange(16.0).view(1, 1, 4, 4)  # one picture, one channel: pixel k has the value k
got = cut_patches(numbered, 2)
assert got.shape == (1, 4, 4), f"expected the shape [1, 4, 4], got {list(got.shape)}"
expected = [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
assert got[0].tolist() == expected, f"expected {expected}, got {got[0].tolist()}: is each row one square?"

# %% nbgrader={"grade": true, "grade_id": "cut_patches_hidden", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# Hidden tests: pictures with several channels, also pictures that are not square.
### BEGIN HIDDEN TESTS
def patches_one_by_one(images, p):
    rows, columns = range(0, images.shape[2], p), range(0, images.shape[3], p)
    return torch.stack([images[:, :, r : r + p, c : c + p].flatten(1) for r in rows for c in columns], dim=1)


sizes = (1, 3, 4, 4, 2), (3, 3, 6, 9, 3), (2, 2, 8, 4, 2), (2, 3, 5, 5, 1), (2, 1, 4, 12, 4)
for seed, (B, C, H, W, p) in enumerate(sizes):
    some = torch.rand(B, C, H, W, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    got = cut_patches(some.clone(), p)
    assert got.shape == (B, (H // p) * (W // p), C * p * p), f"the shape is wrong for {B, C, H, W} and patches of {p}"
    assert torch.equal(got, patches_one_by_one(some, p)), f"the patches are wrong for {B, C, H, W} and patches of {p}"
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
#
# `reshape` can split an axis in two: H becomes H / p rows of patches and p rows of pixels within each. Do this for H
# and for W. Then `permute` the six axes, so that those that say *which patch* come before those that say *what is in
# it*. A last `reshape` joins them. A `reshape` alone cannot do it, since it never changes the order of the numbers.
#
# </details>
#
# The figure shows your 64 patches of the first picture, put back with a gap between them. You should see a face behind
# a grid. If the order within a patch or the order of the patches were wrong, the face would be in pieces.

# %%
tiles = cut_patches(images, 8)[0].view(8, 8, 3, 8, 8)  # [row, column, C, p, p]
tiles = F.pad(tiles, (1, 1, 1, 1), value=0.6)  # a grey frame around each: [8, 8, 3, 10, 10]
plt.imshow(tiles.permute(0, 3, 1, 4, 2).reshape(80, 80, 3).numpy(), extent=(0, 8, 8, 0))
plt.gca().set(xlabel="column (patches)", ylabel="row (patches)")
plt.show()

# %% [markdown]
# ## Exercise 2 · Which patches stay: at random (3 points, 10 minutes)
#
# FLIP keeps K of the N patches at random: every picture gets **its own** choice, new in every step. Give each patch a
# random number, and keep the K patches with the **smallest** numbers. The answer is the list of their places, in
# **ascending** order, so that the tower reads what is left in the order of the picture.

# %% nbgrader={"grade": false, "grade_id": "random_places", "locked": false, "schema_version": 3, "solution": true, "task": false}
def random_places(draw: Tensor, K: int) -> Tensor:
    """Choose the places of K patches for each picture: those with the smallest draws.

    draw: `[B, N]`, uniform in [0, 1), one number for each patch of each picture; 1 <= K <= N.
    Returns integers (int64) `[B, K]` in 0 ... N - 1, ascending in each row.
    """
    ### BEGIN SOLUTION
    smallest = draw.argsort(dim=1)[:, :K]  # [B, K], the smallest draw first
    return smallest.sort(dim=1).values
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "random_places_check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
draw = torch.tensor([[0.9, 0.1, 0.5, 0.3, 0.7], [0.2, 0.8, 0.6, 0.4, 0.0]])  # two pictures, five patches
got = random_places(draw, 3)
assert got.shape == (2, 3), f"expected the shape [2, 3], got {list(got.shape)}"
expected = [[1, 2, 3], [0, 3, 4]]
assert got.tolist() == expected, f"expected {expected}, got {got.tolist()}: smallest? ascending? row by row?"

# %% nbgrader={"grade": true, "grade_id": "random_places_hidden", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# Hidden tests: other draws, other sizes, from one patch to all of them.
### BEGIN HIDDEN TESTS
for seed, (B, N, K) in enumerate(((1, 4, 1), (4, 9, 3), (3, 16, 4), (5, 64, 48), (2, 6, 6))):
    draw = torch.rand(B, N, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    got = random_places(draw.clone(), K)
    assert got.dtype == torch.int64, "the places are to be integers of 64 bits, since gather needs them"
    expected = [sorted(sorted(range(N), key=row.__getitem__)[:K]) for row in draw.tolist()]
    assert got.tolist() == expected, f"the places are wrong for {B} pictures, {K} of {N} patches"
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
#
# `draw.argsort(dim=1)` lists the places of each row, the place of the smallest draw first. The first K of them are the
# right ones, but in the order of their draws. Sort once more.
#
# </details>

# %% [markdown]
# ## Exercise 3 · What the tower gets (3 points, 15 minutes)
#
# Every token needs to say where in the picture it comes from. A ViT adds a **position embedding** to each: row i of a
# table `[N, W]` belongs to place i *of the whole picture*. With x for the tokens, e for the table and k for the places
# that stay, the tower gets
#
# $$ y_{b, j} = x_{b,\, k_{b, j}} + e_{k_{b, j}}, \qquad j = 0, \ldots, K - 1. $$
#
# What is left out is *gone*: no zero and no mask token stands in its place, and so it costs nothing. (FLIP, section 3;
# a masked autoencoder would have to rebuild what is missing, CLIP need not.) And when the model is measured, nothing is
# left out, whatever the places are. FLIP has tried it: with the masks left on at inference, the accuracy on ImageNet
# falls by 7.3 points.

# %% nbgrader={"grade": false, "grade_id": "visible_tokens", "locked": false, "schema_version": 3, "solution": true, "task": false}
def visible_tokens(tokens: Tensor, positions: Tensor, places: Tensor, training: bool) -> Tensor:
    """Add the position embeddings and, in training, keep only the tokens at the given places.

    tokens: `[B, N, W]`, the embedded patches of B pictures. positions: `[N, W]`, one row for each place of a picture.
    places: integers `[B, K]`, those that stay, in each picture others. The arguments are left as they are.
    Returns `[B, K, W]` in training, and all tokens `[B, N, W]` otherwise.
    """
    ### BEGIN SOLUTION
    placed = tokens + positions  # [B, N, W]: a new tensor
    if not training:
        return placed
    index = places[:, :, None].expand(-1, -1, placed.shape[2])  # [B, K, W]
    return placed.gather(1, index)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "visible_tokens_check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
tokens = torch.tensor([[10.0, 20, 30, 40], [50, 60, 70, 80]])[:, :, None]  # [2, 4, 1]
positions = torch.tensor([1.0, 2, 3, 4])[:, None]  # [4, 1]
got = visible_tokens(tokens, positions, torch.tensor([[1, 3], [0, 2]]), training=True)
assert got.shape == (2, 2, 1), f"expected the shape [2, 2, 1], got {list(got.shape)}"
expected = [[22, 44], [51, 73]]
got = got[:, :, 0].tolist()
assert got == expected, f"expected {expected}, got {got}: has each token its own position?"

# %% nbgrader={"grade": true, "grade_id": "visible_tokens_hidden", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# Hidden tests: other sizes, also training=False, the gradients, and that the arguments are left as they are.
### BEGIN HIDDEN TESTS
for seed, (B, N, W, K) in enumerate(((1, 4, 3, 2), (3, 9, 4, 5), (4, 16, 2, 1), (2, 6, 5, 6))):
    rand = torch.Generator().manual_seed(seed)
    x = torch.randn(B, N, W, dtype=torch.float64, generator=rand).requires_grad_()
    table = torch.randn(N, W, dtype=torch.float64, generator=rand).requires_grad_()
    chosen = torch.stack([torch.randperm(N, generator=rand)[:K].sort().values for _ in range(B)])  # [B, K]
    weight = torch.randn(B, K, W, dtype=torch.float64, generator=rand)
    before, table_before = x.detach().clone(), table.detach().clone()
    got = visible_tokens(x, table, chosen, training=True)
    expected = torch.stack([x[b, chosen[b]] + table[chosen[b]] for b in range(B)])
    torch.testing.assert_close(got, expected, atol=1e-10, rtol=0)
    for mine, right in zip(*(torch.autograd.grad((y * weight).sum(), (x, table)) for y in (got, expected))):
        torch.testing.assert_close(mine, right, atol=1e-10, rtol=0)
    got = visible_tokens(x, table, chosen, training=False)
    assert got.shape == (B, N, W), "nothing is left out when the model is measured"
    torch.testing.assert_close(got, x + table, atol=1e-10, rtol=0)
    for training in (True, False):
        visible_tokens(x.detach(), table.detach(), chosen, training=training)
        assert torch.equal(x, before) and torch.equal(table, table_before), "the arguments have been changed"
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
#
# Add first, while every token is at its place, and choose afterwards. `x.gather(1, index)` picks along axis 1 and needs
# an index of the shape of the result, here `[B, K, W]`: the same place for all W numbers of a token. `expand` makes
# that of `places[:, :, None]`. A loop over the pictures does it, too. `tokens += positions` would change the caller's
# tensor.
#
# </details>

# %% [markdown]
# ## Exercise 4 · A grid and a block (4 points, 20 minutes)
#
# Random places are not the only way. CLIPA's Figure 2 has two masks that keep some geometry. The patches form a square
# of `side` × `side`; the patch in row r and column c has the place r · side + c.
#
# - **Grid.** Cut the square into windows of w × w patches and keep **one patch of each window**. *Where* in the window
#   is drawn once for each picture. With w = 2 a quarter of the patches stays.
# - **Block.** Keep **one square** of n × n patches; where it begins is drawn for each picture. All beginnings at which
#   the block fits must be possible, and equally likely. Count them well.
#
# Each picture has two numbers in `draw`: the first for the row, the second for the column. To choose one of m
# possibilities with a number u in [0, 1), take
#
# $$ \lfloor u \cdot m \rfloor \in \{0, \ldots, m - 1\}. $$
#
# (CLIPA's fourth way makes the picture smaller and keeps the patch size. You find it in notebook 11.)

# %% nbgrader={"grade": false, "grade_id": "grid_places", "locked": false, "schema_version": 3, "solution": true, "task": false}
def grid_places(draw: Tensor, side: int, window: int) -> Tensor:
    """Choose the places of one patch of each window, the same place in every window of a picture.

    draw: `[B, 2]`, uniform in [0, 1): for the row and for the column within the window.
    side: patches in a row of the picture, a multiple of window; window: patches in a row of a window.
    Returns integers (int64) `[B, K]` with K = (side / window) ** 2, ascending in each row.
    """
    ### BEGIN SOLUTION
    first = (draw * window).long()  # [B, 2]
    steps = torch.arange(0, side, window)  # [n]: where the windows begin
    rows, columns = first[:, :1] + steps, first[:, 1:] + steps  # each [B, n]
    return (rows[:, :, None] * side + columns[:, None, :]).flatten(1)  # [B, n * n]
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "grid_places_check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
got = grid_places(torch.tensor([[0.0, 0.6], [0.7, 0.2]]), side=4, window=2).tolist()
expected = [[1, 3, 9, 11], [4, 6, 12, 14]]
assert got == expected, f"expected {expected}, got {got}: the first number of a draw is for the row"
### BEGIN HIDDEN TESTS
for seed, (B, side, window) in enumerate(((1, 4, 2), (6, 6, 3), (5, 8, 2), (4, 8, 4), (3, 4, 1), (4, 3, 3))):
    draw = torch.rand(B, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    draw = torch.cat([draw, torch.tensor([[0.0, 0.999], [0.999, 0.0]])])
    got = grid_places(draw.clone(), side, window)
    assert got.dtype == torch.int64, "the places are to be integers of 64 bits"
    for (u, v), places in zip(draw.tolist(), got.tolist()):
        row, column = int(u * window), int(v * window)
        expected = [p for p in range(side**2) if p // side % window == row and p % side % window == column]
        assert places == expected, f"the grid is wrong for side {side}, window {window}, draw {u:.3f}, {v:.3f}"
### END HIDDEN TESTS

# %% nbgrader={"grade": false, "grade_id": "block_places", "locked": false, "schema_version": 3, "solution": true, "task": false}
def block_places(draw: Tensor, side: int, n: int) -> Tensor:
    """Choose the places of one square block of n x n patches.

    draw: `[B, 2]`, uniform in [0, 1): for the first row and for the first column of the block.
    side: patches in a row of the picture; 1 <= n <= side.
    Returns integers (int64) `[B, n * n]`, ascending in each row.
    """
    ### BEGIN SOLUTION
    first = (draw * (side - n + 1)).long()  # [B, 2]: 0 ... side - n
    axis = torch.arange(n)
    rows, columns = first[:, :1] + axis, first[:, 1:] + axis  # each [B, n]
    return (rows[:, :, None] * side + columns[:, None, :]).flatten(1)  # [B, n * n]
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "block_places_check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
got = block_places(torch.tensor([[0.1, 0.5], [0.4, 0.2]]), side=4, n=2).tolist()
expected = [[1, 2, 5, 6], [4, 5, 8, 9]]
assert got == expected, f"expected {expected}, got {got}: at how many places can a block of 2 begin in a row of 4?"
### BEGIN HIDDEN TESTS
for seed, (B, side, n) in enumerate(((1, 4, 2), (6, 6, 3), (5, 8, 4), (4, 8, 7), (3, 5, 5), (4, 5, 1))):
    draw = torch.rand(B, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    draw = torch.cat([draw, torch.tensor([[0.0, 0.999], [0.999, 0.0]])])
    got = block_places(draw.clone(), side, n)
    assert got.dtype == torch.int64, "the places are to be integers of 64 bits"
    for (u, v), places in zip(draw.tolist(), got.tolist()):
        row, column = int(u * (side - n + 1)), int(v * (side - n + 1))
        expected = [p for p in range(side**2) if 0 <= p // side - row < n and 0 <= p % side - column < n]
        assert places == expected, f"the block is wrong for side {side}, n {n}, draw {u:.3f}, {v:.3f}"
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
#
# Make the list of rows and the list of columns of each picture, each `[B, n]`, and combine them: `rows[:, :, None]` and
# `columns[:, None, :]` together give every pair, `[B, n, n]`. A block of n = side fits at one place, not at zero.
#
# </details>
#
# The figure shows what a tower sees with a quarter of the patches; each row is one picture. Grey patches are not there.
# You should see 16 patches in each masked picture: scattered, evenly spread, or in one piece. The two rows should have
# different masks.

# %%
def without_the_rest(images, places):
    seen = torch.zeros(len(images), 64).scatter(1, places, 1).view(-1, 1, 8, 8)  # [B, 1, 8, 8]: 1 where a patch stays
    return torch.where(F.interpolate(seen, scale_factor=8) == 1, images, torch.tensor(0.6))  # 0.6: light grey


draw = torch.rand(2, 64, generator=torch.Generator().manual_seed(12))
grid, block = grid_places(draw[:, :2], 8, 2), block_places(draw[:, :2], 8, 4)
chosen = {"random": random_places(draw, 16), "grid": grid, "block": block}
views = {"all 64": images} | {way: without_the_rest(images, places) for way, places in chosen.items()}

# %%
figure, axes = plt.subplots(2, 4, figsize=(5.5, 3))
for column, (way, pictures) in enumerate(views.items()):
    for row in range(2):
        axes[row, column].imshow(pictures[row].permute(1, 2, 0).numpy())
        axes[row, column].set(xticks=[], yticks=[], title=way if row == 0 else "")
axes[0, 0].set_ylabel("picture 0"), axes[1, 0].set_ylabel("picture 1")
plt.show()

# %% [markdown]
# ## Exercise 5 · Shorter captions (4 points, 25 minutes)
#
# A caption is a row of ids: START, its **content**, END, and then padding up to the context length. CLIPA's Figure 7
# compares ways to shorten it to a **budget** of tokens. The budget counts START and END, so a budget of 5 leaves three
# tokens of content. One function can do nearly all of the ways, if it is told in which **order** tokens stay: the
# content tokens with the smallest numbers in `order` are kept, and **of equals the first**. *Random* is an order of
# random numbers. *Truncation* is an order of equal numbers. *Syntax* is an order of parts of speech: 1 for nouns, 2 for
# adjectives, 3 for verbs, 4 for the rest.
#
# Four things are easy to get wrong.
#
# - START and END always stay; END says to the text tower where the caption ends.
# - Padding goes first. A caption that fits stays whole. (FLIP masks half of the text: the accuracy falls by 2.2 points
#   if padding may be kept, and by 0.4 if it goes first.) The numbers that `order` has at START, END and padding mean
#   nothing.
# - What is kept stays in the order of the caption, whatever the numbers are.
# - The result has `budget` columns. A caption that is still shorter gets its padding after END.

# %% nbgrader={"grade": false, "grade_id": "special_tokens", "locked": true, "schema_version": 3, "solution": false, "task": false}
PAD, START, END = 0, 1, 2  # ids of content are 3 and more

# %% nbgrader={"grade": false, "grade_id": "shorten_captions", "locked": false, "schema_version": 3, "solution": true, "task": false}
def shorten_captions(ids: Tensor, order: Tensor, budget: int) -> Tensor:
    """Shorten captions to at most `budget` tokens: START, the kept content in its order, END, padding.

    ids: integers (int64) `[B, L]`, rows of START, content (3 and more), END, PAD ...; 3 <= budget <= L.
    order: float `[B, L]`, any numbers; content with the smallest stays, of equals the first.
    Returns integers (int64) `[B, budget]`.
    """
    ### BEGIN SOLUTION
    shortened = torch.full((len(ids), budget), PAD)
    for caption, numbers, row in zip(ids, order, shortened):
        places = (caption > END).nonzero()[:, 0]  # where the content is
        best = numbers[places].argsort(stable=True)[: budget - 2]  # stable: of equals the first
        kept = caption[places[best.sort().values]]  # back in the order of the caption
        row[0], row[1 : 1 + len(kept)], row[1 + len(kept)] = START, kept, END
    return shortened
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "shorten_captions_check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
ids = torch.tensor([[1, 5, 6, 7, 8, 2, 0, 0], [1, 9, 4, 2, 0, 0, 0, 0]])
order = torch.tensor([[0.0, 0.9, 0.2, 0.8, 0.1, 0.0, 0.0, 0.0], [0.0, 0.7, 0.3, 0.2, 0.1, 0.0, 0.5, 0.4]])
got = shorten_captions(ids, order, 5).tolist()
expected = [[1, 6, 7, 8, 2], [1, 9, 4, 2, 0]]
assert got[0] == expected[0], f"expected {expected[0]}, got {got[0]}: START, three of the content in their order, END"
assert got[1] == expected[1], f"expected {expected[1]}, got {got[1]}: this caption fits and stays whole"

# %% nbgrader={"grade": true, "grade_id": "shorten_captions_hidden", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Hidden tests: random orders, parts of speech, truncation; captions of all lengths, also without any content.
### BEGIN HIDDEN TESTS
def shorten_one(caption, numbers, budget):
    places = [i for i, token in enumerate(caption) if token > END]
    kept = sorted(sorted(places, key=lambda i: numbers[i])[: budget - 2])
    return ([START] + [caption[i] for i in kept] + [END] + [PAD] * budget)[:budget]


sizes = (1, 8, 4, 90), (9, 8, 3, 5), (20, 24, 8, 9), (20, 16, 16, 9), (12, 77, 16, 300)
for seed, (B, L, budget, highest) in enumerate(sizes):
    rand = torch.Generator().manual_seed(seed)
    lengths = [L - 2, 0, 1, *torch.randint(0, L - 1, (B,), generator=rand).tolist()]  # tokens of content
    some = torch.randint(3, highest, (len(lengths), L), generator=rand)  # with few ids, words are repeated
    for row, length in zip(some, lengths):
        row[0], row[1 + length], row[2 + length :] = START, END, PAD
    ways = {"random": torch.rand(some.shape, generator=rand), "truncation": torch.zeros(some.shape),
            "syntax": torch.randint(1, 5, some.shape, generator=rand).float(),
            "any numbers": 1000 * torch.randn(some.shape, generator=rand)}
    for way, numbers in ways.items():
        got = shorten_captions(some.clone(), numbers.clone(), budget)
        expected = [shorten_one(*both, budget) for both in zip(some.tolist(), numbers.tolist())]
        assert got.dtype == torch.int64 and got.shape == (len(some), budget), "the type or the shape is wrong"
        assert got.tolist() == expected, f"the captions are wrong: order {way}, {L} tokens, budget {budget}"
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
#
# A loop over the captions is all right. For one caption: find the places of its content; sort them by their numbers
# (`argsort(stable=True)`, or Python's `sorted`, which is always stable); keep the first `budget - 2`; sort these by
# place. Then build the row. If you sort ids instead of places, a word that occurs twice will fool you.
#
# </details>
#
# Does the order matter? Here are 216 captions of three kinds. Each names an object, its colour and a place. With a
# budget of 4, so two words, in how many does the object stay, and in how many its colour?

# %% nbgrader={"grade": false, "grade_id": "captions", "locked": true, "schema_version": 3, "solution": false, "task": false}
NOUNS = ["car", "dog", "boat", "kite", "chair", "bird", "photo", "street", "garden", "beach"]
ADJECTIVES = ["red", "blue", "green", "yellow"]
TEMPLATES = ["a photo of a {} {} on the {}", "there is a {} {} on the {}", "{} {} on the {}"]
choices = list(itertools.product(TEMPLATES, ADJECTIVES, NOUNS[:6], NOUNS[7:]))  # 3 * 4 * 6 * 3
captions = [template.format(*words).split() for template, *words in choices]
vocabulary = sorted({word for caption in captions for word in caption})
caption_ids = torch.zeros(len(captions), 11, dtype=torch.long)  # [B, L], all padding
for row, caption in zip(caption_ids, captions):
    row[: len(caption) + 2] = torch.tensor([START, *(3 + vocabulary.index(word) for word in caption), END])
part = {word: 1 if word in NOUNS else 2 if word in ADJECTIVES else 3 if word == "is" else 4 for word in vocabulary}
priority = torch.tensor([9, 9, 9, *(part[word] for word in vocabulary)]).float()[caption_ids]  # [B, L]

# %%
draw = torch.rand(caption_ids.shape, generator=torch.Generator().manual_seed(0))
ways = {"truncation": torch.zeros(caption_ids.shape), "random": draw, "syntax": priority}
for which, (what, style) in enumerate({"colour": {"hatch": "//"}, "object": {}}.items()):
    wanted = torch.tensor([3 + vocabulary.index(choice[1 + which]) for choice in choices])[:, None]  # [B, 1]
    stays = [(shorten_captions(caption_ids, order, 4) == wanted).any(1) for order in ways.values()]  # each [B]
    style |= {"color": f"C{which}", "edgecolor": "k", "lw": 0.5, "label": f"{what} stays"}
    plt.bar([i + 0.4 * which for i in range(3)], [100 * found.float().mean().item() for found in stays], 0.38, **style)
plt.xticks([0.2, 1.2, 2.2], ways)
plt.gca().set(xlabel="how captions are shortened", ylabel="captions (%)", ylim=(0, 119))
plt.legend(frameon=False, loc="upper left", ncols=2)
plt.show()

# %% [markdown]
# You should see that syntax keeps every object and no colour. Truncation keeps both in the third of the captions that
# begin with them, and neither elsewhere. At random, each has its share. A model that is asked for objects gains from
# syntax; one that is asked for colours loses (notebook 12).

# %% [markdown]
# ## Exercise 6 · What it saves (3 points, 15 minutes)
#
# A product of an m × k matrix and a k × n matrix takes **2 m k n FLOPs**: multiplications and additions are counted
# apart. A transformer block on N tokens of width W is made of these products:
#
# | product | shapes |
# |---|---|
# | queries, keys and values | N × W times W × 3W |
# | scores, each token with each other | N × W times W × N |
# | values, weighted by the scores | N × N times N × W |
# | output of attention | N × W times W × W |
# | first layer of the MLP | N × W times W × 4W |
# | second layer of the MLP | N × 4W times 4W × W |
#
# Norms, the softmax, GELU and additions are small and are left out. The number of heads changes nothing. Some of the
# products grow with N, the others with N². Add up the two kinds **separately**.

# %% nbgrader={"grade": false, "grade_id": "block_flops", "locked": false, "schema_version": 3, "solution": true, "task": false}
def block_flops(N: int, W: int) -> tuple[int, int]:
    """Count the FLOPs of one transformer block, forward, on one sequence of tokens, `[N, W]`.

    N: tokens; W: width. A multiplication and an addition are two FLOPs.
    Returns two integers: the part that grows with N, and the part that grows with N ** 2.
    """
    ### BEGIN SOLUTION
    linear = 2 * N * W * (3 * W + W + 4 * W + 4 * W)  # 24 N W^2
    quadratic = 2 * N * N * W + 2 * N * N * W  # 4 N^2 W
    return linear, quadratic
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "block_flops_check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
got = block_flops(196, 768)  # ViT-B/16 at 224 pixels: 14 x 14 patches
assert got[0] == 2_774_532_096, f"expected 2,774,532,096 for the part with N, got {got[0]:,}: four products?"
assert got[1] == 118_013_952, f"expected 118,013,952 for the part with N * N, got {got[1]:,}: two products?"
### BEGIN HIDDEN TESTS
for N, W in ((1, 1), (7, 5), (64, 128), (196, 384), (50, 768), (257, 1280), (4096, 64)):
    products = [(N, W, 3 * W), (N, W, N), (N, N, W), (N, W, W), (N, W, 4 * W), (N, 4 * W, W)]
    each = [2 * m * k * n for m, k, n in products]
    got = tuple(block_flops(N, W))
    assert got == (sum(each) - each[1] - each[2], each[1] + each[2]), f"the FLOPs are wrong for N = {N} and W = {W}"
### END HIDDEN TESTS

# %% [markdown]
# Now keep the share `keep` of the tokens (1/4, say). How many times less does the block cost? Your function gets the
# two parts of the cost of *all* tokens, so it does not need your `block_flops`.

# %% nbgrader={"grade": false, "grade_id": "speed_up", "locked": false, "schema_version": 3, "solution": true, "task": false}
def speed_up(linear: float, quadratic: float, keep: float) -> float:
    """Say how many times less a block costs if only a part of the tokens is kept.

    linear, quadratic: FLOPs of the parts that grow with N and with N ** 2, with all tokens; not both zero.
    keep: the share of the tokens that stays, in (0, 1]. Returns the old cost divided by the new one, at least 1.
    """
    ### BEGIN SOLUTION
    return (linear + quadratic) / (keep * linear + keep**2 * quadratic)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "speed_up_check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
got = speed_up(2_774_532_096, 118_013_952, 0.25)  # the block from above, with 49 of its 196 tokens
assert abs(got - 4.1263) < 1e-3, f"expected 4.1263, got {got:.4f}: what becomes of N * N if N is a quarter?"
### BEGIN HIDDEN TESTS
assert abs(speed_up(5.0, 0.0, 0.125) - 8) < 1e-10 and abs(speed_up(0.0, 5.0, 0.125) - 64) < 1e-10
sizes = (3.0, 1.0, 64, 16), (1.0, 9.0, 10, 5), (2e9, 1e8, 196, 7), (1.0, 1.0, 8, 8), (0.5, 7.5, 100, 90)
for linear, quadratic, N, kept in sizes:
    per_token, per_pair = linear / N, quadratic / N**2
    expected = (linear + quadratic) / sum(per_token + per_pair * kept for _ in range(kept))  # token by token
    got = speed_up(linear, quadratic, kept / N)
    assert abs(got - expected) < 1e-10 * expected, f"expected {expected:.6f} for {kept} of {N} tokens, got {got:.6f}"
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
#
# In `block_flops`, write one line for each product and look whether N occurs once or twice. For `speed_up`: if N
# becomes keep · N, what becomes of a cost a · N, and of a cost b · N²? The two extremes are easy to check: a block that
# is all linear, and one that is all quadratic.
#
# </details>
#
# The figure shows the speed-up at keep = 1/4 for two widths. You should see lines that begin near 4 and climb towards
# 16, the narrower one first: with more tokens, more of the cost has N² in it. The crosses are towers that are in use:
# H/14 at 224 pixels has 256 tokens, B/16 has 196. They lie near 4. So a quarter of the tokens costs about a quarter,
# and not a sixteenth.

# %%
tokens = [2**k for k in range(4, 17)]
for W, color, style in ((768, "C0", "-"), (1280, "C1", "--")):
    plt.plot(tokens, [speed_up(*block_flops(N, W), 0.25) for N in tokens], style, color=color, label=f"width {W}")
for N, W, color in ((196, 768, "C0"), (256, 1280, "C1")):
    plt.plot(N, speed_up(*block_flops(N, W), 0.25), "x", color=color, ms=8)
for limit in (4, 16):
    plt.axhline(limit, color="gray", ls=":", lw=1)
plt.gca().set(xscale="log", xlabel="tokens N, before masking", ylabel="speed-up at keep = 1/4 (times)", ylim=(0, 17))
plt.yticks([0, 4, 8, 12, 16])
plt.legend(frameon=False, loc="center left")
plt.show()

# %% [markdown]
# ## What you have now
#
# You have all that CLIPA leaves out, and the rule by which it saves: patches, three masks, positions that travel with
# their patches, captions that keep their ends, and the price. In a training loop you would make a new `draw` in every
# step, and none at evaluation. The package's versions of these functions are in `minclip/masking.py` and
# `experiments/cost.py`.
#
# **Next.** What does a tower lose that learns this way, and is it less for larger towers? Go on with [11 · Fewer image
# tokens](../../../notebooks/11_fewer_image_tokens.ipynb), section 4, and with [13 · Full-token
# fine-tuning](../../../notebooks/13_full_token_fine_tuning.ipynb).
#
# **Further questions** (not graded).
#
# - CLIPA has one more way to shorten captions: a *block* of neighbouring words. Which `order` makes `shorten_captions`
#   keep the block that begins at a given word? And at how many words may it begin?
# - The middle of a picture is covered by more blocks than its corners. How often does your `block_places` show each
#   patch of an 8 × 8 grid, with n = 4? Photographers put things in the middle: does this help or harm?
# - With the time that is saved, one can see four times as many pictures, or take a batch that is four times as large.
#   What would you do?
