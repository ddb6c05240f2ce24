"""What leaves a run can be read back: CSV, Go's benchmark format, Google Benchmark's JSON, tables for a paper, pandas frames."""
import contextlib
import csv
import importlib
import io
import json
import math
import os
import re
import subprocess
import sys
import unittest
import urllib.parse

from .test_factors import WithFolder
from analysis import __main__ as command
from analysis import export, grid, load, rows
from analysis.study import Study

PYTHON = os.path.join(os.path.dirname(__file__), "..", "..", "python")
FAILURES = {("echo", "global_queue", 1): ("timeout", "no answer\nwithin 60 s")}
HOW = {"workloads": ("binary_trees", "echo", "timers"), "blocks": 3, "failures": FAILURES, "params": ({"rounds": 5}, {"rounds": 7})}


def read_benchfmt(text):
    """(results, units, failures, keys) by the rules of golang.org/design/14313-benchmark-format and of benchfmt's Unit lines."""
    results, units, failures, keys = [], {}, [], {}
    for line in text.splitlines():
        if line.startswith("Unit "):
            _, unit, *pairs = line.split(" ")
            units[unit] = dict(pair.split("=", 1) for pair in pairs)
        elif line.startswith("Benchmark"):
            name, iterations, *values = line.split()
            assert iterations == "1" and not name[len("Benchmark")].islower() and len(values) % 2 == 0, line
            results.append((name, dict(keys), {values[i + 1]: float(values[i]) for i in range(0, len(values), 2)}))
        elif line.startswith("--- FAIL: "):
            failures.append(line)
        else:
            key, value = re.fullmatch(r"([a-z][^A-Z\s:]*): (.+)", line).groups()
            keys[key] = value
    return results, units, failures, keys


class Exports(WithFolder):
    def setUp(self):
        super().setUp()
        self.run = load.load(self.run_dir(**HOW))

    def test_csv_has_every_invocation_and_every_number(self):
        table = list(csv.DictReader(io.StringIO(export.text(self.run, "csv"))))
        self.assertEqual(len(table), len(self.run.cells))
        for row, cell in zip(table, self.run.cells):
            self.assertEqual((int(row["seq"]), int(row["block"]), int(row["replicate"]), row["status"]), (cell.seq, cell.block, cell.replicate, cell.status))
            self.assertEqual(tuple(row[factor] or None for factor in self.run.factors.names), cell.treatment)
            self.assertEqual(float(row["value"]) if row["value"] else None, cell.value)
            self.assertEqual(row["param.rounds"], str(cell.record["params"]["rounds"]))
            for metric in cell.record["metrics"]:
                self.assertEqual(float(row["metric:" + metric["name"]]), metric["value"])
            for name, value in cell.record["counters"].items():
                self.assertEqual(float(row["counter:" + name]), value)

    def test_benchfmt_comes_back(self):
        results, units, failures, keys = read_benchfmt(export.text(self.run, "benchfmt"))
        ok = [cell for cell in self.run.cells if cell.ok]
        self.assertEqual((len(results), len(failures)), (len(ok), len(self.run.failures)))
        self.assertGreater(len(failures), 0)
        self.assertIn(": timeout: no answer within 60 s", failures[0])
        self.assertEqual((keys["host"], keys["build"], keys["run"]), ("synthetic", "0123456789abcdef", self.run.manifest["run_id"]))
        for (name, _, values), cell in zip(results, ok):
            workload, *settings = re.sub(r"-\d+$", "", name).split("/")
            self.assertEqual(workload[9].lower() + workload[10:], cell.workload)
            levels = dict(urllib.parse.unquote(piece).split("=", 1) for piece in settings)
            self.assertEqual(levels.pop("rounds"), str(cell.record["params"]["rounds"]))  # what tells the work items apart
            self.assertEqual(levels, self.run.factors.named(cell.treatment))
            self.assertEqual(int(name.rsplit("-", 1)[1]), cell.procs)
            back = {urllib.parse.unquote(units[unit]["metric"]): (value, urllib.parse.unquote(units[unit]["unit"]), units[unit]["better"]) for unit, value in values.items()}
            self.assertEqual(back, {metric["name"]: (metric["value"], metric["unit"], metric["better"]) for metric in cell.record["metrics"]})
        self.assertEqual({unit["assume"] for unit in units.values()}, {"nothing"})

    def test_gbench_comes_back(self):
        read = json.loads(export.text(self.run, "gbench"), parse_constant=lambda text: self.fail(text))
        self.assertEqual(read["context"]["host_name"], "synthetic")
        ok = [cell for cell in self.run.cells if cell.ok]
        # compare.py takes the time of an entry with error_occurred for 0: what failed would win
        self.assertEqual(len(read["benchmarks"]), len(ok))
        self.assertEqual([(failure["seq"], failure["status"]) for failure in read["context"]["failures"]], [(cell.seq, cell.status) for cell in self.run.failures])
        self.assertGreater(len(self.run.failures), 0)
        repetitions = {}
        first = {}
        for cell in ok:  # the repetitions of a name follow one another
            first.setdefault((cell.work, cell.treatment), len(first))
        for entry, cell in zip(read["benchmarks"], sorted(ok, key=lambda cell: first[cell.work, cell.treatment])):
            self.assertGreater(entry["real_time"], 0)
            self.assertEqual((entry["run_type"], entry["time_unit"], entry["threads"]), ("iteration", "ns", cell.procs))
            repetitions.setdefault((entry["name"], entry["repetitions"]), []).append(entry["repetition_index"])
            levels = dict(urllib.parse.unquote(piece).split("=", 1) for piece in entry["name"].split("/")[1:])
            self.assertEqual({**levels, "rounds": None}, {**self.run.factors.named(cell.treatment), "rounds": None})
            self.assertTrue(math.isclose(entry["real_time"], 1e9 / cell.value if cell.metric == "throughput" else cell.value))
            self.assertTrue(math.isclose(entry["cpu_time"], 1e9 * load.metric_value(cell.record, "cpu")))
        for (_, count), indices in repetitions.items():
            self.assertEqual(indices, list(range(count)))

    def test_names_hold_no_character_that_another_tool_takes_apart(self):
        for text, quoted in (("a b", "a%20b"), ("a/b", "a%2Fb"), ("50%", "50%25"), ("gmp:runnext=off,steal=one", "gmp:runnext=off,steal=one"), ("ä", "%C3%A4")):
            self.assertEqual(export._quoted(text), quoted)
            self.assertEqual(urllib.parse.unquote(quoted), text)

    def test_one_unit_is_one_metric_with_one_direction(self):
        for index, cell in enumerate(self.run.cells):
            if cell.workload == "echo":
                for metric in cell.record["metrics"]:
                    if metric["name"] == "wall":
                        metric["better"] = "higher"
        _, units, _, _ = read_benchfmt(export.text(self.run, "benchfmt"))
        self.assertEqual({units[unit]["better"] for unit in units if unit.endswith("wall-sec")}, {"higher", "lower"})

    def test_a_metric_called_like_a_column_is_kept(self):
        for cell in self.run.cells:
            cell.record["metrics"].append({"name": "block", "unit": "", "better": "lower", "value": 77.0})
        row = rows.metrics(self.run)[0]
        self.assertEqual((row["block"], row["metric.block"]), (self.run.cells[0].block, 77.0))
        self.assertIn("metric:block", export.text(self.run, "csv").splitlines()[0])


