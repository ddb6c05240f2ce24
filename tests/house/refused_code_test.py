"""Code that the surface refuses to compile, each with the sentence that it must be told; and beside it code that is right.

Usage: refused_code_test.py <source dir> [<build dir>]. One run of the compiler for the code that is right and one for all that is refused: each
refused line stands in a function of its own, and the error must name it. Exits 1 if something is accepted, refused without its sentence, or right
and refused.
"""
import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys
import tempfile

BEGINNING = """
#include "runtime/api.h"
#include <any>
#include <functional>
#include <map>
#include <string>
using namespace gearbox;
struct Node { Ref<Node> left, right; int key = 0; GEARBOX_REFS(Node, left, right) };
struct Leaf { int key = 0; GEARBOX_NO_REFS(Leaf) };
struct Message { int id; Ref<Node> node; };
struct Nested { std::string name; struct { int x; Ref<Node> node; } inner; };
struct Row { std::string name; Ref<Node> nodes[4]; };
struct Pair { int id; std::pair<int, Ref<Node>> pair; };
struct Called { Ref<Node> node; GEARBOX_REFS(Called, node) void operator()() const {} void operator()(int) const {} };
struct CalledPlain { int x; Ref<Node> node; void operator()() const {} };
struct Right { int a; std::string b; std::vector<Node*> c; Node* n; Root<Node> r; std::any any; std::function<void()> f; Chan<Right> back;
               std::map<int, Root<Node>> m; std::optional<int> o; std::unique_ptr<int> u; double d[3]; Leaf leaf; };
"""

RIGHT = """
void right(Node* n, Chan<int> c) {
  make_chan<Right>(1).send(Right{});
  make_chan<Leaf>(1); make_chan<Root<Node>>(1); make_chan<std::vector<Root<Node>>>(); make_chan<std::optional<Node*>>();
  go([n] { n->key = 1; });
  after_func(1, [n] { n->key = 1; });
  set_finalizer(n, [](Node* dead) { dead->key = 0; });
  scope([&](Defer& defer) { defer([n] { n->key = 2; }); });
  Root<Ref<Node>> row(make_array<Ref<Node>>(3).data());
  select(%s, otherwise([] {}));
}
""" % ", ".join(["on_recv(c, [](int) {})"] * 64)

REFS = "only heap objects hold Refs: "
REFUSED = [  # what is compiled in a function of its own, and the sentence
    ("make_chan<Ref<Node>>(1);", REFS + "send a T*"),
    ("make_chan<Node>(1);", REFS + "send a T*"),
    ("make_chan<const Ref<Node>>();", REFS + "send a T*"),
    ("make_chan<Message>(1);", REFS + "send a T*"),
    ("make_chan<Nested>(1);", REFS + "send a T*"),
    ("make_chan<Row>(1);", REFS + "send a T*"),
    ("make_chan<Pair>(1);", REFS + "send a T*"),
    ("make_chan<std::array<Node, 2>>(1);", REFS + "send a T*"),
    ("make_chan<std::optional<Ref<Node>>>(1);", REFS + "send a T*"),
    ("make_chan<std::pair<int, Message>>(1);", REFS + "send a T*"),
    ("make_chan<std::tuple<int, Node>>(1);", REFS + "send a T*"),
    ("make_chan<std::variant<int, Ref<Node>>>(1);", REFS + "send a T*"),
    ("make_chan<std::vector<Ref<Node>>>(1);", REFS + "send a T*"),
    ("make_chan<std::unique_ptr<Node>>(1);", REFS + "send a T*"),
    ("Chan<Ref<Node>>(1);", REFS + "send a T*"),
    ("Chan<Ref<Node>> c; c.send(nullptr);", REFS + "send a T*"),
    ("Chan<Message> c; (void)c.recv_ok();", REFS + "send a T*"),
    ("Chan<Ref<Node>> c; select(on_send(c, nullptr, [] {}));", REFS + "send a T*"),
    ("Chan<Ref<Node>> c; select(on_recv(c, [](Node*) {}));", REFS + "send a T*"),
    ("Chan<int> c; select(on_recv(c, Called{}));", REFS + "the function of a case captures a T*"),
    ("go(Called{});", REFS + "a goroutine's function captures a T*"),
    ("go(CalledPlain{});", REFS + "a goroutine's function captures a T*"),
    ("after_func(1, Called{});", REFS + "a function that is kept captures a T*"),
    ("scope([](Defer& defer) { defer(Called{}); });", REFS + "a deferred function captures a T*"),
    ("scope([](Defer&) { return Ref<Node>(); });", REFS + "a scope returns a T*"),
    ("blocking([] { return Ref<Node>(); });", REFS + "blocking(f) returns no Ref"),
    ("Root<Node*> r;", "write Root<T>, not Root<T*>"),
    ("Chan<int> c; select(%s);" % ", ".join(["on_recv(c, [](int) {})"] * 65), "a select has at most 64 cases"),
    ("select(otherwise([] {}), otherwise([] {}));", "a select has at most one otherwise"),
]


