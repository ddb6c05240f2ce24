"""Ctrl-C while a finished run is analysed: no further step begins, and the sweep ends with 130.

Usage: interrupt_test.py <source dir> <build dir>
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

from shared import GEARBOX, PING_PONG, SOURCE, experiment, program

# In the place of Python: writes down which step began, and then takes its time. It ends as Python ends when interrupted.
ANALYSIS = """#!/bin/sh
[ "$2" = analysis.check ] && exit 0  # what `resume` asks first
trap 'exit 130' INT
trap 'exit 143' TERM
%s
echo "$3" >>"{steps}"
n=0
while [ $n -lt 600 ] && [ ! -e "{steps}.go" ]; do sleep 0.1; n=$((n+1)); done
"""


class Interrupted(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.steps = self.folder / "steps"
        (self.folder / "tiny.toml").write_text(experiment(PING_PONG))

    def start(self, *arguments, extra=""):
        analysis = program(self.folder / "python3", (ANALYSIS % extra).format(steps=self.steps))
        process = subprocess.Popen([GEARBOX, *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                   env={**os.environ, "GEARBOX_ROOT": str(SOURCE), "GEARBOX_PYTHON": str(analysis)}, start_new_session=True)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.kill)
        return process

    def sweep(self, *more, **how):
        return self.start("sweep", self.folder / "tiny.toml", "--out", self.folder / "results", *more, **how)

    def wait_for_step(self, process, name):
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            if self.steps.exists() and name in self.steps.read_text().split():
                return
            time.sleep(0.01)
        self.fail(f"the step {name} did not begin: {process.communicate()}")

    def test_no_further_step_begins(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            # Ctrl-C reaches the whole group, `kill` only us; and a step may be deaf.
            for to_all, extra in ((True, ""), (False, ""), (False, "trap '' INT TERM")):
                for more in ([], ["--json"]):
                    with self.subTest(number=number, to_all=to_all, extra=extra, more=more):
                        self.steps.unlink(missing_ok=True)
                        process = self.sweep(*more, extra=extra)
                        first = "plot" if more else "answer"
                        self.wait_for_step(process, first)
                        (os.killpg if to_all else os.kill)(process.pid, number)
                        out, err = process.communicate(timeout=120)
                        self.assertEqual(process.returncode, 130, err)
                        self.assertEqual(self.steps.read_text().split(), [first])
                        self.assertIn("gearbox resume", err)
                        self.assertNotIn("ended with exit code", err)
                        if more:
                            facts = json.loads(out)
                            self.assertEqual((facts["ok"], facts["interrupted"]), (2, True))
                        run = next((self.folder / "results" / "tiny").glob("2*"))
                        self.assertEqual(len((run / "cells.jsonl").read_text().splitlines()), 2)

    def test_resume_begins_the_analysis_again(self):
        process = self.sweep()
        self.wait_for_step(process, "answer")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=120)
        self.assertEqual(process.returncode, 130)
        (self.folder / "steps.go").touch()
        process = self.start("resume", next((self.folder / "results" / "tiny").glob("2*")))
        out, err = process.communicate(timeout=120)
        self.assertEqual(process.returncode, 0, err)
        self.assertEqual(self.steps.read_text().split(), ["answer", "answer", "plot", "report"])

    def test_a_verb_of_the_analysis_ends_with_130(self):
        (self.folder / "steps.go").touch()
        self.assertEqual(self.sweep().wait(timeout=120), 0)
        (self.folder / "steps.go").unlink()
        self.steps.unlink()
        run = next((self.folder / "results" / "tiny").glob("2*"))
        for to_all in (True, False):
            process = self.start("report", run)
            self.wait_for_step(process, "report")
            (os.killpg if to_all else os.kill)(process.pid, signal.SIGINT)
            process.communicate(timeout=120)
            self.assertEqual(process.returncode, 130)
            self.steps.unlink()


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
