"""The program in README.md is C++ that this tree accepts.

Usage: readme_test.py <source dir> [<build dir>].
"""
import pathlib
import re
import subprocess
import sys
import unittest

SOURCE = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parent.parent.parent


class Readme(unittest.TestCase):
    def test_the_sample_compiles(self):
        samples = re.findall(r"^```cpp\n(.*?)^```$", (SOURCE / "README.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
        self.assertTrue(samples, "README.md shows no program")
        for sample in samples:
            done = subprocess.run(["g++", "-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", f"-I{SOURCE}", "-x", "c++", "-"], input=sample,
                                  capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stderr)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
