"""Stop anywhere, go on exactly: atomic files and the state that a run resumes from."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import torch

KEEP = 2  # checkpoints kept: should the disk spoil the newest, there is one before it


def write_atomically(path: str | Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file beside `path`, bring it to the disk, then rename it.

    A reader sees the old file or the new one, never half of one, whenever the process dies.
    """
    path = Path(path)
    part = path.with_name(path.name + ".part")
    try:
        write(part)
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_json(path: str | Path, value: dict) -> None:
    """Write a JSON file atomically."""
    write_atomically(path, lambda part: part.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8"))


def save_state(folder: str | Path, step: int, state: dict) -> None:
    """Keep `state` (tensors, numbers, strings, and lists and dicts of them) as the state after `step` steps."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / f"step_{step:08d}.pt", lambda part: torch.save({"step": step, **state}, part))
    for old in sorted(folder.glob("step_*.pt"))[:-KEEP]:
        old.unlink()


def load_state(folder: str | Path) -> dict | None:
    """The newest state in `folder`, or None if there is none yet.

    Only tensors and plain values are unpickled (`weights_only`), so a checkpoint cannot run code.
    Raises ValueError naming a file that cannot be read.
    """
    files = sorted(Path(folder).glob("step_*.pt"))
    if not files:
        return None
    try:
        return torch.load(files[-1], map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"checkpoint {files[-1]} cannot be read ({error}); delete it to go on from the one before"
        ) from error


def cut_log(path: str | Path, step: int) -> list[dict]:
    """Cut `metrics.jsonl` back to the lines up to and including `step`; returns what is left."""
    path = Path(path)
    lines = []
    if path.exists():
        for text in path.read_text(encoding="utf-8").splitlines():
            try:
                line = json.loads(text)
            except json.JSONDecodeError:  # the line that was being written when the run was killed
                break
            if line["step"] > step:
                break
            lines.append(line)
    content = "".join(json.dumps(line) + "\n" for line in lines)
    write_atomically(path, lambda part: part.write_text(content, encoding="utf-8"))
    return lines
