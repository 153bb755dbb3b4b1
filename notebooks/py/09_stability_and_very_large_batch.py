# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 09 · Stability and very large batches
#
# **Paper.** SigLIP ([Zhai et al., 2023](https://arxiv.org/abs/2303.15343)): section 4.7 and Figure 5 (spikes and Adam's β₂), Figure 2 with
# Tables 5 and 8 (batches of up to a million), Figure 4 (weight decay on a pretrained tower).
#
# **The question.** What makes a run that ought to work go wrong: one bad step, a batch that is too large, or weights that slowly
# fade away?
#
# **What you need first.** [04 · The sigmoid loss](04_sigmoid_loss.ipynb) and [06 · The batch size](06_batch_size.ipynb). That AdamW is the
# optimizer of notebook 03. From school: square roots and geometric series.
#
# **Time.** About one minute on two CPU cores, most of which is training.
#
# The last notebooks asked *what* to learn from. This one asks about the machinery that does the learning. There are three cases, and in all of them
# the paper reports a remedy or a fact with few words of explanation. Each can be taken apart with a few lines of arithmetic: the
# optimizer's answer to one huge gradient, the things that change along with the batch size, and the sum of a thousand tiny decays. Then the
# arithmetic has to stand a test by training.

# %%
import math

import matplotlib.pyplot as plt
import torch

from experiments.claims import answer, load_claims, means, read_curves, read_result
from experiments.verdicts import paired_difference
from experiments.sweep import complete

plt.rcParams.update({"figure.figsize": (3.5, 2.5), "figure.dpi": 150, "font.size": 8})
COLORS, LINES = {0.95: "#0072B2", 0.98: "#E69F00", 0.999: "#D55E00"}, {0.95: "-", 0.98: "--", 0.999: "-."}
claims = load_claims()  # also puts the repository's experiments/ on Python's path

# %% [markdown]
# ## 1. Adam, for one number
#
# Adam keeps two running averages for every weight: `m` of its gradients, and `v` of their squares. The step is `m` divided by the square root
# of `v`, times the learning rate. So it is not the size of a gradient that counts, but its size *compared with what was usual so far*.
# How long the memory is, the two β say: β₁ = 0.9 is about ten steps, β₂ = 0.999 a thousand, β₂ = 0.95 only twenty. Both averages start at
# zero, and dividing by 1 - βᵗ corrects for that.
#
# Here is Adam for a single weight, with everything in units of the learning rate. We compare it with `torch.optim.AdamW` and with the version
# that the experiments use, on fifty random gradients with one large spike.

# %%
def adam(gradients, beta2, beta1=0.9):
    m, v, updates = 0.0, 0.0, []
    for t, g in enumerate(gradients, 1):
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
        updates.append(m / (1 - beta1**t) / math.sqrt(v / (1 - beta2**t)))
    return updates


# %%
def torch_adam(gradients, beta2, lr=1e-3):
    weight, positions = torch.zeros(1, dtype=torch.float64, requires_grad=True), [0.0]
    optimizer = torch.optim.AdamW([weight], lr=lr, betas=(0.9, beta2), eps=0, weight_decay=0)
    for g in gradients:
        weight.grad = torch.tensor([g], dtype=torch.float64)
        optimizer.step()
        positions.append(weight.item())
    return [(a - b) / lr for a, b in zip(positions, positions[1:])]


# %%
from experiments.spike import adam_updates, largest_update, steps_to_recover

gradients = torch.randn(50, generator=torch.Generator().manual_seed(0), dtype=torch.float64).tolist()
gradients[30] *= 100
for beta2 in (0.95, 0.98, 0.999):
    by_hand = adam(gradients, beta2)
    assert all(math.isclose(a, b, abs_tol=1e-9) for a, b in zip(by_hand, torch_adam(gradients, beta2)))
    assert all(math.isclose(a, b, abs_tol=1e-12) for a, b in zip(by_hand, adam_updates(gradients, beta2)))

