import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from minclip.clip import CLIP, CLIPConfig
from minclip.data import Augmentation
from minclip.tokenizer import Tokenizer
from minclip.train import TrainConfig, check_finite, train

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


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_two_and_four_processes_equal_one(tmp_path, caption_folder, loss):
    more = ["--max_steps", "20", "--precision", "fp64", "--loss", loss]
    micro = ["--micro_batch_size", "3"]  # of 8 local pairs: two whole micro-batches and a smaller one
    for name, n, extra in (("1", 1, []), ("2", 2, micro), ("4", 4, [])):
        done = run([*torchrun(n), *flags(tmp_path / name, caption_folder, *more, *extra)])
        assert done.returncode == 0, done.stderr[-2000:]
        assert json.loads((tmp_path / name / "config.json").read_text())["num_processes"] == n
    assert len(losses(tmp_path / "1")) == 20
    assert largest_difference(tmp_path / "1", tmp_path / "2") < 1e-8
    assert largest_difference(tmp_path / "1", tmp_path / "4") < 1e-8


def test_micro_batches_change_neither_curve_nor_weights(tmp_path, tiny_pairs):
    same = {"model": replace(TINY, dropout=0.0), "precision": "fp64"}
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


def test_nan_stops_with_the_step_and_keeps_the_checkpoint(tmp_path, tiny_pairs):
    def poison(done, model):
        if done == 7:
            model.image_projection.weight.data.fill_(math.nan)

    with pytest.raises(FloatingPointError, match="the loss became nan at step 8"):
        train(config(tmp_path / "run"), on_step=poison, pairs=tiny_pairs)
    assert [path.name for path in (tmp_path / "run/state").iterdir()] == ["step_00000005.pt"]
    assert not (tmp_path / "run/metrics.json").exists()
    train(config(tmp_path / "run", resume=True), pairs=tiny_pairs)
    assert all(math.isfinite(loss) for loss in losses(tmp_path / "run"))


def test_check_finite_names_the_first_bad_step(tmp_path):
    check_finite([1.0, 2.0], 5, None)
    with pytest.raises(FloatingPointError, match="inf at step 6"):
        check_finite([1.0, math.inf, math.nan], 5, tmp_path)


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
