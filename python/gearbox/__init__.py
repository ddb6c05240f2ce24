"""Gearbox runs as pandas frames.

    import gearbox

    run = gearbox.load("results/quickstart/latest")
    run.cells.groupby(["workload", "scheduler"])["value"].median()
    run.metrics[run.metrics.status == "ok"].plot.scatter("gc_cpu", "throughput")

A run is read and checked by the analysis itself (harness/analysis), so a damaged run is refused here with the same sentence,
as gearbox.BadInput. Nothing is measured or written. What a column means is in docs/RECORDS.md.

Frames have one row an invocation, failed ones too, and are new on each access: they may be changed. Each begins with the columns that
say which invocation a row is: seq, block, replicate, workload, work, a column for each factor of the run, build, host, status.

To be found, the folder above this one must be on the path: PYTHONPATH=python.
"""
from __future__ import annotations

import importlib.util
import os
import pathlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas

__all__ = ["BadInput", "Run", "load"]


def _analysis() -> None:
    """The analysis as a subpackage of this one: its own name, `analysis`, is too common to put on anybody's path."""
    root = pathlib.Path(os.environ.get("GEARBOX_ROOT") or pathlib.Path(__file__).resolve().parents[2])
    folder = root / "harness" / "analysis"
    if not (folder / "__init__.py").exists():
        raise ImportError(f"gearbox: {folder} is missing; set GEARBOX_ROOT to the folder of the Gearbox sources")
    spec = importlib.util.spec_from_file_location("gearbox._analysis", folder / "__init__.py", submodule_search_locations=[str(folder)])
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)


_analysis()
from gearbox._analysis import choose as _choose  # noqa: E402  found only now
from gearbox._analysis import load as _load  # noqa: E402
from gearbox._analysis import rows as _rows  # noqa: E402

BadInput = _load.BadInput


class Run:
    """One run. Made by load()."""

    def __init__(self, run: Any):
        self._run = run

    def __repr__(self) -> str:
        return f"<gearbox run {self.experiment} {self.id}: {len(self._run.cells)} of {len(self._run.plan)} invocations>"

    @property
    def path(self) -> str:
        return self._run.path

    @property
    def id(self) -> str:
        return self._run.manifest["run_id"]

    @property
    def experiment(self) -> str:
        return self._run.manifest["experiment"]

    @property
    def manifest(self) -> dict[str, Any]:
        """manifest.json: machine, build, seed, question, design."""
        return self._run.manifest

    @property
    def notes(self) -> list[str]:
        """What a reader should know, such as a last line that was cut short."""
        return list(self._run.notes)

    @property
    def factors(self) -> dict[str, list[str]]:
        """Factor -> its levels, the baseline's first."""
        return {factor: list(levels) for factor, levels in self._run.levels.items()}

    @property
    def baseline(self) -> dict[str, str]:
        """Factor -> its level in the baseline."""
        return self._run.factors.named(self._run.baseline)

    def against(self, baseline: str) -> "Run":
        """The same run with another baseline, named as `--baseline` takes it: "procs=4", "scheduler=gmp:runnext=off,procs=4"."""
        return Run(_choose.another_baseline(self._run, baseline))

    @property
    def cells(self) -> "pandas.DataFrame":
        """Headline metric and its value, status and reason, times, resources, noise and parameters."""
        return self._frame(_rows.cells(self._run))

    @property
    def metrics(self) -> "pandas.DataFrame":
        """A column for each metric; NaN where an invocation has no value of it. Units are in `units`."""
        return self._frame(_rows.metrics(self._run))

    @property
    def counters(self) -> "pandas.DataFrame":
        """A column for each counter; NaN where the gears of a cell do not have it."""
        return self._frame(_rows.counters(self._run))

    @property
    def units(self) -> "pandas.DataFrame":
        """workload, metric -> unit, which direction is better, whether it is the workload's headline."""
        return _pandas().DataFrame(_rows.units(self._run), columns=["workload", "metric", "unit", "better", "headline"])

    def _frame(self, found: list[dict[str, Any]]) -> "pandas.DataFrame":
        pandas = _pandas()
        frame = pandas.DataFrame(found)
        for factor, levels in self._run.levels.items():
            if factor in frame:
                frame[factor] = pandas.Categorical(frame[factor], categories=levels)  # sorts and groups baseline first
        return frame


def load(path: str | os.PathLike) -> Run:
    """Reads and checks a run directory, or an experiment directory through its `latest` link. Raises BadInput."""
    return Run(_load.load(os.fspath(path)))


def _pandas():
    try:
        import pandas
    except ImportError:
        raise ImportError("gearbox: frames need pandas, which is missing; on Debian: apt-get install python3-pandas (and use /usr/bin/python3)") from None
    return pandas
