# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 17 · Robustness to unseen artists
#
# **Paper.** CLIP ([Radford et al., 2021](https://arxiv.org/abs/2103.00020)): section 3.3 with Figures 13, 14 and 15 (natural distribution shift),
# section 3.1.6 with Figure 9 (scaling), section 3.2 with Figure 10 (ResNets and ViTs).
#
# **The question.** If a model does well on pictures of the kind that it learned from, what is left when somebody else draws them, and is it the
# language that makes the difference?
#
# **What you need first.** [15 · Zero-shot and prompts](15_zero_shot_and_prompts.ipynb): names as class weights.
# [16 · Probes and few shots](16_probes_and_few_shots.ipynb): the benchmark of 23 kinds of things, linear probes, WiSE-FT.
#
# **Time.** About one minute and a half on two CPU cores, of which some 25 seconds are training.
#
# ImageNet classifiers passed human accuracy years ago. On new pictures of the same classes they make far more errors than people do: on sketches, on renditions, on
# pictures that somebody collected in another way. CLIP's Figure 13 is the paper's strongest one. On seven such data sets, zero-shot CLIP keeps much of
# its accuracy where supervised models of the *same* ImageNet accuracy lose theirs.
#
# Why? One answer is that a zero-shot model has never seen the benchmark, so it cannot have learned the benchmark's habits. A second one is that
# language teaches better. A third is that the pictures were different ones. With drawings by seven artists we can take these apart.

# %%
import matplotlib.pyplot as plt
import torch

from experiments.claims import answer, load_claims, means, read_result
from experiments.sweep import complete
from experiments.verdicts import effect_of, values

plt.rcParams.update({"figure.figsize": (3.5, 2.5), "figure.dpi": 150, "font.size": 8})
BLUE, ORANGE, GREEN, PURPLE, RED, SKY = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9"
claims = load_claims()  # also puts the repository's experiments/ on Python's path

# %% [markdown]
# ## 1. A natural shift
#
# Nobody blurred these pictures or added noise to them. That would be a *synthetic* shift, and models that withstand it need not withstand others. Here the thing is the
# same, and another person drew it. The first four artists are those from whose drawings (with captions) the CLIPs of notebooks 15 and 16 learned. The fifth, Twemoji, is the
# **home** artist: this is our ImageNet. Supervised models learn from its labelled drawings and are tested on other drawings of it. FxEmoji is a **near** shift,
# OpenMoji, black outlines around flat colour or none, a **far** one. No model here has seen a drawing by these two.

# %%
from experiments.transfer import BENCHMARK, FAR, NEAR, PRETRAINING
from minclip.data import load_pairs, shrink

SHOWN, found = ("tiger", "hot beverage"), {}
for split in ("train", "in_distribution", NEAR, FAR):
    pairs = load_pairs("emoji", split)  # 64 x 64
    for picture, artist, label in zip(pairs.images, pairs.metadata["artist"], pairs.labels.tolist()):
        if pairs.class_names[label] in SHOWN:
            found[pairs.class_names[label], artist] = picture

# %% alt="A tiger and a hot beverage drawn by seven artists (columns), each at 64 and at 16 pixels (rows). At 16 pixels the things are coarse but mostly to be recognised; the far artist draws thin outlines."
from minclip.report import OPENMOJI_NOTICE

figure, axes = plt.subplots(4, 7, figsize=(7, 4.2), layout="constrained", subplot_kw={"xticks": [], "yticks": []})
for column, artist in enumerate((*PRETRAINING, BENCHMARK, NEAR, FAR)):
    for row, name in enumerate(SHOWN):
        for ax, size in zip(axes[2 * row :, column], (64, 16)):
            ax.imshow(shrink(found[name, artist][None], size)[0].permute(1, 2, 0))
            ax.set(ylabel="" if column else f"{name}\n{size} pixels")
    axes[0, column].set_title(f"{artist}\n" + {BENCHMARK: "home", NEAR: "near", FAR: "far"}.get(artist, "CLIP's"))
figure.supxlabel(f"{OPENMOJI_NOTICE}, Twemoji, EmojiOne (CC BY 4.0), Noto, Blob (Apache-2.0), Fluent (MIT)", fontsize=6, color="gray")
plt.show()

