"""Where io_uring is refused, as Docker does by default, a sweep goes on over the other combinations, says so, and answers the question over those.

Usage: refused_poller_test.py <source dir> <build dir>. A seccomp filter makes io_uring_setup fail with EPERM for gearbox and all that it starts.
"""
import errno
import json
import pathlib
import subprocess
import sys
import tempfile

from shared import GEARBOX, BUILD, SOURCE, refuse_io_uring

EXPERIMENT = """schema = 1
[experiment]
name = "refused"
question = "Which poller is faster?"
hypothesis = "One of them."
[factors]
scheduler = ["gmp", "global_queue"]
poller = ["epoll", "io_uring"]
[[workload]]
name = "ping_pong"
params = { rounds = 300 }
[[workload]]
name = "echo"
params = { requests = 100, connections = 2 }
[design]
kind = "factorial"
blocks = 3
seed = 1
[run]
timeout_s = 60
"""


def gearbox(*arguments):
    return subprocess.run([GEARBOX, *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=500, cwd=BUILD,
                          preexec_fn=refuse_io_uring(errno.EPERM), env={"PATH": "/usr/bin:/bin", "GEARBOX_ROOT": str(SOURCE), "HOME": "/nonexistent", "LANG": "C.UTF-8"})


def main():
    wrong = []
    with tempfile.TemporaryDirectory(prefix="gearbox-refused-") as temporary:
        folder = pathlib.Path(temporary)
        (folder / "refused.toml").write_text(EXPERIMENT, encoding="utf-8")
        doctor = gearbox("doctor", "--json")
        if doctor.returncode != 0 or "EPERM" not in json.loads(doctor.stdout)["io_uring"]:
            print(f"the filter does not work here, so nothing was tested: {doctor.stdout[:300]}{doctor.stderr[:300]}")
            return 1
        swept = gearbox("sweep", str(folder / "refused.toml"), "--out", str(folder / "results"))
        said = swept.stdout + swept.stderr
        runs = sorted((folder / "results").glob("refused/2*"))
        if swept.returncode != 0 or len(runs) != 1:
            wrong.append(f"the sweep ended with {swept.returncode}: {said[-1500:]}")
        else:
            records = [json.loads(line) for line in (runs[0] / "cells.jsonl").read_text(encoding="utf-8").splitlines()]
            by_poller = {poller: {record["status"] for record in records if record["combo"]["poller"] == poller} for poller in ("epoll", "io_uring")}
            if by_poller != {"epoll": {"ok"}, "io_uring": {"unsupported"}}:
                wrong.append(f"statuses are {by_poller}")
            if "EPERM" not in said or "unsupported" not in said:
                wrong.append(f"the refusal is not said: {said[-1500:]}")
            page = runs[0] / "report.html"
            if not page.is_file() or "unsupported" not in page.read_text(encoding="utf-8"):
                wrong.append("there is no report that says which cells were unsupported")
            analyzed = gearbox("analyze", str(runs[0]), "--json")
            answer = json.loads(analyzed.stdout) if analyzed.returncode == 0 else {}
            if analyzed.returncode != 0 or "global_queue" not in json.dumps(answer):
                wrong.append(f"there is no answer about the combinations that ran: exit {analyzed.returncode}: {analyzed.stdout[-500:]}{analyzed.stderr[-500:]}")
    for line in wrong:
        print(line)
    print(f"refused poller: {len(wrong)} broken")
    return 1 if wrong else 0


sys.exit(main())
