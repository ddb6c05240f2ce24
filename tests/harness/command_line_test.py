"""The command line as users and scripts meet it: exit codes, what is on standard output, signals, and runs that go on.

Usage: command_line_test.py <source dir> <build dir>
"""
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

from shared import GC_LATENCY, GEARBOX, PING_PONG, SOURCE, experiment, refuse_io_uring

EXPERIMENT = experiment(PING_PONG, GC_LATENCY, collectors=("concurrent", "stw"), pollers=("epoll", "io_uring"))


class Case(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.experiment = self.folder / "tiny.toml"
        self.experiment.write_text(EXPERIMENT)
        self.environment = {**os.environ, "GEARBOX_ROOT": str(SOURCE)}

    def start(self, *arguments, program=GEARBOX, **more):
        process = subprocess.Popen([program, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL,
                                   env={**self.environment, **more.pop("environment", {})}, **more)
        self.addCleanup(process.__exit__, None, None, None)  # closes the pipes, and waits
        self.addCleanup(process.kill)  # before that: a test that failed leaves nothing running
        return process

    def call(self, *arguments, **more):
        process = self.start(*arguments, **more)
        out, err = process.communicate(timeout=240)
        self.assertNotIn("Traceback", err)
        self.assertNotIn("type_error", err)
        return process.returncode, out, err

    def sweep(self, *more, **how):
        return self.call("sweep", self.experiment, "--out", self.folder / "results", *more, **how)

    def run_folder(self):
        return next((self.folder / "results" / "tiny").glob("2*"))

    def records(self):
        return [json.loads(line) for line in (self.run_folder() / "cells.jsonl").read_text().splitlines()]


class Finished(Case):
    """What can be asked of a finished run: one sweep for all tests, since its figures take longer than its cells."""
    OPTIONS = ["--blocks", "2", "--seed", "5", "--only", "collector=concurrent"]

    @classmethod
    def setUpClass(cls):
        cls.shared = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.shared.cleanup)
        cls.finished = None

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.shared.name)
        if Finished.finished is None:
            Finished.finished = self.sweep(*self.OPTIONS, "--json")

    def test_standard_output_is_json_and_nothing_else(self):
        code, out, err = self.finished
        self.assertEqual(code, 0, err)
        facts = json.loads(out)
        self.assertEqual((facts["failed"], facts["interrupted"]), (0, False))
        run = str(self.run_folder())
        for arguments in (["list"], ["list", "matrix"], ["describe", "scheduler=gmp"], ["describe", "workload=gc_latency"], ["doctor"],
                          ["run", "ping_pong", "--set", "rounds=500"], ["run", "ping_pong", "--set", "rounds=500", "--boot-trace"],
                          ["resume", run], ["answer", run], ["table", run], ["plot", run, "--only", "gears"], ["report", run], ["analyze", run], ["export", run], ["compare", run, run]):
            code, out, err = self.call(*arguments, "--json")
            self.assertEqual(code, 0, (arguments, err))
            with self.subTest(arguments=arguments):
                json.loads(out, parse_constant=lambda text: self.fail(f"{text} is not JSON"))
        code, out, err = self.call("sweep", self.experiment, "--dry-run", "--json")
        self.assertEqual([json.loads(line)["seq"] for line in out.splitlines()], list(range(16)))

    def test_headlines_reach_the_table(self):
        code, out, _ = self.call("table", self.run_folder())
        self.assertIn("gc_latency: p99.9 (ns), lower is better", out)
        self.assertIn("and its throughput (pushes/s), higher is better", out)

    def test_what_the_options_changed_is_in_manifest_and_report(self):
        manifest = json.loads((self.run_folder() / "manifest.json").read_text())
        self.assertEqual(manifest["overrides"], {"blocks": 2, "seed": 5, "only": "collector=concurrent", "out": str(self.folder / "results")})
        page = (self.run_folder() / "report.html").read_text()
        self.assertIn("--blocks 2 --seed 5 --only collector=concurrent --out", page)

    def test_options_that_do_not_exist_get_the_nearest(self):
        for arguments in (["table", "--jsn"], ["plot", "--onyl"], ["report", "--jsno"], ["analyze", "--jso"]):
            code, _, err = self.call(arguments[0], self.run_folder(), arguments[1])
            self.assertEqual((code, "did you mean '--" in err), (2, True), err)


    def test_an_option_that_takes_two_words_may_stand_anywhere(self):
        run = self.run_folder()
        for arguments in (("analyze", run, "--pair", "gmp", "gmp"), ("analyze", "--pair", "gmp", "gmp", run)):
            code, _, err = self.call(*arguments)
            self.assertEqual((code, err), (2, "analysis: --pair: 'gmp' and 'gmp' are one treatment on every workload of this run, or never planned of the same one\n"))

    def test_exports(self):
        for format, begin in (("csv", "seq,block,replicate,workload,"), ("benchfmt", "experiment: tiny\n"), ("gbench", '{\n  "context": {')):
            code, out, err = self.call("export", self.run_folder(), "--format", format)
            self.assertEqual((code, err), (0, ""))
            self.assertTrue(out.startswith(begin), out[:80])


