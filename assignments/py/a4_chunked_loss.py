# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A4 · The chunked loss across processes
#
# **Paper.** SigLIP ([Zhai et al., 2023](https://arxiv.org/abs/2303.15343)), section 3.3 and Figure 1: the sigmoid loss on several
# devices, in blocks.
#
# **What you will learn.** How to compute a loss over all B² pairs of a batch if nobody may hold B² numbers. You cut the table
# into tiles, let the captions travel round a ring of devices, write the gradient of a tile by hand, and count what
# is sent.
#
# **What you need first.** [04 · The sigmoid loss](../../../notebooks/04_sigmoid_loss.ipynb). Section 1 of [05 · The chunked
# loss](../../../notebooks/05_chunked_loss.ipynb) shows the ring in pictures; the rest of it is best read afterwards.
#
# **Time.** About 115 minutes: 100 for the exercises, 15 for reading.
#
# **Points.** 19
#
# **How it is graded.** Below each exercise stands a check that you can run. Hidden tests come on top: your function is
# also called with other numbers. The test cells are restored before grading, so editing them changes nothing. Write your code where
# `# YOUR CODE HERE` stands, and remove the line with `NotImplementedError`.
#
# **How to hand in.** Keep the file's name. Before you hand in, restart the kernel and run all cells.
#
# One convention, the same as in the notebooks: `logit_scale` is the *logarithm* of the scale t. A score is
# $s_{ij} = t\, x_i \cdot y_j + b$, with $t = e^{\mathrm{logit\_scale}}$ and $b$ the `logit_bias`. $x_i$ is the vector of picture
# i, $y_j$ that of caption j, both of length 1.

# %% nbgrader={"grade": false, "grade_id": "imports", "locked": true, "schema_version": 3, "solution": false, "task": false}
import ctypes
import queue
import threading
import time
from collections.abc import Callable

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Tensor

plt.rcParams.update({"figure.figsize": (3.5, 2.5), "figure.dpi": 150, "font.size": 8})


def make_batch(pairs: int, dim: int, seed: int) -> tuple[Tensor, Tensor]:
    """Pictures and captions `[pairs, dim]`, float64, of length 1; the two vectors of a pair are alike."""
    generator = torch.Generator().manual_seed(seed)
    shared, one, two = torch.randn(3, pairs, dim, generator=generator, dtype=torch.float64)
    return F.normalize(shared + one, dim=1), F.normalize(shared + two, dim=1)


def largest_difference(got: Tensor, expected: Tensor) -> float:
    """The largest difference between two tensors, number by number; infinity if their shapes are not the same."""
    return (got - expected).detach().abs().max().item() if got.shape == expected.shape else float("inf")


# %% [markdown]
# ## Exercise 1 · The loss of one tile (3 points, 10 minutes)
#
# The sigmoid loss asks of every cell of the table: does this caption belong to this picture? With the label $z_{ij}$, which
# is 1 for a right pair and -1 for all others, the loss of a batch is (SigLIP, Algorithm 1)
#
# $$\mathcal{L} = -\frac{1}{B} \sum_{i=1}^{B} \sum_{j=1}^{B} \log \sigma(z_{ij}\, s_{ij}).$$
#
# A **tile** is a rectangle of this table, with m pictures and n captions. There are two kinds. An **own** tile has
# the same pairs in its rows and in its columns, so its diagonal is right and the rest is wrong. In a **foreign** tile, pictures
# and captions come from different pairs. All of it is wrong, its diagonal too.
#
# Write the *sum* of the cells' losses of one tile. The division by B comes later, when all tiles are there.

# %% nbgrader={"grade": false, "grade_id": "tile_loss", "locked": false, "schema_version": 3, "solution": true, "task": false}
def tile_loss(
    image_features: Tensor, text_features: Tensor, logit_scale: Tensor, logit_bias: Tensor, own: bool
) -> Tensor:
    """The sum of the sigmoid losses of all cells of one tile.

    image_features: `[m, D]`, text_features: `[n, D]`, of length 1. logit_scale: scalar, the log of t.
    logit_bias: scalar, added to every score. own: True if row i and column i are a pair (then m = n),
    False if the tile holds wrong pairs only.
    Returns a scalar, in nats, not divided by anything. It is finite for scores of -1,000 and 1,000, too.
    """
    ### BEGIN SOLUTION
    scores = logit_scale.exp() * image_features @ text_features.T + logit_bias  # [m, n]
    labels = -torch.ones_like(scores)  # [m, n]
    if own:
        labels.fill_diagonal_(1)
    return -F.logsigmoid(labels * scores).sum()
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "tile_loss_check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# Two pairs with t = 2 and b = -1. A matching cell then has the score 1, the others have -1.
two = torch.eye(2, dtype=torch.float64)
t, b = torch.tensor([2.0, -1.0], dtype=torch.float64)
got = float(tile_loss(two, two, t.log(), b, own=True))
assert abs(got - 1.2530) < 1e-4, f"own tile: expected 1.2530, got {got:.4f}: is it the sum of all four cells?"
got = float(tile_loss(two, two, t.log(), b, own=False))
assert abs(got - 3.2530) < 1e-4, f"foreign tile: expected 3.2530, got {got:.4f}: which of its cells are right pairs?"

