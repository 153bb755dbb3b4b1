"""CIFAR-10 by the CLIPs of drawings: what is measured, on pictures and models made up here."""

import sys

import pytest
import torch

from experiments import photographs
from minclip.clip import CLIPConfig, build_clip
from minclip.data import Pairs
from minclip.resnet import ResNet
from minclip.tokenizer import Tokenizer


@pytest.fixture
def tiny(monkeypatch):
    """Fresh towers in place of the kept ones; three classes told apart by their colour alone."""
    names = ["red thing", "green thing", "blue thing"]
    tokenizer = Tokenizer.train(names, 300)
    torch.manual_seed(0)
    shape = CLIPConfig("resnet", image_size=16, image_width=4, context_length=24, vocab_size=300, embed_dim=16)
    model = build_clip(shape).eval()
    monkeypatch.setattr(photographs, "pretrained_clip", lambda setting, seed: model)
    monkeypatch.setattr(photographs, "labelled_tower", lambda width, steps, seed: ResNet(16, width=4).eval())
    monkeypatch.setattr(photographs, "tokenised", lambda: (tokenizer, None))
    monkeypatch.setattr(photographs, "TRAIN", 30)
    monkeypatch.setattr(photographs, "VALIDATION", 12)

    def pairs(n: int, seed: int) -> Pairs:
        generator = torch.Generator().manual_seed(seed)
        labels = torch.arange(n) % 3
        images = torch.randint(0, 60, (n, 3, 16, 16), generator=generator, dtype=torch.uint8)
        images[torch.arange(n), labels] += 150
        return Pairs(images, [[names[y]] for y in labels.tolist()], labels, names, labels)

    return pairs


def test_probes_learn_what_can_be_seen_and_zero_shot_is_what_the_model_says(tiny):
    found = photographs.measure(tiny(60, 0), tiny(30, 1), seed=0)
    assert found.keys() == {"zero", "probe", "labelled", "pixels"}
    assert found["pixels"] == 1 and found["zero"] < 1 and all(0 <= value <= 1 for value in found.values())
    shuffled = tiny(60, 0)
    shuffled.labels = shuffled.labels[torch.randperm(60, generator=torch.Generator().manual_seed(3))]
    assert photographs.measure(shuffled, tiny(30, 1), seed=0)["pixels"] < 0.9


def test_a_missing_folder_is_said(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["photographs"])
    with pytest.raises(SystemExit, match="say where CIFAR-10 is"):
        photographs.main()
