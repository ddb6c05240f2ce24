"""Every comparison the outputs share, computed once from a Run, so that table, plots, words and report cannot disagree.

Direction. Headline metrics point different ways (round trips per second, nanoseconds at p99). Wherever workloads stand
beside each other, ratios are *speed ratios*: above 1 means better than the baseline, whatever the metric. `Comparison.ratio`
and everything in `Effect` and `Interaction` are speed ratios.

Treatments. What is compared are the run's factors (gears, procs, parameters, options) at their levels; a treatment is a level
of each (treatments.py). A block may hold the baseline several times: each is an invocation of its own in a mean or a median,
and a ratio within the block takes their geometric mean.

Matching. A factor's effect compares cells that differ in that factor alone and ran in the same block. A cell that failed takes
its partner out of the ratio; how many pairs are left is part of every result.

Failures. Where any invocation on either side of a comparison failed, its verdict is "unreliable: k of n failed": the ratio of
those that survived is shown and decides nothing. A gear that the kernel refuses (`unsupported`) never ran: it has no value and
no verdict, and spoils nobody else's.

Families for Holm's correction: the combinations of one workload; all effects of factors in the run; all interactions of the run.
The geometric means over workloads are families of their own, since they ask one question each.
"""
from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import os
import tomllib

from . import factorial, load, stats
from .load import Cell, Run
from .stats import Centre, Ratio
from .treatments import Treatment


@dataclasses.dataclass
class Comparison:
    """One combination on one workload against the baseline combination."""
    work: str
    treatment: Treatment
    metric: str
    ok: int
    failed: int
    unsupported: int
    not_run: int
    failures: dict[str, int]  # status -> how often; unsupported included
    centre: Centre | None  # in the metric's own unit
    ratio: Ratio | None  # speed ratio to the baseline; for a size (peak_rss) the plain ratio
    p_holm: float | None
    verdict: str
    median_ratio: float | None  # in the metric's own direction, as are the two below
    median_ratio_low: float | None
    median_ratio_high: float | None
    mann_whitney_p: float | None
    cliffs_delta: float | None


@dataclasses.dataclass
class Effect:
    """What exchanging one level of a factor does, all else matched. work is None for the geometric mean over workloads."""
    factor: str
    level: str
    base: str
    work: str | None
    ratio: Ratio | None
    contexts: int
    p_holm: float | None
    verdict: str
    failed: int = 0  # of the invocations with either level
    planned: int = 0


@dataclasses.dataclass
class Interaction:
    """Speed with both levels over what the two separate effects predict by multiplication; 1 means they compose."""
    factors: tuple[str, str]
    levels: tuple[str, str]
    work: str | None
    ratio: Ratio | None
    contexts: int
    p_holm: float | None
    significant: bool  # never where an invocation of one of the four corners failed
    failed: int = 0
    planned: int = 0


