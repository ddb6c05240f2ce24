"""One model per workload with a variance for each treatment. Plain arrays in, small frozen dataclasses out; knows nothing of runs, gears or files.

    log value ~ block + treatment,   Var = sigma^2 of the treatment

A *treatment* is one setting of everything that is compared; one of them is the *reference* (the baseline). Values are one number per process, on the log
scale and oriented, so that more is better. Estimates are those of least squares. Only their variances are not pooled: combinations of gears differ in spread by
a factor of up to four, and one pooled variance then calls false effects in up to a third of the families.

API.
    layout = Layout(blocks, treatments, reference)     which cells there are: one entry per value, any repetition, any holes
    fit = layout.fit(y)                                y: values in the same order; any number of leading axes (simulated families)
    moderation(fits) -> d0                             once a run: how much the variances of its treatments resemble each other
    against_reference(fit, d0, alpha)                  every treatment against the reference, simultaneous (Dunnett): one Contrast each
    against_reference(fit, 0, alpha)                   the Welch type: each treatment with its own variance alone; stands beside the answer
    fit.estimate(weights) -> Estimate                  any contrast of treatments: effects of one factor, interactions
    average(estimates) -> Estimate                     equal-weight mean over independent fits: the geometric mean over workloads
    simultaneous(estimates, alpha)                     a family of such estimates (Sidak): one Contrast each

Variances. Residuals r of least squares; a treatment's d = sum (1 - h) over its cells is what its squared residuals have of degrees of freedom, v = sum r^2 / d.
The treatments other than the reference lend each other degrees of freedom by an empirical Bayes prior (Smyth's), which is estimated over all workloads and
capped at LARGEST_PRIOR. A variance is raised towards its workload's pool and never lowered; the reference keeps its own, since every comparison leans on it
and a borrowed variance there would be wrong in all of them at once. Degrees of freedom of a contrast are Satterthwaite's, at most those of the fit.

What cannot be said. A contrast that the cells do not determine, or that rests on fewer than MIN_BLOCKS blocks, has no interval; with two treatments and complete
blocks the answer is the paired t interval exactly. Zero variance is legal, since exact counters repeat exactly: the interval then is a point.

Rejected, with the family-wise errors that a simulation showed in place of 5 %: pooled variance with Dunnett or Holm (23 % where spreads differ, 35 % where the
reference is the noisy one), permutation of the largest t (31 %). selftest.py holds this file to its own errors.
"""
from __future__ import annotations

import dataclasses
import math
from typing import Hashable, Mapping, Sequence

import numpy as np
from scipy import special

from . import dunnett

LARGEST_PRIOR = 8.0
MIN_GROUPS = 5  # fewer variances than this say nothing about how variances are spread
MIN_BLOCKS = 3
ROUNDING = 1e-12  # of log values: what is smaller is the arithmetic, not the machine


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A contrast on the log scale before any family is known. df None: no interval can be formed."""
    log_ratio: float
    variance: float
    df: float | None
    blocks: int  # that the contrast rests on


@dataclasses.dataclass(frozen=True)
class Contrast:
    """A contrast with its simultaneous interval and its p value adjusted for its family; p < alpha exactly where the interval excludes 0."""
    log_ratio: float
    se: float | None
    df: float | None
    critical: float | None
    low: float | None
    high: float | None
    p: float | None
    blocks: int


@dataclasses.dataclass(frozen=True)
class Fit:
    """Arrays may have leading axes; the last one is the treatment, the reference first. `effect` is against the reference."""
    layout: "Layout"
    effect: np.ndarray
    variance: np.ndarray

    def estimate(self, weights: Mapping[Hashable, float]) -> Estimate | None:
        """The contrast sum of weights[treatment] * treatment, weights adding up to 0, with the treatments' own variances; None if not determined."""
        row = self.layout.row(weights)
        if row is None:
            return None
        parts = self.variance * self.layout.squares(row)
        variance, df = satterthwaite(parts, self.layout.df, float(self.layout.df.sum()))
        blocks = self.layout.blocks(weights)
        wanted = np.array([weights.get(name, 0.0) for name in self.layout.treatments])
        return Estimate(_rounded(float(self.effect @ wanted)), float(variance), float(df) if blocks >= MIN_BLOCKS and df > 0 else None, blocks)

    @property
    def residual_sd(self) -> np.ndarray:
        """Of one value, all treatments together: what plans and detectable effects are computed from."""
        df = self.layout.df
        return np.sqrt((self.variance * df).sum(axis=-1) / df.sum()) if df.sum() > 0 else np.full(self.variance.shape[:-1], math.nan)


