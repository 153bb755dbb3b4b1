# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 20 · Real weights
#
# **Paper.** CLIP ([Radford et al., 2021](https://arxiv.org/abs/2103.00020)): section 2.4. SigLIP ([Zhai et al., 2023](https://arxiv.org/abs/2303.15343)):
# section 3. CLIPA ([Li et al., 2023](https://arxiv.org/abs/2305.07017)). The weights that their authors published.
#
# **The question.** What does it take for published weights to give the same vectors in towers that one can read?
#
# **What you need first.** [02 · Two towers](02_two_towers.ipynb): patches, blocks, pooling. [15 · Zero-shot and prompts](15_zero_shot_and_prompts.ipynb)
# helps with section 6.
#
# **Time.** Half a minute on two CPU cores. Nothing is trained here.
#
# So far every model was ours, and small. The models of the papers are free to download, and they are the same two towers with more layers.
# Yet a file of weights is only a list of tensors with names. It does not say what is computed with them. Whoever writes that part again has to
# meet some twenty decisions, and a wrong one seldom gives an error. It gives vectors that are a little worse.
#
# This notebook needs no network. Instead of downloading a model it makes one, with the code of
# [transformers](https://huggingface.co/docs/transformers), which many people load CLIP with. The model is small and its weights are random. That is
# no drawback: if two programs agree on random weights, to the last digits, they agree on all. Section 7 says what to type for the real ones.

# %%
import json
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F

# %%
try:
    import transformers
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("this notebook compares with transformers: pip install 'minclip[dev]'") from error

# %%
transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
plt.rcParams.update({"figure.figsize": (3.5, 2.5), "figure.dpi": 150, "font.size": 8})
folder = Path(tempfile.mkdtemp())  # what a download would leave
torch.set_grad_enabled(False)


def randomise(model):
    for name, tensor in torch.manual_seed(0) and model.state_dict().items():
        tensor.copy_(torch.randn(tensor.shape) * 0.3 + (tensor.ndim == 1 and "norm" in name and "weight" in name))
    return model.eval()


# %% [markdown]
# (`randomise` also draws the gains and biases, which begin as ones and zeros. With those, two norms that have changed places would not be seen.)
#
# ## 1. A file of names
#
# First the tokenizer, since the size of the vocabulary is part of the model. CLIP's is a byte-pair encoding that marks the ends of words: `cat</w>`
# is the word, `cat` only its beginning. We train a small one on the captions of the emoji, in the form in which it would be published.

# %%
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from experiments.emoji import emoji
from minclip.tokenizer import CLIP_WORDS

published = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
published.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
words = pre_tokenizers.Split(Regex(CLIP_WORDS), "removed", invert=True)
published.pre_tokenizer = pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(add_prefix_space=False)])
special = ["<|startoftext|>", "<|endoftext|>"]

# %%
alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
trainer = trainers.BpeTrainer(
    vocab_size=1500, initial_alphabet=alphabet, end_of_word_suffix="</w>", special_tokens=special, show_progress=False
)
published.train_from_iterator(sorted({text for texts in emoji("train").captions for text in texts}), trainer)
published.save(str(folder / "tokenizer.json"))
print(published.encode("a drawing of a smiling cat").tokens)

# %% [markdown]
# Then the model: an image tower of width 64 with two blocks, a text tower of width 48 with three, a shared space of 32 dimensions. It is saved as
# all models on the hub are: `config.json` says the shape, `model.safetensors` holds the tensors. (safetensors is a list of names, shapes
# and bytes, and nothing else. The older `.bin` and `.pt` files are pickles, which may run code when they are opened.)

# %%
image = dict(hidden_size=64, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4, image_size=32, patch_size=8)
text = dict(hidden_size=48, intermediate_size=192, num_hidden_layers=3, num_attention_heads=3, max_position_embeddings=24)
text |= dict(vocab_size=published.get_vocab_size(), bos_token_id=0, eos_token_id=1, pad_token_id=1)
config = transformers.CLIPConfig(text_config=text, vision_config=image, projection_dim=32)
reference = randomise(transformers.CLIPModel(config))
reference.save_pretrained(folder)

# %%
# NBVAL_CHECK_OUTPUT
from safetensors.torch import load_file

