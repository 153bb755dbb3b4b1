# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Answers to A4, as made-up students hand them in
#
# Each replaces some cells of the right solution. The wrong ones must lose points in the exercise that they got wrong; those with
# `right=true` are right answers, written differently, and must lose none.

# %% [markdown]
# # Exercise 1
#
# ## diagonal_everywhere
# Takes the diagonal for right pairs in every tile. The classical mistake: each foreign tile teaches b wrong pairs as right.

# %% student="diagonal_everywhere" replaces="tile_loss"
def tile_loss(image_features, text_features, logit_scale, logit_bias, own):
    scores = logit_scale.exp() * image_features @ text_features.T + logit_bias
    labels = 2 * torch.eye(*scores.shape, dtype=scores.dtype) - 1
    return -F.logsigmoid(labels * scores).sum()


# %% [markdown]
# ## mean_of_cells
# Takes the mean over the cells. Tiles of different sizes cannot be added up any more.

# %% student="mean_of_cells" replaces="tile_loss"
def tile_loss(image_features, text_features, logit_scale, logit_bias, own):
    scores = logit_scale.exp() * image_features @ text_features.T + logit_bias
    labels = -torch.ones_like(scores)
    if own:
        labels.fill_diagonal_(1)
    return -F.logsigmoid(labels * scores).mean()


# %% [markdown]
# ## divides_too_early
# Divides by the tile's own number of pictures, as the formula has a 1/B in front.

# %% student="divides_too_early" replaces="tile_loss"
def tile_loss(image_features, text_features, logit_scale, logit_bias, own):
    scores = logit_scale.exp() * image_features @ text_features.T + logit_bias
    labels = -torch.ones_like(scores)
    if own:
        labels.fill_diagonal_(1)
    return -F.logsigmoid(labels * scores).sum() / len(image_features)


# %% [markdown]
# ## scale_without_exp
# Multiplies by `logit_scale` itself and forgets that it is a logarithm.

# %% student="scale_without_exp" replaces="tile_loss"
def tile_loss(image_features, text_features, logit_scale, logit_bias, own):
    scores = logit_scale * image_features @ text_features.T + logit_bias
    labels = -torch.ones_like(scores)
    if own:
        labels.fill_diagonal_(1)
    return -F.logsigmoid(labels * scores).sum()


# %% [markdown]
# ## scale_as_a_number
# Takes the scale out with `.item()`. The loss is right, but the scale never learns.

# %% student="scale_as_a_number" replaces="tile_loss"
def tile_loss(image_features, text_features, logit_scale, logit_bias, own):
    t = 2.718281828459045 ** logit_scale.item()
    scores = t * image_features @ text_features.T + logit_bias
    labels = -torch.ones_like(scores)
    if own:
        labels.fill_diagonal_(1)
    return -F.logsigmoid(labels * scores).sum()


# %% [markdown]
# ## log_of_sigmoid
# Writes the formula as it is printed. σ(-1,000) is 0 in `float32`, and the loss infinite.

# %% student="log_of_sigmoid" replaces="tile_loss"
def tile_loss(image_features, text_features, logit_scale, logit_bias, own):
    scores = logit_scale.exp() * image_features @ text_features.T + logit_bias
    labels = -torch.ones_like(scores)
    if own:
        labels.fill_diagonal_(1)
    return -torch.log(torch.sigmoid(labels * scores)).sum()


# %% [markdown]
# ## constant
# Returns the two numbers that the check expects.

# %% student="constant" replaces="tile_loss"
def tile_loss(image_features, text_features, logit_scale, logit_bias, own):
    return torch.tensor(1.2530 if own else 3.2530, dtype=torch.float64)


# %% [markdown]
# ## right_with_a_loop
# Goes through the cells one by one. Slow, but right.

# %% student="right_with_a_loop" replaces="tile_loss" right=true
def tile_loss(image_features, text_features, logit_scale, logit_bias, own):
    total = 0
    for i in range(len(image_features)):
        for j in range(len(text_features)):
            s = torch.exp(logit_scale) * (image_features[i] * text_features[j]).sum() + logit_bias
            total = total + (F.softplus(-s) if own and i == j else F.softplus(s, threshold=40))
    return total


