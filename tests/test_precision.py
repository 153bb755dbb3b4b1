import pytest
import torch

from minclip.precision import resolve_precision


def test_a_chosen_precision_is_kept():
    assert resolve_precision("fp64") == "fp64"


@pytest.mark.parametrize("slow, expected", [(True, "fp32"), (False, "bf16")])
def test_auto_takes_the_faster_one(monkeypatch, slow, expected):
    import time

    clock, autocast = [0.0], torch.autocast

    class Timed(autocast):  # a machine on which bf16 takes twice, or half, the time
        def __enter__(self):
            clock[0] += (2.0 if slow else 0.5) if self._enabled else 1.0
            return super().__enter__()

    monkeypatch.setattr(torch, "autocast", Timed)
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    resolve_precision.cache_clear()
    try:
        assert resolve_precision("auto") == expected
    finally:
        resolve_precision.cache_clear()
