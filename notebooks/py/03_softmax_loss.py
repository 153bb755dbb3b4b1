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
# **Time.** About one minute on two CPU cores, of which some 25 seconds are training.
#
# The last notebook ended with a table: one row for each picture of a batch, one column for each caption, and
# in each cell the cosine of the two. Pair `i` stands in row `i` and column `i`, so the right answers are
# on the diagonal. We want the diagonal to be large and everything else to be small. CLIP makes a quiz of it. Each
# picture is a question, all captions of the batch are the choices, and exactly one choice is right. That is ordinary
# classification, with one twist: the classes are new in every batch. A loss that raises the scores of right pairs and lowers
# those of wrong ones is called a **contrastive loss**.

# %%
import json
import math
import time
from pathlib import Path

import matplotlib.pyplot as plt
import torch

import minclip

plt.rcParams.update({"figure.figsize": (3.5, 2.5), "figure.dpi": 150, "font.size": 8})
BLUE, ORANGE, PINK, RED = "#0072B2", "#E69F00", "#CC79A7", "#D55E00"  # can be told apart by everybody

# %% [markdown]
# ## 1. Figure 3, in eight lines
#
# The paper prints its method as a sketch in the style of NumPy. Here it is in PyTorch, line by line. `I_f` and `T_f` are
# what the towers return, `W_i` and `W_t` the two projections, and `t` the logarithm of a factor that the
# cosines are multiplied with; section 3 explains why it is needed. First the same as one formula. Let $x_i$ and $y_j$ be the
# normalised vectors of picture $i$ and caption $j$, and $s_{ij} = e^t x_i \cdot y_j$ the score in row $i$ and column $j$:
#
# $$ L = -\frac{1}{2B} \sum_{i=1}^{B} \left( \ln \frac{e^{s_{ii}}}{\sum_{j=1}^{B} e^{s_{ij}}} + \ln \frac{e^{s_{ii}}}{\sum_{j=1}^{B} e^{s_{ji}}} \right) \tag{CLIP, Fig. 3} $$
#
# In the first fraction, picture $i$ chooses among the captions of its row. In the second one, caption $i$ chooses among the
# pictures of its column. What the fractions and the logarithms do is the topic of section 2.

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
# caption asks for picture (columns). CLIP takes the mean of both, the two terms of (CLIP, Fig. 3), and so the loss is
# **symmetric**. It is needed: if only
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
scales, curves = torch.logspace(0, 3, 50), {}
for right in (0.2, 0.3, 0.5):
    cosines = wrong + right * torch.eye(256)
    curves[right] = [-(s * cosines).log_softmax(1).diagonal().mean() for s in scales]

# %% alt="A line plot, both axes logarithmic, of the loss against the scale for right pairs of cosine 0.2, 0.3 and 0.5. Each curve starts near ln 256, falls to one lowest point and rises; the better the model, the lower and further right it lies."
for (right, losses), color, line in zip(curves.items(), (BLUE, ORANGE, PINK), ("-", "--", "-.")):
    plt.plot(scales, losses, line, color=color, lw=1, label=f"right pairs: {right}")
plt.axhline(math.log(256), color="gray", lw=0.6, label="ln 256")
plt.axvline(1 / 0.07, color="k", ls=":", lw=1, label="CLIP's start")
plt.axvline(100, color="k", ls="--", lw=0.8, label="CLIP's limit")
plt.gca().set(xscale="log", yscale="log", xlabel="scale exp(t) (no unit)", ylabel="loss (nats)", ylim=(0.01, 300))
plt.legend(frameon=False, fontsize=6)
plt.show()

# %% [markdown]
# Each curve starts at ln 256, because with a scale near zero all captions are equal. It has one lowest point, and the better the
# model, the further right it lies. That is why the scale should be learned: it grows as the model becomes more certain. To
# the right of the lowest point, a weak model pays dearly, since its mistakes are made with great confidence.
#
# ## 4. Train
#
# Now a real run: a small ResNet on pictures of 16 × 16 pixels, half of the demo's side, so that it fits into half a minute. The
# pieces are those of the first two notebooks: fair batches from `BatchOrder`, random variations of the pictures from `augment`,
# two towers, and the loss. Captions are bare names. We keep two splits aside: `fxemoji`, an artist that
# the model never sees in training, and the 1,914 names without skin tones that compete in the test.

