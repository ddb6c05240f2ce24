"""A checked run directory -> Run: one row per planned invocation, under names that cannot stand for two things.

Why so strict. Everything downstream is arithmetic on what check.py lets in, and a wrong number looks exactly like a right one.
So a run is either understood or refused with one line that names file and line; nothing is guessed, repaired or skipped.

What counts. Every attempt stays in the file. An attempt that the harness itself could not start (`infra`) may be repeated; it is
then kept aside and counted. Any other record is accepted, and a second one for the same cell and block is an error. A failed
cell is a result: it stays in `Run.cells` with its status and reason, and its value is None. A planned invocation that has no
line yet is "not run", which is different from failed, and is reported as such.

Work items. The same workload may be planned with several parameter sets, processor counts, runtime options, or run by several
builds; those are different questions and must never be averaged. `Cell.work` is a label made from the whole identity
(identity.py), `Run.identities` has the identity itself.
"""
from __future__ import annotations

import dataclasses
from typing import Any

from . import check, identity
from .check import GEARS
from .records import BadInput, nearest

__all__ = ["BadInput", "Cell", "GEARS", "Metric", "Run", "histogram", "load", "metric_value", "nearest"]


@dataclasses.dataclass(frozen=True)
class Cell:
    """One planned invocation that has at least one complete attempt."""
    seq: int
    block: int
    workload: str
    work: str  # workload plus whatever differs between the work items of this run: a label, one to one with the identity
    combo: tuple[str, str, str, str]  # in the order of GEARS
    procs: int | None
    status: str
    reason: str | None
    attempts: int
    metric: str  # the headline metric's name
    value: float | None  # the headline value; None when the cell failed or reported none
    record: dict[str, Any]

    @property
    def ok(self) -> bool:
        return self.value is not None

    @property
    def failed(self) -> bool:
        """It ran and gave no value. A gear that the kernel refuses never began: that is no failure of the gear."""
        return self.value is None and self.status != "unsupported"


@dataclasses.dataclass(frozen=True)
class Metric:
    """What a headline number is and which direction is good."""
    name: str
    unit: str
    better: str  # "higher" or "lower"


@dataclasses.dataclass
class Run:
    path: str
    manifest: dict[str, Any]
    plan: list[dict[str, Any]]
    cells: list[Cell]
    works: list[str]  # work items in manifest order
    work_of: dict[int, str]  # seq -> work item
    combos: list[tuple[str, str, str, str]]  # planned combinations, baseline levels first
    levels: dict[str, list[str]]  # per gear, baseline level first
    baseline: tuple[str, str, str, str]
    metrics: dict[str, Metric]  # headline metric per work item
    seconds: dict[str, Metric]  # throughput of the work items whose headline is something else
    identities: dict[str, identity.Work]  # work item -> all that identifies it, effective values
    options: dict[tuple[str, str], dict[str, str]]  # (gear, level) -> every option of the gear, effective values
    aside: int  # attempts that were repeated and do not count
    summaries: dict[str, str]  # work item -> one line on what the workload does
    not_run: int
    notes: list[str]  # facts about the input a reader should know, such as an ignored last line
    fingerprint: str  # SHA-256 over the inputs: a figure drawn from other inputs is stale

    @property
    def blocks(self) -> list[int]:
        return sorted({line["block"] for line in self.plan})

    @property
    def failures(self) -> list[Cell]:
        """Everything that gave no value, refused gears included: what the lists of failures show."""
        return [cell for cell in self.cells if not cell.ok]

    def of(self, work: str) -> list[Cell]:
        return [cell for cell in self.cells if cell.work == work]

    def short(self, combo: tuple[str, ...]) -> str:
        """Names only the gears that differ from the baseline: 'stw + io_uring' instead of sixty characters."""
        differing = [self.level(gear, level) for gear, level, base in zip(GEARS, combo, self.baseline) if level != base]
        return " + ".join(differing) if differing else "baseline"

    def level(self, gear: str, level: str) -> str:
        """A level's name; with its gear's where another gear has a level of that name, as a poller and a collector 'none'."""
        return f"{gear} {level}" if any(level in self.levels[other] for other in GEARS if other != gear) else level


