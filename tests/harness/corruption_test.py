"""resume and analyze say the same of a damaged run, and resume has then started and written nothing.

Usage: corruption_test.py <source dir> <build dir>
"""
import concurrent.futures
import hashlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

import corrupting
from shared import GC_LATENCY, GEARBOX, PING_PONG, SOURCE, experiment, program

EXPERIMENT = experiment(PING_PONG, GC_LATENCY, collectors=("concurrent", "stw"))
# The check as it is, and nothing of what a finished run is analysed with: figures take longer than all the rest.
CHECK_ONLY = """#!/bin/sh
[ "$2" = analysis.check ] && exec {python} "$@"
exit 0
"""


def contents(run):
    return {str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(run.rglob("*")) if path.is_file()}


class Runs(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.shared = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.shared.cleanup)
        cls.folder = pathlib.Path(cls.shared.name)
        (cls.folder / "tiny.toml").write_text(EXPERIMENT)
        cls.python = os.environ.get("GEARBOX_PYTHON") or "/usr/bin/python3"
        check_only = program(cls.folder / "check-only", CHECK_ONLY.format(python=cls.python))
        cls.environment = {**os.environ, "GEARBOX_ROOT": str(SOURCE), "GEARBOX_PYTHON": str(check_only)}
        for name, seed in (("source", "1"), ("other", "2")):
            done = cls.call("sweep", cls.folder / "tiny.toml", "--out", cls.folder / name, "--seed", seed, "--json")
            assert done.returncode == 0, done.stderr
            setattr(cls, name, next((cls.folder / name / "tiny").glob("2*")))

    @classmethod
    def call(cls, *arguments, **environment):
        return subprocess.run([GEARBOX, *map(str, arguments)], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=240,
                              env={**cls.environment, **environment})

    def damaged(self, entry):
        run = pathlib.Path(tempfile.mkdtemp(dir=self.folder)) / "run"
        shutil.copytree(self.source, run)
        corrupting.prepare(run, entry.get("base", "finished"))
        corrupting.corrupt(run, entry["do"], self.other)
        return run


class Corruptions(Runs):
    def refusals(self, entry):
        run = self.damaged(entry)
        before = contents(run)
        resumed = self.call("resume", run)
        return run, before, resumed, contents(run), self.call("analyze", run, GEARBOX_PYTHON=self.python)

    def test_both_verbs_say_the_same_and_nothing_is_begun(self):
        refused = corrupting.entries("refused")
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(self.refusals, refused))
        for entry, (run, before, resumed, after, analysed) in zip(refused, answers):
            with self.subTest(entry["name"]):
                self.assertNotEqual(resumed.returncode, 0)
                self.assertNotEqual(analysed.returncode, 0)
                self.assertEqual(resumed.stderr.removeprefix("gearbox resume: "), analysed.stderr.removeprefix("analysis: "))
                self.assertEqual(resumed.stderr.count("\n"), 1, resumed.stderr)
                self.assertIn(str(run / entry["where"]), resumed.stderr)
                for part in [entry["says"]] if isinstance(entry["says"], str) else entry["says"]:
                    self.assertIn(part, resumed.stderr)
                self.assertEqual(after, before)

    def test_what_is_legal_is_gone_on_with(self):
        for entry in corrupting.entries("legal"):
            with self.subTest(entry["name"]):
                run = self.damaged(entry)
                done = self.call("resume", run, "--json")
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertEqual("was cut short" in done.stderr, "note" in entry, done.stderr)
                self.assertEqual(json.loads(done.stdout)["ok"], 8)
                records = [json.loads(line) for line in (run / "cells.jsonl").read_text().splitlines() if line]
                self.assertEqual(sorted(record["seq"] for record in records), list(range(8)))
                self.assertEqual(self.call("resume", run, "--json").returncode, 0)  # finished now, with its mark


