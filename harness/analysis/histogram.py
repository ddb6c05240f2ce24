"""Latency and pause histograms: merged by adding bucket counts, read by quantile.

A percentile cannot be averaged over invocations; a histogram can be added. So the merged curve is the distribution of
all operations of all invocations, and the spread between invocations is shown beside it as a band.

Every quantile is the upper edge of its bucket, clipped to the largest value seen: an error is at most one bucket wide and
never flatters.
"""
from __future__ import annotations

import dataclasses
from typing import Any, Iterable

import numpy as np

from . import load


@dataclasses.dataclass(frozen=True)
class Histogram:
    lower: np.ndarray
    upper: np.ndarray
    count: np.ndarray
    largest: float

    @property
    def total(self) -> int:
        return int(self.count.sum())

    def quantiles(self, qs: np.ndarray) -> np.ndarray:
        """Values at quantiles in (0, 1). REQUIRES total > 0."""
        cumulative = np.cumsum(self.count)
        ranks = np.maximum(1, np.ceil(np.asarray(qs) * cumulative[-1] - 1e-9))
        index = np.searchsorted(cumulative, ranks, side="left")
        return np.minimum(self.upper[np.minimum(index, self.upper.size - 1)], self.largest)


def read(hist: dict[str, Any] | None) -> Histogram | None:
    """None when there is no histogram or nothing was recorded in it."""
    if hist is None:
        return None
    rows = [bucket for bucket in hist.get("buckets") or [] if bucket[2] > 0]
    if not rows:
        return None
    table = np.asarray(sorted(rows), dtype=float)
    largest = hist.get("max")
    # The clock does not resolve less than 1 ns, and a log axis has no zero: a bucket that ends below 1 is drawn at 1.
    upper = np.maximum(table[:, 1], 1.0)
    return Histogram(table[:, 0], upper, table[:, 2], max(1.0, float(largest if largest is not None else upper[-1])))


def merge(parts: Iterable[Histogram]) -> Histogram | None:
    """Adds counts of equal buckets. Buckets of one name have the same edges in every cell; foreign edges simply interleave."""
    parts = list(parts)
    if not parts:
        return None
    counts: dict[tuple[float, float], float] = {}
    for part in parts:
        for low, high, count in zip(part.lower, part.upper, part.count):
            counts[(low, high)] = counts.get((low, high), 0.0) + count
    edges = sorted(counts)
    return Histogram(np.array([low for low, _ in edges]), np.array([high for _, high in edges]),
                     np.array([counts[edge] for edge in edges]), max(part.largest for part in parts))


def of_cells(cells: Iterable[load.Cell], name: str) -> list[Histogram]:
    """One histogram per invocation that ended well and recorded something under this name."""
    found = []
    for cell in cells:
        if cell.record["status"] == "ok":
            hist = read(load.histogram(cell.record, name))
            if hist is not None:
                found.append(hist)
    return found
