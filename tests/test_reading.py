"""The notebooks are comfortable to read: what each one tells first and last, and what its figures and equations owe.

The contract is about form, so that a reader finds the same things in the same places. What is true is asserted in
the notebooks themselves; that they equal their scripts and were executed is asserted in tests/test_notebooks.py.
"""

import ast
import base64
import io
import json
import re
from pathlib import Path

import jupytext
import matplotlib.image
import matplotlib.pyplot as plt
import pytest
from matplotlib.colors import to_hex

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
START, GLOSSARY = FOLDER / "README.md", FOLDER / "glossary.md"
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)

LINK = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")


def sources(path: Path, kind: str) -> list[str]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == kind]


def prose(path: Path) -> str:
    return "\n\n".join(sources(path, "markdown")) if path.suffix == ".ipynb" else path.read_text(encoding="utf-8")


def one_line(text: str) -> str:
    return " ".join(text.split())


def title(path: Path) -> str:
    return re.search(r"^# (.+)$", prose(path), re.MULTILINE).group(1)


def header(path: Path) -> dict[str, str]:
    """The bold fields of the first cell, in their order: {"Paper.": "CLIP ...", ...}."""
    fields = re.findall(r"^\*\*([^*]+)\*\* (.+?)(?:\n\n|\Z)", sources(path, "markdown")[0], re.MULTILINE | re.DOTALL)
    return {label: one_line(text) for label, text in fields}


# ---- the header


@each_notebook
def test_header_has_its_fields_in_order(path):
    first_line = sources(path, "markdown")[0].splitlines()[0]
    assert re.fullmatch(rf"# {path.stem[:2]} · \S.*", first_line)
    assert list(header(path))[:4] == ["Paper.", "The question.", "What you need first.", "Time."]


@each_notebook
def test_the_question_is_one_question_in_one_sentence(path):
    question = header(path)["The question."]
    assert question.endswith("?") and question.count("?") == 1
    assert not re.search(r"[.!] ", question), "one sentence"


# ---- the time
# A reader plans with the stated time, so it must not be too short: at least 0.8 of what was measured, as machines
# differ by more than that. Nor should it frighten: at most three times the measured seconds and half a minute more,
# which is for the start of a kernel and for what runs/cache/ may not hold yet. The training named is a part of it.

STATED = {"Half a minute": 30, "Under one minute": 60, "About one minute": 60}
STATED |= {"About one minute and a half": 90, "About two minutes": 120, "About three minutes": 180}
TRAINING = re.compile(r"of which some (\d+) seconds are training")


def stated_seconds(time: str) -> int:
    return STATED[time.partition(" on two CPU cores")[0]]


def test_stated_time_is_read():
    assert stated_seconds("Half a minute on two CPU cores. Nothing is trained here.") == 30
    assert stated_seconds("About one minute and a half on two CPU cores, of which some 25 seconds are training.") == 90
    with pytest.raises(KeyError):
        stated_seconds("Some minutes on two CPU cores.")


@each_notebook
def test_stated_time_fits_the_measured_one(path):
    measured = json.loads((ROOT / "results/notebooks.json").read_text())["seconds"][path.stem]
    time = header(path)["Time."]
    stated = stated_seconds(time)
    assert 0.8 * measured <= stated <= 3 * measured + 30, f"{stated} s are stated, {measured:.0f} s were measured"
    for training in TRAINING.findall(time):
        assert int(training) <= measured, f"{training} s of training in {measured:.0f} s"


# ---- sections and links


@each_notebook
def test_sections_are_numbered_without_gaps(path):
    headings = re.findall(r"^##+ (.+)$", prose(path), re.MULTILINE)
    numbers = [int(re.match(r"(\d+)\. \S", heading).group(1)) for heading in headings]
    assert numbers == list(range(1, len(headings) + 1)) and len(headings) >= 3


def anchors(path: Path) -> set[str]:
    """What `#...` may point to: Jupyter keeps a heading's letters, GitHub lowers them and drops the punctuation."""
    headings = re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE)
    if path.suffix == ".ipynb":
        return {heading.replace(" ", "-") for heading in headings}
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(path: Path, text: str) -> list[str]:
    """Links of a file of notebooks/ that lead nowhere, and links to notebooks that call them by another name."""
    broken = []
    for name, target in LINK.findall(text):
        if re.match(r"[a-z]+:", target):
            continue  # an address of the web
        file, _, anchor = target.partition("#")
        place = (path.parent / file).resolve() if file else path
        inside = place.is_relative_to(ROOT) and place.exists()
        if not inside or (anchor and anchor not in anchors(place)):
            broken.append(target)
        elif place.suffix == ".ipynb" and one_line(name) != title(place):
            broken.append(f"{one_line(name)!r} for {title(place)!r}")
    return broken


@each_notebook
def test_links_lead_somewhere_and_call_notebooks_by_their_titles(path):
    assert not broken_links(path, prose(path))


