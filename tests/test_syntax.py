"""Nouns first: the word table, and which words of our own it gets wrong."""

import re
from pathlib import Path

import pytest

from experiments.shapes import PART_OF_SPEECH
from minclip import syntax
from minclip.syntax import RANKS, pos_table, word_priority

DATA = Path(__file__).resolve().parents[1] / "data"


@pytest.mark.parametrize(
    ("rank", "words"),
    [
        (1, "cat dog house face waving-hand picture xylozebra Katze 猫 кот"),  # unknown words, and all nouns
        (2, "red small striped happy old Japanese French first larger blue"),
        (3, "is are shows running eat holding grinning was gone"),
        (4, "a the of in and to there two over very may not 's"),
        (4, ": , - ... 12 3.5 &"),
    ],
)
def test_words_have_the_rank_of_their_class(rank, words):
    words = words.split()
    assert dict(zip(words, word_priority(words))) == dict.fromkeys(words, rank)


def test_ranks_are_clipas():
    assert list(RANKS.items()) == [("noun", 1), ("adjective", 2), ("verb", 3), ("other", 4)]
    assert word_priority("A small Cat IS on the RED mat .".split()) == [4, 2, 1, 3, 4, 4, 2, 1, 4]


def test_case_does_not_matter():
    words = [word for word in list(pos_table())[::50]]
    assert word_priority(words) == word_priority(map(str.upper, words)) == word_priority(map(str.title, words))
    assert len(set(word_priority(words))) == 3


def test_no_words_have_no_ranks_and_a_string_is_named():
    assert word_priority([]) == [] and word_priority([""]) == [4]
    with pytest.raises(ValueError, match="words is one string, 'a cat'; pass a list"):
        word_priority("a cat")


def test_the_grammar_of_the_scenes_agrees_but_for_a_few_words():
    """A word has one tag, out of context. Experiments on scenes use PART_OF_SPEECH itself."""
    expected = {word: {"NN": 1, "JJ": 2, "VB": 3}.get(tag, 4) for word, tag in PART_OF_SPEECH.items()}
    found = dict(zip(expected, word_priority(expected)))
    wrong = {word: found[word] for word in expected if found[word] != expected[word]}
    assert wrong == {"cross": 3, "crosses": 3, "left": 3, "cyan": 1, "dotted": 3}


def test_the_table_is_small_plain_and_without_nouns():
    path = DATA / "pos_table.txt"
    assert path.stat().st_size < 300_000
    assert set(pos_table().values()) == {"adjective", "verb", "other"}
    assert all(re.fullmatch(r"[a-z]+|'(s|t|re|ve|m|ll|d)", word) for word in pos_table())
    words = [word for line in path.read_text().splitlines() if line[0] not in "#[" for word in line.split()]
    assert len(words) == len(pos_table()) > 20_000  # none twice


def test_the_notices_are_there():
    notices = (DATA / "licenses" / "pos_table.txt").read_text()
    for holder in (
        "Copyright 1993 by the Massachusetts Institute of Technology and the University of Pennsylvania",
        "creativecommons.org/licenses/by/3.0",
        "University of Antwerp",
        "Steven Loria",
        "Permission is hereby granted",
        "Neither the name of Pattern",
    ):
        assert holder in notices
    assert "data/licenses/pos_table.txt" in (DATA / "pos_table.txt").read_text()[:1000]


def test_a_missing_table_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(syntax, "EMOJI_DIR", tmp_path)
    with pytest.raises(FileNotFoundError, match="pos_table.txt is missing.*build_pos.py"):
        syntax.pos_table.__wrapped__()
