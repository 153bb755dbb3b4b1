# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 08 · Negatives and noise
#
# **Paper.** SigLIP ([Zhai et al., 2023](https://arxiv.org/abs/2303.15343)): section 4.5 and Figure 6 (which negatives the loss
# needs), section 4.8 and Figure 7 (what happens when a part of the data is wrong).
#
# **The question.** Of the B² pairs of a batch, which ones teach the model something, and how much harm do wrong ones do?
#
# **What you need first.** [04 · The sigmoid loss](04_sigmoid_loss.ipynb): one yes-or-no question for each pair. Helpful:
# [01 · Pairs and tokens](01_pairs_and_tokens.ipynb) on repeated names, and [07 · Bias and temperature](07_bias_and_temperature.ipynb).
#
# **Time.** About one minute on two CPU cores, of which some 20 seconds are training.
#
# A batch of 256 pairs has 256 right answers and 65,280 wrong ones, the **negatives**. Most of them are dull. Nobody who has seen a
# penguin once is in doubt whether it is called "tractor". In the softmax every one of them is needed, because it is part of a sum
# that all the others are divided by. In the sigmoid loss each pair is a question of its own, so one may simply leave questions out. This
# makes an experiment possible that the softmax does not allow: throw away most of the negatives, choose which, and see what is lost.
#
# The second half of the notebook asks the reverse. There, nothing is left out, but a share of the pairs is *wrong*: pictures of nothing,
# captions of random words, captions that belong to another picture. Data from the web contain all three.

# %%
import math

import matplotlib.pyplot as plt
import torch

from experiments.claims import answer, load_claims, means, read_result
from experiments.sweep import complete

plt.rcParams.update({"figure.figsize": (3.5, 2.5), "figure.dpi": 150, "font.size": 8})
COLORS = {"random": "#0072B2", "hard": "#D55E00", "easy": "#009E73", "all": "black"}
MARKERS = {"random": "o", "hard": "s", "easy": "^", "all": "D"}
claims = load_claims()  # also puts the repository's experiments/ on Python's path

# %% [markdown]
# ## 1. A mask, in eight lines
#
# Compute the table of scores as always. Put all its negatives, of all rows together, into one list. Keep `ratio` times B of them: the
# ones with the **highest** scores (*hard*: the model thinks they fit, so they cost most), the ones with the **lowest** (*easy*: it has
# known for long that they do not), or a **random** handful. The positives on the diagonal always stay. The others are masked: they add
# nothing to the loss, and so they push nobody.

# %%
def used_by_hand(scores, kind, ratio):
    wrong = ~torch.eye(len(scores), dtype=torch.bool)  # [B, B]: where the negatives are
    order = scores[wrong].argsort(descending=kind == "hard")
    if kind == "random":
        order = order[torch.randperm(len(order))]
    keep = torch.zeros(len(order), dtype=torch.bool)
    keep[order[: round(ratio * len(scores))]] = True
    return (~wrong).masked_scatter(wrong, keep)  # the diagonal, and what is kept


# %% [markdown]
# The experiments use `used_pairs` and `masked_sigmoid_loss` from `experiments/negatives.py`. They must choose the same cells. Random ones
# can only be compared in number. And two things must hold for the loss: with *all* negatives kept it is the sigmoid loss of notebook
# 04, and with some of them masked it is the sum over the cells that are left, still divided by B. (Divided by the number of *used* pairs,
# the pull on the right pairs would grow as one masks more, and one would compare two things at once.)

# %%
from experiments.negatives import masked_sigmoid_loss, used_pairs
from minclip.sigmoid_loss import sigmoid_loss

torch.manual_seed(0)
scores = torch.randn(12, 12, dtype=torch.float64) + 2 * torch.eye(12, dtype=torch.float64)
for kind in ("hard", "easy"):
    assert torch.equal(used_by_hand(scores, kind, 2), used_pairs(scores, kind, 2))
assert used_by_hand(scores, "random", 2).sum() == used_pairs(scores, "random", 2).sum() == 12 + 24
assert used_pairs(scores, "random", 2).diagonal().all()

