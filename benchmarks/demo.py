"""The demo, run for several seeds: final accuracy, and accuracy against seconds of training.

    python benchmarks/demo.py --seeds 0 1 2 --output results/demo.json

Weights are put aside every 100 steps and evaluated after the training, so the seconds are those of training
alone. Ten minutes on two CPU cores.
"""

import argparse
import sys
from copy import deepcopy
from pathlib import Path
from statistics import mean

import torch

from minclip.checkpoint import write_json
from minclip.report import evaluate
from minclip.train import TrainConfig, train

EVERY = 100


def run(seed: int, **changes) -> dict:
    """Train the demo with one seed (and changed settings); returns its log, its metrics and its accuracy on the way."""
    snapshots = {}

    def on_step(step: int, model: torch.nn.Module) -> None:
        if step % EVERY == 0 or step == TrainConfig.max_steps:
            snapshots[step] = deepcopy(model.state_dict())

    result = train(TrainConfig(seed=seed, output_dir="", progress=False, **changes), on_step=on_step)
    seconds = {line["step"]: line["seconds"] for line in result.history}
    evaluations = []
    for step, weights in snapshots.items():
        result.model.load_state_dict(weights)
        scores = evaluate(result.model, result.tokenizer, "emoji")
        accuracy = {split: round(score["top1"], 4) for split, score in scores.items()}
        evaluations.append({"step": step, "seconds": seconds[step], **accuracy})
        print(f"seed {seed}, step {step}, {seconds[step]:.0f} s: {accuracy}", flush=True)
    history = [{key: line[key] for key in ("step", "loss", "logit_scale", "seconds")} for line in result.history]
    return {"seed": seed, "metrics": result.metrics, "evaluations": evaluations, "history": history}


def main() -> None:
    """Run all seeds, print means, write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output", type=Path, default=Path("results/demo.json"))
    parser.add_argument("--muon_lr", type=float, default=TrainConfig.muon_lr, help="0 for the papers' AdamW")
    args = parser.parse_args()
    runs = [run(seed, muon_lr=args.muon_lr) for seed in args.seeds]
    average = {
        split: {
            key: round(mean(r["metrics"]["zero_shot"][split][key] for r in runs), 4) for key in scores if key[0] == "t"
        }
        for split, scores in runs[0]["metrics"]["zero_shot"].items()
    }
    average["train_seconds"] = round(mean(r["metrics"]["train_seconds"] for r in runs), 1)
    command = "python benchmarks/demo.py " + " ".join(sys.argv[1:])
    args.output.parent.mkdir(exist_ok=True)
    about = {"command": command, "device": runs[0]["metrics"]["device"], "torch": torch.__version__}
    write_json(args.output, {**about, "seeds": args.seeds, "mean": average, "runs": runs})
    for split, scores in average.items():
        print(split, scores)


if __name__ == "__main__":
    main()
