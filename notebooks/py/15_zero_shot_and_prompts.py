# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 15 · Zero-shot and prompts
#
# **Paper.** CLIP ([Radford et al., 2021](https://arxiv.org/abs/2103.00020)): section 3.1, Figure 4 (prompts and ensembles) and
# Figure 5 (where zero-shot is weak); appendix E.1 (retrieval).
#
# **The question.** If the names of the classes are the classifier, how should one say them, and which names can a CLIP not
# tell apart?
#
# **What you need first.** [02 · Two towers](02_two_towers.ipynb) and [03 · The softmax loss](03_softmax_loss.ipynb): what is
# trained, and by what.
#
# **Time.** Under one minute on two CPU cores, most of which is training (on one core).
#
# A usual classifier has one row of weights for each class, learned from labelled pictures of it. CLIP's text tower *writes*
# these rows: it is given the name of a class and answers with a vector. Change the names, and you have another classifier,
# without a step of training. The paper calls this zero-shot transfer.
#
# But a name is not what the text tower has learned from. On the web, pictures stand beside sentences, hardly ever beside a
# single word. So CLIP puts the name into a sentence, "A photo of a ...", and gains 1.3 points on ImageNet. Then it takes 80
# such sentences for each class, averages their vectors, and gains 3.5 more. Over all its 36 data sets both together are worth 5
# points, as much as four times the compute. This notebook does it by hand, asks for the reason, and finds one that is not in
# the paper.

# %%
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F

from experiments.claims import answer, load_claims, means, read_result

plt.rcParams.update({"figure.figsize": (3.5, 2.5), "figure.dpi": 150, "font.size": 8})
BLUE, ORANGE, GREEN, PURPLE, RED, SKY = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9"
claims = load_claims()  # also puts the repository's experiments/ on Python's path

# %% [markdown]
# ## 1. A CLIP to ask
#
# The CLIPs of this and the next notebooks learn from the emoji of **four artists** and are tried on artists that they have
# never seen. Two things should be said at once. The *concepts* are not new: the four have drawn a penguin, too, under the same
# name. What is new is the hand that draws it. And pictures are 16 × 16 pixels, so that a run takes minutes.
#
# Ours, for now, is small and young: the image tower is 8 wide, and it makes 250 steps. (The long runs are 16 wide and make
# 800.) Its captions are always **sentences**, in four templates. It has never been given a bare name. That is the situation of
# the real CLIP, made extreme. The training is kept in `runs/cache/`, so that a second time it takes no time.

# %%
from experiments.names import PROMPTS
from experiments.transfer import SENTENCES, UNSEEN, drawings, pretrained_clip, said, shared_features
from experiments.sweep import complete

claim = claims["clip-prompts"]
setting = complete(claim.run, {"captions": "sentences", "image_width": 8, "steps": 250})
model = pretrained_clip(setting, 100)  # 100: no seed of a verdict
print(f"{sum(p.numel() for p in model.parameters()):,} parameters; its captions:", *SENTENCES, sep="\n  ")

# %% [markdown]
# The questions are drawings by **twemoji**. Which of 1,914 names (all those that say no skin tone) belongs to each? Flags are
# left out: the four artists drew no country's flag, so these CLIPs have never seen one.

# %%
# NBVAL_CHECK_OUTPUT
from experiments.emoji import names_without_tones, tokenised

pairs = drawings("twemoji")
pairs = pairs.select(torch.tensor([group != "flags" for group in pairs.metadata["group"]]))
places = names_without_tones()  # where these names are in the list of all, long [C]
names = [pairs.class_names[i] for i in places]
labels = torch.searchsorted(places, pairs.labels)  # [N], into names
print(f"{len(labels):,} drawings, {len(names):,} names, chance {1 / len(names):.2%}; one of them: {names[labels[0]]}")

# %% [markdown]
# ## 2. A classifier out of names
#
# **By hand** it is five lines. Write the prompts. Let the text tower turn each into a unit vector; these are the weights of the
# classifier. Let the image tower turn each picture into one. Multiply. The largest product is the answer. Neither temperature
# nor softmax is needed, since they do not change which one is largest.

# %%
from minclip.data import plain
from minclip.zero_shot import classify, embed_images, top_k_accuracy, zero_shot_weights

