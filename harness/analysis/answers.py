"""What a study answers: one comparison, one effect, one interaction, the drift. Data only; study.py computes them and says what they mean."""
from __future__ import annotations

import dataclasses

from .load import Metric
from .stats import Centre, Ratio
from .treatments import Treatment

DUNNETT, SIDAK = "simultaneous (Dunnett)", "simultaneous (Sidak)"  # methods of a Ratio
DRIFT_TO_SAY, DRIFT_TO_STOP = 1.25, 1.4  # factors: beyond the first it is printed, beyond the second nothing is ranked
CLASSES = ("throughput", "latency", "size")


def metric_class(metric: Metric) -> str:
    """Which metrics may stand in one mean."""
    return "size" if metric.unit == "bytes" else "throughput" if metric.better == "higher" else "latency"


@dataclasses.dataclass
class Comparison:
    """One combination on one workload against the baseline combination."""
    work: str
    treatment: Treatment
    metric: str
    ok: int
    failed: int
    unsupported: int
    not_run: int
    failures: dict[str, int]  # status -> how often; unsupported included
    centre: Centre | None  # in the metric's own unit
    ratio: Ratio | None  # speed ratio to the baseline; for a size (peak_rss) the plain ratio
    own_variance: Ratio | None  # the same with each treatment's own variance alone (Welch): beside the answer, not it
    verdict: str
    median_ratio: float | None  # in the metric's own direction, as are the two below
    median_ratio_low: float | None
    median_ratio_high: float | None
    mann_whitney_p: float | None
    cliffs_delta: float | None


@dataclasses.dataclass
class Effect:
    """What exchanging one level of a factor does, all else matched. work is None for the geometric mean over the workloads of a class."""
    factor: str
    level: str
    base: str
    work: str | None
    metric_class: str
    ratio: Ratio | None
    contexts: int
    verdict: str = "no verdict"
    failed: int = 0  # of the invocations with either level
    planned: int = 0


@dataclasses.dataclass
class Interaction:
    """Speed with both levels over what the two separate effects predict by multiplication; 1 means they compose."""
    factors: tuple[str, str]
    levels: tuple[str, str]
    work: str | None
    metric_class: str
    ratio: Ratio | None
    contexts: int
    significant: bool = False  # never where an invocation of one of the four corners failed
    failed: int = 0
    planned: int = 0


@dataclasses.dataclass(frozen=True)
class Drift:
    """The linear trend of speed from the first invocation to the last, as a factor with its interval."""
    factor: float
    low: float
    high: float

    @property
    def size(self) -> float:
        """How far the machine moved, in either direction; 1 where the trend may be none."""
        return 1.0 if self.low <= 1 <= self.high else max(self.factor, 1 / self.factor)
