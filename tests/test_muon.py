"""Muon: its polynomial on singular values, its step against a few lines, AdamW beside it."""

import copy

import pytest
import torch
from torch import nn

from minclip.clip import CLIPConfig, build_clip
from minclip.muon import NEWTON_SCHULZ, Muon, orthogonalize
from minclip.optimizer import make_optimizer
from tests.conftest import assert_close, assert_differ


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("shape", [(6, 6), (4, 9), (9, 4), (1, 5), (3, 4, 9)])
@pytest.mark.parametrize("steps", [0, 1, 5])
def test_the_polynomial_acts_on_singular_values_alone(shape, steps):
    matrix = random(*shape)
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    x = s / (s.square().sum(-1, keepdim=True).sqrt() + 1e-7)
    a, b, c = NEWTON_SCHULZ
    for _ in range(steps):
        x = a * x + b * x**3 + c * x**5
    assert_close(orthogonalize(matrix, steps), u @ (x.unsqueeze(-1) * vh))


def test_five_steps_bring_all_singular_values_near_one():
    u, _, vh = torch.linalg.svd(random(16, 40), full_matrices=False)
    steep = u @ (torch.logspace(-2, 0, 16, dtype=torch.float64)[:, None] * vh)  # a hundred to one
    values = torch.linalg.svdvals(orthogonalize(steep))
    assert values.min() > 0.65 and values.max() < 1.25
    assert orthogonalize(torch.zeros(3, 5)).abs().max() == 0
    assert (orthogonalize(steep.bfloat16()).double() - orthogonalize(steep)).abs().max() < 0.1


def test_a_step_is_nesterov_momentum_orthogonalised_scaled_and_decayed():
    tall, wide, kernel = (nn.Parameter(random(*shape)) for shape in ((8, 2), (2, 8), (4, 3, 2, 2)))
    unmoved = nn.Parameter(random(3, 3))
    optimizer = Muon([{"params": [tall, wide, kernel, unmoved], "lr": 0.1, "momentum": 0.9, "weight_decay": 0.5}])
    expected = [p.detach().clone() for p in (tall, wide, kernel)]
    velocity = [torch.zeros_like(p) for p in expected]
    for step in range(3):
        for i, p in enumerate((tall, wide, kernel)):
            gradient = random(*p.shape, seed=10 * step + i)
            p.grad = gradient.clone()
            velocity[i] = 0.9 * velocity[i] + 0.1 * gradient
            direction = orthogonalize((0.9 * velocity[i] + 0.1 * gradient).reshape(p.shape[0], -1)).view_as(p)
            stretch = 2.0 if i == 0 else 1.0  # sqrt(8 / 2)
            expected[i] = expected[i] * (1 - 0.1 * 0.5) - 0.1 * stretch * direction
        optimizer.step()
        for p, e in zip((tall, wide, kernel), expected, strict=True):
            assert_close(p.detach(), e)
    assert_close(unmoved.detach(), random(3, 3))


def test_the_groups_without_momentum_are_adamws():
    mine, theirs = nn.Parameter(random(4, 3)), nn.Parameter(random(4, 3))
    hidden = nn.Parameter(random(4, 4))
    settings = {"lr": 0.01, "betas": (0.9, 0.98), "eps": 1e-6, "weight_decay": 0.3}
    both = Muon([{"params": [mine]}, {"params": [hidden], "momentum": 0.95}], **settings)
    adamw = torch.optim.AdamW([theirs], **settings)
    for step in range(4):
        mine.grad, theirs.grad, hidden.grad = random(4, 3, seed=step), random(4, 3, seed=step), random(4, 4, seed=step)
        both.step()
        adamw.step()
        assert_close(mine.detach(), theirs.detach())
    assert set(both.state[hidden]) == {"momentum", "step"} and both.state[hidden]["step"] == 0


def test_a_state_that_is_saved_and_loaded_goes_on_the_same():
    model = build_clip(CLIPConfig(vocab_size=300)).double()
    optimizer = make_optimizer(model, 1e-3, muon_lr=0.02)

    def step(model, optimizer, seed):
        for i, p in enumerate(model.parameters()):
            p.grad = random(*p.shape, seed=seed + i)
        optimizer.step()
        optimizer.zero_grad()

    step(model, optimizer, 0)
    twin = copy.deepcopy(model)
    resumed = make_optimizer(twin, 1e-3, muon_lr=0.02)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    step(model, optimizer, 1000)
    step(twin, resumed, 1000)
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(p, q)
    fresh = make_optimizer(copied := copy.deepcopy(model), 1e-3, muon_lr=0.02)
    step(model, optimizer, 2000)
    step(copied, fresh, 2000)
    assert_differ(model.image_tower.blocks[0].conv1.weight, copied.image_tower.blocks[0].conv1.weight)


def test_large_matrices_are_made_orthogonal_in_blocks_of_rows(monkeypatch):
    monkeypatch.setattr("minclip.muon.BLOCK", 2)
    weight = nn.Parameter(torch.zeros(4, 6, dtype=torch.float64))
    weight.grad = random(4, 6)
    Muon([{"params": [weight], "lr": 0.1, "momentum": 0.0, "weight_decay": 0.0}]).step()
    assert_close(weight.detach(), -0.1 * torch.cat([orthogonalize(rows) for rows in random(4, 6).split(2)]))
