"""The answer in sentences, computed from the data and never beyond it.

A reader who sees only this page of a run must not come away with more than the run shows. So: a difference is claimed only
when its verdict claims it; "no effect" is said only where the interval lies inside the region of equivalence; everything else
is "inconclusive", together with how large an effect could have been missed. Where an invocation failed, nothing is claimed at
all: the sentence says how many.
"""
from __future__ import annotations

import math

from .load import GEARS
from .stats import Ratio
from .study import Effect, Study
from .treatments import kind


def percent(ratio: float) -> str:
    """1.123 -> '12.3 % faster', 0.28 -> '3.6 times slower'."""
    if ratio >= 2:
        return f"{ratio:.1f} times faster"
    if ratio <= 0.5:
        return f"{1 / ratio:.1f} times slower"
    return f"{100 * (ratio - 1):.1f} % faster" if ratio >= 1 else f"{100 * (1 - ratio):.1f} % slower"


def interval(ratio: Ratio | None) -> str:
    if ratio is None or ratio.low is None or ratio.high is None:
        return "no interval"
    return f"[{ratio.low:.3f}, {ratio.high:.3f}]"


def join(items: list[str]) -> str:
    if len(items) < 2:
        return "".join(items)
    return ", ".join(items[:-1]) + " and " + items[-1]


def plural(count: int, one: str, many: str | None = None) -> str:
    return f"{count} {one if count == 1 else many or one + 's'}"


def summary(study: Study) -> list[str]:
    """The answer, most important first: coverage and failures, each factor, composition, the fastest combination, resolution."""
    run = study.run
    ok = sum(cell.ok for cell in run.cells)
    if not ok:
        return [f"Nothing can be said: none of the {len(run.plan)} planned invocations ended with a measurement "
                f"({failure_words(study)})."]
    found = [coverage(study)]
    for factor, levels in run.levels.items():
        for level in levels[1:]:
            found.append(factor_words(study, factor, level))
    if not any(len(levels) > 1 for levels in run.levels.values()):
        found.append(f"Every {run.factors.word} was run at a single level, so this run compares nothing; it describes one combination.")
    found += composition(study) + winner(study) + resolution(study)
    return [sentence for sentence in found if sentence]


def coverage(study: Study) -> str:
    run = study.run
    ok = sum(cell.ok for cell in run.cells)
    text = f"{ok} of {plural(len(run.plan), 'planned invocation')} gave a measurement: " \
           f"{plural(len(run.treatments), 'combination')}, {plural(len(run.works), 'workload')}, {plural(len(run.blocks), 'block')}."
    if run.failures:
        failed = [cell for cell in run.failures if cell.failed]
        refused = len(run.failures) - len(failed)
        if failed:
            text += f" {plural(len(failed), 'invocation')} failed ({failure_words(study)}); failed cells stay in every table."
        if refused:
            text += f" {plural(refused, 'invocation')} did not begin: the kernel refuses a gear."
    if run.not_run:
        text += f" {plural(run.not_run, 'invocation')} {'has' if run.not_run == 1 else 'have'} not been run."
    return text


def failure_words(study: Study) -> str:
    counts: dict[str, int] = {}
    for cell in study.run.failures:
        status = cell.status if cell.status != "ok" else "no value"
        if cell.failed or not any(other.failed for other in study.run.failures):
            counts[status] = counts.get(status, 0) + 1
    parts = [f"{status} {count}" for status, count in sorted(counts.items(), key=lambda item: -item[1])]
    if study.run.not_run and not parts:
        parts.append(f"{study.run.not_run} not run")
    return ", ".join(parts) or "no failures"


def factor_words(study: Study, factor: str, level: str) -> str:
    effects = [effect for effect in study.effects if (effect.factor, effect.level) == (factor, level)]
    per_work = [effect for effect in effects if effect.work]
    whole = next(effect for effect in effects if effect.work is None)
    base = whole.base
    name, word = kind(factor), "gear" if factor in GEARS else "factor"
    head = f"{name[0].upper()}{name[1:]}, {level} instead of {base}:"
    if all(effect.ratio is None for effect in per_work):
        return f"{head} no two cells that differ in this {word} alone both ended well, so there is nothing to compare."
    differing = sorted((effect for effect in per_work if effect.verdict in ("faster", "slower")),
                       key=lambda effect: -abs(math.log(effect.ratio.ratio)))
    parts = []
    if differing:
        named = [f"{effect.work} ({percent(effect.ratio.ratio)}, ratio {effect.ratio.ratio:.3f} {interval(effect.ratio)})" for effect in differing[:4]]
        more = len(differing) - 4
        parts.append(f"matters on {join(named)}" + (f", and on {plural(more, 'further workload')}" if more > 0 else ""))
    same = [effect.work for effect in per_work if effect.verdict == "equivalent"]
    if same:
        parts.append(f"equivalent within ±{study.rope_pct:g} % on {join(same)}")
    unclear = [effect for effect in per_work if effect.verdict == "inconclusive" and effect.ratio]
    if unclear:
        parts.append(f"inconclusive on {join([effect.work for effect in unclear])}" + missed(unclear))
    shaky = [effect for effect in per_work if effect.failed and effect.ratio]
    if shaky:
        named = [f"{effect.work} ({effect.failed} of {effect.planned} invocations failed)" for effect in shaky[:4]]
        more = len(shaky) - 4
        parts.append(f"unreliable on {join(named)}" + (f", and on {plural(more, 'further workload')}" if more > 0 else ""))
    absent = [effect.work for effect in per_work if effect.ratio is None]
    if absent:
        parts.append(f"no matched pair on {join(absent)}")
    text = f"{head} {'; '.join(parts)}."
    if whole.ratio is not None and len(per_work) - len(absent) > 1:
        claim = {"faster": percent(whole.ratio.ratio), "slower": percent(whole.ratio.ratio), "equivalent": "equivalent",
                 "inconclusive": "inconclusive"}.get(whole.verdict, whole.verdict)
        figures = "" if whole.failed else f", {whole.ratio.ratio:.3f} {interval(whole.ratio)}"
        text += f" Geometric mean over workloads: {claim}{figures}."
    return text


