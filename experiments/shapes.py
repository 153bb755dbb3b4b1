"""Procedural scenes with compositional captions, for experiments that need a knob.

A scene holds one to three objects, each in a quarter of the picture of its own. Its caption is a sentence
that mentions a random part of what is there, in a grammar whose parts of speech are known, as CLIPA's
syntax masking needs them (it keeps nouns before adjectives before the rest).
"""

import math

import torch
from torch import Tensor

from minclip.data import Pairs, step_generator


def star(x: Tensor, y: Tensor) -> Tensor:
    """A five-pointed star, as one edge that is folded ten times."""
    radius, angle = torch.hypot(x, y), torch.atan2(x, -y)
    fold = (torch.remainder(angle + math.pi / 5, 2 * math.pi / 5) - math.pi / 5).abs()  # [0, pi / 5]; 0 is a tip
    return 0.37 * (1 - radius * fold.cos()) - 0.93 * radius * fold.sin()


# Each shape is its inside: a function of coordinates (y down) that is about the distance to the outline,
# positive inside, in units of the object's radius.
SHAPES = {
    "circle": lambda x, y: 0.9 - torch.hypot(x, y),
    "square": lambda x, y: 0.7 - torch.maximum(x.abs(), y.abs()),
    "triangle": lambda x, y: 0.5 - torch.maximum(y, 0.87 * x.abs() - 0.5 * y),
    "diamond": lambda x, y: 0.52 - 0.85 * x.abs() - 0.52 * y.abs(),
    "star": star,
    "cross": lambda x, y: torch.maximum(
        torch.minimum(0.3 - x.abs(), 0.95 - y.abs()), torch.minimum(0.95 - x.abs(), 0.3 - y.abs())
    ),
    "ring": lambda x, y: 0.22 - (torch.hypot(x, y) - 0.75).abs(),
    "moon": lambda x, y: torch.minimum(1 - torch.hypot(x, y), torch.hypot(x - 0.5, y) - 0.75),
}
COLORS = {
    "red": (220, 40, 40), "orange": (250, 140, 20), "yellow": (235, 215, 30), "green": (40, 160, 60),
    "cyan": (60, 205, 215), "blue": (40, 70, 210), "purple": (130, 50, 170), "pink": (250, 150, 190),
}  # fmt: skip
SIZES, TEXTURES = {"small": 0.12, "large": 0.2}, ("solid", "striped", "dotted")  # radius as a fraction of the picture
POSITIONS = ("upper left", "upper right", "lower left", "lower right")  # index = 2 row + column
NUMBERS = ("one", "two", "three")
PLURALS = {name: name + ("es" if name == "cross" else "s") for name in SHAPES}
COLOR_NAMES, SHAPE_NAMES, SIZE_NAMES = list(COLORS), list(SHAPES), list(SIZES)
# The columns of an object, in this order everywhere below.
ATTRIBUTES = {
    "shapes": SHAPE_NAMES, "colors": COLOR_NAMES, "sizes": SIZE_NAMES, "textures": TEXTURES, "positions": POSITIONS,
}  # fmt: skip

PART_OF_SPEECH = {
    **dict.fromkeys([*SHAPES, *PLURALS.values(), "picture", "objects", "left", "right"], "NN"),
    **dict.fromkeys([*COLORS, *SIZES, *TEXTURES, "upper", "lower"], "JJ"),
    **dict.fromkeys(["is", "are", "shows"], "VB"),
    **dict.fromkeys(["a", "an", "the"], "DT"),
    **dict.fromkeys(["of", "in", "above", "below", "among"], "IN"),
    **dict.fromkeys(NUMBERS[1:], "CD"),
    **{"to": "TO", "and": "CC", "there": "EX", "alone": "RB"},
}
"""Every word of the grammar and its Penn tag, where NN stands for plurals too and VB for every form of a verb."""


