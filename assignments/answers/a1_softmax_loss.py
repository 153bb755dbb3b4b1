# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A1: what students hand in
#
# Made-up answers to `py/a1_softmax_loss.py`. All but the last group are wrong, and each must lose points in the
# exercise that it got wrong. They are here to test the tests, and a teacher may read them as a list of what to explain
# again.
#
# # Exercise 1
#
# ## forgot_to_normalise
# Believes that the towers return vectors of length one.

# %% student="forgot_to_normalise" replaces="score_table"
def score_table(image_features, text_features, logit_scale):
    return logit_scale.exp() * image_features @ text_features.T


# %% [markdown]
# ## normalises_columns
# Takes the norm over the batch instead of over the vector: `dim=0` for `dim=1`.

# %% student="normalises_columns" replaces="score_table"
def score_table(image_features, text_features, logit_scale):
    x = image_features / image_features.norm(dim=0, keepdim=True)
    y = text_features / text_features.norm(dim=0, keepdim=True)
    return logit_scale.exp() * x @ y.T


# %% [markdown]
# ## forgot_exp
# Multiplies by the logarithm of the scale, as if it were the scale.

# %% student="forgot_exp" replaces="score_table"
def score_table(image_features, text_features, logit_scale):
    return logit_scale * F.normalize(image_features) @ F.normalize(text_features).T


# %% [markdown]
# ## divides_by_the_scale
# Has read "temperature" and divides by what is the inverse temperature.

# %% student="divides_by_the_scale" replaces="score_table"
def score_table(image_features, text_features, logit_scale):
    return F.normalize(image_features) @ F.normalize(text_features).T / logit_scale.exp()


# %% [markdown]
# ## exp_twice
# Turns the stored number into a scale, and then does it again.

# %% student="exp_twice" replaces="score_table"
def score_table(image_features, text_features, logit_scale):
    scale = logit_scale.exp()
    return scale.exp() * F.normalize(image_features) @ F.normalize(text_features).T


# %% [markdown]
# ## transposed
# Captions in the rows. The diagonal is right, so the loss would be, too; the table is not the one that was asked for.

# %% student="transposed" replaces="score_table"
def score_table(image_features, text_features, logit_scale):
    return logit_scale.exp() * F.normalize(text_features) @ F.normalize(image_features).T


# %% [markdown]
# ## scale_without_gradient
# All numbers are right, but `math.exp` makes a plain float, and the temperature would never learn. The visible check
# passes.

# %% student="scale_without_gradient" replaces="score_table"
def score_table(image_features, text_features, logit_scale):
    return math.exp(logit_scale) * F.normalize(image_features) @ F.normalize(text_features).T


# %% [markdown]
# ## normalises_in_place
# Divides with `/=`, which changes the caller's vectors and cannot be done to a parameter. The visible check passes.

# %% student="normalises_in_place" replaces="score_table"
def score_table(image_features, text_features, logit_scale):
    image_features /= image_features.norm(dim=1, keepdim=True)
    text_features /= text_features.norm(dim=1, keepdim=True)
    return logit_scale.exp() * image_features @ text_features.T


# %% [markdown]
# # Exercise 2
#
# ## overflows
# The formula as it stands in the book. The visible check passes; scores of 1,000 give "not a number".

# %% student="overflows" replaces="cross_entropy"
def cross_entropy(scores, target):
    return scores.exp().sum().log() - scores[target]


# %% [markdown]
# ## log_of_a_probability
# A safe softmax, and then a small number inside the logarithm against log 0. Large losses stop at 18.4.

# %% student="log_of_a_probability" replaces="cross_entropy"
def cross_entropy(scores, target):
    weights = (scores - scores.max()).exp()
    return -(weights[target] / weights.sum() + 1e-8).log()


# %% [markdown]
# ## clamps_the_scores
# Fights the overflow by cutting the scores off. Finite, but wrong.

# %% student="clamps_the_scores" replaces="cross_entropy"
def cross_entropy(scores, target):
    scores = scores.clamp(-700, 700)
    return scores.exp().sum().log() - scores[target]


