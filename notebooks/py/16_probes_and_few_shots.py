# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 16 · Probes and few shots
#
# **Paper.** CLIP ([Radford et al., 2021](https://arxiv.org/abs/2103.00020)): sections 3.1.5 and 3.2, Figures 5 to 8. Beside it Tip-Adapter
# ([Zhang et al., 2021](https://arxiv.org/abs/2111.03930)) and WiSE-FT ([Wortsman et al., 2021](https://arxiv.org/abs/2109.01903)).
#
# **The question.** If a name costs nothing and a labelled picture costs work, how many labelled pictures is a name worth, and can one use both?
#
# **What you need first.** [15 · Zero-shot and prompts](15_zero_shot_and_prompts.ipynb): how names become the weights of a classifier.
#
# **Time.** Under one minute on two CPU cores, most of which is training.
#
# A trained CLIP can be used in two ways. **Zero-shot** asks the text tower: it turns the names of the classes into vectors, and these are
# the classifier. A **probe** ignores the text tower: it takes the picture's features as they are, and learns a linear classifier from labelled
# pictures. The tower itself does not move in either. So the difference between the two says little about how good the
# features are, which are the same. It says how well the *names* point at what the features hold.
#
# CLIP's paper compares them four times. Figure 5: against a probe on features of somebody else (a ResNet-50 of ImageNet), zero-shot wins on
# 16 of 27 data sets. Figure 8: against a probe on its own features it nearly always loses, by 10 to 25 points, but the two
# go together (r = 0.82). Figures 6 and 7: a probe that sees only a few pictures of each class needs 4 of them to reach zero-shot, in the mean of 20 data sets.
# And a remark in passing: from zero-shot to one shot, accuracy *falls*. A human who has been told the name and is then shown an example gets better. How
# to combine the two was left as future work. Tip-Adapter and WiSE-FT are such work.

# %%
from textwrap import fill

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F

from experiments.claims import answer, load_claims, read_result
from minclip.report import OPENMOJI_NOTICE

plt.rcParams.update({"figure.figsize": (3.5, 2.5), "figure.dpi": 150, "font.size": 8})
BLUE, ORANGE, GREEN, PURPLE, RED, SKY = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9"
claims = load_claims()  # also puts the repository's experiments/ on Python's path

# %% [markdown]
# ## 1. A CLIP, and drawings it has not seen
#
# In the paper, CLIP learns from the web and is then tried on data sets that are none of its training. Here it learns from four artists. The
# *benchmark* is a fifth one, twemoji, no drawing of which it has seen. Its labelled pictures are what the probes below learn from, so we call
# this artist **home**. Two more artists are for later, and nobody learns from them at all: fxemoji, whose style is **near**, and
# openmoji, whose line drawings are **far**.
#
# One limit should be said at once. The *concepts* are not new: the four artists drew a tiger, too, under the same name. What is new is the hand that
# draws it.

# %% alt="Three rows of seven small drawings, 16 pixels wide: tiger, horse, top hat, lipstick, hammer, tractor and cooking, drawn by the home, the near and the far artist. The far ones are thin and dark."
from experiments.transfer import BENCHMARK, FAR, NEAR, drawings

ARTISTS = {BENCHMARK: "home\ntwemoji", NEAR: "near\nfxemoji", FAR: "far\nopenmoji"}
figure, axes = plt.subplots(3, 7, figsize=(4.6, 2.3), layout="constrained", subplot_kw={"xticks": [], "yticks": []})
for row, (artist, label) in zip(axes, ARTISTS.items()):
    rows = {pairs.class_names[i]: n for pairs in [drawings(artist)] for n, i in enumerate(pairs.labels.tolist())}
    for ax, name in zip(row, ("tiger", "horse", "top hat", "lipstick", "hammer", "tractor", "cooking")):
        ax.imshow(drawings(artist).images[rows[name]].permute(1, 2, 0)), ax.set_title(name if artist == BENCHMARK else "", fontsize=7)
    row[0].set_ylabel(label, fontsize=7)
figure.supxlabel(f"{OPENMOJI_NOTICE}, Twemoji (CC BY 4.0)", fontsize=6, color="gray")
plt.show()

# %% [markdown]
# The classes are 23 of Unicode's kinds of things, such as *animal-mammal* or *tool*. Nobody writes such a label under a picture. So a class
# is said in words by the names of its training concepts: the mean of the text vectors of "cow", "horse", and so on. Each concept is for training,
# for validation or for the test, never for two of them, whoever draws it.
#
# Below, a small CLIP is trained live. It is the claims' CLIP with a narrower tower and 150 steps instead of 800. The number 100 is a seed
# that no verdict uses. After training it is kept in `runs/cache/`, so that it is there at once if you run the notebook again.

# %%
# NBVAL_CHECK_OUTPUT
from experiments.shots import BENCHMARK as HOME, SHOTS, adapters, measure_shots, shots_to_match
from experiments.transfer import exam, pretrained_clip, shared_features, subgroups
from experiments.sweep import complete

