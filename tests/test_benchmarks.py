"""The benchmarks: that they compare equals, that they count right, and that they run."""

import argparse
import importlib.util
import json
import os
import sys
import time
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import common  # noqa: E402
import losses  # noqa: E402
import peers  # noqa: E402
import scaling  # noqa: E402
import time_to_accuracy  # noqa: E402
import traffic  # noqa: E402
import training  # noqa: E402
import training_parts  # noqa: E402
import training_peers  # noqa: E402

if importlib.util.find_spec("open_clip") is None:
    pytest.skip("the peer, open_clip, is not installed", allow_module_level=True)


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_all_variants_compute_the_same(loss):
    """In float64, so that it is the same function and not a similar one."""
    leaves = common.make_leaves(loss, 64, 16, dtype=torch.float64)
    functions = peers.variants(loss)
    assert {peers.CHUNKED, peers.TEXTBOOK, peers.PEER[loss]} <= set(functions)
    expected, gradients = common.value_and_gradients(functions[peers.TEXTBOOK], leaves)
    for function in functions.values():
        value, found = common.value_and_gradients(function, leaves)
        assert abs(value - expected) < 1e-10
        assert all((a - b).abs().max() < 1e-10 for a, b in zip(found, gradients, strict=True))


class Multiplications(TorchDispatchMode):
    """Counts those of matrix products, and names the operations."""

    def __init__(self):
        super().__init__()
        self.count, self.names = 0, set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        if name in ("mm", "addmm_"):
            a, b = args[-2:]
            self.count += a.shape[0] * a.shape[1] * b.shape[1]
        self.names.add(name)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(("loss", "products"), [("sigmoid", 3), ("softmax", 4)])
@pytest.mark.parametrize("tile", [5, 8, 32])
def test_the_floor_does_the_products_and_nothing_else(loss, products, tile):
    generator = torch.Generator().manual_seed(0)
    image, text = (torch.randn(n, 8, generator=generator, dtype=torch.float64) for n in (16, 32))
    call = peers.floor(loss, image, text, tile)
    with Multiplications() as watch:
        found = call()
    assert watch.count == products * 16 * 32 * 8
    assert watch.names <= {"mm", "addmm_", "slice", "t", "permute", "view"}  # the others are but views
    pairs = image @ text.T
    for a, b in zip(found, (pairs @ text, pairs.T @ image), strict=True):
        assert (a - b).abs().max() < 1e-10


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="no resettable high-water mark")
def test_memory_that_is_gone_again_was_seen():
    before = torch.ones(20_000_000)  # 80 MB that do not count
    del before
    with common.PeakMemory() as memory:
        block = torch.ones(10_000_000)
        del block
    assert 39e6 < memory.extra < 45e6
    with common.PeakMemory() as memory:
        pass
    assert memory.extra < 2e6


def fail(kind):
    """What can befall a fresh process."""
    if kind == "memory":
        torch.empty(2**60)
    if kind == "bug":
        raise KeyError("the bug")
    if kind == "death":
        os._exit(3)
    time.sleep(60 if kind == "sleep" else 0)
    return os.getpid()


def test_a_fresh_process_answers_or_fails_in_words():
    assert common.in_fresh_process(fail, "nothing", timeout=60) != os.getpid()
    for kind, error, words in [
        ("memory", common.OutOfMemory, "allocate"),
        ("bug", RuntimeError, "the bug"),
        ("death", RuntimeError, "exit code 3"),
    ]:
        with pytest.raises(error, match=words):
            common.in_fresh_process(fail, kind, timeout=60)
    start = time.monotonic()
    with pytest.raises(TimeoutError, match="stopped after 0.2 s"):
        common.in_fresh_process(fail, "sleep", timeout=0.2)
    assert time.monotonic() - start < 30


def test_what_does_not_fit_is_skipped_and_said(monkeypatch):
    monkeypatch.setattr(losses, "free_memory", lambda: 4 * 64 * 64)
    with pytest.raises(common.OutOfMemory, match="do not fit"):
        losses.measure(losses.Case("softmax", 64, 8, "cpu"), [peers.TEXTBOOK], 1, False)
    assert losses.measure(losses.Case("softmax", 64, 8, "cpu"), [peers.CHUNKED], 1, True)["floor"]
    row = {"variant": "textbook", "loss": "softmax", "batch_size": 64, "dim": 8, "dtype": "float32", "skipped": "why"}
    assert "skipped" in losses.line(row)


def test_the_default_plan_is_the_whole_table():
    args = argparse.Namespace(sizes=[1024, 8192, 32768], dims=[256, 512], repetitions=4, quick=False, largest=65536)
    plan = {case: (set(names), repetitions) for case, names, repetitions in losses.plan(args, "cpu")}
    for loss, peer in peers.PEER.items():
        for dim in (256, 512):
            assert plan[losses.Case(loss, 1024, dim, "cpu")] == (set(peers.variants(loss)), 16)
            assert plan[losses.Case(loss, 8192, dim, "cpu")] == (set(peers.variants(loss)), 3)
            assert plan[losses.Case(loss, 32768, dim, "cpu")] == (set(peers.variants(loss)) - {peers.TEXTBOOK}, 1)
        assert plan[losses.Case(loss, 1024, 256, "cpu", "bfloat16")] == ({peers.CHUNKED, peer}, 3)
        assert plan[losses.Case(loss, 65536, 64, "cpu")] == ({peers.CHUNKED}, 1)
    assert len(plan) == 2 * (3 * 2 + 2)


