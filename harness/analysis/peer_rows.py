"""The rows of `gearbox peers`: what is run here, what is run at each peer, and what each row aims at.

A row names the peers that have it. Its targets name the peer that they are about, so that no other ratio is judged. Targets
for gears that do not exist here are left out.
"""
from __future__ import annotations

import dataclasses

from . import load


@dataclasses.dataclass(frozen=True)
class Call:
    """How a peer's program is called, and which of its values counts."""
    words: tuple[str, ...]
    metric: str = "ns"


@dataclasses.dataclass(frozen=True)
class Target:
    """`against` is a peer: Gearbox is at least `bound` times as good. `row:<name>`: the same, of another row of Gearbox.

    "" is no ratio: the value itself, which is at most `bound` in the row's unit (at least, where higher is better).
    """
    against: str
    bound: float
    text: str


@dataclasses.dataclass(frozen=True)
class Row:
    name: str
    text: str
    targets: tuple[Target, ...]
    unit: str
    better: str  # "lower" or "higher"
    here: tuple[str, ...]  # ("bench", name) or ("run", workload, arguments...)
    metric: str  # of Gearbox: "ns" for a bench, a metric's name or "hist:<name>:<percentile>" for a workload
    peers: dict[str, Call]


def go(times: float) -> Target:
    return Target("go", times, f">= {times:g}x Go" if times != 1 else "no worse than Go")


def bench(name: str, text: str, targets: tuple[Target, ...], here: str, there: str = "", peers: tuple[str, ...] = ("go",), procs: int = 1) -> Row:
    call = Call((there, "-procs", str(procs)))
    return Row(name, text, targets, "ns", "lower", ("bench", here), "ns", {peer: call for peer in peers} if there else {})


def work(name: str, text: str, targets: tuple[Target, ...], unit: str, better: str, metric: str, here: str, there_metric: str,
         settings: tuple[str, ...] = (), peers: tuple[str, ...] = ("go",), more: tuple[str, ...] = ()) -> Row:
    sets = tuple(word for setting in settings for word in ("--set", setting))
    call = Call((here, *(word for setting in settings for word in ("-set", setting))), there_metric)
    return Row(name, text, targets, unit, better, ("run", here) + sets + more, metric, {peer: call for peer in peers})


HEAPS = ("go", "boehm", "mimalloc")
FIBERS = ("go", "fiber")

