"""Locked-image tuning: what is locked stays as it was, and cached features are the tower's."""

from copy import deepcopy

import pytest
import torch
from conftest import assert_close, assert_differ
from torch import nn

from experiments.supervised import train_classifier, train_image_tower
from minclip.clip import CLIP
from minclip.data import Augmentation, BatchOrder, Pairs, augment, plain, step_generator
from minclip.lit import (
    DESIGNS,
    CachedImages,
    cached_image_features,
    lock,
    start_towers,
)
from minclip.optimizer import make_optimizer
from minclip.resnet import ResNet
from minclip.softmax_loss import softmax_loss
from minclip.towers import TextTransformer, VisionTransformer


def images(n: int = 12, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (n, 3, 16, 16), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def make_model(seed: int = 0) -> CLIP:
    torch.manual_seed(seed)
    model = CLIP(ResNet(16, width=16), TextTransformer(300, 8, 32, 1, 2), 24).double()
    with torch.no_grad():  # each block starts as its shortcut; for a test, let every layer matter
        for block in model.image_tower.blocks:
            block.norm3.weight.fill_(0.7)
    return model


def train(model: CLIP, steps: int = 3) -> None:
    optimizer = make_optimizer(model, 1e-2)
    ids = torch.randint(3, 300, (12, 8), generator=torch.Generator().manual_seed(1))
    ids[:, -1] = 2
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        softmax_loss(*model(plain(images(), 16).double(), ids)).backward()
        optimizer.step()


def changed(before: CLIP, after: CLIP) -> set[str]:
    """Names of the parameters and buffers that differ."""
    old = before.state_dict()
    return {name for name, tensor in after.state_dict().items() if not torch.equal(tensor, old[name])}


@pytest.mark.parametrize("projection", [True, False])
def test_locked_tower_neither_learns_nor_counts(projection):
    model = make_model()
    before = deepcopy(model)
    assert lock(model, projection) is model
    train(model)
    names = changed(before, model)
    assert not {name for name in names if name.startswith("image_tower")}  # neither weights nor batch statistics
    assert ("image_projection.weight" in names) == projection and "text_projection.weight" in names
    assert all(p.grad is None for p in model.image_tower.parameters())


def test_without_the_lock_weights_and_batch_statistics_move():
    model = make_model()
    before = deepcopy(model)
    train(model)
    names = changed(before, model)
    assert "image_tower.stem.0.weight" in names and "image_tower.stem.1.running_mean" in names


def test_a_copy_of_a_locked_model_is_locked():
    model = deepcopy(lock(make_model()))
    before = deepcopy(model)
    train(model, 1)
    assert not {name for name in changed(before, model) if name.startswith("image_tower")}
    assert not any(module.training for module in model.image_tower.modules())


def test_training_with_cached_features_is_training_with_the_locked_tower():
    whole = lock(make_model())
    features = cached_image_features(whole.image_tower, images(), 16)
    cached = CLIP(CachedImages(features.shape[1]), TextTransformer(300, 8, 32, 1, 2), 24).double()
    cached.load_state_dict({k: v for k, v in whole.state_dict().items() if not k.startswith("image_tower")})
    ids = torch.randint(3, 300, (12, 8), generator=torch.Generator().manual_seed(1))
    losses = []
    for model, pictures in ((whole, plain(images(), 16).double()), (cached, features)):
        optimizer = make_optimizer(model, 1e-2)
        model.train()
        for _ in range(3):
            optimizer.zero_grad()
            loss = softmax_loss(*model(pictures, ids))
            loss.backward()
            optimizer.step()
        losses.append(loss)
    assert_close(*losses)
    assert_close(whole.text_projection.weight, cached.text_projection.weight)


@pytest.mark.parametrize("batch_size", [1, 5, 256])
def test_cached_features_are_the_towers(batch_size):
    tower = make_model().image_tower
    train(make_model(), 1)
    tower.train()
    features = cached_image_features(tower, images(), 16, batch_size)
    assert tower.training and not features.requires_grad
    tower.eval()
    assert_close(features, tower(plain(images(), 16).double()).detach())
    assert features.shape == (12, tower.output_dim) and features.dtype == torch.float64


def test_cached_features_resize_the_pictures():
    tower = VisionTransformer(8, 4, 32, 1, 2).double()
    features = cached_image_features(tower, images(), 8)
    assert_close(features, tower(plain(images(), 8).double()).detach())


def colours(n: int = 64) -> Pairs:
    """Eight classes: the corners of the colour cube."""
    labels = torch.arange(n) % 8
    bits = torch.stack([labels & 1, labels >> 1 & 1, labels >> 2 & 1], 1) * 200 + 20
    pictures = bits[:, :, None, None].expand(-1, -1, 16, 16).to(torch.uint8)
    return Pairs(pictures, [["a colour"]] * n, labels, [f"colour {i}" for i in range(8)], torch.arange(n))


SMALL = {"image_size": 16, "width": 16, "batch_size": 32}


def test_trained_tower_knows_the_labels_and_a_fresh_one_the_background():
    pairs = colours(256)  # the label's colour in the middle of a random one
    generator = torch.Generator().manual_seed(0)
    middle = pairs.images[:, :, 5:11, 5:11]
    background = torch.randint(0, 256, (256, 3, 1, 1), generator=generator, dtype=torch.uint8)
    pairs.images = background.expand(-1, -1, 16, 16).clone()
    pairs.images[:, :, 5:11, 5:11] = middle

    def same_class_nearest(tower) -> float:
        features = cached_image_features(tower, pairs.images, 16)
        features = torch.nn.functional.normalize(features - features.mean(0), dim=1)
        similarity = (features @ features.T).fill_diagonal_(-2)
        return (pairs.labels[similarity.argmax(1)] == pairs.labels).double().mean().item()

    fresh, trained = (same_class_nearest(train_image_tower(pairs, steps=steps, **SMALL)) for steps in (1, 60))
    assert fresh < 0.65 and trained > 0.8


def test_supervised_loss_reaches_the_tower():
    pairs = colours()
    one, two = (train_image_tower(pairs, steps=steps, **SMALL) for steps in (1, 6))
    assert_differ(one.stem[0].weight, two.stem[0].weight)


def test_same_seed_same_tower_and_no_one_elses_random_numbers():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first, again, other = (train_image_tower(colours(), steps=3, seed=seed, **SMALL) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(3), expected)
    assert not first.training and first.output_dim == 256
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), again.state_dict().values()))
    assert_differ(first.stem[0].weight, other.stem[0].weight)