SMALL = complete(measure_shots, {"image_width": 8, "steps": 150, "draws": 2})
model, split = pretrained_clip(SMALL, 100), subgroups(100)
print(len(split.classes), "kinds, with so many concepts:", {part: len(rows) for part, rows in split.concepts.items()})
for kind, names in list(zip(split.classes, split.names))[1:13:4]:
    print(f"{kind:15s} is said by:", ", ".join(names[:4]), "...")

# %%
from experiments.emoji import tokenised
from minclip.zero_shot import classify, top_k_accuracy, zero_shot_weights

sets = {part: (HOME, split.concepts[part], split.labels[part]) for part in ("train", "validation")}
sets |= {artist: (artist, split.concepts["test"], split.labels["test"]) for artist in ARTISTS}
seen = {key: (shared_features(model, x), y) for key, (x, y) in ((key, exam(*about)) for key, about in sets.items())}
named = zero_shot_weights(model, tokenised()[0], split.names)  # [23, D], one unit vector a class
scale = model.logit_scale.exp().item()
for artist in ARTISTS:
    print(f"{artist:9s} {len(seen[artist][1]):3d} test pictures, zero-shot {top_k_accuracy(classify(seen[artist][0], named), seen[artist][1], 1):.1%}")

# %% [markdown]
# A model that always says the most frequent class would be right for 9 % of the home pictures. At home one picture is half a point; near, where there are
# only some fifty, it is two. Keep this in mind for what follows.
#
# ## 2. A linear probe by hand
#
# A probe is logistic regression. For features $x$ `[N, D]` and labels $y$ it has weights $W$ `[K, D]` and biases $b$ `[K]`, and minimises
#
# $$ C \sum_n \text{cross-entropy}(W x_n + b,\; y_n) + \tfrac{1}{2} \lVert W \rVert^2 . \tag{CLIP, App. A.3} $$
#
# (The tag names the paper's place; an equation of our own has a number.) In (CLIP, App. A.3) the biases are free. The one number to choose is $C$. It is scikit-learn's name for the *inverse* of the penalty: a small $C$ keeps the weights near zero, and a large one
# lets them fit every training picture. The problem is convex: there is one best $W$, and any way downhill leads there. The gradient is short, too. For
# each picture, take what should have been said minus what is said, and pull the weights of each class that far along the picture's features. The penalty pulls
# back. So plain gradient descent is enough, with steps that are short enough for the steepest place there can be.

# %%
def probe_by_hand(x, y, C):
    x, Y = x.double(), F.one_hot(y).double()  # [N, D], [N, K]
    W, b = Y.new_zeros(Y.shape[1], x.shape[1]), Y.new_zeros(Y.shape[1])
    rate = 1 / (1 + C * (x.square().sum() + len(x)))
    for _ in range(5000):
        missing = Y - (x @ W.T + b).softmax(1)  # [N, K], what should be said minus what is
        W, b = W + rate * (C * missing.T @ x - W), b + rate * C * missing.sum(0)
    return W, b


# %% [markdown]
# The package has no optimiser of its own for this. `experiments.probe.fit_probe` calls scikit-learn, as CLIP's authors did. Three toy clouds with five
# features, of which the last two say nothing, show that all three agree: ours to about three digits (scikit-learn stops when it is near enough), the package to
# the last bit.

# %%
from sklearn.linear_model import LogisticRegression

from experiments.probe import GRID, fit_probe, linear_probe, probe_accuracy, sweep_probe

y = torch.arange(90) % 3
x = F.one_hot(y, 5) + 0.8 * torch.randn(90, 5, generator=torch.Generator().manual_seed(0))
for C in (0.001, 0.01, 0.1, 1.0):
    W, package = probe_by_hand(x, y, C)[0], fit_probe(x, y, C)
    assert (package.coef_ == LogisticRegression(C=C, max_iter=1000).fit(x.double().numpy(), y.numpy()).coef_).all()
    torch.testing.assert_close(torch.from_numpy(package.coef_), W, atol=1e-3, rtol=1e-3)
    print(f"C = {C:5.3f}: length of W {W.norm():5.2f}, right on its own pictures {probe_accuracy(package, x, y):.0%}")

# %% [markdown]
# ## 3. The sweep of C
#
# How strong should the penalty be? CLIP's appendix A.3 chooses it on validation pictures, from 97 values between $10^{-6}$ and $10^6$, eight in each decade. It does
# not try all of them. It begins with seven, two decades apart. Then it looks to the left and to the right of the best one, at half of that distance, and again,
# until it has looked at the neighbours on the grid. That is 15 fits instead of 97.

# %%
from experiments.tasks import all_drawings, parts_of
from experiments.transfer import tower_features


def sweep_by_hand(accuracy):  # of a place on the grid -> {place: accuracy} of all that were tried
    tried = {i: accuracy(i) for i in range(0, len(GRID), 16)}
    for step in (8, 4, 2, 1):
        best = max(tried, key=lambda i: (tried[i], -i))  # of equals the strongest penalty
        tried |= {i: accuracy(i) for i in (best - step, best + step) if 0 <= i < len(GRID)}
    return tried


