"""docs/ADDING_A_GEAR.md works as printed: its scheduler is put into a copy of the tree, built, listed, run and planned with.

Usage: adding_a_gear_test.py <source dir> <build dir>.
"""
import json
import pathlib
import re
import sys
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "house"))
sys.path.insert(0, str(HERE))
import examples  # noqa: E402  (needs the lines above)
from spare_tree import SpareTree  # noqa: E402

SOURCE = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else HERE.parent.parent
BUILD = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else SOURCE / "build" / "release"
# A fence that is a file says so in the line above it.
FILE = re.compile(r"^<!-- file: (\S+) -->\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class AddingAGear(unittest.TestCase):
    def test_the_example_builds_and_runs(self):
        files = dict(FILE.findall((SOURCE / "docs" / "ADDING_A_GEAR.md").read_text(encoding="utf-8")))
        gears = [path for path in files if path.startswith("schedulers/")]
        self.assertEqual(len(gears), 1, "the page shows one scheduler, in one file")
        name = pathlib.PurePath(gears[0]).stem
        self.assertFalse((SOURCE / gears[0]).exists(), f"{gears[0]} is a member already: the example needs another name")
        with SpareTree(SOURCE, BUILD) as tree:
            for path, text in files.items():
                tree.add(path, text)
            tree.build()
            self.assertIn(name, [gear["name"] for gear in json.loads(tree.gearbox("list", "schedulers", "--json"))["schedulers"]])
            self.assertIn("options", json.loads(tree.gearbox("describe", f"scheduler={name}", "--json")))
            for workload, procs, extra in [("ping_pong", "1", ["rounds=1000"]), ("ping_pong", "2", ["rounds=1000", "pairs=4"]),
                                           ("skynet", "2", ["leaves=1000"])]:
                settings = [word for setting in extra for word in ("--set", setting)]
                record = json.loads(tree.gearbox("run", workload, "--scheduler", name, "--poller", "null", "--procs", procs,
                                                 "--timeout", "60", "--json", *settings))
                self.assertEqual(record["status"], "ok", record["reason"])
                self.assertEqual(record["combo"]["scheduler"], name)
            commands = examples.in_document(SOURCE / "docs" / "ADDING_A_GEAR.md")
            self.assertTrue(any(name in word for words in commands for word in words), commands)
            for words in commands:  # as printed, to the point where their work would begin
                if parsed := examples.without_work(words):
                    tree.gearbox(*parsed)
            for path in files:
                if path.startswith("experiments/"):
                    plan = tree.gearbox("sweep", path, "--dry-run", "--json").splitlines()
                    self.assertTrue(any(json.loads(line)["combo"]["scheduler"] == name for line in plan))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
