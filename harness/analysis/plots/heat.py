"""Heat maps: do the factors compose, and which combination is fast overall?

interaction  If factors compose, exchanging two of them multiplies their separate effects. Each cell is the measured speed over
             that prediction (effect coding: row, column and grand mean on the log scale). 1 is "they compose". A cell whose
             contrast has an interval that holds 1 is hatched: its colour is not to be believed.
             Scheduler and collector where both vary, or else the first two factors that do.
pairs        The same question for all pairs of factors at once: the strongest interaction of each pair on each workload.
overview     Geometric mean over the workloads of a class of the speed relative to the baseline combination, a panel per class.

Colours are centred on 1 and symmetric on the log scale, blue better, orange worse.
"""
from __future__ import annotations

import itertools
import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Rectangle

from ..load import GEARS
from ..study import Study
from ..treatments import kind
from ..words import join
from .canvas import INK, WIDTH, Drawing, NothingToDraw, folded, host_words, margin, varying_factors

DIVERGING = LinearSegmentedColormap.from_list("gearbox", ["#B04A00", "#E8A56B", "#F7F7F7", "#7FB5D9", "#00598F"])
FIRST_CHOICE = ("scheduler", "collector")


def _hue(ratio: float, limit: float):
    return DIVERGING(0.5 + 0.5 * max(-1.0, min(1.0, math.log(ratio) / limit)))


def _ink(ratio: float, limit: float) -> str:
    return "white" if abs(math.log(ratio)) > 0.72 * limit else INK


def _cell(axes, x: float, y: float, ratio: float | None, limit: float, text: str, hatched: bool, fontsize: float = 8) -> None:
    face = "#FFFFFF" if ratio is None else _hue(ratio, limit)
    axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=face, edgecolor="white" if ratio is not None else "#D8D8D8",
                             linewidth=1.5 if ratio is not None else 0.7))
    if hatched:
        axes.add_patch(Rectangle((x - 0.48, y - 0.48), 0.96, 0.96, facecolor="none", edgecolor="#BBBBBB", hatch="////", linewidth=0))
    box = {"facecolor": face, "edgecolor": "none", "pad": 1.2} if hatched else None
    axes.text(x, y, text, ha="center", va="center", fontsize=fontsize, color=INK if ratio is None else _ink(ratio, limit), bbox=box)


def _frame(axes, columns, rows, title: str, fontsize: float = 8) -> None:
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xticks(range(len(columns)), columns, fontsize=fontsize)
    axes.set_yticks(range(len(rows)), rows, fontsize=fontsize)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_title(title)


def _bar(figure, rect, limit: float, label: str) -> None:
    axes = figure.add_axes(rect)
    axes.imshow(np.linspace(0, 1, 256)[None, :], aspect="auto", cmap=DIVERGING, extent=[-limit, limit, 0, 1])
    ticks = [math.exp(-limit), math.exp(-limit / 2), 1, math.exp(limit / 2), math.exp(limit)]
    axes.set_xticks([math.log(tick) for tick in ticks], [f"{tick:.2f}" for tick in ticks], fontsize=7.5)
    axes.set_yticks([])
    axes.set_xlabel(label, fontsize=8)


