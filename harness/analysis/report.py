"""One self-contained page that carries a whole run: question, answer, evidence, method, failures, how to repeat it.

Self-contained, because a report is sent by mail and opened years later: figures are embedded, nothing is fetched, and
there is no script. Figures are embedded as images rather than as inline SVG elements, so that identifiers of one figure
cannot clash with another's.

A figure that is missing, or was drawn from other records than those now in the directory, is drawn first.
"""
from __future__ import annotations

import base64
import datetime
import os
import shlex

import jinja2

from . import gvm, plots, stats, words
from .format import amount
from .load import GEARS
from .study import Study
from .treatments import kind


def write(study: Study) -> str:
    html = render(study)
    path = os.path.join(study.run.path, "report.html")
    temporary = path + ".tmp"
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(html)
    os.replace(temporary, path)  # a reader never sees half a page
    return path


def render(study: Study) -> str:
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(os.path.dirname(__file__)), autoescape=True, trim_blocks=True,
                                     lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters.update(word=stats.word, bounds=_bounds, p=_p, share=_share)
    run, manifest = study.run, study.run.manifest
    return environment.get_template("report.html.j2").render(
        run=run, manifest=manifest, study=study, factors=run.factors.names, title=f"{manifest['experiment']}: {manifest['run_id']}",
        summary=[_lead(sentence) for sentence in words.summary(study)], figures=figures(study), machine=machine_facts(study), build=build_facts(study),
        machine_verdict=(manifest.get("machine") or {}).get("verdict"), verdict_reasons=(manifest.get("machine") or {}).get("verdict_reasons") or [],
        span=_span(manifest), method=method(study), combinations=combination_rows(study), effects=[(effect, words.answer(study, effect.ratio, effect.verdict)) for effect in study.effects],
        anovas=[("all workloads", study.anova)] + [(work, result) for work, result in study.anova_by_work.items() if len(run.works) > 1],
        failures=run.failures, failure_kinds=failure_kinds(study), illegal=illegal(study), reproduce=reproduce(study), percent=f"{100 * (1 - study.alpha):g} %",
        experiment_file=_experiment_file(run.path))


def figures(study: Study) -> list[dict]:
    found = []
    for number, plot in enumerate(plots.PLOTS.values(), start=1):
        note = plots.note(study, plot)
        if note is None:
            plots.draw_one(study, plot)
            note = plots.note(study, plot)
        image = None
        if note["drawn"]:
            with open(os.path.join(study.run.path, "figures", plot.name + ".svg"), "rb") as file:
                image = "data:image/svg+xml;base64," + base64.b64encode(file.read()).decode("ascii")
        found.append({"name": plot.name, "title": note["title"], "caption": note["caption"], "image": image, "number": number})
    return found


def machine_facts(study: Study) -> list[tuple[str, str]]:
    machine = study.run.manifest.get("machine") or {}
    memory = machine.get("memory_bytes")
    load = machine.get("load_before")
    return _facts([
        ("host", machine.get("host")), ("processor", machine.get("cpu")), ("cores", machine.get("cores")),
        ("memory", amount(memory, "bytes") if isinstance(memory, (int, float)) else None), ("kernel", machine.get("kernel")), ("system", machine.get("os")),
        ("virtualization", machine.get("virtualization")), ("frequency governor", machine.get("governor") or "not readable"),
        ("transparent huge pages", machine.get("thp")), ("address space randomisation", machine.get("aslr")),
        ("load before the run", ", ".join(f"{value:g}" for value in load) if isinstance(load, list) else None)])


def build_facts(study: Study) -> list[tuple[str, str]]:
    build = study.run.manifest.get("build") or {}
    commit = build.get("git_commit")
    dirty = " with uncommitted changes" if build.get("git_dirty") else "" if build.get("git_dirty") is False else " (whether there were uncommitted changes is not known)"
    libraries = study.run.manifest.get("libraries") or {}
    opened = ", ".join(f"{name} {version or 'refused'}" for name, version in sorted(libraries.items()))
    return _facts([("compiler", build.get("compiler")), ("flags", build.get("flags")), ("preset", build.get("preset")),
                   ("commit", f"{commit}{dirty}" if commit else "not known: git could not say"), ("binary", build.get("build_id")),
                   ("libraries opened at run time", opened), ("seed", study.run.manifest.get("seed"))])


