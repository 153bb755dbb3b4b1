"""Every text in every script goes in and comes back; special tokens are where they belong and nowhere else."""

import json
import os
import time
import unicodedata
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minclip.masking import mask_text
from minclip.syntax import word_priority
from minclip.tokenizer import END_ID, MAX_CHARACTERS, MAX_FILE, PAD_ID, START_ID, CaptionTokens, Tokenizer

NAMES = pq.read_table(Path(__file__).resolve().parent.parent / "data" / "names.parquet").drop_columns("code_points")
LANGUAGES = NAMES.column_names
SPELLED = "a <pad> is no pad, <start> no start, <end> no end"


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(NAMES["en"].to_pylist(), vocab_size=1000)


def folded(text):
    """What the tokenizer promises to keep of a text."""
    return unicodedata.normalize("NFC", text).lower()


def test_there_are_fourteen_languages():
    assert len(LANGUAGES) == 14 and NAMES.num_rows > 3000


@pytest.mark.parametrize("language", LANGUAGES)
def test_names_come_back_in_every_language(tokenizer, language):
    """Learned from English alone: the other scripts are bytes."""
    names = NAMES[language].to_pylist()
    ids = tokenizer(names, 400)
    assert (ids == PAD_ID).any(1).all()  # nothing was cut
    lengths = (ids != PAD_ID).sum(1).tolist()
    assert [tokenizer.decode(row[:n]) for row, n in zip(ids.tolist(), lengths)] == [folded(name) for name in names]


def test_names_come_back_when_all_languages_are_learned():
    names = [name for language in LANGUAGES for name in NAMES[language].to_pylist()[::10]]
    every = Tokenizer.train(names, vocab_size=2000)
    ids = every(names, 200).tolist()
    assert [every.decode([i for i in row if i != PAD_ID]) for row in ids] == [folded(name) for name in names]


@pytest.mark.parametrize(
    "text", ["", "\x00\t\n", "e\u0301 É", "İstanbul", "👩🏽‍🚀 🏴‍☠️", "𝔘𝔫𝔦", "a  b ", "don't", "\ud7ff\ue000\U0010ffff"]
)
def test_odd_texts_come_back(tokenizer, text):
    assert tokenizer.decode(tokenizer([text], 80)[0]) == folded(text)


@pytest.mark.parametrize("reloaded", [False, True])
def test_special_tokens_spelled_in_a_text_are_text(tokenizer, reloaded, tmp_path):
    if reloaded:
        tokenizer.save(tmp_path / "tokenizer.json")
        tokenizer = Tokenizer.load(tmp_path / "tokenizer.json")
    row = tokenizer([SPELLED], 60)[0]
    length = int((row != PAD_ID).sum())
    assert row[0] == START_ID and row[length - 1] == END_ID
    assert (row[1 : length - 1] > END_ID).all() and (row[length:] == PAD_ID).all()
    assert tokenizer.decode(row) == SPELLED


def test_rows_are_start_text_end_padding(tokenizer):
    ids = tokenizer(["grinning face", "", "waving hand: dark skin tone"], 16)
    assert ids.shape == (3, 16) and ids.dtype == torch.long and ids.max() < tokenizer.vocab_size
    for row in ids.tolist():
        end = row.index(END_ID)
        assert row[0] == START_ID and min(row[1:end], default=3) > END_ID and set(row[end + 1 :]) <= {PAD_ID}
    assert ids[1].tolist() == [START_ID, END_ID] + [PAD_ID] * 14
    assert tokenizer([], 5).shape == (0, 5)


@pytest.mark.parametrize("context_length", [3, 4, 7])
def test_a_long_text_is_cut_and_keeps_its_end_token(tokenizer, context_length):
    text = "man and woman holding hands: medium-light skin tone, dark skin tone"
    whole, cut = tokenizer([text], 60)[0], tokenizer([text], context_length)[0]
    assert (whole != PAD_ID).sum() > 7
    assert cut.tolist() == [*whole[: context_length - 1].tolist(), END_ID]


def test_a_text_that_just_fits_is_whole(tokenizer):
    length = int((tokenizer(["grinning face"], 60) != PAD_ID).sum())
    assert tokenizer.decode(tokenizer(["grinning face"], length)[0]) == "grinning face"
    assert tokenizer.decode(tokenizer(["grinning face"], length - 1)[0]) != "grinning face"


