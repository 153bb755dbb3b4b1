"""A CLIP on CIFAR-10 through the documented flag, and its zero-shot accuracy on the test split.

    python benchmarks/cifar10.py ../shared/data/cifar10     # a folder of parquet as the hub has it; or: cifar10
    python benchmarks/cifar10.py FOLDER --max_steps 200     # other flags are train.py's

Runs `python -m minclip.train --data FOLDER --max_steps 1200 --output_dir runs/cifar10 --overwrite` (about five minutes
on two idle CPU cores) and writes results/cifar10.json. Captions name ten classes only, so pictures of a batch share
them; train.py says what that means for the loss.
"""

import json
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from minclip.checkpoint import write_json  # noqa: E402


def main() -> None:
    """Train, and keep what the run says of itself with the command that made it."""
    if len(sys.argv) < 2:
        raise SystemExit("say where CIFAR-10 is: a folder of parquet, or cifar10 for the hub")
    data, *more = sys.argv[1:]
    flags = ["--data", data, "--max_steps", "1200", "--output_dir", "runs/cifar10", "--overwrite", *more]
    subprocess.run([sys.executable, "-m", "minclip.train", *flags], cwd=ROOT, check=True)
    metrics = json.loads((ROOT / "runs/cifar10/metrics.json").read_text())
    command = shlex.join(["python", "-m", "minclip.train", *flags])
    write_json(ROOT / "results/cifar10.json", {"command": command, **metrics})


if __name__ == "__main__":
    main()