# %%
from minclip.clip import CLIPConfig, build_clip
from minclip.data import Augmentation, BatchOrder, augment, load_pairs, plain, step_generator
from minclip.report import names_without_skin_tones
from minclip.tokenizer import Tokenizer

# %%
train, unseen = load_pairs("emoji", "train", image_size=32), load_pairs("emoji", "fxemoji", image_size=32)
names = names_without_skin_tones(unseen)
texts = [captions[0] for captions in train.captions]
tokenizer = Tokenizer.train(sorted(set(texts)), 2048)
ids = tokenizer(texts, context_length=16)
print(f"{len(train):,} training pairs; {len(unseen)} pictures by an unseen artist, {len(names):,} names")

# %% [markdown]
# **Zero-shot classification** needs no new layer. Encode every name with the text tower: 1,914 vectors. Encode a picture: one
# vector. The name with the largest cosine is the answer. So the text tower writes the weights of a classifier, from the names
# alone. By hand that is three lines; the package's `evaluate_zero_shot` must give the same number.

# %%
@torch.no_grad()
def zero_shot_by_hand(model):
    model.eval()  # batch norm with its fixed averages
    pictures = model.encode_image(plain(unseen.images, 16))  # [467, D]
    weights = model.encode_text(tokenizer(names, context_length=16))  # [1914, D]
    model.train()
    answers = (pictures @ weights.T).argmax(1).tolist()
    right = [names[a] == unseen.class_names[label] for a, label in zip(answers, unseen.labels.tolist())]
    return sum(right) / len(right)


# %% [markdown]
# The training loop. Every line has been a section of these notebooks: take a fair batch, vary the pictures, encode both sides, compute
# one number, and let the optimiser move all weights a little so that it becomes smaller. `make_optimizer` is AdamW as CLIP
# uses it (no decay on biases and on the temperature). With `muon_lr`, the layers' weights are moved by **Muon** instead
# (`minclip/muon.py`): AdamW looks at each number of a gradient alone, Muon at the whole matrix, and moves every direction of a layer alike
# far. CLIP's papers have nothing of it; it is here because small towers then learn in about half the steps. Set `muon_lr=0`
# to see the papers' way. The learning rate warms up and then falls along a cosine.
# bfloat16 is a shorter kind of number; many processors compute with it in half the time.

# %%
from minclip.optimizer import make_optimizer, set_learning_rate

little = Augmentation(zoom=0.1, shift=0.05, rotate=5.0, color=0.1, gray=0, hue=0)
order = BatchOrder(train.groups, batch_size=128, seed=0)


# %%
def one_loss(model, step, ids):
    rows = order.indices(step)
    draw = torch.rand(128, 16, generator=step_generator(0, 3, step), dtype=torch.float64)
    images = augment(train.images[rows], 16, draw, little).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        features = model(images, ids[rows])
    return softmax_loss(*features)


# %%
def one_step(model, optimizer, step, ids):
    loss = one_loss(model, step, ids)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    model.clamp_logit_scale()  # not above 100
    return loss.item()


# %%
def fit(model, ids, steps, look=lambda step: None):
    optimizer, losses = make_optimizer(model, lr=1e-3, weight_decay=0.2, muon_lr=0.02), []
    for step in range(steps):
        set_learning_rate(optimizer, 1e-3, step, warmup_steps=20, max_steps=steps)
        losses.append(one_step(model, optimizer, step, ids))
        look(step + 1)
    return losses


# %% [markdown]
# One thing before it runs: the **negative control**. We deal the captions out at random, once, so that a picture of a penguin may be
# called "tractor" for the whole run. If this run did as well as the other, our test would be leaking. In the time it
# has, it can only learn what the first of our four values says: nothing, at a loss of ln B.