class Elsewhere(Runs):
    """A run that another build or another computer goes on with."""

    def change(self, run, **machine):
        path = run / "manifest.json"
        manifest = json.loads(path.read_text())
        manifest["machine"].update(machine)
        path.write_text(json.dumps(manifest))

    def test_another_computer_needs_force_and_is_recorded(self):
        run = self.damaged({"base": "killed", "do": []})
        lines = [json.loads(line) for line in (run / "cells.jsonl").read_text().splitlines()]
        (run / "cells.jsonl").write_text("".join(json.dumps({**line, "host": "elsewhere"}) + "\n" for line in lines))
        self.change(run, host="elsewhere")
        corrupting.seal(run, False)
        done = self.call("resume", run)
        self.assertEqual((done.returncode, "was begun on the computer 'elsewhere'" in done.stderr), (1, True), done.stderr)
        done = self.call("resume", run, "--force", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        done = self.call("analyze", run, "--json", GEARBOX_PYTHON=self.python)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertTrue(any("several computers" in note for note in json.loads(done.stdout)["notes"]))


class Ends(Runs):
    """Ctrl-C while a run is analysed."""

    def interrupted(self, process, group=True):
        (os.killpg if group else os.kill)(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=240)
        return process.returncode, out, err

    def start(self, *arguments, **environment):
        return subprocess.Popen([GEARBOX, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL,
                                start_new_session=True, env={**self.environment, **environment})

    def test_ctrl_c_in_the_analysis_ends_with_one_line_and_130_wherever_it_comes(self):
        """At moments that differ by a few milliseconds: in the interpreter's start, in imports, in the drawing."""
        ended = 0
        for delay in [0.0] + [0.004 * 1.5**step for step in range(16)]:
            process = self.start("report", self.source, GEARBOX_PYTHON=self.python)
            while process.poll() is None and not pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().strip():
                time.sleep(0.001)
            time.sleep(delay)
            if process.poll() is not None:
                process.communicate()
                continue
            code, out, err = self.interrupted(process)
            with self.subTest(delay=delay):
                self.assertIn(code, (0, 130), err)
                self.assertNotIn("Traceback", err)
                self.assertEqual(err.count("\n"), 1 if code == 130 else 0, err)
                ended += code == 130
        self.assertGreater(ended, 5)

    def test_the_next_step_is_not_started(self):
        steps = self.folder / "steps"
        slow = self.folder / "slow"
        slow.write_text(f"#!{self.python}\nimport os, signal, sys, time\nopen({str(steps)!r}, 'a').write(' '.join(sys.argv[1:4]) + '\\n')\n"
                        "if sys.argv[2] == 'analysis.check': sys.exit(0)\n"
                        "signal.signal(signal.SIGINT, lambda *_: os._exit(130))\nsignal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})\n"
                        f"open({str(steps)!r}, 'a').write('waits\\n')\ntime.sleep(200)\n")
        slow.chmod(0o755)
        for group in (True, False):
            steps.write_text("")
            process = self.start("resume", self.source, GEARBOX_PYTHON=str(slow))
            while process.poll() is None and "waits" not in steps.read_text():
                time.sleep(0.01)
            code, _, err = self.interrupted(process, group)
            self.assertEqual(code, 130, err)
            self.assertEqual([line for line in steps.read_text().splitlines() if line.startswith("-m analysis ")], ["-m analysis answer"], err)


class AtOnce(Runs):
    def test_sweeps_that_begin_at_once_all_run(self):
        results = self.folder / "at-once"
        started = [subprocess.Popen([GEARBOX, "sweep", str(self.folder / "tiny.toml"), "--out", str(results), "--blocks", "1", "--only", "workload=ping_pong",
                                     "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL, env=self.environment)
                   for _ in range(6)]
        for process in started:
            out, err = process.communicate(timeout=240)
            self.assertEqual(process.returncode, 0, err)
            self.assertEqual(json.loads(out)["ok"], 2, err)
        names = sorted(path.name for path in (results / "tiny").iterdir())
        self.assertEqual(len([name for name in names if name.startswith("2")]), 6)
        self.assertEqual([name for name in names if not name.startswith("2")], ["latest"])


class Constraints(Runs):
    def test_a_filter_that_matches_nothing_is_refused_before_anything_starts(self):
        path = self.folder / "forbid.toml"
        text = EXPERIMENT + "[constraints]\nforbid = [\"collector=none\"]\n"
        path.write_text(text)
        for arguments in ([], ["--dry-run"]):
            done = self.call("sweep", path, "--out", self.folder / "none", *arguments)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn(f"forbid.toml:{len(text.splitlines())}: [constraints] forbid 'collector=none' matches no cell of this experiment: no cell has collector=none; there is concurrent, stw",
                          done.stderr)
        self.assertFalse((self.folder / "none").exists())


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
