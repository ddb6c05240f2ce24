"""What a manifest, a planned cell and a record must look like, each by itself. check.py holds them against each other.

Every refusal names file, line, field, value and what would be right. A field that is not known is refused like a missing
one: most of the time it is a known field with a slip in its name, and then the known one's value would be lost.
"""
from __future__ import annotations

import re
from typing import Any, Callable

from .records import BadInput, nearest, show

SCHEMAS = (2, 3)  # that this version reads
GEARS = ("scheduler", "allocator", "collector", "poller")
OWNERS = (*GEARS, "runtime", "params")  # of effective options
STATUSES = ("ok", "check_failed", "exit", "signal", "timeout", "oom", "unsupported", "infra")
BETTER = ("higher", "lower")
LEAST_BLOCKS = 3  # that a budget gives, however long a block takes
AMOUNTS = ("s", "ns", "us", "ms", "bytes")  # units of what cannot be negative
RUSAGE = ("user_ns", "system_ns", "max_rss_bytes", "minor_faults", "major_faults", "voluntary_switches", "involuntary_switches")

Rule = tuple[Callable[[Any], bool], str]  # what fits, and in words what would be right


def is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_text(value: Any) -> bool:
    return isinstance(value, str)


def is_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())


def _hex(digits: int) -> Rule:
    return (lambda value: is_text(value) and re.fullmatch(f"[0-9a-f]{{{digits}}}", value) is not None, f"{digits} lower-case hex digits")


def optional(rule: Rule) -> Rule:
    return (lambda value: value is None or rule[0](value), f"{rule[1]}, or null")


COUNT: Rule = (lambda value: is_integer(value) and value >= 0, "a whole number, 0 or more")
POSITIVE: Rule = (lambda value: is_integer(value) and value >= 1, "a whole number, 1 or more")
NOT_NEGATIVE: Rule = (lambda value: is_number(value) and value >= 0, "a number, 0 or more")
NUMBER: Rule = (is_number, "a number")
TEXT: Rule = (is_text, "a text")
NAME: Rule = (lambda value: is_text(value) and value.strip() != "", "a text that is not empty")
OBJECT: Rule = (lambda value: isinstance(value, dict), "an object")
LIST: Rule = (lambda value: isinstance(value, list), "a list")
PROCS: Rule = (lambda value: is_integer(value) and 1 <= value <= 256, "a whole number from 1 to 256")
PARAMS: Rule = (lambda value: isinstance(value, dict) and all(is_text(item) or (is_integer(item) and item >= 0) for item in value.values()),
                "an object of names and values, each a text or a whole number")
COMBO: Rule = (lambda value: is_texts(value) and set(value) == set(GEARS) and all(value.values()), f"an object that names the four gears, {', '.join(GEARS)}")
LEVELS: Rule = (lambda value: is_texts(value) and bool(value) and all(value.values()), "an object of factors, each with its level as a text")
TIME: Rule = (lambda value: seconds(value) is not None, 'a time like "2026-11-23T22:15:31Z"')
EFFECTIVE: Rule = (lambda value: isinstance(value, dict) and set(value) == set(OWNERS) and all(is_texts(options) for options in value.values()),
                   f"an object of {', '.join(OWNERS)}, each an object of option texts")
LIBRARIES: Rule = (lambda value: isinstance(value, dict) and all(version is None or (is_text(version) and version != "") for version in value.values()),
                   "an object of the names of libraries, each with its version as a text, or null where none is supported")

# What identifies a cell, and so is the same in a planned cell and in each of its records.
CELL: dict[str, Rule] = {
    "seq": COUNT, "block": COUNT, "cell": _hex(16), "workload": NAME, "params": PARAMS, "combo": COMBO, "procs": PROCS, "runtime": TEXT,
    "build": NAME}
CELL_3: dict[str, Rule] = {"replicate": COUNT, "levels": LEVELS}  # besides, since schema 3
PLANNED: dict[str, Rule] = {**CELL, "effective": EFFECTIVE}
RECORD: dict[str, Rule] = {
    "schema": COUNT, **CELL, "run": NAME, "host": TEXT, "attempt": POSITIVE, "status": TEXT, "exit": optional((is_integer, "a whole number")),
    "signal": optional(NAME), "reason": optional(NAME), "t_start": TIME, "wall_ns": COUNT, "rusage": OBJECT, "noise": OBJECT, "effective": OBJECT,
    "metrics": LIST, "hists": LIST, "counters": OBJECT, "checks": LIST}
