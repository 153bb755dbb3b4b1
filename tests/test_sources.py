import io
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import images_column, png, write_parquet
from PIL import Image

from minclip import sources
from minclip.own_data import open_own_data
from minclip.sources import PLAIN, collect, decode_picture


def load_own_data(path, split="train", reading=PLAIN) -> dict:
    source = open_own_data(path, split, reading)
    return collect(source.rows(), source.where, None, source.class_names)


CIFAR10 = Path(__file__).resolve().parents[2] / "shared/data/cifar10"


def test_transparent_pictures_are_laid_on_white():
    out = io.BytesIO()
    Image.new("RGBA", (8, 8), (200, 0, 0, 0)).save(out, "png")
    assert (decode_picture(out.getvalue()) == 255).all()


def test_decoding_gives_the_pixels_back():
    pixels = np.asarray(Image.open(io.BytesIO(png(3))))
    assert torch.equal(decode_picture(png(3)), torch.tensor(pixels).permute(2, 0, 1))


def test_pictures_of_other_shapes_are_cropped_and_resized():
    out = io.BytesIO()
    picture = Image.new("RGB", (40, 20), "white")
    picture.paste((10, 20, 30), (10, 0, 30, 20))  # the centre square
    picture.save(out, "png")
    image = sources.decode_picture(out.getvalue(), 16)
    assert image.shape == (3, 16, 16) and (image == torch.tensor([10, 20, 30])[:, None, None]).all()


def test_resizing_is_anti_aliased():
    stripes = torch.zeros(3, 64, 64, dtype=torch.uint8)
    stripes[:, :, ::4] = 255  # without anti-aliasing each pixel would be made from the black columns between
    small = sources.resize(stripes, 16).float()
    assert (small[:, :, 2:-2] - 63.75).abs().max() < 5


def test_emoji_captions_begin_with_the_name_and_do_not_repeat_it():
    assert sources.emoji_captions("red heart", ["heart", "love"])[0] == "red heart"
    assert all("heart, heart" not in text for text in sources.emoji_captions("red heart", ["heart", "love"]))
    assert "love" in sources.emoji_captions("red heart", ["heart", "love"])[-1]


def test_labels_become_names_and_captions(tmp_path):
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["polar_bear", "cup"]}}
    write_parquet(tmp_path / "test.parquet", {"image": images_column(3), "label": [1, 0, 1]}, features)
    columns = load_own_data(tmp_path, "test")
    assert columns["class_names"] == ["polar bear", "cup"] and columns["labels"] == [1, 0, 1]
    assert columns["captions"] == [["a photo of a cup"], ["a photo of a polar bear"], ["a photo of a cup"]]
    assert columns["groups"] == [0, 1, 0]  # the same caption is the same group


def test_captions_may_be_several(tmp_path):
    write_parquet(tmp_path / "train.parquet", {"image": images_column(2), "captions": [["a cat", "a pet"], ["a cup"]]})
    assert load_own_data(tmp_path, "train")["captions"] == [["a cat", "a pet"], ["a cup"]]


@pytest.mark.parametrize("empty", ["", "  ", None, []])
def test_an_empty_caption_is_skipped_and_named(tmp_path, empty):
    captions = [["a cat"], empty if empty == [] else [empty], ["", "a cup"]]
    write_parquet(tmp_path / "train.parquet", {"image": images_column(3), "text": captions})
    columns = load_own_data(tmp_path)
    assert columns["captions"] == [["a cat"], ["a cup"]] and len(columns["images"]) == 2
    assert columns["skipped"] == ["train.parquet row 1: the caption is empty or no text"]


def test_missing_columns_and_splits_are_named(tmp_path):
    write_parquet(tmp_path / "train.parquet", {"image": images_column(1), "size": [3]})
    with pytest.raises(ValueError, match="'size'"):
        load_own_data(tmp_path, "train")
    with pytest.raises(FileNotFoundError, match="splits found: \\['train'\\]"):
        load_own_data(tmp_path, "validation")


def test_a_split_is_not_found_by_the_beginning_of_its_name(tmp_path):
    for name in ("training_notes", "test"):
        write_parquet(tmp_path / f"{name}.parquet", {"image": images_column(1), "text": ["x"]})
    with pytest.raises(FileNotFoundError, match="'train'.*\\['test'\\]"):
        load_own_data(tmp_path, "train")


def test_files_without_a_split_are_train(tmp_path):
    write_parquet(tmp_path / "pictures.parquet", {"image": images_column(1), "text": ["x"]})
    for path in (tmp_path, tmp_path / "pictures.parquet"):
        assert load_own_data(path, "train")["captions"] == [["x"]]
        with pytest.raises(FileNotFoundError, match="\\['train'\\]"):
            load_own_data(path, "test")


def test_one_file_is_train_whatever_its_name_and_the_split_of_its_name(tmp_path):
    write_parquet(tmp_path / "test.parquet", {"image": images_column(1), "text": ["x"]})
    for split in ("train", "test"):
        assert load_own_data(tmp_path / "test.parquet", split)["captions"] == [["x"]]
    with pytest.raises(FileNotFoundError, match="'validation'"):
        load_own_data(tmp_path / "test.parquet", "validation")


def test_a_split_may_be_a_folder(tmp_path):
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        write_parquet(tmp_path / split / "0.parquet", {"image": images_column(1), "text": [split]})
    assert load_own_data(tmp_path, "test")["captions"] == [["test"]]
    assert load_own_data(tmp_path, "train")["captions"] == [["train"]]


def test_labels_without_a_class_are_skipped_and_without_names_numbered(tmp_path):
    columns = {"image": images_column(4), "label": [2, -1, 10**12, None]}
    write_parquet(tmp_path / "train.parquet", columns)
    loaded = load_own_data(tmp_path)
    assert loaded["class_names"] == ["0", "1", "2"] and loaded["captions"] == [["a photo of a 2"]]
    assert len(loaded["skipped"]) == 3 and "label is none of the 100,000 classes" in loaded["skipped"][0]
    write_parquet(tmp_path / "train.parquet", {**columns, "text": ["a", "b", "c", "d"]})
    assert load_own_data(tmp_path)["labels"] == [2, -1, -1, -1]  # a caption needs no class


def test_a_broken_file_is_named(tmp_path):
    (tmp_path / "train.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(ValueError, match="train.parquet cannot be read"):
        load_own_data(tmp_path, "train")


def test_emoji_missing_data_and_unknown_split(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not hold train.parquet"):
        sources.load_emoji("train", tmp_path)
    with pytest.raises(ValueError, match="no split 'validation'"):
        sources.load_emoji("validation")


@pytest.mark.skipif(not CIFAR10.exists(), reason="CIFAR-10 is not beside this checkout (../shared/data/cifar10)")
def test_cifar10_in_the_layout_of_the_hub():
    columns = load_own_data(CIFAR10, "test")
    assert columns["images"].shape == (10_000, 3, 32, 32) and len(columns["class_names"]) == 10
    assert columns["class_names"][0] == "airplane" and np.bincount(columns["labels"]).tolist() == [1000] * 10
