import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import assert_close, assert_differ, images_column, write_parquet

from minclip.batches import make_batch, tokenise
from minclip.clip import CLIP, CLIPConfig, build_clip, start_from
from minclip.data import Augmentation, BatchOrder, Pairs, augment, step_generator
from minclip.tokenizer import END_ID, PAD_ID, START_ID, Tokenizer
from minclip.train import TrainConfig, check_config, train, train_tokenizer

ROOT = Path(__file__).resolve().parents[1]
TINY = CLIPConfig(
    image_tower="vit", image_size=16, image_width=32, image_layers=(2,), patch_size=8, context_length=12,
    vocab_size=300, text_width=32, text_layers=1, heads=2, embed_dim=16, dropout=0.1,
)  # fmt: skip


def config(folder, **changes) -> TrainConfig:
    base = TrainConfig(
        model=TINY, output_dir=str(folder), batch_size=16, max_steps=12, warmup_steps=2,
        checkpoint_every=5, log_every=1, precision="fp32", progress=False,
    )  # fmt: skip
    return replace(base, **changes)


def losses(folder) -> list[float]:
    return [json.loads(line)["loss"] for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]


def weights(folder) -> dict:
    return CLIP.from_pretrained(folder).state_dict()


class Stop(Exception):
    pass


def stop_after(step):
    def on_step(done, model):
        if done == step:
            raise Stop

    return on_step


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_a_run_leaves_what_the_design_says(tmp_path, tiny_pairs, loss):
    result = train(config(tmp_path / "run", model=replace(TINY, loss=loss)), pairs=tiny_pairs)
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {
        "config.json",
        "metrics.jsonl",
        "metrics.json",
        "model.safetensors",
        "tokenizer.json",
        "curves.png",
        "state",
    }
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert metrics["loss_first"] == losses(tmp_path / "run")[0] and metrics["loss_last"] == losses(tmp_path / "run")[-1]
    assert len(losses(tmp_path / "run")) == 12 and metrics["seed"] == 0 and metrics["device"].startswith("cpu")
    assert metrics["n_parameters"] == sum(p.numel() for p in result.model.parameters())
    settings = json.loads((tmp_path / "run/config.json").read_text())
    assert settings["train"]["batch_size"] == 16 and settings["num_processes"] == 1 and settings["precision"] == "fp32"
    loaded, tokenizer = CLIP.from_pretrained(tmp_path / "run"), Tokenizer.load(tmp_path / "run/tokenizer.json")
    ids = tokenizer(["a red cat"], 12)
    assert torch.equal(loaded.encode_text(ids), result.model.encode_text(ids))


def test_same_seed_same_curve_other_seed_another(tmp_path, tiny_pairs):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        train(config(tmp_path / name, seed=seed), pairs=tiny_pairs)
    assert losses(tmp_path / "a") == losses(tmp_path / "b")
    assert losses(tmp_path / "a")[1:] != losses(tmp_path / "c")[1:]
    assert all(torch.equal(weights(tmp_path / "a")[k], v) for k, v in weights(tmp_path / "b").items())


@pytest.mark.parametrize("stopped", [3, 7, 10])  # before the first checkpoint, after one, right at one
def test_resume_equals_an_unbroken_run_bit_for_bit(tmp_path, tiny_pairs, stopped):
    train(config(tmp_path / "whole"), pairs=tiny_pairs)
    with pytest.raises(Stop):
        train(config(tmp_path / "broken"), on_step=stop_after(stopped), pairs=tiny_pairs)
    assert not (tmp_path / "broken/metrics.json").exists()
    train(config(tmp_path / "broken", resume=True), pairs=tiny_pairs)
    assert losses(tmp_path / "broken") == losses(tmp_path / "whole")
    assert all(torch.equal(weights(tmp_path / "whole")[k], v) for k, v in weights(tmp_path / "broken").items())


def flags(folder, data, *more) -> list[str]:
    common = f"--data {data} --output_dir {folder} --image_tower vit --image_size 16 --image_width 32 --image_layers 2"
    common += " --patch_size 8 --context_length 12 --vocab_size 300 --text_width 32 --text_layers 1 --heads 2"
    common += " --embed_dim 16 --batch_size 16 --warmup_steps 2 --log_every 1 --no_progress"
    return [*common.split(), *more]