# %% [markdown]
# The lower row of each pair is what the models see: 16 × 16 pixels. All seven are tigers to us. But some are a whole animal and some a face, and all that is left of the last cup is its outline.
#
# ## 2. Accuracy on logit axes
#
# Suppose model A falls from 90 to 80 % and model B from 50 to 40 %. Both lose ten points. Do they lose alike? A now errs twice as often, B a fifth more often, so points
# are not a fair measure. The **odds** are better: rights for each wrong, p / (1 - p). Here is a shift that divides everybody's odds by three.

# %%
# NBVAL_CHECK_OUTPUT
for p in (0.2, 0.4, 0.6, 0.8, 0.9):
    odds = p / (1 - p)
    after = (odds / 3) / (1 + odds / 3)
    print(f"accuracy {p:4.0%}, odds {odds:4.2f}; after the shift odds {odds / 3:4.2f}, accuracy {after:5.1%}, "
          f"so {100 * (p - after):4.1f} points less")

# %% [markdown]
# The loss in points is largest in the middle, though nothing happened but "divide by three". On axes that show the logarithm of the odds, the **logit** log(p / (1 - p)),
# such a shift moves every model down by log 3, so that all of them lie on a straight line. This is more than convenient. [Taori et al.
# (2020)](https://arxiv.org/abs/2007.00644) measured 204 ImageNet models, and on these axes the accuracies under natural shift do lie close to a line, whatever
# the architecture. A better model is better abroad, too, by a fixed exchange rate. So being more accurate abroad is no merit by itself. **Effective robustness** is what a model has
# *above* the line at its own home accuracy.
#
# By hand this is a least-squares line through the supervised models on logit axes, and a difference. The package's functions are `baseline` and `effective` in
# `experiments/robustness.py`. Below, the line goes through six ResNets (three widths, 60 or 240 steps) that learned the labels of the home artist, from the committed long
# runs, for each seed by itself.

# %%
def line_by_hand(points):
    x, y = torch.logit(torch.tensor(points, dtype=torch.float64)).T  # each [M]
    columns = torch.stack([torch.ones_like(x), x], 1)  # [M, 2]
    return torch.linalg.lstsq(columns, y[:, None]).solution.flatten().tolist()  # intercept, slope


def above_by_hand(point, line):
    home, away = torch.tensor(point, dtype=torch.float64)
    return float(away - torch.sigmoid(line[0] + line[1] * torch.logit(home)))


# %%
from experiments.clip_effective_robustness import NARROW, WIDE, robustness
from experiments.clip_resnet_vs_vit import FEWER, WIDTHS, tower_flops
from experiments.robustness import SUPERVISED, baseline, effective

records = {id: read_result(id) for id, claim in claims.items() if claim.notebook.startswith("17")}
main, towers = records["clip-effective-robustness"], records["clip-resnet-vs-vit"]
few = records["clip-few-shot-robustness"]
SIX = [f"supervised_{width}_{steps}" for width, steps in SUPERVISED]


def by_seed(model, artist=FAR, setting=WIDE):
    home, away = (values(main["measurements"], setting, f"{model}_{a}") for a in (BENCHMARK, artist))
    return {seed: (home[seed], away[seed]) for seed in home}


# %%
for seed, point in by_seed("zero").items():
    points = [by_seed(model)[seed] for model in SIX]
    line = line_by_hand(points)
    above = above_by_hand(point, line)
    torch.testing.assert_close(line, list(baseline(points)), atol=1e-10, rtol=0)
    assert abs(above - effective(point, baseline(points))) < 1e-10
    assert abs(above - robustness(main["measurements"], "zero", FAR)[seed]) < 1e-10  # what the claim's rule reads
    print(f"seed {seed}: zero-shot has {point[0]:.1%} at home and {point[1]:.1%} far; "
          f"the line says {point[1] - above:.1%}, so {100 * above:+.1f} points")

