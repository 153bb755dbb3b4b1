import io
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import images_column, png, write_parquet
from PIL import Image

from minclip import sources

CIFAR10 = Path(__file__).resolve().parents[2] / "shared/data/cifar10"


def test_transparent_pictures_are_laid_on_white():
    out = io.BytesIO()
    Image.new("RGBA", (8, 8), (200, 0, 0, 0)).save(out, "png")
    assert (sources.decode_images([out.getvalue()], "here") == 255).all()


def test_decoding_gives_the_pixels_back():
    pixels = np.asarray(Image.open(io.BytesIO(png(3))))
    assert torch.equal(sources.decode_images([png(3)], "here")[0], torch.tensor(pixels).permute(2, 0, 1))


def test_an_unreadable_image_is_named():
    with pytest.raises(ValueError, match="somewhere: the image in row 1 cannot be read"):
        sources.decode_images([png(0), b"not a picture"], "somewhere")


def test_pictures_of_other_shapes_are_resized_and_cropped():
    out = io.BytesIO()
    Image.new("RGB", (40, 20), (10, 20, 30)).save(out, "png")
    image = sources.decode_images([out.getvalue()], "here", 16)
    assert image.shape == (1, 3, 16, 16) and image[0, :, 5, 5].tolist() == [10, 20, 30]


def test_resizing_is_anti_aliased():
    stripes = torch.zeros(3, 64, 64, dtype=torch.uint8)
    stripes[:, :, ::2] = 255  # one pixel wide: without anti-aliasing every second column would win
    small = sources.resize_and_crop(stripes, 16).float()
    assert (small - 127.5).abs().max() < 40


def test_emoji_captions_begin_with_the_name_and_do_not_repeat_it():
    assert sources.emoji_captions("red heart", ["heart", "love"])[0] == "red heart"
    assert all("heart, heart" not in text for text in sources.emoji_captions("red heart", ["heart", "love"]))
    assert "love" in sources.emoji_captions("red heart", ["heart", "love"])[-1]


def test_labels_become_names_and_captions(tmp_path):
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["polar_bear", "cup"]}}
    write_parquet(tmp_path / "test.parquet", {"image": images_column(3), "label": [1, 0, 1]}, features)
    columns = sources.load_parquet(tmp_path, "test")
    assert columns["class_names"] == ["polar bear", "cup"] and columns["labels"] == [1, 0, 1]
    assert columns["captions"] == [["a photo of a cup"], ["a photo of a polar bear"], ["a photo of a cup"]]
    assert columns["groups"] == [0, 1, 0]  # the same caption is the same group


def test_captions_may_be_several(tmp_path):
    write_parquet(tmp_path / "train.parquet", {"image": images_column(2), "captions": [["a cat", "a pet"], ["a cup"]]})
    assert sources.load_parquet(tmp_path, "train")["captions"] == [["a cat", "a pet"], ["a cup"]]


@pytest.mark.parametrize("empty", ["", "  ", None])
def test_an_empty_caption_is_named(tmp_path, empty):
    write_parquet(tmp_path / "train.parquet", {"image": images_column(2), "text": ["a cat", empty]})
    with pytest.raises(ValueError, match="caption in row 1 is empty"):
        sources.load_parquet(tmp_path, "train")


def test_missing_columns_and_splits_are_named(tmp_path):
    write_parquet(tmp_path / "train.parquet", {"image": images_column(1), "size": [3]})
    with pytest.raises(ValueError, match="'size'"):
        sources.load_parquet(tmp_path, "train")
    with pytest.raises(FileNotFoundError, match="splits found: \\['train'\\]"):
        sources.load_parquet(tmp_path, "validation")


def test_a_split_is_not_found_by_the_beginning_of_its_name(tmp_path):
    write_parquet(tmp_path / "training_notes.parquet", {"image": images_column(1), "text": ["x"]})
    with pytest.raises(FileNotFoundError, match="'train'"):
        sources.load_parquet(tmp_path, "train")


def test_a_broken_file_is_named(tmp_path):
    (tmp_path / "train.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(ValueError, match="train.parquet cannot be read as parquet"):
        sources.load_parquet(tmp_path, "train")


def test_emoji_missing_data_and_unknown_split(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not hold train.parquet"):
        sources.load_emoji("train", tmp_path)
    with pytest.raises(ValueError, match="no split 'validation'"):
        sources.load_emoji("validation")


@pytest.mark.skipif(not CIFAR10.exists(), reason="CIFAR-10 is not beside this checkout (../shared/data/cifar10)")
def test_cifar10_in_the_layout_of_the_hub():
    columns = sources.load_parquet(CIFAR10, "test")
    assert columns["images"].shape == (10_000, 3, 32, 32) and len(columns["class_names"]) == 10
    assert columns["class_names"][0] == "airplane" and np.bincount(columns["labels"]).tolist() == [1000] * 10