def test_case_and_composition_do_not_matter(tokenizer):
    texts = ["Café ÉTÉ", "cafe\u0301 e\u0301te\u0301"]
    ids = tokenizer(texts, 20)
    assert torch.equal(ids[0], ids[1])
    assert not torch.equal(tokenizer(["cafe"], 20), tokenizer(["café"], 20))


def test_merges_are_learned_up_to_the_vocabulary(tokenizer):
    names = NAMES["en"].to_pylist()
    bytes_only = Tokenizer.train(names, 259)
    assert bytes_only.vocab_size == 259 and tokenizer.vocab_size == 1000
    length = lambda t: int((t(names[:100], 100) != PAD_ID).sum())  # noqa: E731
    assert length(tokenizer) < 0.5 * length(bytes_only)
    assert len(bytes_only.tokens("fly")) == 4  # a space goes before the first word, as before the others


def test_tokens_are_the_pieces_of_the_text(tokenizer):
    pieces = tokenizer.tokens("Woman astronaut: dark skin tone")
    assert "".join(pieces) == " woman astronaut: dark skin tone"
    assert len(pieces) == (tokenizer(["woman astronaut: dark skin tone"], 40) > END_ID).sum()


def test_a_saved_tokenizer_gives_the_same_ids(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "tokenizer.json")
    names = NAMES["fr"].to_pylist()[:300]
    assert torch.equal(Tokenizer.load(tmp_path / "tokenizer.json")(names, 30), tokenizer(names, 30))
    assert [file.name for file in tmp_path.iterdir()] == ["tokenizer.json"]


def test_training_is_deterministic(tokenizer):
    again = Tokenizer.train(NAMES["en"].to_pylist(), vocab_size=1000)
    assert again.bpe.to_str() == tokenizer.bpe.to_str()


@pytest.mark.parametrize(
    "content",
    ["", "no json", "{}", "[]", "3", "null", '{"version": "1.0"}', "[" * 100_000, '{"model":' * 5000, '{"model": NaN}'],
)
def test_a_file_that_is_no_tokenizer_is_named(content, tmp_path):
    (tmp_path / "broken.json").write_text(content)
    with pytest.raises(ValueError, match="broken.json is not a tokenizer file"):
        Tokenizer.load(tmp_path / "broken.json")


def test_a_file_that_is_no_text_or_no_file_or_too_large_is_named(tmp_path):
    file = tmp_path / "broken.json"
    with pytest.raises(ValueError, match="broken.json is not a tokenizer file: no file"):
        Tokenizer.load(file)
    os.mkfifo(file)  # reading it would wait for ever
    with pytest.raises(ValueError, match="broken.json is not a tokenizer file: no file"):
        Tokenizer.load(file)
    file.unlink()
    file.write_bytes(b"\xff\xfe\x00" * 100)
    with pytest.raises(ValueError, match="broken.json is not a tokenizer file"):
        Tokenizer.load(file)
    os.truncate(file, 10**9)
    began = time.perf_counter()
    with pytest.raises(ValueError, match=f"larger than {MAX_FILE:,} bytes"):
        Tokenizer.load(file)
    assert time.perf_counter() - began < 0.1


def test_a_tokenizer_of_another_kind_is_refused(tmp_path):
    from tokenizers import Tokenizer as BPE
    from tokenizers import models

    for model in (models.BPE(), models.WordLevel({"<pad>": 0, "<start>": 1, "<end>": 2}, "<pad>"), models.Unigram()):
        BPE(model).save(str(tmp_path / "foreign.json"))
        with pytest.raises(ValueError, match="foreign.json is not a tokenizer file"):
            Tokenizer.load(tmp_path / "foreign.json")
    BPE(models.BPE()).save(str(tmp_path / "foreign.json"))
    with pytest.raises(ValueError, match="not made by minclip"):
        Tokenizer.load(tmp_path / "foreign.json")