tokenizer = tokenised()[0]
with torch.no_grad():
    ids = tokenizer([f"a drawing of {name}" for name in names], 24)  # [C, L]
    weights = F.normalize(model.text_projection(model.text_tower(ids)), dim=1)  # [C, D]
    features = F.normalize(model.image_projection(model.image_tower(plain(pairs.images, 16))), dim=1)  # [N, D]
    scores = features @ weights.T  # [N, C]
    right = scores.argmax(1) == labels

# %% [markdown]
# The package has a function for each part, and must give the same. (Its batches are smaller, so the last digits may differ.)

# %%
rows = zero_shot_weights(model, tokenizer, names, ["a drawing of {}"])  # [C, D]
package = classify(embed_images(model, pairs.images, 16), rows)  # [N, C]
assert torch.allclose(package, scores, atol=1e-5)
assert abs(top_k_accuracy(package, labels, 1) - right.double().mean()) < 2e-3
print(f"top-1 {right.double().mean():.1%}, {right.double().mean() * len(names):.0f} times chance")

# %% [markdown]
# ## 3. Many prompts, one vector
#
# With several prompts for each class one could classify once with each, and average the **probabilities**. That is the ensemble
# that one knows from elsewhere. CLIP instead averages the **embeddings**, and normalises the mean: each class has one vector
# again. Here are eight prompts, both ways.

# %%
with torch.no_grad():
    prompts = torch.stack([said(model, [template.format(name) for name in names]) for template in PROMPTS["ensemble"]])
    mean = prompts.mean(0)  # [T, C, D] -> [C, D]
    ensemble = F.normalize(mean, dim=1)
    each = features @ prompts.mT  # [T, N, C], scores of the eight classifiers
    t = model.logit_scale.exp()  # 1 / temperature
    by_embedding = (t * features @ ensemble.T).softmax(1)  # [N, C]
    by_probability = (t * each).softmax(2).mean(0)
assert torch.allclose(zero_shot_weights(model, tokenizer, names, PROMPTS["ensemble"]), ensemble, atol=1e-5)

# %% [markdown]
# What does the mean of embeddings compute? The product with a mean is the mean of the products, so before it is normalised it
# gives the **mean of the eight scores**. Exponentiated, that is the geometric mean of the eight probabilities (up to a constant
# for each picture), where the other way takes the arithmetic one: a template that is sure of a *no* has a veto. Normalising
# divides by the length of the mean, which is below one where prompts disagree. The first assertion says this; then come the
# differences.

# %%
assert torch.allclose(features @ ensemble.T * mean.norm(dim=1), each.mean(0), atol=1e-5)
print(f"{len(prompts)} vectors a class become one; the mean's length is {mean.norm(dim=1).mean():.2f}")
for what, p in {"embeddings": by_embedding, "probabilities": by_probability}.items():
    print(f"mean of {what:14s} top-1 {top_k_accuracy(p, labels, 1):.1%}, surest answer {p.amax(1).mean():.1%} sure")
differ = (by_embedding.argmax(1) != by_probability.argmax(1)).double().mean()
print(f"another answer for {differ:.0%} of the pictures")
print(f"largest difference of a probability {(by_embedding - by_probability).abs().max():.2f}")

# %% [markdown]
# So the two are not the same, by far, and in our run the embeddings were not the better ones. (A longer run, 16 wide with 800
# steps and seed 100, has 26.3 % by embeddings, 30.3 by probabilities and 30.4 with one template.) Some of our eight templates
# are bad, as we shall see, and a bad one does more harm where it has a veto. Why average embeddings, then? Because it is
# **free**. The mean is taken once. After that, 80 prompts cost as much as one: one vector to keep for each class, one product
# for each picture. With probabilities it is 80 of both. The paper gives this reason and no other.
#
# ## 4. Several names
#
# The same mean serves a class that has several names, such as *sofa* and *couch*. It even serves a class that has no good name.
# Unicode sorts emoji into subgroups; "av symbol" is one, and nobody would say it of a picture. But one may say what is in it:
# "play button", "fast-forward button" and so on. A class of this kind is a list of names, and its weights are the mean of them
# all.
#
# There are 23 subgroups with enough drawings. A part of each one's concepts is for the test, and the names of other concepts
# describe it.

# %%
from experiments.transfer import exam, subgroups

