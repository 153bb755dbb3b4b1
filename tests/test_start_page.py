"""The start page `notebooks/README.md` says what the notebooks' own headers say."""

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "notebooks" / "README.md"
MINUTES = {
    "Half a minute": "½",
    "Under one minute": "under 1",
    "About one minute and a half": "1½",
    "About one minute": "1",
    "About two minutes": "2",
    "About three minutes": "3",
}
LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]+)\)")
NUMBER = re.compile(r"\b[01]\d\b")


@dataclass
class Header:
    """What a notebook's first cell says: its title, its minutes, and the numbers of those to read before it."""

    title: str
    minutes: str
    needs: list[str]
    helpful: list[str]


def field(text: str, name: str) -> str:
    """One field of a header as one line; an empty one fails."""
    (found,) = re.findall(rf"^\*\*{re.escape(name)}\*\* (.+?)(?:\n\n|\Z)", text, re.MULTILINE | re.DOTALL)
    return " ".join(found.split())


def numbers(text: str) -> list[str]:
    """The numbers of the notebooks that a text links to, in ascending order."""
    return sorted(set(in_order(text)))


def in_order(text: str) -> list[str]:
    """The same, each where it is first linked to."""
    return list(dict.fromkeys(target[:2] for _, target in LINK.findall(text) if re.match(r"\d\d_\w+\.ipynb$", target)))


def read_header(path: Path) -> Header:
    text = "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"])
    sentences = re.split(r"(?<=[.]) (?=[A-Z\[])", field(text, "What you need first."))
    optional = [bool(re.search(r"\bhelp(s|ful)\b", sentence, re.IGNORECASE)) for sentence in sentences]
    needs, helpful = (
        [s for s, is_optional in zip(sentences, optional) if is_optional == which] for which in (False, True)
    )
    time = field(text, "Time.")
    minutes = next(said for phrase, said in MINUTES.items() if time.startswith(phrase))
    return Header(
        text.splitlines()[0].removeprefix("# "), minutes, numbers(" ".join(needs)), numbers(" ".join(helpful))
    )


