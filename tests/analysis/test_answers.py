"""What a run says: verdicts read from intervals, one answer to one question, classes apart, and what a loaded or drifting machine forbids."""
import json
import math
import os
import re
import tempfile
import unittest

import numpy as np

from . import noise, synthetic
from analysis import __main__ as command
from analysis import answers, compare, gvm, jsonout, load, plots, report, stats, table, words
from analysis.study import Study

SMALL = {**synthetic.FACTORS, "allocator": ["size_class"], "poller": ["epoll"]}
LONELY = {gear: levels[:1] for gear, levels in synthetic.FACTORS.items()}
ONE_FACTOR = {**LONELY, "scheduler": ["gmp", "global_queue"]}


class WithFolder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def study(self, name="run", machine=None, **how):
        run_dir = synthetic.write_run(os.path.join(self.folder, name), how.pop("truth", None), **{"workloads": ("sieve", "echo", "timers", "gc_latency"), "samples": 0, "factors": SMALL,
                                                                                                    "blocks": 4, **how})
        path = os.path.join(run_dir, "manifest.json")
        with open(path) as file:
            manifest = json.load(file)
        manifest["machine"].update(machine or {})
        synthetic.write_json(path, manifest)
        return Study(load.load(synthetic.seal(run_dir)))


class Procedure(WithFolder):
    def test_a_comparison_is_the_contrast_of_the_model(self):
        """The numbers of a run with a repeated baseline, against the procedure called by hand on its records."""
        study = self.study(factors=synthetic.FACTORS, more={}, blocks=3)
        self.assertEqual({len(study.samples(work, study.baseline(work))) for work in study.run.works}, {9})
        fits = {}
        for work in study.run.works:
            rows = [(cell.block, cell.treatment, cell.value) for cell in study.run.cells if cell.work == work]
            sign = 1 if study.run.metrics[work].better == "higher" else -1
            fits[work] = gvm.Layout([row[0] for row in rows], [row[1] for row in rows], study.run.baseline).fit([sign * math.log(row[2]) for row in rows])
        d0 = gvm.moderation(list(fits.values()))
        for item in study.comparisons:
            if item.treatment != study.run.baseline:
                one = gvm.against_reference(fits[item.work], d0, 0.05)[item.treatment]
                self.assertAlmostEqual(math.log(item.ratio.low), one.low, places=9)
                self.assertAlmostEqual(math.log(item.ratio.high), one.high, places=9)
                self.assertAlmostEqual(item.ratio.p, one.p, places=9)
                own = gvm.against_reference(fits[item.work], 0.0, 0.05)[item.treatment]
                self.assertAlmostEqual(math.log(item.own_variance.high), own.high, places=9)

    def test_verdict_interval_and_p_say_the_same(self):
        study = self.study(workloads=("binary_trees", "gc_latency"))
        seen = set()
        for item in [*study.comparisons, *study.effects]:
            if item.ratio is not None:
                apart = not item.ratio.low <= 1 <= item.ratio.high
                self.assertEqual(apart, item.ratio.p < study.alpha)
                if item.verdict != "equivalent":
                    self.assertEqual(apart, item.verdict in ("faster", "slower"), item)
                seen.add(item.verdict)
        self.assertTrue({"faster", "slower", "undecided"} <= seen, seen)

    def test_main_effects_against_means_of_logs(self):
        """In a complete run an effect is the plain mean over contexts and blocks, whatever the model."""
        study = self.study(blocks=3)
        for effect in study.effects:
            if effect.work:
                index = study.run.factors.names.index(effect.factor)
                means = [np.mean([study.sign(effect.work) * math.log(cell.value) for cell in study.run.of(effect.work) if cell.treatment[index] == level])
                         for level in (effect.level, effect.base)]
                self.assertAlmostEqual(math.log(effect.ratio.ratio), means[0] - means[1], places=9)

    def test_two_blocks_get_no_verdict(self):
        study = self.study(blocks=2)
        self.assertEqual({item.verdict for item in study.comparisons} | {effect.verdict for effect in study.effects}, {"baseline", "no verdict"})
        self.assertIn("at least 3 are needed", " ".join(words.summary(study)))
        self.assertIn("no verdict: x", table.text(study))


