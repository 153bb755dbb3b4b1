"""Data sets by name, columns and templates: on local files in the hub's layout; the hub itself is not asked."""

import json
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
import torch
from conftest import images_column, png, write_parquet

from minclip import hub_data
from minclip.batches import fair_groups
from minclip.data import Pairs, load_pairs
from minclip.hub_data import RECIPES, completed
from minclip.report import evaluate
from minclip.sources import PLAIN, Reading, decode_picture

ROOT = Path(__file__).resolve().parents[1]
CLASSES = {"_type": "ClassLabel", "names": ["traffic_light", "cup"]}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """`load_dataset` finds each repository as a folder of parquet, and notes what it was asked for."""
    asked, real = [], datasets.load_dataset

    def load_dataset(name, config=None, data_dir=None, data_files=None, split=None, streaming=False):
        if name in ("parquet", "webdataset"):
            return real(name, data_files=data_files, split=split, streaming=streaming)
        asked.append((name, config, split, streaming))
        folder = tmp_path / name.replace("/", "--")
        files = {p.name.split("-")[0]: [] for p in sorted(folder.glob("*.parquet"))}
        for file in sorted(folder.glob("*.parquet")):
            files[file.name.split("-")[0]].append(str(file))
        if not files:
            raise ConnectionError("Couldn't reach the hub")
        return real("parquet", data_files=files, split=split, streaming=streaming)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    return tmp_path, asked


def publish(hub, name: str, columns: dict, features: dict | None = None, split: str = "train", shard: int = 0) -> None:
    folder = hub[0] / name.replace("/", "--")
    folder.mkdir(exist_ok=True)
    write_parquet(folder / f"{split}-{shard}.parquet", columns, features)


@pytest.mark.parametrize("streaming", [False, True])
def test_a_data_set_of_the_hub_is_read_by_name(hub, streaming):
    for shard in (0, 1):
        columns = {"image": images_column(3), "text": ["a cat", "a dog", f"shard {shard}"]}
        publish(hub, "me/pets", columns, shard=shard)
    pairs = load_pairs("me/pets:small", "train", None, Reading(streaming=streaming))
    assert [texts[0] for texts in pairs.captions] == ["a cat", "a dog", "shard 0", "a cat", "a dog", "shard 1"]
    assert torch.equal(pairs.images[1], decode_picture(png(1))) and not pairs.skipped
    assert hub[1] == [("me/pets", "small", "train", streaming)]
    source = hub_data.open_data("me/pets", "train", Reading(streaming=streaming))
    assert len(source.parts) == (2 if streaming else 1)


@pytest.mark.parametrize("streaming", [False, True])
def test_a_recipe_names_columns_and_templates_and_flags_go_before_it(hub, streaming):
    names = [f"class_{i}" for i in range(100)]
    features = {"img": {"_type": "Image"}, "fine_label": {"_type": "ClassLabel", "names": names}}
    features["coarse_label"] = CLASSES
    columns = {"img": images_column(2), "fine_label": [7, 99], "coarse_label": [0, 1]}
    publish(hub, "uoft-cs/cifar100", columns, features)
    pairs = load_pairs("cifar100", "train", None, Reading(streaming=streaming))
    assert pairs.class_names == [f"class {i}" for i in range(100)] and pairs.labels.tolist() == [7, 99]
    assert pairs.captions[0] == [t.format("class 7") for t in RECIPES["cifar100"]["reading"]["templates"]]
    other = Reading(label_column="coarse_label", templates=("a {}",), streaming=streaming)
    assert load_pairs("cifar100", "train", None, other).captions == [["a traffic light"], ["a cup"]]


def test_a_recipe_may_call_its_splits_otherwise(hub):
    columns = {"image": images_column(2), "caption": [["one", "two"], ["three"]], "filename": ["a", "b"]}
    publish(hub, "lmms-lab/flickr30k", columns, split="test")
    assert load_pairs("flickr30k").captions == [["one", "two"], ["three"]]
    with pytest.raises(FileNotFoundError, match="split 'test'"):
        load_pairs("flickr30k", "test")


def test_every_recipe_is_whole_and_the_table_shows_it():
    for recipe in RECIPES.values():
        reading = Reading(**recipe["reading"])
        assert reading.image_column and bool(reading.caption_column) != bool(reading.label_column)
        assert all("{}" in template for template in reading.templates)
        assert recipe["pairs"] > 0 and recipe["terms"] and recipe["repository"].count("/") == 1
    done = subprocess.run([sys.executable, "-m", "minclip.hub_data"], cwd=ROOT, capture_output=True, text=True)
    assert all(f"| {name} | {recipe['repository']} |" in done.stdout for name, recipe in RECIPES.items())
    assert completed("a/b", PLAIN) == PLAIN and completed("cifar10", Reading(window=3)).window == 3


