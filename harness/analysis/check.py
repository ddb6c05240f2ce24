"""Is this run directory what a run has written? One set of rules for every verb, `resume` included.

There is one implementation, this one: the verbs of the analysis call run(), and `resume` starts `python -m analysis.check RUN`
before it locks, repairs or starts anything. Two readers with rules of their own had drifted: one accepted what the other
refused. The rules are here and not in C++ because the analysis must read a run years later on a machine that has no
gearbox-bin, while whoever resumes a run needs Python in any case, for the table and the report at its end. They need
nothing but the standard library, so that starting costs `resume` a twentieth of a second. tests/harness/corruptions.json
lists damaged runs and what must be said of each; a test asks both verbs and compares their sentences.

The order of the questions is that of the sentences' use: each file's own rules first, since they name field and value; then
the hashes, which notice every change and cannot name it.

What tells a run that stopped from one that lost lines. The runner works through the plan in order, so the first record of a
seq never comes before one of a smaller seq: a gap is a lost line. Whenever the runner stops in an orderly way, at the end or
on Ctrl-C, it writes into the manifest how many records there are and their hash. So only what a kill -9 leaves, an unmarked
tail, may be shorter than it was; its cells run again. A torn last line is what a power cut leaves and is legal: readers
ignore it, and `resume` cuts it off.
"""
from __future__ import annotations

import hashlib
import os
import sys
from typing import Any

from . import design, identity, interrupts, records, rules
from .records import BadInput, nearest, show
from .rules import GEARS, refuse

CLOCK_STEP_S = 3600.0  # a computer's clock may be set back while it measures; by hours it is not


class Checked:
    """A run directory that keeps all rules."""

    def __init__(self, path: str):
        self.path = path
        self.manifest: dict[str, Any] = {}
        self.plan: list[dict[str, Any]] = []  # by seq; without the blocks that a budget left out
        self.last: dict[int, dict[str, Any]] = {}  # seq -> the record that counts
        self.aside: list[tuple[int, dict[str, Any]]] = []  # (line, record) of attempts that were repeated
        self.attempts: dict[int, int] = {}
        self.notes: list[str] = []  # what a reader should know, such as an ignored last line
        self.fingerprint = ""  # SHA-256 over the inputs

    @property
    def newest_build(self) -> str:
        entries = self.manifest.get("resumed_with") or []
        return entries[-1]["build_id"] if entries else self.manifest["build"]["build_id"]


def run(path: str) -> Checked:
    """Checks a run directory, or an experiment directory through its `latest` link. Raises BadInput."""
    found = Checked(find(path))
    manifest_path, plan_path, cells_path = (os.path.join(found.path, name) for name in ("manifest.json", "plan.jsonl", "cells.jsonl"))
    manifest_bytes = records.read_bytes(manifest_path)
    if b"\r" in manifest_bytes:
        line = manifest_bytes[:manifest_bytes.index(b"\r")].count(b"\n") + 1
        raise BadInput(f"{manifest_path}:{line}: the line ends in a carriage return: a program has rewritten the file; a run's lines end in a newline alone")
    found.manifest = records.parse(records.decode(manifest_bytes, manifest_path), manifest_path, None)
    rules.manifest(found.manifest, manifest_path)

    plan_bytes = records.read_bytes(plan_path)
    _plan(found, plan_bytes, plan_path, manifest_path)
    _checksum(found.manifest, manifest_bytes, manifest_path)
    experiment_path = os.path.join(found.path, "experiment.toml")
    _same_hash(records.read_bytes(experiment_path), found.manifest["experiment_sha256"], experiment_path, "experiment_sha256")

    cells_bytes = b""
    if os.path.exists(cells_path):
        cells_bytes = records.read_bytes(cells_path)
    elif (found.manifest.get("records") or {}).get("lines", 0):
        raise BadInput(f"{cells_path}: missing; manifest.json says that the run has {found.manifest['records']['lines']} records")
    else:
        found.notes.append("there is no cells.jsonl: nothing has been run")
    _records(found, cells_bytes, cells_path)
    _ended(found, cells_bytes, cells_path)
    digest = hashlib.sha256()
    for data in (manifest_bytes, plan_bytes, cells_bytes):
        digest.update(hashlib.sha256(data).digest())
    found.fingerprint = digest.hexdigest()
    return found


