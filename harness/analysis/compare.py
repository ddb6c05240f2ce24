"""Two runs against each other: the same combinations and workloads, before and after a change.

Runs are not interleaved, so blocks cannot be matched and whatever changed between the two days is part of the difference.
Hence Welch's interval on logs, and a list of everything else that differs (machine, compiler, flags, kernel, seed, limits,
defaults): a reader must be able to see that "faster" might mean "another computer".

Matching. Two cells are the same question when workload, all parameters, procs, runtime options and the four gears with all
their options are equal, whatever the runs call them: effective values decide, so a default that changed between the two builds
makes two cells of what one text names. An option that only one of the builds has cannot be held against the other; it counts
only where it differs between that run's own cells, and is listed as a difference. Everything else is counted as missing on the
other side and named. Build and block are no part of the question: builds are what is compared.
"""
from __future__ import annotations

import dataclasses
import math
import textwrap
from typing import Any

from . import stats
from .format import amount
from .load import GEARS, BadInput
from .stats import Ratio
from .study import Study
from .treatments import Treatment, kind

WIDTH = 110


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
    p_holm: float | None
    verdict: str


@dataclasses.dataclass
class Result:
    rows: list[Row]
    overall: Ratio | None
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
    for row, adjusted in zip(rows, stats.holm([row.speed_ratio.p if row.speed_ratio else None for row in rows])):
        row.p_holm = adjusted
        row.verdict = stats.verdict(row.speed_ratio, "higher", adjusted, "speed", a.rope_pct, a.alpha)
        if not row.n_b and row.failed_b:
            row.verdict = "failed in B"
        elif not row.n_a and row.failed_a:
            row.verdict = "failed in A"
        elif row.failed_a or row.failed_b:
            parts = [f"{failed} of {failed + n} failed in {side}" for side, failed, n in (("A", row.failed_a, row.n_a), ("B", row.failed_b, row.n_b)) if failed]
            row.verdict = "unreliable: " + ", ".join(parts)
    return Result(rows, _overall(a, b, rows), differences(a, b, options_a, options_b),
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
    same = a.run.metrics[work] == b.run.metrics[work_b]
    ratio = stats.welch_ratio(vb, va, a.alpha) if same else None
    if ratio is not None and a.sign(work) < 0:
        ratio = ratio.inverted()
    ca, cb = stats.centre(va, a.alpha), stats.centre(vb, a.alpha)
    return Row(work, work_b, treatment, a.run.metrics[work].name, len(va), len(vb), sum(not cell.ok for cell in a.cells(work, treatment)),
               sum(not cell.ok for cell in b.cells(work_b, treatment_b)), ca.median if ca else None, cb.median if cb else None, ratio,
               stats.mann_whitney(vb, va, a.alpha), stats.cliffs_delta(vb, va), None, "inconclusive")


def _overall(a: Study, b: Study, rows: list[Row]) -> Ratio | None:
    """Geometric mean over rows without failures; each row weighs the same. The spread between rows makes its interval."""
    logs = [[math.log(row.speed_ratio.ratio)] for row in rows if _sound(row)]
    return stats.stratified_ratio(logs, a.alpha)


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
    if not result.rows:
        lines += ["", "the two runs have no cell in common: workload, parameters, procs, runtime options and the four gears with their options must be equal"]
    name_width = min(40, max([len("combination")] + [len(a.run.short(row.treatment)) for row in result.rows]))
    previous = None
    for row in result.rows:
        metric = a.run.metrics[row.work]
        if row.work != previous:
            lines += ["", f"{row.work}: {metric.name}{f' ({metric.unit})' if metric.unit else ''}, {metric.better} is better",
                      f"  {'combination':<{name_width}} {'median A':>10} {'median B':>10} {'n':>5} {'B / A':>6} {'interval':<16} verdict"]
            previous = row.work
        unit = metric.unit if metric.unit in ("ns", "bytes") else ""
        medians = [amount(value, unit) if value is not None else "-" for value in (row.median_a, row.median_b)]
        ratio, bounds = (f"{row.speed_ratio.ratio:.3f}", f"[{row.speed_ratio.low:.3f}, {row.speed_ratio.high:.3f}]"
                         if row.speed_ratio.low is not None else "-") if row.speed_ratio else ("", "")
        name = a.run.short(row.treatment)
        name = name if len(name) <= name_width else name[:name_width - 1] + "…"
        verdict = f"unreliable: A {row.failed_a}, B {row.failed_b} failed" if row.verdict.startswith("unreliable") else row.verdict
        lines.append(f"  {name:<{name_width}} {medians[0]:>10} {medians[1]:>10} {f'{row.n_a}+{row.n_b}':>5} {ratio:>6} {bounds:<16} {verdict}"[:WIDTH].rstrip())
    if result.overall:
        bounds = f" [{result.overall.low:.3f}, {result.overall.high:.3f}]" if result.overall.low is not None else ""
        spoilt = len([row for row in result.rows if row.speed_ratio and not _sound(row)])
        lines += ["", f"geometric mean of {len([row for row in result.rows if _sound(row)])} matched ratios{f' ({spoilt} with failures left out)' if spoilt else ''}: {result.overall.ratio:.3f}{bounds}"]
    for side, items in (("A", result.only_a), ("B", result.only_b)):
        if items:
            lines += textwrap.wrap(f"only in {side}: {len(items)} cells, such as {items[0]}", WIDTH, subsequent_indent="  ")
    lines += [""] + textwrap.wrap("B / A is a speed ratio: above 1, B is better. Intervals: Welch t on logs; verdicts Holm-corrected over all rows. "
                                  "The runs were not interleaved: a difference may be the machine's.", WIDTH)
    return "\n".join(lines) + "\n"
