# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 03 · The softmax loss
#
# **Paper.** CLIP ([Radford et al., 2021](https://arxiv.org/abs/2103.00020)): section 2.3 and Figure 3 (the loss), section 2.5 (the
# training), section 3.1 and Figure 1, panels 2 and 3 (classification without labelled examples).
#
# **The question.** Which single number tells two towers how wrong they are, and what can they do after half a
# minute of making it smaller?
#
# **What you need first.** [01 · Pairs and tokens](01_pairs_and_tokens.ipynb) for batches without duplicates,
# [02 · Two towers](02_two_towers.ipynb) for the table of cosines. From school: logarithms.
#
# **Time.** About one minute on two CPU cores, of which some 35 seconds are training.
#
# The last notebook ended with a table: one row for each picture of a batch, one column for each caption, and
# in each cell the cosine of the two. Pair `i` stands in row `i` and column `i`, so the right answers are
# on the diagonal. We want the diagonal to be large and everything else to be small. CLIP makes a quiz of it. Each
# picture is a question, all captions of the batch are the choices, and exactly one choice is right. That is ordinary
# classification, with one twist: the classes are new in every batch.

# %%
import math

import matplotlib.pyplot as plt
import torch

plt.rcParams.update({"figure.figsize": (3.5, 2.5), "figure.dpi": 150, "font.size": 8})

# %% [markdown]
# ## 1. Figure 3, in eight lines
#
# The paper prints its method as a sketch in the style of NumPy. Here it is in PyTorch, line by line. `I_f` and `T_f` are
# what the towers return, `W_i` and `W_t` the two projections, and `t` the logarithm of a factor that the
# cosines are multiplied with; section 3 explains why it is needed.

# %%
def figure_3(I_f, T_f, W_i, W_t, t):
    I_e = I_f @ W_i  # joint embedding [n, d_e]
    T_e = T_f @ W_t
    I_e, T_e = I_e / I_e.norm(dim=1, keepdim=True), T_e / T_e.norm(dim=1, keepdim=True)
    logits = I_e @ T_e.T * t.exp()  # scaled cosines [n, n]
    labels = torch.arange(len(logits))
    loss_i = -logits.log_softmax(0)[labels, labels].mean()  # each caption chooses a picture
    loss_t = -logits.log_softmax(1)[labels, labels].mean()  # each picture chooses a caption
    return (loss_i + loss_t) / 2


# %% [markdown]
# The package's `softmax_loss` gets vectors that are already projected and normalised, since `CLIP.encode_image` and
# `CLIP.encode_text` do that. On random numbers, in double precision, both must give the same value. And they must give the
# same **gradient**: that is what trains the towers, and a loss with the right value and a wrong gradient is a bug that
# is hard to find.

# %%
from minclip.softmax_loss import softmax_loss

I_f, T_f, W_i, W_t = (torch.randn(*shape, dtype=torch.float64) for shape in ((8, 20), (8, 30), (20, 16), (30, 16)))
t = torch.tensor(math.log(1 / 0.07), dtype=torch.float64)
I_e, T_e = torch.nn.functional.normalize(I_f @ W_i), torch.nn.functional.normalize(T_f @ W_t)
torch.testing.assert_close(softmax_loss(I_e, T_e, t), figure_3(I_f, T_f, W_i, W_t, t))

inputs = [x.requires_grad_() for x in (I_f, T_f, W_i, W_t, t)]
package = softmax_loss(torch.nn.functional.normalize(I_f @ W_i), torch.nn.functional.normalize(T_f @ W_t), t)
torch.testing.assert_close(torch.autograd.grad(package, inputs), torch.autograd.grad(figure_3(*inputs), inputs))

# %% [markdown]
# ## 2. Why this is classification
#
# Take one picture. Its row of the table holds a score for each caption. The **softmax** turns scores into
# probabilities: raise e to each score, divide by the sum. They are positive and add up to one, and larger scores get more. The
# **cross-entropy** is minus the logarithm of the probability of the right caption. Sure and right costs nothing; sure
# and wrong costs a lot; there is no reward for being right twice.
#
# Three rows by hand. In the first, the right caption (number 0) has the best score. In the second, nothing is
# known. In the third, a wrong caption wins.

