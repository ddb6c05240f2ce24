"""The command line: `python -m analysis VERB RUN`. The front door calls it; a person may as well.

Exit codes: 0 done, 1 a part of the work failed, 2 the input or the command line cannot be used (one line on stderr says why),
130 ended by Ctrl-C. Runs are read and checked before anything else is imported: numpy and the drawing library take a second,
and a run that is refused should not wait for them.
"""
from __future__ import annotations

from . import interrupts

if __name__ == "__main__":
    interrupts.end_quietly("interrupted; the records are safe")  # before the imports, in the middle of which Ctrl-C comes as often as anywhere

import argparse
import dataclasses
import os
import shutil
import statistics
import sys
import textwrap
from typing import TYPE_CHECKING

from . import load
from .load import BadInput, Run

if TYPE_CHECKING:
    from .study import Study

# Written out, so that help does not wait for the drawing library; a test holds it against the plots' own list.
PLOT_NAMES = ("gears", "overview", "throughput", "interaction", "pairs", "latency", "pauses", "memory", "sequence")
RUN_HELP = "a run directory, or an experiment directory (its 'latest' run is taken)"


class Parser(argparse.ArgumentParser):
    """argparse lists every choice for a typing slip; one suggestion is what the reader needs."""

    def error(self, message: str):
        if "invalid choice: " in message:
            given = message.split("invalid choice: ")[1].split("'")[1]
            message = f"unknown verb '{given}'; {load.nearest(given, list(VERBS))}"
        self.exit(2, f"analysis: {message}\n")


def answer_verb(options, run: Run) -> int:
    from . import jsonout, table, words
    from .study import Study
    study = Study(run)
    if options.json:
        print(jsonout.dumps({"run": run.manifest["run_id"], "question": run.manifest.get("question"), "hypothesis": run.manifest.get("hypothesis"),
                             "answers": words.answers(study)}))
    else:
        sys.stdout.write(table.answer_text(study, max(40, min(shutil.get_terminal_size((table.WIDTH, 24)).columns, table.WIDTH))))
    return 0


def table_verb(options, run: Run) -> int:
    from . import grid, jsonout, table
    from .study import Study
    grid.check(options.format)
    study = Study(run)
    if options.format != "text":
        if options.json:
            raise BadInput(f"--json and --format {options.format} are two formats: leave one out")
        sys.stdout.write(grid.text(study, options.format))
    elif options.json:
        print(jsonout.dumps({"run": study.run.manifest["run_id"], "baseline": study.run.factors.named(study.run.baseline), "works": works(study),
                             "comparisons": [_comparison(study, item) for item in study.comparisons]}))
    else:
        sys.stdout.write(table.text(study))
    return 0


def plot_verb(options, run: Run) -> int:
    from . import jsonout, plots
    from .study import Study
    chosen = plots.select(options.only)
    study = Study(run)
    outcomes = []
    for plot in chosen:
        outcome = plots.draw_one(study, plot)
        outcomes.append(outcome)
        if not options.json:
            print(f"{outcome.name}: {outcome.sentence}" if outcome.sentence else "\n".join(outcome.files))
    if options.json:
        print(jsonout.dumps({"plots": outcomes}))
    return 0


def report_verb(options, run: Run) -> int:
    from . import jsonout, report
    from .study import Study
    path = report.write(Study(run))
    print(jsonout.dumps({"report": path}) if options.json else path)
    return 0


def analyze_verb(options, run: Run) -> int:
    from . import jsonout
    from .study import Study
    study = Study(run)
    if options.pair:
        from . import choose, table
        found = [(study.pair(work, a, b), a, b) for work, a, b in choose.pair(run, options.pair)]
        if options.json:
            print(jsonout.dumps({"run": run.manifest["run_id"], "pairs": [
                {**_comparison(study, item), "a": run.factors.named(a), "b": run.factors.named(b), "a_median": statistics.median(values) if (
                    values := [value for _, value in study.samples(item.work, a)]) else None} for item, a, b in found]}))
        else:
            sys.stdout.write(table.pair_text(study, options.pair, found))
        return 0
    sys.stdout.write(jsonout.dumps(facts(study)) + "\n" if options.json else analysis_text(study))
    return 0


def compare_verb(options, run_a: Run, run_b: Run) -> int:
    from . import compare as comparing
    from . import jsonout
    from .study import Study
    a, b = Study(run_a), Study(run_b)
    if options.json:
        print(jsonout.dumps(comparing.compare(a, b)))
    else:
        sys.stdout.write(comparing.text(a, b))
    return 0


