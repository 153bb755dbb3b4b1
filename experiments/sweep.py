"""Sweeps: runs that are kept, so that they are shared, and an interrupted sweep goes on.

Each run is kept in a file named after its content: the run function and its version, the setting, and the
seed. Whoever asks for the same run again, under whatever name, finds it there.
"""

import hashlib
import json
import math
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import closing
from pathlib import Path

import torch

from minclip.checkpoint import write_atomically
from minclip.runs import device_name

ROOT = Path(__file__).resolve().parent.parent
LEDGER_SEEDS = range(5)  # the seeds of verdicts; calibration uses others, 100 and up
RUN_FOLDERS = ("results/runs", "runs/calibration", "runs/again")  # the first is committed, the others are not


def run_function(version: int, defaults: dict, prepare: Callable[[list[dict]], None] | None = None) -> Callable:
    """Mark `run(setting, seed) -> dict` as one that sweeps may call; setting holds every key of `defaults`.

    Raise `version` whenever the function computes something else, a changed default included: old runs then
    no longer count. A new key with a default that changes nothing needs no new version. prepare: is called once
    before a sweep with the complete settings that are missing, for what runs share (cached features). The result
    holds numbers and short lists of them.
    """

    def mark(run: Callable[[dict, int], dict]) -> Callable[[dict, int], dict]:
        run.version, run.defaults, run.prepare = version, defaults, prepare
        return run

    return mark


def complete(run: Callable, setting: dict) -> dict:
    """The setting with the run function's defaults filled in. Raises ValueError for a key that it does not know."""
    unknown = sorted(set(setting) - set(run.defaults))
    if unknown:
        raise ValueError(f"{run.__name__} has no setting {', '.join(unknown)}; it knows {', '.join(run.defaults)}")
    return {**run.defaults, **setting}


