"""The same training on one thread and on two: how far apart are the losses?

    python soak/threads.py --steps 20 --output results/soak_threads.json    # some two minutes
    python soak/threads.py --steps 8                                        # the quick form

Each number of threads is a process of its own, started with OMP_NUM_THREADS, which trains a ViT and a ResNet from the
same seed in float64 and in float32, each twice. Threads change the order of sums, and so the last bits.

Promises: the same number of threads twice gives the same losses and weights, bit for bit; one and two differ in no
loss by more than BOUND of its size. What rounding adds grows with the steps: the bounds are for up to 20.
"""

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BOUND = {"fp64": 1e-10, "fp32": 1e-3}  # relative difference of a loss
THREADS = (1, 2)


def curves(steps: int) -> dict:
    """In a process with its number of threads: model and precision -> the losses of two runs, and their weights."""
    import torch

    from minclip.clip import CLIPConfig
    from minclip.data import Pairs
    from minclip.train import TrainConfig, train

    images = torch.randint(0, 256, (256, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    names = [f"{a} {b}" for a in "abcdefghijklmnop" for b in ("cat dog boat tree house star fish cup " * 2).split()]
    pairs = Pairs(images, [[name] for name in names], torch.arange(256), names, torch.arange(256))
    text = {"context_length": 12, "vocab_size": 300, "image_size": 16, "text_width": 32, "text_layers": 1}
    vit = CLIPConfig("vit", image_width=64, image_layers=(1,), **text)
    models = {"vit": vit, "resnet": replace(vit, image_tower="resnet", image_width=16, image_layers=(1, 1))}
    found = {"threads": torch.get_num_threads()}
    for name, shape in models.items():
        for precision in BOUND:
            runs = []
            for _ in range(2):
                config = TrainConfig(
                    model=shape, batch_size=128, max_steps=steps, warmup_steps=2, output_dir="", log_every=1,
                    precision=precision, progress=False,
                )  # fmt: skip
                result = train(config, pairs=pairs)
                weights = b"".join(tensor.numpy().tobytes() for tensor in result.model.state_dict().values())
                losses = [line["loss"] for line in result.history]
                runs.append({"losses": losses, "weights": hashlib.sha256(weights).hexdigest()})
            found[f"{name} {precision}"] = runs
    return found


def measure(threads: int, steps: int) -> dict:
    """`curves` in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    command = [sys.executable, __file__, "--worker", "--steps", str(steps)]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=900)
    if done.returncode:
        raise RuntimeError(f"the process with {threads} threads failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def compare(found: list[dict]) -> dict:
    """The largest relative difference of a loss between the numbers of threads, and what is not as promised."""
    result, broken = {}, []
    for name in (key for key in found[0] if key != "threads"):
        precision = name.split()[1]
        for one in found:
            if one[name][0] != one[name][1]:
                broken.append(f"{name}: {one['threads']} threads twice are not the same, bit for bit")
        curve, other = (one[name][0]["losses"] for one in found)
        worst = max(abs(a - b) / abs(a) for a, b in zip(curve, other, strict=True))
        equal = len({one[name][0]["weights"] for one in found}) == 1
        result[name] = {"difference": worst, "bound": BOUND[precision], "weights_equal": equal}
        result[name] |= {"loss_first": curve[0], "loss_last": curve[-1]}
        if not worst <= BOUND[precision]:
            broken.append(f"{name}: losses differ by {worst:.1e}, more than {BOUND[precision]:g}")
    if [one["threads"] for one in found] != list(THREADS):
        broken.append(f"the processes had {[one['threads'] for one in found]} threads, not {list(THREADS)}")
    return {"curves": result, "broken": broken, "kept": not broken}


def main() -> int:
    """Run, print a line a curve, write them; 1 when a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        print(json.dumps(curves(args.steps)))
        return 0
    import torch

    from minclip.checkpoint import write_json

    began = time.perf_counter()
    result = compare([measure(threads, args.steps) for threads in THREADS])
    for name, row in result["curves"].items():
        same = "equal" if row["weights_equal"] else "not equal"
        print(
            f"{name:12} largest difference of a loss {row['difference']:.1e} (bound {row['bound']:g}), weights {same}"
        )
    print("\n".join(result["broken"]) or "the same number of threads twice: the same, bit for bit")
    about = {"command": f"python soak/threads.py --steps {args.steps}", "steps": args.steps}
    about |= {"device": f"cpu ({platform.machine()})", "torch": torch.__version__}
    about["minutes"] = round((time.perf_counter() - began) / 60, 2)
    if args.output:
        write_json(args.output, {**about, **result})
    return 0 if result["kept"] else 1


if __name__ == "__main__":
    sys.exit(main())
