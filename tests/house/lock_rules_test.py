"""The tidy stage of CI finds a guarded field that is read without its lock: the options that .ci/run gives to clang-tidy, tried on a few lines.

Usage: lock_rules_test.py <source dir> [<build dir>]. Without clang-tidy on this machine only the options are looked at; CI installs it.
"""
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

LINES = """struct __attribute__((capability("mutex"))) Lock {{
  void lock() __attribute__((acquire_capability()));
  void unlock() __attribute__((release_capability()));
}};
struct Account {{
  Lock lock;
  int money __attribute__((guarded_by(lock))) = 0;
  int seen() {{
    {take}
    const int money_then = money;
    {leave}
    return money_then;
  }}
}};
int look(Account& account) {{ return account.seen(); }}
"""


def main():
    root = pathlib.Path(sys.argv[1])
    options = re.findall(r"--extra-arg=\S+", (root / ".ci" / "run").read_text(encoding="utf-8"))
    wrong = []
    for option in ("--extra-arg=-Wthread-safety", "--extra-arg=-Werror=thread-safety"):
        if option not in options:
            wrong.append(f".ci/run does not give {option} to clang-tidy")
    if shutil.which("clang-tidy"):
        with tempfile.TemporaryDirectory(prefix="gearbox-locks-") as temporary:
            folder = pathlib.Path(temporary)
            shutil.copy2(root / ".clang-tidy", folder / ".clang-tidy")
            for held in (False, True):
                file = folder / "account.cc"
                file.write_text(LINES.format(take="lock.lock();" if held else "", leave="lock.unlock();" if held else ""), encoding="utf-8")
                done = subprocess.run(["clang-tidy", "--quiet", str(file), *options, "--", "-std=c++20"], capture_output=True, text=True)
                if (done.returncode == 0) != held or (not held and "thread-safety" not in done.stdout):
                    wrong.append(f"a field read {'with' if held else 'without'} its lock: clang-tidy ended with {done.returncode}: {done.stdout[-400:]}{done.stderr[-200:]}")
    for line in wrong:
        print(line)
    print(f"lock rules: {len(wrong)} broken")
    return 1 if wrong else 0


sys.exit(main())
