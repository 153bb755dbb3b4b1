"""Evidence: a claim of a paper, the runs that answer it, the rule of its verdict, and the ledger of all answers.

    python -m minclip.claims --claim siglip-bias-init --dry_run     # what is missing, and how long it will take
    python -m minclip.claims --claim siglip-bias-init               # run what is missing, judge, write the ledger
    python -m minclip.claims --claim siglip-bias-init --again       # run all of it again, compare with the ledger

A claim is a view on shared sweeps (`minclip.sweep`): claims that ask for the same run share it. Seeds 0-4 are
for verdicts; other seeds (calibration: 100 and up) never reach `results/`.
"""

import importlib
import json
import math
import os
import pkgutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev

import torch

from minclip.checkpoint import write_atomically
from minclip.sweep import ROOT, RUN_FOLDERS, run_key, run_path, run_sweep, write_lines

VERDICTS = ("reproduced", "opposite", "not at this scale", "inconclusive")
# 97.5 % quantiles of Student's t for 1 to 29 degrees of freedom (Abramowitz & Stegun, table 26.10).
T_QUANTILES = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045,
)  # fmt: skip


@dataclass(frozen=True)
class Check:
    """One sentence that the runs can answer, its effect (`paired_difference`) and its verdict.

    unit: what the effect counts; `points` shows fractions times 100. decisive: whether the claim's verdict
    rests on it; what the paper did not say is only reported.
    """

    sentence: str
    effect: dict
    verdict: str
    unit: str = "points"
    decisive: bool = True