# %% [markdown]
# Supervised models as accurate as zero-shot CLIP would recognise some 20 % of the far artist's drawings. CLIP recognises nearly twice as many.
#
# ## 3. Live, in small
#
# Now some of it on your machine. The test asks for one of 23 kinds (Unicode's subgroups, such as *animal-mammal* or *clothing*); its concepts are never in the
# training labels of the home artist. Each run is a small ResNet that learns labels for some seconds:
#
# - **home labels**: the baselines, 8 or 16 wide, on drawings by the home artist, 60 or 160 steps;
# - **CLIP's labels**: the drawings are those that CLIP learns from, four artists', but with the label in place of the caption. No word is read. (As for CLIP, the test's concepts are
#   among them, drawn by others);
# - **shuffled labels**: the **negative control**, the home artist's drawings with labels dealt out at random.
#
# Last comes a short CLIP (16 wide, 200 steps of 128 pairs), by names and with a linear probe that learns from the home artist's labels.

# %%
# NBVAL_CHECK_OUTPUT
from experiments.robustness import ARTISTS, measure_adaptation, measured, own_drawings, supervised
from experiments.transfer import exam, subgroups

split = subgroups(100)  # 100: no seed of a verdict
tests = {artist: exam(artist, split.concepts["test"], split.labels["test"]) for artist in ARTISTS}
parts = [exam(BENCHMARK, split.concepts[part], split.labels[part]) for part in ("train", "validation")]
home, own = [torch.cat(columns) for columns in zip(*parts)], own_drawings(split)
shuffled = home[0], home[1][torch.randperm(len(home[1]), generator=torch.Generator().manual_seed(0))]
print(f"{len(split.classes)} kinds; drawings with labels: {len(home[1])} of the home artist, {len(own[1])} of CLIP's; "
      f"tests: {', '.join(f'{len(y)} by {artist}' for artist, (_, y) in tests.items())}")

# %%
chosen = {"home labels, 8 wide": (home, 8, 60), "home labels, 16 wide": (home, 16, 60), "home labels, longer":
          (home, 16, 160), "CLIP's labels": (own, 16, 160), "shuffled labels": (shuffled, 16, 60)}  # fmt: skip
live = {}
for name, (data, width, steps) in chosen.items():
    live[name] = measured("live", supervised(*data, split, width, steps, 3e-3, 100), tests)
short = {"image_width": 16, "steps": 200, "batch_size": 128, "whole": False}
result = measure_adaptation(complete(measure_adaptation, short), 100)
for name, key in (("short CLIP", "zero"), ("probe on it", "probe")):
    live[name] = {f"live_{artist}": result[f"{key}_{artist}"] for artist in ARTISTS}

# %%
print(f"{'':21s}  home   near    far")
for name, accuracy in live.items():
    print(f"{name:21s}", *(f"{accuracy[f'live_{artist}']:6.1%}" for artist in ARTISTS))

# %% [markdown]
# Read the two rows of 160 steps first. They differ in the drawings alone: whose they are, and how many. At home, the ResNet that has learned the home artist is the better one or level. Then
# go to the right: it loses half of its accuracy or more, and the one that has learned four *other* artists loses much less. One chance in 23 is 4.3 %, and the largest
# kind is a tenth of the home test; the control stays there. With some 50 drawings by the near artist, ten points in that column are noise.
#
# ## 4. Figure 13
#
# The long runs, five seeds: each small mark is one model of one seed. Blue squares are the six supervised ResNets, and the blue line goes through all of them. The dotted line is where
# nothing would be lost. Zero-shot CLIPs are circles, hollow if they are 16 wide. Crosses are ResNets that learned labels of CLIP's drawings. The large hollow stars are the live runs, in the colours of their kinds; the
# control is outside, in the lower left corner of a larger figure.

# %%
from experiments.gallery import logit_axes

KINDS = {"home labels": (SIX, "s", BLUE), "probe on CLIP": (["probe"], "^", GREEN),
         "tuned CLIP": (["wise_100"], "v", ORANGE), "CLIP's labels": (["own"], "X", PURPLE),
         "zero-shot CLIP": (["zero"], "o", RED)}  # fmt: skip