# %% [markdown]
# Now the thought experiment. A weight has had gradients of 1 for a long time, so all its updates were 1. Then comes one spike of size g,
# and after it all is as before. If g dwarfs all the rest, `m` jumps to about (1 - β₁) g, and the root of `v` to about √(1 - β₂) g. The g cancels! The
# larger the spike, the nearer the step, in learning rates, comes to
#
# $$ \frac{1 - \beta_1}{\sqrt{1 - \beta_2}} \tag{9.1} $$
#
# which is 0.45 for β₂ = 0.95 and 3.16 for 0.999. With the short memory, a spike of ten thousand makes a step *smaller* than the usual one. With the long
# memory it makes one that is three times as large, in all weights at once, and in a direction that a single odd batch has chosen. (Spikes of moderate size
# end a little above (9.1), as the table shows, because `m` then still holds a share of the older gradients.)

# %%
# NBVAL_CHECK_OUTPUT
past = [1.0] * 10_000
for beta2 in (0.95, 0.98, 0.999):
    spikes = "  ".join(f"{size:,}: {adam([*past, float(size)], beta2)[-1]:.3f}" for size in (10, 100, 10_000))
    limit = 0.1 / math.sqrt(1 - beta2)
    assert math.isclose(limit, largest_update(beta2))
    print(f"beta2 {beta2:<5}  update by a spike of {spikes}   formula {limit:.3f}   "
          f"within 10 % after {steps_to_recover(beta2):,} steps")

# %% [markdown]
# The last column is the second half of the harm, and it is easy to overlook. After a spike of 100, `v` remembers it, and as long as it does, every
# step is too small. With β₂ = 0.95 that takes 152 steps; with 0.999 it takes almost four thousand. A run with long memory first jumps too far, and then it is
# half asleep. Left: the jump, which momentum carries on for a dozen steps. Right: the sleep, on a logarithmic axis.

# %% alt="Two line plots of the size of an update after one spike. Left: with β₂ = 0.999 it jumps to 3.3 learning rates, with 0.95 it drops to 0.5. Right, on a logarithmic axis: 0.999 needs thousands of steps to return to one."
figure, (left, right) = plt.subplots(1, 2, figsize=(7, 2.5), layout="constrained")
for beta2, color in COLORS.items():
    updates = adam([*past, 100.0, *[1.0] * 6000], beta2)
    left.plot(range(-10, 31), updates[9_990:10_031], LINES[beta2], marker=".", ms=3, lw=1, color=color, label=f"β₂ = {beta2}")
    right.semilogx(range(1, 6001), updates[10_001:], LINES[beta2], lw=1, color=color)
for ax, text in ((left, "steps after the spike"), (right, "steps after the spike (log)")):
    ax.axhline(1, color="gray", lw=0.6)
    ax.set(xlabel=text, ylabel="update (learning rates)", ylim=(0, None))
left.legend(frameon=False)
plt.show()

# %% [markdown]
# One more thing before the live run: a *young* average has a short memory whatever β₂ says. At step t, `v` is the average of t squares at most. So
# early in training the bias correction makes β₂ = 0.999 behave like a smaller one, and the value is lower. `largest_update` takes the step
# into account. We check it by hand: only then do we know what to expect of runs as short as ours.

# %%
# NBVAL_CHECK_OUTPUT
for steps in (61, 251, 10_000):
    limits = {beta2: largest_update(beta2, steps) for beta2 in (0.95, 0.999)}
    for beta2, limit in limits.items():
        assert math.isclose(limit, adam([0.0001] * (steps - 1) + [1e6], beta2)[-1], rel_tol=1e-6)
    print(f"huge spike at step {steps:6,}: {limits[0.95]:.2f} (0.95) and {limits[0.999]:.2f} (0.999) learning rates")

