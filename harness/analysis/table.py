"""The table a sweep ends with: per workload and combination the headline metric, the ratio to the baseline, the verdict.

At most 110 columns, so that it survives a terminal, a log and an e-mail. Combinations are named by what differs from the
baseline. A combination that failed has its line, with the status and the first reason below the table.
"""
from __future__ import annotations

import statistics
import textwrap

from . import words
from .load import Cell, Run
from .format import amount
from .stats import word
from .study import Comparison, Study
from .treatments import Treatment

WIDTH = 110


def text(study: Study) -> str:
    run = study.run
    name_width = min(40, max([len("combination")] + [len(run.short(treatment)) for treatment in run.treatments]))
    lines = [f"{run.manifest['experiment']}  {run.manifest['run_id']}  {words.coverage(study) if run.cells else 'nothing has been run'}"]
    lines = _wrap(lines[0])
    lines += _wrap("baseline: " + ", ".join(run.factors.whole(run.baseline)))
    for note in run.notes:
        lines += _wrap("note: " + note)
    for work in run.works:
        metric = run.metrics[work]
        lines += ["", f"{work}: {metric.name}{f' ({metric.unit})' if metric.unit else ''}, {metric.better} is better"]
        lines.append(f"  {'combination':<{name_width}} {'n':>3} {'median':>9} {'interval':>8} {'speed':>6} {'interval':<15} verdict"[:WIDTH])
        for item in study.comparisons:
            if item.work == work:
                lines.append(_row(run, item, metric.unit, name_width)[:WIDTH].rstrip())
        if work in run.seconds:
            lines.append(f"  and its {run.seconds[work].name} ({run.seconds[work].unit}), {run.seconds[work].better} is better")
            lines += [_row(run, item, run.seconds[work].unit, name_width)[:WIDTH].rstrip() for item in study.second_comparisons if item.work == work]
    if run.failures:
        lines += ["", "failures:"] + failure_lines(run.failures)
    percent = f"{100 * (1 - study.alpha):g} %"
    lines += [""] + _wrap(f"n: invocations that gave a value. Intervals: {percent}, t on logs, the one of speed paired by block; '-' where n is too small. speed: ratio to the "
                          f"baseline, above 1 is better. Verdicts: Holm-corrected per workload, ±{study.rope_pct:g} % counts "
                          f"as equivalent. Where k of n invocations failed, or some of the baseline's, there is no verdict: unreliable, k/n.")
    return "\n".join(lines) + "\n"


def _row(run: Run, item: Comparison, unit: str, name_width: int) -> str:
    name = run.short(item.treatment)
    name = name if len(name) <= name_width else name[:name_width - 1] + "…"
    median, spread = "-", "-"
    if item.centre:
        median = amount(item.centre.median, unit if unit in ("ns", "bytes") else "")
        if item.centre.low is not None:
            half = 100 * ((item.centre.high / item.centre.low) ** 0.5 - 1)
            spread = f"±{half:.1f}%" if half < 1000 else "±>999%"
    ratio = f"{item.ratio.ratio:.3f}" if item.ratio else ""
    bounds = f"[{item.ratio.low:.3f}, {item.ratio.high:.3f}]" if item.ratio and item.ratio.low is not None else "-" if item.ratio else ""
    verdict = item.verdict  # how and why something failed is listed below the table
    planned = item.ok + item.failed + item.not_run
    if word(verdict) == "unreliable":
        verdict = f"unreliable: {item.failed}/{planned}" if item.failed else "unreliable: baseline"
    elif item.failed:
        verdict += f": {item.failed}/{planned}"
    return f"  {name:<{name_width}} {item.ok:>3} {median:>9} {spread:>8} {ratio:>6} {bounds:<15} {verdict}"


def pair_text(study: Study, names: tuple[str, str], pairs: list[tuple[Comparison, Treatment, Treatment]]) -> str:
    """Two treatments against each other: `pairs` has B's comparison with A on each work item that has both."""
    run = study.run
    lines = _wrap(f"{run.manifest['experiment']}  {run.manifest['run_id']}  {names[1]} (B) against {names[0]} (A)")
    for side, index in (("A", 1), ("B", 2)):
        for treatment in dict.fromkeys(pair[index] for pair in pairs):
            lines += _wrap(f"{side}: " + ", ".join(run.factors.whole(treatment)))
    width = min(36, max(len("workload"), *(len(item.work) for item, _, _ in pairs)))
    lines += ["", f"  {'workload':<{width}} {'median A':>10} {'median B':>10} {'n':>5} {'B / A':>6} {'interval':<16} verdict"]
    for item, a, _ in pairs:
        unit = run.metrics[item.work].unit
        unit = unit if unit in ("ns", "bytes") else ""
        values = [value for _, value in study.samples(item.work, a)]
        medians = [amount(statistics.median(values), unit) if values else "-", amount(item.centre.median, unit) if item.centre else "-"]
        ratio = f"{item.ratio.ratio:.3f}" if item.ratio else ""
        bounds = f"[{item.ratio.low:.3f}, {item.ratio.high:.3f}]" if item.ratio and item.ratio.low is not None else "-" if item.ratio else ""
        name = item.work if len(item.work) <= width else item.work[:width - 1] + "…"
        lines.append(f"  {name:<{width}} {medians[0]:>10} {medians[1]:>10} {f'{len(values)}+{item.ok}':>5} {ratio:>6} {bounds:<16} {item.verdict}"[:WIDTH].rstrip())
    missing = [work for work in run.works if work not in {item.work for item, _, _ in pairs}]
    if missing:
        lines += _wrap("without both: " + ", ".join(missing))
    lines += [""] + _wrap(f"B / A is a speed ratio: above 1, B is better. Intervals: {100 * (1 - study.alpha):g} %, t on logs, paired by block. Each workload is a question of its own.")
    return "\n".join(lines) + "\n"


def failure_lines(failures: list[Cell]) -> list[str]:
    """One line per kind of failure: workload, status and reason, with how often and where."""
    groups: dict[tuple[str, str, str], list[Cell]] = {}
    for cell in failures:
        groups.setdefault((cell.work, cell.status, cell.reason or "no reason recorded"), []).append(cell)
    lines = []
    for (work, status, reason), cells in groups.items():
        seqs = ", ".join(str(cell.seq) for cell in cells[:6]) + (", …" if len(cells) > 6 else "")
        lines += _wrap(f"  {work}: {status} x{len(cells)}: {reason} (seq {seqs})", "    ")
    return lines


def _wrap(line: str, indent: str = "  ") -> list[str]:
    return textwrap.wrap(line, WIDTH, subsequent_indent=indent, break_long_words=True) or [""]