def test_without_a_network_the_error_says_how_to_use_a_copy(hub):
    with pytest.raises(FileNotFoundError, match="Couldn't reach.*hf download me/none.*--data FOLDER.*cifar10"):
        load_pairs("me/none")
    with pytest.raises(FileNotFoundError, match="hf download uoft-cs/cifar10"):
        load_pairs("cifar10")


def test_a_split_that_is_not_there_is_a_missing_file(hub):
    publish(hub, "me/pets", {"image": images_column(1), "text": ["a"]})
    with pytest.raises(FileNotFoundError, match="split 'test'"):
        load_pairs("me/pets", "test")


def test_missing_columns_list_those_there(hub, tmp_path):
    publish(hub, "me/pets", {"image": images_column(1), "words": ["a"], "size": [3]})
    with pytest.raises(ValueError, match="me/pets has columns \\['image', 'words', 'size'\\].*--caption_column"):
        load_pairs("me/pets")
    assert load_pairs("me/pets", "train", None, Reading(caption_column="words")).captions == [["a"]]
    with pytest.raises(ValueError, match="has columns"):
        load_pairs("me/pets", "train", None, Reading(caption_column="word"))
    with pytest.raises(ValueError, match="has columns"):
        load_pairs("me/pets", "train", None, Reading(caption_column="words", label_column="class"))


def test_pictures_elsewhere_are_not_opened(hub):
    secret = hub[0] / "secret.png"
    secret.write_bytes(png(0))
    publish(hub, "me/pets", {"image": [*images_column(1), {"bytes": None, "path": str(secret)}], "text": ["a", "b"]})
    with pytest.warns(UserWarning, match="got NoneType"):
        assert load_pairs("me/pets").captions == [["a"]]


def test_remote_shards_are_read_by_datasets(hub, tmp_path):
    import io
    import tarfile

    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        for i in range(3):
            for name, content in ((f"{i}.png", png(i)), (f"{i}.txt", f"picture {i}".encode())):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    pairs = load_pairs(f"file://{tmp_path / 's.tar'}", "train", None, Reading(streaming=True))
    assert pairs.captions == [["picture 0"], ["picture 1"], ["picture 2"]]
    assert torch.equal(pairs.images[2], decode_picture(png(2)))


def test_a_shard_damaged_halfway_is_an_error_that_names_it(hub, monkeypatch):
    for shard in (0, 1):
        publish(hub, "me/pets", {"image": images_column(3), "text": list("abc")}, shard=shard)
    source = hub_data.open_data("me/pets", "train", Reading(streaming=True))
    file = hub[0] / "me--pets/train-1.parquet"
    file.write_bytes(file.read_bytes()[:-30])
    assert len(list(source.parts[0]())) == 3
    with pytest.raises(ValueError, match="me/pets shard 1 cannot be read"):
        list(source.parts[1]())


# Tables, folders of classes, templates


def pictures(folder, names) -> None:
    for i, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png(i))


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl"])
def test_tables_may_have_columns_of_any_name_and_labels(tmp_path, kind):
    pictures(tmp_path, ("0.png", "1.png"))
    rows = [
        {"Where": "0.png", "What": "a cat", "Kind": "tabby_cat"},
        {"Where": "1.png", "What": "a dog", "Kind": "dog"},
    ]
    comma = "," if kind == "csv" else "\t"
    lines = [comma.join(rows[0]), *(comma.join(row.values()) for row in rows)]
    text = "\n".join(map(json.dumps, rows) if kind == "jsonl" else lines)
    (tmp_path / f"pets.{kind}").write_text(text)
    said = Reading(image_column="Where", caption_column="What")
    assert load_pairs(tmp_path, "train", None, said).captions == [["a cat"], ["a dog"]]
    pairs = load_pairs(tmp_path, "train", None, Reading("Where", "", "Kind", ("a {}", "the {}")))
    assert pairs.captions == [["a tabby cat", "the tabby cat"], ["a dog", "the dog"]]
    assert pairs.class_names == ["dog", "tabby cat"] and pairs.labels.tolist() == [1, 0]
    both = load_pairs(tmp_path, "train", None, Reading("Where", "What", "Kind"))
    assert both.captions == [["a cat"], ["a dog"]] and both.labels.tolist() == [1, 0]
    with pytest.raises(ValueError, match="has columns \\['where', 'what', 'kind'\\]|columns \\['where'"):
        load_pairs(tmp_path)


