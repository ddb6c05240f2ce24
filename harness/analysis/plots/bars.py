"""Bars by combination, a panel per workload: how fast (throughput) and how large (memory) is each of the combinations?

A bar is a geometric mean and never stands alone: its interval and every single invocation are drawn on it. Its colour is
the verdict against the baseline combination, so that a taller bar that is only luck stays grey. After a large drift within the run absolute values
mean nothing, and no bar is drawn.
A combination that failed keeps its place and shows a cross; leaving it out would flatter it.
"""
from __future__ import annotations

import math

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ..answers import Comparison
from ..stats import word
from ..study import Study
from .canvas import (BLACK, INK, VERDICT_HUE, VERMILLION, WIDTH, Drawing, NothingToDraw, host_words, n_words, strip, strip_legend,
                     unit_scale, varying_factors)

MANY = 24  # combinations beyond which a panel takes the whole width


def throughput(study: Study) -> Drawing:
    run = study.run
    return _draw(study, study.comparisons, None, "speed",
                 {work: (run.metrics[work].unit, run.metrics[work].better, run.metrics[work].name) for work in run.works},
                 "How fast is each combination on each workload?")


def memory(study: Study) -> Drawing:
    comparisons = study.compare("peak_rss", "size")
    return _draw(study, comparisons, "peak_rss", "size", {work: ("bytes", "lower", "peak_rss") for work in study.run.works},
                 "How much resident memory does each combination need at its peak?")