LIVE = dict.fromkeys(["home labels, 8 wide", "home labels, 16 wide", "home labels, longer"], BLUE)
LIVE |= {"CLIP's labels": PURPLE, "short CLIP": RED, "probe on it": GREEN}  # the control is too far down


def put(ax, points, mark, color, label=None, fill=None, size=3.5):
    x, y = torch.logit(torch.tensor(points)).T.tolist()
    ax.plot(x, y, mark, color=color, mfc=fill or color, label=label, ms=size, mew=0.7)


# %%
def draw_shift(ax, artist):
    ends = torch.tensor([-2.2, 1.0])  # logits of 10 and 73 %
    intercept, slope = baseline([point for model in SIX for point in by_seed(model, artist).values()])
    ax.plot(ends, ends, color="gray", ls=":", lw=1, label="nothing lost")
    ax.plot(ends, intercept + slope * ends, color=BLUE, lw=1)
    for label, (models, mark, color) in KINDS.items():
        put(ax, [point for model in models for point in by_seed(model, artist).values()], mark, color, label)
    put(ax, [*by_seed("zero", artist, NARROW).values()], "o", RED, "zero-shot, 16 wide", "white")
    for name, color in LIVE.items():
        put(ax, [(live[name][f"live_{BENCHMARK}"], live[name][f"live_{artist}"])], "*", color, None, "white", 8)


# %% alt="Two scatter plots on logit axes: top-1 accuracy for the near and the far artist against that at home, in percent. Models of home labels follow a rising line. Zero-shot CLIPs and networks on CLIP's labels lie far above it; probes and tuned CLIPs lie nearer to it."
figure, panels = plt.subplots(1, 2, figsize=(7, 3.1), layout="constrained")
for ax, artist, where in zip(panels, (NEAR, FAR), ("near", "far")):
    draw_shift(ax, artist)
    logit_axes(ax, 0.07, 0.75)
    ax.set(title=f"{where} artist ({artist})", xlabel="top-1 at home (%), logit axis", ylabel="top-1, other artist (%)")
panels[0].plot([], [], "*", color="black", mfc="white", ms=8, mew=0.7, label="live, shorter")
figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right", frameon=False)
plt.show()

# %% [markdown]
# How to read it. Go straight up from a blue square to a red circle: as good at home, and far better abroad. In the paper's figure the same step leads from the
# ResNets of ImageNet to zero-shot CLIP.
#
# Then look at the crosses. They have learned nothing but 23 labels, and they are far above the line as well, further to the right than the circles and as high. And look at the probes: the same tower as the circles, with weights
# learned from the home artist's labels, and it is back on the line.
#
# **Asked:** is zero-shot above the supervised line on the far artist, in both widths?

# %%
print(claims["clip-effective-robustness"].rule)
print(answer(claims["clip-effective-robustness"], records["clip-effective-robustness"]))

# %% [markdown]
# **Reproduced.** Zero-shot is 18.1 points above the line, 16.0 if the tower is 16 wide, and has two thirds less of the gap between home and far (67.8 %; the paper
# says up to 75). On the near artist it is the same.
#
# The unstarred lines say what it is *not*. A ResNet that has learned **labels of the same drawings** is 12.3 points above the line. So two thirds
# of the effect are there without any language. The pictures make it: four artists instead of one, 2,529 drawings instead of 651, and the test's concepts among them. Whether captions add the last third cannot be told from five seeds (5.8 points, with an interval from 0.6 to 10.9, and one seed
# disagrees). And the table below shows that even this difference is one of the home column.

# %%
def percent(record, model, artists):
    (setting, *_) = record["settings"]  # the first
    return [100 * means(record, [setting], f"{model}_{artist}")[0][0] for artist in artists]


names = {f"supervised_{w}_{s}": f"home labels, {w} wide, {s} steps" for w, s in SUPERVISED}
names |= {"probe": "probe on CLIP", "wise_50": "half tuned CLIP", "wise_100": "tuned CLIP", "own": "CLIP's labels"}
print(" " * 36 + "home    near     far   far, above the line")
for model, name in (names | {"zero": "zero-shot CLIP"}).items():
    above = effect_of([100 * x for x in robustness(main["measurements"], model, FAR).values()])
    print(f"{name:32s}" + "".join(f"{cell:7.1f}%" for cell in percent(main, model, ARTISTS)),
          f"  {above['mean']:+5.1f} ± {above['ci95'][1] - above['mean']:.1f} points")