pairs, parts = all_drawings()[0], parts_of("group", 100)[1]

# %% [markdown]
# We let it loose on the live CLIP. The task is one of those of section 10: which of eight *groups* does a drawing at home belong to (animals, food, objects, and so on)? The
# features are those of the image tower, *before* the projection into the space that it shares with the texts. CLIP's probes see these as well.

# %% alt="A line chart: accuracy among eight groups in percent against C on a logarithmic axis, for training, validation and test. Training rises to 100 percent; validation and test rise to nearly 40 percent near C = 2, where the grey line of the choice stands, and fall again."
train, validation, test = ((tower_features(model, pairs.images[i]), y) for i, y in (parts[p] for p in ("train", "validation", "test")))
probes = {}
tried = sweep_by_hand(lambda i: probe_accuracy(probes.setdefault(i, fit_probe(*train, GRID[i])), *validation))
chosen, best = sweep_probe(*train, *validation)
assert len(tried) <= 15 and chosen == GRID[max(tried, key=lambda i: (tried[i], -i))] and best == max(tried.values())
for part, label, style, color in ((train, "training", "s:", "gray"), (validation, "validation", "o-", BLUE), (test, "test", "^--", ORANGE)):
    right = [100 * probe_accuracy(probes[i], *part) for i in sorted(probes)]
    plt.semilogx([GRID[i] for i in sorted(probes)], right, style, color=color, ms=3, lw=1, label=label)
plt.axvline(chosen, color="gray", lw=1), plt.legend(), plt.gca().set(xlabel="C (no unit)", ylabel="accuracy of eight (%)")
plt.show()

# %% [markdown]
# From left to right the penalty becomes weaker. On the far left the weights are so small that only their directions count: each points to
# the pictures of its own class, and that is all. On the right it knows its 239 training
# pictures by heart, and new ones worse than before. The best is a hill between the two. The gray line is what the sweep chose; of equals it
# takes the smallest $C$. The points lie closer together near it, which is where the search went on. The curve for the test was not used
# for the choice. With 80 validation pictures the choice is rough, as one picture is more than a point. For the final number, `linear_probe` fits once more, on training and validation
# together.
#
# ## 4. k shots
#
# A *k-shot* experiment takes k labelled pictures of each class. The pictures matter much when k is one, so one repeats it with other pictures; our claims
# do it ten times. By hand: shuffle all rows, and of each class keep the first k. Then a larger k contains what a smaller one had, so
# that two points of a curve differ by more pictures and not by other ones.

# %%
# NBVAL_CHECK_OUTPUT
from experiments.few_shot import draw_shots, fit_linear, interpolate_weights, tip_adapter

labels = split.labels["train"]  # [565]
for k in (1, 2, 4):
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    by_hand = torch.stack([shuffled[labels[shuffled] == c][:k] for c in range(23)])  # [23, k]
    assert torch.equal(by_hand.flatten(), draw_shots(labels, k, torch.Generator().manual_seed(0)))
    concepts = split.concepts["train"][by_hand[split.classes.index("tool")]]
    print(f"{k} of", "tool:", ", ".join(drawings(HOME).class_names[i] for i in concepts))

# %% [markdown]
# ## 5. Start from the names
#
# The plain probe pulls its weights to zero. Zero is a classifier that knows nothing. We have a better one: the zero-shot weights $W_0$. So pull
# them there:
#
# $$ \text{mean}_n\, \text{cross-entropy}(s\, W x_n,\; y_n) + \tfrac{\lambda}{2} \lVert W - W_0 \rVert^2 , \tag{16.1} $$
#
# where $s$ is CLIP's learned scale. There are no biases, as zero-shot has none. At the best $W$ the gradient of (16.1) is zero, and this
# tells where it lies:
#
# $$ W = W_0 + \frac{s}{\lambda}\, \text{mean}_n\, (\text{onehot}(y_n) - p_n)\, x_n^\top , \tag{16.2} $$
#
# with $p_n$ what the probe says of picture $n$. In words, (16.2) says: each shot pulls the row of its class towards itself, as far as it is not yet believed. Features have length one, and the
# difference of two distributions is at most $\sqrt 2$ long. So $W$ is never farther from $W_0$ than $\sqrt 2\, s / \lambda$.
# For $\lambda \to \infty$ it **is** zero-shot. For $\lambda \to 0$ the names are forgotten.

# %%
def text_probe_by_hand(x, y, start, l2, scale):
    W, Y = start.double(), F.one_hot(y, len(start)).double()  # [K, D], [N, K]
    for _ in range(4000):
        missing = Y - (scale * x.double() @ W.T).softmax(1)  # [N, K]
        W = W + (scale * missing.T @ x.double() / len(x) - l2 * (W - start)) / (l2 + scale**2)
    return W


def accuracy(W, artist=HOME):
    return top_k_accuracy(classify(seen[artist][0], W), seen[artist][1], 1)


