"""Runs that end before their time: what they say, what they leave, and how they go on."""

import errno
import json
import math
import os
import resource
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_train import ROOT, TINY, config, flags, losses, weights

from minclip.checkpoint import DiskError
from minclip.data import BatchOrder
from minclip.faults import check_finite, lost_another, noted_signals
from minclip.train import train

NAN, INF = math.nan, math.inf


def states(folder) -> list[str]:
    return sorted(path.name for path in (Path(folder) / "state").glob("*"))


def assert_same_run(folder, whole) -> None:
    assert losses(folder) == losses(whole)
    assert all(torch.equal(weights(whole)[name], value) for name, value in weights(folder).items())
    assert not list(Path(folder).rglob("*.part"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of 12 steps that nothing happened to."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    train(config(folder), pairs=few())
    return folder


def few():
    from conftest import THINGS, WORDS

    from minclip.data import Pairs

    images = torch.randint(0, 256, (64, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    captions = [[f"a {word} {thing}", f"{thing}, {word}"] for word in WORDS for thing in THINGS]
    return Pairs(images, captions, torch.arange(64), [], torch.arange(64))


@pytest.fixture(autouse=True)
def no_curves(request, monkeypatch):
    """The picture takes longer than the training."""
    if "curves" not in request.node.name:
        monkeypatch.setattr("minclip.report.plots.save_figure", lambda *_: None)


def at(step, what):
    return lambda done, model: what(model) if done == step else None


# Kills


def test_a_killed_run_goes_on_to_the_same_files_and_of_two_processes_the_other_ends(tmp_path):
    """The quick form of soak/kills.py."""
    command = [sys.executable, "soak/kills.py", "--count", "6", "--torchrun", "1", "--output", str(tmp_path / "a.json")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "a.json").read_text())
    assert found["cases"] == 6 <= found["kills"] and found["two_processes"] == 2
    assert found["two"][0]["seconds_until_all_ended"] < 60 and not any(row["problem"] for row in found["one"])


def test_a_folder_with_nothing_but_half_a_file_holds_no_run_yet(tmp_path, tiny_pairs):
    (tmp_path / "config.json.part").write_text('{"trai')
    train(config(tmp_path, max_steps=2), pairs=tiny_pairs)
    assert not list(tmp_path.rglob("*.part")) and len(losses(tmp_path)) == 2


def test_a_new_run_in_an_old_folder_takes_nothing_of_it(tmp_path, tiny_pairs):
    """Killed where it hurts most, a run that replaces another leaves one of the two, never a mixture."""
    with pytest.raises(KeyboardInterrupt):
        train(config(tmp_path / "run"), on_step=at(7, interrupt_at_once), pairs=tiny_pairs)
    import minclip.runs as module

    def die(path, value):
        raise SystemExit(9)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(module, "write_json", die)  # of the new settings
        train(config(tmp_path / "run", seed=1, overwrite=True), pairs=tiny_pairs)
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"config.json"}  # the old settings, and no state
    with pytest.raises(ValueError, match="seed: 0 -> 1"):
        train(config(tmp_path / "run", seed=1, resume=True), pairs=tiny_pairs)


@pytest.mark.parametrize("written", [False, True])
def test_a_run_killed_at_its_first_files_can_go_on(tmp_path, tiny_pairs, whole, written):
    import minclip.runs as module

    save = module.Tokenizer.save

    def die(tokenizer, path):
        if written:
            save(tokenizer, path)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module.Tokenizer, "save", die)
        train(config(tmp_path / "run"), pairs=tiny_pairs)
    train(config(tmp_path / "run", resume=True), pairs=tiny_pairs)
    assert_same_run(tmp_path / "run", whole)


def interrupt_at_once(_model) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("content", [b"", b"\0" * 400, b'{"train": 3}', b'{"train": {}, "prec'])
def test_damaged_settings_are_named(tmp_path, tiny_pairs, content):
    tmp_path.joinpath("config.json").write_bytes(content)
    with pytest.raises(ValueError, match="config.json is damaged .*; --overwrite begins anew"):
        train(config(tmp_path, resume=True), pairs=tiny_pairs)


# A spoilt checkpoint


def test_a_run_goes_on_from_the_checkpoint_before_a_spoilt_one(tmp_path, tiny_pairs, whole):
    with pytest.raises(KeyboardInterrupt):
        train(config(tmp_path / "run"), on_step=at(11, interrupt_at_once), pairs=tiny_pairs)
    newest = tmp_path / "run/state/step_00000010.pt"
    newest.write_bytes(newest.read_bytes()[:-1000])
    newest.with_name("step_00000011.pt.part").write_bytes(b"half")  # of a process that was killed at another step
    with pytest.warns(UserWarning, match="step_00000010.pt cannot be read .*; going on from step_00000005.pt"):
        train(config(tmp_path / "run", resume=True), pairs=tiny_pairs)
    assert_same_run(tmp_path / "run", whole)


def test_a_run_none_of_whose_checkpoints_can_be_read_does_not_begin_anew(tmp_path, tiny_pairs):
    with pytest.raises(KeyboardInterrupt):
        train(config(tmp_path / "run"), on_step=at(11, interrupt_at_once), pairs=tiny_pairs)
    for file in (tmp_path / "run/state").iterdir():
        file.write_bytes(bytes(file.stat().st_size))
    before = (tmp_path / "run/metrics.jsonl").read_text()
    with pytest.raises(
        ValueError, match="step_00000010.pt cannot be read .* step_00000005.pt cannot be read .*none|no"
    ):
        train(config(tmp_path / "run", resume=True), pairs=tiny_pairs)
    assert (tmp_path / "run/metrics.jsonl").read_text() == before and len(states(tmp_path / "run")) == 2


# A full disk


@pytest.fixture
def room():
    """room(bytes): no file may grow beyond that; room(): any may."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    limit = lambda size=before[0]: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))  # noqa: E731
    yield limit
    limit()


def test_no_room_for_a_checkpoint(tmp_path, tiny_pairs, whole, room):
    """The real thing: torch writes, and the system says that the file is too large."""
    size = (whole / "state/step_00000005.pt").stat().st_size
    with pytest.raises(DiskError, match="step_00000010.pt could not be written .*; make room: what is there is whole"):
        train(config(tmp_path / "run"), on_step=at(7, lambda _: room(size // 2)), pairs=tiny_pairs)
    room()
    assert states(tmp_path / "run") == ["step_00000005.pt"]
    assert (tmp_path / "run/state/step_00000005.pt").stat().st_size == size
    train(config(tmp_path / "run", resume=True), pairs=tiny_pairs)
    assert_same_run(tmp_path / "run", whole)


def test_no_room_for_a_line_of_the_log(tmp_path, tiny_pairs, whole, room):
    log = tmp_path / "run/metrics.jsonl"
    with pytest.raises(DiskError, match="metrics.jsonl could not be written"):
        train(config(tmp_path / "run"), on_step=at(7, lambda _: room(log.stat().st_size + 20)), pairs=tiny_pairs)
    room()
    assert not log.read_text().endswith("\n")  # half a line
    train(config(tmp_path / "run", resume=True), pairs=tiny_pairs)
    assert_same_run(tmp_path / "run", whole)


FILES = ["config.json", "model.safetensors", "curves.png", "metrics.json", "metrics.jsonl", "step_00000005.pt"]


@pytest.mark.parametrize("name", FILES)
def test_no_room_for_any_other_file(tmp_path, tiny_pairs, whole, monkeypatch, name):
    """A disk that takes a file's content and is full when it is to be brought there."""
    fsync = os.fsync

    def full(descriptor):
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith(f"/{name}.part"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskError, match=f"{name} could not be written .*No space left on device"):
        train(config(tmp_path / "run"), pairs=tiny_pairs)
    assert not (tmp_path / "run" / name).exists() and not list(tmp_path.rglob("*.part"))
    assert not (tmp_path / "run/metrics.json").exists()
    monkeypatch.undo()
    train(config(tmp_path / "run", resume=(tmp_path / "run/config.json").exists()), pairs=tiny_pairs)
    assert_same_run(tmp_path / "run", whole)


def test_a_full_disk_is_one_sentence_on_the_command_line(tmp_path, caption_folder):
    given = flags(tmp_path / "run", caption_folder, "--checkpoint_every", "2")
    command = [sys.executable, "-c", LIMITED, *given]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and last.startswith("error: ") and "step_00000002.pt could not be written" in last
    assert last.endswith("make room: what is there is whole")
    assert "Traceback" not in done.stderr


LIMITED = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
sys.argv[0] = "train.py"
runpy.run_module("minclip.train", run_name="__main__", alter_sys=True)
"""


# Signals


@pytest.fixture(autouse=True)
def ctrl_c_is_heard():
    """Whatever has started pytest: a script's background job is born deaf to it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_run_with_a_checkpoint(tmp_path, tiny_pairs, whole, capsys, number, code):
    handlers = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)}
    push = at(7, lambda _: os.kill(os.getpid(), number))
    with pytest.raises(SystemExit) as ended:
        train(config(tmp_path / "run", log_every=3), on_step=push, pairs=tiny_pairs)
    assert ended.value.code == code
    assert f"stopped at step 8 by {signal.Signals(number).name}; --resume goes on" in capsys.readouterr().out
    assert states(tmp_path / "run") == ["step_00000005.pt", "step_00000008.pt"]
    assert [json.loads(line)["step"] for line in (tmp_path / "run/metrics.jsonl").open()] == [3, 6]
    assert {n: signal.getsignal(n) for n in handlers} == handlers
    train(config(tmp_path / "run", resume=True, log_every=3), pairs=tiny_pairs)
    assert all(torch.equal(weights(whole)[name], value) for name, value in weights(tmp_path / "run").items())


