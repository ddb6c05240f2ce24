"""What failed decides nothing and is said; what differs between two runs is said; a report tells how to make its run again."""
import json
import os
import tempfile
import unittest

from . import synthetic
from analysis import compare, load, report, stats, table, words
from analysis.study import Study

SMALL = {**synthetic.FACTORS, "allocator": ["size_class"], "collector": ["concurrent"]}
FASTER = synthetic.Truth(effects={("poller", "io_uring"): {"*": 0.12}}, interactions={}, noise=0.005)


class WithFolder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def run_dir(self, name="run", **how):
        how = {"factors": SMALL, "workloads": ("echo", "sieve"), "blocks": 6, "samples": 0, **how}
        return synthetic.write_run(os.path.join(self.folder, name), how.pop("truth", FASTER), **how)

    def study(self, name="run", **how):
        return Study(load.load(self.run_dir(name, **how)))

    def change(self, run_dir, change):
        path = os.path.join(run_dir, "manifest.json")
        with open(path) as file:
            manifest = json.load(file)
        change(manifest)
        synthetic.write_json(path, manifest)
        synthetic.seal(run_dir)


class Crashes(WithFolder):
    def crashing(self, status="signal"):
        return self.study(failures={("echo", "io_uring", block): (status, "died of SIGSEGV") for block in range(5)})

    def test_a_gear_that_crashed_in_five_of_six_blocks_is_not_faster(self):
        study = self.crashing()
        effects = {effect.work: effect for effect in study.effects if effect.factor == "poller"}
        self.assertEqual(effects["echo"].verdict, "unreliable: 10 of 24 failed")
        self.assertEqual(effects["sieve"].verdict, "faster")
        self.assertEqual(effects[None].verdict, "unreliable: 10 of 48 failed")
        text = " ".join(words.summary(study))
        self.assertIn("unreliable on echo (10 of 24 invocations failed)", text)
        self.assertIn("Geometric mean over workloads: unreliable: 10 of 48 failed.", text)
        item = next(item for item in study.comparisons if (item.work, item.treatment[3], item.treatment[0]) == ("echo", "io_uring", "gmp"))
        self.assertEqual(item.verdict, "unreliable: 5 of 6 failed")
        self.assertIn("unreliable: 5/6", table.text(study))

    def test_whoever_crashed_is_not_the_fastest(self):
        text = " ".join(words.summary(self.crashing()))
        self.assertNotIn("Fastest overall", text)
        self.assertIn("2 combinations with failed invocations cannot be it", text)
        whole = " ".join(words.summary(self.study("whole")))
        self.assertIn("among 4 combinations with a value from every invocation", whole)
        self.assertIn("Fastest overall: io_uring, x1.13 [", whole)

    def test_no_winner_over_a_baseline_that_failed(self):
        study = self.study(failures={("echo", "epoll", 0): ("timeout", "no answer")})
        self.assertIn("No combination is called the fastest: the baseline, with which they would be compared, failed in 1 of 12", " ".join(words.summary(study)))
        item = next(item for item in study.comparisons if (item.work, item.treatment[3], item.treatment[0]) == ("echo", "io_uring", "gmp"))
        self.assertEqual(item.verdict, "unreliable: the baseline, 1 of 6 failed")

    def test_no_interaction_is_claimed_over_failures(self):
        study = self.study(factors={**SMALL, "collector": ["concurrent", "stw"]}, workloads=("kv_server",), truth=synthetic.Truth(),
                           failures={("kv_server", "stw", 0): ("oom", "killed")})
        self.assertFalse([item for item in study.interactions if item.significant and "collector" in item.factors])

    def test_a_refused_gear_spoils_nobody_elses_verdict(self):
        truth = synthetic.Truth(effects={("scheduler", "global_queue"): {"*": -0.3}}, interactions={}, noise=0.005)
        study = self.study(truth=truth, failures={(None, "io_uring", None): ("unsupported", "io_uring_setup: EPERM")})
        verdicts = {(effect.factor, effect.work): effect.verdict for effect in study.effects}
        self.assertEqual(verdicts[("scheduler", "echo")], "slower")
        self.assertEqual({item.verdict for item in study.comparisons if item.treatment[3] == "io_uring"}, {"unsupported"})
        self.assertIn("did not begin: the kernel refuses a gear", " ".join(words.summary(study)))

    def test_compare_says_that_cells_failed(self):
        result = compare.compare(self.study("a"), self.study("b", failures={("echo", "io_uring", 0): ("signal", "died of SIGSEGV")}))
        verdicts = {row.verdict for row in result.rows if row.work == "echo" and row.treatment[3] == "io_uring"}
        self.assertEqual(verdicts, {"unreliable: 1 of 6 failed in B"})

    def test_the_word_of_a_verdict(self):
        self.assertEqual(stats.word(stats.unreliable(5, 6)), "unreliable")
        self.assertEqual(stats.word("faster"), "faster")


