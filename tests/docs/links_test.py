"""Every relative link in a document leads somewhere, and every path in backticks that begins with a folder of this tree exists.

Usage: links_test.py <source dir> [<build dir>].
"""
import pathlib
import re
import sys
import unittest

SOURCE = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parent.parent.parent
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
# What a run makes or a reader chooses; never part of the tree.
MADE = {"build", "results"}


def documents(root):
    return sorted([*root.glob("*.md"), *root.glob("docs/**/*.md")])


def anchors(text):
    """The anchors that headings get, in the usual way: lower case, spaces to hyphens, punctuation gone."""
    for heading in re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE):
        yield re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).replace(" ", "-")


def broken_links(root, document):
    text = FENCE.sub("", document.read_text(encoding="utf-8"))
    for target in LINK.findall(CODE.sub("", text)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (document.parent / path).resolve() if path else document
        if not file.is_relative_to(root.resolve()) and path:
            yield f"the link {target} leads out of the tree"
        elif not file.exists():
            yield f"the link {target} leads nowhere"
        elif anchor and anchor not in set(anchors(file.read_text(encoding="utf-8"))):
            yield f"the link {target}: there is no such heading"


def broken_paths(root, document):
    rooms = {path.name for path in root.iterdir() if path.is_dir()} - MADE - {".git"}
    for code in CODE.findall(FENCE.sub("", document.read_text(encoding="utf-8"))):
        if not re.fullmatch(r"[\w./*-]+", code) or code.split("/")[0] not in rooms or "/" not in code:
            continue
        if "*" in code:
            if not list(root.glob(code)):
                yield f"`{code}` matches nothing"
        elif not (root / code).exists():
            yield f"`{code}` does not exist"


class Links(unittest.TestCase):
    def test_links_and_paths(self):
        found = documents(SOURCE)
        self.assertGreater(len(found), 5, "the documents are not where this test looks for them")
        wrong = [f"{document.relative_to(SOURCE)}: {what}" for document in found
                 for what in [*broken_links(SOURCE, document), *broken_paths(SOURCE, document)]]
        self.assertEqual(wrong, [], "\n" + "\n".join(wrong))

    def test_citation_is_valid(self):
        # No YAML reader is among the packages; this holds the few lines to the subset of YAML that they use.
        lines = (SOURCE / "CITATION.cff").read_text(encoding="utf-8").splitlines()
        keys = {line.split(":", 1)[0] for line in lines if re.match(r"[a-z-]+:", line)}
        self.assertLessEqual({"cff-version", "message", "title", "authors", "license"}, keys)
        for number, line in enumerate(lines, 1):
            self.assertRegex(line, r'^(#.*|(  |- |  - )*[a-z-]+:( "[^"]*"| [\w.-]+)?|(  )+- "[^"]*")$', f"CITATION.cff:{number}")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
