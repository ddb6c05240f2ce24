"""Two runs against each other: the same combinations and workloads, before and after a change.

Runs are not interleaved, so blocks cannot be matched and whatever changed between the two days is part of the difference.
Hence Welch's interval on logs, and a list of everything else that differs (machine, compiler, flags, kernel, seed): a reader
must be able to see that "faster" might mean "another computer".
"""
from __future__ import annotations

import dataclasses
import math
import textwrap

from . import stats
from .format import amount
from .load import GEARS, Run
from .stats import Ratio
from .study import Study

WIDTH = 110


@dataclasses.dataclass
class Row:
    work: str
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
    keys_a = {(work, combo) for work in a.run.works for combo in a.run.combos if a.planned(work, combo)}
    keys_b = {(work, combo) for work in b.run.works for combo in b.run.combos if b.planned(work, combo)}
    for work in a.run.works:
        for combo in a.run.combos:
            if (work, combo) in keys_a & keys_b:
                rows.append(_row(a, b, work, combo))
    for row, adjusted in zip(rows, stats.holm([row.speed_ratio.p if row.speed_ratio else None for row in rows])):
        row.p_holm = adjusted
        row.verdict = stats.verdict(row.speed_ratio, "higher", adjusted, "speed", a.rope_pct, a.alpha)
        if not row.n_b and row.failed_b:
            row.verdict = "failed in B"
        elif not row.n_a and row.failed_a:
            row.verdict = "failed in A"
    return Result(rows, _overall(a, b, rows), differences(a.run, b.run),
                  [f"{work}: {', '.join(combo)}" for work, combo in sorted(keys_a - keys_b)],
                  [f"{work}: {', '.join(combo)}" for work, combo in sorted(keys_b - keys_a)])


def _row(a: Study, b: Study, work: str, combo: tuple[str, ...]) -> Row:
    va, vb = list(a.values(work, combo).values()), list(b.values(work, combo).values())
    same = a.run.metrics[work].name == b.run.metrics[work].name
    ratio = stats.welch_ratio(vb, va, a.alpha) if same else None
    if ratio is not None and a.sign(work) < 0:
        ratio = ratio.inverted()
    ca, cb = stats.centre(va, a.alpha), stats.centre(vb, a.alpha)
    return Row(work, combo, a.run.metrics[work].name, len(va), len(vb), sum(not cell.ok for cell in a.cells(work, combo)),
               sum(not cell.ok for cell in b.cells(work, combo)), ca.median if ca else None, cb.median if cb else None, ratio,
               stats.mann_whitney(vb, va, a.alpha), stats.cliffs_delta(vb, va), None, "inconclusive")


def _overall(a: Study, b: Study, rows: list[Row]) -> Ratio | None:
    """Geometric mean over rows; each row weighs the same. The spread between rows makes its interval."""
    logs = [[math.log(row.speed_ratio.ratio)] for row in rows if row.speed_ratio]
    return stats.stratified_ratio(logs, a.alpha)


def differences(a: Run, b: Run) -> list[str]:
    """What else changed: the hidden dimensions of the comparison."""
    found = []
    for section, keys in (("machine", ("host", "cpu", "cores", "memory_bytes", "kernel", "os", "virtualization", "governor", "thp", "aslr", "verdict")),
                          ("build", ("compiler", "flags", "preset", "git_commit", "git_dirty", "build_id")), (None, ("experiment", "seed", "blocks"))):
        left = a.manifest.get(section) or {} if section else a.manifest
        right = b.manifest.get(section) or {} if section else b.manifest
        for key in keys:
            if left.get(key) != right.get(key):
                found.append(f"{section + ' ' if section else ''}{key}: {left.get(key)} -> {right.get(key)}")
    for gear, one, other in zip(GEARS, a.baseline, b.baseline):
        if one != other:
            found.append(f"baseline {gear}: {one} -> {other}")
    return found


def text(a: Study, b: Study) -> str:
    result = compare(a, b)
    lines = [f"A  {a.run.manifest['experiment']} {a.run.manifest['run_id']}", f"B  {b.run.manifest['experiment']} {b.run.manifest['run_id']}"]
    for item in result.differences:
        lines += textwrap.wrap(f"differs: {item}", WIDTH, subsequent_indent="  ")
    if not result.rows:
        lines += ["", "the two runs have no workload and combination in common"]
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
        verdict = row.verdict + (f" (failed: A {row.failed_a}, B {row.failed_b})" if row.failed_a or row.failed_b else "")
        lines.append(f"  {name:<{name_width}} {medians[0]:>10} {medians[1]:>10} {f'{row.n_a}+{row.n_b}':>5} {ratio:>6} {bounds:<16} {verdict}"[:WIDTH].rstrip())
    if result.overall:
        bounds = f" [{result.overall.low:.3f}, {result.overall.high:.3f}]" if result.overall.low is not None else ""
        lines += ["", f"geometric mean of {len([row for row in result.rows if row.speed_ratio])} matched ratios: {result.overall.ratio:.3f}{bounds}"]
    for side, items in (("A", result.only_a), ("B", result.only_b)):
        if items:
            lines += textwrap.wrap(f"only in {side}: {len(items)} cells, such as {items[0]}", WIDTH, subsequent_indent="  ")
    lines += [""] + textwrap.wrap("B / A is a speed ratio: above 1, B is better. Intervals: Welch t on logs; verdicts Holm-corrected over all rows. "
                                  "The runs were not interleaved: a difference may be the machine's.", WIDTH)
    return "\n".join(lines) + "\n"
