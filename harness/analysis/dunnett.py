"""Dunnett's distribution: the largest of m studentised differences to one reference. Numbers in, numbers out; knows nothing of runs.

Model. T_l = (sqrt(1 - lambda_l^2) Z_l + lambda_l Z) / S with independent normal Z_l and Z, and nu S^2 chi-square with nu degrees of freedom. lambda_l^2 is
the share of the reference in the variance of difference l, so two differences are correlated by lambda_l lambda_m. Combinations that differ in spread have
different lambdas, and the table of a textbook (lambda^2 = 1/2 throughout) does not serve.

API.
    family = Family(lambdas)           one family of m differences
    family.critical(df, alpha)         the c with P(max |T_l| > c) = alpha, one for each entry of df
    family.tail(t, df)                 P(max |T_l| > |t|): the adjusted p value of an observed t
    significant(t, df, lambdas, alpha) many families of one size at once: which differences exceed their critical value

Numerics. Given S = s, P(max |T_l| <= c) = G(c s), and G depends on the lambdas alone:
    G(x) = Int phi(z) Prod_l [Phi((lambda_l z + x) / w_l) - Phi((lambda_l z - x) / w_l)] dz,  w_l = sqrt(1 - lambda_l^2)
One table of log(1 - G) thus serves every df and every c of the family; a cubic spline reads it. Both integrals are of smooth functions that fall off at both
ends, for which the trapezoidal rule converges exponentially: over z with a step no wider than the narrowest w_l / lambda_l, over log s with a fixed number of
steps between the far quantiles of S. The logarithm of the tail, not G, is tabulated, so that a p value of 1e-12 has correct digits.

Limits. lambda is cut at LARGEST_LAMBDA, where a combination has next to no variance of its own. More correlation makes c smaller, so the cut errs to the
safe side. scipy 1.10 has neither `dunnett` nor a distribution function of `multivariate_t`; where both exist they agree with this file.
Rejected: Gauss-Hermite nodes over z, exact for lambda near 0.5 and wrong in the third digit at 0.99; Gauss-Legendre on the probability axis of S, whose
integrand has a logarithmic singularity at both ends.
"""
from __future__ import annotations

import functools
import math

import numpy as np
from scipy import interpolate, special

LARGEST_LAMBDA = 0.9998
SMALLEST_DF = 0.1
LARGEST_DF = 1e6  # beyond it S is 1 to within a thousandth
X_END = 12.0  # beyond it the tail is below 1e-31 for any family that fits into memory
X_STEP = 0.05
Z_END = 13.0  # beyond X_END: where a family hangs on its reference alone, the tail at x is the tail of z there
Z_STEP = 0.4
S_STEPS = 96


def t_critical(df, alpha: float):
    """Two-sided quantile of Student's t: the critical value of a family of one."""
    return -special.stdtrit(np.clip(df, SMALLEST_DF, LARGEST_DF), alpha / 2)


def sidak_alpha(alpha: float, tests: int) -> float:
    return -math.expm1(math.log1p(-alpha) / tests)


