"""Numbers with units as a person writes them. Apart from the plots, so that a table needs no drawing library."""
from __future__ import annotations


def si(value: float, unit: str = "") -> str:
    """1234567 -> '1.23 M'."""
    for limit, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}".rstrip()


def duration(ns: float) -> str:
    for limit, unit in ((1e9, "s"), (1e6, "ms"), (1e3, "µs")):
        if abs(ns) >= limit:
            return f"{ns / limit:.3g} {unit}"
    return f"{ns:.3g} ns"


def amount(value: float, unit: str) -> str:
    """A value with its unit as a person writes it."""
    if unit == "ns":
        return duration(value)
    if unit == "bytes":
        for limit, prefix in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
            if abs(value) >= limit:
                return f"{value / limit:.3g} {prefix}"
        return f"{value:.0f} B"
    return f"{si(value)} {unit}".strip()
