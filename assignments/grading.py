"""Grade an assignment without nbgrader: run its cells in order and add up the points of the tests that pass.

    python assignments/grading.py a1            the solution, the untouched release, and every made-up student

What nbgrader does with a class (`assignments/README.md`), in one process and in seconds: for those who write
assignments, and for the tests of the tests. A test that raises no error earns its points, all or none. The test
cells are always those of the script in `py/`, whatever a student made of them, as nbgrader restores them, too.
"""

import argparse
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import jupytext
from nbformat import NotebookNode

HERE = Path(__file__).resolve().parent
NAMES = tuple(path.stem for path in sorted((HERE / "py").glob("*.py")))


@dataclass
class Student:
    """What somebody hands in: their own cells by `grade_id`; everything else is the right solution."""

    cells: dict[str, str] = field(default_factory=dict)
    right: bool = False  # full marks are due: a right answer, written differently


def find(prefix: str) -> str:
    """The full name of an assignment: "a1" -> "a1_softmax_loss". Raises SystemExit when there is not exactly one."""
    found = [name for name in NAMES if name.startswith(prefix)]
    if len(found) != 1:
        raise SystemExit(f"no single assignment is called {prefix!r}; choose one of {', '.join(NAMES)}")
    return found[0]


def source(name: str) -> NotebookNode:
    """The instructor's notebook: text, solutions and hidden tests, with the same cell ids each time."""
    notebook = jupytext.read(HERE / "py" / f"{name}.py")
    for number, cell in enumerate(notebook.cells, 1):
        cell.id = f"{name[:2]}-{number:03d}"
    notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"]}
    return notebook


def release(name: str) -> NotebookNode:
    """The student's notebook, as it is committed."""
    return jupytext.read(HERE / "release" / name / f"{name}.ipynb")


def students(name: str) -> dict[str, Student]:
    """The made-up class of an assignment, from the percent script in `answers/`; empty while there is none."""
    script = HERE / "answers" / f"{name}.py"
    found: dict[str, Student] = {}
    for cell in jupytext.read(script).cells if script.exists() else []:
        if "student" in cell.metadata:
            student = found.setdefault(cell.metadata["student"], Student())
            student.cells[cell.metadata["replaces"]] = cell.source
            student.right |= bool(cell.metadata.get("right", False))
    return found


def untouched(name: str) -> Student:
    """Somebody who hands in the release as it is."""
    return Student(
        {about(cell)["grade_id"]: cell.source for cell in release(name).cells if about(cell).get("solution")}
    )


def about(cell: NotebookNode) -> Mapping:
    """What nbgrader knows of a cell; empty for cells that it does not look at."""
    return cell.metadata.get("nbgrader", {})


def is_test(cell: NotebookNode) -> bool:
    """Whether this is a cell of tests that earn points without a person's judgement."""
    return bool(about(cell).get("grade")) and not about(cell).get("solution")


def hand_in(name: str, student: Student) -> NotebookNode:
    """The notebook that a student hands in. Raises KeyError for a cell that the assignment does not have."""
    notebook = source(name)
    places = {about(cell)["grade_id"]: cell for cell in notebook.cells if about(cell)}
    for grade_id, text in student.cells.items():
        places[grade_id].source = text
    return notebook


def grade(name: str, student: Student, figures: bool = True) -> dict[str, int]:
    """Points of each test cell, by `grade_id`; each is all or nothing.

    figures: whether to run the cells, too, that nbgrader knows nothing of. They draw figures, which are thrown away.
    """
    import matplotlib.pyplot as plt
    import torch
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import capture_output
    from traitlets.config import Config

    shell = InteractiveShell(config=Config({"HistoryManager": {"enabled": False}}))
    points = {}
    tests = {about(cell)["grade_id"]: cell.source for cell in source(name).cells if is_test(cell)}
    plt.switch_backend("agg")  # figures without a window
    before, dtype = Path.cwd(), torch.get_default_dtype()
    try:
        os.chdir(HERE / "data")  # a notebook finds its data files in its own folder
        with capture_output():
            for cell in hand_in(name, student).cells:
                if cell.cell_type == "code" and (figures or about(cell)):
                    grade_id = about(cell).get("grade_id")
                    passed = shell.run_cell(tests.get(grade_id, cell.source), store_history=False).success
                    plt.close("all")  # as a notebook does after each cell
                    if grade_id in tests:
                        points[grade_id] = about(cell)["points"] if passed else 0
    finally:  # the next one begins as if in a kernel of its own
        os.chdir(before)
        torch.set_default_dtype(dtype)
    return points


def full_marks(name: str) -> dict[str, int]:
    """The most points that each test cell can earn."""
    return {about(cell)["grade_id"]: about(cell)["points"] for cell in source(name).cells if is_test(cell)}


def lost(points: Mapping[str, int], most: Mapping[str, int]) -> list[str]:
    """The tests that were not passed."""
    return [grade_id for grade_id in most if points[grade_id] < most[grade_id]]


def main() -> None:
    """Print the points of everybody, with the tests that they lost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("assignment", help=f"the beginning of a name: {', '.join(NAMES)}")
    name = find(parser.parse_args().assignment)
    most = full_marks(name)
    everybody = {"(solution)": Student(right=True), **students(name)}
    if (HERE / "release" / name).exists():
        everybody["(untouched)"] = untouched(name)
    print(f"{name}: {sum(most.values())} points in {len(most)} tests")
    for who, student in everybody.items():
        points = grade(name, student, figures=False)
        wrong = ", ".join(lost(points, most)) or "nothing"
        print(f"{who:28} {sum(points.values()):3d}   lost: {wrong}", flush=True)


if __name__ == "__main__":
    main()
