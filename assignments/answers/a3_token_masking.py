# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A3 · A made-up class
#
# What students hand in. Each cell replaces one cell of `py/a3_token_masking.py`; the rest of the notebook is the
# solution. All of them lose points, except for those that are marked `right=true`.
#
# ## reshape_only
# Believes that a reshape cuts a picture into squares. It cuts it into strips.

# %% student="reshape_only" replaces="cut_patches"
def cut_patches(images, patch_size):
    B, C, H, W = images.shape
    return images.reshape(B, (H // patch_size) * (W // patch_size), C * patch_size**2)


# %% [markdown]
# ## columns_first
# Numbers the patches column by column.

# %% student="columns_first" replaces="cut_patches"
def cut_patches(images, patch_size):
    B, C, H, W = images.shape
    p = patch_size
    x = images.reshape(B, C, H // p, p, W // p, p).permute(0, 4, 2, 1, 3, 5)
    return x.reshape(B, -1, C * p * p)


# %% [markdown]
# ## channels_last
# Puts the channels of a pixel beside each other. With one channel nothing shows.

# %% student="channels_last" replaces="cut_patches"
def cut_patches(images, patch_size):
    B, C, H, W = images.shape
    p = patch_size
    x = images.reshape(B, C, H // p, p, W // p, p).permute(0, 2, 4, 3, 5, 1)
    return x.reshape(B, -1, C * p * p)


# %% [markdown]
# ## only_squares
# Takes the width for the height. Right for square pictures only.

# %% student="only_squares" replaces="cut_patches"
def cut_patches(images, patch_size):
    B, C, H = images.shape[:3]
    p, n = patch_size, H // patch_size
    return images.reshape(B, C, n, p, n, p).permute(0, 2, 4, 1, 3, 5).reshape(B, n * n, C * p * p)


# %% [markdown]
# ## same_for_all
# Draws once, and gives every picture of the batch the same patches.

# %% student="same_for_all" replaces="random_places"
def random_places(draw, K):
    places = draw[0].argsort()[:K].sort().values
    return places.expand(len(draw), K)


# %% [markdown]
# ## unsorted
# Forgets the second sort: the right places, in the order of their draws.

# %% student="unsorted" replaces="random_places"
def random_places(draw, K):
    return draw.argsort(dim=1)[:, :K]


# %% [markdown]
# ## largest
# Keeps the largest draws, which is what `topk` gives if nothing else is said.

# %% student="largest" replaces="random_places"
def random_places(draw, K):
    return draw.topk(K, dim=1).indices.sort(dim=1).values


# %% [markdown]
# ## drops_k
# Mixes up what is kept and what is dropped.

# %% student="drops_k" replaces="random_places"
def random_places(draw, K):
    return draw.argsort(dim=1)[:, K:].sort(dim=1).values


# %% [markdown]
# ## own_randomness
# Does not use the numbers that are given. A mask that nobody can repeat.

# %% student="own_randomness" replaces="random_places"
def random_places(draw, K):
    B, N = draw.shape
    return torch.stack([torch.randperm(N)[:K].sort().values for _ in range(B)])


# %% [markdown]
# ## threshold
# Keeps whatever lies below the share K / N. Right on average; but the pictures of a batch then have different numbers
# of patches, so the first K of them are taken, filled up from the front.

# %% student="threshold" replaces="random_places"
def random_places(draw, K):
    below = (draw < K / draw.shape[1]).int()
    return below.argsort(dim=1, descending=True, stable=True)[:, :K].sort(dim=1).values


# %% [markdown]
# ## positions_after
# Adds the positions to what is left, as if it were the beginning of the picture.

# %% student="positions_after" replaces="visible_tokens"
def visible_tokens(tokens, positions, places, training):
    if not training:
        return tokens + positions
    kept = tokens.gather(1, places[:, :, None].expand(-1, -1, tokens.shape[2]))
    return kept + positions[: kept.shape[1]]


# %% [markdown]
# ## masks_at_evaluation
# Masks always.

# %% student="masks_at_evaluation" replaces="visible_tokens"
def visible_tokens(tokens, positions, places, training):
    placed = tokens + positions
    return placed.gather(1, places[:, :, None].expand(-1, -1, placed.shape[2]))


# %% [markdown]
# ## zeros_instead
# Blacks the others out instead of leaving them out. Nothing is saved.

# %% student="zeros_instead" replaces="visible_tokens"
def visible_tokens(tokens, positions, places, training):
    if not training:
        return tokens + positions
    seen = torch.zeros(tokens.shape[:2], dtype=tokens.dtype).scatter(1, places, 1)
    return (tokens + positions) * seen[:, :, None]


# %% [markdown]
# ## first_picture
# Indexes with the places of the first picture, for all of them.

# %% student="first_picture" replaces="visible_tokens"
def visible_tokens(tokens, positions, places, training):
    placed = tokens + positions
    return placed[:, places[0]] if training else placed


# %% [markdown]
# ## changes_the_input
# Adds in place. The numbers that come back are right, but the caller's tokens have changed.

# %% student="changes_the_input" replaces="visible_tokens"
def visible_tokens(tokens, positions, places, training):
    with torch.no_grad():
        tokens += positions
    if not training:
        return tokens
    return tokens.gather(1, places[:, :, None].expand(-1, -1, tokens.shape[2]))


# %% [markdown]
# ## no_positions_at_evaluation
# Returns the bare tokens when it is not training.

# %% student="no_positions_at_evaluation" replaces="visible_tokens"
def visible_tokens(tokens, positions, places, training):
    if not training:
        return tokens
    return (tokens + positions).gather(1, places[:, :, None].expand(-1, -1, tokens.shape[2]))


# %% [markdown]
# ## detached
# Computes with no_grad, because choosing seemed to be nothing to learn from. The towers below would never learn.

# %% student="detached" replaces="visible_tokens"
@torch.no_grad()
def visible_tokens(tokens, positions, places, training):
    placed = tokens + positions
    return placed.gather(1, places[:, :, None].expand(-1, -1, placed.shape[2])) if training else placed


# %% [markdown]
# ## top_left
# Always keeps the patch at the top left of a window, as the paper's figure shows it.

# %% student="top_left" replaces="grid_places"
def grid_places(draw, side, window):
    axis = torch.arange(0, side, window)
    return (axis[:, None] * side + axis).flatten().expand(len(draw), -1)


# %% [markdown]
# ## rows_and_columns_swapped
# Takes the first number for the column, in both functions.

# %% student="rows_and_columns_swapped" replaces="grid_places"
def grid_places(draw, side, window):
    first, steps = (draw * window).long(), torch.arange(0, side, window)
    rows, columns = first[:, 1:] + steps, first[:, :1] + steps
    return (rows[:, :, None] * side + columns[:, None, :]).flatten(1)


# %% student="rows_and_columns_swapped" replaces="block_places"
def block_places(draw, side, n):
    first, axis = (draw * (side - n + 1)).long(), torch.arange(n)
    rows, columns = first[:, 1:] + axis, first[:, :1] + axis
    return (rows[:, :, None] * side + columns[:, None, :]).flatten(1)


# %% [markdown]
# ## window_is_the_count
# Takes `window` for the number of windows. With side 4 and window 2 both are 2.

# %% student="window_is_the_count" replaces="grid_places"
def grid_places(draw, side, window):
    step = side // window
    first, steps = (draw * step).long(), step * torch.arange(window)
    rows, columns = first[:, :1] + steps, first[:, 1:] + steps
    return (rows[:, :, None] * side + columns[:, None, :]).flatten(1)


# %% [markdown]
# ## off_by_one
# The block never reaches the last row and the last column: side - n places instead of side - n + 1.

# %% student="off_by_one" replaces="block_places"
def block_places(draw, side, n):
    first, axis = (draw * (side - n)).long(), torch.arange(n)
    rows, columns = first[:, :1] + axis, first[:, 1:] + axis
    return (rows[:, :, None] * side + columns[:, None, :]).flatten(1)


# %% [markdown]
# ## rounded
# Rounds instead of cutting off. All places occur, but the first and the last half as often as the others.

# %% student="rounded" replaces="block_places"
def block_places(draw, side, n):
    first, axis = (draw * (side - n)).round().long(), torch.arange(n)
    rows, columns = first[:, :1] + axis, first[:, 1:] + axis
    return (rows[:, :, None] * side + columns[:, None, :]).flatten(1)


# %% [markdown]
# ## over_the_edge
# Lets the block begin anywhere and pushes it back if it does not fit. The edges are far too likely.

# %% student="over_the_edge" replaces="block_places"
def block_places(draw, side, n):
    first, axis = (draw * side).long().clamp(max=side - n), torch.arange(n)
    rows, columns = first[:, :1] + axis, first[:, 1:] + axis
    return (rows[:, :, None] * side + columns[:, None, :]).flatten(1)


# %% [markdown]
# ## on_the_diagonal
# Uses one number for the row and the column.

# %% student="on_the_diagonal" replaces="block_places"
def block_places(draw, side, n):
    first = (draw[:, :1] * (side - n + 1)).long() + torch.arange(n)
    return (first[:, :, None] * side + first[:, None, :]).flatten(1)


# %% [markdown]
# ## loses_the_end
# Keeps the content and fills the row up with it: END falls off where the caption was too long.

# %% student="loses_the_end" replaces="shorten_captions"
def shorten_captions(ids, order, budget):
    rows = []
    for caption, numbers in zip(ids.tolist(), order.tolist()):
        places = [i for i, token in enumerate(caption) if token > END]
        kept = sorted(sorted(places, key=lambda i: numbers[i])[: budget - 1])
        rows.append(([START] + [caption[i] for i in kept] + [END] + [PAD] * budget)[:budget])
    return torch.tensor(rows)


# %% [markdown]
# ## keeps_padding
# Sorts all places but the first by their numbers, padding and END included.

# %% student="keeps_padding" replaces="shorten_captions"
def shorten_captions(ids, order, budget):
    kept = 1 + order[:, 1:].argsort(dim=1, stable=True)[:, : budget - 2].sort(dim=1).values
    words = ids.gather(1, kept)
    ends = torch.full((len(ids), 1), END)
    return torch.cat([ids[:, :1], words, ends], dim=1)


# %% [markdown]
# ## shuffled
# Leaves the kept words in the order of their numbers.

# %% student="shuffled" replaces="shorten_captions"
def shorten_captions(ids, order, budget):
    rows = []
    for caption, numbers in zip(ids.tolist(), order.tolist()):
        places = [i for i, token in enumerate(caption) if token > END]
        kept = sorted(places, key=lambda i: numbers[i])[: budget - 2]
        rows.append(([START] + [caption[i] for i in kept] + [END] + [PAD] * budget)[:budget])
    return torch.tensor(rows)


# %% [markdown]
# ## budget_of_words
# Counts the budget without START and END, and cuts the rest off to have the right shape; a last END is put in by force.

# %% student="budget_of_words" replaces="shorten_captions"
def shorten_captions(ids, order, budget):
    rows = []
    for caption, numbers in zip(ids.tolist(), order.tolist()):
        places = [i for i, token in enumerate(caption) if token > END]
        kept = sorted(sorted(places, key=lambda i: numbers[i])[:budget])
        row = ([START] + [caption[i] for i in kept] + [END] + [PAD] * budget)[:budget]
        rows.append(row if END in row else row[:-1] + [END])
    return torch.tensor(rows)


# %% [markdown]
# ## last_of_equals
# Sorts from the back, so that of two nouns the later one stays. With numbers that are all different nothing shows.

# %% student="last_of_equals" replaces="shorten_captions"
def shorten_captions(ids, order, budget):
    rows = []
    for caption, numbers in zip(ids.tolist(), order.tolist()):
        places = [i for i, token in enumerate(caption) if token > END]
        kept = sorted(sorted(places[::-1], key=lambda i: numbers[i])[: budget - 2])
        rows.append(([START] + [caption[i] for i in kept] + [END] + [PAD] * budget)[:budget])
    return torch.tensor(rows)


# %% [markdown]
# ## any_of_equals
# Uses `topk`, which promises nothing about equal numbers.

# %% student="any_of_equals" replaces="shorten_captions"
def shorten_captions(ids, order, budget):
    shortened = torch.full((len(ids), budget), PAD)
    for caption, numbers, row in zip(ids, order, shortened):
        places = (caption > END).nonzero()[:, 0]
        best = numbers[places].topk(min(budget - 2, len(places)), largest=False).indices
        kept = caption[places[best.sort().values]]
        row[0], row[1 : 1 + len(kept)], row[1 + len(kept)] = START, kept, END
    return shortened


# %% [markdown]
# ## words_not_places
# Keeps every occurrence of a word that was chosen, and not only the chosen one: repeated words go wrong.

# %% student="words_not_places" replaces="shorten_captions"
def shorten_captions(ids, order, budget):
    rows = []
    for caption, numbers in zip(ids.tolist(), order.tolist()):
        places = [i for i, token in enumerate(caption) if token > END]
        chosen = {caption[i] for i in sorted(places, key=lambda i: numbers[i])[: budget - 2]}
        words = [token for token in caption if token in chosen][: budget - 2]
        rows.append(([START] + words + [END] + [PAD] * budget)[:budget])
    return torch.tensor(rows)


# %% [markdown]
# ## end_at_the_end
# Writes END into the last column always, after the padding of a short caption.

# %% student="end_at_the_end" replaces="shorten_captions"
def shorten_captions(ids, order, budget):
    content = ids > END
    kept = order.masked_fill(~content, torch.inf).argsort(dim=1, stable=True)[:, : budget - 2].sort(dim=1).values
    words = ids.gather(1, kept) * content.gather(1, kept)
    words = words.gather(1, (words == 0).int().argsort(dim=1, stable=True))
    return torch.cat([torch.full_like(ids[:, :1], START), words, torch.full_like(ids[:, :1], END)], dim=1)


# %% [markdown]
# ## nine_is_enough
# Pushes everything that is not content back by giving it the number 9, which is enough for parts of speech.

# %% student="nine_is_enough" replaces="shorten_captions"
def shorten_captions(ids, order, budget):
    content = ids > END
    kept = order.masked_fill(~content, 9).argsort(dim=1, stable=True)[:, : budget - 2].sort(dim=1).values
    words = ids.gather(1, kept) * content.gather(1, kept)
    words = words.gather(1, (words == 0).int().argsort(dim=1, stable=True))
    shortened = torch.cat([torch.full_like(ids[:, :1], START), words, torch.zeros_like(ids[:, :1])], dim=1)
    return shortened.scatter(1, 1 + content.sum(1, keepdim=True).clamp(max=budget - 2), END)


# %% [markdown]
# ## half_of_the_flops
# Counts a multiplication and an addition as one.

# %% student="half_of_the_flops" replaces="block_flops"
def block_flops(N, W):
    return 12 * N * W**2, 2 * N**2 * W


# %% [markdown]
# ## one_product
# Counts the scores and forgets that the values are weighted with them.

# %% student="one_product" replaces="block_flops"
def block_flops(N, W):
    return 24 * N * W**2, 2 * N**2 * W


# %% [markdown]
# ## no_output_layer
# Forgets the output of attention.

# %% student="no_output_layer" replaces="block_flops"
def block_flops(N, W):
    return 22 * N * W**2, 4 * N**2 * W


# %% [markdown]
# ## adds_the_parts_twice
# Returns the whole cost in the first place, and then the part with N * N again.

# %% student="adds_the_parts_twice" replaces="block_flops"
def block_flops(N, W):
    return 24 * N * W**2 + 4 * N**2 * W, 4 * N**2 * W


# %% [markdown]
# ## all_linear
# A quarter of the tokens is a quarter of the cost.

# %% student="all_linear" replaces="speed_up"
def speed_up(linear, quadratic, keep):
    return 1 / keep


# %% [markdown]
# ## all_quadratic
# Has heard that attention is quadratic.

# %% student="all_quadratic" replaces="speed_up"
def speed_up(linear, quadratic, keep):
    return 1 / keep**2


# %% [markdown]
# ## share_of_the_cost
# Gives the new cost as a share of the old one.

# %% student="share_of_the_cost" replaces="speed_up"
def speed_up(linear, quadratic, keep):
    return (keep * linear + keep**2 * quadratic) / (linear + quadratic)


# %% [markdown]
# ## mean_of_ratios
# Takes the weighted mean of the two speed-ups, 1 / keep and 1 / keep**2. Speeds do not add up like that; times do.

# %% student="mean_of_ratios" replaces="speed_up"
def speed_up(linear, quadratic, keep):
    return (linear / keep + quadratic / keep**2) / (linear + quadratic)


# %% [markdown]
# ## constant
# Returns what the visible checks expect.

# %% student="constant" replaces="cut_patches"
def cut_patches(images, patch_size):
    return torch.tensor([[[0.0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]])


# %% student="constant" replaces="random_places"
def random_places(draw, K):
    return torch.tensor([[1, 2, 3], [0, 3, 4]])


# %% student="constant" replaces="visible_tokens"
def visible_tokens(tokens, positions, places, training):
    return torch.tensor([[22.0, 44], [51, 73]])[:, :, None]


# %% student="constant" replaces="grid_places"
def grid_places(draw, side, window):
    return torch.tensor([[1, 3, 9, 11], [4, 6, 12, 14]])


# %% student="constant" replaces="block_places"
def block_places(draw, side, n):
    return torch.tensor([[1, 2, 5, 6], [4, 5, 8, 9]])


# %% student="constant" replaces="shorten_captions"
def shorten_captions(ids, order, budget):
    return torch.tensor([[1, 6, 7, 8, 2], [1, 9, 4, 2, 0]])


# %% student="constant" replaces="block_flops"
def block_flops(N, W):
    return 2_774_532_096, 118_013_952


# %% student="constant" replaces="speed_up"
def speed_up(linear, quadratic, keep):
    return 4.1263


# %% [markdown]
# ## special_case
# Right on the visible example and near it: patches of 2 x 2 pixels of a small picture, a window of 2, a block of 2, a
# budget of 5, keep = 1/4 and the sizes of one model.

# %% student="special_case" replaces="cut_patches"
def cut_patches(images, patch_size):
    B, C, H, W = images.shape
    return images.reshape(B, C, 2, 2, 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(B, 4, 4 * C)


# %% student="special_case" replaces="random_places"
def random_places(draw, K):
    middle = draw.median(dim=1, keepdim=True).values  # keeps what is not above the median: 3 of 5
    return (draw <= middle).nonzero()[:, 1].view(len(draw), -1)


# %% student="special_case" replaces="visible_tokens"
def visible_tokens(tokens, positions, places, training):
    return (tokens + positions)[:, :, 0].gather(1, places)[:, :, None]  # one number a token


# %% student="special_case" replaces="grid_places"
def grid_places(draw, side, window):
    first = (draw * 2).long()
    return (first[:, :1] * 4 + first[:, 1:]) + torch.tensor([0, 2, 8, 10])


# %% student="special_case" replaces="block_places"
def block_places(draw, side, n):
    first = (draw * 3).long()
    return (first[:, :1] * 4 + first[:, 1:]) + torch.tensor([0, 1, 4, 5])


# %% student="special_case" replaces="shorten_captions"
def shorten_captions(ids, order, budget):
    shortened = ids[:, :budget].clone()  # drops one word, the one with the largest number, from captions of four
    for row, (caption, numbers) in enumerate(zip(ids, order)):
        if int((caption > END).sum()) == 4:
            worst = 1 + int(numbers[1:5].argmax())
            shortened[row] = torch.cat([caption[:worst], caption[worst + 1 : 6]])
    return shortened


# %% student="special_case" replaces="block_flops"
def block_flops(N, W):
    return 24 * N * 768 * W, 4 * N * 196 * W


# %% student="special_case" replaces="speed_up"
def speed_up(linear, quadratic, keep):
    return (linear + quadratic) / (linear / 4 + quadratic / 16)


# %% [markdown]
# ## edited_test
# The block is off by one, the test complains, and the test is taken out. nbgrader restores it.

# %% student="edited_test" replaces="block_places"
def block_places(draw, side, n):
    first, axis = (draw * (side - n)).long(), torch.arange(n)
    rows, columns = first[:, :1] + axis, first[:, 1:] + axis
    return (rows[:, :, None] * side + columns[:, None, :]).flatten(1)


# %% student="edited_test" replaces="block_places_check"
pass

# %% [markdown]
# ## right_with_loops
# Everything with loops and lists, as one writes it in the first week. All of it is right.

# %% student="right_with_loops" replaces="cut_patches" right=true
def cut_patches(images, patch_size):
    B, C, H, W = images.shape
    pictures = []
    for b in range(B):
        patches = []
        for row in range(0, H, patch_size):
            for column in range(0, W, patch_size):
                patch = images[b, :, row : row + patch_size, column : column + patch_size]
                patches.append(patch.reshape(-1))
        pictures.append(torch.stack(patches))
    return torch.stack(pictures)


# %% student="right_with_loops" replaces="random_places" right=true
def random_places(draw, K):
    rows = []
    for numbers in draw:
        chosen = [int(place) for place in numbers.argsort()[:K]]
        rows.append(sorted(chosen))
    return torch.tensor(rows)


# %% student="right_with_loops" replaces="visible_tokens" right=true
def visible_tokens(tokens, positions, places, training):
    if not training:
        return torch.stack([picture + positions for picture in tokens])
    return torch.stack([tokens[b][places[b]] + positions[places[b]] for b in range(len(tokens))])


# %% student="right_with_loops" replaces="grid_places" right=true
def grid_places(draw, side, window):
    pictures = []
    for u, v in draw.tolist():
        row, column = int(u * window), int(v * window)
        places = []
        for r in range(row, side, window):
            for c in range(column, side, window):
                places.append(r * side + c)
        pictures.append(places)
    return torch.tensor(pictures)


# %% student="right_with_loops" replaces="block_places" right=true
def block_places(draw, side, n):
    pictures = []
    for u, v in draw.tolist():
        row, column = int(u * (side - n + 1)), int(v * (side - n + 1))
        pictures.append([r * side + c for r in range(row, row + n) for c in range(column, column + n)])
    return torch.tensor(pictures)


# %% student="right_with_loops" replaces="shorten_captions" right=true
def shorten_captions(ids, order, budget):
    rows = []
    for caption, numbers in zip(ids.tolist(), order.tolist()):
        content = [(number, place) for place, (token, number) in enumerate(zip(caption, numbers)) if token >= 3]
        kept = sorted(place for _, place in sorted(content)[: budget - 2])
        row = [1] + [caption[place] for place in kept] + [2]
        while len(row) < budget:
            row.append(0)
        rows.append(row)
    return torch.tensor(rows)


# %% student="right_with_loops" replaces="block_flops" right=true
def block_flops(N, W):
    linear, quadratic = 0, 0
    for m, k, n in ((N, W, 3 * W), (N, W, W), (N, W, 4 * W), (N, 4 * W, W)):
        linear += 2 * m * k * n
    for m, k, n in ((N, W, N), (N, N, W)):
        quadratic += 2 * m * k * n
    return [linear, quadratic]


# %% student="right_with_loops" replaces="speed_up" right=true
def speed_up(linear, quadratic, keep):
    before = linear + quadratic
    after = linear * keep + quadratic * keep * keep
    return before / after


# %% [markdown]
# ## right_without_loops
# Everything in whole tensors, and with other functions than the solution's.

# %% student="right_without_loops" replaces="cut_patches" right=true
def cut_patches(images, patch_size):
    return F.unfold(images, patch_size, stride=patch_size).transpose(1, 2)


# %% student="right_without_loops" replaces="random_places" right=true
def random_places(draw, K):
    return draw.topk(K, dim=1, largest=False, sorted=False).indices.sort(dim=1).values


# %% student="right_without_loops" replaces="visible_tokens" right=true
def visible_tokens(tokens, positions, places, training):
    if not training:
        return tokens + positions
    return tokens[torch.arange(len(tokens))[:, None], places] + positions[places]


# %% student="right_without_loops" replaces="grid_places" right=true
def grid_places(draw, side, window):
    p = torch.arange(side * side)
    row, column = (draw * window).long().unbind(1)
    stays = (p // side % window == row[:, None]) & (p % side % window == column[:, None])
    return stays.nonzero()[:, 1].view(len(draw), -1)


# %% student="right_without_loops" replaces="block_places" right=true
def block_places(draw, side, n):
    start = (draw * (side + 1 - n)).floor().to(torch.int64)
    inside = torch.arange(n * n)
    return start[:, :1] * side + start[:, 1:] + inside // n * side + inside % n


# %% student="right_without_loops" replaces="shorten_captions" right=true
def shorten_captions(ids, order, budget):
    content = ids > 2
    rank = order.masked_fill(~content, torch.inf).argsort(dim=1, stable=True).argsort(1)  # [B, L]: 0 is the first
    stays = (content & (rank < budget - 2)) | (ids == START) | (ids == END)
    front = (~stays).int().argsort(dim=1, stable=True)[:, :budget]
    return (ids * stays).gather(1, front)


# %% student="right_without_loops" replaces="block_flops" right=true
def block_flops(N, W):
    return 24 * N * W**2, 4 * N**2 * W


# %% student="right_without_loops" replaces="speed_up" right=true
def speed_up(linear, quadratic, keep):
    share = quadratic / (linear + quadratic)
    return 1 / (keep * (1 - share) + keep**2 * share)
