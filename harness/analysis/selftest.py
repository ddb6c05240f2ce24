"""The instrument judged by itself: families whose truth is known go through the procedure of gvm.py, and its errors are counted.

Everything is seeded, so a row gives the same number on every machine and its limit is no wager. A row simulates runs of eight workloads with sixteen
combinations and the baseline three times in each block, the shape of quickstart. Noise is what was seen on real machines: spreads that differ between
combinations, a noisy baseline, drift, neighbours in time that resemble each other, heavy tails, slow outliers, hidden modes.

Known limit. Where half of the combinations have a hidden slow mode, up to 14 % of the families hold a false call, whatever the method: if 30 % of the
processes fall into a mode, 0.7^n of the samples never show it. The row is here so that the limit is a number. Its modes are a factor of 2 apart; at 3.7, the
largest that was seen (sieve), the error reaches 30 %, and only a longer measured window helps.

Does the test see? One row plants the bug that this procedure replaces, one pooled variance for all combinations, and must find it.

    python -m analysis selftest            prints the table: check, measured, accept, ok
"""
from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from typing import Callable

import numpy as np

from . import dunnett, gvm, power

SEED = 20261123
WORKS, TREATMENTS, BASELINE_RUNS = 8, 16, 3
RUNS = 800  # of WORKS families each: 6400 families leave a standard error of 0.27 % at 5 %
FEW_RUNS = 200  # where many families need their own distribution
ALPHA = 0.05
SD = 0.15


@dataclasses.dataclass(frozen=True)
class Row:
    check: str
    measured: float  # per cent
    accept: str
    ok: bool


@dataclasses.dataclass(frozen=True)
class Design:
    blocks: int
    baseline_runs: int = BASELINE_RUNS
    treatments: int = TREATMENTS

    @functools.cached_property
    def block(self) -> np.ndarray:
        return np.repeat(np.arange(self.blocks), self.baseline_runs + self.treatments - 1)

    @functools.cached_property
    def treatment(self) -> np.ndarray:
        return np.tile([0] * self.baseline_runs + list(range(1, self.treatments)), self.blocks)

    @functools.cached_property
    def layout(self) -> gvm.Layout:
        return gvm.Layout(self.block.tolist(), self.treatment.tolist(), 0)

    def order(self, rng: np.random.Generator, families: int) -> np.ndarray:
        """The place of each value in the execution order, shuffled within its block, as a share of the run."""
        cells = self.treatment.size // self.blocks
        within = np.argsort(rng.random((families, self.blocks, cells)), axis=-1).reshape(families, -1)
        return (self.block * cells + within) / self.treatment.size


# A noise gives log values, families x cells, whose mean is 0 for each treatment.
Noise = Callable[[np.random.Generator, Design, int], np.ndarray]


def equal(rng, design, families):
    return SD * rng.standard_normal((families, design.treatment.size))


def drift(rng, design, families):
    return equal(rng, design, families) + math.log(1.4) * design.order(rng, families)


def neighbours(rng, design, families):
    """AR(1) in execution order with correlation 0.5."""
    shocks = rng.standard_normal((families, design.treatment.size))
    series = np.empty_like(shocks)
    series[:, 0] = shocks[:, 0]
    for i in range(1, series.shape[1]):
        series[:, i] = 0.5 * series[:, i - 1] + math.sqrt(0.75) * shocks[:, i]
    place = np.argsort(np.argsort(design.order(rng, families), axis=-1), axis=-1)
    return SD * np.take_along_axis(series, place, axis=-1)


def heavy_tails(rng, design, families):
    return SD / math.sqrt(3) * rng.standard_t(3, (families, design.treatment.size))


def slow_outliers(rng, design, families):
    outlier = rng.random((families, design.treatment.size)) < 0.05
    return equal(rng, design, families) - outlier * math.log(2) + 0.05 * math.log(2)


def spread_of(factor: Callable[[np.random.Generator, int, int], np.ndarray]) -> Noise:
    """Normal noise whose sd is multiplied by a factor for each family and treatment."""
    return lambda rng, design, families: equal(rng, design, families) * factor(rng, families, design.treatments)[:, design.treatment]


def times4(which) -> Noise:
    return spread_of(lambda rng, families, k: np.broadcast_to(np.where(np.isin(np.arange(k), which), 4.0, 1.0), (families, k)))


def half_bimodal(rng, design, families):
    """Every other combination has a slow mode, half as fast, that 30 % of the processes fall into."""
    slow = (rng.random((families, design.treatment.size)) < 0.3) & (design.treatment % 2 == 1)
    return equal(rng, design, families) - math.log(2) * (slow - 0.3 * (design.treatment % 2 == 1))


