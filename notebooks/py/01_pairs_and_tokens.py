# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 01 · Pairs and tokens
#
# **Paper.** CLIP ([Radford et al., 2021](https://arxiv.org/abs/2103.00020)), sections 2.2 (the pairs), 2.3 (the
# batch) and 2.4 (the text encoding); Figure 1, panel 1, on the left, where pictures and captions come in.
#
# **The question.** What exactly does the model get to see, and when is it fair to tell it that another
# picture's caption is wrong?
#
# **What you need first.** Python and a little PyTorch: indexing, shapes. No machine learning yet. The words that these
# notebooks introduce are collected in the [glossary](glossary.md).
#
# **Time.** Under one minute on two CPU cores. Nothing is trained here.
#
# CLIP learns from **pairs**: a picture, and a text that somebody wrote about it. Nobody labels anything.
# The paper collected 400 million pairs from the web. This notebook opens a collection that is 30,000 times
# smaller and comes with the repository, so that every number below is one that you can check.
#
# Three things happen to the pairs before a model sees them, and each is a section here. A caption is cut
# into **tokens** (whole numbers). Pairs are put together into **batches**. And somebody must make sure that a
# batch asks a fair question. That last point is easy to overlook, so it gets a figure of its own.

# %%
import json
from collections import Counter
from math import comb

import matplotlib.pyplot as plt
import torch

plt.rcParams.update({"figure.figsize": (3.5, 2.5), "figure.dpi": 150, "font.size": 8})

# %% [markdown]
# ## 1. A pair
#
# The data are emoji. That sounds like a joke and is not: they are real drawings with real, carefully
# written names, the licences allow us to ship them, and **seven artists drew the same list of things**.
# The last point is what makes them useful. We train on five artists and test on the other two. A model
# that has only memorised pictures then has a problem; a model that has learned what a penguin looks like has not.
#
# `load_pairs` returns one object with parallel columns. Row `i` of `images` belongs to entry `i` of
# `captions`. Pictures are stored as bytes (0 to 255), channels first, 64 × 64 pixels.

# %%
# NBVAL_CHECK_OUTPUT
from minclip.data import load_pairs

train = load_pairs("emoji", "train")
print("images  ", list(train.images.shape), train.images.dtype)
print("captions", train.captions[0])

# %% [markdown]
# Each picture has not one caption but three: the bare name, a short sentence, and the name with a few
# keywords. At every step of training one of them is drawn at random: the name four times out of five, else one of the
# others. Later we want to ask the model with words of our choice, so it should not get used to one way of saying things.
#
# The splits tell which artists are in which part. Two of them, `fxemoji` and `openmoji`, are **unseen artists**:
# not a single picture of theirs is in `train`. (`held_out_compositions` holds combinations of person,
# profession and skin tone that no training artist shows; it is used later.)

# %%
# NBVAL_CHECK_OUTPUT
names = ("train", "in_distribution", "held_out_compositions", "fxemoji", "openmoji")
splits = {name: load_pairs("emoji", name) for name in names}
for name, pairs in splits.items():
    artists = ", ".join(sorted(set(pairs.metadata["artist"])))
    print(f"{name:21s} {len(pairs):6,} pictures of {pairs.labels.unique().numel():5,} names by {artists}")

# %% [markdown]
# Here are four of the names, once by each artist. Read along a row: same name, seven drawings. This is the
# variation that a model has to see through. The two columns on the right are the unseen artists: `fxemoji` is
# close to the others in style, `openmoji` is drawn with black outlines and is further away.

# %%
pictures = {
    (artist, pairs.class_names[label]): image
    for pairs in splits.values()
    for artist, label, image in zip(pairs.metadata["artist"], pairs.labels.tolist(), pairs.images)
}
artists = ("noto", "blob", "twemoji", "fluent", "emojione", "fxemoji", "openmoji")
chosen = ("penguin", "sailboat", "hamburger", "guitar")

