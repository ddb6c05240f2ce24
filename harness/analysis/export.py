"""A run in the formats of other tools: CSV, Go's benchmark format (benchstat), Google Benchmark's JSON (tools/compare.py).

csv       one row an invocation, failed ones too: everything of it, `metric:NAME` and `counter:NAME` columns included.
benchfmt  one line an invocation, all its metrics as values. The name has workload, factors as /factor=level, and whatever else
          tells the work items of the run apart; the number of Ps is its suffix, as GOMAXPROCS is in Go. Host and build are file
          keys. A `Unit` line says of each metric which direction is better, that nothing is assumed of its distribution, and
          what it is called here: a unit of that format can hold no space. A failed invocation is a `--- FAIL` line, as Go
          prints it, and no value.
gbench    one entry an invocation that ended well, a repetition of its name. That format measures times of which less is better: real_time is the
          time of one operation (1 / throughput), or the headline itself where that is a time; cpu_time is the CPU time of the whole
          process, in the same unit. All metrics stand beside them as counters. A failed invocation has no entry, since compare.py
          takes the time of an entry with error_occurred for 0 and what failed for the fastest; context.failures lists them.
"""
from __future__ import annotations

import csv
import io
import json
import urllib.parse

from . import identity, load, rows
from .load import BadInput, Cell, Run, nearest

FORMATS = ("csv", "benchfmt", "gbench")
NANOSECONDS = {"ns": 1.0, "us": 1e3, "ms": 1e6, "s": 1e9}
PLAIN = "=:,._+-%@"  # of a name, besides letters and digits; all else is written %XX


def text(run: Run, format: str) -> str:
    if format not in FORMATS:
        raise BadInput(f"--format: there is no format '{format}'; {nearest(format, list(FORMATS))}")
    return {"csv": _csv, "benchfmt": _benchfmt, "gbench": _gbench}[format](run)


def _quoted(text: str) -> str:
    return urllib.parse.quote(text, safe=PLAIN.replace("%", ""))