class Failures(Case):
    def test_a_cell_that_cannot_be_started(self):
        nowhere = str(self.folder / "nowhere")  # not /nonexistent: that is the home of `nobody`, and programs make it
        code, out, err = self.call("run", "ping_pong", environment={"TMPDIR": nowhere})
        self.assertEqual((code, "infra" in out, nowhere in out), (1, True, True), out + err)
        code, out, _ = self.call("run", "ping_pong", "--json", environment={"TMPDIR": nowhere})
        self.assertEqual((code, json.loads(out)["status"]), (1, "infra"))

    def test_only_a_refusal_is_unsupported(self):
        for error_number, status in ((1, "unsupported"), (38, "unsupported"), (22, "exit"), (12, "exit")):
            code, out, err = self.call("run", "ping_pong", "--poller", "io_uring", "--set", "rounds=500", "--json", preexec_fn=refuse_io_uring(error_number))
            self.assertEqual((code, json.loads(out)["status"]), (1, status), (error_number, out, err))

    def test_a_sweep_may_be_told_that_unsupported_is_not_good_enough(self):
        code, out, err = self.sweep("--json", "--blocks", "1", preexec_fn=refuse_io_uring(1))
        self.assertEqual((code, json.loads(out)["unsupported"], json.loads(out)["failed"]), (0, 4, 0), err)
        code, _, _ = self.call("resume", self.run_folder(), "--fail-unsupported")
        self.assertEqual(code, 1)
        code, out, _ = self.call("table", self.run_folder())
        self.assertIn("unsupported", out)
        self.assertNotIn("unreliable: ", out)