# %% alt="A grid of pictures: penguin, sailboat, hamburger and guitar in four rows, drawn by seven artists in seven columns. The drawings of one row differ in colour and pose; those of openmoji, on the right, have thick black outlines."
figure, axes = plt.subplots(4, 7, figsize=(7, 4.2), layout="constrained")
for row, name in zip(axes, chosen):
    for ax, artist in zip(row, artists):
        ax.imshow(pictures[artist, name].permute(1, 2, 0))  # matplotlib wants [H, W, 3]
        ax.set(xticks=[], yticks=[], title=artist if name == chosen[0] else "")
    row[0].set_ylabel(name)
notice = "OpenMoji, CC BY-SA 4.0 · Twemoji, EmojiOne, FxEmoji, CC BY 4.0 · Noto, Blob, Apache-2.0 · Fluent, MIT"
figure.supxlabel(notice, fontsize=6, color="gray")
plt.show()

# %% [markdown]
# **What this test can and cannot show.** The artists are unseen, the names are not: all of these captions
# occur in training. So a good result on `openmoji` means "it recognises a guitar in a new style". It does not
# mean "it understands words it never read". And flags look nearly the same whoever draws them, so every
# result in this repository is reported with and without flags.
#
# ## 2. Tokens, by hand
#
# A network eats numbers, so a caption must become a list of whole numbers. One number a word? Then every
# new word is unknown. One number a letter? Then lists become long, and the network must spell before it can read.
# **Byte-pair encoding** (BPE) is the compromise that CLIP uses: start with letters, and give the pairs that occur
# often a number of their own. Frequent words end up as one token, rare words as a few pieces, and nothing
# is ever unknown.
#
# We do it by hand on three captions. A word is a row of pieces; at the start every piece is one letter. The
# space in front of a word is a piece too, or "red heart" and "redheart" would be the same. It is printed as
# `Ġ`, which is how byte-level BPE makes a space visible.

# %%
# NBVAL_CHECK_OUTPUT
captions = ["red heart", "green heart", "green apple"]
words = Counter(tuple("Ġ" + word) for caption in captions for word in caption.split())
for word, count in words.items():
    print(count, "×", *word)


# %% [markdown]
# Learning repeats two steps. First, count which two pieces stand next to each other most often. Second, join
# that pair wherever it occurs; it is a new piece. Both steps are a few lines.

# %%
def count_pairs(words):
    counts = Counter()
    for word, count in words.items():
        for pair in zip(word, word[1:]):
            counts[pair] += count
    return counts


# %%
def merge(word, pair):
    joined = []
    for piece in word:
        if joined and (joined[-1], piece) == pair:
            joined[-1] += piece
        else:
            joined.append(piece)
    return tuple(joined)


# %% [markdown]
# The loop needs one more rule: what to do when two pairs are equally frequent. Any rule works as long as it
# is always the same one. We take the older pieces: letters are the oldest, in alphabetical order, and
# every joined piece is younger than all before it. That is also the rule of the library we compare with.

# %%
def learn_merges(words, n):
    age = {letter: i for i, letter in enumerate(sorted({letter for word in words for letter in word}))}
    merges = []
    for _ in range(n):
        counts = count_pairs(words)
        best = min(counts, key=lambda pair: (-counts[pair], age[pair[0]], age[pair[1]]))
        merges.append(best)
        age["".join(best)] = len(age)
        words = {merge(word, best): count for word, count in words.items()}
    return merges


# %%
# NBVAL_CHECK_OUTPUT
merges = learn_merges(words, 10)
print("  ".join(f"{left}+{right}" for left, right in merges))

# %% [markdown]
# Read the list from left to right. `r+e` comes first since "red" and "green" (twice) hold it: three times.
# A few steps later "heart" is one piece, with its space. "apple" is still in letters, because it occurs only once.
#
# To encode a text, apply the merges in the order in which they were learned. This works for texts that were
# not among the three captions, too; they are cut into more pieces. Now the package's tokenizer, which is
# trained with the `tokenizers` library, must agree: the same merges, and the same pieces. Its vocabulary
# counts three special tokens, 256 bytes, and then the merges.