def _csv(run: Run) -> str:
    ids = set(rows.identity(run, run.cells[0])) if run.cells else set()
    table = []
    for cell, *others in zip(rows.cells(run), rows.metrics(run), rows.counters(run)):
        table.append(cell)
        for kind, other in zip(("metric", "counter"), others):
            cell.update({f"{kind}:{name.removeprefix(kind + '.')}": value for name, value in other.items() if name not in ids})
    out = io.StringIO()
    writer = csv.DictWriter(out, list(table[0]) if table else ["seq"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return out.getvalue()


def names(run: Run) -> dict[tuple[str, load.Treatment], list[str]]:
    """(work item, treatment) -> the parts of a name: workload, then name=value for all factors and what tells work items apart."""
    differing = identity.differing(list(run.identities.values()))
    found = {}
    for work, treatments in run.factors.planned.items():
        item = run.identities[work]
        more = [f"{name}={value}" for name, value in differing[item]]
        for treatment in treatments:
            found[work, treatment] = [item.workload, *(f"{factor}={level}" for factor, level in run.factors.named(treatment).items()), *more]
    return found


def _benchfmt(run: Run) -> str:
    manifest, machine = run.manifest, run.manifest["machine"]
    keys = {"experiment": manifest["experiment"], "run": manifest["run_id"], "os": machine.get("os"), "kernel": machine.get("kernel"), "cpu": machine.get("cpu"),
            "cores": machine.get("cores"), "virtualization": machine.get("virtualization"), "machine-verdict": machine.get("verdict"),
            "compiler": manifest["build"].get("compiler"), "flags": manifest["build"].get("flags"), "commit": manifest["build"].get("git_commit")}
    lines = [f"{key}: {value}" for key, value in keys.items() if value is not None]
    units = _units(run)
    for unit, (metric, own, better) in dict.fromkeys((unit, known) for unit, known in units.values()):
        lines.append(f"Unit {unit} better={better} assume=nothing metric={_quoted(metric)} unit={_quoted(own)}")
    parts = names(run)
    before: tuple[str, str] | None = None
    for cell in run.cells:
        where = cell.record["host"], cell.record["build"]
        if where != before:  # a run that was resumed elsewhere
            lines += [f"host: {where[0]}", f"build: {where[1]}"]
            before = where
        workload, *settings = map(_quoted, parts[cell.work, cell.treatment])
        name = "/".join([f"Benchmark{workload[0].upper()}{workload[1:]}", *settings]) + f"-{cell.procs}"
        if not cell.ok:
            lines.append(f"--- FAIL: {name}: {cell.status}: {' '.join((cell.reason or 'no value').split())}")
            continue
        values = [f"{metric['value']!r} {units[cell.workload, metric['name']][0]}" for metric in _headline_first(cell) if metric["value"] is not None]
        lines.append(f"{name} 1 " + " ".join(values))
    return "\n".join(lines) + "\n"


def _headline_first(cell: Cell) -> list[dict]:
    return sorted(cell.record["metrics"], key=lambda metric: metric["name"] != cell.metric)


def _units(run: Run) -> dict[tuple[str, str], tuple[str, tuple[str, str, str]]]:
    """(workload, metric) -> (unit in the file, (metric, its unit, better)). One unit of the file is one metric with one direction."""
    found, taken = {}, {}
    for row in rows.units(run):
        own = {"bytes": "B", "s": "sec"}.get(row["unit"], row["unit"])
        known = (row["metric"], row["unit"], row["better"])
        unit = _quoted("-".join(filter(None, f"{row['metric']} {own}".split()))).replace("%2F", "/")
        if taken.setdefault(unit, known) != known:
            unit = f"{row['workload']}.{unit}"
            taken[unit] = known
        found[row["workload"], row["metric"]] = unit, known
    return found


def _gbench(run: Run) -> str:
    machine, build = run.manifest["machine"], run.manifest["build"]
    context = {"date": run.manifest["started"], "host_name": machine["host"], "executable": f"gearbox {build['build_id']}", "num_cpus": machine.get("cores"),
               "cpu_scaling_enabled": machine.get("governor") not in (None, "performance"), "caches": [], "load_avg": machine.get("load_before") or [],
               "library_build_type": "release" if build.get("preset") == "release" else "debug", "experiment": run.manifest["experiment"], "run": run.manifest["run_id"]}
    parts = {key: "/".join(map(_quoted, pieces)) for key, pieces in names(run).items()}
    context["failures"] = [{"seq": cell.seq, "name": parts[cell.work, cell.treatment], "status": cell.status, "reason": cell.reason} for cell in run.failures]
    repetitions: dict[str, list[dict]] = {}
    for cell in run.cells:
        if not cell.ok:
            continue
        name, headline = parts[cell.work, cell.treatment], run.metrics[cell.work]
        time = {"real_time": 1e9 / cell.value, "items_per_second": cell.value} if headline.better == "higher" else {"real_time": cell.value * NANOSECONDS.get(headline.unit, 1.0)}
        family = repetitions.setdefault(name, [])
        number = family[0]["family_index"] if family else len(repetitions) - 1
        entry = {"name": name, "family_index": number, "per_family_instance_index": 0, "run_name": name, "run_type": "iteration", "repetitions": 0,
                 "repetition_index": len(family), "threads": cell.procs, "iterations": 1, **time, "cpu_time": (load.metric_value(cell.record, "cpu") or 0.0) * 1e9, "time_unit": "ns"}
        entry.update({metric["name"]: metric["value"] for metric in cell.record["metrics"] if metric["value"] is not None and metric["name"] not in entry})
        family.append(entry)
    for family in repetitions.values():
        for entry in family:
            entry["repetitions"] = len(family)
    benchmarks = [entry for family in repetitions.values() for entry in family]
    return json.dumps({"context": context, "benchmarks": benchmarks}, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