# %% [markdown]
# # Exercise 2
#
# ## whole_tiles_only
# Makes `B // chunk_size` pieces, so that a shorter last piece is lost.

# %% student="whole_tiles_only" replaces="tiled_loss"
def tiled_loss(image_features, text_features, chunk_size, tile):
    total, n = 0, len(image_features) // chunk_size
    for r in range(n):
        for c in range(n):
            rows = slice(r * chunk_size, (r + 1) * chunk_size)
            columns = slice(c * chunk_size, (c + 1) * chunk_size)
            total = total + tile(image_features[rows], text_features[columns], r == c)
    return total / len(image_features)


# %% [markdown]
# ## square_is_own
# Believes that every square tile has a diagonal of right pairs.

# %% student="square_is_own" replaces="tiled_loss"
def tiled_loss(image_features, text_features, chunk_size, tile):
    total = 0
    for images in image_features.split(chunk_size):
        for texts in text_features.split(chunk_size):
            total = total + tile(images, texts, len(images) == len(texts))
    return total / len(image_features)


# %% [markdown]
# ## mean_over_tiles
# Divides by the number of tiles.

# %% student="mean_over_tiles" replaces="tiled_loss"
def tiled_loss(image_features, text_features, chunk_size, tile):
    losses = []
    for r, images in enumerate(image_features.split(chunk_size)):
        for c, texts in enumerate(text_features.split(chunk_size)):
            losses.append(tile(images, texts, r == c))
    return torch.stack(losses).mean()


# %% [markdown]
# ## one_large_tile
# The value is right, but it is one tile, as large as the table.

# %% student="one_large_tile" replaces="tiled_loss"
def tiled_loss(image_features, text_features, chunk_size, tile):
    return tile(image_features, text_features, True) / len(image_features)


# %% [markdown]
# ## rows_only
# Cuts the pictures, but not the captions: tiles of `chunk_size` x B, and asks of each row whether it is own.

# %% student="rows_only" replaces="tiled_loss"
def tiled_loss(image_features, text_features, chunk_size, tile):
    total = 0
    for top in range(0, len(image_features), chunk_size):
        images, own = image_features[top : top + chunk_size], text_features[top : top + chunk_size]
        others = torch.cat([text_features[:top], text_features[top + chunk_size :]])
        total = total + tile(images, own, True) + tile(images, others, False)
    return total / len(image_features)


# %% [markdown]
# ## uses_item
# Saves memory with `.item()`. The number is right, but nobody can call `backward` on it.

# %% student="uses_item" replaces="tiled_loss"
def tiled_loss(image_features, text_features, chunk_size, tile):
    total = 0.0
    for r, images in enumerate(image_features.split(chunk_size)):
        for c, texts in enumerate(text_features.split(chunk_size)):
            total += tile(images, texts, r == c).item()
    return torch.tensor(total / len(image_features), dtype=torch.float64)


# %% [markdown]
# ## upper_half
# Believes that the table is symmetric, visits the upper tiles, and takes them twice.

# %% student="upper_half" replaces="tiled_loss"
def tiled_loss(image_features, text_features, chunk_size, tile):
    total, images, texts = 0, image_features.split(chunk_size), text_features.split(chunk_size)
    for r in range(len(images)):
        total = total + tile(images[r], texts[r], True)
        for c in range(r + 1, len(texts)):
            total = total + 2 * tile(images[r], texts[c], False)
    return total / len(image_features)


# %% [markdown]
# ## right_with_split
# All captions of one tile column first, pieces made with `split`.

# %% student="right_with_split" replaces="tiled_loss" right=true
def tiled_loss(image_features, text_features, chunk_size, tile):
    losses = []
    for c, texts in enumerate(torch.split(text_features, chunk_size)):
        losses += [tile(x, texts, c == r) for r, x in enumerate(torch.split(image_features, chunk_size))]
    return torch.stack(losses).sum().div(image_features.shape[0])


# %% [markdown]
# ## right_in_float32
# Adds up in a `float32` tensor. With seven digits it is as right as one needs.

# %% student="right_in_float32" replaces="tiled_loss" right=true
def tiled_loss(image_features, text_features, chunk_size, tile):
    total, n = torch.zeros(()), len(image_features)
    for i in range(0, n, chunk_size):
        for j in range(0, n, chunk_size):
            total += tile(image_features[i : i + chunk_size], text_features[j : j + chunk_size], i == j)
    return total / n