# %% [markdown]
# Compare the last two rows, *CLIP's labels* and *zero-shot CLIP*. On the far artist they are level (37.1 and 37.9 %). At home and on the near artist the labels are ahead by 8 points. A
# model that is better at home is asked for more by the line, so its *effective* robustness is smaller. Nobody would call the other one the better model.
#
# This is what [Fang et al. (2022)](https://arxiv.org/abs/2205.01397) found at scale. They trained CLIPs on ImageNet's own pictures with captions,
# and classifiers on pictures of the web with labels. Robustness went with the pictures each time, and language gave little or none of it.
#
# ## 5. Figure 14: what adapting costs
#
# A zero-shot model does not know what the home artist's drawings look like. One can teach it, by a **probe** on its features or by **tuning** all its weights from the zero-shot start. The
# left panel shows what changes for each artist. On the right, tuned and zero-shot weights are *averaged*, weight by weight, with a share of 0, 25, 50, 75 or 100 % for the tuned ones. This is WiSE-FT
# ([Wortsman et al., 2021](https://arxiv.org/abs/2109.01903)): the curve runs from zero-shot, on the left, to tuned, on the right.

# %%
PLACES = {BENCHMARK: ("home", BLUE, "o-"), NEAR: ("near", GREEN, "s--"), FAR: ("far", ORANGE, "^:")}


def draw_changes(ax, model, at, legend):
    for beside, (artist, (where, color, _)) in zip((-0.25, 0, 0.25), PLACES.items()):
        after, before = (values(main["measurements"], WIDE, f"{m}_{artist}") for m in (model, "zero"))
        change = effect_of([100 * (after[seed] - before[seed]) for seed in before])
        style = {"color": color, "capsize": 2, "label": where if legend else None}
        ax.bar(at + beside, change["mean"], 0.23, yerr=change["ci95"][1] - change["mean"], **style)


# %% alt="Left, bars with error bars: change from zero-shot in points at home, near and far, for a linear probe and for tuning; home gains 15 to 18, far loses. Right, two lines while weights are averaged: with rising home accuracy near rises to 50 percent and far falls from 38 to 31."
figure, (left, right) = plt.subplots(1, 2, figsize=(7, 2.7), layout="constrained")
draw_changes(left, "probe", 0, True), draw_changes(left, "wise_100", 1, False)
left.axhline(0, color="gray", lw=0.8), left.legend(title="artist", frameon=False, loc="upper center", ncols=3)
left.set(ylabel="change from zero-shot (points)", ylim=(-17, 32), xticks=[0, 1], xticklabels=["linear probe", "tuned"])
for artist in (NEAR, FAR):
    path = [percent(main, f"wise_{n}", (BENCHMARK, artist)) for n in (0, 25, 50, 75, 100)]
    right.plot(*zip(*path), PLACES[artist][2], ms=4, lw=1, color=PLACES[artist][1], label=PLACES[artist][0])
right.legend(title="artist", frameon=False, loc="lower left")
right.set(xlabel="top-1 at home (%)", ylabel="top-1, other artist (%)", ylim=(20, 55), xlim=(44, 64))
plt.show()

# %% [markdown]
# How to read it. If adapting had taught *what a tiger is*, all bars would rise. If it teaches how the home artist draws tigers, only the blue ones do. In the right panel, up and to the right is better, and a curve
# that bends upwards says that an average is better than either end.
#
# **Asked:** does the probe gain at home, and more there than on the far artist?

# %%
print(claims["clip-adaptation-costs-robustness"].rule)
print(answer(claims["clip-adaptation-costs-robustness"], records["clip-adaptation-costs-robustness"]))

