"""What is one thing: cells that differ in anything are never one, in no table, figure or comparison, and labels stay short."""
import csv
import json
import math
import os
import tempfile
import unittest

from . import synthetic
from analysis import __main__ as command
from analysis import compare, load, plots, report, table, words
from analysis.study import Study

SMALL = {**synthetic.FACTORS, "allocator": ["size_class"], "collector": ["concurrent"], "poller": ["epoll"]}
FLAT = {"effects": {}, "interactions": {}, "noise": 0.001}
TWO_SETS = ({"rounds": 200}, {"rounds": 2000})


class WithFolder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def run_dir(self, name="run", truth=None, **how):
        how = {"workloads": ("ping_pong",), "factors": SMALL, "blocks": 4, "samples": 0, **how}
        return synthetic.write_run(os.path.join(self.folder, name), truth or synthetic.Truth(**FLAT), **how)

    def study(self, name="run", truth=None, **how):
        return Study(load.load(self.run_dir(name, truth, **how)))

    def rewrite(self, run_dir, name, change):
        """Applies change to each line and seals the run again: a run that was written like that."""
        path = os.path.join(run_dir, name)
        with open(path) as file:
            lines = [change(json.loads(line)) for line in file]
        synthetic.write_lines(path, lines)
        synthetic.seal(run_dir)


class ParameterSets(WithFolder):
    """One workload with two sets of parameters, one of them the default."""

    def study(self, **how):
        truth = synthetic.Truth(**{**FLAT, "effects": {("scheduler", "global_queue"): {"*": -0.3}}}, by_param={(("rounds", 2000),): math.log(10)})
        return super().study(truth=truth, params=TWO_SETS, **how)

    def test_verdicts_compare_equal_programs(self):
        study = self.study()
        self.assertEqual(study.run.works, ["ping_pong rounds=200", "ping_pong rounds=2000"])
        for item in study.comparisons:
            if item.treatment != study.run.baseline:
                self.assertEqual((item.ok, round(item.ratio.ratio, 2), item.verdict), (4, 0.74, "slower"), item)
        for effect in study.effects:
            self.assertAlmostEqual(effect.ratio.ratio, math.exp(-0.3), delta=0.01)
        for work in study.run.works:
            self.assertEqual([len(study.values(work, treatment)) for treatment in study.run.treatments], [4, 4])

    def test_every_output_names_both(self):
        study = self.study()
        for text in (table.text(study), " ".join(words.summary(study)), report.render(study), command.analysis_text(study)):
            for work in study.run.works:
                self.assertIn(work, text)
        facts = command.facts(study)
        self.assertEqual({name: entry["params"] for name, entry in facts["works"].items()},
                         {"ping_pong rounds=200": {"rounds": "200"}, "ping_pong rounds=2000": {"rounds": "2000"}})
        for plot in ("throughput", "memory", "sequence", "gears"):
            plots.draw_one(study, plots.PLOTS[plot])
            with open(os.path.join(study.run.path, "figures", plot + ".csv")) as file:
                self.assertLessEqual(set(study.run.works), {row["workload"] for row in csv.DictReader(file)}, plot)

    def test_a_run_against_itself_is_equal_everywhere(self):
        study = self.study()
        result = compare.compare(study, study)
        self.assertEqual(len(result.rows), 4)
        for row in result.rows:
            self.assertEqual((row.work, row.speed_ratio.ratio), (row.work_b, 1.0))


class OtherDimensions(WithFolder):
    def test_procs_are_apart(self):
        study = self.study(procs=(1, 2))
        self.assertEqual(study.run.works, ["ping_pong procs=1", "ping_pong procs=2"])

    def test_what_does_not_vary_is_not_in_the_label(self):
        study = self.study(params=({"rounds": 10, "depth": 3}, {"rounds": 20, "depth": 3}))
        self.assertEqual(study.run.works, ["ping_pong rounds=10", "ping_pong rounds=20"])

    def test_a_parameter_that_only_one_set_has(self):
        study = self.study(params=({"rounds": 10}, {"rounds": 10, "depth": 3}))
        self.assertEqual(study.run.works, ["ping_pong", "ping_pong depth=3"])

    def test_a_parameter_that_is_called_procs(self):
        study = self.study(params=({"procs": 7}, {"procs": 8}), procs=(1, 2))
        self.assertEqual(sorted(study.run.works), ["ping_pong params.procs=7 procs=1", "ping_pong params.procs=7 procs=2",
                                                   "ping_pong params.procs=8 procs=1", "ping_pong params.procs=8 procs=2"])

    def test_levels_of_two_gears_with_one_name(self):
        study = self.study(factors={**SMALL, "collector": ["concurrent", "none"], "poller": ["epoll", "none"]})
        names = [study.run.short(treatment) for treatment in study.run.treatments]
        self.assertEqual(len(set(names)), len(names), names)
        self.assertIn("collector none", names)

    def test_two_builds_in_one_run_are_apart(self):
        run_dir = self.run_dir()
        self.rewrite(run_dir, "cells.jsonl", lambda record: record if record["seq"] < 4 else {**record, "build": "fedcba9876543210"})
        path = os.path.join(run_dir, "manifest.json")
        with open(path) as file:
            manifest = json.load(file)
        synthetic.write_json(path, {**manifest, "resumed_with": [{"build_id": "fedcba9876543210", "host": synthetic.HOST, "records_before": 4}]})
        study = Study(load.load(synthetic.seal(run_dir)))
        self.assertEqual(study.run.works, ["ping_pong build=0123456789abcdef", "ping_pong build=fedcba9876543210"])
        self.assertEqual([len(study.values(work, study.run.baseline)) for work in study.run.works], [2, 2])
        self.assertTrue(any("several builds" in note for note in study.run.notes), study.run.notes)
        with self.assertRaisesRegex(load.BadInput, "several builds"):
            compare.compare(study, study)


