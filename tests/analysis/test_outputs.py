"""Figures and report: stable bytes, self-contained page, and no run so poor that it crashes them."""
import filecmp
import html.parser
import json
import os
import tempfile
import unittest

import numpy as np

from . import synthetic
from analysis import __main__ as command
from analysis import histogram, jsonout, load, plots, report, table, words
from analysis.study import Study

SMALL = {**synthetic.FACTORS, "allocator": ["size_class"], "poller": ["epoll"]}  # four combinations: drawing is what costs time here


class Links(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.sources, self.tags = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [(tag, key, value) for key, value in attrs if key in ("src", "href", "srcset", "data", "action")]


class WithFolder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def everything(self, run_dir):
        """All outputs of one run; returns (study, html, plot outcomes)."""
        study = Study(load.load(run_dir))
        text = table.text(study)
        self.assertLessEqual(max(map(len, text.splitlines())), table.WIDTH)
        json.loads(jsonout.dumps(command.facts(study)))
        command.analysis_text(study)
        page = report.render(study)
        for plot in plots.PLOTS.values():
            self.assertIsNotNone(plots.note(study, plot))
        return study, page


class Figures(WithFolder):
    def test_bytes_are_stable_over_two_renders(self):
        first = synthetic.write_run(os.path.join(self.folder, "a"), workloads=("gc_latency", "echo"), blocks=2, factors=SMALL)
        second = synthetic.write_run(os.path.join(self.folder, "b"), workloads=("gc_latency", "echo"), blocks=2, factors=SMALL)
        for run_dir in (first, second):
            study = Study(load.load(run_dir))
            for plot in plots.PLOTS.values():
                self.assertIsNone(plots.draw_one(study, plot).sentence)
        names = sorted(os.listdir(os.path.join(first, "figures")))
        self.assertEqual(len(names), 4 * len(plots.PLOTS))
        _, different, broken = filecmp.cmpfiles(os.path.join(first, "figures"), os.path.join(second, "figures"), names, shallow=False)
        self.assertEqual((different, broken), ([], []))

    def test_a_figure_of_other_records_is_stale(self):
        run_dir = synthetic.write_run(self.folder, workloads=("ping_pong",), blocks=2, factors=SMALL, samples=0)
        study, gears = Study(load.load(run_dir)), plots.PLOTS["gears"]
        plots.draw_one(study, gears)
        self.assertIsNotNone(plots.note(study, gears))
        with open(os.path.join(run_dir, "cells.jsonl"), "a") as file:
            file.write("\n")
        self.assertIsNone(plots.note(Study(load.load(run_dir)), gears))

    def test_merged_histogram_has_the_quantiles_of_the_union(self):
        def hist(values):
            return histogram.read({"name": "latency", "max": max(values), "buckets": [[v, v + 1, values.count(v)] for v in sorted(set(values))]})
        merged = histogram.merge([hist([1, 2, 3]), hist([3, 4, 100])])
        self.assertEqual(merged.total, 6)
        self.assertEqual(list(merged.quantiles(np.array([0.5, 0.999]))), [4.0, 100.0])  # upper bucket edge; the largest value caps


class PoorRuns(WithFolder):
    def test_one_block(self):
        study, page = self.everything(synthetic.write_run(self.folder, workloads=("echo", "sieve"), blocks=1, factors=SMALL))
        self.assertIn("at least two blocks", page)

    def test_one_workload(self):
        self.everything(synthetic.write_run(self.folder, workloads=("binary_trees",), blocks=3, factors=SMALL, samples=0))

    def test_all_cells_failed(self):
        study, page = self.everything(synthetic.write_run(self.folder, workloads=("echo",), blocks=2, factors=SMALL,
                                                          failures={(None, None, None): ("signal", "killed by SIGSEGV")}))
        self.assertIn("Nothing can be said", page)
        self.assertIn("killed by SIGSEGV", page)
        self.assertIn("No gear was run at two levels with matching partners", page)

    def test_missing_combination(self):
        missing = ("global_queue", "size_class", "stw", "epoll")
        run_dir = synthetic.write_run(self.folder, workloads=("kv_server", "sieve"), blocks=2, factors=SMALL, skip=[missing])
        study, page = self.everything(run_dir)
        self.assertIn("no interaction can be computed", page)

    def test_baseline_always_fails(self):
        study, page = self.everything(synthetic.write_run(self.folder, workloads=("sieve",), blocks=2, samples=0, factors={
            **SMALL, "collector": ["concurrent"]}, failures={(None, "gmp", None): ("oom", "killed: out of memory")}))
        self.assertIn("so there is nothing to compare", page)

    def test_baseline_not_in_the_run(self):
        study, page = self.everything(synthetic.write_run(self.folder, workloads=("sieve",), blocks=2, factors=SMALL, samples=0,
                                                          skip=[("gmp", "size_class", "concurrent", "epoll")]))
        self.assertTrue(any("baseline combination is not part" in note for note in study.run.notes))

    def test_single_combination_and_nothing_run_yet(self):
        lonely = {gear: levels[:1] for gear, levels in synthetic.FACTORS.items()}
        run_dir = synthetic.write_run(self.folder, workloads=("sieve",), blocks=2, factors=lonely, samples=0)
        study, page = self.everything(run_dir)
        self.assertIn("compares nothing", page)
        os.remove(os.path.join(run_dir, "cells.jsonl"))
        synthetic.seal(run_dir, ended=False)
        study, page = self.everything(run_dir)
        self.assertIn("nothing has been run", page)

    def test_three_levels_and_option_texts(self):
        factors = {"scheduler": ["gmp", "gmp:runnext=off,steal=half", "global_queue"], "allocator": ["size_class"],
                   "collector": ["concurrent", "stw", "none"], "poller": ["epoll"]}
        self.everything(synthetic.write_run(self.folder, workloads=("gc_latency",), blocks=2, factors=factors, samples=500))


class Report(WithFolder):
    def test_self_contained_and_complete(self):
        failures = {("sieve", "stw", 1): ("timeout", "no answer within <60> s")}
        illegal = [{"combo": dict(zip(synthetic.GEARS, ("gmp", "bump", "stw", "epoll"))), "reason": "bump never frees."}]
        run_dir = synthetic.write_run(self.folder, workloads=("sieve", "timers"), blocks=2, factors=SMALL, failures=failures, illegal=illegal)
        path = report.write(Study(load.load(run_dir)))
        with open(path, encoding="utf-8") as file:
            page = file.read()
        links = Links()
        links.feed(page)
        for tag, key, value in links.sources:
            self.assertTrue(value.startswith(("data:", "#")), (tag, key, value[:60]))
        self.assertNotIn("script", links.tags)
        self.assertNotIn("url(http", page)
        self.assertEqual(links.tags.count("img"), len(plots.PLOTS))
        for text in ("no answer within &lt;60&gt; s", "bump never frees.", "Which gear decides", "How to reproduce", "2 cores shared with other work"):
            self.assertIn(text, page)
        self.assertEqual(page, report.render(Study(load.load(run_dir))))

    def test_words_claim_no_more_than_the_verdicts(self):
        quiet = synthetic.Truth(effects={}, interactions={}, noise=0.03)
        study = Study(load.load(synthetic.write_run(self.folder, quiet, ("sieve", "echo"), blocks=3, samples=0, seed=4)))
        text = " ".join(words.summary(study))
        self.assertIn("undecided on", text)
        for claim in ("faster on", "slower on", "faster:", "slower:", "Fastest"):
            self.assertNotIn(claim, text)


if __name__ == "__main__":
    unittest.main()
