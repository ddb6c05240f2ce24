"""Estimates, intervals and verdicts for positive measurements. Knows nothing of runs, gears or files.

The unit is the process invocation. Callers pass one number per invocation, never one per iteration: iterations inside a
process share its memory layout and its neighbours, and pooling them turns noise into discoveries.

Why logarithms. Speeds differ by factors, not by amounts, and their noise grows with the value. On the log scale a
difference is a ratio, a mean is a geometric mean, and a t interval keeps its promised coverage at the small n that
benchmarks have, which the usual bootstrap does not.

Where the answers come from. Within a run every verdict is read from a simultaneous interval of gvm.py, which knows of blocks, of treatments that differ in
spread, and of how many questions were asked at once. Where blocks cannot be matched (two runs), Welch's interval on logs is used.

Robust companions. The interval on logs is the answer; the bootstrapped median ratio, the exact Mann-Whitney test and Cliff's
delta stand beside it, and disagreement between them is worth a look at the points. Outliers are never removed.

Small n. What cannot be computed honestly is None, and callers say so in words: no interval from one value, no median
interval below six, no Mann-Whitney p that could not get below alpha however clear the data.
"""
from __future__ import annotations

import dataclasses
import math
from typing import Iterable, Sequence

import numpy as np
from scipy import special, stats as scipy_stats

from . import gvm, power

ALPHA = 0.05
ROPE_PCT = 1.0  # within +-1 % nobody would choose one gear over another
MEDIAN_INTERVAL_MIN_N = 6  # below it even (min, max) covers the median less often than 95 %
BOOTSTRAP_DRAWS = 2000
BOOTSTRAP_SEED = 20261123


@dataclasses.dataclass(frozen=True)
class Ratio:
    """A ratio of geometric means with its interval. low, high and p are None when n is too small for them.

    In the answers of a run and of a comparison of runs, interval and p are those of a whole family: p is below alpha exactly where the interval excludes 1.
    """
    ratio: float
    low: float | None
    high: float | None
    p: float | None
    n: int  # blocks, or the smaller side where blocks cannot be matched
    df: float | None
    method: str
    would_have_seen: float | None = None  # the true ratio that four of five such intervals exclude 1 for

    @property
    def margin(self) -> float | None:
        """The smallest margin of equivalence that the interval would have passed, as a ratio: within x/÷1.31."""
        return None if self.low is None or self.high is None else max(1 / self.low, self.high)

    def inverted(self) -> "Ratio":
        """The same fact seen from the other side; used to make 'larger is better' hold for latencies too."""
        return dataclasses.replace(self, ratio=1 / self.ratio, low=None if self.high is None else 1 / self.high,
                                   high=None if self.low is None else 1 / self.low)


@dataclasses.dataclass(frozen=True)
class Centre:
    """Geometric mean of one sample with its t interval, and the median with a bootstrap interval when n allows."""
    mean: float
    low: float | None
    high: float | None
    median: float
    median_low: float | None
    median_high: float | None
    n: int


def _logs(values: Iterable[float]) -> np.ndarray:
    array = np.asarray(list(values), dtype=float)
    if array.size and not (np.all(np.isfinite(array)) and np.all(array > 0)):
        raise ValueError("measurements must be finite and positive")
    return np.log(array)


def t_quantile(df: float, alpha: float = ALPHA) -> float:
    return float(special.stdtrit(df, 1 - alpha / 2))


def t_p(t: float, df: float) -> float:
    return float(2 * special.stdtr(df, -abs(t)))


def _interval(mean: float, se: float | None, df: float | None, n: int, method: str, alpha: float = ALPHA) -> Ratio:
    """From a mean log ratio and its standard error to a Ratio. Zero spread is legal: exact counters repeat exactly."""
    if se is None or df is None or df <= 0:
        return Ratio(math.exp(mean), None, None, None, n, None, method)
    if se == 0:
        return Ratio(math.exp(mean), math.exp(mean), math.exp(mean), 1.0 if mean == 0 else 0.0, n, df, method)
    half = t_quantile(df, alpha) * se
    if half + abs(mean) > 700:  # exp would overflow: an interval this wide says nothing
        return Ratio(math.exp(mean), None, None, t_p(mean / se, df), n, df, method)
    return Ratio(math.exp(mean), math.exp(mean - half), math.exp(mean + half), t_p(mean / se, df), n, df, method)


def centre(values: Sequence[float], alpha: float = ALPHA) -> Centre | None:
    logs = _logs(values)
    if logs.size == 0:
        return None
    se = float(np.std(logs, ddof=1) / math.sqrt(logs.size)) if logs.size > 1 else None
    mean = _interval(float(np.mean(logs)), se, logs.size - 1, logs.size, "t", alpha)
    low, high = bootstrap_median(values, alpha)
    return Centre(mean.ratio, mean.low, mean.high, float(np.median(np.asarray(values, dtype=float))), low, high, logs.size)


def paired_ratio(values: Sequence[float], base: Sequence[float], alpha: float = ALPHA) -> Ratio | None:
    """values[i] and base[i] come from the same block."""
    if len(values) != len(base):
        raise ValueError("pairs need two samples of the same length")
    difference = _logs(values) - _logs(base)
    if difference.size == 0:
        return None
    se = float(np.std(difference, ddof=1) / math.sqrt(difference.size)) if difference.size > 1 else None
    return _interval(float(np.mean(difference)), se, difference.size - 1, difference.size, "paired t on logs", alpha)


