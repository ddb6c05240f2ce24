"""Any level as the baseline afterwards, any two treatments against each other, and names that a person types."""
import contextlib
import io
import json
import math
import unittest

from . import synthetic
from .test_factors import WithFolder
from analysis import __main__ as command
from analysis import choose, load, plots, treatments
from analysis.study import Study


class Names(unittest.TestCase):
    factors = treatments.Factors({"scheduler": ["gmp", "gmp:runnext=off,steal=one", "global_queue"], "collector": ["concurrent", "none"], "poller": ["epoll", "none"],
                                  "procs": ["2", "4"], "param.depth": ["12", "14"], "param.size": ["1"], "runtime.size": ["7"]},
                                 ("gmp", "concurrent", "epoll", "2", "12", "1", "7"), {})

    def test_what_a_text_sets(self):
        for text, wanted in (("baseline", {}), ("procs=4", {"procs": "4"}), ("procs=4,depth=14", {"procs": "4", "param.depth": "14"}),
                             ("scheduler=gmp:runnext=off,steal=one,procs=4", {"scheduler": "gmp:runnext=off,steal=one", "procs": "4"}),
                             ("gmp:runnext=off,steal=one", {"scheduler": "gmp:runnext=off,steal=one"}), ("global_queue + procs=4", {"scheduler": "global_queue", "procs": "4"}),
                             ("collector none", {"collector": "none"}), ("param.size=1", {"param.size": "1"}), ("procs=4,procs=4", {"procs": "4"})):
            self.assertEqual(choose.settings(self.factors, text, "--pair"), wanted, text)

    def test_what_names_nothing_is_refused_with_the_nearest(self):
        for text, said in (("prosc=4", "no factor 'prosc'; did you mean 'procs'?"), ("procs=5", "procs has no level '5' in this run; there is: 2, 4"),
                           ("scheduler=gpm", "scheduler has no level 'gpm' in this run; did you mean 'gmp'?"), ("global_qeue", "did you mean 'global_queue'?"),
                           ("none", "'none' is a level of collector and of poller: write collector=none"), ("size=1", "'size' is the name of several factors: param.size, runtime.size"),
                           ("procs=2,procs=4", "sets procs twice, to 2 and to 4"), ("4", "'4' is no level of this run"), ("", "'' is no level"), ("procs=", "no level ''"),
                           ("gmp:runnext=off,prosc=4", "'gmp:runnext=off,prosc=4' is no level"), ("procs=4,", "'' is no level")):
            with self.assertRaises(load.BadInput, msg=text) as refusal:
                choose.settings(self.factors, text, "--pair")
            self.assertIn(said, str(refusal.exception))
            self.assertTrue(str(refusal.exception).startswith("--pair: "))


class WithCalls(WithFolder):
    def call(self, *arguments):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = command.main(list(arguments))
        return code, out.getvalue(), err.getvalue()


