"""Sweeps: what is run, what is shared, and what is kept."""

import json
from types import SimpleNamespace

import pytest
import torch

from experiments import sweep
from experiments.sweep import RUN_FOLDERS, read_run, run_function, run_key, run_path, run_sweep, write_lines

CALLS = []


@run_function(version=1, defaults={"height": 0.0, "slope": None, "fail": -1})
def instant(setting: dict, seed: int) -> dict:
    if seed == setting["fail"]:
        raise ArithmeticError("thirteen")
    CALLS.append((setting["height"], seed))
    return {"top1": setting["height"] + seed, "curve": [1 / 3, float("nan")], "threads": torch.get_num_threads()}


@run_function(version=1, defaults={"width": 8})
def multiply(setting: dict, seed: int) -> dict:
    x = torch.randn(64, setting["width"], generator=torch.Generator().manual_seed(seed))
    return {"sum": (x.T @ x).exp().sum().item() ** 0.01, "threads": torch.get_num_threads()}


def claim(run=instant, id="fake", seeds=(0, 1), **settings):
    return SimpleNamespace(id=id, run=run, seeds=seeds, settings=settings)


def sweep_in(folder, c, seeds=None, workers=1, **more):
    return run_sweep(c, seeds, workers, folder, progress=False, **more)


@pytest.fixture(autouse=True)
def no_calls():
    CALLS.clear()


def test_measurements_name_setting_seed_and_run(tmp_path):
    rows = sweep_in(tmp_path, claim(low={}, high={"height": 2.0}))
    assert [(m["setting"], m["seed"], m["top1"]) for m in rows] == [
        ("low", 0, 0.0), ("high", 0, 2.0), ("low", 1, 1.0), ("high", 1, 3.0),
    ]  # fmt: skip
    assert rows[0]["curve"] == [0.333333, None]
    assert all((tmp_path / RUN_FOLDERS[0] / m["run"]).exists() and m["seconds"] >= 0 for m in rows)


def test_file_of_a_run_says_what_it_was(tmp_path):
    (row,) = sweep_in(tmp_path, claim(one={"height": 1.5}, seeds=(4,)))
    content = json.loads((tmp_path / RUN_FOLDERS[0] / row["run"]).read_text())
    assert content["function"].endswith("test_sweep.instant") and content["version"] == 1 and content["seed"] == 4
    assert content["setting"] == {"height": 1.5, "slope": None, "fail": -1}
    assert content["result"]["top1"] == 5.5 and content["threads"] == 1 and content["torch"] == torch.__version__
    assert content["device"].startswith(("cpu", "NVIDIA")) or content["device"]


def test_claims_share_runs_whatever_they_call_them(tmp_path):
    sweep_in(tmp_path, claim(a={"height": 1.0}))
    rows = sweep_in(tmp_path, claim(id="other", b={"height": 1.0, "slope": None}, c={"height": 1}))
    assert CALLS == [(1.0, 0), (1.0, 1)] and [m["setting"] for m in rows] == ["b", "c", "b", "c"]


def test_what_identifies_a_run():
    key = run_key(instant, {"height": 1.0})
    assert key == run_key(instant, {"slope": None, "height": 1.0})
    assert key != run_key(instant, {"height": 2.0})
    older = run_function(2, instant.defaults)(lambda setting, seed: {})
    older.__module__, older.__name__ = instant.__module__, instant.__name__
    assert key != run_key(older, {"height": 1.0})
    paths = {run_path(instant, {}, seed) for seed in range(5)}
    assert len(paths) == 5
    with pytest.raises(ValueError, match="instant has no setting heigth; it knows height, slope, fail"):
        run_key(instant, {"heigth": 1.0})


def test_interrupted_sweep_runs_only_what_is_missing(tmp_path):
    broken = claim(a={"fail": 1}, b={"height": 2.0}, seeds=(0, 1, 2))
    with pytest.raises(RuntimeError, match="claim fake, setting 'a', seed 1: ArithmeticError: thirteen"):
        sweep_in(tmp_path, broken)
    assert CALLS == [(0.0, 0), (2.0, 0)] and len(list((tmp_path / RUN_FOLDERS[0]).iterdir())) == 2
    sweep_in(tmp_path, claim(b={"height": 2.0}, seeds=(0, 1, 2)))
    assert CALLS[2:] == [(2.0, 1), (2.0, 2)]


