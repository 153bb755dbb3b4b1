"""Claims: the ledger, the command line, and what is committed."""

import json
import re
from dataclasses import replace

import pytest

from experiments.claims import (
    ROOT,
    Arguments,
    Claim,
    answer,
    execute,
    load_claims,
    main,
    make_record,
    means,
    read_curves,
    read_result,
    render,
    write_result,
)
from experiments.sweep import run_function, run_sweep
from experiments.verdicts import (
    Check,
    default_verdict,
    paired_difference,
)

CALLS = []


@run_function(version=1, defaults={"height": 0.0, "slope": 0.0})
def instant(setting: dict, seed: int) -> dict:
    CALLS.append((setting["height"], seed))
    if setting["height"] == 13.0:
        raise ArithmeticError("thirteen")
    return {"top1": setting["height"] + 0.001 * seed, "curve": [0.0, 1.0]}


def judge(measurements: list[dict]) -> list[Check]:
    effect = paired_difference(measurements, "high", "low", "top1")
    return [Check("high above low", effect, default_verdict(effect, 0.05))]


def make_claim(**changes) -> Claim:
    claim = Claim(
        id="fake-claim",
        paper="A paper",
        figure="Fig. 1",
        statement="High is above low.",
        paper_numbers="70.0 | 60.0",
        data="none",
        settings={"high": {"height": 0.3}, "low": {"height": 0.2}},
        run=instant,
        rule="high above low by 5 points",
        judge=judge,
        minutes=1.0,
        columns=("top1",),
        why="Because.",
    )
    return replace(claim, **changes)


@pytest.fixture(autouse=True)
def no_calls():
    CALLS.clear()


def snapshot(folder) -> dict:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# the ledger


def test_result_holds_the_fields_of_the_design(tmp_path):
    claim = make_claim()
    record = write_result(claim, run_sweep(claim, root=tmp_path, workers=1, progress=False), tmp_path)
    assert record == json.loads((tmp_path / "results/fake-claim.json").read_text())
    design = "id paper figure statement rule settings seeds measurements effect verdict minutes device command commit"
    assert set(design.split()) | {"paper_numbers", "data", "ours", "why", "checks"} == set(record)
    assert record["seeds"] == [0, 1, 2] and record["verdict"] == "reproduced"
    assert record["effect"]["mean"] == pytest.approx(0.1) and record["effect"] == record["checks"][0]["effect"]
    first = record["measurements"][0]
    assert first["setting"] == "high" and first["top1"] == 0.3 and "curve" not in first
    assert (tmp_path / "results/runs" / first["run"]).exists()
    assert record["command"] == "make reproduce CLAIM=fake-claim" and record["commit"] is None
    assert str(tmp_path) not in json.dumps(record)


def test_commit_is_that_of_the_repository(tmp_path):
    claim = make_claim()
    record = make_record(claim, run_sweep(claim, root=tmp_path, workers=1, progress=False), ROOT)
    assert record["commit"] is None or set(record["commit"]) <= set("0123456789abcdef")
    assert record["commit"] is not None or not (ROOT / ".git").exists()


def test_claims_say_their_seeds():
    assert make_claim().seeds == (0, 1, 2) and make_claim(n_seeds=5).seeds == (0, 1, 2, 3, 4)


def test_only_all_of_the_claims_seeds_make_a_verdict(tmp_path):
    claim = make_claim()
    measurements = run_sweep(claim, [0, 1], root=tmp_path, workers=1, progress=False)
    with pytest.raises(ValueError, match=r"needs seeds \(0, 1, 2\), got \(0, 1\)"):
        write_result(claim, measurements, tmp_path)
    assert not (tmp_path / "results/fake-claim.json").exists()


def test_calibration_and_other_seeds_are_printed_and_never_written(tmp_path, capsys):
    claim = make_claim()
    execute(Arguments(claim="fake-claim"), {"fake-claim": claim}, tmp_path)
    before = snapshot(tmp_path)
    capsys.readouterr()
    for seeds in ((100, 101), (10, 11, 12)):
        execute(Arguments(claim="fake-claim", seeds=seeds, workers=1), {"fake-claim": claim}, tmp_path)
        printed = capsys.readouterr().out
        assert "fake-claim: reproduced" in printed and "recorded: reproduced" in printed
    after = snapshot(tmp_path)
    new = set(after) - set(before)
    assert len(new) == 10 and {path.parts[:2] for path in new} == {("runs", "calibration")}
    assert all(after[path] == before[path] for path in before)


def test_again_runs_everything_anew_and_leaves_the_ledger(tmp_path, capsys):
    claims = {"fake-claim": make_claim()}
    execute(Arguments(workers=1), claims, tmp_path)
    before = snapshot(tmp_path)
    CALLS.clear()
    execute(Arguments(again=True, workers=1), claims, tmp_path)
    assert len(CALLS) == 6 and "recorded: reproduced" in capsys.readouterr().out
    after = snapshot(tmp_path)
    assert {path.parts[:2] for path in set(after) - set(before)} == {("runs", "again")}
    assert all(after[path] == before[path] for path in before)


