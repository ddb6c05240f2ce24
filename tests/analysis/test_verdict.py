"""The verdict procedure: golden values, identities, a second opinion on each number, and what poor data does to it."""
import itertools
import math
import unittest

import numpy as np
from scipy import integrate, stats as scipy_stats

from . import noise
from analysis import dunnett, gvm, power


def balanced(blocks, treatments, reference_runs=1):
    names = [0] * reference_runs + list(range(1, treatments))
    return gvm.Layout([block for block in range(blocks) for _ in names], names * blocks, 0)


class Dunnett(unittest.TestCase):
    def test_golden_critical_values(self):
        for size, df, correlation, expected in ((3, 20, 0.5, 2.540), (15, 30, 0.5, 3.019), (15, 20, 0.25, 3.240), (15, 7.7, 0.25, 3.862)):
            self.assertAlmostEqual(float(dunnett.Family([math.sqrt(correlation)] * size).critical(df, 0.05)), expected, delta=0.0006)

    @staticmethod
    def inside(c, df, lambdas):
        """P(max |T| <= c) by adaptive quadrature, over S outside and z inside: shares nothing with the tables and nodes of dunnett.py."""
        def given_s(s):
            def integrand(z):
                value = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
                for one in lambdas:
                    width = math.sqrt(2 * (1 - one * one))
                    value *= (math.erf((one * z + c * s) / width) - math.erf((one * z - c * s) / width)) / 2
                return value
            return integrate.quad(integrand, -9, 9, epsabs=1e-11, epsrel=1e-10, limit=200)[0]

        def density(s):
            return 2 * math.exp(df / 2 * math.log(df / 2) - math.lgamma(df / 2) + (df - 1) * math.log(s) - df * s * s / 2) if s > 0 else 0.0
        middle = 1 / math.sqrt(2 * df)
        return sum(integrate.quad(lambda s: density(s) * given_s(s), low, high, epsabs=1e-10, epsrel=1e-9, limit=100)[0]
                   for low, high in ((0, max(0.05, 1 - 2 * middle)), (max(0.05, 1 - 2 * middle), 1 + 2 * middle), (1 + 2 * middle, 1 + 9 * middle)))

    def test_quantile_agrees_with_an_independent_integration(self):
        for df, lambdas in ((7.7, [0.3, 0.55, 0.8]), (31.0, [0.1, 0.5, 0.9]), (4.2, [0.97, 0.6])):
            c = float(dunnett.Family(lambdas).critical(df, 0.05))
            self.assertLess(self.inside(c - 1e-6, df, lambdas), 0.95)
            self.assertGreater(self.inside(c + 1e-6, df, lambdas), 0.95)

    def test_a_family_of_one_is_students_t(self):
        for df in (1, 2, 7.3, 100):
            family = dunnett.Family([0.6])
            self.assertAlmostEqual(float(family.critical(df, 0.05)), scipy_stats.t.ppf(0.975, df), places=9)
            self.assertAlmostEqual(float(family.tail(2.2, df)), 2 * scipy_stats.t.sf(2.2, df), places=12)

    def test_independent_and_identical_differences(self):
        """lambda 0 with a known variance is independence; lambda 1 is one difference asked many times."""
        self.assertAlmostEqual(float(dunnett.Family([0.0] * 6).critical(1e6, 0.05)), scipy_stats.norm.ppf(1 - dunnett.sidak_alpha(0.05, 6) / 2), places=4)
        one = scipy_stats.t.ppf(0.975, 9)
        same = float(dunnett.Family([1.0] * 6).critical(9, 0.05))
        self.assertTrue(one < same < 1.02 * one, (one, same))  # the cut of lambda errs to the safe side, and little

    def test_p_is_alpha_at_the_critical_value_and_keeps_its_digits(self):
        family = dunnett.Family([0.2, 0.5, 0.7, 0.9])
        for df, alpha in itertools.product((2.5, 8.0, 60.0), (0.2, 0.05, 0.001)):
            self.assertAlmostEqual(float(family.tail(family.critical(df, alpha), df)) / alpha, 1, places=9)
        many = dunnett.Family([0.5] * 15)
        self.assertAlmostEqual(float(many.tail(12.0, 30.0)) / (15 * 2 * scipy_stats.t.sf(12.0, 30)), 1, delta=0.02)  # far out the union bound is exact

    def test_many_families_at_once_are_judged_as_each_alone(self):
        rng = np.random.default_rng(2)
        lambdas, df = rng.uniform(0.05, 0.95, (200, 7)), rng.uniform(2, 40, (200, 7))
        t = rng.uniform(2.2, 4.5, (200, 7))
        together = dunnett.significant(t, df, lambdas, 0.05)
        alone = np.array([np.abs(t[i]) > dunnett.Family(lambdas[i]).critical(df[i], 0.05) for i in range(len(t))])
        self.assertTrue(np.array_equal(together, alone))
        self.assertTrue(0.1 < alone.mean() < 0.9)


