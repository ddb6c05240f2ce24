"""The answer in sentences, computed from the data and never beyond it.

A reader who sees only this page of a run must not come away with more than the run shows. So: a difference is claimed only
when its verdict claims it; "equivalent" is said only where the interval lies inside the margin; everything else
is "undecided", together with what the interval leaves open and what this run would have seen. Where an invocation failed, nothing is claimed at
all: the sentence says how many. On a red machine each verdict holds under load alone, and nothing is ranked; neither is it after a large drift.

Ratios are factors, never percentages: x0.64 is a speed of 0.64 times the baseline's, x/÷1.05 is anything from 1/1.05 to 1.05.
"""
from __future__ import annotations

import math

from .answers import DRIFT_TO_SAY, DRIFT_TO_STOP, Effect
from .gvm import MIN_BLOCKS
from .load import GEARS
from .stats import Ratio
from .study import Study
from .treatments import kind


def digits(*values: float | None) -> int:
    """Decimals that tell these ratios from each other, and each that is not 1 from 1: an interval that excludes 1 is never printed as one that ends at it."""
    known = [value for value in values if value]
    found = 3 if known and (max(abs(math.log(value)) for value in known) < 0.1 or min(known) < 0.1) else 2
    while found < 6 and any(value != 1 and float(f"{value:.{found}f}") == 1 for value in known):
        found += 1
    return found


def factor(ratio: float, decimals: int | None = None) -> str:
    """0.6412 -> 'x0.64', 1.0042 -> 'x1.004', 123.4 -> 'x123'."""
    return f"x{number(ratio, digits(ratio) if decimals is None else decimals)}"


def number(value: float, decimals: int) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.{decimals}f}" if value >= 0.0005 else f"{value:.1g}"


def within(margin: float) -> str:
    return f"x/÷{number(margin, digits(margin))}" if math.isfinite(margin) else "any factor"


def margin(study: Study) -> str:
    """The margin within which treatments count as equivalent, as the experiment file sets it."""
    return f"x/÷{1 + study.rope_pct / 100:g}"


def with_interval(ratio: Ratio | None) -> str:
    """'x0.64 [0.52, 0.79]', the simultaneous interval; the ratio alone where there is none."""
    if ratio is None:
        return "-"
    if ratio.low is None or ratio.high is None:
        return f"{factor(ratio.ratio)}, no interval"
    decimals = digits(ratio.ratio, ratio.low, ratio.high)
    return f"{factor(ratio.ratio, decimals)} [{number(ratio.low, decimals)}, {number(ratio.high, decimals)}]"


def answer(study: Study, ratio: Ratio | None, verdict: str, brief: bool = False) -> str:
    """A verdict with what it rests on, in one line: 'slower: x0.64 [0.52, 0.79]'. What is no verdict on a ratio is returned as it is."""
    load = " under load" if study.under_load else ""
    if ratio is None:
        return verdict
    if verdict == "equivalent":
        return f"equivalent{load} within {margin(study)}"
    if verdict == "undecided":
        decimals = digits(ratio.low, ratio.high)
        low, high, seen = factor(ratio.low, decimals), factor(ratio.high, decimals), ratio.would_have_seen
        seen = "" if seen is None else f"{', sees' if brief else '; this run would have seen'} {factor(seen) if math.isfinite(seen) else 'nothing'}"
        return f"undecided{load}: {low} to {high}{seen}" if brief else f"undecided{load}: between {low} and {high}{seen}"
    if verdict in ("faster", "slower", "smaller", "larger"):
        return f"{verdict}{load}: {with_interval(ratio)}"
    if verdict == "no verdict":
        return f"no verdict: {factor(ratio.ratio)}, n = {ratio.n}" + ("" if brief or ratio.n >= MIN_BLOCKS else f", at least {MIN_BLOCKS} are needed")
    return verdict