def find(path: str) -> str:
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


# ---- the plan ----

def _plan(found: Checked, data: bytes, path: str, manifest_path: str) -> None:
    manifest = found.manifest
    lines, _ = records.lines(data, path, may_be_torn=False)
    if not lines:
        raise BadInput(f"{path}: the plan is empty; manifest.json says that it has {manifest['plan']['cells']} cells")
    schema = manifest["schema"]
    varied = manifest["factors"] if schema > 2 else {}
    most_blocks = manifest["design"]["blocks"] if schema > 2 else manifest["blocks"]
    run_blocks = design.blocks(manifest)
    workloads = {(entry["name"], show_params(design.fixed(entry["params"], varied))) for entry in manifest["workloads"]}
    places: dict[tuple[int, tuple], int] = {}  # (block, what it holds once) -> line
    held: dict[tuple, int] = {}  # what a block holds once -> index of a line
    ids: dict[str, tuple[str, int]] = {}  # cell -> (identity, index)
    cells: dict[tuple[str, str], tuple[str, int]] = {}  # (identity, label) -> (cell, line)
    gears: dict[tuple[str, str], tuple[Any, int]] = {}  # (gear, its text) -> (options, line)
    for index, (number, line) in enumerate(lines):
        where = f"{path}:{number}"
        rules.planned(line, schema, where)
        if line["seq"] != index:
            refuse(where, "seq", line["seq"], f"{index}: a plan counts its cells from 0, one a line")
        if line["build"] != manifest["build"]["build_id"]:
            refuse(where, "build", line["build"], f"{show(manifest['build']['build_id'])}, the build of manifest.json")
        if line["block"] >= most_blocks:
            refuse(where, "block", line["block"], f"below {most_blocks}, the number of blocks in manifest.json")
        if line["workload"] not in {name for name, _ in workloads}:
            refuse(where, "workload", line["workload"], f"a workload of manifest.json; {nearest(line['workload'], sorted({name for name, _ in workloads}))}")
        if (line["workload"], show_params(design.fixed(line["params"], varied))) not in workloads:
            refuse(where, "params", line["params"], f"a set of parameters that manifest.json has for {line['workload']}")
        for gear in GEARS:
            text = line["combo"][gear]
            listed = manifest["factors"][gear]
            if text not in listed if schema == 2 else design.gear_name(text) not in map(design.gear_name, listed):
                refuse(where, f"combo.{gear}", text, f"a level of manifest.json; {nearest(text, listed)}")
            options, first = gears.setdefault((gear, text), (line["effective"][gear], number))
            if options != line["effective"][gear]:
                refuse(where, f"effective.{gear}", line["effective"][gear], f"{show(options)}, as for the same {gear} in line {first}")
        if line["procs"] not in manifest["procs"]:
            refuse(where, "procs", line["procs"], f"one of {', '.join(map(str, manifest['procs']))}, as in manifest.json")
        if schema > 2:
            design.line(line, manifest, where)
        whole = identity.cell(line)
        known, first = ids.setdefault(line["cell"], (whole, index))
        if known != whole:
            refuse(where, "cell", line["cell"], f"an id of its own: line {lines[first][0]} has it for another cell, {identity.words(lines[first][1])}")
        known, first = cells.setdefault((whole, design.key(line)[1]), (line["cell"], number))
        if known != line["cell"]:
            refuse(where, "cell", line["cell"], f"{show(known)}, as in line {first}: both are {identity.words(line)}")
        held.setdefault(design.key(line), index)
        first = places.setdefault((line["block"], design.key(line)), number)
        if first != number:
            raise BadInput(f"{where}: block {line['block']} holds the cell {line['cell']} ({identity.words(line)}){_which(line)} twice, here and in line {first}; "
                           f"it should hold each {'cell' if schema == 2 else 'replicate of a cell'} once")
        if line["block"] < run_blocks:
            found.plan.append(line)
    for field, planned in (("plan.cells", manifest["plan"]["cells"]), ("cells_planned", manifest["cells_planned"])):
        if planned != len(lines):
            raise BadInput(f"{path}: it has {len(lines)} lines; it should have {planned}, as field '{field}' of manifest.json says: "
                           f"lines {'are missing' if len(lines) < planned else 'were added'}")
    for block in range(most_blocks):
        if (absent := next((one for one in held if (block, one) not in places), None)) is not None:
            line = lines[held[absent]][1]
            raise BadInput(f"{path}: block {block} lacks the cell {absent[0]} ({identity.words(line)}){_which(line)}; each block should hold every cell once")
    if schema > 2:
        for (_, before), (number, line) in zip(lines, lines[1:]):
            if line["block"] < before["block"]:
                refuse(f"{path}:{number}", "block", line["block"], f"{before['block']} or more, as in the line before: blocks run one after the other")
        design.replicates(lines, manifest, path)
    _same_hash(data, manifest["plan"]["sha256"], path, "plan.sha256")


