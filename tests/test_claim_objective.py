"""The four objectives of `clip-objective`: their losses and scores against textbook ones, their exam, and the judge."""

import math

import pytest
import torch
import torch.nn.functional as F
from conftest import assert_close, assert_differ, runner
from torch import nn

from experiments import objectives
from experiments.clip_objective import BAG, CLAIM, CLIP, LANGUAGE, STEPS, WORDS, steps_needed
from experiments.emoji import emoji, names_without_tones, tokenised
from experiments.objectives import OBJECTIVES, BagOfWords, Contrastive, LanguageModel, MeanEmbedding, information
from experiments.sweep import complete
from experiments.verdicts import overall
from minclip.tokenizer import END_ID, PAD_ID, START_ID
from minclip.towers import TextTransformer

VOCAB, FEATURES, WIDTH = 11, 6, 8
CAPTIONS = [[3, 4], [5], [4, 4, 6], [7, 8, 9, 10, 3], [3, 5, 4], [10], [9, 3, 4, 4]]
YES, NO, CONTRARY, OPEN = "reproduced", "not at this scale", "opposite", "inconclusive"
run = runner(
    {
        name: (
            objectives.train_with_objective,
            {"objective": name, "batch_size": 32, "steps": 3, "measured": [2], "embed_dim": 16, "text_width": 32},
        )
        for name in OBJECTIVES
    }
)


class Seen(nn.Module):
    """An image tower that returns what it is given."""

    output_dim = FEATURES

    def forward(self, images):
        return images


def as_ids(captions: list[list[int]], padding: int = 0) -> torch.Tensor:
    longest = max(map(len, captions)) + padding
    return torch.tensor([[START_ID, *c, END_ID, *[PAD_ID] * (longest - len(c))] for c in captions])


