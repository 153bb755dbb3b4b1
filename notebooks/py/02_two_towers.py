# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 02 · Two towers
#
# **Paper.** CLIP ([Radford et al., 2021](https://arxiv.org/abs/2103.00020)), section 2.4 and Figure 1, panel 1: the two
# encoders. The picture tower comes in two kinds there: a ResNet with three changes, and a Vision Transformer
# ([Dosovitskiy et al., 2021](https://arxiv.org/abs/2010.11929)).
#
# **The question.** How do a picture and a caption become two vectors that can be compared?
#
# **What you need first.** [01 · Pairs and tokens](01_pairs_and_tokens.ipynb): what a pair is, what token ids, end token
# and padding are. From PyTorch: matrix products, and that `nn.Module` holds parameters.
#
# **Time.** Half a minute on two CPU cores. Nothing is trained here.
#
# A picture and a sentence have nothing in common: one is a grid of colours, the other a row of numbers of
# varying length. CLIP gives each its own network, called a **tower**. The two towers share no weights and never look
# at each other's input. Each ends in a vector of the same length, and only there do they meet: the
# dot product of the two vectors says how well they fit.
#
# We follow one small batch through every layer and look at the shapes. We rebuild each key step in a few
# lines and check that the package computes the same. Letters in the comments: `B` pairs in a batch,
# `N` tokens in a row, `W` the width of a token's vector, `D` the dimensions of the space where the towers meet.

# %%
import matplotlib.pyplot as plt
import torch

from minclip.data import load_pairs, plain
from minclip.tokenizer import Tokenizer

torch.manual_seed(0)
torch.set_grad_enabled(False)  # nothing is trained in this notebook
plt.rcParams.update({"figure.figsize": (3.5, 2.5), "figure.dpi": 150, "font.size": 8})

# %% [markdown]
# Eight pairs by one artist are our batch. `plain` turns bytes into numbers between -1 and 1 and scales the pictures
# down to 32 × 32, the size that the demo trains on.

# %%
# NBVAL_CHECK_OUTPUT
train = load_pairs("emoji", "train")
names = ["penguin", "sailboat", "hamburger", "guitar", "octopus", "sunflower", "rocket", "umbrella"]
drawn = [c[0] if a == "twemoji" else "" for c, a in zip(train.captions, train.metadata["artist"])]
images = plain(train.images[[drawn.index(name) for name in names]], 32)
tokenizer = Tokenizer.train(sorted({text for captions in train.captions for text in captions}), 4096)
ids = tokenizer(names, context_length=24)
print("images", list(images.shape), " ids", list(ids.shape))

# %% [markdown]
# ## 1. The picture tower as a transformer
#
# A transformer reads a row of vectors. A picture is not a row, so it is cut into one. The Vision Transformer
# (ViT) lays a grid over the picture and calls each square a **patch**. With 4 × 4 patches, our 32 × 32 picture has
# 8 × 8 = 64 of them, and each holds 4 × 4 × 3 = 48 numbers. From here on, a patch is a token, as a piece of a word is one.

# %%
# NBVAL_CHECK_OUTPUT
squares = images.unfold(2, 4, 4).unfold(3, 4, 4)  # [B, 3, 8, 8, 4, 4]: rows and columns of squares
patches = squares.permute(0, 2, 3, 1, 4, 5).reshape(8, 64, 48)  # [B, N, 48]
print(list(squares.shape), "->", list(patches.shape))

# %% alt="Three pictures of one penguin, side by side: as stored with 64 × 64 pixels, scaled down to 32 × 32, and cut by gray lines into a grid of eight by eight patches."
figure, axes = plt.subplots(1, 3, figsize=(5, 1.9), layout="constrained")
axes[0].imshow(train.images[drawn.index("penguin")].permute(1, 2, 0))
axes[1].imshow(images[0].permute(1, 2, 0) / 2 + 0.5)
gaps = torch.nn.functional.pad(squares[0], (0, 1, 0, 1), value=0)  # one gray pixel between squares
axes[2].imshow(gaps.permute(1, 3, 2, 4, 0).reshape(40, 40, 3) / 2 + 0.5)
for ax, title in zip(axes, ("as stored, 64 × 64", "32 × 32", "64 patches of 4 × 4")):
    ax.set(xticks=[], yticks=[])
    ax.set_title(title, fontsize=8)