# %%
def encode(text):
    pieces = []
    for word in text.split():
        word = tuple("Ġ" + word)
        for pair in merges:
            word = merge(word, pair)
        pieces += word
    return [piece.replace("Ġ", " ") for piece in pieces]


# %%
# NBVAL_CHECK_OUTPUT
from minclip.tokenizer import Tokenizer

small = Tokenizer.train(captions, vocab_size=3 + 256 + len(merges))
learned = json.loads(small.bpe.to_str())["model"]["merges"]
assert [tuple(pair) for pair in learned] == merges
for text in [*captions, "great ape", "hear hear"]:
    assert small.tokens(text) == encode(text)
    print(f"{text:12s}", encode(text))

# %% [markdown]
# Trained on all training captions instead of three, the same procedure gives the vocabulary that the demo
# uses: 4,096 entries. (CLIP has 49,152, for the words of the whole web.) Common words of this small world
# are single tokens. "skateboarding" is not, so it falls into pieces that do occur. Text is lower-cased first, as in CLIP.
# A Chinese word becomes bytes: nothing can fail, it just takes more tokens.

# %%
# NBVAL_CHECK_OUTPUT
texts = sorted({text for captions in train.captions for text in captions})
tokenizer = Tokenizer.train(texts, vocab_size=4096)
for text in ["grinning face", "CAT with tears of joy", "a skateboarding octopus", "猫"]:
    print(len(tokenizer.tokens(text)), tokenizer.tokens(text))

# %% [markdown]
# The tokenizer returns a rectangle of numbers, one row a caption. 1 opens a caption and 2 ends it. What is
# left of the row is filled with 0, the padding. The end token will matter in the next notebook: the
# text tower reads off its summary there. `decode` is the way back.

# %%
# NBVAL_CHECK_OUTPUT
ids = tokenizer(["red heart", "family: man, woman, girl"], context_length=12)
print(ids)
assert [tokenizer.decode(row) for row in ids] == ["red heart", "family: man, woman, girl"]

# %% [markdown]
# How large should the vocabulary be? A larger one makes captions shorter, and attention costs time that grows
# with the length. But every entry needs a vector of its own, and a vector can only be learned if its token occurs
# often enough. The figure shows the trade. It begins on the left with bytes alone, 259 entries. The first sixty merges
# halve the mean length; the last two thousand hardly change it. The dashed line is the row length that the demo uses,
# 24 (CLIP: 76); longer captions are cut.

# %% alt="A line plot of caption length in tokens against vocabulary size, on a logarithmic axis. Mean and 95 % quantile fall steeply from 259 to 512 entries and then flatten; from 2,048 entries on both lie below the dashed line at 24 tokens."
sizes = [259, 320, 512, 1024, 2048, 4096]
filled = [(Tokenizer.train(texts, size)(texts, 128) != 0).sum(1).double() for size in sizes]
plt.plot(sizes, [lengths.mean() for lengths in filled], "o-", ms=3, label="mean")
plt.plot(sizes, [lengths.quantile(0.95) for lengths in filled], "s-", ms=3, label="95 % are shorter")
plt.axhline(24, color="gray", ls="--", lw=1, label="context length of the demo")
plt.gca().set(xscale="log", xlabel="vocabulary size (entries)", ylabel="caption length (tokens)", ylim=(0, None))
plt.xticks(sizes[1:], sizes[1:])
plt.minorticks_off()
plt.legend(frameon=False)
plt.show()