def test_a_second_ctrl_c_interrupts_at_once_and_one_in_the_last_step_changes_nothing(tmp_path, tiny_pairs, whole):
    twice = at(7, lambda _: [os.kill(os.getpid(), signal.SIGINT) for _ in range(2)])
    with pytest.raises(KeyboardInterrupt):
        train(config(tmp_path / "run"), on_step=twice, pairs=tiny_pairs)
    assert states(tmp_path / "run") == ["step_00000005.pt"]
    train(config(tmp_path / "run", resume=True), on_step=at(11, lambda _: os.kill(os.getpid(), 15)), pairs=tiny_pairs)
    assert_same_run(tmp_path / "run", whole)


def test_signals_are_only_taken_where_they_can_be_and_were_not_ignored():
    before = signal.getsignal(signal.SIGTERM)
    handler = lambda: signal.getsignal(signal.SIGTERM)  # noqa: E731
    seen = []
    with noted_signals(True, True):
        assert handler() is not before
        thread = threading.Thread(target=lambda: seen.append(noted_signals(True, True).__enter__()))
        thread.start(), thread.join()
        assert seen == [[]]  # in another thread: no error, and nothing taken
    with noted_signals(False, True):
        assert handler() is before
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with noted_signals(True, True):
            assert handler() is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)
    with noted_signals(True, False) as noted:
        os.kill(os.getpid(), signal.SIGINT), os.kill(os.getpid(), signal.SIGINT)
    assert noted == [signal.SIGINT] * 2