# %%
features, labels = seen["train"]
four = draw_shots(labels, 4, torch.Generator().manual_seed(0))
x, y = features[four], labels[four]  # [92, D], [92]
for l2 in (0.01, 0.1, 1.0, 10.0, 1e3):
    W = fit_linear(x, y, 23, l2, named, scale)
    if l2 >= 1:  # with a weaker penalty, so few steps do not get there
        torch.testing.assert_close(text_probe_by_hand(x, y, named, l2, scale).float(), W, atol=1e-4, rtol=1e-4)
    distance, bound = (W - named).norm().item(), 2**0.5 * scale / l2
    assert distance <= bound * (1 + 1e-4) + 1e-5
    print(f"penalty {l2:6g}: {distance:7.4f} from the names (at most {bound:8.2f}), right {accuracy(W):.1%} at home, {accuracy(W, FAR):.1%} far")

# %% [markdown]
# Read the table from below. With the largest penalty it is the zero-shot classifier, to about a thousandth. CLIP's authors report that their search for
# a penalty often ended there, with a few-shot classifier that was just the zero-shot one again. Towards the top the shots
# have more and more to say. At home this helps. Look at the last column as well: abroad, the same shots do harm.
#
# ## 6. Tip-Adapter: let the shots vote
#
# Tip-Adapter learns nothing. It keeps the features of the shots as *keys* and their classes as *values*. A new picture looks how near each key is,
# and collects votes. In three lines: nearness, votes, and their sum with the zero-shot logits. `beta` says how fast a vote falls with
# the distance, `alpha` how much all votes weigh.

# %%
keys, kinds, new = features[four], F.one_hot(y, 23).float(), seen[HOME][0]  # [92, D], [92, 23], [215, D]
nearness = new @ keys.T  # [215, 92], cosines
votes = torch.exp(-5.5 * (1 - nearness)) @ kinds  # [215, 23]
logits = scale * new @ named.T + 4.0 * votes
torch.testing.assert_close(tip_adapter(new, keys, kinds, named, alpha=4.0, beta=5.5, scale=scale), logits)
for artist in (HOME, FAR):
    there = seen[artist][0]
    nearest = (there @ keys.T).max(1).values.mean()
    of = {a: top_k_accuracy(tip_adapter(there, keys, kinds, named, a, 5.5, scale), seen[artist][1], 1) for a in (0.0, 1.0, 4.0, 16.0, 1e6)}
    print(f"{artist:9s}", *(f"alpha {a:g}: {right:.1%}  " for a, right in of.items()), f"cosine of the nearest shot {nearest:.2f}")

# %% [markdown]
# With alpha zero it is zero-shot, and with alpha a million the votes are alone. What is best depends on how many shots there are and how good zero-shot is.
# The authors search for alpha and beta on their benchmark; the claim below reports one fixed alpha for all k, and one that is chosen on validation pictures. There is
# also a tuned version, Tip-Adapter-F, which begins with the same keys and then lets them learn for 100 steps.
#
# ## 7. WiSE-FT: average the weights
#
# The third idea is the simplest. Tune the classifier from the zero-shot weights, with hardly any penalty. Then take the **average** of the
# weights before and after. WiSE-FT does this with a whole network, and found that much of what tuning loses under a shift comes back, while most of what it gains
# at home stays. We tune only the last layer. For a linear layer the average of the weights gives the average of the logits, so it is
# also an ensemble of two classifiers that costs as much as one.

# %% alt="A line chart: top-1 accuracy among 23 kinds, in percent, against the share of the tuned weights from 0 to 1. At home it rises from about 31 to 43 percent, for the far artist it falls from 19 to 13."
sixteen = [draw_shots(labels, 16, torch.Generator().manual_seed(n)) for n in (0, 1)]  # two draws
tuned = [fit_linear(features[rows], labels[rows], 23, 0.01, named, scale) for rows in sixteen]
mixed = interpolate_weights({"head": named}, {"head": tuned[0]}, 0.5)["head"]
by_hand = (named + tuned[0]) / 2, (new @ named.T + new @ tuned[0].T) / 2  # of the weights, and of the logits
torch.testing.assert_close((mixed, new @ mixed.T), by_hand, atol=1e-5, rtol=1e-5)
for artist, color, mark in ((HOME, BLUE, "o-"), (FAR, RED, "s-")):
    of = [50 * sum(accuracy(torch.lerp(named, W, n / 10), artist) for W in tuned) for n in range(11)]  # mean of two, in %
    plt.plot([n / 10 for n in range(11)], of, mark, color=color, ms=3, lw=1, label=" ".join(ARTISTS[artist].split()))
plt.gca().set(xlabel="share of the tuned weights (0: the names)", ylabel="top-1 of 23 kinds (%)", ylim=(0, None)), plt.legend()
plt.show()