def missed(effects: list[Effect]) -> str:
    """How large an effect the widest inconclusive interval leaves open."""
    edges = [max(abs(math.log(effect.ratio.low)), abs(math.log(effect.ratio.high))) for effect in effects if effect.ratio.low is not None]
    if not edges:
        return " (too few pairs for an interval)"
    worst = 100 * math.expm1(max(edges))
    return f" (effects up to {worst:.1f} % are not excluded)" if worst < 1000 else " (the intervals exclude next to nothing)"


def composition(study: Study) -> list[str]:
    tested = [item for item in study.interactions if item.work and item.ratio is not None and item.p_holm is not None]
    shaky = [item for item in tested if item.failed]
    tested = [item for item in tested if not item.failed]
    if shaky and not tested:
        return ["Composition: every interaction has failed invocations among its cells, so none is judged."]
    if not tested:
        return [f"Whether the {study.run.factors.word}s compose cannot be said: no interaction could be tested with the cells at hand."] if any(
            item.work for item in study.interactions) else []
    clear = sorted((item for item in tested if item.significant), key=lambda item: -abs(math.log(item.ratio.ratio)))
    if not clear:
        return [f"Composition: none of {plural(len(tested), 'tested interaction')} is significant after Holm's correction. "
                f"That is no proof that {study.run.factors.word}s compose; "
                "the contrasts and their intervals are in the figure on pairs."]
    named = [f"{' with '.join(_level(study, *one) for one in zip(item.factors, item.levels))} on {item.work} runs at ×{item.ratio.ratio:.3f} {interval(item.ratio)} of what their separate effects predict"
             for item in clear[:4]]
    more = len(clear) - 4
    return [f"Composition: {len(clear)} of {plural(len(tested), 'tested interaction')} {'is' if len(clear) == 1 else 'are'} significant; "
            f"{'; '.join(named)}" + (f"; and {more} more" if more > 0 else "") + "."]


def _level(study: Study, factor: str, level: str) -> str:
    return level if factor in GEARS else study.run.factors.level(factor, level)


def winner(study: Study) -> list[str]:
    """Only combinations all of whose invocations gave a value, on every workload, may be called fastest. A crash disqualifies."""
    run = study.run
    if len(study.overall) < 3 or not any(ratio is not None for ratio in study.overall.values()):
        return []
    if run.not_run:
        return ["No combination is called the fastest: the run is not finished."]
    whole = {treatment for treatment in study.overall if all(_complete(study, work, run.factors.projected(work, treatment)) for work in run.works)}
    baseline = next((treatment for treatment in study.overall if run.factors.is_baseline(treatment)), run.baseline)
    failed, planned = study.shared_failed(baseline)
    if failed:
        return [f"No combination is called the fastest: the baseline, with which they would be compared, failed in {failed} of {planned} invocations."]
    out = [treatment for treatment in study.overall if treatment not in whole and study.shared_failed(treatment)[0]]
    without = f" {plural(len(out), 'combination')} with failed invocations cannot be it." if out else ""
    complete = {treatment: ratio for treatment, ratio in study.overall.items() if ratio is not None and treatment in whole}
    if len(complete) < 2 or baseline not in whole:
        return [f"No combination is called the fastest: too few have a value from every invocation.{without}"]
    treatment, ratio = max(complete.items(), key=lambda item: item[1].ratio)
    if ratio.ratio <= 1:
        return [f"No combination has a higher geometric mean over the workloads than the baseline.{without}"]
    doubt = " Its interval contains 1, so the baseline may be as good." if ratio.low is None or ratio.low <= 1 else ""
    return [f"Fastest overall: {run.short(treatment)}, ×{ratio.ratio:.3f} {interval(ratio)} of the baseline, "
            f"among {plural(len(complete) + 1, 'combination')} with a value from every invocation. "
            f"It was picked because it came out on top, so its figure is somewhat optimistic.{doubt}{without}"]


def _complete(study: Study, work: str, treatment) -> bool:
    return treatment is not None and len(study.samples(work, treatment)) == study.planned(work, treatment)


def resolution(study: Study) -> list[str]:
    halves = sorted(math.log(effect.ratio.high / effect.ratio.low) / 2 for effect in study.effects
                    if effect.work and effect.ratio is not None and effect.ratio.low is not None)
    if not halves:
        return ["No interval could be formed: more blocks are needed."]
    typical = 100 * math.expm1(halves[len(halves) // 2])
    text = f"Resolution: the typical interval of a {study.run.factors.word}'s effect on one workload is ±{typical:.1f} %."
    if len(study.run.blocks) < 6:
        text += f" With {plural(len(study.run.blocks), 'block')}, comparisons of single combinations are coarse; {study.run.factors.word} effects, which pool matched pairs, are sharper."
    return [text]