# %% [markdown]
# ## 2. A spike in a real run
#
# The paper's large runs spike by themselves: first the gradient's norm, then the norm of the update, then the loss (Figure 5). With β₂ = 0.95 the gradients
# still spike now and then, but the loss does not follow. Towers as small as ours do not spike, so **the spike here is injected**: half-way,
# the gradient of one step is multiplied by 100 in every weight. This tests the second part of the story, what a spike *does*. Where spikes come from, it cannot
# say.
#
# Four live runs: β₂ = 0.95 and 0.999, with and without spike. Those without are the negative control: same weights, same batches, factor 1. Batch 32, 120
# steps. (The committed runs have batch 128 and 500 steps, with the spike at step 250.)

# %%
from experiments.common import sigmoid_setting

spike_claim = claims["siglip-beta2"]
live = {}
for beta2 in (0.95, 0.999):
    for what in ("no spike", "spike"):
        setting = {**spike_claim.settings[f"beta2 {beta2}, {what}"], **sigmoid_setting(32), "steps": 120}
        live[beta2, what] = spike_claim.run(complete(spike_claim.run, setting), 100)

# %%
for (beta2, what), run in live.items():
    print(f"beta2 {beta2:<5} {what:8s}  usual update {run['update_before']:.2f}, at the spike {run['update']:.2f} learning rates "
          f"(formula {largest_update(beta2, 61):.2f});  loss in the 20 steps after {run['loss_after']:.2f} nats")

# %% [markdown]
# The usual update is far below 1, since real gradients change their sign and `m` averages much of them away. That is why an update of half a learning rate is
# already a large one, with either β₂. The update at the spike comes near the value of section 1. It is not equal to it: it is a root mean square over all
# weights, weight decay included, and a factor of 100 on a gradient that happens to be small is no spike for that weight.
#
# **Figure 5**, around the spike. Thick lines are the committed runs, mean over the seeds; dotted gray is β₂ = 0.95 without spike. Thin lines
# are the live runs: another batch, another level, so compare the shapes.

# %%
committed = read_result("siglip-beta2")
PANELS = {"near_loss": "loss (nats)", "near_gradient_norm": "gradient norm", "near_update": "update (learning rates)"}


def draw_spike(ax, key, setting, color, line, label):
    curves = torch.tensor(read_curves(committed, setting, key), dtype=torch.float64)  # [seeds, steps]
    ax.plot(range(-10, curves.shape[1] - 10), curves.mean(0), ls=line, lw=1.8, color=color, label=label)


# %% alt="Three line plots against the steps after the spike: loss, gradient norm and update. The gradient norm jumps alike for all; update and loss jump most with β₂ = 0.999 and least with 0.95. The dotted run without spike stays flat."
figure, axes = plt.subplots(1, 3, figsize=(7, 2.6), layout="constrained")
for ax, (key, label) in zip(axes, PANELS.items()):
    draw_spike(ax, key, "beta2 0.95, no spike", "gray", ":", "0.95, no spike")
    for beta2, color in COLORS.items():
        draw_spike(ax, key, f"beta2 {beta2}, spike", color, LINES[beta2], f"β₂ = {beta2}")
        if (beta2, "spike") in live:
            ax.plot(range(-10, 40), live[beta2, "spike"][key], LINES[beta2], lw=0.6, color=color, label=f"{beta2}, live")
    ax.set(xlabel="steps after the spike", ylabel=label, yscale="log" if "norm" in key else "linear")
figure.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=6, frameon=False, fontsize=7)
plt.show()