def run(command, **kwargs):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, **kwargs)


def torchrun(processes: int) -> list[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    return [*launcher, "minclip/train.py"]


def test_resume_after_a_real_kill(tmp_path, caption_folder):
    more = ["--max_steps", "150", "--checkpoint_every", "10", "--precision", "fp32"]
    command = [sys.executable, "-m", "minclip.train", *flags(tmp_path / "killed", caption_folder, *more)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL) as process:
        while not list((tmp_path / "killed/state").glob("step_*.pt")):
            assert process.poll() is None, "the run ended before it could be killed"
        process.send_signal(signal.SIGKILL)
    assert not (tmp_path / "killed/metrics.json").exists()
    assert run([*command, "--resume"]).returncode == 0
    whole = [sys.executable, "-m", "minclip.train", *flags(tmp_path / "whole", caption_folder, *more)]
    assert run(whole).returncode == 0
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    assert all(torch.equal(weights(tmp_path / "whole")[k], v) for k, v in weights(tmp_path / "killed").items())


def largest_difference(a, b) -> float:
    """Between two runs: of any loss on the way and of any weight at the end."""
    curves = max(abs(x - y) for x, y in zip(losses(a), losses(b), strict=True))
    return max(curves, *((weights(a)[key] - value).abs().max().item() for key, value in weights(b).items()))


FEWER = ["--image_keep", "0.5", "--text_tokens", "5", "--text_masking", "random"]


@pytest.mark.parametrize("loss, masks", [("softmax", []), ("sigmoid", FEWER)])
def test_two_and_four_processes_equal_one(tmp_path, caption_folder, loss, masks):
    more = ["--max_steps", "20", "--precision", "fp64", "--loss", loss, *masks]
    micro = ["--micro_batch_size", "3"]  # of 8 local pairs: two whole micro-batches and a smaller one
    for name, n, extra in (("1", 1, []), ("2", 2, micro), ("4", 4, [])):
        done = run([*torchrun(n), *flags(tmp_path / name, caption_folder, *more, *extra)])
        assert done.returncode == 0, done.stderr[-2000:]
        assert json.loads((tmp_path / name / "config.json").read_text())["num_processes"] == n
    assert len(losses(tmp_path / "1")) == 20
    assert largest_difference(tmp_path / "1", tmp_path / "2") < 1e-8
    assert largest_difference(tmp_path / "1", tmp_path / "4") < 1e-8


@pytest.mark.parametrize("masks", [{}, {"image_keep": 0.5, "text_tokens": 5, "text_masking": "block"}])
def test_micro_batches_change_neither_curve_nor_weights(tmp_path, tiny_pairs, masks):
    same = {"model": replace(TINY, dropout=0.0), "precision": "fp64", **masks}
    train(config(tmp_path / "whole", **same), pairs=tiny_pairs)
    train(config(tmp_path / "micro", micro_batch_size=5, **same), pairs=tiny_pairs)
    assert 0 < largest_difference(tmp_path / "whole", tmp_path / "micro") < 1e-9


def test_too_few_processes_are_noticed(tmp_path, caption_folder):
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "minclip/train.py"]
    done = run([*launcher, *flags(tmp_path / "run", caption_folder)])
    assert done.returncode != 0 and "torchrun --nproc_per_node 2" in done.stderr
    assert not (tmp_path / "run").exists()


def test_accelerate_launch_runs(tmp_path, caption_folder):
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "1", "minclip/train.py"]
    done = run([*launcher, *flags(tmp_path / "run", caption_folder, "--max_steps", "3", "--tracker", "tensorboard")])
    assert done.returncode == 0, done.stderr[-2000:]
    assert "loss of an uninformed model: 2.773" in done.stdout  # ln 16
    assert list((tmp_path / "run").rglob("events.out.tfevents*"))


