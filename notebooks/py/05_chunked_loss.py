# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 05 · The chunked loss
#
# **Paper.** SigLIP ([Zhai et al., 2023](https://arxiv.org/abs/2303.15343)), section 3.3 and Figure 1: the loss on several devices, in
# blocks. For the softmax in a ring: Inf-CL ([Cheng et al., 2024](https://arxiv.org/abs/2410.17243)).
#
# **The question.** How can one compute a loss over all B² pairs of a batch if no device can hold B² numbers?
#
# **What you need first.** [03 · The softmax loss](03_softmax_loss.ipynb) and [04 · The sigmoid loss](04_sigmoid_loss.ipynb). From
# PyTorch: what `backward` does, and that it needs memory for what it keeps from the way forward.
#
# **Time.** About one minute on two CPU cores. No tower is trained; the losses themselves are what runs.
#
# The table of scores has a row for each picture and a column for each caption. At a batch of 32,768 pairs, SigLIP's
# usual one, it has a billion cells: 4 GB for the scores alone, and a textbook loss makes several tables of this
# size on its way. The vectors it is made of are tiny beside it. So the idea is to make the table in **tiles**, use each
# tile at once and throw it away. What is left of a tile is a few sums.
#
# The same tiles solve a second problem. Large batches are spread over many devices, each with its own few pairs. A picture
# here must be compared with a caption there. SigLIP lets the captions travel.

# %%
import math
import sys

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from matplotlib.colors import to_rgba

plt.rcParams.update({"figure.figsize": (3.5, 2.5), "figure.dpi": 150, "font.size": 8})
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7")

# %% [markdown]
# ## 1. Who holds what, and when
#
# We play it through in one process. Four devices, D0 to D3, have three pairs each, twelve pairs in all. The pictures stay where they
# are. The captions are four **blocks**, T0 to T3, and start beside their pictures. After each step, every device hands its
# block to the next one, and the last hands it to the first: a **ring**. Whoever starts with T0 gets T3, then T2, then
# T1. After four steps everyone has seen everything, and nobody ever held more than one block of captions.

# %%
# NBVAL_CHECK_OUTPUT
devices, size = 4, 3  # B = 12 pairs
held = [[(device - step) % devices for device in range(devices)] for step in range(devices)]
grid = torch.zeros(devices, devices, 4)  # for the figure below: red, green, blue, opacity of each tile
pairs = torch.arange(12) / size - 1 / 3  # and where the right pairs are
for step, blocks in enumerate(held):
    print(f"step {step}:  " + "   ".join(f"D{device} has T{block}" for device, block in enumerate(blocks)))

# %% [markdown]
# This is Figure 1 of the paper. One panel is one step, rows are pictures and columns are captions. In each step, every device
# works on one tile of 3 × 3 cells, in its colour. What is done turns pale. The diagonal, with the right pairs, is finished in
# step 0, and from then on there are only negatives.

# %% alt="A diagram in four panels, one for each step of the ring. Rows are the pictures of four devices, columns four blocks of captions. Every device colours one tile a step and leaves it pale; after step 3 the whole table is covered."
figure, axes = plt.subplots(1, devices, figsize=(7, 2.1), layout="constrained")
for step, ax in enumerate(axes):
    grid[..., 3].clamp_(max=0.25)
    for device, block in enumerate(held[step]):
        grid[device, block] = torch.tensor(to_rgba(COLORS[device]))
    ax.imshow(grid)
    ax.scatter(pairs, pairs, s=2, color="k")
    ax.set(title=f"step {step}", xticks=range(devices), yticks=range(devices), xlabel="caption block T")
    ax.set_ylabel("pictures of device D" if step == 0 else "")
plt.show()

# %% [markdown]
# ## 2. The sum of the tiles is the loss
#
# Now with numbers. For the sigmoid loss this is almost too easy: the loss is a sum over all cells, so it is the sum of the sums of
# the tiles. Let $\ell_{ij}$ be the cost of the cell of picture $i$ and caption $j$, as in notebook 04, and let $W$ devices share the
# batch. Device $d$ has the pictures $D_d$, and the captions come to it in the blocks $T_e$:
#
# $$ L = \frac{1}{W} \sum_{d=1}^{W} L_d \qquad L_d = \frac{W}{B} \sum_{e=1}^{W} \sum_{i \in D_d} \sum_{j \in T_e} \ell_{ij} \tag{SigLIP, Sec. 3.3} $$
#
# The letters are ours, the order of the sums is the paper's. In (SigLIP, Sec. 3.3) the two inner sums are a tile, and the sum over
# $e$ is the way round the ring. Each device divides by B/W, its own number of pictures. The mean over the devices is then the loss
# of the whole batch, and the mean is just what data-parallel training takes of gradients.