# %% [markdown]
# This is the live CLIP with 16 shots. The left end is zero-shot, the right end the tuned classifier, and between the two lies the average. If
# a line were straight, averaging would buy nothing that a compromise does not cost. What WiSE-FT hopes for is a curve that bends
# upwards: near its top at home while still high abroad. At home the live line does so, and abroad it does not: this small CLIP's names are weak, and half a share of
# the tuned weights is already most of the mixture. The long runs of section 9 look better.
#
# ## 8. How many pictures is a name worth?
#
# The claim's function does all of this for 1, 2, 4, 8 and 16 shots. Live it does two draws instead of ten. The baseline is zero-shot. The **negative control** deals out the labels of the
# shots anew, so that the shots say nothing. A probe that learns from its shots must then fall to chance. A way that knows the names
# has something to fall back on, and the control shows how much it relies on it.

# %%
live = measure_shots(SMALL, 100)
control = {}
for rows in sixteen:
    wrong = labels[rows][torch.randperm(len(rows), generator=torch.Generator().manual_seed(1))]
    for method, logits_of in adapters(features[rows], wrong, named, scale, seen["validation"], SMALL).items():
        control[method] = control.get(method, 0) + top_k_accuracy(logits_of(new), seen[HOME][1], 1) / 2
print(f"at home, zero-shot {live[f'zero_{HOME}']:.1%}\n{'':11s}{'shots':24s}    16, labels dealt out anew")
for method in control:
    print(f"{method:11s}", *(f"{live[f'{method}_{k}_{HOME}']:5.1%} " for k in SHOTS), f" {control[method]:12.1%}")

# %% [markdown]
# In the last column the plain probe has become useless, as it must. So have the tuned weights and the tuned keys, which trust their shots most. The
# text-initialised probe hardly moves from the names, the average keeps a good part of them, and `tip_chosen`, which sees on validation pictures that the votes do not help, can set alpha to zero.
#
# Now the long runs: CLIPs four times as wide, 800 steps, five seeds, ten draws of the shots for each. The figure has the paper's axes (Figure 6), one panel an artist. The probe
# has always learned from *home*. Stars are the live run, the cross is its control. Bars and the gray band are 95 % intervals over the seeds.

# %%
from experiments.verdicts import effect_of, values

record, adapted = read_result("clip-zero-shot-vs-few-shot"), read_result("few-shot-adapters")
(NAME,) = record["settings"]

def draw_curve(ax, points, **style):  # points: for each k, what `effect_of` returns
    y, half = [100 * e["mean"] for e in points], [100 * (e["ci95"][1] - e["mean"]) for e in points]
    ax.errorbar(SHOTS, y, half, **{"ms": 3, "lw": 1, "capsize": 2} | style)
    ax.set_xscale("log", base=2), ax.set(xlabel="labelled pictures of each class", xticks=SHOTS, xticklabels=SHOTS)

def measured(key, minus=None, record=adapted):  # over the seeds; minus: what is taken away, seed by seed
    value, other = (values(record["measurements"], NAME, k) for k in (key, minus or key))
    return effect_of([value[seed] - (other[seed] if minus else 0) for seed in value])


# %% alt="Three line charts with error bars: top-1 accuracy in percent against labelled pictures of each class, 1 to 16, with zero-shot as a dotted line. At home the probe crosses the line between 4 and 8 pictures; for the near and the far artist it stays below."
figure, panels = plt.subplots(1, 3, figsize=(7, 2.5), layout="constrained", sharey=True)
for ax, artist in zip(panels, ARTISTS):
    zero, stars = measured(f"zero_{artist}"), (SHOTS, [100 * live[f"probe_{k}_{artist}"] for k in SHOTS])
    ax.axhline(100 * zero["mean"], color="k", ls=":", lw=1, label="zero-shot"), ax.set_title(" ".join(ARTISTS[artist].split()))
    draw_curve(ax, [measured(f"probe_{k}_{artist}") for k in SHOTS], fmt="o-", color=BLUE, label="probe of k shots")
    ax.axhspan(*(100 * limit for limit in zero["ci95"]), color="gray", alpha=0.15, lw=0), ax.plot(*stars, "*", ms=6, mfc="white", color=BLUE, label="live: probe")
    ax.axhline(100 * live[f"zero_{artist}"], color=ORANGE, ls="--", lw=1, label="live: zero-shot")
panels[0].plot(16, 100 * control["probe"], "x", color=RED, label="live: control"), panels[0].set(ylabel="top-1 of 23 kinds (%)", ylim=(0, None))
figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False, fontsize=7)
plt.show()

# %% [markdown]
# Read each panel from left to right, and look where the line of the probe crosses the dotted one. At home this happens between 4 and 8 pictures. Two of the panels are about the
# question that the paper's figure does not ask: what is a name worth *elsewhere*? The probe's pictures are all from home. Taken to the near artist, 16
# of them do not quite reach zero-shot (37 against 43 %, in four of five seeds). Taken to the far artist they stay far below (25 against 38 %), and from 1 to 16 pictures
# the probe gains only 5 points there, and 24 at home. A name was learned from four artists. A shot is from one. (The small live CLIP has weaker
# names, and a few pictures are enough to overtake them at home.)
#
# The bars are wide because the CLIPs and the test concepts differ from seed to seed. The differences within a seed, which the rule looks at, are surer.
#
# Figure 7 of the paper asks the same in another way: how many shots match zero-shot? It is read off the curve, straight between two points on the
# logarithmic axis. The paper has one number for each of 20 data sets, we have one for each seed (another CLIP, another split of the concepts) and artist. An arrow says that 16 are not
# enough.