def test_bad_input_is_one_sentence_on_the_command_line(tmp_path, caption_folder):
    done = run([sys.executable, "-m", "minclip.train", *flags(tmp_path / "run", caption_folder, "--batch_size", "65")])
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "batch_size 65 is larger than the dataset's 64 different captions" in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"model": replace(TINY, image_tower="mlp")}, "unknown image_tower 'mlp'"),
        ({"model": replace(TINY, loss="hinge")}, "unknown loss 'hinge'"),
        ({"model": replace(TINY, context_length=2)}, "context_length 2 is too short"),
        ({"precision": "fp8"}, "unknown precision 'fp8'"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"micro_batch_size": -1}, "micro_batch_size is -1"),
        ({"resume": True, "overwrite": True}, "choose one"),
        ({"image_keep": 0.0}, r"image_keep is 0.0; .* choose one in \(0, 1\]"),
        ({"image_keep": math.nan}, "image_keep is nan"),
        ({"image_keep": 1.5, "model": replace(TINY, image_tower="resnet")}, "image_keep is 1.5; .* in"),
        (
            {"image_keep": 0.5, "model": replace(TINY, image_tower="resnet")},
            "image_keep is 0.5, but image_tower resnet has no patches; choose vit, or image_keep 1$",
        ),
        (
            {"image_masking": "grid", "model": replace(TINY, image_tower="resnet")},
            "image_masking is grid, but image_tower resnet has no patches; choose vit, or image_masking random$",
        ),
        ({"image_keep": 0.5, "image_masking": "grid"}, "image_size 16: grid cannot keep 0.5 of 2 x 2 patches"),
        (
            {
                "image_keep": 0.25,
                "image_masking": "grid",
                "early_image_size": 24,
                "model": replace(TINY, image_size=32),
            },
            "image_keep does not suit early_image_size 24: grid cannot keep 0.25 of 3 x 3 patches",
        ),
        ({"image_masking": "stripes"}, "unknown image_masking 'stripes'; choose from random, grid, block"),
        ({"text_masking": "verbs"}, "unknown text_masking 'verbs'; choose from truncate, random, block, syntax"),
        ({"text_tokens": 2}, "text_tokens is 2; .* 3 or more, or 0"),
        ({"text_tokens": -1}, "text_tokens is -1"),
        (
            {"model": replace(TINY, image_size=20)},
            "image_size 20 is not a multiple of patch_size 8; choose one that is$",
        ),
    ],
)
def test_bad_settings_are_named_and_nothing_is_written(tmp_path, tiny_pairs, change, message):
    with pytest.raises(ValueError, match=message):
        train(config(tmp_path / "run", **change), pairs=tiny_pairs)
    assert not (tmp_path / "run").exists()


def test_a_run_is_not_overwritten_silently(tmp_path, tiny_pairs):
    folder = tmp_path / "run"
    train(config(folder), pairs=tiny_pairs)
    before = (folder / "metrics.json").read_text()
    with pytest.raises(FileExistsError, match="already holds a finished run"):
        train(config(folder, seed=1), pairs=tiny_pairs)
    with pytest.raises(FileExistsError, match="nothing to resume"):
        train(config(folder, resume=True), pairs=tiny_pairs)
    assert (folder / "metrics.json").read_text() == before
    train(config(folder, seed=1, overwrite=True), pairs=tiny_pairs)
    assert json.loads((folder / "metrics.json").read_text())["seed"] == 1


def test_an_unfinished_run_is_resumed_with_its_own_settings_only(tmp_path, tiny_pairs):
    with pytest.raises(Stop):
        train(config(tmp_path / "run"), on_step=stop_after(6), pairs=tiny_pairs)
    with pytest.raises(FileExistsError, match="already holds an unfinished run"):
        train(config(tmp_path / "run"), pairs=tiny_pairs)
    with pytest.raises(ValueError, match="lr: 0.002 -> 0.1"):
        train(config(tmp_path / "run", resume=True, lr=0.1), pairs=tiny_pairs)


def test_a_folder_that_holds_something_else_is_never_replaced(tmp_path, tiny_pairs):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match="holds no run"):
        train(config(tmp_path, overwrite=True), pairs=tiny_pairs)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_process_may_train_in_one_precision_and_then_in_another(tmp_path, tiny_pairs):
    curves = [
        train(config("", output_dir="", max_steps=3, precision=precision), pairs=tiny_pairs).history
        for precision in ("fp32", "bf16", "fp32")
    ]
    assert curves[0][-1]["loss"] == curves[2][-1]["loss"] != curves[1][-1]["loss"]