# %%
x, y = torch.nn.functional.normalize(torch.randn(2, 12, 16, dtype=torch.float64), dim=-1)
scale, bias = torch.tensor(2.3).double(), torch.tensor(-2.4).double()
logits = scale.exp() * x @ y.T + bias
cost = -torch.nn.functional.logsigmoid(torch.where(torch.eye(12, dtype=torch.bool), logits, -logits))  # of each pair
everything, count = masked_sigmoid_loss(x, y, scale, bias, "hard", ratio=11)
torch.testing.assert_close(everything, sigmoid_loss(x, y, scale, bias))
some, used = masked_sigmoid_loss(x, y, scale, bias, "easy", ratio=2)
torch.testing.assert_close(some, cost[used_by_hand(logits, "easy", 2)].sum() / 12)
assert (count, used) == (144, 36)

# %% [markdown]
# The figure shows one table of 12 pairs and what is left of it at a ratio of 2, so 24 negatives of 132. Dark cells have high scores, white ones are masked. Look at the
# rows of the hard mask: nothing says that every picture must keep two negatives. A picture that the model confuses with many
# keeps many, and one that it knows well keeps none.

# %% alt="Four heat maps of one table of 12 pictures and 12 captions: all scores, and what is left at a ratio of 1:2 of random, hard and easy negatives. Hard cells are dark, easy ones pale; the diagonal is always kept."
figure, axes = plt.subplots(1, 4, figsize=(7, 2.1), layout="constrained")
for ax, kind in zip(axes, ("all", "random", "hard", "easy")):
    shown = scores if kind == "all" else scores.masked_fill(~used_pairs(scores, kind, 2), math.nan)
    picture = ax.imshow(shown, cmap="Blues", vmin=-6, vmax=4)
    ax.set(title=kind if kind == "all" else f"{kind} 1:2", xlabel="caption", xticks=[], yticks=[])
axes[0].set_ylabel("picture")
figure.colorbar(picture, ax=axes, label="score (no unit)", shrink=0.8)
plt.show()

# %% [markdown]
# ## 2. Pairs computed, pairs used
#
# Before anybody gets excited: **masking saves no computation.** To know which negatives are hard, one has to compute all scores. The towers
# have run on all pictures and all captions anyway. So each run has two prices. *Pairs computed* is B² a step, whatever is masked. *Pairs
# used* is what the loss gets to see. Figure 6 asks which of the *used* ones matter. It does not offer a cheaper training.
#
# A run that uses fewer pairs a step can go on for longer until it has used as many as the full run. The paper calls this matched
# pairs. In our long runs the batch is 256 and the full run takes 240 steps. The table shows what matching takes. At 1:1.6 it would
# be almost a hundred times as many steps. We have done it for 1:64 only.

# %%
# NBVAL_CHECK_OUTPUT
from experiments.siglip_negatives import STEPS, matched_steps

for ratio in (255, 64, 16, 1.6):
    used = 256 + round(256 * ratio)
    print(f"1:{ratio:<4}  pairs a step: computed {256**2:,}, used {used:6,} ({used / 256**2:6.1%});"
          f"  matched: {matched_steps(ratio):6,} steps in place of {STEPS}")

# %% [markdown]
# ## 3. What the bias makes of it
#
# The middle panel of Figure 6 shows the learned bias, and part of what it shows can be predicted without any training. If K negatives
# stand against each positive, one question in K + 1 is to be answered with yes. A model that knows nothing should say
# σ(b) = 1 / (K + 1), and that is **b = -ln K**. Fewer negatives, higher bias. Here is the check: with scores of zero, the loss
# should be flat in `b` at this place. We ask autograd.