def metric_value(record: dict[str, Any], name: str) -> float | None:
    """A metric of an ok cell by name, or None. Falls back to what every record carries besides its metrics list.

    Not for peak_rss: what rusage has begins with the pages of the process that started the cell, so it measures the harness.
    `<hist>_p99` reads a percentile of a histogram, for records that have one and no metric of that name.
    """
    if record["status"] != "ok":
        return None
    for metric in record.get("metrics") or []:
        if metric["name"] == name:
            return metric["value"]
    usage = record.get("rusage") or {}
    if name == "cpu" and "user_ns" in usage and "system_ns" in usage:
        return (usage["user_ns"] + usage["system_ns"]) / 1e9
    if name == "wall" and record.get("wall_ns") is not None:
        return record["wall_ns"] / 1e9
    stem, _, quantile = name.rpartition("_p")
    hist = histogram(record, stem) if stem else None
    if hist is not None:
        for percent, value in hist.get("percentiles") or []:
            if f"{percent:g}" == quantile:
                return value
    return None


def histogram(record: dict[str, Any], name: str) -> dict[str, Any] | None:
    for hist in record.get("hists") or []:
        if hist["name"] == name:
            return hist
    return None


def load(path: str) -> Run:
    """Reads a run directory, or an experiment directory through its `latest` link. Raises BadInput."""
    found = check.run(path)
    manifest, plan = found.manifest, found.plan
    notes = list(found.notes)
    works_of = {line["seq"]: identity.work(line, found.last[line["seq"]]["build"] if line["seq"] in found.last else found.newest_build) for line in plan}
    names = identity.labels(list(works_of.values()))
    entries = {entry["name"]: entry for entry in manifest["workloads"]}
    order = {name: index for index, name in enumerate(entries)}
    works = sorted(names.items(), key=lambda item: (order[item[0].workload], item[1]))

    baseline = tuple(manifest["baseline"][gear] for gear in GEARS)
    levels: dict[str, list[str]] = {}
    for index, gear in enumerate(GEARS):
        used = {line["combo"][gear] for line in plan}
        # stable: baseline first
        levels[gear] = sorted((level for level in manifest["factors"][gear] if level in used), key=lambda level: level != baseline[index])
    combos = sorted({_combo(line) for line in plan}, key=lambda combo: [levels[gear].index(level) for gear, level in zip(GEARS, combo)])
    if baseline not in combos:
        notes.append("the baseline combination is not part of this run: there is nothing to form ratios with")

    cells = []
    metrics: dict[str, Metric] = {}
    seconds: dict[str, Metric] = {}
    first: dict[tuple[str, tuple[str, ...], int], int] = {}  # (work, combo, block) -> seq
    for line in plan:
        record = found.last.get(line["seq"])
        if record is None:
            continue
        name = entries[line["workload"]]["headline"]
        value = metric_value(record, name)
        work = names[works_of[line["seq"]]]
        key = (work, _combo(line), line["block"])
        if first.setdefault(key, line["seq"]) != line["seq"]:  # everything downstream keys by this; check.py has seen to it
            raise BadInput(f"{path}: seq {first[key]} and seq {line['seq']} both have a record for {work} on {'/'.join(key[1])} in block {line['block']}")
        cells.append(Cell(
            seq=line["seq"], block=line["block"], workload=line["workload"], work=work, combo=_combo(line), procs=line["procs"], status=record["status"],
            reason=record["reason"], attempts=found.attempts[line["seq"]], metric=name, value=None if value is None else float(value), record=record))
        if value is not None and work not in metrics:
            metrics[work] = _describe(record, name)
        if value is not None and name != "throughput" and work not in seconds and metric_value(record, "throughput"):
            seconds[work] = _describe(record, "throughput")
    for item, work in works:
        metrics.setdefault(work, _describe({"metrics": []}, entries[item.workload]["headline"]))
    return Run(path=found.path, manifest=manifest, plan=plan, cells=cells, works=[work for _, work in works], work_of={seq: names[item] for seq, item in works_of.items()},
               combos=combos, levels=levels, baseline=baseline, metrics=metrics, seconds=seconds,
               identities={work: item for item, work in works},
               options={(gear, line["combo"][gear]): line["effective"][gear] for line in plan for gear in GEARS},
               aside=len(found.aside), summaries={work: entries[item.workload]["summary"] for item, work in works},
               not_run=len(plan) - len(cells), notes=notes, fingerprint=found.fingerprint)


def _combo(line: dict[str, Any]) -> tuple[str, str, str, str]:
    return tuple(line["combo"][gear] for gear in GEARS)


def _describe(record: dict[str, Any], name: str) -> Metric:
    for metric in record["metrics"]:
        if metric["name"] == name:
            return Metric(name, metric["unit"], metric["better"])
    if name == "throughput":
        return Metric(name, "", "higher")
    return Metric(name, {"peak_rss": "bytes", "wall": "s", "cpu": "s"}.get(name, "ns"), "lower")