# %%
def build():
    torch.manual_seed(0)
    shape = CLIPConfig(image_size=16, context_length=16, vocab_size=tokenizer.vocab_size)
    return build_clip(shape).to(memory_format=torch.channels_last)


model, seen, began = build(), [], time.perf_counter()
losses = fit(model, ids, 300, lambda step: step % 60 or seen.append((time.perf_counter() - began, zero_shot_by_hand(model))))

control, generator = build(), torch.Generator().manual_seed(1)
control_losses = fit(control, ids[torch.randperm(len(ids), generator=generator)], 80)

# %% [markdown]
# ## 5. Is it any good?
#
# A number needs something to be compared with. **Chance** is 1 in 1,914. A stronger baseline is the **nearest neighbour on pixels**: no
# learning at all. For each picture by the unseen artist take the training picture whose pixels differ least from it, and copy
# that one's name. Artists often choose the same colours and place the same thing in the middle, so this is not a straw man.

# %%
from minclip.zero_shot import evaluate_zero_shot

def untoned(pairs):
    return pairs.select(torch.tensor([not tones for tones in pairs.metadata["skin_tones"]]))


def nearest_pixels(pairs, shelf, size=16):
    flat = [plain(p.images, size).flatten(1) for p in (pairs, shelf)]  # [N, 768], [M, 768]
    nearest = torch.cdist(*flat).argmin(1)
    return (shelf.labels[nearest] == pairs.labels).double().mean().item()


# %%
far, shelf = untoned(load_pairs("emoji", "openmoji", image_size=32)), untoned(train)
pixels = {"fxemoji": nearest_pixels(unseen, shelf), "openmoji": nearest_pixels(far, shelf)}
trained, shuffled = (evaluate_zero_shot(m, tokenizer, unseen, names, 16) for m in (model, control))
trained_far = evaluate_zero_shot(model, tokenizer, far, names, 16)
assert abs(trained["top1"] - zero_shot_by_hand(model)) < 0.005  # the package's version is ours
print(f"fxemoji:  shuffled {shuffled['top1']:.1%}   trained {trained['top1']:.1%}   pixels {pixels['fxemoji']:.1%}")
print(f"openmoji: trained {trained_far['top1']:.1%}   pixels {pixels['openmoji']:.1%}   chance {1 / len(names):.2%}")

# %% [markdown]
# Read the lines as they stand. The pairing was learned: the run is far above chance and above the control. But **on `fxemoji` the
# pixels win**, and clearly. This artist drew so much like the others that many pictures have a near-copy in training, and copying
# its name is hard to beat in half a minute. On `openmoji`, drawn with black lines, near-copies are
# rare, and the pixels fall to a fifth; the model falls less. There lies the use of a learned space: it costs a drawing less to
# change its style. Half a minute is not enough to overtake them there either; three minutes are, as the figure below shows.
#
# So a zero-shot accuracy alone says little. Ask what the simplest method gets on the same pictures, and ask on data that
# differ from the training data. Two limits, once more. The artist is unseen, but every name was read in training. And flags look
# alike at every artist: `fxemoji` has only one, `openmoji` has 270.
#
# ## 6. The figure
#
# First the loss, with the control and the line of ignorance. Then, for each unseen artist, the accuracy against the seconds of
# training: the demo's committed runs (`results/demo.json`: five seeds, 32 × 32 pixels, two and a half to three minutes on
# two cores), the live run as dots, and the pixels as a dotted line. CLIP's papers plot accuracy against compute in the same way.

# %% alt="A line plot of the loss in nats against the step. With true pairs it falls from 5 to under 1 in 300 steps; with shuffled captions it stays at the dashed line, ln 128, for its 80 steps."
path = Path(minclip.__file__).parent.parent / "results" / "demo.json"
committed = json.loads(path.read_text())["runs"] if path.exists() else []
plt.plot(losses, color=BLUE, lw=1, label="pairs")
plt.plot(control_losses, ":", color=RED, lw=1.5, label="captions shuffled")
plt.axhline(math.log(128), color="gray", ls="--", lw=1, label="ln 128")
plt.gca().set(xlabel="step", ylabel="loss (nats)", ylim=(0, None))
plt.legend(frameon=False, loc="center right")
plt.show()