# %%
# NBVAL_CHECK_OUTPUT
nothing = torch.zeros(256, 8, dtype=torch.float64)  # features that say nothing: all scores are b
for ratio in (255, 64, 16, 1.6):
    b = torch.tensor(-math.log(round(256 * ratio) / 256), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(masked_sigmoid_loss(nothing, nothing, scale, b, "hard", ratio)[0], b)
    assert abs(slope) < 1e-9
    print(f"1:{ratio:<4} a model without knowledge wants b = {b.item():5.2f}")

# %% [markdown]
# Random masking changes the prior and nothing else, so the bias should rise roughly like this. The other two change the *exam* as well. Easy
# negatives are those that already have low scores. One way to please such an exam is to give *high* scores to nearly everything
# and let a few cells drop: what is masked is never graded. Nothing then forces the towers to tell a penguin from a parrot.
# Hard negatives are the opposite, the few cells that cost the most, and they carry most of the push that the full table has.
#
# **One danger.** What is the hardest negative of all? A caption that is *right* and called wrong: the same name, drawn by another artist,
# in the same batch. Our batches hold every concept once (notebook 01), so this cannot happen. Whoever draws pairs blindly gets
# such **false negatives**, few in the whole table, but for a good model all of them are at the top of the list of hard ones. Here they are
# counted, for blind batches of 256 from the training pictures.

# %%
# NBVAL_CHECK_OUTPUT
from minclip.data import BatchOrder, load_pairs

train = load_pairs("emoji", "train", image_size=32)
for name, groups in (("blind", torch.arange(len(train))), ("distinct", train.groups)):
    batches = [train.labels[BatchOrder(groups, 256, seed=0).indices(step)] for step in range(50)]
    false = sum(((labels[:, None] == labels).sum().item() - 256) / 50 for labels in batches)
    print(f"{name:9s} {false:4.1f} false negatives a batch: {false / 65280:.3%} of all, "
          f"at most {false / 410:.1%} of the hard ones at 1:1.6")

# %% [markdown]
# ## 4. Train with few negatives
#
# Now we train. From scratch, 20 seconds are too few for so many runs, so the live runs are of a smaller kind: the image tower is **locked**. It
# is trained first, for a few seconds, to name the training pictures (and kept in `runs/cache`, so the second time it is there at once); then
# its features are fixed, and only the text tower and one linear map learn by the loss. The committed long runs in section 7 train
# both towers from scratch. Function and settings are the same, with other values: `claims[...].run` and `claims[...].settings`.
#
# Five runs: all negatives as the baseline; random, hard and easy ones at 1:16; random ones at 1:1.6. They start from the same weights
# and see the same batches. Three measures: the zero-shot accuracy of notebook 03 (new drawings, 1,914 names, chance is 0.05 %), retrieval
# (the caption of a new drawing among all 1,428 of them, skin tones included; chance 0.07 %), and the same for *held-out compositions*, combinations
# of person, profession and skin tone that were in no training caption. The last is the easiest, so a short run shows most there.

# %%
from experiments.common import sigmoid_setting

LIVE = {**sigmoid_setting(128), "steps": 120, "image_tower": "locked", "tower_steps": 100}


def live(claim, setting, seed=100, **more):
    return claim.run(complete(claim.run, {**claim.settings[setting], **LIVE, **more}), seed)


masks = ("all", "random 1:16", "hard 1:16", "easy 1:16", "random 1:1.6")
masked = {name: live(claims["siglip-negatives"], name) for name in masks}

# %%
KEYS = {"in_distribution": "top-1", "retrieval": "retrieval", "held_out": "held out"}
accuracies = lambda run: "   ".join(f"{text} {run[key]:5.1%}" for key, text in KEYS.items())  # noqa: E731
for name, run in masked.items():
    print(f"{name:13s} {accuracies(run)}   b {run['logit_bias']:5.2f}   pairs used {run['pairs_used']:9,}")
print(f"pairs computed, in each of them: {run['pairs_computed']:,}")

# %% [markdown]
# One seed and a short run, so do not rank the upper three rows by it. Two things can be read off safely. Easy negatives teach far less, though
# this run has used as many pairs as the two above it: the *number* of negatives is not what counts. And with 1.6 random negatives the
# bias ends higher than with all of them, as section 3 said.
#
# ## 5. Three ways to be wrong
#
# Section 4.8 of the paper spoils a share p of the data, anew in each step:
#
# - **image**: the picture is replaced by noise, each pixel drawn at random;
# - **text**: the caption's tokens are replaced by random ones (start, end and padding stay, so the length does too);
# - **alignment**: among the chosen pairs the captions are exchanged. Picture and caption are both fine, but not together.
#
# By hand this is ten lines. Which pairs are hit is drawn for each kind on its own. If the same random numbers are drawn in the same order,
# `corrupt` from `experiments/noise.py` must return exactly the same.

# %%
def corrupt_by_hand(images, ids, shares, vocab_size, generator):
    hit = torch.rand(len(ids), 3, generator=generator) < torch.tensor(shares)  # [B, 3]: image, text, alignment
    noise = torch.randn(images.shape, generator=generator).clamp(-1, 1)
    words = torch.randint(3, vocab_size, ids.shape, generator=generator)  # 0, 1, 2 are the special tokens
    images, ids = images.clone(), ids.clone()
    images[hit[:, 0]] = noise[hit[:, 0]]
    ids[hit[:, 1]] = torch.where(ids > 2, words, ids)[hit[:, 1]]
    moved = hit[:, 2].nonzero().flatten()
    ids[moved] = ids[moved[torch.randperm(len(moved), generator=generator)]]
    return images, ids


# %%
from experiments.noise import corrupt
from minclip.data import plain
from minclip.tokenizer import Tokenizer

tokenizer = Tokenizer.train(sorted({names[0] for names in train.captions}), 2048)
sample = train.select(torch.tensor([90, 1200, 2500, 4700, 7000]))
images, ids = plain(sample.images, 32), tokenizer([names[0] for names in sample.captions], context_length=16)

# %%
for shares in ((0.5, 0.0, 0.0), (0.0, 0.5, 0.5), (0.3, 0.6, 0.9)):
    setting = dict(zip(("noise_image", "noise_text", "noise_alignment"), shares))
    package = corrupt(images, ids, setting, tokenizer.vocab_size, torch.Generator().manual_seed(7))
    by_hand = corrupt_by_hand(images, ids, shares, tokenizer.vocab_size, torch.Generator().manual_seed(7))
    assert all(torch.equal(a, b) for a, b in zip(package, by_hand))

# %% [markdown]
# This is what the model gets to see at p = 75 %, one kind in each row. Orange frames mark what differs from the first row.

# %%
def show(ax, picture, text, changed):
    ax.imshow((picture.permute(1, 2, 0) + 1) / 2)
    ax.set(xticks=[], yticks=[])
    ax.set_xlabel(tokenizer.decode(text)[:30], fontsize=6)
    ax.spines[:].set(color="#E69F00" if changed else "lightgray", linewidth=3 if changed else 0.5)


# %% alt="A grid of pictures with captions: five pairs as they are, then with image noise, with random words, and with exchanged captions. Orange frames mark what was changed; the noise pictures show coloured pixels only."
figure, axes = plt.subplots(4, 5, figsize=(7, 4.6), layout="constrained")
for line, kind in zip(axes, ("none", "image", "text", "alignment")):
    shares = {f"noise_{k}": 0.75 * (k == kind) for k in ("image", "text", "alignment")}
    pictures, texts = corrupt(images, ids, shares, tokenizer.vocab_size, torch.Generator().manual_seed(2))
    changed = (pictures != images).flatten(1).any(1) | (texts != ids).any(1)
    line[0].set_ylabel(kind)
    for ax, *cell in zip(line, pictures, texts, changed):
        show(ax, *cell)
plt.show()

# %% [markdown]
# Which kind should hurt most? Image noise and text noise are, in a way, honest. The model can learn what noise looks like and set such pairs
# aside; what remains is a smaller batch. (Text noise keeps the lengths, so a little can be learned from them even there.) An exchanged caption
# cannot be recognised by looking at it. It is a positive that is wrong, and the right pair is still in the batch, as a negative.
#
# Kinds can be combined, and independent shares multiply. At p = 75 % of everything, less than two pairs in a hundred arrive as they
# were. (An exchange may also hand a caption back to its own picture; on average this happens once in a batch, and is not counted here.)

# %%
# NBVAL_CHECK_OUTPUT
for kinds in (1, 2, 3):
    print(f"{kinds} kind(s) of noise, untouched pairs: ", *(f"{(1 - p) ** kinds:7.1%} at p = {p:.0%}" for p in (0.25, 0.5, 0.75)))
order = [torch.randperm(256, generator=torch.Generator().manual_seed(seed)) for seed in range(2000)]
fixed = sum((o == torch.arange(256)).sum().item() for o in order) / 2000
print(f"captions that an exchange hands back: {fixed:.1f} a batch")

# %% [markdown]
# ## 6. Train on wrong pairs
#
# Sigmoid and softmax, clean and with half of the captions exchanged. The baseline is the clean run. The **negative control** exchanges all
# captions in every step: then a picture says nothing about its caption, and a correct implementation must stay at chance.

# %%
noisy = {"sigmoid, clean": masked["all"]}
for loss, p in (("softmax", 0.0), ("softmax", 0.5), ("sigmoid", 0.5), ("sigmoid", 1.0)):
    name = f"{loss}, alignment {p:.0%}" if p else f"{loss}, clean"
    noisy[name] = live(claims["siglip-noise"], f"{loss}, clean", noise_alignment=p)
for name, run in noisy.items():
    print(f"{name:24s} {accuracies(run)}   t {run['logit_scale']:4.1f}")

# %% [markdown]
# The column `t` is the learned scale. A model whose positives are wrong half of the time must not be certain of any pair, and a
# smaller scale is how it says so: even a perfect one would, at p = 50 %, call only about half of its right answers right.
#
# ## 7. The figures
#
# **Figure 6.** The dots with bars are the committed long runs: both towers from scratch, batch 256, 240 steps, means and 95 % intervals over
# five seeds (`results/siglip-negatives.json`). The hollow markers are the live runs of section 4. They have a locked tower and a smaller
# budget, so compare hollow with hollow. To the right there are fewer negatives. In the paper the batch is 16 thousand, so its axis
# begins at 1:16k and ours at 1:255. Its third panel shows mean scores, which our runs did not keep; ours shows the held-out compositions.

# %%
long = read_result("siglip-negatives")
RATIOS = {"1:64": 64, "1:16": 16, "1:1.6": 1.6}


def draw_ratios(ax, key, factor):
    for kind in ("random", "hard", "easy"):
        y, error = means(long, ["all", *(f"{kind} {ratio}" for ratio in RATIOS)], key)
        y, error = [factor * v for v in y], [factor * v for v in error]
        style = {"fmt": MARKERS[kind] + "-", "ms": 4, "lw": 1, "capsize": 2, "color": COLORS[kind], "label": kind}
        ax.errorbar([255, *RATIOS.values()], y, error, **style)
        points = {RATIOS[n.split()[1]]: factor * r[key] for n, r in masked.items() if kind in n}
        ax.plot(points.keys(), points.values(), MARKERS[kind], ms=7, mfc="none", color=COLORS[kind])


# %% alt="Three line plots against the negatives for each positive, from 255 to 1.6: zero-shot accuracy, held-out compositions and the learned bias. Random falls step by step; hard and easy drop to the floor at once. The bias rises with fewer random negatives."
figure, axes = plt.subplots(1, 3, figsize=(7, 2.6), layout="constrained")
panels = {"in_distribution": "zero-shot top-1 (%)", "held_out": "held-out compositions (%)", "logit_bias": "learned bias b (no unit)"}
for ax, (key, label) in zip(axes, panels.items()):
    draw_ratios(ax, key, factor := 1 if key == "logit_bias" else 100)
    ax.plot(127, factor * masked["all"][key], "kD", ms=6, mfc="none", label="live, smaller (all)")
    ax.set(xscale="log", xlabel="negatives for each positive", ylabel=label, xlim=(450, 1))
    ax.set_xticks([255, 64, 16, 1.6], ["255", "64", "16", "1.6"]), ax.minorticks_off()
axes[2].plot([255, 1.6], [-math.log(255), -math.log(1.6)], ":", color="gray", label="-ln K (section 3)")
figure.legend(*axes[2].get_legend_handles_labels(), loc="outside upper center", ncols=5, frameon=False, fontsize=7)
plt.show()

# %% [markdown]
# How to read it. All lines begin at the same point on the left, the run with all negatives. A kind of negatives that is enough stays at
# this height as one goes to the right. In the right panel, a line that rises like the dotted one follows the prior. (It need not lie *on* it: a
# trained model's scores are not zero, and the bias makes up for their mean.)
#
# Random falls step by step, from 13.0 % with all to 1.3 % at 1:1.6. Easy fails at every ratio, as in the paper. And hard
# fails, too, which is the opposite of the paper: at 1:64 it is under 1 % already. A likely reason: in a short run from scratch
# the hardest cells are chosen by towers that know nothing yet, and the whole push goes against a few pictures and captions
# that happen to lie close to everything. The scale falls from 10 to 5 or 6 in these runs. (In the hollow markers, whose image
# tower knows something from the start, hard comes near random.)
#
# With random negatives the bias rises as the prior says it should: by 1.3 from all to 1:1.6. The hard and the easy runs end
# near -5.2, close to their start; they have learned little, the bias included.
#
# **The price.** The same runs once more, with the matched ones, first against the pairs used and then against the pairs computed. This is the
# question that Figure 6 leaves open: a masked run with matched pairs is *longer*. What would all pairs reach in that time?

# %% alt="Two dot plots of zero-shot accuracy against pairs used and against pairs computed, in millions. Hard 1:64 is near zero; matched, it is at 10 % with a very long interval; all pairs reach 13 %, and 35 % with four times the steps."
PRICE = {"all": "o", "hard 1:64": "s", "hard 1:64, matched": "D", "all, 4 x steps": "^"}
figure, panels = plt.subplots(1, 2, figsize=(7, 2.5), layout="constrained", sharey=True)
for ax, key in zip(panels, ("pairs_used", "pairs_computed")):
    for name, marker in PRICE.items():
        (x,), (y,), (error,) = means(long, [name], key)[0], *means(long, [name], "in_distribution")
        style = {"ms": 5, "capsize": 2, "mfc": "white", "color": COLORS[name.split()[0].strip(",")]}
        ax.errorbar(x / 1e6, 100 * y, 100 * error, fmt=marker, label=name, **style)
    ax.set(xlabel=f"{key.replace('_', ' ')} in all steps (millions)", xlim=(0, 70), ylabel="zero-shot top-1 (%)")
figure.legend(*ax.get_legend_handles_labels(), loc="outside right", frameon=False, fontsize=7)
plt.show()

# %% [markdown]
# In the left panel, compare what stands on one vertical line: equal numbers of pairs used, and whoever is higher used the better ones.
# In the right panel, a vertical line means equal work. Here the matched run must be compared with the black triangle: all pairs, for four times as long (960 steps beside 945).
#
# At equal pairs used, the matched run is not above the run with all pairs, and it is a matter of luck: of five seeds one
# reaches 31 %, one 10 %, and three stay under 4 %. With the work that it costs, all pairs reach 34.7 %, in every seed. Here,
# masking the easy cells away is no bargain.
#
# **Figure 7.** Accuracy against the share of wrong data, one panel for each kind. Lines are the committed long runs
# (`results/siglip-noise.json`, three seeds, shares up to a half); hollow markers are the live runs of section 6, again of the smaller kind.

# %%
noise = read_result("siglip-noise")
shares = (25, 50)


def draw_noise(ax, loss, kind, color, marker):
    names = [f"{loss}, clean", *(f"{loss}, {kind} {p}%" for p in shares)]
    y, error = means(noise, names, "in_distribution")
    style = {"fmt": f"{marker}-", "ms": 3, "lw": 1, "capsize": 2, "color": color, "label": loss}
    ax.errorbar([0, *shares], [100 * v for v in y], [100 * v for v in error], **style)
    points = {0: f"{loss}, clean", 50: f"{loss}, {kind} 50%"}
    points = {p: 100 * noisy[name]["in_distribution"] for p, name in points.items() if name in noisy}
    ax.plot(points.keys(), points.values(), marker, ms=7, mfc="none", color=color)


# %% alt="Four line plots of zero-shot accuracy against the share of wrong data: image, text, alignment, and all three. Sigmoid and softmax fall together from 12.5 % to about 6 % at a quarter and 1 or 2 % at a half; with all three, to nothing."
figure, panels = plt.subplots(1, 4, figsize=(7, 2.3), layout="constrained", sharey=True)
for ax, kind in zip(panels, ("image", "text", "alignment", "all three")):
    draw_noise(ax, "sigmoid", kind, "#0072B2", "o")
    draw_noise(ax, "softmax", kind, "#E69F00", "s")
    ax.set(title=kind, xlabel="share (%)", xticks=[0, 25, 50], ylim=(-0.3, None))
panels[0].set_ylabel("zero-shot top-1 (%)")
panels[3].plot([], [], "ko", ms=7, mfc="none", label="live, smaller")
panels[3].legend(frameon=False, fontsize=6)
plt.show()

# %% [markdown]
# In each panel, look first whether the two lines fall at all: noise that costs nothing would mean that the test does not need what the noise destroys. Then
# look at the gap between the lines, and whether it changes its sign. At p = 0 it is the difference of the two losses on clean data, which is no
# merit of robustness; a loss that is robust would *gain* on the other one to the right. That is why the list below has a line on the share
# of the clean accuracy that each loss keeps.
#
# All three single kinds take about as much: half of the accuracy at 25 %, and nearly all of it at 50 %, where image noise is
# the mildest. All three together leave one percent at 25 % and nothing at 50 %. And the two losses lie on each other, in every
# panel.
#
# Neither does one of them keep a larger share of its clean accuracy.
#
# ## 8. The check
#
# First the live runs, with wide bounds. The masked runs have used exactly the pairs that section 2 predicts. Easy negatives are far
# below all of them. The bias rises with few random negatives. The control with exchanged captions is near chance, and half of them exchanged is
# worse than none, for accuracy and for certainty alike.

# %%
for name, run in masked.items():
    ratio = 127 if name == "all" else float(name.split(":")[1])
    assert run["pairs_computed"] == 120 * 128**2 and run["pairs_used"] == 120 * (128 + round(128 * ratio))
assert masked["easy 1:16"]["retrieval"] < 0.5 * masked["all"]["retrieval"]
assert masked["random 1:1.6"]["logit_bias"] > masked["all"]["logit_bias"] + 0.3
for loss in ("sigmoid", "softmax"):
    assert noisy[f"{loss}, alignment 50%"]["held_out"] < noisy[f"{loss}, clean"]["held_out"]
    assert noisy[f"{loss}, alignment 50%"]["logit_scale"] < noisy[f"{loss}, clean"]["logit_scale"]
assert noisy["sigmoid, alignment 100%"]["retrieval"] < 0.5 * masked["all"]["retrieval"]

# %% [markdown]
# Then the two claims of the paper, on the committed long runs. Each claim has a rule that was fixed before these seeds were run:
# `claims[id].rule` says it in words, `claims[id].judge` in code. The cell judges the committed numbers anew, and the verdict must be the one that is
# written in `results/`. A star marks the lines that decide; the others are reported beside it. *Reproduced* means: above the margin, the
# 95 % interval above zero, and the same sign for every seed. *Not at this scale* means: measured well enough to say no.

# %%
for id, record in {"siglip-negatives": long, "siglip-noise": noise}.items():
    print(claims[id].rule)
    print(answer(claims[id], record))  # raises an error if the verdict does not follow
    print()

# %% [markdown]
# Both claims end as **not at this scale**, for different reasons. In Figure 6, two of the four parts are as in the paper: few
# random negatives hurt, and easy ones fail. Hard ones, which do about as well as all in the paper, collapse in our short runs
# from scratch, and with matched pairs they are slightly ahead there and a lottery here. (A ratio of 1:16 is a sixteenth of our
# negatives and a thousandth of the paper's.) In Figure 7 the sigmoid is above the softmax for every kind and share; here there
# is no difference for exchanged captions and for all three, and too little to call for pictures and text. Where everything is
# noise, both are so near the floor that a lead could hardly be seen.
#
# Whatever the verdict, keep the limits in mind. These towers are tiny, the pictures have 16 × 16 pixels, and the runs are short: minutes in
# place of days. A ratio of 1:16 is not the same question at another batch size. And all runs share one learning rate, which nobody
# has tuned for each kind of masking or for each share of noise.
#
# ## 9. Try it yourself
#
# - In section 4, add `"hard 1:1.6"` to `masks`. Few hard negatives are a strange diet. Are they still better than few random ones, or has the
#   exam become so hard that a young model learns nothing from it? Compare with the right end of the figure.
# - In section 4, run `live(claims["siglip-negatives"], "hard 1:1.6", distinct=False)`, and once more with `mask_duplicates=True`. The batches are then drawn
#   blindly, and section 3 has counted how many false negatives that makes at a batch of 256 (at 128, fewer). One seed will hardly
#   tell the two apart: take five, 100 to 104.
# - In section 6, take `noise_image=1.0` in place of the exchanged captions. Is this a fair control, too? (Look at what the model could still learn,
#   and from which side.)
#
# **Next.** Wrong pairs are one way to disturb a training run. There is another: a single step whose gradient is far too large. Notebook
# [09 · Stability and very large batches](09_stability_and_very_large_batch.ipynb) asks what the optimizer makes of it, and why a batch
# can be too large. Before: [07 · Bias and temperature](07_bias_and_temperature.ipynb).