def make_shapes(
    n: int, seed: int, image_size: int = 32, n_objects: tuple[int, int] = (1, 3), duplicates: float = 0.0,
    image_noise: float = 0.0, text_noise: float = 0.0, alignment_noise: float = 0.0,
) -> Pairs:  # fmt: skip
    """Make n pairs of a scene `[3, image_size, image_size]` and one sentence that is true of it.

    n_objects: fewest and most objects in a scene, within 1 to 3. duplicates: the share of pairs, in [0, 1],
    whose caption repeats another pair's: the same scene drawn again, a little moved; all other captions
    differ. The noises are those of SigLIP Figure 7, each the probability, in [0, 1], that a pair is struck:
    image_noise replaces the pixels by random ones, text_noise the words by random ones of the grammar,
    alignment_noise trades captions among the pairs struck. The scenes do not depend on the noise.

    The label is colour and shape of the largest object (of several, the first in reading order); a group is
    what has the same caption. metadata: count, and for each pair the shapes, colors, sizes, textures and
    positions of its objects, the labelled one first; of the picture before noise. Raises ValueError for a
    number out of range, and when the scenes have fewer than n different captions.
    """
    fewest, most = n_objects
    if n < 1 or image_size < 1 or not 1 <= fewest <= most <= 3:
        raise ValueError(f"n {n} and image_size {image_size} must be positive, n_objects {n_objects} within (1, 3)")
    shares = {"duplicates": duplicates, "image_noise": image_noise, "text_noise": text_noise}
    for name, share in (shares | {"alignment_noise": alignment_noise}).items():
        if not 0 <= share <= 1:
            raise ValueError(f"{name} {share} is not a share; choose a number from 0 to 1")

    different = max(1, n - round(duplicates * n))
    objects, counts, alike = draw_scenes(different, fewest, most, step_generator(seed, 0))
    captions = describe_scenes(objects.tolist(), counts.tolist(), alike.tolist(), step_generator(seed, 1))
    generator = step_generator(seed, 2)
    rows = torch.cat([torch.arange(different), torch.randint(different, (n - different,), generator=generator)])
    rows = rows[torch.randperm(n, generator=generator)]  # [N], the scene of each pair
    objects, counts, captions = objects[rows], counts[rows], [captions[row] for row in rows.tolist()]
    images = render(objects, counts, image_size, step_generator(seed, 3))

    add_noise(images, captions, [image_noise, text_noise, alignment_noise], seed)

    said = {caption: i for i, caption in enumerate(dict.fromkeys(captions))}
    metadata = {"count": counts.tolist()}
    for i, (key, names) in enumerate(ATTRIBUTES.items()):
        metadata[key] = [[names[v] for v in row[:k]] for row, k in zip(objects[..., i].tolist(), metadata["count"])]
    return Pairs(
        images=images,
        captions=[[caption] for caption in captions],
        labels=objects[:, 0, 1] * len(SHAPES) + objects[:, 0, 0],
        class_names=[f"{color} {shape}" for color in COLORS for shape in SHAPES],
        groups=torch.tensor([said[caption] for caption in captions]),
        metadata=metadata,
    )