def test_pairs_without_labels_cannot_train_a_tower():
    pairs = colours()
    pairs.labels[3] = -1
    with pytest.raises(ValueError, match=r"labels\[3\] is -1, outside \[0, 8\); leave such rows out"):
        train_image_tower(pairs, steps=1, **SMALL)


@pytest.mark.parametrize("design", DESIGNS)
def test_letters_say_where_the_tower_comes_from_and_whether_it_learns(design):
    model, trained = make_model(0), make_model(1).image_tower
    train(make_model(1), 1)
    fresh = deepcopy(model)
    assert start_towers(model, design, trained) is model
    source = fresh.image_tower if design == "uu" else trained
    assert_differ(fresh.image_tower.stem[0].weight, trained.stem[0].weight)
    for name, value in model.image_tower.state_dict().items():
        assert torch.equal(value, source.state_dict()[name]), name
    assert not {name for name in changed(fresh, model) if not name.startswith("image_tower")}  # nothing else
    before, tower_before = deepcopy(model), deepcopy(trained.state_dict())
    train(model)
    names = changed(before, model)
    assert ("image_tower.stem.0.weight" in names) == ("image_tower.stem.1.running_mean" in names) == (design != "Lu")
    assert "text_projection.weight" in names and "image_projection.weight" in names
    assert all(torch.equal(value, tower_before[name]) for name, value in trained.state_dict().items())  # a copy learns


def test_start_towers_names_the_bad_input():
    with pytest.raises(ValueError, match="unknown design 'LU'; choose from Lu, Uu, uu"):
        start_towers(make_model(), "LU", make_model().image_tower)
    for design in ("Lu", "Uu"):
        with pytest.raises(
            ValueError, match=r"stem.0.weight is \[8, 3, 3, 3\] in the first and \[12, 3, 3, 3\] in the"
        ):
            start_towers(make_model(), design, ResNet(16, width=24))
    start_towers(make_model(), "uu", ResNet(16, width=24))  # which takes nothing from it


def textbook_tower(pairs, steps, seed):
    """How the committed towers were trained, before `train_classifier` was a function of its own."""
    torch.manual_seed(seed)
    tower = ResNet(16, width=16)
    model = nn.Sequential(tower, nn.Linear(tower.output_dim, 8)).to(memory_format=torch.channels_last).train()
    groups = [
        {"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps, pct_start=0.15)
    order = BatchOrder(torch.arange(len(pairs)), 32, seed)
    for step in range(steps):
        rows = order.indices(step)
        draw = torch.rand(len(rows), 16, generator=step_generator(seed, 3, step), dtype=torch.float64)
        pictures = augment(pairs.images[rows], 16, draw, Augmentation()).contiguous(memory_format=torch.channels_last)
        loss = nn.functional.cross_entropy(model(pictures), pairs.labels[rows], label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model


def test_the_towers_of_committed_results_stay_what_they_were():
    expected = textbook_tower(colours(), 4, seed=3)
    classifier = train_classifier(colours(), steps=4, seed=3, **SMALL)
    tower = train_image_tower(colours(), steps=4, seed=3, **SMALL)
    assert not classifier.training and not tower.training and not classifier[0].training
    for name, value in expected.state_dict().items():
        assert torch.equal(classifier.state_dict()[name], value), name
    for name, value in expected[0].state_dict().items():
        assert torch.equal(tower.state_dict()[name], value), name


def test_classifier_learns_to_name_the_pictures():
    pairs = colours()
    right = [
        (train_classifier(pairs, steps=steps, **SMALL)(plain(pairs.images, 16)).argmax(1) == pairs.labels)
        .double()
        .mean()
        for steps in (1, 60)
    ]
    assert right[0] < 0.5 and right[1] > 0.8
