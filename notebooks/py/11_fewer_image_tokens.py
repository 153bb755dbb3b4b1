# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 11 · Fewer image tokens
#
# **Paper.** CLIPA ([Li et al., 2023](https://arxiv.org/abs/2305.07017)): sections 3 and 4, Figures 2, 4 and 6. Masking at random comes from
# FLIP ([Li et al., 2022](https://arxiv.org/abs/2212.00794)).
#
# **The question.** How much of each picture must an image tower see while it learns, and do larger towers need less?
#
# **What you need first.** [02 · Two towers](02_two_towers.ipynb): a picture as a row of patches.
# [03 · The softmax loss](03_softmax_loss.ipynb): zero-shot accuracy.
#
# **Time.** About one minute on two CPU cores, of which some 25 seconds are training.
#
# A ViT cuts a picture into patches, and each patch becomes a **token**. Nearly all of the work is done once for each token, so a tower
# that sees a quarter of the tokens takes about a quarter of the time. In the same hours it can see four times as many pictures. What
# it loses is detail: it learns from pictures of which most is missing, or from small ones.
#
# CLIPA trains this way for most of the run, and then lets the tower see whole pictures for a short while. The authors found something that they
# call an **inverse scaling law**: the larger the towers, the fewer tokens they can do with. If that is so, the most
# expensive models are also those where one saves most. We look at the masks first, then at the price, and then at the law.

# %%
import time

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F

from experiments.claims import answer, load_claims, means, read_result
from experiments.sweep import complete
from experiments.verdicts import effect_of, paired_difference

plt.rcParams.update({"figure.figsize": (3.5, 2.5), "figure.dpi": 150, "font.size": 8})
claims = load_claims()  # also puts the repository's experiments/ on Python's path

# %% [markdown]
# ## 1. Choosing patches, by hand
#
# Take pictures of 64 × 64 pixels and patches of 8 × 8. That is a grid of 8 × 8, so 64 tokens, numbered row by row from 0 to 63. To keep 16 of
# them at **random**, give each patch a random number and take the 16 smallest. Afterwards the places are sorted, so that they are
# in the order in which the tower reads. (For a ViT the order does not matter; for whoever reads the numbers it does.) Each picture
# has draws of its own, which are new in every step.
#
# Two other ways keep something of the geometry. The **grid** cuts the picture into windows of 2 × 2 patches and keeps one of each window; the place
# within the window is drawn once for each picture. The **block** keeps one square of 4 × 4 patches somewhere. `mask_image` does all
# three. The random one must agree with ours, and the other two must have the shape that was promised.

# %%
from minclip.masking import mask_image, resize


def random_by_hand(draw, tokens):
    return draw.argsort(1)[:, :tokens].sort(1).values  # [B, K]: the places that stay


draw = torch.rand(2, 64, generator=torch.Generator().manual_seed(11))  # one row a picture
kept = mask_image(draw, side=8, keep=0.25)
assert torch.equal(random_by_hand(draw, 16), kept) and kept.shape == (2, 16)

