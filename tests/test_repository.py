"""What holds for the repository as a whole."""

import ast
import io
import re
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest
import yaml

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = sorted((ROOT / "minclip").glob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def lines_of_code(path: Path) -> int:
    """Lines that hold code: no blanks, comments or docstrings."""
    source, documentation, lines = path.read_text(), set(), set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node):
            documentation |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    skip = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in skip:
            lines |= set(range(token.start[0], token.end[0] + 1))
    return len(lines - documentation)


def test_the_package_stays_small_enough_to_read():
    sizes = {path.name: lines_of_code(path) for path in PACKAGE}
    assert max(sizes.values()) <= 250, sizes
    assert sum(sizes.values()) <= 3000, sizes


def test_environment_installs_the_project_and_nothing_that_pyproject_does_not_name():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    (pip,) = [item["pip"] for item in environment["dependencies"] if isinstance(item, dict)]
    name = lambda requirement: re.split(r"[<>=\[ ]", requirement)[0].lower()  # noqa: E731
    known = {name(r) for r in PROJECT["dependencies"]}
    known |= {name(r) for extra in PROJECT["optional-dependencies"].values() for r in extra}
    project = [line for line in pip if line.startswith("-e .")]
    assert len(project) == 1
    extras = re.search(r"\[(.*)\]", project[0])
    assert set(extras[1].split(",")) <= set(PROJECT["optional-dependencies"]) if extras else True
    assert {name(line) for line in pip if line not in project} <= known
    conda = {name(item) for item in environment["dependencies"] if isinstance(item, str)}
    assert conda <= known | {"python", "pip"}


PAGES = [ROOT / name for name in ("README.md", "CLAIMS.md", "assignments/README.md", "data/README.md")]
PAGES += sorted((ROOT / "docs").glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_resolve_and_every_picture_has_a_text(page):
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", text) + re.findall(r'(?:href|src)="([^"#]+)', text)
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []
    alts = re.findall(r"!\[([^\]]*)\]", text) + re.findall(r'<img [^>]*alt="([^"]*)"', text)
    assert len(alts) == len(re.findall(r"!\[|<img ", text)) and all(len(alt.split()) >= 3 for alt in alts)


def test_binder_gets_python_and_a_torch_for_cpus_and_then_the_project():
    environment = yaml.safe_load((ROOT / ".binder" / "environment.yml").read_text())
    asked = {re.split(r"[<>=]", item)[0]: item for item in environment["dependencies"]}
    assert asked.keys() == {"python", "pip", "pytorch-cpu", "torchvision"}
    wanted = {re.match(r"[\w-]+", item)[0]: item for item in PROJECT["dependencies"]}
    assert asked["pytorch-cpu"] == wanted["torch"].replace("torch", "pytorch-cpu")
    assert asked["torchvision"] == wanted["torchvision"]
    script = ROOT / ".binder" / "postBuild"
    assert script.stat().st_mode & 0o111, "Binder runs postBuild only if it may be executed"
    extras = re.search(r"pip install .*-e '\.\[(.+)\]'", script.read_text())[1].split(",")
    assert set(extras) <= set(PROJECT["optional-dependencies"]) and "dev" in extras


def test_no_module_is_named_like_a_library():
    libraries = {"datasets", "tokenizers", "torch", "torchvision", "accelerate", "matplotlib", "tyro", "tqdm"}
    assert not libraries & {path.stem for path in PACKAGE}


def test_nothing_but_scripts_imports_train():
    for path in PACKAGE:
        assert path.name == "train.py" or not re.search(r"from minclip.train|import minclip.train", path.read_text())


def test_the_towers_and_losses_need_torch_alone():
    heavy = ("datasets", "tokenizers", "jupytext", "accelerate", "matplotlib", "pyarrow")
    modules = "clip, data, softmax_loss, sigmoid_loss, zero_shot, retrieval"
    check = f"import sys; from minclip import {modules}; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_data_is_small_and_its_card_names_every_file():
    files = sorted((ROOT / "data").glob("*.parquet"))
    assert sum(path.stat().st_size for path in files) < 17e6
    card = (ROOT / "data/README.md").read_text()
    assert all(f"path: {path.name}" in card for path in files)


def test_datasets_loads_the_card():
    datasets = pytest.importorskip("datasets")
    splits = datasets.load_dataset(str(ROOT / "data"))
    counts = {name: len(split) for name, split in splits.items()}
    assert counts == {
        "train": 12615, "in_distribution": 1428, "held_out_compositions": 312, "fxemoji": 467, "openmoji": 3944,
    }  # fmt: skip
    card = (ROOT / "data/README.md").read_text()
    assert all(re.search(rf"\| `{name}` \| {count:,} ", card) for name, count in counts.items() if name != "openmoji")
    assert splits["fxemoji"][0]["image"].size == (64, 64)