# %%
# NBVAL_CHECK_OUTPUT
for scores in ([3.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], [1.0, 3.0, 0.0, 0.0]):
    probabilities = [math.exp(score) / sum(map(math.exp, scores)) for score in scores]
    shown = " ".join(f"{p:.2f}" for p in probabilities)
    print(f"probabilities {shown}   cross-entropy {-math.log(probabilities[0]):.2f} nats")

# %% [markdown]
# The loss is the mean over all rows. But a table can be read in two directions: picture asks for caption (rows), and
# caption asks for picture (columns). CLIP takes the mean of both, and so the loss is **symmetric**. It is needed: if only
# rows counted, a caption that fits nothing could be everybody's second choice at no cost.
#
# Four values of the loss can be known without a computer, and are worth knowing by heart:
#
# - **All scores equal:** every caption has probability 1/B, so the loss is **ln B**. This is the loss of a
#   model that knows nothing. For a batch of 256 it is 5.55.
# - **Perfect, with a large scale:** 0.
# - **Perfect, but each pair occurs twice in the batch:** two captions are equally right, each gets one half, and the loss
#   cannot fall below **ln 2**. This is the price of the duplicates of notebook 01.
# - **Perfect, but in the wrong order:** far above ln B. A model can be worse than ignorant.

# %%
B, scale = 8, torch.tensor(math.log(100.0), dtype=torch.float64)
perfect = torch.eye(B, dtype=torch.float64)  # eight vectors at right angles: pair i has cosine 1, all else 0
same = torch.ones(B, 4, dtype=torch.float64) / 2  # every vector the same
twice = perfect[[0, 0, 1, 1, 2, 2, 3, 3]]
assert math.isclose(softmax_loss(same, same, scale), math.log(B))
assert math.isclose(softmax_loss(perfect, perfect, scale), 0, abs_tol=1e-9)
assert math.isclose(softmax_loss(twice, twice, scale), math.log(2))
assert softmax_loss(perfect, perfect.roll(1, 0), scale) > 40 * math.log(B)

# %% [markdown]
# **Read a flat loss.** The first of the four is the most useful one. If a training curve goes down to ln B and stays there, the
# towers have learned one thing only: to give every picture the same vector. Nothing about the pairs. A bug in the
# pairing looks exactly like that (we provoke it below). `train.py` prints this number before the first step.
#
# ## 3. Temperature
#
# Cosines lie between -1 and 1. That is too little for a softmax over many choices. Suppose the right pair has cosine 1 and
# the 255 others have 0, which is excellent: the probability of the right caption would be e / (e + 255), about one percent!
# So the scores are multiplied by a **scale**, the inverse of what physicists call temperature. With a scale of 100 the
# same cosines give certainty.
#
# How large should it be? Too small, and no model can be right with confidence. Too large, and the softmax looks only at
# the single worst mistake in each row; one wrong pair then costs very much. CLIP lets the model learn it, as one
# more parameter. It starts at 1/0.07 ≈ 14.3 and may not exceed 100, because training became unstable beyond. What is stored
# is the logarithm, so that steps up and down are alike and the scale can never become negative.
#
# The figure shows the loss against the scale for three imaginary models. All have a spread of 0.1 in the cosines of the
# wrong pairs. The right pairs have a mean cosine of 0.2, 0.3 or 0.5.

# %%
generator = torch.Generator().manual_seed(0)
wrong = 0.1 * torch.randn(256, 256, generator=generator)
scales = torch.logspace(0, 3, 50)
for right in (0.2, 0.3, 0.5):
    cosines = wrong + right * torch.eye(256)
    losses = [-(s * cosines).log_softmax(1).diagonal().mean() for s in scales]
    plt.plot(scales, losses, lw=1, label=f"right pairs: {right}")
plt.axhline(math.log(256), color="gray", ls="--", lw=1, label="ln 256")
plt.axvline(1 / 0.07, color="k", ls=":", lw=1, label="CLIP's start")
plt.axvline(100, color="r", ls=":", lw=1, label="CLIP's limit")

# %%
