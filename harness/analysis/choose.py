"""What a person calls a level or a treatment: `procs=4`, `scheduler=gmp:runnext=off,steal=one,depth=14`, `stw + procs=4`.

A text is settings, with commas or a plus sign between spaces between them; what it does not set is at the baseline, and "baseline" sets
nothing. A setting is factor=level. A gear's level may stand alone where one gear has it, and the part before a factor's dot may
be left out where that leaves one factor: so the names that tables show can be typed. Behind a gear's options a comma belongs to
the level, unless a factor's name follows.
"""
from __future__ import annotations

import dataclasses
import hashlib
import re

from .load import GEARS, BadInput, Run, nearest
from .treatments import Factors, Treatment


def settings(factors: Factors, text: str, option: str) -> dict[str, str]:
    """factor -> level. `option` begins the sentence of a refusal."""
    pieces: list[str] = []
    for piece in re.split(r"\s*,\s*|\s+\+\s+", text.strip()):
        name = piece.partition("=")[0]
        if pieces and ":" in pieces[-1] and "=" in piece and not _factors_called(factors, name):
            pieces[-1] += "," + piece
        else:
            pieces.append(piece)
    found: dict[str, str] = {}
    for piece in pieces:
        if piece == "baseline" and len(pieces) == 1:
            return {}
        factor, level = _setting(factors, piece, option)
        if found.setdefault(factor, level) != level:
            raise BadInput(f"{option}: '{text}' sets {factor} twice, to {found[factor]} and to {level}")
    return found


def _factors_called(factors: Factors, name: str) -> list[str]:
    return [name] if name in factors.names else [factor for factor in factors.names if factor.partition(".")[2] == name]


def _setting(factors: Factors, piece: str, option: str) -> tuple[str, str]:
    name, equals, level = piece.partition("=")
    if not equals or ":" in name:  # a level alone; 'collector none' is how a table calls a level that two gears have
        owner, _, rest = piece.partition(" ")
        alone = {factor: levels for factor, levels in factors.levels.items() if factor in GEARS or factor == "label"}
        fitting = [(factor, one) for factor, levels in alone.items() for one in levels if one == piece or (factor, one) == (owner, rest)]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            raise BadInput(f"{option}: '{piece}' is a level of {' and of '.join(factor for factor, _ in fitting)}: write {fitting[0][0]}={piece}")
        known = [factors.level(factor, one) for factor, levels in factors.levels.items() for one in levels]
        raise BadInput(f"{option}: '{piece}' is no level of this run; {nearest(piece, known)}")
    called = _factors_called(factors, name)
    if len(called) > 1:
        raise BadInput(f"{option}: '{name}' is the name of several factors: {', '.join(called)}")
    if not called:
        raise BadInput(f"{option}: this run has no factor '{name}'; {nearest(name, list(factors.names))}")
    if level not in factors.levels[called[0]]:
        raise BadInput(f"{option}: {called[0]} has no level '{level}' in this run; {nearest(level, factors.levels[called[0]])}")
    return called[0], level


def another_baseline(run: Run, text: str) -> Run:
    """The same run held against another treatment. Nothing is measured anew: any treatment of a run can be its baseline."""
    old = run.factors
    changes = settings(old, text, "--baseline")
    baseline = tuple(changes.get(factor, level) for factor, level in zip(old.names, old.baseline))
    # stable: the baseline's level first
    levels = {factor: sorted(listed, key=lambda level: level != base) for (factor, listed), base in zip(old.levels.items(), baseline)}
    factors = Factors(levels, baseline, {})
    factors = dataclasses.replace(factors, planned={work: dict(sorted(own.items(), key=lambda item: factors.order(item[0]))) for work, own in old.planned.items()})
    if not any(factors.is_baseline(treatment) for treatment in factors.all):
        raise BadInput(f"--baseline: no planned cell has {', '.join(factors.whole(baseline))}: this run cannot be held against it")
    notes = [note for note in run.notes if not note.startswith("the baseline combination is not part")]
    if baseline != old.baseline:
        notes.append(f"the baseline was chosen afterwards; the experiment's is {', '.join(old.whole(old.baseline))}")
    # A figure that was drawn against another baseline is stale.
    fingerprint = run.fingerprint if baseline == old.baseline else hashlib.sha256(f"{run.fingerprint} {baseline}".encode()).hexdigest()
    return dataclasses.replace(run, factors=factors, notes=notes, fingerprint=fingerprint)


def treatment_of(run: Run, work: str, changes: dict[str, str]) -> Treatment | None:
    """A work item's treatment that differs from its baseline in these settings; None where the work item has none such.

    A setting of a factor that says nothing to the work item changes nothing there.
    """
    factors = run.factors
    heard = {factor: level for index, (factor, level) in enumerate((name, changes.get(name)) for name in factors.names)
             if level is not None and any(treatment[index] is not None for treatment in factors.planned[work])}
    return factors.exchanged(work, factors.baseline_of(work), heard)


def pair(run: Run, texts: tuple[str, str]) -> list[tuple[str, Treatment, Treatment]]:
    """(work item, A, B) wherever the two can be held against each other."""
    wanted = [settings(run.factors, text, "--pair") for text in texts]
    found = []
    for work in run.works:
        a, b = (treatment_of(run, work, changes) for changes in wanted)
        if a is not None and b is not None and a != b:
            found.append((work, a, b))
    if not found:
        for text, changes in zip(texts, wanted):
            if all(treatment_of(run, work, changes) is None for work in run.works):
                raise BadInput(f"--pair: no cell of this run is '{text}' with everything else at the baseline, {', '.join(run.factors.whole(run.baseline))}")
        raise BadInput(f"--pair: '{texts[0]}' and '{texts[1]}' are one treatment on every workload of this run, or never planned of the same one")
    return found