# %% nbgrader={"grade": true, "grade_id": "tile_loss_hidden", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# Hidden tests: other tiles, also some that are not square; large scores.
### BEGIN HIDDEN TESTS
for seed, (m, n, own) in enumerate(((1, 1, 1), (1, 1, 0), (5, 5, 1), (5, 5, 0), (2, 7, 0), (6, 3, 0))):
    own = bool(own)
    x, y = make_batch(max(m, n), 4, seed)
    x, y = x[:m].requires_grad_(), y[:n].requires_grad_()
    log_t, bias = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (0.3 * seed, -seed / 2))
    targets = torch.eye(m, n, dtype=torch.float64) if own else torch.zeros(m, n, dtype=torch.float64)
    scores = torch.einsum("md,nd->mn", x, y) * torch.exp(log_t) + bias
    expected = F.binary_cross_entropy_with_logits(scores, targets, reduction="sum")
    got = tile_loss(x, y, log_t, bias, own)
    error = largest_difference(got, expected)
    assert error < 1e-10, f"tile of {m} x {n}, own={own}: {got.tolist()} is off by {error:.3g}"
    inputs = (x, y, log_t, bias)
    for ours, theirs in zip(torch.autograd.grad(got, inputs), torch.autograd.grad(expected, inputs)):
        assert largest_difference(ours, theirs) < 1e-10, f"tile of {m} x {n}, own={own}: a gradient differs"
large = tile_loss(torch.eye(2), -torch.eye(2), torch.tensor(1000.0).log(), torch.tensor(0.0), True)  # float32
assert abs(float(large) - 2001.3863) < 0.01, f"scores of -1,000: expected 2001.3863, got {float(large)}"
assert torch.isfinite(tile_loss(torch.eye(2), torch.eye(2), torch.tensor(1000.0).log(), torch.tensor(0.0), False))
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
#
# Make a table of labels first: -1 everywhere, and 1 on the diagonal if the tile is own. `F.logsigmoid` takes the logarithm without
# ever forming the tiny σ, which would become 0 for a score of -1,000, and its logarithm minus infinity.
#
# </details>

# %% [markdown]
# **Figure 1.** Thirty-two pairs in four blocks of eight, with the paper's start: t = 10, b = -10. Each square shows the sum
# of one tile. You should see the diagonal stand out: a bias of -10 says "no" to everything, and only the own tiles hold cells
# in which this is wrong.

# %%
images, texts = make_batch(32, 16, seed=0)
start = torch.tensor(10.0).double().log(), torch.tensor(-10.0).double()
x, y = images.split(8), texts.split(8)  # four blocks each
table = torch.tensor([[tile_loss(x[d], y[e], *start, own=d == e) for e in range(4)] for d in range(4)])
plt.imshow(table.numpy(), cmap="viridis")
plt.colorbar(label="loss of the tile (nats)")
plt.gca().set(xlabel="block of captions", ylabel="block of pictures", xticks=range(4), yticks=range(4))
plt.show()

# %% [markdown]
# ## Exercise 2 · The sum of all tiles (3 points, 15 minutes)
#
# The loss is a sum over cells, so it is a sum over tiles, and each tile can be thrown away as soon as its sum is known. Cut B
# rows and B columns into pieces of `chunk_size`. The last piece is shorter if B cannot be divided by it.
#
# So that this exercise does not depend on the first one, your function gets the loss of a tile as an argument:
# `tile(images, texts, own)` returns a scalar. You decide which rows and columns it gets, and whether the tile is own. No
# tile may be larger than `chunk_size` × `chunk_size`.
#
# For the check we use a **toy tile**. It is no loss, it only makes visible who met whom: it adds up all products of
# a picture's number and a caption's number, and one half for each picture if the tile is said to be own.

# %% nbgrader={"grade": false, "grade_id": "toy_tile", "locked": true, "schema_version": 3, "solution": false, "task": false}
def toy_tile(images: Tensor, texts: Tensor, own: bool) -> Tensor:
    """Not a loss: all products of a picture and a caption, added up, and 0.5 for each picture if the tile is own."""
    return (images @ texts.T).sum() + 0.5 * own * len(images)


# %% nbgrader={"grade": false, "grade_id": "tiled_loss", "locked": false, "schema_version": 3, "solution": true, "task": false}
def tiled_loss(
    image_features: Tensor, text_features: Tensor, chunk_size: int, tile: Callable[[Tensor, Tensor, bool], Tensor]
) -> Tensor:
    """The loss of a whole batch, tile by tile.

    image_features, text_features: `[B, D]`, pair i in row i of both. chunk_size: the largest side of a tile, 1 or
    more; it need not divide B and may be larger than B. tile(images `[m, D]`, texts `[n, D]`, own) returns the sum of
    the cells of a tile, a scalar.
    Returns the sum over all B x B cells divided by B: a scalar tensor that one can call `backward` on.
    """
    ### BEGIN SOLUTION
    total = 0.0
    for top in range(0, len(image_features), chunk_size):
        images = image_features[top : top + chunk_size]  # [m, D]
        for left in range(0, len(text_features), chunk_size):
            texts = text_features[left : left + chunk_size]  # [n, D]
            total = total + tile(images, texts, top == left)
    return total / len(image_features)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "tiled_loss_check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# Seven pairs, tiles of 3. Each picture is the number 1, the captions are 1, 10, 100, ..., 1,000,000. So each digit of the
# result counts how often a picture met one caption: once, if all is right. The .5 says that it was in one own tile.
ones, digits = torch.ones(7, 1).double(), 10.0 ** torch.arange(7).double()[:, None]  # [7, 1]
got = float(tiled_loss(ones, digits, 3, toy_tile))
assert abs(got - 1111111.5) < 1e-4, f"expected 1111111.5, got {got}: is the last piece there, and the sum divided by 7?"

