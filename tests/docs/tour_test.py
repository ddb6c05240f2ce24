"""docs/TOUR.md names real code: behind every file in backticks that is followed by names in backticks, each of those names is defined there.

Usage: tour_test.py <source dir> [<build dir>]. A mention is not enough: a function needs a body, a type its members, a macro its #define. The other
documents are held to the same notation where they use it.
"""
import pathlib
import re
import sys
import unittest

SOURCE = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parent.parent.parent
POINTER = re.compile(r"`([\w./-]+\.(?:cc|h))`((?:,? `~?[A-Za-z_][\w:~]*`)+)")
NAME = re.compile(r"`(~?[A-Za-z_][\w:~]*)`")
NOISE = re.compile(r'//[^\n]*|/\*.*?\*/|R"(\w*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|(?<![0-9a-fA-F])\'(?:\\.|[^\'\\\n])\'', re.DOTALL)


def pointers(text):
    """(file, name) for each name that a document says is defined in a file."""
    for file, names in POINTER.findall(text):
        for name in NAME.findall(names):
            yield file, name


def body_after(code, at):
    """Whether the parenthesis that opens at `at` is followed, behind its end and what may stand there, by a body."""
    depth = 0
    for end in range(at, len(code)):
        depth += {"(": 1, ")": -1}.get(code[end], 0)
        if depth == 0:
            rest = code[end + 1:end + 400]
            return re.match(r"\s*(?:(?:const|noexcept|override|final|requires\s+[^{;]+)\s*)*(?:->\s*[\w:<>*& ]+)?(?::\s[^;{]*(?:\{[^{}]*\}[^;{]*)*)?\{",
                            rest) is not None
    return False


def defines(code, name):
    """Whether code (without comments and strings) defines name: a function with a body, a type, an alias or a macro."""
    *outer, last = name.split("::")
    quoted = re.escape(last)
    if not outer and re.search(rf"^\s*#\s*define\s+{quoted}\b|\b(?:struct|class|enum class|concept|using)\s+(?:alignas\(\d+\)\s+)?{quoted}\b\s*"
                               r"(?:final\s*)?(?::[^;{]*)?(?:\{|=)", code, re.MULTILINE):
        return True
    for found in re.finditer(rf"(?<![\w.>])((?:\w+::)*){quoted}\s*\(", code):
        if not body_after(code, found.end() - 1):
            continue
        written = [part for part in found.group(1).split("::") if part]
        if not outer or written[-len(outer):] == outer:
            return True
        # Inside the class itself, the class's name is not written again.
        if not written and re.search(rf"\b(?:struct|class)\s+(?:alignas\(\d+\)\s+)?(?:\w+::)*{re.escape(outer[-1])}\b[^;{{]*\{{", code[:found.start()]):
            return True
    return False


class Tour(unittest.TestCase):
    def test_the_checker_finds_what_it_is_for(self):
        code = NOISE.sub(" ", "int f(int a);  // g() {\nvoid A::h(int (*x)(int)) const { f(1); }\nstruct B final : C { void k() override {} };\n#define M(x) x\n")
        for name in ["A::h", "h", "B", "B::k", "k", "M"]:
            self.assertTrue(defines(code, name), name)
        for name in ["f", "g", "B::h", "A::k", "C", "x"]:
            self.assertFalse(defines(code, name), name)

    def test_every_name_is_defined_where_a_document_says(self):
        wrong, seen = [], 0
        for document in sorted([*SOURCE.glob("*.md"), *SOURCE.glob("docs/*.md")]):
            for file, name in pointers(document.read_text(encoding="utf-8")):
                seen += 1
                path = SOURCE / file
                if not path.is_file():
                    wrong.append(f"{document.name}: there is no file {file} (for {name})")
                elif not defines(NOISE.sub(" ", path.read_text(encoding="utf-8")), name):
                    wrong.append(f"{document.name}: {file} does not define {name}")
        self.assertEqual(wrong, [], "\n" + "\n".join(wrong))
        self.assertGreater(seen, 100, "the notation of docs/TOUR.md is not what this test reads any more")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