class Identities(unittest.TestCase):
    def test_two_treatments_are_the_paired_t(self):
        rng = np.random.default_rng(1)
        for blocks in (3, 10, 25):
            a, b = rng.normal(0, 0.1, blocks) + np.arange(blocks), rng.normal(0.05, 0.4, blocks) + np.arange(blocks)
            fit = balanced(blocks, 2).fit(np.column_stack([a, b]).ravel())
            for d0 in (0.0, 8.0):
                one = gvm.against_reference(fit, d0, 0.05)[1]
                theirs = scipy_stats.ttest_rel(b, a)
                self.assertAlmostEqual(one.df, blocks - 1, places=9)
                self.assertAlmostEqual(one.p, theirs.pvalue, places=10)
                half = scipy_stats.t.ppf(0.975, blocks - 1) * np.std(b - a, ddof=1) / math.sqrt(blocks)
                self.assertAlmostEqual(one.low, float(np.mean(b - a)) - half, places=10)
                self.assertAlmostEqual(one.high, float(np.mean(b - a)) + half, places=10)

    def test_generic_is_the_balanced_formula(self):
        rng = np.random.default_rng(4)
        for blocks, treatments, runs in ((3, 16, 1), (6, 16, 3), (10, 5, 2)):
            layout = balanced(blocks, treatments, runs)
            y = rng.normal(0, 0.3, (blocks, treatments - 1 + runs))
            fit = layout.fit(y.ravel())
            cells = y.shape[1]
            reference, others = y[:, :runs].mean(), y[:, runs:].mean(axis=0)
            means = np.concatenate([[reference] * runs, others])
            residual = y - means - y.mean(axis=1, keepdims=True) + y.mean()
            df = np.full(treatments, (blocks - 1) * (1 - 1 / cells))
            df[0] = blocks * runs - 1 - runs * (blocks - 1) / cells
            squares = np.concatenate([[(residual[:, :runs]**2).sum()], (residual[:, runs:]**2).sum(axis=0)])
            np.testing.assert_allclose(layout.df, df, rtol=2e-14)
            np.testing.assert_allclose(fit.variance, squares / df, rtol=2e-13)
            np.testing.assert_allclose(fit.effect[1:], others - reference, atol=2e-14)
            v, d0 = squares / df, 4.0
            pool = v[1:].mean()
            raised = np.maximum(v[1:], (d0 * pool + df[1:] * v[1:]) / (d0 + df[1:]))
            variance = v[0] / (blocks * runs) + raised / blocks
            nu = np.minimum(variance**2 / ((v[0] / (blocks * runs))**2 / df[0] + (raised / blocks)**2 / (df[1:] + d0)), df.sum())
            found = gvm.differences(fit, d0)
            np.testing.assert_allclose(found.variance, variance, rtol=1e-12)
            np.testing.assert_allclose(found.df, nu, rtol=1e-12)
            np.testing.assert_allclose(found.lambdas, np.sqrt(v[0] / (blocks * runs) / variance), rtol=1e-12)

    def test_shifts_of_a_block_and_changes_of_unit_alter_nothing(self):
        d0, plain = noise.answers("quiet")
        unit = {work: 10.0**index for index, work in enumerate(sorted(plain))}
        shifted_d0, shifted = noise.answers("quiet", change=lambda row, value: value * unit[row["workload"]] * (1 + 3 * int(row["block"])))
        self.assertAlmostEqual(d0, shifted_d0, places=9)
        for work, combos in plain.items():
            for combo, one in combos.items():
                for name in ("log_ratio", "se", "df", "low", "high", "p"):
                    self.assertAlmostEqual(getattr(one, name), getattr(shifted[work][combo], name), places=9, msg=(work, combo, name))

    def test_prior_of_variances(self):
        rng = np.random.default_rng(8)
        for x in (0.01, 0.5, 1.0, 30.0, 1e4):
            from scipy import special
            self.assertAlmostEqual(float(special.polygamma(1, gvm.inverse_trigamma(x))) / x, 1, places=9)
        alike = [balanced(8, 16).fit(rng.normal(0, 0.1, 128)) for _ in range(8)]
        self.assertGreater(gvm.moderation(alike), 6)
        apart = [balanced(8, 16).fit((rng.normal(0, 1, (8, 16)) * np.exp(rng.normal(0, 2, 16))).ravel()) for _ in range(8)]
        self.assertLess(gvm.moderation(apart), 2)
        self.assertEqual(gvm.moderation([balanced(8, 5).fit(rng.normal(0, 0.1, 40))]), 0)  # four variances are too few
        self.assertEqual(gvm.moderation([balanced(8, 2).fit(rng.normal(0, 0.1, 16)) for _ in range(9)]), 0)  # one each: nothing to compare

    def test_variances_are_raised_and_never_lowered(self):
        fit = noise.fits("quiet")["skynet"]
        own, raised = gvm.differences(fit, 0.0), gvm.differences(fit, 4.0)
        self.assertTrue(np.all(raised.variance >= own.variance * (1 - 1e-12)))
        self.assertTrue(np.any(raised.variance > own.variance * 1.01))