def compiled(root, build, text):
    """Exit code and messages of the compiler, with what the build gives it; nothing is written."""
    flags = ["-std=c++20", "-O0", "-fsyntax-only", "-fmax-errors=0", "-fno-diagnostics-color", "-Wno-restrict"]
    cache = pathlib.Path(build) / "CMakeCache.txt" if build else None
    compiler = "c++"
    if cache and cache.exists():
        found = re.search(r"^CMAKE_CXX_COMPILER:\w+=(.*)$", cache.read_text(encoding="utf-8"), re.M)
        compiler = found.group(1) if found else compiler
    with tempfile.TemporaryDirectory(prefix="gearbox-refused-") as folder:
        source = pathlib.Path(folder) / "code.cc"
        source.write_text(text, encoding="utf-8")
        done = subprocess.run([compiler, *flags, f"-I{root}", str(source)], capture_output=True, text=True, cwd=root,
                              env={**os.environ, "LC_ALL": "C"})
        return done.returncode, done.stderr


def main():
    root, build = pathlib.Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None
    # A refusal is reported once for each type it is about, so each function has types of its own: all is in a namespace of its own.
    wrong = []
    texts = [BEGINNING + RIGHT]
    heads = [line for line in BEGINNING.splitlines() if line.startswith(("#", "using"))]
    types = "\n".join(line for line in BEGINNING.splitlines() if not line.startswith(("#", "using")))
    refused = "\n".join(heads)
    for number, (code, _) in enumerate(REFUSED):
        refused += f"\nnamespace refused_{number} {{{types}\nvoid refused_code_{number}() {{ {code} }}\n}}"
    texts.append(refused)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        (right_code, right_messages), (_, messages) = pool.map(lambda text: compiled(root, build, text), texts)
    if right_code != 0:
        wrong.append("refused, and right:\n" + right_messages)
    # An error's message comes with the chain of what required it, which names the function. Chains end where the next begins.
    reports, chain = [], []
    for line in messages.splitlines():
        if re.search(r"\berror: ", line):
            reports.append(("\n".join(chain), line))
            chain = []
        elif re.search(r"required from|In instantiation of|In function|refused_code_", line):
            chain = [line] if re.search(r"In instantiation of|In function|In member", line) else chain + [line]
    for number, (code, sentence) in enumerate(REFUSED):
        mine = [message for chain_text, message in reports if f"refused_{number}::" in chain_text or f"refused_code_{number}(" in chain_text]
        if not any(sentence in message for message in mine):
            wrong.append(f"accepted, or refused without `{sentence}`: {code}\n    " + "\n    ".join(mine))
    for line in wrong:
        print(line)
    if os.environ.get("GEARBOX_SHOW"):
        print(messages)
    print(f"refused code: {len(REFUSED)} lines, {len(wrong)} wrong")
    return 1 if wrong else 0


sys.exit(main())