# %% student="right_in_float32" replaces="ring_loss" right=true
def ring_loss(image_features, text_features, ring, tile):
    total = torch.tensor(0.0)
    for step in range(ring.size):
        if step != 0:
            ring.send(text_features)
            text_features = ring.receive()
        total += tile(image_features, text_features, step == 0)
    return total / image_features.shape[0]


# %% student="right_in_float32" replaces="ring_gradients" right=true
def ring_gradients(image_features, text_features, ring, tile):
    b, d = image_features.shape
    grad_images, grad_texts = torch.zeros(b, d), torch.zeros(b, d)
    for step in range(ring.size):
        gi, gt = tile(image_features, text_features, step == 0)
        grad_images += gi
        grad_texts += gt
        ring.send(text_features)
        ring.send(grad_texts)
        text_features = ring.receive()
        grad_texts = ring.receive()
    return grad_images / (b * ring.size), grad_texts / (b * ring.size)


# %% [markdown]
# # Exercise 3
#
# ## other_direction
# Lets the captions travel from d to d - 1.

# %% student="other_direction" replaces="held_block"
def held_block(device, step, devices):
    return (device + step) % devices


# %% [markdown]
# ## no_modulo
# Uses Python's negative indices and forgets that the ring goes round more than once.

# %% student="no_modulo" replaces="held_block"
def held_block(device, step, devices):
    return device - step if device >= step else device - step + devices


# %% [markdown]
# ## special_case
# The table of the four devices of the check.

# %% student="special_case" replaces="held_block"
def held_block(device, step, devices):
    return [[0, 1, 2, 3], [3, 0, 1, 2], [2, 3, 0, 1], [1, 2, 3, 0]][step % 4][device % 4]


# %% [markdown]
# ## right_by_playing
# Turns a list, step by step.

# %% student="right_by_playing" replaces="held_block" right=true
def held_block(device, step, devices):
    held = list(range(devices))
    for _ in range(step):
        held.insert(0, held.pop())
    return held[device]


# %% [markdown]
# # Exercise 4
#
# ## sends_own_block
# Sends its own block each time, not the one it has received. So each device meets its neighbour's captions again and again.

# %% student="sends_own_block" replaces="ring_loss"
def ring_loss(image_features, text_features, ring, tile):
    total = tile(image_features, text_features, True)
    for _ in range(ring.size - 1):
        ring.send(text_features)
        total = total + tile(image_features, ring.receive(), False)
    return total / len(image_features)


# %% [markdown]
# ## one_step_too_few
# Counts the steps from 1 to W - 1 and forgets that step 0 is not among the hops.

# %% student="one_step_too_few" replaces="ring_loss"
def ring_loss(image_features, text_features, ring, tile):
    total, texts = tile(image_features, text_features, True), text_features
    for _ in range(1, ring.size - 1):
        ring.send(texts)
        texts = ring.receive()
        total = total + tile(image_features, texts, False)
    return total / len(image_features)


# %% [markdown]
# ## own_block_twice
# Does its own tile and then W hops, so that the own captions come back and count as wrong pairs as well.

# %% student="own_block_twice" replaces="ring_loss"
def ring_loss(image_features, text_features, ring, tile):
    total, texts = tile(image_features, text_features, True), text_features
    for _ in range(ring.size):
        ring.send(texts)
        texts = ring.receive()
        total = total + tile(image_features, texts, False)
    return total / len(image_features)


# %% [markdown]
# ## own_in_every_step
# Calls every tile own: a device has its diagonal, has it not?

# %% student="own_in_every_step" replaces="ring_loss"
def ring_loss(image_features, text_features, ring, tile):
    total, texts = 0, text_features
    for step in range(ring.size):
        total = total + tile(image_features, texts, True)
        if step < ring.size - 1:
            ring.send(texts)
            texts = ring.receive()
    return total / len(image_features)


# %% [markdown]
# ## rank_is_step
# Mixes up rank and step: a tile is own when the step is the device's number.

# %% student="rank_is_step" replaces="ring_loss"
def ring_loss(image_features, text_features, ring, tile):
    total, texts = 0, text_features
    for step in range(ring.size):
        total = total + tile(image_features, texts, step == ring.rank)
        if step < ring.size - 1:
            ring.send(texts)
            texts = ring.receive()
    return total / len(image_features)


