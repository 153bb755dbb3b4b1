"""Many machines: activation checkpointing, sharded weights, other numbers of processes, accelerate's files, the page.

Run as a script, under torchrun, this file is one of the processes of its runs.
"""

import json
import os
import re
import socket
import subprocess
import sys
import weakref
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from conftest import THINGS, WORDS
from test_chunked_loss import launch
from torch.utils._python_dispatch import TorchDispatchMode

import minclip.train
from experiments import scaling
from experiments.recipes import RECIPES
from minclip.clip import CLIP, CLIPConfig, build_clip
from minclip.data import Pairs
from minclip.sharding import own
from minclip.towers import Block
from minclip.train import TrainConfig, train

ROOT = Path(__file__).resolve().parents[1]
TINY = CLIPConfig(
    image_tower="vit", image_size=16, image_width=32, image_layers=(2,), patch_size=8, context_length=11,
    vocab_size=301, text_width=32, text_layers=1, heads=2, embed_dim=18,
)  # fmt: skip  # 11, 301 and 18: what cannot be cut into equal parts
ADAMW = {"muon_lr": 0.0, "model": replace(TINY, image_pool="cls")}
MASKED = {
    "model": replace(TINY, loss="sigmoid", image_positions="sincos", dropout=0.1),
    **{"image_keep": 0.5, "text_tokens": 5, "text_masking": "random"},
}
RESNET = {"model": replace(TINY, image_tower="resnet", image_layers=(1, 1), image_width=16), "max_steps": 4}
SHARDED, CHECKPOINTED, RESUME = {"fsdp": True}, {"gradient_checkpointing": True}, {"resume": True}


def config(folder, **changes) -> TrainConfig:
    base = TrainConfig(
        model=TINY, output_dir=str(folder), batch_size=16, max_steps=6, warmup_steps=2, early_image_size=0,
        checkpoint_every=3, log_every=1, precision="fp64", progress=False,
    )  # fmt: skip
    return replace(base, **changes)