def test_broken_links_are_seen():
    first = NOTEBOOKS[0]
    here = f"[{title(first)}]({first.name}#2.-Tokens,-by-hand) [q](../minclip/clip.py) [w](https://example.org/x)"
    assert not broken_links(first, here)
    for wrong in ("[x](missing.md)", "[x](../../elsewhere.md)", f"[x]({first.name})", "[x](#no-such-heading)"):
        assert broken_links(first, wrong)


@each_notebook
def test_named_files_of_the_repository_exist(path):
    named = re.findall(r"`((?:minclip|experiments|results|benchmarks|tests|docs)/[\w./-]+\.\w+)`", prose(path))
    assert not [name for name in named if not (ROOT / name).exists()]


@each_notebook
def test_the_last_cell_leads_on_and_back(path):
    place = NOTEBOOKS.index(path)
    around = [START, *NOTEBOOKS, START]
    last = one_line(sources(path, "markdown")[-1])
    assert "**Next.** " in last and " Before: " in last
    on, back = last.partition("**Next.** ")[2].split(" Before: ")
    for text, target in ((on, around[place + 2]), (back, around[place])):
        assert LINK.findall(text)[0] == (title(target), target.name)


# ---- figures

KIND = re.compile(
    r"\b(plots?|charts?|panels?|maps?|grids?|sheets?|diagrams?|tables?|rows?|pictures?|points|curves?|bars?)\b"
)


def figures(path: Path) -> list[tuple[str | None, list[bytes]]]:
    """(alt text, PNGs) of each code cell that shows a figure or claims to."""
    found = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        shown = [output.get("data", {}).get("image/png") for output in cell.get("outputs", [])]
        pngs = [base64.b64decode("".join(png)) for png in shown if png]
        if pngs or "alt" in cell["metadata"]:
            found.append((cell["metadata"].get("alt"), pngs))
    return found


@each_notebook
def test_every_figure_is_described_in_words(path):
    alts = [alt for alt, pngs in figures(path) if pngs]
    assert len(alts) == len(figures(path)), "a cell that shows no figure has an alt text"
    assert len(set(alts)) == len(alts)
    for alt in alts:
        assert alt and 8 <= len(alt.split()) <= 60, alt
        assert KIND.search(alt), f"what kind of picture is it? {alt}"
    script = jupytext.read(FOLDER / "py" / f"{path.stem}.py")
    assert alts == [cell.metadata["alt"] for cell in script.cells if "alt" in cell.metadata]


def test_saving_in_jupyter_keeps_the_descriptions():
    (kept,) = re.findall(r'^cell_metadata_filter = "(.+)"$', (ROOT / "jupytext.toml").read_text(), re.MULTILINE)
    assert "alt" in kept.split(",")
    for script in (FOLDER / "py").glob("*.py"):
        assert "cell_metadata_filter" not in script.read_text(encoding="utf-8"), f"{script.name} overrules it"


# Colours that can be told apart by everybody: Okabe and Ito's, greys, and maps of one or two hues that differ in
# lightness. The first two of matplotlib's cycle, blue and orange, are allowed; the next two are a green and a red.
SAFE = {"#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7"}
SAFE_MAPS = {"viridis", "cividis", "magma", "Blues", "Greys", "gray", "RdBu", "RdBu_r", "PuOr"}
UNSAFE_MAPS = {"jet", "rainbow", "hsv", "turbo", "RdYlGn", "RdYlGn_r", "Spectral", "Set1", "tab10", "tab20"}
UNSAFE = re.compile(
    r"(tab:|xkcd:|dark|light|forest|lime|sea)?(red|green)|lime|crimson|C[2-9]\S{0,3}|#(?:[0-9a-fA-F]{3}){1,2}"
    r"|[-.:osxv^D*+]*[rg][-.:osxv^D*+]*"  # a format such as "r--" or "go"
)


def unsafe_colours(code: str) -> list[str]:
    """Strings that name a colour or a map outside the safe ones, and attributes such as plt.cm.jet."""
    found, tree = [], ast.parse(code)
    specs = [node.format_spec for node in ast.walk(tree) if isinstance(node, ast.FormattedValue) and node.format_spec]
    formats = {part for spec in specs for part in spec.values}  # the g of f"{x:g}" is no green
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in formats:
            name = node.value
            if name in UNSAFE_MAPS or (UNSAFE.fullmatch(name) and name.upper() not in SAFE):
                found.append(name)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute) and node.value.attr == "cm":
            found += [node.attr] * (node.attr not in SAFE_MAPS)
        elif isinstance(node, ast.keyword) and node.arg == "cmap" and isinstance(node.value, ast.Constant):
            found += [node.value.value] * (node.value.value not in SAFE_MAPS)
    return found


@each_notebook
def test_colours_named_in_the_code_are_safe(path):
    assert not [name for code in sources(path, "code") for name in unsafe_colours(code)]


