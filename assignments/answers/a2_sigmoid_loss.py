# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A2 · What students hand in
#
# Made-up answers to `py/a2_sigmoid_loss.py`: each replaces one cell (or more) of the right solution. Every wrong one must lose points, every right one
# must get full marks. For the tests of the tests, and to read: these are the mistakes that people make.

# %%
import math

import torch
import torch.nn.functional as F

# %% [markdown]
# # Exercise 1
#
# ## diagonal_negative
# Turned around: the right pairs get -1.

# %% student="diagonal_negative" replaces="signs"
def signs(batch_size):
    return 1 - 2 * torch.eye(batch_size)


# %% [markdown]
# ## zeros_and_ones
# Labels as in other lessons on classification: 1 for yes and 0 for no.

# %% student="zeros_and_ones" replaces="signs"
def signs(batch_size):
    return torch.eye(batch_size)


# %% [markdown]
# ## always_three
# Has filled in the table of the visible check, and forgot the argument.

# %% student="always_three" replaces="signs"
def signs(batch_size):
    return 2 * torch.eye(3) - 1


# %% [markdown]
# # Exercise 2
#
# ## log_of_sigmoid
# The formula as it stands on paper. It underflows to minus infinity.

# %% student="log_of_sigmoid" replaces="log_sigmoid"
def log_sigmoid(x):
    return torch.log(torch.sigmoid(x))


# %% [markdown]
# ## small_number
# Knows that log(0) is trouble and adds a small number, as it is often seen. Below a score of about -18 the value is wrong.

# %% student="small_number" replaces="log_sigmoid"
def log_sigmoid(x):
    return torch.log(torch.sigmoid(x) + 1e-8)


# %% [markdown]
# ## both_branches
# Right values. But both sides of `torch.where` are computed, and the one that is not taken makes the gradient NaN.

# %% student="both_branches" replaces="log_sigmoid"
def log_sigmoid(x):
    return torch.where(x > 0, -torch.log1p(torch.exp(-x)), x - torch.log1p(torch.exp(x)))


# %% [markdown]
# ## one_side_only
# Has used the formula for positive scores everywhere. It overflows for negative ones.

# %% student="one_side_only" replaces="log_sigmoid"
def log_sigmoid(x):
    return -torch.log1p(torch.exp(-x))


# %% [markdown]
# ## cut_off
# Has noticed that large scores make trouble, and does not let them in. It is patched for one number of the visible check.

# %% student="cut_off" replaces="log_sigmoid"
def log_sigmoid(x):
    return torch.where(x < -80, x, torch.log(torch.sigmoid(x.clamp(-30, 30))))


# %% [markdown]
# ## calls_the_library
# Right, but not written by the student.

# %% student="calls_the_library" replaces="log_sigmoid"
def log_sigmoid(x):
    return F.logsigmoid(x)


# %% [markdown]
# # Exercise 3
#
# ## mean_over_cells
# `.mean()` looks tidy. It divides by B², so the loss is B times too small.

# %% student="mean_over_cells" replaces="sigmoid_loss"
def sigmoid_loss(image_features, text_features, logit_scale, logit_bias):
    logits = logit_scale.exp() * F.normalize(image_features) @ F.normalize(text_features).T + logit_bias
    labels = 2 * torch.eye(len(logits)) - 1
    return -F.logsigmoid(labels * logits).mean()


# %% [markdown]
# ## bias_subtracted
# Has taken the equation displayed in section 3.2 literally.

# %% student="bias_subtracted" replaces="sigmoid_loss"
def sigmoid_loss(image_features, text_features, logit_scale, logit_bias):
    logits = logit_scale.exp() * F.normalize(image_features) @ F.normalize(text_features).T - logit_bias
    labels = 2 * torch.eye(len(logits)) - 1
    return -F.logsigmoid(labels * logits).sum() / len(logits)


# %% [markdown]
# ## exp_forgotten
# Multiplies with the logarithm of the scale.

# %% student="exp_forgotten" replaces="sigmoid_loss"
def sigmoid_loss(image_features, text_features, logit_scale, logit_bias):
    logits = logit_scale * F.normalize(image_features) @ F.normalize(text_features).T + logit_bias
    labels = 2 * torch.eye(len(logits)) - 1
    return -F.logsigmoid(labels * logits).sum() / len(logits)


# %% [markdown]
# ## not_normalised
# Products instead of cosines.

# %% student="not_normalised" replaces="sigmoid_loss"
def sigmoid_loss(image_features, text_features, logit_scale, logit_bias):
    logits = logit_scale.exp() * image_features @ text_features.T + logit_bias
    labels = 2 * torch.eye(len(logits)) - 1
    return -F.logsigmoid(labels * logits).sum() / len(logits)