def pairs() -> Pairs:
    images = torch.randint(0, 256, (64, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    captions = [[f"a {word} {thing}"] for word in WORDS for thing in THINGS]
    return Pairs(images, captions, torch.arange(64), [caption for (caption,) in captions], torch.arange(64))


class Stop(Exception):
    pass


def run(folder, stop=0, **changes) -> dict:
    """Train, or stop after a step as a killed process would; returns what this process kept, by parameter."""
    kept = {}

    def on_step(done, model):
        kept.update({name: own(p).numel() for name, p in model.named_parameters()})
        if done == stop:
            raise Stop

    try:
        result = train(config(folder, **changes), on_step, pairs())
        assert not any(hasattr(p, "to_local") for p in result.model.parameters()), "what is returned is whole"
    except Stop:
        pass
    return kept


def losses(folder) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def difference(a, b) -> float:
    """Between two runs: the largest of any loss on the way and of any weight at the end."""
    curves = [abs(x - y) for x, y in zip(losses(a), losses(b), strict=True)]
    first, second = (CLIP.from_pretrained(folder).state_dict() for folder in (a, b))
    return max(*curves, *((first[key].double() - second[key].double()).abs().max().item() for key in first))


# Activation checkpointing


@pytest.mark.parametrize("changes", [{}, MASKED, {**MASKED, "micro_batch_size": 5}])
def test_activation_checkpointing_changes_nothing_that_is_computed(tmp_path, changes):
    """With dropout, which must draw the same twice, with patches left out, in micro-batches."""
    run(tmp_path / "plain", **changes)
    run(tmp_path / "again", **changes, **CHECKPOINTED)
    assert difference(tmp_path / "plain", tmp_path / "again") < 1e-10


class Alive(TorchDispatchMode):
    """The most bytes of tensors, made while this is on, that are alive at once."""

    def __init__(self):
        super().__init__()
        self.now, self.most, self.known = 0, 0, set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (list, tuple)) else [result]:
            if isinstance(tensor, torch.Tensor) and tensor.device.type == "cpu":
                self.see(tensor.untyped_storage())
        return result

    def see(self, storage):
        place, size = storage.data_ptr(), storage.nbytes()
        if place not in self.known:
            self.known.add(place)
            self.now += size
            self.most = max(self.most, self.now)
            weakref.finalize(storage, self.forget, place, size)

    def forget(self, place, size):
        self.known.discard(place)
        self.now -= size


def test_activation_checkpointing_needs_the_memory_that_the_page_says():
    """In float32, all that a step of training holds: what all blocks keep, or all inputs and one block."""
    model = CLIPConfig(
        "vit", image_size=32, image_width=128, image_layers=(6,), heads=2, patch_size=4, context_length=8,
        vocab_size=300, text_width=32, text_layers=1, embed_dim=16,
    )  # fmt: skip
    alive = {}
    for checkpointing in (True, False):
        with Alive() as memory:
            changes = {"precision": "fp32", "max_steps": 1, "batch_size": 64, "gradient_checkpointing": checkpointing}
            train(config("", model=model, **changes), pairs=pairs())
        alive[checkpointing] = memory.most
    whole, inputs = (64 * scaling.block_bytes(64, 128, 2, c, precision="fp32") for c in (False, True))
    assert alive[True] < alive[False] / 2
    assert alive[False] - alive[True] == pytest.approx(6 * whole - (6 * inputs + whole), rel=0.1)


def test_a_block_keeps_what_the_arithmetic_says():
    """To the byte, in float32: storages that autograd keeps and that are no weights."""
    for tokens, width, heads in ((50, 64, 4), (17, 128, 2)):
        block, kept = Block(width, heads), {}
        weights = {p.untyped_storage().data_ptr() for p in block.parameters()}

        def keep(tensor, kept=kept):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            out = block(torch.randn(3, tokens, width, requires_grad=True))
        found = sum(size for place, size in kept.items() if place not in weights)
        assert found == 3 * scaling.block_bytes(tokens, width, heads, precision="fp32") and out.requires_grad
    assert scaling.block_bytes(50, 64, 4) == 36 * 50 * 64 + 4 * 50 * 8  # bfloat16, by hand
    assert scaling.block_bytes(50, 64, 4, True) == 2 * 50 * 64


# Several processes


# What each number of processes runs, in this order: a folder and the settings. Of a run that stops, no files are
# compared but those of the run that goes on with it, under the same name.
RUNS = {
    2: [
        ("ddp", {}),
        ("fsdp", {**SHARDED, "micro_batch_size": 3}),
        ("ddp adamw", ADAMW),
        ("fsdp adamw", {**ADAMW, **SHARDED}),
        ("ddp masked", MASKED),
        ("ddp checkpointed", {**MASKED, **CHECKPOINTED}),
        ("fsdp checkpointed", {**MASKED, **CHECKPOINTED, **SHARDED}),
        ("ddp resnet", RESNET),
        ("fsdp resnet", {**RESNET, **SHARDED}),
        ("ddp bf16", {"precision": "bf16", "max_steps": 3}),
        ("fsdp bf16", {"precision": "bf16", "max_steps": 3, **SHARDED}),
        ("sharded, then not", {**ADAMW, **SHARDED, "stop": 4}),
        ("sharded, then not", {**ADAMW, **RESUME}),
        ("not sharded, then so", {"stop": 4}),
        ("not sharded, then so", {**SHARDED, **RESUME}),
        ("2 sharded, then 4", {**SHARDED, "stop": 4}),
        ("2 sharded, then 1", {**ADAMW, **SHARDED, "stop": 4}),
    ],
    4: [("fsdp on 4", {**ADAMW, **SHARDED}), ("2 sharded, then 4", {**SHARDED, **RESUME})],
}


def process(folder: Path) -> None:
    """One of the processes that torchrun starts: all runs of their number."""
    import accelerate

    accelerate.Accelerator.end_training = lambda self: None  # it would end the process group, too
    minclip.train.write_report = lambda *given: None  # pictures, which nobody looks at here
    state, kept = accelerate.PartialState(cpu=True), {}
    for name, changes in RUNS[state.num_processes]:
        kept[name] = run(folder / name, **changes)
    torch.save(kept, folder / f"{state.process_index}.pt")
    dist.destroy_process_group()


def launch_hosts(script: str, folder: Path) -> list[dict]:
    """As `launch`, by accelerate's file for two hosts: both this machine, with one CPU process, not 8 GPUs."""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", "docs/accelerate/two_hosts.yaml"]
    command += ["--num_processes", "2", "--main_process_ip", "127.0.0.1", "--main_process_port", str(free_port())]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "GLOO_SOCKET_IFNAME": "lo"}
    environment["PYTHONPATH"] = str(ROOT)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    hosts = [
        subprocess.Popen([*command, "--machine_rank", rank, script, str(folder)], cwd=ROOT, env=environment, **pipes)
        for rank in "01"
    ]
    said = [host.communicate(timeout=600)[0] for host in hosts]
    assert [host.returncode for host in hosts] == [0, 0], said
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """(the folder of all runs, what each of 2 and of 4 processes kept in them)."""
    folder = tmp_path_factory.mktemp("runs")
    kept = {2: launch_hosts(__file__, folder)}
    kept[4] = launch(__file__, 4, folder)  # which goes on with one of theirs
    return folder, kept


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("ddp", "fsdp"),  # with Muon, which needs whole matrices, and in micro-batches
        ("ddp adamw", "fsdp adamw"),
        ("ddp masked", "ddp checkpointed"),
        ("ddp masked", "fsdp checkpointed"),
        ("ddp resnet", "fsdp resnet"),
        ("ddp adamw", "fsdp on 4"),
        ("ddp adamw", "sharded, then not"),
        ("ddp", "not sharded, then so"),
        ("ddp", "2 sharded, then 4"),
    ],
)
def test_sharded_or_not_and_on_any_number_of_processes_a_run_is_the_same(runs, first, second):
    folder, _ = runs
    assert len(losses(folder / second)) == (4 if "resnet" in first else 6)
    assert difference(folder / first, folder / second) < 1e-8


