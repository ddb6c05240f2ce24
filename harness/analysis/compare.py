"""Two runs against each other: the same combinations and workloads, before and after a change.

Runs are not interleaved, so blocks cannot be matched and whatever changed between the two days is part of the difference.
Hence Welch's intervals on logs, simultaneous over all rows (Sidak), and a list of everything else that differs (machine, compiler, flags, kernel, seed, limits,
defaults): a reader must be able to see that "faster" might mean "another computer".

Matching. Two cells are the same question when workload, all parameters, procs, runtime options and the four gears with all
their options are equal, whatever the runs call them: effective values decide, so a default that changed between the two builds
makes two cells of what one text names. An option that only one of the builds has cannot be held against the other; it counts
only where it differs between that run's own cells, and is listed as a difference. Everything else is counted as missing on the
other side and named. Build and block are no part of the question: builds are what is compared.

A red machine changes the effects themselves. Runs on machines of different colour, one of them red, are not compared: their ratios are shown and decide nothing.
"""
from __future__ import annotations

import dataclasses
import textwrap
from typing import Any

from . import gvm, stats, words
from .format import amount
from .load import GEARS, BadInput
from .stats import Ratio
from .study import Study
from .treatments import Treatment, kind

WIDTH = 110
METHOD = "simultaneous (Welch, Sidak)"


@dataclasses.dataclass
class Row:
    work: str  # as run A calls it
    work_b: str
    treatment: Treatment
    metric: str
    n_a: int
    n_b: int
    failed_a: int
    failed_b: int
    median_a: float | None
    median_b: float | None
    speed_ratio: Ratio | None  # B over A; above 1: B is better
    mann_whitney_p: float | None
    cliffs_delta: float | None
    verdict: str


@dataclasses.dataclass
class Result:
    rows: list[Row]
    overall: dict[str, Ratio]  # class of metrics -> geometric mean over its rows without failures
    differences: list[str]
    only_a: list[str]
    only_b: list[str]


def compare(a: Study, b: Study) -> Result:
    rows = []
    options_a, options_b = _options(a), _options(b)
    cells_a, cells_b = _planned(a, options_a, options_b), _planned(b, options_b, options_a)
    for key, (work, treatment) in cells_a.items():
        if key in cells_b:
            rows.append(_row(a, b, work, cells_b[key][0], treatment, cells_b[key][1]))
    estimates = [_estimate(a, b, work, cells_b[key][0], treatment, cells_b[key][1]) for key, (work, treatment) in cells_a.items() if key in cells_b]
    colours = _colours(a, b)
    for row, contrast in zip(rows, gvm.simultaneous(estimates, a.alpha)):
        row.speed_ratio = stats.from_contrast(contrast, METHOD)
        row.verdict = stats.verdict(row.speed_ratio, "higher", "speed", a.rope_pct)
        if colours is not None:
            row.verdict = f"no verdict: {colours}"
        if not row.n_b and row.failed_b:
            row.verdict = "failed in B"
        elif not row.n_a and row.failed_a:
            row.verdict = "failed in A"
        elif row.failed_a or row.failed_b:
            parts = [f"{failed} of {failed + n} failed in {side}" for side, failed, n in (("A", row.failed_a, row.n_a), ("B", row.failed_b, row.n_b)) if failed]
            row.verdict = "unreliable: " + ", ".join(parts)
    return Result(rows, _overall(a, rows, estimates), differences(a, b, options_a, options_b),
                  [_cell_words(a, *cell) for key, cell in cells_a.items() if key not in cells_b],
                  [_cell_words(b, *cell) for key, cell in cells_b.items() if key not in cells_a])


Options = dict[tuple[str, str], dict[str, set[str]]]  # (kind, whose) -> option -> the values that a run's cells have for it


def _owners(line: dict[str, Any]) -> list[tuple[tuple[str, str], dict[str, str]]]:
    """Everything with options that a planned cell consists of: (what it is, option -> effective value)."""
    effective = line["effective"]
    gears = [((gear, line["combo"][gear].partition(":")[0]), effective[gear]) for gear in GEARS]
    return [(("workload", line["workload"]), effective["params"]), *gears, (("runtime", ""), effective["runtime"])]


def _cells(study: Study) -> list[tuple[str, Treatment]]:
    return [(work, treatment) for work in study.run.works for treatment in study.run.factors.planned[work]]


def _options(study: Study) -> Options:
    found: Options = {}
    for work, treatment in _cells(study):
        for owner, options in _owners(study.run.examples[work, treatment]):
            for name, value in options.items():
                found.setdefault(owner, {}).setdefault(name, set()).add(value)
    return found