groups = subgroups(0)
images, truth = exam("twemoji", groups.concepts["test"], groups.labels["test"])  # of other concepts than the names
group_features = shared_features(model, images)  # [N, D]
one_name = [kind.replace("-", " ") for kind in groups.classes]
for what, own in {"its own name": one_name, "names of members": groups.names}.items():
    group_scores = classify(group_features, zero_shot_weights(model, tokenizer, own, SENTENCES))  # [N, 23]
    print(f"{what:18s} top-1 of {len(own)} {top_k_accuracy(group_scores, truth, 1):.1%}")

# %% [markdown]
# Not one label was used, only other words. But mind what kind of difference this is: the members' names were captions in
# training, and "av symbol" never was. This is polysemy's little brother. The paper's example is ImageNet, where "crane" is a
# machine *and* a bird, and a text tower that is given nothing but the word cannot know which.
#
# ## 5. Ways to count
#
# **Top-k** asks whether the right class is among the k best. **Accuracy by class** is what it says, and its mean, **balanced
# accuracy**, counts each class alike. If one class has half of the pictures, a classifier that always says its name has a top-1
# of 50 % and a balanced accuracy of one over the number of classes. The **confusion matrix** has a row for each true class and
# says what its pictures were called. Seven pictures can be checked on paper:

# %%
# NBVAL_CHECK_OUTPUT
from minclip.zero_shot import balanced_accuracy, confusion_matrix, per_class_accuracy

true, called = torch.tensor([0, 0, 0, 0, 1, 1, 2]), torch.tensor([0, 0, 0, 1, 1, 0, 2])
table = confusion_matrix(called, true, 3)
print(table)
print("top-1", f"{(true == called).double().mean():.3f}", "by class", per_class_accuracy(called, true, 3).tolist())
assert table.diag().sum() == 5 and torch.equal(table.diag() / table.sum(1), per_class_accuracy(called, true, 3).float())
assert balanced_accuracy(called, true, 3) == (3 / 4 + 1 / 2 + 1) / 3

# %% [markdown]
# And now our classifier of 23 subgroups, with the names of members. Rows are divided by their sums, so the diagonal is the
# accuracy by class. If errors were blind, all else would be evenly pale. Look for dark places beside the diagonal.

# %% alt="A confusion matrix as a heat map: the true subgroup of each picture in 23 rows, what it was called in 23 columns, coloured by the share of the row in percent. The diagonal is dark for time, heart and alphanum; several families and persons are dark elsewhere."
answers = group_scores.argmax(1)
print(*(f"top-{k} {top_k_accuracy(group_scores, truth, k):.1%}  " for k in (1, 3)), end="")
print(f"balanced {balanced_accuracy(answers, truth, len(groups.classes)):.1%}")
matrix = confusion_matrix(answers, truth, len(groups.classes))
plt.figure(figsize=(5.4, 4.7), layout="constrained")
plt.imshow(100 * matrix / matrix.sum(1, keepdim=True), cmap="Blues", vmin=0, vmax=100)
plt.xticks(range(len(groups.classes)), groups.classes, fontsize=6, rotation=90)
plt.yticks(range(len(groups.classes)), groups.classes, fontsize=6)
plt.xlabel("called"), plt.ylabel("true subgroup"), plt.colorbar(label="share of the subgroup (%)")
plt.show()

# %% [markdown]
# Numbers do not tell why. So the package draws the pictures behind the most frequent confusions: what they are, what they were
# called, and how often.

# %% alt="Five rows of small drawings, the most frequent confusions: for example roles of persons that were called gestures, eight times, and mammals that were called tools, five times."
from IPython.display import display

from experiments.confusions import plot_confusions

display(plot_confusions(images, truth, answers, groups.classes, count=5, notice="Pictures: Twemoji, CC BY 4.0"))

# %% [markdown]
# In our run, persons were taken for other kinds of persons and for faces, and families for buttons of a player: twemoji draws
# its families as white signs on a blue square. So far, one sees why. Mammals that were called tools are plain errors of a small
# model. The sheet shows what the CLIP was shown, 16 × 16 pixels.
#
# ## 6. Search, with several captions
#
# Naming picks a class for a picture. **Retrieval** ranks a gallery for a query, in both directions. In Flickr30k and COCO each
# picture has five captions, and the definition has to say what counts. CLIP's, and ours: a picture counts if *any* of its
# captions is among the k best of all; a caption counts if its one picture is. By hand, with two loops:

# %%
from minclip.retrieval import image_text_recall


def recall_by_hand(image_features, text_features, owner, k):
    similarity = image_features @ text_features.T  # [N, T]; text j belongs to picture owner[j]
    found = [(owner[row.topk(k).indices] == i).any() for i, row in enumerate(similarity)]
    back = [(row.topk(k).indices == owner[j]).any() for j, row in enumerate(similarity.T)]
    share = lambda hits: torch.tensor(hits).double().mean().item()  # noqa: E731
    return {f"image_to_text@{k}": share(found), f"text_to_image@{k}": share(back)}


# %% [markdown]
# The gallery: 200 drawings by fxemoji, with their names in one template, and then in all four.

# %%
near = drawings("fxemoji").select(torch.tensor([group != "flags" for group in drawings("fxemoji").metadata["group"]]))
gallery = shared_features(model, near.images[:200])  # [N, D]
for templates in (SENTENCES[:1], SENTENCES):
    captions = [s.format(near.class_names[i]) for i in near.labels[:200].tolist() for s in templates]
    texts = said(model, captions)  # [T, D]
    owner = torch.arange(200).repeat_interleave(len(templates))  # [T]
    package = image_text_recall(gallery, texts, owner, ks=(1, 5))
    print(f"{len(templates)} a picture:", *(f"{key} {value:.1%}  " for key, value in package.items()))
    for k in (1, 5):
        assert recall_by_hand(gallery, texts, owner, k).items() <= package.items()

# %% [markdown]
# Look at image to text, at 5. With four captions a picture has four chances, and yet the number *falls*. The four captions of a
# wrong picture say the same thing four times and stand side by side, so the five best places hold two pictures instead of five.
# Recall at k depends on how many captions the gallery has. It can be compared between models, never between data sets.
#
# ## 7. The experiment, in small
#
# Now the claim's own run, with the small CLIP: three unseen artists, and six ways to say a name. **Bare** is the name. **One**
# is the first template, **known** are the four of the training, **new** are four others, **ensemble** is all eight, and **with
# bare** is these and the bare name. Bare is the baseline. The **negative control** is *one* with its weights dealt out anew
# among the names.

# %%
from experiments.names import NEW_SENTENCES, top_1

live = claim.run(setting, 100)  # the CLIP is the one of section 1
shuffled = weights[torch.randperm(len(names), generator=torch.Generator().manual_seed(0))]
control = {artist: top_1(model, drawings(artist), shuffled, places) for artist in UNSEEN}
print("the new ones:", *NEW_SENTENCES, sep="\n  ")
print(f"{'top-1':12s}", *(f"{artist:>9s}" for artist in UNSEEN))
for prompt in PROMPTS:
    print(f"{prompt:12s}", *(f"{live[f'{prompt}_{artist}']:9.1%}" for artist in UNSEEN))
print(f"{'control':12s}", *(f"{share:9.1%}" for share in control.values()))

# %% [markdown]
# A sentence is worth much more than in the paper: twice the accuracy, for a CLIP that knows nothing but sentences. The four
# known ones together are as good as one of them. And the new ones are *bad*, half as good as the known ones, so that an
# ensemble with them in it is worse than one template. Why should "a photo of the" do worse than "a drawing of"?
#
# ## 8. Is it the sentence?
#
# Here is a suspicion. The text tower adds to each token a vector for its **place**. In the four templates of the training, a
# name begins after three, five or six tokens. It never stood at the beginning. So perhaps the bare name is not too bare but in
# the wrong place, and the words before it do not matter. A **control for the template** is then a sentence that says nothing:
# "of of of ..." before the name, so many times.


# %%
def asked(template):
    return top_k_accuracy(classify(features, zero_shot_weights(model, tokenizer, names, [template])), labels, 1)


def tokens_before(template):
    return int((tokenizer([template.split("{}")[0].strip()], 24) > 2).sum())  # 0, 1, 2: padding, start, end


silly = [100 * asked("of " * n + "{}") for n in range(9)]
nouns = asked("red cat house {}")

