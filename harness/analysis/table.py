"""The table a sweep ends with: per workload and combination the headline metric, the ratio to the baseline, the verdict.

At most 110 columns, so that it survives a terminal, a log and an e-mail. One interval a line, the one that the verdict is read from. Combinations are named by what differs from the
baseline. A combination that failed has its line, with the status and the first reason below the table.
"""
from __future__ import annotations

import statistics
import textwrap

from . import words
from .answers import Comparison
from .load import Cell
from .format import amount
from .stats import word
from .study import Study
from .treatments import Treatment

WIDTH = 110


def answer_text(study: Study, width: int) -> str:
    """What a sweep ends with: question, hypothesis, the answer in sentences; then how much was measured and how often such a page is wrong."""
    run = study.run
    lines = [f"{run.manifest['experiment']}  {run.manifest['run_id']}", ""]
    for name in ("question", "hypothesis"):
        if run.manifest.get(name):
            lines += textwrap.wrap(f"{name.capitalize()}: {run.manifest[name]}", width, subsequent_indent="  ")
    lines.append("")
    sentences = words.answers(study)
    if any(cell.ok for cell in run.cells):
        sentences += [words.coverage(study), words.error_rate(study)]
    for sentence in [*sentences, *(f"Note: {note}" for note in run.notes)]:
        lines += textwrap.wrap(sentence, width, initial_indent="* ", subsequent_indent="  ", break_long_words=True) if sentence else []
    return "\n".join(lines) + "\n"


def text(study: Study) -> str:
    run = study.run
    name_width = min(40, max([len("combination")] + [len(run.short(treatment)) for treatment in run.treatments]))
    lines = [f"{run.manifest['experiment']}  {run.manifest['run_id']}  {words.coverage(study) if run.cells else 'nothing has been run'}"]
    lines = _wrap(lines[0])
    lines += _wrap("baseline: " + ", ".join(run.factors.whole(run.baseline)))
    for note in [*words.conditions(study), words.error_rate(study)]:
        lines += _wrap(note) if note else []
    for note in run.notes:
        lines += _wrap("note: " + note)
    for work in run.works:
        metric = run.metrics[work]
        lines += ["", f"{work}: {metric.name}{f' ({metric.unit})' if metric.unit else ''}, {metric.better} is better"]
        lines.append(f"  {'combination':<{name_width}} {'n':>3} {'median':>9}  speed against the baseline"[:WIDTH])
        for item in study.comparisons:
            if item.work == work:
                lines.append(_row(study, item, metric.unit, name_width)[:WIDTH].rstrip())
        if work in run.seconds:
            lines.append(f"  and its {run.seconds[work].name} ({run.seconds[work].unit}), {run.seconds[work].better} is better")
            lines += [_row(study, item, run.seconds[work].unit, name_width)[:WIDTH].rstrip() for item in study.second_comparisons if item.work == work]
    if run.failures:
        lines += ["", "failures:"] + failure_lines(run.failures)
    percent = f"{100 * (1 - study.alpha):g} %"
    lines += [""] + _wrap(f"n: invocations that gave a value. A verdict is read from its interval: {percent} for all combinations of a workload together, on logs, blocks taken out, "
                          f"a variance for each combination. x: factor against the baseline, above 1 is better; {words.margin(study)} "
                          f"counts as equivalent; sees: the factor that this run would have seen in four of five cases. Where k of n invocations failed, or some of the "
                          f"baseline's, there is no verdict: unreliable, k/n." + (" No medians: the machine drifted too far." if study.drifted else ""))
    return "\n".join(lines) + "\n"


def _row(study: Study, item: Comparison, unit: str, name_width: int) -> str:
    name = study.run.short(item.treatment)
    name = name if len(name) <= name_width else name[:name_width - 1] + "…"
    median = amount(item.centre.median, unit if unit in ("ns", "bytes") else "") if item.centre and not study.drifted else "-"
    verdict = words.answer(study, item.ratio, item.verdict, brief=True)  # how and why something failed is listed below the table
    planned = item.ok + item.failed + item.not_run
    if word(verdict) == "unreliable":
        verdict = f"unreliable: {item.failed}/{planned}" if item.failed else "unreliable: baseline"
    elif item.failed:
        verdict += f": {item.failed}/{planned}"
    return f"  {name:<{name_width}} {item.ok:>3} {median:>9}  {verdict}"


def pair_text(study: Study, names: tuple[str, str], pairs: list[tuple[Comparison, Treatment, Treatment]]) -> str:
    """Two treatments against each other: `pairs` has B's comparison with A on each work item that has both."""
    run = study.run
    lines = _wrap(f"{run.manifest['experiment']}  {run.manifest['run_id']}  {names[1]} (B) against {names[0]} (A)")
    for side, index in (("A", 1), ("B", 2)):
        for treatment in dict.fromkeys(pair[index] for pair in pairs):
            lines += _wrap(f"{side}: " + ", ".join(run.factors.whole(treatment)))
    width = min(36, max(len("workload"), *(len(item.work) for item, _, _ in pairs)))
    lines += ["", f"  {'workload':<{width}} {'median A':>10} {'median B':>10} {'n':>5}  speed of B against A"]
    for item, a, _ in pairs:
        unit = run.metrics[item.work].unit
        unit = unit if unit in ("ns", "bytes") else ""
        values = [value for _, value in study.samples(item.work, a)]
        medians = [amount(statistics.median(values), unit) if values and not study.drifted else "-", amount(item.centre.median, unit) if item.centre and not study.drifted else "-"]
        name = item.work if len(item.work) <= width else item.work[:width - 1] + "…"
        lines.append(f"  {name:<{width}} {medians[0]:>10} {medians[1]:>10} {f'{len(values)}+{item.ok}':>5}  {words.answer(study, item.ratio, item.verdict, brief=True)}"[:WIDTH].rstrip())
    missing = [work for work in run.works if work not in {item.work for item, _, _ in pairs}]
    if missing:
        lines += _wrap("without both: " + ", ".join(missing))
    lines += [""] + _wrap(f"x is the speed of B over that of A: above 1, B is better. Intervals: {100 * (1 - study.alpha):g} %, on logs, blocks taken out. Where A or B is "
                          "the baseline the answer is that of the run's own tables; another pair is a question of its own, and so is each workload: a pair that was chosen for its "
                          "numbers is not confirmed by them.")
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