figure.supxlabel("Twemoji, CC BY 4.0", fontsize=6, color="gray")
plt.show()

# %% [markdown]
# **From patch to vector.** One matrix turns the 48 numbers of a patch into `W = 128`. It is the same matrix for every
# patch. In code it is often written as a convolution whose stride equals its kernel size. That sounds
# different and is the same: such a convolution touches every patch once and multiplies it by the same weights.

# %%
from minclip.towers import VisionTransformer, attention

vit = VisionTransformer(image_size=32, patch_size=4, width=128, layers=4, heads=4, pool="mean")
matrix = vit.patch_embedding.weight.reshape(128, 48)
by_hand = patches @ matrix.T  # [B, N, W]
torch.testing.assert_close(vit.patch_embedding(images).flatten(2).transpose(1, 2), by_hand)


# %% [markdown]
# **Attention** is how tokens exchange what they know. Each token sends out a query `q` ("what am I looking for?"), a key
# `k` ("what do I have?") and a value `v` ("what do I pass on?"). A token compares its query with all keys. The softmax
# makes the comparisons into weights that sum to one. What it receives is the mean of the values under these weights. The
# division by √d keeps the scores near 1 in size at any width; larger ones would give all the weight to one token.

# %%
def attention_by_hand(q, k, v):
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5  # [B, heads, N, N]
    weights = scores.exp() / scores.exp().sum(-1, keepdim=True)
    return weights @ v


q, k, v = torch.randn(3, 8, 4, 64, 32, dtype=torch.float64)  # [B, heads, N, W / heads] each
torch.testing.assert_close(attention(q, k, v), attention_by_hand(q, k, v))

# %% [markdown]
# Four **heads** do this side by side, each on a quarter of the width, so that a token can ask four different
# questions at once. A block of the transformer is attention, then a small network for each token alone, and both *add* to
# what was there. Blocks do not change the shape. So the whole tower is short: embed, add positions, blocks, average.

# %%
# NBVAL_CHECK_OUTPUT
x = vit.patch_embedding(images).flatten(2).transpose(1, 2)
print("patches as vectors      ", list(x.shape))
x = vit.norm_in(x + vit.position_embedding)
for number, block in enumerate(vit.blocks, 1):
    x = block(x)
    print(f"after block {number}           ", list(x.shape))
x = vit.norm_out(x.mean(1))
print("mean over the 64 patches", list(x.shape))
torch.testing.assert_close(x, vit(images))

# %% [markdown]
# **Why add positions?** Attention does not know where a token stands. It compares contents only. If we take the position
# vectors away and shuffle the patches of every picture, the result stays the same: a face with its mouth above its
# eyes would be a face. The next cell shows it. With position vectors, the shuffled picture gives something else.

# %%
def tower_on_vectors(x, positions):  # [B, N, W] -> [B, W]
    x = vit.norm_in(x + positions)
    for block in vit.blocks:
        x = block(x)
    return vit.norm_out(x.mean(1))


shuffled = by_hand[:, torch.randperm(64)]
torch.testing.assert_close(tower_on_vectors(shuffled, 0), tower_on_vectors(by_hand, 0), atol=1e-4, rtol=1e-4)
assert not torch.allclose(tower_on_vectors(shuffled, vit.position_embedding), vit(images), atol=1e-2)

# %% [markdown]
# **Which token speaks for the picture?** At the end 64 vectors must become one. The papers differ here, and the
# package has all three ways. CLIP adds one extra token, `cls`, which belongs to no patch, and reads it off at the end.
# CLIPA takes the `mean` of the patches. SigLIP lets one learned query attend to all patches (`map`) and needs a few more
# parameters for it.

# %%
# NBVAL_CHECK_OUTPUT
for pool in ("cls", "mean", "map"):
    tower = VisionTransformer(pool=pool)
    tokens, n = len(tower.position_embedding), sum(p.numel() for p in tower.parameters())
    print(f"{pool:4s}  {tokens} tokens  {n:9,} parameters  -> {list(tower(images).shape)}")