class RealRun(WithFolder):
    def test_the_calls_on_a_quiet_machine_through_the_whole_analysis(self):
        """The values of a real quickstart in the records of a run: 34 of 120 comparisons are called. The paired t with Holm's correction called 12."""
        values = {(row["workload"], int(row["block"]), noise.treatment(row)): float(row["value"]) for row in noise.rows("quiet")}
        run_dir = synthetic.write_run(os.path.join(self.folder, "quiet"), blocks=3, samples=0)
        path = os.path.join(run_dir, "cells.jsonl")
        with open(path) as file:
            records = [json.loads(line) for line in file]
        for record in records:
            record["metrics"][0]["value"] = values[record["workload"], record["block"], tuple(record["combo"][gear] for gear in noise.GEARS)]
        synthetic.write_lines(path, records)
        study = Study(load.load(synthetic.seal(run_dir)))
        called = [sum(item.verdict in ("faster", "slower") for item in study.comparisons if item.work == work) for work in sorted(study.run.works)]
        self.assertEqual(called, [8, 0, 11, 0, 0, 6, 8, 1])
        self.assertIn("slower: x0.15 [0.11, 0.20]", table.text(study))
        self.assertRegex(" ".join(words.summary(study)), r"Scheduler, global_queue instead of gmp: .*slower on skynet x0\.\d+ \[")


class OneAnswer(WithFolder):
    """A question that is asked in two tables has one answer."""

    def test_a_single_factor(self):
        study = self.study(factors=ONE_FACTOR, blocks=6)
        by_work = {item.work: item for item in study.comparisons if item.treatment != study.run.baseline}
        for effect in study.effects:
            if effect.work:
                self.assertEqual((effect.ratio, effect.verdict), (by_work[effect.work].ratio, by_work[effect.work].verdict))

    def test_two_treatments_are_the_paired_t(self):
        from scipy import stats as scipy_stats
        study = self.study(factors=ONE_FACTOR, blocks=10)
        for item in study.comparisons:
            if item.treatment != study.run.baseline:
                own, base = (np.log([value for _, value in sorted(study.values(item.work, one).items())]) for one in (item.treatment, study.run.baseline))
                self.assertAlmostEqual(item.ratio.p, scipy_stats.ttest_rel(own, base).pvalue, places=9)
                self.assertAlmostEqual(item.ratio.df, 9, places=9)

    def test_one_factor_at_a_time(self):
        combos = [("gmp", "size_class", "concurrent", "epoll"), ("global_queue", "size_class", "concurrent", "epoll"), ("gmp", "size_class", "stw", "epoll")]
        skip = [("global_queue", "size_class", "stw", "epoll")]
        study = self.study(skip=skip)
        self.assertEqual(sorted(study.run.treatments), sorted(combos))
        of = {(item.work, item.treatment): item for item in study.comparisons}
        for effect in study.effects:
            if effect.work:
                treatment = combos[1] if effect.factor == "scheduler" else combos[2]
                self.assertEqual(effect.ratio, of[effect.work, treatment].ratio)


    def test_a_pair_with_the_baseline_is_the_tables_comparison(self):
        study = self.study(factors=synthetic.FACTORS, workloads=("sieve",))
        for item in study.comparisons:
            if item.treatment != study.run.baseline:
                there, back = study.pair("sieve", study.run.baseline, item.treatment), study.pair("sieve", item.treatment, study.run.baseline)
                self.assertEqual((there.ratio, there.verdict), (item.ratio, item.verdict))
                self.assertAlmostEqual(back.ratio.low * item.ratio.high, 1)
                self.assertEqual(back.verdict, {"slower": "faster", "faster": "slower"}.get(item.verdict, item.verdict))

    def test_another_pair_is_a_contrast_of_the_same_model(self):
        study = self.study(factors=synthetic.FACTORS, workloads=("sieve",))
        a, b = study.run.treatments[3], study.run.treatments[11]
        item, estimate = study.pair("sieve", a, b), study.fit("sieve").estimate({b: 1.0, a: -1.0})
        from scipy import stats as scipy_stats
        half = scipy_stats.t.ppf(0.975, estimate.df) * math.sqrt(estimate.variance)
        self.assertAlmostEqual(math.log(item.ratio.low), estimate.log_ratio - half, places=9)
        self.assertAlmostEqual(math.log(item.ratio.high), estimate.log_ratio + half, places=9)


