"""What is one thing: the whole identity of a cell, and names that are short and still never stand for two things.

A cell is its workload with every parameter, the four gears with every option, the number of Ps, every runtime option, and
the build. What an experiment varies on purpose are its factors, and the levels that a cell has of them are its treatment; what
remains of the cell without its factors is its work item. All values are the effective ones, defaults included: a parameter that is left out because it equals its default
says nothing about which value was used, and two sets of parameters once were merged because of that.

Keys are whole identities. Labels are for people and hold what differs between the cells at hand; `labels` makes them from the
whole, so that two different work items of a run always have different labels.
"""
from __future__ import annotations

import json
from typing import Any, Collection, NamedTuple

from .rules import GEARS

Pairs = tuple[tuple[str, str], ...]


class Work(NamedTuple):
    """A cell without its factors: what is asked of a treatment. Rows of tables and panels of figures are these."""
    workload: str
    params: Pairs
    procs: int | None  # None where procs is a factor of the run
    runtime: Pairs
    build: str


def work(line: dict[str, Any], build: str, factors: Collection[str] = GEARS) -> Work:
    effective = line["effective"]
    params, runtime = ({name: value for name, value in effective[owner].items() if f"{prefix}.{name}" not in factors}
                       for owner, prefix in (("params", "param"), ("runtime", "runtime")))
    return Work(line["workload"], _pairs(params), None if "procs" in factors else line["procs"], _pairs(runtime), build)


def cell(line: dict[str, Any]) -> str:
    """The whole identity of a planned cell as one text: equal exactly when the cells are the same."""
    effective = line["effective"]
    gears = [[line["combo"][gear].partition(":")[0], _pairs(effective[gear])] for gear in GEARS]
    return json.dumps([*work(line, line["build"]), gears])


def levels(line: dict[str, Any]) -> dict[str, str]:
    """Factor -> level of a planned cell. A line of schema 2 has no such field: its factors are the four gears."""
    return line.get("levels", line["combo"])


def words(line: dict[str, Any]) -> str:
    """A planned cell for a sentence: workload, parameters, gears, procs."""
    params = ", ".join(f"{name}={value}" for name, value in line["params"].items())
    return f"{line['workload']}{f' ({params})' if params else ''} on {'/'.join(line['combo'][gear] for gear in GEARS)}, procs {line['procs']}"


def labels(works: list[Work]) -> dict[Work, str]:
    """The workload's name, and behind it whatever differs between the work items of that workload."""
    return {item: " ".join([item.workload] + [f"{name}={value}" for name, value in found]) for item, found in differing(works).items()}


def differing(works: list[Work]) -> dict[Work, list[tuple[str, str]]]:
    """What tells each work item from the others of its workload: (name, value)."""
    facts = {item: _facts(item) for item in dict.fromkeys(works)}
    values: dict[str, dict[str, set[str | None]]] = {}
    for item in facts:
        names = values.setdefault(item.workload, {})
        for name in facts[item]:
            names.setdefault(name, set())
    for item, found in facts.items():  # a fact that one item lacks tells it from the others as a value does
        for name, seen in values[item.workload].items():
            seen.add(found.get(name))
    return {item: [(name, found[name]) for name, seen in values[item.workload].items() if len(seen) > 1 and name in found] for item, found in facts.items()}


def _facts(item: Work) -> dict[str, str]:
    """Name -> value of everything but the workload. A parameter that is called like one of our own words gets a prefix."""
    own = {**({} if item.procs is None else {"procs": str(item.procs)}), **{f"runtime.{name}": value for name, value in item.runtime}, "build": item.build}
    return {**{f"params.{name}" if name in own else name: value for name, value in item.params}, **own}


def _pairs(options: dict[str, str]) -> Pairs:
    return tuple(sorted(options.items()))
