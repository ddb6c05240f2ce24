"""A run's factors are whatever its experiment varies: procs, parameters and options as well as gears, and each is compared like any other."""
import json
import math
import os
import tempfile
import unittest

from . import synthetic
from analysis import __main__ as command
from analysis import check, compare, design, load, plots, report, table, treatments, words
from analysis.study import Study

SMALL = {**synthetic.FACTORS, "allocator": ["size_class"], "poller": ["epoll"], "collector": ["concurrent"]}
MORE = {"procs": ["2", "4"], "param.depth": ["12", "14"], "scheduler.runnext": ["on", "off"], "runtime.sysmon": ["on", "off"]}
HAVE = {"depth": ("binary_trees",)}
TRUTH = synthetic.Truth(effects={("procs", "4"): {"*": 0.4}, ("scheduler", "global_queue"): {"*": -0.2}, ("param.depth", "14"): {"*": -1.0},
                                 ("runtime.sysmon", "off"): {"*": 0.1}, ("scheduler.runnext", "off"): {"*": -0.3}},
                        interactions={(("procs", "4"), ("scheduler", "global_queue")): {"*": -0.25}}, noise=0.01)


class WithFolder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def run_dir(self, name="run", truth=TRUTH, **how):
        how = {"workloads": ("binary_trees", "sieve"), "factors": SMALL, "blocks": 6, "samples": 0, "more": MORE, "of": HAVE, **how}
        return synthetic.write_run(os.path.join(self.folder, name), truth, **how)

    def study(self, name="run", truth=TRUTH, **how):
        return Study(load.load(self.run_dir(name, truth, **how)))


class Effects(WithFolder):
    def effect(self, study, factor, work):
        return next(effect for effect in study.effects if (effect.factor, effect.work) == (factor, work))

    def test_each_factor_has_the_effect_that_was_put_in(self):
        study = self.study()
        self.assertEqual(study.run.works, ["binary_trees", "sieve"])  # no label holds a factor
        for work in study.run.works:
            for factor, truth, verdict in (("scheduler.runnext", -0.3, "slower"), ("runtime.sysmon", 0.1, "faster")):
                effect = self.effect(study, factor, work)
                self.assertAlmostEqual(math.log(effect.ratio.ratio), truth, delta=0.02)
                self.assertEqual(effect.verdict, verdict)
            # averaged over the two schedulers, one of which has an interaction with procs; gmp runs with both levels of its option
            self.assertAlmostEqual(math.log(self.effect(study, "procs", work).ratio.ratio), 0.4 - 0.25 / 3, delta=0.02)
            self.assertAlmostEqual(math.log(self.effect(study, "scheduler", work).ratio.ratio), -0.2 - 0.25 / 2, delta=0.02)
        self.assertAlmostEqual(math.log(self.effect(study, "param.depth", "binary_trees").ratio.ratio), -1.0, delta=0.02)

    def test_a_factor_is_silent_where_it_says_nothing(self):
        study = self.study()
        self.assertFalse([effect for effect in study.effects if (effect.factor, effect.work) == ("param.depth", "sieve")])
        factors = study.run.factors
        self.assertEqual({treatment[factors.names.index("param.depth")] for treatment in factors.planned["sieve"]}, {None})
        runnext, scheduler = (factors.names.index(name) for name in ("scheduler.runnext", "scheduler"))
        self.assertEqual({(treatment[scheduler], treatment[runnext]) for treatment in study.run.treatments}, {("gmp", "on"), ("gmp", "off"), ("global_queue", None)})
        # (2 x gmp + global_queue) x procs x sysmon, and depth on binary_trees
        self.assertEqual([len(factors.planned[work]) for work in study.run.works], [24, 12])
        self.assertEqual([len(ratios) for ratios in study.overall.values()], [12])  # those that can be asked of both

    def test_interactions_of_procs(self):
        study = self.study()
        clear = [item for item in study.interactions if item.work and item.significant]
        self.assertEqual({(item.factors, item.work) for item in clear}, {(("scheduler", "procs"), "binary_trees"), (("scheduler", "procs"), "sieve")})
        for item in clear:
            self.assertAlmostEqual(math.log(item.ratio.ratio), -0.25, delta=0.03)
        self.assertIn("global_queue with procs=4 on", " ".join(words.summary(study)))
        self.assertIn("Procs, 4 instead of 2", " ".join(words.summary(study)))

    def test_every_output_is_made(self):
        study = self.study(workloads=("binary_trees", "echo"), blocks=3, samples=200, failures={("echo", "global_queue", 1): ("timeout", "no answer")})
        text = table.text(study)
        self.assertLessEqual(max(map(len, text.splitlines())), table.WIDTH)
        self.assertIn("procs=4 + depth=14", text)
        self.assertIn("What each factor does", report.render(study))
        self.assertIn("scheduler.runnext", command.analysis_text(study))
        for plot in plots.PLOTS.values():
            self.assertTrue(plots.note(study, plot)["drawn"], plot.name)

    def test_single_levels_compare_nothing(self):
        lonely = {gear: levels[:1] for gear, levels in synthetic.FACTORS.items()}
        study = self.study(factors=lonely, more={"procs": ["2"], "param.depth": ["12"]}, blocks=2)
        self.assertEqual((study.effects, study.interactions, len(study.run.treatments)), ([], [], 2))
        self.assertIn("Every factor was run at a single level", " ".join(words.summary(study)))
        report.render(study)

    def test_two_labels_run_one_cell_against_itself(self):
        lonely = {gear: levels[:1] for gear, levels in synthetic.FACTORS.items()}
        study = self.study(factors=lonely, more={"label": ["A", "B"]}, blocks=6, truth=synthetic.Truth(effects={}, interactions={}))
        self.assertEqual([len(study.samples("sieve", treatment)) for treatment in study.run.treatments], [6, 6])
        self.assertEqual([study.run.short(treatment) for treatment in study.run.treatments], ["baseline", "label=B"])


