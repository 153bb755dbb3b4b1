import json

import pytest
import torch

from minclip.checkpoint import cut_log, load_state, save_state, write_atomically, write_json


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    write_json(tmp_path / "a.json", {"old": 1})

    def fail(part):
        part.write_text("half of it")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(tmp_path / "a.json", fail)
    assert json.loads((tmp_path / "a.json").read_text()) == {"old": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_newest_state_comes_back_and_two_are_kept(tmp_path):
    for step in (9, 10, 100):
        save_state(tmp_path, step, {"weights": torch.tensor([float(step)]), "seconds": 1.5})
    state = load_state(tmp_path)
    assert state["step"] == 100 and state["weights"].item() == 100.0 and state["seconds"] == 1.5
    assert sorted(file.name for file in tmp_path.iterdir()) == ["step_00000010.pt", "step_00000100.pt"]


def test_no_state_is_none(tmp_path):
    assert load_state(tmp_path / "nothing") is None


def test_a_broken_state_is_named(tmp_path):
    (tmp_path / "step_00000005.pt").write_bytes(b"broken")
    with pytest.raises(ValueError, match="step_00000005.pt cannot be read"):
        load_state(tmp_path)


class Evil:
    def __reduce__(self):
        return (print, ("code was run",))


def test_a_state_that_would_run_code_is_refused(tmp_path, capsys):
    torch.save({"step": 1, "evil": Evil()}, tmp_path / "step_00000001.pt")
    with pytest.raises(ValueError, match="cannot be read"):
        load_state(tmp_path)
    assert "code was run" not in capsys.readouterr().out


def test_log_is_cut_back(tmp_path):
    log = tmp_path / "metrics.jsonl"
    log.write_text("".join(json.dumps({"step": step}) + "\n" for step in (5, 10, 15)) + '{"step": 2')
    assert cut_log(log, 10) == [{"step": 5}, {"step": 10}]
    assert log.read_text() == '{"step": 5}\n{"step": 10}\n'


def test_a_half_written_last_line_is_dropped(tmp_path):
    log = tmp_path / "metrics.jsonl"
    log.write_text('{"step": 5}\n{"step": 1')
    assert cut_log(log, 100) == [{"step": 5}]
