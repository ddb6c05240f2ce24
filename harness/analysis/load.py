"""Reads a run directory and refuses whatever could put a wrong label on a measurement.

Why so strict. Everything downstream is arithmetic on what this file lets in, and a wrong number looks exactly like a right
one. So a record is either understood or it stops the program with one line that names file and line; nothing is guessed,
repaired or skipped. There is a single exception: a last line of cells.jsonl without its newline is what a power cut leaves
behind, and docs/RECORDS.md tells readers to ignore it.

What counts. Every attempt stays in the file; for one `seq` the last complete line counts. A failed cell is a result: it
stays in `Run.cells` with its status and reason, and its value is None. A planned invocation that has no line yet is
"not run", which is different from failed, and is reported as such.

Work items. The same workload may be planned with several parameter sets or processor counts; those are different
questions and must never be averaged. `Cell.work` therefore is the workload's name plus whatever parameters vary.
"""
from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import math
import os
from typing import Any

GEARS = ("scheduler", "allocator", "collector", "poller")
STATUSES = ("ok", "check_failed", "exit", "signal", "timeout", "oom", "unsupported", "infra")
SCHEMA = 1


class BadInput(Exception):
    """The input cannot be used. The text is one line for a person; the command line prints it and exits with 2."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """One planned invocation that has at least one complete attempt."""
    seq: int
    block: int
    workload: str
    work: str  # workload plus the parameters that vary within this run
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
    combos: list[tuple[str, str, str, str]]  # planned combinations, baseline levels first
    levels: dict[str, list[str]]  # per gear, baseline level first
    baseline: tuple[str, str, str, str]
    metrics: dict[str, Metric]  # headline metric per work item
    seconds: dict[str, Metric]  # throughput of the work items whose headline is something else
    identities: dict[str, tuple[str, str, str, str]]  # work item -> workload, all parameters, procs, runtime options
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
        differing = [level for level, base in zip(combo, self.baseline) if level != base]
        return " + ".join(differing) if differing else "baseline"


def nearest(name: str, known: list[str]) -> str:
    """'; did you mean X?' or the list of what there is. Used for every unknown name."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"did you mean '{close[0]}'?"
    return "there is: " + ", ".join(known) if known else "there is none"


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
    path = _find_run(path)
    manifest_path = os.path.join(path, "manifest.json")
    manifest = _parse(_read(manifest_path), manifest_path, None)
    _check_manifest(manifest, manifest_path)

    plan_path = os.path.join(path, "plan.jsonl")
    plan, _ = _lines(plan_path, tolerate_tail=False)
    planned: dict[int, dict[str, Any]] = {}
    for number, line in plan:
        where = f"{plan_path}:{number}"
        _need(line, {"seq": int, "block": int, "workload": str, "combo": dict}, where)
        _check_combo(line["combo"], where)
        if not isinstance(line.get("params") or {}, dict):
            raise BadInput(f"{where}: 'params' must be an object, is {line['params']!r:.60}")
        if line["seq"] in planned:
            raise BadInput(f"{where}: seq {line['seq']} is planned twice")
        planned[line["seq"]] = line
    if not planned:
        raise BadInput(f"{plan_path}: the plan is empty")

    cells_path = os.path.join(path, "cells.jsonl")
    notes: list[str] = []
    attempts: dict[int, int] = {}
    last: dict[int, dict[str, Any]] = {}
    records: list[tuple[int, dict[str, Any]]] = []
    if os.path.exists(cells_path):
        records, truncated = _lines(cells_path, tolerate_tail=True)
        if truncated:
            notes.append(f"the last line of cells.jsonl (line {truncated}) is incomplete and was ignored")
    else:
        notes.append("there is no cells.jsonl: nothing has been run")
    for number, record in records:
        where = f"{cells_path}:{number}"
        _check_cell(record, where)
        seq = record["seq"]
        if seq not in planned:
            raise BadInput(f"{where}: seq {seq} is not in plan.jsonl")
        for key in ("block", "workload", "combo"):
            if record[key] != planned[seq][key]:
                raise BadInput(f"{where}: {key} differs from the plan's seq {seq}: {record[key]!r}, planned {planned[seq][key]!r}")
        attempts[seq] = attempts.get(seq, 0) + 1
        last[seq] = record

    return _assemble(path, manifest, [planned[seq] for seq in sorted(planned)], last, attempts, notes)