# %% nbgrader={"grade": true, "grade_id": "tiled_loss_hidden", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# Hidden tests: the real loss and its gradients, other sizes; no tile is too large, no cell is forgotten or visited twice.
### BEGIN HIDDEN TESTS
def tiled_reference(images, texts, own):
    targets = torch.eye(len(images), len(texts), dtype=torch.float64) * own
    scores = 7 * torch.einsum("md,nd->mn", images, texts) - 3
    return F.binary_cross_entropy_with_logits(scores, targets, reduction="sum")


for B, chunk_size, seed in ((1, 1, 0), (6, 1, 1), (6, 2, 2), (7, 3, 3), (9, 4, 4), (12, 5, 5), (5, 8, 6)):
    x, y = (v.requires_grad_() for v in make_batch(B, 5, seed))
    sizes = []

    def recorded(images, texts, own, sizes=sizes):
        sizes.append((len(images), len(texts)))
        return tiled_reference(images, texts, own)

    got, expected = tiled_loss(x, y, chunk_size, recorded), tiled_reference(x, y, True) / B
    assert max(max(size) for size in sizes) <= chunk_size, f"a tile of {max(sizes)} with chunk_size {chunk_size}"
    assert sum(m * n for m, n in sizes) == B * B, f"{sum(m * n for m, n in sizes)} cells visited, not {B * B}"
    error = largest_difference(got, expected)
    assert error < 1e-5, f"{B} pairs, chunk_size {chunk_size}: {got.tolist()} is off by {error:.3g}"  # float32 will do
    for ours, theirs in zip(torch.autograd.grad(got, (x, y)), torch.autograd.grad(expected, (x, y))):
        assert largest_difference(ours, theirs) < 1e-6, f"{B} pairs, chunk_size {chunk_size}: a gradient differs"
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
#
# Two loops with `range(0, B, chunk_size)`, one for the first row of a tile and one for its first column. A slice that reaches
# beyond the end of a tensor is cut there, so the last piece needs no special case. When is a tile own? When it starts at the
# same row as column.
#
# </details>

# %% [markdown]
# **What autograd keeps.** The table is gone, but is the memory free? We count the numbers that PyTorch stores for `backward`,
# for a batch of 64 with tiles of 8. (This uses your first two functions.) Without gradient there is one tile at a time. With
# gradient, all 64 tiles wait for `backward`, and together they are the whole table again, several times. Exercise 5 mends
# this.

# %%
def kept_for_backward(function):
    """How many numbers autograd stores while `function` runs."""
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
        function()
    return sum(kept)


x, y = (v.requires_grad_() for v in make_batch(64, 16, seed=0))
numbers = kept_for_backward(lambda: tiled_loss(x, y, 8, lambda i, t, own: tile_loss(i, t, *start, own)))
print(f"a tile holds {8 * 8} numbers, the table {64 * 64:,}; kept for backward: {numbers:,}")

# %% [markdown]
# ## Exercise 3 · The schedule of the ring (1 point, 5 minutes)
#
# Now there are W devices, numbered from 0, with b = B/W pairs each. Device d keeps its pictures. The captions travel: block d
# starts on device d, and after each step every device hands the block it holds to the next one, d to d + 1, and the last to
# the first. This is Figure 1 of the paper.
#
# At step 0 each device holds its own block. Whose block does it hold at step s?

# %% nbgrader={"grade": false, "grade_id": "held_block", "locked": false, "schema_version": 3, "solution": true, "task": false}
def held_block(device: int, step: int, devices: int) -> int:
    """The number of the block of captions, `[b, D]`, that a device of the ring holds.

    device: 0 to devices - 1. step: 0, 1, 2, ..., also beyond `devices`. devices: W, 1 or more.
    Returns 0 to devices - 1: the device on which that block started.
    """
    ### BEGIN SOLUTION
    return (device - step) % devices
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "held_block_check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
got = [held_block(device, 1, 4) for device in range(4)]
assert got == [3, 0, 1, 2], f"step 1 of 4 devices: expected [3, 0, 1, 2], got {got}: in which direction do they travel?"
got = [held_block(device, 3, 4) for device in range(4)]
assert got == [1, 2, 3, 0], f"step 3 of 4 devices: expected [1, 2, 3, 0], got {got}"
### BEGIN HIDDEN TESTS
for devices in (1, 2, 3, 4, 7):
    held = list(range(devices))  # played by hand: the last one hands its block to the first
    for step in range(2 * devices + 1):
        got = [held_block(device, step, devices) for device in range(devices)]
        assert got == held, f"step {step} of {devices} devices: expected {held}, got {got}"
        held = [held[-1], *held[:-1]]
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
#
# What device d holds at step 1 was held by its neighbour d - 1 at step 0. In Python, `-1 % 4` is 3.
#
# </details>

# %% [markdown]
# **Figure 2.** Figure 1 of the paper, from your schedule. One panel is one step. The number in a square is the device that
# works on it; what was done before is gray. You should see the diagonal first, and after four steps a full table. In each
# panel every row and every column is in use once: no device waits, and no block is needed twice.

# %%
W, done = 4, torch.zeros(4, 4)
figure, axes = plt.subplots(1, W, figsize=(7, 2), layout="constrained")
for step, ax in enumerate(axes):
    held = [held_block(device, step, W) for device in range(W)]
    ax.imshow(done.numpy(), cmap="gray_r", vmin=0, vmax=4)
    for device, block in enumerate(held):
        done[device, block] = 1
        ax.text(block, device, device, ha="center", va="center", bbox={"facecolor": plt.cm.viridis(0.4 + device / 5)})
    ax.set(title=f"step {step}", xlabel="block of captions", xticks=range(W), yticks=range(W))