class InTheMiddle(Case):
    def wait_for_records(self, process, count):
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            try:
                if len(self.records()) >= count:
                    return
            except (OSError, StopIteration, ValueError):
                pass
            time.sleep(0.01)
        self.fail(f"no {count} records: {process.communicate()}")

    def start_sweep(self, **how):
        # More blocks than will have run when the signal comes, however fast the machine.
        return self.start("sweep", self.experiment, "--out", self.folder / "results", "--blocks", "20", "--only", "workload=ping_pong & poller=epoll",
                          "--json", **how)

    def test_ctrl_c_stops_between_cells_and_resume_goes_on(self):
        process = self.start_sweep()
        self.wait_for_records(process, 2)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
        self.assertEqual(process.returncode, 130, err)
        self.assertTrue(json.loads(out)["interrupted"])
        self.assertIn("gearbox resume", err)
        before = self.records()
        self.assertTrue(all(record["status"] == "ok" for record in before), before)
        code, out, err = self.call("resume", self.run_folder(), "--json")
        self.assertEqual(code, 0, err)
        records = self.records()
        self.assertEqual(records[:len(before)], before)
        self.assertEqual(sorted(record["seq"] for record in records), list(range(40)))

    def test_a_hangup_that_is_ignored_stays_ignored(self):
        process = self.start_sweep(preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))  # what nohup does
        self.wait_for_records(process, 2)
        process.send_signal(signal.SIGHUP)
        out, err = process.communicate(timeout=240)
        self.assertEqual(process.returncode, 0, err)
        self.assertEqual(json.loads(out)["ok"], 40)

    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def setUp(self):
        super().setUp()
        for number in self.SIGNALS:  # a shell in the background, or nohup, has them ignored, and what is ignored stays so
            former = signal.getsignal(number)
            if former is signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)
                self.addCleanup(signal.signal, number, former)

    def test_a_server_ends_well_when_told_to(self):
        process = self.start("run", "kv_server", "--set", "serve=on", "--json")
        line = process.stderr.readline()  # it says where it listens
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        self.assertEqual((process.returncode, json.loads(out)["status"]), (0, "ok"), line + err)

    def test_a_cell_that_serves_ends_well_at_every_signal_on_every_poller(self):
        for poller in ("epoll", "io_uring"):
            for number in self.SIGNALS:
                process = self.cell_that_serves(poller)
                if process is None:
                    continue
                process.send_signal(number)
                out, err = process.communicate(timeout=60)
                self.assertEqual(process.returncode, 0, (poller, number, out + err))

    def test_a_server_beyond_loopback_needs_a_password_and_tells_it_to_nobody(self):
        code, out, err = self.call("run", "kv_server", "--set", "serve=on", "--set", "bind=any", "--set", "port=6399")
        self.assertEqual(code, 1, err)
        for part in ("bind=any", "0.0.0.0:6399", "auth=on", "GEARBOX_KV_PASSWORD"):
            self.assertIn(part, out)
        code, out, _ = self.call("run", "kv_server", "--set", "serve=on", "--set", "auth=on", environment={"GEARBOX_KV_PASSWORD": ""})
        self.assertEqual((code, "GEARBOX_KV_PASSWORD, which is empty" in out), (1, True), out)
        process = self.start("run", "kv_server", "--set", "serve=on", "--set", "auth=on", "--json", environment={"GEARBOX_KV_PASSWORD": "opensesame"})
        line = process.stderr.readline()
        port = int(line.split("127.0.0.1:")[1].split(";")[0])
        with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
            replies = client.makefile("rb")
            for request, reply in ((b"PING\r\n", b"-NOAUTH Authentication required.\r\n"), (b"AUTH opensesame\r\n", b"+OK\r\n"), (b"PING\r\n", b"+PONG\r\n")):
                client.sendall(request)
                self.assertEqual(replies.readline(), reply)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
        self.assertEqual((process.returncode, "opensesame" in line + out + err), (0, False), err)

    def test_a_cell_that_serves_nobody_dies_of_the_signal(self):
        for number in self.SIGNALS:
            process = self.start("run", "ping_pong", "--set", "rounds=1000000000", "--boot-trace", "--timeout", "0", "--json")
            while "main begins" not in process.stderr.readline():
                self.assertIsNone(process.poll())
            process.send_signal(number)
            out, err = process.communicate(timeout=60)
            self.assertEqual((process.returncode, out), (130, ""), (number, err))

    def test_a_signal_to_us_alone_ends_the_analysis_as_well(self):
        sleeper = self.folder / "python"
        sleeper.write_text(f"#!/bin/sh\necho $$ >{self.folder}/pid\nexec sleep 1000\n")
        sleeper.chmod(0o755)
        run = self.folder / "results" / "tiny" / "20240101T000000Z-x"
        run.mkdir(parents=True)
        (run / "plan.jsonl").touch()
        (run / "manifest.json").write_text("{}")
        for number in self.SIGNALS:
            process = self.start("report", run, environment={"GEARBOX_PYTHON": str(sleeper)})
            pid = self.folder / "pid"
            while not (pid.exists() and pid.read_text().endswith("\n")):
                self.assertIsNone(process.poll(), "it has ended already")
                time.sleep(0.01)
            child = int(pid.read_text())
            while pathlib.Path(f"/proc/{child}/comm").read_text() != "sleep\n":
                time.sleep(0.01)
            process.send_signal(number)
            out, err = process.communicate(timeout=60)
            self.assertEqual(process.returncode, 130, out + err)
            self.assertFalse(pathlib.Path(f"/proc/{child}").exists())
            pid.unlink()

    def cell_that_serves(self, poller="epoll"):
        """A cell without a runner; None when this machine refuses the poller."""
        spec = self.folder / "spec.json"
        spec.write_text(json.dumps({"seq": 0, "block": 0, "cell": "x", "workload": "kv_server", "params": {"serve": "on"}, "procs": 1, "runner": os.getpid(),
                                    "combo": {"scheduler": "gmp", "allocator": "size_class", "collector": "stw", "poller": poller}}))
        with open(self.folder / "result.json", "w+") as result:
            process = self.start("cell", spec, close_fds=False, preexec_fn=lambda: (os.dup2(result.fileno(), 3), os.set_inheritable(3, True)))
        line = process.stdout.readline()
        if not line and "unsupported" in (self.folder / "result.json").read_text():
            process.communicate()
            return None
        self.assertIn("serving on", line)
        return process

    def test_no_thread_but_one_can_be_given_the_signal(self):
        process = self.cell_that_serves()
        takers = []
        for thread in pathlib.Path(f"/proc/{process.pid}/task").iterdir():
            fields = dict(line.split(":\t", 1) for line in (thread / "status").read_text().splitlines())
            blocked = int(fields["SigBlk"], 16)
            if not all(blocked >> (number - 1) & 1 for number in self.SIGNALS):
                takers.append(fields["Name"])
        self.assertIn(takers, ([], ["gearbox-signals"]))
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(timeout=60), 0)
        process.communicate()

    def test_a_cell_at_its_time_limit_is_a_timeout_however_it_ends(self):
        code, out, err = self.call("run", "kv_server", "--set", "serve=on", "--timeout", "1", "--json")
        self.assertEqual((code, json.loads(out)["status"]), (1, "timeout"), err)

    def test_a_build_in_the_middle_of_a_sweep_changes_nothing(self):
        program = self.folder / "gearbox-copy"
        shutil.copy(GEARBOX, program)
        process = self.start_sweep(program=str(program))
        self.wait_for_records(process, 2)
        program.unlink()  # what a linker does
        program.write_text("#!/bin/sh\nexit 9\n")
        program.chmod(0o755)
        out, err = process.communicate(timeout=240)
        self.assertEqual(process.returncode, 0, err)
        self.assertEqual(json.loads(out)["ok"], 40)