def test_folders_named_like_classes(tmp_path):
    pictures(tmp_path, ("train/red_panda/a.png", "train/cat/a.png", "train/cat/b.jpg", "test/cat/a.png"))
    pairs = load_pairs(tmp_path)
    assert pairs.class_names == ["cat", "red panda"] and pairs.labels.tolist() == [0, 0, 1]
    assert pairs.captions[2] == ["a photo of a red panda"] and len(load_pairs(tmp_path, "test")) == 1
    pictures(tmp_path, ("train/lost.png",))
    with pytest.warns(UserWarning, match="lost.png: it has neither a .txt beside it nor a folder"):
        assert len(load_pairs(tmp_path)) == 3


def test_a_caption_column_of_any_name_in_the_json_of_a_shard(tmp_path):
    import io
    import tarfile

    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        for name, content in (("0.png", png(0)), ("0.json", b'{"alt": "in the json"}')):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    assert load_pairs(tmp_path, "train", None, Reading(caption_column="Alt")).captions == [["in the json"]]


def test_a_limit_reads_no_more_rows(tmp_path):
    images = [*images_column(4), *[{"bytes": b"none", "path": None}] * 20]
    write_parquet(tmp_path / "train.parquet", {"image": images, "text": ["x"] * 24})
    assert len(load_pairs(tmp_path, "train", None, PLAIN, 4)) == 4


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_change_nothing_but_the_time(tmp_path, workers):
    sizes = (16, 40, 9, 24, 16, 16, 33, 16)
    images = [{"bytes": png(i, size), "path": None} for i, size in enumerate(sizes)]
    images.insert(3, {"bytes": b"none", "path": None})
    write_parquet(tmp_path / "train.parquet", {"image": images, "text": list("abcdefghi")})
    with pytest.warns(UserWarning, match="row 3"):
        pairs = load_pairs(tmp_path, "train", None, Reading(workers=workers))
    assert [texts[0] for texts in pairs.captions] == list("abcefghi")
    expected = [decode_picture(png(i, size), 16) for i, size in enumerate(sizes)]
    assert torch.equal(pairs.images, torch.stack(expected))


def labelled(labels, groups) -> Pairs:
    n = len(labels)
    return Pairs(torch.zeros(n, 3, 8, 8, dtype=torch.uint8), [["x"]] * n, torch.tensor(labels), ["a", "b"], groups)


def test_only_where_captions_name_a_class_alone_may_they_repeat_in_a_batch():
    labels = [0, 1, 0, 1]
    with pytest.warns(UserWarning, match="captions name 2 classes only"):
        assert fair_groups(labelled(labels, [5, 3, 5, 3]), 4).tolist() == [0, 1, 2, 3]
    for pairs, batch_size in (
        (labelled(labels, [5, 3, 5, 3]), 2),  # fits
        (labelled(labels, [5, 3, 5, 3]), 5),  # more than there are
        (labelled(labels, [0, 1, 2, 1]), 4),  # captions say more
        (labelled([-1, -1, 0, 1], [0, 1, 0, 1]), 4),  # no classes
        (labelled([0, 0, 0, 0], [0, 1, 0, 1]), 4),
        (labelled([-1, -1, -1, -1], [3, 3, 3, 3]), 4),  # one caption of no class
        (labelled([0, 0, 1, 1], [0, 1, 0, 1]), 4),  # as many captions as classes, but not theirs
    ):
        assert fair_groups(pairs, batch_size) is pairs.groups


def test_the_test_split_is_classified_with_the_templates(hub, monkeypatch):
    from minclip import report

    features = {"img": {"_type": "Image"}, "label": CLASSES}
    publish(hub, "uoft-cs/cifar10", {"img": images_column(2), "label": [0, 1]}, features, "test")
    given = []
    monkeypatch.setattr(report, "evaluate_zero_shot", lambda *about: given.append(about) or {"top1": 1.0})

    class Model:
        class config:
            image_size = 16

    assert evaluate(Model, None, "cifar10") == {"test": {"top1": 1.0}}
    _, _, pairs, names, _, templates = given[0]
    assert names == ["traffic light", "cup"] and list(templates) == RECIPES["cifar10"]["reading"]["templates"]
    evaluate(Model, None, "cifar10", Reading(templates=("my {}",)))
    assert given[1][5] == ("my {}",)


def test_a_label_column_that_is_asked_for_goes_before_captions():
    there = ["image", "caption", "breed", "label"]
    assert Reading().find(there, "it") == ("image", "caption", "label")
    assert Reading(label_column="breed").find(there, "it") == ("image", "", "breed")
    assert Reading(label_column="breed", caption_column="caption").find(there, "it") == ("image", "caption", "breed")