def _assemble(path, manifest, plan, last, attempts, notes) -> Run:
    work_of = work_names(plan)
    entries = {entry["name"]: entry for entry in manifest["workloads"]}
    order = {name: index for index, name in enumerate(entries)}
    works = sorted({work_of[line["seq"]]: line["workload"] for line in plan}.items(),
                   key=lambda item: (order.get(item[1], len(order)), item[0]))
    workload_of = dict(works)

    baseline = tuple(manifest["baseline"][gear] for gear in GEARS)
    levels: dict[str, list[str]] = {}
    for index, gear in enumerate(GEARS):
        used = {line["combo"][gear] for line in plan}
        declared = [level for level in manifest["factors"].get(gear, []) if level in used]
        names = declared + sorted(used - set(declared))
        levels[gear] = sorted(names, key=lambda level: level != baseline[index])  # stable: baseline first
    combos = sorted({tuple(line["combo"][gear] for gear in GEARS) for line in plan},
                    key=lambda combo: [levels[gear].index(level) for gear, level in zip(GEARS, combo)])
    if baseline not in combos:
        notes.append("the baseline combination is not part of this run: there is nothing to form ratios with")

    cells = []
    metrics: dict[str, Metric] = {}
    seconds: dict[str, Metric] = {}
    for line in plan:
        record = last.get(line["seq"])
        if record is None:
            continue
        name = entries.get(line["workload"], {}).get("headline") or "throughput"
        value = metric_value(record, name)
        reason = record.get("reason")
        if record["status"] == "ok" and (value is None or value <= 0):
            reason = f"reported no positive '{name}'"
            value = None
        work = work_of[line["seq"]]
        cells.append(Cell(
            seq=line["seq"], block=line["block"], workload=line["workload"], work=work,
            combo=tuple(line["combo"][gear] for gear in GEARS), procs=line.get("procs"), status=record["status"],
            reason=reason, attempts=attempts[line["seq"]], metric=name,
            value=None if value is None else float(value), record=record))
        if value is not None and work not in metrics:
            metrics[work] = _describe(record, name)
        if value is not None and name != "throughput" and work not in seconds and metric_value(record, "throughput"):
            seconds[work] = _describe(record, "throughput")
    for work, workload in works:
        name = entries.get(workload, {}).get("headline") or "throughput"
        metrics.setdefault(work, _describe({"metrics": []}, name))
    return Run(path=path, manifest=manifest, plan=plan, cells=cells, works=[work for work, _ in works], combos=combos,
               levels=levels, baseline=baseline, metrics=metrics, seconds=seconds,
               identities={work_of[line["seq"]]: identity(line) for line in plan},
               summaries={work: entries.get(workload_of[work], {}).get("summary") or "" for work, _ in works},
               not_run=len(plan) - len(cells), notes=notes, fingerprint=_fingerprint(path))


def _describe(record: dict[str, Any], name: str) -> Metric:
    for metric in record["metrics"]:
        if metric["name"] == name:
            return Metric(name, metric.get("unit") or "", metric.get("better") or "higher")
    if name == "throughput":
        return Metric(name, "", "higher")
    return Metric(name, {"peak_rss": "bytes", "wall": "s", "cpu": "s"}.get(name, "ns"), "lower")


def identity(line: dict[str, Any]) -> tuple[str, str, str, str]:
    """What a planned cell asks apart from its gears, in full: the name of a work item leaves out what one run does not vary."""
    params = ", ".join(f"{key}={value}" for key, value in sorted((line.get("params") or {}).items()))
    return line["workload"], params, str(line.get("procs")), str(line.get("runtime") or "")