axes[0].set_ylabel("pictures of device")
plt.show()

# %% [markdown]
# ## Exercise 4 · The ring (4 points, 25 minutes)
#
# Written by device and step, the loss of Exercise 1 is (SigLIP, section 3.3)
#
# $$\mathcal{L} = \frac{1}{W} \sum_{d=0}^{W-1} \underbrace{\;\frac{1}{b} \sum_{s=0}^{W-1} \mathrm{tile}(d,\, s)\;}_{\text{what device } d \text{ returns}}$$
#
# where tile(d, s) is the sum of the cells of device d's pictures with the captions that it holds at step s. So each device
# divides by its *own* number of pairs, b, and the *mean* over the devices is the loss of the whole batch. A mean over devices
# is what data-parallel training takes anyway.
#
# Your function is what *one* device does. All W run at the same time, each with its own `[B/W, D]` only. What it needs of the
# others it gets through `ring`:
#
# - `ring.size` is W, and `ring.rank` the device's number;
# - `ring.send(tensor)` sends a copy to the next device and does not wait;
# - `ring.receive()` waits for the next tensor from the previous device, in the order in which it was sent, and returns it.
#
# The devices are played by **threads** of this notebook. Real processes cannot be started from a notebook's functions on
# every system: a fresh process does not know what you defined in a cell, and a copy of this one (a *fork*) can hang in
# PyTorch's threads. Notebook [05 · The chunked loss](../../../notebooks/05_chunked_loss.ipynb), section 6, shows how it is
# done with `torchrun`. In one respect our threads behave like processes: what travels is a copy, numbers without autograd's
# graph.
#
# A mistake in such a program often shows as *waiting for ever*. Here `receive` gives up after 2 seconds, a device that sends
# more than 2 W messages is stopped, and so is one that is still busy after 3 seconds. You then get an error.

# %% nbgrader={"grade": false, "grade_id": "ring", "locked": true, "schema_version": 3, "solution": false, "task": false}
class Ring:
    """A device's two neighbours: it sends to the next one and receives from the previous one."""

    def __init__(self, rank: int, size: int, inbox: queue.Queue, outbox: queue.Queue):
        self.rank, self.size, self.inbox, self.outbox, self.messages = rank, size, inbox, outbox, 0

    def send(self, tensor: Tensor) -> None:
        """Send a copy, without autograd's graph, to device (rank + 1) % size. Does not wait."""
        self.messages += 1
        if self.messages > 2 * self.size:
            raise RuntimeError(f"device {self.rank} sends message {self.messages}; 2 W = {2 * self.size} are enough")
        self.outbox.put(tensor.detach().clone())

    def receive(self) -> Tensor:
        """Wait for the next tensor from device (rank - 1) % size; at most 2 seconds."""
        try:
            tensor = self.inbox.get(timeout=2)
        except queue.Empty:
            raise RuntimeError(f"device {self.rank} waited 2 s, but its neighbour has sent nothing") from None
        if tensor is None:
            raise RuntimeError("another device has failed")
        return tensor


# %% nbgrader={"grade": false, "grade_id": "play", "locked": true, "schema_version": 3, "solution": false, "task": false}
def play(device: Callable[[Ring], object], size: int) -> tuple[list, list[Ring]]:
    """Run device(ring) on `size` threads at the same time. Returns what each has returned, and the rings."""
    links = [queue.Queue() for _ in range(size)]  # links[rank] leads to device `rank`
    rings = [Ring(rank, size, links[rank], links[(rank + 1) % size]) for rank in range(size)]
    results, errors = [None] * size, []

    def run(ring):
        try:
            results[ring.rank] = device(ring)
        except (Exception, SystemExit) as error:
            errors.append(error)
            for link in links:
                link.put(None)  # wakes those who wait for this device

    threads = [threading.Thread(target=run, args=(ring,), daemon=True) for ring in rings]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 3
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    endless = [thread for thread in threads if thread.is_alive()]
    for thread in endless:  # ends a loop that would never end by itself
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit))
    if errors:
        raise errors[0]  # the first is the cause of the others
    if endless:
        raise RuntimeError("a device was not finished after 3 s: does its loop end?")
    return results, rings


# %% [markdown]
# This is how they are used. Each of three devices tells its neighbour its own number and returns what it hears.

# %%
def say_hello(ring):
    ring.send(torch.tensor(ring.rank))
    return f"device {ring.rank} heard from device {int(ring.receive())}"


print(*play(say_hello, 3)[0], sep="\n")


# %% [markdown]
# Now the loss. As in Exercise 2, your function gets the loss of a tile as an argument. It sends W - 1 messages, not more, and
# needs one block of foreign captions at a time: a block that was used is handed on and forgotten.

# %% nbgrader={"grade": false, "grade_id": "ring_loss", "locked": false, "schema_version": 3, "solution": true, "task": false}
def ring_loss(
    image_features: Tensor, text_features: Tensor, ring: Ring, tile: Callable[[Tensor, Tensor, bool], Tensor]
) -> Tensor:
    """What one device of the ring contributes to the loss of the whole batch.

    image_features, text_features: `[b, D]`, the device's own b = B/W pairs. ring: its neighbours; all devices
    call this function at the same time. tile(images `[b, D]`, texts `[b, D]`, own) returns the sum of the cells of a
    tile, a scalar.
    Returns a scalar tensor: the loss of the own pictures with all B captions, divided by b. The mean over the
    devices is the loss of the batch. Each device sends W - 1 messages.
    """
    ### BEGIN SOLUTION
    total, texts = 0.0, text_features
    for step in range(ring.size):
        total = total + tile(image_features, texts, step == 0)
        if step + 1 < ring.size:  # after the last step nobody needs the block any more
            ring.send(texts)
            texts = ring.receive()  # [b, D]
    return total / len(image_features)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ring_loss_check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# Four devices with two pairs each. All pictures are the number 1. The captions of device 0 are 1 and 1, those of device 1
