import json

import pytest
import torch

from minclip.clip import CLIPConfig, build_clip
from minclip.data import load_pairs
from minclip.report import evaluate, names_without_skin_tones, search_samples, table, write_report
from minclip.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def untrained():
    torch.manual_seed(0)
    tokenizer = Tokenizer.train(["a red cat", "a blue dog"], 300)
    shape = CLIPConfig(
        image_tower="vit", image_size=16, patch_size=8, image_width=32, image_layers=(1,), text_width=32, text_layers=1,
        heads=2, embed_dim=16, vocab_size=300, context_length=48,
    )  # fmt: skip
    return build_clip(shape).eval(), tokenizer


@pytest.fixture(scope="module")
def scores(untrained):
    return evaluate(*untrained, "emoji")


def test_every_split_is_asked_among_the_right_names(scores):
    sizes = {split: (score["n_images"], score["n_classes"]) for split, score in scores.items()}
    assert sizes == {
        "in_distribution": (746, 1914),
        "fxemoji": (467, 1914),
        "openmoji": (1914, 1914),
        "held_out_compositions": (312, 3944),
    }


def test_an_untrained_model_is_at_chance(scores):
    assert all(score["top1"] < 0.01 and score["top5"] < 0.03 for score in scores.values())
    assert all(0 <= score["top1"] <= score["top5"] and "top1_without_flags" in score for score in scores.values())


def test_names_without_skin_tones_keep_everything_else():
    pairs = load_pairs("emoji", "fxemoji")
    names = names_without_skin_tones(pairs)
    assert len(names) == 1914 and len(set(names)) == 1914
    assert "waving hand" in names and "waving hand: light skin tone" not in names


def test_own_data_is_evaluated_on_its_test_split_by_its_labels(untrained, tmp_path):
    from conftest import images_column, write_parquet

    features = {"label": {"_type": "ClassLabel", "names": ["cat", "dog"]}}
    columns = {"image": images_column(6), "label": [0, 1] * 3}
    write_parquet(tmp_path / "train.parquet", columns, features)
    assert evaluate(*untrained, str(tmp_path)) == {}  # nothing to evaluate on: never the training split
    write_parquet(tmp_path / "test.parquet", columns, features)
    assert evaluate(*untrained, str(tmp_path))["test"]["n_images"] == 6


def test_metrics_are_written_last(untrained, tmp_path, monkeypatch):
    import minclip.report as module

    written = []
    write_json, save_figure = module.write_json, module.plots.save_figure
    monkeypatch.setattr(module, "write_json", lambda path, value: (written.append(path.name), write_json(path, value)))
    monkeypatch.setattr(module.plots, "save_figure", lambda f, path: (written.append(path.name), save_figure(f, path)))
    history = [{"step": 1, "loss": 2.0, "logit_scale": 14.0}]
    write_report(tmp_path, *untrained, None, history, {"loss_uninformed": 3.0})
    assert written == ["curves.png", "metrics.json"]  # without a dataset's name, no search
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"loss_uninformed": 3.0}
    assert (tmp_path / "curves.png").stat().st_size > 5_000


def test_search_sheet_has_ten_rows_of_five_and_the_licence(untrained):
    figure = search_samples(*untrained, "emoji")
    assert sum(bool(axes.images) for axes in figure.axes) == 50
    assert "OpenMoji (CC BY-SA 4.0)" in figure._supxlabel.get_text()


def test_table_has_a_row_a_split():
    score = {"top1": 0.123, "top5": 0.5, "n_images": 1914, "n_classes": 1914, "top1_without_flags": 0.2}
    lines = table({"zero_shot": {"openmoji": score}}).splitlines()
    assert lines[2] == "| openmoji | 12.3% | 20.0% | 50.0% | 0.05% | 1,914 | 1,914 |"
    assert len({line.count("|") for line in lines}) == 1