def change_model(key, value):
    return lambda content: content["model"].update({key: value})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c["model"]["vocab"].update(new=5000), "without a hole"),
        (lambda c: c["model"]["vocab"].update(new=2**32 - 1), "without a hole"),
        (lambda c: c["model"]["vocab"].update(new=7), "without a hole"),  # the id of another
        (lambda c: c["model"]["vocab"].update(new=2**40), ""),
        (lambda c: c["model"]["vocab"].update(new=-1), ""),
        (lambda c: c["model"]["vocab"].update(new=True), ""),
        (lambda c: c["model"]["vocab"].update({"xyz": c["model"]["vocab"].pop("z")}), ""),  # no byte z
        (lambda c: c["model"].update(
            merges=[], vocab={k.replace("z", "xyz"): i for k, i in c["model"]["vocab"].items()}
        ), "not every byte has one"),
        (lambda c: c["model"]["merges"].append(["not", "there"]), ""),
        (lambda c: c["added_tokens"].pop(), "not made by minclip"),
        (lambda c: c["added_tokens"][1].update(special=False), "not made by minclip"),
        (lambda c: c["added_tokens"][1].update(lstrip=True), "not made by minclip"),
        (lambda c: c.update(padding={"strategy": {"Fixed": 10**9}, "direction": "Right", "pad_to_multiple_of": None,
                                     "pad_id": 0, "pad_type_id": 0, "pad_token": "<pad>"}), "not made by minclip"),
        (lambda c: c.update(truncation={"direction": "Right", "max_length": 1, "strategy": "LongestFirst",
                                        "stride": 0}), "not made by minclip"),
        (lambda c: c.update(normalizer=None), "not made by minclip"),
        (lambda c: c.update(normalizer={"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": "x" * 1000}),
         "not made by minclip"),
        (lambda c: c.update(pre_tokenizer={"type": "WhitespaceSplit"}), "not made by minclip"),
        (lambda c: c.update(decoder=None), "not made by minclip"),
        (change_model("dropout", 0.5), "not made by minclip"),
        (change_model("byte_fallback", True), "not made by minclip"),
        (change_model("continuing_subword_prefix", "##"), "not made by minclip"),  # the library panics
        (lambda c: c.update(other=1), "it has other of its own"),
    ],
)  # fmt: skip
def test_a_tokenizer_that_was_tampered_with_is_refused(tokenizer, change, said, tmp_path):
    content = json.loads(tokenizer.bpe.to_str())
    change(content)
    (tmp_path / "odd.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=f"odd.json is not a tokenizer file.*{said}"):
        Tokenizer.load(tmp_path / "odd.json")


# --- captions from strangers


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("a \ud800 cat", "a \ufffd cat"),
        ("\udc00", "\ufffd"),
        ("\ud83d\udc08 cat", "\U0001f408 cat"),  # both halves of a pair are one character
        ("cat \ud83d", "cat \ufffd"),
    ],
)
def test_half_of_a_surrogate_pair_becomes_the_replacement_character(tokenizer, text, same):
    assert torch.equal(tokenizer([text], 20), tokenizer([same], 20))
    assert tokenizer.tokens(text) == tokenizer.tokens(same)
    assert Tokenizer.train([text, "a cat"], 300).bpe.to_str() == Tokenizer.train([same, "a cat"], 300).bpe.to_str()


@given(st.lists(st.text(st.characters(exclude_categories=()), max_size=40), min_size=1, max_size=4), st.integers(3, 60))
@settings(max_examples=200, deadline=None, database=None, derandomize=True)
def test_any_captions_have_ids(tokenizer, texts, context_length):
    """Lone surrogates, NUL, marks without a letter, right to left: rows of the right form, the same with ranks."""
    ids = tokenizer(texts, context_length)
    assert ids.shape == (len(texts), context_length) and 0 <= ids.min() and ids.max() < tokenizer.vocab_size
    for row, text in zip(ids.tolist(), texts):
        end = row.index(END_ID)
        assert row[0] == START_ID and set(row[end + 1 :]) <= {PAD_ID} and min(row[1:end], default=3) > END_ID
        if not any("\ud800" <= c <= "\udfff" for c in text) and end < context_length - 1:
            assert tokenizer.decode(row) == tokenizer.bpe.decode(tokenizer.bpe.encode(text).ids).removeprefix(" ")
            assert row[1:end] == tokenizer.bpe.encode(text).ids  # what the library says of the text as it is
    assert torch.equal(tokenizer.encode(texts, context_length, letters)[0], ids)


