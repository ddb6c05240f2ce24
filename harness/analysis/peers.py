"""Gearbox beside its peers: `python -m analysis.peers`, called by `gearbox peers`.

The same programs here (workloads/ and bench/) and in Go, Boost.Fiber, oneTBB, the Boehm collector, mimalloc and a raw epoll
loop (workloads/peers/<name>), each invocation in a process of its own, the sides of a row in turn and the rows shuffled in
every round, so that whatever drifts falls on all. A ratio is how many times better Gearbox is; below three rounds there is no
interval, and the table says so. A row that fails is shown as failed and has no ratio. A peer whose package is not installed
is left out, with a sentence that names the package.
"""
from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import pathlib
import random
import subprocess
import sys
import time

from . import load, peer_programs, peer_rows, peer_table
from .peer_programs import PEERS
from .peer_rows import Row
from .records import show

ROOT = pathlib.Path(os.environ.get("GEARBOX_ROOT", pathlib.Path(__file__).resolve().parents[2]))
TIMEOUT_S = 120

Invocation = tuple[str, tuple[str, ...]]  # "gearbox" or a peer, and its words


class Failed(Exception):
    pass


class Parser(argparse.ArgumentParser):
    def error(self, message: str):
        found = message.partition("unrecognized arguments: ")[2].split(" ")[0].partition("=")[0]
        if found:
            known = [option for action in self._actions if action.help != argparse.SUPPRESS for option in action.option_strings]
            message = f"there is no option '{found}'; {load.nearest(found, known)}"
        self.exit(2, f"gearbox: peers: {message}\n")


def say(text: str) -> None:
    print(f"gearbox: peers: {text}", file=sys.stderr, flush=True)


def call(command: list[str]) -> dict:
    """The JSON object that a command prints."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise Failed(f"no answer in {TIMEOUT_S} s") from None
    except OSError as failure:
        raise Failed(f"cannot be started: {failure.strerror}") from None
    if done.returncode != 0:
        why = (done.stderr or done.stdout).strip()
        try:
            why = str(json.loads(done.stdout)["failure"])  # a wrong answer, in the peer's own words
        except (ValueError, KeyError, TypeError):
            pass
        raise Failed(f"exit {done.returncode}: {why[-200:]}")
    try:
        answer = json.loads(done.stdout)
    except json.JSONDecodeError as bad:
        raise Failed(f"its output is no JSON: {bad}") from None
    if not isinstance(answer, dict):
        raise Failed(f"its output is no JSON object: {show(answer)}")
    return answer


def measured(value: object, what: str) -> float:
    """Ratios are on the log scale, so only what is finite and above 0 is a measurement."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value <= 0:
        raise Failed(f"{what} is {show(value)}, which is no measurement")
    return float(value)


def from_bench(answer: dict) -> float:
    runs = [run for run in answer["benchmarks"] if run.get("run_type") == "iteration"]
    if len(runs) != 1 or runs[0].get("error_occurred"):
        raise Failed(runs[0].get("error_message", "error") if runs else "no such benchmark")
    run = runs[0]
    if "items_per_second" in run:
        return 1e9 / measured(run["items_per_second"], "items_per_second")
    return measured(run["real_time"], "real_time") * {"ns": 1, "us": 1e3, "ms": 1e6, "s": 1e9}[run["time_unit"]]


def from_cell(answer: dict, metric: str) -> float:
    if answer["status"] != "ok":
        raise Failed(f"{answer['status']}: {answer.get('reason')}")
    if metric.startswith("hist:"):
        _, name, percentile = metric.split(":")
        for hist in answer["hists"]:
            if hist["name"] == name:
                return measured(next((value for at, value in hist["percentiles"] if at == float(percentile)), None), f"{name} at {percentile} %")
        raise Failed(f"there is no histogram {name}")
    for each in answer["metrics"]:
        if each["name"] == metric:
            return measured(each["value"], metric)
    raise Failed(f"there is no metric {metric}")


def from_peer(answer: dict, metric: str) -> float:
    if answer.get("ok") is not True:
        raise Failed(f"its answer is wrong: {answer.get('failure', 'it does not say how')}")
    values = answer.get("values") or {}
    if metric not in values:
        raise Failed(f"{answer.get('version', 'this version')} does not tell its {metric}")
    return measured(values[metric], metric)