# %% [markdown]
# Read it from the middle panel, where the cause is, to the right one, the optimizer's answer, and then to the left one, the harm. The middle panel's
# spike is the same for all three by construction. What differs to the right of it is due to β₂ alone.
#
# The updates of the committed runs at the spike are about 0.4 (β₂ = 0.95), 0.6 (0.98) and 1.2 (0.999), near the formula's 0.45
# and 1.49 for 0.95 and 0.999. The loss of about 4.2 nats without spike is 5.1 on average in the twenty steps after it with
# 0.95, 5.5 with 0.98 and 6.4 with 0.999, more than the 5.85 of a model without knowledge. So 0.95 feels the spike, too; it
# gets over it.
#
# ## 3. A batch can be too large
#
# From scratch, SigLIP is best at a batch of 32 thousand (73.4 %) and loses about two points at 307 thousand (71.6 %). The softmax loses less
# (73.2 to 72.6, Table 5). With a locked image tower there is no loss at all, up to a million (Table 8). The paper gives no explanation. But the batch
# size never changes alone. At equal examples, at least four things go along with it:
#
# - **Steps.** Nine times the batch, a ninth of the steps.
# - **The learning rate.** The paper keeps it. With fewer and less noisy steps a larger one might be right.
# - **The bias.** A start of b = -10 fits some 22 thousand pairs. Beyond, there are more wrong pairs than it knows of.
# - **Repeated captions.** The more pairs, the more often the same thing is in the batch twice, as a false negative.
#
# The third can be computed. When all scores are zero, the slope of the loss in `b` is the push minus the pull of notebook 04,
# (B - 1) σ(b) - σ(-b). It is zero where the prior is right. We check the formula with autograd, and print it for the paper's batches and for ours.

# %%
from minclip.sigmoid_loss import sigmoid_loss


def slope(B, b):
    return (B - 1) / (1 + math.exp(-b)) - 1 / (1 + math.exp(b))


b, nothing = torch.tensor(-5.0, dtype=torch.float64, requires_grad=True), torch.zeros(1024, 8, dtype=torch.float64)
sigmoid_loss(nothing, nothing, b.detach(), b).backward()
assert math.isclose(b.grad, slope(1024, -5.0))

# %%
# NBVAL_CHECK_OUTPUT
for B, examples in ((32_768, 9e9), (307_200, 9e9), (128, 61_440), (1024, 61_440)):
    best = -math.log(B - 1)
    assert abs(slope(B, best)) < 1e-9
    print(f"B {B:7,}: {examples / B:9,.0f} steps   best b {best:6.2f}   slope at -10: {slope(B, -10.0):6.2f}")

# %% [markdown]
# At 307 thousand, b = -10 is 2.6 too high, and the first thing that all weights feel is a push fourteen times as strong as the pull. This is a candidate, and one
# that the softmax does not have. At our batches -10 is too *low* instead, so the experiment takes the right b, and then one that is too high by the same 2.6.
#
# The fourth can be counted. Blind batches of 128 and of 1,024, from our training pictures:

# %%
# NBVAL_CHECK_OUTPUT
from minclip.data import BatchOrder, load_pairs

train = load_pairs("emoji", "train", image_size=32)
for B in (128, 1024):
    order = BatchOrder(torch.arange(len(train)), B, seed=0)
    batches = [train.labels[order.indices(step)] for step in range(10)]
    false = sum((labels[:, None] == labels).sum().item() - B for labels in batches) / 10
    print(f"B {B:5,}: {false:6.1f} false negatives a batch, {false / B:.2f} for each picture")

# %% [markdown]
# Which of the four is it? The arithmetic only makes suspects. So the experiment **switches one factor at a time**. The starting point is batch 1,024, with 60
# steps. Each row of the figure is a run that differs from it in one thing, and a dot tells by how many points of accuracy it ends above or
# below. Bars are 95 % intervals over five seeds, paired. The same on the left for both towers from scratch and on the right for a locked image tower. Nothing is trained
# live here, because a short version of "too few steps" would answer the question by itself.

# %%
batch = read_result("siglip-large-batch")
ROWS = {"128, all its steps": "128", "128, as few steps": "128, steps of 1024", "4 x the steps": "1024, 4 x steps",
        "a faster rate": "1024, faster", "b too high by 2.6": "1024, b too high", "b = -10": "1024, b -10",
        "duplicates": "1024, duplicates", "duplicates, masked": "1024, duplicates masked", "softmax": "1024, softmax"}


def against_1024(tower, setting):
    return paired_difference(batch["measurements"], f"{tower}: {setting}", f"{tower}: 1024", "in_distribution")