class Baseline(WithCalls):
    def test_ratios_turn_round(self):
        run = load.load(self.run_dir(more={"procs": ["2", "4"]}, workloads=("sieve",)))
        before, after = Study(run), Study(choose.another_baseline(run, "procs=4"))
        first = next(effect for effect in before.effects if (effect.factor, effect.work) == ("procs", "sieve"))
        other = next(effect for effect in after.effects if (effect.factor, effect.work) == ("procs", "sieve"))
        self.assertEqual((first.level, first.base, other.level, other.base), ("4", "2", "2", "4"))
        self.assertAlmostEqual(first.ratio.ratio * other.ratio.ratio, 1)
        self.assertEqual((first.verdict, other.verdict), ("faster", "slower"))
        self.assertEqual({item.verdict for item in after.comparisons if item.treatment == after.run.baseline}, {"baseline"})
        self.assertEqual(after.run.baseline[-1], "4")
        self.assertEqual(after.run.factors.short(before.run.baseline), "procs=2")

    def test_a_gear_that_lacks_the_option(self):
        run = choose.another_baseline(load.load(self.run_dir()), "scheduler=global_queue")
        study = Study(run)
        effect = next(effect for effect in study.effects if (effect.factor, effect.level, effect.work) == ("scheduler", "gmp", "sieve"))
        self.assertAlmostEqual(math.log(effect.ratio.ratio), 0.2 + 0.25 / 2, delta=0.02)

    def test_each_verb_takes_it_and_refuses_in_one_line(self):
        run_dir = self.run_dir(more={"procs": ["2", "4"]}, workloads=("sieve",), blocks=3)
        for verb in ("table", "analyze", "report", "plot"):
            code, out, err = self.call(verb, run_dir, "--baseline", "procs=4", "--json")
            self.assertEqual((code, err), (0, ""))
            if verb in ("table", "analyze"):
                self.assertEqual(json.loads(out)["baseline"]["procs"], "4")
            code, _, err = self.call(verb, run_dir, "--baseline", "porcs=4")
            self.assertEqual((code, err), (2, "analysis: --baseline: this run has no factor 'porcs'; did you mean 'procs'?\n"))

    def test_a_figure_of_another_baseline_is_stale(self):
        run = load.load(self.run_dir(more={"procs": ["2", "4"]}, workloads=("sieve",), blocks=3))
        plots.draw_one(Study(run), plots.PLOTS["gears"])
        self.assertIsNone(plots.note(Study(choose.another_baseline(run, "procs=4")), plots.PLOTS["gears"]))
        self.assertIsNotNone(plots.note(Study(choose.another_baseline(run, "procs=2")), plots.PLOTS["gears"]))

    def test_what_was_never_planned_cannot_be_the_baseline(self):
        run_dir = self.run_dir(more=None, skip=[("global_queue", "size_class", "concurrent", "epoll")], factors={**synthetic.FACTORS, "allocator": ["size_class"]})
        code, _, err = self.call("table", run_dir, "--baseline", "scheduler=global_queue")
        self.assertEqual(code, 2)
        self.assertIn("no planned cell has global_queue, size_class, concurrent, epoll", err)

    def test_a_run_of_schema_2_has_the_gears(self):
        run_dir = self.run_dir(more=None)
        code, out, _ = self.call("table", run_dir, "--baseline", "global_queue", "--json")
        self.assertEqual((code, json.loads(out)["baseline"]["scheduler"]), (0, "global_queue"))
        self.assertIn("no factor 'procs'", self.call("table", run_dir, "--baseline", "procs=2")[2])


class Pair(WithCalls):
    def test_two_treatments_neither_of_which_is_the_baseline(self):
        run_dir = self.run_dir()
        code, out, err = self.call("analyze", run_dir, "--pair", "global_queue", "global_queue + procs=4", "--json")
        self.assertEqual((code, err), (0, ""))
        pairs = {pair["work"]: pair for pair in json.loads(out)["pairs"]}
        self.assertEqual(set(pairs), {"binary_trees", "sieve"})
        for pair in pairs.values():
            self.assertAlmostEqual(math.log(pair["ratio"]["ratio"]), 0.4 - 0.25, delta=0.03)
            self.assertEqual((pair["verdict"], pair["ratio"]["n"], pair["a"]["procs"], pair["b"]["procs"]), ("faster", 6, "2", "4"))

    def test_the_text(self):
        code, out, _ = self.call("analyze", self.run_dir(blocks=3), "--pair", "baseline", "depth=14")
        self.assertEqual(code, 0)
        self.assertIn("without both: sieve", out)  # it has no depth: the two are one treatment there
        self.assertIn("A: gmp, size_class, concurrent, epoll, procs=2, depth=12, runnext=on, sysmon=on", out)
        self.assertLessEqual(max(map(len, out.splitlines())), 110)

    def test_what_failed_decides_nothing(self):
        run_dir = self.run_dir(more={"procs": ["2", "4"]}, workloads=("sieve",), failures={(None, "global_queue", 0): ("oom", "killed")})
        _, out, _ = self.call("analyze", run_dir, "--pair", "global_queue", "procs=4", "--json")
        self.assertEqual(json.loads(out)["pairs"][0]["verdict"], "unreliable: A, 1 of 6 failed")

    def test_pairs_that_there_are_not(self):
        run_dir = self.run_dir(blocks=2)
        for pair, said in ((("baseline", "runnext=off,global_queue"), "no cell of this run is 'runnext=off,global_queue'"),
                           (("baseline", "procs=2"), "'baseline' and 'procs=2' are one treatment"), (("baseline", "pocs=4"), "did you mean 'procs'?")):
            code, out, err = self.call("analyze", run_dir, "--pair", *pair)
            self.assertEqual((code, out, err.count("\n")), (2, "", 1))
            self.assertIn(said, err)


if __name__ == "__main__":
    unittest.main()