def export_verb(options, run: Run) -> int:
    from . import export
    if options.format is None and not options.json:
        raise BadInput(f"export: say which format with --format, one of {', '.join(export.FORMATS)}")
    if options.format is not None and options.json:
        raise BadInput(f"--json and --format {options.format} are two formats: leave one out")
    if options.json:
        from . import jsonout, rows
        print(jsonout.dumps({"cells": rows.cells(run), "metrics": rows.metrics(run), "counters": rows.counters(run), "units": rows.units(run)}))
    else:
        sys.stdout.write(export.text(run, options.format))
    return 0


def selftest_verb(options) -> int:
    from . import jsonout, selftest
    found = []
    if not options.json:
        sys.stdout.write(selftest.HEADER)
    for row in selftest.rows():
        found.append(row)
        if not options.json:
            sys.stdout.write(selftest.line(row))
            sys.stdout.flush()
    if options.json:
        print(jsonout.dumps({"rows": found}))
    return 0 if all(row.ok for row in found) else 1


def works(study: Study) -> dict[str, dict]:
    """The label of each work item -> its whole identity."""
    return {work: {"workload": item.workload, "params": dict(item.params), "procs": item.procs, "runtime": dict(item.runtime), "build": item.build}
            for work, item in study.run.identities.items()}


def _comparison(study: Study, item) -> dict:
    return {**{field.name: getattr(item, field.name) for field in dataclasses.fields(item)}, "treatment": study.run.factors.named(item.treatment)}


def facts(study: Study) -> dict:
    from . import words
    run = study.run
    return {
        "experiment": run.manifest["experiment"], "run": run.manifest["run_id"], "question": run.manifest.get("question"),
        "alpha": study.alpha, "rope_pct": study.rope_pct, "factors": run.levels, "baseline": run.factors.named(run.baseline), "notes": run.notes,
        "planned": len(run.plan), "measured": sum(cell.ok for cell in run.cells), "not_run": run.not_run, "kept_aside": run.aside, "works": works(study),
        "summary": words.summary(study), "effects": study.effects, "interactions": study.interactions,
        "comparisons": [_comparison(study, item) for item in study.comparisons],
        "overall": [{"class": name, "treatment": run.factors.named(treatment), "speed_ratio": ratio}
                    for name, ratios in study.overall.items() for treatment, ratio in ratios.items()],
        "drift": study.drift, "under_load": study.under_load,
        "anova": study.anova, "anova_by_workload": study.anova_by_work,
        "failures": [{"seq": cell.seq, "block": cell.block, "workload": cell.work, "replicate": cell.replicate, "treatment": run.factors.named(cell.treatment), "status": cell.status,
                      "reason": cell.reason, "attempts": cell.attempts} for cell in run.failures],
        "illegal": run.manifest.get("illegal") or []}


def analysis_text(study: Study) -> str:
    from . import table, words
    lines: list[str] = []
    for sentence in words.summary(study):
        lines += textwrap.wrap(sentence, 110, initial_indent="* ", subsequent_indent="  ")
    word = study.run.factors.word
    width = max(10, *(len(factor) for factor in study.run.factors.names))
    lines += ["", f"{word} effects: speed against the baseline level, all else matched; intervals are simultaneous over all effects",
              f"  {word:<{width}} {'level':<20} {'workload':<20} {'p':>7}  verdict"]
    for effect in study.effects:
        p = "-" if effect.ratio is None or effect.ratio.p is None else f"{effect.ratio.p:.4f}" if effect.ratio.p >= 0.0001 else "<0.0001"
        over = effect.work or ("all workloads" if len(study.classes) == 1 else f"all {effect.metric_class}")
        said = words.answer(study, effect.ratio, effect.verdict, brief=True) if effect.ratio else "no matched pair"
        lines.append(f"  {effect.factor:<{width}} {effect.level:<20} {over:<20} {p:>7}  {said}")
    lines += [""] + anova_lines("all workloads", study.anova)
    for work, result in study.anova_by_work.items():
        lines += [""] + anova_lines(work, result)
    if study.run.failures:
        lines += ["", "failures:"] + table.failure_lines(study.run.failures)
    return "\n".join(lines) + "\n"


def anova_lines(name: str, result) -> list[str]:
    lines = [f"analysis of variance, {name}: {result.formula}, n = {result.n}"]
    if result.terms:
        width = max(24, *(len(term.name) for term in result.terms))
        lines.append(f"  {'term':<{width}} {'df':>4} {'F':>10} {'eta²':>7}")
    for term in result.terms:
        f = f"{term.f:.4g}" if term.f is not None else "-"
        eta = f"{term.eta_sq:.3f}" if term.eta_sq is not None else "-"
        lines.append(f"  {term.name:<{width}} {term.df:>4} {f:>10} {eta:>7}")
    if result.residual_sd_pct is not None:
        lines.append(f"  residual: {result.residual_df} degrees of freedom, standard deviation {result.residual_sd_pct:.1f} %")
    return lines + [f"  note: {note}" for note in result.notes]