# %% alt="Two dot plots with intervals: points of accuracy won or lost against batch 1,024, for nine changes, from scratch and with a locked tower. Four times the steps gain most, fewer steps and a bias that is too high lose most."
figure, axes = plt.subplots(1, 2, figsize=(7, 2.8), layout="constrained", sharey=True)
for ax, tower, color in zip(axes, ("scratch", "locked"), ("#0072B2", "#E69F00")):
    effects = [against_1024(tower, setting) for setting in ROWS.values()]
    half = [100 * (effect["ci95"][1] - effect["mean"]) for effect in effects]
    ax.errorbar([100 * effect["mean"] for effect in effects], list(ROWS), xerr=half, fmt="o", ms=4, capsize=2, color=color)
    ax.axvline(0, color="gray", lw=1)
    (start,), _ = means(batch, [f"{tower}: 1024"], "in_distribution")
    ax.set(title=f"{tower}: batch 1,024 has {start:.1%}", xlabel="top-1 against batch 1,024 (points)")
axes[0].invert_yaxis()
plt.show()

# %% [markdown]
# The first row is the paper's question: how much better is the small batch at equal examples? Then look for the rows that explain it. If the second row is as far to the
# left as the first is to the right, the small batch is nothing special; it merely had more steps. If "four times the steps" brings back what was lost, it was
# the steps again. If a faster rate does, it was the rate. The last five rows concern the loss and what it is given.
#
# From scratch, two rows stand out. With four times the steps the batch of 1,024 reaches 28.5 %, more than twice what 128 does
# with the same examples in the first place; and with as *few* steps, 128 ends under 1 %, far below it. A faster rate changes
# nothing. The other factor that counts is the bias: too high by 2.6, it takes nearly all that there was. On the locked tower
# the same rows matter, a faster rate helps there, and the high bias does even more harm: from 14.8 to 1.4 %. Duplicates cost
# one or two points, and masking them brings nothing back, so it is not that they are false negatives: blind batches show the
# common concepts more often and the rare ones less.
#
# The fall from 128 to 1,024 is 9.7 points from scratch and 6.3 on the locked tower. It is larger from scratch, as in the
# paper, but the locked tower is not spared, as it is there. The softmax falls as much as the sigmoid does.
#
# Be careful with the conclusion for the paper's runs. There, 307 thousand pairs still get 29 thousand steps, not 60. What is a shortage of steps here may be something
# else there. This experiment can say what *can* make a large batch lose, not what did.
#
# ## 4. Weights that fade
#
# Weight decay makes every weight a little smaller in each step, by the factor 1 - rate × decay. What the gradient wants is added on top. For towers
# that start from nothing, this is harmless and often useful. But suppose that the image tower comes in trained. Then decay pulls at
# what it already knows, and Figure 4 says: fine-tune with decay, and after a while the tower is no better than one from scratch. Without decay
# on that tower, it stays ahead.
#
# How much is left of a weight that no gradient holds? A product over all steps. The learning rate goes up for a tenth of the steps and then down along a cosine.

# %%
# NBVAL_CHECK_OUTPUT
def left_over(decay, steps, lr=3e-3):
    rates = [lr * min(1, (t + 1) / (0.1 * steps)) * 0.5 * (1 + math.cos(math.pi * t / steps)) for t in range(steps)]
    return math.prod(1 - rate * decay for rate in rates)


for decay, steps in ((0.2, 240), (8, 60), (8, 120), (8, 240), (48, 40)):
    print(f"decay {decay:4}, {steps:3} steps: {left_over(decay, steps):6.1%} of an unused weight is left")

# %% [markdown]
# A usual decay of 0.2 does next to nothing in a run as short as ours; the paper's large runs have tens or hundreds of thousands of steps. So the committed runs take a *strong* one, 8. It stands for a long run, and
# says so. The live runs are still shorter, 40 steps, and need 48 for the same effect. This is the same arithmetic read backwards, and the package's optimizer
# must agree with it: a weight whose gradient is zero, sixty steps.