# %% [markdown]
# ## columns_normalised
# Normalises along the batch. On the visible example, where each vector has one entry, nobody sees it.

# %% student="columns_normalised" replaces="sigmoid_loss"
def sigmoid_loss(image_features, text_features, logit_scale, logit_bias):
    logits = logit_scale.exp() * F.normalize(image_features, dim=0) @ F.normalize(text_features, dim=0).T + logit_bias
    labels = 2 * torch.eye(len(logits)) - 1
    return -F.logsigmoid(labels * logits).sum() / len(logits)


# %% [markdown]
# ## bias_scaled_too
# A pair of brackets in the wrong place: the bias is multiplied by the scale.

# %% student="bias_scaled_too" replaces="sigmoid_loss"
def sigmoid_loss(image_features, text_features, logit_scale, logit_bias):
    logits = logit_scale.exp() * (F.normalize(image_features) @ F.normalize(text_features).T + logit_bias)
    labels = 2 * torch.eye(len(logits)) - 1
    return -F.logsigmoid(labels * logits).sum() / len(logits)


# %% [markdown]
# ## labels_zero_one
# Labels 0 and 1 in a formula that is made for signs. A wrong pair then costs ln 2, whatever its score.

# %% student="labels_zero_one" replaces="sigmoid_loss"
def sigmoid_loss(image_features, text_features, logit_scale, logit_bias):
    logits = logit_scale.exp() * F.normalize(image_features) @ F.normalize(text_features).T + logit_bias
    return -F.logsigmoid(torch.eye(len(logits)) * logits).sum() / len(logits)


# %% [markdown]
# ## right_pairs_only
# Forgot that a wrong pair is a question, too.

# %% student="right_pairs_only" replaces="sigmoid_loss"
def sigmoid_loss(image_features, text_features, logit_scale, logit_bias):
    logits = logit_scale.exp() * F.cosine_similarity(image_features, text_features) + logit_bias
    return -F.logsigmoid(logits).mean()


# %% [markdown]
# ## each_kind_averaged
# Right pairs and wrong pairs count alike. This is a loss that one may use, but it is not Algorithm 1.

# %% student="each_kind_averaged" replaces="sigmoid_loss"
def sigmoid_loss(image_features, text_features, logit_scale, logit_bias):
    logits = logit_scale.exp() * F.normalize(image_features) @ F.normalize(text_features).T + logit_bias
    right = torch.eye(len(logits), dtype=torch.bool)
    return -F.logsigmoid(logits[right]).mean() - F.logsigmoid(-logits[~right]).mean()


# %% [markdown]
# ## softmax_again
# The loss of A1, with a bias. The bias does nothing there.

# %% student="softmax_again" replaces="sigmoid_loss"
def sigmoid_loss(image_features, text_features, logit_scale, logit_bias):
    logits = logit_scale.exp() * F.normalize(image_features) @ F.normalize(text_features).T + logit_bias
    labels = torch.arange(len(logits))
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


# %% [markdown]
# ## underflow_in_the_loss
# All right for ordinary scores, but `log(sigmoid(...))` is minus infinity for large ones.

# %% student="underflow_in_the_loss" replaces="sigmoid_loss"
def sigmoid_loss(image_features, text_features, logit_scale, logit_bias):
    logits = logit_scale.exp() * F.normalize(image_features) @ F.normalize(text_features).T + logit_bias
    labels = 2 * torch.eye(len(logits)) - 1
    return -torch.log(torch.sigmoid(labels * logits)).sum() / len(logits)


# %% [markdown]
# ## no_gradient
# Adds up Python numbers. The value is right, and nothing can be trained with it.

# %% student="no_gradient" replaces="sigmoid_loss"
def sigmoid_loss(image_features, text_features, logit_scale, logit_bias):
    total = 0.0
    for i, image in enumerate(F.normalize(image_features)):
        for j, text in enumerate(F.normalize(text_features)):
            logit = logit_scale.exp() * (image @ text) + logit_bias
            total += -F.logsigmoid(logit if i == j else -logit).item()
    return torch.tensor(total / len(image_features), requires_grad=True)


# %% [markdown]
# ## scale_detached
# `logit_scale.item()` was convenient. The value is right, but the scale would never learn.