@dataclass(frozen=True)
class Claim:
    """What a paper says, and how it is asked again.

    settings: name -> plain JSON values, the arguments of `run` that differ from its defaults. run: a function
    marked by `run_function`. judge: measurements -> Checks, the first of them the headline; it does what
    `rule` says in words. minutes: what one run takes, estimated; measured times are preferred. columns:
    measured values that CLAIMS.md shows as means over seeds. why: one sentence that explains the outcome.
    n_seeds: 5 for a core claim, and for one that 3 seeds left inconclusive.
    """

    id: str
    paper: str
    figure: str
    statement: str
    paper_numbers: str
    data: str
    settings: dict[str, dict]
    run: Callable[[dict, int], dict]
    rule: str
    judge: Callable[[list[dict]], list[Check]]
    minutes: float
    columns: tuple[str, ...]
    why: str = ""
    n_seeds: int = 3

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of the verdict."""
        return tuple(range(self.n_seeds))


# Verdicts


def values(measurements: list[dict], setting: str, key: str) -> dict[int, float]:
    """One measured value by seed. Raises ValueError when the setting or key is missing or a value is not finite."""
    found = {m["seed"]: m.get(key) for m in measurements if m["setting"] == setting}
    if not found:
        known = ", ".join(dict.fromkeys(m["setting"] for m in measurements))
        raise ValueError(f"no measurements of the setting {setting!r}; there are: {known}")
    bad = [seed for seed, value in found.items() if value is None]
    if bad:
        raise ValueError(f"setting {setting!r} has no finite {key!r} for seed {bad[0]}; it cannot be compared")
    return found


def paired_difference(measurements: list[dict], a: str, b: str, key: str) -> dict:
    """a minus b, seed by seed: {mean, ci95, sign_agreement, n}; see `effect_of`."""
    left, right = values(measurements, a, key), values(measurements, b, key)
    if left.keys() != right.keys():
        raise ValueError(f"{a!r} and {b!r} were not run with the same seeds: {sorted(left)} and {sorted(right)}")
    return effect_of([left[seed] - right[seed] for seed in left])


def effect_of(differences: Sequence[float]) -> dict:
    """Mean of one number a seed, its 95 % interval (Student's t), and the share of seeds with the mean's sign.

    One seed has no interval: (-infinity, infinity). Raises ValueError for none, or more than 30.
    """
    n = len(differences)
    if not 1 <= n <= 30:
        raise ValueError(f"an effect needs 1 to 30 seeds, got {n}")
    centre = mean(differences)
    half = T_QUANTILES[n - 2] * stdev(differences) / math.sqrt(n) if n > 1 else math.inf
    same = sum(d * centre > 0 for d in differences) / n
    return {"mean": centre, "ci95": [centre - half, centre + half], "sign_agreement": same, "n": n}


def default_verdict(effect: dict, margin: float = 0.0) -> str:
    """The verdict on "there is a positive effect larger than `margin`" (in the unit of the effect, >= 0).

    reproduced: mean above the margin, interval above zero, and the same sign in every seed. opposite: the
    same for minus the effect. not at this scale: neither, and the whole interval below the margin, so that
    an effect of the claimed size is excluded. inconclusive: anything else; more seeds would tell.
    """
    lo, hi = effect["ci95"]
    agreed = effect["sign_agreement"] == 1
    if effect["mean"] > margin and lo > 0 and agreed:
        return "reproduced"
    if effect["mean"] < -margin and hi < 0 and agreed:
        return "opposite"
    return "not at this scale" if hi < margin else "inconclusive"


def equivalence_verdict(effect: dict, margin: float) -> str:
    """The verdict on "there is no difference as large as `margin`": is the interval inside, outside, or across it?"""
    lo, hi = effect["ci95"]
    if -margin < lo and hi < margin:
        return "reproduced"
    return "not at this scale" if lo > margin or hi < -margin else "inconclusive"


def overall(checks: Sequence[Check]) -> str:
    """The verdict on all decisive checks together, as a conjunction.

    reproduced or opposite: every one is. not at this scale: some part was measured not to hold (opposite or
    not at this scale). inconclusive: none was, but some are inconclusive.
    """
    found = {check.verdict for check in checks if check.decisive}
    if not found or found - set(VERDICTS):
        raise ValueError(f"verdicts {sorted(found)} are not among {VERDICTS}; a judge returns a decisive Check")
    if len(found) == 1:
        return found.pop()
    return "not at this scale" if found & {"opposite", "not at this scale"} else "inconclusive"


def number(value: float, unit: str) -> str:
    """A signed number: fractions as points (percent), all else with three digits."""
    return f"{100 * value:+.1f}" if unit == "points" else f"{value:+.3g}"


def describe(check: Check) -> str:
    """A check in words: `sentence: +3.2 points [+1.1, +5.3], 5 of 5 seeds`."""
    effect, n = check.effect, check.effect["n"]
    low, high = (number(x, check.unit) for x in effect["ci95"])
    interval = f"[{low}, {high}]" if n > 1 else "(one seed, no interval)"
    agree = f"{round(effect['sign_agreement'] * n)} of {n} seeds"
    return f"{check.sentence}: {number(effect['mean'], check.unit)} {check.unit} {interval}, {agree}"


# The ledger


def make_record(claim: Claim, measurements: list[dict], root: Path = ROOT) -> dict:
    """What `results/<claim>.json` holds. Curves stay in the files of the runs, which `run` names."""
    checks = claim.judge(measurements)
    scalars = [{k: v for k, v in m.items() if not isinstance(v, list) and k != "device"} for m in measurements]
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=root, capture_output=True, text=True)
    return {
        **{key: getattr(claim, key) for key in ("id", "paper", "figure", "statement", "paper_numbers", "data", "rule")},
        "settings": claim.settings,
        "seeds": sorted({m["seed"] for m in measurements}),
        "measurements": scalars,
        "effect": checks[0].effect,
        "checks": [asdict(check) for check in checks],
        "verdict": overall(checks),
        "ours": "; ".join(describe(check) for check in checks),
        "why": claim.why,
        "minutes": round(sum({m["run"]: m["seconds"] for m in measurements}.values()) / 60, 1),
        "device": ", ".join(sorted({m["device"] for m in measurements})),
        "command": f"make reproduce CLAIM={claim.id}",
        "commit": done.stdout.strip() or None,
    }


def write_result(claim: Claim, measurements: list[dict], root: Path = ROOT) -> dict:
    """Judge and write `results/<claim>.json`; returns its content. Only the claim's own seeds make a verdict."""
    record = make_record(claim, measurements, root)
    if tuple(record["seeds"]) != claim.seeds:
        raise ValueError(f"the verdict of {claim.id} needs seeds {claim.seeds}, got {tuple(record['seeds'])}")
    write_lines(root / "results" / f"{claim.id}.json", record)
    return record


def read_result(id: str, root: Path = ROOT) -> dict:
    """`results/<id>.json`: what `make_record` returned. Raises FileNotFoundError when the claim has no result yet."""
    path = root / "results" / f"{id}.json"
    if not path.exists():
        raise FileNotFoundError(f"{id} has no result yet; run it: python -m minclip.claims --claim {id}")
    return json.loads(path.read_text(encoding="utf-8"))


def read_curves(record: dict, setting: str, key: str, root: Path = ROOT) -> list[list]:
    """What the runs of one setting of a result kept as a list (a curve), one for each seed."""
    runs = [root / RUN_FOLDERS[0] / m["run"] for m in record["measurements"] if m["setting"] == setting]
    return [json.loads(path.read_text(encoding="utf-8"))["result"][key] for path in runs]


def answer(claim: Claim, record: dict) -> str:
    """A result in words: the verdict, then each check, a star before those that decide.

    Judges the recorded measurements again; raises ValueError when that gives something else than is recorded.
    """
    checks = claim.judge(record["measurements"])
    if overall(checks) != record["verdict"] or checks != [Check(**check) for check in record["checks"]]:
        raise ValueError(f"the recorded verdict of {claim.id} does not follow from its measurements; run it again")
    lines = [f"{'*' if check.decisive else ' '} {describe(check)}: {check.verdict}" for check in checks]
    return "\n".join([f"{claim.id}: {record['verdict']}, {len(record['seeds'])} seeds", *lines])


def means(record: dict, settings: Sequence[str], key: str) -> tuple[list[float], list[float]]:
    """For a plot's error bars: means over the seeds of a result, one a setting, and half their 95 % intervals."""
    effects = [effect_of(list(values(record["measurements"], name, key).values())) for name in settings]
    return [e["mean"] for e in effects], [e["ci95"][1] - e["mean"] for e in effects]


def load_claims(package: str = "experiments") -> dict[str, Claim]:
    """Every CLAIM of the package's modules by id; a claim `some-id` lives in `some_id.py`."""
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))  # experiments/ stands beside minclip/ and is not installed
    claims = {}
    for found in sorted(pkgutil.iter_modules(importlib.import_module(package).__path__), key=lambda m: m.name):
        claim = getattr(importlib.import_module(f"{package}.{found.name}"), "CLAIM", None)
        if claim is not None and claim.id != found.name.replace("_", "-"):
            raise ValueError(f"{package}/{found.name}.py holds the claim {claim.id!r}; file and id must agree")
        claims |= {} if claim is None else {claim.id: claim}
    return claims