def test_ledger_shows_claims_with_results_and_lists_the_others(tmp_path):
    claims = {"fake-claim": make_claim(), "later": make_claim(id="later", statement="Later is | later.")}
    execute(Arguments(claim="fake-claim", workers=1), claims, tmp_path)
    text = (tmp_path / "CLAIMS.md").read_text()
    (row,) = [line for line in text.splitlines() if line.startswith("| [fake-claim]")]
    assert "70.0 \\| 60.0" in row and "**reproduced**" in row and "Because." in row
    assert "high above low: +10.0 points [+10.0, +10.0], 3 of 3 seeds" in row
    assert "| high | 0.301 |" in text and "| low | 0.201 |" in text and "make reproduce CLAIM=fake-claim" in text
    assert "## Not run yet\n\n- `later` (A paper, Fig. 1): Later is | later." in text


def test_the_table_shows_what_decides_and_the_details_show_all(tmp_path):
    checks = lambda m: [*judge(m), replace(judge(m)[0], sentence="beside it", decisive=False)]  # noqa: E731
    execute(Arguments(workers=1), {"fake-claim": make_claim(judge=checks)}, tmp_path)
    lines = (tmp_path / "CLAIMS.md").read_text().splitlines()
    (row,) = [line for line in lines if line.startswith("| [fake-claim]")]
    assert "high above low" in row and "beside it" not in row
    told = [line for line in lines if line.startswith("  - ")]
    assert len(told) == 2 and told[1].startswith("  - beside it: +10.0") and told[1].endswith("(beside the claim)")


def test_another_verdict_the_second_time_is_an_error(tmp_path, capsys):
    claims = {"fake-claim": make_claim()}
    execute(Arguments(workers=1), claims, tmp_path)
    ledger = tmp_path / "results/fake-claim.json"
    ledger.write_text(ledger.read_text().replace('"verdict": "reproduced",\n', '"verdict": "opposite",\n'))
    with pytest.raises(RuntimeError, match="another one than recorded: fake-claim"):
        execute(Arguments(again=True, workers=1), claims, tmp_path)
    assert "fake-claim: reproduced" in capsys.readouterr().out
    execute(Arguments(seeds=(10,), workers=1), claims, tmp_path)  # other seeds may well say something else


def test_a_claim_names_its_notebook(tmp_path):
    execute(Arguments(workers=1), {"fake-claim": make_claim(notebook="06_x")}, tmp_path)
    assert "- **Shown in.** [06_x](notebooks/06_x.ipynb)" in (tmp_path / "CLAIMS.md").read_text()


def test_render_alone_runs_nothing(tmp_path):
    execute(Arguments(render=True), {"fake-claim": make_claim()}, tmp_path)
    assert not CALLS and "- `fake-claim`" in (tmp_path / "CLAIMS.md").read_text()
    assert not (tmp_path / "results").exists()


# the command line


def test_dry_run_counts_missing_runs_once_and_prefers_measured_minutes(tmp_path, capsys):
    claims = {"fake-claim": make_claim(), "twin": make_claim(id="twin", minutes=7.0)}
    execute(Arguments(dry_run=True, workers=2), claims, tmp_path)
    assert "fake-claim: 6 runs missing, 3.0 minutes (such runs were timed: 0 of 6)" in (
        printed := capsys.readouterr().out
    )
    assert "twin: nothing is missing" in printed and "in all 3.0 minutes with 2 workers" in printed
    run_sweep(make_claim(), [100], root=tmp_path, workers=1, progress=False)
    for path in (tmp_path / "runs/calibration").iterdir():
        path.write_text(json.dumps({**json.loads(path.read_text()), "seconds": 30}))
    CALLS.clear()
    execute(Arguments(dry_run=True, workers=1), claims, tmp_path)
    assert "6 runs missing, 3.0 minutes (such runs were timed: 6 of 6)" in capsys.readouterr().out
    assert not CALLS and not (tmp_path / "CLAIMS.md").exists()


def test_dry_run_of_a_repetition_counts_all_of_it_unless_it_was_interrupted(tmp_path, capsys):
    claims = {"fake-claim": make_claim(), "twin": make_claim(id="twin")}

    def predicted() -> list[str]:
        capsys.readouterr()
        execute(Arguments(again=True, dry_run=True, workers=1), claims, tmp_path)
        return [line.split(",")[0] for line in capsys.readouterr().out.splitlines()[:2]]

    assert predicted() == ["fake-claim: 6 runs missing", "twin: 6 runs missing"]
    execute(Arguments(claim="fake-claim", again=True, workers=1), claims, tmp_path)
    assert predicted() == ["fake-claim: 6 runs missing", "twin: 6 runs missing"]  # twin's repetition is its own
    sorted((tmp_path / "runs/again/fake-claim").iterdir())[0].unlink()
    assert predicted()[0] == "fake-claim: 1 runs missing"