def test_the_losses_quickly(tmp_path, capsys):
    output = tmp_path / "results" / "bench.json"
    losses.main(["--quick", "--repetitions", "2", "--device", "cpu", "--output", str(output)])
    result = json.loads(output.read_text())
    assert {"command", "device", "torch", "threads", "open_clip", "rows"} <= set(result)
    assert result["command"].startswith("python benchmarks/losses.py --quick")
    for loss, peer in peers.PEER.items():
        rows = {row["variant"]: row for row in result["rows"] if (row["loss"], row["dtype"]) == (loss, "float32")}
        assert {peers.CHUNKED, peers.TEXTBOOK, peer} <= set(rows)
        assert rows[peer]["ratio_to_peer"] == 1
        for row in rows.values():
            assert (row["batch_size"], row["dim"], row["repetitions"]) == (64, 32, 100)
            assert row["seconds"] > 0 and row["peak_extra_mb"] >= 0
            assert row["ratio_to_peer"] == pytest.approx(row["seconds"] / rows[peer]["seconds"])
            assert row["share_of_floor"] == pytest.approx(row["floor_seconds"] / row["seconds"])
        assert [row["variant"] for row in result["rows"] if (row["loss"], row["dtype"]) == (loss, "bfloat16")] == [
            peers.CHUNKED, peer,
        ]  # fmt: skip
    assert output.with_suffix(".png").read_bytes()[:4] == b"\x89PNG"
    assert capsys.readouterr().out.count("\n| ") == len(result["rows"]) + 2


def test_bytes_by_hand():
    """Two processes, B = 64, D = 16: a block of features has 32 * 16 * 4 = 2,048 bytes, one number a pair 128."""
    sent = lambda variant, w: list(traffic.bytes_sent(variant, w, 64, 16).values())  # noqa: E731
    assert sent(traffic.ALL_GATHER, 2) == [2 * 2048, 2 * 2048, 0]
    assert sent(traffic.RING_SOFTMAX, 2) == [2 * 2048, 2 * 2048, 3 * 128]
    assert sent(traffic.RING_SIGMOID, 2) == [2048, 2 * 2048, 0]
    assert sent(traffic.ALL_GATHER, 4) == [6 * 1024, 6 * 1024, 0]
    assert sent(traffic.RING_SOFTMAX, 4) == [6 * 1024, 4 * 1024, 7 * 64]
    assert sent(traffic.RING_SIGMOID, 4) == [3 * 1024, 4 * 1024, 0]
    assert all(sent(variant, 1) == [0, 0, 0] for variant in traffic.VARIANTS)
    with pytest.raises(ValueError, match="unknown variant"):
        traffic.bytes_sent("gossip", 2, 64, 16)


def test_the_table_ends_with_a_million_pairs():
    rows = [row for row in traffic.arithmetic() if row["processes"] == 1024]
    assert [row["variant"] for row in rows] == list(traffic.VARIANTS)
    block = 1024 * 768 * 4
    total = [sum(row["bytes_by_kind"].values()) for row in rows]
    assert total == [4 * 1023 * block, (2 * 1023 + 1024) * block + 2047 * 4096, (1023 + 1024) * block]


def test_two_processes_send_what_was_calculated(tmp_path, capsys):
    output = tmp_path / "bench.json"
    flags = ["--processes", "2", "--batch_size", "64", "--dim", "16", "--repetitions", "1", "--limit", "100"]
    scaling.main([*flags, "--output", str(output)])
    result = json.loads(output.read_text())
    assert {"command", "device", "torch", "threads", "rows", "arithmetic"} <= set(result)
    assert [row["variant"] for row in result["rows"]] == list(traffic.VARIANTS)
    for row in result["rows"]:
        assert (row["processes"], row["batch_size"], row["dim"]) == (2, 64, 16)
        assert row["bytes_sent"] == sum(row["bytes_by_kind"].values()) > 0
        assert row["error"] < 1e-10  # losses and gradients are those of the textbook on the whole batch
        assert row["seconds"] > 0
    out = capsys.readouterr().out
    assert out.count("\n| ring sigmoid") == 4 and "Arithmetic, nothing of it measured" in out


def test_bad_flags_are_named(capsys):
    for main, flags, words in [
        (losses.main, ["--sizes", "0"], "must be 1 or more"),
        (losses.main, ["--device", "tpu"], "invalid choice"),
        (scaling.main, ["--processes", "3", "--batch_size", "64"], "cannot be split evenly among 3 processes"),
        (scaling.main, ["--dim", "0"], "must be 1 or more"),
        (training.main, ["--repetitions", "0"], "must be 1 or more"),
    ]:
        with pytest.raises(SystemExit):
            main(flags)
        assert words in capsys.readouterr().err