# %% student="scale_detached" replaces="sigmoid_loss"
def sigmoid_loss(image_features, text_features, logit_scale, logit_bias):
    scale = math.exp(logit_scale.item())
    logits = scale * F.normalize(image_features) @ F.normalize(text_features).T + logit_bias
    labels = 2 * torch.eye(len(logits)) - 1
    return -F.logsigmoid(labels * logits).sum() / len(logits)


# %% [markdown]
# ## single_precision
# Converts everything to float32 "to be safe". The values agree to six digits only.

# %% student="single_precision" replaces="sigmoid_loss"
def sigmoid_loss(image_features, text_features, logit_scale, logit_bias):
    images, texts = F.normalize(image_features.float()), F.normalize(text_features.float())
    logits = logit_scale.exp() * images @ texts.T + logit_bias
    labels = 2 * torch.eye(len(logits)) - 1
    return -F.logsigmoid(labels * logits).sum() / len(logits)


# %% [markdown]
# ## constant
# Returns what the check expects.

# %% student="constant" replaces="sigmoid_loss"
def sigmoid_loss(image_features, text_features, logit_scale, logit_bias):
    return torch.tensor(0.3024)


# %% [markdown]
# ## special_case
# Has worked out the visible example: right pairs have cosine 1 and wrong ones 0. It is right for such vectors, and only for them.

# %% student="special_case" replaces="sigmoid_loss"
def sigmoid_loss(image_features, text_features, logit_scale, logit_bias):
    right = F.logsigmoid(logit_scale.exp() + logit_bias)
    return -right - (len(image_features) - 1) * F.logsigmoid(-logit_bias)


# %% [markdown]
# ## edited_test
# A loss that cannot be right, and tests that say nothing against it. The grader puts the tests back.

# %% student="edited_test" replaces="sigmoid_loss"
def sigmoid_loss(image_features, text_features, logit_scale, logit_bias):
    return (image_features * text_features).sum() * 0


# %% student="edited_test" replaces="sigmoid_loss_check"
pass

# %% student="edited_test" replaces="sigmoid_loss_hidden"
pass

# %% [markdown]
# # Exercise 4
#
# ## one_wrong_pair
# One right pair and one wrong one. It fits no batch but one of two.

# %% student="one_wrong_pair" replaces="constant_loss"
def constant_loss(batch_size, logit_bias):
    return math.log(1 + math.exp(-logit_bias)) + math.log(1 + math.exp(logit_bias))


# %% [markdown]
# ## per_cell
# Divides by all cells again.

# %% student="per_cell" replaces="constant_loss"
def constant_loss(batch_size, logit_bias):
    right, wrong = math.log(1 + math.exp(-logit_bias)), math.log(1 + math.exp(logit_bias))
    return (right + (batch_size - 1) * wrong) / batch_size


# %% [markdown]
# ## b_wrong_pairs
# Counts the right caption among the wrong ones.

# %% student="b_wrong_pairs" replaces="constant_loss"
def constant_loss(batch_size, logit_bias):
    return math.log(1 + math.exp(-logit_bias)) + batch_size * math.log(1 + math.exp(logit_bias))


# %% [markdown]
# ## sum_not_divided
# The sum over all pairs of the batch.

# %% student="sum_not_divided" replaces="constant_loss"
def constant_loss(batch_size, logit_bias):
    right, wrong = math.log(1 + math.exp(-logit_bias)), math.log(1 + math.exp(logit_bias))
    return batch_size * right + batch_size * (batch_size - 1) * wrong


# %% [markdown]
# ## fitted_to_four
# Has copied the 3 of the visible example.

# %% student="fitted_to_four" replaces="constant_loss"
def constant_loss(batch_size, logit_bias):
    return math.log(1 + math.exp(-logit_bias)) + 3 * math.log(1 + math.exp(logit_bias))


# %% [markdown]
# ## probability_as_odds
# One in B is the probability, and this takes it for the odds.

# %% student="probability_as_odds" replaces="best_bias"
def best_bias(batch_size):
    return -math.log(batch_size)


# %% [markdown]
# ## wrong_sign
# The odds against a right pair.

# %% student="wrong_sign" replaces="best_bias"
def best_bias(batch_size):
    return math.log(batch_size - 1)


# %% [markdown]
# ## from_the_paper
# The paper's number, for every batch.

# %% student="from_the_paper" replaces="best_bias"
def best_bias(batch_size):
    return -10.0


# %% [markdown]
# ## searched_on_a_grid
# Tries a hundred thousand values, as the text says not to. The visible check is satisfied, and a batch of a million lies outside.

# %% student="searched_on_a_grid" replaces="best_bias"
def best_bias(batch_size):
    biases = torch.linspace(-5, 0, 100_001, dtype=torch.float64)
    return biases[(F.softplus(-biases) + (batch_size - 1) * F.softplus(biases)).argmin()].item()