# %% alt="Points on a logarithmic axis: labelled pictures of each class that match zero-shot, five seeds for each of three artists. At home between 5 and 9, near 13 once and otherwise more than 16, far always more than 16. Two lines mark the paper's 4 and 5.4."
figure, ax = plt.subplots(figsize=(4.5, 1.8), layout="constrained")
for place, (artist, color) in enumerate(zip(ARTISTS, (BLUE, GREEN, RED))):
    for m in record["measurements"]:
        needed = shots_to_match(m[f"zero_{artist}"], {k: m[f"probe_{k}_{artist}"] for k in SHOTS})
        ax.plot(min(needed, 24), place + 0.12 * (m["seed"] - 2), ">" if needed > 16 else "o", color=color, ms=4)
for at, style, label in ((4, "--", "paper, mean curve"), (5.4, ":", "paper, median")):
    ax.axvline(at, color="gray", ls=style, lw=1, label=label)
ax.set(xscale="log", xlabel="labelled pictures of each class that match zero-shot", yticks=range(3), yticklabels=ARTISTS.values(), ylim=(2.5, -0.5))
ax.set_xticks([1, 2, 4, 8, 16, 24], [1, 2, 4, 8, 16, "more"]), ax.minorticks_off(), ax.legend(fontsize=6, loc="lower left")
plt.show()

# %% [markdown]
# At home all five seeds lie between 4.9 and 8.3 pictures, above the paper's 4 and near its median. At the other artists, 16 are not enough, but for one seed of the near
# one. So the answer depends on whose pictures one labels. The paper's own data sets differ much more, from less than one picture to 184.
#
# **Asked:** is zero-shot above one shot, and below sixteen?

# %%
def tell(id):
    print(fill(claims[id].rule, 118) + "\n")
    print(answer(claims[id], read_result(id)))  # judges the measurements anew


tell("clip-zero-shot-vs-few-shot")

# %% [markdown]
# **Reproduced.** Zero-shot is 16.5 points above one shot, and 7.2 below sixteen. It is worth 6.5 pictures of each class, so more than the
# paper's 4, and still 3.1 points above a probe of 4. If the pictures come from one artist and the question from another, zero-shot is 12.5 points above sixteen shots.
#
# ## 9. Three ways to have both
#
# The same runs, now with the shots *and* the names. *Tuned* is the classifier that starts from the names and is hardly held there, *average* is what WiSE-FT makes of it. To the left
# is the artist whose shots were seen, to the right the one whom nobody saw. Drawn is the difference to zero-shot, seed by seed: above the dotted line the shots have helped, below it they have done
# harm.

# %% alt="Two line charts with error bars: top-1 accuracy minus zero-shot, in points, against labelled pictures of each class, for six methods. At home all but the plain probe start near zero and rise to between 4 and 12. For the far artist the plain probe and the tuned one fall far below zero."
WAYS = {"probe": ("plain probe", BLUE, "o"), "text": ("text-initialised", ORANGE, "s"), "free": ("tuned", RED, "v"),
        "blend": ("average (WiSE-FT)", PURPLE, "D"), "tip": ("Tip-Adapter", GREEN, "^"), "tip_tuned": ("Tip, tuned keys", SKY, "P")}
figure, panels = plt.subplots(1, 2, figsize=(7, 2.7), layout="constrained")
for ax, artist in zip(panels, (HOME, FAR)):
    for method, (label, color, mark) in WAYS.items():
        points = [measured(f"{method}_{k}_{artist}", f"zero_{artist}") for k in SHOTS]
        draw_curve(ax, points, fmt=f"{mark}-", color=color, label=label, elinewidth=0.5)
    ax.axhline(0, color="k", ls=":", lw=1, label="zero-shot"), ax.set_title(" ".join(ARTISTS[artist].split()))
panels[0].set_ylabel("top-1 minus zero-shot (points)"), figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right", frameon=False)
plt.show()

# %% [markdown]
# To the left, the plain probe begins 17 points below zero-shot. All ways that know the names begin within two and a half points of it. So the paper's
# paradox has a simple cure: with one picture, do not forget the name. With 16, these ways lie 4 to 6 points above zero-shot, the probe 7, and the tuned keys
# of Tip-Adapter 12.
#
# To the right, *no* way is clearly above zero-shot, however many pictures it has seen. The question there is who loses least. The tuned classifier loses 13 points, as much as
# the probe: the more it has learned, the worse. The average gives nearly 10 of these points back. The text-initialised probe loses 1.5. Tip-Adapter and its
# tuned keys lose nothing. Why not? The votes are a nudge, and abroad they are a smaller one. A far artist's
# drawing is less near to its nearest shot (section 6 printed this for the live CLIP), no class stands out among the votes, and the names decide.
#
# **Asked:** do names help the probe of one shot, do votes help zero-shot at 16, and does the average keep what tuning loses abroad?

# %%
tell("few-shot-adapters")

