"""Gearbox beside Go: `python -m analysis.peers`, called by `gearbox peers`.

The same program in both languages (workloads/ and bench/ here, workloads/peers/go there), each invocation in a process of
its own, the two in turn and the rows shuffled in every round, so that whatever drifts falls on both. A ratio is how many
times faster Gearbox is, paired by round on the log scale (stats.py); below three rounds there is no interval, and the table
says so. A row that fails is shown as failed and has no ratio. Without Go there is only Gearbox's column.
"""
from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import os
import pathlib
import random
import statistics
import subprocess
import sys
import time

from . import load, stats

ROOT = pathlib.Path(os.environ.get("GEARBOX_ROOT", pathlib.Path(__file__).resolve().parents[2]))
TIMEOUT_S = 120


@dataclasses.dataclass(frozen=True)
class Row:
    name: str
    text: str
    target: str  # what it is aimed at, in words; "" when there is no target
    unit: str
    better: str  # "lower" or "higher"
    here: tuple[str, ...]  # ("bench", name) or ("run", workload, arguments...)
    metric: str  # of Gearbox: "ns" for a bench, a metric's name or "hist:<name>:<percentile>" for a workload
    go: tuple[str, ...]  # of the peer: name and arguments; () when it has no counterpart
    go_metric: str = "ns"


def bench(name: str, text: str, target: str, here: str, go: str = "", procs: int = 1) -> Row:
    return Row(name, text, target, "ns", "lower", ("bench", here), "ns", (go, "-procs", str(procs)) if go else ())


def work(name: str, text: str, target: str, unit: str, better: str, metric: str, here: str, go_metric: str,
         settings: tuple[str, ...] = (), go_name: str = "", more: tuple[str, ...] = ()) -> Row:
    sets = tuple(word for setting in settings for word in ("--set", setting))
    go_sets = tuple(word for setting in settings for word in ("-set", setting))
    return Row(name, text, target, unit, better, ("run", here) + sets + more, metric, (go_name or here,) + go_sets, go_metric)