def _which(line: dict[str, Any]) -> str:
    """Which of a cell's runs in the block a line is, where there are several."""
    label = line.get("levels", {}).get("label")
    return (f", label {label}" if label else "") + (f", replicate {line['replicate']}" if line.get("replicate") else "")


def show_params(params: dict[str, Any]) -> str:
    return "\n".join(f"{name}={value}" for name, value in sorted(params.items()))


def _same_hash(data: bytes, wanted: str, path: str, field: str) -> None:
    if hashlib.sha256(data).hexdigest() != wanted:
        raise BadInput(f"{path}: it was changed after the run wrote it, or belongs to another run: its SHA-256 is {hashlib.sha256(data).hexdigest()[:16]}…; "
                       f"it should be {wanted[:16]}…, as field '{field}' of manifest.json says")


def _checksum(manifest: dict[str, Any], data: bytes, path: str) -> None:
    """The hash of the file's own text, taken while zeros stood in the place of the digits."""
    digits = manifest["checksum"]
    sum_now = hashlib.sha256(data.replace(digits.encode(), b"0" * len(digits))).hexdigest()
    if sum_now != digits:
        raise BadInput(f"{path}: it was changed after the run wrote it: field 'checksum' is {digits[:16]}…; it should be {sum_now[:16]}… for what the file says now")


# ---- the records ----

def _records(found: Checked, data: bytes, path: str) -> None:
    manifest, plan = found.manifest, found.plan
    lines, torn = records.lines(data, path, may_be_torn=True)
    if torn:
        found.notes.append(f"the last line of cells.jsonl (line {torn}) is incomplete and was ignored")
    headlines = {entry["name"]: entry["headline"] for entry in manifest["workloads"]}
    started = rules.seconds(manifest["started"])
    latest = (started, "manifest.json says that the run started")
    number_of: dict[int, int] = {}  # seq -> line of its last record
    metrics: dict[tuple[str, str], tuple[str, str, int]] = {}  # (workload, metric) -> (unit, better, line)
    builds: dict[str, int] = {}
    hosts: dict[str, int] = {}
    for index, (number, record) in enumerate(lines):
        where = f"{path}:{number}"
        rules.record(record, manifest["schema"], where)
        seq = record["seq"]
        if seq >= len(plan):
            refuse(where, "seq", seq, f"the seq of a planned cell, 0 to {len(plan) - 1}")
        if record["run"] != manifest["run_id"]:
            refuse(where, "run", record["run"], f"{show(manifest['run_id'])}, this run: the record is another run's")
        for field in rules.CELL if manifest["schema"] == 2 else {**rules.CELL, **rules.CELL_3}:
            if field != "build" and record[field] != plan[seq][field]:
                refuse(where, field, record[field], f"{show(plan[seq][field])}, as planned for seq {seq} (plan.jsonl:{seq + 1})")
        if record["effective"]:
            for owner in rules.OWNERS:
                if record["effective"][owner] != plan[seq]["effective"][owner]:
                    refuse(where, f"effective.{owner}", record["effective"][owner], f"{show(plan[seq]['effective'][owner])}, as planned for seq {seq} (plan.jsonl:{seq + 1})")
        build, host = _expected(manifest, index)
        if record["build"] != build:
            refuse(where, "build", record["build"], f"{show(build)}, the build that manifest.json names for this part of the run")
        if record["host"] != host:
            refuse(where, "host", record["host"], f"{show(host)}, the computer that manifest.json names for this part of the run")
        if seq in found.last and found.last[seq]["status"] != "infra":
            raise BadInput(f"{where}: seq {seq} ({identity.words(plan[seq])}, block {plan[seq]['block']}) has an accepted record already, in line {number_of[seq]}; "
                           "it should have one: two for one cell and block cannot both count")
        if seq not in found.last and seq != len(found.last):
            raise BadInput(f"{where}: field 'seq' is {seq}; it should be {len(found.last)}, the next of the plan: seq {len(found.last)} runs before seq {seq} and has no record, "
                           "so a line is missing or out of order")
        if record["attempt"] != found.attempts.get(seq, 0) + 1:
            refuse(where, "attempt", record["attempt"], f"{found.attempts.get(seq, 0) + 1}: the file has {found.attempts.get(seq, 0)} earlier records of seq {seq}")
        if (moment := rules.seconds(record["t_start"])) < latest[0] - CLOCK_STEP_S:
            refuse(where, "t_start", record["t_start"], f"no earlier than when {latest[1]}")
        latest = max(latest, (moment, f"line {number} says that its cell started"))
        _measured(record, headlines[record["workload"]], metrics, number, where)
        if seq in found.last:
            found.aside.append((number_of[seq], found.last[seq]))
        found.last[seq], number_of[seq] = record, number
        found.attempts[seq] = record["attempt"]
        builds[build], hosts[host] = builds.get(build, 0) + 1, hosts.get(host, 0) + 1
    if found.aside:
        found.notes.append(f"{len(found.aside)} attempt{'s' if len(found.aside) > 1 else ''} that the harness could not start or read "
                           f"{'were' if len(found.aside) > 1 else 'was'} repeated and {'are' if len(found.aside) > 1 else 'is'} kept aside")
    for what, parts in (("builds", builds), ("computers", hosts)):
        if len(parts) > 1:
            found.notes.append(f"the records are of several {what}: " + ", ".join(f"{count} of {name}" for name, count in parts.items()))