RECORD_MAY: dict[str, Rule] = {"guard": TEXT, "stderr": TEXT, "libraries": LIBRARIES}
MANIFEST: dict[str, Rule] = {
    "schema": COUNT, "experiment": NAME, "run_id": NAME, "seed": COUNT, "started": TIME, "blocks": POSITIVE, "cells_planned": POSITIVE, "machine": OBJECT,
    "build": OBJECT, "baseline": COMBO, "factors": OBJECT, "procs": LIST, "overrides": OBJECT, "limits": OBJECT, "illegal": LIST, "workloads": LIST,
    "plan": OBJECT, "experiment_sha256": _hex(64), "checksum": _hex(64)}
MANIFEST_MAY: dict[str, Rule] = {"ended": TIME, "question": optional(TEXT), "hypothesis": optional(TEXT), "records": OBJECT, "resumed_with": LIST, "libraries": LIBRARIES}
MANIFEST_3: dict[str, Rule] = {**MANIFEST, "baseline": LEVELS, "design": OBJECT}
OVER_ZERO: Rule = (lambda value: is_number(value) and value > 0, "a number above 0")
DESIGN: dict[str, Rule] = {
    "kind": NAME, "blocks": POSITIVE, "baseline_runs": (lambda value: value == "rule" or POSITIVE[0](value), 'a whole number, 1 or more, or "rule"'),
    "budget_s": optional(OVER_ZERO)}
BUDGET: dict[str, Rule] = {"budget_s": OVER_ZERO, "block_0_s": OVER_ZERO, "blocks": POSITIVE}


