"""The programs in workloads/peers: those whose package is here build, have what the rows ask of them, and answer in one form.

Usage: peer_programs_test.py <source dir> <build dir>. A peer that is not here is not tested; the raw epoll loop needs nothing and always is.
"""
import json
import os
import pathlib
import subprocess
import sys
import unittest

SOURCE, BUILD = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]).resolve()
sys.path.insert(0, str(SOURCE / "harness"))
from analysis import peer_programs, peer_rows  # noqa: E402  (needs the line above)

# Small settings of each workload, as far as a peer has them.
SMALL = {"skynet": {"leaves": 1234}, "binary_trees": {"depth": 8}, "echo": {"requests": 500, "connections": 7},
         "gc_latency": {"ring": 500, "warmup": 1000, "pushes": 5000}, "parked": {"goroutines": 1000}}
# What no answer can be given to. The programs say so themselves, with ok=false.
IMPOSSIBLE = {"go": ("echo", "connections=0"), "fiber": ("skynet", "leaves=0"), "tbb": ("skynet", "leaves=0"), "boehm": ("gc_latency", "ring=0"),
              "mimalloc": ("binary_trees", "depth=5"), "epoll": ("echo", "connections=0")}


def said(*command):
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300)


class Programs(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.programs = {}
        for peer in peer_programs.PEERS.values():
            if peer_programs.is_here(peer):
                cls.programs[peer.name] = peer_programs.build(peer, SOURCE, BUILD / "peers", lambda text: None)

    def each(self):
        for name, program in self.programs.items():
            yield self.subTest(peer=name), name, program

    def answer(self, program, *words, code=0):
        done = said(program, *words)
        self.assertEqual(done.returncode, code, f"{program} {words}: {done.stdout}{done.stderr}")
        self.assertEqual(done.stdout.count("\n"), 1, done.stdout)
        return json.loads(done.stdout)

    def test_the_loop_without_a_package_is_here(self):
        self.assertIn("epoll", self.programs)

    def test_each_has_what_the_rows_ask_of_it(self):
        for case, name, program in self.each():
            with case:
                asked = {row.peers[name].words[0] for row in peer_rows.ROWS if name in row.peers}
                self.assertEqual(asked, set(said(program, "list").stdout.split()))

    def test_workloads_answer_with_the_metrics_that_the_rows_read(self):
        for case, name, program in self.each():
            with case:
                for procs in ("1", "2"):
                    for workload in sorted({row.peers[name].words[0] for row in peer_rows.ROWS if name in row.peers} & set(SMALL)):
                        small = [word for key, value in SMALL[workload].items() for word in ("-set", f"{key}={value}")]
                        answer = self.answer(program, workload, "-procs", procs, *small)
                        self.assertEqual((answer["name"], answer["ok"]), (workload, True))
                        self.assertTrue(answer["version"])
                        read = {row.peers[name].metric for row in peer_rows.ROWS if name in row.peers and row.peers[name].words[0] == workload}
                        # A short run may see no collection, an old Go keeps no pauses, and 1 000 parked goroutines may fit into memory that was there.
                        read -= {metric for metric in read if metric.startswith(("pause_", "stop_"))} | {"bytes"}
                        self.assertLessEqual(read, set(answer["values"]))
                        self.assertTrue(all(answer["values"][metric] > 0 for metric in read), answer)

    def test_the_peak_of_memory_is_their_own(self):
        """The kernel hands the peak of the process that starts a program on to it, as getrusage() tells it; a caller with numpy in it has a large one."""
        large = bytearray(os.urandom(1 << 20) * 256)
        for case, name, program in self.each():
            with case:
                workload = sorted({row.peers[name].words[0] for row in peer_rows.ROWS if name in row.peers} & set(SMALL))[0]
                small = [word for key, value in SMALL[workload].items() for word in ("-set", f"{key}={value}")]
                self.assertLess(self.answer(program, workload, *small)["values"]["rss"], len(large) / 2)

    def test_impossible_settings_have_no_values(self):
        for case, name, program in self.each():
            with case:
                if name in IMPOSSIBLE:
                    workload, setting = IMPOSSIBLE[name]
                    answer = self.answer(program, workload, "-set", setting, code=1)
                    self.assertEqual((answer["ok"], answer["values"]), (False, {}))
                    self.assertIn(setting.split("=")[0], answer["failure"])

    def test_wrong_words_are_refused(self):
        for case, name, program in self.each():
            with case:
                known = said(program, "list").stdout.split()[0]
                for words in ((), ("nothing",), (known, "-set", "nothing=1"), (known, "-set", "nothing"), (known, "-procs", "many"), (known, "-nothing", "1")):
                    done = said(program, *words)
                    self.assertEqual((done.returncode, done.stdout), (2, ""), f"{words}: {done.stderr}")
                    self.assertTrue(done.stderr, words)

    def test_a_benchmark_measures(self):
        """One of each kind of peer, since each takes seconds."""
        for case, name, program in self.each():
            with case:
                benches = [row.peers[name].words for row in peer_rows.ROWS if name in row.peers and row.here[0] == "bench"]
                if benches:
                    answer = self.answer(program, *benches[-1])
                    self.assertTrue(answer["ok"])
                    self.assertGreater(answer["values"]["ns"], 0)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
