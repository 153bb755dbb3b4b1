"""The chunked losses against the textbook ones: values, gradients, memory, and several processes.

Run as a script, under torchrun, this file is one of those processes.
"""

import math
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from minclip.chunked_loss import chunked_sigmoid_loss, chunked_softmax_loss
from minclip.sigmoid_loss import sigmoid_loss
from minclip.softmax_loss import softmax_loss

LOSSES = {"sigmoid": (sigmoid_loss, chunked_sigmoid_loss), "softmax": (softmax_loss, chunked_softmax_loss)}
PATIENCE = timedelta(seconds=120)  # for a message, before a process that waits raises an error
BOTH = pytest.mark.parametrize("name", LOSSES)


def inputs(name, n=37, width=16, scale=10.0, bias=-2.0, dtype=torch.float64, seed=0):
    """Leaves (image_features, text_features, logit_scale[, logit_bias])."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda: F.normalize(torch.randn(n, width, generator=generator, dtype=torch.float64), dim=1)  # noqa: E731
    tensors = [draw(), draw(), torch.tensor(math.log(scale)), torch.tensor(bias)]
    return [tensor.to(dtype).requires_grad_() for tensor in tensors[: 4 if name == "sigmoid" else 3]]


def value_and_gradients(loss_fn, leaves, **options):
    loss = loss_fn(*leaves, **options)
    return [loss.detach(), *torch.autograd.grad(2.5 * loss, leaves)]  # 2.5: whatever comes after the loss counts too


def error(found, expected):
    return max((a.double() - b.double()).abs().max().item() for a, b in zip(found, expected, strict=True))


def repeated_labels(n, seed=3):
    return torch.randint(0, max(n // 3, 1), (n,), generator=torch.Generator().manual_seed(seed))


# One process: exactness


@BOTH
@pytest.mark.parametrize("duplicates", [False, True])
@pytest.mark.parametrize(("n", "chunk"), [(37, None), (37, 1), (37, 8), (37, 36), (37, 37), (64, 16), (5, 64), (1, 3)])
def test_equals_the_textbook(name, n, chunk, duplicates):
    textbook, chunked = LOSSES[name]
    leaves, labels = inputs(name, n), repeated_labels(n) if duplicates else None
    found = value_and_gradients(chunked, leaves, chunk_size=chunk, labels=labels)
    assert error(found, value_and_gradients(textbook, leaves, labels=labels)) < 1e-10


@BOTH
def test_large_logits_keep_their_digits(name):
    """Negatives between 20 and 40, where torch's softplus would already take x for log(1 + exp(x))."""
    textbook, chunked = LOSSES[name]
    leaves = inputs(name, scale=50.0)
    assert 30 < (50 * leaves[0] @ leaves[1].T).fill_diagonal_(0).max() < 40
    assert error(value_and_gradients(chunked, leaves), value_and_gradients(textbook, leaves)) < 1e-10


@BOTH
def test_gradients_are_the_finite_differences(name):
    """Independent of the textbook's autograd."""
    chunked = LOSSES[name][1]
    assert torch.autograd.gradcheck(lambda *leaves: chunked(*leaves, chunk_size=2), inputs(name, 5, 3))


@BOTH
def test_pairs_of_one_label_are_no_negatives(name):
    """Both versions against the sums written out."""
    leaves, labels = inputs(name, 6), torch.tensor([0, 1, 0, 2, 1, 0])
    image, text, scale = (leaf.detach() for leaf in leaves[:3])
    logits = scale.exp() * image @ text.T
    allowed = [[i == j or labels[i] != labels[j] for j in range(6)] for i in range(6)]
    pairs = [(i, j) for i in range(6) for j in range(6) if allowed[i][j]]
    if name == "sigmoid":
        expected = -sum(F.logsigmoid((1 if i == j else -1) * (logits[i, j] - 2)) for i, j in pairs) / 6
    else:
        row = [math.log(sum(math.exp(logits[i, j]) for j in range(6) if allowed[i][j])) for i in range(6)]
        column = [math.log(sum(math.exp(logits[i, j]) for i in range(6) if allowed[i][j])) for j in range(6)]
        expected = (sum(row) + sum(column) - 2 * logits.trace()) / 12
    for loss_fn in LOSSES[name]:
        assert abs(loss_fn(*leaves, labels=labels) - expected) < 1e-10
        assert abs(loss_fn(*leaves) - expected) > 1e-3