class Runner:
    """Knows how each side is called, and how a row's value is read from an answer."""

    def __init__(self, gearbox: str, benches: str, programs: dict[str, str]):
        self.gearbox, self.benches, self.programs = gearbox, benches, programs

    def invocations(self, row: Row) -> list[Invocation]:
        return [("gearbox", row.here), *((peer, row.peers[peer].words) for peer in self.programs if peer in row.peers)]

    def invoke(self, side: str, words: tuple[str, ...]) -> dict:
        if side != "gearbox":
            return call([self.programs[side], *words])
        if words[0] == "bench":
            return call([self.benches, f"--benchmark_filter=^{words[1]}(/.*)?$", "--benchmark_format=json"])
        return call([self.gearbox, "run", *words[1:], "--json"])

    def value(self, side: str, row: Row, answer: dict) -> float:
        try:
            if side != "gearbox":
                return from_peer(answer, row.peers[side].metric)
            return from_bench(answer) if row.here[0] == "bench" else from_cell(answer, row.metric)
        except (KeyError, TypeError, ValueError, AttributeError) as bad:
            raise Failed(f"its answer has another form: {type(bad).__name__}: {bad}") from None

    def machine(self) -> dict:
        try:
            return call([self.gearbox, "doctor", "--json"])
        except Failed as failure:
            return {"unknown": str(failure)}