tensors = load_file(folder / "model.safetensors")
print(f"{len(tensors)} tensors, {sum(tensor.numel() for tensor in tensors.values()):,} numbers")
for name in sorted(tensors):
    if name.startswith("vision_model") and "layers.1" not in name:
        print(f"{name.removeprefix('vision_model.'):48s}{list(tensors[name].shape)}")

# %% [markdown]
# Read the list next to the code of [02 · Two towers](02_two_towers.ipynb). Everything is there: the filters of the patches, the class token, the
# positions, two norms, an attention and an MLP in each block. Only the names differ, and one norm even has a typing error that nobody may mend any
# more: `pre_layrnorm`.
#
# ## 2. One block by hand
#
# Renaming is most of the work. Here is the first block. Queries, keys and values are three tensors there and one in ours, so they are stacked,
# and the order matters.

# %%
from minclip.towers import Block

theirs = "vision_model.encoder.layers.0."
names = {"norm1": "layer_norm1", "norm2": "layer_norm2", "attention_out": "self_attn.out_proj", "mlp_in": "mlp.fc1", "mlp_out": "mlp.fc2"}
block = Block(width=64, heads=4, activation="quick_gelu")
state = {f"{a}.{kind}": tensors[f"{theirs}{b}.{kind}"] for a, b in names.items() for kind in ("weight", "bias")}
for kind in ("weight", "bias"):
    state[f"qkv.{kind}"] = torch.cat([tensors[f"{theirs}self_attn.{part}_proj.{kind}"] for part in "qkv"])
block.load_state_dict(state)

# %%
x = torch.randn(2, 17, 64)
expected = reference.vision_model.encoder.layers[0](x, attention_mask=None)
torch.testing.assert_close(block(x), expected, atol=1e-4, rtol=1e-4)
print("the block computes the same; with the exact GELU instead of OpenAI's quick one it is off by", end=" ")
block.activation = torch.nn.GELU()
print(f"{(block(x) - expected).abs().max():.3f}")

# %% [markdown]
# The last line is the kind of mistake that nobody sees. The *quick GELU*, $x\,\sigma(1.702\,x)$, was an approximation that was fast on the machines of
# 2020. OpenAI's weights were trained with it, so they need it. The weights that others trained later with the same code need the exact one.
#
# ## 3. All of it
#
# `minclip.pretrained.load` does this for all tensors of five layouts (`minclip/pretrained.py`): the names from a table of patterns, the shape
# from the tensors themselves, and from `config.json` only what tensors cannot tell, such as the number of heads.

# %%
from minclip.data import plain
from minclip.pretrained import MEAN, STD, load, read_tokenizer

model, tokenizer = load(folder)
pairs = emoji("fxemoji")
pictures = plain(pairs.images[:64], 32)  # [64, 3, 32, 32] in [-1, 1]
captions = [texts[0] for texts in pairs.captions[:64]]
ids = tokenizer(captions, 24)
image_features, text_features, logit_scale = model(pictures, ids)

# %% [markdown]
# What does the reference say to the same pictures and captions? Its pictures are not in [-1, 1]: from values between 0 and 1 the mean of OpenAI's
# training pictures is taken off, colour by colour, and the rest is divided by their standard deviation. Ours does this inside `encode_image`.
#
# Its ids are others, too. In minclip 0, 1 and 2 are pad, start and end. So `load` lets the *rows* of the token embedding change places, once,
# and `read_tokenizer` also returns which row was where.

# %%
rows = torch.tensor(read_tokenizer(folder, strip=False)[1])
mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
out = reference(input_ids=rows[ids], pixel_values=(pictures / 2 + 0.5 - mean) / std)
for what, ours, there in (("pictures", image_features, out.image_embeds), ("captions", text_features, out.text_embeds)):
    print(f"{what}: {list(ours.shape)}, the largest difference of all numbers is {(ours - there).abs().max():.0e}")
torch.testing.assert_close(image_features, out.image_embeds, atol=1e-5, rtol=0)
torch.testing.assert_close(logit_scale.exp() * image_features @ text_features.T, out.logits_per_image, atol=1e-4, rtol=0)

# %%
caption = "It's a smiling  CAT!"
print([tokenizer.bpe.id_to_token(i) for i in tokenizer([caption], 12)[0].tolist()])
print(["-"] + published.encode(caption).tokens)