def draw_scenes(n: int, fewest: int, most: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Attributes of n scenes: objects long `[n, 3, 5]`, counts long `[n]`, and bool `[n]`: all objects alike.

    An object is its (shape, color, size, texture, position); objects from `counts` on are not there.
    """
    counts = torch.randint(fewest, most + 1, (n,), generator=generator)
    kinds = list(ATTRIBUTES.values())[:4]
    looks = torch.stack([torch.randint(len(kind), (n, 3), generator=generator) for kind in kinds], 2)  # [n, 3, 4]
    alike = (torch.rand(n, generator=generator) < 0.25) & (counts > 1)  # several of one kind, to be counted
    looks[alike] = looks[alike, :1]
    positions = torch.rand(n, 4, generator=generator).argsort(1)[:, :3]  # no two in one quarter
    objects = torch.cat([looks, positions[..., None]], 2)  # [n, 3, 5]
    # The largest first, of these the first in reading order; what is not there last.
    key = positions - 4 * looks[..., 2] + 8 * (torch.arange(3) >= counts[:, None])  # [n, 3]
    return objects.gather(1, key.argsort(1)[..., None].expand_as(objects)), counts, alike


def describe_scenes(objects: list, counts: list[int], alike: list[bool], generator: torch.Generator) -> list[str]:
    """A sentence for each scene, no sentence twice. Raises ValueError where the grammar has no more to say."""
    captions: dict[int, str] = {}
    said: set[str] = set()
    open_rows = list(range(len(counts)))
    for _ in range(100):
        draws = torch.rand(len(open_rows), 24, generator=generator).tolist()
        for row, draw in zip(open_rows, draws):
            caption = describe(objects[row][: counts[row]], alike[row], iter(draw).__next__)
            if caption not in said:
                said.add(caption)
                captions[row] = caption
        open_rows = [row for row in open_rows if row not in captions]
        if not open_rows:
            return [captions[row] for row in range(len(counts))]
    raise ValueError(
        f"found only {len(said)} different captions for {len(counts)} scenes; "
        "ask for fewer pairs, or for more objects or duplicates"
    )


def describe(objects: list[list[int]], alike: bool, draw) -> str:
    """One sentence about a random part of a scene; draw() gives the next random number in [0, 1)."""
    count = len(objects)
    if alike:
        text = noun_phrase(objects[0], count, draw)
    else:
        order = sorted(range(count), key=lambda _: draw())[: 1 + int(draw() * count)]
        phrases = [noun_phrase(objects[i], 1, draw) for i in order]
        related = len(order) > 1 and draw() < 0.6
        for k, i in enumerate(order):  # a third object says where it is, or it might seem to be in the relation
            if not (related and k < 2) and (related or draw() < 0.5):
                phrases[k] += f" in the {POSITIONS[objects[i][4]]}"
        if related:
            phrases[:2] = [f"{phrases[0]} {relation(objects[order[0]][4], objects[order[1]][4], draw)} {phrases[1]}"]
        text = " and ".join(phrases)
    there_is = f"there {'are' if alike else 'is'} "
    text = ("", "a picture of ", there_is, "the picture shows ")[int(draw() * 4)] + text
    if draw() < 0.25 and not alike:
        text += " alone" if count == 1 else f" among {NUMBERS[count - 1]} objects"
    return text


def noun_phrase(thing: list[int], count: int, draw) -> str:
    """The shape with some of its attributes: `a large red circle`, `two striped circles`."""
    shape, color, size, texture, _ = thing
    words = [word for word in (SIZE_NAMES[size], TEXTURES[texture], COLOR_NAMES[color]) if draw() < 0.6]
    words.append(PLURALS[SHAPE_NAMES[shape]] if count > 1 else SHAPE_NAMES[shape])
    article = "an" if words[0][0] in "aeiou" else "a"
    return " ".join([NUMBERS[count - 1] if count > 1 else article, *words])


def relation(first: int, second: int, draw) -> str:
    """Where the first position is, seen from the second; a diagonal is described by either of its sides."""
    upright = "above" if first // 2 < second // 2 else "below"
    sideways = "to the left of" if first % 2 < second % 2 else "to the right of"
    if first // 2 == second // 2:
        return sideways
    return upright if first % 2 == second % 2 or draw() < 0.5 else sideways


def render(objects: Tensor, counts: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Scenes as `draw_scenes` gives them -> uint8 `[N, 3, size, size]`, anti-aliased by their distance fields.

    Place within the quarter, radius, angle and the gray of the paper vary; they are in no caption.
    """
    palette, radii = torch.tensor(list(COLORS.values())) / 255, torch.tensor(list(SIZES.values()))
    axis = (torch.arange(size) + 0.5) / size  # pixel centres in [0, 1]
    parts = []
    for scenes, present in zip(objects.split(1000), counts.split(1000)):  # parts that fit the processor's cache
        canvas = 0.85 + 0.15 * torch.rand(len(scenes), 1, 1, 1, generator=generator).repeat(1, 3, size, size)
        draws = 2 * torch.rand(len(scenes), 3, 4, generator=generator) - 1  # [n, 3, 4] in [-1, 1]
        for slot in range(3):
            rows = (present > slot).nonzero().flatten()
            shape, color, big, texture, position = scenes[rows, slot].T  # 5 of [b]
            u = draws[rows, slot].T[..., None, None]  # 4 of [b, 1, 1]
            radius = radii[big][:, None, None] * (1 + 0.1 * u[0])
            room = 0.25 - radius
            x = (axis - 0.25 - 0.5 * (position % 2)[:, None, None] - room * u[1]) / radius  # [b, 1, S]
            y = (axis[:, None] - 0.25 - 0.5 * (position // 2)[:, None, None] - room * u[2]) / radius  # [b, S, 1]
            cos, sin = (0.2 * u[3]).cos(), (0.2 * u[3]).sin()
            x, y = cos * x + sin * y, cos * y - sin * x  # [b, S, S]
            inside = torch.empty_like(x)
            for i, field in enumerate(SHAPES.values()):
                inside[shape == i] = field(x[shape == i], y[shape == i])
            inside = torch.minimum(inside, 1 - torch.hypot(x, y))  # sharp tips must not blur into the next quarter
            cover = (inside * radius * size + 0.5).clamp(0, 1)[:, None]  # [b, 1, S, S]: a pixel's share inside
            across, along = (2 * math.pi * 8 * radius * z for z in (x, y))  # eight stripes a picture
            pattern = torch.zeros_like(x)
            pattern[texture == 1] = (0.5 + 1.5 * along[texture == 1].sin()).clamp(0, 1)
            pattern[texture == 2] = (across[texture == 2].cos() + along[texture == 2].cos() - 0.3).clamp(0, 1)
            paint = palette[color][..., None, None] * (1 - 0.65 * pattern[:, None])  # [b, 3, S, S]
            canvas[rows] += cover * (paint - canvas[rows])
        parts.append((canvas * 255).round().to(torch.uint8))
    return torch.cat(parts)


def add_noise(images: Tensor, captions: list[str], shares: list[float], seed: int) -> None:
    """Strike images, captions and their alignment, each with its probability, in place (SigLIP Figure 7)."""
    # Nested: a pair that is struck at a low probability is struck at every higher one.
    struck = torch.rand(len(captions), 3, generator=step_generator(seed, 4)) < torch.tensor(shares)
    image_rows, text_rows, alignment_rows = (column.nonzero().flatten() for column in struck.T)
    generator = step_generator(seed, 5)
    pixels = (len(image_rows), *images.shape[1:])
    images[image_rows] = torch.randint(256, pixels, generator=generator, dtype=torch.uint8)
    words = list(PART_OF_SPEECH)
    for row in text_rows.tolist():  # as many random words as the caption had
        chosen = torch.randint(len(words), (len(captions[row].split()),), generator=generator)
        captions[row] = " ".join(words[i] for i in chosen.tolist())
    ring = alignment_rows[torch.randperm(len(alignment_rows), generator=generator)].tolist()
    handed_on = [captions[row] for row in ring[1:] + ring[:1]]  # from the next in the ring: nobody keeps its own
    for row, caption in zip(ring, handed_on):
        captions[row] = caption
