"""The levels of a run's factors: treatments, their names, and how one is found from another.

A treatment is a tuple of levels in the order of the run's factors. A factor that says nothing to a cell (a parameter that
its workload does not have, an option that its scheduler does not have) has None for a level: such a cell is of one treatment,
not of all levels at once.
"""
from __future__ import annotations

import dataclasses
import functools
from typing import Iterable

from .rules import GEARS

Treatment = tuple[str | None, ...]


def kind(factor: str) -> str:
    """What a factor is, for a sentence: 'scheduler', 'procs', 'parameter depth', 'runtime option gogc', 'scheduler option runnext'."""
    owner, dot, name = factor.partition(".")
    return factor if not dot else f"parameter {name}" if owner == "param" else f"{owner} option {name}"


@dataclasses.dataclass(frozen=True)
class Factors:
    """Factor -> levels, the baseline's first. `planned` has each work item's treatments and how many invocations of each are planned."""
    levels: dict[str, list[str]]
    baseline: Treatment
    planned: dict[str, dict[Treatment, int]]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.levels)

    @property
    def word(self) -> str:
        """What the factors have in common, for a sentence."""
        return "gear" if set(self.levels) <= set(GEARS) else "factor"

    def order(self, treatment: Treatment) -> list[int]:
        """For sorting: baseline levels first."""
        return [-1 if level is None else self.levels[factor].index(level) for factor, level in zip(self.levels, treatment)]

    def is_baseline(self, treatment: Treatment) -> bool:
        return all(level in (None, base) for level, base in zip(treatment, self.baseline))

    def baseline_of(self, work: str) -> Treatment:
        """The baseline among a work item's treatments; the whole baseline when the work item has none."""
        return next((treatment for treatment in self.planned[work] if self.is_baseline(treatment)), self.baseline)

    def of(self, work: str) -> list[Treatment]:
        """Every treatment of the run that could be one of this work item: it says as much as one of the item's own does."""
        said = {tuple(level is None for level in treatment) for treatment in self.planned[work]}
        return [treatment for treatment in self.all if tuple(level is None for level in treatment) in said]

    @functools.cached_property
    def all(self) -> list[Treatment]:
        return sorted({treatment for treatments in self.planned.values() for treatment in treatments}, key=self.order)

    def projected(self, work: str, treatment: Treatment) -> Treatment | None:
        """What this treatment is on a work item to which some of its factors say nothing."""
        return next((own for own in self.planned[work] if all(level in (None, asked) for level, asked in zip(own, treatment))), None)

    @functools.cached_property
    def shared(self) -> list[Treatment]:
        """Treatments that can be asked of every work item: a factor that says nothing to one of them is held at its baseline."""
        silent = {index for treatments in self.planned.values() for index in range(len(self.levels)) if all(one[index] is None for one in treatments)}
        found = {tuple(self.baseline[index] if index in silent else level for index, level in enumerate(treatment)) for treatment in self.all}
        return sorted(found, key=self.order)

    def exchanged(self, work: str, treatment: Treatment, changes: dict[str, str]) -> Treatment | None:
        """The planned treatment that differs in these factors alone, or None.

        An option is a factor only of gears that have it. So where a gear is exchanged, the factors of its options are as they
        were when the new gear has them, else None; they are at their baseline when the old gear had none.
        """
        wanted = tuple(changes.get(factor, level) for factor, level in zip(self.levels, treatment))
        if wanted in self.planned[work]:
            return wanted
        dependent = {index for index, factor in enumerate(self.levels) if "." in factor and factor.partition(".")[0] in changes and factor not in changes}
        if not dependent:
            return None
        fitting = [one for one in self.planned[work] if all(level == want or index in dependent and level in (None, self.baseline[index])
                                                            for index, (level, want) in enumerate(zip(one, wanted)))]
        return max(fitting, key=lambda one: sum(level == want for level, want in zip(one, wanted)), default=None)

    def partner(self, work: str, treatment: Treatment, changes: dict[str, str]) -> Treatment | None:
        """exchanged(), where the way back leads to the treatment again: no cell is the partner of two."""
        found = self.exchanged(work, treatment, changes)
        back = {factor: level for factor, level in zip(self.levels, treatment) if factor in changes}
        return found if found is not None and self.exchanged(work, found, back) == treatment else None

    # ---- names ----

    def level(self, factor: str, level: str) -> str:
        """A level's name: a gear's alone, with its gear's where another gear has a level of that name; 'procs=4', 'depth=14'."""
        if factor in GEARS:
            return f"{factor} {level}" if any(level in self.levels[other] for other in GEARS if other != factor and other in self.levels) else level
        return f"{self.title(factor)}={level}"

    def title(self, factor: str) -> str:
        """A factor's name without what is before its dot, where that leaves it the only one."""
        name = factor.partition(".")[2] or factor
        return factor if sum((other.partition(".")[2] or other) == name for other in self.levels) > 1 else name

    def short(self, treatment: Treatment) -> str:
        """Names only what differs from the baseline: 'stw + io_uring' instead of sixty characters."""
        differing = [self.level(factor, level) for factor, level, base in zip(self.levels, treatment, self.baseline) if level not in (None, base)]
        return " + ".join(differing) if differing else "baseline"

    def whole(self, treatment: Treatment) -> list[str]:
        """Every level that the treatment has, by name."""
        return [level if factor in GEARS else self.level(factor, level) for factor, level in zip(self.levels, treatment) if level is not None]

    def named(self, treatment: Treatment) -> dict[str, str]:
        return {factor: level for factor, level in zip(self.levels, treatment) if level is not None}


def treatment(factors: Iterable[str], levels: dict[str, str]) -> Treatment:
    return tuple(levels.get(factor) for factor in factors)
