"""A copy of the tree that a test may spoil: built on top of a finished build, whose rooms other than schedulers are taken as they are.

Used by new_member_test.py here and by tests/docs/adding_a_gear_test.py. Building it takes seconds: schedulers/, the list of them, and the link.
"""
import os
import pathlib
import shutil
import subprocess
import tempfile

COPIED = ["CMakeLists.txt", "CMakePresets.json", "cmake", "base", "interfaces", "schedulers", "allocators", "collectors", "pollers",
          "workloads", "runtime", "harness", "experiments"]


class Failed(Exception):
    """A command that had to work did not; the text has what it printed."""


class SpareTree:
    """with SpareTree(source, build) as tree: tree.add("schedulers/x.cc", text); tree.build(); tree.gearbox("list")"""

    def __init__(self, source, build):
        self._source, self._build = pathlib.Path(source), pathlib.Path(build)

    def __enter__(self):
        self._folder = tempfile.TemporaryDirectory(prefix="gearbox-tree-")
        self.path, self._out = pathlib.Path(self._folder.name) / "tree", pathlib.Path(self._folder.name) / "out"
        try:
            self.path.mkdir()
            for name in COPIED:
                source = self._source / name
                if source.is_dir():
                    shutil.copytree(source, self.path / name)
                elif source.exists():
                    shutil.copy2(source, self.path / name)
            cache = (self._build / "CMakeCache.txt").read_text(encoding="utf-8").splitlines()
            preset = next(line.split("=", 1)[1] for line in cache if line.startswith("GEARBOX_PRESET:"))
            self.run("cmake", "-S", self.path, "-B", self._out, "-G", "Ninja", f"-DGEARBOX_PRESET={preset}",
                     f"-DGEARBOX_PREBUILT={self._build.resolve()}", "-DCMAKE_BUILD_TYPE=None")
        except BaseException:
            self._folder.cleanup()
            raise
        return self

    def __exit__(self, *_):
        self._folder.cleanup()

    def add(self, path, text):
        (self.path / path).parent.mkdir(parents=True, exist_ok=True)
        (self.path / path).write_text(text, encoding="utf-8")

    def attempt(self, *command):
        """Runs a command in the copy and returns it, whatever its exit code."""
        return subprocess.run([str(word) for word in command], capture_output=True, text=True, stdin=subprocess.DEVNULL, cwd=self.path,
                              env={**os.environ, "GEARBOX_ROOT": str(self.path)})

    def run(self, *command):
        """Standard output of a command that must end with 0. Raises Failed."""
        done = self.attempt(*command)
        if done.returncode != 0:
            raise Failed(f"{' '.join(map(str, command))} ended with {done.returncode}\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
        return done.stdout

    def try_to_build(self):
        return self.attempt("ninja", "-j2", "-C", self._out, "gearbox-bin")

    def build(self):
        self.run("ninja", "-j2", "-C", self._out, "gearbox-bin")

    def gearbox(self, *arguments):
        return self.run(self._out / "gearbox-bin", *arguments)