class Classes(WithFolder):
    def test_throughput_and_latency_are_never_averaged_together(self):
        study = self.study()
        self.assertEqual(study.classes, {"throughput": ["sieve", "echo"], "latency": ["gc_latency", "timers"]} if study.run.works.index("gc_latency") < study.run.works.index("timers")
                         else {"throughput": ["sieve", "echo"], "latency": ["timers", "gc_latency"]})
        for effect in study.effects:
            if not effect.work:
                own = [one.ratio.ratio for one in study.effects if one.work in study.classes[effect.metric_class] and (one.factor, one.level) == (effect.factor, effect.level)]
                self.assertAlmostEqual(math.log(effect.ratio.ratio), sum(map(math.log, own)) / 2, places=9)
        self.assertEqual(list(study.overall), ["throughput", "latency"])
        text = " ".join(words.summary(study))
        self.assertIn("Geometric mean over the 2 throughput workloads: slower", text)
        self.assertIn("Geometric mean over the 2 latency workloads", text)
        self.assertEqual({entry["class"] for entry in json.loads(jsonout.dumps(command.facts(study)))["overall"]}, {"throughput", "latency"})

    def test_a_mean_over_workloads_by_hand(self):
        study = self.study()
        treatment = ("global_queue", "size_class", "stw", "epoll")
        fits = [study.fit(work) for work in study.classes["throughput"]]
        parts = [fit.estimate({treatment: 1, study.run.baseline: -1}) for fit in fits]
        ratio = study.overall["throughput"][treatment]
        self.assertAlmostEqual(math.log(ratio.ratio), sum(part.log_ratio for part in parts) / 2, places=9)
        variance = sum(part.variance for part in parts) / 4
        half = (math.log(ratio.high) - math.log(ratio.low)) / 2
        from scipy import stats as scipy_stats
        df = variance**2 / sum((part.variance / 4)**2 / part.df for part in parts)
        self.assertAlmostEqual(half, scipy_stats.t.ppf(1 - (1 - 0.95**(1 / 3)) / 2, df) * math.sqrt(variance), places=9)

    def test_a_mean_over_fewer_workloads_is_no_mean(self):
        study = self.study(failures={("echo", "stw", None): ("oom", "killed")})
        whole = {(effect.factor, effect.metric_class): effect for effect in study.effects if not effect.work}
        self.assertIsNone(whole["collector", "throughput"].ratio)
        self.assertIsNotNone(whole["collector", "latency"].ratio)

    def test_metric_classes(self):
        for unit, better, expected in (("req/s", "higher", "throughput"), ("ns", "lower", "latency"), ("bytes", "lower", "size")):
            self.assertEqual(answers.metric_class(load.Metric("m", unit, better)), expected)


class Machine(WithFolder):
    RED = {"verdict": "red", "verdict_reasons": ["load 9.1 on 2 cores"]}

    def test_red_holds_under_load_and_ranks_nothing(self):
        study = self.study(machine=self.RED)
        text = " ".join(words.summary(study))
        self.assertIn("The machine was red (load 9.1 on 2 cores)", text)
        self.assertIn("No combination is called the fastest: the machine was red", text)
        rows = [line for line in table.text(study).splitlines() if re.search(r": x\d", line)]
        self.assertGreater(len(rows), 10)
        for line in rows:
            self.assertIn(" under load: x", line)
        self.assertIn("slower under load: x", report.render(study))
        self.assertNotIn("Fastest", text)

    def test_amber_ranks(self):
        text = " ".join(words.summary(self.study(factors=ONE_FACTOR, workloads=("echo", "sieve"), truth=synthetic.Truth(effects={("scheduler", "global_queue"): {"*": 0.2}}))))
        self.assertNotIn("red", text)
        self.assertIn("faster on", text)

    def test_runs_on_machines_of_another_colour_are_not_compared(self):
        a, b, c = self.study("a", factors=ONE_FACTOR), self.study("b", factors=ONE_FACTOR, machine=self.RED), self.study("c", factors=ONE_FACTOR, machine=self.RED)
        self.assertEqual({row.verdict for row in compare.compare(a, b).rows}, {"no verdict: the machine was amber in A and red in B"})
        self.assertIn("no verdict is given: the machine was amber in A and red in B", compare.text(a, b))
        self.assertEqual({stats.word(row.verdict) for row in compare.compare(b, c).rows} - {"undecided", "equivalent", "faster", "slower"}, set())

    def drifting(self, factor, **how):
        return self.study(truth=synthetic.Truth(effects={("scheduler", "global_queue"): {"*": 0.5}}, interactions={}, noise=0.01, seq_drift=math.log(factor)), blocks=6, **how)

    def test_a_large_drift_forbids_ranking_and_absolute_values(self):
        study = self.drifting(1.6)
        self.assertAlmostEqual(study.drift.factor, 1.6, delta=0.06)
        text = " ".join(words.summary(study))
        self.assertRegex(text, r"The machine drifted by x1\.[56]")
        self.assertIn("No combination is called the fastest: the machine drifted", text)
        self.assertIn("faster on", text)  # verdicts stand
        rows = [line for line in table.text(study).splitlines() if "faster: x" in line]
        self.assertTrue(rows)
        for line in rows:
            self.assertRegex(line, r" 6 +-  ")
        self.assertIn("drifted too far", plots.draw_one(study, plots.PLOTS["throughput"]).sentence)

    def test_a_small_drift_is_printed_and_ranks(self):
        study = self.drifting(1.3, workloads=("sieve", "echo"))
        text = " ".join(words.summary(study))
        self.assertIn("The machine drifted by x1.", text)
        self.assertIn("Fastest overall: global_queue", text)
        self.assertRegex(table.text(study), r"global_queue +6 +\d")

    def test_no_drift_is_not_mentioned(self):
        self.assertNotIn("drifted", " ".join(words.summary(self.study())))


