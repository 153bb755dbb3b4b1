"""Make the notebooks of the assignments: for students (`release/`), for a course, or for a rehearsal.

    python assignments/make.py                                release/ anew: what students get, committed
    python assignments/make.py --course ~/course              + ~/course/source/: what nbgrader works on
    python assignments/make.py --course ~/course --rehearse a1   + ~/course/submitted/: a class of ten hands in a1

`py/` holds each assignment once, as a percent script with solutions and hidden tests. nbgrader itself makes the
student's version from it. (nbgrader: `pip install -e '.[class]'`.)
"""

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

import nbformat
from grading import HERE, NAMES, Student, find, hand_in, source, students, untouched

CLASS_SIZE = 10


def write_sources(course: Path) -> list[Path]:
    """Write `source/<name>/<name>.ipynb` and its data files; returns the folders. Scripts stay where they are.

    nbgrader copies every other file of a source folder to the students: a script there would give the solutions away.
    """
    folders = []
    for name in NAMES:
        folder = course / "source" / name
        folder.mkdir(parents=True, exist_ok=True)
        nbformat.write(source(name), folder / f"{name}.ipynb")
        for data in (HERE / "data").glob(f"{name[:2]}_*"):
            shutil.copyfile(data, folder / data.name)
        folders.append(folder)
    return folders


def write_release(target: Path) -> None:
    """Let nbgrader make the students' notebooks in `target/<name>/`; replaced whole, or not at all."""
    try:
        from nbgrader.apps import NbGraderAPI
        from traitlets.config import Config
    except ImportError:
        raise SystemExit("assignments are made by nbgrader: pip install -e '.[class]'") from None
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # nbgrader's `alembic`
    with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
        course = Path(temporary)
        write_sources(course)
        config = Config()
        config.CourseDirectory.root = str(course)
        config.CourseDirectory.db_assignments = [{"name": name} for name in NAMES]
        api = NbGraderAPI(config=config)
        for name in NAMES:
            made = api.generate_assignment(name, force=True, create=True)
            if not made["success"]:
                raise SystemExit(f"nbgrader refuses {name}:\n{made.get('error')}\n{made.get('log')}")
        if target.exists():
            shutil.rmtree(target)
        (course / "release").rename(target)


def rehearse(course: Path, name: str, size: int = CLASS_SIZE) -> list[str]:
    """Let a made-up class hand in one assignment: the solution, the untouched release, edited tests, wrong answers.

    Returns the students' names, at most `size`. Raises SystemExit where something has been handed in already.
    """
    made_up = students(name)
    everybody = {"solution": Student(), "untouched": untouched(name), "edited_test": made_up["edited_test"]}
    wrong = [who for who in made_up if not made_up[who].right and who not in everybody]
    free = size - len(everybody)
    for place in range(free):  # from all over the assignment
        who = wrong[place * len(wrong) // free]
        everybody[who] = made_up[who]
    for who, student in everybody.items():
        folder = course / "submitted" / who / name
        if folder.exists():
            raise SystemExit(f"{folder} exists; a rehearsal does not overwrite what was handed in")
        shutil.copytree(HERE / "release" / name, folder)
        nbformat.write(hand_in(name, student), folder / f"{name}.ipynb")
    return list(everybody)


def main() -> None:
    """Read the command line; make what it asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--course", type=Path, help="the folder of a course, made by `nbgrader quickstart`")
    parser.add_argument("--rehearse", metavar="NAME", help="let a made-up class of ten hand in this assignment")
    args = parser.parse_args()
    if args.rehearse and not args.course:
        sys.exit("--rehearse needs a course to hand in to: --course FOLDER")
    if args.course is None:
        write_release(HERE / "release")
        print(f"release/: {', '.join(NAMES)}")
        return
    if not (args.course / "nbgrader_config.py").exists():
        sys.exit(f"{args.course} is no course: it has no nbgrader_config.py; make one with: nbgrader quickstart NAME")
    for folder in write_sources(args.course):
        print(f"wrote {folder}")
    if args.rehearse:
        print(f"handed in: {', '.join(rehearse(args.course, find(args.rehearse)))}")


if __name__ == "__main__":
    main()