ROWS = (
    bench("raw_switch", "raw switch between two stacks, one way", (Target("row:bare_loop", 1 / 1.5, "<= 1.5x the bare loop"),), "raw_switch"),
    bench("bare_loop", "the bare inline-asm loop, for scale", (), "bare_switch_loop"),
    bench("yield", "yield, 2 Gs, 1 P, Go's rule", (go(3.5),), "yield/gmp_1p", "yield", FIBERS),
    bench("yield_local", "yield, 2 Gs, 1 P, to the local tail", (go(4.5),), "yield/gmp_local_1p", "yield", FIBERS),
    bench("ping_pong_1p", "unbuffered ping-pong round trip, 1 P", (go(5),), "ping_pong/gmp_1p", "ping_pong_round_trip", FIBERS),
    bench("ping_pong_2p", "unbuffered ping-pong round trip, 2 P", (go(3.5),), "ping_pong/gmp_2p", "ping_pong_round_trip", FIBERS, 2),
    bench("buffered_1_1", "buffered channel (128), one to one, 2 P", (go(5),), "buffered/gmp_2p", "buffered_1_to_1", FIBERS, 2),
    bench("buffered_4_4", "buffered channel (128), four to four, 2 P", (go(5),), "buffered_4_to_4", "buffered_4_to_4", FIBERS, 2),
    bench("select_two", "select over two channels, 1 P", (go(4),), "select_two", "select_two"),
    bench("spawn_join_1p", "spawn and join, 1 P", (go(6),), "spawn_join/gmp_1p", "spawn_join", FIBERS),
    bench("spawn_join_2p", "spawn and join, 2 P", (go(5),), "spawn_join/gmp_2p", "spawn_join", FIBERS, 2),
    bench("fib_27", "fib(27), a goroutine a call, 2 P", (go(4),), "fib_27", "fib_27", ("go", "tbb"), 2),
    bench("mutex", "mutex, 8 Gs, 2 P", (go(2),), "mutex_contended", "mutex_contended", procs=2),
    bench("sleep_million", "1 000 000 goroutines sleep 1 ms, each", (go(3),), "sleep_million", "sleep_million", procs=2),
    bench("allocate_16", "allocate 16 B", (go(3),), "allocate_16/size_class", "allocate_16", HEAPS),
    bench("allocate_64", "allocate 64 B", (go(3),), "allocate_64/size_class", "allocate_64", HEAPS),
    bench("allocate_node", "allocate a node of two references", (), "allocate_node/size_class", "allocate_node", HEAPS),
    work("skynet", "skynet, 1 000 000 leaves", (go(6),), "leaves/s", "higher", "throughput", "skynet", "throughput", peers=("go", "tbb")),
    work("skynet_100k", "skynet, 100 000 leaves, as many as fit into the stacks of fibers", (), "leaves/s", "higher", "throughput", "skynet", "throughput",
         ("leaves=100000",), ("go", "fiber", "tbb")),
    work("parked_ns", "1 000 000 parked goroutines, making each", (go(1.5),), "ns", "lower", "spawn", "parked", "ns"),
    work("parked_bytes", "1 000 000 parked goroutines, resident memory of each", (Target("", 4200, "<= 4 200 B"),), "B", "lower", "resident", "parked", "bytes"),
    work("binary_trees", "binary_trees, depth 18", (go(3),), "nodes/s", "higher", "throughput", "binary_trees", "throughput", peers=HEAPS),
    work("binary_trees_rss", "binary_trees, its peak resident memory", (go(1),), "B", "lower", "peak_rss", "binary_trees", "rss", peers=HEAPS),
    work("gc_latency_p50", "gc_latency (200 000 x 1 KiB) p50", (go(1),), "ns", "lower", "p50", "gc_latency", "p50", peers=("go", "boehm")),
    work("gc_latency_p99", "gc_latency p99", (go(1),), "ns", "lower", "p99", "gc_latency", "p99", peers=("go", "boehm")),
    work("gc_latency_p99.9", "gc_latency p99.9", (go(1),), "ns", "lower", "p99.9", "gc_latency", "p99.9", peers=("go", "boehm")),
    work("gc_latency_p99.99", "gc_latency p99.99", (go(1),), "ns", "lower", "p99.99", "gc_latency", "p99.99", peers=("go", "boehm")),
    work("gc_pause_alone_p99", "GC pause p99, 200 MiB live, one G", (), "ns", "lower", "hist:gc_pause:99", "gc_latency", "pause_p99", peers=("go", "boehm")),
    work("gc_pause_p99", "GC pause p99, 200 MiB live, 1 000 Gs", (go(1),), "ns", "lower", "hist:gc_pause:99", "gc_latency", "pause_p99", ("goroutines=1000",)),
    work("stop_p99", "time to stop alone p99, 200 MiB live, 1 000 Gs", (Target("", 20_000, "<= 20 us"),), "ns", "lower", "hist:time_to_stop:99", "gc_latency",
         "stop_p99", ("goroutines=1000",)),
    work("echo_epoll", "TCP echo, 64 connections, 64 B, epoll", (go(1.15), Target("epoll", 0.9, ">= 0.9x raw epoll")), "round trips/s", "higher", "throughput",
         "echo", "throughput", peers=("go", "epoll")),
    work("echo_io_uring", "TCP echo, 64 connections, 64 B, io_uring", (go(1.45),), "round trips/s", "higher", "throughput", "echo", "throughput",
         peers=("go", "epoll"), more=("--poller", "io_uring")),
)


def chosen(only: str | None, peers: list[str] | None) -> list[Row]:
    """The rows that `only` names; without it those that one of `peers` has, and without both of them all."""
    if only is None:
        return [row for row in ROWS if peers is None or any(peer in row.peers for peer in peers)]
    names = [row.name for row in ROWS]
    picked: list[Row] = []
    for word in only.split(","):
        matching = [row for row in ROWS if row.name == word or row.name.startswith(word + "_")]
        if not matching:
            raise load.BadInput(f"--only: there is no row '{word}'; {load.nearest(word, names)}")
        picked += [row for row in matching if row not in picked]
    return picked