# %% alt="A line chart: top-1 accuracy on twemoji in percent against the number of tokens before the name. Repeating the word of, the line jumps from 4 to 9 percent at three tokens and stays there. Known templates and three meaningless nouns lie on it, most new templates far below."
plt.plot(silly, "o-", color="gray", ms=3, lw=1, label="of, repeated")
for kind, templates, color, mark in (("known", SENTENCES, BLUE, "s"), ("new", NEW_SENTENCES, ORANGE, "^")):
    at = [tokens_before(template) for template in templates]
    plt.plot(at, [100 * asked(s) for s in templates], mark, color=color, ms=5, mfc="none", label=f"{kind} templates")
plt.plot(3, 100 * nouns, "x", color=RED, label="red cat house ...")
plt.xlabel("tokens before the name"), plt.ylabel("top-1, twemoji (%)"), plt.ylim(0, None)
plt.legend(fontsize=6, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)  # above, over no point
plt.show()

# %% [markdown]
# The suspicion is right. Three times "of" is as good as "a drawing of", and so is "red cat house": it is enough that the name
# begins at the fourth place or later, where names have stood in training. Before that, "of" and "of of" are about as bad as
# none. Of the new templates the good one, "the symbol for ...", puts three tokens before it. Two bad ones put none and two, and
# more words after it. The last, "a photo of the ...", puts seven, and fails by its "the". In training "of" is in three of the
# four templates, and "the" only within names. So the tower has learned two things: the first three places say nothing, and
# neither do the words of templates. All else is read as a part of a name. (The longer run of section 3 has it at 30 %: "red cat
# house" 30.0, "a drawing of" 30.4, the bare name 5.1.)
#
# So what helps *here* is not that a sentence tells the tower what kind of text this is. This tower has one layer and has seen
# four templates. The real one has twelve layers and has seen millions of sentences, with names everywhere. So this does not
# show that the paper's 1.3 points have the same cause. What it shows is that a template should be **tested against a
# meaningless one** before it is explained.
#
# ## 9. Figure 4, and the long runs
#
# The paper's Figure 4 has compute on its x axis and two lines, bare names and ensembles, five points apart. We have one width,
# so our x axis are the prompts. The left panel is the CLIP that learned sentences. The right one learned the usual mix: a third
# of its captions are bare names, a third "a drawing of ...", a third names with keywords. Bars are 95 % intervals over five
# seeds; the stars are the live CLIP, smaller and shorter trained, on twemoji.

# %%
records = {id: read_result(id) for id in ("clip-prompts", "clip-fine-grained")}


def draw_prompts(ax, captions):
    for artist, color, mark in zip(UNSEEN, (BLUE, ORANGE, GREEN), "os^"):
        columns = [means(records["clip-prompts"], [captions], f"{prompt}_{artist}") for prompt in PROMPTS]
        y, error = ([100 * column[part][0] for column in columns] for part in (0, 1))
        ax.errorbar(range(len(PROMPTS)), y, error, fmt=f"{mark}-", ms=4, lw=1, capsize=2, color=color, label=artist)
    ax.set(title=f"captions in training: {captions}", xlabel="prompts", ylim=(0, None))
    ax.set_xticks(range(len(PROMPTS)), [prompt.replace("_", "\n") for prompt in PROMPTS])


# %% alt="Two line charts with error bars: zero-shot top-1 accuracy in percent for six sets of prompts and three unseen artists. Trained on sentences, bare names are worst and one template or the known ones best. Trained on mixed captions, bare names and one template are best."
figure, (left, right_panel) = plt.subplots(1, 2, figsize=(7, 2.5), layout="constrained", sharey=True)
draw_prompts(left, "sentences"), draw_prompts(right_panel, "mixed")
stars = [100 * live[f"{prompt}_twemoji"] for prompt in PROMPTS]
left.plot(stars, "k*", ms=7, mfc="white", label="twemoji, live")
left.set_ylabel("zero-shot top-1 of 1,914 (%)")
figure.legend(*left.get_legend_handles_labels(), loc="outside right", frameon=False)
plt.show()

# %% [markdown]
# On the left, all artists say the same. Bare names are at the bottom: 4.0 % in the mean of the three. One template gives 23.0,
# the four known ones 23.1, all eight 19.7, and the four new ones alone 10.6. On the right is a CLIP that has met bare names and
# "a drawing of ...", and these two are level (22.2 and 22.5 %). Everything else is half as good: 10.5 for the four templates,
# of which *this* CLIP has met only the first, and 11.1 for all eight.
#
# **Asked:** for the CLIP of sentences, is the mean of eight above bare names, and above one template, each by more than a
# point?

