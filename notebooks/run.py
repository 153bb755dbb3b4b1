"""Run notebooks from their paired scripts and keep the outputs: `make notebooks`, or name some: `run.py 03`.

    python notebooks/run.py [--times] [PREFIX ...]

The .py is what one edits and reviews; the .ipynb is that script with its outputs. Time stamps and the
language's version, and the state of sliders, which differ from run to run, are not kept. `--times` keeps the
seconds of each in `results/notebooks.json`: for a machine that does nothing else.
"""

import argparse
import json
import os
import platform
import re
import time
from pathlib import Path

import jupytext
from nbconvert.preprocessors import ExecutePreprocessor

from minclip.checkpoint import write_json

HERE = Path(__file__).resolve().parent
TIMES = HERE.parent / "results" / "notebooks.json"


def run(script: Path) -> float:
    """Execute one script as a notebook and write the .ipynb whole or not at all; returns the seconds."""
    notebook = jupytext.read(script)
    began = time.perf_counter()
    ExecutePreprocessor(timeout=900, record_timing=False).preprocess(notebook, {"metadata": {"path": str(HERE)}})
    seconds = time.perf_counter() - began
    for key in ("language_info", "widgets"):
        notebook.metadata.pop(key, None)
    text = jupytext.writes(notebook, fmt="ipynb")
    target = HERE / f"{script.stem}.ipynb"
    part = target.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    part.replace(target)
    print(f"{script.stem}: {seconds:.0f} s", flush=True)
    return seconds


def keep_time(name: str, seconds: float) -> None:
    """Write one notebook's seconds beside those of the others."""
    kept = json.loads(TIMES.read_text())["seconds"] if TIMES.exists() else {}
    cpuinfo = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else None
    device = f"{model[1] if model else platform.machine()}, {os.cpu_count()} cores"
    seconds = dict(sorted({**kept, name: round(seconds, 1)}.items()))
    write_json(TIMES, {"command": "python notebooks/run.py --times", "device": device, "seconds": seconds})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("prefixes", nargs="*", metavar="PREFIX", help="such as 03; all when none is named")
    parser.add_argument("--times", action="store_true", help="keep the seconds in results/notebooks.json")
    args = parser.parse_args()
    for path in sorted((HERE / "py").glob("*.py")):
        if not args.prefixes or path.name.startswith(tuple(args.prefixes)):
            took = run(path)
            if args.times:
                keep_time(path.stem, took)