class HiddenDimensions(WithFolder):
    def test_cells_that_ask_for_something_else_are_not_matched(self):
        a = self.study("a")
        for how, said in (({"params": ({"rounds": 7},)}, "workload echo parameter rounds: 100000 -> 7"), ({"procs": (4,)}, "procs of echo: 2 -> 4"),
                          ({"runtime": "sysmon=off"}, "runtime option sysmon: on -> off")):
            b = self.study("b", **how)
            result = compare.compare(a, b)
            self.assertEqual(result.rows, [])
            self.assertIn(said, result.differences)
            self.assertEqual((len(result.only_a), len(result.only_b)), (8, 8))
            self.assertIn("no cell in common", compare.text(a, b))

    def test_limits_are_listed(self):
        one, other = self.run_dir("a"), self.run_dir("b")
        self.change(one, lambda manifest: manifest.update(limits={"timeout_s": 60, "mem_limit_mb": 0}))
        self.change(other, lambda manifest: manifest.update(limits={"timeout_s": 5, "mem_limit_mb": 0}))
        found = compare.compare(Study(load.load(one)), Study(load.load(other))).differences
        self.assertIn("limits timeout_s: 60 -> 5", found)


class Headlines(WithFolder):
    def test_throughput_stands_below_another_headline(self):
        run_dir = self.run_dir(workloads=("gc_latency",))
        path = os.path.join(run_dir, "cells.jsonl")
        with open(path) as file:
            records = [json.loads(line) for line in file]
        for record in records:
            record["metrics"].append({"name": "throughput", "unit": "pushes/s", "better": "higher", "value": 1000.0 + record["seq"]})
        synthetic.write_lines(path, records)
        study = Study(load.load(synthetic.seal(run_dir)))
        self.assertEqual(study.run.metrics["gc_latency"].better, "lower")
        self.assertIn("and its throughput (pushes/s), higher is better", table.text(study))
        self.assertEqual({item.metric for item in study.second_comparisons}, {"throughput"})
        self.assertEqual([group["second"] for group in report.combination_rows(study)], [False, True])

    def test_the_memory_of_the_harness_is_no_cells_memory(self):
        record = {"status": "ok", "metrics": [], "rusage": {"max_rss_bytes": 10**9}}
        self.assertIsNone(load.metric_value(record, "peak_rss"))


class Reproduce(WithFolder):
    def lines(self, change, diff=False):
        run_dir = self.run_dir(samples=0)
        self.change(run_dir, change)
        path = os.path.join(run_dir, "dirty.diff")
        if diff:
            with open(path, "w") as file:
                file.write("diff")
        elif os.path.exists(path):
            os.remove(path)
        return report.reproduce(Study(load.load(run_dir)))

    def test_overrides_are_part_of_the_command(self):
        lines = self.lines(lambda manifest: manifest.update(overrides={"blocks": 2, "seed": 5, "only": "workload=echo & poller=epoll", "out": "/tmp/x y"}))
        self.assertEqual(lines[0], "git checkout 0123456789abcdef0123456789abcdef01234567")
        self.assertEqual(lines[1], "./gearbox sweep '/tmp/x y/synthetic/20261123-221530-7f3a/experiment.toml' --blocks 2 --seed 5 "
                                   "--only 'workload=echo & poller=epoll' --out '/tmp/x y'")

    def test_a_dirty_tree_is_no_plain_checkout(self):
        def dirty(manifest):
            manifest["build"]["git_dirty"] = True
        lines = self.lines(dirty, diff=True)
        self.assertTrue(any(line.startswith("git apply ") and line.endswith("dirty.diff") for line in lines), lines)
        lines = self.lines(dirty)
        self.assertFalse(any(line.startswith("git ") for line in lines), lines)
        self.assertIn("the difference was not kept", lines[0])

    def test_unknown_sources_and_another_preset(self):
        def unknown(manifest):
            manifest["build"].update(git_commit=None, git_dirty=None, preset="checked")
        lines = self.lines(unknown)
        self.assertIn("not known", lines[0])
        self.assertTrue(lines[1].startswith("GEARBOX_PRESET=checked ./gearbox sweep"), lines)


class Options(WithFolder):
    def test_every_verb_names_the_nearest_option(self):
        import contextlib
        import io
        from analysis import __main__ as command
        for verb in command.VERBS:
            err = io.StringIO()
            with contextlib.redirect_stderr(err), self.assertRaises(SystemExit) as stop:
                command.main([verb, *["x", "y"][:command.RUNS.get(verb, 1)], "--jsno"])
            self.assertEqual(stop.exception.code, 2)
            self.assertIn("there is no option '--jsno'; did you mean '--json'?", err.getvalue())


if __name__ == "__main__":
    unittest.main()