def test_settings_that_a_run_never_uses_do_not_stop_it():
    grid = {"image_keep": 0.25, "image_masking": "grid", "model": replace(TINY, image_size=32)}
    check_config(config("", early_image_size=0, **grid))
    check_config(config("", early_image_size=24, early_fraction=0.0, **grid))
    check_config(config("", text_tokens=3, model=replace(TINY, image_tower="resnet", image_size=20)))


def test_early_steps_see_smaller_pictures(tmp_path, tiny_pairs, monkeypatch):
    import minclip.train as module

    sizes, make_batch = [], module.make_batch

    def spy(*arguments):
        images, ids = make_batch(*arguments)
        sizes.append(images.shape[-1])
        return images, ids

    monkeypatch.setattr(module, "make_batch", spy)
    larger = {"model": replace(TINY, image_size=32), "early_image_size": 16}
    train(config("", early_fraction=0.25, **larger), pairs=tiny_pairs)
    assert sizes == [16] * 3 + [32] * 9
    with pytest.raises(ValueError, match="early_image_size 12 is not a multiple of patch_size 8"):
        train(config("", **{**larger, "early_image_size": 12}), pairs=tiny_pairs)


def test_weights_survive_a_broken_test_split(tmp_path, caption_folder):
    (caption_folder / "test.parquet").write_bytes(b"PAR1 no")
    done = run([sys.executable, "-m", "minclip.train", *flags(tmp_path / "run", caption_folder, "--max_steps", "3")])
    assert done.returncode == 1 and "test.parquet cannot be read" in done.stderr
    assert weights(tmp_path / "run") and not (tmp_path / "run/metrics.json").exists()


@pytest.mark.parametrize("loss, largest", [("softmax", 100.0), ("sigmoid", math.exp(5))])
def test_scale_stays_at_or_under_100_for_softmax_only(tiny_pairs, loss, largest):
    def push(done, model):
        model.logit_scale.data.fill_(5.0)  # exp(5) = 148

    settings = config("", model=replace(TINY, loss=loss), scalar_lr_factor=0.0)
    result = train(settings, on_step=push, pairs=tiny_pairs)
    assert result.history[-1]["logit_scale"] == pytest.approx(largest, rel=1e-5)


def test_a_small_model_learns_64_pairs_by_heart(tiny_pairs):
    still = Augmentation(zoom=0, shift=0, rotate=0, color=0, gray=0, hue=0)
    settings = config("", model=replace(TINY, dropout=0.0), augmentation=still, batch_size=64, max_steps=250, lr=5e-3)
    result = train(replace(settings, weight_decay=0.0), pairs=tiny_pairs)
    assert result.metrics["loss_first"] > 0.8 * math.log(64) and result.metrics["loss_last"] < 0.05


# Fewer tokens