class Progress:
    """A line that is rewritten on a terminal, and elsewhere a line a round."""

    def __init__(self, total: int):
        self.total, self.done, self.began, self.seen = total, 0, time.monotonic(), sys.stderr.isatty()

    def left(self) -> str:
        left = (time.monotonic() - self.began) / self.done * (self.total - self.done)
        return f"{int(left // 60)} min {int(left % 60):02d} s left"

    def step(self, invocation: Invocation) -> None:
        self.done += 1
        if self.seen:
            side, words = invocation
            print(f"\r\033[K{self.done}/{self.total} {side} {words[1] if side == 'gearbox' else words[0]}, {self.left()}", end="", file=sys.stderr, flush=True)

    def round(self, number: int, rounds: int) -> None:
        if not self.seen:
            print(f"round {number} of {rounds} done, {self.left()}", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self.seen:
            print("\r\033[K", end="", file=sys.stderr)


def measure(runner: Runner, rows: list[Row], rounds: int) -> tuple[list[dict], dict[str, str]]:
    """The rows' values and failures, round by round, and the version that each peer tells of itself."""
    results = [{"name": row.name, "text": row.text, "unit": row.unit, "better": row.better, "gearbox": {"values": [], "failures": []},
                "peers": {peer: {"values": [], "failures": []} for peer in runner.programs if peer in row.peers}} for row in rows]
    order = random.Random(20261123)
    progress = Progress(rounds * len({invocation for row in rows for invocation in runner.invocations(row)}))
    versions: dict[str, str] = {}
    for number in range(1, rounds + 1):
        groups: dict[tuple[str, ...], list[Invocation]] = {}
        for row in rows:  # the sides of a row follow each other
            group = groups.setdefault(row.here, [])
            group += [invocation for invocation in runner.invocations(row) if invocation not in group]
        keys = list(groups)
        order.shuffle(keys)
        answers: dict[Invocation, dict | Failed] = {}
        for key in keys:
            sides = groups[key]
            order.shuffle(sides)
            for invocation in sides:
                if invocation in answers:  # two rows read different values of one process, or of one program of a peer
                    continue
                try:
                    answers[invocation] = runner.invoke(*invocation)
                except Failed as failure:
                    answers[invocation] = failure
                progress.step(invocation)
        progress.round(number, rounds)
        for row, result in zip(rows, results):
            for side, words in runner.invocations(row):
                kept = result["gearbox"] if side == "gearbox" else result["peers"][side]
                answer = answers[side, words]
                try:
                    if isinstance(answer, Failed):
                        raise answer
                    kept["values"].append(runner.value(side, row, answer))
                    if side != "gearbox":
                        versions[side] = str(answer.get("version", "unknown"))
                except Failed as failure:
                    kept["failures"].append(str(failure))
    progress.end()
    return results, versions


def listing(rows: list[Row]) -> str:
    lines = [f"{row.name:18} {', '.join(row.peers) or '-':20} {row.text}" for row in rows]
    return "\n".join([*lines, "", *(f"{peer.name:18} {peer.title}: {peer.text}" for peer in PEERS.values())])


def programs_of(options, rows: list[Row], named: list[str] | None) -> dict[str, str]:
    """The program of each peer that is asked for, has a row and is here; built when it is not. Raises BuildFailed."""
    given = dict(word.partition("=")[::2] for word in options.peer)
    programs = {}
    for peer in PEERS.values():
        if named is not None and peer.name not in named:
            continue
        if not any(peer.name in row.peers for row in rows):
            if named is not None:
                say(f"{peer.title} ('{peer.name}') is left out: it has none of these rows")
        elif given:  # pretended peers, and programs that were built elsewhere
            if peer.name in given:
                programs[peer.name] = given[peer.name]
        elif not peer_programs.is_here(peer):
            say(peer_programs.missing(peer))
        else:
            programs[peer.name] = peer_programs.build(peer, ROOT, pathlib.Path(options.programs or ROOT / "build" / "release" / "peers"), say)
    return programs


def commit() -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12", "--exclude", "*"], capture_output=True, text=True,
                              check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def main(arguments: list[str]) -> int:
    parser = Parser(prog="gearbox peers", description="\n\n".join(__doc__.split("\n\n")[:2]), formatter_class=argparse.RawDescriptionHelpFormatter,
                    allow_abbrev=False)
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="invocations of each side (default 5)")
    parser.add_argument("--only", metavar="ROWS", help="rows, or beginnings of their names, with commas: yield,gc_latency")
    parser.add_argument("--peers", metavar="NAMES", help=f"peers, with commas: go,fiber; without --only, the rows that one of them has. There is {', '.join(PEERS)}")
    parser.add_argument("--out", metavar="FOLDER", help="where results go (default results/peers/<time>)")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON instead of the table")
    parser.add_argument("--list", action="store_true", help="print the rows with the peers that have them, and end")
    parser.add_argument("--gearbox", default="", help=argparse.SUPPRESS)
    parser.add_argument("--bench", default="", help=argparse.SUPPRESS)
    parser.add_argument("--programs", default="", help=argparse.SUPPRESS)  # the folder for the peers' programs
    parser.add_argument("--peer", action="append", default=[], help=argparse.SUPPRESS)  # NAME=PATH: this program, and no peer that is not given so
    options = parser.parse_args(arguments)
    try:
        named = peer_programs.named(options.peers)
        rows = peer_rows.chosen(options.only, named)
        for word in options.peer:
            peer_programs.named(word.partition("=")[0])
    except load.BadInput as bad:
        parser.error(str(bad))
    if options.rounds < 1:
        parser.error(f"--rounds is {options.rounds}; it is at least 1")
    if options.list:
        print(listing(rows))
        return 0
    when = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%d-%H%M%S")
    # The front door goes to the root of the tree; what the user names is meant from where the user is.
    out = pathlib.Path(os.environ.get("GEARBOX_FROM", ""), options.out) if options.out else ROOT / "results" / "peers" / when
    try:  # asked for now and not after an hour of measuring
        there = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            parser.error(f"--out: {there} is no folder that can be written to")
        if not options.gearbox:  # the front door asks whether the words are right before it builds for minutes
            return 0
        out.mkdir(parents=True, exist_ok=True)
    except OSError as failure:
        parser.error(f"--out: {failure.filename or out}: {failure.strerror}")
    try:
        programs = programs_of(options, rows, named)
    except peer_programs.BuildFailed as failure:
        say(str(failure))
        return 1
    runner = Runner(options.gearbox, options.bench, programs)
    machine = runner.machine()
    results, versions = measure(runner, rows, options.rounds)
    peer_table.judge(rows, results, options.rounds)
    facts = {"schema": 2, "when": when, "commit": commit(), "rounds": options.rounds, "machine": machine,
             "peers": {peer: {"title": PEERS[peer].title, "text": PEERS[peer].text, "version": versions.get(peer)} for peer in programs}, "rows": results}
    (out / "peers.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    sides = [f"{versions.get(peer) or PEERS[peer].title + ' of no known version'} ({PEERS[peer].text})" for peer in programs]
    text = "\n".join([peer_table.machine_line(machine), f"Gearbox {facts['commit'] or 'of no known commit'}. " +
                      ("Peers: " + "; ".join(sides) if sides else "No peer was run") + ".",
                      f"Medians of {options.rounds} process{'' if options.rounds == 1 else 'es'} each, in turn. x: how many times better Gearbox is, "
                      "above 1 is better; in brackets its 95 % interval" +
                      (", which takes three rounds." if options.rounds < peer_table.LEAST_ROUNDS else "."), "",
                      peer_table.table(results, list(programs))])
    (out / "peers.md").write_text(text, encoding="utf-8")
    failures = [(result["name"], side, kept["failures"][0]) for result in results for side, kept in [("gearbox", result["gearbox"]), *result["peers"].items()]
                if kept["failures"]]
    if options.json:
        print(json.dumps(facts))
    else:
        print(text)
        print(f"{out / 'peers.md'}")
    for name, side, why in failures:
        say(f"{name}: {side}: {why}")
    return 1 if failures else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        print("", file=sys.stderr)
        say("interrupted; what was measured so far is not kept")
        sys.exit(130)
