"""Run notebooks from their paired scripts and keep the outputs: `make notebooks`, or name some: `run.py 03`.

    python notebooks/run.py [PREFIX ...]

The .py is what one edits and reviews; the .ipynb is that script with its outputs. Time stamps and the
language's version, and the state of sliders, which differ from run to run, are not kept.
"""

import sys
import time
from pathlib import Path

import jupytext
from nbconvert.preprocessors import ExecutePreprocessor

HERE = Path(__file__).resolve().parent


def run(script: Path) -> None:
    """Execute one script as a notebook and write the .ipynb whole or not at all."""
    notebook = jupytext.read(script)
    began = time.perf_counter()
    ExecutePreprocessor(timeout=900, record_timing=False).preprocess(notebook, {"metadata": {"path": str(HERE)}})
    for key in ("language_info", "widgets"):
        notebook.metadata.pop(key, None)
    text = jupytext.writes(notebook, fmt="ipynb")
    target = HERE / f"{script.stem}.ipynb"
    part = target.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    part.replace(target)
    print(f"{script.stem}: {time.perf_counter() - began:.0f} s", flush=True)


if __name__ == "__main__":
    for path in sorted((HERE / "py").glob("*.py")):
        if len(sys.argv) == 1 or path.name.startswith(tuple(sys.argv[1:])):
            run(path)