@BOTH
def test_non_contiguous_features_and_one_element_scalars(name):
    textbook, chunked = LOSSES[name]
    leaves = inputs(name, 9)
    odd = [leaves[0].detach().T.contiguous().T, leaves[1].detach().repeat(1, 2)[:, ::2].repeat(1, 1)[:, :8]]
    odd = [odd[0][:, ::2], odd[1], *(leaf.detach().reshape(1) for leaf in leaves[2:])]
    odd = [tensor.requires_grad_() for tensor in odd]
    found = value_and_gradients(chunked, odd, chunk_size=4)
    assert found[3].shape == (1,)
    assert error(found, value_and_gradients(textbook, odd)) < 1e-10


# One process: numbers that are hard to hold


@BOTH
@pytest.mark.parametrize("sign", [1, -1])
def test_scale_100_is_safe_in_float32(name, sign):
    """Similarities of +1 and -1 at scale 100: exp(100) is beyond float32."""
    textbook, chunked = LOSSES[name]
    exact = inputs(name, 24, scale=100.0)
    with torch.no_grad():
        exact[1].copy_(sign * exact[0])
        exact[0][:6] = exact[0][6:12]  # some negatives as close as positives
    single = [leaf.detach().float().requires_grad_() for leaf in exact]
    found, expected = value_and_gradients(chunked, single, chunk_size=7), value_and_gradients(textbook, exact)
    for a, b in zip(found, expected, strict=True):
        assert a.isfinite().all()
        assert (a - b).abs().max() < 1e-4 * b.abs().max()


def test_a_loss_of_almost_nothing_keeps_its_digits():
    """ln(1 + 7 exp(-30)) = 6.55e-13, where the textbook in float32 rounds to 0."""
    eye, scale = torch.eye(8), torch.tensor(math.log(30.0))
    assert abs(chunked_softmax_loss(eye, eye, scale, chunk_size=3) / (7 * math.exp(-30)) - 1) < 1e-4


@BOTH
def test_bfloat16_features_are_summed_in_float32(name):
    """Mistake 4: with logits and sums in bfloat16, the same features give a loss that is off in its third digit."""
    textbook, chunked = LOSSES[name]
    rounded = [leaf.detach().bfloat16().requires_grad_() for leaf in inputs(name, 512, scale=20.0)]
    expected = value_and_gradients(textbook, [leaf.detach().double().requires_grad_() for leaf in rounded])
    found = value_and_gradients(chunked, rounded, chunk_size=100)
    wrong = value_and_gradients(textbook, rounded)
    off = [((result[0] - expected[0]) / expected[0]).abs().item() for result in (found, wrong)]
    assert found[0].dtype == torch.float32 and [g.dtype for g in found[1:]] == [torch.bfloat16] * (len(found) - 1)
    assert off[0] < 1e-6 < 1e-4 < off[1]
    for a, b in zip(found[1:], expected[1:], strict=True):  # only their last rounding, to bfloat16, is left
        assert (a - b).abs().max() < 2**-8 * b.abs().max()


@BOTH
def test_autocast_changes_nothing(name):
    """Matrix products of autocast would be bfloat16 ones."""
    textbook, chunked = LOSSES[name]
    leaves = inputs(name, 64, dtype=torch.float32)
    plain = value_and_gradients(chunked, leaves, chunk_size=20)
    with torch.autocast("cpu", torch.bfloat16):
        assert error(value_and_gradients(chunked, leaves, chunk_size=20), plain) == 0
        assert error(value_and_gradients(textbook, leaves), plain) > 1e-4


# One process: work and memory