# %%
from minclip.optimizer import set_learning_rate

weight = torch.ones(1, dtype=torch.float64, requires_grad=True)
optimizer = torch.optim.AdamW([{"params": [weight], "lr_factor": 1.0}], lr=3e-3, weight_decay=8.0)
for step in range(60):
    set_learning_rate(optimizer, 3e-3, step, warmup_steps=6, max_steps=60)
    weight.grad = torch.zeros_like(weight)
    optimizer.step()
assert math.isclose(weight.item(), left_over(8.0, 60), rel_tol=1e-9)

# %% [markdown]
# Three live runs. Two start from an image tower that has learned to name the training pictures (the one of notebook 08, if it is still in `runs/cache`), one with decay and one without it
# **on the image tower** (the rest decays in either case). The baseline starts from scratch. Two numbers: the zero-shot accuracy of the whole
# model, and what the image tower knows *without any text*. For that, a new drawing gets the name whose training drawings are nearest on average. The paper uses a
# ten-shot classifier for the same purpose.

# %%
decay_claim, tuned = claims["siglip-weight-decay"], {}
SHORT = {**sigmoid_setting(128), "steps": 40, "weight_decay": 48.0, "tower_steps": 100}
for kind in ("scratch", "tuned with decay", "tuned without"):
    setting = {**decay_claim.settings[f"{kind}, 240 steps"], **SHORT}
    tuned[kind] = decay_claim.run(complete(decay_claim.run, setting), 100)
    print(f"{kind:17s} zero-shot {tuned[kind]['in_distribution']:5.1%}   image tower alone {tuned[kind]['few_shot']:5.1%}")

# %% [markdown]
# In 40 steps the text tower has hardly begun, so look at the second number. One kind of weight cannot be hurt in this way: a convolution that a batch norm follows. Its output is
# rescaled, so only the direction of its weights counts. But small weights turn faster under the same step, so even there decay loosens what was learned.
#
# **Figure 4.** Accuracy against examples seen; each dot is a run of its own, of 60, 120 or 240 steps of 256 pairs, mean and 95 % interval
# over the seeds. Hollow markers are the live runs: another batch size, far fewer examples.

# %%
fading = read_result("siglip-weight-decay")
KINDS = {"scratch": ("black", "o"), "tuned with decay": ("#D55E00", "s"), "tuned without": ("#0072B2", "^")}
BUDGETS = (60, 120, 240)


def draw_budgets(ax, key, kind, color, marker):
    y, error = means(fading, [f"{kind}, {steps} steps" for steps in BUDGETS], key)
    style = {"fmt": f"{marker}-", "ms": 4, "lw": 1, "capsize": 2, "color": color, "label": kind}
    ax.errorbar([0.256 * steps for steps in BUDGETS], [100 * v for v in y], [100 * v for v in error], **style)
    ax.plot(0.128 * 40, 100 * tuned[kind][key], marker, ms=7, mfc="none", color=color)


# %% alt="Two line plots against examples seen, in thousands: zero-shot accuracy, and the accuracy of the image tower alone. Both tuned towers rise well above the run from scratch and stay close to each other. Hollow markers are the live runs."
figure, axes = plt.subplots(1, 2, figsize=(7, 2.5), layout="constrained")
for ax, key, label in zip(axes, ("in_distribution", "few_shot"), ("zero-shot top-1 (%)", "image tower alone, top-1 (%)")):
    for kind, style in KINDS.items():
        draw_budgets(ax, key, kind, *style)
    ax.set(xlabel="examples seen (thousands)", ylabel=label, xlim=(0, None), ylim=(0, None))
axes[0].plot([], [], "ko", ms=7, mfc="none", label="live, smaller")
axes[0].legend(frameon=False, fontsize=7)
plt.show()

