"""Two runs against each other: the same combinations and workloads, before and after a change.

Runs are not interleaved, so blocks cannot be matched and whatever changed between the two days is part of the difference.
Hence Welch's interval on logs, and a list of everything else that differs (machine, compiler, flags, kernel, seed, limits,
defaults): a reader must be able to see that "faster" might mean "another computer".

Matching. Two cells are the same question when workload, all parameters, procs, runtime options and the four gears are equal,
whatever the runs call them. Everything else is counted as missing on the other side and named.
"""
from __future__ import annotations

import dataclasses
import math
import textwrap

from . import stats
from .format import amount
from .load import GEARS
from .stats import Ratio
from .study import Study

WIDTH = 110


@dataclasses.dataclass
class Row:
    work: str  # as run A calls it
    work_b: str
    combo: tuple[str, ...]
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
    cells_a, cells_b = _planned(a), _planned(b)
    for key, (work, combo) in cells_a.items():
        if key in cells_b:
            rows.append(_row(a, b, work, cells_b[key][0], combo))
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
    return Result(rows, _overall(a, b, rows), differences(a, b, rows),
                  [_cell_words(key) for key in sorted(cells_a) if key not in cells_b],
                  [_cell_words(key) for key in sorted(cells_b) if key not in cells_a])


def _planned(study: Study) -> dict[tuple, tuple[str, tuple[str, ...]]]:
    """What is asked in full -> (this run's name for the work item, combination), in the order of the tables."""
    return {study.run.identities[work] + combo: (work, combo)
            for work in study.run.works for combo in study.run.combos if study.planned(work, combo)}


def _cell_words(key: tuple) -> str:
    workload, params, procs, runtime = key[:4]
    return f"{workload} ({params or 'default parameters'}), procs {procs}{f', runtime {runtime}' if runtime else ''}: {', '.join(key[4:])}"


def _row(a: Study, b: Study, work: str, work_b: str, combo: tuple[str, ...]) -> Row:
    va, vb = list(a.values(work, combo).values()), list(b.values(work_b, combo).values())
    same = a.run.metrics[work] == b.run.metrics[work_b]
    ratio = stats.welch_ratio(vb, va, a.alpha) if same else None
    if ratio is not None and a.sign(work) < 0:
        ratio = ratio.inverted()
    ca, cb = stats.centre(va, a.alpha), stats.centre(vb, a.alpha)
    return Row(work, work_b, combo, a.run.metrics[work].name, len(va), len(vb), sum(not cell.ok for cell in a.cells(work, combo)),
               sum(not cell.ok for cell in b.cells(work_b, combo)), ca.median if ca else None, cb.median if cb else None, ratio,
               stats.mann_whitney(vb, va, a.alpha), stats.cliffs_delta(vb, va), None, "inconclusive")


def _overall(a: Study, b: Study, rows: list[Row]) -> Ratio | None:
    """Geometric mean over rows without failures; each row weighs the same. The spread between rows makes its interval."""
    logs = [[math.log(row.speed_ratio.ratio)] for row in rows if _sound(row)]
    return stats.stratified_ratio(logs, a.alpha)


def _sound(row: Row) -> bool:
    return row.speed_ratio is not None and not row.failed_a and not row.failed_b


def differences(study_a: Study, study_b: Study, rows: list[Row]) -> list[str]:
    """What else changed: the hidden dimensions of the comparison."""
    a, b = study_a.run, study_b.run
    found = []
    for section, keys in (("machine", ("host", "cpu", "cores", "memory_bytes", "kernel", "os", "virtualization", "governor", "thp", "aslr", "verdict")),
                          ("build", ("compiler", "flags", "preset", "git_commit", "git_dirty", "build_id")), ("limits", ("timeout_s", "mem_limit_mb")),
                          (None, ("experiment", "design", "seed", "blocks"))):
        left = a.manifest.get(section) or {} if section else a.manifest
        right = b.manifest.get(section) or {} if section else b.manifest
        for key in keys:
            if left.get(key) != right.get(key):
                found.append(f"{section + ' ' if section else ''}{key}: {left.get(key)} -> {right.get(key)}")
    for gear, one, other in zip(GEARS, a.baseline, b.baseline):
        if one != other:
            found.append(f"baseline {gear}: {one} -> {other}")
    workloads_b = {entry["name"]: entry for entry in b.manifest["workloads"]}
    for entry in a.manifest["workloads"]:
        other = workloads_b.get(entry["name"])
        if other is not None and entry.get("headline") != other.get("headline"):
            found.append(f"headline of {entry['name']}: {entry.get('headline')} -> {other.get('headline')}")
    for field, index in (("parameters", 1), ("procs", 2), ("runtime options", 3)):
        for workload in sorted({key[0] for key in a.identities.values()} & {key[0] for key in b.identities.values()}):
            left, right = ({key[index] or "default" for key in run.identities.values() if key[0] == workload} for run in (a, b))
            if left != right:
                found.append(f"{field} of {workload}: {' | '.join(sorted(left))} -> {' | '.join(sorted(right))}")
    return found + effective_differences(study_a, study_b, rows)


def effective_differences(a: Study, b: Study, rows: list[Row]) -> list[str]:
    """Options whose value differs although the cells ask for the same: a default that changed between the two builds."""
    found: dict[str, int] = {}
    for row in rows:
        left, right = (next((cell.record.get("effective") or {} for cell in study.cells(work, row.combo) if cell.ok), {})
                       for study, work in ((a, row.work), (b, row.work_b)))
        for owner in sorted(set(left) & set(right)):
            for name in sorted(set(left[owner]) | set(right[owner])):
                one, other = left[owner].get(name, "not there"), right[owner].get(name, "not there")
                if one != other:
                    key = f"{row.work if owner == 'params' else owner} option {name}: {one} -> {other}"
                    found[key] = found.get(key, 0) + 1
    return [f"{key} (in {count} of {len(rows)} matched cells)" for key, count in found.items()]


def text(a: Study, b: Study) -> str:
    result = compare(a, b)
    lines = [f"A  {a.run.manifest['experiment']} {a.run.manifest['run_id']}", f"B  {b.run.manifest['experiment']} {b.run.manifest['run_id']}"]
    for item in result.differences:
        lines += textwrap.wrap(f"differs: {item}", WIDTH, subsequent_indent="  ")
    if not result.rows:
        lines += ["", "the two runs have no cell in common: workload, parameters, procs, runtime options and the four gears must be equal"]
    name_width = min(40, max([len("combination")] + [len(a.run.short(row.combo)) for row in result.rows]))
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
        name = a.run.short(row.combo)
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