def render(claims: dict[str, Claim], root: Path = ROOT) -> str:
    """CLAIMS.md: an answer sheet to the papers, from the claims and `results/<claim>.json`."""
    records = {id: read_result(id, root) for id in claims if (root / "results" / f"{id}.json").exists()}
    lines = [
        "# Claims, asked again",
        "",
        "Generated by `python -m minclip.claims` from `results/`. Each row is a claim of a paper, its number there,",
        "and what the same question gives at the scale of this repository. Effects are means over paired seeds with",
        "95 % intervals; every rule was fixed on other seeds before the runs of the verdict. Three seeds, five for the",
        "core claims and for those that three left inconclusive. Minutes are those of all runs of a claim together, one",
        "CPU thread each; claims share runs. The tables show what decides a verdict; what else was asked stands below.",
        "",
        "**reproduced**: the effect is there, above the margin, in every seed. **opposite**: so is its contrary.",
        "**not at this scale**: measured well enough to exclude an effect of the claimed size. **inconclusive**:",
        "none of these.",
    ]
    cell = lambda text: " ".join(str(text).split()).replace("|", "\\|")  # noqa: E731
    for paper in dict.fromkeys(claims[id].paper for id in records):
        lines += ["", f"## {paper}", "", "| claim | figure | the paper | here | verdict | seeds | minutes | why |"]
        lines += ["|---|---|---|---|---|---|---|---|"]
        for r in (r for r in records.values() if r["paper"] == paper):
            here = "<br>".join(cell(describe(Check(**check))) for check in r["checks"] if check["decisive"])
            row = [f"[{r['id']}](#{r['id']})", cell(r["figure"]), cell(r["paper_numbers"]), here, f"**{r['verdict']}**"]
            row += [str(len(r["seeds"])), f"{r['minutes']:g}, {cell(r['device'])}", cell(r["why"])]
            lines.append("| " + " | ".join(row) + " |")
    missing = [claim for id, claim in claims.items() if id not in records]
    lines += ["", "## Not run yet", ""] if missing else []
    lines += [f"- `{claim.id}` ({claim.paper}, {claim.figure}): {claim.statement}" for claim in missing]
    for id, r in records.items():
        lines += ["", f"### {id}", "", r["statement"], ""]
        lines += [f"- **Data.** {r['data']}", f"- **Rule.** {r['rule']}", f"- **Verdict.** {r['verdict']}"]
        for check in r["checks"]:
            beside = "" if check["decisive"] else " (beside the claim)"
            lines.append(f"  - {describe(Check(**check))}: {check['verdict']}{beside}")
        lines += [f"- **Again.** `{r['command']}`", ""]
        columns = claims[id].columns
        lines += [f"| setting | {' | '.join(columns)} |", "|---|" + "---|" * len(columns)]
        for name in r["settings"]:
            rows = [m for m in r["measurements"] if m["setting"] == name]
            cells = [[m[c] for m in rows if m.get(c) is not None] for c in columns]
            lines.append(f"| {cell(name)} | " + " | ".join(f"{mean(c):.3g}" if c else "" for c in cells) + " |")
    return "\n".join(lines) + "\n"