ROWS = (
    bench("raw_switch", "raw switch between two stacks, one way", "<= 1.3x the bare loop", "raw_switch"),
    bench("bare_loop", "  the bare inline-asm loop, for scale", "", "bare_switch_loop"),
    bench("yield", "yield, 2 Gs, 1 P, Go's rule", ">= 3x", "yield/gmp_1p", "yield"),
    bench("yield_local", "yield, 2 Gs, 1 P, to the local tail", ">= 5x", "yield/gmp_local_1p", "yield"),
    bench("ping_pong_1p", "unbuffered ping-pong round trip, 1 P", ">= 4x", "ping_pong/gmp_1p", "ping_pong_round_trip"),
    bench("ping_pong_2p", "unbuffered ping-pong round trip, 2 P", ">= 3x", "ping_pong/gmp_2p", "ping_pong_round_trip", 2),
    bench("buffered_1_1", "buffered channel (128), one to one, 2 P", ">= 2x", "buffered/gmp_2p", "buffered_1_to_1", 2),
    bench("buffered_4_4", "buffered channel (128), four to four, 2 P", ">= 2x", "buffered_4_to_4", "buffered_4_to_4", 2),
    bench("select_two", "select over two channels, 1 P", ">= 3x", "select_two", "select_two"),
    bench("spawn_join_1p", "spawn and join, 1 P", ">= 5x", "spawn_join/gmp_1p", "spawn_join"),
    bench("spawn_join_2p", "spawn and join, 2 P", ">= 5x", "spawn_join/gmp_2p", "spawn_join", 2),
    bench("fib_27", "fib(27), a goroutine a call, 2 P", ">= 4x", "fib_27", "fib_27", 2),
    bench("mutex", "mutex, 8 Gs, 2 P", ">= 1.2x", "mutex_contended", "mutex_contended", 2),
    bench("sleep_million", "1 000 000 goroutines sleep 1 ms, each", ">= 2x", "sleep_million", "sleep_million", 2),
    bench("allocate_16", "allocate 16 B", ">= 3x", "allocate_16/size_class", "allocate_16", 1),
    bench("allocate_64", "allocate 64 B", ">= 3x", "allocate_64/size_class", "allocate_64", 1),
    bench("allocate_node", "allocate a node of two references", "", "allocate_node/size_class", "allocate_node", 1),
    work("skynet", "skynet, 1 000 000 leaves", ">= 5x", "leaves/s", "higher", "throughput", "skynet", "throughput"),
    work("parked_ns", "1 000 000 parked goroutines, making each", ">= 2x", "ns", "lower", "spawn", "parked", "ns"),
    work("parked_bytes", "  and resident memory of each", "<= 4.6 KB", "B", "lower", "resident", "parked", "bytes"),
    work("binary_trees", "binary_trees, depth 18", ">= 3x", "nodes/s", "higher", "throughput", "binary_trees", "throughput"),
    work("binary_trees_rss", "  and its peak resident memory", "<= 1.25x Go's", "B", "lower", "peak_rss", "binary_trees", "rss"),
    work("gc_latency_p50", "gc_latency (200 000 x 1 KiB) p50", "<= Go's", "ns", "lower", "p50", "gc_latency", "p50"),
    work("gc_latency_p99", "gc_latency p99", "<= Go's", "ns", "lower", "p99", "gc_latency", "p99"),
    work("gc_latency_p99.9", "gc_latency p99.9", "<= Go's", "ns", "lower", "p99.9", "gc_latency", "p99.9"),
    work("gc_latency_p99.99", "gc_latency p99.99", "<= Go's", "ns", "lower", "p99.99", "gc_latency", "p99.99"),
    work("gc_pause_p99", "GC pause p99, 200 MiB live, 1 000 Gs", "<= 100 us", "ns", "lower", "hist:gc_pause:99", "gc_latency",
         "pause_p99", ("goroutines=1000",)),
    work("stop_p99", "  and the time to stop alone, p99", "<= Go's", "ns", "lower", "hist:time_to_stop:99", "gc_latency", "stop_p99",
         ("goroutines=1000",)),
    work("echo_epoll", "TCP echo, 64 connections, 64 B, epoll", ">= 1.15x", "round trips/s", "higher", "throughput", "echo", "throughput"),
    work("echo_io_uring", "TCP echo, 64 connections, 64 B, io_uring", ">= 1.25x", "round trips/s", "higher", "throughput", "echo",
         "throughput", more=("--poller", "io_uring")),
)


class Failed(Exception):
    pass


def call(command: list[str]) -> dict:
    """The JSON that a command prints."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise Failed(f"no answer in {TIMEOUT_S} s") from None
    if done.returncode != 0:
        raise Failed(f"exit {done.returncode}: {(done.stderr or done.stdout).strip()[-200:]}")
    try:
        return json.loads(done.stdout)
    except json.JSONDecodeError as bad:
        raise Failed(f"its output is no JSON: {bad}") from None


def from_bench(answer: dict) -> float:
    runs = [run for run in answer["benchmarks"] if run.get("run_type") == "iteration"]
    if len(runs) != 1 or runs[0].get("error_occurred"):
        raise Failed(runs[0].get("error_message", "error") if runs else "no such benchmark")
    run = runs[0]
    if "items_per_second" in run:
        return 1e9 / run["items_per_second"]
    return run["real_time"] * {"ns": 1, "us": 1e3, "ms": 1e6, "s": 1e9}[run["time_unit"]]


def from_cell(answer: dict, metric: str) -> float:
    if answer["status"] != "ok":
        raise Failed(f"{answer['status']}: {answer.get('reason')}")
    if metric.startswith("hist:"):
        _, name, percentile = metric.split(":")
        for hist in answer["hists"]:
            if hist["name"] == name:
                return next(value for at, value in hist["percentiles"] if at == float(percentile))
        raise Failed(f"there is no histogram {name}")
    for each in answer["metrics"]:
        if each["name"] == metric:
            return each["value"]
    raise Failed(f"there is no metric {metric}")


class Runner:
    """Knows how each side is called, and how a row's value is read from an answer."""

    def __init__(self, gearbox: str, benches: str, peer: str | None):
        self.gearbox, self.benches, self.peer = gearbox, benches, peer

    def commands(self, row: Row) -> list[tuple[str, tuple[str, ...]]]:
        sides = [("gearbox", row.here)]
        if self.peer and row.go:
            sides.append(("go", row.go))
        return sides

    def invoke(self, side: str, words_: tuple[str, ...]) -> dict:
        if side == "go":
            return call([self.peer, *words_])
        if words_[0] == "bench":
            return call([self.benches, f"--benchmark_filter=^{words_[1]}(/.*)?$", "--benchmark_format=json"])
        return call([self.gearbox, "run", *words_[1:], "--json"])

    def value(self, side: str, row: Row, answer: dict) -> float:
        if side == "go":
            values = answer["values"]
            if row.go_metric not in values:
                raise Failed(f"this Go ({answer['go']}) does not tell its {row.go_metric}")
            return values[row.go_metric]
        return from_bench(answer) if row.here[0] == "bench" else from_cell(answer, row.metric)


