r"""Train a CLIP or a SigLIP.

    accelerate launch minclip/train.py --output_dir runs/first          # one or several GPUs, or the CPU
    python -m minclip.train --loss sigmoid --output_dir runs/sigmoid    # one process
    torchrun --nproc_per_node 2 minclip/train.py --norm group           # two CPU processes

The defaults are the demo: the embedded emoji, a small ResNet, two minutes and a half on two CPU cores.
`--help` lists everything; `--resume` goes on with a run that was stopped, bit for bit on a CPU.

SIGTERM and Ctrl-C end a run that has an output_dir after the step (several processes: after the next line of the
log) with a checkpoint; its exit code is then 143 or 130. It is 1, with one sentence, for whatever else ends it.

Fewer tokens first, then all of them, from the checkpoint and at a lower rate (CLIPA sections 3 and 4):

    python -m minclip.train --image_tower vit --image_size 16 --text_tokens 8 --output_dir runs/few
    python -m minclip.train --image_tower vit --image_size 32 --early_image_size 0 --init_from runs/few \
        --max_steps 100 --lr 2e-4 --muon_lr 2e-3 --output_dir runs/tuned
"""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from minclip import faults, runs
from minclip.batches import BatchConfig, check_batches, make_batch
from minclip.checkpoint import load_state, save_state
from minclip.chunked_loss import chunked_sigmoid_loss, chunked_softmax_loss
from minclip.clip import CLIP, LOSSES, MAX_LOGIT_SCALE, CLIPConfig, build_clip, start_from
from minclip.data import Pairs, step_generator
from minclip.grad_cache import cached_step
from minclip.optimizer import make_optimizer, set_learning_rate
from minclip.precision import PRECISIONS, resolve_precision
from minclip.report import evaluate, table, write_report
from minclip.sharding import gather_model, gather_state, own, shard
from minclip.sigmoid_loss import sigmoid_loss, uninformed_sigmoid_loss
from minclip.softmax_loss import softmax_loss, uninformed_softmax_loss
from minclip.sources import skip_report
from minclip.streaming import Feed
from minclip.tokenizer import Tokenizer
from minclip.towers import Block


@dataclass
class TrainConfig(BatchConfig):
    """One run. `model` holds the shape of the two towers; its fields are flags like the others."""

    # where the run is kept; empty keeps nothing
    output_dir: str = "runs/latest"
    # folder of a finished run to start from: its weights and its tokenizer; empty for fresh ones
    init_from: str = ""
    # pairs that go through the towers at once, in each process (loss and gradient stay the batch's); 0 for all
    micro_batch_size: int = 0
    # keep only what goes into a transformer block and compute the rest again in backward: less memory, more time
    gradient_checkpointing: bool = False
    # share out weights, gradients and optimizer state among the processes: for towers too large for one device
    fsdp: bool = False
    # highest learning rate, reached after the warm-up
    lr: float = 2e-3
    # steps of linear warm-up, then the rate falls to zero along a cosine
    warmup_steps: int = 50
    # Muon's highest learning rate, for linear and convolutional layers; 0 leaves them to AdamW, as the papers do
    muon_lr: float = 0.02
    # decay of the weights, times lr a step; gains, biases and the loss's scalars have none
    weight_decay: float = 1.0
    # AdamW's second beta (CLIP 0.98 for ViT, SigLIP and CLIPA 0.95)
    beta2: float = 0.98
    # learning rate of logit_scale and logit_bias, as a multiple of lr: Adam moves a scalar by about lr a step
    scalar_lr_factor: float = 10.0
    # fp32, bf16 (autocast), fp64, or auto: whichever of fp32 and bf16 is faster here, by a short measurement
    precision: str = "auto"
    # go on with the run in output_dir
    resume: bool = False
    # replace the run in output_dir
    overwrite: bool = False
    # steps from one line of metrics.jsonl to the next
    log_every: int = 5
    # steps from one checkpoint to the next
    checkpoint_every: int = 200
    # tensorboard, or any other tracker that accelerate knows; empty for none
    tracker: str = ""
    # show a progress bar
    progress: bool = True


