"""Damage the files of a model at random and load them: each is refused with its name, or loads and works.

    python soak/weights.py --count 2000 --seed 0 --output results/soak_weights.json    # some two minutes
    python soak/weights.py --count 100                                                 # the quick form

A case takes the files of a small ViT or ResNet, damages one of them (config.json, model.safetensors, tokenizer.json)
in one to three places, and loads it: bits are flipped, parts cut, doubled, put in or overwritten; in JSON, which the
head of a safetensors file is too, values become another type, huge, negative or deep, and keys go or get other names.

Promises: nothing but a ValueError or FileNotFoundError that names the file; what loads can encode a picture or a
caption; no case takes more than SECONDS, nor the process more than MEMORY beyond what it had before the first case.
The cases run in a process of their own, so that one that kills it is counted, too, and named by its number.
"""

import argparse
import copy
import json
import multiprocessing
import platform
import random
import re
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch

from minclip.checkpoint import write_json
from minclip.clip import CLIP, CLIPConfig, build_clip
from minclip.tokenizer import Tokenizer

SECONDS, MEMORY = 5.0, 64 * 2**20
FILES = ("config.json", "model.safetensors", "tokenizer.json")
TEXT = {"context_length": 8, "text_width": 16, "text_layers": 1, "heads": 2, "embed_dim": 8}
MODELS = {
    "vit": CLIPConfig("vit", image_size=16, image_width=16, image_layers=(1,), image_positions="sincos", **TEXT),
    "resnet": CLIPConfig("resnet", "sigmoid", image_size=16, image_width=8, image_layers=(1, 1), **TEXT),
}
CAPTIONS = ["a small red cat", "two dogs on a boat", "the old house by the tree", "fish and cups and stars"]
ODD = (
    None, True, False, 0, -1, 1, 2, 3, 2**31, 2**63, 2**64, 10**12, 10**30, -(2**63), 0.5, 1e308, float("inf"),
    float("nan"), "", "x", "32", "\0", "\ud800", [], {}, [1] * 1000, [[]], {"a": 1}, "../../etc/passwd",
)  # fmt: skip


def make_originals(folder: Path) -> None:
    """The files that the cases damage: one folder a model."""
    tokenizer = Tokenizer.train(CAPTIONS, 300)
    for name, config in MODELS.items():
        torch.manual_seed(0)
        config.vocab_size = tokenizer.vocab_size
        build_clip(config).save_pretrained(folder / name)
        tokenizer.save(folder / name / "tokenizer.json")


def damage_bytes(data: bytes, chance: random.Random) -> tuple[str, bytes]:
    """Damage that knows nothing of the format: its name, and the data."""
    kind = chance.choice(("flip", "cut", "delete", "insert", "double", "zero", "random"))
    # half of the time near the beginning, where the format is
    limit = len(data) if chance.random() < 0.5 else min(len(data), 64)
    at = chance.randrange(limit + 1)
    end = min(len(data), at + int(2 ** chance.uniform(0, 12)))
    middle = {
        "flip": bytes(byte ^ (1 << chance.randrange(8)) for byte in data[at : at + 1]) + data[at + 1 : end],
        "cut": b"",
        "delete": b"",
        "insert": chance.randbytes(end - at) + data[at:end],
        "double": data[at:end] * 2,
        "zero": bytes(end - at),
        "random": chance.randbytes(end - at),
    }[kind]
    return kind, data[:at] + middle + (b"" if kind == "cut" else data[end:])


def damage_json(content: object, chance: random.Random) -> tuple[str, str]:
    """Damage to one value of a JSON document: its name, and the document's text."""
    content, places = copy.deepcopy(content), []

    def visit(value: object) -> None:
        keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
        for key in keys:
            places.append((value, key))
        for key in list(keys)[:50]:  # some of a long vocabulary are enough
            visit(value[key])

    visit(content)
    few = [place for place in places if len(place[0]) < 50]  # the settings, not the vocabulary, half of the time
    owner, key = chance.choice(few if few and chance.random() < 0.5 else places)
    kind = chance.choice(("value", "value", "nudge", "nudge", "remove", "rename", "deep", "list", "swap"))
    if kind == "value":
        owner[key] = chance.choice(ODD)
    elif kind == "nudge" and isinstance(owner[key], (int, float)):
        owner[key] = chance.choice((owner[key] + 1, owner[key] * 2, owner[key] - 1, owner[key] / 2, -owner[key]))
    elif kind == "remove":
        del owner[key]
    elif kind == "rename" and isinstance(owner, dict):
        owner[chance.choice(("x", "", key * 2, key.upper(), "__class__"))] = owner.pop(key)
    elif kind == "list":
        owner[key] = [owner[key]] * chance.choice((1, 2, 10_000))
    elif kind == "swap":
        other, place = chance.choice(places)
        owner[key], other[place] = copy.deepcopy(other[place]), copy.deepcopy(owner[key])
    text = json.dumps(content)
    if kind == "deep":
        depth = chance.choice((50, 200, 100_000))
        text = text.replace(json.dumps(owner[key]), "[" * depth + "]" * depth, 1)
    return kind, text


def damage(name: str, data: bytes, chance: random.Random) -> tuple[str, bytes]:
    """One to three damages: their names, and the file's new content."""
    kinds = []
    if chance.random() < 0.6:
        length = int.from_bytes(data[:8], "little") if name == "model.safetensors" else len(data)
        head, rest = (data[8 : 8 + length], data[8 + length :]) if name == "model.safetensors" else (data, b"")
        kind, text = damage_json(json.loads(head), chance)
        head = text.encode("utf-8", "surrogatepass")
        data = len(head).to_bytes(8, "little") + head + rest if name == "model.safetensors" else head
        kinds.append(kind)
    for _ in range(chance.choice((0, 0, 0, 1, 2) if kinds else (1, 1, 2))):
        kind, data = damage_bytes(data, chance)
        kinds.append(kind)
    return "+".join(kinds), data