class Calls(WithFolder):
    def call(self, *arguments):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = command.main(list(arguments))
        return code, out.getvalue(), err.getvalue()

    def test_formats_and_their_refusals(self):
        run_dir = self.run_dir(blocks=2, more={"procs": ["2", "4"]})
        for format in export.FORMATS:
            self.assertEqual(self.call("export", run_dir, "--format", format)[0::2], (0, ""))
        for arguments, said in ((("export", run_dir), "say which format with --format, one of csv, benchfmt, gbench"),
                                (("export", run_dir, "--format", "bnchfmt"), "did you mean 'benchfmt'?"), (("table", run_dir, "--format", "latx"), "did you mean 'latex'?"),
                                (("export", run_dir, "--format", "csv", "--json"), "are two formats"), (("table", run_dir, "--format", "csv", "--json"), "are two formats")):
            code, out, err = self.call(*arguments)
            self.assertEqual((code, out, err.count("\n")), (2, "", 1))
            self.assertIn(said, err)
        found = json.loads(self.call("export", run_dir, "--json")[1])
        self.assertEqual(set(found), {"cells", "metrics", "counters", "units"})

    def test_a_run_that_has_not_begun(self):
        run_dir = self.run_dir(blocks=1)
        os.remove(os.path.join(run_dir, "cells.jsonl"))
        from . import synthetic
        synthetic.seal(run_dir, ended=False)
        for format in export.FORMATS:
            self.assertEqual(self.call("export", run_dir, "--format", format)[0::2], (0, ""))