# %%
from minclip.sigmoid_loss import sigmoid_loss

torch.manual_seed(0)
image, text = F.normalize(torch.randn(2, 12, 8, dtype=torch.float64), dim=-1)
t, b = torch.tensor(10.0).double(), torch.tensor(-2.0).double()

# %%
losses = torch.zeros(devices, dtype=torch.float64)
for step, blocks in enumerate(held):
    for device, block in enumerate(blocks):  # on real devices, all at the same time
        tile = t * image.split(size)[device] @ text.split(size)[block].T + b  # [3, 3]
        signs = 2 * torch.eye(size) - 1 if step == 0 else -torch.ones(size, size)
        losses[device] -= F.logsigmoid(signs * tile).sum() / size
assert math.isclose(losses.mean(), sigmoid_loss(image, text, t.log(), b), abs_tol=1e-10)

# %% [markdown]
# **The gradient, in the same visit.** A loss that only knows its value trains nobody. For the sigmoid, the gradient of a cell's
# score is known as soon as the score is: σ(s) for a wrong pair, σ(s) - 1 for a right one. No other cell is asked. So each
# tile is turned into its two contributions on the spot. One is for the pictures, which are at home. The other is for the
# captions, which are guests: their gradients travel with them and are home when the captions would be.
#
# That makes three matrix products per tile: one for the scores, one for each gradient. It cannot be done with fewer.

# %%
grad_image, grad_text = torch.zeros(2, devices, size, 8, dtype=torch.float64)
for step, blocks in enumerate(held):
    for device, block in enumerate(blocks):
        pictures, captions = image.split(size)[device], text.split(size)[block]
        push = torch.sigmoid(t * pictures @ captions.T + b) - (torch.eye(size) if step == 0 else 0)
        grad_image[device] += t * push @ captions / 12
        grad_text[block] += t * push.T @ pictures / 12  # travels with its block

# %%
leaves = [x.clone().requires_grad_() for x in (image, text)]
expected = torch.autograd.grad(sigmoid_loss(*leaves, t.log(), b), leaves)
torch.testing.assert_close(grad_image.reshape(12, 8), expected[0], atol=1e-10, rtol=0)
torch.testing.assert_close(grad_text.reshape(12, 8), expected[1], atol=1e-10, rtol=0)

# %% [markdown]
# ## 3. The package's version
#
# `minclip/chunked_loss.py` does this for both losses. Inside one process, the tiles come from a loop, with `chunk_size` pairs at a
# side; between processes, the blocks travel in a ring. Value and all gradients must be those of the textbook version, for *any*
# tile size: one pair at a time, a size that does not divide the batch, one larger than the batch.

# %%
from minclip.chunked_loss import chunked_sigmoid_loss, chunked_softmax_loss
from minclip.softmax_loss import softmax_loss

image, text = F.normalize(torch.randn(2, 37, 8, dtype=torch.float64), dim=-1)
scalars = torch.tensor(10.0).double().log(), torch.tensor(-2.0).double()

# %%
for full, chunked, n in ((sigmoid_loss, chunked_sigmoid_loss, 4), (softmax_loss, chunked_softmax_loss, 3)):
    leaves = [x.clone().requires_grad_() for x in (image, text, *scalars)][:n]
    expected = full(*leaves), *torch.autograd.grad(full(*leaves), leaves)
    for chunk_size in (1, 5, 37, 512):
        loss = chunked(*leaves, chunk_size=chunk_size)
        for ours, theirs in zip((loss, *torch.autograd.grad(loss, leaves)), expected):
            torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=0)

# %% [markdown]
# ## 4. The softmax needs two visits
#
# How did the softmax manage? The gradient of one of its cells is a *share*: e to the score, divided by the sum of this over the whole row. The
# sum, called the **normaliser**, is known only after the last tile of the row. So every tile is visited twice: first to collect
# the normalisers of rows and columns, then again, with the scores computed anew, for the gradients. Four products in
# place of three. This is what the sigmoid saves: not the memory as such, but the second visit.
#
# Collecting a normaliser tile by tile has a trap. With a scale of 100, e¹⁰⁰ is larger than the largest number that `float32` can hold. The cure
# is to keep the *logarithm* of the sum, and to join two of them with `logaddexp`, which takes the larger one out before it
# raises e to anything.

