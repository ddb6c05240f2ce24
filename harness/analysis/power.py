"""What a design can find before it is run, and the only early stop. Numbers in, numbers out.

API.
    detectable(blocks, sd, baseline_runs, treatments)   the smallest ratio that a comparison with the baseline calls in four of five runs; sd is that of one log value
    half_width(blocks, sd, baseline_runs, treatments)   the typical half of an interval, as a ratio: x/÷
    would_have_seen(contrast)                           the same for a contrast that has been measured, from its own standard error
    smallest_margin(low, high)                          the tightest margin of equivalence that an interval would have passed
    look_alpha(blocks)                                  the level of a declared look, None where none is declared

Where the numbers come from. The tables were simulated with 16 treatments of equal normal spread (selftest.py repeats some of their cells). A smaller family
has smaller critical values, so the tables are on the careful side there; for two treatments, where the answer is the paired t, they are not used and the
values are exact. Between the tables' blocks they are interpolated on log scales, on which they are nearly straight; beyond the last they fall with the root.

Looks. Peeking after every block and stopping at the first significant difference calls 13 to 17 % falsely. Three looks that share alpha between them
keep it, and the interval of the look at which one stops is the answer, at that look's level.
"""
from __future__ import annotations

import math

import numpy as np
from scipy import optimize, special

from . import dunnett
from .gvm import MIN_BLOCKS, Contrast

POWER = 0.80
BLOCKS = (3, 4, 5, 6, 8, 10, 15, 20, 30)
# log ratio over the sd of one log value, by the number of runs of the baseline in a block
DETECTABLE = {3: (3.13, 2.61, 2.27, 2.04, 1.72, 1.53, 1.20, 1.02, 0.82), 1: (4.34, 3.42, 2.85, 2.49, 2.06, 1.81, 1.42, 1.22, 0.97)}
HALF_WIDTH = {3: (2.28, 1.93, 1.69, 1.52, 1.29, 1.14, 0.92, 0.78, 0.63), 1: (3.10, 2.50, 2.09, 1.87, 1.58, 1.39, 1.10, 0.94, 0.75)}
LOOKS = ((3, 0.01), (6, 0.015), (12, 0.025))  # (blocks, level): the levels add up to 0.05


def detectable(blocks: int, sd: float, baseline_runs: int = 1, treatments: int = 16) -> float | None:
    """None below MIN_BLOCKS, where nothing is ever called."""
    if blocks < MIN_BLOCKS:
        return None
    if treatments > 2:
        return _exp(_read(DETECTABLE, blocks, baseline_runs) * sd)
    critical = float(dunnett.t_critical(blocks - 1, 0.05))
    shift = optimize.brentq(lambda nc: special.nctdtr(blocks - 1, nc, critical) - (1 - POWER), 0, 20 * critical)
    return _exp(shift * sd * math.sqrt((1 + 1 / baseline_runs) / blocks))


def half_width(blocks: int, sd: float, baseline_runs: int = 1, treatments: int = 16) -> float | None:
    if blocks < MIN_BLOCKS:
        return None
    if treatments > 2:
        return _exp(_read(HALF_WIDTH, blocks, baseline_runs) * sd)
    return _exp(float(dunnett.t_critical(blocks - 1, 0.05)) * sd * math.sqrt((1 + 1 / baseline_runs) / blocks))


def _read(table: dict[int, tuple[float, ...]], blocks: int, baseline_runs: int) -> float:
    lines = {runs: np.exp(np.interp(math.log(min(blocks, BLOCKS[-1])), np.log(BLOCKS), np.log(line))) for runs, line in table.items()}
    most, least = max(lines), min(lines)
    # The variance of a difference is 1 + 1/r of the baseline's runs; what lies between the lines goes with its root.
    spread = lambda runs: math.sqrt(1 + 1 / runs)
    place = (spread(min(max(baseline_runs, least), most)) - spread(most)) / (spread(least) - spread(most)) if least < most else 0.0
    value = float(lines[most] + place * (lines[least] - lines[most]))
    return value * math.sqrt(min(1.0, BLOCKS[-1] / blocks))


def would_have_seen(contrast: Contrast) -> float | None:
    """The true ratio at which an interval with this standard error would have excluded 1 in four of five runs."""
    if contrast.se is None or contrast.df is None or contrast.critical is None:
        return None
    return _exp((contrast.critical + float(special.stdtrit(max(contrast.df, dunnett.SMALLEST_DF), POWER))) * contrast.se)


def smallest_margin(low: float, high: float) -> float:
    """From an interval on the log scale to a ratio: 'within x/÷1.31'."""
    return _exp(max(abs(low), abs(high)))


def look_alpha(blocks: int) -> float | None:
    return dict(LOOKS).get(blocks)


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf
