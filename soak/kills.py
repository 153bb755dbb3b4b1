"""Kill a run again and again, let it go on each time, and compare it with one that was left alone: bit for bit.

    python soak/kills.py --count 30 --torchrun 4 --output results/soak_kills.json    # about two minutes
    python soak/kills.py --count 6 --torchrun 1                                      # the quick form

A case is killed one to three times with SIGKILL: at a random moment (`time`), while or just after the n-th file is
written (`file`: while its content is half there, before it gets its name, just after), or in the middle of a line of
the log (`line`). Then it goes on to its end. Equal must be every file that it leaves but for the seconds: weights,
log, metrics, tokenizer, settings, the last two checkpoints; and no temporary file may be left.

--torchrun: cases of two processes under torchrun, of which one is killed; the other must end within a minute with a
sentence that says so, and the run must go on as one of two processes that was left alone. As many cases more in which
one of two gets SIGTERM: both must stop at one step, with its checkpoint and exit code 143.

The processes are forks of this one, which has imported everything and computed nothing: starting one costs nothing.
"""

import argparse
import hashlib
import json
import os
import platform
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import matplotlib.backends.backend_agg  # noqa: F401  # what `train` imports late is imported here, once
import tokenizers  # noqa: F401
import torch
import torch._dynamo  # noqa: F401
import tqdm.auto  # noqa: F401
from accelerate import Accelerator  # noqa: F401

from minclip import runs
from minclip.checkpoint import write_json
from minclip.clip import CLIPConfig
from minclip.data import Pairs
from minclip.train import TrainConfig, train

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 60  # seconds until a process that lost another one must have ended
VIT = CLIPConfig(
    image_tower="vit", image_size=16, image_width=32, image_layers=(2,), patch_size=8, context_length=12,
    vocab_size=300, text_width=32, text_layers=1, heads=2, embed_dim=16, dropout=0.1,
)  # fmt: skip
RESNET = replace(VIT, image_tower="resnet", image_width=8, image_layers=(1, 1), loss="sigmoid")
SETTINGS = {  # dropout, the statistics of a batch, masks, micro-batches, both losses: all that has a state or chance
    "vit": {"model": VIT},
    "resnet": {"model": RESNET, "muon_lr": 0.0},
    "masks": {"model": VIT, "image_keep": 0.5, "text_tokens": 5, "text_masking": "random", "micro_batch_size": 5},
}


def config(folder: Path, name: str, **changes) -> TrainConfig:
    """A run of 30 steps, seven and a half times through the pairs, with a checkpoint after every fourth."""
    common = TrainConfig(
        output_dir=str(folder), batch_size=16, max_steps=30, warmup_steps=2, checkpoint_every=4, log_every=3,
        precision="fp32", progress=False,
    )  # fmt: skip
    return replace(common, **SETTINGS[name], **changes)


