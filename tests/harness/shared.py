"""What the tests of the command line share: where things are, a small experiment, a program in Python's place, a machine without io_uring."""
import ctypes
import os
import pathlib
import struct
import sys

SOURCE, BUILD = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]).resolve()
GEARBOX = str(BUILD / "gearbox-bin")
PING_PONG = """[[workload]]
name = "ping_pong"
params = { rounds = 500 }
"""
GC_LATENCY = """[[workload]]
name = "gc_latency"
params = { ring = 200, warmup = 100, pushes = 2000 }
"""


def experiment(*workloads, collectors=("concurrent",), pollers=("epoll",)):
    """The text of an experiment of two blocks over one P."""
    def quoted(names):
        return ", ".join(f'"{name}"' for name in names)
    return f"""schema = 1
[experiment]
name = "tiny"
question = "Does it run?"
hypothesis = "Yes."
[factors]
procs = [1]
collector = [{quoted(collectors)}]
poller = [{quoted(pollers)}]
{''.join(workloads)}[design]
blocks = 2
"""


def program(path, text):
    """Writes a shell script that can be run, and returns its path."""
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return path


def refuse_io_uring(error_number):
    """Makes io_uring_setup fail with this errno for the process and its children: a seccomp filter, for preexec_fn."""
    def install():
        allow, errno = 0x7fff0000, 0x00050000 | error_number
        lines = b"".join(struct.pack("HBBI", *line) for line in (
            (0x20, 0, 0, 0),  # load the number of the call
            (0x15, 0, 1, 425),  # io_uring_setup? then the next line, else the one after
            (0x06, 0, 0, errno), (0x06, 0, 0, allow)))
        buffer = ctypes.create_string_buffer(lines, len(lines))
        filter_program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", 4, ctypes.addressof(buffer)))
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(38, 1, 0, 0, 0) != 0 or libc.prctl(22, 2, filter_program, 0, 0) != 0:
            os._exit(77)
    return install