def work_names(plan: list[dict[str, Any]]) -> dict[int, str]:
    """seq -> work item: the workload's name, plus parameters, procs and runtime options where the run has several."""
    seen: dict[str, dict[str, set[str]]] = {}
    for line in plan:
        facts = {**(line.get("params") or {}), "procs": line.get("procs"), "runtime": line.get("runtime")}
        for key, value in facts.items():
            seen.setdefault(line["workload"], {}).setdefault(key, set()).add(json.dumps(value))
    names = {}
    for line in plan:
        facts = {**(line.get("params") or {}), "procs": line.get("procs"), "runtime": line.get("runtime")}
        varying = [f"{key}={facts.get(key)}" for key, values in sorted(seen[line["workload"]].items()) if len(values) > 1]
        names[line["seq"]] = " ".join([line["workload"]] + varying)
    return names


def _find_run(path: str) -> str:
    if not os.path.isdir(path):
        parent = os.path.dirname(os.path.normpath(path)) or "."
        siblings = sorted(os.listdir(parent)) if os.path.isdir(parent) else []
        raise BadInput(f"{path}: no such run directory; {nearest(os.path.basename(os.path.normpath(path)), siblings)}")
    if not os.path.exists(os.path.join(path, "manifest.json")):
        latest = os.path.join(path, "latest")
        if os.path.exists(os.path.join(latest, "manifest.json")):
            return os.path.normpath(latest)
        raise BadInput(f"{os.path.join(path, 'manifest.json')}: missing; this is not a run directory")
    return os.path.normpath(path)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        raise BadInput(f"{path}: missing") from None
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not UTF-8 at byte {error.start}") from None


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not a JSON number; records write null for what is not finite")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text} is not finite")
    return value


def _bounded(text: str) -> int:
    value = int(text) if len(text) < 40 else None
    if value is None or abs(value) >= 2**64:
        raise ValueError(f"the number {text:.40} does not fit 64 bits")
    return value


def _parse(text: str, path: str, line: int | None) -> Any:
    where = f"{path}:{line}" if line else path
    try:
        return json.loads(text, parse_constant=_refuse_constant, parse_float=_finite, parse_int=_bounded)
    except json.JSONDecodeError as error:
        place = where if line else f"{path}:{error.lineno}"
        raise BadInput(f"{place}: invalid JSON: {error.msg} (column {error.colno})") from None
    except ValueError as error:
        raise BadInput(f"{where}: {error}") from None
    except RecursionError:
        raise BadInput(f"{where}: invalid JSON: nested too deeply") from None


def _lines(path: str, tolerate_tail: bool) -> tuple[list[tuple[int, dict[str, Any]]], int | None]:
    """(line number, object) for every line, and the number of an ignored incomplete last line or None."""
    text = _read(path)
    complete = text.endswith("\n")
    lines = text.split("\n")
    parsed = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        if number == len(lines) and not complete and tolerate_tail:
            try:
                value = _parse(line, path, number)
            except BadInput:
                return parsed, number
        else:
            value = _parse(line, path, number)
        if not isinstance(value, dict):
            raise BadInput(f"{path}:{number}: expected a JSON object")
        parsed.append((number, value))
    return parsed, None


def _need(record: dict[str, Any], fields: dict[str, type], where: str) -> None:
    for field, kind in fields.items():
        if field not in record:
            raise BadInput(f"{where}: field '{field}' is missing")
        if not isinstance(record[field], kind) or (kind is int and isinstance(record[field], bool)):
            raise BadInput(f"{where}: field '{field}' must be {kind.__name__}, is {record[field]!r:.60}")


def _check_schema(record: Any, where: str) -> None:
    if not isinstance(record, dict):
        raise BadInput(f"{where}: expected a JSON object")
    if record.get("schema") != SCHEMA:
        raise BadInput(f"{where}: schema {record.get('schema')!r} is not supported; this version reads schema {SCHEMA}")


def _check_combo(combo: Any, where: str) -> None:
    for gear in GEARS:
        if not isinstance(combo.get(gear), str):
            raise BadInput(f"{where}: combo names no {gear}")