VERBS = {
    "answer": (answer_verb, "the answer to the experiment's question in sentences, one screen"),
    "table": (table_verb, "medians, ratios to the baseline and verdicts, as text"),
    "plot": (plot_verb, "draws the figures into RUN/figures (SVG, PNG and the data as CSV)"),
    "report": (report_verb, "writes RUN/report.html, one self-contained page; draws figures that are missing or stale"),
    "analyze": (analyze_verb, "effects of each factor, interactions, analysis of variance, failures"),
    "export": (export_verb, "the run in another tool's format: CSV, Go's benchmark format, Google Benchmark's JSON"),
    "compare": (compare_verb, "two runs against each other, workload by workload"),
    "selftest": (selftest_verb, "error rates and power of the verdicts on simulated runs whose truth is known; half a minute"),
}
RUNS = {"compare": 2, "selftest": 0}  # how many run directories a verb takes; others take one


def build_parser() -> Parser:
    parser = Parser(prog="analysis", description="Statistics, plots and reports from the records of a Gearbox run.",
                    epilog="A run directory is what './gearbox sweep' leaves under results/. Its records are only read; figures and report.html are written beside them.")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=Parser)
    for name, (function, summary) in VERBS.items():
        verb = verbs.add_parser(name, help=summary, allow_abbrev=False, description=summary[0].upper() + summary[1:] + ".")
        verb.set_defaults(function=function)
        if name == "compare":
            verb.add_argument("run_a", metavar="RUN_A", help=RUN_HELP + "; the old state")
            verb.add_argument("run_b", metavar="RUN_B", help="the new state; ratios are B over A, above 1 is better")
        elif RUNS.get(name, 1):
            verb.add_argument("run", metavar="RUN", help=RUN_HELP)
        if name in ("answer", "table", "plot", "report", "analyze"):
            verb.add_argument("--baseline", metavar="NAME=LEVEL[,…]", help="hold everything against another treatment than the experiment's baseline: these "
                              "factors at these levels, the others as they are. Factors and levels are those of the run")
        if name == "analyze":
            verb.add_argument("--pair", nargs=2, metavar=("A", "B"), help="two treatments against each other, workload by workload, and nothing else. A treatment is "
                              "named like a baseline, or as tables do: 'stw + procs=4', 'baseline'; ratios are B over A, above 1 is better")
        if name == "table":
            verb.add_argument("--format", metavar="NAME", default="text", help="how the tables are written: text, markdown, latex or csv")
        if name == "export":
            verb.add_argument("--format", metavar="NAME", help="csv: one row an invocation; benchfmt: for benchstat; gbench: for Google Benchmark's compare.py")
        if name == "plot":
            verb.add_argument("--only", metavar="NAME", action="append", help="draw this figure only; may be given several times. "
                              "Names: " + ", ".join(PLOT_NAMES))
        verb.add_argument("--json", action="store_true", help="print facts as JSON instead of text")
        verb.set_defaults(options=sorted(option for action in verb._actions for option in action.option_strings if option.startswith("--")))
    return parser


def main(arguments: list[str] | None = None) -> int:
    parser = build_parser()
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        given = unknown[0].partition("=")[0]
        parser.error(f"there is no option '{given}'; {load.nearest(given, options.options)}" if given.startswith("-") else f"'{given}' is one word too many")
    try:
        paths = [getattr(options, name) for name in ("run", "run_a", "run_b") if hasattr(options, name)]
        if __name__ == "__main__":
            again = " ".join(["gearbox" if paths else "python -m analysis", options.verb, *paths])
            interrupts.end_quietly(f"{options.verb} was interrupted; the records are safe, repeat it with: {again}")
        loaded = [load.load(path) for path in paths]
        if getattr(options, "baseline", None) is not None:
            from . import choose
            loaded = [choose.another_baseline(run, options.baseline) for run in loaded]
        code = options.function(options, *loaded)
        sys.stdout.flush()  # a full disk refuses only now what was printed
        return code
    except BadInput as error:
        print(f"analysis: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as missing:  # another python3 on PATH is the usual cause
        print(f"analysis: the Python module '{missing.name}' is missing; use /usr/bin/python3 with the packages python3-numpy, python3-scipy, "
              "python3-pandas, python3-matplotlib and python3-jinja2", file=sys.stderr)
        return 1
    except OSError as error:
        if not error.filename:  # standard output; what is still collected for it goes nowhere
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print(f"analysis: {error.filename or 'standard output could not be written'}: {error.strerror}", file=sys.stderr)
        return 1


def run_as_program() -> int:
    code = main()
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    interrupts.work_is_done()
    return code


if __name__ == "__main__":
    sys.exit(run_as_program())