class Watch(TorchDispatchMode):
    """Counts multiplications in matrix products, and the elements of the largest tensor that any operation returns."""

    def __init__(self):
        super().__init__()
        self.products, self.largest = 0, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        name = function.overloadpacket.__name__
        if name in ("mm", "addmm", "addmm_"):
            a, b = args[-2:]
            self.products += a.shape[0] * a.shape[1] * b.shape[1]
        for tensor in result if isinstance(result, (list, tuple)) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.numel())
        return result


class Saved(torch.autograd.graph.saved_tensors_hooks):
    """Counts the elements that autograd keeps for backward."""

    def __init__(self):
        super().__init__(self.keep, lambda tensor: tensor)
        self.elements = 0

    def __enter__(self):
        super().__enter__()
        return self

    def keep(self, tensor):
        self.elements += tensor.numel()
        return tensor


@BOTH
def test_three_products_for_the_sigmoid_four_for_the_softmax(name):
    textbook, chunked = LOSSES[name]
    n, width, leaves = 100, 16, inputs(name, 100)
    product = n * n * width
    with Watch() as watch:
        value_and_gradients(chunked, leaves, chunk_size=30)
    assert watch.products == {"sigmoid": 3, "softmax": 4}[name] * product
    with Watch() as watch, torch.no_grad():
        value = chunked(*leaves, chunk_size=30)
    assert watch.products == product  # the loss alone
    with Watch() as watch:
        frozen = chunked(*(leaf.detach() for leaf in leaves), chunk_size=30)
    assert watch.products == product
    assert not value.requires_grad and error([value, frozen], [textbook(*leaves)] * 2) < 1e-10


@BOTH
def test_memory_is_linear_in_the_batch(name):
    textbook, chunked = LOSSES[name]
    for n in (256, 512):
        leaves, labels = inputs(name, n, 8), repeated_labels(n)
        with Watch() as watch, Saved() as saved:
            value_and_gradients(chunked, leaves, chunk_size=16, labels=labels)
        assert watch.largest == n * 8  # the features
        assert saved.elements <= 2 * n * 8 + 4  # their gradients, and those of the scalars
        with Watch() as watch:
            value_and_gradients(textbook, leaves, labels=labels)
        assert watch.largest == n * n  # the watch sees what there is


# Bad input


@BOTH
def test_bad_input_is_named(name):
    chunked = LOSSES[name][1]
    image, text, *scalars = (leaf.detach() for leaf in inputs(name, 6))
    spoiled = image.clone()
    spoiled[2, 3] = torch.nan
    infinite = text.clone()
    infinite[5, 0] = torch.inf
    good, labels = (image, text, *scalars), r"labels must be one integer a pair, \[6\], not torch."
    for match, arguments, options in [
        (r"image_features are \[6, 16\].*text_features \[5, 16\]", (image, text[:5], *scalars), {}),
        (r"text_features \[6, 15\]", (image, text[:, 1:], *scalars), {}),
        (r"image_features must be .* matrix \[B, D\], not torch.int64", (image.long(), text, *scalars), {}),
        (r"text_features must be .* shape \[16\]", (image, text[0], *scalars), {}),
        (r"image_features must be .* shape \[0, 16\]", (image[:0], text[:0], *scalars), {}),
        ("image_features holds NaN", (spoiled, text, *scalars), {}),
        ("text_features holds NaN or infinity", (image, infinite, *scalars), {}),
        (r"pass the \*log\*", (image, text, torch.tensor(100.0), *scalars[1:]), {}),
        ("logit_scale must be one finite number", (image, text, torch.tensor(torch.nan), *scalars[1:]), {}),
        ("logit_scale must be one finite number", (image, text, torch.ones(2), *scalars[1:]), {}),
        ("chunk_size is 0", good, {"chunk_size": 0}),
        (labels + r"int64 of shape \[5\]", good, {"labels": torch.arange(5)}),
        (labels + "float32", good, {"labels": torch.rand(6)}),
    ]:
        with pytest.raises(ValueError, match=match):
            chunked(*arguments, **options)


# Several processes


