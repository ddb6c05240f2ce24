"""Adding a gear is adding one file: a copy of the tree gets schedulers/newcomer.cc and nothing else, is built, and lists it.

Usage: new_member_test.py <source dir> <build dir>. Rooms other than schedulers come from the build directory, so it takes seconds.
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

NEWCOMER = """#include "interfaces/registry.h"

namespace gearbox::schedulers {
SchedulerEntry newcomer() {
  SchedulerEntry entry;
  entry.name = "newcomer";
  entry.summary = "Came as one file.";
  entry.make_options = [] { return std::unique_ptr<OptionSet>(std::make_unique<TypedOptions<NoOptions>>()); };
  return entry;
}
}  // namespace gearbox::schedulers
"""
COPIED = ["CMakeLists.txt", "CMakePresets.json", "cmake", "base", "interfaces", "schedulers", "allocators", "collectors", "pollers",
          "workloads", "runtime", "harness", "experiments"]


def main():
    source, build = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    preset = next(line.split("=", 1)[1] for line in (build / "CMakeCache.txt").read_text().splitlines() if line.startswith("GEARBOX_PRESET:"))
    with tempfile.TemporaryDirectory(prefix="gearbox-house-") as folder:
        tree, out = pathlib.Path(folder) / "tree", pathlib.Path(folder) / "out"
        tree.mkdir()
        for name in COPIED:
            path = source / name
            if path.is_dir():
                shutil.copytree(path, tree / name)
            elif path.exists():
                shutil.copy2(path, tree / name)

        def run(*command):
            done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, env={**os.environ, "GEARBOX_ROOT": str(tree)})
            if done.returncode != 0:
                print(f"{' '.join(map(str, command))} ended with {done.returncode}\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
                sys.exit(1)
            return done.stdout

        def members():
            return [gear["name"] for gear in json.loads(run(out / "gearbox-bin", "list", "schedulers", "--json"))["schedulers"]]

        run("cmake", "-S", tree, "-B", out, "-G", "Ninja", f"-DGEARBOX_PRESET={preset}", f"-DGEARBOX_PREBUILT={build}", "-DCMAKE_BUILD_TYPE=None")
        run("ninja", "-j2", "-C", out, "gearbox-bin")
        before = members()
        (tree / "schedulers").mkdir(exist_ok=True)
        (tree / "schedulers" / "newcomer.cc").write_text(NEWCOMER)
        run("ninja", "-j2", "-C", out, "gearbox-bin")
        after = members()
        if after != sorted(before + ["newcomer"]):
            print(f"before the file there was {before}, after it {after}")
            return 1
        # A file without its function must not pass unseen.
        (tree / "schedulers" / "hollow.cc").write_text("namespace gearbox::schedulers {}\n")
        broken = subprocess.run(["ninja", "-C", out, "gearbox-bin"], capture_output=True, text=True)
        if broken.returncode == 0 or "hollow" not in broken.stdout + broken.stderr:
            print("a member file without its function was built without an error that names it")
            return 1
    print("new member: appears with no other edit")
    return 0


sys.exit(main())