# %% [markdown]
# ## shifts_by_the_mean
# Has understood that a shift changes nothing, and shifts by the wrong number.

# %% student="shifts_by_the_mean" replaces="cross_entropy"
def cross_entropy(scores, target):
    scores = scores - scores.mean()
    return scores.exp().sum().log() - scores[target]


# %% [markdown]
# ## shifts_by_the_largest_size
# Subtracts the largest absolute value. Large positive scores are safe, and large negative ones underflow.

# %% student="shifts_by_the_largest_size" replaces="cross_entropy"
def cross_entropy(scores, target):
    scores = scores - scores.abs().max()
    return scores.exp().sum().log() - scores[target]


# %% [markdown]
# ## shifts_one_term_only
# Subtracts the maximum in the sum and forgets to add it back.

# %% student="shifts_one_term_only" replaces="cross_entropy"
def cross_entropy(scores, target):
    return (scores - scores.max()).exp().sum().log() - scores[target]


# %% [markdown]
# ## logarithm_of_base_two
# Answers in bits.

# %% student="logarithm_of_base_two" replaces="cross_entropy"
def cross_entropy(scores, target):
    return -(scores - scores.max()).softmax(0)[target].log2()


# %% [markdown]
# ## constant
# Returns the two numbers that the visible check expects.

# %% student="constant" replaces="cross_entropy"
def cross_entropy(scores, target):
    return double(0.6931 if target == 0 else 1.3863)


# %% [markdown]
# ## edited_test
# A wrong function, and a test that has been "repaired". nbgrader puts the test back.

# %% student="edited_test" replaces="cross_entropy"
def cross_entropy(scores, target):
    return scores[target]


# %% student="edited_test" replaces="cross_entropy_check"
pass

# %% student="edited_test" replaces="cross_entropy_hidden"
pass

# %% [markdown]
# # Exercise 3
#
# ## one_direction
# Only the pictures choose.

# %% student="one_direction" replaces="symmetric_loss"
def symmetric_loss(logits):
    return F.cross_entropy(logits, torch.arange(len(logits)))


# %% [markdown]
# ## other_direction
# Only the captions choose: the softmax runs over the wrong dimension.

# %% student="other_direction" replaces="symmetric_loss"
def symmetric_loss(logits):
    return -logits.log_softmax(0).diagonal().mean()


# %% [markdown]
# ## sum_not_mean
# Adds up the quizzes. The loss then grows with the batch.

# %% student="sum_not_mean" replaces="symmetric_loss"
def symmetric_loss(logits):
    targets = torch.arange(len(logits))
    both = [F.cross_entropy(table, targets, reduction="sum") for table in (logits, logits.T)]
    return sum(both) / 2


# %% [markdown]
# ## adds_the_directions
# Takes the mean over the quizzes and forgets the half.

# %% student="adds_the_directions" replaces="symmetric_loss"
def symmetric_loss(logits):
    targets = torch.arange(len(logits))
    return F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)


# %% [markdown]
# ## targets_all_zero
# Thinks that the right caption is always the first one, as in a list of one positive followed by negatives.

# %% student="targets_all_zero" replaces="symmetric_loss"
def symmetric_loss(logits):
    targets = torch.zeros(len(logits), dtype=torch.long)
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2


# %% [markdown]
# ## softmax_twice
# Does not know that `F.cross_entropy` takes scores and not probabilities.

# %% student="softmax_twice" replaces="symmetric_loss"
def symmetric_loss(logits):
    targets = torch.arange(len(logits))
    return (F.cross_entropy(logits.softmax(1), targets) + F.cross_entropy(logits.T.softmax(1), targets)) / 2


# %% [markdown]
# ## overflowing_table
# Right on small scores, the visible ones among them; "not a number" on large ones.

# %% student="overflowing_table" replaces="symmetric_loss"
def symmetric_loss(logits):
    weights = logits.exp()
    rows, columns = weights.diagonal() / weights.sum(1), weights.diagonal() / weights.sum(0)
    return -(rows.log().mean() + columns.log().mean()) / 2


# %% [markdown]
# ## batch_of_two
# Divides by four because the example has four cells. The visible check passes.