def si(value: float, unit: str) -> str:
    if unit == "ns":
        for bound, scale, name in ((1e3, 1, "ns"), (1e6, 1e3, "us"), (1e9, 1e6, "ms")):
            if value < bound:
                return f"{value / scale:.3g} {name}"
        return f"{value / 1e9:.3g} s"
    if unit == "B":
        return f"{value / 1024:.2f} KiB" if value < 1 << 20 else f"{value / (1 << 20):.0f} MiB"
    for bound, scale, name in ((1e3, 1, ""), (1e6, 1e3, " k"), (1e9, 1e6, " M")):
        if value < bound:
            return f"{value / scale:.3g}{name}"
    return f"{value / 1e9:.3g} G"


def table(rows: list[dict]) -> str:
    heads = ("what", "Gearbox", "Go", "ratio", "95 % interval", "target")
    lines = []
    for row in rows:
        cells = [row["text"].rstrip()]
        for side in ("gearbox", "go"):
            kept = row[side]
            cells.append("failed" if kept["failures"] else "-" if not kept["values"] else si(statistics.median(kept["values"]), row["unit"]))
        ratio = row["ratio"]
        cells.append("-" if ratio is None else f"{ratio['ratio']:.2f}")
        cells.append("-" if ratio is None or ratio["low"] is None else f"{ratio['low']:.2f} to {ratio['high']:.2f}")
        cells.append(row["target"])
        lines.append(cells)
    widths = [max(len(line[i]) for line in [list(heads), *lines]) for i in range(len(heads))]
    shape = lambda cells: "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths)) + " |"
    return "\n".join([shape(list(heads)), "|" + "|".join("-" * (width + 2) for width in widths) + "|", *map(shape, lines)]) + "\n"


