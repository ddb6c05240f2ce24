"""Damages a run directory as tests/harness/corruptions.json says. Standard library only.

An operation is a list: its name, the file, then what it needs. Lines count from 1, -1 is the last one; "hist" is the first line
whose first histogram has buckets, "last ok" the last line with the status ok. Of a run of schema 3, "of NAME" is the first line
of that workload, "baseline" the first of the baseline, "again" the first with another replicate than 0, "treated" the first of
another treatment than the baseline. A path leads into the line's JSON value, or into
the manifest's where the line is null. Bytes are written as characters up to U+00FF.

  set FILE LINE PATH VALUE        delete FILE LINE PATH          rename FILE LINE PATH NAME     raw FILE LINE PATH TEXT (as JSON)
  again FILE LINE PATH (the list's first element once more)      metric FILE LINE NAME FIELD VALUE     drop_metric FILE LINE NAME
  relevel FILE LINE FACTOR (another of its levels)
  drop FILE LINE    double FILE LINE    double_at_end FILE LINE  swap FILE LINE LINE   join FILE LINE (with the next)
  deep FILE LINE DEPTH (params becomes lists in lists)
  line FILE LINE TEXT    cut_line FILE LINE BYTES    replace FILE LINE OLD NEW
  cut FILE BYTES    append FILE TEXT    write FILE TEXT    crlf FILE    remove FILE    other FILE (the one of another run)

"@headline" as a metric's name is the metric that the workload leads with; "@flip" as a value is the other direction.
"""
import hashlib
import json
import os
import pathlib
import shutil

HERE = pathlib.Path(__file__).resolve().parent


def entries(kind):
    with open(HERE / "corruptions.json", encoding="utf-8") as file:
        return json.load(file)[kind]


def prepare(run, base):
    """Makes a finished run one that was stopped in the middle, or killed there: the latter has no mark in its manifest."""
    run = pathlib.Path(run)
    if base == "finished":
        return
    cells = run / "cells.jsonl"
    lines = cells.read_bytes().splitlines(keepends=True)
    cells.write_bytes(b"".join(lines[:max(4, len(lines) // 2)]))
    seal(run, base == "stopped")


def seal(run, marked):
    """The manifest that the runner would have written over these records, unfinished."""
    manifest = json.loads((run / "manifest.json").read_text())
    cells = (run / "cells.jsonl").read_bytes()
    for key in ("ended", "records"):
        manifest.pop(key, None)
    if marked:
        manifest["records"] = {"lines": cells.count(b"\n"), "bytes": len(cells), "sha256": hashlib.sha256(cells).hexdigest()}
    manifest["checksum"] = "0" * 64
    text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    (run / "manifest.json").write_text(text.replace("0" * 64, hashlib.sha256(text.encode()).hexdigest()))


def corrupt(run, operations, other):
    for name, file, *rest in operations:
        path = pathlib.Path(run) / file
        if name == "remove":
            path.unlink()
        elif name == "other":
            shutil.copy(pathlib.Path(other) / file, path)
        else:
            data = path.read_bytes()
            path.write_bytes(_whole(name, data, *rest) if name in ("cut", "append", "write", "crlf") else _lines(name, data, run, *rest))
            if path.read_bytes() == data:
                raise AssertionError(f"{name} {file} {rest} changes nothing")


def _bytes(text):
    return bytes(ord(character) for character in text)


def _whole(name, data, argument=None):
    return {"cut": lambda: data[:-argument], "append": lambda: data + _bytes(argument), "write": lambda: _bytes(argument),
            "crlf": lambda: data.replace(b"\n", b"\r\n")}[name]()


def _lines(name, data, run, line, *rest):
    if line is None:
        value = json.loads(data)
        _value(name, value, run, *rest)
        return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()
    lines = data.splitlines()
    at = _place(lines, line, run)
    if name == "drop":
        del lines[at]
    elif name == "double":
        lines.insert(at, lines[at])
    elif name == "double_at_end":
        lines.append(lines[at])
    elif name == "swap":
        lines[at], lines[rest[0] - 1] = lines[rest[0] - 1], lines[at]
    elif name == "join":
        lines[at:at + 2] = [lines[at] + lines[at + 1]]
    elif name == "line":
        lines[at] = _bytes(rest[0])
    elif name == "cut_line":
        lines[at] = lines[at][:-rest[0]]
    elif name == "replace":
        lines[at] = lines[at].replace(rest[0].encode(), rest[1].encode(), 1)
    elif name == "deep":
        value = json.loads(lines[at])
        _value("set", value, run, ["params"], "@raw@")
        lines[at] = json.dumps(value).replace('"@raw@"', "[" * rest[0] + "]" * rest[0]).encode()
    elif name == "raw":
        value = json.loads(lines[at])
        _value("set", value, run, rest[0], "@raw@")
        lines[at] = json.dumps(value).replace('"@raw@"', rest[1]).encode()
    else:
        value = json.loads(lines[at])
        _value(name, value, run, *rest)
        lines[at] = json.dumps(value).encode()
    return b"".join(one + b"\n" for one in lines)


def _place(lines, line, run):
    if isinstance(line, str) and line.startswith("of "):
        return next(at for at, one in enumerate(lines) if json.loads(one)["workload"] == line[3:])
    if line == "again":
        return next(at for at, one in enumerate(lines) if json.loads(one)["replicate"])
    if line in ("baseline", "treated"):
        with open(os.path.join(run, "manifest.json"), encoding="utf-8") as file:
            baseline = json.load(file)["baseline"]
        return next(at for at, one in enumerate(lines)
                    if (line == "baseline") == all(baseline[factor] == level for factor, level in json.loads(one)["levels"].items()))
    if line == "hist":
        return next(at for at, one in enumerate(lines) if (json.loads(one)["hists"] or [{}])[0].get("buckets"))
    if line == "last ok":
        return max(at for at, one in enumerate(lines) if json.loads(one)["status"] == "ok")
    return line - 1 if line > 0 else len(lines) + line


def _value(name, value, run, path, *rest):
    if name in ("metric", "drop_metric"):
        if path == "@headline":
            with open(os.path.join(run, "manifest.json"), encoding="utf-8") as file:
                path = next(entry["headline"] for entry in json.load(file)["workloads"] if entry["name"] == value["workload"])
        metric = next(item for item in value["metrics"] if item["name"] == path)
        if name == "metric":
            metric[rest[0]] = rest[1]
        else:
            value["metrics"].remove(metric)
        return
    if name == "relevel":
        with open(os.path.join(run, "manifest.json"), encoding="utf-8") as file:
            levels = json.load(file)["factors"][path]
        value["levels"][path] = next(level for level in levels if level != value["levels"][path])
        return
    holder = value
    for step in path[:-1]:
        holder = holder[step]
    if name == "set":
        holder[path[-1]] = {"higher": "lower", "lower": "higher"}[holder[path[-1]]] if rest[0] == "@flip" else rest[0]
    elif name == "delete":
        del holder[path[-1]]
    elif name == "rename":
        holder[rest[0]] = holder.pop(path[-1])
    elif name == "again":
        holder[path[-1]].append(holder[path[-1]][0])
    else:
        raise AssertionError(f"there is no operation {name}")
