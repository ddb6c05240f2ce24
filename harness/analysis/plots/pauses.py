"""GC pauses: how long does the world stand still, per collector and workload?

Half-violins on a log axis, drawn from merged histograms. Pauses of all combinations with the same collector are put
together, since the collector makes them; how far the p99 of single combinations lie apart is computed and said in the caption,
so that a reader sees what the merging hides. The median, p99 and the longest pause are marked, because the shape alone hides the one number that a user of the system feels.
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
from .canvas import INK, WIDTH, Drawing, NothingToDraw, host_words, margin, shade
from .latency import _duration_axis

QUANTILES = (0.5, 0.9, 0.99, 0.999)


def draw(study: Study) -> Drawing:
    run = study.run
    place = run.factors.names.index("collector")
    collectors = run.levels["collector"]
    merged, invocations, apart = {}, {}, {}
    for work in run.works:
        for collector in collectors:
            parts = histogram.of_cells((cell for cell in run.of(work) if cell.treatment[place] == collector), "gc_pause")
            invocations[(work, collector)] = len(parts)
            apart[(work, collector)] = _apart([cell for cell in run.of(work) if cell.treatment[place] == collector])
            if parts:
                merged[(work, collector)] = histogram.merge(parts)
    if not merged:
        raise NothingToDraw("No invocation recorded a garbage collection pause.")
    works = [work for work in run.works if any((work, collector) in merged for collector in collectors)]
    row = 0.34 * len(collectors) + 0.12
    height = row * len(works) + 1.05
    figure = plt.figure(figsize=(WIDTH, height))
    names, levels = margin(works, 8.5) + 0.15, margin(collectors)
    left = (names + levels) / WIDTH
    width = 0.985 - 2.1 / WIDTH - left
    axes = figure.add_axes([left, 0.78 / height, width, 1 - 0.93 / height])
    low = min(hist.quantiles(np.array([1e-9]))[0] for hist in merged.values())
    high = max(hist.largest for hist in merged.values())
    grid = np.linspace(math.log(low) - 0.4, math.log(high) + 0.4, 400)
    ticks, data, y = [], [], 0.0
    for index, work in enumerate(works):
        if index % 2:
            axes.axhspan(y - 0.62, y + len(collectors) - 0.38, color="#F5F5F5", linewidth=0, zorder=0)
        axes.text(-(left - 0.01) / width, y + (len(collectors) - 1) / 2, work, transform=axes.get_yaxis_transform(), va="center", ha="left", fontweight="bold", fontsize=8.5)
        for collector in collectors:
            ticks.append((y, collector))
            _row(axes, merged.get((work, collector)), y, shade(run, "collector", collector), grid)
            hist = merged.get((work, collector))
            record = {"workload": work, "collector": collector, "invocations": invocations[(work, collector)], "pauses": hist.total if hist else 0}
            record["p99_largest_over_smallest_combination"] = apart[(work, collector)]
            if hist:
                record.update({f"p{100 * q:g}_ns": value for q, value in zip(QUANTILES, hist.quantiles(np.array(QUANTILES)))}, max_ns=hist.largest)
            data.append(record)
            y += 1
        y += 0.25
    axes.text(1.02, -0.78, "median, p99, pauses", transform=axes.get_yaxis_transform(), va="center", fontsize=7.5, color="#666666", style="italic")
    axes.set_xscale("log")
    axes.set_xlim(math.exp(grid[0]), math.exp(grid[-1]))
    axes.set_ylim(y - 0.6, -1.0)
    axes.set_yticks([tick for tick, _ in ticks], [label for _, label in ticks])
    axes.tick_params(axis="y", length=0)
    _duration_axis(axes.xaxis, *axes.get_xlim())
    axes.grid(axis="x")
    axes.set_xlabel("length of a stop-the-world pause")
    axes.spines["left"].set_visible(False)
    figure.legend(handles=[Line2D([], [], marker="|", color=INK, linestyle="", markersize=9, markeredgewidth=2, label="median"),
                           Line2D([], [], marker="D", color=INK, linestyle="", markersize=4.5, label="p99"),
                           Line2D([], [], marker=4, color=INK, linestyle="", markersize=5, label="longest")],
                  loc="lower center", ncol=3, bbox_to_anchor=(0.5, 0.01 / height))
    counts = [hist.total for hist in merged.values()]
    caption = ("How long does the world stand still? Distribution of stop-the-world pauses (log axis) for each collector and "
               "workload, histograms merged over "
               f"all combinations and invocations with that collector. Text: median, p99, number of pauses (between "
               f"{min(counts):,} and {max(counts):,}). Shapes have equal "
               f"height; they show where pauses lie, not how many there are. Marks are quantiles of the merged data; no "
               f"interval is shown. {_apart_words(apart)}{host_words(run)}")
    return Drawing(figure, pd.DataFrame(data), caption)


def _apart(cells) -> float | None:
    """The largest p99 of the combinations over the smallest, or None when fewer than two of them paused a hundred times."""
    found = []
    for treatment in {cell.treatment for cell in cells}:
        hist = histogram.merge(histogram.of_cells((cell for cell in cells if cell.treatment == treatment), "gc_pause"))
        if hist is not None and hist.total >= 100:
            found.append(float(hist.quantiles(np.array([0.99]))[0]))
    return max(found) / min(found) if len(found) > 1 else None


def _apart_words(apart: dict) -> str:
    known = {key: value for key, value in apart.items() if value is not None}
    if not known:
        return "Too few pauses per combination to say how much the other gears move them. "
    (work, collector), worst = max(known.items(), key=lambda item: item[1])
    return f"With the same collector and workload, p99 differs between combinations by up to a factor of {worst:.2g} ({collector} on {work}). "


def _row(axes, hist, y: float, hue, grid: np.ndarray) -> None:
    if hist is None:
        axes.text(0.5, y, "no pauses recorded", transform=axes.get_yaxis_transform(), ha="center", va="center", fontsize=7, color="#777777")
        return
    centres = (np.log(np.maximum(hist.lower, 1e-9)) + np.log(hist.upper)) / 2
    centres = np.maximum(centres, grid[0])
    widths = np.maximum(np.log(hist.upper) - np.log(np.maximum(hist.lower, hist.upper / 2)), 0.06)
    # Each bucket becomes a bell about as wide as itself: finer would show the bucket edges, coarser would hide modes.
    density = ((hist.count / widths) * np.exp(-0.5 * ((grid[:, None] - centres) / widths) ** 2)).sum(axis=1)
    density *= 0.85 / density.max()
    axes.fill_between(np.exp(grid), y + 0.38, y + 0.38 - density, where=density > 0.004, color=hue, linewidth=0.6, edgecolor="#666666", zorder=2)
    median, p99 = hist.quantiles(np.array([0.5, 0.99]))
    axes.plot([median, median], [y + 0.02, y + 0.38], color=INK, linewidth=2, zorder=3)
    axes.plot([p99], [y + 0.2], marker="D", color=INK, markersize=4.2, zorder=3)
    axes.plot([hist.largest], [y + 0.2], marker=4, color=INK, markersize=5, zorder=3)
    axes.text(1.02, y + 0.1, f"{duration(median)}, {duration(p99)}, {hist.total:,}", transform=axes.get_yaxis_transform(), va="center", fontsize=7.5)