# %% [markdown]
# **Reproduced**, and more strongly than in the paper. The probe gains 18.1 points at home and *loses* 10.4 on the far artist (the paper: 9.2 gained, and between 1.9 and 4.7 lost on four of the seven shifts). On the near artist nothing
# certain changes. Tuning gains nearly as much at home and 7.4 points on the near artist, and loses less on the far one. So adapting is no loss as such: it carries over to what resembles home.
#
# Averaging is a bargain. The first half of the way to the tuned weights gives 8.8 points at home and costs 0.7 on the far artist; the second half gives 6.0 and costs 6.1. At half, the averaged CLIP stands
# where the ResNet on CLIP's labels does: 55 % at home, 37 % far.
#
# One caution about the probe. Its penalty is chosen on drawings of the home artist, as in the paper, and the choice was nearly no penalty at all. That suits home, where it is chosen, and nobody asked the far artist. A
# stronger one may give up less; this was not tried.
#
# ## 6. Figure 15: few shots
#
# Perhaps a probe loses its robustness only if it learns *much* from the home artist? Next, probes of 1, 2, 4, 8 and 16 labelled drawings a kind, means of ten draws of the shots and five CLIPs (from left to right on the line). The line through them is what to expect of a probe; zero-shot is compared with
# the place on it that has the same home accuracy. The diamond and the triangle have 16 shots as well, but keep the names: a probe held near the zero-shot weights, and Tip-Adapter (notebook 16).

# %% alt="Two charts, near and far artist: top-1 accuracy there against top-1 at home, in percent. The line of probes from 1 to 16 shots lies well below three single points: zero-shot, shots held near the names, and Tip-Adapter."
MARKS = ("zero", "zero-shot", "o", RED), ("text_16", "16, near names", "D", PURPLE), ("tip_16", "16, Tip", "v", ORANGE)
figure, panels = plt.subplots(1, 2, figsize=(7, 2.6), layout="constrained", sharey=True)
for ax, artist, where in zip(panels, (NEAR, FAR), ("near", "far")):
    line = zip(*[percent(few, f"probe_{k}", (BENCHMARK, artist)) for k in (1, 2, 4, 8, 16)])
    ax.plot(*line, "s-", ms=4, lw=1, color=BLUE, label="probe, 1 to 16")
    for model, label, mark, color in MARKS:
        ax.plot(*percent(few, model, (BENCHMARK, artist)), mark, ms=6, color=color, mfc="white", label=label)
    ax.set(title=f"{where} artist", xlabel="top-1 at home (%)", ylabel="top-1, other artist (%)", ylim=(10, 50))
figure.legend(*ax.get_legend_handles_labels(), loc="outside right", frameon=False)
plt.show()

# %% [markdown]
# Between 4 and 8 shots the probe is as good as zero-shot at home. Look from there straight up. On the far artist the probes' line is almost flat: fifteen more shots of the home artist give 24 points at home and 5 far.
#
# **Asked:** is zero-shot above the probe that is as accurate at home, on the far artist?

# %%
print(claims["clip-few-shot-robustness"].rule)
print(answer(claims["clip-few-shot-robustness"], records["clip-few-shot-robustness"]))

# %% [markdown]
# **Reproduced**: by 13.4 points far and 12.8 near, where the paper's figure shows about 5. Methods that keep the names keep the robustness: with 16 shots they are 4 to 6 points better at home than zero-shot
# and lose 1.5 points (near the names) or 0.3 (Tip-Adapter) on the far artist. A probe that only *begins* at the names and is hardly held there (`free` in the results) ends at 25 % far, like any probe. So
# what costs robustness is not the shots. It is to forget the names, and to learn the kinds anew from one artist.
#
# That seems to contradict section 4, where language was not needed. It does not. In both cases what helps is a classifier that was learned *from four artists*. The names are a way to carry it over.
#
# ## 7. Figure 9: does a wider tower transfer better?
#
# All of this was one size of CLIP, or two. The paper trains five ResNets, the largest with 44 times the compute of the smallest, and finds that the mean error over 39 evaluations falls along a straight line on log-log axes. Here are four
# widths, 4 to 32, of the same ResNet, trained on the same number of pictures. They name the drawings of the three unseen artists among 1,914 names, flags left out. (Another test than before: no kinds, each concept by its own name.)