@pytest.fixture(autouse=True)
def one_thread():
    """As in a sweep."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def models(layers: int = 1) -> dict:
    """The four of them, in float64 and with weights large enough to matter."""
    torch.manual_seed(0)
    made = [
        LanguageModel(Seen(), VOCAB, WIDTH, layers),
        BagOfWords(Seen(), VOCAB),
        Contrastive(Seen(), MeanEmbedding(VOCAB, WIDTH), 5),
        Contrastive(Seen(), TextTransformer(VOCAB, 9, WIDTH, layers, 1), 5),
    ]
    for model in made:
        model.double()
        for parameter in model.parameters():
            if parameter.ndim:
                parameter.data.add_(0.5 * torch.randn(parameter.shape, dtype=torch.float64))
    return dict(zip(OBJECTIVES, made))


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(len(CAPTIONS), FEATURES, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def next_token(model: LanguageModel, feature, before: list[int]):
    """log p of each next token, after a picture and some tokens; one block, whose last token may see all."""
    rows = [model.image_projection(feature), *(model.token_embedding.weight[i] for i in before)]
    x = torch.stack([row + place for row, place in zip(rows, model.position_embedding)])  # [n, W]
    (block,) = model.blocks
    q, k, v = block.qkv(block.norm1(x)).chunk(3, 1)
    x = x[-1] + block.attention_out((q[-1] @ k.T / WIDTH**0.5).softmax(0) @ v)
    x = x + block.mlp_out(F.gelu(block.mlp_in(block.norm2(x))))
    return model.vocabulary(model.norm_out(x)).log_softmax(0)


def textbook_score(name: str, model, feature, caption: list[int]) -> tuple:
    """log p(caption | picture), the end told by a language model, and the number of tokens."""
    if name == LANGUAGE:
        told = [*caption, END_ID]
        return sum(next_token(model, feature, told[:i])[t] for i, t in enumerate(told)), len(told)
    log_p = (model.vocabulary.weight @ feature + model.vocabulary.bias).log_softmax(0)
    return sum(log_p[t] for t in caption), len(caption)


@pytest.mark.parametrize("name", [LANGUAGE, WORDS])
@pytest.mark.parametrize("padding", [0, 2])
def test_predictors_are_their_textbooks(name, padding, images):
    model, ids = models()[name], as_ids(CAPTIONS, padding)
    book = [[textbook_score(name, model, image, caption) for caption in CAPTIONS] for image in images]
    assert_close(model.scores(images, ids), torch.stack([torch.stack([s for s, _ in row]) for row in book]).detach())
    own = [book[i][i] for i in range(len(CAPTIONS))]
    if name == LANGUAGE:  # the mean over all tokens
        loss = -sum(score for score, _ in own) / sum(n for _, n in own)
    else:  # over captions, each with shares that sum to one
        loss = -sum(score / n for score, n in own) / len(own)
    assert_close(model.objective(images, ids), loss)


@pytest.mark.parametrize("name", [BAG, CLIP])
def test_contrastive_objectives_are_their_textbooks(name, images):
    model, ids = models()[name], as_ids(CAPTIONS)
    if name == BAG:
        embedding = model.text_tower.token_embedding.weight
        texts = torch.stack([sum(embedding[t] for t in caption) / len(caption) for caption in CAPTIONS])
    else:
        texts = model.text_tower(ids)
    projected = model.image_projection(images)[:, None], model.text_projection(texts)[None]
    cosines = F.cosine_similarity(*projected, dim=2)
    assert_close(model.scores(images, ids), cosines)
    logits, n = cosines * model.logit_scale.exp(), len(images)
    losses = [-logits[i, i] + (logits[i].logsumexp(0) + logits[:, i].logsumexp(0)) / 2 for i in range(n)]
    assert_close(model.objective(images, ids), sum(losses) / n)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_padding_says_nothing_and_the_picture_does(name, images):
    model, ids = models(2)[name], as_ids(CAPTIONS)
    longer = as_ids(CAPTIONS, 2)
    assert_close(model.scores(images, longer), model.scores(images, ids))
    assert_close(model.objective(images, longer), model.objective(images, ids))
    assert_differ(model.scores(images.roll(1, 0), ids), model.scores(images, ids))
    assert_differ(model.objective(images.roll(1, 0), ids), model.objective(images, ids))


def test_only_the_orderless_do_not_see_order(images):
    ids, turned = as_ids(CAPTIONS), as_ids([caption[::-1] for caption in CAPTIONS])
    for name, model in models().items():
        here, there = model.scores(images, ids), model.scores(images, turned)
        if name in (WORDS, BAG):
            assert_close(here, there)
        else:
            assert_differ(here[:, 0], there[:, 0])


@pytest.mark.parametrize("changed", [1, 2, 3, 4, 5])
def test_a_later_token_changes_no_earlier_one(changed, images):
    """Token `changed` of a caption decides its own probability and those after it."""
    model = models(2)[LANGUAGE]
    ids = as_ids([[3, 4, 5, 6, 7, 8]] * len(images))
    other = ids.clone()
    other[:, changed] = 9
    here, there = model.token_scores(images, ids), model.token_scores(images, other)
    assert_close(here[:, : changed - 1], there[:, : changed - 1])
    for place in range(changed - 1, ids.shape[1] - 1):
        assert_differ(here[:, place], there[:, place])


def test_information_is_the_logarithm_of_how_much_likelier_a_name_becomes():
    p = torch.tensor([[0.5, 0.1], [0.2, 0.3]], dtype=torch.float64)
    prior = torch.tensor([[0.4, 0.1], [0.2, 0.1]], dtype=torch.float64)
    expected = torch.tensor([[0.5 / 0.6, 0.1 / 0.2], [0.2 / 0.6, 0.3 / 0.2]], dtype=torch.float64).log()
    assert_close(information(p.log(), prior.log()), expected)


# Runs


def test_an_exam_asks_for_all_pictures_of_some_names(few_emoji, monkeypatch):
    monkeypatch.setattr(objectives, "NAMES", 20)
    images, ids, labels = objectives.exam("in_distribution")
    assert ids.shape[0] == 20 == len(labels.unique()) and len(images) == len(labels)
    names = [tokenised()[0].decode(row) for row in ids]
    pairs, plain_names = emoji("in_distribution"), set(names_without_tones().tolist())
    asked = [i for i, label in enumerate(pairs.labels.tolist()) if pairs.class_names[label].lower() in names]
    assert set(pairs.labels[asked].tolist()) <= plain_names
    assert [names[i] for i in labels] == [pairs.class_names[pairs.labels[i]].lower() for i in asked]
    assert_close(images, objectives.plain(pairs.images[asked], 16))
    assert torch.equal(ids, objectives.exam("in_distribution")[1])


@pytest.mark.parametrize("name", OBJECTIVES)
def test_same_seed_same_result(name, few_emoji, monkeypatch):
    monkeypatch.setattr(objectives, "NAMES", 10)
    timed = {"seconds_per_step"}
    first, again, other = ({k: v for k, v in run(name, s).items() if k not in timed} for s in (0, 0, 1))
    assert first == again and first["loss"] != other["loss"]
    assert first["curve_step"] == [2, 3] and first["curve_accuracy"] == [first["accuracy_2"], first["accuracy"]]
    assert first["accuracy"] == first["accuracy_3"] and math.isfinite(first["loss"])


def test_objectives_see_the_same_pictures_and_captions_and_seeds_see_others(few_emoji, monkeypatch):
    """Pictures and captions are drawn anew in every step; a third of the captions each are of one kind."""
    monkeypatch.setattr(objectives, "NAMES", 4)
    seen, asked = {}, []
    real, augmented = objectives.objective_model, objectives.augmented

    def watched(setting: dict, seed: int):
        model, fits = real({**setting, "objective": WORDS}, 7), []  # the fastest, and of one seed
        seen[setting["objective"], seed] = fits
        objective = model.objective
        monkeypatch.setattr(model, "objective", lambda *given: fits.append(given) or objective(*given))
        return model

    monkeypatch.setattr(objectives, "objective_model", watched)
    monkeypatch.setattr(objectives, "augmented", lambda *given: asked.append(given) or augmented(*given))
    for name, seed in ((WORDS, 0), (CLIP, 0), (WORDS, 1)):
        run(name, seed, measured=[])
    for same, other in zip(seen[WORDS, 0], seen[CLIP, 0], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(same, other))
    for some in zip(*asked, strict=True):  # rows, and what augments them: three steps of two seeds
        assert len(some) == 9 and len({tuple(x.flatten().tolist()) for x in some}) == 6
    assert not torch.equal(seen[WORDS, 0][0][1], seen[WORDS, 1][0][1])
    tokenizer, texts = tokenised()[0], emoji("train").captions
    kinds = [{text.lower() for text in kind} for kind in zip(*texts)]
    said = [tokenizer.decode(row) for _, ids in seen[WORDS, 0] for row in ids if row[-1] == PAD_ID]  # not cut
    counts = [sum(text in kind for text in said) for kind in kinds]
    assert min(counts) > 0.2 * len(said) and sum(counts) >= 0.95 * len(said), counts


def test_predictors_choose_by_information_and_the_others_by_cosine(few_emoji, monkeypatch):
    """Scores by hand: the likelier name is right for one picture of two, the more surprising one for both."""
    scores, prior = torch.tensor([[-1.0, -3.0], [-1.0, -2.0]]), torch.tensor([[-1.0, -2.5]])
    given = {2: scores, 3: prior}
    pictures = {n: torch.zeros(n, 3, 16, 16) for n in given}
    ids = torch.tensor([[START_ID, 5, END_ID], [START_ID, 6, END_ID]])
    monkeypatch.setattr(objectives, "exam", lambda split: (pictures[2], ids, torch.tensor([0, 1])))
    monkeypatch.setattr(objectives, "other_pictures", lambda: pictures[3])
    for name, model in models().items():
        monkeypatch.setattr(model, "scores", lambda images, ids: given[len(images)])
        expected = (1.0, 0.5) if name in (LANGUAGE, WORDS) else (0.5, 0.5)
        assert objectives.accuracy(model, "in_distribution") == expected and model.training, name


def test_all_objectives_start_from_the_same_image_tower(few_emoji):
    about = [complete(objectives.train_with_objective, setting) for setting in CLAIM.settings.values()]
    towers = [objectives.objective_model(setting, 3).image_tower.state_dict() for setting in about]
    for tower in towers[1:]:
        assert all(torch.equal(tower[key], towers[0][key]) for key in tower)
    with pytest.raises(ValueError, match="unknown objective 'words'; choose from language model"):
        objectives.objective_model({**about[0], "objective": "words"}, 3)


# The judge


def test_steps_needed_are_straight_in_the_logarithm():
    steps, curve = [30, 60, 240], [0.1, 0.3, 0.5]
    cases = {0.05: 30, 0.1: 30, 0.2: 30 * 2**0.5, 0.3: 60, 0.4: 120, 0.5: 240, 0.6: 240}
    for target, expected in cases.items():
        assert steps_needed(steps, curve, target) == pytest.approx(expected, abs=1e-9), target
    assert steps_needed([1, 2, 4, 8], [0.1, 0.4, 0.2, 0.6], 0.4) == 2  # the first time, though it falls again


def curves(**rows: tuple) -> dict:
    """Setting -> its measurements: the curve's five points; by the scores alone; the unseen artist."""
    names = {"language": LANGUAGE, "words": WORDS, "bag": BAG, "clip": CLIP}
    return {
        names[short]: {
            **{f"accuracy_{step}": value for step, value in zip(STEPS, row)},
            **{"accuracy": row[4], "accuracy_alone": row[5], "fxemoji": row[6]},
        }
        for short, row in rows.items()
    }


