"""What all figures share: type, palette, the strip that names combinations, and how a figure reaches the disk.

Palette. Okabe-Ito, which stays apart for colour-blind readers and in grey print. A factor keeps one hue through all figures;
its levels are shades of it, palest for the baseline. Better is blue and worse is vermillion everywhere, never green and red.

The strip. Sixteen combinations of four gears do not fit under an axis as words. A strip has one row per factor and one
column per combination; equal neighbours merge into one block that carries the level's name, so the eye reads it as a table.

Bytes. The same input must give the same file, or a diff of two result directories is noise: fixed hash salt, no dates,
text as outlines (so a page looks the same on a machine without the font).
"""
from __future__ import annotations

import dataclasses
import json
import math
import os
import re

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  the backend must be chosen first
from matplotlib.colors import to_rgb  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
import pandas as pd  # noqa: E402

from ..load import GEARS, Run  # noqa: E402

BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILLION, PURPLE = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")
GREY, LIGHT, INK = "#8C8C8C", "#E6E6E6", "#222222"
GEAR_HUE = {"scheduler": SKY, "allocator": ORANGE, "collector": GREEN, "poller": PURPLE}
OTHER_HUES = (YELLOW, "#8C6D46", "#6A51A3", "#5F8B8B")  # of the other factors, in their order
VERDICT_HUE = {"faster": BLUE, "smaller": BLUE, "slower": VERMILLION, "larger": VERMILLION, "equivalent": "#B9B9B9",
               "undecided": "#B9B9B9", "no verdict": "#B9B9B9", "unreliable": "#B9B9B9", "failed": "#B9B9B9", "unsupported": "#B9B9B9",
               "not run": "#B9B9B9", "baseline": "#4D4D4D"}
WIDTH = 11.0  # inches; every figure has it, so that type has one size on the page

matplotlib.rcParams.update({
    "svg.hashsalt": "gearbox", "svg.fonttype": "path", "font.family": "DejaVu Sans", "font.size": 8.5, "axes.titlesize": 9.5,
    "axes.titleweight": "bold", "axes.titlelocation": "left", "axes.labelsize": 8.5, "axes.edgecolor": "#666666",
    "axes.linewidth": 0.7, "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True, "axes.grid": False,
    "grid.color": "#DDDDDD", "grid.linewidth": 0.6, "xtick.labelsize": 8, "ytick.labelsize": 8, "legend.fontsize": 8,
    "legend.frameon": False, "text.color": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK,
    "hatch.linewidth": 0.6, "hatch.color": "#777777", "savefig.facecolor": "white", "figure.dpi": 100})


class NothingToDraw(Exception):
    """The run lacks what this plot shows. The text is a sentence; it takes the figure's place in the report."""


@dataclasses.dataclass
class Drawing:
    figure: Figure
    data: pd.DataFrame
    caption: str
    title: str | None = None  # where it depends on the run; None is the plot's own


def host_words(run: Run) -> str:
    machine = run.manifest.get("machine") or {}
    cores = machine.get("cores")
    parts = [machine.get("cpu") or "unknown processor", f"{cores} core{'s' if cores != 1 else ''}" if cores else None, machine.get("virtualization")]
    words = ", ".join(part for part in parts if part and part != "none")
    verdict = machine.get("verdict")
    return f"Host {machine.get('host') or 'unknown'}: {words}" + (f" (machine verdict: {verdict})." if verdict else ".")


def n_words(counts) -> str:
    """'n = 3 invocations' or 'n = 2 to 3 invocations'."""
    counts = [count for count in counts if count]
    if not counts:
        return "n = 0 invocations"
    low, high = min(counts), max(counts)
    return f"n = {low} invocation{'s' if high != 1 else ''}" if low == high else f"n = {low} to {high} invocations"


def save(drawing: Drawing, run: Run, name: str, title: str) -> list[str]:
    """Writes SVG, PNG, CSV and the JSON that tells the report what the figure says and what it was drawn from."""
    folder = os.path.join(run.path, "figures")
    os.makedirs(folder, exist_ok=True)
    stem = os.path.join(folder, name)
    # Each under another name first: a figure that Ctrl-C left half written would pass for one drawn from these records.
    drawing.figure.savefig(stem + ".svg.new", format="svg", metadata={"Date": None, "Creator": None})
    drawing.figure.savefig(stem + ".png.new", format="png", dpi=120, metadata={"Software": None})
    plt.close(drawing.figure)
    drawing.data.to_csv(stem + ".csv.new", index=False, lineterminator="\n")
    for extension in (".svg", ".png", ".csv"):
        os.replace(stem + extension + ".new", stem + extension)
    write_note(run, name, title, drawing.caption, drawn=True)
    return [stem + extension for extension in (".svg", ".png", ".csv")]


def write_note(run: Run, name: str, title: str, caption: str, drawn: bool) -> None:
    folder = os.path.join(run.path, "figures")
    os.makedirs(folder, exist_ok=True)
    if not drawn:  # a picture from an earlier state of the run must not stand for one that cannot be drawn now
        for extension in (".svg", ".png", ".csv"):
            if os.path.exists(os.path.join(folder, name + extension)):
                os.remove(os.path.join(folder, name + extension))
    path = os.path.join(folder, name + ".json")
    with open(path + ".new", "w", encoding="utf-8") as file:
        json.dump({"title": title, "caption": caption, "drawn": drawn, "input": run.fingerprint}, file, indent=1, ensure_ascii=False)
        file.write("\n")
    os.replace(path + ".new", path)


