"""Every public call of runtime/api.h has a row in tests/runtime/safepoint_test.cc, which proves that a loop of it can be stopped and preempted.

Usage: surface_calls_test.py <source dir> [<build dir>]. Prints each call without a row and each row without a call; exits 1 if there is one.

The calls are read from the headers that runtime/api.h includes: functions of namespace gearbox (not of detail) and public member functions of its
classes. Constructors count where they are written; destructors, copies and moves do not, since values move under locks.
"""
import pathlib
import re
import sys

TOKEN = re.compile(r'\d[\w.\']*|"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'|[A-Za-z_]\w*|::|->|\[\[|\]\]|\S')
KEYWORDS = {"requires", "noexcept", "static_assert", "decltype", "alignas", "sizeof", "explicit", "operator", "if", "return", "__attribute__"}


def tokens(text):
    text = re.sub(r"//[^\n]*|/\*.*?\*/", " ", text, flags=re.S)
    text = re.sub(r"^[ \t]*#(?:[^\n\\]|\\.|\\\n)*", " ", text, flags=re.M)
    return TOKEN.findall(text)


def past(words, at, opening, closing):
    """The place behind the bracket that closes the one at `at`."""
    depth = 0
    while at < len(words):
        depth += (words[at] == opening) - (words[at] == closing)
        at += 1
        if depth == 0:
            return at
    raise ValueError(f"no {closing} for a {opening}")


def past_angles(words, at):
    depth = 0
    while at < len(words):
        if words[at] == "(":
            at = past(words, at, "(", ")")
            continue
        depth += (words[at] == "<") - (words[at] == ">")
        at += 1
        if depth == 0:
            return at
    raise ValueError("no > for a <")


def declared(words):
    """The function that a declaration (without its body) declares, or None."""
    at = 0
    while at < len(words):
        word = words[at]
        if word == "[[":
            at = words.index("]]", at) + 1
        elif word == "template":
            at = past_angles(words, at + 1)
        elif word == "requires" and at + 1 < len(words) and words[at + 1] == "(":
            at = past(words, at + 1, "(", ")")
        elif word in {"using", "typedef", "friend", "static_assert"}:
            return None
        elif word == "=":
            return None  # a variable
        elif word == "operator":
            name = []
            at += 1
            while words[at] != "(" or (not name and words[at + 1] == ")"):
                name.append(words[at])
                at += 1
                if name == ["("]:
                    name.append(words[at])
                    at += 1
            rest = words[past(words, at, "(", ")"):]
            named = "operator " + " ".join(name) if re.match(r"\w", name[0]) else "operator" + "".join(name)
            return None if "delete" in rest or "default" in rest or name == ["="] else named
        elif word == "(":
            name = words[at - 1] if at else ""
            if name in KEYWORDS or not re.fullmatch(r"[A-Za-z_]\w*", name):
                at = past(words, at, "(", ")")
                continue
            arguments, rest = words[at:past(words, at, "(", ")")], words[past(words, at, "(", ")"):]
            if at >= 2 and words[at - 2] == "~":
                return None
            return None if "delete" in rest or "default" in rest else (name, arguments)
        else:
            at += 1
    return None


def calls_of(words, scope, public, out):
    """Adds what the words between two braces of `scope` (a list of names) declare."""
    at, begin = 0, 0
    while at < len(words):
        word = words[at]
        if word in {"public", "private", "protected"} and at + 1 < len(words) and words[at + 1] == ":":
            public = word == "public"
            at += 2
            begin = at
        elif word == "<" and words[at - 1] == "template":
            at = past_angles(words, at)
        elif word == "(":
            at = past(words, at, "(", ")")
        elif word == ";":
            add(words[begin:at], scope, public, out)
            at += 1
            begin = at
        elif word == "{":
            head, end = words[begin:at], past(words, at, "{", "}")
            body = words[at + 1:end - 1]
            plain = head
            while plain[:1] == ["template"]:
                plain = plain[past_angles(plain, 1):]
            if plain[:1] == ["namespace"] or plain[:2] == ["inline", "namespace"]:
                name = [w for w in plain[1:] if w != "::"]
                if "detail" not in name:
                    calls_of(body, scope + [n for n in name if n != "gearbox"], True, out)
                begin = at = end
            elif plain[:1] and plain[0] in {"class", "struct", "union", "enum"}:
                if plain[0] != "enum" and public:
                    name = next(w for w in plain[1:] if re.fullmatch(r"[A-Za-z_]\w*", w) and w not in {"alignas", "final"})
                    calls_of(body, scope + [name], plain[0] != "class", out)
                at = end + 1 if words[end:end + 1] == [";"] else end
                begin = at
            elif words[at - 1] == "=" or re.fullmatch(r"\w+", words[at - 1] or "") and "(" not in head:
                at = end  # an initialiser
            elif ":" in head and words[at - 1] not in {")", "const", "noexcept", "override"}:
                at = end  # a member's initialiser, before the body
            else:
                add(head, scope, public, out)
                begin = at = end
        else:
            at += 1


def add(head, scope, public, out):
    found = declared(head) if public and head else None
    if found is None:
        return
    if isinstance(found, tuple):
        name, arguments = found
        if scope and name == scope[-1]:  # a constructor: copies and moves do not count
            own = [w for w in arguments if w not in {"(", ")", "const", "&", "noexcept"}]
            if own[:1] == [name] or not own:
                return
    else:
        name = found
    out.add("::".join(scope + [name]))


def public_calls(root):
    api = (root / "runtime/api.h").read_text(encoding="utf-8")
    out = set()
    for header in re.findall(r'#include "(runtime/[^"]+)"', api):
        calls_of(tokens((root / header).read_text(encoding="utf-8")), [], True, out)
    return out


def rows(root):
    text = (root / "tests/runtime/safepoint_test.cc").read_text(encoding="utf-8")
    return set(re.findall(r'^\s*(?:ROW|NO_ROW)\("([^"]+)"', text, flags=re.M))


def self_test():
    """What the reader must find in a header that has a bit of everything."""
    text = """namespace gearbox { namespace detail { void hidden(); }
      // void commented();
      template <class T> concept Heap = requires { typename T::X; };
      template <Heap T, class... A> requires(sizeof(T) > 1) [[nodiscard]] T* make(A&&... a) { if (a(1)) b(); return new (at) T(); }
      inline constexpr int kN = f(1), kM = 1'000; inline int now() { return 1; }
      class C { public: C() noexcept = default; explicit C(int n) : core_(new D(n)), x_{n} {} C(const C& o) noexcept; ~C() { g(); }
        C& operator=(C other) noexcept { swap(a, b); return *this; } bool operator==(const C&) const { return true; }
        explicit operator bool() const noexcept { return x_; } void send(int v) const { h(v); } class Inner { public: int& operator*() { return y; } };
       private: void secret(); int x_ = 0; };
      struct S { int a = 0; bool ok() const { return !a; } }; namespace net { int dial(int); } }"""
    found = set()
    calls_of(tokens(text), [], True, found)
    wanted = {"make", "C::C", "C::operator==", "C::operator bool", "C::send", "C::Inner::operator*", "now", "S::ok", "net::dial"}
    return [f"self-test: {name}" for name in sorted(found ^ wanted)]


def main():
    root = pathlib.Path(sys.argv[1])
    calls = public_calls(root)
    if sys.argv[2:] == ["--print"]:
        print("\n".join(sorted(calls)))
        return 0
    tested = rows(root)
    wrong = self_test()
    wrong += [f"runtime/api.h: {name} has no row in tests/runtime/safepoint_test.cc" for name in sorted(calls - tested)]
    wrong += [f"tests/runtime/safepoint_test.cc: {name} is no public call of runtime/api.h" for name in sorted(tested - calls)]
    for line in wrong:
        print(line)
    print(f"calls of the surface: {len(calls)}, {len(wrong)} wrong")
    return 1 if wrong else 0


sys.exit(main())