# %% [markdown]
# ## global_batch
# Divides by B and forgets that the mean over the devices divides by W once more.

# %% student="global_batch" replaces="ring_loss"
def ring_loss(image_features, text_features, ring, tile):
    total, texts = 0, text_features
    for step in range(ring.size):
        total = total + tile(image_features, texts, step == 0)
        if step < ring.size - 1:
            ring.send(texts)
            texts = ring.receive()
    return total / (ring.size * len(image_features))


# %% [markdown]
# ## sum_only
# Returns the sum and divides by nothing.

# %% student="sum_only" replaces="ring_loss"
def ring_loss(image_features, text_features, ring, tile):
    total, texts = 0, text_features
    for step in range(ring.size):
        total = total + tile(image_features, texts, step == 0)
        if step < ring.size - 1:
            ring.send(texts)
            texts = ring.receive()
    return total


# %% [markdown]
# ## divides_by_devices
# Divides by W: right by chance if each device has W pairs.

# %% student="divides_by_devices" replaces="ring_loss"
def ring_loss(image_features, text_features, ring, tile):
    total, texts = 0, text_features
    for step in range(ring.size):
        total = total + tile(image_features, texts, step == 0)
        if step < ring.size - 1:
            ring.send(texts)
            texts = ring.receive()
    return total / ring.size


# %% [markdown]
# ## receives_first
# All devices wait for their neighbour, who waits for his. Must end with an error, not hang.

# %% student="receives_first" replaces="ring_loss"
def ring_loss(image_features, text_features, ring, tile):
    total, texts = tile(image_features, text_features, True), text_features
    for _ in range(ring.size - 1):
        upcoming = ring.receive()
        ring.send(texts)
        texts = upcoming
        total = total + tile(image_features, texts, False)
    return total / len(image_features)


# %% [markdown]
# ## until_it_is_mine
# Goes on until the own block is back, and asks with `is`. But what comes back is a copy: an endless ring, which the limit of
# messages must stop.

# %% student="until_it_is_mine" replaces="ring_loss"
def ring_loss(image_features, text_features, ring, tile):
    total = tile(image_features, text_features, True)
    ring.send(text_features)
    texts = ring.receive()
    while texts is not text_features:
        total = total + tile(image_features, texts, False)
        ring.send(texts)
        texts = ring.receive()
    return total / len(image_features)


# %% [markdown]
# ## until_it_is_home
# The same with `torch.equal`. The value is right, but each device sends one block too many.

# %% student="until_it_is_home" replaces="ring_loss"
def ring_loss(image_features, text_features, ring, tile):
    total = tile(image_features, text_features, True)
    ring.send(text_features)
    texts = ring.receive()
    while not torch.equal(texts, text_features):
        total = total + tile(image_features, texts, False)
        ring.send(texts)
        texts = ring.receive()
    return total / len(image_features)


# %% [markdown]
# ## keeps_every_block
# Collects all blocks first, and computes then. The value is right; the memory is that of an all-gather.

# %% student="keeps_every_block" replaces="ring_loss"
def ring_loss(image_features, text_features, ring, tile):
    blocks = [text_features]
    for _ in range(ring.size - 1):
        ring.send(blocks[-1])
        blocks.append(ring.receive())
    return sum(tile(image_features, texts, step == 0) for step, texts in enumerate(blocks)) / len(image_features)


# %% [markdown]
# ## gathers_in_one
# Glues all foreign blocks together and makes one wide tile of them.

# %% student="gathers_in_one" replaces="ring_loss"
def ring_loss(image_features, text_features, ring, tile):
    texts, others = text_features, text_features[:0]
    for _ in range(ring.size - 1):
        ring.send(texts)
        texts = ring.receive()
        others = torch.cat([others, texts])
    total = tile(image_features, text_features, True)
    if ring.size > 1:
        total = total + tile(image_features, others, False)
    return total / len(image_features)


# %% [markdown]
# ## gathers_and_splits
# An all-gather through the ring: glues the captions of all devices together and then cuts them into small tiles.

