"""Text on disk -> JSON values with their places, and the one way to refuse them.

Standard library only, like rules and check: `resume` starts an interpreter for the check, and must not wait for numpy.

Strict where Python is not: NaN, infinity and numbers beyond 64 bits are no JSON here; a key given twice in one object is an
error, since one of the two values would be lost; lines end in a newline alone, since a carriage return says that a program
has rewritten the file.
"""
from __future__ import annotations

import difflib
import json
import math
from typing import Any

SHOWN = 60  # characters of a wrong value that a sentence quotes


class BadInput(Exception):
    """The input cannot be used. The text is one line for a person; the command line prints it and exits with 2."""


def nearest(name: str, known: list[str]) -> str:
    """'did you mean X?' or the list of what there is. Used for every unknown name."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"did you mean '{close[0]}'?"
    return "there is: " + ", ".join(known) if known else "there is none"


def show(value: Any) -> str:
    """A value as its file has it, on one line and cut to a length that a sentence bears."""
    try:
        text = json.dumps(value, ensure_ascii=False).replace("\u2028", " ").replace("\u2029", " ")
    except RecursionError:
        return "a value nested too deeply"
    return text if len(text) <= SHOWN else text[:SHOWN - 1] + "…"


def read_bytes(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise BadInput(f"{path}: missing") from None
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from None


def decode(data: bytes, where: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadInput(f"{where}: not UTF-8 at byte {error.start}: these bytes are not what a run writes") from None


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not a JSON number; records write null for what is not finite")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text:.40} is not finite")
    return value


def _bounded(text: str) -> int:
    value = int(text) if len(text) < 40 else None
    if value is None or abs(value) >= 2**64:
        raise ValueError(f"the number {text:.40} does not fit 64 bits")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"field '{twice}' is there twice; one of the two values would be lost")
    return found


def parse(text: str, path: str, line: int | None) -> Any:
    """One JSON value. `line` is the number of a line in a file of lines, None for a file that is one value."""
    where = f"{path}:{line}" if line else path
    try:
        value = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite, parse_int=_bounded, object_pairs_hook=_object)
        if "\\u" in text:  # JSON can spell what no text can hold and no file can be written with
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        return value
    except json.JSONDecodeError as error:
        place = where if line else f"{path}:{error.lineno}"
        raise BadInput(f"{place}: invalid JSON: {error.msg} (column {error.colno})") from None
    except UnicodeEncodeError:
        raise BadInput(f"{where}: a text holds half of a character, a \\ud800 to \\udfff without its other half") from None
    except ValueError as error:
        raise BadInput(f"{where}: {error}") from None
    except RecursionError:
        raise BadInput(f"{where}: invalid JSON: nested too deeply") from None


def lines(data: bytes, path: str, may_be_torn: bool) -> tuple[list[tuple[int, dict[str, Any]]], int | None]:
    """(line number, object) for every line, and the number of a torn last line or None.

    A torn line is what a power cut leaves: the last one, without its newline, and no whole JSON value. Its bytes may end in
    the middle of a character, so bytes are decoded line by line. A last line that lacks only its newline counts.
    """
    parts = data.split(b"\n")
    parsed = []
    for number, part in enumerate(parts, start=1):
        last = number == len(parts)
        if not part.strip(b" \t"):
            continue
        where = f"{path}:{number}"
        try:
            if part.endswith(b"\r"):
                raise BadInput(f"{where}: the line ends in a carriage return: a program has rewritten the file; a run's lines end in a newline alone")
            value = parse(decode(part, where), path, number)
        except BadInput:
            if last and may_be_torn:
                return parsed, number
            raise
        if not isinstance(value, dict):
            raise BadInput(f"{where}: the line is {show(value)}; it should be a JSON object")
        parsed.append((number, value))
    return parsed, None
