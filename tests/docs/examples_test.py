"""Every command that README, docs/ and the help texts show is understood; those that are over within two seconds are run.

Usage: examples_test.py <source dir> <build dir>.
"""
import os
import pathlib
import shlex
import subprocess
import sys
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import examples  # noqa: E402  (needs the line above)

SOURCE, BUILD = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]).resolve()
GEARBOX = str(BUILD / "gearbox-bin")
ENVIRONMENT = {**os.environ, "GEARBOX_ROOT": str(SOURCE), "PYTHONPATH": str(SOURCE / "harness"), "PYTHONDONTWRITEBYTECODE": "1"}
# Made by the reader of a page: adding_a_gear_test.py builds the first two and checks their commands; the third is README's program.
MADE_BY_READERS = {"lifo": "schedulers", "newest_first": "experiments", "list_of_numbers": "workloads"}
SCRIPT_HELP = {"test": ["bash", "gearbox", "test", "--help"], "bench": ["bash", "gearbox", "bench", "--help"],
               "peers": [sys.executable, "-m", "analysis.peers", "--help"]}


def said(*command):
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120, env=ENVIRONMENT, cwd=SOURCE)


class Examples(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.helps = {}
        for verb in ("", *examples.VERBS):
            command = SCRIPT_HELP.get(verb, [GEARBOX, *filter(None, [verb]), "--help"])
            done = said(*command)
            assert done.returncode == 0 and done.stdout, (command, done)
            cls.helps[verb] = done.stdout
        cls.commands = {}
        for path in [SOURCE / "README.md", SOURCE / "CONTRIBUTING.md", *sorted((SOURCE / "docs").glob("*.md"))]:
            cls.commands[path.name] = examples.in_document(path)
        for verb, text in cls.helps.items():
            cls.commands[f"gearbox {verb} --help"] = examples.in_help(text)

    def each(self):
        for place, commands in self.commands.items():
            for words in commands:
                if not any(made in word for made in MADE_BY_READERS for word in words):
                    yield self.subTest(place=place, command=shlex.join(words)), words

    def test_there_are_some(self):
        """A reader that finds nothing finds no mistake."""
        for place, least in (("README.md", 9), ("ADDING_A_GEAR.md", 10), ("HACKING.md", 5), ("gearbox run --help", 4), ("gearbox sweep --help", 3),
                             ("gearbox  --help", 2)):
            self.assertGreaterEqual(len(self.commands[place]), least, f"{place}: {self.commands[place]}")
        for name, room in MADE_BY_READERS.items():
            self.assertEqual(list((SOURCE / room).glob(f"{name}.*")), [], f"{name} is a member: its examples can be checked here")

    def test_each_is_understood(self):
        for place, words in self.each():
            with place:
                examples.check(self, GEARBOX, words, env=ENVIRONMENT, cwd=SOURCE)
                for option in (word.split("=")[0] for word in words if word.startswith("--") and not word.startswith("--benchmark_")):
                    self.assertIn(option, self.helps[words[0]], f"`gearbox {words[0]} --help` knows no {option}")
                if words[0] == "test":
                    presets = [after for before, after in zip(words, words[1:]) if before == "--preset"]
                    self.assertTrue(all(preset in examples.PRESETS for preset in presets), presets)

    def test_those_that_are_soon_over_end_well(self):
        for place, words in self.each():
            if words[0] not in ("run", "doctor", "list", "describe", "options"):
                continue
            process = subprocess.Popen([GEARBOX, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL, env=ENVIRONMENT,
                                       cwd=SOURCE)
            try:
                out, err = process.communicate(timeout=2)
            except subprocess.TimeoutExpired:  # not soon over; the test above has read it
                process.kill()
                process.communicate()
                continue
            with place:
                self.assertEqual(process.returncode, 0, out[-2000:] + err[-2000:])

    def test_wrong_ones_are_found(self):
        for text in ("  gearbox run skynet --set size=100000", "  gearbox run skynt", "  gearbox sweep quickstrt", "  gearbox list gears",
                     "  gearbox run ping_pong --sheduler gmp", "  gearbox describe scheduler=gpm"):
            words, = examples.in_help(text)
            with self.assertRaises(AssertionError, msg=text):
                examples.check(self, GEARBOX, words, env=ENVIRONMENT, cwd=SOURCE)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
