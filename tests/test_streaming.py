"""Streams of pairs: windows, what each step sees, shares of processes, resume, and what is skipped."""

import io
import json
import os
import subprocess
import sys
import tarfile
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import THINGS, WORDS, images_column, png, write_parquet

from minclip import streaming
from minclip.clip import CLIP, CLIPConfig
from minclip.data import Pairs
from minclip.sources import Reading, Source
from minclip.streaming import Feed
from minclip.tokenizer import Tokenizer
from minclip.train import TrainConfig, check_config, train

ROOT = Path(__file__).resolve().parents[1]
TINY = CLIPConfig(
    image_tower="vit", image_size=16, image_width=32, image_layers=(1,), patch_size=8, context_length=8,
    vocab_size=300, text_width=32, text_layers=1, heads=2, embed_dim=16,
)  # fmt: skip
SAID = [f"a {word} {thing}" for word in WORDS for thing in THINGS]


def config(data, **changes) -> TrainConfig:
    reading = Reading(streaming=True, **{k: changes.pop(k) for k in ("window", "window_passes") if k in changes})
    base = TrainConfig(
        model=TINY, output_dir="", data=str(data), batch_size=8, max_steps=12, warmup_steps=2, early_image_size=0,
        checkpoint_every=5, log_every=1, precision="fp32", progress=False, reading=reading,
    )  # fmt: skip
    return replace(base, **changes)


def write_shards(folder, counts, bad=()) -> Path:
    """WebDataset shards of `counts` samples each; of the samples in `bad` the picture is none."""
    folder.mkdir()
    row = 0
    for shard, count in enumerate(counts):
        with tarfile.open(folder / f"{shard:03}.tar", "w") as tar:
            for _ in range(count):
                picture = b"<html>" if row in bad else png(row)
                for name, content in ((f"{row}.png", picture), (f"{row}.txt", SAID[row % 64].encode())):
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
                row += 1
    return folder


@pytest.fixture
def shards(tmp_path):
    return write_shards(tmp_path / "shards", (20, 12, 16, 16))


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(SAID, 300)


def keys(pairs: Pairs) -> list[int]:
    """The numbers of the samples, from their names `000.tar: 7`."""
    return [int(name.split(": ")[1]) for name in pairs.metadata["source"]]


def windows(feed: Feed, count: int) -> list[list[int]]:
    return [keys(feed.pairs_at(number * feed.steps)) for number in range(count)]


def seen(feed: Feed, tokenizer, steps) -> list[list[int]]:
    """The samples of each step's batch."""
    found = []
    for step in steps:
        pairs, _, order = feed.at(step, tokenizer)
        found.append([keys(pairs)[row] for row in order.indices(step).tolist()])
    return found


def test_windows_pass_over_all_rows_again_and_again_and_drop_none(shards):
    rows = sum(windows(Feed(config(shards, window=24, max_steps=99)), 8), [])  # 192 rows: three passes over 64
    passes = [rows[i : i + 64] for i in (0, 64, 128)]
    assert all(sorted(part) == list(range(64)) for part in passes)
    assert passes[0] != passes[1] or passes[1] != passes[2]  # the shards come in another order
    assert passes[0] != list(range(64)) or passes[1] != list(range(64))


def test_every_pair_of_a_window_is_seen_once_a_pass(shards, tokenizer):
    for window_passes in (1, 2):
        feed = Feed(config(shards, window=32, window_passes=window_passes, max_steps=99))
        assert feed.steps == 4 * window_passes
        for window in range(3):
            steps = range(window * feed.steps, (window + 1) * feed.steps)
            batches = seen(feed, tokenizer, steps)
            assert sorted(sum(batches, [])) == sorted(keys(feed.pairs) * window_passes)


def test_a_window_begins_a_deck_of_its_own_where_rows_were_skipped(tmp_path, tokenizer):
    feed = Feed(config(write_shards(tmp_path / "shards", (96,), bad=(3, 40, 70)), window=32, max_steps=99))
    for window in range(3):  # 31 pairs: a deck of three batches, and one batch of the next
        batches = seen(feed, tokenizer, range(window * 4, window * 4 + 4))
        assert len(set(sum(batches[:3], []))) == 24