# %% alt="A line chart with error bars on logarithmic axes: zero-shot error in percent against MFLOPs of the image tower, for three unseen artists. All fall: home from 84 to 65, near from 88 to 67, far from 95 to 88."
scaling, figure = records["clip-scaling"], plt.figure(layout="constrained")
flops, ax = means(scaling, [*scaling["settings"]], "mflops")[0], plt.gca()
for artist, (where, color, line) in PLACES.items():
    y, half = means(scaling, [*scaling["settings"]], f"bare_{artist}")
    style = {"fmt": line, "ms": 4, "lw": 1, "capsize": 2, "color": color, "label": where}
    ax.errorbar(flops, [100 * (1 - v) for v in y], [100 * h for h in half], **style)
ax.set(xscale="log", yscale="log", xlabel="image tower, MFLOPs a picture", ylabel="zero-shot error (%)")
ax.set_xticks(flops, [f"{x:.2g}" for x in flops]), ax.set_yticks([60, 70, 80, 90, 100], [60, 70, 80, 90, 100])
ax.minorticks_off(), ax.legend(frameon=False, title="unseen artist")
plt.show()

# %% [markdown]
# Both axes are logarithmic, so a power law would be a straight line. The far artist's line is near the top, where an error of 100 % is the ceiling.
#
# **Asked:** is the widest tower above the narrowest by more than three points? (Four points make no power law, so the slope is told beside it.)

# %%
print(claims["clip-scaling"].rule)
print(answer(claims["clip-scaling"], records["clip-scaling"]))

# %% [markdown]
# **Reproduced.** From the narrowest to the widest tower, with 60 times the FLOPs, the mean error falls from 89 to 74 %, and each doubling of the width is better in every seed. The slope
# says that an error shrinks by some 6 % for four times the compute. The line is not quite straight: the first doubling gives 7.4 points, the other two 3.9 each.
#
# In points the far artist gains least (6.8, against 18.9 at home). On odds, the measure of section 2, the three are nearly alike: they grow by 2.6 to 3.4. So a wider tower moves *along* the
# line of its kind, and width is no cure for the shift. The drawings by the training artists gain as much (16.5 points).
#
# ## 8. Figure 10: ResNets or ViTs?
#
# In the paper, ViTs are about three times as efficient as ResNets: the same accuracy for a third of the compute. But the ViTs had 400 million pictures, thirty-two times each. A convolution is told that neighbours matter and that a tiger is a tiger
# wherever it stands. A ViT has to find out. So the claim also asks what happens with a third of the drawings. Both towers are trained for 61,000 pictures by one recipe, three
# widths of each with nearly the same FLOPs; this is our usual zero-shot test with new drawings by the training artists.

# %% alt="Left, a line chart with error bars: zero-shot top-1 in percent against MFLOPs of the image tower; ResNets lie above ViTs at every size. Right, bars for all drawings and a third of them: the ResNet is ahead in both, by less with a third."
figure, (left, right) = plt.subplots(1, 2, figsize=(7, 2.5), layout="constrained", sharey=True)
for tower, beside, color, line in (("ResNet", -0.19, BLUE, "o-"), ("ViT", 0.19, ORANGE, "s--")):
    xs, settings = [tower_flops(tower.lower(), w) / 1e6 for w in WIDTHS[tower]], [f"{tower} {w}" for w in WIDTHS[tower]]
    y, half = 100 * torch.tensor(means(towers, [*settings, settings[1] + FEWER], "in_distribution"))
    left.errorbar(xs, y[:3], half[:3], fmt=line, ms=4, lw=1, capsize=2, color=color, label=tower)
    right.bar([beside, 1 + beside], y[[1, 3]], 0.36, yerr=half[[1, 3]], capsize=2, color=color, label=settings[1])
left.set(xscale="log", xlabel="image tower, MFLOPs a picture", ylabel="zero-shot top-1 (%)", ylim=(0, None))
left.set_xticks([1.25, 5, 20], [1.25, 5, 20]), right.set_xticks([0, 1], ["all drawings", "a third of them"])
left.minorticks_off(), left.legend(frameon=False), right.legend(frameon=False)
plt.show()