# %%
print(claims["clip-prompts"].rule)
print(answer(claims["clip-prompts"], records["clip-prompts"]))  # raises an error if the verdict does not follow

# %% [markdown]
# **Not at this scale.** One half holds, the other is turned round. Eight templates are 15.7 points above bare names. But they
# are 3.3 points *below* one template, in all five seeds. An average gains if its members are about equally good and err
# differently. Our four known templates are the same to the tower, so their mean changes nothing (+0.2 points), and the four new
# ones are half as good, so they spoil it. With a mean of probabilities, to judge by section 3, they would have spoiled less.
# To a tower that has read the web, none of 80 templates is new. With mixed captions a template gives nothing (+0.3) and the
# ensemble costs 11 points.
#
# What one may take along: a prompt should look like what the text tower was trained on. **If a third of the captions are bare
# names, a bare name is a good prompt**, and an ensemble of sentences that it never met is a bad one. The limits: one layer of
# text tower, one width, names that all occurred in training, 16 pixels, and eight templates written down once, where CLIP's
# were found by trial.
#
# ## 10. Where zero-shot is weak
#
# The paper's Figure 5 puts zero-shot beside a probe, on 27 data sets ([16 · Probes and few shots](16_probes_and_few_shots.ipynb) does that). Zero-shot
# is weak on some: kinds of aircraft (11 points behind), counting (18 behind). Section 6 says it in words: fine-grained,
# abstract, systematic tasks. We ask this more directly. Each drawing is named twice. Once among its **twins**, the names of its
# family: 24 clock faces, hearts of all kinds, families by their members. Once among as many **others**, drawn from names of
# other subgroups. Picture, text and chance are the same; only the rivals differ. By hand, for hearts and the live CLIP:

# %%
from experiments.names import FAMILIES, picked

hearts = [picked(artist, FAMILIES["heart"]) for artist in UNSEEN]
own = torch.cat([part.labels for part in hearts])  # [N]
members = own.unique()  # [R], the names that compete
vectors = said(model, [hearts[0].class_names[i] for i in members])  # [R, D]
best = members[(shared_features(model, torch.cat([part.images for part in hearts])) @ vectors.T).argmax(1)]
by_hand = (best == own).double().mean().item()
assert abs(by_hand - live["twins_heart"]) < 0.03  # one heart may tip over
print(f"{len(own)} hearts among {len(members)} names: {by_hand:.0%}; among as many others: {live['others_heart']:.0%}")

# %% [markdown]
# The long run is a CLIP 32 wide, with mixed captions, so it may be asked with bare names. Families stand in the order of what
# is lost among twins. The short black line on each pair of bars is chance, one over the size of the family. Stars are the live
# CLIP. It is at a disadvantage, since it is asked with bare names, too.

# %%
record = records["clip-fine-grained"]
sizes = {f: len(torch.cat([picked(a, belongs).labels for a in UNSEEN]).unique()) for f, belongs in FAMILIES.items()}
sizes["tone"] = 5  # of skin
(name,) = record["settings"]
found = {(w, f): means(record, [name], f"{w}_{f}") for w in ("twins", "others") for f in sizes}  # means, half intervals
order = sorted(sizes, key=lambda f: found["twins", f][0][0] - found["others", f][0][0])
bars = {w: [[100 * found[w, f][part][0] for f in order] for part in (0, 1)] for w in ("twins", "others")}
ticks, chance = [f"{f}\n{sizes[f]}" for f in order], [100 / sizes[f] for f in order]

# %% alt="Pairs of bars with error bars for ten families of names: share of drawings named rightly, in percent, among twins and among other names. Among twins it is far lower for clocks, arrows, hearts and faces, and little lower for squares and the moon. Chance is a short line on each pair."
figure, ax = plt.subplots(figsize=(7, 2.8), layout="constrained")
for which, beside, color, star in (("twins", -0.2, ORANGE, None), ("others", 0.2, BLUE, "live")):
    x = [place + beside for place in range(len(order))]
    ax.bar(x, bars[which][0], 0.38, yerr=bars[which][1], color=color, capsize=2, label=f"among {which}")
    ax.plot(x, [100 * live[f"{which}_{f}"] for f in order], "k*", ms=5, mfc="white", label=star)