def join(items: list[str]) -> str:
    if len(items) < 2:
        return "".join(items)
    return ", ".join(items[:-1]) + " and " + items[-1]


def plural(count: int, one: str, many: str | None = None) -> str:
    return f"{count} {one if count == 1 else many or one + 's'}"


def summary(study: Study) -> list[str]:
    """Coverage and failures, how often such a page is wrong, and the answer."""
    found = answers(study)
    return [coverage(study), error_rate(study), *found] if any(cell.ok for cell in study.run.cells) else found


def answers(study: Study) -> list[str]:
    """The answer, most important first: what stands in its way, each factor, composition, the fastest combination, resolution."""
    run = study.run
    ok = sum(cell.ok for cell in run.cells)
    if not ok:
        return [f"Nothing can be said: none of the {len(run.plan)} planned invocations ended with a measurement "
                f"({failure_words(study)})."]
    found = [*conditions(study)]
    for name, levels in run.levels.items():
        for level in levels[1:]:
            found.append(factor_words(study, name, level))
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


def error_rate(study: Study) -> str:
    """How often this procedure is wrong, before anything that it says."""
    families = sum(any(item.ratio is not None and item.ratio.low is not None for item in study.comparisons if item.work == work) for work in study.run.works)
    if not families:
        return ""
    expected = "" if families < 2 else f"; over {families} workloads expect at most {families * study.alpha:g}"
    return f"Error rate: the combinations of one workload are one family, and at most {100 * study.alpha:g} in 100 such families hold a false call{expected}."


def conditions(study: Study) -> list[str]:
    """What the machine did to the run, where a reader must know it before any number."""
    found = []
    if study.under_load:
        reasons = (study.run.manifest.get("machine") or {}).get("verdict_reasons") or []
        found.append("The machine was red" + (f" ({'; '.join(reasons)})" if reasons else "") + ": every verdict holds under that load alone, "
                     "nothing is ranked, and this run is not to be compared with one on a quiet machine.")
    drift = study.drift
    if drift is not None and drift.size > DRIFT_TO_SAY:
        found.append(f"The machine drifted by {factor(drift.factor)} [{drift.low:.2f}, {drift.high:.2f}] from the first invocation to the last. The order was random, so "
                     "intervals are wider for it and verdicts stand" + ("; nothing is ranked, and no absolute values are given." if study.drifted else "."))
    return found


def no_ranking(study: Study) -> str | None:
    """Why nothing is ranked, or None."""
    if study.under_load:
        return "the machine was red"
    return f"the machine drifted by {factor(study.drift.factor)}, more than {factor(DRIFT_TO_STOP)}" if study.drifted else None


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


def factor_words(study: Study, name: str, level: str) -> str:
    effects = [effect for effect in study.effects if (effect.factor, effect.level) == (name, level)]
    per_work = [effect for effect in effects if effect.work]
    base = study.run.levels[name][0]
    title, word = kind(name), "gear" if name in GEARS else "factor"
    head = f"{title[0].upper()}{title[1:]}, {level} instead of {base}:"
    if all(effect.ratio is None for effect in per_work):
        return f"{head} no two cells that differ in this {word} alone both ended well, so there is nothing to compare."
    load = " under load" if study.under_load else ""
    parts = []
    for verdict in ("faster", "slower"):
        clear = sorted((effect for effect in per_work if effect.verdict == verdict), key=lambda effect: -abs(math.log(effect.ratio.ratio)))
        if clear:
            parts.append(f"{verdict}{load} on {some([f'{effect.work} {with_interval(effect.ratio)}' for effect in clear])}")
    same = [effect.work for effect in per_work if effect.verdict == "equivalent"]
    if same:
        parts.append(f"equivalent{load} within {margin(study)} on {join(same)}")
    unclear = [effect for effect in per_work if effect.verdict == "undecided"]
    if unclear:
        parts.append(f"undecided{load} on {join([effect.work for effect in unclear])}{missed(unclear)}")
    few = [effect for effect in per_work if effect.verdict == "no verdict" and effect.ratio]
    if few:
        parts.append(f"no verdict on {join([effect.work for effect in few])} ({plural(max(effect.ratio.n for effect in few), 'block')}, at least {MIN_BLOCKS} are needed)")
    shaky = [effect for effect in per_work if effect.failed and effect.ratio]
    if shaky:
        parts.append(f"unreliable on {some([f'{effect.work} ({effect.failed} of {effect.planned} invocations failed)' for effect in shaky])}")
    absent = [effect.work for effect in per_work if effect.ratio is None]
    if absent:
        parts.append(f"no matched pair on {join(absent)}")
    text = f"{head} {'; '.join(parts)}."
    for whole in effects:
        if not whole.work and whole.ratio is not None:
            works = study.classes[whole.metric_class]
            over = "workloads" if len(study.classes) == 1 else f"the {plural(len(works), whole.metric_class + ' workload')}"
            text += f" Geometric mean over {over}: {answer(study, whole.ratio, whole.verdict)}{spread(whole, per_work)}."
    return text