@dataclass
class TrainResult:
    """What a run leaves: the model in evaluation mode, its tokenizer, metrics.json's content, the log's lines."""

    model: CLIP
    tokenizer: Tokenizer
    metrics: dict
    history: list[dict]


def train(
    config: TrainConfig, on_step: Callable[[int, CLIP], None] | None = None, pairs: Pairs | None = None
) -> TrainResult:
    """Train as `config` says; returns the model and its evaluation, and keeps both in `config.output_dir`.

    `on_step(step, model)` is called after every step, 1 to max_steps. `pairs` replaces the dataset that
    `config.data` names; the result is then not evaluated. Raises ValueError, FileNotFoundError or
    FileExistsError with one sentence that names what is wrong before anything is written, FloatingPointError
    at the first features, loss, gradients or weights that are not finite (the last checkpoint is kept), DiskError
    when a file cannot be written, and SystemExit after a signal.
    """
    from accelerate import Accelerator, PartialState
    from accelerate.state import AcceleratorState
    from accelerate.utils import broadcast_object_list, gather_object
    from tqdm.auto import tqdm

    check_config(config)
    output = Path(config.output_dir) if config.output_dir else None
    runs.check_output_dir(output, asdict(config), asdict(TrainConfig()))
    data = config.data if pairs is None else None
    cpu = not torch.accelerator.is_available()  # said to accelerate, or several CPU processes would not find each other
    world = PartialState(cpu=cpu)
    feed = Feed(config, pairs, world.process_index, world.num_processes)

    precision = runs.read_precision(output) if config.resume else None
    # Every process computes as the first one measured.
    (precision,) = broadcast_object_list([precision or resolve_precision(config.precision)])
    tracking = {"log_with": config.tracker or None, "project_dir": config.output_dir or None}
    AcceleratorState._reset_state()  # or a second run in this process could not have another precision
    accelerator = Accelerator(cpu=cpu, mixed_precision="bf16" if precision == "bf16" else "no", **tracking)
    n, rank, device = accelerator.num_processes, accelerator.process_index, accelerator.device
    if config.batch_size % n:
        raise ValueError(f"batch_size {config.batch_size} is not a multiple of the {n} processes; choose one that is")
    local = slice(rank * config.batch_size // n, (rank + 1) * config.batch_size // n)  # this process's part of a batch

    state = load_state(output / "state") if output and config.resume else None
    pairs = feed.pairs_at(state["step"] if state else 0)
    start = None
    if state:
        tokenizer = Tokenizer.load(output / "tokenizer.json")
    elif config.init_from:
        start, tokenizer = runs.load_start(config.init_from, config.model)
    else:
        # The first process's: of a stream, each sees other captions.
        (tokenizer,) = broadcast_object_list([train_tokenizer(pairs, config.model)])
    feed.at(state["step"] if state else 0, tokenizer)  # raises ValueError for too large a batch
    torch.manual_seed(config.seed)
    model = build_clip(replace(config.model, vocab_size=tokenizer.vocab_size))
    dtype = torch.float64 if precision == "fp64" else torch.float32
    model.to(device=device, dtype=dtype, memory_format=torch.channels_last)
    taken = start_from(model, start) if start else ""
    del start
    for block in (m for m in model.modules() if isinstance(m, Block) and config.gradient_checkpointing):
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)  # (Chen et al. 2016, arXiv 1604.06174)
    how = (config.lr, config.weight_decay, config.beta2, config.scalar_lr_factor, config.muon_lr)
    optimizer = make_optimizer(model, *how)
    first, seconds, history = 0, 0.0, []
    if state:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first, seconds = state["step"], state["seconds"]
    log = None
    if accelerator.is_main_process and output:
        info = {"num_processes": n, "device": runs.device_name(device), "precision": precision}
        history = runs.open_run(output, asdict(config), model, tokenizer, first, info)
        log = output / "metrics.jsonl"
    if config.tracker:
        accelerator.init_trackers("minclip")
    sharded = config.fsdp and n > 1
    wrapped = accelerator.prepare_model(model, evaluation_mode=sharded)  # so: autocast, no DistributedDataParallel
    wrapped = (shard(wrapped, optimizer) if sharded else wrapped).train()

    features, pending, asked = [], [], False  # pending: what steps computed, not looked at yet: that makes a GPU wait
    loss_fn = faults.watched(choose_loss(config.model.loss, config.batch_size, n), features)
    uninformed = UNINFORMED[config.model.loss](config.batch_size)
    n_parameters = sum(p.numel() for p in model.parameters())
    accelerator.print(f"{n_parameters:,} parameters, {len(pairs):,} pairs, {precision} on {n} x {device.type}")
    accelerator.print(f"loss of an uninformed model: {uninformed:.3f} (a loss that stays there learns nothing)")
    if taken:
        accelerator.print(f"from {config.init_from}: {taken}")
    quiet = not (config.progress and accelerator.is_main_process)
    bar = tqdm(total=config.max_steps, initial=first, disable=quiet, smoothing=0.05, unit="step")
    began = time.perf_counter() - seconds
    with faults.noted_signals(output is not None, n == 1) as signals:
        for step in range(first, config.max_steps):
            lr = set_learning_rate(optimizer, config.lr, step, config.warmup_steps, config.max_steps)
            pairs, tokens, order = feed.at(step, tokenizer)
            images, *others = make_batch(pairs, tokens, order, config, step, local, device)
            torch.manual_seed(draw_seed(config.seed, step, rank))  # dropout, too, depends on the step alone
            batch, done = (images.to(dtype), *others), step + 1
            try:
                loss = cached_step(wrapped, batch, loss_fn, config.micro_batch_size or len(images))
            except ValueError as error:  # the chunked loss's, on all processes
                raise faults.diverged(str(error), done, order, output) from error
            norm = torch.nn.utils.get_total_norm([own(p.grad) for p in model.parameters() if p.grad is not None])
            pending.append(torch.stack([features.pop().to(loss.dtype), loss, norm.to(loss.dtype)]))  # faults.SIGNS
            optimizer.step()
            optimizer.zero_grad()
            model.clamp_logit_scale()

            last = done == config.max_steps
            log_now = done % config.log_every == 0 or last
            save_now = output is not None and done % config.checkpoint_every == 0 and not last
            if log_now or save_now or (signals and n == 1):
                pending.append(torch.full_like(pending[0], len(signals)))  # a signal to one process stops all of them
                *signs, noted = accelerator.reduce(torch.stack(pending), "mean").tolist()  # [k + 1, 3]
                faults.check_finite(signs, done - len(signs) + 1, order, output)
                pending, seconds, asked = [], time.perf_counter() - began, noted[0] > 0 and not last
            if save_now or asked or last:
                faults.check_weights(model, done, order, output)
            if log_now:
                speed = done * config.batch_size / seconds
                line = {"step": done, "loss": signs[-1][1], "lr": lr, "logit_scale": model.logit_scale.exp().item()}
                if config.model.loss == "softmax" and model.logit_scale >= MAX_LOGIT_SCALE:
                    line["logit_scale_at_limit"] = True
                line |= {} if model.logit_bias is None else {"logit_bias": model.logit_bias.item()}
                line |= {"images_per_second": round(speed, 1), "seconds": round(seconds, 2)}
                history.append(line)
                runs.append_line(log, line)
                accelerator.log(line, step=done)
                bar.set_postfix_str(f"loss {line['loss']:.3f}, {speed:.0f} images/s", refresh=False)
            if save_now or asked:
                state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "seconds": seconds}
                state = gather_state(state, accelerator.is_main_process)
                if accelerator.is_main_process:
                    save_state(output / "state", done, state)
            bar.update()
            if on_step:
                on_step(done, model)
            if asked:
                accelerator.wait_for_everyone()  # until the checkpoint is written
                name = signal.Signals(signals[0] if signals else signal.SIGTERM)
                accelerator.print(f"\nstopped at step {done} by {name.name}; --resume goes on")
                raise SystemExit(128 + name)
    bar.close()
    model = (gather_model(model) if sharded else model).eval()
    metrics = {"max_steps": config.max_steps, "train_seconds": round(seconds, 2), "images_per_second": round(speed, 1)}
    metrics |= {"loss_first": history[0]["loss"], "loss_last": history[-1]["loss"], "loss_uninformed": uninformed}
    metrics |= {"seed": config.seed, "device": runs.device_name(device), "num_processes": n, "precision": precision}
    metrics |= {"n_parameters": n_parameters, "skipped": list(dict.fromkeys(gather_object(feed.skipped)))}
    if accelerator.is_main_process:
        if output:
            model.save_pretrained(output)  # before anything that a missing or broken test split could stop
        metrics["zero_shot"] = evaluate(model, tokenizer, data, config.reading) if data else {}
        if output:
            write_report(output, model, tokenizer, data, history, metrics, config.reading)
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return TrainResult(model, tokenizer, metrics, history)


