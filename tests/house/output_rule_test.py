"""Every write of the harness to standard output or standard error goes through harness/output.h, which remembers what was lost.

What else there is throws (fmt), aborts or forgets (stdio, iostream) when a disk is full or a terminal gone.
Usage: output_rule_test.py <source dir> [<build dir>].
"""
import pathlib
import re
import sys

OTHER_WAYS = re.compile(r"\bfmt::print\(|\bstd::(?:cout|cerr|clog|f?printf|puts|fputs|putchar|fwrite|perror|fflush)\b|(?<![\w:.])(?:stdout|stderr)\b(?![\"'])")
LITERALS_AND_COMMENTS = re.compile(r'//[^\n]*|R"\(.*?\)"|"(?:\\.|[^"\\])*"', re.DOTALL)


def main():
    root = pathlib.Path(sys.argv[1])
    broken = 0
    files = sorted([*(root / "harness").glob("*.cc"), *(root / "harness").glob("*.h")])
    assert files, "there is no harness"
    for path in files:
        text = LITERALS_AND_COMMENTS.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), path.read_text(encoding="utf-8"))
        for number, line in enumerate(text.split("\n"), start=1):
            for found in OTHER_WAYS.finditer(line):
                broken += 1
                print(f"{path.relative_to(root)}:{number}: {found.group()} writes past harness/output.h; use print_out or print_err")
    print(f"output rule: {broken} broken")
    return 1 if broken else 0


sys.exit(main())