# %% [markdown]
# Cutting into words is as delicate as the towers: `'s` is cut off as a word of its own, digits stand alone, blanks are one, capitals are small. The tests compare
# three tokenizers with those of their publishers over captions in a dozen scripts.
#
# ## 4. What each detail is worth
#
# Let us make the mistakes on purpose, one at a time. Each is a setting of `CLIPConfig`, or a step left out. How far do the vectors of the pictures move
# away from the right ones? All have length 1, so 0 is the same vector, and 2 the opposite one.

# %%
from dataclasses import replace

from minclip.clip import build_clip


def with_mistake(skip=(), **changes):
    wrong = build_clip(replace(model.config, **changes)).eval()
    fresh = wrong.state_dict()
    wrong.load_state_dict({key: fresh[key] if key in skip else value for key, value in model.state_dict().items() if key in fresh})
    return wrong


# %%
mistakes = {
    "none": model,
    "exact GELU": with_mistake(activation="gelu"),
    "eps 1e-6": with_mistake(norm_eps=1e-6),
    "pixels in [-1, 1]": with_mistake(image_mean=(0.5, 0.5, 0.5), image_std=(0.5, 0.5, 0.5)),
    "2 heads for 4": with_mistake(image_heads=2),
    "no first norm": with_mistake(image_norms="after"),
}
moved = {name: (wrong.encode_image(pictures) - out.image_embeds).norm(dim=1).mean().item() for name, wrong in mistakes.items()}
print({name: f"{distance:.0e}" for name, distance in moved.items()})

# %% alt="A horizontal bar chart on a logarithmic axis: how far picture vectors move by five mistakes and by none. None is at rounding, a wrong eps a little above it, and the others move them by hundredths up to one."
figure, ax = plt.subplots(layout="constrained")
ax.barh(list(moved), list(moved.values()), color=["#56B4E9", *["#E69F00"] * 5])
ax.set(xscale="log", xlim=(1e-8, 3), xlabel="distance from the reference's vectors (mean of 64 pictures)")
ax.invert_yaxis()
plt.show()

# %% [markdown]
# All these models *work*: no error, no NaN, unit vectors. On trained weights some of the mistakes cost a point of accuracy and some cost everything,
# and only a comparison with the reference tells. That is why the tests compare numbers to 1e-10 in float64, and do not look at accuracies.
#
# ## 5. SigLIP's tower, and two things that are one
#
# SigLIP differs in seven places: no class token (MAP pooling), no norm before the blocks, no image projection, a text tower that sees all tokens and
# pools the *last* position, even if that is padding, a bias in the text projection, the tanh form of the GELU, and norms with an eps of 1e-6. It also has a
# bias at the patches. Our patches have none. But a bias $b$ and a position $p_i$ are both added to every patch $i$, whatever is in the picture:
#
# $$(W x_i + b) + p_i = W x_i + (p_i + b) \tag{20.1}$$
#
# By (20.1) the bias may move into the positions, and the tower stays as it is. In the same spirit a missing projection is an identity matrix.

# %%
both = dict(hidden_size=64, intermediate_size=172, num_hidden_layers=2, num_attention_heads=4)
image, text = both | dict(image_size=32, patch_size=8), both | dict(vocab_size=1500, max_position_embeddings=16)
siglip = randomise(transformers.SiglipModel(transformers.SiglipConfig(text_config=text, vision_config=image)))
embed = siglip.vision_model.embeddings
W, b, p = embed.patch_embedding.weight, embed.patch_embedding.bias, embed.position_embedding.weight
with_bias = F.conv2d(pictures, W, b, stride=8).flatten(2).mT + p  # [64, 16, 64]
without = F.conv2d(pictures, W, stride=8).flatten(2).mT + (p + b)
torch.testing.assert_close(with_bias, without, atol=1e-5, rtol=0)
torch.testing.assert_close(with_bias, embed(pictures), atol=1e-5, rtol=0)

# %%
from minclip.pretrained import rename, shape_of

renamed = rename(siglip.state_dict())
shape = shape_of(renamed)
print({key: shape[key] for key in ("image_pool", "image_norms", "loss", "projection_bias", "image_hidden")})
print("identity:", torch.equal(renamed["image_projection.weight"], torch.eye(64)))
print("bias of the patches left:", "image_tower.patch_embedding.bias" in renamed)