def _planned(study: Study, own: Options, other: Options) -> dict[tuple, tuple[str, Treatment]]:
    """What is asked in full -> (this run's name for the work item, combination), in the order of the tables."""
    if len({work.build for work in study.run.identities.values()}) > 1:
        raise BadInput(f"{study.run.path}: its records are of several builds, so it cannot stand for one side of a comparison")
    found: dict[tuple, tuple[str, Treatment]] = {}
    for work, treatment in _cells(study):
        line = study.run.examples[work, treatment]
        key: list = [line["workload"], line["procs"]]
        for owner, options in _owners(line):
            counts = [(name, value) for name, value in sorted(options.items()) if name in other.get(owner, options) or len(own[owner][name]) > 1]
            key += [owner, tuple(counts)]
        if tuple(key) in found:
            raise BadInput(f"{study.run.path}: {_cell_words(study, work, treatment)} and {_cell_words(study, *found[tuple(key)])} are one cell")
        found[tuple(key)] = (work, treatment)
    return found


def _cell_words(study: Study, work: str, treatment: Treatment) -> str:
    line = study.run.examples[work, treatment]
    params = ", ".join(f"{name}={value}" for name, value in sorted(line["effective"]["params"].items()))
    return f"{line['workload']} ({params or 'no parameters'}), procs {line['procs']}: {', '.join(line['combo'][gear] for gear in GEARS)}"


def _row(a: Study, b: Study, work: str, work_b: str, treatment: Treatment, treatment_b: Treatment) -> Row:
    va, vb = ([value for _, value in side.samples(*key)] for side, key in ((a, (work, treatment)), (b, (work_b, treatment_b))))
    ca, cb = stats.centre(va, a.alpha), stats.centre(vb, a.alpha)
    return Row(work, work_b, treatment, a.run.metrics[work].name, len(va), len(vb), sum(not cell.ok for cell in a.cells(work, treatment)),
               sum(not cell.ok for cell in b.cells(work_b, treatment_b)), ca.median if ca else None, cb.median if cb else None, None,
               stats.mann_whitney(vb, va, a.alpha), stats.cliffs_delta(vb, va), "no verdict")


def _estimate(a: Study, b: Study, work: str, work_b: str, treatment: Treatment, treatment_b: Treatment) -> gvm.Estimate | None:
    """B over A, on the log scale of speed; None where there is nothing to compare."""
    if a.run.metrics[work] != b.run.metrics[work_b]:
        return None
    va, vb = ([value for _, value in side.samples(*key)] for side, key in ((a, (work, treatment)), (b, (work_b, treatment_b))))
    return stats.welch_estimate(vb, va) if a.sign(work) > 0 else stats.welch_estimate(va, vb)


def _colours(a: Study, b: Study) -> str | None:
    """Why these two machines are not to be compared, or None."""
    one, other = ((side.run.manifest.get("machine") or {}).get("verdict") for side in (a, b))
    return f"the machine was {one or 'not judged'} in A and {other or 'not judged'} in B" if one != other and "red" in (one, other) else None


def _overall(a: Study, rows: list[Row], estimates: list[gvm.Estimate | None]) -> dict[str, Ratio]:
    """Each row weighs the same; rows are fixed, so the interval says nothing of other workloads."""
    means = {}
    for name in a.classes:
        parts = [estimate for row, estimate in zip(rows, estimates) if row.work in a.classes[name] and _sound(row)]
        means[name] = gvm.average(parts)
    return {name: stats.from_contrast(gvm.simultaneous([mean], a.alpha)[0], METHOD) for name, mean in means.items() if mean is not None}


def _sound(row: Row) -> bool:
    return row.speed_ratio is not None and not row.failed_a and not row.failed_b


