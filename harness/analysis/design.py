"""Schema 3: the plan against the manifest's factors, design and budget. check.py calls this; standard library only.

A planned cell says which levels of the run's factors it has, besides what it is set to. The two must agree: everything
that is compared goes by the levels, and everything that ran went by the settings.
"""
from __future__ import annotations

import math
from typing import Any

from . import identity
from .records import BadInput, nearest, show
from .rules import GEARS, refuse

NEVER_MORE_RUNS = 3  # of the baseline in a block, by the rule
COMPARED_BEFORE_REPEATING = 6  # treatments of a work item


def baseline_runs(treatments: int) -> int:
    """How often the baseline of a work item with so many treatments runs in each block, unless the experiment says otherwise."""
    return min(NEVER_MORE_RUNS, round(math.sqrt(treatments - 1))) if treatments >= COMPARED_BEFORE_REPEATING else 1


def is_open(manifest: dict[str, Any]) -> bool:
    """Is there a budget that has not fixed the number of blocks yet? It does when block 0 is done."""
    return manifest["schema"] > 2 and manifest["design"]["budget_s"] is not None and manifest.get("budget") is None


def blocks(manifest: dict[str, Any]) -> int:
    """How many blocks of the plan are part of the run, as far as that is known."""
    return 1 if is_open(manifest) else manifest["blocks"]


def key(line: dict[str, Any]) -> tuple[str, str, int]:
    """What a block holds once: cell, label (two labels run one cell, to hold it against itself) and replicate."""
    return line["cell"], line.get("levels", {}).get("label", ""), line.get("replicate", 0)


def fixed(params: dict[str, Any], factors: dict[str, Any]) -> dict[str, Any]:
    """The parameters that are no factors."""
    return {name: value for name, value in params.items() if f"param.{name}" not in factors}


def line(value: dict[str, Any], manifest: dict[str, Any], where: str) -> None:
    """Levels of one planned cell."""
    factors, levels = manifest["factors"], value["levels"]
    for factor, level in levels.items():
        if factor not in factors:
            raise BadInput(f"{where}: field 'levels.{factor}' is {show(level)}; it should not be there, since manifest.json has no such factor; "
                           f"{nearest(factor, list(factors))}")
        if level not in factors[factor]:
            refuse(where, f"levels.{factor}", level, f"a level of manifest.json; {nearest(level, factors[factor])}")
    for factor in factors:
        if factor in (*GEARS, "label"):
            if factor not in levels:
                raise BadInput(f"{where}: field 'levels.{factor}' is missing; it should be one of the levels {', '.join(factors[factor])}")
            continue
        field, said = _set_to(factor, value)
        if said is None and factor in levels:
            raise BadInput(f"{where}: field 'levels.{factor}' is {show(levels[factor])}; it should not be there, since this cell has no {field}")
        if said is not None and factor not in levels:
            raise BadInput(f"{where}: field 'levels.{factor}' is missing; it should be {show(said)}, as field '{field}' says")
        if said is not None and levels[factor] != said:
            refuse(where, f"levels.{factor}", levels[factor], f"{show(said)}, as field '{field}' says")
    for gear in GEARS:
        _gear(gear, value, factors, where)
    if value["replicate"] and not is_baseline(value, manifest):
        refuse(where, "replicate", value["replicate"], "0: only the baseline runs several times in a block")


def _set_to(factor: str, value: dict[str, Any]) -> tuple[str, str | None]:
    """The field of a planned cell that holds what a factor sets, and its value; None where the factor says nothing to the cell."""
    if factor == "procs":
        return "procs", str(value["procs"])
    owner, _, name = factor.partition(".")
    holder = "params" if owner == "param" else owner
    return f"effective.{holder}.{name}", value["effective"][holder].get(name)


def is_baseline(value: dict[str, Any], manifest: dict[str, Any]) -> bool:
    return all(manifest["baseline"][factor] == level for factor, level in value["levels"].items())


def _gear(gear: str, value: dict[str, Any], factors: dict[str, Any], where: str) -> None:
    """The level names the gear and its options; the cell's text may add options that are factors themselves."""
    (named, options), (used, set_to) = _parts(value["levels"][gear]), _parts(value["combo"][gear])
    if named != used or any(option not in options and f"{gear}.{option}" not in factors for option in set_to):
        refuse(where, f"levels.{gear}", value["levels"][gear], f"what field 'combo.{gear}' says, {show(value['combo'][gear])}")
    for option, text in options.items():
        if f"{gear}.{option}" not in factors and value["effective"][gear].get(option) != text:
            refuse(where, f"levels.{gear}", value["levels"][gear],
                   f"what the cell is set to: field 'effective.{gear}.{option}' is {show(value['effective'][gear].get(option))}")


def gear_name(gear: str) -> str:
    """Of a gear's text: 'gmp' of 'gmp:runnext=off'."""
    return gear.partition(":")[0]


def _parts(text: str) -> tuple[str, dict[str, str]]:
    return gear_name(text), dict(piece.split("=", 1) if "=" in piece else (piece, "") for piece in text.partition(":")[2].split(",") if piece)


def replicates(lines: list[tuple[int, dict[str, Any]]], manifest: dict[str, Any], path: str) -> None:
    """Only the baseline runs several times in a block, and as often as the design says."""
    factors, wanted = manifest["factors"], manifest["design"]["baseline_runs"]
    numbers: dict[tuple, set[int]] = {}  # (cell, label, block) -> replicates
    treatments: dict[identity.Work, set[tuple]] = {}
    runs: dict[identity.Work, tuple[int, int, dict[str, Any]]] = {}  # of the baseline: (how many, line number, line)
    for number, one in lines:
        cell, label, replicate = key(one)
        numbers.setdefault((cell, label, one["block"]), set()).add(replicate)
        work = identity.work(one, one["build"], factors)
        treatments.setdefault(work, set()).add(tuple(sorted(one["levels"].items())))
        if is_baseline(one, manifest) and replicate >= runs.get(work, (0,))[0]:
            runs[work] = (replicate + 1, number, one)
    for number, one in lines:
        cell, label, replicate = key(one)
        there = numbers[cell, label, one["block"]]
        if replicate >= len(there):
            refuse(f"{path}:{number}", "replicate", replicate, f"below {len(there)}: the block holds the cell {len(there)} times, counted from 0")
    for work, (count, number, one) in runs.items():
        due = wanted if wanted != "rule" else baseline_runs(len(treatments[work]))
        if count != due:
            rule = f": the rule, for {len(treatments[work])} treatments" if wanted == "rule" else ""
            raise BadInput(f"{path}:{number}: each block holds the baseline of its work item ({identity.words(one)}) {_times(count)}; it should hold it {_times(due)}, "
                           f"as field 'design.baseline_runs' of manifest.json says{rule}")


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