# %% [markdown]
# Note that the three budgets are not one run looked at three times. Each has its own schedule, and by the arithmetic above, the shortest decays an
# unused weight to a half and the longest to a fourteenth. So to the right there is more training *and* more decay, as in a long run.
#
# Nothing of the kind is seen here. The tower tuned *with* decay stays six to eight points above the run from scratch, and
# above the one without decay too, if anything. Strong decay even helps the run from scratch (15.5 % instead of 12.8 % with the
# usual one). A short run has no time to forget, and decay makes its steps larger relative to the weights.
#
# ## 5. The check
#
# The formulas stand above, each beside torch. For the live runs: without a spike, nothing jumps; the injected one makes a larger update with 0.999 than
# with 0.95, neither far above the formula, and with 0.999 it costs loss. And the tuned tower knows more without decay than with it.

# %%
for (beta2, what), run in live.items():
    if what == "spike":
        assert run["update"] < 1.2 * largest_update(beta2, 61) and run["largest_jump"] > 30
    else:
        assert run["update"] < 2 * run["update_before"] and run["largest_jump"] < 10
assert live[0.999, "spike"]["update"] > 1.2 * live[0.95, "spike"]["update"]
assert live[0.999, "spike"]["loss_after"] > live[0.999, "no spike"]["loss_after"]
assert tuned["tuned without"]["few_shot"] > tuned["tuned with decay"]["few_shot"]

# %% [markdown]
# Then the three claims, on the committed runs and by the rules that were written down before. The cell judges the numbers anew, and must
# come to the verdict that is written in `results/`. Lines with a star decide; the others are reported beside them.

# %%
for id, record in {"siglip-beta2": committed, "siglip-large-batch": batch, "siglip-weight-decay": fading}.items():
    print(claims[id].rule)
    print(answer(claims[id], record))  # raises an error if the verdict does not follow
    print()

# %% [markdown]
# For β₂ the answer is **reproduced**. The first starred line is close to arithmetic, and would be a bug if it failed. The
# second, the loss, is the empirical part: after the spike, the run with 0.999 loses 1.3 nats more than the one with 0.95, and
# in the end nearly all of its accuracy. Two more things: 0.95 pays for the spike as well, nine tenths of a nat; and when
# nobody injects a spike, nothing is wrong with 0.999 here.
#
# The large batch is **reproduced**, with a smaller difference between the two towers than in the paper. What explains most of
# it here is the number of steps: it is the only change that brings everything back. A bias that is too high can ruin a run,
# too; the paper's largest batches had that as well.
#
# Weight decay is **not at this scale**: it does not harm the tuned tower, alone or with text. With the usual decay of 0.2
# there is no difference at all, as the arithmetic of section 4 has it: hardly anything decays in 240 steps.
#
# Three limits. The spike was made by us; that real spikes come from one odd batch, in all weights at the same time, is an assumption. A batch of 1,024
# is large for 12,615 pictures and small for the paper. And the strong decay stands in for a long run, which it resembles in the sum only.
#
# ## 6. Try it yourself
#
# - In section 1, multiply the spike's *neighbours* too: `[*past, 100.0, 100.0, 100.0]`. Ten-step memory meets three spikes. How large does the third update
#   get with β₂ = 0.95? (The formula is for one spike only. More gradients in the same direction are no longer an accident.)
# - In section 2, clip the gradient: most training code scales it down when its norm exceeds 1. Add `min(g, 1.0)` for the spike in `adam` and the whole
#   problem is gone. Then why does anybody care about β₂? (Clipping needs to know what is usual, and acts on all weights together.)
# - In section 2, set `"spike_at": 0.1` in the settings. The spike comes at step 12, and the formula says that the two β₂ are now nearly alike. Are they?
# - In section 4, add `"tower_decay": 0.25` to the run with decay. How little decay is little enough? First ask `left_over(12, 40)`.
#
# **Next.** All captions so far were English. Does a model that learns ten languages at once pay for it in each of them? Notebook
# [10 · Many languages](10_many_languages.ipynb) finds out. Before:
# [08 · Negatives and noise](08_negatives_and_noise.ipynb).
