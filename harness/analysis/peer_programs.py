"""The peers: what each is, which package it needs, and how its program in workloads/peers/<name>/ is built.

A peer whose package is not installed is left out, with a sentence that names the package. One that is there and does not
build is an error. Nothing is fetched and nothing installed: Gearbox itself needs none of them.
"""
from __future__ import annotations

import dataclasses
import os
import pathlib
import shlex
import shutil
import subprocess
from typing import Callable

from . import load


@dataclasses.dataclass(frozen=True)
class Peer:
    name: str
    title: str  # the head of its column
    text: str  # what kind of comparison it is
    package: str  # Debian's name; "" when the compiler is enough
    header: str = ""  # of a peer in C++: what is there only with the package
    libraries: tuple[str, ...] = ()


PEERS = {peer.name: peer for peer in (
    Peer("go", "Go", "the original", "golang-go"),
    Peer("fiber", "Boost.Fiber", "fibers with channels, without a collector, work stealing on two threads", "libboost-fiber-dev", "boost/fiber/all.hpp",
         ("boost_fiber", "boost_context")),
    Peer("tbb", "oneTBB", "a bound: tasks without stacks of their own, which cannot park", "libtbb-dev", "oneapi/tbb/task_group.h", ("tbb",)),
    Peer("boehm", "Boehm GC", "a conservative collector that stops the world", "libgc-dev", "gc/gc.h", ("gc",)),
    Peer("mimalloc", "mimalloc", "memory that is freed by hand: what a collector competes with", "libmimalloc-dev", "mimalloc.h", ("mimalloc",)),
    Peer("epoll", "raw epoll", "a bound: a loop over epoll without a runtime", "", "sys/epoll.h"),
)}


class BuildFailed(Exception):
    """The text names the log, and ends with what the compiler said."""


def named(words: str | None) -> list[str] | None:
    """The peers of `--peers`, each once, in the order of PEERS. None is: not given."""
    if words is None:
        return None
    for word in words.split(","):
        if word not in PEERS:
            raise load.BadInput(f"--peers: there is no peer '{word}'; {load.nearest(word, list(PEERS))}")
    return [name for name in PEERS if name in words.split(",")]


def compiler() -> list[str]:
    return shlex.split(os.environ.get("CXX") or "c++")


def is_here(peer: Peer) -> bool:
    if peer.name == "go":
        return shutil.which("go") is not None
    question = f"#if !__has_include(<{peer.header}>)\n#error missing\n#endif\n"
    try:
        return subprocess.run([*compiler(), "-std=c++20", "-E", "-x", "c++", "-o", os.devnull, "-"], input=question, text=True, capture_output=True,
                              check=False).returncode == 0
    except OSError:  # no compiler: a finished Gearbox was copied here
        return False


def missing(peer: Peer) -> str:
    """Why the peer is left out."""
    what = f"its package {peer.package} is" if peer.package else f"the compiler {compiler()[0]} or its header {peer.header} is"
    return f"{peer.title} ('{peer.name}') is left out: {what} not installed"


def command(peer: Peer, root: pathlib.Path, binary: pathlib.Path) -> tuple[list[str], pathlib.Path]:
    """What builds the peer's program, and where that is run."""
    folder = root / "workloads" / "peers" / peer.name
    if peer.name == "go":
        return ["go", "build", "-o", str(binary), "."], folder
    # As optimised as Gearbox's own release build. Names of sources are relative, so that the command is the same everywhere.
    return [*compiler(), "-std=c++20", "-O3", "-DNDEBUG", "-I.", f"workloads/peers/{peer.name}/{peer.name}.cc", "-o", str(binary), "-pthread",
            *(f"-l{library}" for library in peer.libraries)], root


def is_built(peer: Peer, root: pathlib.Path, binary: pathlib.Path, recipe: str) -> bool:
    """Whether the binary is of this command and no older than what it is made of. Go keeps a cache of its own."""
    stamp = binary.with_suffix(".command")
    if peer.name == "go" or not binary.exists() or not stamp.exists() or stamp.read_text(encoding="utf-8") != recipe:
        return False
    shared = root / "workloads" / "peers"
    sources = [*shared.glob("*.h"), *(shared / peer.name).iterdir()]
    return all(source.stat().st_mtime_ns < binary.stat().st_mtime_ns for source in sources)


def build(peer: Peer, root: pathlib.Path, folder: pathlib.Path, say: Callable[[str], None]) -> str:
    """The path of the peer's program, built when it is not. Raises BuildFailed."""
    folder.mkdir(parents=True, exist_ok=True)
    binary, log = folder / peer.name, folder / f"{peer.name}.log"
    unfinished = folder / f".{peer.name}.{os.getpid()}"  # renamed when it is whole: another `gearbox peers` may run the old one
    words, where = command(peer, root, unfinished)
    recipe = shlex.join(words).replace(str(unfinished), str(binary))
    if is_built(peer, root, binary, recipe):
        return str(binary)
    if peer.name != "go" or not binary.exists():  # Go looks for itself whether there is anything to do, and mostly there is not
        say(f"building the peer {peer.name} (log: {log})")
    try:
        done = subprocess.run(words, cwd=where, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True, check=False)
        log.write_text(f"{recipe}\n{done.stdout}", encoding="utf-8")
        if done.returncode != 0:
            raise BuildFailed(f"the peer {peer.name} does not build; the whole log is {log}:\n{done.stdout[-3000:].rstrip()}")
        unfinished.replace(binary)
    finally:
        unfinished.unlink(missing_ok=True)
    binary.with_suffix(".command").write_text(recipe, encoding="utf-8")
    return str(binary)
