import json
import pickle
import random
import re
import struct
import zipfile
from pathlib import Path

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


def test_the_one_before_a_spoilt_state_is_taken_and_the_spoilt_one_goes(tmp_path):
    for step in (10, 20):
        save_state(tmp_path, step, {"weights": torch.tensor([float(step)])})
    (tmp_path / "step_00000020.pt").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"step_00000020.pt cannot be read \(.*\); going on from step_00000010.pt"):
        assert load_state(tmp_path)["weights"].item() == 10
    save_state(tmp_path, 15, {"weights": torch.tensor([15.0])})  # a run may now keep its states at other steps
    assert sorted(file.name for file in tmp_path.iterdir()) == ["step_00000010.pt", "step_00000015.pt"]


def test_no_readable_state_is_an_error_that_names_all(tmp_path):
    for step in (10, 20):
        save_state(tmp_path, step, {"weights": torch.zeros(1)})
    for file in tmp_path.iterdir():
        file.write_bytes(b"")
    with pytest.raises(ValueError, match="00020.pt cannot be read .*00010.pt cannot be read .*no other"):
        load_state(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_state_under_another_name_is_refused(tmp_path):
    save_state(tmp_path, 10, {"weights": torch.zeros(1)})
    (tmp_path / "step_00000010.pt").rename(tmp_path / "step_00000020.pt")
    with pytest.raises(ValueError, match="no state of this step"):
        load_state(tmp_path)


def spoilt(content: bytes, chance: random.Random) -> bytes:
    """A file as a disk might spoil it: cut off, zeros in it, one bit turned, two parts in the wrong order."""
    kind, at = chance.randrange(4), chance.randrange(len(content))
    if kind == 0:
        return content[:at]
    if kind == 1:
        size = min(chance.choice((1, 512, 4096)), len(content) - at)
        return content[:at] + bytes(size) + content[at + size :]
    if kind == 2:
        return content[:at] + bytes([content[at] ^ 1 << chance.randrange(8)]) + content[at + 1 :]
    return content[at:] + content[:at]


def test_a_spoilt_state_is_refused_or_still_the_same(tmp_path):
    """400 ways to spoil one: a wrong number is never read. (What a flip in the padding changes is nothing.)"""
    weights = torch.randn(500, generator=torch.Generator().manual_seed(0))
    save_state(tmp_path, 7, {"weights": weights, "seconds": 1.5, "words": ["a", "b"]})
    (file,) = tmp_path.iterdir()
    content, chance, refused = file.read_bytes(), random.Random(0), 0
    for _ in range(400):
        file.write_bytes(spoilt(content, chance))
        try:
            state = load_state(tmp_path)
        except ValueError as error:
            refused += 1
            assert str(error).startswith(f"checkpoint {file} cannot be read (")
        else:
            assert torch.equal(state.pop("weights"), weights)
            assert state == {"step": 7, "seconds": 1.5, "words": ["a", "b"]}
    assert refused > 250


# States from strangers


class Evil:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call[0], self.call[1:]


def peak_mb(action) -> float:
    """By how much the memory of this process rises above where it stands, at most, while `action()` runs."""
    read = lambda key: int(re.search(rf"{key}:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1e3  # noqa: E731
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak to where it stands
    before = read("VmRSS")
    action()
    return read("VmHWM") - before


def assert_refused(folder, message) -> None:
    def load():
        with pytest.raises(ValueError, match=message):
            load_state(folder)

    assert peak_mb(load) < 50


@pytest.mark.parametrize("call", [(print, "code was run"), (bytearray, 10**9), (getattr, [], "append")])
def test_a_state_that_names_anything_but_tensors_is_refused(tmp_path, capsys, call):
    torch.save({"step": 1, "evil": Evil(*call)}, tmp_path / "step_00000001.pt")
    assert_refused(tmp_path, r"it names \['\w+ (print|bytearray|getattr)'\]")
    assert "code was run" not in capsys.readouterr().out


def test_the_old_format_of_torch_and_a_bare_pickle_are_refused(tmp_path, capsys):
    torch.save({"step": 1}, tmp_path / "step_00000001.pt", _use_new_zipfile_serialization=False)
    assert_refused(tmp_path, "step_00000001.pt cannot be read .*not a zip file")
    (tmp_path / "step_00000001.pt").write_bytes(pickle.dumps(Evil(print, "code was run")))
    assert_refused(tmp_path, "not a zip file")
    assert "code was run" not in capsys.readouterr().out


def test_a_zip_bomb_is_refused(tmp_path):
    torch.save({"step": 1, "weights": torch.zeros(9)}, tmp_path / "good")
    with (
        zipfile.ZipFile(tmp_path / "good") as good,
        zipfile.ZipFile(tmp_path / "step_00000001.pt", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for entry in good.infolist():
            with bomb.open(entry.filename, "w") as file:
                for _ in range(1000 if "/data/" in entry.filename else 0):
                    file.write(bytes(10**6))
                file.write(good.read(entry) if "/data/" not in entry.filename else b"")
    assert (tmp_path / "step_00000001.pt").stat().st_size < 2e6
    assert_refused(tmp_path, "unpacks to more than its size")


def test_a_zip_that_says_that_it_holds_more_than_it_does_is_refused(tmp_path):
    file = tmp_path / "step_00000001.pt"
    torch.save({"step": 1, "weights": torch.zeros(999)}, file)
    content = file.read_bytes()
    at = content.rindex(b"PK\1\2", 0, content.rindex(b"data/0"))  # the entry in the directory at the end
    file.write_bytes(content[: at + 20] + struct.pack("<II", 2**31, 2**31) + content[at + 28 :])
    assert_refused(tmp_path, "unpacks to more than its size")


def test_a_tensor_larger_than_its_numbers_is_refused(tmp_path):
    """A pickle that gives a storage of 4 bytes 10^10 numbers."""
    file = tmp_path / "step_00000001.pt"
    torch.save({"step": 1, "weights": torch.zeros(1)}, tmp_path / "good")

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return ("storage", torch.FloatStorage, "0", "cpu", 10**10) if value == "numbers" else None

    with zipfile.ZipFile(tmp_path / "good") as good, zipfile.ZipFile(file, "w") as out:
        for entry in good.infolist():
            with out.open(entry.filename, "w") as part:
                if entry.filename.endswith(".pkl"):
                    rebuilt = Evil(torch._utils._rebuild_tensor_v2, "numbers", 0, (10**10,), (1,), False, {})
                    Pickler(part, 2).dump({"step": 1, "weights": rebuilt})
                else:
                    part.write(good.read(entry))
    assert_refused(tmp_path, "cannot be read")


def test_log_is_cut_back(tmp_path):
    log = tmp_path / "metrics.jsonl"
    log.write_text("".join(json.dumps({"step": step}) + "\n" for step in (5, 10, 15)) + '{"step": 2')
    assert cut_log(log, 10) == [{"step": 5}, {"step": 10}]
    assert log.read_text() == '{"step": 5}\n{"step": 10}\n'


ENDS = [b'{"step": 1', b"\0" * 300, b"\xff\xfe", b"3\n", b'{"loss": 1}\n', b"[]\n", b'{"step": "x"}\n']


@pytest.mark.parametrize("end", ENDS)
def test_a_line_that_is_none_and_all_after_it_are_dropped(tmp_path, end):
    log = tmp_path / "metrics.jsonl"
    log.write_bytes(b'{"step": 5}\n' + end)
    assert cut_log(log, 100) == [{"step": 5}]
    assert log.read_text() == '{"step": 5}\n'
