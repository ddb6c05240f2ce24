"""A library made elsewhere is found at run time, whichever of the supported versions it is, and each figure says which.

Usage: foreign_library_test.py <source dir> <build dir>. Libraries that only say a version are compiled here and put in the library path.
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

BUILD = pathlib.Path(sys.argv[2])
BINARY = BUILD / "gearbox-bin"
RUN = ["run", "ping_pong", "--set", "rounds=200", "--allocator", "mimalloc", "--json"]


def gearbox(*arguments, library_path=None):
    environment = dict(os.environ)
    if library_path is not None:
        environment["LD_LIBRARY_PATH"] = str(library_path)
    return subprocess.run([str(BINARY), *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL, env=environment, timeout=300,
                          cwd=BUILD)


def record_of(done):
    """The cell's record: run --json prints one object, with the record or records inside."""
    printed = json.loads(done.stdout.splitlines()[-1])
    return printed["records"][0] if "records" in printed else printed


def fake(folder, file_name, body):
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / "fake.c"
    source.write_text(body, encoding="utf-8")
    subprocess.run(["g++", "-x", "c++", "-shared", "-fPIC", f"-Wl,-soname,{file_name}", "-o", str(folder / file_name), str(source)], check=True)


def main():
    wrong = []
    real = gearbox(*RUN)
    record = record_of(real) if real.returncode == 0 else {}
    version = (record.get("libraries") or {}).get("mimalloc")
    if real.returncode != 0 or not version or not version.split(".")[0] in {"2", "3"}:
        wrong.append(f"a record about mimalloc names no version of it: exit {real.returncode}, libraries {record.get('libraries')!r}, {real.stderr[-400:]}")
    plain = gearbox("run", "ping_pong", "--set", "rounds=200", "--json")
    if plain.returncode != 0 or record_of(plain).get("libraries") != {}:
        wrong.append("a record without a foreign library says that there is one")
    described = gearbox("describe", "allocator=mimalloc", "--json")
    if described.returncode != 0 or (json.loads(described.stdout).get("library") or {}).get("version") != version:
        wrong.append(f"describe allocator=mimalloc does not say the version {version}: {described.stdout[:300]}{described.stderr[:300]}")

    with tempfile.TemporaryDirectory(prefix="gearbox-library-") as temporary:
        folder = pathlib.Path(temporary)
        # Names in the order in which they are looked for. The first that exists decides: another one behind it is no way out.
        for name, reported, expected in (("libmimalloc.so.3", 40002, "4.0.2"), ("libmimalloc.so.3", 188, "1.8.8"), ("libmimalloc.so.3", 0, "reports the version 0")):
            place = folder / f"{name}-{reported}"
            fake(place, name, f'extern "C" int mi_version(void) {{ return {reported}; }}\n')
            done = gearbox(*RUN, library_path=place)
            said = done.stdout + done.stderr
            if done.returncode == 0 or "mimalloc" not in said or expected not in said or "2.0 to 3.x" not in said:
                wrong.append(f"version {reported} was not refused by its name {expected}: exit {done.returncode}: {said[-500:]}")
        place = folder / "hollow"
        fake(place, "libmimalloc.so.3", 'extern "C" int mi_version(void) { return 301; }\n')
        done = gearbox(*RUN, library_path=place)
        said = done.stdout + done.stderr
        if done.returncode == 0 or "3.0.1" not in said or "mi_manage_os_memory_ex" not in said:
            wrong.append(f"a library without its functions was not refused by their name: exit {done.returncode}: {said[-500:]}")

        out = folder / "results"
        experiment = folder / "two.toml"
        experiment.write_text('schema = 1\n[experiment]\nname = "two"\nquestion = "?"\nhypothesis = "?"\n[factors]\nallocator = ["size_class", "mimalloc"]\n'
                              '[[workload]]\nname = "ping_pong"\nparams = { rounds = 100 }\n[design]\nkind = "factorial"\nblocks = 1\nseed = 1\n'
                              '[run]\ntimeout_s = 60\n', encoding="utf-8")
        swept = gearbox("sweep", str(experiment), "--out", str(out))
        manifests = sorted(out.glob("two/2*/manifest.json"))
        libraries = json.loads(manifests[0].read_text(encoding="utf-8")).get("libraries") if manifests else None
        if swept.returncode != 0 or libraries != {"mimalloc": version}:
            wrong.append(f"the manifest of a run with mimalloc does not say which: {libraries!r}, exit {swept.returncode}: {swept.stderr[-300:]}")
    for line in wrong:
        print(line)
    print(f"foreign libraries: {len(wrong)} broken")
    return 1 if wrong else 0


sys.exit(main())