def tiny_pairs() -> Pairs:
    """64 random pictures with different captions."""
    images = torch.randint(0, 256, (64, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    captions = [[f"thing {i} of {i % 7}", f"{i % 5} times {i}"] for i in range(64)]
    return Pairs(images, captions, torch.arange(64), [], torch.arange(64))


def work(folder: Path, name: str, prepare: Callable[[], None] | None = None, **changes) -> None:
    """Train in this process, going on with what is there."""
    torch.set_num_threads(1)
    if prepare:
        prepare()
    train(config(folder, name, resume=folder.exists(), **changes), pairs=tiny_pairs())


def fork(log: Path, function: Callable[..., None], *args, environment: dict | None = None) -> int:
    """Call `function` in a fork of this process whose words go to the file `log`; returns its number."""
    sys.stdout.flush()
    if pid := os.fork():
        return pid
    code = 1
    try:
        os.environ.update(environment or {})
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(descriptor, 1), os.dup2(descriptor, 2)
        function(*args)
        code = 0
    except SystemExit as error:  # of a signal
        code = error.code
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)


def die() -> None:
    """SIGKILL for this process."""
    os.kill(os.getpid(), signal.SIGKILL)


def die_at_file(number: int, stage: str) -> None:
    """Let this process die at the `number`-th file (from 1) that it writes.

    stage: when it is `half` there, `before` or `after` it gets its name.
    """
    rename, count = os.replace, 0

    def replace_or_die(source, target):
        nonlocal count
        count += 1
        if count == number and stage == "half":
            os.truncate(source, os.path.getsize(source) // 2)
        if count == number and stage != "after":
            die()
        rename(source, target)
        if count == number:
            die()

    os.replace = replace_or_die


def die_at_line(number: int) -> None:
    """Let this process die in the middle of the `number`-th line (from 1) that it appends to the log."""
    append, count = runs.append_line, 0

    def append_or_die(log, line):
        nonlocal count
        count += 1
        append(log, line)
        if count == number:
            os.truncate(log, log.stat().st_size - 20)
            die()

    runs.append_line = append_or_die


def content(folder: Path) -> dict[str, object]:
    """What a finished run has left, by name: whatever must be equal. Pictures count by their names alone."""
    forget = lambda line: {k: v for k, v in line.items() if k not in ("seconds", "train_seconds", "images_per_second")}  # noqa: E731
    left: dict[str, object] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = str(path.relative_to(folder))
        if path.suffix == ".jsonl":
            left[name] = [forget(json.loads(line)) for line in path.read_text().splitlines()]
        elif path.suffix == ".json":
            left[name] = forget(json.loads(path.read_text()))
        elif path.suffix == ".pt":
            left[name] = digest({**torch.load(path, weights_only=True), "seconds": 0})
        else:
            left[name] = None if path.suffix == ".png" else hashlib.sha256(path.read_bytes()).hexdigest()
    return left


def digest(value: object) -> str:
    """A fingerprint of tensors and plain values, bit for bit."""
    found = hashlib.sha256()

    def visit(value: object) -> None:
        if isinstance(value, dict):
            for key in value:
                found.update(repr(key).encode())
                visit(value[key])
        elif isinstance(value, list | tuple):
            for item in value:
                visit(item)
        elif isinstance(value, torch.Tensor):
            found.update(f"{value.dtype}{list(value.shape)}".encode() + value.contiguous().numpy().tobytes())
        else:
            found.update(repr(value).encode())

    visit(value)
    return found.hexdigest()


def differences(whole: dict, broken: dict) -> list[str]:
    """The names of the files that two runs do not share or that differ."""
    return sorted(name for name in whole.keys() | broken.keys() if name not in whole or whole[name] != broken.get(name))


def no_more_than(folder: Path, checkpoints: int) -> None:
    """Raise AssertionError if there are more checkpoints."""
    there = sorted(path.name for path in folder.glob("state/*.pt"))
    assert len(there) <= checkpoints, there


def draw_kill(chance: random.Random, seconds: float, files: int, lines: int) -> tuple:
    """A kind of death, and its place."""
    kind = chance.choice(("time", "file", "file", "line"))
    if kind == "time":
        return kind, chance.uniform(0, seconds)
    if kind == "file":
        return kind, chance.randint(1, files), chance.choice(("half", "before", "after"))
    return kind, chance.randint(1, lines)


def run_and_kill(folder: Path, name: str, log: Path, kill: tuple | None) -> tuple[bool, float]:
    """One process, killed as `kill` says or left alone: (was it killed?, its seconds).

    Raises AssertionError if it fails.
    """
    prepare = None
    if kill and kill[0] == "file":
        prepare = lambda: die_at_file(*kill[1:])  # noqa: E731
    elif kill and kill[0] == "line":
        prepare = lambda: die_at_line(*kill[1:])  # noqa: E731
    began = time.perf_counter()
    pid = fork(log, work, folder, name, prepare)
    if kill and kill[0] == "time":
        time.sleep(kill[1])
        os.kill(pid, signal.SIGKILL)  # not reaped yet: the number is still its own
    _, status = os.waitpid(pid, 0)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    assert killed or status == 0, f"exit status {status}: {log.read_text()[-2000:]}"
    return killed, time.perf_counter() - began


def one_process(scratch: Path, count: int, seed: int) -> tuple[list[dict], int]:
    """`count` cases of one process; returns a row for each, and how many broke a promise."""
    whole, rows, broken = {}, [], 0
    for name in SETTINGS:
        _, seconds = run_and_kill(scratch / f"whole_{name}", name, scratch / "log", None)
        whole[name] = content(scratch / f"whole_{name}"), seconds
    for case in range(count):
        chance = random.Random(f"{seed} {case}")
        name, folder, log = list(SETTINGS)[case % len(SETTINGS)], scratch / f"case_{case}", scratch / f"log_{case}"
        expected, seconds = whole[name]
        kills, problem = [], ""
        try:
            wanted = chance.randint(1, 3)
            while len(kills) < wanted:
                kill = draw_kill(chance, seconds, files=12, lines=10)
                killed, _ = run_and_kill(folder, name, log, kill)
                kills += [[round(part, 3) if isinstance(part, float) else part for part in kill]] if killed else []
                no_more_than(folder, 2 + len(kills))  # each may have come before the removal of the oldest
                if (folder / "metrics.json").exists():
                    if kills:
                        break
                    shutil.rmtree(folder)  # it came too late: once more from the start
            if not (folder / "metrics.json").exists():
                run_and_kill(folder, name, log, None)
            problem = ", ".join(differences(expected, content(folder)))
        except AssertionError as error:
            problem = str(error)
        broken += bool(problem)
        rows.append({"case": case, "setting": name, "kills": kills, "problem": problem})
        deaths = "; ".join(" ".join(map(str, kill)) for kill in kills)
        print(f"{case:4} {name:7} {deaths:60} {problem or 'equal'}", flush=True)
        if not problem:
            shutil.rmtree(folder, ignore_errors=True)
    return rows, broken


# Two processes


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def start_pair(folder: Path, name: str, log: Path) -> list[int]:
    """Train in two forks of this process; returns their numbers."""
    common = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    ranks, resume = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(2)], folder.exists()
    return [fork(log, both, folder, name, resume, environment={**common, **rank}) for rank in ranks]


def wait_for(pids: list[int], code: int, log: Path) -> None:
    """Raise AssertionError unless all end with this exit code."""
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    assert codes == [code] * len(pids), f"exit codes {codes}: {log.read_text()[-3000:]}"


def wait_for_line(folder: Path, line: int, running: Callable[[], bool], log: Path) -> None:
    """Return when the log of the run has so many lines. Raises AssertionError if it never does."""
    written, began = folder / "metrics.jsonl", time.monotonic()
    while not written.exists() or written.read_bytes().count(b"\n") < line:
        assert running() and time.monotonic() < began + 200, f"did not start: {log.read_text()[-2000:]}"
        time.sleep(0.002)


def asked_to_stop(scratch: Path, case: int, seed: int) -> dict:
    """Send SIGTERM to one of two processes, see both stop at one step with a checkpoint, go on, compare."""
    chance = random.Random(f"{seed} stop {case}")
    line, folder, log = chance.randint(1, 40), scratch / f"stop_{case}", scratch / f"stop_{case}.log"
    row = {"case": case, "asked": case % 2, "after_line": line, "problem": ""}
    pids = start_pair(folder, "vit", log)
    try:
        wait_for_line(folder, line, lambda: os.waitpid(pids[0], os.WNOHANG) == (0, 0), log)
        os.kill(pids[case % 2], signal.SIGTERM)
        wait_for(pids, 143, log)
        said = re.findall(r"stopped at step (\d+) by SIGTERM; --resume goes on", log.read_text())
        row["stopped_at"] = [int(step) for step in said]
        assert len(said) == 1 and (folder / f"state/step_{int(said[0]):08d}.pt").exists(), said
        wait_for(start_pair(folder, "vit", log), 0, log)
        row["problem"] = ", ".join(differences(content(scratch / "two_whole"), content(folder)))
    except (AssertionError, OSError) as error:
        row["problem"] = str(error)
    print(f"two processes, {case % 2} asked to stop after line {line}: {row}", flush=True)
    return row


def both(folder: Path, name: str, resume: bool) -> None:
    """Train in one of two processes."""
    torch.set_num_threads(1)
    train(config(folder, name, resume=resume, **LONG), pairs=tiny_pairs())


LONG = {"max_steps": 60, "checkpoint_every": 10, "log_every": 1}  # two processes take long to start
WORKER = "SOAK_KILLS_FOLDER"  # set for what torchrun starts


def worker() -> None:
    """What torchrun starts: says its number in a file, then is the command line's `main` on the tiny pairs."""
    import tyro

    from minclip import train as module

    folder = Path(os.environ[WORKER])
    (folder.parent / f"{folder.name}.{os.environ['RANK']}.pid").write_text(str(os.getpid()))
    torch.set_num_threads(1)
    given, original = config(folder, "vit", resume=folder.exists(), **LONG), module.train
    tyro.cli = lambda *_, **__: given
    module.train = lambda settings: original(settings, pairs=tiny_pairs())
    module.main()


def under_torchrun(scratch: Path, case: int, seed: int) -> dict:
    """Kill one of two processes under torchrun, see the other end, go on, compare."""
    chance = random.Random(f"{seed} torchrun {case}")
    victim, step = case % 2, chance.randint(1, 40)
    folder, log = scratch / f"two_{case}", scratch / f"two_{case}.log"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", __file__]
    environment = {**os.environ, WORKER: str(folder), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment["PYTHONPATH"] = str(ROOT)
    row = {"case": case, "victim": victim, "after_line": step, "problem": ""}
    with open(log, "w") as words:
        agent = subprocess.Popen(launcher, cwd=ROOT, env=environment, stdout=words, stderr=subprocess.STDOUT)
    try:
        wait_for_line(folder, step, lambda: agent.poll() is None, log)
        time.sleep(chance.uniform(0, 0.02))
        pids = [int((scratch / f"two_{case}.{rank}.pid").read_text()) for rank in range(2)]
        os.kill(pids[victim], signal.SIGKILL)
        killed = time.monotonic()
        code = agent.wait(timeout=PATIENCE)
        row["seconds_until_all_ended"] = round(time.monotonic() - killed, 2)
        assert code != 0, "the run ended before it could be killed"
        assert not any(alive(pid) for pid in pids), "a process is still there"
        said = re.findall(r"error: another process of this run has ended; [^(\n]*", log.read_text())
        assert said, f"no sentence: {log.read_text()[-3000:]}"
        row["said"] = said[0].replace(str(scratch), "...").strip()
        no_more_than(folder, 3)
        wait_for(start_pair(folder, "vit", log), 0, log)
        row["problem"] = ", ".join(differences(content(scratch / "two_whole"), content(folder)))
    except (AssertionError, subprocess.TimeoutExpired) as error:
        row["problem"] = str(error)
    finally:
        agent.kill() if agent.poll() is None else None
    print(f"two processes, {victim} killed after line {step}: {row}", flush=True)
    return row


def alive(pid: int) -> bool:
    """Whether there is a process of that number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def main() -> int:
    """Run the cases, print a line for each, keep the counts; 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=30, help="cases of one process")
    parser.add_argument("--torchrun", type=int, default=0, help="cases of two processes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="JSON with the cases and their counts")
    args = parser.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        rows, broken = one_process(scratch, args.count, args.seed) if args.count else ([], 0)
        two = []
        if args.torchrun:
            wait_for(start_pair(scratch / "two_whole", "vit", scratch / "log"), 0, scratch / "log")
            two = [
                way(scratch, case, args.seed)
                for way in (under_torchrun, asked_to_stop)
                for case in range(args.torchrun)
            ]
            broken += sum(bool(row["problem"]) for row in two)
    kinds = Counter(" ".join([kill[0], *kill[2:]]) for row in rows for kill in row["kills"])
    summary = {"cases": len(rows), "kills": sum(kinds.values()), "kinds": dict(sorted(kinds.items()))}
    summary |= {"two_processes": len(two), "broken": broken, "seed": args.seed}
    summary |= {"seconds": round(time.perf_counter() - began), "torch": torch.__version__}
    print(json.dumps(summary))
    if args.output:
        command = " ".join(["python", "soak/kills.py", *(arg for arg in sys.argv[1:])])
        device = f"cpu ({platform.machine()}, 1 thread a process)"
        write_json(args.output, {"command": command, "device": device, **summary, "one": rows, "two": two})
    return int(broken > 0)


if __name__ == "__main__":
    if WORKER in os.environ:
        worker()
    else:
        sys.exit(main())
