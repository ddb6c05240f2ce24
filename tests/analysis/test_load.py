"""Reading records: what is tolerated, what is refused, and that a refusal is one line with a place and exit code 2."""
import contextlib
import io
import json
import os
import random
import subprocess
import sys
import tempfile
import unittest

from . import synthetic
from analysis import __main__ as command
from analysis import jsonout, load, table
from analysis.study import Study


class WithRun(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.run_dir = synthetic.write_run(os.path.join(folder.name, "run"), workloads=("ping_pong",), blocks=2, samples=0)

    def path(self, name):
        return os.path.join(self.run_dir, name)

    def lines(self):
        with open(self.path("cells.jsonl")) as file:
            return file.read().splitlines()

    def write_cells(self, text):
        """Records of a run that was killed: no mark in the manifest holds them."""
        with open(self.path("cells.jsonl"), "w") as file:
            file.write(text)
        synthetic.seal(self.run_dir, ended=False)

    def call(self, *arguments):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = command.main(list(arguments))
            except SystemExit as stop:
                code = stop.code
        return code, out.getvalue(), err.getvalue()

    def refused(self, *expected):
        code, _, err = self.call("table", self.run_dir)
        self.assertEqual(code, 2, err)
        self.assertEqual(err.count("\n"), 1, err)
        self.assertNotIn("Traceback", err)
        for part in expected:
            self.assertIn(part, err)


class Tolerated(WithRun):
    def test_truncated_last_line(self):
        lines = self.lines()
        self.write_cells("\n".join(lines[:-1]) + "\n" + lines[-1][:100])
        run = load.load(self.run_dir)
        self.assertEqual(len(run.cells), len(lines) - 1)
        self.assertEqual(run.not_run, 1)
        self.assertIn("incomplete", run.notes[0])

    def test_last_line_that_lacks_only_its_newline(self):
        self.write_cells("\n".join(self.lines()))
        self.assertEqual(load.load(self.run_dir).not_run, 0)

    def test_the_attempt_after_one_that_did_not_begin_counts(self):
        lines = self.lines()
        first = json.loads(lines[0])
        again = {**first, "attempt": 2, "metrics": [{"name": "throughput", "unit": "round trips/s", "better": "higher", "value": 7.0}]}
        self.write_cells("\n".join([json.dumps(synthetic.fail(first, "infra", "no folder"))] + lines[1:] + [json.dumps(again)]) + "\n")
        cell = next(cell for cell in load.load(self.run_dir).cells if cell.seq == first["seq"])
        self.assertEqual((cell.value, cell.attempts), (7.0, 2))

    def test_failed_cells_stay(self):
        record = synthetic.fail(json.loads(self.lines()[0]), "timeout", "no answer within 60 s")
        self.write_cells("\n".join([json.dumps(record)] + self.lines()[1:]) + "\n")
        run = load.load(self.run_dir)
        self.assertEqual([cell.status for cell in run.failures], ["timeout"])
        text = table.text(Study(run))
        self.assertIn("no answer within 60 s", text)
        self.assertIn("unreliable: 1/2", text)

    def test_experiment_directory_is_followed_to_its_latest_run(self):
        os.symlink("run", os.path.join(os.path.dirname(self.run_dir), "latest"))
        self.assertEqual(load.load(os.path.dirname(self.run_dir)).manifest["experiment"], "synthetic")


class Refused(WithRun):
    def test_no_such_directory_names_the_nearest(self):
        code, _, err = self.call("table", self.run_dir[:-1] + "m")
        self.assertEqual(code, 2)
        self.assertIn("did you mean 'run'?", err)

    def test_missing_manifest(self):
        os.remove(self.path("manifest.json"))
        self.refused("manifest.json: missing")

    def test_missing_plan(self):
        os.remove(self.path("plan.jsonl"))
        self.refused("plan.jsonl: missing")

    def test_invalid_json_in_the_middle(self):
        lines = self.lines()
        self.write_cells("\n".join(lines[:3] + ['{"seq": 3,'] + lines[4:]) + "\n")
        self.refused("cells.jsonl:4", "invalid JSON")

    def test_nan_and_overflow(self):
        for number in ("NaN", "-Infinity", "1e999"):
            lines = self.lines()
            record = json.loads(lines[1])
            record["metrics"][0]["value"] = "@"
            self.write_cells("\n".join([lines[0], json.dumps(record).replace('"@"', number)] + lines[2:]) + "\n")
            self.refused("cells.jsonl:2", number)
            self.write_cells("\n".join(lines) + "\n")

    def test_wrong_schema(self):
        lines = self.lines()
        self.write_cells("\n".join([lines[0].replace('"schema": 2', '"schema": 9')] + lines[1:]) + "\n")
        self.refused("cells.jsonl:1", "field 'schema' is 9; it should be 2")

    def test_wrong_types_and_unknown_status(self):
        record = json.loads(self.lines()[0])
        for change, expected in (({"seq": "x"}, "field 'seq' is \"x\""), ({"status": "okay"}, "did you mean 'ok'?"), ({"seq": 9999}, "the seq of a planned cell"),
                                 ({"combo": {}}, "names the four gears"), ({"metrics": 5}, "it should be a list"), ({"rusage": []}, "it should be an object")):
            self.write_cells(json.dumps({**record, **change}) + "\n" + self.lines()[1] + "\n")
            self.refused("cells.jsonl:1", expected)
            synthetic.write_lines(self.path("cells.jsonl"), [record, record])

    def test_bad_experiment_file(self):
        with open(self.path("experiment.toml"), "w") as file:
            file.write("[analysis]\nalpha = 3\n")
        synthetic.seal(self.run_dir)
        self.refused("experiment.toml", "alpha")

    def test_not_utf8(self):
        with open(self.path("cells.jsonl"), "wb") as file:
            file.write(b"\xff\xfe\n")
        synthetic.seal(self.run_dir, ended=False)
        self.refused("cells.jsonl", "UTF-8")


class Mutations(WithRun):
    def test_no_mutation_of_a_record_ends_in_a_traceback(self):
        """Whatever one field is replaced by, the answer is a result or one line; never an exception of another kind."""
        rng = random.Random(20261123)
        junk = [None, 0, -1, 1.5, "", "x", [], [None], [[1, 2, 3]], {}, {"a": 1}, True, 10**30]
        source = {}
        for name in ("manifest.json", "plan.jsonl", "cells.jsonl"):
            with open(self.path(name)) as file:
                source[name] = file.read()
        refused = 0
        for _ in range(240):
            name = rng.choice(sorted(source))
            records = [json.loads(text) for text in ([source[name]] if name == "manifest.json" else source[name].splitlines())]
            holder, key = rng.choice(list(places(rng.choice(records))))
            if rng.random() < 0.3:
                del holder[key]
            else:
                holder[key] = rng.choice(junk)
            synthetic.write_lines(self.path(name), records)
            if isinstance(records[0], dict) and rng.random() < 0.5:  # half of them reach what the hashes would have stopped
                self.seal_if_possible()
            try:
                study = Study(load.load(self.run_dir))
                table.text(study)
                jsonout.dumps(command.facts(study))
            except load.BadInput as error:
                self.assertNotIn("\n", str(error))
                refused += 1
            for name, text in source.items():
                with open(self.path(name), "w") as file:
                    file.write(text)
        self.assertTrue(0 < refused < 240, refused)

    def seal_if_possible(self):
        with open(self.path("manifest.json")) as file:
            if isinstance(json.load(file), dict):
                synthetic.seal(self.run_dir)


class MutationsOfSchema3(Mutations):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        factors = {**synthetic.FACTORS, "allocator": ["size_class"], "poller": ["epoll"]}
        self.run_dir = synthetic.write_run(os.path.join(folder.name, "run"), workloads=("ping_pong", "echo"), blocks=4, samples=0, factors=factors,
                                           more={"procs": ["2", "4"], "param.rounds": ["100", "200"]}, of={"rounds": ("echo",)}, budget=(9.0, 3.0))


def places(value):
    """(container, key) of every field in a record, a few entries deep into lists."""
    items = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, inner in list(items):
        yield value, key
        yield from places(inner)


class CommandLine(WithRun):
    def test_unknown_names_get_the_nearest_match(self):
        code, _, err = self.call("tabel", self.run_dir)
        self.assertEqual((code, "did you mean 'table'?" in err), (2, True))
        code, _, err = self.call("plot", self.run_dir, "--only", "pauzes")
        self.assertEqual((code, "did you mean 'pauses'?" in err), (2, True))

    def test_help_of_every_verb(self):
        for verb in command.VERBS:
            code, out, _ = self.call(verb, "--help")
            self.assertEqual(code, 0)
            self.assertIn("--json", out)

    def test_help_lists_the_plots_there_are(self):
        from analysis import plots
        self.assertEqual(command.PLOT_NAMES, tuple(plots.PLOTS))

    def test_json_is_json_and_has_no_nan(self):
        for arguments in (("table", self.run_dir), ("analyze", self.run_dir), ("compare", self.run_dir, self.run_dir)):
            code, out, err = self.call(*arguments, "--json")
            self.assertEqual(code, 0, err)
            json.loads(out, parse_constant=lambda text: self.fail(f"{text} in JSON"))

    def test_table_fits_a_terminal(self):
        for verb in (("table", self.run_dir), ("compare", self.run_dir, self.run_dir)):
            _, out, _ = self.call(*verb)
            self.assertLessEqual(max(map(len, out.splitlines())), table.WIDTH)

    def test_compare_finds_a_change_and_names_hidden_dimensions(self):
        truth = synthetic.Truth(effects={**synthetic.EFFECTS, ("poller", "epoll"): {"*": 0.5}})
        other = synthetic.write_run(self.run_dir + "2", truth, ("ping_pong",), blocks=6, seed=8, samples=0)
        before = synthetic.write_run(self.run_dir + "1", workloads=("ping_pong",), blocks=3, samples=0)
        _, out, _ = self.call("compare", before, other)
        self.assertIn("differs: seed: 1 -> 8", out)
        self.assertIn("faster: x1.", out)
        self.assertNotIn("slower", out)

    def test_ctrl_c_after_the_work_does_not_undo_it(self):
        """It comes while the interpreter takes itself down: Python has given SIGINT back to the kernel by then."""
        program = ("import os, runpy, signal, sys\n"
                   "class Late:\n  def __del__(self, kill=os.kill, own=os.getpid(), number=signal.SIGINT): kill(own, number)\n"
                   f"late = Late()\nsys.argv = ['analysis', 'table', {self.run_dir!r}]\nrunpy.run_module('analysis', run_name='__main__')\n")
        harness = os.path.join(os.path.dirname(__file__), "..", "..", "harness")
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": harness})
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("ping_pong", done.stdout)

    def test_two_ctrl_c_at_once_are_one_line(self):
        """A terminal's and the one that the front door hands on: the second comes while the first is answered."""
        program = ("import os, signal\nfrom analysis import interrupts\nwrite, left = os.write, [1]\n"
                   "def written(*what):\n  write(*what)\n  if left: left.pop(); signal.raise_signal(signal.SIGINT)\n"
                   "os.write = written\ninterrupts.end_quietly('interrupted')\nsignal.raise_signal(signal.SIGINT)\n")
        harness = os.path.join(os.path.dirname(__file__), "..", "..", "harness")
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": harness})
        self.assertEqual((done.returncode, done.stderr), (130, "analysis: interrupted\n"))

    def test_numbers_that_json_cannot_hold_become_null(self):
        import numpy as np
        text = jsonout.dumps({"a": float("nan"), "b": [np.float64("inf"), np.int64(3)], "c": np.array([1.0, np.nan]), "d": np.bool_(True)})
        self.assertEqual(json.loads(text), {"a": None, "b": [None, 3], "c": [1.0, None], "d": True})


if __name__ == "__main__":
    unittest.main()
