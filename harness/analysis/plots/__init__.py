"""The figures, by name. One file per idea; canvas holds what they share.

`draw_all` draws into <run>/figures. A figure that this run has no data for is not an error: its sentence takes its place.
"""
from __future__ import annotations

import dataclasses
import json
import os
from typing import Callable

from .. import load
from ..study import Study
from . import bars, canvas, gears, heat, latency, pauses, sequence
from .canvas import Drawing, NothingToDraw


@dataclasses.dataclass(frozen=True)
class Plot:
    name: str
    title: str
    draw: Callable[[Study], Drawing]


PLOTS = {plot.name: plot for plot in (  # in the order of the report
    Plot("gears", "What each gear does", gears.draw),
    Plot("overview", "All combinations at a glance", heat.overview),
    Plot("throughput", "Speed by combination", bars.throughput),
    Plot("interaction", "Do scheduler and collector compose?", heat.interaction),
    Plot("pairs", "All pairs of gears", heat.pairs),
    Plot("latency", "Latency percentiles", latency.draw),
    Plot("pauses", "Garbage collection pauses", pauses.draw),
    Plot("memory", "Peak resident memory", bars.memory),
    Plot("sequence", "Run sequence", sequence.draw),
)}


@dataclasses.dataclass(frozen=True)
class Outcome:
    name: str
    files: list[str]
    sentence: str | None  # why nothing was drawn


def select(names: list[str] | None) -> list[Plot]:
    if not names:
        return list(PLOTS.values())
    for name in names:
        if name not in PLOTS:
            raise load.BadInput(f"unknown plot '{name}'; {load.nearest(name, list(PLOTS))}")
    return [PLOTS[name] for name in names]


def draw_one(study: Study, plot: Plot) -> Outcome:
    try:
        drawing = plot.draw(study)
    except NothingToDraw as nothing:
        canvas.write_note(study.run, plot.name, plot.title, str(nothing), drawn=False)
        return Outcome(plot.name, [], str(nothing))
    return Outcome(plot.name, canvas.save(drawing, study.run, plot.name, drawing.title or plot.title), None)


def note(study: Study, plot: Plot) -> dict | None:
    """What figures/<name>.json says, or None when the figure is missing or was drawn from other data."""
    path = os.path.join(study.run.path, "figures", plot.name + ".json")
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return None
    if not isinstance(found, dict) or found.get("input") != study.run.fingerprint:
        return None
    if found.get("drawn") and not os.path.exists(path[:-len(".json")] + ".svg"):
        return None
    return found
