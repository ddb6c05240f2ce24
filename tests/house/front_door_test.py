"""What the front-door script says before anything is built: the packages' names on each distribution, wrong words, whose warnings are errors.

Usage: front_door_test.py <source dir> [<build dir>]. The script is copied to a folder of its own and run with a PATH that has only what the test puts there.
"""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

TOOLS = ["bash", "sed", "tr", "cksum", "cat", "dirname", "readlink", "basename", "mkdir", "env", "id", "grep", "mktemp", "rm", "tail", "sort", "head"]
DISTRIBUTIONS = [('ID=fedora\n', "dnf install gcc-c++ "), ('ID="almalinux"\nID_LIKE="rhel centos fedora"\n', "dnf install gcc-c++ "),
                 ("ID=arch\n", "pacman -S --needed gcc "), ('ID=cachyos\nID_LIKE="arch"\n', "pacman -S --needed gcc "),
                 ('ID="opensuse-leap"\nID_LIKE="suse opensuse"\n', "zypper install gcc-c++ "), ("ID=alpine\n", "apk add g++ "),
                 ("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", "apt-get install -y --no-install-recommends g++ "),
                 ("ID=plan9\n", "Debian's names: g++ "), ("", "Debian's names: g++ ")]


def main():
    source = pathlib.Path(sys.argv[1]).resolve()
    wrong = []
    with tempfile.TemporaryDirectory(prefix="gearbox-door-") as temporary:
        folder = pathlib.Path(temporary)
        tree, bare, debian = folder / "tree", folder / "bare", folder / "debian"
        for path in (tree / "tests" / "contract", tree / "tests" / "house", bare, debian):
            path.mkdir(parents=True)
        shutil.copy2(source / "gearbox", tree / "gearbox")
        for tool in TOOLS:
            found = shutil.which(tool)
            for place in (bare, debian):
                (place / tool).symlink_to(found)

        def door(*words, path=bare, **more):
            environment = {"PATH": str(path), "HOME": str(folder), "GEARBOX_PYTHON": "no-such-python", **more}
            done = subprocess.run([str(tree / "gearbox"), *words], capture_output=True, text=True, stdin=subprocess.DEVNULL, env=environment, timeout=120)
            return done.returncode, done.stdout + done.stderr

        for os_release, expected in DISTRIBUTIONS:
            (folder / "os-release").write_text(os_release, encoding="utf-8")
            code, said = door("list", GEARBOX_OS_RELEASE=str(folder / "os-release"))
            if code != 1 or expected not in said or "the command cmake" not in said or "no-such-python" not in said or "mimalloc" not in said:
                wrong.append(f"on a system with {os_release!r}: exit {code}, expected {expected!r}: {said[-600:]}")

        # A Debian without root and without sudo: what is needed stops, what only helps does not.
        def pretend(name, text):
            (debian / name).write_text("#!/bin/bash\n" + text, encoding="utf-8")
            (debian / name).chmod(0o755)
        pretend("apt-get", "exit 1\n")
        (debian / "id").unlink()
        pretend("id", "echo 1000\n")
        listed = subprocess.run(["bash", "-c", f"sed -n '/^packages=(/,/)$/p;/^helpful=(/,/)$/p' {tree / 'gearbox'} > {folder / 'lists'}; source {folder / 'lists'}; "
                                 "echo ${packages[@]}"], capture_output=True, text=True, check=True).stdout.split()
        pretend("dpkg-query", "".join(f"echo 'installed {name}'\n" for name in listed))
        code, said = door("prepare", path=debian)
        if code != 0 or "does without them" not in said or "ccache" not in said:
            wrong.append(f"packages that only help stop a user without root: exit {code}: {said[-500:]}")
        pretend("dpkg-query", "".join(f"echo 'installed {name}'\n" for name in listed if name != "libfmt-dev"))
        (tree / "build" / ".packages").unlink(missing_ok=True)
        code, said = door("prepare", path=debian)
        if code != 1 or "libfmt-dev" not in said:
            wrong.append(f"a missing package does not stop a user without root: exit {code}: {said[-500:]}")

        # A user whose home cannot be written, as in many containers: ccache would refuse to compile anything there.
        pretend("dpkg-query", "".join(f"echo 'installed {name}'\n" for name in listed))
        pretend("ccache", "echo /proc/nobodys-home/.cache/ccache\n")
        pretend("cmake", "while [ $# -gt 0 ]; do shift; done\n: > build/release/build.ninja; : > build/release/CMakeCache.txt\n")
        pretend("ninja", f'echo "cache: ${{CCACHE_DIR:-default}}" >> {folder / "ninja.log"}\n')
        for tool in ("flock", "sleep"):
            (debian / tool).symlink_to(shutil.which(tool))
        binary = tree / "build" / "release" / "gearbox-bin"
        binary.parent.mkdir(parents=True)
        binary.write_text("#!/bin/bash\necho it ran\n", encoding="utf-8")
        binary.chmod(0o755)
        for home, expected in (("/proc/nobodys-home/.cache/ccache", str(tree / "build" / ".ccache")), (str(folder / "cache"), "default")):
            (folder / "ninja.log").write_text("", encoding="utf-8")
            pretend("ccache", f"echo {home}\n")
            code, said = door("list", path=debian)
            logged = (folder / "ninja.log").read_text(encoding="utf-8")
            if code != 0 or "it ran" not in said or f"cache: {expected}" not in logged:
                wrong.append(f"with ccache's folder at {home}: exit {code}, {logged!r}, expected {expected!r}: {said[-300:]}")

        # Peers: no compiler and no Go on this PATH, so each is left out by name, nobody stops, and results go where the user stands.
        (tree / "harness").symlink_to(source / "harness")
        bench = tree / "build" / "release" / "bench"
        bench.write_text("""#!/bin/bash\necho '{"benchmarks": [{"run_type": "iteration", "real_time": 20, "time_unit": "ns"}]}'\n""", encoding="utf-8")
        bench.chmod(0o755)
        done = subprocess.run([str(tree / "gearbox"), "peers", "--only", "yield", "--rounds", "1", "--out", "mine"], capture_output=True, text=True, cwd=folder,
                              stdin=subprocess.DEVNULL, env={"PATH": str(debian), "HOME": str(folder), "GEARBOX_PYTHON": sys.executable}, timeout=120)
        said = done.stdout + done.stderr
        if done.returncode != 0 or "| 20 ns" not in said or not (folder / "mine" / "peers.json").exists() or any(
                f"its package {package} is not installed" not in said for package in ("golang-go", "libboost-fiber-dev")):
            wrong.append(f"peers without any of them: exit {done.returncode}: {said[-1500:]}")

        # Far more results than a pipe holds: whoever prints only the first of them has to read the others as well, or the sorter's death ends the script.
        pretend("ctest", "for i in {1..4000}; do echo \"$i/4000 Test #$i: contract.ATestWithARatherLongNameSoThatThePipeIsFull/$i ... Passed $i.00 sec\"; done\n"
                "echo '100% tests passed, 0 tests failed out of 4000'\n")
        pretend("nproc", "echo 2\n")
        (tree / "build" / "checked").mkdir()
        code, said = door("test", "--rooms", "contract", "--slowest", "2", path=debian)
        if code != 0 or not said.endswith("/4000\n  3999.00 contract.ATestWithARatherLongNameSoThatThePipeIsFull/3999\n4000 passed, 0 failed\n"):
            wrong.append(f"test --slowest over 4000 results: exit {code}: {said[-300:]}")

        for words, expected in ((["test", "--rooms", "contrakt"], "there is no room 'contrakt'"), (["test", "--slowest", "few"], "whole number"),
                                (["test", "--rom"], "there is no option '--rom'"), (["prepare", "now"], "there is 'now'"), (["test", "--rooms"], "needs a value"),
                                (["test", "--together", "house"], "no C++ tests in a room 'house'"), (["test", "x", "--together", "contract"], "itself")):
            code, said = door(*words)
            if code != 2 or expected not in said:
                wrong.append(f"{' '.join(words)}: exit {code}, expected {expected!r}: {said[-300:]}")

        # Words that are wrong are refused before anything is built.
        for words, expected in ((["--only", "yeld"], "did you mean 'yield'"), (["--peers", "go,fibre"], "did you mean 'fiber'"), (["--rounds", "0"], "at least 1")):
            done = subprocess.run([str(source / "gearbox"), "peers", *words], capture_output=True, text=True, stdin=subprocess.DEVNULL,
                                  env={**os.environ, "GEARBOX_PYTHON": sys.executable}, timeout=120)
            if done.returncode != 2 or expected not in done.stderr or "building" in done.stderr:
                wrong.append(f"peers {' '.join(words)}: exit {done.returncode}: {done.stderr[-300:]}")

        # A newer compiler's warning is an error only where that was asked for.
        if shutil.which("cmake") and shutil.which("ninja"):
            for asked, expected in (([], False), (["-DGEARBOX_WERROR=ON"], True)):
                out = folder / f"out{len(asked)}"
                done = subprocess.run(["cmake", "-S", str(source), "-B", str(out), "-G", "Ninja", "-DGEARBOX_PRESET=checked", *asked], capture_output=True, text=True,
                                      env={**os.environ, "GEARBOX_WERROR": ""})
                commands = (out / "compile_commands.json").read_text(encoding="utf-8") if done.returncode == 0 else done.stderr
                if ("-Werror" in commands) != expected:
                    wrong.append(f"configured with {asked}: -Werror is {'not ' if expected else ''}there: {commands[-300:]}")

        if shutil.which("git") and subprocess.run(["git", "-C", str(source), "rev-parse"], capture_output=True).returncode == 0:
            tracked = subprocess.run(["git", "-C", str(source), "ls-files", "results"], capture_output=True, text=True, check=True).stdout.split()
            if tracked != ["results/README.md"]:
                wrong.append(f"results/ should hold its README.md and nothing else that is tracked: {tracked}")
            for path, ignored in (("results/quickstart/20261125-1/cells.jsonl", True), ("results/README.md", False)):
                if (subprocess.run(["git", "-C", str(source), "check-ignore", "-q", "--no-index", path]).returncode == 0) != ignored:
                    wrong.append(f"{path} should {'' if ignored else 'not '}be ignored by git")
    for line in wrong:
        print(line)
    print(f"front door: {len(wrong)} broken")
    return 1 if wrong else 0


sys.exit(main())