# %%
scores = 100 * F.normalize(torch.randn(6, 1000, generator=torch.Generator().manual_seed(0)), dim=0)  # float32
scores[0, 0] = 100.0  # a cosine of 1
naive, running = torch.zeros(6), torch.full((6,), -torch.inf)
for tile in scores.split(64, dim=1):
    naive = naive + tile.exp().sum(1)
    running = torch.logaddexp(running, tile.logsumexp(1))
assert naive[0].isinf() and running.isfinite().all()
torch.testing.assert_close(running, torch.logsumexp(scores, 1))

# %% [markdown]
# ## 5. Memory against batch
#
# Now we measure. PyTorch lets us watch every operation through a `TorchDispatchMode`. Ours looks at each new piece of memory that an
# operation returns, adds its bytes to a counter, and subtracts them when the piece is freed. The highest value of the counter is
# the **peak**. It covers forward and backward and contains the gradients of the inputs, but not the inputs,
# which exist before. (A kernel's own scratch memory is not seen.)

# %%
import weakref


class Meter:
    now = peak = 0

    def add(self, storage):
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self.remove, storage.nbytes())

    def remove(self, nbytes):
        self.now -= nbytes


# %%
from torch.utils._python_dispatch import TorchDispatchMode

known = weakref.WeakSet()  # forgets what is freed


class Watch(Meter, TorchDispatchMode):
    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        out = function(*arguments, **(options or {}))
        for x in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(x, torch.Tensor) and x.untyped_storage() not in known:
                known.add(x.untyped_storage())
                self.add(x.untyped_storage())
        return out


# %% [markdown]
# A meter wants to be tested before it is trusted. Two tables of a megabyte each, one freed before the other is made, are a
# peak of one megabyte. Kept together they are two.

# %%
with Watch() as watch:
    for _ in range(2):
        table = torch.ones(512, 512)
        del table
    assert watch.peak == 2**20
    kept = [torch.ones(512, 512) for _ in range(2)]
    assert watch.peak == 2 * 2**20
del kept

# %% [markdown]
# Four losses, six batch sizes, vectors with D = 64 numbers. The tile is 128 × 128 for all batch sizes, so 64 kB in `float32`.
# Each loss does forward and backward once.

# %%
def peak_bytes(loss, B, scalars, D=64):
    leaves = [F.normalize(torch.randn(B, D), dim=1).requires_grad_() for _ in range(2)]
    known.update(leaf.untyped_storage() for leaf in leaves)  # they existed before
    with Watch() as watch:
        loss(*leaves, *scalars).backward()
    return watch.peak


# %%
sizes, log_t, bias = [128, 256, 512, 1024, 2048, 4096], torch.tensor(math.log(10.0)), torch.tensor(-10.0)
variants = {"textbook sigmoid": sigmoid_loss, "textbook softmax": softmax_loss}
variants["chunked sigmoid"] = lambda *x: chunked_sigmoid_loss(*x, chunk_size=128)
variants["chunked softmax"] = lambda *x: chunked_softmax_loss(*x, chunk_size=128)
peaks = {n: [peak_bytes(f, B, (log_t, bias)[: 1 + ("sig" in n)]) for B in sizes] for n, f in variants.items()}

# %% [markdown]
# On axes that are both logarithmic, B² is a line of slope two and B one of slope one. If `results/bench_losses.json` is there, the thin gray
# lines are from it: the process's real peak memory, measured from outside with D = 256 and tiles of 512, by `make bench`.

# %%
import json
from pathlib import Path

path = Path("../results/bench_losses.json")
rows = json.loads(path.read_text())["rows"] if path.exists() else []
measured = {}
for r in rows:
    if "minclip" in r["variant"] and "skipped" not in r and r["dim"] == 256 and r["dtype"] == "float32":
        measured.setdefault((r["loss"], r["variant"]), []).append((r["batch_size"], r["peak_extra_mb"]))

# %% alt="A line plot, both axes logarithmic, of peak memory in megabytes against the batch size. The two textbook losses rise twice as steeply as the two chunked ones; at 4,096 pairs they need about 300 MB against 4. Thin gray lines are measured peaks of a process."
for number, points in enumerate(measured.values()):
    plt.loglog(*zip(*points), color="gray", lw=0.8, zorder=0, label="" if number else "a whole process")