class Partners(unittest.TestCase):
    def factors(self, planned):
        levels = {"scheduler": ["a", "b"], "scheduler.x": ["1", "2"], "scheduler.y": ["on", "off"], "procs": ["2", "4"]}
        return treatments.Factors(levels, ("a", "1", "on", "2"), {"w": {treatment: 1 for treatment in planned}})

    def test_no_cell_is_the_partner_of_two(self):
        """a has the option x, b has y: where the gear is exchanged, both are as the new gear has them, from the baseline's."""
        factors = self.factors([("a", "1", None, "2"), ("a", "2", None, "2"), ("b", None, "on", "2"), ("b", None, "off", "2"), ("b", None, "on", "4")])
        self.assertEqual(factors.partner("w", ("b", None, "on", "2"), {"scheduler": "a"}), ("a", "1", None, "2"))
        self.assertIsNone(factors.partner("w", ("b", None, "off", "2"), {"scheduler": "a"}))
        self.assertIsNone(factors.partner("w", ("b", None, "on", "4"), {"scheduler": "a"}))
        self.assertEqual(factors.partner("w", ("b", None, "on", "4"), {"procs": "2"}), ("b", None, "on", "2"))

    def test_an_option_of_both_gears_stays_as_it_is(self):
        factors = self.factors([(gear, x, None, "2") for gear in "ab" for x in "12"])
        self.assertEqual(factors.partner("w", ("b", "2", None, "2"), {"scheduler": "a"}), ("a", "2", None, "2"))

    def test_names_that_two_factors_share_are_whole(self):
        levels = {"scheduler": ["a"], "procs": ["1", "2"], "param.procs": ["7", "8"], "param.depth": ["1", "2"]}
        factors = treatments.Factors(levels, ("a", "1", "7", "1"), {})
        self.assertEqual(factors.short(("a", "2", "8", "2")), "procs=2 + param.procs=8 + depth=2")


