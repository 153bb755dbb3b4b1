# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 21 · Your own pictures
#
# **Paper.** CLIP ([Radford et al., 2021](https://arxiv.org/abs/2103.00020)): section 2.4, the training, and section 3.1, zero-shot; appendix E.1 for
# retrieval.
#
# **The question.** How does a folder of pictures with captions become a model that searches pictures it has never seen?
#
# **What you need first.** [03 · The softmax loss](03_softmax_loss.ipynb): what is trained, and what chance is.
# [15 · Zero-shot and prompts](15_zero_shot_and_prompts.ipynb) helps with section 6.
#
# **Time.** About one minute on two CPU cores, of which some 25 seconds are training.
#
# Until now the pictures came with the repository. This notebook starts where you will: with a folder of picture files, and a table that says what
# they show. It makes such a folder, reads it, trains on it and searches another folder with the result. Each step is then a command of one line.
#
# The folder is temporary and vanishes with the notebook. Its pictures are the embedded emoji, written as PNG files, so that nothing has to be fetched and
# everything can be checked. At the end stands what to change for your own.

# %%
import contextlib
import csv
import io
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from PIL import Image

# %%
from minclip.data import load_pairs
from minclip.retrieval import nearest, recall_at_k

plt.rcParams.update({"figure.figsize": (3.5, 2.5), "figure.dpi": 150, "font.size": 8})
BLUE, ORANGE, GRAY = "#0072B2", "#E69F00", "gray"
temporary = tempfile.TemporaryDirectory()
home = Path(temporary.name)

# %% [markdown]
# ## 1. A folder with captions
#
# The simplest form that pictures with captions can have is a folder of files and beside them a `captions.csv`. It has a line for each caption: the file's
# name, and what may be said about it. A picture with several captions has several lines.
#
# We write two folders. `mine/train` gets what five artists drew of 467 things. `new` gets one drawing of each of these things, by an artist
# whom the training pictures do not know, and no captions at all. It stands for the pictures on your disk that nobody has ever described. What they show
# we know, but the model will not be told.

# %%
unseen, drawn = load_pairs("emoji", "fxemoji"), load_pairs("emoji", "train")
known = torch.isin(drawn.labels, unseen.labels)
mine = drawn.select(known)
names = [texts[0] for texts in unseen.captions]  # what the new pictures show
print(f"{len(mine):,} pictures with captions, {len(unseen)} new ones; the first: {mine.captions[0]}")


# %%
def write_pictures(folder, images):
    folder.mkdir(parents=True)
    for i, picture in enumerate(images):  # uint8 [3, 64, 64]
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(folder / f"{i:04d}.png")


write_pictures(home / "mine" / "train", mine.images)
write_pictures(home / "new", unseen.images)
with open(home / "mine" / "train" / "captions.csv", "w", newline="", encoding="utf-8") as file:
    lines = [(f"{i:04d}.png", text) for i, texts in enumerate(mine.captions) for text in texts]
    csv.writer(file).writerows([("file_name", "caption"), *lines])

# %% [markdown]
# Reading it back is one call. It looks at what the folder holds and finds the table, and the columns in the table, by itself. PNG loses nothing, so each
# picture and each caption must come back exactly as it was.

# %%
pairs = load_pairs(home / "mine", "train")
assert torch.equal(pairs.images, mine.images) and pairs.captions == mine.captions
print(
    f"{len(pairs):,} pairs, {len(pairs.groups.unique()):,} different first captions, {len(pairs.skipped)} rows skipped"
)

# %% [markdown]
# The number of *different* captions matters. Two pictures with the same caption would be false negatives of each other (notebook
# [08 · Negatives and noise](08_negatives_and_noise.ipynb)), so no batch gets both, and the batch can have at most as many pairs as there are different
# captions.
#
# ## 2. What is wrong with real folders
#
# Real folders are not as clean as ours. A download was cut off, a caption was left empty, a line names a file that somebody has moved. None of it should stop a run
# of hours, and none of it should pass in silence. So such rows are left out, counted and named. If they are more than one in a hundred, something
# larger is wrong, and loading stops.
#
# We add three bad lines to the table, and a file that was cut off.

