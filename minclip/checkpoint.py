"""Stop anywhere, go on exactly: atomic files and the state that a run resumes from."""

import json
import os
import pickletools
import re
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError

KEEP = 2  # checkpoints kept: should the disk spoil the newest, there is one before it
MAY_NAME = re.compile(r"collections OrderedDict|torch\._utils _rebuild_tensor_v2|torch \w+Storage")


class DiskError(OSError):
    """A file could not be written: the disk is full, or may not be written to."""


def write_atomically(path: str | Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file beside `path`, bring it to the disk, then rename it.

    A reader sees the old file or the new one, never half of one, whenever the process dies. Raises DiskError
    naming the file when there is no room for it.
    """
    path = Path(path)
    part = path.with_name(path.name + ".part")
    try:
        write(part)
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
        if hasattr(os, "O_DIRECTORY"):  # the new name, too, or it may be lost with the power
            folder = os.open(path.parent, os.O_DIRECTORY)
            os.fsync(folder)
            os.close(folder)
    except (OSError, RuntimeError, SafetensorError) as error:  # torch and safetensors have their own for a full disk
        raise DiskError(f"{path} could not be written ({error}); make room: what is there is whole") from error
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
    name = f"step_{step:08d}.pt"
    kept = sorted(file for file in folder.glob("step_*.pt") if file.name <= name)[-KEEP:]
    for old in set(folder.glob("step_*.pt")) - set(kept):  # later ones could not be read, or this run would be there
        old.unlink()


def load_state(folder: str | Path) -> dict | None:
    """The newest state in `folder`, or None if there is none yet.

    One that the disk has spoilt is passed over, with a warning that names it, for the one before. Raises ValueError
    if there are some and none can be read: a run never begins anew in silence. See `read_state` for what is refused.
    """
    problems = []
    for file in sorted(Path(folder).glob("step_*.pt"), reverse=True):
        try:
            state = read_state(file)
        except Exception as error:
            problems.append(f"checkpoint {file} cannot be read ({error})")
            continue
        if problems:
            warnings.warn(f"{'; '.join(problems)}; going on from {file.name}", stacklevel=2)
        return state
    if problems:
        raise ValueError(f"{'; '.join(problems)}; no other is left: --overwrite begins anew")
    return None


def read_state(file: Path) -> dict:
    """The state in one file. Raises an error for whatever `save_state` does not write, as a state of another step."""
    state = read_pickle(file)
    if not isinstance(state, dict) or file.name != f"step_{state.get('step'):08d}.pt":
        raise ValueError("it is no state of this step")
    return state


def read_pickle(file: Path) -> object:
    """What torch.save wrote. Only tensors and plain values are unpickled, so it cannot run code.

    Raises an error for a damaged file, one that unpacks to more than its own size, and a pickle that names anything
    but tensors.
    """
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        if sum(entry.file_size for entry in entries) > file.stat().st_size:
            raise ValueError("it unpacks to more than its size")
        if damaged := archive.testzip():  # torch.load does not look at the checksums
            raise ValueError(f"{damaged} is damaged")
        pickles = (pickletools.genops(archive.read(entry)) for entry in entries if entry.filename.endswith(".pkl"))
        named = {str(name) for pickle in pickles for operation, name, _ in pickle if "GLOBAL" in operation.name}
        if strange := [name for name in named if not MAY_NAME.fullmatch(name)]:
            hint = "of TorchScript, which holds code, torch.jit.load(file).state_dict() can be saved"
            raise ValueError(f"it names {strange}, no part of a state; {hint}")  # torch admits bytearray, of any length
    return torch.load(file, map_location="cpu", weights_only=True)


def cut_log(path: str | Path, step: int) -> list[dict]:
    """Cut `metrics.jsonl` back to the lines up to and including `step`; returns what is left."""
    path = Path(path)
    lines = []
    if path.exists():
        for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                line = json.loads(text)
                if line["step"] > step:
                    break
            except (ValueError, KeyError, TypeError):  # the line that was being written when the run was killed
                break
            lines.append(line)
    content = "".join(json.dumps(line) + "\n" for line in lines)
    write_atomically(path, lambda part: part.write_text(content, encoding="utf-8"))
    return lines