def test_unknown_claim_lists_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match="unknown claim 'nope'; choose from fake-claim, other"):
        execute(Arguments(claim="nope"), {"fake-claim": make_claim(), "other": make_claim(id="other")}, tmp_path)


def test_command_line_says_errors_in_one_sentence(monkeypatch):
    monkeypatch.setattr("sys.argv", ["claims", "--claim", "nope"])
    with pytest.raises(SystemExit, match="error: unknown claim 'nope'; choose from .*siglip-bias-init"):
        main()


def test_file_and_id_of_a_claim_must_agree(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / "wrong_experiments"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "one.py").write_text("class CLAIM:\n    id = 'two'\n")
    with pytest.raises(ValueError, match="one.py holds the claim 'two'; file and id must agree"):
        load_claims("wrong_experiments")


# what is committed


def test_committed_ledger_is_what_the_results_say():
    assert (ROOT / "CLAIMS.md").read_text() == render(load_claims()), "run: python -m experiments.claims --render"


def test_committed_results_follow_from_the_committed_runs(monkeypatch):
    claims = load_claims()
    committed = [claim for id, claim in claims.items() if (ROOT / "results" / f"{id}.json").exists()]

    def refuse(*_):
        raise AssertionError("a committed result lacks one of its runs")

    monkeypatch.setattr("experiments.sweep.compute_run", refuse)
    for claim in committed:
        monkeypatch.setattr(claim.run, "prepare", None)
        record = json.loads((ROOT / "results" / f"{claim.id}.json").read_text())
        again = make_record(claim, run_sweep(claim, workers=1, progress=False))
        assert {**record, "commit": None} == {**again, "commit": None}
    assert {claim.id for claim in committed} <= set(claims)


def test_readme_tells_the_verdicts_of_the_ledger():
    rows = re.findall(
        r"^\| \[`([a-z0-9-]+)`\]\(CLAIMS\.md#\1\) .*\| ([a-z ]+) \|$", (ROOT / "README.md").read_text(), re.M
    )
    committed = [id for id in load_claims() if (ROOT / "results" / f"{id}.json").exists()]
    assert sorted(rows) == sorted((id, read_result(id)["verdict"]) for id in committed)


def test_every_claim_is_well_formed():
    for claim in load_claims().values():
        assert claim.settings and claim.minutes > 0 and claim.columns
        assert (ROOT / "notebooks" / "py" / f"{claim.notebook}.py").exists()
        assert set().union(*map(set, claim.settings.values())) <= set(claim.run.defaults)
        assert all(text.strip() for text in (claim.statement, claim.paper_numbers, claim.data, claim.rule))


# What notebooks read


def test_notebooks_read_a_result_its_means_and_its_curves(tmp_path):
    record = {"measurements": [{"setting": "a", "seed": s, "run": f"a_{s}.json", "top1": s / 10} for s in range(3)]}
    (tmp_path / "results/runs").mkdir(parents=True)
    (tmp_path / "results/some-claim.json").write_text(json.dumps(record))
    for seed in range(3):
        (tmp_path / f"results/runs/a_{seed}.json").write_text(json.dumps({"result": {"curve_loss": [seed, seed + 1]}}))
    read = read_result("some-claim", tmp_path)
    assert read == record
    (mean,), (half,) = means(read, ["a"], "top1")
    assert (mean, half) == pytest.approx((0.1, 4.303 * 0.1 / 3**0.5))
    assert read_curves(read, "a", "curve_loss", tmp_path) == [[0, 1], [1, 2], [2, 3]]
    with pytest.raises(FileNotFoundError, match="other has no result yet"):
        read_result("other", tmp_path)


def test_an_answer_is_judged_again(tmp_path):
    claim = make_claim()
    measurements = run_sweep(claim, workers=1, root=tmp_path, progress=False)
    record = json.loads(json.dumps(write_result(claim, measurements, tmp_path)))
    told = answer(claim, record)
    assert told.splitlines() == ["fake-claim: reproduced, 3 seeds", f"* {record['ours']}: reproduced"]
    with pytest.raises(ValueError, match="fake-claim does not follow"):
        answer(claim, {**record, "verdict": "opposite"})
    with pytest.raises(ValueError, match="does not follow"):
        answer(replace(claim, judge=lambda m: [replace(judge(m)[0], sentence="another")]), record)
    beside = replace(judge(measurements)[0], decisive=False)
    both = replace(claim, judge=lambda m: [*judge(m), beside])
    assert answer(both, make_record(both, measurements)).splitlines()[2].startswith("  high above low")