class Replicates(WithFolder):
    def test_the_baseline_counts_each_time_and_pairs_once(self):
        study = self.study(more={"procs": ["1", "2", "4", "8"]}, workloads=("sieve",))
        self.assertEqual(study.run.factors.planned["sieve"][study.run.baseline], 6 * design.baseline_runs(8))
        self.assertEqual(design.baseline_runs(8), 3)
        base = next(item for item in study.comparisons if item.treatment == study.run.baseline)
        self.assertEqual((base.ok, base.centre.n), (18, 18))
        by_block = {}
        for block, value in study.samples("sieve", study.run.baseline):
            by_block.setdefault(block, []).append(value)
        self.assertEqual({len(values) for values in by_block.values()}, {3})
        for block, values in by_block.items():
            self.assertAlmostEqual(study.values("sieve", study.run.baseline)[block], math.exp(sum(map(math.log, values)) / 3))
        other = next(item for item in study.comparisons if item.treatment != study.run.baseline)
        self.assertEqual((other.ok, other.ratio.n), (6, 6))

    def test_the_rule(self):
        self.assertEqual([design.baseline_runs(k) for k in (1, 2, 5, 6, 7, 8, 11, 16, 100)], [1, 1, 1, 2, 2, 3, 3, 3, 3])

    def test_two_records_of_one_cell_block_and_replicate_are_an_error_that_names_both(self):
        run_dir = self.run_dir(more={"procs": ["1", "2", "4", "8"]}, workloads=("sieve",), blocks=1)
        path = os.path.join(run_dir, "cells.jsonl")
        with open(path) as file:
            text = file.read()
        with open(path, "w") as file:
            file.write(text + text.splitlines()[4].replace('"attempt": 1', '"attempt": 2') + "\n")
        synthetic.seal(run_dir)
        with self.assertRaisesRegex(load.BadInput, r"cells\.jsonl:11: seq 4 .* has an accepted record already, in line 5"):
            check.run(run_dir)


class Budget(WithFolder):
    def test_blocks_that_the_budget_left_out_are_no_part_of_the_run(self):
        for budget, blocks in (((20.0, 6.0), 3), ((20.0, 5.0), 4), ((2.0, 5.0), 3), ((900.0, 5.0), 6)):
            study = self.study(f"{budget}", budget=budget, more={"procs": ["2", "4"]}, workloads=("sieve",))
            run = study.run
            self.assertEqual((run.blocks, run.not_run, len(run.plan)), (list(range(blocks)), 0, 4 * blocks))
            self.assertTrue(any(f"gave {blocks} blocks" in note for note in run.notes), run.notes)

    def test_while_the_first_block_runs_no_other_is_part_of_the_run(self):
        run_dir = self.run_dir(budget=(20.0, 6.0), more={"procs": ["2", "4"]}, workloads=("sieve",))
        path = os.path.join(run_dir, "manifest.json")
        with open(path) as file:
            manifest = json.load(file)
        del manifest["budget"]
        synthetic.write_json(path, {**manifest, "blocks": 6})
        cells = os.path.join(run_dir, "cells.jsonl")
        with open(cells) as file:
            lines = file.readlines()
        for count, not_run in ((4, 0), (3, 1)):
            with open(cells, "w") as file:
                file.writelines(lines[:count])
            run = load.load(synthetic.seal(run_dir, ended=False))
            self.assertEqual((run.blocks, len(run.plan), run.not_run), ([0], 4, not_run))
            self.assertTrue(any("has not fixed how many blocks follow" in note for note in run.notes), run.notes)
        with open(cells, "w") as file:
            file.writelines(lines[:5])
        synthetic.seal(run_dir, ended=False)
        with self.assertRaisesRegex(load.BadInput, r"cells\.jsonl:5: field 'seq' is 4; it should be the seq of a planned cell, 0 to 3"):
            load.load(run_dir)

    def test_a_cap_below_three_blocks_holds(self):
        self.assertEqual(self.study(budget=(9.0, 1.0), blocks=2, more={}).run.blocks, [0, 1])


class BothSchemas(WithFolder):
    def test_a_run_of_each_is_compared_cell_by_cell(self):
        """What is a factor in one run is part of the work item in the other: cells are matched by what they were set to."""
        old = self.study("old", more=None, procs=(2, 4), params=({"rounds": 5},))
        new = self.study("new", more={"procs": ["2", "4"]}, params=({"rounds": 5},))
        self.assertEqual(old.run.works, ["binary_trees procs=2", "binary_trees procs=4", "sieve procs=2", "sieve procs=4"])
        result = compare.compare(old, new)
        self.assertEqual((len(result.rows), result.only_a, result.only_b), (8, [], []))
        self.assertEqual({(row.work, row.work_b) for row in result.rows}, {(f"{work} procs={procs}", work) for work in ("binary_trees", "sieve") for procs in (2, 4)})

    def test_gears_alone_say_the_same_in_both(self):
        texts = []
        for name, more in (("old", None), ("new", {})):
            study = self.study(name, more=more, factors={**SMALL, "collector": ["concurrent", "stw"]}, workloads=("sieve",), seed=3)
            texts.append((table.text(study).split("baseline:")[1].split("sieve:")[0], [effect.factor for effect in study.effects], len(study.interactions)))
        self.assertEqual(texts[0], texts[1])


if __name__ == "__main__":
    unittest.main()
