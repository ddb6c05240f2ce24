"""The commands that the documents and the help texts show, as lists of words; and how far each can be checked without doing its work."""
import pathlib
import re
import shlex
import subprocess

VERBS = ("sweep", "resume", "plan", "ablate", "ab", "aa", "run", "list", "describe", "doctor", "answer", "table", "plot", "report", "analyze", "export", "compare",
         "test", "bench", "peers", "options", "experiment-reference")
PRESETS = ("release", "checked", "asan", "tsan")
# In documents a command stands in a fence or between backticks, and begins with ./gearbox (in prose of the program's own texts: gearbox).
FENCES = re.compile(r"^```(?:bash|sh|console)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPANS = re.compile(r"`([^`\n]+)`")
COMMAND = re.compile(r"(?:^|[\s:])(?:GEARBOX_PRESET=(\w+) )?(?:\./)?gearbox ((?:%s)\b.*)" % "|".join(VERBS))
NOT_FOR_USE = re.compile(r"<|\[|\.\.\.|\bNAME\b|\bRUN\b")  # a usage line, not an example


def command_in(text):
    """The words after `gearbox` of the command in a line, or None. A comment, a pipe, a redirection or two spaces end it."""
    found = COMMAND.search(text)
    if not found or NOT_FOR_USE.search(found[2]):
        return None
    assert found[1] in (None, *PRESETS), f"there is no preset {found[1]}: {text}"
    return shlex.split(re.split(r"\s{2,}| [|>#] ?|\s#", found[2].strip())[0])


def in_document(path):
    text = pathlib.Path(path).read_text(encoding="utf-8")
    lines = [line for fence in FENCES.findall(text) for line in fence.splitlines()]
    lines += [span for span in SPANS.findall(FENCES.sub("", text)) if re.match(r"(?:GEARBOX_PRESET=\w+ )?(?:\./)?gearbox ", span)]
    return [words for words in map(command_in, lines) if words]


def in_help(text):
    """Indented lines that are a command, what follows `or:` and `with:`, and what stands between backticks."""
    lines = [line for line in text.splitlines() if re.match(r"\s+(?:or:\s+)?(?:\./)?gearbox |Begin with:", line)]
    return [words for words in map(command_in, lines + SPANS.findall(text)) if words]


def without_work(words):
    """The command as far as the point where its work would begin; None when that is not to be had."""
    if words[0] in ("run", "sweep", "ablate", "ab", "aa"):
        return words if "--dry-run" in words else [*words, "--dry-run"]
    return words if words[0] in ("list", "describe", "options", "plan", "experiment-reference") else None


def check(case, gearbox, words, **how):
    """Fails the test case when the command is not understood."""
    parsed = without_work(words)
    if parsed:
        done = subprocess.run([gearbox, *parsed], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120, **how)
        case.assertEqual(done.returncode, 0, f"gearbox {shlex.join(words)}: {done.stderr}")