# %% [markdown]
# ## 2. The picture tower as a ResNet
#
# A ViT must learn even that neighbouring pixels belong together. A convolution has this built in, and on small data that
# head start counts: within minutes of training on two cores, the ResNet learns far more from our emoji. So it is
# the demo's tower. CLIP's ResNet differs from the textbook's in three places:
#
# 1. The first layer, the **stem**, is three small convolutions instead of one large one.
# 2. Where the picture gets smaller, it is **averaged** first (blur pooling). Skipping pixels would let fine patterns
#    turn into false coarse ones.
# 3. The last step is not the mean over all positions but **attention pooling**.
#
# The pattern of the shapes: the picture gets smaller and the vectors longer.

# %%
# NBVAL_CHECK_OUTPUT
from minclip.resnet import AttentionPool, ResNet

resnet = ResNet(image_size=32, layers=(1, 1, 1), width=32).eval()
x = images
for name, module in [("stem", resnet.stem), *zip(("stage 1", "stage 2", "stage 3"), resnet.blocks)]:
    x = module(x)
    print(f"{name:14s}", list(x.shape))
print("attention pool", list(resnet.pool(x).shape))
torch.testing.assert_close(resnet.pool(x), resnet(images))


# %% [markdown]
# **Attention pooling by hand.** The mean of all positions asks one question, and the answer is a mean in which the
# interesting positions weigh more. It is the attention of section 1 with a single query. The mean itself
# stays in the row, as token 0, so that the network can fall back on it.

# %%
def attention_pool_by_hand(pool, x):  # [B, C, H, W] -> [B, C], one head
    tokens = x.flatten(2).transpose(1, 2)  # [B, H W, C]
    tokens = torch.cat([tokens.mean(1, keepdim=True), tokens], 1) + pool.position_embedding
    return attention_by_hand(pool.query(tokens[:, :1]), pool.key(tokens), pool.value(tokens))[:, 0]


one_head = AttentionPool(positions=8 * 8, channels=128, heads=1)
maps = torch.randn(8, 128, 8, 8)
torch.testing.assert_close(one_head(maps), attention_pool_by_hand(one_head, maps))

# %% [markdown]
# **A trap to know: batch norm.** After each convolution the values are brought to a common scale. CLIP's ResNet takes mean and
# spread over the whole batch. Then, during training, a picture's vector depends on which pictures came with it! For
# evaluation, fixed averages are used, and the dependence is gone. `norm="group"` never has it. This will matter when
# one batch is split into parts, or over several machines.

# %%
for norm, training in (("batch", True), ("batch", False), ("group", True)):
    tower = ResNet(norm=norm).train(training)
    alone, together = tower(images[:2]), tower(images)[:2]
    same = torch.allclose(alone, together, atol=1e-4)
    assert same == (norm == "group" or not training)
    print(f"{norm} norm, {'training' if training else 'evaluation'}: company changes a vector: {not same}")

# %% [markdown]
# ## 3. The caption tower
#
# The caption tower is the same kind of transformer, now over tokens of text. Two things are new: it looks
# **only backwards**, and it is read off **at the end token**.
#
# Looking backwards is done with a mask, a table that says which query (row) may see which key (column). Forbidden scores are set
# to minus infinity, and the softmax makes weights of exactly zero of them. CLIP chose this **causal** mask so that a
# language model could be added later. (SigLIP drops it.) It has a consequence: only the last token has seen the
# whole caption. That is the end token, and so its vector stands for the caption.

# %%
# NBVAL_CHECK_OUTPUT
from minclip.towers import TextTransformer

text_tower = TextTransformer(tokenizer.vocab_size, context_length=24, width=128, layers=2, heads=4)
x = text_tower.token_embedding(ids) + text_tower.position_embedding  # [B, L, W]
mask = torch.ones(24, 24, dtype=torch.bool).tril()  # row i sees columns 0 to i
for block in text_tower.blocks:
    x = block(x, mask)
