"""Latency percentiles on a log-nines axis: how bad is it for the unlucky operation, and who is to blame?

Each nine gets the same width, so the tail that averages hide takes up most of the picture. Sixteen curves with sixteen
bands would be a carpet; so every combination is a thin line in its collector's hue, and three stand out with their
band: the baseline, the best and the worst at p99, or where fewer than ten operations lie beyond that, at p90. The band runs from the smallest to the largest invocation.

A curve ends where fewer than ten operations lie beyond it: further right it would show single events as if they were rates.
"""
from __future__ import annotations

import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from .. import histogram
from ..format import duration
from ..study import Study
from .canvas import BLACK, BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILLION, WIDTH, Drawing, NothingToDraw, host_words, n_words

SUPPORT = 10  # operations that must lie beyond the last quantile drawn
COLLECTORS = ["#ABABAB", GREEN, PURPLE, ORANGE, SKY]  # black, blue and vermillion belong to the three thick lines
NINES = [(0.0, "0"), (0.5, "50"), (0.9, "90"), (0.99, "99"), (0.999, "99.9"), (0.9999, "99.99"), (0.99999, "99.999"), (0.999999, "99.9999")]


def draw(study: Study) -> Drawing:
    run = study.run
    found = {}
    for work in run.works:
        for treatment in run.factors.planned[work]:
            parts = histogram.of_cells(study.cells(work, treatment), "latency")
            if parts:
                found[(work, treatment)] = parts
    works = [work for work in run.works if any(key[0] == work for key in found)]
    if not works:
        raise NothingToDraw("No workload of this run recorded a latency histogram.")
    columns = 2 if len(works) > 1 else 1
    rows = math.ceil(len(works) / columns)
    height = rows * 3.55 + 0.45
    figure, grid = plt.subplots(rows, columns, figsize=(WIDTH, height), squeeze=False,
                                gridspec_kw={"left": 0.075, "right": 0.99, "top": 1 - 0.3 / height, "bottom": 1.35 / height, "wspace": 0.16, "hspace": 0.62})
    data = []
    for index, work in enumerate(works):
        _panel(grid[index // columns][index % columns], study, work, {treatment: parts for (name, treatment), parts in found.items() if name == work}, data)
    for index in range(len(works), rows * columns):
        grid[index // columns][index % columns].set_visible(False)
    names = run.levels["collector"]
    figure.legend(handles=[Line2D([], [], color=_hue(run, name), linewidth=1.6, label=f"collector {name}") for name in names],
                  loc="lower center", ncol=min(6, len(names)), bbox_to_anchor=(0.5, 0.02 / height))
    caption = ("How is latency distributed, far into the tail? Percentiles on a log-nines axis, histograms merged over "
               "invocations. Thin lines: every "
               "combination; thick: the baseline, and the best and the worst of the others at p99 (earlier where fewer operations were timed), with a band from the "
               "smallest to the largest invocation "
               f"(a range, not a confidence interval). Curves end where fewer than {SUPPORT} operations lie beyond. "
               f"{n_words([len(parts) for parts in found.values()])} per curve. {host_words(run)}")
    return Drawing(figure, pd.DataFrame(data), caption)


def _hue(run, name: str):
    """Thin lines in shades of one hue cannot be told apart, so here collectors get hues of their own."""
    names = run.levels["collector"]
    return COLLECTORS[names.index(name) % len(COLLECTORS)]


def _panel(axes, study: Study, work: str, parts: dict, data: list) -> None:
    run = study.run
    baseline, collector = study.baseline(work), run.factors.names.index("collector")
    merged = {treatment: histogram.merge(hists) for treatment, hists in parts.items()}
    deepest = max(hist.total for hist in merged.values())
    end = max(0.99, 1 - SUPPORT / deepest) if deepest > SUPPORT else 0.9
    # Best and worst are told apart where every curve still has something to stand on: at p99, or earlier.
    least = min(hist.total for hist in merged.values())
    star, star_name = max(((q, label) for q, label in NINES if 0.5 <= q <= max(0.5, min(0.99, 1 - SUPPORT / least))), default=(0.5, "50"))
    at_star = {treatment: float(hist.quantiles(np.array([star]))[0]) for treatment, hist in merged.items()}
    others = sorted((treatment for treatment in merged if treatment != baseline), key=lambda treatment: at_star[treatment])
    stars = [(others[-1], VERMILLION)] if others else []
    stars += [(baseline, BLACK)] if baseline in merged else []
    stars += [(others[0], BLUE)] if len(others) > 1 else []
    for treatment, hist in merged.items():
        qs, values = _curve(hist)
        axes.plot(1 / (1 - qs), values, color=_hue(run, treatment[collector]), linewidth=0.8, alpha=0.9, zorder=1)
        singles = [single.quantiles(qs) for single in parts[treatment]]
        low, high = np.min(singles, axis=0), np.max(singles, axis=0)
        for q, value, a, b in zip(qs, values, low, high):
            data.append({"workload": work, **dict(zip(run.factors.names, treatment)), "percentile": round(100 * q, 7), "latency_ns": value,
                         "invocation_min_ns": a, "invocation_max_ns": b, "operations": hist.total, "invocations": len(singles)})
    handles = []
    for treatment, hue in stars:
        qs, values = _curve(merged[treatment])
        singles = [single.quantiles(qs) for single in parts[treatment]]
        axes.fill_between(1 / (1 - qs), np.min(singles, axis=0), np.max(singles, axis=0), color=hue, alpha=0.16, linewidth=0, zorder=2)
        line, = axes.plot(1 / (1 - qs), values, color=hue, linewidth=1.8, zorder=4)
        role = "baseline" if treatment == baseline else f"worst at p{star_name}" if hue == VERMILLION else f"best at p{star_name}"
        name = "" if treatment == baseline else f": {run.short(treatment)}"
        handles.append((line, f"{role} ({duration(at_star[treatment])}){name}"))
    axes.set_xscale("log")
    axes.set_yscale("log")
    ticks = [(1 / (1 - q), label) for q, label in NINES if q <= end]
    axes.set_xticks([x for x, _ in ticks], [label for _, label in ticks])
    axes.minorticks_off()
    axes.set_xlim(1, 1 / (1 - end))
    _duration_axis(axes.yaxis, *axes.get_ylim())
    axes.grid(True)
    axes.set_title(work)
    axes.set_xlabel("percentile of operations")
    axes.set_ylabel("latency")
    axes.legend([line for line, _ in handles], [label for _, label in handles], loc="upper left", bbox_to_anchor=(0, -0.17), borderaxespad=0.2, labelspacing=0.25)


def _curve(hist: histogram.Histogram) -> tuple[np.ndarray, np.ndarray]:
    end = 1 - SUPPORT / hist.total if hist.total > 2 * SUPPORT else 0.5
    steps = max(2, int(24 * math.log10(1 / (1 - end))) + 1)
    # Rounded, or a last bit that differs between processors would change the bytes of the figure.
    qs = np.round(1 - np.logspace(0, math.log10(1 - end), steps), 9)
    qs = np.unique(np.clip(np.append(qs, [q for q, _ in NINES if 0 < q <= end]), 0.0, end))
    return qs, hist.quantiles(qs)


def _duration_axis(axis, low: float, high: float) -> None:
    from matplotlib.ticker import FixedLocator, NullLocator
    decades = [10.0**power for power in range(math.floor(math.log10(max(low, 1e-3))), math.ceil(math.log10(high)) + 1)]
    steps = (1,) if high / low > 3000 else (1, 3) if high / low > 30 else (1, 2, 5)
    axis.set_major_locator(FixedLocator([decade * step for decade in decades for step in steps if low <= decade * step <= high]))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda value, _: duration(value))
