"""Which words of a caption matter most: nouns, then adjectives, then verbs, then the rest (CLIPA section 3).

A word has one tag here, out of context, as in CLIPA's code for JAX. The table (`data/pos_table.txt`, see
`data/README.md`) holds the English words that are not nouns.
"""

from collections.abc import Iterable
from functools import cache

from minclip.sources import EMOJI_DIR

RANKS = {"noun": 1, "adjective": 2, "verb": 3, "other": 4}
"""The smaller, the longer a word stays. CLIPA's code ranks verbs third; its documentation names no verbs."""


@cache
def pos_table() -> dict[str, str]:
    """Lower-case word -> adjective, verb or other; a word that is not there is a noun.

    Raises FileNotFoundError when the repository's `data/pos_table.txt` is missing.
    """
    path = EMOJI_DIR / "pos_table.txt"
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing; run minclip from a clone, or make it with data/build_pos.py")
    table, kind = {}, ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            kind = line.strip("[]")
        elif not line.startswith("#"):
            table.update(dict.fromkeys(line.split(), kind))
    return table


def word_priority(words: Iterable[str]) -> list[int]:
    """The rank of each word: nouns (NN*) 1, adjectives (JJ*) 2, verbs (VB*) 3, the rest 4 (CLIPA section 3).

    Case does not matter. An unknown word is a noun; what holds no letter (punctuation, digits) is the rest. Raises
    ValueError for one string instead of several.
    """
    if isinstance(words, str):
        raise ValueError(f"words is one string, {words!r}; pass a list of words, such as words.split()")
    table = pos_table()
    return [RANKS[table.get(word.lower(), "noun") if any(map(str.isalpha, word)) else "other"] for word in words]