@given(st.data(), st.integers(3, 6))
@settings(max_examples=30, deadline=None, database=None, derandomize=True)
def test_the_cut_changes_no_ordinary_text(tokenizer, data, context_length):
    """Texts longer than what is looked at, of words of up to 500 letters of many scripts."""
    words = st.text(st.characters(categories=("L", "Mn", "Nd", "P", "So")), min_size=1, max_size=500)
    some = data.draw(st.lists(words, min_size=1, max_size=8))
    text = " ".join(some * (2 + 2 * MAX_CHARACTERS * context_length // (1 + len(" ".join(some)))))
    assert len(text) > MAX_CHARACTERS * context_length
    ids = tokenizer.bpe.encode(text).ids[: context_length - 2]
    assert tokenizer([text], context_length)[0].tolist() == [START_ID, *ids, END_ID]


def test_the_cut_leaves_room_for_long_tokens():
    """Words of 60 letters that are one token each."""
    word = "antidisestablishmentarianism" * 2
    tokenizer = Tokenizer.train([word] * 9, 400)
    assert len(tokenizer.tokens(word)) == 1
    ids = tokenizer([" ".join([word] * 1000)], 24)[0]
    assert len(set(ids[1:23].tolist())) == 1 and tokenizer.decode(ids[:2]) == word


LONG = ("a" * 10**6, "cat " * 250_000, " " * 10**6, "\0" * 10**6, "e\u0301" * 500_000, "-=" * 500_000)


@pytest.mark.parametrize("text", LONG, ids=range(len(LONG)))
def test_a_caption_of_a_million_characters_takes_no_time(tokenizer, text):
    began = time.perf_counter()
    ids = tokenizer([text] * 4, 24)
    assert time.perf_counter() - began < 1.5
    assert torch.equal(ids[0], ids[3]) and (ids[0, 1:23] > END_ID).sum() >= (22 if text.strip() else 1)


@pytest.mark.parametrize("context_length", [0, 2])
def test_a_context_too_short_is_an_error(tokenizer, context_length):
    with pytest.raises(ValueError, match=f"context_length {context_length} is too short"):
        tokenizer(["cat"], context_length)


def test_wrong_arguments_are_named(tokenizer):
    with pytest.raises(TypeError, match=r"got one string; write \[text\]"):
        tokenizer("cat", 10)
    with pytest.raises(ValueError, match="vocab_size 258 is too small"):
        Tokenizer.train(["cat"], 258)


def test_captions_are_picked_as_often_as_asked():
    captions = [["a", "b", "c"], ["only"], ["x", "y"]]
    tokenizer = Tokenizer.train([text for texts in captions for text in texts], 300)
    tokens = CaptionTokens(captions, tokenizer, 12)
    draws = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    picked = [tokens.pick(torch.full((1000,), row), draws, 0.6) for row in range(3)]
    said = [Counter(tokenizer.decode(ids) for ids in rows) for rows in picked]
    assert said == [{"a": 600, "b": 200, "c": 200}, {"only": 1000}, {"x": 600, "y": 400}]
    always = tokens.pick(torch.tensor([0, 0]), torch.tensor([0.0, 0.999]), 1.0)
    assert torch.equal(always[0], always[1])


def test_padding_that_all_share_is_cut_off():
    tokenizer = Tokenizer.train(["a cat"], 300)
    tokens = CaptionTokens([["a"], ["a cat"]], tokenizer, 12)
    longest = len(tokenizer.tokens("a cat")) + 2
    assert tokens.pick(torch.tensor([0, 1]), torch.zeros(2), 1.0).shape == (2, longest)


# --- the priority of a token is its word's


def letters(words):
    """A priority that tells words apart: their length, 90 for what holds no letter; wrong for a piece of a word."""
    return [len(word) if any(map(str.isalpha, word)) else 90 for word in words]


def test_tokens_of_one_word_share_its_rank():
    tokenizer = Tokenizer.train(["a cat"], 262)  # nearly every word takes several tokens
    text = "A striped Cat, wide-eyed: it's 42 \u00e9t\u00e9s"
    pieces = ["a", "striped", "cat", ",", "wide", "-", "eyed", ":", "it", "'s", "42", "\u00e9t\u00e9s"]
    # ids of each piece with the space before it, which belongs to the word
    spaced = [" a", " striped", " cat", ",", " wide", "-", "eyed", ":", " it", "'s", " 42", " \u00e9t\u00e9s"]
    sizes = [len(piece.encode()) for piece in spaced]
    sizes[0], sizes[2] = len(tokenizer.tokens("a")), len(tokenizer.tokens("cat"))
    expected = [rank for rank, size in zip(letters(pieces), sizes) for _ in range(size)]
    ids, ranks = tokenizer.encode([text, "", "a"], 60, letters)
    assert torch.equal(ids, tokenizer([text, "", "a"], 60)) and ranks.shape == ids.shape
    assert sum(sizes) + 2 == (ids[0] != PAD_ID).sum() and max(sizes) > 5
    assert ranks[0].tolist() == [0, *expected] + [0] * (59 - len(expected))
    assert not ranks[1].any() and ranks[2, 1] == 1


def test_each_different_word_is_asked_for_once(tokenizer):
    asked = []

    def priority(words):
        asked.append(list(words))
        return [1] * len(words)

    tokenizer.encode(["waving hand: dark skin tone", "raised hand: light skin tone", "Hand"], 20, priority)
    assert len(asked) == 1 and sorted(asked[0]) == sorted(set(asked[0]))
    assert set(asked[0]) == {"waving", "raised", "hand", ":", "dark", "light", "skin", "tone"}


def test_a_word_that_is_cut_has_the_rank_of_the_whole():
    tokenizer = Tokenizer.train(["a"], 259)  # bytes
    _, ranks = tokenizer.encode(["astronaut"], 6, letters)
    assert ranks.tolist() == [[0, 9, 9, 9, 9, 0]]


def test_priorities_are_picked_with_their_captions(tokenizer):
    names = NAMES["en"].to_pylist()
    captions = [names[3 * i : 3 * i + 1 + i % 3] for i in range(200)]
    tokens, plain = CaptionTokens(captions, tokenizer, 12, letters), CaptionTokens(captions, tokenizer, 12)
    generator = torch.Generator().manual_seed(0)
    rows, draw = torch.randint(200, (50,), generator=generator), torch.rand(50, generator=generator)
    ids, ranks = tokens.pick_with_priority(rows, draw, 0.3)
    assert torch.equal(ids, tokens.pick(rows, draw, 0.3)) and torch.equal(ids, plain.pick(rows, draw, 0.3))
    assert ranks.shape == ids.shape
    said = [captions[row][which] for row, which in zip(rows, tokens.choose(rows, draw, 0.3) - tokens.starts[rows])]
    assert torch.equal(ids, tokenizer(said, 12)[:, : ids.shape[1]])
    assert torch.equal(ranks, tokenizer.encode(said, 12, letters)[1][:, : ids.shape[1]])
    assert len({captions[row].index(text) for row, text in zip(rows, said)}) == 3  # not the first ones only


def test_syntax_masking_keeps_the_nouns_of_a_caption(tokenizer):
    captions = [["A small cat is on the red mat."], ["There are two dogs"]]
    tokens = CaptionTokens(captions, tokenizer, 40, word_priority)
    ids, ranks = tokens.pick_with_priority(torch.arange(2), torch.zeros(2), 1.0)
    nouns = [sum(len(tokenizer.tokens(word)) for word in words) for words in (["cat", "mat"], ["dogs"])]
    for row, (count, said) in enumerate(zip(nouns, ("cat mat", "dogs"))):
        short = mask_text(ids[row : row + 1], count + 2, "syntax", priority=ranks[row : row + 1])
        assert tokenizer.decode(short[0]) == said
    assert tokenizer.decode(mask_text(ids[:1], nouns[0] + 2)[0]) != "cat mat"


def test_what_is_wrong_with_a_priority_is_named(tokenizer):
    with pytest.raises(ValueError, match="these captions have no priority; make CaptionTokens"):
        CaptionTokens([["a"]], tokenizer, 12).pick_with_priority(torch.tensor([0]), torch.zeros(1), 1.0)
    with pytest.raises(ValueError, match=r"priority gave \[3\] ranks for 2 words; it must give one a word"):
        CaptionTokens([["a cat"]], tokenizer, 12, lambda words: [1, 2, 3])
