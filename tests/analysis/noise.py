"""Headline values of five real runs of quickstart on a 2-core virtual machine: the noise that the verdict procedure was chosen on.

data/real-noise.csv has one line an invocation. `quiet` and `red` are 3 blocks of 16 combinations on 8 workloads, with nothing else running and beside other
work; `qs3` and `qs3q` have the baseline three times a block, told apart by an option that changes nothing (epoll:events=127); `long` is 40 blocks of 4
combinations.
"""
import csv
import math
import os

from analysis import gvm

BASELINE = ("gmp", "size_class", "concurrent", "epoll")
GEARS = ("scheduler", "allocator", "collector", "poller")


def treatment(row: dict) -> tuple[str, ...]:
    return tuple(row[gear].partition(":")[0] for gear in GEARS)


def rows(run: str) -> list[dict]:
    with open(os.path.join(os.path.dirname(__file__), "data", "real-noise.csv"), newline="") as file:
        return [row for row in csv.DictReader(file) if row["run"] == run]


def fits(run: str, change=lambda row, value: value) -> dict[str, gvm.Fit]:
    """workload -> the fit of its values as log speeds, workloads in alphabetical order."""
    by_work: dict[str, list[dict]] = {}
    for row in rows(run):
        by_work.setdefault(row["workload"], []).append(row)
    found = {}
    for work, mine in sorted(by_work.items()):
        sign = 1 if mine[0]["better"] == "higher" else -1
        layout = gvm.Layout([int(row["block"]) for row in mine], [treatment(row) for row in mine], BASELINE)
        found[work] = layout.fit([sign * math.log(change(row, float(row["value"]))) for row in mine])
    return found


def answers(run: str, **how) -> tuple[float, dict[str, dict[tuple, gvm.Contrast]]]:
    """(d0, workload -> combination -> its contrast with the baseline)"""
    found = fits(run, **how)
    d0 = gvm.moderation(list(found.values()))
    return d0, {work: gvm.against_reference(fit, d0, 0.05) for work, fit in found.items()}


def calls(contrasts: dict[tuple, gvm.Contrast]) -> int:
    return sum(one.low is not None and (one.low > 0 or one.high < 0) for one in contrasts.values())
