"""A checked run directory -> Run: one row per planned invocation, under names that cannot stand for two things.

Why so strict. Everything downstream is arithmetic on what check.py lets in, and a wrong number looks exactly like a right one.
So a run is either understood or refused with one line that names file and line; nothing is guessed, repaired or skipped.

What counts. Every attempt stays in the file. An attempt that the harness itself could not start (`infra`) may be repeated; it is
then kept aside and counted. Any other record is accepted, and a second one for the same cell and block is an error. A failed
cell is a result: it stays in `Run.cells` with its status and reason, and its value is None. A planned invocation that has no
line yet is "not run", which is different from failed, and is reported as such.

Work items. The same workload may be planned with several parameter sets, processor counts, runtime options, or run by several
builds. Where the experiment does not call them factors, those are different questions and must never be averaged. `Cell.work`
is a label made from the whole identity (identity.py), `Run.identities` has the identity itself.

Treatments. What the experiment varies on purpose are its factors; `Cell.treatment` has the cell's levels of them, in the
order of `Run.factors` (treatments.py). A run of schema 2 has four factors, the gears.
"""
from __future__ import annotations

import dataclasses
from typing import Any

from . import check, design, identity, treatments
from .check import GEARS
from .records import BadInput, nearest
from .treatments import Factors, Treatment

__all__ = ["BadInput", "Cell", "GEARS", "Metric", "Run", "histogram", "load", "metric_value", "nearest"]


@dataclasses.dataclass(frozen=True)
class Cell:
    """One planned invocation that has at least one complete attempt."""
    seq: int
    block: int
    replicate: int  # which of the runs of this cell in this block; only the baseline has several
    workload: str
    work: str  # workload plus whatever differs between the work items of this run: a label, one to one with the identity
    treatment: Treatment  # in the order of Run.factors
    procs: int
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
    factors: Factors
    metrics: dict[str, Metric]  # headline metric per work item
    seconds: dict[str, Metric]  # throughput of the work items whose headline is something else
    identities: dict[str, identity.Work]  # work item -> all that identifies it, effective values
    examples: dict[tuple[str, Treatment], dict[str, Any]]  # (work item, treatment) -> one of its planned cells
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

    @property
    def treatments(self) -> list[Treatment]:
        """All that are planned, baseline levels first."""
        return self.factors.all

    @property
    def levels(self) -> dict[str, list[str]]:
        """Per factor, the baseline's first."""
        return self.factors.levels

    @property
    def baseline(self) -> Treatment:
        return self.factors.baseline

    def short(self, treatment: Treatment) -> str:
        return self.factors.short(treatment)


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
    if budget := manifest.get("budget"):
        notes.append(f"the budget of {budget['budget_s']:g} s gave {budget['blocks']} blocks, fixed after the first, which took {budget['block_0_s']:.3g} s")
    if design.is_open(manifest):
        notes.append(f"block 0 is not done: the budget of {manifest['design']['budget_s']:g} s has not fixed how many blocks follow")
    declared = list(manifest["factors"]) if manifest["schema"] > 2 else list(GEARS)
    works_of = {line["seq"]: identity.work(line, found.last[line["seq"]]["build"] if line["seq"] in found.last else found.newest_build, declared) for line in plan}
    names = identity.labels(list(works_of.values()))
    entries = {entry["name"]: entry for entry in manifest["workloads"]}
    order = {name: index for index, name in enumerate(entries)}
    works = sorted(names.items(), key=lambda item: (order[item[0].workload], item[1]))

    given = {line["seq"]: treatments.treatment(declared, identity.levels(line)) for line in plan}
    examples = {(names[works_of[line["seq"]]], given[line["seq"]]): line for line in reversed(plan)}
    factors = _factors(manifest, declared, [work for _, work in works], [(names[works_of[seq]], treatment) for seq, treatment in given.items()])
    if not any(factors.is_baseline(treatment) for treatment in factors.all):
        notes.append("the baseline combination is not part of this run: there is nothing to form ratios with")

    cells = []
    metrics: dict[str, Metric] = {}
    seconds: dict[str, Metric] = {}
    first: dict[tuple[str, Treatment, int, int], int] = {}  # (work, treatment, block, replicate) -> seq
    for line in plan:
        record = found.last.get(line["seq"])
        if record is None:
            continue
        name = entries[line["workload"]]["headline"]
        value = metric_value(record, name)
        work = names[works_of[line["seq"]]]
        key = (work, given[line["seq"]], line["block"], line.get("replicate", 0))
        if first.setdefault(key, line["seq"]) != line["seq"]:  # everything downstream keys by this; check.py has seen to it
            raise BadInput(f"{path}: seq {first[key]} and seq {line['seq']} both have a record for {work} on {'/'.join(factors.whole(key[1]))} in block {line['block']}")
        cells.append(Cell(
            seq=line["seq"], block=line["block"], replicate=line.get("replicate", 0), workload=line["workload"], work=work, treatment=given[line["seq"]],
            procs=line["procs"], status=record["status"],
            reason=record["reason"], attempts=found.attempts[line["seq"]], metric=name, value=None if value is None else float(value), record=record))
        if value is not None and work not in metrics:
            metrics[work] = _describe(record, name)
        if value is not None and name != "throughput" and work not in seconds and metric_value(record, "throughput"):
            seconds[work] = _describe(record, "throughput")
    for item, work in works:
        metrics.setdefault(work, _describe({"metrics": []}, entries[item.workload]["headline"]))
    return Run(path=found.path, manifest=manifest, plan=plan, cells=cells, works=[work for _, work in works], work_of={seq: names[item] for seq, item in works_of.items()},
               factors=factors, metrics=metrics, seconds=seconds, identities={work: item for item, work in works}, examples=examples,
               aside=len(found.aside), summaries={work: entries[item.workload]["summary"] for item, work in works},
               not_run=len(plan) - len(cells), notes=notes, fingerprint=found.fingerprint)


def _factors(manifest: dict[str, Any], declared: list[str], works: list[str], given: list[tuple[str, Treatment]]) -> Factors:
    planned: dict[str, dict[Treatment, int]] = {work: {} for work in works}
    for work, treatment in given:
        planned[work][treatment] = planned[work].get(treatment, 0) + 1
    levels: dict[str, list[str]] = {}
    for index, factor in enumerate(declared):
        used = {treatment[index] for _, treatment in given}
        # stable: baseline first
        levels[factor] = sorted((level for level in manifest["factors"][factor] if level in used), key=lambda level: level != manifest["baseline"][factor])
    factors = Factors(levels, treatments.treatment(declared, manifest["baseline"]), planned)
    return dataclasses.replace(factors, planned={work: dict(sorted(own.items(), key=lambda item: factors.order(item[0]))) for work, own in planned.items()})


def _describe(record: dict[str, Any], name: str) -> Metric:
    for metric in record["metrics"]:
        if metric["name"] == name:
            return Metric(name, metric["unit"], metric["better"])
    if name == "throughput":
        return Metric(name, "", "higher")
    return Metric(name, {"peak_rss": "bytes", "wall": "s", "cpu": "s"}.get(name, "ns"), "lower")
