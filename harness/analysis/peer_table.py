"""What `gearbox peers` makes of its values: ratios, verdicts against the targets, the machine in a line, the table.

Each ratio is how many times better Gearbox is, whatever the metric: above 1 is better. It is paired by round on the log scale
(stats.py) and has an interval from three rounds on. A verdict is given against the peer that the target names, and only where
the whole interval lies on one side of the target; else it is open.
"""
from __future__ import annotations

import statistics

from . import stats
from .peer_programs import PEERS
from .peer_rows import Row, Target

LEAST_ROUNDS = 3  # of an interval: from two pairs it would have one degree of freedom


def ratio_of(here: list[float], there: list[float], better: str, rounds: int) -> dict | None:
    """Of two sides with a value from every round; None where a round is missing."""
    if not len(here) == len(there) == rounds:
        return None
    ratio = stats.paired_ratio(here, there)
    if ratio is None:
        return None
    if better == "lower":
        ratio = ratio.inverted()
    known = rounds >= LEAST_ROUNDS
    return {"ratio": ratio.ratio, "low": ratio.low if known else None, "high": ratio.high if known else None, "n": ratio.n}


def judged(low: float | None, high: float | None, bound: float, rounds: int) -> str:
    """An interval of something of which more is better, against what it should reach."""
    if low is None or high is None:
        return f"no verdict from {rounds} round{'' if rounds == 1 else 's'}"
    return "met" if low >= bound else "missed" if high < bound else "open"


def verdict(target: Target, row: Row, result: dict, others: dict[str, dict], rounds: int) -> str:
    """One of met, missed, open, or why there is none. others: the results by their rows' names."""
    here = result["gearbox"]["values"]
    if len(here) != rounds:
        return "no verdict: failed"
    if target.against == "":
        centre = stats.centre(here)
        known = centre is not None and rounds >= LEAST_ROUNDS
        low, high = (centre.low, centre.high) if known else (None, None)
        if row.better == "lower" and low is not None and high is not None:
            return judged(1 / high, 1 / low, 1 / target.bound, rounds)
        return judged(low, high, target.bound, rounds)
    if target.against.startswith("row:"):
        other = others.get(target.against[len("row:"):])
        if other is None:
            return f"no verdict: {target.against[len('row:'):]} was not run"
        ratio = ratio_of(here, other["gearbox"]["values"], row.better, rounds)
    else:
        there = result["peers"].get(target.against)
        if there is None:
            return f"no verdict: {PEERS[target.against].title} was not run"
        ratio = there["ratio"]
    return "no verdict: failed" if ratio is None else judged(ratio["low"], ratio["high"], target.bound, rounds)


def judge(rows: list[Row], results: list[dict], rounds: int) -> None:
    """Puts medians, ratios and verdicts into the results."""
    others = {result["name"]: result for result in results}
    for result in results:
        for side in (result["gearbox"], *result["peers"].values()):
            side["median"] = statistics.median(side["values"]) if side["values"] else None
        for there in result["peers"].values():
            there["ratio"] = ratio_of(result["gearbox"]["values"], there["values"], result["better"], rounds)
    for row, result in zip(rows, results):
        result["targets"] = [{"against": target.against, "text": target.text, "verdict": verdict(target, row, result, others, rounds)}
                             for target in row.targets]


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


def cell(side: dict | None, unit: str) -> str:
    """A value, and of a peer the ratio: `68.1 ns, x2.62 (2.55 to 2.70)`."""
    if side is None:
        return "-"
    if side["failures"]:
        return "failed"
    text = si(side["median"], unit)
    ratio = side.get("ratio")
    if ratio is None:
        return text
    interval = "" if ratio["low"] is None else f" ({ratio['low']:.2f} to {ratio['high']:.2f})"
    return f"{text}, x{ratio['ratio']:.2f}{interval}"


def table(results: list[dict], peers: list[str]) -> str:
    """A column a peer that has one of the rows."""
    peers = [peer for peer in peers if any(peer in result["peers"] for result in results)]
    heads = ["what", "Gearbox", *(PEERS[peer].title for peer in peers), "target: verdict"]
    lines = [[result["text"], cell(result["gearbox"], result["unit"]), *(cell(result["peers"].get(peer), result["unit"]) for peer in peers),
              "; ".join(f"{target['text']}: {target['verdict']}" for target in result["targets"])] for result in results]
    widths = [max(len(line[i]) for line in [heads, *lines]) for i in range(len(heads))]
    shape = lambda cells: "| " + " | ".join(text.ljust(width) for text, width in zip(cells, widths)) + " |"
    return "\n".join([shape(heads), "|" + "|".join("-" * (width + 2) for width in widths) + "|", *map(shape, lines)]) + "\n"


def machine_line(facts: dict) -> str:
    """Of what `gearbox doctor --json` says. Facts that are not there are left out."""
    if "unknown" in facts:
        return f"Machine: not known, since gearbox doctor {facts['unknown']}"
    parts = [facts.get("cpu"), f"{facts['cores']} cores" if "cores" in facts else None,
             f"virtual ({facts['virtualization']})" if facts.get("virtualization") not in (None, "none") else None,
             f"{facts['memory_bytes'] / (1 << 30):.1f} GiB" if facts.get("memory_bytes") else None,
             f"Linux {facts['kernel']}" if facts.get("kernel") else None, facts.get("os")]
    line = "Machine: " + ", ".join(part for part in parts if part)
    if facts.get("verdict"):
        reasons = "; ".join(facts.get("verdict_reasons") or ())
        line += f". Doctor: {facts['verdict']}" + (f" ({reasons})" if reasons else "")
    return line
