"""The numbers of docs/guarantees.md are those of `make soak`'s results, and none of its promises was broken."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = " ".join((ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8").split())
SOAK = sorted(path.stem.removeprefix("soak_") for path in (ROOT / "results").glob("soak_*.json"))


def result(name: str) -> dict:
    return json.loads((ROOT / "results" / f"soak_{name}.json").read_text())


def kills() -> list[str]:
    found = result("kills")
    assert found["broken"] == 0
    kinds, slowest = found["kinds"], max(case.get("seconds_until_all_ended", 0) for case in found["two"])
    at_files = sum(count for kind, count in kinds.items() if kind.startswith("file"))
    return [
        f"{found['cases']} runs killed {found['kills']} times",
        f"{at_files} times while a file was written, {kinds['line']} in a line of the log, {kinds['time']} at any time",
        f"the slowest took {slowest:.2f} s",
    ]


def fuzz() -> list[str]:
    kinds = result("fuzz")["kinds"]
    total = {
        key: sum(kind[key] for kind in kinds.values()) for key in ("tried", "loaded", "skipped", "refused", "crashed")
    }
    assert total["crashed"] == 0 and total["tried"] == total["loaded"] + total["skipped"] + total["refused"]
    peak = max(kind["peak_memory_mb"] for kind in kinds.values())
    counts = ", ".join(f"{total[key]:,} {key}" for key in ("loaded", "skipped", "refused", "crashed"))
    return [f"{total['tried']:,} damaged inputs of {len(kinds)} kinds: {counts}", f"at most {peak:.0f} MB"]


def weights() -> list[str]:
    found = result("weights")
    assert found["kept"] and not found["broken"] and sum(found["outcomes"].values()) == found["cases"]
    return [
        f"{found['cases']:,} damaged models: {found['outcomes']['refused']:,} refused with the file's name",
        f"{found['outcomes']['loaded equal'] + found['outcomes']['loaded different']:,} loaded and worked",
    ]


def threads() -> list[str]:
    found = result("threads")
    assert found["kept"] and not found["broken"]
    worst = {
        p: max(c["difference"] for name, c in found["curves"].items() if name.endswith(p)) for p in ("fp64", "fp32")
    }
    return [f"at most {worst['fp64']:.0e} of a loss in float64, {worst['fp32']:.0e} in float32"]


def memory() -> list[str]:
    found = result("memory")
    assert found["kept"]
    return [f"{found['minutes']:g} minutes", f"{found['mb_a_minute']:+.2f} MB a minute"]


@pytest.mark.parametrize("name", SOAK)
def test_the_page_says_what_was_measured(name):
    for sentence in globals()[name]():
        assert sentence in PAGE, sentence


def test_every_long_form_has_a_command_in_make_soak_and_results_are_from_it():
    scripts = {path.stem for path in (ROOT / "soak").glob("*.py")}
    target = re.search(r"^soak:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    assert set(re.findall(r"soak/(\w+)\.py .*--output results/soak_\1\.json", target)) == scripts == set(SOAK)
    for name in SOAK:
        asked = re.search(rf"python (soak/{name}\.py .*?) --output", target)[1]
        assert asked in result(name)["command"]