class FrontDoor(unittest.TestCase):
    def test_what_does_not_exist_gets_the_nearest(self):
        for arguments, environment, said in ((["test", "--prset"], {}, "did you mean '--preset'?"), (["test", "--preset", "relase"], {}, "did you mean 'release'?"),
                                             (["list"], {"GEARBOX_PRESET": "cheked"}, "did you mean 'checked'?")):
            done = subprocess.run([SOURCE / "gearbox", *arguments], env={**os.environ, **environment}, capture_output=True, text=True, timeout=60)
            self.assertEqual(done.returncode, 2, done)
            self.assertIn(said, done.stderr)
        done = subprocess.run([SOURCE / ".ci" / "run", "smok"], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 2, done)

    def count(self, ctest, python):
        """Last line, exit code and the rest of `gearbox test` in a tree where ninja, ctest and Python only pretend."""
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            for name in ("build/checked", "tests/analysis", "bin"):
                (root / name).mkdir(parents=True)
            shutil.copy(SOURCE / "gearbox", root / "gearbox")
            for name in ("build/checked/build.ninja", "build/checked/CMakeCache.txt", "tests/analysis/test_x.py"):
                (root / name).touch()
            for name, text in (("ninja", "exit 0"), ("ctest", f"cat <<'END'\n{ctest}\nEND"), ("python", python)):
                (root / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
                (root / "bin" / name).chmod(0o755)
            stamp = subprocess.run(["bash", "-c", "cksum <gearbox; cat /etc/debian_version 2>/dev/null || true"], cwd=root, capture_output=True, text=True).stdout
            (root / "build" / ".packages").write_text(stamp)
            done = subprocess.run([root / "gearbox", "test"], capture_output=True, text=True, timeout=60,
                                  env={**os.environ, "GEARBOX_WERROR": "", "PATH": f"{root}/bin:{os.environ['PATH']}", "GEARBOX_PYTHON": str(root / "bin" / "python")})
            return done.stdout.splitlines()[-1:], done.returncode, done.stdout + done.stderr

    def test_python_that_dies_is_counted(self):
        good = "100% tests passed, 0 tests failed out of 3"
        self.assertEqual(self.count(good, "echo 'Ran 5 tests in 1s' >&2; echo OK >&2")[:2], (["8 passed, 0 failed"], 0))
        self.assertEqual(self.count(good, "kill -SEGV $$")[:2], (["3 passed, 1 failed"], 1))
        self.assertEqual(self.count(good, "echo 'Ran 5 tests in 1s'; echo 'FAILED (failures=1, errors=2, skipped=1)'; exit 1")[:2], (["4 passed, 3 failed"], 1))

    def test_a_skipped_test_is_no_passed_one(self):
        ctest = " 1/3 Test #1: a.b ......   Passed    0.1 sec\n 2/3 Test #2: c.d ......***Skipped   0.1 sec\n100% tests passed, 0 tests failed out of 3"
        last, code, all_of_it = self.count(ctest, "echo 'Ran 5 tests in 1s'; echo 'OK (skipped=2)'")
        self.assertEqual((last, code), (["5 passed, 0 failed"], 0))
        self.assertIn("not run: c.d", all_of_it)
        self.assertIn("3 were skipped", all_of_it)


class Memory(Case):
    def test_the_peak_of_a_cell_is_its_own(self):
        ballast = bytearray(400 << 20)  # of the process that starts the cell
        for at in range(0, len(ballast), 4096):
            ballast[at] = 1
        spec = self.folder / "spec.json"
        spec.write_text(json.dumps({"seq": 0, "block": 0, "cell": "x", "workload": "ping_pong", "params": {"rounds": 500}, "procs": 1, "runner": os.getpid(),
                                    "combo": {"scheduler": "gmp", "allocator": "size_class", "collector": "stw", "poller": "epoll"}}))
        with open(self.folder / "result.json", "w+") as result:
            cell = subprocess.Popen([GEARBOX, "cell", spec], close_fds=False,
                                    preexec_fn=lambda: (os.dup2(result.fileno(), 3), os.set_inheritable(3, True)))
            _, status, usage = os.wait4(cell.pid, 0)
            cell.returncode = os.waitstatus_to_exitcode(status)
            self.assertEqual(cell.returncode, 0)
            result.seek(0)  # the offset is shared with the cell
            record = json.load(result)
        peak = next(metric["value"] for metric in record["metrics"] if metric["name"] == "peak_rss")
        self.assertGreater(usage.ru_maxrss * 1024, len(ballast))  # what rusage says of it
        self.assertTrue(1 << 20 < peak < len(ballast), peak)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