for name, values in peaks.items():
    style, color = ("o", COLORS[0]) if "sigmoid" in name else ("s", COLORS[1])
    style += "-" if "chunked" in name else ":"
    plt.loglog(sizes, [v / 1e6 for v in values], style, color=color, ms=3, lw=1, label=name)
ticks = [128, 512, 2048, 8192, 32768]
plt.gca().set(xlabel="batch size B (pairs)", ylabel="peak memory (MB)", ylim=(0.1, 3e4), xticks=ticks, xticklabels=ticks)
plt.minorticks_off(), plt.legend(frameon=False, fontsize=6, loc="upper left")
plt.show()

# %% [markdown]
# With each doubling of the batch, the textbook losses take four times as much. The chunked losses take twice as much: they keep
# vectors and gradients, B × D numbers each, and a few tiles. At 4,096 pairs the difference is a factor of more
# than fifty, and it doubles with every doubling of the batch. The two chunked losses hardly differ. The softmax's normalisers
# are one number for each row and column, and weigh nothing.
#
# The table is not all that has to fit. For the way back, the *towers* keep what they have computed on the way forward, and with
# large towers that is far more than the table. The usual remedy is **gradient accumulation**: run a part of the batch at a time and
# add up the gradients. Done plainly, it would show each part only its own negatives. `minclip/grad_cache.py` has both, the small
# memory and all negatives, for the price of a second way forward (GradCache,
# [Gao et al., 2021](https://arxiv.org/abs/2101.06983)).
#
# ## 6. The same gradients from two processes
#
# Until now the ring was a play. Now two real processes do it, each with half of the pairs. They need a **launcher**, which starts them and
# tells each its rank: `torchrun`, here called as a module of the Python that runs this notebook. Both make the same
# batch from the same seed. Each keeps its own half, and pushes it through two small linear towers. Then the gradients are
# averaged over the processes, as `DistributedDataParallel` would do.
#
# The script is a string here. It goes into a temporary folder, together with the gradients that rank 0 saves.

# %%
setup = """
import sys, torch, torch.distributed as dist
from torch.nn.functional import normalize
from minclip.chunked_loss import chunked_sigmoid_loss
torch.manual_seed(0)
pictures, captions = torch.randn(2, 24, 10, dtype=torch.float64)  # the whole batch
towers = torch.randn(2, 10, 8, dtype=torch.float64)
parameters = [*towers, torch.tensor(2.3).double(), torch.tensor(-10.).double()]
parameters = [p.clone().requires_grad_() for p in parameters]
"""

# %%
work = """
dist.init_process_group("gloo")
rank, world = dist.get_rank(), dist.get_world_size()
A, C, *scalars = parameters
own = slice(rank * 24 // world, (rank + 1) * 24 // world)
chunked_sigmoid_loss(normalize(pictures[own] @ A), normalize(captions[own] @ C), *scalars).backward()
for p in parameters:
    dist.all_reduce(p.grad)  # the sum over the processes
if rank == 0: torch.save([p.grad / world for p in parameters], sys.argv[1])
dist.destroy_process_group()"""

# %% [markdown]
# **A trap with launchers.** Why do we not simply *fork* this notebook into two? PyTorch computes with OpenMP, which starts a team of threads
# at the first larger computation. A fork copies the process but not its threads. The copy believes that it has
# a team, waits for it, and hangs for ever. `torchrun` starts fresh processes and has no such problem;
# launchers that fork from a notebook (`accelerate.notebook_launcher`, for one) work only if nothing was computed before. `OMP_NUM_THREADS=1` is
# there for speed: two processes with a thread each fit two cores.

# %%
import os
import runpy
import subprocess
import tempfile