def test_bfloat16_is_the_same_sharded_or_not(runs):
    folder, _ = runs
    assert difference(folder / "ddp bf16", folder / "fsdp bf16") < 1e-3


def test_one_process_goes_on_with_the_run_of_two(runs):
    folder, _ = runs
    run(folder / "2 sharded, then 1", **ADAMW, **SHARDED, **RESUME)  # alone there is nothing to share out
    assert difference(folder / "ddp adamw", folder / "2 sharded, then 1") < 1e-8


def test_each_process_keeps_its_part(runs):
    _, kept = runs
    shapes = {name: p.shape for name, p in build_clip(TINY).named_parameters()}
    assert any(shape and shape[0] % 4 for shape in shapes.values()), "unequal parts are tried, too"
    for world, name in ((2, "fsdp"), (4, "2 sharded, then 4")):
        parts = [report[name] for report in kept[world]]
        for key, shape in shapes.items():
            if not key.startswith("logit_") and "token_embedding" not in key:  # whose rows the tokenizer decides
                found = [part[key] for part in parts]
                assert sum(found) == shape.numel() and max(found) == -(-shape[0] // world) * shape[1:].numel(), key
        totals = [sum(part.values()) for part in parts]
        assert max(totals) < sum(totals) / world * 1.1
    whole = kept[2][0]["ddp"]
    assert whole == kept[2][1]["ddp"] and whole["image_projection.weight"] == 18 * 32


def test_the_files_of_a_sharded_run_are_those_of_any_run(runs):
    folder, _ = runs
    names = [{str(path.relative_to(folder / name)) for path in (folder / name).rglob("*")} for name in ("ddp", "fsdp")]
    assert names[0] == names[1]
    first, second = (
        torch.load(folder / name / "state/step_00000003.pt", weights_only=True) for name in ("ddp", "fsdp")
    )
    for a, b in (
        (first["model"], second["model"]),
        *same_keys(first["optimizer"]["state"], second["optimizer"]["state"]),
    ):
        for x, y in same_keys(a, b):
            assert x.shape == y.shape and x.stride() == y.stride() and type(y) is torch.Tensor
            assert (x - y).abs().max() < 1e-8
    assert first["optimizer"]["param_groups"] == second["optimizer"]["param_groups"]


def same_keys(first: dict, second: dict) -> list[tuple]:
    assert first.keys() == second.keys()
    return [(value, second[key]) for key, value in first.items()]


# accelerate's files


CONFIGS = sorted((ROOT / "docs" / "accelerate").glob("*.yaml"))
EXPECTED = {"one_gpu": ("NO", 1, 1), "eight_gpus": ("MULTI_GPU", 1, 8), "two_hosts": ("MULTI_GPU", 2, 16)}
EXPECTED["fsdp"] = EXPECTED["eight_gpus"]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_accelerate_reads_its_files(path):
    """Its own loader refuses unknown keys."""
    from accelerate.commands.config.config_args import load_config_from_file

    loaded = load_config_from_file(str(path))
    found = (str(loaded.distributed_type.value), loaded.num_machines, loaded.num_processes)
    assert found == EXPECTED[path.stem] and not loaded.use_cpu and loaded.mixed_precision == "no"
    assert "not run here: no GPU" in path.read_text()


def test_accelerate_refuses_an_unknown_key(tmp_path):
    from accelerate.commands.config.config_args import load_config_from_file

    (tmp_path / "a.yaml").write_text(CONFIGS[0].read_text() + "num_gpus: 8\n")
    with pytest.raises(ValueError, match="num_gpus"):
        load_config_from_file(str(tmp_path / "a.yaml"))


# The page


def test_the_page_has_the_tables():
    page = scaling.PAGE.read_text(encoding="utf-8")
    assert scaling.filled(page) == page, "python -m experiments.scaling --write"


def test_the_page_without_a_marker_is_refused():
    with pytest.raises(ValueError, match="must hold the markers <!-- WIRE --> and <!-- /WIRE --> once each"):
        scaling.filled(scaling.PAGE.read_text(encoding="utf-8").replace("<!-- WIRE -->", ""))


def test_every_flag_and_file_on_the_page_exists():
    page = scaling.PAGE.read_text(encoding="utf-8")
    known = {field.name for field in fields(TrainConfig)} | {field.name for field in fields(CLIPConfig)}
    known |= {"config_file", "num_processes", "machine_rank", "main_process_ip", "nproc_per_node", "nnodes", "cpu"}
    known |= {"node_rank", "master_addr", "master_port", "write", "help"}
    assert set(re.findall(r"--(?:no_)?([a-z_]+)", page)) <= known
    for path in re.findall(r"\b(?:docs|minclip|experiments|tests)/[\w/]+\.(?:py|yaml|md)", page):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize(("loss", "variant"), [("softmax", "ring softmax"), ("sigmoid", "ring sigmoid")])
def test_bytes_of_the_ring_are_those_that_the_benchmark_has_counted(loss, variant):
    """results/bench_scaling.json: the messages themselves, on 1, 2 and 4 processes."""
    rows = json.loads((ROOT / "results/bench_scaling.json").read_text())["rows"]
    rows = [row for row in rows if row["variant"] == variant]
    assert {row["processes"] for row in rows} >= {1, 2, 4}
    for row in rows:
        if "bytes_sent" in row:
            found = scaling.ring_bytes(loss, row["processes"], row["batch_size"], row["dim"])
            assert found == row["bytes_sent"]


def test_parameters_are_those_of_the_model():
    count = scaling.parameters("clipa-b16-i50-t16")
    image, text = 12 * 768**2 + 13 * 768, 12 * 512**2 + 13 * 512  # weights and biases of a block
    assert count.largest_block == image and count.blocks == 12 * image + 12 * text
    rest = 3 * 16**2 * 768 + 768 + 4 * 768  # patches, class token, two norms
    rest += 49_408 * 512 + 16 * 512 + 2 * 512 + (768 + 512) * 512 + 1  # tokens, positions, norm, projections, scale
    assert count.rest == rest and count.all == count.blocks + rest


def test_states_by_hand():
    count = scaling.Parameters(blocks=900, largest_block=100, rest=100)
    assert sum(scaling.state_bytes(count, 1, False).values()) == 1000 * 18
    assert sum(scaling.state_bytes(count, 8, False).values()) == 1000 * 22  # and the buckets
    assert sum(scaling.state_bytes(count, 8, True).values()) == 1000 * 16 / 8 + 4 * (200 + 300) + 2000
    assert scaling.gradient_bytes(count, 4, False) == 2 * 0.75 * 4000
    assert scaling.gradient_bytes(count, 4, True) == 0.75 * 4 * (1000 + 900 + 1000)
    assert scaling.gradient_bytes(count, 4, True, 3) == 3 * 0.75 * 4 * (2000 + 900 + 1000)
    assert scaling.pairs_that_fit(0.85 * 80e9 - 100, 30) == 3 and scaling.pairs_that_fit(80e9, 30) == 0


def test_a_pair_s_activations_are_those_of_both_towers():
    model = RECIPES["clipa-b16-i50-t16"].model
    image, text = scaling.block_bytes(50, 768, 8), scaling.block_bytes(16, 512, 8)
    assert scaling.pair_bytes(model, 50, 16, False) == 12 * image + 12 * text
    assert scaling.pair_bytes(model, 50, 16, True) == 12 * 2 * (50 * 768 + 16 * 512) + image


if __name__ == "__main__":
    process(Path(sys.argv[1]))