class Sentences(WithFolder):
    def ratio(self, value, low, high, seen=None):
        return stats.Ratio(value, low, high, 0.01, 5, 4, "", seen)

    def test_the_words_of_a_verdict(self):
        study = self.study(factors=ONE_FACTOR)
        study.rope_pct = 5.0
        for ratio, expected in ((self.ratio(0.64, 0.52, 0.79), "slower: x0.64 [0.52, 0.79]"), (self.ratio(1.0, 0.98, 1.03), "equivalent within x/÷1.05"),
                                (self.ratio(1.07, 0.87, 1.31, 1.4), "undecided: between x0.87 and x1.31; this run would have seen x1.40"),
                                (self.ratio(0.149, 0.108, 0.204), "slower: x0.15 [0.11, 0.20]"), (self.ratio(35.2, 12.01, 103.4), "faster: x35.2 [12.0, 103]"),
                                (self.ratio(1.083, 1.061, 1.105), "faster: x1.083 [1.061, 1.105]"), (self.ratio(0.0123, 0.0101, 0.0151), "slower: x0.012 [0.010, 0.015]"),
                                (self.ratio(0.85, 0.72, 0.9971), "slower: x0.850 [0.720, 0.997]"), (self.ratio(1.2, 1.0002, 1.44), "faster: x1.2000 [1.0002, 1.4400]")):
            self.assertEqual(words.answer(study, ratio, stats.verdict(ratio, rope_pct=5)), expected)

    def test_factors_and_no_percentages(self):
        text = " ".join(words.summary(self.study()) + [words.answer(self.study("b"), item.ratio, item.verdict) for item in self.study("c").comparisons])
        self.assertIn("x0.", text)
        self.assertNotRegex(text, r"\d ?%|times (faster|slower)")

    def test_the_error_rate_comes_first(self):
        summary = words.summary(self.study())
        self.assertIn("at most 5 in 100 such families hold a false call; over 4 workloads expect at most 0.2", summary[1])
        self.assertIn("at most 5 in 100 such families", table.text(self.study("b")).replace("\n  ", " ").replace("\n", " "))

    def test_a_sweep_ends_with_the_question_and_the_answer_on_one_screen(self):
        text = table.answer_text(self.study(), 100)
        lines = text.splitlines()
        self.assertTrue(lines[2].startswith("Question: "))
        self.assertLess(len(lines), 50)
        self.assertLessEqual(max(map(len, lines)), 100)
        first = next(line for line in lines if line.startswith("* "))
        self.assertRegex(first, r"^\* Scheduler, global_queue instead of gmp: ")  # not how much was measured
        self.assertLess(text.index("Scheduler"), text.index("planned invocations"))

    def test_no_winner_whose_interval_holds_one(self):
        quiet = synthetic.Truth(effects={}, interactions={}, noise=0.05)
        text = " ".join(words.summary(self.study(truth=quiet, workloads=("sieve", "echo"))))
        self.assertNotIn("Fastest overall", text)
        self.assertRegex(text, "may be no better than the baseline|No combination has a better geometric mean")

    def test_a_winner_has_its_range(self):
        truth = synthetic.Truth(effects={("scheduler", "global_queue"): {"sieve": 0.4, "echo": 0.1}}, interactions={}, noise=0.01)
        text = " ".join(words.summary(self.study(truth=truth, workloads=("sieve", "echo"))))
        self.assertRegex(text, r"Fastest overall: global_queue.*, x1\.\d+ \[.*\] of the baseline, single workloads from x1\.1\d* to x1\.[45]\d*, on these 2 workloads")


class SelfTestVerb(unittest.TestCase):
    def test_the_table_is_printed_and_its_failure_is_the_exit_code(self):
        import contextlib
        import io
        from unittest import mock
        from analysis import selftest
        rows = [selftest.Row("a check", 3.25, "<= 6.5 %", True), selftest.Row("another", 9.0, "<= 6.5 %", False)]
        for found, code in ((rows[:1], 0), (rows, 1)):
            out = io.StringIO()
            with mock.patch.object(selftest, "rows", lambda: iter(found)), contextlib.redirect_stdout(out):
                self.assertEqual(command.main(["selftest"]), code)
            self.assertIn("a check", out.getvalue())
            self.assertIn("3.25 %", out.getvalue())
            with mock.patch.object(selftest, "rows", lambda: iter(found)), contextlib.redirect_stdout(io.StringIO()) as out:
                self.assertEqual(command.main(["selftest", "--json"]), code)
            self.assertEqual(json.loads(out.getvalue())["rows"][0]["measured"], 3.25)


if __name__ == "__main__":
    unittest.main()