# Numbers that are none


def poison_weights(model):
    model.image_projection.weight.data.fill_(NAN)


def poison_gradients(model):
    model.text_projection.weight.register_hook(lambda gradient: gradient * NAN)


def poison_loss(model):
    model.logit_scale.data.fill_(NAN)


POISONS = [(poison_weights, "features"), (poison_gradients, "gradients"), (poison_loss, "loss")]


@pytest.mark.parametrize("poison, name", POISONS)
@pytest.mark.parametrize("log_every", [1, 3])
def test_the_first_thing_that_is_not_finite_is_named(tmp_path, tiny_pairs, whole, poison, name, log_every):
    settings = config(tmp_path / "run", log_every=log_every)
    with pytest.raises(FloatingPointError, match=f"the {name} became nan at step 8, on pairs ") as raised:
        train(settings, on_step=at(7, poison), pairs=tiny_pairs)
    rows = BatchOrder(tiny_pairs.groups, 16, 0).indices(7).tolist()
    assert f"on pairs {', '.join(map(str, rows[:8]))}, ... (BatchOrder.indices(7) has all 16)" in str(raised.value)
    assert f"the last checkpoint is {tmp_path / 'run/state/step_00000005.pt'}" in str(raised.value)
    assert states(tmp_path / "run") == ["step_00000005.pt"] and not (tmp_path / "run/metrics.json").exists()
    if log_every == 1:
        return
    train(replace(settings, resume=True), pairs=tiny_pairs)
    assert all(torch.equal(weights(whole)[key], value) for key, value in weights(tmp_path / "run").items())


