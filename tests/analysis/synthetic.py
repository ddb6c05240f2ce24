"""Writes a run directory in the format of docs/RECORDS.md, with effects that are known because they were put in.

A test can ask for any truth (gear effects, interactions, drift, failures) and check that the analysis finds it and nothing
else. As a program it writes one full run for looking at:

    /usr/bin/python3 -m tests.analysis.synthetic DIRECTORY [--blocks 3]
"""
from __future__ import annotations

import argparse
import dataclasses
import hashlib
import itertools
import json
import math
import os

import numpy as np

GEARS = ("scheduler", "allocator", "collector", "poller")
RUN_ID, HOST, BUILD = "20261123-221530-7f3a", "synthetic", "0123456789abcdef"
# Options that the gears of a synthetic run have, with their defaults.
OPTIONS = {"gmp": {"runnext": "on", "steal": "half"}, "io_uring": {"entries": "256"}}
RUNTIME = {"stack_kib": "64", "sysmon": "on"}
PARAMS = ({"rounds": 100000},)
FACTORS = {"scheduler": ["gmp", "global_queue"], "allocator": ["size_class", "mimalloc"],
           "collector": ["concurrent", "stw"], "poller": ["epoll", "io_uring"]}

# name: (headline, unit, typical value, typical peak rss, has a latency histogram, summary)
WORKLOADS = {
    "ping_pong": ("throughput", "round trips/s", 9.1e6, 12e6, False, "Two goroutines hand a token back and forth over unbuffered channels."),
    "skynet": ("throughput", "goroutines/s", 4.2e6, 410e6, False, "A tree of a million goroutines that sum their children's answers."),
    "sieve": ("throughput", "primes/s", 2.4e4, 15e6, False, "Prime sieve: a growing chain of filters joined by channels."),
    "binary_trees": ("throughput", "nodes/s", 3.1e7, 260e6, False, "Builds and drops binary trees of many depths."),
    "gc_latency": ("latency_p99", "ns", 2.2e5, 310e6, True, "Allocates steadily against a large live heap and times each step."),
    "timers": ("latency_p99", "ns", 7.4e4, 31e6, True, "Ten thousand goroutines sleep; how late does each wake?"),
    "echo": ("throughput", "requests/s", 1.6e5, 42e6, True, "TCP echo over loopback, closed loop, 64 connections."),
    "kv_server": ("throughput", "requests/s", 1.1e5, 190e6, True, "In-memory key-value server under a mixed load."),
}

# (gear, level) -> workload -> effect on the log of speed; "*" is every workload not named.
EFFECTS = {
    ("scheduler", "global_queue"): {"ping_pong": -0.10, "skynet": -0.42, "sieve": -0.25, "echo": -0.08, "kv_server": -0.09, "*": -0.02},
    ("allocator", "mimalloc"): {"binary_trees": 0.16, "kv_server": 0.05, "skynet": 0.03},
    ("collector", "stw"): {"binary_trees": 0.12, "gc_latency": -1.20, "kv_server": -0.20, "timers": -0.10},
    ("poller", "io_uring"): {"echo": 0.14, "kv_server": 0.09},
}
INTERACTIONS = {((("scheduler", "global_queue")), ("collector", "stw")): {"kv_server": 0.12, "gc_latency": -0.15}}
NOISE = 0.02


@dataclasses.dataclass
class Truth:
    """What is put into the data. Everything is on the log scale of speed."""
    effects: dict = dataclasses.field(default_factory=lambda: EFFECTS)
    interactions: dict = dataclasses.field(default_factory=lambda: INTERACTIONS)
    noise: float = NOISE
    block_drift: float = 0.0  # added per block: the machine grows slower or faster between blocks
    seq_drift: float = 0.0  # added over the whole run, linearly in execution order
    by_param: dict = dataclasses.field(default_factory=dict)  # (("rounds", 200),) -> added where a workload has these parameters


def log_speed(truth: Truth, workload: str, combo: dict[str, str]) -> float:
    """`combo`: the levels of the cell's factors."""
    total = 0.0
    for (gear, level), by_work in truth.effects.items():
        if combo.get(gear) == level:
            total += by_work.get(workload, by_work.get("*", 0.0))
    for (first, second), by_work in truth.interactions.items():
        if combo.get(first[0]) == first[1] and combo.get(second[0]) == second[1]:
            total += by_work.get(workload, by_work.get("*", 0.0))
    return total