@pytest.mark.parametrize("tower", training.EQUAL_TOWERS)
def test_the_towers_that_race_are_the_same_function(tower):
    """In float64 and with weights at random, for at the start the ResNet's blocks are the identity."""
    torch.manual_seed(0)
    models = training_peers.equal_models(tower, 300, "cpu")
    theirs = models["open_clip"].double()
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "logit_scale" not in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
    training_peers.copy_weights(theirs, models["minclip"].double())
    size = training_peers.TOWERS[tower]["image_size"]
    images, ids = torch.randn(6, 3, size, size, dtype=torch.float64), torch.randint(3, 300, (6, 24))
    ids[:, 10], ids[:, 11:] = training_peers.END_ID, training_peers.PAD_ID
    assert training_peers.difference(models, images, ids) < 1e-10
    image, text, scale = models["minclip"].train()(images, ids)  # in training, batch statistics count
    out = theirs.train()(images, ids)
    assert (image - out["image_features"]).abs().max() < 1e-10
    assert (text - out["text_features"]).abs().max() < 1e-10
    assert scale.exp() == out["logit_scale"]
    missing = sum(p.numel() for p in theirs.parameters()) - sum(p.numel() for p in models["minclip"].parameters())
    assert missing == (training_peers.EMBED_DIM if tower == "resnet" else 0)  # the bias after the pool


def test_training_is_timed(tmp_path, monkeypatch, capsys):
    """The whole command on a few pictures; memory, which takes fresh processes, is left out."""
    pairs = training_peers.emoji()
    for module in (training, training_parts):
        monkeypatch.setattr(module, "emoji", lambda: pairs.select(torch.arange(0, len(pairs), 100)))
    output = tmp_path / "bench.json"
    flags = ["--quick", "--device", "cpu", "--output", str(output), "--only"]
    training.main([*flags, "steps"])
    training.main([*flags, "breakdown"])  # leaves the other section
    result = json.loads(output.read_text())
    assert list(result) == ["steps", "breakdown"]
    assert all({"command", "device", "torch", "threads", "open_clip"} <= set(section) for section in result.values())
    equal = {(row["tower"], row["precision"]): row for row in result["steps"]["equal"]}
    assert set(equal) == {(tower, precision) for tower in training.EQUAL_TOWERS for precision in ("fp32", "bf16")}
    assert all(row["difference"] < 1e-5 and row["minclip"] > 0 and row["open_clip"] > 0 for row in equal.values())
    early, full, mean, best = (row["images_per_second"] for row in result["steps"]["defaults"])
    assert min(early, full) <= mean <= max(early, full) and best > 0
    for size in ("early", "full size"):
        rows = {row["part"]: row for row in result["breakdown"]["rows"] if row["size"] == size}
        assert list(rows) == ["data", "image tower", "text tower", "loss", "optimizer", "whole step"]
        assert rows["image tower"]["flops"] > rows["text tower"]["flops"] > rows["loss"]["flops"] > 0
    assert output.with_suffix(".png").read_bytes()[:4] == b"\x89PNG"
    assert "in a step" in capsys.readouterr().out


def test_the_first_evaluation_that_reaches_a_target_counts():
    curve = [{"step": step, "seconds": 10.0 * step, "top1": top1} for step, top1 in [(1, 0.1), (2, 0.2), (3, 0.18)]]
    assert time_to_accuracy.seconds_to(curve, 0.15) == 20
    assert time_to_accuracy.seconds_to(curve, 0.25) is None
    runs = [
        {"library": library, "steps": steps, "seconds_to": {"15%": a, "25%": b, "40%": None},
         "curve": [{"seconds": 79.0 if library == "open_clip" else 9.0}]}
        for library, steps, a, b in [
            ("minclip", 9, 3.0, None), ("minclip", 9, 5.0, 8.0), ("minclip", 9, 4.0, 6.0), ("minclip", 20, 6.0, None),
            ("open_clip", 9, 40.0, None),
        ]
    ]  # fmt: skip
    first, second, third = time_to_accuracy.summary({"runs": runs, "cap": 80})
    assert first["minclip"] == {"seconds": 4.0, "steps": 9, "all": [3.0, 5.0, 4.0]}
    assert first["ratio"] == pytest.approx(0.1) and not first["given_up"]
    assert second["minclip"]["seconds"] == 8.0 and second["open_clip"] is None  # one of three seeds did not get there
    assert second["ratio"] == pytest.approx(0.1) and second["given_up"] == ["open_clip"]
    assert third["minclip"] is None and third["ratio"] is None and third["given_up"] == ["open_clip"]
    table = time_to_accuracy.accuracy_tables("accuracy", {
        "targets": [first, second, third], "cap": 900, "seeds": [0], "peer": {"tower": "vit", "lr": 1e-3}
    })  # fmt: skip
    assert "> 15 min" in table and "< 0.10" in table
