"""STYLE: a code file is one idea of at most 500 lines. Usage: file_length_test.py <source dir> [<build dir>]."""
import pathlib
import sys

LIMIT = 500
SUFFIXES = {".h", ".cc", ".py", ".cmake", ".S", ".sh"}
SKIPPED = {"build", "results", ".git", ".cache"}


def main():
    root = pathlib.Path(sys.argv[1])
    broken = 0
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root)
        if relative.parts[0] in SKIPPED or not path.is_file() or not (path.suffix in SUFFIXES or relative.name in {"CMakeLists.txt", "gearbox"}):
            continue
        with path.open(encoding="utf-8") as text:
            lines = sum(1 for _ in text)
        if lines > LIMIT:
            broken += 1
            print(f"{relative}:{LIMIT + 1}: the file has {lines} lines, {LIMIT} are allowed: cut out a part with a noun for a name")
    print(f"file length: {broken} broken")
    return 1 if broken else 0


sys.exit(main())