def run_key(run: Callable, setting: dict) -> str:
    """What identifies a run but its seed: function, version, and the values that are not the default's."""
    different = {k: v for k, v in complete(run, setting).items() if v != run.defaults[k]}
    different = {k: float(v) if type(v) is int else v for k, v in different.items()}  # 1 is 1.0
    content = json.dumps([f"{run.__module__}.{run.__name__}", run.version, different], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def run_path(run: Callable, setting: dict, seed: int, root: Path = ROOT, again: str = "") -> Path:
    """Where a run is kept: in the folder of verdicts for their seeds; in one of its own if a claim is run `again`."""
    verdicts, calibration, repeated = RUN_FOLDERS
    folder = f"{repeated}/{again}" if again else verdicts if seed in LEDGER_SEEDS else calibration
    return root / folder / f"{run_key(run, setting)}_{seed}.json"


def missing_runs(claim, seeds: Sequence[int], root: Path = ROOT, again: bool = False) -> dict[Path, tuple]:
    """What `run_sweep` will compute: file -> (name, setting, seed); a finished repetition is missing altogether."""
    wanted = [(name, s, seed) for seed in seeds for name, s in claim.settings.items()]  # all settings of a seed first
    files = {run_path(claim.run, s, seed, root, claim.id if again else ""): (name, s, seed) for name, s, seed in wanted}
    missing = {path: about for path, about in files.items() if not path.exists()}
    return missing if missing or not again else files


def compute_run(run: Callable, setting: dict, seed: int, path: Path) -> None:
    """Run once and keep the result, whole or not at all."""
    began = time.perf_counter()
    result = {key: compact(value) for key, value in run(complete(run, setting), seed).items()}
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    content = {"function": f"{run.__module__}.{run.__name__}", "version": run.version, "seed": seed}
    content |= {"setting": complete(run, setting), "result": result, "seconds": round(time.perf_counter() - began, 2)}
    content |= {"device": device_name(device), "threads": torch.get_num_threads(), "torch": torch.__version__}
    write_lines(path, content)


def compact(value: float | Sequence[float]) -> float | list | None:
    """Six significant digits are more than the noise leaves; NaN and infinity, which JSON lacks, become null."""
    if isinstance(value, (list, tuple)):
        return [compact(v) for v in value]
    if isinstance(value, int):
        return value
    return float(f"{value:.6g}") if math.isfinite(value) else None


def read_run(path: Path, run: Callable, setting: dict) -> dict:
    """The content of a run's file. Raises ValueError if it is broken or a default changed without a new version."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        was = content["setting"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path.name} is not the file of a run ({error!r}); delete it and run again") from error
    changed = [f"{k}: {was[k]} -> {v}" for k, v in complete(run, setting).items() if was.get(k, v) != v]
    if changed:
        raise ValueError(
            f"a default of {run.__name__} is no longer that of {path.name} ({'; '.join(changed)}); raise its version"
        )
    return content


def run_sweep(
    claim,
    seeds: Sequence[int] | None = None,
    workers: int | None = None,
    root: Path = ROOT,
    again: bool = False,
    progress: bool = True,
) -> list[dict]:
    """Run what is missing and return all measurements, one dict for each seed and setting.

    claim: has `id`, `run`, `settings` and `seeds` (see `experiments.claims.Claim`). A measurement holds
    `setting` (its name), `seed`, `run` (its file's name), `seconds`, `device` and the result. On a CPU,
    `workers` processes (default: one a core) with one thread each: small runs gain little from threads, and
    no result depends on the number of workers. On a GPU, one process. again: run all once more, beside what is kept;
    interrupted, such a repetition goes on, too. Raises RuntimeError naming claim,
    setting and seed when a run fails; finished runs are kept.
    """
    from tqdm.auto import tqdm

    seeds = claim.seeds if seeds is None else seeds
    wanted = [(name, s, seed) for seed in seeds for name, s in claim.settings.items()]
    path = lambda setting, seed: run_path(claim.run, setting, seed, root, claim.id if again else "")  # noqa: E731
    missing = missing_runs(claim, seeds, root, again)
    for file in missing:
        file.unlink(missing_ok=True)
    if missing and claim.run.prepare:
        claim.run.prepare([complete(claim.run, setting) for _, setting, _ in missing.values()])
    workers = 1 if torch.cuda.is_available() else min(workers or os.cpu_count() or 1, max(1, len(missing)))
    left = len(wanted) - len(missing)
    with tqdm(total=len(wanted), initial=left, desc=claim.id, unit="run", disable=not progress) as bar:
        with closing(finish(claim.run, missing, workers)) as outcomes:
            for name, seed, error in outcomes:
                if error is not None:
                    what = f"{type(error).__name__}: {error}"
                    raise RuntimeError(f"claim {claim.id}, setting {name!r}, seed {seed}: {what}") from error
                bar.update()
    measurements = []
    for name, setting, seed in wanted:
        file = path(setting, seed)
        content = read_run(file, claim.run, setting)
        about = {"setting": name, "seed": seed, "run": file.name}
        measurements.append({**about, "seconds": content["seconds"], "device": content["device"], **content["result"]})
    return measurements


def finish(run: Callable, missing: dict[Path, tuple], workers: int) -> Iterator[tuple[str, int, Exception | None]]:
    """Compute the missing runs; yields (setting's name, seed, what went wrong or None) as they end."""
    for path in missing:
        path.parent.mkdir(parents=True, exist_ok=True)
    if workers > 1:
        # spawn: a forked child would inherit torch's thread pools half-way through their work
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(workers, context, initializer=torch.set_num_threads, initargs=(1,))
        try:
            tasks: dict[Future, tuple] = {}
            for path, (name, setting, seed) in missing.items():
                tasks[pool.submit(compute_run, run, setting, seed, path)] = (name, seed)
            for future in as_completed(tasks):
                yield *tasks[future], future.exception()
        finally:
            pool.shutdown(cancel_futures=True)  # what runs ends and is kept, what waits does not begin
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for path, (name, setting, seed) in missing.items():
            try:
                compute_run(run, setting, seed, path)
                error = None
            except Exception as caught:
                error = caught
            yield name, seed, error
    finally:
        torch.set_num_threads(threads)


def write_lines(path: Path, content: dict) -> None:
    """Write JSON atomically, one line for each key and for each item of a list of dicts."""

    def text(value) -> str:
        if isinstance(value, list) and value and isinstance(value[0], dict):
            return "[\n  " + ",\n  ".join(json.dumps(item, allow_nan=False) for item in value) + "\n ]"
        return json.dumps(value, allow_nan=False, ensure_ascii=False)

    lines = ",\n ".join(f"{json.dumps(key)}: {text(value)}" for key, value in content.items())
    write_atomically(path, lambda part: part.write_text("{" + lines + "}\n", encoding="utf-8"))
