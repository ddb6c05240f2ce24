"""Every comparison the outputs share, computed once from a Run, so that table, plots, words and report cannot disagree.

Direction. Headline metrics point different ways (round trips per second, nanoseconds at p99). Wherever workloads stand
beside each other, ratios are *speed ratios*: above 1 means better than the baseline, whatever the metric. `Comparison.ratio`
and everything in `Effect` and `Interaction` are speed ratios.

Treatments. What is compared are the run's factors (gears, procs, parameters, options) at their levels; a treatment is a level
of each (treatments.py). A block may hold the baseline several times: each is an invocation of its own in a mean or a median,
and a ratio within the block takes their geometric mean.

Verdicts. Each work item has one model, block and treatment on the log scale with a variance for each treatment (gvm.py), and every answer is a contrast of
it. A verdict is read from the simultaneous interval. One question has one answer: an effect of a factor that rests on a single exchange in the baseline is
the comparison of that treatment with the baseline, and takes its interval.

Families. The treatments of one work item (Dunnett); all effects of factors in the run; all interactions of the run; over the workloads of one class
(throughput, latency, size), the means of the treatments, of the effects and of the interactions. Secondary metrics have families of their own.
Throughput, latency and size are never averaged together.

Failures. Where any invocation on either side of a comparison failed, its verdict is "unreliable: k of n failed": the ratio of
those that survived is shown and decides nothing. A gear that the kernel refuses (`unsupported`) never ran: it has no value and
no verdict, and spoils nobody else's.

The machine. On a red machine every verdict holds under load alone. A drift within the run widens intervals and, since the order is random, biases none of
them; it forbids a ranking and absolute values where it is large.
"""
from __future__ import annotations

import functools
import itertools
import math
import os
import tomllib

import numpy as np

from . import factorial, gvm, load, stats
from .answers import CLASSES, DRIFT_TO_STOP, DUNNETT, SIDAK, Comparison, Drift, Effect, Interaction, metric_class
from .load import Cell, Run
from .stats import Ratio
from .treatments import Treatment


