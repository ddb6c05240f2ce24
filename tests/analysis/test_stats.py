"""The estimators on data whose truth is known: false alarms, power, drift, small samples, and a second opinion."""
import itertools
import math
import tempfile
import unittest

import numpy as np

from . import synthetic
from analysis import dunnett, factorial, gvm, jsonout, load, stats, study
from analysis.load import GEARS


def found(ratio):
    return stats.verdict(ratio) in ("faster", "slower")


def welch(values, base):
    return stats.from_contrast(gvm.simultaneous([stats.welch_estimate(values, base)], stats.ALPHA)[0], "Welch")


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
        self.assertLessEqual(self.rate(lambda rng: welch(rng.lognormal(0, 0.3, 6), rng.lognormal(0, 0.05, 12))), 0.07)

    def test_effect_over_contexts_with_unequal_noise(self):
        names = list(range(16))
        layout = gvm.Layout([block for block in range(3) for _ in names], names * 3, 0)
        weights = {name: (1 if name % 2 else -1) / 8 for name in names}
        sds = 0.02 * (1 + np.array(names) // 2 % 4)

        def make(rng):
            fit = layout.fit((rng.normal(0, 1, (3, 16)) * sds).ravel())
            return stats.from_contrast(gvm.simultaneous([fit.estimate(weights)], stats.ALPHA)[0], "effect")
        self.assertLessEqual(self.rate(make), 0.07)

    def test_skewed_data_with_a_slow_mode(self):
        def sample(rng):
            return rng.lognormal(0, 0.05, 10) * np.where(rng.random(10) < 0.1, 1.5, 1.0)
        self.assertLessEqual(self.rate(lambda rng: stats.paired_ratio(sample(rng), sample(rng))), 0.07)

    def test_whole_runs(self):
        """All effects of a run are one family, and so are the combinations of one workload: 5 % of the families may name any difference at all."""
        effects = families = 0
        quiet = synthetic.Truth(effects={}, interactions={})
        with tempfile.TemporaryDirectory() as folder:
            for seed in range(24):
                one = study.Study(load.load(synthetic.write_run(f"{folder}/{seed}", quiet, ("sieve", "timers"), blocks=4, seed=seed, samples=0)))
                effects += any(found(effect.ratio) for effect in one.effects if effect.work)
                families += sum(any(found(item.ratio) for item in one.comparisons if item.work == work and item.ratio) for work in one.run.works)
        self.assertLessEqual(effects, 4)  # of 24: 1.2 are expected, and more than 4 come in 0.6 % of such tests
        self.assertLessEqual(families, 6)  # of 48: 2.4 are expected, and more than 6 come in 1 %


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
        unpaired = welch(list(own.values()), list(base.values()))
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
        self.assertEqual(stats.verdict(ratio), "no verdict")
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
        self.assertEqual(stats.verdict(same), "equivalent")

    def test_what_is_not_positive_is_refused(self):
        for bad in (0.0, -1.0, math.nan, math.inf):
            with self.assertRaises(ValueError):
                stats.centre([1.0, bad])


class Words(unittest.TestCase):
    def test_verdicts(self):
        def ratio(low, high):
            return stats.Ratio(math.sqrt(low * high), low, high, 0.001, 5, 4, "t")
        self.assertEqual(stats.verdict(ratio(1.02, 1.05), "higher"), "faster")
        self.assertEqual(stats.verdict(ratio(1.02, 1.05), "lower"), "slower")
        self.assertEqual(stats.verdict(ratio(1.02, 1.05), "lower", "size"), "larger")
        self.assertEqual(stats.verdict(ratio(0.995, 1.005), "higher"), "equivalent")
        self.assertEqual(stats.verdict(ratio(1.002, 1.008), "higher"), "equivalent")
        self.assertEqual(stats.verdict(ratio(0.9, 1.2), "higher"), "undecided")
        self.assertEqual(stats.verdict(ratio(0.9, 1.2), "higher", rope_pct=25), "equivalent")
        self.assertEqual(stats.verdict(None), "no verdict")

    def test_the_verdict_is_the_interval(self):
        """On 100 000 random triples: the word follows from low, high and the margin, and says of the p value what the interval says."""
        rng = np.random.default_rng(7)
        size = 100_000
        value, se, df = rng.normal(0, 0.1, size), np.exp(rng.normal(-3.5, 1, size)), np.exp(rng.uniform(0, 5, size))
        family = dunnett.Family([0.3, 0.5, 0.7])
        critical, p = family.critical(df, 0.05), family.tail(value / se, df)
        self.assertEqual(int(((p < 0.05) != (np.abs(value) > critical * se)).sum()), 0)
        for middle, half in zip(value, critical * se):
            low, high = math.exp(middle - half), math.exp(middle + half)
            word = stats.verdict(stats.Ratio(math.exp(middle), low, high, 0.5, 5, 4, ""), rope_pct=5)
            inside = 1 / 1.05 <= low and high <= 1.05
            self.assertEqual(word, "equivalent" if inside else "faster" if low > 1 else "slower" if high < 1 else "undecided", (low, high))

    def test_margin_that_an_interval_would_have_passed(self):
        for low, high in ((0.87, 1.31), (0.5, 1.2), (1.01, 1.02)):
            ratio = stats.Ratio(1.0, low, high, 0.5, 5, 4, "")
            self.assertEqual(stats.verdict(ratio, rope_pct=100 * (ratio.margin - 1)), "equivalent")
            self.assertNotEqual(stats.verdict(ratio, rope_pct=100 * (ratio.margin - 1) - 0.1), "equivalent")

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