def interaction(study: Study) -> Drawing:
    run = study.run
    varying = [factor for factor in run.factors.names if len(run.levels[factor]) > 1]
    if len(varying) < 2:
        raise NothingToDraw(f"An interaction needs two {run.factors.word}s with at least two levels each.")
    pair = FIRST_CHOICE if set(FIRST_CHOICE) <= set(varying) else (varying[0], varying[1])
    rows, columns = (run.levels[factor] for factor in pair)
    contrasts = {(item.work, item.levels): item for item in study.interactions if item.factors == pair}
    panels, data = [], []
    for work in run.works:
        residuals = _residuals(study, work, pair)
        if residuals is None:
            continue
        panels.append((work, residuals))
        for (row, column), value in residuals.items():
            contrast = _strongest(contrasts, work, row, column, rows, columns)
            ratio = contrast.ratio if contrast else None
            data.append({"workload": work, pair[0]: row, pair[1]: column, "ratio_to_prediction": math.exp(value),
                         "contrast": ratio.ratio if ratio else None, "contrast_low": ratio.low if ratio else None,
                         "contrast_high": ratio.high if ratio else None, "p": ratio.p if ratio else None,
                         "significant": bool(contrast and contrast.significant)})
    if not panels:
        raise NothingToDraw(f"No workload has a value for every combination of {join(list(map(kind, pair)))}, so no interaction can be computed.")
    limit = max(0.02, max(abs(value) for _, residuals in panels for value in residuals.values()))
    across = min(4, len(panels)) if len(columns) <= 3 else 2
    lines = math.ceil(len(panels) / across)
    cell = 0.52
    height = lines * (cell * len(rows) + 0.98) + 0.85
    full = 4 if len(columns) <= 3 else 2
    left = margin(rows) / WIDTH
    right = left + (0.99 - left) * (max(2, across) if full == 4 else across) / full
    figure, grid = plt.subplots(lines, across, figsize=(WIDTH, height), squeeze=False, sharey=True,
                                gridspec_kw={"left": left, "right": right, "top": 1 - 0.28 / height, "bottom": 1.42 / height, "wspace": 0.10,
                                             "hspace": 0.98 / (cell * len(rows))})
    for index, (work, residuals) in enumerate(panels):
        axes = grid[index // across][index % across]
        for (y, row), (x, column) in itertools.product(enumerate(rows), enumerate(columns)):
            contrast = _strongest(contrasts, work, row, column, rows, columns)
            value = math.exp(residuals[(row, column)])
            _cell(axes, x, y, value, limit, f"×{value:.3f}", not (contrast and contrast.significant), 8.5)
        _frame(axes, [folded(column, 12 if len(columns) > 3 else 14) for column in columns], rows, work)
        if (len(rows), len(columns)) == (2, 2):
            contrast = contrasts.get((work, (rows[1], columns[1])))
            ratio = contrast.ratio if contrast else None
            words = "no interval: too few blocks"
            if ratio is not None and ratio.low is not None:
                words = f"contrast ×{ratio.ratio:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]"
            axes.set_xlabel(words, fontsize=7.5)
    for index in range(len(panels), lines * across):
        grid[index // across][index % across].set_visible(False)
    _bar(figure, [0.32, 0.52 / height, 0.36, 0.14 / height], limit, "speed relative to the product of the separate effects")
    pairs = [item.ratio.n for item in contrasts.values() if item.work and item.ratio]
    names = join(list(map(kind, pair)))
    caption = (f"Do {names} compose? Measured speed over the multiplicative prediction from row, column and grand "
               f"mean (log scale). "
               f"Hatched: the interval of the contrast holds 1, or invocations failed. The contrast, with its "
               f"{100 * (1 - study.alpha):g} % interval, simultaneous over all interactions of the run, compares both exchanged at once with the product of the two single "
               f"exchanges, matched by block and by the other {'two gears' if run.factors.word == 'gear' else 'factors'}. "
               f"n = {min(pairs) if pairs else 0} to {max(pairs) if pairs else 0} blocks per workload. {host_words(run)}")
    return Drawing(figure, pd.DataFrame(data), caption, f"Do {names} compose?")


def _strongest(contrasts, work, row, column, rows, columns):
    """The contrast a cell takes part in; a baseline row or column takes part in several, and then the clearest counts."""
    taking_part = [contrasts[(work, (r, c))] for r in rows[1:] for c in columns[1:] if (work, (r, c)) in contrasts
                   and (row == r or row == rows[0]) and (column == c or column == columns[0])]
    taking_part = [item for item in taking_part if item.ratio is not None]
    return min(taking_part, key=_p, default=None)


def _p(item) -> float:
    return item.ratio.p if item.ratio.p is not None else 2.0


def _residuals(study: Study, work: str, pair: tuple[str, str]) -> dict[tuple[str, str], float] | None:
    """Interaction residuals of cell means over contexts and blocks in which the whole table is present."""
    factors = study.run.factors
    rows, columns = (factors.levels[factor] for factor in pair)
    places = [factors.names.index(factor) for factor in pair]
    tables = []
    for corner in factors.planned[work]:
        if tuple(corner[place] for place in places) != (rows[0], columns[0]):
            continue
        cells = {(row, column): factors.partner(work, corner, dict(zip(pair, (row, column)))) for row, column in itertools.product(rows, columns)}
        if None in cells.values():
            continue
        values = {key: study.values(work, treatment) for key, treatment in cells.items()}
        for block in sorted(set.intersection(*(set(by_block) for by_block in values.values()))):
            tables.append(np.array([[study.sign(work) * math.log(values[(row, column)][block]) for column in columns] for row in rows]))
    if not tables:
        return None
    mean = np.mean(tables, axis=0)
    residual = mean - mean.mean(axis=1, keepdims=True) - mean.mean(axis=0, keepdims=True) + mean.mean()
    return {(row, column): float(residual[y, x]) for (y, row), (x, column) in itertools.product(enumerate(rows), enumerate(columns))}


def pairs(study: Study) -> Drawing:
    run = study.run
    tested = list(dict.fromkeys(item.factors for item in study.interactions if item.ratio))
    if not tested:
        raise NothingToDraw(f"Interactions need two {run.factors.word}s with two levels each, run in matching cells.")
    means = list(dict.fromkeys(item.metric_class for item in study.interactions if not item.work and item.ratio))
    labels = {work: work for work in run.works} | {(name,): "all workloads" if len(study.classes) == 1 else f"all {name}" for name in means}
    rows = list(labels)
    best = {}
    for item in study.interactions:
        if item.ratio is None:
            continue
        key = (item.work or (item.metric_class,), item.factors)
        rank = (_p(item), -abs(math.log(item.ratio.ratio)))
        if key not in best or rank < best[key][0]:
            best[key] = (rank, item)
    limit = max(0.02, max(abs(math.log(item.ratio.ratio)) for _, item in best.values()))
    height = 0.36 * len(rows) + 1.45
    figure = plt.figure(figsize=(WIDTH, height))
    left = margin(list(labels.values())) / WIDTH
    axes = figure.add_axes([left, 0.98 / height, 0.985 - left, 1 - 1.06 / height])
    data = []
    several = any(len(levels) > 2 for levels in run.levels.values())
    for y, work in enumerate(rows):
        for x, pair in enumerate(tested):
            if (work, pair) not in best:
                _cell(axes, x, y, None, limit, "no matched cells" if len(tested) <= 8 else "–", False, 7)
                continue
            item = best[(work, pair)][1]
            names = f"{item.levels[0]}, {item.levels[1]}"
            fits = int(170 / len(tested))  # characters at this size across one column
            text = f"×{item.ratio.ratio:.3f}" + (f"\n{names if len(names) <= fits else names[:fits - 1] + '…'}" if several else "")
            _cell(axes, x, y, item.ratio.ratio, limit, text, not item.significant, 6.5 if several else 8)
            data.append({"workload": work if isinstance(work, str) else f"(geometric mean, {work[0]})", f"{run.factors.word}s": " x ".join(pair), "levels": " + ".join(item.levels), "contrast": item.ratio.ratio,
                         "low": item.ratio.low, "high": item.ratio.high, "p": item.ratio.p, "significant": item.significant, "blocks": item.ratio.n})
    fits = 900 / len(tested) / max(len(run.factors.title(factor)) + 2 for pair in tested for factor in pair)  # points for a character
    _frame(axes, [" ×\n".join(map(run.factors.title, pair)) for pair in tested], list(labels.values()), "", max(4.5, min(8, fits / 0.65)))
    _bar(figure, [0.36, 0.40 / height, 0.36, 0.12 / height], limit, "interaction contrast (speed ratio)")
    caption = (f"Which pairs of {run.factors.word}s do not compose? Speed with both {run.factors.word}s exchanged over the product of the two single "
               "exchanges, matched by block and by the "
               f"other {'two gears' if run.factors.word == 'gear' else 'factors'}" + (", the clearest pair of levels per cell" if several else "") + ". Hatched: the interval holds 1, or invocations failed. Intervals are in the CSV. "
               f"n = {min(row['blocks'] for row in data)} to {max(row['blocks'] for row in data)} blocks. {host_words(run)}")
    return Drawing(figure, pd.DataFrame(data), caption, f"All pairs of {run.factors.word}s")


def overview(study: Study) -> Drawing:
    run = study.run
    classes = {name: ratios for name, ratios in study.overall.items() if any(ratio is not None for ratio in ratios.values())}
    if not classes:
        raise NothingToDraw("No combination could be matched with the baseline combination, so there is no relative speed to show.")
    # Half of the factors make the rows and half the columns: a table of combinations without a single diagonal label.
    shown = list(run.factors.names) if run.factors.word == "gear" else varying_factors(run)
    half = (len(shown) + 1) // 2
    place = {tuple(treatment[run.factors.names.index(factor)] for factor in shown): treatment for treatment in run.factors.shared}
    row_keys, column_keys = _keys(run, shown[:half], {key[:half] for key in place}), _keys(run, shown[half:], {key[half:] for key in place})
    limit = max(0.02, max(abs(math.log(ratio.ratio)) for ratios in classes.values() for ratio in ratios.values() if ratio is not None))
    column_names = ["\n".join(folded(level, max(10, 120 // len(column_keys))) for level in _named(run, shown[half:], key)) for key in column_keys]
    row_names = ["\n".join(_named(run, shown[:half], key)) for key in row_keys]
    names = 0.3 + 0.14 * max(name.count("\n") + 1 for name in column_names)
    panel, head, foot = 0.5 * len(row_keys), 0.25 if len(study.classes) > 1 else 0.08, 0.55
    height = len(classes) * (panel + head + names) + foot
    figure = plt.figure(figsize=(WIDTH, height))
    left = margin(row_names) / WIDTH
    data: list[dict] = []
    for index, (name, ratios) in enumerate(classes.items()):
        works = study.classes[name]
        axes = figure.add_axes([left, 1 - (index * (panel + head + names) + head + panel) / height, 0.985 - left, panel / height])
        for (y, row), (x, column) in itertools.product(enumerate(row_keys), enumerate(column_keys)):
            _overview_cell(study, axes, (x, y), place.get(row + column), ratios, limit, len(column_keys))
        data += [{"class": name, **dict(zip(run.factors.names, treatment)), "speed_ratio": ratio.ratio, "low": ratio.low, "high": ratio.high, "blocks": ratio.n,
                  "workloads": len(works), "failed": study.shared_failed(treatment, works)[0]} for treatment, ratio in ratios.items() if ratio is not None]
        title = "" if len(study.classes) == 1 else f"{name}: {', '.join(works)}"
        _frame(axes, column_names, row_names, title if len(title) < 120 else f"{name}: {len(works)} workloads", 8 if len(column_keys) <= 10 else 6.5)
    _bar(figure, [0.375, 0.42 / height, 0.36, 0.12 / height], limit, "speed relative to the baseline combination")
    spoilt = " White: invocations failed, so no ratio is shown." if any(row["failed"] for row in data) else ""
    coverage = join([f"{len(study.classes[name])} {name} workload{'s' if len(study.classes[name]) != 1 else ''}" for name in classes])
    caption = (f"How fast is each combination overall? Geometric mean of the speed ratios to the baseline combination over {coverage}, "
               f"each workload weighing the same, with "
               f"{100 * (1 - study.alpha):g} % intervals that hold for all combinations together. Rows: {join(list(map(kind, shown[:half])))}; "
               f"columns: {join(list(map(kind, shown[half:]))) or 'none'}. "
               f"Hatched: the interval contains 1.{spoilt} n = {min(row['blocks'] for row in data)} to "
               f"{max(row['blocks'] for row in data)} blocks. {host_words(run)}")
    return Drawing(figure, pd.DataFrame(data), caption)


def _overview_cell(study: Study, axes, at: tuple[int, int], treatment, ratios, limit: float, columns: int) -> None:
    x, y = at
    ratio = ratios.get(treatment)
    if treatment is not None and study.run.factors.is_baseline(treatment):
        _cell(axes, x, y, 1.0, limit, "baseline", False, 8)
    elif ratio is None:
        _cell(axes, x, y, None, limit, "no matched pair" if treatment is not None else "not in this run", False, 7)
    else:
        failed, planned = study.shared_failed(treatment)
        size = 8 if columns <= 12 else 6
        interval = f"\n[{ratio.low:.3f}, {ratio.high:.3f}]" if ratio.low is not None and columns <= 12 else ""
        if failed:
            _cell(axes, x, y, None, limit, f"unreliable:\n{failed} of {planned} failed", False, size - 1)
        else:
            _cell(axes, x, y, ratio.ratio, limit, f"×{ratio.ratio:.3f}{interval}", ratio.low is None or ratio.low <= 1 <= ratio.high, size)


def _keys(run, factors: list[str], keys: set) -> list[tuple]:
    return sorted(keys, key=lambda key: [-1 if level is None else run.levels[factor].index(level) for factor, level in zip(factors, key)])


def _named(run, factors: list[str], key: tuple) -> list[str]:
    return [level if factor in GEARS else run.factors.level(factor, level) for factor, level in zip(factors, key) if level is not None]
