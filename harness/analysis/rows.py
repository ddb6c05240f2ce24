"""A run as rows, one an invocation: what exports write and what `import gearbox` makes frames of. Standard library only.

A value keeps its type and its unit, and nothing is dropped: a failed invocation has its row, with its status and without values.
The columns that say which cell a row is are the same in every table, so that tables can be joined by `seq`.
"""
from __future__ import annotations

from typing import Any

from .load import Cell, Run

Row = dict[str, Any]


def identity(run: Run, cell: Cell) -> Row:
    """Which invocation a row is: place in the plan, workload, every factor's level (None where it says nothing), build, host."""
    return {"seq": cell.seq, "block": cell.block, "replicate": cell.replicate, "workload": cell.workload, "work": cell.work,
            **dict(zip(run.factors.names, cell.treatment)), "build": cell.record["build"], "host": cell.record["host"], "status": cell.status}


def cells(run: Run) -> list[Row]:
    """Everything of an invocation but its metrics and counters: headline, times, resources, noise, parameters."""
    found = []
    for cell in run.cells:
        record, headline = cell.record, run.metrics[cell.work]
        settings = {"procs": cell.procs, **{f"param.{name}": value for name, value in record["params"].items()}}
        row = identity(run, cell)
        found.append({**row, "reason": cell.reason, "attempts": cell.attempts, "metric": cell.metric, "unit": headline.unit, "better": headline.better,
                      "value": cell.value, "t_start": record["t_start"], "wall_ns": record["wall_ns"], **record["rusage"], **record["noise"], "cell": record["cell"],
                      **{name: value for name, value in settings.items() if name not in row}})  # a factor's level is there already
    return _filled(found)


def metrics(run: Run) -> list[Row]:
    """A column for each metric, None where the invocation has no value of it."""
    return _filled([_joined(run, cell, {metric["name"]: metric["value"] for metric in cell.record["metrics"]}, "metric.") for cell in run.cells])


def counters(run: Run) -> list[Row]:
    """A column for each counter, None where the gears of the cell do not have it."""
    return _filled([_joined(run, cell, cell.record["counters"], "counter.") for cell in run.cells])


def units(run: Run) -> list[Row]:
    """workload, metric -> unit, and which direction is better."""
    found: dict[tuple[str, str], Row] = {}
    for cell in run.cells:
        for metric in cell.record["metrics"]:
            found.setdefault((cell.workload, metric["name"]), {"workload": cell.workload, "metric": metric["name"], "unit": metric["unit"], "better": metric["better"],
                                                               "headline": metric["name"] == cell.metric})
    return list(found.values())


def _joined(run: Run, cell: Cell, values: Row, prefix: str) -> Row:
    """The identity before the values. A value that is called like a column of the identity gets the prefix: both are kept."""
    row = identity(run, cell)
    return {**row, **{prefix + name if name in row else name: value for name, value in values.items()}}


def _filled(rows: list[Row]) -> list[Row]:
    """Every row with every column, in the order in which they first appear."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return [{name: row.get(name) for name in columns} for row in rows]
