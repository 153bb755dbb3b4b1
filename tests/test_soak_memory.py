"""The quick forms of `soak/memory.py` and `soak/threads.py`: flat memory, the same numbers on one thread and two."""

import copy
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "soak"))

import memory  # noqa: E402
import threads  # noqa: E402


def test_memory_stays_flat(tmp_path):
    watched = memory.watch(5, tmp_path, every=0.5, steps=120)  # a round and a bit
    judged = memory.judge(watched["samples"], 0.25)
    assert judged["kept"], (judged, watched["samples"])
    assert watched["rounds"] == 1 and watched["evaluations"] == 4 and len(watched["samples"]) > 4


def test_a_leak_is_seen(tmp_path):
    kept = []
    leak = lambda: kept.append(b"x" * 12_000_000)  # noqa: E731
    judged = memory.judge(memory.watch(5, tmp_path, every=0.25, steps=60, after_step=leak)["samples"], 0.25)
    assert not judged["kept"] and judged["growth_percent"] > memory.QUICK_GROWTH, judged


def test_a_slow_leak_is_seen_in_a_long_run_alone():
    slow = [(t, 800 + 1.5 * t / 60) for t in range(0, 1800, 5)]  # 1.5 MB a minute
    assert not memory.judge(slow, 30)["kept"] and memory.judge(slow[:5], 0.4)["kept"]
    assert memory.judge([(t, 800 + min(t / 10, 30)) for t in range(0, 1800, 5)], 30)[
        "kept"
    ]  # the warm-up is not a leak
    assert memory.judge(slow, 30)["mb_a_minute"] == pytest.approx(1.5, abs=1e-6)


@pytest.fixture(scope="module")
def curves():
    return [threads.measure(n, 3) for n in threads.THREADS]


def test_one_thread_and_two_agree(curves):
    result = threads.compare(curves)
    assert result["kept"], result["broken"]
    assert len(result["curves"]) == 4 and all(len(one["vit fp64"][0]["losses"]) == 3 for one in curves)


def test_what_differs_is_said(curves):
    changed = copy.deepcopy(curves)
    changed[1]["vit fp64"][1]["weights"] = "another"
    for run in changed[1]["resnet fp32"]:
        run["losses"][2] *= 1.01
    broken = threads.compare(changed)["broken"]
    assert [line.split(":")[0] for line in broken] == ["vit fp64", "resnet fp32"]
    assert not threads.compare([curves[0], curves[0]])["kept"]  # two processes with one thread each prove nothing