# %% [markdown]
# ## one_number
# Returns what the check expects.

# %% student="one_number" replaces="best_bias"
def best_bias(batch_size):
    return -2.7081


# %% [markdown]
# # Exercise 5
#
# ## diagonal_pushes_too
# All cells push, the right pairs, too. The difference of the two is then no longer the gradient.

# %% student="diagonal_pushes_too" replaces="pull_and_push"
def pull_and_push(logits):
    return torch.sigmoid(-logits.diagonal()).mean(), torch.sigmoid(logits).sum() / len(logits)


# %% [markdown]
# ## pull_by_belief
# Forgot that the derivative of a yes has a minus inside as well. At a score of 0 nobody sees it.

# %% student="pull_by_belief" replaces="pull_and_push"
def pull_and_push(logits):
    belief = torch.sigmoid(logits)
    pull = belief.diagonal().sum() / len(logits)
    return pull, belief.sum() / len(logits) - pull


# %% [markdown]
# ## mean_push
# The mean over the wrong pairs, not the sum for each picture.

# %% student="mean_push" replaces="pull_and_push"
def pull_and_push(logits):
    right = torch.eye(len(logits), dtype=torch.bool)
    return torch.sigmoid(-logits[right]).mean(), torch.sigmoid(logits[~right]).mean()


# %% [markdown]
# ## costs_not_slopes
# The two parts of the loss in place of its derivative.

# %% student="costs_not_slopes" replaces="pull_and_push"
def pull_and_push(logits):
    right = torch.eye(len(logits), dtype=torch.bool)
    return F.softplus(-logits[right]).sum() / len(logits), F.softplus(logits[~right]).sum() / len(logits)


# %% [markdown]
# ## all_scores_alike
# Right on the visible tables, where all scores are the same: looks at one cell and multiplies.

# %% student="all_scores_alike" replaces="pull_and_push"
def pull_and_push(logits):
    score = logits[0, 0]
    return torch.sigmoid(-score), (len(logits) - 1) * torch.sigmoid(score)


# %% [markdown]
# ## signed_pull
# The pull as a derivative, with its minus. Read again what is asked for: neither is negative.

# %% student="signed_pull" replaces="pull_and_push"
def pull_and_push(logits):
    right = torch.eye(len(logits), dtype=torch.bool)
    return -torch.sigmoid(-logits[right]).sum() / len(logits), torch.sigmoid(logits[~right]).sum() / len(logits)


# %% [markdown]
# # Exercise 6
#
# ## eye_in_every_block
# Right pairs on the diagonal of each block, wherever it lies.

# %% student="eye_in_every_block" replaces="block_loss"
def block_loss(image_features, text_features, first, logit_scale, logit_bias):
    logits = logit_scale.exp() * image_features @ text_features.T + logit_bias
    labels = 2 * torch.eye(*logits.shape) - 1
    return -F.logsigmoid(labels * logits).sum() / len(logits)


# %% [markdown]
# ## divided_by_the_block
# Each part is divided by the number of its own captions. The parts add up to too much.

# %% student="divided_by_the_block" replaces="block_loss"
def block_loss(image_features, text_features, first, logit_scale, logit_bias):
    logits = logit_scale.exp() * image_features @ text_features.T + logit_bias
    labels = -torch.ones_like(logits)
    for j in range(len(text_features)):
        labels[first + j, j] = 1
    return -F.logsigmoid(labels * logits).sum() / len(text_features)


# %% [markdown]
# ## only_first_has_pairs
# Right pairs in the first block only, as in the first step of a ring. Here each block has all pictures.

# %% student="only_first_has_pairs" replaces="block_loss"
def block_loss(image_features, text_features, first, logit_scale, logit_bias):
    logits = logit_scale.exp() * image_features @ text_features.T + logit_bias
    labels = 2 * torch.eye(*logits.shape) - 1 if first == 0 else -torch.ones_like(logits)
    return -F.logsigmoid(labels * logits).sum() / len(logits)


# %% [markdown]
# ## first_counts_blocks
# Takes `first` for the number of the block, so the right pairs are sought at `first` times N. With blocks of one caption it is right.

# %% student="first_counts_blocks" replaces="block_loss"
def block_loss(image_features, text_features, first, logit_scale, logit_bias):
    logits = logit_scale.exp() * image_features @ text_features.T + logit_bias
    number = first * len(text_features) + torch.arange(len(text_features))
    right = torch.arange(len(logits))[:, None] == number
    return -F.logsigmoid(torch.where(right, logits, -logits)).sum() / len(logits)