def from_contrast(contrast: gvm.Contrast | None, method: str) -> Ratio | None:
    if contrast is None:
        return None
    if contrast.low is None or max(abs(contrast.low), abs(contrast.high)) > 700:  # exp would overflow: an interval this wide says nothing
        return Ratio(_exp(contrast.log_ratio), None, None, contrast.p, contrast.blocks, contrast.df, method)
    return Ratio(math.exp(contrast.log_ratio), math.exp(contrast.low), math.exp(contrast.high), contrast.p, contrast.blocks, contrast.df, method,
                 power.would_have_seen(contrast))


def _exp(value: float) -> float:
    return math.exp(max(-700.0, min(700.0, value)))


def welch_estimate(values: Sequence[float], base: Sequence[float]) -> gvm.Estimate | None:
    """The log ratio of two unmatched samples with its variance, for a family of such ratios."""
    a, b = _logs(values), _logs(base)
    if a.size == 0 or b.size == 0:
        return None
    n, value = min(a.size, b.size), float(np.mean(a) - np.mean(b))
    value = 0.0 if abs(value) < gvm.ROUNDING else value
    if n < gvm.MIN_BLOCKS:
        return gvm.Estimate(value, math.nan, None, n)
    variance, df = gvm.satterthwaite(np.array([np.var(a, ddof=1) / a.size, np.var(b, ddof=1) / b.size]), np.array([a.size - 1.0, b.size - 1.0]), a.size + b.size - 2.0)
    return gvm.Estimate(value, float(variance), float(df), n)


def _resample(values: Sequence[float], rng: np.random.Generator) -> np.ndarray:
    array = np.asarray(values, dtype=float)
    return np.median(array[rng.integers(0, array.size, size=(BOOTSTRAP_DRAWS, array.size))], axis=1)


def bootstrap_median(values: Sequence[float], alpha: float = ALPHA) -> tuple[float | None, float | None]:
    """Percentile bootstrap interval of the median. The seed is fixed: the same data gives the same bytes."""
    if len(values) < MEDIAN_INTERVAL_MIN_N:
        return None, None
    medians = _resample(values, np.random.default_rng(BOOTSTRAP_SEED))
    low, high = np.quantile(medians, [alpha / 2, 1 - alpha / 2])
    return float(low), float(high)


def bootstrap_median_ratio(values: Sequence[float], base: Sequence[float], alpha: float = ALPHA) -> tuple[float | None, float | None, float | None]:
    """(ratio of medians, low, high), the two samples drawn independently; the interval is None below six a side."""
    if not len(values) or not len(base):
        return None, None, None
    ratio = float(np.median(values) / np.median(base))
    if min(len(values), len(base)) < MEDIAN_INTERVAL_MIN_N:
        return ratio, None, None
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    low, high = np.quantile(_resample(values, rng) / _resample(base, rng), [alpha / 2, 1 - alpha / 2])
    return ratio, float(low), float(high)


def mann_whitney(values: Sequence[float], base: Sequence[float], alpha: float = ALPHA) -> float | None:
    """Two-sided p; exact where there are no ties. None when not even a perfect separation could reach alpha."""
    n, m = len(values), len(base)
    if not n or not m or 2 / math.comb(n + m, n) >= alpha:
        return None
    ties = len(set(values) | set(base)) < n + m
    method = "asymptotic" if ties or n + m > 60 else "exact"
    p = float(scipy_stats.mannwhitneyu(values, base, alternative="two-sided", method=method).pvalue)
    return p if math.isfinite(p) else 1.0  # all values equal: no evidence of anything


def cliffs_delta(values: Sequence[float], base: Sequence[float]) -> float | None:
    """P(value > base) - P(value < base): how often one invocation beats another, whatever the amount."""
    if not len(values) or not len(base):
        return None
    a, b = np.asarray(values, dtype=float)[:, None], np.asarray(base, dtype=float)[None, :]
    return float(np.mean(np.sign(a - b)))


VERDICTS = ("faster", "slower", "smaller", "larger", "equivalent", "undecided", "no verdict", "unreliable")


def unreliable(failed: int, planned: int, whose: str = "") -> str:
    """The verdict where invocations failed. What is left of them is a sample of those that went well: no ratio of it says
    which side is better, since the side that crashes more often is left with its easier runs."""
    return f"unreliable: {whose + ', ' if whose else ''}{failed} of {planned} failed"


def word(verdict: str) -> str:
    """The verdict without its numbers: for colours and for counting."""
    return verdict.partition(":")[0]


def verdict(ratio: Ratio | None, better: str = "higher", kind: str = "speed", rope_pct: float = ROPE_PCT) -> str:
    """faster | slower | equivalent | undecided | no verdict (smaller | larger for sizes), read from the interval and from nothing else.

    `ratio` is value over base in the metric's own direction. "Equivalent" needs the whole interval inside the margin; a difference needs an interval that
    excludes 1. Without an interval, below three blocks, there is no verdict.
    """
    if ratio is None or ratio.low is None or ratio.high is None:
        return "no verdict"
    if ratio.margin <= (1 + rope_pct / 100) * (1 + 1e-12):
        return "equivalent"
    if ratio.low <= 1 <= ratio.high:
        return "undecided"
    grew = ratio.low > 1
    if kind == "size":
        return "larger" if grew else "smaller"
    return "faster" if grew == (better == "higher") else "slower"
