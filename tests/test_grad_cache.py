"""Micro-batches against autograd that keeps all their graphs, with dropout on.

Run as a script, under torchrun, this file is one of the processes of its last test.
"""

import copy
import math
import sys
import weakref
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from test_chunked_loss import PATIENCE, launch
from torch import nn

from minclip.chunked_loss import chunked_sigmoid_loss, chunked_softmax_loss
from minclip.grad_cache import cached_step
from minclip.sigmoid_loss import sigmoid_loss
from minclip.softmax_loss import softmax_loss

LOSSES = {"sigmoid": sigmoid_loss, "softmax": softmax_loss}
CHUNKED = {"sigmoid": chunked_sigmoid_loss, "softmax": chunked_softmax_loss}
BOTH = pytest.mark.parametrize("name", LOSSES)
B, MICRO = 11, 4  # the last micro-batch has 3 pairs


class Towers(nn.Module):
    """Two towers with dropout, and the scalars."""

    def __init__(self, name="sigmoid", dropout=0.3):
        super().__init__()
        torch.manual_seed(0)
        tower = lambda width: nn.Sequential(nn.Linear(width, 16), nn.Dropout(dropout), nn.GELU(), nn.Linear(16, 8))  # noqa: E731
        self.image, self.text = tower(6), tower(5)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(10.0)))
        self.logit_bias = nn.Parameter(torch.tensor(-2.0)) if name == "sigmoid" else None
        self.double()

    def forward(self, images, ids):
        scalars = [self.logit_scale] if self.logit_bias is None else [self.logit_scale, self.logit_bias]
        return F.normalize(self.image(images), dim=1), F.normalize(self.text(ids), dim=1), *scalars


def pairs(n=B, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(n, width, generator=generator, dtype=torch.float64) for width in (6, 5))


def gradients(model):
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def features_of_micro_batches(model, batch, micro):
    """The model's outputs for the whole batch, the graphs of all micro-batches kept."""
    outputs = [model(*parts) for parts in zip(*(x.split(micro) for x in batch))]
    images, texts, *scalars = zip(*outputs)
    return torch.cat(images), torch.cat(texts), *(scalar[0] for scalar in scalars)


def all_graphs_kept(model, batch, loss_fn, micro):
    loss = loss_fn(*features_of_micro_batches(model, batch, micro))
    loss.backward()
    return loss.detach()


def run(step, name="sigmoid", batch=None, loss_fn=None, micro=MICRO, model=None):
    """(loss, gradients, what the generator draws next) of one step of a fresh model."""
    model = model or Towers(name)
    torch.manual_seed(7)
    loss = step(model, batch or pairs(), loss_fn or LOSSES[name], micro)
    return loss, gradients(model), torch.rand(3)


def parity(found, expected):
    """The check that all of this file rests on: the largest error of the loss and of every gradient."""
    assert found[1].keys() == expected[1].keys()
    errors = {name: (found[1][name] - expected[1][name]).abs().max().item() for name in expected[1]}
    return {"loss": abs(found[0] - expected[0]).item(), **errors}


@BOTH
@pytest.mark.parametrize("micro", [1, 2, 4, 10, 11, 100])
def test_equals_autograd_with_all_graphs_kept(name, micro):
    expected = run(all_graphs_kept, name, micro=micro)
    for loss_fn in (LOSSES[name], partial(CHUNKED[name], chunk_size=3)):
        found = run(cached_step, name, loss_fn=loss_fn, micro=micro)
        assert max(parity(found, expected).values()) < 1e-10
        assert not found[0].requires_grad


def test_the_random_state_afterwards_is_that_of_one_forward():
    noisy_loss = lambda *outputs: sigmoid_loss(*outputs) * torch.rand(())  # noqa: E731
    found, expected = run(cached_step, loss_fn=noisy_loss), run(all_graphs_kept, loss_fn=noisy_loss)
    assert max(parity(found, expected).values()) < 1e-10
    assert torch.equal(found[2], expected[2])


def test_dropout_is_on():
    """Or the tests of this file would prove little."""
    full, micro = run(all_graphs_kept, micro=B), run(all_graphs_kept)
    assert parity(micro, full)["loss"] > 1e-3


def test_gradients_are_added_to_those_there():
    once, model = run(cached_step), Towers()
    run(cached_step, model=model)
    _, twice, _ = run(cached_step, model=model)
    for name, gradient in once[1].items():
        torch.testing.assert_close(twice[name], 2 * gradient, atol=1e-10, rtol=0)


# Mistakes that others make


def k_full_losses(model, batch, loss_fn, micro):
    """open_clip's accumulation: as many losses over the whole batch as micro-batches, each with one of them alive."""
    state = torch.get_rng_state()
    with torch.no_grad():
        *features, _, _ = features_of_micro_batches(model, batch, micro)
    torch.set_rng_state(state)
    for start, *parts in zip(range(0, B, micro), *(x.split(micro) for x in batch)):
        outputs = model(*parts)
        alive = [torch.cat([f[:start], live, f[start + micro :]]) for f, live in zip(features, outputs)]
        loss = loss_fn(*alive, *outputs[2:])
        loss.backward()
    return loss.detach()


def test_a_scale_gradient_k_times_too_large_would_be_noticed():
    found, expected = run(k_full_losses), run(all_graphs_kept)
    errors = parity(found, expected)
    assert found[1]["logit_scale"] / expected[1]["logit_scale"] == pytest.approx(3)  # 3 micro-batches
    assert errors.pop("logit_scale") > 1e-3 and errors.pop("logit_bias") > 1e-3
    assert max(errors.values()) < 1e-10  # the towers' gradients, and the loss, do not tell


