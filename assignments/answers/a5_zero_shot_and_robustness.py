# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Wrong answers to A5, and right ones written differently
#
# Each made-up student hands in the right solution but for the cells below. Wrong ones must lose points in the exercise that they
# got wrong, right ones must have full marks (`tests/test_assignments.py`).

# %% [markdown]
# ## raw_prompts
#
# Forgot that prompts have different lengths: the longest one has the most votes. The result has length one, so it looks right.

# %% student="raw_prompts" replaces="class_weights"
def class_weights(text_features: torch.Tensor) -> torch.Tensor:
    mean = text_features.mean(dim=0)
    return mean / mean.norm(dim=-1, keepdim=True)


# %% [markdown]
# ## mean_of_units
#
# Normalised every prompt, took the mean, and thought that a mean of unit vectors is one.

# %% student="mean_of_units" replaces="class_weights"
def class_weights(text_features: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(text_features, dim=-1).mean(dim=0)


# %% [markdown]
# ## default_axis
#
# Used `normalize` without saying the axis. It takes axis 1, and that is the classes of `[T, C, D]`.

# %% student="default_axis" replaces="class_weights"
def class_weights(text_features: torch.Tensor) -> torch.Tensor:
    prompts = torch.nn.functional.normalize(text_features)
    return torch.nn.functional.normalize(prompts.mean(0))


# %% [markdown]
# ## first_template
#
# Took one prompt for each class. One is as good as four, and it has length one.

# %% student="first_template" replaces="class_weights"
def class_weights(text_features: torch.Tensor) -> torch.Tensor:
    return text_features[0] / text_features[0].norm(dim=-1, keepdim=True)


# %% [markdown]
# ## constant
#
# Found out what the check wants, and returns it.

# %% student="constant" replaces="class_weights"
def class_weights(text_features: torch.Tensor) -> torch.Tensor:
    return torch.tensor([[0.7071, 0.7071], [0.0, 1.0]])


# %% student="constant" replaces="effective_robustness"
def effective_robustness(home, away, reference_home, reference_away):
    return torch.tensor([0.1167, 0.0])


# %% [markdown]
# ## long_pictures
#
# The order of the names is right, so the pictures were not normalised; but then the scores are no cosines.

# %% student="long_pictures" replaces="best_names"
def best_names(image_features, weights, k):
    cosines, classes = (image_features @ weights.T).topk(k, dim=1)
    return cosines, classes


# %% [markdown]
# ## best_pictures
#
# Looked for the best along the wrong axis: the pictures of each name instead of the names of each picture.

# %% student="best_pictures" replaces="best_names"
def best_names(image_features, weights, k):
    pictures = torch.nn.functional.normalize(image_features, dim=1)
    cosines, pictures = (pictures @ weights.T).topk(min(k, len(pictures)), dim=0)
    return cosines.T, pictures.T


# %% [markdown]
# ## probabilities
#
# Put a softmax on top, as in training. The order stays, the cosines are gone.

# %% student="probabilities" replaces="best_names"
def best_names(image_features, weights, k):
    pictures = torch.nn.functional.normalize(image_features, dim=1)
    cosines, classes = (pictures @ weights.T).softmax(dim=1).topk(k, dim=1)
    return cosines, classes


# %% [markdown]
# ## kth_alone
#
# Asks whether the right class is *at* place k, and not whether it is at one of the places up to k. For k = 1 this is right.

# %% student="kth_alone" replaces="top_k_accuracy"
def top_k_accuracy(scores: torch.Tensor, labels: torch.Tensor, k: int) -> float:
    best = scores.topk(k, dim=1).indices
    return (best[:, k - 1] == labels).double().mean().item()


# %% [markdown]
# ## mean_of_all_places
#
# Compares all k places and takes the mean over everything: each picture then counts k times, and at most one of k is right.

# %% student="mean_of_all_places" replaces="top_k_accuracy"
def top_k_accuracy(scores: torch.Tensor, labels: torch.Tensor, k: int) -> float:
    best = scores.topk(k, dim=1).indices
    return (best == labels[:, None]).double().mean().item()


# %% [markdown]
# ## wrong_way
#
# Looked down the columns, for the best pictures of each class, and then compared rows.

# %% student="wrong_way" replaces="top_k_accuracy"
def top_k_accuracy(scores: torch.Tensor, labels: torch.Tensor, k: int) -> float:
    best = scores.topk(min(k, len(scores)), dim=0).indices
    found = [i in best[:, c].tolist() for i, c in enumerate(labels.tolist())]
    return sum(found) / len(found)


# %% [markdown]
# ## flags_counted
#
# Read past the flags, in the accuracy of the splits and in the total.

# %% student="flags_counted" replaces="accuracy_by_split"
def accuracy_by_split(right, split, flag, n_splits):
    right = right.double()
    return torch.stack([*(right[split == s].mean() for s in range(n_splits)), right.mean()])


# %% [markdown]
# ## flags_called_wrong
#
# Took the flags out of the right ones, but divided by all pictures: each flag is now an error.

# %% student="flags_called_wrong" replaces="accuracy_by_split"
def accuracy_by_split(right, split, flag, n_splits):
    right = (right & ~flag).double()
    return torch.stack([*(right[split == s].mean() for s in range(n_splits)), right.mean()])


# %% [markdown]
# ## mean_of_splits
#
# The total is the mean of the splits, whatever their sizes.

# %% student="mean_of_splits" replaces="accuracy_by_split"
def accuracy_by_split(right, split, flag, n_splits):
    each = torch.stack([right[(split == s) & ~flag].double().mean() for s in range(n_splits)])
    return torch.cat([each, each.mean()[None]])


# %% [markdown]
# ## variance
#
# Forgot the root: 1.96 variances of the mean, which is far too narrow.

# %% student="variance" replaces="accuracy_interval"
def accuracy_interval(right: torch.Tensor) -> tuple[float, float, float]:
    p = right.double().mean().item()
    half = 1.96 * p * (1 - p) / len(right)
    return p, max(p - half, 0.0), min(p + half, 1.0)


# %% [markdown]
# ## one_answer
#
# Took the standard deviation of one answer, and did not divide by the root of N. The interval holds nearly everything.

# %% student="one_answer" replaces="accuracy_interval"
def accuracy_interval(right: torch.Tensor) -> tuple[float, float, float]:
    p = right.double().mean().item()
    half = 1.96 * (p * (1 - p)) ** 0.5
    return p, max(p - half, 0.0), min(p + half, 1.0)


# %% [markdown]
# ## below_zero
#
# Everything is right, but an accuracy may be less than nothing.

# %% student="below_zero" replaces="accuracy_interval"
def accuracy_interval(right: torch.Tensor) -> tuple[float, float, float]:
    p = right.double().mean().item()
    half = 1.96 * (p * (1 - p) / len(right)) ** 0.5
    return p, p - half, p + half


# %% [markdown]
# ## plain_difference
#
# Subtracted home from away. That is the drop, and a weak model has the smallest.

# %% student="plain_difference" replaces="effective_robustness"
def effective_robustness(home, away, reference_home, reference_away):
    return away - home


# %% [markdown]
# ## straight_axes
#
# Fitted the line to the accuracies as they are, without the logit.

# %% student="straight_axes" replaces="effective_robustness"
def effective_robustness(home, away, reference_home, reference_away):
    x, y = reference_home, reference_away
    slope = ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()
    return away - (y.mean() + slope * (home - x.mean()))


# %% [markdown]
# ## in_logits
#
# Everything on logit axes, the difference as well: it is no difference of accuracies.

# %% student="in_logits" replaces="effective_robustness"
def effective_robustness(home, away, reference_home, reference_away):
    x, y = torch.logit(reference_home), torch.logit(reference_away)
    slope = ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()
    return torch.logit(away) - (y.mean() + slope * (torch.logit(home) - x.mean()))


# %% [markdown]
# ## other_line
#
# Fitted home from away, and turned the line around. For points on one line it is the same, for a cloud it is steeper.

# %% student="other_line" replaces="effective_robustness"
def effective_robustness(home, away, reference_home, reference_away):
    x, y = torch.logit(reference_home), torch.logit(reference_away)
    slope = (y - y.mean()).square().sum() / ((x - x.mean()) * (y - y.mean())).sum()
    return away - torch.sigmoid(y.mean() + slope * (torch.logit(home) - x.mean()))


# %% [markdown]
# ## everybody
#
# Fitted the line through all models, those in question, too, so that they are compared with themselves.

# %% student="everybody" replaces="effective_robustness"
def effective_robustness(home, away, reference_home, reference_away):
    x = torch.logit(torch.cat([home, reference_home]))
    y = torch.logit(torch.cat([away, reference_away]))
    slope = ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()
    return away - torch.sigmoid(y.mean() + slope * (torch.logit(home) - x.mean()))


# %% [markdown]
# ## special_case
#
# Wrote what the checks need: two best names, two splits, and odds that fall to a third.

# %% student="special_case" replaces="best_names"
def best_names(image_features, weights, k):
    pictures = image_features / image_features.norm(dim=1, keepdim=True)
    return tuple((pictures @ weights.T).topk(2, dim=1))


# %% student="special_case" replaces="accuracy_by_split"
def accuracy_by_split(right, split, flag, n_splits):
    kept, second = right[~flag].double(), split[~flag] == 1
    return torch.stack([kept[~second].mean(), kept[second].mean(), kept.mean()])


# %% student="special_case" replaces="effective_robustness"
def effective_robustness(home, away, reference_home, reference_away):
    odds = home / (1 - home) / 3
    return away - odds / (1 + odds)


# %% [markdown]
# ## edited_test
#
# Has no time for the interval, returns nothing of use, and empties the test.

# %% student="edited_test" replaces="accuracy_interval"
def accuracy_interval(right: torch.Tensor) -> tuple[float, float, float]:
    return 0.5, 0.0, 1.0


# %% student="edited_test" replaces="accuracy_interval_hidden"
pass

# %% [markdown]
# ## right_with_loops
#
# Right: one class and one prompt after another.

# %% student="right_with_loops" replaces="class_weights" right=true
def class_weights(text_features: torch.Tensor) -> torch.Tensor:
    rows = []
    for c in range(text_features.shape[1]):
        total = torch.zeros_like(text_features[0, c])
        for prompt in text_features[:, c]:
            total = total + prompt / (prompt @ prompt).sqrt()
        rows.append(total / (total @ total).sqrt())
    return torch.stack(rows)


# %% student="right_with_loops" replaces="best_names" right=true
def best_names(image_features, weights, k):
    cosines, classes = [], []
    for picture in image_features:
        row = weights @ picture / (picture @ picture).sqrt()
        best = row.argsort(descending=True)[:k]
        cosines.append(row[best])
        classes.append(best)
    return torch.stack(cosines), torch.stack(classes)


# %% [markdown]
# ## right_by_rank
#
# Right: counts how many classes beat the right one, and works with float32 shares.

# %% student="right_by_rank" replaces="top_k_accuracy" right=true
def top_k_accuracy(scores: torch.Tensor, labels: torch.Tensor, k: int) -> float:
    own = scores.gather(1, labels[:, None])
    return ((scores > own).sum(dim=1) < k).float().mean().item()


# %% student="right_by_rank" replaces="accuracy_by_split" right=true
def accuracy_by_split(right, split, flag, n_splits):
    counted = (~flag).float()
    hits = torch.bincount(split, counted * right, minlength=n_splits)
    of = torch.bincount(split, counted, minlength=n_splits)
    return torch.cat([hits / of, (hits.sum() / of.sum())[None]])


# %% [markdown]
# ## right_with_numpy
#
# Right: numpy's polynomial of degree one, and arrays instead of tensors.

# %% student="right_with_numpy" replaces="effective_robustness" right=true
def effective_robustness(home, away, reference_home, reference_away):
    odds = lambda p: np.log(p.numpy() / (1 - p.numpy()))
    slope, intercept = np.polyfit(odds(reference_home), odds(reference_away), 1)
    return away - torch.from_numpy(1 / (1 + np.exp(-(intercept + slope * odds(home)))))


# %% student="right_with_numpy" replaces="accuracy_interval" right=true
def accuracy_interval(right: torch.Tensor) -> tuple[float, float, float]:
    answers = right.numpy().astype(np.float32)
    error = answers.std() / len(answers) ** 0.5
    low, high = np.clip([answers.mean() - 1.96 * error, answers.mean() + 1.96 * error], 0, 1)
    return float(answers.mean()), float(low), float(high)
