"""Experiments as users meet them: plan, ablate, ab, aa, budgets that survive a kill, and files that can be run again.

Usage: experiments_test.py <source dir> <build dir>
"""
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import unittest

from shared import GEARBOX, SOURCE, experiment

# `leaves` decides the length of a cell: none is short enough to be over before a test has looked.
SKYNET = """[[workload]]
name = "skynet"
params = { leaves = 100 }
"""


class Case(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.results = self.folder / "results"
        self.environment = {**os.environ, "GEARBOX_ROOT": str(SOURCE)}

    def start(self, *arguments):
        process = subprocess.Popen([GEARBOX, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL,
                                   env=self.environment)
        self.addCleanup(process.__exit__, None, None, None)
        self.addCleanup(process.kill)
        return process

    def call(self, *arguments, code=0):
        process = self.start(*arguments)
        out, err = process.communicate(timeout=240)
        self.assertEqual(process.returncode, code, (arguments, out, err))
        self.assertNotIn("Traceback", err)
        return out, err

    def run_folder(self):
        return next(self.results.glob("*/2*"))

    def manifest(self):
        return json.loads((self.run_folder() / "manifest.json").read_text())

    def records(self):
        return [json.loads(line) for line in (self.run_folder() / "cells.jsonl").read_text().splitlines()]


class Questions(Case):
    def test_plan_says_the_same_twice_and_runs_nothing(self):
        first, _ = self.call("plan", "quickstart", "--json", "--out", self.results)
        second, _ = self.call("plan", "quickstart", "--json", "--out", self.results)
        self.assertEqual(first, second)
        facts = json.loads(first)
        self.assertEqual((facts["design"]["treatments"], facts["design"]["cells_in_a_block"], facts["budget_s"]), (128, 144, 330))
        self.assertIsNone(facts["design"]["total_s"])
        self.assertEqual({one["kind"] for one in facts["smaller_designs"]}, {"fractional", "pairwise", "ofat"})
        out, _ = self.call("plan", "quickstart", "--blocks", "6", "--out", self.results)
        for part in ("6 blocks of 144", "time          not known", "--blocks 1", "16 treatments, the baseline 3 times a block", "x/÷1.36 at noise 0.15", "resolution IV"):
            self.assertIn(part, out)
        self.assertFalse(self.results.exists())
        _, err = self.call("plan", "quikstart", code=2)
        self.assertIn("did you mean 'quickstart'?", err)

    def test_an_ablation_runs_from_one_line_and_its_file_runs_again(self):
        out, err = self.call("ablate", "skynet", "--scheduler", "gmp", "--set", "leaves=100", "--blocks", "3", "--seed", "7", "--json", "--out", self.results)
        self.assertEqual(json.loads(out)["failed"], 0, err)
        manifest, records = self.manifest(), self.records()
        self.assertEqual(manifest["design"], {"kind": "ablation", "blocks": 3, "baseline_runs": "rule", "budget_s": None})
        self.assertEqual(manifest["overrides"]["seed"], 7)
        described = json.loads(self.call("describe", "scheduler=gmp", "--json")[0])
        switches = {option["name"]: option for option in described["options"] if "levels" in option}
        self.assertEqual({name: set(levels) for name, levels in manifest["factors"].items() if name.startswith("scheduler.")},
                         {f"scheduler.{name}": set(option["levels"]) for name, option in switches.items()})
        for name, option in switches.items():
            self.assertEqual((manifest["factors"][f"scheduler.{name}"][0], manifest["baseline"][f"scheduler.{name}"]), (option["default"],) * 2)
        treatments = 1 + sum(len(option["levels"]) - 1 for option in switches.values())
        self.assertEqual(len(records), 3 * (treatments + 2))
        self.assertEqual(sorted(record["replicate"] for record in records if record["block"] == 1)[-3:], [0, 1, 2])
        again, _ = self.call("sweep", self.run_folder() / "experiment.toml", "--blocks", "3", "--seed", "7", "--dry-run", "--json")
        self.assertEqual(again, (self.run_folder() / "plan.jsonl").read_text())
        facts = json.loads(self.call("plan", self.run_folder() / "experiment.toml", "--json", "--out", self.results)[0])
        self.assertEqual((facts["earlier_records"]["cells_with_a_time"], facts["earlier_records"]["runs"]), (treatments, 1))
        self.assertGreater(facts["design"]["total_s"], 0)
        self.assertEqual(facts["power"][0]["noise_degrees"], len(records) + 1 - 3 - treatments)

    def test_a_against_b_and_a_against_itself(self):
        out, _ = self.call("ab", "gmp", "global_queue", "skynet", "--set", "leaves=100", "--blocks", "3", "--json", "--out", self.results)
        self.assertEqual(json.loads(out)["ok"], 6)
        self.assertEqual(sorted({record["levels"]["scheduler"] for record in self.records()}), ["global_queue", "gmp"])
        for path in sorted(self.results.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        file = self.folder / "tiny.toml"
        file.write_text(experiment(SKYNET, collectors=("concurrent", "stw")))
        out, _ = self.call("aa", file, "--blocks", "3", "--json", "--out", self.results)
        self.assertEqual((json.loads(out)["ok"], json.loads(out)["analysis_exit"]), (6, 0))
        records = self.records()
        self.assertEqual(len({record["cell"] for record in records}), 1)
        self.assertEqual(sorted({(record["levels"]["label"], record["block"], record["replicate"]) for record in records}),
                         [(label, block, 0) for label in "AB" for block in range(3)])
        for arguments, said in ((("ab", "gmp", "stw", "skynet"), "do not stand for one another"), (("ab", "gmp", "gmq", "skynet"), "did you mean 'gmp'?"),
                                (("ab", "gmp", "global_queue", "skynett"), "did you mean 'skynet'?"), (("ab", "gmp", "global_queue"), "it takes A, B and a workload"),
                                (("ablate", "skynet"), "give one of --scheduler"), (("ablate", "skynet", "--scheduler", "null"), "no switch to turn"),
                                (("aa", "quickstat"), "did you mean 'quickstart'?"),
                                (("ablate", "skynet", "--scheduler", "gmp", "--blocks", "2", "--budget", "9"), "a budget needs room for 3")):
            _, err = self.call(*arguments, "--dry-run", code=2)
            self.assertIn(said, err)


class Budgets(Case):
    def setUp(self):
        super().setUp()
        self.file = self.folder / "tiny.toml"
        self.file.write_text(experiment(SKYNET, collectors=("concurrent", "stw")).replace("blocks = 2", "blocks = 30\nbudget_s = 604800"))

    def wait_for(self, process, records):
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            try:
                if len(self.records()) >= records:
                    return
            except (OSError, StopIteration, ValueError):
                pass
            time.sleep(0.002)
        self.assertIsNotNone(process.poll(), "no records within two minutes")

    def test_a_run_that_was_killed_in_its_first_block_ends_with_what_its_budget_pays_for(self):
        process = self.start("sweep", self.file, "--budget", "1", "--json", "--out", self.results)
        self.wait_for(process, 1)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        out, err = self.call("resume", self.run_folder(), "--json")
        manifest, records = self.manifest(), self.records()
        blocks = manifest["budget"]["blocks"]
        self.assertTrue(3 <= blocks <= 30, manifest["budget"])
        self.assertEqual(blocks, min(30, max(3, int(1 / manifest["budget"]["block_0_s"]))))
        self.assertEqual((manifest["blocks"], manifest["design"]["blocks"], manifest["overrides"]["budget"]), (blocks, 30, 1))
        self.assertEqual([record["seq"] for record in records], list(range(2 * blocks)))
        self.assertEqual(json.loads(out)["cells"], 2 * blocks, err)
        before = (self.run_folder() / "cells.jsonl").read_bytes()
        self.call("resume", self.run_folder(), "--json")
        self.assertEqual((self.run_folder() / "cells.jsonl").read_bytes(), before)
        self.assertEqual(self.manifest()["budget"], manifest["budget"])

    def test_a_number_of_blocks_replaces_the_budget_of_the_file(self):
        out, _ = self.call("sweep", self.file, "--blocks", "3", "--json", "--out", self.results)
        self.assertEqual(json.loads(out)["ok"], 6)
        self.assertEqual((self.manifest()["design"]["budget_s"], self.manifest()["blocks"]), (None, 3))
        self.assertNotIn("budget", self.manifest())


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
