"""The estimators on data whose truth is known: false alarms, power, drift, small samples, and a second opinion."""
import itertools
import math
import tempfile
import unittest

import numpy as np

from . import synthetic
from analysis import factorial, jsonout, load, stats, study
from analysis.load import GEARS


def found(ratio):
    return stats.verdict(ratio, "higher", ratio.p) in ("faster", "slower")


class FalseAlarms(unittest.TestCase):
    """A/A: both sides are the same program. Intervals may exclude 1 in 5 % of cases, 7 % with the noise of the test."""
    TRIALS = 2000

    def rate(self, make):
        rng = np.random.default_rng(11)
        alarms = sum(1 for _ in range(self.TRIALS) if (lambda r: r.low > 1 or r.high < 1)(make(rng)))
        return alarms / self.TRIALS

    def test_paired(self):
        for n in (3, 10):
            self.assertLessEqual(self.rate(lambda rng: stats.paired_ratio(rng.lognormal(0, 0.1, n), rng.lognormal(0, 0.1, n))), 0.07)

    def test_welch_with_unequal_noise(self):
        self.assertLessEqual(self.rate(lambda rng: stats.welch_ratio(rng.lognormal(0, 0.3, 6), rng.lognormal(0, 0.05, 12))), 0.07)

    def test_stratified_with_unequal_noise(self):
        def make(rng):
            return stats.stratified_ratio([rng.normal(0, 0.02 * (1 + k % 4), 3) for k in range(8)])
        self.assertLessEqual(self.rate(make), 0.07)

    def test_skewed_data_with_a_slow_mode(self):
        def sample(rng):
            return rng.lognormal(0, 0.05, 10) * np.where(rng.random(10) < 0.1, 1.5, 1.0)
        self.assertLessEqual(self.rate(lambda rng: stats.paired_ratio(sample(rng), sample(rng))), 0.07)

    def test_whole_runs_after_holm(self):
        """Over whole runs the corrected verdicts may name any effect at all in 5 % of them."""
        alarms = total = 0
        quiet = synthetic.Truth(effects={}, interactions={})
        with tempfile.TemporaryDirectory() as folder:
            for seed in range(24):
                run = load.load(synthetic.write_run(f"{folder}/{seed}", quiet, ("sieve", "timers"), blocks=4, seed=seed, samples=0))
                one = study.Study(run)
                raw = [effect.ratio for effect in one.effects if effect.work]
                alarms += sum(ratio.low > 1 or ratio.high < 1 for ratio in raw)
                total += len(raw)
        self.assertLessEqual(alarms / total, 0.07 + 0.02)  # 192 tests: two percentage points of sampling noise


class Power(unittest.TestCase):
    def test_five_percent_is_found_with_enough_invocations(self):
        rng = np.random.default_rng(5)
        hits = sum(found(stats.paired_ratio(1.05 * rng.lognormal(0, 0.03, 20), rng.lognormal(0, 0.03, 20))) for _ in range(200))
        self.assertGreaterEqual(hits / 200, 0.95)

    def test_five_percent_gear_effect_in_a_run(self):
        truth = synthetic.Truth(effects={("allocator", "mimalloc"): {"*": 0.05}}, interactions={}, noise=0.02)
        with tempfile.TemporaryDirectory() as folder:
            one = study.Study(load.load(synthetic.write_run(folder, truth, ("sieve", "timers"), blocks=5, samples=0)))
        for effect in one.effects:
            expected = "faster" if effect.factor == "allocator" else None
            self.assertEqual(effect.verdict == "faster", expected == "faster", (effect.factor, effect.work))
            if expected:
                self.assertTrue(effect.ratio.low < math.exp(0.05) < effect.ratio.high)

    def test_latency_counts_as_faster_when_it_falls(self):
        truth = synthetic.Truth(effects={("scheduler", "global_queue"): {"timers": 0.3}}, interactions={})
        with tempfile.TemporaryDirectory() as folder:
            one = study.Study(load.load(synthetic.write_run(folder, truth, ("timers",), blocks=3, samples=0)))
        effect = next(effect for effect in one.effects if effect.factor == "scheduler" and effect.work)
        self.assertEqual(effect.verdict, "faster")
        self.assertAlmostEqual(effect.ratio.ratio, math.exp(0.3), delta=0.03)

    def test_interaction_is_found_and_nothing_else(self):
        with tempfile.TemporaryDirectory() as folder:
            one = study.Study(load.load(synthetic.write_run(folder, None, ("kv_server", "sieve"), blocks=5, samples=0)))
        clear = [(item.factors, item.work) for item in one.interactions if item.significant and item.work]
        self.assertEqual(clear, [(("scheduler", "collector"), "kv_server")])