end = (ids == 2).int().argmax(1)  # where the end token stands
print(end.tolist(), list(x.shape), "->", list(x[torch.arange(8), end].shape))
torch.testing.assert_close(text_tower.norm_out(x[torch.arange(8), end]), text_tower(ids))

# %% [markdown]
# **Padding changes nothing.** It stands behind the end token, where no one looks. We test it in the hardest way: cut the padding
# off, or replace it by arbitrary tokens. The vector of the caption stays the same. As a control, a change of one
# token *before* the end must change the vector; a tower that ignores its input would pass the first two tests.

# %%
caption = text_tower(ids)
shortest = int(end.max()) + 1
torch.testing.assert_close(text_tower(ids[:, :shortest]), caption)

noise = torch.where(ids == 0, torch.randint(3, 4096, ids.shape), ids)  # 0 is padding
torch.testing.assert_close(text_tower(noise), caption)

changed = ids.clone()
changed[:, 1] = 500  # another first word
assert not torch.allclose(text_tower(changed), caption, atol=1e-2)

# %% [markdown]
# This is more than tidiness: training cuts off the padding that all captions of a batch share. With the demo's captions
# the rows shrink from 24 tokens to about 20, and the result does not change.
#
# ## 4. One space
#
# The picture tower ends at 512 numbers, the caption tower at 128. One matrix each, without bias and without any
# layer in between, brings both to `D = 256`. Then each vector is divided by its length. Now all vectors have length
# one, and the dot product is the **cosine** of the angle between them: 1 for the same direction, 0 for
# unrelated ones, -1 for opposite ones. That is all there is to `CLIP`.

# %%
# NBVAL_CHECK_OUTPUT
from minclip.clip import CLIP

model = CLIP(resnet, text_tower, embed_dim=256).eval()
picture = resnet(images) @ model.image_projection.weight.T  # [B, D]
text = text_tower(ids) @ model.text_projection.weight.T  # [B, D]
picture, text = (v / v.norm(dim=1, keepdim=True) for v in (picture, text))
torch.testing.assert_close((picture, text), (model.encode_image(images), model.encode_text(ids)))
print("pictures", list(picture.shape), " captions", list(text.shape), " cosines", list((picture @ text.T).shape))

# %% [markdown]
# ## 5. Where the parameters are
#
# Counting parameters is a good test of whether one has understood a layer. A transformer block of width `W` has
# four `W × W` matrices for attention (query, key, value, output) and two of `W × 4W` in the small network, so
# 4 + 8 = 12 of size `W²`. Biases and the two norms add 13 `W`. Here is the count, by formula and by asking the model.

# %%
# NBVAL_CHECK_OUTPUT
W, block = 128, sum(p.numel() for p in text_tower.blocks[0].parameters())
assert block == 12 * W**2 + 13 * W
caption_tower = 4096 * W + 24 * W + 2 * block + 2 * W  # tokens, positions, blocks, last norm
assert caption_tower == sum(p.numel() for p in text_tower.parameters())
for name, part in [*model.named_children(), ("(a ViT instead)", vit)]:
    print(f"{name:17s} {sum(p.numel() for p in part.parameters()):9,}")
print(f"{'whole model':17s} {sum(p.numel() for p in model.parameters()):9,}")

# %% [markdown]
# More than half of the caption tower is its table of token vectors, 4,096 × 128. That is typical of small
# models. The whole model has 2.4 million parameters, and one of them stands alone: `logit_scale`, the temperature,
# which is a topic of the next notebook. CLIP's models are 40 to 260 times larger.
#
# ## 6. What do the towers know before training?
#
# Nothing about each other, surely. But it is worth seeing what "nothing" looks like. The pictures below show the
# cosine of each of our eight pictures with each of the eight captions, for an untrained model with each
# kind of picture tower. In a trained model the diagonal would be bright.

# %%
torch.manual_seed(0)
caption_tower = TextTransformer(tokenizer.vocab_size)
models = {"ResNet": CLIP(ResNet(), caption_tower).eval(), "ViT": CLIP(VisionTransformer(), caption_tower).eval()}
cosines = {kind: m.encode_image(images) @ m.encode_text(ids).T for kind, m in models.items()}
limit = max(c.abs().max() for c in cosines.values())