# are 10 and 10, then 100 and 1,000. So each digit of a result says how many captions of one block a picture has met: two
# of each. The .5 says that it was in one own tile.
pictures = torch.ones(4, 2, 1, dtype=torch.float64)  # [W, b, D]
captions = pictures * 10.0 ** torch.arange(4)[:, None, None]  # [W, b, D]
results, _ = play(lambda ring: ring_loss(pictures[ring.rank], captions[ring.rank], ring, toy_tile), 4)
for rank, got in enumerate(results):
    assert abs(float(got) - 2222.5) < 1e-4, f"device {rank}: expected 2222.5, got {float(got)}: which blocks were here?"

# %% nbgrader={"grade": true, "grade_id": "ring_loss_hidden", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# Hidden tests: the real loss, other numbers of devices and pairs.
### BEGIN HIDDEN TESTS
def ring_reference(images, texts, own):
    targets = torch.eye(len(images), len(texts), dtype=torch.float64) * own
    scores = 7 * torch.einsum("md,nd->mn", images, texts) - 3
    return F.binary_cross_entropy_with_logits(scores, targets, reduction="sum")


for W, size, seed in ((1, 3, 0), (2, 4, 1), (3, 1, 2), (5, 3, 3), (6, 2, 4)):
    x, y = make_batch(W * size, 5, seed)
    own = list(zip(x.split(size), y.split(size)))
    got, _ = play(lambda ring, own=own: ring_loss(*own[ring.rank], ring, ring_reference), W)
    got = torch.stack([torch.as_tensor(value, dtype=torch.float64) for value in got])  # [W]
    error = largest_difference(got.mean(), ring_reference(x, y, True) / len(x))
    assert error < 1e-5, f"{W} devices with {size} pairs: the mean of {got.tolist()} is off by {error:.3g}"
    cells = 7 * torch.einsum("md,nd->mn", x, y) - 3
    rows = F.softplus(cells, threshold=100).sum(1) - cells.diagonal()  # [B], softplus(-s) = softplus(s) - s
    error = largest_difference(got, torch.stack([row.mean() for row in rows.split(size)]))
    assert error < 1e-5, f"{W} devices with {size} pairs: the mean is right, but a device is off by {error:.3g}"
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "ring_loss_memory", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# Hidden tests: W - 1 messages from each device; one foreign block at a time, and no tensor with more than b pairs.
### BEGIN HIDDEN TESTS
import weakref

from torch.overrides import TorchFunctionMode


class Largest(TorchFunctionMode):
    """Watches one thread: the most numbers that any result of a torch function has held."""

    numbers = 0

    def __torch_function__(self, function, types, arguments=(), options=None):
        out = function(*arguments, **(options or {}))
        for value in out if isinstance(out, (tuple, list)) else [out]:
            if type(value) is Tensor:
                self.numbers = max(self.numbers, Tensor.numel(value))
        return out


def watched_device(images, texts, ring):
    used, tiles = [], []

    def tile(images, texts, own):
        tiles.append((tuple(images.shape), tuple(texts.shape)))
        used.append(weakref.ref(texts))
        alive = len({id(block()) for block in used if block() is not None})
        assert alive <= 3, f"device {ring.rank} still holds {alive} blocks of captions"  # own, last one, this one
        return torch.mm(images, texts.T).sum()

    with Largest() as largest:
        ring_loss(images, texts, ring, tile)
    return tiles, largest.numbers


for W, size in ((2, 3), (5, 3), (8, 2)):
    own = list(zip(*(v.split(size) for v in make_batch(W * size, 4, seed=W))))
    results, rings = play(lambda ring, own=own: watched_device(*own[ring.rank], ring), W)
    for ring, (tiles, numbers) in zip(rings, results):
        assert ring.messages == W - 1, f"{W} devices: each sends {W - 1} messages, but {ring.rank} sent {ring.messages}"
        assert tiles == [((size, 4), (size, 4))] * W, f"the tiles had the sizes {tiles}"
        assert numbers <= 4 * size, f"a tensor of {numbers} numbers; a block has {4 * size}"
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
#
# Keep the block that you hold in a variable of its own, which begins as the own block. A step is: one tile, send *that*
# block, receive the next one into the same variable. W steps make W tiles. After how many of them must a block still travel?
# And which step is the only one with right pairs? If all devices receive before they send, all wait for each other.
#
# </details>

# %% [markdown]
# The real loss of 32 pairs on four devices, with your tile of Exercise 1. The four numbers differ, since each device has
# other pictures. Their mean should be the loss of the whole table.

# %%
real_tile = lambda images, texts, own: tile_loss(images, texts, *start, own)  # noqa: E731
x, y = make_batch(32, 16, seed=0)
local, _ = play(lambda ring: ring_loss(x.split(8)[ring.rank], y.split(8)[ring.rank], ring, real_tile), 4)
print("devices:", *(f"{float(value):.4f}" for value in local))
print(f"their mean {float(sum(local)) / 4:.4f}, the whole table {float(tile_loss(x, y, *start, own=True)) / 32:.4f}")