class Layout:
    def __init__(self, blocks: Sequence[Hashable], treatments: Sequence[Hashable], reference: Hashable):
        if len(blocks) != len(treatments):
            raise ValueError("one block and one treatment for each value")
        if reference not in set(treatments):
            raise ValueError(f"the reference {reference!r} has no value")
        self.treatments = [reference] + [name for name in dict.fromkeys(treatments) if name != reference]
        self._position = {name: index for index, name in enumerate(self.treatments)}
        group = np.array([self._position[name] for name in treatments])
        own = {name: index for index, name in enumerate(dict.fromkeys(blocks))}
        block = np.array([own[name] for name in blocks])
        self._blocks = [frozenset(block[group == index].tolist()) for index in range(len(self.treatments))]
        self._member = (group[:, None] == np.arange(len(self.treatments))).astype(float)
        self._design = np.column_stack([block[:, None] == np.arange(len(own)), self._member[:, 1:]]).astype(float)
        self._inverse = np.linalg.pinv(self._design, rcond=1e-10)
        hat = np.einsum("ij,ji->i", self._design, self._inverse)
        df = (1 - hat) @ self._member
        self.df = np.where(df > 1e-9, df, 0.0)
        self._rows = self._inverse[len(own):]
        # A coefficient is determined where the inverse gives it back whatever the others are.
        self._leak = self._rows @ self._design
        self._leak[:, len(own):] -= np.eye(len(self._rows))

    def fit(self, y) -> Fit:
        y = np.asarray(y, dtype=float)
        y = y - y.mean(axis=-1, keepdims=True)  # the blocks take up any constant; without it fewer digits are lost
        solution = y @ self._inverse.T
        residual = y - solution @ self._design.T
        residual = np.where(np.abs(residual) < ROUNDING, 0.0, residual)
        squares = (residual**2) @ self._member
        variance = np.divide(squares, self.df, out=np.zeros_like(squares), where=np.broadcast_to(self.df > 0, squares.shape))
        effect = solution[..., self._design.shape[1] - len(self._rows):]
        return Fit(self, np.concatenate([np.zeros(effect.shape[:-1] + (1,)), effect], axis=-1), variance)

    def row(self, weights: Mapping[Hashable, float]) -> np.ndarray | None:
        """What each value counts in a contrast; None where a treatment has no value or the cells do not determine the contrast."""
        if any(name not in self._position for name in weights) or abs(sum(weights.values())) > 1e-9:
            return None
        wanted = np.array([weights.get(name, 0.0) for name in self.treatments[1:]])
        if np.abs(wanted @ self._leak).max(initial=0.0) > 1e-8:
            return None
        return wanted @ self._rows

    def rows(self) -> np.ndarray:
        """The contrasts of the treatments with the reference."""
        return self._rows

    def determined(self) -> np.ndarray:
        return (np.abs(self._leak) < 1e-8).all(axis=1)

    def squares(self, rows: np.ndarray) -> np.ndarray:
        """What each treatment's variance counts in the variance of a contrast."""
        return rows**2 @ self._member

    def blocks(self, weights: Mapping[Hashable, float]) -> int:
        """How many blocks a contrast rests on: the fewest in which one of its treatments stands beside one with the opposite sign."""
        plus, minus = ([self._blocks[self._position[name]] for name, weight in weights.items() if sign * weight > 0] for sign in (1, -1))
        return min((len(one & frozenset().union(*others)) for side, others in ((plus, minus), (minus, plus)) for one in side), default=0)


def satterthwaite(parts, df, most):
    """(variance, degrees of freedom) of a sum of independent parts, the last axis. A treatment without df of its own cannot be judged: df is 0."""
    variance = parts.sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        weight = np.where(parts > 0, parts**2 / df, 0.0).sum(axis=-1)
        found = np.where(weight > 0, np.minimum(variance**2 / weight, most), most)
    return variance, np.where(np.isfinite(weight), found, 0.0)


def inverse_trigamma(x):
    """Newton's method on 1/trigamma, which is nearly linear."""
    x = np.asarray(x, dtype=float)
    y = 0.5 + 1 / x
    for _ in range(50):
        value = special.polygamma(1, y)
        step = value * (1 - value / x) / special.polygamma(2, y)
        y = y + step
        if np.all(np.abs(step) < 1e-12 * y):
            break
    return y


def moderation(fits: Sequence[Fit]):
    """d0: the degrees of freedom that the variances of one run's treatments lend each other, from all workloads, references left out.

    The spread of the log variances, less what chance alone makes of it, says how much the true ones differ. A variance of exactly 0 has no logarithm and is
    left out, which makes the others look more alike than all of them are; since variances are only ever raised, that errs to the safe side.
    """
    spread, expected, groups, freedom = 0.0, 0.0, 0, 0
    for fit in fits:
        v, d = fit.variance[..., 1:], fit.layout.df[1:]
        known = (v > 0) & (d > 0)
        half = np.where(d > 0, d, 1.0) / 2
        e = np.where(known, np.log(np.where(known, v, 1.0)) - special.digamma(half) + np.log(half), 0.0)
        count = known.sum(axis=-1)
        mean = e.sum(axis=-1) / np.maximum(count, 1)
        spread = spread + np.where(known, (e - mean[..., None])**2, 0.0).sum(axis=-1)
        expected = expected + np.where(known, special.polygamma(1, half), 0.0).sum(axis=-1)
        groups, freedom = groups + count, freedom + np.maximum(count - 1, 0)
    enough = (np.asarray(groups) >= MIN_GROUPS) & (np.asarray(freedom) > 0)
    true_spread = spread / np.maximum(freedom, 1) - expected / np.maximum(groups, 1)
    d0 = np.where(true_spread <= 1e-4, LARGEST_PRIOR, np.minimum(LARGEST_PRIOR, 2 * inverse_trigamma(np.maximum(true_spread, 1e-4))))
    return np.where(enough, d0, 0.0)[()]