HEADERS = {path.name: read_header(path) for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
NEEDS = {file[:2]: header.needs for file, header in HEADERS.items()}
HELPFUL = {file[:2]: header.helpful for file, header in HEADERS.items()}


def page() -> str:
    return PAGE.read_text(encoding="utf-8")


def section(heading: str) -> str:
    """The text beneath a heading, up to the next of the same level."""
    (found,) = re.findall(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", page(), re.MULTILINE | re.DOTALL)
    return found


def table() -> dict[str, list[str]]:
    """The cells beside each notebook, by its file's name, in the order of the table."""
    rows = [line.strip("| ").split(" | ") for line in section("All notebooks").splitlines() if line.startswith("| [")]
    assert all(len(row) == 4 for row in rows)
    return {LINK.fullmatch(row[0])[2]: row for row in rows}


def diagram() -> str:
    (found,) = re.findall(r"```mermaid\n(.*?)```", page(), re.DOTALL)
    return found


def arrows(kind: str) -> dict[str, list[str]]:
    """Where the arrows of a kind come from, by where they go to."""
    found = re.findall(rf"^ *n(\d\d) {re.escape(kind)} n(\d\d)$", diagram(), re.MULTILINE)
    return {to: sorted(a for a, b in found if b == to) for to in NEEDS}


def test_the_table_lists_every_notebook_in_order_by_its_title():
    assert list(table()) == list(HEADERS)
    assert [LINK.fullmatch(row[0])[1] for row in table().values()] == [header.title for header in HEADERS.values()]


@pytest.mark.parametrize("file", HEADERS)
def test_minutes_and_prerequisites_are_those_of_the_header(file):
    _, minutes, first, goal = table()[file]
    needs, _, helpful = first.partition("helpful:")
    assert minutes == HEADERS[file].minutes
    assert (numbers(needs), numbers(helpful)) == (HEADERS[file].needs, HEADERS[file].helpful)
    assert all(text == target[:2] for text, target in LINK.findall(first))
    assert 6 <= len(goal.split()) <= 25, "one goal, in one phrase"


def test_the_total_is_the_sum_of_the_minutes():
    upper = {"½": 0.5, "under 1": 1, "1": 1, "1½": 1.5, "2": 2, "3": 3}
    total = sum(upper[header.minutes] for header in HEADERS.values())
    (said,) = re.findall(r"less than (\d+) minutes", section("All notebooks"))
    assert int(said) - 5 <= total <= int(said)


def test_the_arrows_of_the_diagram_are_the_prerequisites():
    assert arrows("-->") == NEEDS
    assert arrows("-.->") == HELPFUL
    known = sum(len(x) for x in (*NEEDS.values(), *HELPFUL.values()))
    assert len(re.findall(r"-->|-\.->", diagram())) == known, "an arrow that is none between two notebooks"


def test_every_notebook_is_one_node_with_its_title():
    nodes = re.findall(r'^ *n(\d\d)\["(.*)"\]$', diagram(), re.MULTILINE)
    assert nodes == [(file[:2], header.title) for file, header in HEADERS.items()]
    assert diagram().count("subgraph ") == diagram().count(" end\n") == 4


def test_the_map_in_words_says_the_same():
    words = section("The map in words")
    assert {n: sorted(NUMBER.findall(x)) for n, x in re.findall(r"(\d\d) needs ([^.;]+)", words)} == NEEDS
    told = {
        n: sorted(NUMBER.findall(x)) for x, n in re.findall(r"; ((?:\d\d|, | and )+) helps?(?: with)? (\d\d)\.", words)
    }
    assert told == {n: helpful for n, helpful in HELPFUL.items() if helpful}


def test_paths_put_nothing_before_what_it_needs():
    paths = re.split(r"^### ", section("Three ways through"), flags=re.MULTILINE)[1:]
    assert len(paths) == 3
    for path in paths:
        read = in_order(path)
        assert len(read) >= 5
        for place, number in enumerate(read):
            assert set(NEEDS[number]) <= set(read[:place]), f"{number} comes too early in: {path.splitlines()[0]}"


def test_the_course_has_all_assignments_one_a_week():
    course = section("Three ways through").partition("### A course of five weeks")[2].partition("\n### ")[0]
    weeks = [line.strip("| ").split(" | ") for line in course.splitlines() if re.match(r"\| \d", line)]
    linked = [LINK.search(week[2]) for week in weeks]
    sources = sorted((ROOT / "assignments" / "py").glob("a*.py"))
    assert [week[0] for week in weeks] == [str(n) for n in range(1, 6)]
    titles = [re.search(r"^# # (.*)", path.read_text(encoding="utf-8"), re.MULTILINE)[1] for path in sources]
    assert [link[1] for link in linked] == titles
    assert [Path(link[2]).stem for link in linked] == [path.stem for path in sources]


@pytest.mark.parametrize("target", sorted({target for _, target in LINK.findall(page())}))
def test_links_resolve(target):
    if target.startswith("#"):
        slugs = [
            re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in re.findall(r"^#+ (.*)", page(), re.MULTILINE)
        ]
        assert target[1:] in slugs
    elif not target.startswith("https://"):
        assert (PAGE.parent / target).exists()


@pytest.mark.parametrize("needed", ["glossary.md", "../README.md", "../CLAIMS.md", "../assignments/README.md"])
def test_the_page_links_to(needed):
    assert needed in [target for _, target in LINK.findall(page())]


def test_the_cell_for_colab_gets_everything_from_a_clone(tmp_path):
    """As on a fresh machine of Colab's: no minclip is installed but the one that the cell fetches."""
    (cell,) = re.findall(r"```python\n(!git clone .*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    cell = cell.replace("REPOSITORY", ROOT.as_uri()).replace("pip install", "echo would install")
    script = tmp_path / "cell.ipy"
    script.write_text(
        cell + "import minclip; from minclip.data import load_pairs\n"
        "print('from', minclip.__file__, len(load_pairs('emoji', 'fxemoji')))\n"
    )
    done = subprocess.run([sys.executable, "-m", "IPython", str(script)], cwd=tmp_path, capture_output=True, text=True)
    assert re.search(rf"from {re.escape(str(tmp_path))}/minclip/\S+ 467", done.stdout), done.stdout + done.stderr