# %% [markdown]
# ## Exercise 5 · The gradient travels (6 points, 35 minutes)
#
# ### 5a. The gradient of a tile (3 points, 15 minutes)
#
# Autograd would keep all tiles, and it cannot follow a block to another device. But the gradient of a cell is so simple that
# we need no autograd. For a wrong pair the cell costs -log σ(-s), and for a right one -log σ(s). The derivatives with respect
# to the score s are
#
# $$p = \sigma(s) \quad\text{(wrong pair)}, \qquad\qquad p = \sigma(s) - 1 \quad\text{(right pair)}.$$
#
# No other cell is asked. With the scores $s_{ij} = t\,x_i \cdot y_j + b$, the chain rule gives for a tile
#
# $$\frac{\partial\,\mathrm{tile}}{\partial x_i} = t \sum_j p_{ij}\, y_j, \qquad\qquad \frac{\partial\,\mathrm{tile}}{\partial y_j} = t \sum_i p_{ij}\, x_i.$$
#
# Each sum is a matrix product. With the one for the scores, these are three, and fewer are not possible. Do it **without
# autograd**: the tests call your function under `torch.inference_mode()`, where autograd is off, and they count the products.

# %% nbgrader={"grade": false, "grade_id": "tile_gradients", "locked": false, "schema_version": 3, "solution": true, "task": false}
def tile_gradients(
    image_features: Tensor, text_features: Tensor, logit_scale: Tensor, logit_bias: Tensor, own: bool
) -> tuple[Tensor, Tensor]:
    """The gradients of one tile's sum of sigmoid losses, by hand, with three matrix products.

    image_features: `[m, D]`, text_features: `[n, D]`, of length 1. logit_scale: scalar, the log of t.
    logit_bias: scalar. own: True if row i and column i are a pair (then m = n), False if all pairs are wrong.
    Returns the gradients with respect to image_features, `[m, D]`, and text_features, `[n, D]`.
    """
    ### BEGIN SOLUTION
    scale = logit_scale.exp()
    push = torch.sigmoid(scale * image_features @ text_features.T + logit_bias)  # [m, n], d loss / d score
    if own:
        push.diagonal().sub_(1)
    return scale * push @ text_features, scale * push.T @ image_features
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "tile_gradients_check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# The example of Exercise 1: two pairs, t = 2, b = -1.
two = torch.eye(2, dtype=torch.float64)
t, b = torch.tensor([2.0, -1.0], dtype=torch.float64)
for own, expected in ((True, [-0.5379, 0.5379]), (False, [1.4621, 0.5379])):
    got = [round(value, 4) for value in tile_gradients(two, two, t.log(), b, own)[0][0].tolist()]
    assert got == expected, f"picture 0, own={own}: expected {expected}, got {got}: did you use t, and the right pairs?"

# %% nbgrader={"grade": true, "grade_id": "tile_gradients_hidden", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# Hidden tests: other tiles, both gradients against autograd's, without autograd, and three products.
### BEGIN HIDDEN TESTS
from torch.overrides import TorchFunctionMode

PRODUCTS = "matmul __matmul__ __rmatmul__ mm bmm addmm baddbmm einsum linear inner tensordot mv dot".split()


class Products(TorchFunctionMode):
    """Counts the multiplications in matrix products: p q r for a product of [p, q] and [q, r]."""

    multiplications = 0

    def __torch_function__(self, function, types, arguments=(), options=None):
        out = function(*arguments, **(options or {}))
        if function.__name__.rstrip("_") in PRODUCTS or function.__name__ in PRODUCTS:
            last = [Tensor.numel(value) for value in arguments if isinstance(value, Tensor)][-2:]  # addmm has a third
            self.multiplications += (last[0] * last[-1] * Tensor.numel(out)) ** 0.5  # (pq qr pr) ** 0.5
        return out


for m, n, own, seed in ((1, 1, True, 0), (5, 5, True, 1), (5, 5, False, 2), (2, 7, False, 3), (6, 3, False, 4)):
    x, y = (v.requires_grad_() for v in make_batch(max(m, n), 4, seed))
    log_t, bias = torch.tensor(0.4 * seed, dtype=torch.float64), torch.tensor(1.0 - seed, dtype=torch.float64)
    targets = torch.eye(m, n, dtype=torch.float64) * own
    scores = torch.einsum("md,nd->mn", x[:m], y[:n]) * torch.exp(log_t) + bias
    loss = F.binary_cross_entropy_with_logits(scores, targets, reduction="sum")
    grad_x, grad_y = torch.autograd.grad(loss, (x, y))
    with torch.inference_mode():
        got = tile_gradients(x[:m].detach().clone(), y[:n].detach().clone(), log_t, bias, own)
    for name, ours, theirs in zip(("images", "texts"), got, (grad_x[:m], grad_y[:n])):
        error = largest_difference(ours, theirs)
        assert error < 1e-10, f"tile of {m} x {n}, own={own}: the gradient of the {name} is off by {error:.3g}"
    with Products() as counter:
        tile_gradients(x[:m].detach(), y[:n].detach(), log_t, bias, own)
    products = counter.multiplications / (m * n * 4)
    assert products < 3.01, f"{products:.1f} matrix products of the size of the tile, not 3"
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
#
# First the table p, `[m, n]`: the sigmoid of the scores, and 1 less on the diagonal of an own tile. For the pictures, the
# product is `[m, n] @ [n, D]`. For the captions the sum runs over the rows, so p has to be transposed. A square tile runs
# without the transpose as well, and is wrong.
#
# </details>