class Drift(unittest.TestCase):
    def test_blocks_cancel_drift(self):
        truth = synthetic.Truth(effects={("scheduler", "global_queue"): {"*": -0.06}}, interactions={}, noise=0.01, block_drift=-0.15)
        with tempfile.TemporaryDirectory() as folder:
            one = study.Study(load.load(synthetic.write_run(folder, truth, ("sieve",), blocks=6, samples=0)))
        run = one.run
        other = ("global_queue",) + run.baseline[1:]
        own, base = one.values("sieve", other), one.values("sieve", run.baseline)
        paired = next(item.ratio for item in one.comparisons if item.treatment == other)
        unpaired = stats.welch_ratio(list(own.values()), list(base.values()))
        self.assertTrue(paired.low < math.exp(-0.06) < paired.high < 1)
        self.assertGreater(math.log(unpaired.high / unpaired.low), 5 * math.log(paired.high / paired.low))

    def test_drift_within_blocks_raises_no_alarm(self):
        quiet = synthetic.Truth(effects={}, interactions={}, noise=0.01, seq_drift=-0.10)
        with tempfile.TemporaryDirectory() as folder:
            one = study.Study(load.load(synthetic.write_run(folder, quiet, ("sieve", "echo"), blocks=6, samples=0)))
        self.assertEqual([effect.verdict for effect in one.effects if effect.verdict in ("faster", "slower")], [])


class SmallSamples(unittest.TestCase):
    def test_one_value_has_no_interval(self):
        ratio = stats.paired_ratio([2.0], [1.0])
        self.assertEqual((ratio.ratio, ratio.low, ratio.p), (2.0, None, None))
        self.assertEqual(stats.verdict(ratio, "higher", None), "inconclusive")
        self.assertIsNone(stats.centre([]))
        self.assertIsNone(stats.paired_ratio([], []))

    def test_median_interval_needs_six(self):
        self.assertEqual(stats.bootstrap_median([1, 2, 3, 4, 5]), (None, None))
        low, high = stats.bootstrap_median([1, 2, 3, 4, 5, 6])
        self.assertTrue(1 <= low <= 3.5 <= high <= 6)

    def test_mann_whitney_that_cannot_reach_alpha(self):
        self.assertIsNone(stats.mann_whitney([1, 2, 3], [4, 5, 6]))  # its smallest p is 0.1
        self.assertAlmostEqual(stats.mann_whitney([1, 2, 3, 4], [5, 6, 7, 8]), 2 / 70)
        self.assertEqual(stats.mann_whitney([1] * 5, [1] * 5), 1.0)

    def test_identical_values(self):
        same = stats.paired_ratio([5.0] * 3, [5.0] * 3)
        self.assertEqual((same.low, same.high, same.p), (1.0, 1.0, 1.0))
        self.assertEqual(stats.verdict(same, "higher", same.p), "equivalent")

    def test_what_is_not_positive_is_refused(self):
        for bad in (0.0, -1.0, math.nan, math.inf):
            with self.assertRaises(ValueError):
                stats.centre([1.0, bad])