def chosen(only: str | None) -> list[Row]:
    if not only:
        return list(ROWS)
    names = [row.name for row in ROWS]
    picked = []
    for word in only.split(","):
        matching = [row for row in ROWS if row.name == word or row.name.startswith(word + "_")]
        if not matching:
            raise load.BadInput(f"there is no row '{word}'; {load.nearest(word, names)}")
        picked += [row for row in matching if row not in picked]
    return picked


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="gearbox peers", description=__doc__.split("\n\n")[0] + " " + __doc__.split("\n\n")[1],
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="invocations of each side (default 5)")
    parser.add_argument("--only", help="rows, or beginnings of their names, with commas: yield,gc_latency")
    parser.add_argument("--out", help="where results go (default results/peers/<time>)")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON instead of the table")
    parser.add_argument("--list", action="store_true", help="print the rows' names and end")
    parser.add_argument("--gearbox", default="", help=argparse.SUPPRESS)
    parser.add_argument("--bench", default="", help=argparse.SUPPRESS)
    parser.add_argument("--peer", default="", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    try:
        rows = chosen(options.only)
    except load.BadInput as bad:
        parser.exit(2, f"gearbox: peers: {bad}\n")
    if options.rounds < 1:
        parser.exit(2, f"gearbox: peers: --rounds is {options.rounds}; it is at least 1\n")
    if options.list:
        print("\n".join(f"{row.name:18} {row.text.strip()}" for row in rows))
        return 0
    if not options.gearbox:  # the front door asks whether the words are right before it builds for minutes
        return 0
    runner = Runner(options.gearbox, options.bench, options.peer or None)
    results = [{"name": row.name, "text": row.text, "target": row.target, "unit": row.unit, "better": row.better,
                "gearbox": {"values": [], "failures": []}, "go": {"values": [], "failures": []}, "ratio": None} for row in rows]
    order = random.Random(20261123)
    began, done = time.monotonic(), 0
    invocations = {(side, command) for row in rows for side, command in runner.commands(row)}
    total = options.rounds * len(invocations)
    go_version = None
    for number in range(1, options.rounds + 1):
        groups: dict[tuple, list[tuple[str, tuple[str, ...]]]] = {}
        for row in rows:  # the two sides of a row follow each other
            groups.setdefault(row.here, [])
            groups[row.here] += [pair for pair in runner.commands(row) if pair not in groups[row.here]]
        keys = list(groups)
        order.shuffle(keys)
        answers: dict[tuple, dict | Failed] = {}
        for key in keys:
            sides = groups[key]
            order.shuffle(sides)
            for pair in sides:
                if pair in answers:
                    continue
                try:
                    answers[pair] = runner.invoke(*pair)
                except Failed as failure:
                    answers[pair] = failure
                done += 1
                if sys.stderr.isatty():
                    left = (time.monotonic() - began) / done * (total - done)
                    print(f"\r\033[K{done}/{total} {pair[0]} {pair[1][1] if pair[0] == 'gearbox' else pair[1][0]}, "
                          f"{int(left // 60)} min {int(left % 60):02d} s left", end="", file=sys.stderr, flush=True)
        if not sys.stderr.isatty():
            left = (time.monotonic() - began) / done * (total - done)
            print(f"round {number} of {options.rounds} done, {int(left // 60)} min {int(left % 60):02d} s left", file=sys.stderr, flush=True)
        for row, result in zip(rows, results):
            for side, command in runner.commands(row):
                answer = answers[side, command]
                try:
                    if isinstance(answer, Failed):
                        raise answer
                    result[side]["values"].append(runner.value(side, row, answer))
                    if side == "go":
                        go_version = answer["go"]
                except Failed as failure:
                    result[side]["failures"].append(str(failure))
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    for row, result in zip(rows, results):
        here, there = result["gearbox"], result["go"]
        if here["values"] and len(here["values"]) == len(there["values"]) == options.rounds:
            ratio = stats.paired_ratio(here["values"], there["values"])
            if row.better == "lower":
                ratio = ratio.inverted()
            result["ratio"] = {"ratio": ratio.ratio, "low": ratio.low, "high": ratio.high, "n": ratio.n}
    when = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%d-%H%M%S")
    out = pathlib.Path(options.out) if options.out else ROOT / "results" / "peers" / when
    out.mkdir(parents=True, exist_ok=True)
    text = table(results)
    facts = {"schema": 1, "when": when, "rounds": options.rounds, "go": go_version, "rows": results}
    (out / "peers.json").write_text(json.dumps(facts, indent=1) + "\n")
    (out / "peers.md").write_text(f"Medians of {options.rounds} processes each, in turn; {go_version or 'no Go on this machine'}. "
                                  f"Ratio: how many times better Gearbox is.\n\n{text}")
    failures = [(result["name"], side, result[side]["failures"][0]) for result in results for side in ("gearbox", "go") if result[side]["failures"]]
    if options.json:
        print(json.dumps(facts))
    else:
        print(text)
        print(f"{out / 'peers.md'}")
    for name, side, why in failures:
        print(f"gearbox: peers: {name}: {side}: {why}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
