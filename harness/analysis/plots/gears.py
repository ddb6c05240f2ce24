"""The headline: what does exchanging one level of a factor do to each workload, everything else being equal?

A forest plot. One panel per exchanged level, one row per workload, and the geometric means over the workloads of a class below. Each point
uses every matched pair in the run (the same block, the same levels of all other factors), so it is far sharper than a comparison of
two combinations. Intervals hold for all points together. Filled: the interval excludes 1; hollow: it does not.
"""
from __future__ import annotations

import math

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ..answers import Effect
from ..study import Study
from ..words import margin as equivalence
from .canvas import BLUE, GREY, INK, VERMILLION, WIDTH, Drawing, NothingToDraw, host_words, margin, ratio_ticks


def draw(study: Study) -> Drawing:
    run = study.run
    effects = [effect for effect in study.effects if effect.ratio is not None]
    groups: dict[tuple[str, str], list[Effect]] = {}
    for effect in effects:
        groups.setdefault((effect.factor, effect.level), []).append(effect)
    if not groups:
        raise NothingToDraw(f"No {run.factors.word} was run at two levels with matching partners, so there is no {run.factors.word} effect to show.")
    means = list(dict.fromkeys(effect.metric_class for effect in effects if not effect.work))
    rows = run.works + [(name, "all workloads" if len(study.classes) == 1 else f"all {name}") for name in means]
    columns = min(4, len(groups))
    lines = math.ceil(len(groups) / columns)
    left = margin(list(map(_label, rows)))
    room = (WIDTH * 0.99 - left) / columns * 72
    panel = 0.27 * (len(rows) + 1)
    height = lines * (panel + 0.75) + 0.5
    figure, grid = plt.subplots(lines, columns, figsize=(WIDTH, height), sharey=True, squeeze=False,
                                gridspec_kw={"left": left / WIDTH, "right": 0.99, "top": 1 - 0.28 / height, "bottom": 1.0 / height,
                                             "wspace": 0.08, "hspace": 0.75 / panel})
    for index, ((factor, level), members) in enumerate(groups.items()):
        _panel(grid[index // columns][index % columns], study, members, rows, f"{factor}: {level}", members[0].base, room)
    for index in range(len(groups), lines * columns):
        grid[index // columns][index % columns].set_visible(False)
    handles = [Line2D([], [], marker="o", color=BLUE, label="faster"), Line2D([], [], marker="o", color=VERMILLION, label="slower"),
               Line2D([], [], marker="o", color=GREY, markerfacecolor="white", label="undecided"),
               Line2D([], [], marker="s", color=GREY, markerfacecolor="white", label="equivalent"),
               Patch(color="#E4E4E4", label=f"equivalent: within {equivalence(study)}"),
               Line2D([], [], marker="D", color=INK, linestyle="", markersize=5, label="geometric mean of workloads")]
    if any(effect.failed for effect in effects):
        handles.insert(4, Line2D([], [], marker="x", color=VERMILLION, linestyle="", label="unreliable: some failed"))
    pairs = [effect.ratio.n for effect in effects if effect.work]
    n = f"n = {min(pairs)}" + (f" to {max(pairs)}" if max(pairs) != min(pairs) else "") + " blocks"
    handles.append(Line2D([], [], color=GREY, linewidth=1.6, label=f"{100 * (1 - study.alpha):g} % interval; {n}"))
    figure.legend(handles=handles, loc="lower center", ncol=4, bbox_to_anchor=(0.53, 0.02 / height), columnspacing=1.6, handletextpad=0.5)
    data = pd.DataFrame([{
        run.factors.word: effect.factor, "level": effect.level, "baseline_level": effect.base, "workload": effect.work or f"(geometric mean, {effect.metric_class})",
        "speed_ratio": effect.ratio.ratio, "low": effect.ratio.low, "high": effect.ratio.high, "p": effect.ratio.p,
        "blocks": effect.ratio.n, "contexts": effect.contexts, "interval": effect.ratio.method, "failed": effect.failed, "planned": effect.planned, "verdict": effect.verdict}
        for effect in effects])
    failures = "; crossed out: invocations with either level failed, and there is no verdict" if any(effect.failed for effect in effects) else ""
    methods = sorted({effect.ratio.method for effect in effects})
    caption = (f"What does exchanging one {run.factors.word} do, all else matched? Speed ratio of the named level to the baseline level; "
               f"right of 1 is better "
               f"whatever the metric; each panel has its own scale. Points: geometric means of matched ratios; lines: "
               f"{100 * (1 - study.alpha):g} % intervals ({', '.join(methods)}). "
               f"Filled: the interval excludes 1{failures}. {n}. {host_words(run)}")
    return Drawing(figure, data, caption, f"What each {run.factors.word} does")


def _panel(axes, study: Study, members: list[Effect], rows, title: str, base: str, room: float) -> None:
    rope = study.rope_pct / 100
    axes.axvspan(1 / (1 + rope), 1 + rope, color="#E4E4E4", linewidth=0, zorder=0)
    axes.axvline(1, color="#777777", linewidth=0.8, zorder=1)
    extent = [1 / (1 + 3 * rope), 1 + 3 * rope]
    for effect in members:
        ratio = effect.ratio
        extent += [ratio.ratio] + ([max(ratio.low, ratio.ratio / 3), min(ratio.high, ratio.ratio * 3)] if ratio.low is not None else [])
    low, high = min(extent), max(extent)
    margin = (high / low) ** 0.06
    low, high = low / margin, high * margin
    for effect in members:
        y, ratio = _place(rows, effect), effect.ratio
        y += 0.35 if effect.work is None else 0
        hue = {"faster": BLUE, "slower": VERMILLION}.get(effect.verdict, GREY)
        if effect.failed:
            axes.plot([ratio.ratio], [y], marker="x", color=VERMILLION, markersize=7, markeredgewidth=1.4, linestyle="", zorder=4)
        if ratio.low is not None:
            axes.plot([max(ratio.low, low), min(ratio.high, high)], [y, y], color=hue, linewidth=1.6, solid_capstyle="butt", zorder=2)
        marker = "D" if effect.work is None else "s" if effect.verdict == "equivalent" else "o"
        axes.plot([ratio.ratio], [y], marker=marker, color=hue, markersize=5, markeredgewidth=1.2,
                  markerfacecolor=hue if hue != GREY else "white", zorder=3)
    present = {_place(rows, effect) for effect in members}
    for y in range(len(rows)):
        if y not in present:
            silent = isinstance(rows[y], str) and not study.varies(rows[y], members[0].factor)
            axes.text(0.5, y, "not varied" if silent else "no matched pair", fontsize=6.5, color="#777777", ha="center", va="center",
                      transform=axes.get_yaxis_transform(), bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0})
    works = [row for row in rows if isinstance(row, str)]
    if len(works) < len(rows):
        axes.axhline(len(works) - 0.35, color="#BBBBBB", linewidth=0.7)
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    ratio_ticks(axes.xaxis, low, high)
    axes.set_ylim(len(rows) - 0.2, -0.6)
    axes.set_yticks([y + (0.35 if y >= len(works) else 0) for y in range(len(rows))], list(map(_label, rows)))
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    axes.set_title(title, pad=4, fontsize=min(9.5, max(5.5, room / (0.68 * len(title)))))
    words = f"speed relative to {base}"
    axes.set_xlabel(words, fontsize=min(8.5, max(5.5, room / (0.60 * len(words)))))


def _label(row) -> str:
    return row if isinstance(row, str) else row[1]


def _place(rows, effect: Effect) -> int:
    return next(y for y, row in enumerate(rows) if (row == effect.work if isinstance(row, str) else not effect.work and row[0] == effect.metric_class))