BY_HAND = [
    (
        curves(
            language=(0, 0.01, 0.02, 0.1, 0.2, 0.15, 0.1),
            words=(0.01, 0.05, 0.2, 0.3, 0.4, 0.1, 0.39),
            bag=(0.01, 0.04, 0.15, 0.4, 0.45, 0.45, 0.4),
            clip=(0.01, 0.04, 0.15, 0.3, 0.46, 0.46, 0.3),
        ),
        [(0.05, YES), (0.2, YES), (-0.05, CONTRARY), (0.1, YES), (0.18, YES), (0.2, YES), (0.35, YES), (0.01, NO),
         (0.01, NO), (0.29, YES), (math.log2(360 / 240), YES), (math.log2(360 / 120), YES)],
        YES,
    ),
    (
        curves(
            language=(0, 0.01, 0.02, 0.1, 0.2, 0.15, 0.1),
            words=(0.01, 0.05, 0.2, 0.3, 0.4, 0.1, 0.39),
            bag=(0.01, 0.04, 0.15, 0.31, 0.37, 0.37, 0.35),
            clip=(0.01, 0.04, 0.15, 0.3, 0.41, 0.41, 0.3),
        ),
        [(-0.03, CONTRARY), (0.2, YES), (-0.05, CONTRARY), (0.01, NO), (0.18, YES), (0.2, YES), (0.27, YES),
         (0.04, YES), (-0.04, CONTRARY), (0.29, YES), (0, OPEN), (math.log2(360 / 120), YES)],
        NO,
    ),
]  # fmt: skip


@pytest.mark.parametrize("case", [0, 1], ids=["holds", "fails"])
def test_effects_and_verdicts_of_numbers_by_hand(case):
    rows, expected, verdict = BY_HAND[case]
    measurements = [{"setting": name, "seed": seed, **rows[name]} for seed in CLAIM.seeds for name in CLAIM.settings]
    checks = CLAIM.judge(measurements)
    for check, (effect, said) in zip(checks, expected, strict=True):
        assert check.effect["mean"] == pytest.approx(effect, abs=1e-9), check.sentence
        assert check.verdict == said, check.sentence
    assert overall(checks) == verdict and sum(check.decisive for check in checks) == 2