def load_and_use(name: str, folder: Path) -> object:
    """What the file says, in a form that can be compared. It is used once."""
    if name == "tokenizer.json":
        tokenizer = Tokenizer.load(folder / name)
        ids = tokenizer([*CAPTIONS, "", "\0 \ud800 é 日本"], 8)
        if ids.max() >= tokenizer.vocab_size:
            raise AssertionError(f"an id of {ids.max()} of {tokenizer.vocab_size}")
        return json.loads(tokenizer.bpe.to_str())
    model = CLIP.from_pretrained(folder)
    side = model.config.image_size
    with torch.no_grad():
        model.encode_image(torch.zeros(1, 3, side, side, dtype=model.logit_scale.dtype))
        model.encode_text(torch.tensor([[1, 5, 2]]).clamp(max=model.config.vocab_size - 1))
    return model.config, {key: value.numpy().tobytes() for key, value in model.state_dict().items()}


def run_case(originals: Path, scratch: Path, seed: int, case: int, wholes: dict) -> dict:
    """Damage, load, judge."""
    chance = random.Random(f"{seed}/{case}")
    model, name = chance.choice(list(MODELS)), chance.choice(FILES)
    for file in FILES:
        (scratch / file).write_bytes((originals / model / file).read_bytes())
    kinds, data = damage(name, (originals / model / name).read_bytes(), chance)
    (scratch / name).write_bytes(data)
    began, message = time.perf_counter(), ""
    try:
        outcome = "loaded equal" if load_and_use(name, scratch) == wholes[model, name] else "loaded different"
    except (ValueError, FileNotFoundError) as error:
        message = str(error)
        outcome = "refused" if str(scratch / name) in message or str(scratch / FILES[1]) in message else "unclear"
    except BaseException as error:  # a panic of a library in Rust is no Exception
        outcome, message = "crash", f"{type(error).__name__}: {error}"
    seconds = time.perf_counter() - began
    return {"case": case, "file": name, "damage": kinds, "outcome": outcome, "seconds": seconds, "message": message}


def memory(what: str) -> int:
    """VmRSS (resident now) or VmHWM (the most so far) of this process, in bytes; 0 where there is no /proc."""
    status = Path("/proc/self/status")
    return 1024 * int(re.search(rf"{what}:\s+(\d+)", status.read_text())[1]) if status.exists() else 0


def work(originals: Path, scratch: Path, results: Path, seed: int, first: int, count: int) -> None:
    """In a process of its own: a line of `results` for each case."""
    torch.set_num_threads(1)
    scratch.mkdir(exist_ok=True)
    wholes = {(model, name): load_and_use(name, originals / model) for model in MODELS for name in FILES}
    before = memory("VmRSS")
    with open(results, "a", encoding="utf-8") as file:
        for case in range(first, count):
            row = run_case(originals, scratch, seed, case, wholes)
            row["extra_bytes"] = max(0, memory("VmHWM") - before)
            file.write(json.dumps(row) + "\n")
            file.flush()


def fuzz(count: int, seed: int, folder: Path) -> list[dict]:
    """All cases, each with its outcome; one that killed its process is a crash, and the next process goes on."""
    originals, results, rows = folder / "originals", folder / "results.jsonl", []
    make_originals(originals)
    results.touch()
    context = multiprocessing.get_context("spawn")
    while len(rows) < count:
        process = context.Process(target=work, args=(originals, folder / "case", results, seed, len(rows), count))
        process.start()
        process.join()
        rows = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
        if len(rows) < count:
            dead = {"case": len(rows), "file": "?", "damage": "?", "outcome": "crash", "seconds": 0.0, "extra_bytes": 0}
            rows.append({**dead, "message": f"the process died with exit code {process.exitcode}"})
            results.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return rows


def summary(rows: list[dict]) -> dict:
    """Counts by file and outcome, the worst second and byte, and what breaks a promise."""
    counts = {name: dict(Counter(row["outcome"] for row in rows if row["file"] == name)) for name in FILES}
    broken = [row for row in rows if row["outcome"] in ("crash", "unclear") or row["seconds"] > SECONDS]
    peak = max(row["extra_bytes"] for row in rows)
    slowest = max(rows, key=lambda row: row["seconds"])
    return {
        "cases": len(rows), "outcomes": dict(Counter(row["outcome"] for row in rows)), "by_file": counts,
        "slowest_seconds": round(slowest["seconds"], 3), "slowest_case": slowest["case"], "extra_bytes": peak,
        "kept": not broken and peak <= MEMORY, "broken": broken[:20],
    }  # fmt: skip


def main() -> int:
    """Run, print a line a case, write the counts; 1 when a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        rows = fuzz(args.count, args.seed, Path(folder))
        for row in rows:
            said = row["message"].replace(folder, "").replace("\n", " ")
            print(f"{row['case']:5} {row['file']:18} {row['damage']:24} {row['outcome']:16} {said[:120]}")
    command = f"python soak/weights.py --count {args.count} --seed {args.seed}"
    about = {"command": command, "seed": args.seed, "device": f"cpu ({platform.machine()})", "torch": torch.__version__}
    result = {**about, "minutes": round((time.perf_counter() - began) / 60, 2), **summary(rows)}
    print(json.dumps({key: value for key, value in result.items() if key != "broken"}, indent=2))
    if args.output:
        write_json(args.output, result)
    return 0 if result["kept"] else 1


if __name__ == "__main__":
    sys.exit(main())