class RealNoise(unittest.TestCase):
    def test_calls_on_a_quiet_machine(self):
        d0, found = noise.answers("quiet")
        self.assertAlmostEqual(d0, 4.011, delta=0.0005)
        self.assertEqual([noise.calls(combos) for combos in found.values()], [8, 0, 11, 0, 0, 6, 8, 1])
        one = found["skynet"][("global_queue", "mimalloc", "stw", "io_uring")]
        for value, expected in ((math.exp(one.log_ratio), 0.149), (math.exp(one.low), 0.108), (math.exp(one.high), 0.204), (one.df, 7.74 / 1), (one.critical, 3.891)):
            self.assertAlmostEqual(value, expected, delta=0.0051 if expected == 7.74 else 0.0006)

    def test_calls_on_a_loaded_machine(self):
        d0, found = noise.answers("red")
        self.assertEqual(d0, 8.0)
        self.assertEqual(sum(map(noise.calls, found.values())), 16)

    def test_the_repeated_baseline_against_itself(self):
        """A run with the baseline three times a block has an A/A in it: two of its runs, compared with each other, are no call."""
        for run in ("qs3", "qs3q"):
            by_work: dict[str, list[dict]] = {}
            for row in noise.rows(run):
                if noise.treatment(row) == noise.BASELINE:
                    by_work.setdefault(row["workload"], []).append(row)
            self.assertEqual({len(mine) / len({row["block"] for row in mine}) for mine in by_work.values()}, {3.0})
            answers = [gvm.against_reference(gvm.Layout([row["block"] for row in mine], [row["poller"] for row in mine], "epoll").fit(
                [math.log(float(row["value"])) for row in mine]), 0.0, 0.05) for mine in by_work.values()]
            self.assertEqual({len(one) for one in answers}, {2})
            self.assertLessEqual(sum(map(noise.calls, answers)), 1)


class SecondOpinion(unittest.TestCase):
    """The same numbers by another way: explicit loops over normal equations, and statsmodels."""

    def setUp(self):
        rng = np.random.default_rng(6)
        cells = [(block, treatment) for block in range(6) for treatment in ("a", "a", "b", "c", "d")]
        self.cells = [cell for cell in cells if rng.random() > 0.15]
        self.y = np.array([0.3 * block + {"a": 0, "b": 0.2, "c": -0.4, "d": 0}[name] + rng.normal(0, 0.1) for block, name in self.cells])
        self.layout = gvm.Layout([block for block, _ in self.cells], [name for _, name in self.cells], "a")
        self.fit = self.layout.fit(self.y)

    def test_effects_and_variances_with_holes(self):
        design = np.array([[float(block == b) for b in range(6)] + [float(name == t) for t in "bcd"] for block, name in self.cells])
        solution, *_ = np.linalg.lstsq(design, self.y, rcond=None)
        order = ["a", "b", "c", "d"].index
        for name, effect in zip(self.layout.treatments, self.fit.effect):
            self.assertAlmostEqual(effect, 0.0 if name == "a" else solution[5 + order(name)], places=9)
        normal = np.linalg.inv(design.T @ design)
        for index, name in enumerate(self.layout.treatments):
            squares = sum((self.y[i] - design[i] @ solution)**2 for i, cell in enumerate(self.cells) if cell[1] == name)
            df = sum(1 - design[i] @ normal @ design[i] for i, cell in enumerate(self.cells) if cell[1] == name)
            self.assertAlmostEqual(self.fit.variance[index], squares / df, places=9)
        weights = {"b": 0.5, "c": 0.5, "a": -1.0}
        wanted = np.zeros(9)
        wanted[6], wanted[7] = 0.5, 0.5
        row = wanted @ normal @ design.T
        expected = sum(row[i]**2 * self.fit.variance[self.layout.treatments.index(cell[1])] for i, cell in enumerate(self.cells))
        estimate = self.fit.estimate(weights)
        self.assertAlmostEqual(estimate.variance, expected, places=9)
        self.assertAlmostEqual(estimate.log_ratio, float(wanted @ solution), places=9)

    def test_statsmodels_agrees_where_the_variance_is_one(self):
        try:
            import pandas
            import statsmodels.formula.api as formula
        except ModuleNotFoundError as missing:
            self.skipTest(f"{missing.name} is not installed")
        frame = pandas.DataFrame(self.cells, columns=["block", "name"])
        frame["y"] = self.y
        theirs = formula.ols("y ~ C(block) + C(name)", frame).fit()
        self.assertAlmostEqual(float(self.fit.residual_sd)**2, theirs.mse_resid, places=9)
        for name in "bcd":
            self.assertAlmostEqual(float(self.fit.effect[self.layout.treatments.index(name)]), theirs.params[f"C(name)[T.{name}]"], places=9)
            row = self.layout.row({name: 1.0, "a": -1.0})
            self.assertAlmostEqual(math.sqrt(theirs.mse_resid * float(row @ row)), theirs.bse[f"C(name)[T.{name}]"], places=9)