def _facts(pairs) -> list[tuple[str, str]]:
    return [(name, str(value)) for name, value in pairs if value is not None and value != ""]


def _span(manifest: dict) -> str:
    started, ended = manifest.get("started"), manifest.get("ended")
    if not started:
        return ""
    if not ended:
        return f"started {started}, not finished"
    try:
        seconds = (datetime.datetime.fromisoformat(ended.replace("Z", "+00:00")) - datetime.datetime.fromisoformat(started.replace("Z", "+00:00"))).total_seconds()
    except (ValueError, TypeError, AttributeError):
        return f"{started} to {ended}"
    return f"{started} to {ended} ({datetime.timedelta(seconds=round(seconds))})"


def method(study: Study) -> list[str]:
    run = study.run
    percent = f"{100 * (1 - study.alpha):g} %"
    return [
        f"A cell is one workload with one combination of the {'four gears' if run.factors.word == 'gear' else 'factors (' + words.join([kind(factor) for factor in run.factors.names]) + ')'}, run once in a process of its own. The unit of "
        f"analysis is that process invocation, never an "
        f"iteration inside it. The run has {words.plural(len(run.blocks), 'block')}; each block holds every cell once{', the baseline several times' if any(cell.replicate for cell in run.cells) else ''}, in an "
        f"order shuffled with the seed, so slow changes of the machine "
        f"fall on all cells alike and cancel in ratios formed within a block.",
        f"Ratios are ratios of geometric means, given as factors; above x1 is better, whatever the metric. Each workload has one model: the logarithm of the "
        f"value is a block and a combination, with a variance for each combination. The variances lend each other degrees of freedom and are raised towards "
        f"their common one, never lowered; the baseline keeps its own. A {run.factors.word}'s effect averages the exchanges of that {run.factors.word} alone over the settings of "
        f"the other {run.factors.word}s, and an interaction likewise, in the same model.",
        f"A verdict is read from its {percent} interval and from nothing else: different where it excludes x1, equivalent where it lies within "
        f"{words.margin(study)}, undecided otherwise, with what this run would have seen in four of five cases. Intervals hold simultaneously within their family: "
        f"the combinations of one workload (Dunnett), all {run.factors.word} effects, all interactions, the means over the workloads of one class (Sidak). "
        f"Where an effect is a comparison with the baseline, it is that comparison. Throughput, latency and size are never averaged together. Workloads are taken as they are: "
        f"a mean over them says nothing of other programs. Fewer than {gvm.MIN_BLOCKS} blocks get no verdict.",
        f"Beside each answer stands the interval from each combination's own variance alone. "
        f"The robust companions (bootstrapped median ratio, exact Mann-Whitney test, Cliff's delta) are part of the JSON that "
        f"'analyze' prints.",
        "Nothing is removed as an outlier. A failed invocation has no value, takes its partner out of matched ratios, and stays in the tables. "
        "Where one failed on either side of a comparison the verdict is unreliable, whatever the ratio of the others; a combination with a "
        "failed invocation is never called the fastest."]


def combination_rows(study: Study) -> list[dict]:
    rows = []
    groups = [(work, study.run.metrics[work], study.comparisons) for work in study.run.works]
    groups += [(work, metric, study.second_comparisons) for work, metric in study.run.seconds.items()]
    for work, metric, items in sorted(groups, key=lambda group: study.run.works.index(group[0])):  # stable: the headline first
        items = [item for item in items if item.work == work]
        rows.append({"work": work, "second": metric is not study.run.metrics[work], "summary": study.run.summaries[work], "metric": metric, "rows": [{
            "name": study.run.short(item.treatment), "levels": list(zip(item.treatment, study.baseline(work))), "n": item.ok, "verdict": item.verdict, "ratio": item.ratio, "answer": words.answer(study, item.ratio, item.verdict),
            "own_variance": item.own_variance,
            "median": amount(item.centre.median, metric.unit if metric.unit in ("ns", "bytes") else "") if item.centre and not study.drifted else "",
            "failures": ", ".join(f"{status} {count}" for status, count in item.failures.items()), "not_run": item.not_run} for item in items]})
    return rows