def _check_manifest(manifest: Any, where: str) -> None:
    _check_schema(manifest, where)
    _need(manifest, {"experiment": str, "run_id": str, "baseline": dict, "factors": dict, "workloads": list}, where)
    _check_combo(manifest["baseline"], f"{where}: baseline")
    for field, kind, word in (("machine", dict, "an object"), ("build", dict, "an object"), ("illegal", list, "a list")):
        if manifest.get(field) is not None and not isinstance(manifest[field], kind):
            raise BadInput(f"{where}: '{field}' must be {word}, is {manifest[field]!r:.60}")
    for gear, levels in manifest["factors"].items():
        if not isinstance(levels, list) or not all(isinstance(level, str) for level in levels):
            raise BadInput(f"{where}: factors.{gear} must be a list of names, is {levels!r:.60}")
    for entry in manifest.get("illegal") or []:
        if not isinstance(entry, dict) or not isinstance(entry.get("combo") or {}, dict):
            raise BadInput(f"{where}: an entry of 'illegal' needs a combo and a reason: {entry!r:.60}")
    for entry in manifest["workloads"]:
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            raise BadInput(f"{where}: every entry of 'workloads' needs a name")
        for field in ("headline", "summary"):
            if entry.get(field) is not None and not isinstance(entry[field], str):
                raise BadInput(f"{where}: workload '{entry['name']}': {field} must be text, is {entry[field]!r:.60}")
    machine = manifest.get("machine") or {}
    for field, fits, word in (("load_before", _is_number, "numbers"), ("verdict_reasons", lambda item: isinstance(item, str), "sentences")):
        values = machine.get(field)
        if values is not None and not (isinstance(values, list) and all(fits(item) for item in values)):
            raise BadInput(f"{where}: machine.{field} must be a list of {word}, is {values!r:.60}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _check_cell(record: dict[str, Any], where: str) -> None:
    _check_schema(record, where)
    _need(record, {"seq": int, "block": int, "workload": str, "combo": dict, "status": str}, where)
    _check_combo(record["combo"], where)
    if record["status"] not in STATUSES:
        raise BadInput(f"{where}: unknown status '{record['status']}'; {nearest(record['status'], list(STATUSES))}")
    for field, kind, word in (("metrics", list, "a list"), ("hists", list, "a list"), ("rusage", dict, "an object"), ("noise", dict, "an object")):
        if record.get(field) is not None and not isinstance(record[field], kind):
            raise BadInput(f"{where}: '{field}' must be {word}, is {record[field]!r:.60}")
    for metric in record.get("metrics") or []:
        if not isinstance(metric, dict) or not isinstance(metric.get("name"), str) or "value" not in metric:
            raise BadInput(f"{where}: a metric needs a name and a value: {metric!r:.60}")
        if metric["value"] is not None and not _is_number(metric["value"]):
            raise BadInput(f"{where}: metric '{metric['name']}' is not a number: {metric['value']!r:.60}")
        if metric.get("better", "higher") not in ("higher", "lower"):
            raise BadInput(f"{where}: metric '{metric['name']}': better must be 'higher' or 'lower'")
    for hist in record.get("hists") or []:
        if not isinstance(hist, dict) or not isinstance(hist.get("name"), str):
            raise BadInput(f"{where}: a histogram needs a name")
        for field in ("percentiles", "buckets"):
            if not isinstance(hist.get(field) or [], list):
                raise BadInput(f"{where}: histogram '{hist['name']}': {field} must be a list, is {hist[field]!r:.60}")
        if hist.get("max") is not None and not _is_number(hist["max"]):
            raise BadInput(f"{where}: histogram '{hist['name']}': max is not a number: {hist['max']!r:.60}")
        for pair in hist.get("percentiles") or []:
            if not (isinstance(pair, list) and len(pair) == 2 and _is_number(pair[0]) and (pair[1] is None or _is_number(pair[1]))):
                raise BadInput(f"{where}: histogram '{hist['name']}': a percentile is [percent, value], got {pair!r:.60}")
        for bucket in hist.get("buckets") or []:
            if not (isinstance(bucket, list) and len(bucket) == 3 and all(_is_number(part) for part in bucket)):
                raise BadInput(f"{where}: histogram '{hist['name']}': a bucket is [lower, upper, count], got {bucket!r:.60}")


def _fingerprint(path: str) -> str:
    digest = hashlib.sha256()
    for name in ("manifest.json", "plan.jsonl", "cells.jsonl"):
        full = os.path.join(path, name)
        if os.path.exists(full):
            with open(full, "rb") as file:
                digest.update(hashlib.sha256(file.read()).digest())
    return digest.hexdigest()
