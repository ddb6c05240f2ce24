"""Every comparison the outputs share, computed once from a Run, so that table, plots, words and report cannot disagree.

Direction. Headline metrics point different ways (round trips per second, nanoseconds at p99). Wherever workloads stand
beside each other, ratios are *speed ratios*: above 1 means better than the baseline, whatever the metric. `Comparison.ratio`
and everything in `GearEffect` and `Interaction` are speed ratios.

Matching. A gear's effect compares cells that differ in that gear alone and ran in the same block. A cell that failed takes
its partner out of the ratio; how many pairs are left is part of every result.

Failures. Where any invocation on either side of a comparison failed, its verdict is "unreliable: k of n failed": the ratio of
those that survived is shown and decides nothing. A gear that the kernel refuses (`unsupported`) never ran: it has no value and
no verdict, and spoils nobody else's.

Families for Holm's correction: the combinations of one workload; all gear effects of the run; all interactions of the run.
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
from .load import GEARS, Cell, Run
from .stats import Centre, Ratio


@dataclasses.dataclass
class Comparison:
    """One combination on one workload against the baseline combination."""
    work: str
    combo: tuple[str, ...]
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
class GearEffect:
    """What exchanging one gear does, all else matched. work is None for the geometric mean over workloads."""
    gear: str
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
    gears: tuple[str, str]
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
        self._values: dict[tuple, dict[int, float]] = {}
        self._cells: dict[tuple[str, tuple[str, ...]], list[Cell]] = {}
        for cell in run.cells:
            self._cells.setdefault((cell.work, cell.combo), []).append(cell)

    # ---- access ----

    def cells(self, work: str, combo: tuple[str, ...]) -> list[Cell]:
        return self._cells.get((work, combo), [])

    def values(self, work: str, combo: tuple[str, ...], metric: str | None = None) -> dict[int, float]:
        """block -> value of the headline (or a named) metric, over cells that ended well. Callers must not change it."""
        key = (work, combo, metric)
        if key in self._values:  # interactions ask for every cell hundreds of times
            return self._values[key]
        found = self._values[key] = {}
        for cell in self.cells(work, combo):
            value = cell.value if metric is None else load.metric_value(cell.record, metric)
            if value is not None and value > 0:
                found[cell.block] = float(value)
        return found

    def sign(self, work: str) -> int:
        return 1 if self.run.metrics[work].better == "higher" else -1

    def planned(self, work: str, combo: tuple[str, ...]) -> int:
        return self._planned.get((work, combo), 0)

    @functools.cached_property
    def _planned(self) -> dict[tuple[str, tuple[str, ...]], int]:
        counts: dict[tuple[str, tuple[str, ...]], int] = {}
        for line in self.run.plan:
            key = (self.run.work_of[line["seq"]], tuple(line["combo"][gear] for gear in GEARS))
            counts[key] = counts.get(key, 0) + 1
        return counts

    def base_level(self, gear: str) -> str:
        """The baseline's level, or the first one when the run does not contain it."""
        return self.run.levels[gear][0]

    # ---- combinations against the baseline ----

    def compare(self, metric: str | None = None, kind: str = "speed") -> list[Comparison]:
        """All combinations on all workloads, by the headline or by a size for which lower is better (peak_rss)."""
        found: list[Comparison] = []
        for work in self.run.works:
            found += self._family(work, metric, self.run.metrics[work].better if metric is None else "lower", kind)
        return found

    def _family(self, work: str, metric: str | None, better: str, kind: str) -> list[Comparison]:
        family = [self._compare_one(work, combo, metric, better, kind) for combo in self.run.combos if self.planned(work, combo)]
        tests = [item for item in family if item.combo != self.run.baseline and item.ratio is not None]
        base_failed, base_planned = self.failed(work, [self.run.baseline])
        for item, adjusted in zip(tests, stats.holm([item.ratio.p for item in tests])):
            item.p_holm = adjusted
            item.verdict = stats.verdict(item.ratio, "higher" if kind == "speed" else "lower", adjusted, kind, self.rope_pct, self.alpha)
            if item.failed:
                item.verdict = stats.unreliable(*self.failed(work, [item.combo]))
            elif base_failed:
                item.verdict = stats.unreliable(base_failed, base_planned, "the baseline")
        return family

    def failed(self, work: str | None, combos) -> tuple[int, int]:
        """(failed, planned) invocations of these combinations on one workload, or on all of them. Refused gears are neither."""
        failed = planned = 0
        for one in self.run.works if work is None else [work]:
            for combo in combos:
                cells = self.cells(one, combo)
                failed += sum(cell.failed for cell in cells)
                planned += self.planned(one, combo) - sum(cell.status == "unsupported" for cell in cells)
        return failed, planned

    @functools.cached_property
    def second_comparisons(self) -> list[Comparison]:
        """Throughput, where it is not the headline: what a better latency was paid with. Families of their own."""
        return [item for work in self.run.works if work in self.run.seconds
                for item in self._family(work, "throughput", self.run.seconds[work].better, "speed")]

    def _compare_one(self, work: str, combo: tuple[str, ...], metric: str | None, better: str, kind: str) -> Comparison:
        own, base = self.values(work, combo, metric), self.values(work, self.run.baseline, metric)
        failures: dict[str, int] = {}
        cells = self.cells(work, combo)
        for cell in cells:
            if not cell.ok:
                status = cell.status if cell.status != "ok" else "no value"
                failures[status] = failures.get(status, 0) + 1
        common = sorted(set(own) & set(base))
        a, b = list(own.values()), list(base.values())
        if combo == self.run.baseline or not a or not b:
            ratio = None
        elif len(common) >= 2 or min(len(a), len(b)) < 2:
            ratio = stats.paired_ratio([own[block] for block in common], [base[block] for block in common], self.alpha)
        else:
            ratio = stats.welch_ratio(a, b, self.alpha)
        if ratio is not None and kind == "speed" and better == "lower":
            ratio = ratio.inverted()
        median_ratio, low, high = stats.bootstrap_median_ratio(a, b, self.alpha) if combo != self.run.baseline else (None, None, None)
        verdict = "baseline" if combo == self.run.baseline else "inconclusive"
        refused = failures.get("unsupported", 0)
        if not a:
            verdict = "not run" if not failures else "unsupported" if refused == sum(failures.values()) else "failed"
        return Comparison(
            work=work, combo=combo, metric=metric or self.run.metrics[work].name, ok=len(a),
            failed=sum(failures.values()) - refused, unsupported=refused,
            not_run=self.planned(work, combo) - len(cells), failures=failures, centre=stats.centre(a, self.alpha), ratio=ratio,
            p_holm=None, verdict=verdict, median_ratio=median_ratio, median_ratio_low=low, median_ratio_high=high,
            mann_whitney_p=stats.mann_whitney(a, b, self.alpha) if combo != self.run.baseline else None,
            cliffs_delta=stats.cliffs_delta(a, b) if combo != self.run.baseline else None)

    @functools.cached_property
    def comparisons(self) -> list[Comparison]:
        return self.compare()

    @functools.cached_property
    def overall(self) -> dict[tuple[str, ...], Ratio | None]:
        """Per combination the geometric mean over workloads of the matched speed ratio to the baseline."""
        found = {}
        for combo in self.run.combos:
            strata = []
            for work in self.run.works:
                own, base = self.values(work, combo), self.values(work, self.run.baseline)
                strata.append([self.sign(work) * math.log(own[block] / base[block]) for block in sorted(set(own) & set(base))])
            found[combo] = stats.stratified_ratio(strata, self.alpha) if combo != self.run.baseline else None
        return found

    # ---- gears ----

    def _gear_strata(self, gear: str, level: str, work: str) -> list[list[float]]:
        """Log speed ratios level over base, one list per context (setting of the other three gears)."""
        index = GEARS.index(gear)
        base = self.base_level(gear)
        strata = []
        for combo in self.run.combos:
            if combo[index] != level:
                continue
            partner = combo[:index] + (base,) + combo[index + 1:]
            own, other = self.values(work, combo), self.values(work, partner)
            strata.append([self.sign(work) * math.log(own[block] / other[block]) for block in sorted(set(own) & set(other))])
        return [stratum for stratum in strata if stratum]

    @functools.cached_property
    def gear_effects(self) -> list[GearEffect]:
        found: list[GearEffect] = []
        for gear in GEARS:
            for level in self.run.levels[gear][1:]:
                everything: list[list[float]] = []
                whole: list[GearEffect] = []
                for work in self.run.works:
                    strata = self._gear_strata(gear, level, work)
                    ratio = stats.stratified_ratio(strata, self.alpha)
                    whole.append(GearEffect(gear, level, self.base_level(gear), work, ratio, len(strata), None, "inconclusive"))
                    everything += strata
                ratio = self._over_works([self._gear_strata(gear, level, work) for work in self.run.works])
                whole.append(GearEffect(gear, level, self.base_level(gear), None, ratio, len(everything), None, "inconclusive"))
                found += whole
        for family in ([item for item in found if item.work], [item for item in found if not item.work]):
            for item, adjusted in zip(family, stats.holm([item.ratio.p if item.ratio else None for item in family])):
                item.p_holm = adjusted
                item.verdict = stats.verdict(item.ratio, "higher", adjusted, "speed", self.rope_pct, self.alpha)
                index = GEARS.index(item.gear)
                item.failed, item.planned = self.failed(item.work, [combo for combo in self.run.combos if combo[index] in (item.level, item.base)])
                if item.failed:
                    item.verdict = stats.unreliable(item.failed, item.planned)
        return found

    def _over_works(self, per_work: list[list[list[float]]]) -> Ratio | None:
        """Each workload weighs the same. Where every work has the same contexts, a flat list of strata is exactly that."""
        flat = [stratum for strata in per_work for stratum in strata]
        if len({len(strata) for strata in per_work if strata}) <= 1:
            return stats.stratified_ratio(flat, self.alpha)
        # Failures left different contexts per workload: one stratum per work keeps the weights equal.
        return stats.stratified_ratio([[value for stratum in strata for value in stratum] for strata in per_work], self.alpha)

    # ---- pairs of gears ----

    def _interaction_strata(self, pair: tuple[int, int], levels: tuple[str, str], work: str) -> list[list[float]]:
        i, j = pair
        base = self.base_level(GEARS[i]), self.base_level(GEARS[j])
        strata = []
        for combo in self.run.combos:
            if (combo[i], combo[j]) != levels:
                continue
            corners = []
            for first, second in ((levels[0], levels[1]), (levels[0], base[1]), (base[0], levels[1]), base):
                corner = list(combo)
                corner[i], corner[j] = first, second
                corners.append(self.values(work, tuple(corner)))
            both, one, other, neither = corners
            strata.append([self.sign(work) * math.log(both[block] * neither[block] / one[block] / other[block])
                           for block in sorted(set(both) & set(one) & set(other) & set(neither))])
        return [stratum for stratum in strata if stratum]

    @functools.cached_property
    def interactions(self) -> list[Interaction]:
        found: list[Interaction] = []
        for i, j in itertools.combinations(range(len(GEARS)), 2):
            for first, second in itertools.product(self.run.levels[GEARS[i]][1:], self.run.levels[GEARS[j]][1:]):
                per_work = [self._interaction_strata((i, j), (first, second), work) for work in self.run.works]
                for work, strata in list(zip(self.run.works, per_work)) + [(None, None)]:
                    ratio = self._over_works(per_work) if work is None else stats.stratified_ratio(strata, self.alpha)
                    contexts = sum(map(len, per_work)) if work is None else len(strata)
                    found.append(Interaction((GEARS[i], GEARS[j]), (first, second), work, ratio, contexts, None, False))
        for family in ([item for item in found if item.work], [item for item in found if not item.work]):
            for item, adjusted in zip(family, stats.holm([item.ratio.p if item.ratio else None for item in family])):
                item.p_holm = adjusted
                i, j = (GEARS.index(gear) for gear in item.gears)
                corners = [combo for combo in self.run.combos if combo[i] in (item.levels[0], self.base_level(GEARS[i]))
                           and combo[j] in (item.levels[1], self.base_level(GEARS[j]))]
                item.failed, item.planned = self.failed(item.work, corners)
                item.significant = adjusted is not None and adjusted < self.alpha and not item.failed
        return found

    # ---- analysis of variance ----

    def _anova(self, cells: list[Cell]) -> factorial.Anova:
        cells = [cell for cell in cells if cell.ok]
        return factorial.anova([cell.value ** self.sign(cell.work) for cell in cells], [cell.block for cell in cells],
                               [cell.work for cell in cells], [cell.combo for cell in cells])

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
            for combo in self.run.combos:
                cells = [cell for cell in self.cells(work, combo) if cell.ok]
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
