"""Each notebook equals its paired script, was executed in order, and keeps to the house rules."""

import json
import re
from pathlib import Path

import jupytext
import pytest

from experiments.claims import answer, load_claims, read_result

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MOST_LINES = 10  # of code in a cell


def content(path: Path) -> list[tuple]:
    cells = jupytext.read(path).cells
    return [(cell.cell_type, cell.source.strip(), cell.metadata.get("tags", [])) for cell in cells]


def code_cells(path: Path) -> list[dict]:
    cells = json.loads(path.read_text())["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code" and "".join(cell["source"]).strip()]


def code_lines(cell: dict) -> list[str]:
    lines = "".join(cell["source"]).splitlines()
    return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]


def test_there_are_notebooks_and_every_script_has_one():
    assert len(NOTEBOOKS) >= 3
    assert {path.stem for path in NOTEBOOKS} == {path.stem for path in (ROOT / "notebooks/py").glob("*.py")}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_equals_its_script(path):
    assert content(path) == content(path.parent / "py" / f"{path.stem}.py")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_was_executed_in_order_without_errors(path):
    cells = code_cells(path)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_made_of_small_cells_and_prose(path):
    cells = code_cells(path)
    assert 5 <= len(cells) <= 25
    assert max(len(code_lines(cell)) for cell in cells) <= MOST_LINES
    prose = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "markdown"]
    words = sum(len("".join(cell["source"]).split()) for cell in prose)
    code = sum(len(line.split()) for cell in cells for line in code_lines(cell))
    assert words >= 1.5 * code, f"{words} words of prose for {code} words of code"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_recorded_outputs_hold_no_path_of_the_machine(path):
    text = json.dumps([cell["outputs"] for cell in code_cells(path)])
    assert not re.search(r"(?<![\w.])/(work|root|home|tmp|Users)/", text)


def told_verdicts() -> dict[str, list[str]]:
    """What the notebooks' outputs say of claims: `some-claim: verdict, N seeds` and the lines of its checks."""
    told = {}
    for path in NOTEBOOKS:
        texts = ["".join(o.get("text", "")) for cell in code_cells(path) for o in cell["outputs"]]
        for text in texts:
            for id, rest in re.findall(r"^([a-z0-9-]+): (.+ seeds\n(?:[* ] .+\n?)+)", text, re.MULTILINE):
                told.setdefault(id, []).append(f"{id}: {rest}".strip())
    return told


def test_notebooks_tell_what_the_ledger_says():
    told, claims = told_verdicts(), load_claims()
    answered = {id for id in claims if (ROOT / "results" / f"{id}.json").exists()}
    assert set(told) == answered, "each claim with a result is told in a notebook, and no other"
    for id, texts in told.items():
        assert all(text == answer(claims[id], read_result(id)) for text in texts), f"run the notebook of {id} again"