# %% student="batch_of_two" replaces="symmetric_loss"
def symmetric_loss(logits):
    return -(logits.log_softmax(0) + logits.log_softmax(1)).diagonal().sum() / 4


# %% [markdown]
# ## loss_as_a_float
# The value is right, but `.item()` cuts the gradient off.

# %% student="loss_as_a_float" replaces="symmetric_loss"
def symmetric_loss(logits):
    targets = torch.arange(len(logits))
    return torch.tensor((F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)).item() / 2).double()


# %% [markdown]
# # Exercise 4
#
# ## special_case
# Assumes that wrong pairs have cosine 0, as both visible numbers do.

# %% student="special_case" replaces="reachable_loss"
def reachable_loss(batch_size, right, wrong, temperature):
    return math.log(1 + (batch_size - 1) * math.exp(-right / temperature))


# %% [markdown]
# ## counts_itself
# B wrong choices instead of B - 1.

# %% student="counts_itself" replaces="reachable_loss"
def reachable_loss(batch_size, right, wrong, temperature):
    return math.log(1 + batch_size * math.exp((wrong - right) / temperature))


# %% [markdown]
# ## multiplies_by_the_temperature
# Takes the temperature for the scale. The visible numbers (cosine 0, or temperature 1) do not show it.

# %% student="multiplies_by_the_temperature" replaces="reachable_loss"
def reachable_loss(batch_size, right, wrong, temperature):
    return math.log(1 + (batch_size - 1) * math.exp((wrong - right) * temperature))


# %% [markdown]
# ## two_directions_twice
# Counts the wrong pairs of the row and of the column in one sum.

# %% student="two_directions_twice" replaces="reachable_loss"
def reachable_loss(batch_size, right, wrong, temperature):
    return math.log(1 + 2 * (batch_size - 1) * math.exp((wrong - right) / temperature))


# %% [markdown]
# # Exercise 5
#
# ## divides_by_all_cells
# Divides by B², as in a mean over all cells. For B = 2, as in the visible check, B² and 2B are the same.

# %% student="divides_by_all_cells" replaces="score_gradient"
def score_gradient(logits):
    return (logits.softmax(1) + logits.softmax(0) - 2 * torch.eye(len(logits))) / logits.numel()


# %% [markdown]
# ## rows_only
# One direction again, now in the gradient.

# %% student="rows_only" replaces="score_gradient"
def score_gradient(logits):
    return (logits.softmax(1) - torch.eye(len(logits))) / len(logits)


# %% [markdown]
# ## subtracts_truth_once
# Adds the two tables of probabilities, and forgets that the truth belongs to both.

# %% student="subtracts_truth_once" replaces="score_gradient"
def score_gradient(logits):
    return (logits.softmax(1) + logits.softmax(0) - torch.eye(len(logits))) / (2 * len(logits))


# %% [markdown]
# ## wrong_sign
# The direction in which the scores should go, which is minus the gradient.

# %% student="wrong_sign" replaces="score_gradient"
def score_gradient(logits):
    return (2 * torch.eye(len(logits)) - logits.softmax(1) - logits.softmax(0)) / (2 * len(logits))


# %% [markdown]
# ## softmax_by_hand_overflows
# Right where exponentials are finite.

# %% student="softmax_by_hand_overflows" replaces="score_gradient"
def score_gradient(logits):
    weights = logits.exp()
    rows, columns = weights / weights.sum(1, keepdim=True), weights / weights.sum(0, keepdim=True)
    return (rows + columns - 2 * torch.eye(len(logits))) / (2 * len(logits))


# %% [markdown]
# ## rows_without_keepdim
# Divides the rows by sums that broadcast along the wrong side.

# %% student="rows_without_keepdim" replaces="score_gradient"
def score_gradient(logits):
    weights = (logits - logits.max()).exp()
    return (weights / weights.sum(1) + weights / weights.sum(0) - 2 * torch.eye(len(logits))) / (2 * len(logits))


# %% [markdown]
# ## lets_autograd_do_it
# The numbers are right, but nothing was derived.