def test_a_run_that_dies_while_writing_leaves_nothing(tmp_path, monkeypatch):
    def die(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", die)
    with pytest.raises(KeyboardInterrupt):
        sweep_in(tmp_path, claim(a={}))
    assert list((tmp_path / RUN_FOLDERS[0]).iterdir()) == []
    monkeypatch.undo()
    assert len(sweep_in(tmp_path, claim(a={}))) == 2


def test_seeds_decide_the_folder(tmp_path):
    sweep_in(tmp_path, claim(a={}), seeds=(0, 4, 5, 100))
    assert len(list((tmp_path / "results/runs").iterdir())) == 2
    assert len(list((tmp_path / "runs/calibration").iterdir())) == 2
    sweep_in(tmp_path, claim(a={}), again=True)
    assert len(list((tmp_path / "runs/again/fake").iterdir())) == 2 and len(CALLS) == 6


def test_prepare_is_called_once_and_only_when_something_is_missing(tmp_path):
    prepared = []
    run = run_function(1, {"x": 0, "z": 7}, prepared.append)(lambda setting, seed: {"y": seed})
    sweep_in(tmp_path, claim(run, a={}), seeds=(0,))
    assert prepared == [[{"x": 0, "z": 7}]]
    sweep_in(tmp_path, claim(run, a={}, b={"x": 1}), seeds=(0,))
    assert prepared[1:] == [[{"x": 1, "z": 7}]]  # what is missing, complete
    sweep_in(tmp_path, claim(run, a={}, b={"x": 1}), seeds=(0,))
    assert len(prepared) == 2


def test_changed_default_without_a_new_version_is_an_error(tmp_path, monkeypatch):
    (row, _) = sweep_in(tmp_path, claim(a={"height": 1.0}))
    path = tmp_path / RUN_FOLDERS[0] / row["run"]
    key = run_key(instant, {"height": 1.0})
    monkeypatch.setattr(instant, "defaults", {**instant.defaults, "new": 3})
    assert run_key(instant, {"height": 1.0, "new": 3}) == key
    assert read_run(path, instant, {"height": 1.0})["seed"] == 0  # a new key changes nothing
    monkeypatch.setattr(instant, "defaults", {**instant.defaults, "slope": 1.0})
    with pytest.raises(ValueError, match=r"no longer that of .*slope: None -> 1.0\); raise its version"):
        read_run(path, instant, {"height": 1.0})


def test_broken_file_is_named(tmp_path):
    (row, _) = sweep_in(tmp_path, claim(a={}))
    path = tmp_path / RUN_FOLDERS[0] / row["run"]
    for text in ("{", "[]", "{}"):
        path.write_text(text)
        with pytest.raises(ValueError, match=f"{path.name} is not the file of a run .*; delete it and run again"):
            sweep_in(tmp_path, claim(a={}))


def test_written_lines_are_json_and_one_a_row(tmp_path):
    content = {"a": [1, 2], "rows": [{"x": 1}, {"x": "é"}], "none": []}
    write_lines(tmp_path / "x.json", content)
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert json.loads(text) == content and len(text.splitlines()) == 6


def test_number_of_workers_changes_no_result(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")  # what the workers would take if nobody told them
    c = claim(multiply, narrow={}, wide={"width": 32})
    alone, together = sweep_in(tmp_path / "1", c, workers=1), sweep_in(tmp_path / "2", c, workers=2)
    keep = lambda rows: [{k: v for k, v in m.items() if k != "seconds"} for m in rows]  # noqa: E731
    assert keep(alone) == keep(together) and all(m["threads"] == 1 for m in alone)


def test_worker_that_fails_is_named_and_the_finished_runs_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    c = claim(a={}, b={"fail": 1}, seeds=(0, 1))
    with pytest.raises(RuntimeError, match="claim fake, setting 'b', seed 1: ArithmeticError: thirteen"):
        sweep_in(tmp_path, c, workers=2)
    assert len(list((tmp_path / RUN_FOLDERS[0]).iterdir())) == 3


def test_one_process_computes_on_one_thread_and_gives_the_threads_back(tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        (row, _) = sweep_in(tmp_path, claim(a={}))
        assert row["threads"] == 1 and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_gpu_gets_one_process(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")
    monkeypatch.setattr(sweep, "ProcessPoolExecutor", None)
    rows = sweep_in(tmp_path, claim(a={}), workers=8)
    assert len(rows) == 2 and rows[0]["device"] == "a GPU"


def test_a_finished_repetition_is_begun_anew_and_an_interrupted_one_goes_on(tmp_path):
    both = claim(a={"slope": 1.0}, b={"slope": 2.0})
    sweep_in(tmp_path, both, again=True)
    assert len(CALLS) == 4
    sweep_in(tmp_path, both, again=True)
    assert len(CALLS) == 8  # all of it, once more
    sorted((tmp_path / "runs/again/fake").iterdir())[0].unlink()
    sweep_in(tmp_path, both, again=True)
    assert len(CALLS) == 9  # only what was missing
    sweep_in(tmp_path, both)
    sweep_in(tmp_path, both)
    assert len(CALLS) == 13  # the ledger's own runs are never made twice
