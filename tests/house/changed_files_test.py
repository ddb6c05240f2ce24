"""What CI's tidy stage looks at: .ci/changed.py selects what the last commits changed and what includes it, however deep, and says what it leaves out.

Usage: changed_files_test.py <source dir> [<build dir>]. Runs on small repositories made here, one of them cloned without its history.
"""
import pathlib
import shutil
import subprocess
import sys
import tempfile

SELECT = pathlib.Path(sys.argv[1]).resolve() / ".ci" / "changed.py"


def git(folder, *words):
    subprocess.run(["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@t", "-c", "protocol.file.allow=always", *words], check=True, capture_output=True)


def commit(folder, files, message):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", message)


def select(folder, commits, most=100):
    files = subprocess.run(["git", "-C", str(folder), "ls-files", "*.cc"], capture_output=True, text=True, check=True).stdout
    done = subprocess.run([sys.executable, "-B", str(SELECT), "--commits", str(commits), "--most", str(most)], input=files, capture_output=True, text=True, cwd=folder)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    return done.stdout.split(), done.stderr


def main():
    if not shutil.which("git"):
        print("there is no git on this machine")
        return 1
    wrong = []

    def expect(what, got, wanted):
        if got != wanted:
            wrong.append(f"{what}: selected {got}, expected {wanted}")

    with tempfile.TemporaryDirectory(prefix="gearbox-changed-") as temporary:
        tree = pathlib.Path(temporary) / "tree"
        tree.mkdir()
        git(tree, "init", "-q", "-b", "main")
        commit(tree, {"base/deep.h": "", "base/middle.h": '#include "base/deep.h"\n', "a/far.cc": '#  include "base/middle.h"\n', "a/near.cc": '#include "base/deep.h"\n',
                      "a/alone.cc": "#include <vector>\n", "b/other.cc": "", "b/last.cc": ""}, "first")
        expect("a young tree is all recent", sorted(select(tree, 5)[0]), ["a/alone.cc", "a/far.cc", "a/near.cc", "b/last.cc", "b/other.cc"])
        commit(tree, {"base/deep.h": "// changed\n"}, "the header")
        for number in range(3):
            commit(tree, {"notes.md": f"{number}\n"}, "a note")
        commit(tree, {"b/last.cc": "// changed\n"}, "the file")
        expect("only what is recent", select(tree, 2)[0], ["b/last.cc"])
        expect("through headers, the nearest first", select(tree, 5)[0], ["b/last.cc", "a/near.cc", "a/far.cc"])
        got, said = select(tree, 5, most=1)
        expect("at most as many as asked", got, ["b/last.cc"])
        if "2 further files" not in said or "a/near.cc" not in said:
            wrong.append(f"what is left out is not said: {said!r}")
        (tree / "b/other.cc").write_text("// not committed\n", encoding="utf-8")
        expect("what is not committed counts", select(tree, 1)[0], ["b/last.cc", "b/other.cc"])
        git(tree, "checkout", "-q", "b/other.cc")
        shallow = pathlib.Path(temporary) / "shallow"
        git(tree, "clone", "-q", "--depth", "2", f"file://{tree}", str(shallow))
        got, said = select(shallow, 5)
        expect("a shallow clone", sorted(got), ["a/alone.cc", "a/far.cc", "a/near.cc", "b/last.cc", "b/other.cc"])
        if "too little history" not in said:
            wrong.append(f"a shallow clone is not said to be one: {said!r}")
        expect("a shallow clone that goes back far enough", select(shallow, 1)[0], ["b/last.cc"])
    for line in wrong:
        print(line)
    print(f"changed files: {len(wrong)} broken")
    return 1 if wrong else 0


sys.exit(main())