def seconds(value: Any) -> float | None:
    """Seconds of a time in the one form that records use; None for anything else."""
    found = re.fullmatch(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(\.\d{1,9})?Z", value) if is_text(value) else None
    if not found:
        return None
    import calendar
    year, month, day, hour, minute, second = (int(part) for part in found.groups()[:6])
    if not (1 <= month <= 12 and 1 <= day <= calendar.monthrange(year, month)[1] if 1 <= year and 1 <= month <= 12 else False) or hour > 23 or minute > 59 or second > 60:
        return None
    return calendar.timegm((year, month, day, hour, minute, second)) + float(found.group(7) or 0)


def refuse(where: str, field: str, value: Any, right: str) -> None:
    raise BadInput(f"{where}: field '{field}' is {show(value)}; it should be {right}")


def need(value: dict[str, Any], rules: dict[str, Rule], where: str, prefix: str = "") -> None:
    for field, (fits, right) in rules.items():
        if field not in value:
            known = [name for name in value if name not in rules]
            slip = f"; did you mean '{prefix}{field}' where it says '{prefix}{close[0]}'?" if (close := _close(field, known)) else ""
            raise BadInput(f"{where}: field '{prefix}{field}' is missing; it should be {right}{slip}")
        if not fits(value[field]):
            refuse(where, prefix + field, value[field], right)


def _close(field: str, known: list[str]) -> list[str]:
    import difflib
    return difflib.get_close_matches(field, known, n=1, cutoff=0.6)


def only(value: dict[str, Any], known: list[str], where: str, what: str) -> None:
    for field in value:
        if field not in known:
            raise BadInput(f"{where}: field '{field}' is not one of {what}; {nearest(field, known)}")


def schema(value: Any, where: str) -> None:
    if not isinstance(value, dict):
        raise BadInput(f"{where}: the file is {show(value)}; it should be a JSON object")
    if value.get("schema") not in SCHEMAS or isinstance(value["schema"], bool):
        raise BadInput(f"{where}: field 'schema' is {show(value.get('schema'))}; it should be {' or '.join(map(str, SCHEMAS))}, which this version reads")


def manifest(value: Any, where: str) -> None:
    schema(value, where)
    need(value, MANIFEST if value["schema"] == 2 else MANIFEST_3, where)
    for field, rule in MANIFEST_MAY.items():
        if field in value:
            need(value, {field: rule}, where)
    build, machine = value["build"], value["machine"]
    need(build, {"build_id": NAME}, where, "build.")
    need(machine, {"host": TEXT}, where, "machine.")
    if machine.get("verdict") not in (None, "green", "amber", "red"):
        refuse(where, "machine.verdict", machine["verdict"], "green, amber or red")
    for field, fits, right in (("load_before", is_number, "a list of numbers"), ("verdict_reasons", is_text, "a list of sentences")):
        listed = machine.get(field)
        if listed is not None and not (isinstance(listed, list) and all(fits(item) for item in listed)):
            refuse(where, f"machine.{field}", listed, right)
    if value["schema"] == 2:
        _gears(value, where)
    else:
        _factors(value, where)
        _design(value, where)
    _procs(value, where)
    _workloads(value, where)
    for entry in value["illegal"]:
        if not isinstance(entry, dict) or not COMBO[0](entry.get("combo")) or not is_text(entry.get("reason")):
            refuse(where, "illegal", entry, "a combo of the four gears and a reason, in each entry")
    need(value["plan"], {"cells": POSITIVE, "sha256": _hex(64)}, where, "plan.")
    if "records" in value:
        need(value["records"], {"lines": COUNT, "bytes": COUNT, "sha256": _hex(64)}, where, "records.")
    for entry in value.get("resumed_with") or []:
        if not isinstance(entry, dict) or not NAME[0](entry.get("build_id")) or not COUNT[0](entry.get("records_before")):
            refuse(where, "resumed_with", entry, "a build_id and records_before, in each entry")
    if "ended" in value:
        if "records" not in value:
            raise BadInput(f"{where}: field 'records' is missing; a run that has 'ended' should say how many records it ended with")
        if seconds(value["ended"]) < seconds(value["started"]):
            refuse(where, "ended", value["ended"], f"no earlier than 'started', {value['started']}")


def _gears(value: dict[str, Any], where: str) -> None:
    only(value["factors"], list(GEARS), where, "the gears in 'factors'")
    for gear in GEARS:
        _levels(value, gear, where)


def _levels(value: dict[str, Any], factor: str, where: str) -> None:
    listed, base = value["factors"].get(factor), value["baseline"].get(factor)
    if not isinstance(listed, list) or not listed or not all(NAME[0](level) for level in listed) or len(set(listed)) < len(listed):
        refuse(where, f"factors.{factor}", listed, "a list of levels, none twice")
    if base not in listed:
        refuse(where, f"baseline.{factor}", base, f"one of the levels {', '.join(listed)}")


def _factors(value: dict[str, Any], where: str) -> None:
    """The four gears, and whatever else a run can be told: procs, label, param.NAME, runtime.OPTION, GEAR.OPTION."""
    for factor in [*GEARS, *value["factors"]]:
        owner, _, name = factor.partition(".")
        if factor not in (*GEARS, "procs", "label") and (owner not in (*GEARS, "param", "runtime") or not name):
            known = [*GEARS, "procs", "label", *(f"{one}.{name or 'NAME'}" for one in ("param", "runtime", *GEARS))]
            raise BadInput(f"{where}: field 'factors.{factor}' is no factor; {nearest(factor, known)}")
        _levels(value, factor, where)
    only(value["baseline"], list(value["factors"]), where, "the factors in 'factors'")
    procs = value["factors"].get("procs")
    if procs is not None and sorted(procs) != sorted(map(str, value["procs"])):
        refuse(where, "factors.procs", procs, f"the numbers of field 'procs', {show(value['procs'])}, as texts")


def _design(value: dict[str, Any], where: str) -> None:
    design, budget = value["design"], value.get("budget")
    need(design, DESIGN, where, "design.")
    if budget is None:
        if value["blocks"] != design["blocks"]:
            refuse(where, "blocks", value["blocks"], f"{design['blocks']}, as field 'design.blocks' says: no 'budget' has fixed another number")
        return
    if not isinstance(budget, dict):
        refuse(where, "budget", budget, "an object of budget_s, block_0_s and blocks, or null")
    need(budget, BUDGET, where, "budget.")
    if budget["budget_s"] != design["budget_s"]:
        refuse(where, "budget.budget_s", budget["budget_s"], f"{show(design['budget_s'])}, as field 'design.budget_s' says")
    # Both are written rounded: at the edge between two numbers of blocks each of them is right.
    fit = {blocks_of(budget["budget_s"], budget["block_0_s"] * (1 + slack), design["blocks"]) for slack in (-1e-6, 0, 1e-6)}
    if budget["blocks"] not in fit:
        refuse(where, "budget.blocks", budget["blocks"], f"{max(fit)}: {budget['budget_s']:g} s for blocks of {budget['block_0_s']:g} s, at least {LEAST_BLOCKS} and at most {design['blocks']}")
    if value["blocks"] != budget["blocks"]:
        refuse(where, "blocks", value["blocks"], f"{budget['blocks']}, as field 'budget.blocks' says")


def blocks_of(budget_s: float, block_0_s: float, most: int) -> int:
    """How many blocks a budget gives, from what block 0 took."""
    return min(most, max(LEAST_BLOCKS, int(min(most, budget_s / block_0_s))))


def _procs(value: dict[str, Any], where: str) -> None:
    if not value["procs"] or not all(PROCS[0](item) for item in value["procs"]) or len(set(value["procs"])) < len(value["procs"]):
        refuse(where, "procs", value["procs"], "a list of whole numbers from 1 to 256, none twice")


def _workloads(value: dict[str, Any], where: str) -> None:
    if not value["workloads"]:
        refuse(where, "workloads", [], "a list of at least one workload")
    headlines: dict[str, str] = {}
    for index, entry in enumerate(value["workloads"]):
        if not isinstance(entry, dict):
            refuse(where, f"workloads[{index}]", entry, "an object with name, params, headline and summary")
        need(entry, {"name": NAME, "params": PARAMS, "headline": NAME, "summary": TEXT}, where, f"workloads[{index}].")
        name = entry["name"]
        if headlines.setdefault(name, entry["headline"]) != entry["headline"]:
            refuse(where, f"workloads[{index}].headline", entry["headline"], f"{headlines[name]}, as in the other entry of {name}")


def planned(value: dict[str, Any], schema: int, where: str) -> None:
    fields = PLANNED if schema == 2 else {**PLANNED, **CELL_3}
    need(value, fields, where)
    only(value, list(fields), where, "a planned cell's fields")
    texts = {name: str(item) for name, item in value["params"].items()}
    if value["effective"]["params"] != texts:
        refuse(where, "effective.params", value["effective"]["params"], f"what 'params' says, {show(texts)}")
    for owner, text in [(gear, value["combo"][gear].partition(":")[2]) for gear in GEARS] + [("runtime", value["runtime"])]:
        for name, item in (piece.split("=", 1) if "=" in piece else (piece, "") for piece in text.split(",") if piece):
            if value["effective"][owner].get(name) != item:
                refuse(where, f"effective.{owner}.{name}", value["effective"][owner].get(name), f"{show(item)}, as the text {show(text)} of the cell says")


def record(value: dict[str, Any], run_schema: int, where: str) -> None:
    schema(value, where)
    if value["schema"] != run_schema:
        refuse(where, "schema", value["schema"], f"{run_schema}, as in manifest.json")
    fields = RECORD if run_schema == 2 else {**RECORD, **CELL_3}
    need(value, fields, where)
    for field, rule in RECORD_MAY.items():
        if field in value:
            need(value, {field: rule}, where)
    only(value, [*fields, *RECORD_MAY], where, "a record's fields")
    if value["status"] not in STATUSES:
        raise BadInput(f"{where}: field 'status' is {show(value['status'])}; it should be one of {', '.join(STATUSES)}; {nearest(value['status'], list(STATUSES))}")
    if value["rusage"]:
        need(value["rusage"], {name: COUNT for name in RUSAGE}, where, "rusage.")
    if value["noise"]:
        need(value["noise"], {"steal_pct": NOT_NEGATIVE, "load1": NOT_NEGATIVE}, where, "noise.")
    if value["effective"] and not EFFECTIVE[0](value["effective"]):
        refuse(where, "effective", value["effective"], EFFECTIVE[1])
    for name, item in value["counters"].items():
        if not is_number(item):
            refuse(where, f"counters.{name}", item, "a number")
    for index, check in enumerate(value["checks"]):
        if not isinstance(check, dict):
            refuse(where, f"checks[{index}]", check, "an object with name, ok and detail")
        need(check, {"name": NAME, "ok": (lambda item: isinstance(item, bool), "true or false"), "detail": TEXT}, where, f"checks[{index}].")
    _metrics(value["metrics"], where)
    names: set[str] = set()
    for index, hist in enumerate(value["hists"]):
        _histogram(hist, index, where)
        if hist["name"] in names:
            refuse(where, f"hists[{index}].name", hist["name"], "a name that no other histogram of the record has")
        names.add(hist["name"])
    _ending(value, where)


def _metrics(metrics: list[Any], where: str) -> None:
    names: set[str] = set()
    for index, metric in enumerate(metrics):
        at = f"metrics[{index}]."
        if not isinstance(metric, dict):
            refuse(where, f"metrics[{index}]", metric, "an object with name, unit, better and value")
        need(metric, {"name": NAME, "unit": TEXT, "better": (lambda item: item in BETTER, '"higher" or "lower"'), "value": optional(NUMBER)}, where, at)
        only(metric, ["name", "unit", "better", "value"], where, f"the fields of metric '{metric['name']}'")
        if metric["name"] in names:
            refuse(where, at + "name", metric["name"], "a name that no other metric of the record has")
        names.add(metric["name"])
        if metric["unit"] in AMOUNTS and metric["value"] is not None and metric["value"] < 0:
            refuse(where, at + "value", metric["value"], f"0 or more: '{metric['name']}' is an amount in {metric['unit']}")


def _histogram(hist: Any, index: int, where: str) -> None:
    at = f"hists[{index}]."
    if not isinstance(hist, dict):
        refuse(where, f"hists[{index}]", hist, "an object with name, unit, count, sum, min, max, percentiles and buckets")
    need(hist, {"name": NAME, "unit": TEXT, "count": COUNT, "sum": NOT_NEGATIVE, "min": NOT_NEGATIVE, "max": NOT_NEGATIVE, "percentiles": LIST, "buckets": LIST}, where, at)
    end = total = 0
    for place, bucket in enumerate(hist["buckets"]):
        if not (isinstance(bucket, list) and len(bucket) == 3 and is_number(bucket[0]) and is_number(bucket[1]) and is_integer(bucket[2])
                and end <= bucket[0] <= bucket[1] and bucket[2] >= 0):
            refuse(where, f"{at}buckets[{place}]", bucket, f"[lower, upper, count], not below {end:g}, where the bucket before it ends")
        end, total = bucket[1], total + bucket[2]
    if total != hist["count"]:
        refuse(where, at + "count", hist["count"], f"{total}, the sum of its buckets")
    if hist["min"] > hist["max"]:
        refuse(where, at + "min", hist["min"], f"no more than 'max', {hist['max']}")
    if total and not (hist["buckets"][0][0] - 1 <= hist["min"] and hist["max"] <= end + 1):
        refuse(where, at + "max", hist["max"], f"within its buckets, which go from {hist['buckets'][0][0]:g} to {end:g} (and so should 'min', {hist['min']:g})")
    if total and not (hist["min"] * total * (1 - 1e-9) - 1 <= hist["sum"] <= hist["max"] * total * (1 + 1e-9) + 1):
        refuse(where, at + "sum", hist["sum"], f"between {total} times 'min' and {total} times 'max'")
    before = (0, 0)
    for place, pair in enumerate(hist["percentiles"]):
        if not (isinstance(pair, list) and len(pair) == 2 and is_number(pair[0]) and is_number(pair[1]) and before[0] < pair[0] <= 100
                and before[1] <= pair[1] <= hist["max"] * (1 + 1e-9)):
            refuse(where, f"{at}percentiles[{place}]", pair, "[percent, value], each larger than those before it, the value no larger than 'max'")
        before = pair


def _ending(value: dict[str, Any], where: str) -> None:
    """What the status promises about the rest of the record."""
    status = value["status"]
    if status == "ok":
        for field, wanted in (("exit", 0), ("signal", None), ("reason", None)):
            if value[field] != wanted:
                refuse(where, field, value[field], f"{show(wanted)}, since the status is \"ok\"")
        if not value["checks"]:
            refuse(where, "checks", [], 'a list of at least one check, since the status is "ok"')
        for index, check in enumerate(value["checks"]):
            if not check["ok"]:
                refuse(where, f"checks[{index}].ok", False, f"true, since the status is \"ok\": the check '{check['name']}' failed, and a wrong answer has no time")
        if not value["effective"]:
            refuse(where, "effective", {}, 'what the cell was set to, since the status is "ok"')
        return
    if value["reason"] is None:
        refuse(where, "reason", None, f"a sentence, since the status is \"{status}\"")
    for field in ("metrics", "hists"):
        if value[field]:
            refuse(where, field, value[field], f"an empty list, since the status is \"{status}\": what failed has no measurement")