# %%
def plot_artist(ax, artist, live):
    for run in committed:
        line = [(point["seconds"], 100 * point[artist]) for point in run["evaluations"]]
        line += [(run["metrics"]["train_seconds"], 100 * run["metrics"]["zero_shot"][artist]["top1"])]
        ax.plot(*zip(*line), color=PINK, lw=1, label="demo, 5 seeds" if run["seed"] == 0 else None)
    ax.plot(*zip(*[(seconds, 100 * accuracy) for seconds, accuracy in live]), "o", color=BLUE, ms=4, label="live run, 16 px")
    ax.axhline(100 * pixels[artist], color=RED, ls=":", label="nearest pixels, 16 px")
    ax.axhline(100 / len(names), color="gray", ls="--", lw=1, label="chance")
    ax.set(title=artist, xlabel="training (s)", ylabel="zero-shot top-1 (%)", ylim=(-1, None))


# %% alt="Two line plots of zero-shot accuracy against seconds of training, for fxemoji and openmoji. The five demo runs rise above the dotted line of the nearest pixels in the end; the dots of the live run stay below it."
figure, (left, right) = plt.subplots(1, 2, figsize=(7, 2.7), layout="constrained")
plot_artist(left, "fxemoji", seen)
plot_artist(right, "openmoji", [(seen[-1][0], trained_far["top1"])])
left.legend(frameon=False, fontsize=7)
plt.show()

# %% [markdown]
# The demo's lines bend upward near the end. There the learning rate comes down, and the training pictures grow from 24 × 24 to the
# full 32 × 32 pixels; before that, the model was tested at a size that it had never trained on. Most steps on small pictures, a
# few on large ones: that is CLIPA's idea, and a later notebook takes it apart.
#
# ## 7. The check
#
# What must hold on any machine: the run has left ignorance and is at least ten times better than chance on pictures by an artist it never
# saw; the control has not left it. In the committed demo runs, all five, the model beats the pixels on both artists: by half on the
# far one, and on the near one by less. The live run, with a sixth of the time, does so on the far artist at best.

# %%
def mean(values):
    return sum(values) / len(values)


assert mean(losses[-20:]) < 0.6 * math.log(128)
assert trained["top1"] > 10 / len(names) and trained["top5"] > 3 * shuffled["top5"]
assert abs(mean(control_losses[-20:]) - math.log(128)) < 0.3 and shuffled["top1"] < 0.01
assert model.logit_scale.exp() <= 100.001

# %%
final = [run["metrics"]["zero_shot"] for run in committed]
assert all(point["openmoji"]["top1"] > 1.3 * pixels["openmoji"] for point in final)
assert all(point["fxemoji"]["top1"] > pixels["fxemoji"] for point in final)

# %% [markdown]
# ## 8. Try it yourself
#
# - Replace `order` by batches drawn blindly, `torch.randint(len(train), (128,))` in `one_loss`. Some captions are then in the batch
#   twice. The loss ends higher; what happens to the accuracy?
# - Set `model.logit_scale` to 0 after `build()` and leave it out of the optimiser (`model.logit_scale.requires_grad_(False)`). The scale
#   stays at 1. The loss hardly falls below ln B, as section 3 says. Are the features useless, too?
# - Ask with other words: `evaluate_zero_shot(..., templates=("{}", "a drawing of {}"))` averages two vectors for each
#   name. This model has read bare names only, so it should lose a little. The demo's model has read sentences as well.
#
# **Next.** The softmax compares every caption of the batch with every other one, so the whole table must be seen at once.
# Could each cell be judged alone? Notebook [04 · The sigmoid loss](04_sigmoid_loss.ipynb) does that, and finds that it
# needs one more number. Before: [02 · Two towers](02_two_towers.ipynb).
