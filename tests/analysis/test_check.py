"""Every damage of tests/harness/corruptions.json is refused with its sentence, and what a run may legally look like is not."""
import contextlib
import io
import os
import shutil
import sys
import tempfile
import unittest

from . import synthetic
from analysis import __main__ as command
from analysis import check, load

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "harness"))
import corrupting  # noqa: E402

FACTORS = {**synthetic.FACTORS, "allocator": ["size_class"], "collector": ["concurrent"]}


MORE = {"procs": ["2", "4"], "param.rounds": ["100", "200"], "runtime.sysmon": ["on", "off"], "scheduler.runnext": ["on", "off"]}


class Corruptions(unittest.TestCase):
    how = {"blocks": 2}
    kinds = ("refused",)

    @classmethod
    def setUpClass(cls):
        cls.shared = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.shared.cleanup)
        how = {"workloads": ("gc_latency", "echo"), "factors": FACTORS, "samples": 200, **cls.how}
        cls.source = synthetic.write_run(os.path.join(cls.shared.name, "run"), **how)
        # the same experiment, run with another seed on another day
        cls.other = synthetic.write_run(os.path.join(cls.shared.name, "other"), seed=2, **how)
        for name in ("cells.jsonl", "manifest.json"):
            path = os.path.join(cls.other, name)
            with open(path) as file:
                text = file.read().replace(synthetic.RUN_ID, "20261124-000000-0001")
            with open(path, "w") as file:
                file.write(text)
        synthetic.seal(cls.other)

    def damaged(self, entry):
        folder = tempfile.mkdtemp(dir=self.shared.name)
        run = os.path.join(folder, "run")
        shutil.copytree(self.source, run)
        corrupting.prepare(run, entry.get("base", "finished"))
        corrupting.corrupt(run, entry["do"], self.other)
        return run

    def test_each_damage_has_its_sentence(self):
        refused = [entry for kind in self.kinds for entry in corrupting.entries(kind)]
        self.assertGreaterEqual(len(refused), 60)
        self.refuses(refused)

    def refuses(self, refused):
        self.assertEqual(len({entry["name"] for entry in refused}), len(refused))
        for entry in refused:
            with self.subTest(entry["name"]):
                run = self.damaged(entry)
                with self.assertRaises(load.BadInput) as refusal:
                    check.run(run)
                sentence = str(refusal.exception)
                self.assertTrue(sentence.startswith(os.path.join(run, entry["where"])), sentence)
                self.assertNotIn("\n", sentence)
                for part in [entry["says"]] if isinstance(entry["says"], str) else entry["says"]:
                    self.assertIn(part, sentence)

    def test_what_is_legal_is_read(self):
        for entry in corrupting.entries("legal"):
            with self.subTest(entry["name"]):
                run = load.load(self.damaged(entry))
                if "note" in entry:
                    self.assertTrue(any(entry["note"] in note for note in run.notes), run.notes)
                self.assertEqual(run.not_run + len(run.cells), len(run.plan))

    def test_every_verb_refuses_with_one_line_before_it_writes(self):
        run = self.damaged(next(entry for entry in corrupting.entries("refused") if entry["name"] == "better is sideways"))
        before = sorted(os.listdir(run))
        said = set()
        for arguments in [[verb, run] for verb in command.VERBS if command.RUNS.get(verb, 1) == 1] + [["compare", self.source, run], ["compare", run, self.source]]:
            err = io.StringIO()
            with contextlib.redirect_stderr(err):
                self.assertEqual(command.main(arguments), 2)
            said.add(err.getvalue())
        self.assertEqual(len(said), 1, said)
        self.assertEqual(said.pop().count("\n"), 1)
        self.assertEqual(sorted(os.listdir(run)), before)

    def test_the_check_needs_the_standard_library_alone(self):
        """`resume` waits for it: numpy and scipy would take a second."""
        import subprocess
        done = subprocess.run([sys.executable, "-c", "import sys; from analysis import check; print(sorted({'numpy', 'scipy', 'pandas', 'matplotlib'} & set(sys.modules)))"],
                              env={**os.environ, "PYTHONPATH": os.path.join(os.path.dirname(__file__), "..", "..", "harness")}, capture_output=True, text=True, check=True)
        self.assertEqual(done.stdout.strip(), "[]")


class Schema3(Corruptions):
    """A run whose factors are the gears alone: what holds for a run of schema 2 holds for it."""
    how = {"blocks": 2, "more": {}}


class MoreFactors(Corruptions):
    how = {"blocks": 5, "more": MORE, "of": {"rounds": ("gc_latency",)}, "budget": (20.0, 6.0), "samples": 20}
    kinds = ("refused_schema_3",)

    def test_each_damage_has_its_sentence(self):
        refused = corrupting.entries("refused_schema_3")
        self.assertGreaterEqual(len(refused), 35)
        self.refuses(refused)

    def test_what_is_legal_is_read(self):
        run = load.load(self.source)
        self.assertEqual((run.blocks, run.not_run), ([0, 1, 2], 0))


if __name__ == "__main__":
    unittest.main()