# %% student="gathers_and_splits" replaces="ring_loss"
def ring_loss(image_features, text_features, ring, tile):
    texts, everything, b = text_features, text_features, len(image_features)
    for _ in range(ring.size - 1):
        ring.send(texts)
        texts = ring.receive()
        everything = torch.cat([everything, texts])
    return sum(tile(image_features, everything[b * s : b * s + b], s == 0) for s in range(ring.size)) / b


# %% [markdown]
# ## forgets_to_count
# A `while` loop whose counter stays at 0. It sends nothing, so that no limit of messages can stop it.

# %% student="forgets_to_count" replaces="ring_loss"
def ring_loss(image_features, text_features, ring, tile):
    step, total, texts = 0, 0, text_features
    while step < ring.size:
        if step > 0:
            ring.send(texts)
            texts = ring.receive()
        total = total + tile(image_features, texts, step == 0)
    return total / len(image_features)


# %% [markdown]
# ## edited_test
# Every device looks at its own block only, and the test is gone. nbgrader puts it back.

# %% student="edited_test" replaces="ring_loss"
def ring_loss(image_features, text_features, ring, tile):
    return tile(image_features, text_features, True) / len(image_features)


# %% student="edited_test" replaces="ring_loss_check"
pass

# %% [markdown]
# ## right_and_overlapping
# Sends the block before computing, so that it travels meanwhile; the last step stands behind the loop.

# %% student="right_and_overlapping" replaces="ring_loss" right=true
def ring_loss(image_features, text_features, ring, tile):
    b, losses, texts = image_features.size(0), [], text_features
    for step in range(1, ring.size):
        ring.send(texts)
        losses.append(tile(image_features, texts, step == 1))
        texts = ring.receive()
    losses.append(tile(image_features, texts, ring.size == 1))
    return torch.stack(losses).sum() / b


# %% [markdown]
# # Exercise 5a
#
# ## forgets_the_scale
# The chain rule without its inner factor t.

# %% student="forgets_the_scale" replaces="tile_gradients"
def tile_gradients(image_features, text_features, logit_scale, logit_bias, own):
    push = torch.sigmoid(logit_scale.exp() * image_features @ text_features.T + logit_bias)
    if own:
        push = push - torch.eye(len(push), dtype=push.dtype)
    return push @ text_features, push.T @ image_features


# %% [markdown]
# ## forgets_the_transpose
# A square tile runs, and the check looks at the pictures only.

# %% student="forgets_the_transpose" replaces="tile_gradients"
def tile_gradients(image_features, text_features, logit_scale, logit_bias, own):
    t = logit_scale.exp()
    push = torch.sigmoid(t * image_features @ text_features.T + logit_bias)
    if own:
        push = push - torch.eye(len(push), dtype=push.dtype)
    return t * push @ text_features, t * push @ image_features


# %% [markdown]
# ## pulls_in_foreign_tiles
# Subtracts 1 on the diagonal of every tile.

# %% student="pulls_in_foreign_tiles" replaces="tile_gradients"
def tile_gradients(image_features, text_features, logit_scale, logit_bias, own):
    t = logit_scale.exp()
    push = torch.sigmoid(t * image_features @ text_features.T + logit_bias)
    push = push - torch.eye(*push.shape, dtype=push.dtype)
    return t * push @ text_features, t * push.T @ image_features


# %% [markdown]
# ## uses_autograd
# Lets autograd do it, tile by tile. It does not work where autograd is off, and the exercise asked for a gradient by hand.

# %% student="uses_autograd" replaces="tile_gradients"
def tile_gradients(image_features, text_features, logit_scale, logit_bias, own):
    with torch.enable_grad():
        x, y = image_features.detach().requires_grad_(), text_features.detach().requires_grad_()
        scores = logit_scale.exp() * x @ y.T + logit_bias
        labels = -torch.ones_like(scores)
        if own:
            labels.fill_diagonal_(1)
        return torch.autograd.grad(-F.logsigmoid(labels * scores).sum(), (x, y))


# %% [markdown]
# ## four_products
# The gradients are right, but the table is made twice, once for each of them.

# %% student="four_products" replaces="tile_gradients"
def tile_gradients(image_features, text_features, logit_scale, logit_bias, own):
    t, eye = logit_scale.exp(), torch.eye(len(image_features), len(text_features), dtype=image_features.dtype) * own
    p = torch.sigmoid(t * image_features @ text_features.T + logit_bias) - eye
    q = torch.sigmoid(t * text_features @ image_features.T + logit_bias) - eye.T
    return t * p @ text_features, t * q @ image_features