def margin(labels, fontsize: float = 8.0, least: float = 0.6) -> float:
    """Inches to the left of an axis that its longest tick label needs. Level names carry options and can be long."""
    longest = max((len(line) for label in labels for line in str(label).split("\n")), default=0)
    return max(least, 0.16 + longest * fontsize * 0.60 / 72)


def folded(text: str, width: int) -> str:
    """Breaks a level's text form after ':' and ',' into lines of about `width` characters."""
    lines = [""]
    for part in re.split(r"(?<=[:,])", text):
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def shade(run: Run, factor: str, level: str | None) -> tuple[float, float, float]:
    """Palest for the baseline, full hue for the last level, white where the factor says nothing."""
    if level is None:
        return to_rgb("white")
    others = [name for name in run.factors.names if name not in GEARS]
    hue = GEAR_HUE.get(factor) or OTHER_HUES[others.index(factor) % len(OTHER_HUES)]
    index, levels = run.levels[factor].index(level), len(run.levels[factor])
    strength = 0.12 if index == 0 else 0.40 + 0.45 * (index / max(1, levels - 1))
    return tuple(1 - strength * (1 - part) for part in to_rgb(hue))


def strip(axes, run: Run, treatments, labels: bool = True, fontsize: float = 7.0) -> None:
    """Draws the levels of each combination (column i is treatments[i]) into axes."""
    shown = varying_factors(run)
    column_points = axes.get_position().width * axes.figure.get_figwidth() * 72 / max(1, len(treatments))
    place = {factor: run.factors.names.index(factor) for factor in shown}
    for row, factor in enumerate(shown):
        index = place[factor]
        start = 0
        while start < len(treatments):
            end = start
            # A block may span neighbours only while the rows above it are equal too: then it reads like a table's heading.
            while end + 1 < len(treatments) and treatments[end + 1][index] == treatments[start][index] and all(
                    treatments[end + 1][place[above]] == treatments[start][place[above]] for above in shown[:row]):
                end += 1
            level = treatments[start][index]
            axes.barh(row, end - start + 1, left=start - 0.5, height=0.92, color=shade(run, factor, level), edgecolor="white", linewidth=1.0)
            level = "–" if level is None else level
            room = (end - start + 1) * column_points
            needed = len(level) * fontsize * 0.60
            middle = (start + end) / 2
            if needed < room:
                axes.text(middle, row, level, ha="center", va="center", fontsize=fontsize)
            elif needed * 0.85 < room:
                axes.text(middle, row, level, ha="center", va="center", fontsize=fontsize * 0.82)
            start = end + 1
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_yticks(range(len(shown)), shown if labels else [""] * len(shown), fontsize=fontsize + 0.5)
    axes.tick_params(length=0)
    axes.set_xticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def varying_factors(run: Run) -> list[str]:
    """Factors with more than one level; when none varies, all of them, since the picture must still say what ran."""
    shown = [factor for factor, levels in run.levels.items() if len(levels) > 1]
    return shown or list(run.factors.names)


def strip_legend(run: Run, treatments) -> list:
    """Handles that explain the strip's shades: needed because a narrow column has no room for its level's name."""
    handles = []
    for factor in varying_factors(run):
        for level in run.levels[factor]:
            handles.append(matplotlib.patches.Patch(facecolor=shade(run, factor, level), edgecolor="#999999", linewidth=0.5,
                                                    label=level if factor in GEARS else run.factors.level(factor, level)))
    return handles


def unit_scale(largest: float, unit: str) -> tuple[float, str]:
    """(divisor, axis label) so that tick labels are short numbers."""
    if unit == "ns":
        steps = ((1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1, "ns"))
    elif unit == "bytes":
        steps = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "B"))
    else:
        steps = tuple((factor, f"{prefix} {unit}".strip()) for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1, "")))
    for divisor, label in steps:
        if largest >= divisor:
            return divisor, label
    return steps[-1]


def ratio_ticks(axis, low: float, high: float) -> None:
    """Round ratios on a log axis, six or so, as plain numbers."""
    from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator
    candidates = [
        [0.001, 0.01, 0.1, 1, 10, 100, 1000], [0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100], [0.1, 0.2, 0.5, 1, 2, 5, 10],
        [0.25, 0.35, 0.5, 0.7, 1, 1.4, 2, 2.8, 4], [0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.2, 1.4, 1.6, 1.8, 2], [0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.3, 1.4],
        [0.4, 0.5, 0.6, 0.8, 1, 1.25, 1.6, 2, 2.5],
        [0.8, 0.85, 0.9, 0.95, 1, 1.05, 1.1, 1.15, 1.2, 1.25], [0.9, 0.92, 0.94, 0.96, 0.98, 1, 1.02, 1.04, 1.06, 1.08, 1.1],
        [0.96, 0.97, 0.98, 0.99, 1, 1.01, 1.02, 1.03, 1.04], [0.98, 0.985, 0.99, 0.995, 1, 1.005, 1.01, 1.015, 1.02]]
    best: list[float] = [1]
    for ticks in candidates:
        inside = [tick for tick in ticks if low <= tick <= high]
        gaps = [math.log(b / a) for a, b in zip(inside, inside[1:])]
        # A label is about a ninth of a panel wide; closer ticks would overlap.
        if len(inside) > len(best) and min(gaps) > 0.13 * math.log(high / low):
            best = inside
    axis.set_major_locator(FixedLocator([tick for tick in best if low <= tick <= high]))
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())
