"""Run-sequence plot: did the machine change while it was measured?

Each invocation's deviation from the mean of its own cell, in execution order. Steady noise is what one hopes for; a slope
or a step means that the machine drifted. Because order is shuffled within blocks and ratios are formed within blocks, drift
widens intervals rather than moving ratios; this plot shows how much there was to protect against.
"""
from __future__ import annotations

import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from ..study import Study
from .canvas import BLUE, INK, VERMILLION, WIDTH, Drawing, NothingToDraw, host_words

MARKS = "osD^vP*Xh<>"


def draw(study: Study) -> Drawing:
    run = study.run
    residuals = study.residuals
    if not residuals:
        raise NothingToDraw("A deviation from a cell's own mean needs at least two blocks; this run has one value per cell.")
    percent = [100 * math.expm1(value) for _, value in residuals]
    limit = 1.15 * max(1.0, max(abs(value) for value in percent))
    height = 3.6
    figure = plt.figure(figsize=(WIDTH, height))
    axes = figure.add_axes([0.075, 1.12 / height, 0.91, 1 - 1.40 / height])
    for index, block in enumerate(run.blocks):
        seqs = [line["seq"] for line in run.plan if line["block"] == block]
        if index % 2 == 0:
            axes.axvspan(min(seqs) - 0.5, max(seqs) + 0.5, color="#F3F3F3", linewidth=0, zorder=0)
        if len(run.blocks) <= 20:
            axes.text((min(seqs) + max(seqs)) / 2, limit * 1.03, f"block {block}", ha="center", va="bottom", fontsize=8)
        inside = [(cell.seq, value) for (cell, _), value in zip(residuals, percent) if cell.block == block]
        if inside:
            axes.plot([min(seqs), max(seqs)], [np.median([value for _, value in inside])] * 2, color=INK, linewidth=1.8, zorder=4)
    axes.axhline(0, color="#999999", linewidth=0.8, zorder=1)
    palette = plt.get_cmap("cividis")(np.linspace(0.05, 0.92, max(2, len(run.works))))
    handles = []
    for index, work in enumerate(run.works):
        points = [(cell.seq, value) for (cell, _), value in zip(residuals, percent) if cell.work == work]
        if points:
            axes.plot(*zip(*points), linestyle="", marker=MARKS[index % len(MARKS)], markersize=3.4, color=palette[index], alpha=0.85, markeredgewidth=0, zorder=2)
            handles.append(Line2D([], [], linestyle="", marker=MARKS[index % len(MARKS)], markersize=4.5, color=palette[index], markeredgewidth=0, label=work))
    window = max(5, len(percent) // 24)
    if len(percent) >= 3 * window:
        rolling = pd.Series(percent).rolling(window, center=True).median()
        axes.plot([cell.seq for cell, _ in residuals], rolling, color=BLUE, linewidth=1.3, zorder=3)
        handles.append(Line2D([], [], color=BLUE, linewidth=1.3, label=f"running median of {window}"))
    handles.append(Line2D([], [], color=INK, linewidth=1.8, label="median of the block"))
    failed = [cell.seq for cell in run.failures]
    if failed:
        axes.plot(failed, [-limit * 0.95] * len(failed), linestyle="", marker="x", color=VERMILLION, markersize=4, zorder=3)
        handles.append(Line2D([], [], linestyle="", marker="x", color=VERMILLION, label="failed"))
    axes.set_xlim(-1, max(line["seq"] for line in run.plan) + 1)
    axes.set_ylim(-limit, limit)
    axes.set_xlabel("invocation, in execution order")
    axes.set_ylabel("speed against the\ncell's own mean (%)")
    axes.grid(axis="y")
    figure.legend(handles=handles, loc="lower center", ncol=6, bbox_to_anchor=(0.53, 0.01), columnspacing=1.6, handletextpad=0.5)
    data = pd.DataFrame([{"seq": cell.seq, "block": cell.block, "workload": cell.work, **dict(zip(run.factors.names, cell.treatment)), "value": cell.value,
                          "deviation_pct": value, "load1": (cell.record.get("noise") or {}).get("load1"),
                          "steal_pct": (cell.record.get("noise") or {}).get("steal_pct")} for (cell, _), value in zip(residuals, percent)])
    spread = float(np.std(percent, ddof=1)) if len(percent) > 1 else 0.0
    caption = (f"Did the machine drift during the run? Deviation of each invocation's headline metric from the mean of its own "
               f"cell, in execution order; up is faster. "
               f"Standard deviation {spread:.1f} %. No intervals: single observations, n = {len(percent)} invocations; none "
               f"removed. {drift_words(study)} {host_words(run)}")
    return Drawing(figure, data, caption)


def drift_words(study: Study) -> str:
    """The linear trend over the whole run in words, with its interval."""
    drift = study.drift
    if drift is None:
        return "No trend: too few invocations, or all deviations are equal."
    return (f"Linear trend of the speed from first to last invocation: x{drift.factor:.3f} [{drift.low:.3f}, {drift.high:.3f}], "
            + ("no clear drift." if drift.size == 1 else "the machine drifted."))