def some(items: list[str], most: int = 4) -> str:
    """The first of them in full, the rest as a number."""
    more = len(items) - most
    return join(items[:most]) + (f", and on {plural(more, 'further workload')}" if more > 0 else "")


def spread(whole: Effect, per_work: list[Effect]) -> str:
    """The range that a mean hides."""
    ratios = [effect.ratio.ratio for effect in per_work if effect.metric_class == whole.metric_class and effect.ratio]
    return "" if whole.failed or len(ratios) < 2 else f", single workloads {span(ratios)}"


def span(ratios: list[float]) -> str:
    decimals = digits(min(ratios), max(ratios))
    return f"from {factor(min(ratios), decimals)} to {factor(max(ratios), decimals)}"


def missed(effects: list[Effect]) -> str:
    """What the widest undecided interval leaves open, and what each would have seen."""
    widest, seen = max(effect.ratio.margin for effect in effects), max(effect.ratio.would_have_seen for effect in effects)
    if widest > 1000:
        return " (the intervals exclude next to nothing)"
    return f" (within {within(widest)}" + (f"; this run would have seen {factor(seen)})" if math.isfinite(seen) else ")")


def composition(study: Study) -> list[str]:
    tested = [item for item in study.interactions if item.work and item.ratio is not None and item.ratio.low is not None]
    shaky = [item for item in tested if item.failed]
    tested = [item for item in tested if not item.failed]
    if shaky and not tested:
        return ["Composition: every interaction has failed invocations among its cells, so none is judged."]
    if not tested:
        return [f"Whether the {study.run.factors.word}s compose cannot be said: no interaction could be tested with the cells at hand."] if any(
            item.work for item in study.interactions) else []
    clear = sorted((item for item in tested if item.significant), key=lambda item: -abs(math.log(item.ratio.ratio)))
    if not clear:
        return [f"Composition: none of {plural(len(tested), 'tested interaction')} has an interval that excludes 1. "
                f"That is no proof that {study.run.factors.word}s compose; "
                "the contrasts and their intervals are in the figure on pairs."]
    named = [f"{' with '.join(_level(study, *one) for one in zip(item.factors, item.levels))} on {item.work} runs at {with_interval(item.ratio)} of what their separate effects predict"
             for item in clear[:4]]
    more = len(clear) - 4
    return [f"Composition: {len(clear)} of {plural(len(tested), 'tested interaction')} {'is' if len(clear) == 1 else 'are'} clear; "
            f"{'; '.join(named)}" + (f"; and {more} more" if more > 0 else "") + "."]


def _level(study: Study, factor: str, level: str) -> str:
    return level if factor in GEARS else study.run.factors.level(factor, level)