# The command line


def predict(claims: Sequence[Claim], seeds: Sequence[int] | None, workers: int, root: Path, again: bool) -> str:
    """What is missing and the minutes it will take, claim by claim; a run that claims share counts once."""
    seen, lines, total = set(), [], 0.0
    for claim in claims:
        minutes, count, measured = 0.0, 0, 0
        for setting in claim.settings.values():
            key = run_key(claim.run, setting)
            files = [file for folder in RUN_FOLDERS for file in (root / folder).glob(f"{key}_*.json")]
            seconds = [json.loads(f.read_text(encoding="utf-8"))["seconds"] for f in files]
            for seed in claim.seeds if seeds is None else seeds:
                path = run_path(claim.run, setting, seed, root, again)
                if not path.exists() and path not in seen:
                    seen.add(path)
                    minutes += mean(seconds) / 60 if seconds else claim.minutes
                    count, measured = count + 1, measured + bool(seconds)
        total += minutes
        lines.append(f"{claim.id}: {count} runs missing, {minutes / workers:.1f} minutes ({measured} of them measured)")
    return "\n".join([*lines, f"in all {total / workers:.1f} minutes with {workers} workers"])


@dataclass
class Arguments:
    """Ask claims of the papers again: run what is missing, judge, and write results/ and CLAIMS.md."""

    claim: str = ""
    """one claim's id; empty for all"""
    seeds: tuple[int, ...] = ()
    """other seeds than the claim's own: the verdict is printed, never written"""
    again: bool = False
    """run the claim's seeds anew (kept in runs/again), and print the verdict beside the recorded one"""
    workers: int = 0
    """processes on a CPU; 0 for one a core"""
    dry_run: bool = False
    """only say what is missing and how long it will take"""
    render: bool = False
    """only write CLAIMS.md anew"""


def execute(arguments: Arguments, claims: dict[str, Claim], root: Path = ROOT) -> None:
    """Do what the command line asks. Raises ValueError for an unknown claim, RuntimeError for a run that fails."""
    if arguments.claim and arguments.claim not in claims:
        raise ValueError(f"unknown claim {arguments.claim!r}; choose from {', '.join(claims)}")
    chosen = [claims[arguments.claim]] if arguments.claim else list(claims.values())
    workers = 1 if torch.cuda.is_available() else arguments.workers or os.cpu_count() or 1
    seeds = arguments.seeds or None
    if arguments.dry_run:
        return print(predict(chosen, seeds, workers, root, arguments.again))
    ledger = seeds is None and not arguments.again
    for claim in [] if arguments.render else chosen:
        measurements = run_sweep(claim, seeds, workers, root, arguments.again)
        record = (write_result if ledger else make_record)(claim, measurements, root)
        print(f"{claim.id}: {record['verdict']}\n  here: {record['ours']}\n  the paper: {record['paper_numbers']}")
        known = root / "results" / f"{claim.id}.json"
        if not ledger:
            recorded = json.loads(known.read_text(encoding="utf-8")) if known.exists() else None
            said = f"{recorded['verdict']} ({recorded['ours']})" if recorded else "nothing yet"
            print(f"  recorded: {said}; results/ was left as it is")
    if ledger:
        text = render(claims, root)
        write_atomically(root / "CLAIMS.md", lambda part: part.write_text(text, encoding="utf-8"))


def main() -> None:
    """The command line: every field of Arguments is a flag."""
    import tyro

    try:
        execute(tyro.cli(Arguments, use_underscores=True), load_claims())
    except (ValueError, RuntimeError) as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    from minclip.claims import main  # not this copy, named __main__: its classes would not be those of experiments/

    main()
