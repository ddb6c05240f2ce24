"""What becomes of output that cannot be written: a full disk, a reader that left, a terminal that was closed, descriptors that were never open.

Standard output is the result of a verb: when it is lost, the verb says so and ends with 1. Standard error is conversation: when it is lost, the work goes on
and ends with the code of its results. Neither ever reaches a record.

Usage: output_test.py <source dir> <build dir>
"""
import itertools
import json
import os
import pathlib
import pty
import subprocess
import sys
import tempfile
import time
import unittest

from shared import GEARBOX, PING_PONG, SOURCE, experiment, program

EXPERIMENT = experiment(PING_PONG, collectors=("concurrent", "stw"))
# In the place of Python: the analysis is no part of these tests, except for its output.
ANALYSIS = """#!/bin/sh
[ "$2" = analysis.check ] && exit 0  # what `resume` asks first
echo "$3 of the run"
"""
LOST = "standard output could not be written"


def full():
    return os.open("/dev/full", os.O_WRONLY)


def left():
    """The writing end of a pipe whose reader has gone."""
    reading, writing = os.pipe()
    os.close(reading)
    return writing


def hung_up():
    """A terminal that was closed: every write fails with EIO."""
    master, terminal = pty.openpty()
    os.close(master)
    return terminal


class Case(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.experiment = self.folder / "tiny.toml"
        self.experiment.write_text(EXPERIMENT)
        self.analysis = program(self.folder / "python3", ANALYSIS)
        self.environment = {**os.environ, "GEARBOX_ROOT": str(SOURCE), "GEARBOX_PYTHON": str(self.analysis)}

    def call(self, *arguments, out=None, err=None, closed=()):
        """Exit code, output and errors. out and err: what to make the descriptor of; closed: those that are not open at all."""
        made = [make() for make in (out, err) if make]
        stdout = made[0] if out else subprocess.PIPE
        stderr = made[-1] if err else subprocess.PIPE
        try:
            done = subprocess.run([GEARBOX, *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, env=self.environment, timeout=300,
                                  preexec_fn=(lambda: [os.close(fd) for fd in closed]) if closed else None)
        finally:
            for fd in made:
                os.close(fd)
        return done.returncode, (done.stdout or b"").decode(), (done.stderr or b"").decode()

    def sweep(self, *more, **how):
        return self.call("sweep", self.experiment, "--out", self.folder / "results", *more, **how)

    def run_folders(self):
        return sorted((self.folder / "results" / "tiny").glob("2*"))

    def records(self):
        """Of the newest run; every line must be a record."""
        return [json.loads(line) for line in (self.run_folders()[-1] / "cells.jsonl").read_text().splitlines()]


class StandardOutput(Case):
    VERBS = (["list"], ["list", "workloads"], ["list", "--json"], ["list", "matrix"], ["describe", "scheduler=gmp"], ["describe", "runtime", "--json"],
             ["options"], ["doctor"], ["doctor", "--json"], ["run", "ping_pong", "--set", "rounds=500"],
             ["run", "ping_pong", "--set", "rounds=500", "--json"], [], ["help"], ["--help"])

    def test_every_verb_says_that_its_output_is_lost(self):
        helps = [[verb, "--help"] for verb in ("list", "describe", "options", "doctor", "run", "sweep", "resume")]
        plans = [["sweep", str(self.experiment), "--dry-run"], ["sweep", str(self.experiment), "--dry-run", "--json"]]
        for arguments in (*self.VERBS, *helps, *plans):
            for way in (dict(out=full), dict(out=left), dict(out=hung_up), dict(closed=[1])):
                with self.subTest(arguments=arguments, way=way):
                    code, _, err = self.call(*arguments, **way)
                    self.assertEqual(code, 1, err)
                    self.assertIn(LOST, err)

    def test_a_mistake_stays_a_mistake(self):
        for way in (dict(out=full), dict(out=left), dict(err=full), dict(err=left), dict(err=hung_up), dict(closed=[2]), dict(closed=[0, 1, 2])):
            for arguments in (["lits"], ["list", "--jsn"], ["run", "nothing"], ["sweep"]):
                with self.subTest(arguments=arguments, way=way):
                    self.assertEqual(self.call(*arguments, **way)[0], 2)

    def test_nothing_hears(self):
        for arguments in self.VERBS:
            for way in (dict(out=full, err=full), dict(out=left, err=left), dict(closed=[0, 1, 2])):
                with self.subTest(arguments=arguments, way=way):
                    self.assertEqual(self.call(*arguments, **way)[0], 1)

    def test_a_failed_run_stays_a_failed_run(self):
        for way in (dict(err=full), dict(err=left), dict(closed=[0, 2])):
            self.assertEqual(self.call("run", "ping_pong", "--set", "rounds=10000000", "--mem-limit", "1", **way)[0], 1)

    def test_what_a_sweep_prints_at_its_end_is_a_result(self):
        for more in ([], ["--json"]):
            for way in (dict(out=full), dict(out=left), dict(closed=[1])):
                with self.subTest(more=more, way=way):
                    code, _, err = self.sweep(*more, **way)
                    self.assertEqual(code, 1, err)
                    self.assertIn(LOST, err)
                    self.assertEqual([record["status"] for record in self.records()], ["ok"] * 4)

    def test_a_slow_reader_gets_everything(self):
        reading, writing = os.pipe()
        os.set_blocking(writing, False)  # as a program that shares the terminal may leave it
        process = subprocess.Popen([GEARBOX, "options"], stdin=subprocess.DEVNULL, stdout=writing, stderr=subprocess.PIPE, env=self.environment)
        os.close(writing)
        time.sleep(0.5)  # let the pipe run full; without it the test shows less, and does not fail
        with open(reading) as pipe:
            text = pipe.read()
        _, err = process.communicate(timeout=120)
        self.assertEqual((process.returncode, err), (0, b""))
        self.assertEqual(text, self.call("options")[1])


class Analysis(Case):
    def test_its_verbs_say_that_their_output_is_lost(self):
        self.assertEqual(self.sweep()[0], 0)
        self.environment["GEARBOX_PYTHON"] = os.environ.get("GEARBOX_PYTHON", "/usr/bin/python3")
        run = self.run_folders()[-1]
        for arguments in (["table", run], ["analyze", run, "--json"]):
            self.assertEqual(self.call(*arguments)[0], 0)
            for way in (dict(out=full), dict(out=left), dict(closed=[1])):
                with self.subTest(arguments=arguments, way=way):
                    code, _, err = self.call(*arguments, **way)
                    self.assertEqual(code, 1, err)
                    self.assertIn(LOST, err)
                    self.assertNotIn("Traceback", err)
                    self.assertNotIn("Exception ignored", err)


class StandardError(Case):
    def check_all_is_there(self):
        self.assertEqual([(record["seq"], record["status"]) for record in self.records()], [(seq, "ok") for seq in range(4)])
        self.assertIn("ended", json.loads((self.run_folders()[-1] / "manifest.json").read_text()))

    def test_a_sweep_goes_on_and_says_late_what_nobody_saw(self):
        for way in (dict(err=full), dict(err=left), dict(err=hung_up), dict(closed=[2])):
            for more in ([], ["--json"]):
                with self.subTest(way=way, more=more):
                    code, out, _ = self.sweep(*more, **way)
                    self.assertEqual(code, 0)
                    self.check_all_is_there()
                    if not more:
                        manifest = json.loads((self.run_folders()[-1] / "manifest.json").read_text())
                        self.assertIn("could not be written", manifest["progress_lost"])
                        self.assertIn("standard error could not be written", out)
        code, _, _ = self.sweep()
        self.assertEqual(code, 0)
        self.assertNotIn("progress_lost", json.loads((self.run_folders()[-1] / "manifest.json").read_text()))

    def test_failed_cells_stay_the_code(self):
        self.experiment.write_text(EXPERIMENT.replace("rounds = 500", "rounds = 10000000") + "[run]\nmem_limit_mb = 1\n")
        for way in (dict(), dict(err=full), dict(err=left), dict(closed=[2])):
            code, _, err = self.sweep(**way)
            self.assertEqual((code, len(self.records())), (1, 4), err)

    def test_descriptors_that_are_closed_at_the_start_take_no_text_into_a_record(self):
        for closed in itertools.chain.from_iterable(itertools.combinations((0, 1, 2), count) for count in (1, 2, 3)):
            with self.subTest(closed=closed):
                code, _, err = self.sweep(closed=closed)
                self.assertEqual(code, 1 if 1 in closed else 0, err)
                self.check_all_is_there()
                run = self.run_folders()[-1]
                for name in ("plan.jsonl", "cells.jsonl"):
                    self.assertEqual(len((run / name).read_text().splitlines()), 4, name)
                json.loads((run / "manifest.json").read_text())
                self.assertEqual((run / "experiment.toml").read_text(), self.experiment.read_text())

    def test_a_terminal_that_is_closed_stops_the_sweep_between_two_cells(self):
        master, terminal = pty.openpty()

        def own_the_terminal():
            os.setsid()
            import fcntl
            import termios
            fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)

        process = subprocess.Popen([GEARBOX, "sweep", str(self.experiment), "--blocks", "200", "--out", str(self.folder / "results")], stdin=terminal,
                                   stdout=terminal, stderr=terminal, env=self.environment, preexec_fn=own_the_terminal)
        self.addCleanup(process.kill)
        os.close(terminal)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            os.read(master, 4096)  # what the terminal shows; until some records are there
            if self.run_folders() and (self.run_folders()[-1] / "cells.jsonl").exists() and len(self.records()) >= 2:
                break
        os.close(master)
        self.assertEqual(process.wait(timeout=120), 130)
        self.assertTrue(all(record["status"] == "ok" for record in self.records()))
        code, out, err = self.call("resume", self.run_folders()[-1], "--json")
        self.assertEqual(code, 0, err)
        self.assertEqual(json.loads(out)["ok"], 400, err)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