def stored(side: int = 64) -> Pairs:
    """48 random pictures of the side at which the emoji are stored, with captions of different length."""
    images = torch.randint(0, 256, (48, 3, side, side), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    captions = [[f"{'very ' * (i % 4)}small thing {i}", f"thing {i}"] for i in range(48)]
    return Pairs(images, captions, torch.arange(48), [], torch.arange(48))


def batches(pairs, steps=(0, 1), local=slice(None), **changes) -> list[tuple]:
    settings = config("", **{"model": replace(TINY, image_size=32, patch_size=4, context_length=16), **changes})
    tokens = tokenise(pairs, train_tokenizer(pairs, settings.model), settings)
    order = BatchOrder(pairs.groups, settings.batch_size, settings.seed)
    return [make_batch(pairs, tokens, order, settings, step, local, torch.device("cpu")) for step in steps]


def test_all_tokens_are_the_batches_of_before_there_were_masks():
    pairs, settings = (
        stored(),
        TrainConfig(batch_size=16, max_steps=10, seed=3),
    )  # else the defaults: 24, then 32 pixels
    tokens = tokenise(pairs, train_tokenizer(pairs, settings.model), settings)
    order = BatchOrder(pairs.groups, 16, 3)
    for step, size in ((0, 24), (8, 24), (9, 32)):
        draw = torch.rand(16, 17, generator=step_generator(3, 3, step), dtype=torch.float64)[4:12]
        rows = order.indices(step)[4:12]
        images = augment(pairs.images[rows], size, draw[:, :16], settings.augmentation)
        ids = tokens.pick(rows, draw[:, 16], 0.8)
        batch = make_batch(pairs, tokens, order, settings, step, slice(4, 12), torch.device("cpu"))
        assert len(batch) == 2 and batch[0].shape == (8, 3, size, size)
        assert torch.equal(batch[0], images) and torch.equal(batch[1], ids)
        assert batch[0].is_contiguous(memory_format=torch.channels_last)


def test_much_larger_pictures_in_a_run_are_anti_aliased():
    still = Augmentation(zoom=0, shift=0, rotate=0, color=0, gray=0, hue=0)
    checkers = torch.zeros(64, 64, dtype=torch.uint8)
    checkers[::4, ::4] = 255
    pairs = replace(stored(), images=checkers.expand(48, 3, 64, 64))
    ((images, _),) = batches(pairs, (0,), model=replace(TINY, image_size=16), augmentation=still)
    inside = images[..., 2:-2, 2:-2]
    assert inside.min() > -0.95 and inside.max() < -0.8  # one of 16 pixels is white


@pytest.mark.parametrize("masking, keep, kept", [("random", 0.3, 19), ("grid", 0.25, 16), ("block", 0.25, 16)])
def test_masks_leave_the_pictures_as_they_are_and_differ_by_sample_and_step(masking, keep, kept):
    pairs = stored()
    masked = batches(pairs, image_keep=keep, image_masking=masking, early_image_size=0)
    whole = batches(pairs, early_image_size=0)
    for (images, ids, places), (all_images, all_ids) in zip(masked, whole):
        assert torch.equal(images, all_images) and torch.equal(ids, all_ids)
        assert places.shape == (16, kept) and places.dtype == torch.long
        assert places.diff(dim=1).min() > 0 and places.min() >= 0 and places.max() < 64
        assert len(places.unique(dim=0)) > (2 if masking == "grid" else 8)  # a grid has four places to lie
    assert not torch.equal(masked[0][2], masked[1][2])
    again, other = (
        batches(pairs, (1,), image_keep=keep, image_masking=masking, early_image_size=0, seed=s) for s in (0, 1)
    )
    assert torch.equal(again[0][2], masked[1][2]) and not torch.equal(other[0][2], masked[1][2])


def test_early_steps_are_masked_at_their_own_size():
    (early,), (late,) = batches(stored(), (0,), image_keep=0.25), batches(stored(), (11,), image_keep=0.25)
    assert early[0].shape[-1] == 24 and early[2].shape == (16, 9) and early[2].max() < 36
    assert late[0].shape[-1] == 32 and late[2].shape == (16, 16) and late[2].max() >= 36


@pytest.mark.parametrize("masking", ["truncate", "random", "block", "syntax"])
def test_a_part_of_a_batch_sees_what_the_whole_batch_sees(masking):
    fewer = {"image_keep": 0.25, "text_tokens": 6, "text_masking": masking}
    (images, ids, kept), (_, all_ids) = batches(stored(), (2,), **fewer)[0], batches(stored(), (2,))[0]
    assert ids.shape == (16, 6) and ids[:, 0].eq(START_ID).all() and (ids == END_ID).sum(1).eq(1).all()
    for row, caption in zip(ids.tolist(), all_ids.tolist()):
        rest = iter(caption)
        assert all(token in rest for token in row if token != PAD_ID)  # in the caption's order
    parts = [batches(stored(), (2,), slice(i, i + 5), **fewer)[0] for i in (0, 5, 10)]
    for start, part in zip((0, 5, 10), parts):
        rows = slice(start, start + 5)
        assert torch.equal(part[0], images[rows]) and torch.equal(part[2], kept[rows])
        width = part[1].shape[1]
        assert torch.equal(part[1], ids[rows, :width]) and ids[rows, width:].eq(PAD_ID).all()


def test_syntax_keeps_nouns_and_adjectives():
    pairs = Pairs(
        stored().images[:16], [[f"a very old thing {i:02}"] for i in range(16)], torch.arange(16), [], torch.arange(16)
    )
    model = replace(TINY, vocab_size=600, context_length=16)
    tokenizer, syntax = train_tokenizer(pairs, model), {"text_tokens": 4, "text_masking": "syntax", "model": model}
    said = {way: batches(pairs, (0,), **{**syntax, "text_masking": way})[0][1] for way in ("truncate", "syntax")}
    assert {tokenizer.decode(row) for row in said["truncate"]} == {"a very"}
    assert {tokenizer.decode(row) for row in said["syntax"]} == {"old thing"}


def test_text_masks_are_drawn_for_each_sample_step_and_seed():
    pairs = replace(stored(), captions=[["a b c d e f g h i j k l"]] * 48)  # so that the mask alone makes a difference
    fewer = {"text_tokens": 6, "text_masking": "random"}
    (one, two), (again,) = ([batch[1] for batch in batches(pairs, steps, **fewer)] for steps in ((0, 1), (0,)))
    other = batches(pairs, (0,), seed=1, **fewer)[0][1]
    assert len(one.unique(dim=0)) > 8
    assert torch.equal(one, again) and not torch.equal(one, two) and not torch.equal(one, other)


def test_nothing_is_masked_at_evaluation(tmp_path):
    note = {"label": {"names": [f"thing {i}" for i in range(8)], "_type": "ClassLabel"}}
    for split in ("train", "test"):
        columns = {"image": images_column(16), "label": [i % 8 for i in range(16)]}
        write_parquet(tmp_path / f"{split}.parquet", columns, note)
    seen = {"image": set(), "text": set()}

    def watch(done, model):
        if done == 1:
            model.image_tower.blocks[0].register_forward_pre_hook(lambda _, x: seen["image"].add(x[0].shape[1]))
            model.text_tower.blocks[0].register_forward_pre_hook(lambda _, x: seen["text"].add(x[0].shape[1]))
        if done == 4:
            assert seen["image"] == {1} and max(seen["text"]) == 5
            seen["image"].clear()
            seen["text"].clear()

    settings = config("", data=str(tmp_path), batch_size=8, max_steps=4, image_keep=0.25, text_tokens=5)
    result = train(settings, on_step=watch)
    assert result.metrics["zero_shot"]["test"]["n_images"] == 16
    assert seen["image"] == {4} and min(seen["text"]) > 5


# From a checkpoint


def perturbed(model: CLIP) -> CLIP:
    """The model with all its weights moved, as if it had been trained."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
    return model


SHAPES = {
    "vit": TINY,
    "cls": replace(TINY, image_pool="cls"),
    "sincos": replace(TINY, image_positions="sincos"),
    "resnet": replace(TINY, image_tower="resnet", image_layers=(1, 1), image_width=16, norm="group"),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_larger_model_starts_as_the_small_one_on_large_pictures(shape):
    small = perturbed(build_clip(shape)).double().eval()
    large = build_clip(replace(shape, image_size=32, context_length=20, dropout=0.0)).double().eval()
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1
    assert_differ(small.encode_image(images), large.encode_image(images))
    said = start_from(large, small)
    assert said == "weights and tokenizer, image_size 16 -> 32, context_length 12 -> 20, dropout 0.1 -> 0.0"
    assert_close(large.encode_image(images), small.encode_image(images))  # which interpolates in each step
    assert large.logit_scale == small.logit_scale
    before, after = small.state_dict(), large.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    grids = {"vit": {"image_tower.position_embedding"}, "resnet": {"image_tower.pool.position_embedding"}}
    grids = grids[shape.image_tower] if shape.image_positions == "learned" else set()
    assert changed == {"text_tower.position_embedding"} | grids
    old, place = before["text_tower.position_embedding"].numpy(), (np.arange(20) + 0.5) * 12 / 20 - 0.5
    linear = np.stack([np.interp(place, np.arange(12), old[:, i]) for i in range(32)], 1)
    assert_close(after["text_tower.position_embedding"], torch.from_numpy(linear))


def test_a_model_for_shorter_captions_starts_as_the_one_for_long_ones():
    long, short = (
        perturbed(build_clip(TINY)).double().eval(),
        build_clip(replace(TINY, context_length=8)).double().eval(),
    )
    ids = torch.randint(3, 300, (4, 8), generator=torch.Generator().manual_seed(0))
    ids[:, 0], ids[:, 7] = START_ID, END_ID
    assert_differ(short.encode_text(ids), long.encode_text(ids))
    assert start_from(short, long) == "weights and tokenizer, context_length 12 -> 8"
    assert torch.equal(short.encode_text(ids), long.encode_text(ids))


@pytest.mark.parametrize("old, new", [("softmax", "sigmoid"), ("sigmoid", "softmax")])
def test_another_loss_has_its_own_scalars(old, new):
    start, model = perturbed(build_clip(replace(TINY, loss=old))), build_clip(replace(TINY, loss=new))
    scale = model.logit_scale.item()
    assert start_from(model, start).endswith(f"loss {old} -> {new}; the new loss's scalars are fresh")
    assert model.logit_scale.item() == scale != start.logit_scale.item()
    assert model.logit_bias is None if new == "softmax" else model.logit_bias.item() == -10
    assert torch.equal(model.image_projection.weight, start.image_projection.weight)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"patch_size": 4}, "patch_size is 8 there and 4 in this run; use --patch_size 8,"),
        ({"image_width": 64}, "image_width is 32 there and 64 in this run; use --image_width 32,"),
        (
            {"image_layers": (1,), "heads": 4},
            "image_layers is 2 there and 1 .*; heads is 2 there and 4 .* 2 --heads 2,",
        ),
        ({"image_tower": "resnet", "image_layers": (1, 1)}, "image_tower is vit there and resnet in this run"),
        ({"image_pool": "cls"}, "image_pool is mean there and cls"),
        ({"image_positions": "sincos"}, "image_positions is learned there and sincos"),
        ({"text_width": 64}, "text_width is 32 there and 64"),
        ({"vocab_size": 280}, "has vocab_size 300, this run 280; use --vocab_size 300"),
    ],
)
def test_a_checkpoint_of_another_shape_is_named_and_nothing_is_written(started, tmp_path, tiny_pairs, change, message):
    with pytest.raises(ValueError, match=message):
        train(config(tmp_path / "run", model=replace(TINY, **change), init_from=str(started)), pairs=tiny_pairs)
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """A finished run on other captions than those of `tiny_pairs`."""
    folder = tmp_path_factory.mktemp("started") / "run"
    train(config(folder, model=replace(TINY, vocab_size=300), max_steps=6), pairs=stored(16))
    return folder


def test_a_run_starts_from_a_finished_one(started, tmp_path, tiny_pairs, capsys):
    still = {"lr": 0.0, "muon_lr": 0.0, "max_steps": 1}
    train(config(tmp_path / "run", init_from=str(started), **still), pairs=tiny_pairs)
    before, after = weights(started), weights(tmp_path / "run")
    assert all(torch.equal(before[name], value) for name, value in after.items())
    assert (tmp_path / "run/tokenizer.json").read_text() == (started / "tokenizer.json").read_text()
    assert f"from {started}: weights and tokenizer\n" in capsys.readouterr().out
    train(config(tmp_path / "fresh", **still), pairs=tiny_pairs)
    assert weights(tmp_path / "fresh")["image_projection.weight"].ne(before["image_projection.weight"]).any()
    assert (tmp_path / "fresh/tokenizer.json").read_text() != (started / "tokenizer.json").read_text()


def test_few_tokens_first_then_all_and_a_stopped_run_goes_on_from_its_own_state(started, tmp_path, tiny_pairs):
    import shutil

    first = tmp_path / "first"
    shutil.copytree(started, first)
    tuned = {"model": replace(TINY, image_size=32, context_length=16), "early_image_size": 0, "image_keep": 0.75}
    tuned |= {"init_from": str(first), "text_tokens": 6, "text_masking": "random"}
    train(config(tmp_path / "whole", **tuned), pairs=tiny_pairs)
    with pytest.raises(Stop):
        train(config(tmp_path / "broken", **tuned), on_step=stop_after(7), pairs=tiny_pairs)
    shutil.rmtree(first)  # what a run started from is not needed to go on with it, whatever is now said to be its place
    tuned |= {"init_from": str(tmp_path / "moved")}
    train(config(tmp_path / "broken", resume=True, **tuned), pairs=tiny_pairs)
    assert losses(tmp_path / "broken") == losses(tmp_path / "whole")
    assert all(torch.equal(weights(tmp_path / "whole")[k], v) for k, v in weights(tmp_path / "broken").items())
    assert json.loads((tmp_path / "broken/config.json").read_text())["train"]["init_from"] == str(first)


def test_before_its_first_checkpoint_a_run_begins_anew_from_the_folder_that_it_is_given(started, tmp_path, tiny_pairs):
    import shutil

    first, moved, few = tmp_path / "first", tmp_path / "moved", {"max_steps": 4}
    shutil.copytree(started, first)
    train(config(tmp_path / "whole", init_from=str(first), **few), pairs=tiny_pairs)
    for name, start in (("tuned", str(first)), ("fresh", "")):
        with pytest.raises(Stop):
            train(config(tmp_path / name, init_from=start, **few), on_step=stop_after(2), pairs=tiny_pairs)
    first.rename(moved)
    with pytest.raises(ValueError, match=r"tuned holds a run with other settings \(init_from: .*first -> \)"):
        train(config(tmp_path / "tuned", resume=True, **few), pairs=tiny_pairs)
    with pytest.raises(ValueError, match=r"fresh holds a run with other settings \(init_from:  -> .*moved\)"):
        train(config(tmp_path / "fresh", resume=True, init_from=str(moved), **few), pairs=tiny_pairs)
    train(config(tmp_path / "tuned", resume=True, init_from=str(moved), **few), pairs=tiny_pairs)
    assert losses(tmp_path / "tuned") == losses(tmp_path / "whole") and len(losses(tmp_path / "whole")) == 4
    assert json.loads((tmp_path / "tuned/config.json").read_text())["train"]["init_from"] == str(moved)


def test_a_checkpoint_that_is_none_is_named(started, tmp_path, tiny_pairs):
    import shutil

    with pytest.raises(FileNotFoundError, match="nowhere does not hold config.json; is it a finished run"):
        train(config(tmp_path / "run", init_from=str(tmp_path / "nowhere")), pairs=tiny_pairs)
    part = tmp_path / "part"
    shutil.copytree(started, part)
    with pytest.raises(ValueError, match="init_from and output_dir are both"):
        train(config(part, init_from=f"{part}/../part", overwrite=True), pairs=tiny_pairs)
    assert weights(part)
    (part / "tokenizer.json").unlink()
    with pytest.raises(FileNotFoundError, match="part does not hold tokenizer.json"):
        train(config(tmp_path / "run", init_from=str(part)), pairs=tiny_pairs)
    Tokenizer.train(["abc"], 259).save(part / "tokenizer.json")
    with pytest.raises(ValueError, match="tokenizer.json has 259 entries, its model 300; copy both from one run"):
        train(config(tmp_path / "run", init_from=str(part)), pairs=tiny_pairs)
    assert not (tmp_path / "run").exists()


def test_a_run_begun_before_a_setting_existed_goes_on_with_its_default(tmp_path, tiny_pairs):
    with pytest.raises(Stop):
        train(config(tmp_path / "run"), on_step=stop_after(6), pairs=tiny_pairs)
    known = json.loads((tmp_path / "run/config.json").read_text())
    for name in ("image_keep", "image_masking", "text_tokens", "text_masking", "init_from", "model.image_positions"):
        del known["train"][name]
    (tmp_path / "run/config.json").write_text(json.dumps(known))
    with pytest.raises(ValueError, match=r"\(image_keep: 1.0 -> 0.5\)"):
        train(config(tmp_path / "run", resume=True, image_keep=0.5), pairs=tiny_pairs)
    train(config(tmp_path / "run", resume=True), pairs=tiny_pairs)
    assert len(losses(tmp_path / "run")) == 12