def failure_kinds(study: Study) -> list[dict]:
    """Hundreds of failures usually have a handful of reasons; those come first."""
    groups: dict[tuple[str, str, str], list] = {}
    for cell in study.run.failures:
        status = cell.status if cell.status != "ok" else "no value"
        groups.setdefault((cell.work, status, cell.reason or "no reason recorded"), []).append(cell)
    return [{"work": work, "status": status, "reason": reason, "count": len(cells), "treatments": len({cell.treatment for cell in cells})}
            for (work, status, reason), cells in groups.items()]


def _lead(sentence: str) -> dict:
    """The words before the first colon become a bold lead; a number and its per cent sign stay on one line."""
    head, colon, rest = sentence.replace(" %", "\u00a0%").partition(": ")
    return {"lead": head, "rest": rest} if colon and len(head) < 70 else {"lead": "", "rest": sentence}


def illegal(study: Study) -> list[dict]:
    """Illegal combinations by their sentence: one reason usually explains many."""
    groups: dict[str, list[str]] = {}
    for entry in study.run.manifest.get("illegal") or []:
        combo = entry.get("combo") or {}
        groups.setdefault(str(entry.get("reason") or "no reason recorded"), []).append(", ".join(str(combo.get(gear, "any")) for gear in GEARS))
    return [{"reason": reason, "combos": combos} for reason, combos in groups.items()]


def reproduce(study: Study) -> list[str]:
    """The commands that make this run again: the sources as they were, the build, and every option that replaced what the file says."""
    manifest = study.run.manifest
    build = manifest.get("build") or {}
    overrides = manifest.get("overrides") or {}
    here = f"{overrides.get('out') or 'results'}/{manifest['experiment']}/{manifest['run_id']}"
    commit, dirty = build.get("git_commit"), build.get("git_dirty")
    lines = []
    if not commit:
        lines.append("# Which sources these were is not known: git could not say.")
    elif dirty is False:
        lines.append(f"git checkout {commit}")
    elif dirty and os.path.exists(os.path.join(study.run.path, "dirty.diff")):
        lines += ["# The sources differed from the commit; the difference is in dirty.diff.", f"git checkout {commit}",
                  f"git apply {shlex.quote(os.path.abspath(os.path.join(study.run.path, 'dirty.diff')))}"]
    else:
        lines.append(f"# The sources differed from commit {commit}, or may have, and the difference was not kept: the commit alone does not make this run again.")
    if manifest.get("resumed_with"):
        lines.append(f"# {words.plural(len(manifest['resumed_with']), 'part')} of the run used another build (resumed_with in manifest.json).")
    experiment = f"{here}/experiment.toml" if _experiment_file(study.run.path) is not None else manifest["experiment"]
    options = "".join(f" --{name} {shlex.quote(str(overrides[name]))}" for name in ("blocks", "seed", "only", "out") if name in overrides)
    preset = build.get("preset")
    lines.append((f"GEARBOX_PRESET={preset} " if preset and preset != "release" else "") + f"./gearbox sweep {shlex.quote(experiment)}{options}")
    if len({line.get("procs") for line in study.run.plan}) == 1:
        lines.append(f"# procs was {study.run.plan[0].get('procs')}; a file that names none takes one per CPU.")
    return lines


def _experiment_file(path: str) -> str | None:
    try:
        with open(os.path.join(path, "experiment.toml"), encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError):
        return None


def _bounds(value) -> str:
    return "" if value is None else words.with_interval(value)


def _p(value: float | None) -> str:
    return "" if value is None else "< 0.0001" if value < 0.0001 else f"{value:.4f}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"
