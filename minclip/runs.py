"""The directory of a run (README: "What a run leaves"): opened, guarded and described.

A run is finished when `metrics.json`, written last, exists. Every file but the log is replaced whole.
"""

import json
import platform
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch

from minclip.checkpoint import DiskError, cut_log, write_json
from minclip.clip import CLIP, CLIPConfig
from minclip.tokenizer import Tokenizer

# Settings that do not change what is computed: a resumed run may have others.
FREE = "resume overwrite output_dir log_every checkpoint_every tracker progress gradient_checkpointing fsdp".split()


def check_output_dir(output: Path | None, config: dict, defaults: dict) -> None:
    """Raise FileExistsError or ValueError unless a run with `config` may be written to `output`.

    defaults: as in `changes`.
    """
    resume, overwrite = config["resume"], config["overwrite"]
    if resume and overwrite:
        raise ValueError("--resume goes on with a run and --overwrite replaces it; choose one")
    if output is None or not output.exists() or all(file.suffix == ".part" for file in output.iterdir()):
        return
    if not (output / "config.json").exists():
        raise FileExistsError(f"{output} is not empty and holds no run; choose another --output_dir")
    if overwrite:
        return
    finished = (output / "metrics.json").exists()
    if not resume:
        kind = "a finished" if finished else "an unfinished"
        raise FileExistsError(f"{output} already holds {kind} run; use --resume, --overwrite or another --output_dir")
    if finished:
        raise FileExistsError(f"the run in {output} is finished; there is nothing to resume")
    if changed := changes(output, config, defaults):
        raise ValueError(f"{output} holds a run with other settings ({'; '.join(changed)}); resume with the same ones")


def changes(output: Path, config: dict, defaults: dict) -> list[str]:
    """The settings in which `config` differs from the run in `output`, each as `name: there -> here`.

    defaults: what a setting is in a run that was begun before the setting existed. Of `init_from` it counts only
    whether there is one: the same folder may be spelt otherwise, or have moved. A run with a checkpoint goes on
    from that; one without begins anew, from the folder that it is given now.
    """
    known, wanted = {**flat(defaults), **read_config(output)["train"]}, flat(config)
    differ = [key for key, value in wanted.items() if known.get(key) != value]
    if known.get("init_from") and wanted.get("init_from"):
        differ = [key for key in differ if key != "init_from"]
    return [f"{key}: {known.get(key)} -> {wanted[key]}" for key in differ]


def flat(config: dict) -> dict:
    """The settings that fix what a run computes, nested ones by dotted names, as JSON would give them back."""
    plain = {}
    for key, value in json.loads(json.dumps(config)).items():
        if isinstance(value, dict):
            plain |= {f"{key}.{inner}": v for inner, v in value.items()}
        elif key not in FREE:
            plain[key] = value
    return plain


def read_config(output: Path) -> dict:
    """The config.json of a run. Raises ValueError if it is damaged."""
    try:
        config = json.loads((output / "config.json").read_text(encoding="utf-8"))
        return {"train": dict(config["train"]), "precision": str(config["precision"])}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{output / 'config.json'} is damaged ({error}); --overwrite begins anew") from error


def read_precision(output: Path | None) -> str | None:
    """The precision that the run in `output` settled on, or None."""
    return None if output is None or not (output / "config.json").exists() else read_config(output)["precision"]


def open_run(output: Path, config: dict, model: CLIP, tokenizer: Tokenizer, step: int, info: dict) -> list[dict]:
    """Make or reopen the directory for a run that stands at `step`; returns the log up to there.

    A new run first empties the directory, the checkpoints before the settings that they belong to: whenever the
    process dies, what is there is one run.
    """
    output.mkdir(parents=True, exist_ok=True)
    (output / "metrics.json").unlink(missing_ok=True)
    for part in output.rglob("*.part"):  # of a process that was killed while it wrote
        part.unlink()
    if step == 0:
        for path in sorted(output.iterdir(), key=lambda path: path.name != "state"):
            if path.name != "config.json":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        versions = {"python": platform.python_version(), "torch": torch.__version__}
        settings = {"model": asdict(model.config), "train": flat(config), **info, "versions": versions}
        write_json(output / "config.json", settings)
        tokenizer.save(output / "tokenizer.json")
    return cut_log(output / "metrics.jsonl", step)


def load_start(folder: str, shape: CLIPConfig) -> tuple[CLIP, Tokenizer]:
    """The model and the tokenizer of a finished run, for a run of the given shape to start from.

    Raises FileNotFoundError or ValueError naming what is missing or does not fit.
    """
    model, file = CLIP.from_pretrained(folder), Path(folder) / "tokenizer.json"
    if not file.exists():
        raise FileNotFoundError(f"{folder} does not hold tokenizer.json; is it a finished run?")
    tokenizer = Tokenizer.load(file)
    known, wanted = model.config.vocab_size, shape.vocab_size
    if tokenizer.vocab_size != known:
        raise ValueError(f"{file} has {tokenizer.vocab_size} entries, its model {known}; copy both from one run")
    if known > wanted:
        raise ValueError(f"init_from {folder} has vocab_size {known}, this run {wanted}; use --vocab_size {known}")
    return model, tokenizer


def append_line(log: Path | None, line: dict) -> None:
    """Append one line to the log, if there is one."""
    if log is not None:
        try:
            with open(log, "a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:  # half a line is cut off on resume
            raise DiskError(f"{log} could not be written ({error})") from error


def device_name(device: torch.device) -> str:
    """What the run computed on, such as `NVIDIA H200` or `cpu (2 threads)`."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} ({torch.get_num_threads()} threads)" if device.type == "cpu" else device.type


def run_command(function: Callable[..., None]) -> None:
    """Run a function as a command whose flags are its arguments; bad input ends it with one line."""
    import tyro

    try:
        tyro.cli(function, use_underscores=True)
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error