def test_randomness_that_is_not_replayed_would_be_noticed(monkeypatch):
    monkeypatch.setattr("minclip.grad_cache.restore_random_state", lambda device, state: None)
    errors = parity(run(cached_step), run(all_graphs_kept))
    assert errors["image.0.weight"] > 1e-3
    assert errors["loss"] < 1e-10  # the loss does not tell


# Memory, precision, frozen towers


class Alive(torch.autograd.graph.saved_tensors_hooks):
    """The most elements that autograd keeps for backward at any one time."""

    def __init__(self):
        super().__init__(self.keep, lambda box: box[0])
        self.now = self.most = 0

    def __enter__(self):
        super().__enter__()
        return self

    def keep(self, tensor):
        box = Box([tensor])
        self.now += tensor.numel()
        self.most = max(self.most, self.now)
        weakref.finalize(box, self.drop, tensor.numel())
        return box

    def drop(self, elements):
        self.now -= elements


class Box(list):
    """A list that can be weakly referenced."""


def test_activations_of_one_micro_batch_are_alive():
    most = {}
    for step in (all_graphs_kept, cached_step):
        with Alive() as alive:
            run(step, batch=pairs(256), loss_fn=chunked_sigmoid_loss, micro=8)
        most[step] = alive.most
    with Alive() as alive:
        run(all_graphs_kept, batch=pairs(8), micro=8)
    features = 2 * 256 * 8  # what the loss keeps: their gradients
    assert most[cached_step] < max(features + 100, 2 * alive.most) < most[all_graphs_kept] / 4


def test_autocast_around_the_call():
    """bfloat16 towers: the first forward must not leave casts without a graph behind."""
    model = Towers().float()
    batch = tuple(x.float() for x in pairs(64))
    results = []
    for step in (all_graphs_kept, cached_step):
        with torch.autocast("cpu", torch.bfloat16):
            results.append(run(step, batch=batch, model=copy.deepcopy(model), loss_fn=chunked_sigmoid_loss, micro=20))
    expected = results[0][1]
    errors = parity(results[1], results[0])
    assert errors.pop("loss") == 0
    for name, error in errors.items():  # the order of summation differs, in bfloat16
        assert error < 0.02 * expected[name].abs().max(), name


def test_a_locked_tower_stays_locked():
    model = Towers()
    model.image.requires_grad_(False)
    model.logit_scale.requires_grad_(False)
    locked, free = run(cached_step, model=model), run(all_graphs_kept)
    for name, gradient in locked[1].items():
        if name.startswith("image") or name == "logit_scale":
            assert gradient is None
        else:
            torch.testing.assert_close(gradient, free[1][name], atol=1e-10, rtol=0)


def test_scalars_alone_can_be_trained():
    model = Towers()
    model.image.requires_grad_(False)
    model.text.requires_grad_(False)
    locked, free = run(cached_step, model=model), run(all_graphs_kept)
    for name in ("logit_scale", "logit_bias"):
        assert abs(locked[1][name] - free[1][name]) < 1e-10


def test_bad_input_is_named():
    images, ids = pairs()
    with pytest.raises(ValueError, match="micro_batch_size is 0"):
        cached_step(Towers(), (images, ids), sigmoid_loss, 0)
    with pytest.raises(ValueError, match=r"have \[11, 10\] rows"):
        cached_step(Towers(), (images, ids[1:]), sigmoid_loss, 4)
    with pytest.raises(ValueError, match=r"have \[0, 0\] rows"):
        cached_step(Towers(), (images[:0], ids[:0]), sigmoid_loss, 4)


# Several processes


def process(folder):
    """Two steps of DistributedDataParallel, the loss in a ring, the number of averages counted."""
    dist.init_process_group("gloo", timeout=PATIENCE)
    rank, report = dist.get_rank(), {}
    for name in LOSSES:
        model = nn.parallel.DistributedDataParallel(Towers(name))
        averages = []

        def average(_, bucket, averages=averages):
            averages.append(bucket.buffer().numel())
            buffer = bucket.buffer() / dist.get_world_size()
            return dist.all_reduce(buffer, async_op=True).get_future().then(lambda future: future.value()[0])

        model.register_comm_hook(None, average)
        for seed in (1, 2):
            averages.clear()
            model.zero_grad()
            torch.manual_seed(100 + rank)
            batch = tuple(x[rank * B : (rank + 1) * B] for x in pairs(2 * B, seed))
            loss = cached_step(model, batch, partial(CHUNKED[name], chunk_size=3), MICRO)
            report[name, seed] = loss, copy.deepcopy(gradients(model.module)), sum(averages)
    torch.save(report, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_share_one_batch(tmp_path):
    reports = launch(__file__, 2, tmp_path)
    for name in LOSSES:
        for seed in (1, 2):
            model, outputs = Towers(name), []
            for rank in range(2):
                torch.manual_seed(100 + rank)  # each process draws its own dropout
                batch = tuple(x[rank * B : (rank + 1) * B] for x in pairs(2 * B, seed))
                outputs.append(features_of_micro_batches(model, batch, MICRO))
            images, texts, *scalars = zip(*outputs)
            loss = LOSSES[name](torch.cat(images), torch.cat(texts), *(scalar[0] for scalar in scalars))
            loss.backward()
            mean = sum(report[name, seed][0] for report in reports) / 2
            for report in reports:
                _, averaged, elements = report[name, seed]
                assert max(parity((mean, averaged), (loss, gradients(model))).values()) < 1e-10
                assert elements == sum(parameter.numel() for parameter in model.parameters())  # each once


if __name__ == "__main__":
    process(sys.argv[1])