# %%
# NBVAL_CHECK_OUTPUT
import warnings

(home / "mine" / "train" / "cut.png").write_bytes((home / "new" / "0000.png").read_bytes()[:200])
with open(home / "mine" / "train" / "captions.csv", "a", newline="", encoding="utf-8") as file:
    csv.writer(file).writerows([("cut.png", "cut off"), ("0000.png", ""), ("moved.png", "where is it?")])
with warnings.catch_warnings(record=True):
    spoilt = load_pairs(home / "mine", "train")
print(*(row.split(":")[0] for row in spoilt.skipped), sep="\n")
assert len(spoilt) == len(pairs) and spoilt.captions == pairs.captions

# %% [markdown]
# ## 3. Train on it
#
# `train` is what the command `python -m minclip.train --data mine` calls. We give it less of everything than its defaults have, so that it takes seconds:
# pictures of 16 × 16, a narrow ResNet, one layer of text, and 160 steps of 128 pairs. The vocabulary is learned from the captions of the folder.
#
# Two more models will say what the result means. The **baseline** is the same model before its first step, with random weights. The **negative
# control** trains just as long on the same pictures and the same captions, but somebody has shuffled them: each picture has the captions of another one. If the control found
# anything, then it would not be the *pairing* that teaches.

# %%
from minclip.clip import CLIPConfig, build_clip
from minclip.train import TrainConfig, train

shape = dict(image_size=16, image_width=16, text_width=64, text_layers=1, vocab_size=1024, context_length=16)
config = TrainConfig(model=CLIPConfig(**shape), data=str(home / "mine"), output_dir="", max_steps=160, batch_size=128)
config.early_image_size, config.progress, config.precision = 0, False, "fp32"
with contextlib.redirect_stdout(io.StringIO()):
    result = train(config, pairs=pairs)

# %%
order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(0))
shuffled = pairs.select(torch.arange(len(pairs)))
shuffled.captions, shuffled.groups = [pairs.captions[i] for i in order], pairs.groups[order]
with contextlib.redirect_stdout(io.StringIO()):
    control = train(config, pairs=shuffled)
untrained = build_clip(result.model.config).eval()
for name, run in (("trained", result), ("shuffled captions", control)):
    print(f"{name}: loss {run.history[0]['loss']:.1f} -> {run.history[-1]['loss']:.1f}")

# %% [markdown]
# An uninformed model pays ln 128 = 4.85. The control stays near it: there is nothing to learn in shuffled captions but the pairs themselves, by heart, and
# with pictures that are zoomed, turned and coloured anew in each step that takes far longer.
#
# ## 4. Search, by hand
#
# A search needs three lines. Embed all pictures, once. Embed the words. Sort the pictures by the cosine, which for unit vectors is a product. Here they
# are, in float64:

# %%
from minclip.data import plain

exact = build_clip(result.model.config).double().eval()
exact.load_state_dict(result.model.state_dict())
with torch.no_grad():
    gallery = exact.encode_image(plain(unseen.images, 16).double())  # [N, D]
    query = exact.encode_text(result.tokenizer(["red heart"], 16))  # [1, D]
cosines = (query @ gallery.T)[0]  # [N]
best = cosines.argsort(descending=True)[:5]
print([names[i] for i in best])

# %% [markdown]
# The package does the same from files. `index_folder` reads a folder, subfolders too, and keeps the vectors in a cache. When it is called again, only new and
# changed files go through the tower. It writes what it has every 256 pictures, each file whole or not at all, so that it can be stopped at any moment, even
# by pulling the plug, and goes on from there. Our two ways should agree to the precision of float32 (the pictures are made smaller by two
# different filters, so the features are close rather than equal; with the same small pictures they are equal).

# %%
from minclip.search import draw_results, embed_queries, index_folder

