"""An instructor follows `assignments/README.md`: its commands, in its order, give the grades that it shows."""

import csv
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("nbgrader", reason="a course is run by nbgrader: pip install -e '.[class]'")

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "assignments"))

import grading  # noqa: E402
import make  # noqa: E402

PAGE = (ROOT / "assignments" / "README.md").read_text(encoding="utf-8")


def commands() -> str:
    """The page's commands in their order, without those that set up the repository's environment."""
    lines = "\n".join(re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)).splitlines()
    known = ("make assignments", ". .venv/bin/activate", "MINCLIP=")
    return "\n".join(line for line in lines if not line.startswith(known))


def run(script: str, folder: Path) -> float:
    """Run a script as the instructor does, in the repository's environment; returns the seconds."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "MINCLIP": str(ROOT), "PATH": path, "HOME": str(folder)}
    began = time.perf_counter()
    done = subprocess.run(
        ["bash", "-e", "-c", script], cwd=folder, env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return time.perf_counter() - began


@pytest.fixture(scope="module")
def course(tmp_path_factory) -> Path:
    """The course that the page's commands make, with a class of ten graded, and three students in the others."""
    folder = tmp_path_factory.mktemp("instructor")
    print(f"the page's commands, with a class of ten: {run(commands(), folder):.0f} s")
    course = folder / "clip101"
    for name in grading.NAMES[1:]:
        make.rehearse(course, name, size=3)
        run(f"nbgrader generate_assignment {name} --create && nbgrader autograde {name}", course)
    run("nbgrader export", course)
    return course


def grades(course: Path, name: str) -> dict[str, dict]:
    """The lines of grades.csv for those who handed in; nbgrader lists the others, too, with zero."""
    with (course / "grades.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["assignment"] == name]
    return {row["student_id"]: row for row in rows if (course / "autograded" / row["student_id"] / name).exists()}


def score(row: dict) -> float:
    return float(row["score"])


def test_the_class_of_ten_gets_the_grades_that_the_page_shows(course):
    shown = dict(re.findall(r"^\| `(\w+)` \| (\d+) \|", PAGE.split("<!-- CLASS -->")[1], re.MULTILINE))
    found = grades(course, grading.NAMES[0])
    assert len(found) == make.CLASS_SIZE
    assert {who: int(points) for who, points in shown.items()} == {who: score(row) for who, row in found.items()}


@pytest.mark.parametrize("name", grading.NAMES)
def test_nbgrader_gives_the_points_that_the_harness_gives(course, name):
    made_up = {"solution": grading.Student(), "untouched": grading.untouched(name), **grading.students(name)}
    found = grades(course, name)
    assert {"solution", "untouched", "edited_test"} <= found.keys()
    for who, row in found.items():
        assert score(row) == sum(grading.grade(name, made_up[who]).values()), who
    assert score(found["solution"]) == sum(grading.full_marks(name).values())
    assert score(found["untouched"]) == 0
    assert score(found["edited_test"]) < sum(grading.full_marks(name).values())


def test_each_student_gets_a_page_of_feedback_with_points(course):
    name = grading.NAMES[0]
    pages = {path.parts[-3]: path.read_text() for path in course.glob(f"feedback/*/{name}/{name}.html")}
    assert len(pages) == make.CLASS_SIZE
    assert "(Score: 0.0 /" in pages["untouched"] and "YOUR CODE HERE" in pages["untouched"]


def test_no_script_and_no_solution_reaches_the_students_of_the_course(course):
    files = [path for path in (course / "release").rglob("*") if path.is_file()]
    assert len(files) >= len(grading.NAMES) and {path.suffix for path in files} <= {".ipynb", ".npz"}
    assert not any("BEGIN SOLUTION" in path.read_text() for path in files if path.suffix == ".ipynb")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--rehearse", "a1"], "--rehearse needs a course"),
        (["--course", "."], "is no course: it has no nbgrader_config.py"),
    ],
)
def test_make_says_what_is_missing(tmp_path, flags, message):
    script = [sys.executable, str(ROOT / "assignments" / "make.py"), *flags]
    done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode and message in done.stderr and not list(tmp_path.iterdir())


def test_a_rehearsal_does_not_overwrite_what_was_handed_in(tmp_path):
    make.rehearse(tmp_path, grading.NAMES[0])
    with pytest.raises(SystemExit, match="does not overwrite"):
        make.rehearse(tmp_path, grading.NAMES[0])