ax.errorbar(range(len(order)), chance, xerr=0.45, fmt="none", color="k", elinewidth=1, label="chance")
ax.set(xlabel="family, and its number of names", ylabel="named rightly (%)", ylim=(0, 112))
ax.set_xticks(range(len(order)), ticks)
figure.legend(*ax.get_legend_handles_labels(), loc="outside right", frameon=False)
plt.show()

# %% [markdown]
# The larger the gap within a pair, the more the rivals matter. A clock is always known to be a clock: among 23 strangers no
# drawing is named wrongly. Which hour it shows is known for a quarter of them (27 %, chance is 4). With hearts it is 97 against
# 57 %, with faces 63 against 25, and of five skin tones the right one is found for 45 % of the people, where strangers are told
# apart in 85 %. Squares and circles lose less (96 and 75 %): most of their twins are of another colour, and colour is what such
# a tower learns first. The phases of the moon are told apart, too (85 %).

# %%
print(claims["clip-fine-grained"].rule)
print(answer(claims["clip-fine-grained"], record))  # raises an error if the verdict does not follow

# %% [markdown]
# **Reproduced.** In the mean of all families, twins cost 32.5 points, where something has to be counted or read 44.6, and for
# skin tones 39.4, in each of three seeds. Two families do not fit, and both say more about the family than about twins. The *moon*
# family is inconclusive (7 points, with an interval of 28 to each side): dark and light parts of a disc that fills the picture
# survive 16 pixels, and *moon cake* and *moon viewing ceremony* are no twins. *Flags* are at the floor on both sides. The four
# artists of the training drew no country's flag, so neither picture nor name was ever learned; leaving them in makes the mean
# smaller, not larger.
#
# Know what is built in. **Chance is the same, the difficulty is not**: to tell a clock from a strawberry is easy for anything
# that sees, so some gap there must be, and a margin of ten points allows only for a part of it. Pictures of 16 pixels have
# hardly a hand on the clock, nor the children of a family, so a part of the loss is **resolution**, and not language. Skin
# tones have a reason of their own: no batch holds two tones of one concept, so none was ever another's negative in training. That
# they are found in 45 % all the same, and not in 20, is probably due to other people in the batch, who have other tones. And
# families have few drawings (26 keycaps, 32 squares), so a single family's bar is rough.
#
# ## 11. The check
#
# Classifier, ensemble, confusion matrix and recall were compared by hand above, and both claims have been judged anew by their
# rules. For the live CLIP only wide bounds are asserted. It has learned something, and its shuffled weights have not. A
# template that puts the name where names have stood is better than none, *whatever it says*. And twins are harder than
# strangers.

# %%
score = {prompt: sum(live[f"{prompt}_{artist}"] for artist in UNSEEN) / 3 for prompt in PROMPTS}
assert score["one"] > 0.02 > 0.006 > sum(control.values()) / 3
assert score["one"] > 1.3 * score["bare"] and score["known"] > 1.3 * score["new"]
assert silly[3] > 1.3 * silly[0] and nouns > 1.3 * asked("{}")
assert live["twins_clock"] < live["others_clock"] - 0.2 and live["twins_heart"] < live["others_heart"] - 0.2

# %% [markdown]
# ## 12. Try it yourself
#
# - In section 3, take `PROMPTS["known"]` instead of `PROMPTS["ensemble"]`. Without bad templates the two ways to average
#   come together, and the mean is nearly one long: to this tower the four say the same.
# - In section 4, ask with your own words: replace one of `one_name`, "av symbol" say, by a list of names such as
#   `["play button", "pause button"]`. Two good names, or seventeen?
# - In section 8, ask with "cat cat cat {}" and with "{} cat cat cat". Which name does the tower read?
# - In section 8, in `silly`, take "the " instead of "of ". The word matters after all; the tower has read it only within names.
#   Then compare "a photo of {}" with "a photo of the {}".
# - In section 1, train with `"captions": "mixed"`. Where do "of of of" and the bare name stand now?
#
# **Next.** Words have picked out what a picture shows, without a label. How many labelled pictures are they worth, and what do
# the features hold that the names do not point at? [16 · Probes and few shots](16_probes_and_few_shots.ipynb). Before:
# [14 · What a run costs](14_what_a_run_costs.ipynb).