# %%
grid, block = (mask_image(draw, 8, 0.25, strategy) for strategy in ("grid", "block"))
row, column = grid // 8, grid % 8
windows = 4 * (row // 2) + column // 2  # which of the 16 windows a place is in
assert torch.equal(windows.sort(1).values, torch.arange(16).expand(2, -1))  # each of them once
row, column = block // 8, block % 8
for place in (row, column):
    assert ((place.amax(1) - place.amin(1)) == 3).all()  # 4 x 4 different places within 4 rows and 4 columns,
assert all(len(places.unique()) == 16 for places in block)  # so all of a square

# %% [markdown]
# The fourth way throws no patch away. **Resize** makes the picture smaller, 32 × 32 here, and keeps the patch size: 16 tokens again, each of which covers
# four times the area. Nothing is cut out, and all is coarser.
#
# Here is what a tower gets to see, for two pictures and two draws. Grey patches are not there: they are not blacked out or replaced by
# a special token, the tower never computes them. The small picture on the right is the resized one, at the same scale.

# %%
from minclip.data import load_pairs, plain


def without_the_rest(images, kept):
    seen = torch.zeros(len(images), 64).scatter(1, kept, 1).view(-1, 1, 8, 8)  # [B, 1, 8, 8]: 1 where a patch stays
    return torch.where(F.interpolate(seen, scale_factor=8) == 1, images, torch.tensor(0.6))  # 0.6: light grey


drawings = load_pairs("emoji", "in_distribution", image_size=64)
artists = list(zip([texts[0] for texts in drawings.captions], drawings.metadata["artist"]))
rows = [artists.index(wanted) for wanted in (("honeybee", "noto"), ("bicycle", "fluent"))]
images = plain(drawings.images[rows], 64)  # [2, 3, 64, 64], in [-1, 1]

# %%
def views(seed):
    draw = torch.rand(2, 64, generator=torch.Generator().manual_seed(seed))
    shown = {"all 64": images}
    shown |= {s: without_the_rest(images, mask_image(draw, 8, 0.25, s)) for s in ("random", "grid", "block")}
    return shown | {"resize": F.pad(resize(images, 32), (16, 16, 16, 16), value=0.6)}


# %% alt="A grid of small pictures: a honeybee and a bicycle, each in two draws (rows), seen whole and then with a quarter of 64 patches at random, on a grid, in a block, and as a smaller picture (columns). Grey patches are left out. Only the resized picture shows the whole thing."
figure, axes = plt.subplots(4, 5, figsize=(5.5, 4.6), layout="constrained")
for line, (seed, picture) in zip(axes, ((0, 0), (1, 0), (0, 1), (1, 1))):
    line[0].set_ylabel(f"draw {seed + 1}")
    for ax, shown in zip(line, views(seed).values()):
        ax.imshow((shown[picture].permute(1, 2, 0) + 1) / 2)
        ax.set(xticks=[], yticks=[])
for ax, way in zip(axes[0], views(0)):
    ax.set_title(way)
figure.supxlabel("Drawings: Noto, Apache-2.0; Fluent, MIT.", fontsize=6, color="gray")
plt.show()

# %% [markdown]
# Look at what kind of question each mask asks. With the grid and at random, a bit of everything is left, and whoever knows the object can guess the
# rest. A block shows one part in full; with bad luck it is the white corner. Only the resized picture is one that
# you would name at once. On the other hand it never shows fine detail, while over many draws the masks show every pixel.
#
# ## 2. The tower that never computes the rest
#
# `VisionTransformer` takes the places as a second argument. The result must be what one gets the slow way: embed *all* patches, add the
# position embeddings, and then gather those that stay. The order matters. A patch must bring the position that it had in the
# whole picture, or the tower could not know where a piece belongs. In `float64`, the two must agree to 1e-10.

# %%
from minclip.towers import VisionTransformer

torch.manual_seed(0)
tower = VisionTransformer(image_size=64, patch_size=8, width=32, layers=2, heads=2).double()
images = images.double()
with torch.no_grad():
    x = tower.patch_embedding(images).flatten(2).transpose(1, 2) + tower.positions(8)  # [B, 64, W]
    x = tower.norm_in(x.gather(1, kept[..., None].expand(-1, -1, 32)))  # [B, 16, W]
    for layer in tower.blocks:
        x = layer(x)
    torch.testing.assert_close(tower(images, kept), tower.norm_out(x.mean(1)), atol=1e-10, rtol=0)

# %% [markdown]
# Two more things must hold, and both exactly. A picture whose masked patches are painted over must give the *same bits*: nothing of them
# leaks in. And at keep = 1, where `mask_image` answers `None`, the tower must be the plain one, bit by bit. Nothing is masked when a
# model is measured, so this is also the tower that we test.

# %%
with torch.no_grad():
    where = without_the_rest(torch.ones(2, 1, 64, 64), kept) == 1  # [2, 1, 64, 64]: True in what is kept
    painted = torch.where(where, images, torch.zeros(()).double())
    assert torch.equal(tower(painted, kept), tower(images, kept))
    assert not torch.equal(tower(painted), tower(images))  # the plain tower does see the paint
    assert mask_image(draw, 8, 1.0) is None
    assert torch.equal(tower(images, mask_image(draw, 8, 1.0)), tower(images))

# %% [markdown]
# ## 3. What it saves
#
# `experiments.cost` counts the FLOPs of a tower, a multiplication and an addition as two. Our long runs have pictures of 32 × 32 pixels and
# patches of 4 × 4, so again 64 tokens. Most of a block's work is done for each token alone and falls in proportion. Attention compares all tokens with
# each other, and falls with the square. In these small towers attention is a small part, so the total falls
# only a little faster than the tokens. Resizing costs the same as masking, if as many tokens are left.

# %%
# NBVAL_CHECK_OUTPUT
from experiments.cost import Shape, image_flops

shape = Shape(patch_size=4, image_width=64, image_layers=3, text_width=64, text_layers=1, embed_dim=128)
plain_cost = image_flops(shape, 32)
for tokens in (64, 32, 16, 4):
    cost = image_flops(shape, 32, keep=tokens / 64)
    print(f"{tokens:2d} tokens: {cost / 1e6:5.2f} million FLOPs a picture, {plain_cost / cost:5.2f} times less")
assert image_flops(shape, 16) == image_flops(shape, 32, keep=0.25)

# %% [markdown]
# FLOPs are a promise. Does the clock keep it? We time one training step of the image tower, forward and backward, on 256 pictures, and take
# the fastest of a few. On a busy machine the numbers move. They also cannot be quite as good as the count, since some of the work,
# such as reading the picture and the overhead of each operation, does not shrink with the tokens.

# %%
def seconds(tower, images, kept=None):
    began = time.perf_counter()
    tower(images, kept).square().mean().backward()
    return time.perf_counter() - began


timed = VisionTransformer(32, 4, width=64, layers=3, heads=2)
batch = torch.rand(256, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
some = mask_image(torch.rand(256, 64, generator=torch.Generator().manual_seed(1)), 8, 0.25)
took = {64: min(seconds(timed, batch) for _ in range(6)), 16: min(seconds(timed, batch, some) for _ in range(6))}
print(f"64 tokens: {256 / took[64]:,.0f} pictures/s; 16 tokens: {256 / took[16]:,.0f}; ratio {took[64] / took[16]:.1f}")

# %% [markdown]
# ## 4. The experiment, in small
#
# The three claims of this notebook share their runs (`experiments/clipa_image_tokens.py`). ViTs of three widths learn the names of emoji: 300 steps
# with few tokens, then 30 steps with all of them at a lower rate. What is measured is the zero-shot accuracy of notebook 03,
# always with whole pictures.
#
# The live run calls the same function with the narrowest tower and one short stage. There is no second stage, so the tower that
# learned from resized pictures is measured on small ones. The baseline sees all 64 tokens for 60 steps. At **equal
# steps**, two runs see 16: at random, or resized. These are cheaper, so there is a fourth one at about **equal work**: resized, and three times as many
# steps. The **negative control** deals the captions of every batch out anew, so that no picture has anything to do with its caption.

# %%
from experiments.tokens import few

run = claims["clipa-image-tokens"].run
stages = {"all 64": few(64, steps=60), "random 16": few(16, "random", steps=60), "resize 16": few(16, steps=60)}
stages["resize 16, 3 x steps"] = few(16, steps=180)
chosen = {name: {"image_width": 32, "stages": [part]} for name, part in stages.items()}
chosen["control: resize 16"] = chosen["resize 16"] | {"noise_alignment": 1.0}
live = {name: run(complete(run, setting), 100) for name, setting in chosen.items()}  # 100: no seed of a verdict

# %%
for name, result in live.items():
    print(f"{name:22s} {result['seconds_trained']:5.1f} s   zero-shot {result['in_distribution']:5.1%}   "
          f"retrieval {result['retrieval']:5.1%}   unseen compositions {result['held_out']:5.1%}")

# %% [markdown]
# Three tasks, from hard to easy: zero-shot among 1,914 names (chance is 0.05 %), retrieval among the captions of the test pictures, and the same for
# compositions that no training picture showed. Sixty steps are few, there is one seed, and half a point says nothing. Do compare the seconds
# with the FLOPs of section 3: a step is more than its image tower. It also reads and distorts pictures, runs the text tower, and moves
# the weights. The row with three times the steps shows what the saved work can buy.
#
# ## 5. Figure 4: the drop against the tokens
#
# Now the long runs. Each panel is one way to choose, each line one width. The x axis runs from all tokens to few, as in the paper, and the
# y axis is the accuracy that is **lost** against the same tower with all 64. So all lines begin at zero, and a point
# below zero is a tower that did *better* with fewer tokens. Bars are 95 % intervals of the difference, over the seeds. The hollow
# stars are the live runs of section 4, short and without a second stage.

# %%
from experiments.clipa_image_tokens import BUDGETS
from experiments.clipa_image_tokens import name as setting_name
from experiments.tokens import STRATEGIES, WIDTHS

records = {id: read_result(id) for id in ("clipa-image-tokens", "clipa-strategies", "clipa-robustness")}
STYLE = dict(zip(WIDTHS, (("#0072B2", "o"), ("#E69F00", "s"), ("#009E73", "^"))))


# %%
def draw_drops(ax, width, strategy):
    found, key = records["clipa-image-tokens"]["measurements"], "in_distribution"
    tokens = [n for n in BUDGETS if strategy in BUDGETS[n]]
    effects = [paired_difference(found, setting_name(width), setting_name(width, n, strategy), key) for n in tokens]
    y, error = (0, *(100 * e["mean"] for e in effects)), (0, *(100 * (e["ci95"][1] - e["mean"]) for e in effects))
    x = [n * (0.93, 1, 1.07)[WIDTHS.index(width)] for n in (64, *tokens)]  # the bars stand beside each other
    color, marker = STYLE[width]
    ax.errorbar(x, y, error, fmt=f"{marker}-", ms=3, lw=1, capsize=2, color=color, label=f"width {width}")
    ax.axhline(0, color="gray", ls=":", lw=1)


# %%
def draw_live(ax, way):
    lost = [live["all 64"]["in_distribution"] - live[way]["in_distribution"]] if way in live else []
    ax.plot([16] * len(lost), [100 * points for points in lost], "k*", ms=7, mfc="white", label="live, width 32")


# %% alt="Four panels of line charts with error bars, one for each way to choose tokens. Horizontal: image tokens, from 64 down to 4. Vertical: zero-shot accuracy lost, in points. The lines of widths 32, 64 and 128 rise close together; resize loses least at 16 tokens, and 10 to 12 points at 4."
figure, panels = plt.subplots(1, 4, figsize=(7, 2.6), layout="constrained", sharey=True)
for ax, strategy in zip(panels, STRATEGIES):
    for width in WIDTHS:
        draw_drops(ax, width, strategy)
    draw_live(ax, f"{strategy} 16")
    ax.set(title=strategy, xlabel="image tokens", xscale="log", xlim=(90, 2.8))
    ax.set_xticks([64, 16, 4], ["64", "16", "4"]), ax.minorticks_off()
panels[0].set_ylabel("zero-shot top-1 lost (points)")
figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False, fontsize=7)
plt.show()

# %% [markdown]
# How to read it. For the law to hold, the three lines must fan out: the narrowest tower on top, since it loses most, and the widest nearest to zero.
# (Below zero nothing is lost at all, and the words "loses less" have an odd meaning. The rule is about the order of the lines, wherever they are.)
# Compare also the panels with each other at 16 tokens. That is the question of which way is best.
#
# All lines stay together. With 16 tokens the narrowest tower drops by 3.3 points and the widest by 3.8; the difference, half a point in favour of the
# narrow one, has an interval from -1.7 to +0.7, so a law worth a point is excluded. With 4 tokens the widest drops most (12.3 against 9.5 points),
# mainly because it had most to lose: as shares of what each has with all tokens, the two are alike.
#
# And is the drop the tokens' doing? *Before* the second stage, the towers that were resized to 16 tokens and are measured at
# 16 × 16 are **ahead** of those that saw all tokens, by 1.7, 2.3 and 3.4 points. With 4 tokens, measured at 8 × 8, they are ahead
# by even more: 18, 21 and 24 % against 12, 14 and 16 %. In 300 steps, small pictures are easier to learn from. One reason is known: they have fewer
# positions to learn. With fixed (sine-cosine) positions, at width 64, all tokens reach 18.1 % and 16 tokens 16.9 % (notebook 13). What drops here is what the
# second stage makes of small pictures.
#
# ## 6. Which way is best
#
# The same runs as accuracies, with one line for each way to choose. The left panel is measured after the first stage, the right one after the second, in
# which all towers saw whole pictures for 30 steps. On the left, every tower is asked with whole pictures, too, but the one that learned from
# resized ones with pictures of the size that it knows. The line "all" is the price list: the same number of steps with four times the work.

# %%
WAYS = dict(zip(("all", *STRATEGIES), (("k", "D"), ("#0072B2", "o"), ("#E69F00", "s"), ("#009E73", "^"), ("#CC79A7", "v"))))


def draw_ways(ax, key):
    for i, (way, (color, marker)) in enumerate(WAYS.items()):
        names = [setting_name(w, 16, way) if way != "all" else setting_name(w) for w in WIDTHS]
        y, error = means(records["clipa-image-tokens"], names, key)
        x = [w * 1.04 ** (i - 2) for w in WIDTHS]
        style = {"fmt": f"{marker}-", "ms": 3, "lw": 1, "capsize": 2, "color": color}
        style["label"] = "all 64" if way == "all" else f"{way} 16"
        ax.errorbar(x, [100 * v for v in y], [100 * v for v in error], **style)


# %% alt="Two line charts with error bars: zero-shot top-1 accuracy in percent against the width of the image tower, after stage 1 and after stage 2. After stage 1 resized pictures lie above all 64 tokens, after stage 2 below. Grid, random and block lie lower in both."
figure, panels = plt.subplots(1, 2, figsize=(7, 2.5), layout="constrained", sharey=True)
for ax, key in zip(panels, ("before_in_distribution", "in_distribution")):
    draw_ways(ax, key)
    ax.set(title="after stage 1" if "before" in key else "after stage 2", ylim=(0, None))
    ax.set(xlabel="width of the image tower", xscale="log")
    ax.set_xticks(WIDTHS, [str(w) for w in WIDTHS]), ax.minorticks_off()
panels[0].set_ylabel("zero-shot top-1 (%)")
figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right", frameon=False)
plt.show()

# %% [markdown]
# In the paper, with a quarter of the tokens, the order is resize, block, random, grid: 68.9, 68.5, 67.6 and 67.3 %. So all four lie within two
# points of each other. Read from the right panel whether resize is on top for the widest tower, and from the slopes between the panels how
# much the short second stage repairs for each.
#
# At width 128 the order after the second stage is resize 13.1 %, grid 11.3, random 10.6, block 9.3. Resize leads by 1.8 to 3.8 points, as in the paper;
# over the grid one of five seeds disagrees, so the rule says inconclusive. The paper's order of the masks is not ours: its block is nearly as
# good as resize, ours is the worst. The second stage repairs the blocks most (1.4 to 2.6 points), and it takes from the resized
# towers what they had at 16 × 16: from 18.3 down to 13.1 % for the widest.
#
# ## 7. An unseen artist
#
# CLIPA reports that robustness suffers less than one might fear: its Figure 6 is Figure 4 for ImageNet-A, -R, -Sketch and others. Our natural
# shift is an artist whom training never showed (`fxemoji`, 481 names). Points are no fair measure here, because the accuracies differ to
# begin with. So we ask which **share** of its accuracy a tower loses with 16 tokens, the mean over the four ways: for new drawings by known
# artists, and for the unseen one.

# %%
from experiments.clipa_robustness import shares


def draw_shares(ax, split, label, color, marker, beside):
    found = records["clipa-robustness"]["measurements"]
    lost = [effect_of(list(shares(found, width, 16, split).values())) for width in WIDTHS]
    y, error = [100 * e["mean"] for e in lost], [100 * (e["ci95"][1] - e["mean"]) for e in lost]
    style = {"fmt": marker, "ms": 4, "capsize": 2, "color": color, "label": label}
    ax.errorbar([beside * width for width in WIDTHS], y, error, **style)


# %% alt="Points with error bars: the share of accuracy lost with 16 tokens, in percent, against the width of the image tower, for known artists and an unseen artist. All lie between 25 and 33 percent, and the intervals overlap."
ax = plt.gca()
draw_shares(ax, "in_distribution", "known artists", "#0072B2", "o", 0.97)
draw_shares(ax, "fxemoji", "unseen artist", "#D55E00", "s", 1.03)
ax.axhline(0, color="gray", ls=":", lw=1)
ax.set(xlabel="width of the image tower", ylabel="share lost with 16 tokens (%)", xscale="log", xlim=(25, 165))
ax.set_xticks(WIDTHS, [str(w) for w in WIDTHS]), ax.minorticks_off()
ax.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
plt.show()

# %% [markdown]
# If the two markers of a width lie at one height, fewer tokens cost the unseen artist what they cost the known ones, and robustness is untouched. An
# unseen artist is a mild shift. It says nothing of photographs that were chosen to be hard, as in ImageNet-A.
#
# The unseen artist loses 2.1 % more of the accuracy than the known ones do, with an interval from -2.1 to +6.3: nothing, within the margin. For the
# widest tower alone it is 6.6 % more in all five seeds; the mean is within the margin, its interval is not.
#
# ## 8. The check
#
# First the live runs, with wide bounds. Sixteen tokens at random give nothing for free: in as many steps, no more than all tokens do, within a point.
# With three times the steps the resized run is far ahead of all runs of 60. And the control, which learned from shuffled captions, knows nothing.

# %%
found = {name: result["retrieval"] for name, result in live.items()}
assert found["random 16"] < found["all 64"] + 0.01
assert found["resize 16, 3 x steps"] > 2 * max(found[name] for name in ("all 64", "random 16", "resize 16"))
assert found["control: resize 16"] < 0.005 and live["control: resize 16"]["in_distribution"] < 0.005

# %% [markdown]
# Then the claims, on the committed runs. Each rule was fixed on other seeds, before these were run. The cell judges the numbers anew, and the
# verdict must be the one in `results/`. Lines with a star decide, the others are reported beside them. *Reproduced* means: above the margin, the
# interval above zero, and the same sign in every seed. *Not at this scale* means: some part was measured well enough to say no.

# %%
for id, record in records.items():
    print(claims[id].rule)
    print(answer(claims[id], record))  # raises an error if the verdict does not follow
    print()

# %% [markdown]
# **The inverse law does not appear at this scale.** Wide and narrow towers drop alike. The likely reason is that none of our towers is limited by its
# size: after 300 steps all of them still learn fast, and what a step gives depends on how easy its pictures, and their positions, are. **Resize is
# the best way** by its mean everywhere, but one seed of five disagrees over the grid: inconclusive by the rule. **Robustness** is
# untouched: what fewer tokens cost, they cost on known and on unseen artists alike.
#
# Whatever the verdicts, keep the limits in mind. CLIPA's towers differ in depth and width, ours in width only, by a factor of four. Its towers see
# 2.6 billion pairs; ours have 330 steps, and in so short a run a tower may be limited by its steps rather than by what it sees. Emoji are
# large and simple: a quarter of the pixels still shows what they are, which is kind to resizing. And all widths share one learning rate.
#
# ## 9. Try it yourself
#
# - In section 1, change `keep` of the grid to `1 / 16`, then to `1 / 2`. The first is one patch of each window of 4 × 4. The second is an error: read what
#   it says.
# - In section 4, add `few(16, "grid", steps=60)` and `few(16, "block", steps=60)` to `stages`. Expect both near *random*; one seed will not rank them. Take the seeds
#   100 to 104.
# - In section 4, add a second stage: `[few(16, steps=60), tune(10)]` in the list of stages, with `tune` from `experiments.tokens`. The result then also holds
#   `before_in_distribution` and `unadapted_in_distribution`, measured before it, at the small size and at the full one. Which of them does
#   the second stage repair?
#
# **Next.** The other half of a pair is a caption, and a caption has words that one could leave out, too. Which ones? Notebook
# [12 · Fewer text tokens](12_fewer_text_tokens.ipynb). Before: [10 · Many languages](10_many_languages.ipynb).