with contextlib.redirect_stderr(io.StringIO()):  # it says how far it is
    files, features = index_folder(result.model, home / "new", home / "cache")  # N paths, [N, D]
    again = index_folder(result.model, home / "new", home / "cache")
assert [file.name for file in files] == [f"{i:04d}.png" for i in range(len(unseen))]
assert again[0] == files and torch.equal(again[1], features)
print(f"cosine between the two ways: {(features * gallery).sum(1).mean():.3f} on average")

# %%
from minclip.sources import decode_picture
from minclip.zero_shot import embed_images

small = torch.stack([decode_picture(file.read_bytes(), 16) for file in files])  # uint8 [N, 3, 16, 16]
torch.testing.assert_close(features, embed_images(result.model, small, 16), atol=1e-5, rtol=0)
by_hand = exact.encode_image(plain(small, 16).double()).detach()
torch.testing.assert_close(embed_images(exact, small, 16), by_hand, atol=1e-10, rtol=0)

# %% [markdown]
# Now ask. A query is words, or another picture. The second kind needs no text tower: the picture's vector takes the place of the words'.

# %% alt="A contact sheet with five rows of pictures: red heart, guitar, penguin, a yellow flower, and a picture as a query, each with the six nearest drawings and their cosines."
asked = ["red heart", "guitar", "penguin", "a yellow flower"]
like = files[names.index("penguin")]
vectors = embed_queries(result.model, result.tokenizer, asked, [like])  # [5, D]
scores, rows = nearest(vectors, features, 6)  # [5, 6] each
figure = draw_results(files, [*asked, "(picture of a penguin)"], scores, rows)
sheet = io.BytesIO()
figure.savefig(sheet, dpi=150)
plt.figure(figsize=(6.1, 3.4)).add_axes([0, 0, 1, 1]).axis("off")
plt.imshow(Image.open(sheet))
plt.show()

# %% [markdown]
# Some rows convince and some do not: so little training has not taught our model every word. The number above a picture is its cosine. It orders the
# pictures of a row and says little by itself. A row of nothing but wrong pictures has cosines as high as a good one, for a search always finds
# *something*.
#
# ## 5. How good is it?
#
# Five rows are no measurement. We ask for each of the 467 things by its name and count how often its drawing is among the first k. Chance is
# k / 467. A few drawings would fit several names, and only one counts.

# %%
ks = (1, 5, 10, 20)
found = {}
for name, model in {"trained": result.model, "shuffled captions": control.model, "untrained": untrained}.items():
    tokenizer = control.tokenizer if name == "shuffled captions" else result.tokenizer
    with contextlib.redirect_stderr(io.StringIO()):
        _, vectors = index_folder(model, home / "new", home / "cache")  # another model, another index
    similarity = embed_queries(model, tokenizer, names) @ vectors.T  # [467, 467]
    found[name] = [recall_at_k(similarity, k=k) for k in ks]
    print(f"{name:18s}", *(f"{recall:6.1%} of {k}" for k, recall in zip(ks, found[name])))

# %% alt="A line chart: recall in percent against k from 1 to 20. The trained model rises far above chance; the model with shuffled captions and the untrained one stay at chance, a dashed line near zero."
for (name, recalls), color, style in zip(found.items(), (BLUE, ORANGE, GRAY), ("o-", "s-", "^-")):
    plt.plot(ks, [100 * recall for recall in recalls], style, color=color, ms=4, lw=1.2, label=name)
plt.plot(ks, [100 * k / len(names) for k in ks], "k--", lw=1, label="chance")
plt.gca().set(xlabel="k", ylabel="drawing among the first k (%)", xticks=ks)
plt.legend(frameon=False, fontsize=6)
plt.show()