class Towers(nn.Module):
    """The least that has parameters: two linear maps to the unit sphere, and the scalars."""

    def __init__(self, name):
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        draw = lambda *shape: nn.Parameter(torch.randn(*shape, generator=generator, dtype=torch.float64))  # noqa: E731
        self.image, self.text = draw(7, 8), draw(9, 8)
        self.logit_scale = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))
        self.logit_bias = nn.Parameter(torch.tensor(-1.5, dtype=torch.float64)) if name == "sigmoid" else None

    def forward(self, images, ids):
        scalars = [self.logit_scale] if self.logit_bias is None else [self.logit_scale, self.logit_bias]
        texts = (self.text.T @ ids.T).T  # not contiguous in memory, as the messages have to be
        return F.normalize(images @ self.image, dim=1), F.normalize(texts, dim=1), *scalars


def whole_batch(n=20):
    generator = torch.Generator().manual_seed(6)
    draw = lambda width: torch.randn(n, width, generator=generator, dtype=torch.float64)  # noqa: E731
    return draw(7), draw(9), repeated_labels(n)[:, None].repeat(1, 2)[:, 0]  # nor are these


def step(model, loss_fn, batch, **options):
    """The loss, the gradients of the features and those of the parameters."""
    outputs = model(*batch)
    for feature in outputs[:2]:
        feature.retain_grad()
    loss = loss_fn(*outputs, **options)
    loss.backward()
    features = [feature.grad for feature in outputs[:2]]
    return {"loss": loss.detach(), "features": features, "parameters": [p.grad for p in model.parameters()]}


def loss_of_detached_neighbours(image, text, logit_scale):
    """Mistake 1, a local loss over gathered features that carry no gradient (open_clip's local_loss alone)."""
    gathered = [[torch.empty_like(x) for _ in range(dist.get_world_size())] for x in (image, text)]
    for features, x in zip(gathered, (image, text)):
        dist.all_gather(features, x.detach())
        features[dist.get_rank()] = x
    every_image, every_text = (torch.cat(features) for features in gathered)
    targets = torch.arange(len(image)) + dist.get_rank() * len(image)
    rows, columns = logit_scale.exp() * image @ every_text.T, logit_scale.exp() * text @ every_image.T
    return (F.cross_entropy(rows, targets) + F.cross_entropy(columns, targets)) / 2


def complaint(function, *arguments, **options):
    try:
        function(*arguments, **options)
    except ValueError as caught:
        return str(caught)
    return "no complaint"


