#!/usr/bin/env python3
"""Which of the files named on standard input the last commits touched: changed themselves, or by including, through however many headers, what was.

Usage: changed.py --commits N --most N <files >selected. Prints the selected files, those first that are nearest to a change; what is over --most it
leaves out and says so. What is not committed yet counts as changed. In a clone that is too shallow to tell, every file counts as changed.
"""
import argparse
import collections
import pathlib
import re
import subprocess
import sys

INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)
FAR = 1 << 30


def git(*words):
    done = subprocess.run(["git", *words], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return done.stdout if done.returncode == 0 else None


def changed_files(commits):
    """The files that differ from the tree `commits` commits ago, or None when that is not known."""
    shallow = (git("rev-parse", "--is-shallow-repository") or "").strip() == "true"
    known = int((git("rev-list", "--first-parent", "--count", "HEAD") or "0").strip())
    if known == 0:
        return None
    if known > commits:
        base = f"HEAD~{commits}"
    elif shallow:
        return None
    else:  # a young tree: all of it is recent
        return set((git("ls-files") or "").splitlines())
    differing = git("diff", "--name-only", base)
    if differing is None:
        return None
    return set(differing.splitlines()) | set((git("ls-files", "--others", "--exclude-standard") or "").splitlines())


def distances(changed, root=pathlib.Path(".")):
    """file -> how many includes lie between it and a change; files that no change reaches are not in it."""
    includers = collections.defaultdict(set)
    for path in (git("ls-files", "--cached", "--others", "--exclude-standard", "*.h", "*.cc") or "").splitlines():
        file = root / path
        if file.is_file():
            for included in INCLUDE.findall(file.read_text(encoding="utf-8", errors="replace")):
                includers[included].add(path)
    reached = {path: 0 for path in changed}
    queue = collections.deque(sorted(changed))
    while queue:
        path = queue.popleft()
        for includer in sorted(includers[path]):
            if includer not in reached:
                reached[includer] = reached[path] + 1
                queue.append(includer)
    return reached


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--commits", type=int, required=True)
    parser.add_argument("--most", type=int, required=True)
    options = parser.parse_args()
    files = [line.strip() for line in sys.stdin if line.strip()]
    changed = changed_files(options.commits)
    if changed is None:
        print("the clone has too little history to tell what changed, so everything counts as changed", file=sys.stderr)
        changed = set(files)
    # The checks themselves, and the flags they see, change what is found in any file.
    elif changed & {".clang-tidy", "CMakeLists.txt"}:
        print("the checks or the flags changed: the files nearest to other changes stand for all", file=sys.stderr)
    reached = distances(changed)
    selected = sorted((file for file in files if file in reached), key=lambda file: (reached[file], file))
    for file in selected[:options.most]:
        print(file)
    if len(selected) > options.most:
        print(f"{len(selected) - options.most} further files include what changed, and are left to '.ci/run tidy-all': "
              f"{', '.join(selected[options.most:][:8])}, ...", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