def differences(study_a: Study, study_b: Study, options_a: Options, options_b: Options) -> list[str]:
    """What else changed: the hidden dimensions of the comparison."""
    a, b = study_a.run, study_b.run
    found = []
    for section, keys in (("machine", ("host", "cpu", "cores", "memory_bytes", "kernel", "os", "virtualization", "governor", "thp", "aslr", "verdict")),
                          ("build", ("compiler", "flags", "preset", "git_commit", "git_dirty", "build_id")), ("limits", ("timeout_s", "mem_limit_mb")),
                          ("libraries", sorted({*(a.manifest.get("libraries") or {}), *(b.manifest.get("libraries") or {})})),
                          ("design", ("kind", "baseline_runs", "budget_s")), (None, ("experiment", "seed", "blocks"))):
        left, right = (_section(run.manifest, section) for run in (a, b))
        for key in keys:
            if left.get(key) != right.get(key):
                found.append(f"{section + ' ' if section else ''}{key}: {left.get(key)} -> {right.get(key)}")
    left, right = (run.factors.named(run.baseline) for run in (a, b))
    for factor in dict.fromkeys([*left, *right]):
        if left.get(factor) != right.get(factor):
            found.append(f"baseline {kind(factor)}: {left.get(factor, 'no factor')} -> {right.get(factor, 'no factor')}")
    workloads_b = {entry["name"]: entry for entry in b.manifest["workloads"]}
    for entry in a.manifest["workloads"]:
        other = workloads_b.get(entry["name"])
        if other is not None and entry.get("headline") != other.get("headline"):
            found.append(f"headline of {entry['name']}: {entry.get('headline')} -> {other.get('headline')}")
    for workload in sorted({work.workload for work in a.identities.values()} & {work.workload for work in b.identities.values()}):
        left, right = ({line["procs"] for line in run.plan if line["workload"] == workload} for run in (a, b))
        if left != right:
            found.append(f"procs of {workload}: {_values(left)} -> {_values(right)}")
    for owner in [owner for owner in options_a if owner in options_b]:
        for name in dict.fromkeys([*options_a[owner], *options_b[owner]]):
            left, right = (options[owner].get(name, {"not there"}) for options in (options_a, options_b))
            if left != right:
                found.append(f"{' '.join(owner).strip()} {'parameter' if owner[0] == 'workload' else 'option'} {name}: {_values(left)} -> {_values(right)}")
    return found


def _section(manifest: dict[str, Any], name: str | None) -> dict[str, Any]:
    found = manifest.get(name) or {} if name else manifest
    return {"kind": found, "baseline_runs": 1, "budget_s": None} if isinstance(found, str) else found  # a design of schema 2 is its kind's name


def _values(values: set) -> str:
    return " | ".join(map(str, sorted(values)))


def text(a: Study, b: Study) -> str:
    result = compare(a, b)
    lines = [f"A  {a.run.manifest['experiment']} {a.run.manifest['run_id']}", f"B  {b.run.manifest['experiment']} {b.run.manifest['run_id']}"]
    for item in result.differences:
        lines += textwrap.wrap(f"differs: {item}", WIDTH, subsequent_indent="  ")
    if _colours(a, b):
        lines += textwrap.wrap(f"no verdict is given: {_colours(a, b)}, and load changes the effects themselves", WIDTH, subsequent_indent="  ")
    if not result.rows:
        lines += ["", "the two runs have no cell in common: workload, parameters, procs, runtime options and the four gears with their options must be equal"]
    name_width = min(40, max([len("combination")] + [len(a.run.short(row.treatment)) for row in result.rows]))
    previous = None
    for row in result.rows:
        metric = a.run.metrics[row.work]
        if row.work != previous:
            lines += ["", f"{row.work}: {metric.name}{f' ({metric.unit})' if metric.unit else ''}, {metric.better} is better",
                      f"  {'combination':<{name_width}} {'median A':>10} {'median B':>10} {'n':>5}  speed of B against A"]
            previous = row.work
        unit = metric.unit if metric.unit in ("ns", "bytes") else ""
        medians = [amount(value, unit) if value is not None else "-" for value in (row.median_a, row.median_b)]
        name = a.run.short(row.treatment)
        name = name if len(name) <= name_width else name[:name_width - 1] + "…"
        verdict = f"unreliable: A {row.failed_a}, B {row.failed_b} failed" if row.verdict.startswith("unreliable") else words.answer(a, row.speed_ratio, row.verdict, brief=True)
        if row.verdict.startswith("no verdict:"):
            verdict = f"no verdict: {words.with_interval(row.speed_ratio)}"
        lines.append(f"  {name:<{name_width}} {medians[0]:>10} {medians[1]:>10} {f'{row.n_a}+{row.n_b}':>5}  {verdict}"[:WIDTH].rstrip())
    for name, ratio in result.overall.items():
        mine = [row for row in result.rows if row.work in a.classes[name]]
        spoilt = len([row for row in mine if row.speed_ratio and not _sound(row)])
        lines += ["", f"geometric mean of {len([row for row in mine if _sound(row)])} matched ratios{f' of {name}' if len(a.classes) > 1 else ''}"
                      f"{f' ({spoilt} with failures left out)' if spoilt else ''}: {words.with_interval(ratio)}"]
    for side, items in (("A", result.only_a), ("B", result.only_b)):
        if items:
            lines += textwrap.wrap(f"only in {side}: {len(items)} cells, such as {items[0]}", WIDTH, subsequent_indent="  ")
    lines += [""] + textwrap.wrap("x is the speed of B over that of A: above 1, B is better. Intervals: Welch's on logs, simultaneous over all rows; verdicts are read from them. "
                                  "The runs were not interleaved: a difference may be the machine's.", WIDTH)
    return "\n".join(lines) + "\n"
