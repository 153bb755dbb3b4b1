import math

import pytest

from minclip.clip import CLIPConfig, build_clip
from minclip.muon import Muon
from minclip.optimizer import make_optimizer, set_learning_rate


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_decay_and_learning_rates(loss):
    model = build_clip(CLIPConfig(loss=loss, vocab_size=300))
    optimizer = make_optimizer(model, 1e-2, weight_decay=0.3, scalar_lr_factor=7)
    group_of = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    assert len(group_of) == len(list(model.parameters()))
    rate = set_learning_rate(optimizer, 1e-2, 30, warmup_steps=10, max_steps=100)
    assert rate == pytest.approx(1e-2 * 0.5 * (1 + math.cos(math.pi * 0.3)))
    for name, parameter in model.named_parameters():
        group = group_of[id(parameter)]
        assert group["weight_decay"] == (0.3 if parameter.ndim >= 2 else 0.0), name
        assert group["lr"] == pytest.approx(rate * (7 if name in ("logit_scale", "logit_bias") else 1)), name


def test_warm_up_is_linear_and_the_end_is_near_zero():
    optimizer = make_optimizer(build_clip(CLIPConfig(vocab_size=300)), 1.0)
    rates = [set_learning_rate(optimizer, 1.0, step, warmup_steps=10, max_steps=1000) for step in range(1000)]
    assert rates[0] == pytest.approx(0.1) and rates[4] == pytest.approx(0.5, rel=1e-3)
    assert max(rates) == max(rates[8:12]) and rates[-1] < 1e-5


def test_muon_has_the_layers_weights_and_no_embedding():
    model = build_clip(CLIPConfig(loss="sigmoid", vocab_size=300))
    optimizer = make_optimizer(model, 1e-3, weight_decay=0.3, muon_lr=0.02)
    assert isinstance(optimizer, Muon) and not isinstance(make_optimizer(model, 1e-3), Muon)
    group_of = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    assert len(group_of) == len(list(model.parameters()))
    set_learning_rate(optimizer, 1e-3, 30, warmup_steps=10, max_steps=100)
    for name, parameter in model.named_parameters():
        group = group_of[id(parameter)]
        assert ("momentum" in group) == (parameter.ndim >= 2 and "embedding" not in name), name
        share = 0.3 * optimizer.param_groups[0]["lr"] if parameter.ndim >= 2 else 0.0  # of a weight, lost in a step
        assert group["lr"] * group["weight_decay"] == pytest.approx(share), name
    assert optimizer.param_groups[-1]["lr"] == pytest.approx(20 * optimizer.param_groups[0]["lr"])