class Effects(unittest.TestCase):
    def test_main_effect_and_interaction_by_hand(self):
        rng = np.random.default_rng(9)
        y = rng.normal(0, 0.05, (8, 4)) + [0, 0.3, 0.1, 0.7]  # neither, a, b, both
        layout = gvm.Layout([block for block in range(8) for _ in range(4)], ["neither", "a", "b", "both"] * 8, "neither")
        fit = layout.fit(y.ravel())
        means = y.mean(axis=0)
        effect = fit.estimate({"a": 0.5, "both": 0.5, "neither": -0.5, "b": -0.5})
        self.assertAlmostEqual(effect.log_ratio, (means[1] + means[3] - means[0] - means[2]) / 2, places=12)
        self.assertAlmostEqual(effect.variance, fit.variance.sum() / 32, places=12)
        self.assertAlmostEqual(effect.df, min(fit.variance.sum()**2 / (fit.variance**2 / layout.df).sum(), layout.df.sum()), places=9)
        crossing = fit.estimate({"both": 1, "neither": 1, "a": -1, "b": -1})
        self.assertAlmostEqual(crossing.log_ratio, means[3] + means[0] - means[1] - means[2], places=12)
        first, second = gvm.simultaneous([effect, crossing], 0.05)
        t = first.log_ratio / first.se
        self.assertAlmostEqual(first.p, 1 - (1 - 2 * scipy_stats.t.sf(abs(t), effect.df))**2, places=12)
        self.assertAlmostEqual(second.critical, scipy_stats.t.ppf(1 - (1 - math.sqrt(0.95)) / 2, crossing.df), places=9)

    def test_mean_over_workloads(self):
        one, other = gvm.Estimate(0.2, 0.04, 5.0, 6), gvm.Estimate(0.4, 0.01, 9.0, 6)
        mean = gvm.average([one, other])
        self.assertAlmostEqual(mean.log_ratio, 0.3)
        self.assertAlmostEqual(mean.variance, 0.0125)
        self.assertAlmostEqual(mean.df, 0.0125**2 / (0.01**2 / 5 + 0.0025**2 / 9))
        self.assertIsNone(gvm.average([one, gvm.Estimate(0.1, 0.1, None, 2)]).df)
        self.assertIsNone(gvm.average([]))