# %% [markdown]
# **Reproduced**, in all three parts. One picture and the names are 16.7 points above one picture alone. Votes of 16 pictures add 6.0 points to zero-shot without
# training a thing. Averaging gives 9.9 of the 12.6 points back that tuning lost at the far artist, and costs nothing at home (0.6 points above the tuned weights, not sure).
#
# The other lines are as useful. At 1 shot nothing is really above zero-shot: the text-initialised probe adds 0.2 points, the vote 0.6. At 16 shots the text-initialised probe is 3.0 points *below* the plain
# one at home, and 11.1 above it abroad. A hundredth of its penalty, which is what the tuned weights have, hardly changes that (50.7 and 51.3 %; the plain probe has 53.7). An alpha chosen on
# validation pictures adds 3.4 points. And the average does not keep everything: at the far artist it is 2.6 points below zero-shot in all five seeds.
#
# ## 10. Many tasks
#
# One benchmark is one question. The paper's Figures 5 and 8 ask 27, from satellites to the colour of a car. We ask fourteen of the drawings at home. Ten are about kinds of things: the
# group, and the kinds within animals, food, hands and so on. Four are about something else: which **skin tone**, which **gender**, **facing** left or right, **how many** people? On the web,
# captions rarely say such things. Here the names do: "woman walking: light skin tone, facing right".
#
# Each task gets three answers: zero-shot, a probe on the same tower, and a probe on a ResNet of the same width that learned CLIP's pictures with their names as *labels*. This last
# one stands for the paper's ResNet-50. It has seen the very pictures that CLIP saw, for 300 steps instead of 800. Each part has concepts of its own, so a probe is asked about
# things that it was not shown.
#
# Live, four of the tasks are enough, with the first two answers. Beside them is printed how alike the names of two classes are, to the text tower.

# %%
names, at_tasks = [row["name"] for row in all_drawings()[1]], {}
for name in ("travel", "faces", "skin tone", "facing"):
    classes, parts = parts_of(name, 100)
    words = [[names[i] for i in parts["train"][0][parts["train"][1] == c].tolist()] for c in range(len(classes))]
    W = zero_shot_weights(model, tokenised()[0], words)
    *known, test = ((tower_features(model, pairs.images[i]), c) for i, c in (parts[p] for p in ("train", "validation", "test")))
    zero = top_k_accuracy(classify(shared_features(model, pairs.images[parts["test"][0]]), W), test[1], 1)
    at_tasks[name] = 100 * linear_probe(*known, {"test": test})["test"], 100 * zero
    alike = ((W @ W.T).sum() - len(W)) / (len(W) ** 2 - len(W))  # mean cosine of two classes
    print(f"{name:9s} {len(W)} classes: probe {at_tasks[name][0]:2.0f} %, zero-shot {at_tasks[name][1]:2.0f} %, cosine of two classes' names {alike:.2f}")

# %%
from experiments.clip_zero_shot_vs_probe import KEYS

tasks, ATTRIBUTES = read_result("clip-zero-shot-vs-probe"), ("skin_tone", "gender", "facing", "how_many")
COLOR, LABEL = {key: RED if key in ATTRIBUTES else BLUE for key in KEYS}, {key: key.replace("_", " ") for key in (*ATTRIBUTES, "hands", "faces")}


def draw_tasks(ax):  # Figure 8
    for key in KEYS:
        x, y = (100 * measured(f"{kind}_{key}", record=tasks)["mean"] for kind in ("probe", "zero"))
        ax.plot(x, y, "s" if key in ATTRIBUTES else "o", ms=4, color=COLOR[key]), ax.text(x, y - (5 if key == "how_many" else 1), f"   {LABEL.get(key, '')}   ", fontsize=6, ha="left" if key == "skin_tone" else "right")
    ax.plot(*zip(*at_tasks.values()), "k*", ms=7, mfc="white", label="live, smaller, four tasks")
    ax.axline((50, 50), slope=1, color="k", ls="--", lw=1, label="as good as its probe"), ax.legend(fontsize=6, loc="upper left")
    ax.set(xlabel="probe on CLIP's own features (%)", ylabel="zero-shot (%)", xlim=(0, 103), ylim=(0, 103))


# %% alt="Left, bars with error bars for fourteen tasks: zero-shot minus a probe on labelled features, in points; most are negative. Right, a scatter plot of zero-shot accuracy against a probe on CLIP's own features, in percent: most tasks lie below the dashed diagonal and go along with it."
figure, (left, right) = plt.subplots(1, 2, figsize=(7, 3.2), layout="constrained", width_ratios=(1.1, 1))
order = sorted(KEYS, key=lambda key: measured(f"zero_{key}", f"labelled_{key}", tasks)["mean"])
effects = [measured(f"zero_{key}", f"labelled_{key}", tasks) for key in order]
gains, halves = [100 * e["mean"] for e in effects], [100 * (e["ci95"][1] - e["mean"]) for e in effects]
colors = [COLOR[key] for key in order]
left.barh([key.replace("_", " ") for key in order], gains, xerr=halves, color=colors, error_kw={"lw": 0.7, "capsize": 2})
left.axvline(0, color="k", lw=0.8), left.set(xlabel="zero-shot minus probe on labelled features (points)")
draw_tasks(right), right.set_title(f"mean r over the seeds: {tasks['checks'][0]['effect']['mean']:.2f}")
plt.show()