class Family:
    def __init__(self, lambdas):
        lam = np.minimum(np.abs(np.asarray(lambdas, dtype=float)), LARGEST_LAMBDA)
        self.size = lam.size
        if self.size > 1:  # a family of one is Student's t, one of none is never asked
            self._log_tail = self._tabulate(lam)

    @staticmethod
    def _tabulate(lam: np.ndarray) -> interpolate.CubicSpline:
        own, counts = np.unique(lam, return_counts=True)
        widths = np.sqrt(1 - own**2)
        step = min(Z_STEP, float(np.min(widths / np.maximum(own, 1e-9))))
        z = np.arange(0, Z_END + step, step)  # the integrand is even in z
        weights = np.exp(-z**2 / 2)
        weights[0] /= 2
        weights /= weights.sum()
        x = np.arange(0, X_END + X_STEP / 2, X_STEP)[:, None]
        log_inside = np.zeros((x.size, z.size))
        with np.errstate(divide="ignore"):
            for one, width, count in zip(own, widths, counts):
                outside = special.ndtr((-x - one * z) / width) + special.ndtr((one * z - x) / width)
                log_inside += count * np.log1p(-outside)
        return interpolate.CubicSpline(x[:, 0], np.log(-np.expm1(log_inside) @ weights))

    def tail(self, t, df):
        """P(max |T_l| > |t|), elementwise over t and df."""
        t, df = np.broadcast_arrays(np.abs(np.asarray(t, dtype=float)), np.clip(np.asarray(df, dtype=float), SMALLEST_DF, LARGEST_DF))
        if self.size == 1:
            return 2 * special.stdtr(df, -t)
        return self._expect(t, *_chi_nodes(df))

    def critical(self, df, alpha: float):
        """The critical value for each entry of df."""
        df = np.clip(np.asarray(df, dtype=float), SMALLEST_DF, LARGEST_DF)
        low = t_critical(df, alpha)
        if self.size == 1:
            return low
        high = t_critical(df, sidak_alpha(alpha, self.size))  # independence is the worst case (Sidak's inequality)
        nodes = _chi_nodes(df)
        for _ in range(44):  # halving to the last digits; the table is cheap to read
            middle = (low + high) / 2
            above = self._expect(middle, *nodes) > alpha
            low, high = np.where(above, middle, low), np.where(above, high, middle)
        return (low + high) / 2

    def _expect(self, t, s, weights, near_zero):
        x = t[..., None] * s
        tail = np.where(x < X_END, np.exp(self._log_tail(np.minimum(x, X_END))), 0.0)
        return np.minimum(1.0, (tail * weights).sum(axis=-1) + near_zero)


def _chi_nodes(df: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nodes and weights for the mean over S, and the probability of the S below the lowest node, where the tail is 1."""
    first = np.log(np.maximum(2 * special.gammaincinv(df / 2, 1e-16) / df, 1e-14)) / 2
    last = np.log(special.chdtri(df, 1e-16) / df) / 2
    t = first[..., None] + (last - first)[..., None] * np.linspace(0, 1, S_STEPS + 1)
    log_density = df[..., None] * (t - np.exp(2 * t) / 2)
    weights = np.exp(log_density - log_density.max(axis=-1, keepdims=True))
    weights[..., 0] /= 2
    near_zero = special.chdtr(df, df * np.exp(2 * first))
    weights *= ((1 - near_zero) / weights.sum(axis=-1))[..., None]
    return np.exp(t), weights, near_zero


@functools.lru_cache(maxsize=32)
def _equal_lambdas(size: int, alpha: float) -> interpolate.RectBivariateSpline:
    """Critical values of families with one lambda throughout, over (log df, lambda)."""
    log_df = np.linspace(math.log(0.5), math.log(1000), 30)
    lam = np.append(np.linspace(0, 0.95, 20), LARGEST_LAMBDA)
    values = np.column_stack([Family([one] * size).critical(np.exp(log_df), alpha) for one in lam])
    return interpolate.RectBivariateSpline(log_df, lam, np.log(values), kx=3, ky=1)


def significant(t, df, lambdas, alpha: float) -> np.ndarray:
    """Which |t| exceed their critical value; the last axis is the family, all axes before it are families.

    The critical value falls with every lambda, so the families with the smallest and the largest lambda throughout enclose it. Only a t between those two
    needs the family's own distribution: one family in thirty, which makes thousands of simulated families affordable.
    """
    t, df, lambdas = np.broadcast_arrays(np.abs(t), df, lambdas)
    size = t.shape[-1]
    if size == 1:
        return t > t_critical(df, alpha)
    table = _equal_lambdas(size, alpha)
    log_df = np.log(np.clip(df, 0.5, 1000))
    least = np.exp(table(log_df, np.broadcast_to(lambdas.max(axis=-1, keepdims=True), t.shape), grid=False)) * 0.99
    most = np.exp(table(log_df, np.broadcast_to(lambdas.min(axis=-1, keepdims=True), t.shape), grid=False)) * 1.01
    found = t > most
    open_ = (t > least) & ~found | (df < 0.5)
    for where in zip(*np.nonzero(open_.any(axis=-1))):
        family = Family(lambdas[where])
        found[where] = np.where(open_[where], family.tail(t[where], df[where]) < alpha, found[where])
    return found
