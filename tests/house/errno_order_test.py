"""errno is asked for anew behind every call that may park, whoever includes what first, with every optimisation.

Usage: errno_order_test.py <source dir> [<build dir>]. Compiles a function that sets errno, parks and reads errno, and counts in the assembly how
often it asks where errno is: twice, or the second answer is the former thread's. The same for the C++ library's inline functions and for the
thread's own number. Exits 1 if a count is wrong.
"""
import pathlib
import re
import subprocess
import sys

PROBE = """
void park();
int probe() { errno = 5; park(); return errno; }
"""
LIBRARY = """
#include <pthread.h>
#include <string>
void park();
int probe(const std::string& s) { const long first = std::stol(s); park(); return static_cast<int>(first + std::stol(s)); }
bool number() { const pthread_t first = pthread_self(); park(); return pthread_equal(first, pthread_self()) != 0; }
"""
OURS, CERRNO, ERRNO_H = '#include "runtime/errno.h"\n', "#include <cerrno>\n", "#include <errno.h>\n"
FLAG = ["-D__const__=__unused__"]


def calls(root, text, flags, called):
    """How often the compiled text calls `called`, through whatever table."""
    done = subprocess.run(["c++", "-std=c++20", "-O3", "-S", "-o", "-", "-x", "c++", "-I", str(root), *flags, "-"], input=text, text=True,
                          capture_output=True)
    if done.returncode != 0:
        raise SystemExit(f"does not compile:\n{text}\n{done.stderr}")
    return len(re.findall(rf"^\s+(?:call|jmp)\s+\*?{called}\b", done.stdout, re.M))


def main():
    root = pathlib.Path(sys.argv[1])
    asks, number = "__errno_location", "pthread_self"
    cases = [  # what, text, flags, the function called, least and most calls
        ("the compiler believes the library, and asks once", CERRNO + PROBE, [], asks, 1, 1),  # or this test shows nothing
        ("<cerrno> first", CERRNO + OURS + PROBE, [], asks, 2, 2),
        ("<cerrno> last", OURS + CERRNO + PROBE, [], asks, 2, 2),
        ("<errno.h> first", ERRNO_H + OURS + PROBE, [], asks, 2, 2),
        ("<errno.h> last", OURS + ERRNO_H + PROBE, [], asks, 2, 2),
        ("<string> first", "#include <string>\n" + OURS + PROBE, [], asks, 2, 2),
        ("<string> last", OURS + "#include <string>\n" + PROBE, [], asks, 2, 2),
        ("the tree's flag alone", CERRNO + PROBE, FLAG, asks, 2, 2),
        ("inline functions of the library, believed", LIBRARY, [], asks, 1, 1),
        ("inline functions of the library, this header first", OURS + LIBRARY, [], asks, 4, 99),
        ("inline functions of the library, with the tree's flag", LIBRARY, FLAG, asks, 4, 99),
        ("the thread's own number, believed", LIBRARY, [], number, 0, 1),
        ("the thread's own number, with the tree's flag", LIBRARY, FLAG, number, 2, 2),
    ]
    wrong = []
    for what, text, flags, called, least, most in cases:
        found = calls(root, text, flags, called)
        if not least <= found <= most:
            wrong.append(f"{what}: {called}() is called {found} times, and not {least}" + (f" to {most}" if most != least else ""))
    first = re.search(r'#include "([^"]+)"', (root / "runtime/api.h").read_text(encoding="utf-8")).group(1)
    if first != "runtime/errno.h":
        wrong.append(f"runtime/api.h includes {first} before runtime/errno.h, which must be the first")
    if FLAG[0] not in (root / "CMakeLists.txt").read_text(encoding="utf-8"):
        wrong.append(f"CMakeLists.txt does not build with {FLAG[0]}")
    for line in wrong:
        print(line)
    print(f"errno: {len(cases)} cases, {len(wrong)} wrong")
    return 1 if wrong else 0


sys.exit(main())
