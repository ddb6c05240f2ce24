"""The layer table of docs/ARCHITECTURE.md, held against every #include line.

Usage: include_rules_test.py <source dir> [<build dir>]. Prints file:line and the broken rule for each offence; exits 1 if there is one.
"""
import pathlib
import re
import sys

INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"')
GEARS = {"schedulers", "allocators", "collectors", "pollers"}
ROOMS = GEARS | {"base", "interfaces", "runtime", "workloads", "harness", "tests", "bench"}


def member_of(parts):
    """The member a file of a gear family belongs to: schedulers/gmp.cc and schedulers/gmp/ring.h -> gmp."""
    return pathlib.PurePath(parts[1]).stem if len(parts) == 2 else parts[1]


def refusal(includer, included):
    """Why the file `includer` may not include `included` (both relative to the root), or None."""
    source, target = pathlib.PurePath(includer).parts, pathlib.PurePath(included).parts
    room, wanted = source[0], target[0]
    if room in {"tests", "bench"} or wanted not in ROOMS:
        return None
    if room == "base":
        return None if wanted == "base" else "base may include base only"
    if room == "interfaces":
        return None if wanted in {"base", "interfaces"} else "interfaces may include base and interfaces only"
    if room in GEARS:
        if wanted in {"base", "interfaces"}:
            return None
        if wanted == room and len(target) > 2 and target[1] == member_of(source):
            return None
        return f"a gear may include base, interfaces and its own {room}/{member_of(source)}/ only"
    if room == "runtime":
        return None if wanted in {"base", "interfaces", "runtime"} else "runtime may include base, interfaces and runtime only"
    if source[:2] == ("workloads", "peers"):
        return None if target[:2] == ("workloads", "peers") else "a peer is another system's program: it may include workloads/peers only"
    if room == "workloads":
        if wanted == "base" or included in {"interfaces/workload.h", "runtime/api.h"}:
            return None
        if wanted == "workloads" and len(target) > 2 and target[1] in {member_of(source), "load"}:
            return None
        return "a workload may include base, interfaces/workload.h, runtime/api.h, workloads/load/ and its own folder only"
    if room == "harness":
        if wanted in {"base", "interfaces", "harness"} or included == "runtime/boot.h":
            return None
        return "harness may include base, interfaces, runtime/boot.h and harness only; never a gear"
    return None


def offences(root):
    for room in sorted(ROOMS):
        for path in sorted((root / room).rglob("*")):
            relative = path.relative_to(root)
            if path.suffix not in {".h", ".cc"}:
                continue
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                found = INCLUDE.match(line)
                if not found:
                    continue
                included = found.group(1)
                if not (root / included).is_file():
                    if (path.parent / included).is_file():
                        yield f'{relative}:{number}: "{included}" is relative; write the path from the root of the tree'
                    continue
                why = refusal(str(relative), included)
                if why:
                    yield f'{relative}:{number}: includes "{included}": {why}'


def self_test():
    """The rule must find what it is for: a checker that finds nothing proves nothing."""
    bad = [("base/a.h", "interfaces/option.h"), ("interfaces/a.h", "runtime/boot.h"), ("schedulers/gmp.cc", "schedulers/global_queue/ring.h"),
           ("schedulers/gmp.cc", "runtime/api.h"), ("schedulers/gmp/gmp.cc", "collectors/stw.h"), ("runtime/a.cc", "schedulers/gmp/ring.h"),
           ("workloads/sieve.cc", "runtime/boot.h"), ("workloads/sieve.cc", "interfaces/world.h"), ("workloads/sieve.cc", "workloads/kv_server/resp.h"), ("harness/main.cc", "schedulers/gmp/ring.h"),
           ("harness/main.cc", "runtime/go.h"), ("runtime/a.cc", "harness/json.h"), ("schedulers/gmp.cc", "schedulers/gmp.h"),
           ("workloads/peers/tbb/tbb.cc", "base/lock.h"), ("workloads/peers/peer.h", "runtime/api.h"), ("workloads/sieve.cc", "workloads/peers/peer.h")]
    good = [("base/a.h", "base/lock.h"), ("schedulers/gmp.cc", "schedulers/gmp/ring.h"), ("schedulers/gmp/ring.cc", "schedulers/gmp/ring.h"),
            ("workloads/sieve.cc", "runtime/api.h"), ("workloads/echo.cc", "workloads/load/schedule.h"), ("harness/main.cc", "runtime/boot.h"), ("tests/runtime/a_test.cc", "runtime/go.h"),
            ("workloads/peers/tbb/tbb.cc", "workloads/peers/peer.h")]
    wrong = [f"accepted: {pair}" for pair in bad if refusal(*pair) is None] + [f"refused: {pair}" for pair in good if refusal(*pair)]
    return wrong


def main():
    found = self_test() + list(offences(pathlib.Path(sys.argv[1])))
    for line in found:
        print(line)
    print(f"include rules: {len(found)} broken")
    return 1 if found else 0


sys.exit(main())
