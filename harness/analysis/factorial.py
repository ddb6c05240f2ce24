"""Type-II analysis of variance on log(metric): which factors, and which pairs of factors, explain the spread.

    log(metric) ~ block + workload + (scheduler + allocator + collector + poller + procs + …)^2

Type II asks of each term: how much does it explain beyond every other term that does not contain it. That is the right
question for main effects in the presence of interactions, and it does not depend on the order of terms.

Why not a library's formula. Real runs have holes: failed cells, one-factor-at-a-time designs, a factor with a single level.
There the design matrix is rank-deficient and the usual routines answer with NaN or a traceback. Here a term's degrees of
freedom are the rank it adds, so an inestimable term has none and is reported in words. On balanced and on merely
unbalanced data the numbers agree with statsmodels' anova_lm(typ=2); a test holds them together.
"""
from __future__ import annotations

import dataclasses
import itertools
from typing import Sequence

import numpy as np
from scipy import special

from .load import GEARS


@dataclasses.dataclass
class Term:
    name: str
    df: int
    sum_sq: float
    f: float | None
    p: float | None  # of this term alone, all spreads taken for equal: the effects' own intervals decide, and no output prints it
    eta_sq: float | None  # share of the spread within workloads and blocks; None for those two
    partial_eta_sq: float | None


@dataclasses.dataclass
class Anova:
    formula: str
    n: int
    residual_df: int
    residual_sd_pct: float | None  # what is left unexplained, as a percentage of the metric
    terms: list[Term]
    notes: list[str]


def _columns(labels: Sequence[str]) -> np.ndarray:
    """Treatment-coded columns, first level dropped."""
    names = list(dict.fromkeys(labels))
    values = np.asarray(labels, dtype=object)
    return np.column_stack([values == name for name in names[1:]]).astype(float) if len(names) > 1 else np.empty((len(labels), 0))


def _fit(matrices: Sequence[np.ndarray], y: np.ndarray) -> tuple[float, int]:
    """Residual sum of squares and rank of the model with an intercept."""
    design = np.column_stack([np.ones((y.size, 1)), *matrices])
    solution, _, rank, _ = np.linalg.lstsq(design, y, rcond=1e-10)
    residual = y - design @ solution
    return float(residual @ residual), int(rank)


def anova(values: Sequence[float], blocks: Sequence[int], works: Sequence[str], treatments: Sequence[tuple[str, ...]],
          factors: Sequence[str] = GEARS) -> Anova:
    """One entry per ok invocation. Never raises on small or holed data: notes say what could not be done."""
    notes: list[str] = []
    y = np.log(np.asarray(values, dtype=float))
    main: dict[str, np.ndarray] = {}
    for name, labels in [("block", [str(block) for block in blocks]), ("workload", list(works))] + [
            (factor, [treatment[index] for treatment in treatments]) for index, factor in enumerate(factors)]:
        columns = _columns(labels)
        if columns.shape[1]:
            main[name] = columns
    terms: dict[tuple[str, ...], np.ndarray] = {(name,): columns for name, columns in main.items()}
    word = "gear" if set(factors) <= set(GEARS) else "factor"
    varied = [factor for factor in factors if factor in main]
    for a, b in itertools.combinations(varied, 2):
        terms[(a, b)] = (main[a][:, :, None] * main[b][:, None, :]).reshape(y.size, -1)
    formula = "log(metric) ~ " + (" + ".join(
        [name for name in ("block", "workload") if name in main]
        + ([f"({' + '.join(varied)})^2"] if len(varied) > 1 else varied)) or "1")
    if y.size < 2:
        notes.append("fewer than two measurements: no analysis of variance")
        return Anova(formula, int(y.size), 0, None, [], notes)
    if not varied:
        notes.append(f"every {word} has a single level: there is no {word} effect to test")

    # Workloads differ by orders of magnitude in unit and size. Measured against that, every factor's share would be
    # nothing, so shares are of what block and workload leave over.
    total, _ = _fit([matrix for key, matrix in terms.items() if key in (("block",), ("workload",))], y)
    rss, rank = _fit(list(terms.values()), y)
    if "workload" in main and varied:
        notes.append(f"{word} effects that differ between workloads are part of this residual; the tables per workload separate them")
    residual_df = y.size - rank
    if residual_df < 1:
        notes.append("as many parameters as measurements: sums of squares only, no tests; more blocks are needed")
    scale = max(total, 1e-300)
    noise = rss / residual_df if residual_df > 0 else None
    if noise is not None and noise <= 1e-24 * scale:
        notes.append("there is no residual spread: tests are not meaningful")
        noise = None

    found: list[Term] = []
    for key, columns in terms.items():
        others = [matrix for other, matrix in terms.items() if other != key and not set(key) <= set(other)]
        without, rank_without = _fit(others, y)
        with_term, rank_with = _fit(others + [columns], y)
        df = rank_with - rank_without
        if df == 0:
            notes.append(f"{' x '.join(key)} cannot be told apart from other terms in this design")
            continue
        explained = max(0.0, without - with_term)
        f = explained / df / noise if noise else None
        p = float(special.fdtrc(df, residual_df, f)) if f is not None else None
        share = explained / scale if not {"block", "workload"} & set(key) else None
        found.append(Term(" x ".join(key), df, explained, f, p, share,
                          explained / (explained + rss) if explained + rss > 0 else None))
    sd_pct = 100 * float(np.expm1(np.sqrt(noise))) if noise is not None else None
    return Anova(formula, int(y.size), int(residual_df), sd_pct, found, notes)