UNINFORMED = {"softmax": uninformed_softmax_loss, "sigmoid": uninformed_sigmoid_loss}


def check_config(config: TrainConfig) -> None:
    """Raise ValueError for a setting that no run can have."""
    if config.model.loss not in LOSSES:
        raise ValueError(f"unknown loss {config.model.loss!r}; choose from {', '.join(LOSSES)}")
    if config.micro_batch_size < 0:
        raise ValueError(f"micro_batch_size is {config.micro_batch_size}; choose 1 or more, or 0 for the whole batch")
    folders = {Path(folder).resolve() for folder in (config.init_from, config.output_dir)}
    if config.init_from and config.output_dir and len(folders) == 1:
        raise ValueError(f"init_from and output_dir are both {config.output_dir}; choose another --output_dir")
    check_batches(config)
    if config.precision not in PRECISIONS:
        raise ValueError(f"unknown precision {config.precision!r}; choose from {', '.join(PRECISIONS)}")


def choose_loss(kind: str, batch_size: int, num_processes: int) -> Callable[..., Tensor]:
    """The textbook loss, or the chunked one where it pays: on several processes, and where B x B grows large."""
    if num_processes > 1 or batch_size >= 2048:
        return chunked_softmax_loss if kind == "softmax" else chunked_sigmoid_loss
    return softmax_loss if kind == "softmax" else sigmoid_loss