# %% [markdown]
# ## 3. Duplicates are false negatives
#
# CLIP is trained by a quiz. A batch has `B` pictures and their `B` captions, and for each picture the model must
# say which caption is its own. The other `B - 1` captions are the wrong answers. Nobody checked that
# they are wrong! If two pictures in the batch are both penguins, each one's caption fits the other
# just as well, and the model is punished for a correct answer. Such an answer is called a **false negative**.
#
# Our data are an extreme case, since five artists drew the same things. But the web has the same problem. CLIP's
# batch has 32,768 pairs, and the web holds many pictures of the Eiffel Tower. How bad is it? We can count. For a batch,
# given as the names of its pictures, this is the share of pairs that have a double:

# %%
def share_with_double(names):
    _, which, counts = names.unique(return_inverse=True, return_counts=True)
    return (counts[which] > 1).double().mean().item()


assert share_with_double(torch.tensor([3, 1, 4, 1])) == 0.5  # the two 1s are doubles of each other

# %% [markdown]
# We draw random batches and measure. There are two ways to say "the same thing". Strictly: the same name. Less
# strictly: the same name apart from the skin tone, since "waving hand" is a fair caption for "waving hand: light
# skin tone" as well. The dataset keeps the second one ready as `groups`.
#
# There is also a formula, and a measurement that agrees with a formula is worth more than either. A picture
# whose name occurs `c` times among `N` pictures has no double if the other `B - 1` pictures all come from the `N - c`
# others: `C(N - c, B - 1)` ways of `C(N - 1, B - 1)`. Average over the pictures.

# %%
def measured(names, size, generator, batches=20):
    draws = [torch.randperm(len(names), generator=generator)[:size] for _ in range(batches)]
    return sum(share_with_double(names[rows]) for rows in draws) / batches


def expected(names, size):
    n, how_many = len(names), Counter(names.unique(return_counts=True)[1].tolist())
    return sum(k * c * (1 - comb(n - c, size - 1) / comb(n - 1, size - 1)) for c, k in how_many.items()) / n


# %% [markdown]
# The table has one line a batch size. As a **negative control** the last column does the same
# with a made-up name for every picture: if our counting were wrong, it would not be zero.

# %%
# NBVAL_CHECK_OUTPUT
batch_sizes = [16, 64, 256, 1024, 4096]
generator = torch.Generator().manual_seed(0)
all_different = torch.arange(len(train))
shares = {"same name": train.labels, "same but for skin tone": train.groups, "control": all_different}
points = {what: [measured(names, b, generator) for b in batch_sizes] for what, names in shares.items()}
print("batch size  ", *shares)
for b, *row in zip(batch_sizes, *points.values()):
    print(f"{b:10,}  {row[0]:10.1%}  {row[1]:21.1%}  {row[2]:7.1%}")

# %% [markdown]
# At the demo's batch of 256, one pair in twenty has a double with the same name, and almost one in four when skin
# tones do not count. At 4,096 it is most of the batch. This is the trap of large batches on small data: a
# larger batch asks a harder question, and a less fair one.
#
# ## 4. A fair batch
#
# The remedy is to choose batches so that a group appears **at most once**. Think of a deck with one card per
# group. Shuffle it; deal `B` cards for the first step, the next `B` for the second. For each card, pick one of the
# group's pictures at random. When the deck runs out, shuffle again. Every group is then seen equally often, too.
#
# One more wish: if training is stopped and resumed, or split over several processes, step 37 should see exactly
# the same pairs. So nothing depends on what was drawn before: the random numbers come from a generator that is
# made from the seed and the step, and `batch(37)` can be computed out of the blue.

# %%
from minclip.data import BatchOrder, step_generator

members = [(train.groups == g).nonzero().flatten() for g in range(int(train.groups.max()) + 1)]
print(f"{len(members):,} groups of {min(map(len, members))} to {max(map(len, members))} pictures")