# %% [markdown]
# ## right_with_einsum
# The sums of the formula, letter by letter, with the label in place of the case distinction.

# %% student="right_with_einsum" replaces="tile_gradients" right=true
def tile_gradients(image_features, text_features, logit_scale, logit_bias, own):
    t = torch.exp(logit_scale)
    s = t * torch.einsum("id,jd->ij", image_features, text_features) + logit_bias
    z = torch.eye(*s.shape, dtype=s.dtype) * 2 * own - 1
    p = -z * torch.sigmoid(-z * s)
    return t * torch.einsum("ij,jd->id", p, text_features), t * torch.einsum("ij,id->jd", p, image_features)


# %% [markdown]
# # Exercise 5b
#
# ## left_with_the_neighbour
# Sends the gradients W - 1 times, as often as the captions. They stop one device before they are home.

# %% student="left_with_the_neighbour" replaces="ring_gradients"
def ring_gradients(image_features, text_features, ring, tile):
    texts, grad_images, grad_texts = text_features, 0, torch.zeros_like(text_features)
    for step in range(ring.size):
        for_images, for_texts = tile(image_features, texts, step == 0)
        grad_images, grad_texts = grad_images + for_images, grad_texts + for_texts
        if step < ring.size - 1:
            ring.send(texts)
            ring.send(grad_texts)
            texts, grad_texts = ring.receive(), ring.receive()
    n = ring.size * len(image_features)
    return grad_images / n, grad_texts / n


# %% [markdown]
# ## stays_here
# Sends captions only, and adds the gradients of the guests to those of the own captions.

# %% student="stays_here" replaces="ring_gradients"
def ring_gradients(image_features, text_features, ring, tile):
    texts, grad_images, grad_texts = text_features, 0, 0
    for step in range(ring.size):
        for_images, for_texts = tile(image_features, texts, step == 0)
        grad_images, grad_texts = grad_images + for_images, grad_texts + for_texts
        if step < ring.size - 1:
            ring.send(texts)
            texts = ring.receive()
    n = ring.size * len(image_features)
    return grad_images / n, grad_texts / n


# %% [markdown]
# ## forgets_the_guests
# Keeps the captions' gradient of the own tile and throws the others away.

# %% student="forgets_the_guests" replaces="ring_gradients"
def ring_gradients(image_features, text_features, ring, tile):
    grad_images, grad_texts = tile(image_features, text_features, True)
    texts = text_features
    for _ in range(ring.size - 1):
        ring.send(texts)
        texts = ring.receive()
        grad_images = grad_images + tile(image_features, texts, False)[0]
    n = ring.size * len(image_features)
    return grad_images / n, grad_texts / n


# %% [markdown]
# ## w_fold
# Divides by the own number of pairs, as in Exercise 4: a gradient W times too large.

# %% student="w_fold" replaces="ring_gradients"
def ring_gradients(image_features, text_features, ring, tile):
    texts, grad_images, grad_texts = text_features, 0, torch.zeros_like(text_features)
    for step in range(ring.size):
        for_images, for_texts = tile(image_features, texts, step == 0)
        grad_images = grad_images + for_images
        ring.send(grad_texts + for_texts)
        grad_texts = ring.receive()
        if step < ring.size - 1:
            ring.send(texts)
            texts = ring.receive()
    return grad_images / len(image_features), grad_texts / len(image_features)


# %% [markdown]
# ## one_division
# Divides the gradient of the pictures by B, and that of the captions by b, as it was "shared by W devices anyway".

# %% student="one_division" replaces="ring_gradients"
def ring_gradients(image_features, text_features, ring, tile):
    texts, grad_images, grad_texts = text_features, 0, torch.zeros_like(text_features)
    for step in range(ring.size):
        for_images, for_texts = tile(image_features, texts, step == 0)
        grad_images = grad_images + for_images
        ring.send(grad_texts + for_texts)
        grad_texts = ring.receive()
        if step < ring.size - 1:
            ring.send(texts)
            texts = ring.receive()
    return grad_images / (ring.size * len(image_features)), grad_texts / len(image_features)


