"""The tests of the tests: the right answer earns everything, nothing earns nothing, and no wrong answer passes."""

import re
import sys
from pathlib import Path

import jupytext
import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "assignments"))

import grading  # noqa: E402
import make  # noqa: E402

CLASS = [(name, who) for name in grading.NAMES for who in grading.students(name)]
EACH = pytest.mark.parametrize("name", grading.NAMES)
EXERCISE = re.compile(r"^## Exercise (\d+) · .+ \((\d+) points?, (\d+) minutes\)$", re.MULTILINE)


def test_there_are_five_assignments():
    assert [name[:3] for name in grading.NAMES] == ["a1_", "a2_", "a3_", "a4_", "a5_"]


@EACH
def test_the_solution_earns_all_points(name):
    assert grading.grade(name, grading.Student()) == grading.full_marks(name)


@EACH
def test_the_untouched_release_earns_nothing(name):
    assert not any(grading.grade(name, grading.untouched(name)).values())


@pytest.mark.parametrize(("name", "who"), CLASS, ids=[f"{name}-{who}" for name, who in CLASS])
def test_a_made_up_student_earns_what_they_should(name, who):
    student, most = grading.students(name)[who], grading.full_marks(name)
    points = grading.grade(name, student, figures=False)
    if student.right:
        assert points == most
        return
    assert sum(points.values()) < sum(most.values())
    for grade_id in student.cells:  # and in the exercise that they got wrong
        exercise = re.sub(r"_(check|hidden)$", "", grade_id)
        assert any(lost.startswith(f"{exercise}_") for lost in grading.lost(points, most)), f"{grade_id} lost nothing"


@EACH
def test_the_class_has_six_wrong_answers_an_edited_test_and_two_other_right_ones(name):
    made_up = grading.students(name)
    assert sum(not student.right for student in made_up.values()) >= 6
    assert sum(student.right for student in made_up.values()) >= 2
    assert any(grade_id in grading.full_marks(name) for grade_id in made_up["edited_test"].cells)


def exercises(name: str) -> list[tuple[tuple[str, ...], list]]:
    """The exercises of the instructor's notebook: number, points and minutes, and the cells until the next title."""
    found = []
    for cell in grading.source(name).cells:
        title = EXERCISE.search(cell.source) if cell.cell_type == "markdown" else None
        if title:
            found.append((title.groups(), [cell]))
        elif found:
            found[-1][1].append(cell)
    return found


@EACH
def test_an_exercise_has_a_docstring_with_shapes_a_visible_check_a_hint_minutes_and_points(name):
    found = exercises(name)
    assert [int(number) for (number, _, _), _ in found] == list(range(1, len(found) + 1)) and len(found) >= 4
    for (number, points, _), cells in found:
        kinds = [grading.about(cell) for cell in cells]
        assert sum(kind["points"] for kind in kinds if kind.get("grade")) == int(points), f"exercise {number}"
        for place, (cell, kind) in enumerate(zip(cells, kinds)):
            if kind.get("solution") and cell.cell_type == "code":
                before = cell.source.split("### BEGIN SOLUTION")[0]
                assert '"""' in before and "### END SOLUTION" in cell.source, f"exercise {number}"
                visible = cells[place + 1].source.split("### BEGIN HIDDEN TESTS")[0]
                assert grading.is_test(cells[place + 1]) and "assert" in visible, f"exercise {number}"
        if any(kind.get("solution") and cell.cell_type == "code" for cell, kind in zip(cells, kinds)):
            assert any("<details><summary>" in cell.source for cell in cells), f"exercise {number} has no hint"
            assert any(re.search(r"`\[[^\]]*\]`", cell.source) for cell in cells if cell.cell_type == "code")
    assert any("### BEGIN HIDDEN TESTS" in cell.source for _, cells in found for cell in cells)


@EACH
def test_the_header_tells_the_minutes_and_the_points_that_the_exercises_have(name):
    header, found = grading.source(name).cells[0].source, exercises(name)
    minutes, points = (int(re.search(rf"\*\*{key}\.?\*\*\D*(\d+)", header)[1]) for key in ("Time", "Points"))
    assert 60 <= minutes <= 120 and sum(int(time) for (_, _, time), _ in found) <= minutes
    assert sum(int(worth) for (_, worth, _), _ in found) == points


def test_the_instructors_page_lists_them_with_their_minutes_and_points():
    page = (grading.HERE / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| \[(.+)\]\(release/(\w+)/\2\.ipynb\) \| .+ \| (\d+) \| (\d+) \|", page, re.MULTILINE)
    found = []
    for name in grading.NAMES:
        header = grading.source(name).cells[0].source
        minutes, points = (re.search(rf"\*\*{key}\.?\*\*\D*(\d+)", header)[1] for key in ("Time", "Points"))
        found.append((re.match("# (.+)", header)[1], name, minutes, points))
    assert listed == found


@EACH
def test_every_graded_cell_is_locked_and_known_to_nbgrader_by_its_own_name(name):
    kinds = [grading.about(cell) for cell in grading.source(name).cells if grading.about(cell)]
    assert len({kind["grade_id"] for kind in kinds}) == len(kinds)
    assert all(kind["schema_version"] == 3 for kind in kinds)
    assert all(kind["locked"] for kind in kinds if kind["grade"] and not kind["solution"])


def test_the_release_holds_no_solution_no_hidden_test_and_no_script():
    files = [path for path in (ROOT / "assignments" / "release").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".ipynb", ".npz"}
    assert sorted(path.stem for path in files if path.suffix == ".ipynb") == list(grading.NAMES)
    for name in grading.NAMES:
        text = "\n".join(cell.source for cell in grading.release(name).cells)
        assert "BEGIN SOLUTION" not in text and "HIDDEN TESTS" not in text
        for cell in grading.source(name).cells:  # not a line of a solution or a hidden test, either
            for start, end in (("### BEGIN SOLUTION", "### END SOLUTION"), ("### BEGIN HIDDEN", "### END HIDDEN")):
                for part in cell.source.split(start)[1:]:
                    secret = [line.strip() for line in part.split(end)[0].splitlines()[1:] if len(line.strip()) > 30]
                    assert not [line for line in secret if line in text], f"{name}: {secret}"
        assert all(not cell.get("outputs") for cell in grading.release(name).cells)


def test_the_release_is_what_nbgrader_makes_of_the_scripts(tmp_path):
    pytest.importorskip("nbgrader", reason="the release is made by nbgrader: pip install -e '.[class]'")
    make.write_release(tmp_path / "release")
    made = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    committed = ROOT / "assignments"
    kept = {path.relative_to(committed): path.read_bytes() for path in (committed / "release").rglob("*.*")}
    kept = {path: content for path, content in kept.items() if (committed / path).is_file()}
    assert made.keys() == kept.keys(), "make assignments"
    assert [path for path in made if made[path] != kept[path]] == [], "make assignments"


def test_a_student_needs_no_minclip():
    for name in grading.NAMES:
        assert "minclip" not in re.sub(
            r"\S*minclip/\S*",
            "",
            "\n".join(
                cell.source
                for cell in jupytext.read(grading.HERE / "py" / f"{name}.py").cells
                if cell.cell_type == "code"
            ),
        )


def test_sources_for_a_course_are_notebooks_and_data_only(tmp_path):
    make.write_sources(tmp_path)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".ipynb", ".npz"}
    for name in grading.NAMES:
        nbformat.validate(nbformat.read(tmp_path / "source" / name / f"{name}.ipynb", as_version=4))