def winner(study: Study) -> list[str]:
    """Only combinations all of whose invocations gave a value, on every workload, may be called fastest. A crash disqualifies, and an interval that holds 1."""
    run = study.run
    if len(run.factors.shared) < 3 or not any(ratio is not None for ratios in study.overall.values() for ratio in ratios.values()):
        return []
    if run.not_run:
        return ["No combination is called the fastest: the run is not finished."]
    why_not = no_ranking(study)
    if why_not:
        return [f"No combination is called the fastest: {why_not}."]
    baseline = next((treatment for treatment in run.factors.shared if run.factors.is_baseline(treatment)), run.baseline)
    failed, planned = study.shared_failed(baseline)
    if failed:
        return [f"No combination is called the fastest: the baseline, with which they would be compared, failed in {failed} of {planned} invocations."]
    return [sentence for name in study.overall for sentence in _fastest(study, name, baseline)]


def _fastest(study: Study, name: str, baseline) -> list[str]:
    run, works, ratios = study.run, study.classes[name], study.overall[name]
    what = "fastest" if len(study.overall) == 1 else {"throughput": "fastest in throughput", "latency": "best in latency", "size": "smallest"}[name]
    whole = {treatment for treatment in ratios if all(_complete(study, work, run.factors.projected(work, treatment)) for work in works)}
    out = [treatment for treatment in ratios if treatment not in whole and study.shared_failed(treatment)[0]]
    without = f" {plural(len(out), 'combination')} with failed invocations cannot be it." if out else ""
    complete = {treatment: ratio for treatment, ratio in ratios.items() if ratio is not None and ratio.low is not None and treatment in whole}
    if len(complete) < 2 or baseline not in whole:
        return [f"No combination is called the {what}: too few have a value from every invocation and {MIN_BLOCKS} blocks.{without}"]
    treatment, ratio = max(complete.items(), key=lambda item: item[1].ratio)
    if ratio.ratio <= 1:
        over = plural(len(works), "workload" if len(study.overall) == 1 else f"{name} workload")
        return [f"No combination has a better geometric mean over the {over} than the baseline.{without}"]
    if ratio.low <= 1:
        return [f"No combination is called the {what}: the best, {run.short(treatment)}, may be no better than the baseline ({with_interval(ratio)}).{without}"]
    own = [study.difference(work, run.factors.projected(work, treatment)).log_ratio for work in works]
    reach = f", single workloads {span(list(map(math.exp, own)))}" if len(own) > 1 else ""
    return [f"{what[0].upper()}{what[1:]} overall: {run.short(treatment)}, {with_interval(ratio)} of the baseline{reach}, on {'this workload' if len(works) == 1 else f'these {len(works)} workloads'}, "
            f"among {plural(len(complete) + 1, 'combination')} with a value from every invocation. "
            f"It was picked because it came out on top, so its figure is somewhat optimistic.{without}"]


def _complete(study: Study, work: str, treatment) -> bool:
    return treatment is not None and len(study.samples(work, treatment)) == study.planned(work, treatment)


def resolution(study: Study) -> list[str]:
    """What was achieved: the typical interval, the margin that it would have passed, the effect that it would have shown."""
    ratios = sorted((effect.ratio for effect in study.effects if effect.work and effect.ratio is not None and effect.ratio.low is not None),
                    key=lambda ratio: ratio.high / ratio.low)
    if not ratios:
        return [f"No interval could be formed: at least {MIN_BLOCKS} blocks are needed."]
    typical = ratios[len(ratios) // 2]
    margins = sorted(ratio.margin for ratio in ratios)
    seen = f"; it would have shown {factor(typical.would_have_seen)} in four of five such runs" if typical.would_have_seen and math.isfinite(typical.would_have_seen) else ""
    return [f"Precision: the typical interval of a {study.run.factors.word}'s effect on one workload is {within((typical.high / typical.low)**0.5)}{seen}. "
            f"Half of the effects would have passed for equivalent within {within(margins[len(margins) // 2])}."]