class PoorData(unittest.TestCase):
    def test_fewer_than_three_blocks_have_an_estimate_and_no_interval(self):
        rng = np.random.default_rng(1)
        for blocks in (1, 2):
            found = gvm.against_reference(balanced(blocks, 16, 3).fit(rng.normal(0, 0.1, 18 * blocks)), 8.0, 0.05)
            self.assertEqual(len(found), 15)
            self.assertEqual({(one.low, one.high, one.p, one.se) for one in found.values()}, {(None, None, None, None)})

    def test_zero_variance(self):
        same = balanced(4, 3).fit(np.log([5.0, 7.0, 5.0] * 4))
        for d0 in (0.0, 8.0):
            found = gvm.against_reference(same, d0, 0.05)
            self.assertEqual((found[2].low, found[2].high, found[2].p), (0.0, 0.0, 1.0))
            self.assertAlmostEqual(found[1].low, math.log(1.4), places=12)
            self.assertAlmostEqual(found[1].high, math.log(1.4), places=12)
            self.assertEqual(found[1].p, 0.0)
        self.assertEqual(gvm.moderation([same] * 8), 0.0)

    def test_one_exact_treatment_beside_noisy_ones(self):
        rng = np.random.default_rng(3)
        y = rng.normal(0, 0.1, (6, 16))
        y[:, 5] = y.mean(axis=1)
        for reference in (0, 5):
            layout = gvm.Layout([block for block in range(6) for _ in range(16)], list(range(16)) * 6, reference)
            for one in gvm.against_reference(layout.fit(y.ravel()), 4.0, 0.05).values():
                self.assertTrue(math.isfinite(one.low) and one.low < one.high)

    def test_cells_that_are_missing(self):
        rng = np.random.default_rng(2)
        cells = [(block, name) for block in range(5) for name in "abcd" if (block, name) not in {(0, "b"), (3, "b"), (1, "c")} and not (name == "d" and block > 1)]
        layout = gvm.Layout([block for block, _ in cells], [name for _, name in cells], "a")
        found = gvm.against_reference(layout.fit(rng.normal(0, 0.1, len(cells))), 0.0, 0.05)
        self.assertEqual({name: one.blocks for name, one in found.items()}, {"b": 3, "c": 4, "d": 2})
        self.assertEqual([found[name].low is None for name in "bcd"], [False, False, True])

    def test_what_the_cells_do_not_determine_is_left_out(self):
        layout = gvm.Layout([0, 1, 2, 3, 4, 5], ["a", "a", "a", "b", "b", "b"], "a")
        fit = layout.fit(np.arange(6.0))
        self.assertEqual(gvm.against_reference(fit, 0.0, 0.05), {})
        self.assertIsNone(fit.estimate({"b": 1, "a": -1}))
        self.assertIsNone(fit.estimate({"z": 1, "a": -1}))

    def test_a_reference_without_values_is_refused(self):
        with self.assertRaises(ValueError):
            gvm.Layout([0, 1], ["b", "b"], "a")


class Power(unittest.TestCase):
    def test_tables_and_what_lies_between(self):
        self.assertAlmostEqual(power.detectable(10, 0.15, 3), math.exp(1.53 * 0.15))
        self.assertAlmostEqual(power.detectable(3, 0.15, 1), math.exp(4.34 * 0.15))
        self.assertAlmostEqual(power.half_width(6, 0.15, 3), math.exp(1.52 * 0.15))
        self.assertIsNone(power.detectable(2, 0.15))
        for runs in (1, 2, 3, 5):
            line = [power.detectable(n, 0.15, runs) for n in range(3, 60)]
            self.assertEqual(line, sorted(line, reverse=True))
        for n in (3, 7, 40):
            self.assertTrue(power.detectable(n, 0.15, 3) < power.detectable(n, 0.15, 2) < power.detectable(n, 0.15, 1))

    def test_two_treatments_have_the_power_of_the_paired_t(self):
        rng = np.random.default_rng(12)
        for blocks in (3, 10):
            shift = math.log(power.detectable(blocks, 0.15, 1, 2))
            d = rng.normal(shift, 0.15 * math.sqrt(2), (20000, blocks))
            t = d.mean(axis=1) / d.std(axis=1, ddof=1) * math.sqrt(blocks)
            self.assertAlmostEqual(float((np.abs(t) > scipy_stats.t.ppf(0.975, blocks - 1)).mean()), 0.80, delta=0.012)

    def test_what_a_contrast_would_have_shown(self):
        found = gvm.against_reference(balanced(10, 16, 3).fit(np.random.default_rng(3).normal(0, 0.15, 180)), 8.0, 0.05)
        seen = np.mean([math.log(power.would_have_seen(one)) for one in found.values()])
        self.assertAlmostEqual(seen / math.log(power.detectable(10, 0.15, 3)), 1, delta=0.15)

    def test_smallest_margin(self):
        self.assertAlmostEqual(power.smallest_margin(math.log(0.87), math.log(1.31)), 1.31)
        self.assertAlmostEqual(power.smallest_margin(math.log(0.5), math.log(1.31)), 2.0)

    def test_looks_share_alpha(self):
        self.assertAlmostEqual(sum(alpha for _, alpha in power.LOOKS), 0.05)
        self.assertEqual([power.look_alpha(n) for n in (3, 5, 6, 12)], [0.01, None, 0.015, 0.025])


if __name__ == "__main__":
    unittest.main()