class Study:
    def __init__(self, run: Run):
        self.run = run
        self.alpha, self.rope_pct = _analysis_options(run)
        self._samples: dict[tuple, list[tuple[int, float]]] = {}
        self._values: dict[tuple, dict[int, float]] = {}
        self._fits: dict[tuple[str, str | None], gvm.Fit | None] = {}
        self._priors: dict[str | None, float] = {}
        self._cells: dict[tuple[str, Treatment], list[Cell]] = {}
        for cell in run.cells:
            self._cells.setdefault((cell.work, cell.treatment), []).append(cell)

    # ---- access ----

    def cells(self, work: str, treatment: Treatment) -> list[Cell]:
        return self._cells.get((work, treatment), [])

    def samples(self, work: str, treatment: Treatment, metric: str | None = None) -> list[tuple[int, float]]:
        """(block, value) of every invocation that ended well: the headline's or a named metric's. Callers must not change it."""
        key = (work, treatment, metric)
        if key not in self._samples:
            found = self._samples[key] = []
            for cell in self.cells(work, treatment):
                value = cell.value if metric is None else load.metric_value(cell.record, metric)
                if value is not None and value > 0:
                    found.append((cell.block, float(value)))
        return self._samples[key]

    def values(self, work: str, treatment: Treatment, metric: str | None = None) -> dict[int, float]:
        """block -> value, the geometric mean where the block holds several. Callers must not change it."""
        key = (work, treatment, metric)
        if key in self._values:  # interactions ask for every cell hundreds of times
            return self._values[key]
        blocks: dict[int, list[float]] = {}
        for block, value in self.samples(work, treatment, metric):
            blocks.setdefault(block, []).append(value)
        found = {block: several[0] if len(several) == 1 else math.exp(sum(map(math.log, several)) / len(several)) for block, several in blocks.items()}
        self._values[key] = found
        return found

    def sign(self, work: str) -> int:
        return 1 if self.run.metrics[work].better == "higher" else -1

    def planned(self, work: str, treatment: Treatment) -> int:
        return self.run.factors.planned[work].get(treatment, 0)

    def baseline(self, work: str) -> Treatment:
        return self.run.factors.baseline_of(work)

    @functools.cached_property
    def classes(self) -> dict[str, list[str]]:
        """Class of the headline -> its work items; classes that the run lacks are left out."""
        found = {name: [work for work in self.run.works if metric_class(self.run.metrics[work]) == name] for name in CLASSES}
        return {name: works for name, works in found.items() if works}

    # ---- the model of a work item ----

    def fit(self, work: str, metric: str | None = None) -> gvm.Fit | None:
        """None where nothing has a value. The baseline is the reference if it has one; log speeds for the headline and throughput, log values for a size."""
        key = (work, metric)
        if key not in self._fits:
            rows = [(block, treatment, value) for treatment in self.run.factors.planned[work] for block, value in self.samples(work, treatment, metric)]
            names = {treatment for _, treatment, _ in rows}
            baseline = self.baseline(work)
            sign = self.sign(work) if metric is None else 1
            self._fits[key] = gvm.Layout([block for block, _, _ in rows], [treatment for _, treatment, _ in rows], baseline if baseline in names else rows[0][1]).fit(
                [sign * math.log(value) for _, _, value in rows]) if rows else None
        return self._fits[key]

    def _prior(self, metric: str | None) -> float:
        if metric not in self._priors:
            self._priors[metric] = float(gvm.moderation([fit for work in self.run.works if (fit := self.fit(work, metric)) is not None]))
        return self._priors[metric]

    def _against_baseline(self, work: str, metric: str | None, moderated: bool = True) -> dict[Treatment, gvm.Contrast]:
        fit = self.fit(work, metric)
        if fit is None or fit.layout.treatments[0] != self.baseline(work):
            return {}
        return gvm.against_reference(fit, self._prior(metric) if moderated else 0.0, self.alpha)

    # ---- combinations against the baseline ----

    def compare(self, metric: str | None = None, kind: str = "speed") -> list[Comparison]:
        """All combinations on all workloads, by the headline or by a size for which lower is better (peak_rss)."""
        found: list[Comparison] = []
        for work in self.run.works:
            found += self._family(work, metric, kind)
        return found

    def _family(self, work: str, metric: str | None, kind: str) -> list[Comparison]:
        baseline = self.baseline(work)
        answers, own = self._against_baseline(work, metric), self._against_baseline(work, metric, moderated=False)
        return self._judged(work, [self._compare_one(work, treatment, baseline, metric, stats.from_contrast(answers.get(treatment), DUNNETT),
                                                     stats.from_contrast(own.get(treatment), DUNNETT + ", own variances"))
                                   for treatment in self.run.factors.planned[work]], baseline, kind)

    def pair(self, work: str, a: Treatment, b: Treatment) -> Comparison:
        """Two treatments of one work item: B against A.

        Where one of them is the baseline the answer is that of their comparison in the run's tables. Another pair is a family of its own, a contrast of the
        same model with the two treatments' own variances.
        """
        baseline = self.baseline(work)
        known = {item.treatment: item for item in self.comparisons if item.work == work}
        if a == baseline:
            ratio, own = known[b].ratio, known[b].own_variance
        elif b == baseline:
            ratio, own = (None if one is None else one.inverted() for one in (known[a].ratio, known[a].own_variance))
        else:
            own = ratio = stats.from_contrast(gvm.simultaneous([self._estimate(work, [{b: 1.0, a: -1.0}])], self.alpha)[0], "Welch's t on logs, blocks taken out")
        return self._judged(work, [self._compare_one(work, b, a, None, ratio, own)], a, "speed", "A")[0]

    def _judged(self, work: str, family: list[Comparison], baseline: Treatment, kind: str, whose: str = "the baseline") -> list[Comparison]:
        base_failed, base_planned = self.failed(work, [baseline])
        for item in family:
            if item.treatment == baseline or item.ratio is None:
                continue
            item.verdict = stats.verdict(item.ratio, "higher", kind, self.rope_pct)
            if item.failed:
                item.verdict = stats.unreliable(*self.failed(work, [item.treatment]))
            elif base_failed:
                item.verdict = stats.unreliable(base_failed, base_planned, whose)
        return family

    def failed(self, work: str | None, treatments) -> tuple[int, int]:
        """(failed, planned) invocations of these combinations on one workload, or on all of them. Refused gears are neither."""
        failed = planned = 0
        for one in self.run.works if work is None else [work]:
            for treatment in treatments:
                cells = self.cells(one, treatment)
                failed += sum(cell.failed for cell in cells)
                planned += self.planned(one, treatment) - sum(cell.status == "unsupported" for cell in cells)
        return failed, planned

    @functools.cached_property
    def second_comparisons(self) -> list[Comparison]:
        """Throughput, where it is not the headline: what a better latency was paid with. Families of their own."""
        return [item for work in self.run.works if work in self.run.seconds
                for item in self._family(work, "throughput", "speed")]

    def _compare_one(self, work: str, treatment: Treatment, baseline: Treatment, metric: str | None, ratio: Ratio | None, own: Ratio | None) -> Comparison:
        failures: dict[str, int] = {}
        cells = self.cells(work, treatment)
        for cell in cells:
            if not cell.ok:
                status = cell.status if cell.status != "ok" else "no value"
                failures[status] = failures.get(status, 0) + 1
        a, b = ([value for _, value in self.samples(work, one, metric)] for one in (treatment, baseline))
        median_ratio, low, high = stats.bootstrap_median_ratio(a, b, self.alpha) if treatment != baseline else (None, None, None)
        verdict = "baseline" if treatment == baseline else "no verdict"
        refused = failures.get("unsupported", 0)
        if not a:
            verdict = "not run" if not failures else "unsupported" if refused == sum(failures.values()) else "failed"
        return Comparison(
            work=work, treatment=treatment, metric=metric or self.run.metrics[work].name, ok=len(a),
            failed=sum(failures.values()) - refused, unsupported=refused,
            not_run=self.planned(work, treatment) - len(cells), failures=failures, centre=stats.centre(a, self.alpha),
            ratio=ratio, own_variance=own,
            verdict=verdict, median_ratio=median_ratio, median_ratio_low=low, median_ratio_high=high,
            mann_whitney_p=stats.mann_whitney(a, b, self.alpha) if treatment != baseline else None,
            cliffs_delta=stats.cliffs_delta(a, b) if treatment != baseline else None)

    @functools.cached_property
    def comparisons(self) -> list[Comparison]:
        return self.compare()

    @functools.cached_property
    def overall(self) -> dict[str, dict[Treatment, Ratio | None]]:
        """Class -> treatment -> the geometric mean over the workloads of the class of the speed ratio to the baseline, each weighing the same.

        A mean is over all workloads of its class or there is none. A factor that says nothing to some workload is at its baseline here, since only so can a
        treatment be asked of all.
        """
        found: dict[str, dict[Treatment, Ratio | None]] = {}
        for name, works in self.classes.items():
            estimates = {}
            for treatment in self.run.factors.shared:
                parts = [] if self.run.factors.is_baseline(treatment) else [self.difference(work, self.run.factors.projected(work, treatment)) for work in works]
                estimates[treatment] = None if None in parts else gvm.average(parts)
            answers = gvm.simultaneous(list(estimates.values()), self.alpha)
            found[name] = {treatment: stats.from_contrast(answer, SIDAK) for treatment, answer in zip(estimates, answers)}
        return found

    def difference(self, work: str, treatment: Treatment | None) -> gvm.Estimate | None:
        """To the baseline, on the log scale of speed. A treatment that is the work item's own baseline is known to be equal to it."""
        if treatment is not None and treatment == self.baseline(work):
            fit = self.fit(work)
            return None if fit is None else gvm.Estimate(0.0, 0.0, float(fit.layout.df.sum()) or None, len(self.run.blocks))
        return None if treatment is None else self._estimate(work, [{treatment: 1.0, self.baseline(work): -1.0}])

    def shared_failed(self, treatment: Treatment, works: list[str] | None = None) -> tuple[int, int]:
        """failed(), of one of `overall`'s treatments over all workloads, or over these."""
        parts = [self.failed(work, [own]) for work in (self.run.works if works is None else works) if (own := self.run.factors.projected(work, treatment)) is not None]
        return sum(failed for failed, _ in parts), sum(planned for _, planned in parts)

    # ---- factors ----

    def _with_values(self, work: str, contexts: list[dict[Treatment, float]]) -> list[dict[Treatment, float]]:
        return [context for context in contexts if all(self.samples(work, treatment) for treatment in context)]

    def _estimate(self, work: str, contexts: list[dict[Treatment, float]]) -> gvm.Estimate | None:
        """The mean over contexts, each a contrast of treatments and each weighing the same."""
        contexts = self._with_values(work, contexts)
        fit = self.fit(work)
        if fit is None or not contexts:
            return None
        weights: dict[Treatment, float] = {}
        for context in contexts:
            for treatment, weight in context.items():
                weights[treatment] = weights.get(treatment, 0.0) + weight / len(contexts)
        return fit.estimate(weights)

    def _effect_contexts(self, factor: str, level: str, work: str) -> list[dict[Treatment, float]]:
        """Every treatment with the level and its partner that has the baseline's level and differs in nothing else."""
        factors = self.run.factors
        index, base = factors.names.index(factor), factors.levels[factor][0]
        found = []
        for treatment in factors.planned[work]:
            partner = factors.partner(work, treatment, {factor: base}) if treatment[index] == level else None
            if partner is not None:
                found.append({treatment: 1.0, partner: -1.0})
        return self._with_values(work, found)

    @functools.cached_property
    def effects(self) -> list[Effect]:
        found: list[Effect] = []
        estimates: dict[int, gvm.Estimate | None] = {}  # by id() of the effect
        for factor, (base, *others) in self.run.levels.items():
            for level in others:
                mine = []
                for name, works in self.classes.items():
                    works = [work for work in works if self.varies(work, factor)]
                    per_work = {work: self._effect_contexts(factor, level, work) for work in works}
                    parts = {work: self._estimate(work, contexts) for work, contexts in per_work.items()}
                    for work, contexts in per_work.items():
                        mine.append(Effect(factor, level, base, work, name, self._same_question(work, contexts), len(contexts)))
                        estimates[id(mine[-1])] = parts[work] if mine[-1].ratio is None else None
                    if len(works) > 1:
                        mine.append(Effect(factor, level, base, None, name, None, sum(map(len, per_work.values()))))
                        estimates[id(mine[-1])] = None if None in parts.values() else gvm.average(list(parts.values()))
                order = {work: index for index, work in enumerate(self.run.works)}
                found += sorted(mine, key=lambda effect: order.get(effect.work, len(order)))
        self._answer(found, estimates)
        for item in found:
            index = self.run.factors.names.index(item.factor)
            item.verdict = stats.verdict(item.ratio, "higher", "speed", self.rope_pct)
            item.failed, item.planned = self._failed(item, [one for one in self.run.treatments if one[index] in (item.level, item.base)])
            if item.failed:
                item.verdict = stats.unreliable(item.failed, item.planned)
        return found

    def _same_question(self, work: str, contexts: list[dict[Treatment, float]]) -> Ratio | None:
        """The answer of the comparison with the baseline, where a single context asks for just that."""
        if len(contexts) == 1:
            treatment, partner = contexts[0]
            if partner == self.baseline(work):
                return next((item.ratio for item in self.comparisons if (item.work, item.treatment) == (work, treatment)), None)
        return None

    def _answer(self, items, estimates: dict[int, gvm.Estimate | None]) -> None:
        """Gives each item without an answer its own: one family for the work items, one for the means of each class."""
        families: dict[str | None, list] = {}
        for item in items:
            if item.ratio is None:
                families.setdefault(None if item.work else item.metric_class, []).append(item)
        for family in families.values():
            for item, contrast in zip(family, gvm.simultaneous([estimates[id(item)] for item in family], self.alpha)):
                item.ratio = stats.from_contrast(contrast, SIDAK)

    def _failed(self, item, treatments) -> tuple[int, int]:
        works = [item.work] if item.work else self.classes[item.metric_class]
        parts = [self.failed(work, treatments) for work in works]
        return sum(failed for failed, _ in parts), sum(planned for _, planned in parts)

    def varies(self, work: str, factor: str) -> bool:
        """Does the factor say anything to this work item? A parameter says nothing to the workloads that do not have it."""
        index = self.run.factors.names.index(factor)
        return any(treatment[index] is not None for treatment in self.run.factors.planned[work])

    # ---- pairs of factors ----

    def _interaction_contexts(self, pair: tuple[str, str], levels: tuple[str, str], work: str) -> list[dict[Treatment, float]]:
        factors = self.run.factors
        to_base = [{factor: factors.levels[factor][0]} for factor in pair]
        found = []
        for both in factors.planned[work]:
            if tuple(both[factors.names.index(factor)] for factor in pair) != levels:
                continue
            other, one, neither = (factors.partner(work, both, change) for change in (*to_base, {**to_base[0], **to_base[1]}))
            if None not in (other, one, neither):
                found.append({both: 1.0, neither: 1.0, one: -1.0, other: -1.0})
        return self._with_values(work, found)

    @functools.cached_property
    def interactions(self) -> list[Interaction]:
        found: list[Interaction] = []
        estimates: dict[int, gvm.Estimate | None] = {}
        names = self.run.factors.names
        for pair in itertools.combinations(names, 2):
            for levels in itertools.product(*(self.run.levels[factor][1:] for factor in pair)):
                mine = []
                for name, works in self.classes.items():
                    works = [work for work in works if all(self.varies(work, factor) for factor in pair)]
                    per_work = {work: self._interaction_contexts(pair, levels, work) for work in works}
                    parts = {work: self._estimate(work, contexts) for work, contexts in per_work.items()}
                    for work, contexts in per_work.items():
                        mine.append(Interaction(pair, levels, work, name, None, len(contexts)))
                        estimates[id(mine[-1])] = parts[work]
                    if len(works) > 1:
                        mine.append(Interaction(pair, levels, None, name, None, sum(map(len, per_work.values()))))
                        estimates[id(mine[-1])] = None if None in parts.values() else gvm.average(list(parts.values()))
                order = {work: index for index, work in enumerate(self.run.works)}
                found += sorted(mine, key=lambda item: order.get(item.work, len(order)))
        self._answer(found, estimates)
        for item in found:
            i, j = (names.index(factor) for factor in item.factors)
            bases = [self.run.levels[factor][0] for factor in item.factors]
            item.failed, item.planned = self._failed(item, [one for one in self.run.treatments if one[i] in (item.levels[0], bases[0]) and one[j] in (item.levels[1], bases[1])])
            item.significant = item.ratio is not None and item.ratio.low is not None and not item.ratio.low <= 1 <= item.ratio.high and not item.failed
        return found

    # ---- analysis of variance ----

    def _anova(self, cells: list[Cell]) -> factorial.Anova:
        cells = [cell for cell in cells if cell.ok]
        # Where a factor says nothing it changes nothing: its baseline level stands for that.
        treatments = [tuple(base if level is None else level for level, base in zip(cell.treatment, self.run.baseline)) for cell in cells]
        return factorial.anova([cell.value ** self.sign(cell.work) for cell in cells], [cell.block for cell in cells],
                               [cell.work for cell in cells], treatments, self.run.factors.names)

    @functools.cached_property
    def anova(self) -> factorial.Anova:
        return self._anova(self.run.cells)

    @functools.cached_property
    def anova_by_work(self) -> dict[str, factorial.Anova]:
        return {work: self._anova(self.run.of(work)) for work in self.run.works}

    # ---- drift ----

    @functools.cached_property
    def residuals(self) -> list[tuple[Cell, float]]:
        """Each ok invocation with its log deviation from the mean of its own cell, oriented as speed."""
        found = []
        for work in self.run.works:
            for treatment in self.run.treatments:
                cells = [cell for cell in self.cells(work, treatment) if cell.ok]
                if len(cells) < 2:
                    continue
                logs = [self.sign(work) * math.log(cell.value) for cell in cells]
                mean = sum(logs) / len(logs)
                found += [(cell, log - mean) for cell, log in zip(cells, logs)]
        return sorted(found, key=lambda item: item[0].seq)

    @functools.cached_property
    def drift(self) -> Drift | None:
        """None where there are too few invocations for a trend, or no spread at all."""
        x = np.array([cell.seq for cell, _ in self.residuals], dtype=float)
        y = np.array([value for _, value in self.residuals])
        if x.size < 8 or np.ptp(x) == 0 or np.ptp(y) == 0:
            return None
        x = (x - x.mean()) / np.ptp(x)
        slope = float(x @ y / (x @ x))
        half = stats.t_quantile(x.size - 2, self.alpha) * math.sqrt(float(((y - slope * x)**2).sum()) / (x.size - 2) / float(x @ x))
        return Drift(*(math.exp(max(-700.0, min(700.0, value))) for value in (slope, slope - half, slope + half)))

    @property
    def under_load(self) -> bool:
        """What a red machine measures holds under its load and nowhere else."""
        return (self.run.manifest.get("machine") or {}).get("verdict") == "red"

    @property
    def drifted(self) -> bool:
        """Too far for a ranking and for absolute values."""
        return self.drift is not None and self.drift.size > DRIFT_TO_STOP


def _analysis_options(run: Run) -> tuple[float, float]:
    """alpha and rope_pct of the experiment file, when it sets them."""
    path = os.path.join(run.path, "experiment.toml")
    if not os.path.exists(path):
        return stats.ALPHA, stats.ROPE_PCT
    try:
        with open(path, "rb") as file:
            options = tomllib.load(file).get("analysis", {})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise load.BadInput(f"{path}: {error}") from None
    alpha, rope_pct = options.get("alpha", stats.ALPHA), options.get("rope_pct", stats.ROPE_PCT)
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not 0 < alpha < 1:
        raise load.BadInput(f"{path}: analysis.alpha must be between 0 and 1, is {alpha!r}")
    if isinstance(rope_pct, bool) or not isinstance(rope_pct, (int, float)) or not 0 <= rope_pct < 100:
        raise load.BadInput(f"{path}: analysis.rope_pct must be between 0 and 100, is {rope_pct!r}")
    return float(alpha), float(rope_pct)