def make_histogram(name: str, rng: np.random.Generator, centre: float, spread: float, count: int, tail: float) -> dict:
    """Log-linear buckets, eight to an octave, from a log-normal body and a slow mode `tail` times the centre."""
    body = np.exp(rng.normal(math.log(centre), spread, count))
    slow = rng.random(count) < 0.004
    body[slow] *= tail
    index = np.floor(np.log2(body) * 8).astype(int)
    buckets = [[round(2 ** (i / 8)), round(2 ** ((i + 1) / 8)), int(n)] for i, n in zip(*np.unique(index, return_counts=True))]
    return {"name": name, "unit": "ns", "count": count, "sum": float(body.sum()), "min": float(body.min()), "max": float(body.max()),
            "percentiles": [[q, float(np.percentile(body, q))] for q in (50, 90, 99, 99.9, 99.99, 99.999)], "buckets": buckets}


def make_record(line: dict, truth: Truth, progress: float, rng: np.random.Generator, count: int) -> dict:
    headline, unit, typical, rss, latency, _ = WORKLOADS[line["workload"]]
    combo = line["combo"]
    speed = log_speed(truth, line["workload"], line.get("levels", combo)) + rng.normal(0, truth.noise)
    speed += truth.block_drift * line["block"] + truth.seq_drift * progress + truth.by_param.get(tuple(sorted(line["params"].items())), 0.0)
    higher = headline == "throughput"
    value = typical * math.exp(speed if higher else -speed)
    memory = rss * math.exp(rng.normal(0, 0.01) + (0.18 if combo["allocator"] == "mimalloc" else 0) - (0.1 if combo["collector"] == "stw" else 0))
    wall = 0.8 * math.exp(-speed)
    metrics = [{"name": headline, "unit": unit, "better": "higher" if higher else "lower", "value": value},
               {"name": "wall", "unit": "s", "better": "lower", "value": wall},
               {"name": "cpu", "unit": "s", "better": "lower", "value": wall * 1.7},
               {"name": "peak_rss", "unit": "bytes", "better": "lower", "value": round(memory)},
               {"name": "gc_cycles", "unit": "cycles", "better": "lower", "value": 14},
               {"name": "gc_cpu", "unit": "s", "better": "lower", "value": wall * 0.2},
               {"name": "allocated", "unit": "bytes", "better": "lower", "value": round(rss * 9)}]
    hists = []
    if latency and count:
        centre = (typical / 12 if not higher else 4e5) * math.exp(-speed)
        hists.append(make_histogram("latency", rng, centre, 0.35, count, 18.0 if combo["collector"] == "stw" else 5.0))
    pause = 2.8e6 if combo["collector"] == "stw" else 7e4
    if count:
        hists.append(make_histogram("gc_pause", rng, pause * (rss / 2e8) ** 0.6, 0.5, max(8, count // 80), 3.0))
    started = f"2026-11-23T22:{16 + line['seq'] // 60 % 40:02}:{line['seq'] % 60:02}.123Z"
    return {"schema": 3 if "levels" in line else 2, **line, "run": RUN_ID, "host": HOST, "attempt": 1,
            "status": "ok", "exit": 0, "signal": None, "reason": None, "t_start": started, "wall_ns": int(wall * 1e9),
            "rusage": {"user_ns": int(wall * 1.2e9), "system_ns": int(wall * 0.5e9), "max_rss_bytes": round(memory), "minor_faults": 100,
                       "major_faults": 0, "voluntary_switches": 10, "involuntary_switches": 3},
            "noise": {"steal_pct": 0.0, "load1": 0.4}, "metrics": metrics, "hists": hists,
            "counters": {"scheduler.steals": 12}, "checks": [{"name": "sum", "ok": True, "detail": "499999500000"}]}


def fail(record: dict, status: str, reason: str) -> dict:
    return {**record, "status": status, "reason": reason, "exit": None, "signal": "SIGSEGV" if status == "signal" else None,
            "metrics": [], "hists": [], "checks": []}


def options_of(text: str, defaults: dict) -> dict:
    """The effective options of a text form: its own over the defaults."""
    return {**defaults, **dict(piece.split("=") for piece in text.split(",") if piece)}


def plan_line(seq: int, block: int, workload: str, params: dict, combo: dict, procs: int = 2, runtime: str = "", build: str = BUILD,
              options: dict = OPTIONS) -> dict:
    effective = {gear: options_of(combo[gear].partition(":")[2], options.get(combo[gear].partition(":")[0], {})) for gear in GEARS}
    effective.update(runtime=options_of(runtime, RUNTIME), params={name: str(value) for name, value in params.items()})
    identity = [workload, {gear: combo[gear].partition(":")[0] for gear in GEARS}, effective, procs, build]
    return {"seq": seq, "block": block, "cell": hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16], "workload": workload,
            "params": params, "combo": combo, "procs": procs, "runtime": runtime, "build": build, "effective": effective}


def leveled(workload: str, params: dict, combo: dict, procs: int, options: dict, more: dict, of: dict) -> list[dict]:
    """The cells that a combination of gears becomes with more factors: keyword arguments of plan_line, each with its levels."""
    cells = []
    for chosen in itertools.product(*more.values()):
        gears, own, ps, runtime, levels = dict(combo), dict(params), procs, "", dict(combo)
        for factor, level in zip(more, chosen):
            owner, _, name = factor.partition(".")
            if factor == "procs":
                ps = int(level)
            elif owner == "param":
                if workload not in of.get(name, (workload,)):
                    own.pop(name, None)
                    continue
                own[name] = int(level)
            elif owner == "runtime":
                runtime += ("," if runtime else "") + f"{name}={level}"
            elif owner in GEARS:
                if name not in options.get(combo[owner].partition(":")[0], {}):
                    continue
                gears[owner] += ("," if ":" in gears[owner] else ":") + f"{name}={level}"
            levels[factor] = level
        cell = {"workload": workload, "params": own, "combo": gears, "procs": ps, "runtime": runtime, "levels": levels}
        if cell not in cells:
            cells.append(cell)
    return cells


def write_run(directory: str, truth: Truth | None = None, workloads=tuple(WORKLOADS), blocks: int = 3, seed: int = 1, factors=FACTORS,
              failures: dict | None = None, skip=(), samples: int = 2000, illegal=(), params=PARAMS, procs=(2,), runtime: str = "",
              options: dict = OPTIONS, more: dict | None = None, of: dict | None = None, baseline_runs="rule", budget: tuple[float, float] | None = None) -> str:
    """Writes a run and returns its directory. Every workload runs with each set of parameters and each number of Ps.

    more: factors besides the gears -> levels as texts, the baseline's first; with it, even empty, the run is of schema 3.
    of: parameter -> the workloads that have it; others have every parameter.
    budget: (budget_s, what block 0 took); `blocks` is then the cap.

    failures: (workload or None, gear level or None, block or None) -> (status, reason); None matches all.
    skip: predicate-like collection of combos (tuples) that are not planned.
    """
    truth = truth or Truth()
    rng = np.random.default_rng(seed)
    os.makedirs(directory, exist_ok=True)
    combos = [dict(zip(GEARS, levels)) for levels in itertools.product(*(factors[gear] for gear in GEARS)) if levels not in set(skip)]
    plan = []
    baseline = {**{gear: factors[gear][0] for gear in GEARS}, **{factor: levels[0] for factor, levels in (more or {}).items()}}
    if more is not None and "procs" in more:
        procs = tuple(map(int, more["procs"]))
    run_blocks = blocks if budget is None else min(blocks, max(3, int(budget[0] / budget[1])))
    for block in range(blocks):
        if more is None:
            cells = [(workload, combo, one, ps) for workload in workloads for combo in combos for one in params for ps in procs]
            rng.shuffle(cells)
            for workload, combo, one, ps in cells:
                plan.append(plan_line(len(plan), block, workload, one, combo, ps, runtime, options=options))
            continue
        cells = []
        for workload, one, ps in itertools.product(workloads, params, procs if "procs" not in more else procs[:1]):
            family = [cell for combo in combos for cell in leveled(workload, one, combo, ps, options, more, of or {})]
            k = len(family)
            for cell in family:
                runs = baseline_runs if baseline_runs != "rule" else min(3, round(math.sqrt(k - 1))) if k >= 6 else 1
                first = all(baseline[factor] == level for factor, level in cell["levels"].items())
                cells += [{**cell, "replicate": replicate} for replicate in range(runs if first else 1)]
        for index in rng.permutation(len(cells)):
            cell = cells[index]
            plan.append({**plan_line(len(plan), block, cell["workload"], cell["params"], cell["combo"], cell["procs"], cell["runtime"], options=options),
                         "levels": cell["levels"], "replicate": cell["replicate"]})
    records = []
    for line in (line for line in plan if line["block"] < run_blocks):
        record = make_record(line, truth, line["seq"] / len(plan), rng, samples)
        for (workload, level, block), (status, reason) in (failures or {}).items():
            if workload in (None, line["workload"]) and (level is None or level in line["combo"].values()) and block in (None, line["block"]):
                record = fail(record, status, reason)
        records.append(record)
    manifest = {
        "schema": 2 if more is None else 3, "experiment": "synthetic", "question": "Which gear decides the speed of which workload, and do the gears compose?",
        "hypothesis": "The scheduler matters for channel-heavy programs, the collector for allocation-heavy ones; pollers only for servers.",
        "run_id": RUN_ID, "seed": seed, "started": "2026-11-23T22:15:30Z", "ended": "2026-11-23T22:20:30Z", "blocks": run_blocks,
        "machine": {"host": HOST, "cpu": "Imaginary 3000", "cores": 2, "memory_bytes": 25000000000, "kernel": "6.18.44",
                    "os": "Debian GNU/Linux 12 (bookworm)", "virtualization": "kvm", "governor": None, "thp": "madvise", "aslr": 2,
                    "max_map_count": 65530, "load_before": [0.1, 0.2, 0.1], "verdict": "amber", "verdict_reasons": ["2 cores shared with other work"]},
        "build": {"compiler": "g++ 12.2.0", "flags": "-O3 -g -fno-omit-frame-pointer", "preset": "release", "git_commit": "0123456789abcdef0123456789abcdef01234567",
                  "git_dirty": False, "build_id": BUILD},
        "baseline": baseline, "factors": {**factors, **(more or {})}, "illegal": list(illegal), "procs": list(procs),
        "design": "factorial" if more is None else {"kind": "factorial", "blocks": blocks, "baseline_runs": baseline_runs, "budget_s": budget and budget[0]},
        "overrides": {}, "limits": {"timeout_s": 120, "mem_limit_mb": 0},
        "workloads": [{"name": name, "params": one, "headline": WORKLOADS[name][0], "summary": WORKLOADS[name][5]} for name in workloads for one in params],
        "primary_unit": "process invocation"}
    if budget is not None:
        manifest["budget"] = {"budget_s": budget[0], "block_0_s": budget[1], "blocks": run_blocks}
    write_json(os.path.join(directory, "manifest.json"), manifest)
    write_lines(os.path.join(directory, "plan.jsonl"), plan)
    write_lines(os.path.join(directory, "cells.jsonl"), records)
    with open(os.path.join(directory, "experiment.toml"), "w") as file:
        file.write('schema = 1\n[experiment]\nname = "synthetic"\n[analysis]\nalpha = 0.05\nrope_pct = 1.0\n')
    return seal(directory)


def seal(directory: str, ended: bool = True) -> str:
    """Makes the directory one that a run has written like this: every hash and count of the manifest is that of the files as they are."""
    def data(name):
        path = os.path.join(directory, name)
        if not os.path.exists(path):
            return b""
        with open(path, "rb") as file:
            return file.read()
    manifest = json.loads(data("manifest.json"))
    plan, cells = data("plan.jsonl"), data("cells.jsonl")
    manifest["cells_planned"] = plan.count(b"\n")
    manifest["plan"] = {"cells": plan.count(b"\n"), "sha256": hashlib.sha256(plan).hexdigest()}
    manifest["experiment_sha256"] = hashlib.sha256(data("experiment.toml")).hexdigest()
    for key in ("records", "ended"):
        manifest.pop(key, None)
    if ended:
        manifest["records"] = {"lines": cells.count(b"\n"), "bytes": len(cells), "sha256": hashlib.sha256(cells).hexdigest()}
        manifest["ended"] = "2026-11-23T23:20:30Z"
    manifest["checksum"] = "0" * 64
    text = json.dumps(manifest, indent=1)
    with open(os.path.join(directory, "manifest.json"), "w") as file:
        file.write(text.replace("0" * 64, hashlib.sha256(text.encode()).hexdigest()))
    return directory


def write_json(path: str, value) -> None:
    with open(path, "w") as file:
        json.dump(value, file, allow_nan=False)


def write_lines(path: str, values) -> None:
    with open(path, "w") as file:
        file.writelines(json.dumps(value, allow_nan=False) + "\n" for value in values)


EXAMPLE_FAILURES = {("skynet", "io_uring", 1): ("timeout", "no answer within 60 s"),
                    ("sieve", "stw", 2): ("signal", "killed by SIGSEGV"),
                    ("echo", "mimalloc", None): ("check_failed", "check 'bytes_echoed' failed: 6399 of 6400")}


def main() -> None:
    parser = argparse.ArgumentParser(description="Writes a synthetic run directory.")
    parser.add_argument("directory")
    parser.add_argument("--blocks", type=int, default=3)
    parser.add_argument("--failures", action="store_true", help="let some cells fail")
    options = parser.parse_args()
    illegal = [{"combo": {"scheduler": "gmp", "allocator": "bump", "collector": "stw", "poller": "epoll"},
                "reason": "bump never frees, so it can only run with the collector 'none'."}]
    print(write_run(options.directory, blocks=options.blocks, failures=EXAMPLE_FAILURES if options.failures else None,
                    samples=20000, illegal=illegal))


if __name__ == "__main__":
    main()