# %% [markdown]
# How to read it. On the left, compare heights at equal FLOPs. On the right, compare how much each tower *loses* from left to right, as a share of what it had.
#
# **Asked:** is the line of the ViTs above the ResNets?

# %%
print(claims["clip-resnet-vs-vit"].rule)
print(answer(claims["clip-resnet-vs-vit"], records["clip-resnet-vs-vit"]))

# %% [markdown]
# **The opposite**, here. At equal FLOPs the ResNets are ahead by 5.3 points on average, in every seed, and on the near artist by 3.9. For the narrowest towers the lead is 2.3 points and not certain, for the wider ones about 7. A ViT
# that is twice as wide costs four times the FLOPs and gains 0.6 to 0.8 points. At the end of training the widest has a loss of 2.82 and the ResNet with the same FLOPs 2.09, so the ViT has not even learned the pictures that it has.
#
# Whether a ViT needs more pictures cannot be told: with a third of the drawings the ResNet loses a fifth of its accuracy (from 13.0 to 10.1 %) and the ViT next to nothing (6.3 to 6.2), but a share of so little swings wildly (the interval goes from -82 to
# +41 hundredths).
#
# Is it the recipe? In notebook 11 the same ViT on the same small pictures, 64 wide with 16 patches, has 16.4 % before its second stage. There it has 300 steps in place of 240, twice the
# rate for what Adam moves, and milder augmentation (5 degrees of turning in place of 15, and no mixing of colours). So part of the low level is the recipe, which
# both towers share here; whether it holds the ViT back more than the ResNet was not asked. Other augmentation, more steps or other rates may still narrow it; the paper's ViTs had 12.8 billion pictures, and ours have 61 thousand.
#
# ## 9. The check
#
# Line and distance by hand were equal to the package's, and each claim has been judged anew by its rule. For the live runs only what must hold on any machine is asserted. The control has learned nothing. Whoever learned home
# labels loses more than ten points on the way to the far artist. Labels of four other artists' drawings leave more on the far artist than home labels do, after as many steps. And the short CLIP is better than chance everywhere.

# %%
home_of, far_of = ({name: at[f"live_{artist}"] for name, at in live.items()} for artist in (BENCHMARK, FAR))
assert max(live["shuffled labels"].values()) < 0.2
for name in ("home labels, 16 wide", "home labels, longer"):
    assert far_of[name] < home_of[name] - 0.1
assert far_of["CLIP's labels"] > far_of["home labels, longer"]
assert min(result[f"zero_{artist}"] for artist in ARTISTS) > 2 / len(split.classes)

# %% [markdown]
# **Limits.** The tests are small: 215 drawings at home and by the far artist, 39 to 49 by the near one. One split of the concepts a seed is tested, so seeds differ in their pictures as well. CLIP, and the ResNet on its labels, have
# seen the test's concepts, drawn by others; models of home labels have not. That helps them at home, too, and home accuracy is what the line asks for, but nothing here separates "more artists" from "more concepts". The line goes through six models of one
# family, trained by one optimiser, where Taori and colleagues had 204; in one seed its slope is nearly zero. Two shifts are not seven. And at 16 × 16 pixels a line drawing loses more than it would at 224.
#
# ## 10. Try it yourself
#
# - In section 3, take drawings away from *CLIP's labels*: `keep = torch.arange(0, len(own[1]), 4)`, and `(own[0][keep], own[1][keep])` in place of `own`. That is as many pictures as the home artist has, by four artists. Does the far column stay? This is the
#   fair comparison of *diversity* with *amount*.
# - In section 3, train on both: `[torch.cat(both) for both in zip(home, own)]`. Home, near, far: which one gains?
# - In section 4, replace `torch.logit` by the identity in `put`, and the axes' limits by plain shares. Does the line still fit?
# - From 23 kinds of drawings to photographs: `python -m experiments.photographs FOLDER` tries the same CLIPs on CIFAR-10, if you have a copy as parquet.
#
# **Next.** If good pictures with labels teach so much, why not begin with them? Take an image tower that knows its pictures, lock it, and let a text tower learn to speak about
# it: [18 · Locked towers](18_locked_towers.ipynb). Before: [16 · Probes and few shots](16_probes_and_few_shots.ipynb).