class TwoRuns(WithFolder):
    def test_a_default_that_changed_makes_another_cell(self):
        a = self.study("a")
        b = self.study("b", options={**synthetic.OPTIONS, "gmp": {"runnext": "off", "steal": "half"}})
        result = compare.compare(a, b)
        self.assertEqual([row.treatment[0] for row in result.rows], ["global_queue"])
        self.assertIn("scheduler gmp option runnext: on -> off", result.differences)
        self.assertEqual((len(result.only_a), len(result.only_b)), (1, 1))

    def test_one_program_under_two_names_is_one_cell(self):
        """Run B names the level by what is run A's default."""
        a = self.study("a")
        b = self.study("b", factors={**SMALL, "scheduler": ["gmp:runnext=on", "global_queue"]}, options={**synthetic.OPTIONS, "gmp": {"runnext": "off", "steal": "half"}})
        self.assertEqual([(row.treatment[0], row.n_b) for row in compare.compare(a, b).rows], [("gmp", 4), ("global_queue", 4)])

    def test_an_option_that_one_build_lacks_is_a_difference_and_no_other_cell(self):
        a = self.study("a")
        b = self.study("b", options={**synthetic.OPTIONS, "gmp": {**synthetic.OPTIONS["gmp"], "spin": "off"}})
        result = compare.compare(a, b)
        self.assertEqual(len(result.rows), 2)
        self.assertIn("scheduler gmp option spin: not there -> off", result.differences)

    def test_where_it_varies_it_counts(self):
        a = self.study("a")
        options = {**synthetic.OPTIONS, "gmp": {**synthetic.OPTIONS["gmp"], "spin": "off"}}
        b = self.study("b", options=options, factors={**SMALL, "scheduler": ["gmp", "gmp:spin=on", "global_queue"]})
        self.assertEqual([row.treatment[0] for row in compare.compare(a, b).rows], ["global_queue"])


class TwoRecords(WithFolder):
    def records(self, change, ended=True):
        run_dir = self.run_dir()
        path = os.path.join(run_dir, "cells.jsonl")
        with open(path) as file:
            records = [json.loads(line) for line in file]
        synthetic.write_lines(path, change(records))
        return synthetic.seal(run_dir, ended)

    def test_two_accepted_records_of_a_cell_and_block_are_an_error_that_names_both(self):
        for status in ("ok", "timeout"):
            def twice(records):
                first = records[2] if status == "ok" else synthetic.fail(records[2], status, "no answer")
                return records[:2] + [first] + records[3:] + [{**records[2], "attempt": 2}]
            with self.assertRaisesRegex(load.BadInput, r"cells\.jsonl:9: seq 2 .* has an accepted record already, in line 3"):
                load.load(self.records(twice))

    def test_repeated_attempts_are_kept_aside_and_counted(self):
        def repeated(records):
            failed = [{**synthetic.fail(records[2], "infra", "no folder"), "attempt": attempt} for attempt in (1, 2)]
            return records[:2] + failed[:1] + records[3:] + failed[1:] + [{**records[2], "attempt": 3}]
        run = load.load(self.records(repeated))
        self.assertEqual((run.aside, run.failures, len(run.cells)), (2, [], 8))
        self.assertEqual(next(cell for cell in run.cells if cell.seq == 2).attempts, 3)
        self.assertTrue(any("2 attempts" in note and "kept aside" in note for note in run.notes), run.notes)

    def test_a_cell_that_a_block_holds_twice(self):
        run_dir = self.run_dir()
        with open(os.path.join(run_dir, "plan.jsonl")) as file:
            plan = [json.loads(line) for line in file]
        twice = {**plan[0], "seq": 1}
        for name in ("plan.jsonl", "cells.jsonl"):
            self.rewrite(run_dir, name, lambda line: {**line, **twice} if line["seq"] == 1 else line)
        with self.assertRaisesRegex(load.BadInput, r"plan\.jsonl:2: block 0 holds the cell .* twice, here and in line 1"):
            load.load(run_dir)


if __name__ == "__main__":
    unittest.main()