# %% student="lets_autograd_do_it" replaces="score_gradient"
def score_gradient(logits):
    logits, targets = logits.detach().requires_grad_(), torch.arange(len(logits))
    loss = (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2
    return torch.autograd.grad(loss, logits)[0]


# %% [markdown]
# # Exercise 6
#
# ## limit_at_one_hundred
# Limits the logarithm, and not the scale, to 100: a scale of e¹⁰⁰.

# %% student="limit_at_one_hundred" replaces="train_temperature"
def train_temperature(cosines, start, lr, steps):
    t, targets, history = double(start).requires_grad_(), torch.arange(len(cosines)), []
    for _ in range(steps):
        logits = t.exp() * cosines
        loss = (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2
        t = (t - lr * torch.autograd.grad(loss, t)[0]).clamp(max=100).detach().requires_grad_()
        history.append(t.item())
    return history


# %% [markdown]
# ## gradients_pile_up
# Forgets to empty `t.grad`, so that each step uses the sum of all gradients so far.

# %% student="gradients_pile_up" replaces="train_temperature"
def train_temperature(cosines, start, lr, steps):
    t, targets, history = double(start).requires_grad_(), torch.arange(len(cosines)), []
    for _ in range(steps):
        logits = t.exp() * cosines
        loss = (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2
        loss.backward()
        with torch.no_grad():
            t -= lr * t.grad
            t.clamp_(max=math.log(100))
        history.append(t.item())
    return history


# %% [markdown]
# ## forgets_the_exponential
# Multiplies the cosines by t itself.

# %% student="forgets_the_exponential" replaces="train_temperature"
def train_temperature(cosines, start, lr, steps):
    t, targets, history = double(start).requires_grad_(), torch.arange(len(cosines)), []
    for _ in range(steps):
        logits = t * cosines
        loss = (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2
        t = (t - lr * torch.autograd.grad(loss, t)[0]).clamp(max=math.log(100)).detach().requires_grad_()
        history.append(t.item())
    return history


# %% [markdown]
# ## trains_the_scale
# Takes the step on the scale and not on its logarithm. The first step from a scale of 1 is nearly the same.

# %% student="trains_the_scale" replaces="train_temperature"
def train_temperature(cosines, start, lr, steps):
    scale, targets, history = double(start).exp().requires_grad_(), torch.arange(len(cosines)), []
    for _ in range(steps):
        logits = scale * cosines
        loss = (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2
        scale = (scale - lr * torch.autograd.grad(loss, scale)[0]).clamp(1e-6, 100).detach().requires_grad_()
        history.append(scale.log().item())
    return history


# %% [markdown]
# ## limit_below_as_well
# Keeps t between 0 and ln 100, as some implementations do. The visible check passes; the paper and the text limit t
# above only.

# %% student="limit_below_as_well" replaces="train_temperature"
def train_temperature(cosines, start, lr, steps):
    t, targets, history = double(start).requires_grad_(), torch.arange(len(cosines)), []
    for _ in range(steps):
        logits = t.exp() * cosines
        loss = (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2
        t = (t - lr * torch.autograd.grad(loss, t)[0]).clamp(0, math.log(100)).detach().requires_grad_()
        history.append(t.item())
    return history


# %% [markdown]
# ## pictures_choose_only
# The loss of the rows alone. The visible tables are symmetric and do not show it.

# %% student="pictures_choose_only" replaces="train_temperature"
def train_temperature(cosines, start, lr, steps):
    t, targets, history = double(start).requires_grad_(), torch.arange(len(cosines)), []
    for _ in range(steps):
        loss = F.cross_entropy(t.exp() * cosines, targets)
        t = (t - lr * torch.autograd.grad(loss, t)[0]).clamp(max=math.log(100)).detach().requires_grad_()
        history.append(t.item())
    return history


# %% [markdown]
# ## limits_the_list_only
# Keeps the unlimited t for the next step, and limits a copy for the answer. The difference shows once t comes back from
# the limit.

# %% student="limits_the_list_only" replaces="train_temperature"
def train_temperature(cosines, start, lr, steps):
    t, targets, history = double(start).requires_grad_(), torch.arange(len(cosines)), []
    for _ in range(steps):
        logits = t.exp() * cosines
        loss = (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2
        t = (t - lr * torch.autograd.grad(loss, t)[0]).detach().requires_grad_()
        history.append(min(t.item(), math.log(100)))
    return history


# %% [markdown]
# # Right answers, written differently
#
# ## right_with_loops
# No matrix product, no ready-made loss.

# %% student="right_with_loops" replaces="score_table" right=true
def score_table(image_features, text_features, logit_scale):
    rows = []
    for x in image_features:
        rows.append([logit_scale.exp() * x.dot(y) / (x.norm() * y.norm()) for y in text_features])
    return torch.stack([torch.stack(row) for row in rows])


# %% student="right_with_loops" replaces="cross_entropy" right=true
def cross_entropy(scores, target):
    highest = max(scores)
    total = 0
    for score in scores:
        total = total + torch.exp(score - highest)
    return highest + torch.log(total) - scores[target]


# %% student="right_with_loops" replaces="symmetric_loss" right=true
def symmetric_loss(logits):
    loss = torch.tensor(0.0)
    for i in range(len(logits)):
        loss = loss + torch.logsumexp(logits[i], 0) - logits[i, i]
        loss = loss + torch.logsumexp(logits[:, i], 0) - logits[i, i]
    return loss / (2 * len(logits))


# %% student="right_with_loops" replaces="score_gradient" right=true
def score_gradient(logits):
    B = len(logits)
    gradient = torch.zeros(B, B, dtype=logits.dtype)
    for i in range(B):
        gradient[i] += torch.exp(logits[i] - torch.logsumexp(logits[i], 0))
        gradient[:, i] += torch.exp(logits[:, i] - torch.logsumexp(logits[:, i], 0))
        gradient[i, i] -= 2
    return gradient / (2 * B)


# %% [markdown]
# ## right_with_ratios
# The logarithm of the sum of all ratios to the right choice, with PyTorch's safe sum; the loss of two cosines from one
# made-up row, in single precision; and PyTorch's own cosine.

# %% student="right_with_ratios" replaces="cross_entropy" right=true
def cross_entropy(scores, target):
    return torch.logsumexp(scores - scores[target], 0)


# %% student="right_with_ratios" replaces="reachable_loss" right=true
def reachable_loss(batch_size, right, wrong, temperature):
    row = torch.full((batch_size,), wrong)
    row[0] = right
    return -(row / temperature).log_softmax(0)[0].item()


# %% student="right_with_ratios" replaces="score_table" right=true
def score_table(image_features, text_features, logit_scale):
    return F.cosine_similarity(image_features.unsqueeze(1), text_features.unsqueeze(0), dim=-1) * torch.exp(logit_scale)


# %% [markdown]
# ## right_in_single_precision
# A `t` in float32, as `torch.tensor` makes it, moved by PyTorch's own optimiser.

# %% student="right_in_single_precision" replaces="train_temperature" right=true
def train_temperature(cosines, start, lr, steps):
    t = torch.nn.Parameter(torch.tensor(start))
    optimizer, history = torch.optim.SGD([t], lr=lr), []
    for _ in range(steps):
        optimizer.zero_grad()
        symmetric_loss(t.exp() * cosines).backward()
        optimizer.step()
        t.data.clamp_(max=math.log(100))
        history.append(t.detach().clone())
    return history


# %% [markdown]
# ## right_without_autograd
# The chain rule with the gradient of exercise 5, and the temperature in plain floats.

# %% student="right_without_autograd" replaces="train_temperature" right=true
def train_temperature(cosines, start, lr, steps):
    t, history = start, []
    for _ in range(steps):
        logits = math.exp(t) * cosines
        t = min(t - lr * float((score_gradient(logits) * logits).sum()), math.log(100))
        history.append(t)
    return history


# %% student="right_without_autograd" replaces="symmetric_loss" right=true
def symmetric_loss(logits):
    return -(logits.log_softmax(0).diag().mean() + logits.log_softmax(1).diag().mean()) / 2