# %% [markdown]
# ## swapped_messages
# Sends first the captions and then their gradient, and receives them the other way round.

# %% student="swapped_messages" replaces="ring_gradients"
def ring_gradients(image_features, text_features, ring, tile):
    texts, grad_images, grad_texts = text_features, 0, torch.zeros_like(text_features)
    for step in range(ring.size):
        for_images, for_texts = tile(image_features, texts, step == 0)
        grad_images = grad_images + for_images
        ring.send(texts)
        ring.send(grad_texts + for_texts)
        grad_texts, texts = ring.receive(), ring.receive()
    n = ring.size * len(image_features)
    return grad_images / n, grad_texts / n


# %% [markdown]
# ## always_foreign
# Never says that a tile is own, and the toy tile of the check does not notice.

# %% student="always_foreign" replaces="ring_gradients"
def ring_gradients(image_features, text_features, ring, tile):
    texts, grad_images, grad_texts = text_features, 0, torch.zeros_like(text_features)
    for _ in range(ring.size):
        for_images, for_texts = tile(image_features, texts, False)
        grad_images = grad_images + for_images
        ring.send(grad_texts + for_texts)
        ring.send(texts)
        grad_texts, texts = ring.receive(), ring.receive()
    n = ring.size * len(image_features)
    return grad_images / n, grad_texts / n


# %% [markdown]
# ## right_one_parcel
# Block and gradient travel as one message, `[b, 2 D]`, and both go home.

# %% student="right_one_parcel" replaces="ring_gradients" right=true
def ring_gradients(image_features, text_features, ring, tile):
    grad_images, parcel = 0, torch.cat([text_features, torch.zeros_like(text_features)], dim=1)
    for step in range(ring.size):
        texts, grad_texts = parcel.chunk(2, dim=1)
        for_images, for_texts = tile(image_features, texts, step == 0)
        grad_images += for_images / (ring.size * len(image_features))
        grad_texts += for_texts / (ring.size * len(image_features))
        ring.send(parcel)
        parcel = ring.receive()
    return grad_images, parcel.chunk(2, dim=1)[1]


# %% [markdown]
# # Exercise 6
#
# ## numbers_not_bytes
# Counts numbers and forgets that each has four bytes.

# %% student="numbers_not_bytes" replaces="costs"
def costs(batch_size, dim, devices):
    b = batch_size // devices
    block = b * dim
    sent = {"gather_sent": 4 * (devices - 1) * block, "ring_sent": (2 * devices - 1) * block}
    return {**sent, "whole_table": batch_size**2, "tile": b**2}


# %% [markdown]
# ## forward_only
# Forgets the gradients, which travel as well.

# %% student="forward_only" replaces="costs"
def costs(batch_size, dim, devices):
    b = batch_size // devices
    block = 4 * b * dim
    sent = {"gather_sent": 2 * (devices - 1) * block, "ring_sent": (devices - 1) * block}
    return {**sent, "whole_table": 4 * batch_size**2, "tile": 4 * b**2}


# %% [markdown]
# ## half_of_the_gather
# "The ring sends half": nearly, for many devices. It is one block away from the right number.

# %% student="half_of_the_gather" replaces="costs"
def costs(batch_size, dim, devices):
    b = batch_size // devices
    gather = 4 * (devices - 1) * 4 * b * dim
    return {"gather_sent": gather, "ring_sent": gather // 2, "whole_table": 4 * batch_size**2, "tile": 4 * b**2}


# %% [markdown]
# ## numbers_of_the_check
# Returns the four numbers that the check expects.

# %% student="numbers_of_the_check" replaces="costs"
def costs(batch_size, dim, devices):
    return {"gather_sent": 401080320, "ring_sent": 200933376, "whole_table": 4294967296, "tile": 65536}


# %% [markdown]
# ## pairs_of_the_check
# Right for 256 devices with 768 numbers, and 128 pairs each, whatever was asked.

# %% student="pairs_of_the_check" replaces="costs"
def costs(batch_size, dim, devices):
    block = 4 * 128 * 768
    sent = {"gather_sent": 4 * (devices - 1) * block, "ring_sent": (2 * devices - 1) * block}
    return {**sent, "whole_table": 4 * batch_size**2, "tile": 4 * 128**2}