# %% [markdown]
# Some ten seconds of training on two thousand pictures, and more than a fifth of the things are found at the first try, among drawings by a
# stranger. Both controls lie near the dashed line. So it is the training that does it, and in the training it is the pairing.
#
# Be careful with what this shows. All 467 names occurred in the captions. Ask for something that no caption mentions and the answer will be as good as
# what the words have in common with words that were there.
#
# ## 6. Names and honest probabilities
#
# Turned round, the same vectors name pictures: the classifier of notebook [15 · Zero-shot and prompts](15_zero_shot_and_prompts.ipynb). The command prints a
# probability for each name, and it is worth knowing what kind. A model of the **softmax** loss was always asked *which of these*, so its probabilities sum to one, over
# whatever names you give. A model of the **sigmoid** loss was asked *this one, yes or no*, name by name, and may say no to all of them.
#
# Give a softmax model the picture of a heart and two names that are both wrong:

# %%
from minclip.zero_shot import class_probabilities, zero_shot_weights

wrong = ["guitar", "penguin"]
heart = features[names.index("red heart")][None]  # [1, D]
weights = zero_shot_weights(result.model, result.tokenizer, wrong, ("{}", "a drawing of {}"))  # [2, D]
shares = class_probabilities(result.model, heart @ weights.T)[0]
print(", ".join(f"{name} {share:.0%}" for name, share in zip(wrong, shares)))
scaled = result.model.logit_scale.exp() * (heart @ weights.T)[0]
torch.testing.assert_close(shares, scaled.exp() / scaled.exp().sum(), atol=1e-5, rtol=1e-5)

# %% [markdown]
# It has to be one of them. So give such a model a name for the rest, or do not read its numbers as more than a comparison.
#
# ## 7. With your own pictures
#
# Every step above is a command. In a terminal, in the folder of the repository:
#
# ```sh
# python -m minclip.train --data mine --output_dir runs/mine                     # mine/ holds pictures and captions.csv
# python -m minclip.search --model runs/mine --images new "red heart" "guitar"   # a table, and minclip_search.png
# python -m minclip.search --model runs/mine --images new --like some.png        # pictures like this one
# python -m minclip.zero_shot --model runs/mine --images new --names cat dog "red heart" > names.csv
# ```
#
# - **Captions** may also stand in `metadata.jsonl`, in a TSV, or in a `.txt` beside each picture; parquet and WebDataset shards work, too. The README has the list.
# - **Few pictures?** Below a few thousand captions, do not train from nothing. Take published weights: `--model` also accepts a name, as notebook
#   [20 · Real weights](20_real_weights.ipynb) explains, and `--init_from` tunes them on your folder.
# - **No captions?** Then there is nothing to train on, but with published weights you can search right away.
# - **Where does the index lie?** In `~/.cache/minclip/search`, or where `--index` says. Nothing is written among your pictures. Delete it whenever you like.
#
# ## 8. The check
#
# The identities were asserted where they stand. What remains are the live runs. On any machine the trained model must be far above chance, and the controls near it.

# %%
for k, trained, by_shuffled, by_nothing in zip(ks, *found.values()):
    assert trained > 5 * k / len(names), (k, trained)
    assert max(by_shuffled, by_nothing) < 0.05 + 2 * k / len(names), k
assert (scores[:, :-1] >= scores[:, 1:]).all() and rows[4, 0] == names.index("penguin")
temporary.cleanup()
assert not home.exists()

# %% [markdown]
# ## 9. Try it yourself
#
# - In section 4, ask for something that no caption names, such as "a musical instrument" or "something to eat". Which words does it hold on to?
# - In section 3, give `select` only half of the rows (`torch.arange(0, len(pairs), 2)`), or twice the steps. Which of the two changes the recall more?
# - In section 3, set `loss="sigmoid"` in `shape`, and look at the two wrong names of section 6 again. What do its probabilities sum to now?
# - Write ten photographs of your own into a folder, and use its path in place of `home / "new"`. What does a model say that has seen nothing but drawings?
#
# **Next.** This was the last notebook. [Start here](README.md) shows all of them as a map, with the exercises for a class or for yourself. Before:
# [20 · Real weights](20_real_weights.ipynb).