@dataclasses.dataclass(frozen=True)
class Differences:
    """Every treatment but the reference against it; the last axis is the treatment. What `against_reference` and the simulations share."""
    effect: np.ndarray
    variance: np.ndarray
    df: np.ndarray
    lambdas: np.ndarray


def differences(fit: Fit, d0) -> Differences:
    layout = fit.layout
    d, v = layout.df[1:], fit.variance[..., 1:]
    d0 = np.asarray(d0, dtype=float)[..., None]
    pool = (d * v).sum(axis=-1, keepdims=True) / max(float(d.sum()), 1e-300)
    raised = np.maximum(v, (d0 * pool + d * v) / np.maximum(d0 + d, 1e-300))
    variance = np.concatenate([fit.variance[..., :1], raised], axis=-1)
    freedom = np.concatenate([np.broadcast_to(layout.df[:1], raised.shape[:-1] + (1,)), np.broadcast_to(d + d0, raised.shape)], axis=-1)
    parts = variance[..., None, :] * layout.squares(layout.rows())
    total, df = satterthwaite(parts, freedom[..., None, :], float(layout.df.sum()))
    share = np.divide(parts[..., 0], total, out=np.zeros_like(total), where=total > 0)
    return Differences(fit.effect[..., 1:], total, df, np.sqrt(share))


def against_reference(fit: Fit, d0: float, alpha: float) -> dict[Hashable, Contrast]:
    """Simultaneous intervals of one family: every treatment that can be judged against the reference."""
    layout = fit.layout
    names = layout.treatments[1:]
    found = differences(fit, d0)
    blocks = [layout.blocks({name: 1, layout.treatments[0]: -1}) for name in names]
    determined = layout.determined()
    judged = np.array([determined[i] and blocks[i] >= MIN_BLOCKS and found.df[i] > 0 for i in range(len(names))], dtype=bool)
    family = dunnett.Family(found.lambdas[judged])
    critical, p = np.full(len(names), math.nan), np.full(len(names), math.nan)
    if judged.any():
        critical[judged] = family.critical(found.df[judged], alpha)
        with np.errstate(divide="ignore", invalid="ignore"):
            t = found.effect[judged] / np.sqrt(found.variance[judged])
        p[judged] = family.tail(np.where(np.isfinite(t), t, 0.0), found.df[judged])
    answers = {}
    for index, name in enumerate(names):
        if determined[index]:
            estimate = Estimate(_rounded(float(found.effect[index])), float(found.variance[index]), float(found.df[index]) if judged[index] else None, blocks[index])
            answers[name] = _contrast(estimate, float(critical[index]), float(p[index]))
    return answers


def average(estimates: Sequence[Estimate]) -> Estimate | None:
    """The mean of independent estimates, each with the same weight."""
    if not estimates:
        return None
    count = len(estimates)
    value = _rounded(sum(one.log_ratio for one in estimates) / count)
    blocks = min(one.blocks for one in estimates)
    if any(one.df is None for one in estimates):
        return Estimate(value, math.nan, None, blocks)
    variance, df = satterthwaite(np.array([one.variance for one in estimates]) / count**2, np.array([one.df for one in estimates]), sum(one.df for one in estimates))
    return Estimate(value, float(variance), float(df), blocks)


def simultaneous(estimates: Sequence[Estimate | None], alpha: float) -> list[Contrast | None]:
    """One family of estimates, whatever their dependence among each other may be. What cannot be judged does not count towards the family."""
    tests = sum(one is not None and one.df is not None for one in estimates)
    each = dunnett.sidak_alpha(alpha, max(1, tests))
    answers = []
    for one in estimates:
        critical, p = math.nan, math.nan
        if one is not None and one.df is not None:
            alone = float(2 * special.stdtr(one.df, -abs(one.log_ratio) / math.sqrt(one.variance))) if one.variance > 0 else 1.0
            critical, p = float(dunnett.t_critical(one.df, each)), -math.expm1(tests * math.log1p(-min(alone, 1 - 1e-16)))
        answers.append(None if one is None else _contrast(one, critical, p))
    return answers


def _contrast(estimate: Estimate, critical: float, p: float) -> Contrast:
    value = estimate.log_ratio
    if estimate.df is None:
        return Contrast(value, None, None, None, None, None, None, estimate.blocks)
    se = math.sqrt(estimate.variance)
    if se == 0:  # the interval is a point, and what it says is certain
        p = 1.0 if value == 0 else 0.0
    return Contrast(value, se, estimate.df, critical, value - critical * se, value + critical * se, p, estimate.blocks)


def _rounded(value: float) -> float:
    return 0.0 if abs(value) < ROUNDING else value