@pytest.mark.parametrize("step", [5, 12])  # where a checkpoint is due, and in the last step
def test_weights_that_are_not_finite_are_never_kept(tmp_path, tiny_pairs, monkeypatch, step):
    """The update itself may overflow after a step whose gradients were finite."""
    import minclip.train as module

    clamp, steps = module.CLIP.clamp_logit_scale, []

    def poison(model):
        steps.append(1)
        if len(steps) == step:
            model.text_projection.weight.data[0, 0] = INF
        clamp(model)

    monkeypatch.setattr(module.CLIP, "clamp_logit_scale", poison)
    said = f"text_projection.weight became NaN or infinite at step {step}, on pairs"
    with pytest.raises(FloatingPointError, match=said):
        train(config(tmp_path / "run"), pairs=tiny_pairs)
    assert not (tmp_path / "run/model.safetensors").exists()
    assert states(tmp_path / "run") == (["step_00000005.pt", "step_00000010.pt"] if step == 12 else [])


def test_check_finite_names_the_first_bad_step(tmp_path):
    order = BatchOrder(torch.arange(32), 16, 0)
    check_finite([[0.0, 1.0, 2.0]] * 2, 5, order, None)
    bad = [[0.0, 1.0, 2.0], [0.0, 1.0, INF], [0.0, NAN, 1.0], [NAN] * 3]
    with pytest.raises(FloatingPointError, match="the gradients became inf at step 6, .*; there is no checkpoint"):
        check_finite(bad, 5, order, tmp_path)
    with pytest.raises(FloatingPointError, match="the loss became nan at step 6"):
        check_finite(bad[2:], 6, order, None)


def test_a_scale_at_its_limit_is_logged(tiny_pairs):
    push = at(7, lambda model: model.logit_scale.data.fill_(5.0))
    settings = config("", scalar_lr_factor=0.0)
    flagged = [line["step"] for line in train(settings, push, tiny_pairs).history if line.get("logit_scale_at_limit")]
    assert flagged == [8, 9, 10, 11, 12]
    sigmoid = train(replace(settings, model=replace(TINY, loss="sigmoid")), push, tiny_pairs)
    assert not any("logit_scale_at_limit" in line for line in sigmoid.history)


def test_two_processes_name_the_step_too(tmp_path, tiny_pairs, monkeypatch):
    """The chunked loss refuses features that are not finite on all processes alike."""
    import minclip.train as module

    monkeypatch.setattr(module, "choose_loss", lambda *_: module.chunked_softmax_loss)
    with pytest.raises(FloatingPointError, match="image_features holds NaN or infinity.* at step 8, on pairs"):
        train(config(tmp_path / "run"), on_step=at(7, poison_weights), pairs=tiny_pairs)


def test_words_of_a_lost_process():
    gloo = RuntimeError("[../gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:1")
    assert lost_another(gloo, "").startswith("another process of this run has ended; there is no checkpoint; --resume")
    with pytest.raises(RuntimeError, match="^mat1 and mat2"):
        lost_another(RuntimeError("mat1 and mat2 shapes cannot be multiplied"), "")
