"""`python -m minclip.zero_shot` on a folder of pictures, against the same by hand."""

import csv
import io
import math
import sys

import pytest
import torch
from conftest import assert_close, png

from minclip import search
from minclip.clip import CLIPConfig, build_clip
from minclip.runs import run_command
from minclip.tokenizer import Tokenizer
from minclip.zero_shot import class_probabilities, classify_folder, zero_shot_weights

NAMES = ["cat", "blue boat", "star"]


def small_model(loss: str):
    torch.manual_seed(0)
    config = CLIPConfig(
        "vit", loss, image_size=16, image_width=32, image_layers=(1,), context_length=12, vocab_size=300, text_width=32,
        text_layers=1, embed_dim=16,
    )  # fmt: skip
    model = build_clip(config)
    torch.nn.init.normal_(model.text_tower.token_embedding.weight)
    return model.eval()


@pytest.fixture
def folder(tmp_path):
    """Subfolders called like the names, up to `_`, `-` and capitals; and one that is called otherwise."""
    place = tmp_path / "pictures"
    for i in range(20):
        file = place / ("Cat", "blue_boat", "star", "other")[i % 4] / f"{i:02d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png(i))
    return place


@pytest.fixture
def call(folder, tmp_path, monkeypatch):
    """The command line on models of both losses, in a working folder of its own."""
    tokenizer = Tokenizer.train(["a photo of a cat", "a blue boat", "one small star"], 300)
    for loss in ("softmax", "sigmoid"):
        small_model(loss).save_pretrained(tmp_path / loss)
        tokenizer.save(tmp_path / loss / "tokenizer.json")
    monkeypatch.chdir(tmp_path)

    def run(*flags: str, loss: str = "softmax"):
        places = ["--model", loss, "--images", "pictures", "--index", "cache"]
        monkeypatch.setattr(sys, "argv", ["zero_shot", *places, *flags])
        run_command(classify_folder)

    run.tokenizer, run.folder = tokenizer, folder
    return run


def by_hand(call, loss: str, templates=("a photo of a {}",)):
    """(files, probabilities [N, C]) from the parts, written out."""
    model = small_model(loss)
    files, features = search.index_folder(model, "pictures", "another_cache")
    with torch.no_grad():
        cosines = features @ zero_shot_weights(model, call.tokenizer, NAMES, templates).T
    scale = math.exp(model.logit_scale.item())
    if loss == "softmax":
        return files, torch.softmax(scale * cosines, 1)
    return files, 1 / (1 + torch.exp(-(scale * cosines + model.logit_bias.item())))


def read_scores(printed: str) -> tuple[list[str], list[dict]]:
    rows = csv.DictReader(io.StringIO(printed, newline=""))
    return list(rows.fieldnames), list(rows)


def test_probabilities_are_those_of_the_loss():
    scores = torch.randn(7, 5, dtype=torch.float64)
    for loss in ("softmax", "sigmoid"):
        model = small_model(loss).double()
        torch.nn.init.constant_(model.logit_scale, math.log(3))
        if loss == "softmax":
            expected = (3 * scores).exp() / (3 * scores).exp().sum(1, keepdim=True)
        else:
            torch.nn.init.constant_(model.logit_bias, -2)
            expected = 1 / (1 + (2 - 3 * scores).exp())
        found = class_probabilities(model, scores)
        assert_close(found, expected)
        assert not found.requires_grad


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_the_csv_holds_what_the_parts_say(loss, call, capsys):
    (call.folder / "star" / 'odd, "quoted".png').write_bytes(png(50))
    call("--names", *NAMES, loss=loss)
    told = capsys.readouterr()
    files, expected = by_hand(call, loss)
    columns, rows = read_scores(told.out)
    assert columns == ["file", "best", *NAMES] and [row["file"] for row in rows] == [str(file) for file in files]
    found = torch.tensor([[float(row[name]) for name in NAMES] for row in rows])
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    assert [row["best"] for row in rows] == [NAMES[i] for i in expected.argmax(1).tolist()]
    assert f"21 pictures named, with the probabilities of {loss}" in told.err


def test_subfolders_called_like_the_names_give_the_accuracy(call, capsys):
    call("--names", *NAMES)
    told = capsys.readouterr().err
    files, expected = by_hand(call, "softmax")
    right = {"Cat": 0, "blue_boat": 1, "star": 2}
    hits = [right[f.parent.name] == i for f, i in zip(files, expected.argmax(1).tolist()) if f.parent.name in right]
    assert len(hits) == 15 and 0 < sum(hits) < 15
    assert f"{sum(hits) / 15:.1%} of 15 are in the subfolder of this name" in told
    call("--names", "some", "thing else")
    assert "subfolder" not in capsys.readouterr().err


def test_names_come_from_a_file_and_templates_count(call, tmp_path, capsys):
    (tmp_path / "names.txt").write_text("cat\n\nblue boat\nstar\n")
    templates = ("a {}", "one small {}")
    call("--names", "names.txt", "--templates", *templates)
    columns, rows = read_scores(capsys.readouterr().out)
    assert columns[2:] == NAMES
    found = torch.tensor([[float(row[name]) for name in NAMES] for row in rows])
    torch.testing.assert_close(found, by_hand(call, "softmax", templates)[1], atol=1e-6, rtol=0)


def test_the_index_is_that_of_search(call, monkeypatch):
    search.index_folder(small_model("softmax"), "pictures", "cache")
    monkeypatch.setattr(search, "embed_images", None)  # nothing is left to embed
    call("--names", *NAMES)


def test_bad_input_ends_the_command_with_one_clear_line(call):
    for flags, said in (
        (["--names", "cat", "--templates", "a thing"], "templates"),
        (["--names", "cat", " "], "blank"),
        (["--names", "missing.txt"], "missing.txt"),
    ):
        with pytest.raises(SystemExit, match=f"^error: .*{said}"):
            call(*flags)