@pytest.mark.parametrize("start", [1, 5, 16, 17, 29, 63])
def test_the_stream_from_a_step_on_is_the_stream_from_the_beginning(shards, tokenizer, start):
    settings = config(shards, window=24, max_steps=80)  # 3 steps a window; the 64 rows end after 2 windows and 16 rows
    whole = seen(Feed(settings), tokenizer, range(start + 7))
    assert seen(Feed(settings), tokenizer, range(start, start + 7)) == whole[start:]


def test_to_go_on_far_into_a_stream_reads_two_passes_at_most_and_decodes_one_window(shards, monkeypatch):
    read, decoded = [], []
    feed = Feed(config(shards, window=24, max_steps=10**6))
    parts = feed.source.parts
    feed.source.parts = [lambda part=part: (read.append(1) or row for row in part()) for part in parts]
    real = streaming.collect
    monkeypatch.setattr(streaming, "collect", lambda *about: decoded.append(1) or real(*about))
    feed.pairs_at(99_999)
    assert len(read) <= 128 + 2 * 24 and len(decoded) <= 2  # the next window may be on its way already


def test_another_seed_has_another_order(shards):
    orders = {tuple(windows(Feed(config(shards, window=64, seed=seed)), 1)[0]) for seed in range(6)}
    assert len(orders) > 1


@pytest.mark.parametrize("n", [2, 3, 4])  # 2 and 4 divide the four shards, 3 does not
def test_processes_see_different_rows_and_all_of_them(shards, tokenizer, n):
    settings = config(shards, window=24 * n, batch_size=4 * n, max_steps=99)
    feeds = [Feed(settings, None, rank, n) for rank in range(n)]
    own = [set(sum(windows(feed, 12), [])) for feed in feeds]
    assert set().union(*own) == set(range(64)) and sum(map(len, own)) == 64
    assert all(feed.batch_size == 4 and feed.steps == 6 for feed in feeds)
    assert all(len(batch) == 4 for feed in feeds for batch in seen(feed, tokenizer, [72]))


def test_the_next_window_is_read_while_this_one_is_used(tmp_path, shards):
    feed, begun = Feed(config(shards, window=16, max_steps=6)), []
    real, feed.read_ahead = feed.read_ahead, lambda: begun.append(1) or real()
    feed.pairs_at(0)
    for window in range(1, 3):
        feed.ready.put(feed.ready.get(timeout=10))  # it comes without being asked for
        feed.pairs_at(window * 2)
    assert len(begun) == 3  # a run that is at its end reads no more


def test_small_pictures_stay_and_large_ones_are_reduced_as_in_memory(tmp_path):
    for side, kept in ((16, 16), (48, 48), (64, 32)):
        write_parquet(tmp_path / "train.parquet", {"image": images_column(8, side), "text": SAID[:8]})
        feed = Feed(config(tmp_path, window=8, batch_size=4))
        assert feed.pairs_at(0).images.shape[2:] == (kept, kept)


def test_pairs_in_memory_are_one_window(tiny_pairs, tokenizer):
    feed = Feed(replace(config("emoji"), reading=Reading()), tiny_pairs)
    assert all(feed.at(step, tokenizer)[0] is tiny_pairs for step in (0, 5, 11))
    assert feed.at(3, tokenizer)[2] is feed.at(11, tokenizer)[2] and feed.steps == 12