def _expected(manifest: dict[str, Any], index: int) -> tuple[str, str]:
    """Build and host of the record with this index: those of the run's begin, or of the last `resume --force` before it."""
    build, host = manifest["build"]["build_id"], manifest["machine"]["host"]
    for entry in manifest.get("resumed_with") or []:
        if entry["records_before"] <= index:
            build, host = entry["build_id"], entry.get("host", host)
    return build, host


def _measured(record: dict[str, Any], headline: str, metrics: dict[tuple[str, str], tuple[str, str, int]], number: int, where: str) -> None:
    for index, metric in enumerate(record["metrics"]):
        unit, better, first = metrics.setdefault((record["workload"], metric["name"]), (metric["unit"], metric["better"], number))
        for field, known in (("unit", unit), ("better", better)):
            if metric[field] != known:
                refuse(where, f"metrics[{index}].{field}", metric[field], f"{show(known)}, as in line {first}: '{metric['name']}' of {record['workload']} is one metric")
    if record["status"] != "ok":
        return
    value = next((metric["value"] for metric in record["metrics"] if metric["name"] == headline), None)
    if value is None or value <= 0:
        raise BadInput(f"{where}: the metric '{headline}' is {show(value) if value is not None else 'missing or null'}; it should be a positive number, "
                       f"since the status is \"ok\" and {record['workload']} leads with it")


def _ended(found: Checked, data: bytes, path: str) -> None:
    mark = found.manifest.get("records")
    if mark is None:
        return
    held = sum(found.attempts.values())
    if len(data) < mark["bytes"] or held < mark["lines"]:
        raise BadInput(f"{path}: it holds {held} records in {len(data)} bytes; it should hold {mark['lines']} in {mark['bytes']} or more, as field 'records' of manifest.json says: "
                       "lines are missing")
    _same_hash(data[:mark["bytes"]], mark["sha256"], path, "records.sha256")
    if "ended" in found.manifest and len(found.last) < len(found.plan):
        raise BadInput(f"{path}: seq {len(found.last)} has no record; it should have one, since manifest.json says that the run ended")


def main(arguments: list[str]) -> int:
    """check [NAME] RUN: nothing and 0, or one line on standard error, begun with the name of the caller, and 2."""
    caller = arguments[0] if len(arguments) > 1 else "analysis"
    interrupts.end_quietly("interrupted; nothing was changed", caller)
    try:
        run(arguments[-1])
    except BadInput as error:
        print(f"{caller}: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"{caller}: {error.filename or 'input'}: {error.strerror}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    status = main(sys.argv[1:])
    interrupts.work_is_done()
    sys.exit(status)