# %% [markdown]
# The shape follows from the names alone: there is a `probe`, so it pools by attention; there is a `logit_bias`, so it was trained with the sigmoid loss.
#
# ## 6. A folder of minclip, and zero-shot
#
# `save_pretrained` writes the loaded model as one of ours. From then on nothing is special about it: `CLIP.from_pretrained` reads it, the tokenizer
# lies beside it, `--init_from` starts a training with it, and the functions of the other notebooks take it. With arguments for the hub, a card
# for people (README.md) is written, too.

# %%
from minclip.clip import CLIP
from minclip.zero_shot import embed_images, zero_shot_weights

model.save_pretrained(folder / "ours", model_card_kwargs={"title": "A random CLIP"})
print(sorted(file.name for file in (folder / "ours").iterdir()))
again, words = load(folder / "ours")
weights = zero_shot_weights(again, words, pairs.class_names, ["a drawing of {}"])  # [C, 32]
ours = (embed_images(again, pairs.images, 32) @ weights.T).argmax(1)

# %%
their_ids = rows[tokenizer([f"a drawing of {name}" for name in pairs.class_names], 24)]
their_weights = reference.get_text_features(input_ids=their_ids)
their_weights = getattr(their_weights, "pooler_output", their_weights)
pixels = (plain(pairs.images, 32) / 2 + 0.5 - mean) / std
their_features = reference.get_image_features(pixel_values=pixels)
their_features = getattr(their_features, "pooler_output", their_features)
theirs = (their_features @ F.normalize(their_weights, dim=1).T).argmax(1)
agree, right = (ours == theirs).float().mean(), (ours == pairs.labels).float().mean()
print(f"the same answer for {agree:.1%} of {len(ours)} pictures; right {right:.1%}, chance {1 / len(weights):.2%}")

# %% [markdown]
# Random weights know nothing, so both are at chance: this is the negative control of the notebook. But they are wrong *together*, in picture after picture, and that is all
# a loader can promise.
#
# ## 7. What changes with a network
#
# Only the name. `python -m minclip.pretrained` lists the models that are known, with the hub's repository, the size of the pictures and of the model. Then
#
# ```sh
# python -m minclip.pretrained siglip-b-16 --output_dir runs/siglip    # download and convert
# python -m minclip.search --model runs/siglip --images MY_PICTURES "a red boat"
# ```
#
# or, in Python, `model, tokenizer = load("siglip-b-16")`. Any other repository of the hub in one of the layouts will do, as
# `load("owner/name")`, and so will a folder that was copied from a machine that has a network. Only safetensors are downloaded.
# If there is nothing but a pickle, `load` refuses, and says how to allow it: `unpickle=True` reads tensors and no code. OpenAI's own `.pt` files hold
# programs. They are refused in any case, and the message says how to save their tensors.
#
# The real models have not been loaded here, since this machine has no network. What was compared are small models of the same code, in every layout.
#
# ## 8. The check
#
# Equal vectors have been asserted above. Here: mistakes are seen, the loaded folder is the loaded model, and the settings are those of the papers.

# %%
print({key: value for key, value in json.loads((folder / "ours/config.json").read_text())["model"].items() if "image_" in key})
assert moved["none"] < 1e-6 and min(moved.values()) == moved["none"]
assert agree > 0.99 and right < 0.05
for a, b in zip(again(pictures, ids), (image_features, text_features, logit_scale)):
    assert torch.equal(a, b)
assert shape["image_pool"] == "map" and shape["loss"] == "sigmoid" and shape["image_norms"] == "after"
assert CLIP.from_pretrained(folder / "ours").config == model.config

# %% [markdown]
# ## 9. Try it yourself
#
# - In section 2, stack the three parts in the order `"kqv"`. By how much is the block off? And why does the order `"qkv"` with 2 heads for 4 still load without an error?
# - In section 4, add a mistake of the text tower: swap two rows of `token_embedding`, or pool the `last` position. Compare `encode_text`.
# - In section 4, draw the pictures' cosines one by one instead of their mean (`ax.hist`). Is a wrong setting equally wrong for all pictures?
# - With a network: `load("clip-b-32")` and the templates of [15 · Zero-shot and prompts](15_zero_shot_and_prompts.ipynb) on the emoji. Our models were trained
#   on emoji and see 32 pixels. What does a model say that has seen 400 million photographs?
#
# **Next.** A model that is good at photographs wants photographs. [21 · Your own pictures](21_your_own_pictures.ipynb) starts with a folder and ends with a search. Before:
# [19 · Which objective, which data](19_which_objective_which_data.ipynb).
