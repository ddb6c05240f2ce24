"""The tables of the table verb for a paper, a page or a spreadsheet: Markdown, LaTeX (booktabs) and CSV.

The text table is cut to a terminal's width and rounded for reading; here nothing is cut. CSV has numbers as they were computed,
one table of all workloads; the others have a table for each workload and metric, rounded as in the text.
"""
from __future__ import annotations

import csv
import io

from .answers import Comparison
from .format import amount
from .load import BadInput, Metric, nearest
from .study import Study

FORMATS = ("text", "markdown", "latex", "csv")
HEADINGS = ("combination", "n", "median", "interval", "speed", "interval of speed", "verdict")
LATEX = {"\\": r"\textbackslash{}", "_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}",
         "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "±": r"$\pm$", "×": r"$\times$", "µ": r"\textmu{}", "÷": r"$\div$"}


def check(format: str) -> None:
    if format not in FORMATS:
        raise BadInput(f"--format: there is no format '{format}'; {nearest(format, list(FORMATS))}")


def text(study: Study, format: str) -> str:
    return {"markdown": _markdown, "latex": _latex, "csv": _csv}[format](study)


def tables(study: Study) -> list[tuple[str, Metric, list[Comparison]]]:
    """(work item, metric, its comparisons), the headline before a second metric."""
    run, found = study.run, []
    for work in run.works:
        found.append((work, run.metrics[work], [item for item in study.comparisons if item.work == work]))
        if work in run.seconds:
            found.append((work, run.seconds[work], [item for item in study.second_comparisons if item.work == work]))
    return found


def _row(study: Study, item: Comparison, metric: Metric) -> list[str]:
    unit = metric.unit if metric.unit in ("ns", "bytes") else ""
    centre, ratio = None if study.drifted else item.centre, item.ratio  # after a large drift absolute values mean nothing
    bounds = [f"{amount(centre.low, unit)} to {amount(centre.high, unit)}" if centre and centre.low is not None else "",
              f"[{ratio.low:.3f}, {ratio.high:.3f}]" if ratio and ratio.low is not None else ""]
    return [study.run.short(item.treatment), str(item.ok), amount(centre.median, unit) if centre else "", bounds[0], f"{ratio.ratio:.3f}" if ratio else "", bounds[1],
            item.verdict]


def _title(work: str, metric: Metric) -> str:
    return f"{work}: {metric.name}{f' ({metric.unit})' if metric.unit else ''}, {metric.better} is better"


def _markdown(study: Study) -> str:
    def cell(value: str) -> str:
        return value.replace("\\", "\\\\").replace("|", "\\|").replace("_", "\\_").replace("*", "\\*")
    lines = [cell(f"Baseline: {', '.join(study.run.factors.whole(study.run.baseline))}.")]
    for work, metric, items in tables(study):
        lines += ["", f"**{cell(_title(work, metric))}**", "", "| " + " | ".join(HEADINGS) + " |", "|---|---:|---:|---|---:|---|---|"]
        lines += ["| " + " | ".join(map(cell, _row(study, item, metric))) + " |" for item in items]
    return "\n".join(lines) + "\n"


def _latex(study: Study) -> str:
    def cell(value: str) -> str:
        return "".join(LATEX.get(character, character) for character in value)
    lines = ["% needs \\usepackage{booktabs}", cell(f"Baseline: {', '.join(study.run.factors.whole(study.run.baseline))}.")]
    for work, metric, items in tables(study):
        lines += ["", r"\begin{table}", rf"\caption{{{cell(_title(work, metric))}}}", r"\begin{tabular}{lrrlrll}", r"\toprule", " & ".join(HEADINGS) + r" \\", r"\midrule"]
        lines += [" & ".join(map(cell, _row(study, item, metric))) + r" \\" for item in items]
        lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    return "\n".join(lines) + "\n"


def _csv(study: Study) -> str:
    factors = study.run.factors.names
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["workload", "metric", "unit", "better", *factors, "n", "failed", "unsupported", "not_run", "mean", "mean_low", "mean_high", "median", "speed", "speed_low",
                     "speed_high", "p", "verdict"])
    for work, metric, items in tables(study):
        for item in items:
            centre, ratio = item.centre, item.ratio
            writer.writerow([work, metric.name, metric.unit, metric.better, *item.treatment, item.ok, item.failed, item.unsupported, item.not_run,
                             *((centre.mean, centre.low, centre.high, centre.median) if centre else (None,) * 4),
                             *((ratio.ratio, ratio.low, ratio.high) if ratio else (None,) * 3), ratio.p if ratio else None, item.verdict])
    return out.getvalue()