class Study:
    def __init__(self, run: Run):
        self.run = run
        self.alpha, self.rope_pct = _analysis_options(run)
        self._samples: dict[tuple, list[tuple[int, float]]] = {}
        self._values: dict[tuple, dict[int, float]] = {}
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

    # ---- combinations against the baseline ----

    def compare(self, metric: str | None = None, kind: str = "speed") -> list[Comparison]:
        """All combinations on all workloads, by the headline or by a size for which lower is better (peak_rss)."""
        found: list[Comparison] = []
        for work in self.run.works:
            found += self._family(work, metric, self.run.metrics[work].better if metric is None else "lower", kind)
        return found

    def _family(self, work: str, metric: str | None, better: str, kind: str) -> list[Comparison]:
        baseline = self.baseline(work)
        return self._judged(work, [self._compare_one(work, treatment, baseline, metric, better, kind) for treatment in self.run.factors.planned[work]], baseline, kind)

    def pair(self, work: str, a: Treatment, b: Treatment) -> Comparison:
        """Two treatments of one work item: B against A, as if A were the baseline. One comparison is a family of its own."""
        item = self._compare_one(work, b, a, None, self.run.metrics[work].better, "speed")
        return self._judged(work, [item], a, "speed", "A")[0]

    def _judged(self, work: str, family: list[Comparison], baseline: Treatment, kind: str,
                whose: str = "the baseline") -> list[Comparison]:
        better = "higher" if kind == "speed" else "lower"
        tests = [item for item in family if item.treatment != baseline and item.ratio is not None]
        base_failed, base_planned = self.failed(work, [baseline])
        for item, adjusted in zip(tests, stats.holm([item.ratio.p for item in tests])):
            item.p_holm = adjusted
            item.verdict = stats.verdict(item.ratio, better, adjusted, kind, self.rope_pct, self.alpha)
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
                for item in self._family(work, "throughput", self.run.seconds[work].better, "speed")]

    def _compare_one(self, work: str, treatment: Treatment, baseline: Treatment, metric: str | None, better: str, kind: str) -> Comparison:
        own, base = self.values(work, treatment, metric), self.values(work, baseline, metric)
        failures: dict[str, int] = {}
        cells = self.cells(work, treatment)
        for cell in cells:
            if not cell.ok:
                status = cell.status if cell.status != "ok" else "no value"
                failures[status] = failures.get(status, 0) + 1
        common = sorted(set(own) & set(base))
        a, b = ([value for _, value in self.samples(work, one, metric)] for one in (treatment, baseline))
        if treatment == baseline or not a or not b:
            ratio = None
        elif len(common) >= 2 or min(len(own), len(base)) < 2:
            ratio = stats.paired_ratio([own[block] for block in common], [base[block] for block in common], self.alpha)
        else:
            ratio = stats.welch_ratio(a, b, self.alpha)
        if ratio is not None and kind == "speed" and better == "lower":
            ratio = ratio.inverted()
        median_ratio, low, high = stats.bootstrap_median_ratio(a, b, self.alpha) if treatment != baseline else (None, None, None)
        verdict = "baseline" if treatment == baseline else "inconclusive"
        refused = failures.get("unsupported", 0)
        if not a:
            verdict = "not run" if not failures else "unsupported" if refused == sum(failures.values()) else "failed"
        return Comparison(
            work=work, treatment=treatment, metric=metric or self.run.metrics[work].name, ok=len(a),
            failed=sum(failures.values()) - refused, unsupported=refused,
            not_run=self.planned(work, treatment) - len(cells), failures=failures, centre=stats.centre(a, self.alpha), ratio=ratio,
            p_holm=None, verdict=verdict, median_ratio=median_ratio, median_ratio_low=low, median_ratio_high=high,
            mann_whitney_p=stats.mann_whitney(a, b, self.alpha) if treatment != baseline else None,
            cliffs_delta=stats.cliffs_delta(a, b) if treatment != baseline else None)

    @functools.cached_property
    def comparisons(self) -> list[Comparison]:
        return self.compare()

    @functools.cached_property
    def overall(self) -> dict[Treatment, Ratio | None]:
        """Per treatment the geometric mean over workloads of the matched speed ratio to the baseline.

        A factor that says nothing to some workload is at its baseline here, since only so can a treatment be asked of all.
        """
        found = {}
        for treatment in self.run.factors.shared:
            strata = []
            for work in self.run.works:
                own, base = self.shared_values(work, treatment), self.values(work, self.baseline(work))
                strata.append([self.sign(work) * math.log(own[block] / base[block]) for block in sorted(set(own) & set(base))])
            found[treatment] = stats.stratified_ratio(strata, self.alpha) if not self.run.factors.is_baseline(treatment) else None
        return found

    def shared_values(self, work: str, treatment: Treatment) -> dict[int, float]:
        own = self.run.factors.projected(work, treatment)
        return {} if own is None else self.values(work, own)

    def shared_failed(self, treatment: Treatment) -> tuple[int, int]:
        """failed(), of one of `overall`'s treatments over all workloads."""
        parts = [self.failed(work, [own]) for work in self.run.works if (own := self.run.factors.projected(work, treatment)) is not None]
        return sum(failed for failed, _ in parts), sum(planned for _, planned in parts)

    # ---- factors ----

    def _strata(self, factor: str, level: str, work: str) -> list[list[float]]:
        """Log speed ratios level over base, one list per context (setting of the other factors)."""
        factors = self.run.factors
        index = factors.names.index(factor)
        base = factors.levels[factor][0]
        strata = []
        for treatment in factors.planned[work]:
            partner = factors.partner(work, treatment, {factor: base}) if treatment[index] == level else None
            if partner is None:
                continue
            own, other = self.values(work, treatment), self.values(work, partner)
            strata.append([self.sign(work) * math.log(own[block] / other[block]) for block in sorted(set(own) & set(other))])
        return [stratum for stratum in strata if stratum]

    @functools.cached_property
    def effects(self) -> list[Effect]:
        found: list[Effect] = []
        for factor, (base, *others) in self.run.levels.items():
            for level in others:
                per_work = [self._strata(factor, level, work) for work in self.run.works]
                for work, strata in zip(self.run.works, per_work):
                    if self.varies(work, factor):
                        found.append(Effect(factor, level, base, work, stats.stratified_ratio(strata, self.alpha), len(strata), None, "inconclusive"))
                found.append(Effect(factor, level, base, None, self._over_works(per_work), sum(map(len, per_work)), None, "inconclusive"))
        for family in ([item for item in found if item.work], [item for item in found if not item.work]):
            for item, adjusted in zip(family, stats.holm([item.ratio.p if item.ratio else None for item in family])):
                item.p_holm = adjusted
                item.verdict = stats.verdict(item.ratio, "higher", adjusted, "speed", self.rope_pct, self.alpha)
                index = self.run.factors.names.index(item.factor)
                item.failed, item.planned = self.failed(item.work, [one for one in self.run.treatments if one[index] in (item.level, item.base)])
                if item.failed:
                    item.verdict = stats.unreliable(item.failed, item.planned)
        return found

    def varies(self, work: str, factor: str) -> bool:
        """Does the factor say anything to this work item? A parameter says nothing to the workloads that do not have it."""
        index = self.run.factors.names.index(factor)
        return any(treatment[index] is not None for treatment in self.run.factors.planned[work])

    def _over_works(self, per_work: list[list[list[float]]]) -> Ratio | None:
        """Each workload weighs the same. Where every work has the same contexts, a flat list of strata is exactly that."""
        flat = [stratum for strata in per_work for stratum in strata]
        if len({len(strata) for strata in per_work if strata}) <= 1:
            return stats.stratified_ratio(flat, self.alpha)
        # Failures left different contexts per workload: one stratum per work keeps the weights equal.
        return stats.stratified_ratio([[value for stratum in strata for value in stratum] for strata in per_work], self.alpha)

    # ---- pairs of factors ----

    def _interaction_strata(self, pair: tuple[str, str], levels: tuple[str, str], work: str) -> list[list[float]]:
        factors = self.run.factors
        to_base = [{factor: factors.levels[factor][0]} for factor in pair]
        strata = []
        for treatment in factors.planned[work]:
            if tuple(treatment[factors.names.index(factor)] for factor in pair) != levels:
                continue
            corners = [treatment, *(factors.partner(work, treatment, change) for change in (*to_base, {**to_base[0], **to_base[1]}))]
            if None in corners:
                continue
            both, other, one, neither = (self.values(work, corner) for corner in corners)
            strata.append([self.sign(work) * math.log(both[block] * neither[block] / one[block] / other[block])
                           for block in sorted(set(both) & set(one) & set(other) & set(neither))])
        return [stratum for stratum in strata if stratum]

    @functools.cached_property
    def interactions(self) -> list[Interaction]:
        found: list[Interaction] = []
        names = self.run.factors.names
        for pair in itertools.combinations(names, 2):
            works = [work for work in self.run.works if all(self.varies(work, factor) for factor in pair)]
            for levels in itertools.product(*(self.run.levels[factor][1:] for factor in pair)):
                per_work = [self._interaction_strata(pair, levels, work) for work in works]
                for work, strata in list(zip(works, per_work)) + [(None, None)]:
                    ratio = self._over_works(per_work) if work is None else stats.stratified_ratio(strata, self.alpha)
                    contexts = sum(map(len, per_work)) if work is None else len(strata)
                    found.append(Interaction(pair, levels, work, ratio, contexts, None, False))
        for family in ([item for item in found if item.work], [item for item in found if not item.work]):
            for item, adjusted in zip(family, stats.holm([item.ratio.p if item.ratio else None for item in family])):
                item.p_holm = adjusted
                i, j = (names.index(factor) for factor in item.factors)
                bases = [self.run.levels[factor][0] for factor in item.factors]
                corners = [one for one in self.run.treatments if one[i] in (item.levels[0], bases[0]) and one[j] in (item.levels[1], bases[1])]
                item.failed, item.planned = self.failed(item.work, corners)
                item.significant = adjusted is not None and adjusted < self.alpha and not item.failed
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