# %% [markdown]
# ## whole_share
# Has seen that the two numbers of the visible check are in the ratio of the captions, and returns such a share of 0.3024.

# %% student="whole_share" replaces="block_loss"
def block_loss(image_features, text_features, first, logit_scale, logit_bias):
    return torch.tensor(0.30244 * len(text_features) / len(image_features))


# %% [markdown]
# # Right, but written differently
#
# ## right_with_a_loop
# Two loops over pictures and captions, in tensors, so that the gradient flows.

# %% student="right_with_a_loop" replaces="sigmoid_loss" right=true
def sigmoid_loss(image_features, text_features, logit_scale, logit_bias):
    total = 0
    for i in range(len(image_features)):
        for j in range(len(text_features)):
            image, text = image_features[i], text_features[j]
            score = logit_scale.exp() * (image @ text) / (image.norm() * text.norm()) + logit_bias
            total = total + F.softplus(-score if i == j else score)
    return total / len(image_features)


# %% student="right_with_a_loop" replaces="signs" right=true
def signs(batch_size):
    table = -torch.ones(batch_size, batch_size, dtype=torch.long)
    for i in range(batch_size):
        table[i, i] = 1
    return table


# %% student="right_with_a_loop" replaces="pull_and_push" right=true
def pull_and_push(logits):
    n, pull, push = len(logits), 0.0, 0.0
    for i in range(n):
        for j in range(n):
            if i == j:
                pull += 1 / (1 + math.exp(logits[i, j].item()))
            else:
                push += 1 / (1 + math.exp(-logits[i, j].item()))
    return pull / n, push / n


# %% student="right_with_a_loop" replaces="block_loss" right=true
def block_loss(image_features, text_features, first, logit_scale, logit_bias):
    total = 0
    for j, text in enumerate(text_features):
        logits = logit_scale.exp() * image_features @ text + logit_bias
        total = total - F.logsigmoid(-logits).sum() + F.logsigmoid(-logits[first + j]) - F.logsigmoid(logits[first + j])
    return total / len(image_features)


# %% [markdown]
# ## right_by_library
# The binary cross-entropy of PyTorch is the same loss, with labels 0 and 1; the derivative by autograd; the bias as a log-odds.

# %% student="right_by_library" replaces="sigmoid_loss" right=true
def sigmoid_loss(image_features, text_features, logit_scale, logit_bias):
    logits = logit_scale.exp() * F.normalize(image_features) @ F.normalize(text_features).T + logit_bias
    labels = torch.eye(len(logits), dtype=logits.dtype)
    return F.binary_cross_entropy_with_logits(logits, labels, reduction="sum") / len(logits)


# %% student="right_by_library" replaces="constant_loss" right=true
def constant_loss(batch_size, logit_bias):
    p = 1 / (1 + math.exp(-logit_bias))
    return -math.log(p) - (batch_size - 1) * math.log(1 - p)


# %% student="right_by_library" replaces="best_bias" right=true
def best_bias(batch_size):
    return torch.logit(torch.tensor(1 / batch_size, dtype=torch.float64))


# %% student="right_by_library" replaces="pull_and_push" right=true
def pull_and_push(logits):
    right = torch.eye(len(logits), dtype=torch.bool)
    table = logits.clone().requires_grad_()
    loss = F.softplus(torch.where(right, -table, table)).sum() / len(logits)
    slope = torch.autograd.grad(loss, table)[0]
    return -slope[right].sum(), slope[~right].sum()


# %% [markdown]
# ## right_with_clamp
# Exercise 2 with `clamp` and `log`. At a score of exactly 0 its gradient is 1 in place of one half, which the tests forgive.

# %% student="right_with_clamp" replaces="log_sigmoid" right=true
def log_sigmoid(x):
    return x.clamp(max=0) - torch.log(1 + torch.exp(-x.abs()))


# %% [markdown]
# ## right_with_logaddexp
# Knows another function of PyTorch that is safe.

# %% student="right_with_logaddexp" replaces="log_sigmoid" right=true
def log_sigmoid(x):
    return -torch.logaddexp(torch.zeros_like(x), -x)


# %% [markdown]
# ## right_with_safe_where
# `torch.where` twice: the exponent is made safe first, and then both sides may be computed.

# %% student="right_with_safe_where" replaces="log_sigmoid" right=true
def log_sigmoid(x):
    small = torch.exp(torch.where(x > 0, -x, x))  # at most 1
    return torch.where(x > 0, -torch.log1p(small), x - torch.log1p(small))