def _draw(study: Study, comparisons: list[Comparison], metric, kind, described, question) -> Drawing:
    run = study.run
    if not any(item.ok for item in comparisons):
        raise NothingToDraw(f"No invocation reported {metric or 'its headline metric'}, so there are no bars to draw.")
    if study.drifted and kind == "speed":
        raise NothingToDraw("The machine drifted too far within the run for absolute values to mean anything, so there are no bars to draw.")
    by_key = {(item.work, item.treatment): item for item in comparisons}
    of = {work: run.factors.of(work) for work in run.works}
    columns = 2 if len(run.works) > 1 and max(map(len, of.values())) <= MANY else 1
    rows = math.ceil(len(run.works) / columns)
    strip_height = 0.16 * len(varying_factors(run)) + 0.04
    panel_height = 1.25
    shades = strip_legend(run, run.treatments)
    widths = [7.5 * (4.2 + 0.60 * len(handle.get_label())) for handle in shades]  # points
    room = 9.6 * 72
    per_line = len(shades) if sum(widths) < room else max(1, int(room / max(widths)))
    shade_lines = math.ceil(len(shades) / per_line)
    foot = 0.46 + 0.16 * shade_lines
    height = rows * (panel_height + strip_height + 0.55) + foot + 0.13
    figure = plt.figure(figsize=(WIDTH, height))
    outer = figure.add_gridspec(rows, columns, left=0.115, right=0.99, top=1 - 0.28 / height, bottom=foot / height,
                                hspace=0.50 / (panel_height + strip_height), wspace=0.24)
    for index, work in enumerate(run.works):
        inner = outer[index // columns, index % columns].subgridspec(2, 1, height_ratios=[panel_height, strip_height], hspace=0.03)
        axes, under = figure.add_subplot(inner[0]), figure.add_subplot(inner[1])
        _panel(axes, study, [by_key.get((work, treatment)) for treatment in of[work]], work, metric, *described[work])
        strip(under, run, of[work])
        axes.set_xlim(-0.6, len(of[work]) - 0.4)
        under.set_xlim(-0.6, len(of[work]) - 0.4)
    words = ("larger", "smaller") if kind == "size" else ("slower", "faster")
    handles = [Patch(color=VERDICT_HUE["baseline"], label="baseline"), Patch(color=VERDICT_HUE[words[1]], label=words[1]),
               Patch(color=VERDICT_HUE[words[0]], label=words[0]), Patch(color=VERDICT_HUE["undecided"], label="equivalent, undecided or no verdict"),
               Line2D([], [], marker="o", linestyle="", markersize=3, markerfacecolor="white", markeredgecolor=INK, label="one invocation"),
               Line2D([], [], color=BLACK, linewidth=1, label=f"{100 * (1 - study.alpha):g} % interval, {n_words([item.ok for item in comparisons])}"),
               Line2D([], [], marker="x", linestyle="", color=VERMILLION, label="failed (some or all)")]
    figure.legend(handles=handles, loc="lower center", ncol=len(handles), bbox_to_anchor=(0.55, (foot - 0.38) / height), handlelength=1.2, columnspacing=1.6)
    figure.legend(handles=shades, loc="lower center", ncol=min(per_line, len(shades)), bbox_to_anchor=(0.55, 0.02 / height), handlelength=1.2,
                  columnspacing=1.6, fontsize=7.5, labelspacing=0.3)
    return Drawing(figure, _data(comparisons, run), _caption(study, comparisons, kind, question))


def _panel(axes, study: Study, items: list[Comparison | None], work: str, metric, unit: str, better: str, name: str) -> None:
    values = [[value for _, value in study.samples(work, item.treatment, metric)] if item else [] for item in items]
    largest = max((value for group in values for value in group), default=1.0)
    divisor, label = unit_scale(largest, unit)
    # An interval from two or three invocations can dwarf the data; the axis follows the points and the interval is cut.
    top = 1.12 * largest / divisor
    highs = [item.centre.high / divisor for item in items if item and item.centre and item.centre.high is not None]
    top = max([top] + [min(1.05 * high, 1.45 * largest / divisor) for high in highs])
    for x, (item, group) in enumerate(zip(items, values)):
        if item is None or (not group and not item.failed):
            axes.annotate("re-\nfused" if item and item.unsupported else "not\nrun", (x, 0), ha="center", va="bottom", fontsize=5.5, color="#777777", xytext=(0, 2), textcoords="offset points")
            continue
        if group:
            axes.bar(x, item.centre.mean / divisor, width=0.74, color=VERDICT_HUE[word(item.verdict)], alpha=0.85, linewidth=0)
            if item.centre.low is not None:
                axes.plot([x, x], [item.centre.low / divisor, min(item.centre.high / divisor, top)], color=BLACK, linewidth=1.0, zorder=3)
            spread = [x + 0.17 * (2 * i / max(1, len(group) - 1) - 1) if len(group) > 1 else x for i in range(len(group))]
            axes.plot(spread, [value / divisor for value in group], linestyle="", marker="o", markersize=2.6 if len(items) <= 48 else 1.6, markerfacecolor="white",
                      markeredgecolor=INK, markeredgewidth=0.6 if len(items) <= 48 else 0.4, zorder=4)
        if item.failed:
            axes.plot([x], [0.05 * top], marker="x", color=VERMILLION if not group else "white", markersize=5, markeredgewidth=1.6, zorder=5)
            if group:
                axes.plot([x], [0.05 * top], marker="x", color=VERMILLION, markersize=5, markeredgewidth=1.0, zorder=6)
    base = next((item for item in items if item and item.verdict == "baseline" and item.centre), None)
    if base:
        axes.axhline(base.centre.mean / divisor, color="#4D4D4D", linewidth=0.7, linestyle=(0, (4, 3)), zorder=2.5)
    axes.set_ylim(0, top)
    axes.set_title(work if name == "throughput" or metric else f"{work}: {name}")
    axes.set_ylabel(f"{label}\n({better} is better)", fontsize=7.5)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    axes.grid(axis="y")
    axes.locator_params(axis="y", nbins=5)


def _data(comparisons: list[Comparison], run) -> pd.DataFrame:
    rows = []
    for item in comparisons:
        centre, ratio = item.centre, item.ratio
        rows.append({"workload": item.work, **dict(zip(run.factors.names, item.treatment)), "metric": item.metric, "n": item.ok, "failed": item.failed, "unsupported": item.unsupported,
                     "geometric_mean": centre.mean if centre else None, "low": centre.low if centre else None, "high": centre.high if centre else None,
                     "median": centre.median if centre else None, "ratio": ratio.ratio if ratio else None, "ratio_low": ratio.low if ratio else None,
                     "ratio_high": ratio.high if ratio else None, "p": ratio.p if ratio else None, "verdict": item.verdict})
    return pd.DataFrame(rows)


def _caption(study: Study, comparisons: list[Comparison], kind: str, question: str) -> str:
    failed = sum(item.failed for item in comparisons)
    percent = f"{100 * (1 - study.alpha):g} %"
    return (f"{question} Bars: geometric means over process invocations; lines: {percent} t intervals on the log scale "
            f"(cut where they leave the panel); points: single invocations; dashed: the baseline combination. Colour: verdict on the "
            f"ratio to the baseline, read from an interval that holds for all combinations of the workload together. "
            f"{n_words([item.ok for item in comparisons])} per bar"
            + (f"; {failed} invocation{'s' if failed != 1 else ''} failed (crosses), and where one did there is no verdict" if failed else "")
            + f". {host_words(study.run)}")