unequal = spread_of(lambda rng, families, k: np.exp(0.5 * rng.standard_normal((families, k))))
noisy_baseline, half_noisy, one_noisy = times4([0]), times4(list(range(1, TREATMENTS, 2))), times4([5])


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What the procedure said of many families; the last axis is the treatments but the baseline."""
    found: gvm.Differences
    called: np.ndarray

    @property
    def family_error(self) -> float:
        return 100 * float(self.called.any(axis=-1).mean())


def simulate(noise: Noise, design: Design, seed: int, effects=0.0, runs: int = RUNS, alpha: float = ALPHA) -> Outcome:
    """`effects`: true log ratios of the treatments but the baseline, which are subtracted before anything is judged: a call is a false call."""
    rng = np.random.default_rng([SEED, seed])
    truth = np.concatenate([[0.0], np.broadcast_to(effects, design.treatments - 1)])[design.treatment]
    fits = [design.layout.fit(noise(rng, design, runs) + truth) for _ in range(WORKS)]
    d0 = gvm.moderation(fits)
    parts = [gvm.differences(fit, d0) for fit in fits]
    found = gvm.Differences(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in dataclasses.fields(gvm.Differences)))
    return Outcome(found, _called(found, found.effect, alpha))


def _called(found: gvm.Differences, effect: np.ndarray, alpha: float) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return dunnett.significant(effect / np.sqrt(found.variance), found.df, found.lambdas, alpha)


def pooled(noise: Noise, design: Design, seed: int, runs: int = RUNS) -> float:
    """The planted bug: the same families with one variance for all combinations."""
    rng = np.random.default_rng([SEED, seed])
    fits = [design.layout.fit(noise(rng, design, runs)) for _ in range(WORKS)]
    fits = [dataclasses.replace(fit, variance=np.broadcast_to(fit.residual_sd[..., None]**2, fit.variance.shape)) for fit in fits]
    df, rows = design.layout.df, design.layout.rows()
    squares = design.layout.squares(rows)
    wrong = 0.0
    for fit in fits:
        variance = fit.variance @ squares.T
        t = fit.effect[..., 1:] / np.sqrt(variance)
        lambdas = np.sqrt(squares[:, 0] / squares.sum(axis=1))
        wrong += dunnett.significant(t, df.sum(), lambdas, ALPHA).any(axis=-1).mean()
    return 100 * float(wrong / len(fits))


LEVELS = list(itertools.product((0, 1), repeat=4))  # of four factors with two levels each: sixteen treatments
MAIN = [[(1 if level[factor] else -1) / 8 for level in LEVELS] for factor in range(4)]
PAIRS = [[(1 if level[i] == level[j] else -1) / 4 for level in LEVELS] for i, j in itertools.combinations(range(4), 2)]


def effects_of_factors(design: Design, seed: int, runs: int, contrasts=MAIN) -> float:
    """Family-wise error of the contrasts over eight workloads: one family a run, 32 main effects or 48 interactions."""
    rng = np.random.default_rng([SEED, seed])
    wrong = np.zeros(runs, dtype=bool)
    level = dunnett.sidak_alpha(ALPHA, len(contrasts) * WORKS)
    for _ in range(WORKS):
        fit = design.layout.fit(unequal(rng, design, runs))
        for weights in contrasts:
            variance, df = gvm.satterthwaite(fit.variance * design.layout.squares(design.layout.row(dict(enumerate(weights)))), design.layout.df, float(design.layout.df.sum()))
            wrong |= np.abs(fit.effect @ np.array(weights)) > np.sqrt(variance) * dunnett.t_critical(df, level)
    return 100 * float(wrong.mean())


def means_over_workloads(design: Design, seed: int, runs: int) -> float:
    """Family-wise error of the geometric means of fifteen treatments over eight workloads, one family a run; workloads differ in noise."""
    rng = np.random.default_rng([SEED, seed])
    rows = design.layout.rows()
    effect, variance, weight = 0.0, 0.0, 0.0
    for work in range(WORKS):
        fit = design.layout.fit(unequal(rng, design, runs) * (0.5 + work / 4))
        own, df = gvm.satterthwaite(fit.variance[..., None, :] * design.layout.squares(rows), design.layout.df, float(design.layout.df.sum()))
        effect, variance, weight = effect + fit.effect[..., 1:], variance + own, weight + own**2 / df
    wrong = np.abs(effect) > np.sqrt(variance) * dunnett.t_critical(variance**2 / weight, dunnett.sidak_alpha(ALPHA, len(rows)))
    return 100 * float(wrong.any(axis=-1).mean())


def looks(seed: int, runs: int) -> float:
    """Family-wise error of a run that stops at the first declared look that calls anything."""
    rng = np.random.default_rng([SEED, seed])
    last = Design(power.LOOKS[-1][0])
    values = [equal(rng, last, runs) for _ in range(WORKS)]
    wrong = np.zeros((WORKS, runs), dtype=bool)
    for blocks, alpha in power.LOOKS:
        design = Design(blocks)
        fits = [design.layout.fit(y[:, :design.treatment.size]) for y in values]
        d0 = gvm.moderation(fits)
        for work, fit in enumerate(fits):
            found = gvm.differences(fit, d0)
            wrong[work] |= _called(found, found.effect, alpha).any(axis=-1)
    return 100 * float(wrong.mean())


def budget(seed: int, runs: int) -> float:
    """Family-wise error where the number of blocks follows from the cost of the first one, which is slow where its values are low."""
    rng = np.random.default_rng([SEED, seed])
    most = Design(10)
    values = equal(rng, most, runs * WORKS)
    cost = np.exp(-values[:, most.block == 0]).sum(axis=1)
    chosen = np.clip((6 * np.median(cost) / cost).astype(int), gvm.MIN_BLOCKS, most.blocks)
    wrong = families = 0
    for blocks in np.unique(chosen):
        design = Design(int(blocks))
        fit = design.layout.fit(values[chosen == blocks][:, :design.treatment.size])
        found = gvm.differences(fit, gvm.moderation([fit]))
        wrong += int(_called(found, found.effect, ALPHA).any(axis=-1).sum())
        families += fit.effect.shape[0]
    return 100 * wrong / families


def equivalent(effect: float, seed: int, margin: float = math.log(1.2)) -> float:
    """How often an interval lies inside the margin."""
    design = Design(20)
    found = simulate(equal, design, seed, runs=40).found
    shifted = found.effect + effect
    inside = total = 0
    for family in range(found.effect.shape[0]):
        half = dunnett.Family(found.lambdas[family]).critical(found.df[family], ALPHA) * np.sqrt(found.variance[family])
        inside += int((np.abs(shifted[family]) + half < margin).sum())
        total += half.size
    return 100 * inside / total


def hit_rate(ratio: float, blocks: int, seed: int) -> float:
    """Power: the share of the combinations that are `ratio` apart from the baseline and are called, all combinations being so."""
    return 100 * float(simulate(equal, Design(blocks), seed, effects=math.log(ratio), runs=FEW_RUNS).called.mean())


def rows():
    """The whole table, row by row as it is computed."""
    def row(check: str, measured: float, limit: float, least: bool = False) -> Row:
        return Row(check, round(measured, 2), f"{'>=' if least else '<='} {limit:g} %", measured >= limit if least else measured <= limit)

    seeds = itertools.count(1)
    for name, noise in (("equal normal", equal), ("drift x1.4", drift), ("AR(1)", neighbours), ("t with 3 df", heavy_tails), ("5 % slow outliers", slow_outliers),
                        ("baseline x4", noisy_baseline)):
        for blocks in (3, 6, 10):
            yield row(f"false families, {name}, n = {blocks}", simulate(noise, Design(blocks), next(seeds)).family_error, 6.5)
    for name, noise, limit in (("sds of log-sd 0.5", unequal, 7.5), ("half x4", half_noisy, 8), ("one other x4", one_noisy, 8), ("half bimodal (known limit)", half_bimodal, 14)):
        for blocks in (3, 6, 10):
            yield row(f"false families, {name}, n = {blocks}", simulate(noise, Design(blocks), next(seeds)).family_error, limit)
    effects = np.where(np.arange(TREATMENTS - 1) % 2, math.log(2), 0.0)
    for blocks in (3, 6, 10):
        outcome = simulate(unequal, Design(blocks), next(seeds), effects=effects, runs=FEW_RUNS)
        false = _called(outcome.found, outcome.found.effect - effects, ALPHA)
        yield row(f"all intervals hold the truth, under effects, n = {blocks}", 100 - 100 * float(false.any(axis=-1).mean()), 93.5, least=True)
        yield row(f"false families among true effects, n = {blocks}", 100 * float(outcome.called[:, effects == 0].any(axis=-1).mean()), 6.5)
    for ratio, blocks, limit in ((1.5, 3, 58), (1.5, 6, 95), (1.2, 20, 90), (2.0, 3, 96)):
        yield row(f"power, sd 0.15, x{ratio:g}, n = {blocks}", hit_rate(ratio, blocks, next(seeds)), limit, least=True)
    yield row("planted bug: one pooled variance, baseline x4 once a block", pooled(noisy_baseline, Design(10, 1), next(seeds)), 25, least=True)
    yield row("equivalent within 20 % at 1, n = 20", equivalent(0.0, next(seeds)), 80, least=True)
    yield row("equivalent within 20 % at the margin, n = 20", equivalent(math.log(1.2), next(seeds)), 2.5)
    for blocks in (3, 10):
        yield row(f"false runs, main effects of four factors, n = {blocks}", effects_of_factors(Design(blocks, 3), next(seeds), 2000), 8)
        yield row(f"false runs, interactions of four factors, n = {blocks}", effects_of_factors(Design(blocks, 3), next(seeds), 2000, PAIRS), 8)
        yield row(f"false runs, means over eight workloads, n = {blocks}", means_over_workloads(Design(blocks, 3), next(seeds), 2000), 6.5)
    yield row("false families, blocks fixed by a budget", budget(next(seeds), RUNS), 6.5)
    yield row("false families, three declared looks", looks(next(seeds), RUNS), 6.5)


HEADER = f"{'check':<62} {'measured':>10} {'accept':>11}  ok\n"


def line(row: Row) -> str:
    return f"{row.check:<62} {row.measured:>8.2f} % {row.accept:>11}  {'yes' if row.ok else 'NO'}\n"