def train_tokenizer(pairs: Pairs, model: CLIPConfig) -> Tokenizer:
    """A tokenizer for the training captions; the same on every process."""
    return Tokenizer.train(sorted({text for texts in pairs.captions for text in texts}), model.vocab_size)


def draw_seed(*key: int) -> int:
    """A seed for torch's global generator that depends on all of `key`."""
    return int(torch.randint(2**62, (1,), generator=step_generator(*key, 4)))


def main() -> None:
    """The command line: every field of TrainConfig is a flag."""
    import tyro

    if {"MASTER_ADDR", "ACCELERATE_MIXED_PRECISION"} <= set(os.environ) and "WORLD_SIZE" not in os.environ:
        # accelerate's CPU launcher, asked for several processes, starts one and says nothing
        raise SystemExit("on a CPU, accelerate starts one process; use: torchrun --nproc_per_node 2 minclip/train.py")
    config = tyro.cli(TrainConfig, config=(tyro.conf.OmitArgPrefixes,), use_underscores=True)
    try:
        result = train(config)
        if result.metrics.get("zero_shot"):
            print(f"\nzero-shot accuracy after {result.metrics['train_seconds']:.0f} s\n\n{table(result.metrics)}")
        if result.metrics["skipped"] and config.reading.streaming:
            print(f"\n{skip_report(result.metrics['skipped'])}")
        if config.output_dir and "zero_shot" in result.metrics:  # the main process alone speaks
            print(f"\nsee {config.output_dir}/samples.png, curves.png and metrics.json")
    except (ValueError, OSError, FloatingPointError) as error:
        raise SystemExit(f"error: {error}") from error
    except RuntimeError as error:
        raise SystemExit(f"error: {faults.lost_another(error, config.output_dir)}") from error


if __name__ == "__main__":
    main()