# %% [markdown]
# ### 5b. Bring the gradients home (3 points, 20 minutes)
#
# A device meets foreign captions, and each tile pushes them. Those pushes belong to the device on which the captions started.
# They need no second network: the gradient **travels along with its block**. Every device adds its part to what arrives with
# the block, and hands on both. A block needs W - 1 hops to meet everyone. Its gradient needs one hop more: the W-th takes it
# home. The gradients of the pictures stay where they are.
#
# Return the gradients of the loss of the *whole batch*, the one that is divided by B = W b. (The package's
# `chunked_sigmoid_loss` returns W times this, on purpose: `DistributedDataParallel` takes the mean over the devices
# afterwards, which divides by W once more. Factors like this are easily missed, since training goes on, only slower or
# faster.)

# %% nbgrader={"grade": false, "grade_id": "ring_gradients", "locked": false, "schema_version": 3, "solution": true, "task": false}
def ring_gradients(
    image_features: Tensor,
    text_features: Tensor,
    ring: Ring,
    tile: Callable[[Tensor, Tensor, bool], tuple[Tensor, Tensor]],
) -> tuple[Tensor, Tensor]:
    """The gradients of the whole batch's loss with respect to one device's own pictures and captions.

    image_features, text_features: `[b, D]`, the device's own b = B/W pairs. ring: its neighbours; all devices
    call this function at the same time. tile(images `[b, D]`, texts `[b, D]`, own) returns the gradients of the
    tile's sum: those of its images, `[b, D]`, and those of its texts, `[b, D]`.
    Returns both gradients, `[b, D]` each, of the sum over all B x B cells divided by B. At most 2 W messages.
    """
    ### BEGIN SOLUTION
    texts = text_features
    grad_images, grad_texts = torch.zeros_like(image_features), torch.zeros_like(text_features)  # [b, D]
    for step in range(ring.size):
        for_images, for_texts = tile(image_features, texts, step == 0)
        grad_images = grad_images + for_images
        ring.send(grad_texts + for_texts)
        grad_texts = ring.receive()  # of the block that comes next; after the last step, of the own one
        if step + 1 < ring.size:
            ring.send(texts)
            texts = ring.receive()
    batch_size = ring.size * len(image_features)
    return grad_images / batch_size, grad_texts / batch_size
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ring_gradients_check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# Four devices with one pair each. All pictures are the number 1, the captions 1, 10, 100 and 1,000. The toy tile gives to
# each vector "itself, times the sum of those it meets". A picture meets all captions: its gradient is 1111 / 4. A caption
# meets four pictures: its gradient is itself * 4 / 4. If it did not get home, it is a factor of 10 or more away.
def toy_gradients(images: Tensor, texts: Tensor, own: bool) -> tuple[Tensor, Tensor]:
    """Not the gradient of a loss: each vector times the sum of those it meets."""
    return images * texts.sum(), texts * images.sum()


pictures = torch.ones(4, 1, 1, dtype=torch.float64)  # [W, b, D]
captions = pictures * 10.0 ** torch.arange(4)[:, None, None]  # [W, b, D]
results, _ = play(lambda ring: ring_gradients(pictures[ring.rank], captions[ring.rank], ring, toy_gradients), 4)
got_pictures, got_captions = ([round(float(value), 4) for value in values] for values in zip(*results))
assert got_pictures == [277.75] * 4, f"gradients of the pictures: expected 277.75 on each device, got {got_pictures}"
expected = [1.0, 10.0, 100.0, 1000.0]
assert got_captions == expected, f"gradients of the captions, devices 0 to 3: expected {expected}, got {got_captions}"

# %% nbgrader={"grade": true, "grade_id": "ring_gradients_hidden", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# Hidden tests: the real gradients, other numbers of devices and pairs, against autograd on the whole table.
### BEGIN HIDDEN TESTS
def gradient_reference(images, texts, own):
    images, texts = images.detach().requires_grad_(), texts.detach().requires_grad_()
    targets = torch.eye(len(images), len(texts), dtype=torch.float64) * own
    scores = 7 * torch.einsum("md,nd->mn", images, texts) - 3
    return torch.autograd.grad(F.binary_cross_entropy_with_logits(scores, targets, reduction="sum"), (images, texts))


for W, size, seed in ((1, 3, 0), (2, 4, 1), (3, 1, 2), (5, 3, 3), (6, 2, 4)):
    x, y = make_batch(W * size, 5, seed)
    own = list(zip(x.split(size), y.split(size)))
    got, _ = play(lambda ring, own=own: ring_gradients(*own[ring.rank], ring, gradient_reference), W)
    for name, parts, expected in zip(("pictures", "captions"), zip(*got), gradient_reference(x, y, True)):
        for rank, (part, theirs) in enumerate(zip(parts, (expected / len(x)).split(size))):
            assert part.shape == theirs.shape, f"{name} of device {rank}: {list(part.shape)}, not {list(theirs.shape)}"
            error = largest_difference(part, theirs)
            assert error < 1e-6, f"{W} devices, gradient of the {name} of device {rank}: off by {error:.3g}"
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
#
# Take your loop of Exercise 4. Beside the block that you hold, keep the gradient of *that block*, which starts at zero. After
# each tile, add the part of the captions to it and send it; what you receive is the gradient that belongs to the next block.
# Messages arrive in the order in which they were sent, so send and receive block and gradient in the same order. The last hop
# carries a gradient only.
#
# </details>

# %% [markdown]
# All together: your ring with your tiles against autograd on the whole table of 32 × 32 cells. The two numbers are the
# largest differences, and should be zero up to rounding, about $10^{-16}$.