# %%
def fair_batch(size, seed, step):
    epoch, position = divmod(step, len(members) // size)
    deck = torch.randperm(len(members), generator=step_generator(seed, 1, epoch))  # one card per group
    dice = torch.rand(size, generator=step_generator(seed, 2, step), dtype=torch.float64)
    cards = deck[position * size :][:size].tolist()
    return torch.stack([members[g][int(u * len(members[g]))] for g, u in zip(cards, dice.tolist())])


# %% [markdown]
# The package's version is `BatchOrder`. It finds the members of a group without a Python loop; otherwise it is
# the same, and it must return the same rows.

# %%
order = BatchOrder(train.groups, batch_size=256, seed=0)
for step in range(20):
    rows = order.indices(step)
    assert torch.equal(rows, fair_batch(256, seed=0, step=step))
    assert share_with_double(train.groups[rows]) == 0
assert torch.equal(order.indices(7), order.indices(7))  # no hidden state

# %% [markdown]
# Fairness has a price, and it should be said. Two skin tones of one gesture never meet in a batch, so the
# model is never asked to tell them apart. The split `held_out_compositions`, where the skin tone is part of
# the answer, measures what that costs.
#
# ## 5. The figure
#
# Dots and squares are measured, lines are the formula. The crosses at the bottom are batches from `BatchOrder`, which stop at the
# number of groups: with 1,883 different things, there is no fair batch of 4,096.

# %%
dense = [2**k for k in range(4, 13)]
fair = [BatchOrder(train.groups, b, 0).indices(0) for b in batch_sizes[:-1]]

# %% alt="A line plot of the share of pairs with a double against the batch size. It rises from near zero at 16 pairs to 62 % for the same name and 85 % but for skin tone at 4,096; crosses for BatchOrder stay at zero."
for color, line, marker, what in zip(("#0072B2", "#E69F00"), ("-", "--"), ("o", "s"), shares):
    plt.plot(dense, [100 * expected(shares[what], b) for b in dense], line, color=color, lw=1)
    plt.plot(batch_sizes, [100 * p for p in points[what]], marker, color=color, ms=4, label=what)
plt.plot(batch_sizes[:-1], [100 * share_with_double(train.groups[rows]) for rows in fair], "kx", label="BatchOrder")
plt.gca().set(xscale="log", xlabel="batch size (pairs)", ylabel="pairs with a double (%)")
plt.xticks(batch_sizes, batch_sizes)
plt.minorticks_off()
plt.legend(frameon=False)
plt.show()

# %% [markdown]
# ## 6. The check
#
# What this notebook claimed, as assertions: measurement and formula agree, the control is zero, a deck deals
# every group at most once, and no picture by an unseen artist is in the training data.

# %%
for what, names in shares.items():
    for b, point in zip(batch_sizes, points[what]):
        assert abs(point - expected(names, b)) < 0.03, (what, b)
assert max(points["control"]) == 0
epoch = torch.cat([train.groups[order.indices(step)] for step in range(1883 // 256)])
assert len(epoch.unique()) == len(epoch)
assert {"fxemoji", "openmoji"}.isdisjoint(train.metadata["artist"])
assert (tokenizer(texts, 24)[:, 0] == 1).all() and tokenizer.vocab_size == 4096

# %% [markdown]
# ## 7. Try it yourself
#
# - In section 2, change `captions` to `["cat face", "red cat", "smiling cat face"]` and ask for 15 merges. Which word is a
#   single piece first, and why? The comparison with the package still holds: it retrains on your captions.
# - In section 3, set `batches=1` in `measured`. The dots and squares leave the lines, most of all at small batches: 16
#   pairs can have 0 or 2 doubles, nothing between. The formula does not care.
# - In section 4, ask `BatchOrder(train.labels, 256, 0)` for batches, so that only identical names are kept apart. It
#   raises no error, and `share_with_double(train.groups[rows])` is no longer zero. Which pictures meet now?
#
# **Next.** We have pictures, rows of numbers, and fair batches. How do a picture and a row of numbers become two
# things that can be compared at all? Notebook [02 · Two towers](02_two_towers.ipynb) builds the two networks, prints
# the shape at every step, and asks what they know before they have learned anything. Before: [Start here](README.md).