def test_unsafe_colours_are_seen():
    for code in ('f(x, "r--")', 'f(color="red")', 'f(color="C3")', 'f(cmap="jet")', "plt.cm.tab10(1)", 'f("#ff0000")'):
        assert unsafe_colours(code), code
    assert not unsafe_colours(
        'f(x, "ko--", color="#0072b2", cmap="viridis"); f("C0"); ask("red heart", f"{x:g}"); plt.cm.gray'
    )


def pixels_in_default_colours(png: bytes) -> int:
    """How many pixels have exactly one of the colours C2 to C6 of matplotlib's own cycle (C7 is a grey)."""
    image = (matplotlib.image.imread(io.BytesIO(png))[..., :3] * 255).round().astype("uint8")
    packed = (image.astype("int64") << [16, 8, 0]).sum(-1)
    cycle = plt.matplotlib.rcParamsDefault["axes.prop_cycle"].by_key()["color"][2:7]
    return sum(int((packed == int(to_hex(color)[1:], 16)).sum()) for color in cycle)


@each_notebook
def test_no_figure_shows_the_third_colour_of_the_default_cycle(path):
    """Three curves drawn without a word about colour are blue, orange and green, and a fourth one is red."""
    assert [pixels_in_default_colours(png) > 20 for _, pngs in figures(path) for png in pngs].count(True) == 0


def test_default_colours_are_seen():
    figure, ax = plt.subplots(figsize=(3.5, 2.5))
    for curves, seen in ((2, False), (3, True)):
        ax.clear()
        for i in range(curves):
            ax.plot([0, 1], [i, i], lw=2)
        file = io.BytesIO()
        figure.savefig(file)
        assert (pixels_in_default_colours(file.getvalue()) > 20) == seen
    plt.close(figure)


# ---- equations
# CLIP, SigLIP and CLIPA print pseudocode and equations without numbers. So an equation is named by the place in its
# paper, `\tag{SigLIP, Alg. 1}`, or, if it is ours, by the notebook and a count, `\tag{7.1}`.

PLACE = re.compile(r"(\w[\w-]*), (?:Sec\.|Fig\.|Alg\.|Eq\.|App\.|Table) [A-Z]?[\d.]*")


@each_notebook
def test_equations_are_named_and_referred_to(path):
    text = prose(path)
    shown = re.findall(r"\$\$(.+?)\$\$", text, re.DOTALL)
    tags = [re.findall(r"\\tag\{(.+?)\}", equation) for equation in shown]
    assert all(len(names) == 1 for names in tags), "each displayed equation has one tag"
    own = [name for (name,) in tags if not PLACE.fullmatch(name)]
    assert own == [f"{int(path.stem[:2])}.{count}" for count in range(1, len(own) + 1)]
    rest = one_line(re.sub(r"\$\$.+?\$\$", "", text, flags=re.DOTALL))
    for (name,) in tags:
        assert f"({name})" in rest, f"nothing refers to ({name})"
        assert name in own or PLACE.fullmatch(name).group(1) in header(path)["Paper."]
    assert len({name for (name,) in tags}) == len(tags)
    assert tags or path.stem[:2] not in ("03", "04", "05"), "the losses are shown as equations"


# ---- the glossary


def entries() -> dict[str, str]:
    parts = re.split(r"^### ", GLOSSARY.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return dict(part.split("\n", 1) for part in parts)


def test_glossary_has_its_terms_in_order():
    terms = [term.replace("`", "").casefold() for term in entries()]
    assert terms == sorted(terms) and len(set(terms)) == len(terms)
    assert 40 <= len(terms) <= 60


def test_glossary_links_resolve():
    assert not broken_links(GLOSSARY, GLOSSARY.read_text(encoding="utf-8"))


def problems_of(term: str, text: str) -> list[str]:
    """What an entry lacks: one or two sentences, the notebook that introduces the term, the file that holds it."""
    what, where = text.strip().split("\n\n")
    links = LINK.findall(where)
    files = [(name, target) for name, target in links if target.startswith("../")]
    notebooks = [target for _, target in links if re.fullmatch(r"\d\d_\w+\.ipynb", target)]
    lacking = [] if 1 <= len(re.findall(r"[.?](?=\s|$)", what)) <= 2 else ["one or two sentences"]
    lacking += [] if len(notebooks) == 1 else ["one notebook"]
    lacking += [] if files and all(name == f"`{target[3:]}`" for name, target in files) else ["a file by its name"]
    for notebook in notebooks:
        told = one_line(" ".join(sources(FOLDER / notebook, "markdown") + sources(FOLDER / notebook, "code")))
        if term.replace("`", "").casefold() not in told.replace("*", "").casefold():
            lacking.append(f"the term in {notebook}")
    return lacking


def test_glossary_entries_say_what_where_and_in_which_file():
    assert not {term: lacking for term, text in entries().items() if (lacking := problems_of(term, text))}