class Tables(WithFolder):
    def setUp(self):
        super().setUp()
        self.study = Study(load.load(self.run_dir(**HOW)))
        self.items = self.study.comparisons

    def test_csv(self):
        table = list(csv.DictReader(io.StringIO(grid.text(self.study, "csv"))))
        self.assertEqual(len(table), len(self.items))
        for row, item in zip(table, self.items):
            self.assertEqual((row["workload"], row["verdict"], int(row["n"]), int(row["failed"])), (item.work, item.verdict, item.ok, item.failed))
            self.assertEqual(tuple(row[factor] or None for factor in self.study.run.factors.names), item.treatment)
            if item.ratio:
                found = [float(row[name]) if row[name] else None for name in ("speed", "speed_low", "speed_high", "p")]  # no interval below three blocks
                self.assertEqual(found, [item.ratio.ratio, item.ratio.low, item.ratio.high, item.ratio.p])

    def test_markdown(self):
        text = grid.text(self.study, "markdown")
        body = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| combination")]
        self.assertEqual(len(body), len(self.items))
        for line, item in zip(body, self.items):
            cells = [cell.strip().replace("\\_", "_") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            self.assertEqual((len(cells), cells[0], cells[1], cells[-1]), (len(grid.HEADINGS), self.study.run.short(item.treatment), str(item.ok), item.verdict))

    def test_latex(self):
        text = grid.text(self.study, "latex")
        rows_found = [line for line in text.splitlines() if line.endswith(r" \\") and not line.startswith("combination")]
        self.assertEqual(len(rows_found), len(self.items))
        self.assertTrue(all(line.count(" & ") == len(grid.HEADINGS) - 1 for line in rows_found))
        self.assertNotRegex(text.split("\n", 1)[1], r"(?<!\\)[_%#]")  # each would be a command
        for environment in ("table", "tabular"):
            self.assertEqual(text.count(rf"\begin{{{environment}}}"), text.count(rf"\end{{{environment}}}"))


class Package(WithFolder):
    @classmethod
    def setUpClass(cls):
        sys.path.insert(0, PYTHON)
        cls.addClassCleanup(sys.path.remove, PYTHON)
        try:
            import pandas  # noqa: F401
        except ImportError:
            raise unittest.SkipTest("pandas is missing (Debian: python3-pandas)") from None

    def load(self, **how):
        return importlib.import_module("gearbox").load(self.run_dir(**{**HOW, **how}))

    def test_frames_have_a_row_an_invocation(self):
        run, ours = self.load(), load.load(os.path.join(self.folder, "run"))
        for frame in (run.cells, run.metrics, run.counters):
            self.assertEqual(list(frame["seq"]), [cell.seq for cell in ours.cells])
            for index, factor in enumerate(ours.factors.names):
                self.assertEqual([None if level != level else level for level in frame[factor]], [cell.treatment[index] for cell in ours.cells])
        values = run.cells["value"]
        self.assertEqual([None if value != value else value for value in values], [cell.value for cell in ours.cells])
        self.assertEqual((run.cells.status == "timeout").sum(), len(ours.failures))
        self.assertEqual(run.metrics["throughput"].count(), sum(cell.ok and cell.metric == "throughput" for cell in ours.cells))
        self.assertEqual(set(run.counters["scheduler.steals"]), {12})
        self.assertEqual(set(run.units.columns), {"workload", "metric", "unit", "better", "headline"})

    def test_groups_come_baseline_first(self):
        run = self.load()
        medians = run.cells[run.cells.workload == "binary_trees"].groupby("procs")["value"].median()
        self.assertEqual(list(medians.index), ["2", "4"])
        self.assertEqual(list(run.against("procs=4").cells.groupby("procs")["value"].median().index), ["4", "2"])
        self.assertEqual((run.factors["procs"], run.baseline["procs"], run.against("procs=4").baseline["procs"]), (["2", "4"], "2", "4"))

    def test_a_frame_may_be_changed(self):
        run = self.load()
        frame = run.cells
        frame["value"] = 0
        self.assertGreater(run.cells["value"].max(), 0)

    def test_a_damaged_run_is_refused_with_the_same_sentence(self):
        gearbox = importlib.import_module("gearbox")
        run_dir = self.run_dir(blocks=1)
        os.remove(os.path.join(run_dir, "plan.jsonl"))
        with self.assertRaisesRegex(gearbox.BadInput, "plan.jsonl: missing"):
            gearbox.load(run_dir)
        with self.assertRaisesRegex(gearbox.BadInput, "did you mean"):
            self.load().against("porcs=4")

    def test_without_pandas_it_says_what_is_missing(self):
        program = f"import sys; sys.modules['pandas'] = None\nimport gearbox\nrun = gearbox.load({self.run_dir(blocks=1)!r})\nprint(run.baseline['procs'])\nrun.cells"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": PYTHON})
        self.assertEqual(done.stdout, "2\n", done.stderr)
        self.assertIn("frames need pandas, which is missing; on Debian: apt-get install python3-pandas", done.stderr)

    def test_the_name_analysis_stays_free(self):
        done = subprocess.run([sys.executable, "-c", "import sys, gearbox; print('analysis' in sys.modules, 'pandas' in sys.modules)"], capture_output=True, text=True,
                              env={**os.environ, "PYTHONPATH": PYTHON})
        self.assertEqual(done.stdout, "False False\n", done.stderr)


if __name__ == "__main__":
    unittest.main()