# %%
x, y = (v.requires_grad_() for v in make_batch(32, 16, seed=0))
whole = torch.autograd.grad(tile_loss(x, y, *start, own=True) / 32, (x, y))
real_tile = lambda images, texts, own: tile_gradients(images, texts, *start, own)  # noqa: E731
own = list(zip(x.detach().split(8), y.detach().split(8)))
parts, _ = play(lambda ring: ring_gradients(*own[ring.rank], ring, real_tile), 4)
for name, mine, theirs in zip(("pictures", "captions"), zip(*parts), whole):
    print(f"{name}: largest difference {float((torch.cat(mine) - theirs).abs().max()):.1e}")

# %% [markdown]
# ## Exercise 6 · What it costs (2 points, 10 minutes)
#
# The paper compares the ring with the usual way, the **all-gather**: every device gets all vectors of all devices, and makes
# the whole table. Count in **bytes**, with 4 bytes for a number (`float32`). A *block* is the vectors of one device's b = B/W
# pictures, or of its captions, with D numbers each.
#
# - **All-gather.** Each device sends its block of pictures and its block of captions to W - 1 others. For the gradients, it
#   sends the same amount again.
# - **Ring.** Each device sends a block of captions W - 1 times, and gradients of captions W times, as in Exercise 5b.
# - **Tables.** The table of scores that an all-gather makes has B × B numbers, a tile of the ring b × b.

# %% nbgrader={"grade": false, "grade_id": "costs", "locked": false, "schema_version": 3, "solution": true, "task": false}
def costs(batch_size: int, dim: int, devices: int) -> dict[str, int]:
    """Bytes that one device sends for a loss with its gradients, and bytes of the table of scores.

    batch_size: B, all pairs; W divides it. dim: D, numbers in a vector. devices: W, 2 or more, each with the
    vectors of its own pictures, `[B/W, D]`, and of its own captions.
    Returns whole numbers of bytes under the names "gather_sent", "ring_sent", "whole_table" and "tile".
    """
    ### BEGIN SOLUTION
    pairs = batch_size // devices
    block = 4 * pairs * dim
    return {
        "gather_sent": 2 * 2 * (devices - 1) * block,
        "ring_sent": (2 * devices - 1) * block,
        "whole_table": 4 * batch_size**2,
        "tile": 4 * pairs**2,
    }
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "costs_check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
got = costs(32768, 768, 256)  # a common batch of SigLIP, 128 pairs a device
expected = {"gather_sent": 401080320, "ring_sent": 200933376, "whole_table": 4294967296, "tile": 65536}
for name, number in expected.items():
    assert got[name] == number, f"{name}: expected {number:,} bytes, got {got[name]:,}"
### BEGIN HIDDEN TESTS
for B, D, W in ((8, 3, 2), (12, 5, 4), (4096, 512, 16), (2**20, 768, 1024)):
    got, b = costs(B, D, W), B // W
    sent = [sum(4 * b * D for _ in range(W - 1) for _ in range(4)), sum([4 * b * D] * (W - 1)) + sum([4 * b * D] * W)]
    assert [got["gather_sent"], got["ring_sent"]] == sent, f"B={B}, D={D}, W={W}: expected {sent} bytes sent, got {got}"
    assert [got["whole_table"], got["tile"]] == [4 * B * B, 4 * b * b], f"B={B}, D={D}, W={W}: tables {got}"
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
#
# Compute the bytes of one block first: pairs on a device, times D, times 4. Then count blocks. For the ring you have written
# the loop yourself: how often is `send` called?
#
# </details>

# %% [markdown]
# **Figure 3.** The same batch of 32,768 pairs on 2 to 1,024 devices. On the left you should see that with many devices the
# ring sends half as much as the all-gather, and that neither number shrinks when there are more devices. On the right is
# where the ring wins: the whole table stays as it is, and the tile becomes four times smaller each time the devices are
# doubled.

# %%
devices = [2**k for k in range(1, 11)]
bills = [costs(32768, 768, W) for W in devices]
figure, axes = plt.subplots(1, 2, figsize=(7, 2.5), layout="constrained")
for ax, names in zip(axes, (("gather_sent", "ring_sent"), ("whole_table", "tile"))):
    for name, style in zip(names, ("-oC0", "--sC1")):
        ax.plot(devices, [bill[name] / 1e6 for bill in bills], style, ms=3, lw=1, label=name.replace("_", " "))
    ax.set_xscale("log", base=2)
    ax.legend(frameon=False)
axes[0].set(xlabel="devices W", ylabel="sent by a device (MB)", ylim=(0, 600))
axes[1].set(xlabel="devices W", ylabel="table of scores (MB)", yscale="log")
plt.show()

# %% [markdown]
# ## What you have now
#
# You have a loss over all pairs of a batch that was never in one place: tiles, a ring that carries captions, gradients that
# find their way home, and the bill. It is the heart of `minclip/chunked_loss.py`. That file adds what training needs:
# gradients of scale and bias, transfers that run while a tile is computed, several tiles inside a device, and the softmax,
# which has to go round twice.
#
# **Next.** [05 · The chunked loss](../../../notebooks/05_chunked_loss.ipynb) measures the memory, runs real processes with
# `torchrun` (section 6), and explains why the softmax needs two visits.
# [06 · Batch size](../../../notebooks/06_batch_size.ipynb) asks whether large batches are worth it.
#
# **Further questions** (not graded).
#
# - The all-gather of Exercise 6 collects pictures and captions. For the sigmoid loss, a device needs the captions only. How
#   much would it send then? What is left of the ring's advantage?
# - In your loop every device waits for the next block while it could compute. Which lines would you change so that the block
#   travels during the tile?
# - The captions could travel in both directions at once, half of them each way. What would that save, and what would it not?