class Words(unittest.TestCase):
    def test_verdicts(self):
        def ratio(low, high):
            return stats.Ratio(math.sqrt(low * high), low, high, 0.001, 5, 4, "t")
        self.assertEqual(stats.verdict(ratio(1.02, 1.05), "higher", 0.01), "faster")
        self.assertEqual(stats.verdict(ratio(1.02, 1.05), "lower", 0.01), "slower")
        self.assertEqual(stats.verdict(ratio(1.02, 1.05), "lower", 0.01, "size"), "larger")
        self.assertEqual(stats.verdict(ratio(1.02, 1.05), "higher", 0.2), "inconclusive")
        self.assertEqual(stats.verdict(ratio(0.995, 1.005), "higher", 0.9), "equivalent")
        self.assertEqual(stats.verdict(ratio(1.002, 1.008), "higher", 0.001), "equivalent")
        self.assertEqual(stats.verdict(ratio(0.9, 1.2), "higher", 0.5), "inconclusive")

    def test_holm(self):
        self.assertEqual(stats.holm([0.01, None, 0.04, 0.03]), [0.03, None, 0.06, 0.06])
        self.assertEqual(stats.holm([]), [])

    def test_cliffs_delta(self):
        self.assertEqual(stats.cliffs_delta([3, 4], [1, 2]), 1.0)
        self.assertEqual(stats.cliffs_delta([1, 2], [1, 2]), 0.0)


class Anova(unittest.TestCase):
    def test_agrees_with_statsmodels_on_unbalanced_data(self):
        import pandas
        import statsmodels.api
        import statsmodels.formula.api
        rng = np.random.default_rng(3)
        rows = [(block, work, *combo) for block in range(4) for work in ("w1", "w2") for combo in itertools.product("ab", "cd", "efg", "hi")]
        rows = [row for row in rows if rng.random() > 0.1]
        values = [math.exp(0.3 * (row[2] == "b") + 0.2 * (row[4] == "g") * (row[2] == "b") + 0.1 * row[0] + rng.normal(0, 0.1)) for row in rows]
        ours = factorial.anova(values, [row[0] for row in rows], [row[1] for row in rows], [row[2:] for row in rows])
        frame = pandas.DataFrame(rows, columns=["block", "work", "s", "a", "c", "p"])
        frame["y"] = np.log(values)
        theirs = statsmodels.api.stats.anova_lm(statsmodels.formula.api.ols("y ~ C(block) + work + (s + a + c + p)**2", frame).fit(), typ=2)
        names = dict(zip(GEARS, "sacp"))
        for term in ours.terms:
            key = {"block": "C(block)", "workload": "work"}.get(term.name) or ":".join(names[part] for part in term.name.split(" x "))
            self.assertAlmostEqual(term.sum_sq, theirs.loc[key, "sum_sq"], places=8)
            self.assertAlmostEqual(term.p, theirs.loc[key, "PR(>F)"], places=8)
            self.assertEqual(term.df, theirs.loc[key, "df"])

    def test_small_data_is_answered_in_words(self):
        combos = [("a", "c", "e", "h"), ("b", "c", "e", "h")]
        for values, blocks, chosen in (([], [], []), ([1.0], [0], combos[:1]), ([1.0, 2.0], [0, 0], combos), ([1.0, 1.0], [0, 1], combos[:1] * 2)):
            result = factorial.anova(values, blocks, ["w"] * len(values), chosen)
            self.assertTrue(result.notes)
            jsonout.dumps(result)

    def test_one_factor_at_a_time_design(self):
        combos = [("a", "c", "e", "h"), ("b", "c", "e", "h"), ("a", "d", "e", "h"), ("a", "c", "f", "h")] * 3
        result = factorial.anova([1, 2, 1, 1, 1.1, 2.1, 1, 1, 1, 2, 1.1, 1], [i // 4 for i in range(12)], ["w"] * 12, combos)
        names = [term.name for term in result.terms]
        self.assertEqual(names, ["block", "scheduler", "allocator", "collector"])
        self.assertTrue(any("cannot be told apart" in note for note in result.notes))


if __name__ == "__main__":
    unittest.main()