# %% alt="Two heat maps of the cosines of eight pictures (rows) with eight captions (columns). The untrained ResNet shows vertical stripes, the same in every row; the untrained ViT looks random. Neither has a bright diagonal, and all cosines are under 0.11."
figure, axes = plt.subplots(1, 2, figsize=(7, 2.9), layout="constrained", sharey=True)
for ax, (kind, matrix) in zip(axes, cosines.items()):
    shown = ax.imshow(matrix, cmap="RdBu_r", vmin=-limit, vmax=limit)
    ax.set(title=f"untrained {kind}", xlabel="caption", yticks=range(8), yticklabels=names)
    ax.set_xticks(range(8), names, rotation=40, ha="right")
axes[0].set_ylabel("picture")
figure.colorbar(shown, ax=axes, label="cosine (no unit)")
plt.show()

# %% [markdown]
# The diagonal is nothing special. What you see on the left are **stripes**: every picture likes the same captions. The
# reason is that an untrained ResNet gives nearly the same vector to everything; with random weights and without batch
# statistics, two pictures have a cosine of more than 0.99. The ViT spreads its pictures more, but at random.
# And look at the colour bar: all cosines are small. Training has two jobs, then: pull the pictures apart, and
# turn each one towards its caption.
#
# Eight pairs could mislead, so we count on 256. For each picture we ask which caption has the highest cosine; it is
# the right one about as often as a blind guess, 1 in 256. This is **recall at 1**, and it is the package's function
# `recall_at_k`. The control is a "model" that cheats and gives both towers the same vectors: it must get every pair right.

# %%
from minclip.data import BatchOrder
from minclip.retrieval import recall_at_k

batch = train.select(BatchOrder(train.groups, 256, seed=0).indices(0))
many_images, many_ids = plain(batch.images, 32), tokenizer([texts[0] for texts in batch.captions], 24)
features = {kind: (m.encode_image(many_images), m.encode_text(many_ids)) for kind, m in models.items()}
for kind, (picture, text) in features.items():
    between = (picture @ picture.T).mean().item()
    print(f"{kind:6s} recall at 1: {recall_at_k(picture @ text.T):.2%}   mean cosine of two pictures: {between:.2f}")

# %% [markdown]
# ## 7. The check
#
# The equalities stand in the cells above, next to what they are about. Here are the claims of the last section, with room
# to spare, since random weights differ a little from machine to machine.

# %%
for picture, text in features.values():
    assert recall_at_k(picture @ text.T) < 0.05 and recall_at_k(text @ picture.T) < 0.05  # chance: 0.004
    torch.testing.assert_close(picture.norm(dim=1), torch.ones(256))
    torch.testing.assert_close(text.norm(dim=1), torch.ones(256))
    assert (picture @ picture.T).mean() > 0.4  # everything looks alike
    assert recall_at_k(text @ text.T) > 0.99  # the control
assert (features["ResNet"][0] @ features["ResNet"][0].T).mean() > 0.99

# %% [markdown]
# ## 8. Try it yourself
#
# - In section 1, cut patches of 8 × 8 instead of 4 × 4 (also in the reshape and in `VisionTransformer`). There are 16 tokens
#   then, and the matrix grows to 192 × 128. Attention compares every token with every other, so
#   its table has 16² entries instead of 64²: this is what CLIPA exploits later.
# - In section 3, build the caption tower with `causal=False` and leave the mask out. The padding tests: which of the two still holds, and why
#   not the other? (`TextTransformer` masks out what *is* padding; arbitrary tokens are not.)
# - In section 6, add `.train()` after `CLIP(ResNet(), caption_tower)` in place of `.eval()`. Batch norm now spreads the pictures, and their
#   mean cosine falls to about 0.7. The recall stays where it is: spread is not knowledge.
#
# **Next.** We have a table of cosines and want its diagonal to be bright. For that we need one number that says how far we
# are from it, and that can be made smaller step by step. Notebook [03 · The softmax loss](03_softmax_loss.ipynb) builds it in
# eight lines, and then trains. Before: [01 · Pairs and tokens](01_pairs_and_tokens.ipynb).