# %%
def gradients_from(processes):
    with tempfile.TemporaryDirectory() as folder:
        script, result = Path(folder, "script.py"), Path(folder, "gradients.pt")
        script.write_text(setup + work)
        launch = f"-m torch.distributed.run --standalone --nproc_per_node {processes}".split()
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.path.abspath("..")}
        done = subprocess.run([sys.executable, *launch, script, result], env=environment, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr[-2000:]
        return torch.load(result, weights_only=True)


# %%
one, two = gradients_from(1), gradients_from(2)
with tempfile.TemporaryDirectory() as folder:  # the same batch and parameters, for the textbook loss on the whole table
    Path(folder, "setup.py").write_text(setup)
    here = runpy.run_path(Path(folder, "setup.py"))
pictures, captions, parameters = (here[name] for name in ("pictures", "captions", "parameters"))
A, C, *scalars = parameters
sigmoid_loss(F.normalize(pictures @ A), F.normalize(captions @ C), *scalars).backward()

# %%
# NBVAL_CHECK_OUTPUT
for name, p, from_one, from_two in zip(("picture tower", "caption tower", "scale", "bias"), parameters, one, two):
    assert p.grad.norm() > 1e-6  # all zeros would agree as well
    same = all(torch.allclose(p.grad, grad, atol=1e-10, rtol=0) for grad in (from_one, from_two))
    print(f"{name:13s} {str(list(p.shape)):8s} the same from 1 process, 2 processes and the textbook: {same}")

# %% [markdown]
# ## 7. What travels
#
# The classic way to spread the softmax loss is the **all-gather**: every device gets all vectors of all devices and then works alone
# on its rows and columns. A ring moves one block at a time. We count what one of `W` devices sends in `float32` for a
# loss with its gradients. This is arithmetic, not measurement; nothing of it was run.
#
# - **All-gather:** a block of pictures and one of captions go to W - 1 others, and their gradients come back the same way.
# - **Ring:** only captions travel, W - 1 hops. Their gradients follow one step behind and take W hops, the last one home.
#   The softmax sends the captions round twice, for its two visits, and its normalisers with them.
#
# And we count what a device must *hold* of other devices' vectors and gradients: everything, or a block in use and one
# that is arriving.

# %%
# NBVAL_CHECK_OUTPUT
B, D = 2**20, 768  # a million pairs
for W in (16, 128, 1024):
    block, number = 4 * (B // W) * D, 4 * (B // W)  # bytes of a block, and of one number for each of its pairs
    gather = 4 * (W - 1) * block
    ring_softmax = (2 * (W - 1) + W) * block + (2 * W - 1) * number
    ring_sigmoid = (W - 1 + W) * block
    sent = "  ".join(f"{x / 1e9:5.2f}" for x in (gather, ring_softmax, ring_sigmoid))
    print(f"{W:4d} devices send [GB]: {sent}   hold [GB]: gather {4 * W * block / 1e9:5.2f}, ring {4 * block / 1e9:.3f}")

# %% [markdown]
# The columns are all-gather, ring softmax, ring sigmoid. The ring sigmoid sends half of what the all-gather sends, and the softmax
# in the ring lies between. That is not where the large gain is. The large gain is in what is *held*: with the all-gather it stays at
# 13 GB however many devices share the work, and in the ring it shrinks with their number. Besides, a ring can hide its transfers: the next
# block travels while this one is computed. The price is many small messages, each of which has to arrive
# before the next step can begin.
#
# ## 8. The check
#
# The equalities stand in the cells above, next to what they are about: the hand-made ring, its gradients, the package for four tile
# sizes, the streamed normaliser, and the two processes. Here is the claim about growth. The slope is the power of B with which the memory grows, between the two
# largest batches. Bytes do not depend on the speed of the machine, so the limits can be narrow.

# %%
for name, values in peaks.items():
    slope = math.log2(values[-1] / values[-2])
    print(f"{name}: memory grows with B to the power {slope:.2f}; at B = {sizes[-1]:,} {values[-1] / 1e6:.1f} MB")
    assert 0.8 < slope < 1.2 if "chunked" in name else 1.8 < slope < 2.2
for loss in ("sigmoid", "softmax"):
    assert peaks[f"chunked {loss}"][-1] < peaks[f"textbook {loss}"][-1] / 30

# %% [markdown]
# ## 9. Try it yourself
#
# - In section 1, set `devices` to 3 and `size` to 4. The blocks, the losses and the gradients need no other change (in the figure, set the
#   dots anew). Then let the captions travel the other way, `(device + step) % devices`: the sum is the same.
# - In section 2, divide each device's loss by 12 in place of `size`, and take the mean again. The loss is now four times too small. A factor
#   like this is easily missed, since training goes on, only slower.
# - In section 5, set `chunk_size` to 1024. The chunked losses then cost as much as the textbook for small batches, and turn into
#   lines of slope one beyond. The tile is a choice: large enough for fast products, small enough for the cache.
# - In section 6, start 4 processes. (24 pairs can be divided by 4.) What would happen with 5?
#
# **Next.** Now a batch can be as large as we like. Should it be? Notebook [06 · The batch size](06_batch_size.ipynb) trains with
# many sizes and both losses, and asks where the gain ends. Before: [04 · The sigmoid loss](04_sigmoid_loss.ipynb).