# %% [markdown]
# To the left (Figure 5) the bars that point right are the tasks where names win. In the paper these are 16 of 27. To the right (Figure 8) each point is a task, and its distance below the dashed line is what the
# names miss of what the features hold. Red squares and bars are the four that are no kinds of things. The bars of the intervals are long because each seed has another test.
#
# On the right side of the left panel there are three tasks: hands, by 22 points, and hardly food and activities. The hands are a special case. There are 136 training pictures, but of only 20
# concepts in six colours of skin, and both probes end near chance: they have learned the 20. A name does not make this mistake. Everywhere else the probe on labelled features is ahead, and most clearly
# where one asks for people (18 points) and for skin tones (17). The names *do* say the tone. But a class is said by the mean of many names, each of them mostly about
# something else. A probe on CLIP's own features finds the tone: 63 %, where zero-shot has 42 and chance is 19. It is alike with
# facing left or right, 87 against 66 %. What is missing is not in the features. It is in the pointing.
#
# And three tasks are a failure of zero-shot in any case. For faces, animals and objects it is *below* a model that always says the most frequent class. For faces the print above gives a reason: to the text
# tower, two of the four classes are nearly the same.
#
# **Asked:** does zero-shot follow its own probe, below it, and beat the one on labelled features mostly?

# %%
tell("clip-zero-shot-vs-probe")

# %% [markdown]
# **Not at this scale.** The first two parts look like the paper's: r is 0.72 (there 0.82), if with an interval too wide to be sure, and zero-shot is 10.3 points below its own probe (there 10 to 25). The third
# comes out the other way. Zero-shot wins on a quarter of the tasks and not on most. The reason is most likely the opponent. ImageNet's pictures are not those of satellites and
# traffic signs, and CLIP's web has some of each. Our labelled tower has seen what CLIP saw, and CLIP has no wider world to bring in. That its *features* are good is said by another line: with a probe on them they beat
# the labelled ones on two thirds of the tasks.
#
# ## 11. The check
#
# The identities were asserted where they stood: our probe is scikit-learn's, our sweep, shots, votes and averages are the package's, and $W$ is as near to the names
# as the bound says. Each claim was judged anew by its rule, and `answer` raises an error if a verdict does not follow. Of the live runs only what
# must hold on any machine is asserted. The small CLIP has learned names. Its probe of 16 shots is better than that of one, and with labels dealt out anew it is worth
# nothing. And a probe from home knows less abroad.

# %%
assert live[f"zero_{HOME}"] > 0.15 > 1.5 * seen[HOME][1].bincount().max() / len(seen[HOME][1])  # the most frequent class
assert live[f"probe_16_{HOME}"] > live[f"probe_1_{HOME}"] + 0.05
assert control["probe"] < 0.5 * live[f"probe_16_{HOME}"]
assert live[f"probe_16_{FAR}"] < live[f"probe_16_{HOME}"] - 0.05
assert abs(accuracy(fit_linear(x, y, 23, 1e6, named, scale)) - live[f"zero_{HOME}"]) < 0.01  # all penalty: zero-shot

# %% [markdown]
# **Limits.** Pictures have 16 × 16 pixels, and what is too small to be seen is in no features. The concepts of the test occur in CLIP's training, drawn by others, under the names that
# zero-shot asks with; on data sets of the web one hopes for the opposite and cannot be sure. Home has some 215 test pictures, the near artist some fifty, and the tasks of section 10 have 23 to
# 161, so single bars of Figure 5 are rough. Penalties, alpha and the rest were chosen on one seed, the same for all k; a search for each k would help
# all of them. "Few-shot" is honest only if validation pictures are counted, too, and `tip_chosen` and the probes of section 10 use some. What is tuned is the last layer. WiSE-FT averages whole
# networks, and we have not tried that here.
#
# ## 12. Try it yourself
#
# - In section 5, draw one shot instead of four, and then 16. Which penalty is best for which? Is it the same abroad?
# - In section 6, set `beta` (the 5.5 in the loop) to 100, and look at the largest alpha. Then only the nearest shot counts: a nearest-neighbour classifier. With 0, all shots vote alike, and since every class has as
#   many, the votes change nothing.
# - In section 7, tune with a penalty of 1 instead of 0.01. The two ends of a line come nearer to each other. With 0.0001?
# - In section 8, let the control deal out anew the labels of *half* of the shots. Which ways bear it?
#
# **Next.** The far artist was only looked at by the way here. How much does accuracy fall from artist to artist, is it less for zero-shot than for a model
# trained on labels, and what is lost by adapting? [17 · Robustness to unseen artists](17_robustness_to_unseen_artists.ipynb). Before:
# [15 · Zero-shot and prompts](15_zero_shot_and_prompts.ipynb).