def test_a_bad_row_is_skipped_and_too_many_end_the_stream(tmp_path):
    data = write_shards(tmp_path / "few", (600,), bad=(100, 101, 550))
    feed = Feed(config(data, window=200, max_steps=99))
    assert [len(window) for window in windows(feed, 3)] == [198, 200, 199]
    assert [text.split(": ")[1] for text in feed.skipped[:3]] == ["100", "101", "550"]
    data = write_shards(tmp_path / "dense", (600,), bad=range(100, 110))
    feed = Feed(config(data, window=200, max_steps=99))
    with pytest.raises(ValueError, match="only 190 pairs could be read. 10 rows were skipped"):
        feed.pairs_at(0)
    data = write_shards(tmp_path / "everywhere", (600,), bad=range(0, 600, 60))
    feed = Feed(config(data, window=100, max_steps=99))  # two of a hundred are a handful, seven of four hundred are not
    with pytest.raises(ValueError, match="only 393 pairs could be read. 7 rows were skipped"):
        windows(feed, 6)


def test_settings_that_no_stream_can_have_are_refused(shards):
    for changes, words in (
        ({"window": 15}, "--window of two batches"),
        ({"window": 0}, "window is 0"),
        ({"window_passes": 0}, "window_passes is 0"),
    ):
        with pytest.raises(ValueError, match=words):
            check_config(config(shards, **changes))
    with pytest.raises(ValueError, match="emoji"):
        check_config(config("emoji"))
    empty = Feed(config(shards, window=16))
    empty.source = Source("nowhere", [lambda: iter(())])
    with pytest.raises(ValueError, match="nowhere: nothing to read for process 0 of 1"):
        empty.pairs_at(0)


def losses(folder) -> list[float]:
    return [json.loads(line)["loss"] for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]


class Stop(Exception):
    pass


def test_a_streamed_run_is_repeatable_and_resumes_bit_for_bit(tmp_path, shards):
    def run(name, **changes):
        return train(config(shards, window=24, output_dir=str(tmp_path / name), max_steps=14, **changes))

    def stop(step, model):
        if step == 12:  # two steps after the checkpoint
            raise Stop

    run("whole")
    run("again")
    run("other", seed=1)
    with pytest.raises(Stop):
        train(config(shards, window=24, output_dir=str(tmp_path / "broken"), max_steps=14), stop)
    run("broken", resume=True)
    assert losses(tmp_path / "whole") == losses(tmp_path / "again") == losses(tmp_path / "broken")
    assert losses(tmp_path / "whole") != losses(tmp_path / "other")
    one, other = (CLIP.from_pretrained(tmp_path / name).state_dict() for name in ("whole", "broken"))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_what_a_stream_skipped_is_in_the_metrics(tmp_path):
    data = write_shards(tmp_path / "data", (64,), bad=(5,))
    result = train(config(data, window=32, max_steps=16))
    assert result.metrics["skipped"] == [
        "000.tar: 5: it is no picture (PNG, JPEG, WEBP, GIF, BMP, TIFF, PPM, AVIF); it begins with b'<html>'"
    ]


def test_two_processes_train_on_one_stream(tmp_path, shards):
    flags = f"--data {shards} --streaming --window 32 --output_dir {tmp_path / 'run'} --image_tower vit --image_size 16"
    flags += " --image_width 32 --image_layers 1 --patch_size 8 --context_length 8 --vocab_size 300 --text_width 32"
    flags += " --text_layers 1 --heads 2 --embed_dim 16 --batch_size 16 --max_steps 6 --log_every 1 --precision fp32"
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
        "minclip/train.py",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [*command, *flags.split(), "--no_progress"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert metrics["num_processes"] == 2 and len(losses(tmp_path / "run")) == 6 and metrics["skipped"] == []


def test_a_stream_of_labels_only_trains_with_a_warning(tmp_path):
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["cat", "dog"]}}
    columns = {"image": images_column(32), "label": [i % 2 for i in range(32)]}
    write_parquet(tmp_path / "train.parquet", columns, features)
    with pytest.warns(UserWarning, match="captions name 2 classes only: of a batch of 8.*cannot fall below 1.39"):
        result = train(config(tmp_path, window=16, max_steps=4))
    assert result.metrics["loss_last"] > 1
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        train(config(tmp_path, window=16, max_steps=4, batch_size=2))  # one picture of each class