def process(folder):
    """What each of W processes does; torchrun starts it at the end of this file."""
    dist.init_process_group("gloo", timeout=PATIENCE)
    rank, world = dist.get_rank(), dist.get_world_size()
    images, ids, labels = whole_batch()
    own = slice(rank * len(images) // world, (rank + 1) * len(images) // world)
    batch, report = (images[own], ids[own]), {}
    for name, (_, chunked) in LOSSES.items():
        for duplicates in (False, True):
            model = nn.parallel.DistributedDataParallel(Towers(name))
            options = {"chunk_size": 3, "labels": labels[own] if duplicates else None}
            report[name, duplicates] = step(model, chunked, batch, **options)
            with torch.no_grad():
                report[name, duplicates]["no_grad"] = chunked(*model(*batch), **options)
        features = [feature.detach() for feature in Towers(name)(*batch)]
        short = [features[0][rank == 0 :], features[1][rank == 0 :], *features[2:]]  # process 0 is one pair short
        spoiled = [features[0] / (rank != 1), *features[1:]]
        report[name, "unequal"] = complaint(chunked, *short)
        report[name, "spoiled"] = complaint(chunked, *spoiled)
        report[name, "labels on some"] = complaint(chunked, *features, labels=labels[own] if rank else None)
        with torch.set_grad_enabled(rank == 0):
            features[2].requires_grad_()
            report[name, "gradients on some"] = complaint(chunked, *features)
        features = [feature.detach() for feature in features]
        rounded = [features[0].bfloat16(), features[1].bfloat16(), *features[2:]]
        report[name, "bfloat16"] = chunked(*rounded)
        groups = [dist.new_group([2 * i, 2 * i + 1]) for i in range(world // 2)]
        report[name, "halves"] = chunked(*features, chunk_size=2, group=groups[rank // 2])
        others = groups[(rank // 2 + 1) % len(groups)]
        report[name, "foreign group"] = complaint(chunked, *features, group=others) if world > 2 else None
    model = nn.parallel.DistributedDataParallel(Towers("softmax"))
    report["mistake"] = step(model, loss_of_detached_neighbours, batch)
    torch.save(report, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


def launch(script, world, folder):
    """Run a test file as `world` processes on this machine; a hang is an error."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local_addr", "127.0.0.1"]
    command += ["--nproc_per_node", str(world), script, str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr[-3000:]
    return [torch.load(Path(folder) / f"{rank}.pt", weights_only=True) for rank in range(world)]


@pytest.fixture(scope="module", params=[2, 4])
def reports(request, tmp_path_factory):
    return launch(__file__, request.param, tmp_path_factory.mktemp("processes"))


def mismatches(reports, expected):
    """Largest errors of the mean loss, of the features' gradients / W, and of the gradients that DDP has averaged."""
    world = len(reports)
    features = [torch.cat([report["features"][i] for report in reports]) / world for i in (0, 1)]
    return (
        error([sum(report["loss"] for report in reports) / world], [expected["loss"]]),
        error(features, expected["features"]),
        max(error(report["parameters"], expected["parameters"]) for report in reports),
    )


@BOTH
@pytest.mark.parametrize("duplicates", [False, True])
def test_processes_share_one_batch(reports, name, duplicates):
    """logit_scale and logit_bias are among the parameters."""
    images, ids, labels = whole_batch()
    expected = step(Towers(name), LOSSES[name][0], (images, ids), labels=labels if duplicates else None)
    found = [report[name, duplicates] for report in reports]
    assert max(mismatches(found, expected)) < 1e-10
    assert error([report["loss"] for report in found], [report["no_grad"] for report in found]) == 0


def test_a_local_loss_without_gradient_would_be_noticed(reports):
    """Its value is right, and only the gradients tell."""
    expected = step(Towers("softmax"), softmax_loss, whole_batch()[:2])
    loss, features, parameters = mismatches([report["mistake"] for report in reports], expected)
    assert loss < 1e-10 and features > 1e-3 and parameters > 1e-3


@BOTH
def test_bfloat16_blocks_travel(reports, name):
    image, text, *scalars = Towers(name)(*whole_batch()[:2])
    expected = LOSSES[name][0](image.bfloat16().double(), text.bfloat16().double(), *scalars)
    mean = sum(report[name, "bfloat16"] for report in reports) / len(reports)
    assert abs(mean / expected - 1) < 1e-6


@BOTH
def test_a_group_shares_a_batch_of_its_own(reports, name):
    images, ids, _ = whole_batch()
    half = 2 * len(images) // len(reports)
    for first in range(0, len(reports), 2):
        rows = slice(first // 2 * half, (first // 2 + 1) * half)
        expected = LOSSES[name][0](*Towers(name)(images[rows], ids[rows]))
        assert abs((reports[first][name, "halves"] + reports[first + 1][name, "halves"]) / 2 - expected) < 1e-10
        if len(reports) > 2:
            assert "no member of the group" in reports[first][name, "foreign group"]


@BOTH
def test_a_bad_process_stops_all(reports, name):
    n = len(whole_batch()[0]) // len(reports)
    for report in reports:
        assert report[name, "unequal"].startswith("the shape [B/W, D] of the features must be the same on every")
        assert f"[({n - 1}, 8), ({n}, 8)" in report[name, "unequal"]
        assert report[name, "spoiled"].startswith("process 1: image_features holds NaN or infinity")
        assert report[name, "labels on some"].startswith("whether labels are given must be the same on every")
        assert report[name, "gradients on some"].startswith("whether gradients are needed must be the same on every")


if __name__ == "__main__":
    process(sys.argv[1])
