"""`gearbox peers` with pretended programs: rows and peers by name, ratios that point one way, verdicts, what is left out, what fails."""
import contextlib
import io
import json
import os
import pathlib
import re
import sys
import tempfile
import unittest
from unittest import mock

from analysis import peer_programs, peer_rows, peer_table, peers
from analysis.load import BadInput

# Answers by the beginning of the words that it is called with; the nth call gets the nth answer, and the last one stays.
PRETENDED = """#!{python} -IS
import json, pathlib, sys
here = pathlib.Path(__file__)
log, words = here.parent / "log", " ".join(sys.argv[1:])
before = [line for line in (log.read_text().splitlines() if log.exists() else []) if line == here.name + " " + words]
with log.open("a") as out:
    out.write(here.name + " " + words + "\\n")
for beginning, answers in json.loads(here.with_suffix(".json").read_text()):
    if words.startswith(beginning):
        answer = answers[min(len(before), len(answers) - 1)]
        print(answer["out"])
        print(answer.get("err", ""), file=sys.stderr)
        sys.exit(answer.get("exit", 0))
sys.exit("the pretended " + here.name + " was called with " + words)
"""
MACHINE = {"cpu": "Pretended CPU", "cores": 2, "memory_bytes": 8 << 30, "kernel": "6.18.1", "os": "Some Linux", "virtualization": "kvm", "verdict": "amber",
           "verdict_reasons": ["2 cores"]}


def answer(value, code=0, err=""):
    return {"out": value if isinstance(value, str) else json.dumps(value), "exit": code, "err": err}


def ran(version="9.9", **values):
    return answer({"name": "x", "ok": True, "version": version, "values": values})


def cell(**metrics):
    hists = [{"name": name, "percentiles": [[99.0, value]]} for name, value in metrics.items() if name in ("gc_pause", "time_to_stop")]
    return answer({"status": "ok", "metrics": [{"name": name, "value": value} for name, value in metrics.items()], "hists": hists})


def benched(ns):
    return answer({"benchmarks": [{"run_type": "iteration", "real_time": ns, "time_unit": "ns"}]})


class WithPretended(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def pretend(self, name, *answers):
        """A program; of each pair the beginning of its words, and the answer or the list of answers."""
        path = self.folder / name
        path.write_text(PRETENDED.format(python=sys.executable), encoding="utf-8")
        path.chmod(0o755)
        path.with_suffix(".json").write_text(json.dumps([[beginning, given if isinstance(given, list) else [given]] for beginning, given in answers]))
        return str(path)

    def run_peers(self, *words, gearbox=(), bench=(), machine=answer(MACHINE), **programs):
        """Exit code, standard output, standard error, and the facts that were written."""
        arguments = [*words, "--out", str(self.folder / "out"), "--gearbox", self.pretend("gearbox-bin", ("doctor --json", machine), *gearbox),
                     "--bench", self.pretend("bench", *bench)]
        for name, answers in programs.items():
            arguments += ["--peer", f"{name}={self.pretend('peer-' + name, *answers)}"]
        code, out, err = self.main(*arguments)
        written = self.folder / "out" / "peers.json"
        return code, out, err, json.loads(written.read_text()) if written.exists() else None

    def main(self, *arguments):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = peers.main(list(arguments))
            except SystemExit as ended:
                code = ended.code
        return code, out.getvalue(), err.getvalue()

    def log(self):
        return (self.folder / "log").read_text(encoding="utf-8").splitlines()


class Ratios(WithPretended):
    def test_each_points_to_gearbox_whatever_is_better(self):
        code, out, _, facts = self.run_peers(
            "--only", "binary_trees,yield", "--rounds", "3", gearbox=[("run binary_trees", cell(throughput=80e6, peak_rss=50e6))],
            bench=[("--benchmark_filter=^yield/", benched(20))], go=[("binary_trees", ran(throughput=40e6, rss=100e6)), ("yield", ran(ns=80))],
            boehm=[("binary_trees", ran(throughput=160e6, rss=25e6))])
        self.assertEqual(code, 0)
        ratios = {(row["name"], peer): side["ratio"]["ratio"] for row in facts["rows"] for peer, side in row["peers"].items()}
        self.assertEqual({key: round(ratio, 6) for key, ratio in ratios.items()},
                         {("binary_trees", "go"): 2, ("binary_trees", "boehm"): 0.5, ("binary_trees_rss", "go"): 2, ("binary_trees_rss", "boehm"): 0.5,
                          ("yield", "go"): 4, ("yield_local", "go"): 4})
        head, *lines = [line for line in out.splitlines() if line.startswith("|")]
        self.assertEqual([text.strip() for text in head.strip("|").split("|")], ["what", "Gearbox", "Go", "Boehm GC", "target: verdict"])
        self.assertIn("80 M | 40 M, x2.00 (2.00 to 2.00) | 160 M, x0.50 (0.50 to 0.50) |", re.sub(" +", " ", lines[1]))

    def test_the_verdict_is_about_the_peer_that_the_target_names(self):
        """Slower than raw epoll and much faster than Go: both targets of the row have their own verdict, and mimalloc's column has none."""
        code, out, _, facts = self.run_peers(
            "--only", "echo_epoll,allocate_16", "--rounds", "3", gearbox=[("run echo", cell(throughput=150e3))],
            bench=[("", benched(2))], go=[("echo", ran(throughput=100e3)), ("allocate", ran(ns=20))], epoll=[("echo", ran(throughput=200e3))],
            mimalloc=[("allocate", ran(ns=1))])
        self.assertEqual(code, 0)
        self.assertEqual({row["name"]: [(target["against"], target["verdict"]) for target in row["targets"]] for row in facts["rows"]},
                         {"echo_epoll": [("go", "met"), ("epoll", "missed")], "allocate_16": [("go", "met")]})
        self.assertIn(">= 1.15x Go: met; >= 0.9x raw epoll: missed", out)

    def test_a_target_inside_the_interval_is_open(self):
        _, _, _, facts = self.run_peers("--only", "select_two", "--rounds", "3", bench=[("", [benched(10), benched(20), benched(30)])],
                                        go=[("select_two", ran(ns=80))])
        row, = facts["rows"]
        self.assertLess(row["peers"]["go"]["ratio"]["low"], 4)
        self.assertGreater(row["peers"]["go"]["ratio"]["high"], 4)
        self.assertEqual([target["verdict"] for target in row["targets"]], ["open"])
        self.assertEqual(row["gearbox"]["median"], 20)

    def test_targets_that_are_no_ratio(self):
        def verdicts(bytes_, stop, raw):
            _, _, _, facts = self.run_peers("--only", "parked_bytes,stop_p99,raw_switch,bare_loop", "--rounds", "3",
                                            gearbox=[("run parked", cell(resident=bytes_)), ("run gc_latency", cell(time_to_stop=stop))],
                                            bench=[("--benchmark_filter=^raw_switch", benched(raw)), ("--benchmark_filter=^bare", benched(2))],
                                            go=[("parked", ran(bytes=1)), ("gc_latency", ran(stop_p99=1))])
            return {row["name"]: target["verdict"] for row in facts["rows"] for target in row["targets"]}
        self.assertEqual(verdicts(4100, 19_000, 2.9), {"parked_bytes": "met", "stop_p99": "met", "raw_switch": "met"})
        self.assertEqual(verdicts(4300, 21_000, 3.1), {"parked_bytes": "missed", "stop_p99": "missed", "raw_switch": "missed"})

    def test_two_rounds_have_no_interval_and_no_verdict(self):
        _, out, _, facts = self.run_peers("--only", "select_two", "--rounds", "2", bench=[("", [benched(10), benched(11)])], go=[("select_two", ran(ns=80))])
        row, = facts["rows"]
        self.assertIsNone(row["peers"]["go"]["ratio"]["low"])
        self.assertEqual([target["verdict"] for target in row["targets"]], ["no verdict from 2 rounds"])
        self.assertIn("takes three rounds", out)

    def test_without_its_peer_a_target_has_no_verdict(self):
        _, out, _, facts = self.run_peers("--only", "yield", "--rounds", "3", bench=[("", benched(20))], fiber=[("yield", ran(ns=60))])
        self.assertEqual({target["verdict"] for row in facts["rows"] for target in row["targets"]}, {"no verdict: Go was not run"})
        self.assertIn("x3.00", out)


class Runs(WithPretended):
    def test_the_machine_and_the_versions_are_at_the_head(self):
        _, out, _, facts = self.run_peers("--only", "yield", "--rounds", "1", bench=[("", benched(20))], go=[("yield", ran("go1.99", ns=60))])
        self.assertTrue(out.startswith("Machine: Pretended CPU, 2 cores, virtual (kvm), 8.0 GiB, Linux 6.18.1, Some Linux. Doctor: amber (2 cores)\n"), out)
        self.assertIn("go1.99", out.splitlines()[1])
        self.assertEqual(facts["machine"], MACHINE)
        self.assertEqual((self.folder / "out" / "peers.md").read_text().splitlines()[0], out.splitlines()[0])

    def test_a_machine_that_says_nothing_of_itself_stops_nothing(self):
        code, out, _, _ = self.run_peers("--only", "yield", "--rounds", "1", bench=[("", benched(20))], machine=answer("", 3, "broken"),
                                         go=[("yield", ran(ns=60))])
        self.assertEqual(code, 0)
        self.assertIn("Machine: not known, since gearbox doctor exit 3: broken", out)

    def test_each_invocation_is_one_process_a_round_and_the_sides_alternate(self):
        _, _, _, facts = self.run_peers("--only", "yield,gc_latency", "--rounds", "4", bench=[("", benched(20))],
                                        gearbox=[("run gc_latency", cell(p50=1, p99=2, **{"p99.9": 3, "p99.99": 4}))],
                                        go=[("yield", ran(ns=60)), ("gc_latency", ran(p50=1, p99=2, **{"p99.9": 3, "p99.99": 4}))],
                                        fiber=[("yield", ran(ns=60))])
        calls = [line for line in self.log() if "doctor" not in line]
        self.assertEqual({line: calls.count(line) for line in calls},
                         {"bench --benchmark_filter=^yield/gmp_1p(/.*)?$ --benchmark_format=json": 4,
                          "bench --benchmark_filter=^yield/gmp_local_1p(/.*)?$ --benchmark_format=json": 4, "peer-go yield -procs 1": 4,
                          "peer-fiber yield -procs 1": 4, "gearbox-bin run gc_latency --json": 4, "peer-go gc_latency": 4})
        for number in range(4):  # no round begins before the one before it has ended
            self.assertEqual(len(set(calls[6 * number:6 * number + 6])), 6)
        self.assertEqual([len(side["values"]) for row in facts["rows"] for side in (row["gearbox"], *row["peers"].values())], [4] * (2 * 3 + 4 * 2))

    def test_medians(self):
        _, _, _, facts = self.run_peers("--only", "select_two", "--rounds", "3", bench=[("", [benched(10), benched(90), benched(20)])],
                                        go=[("", [ran(ns=3), ran(ns=1), ran(ns=2)])])
        self.assertEqual((facts["rows"][0]["gearbox"]["median"], facts["rows"][0]["peers"]["go"]["median"]), (20, 2))

    def test_json(self):
        _, out, _, facts = self.run_peers("--only", "yield", "--rounds", "1", "--json", bench=[("", benched(20))], go=[("yield", ran(ns=60))])
        self.assertEqual(json.loads(out), facts)


class Failures(WithPretended):
    def fails(self, given, expected):
        code, out, err, facts = self.run_peers("--only", "select_two", "--rounds", "3", bench=[("", benched(20))], go=[("", given)])
        self.assertEqual(code, 1)
        self.assertIn("| failed", out)
        self.assertIn(f"gearbox: peers: select_two: go: {expected}", err)
        row, = facts["rows"]
        self.assertIsNone(row["peers"]["go"]["ratio"])
        self.assertEqual([target["verdict"] for target in row["targets"]], ["no verdict: failed"])

    def test_a_wrong_answer(self):
        self.fails(answer({"ok": False, "values": {}, "version": "1", "failure": "the sum is 7"}, 1), "exit 1: the sum is 7")
        self.fails(answer({"ok": False, "values": {"ns": 3}, "version": "1", "failure": "the sum is 7"}), "its answer is wrong: the sum is 7")

    def test_one_of_three_processes_dies(self):
        self.fails([ran(ns=3), answer("", 3, "out of memory"), ran(ns=3)], "exit 3: out of memory")

    def test_what_is_no_measurement_is_a_failure_and_not_a_traceback(self):
        for value, shown in ((0, "0"), (-3.5, "-3.5"), (None, "null"), ("7", '"7"'), (True, "true")):
            self.fails(ran(ns=value), f"ns is {shown}, which is no measurement")
        self.fails(answer('{"ok": true, "version": "1", "values": {"ns": NaN}}'), "ns is NaN")

    def test_answers_of_another_form(self):
        self.fails(answer("words"), "its output is no JSON")
        self.fails(answer("[1]"), "its output is no JSON object: [1]")
        self.fails(answer({"ok": True, "version": "1", "values": [1]}), "1 does not tell its ns")
        self.fails(ran("go1.0", ms=3), "go1.0 does not tell its ns")

    def test_gearbox_fails(self):
        code, out, err, facts = self.run_peers("--only", "parked_bytes", "--rounds", "3", gearbox=[("run parked", cell(resident=0))],
                                               go=[("parked", ran(bytes=5))])
        self.assertEqual(code, 1)
        self.assertIn("parked_bytes: gearbox: resident is 0, which is no measurement", err)
        self.assertEqual(facts["rows"][0]["targets"][0]["verdict"], "no verdict: failed")
        code, _, err, _ = self.run_peers("--only", "select_two", "--rounds", "1", bench=[("", answer({"context": {}}))])
        self.assertEqual(code, 1)
        self.assertIn("select_two: gearbox: its answer has another form: KeyError: 'benchmarks'", err)


class Names(WithPretended):
    def refused(self, *words):
        code, out, err = self.main(*words)
        self.assertEqual((code, out), (2, ""), err)
        self.assertTrue(err.startswith("gearbox: peers: "), err)
        return err

    def test_wrong_names_are_refused_with_the_nearest(self):
        self.assertIn("there is no peer 'fibre'; did you mean 'fiber'?", self.refused("--peers", "go,fibre"))
        self.assertIn("there is no peer 'rust'; there is: go, fiber, tbb, boehm, mimalloc, epoll", self.refused("--peers", "rust"))
        self.assertIn("there is no peer ''", self.refused("--peers", ""))
        self.assertIn("there is no peer ''", self.refused("--peers", "go,"))
        self.assertIn("there is no row 'yeld'; did you mean 'yield'?", self.refused("--only", "yeld"))
        self.assertIn("there is no row ''", self.refused("--only", ""))
        self.assertIn("there is no option '--pers'; did you mean '--peers'?", self.refused("--pers", "go"))
        self.assertIn("there is no option '--peer-s'", self.refused("--peer-s=go"))
        self.assertIn("--rounds is 0; it is at least 1", self.refused("--rounds", "0"))
        self.assertIn("--rounds", self.refused("--rounds", "three"))

    def test_right_words_alone_build_and_run_nothing(self):
        with mock.patch.object(peer_programs, "build", side_effect=AssertionError), mock.patch("subprocess.run", side_effect=AssertionError):
            self.assertEqual(self.main("--peers", "go,fiber", "--only", "yield"), (0, "", ""))

    def test_a_folder_that_cannot_be_written_is_refused_at_once(self):
        (self.folder / "file").write_text("")
        self.assertIn("file", self.refused("--out", str(self.folder / "file" / "below")))
        self.assertIn("/proc", self.refused("--out", "/proc/self/status/below"))

    def test_peers_choose_the_rows_that_they_have(self):
        names = lambda only, peer_names: [row.name for row in peer_rows.chosen(only, peer_names)]
        self.assertEqual(names(None, ["epoll"]), ["echo_epoll", "echo_io_uring"])
        self.assertEqual(names(None, ["tbb"]), ["fib_27", "skynet", "skynet_100k"])
        self.assertEqual(names(None, None), [row.name for row in peer_rows.ROWS])
        self.assertEqual(names("fib_27,yield", ["tbb"]), ["fib_27", "yield", "yield_local"])
        self.assertEqual(peer_programs.named("tbb,go,tbb"), ["go", "tbb"])
        with self.assertRaises(BadInput):
            peer_programs.named("tbb go")

    def test_the_list_says_which_peers_have_a_row(self):
        code, out, _ = self.main("--list")
        self.assertEqual(code, 0)
        self.assertRegex(out, r"(?m)^binary_trees +go, boehm, mimalloc +binary_trees, depth 18$")
        self.assertRegex(out, r"(?m)^raw_switch +- ")
        self.assertRegex(out, r"(?m)^tbb +oneTBB: a bound")

    def test_the_rows_are_in_order(self):
        """Names are unique, targets name a peer that the row has or a row, and each peer has a folder and a row."""
        names = [row.name for row in peer_rows.ROWS]
        self.assertEqual(len(set(names)), len(names))
        for row in peer_rows.ROWS:
            self.assertLessEqual(set(row.peers), set(peer_programs.PEERS), row.name)
            for target in row.targets:
                kind, _, other = target.against.partition(":")
                self.assertIn(other if kind == "row" else kind, names if kind == "row" else ["", *row.peers], row.name)
        for name in peer_programs.PEERS:
            self.assertTrue(any(name in row.peers for row in peer_rows.ROWS), name)
            self.assertTrue((pathlib.Path(peers.ROOT) / "workloads" / "peers" / name).is_dir(), name)


class Programs(WithPretended):
    """Built where the package is, left out with a sentence where it is not."""

    def setUp(self):
        super().setUp()
        for name in peer_programs.PEERS:
            source = self.folder / "tree" / "workloads" / "peers" / name / f"{name}.cc"
            source.parent.mkdir(parents=True)
            source.write_text("int main() {}\n")
        for header in ("boost/fiber/all.hpp", "sys/epoll.h"):
            (self.folder / "include" / header).parent.mkdir(parents=True)
            (self.folder / "include" / header).write_text("")
        # A compiler: looks for headers in one folder, and "builds" by copying; SPOILT makes it fail.
        compiler = self.folder / "cxx"
        compiler.write_text(f"""#!/bin/sh
case " $* " in *' -E '*)
  header=$(sed -n 's/.*__has_include(<\\(.*\\)>).*/\\1/p')
  test -e "{self.folder}/include/$header"; exit ;;
esac
echo "$*" >> {self.folder}/builds
test -z "$SPOILT" || {{ echo "fiber.cc:1: error: spoilt"; exit 1; }}
while [ "$1" != -o ]; do shift; done
cp "{self.folder}/peer-built" "$2"
""")
        compiler.chmod(0o755)
        self.pretend("peer-built", ("yield", ran("built", ns=60)), ("echo", ran("built", throughput=1e5)))
        built = self.folder / "tree" / "build" / "release" / "peers"
        built.mkdir(parents=True)
        for name in ("fiber", "epoll"):
            (built / f"{name}.json").write_text((self.folder / "peer-built.json").read_text())
        for patch in (mock.patch.object(peers, "ROOT", self.folder / "tree"), mock.patch.dict(os.environ, {"CXX": str(compiler), "SPOILT": ""}),
                      mock.patch.object(peer_programs.shutil, "which", lambda name: None)):
            patch.start()
            self.addCleanup(patch.stop)

    def builds(self):
        path = self.folder / "builds"
        return path.read_text().splitlines() if path.exists() else []

    def test_what_is_missing_is_left_out_and_its_package_named(self):
        code, out, err, facts = self.run_peers("--only", "yield,allocate_16,fib_27,gc_latency", "--rounds", "1", bench=[("", benched(20))],
                                               gearbox=[("run", cell(p50=1, p99=2, **{"p99.9": 3, "p99.99": 4}))])
        self.assertEqual(code, 0, err)
        for title, package in (("Go ('go')", "golang-go"), ("oneTBB ('tbb')", "libtbb-dev"), ("Boehm GC ('boehm')", "libgc-dev"),
                               ("mimalloc ('mimalloc')", "libmimalloc-dev")):
            self.assertIn(f"gearbox: peers: {title} is left out: its package {package} is not installed\n", err)
        self.assertNotIn("libboost-fiber-dev", err)
        self.assertNotIn("epoll", err)  # it has none of these rows, and nobody asked for it
        self.assertEqual(list(facts["peers"]), ["fiber"])
        self.assertEqual(facts["peers"]["fiber"]["version"], "built")

    def test_without_any_peer_there_is_gearbox(self):
        for header in ("boost/fiber/all.hpp", "sys/epoll.h"):
            (self.folder / "include" / header).unlink()
        code, out, err, facts = self.run_peers("--only", "yield", "--rounds", "1", bench=[("", benched(20))])
        self.assertEqual((code, facts["peers"]), (0, {}), err)
        self.assertIn("its package libboost-fiber-dev is not installed", err)
        self.assertIn("No peer was run", out)

    def test_a_peer_that_has_none_of_the_rows_is_not_built(self):
        _, _, err, _ = self.run_peers("--peers", "epoll,fiber", "--only", "yield", "--rounds", "1", bench=[("", benched(20))])
        self.assertIn("raw epoll ('epoll') is left out: it has none of these rows", err)
        self.assertEqual(len(self.builds()), 1)
        self.assertIn("workloads/peers/fiber/fiber.cc", self.builds()[0])

    def test_built_once_and_again_when_something_changed(self):
        def run():
            self.run_peers("--peers", "fiber", "--only", "yield", "--rounds", "1", bench=[("", benched(20))])
            return len(self.builds())
        self.assertEqual(run(), 1)
        self.assertEqual(run(), 1)
        source = self.folder / "tree" / "workloads" / "peers" / "fiber" / "fiber.cc"
        later = (self.folder / "tree" / "build" / "release" / "peers" / "fiber").stat().st_mtime_ns + 1_000_000_000
        os.utime(source, ns=(later, later))
        self.assertEqual(run(), 2)
        os.utime(source, ns=(0, 0))
        (self.folder / "tree" / "workloads" / "peers" / "peer.h").write_text("")
        os.utime(self.folder / "tree" / "workloads" / "peers" / "peer.h", ns=(later, later))
        self.assertEqual(run(), 3)
        os.utime(self.folder / "tree" / "workloads" / "peers" / "peer.h", ns=(0, 0))
        with mock.patch.dict(os.environ, {"CXX": os.environ["CXX"] + " -fother"}):
            self.assertEqual(run(), 4)
        left = sorted(path.name for path in (self.folder / "tree" / "build" / "release" / "peers").iterdir())
        self.assertEqual(left, ["epoll.json", "fiber", "fiber.command", "fiber.json", "fiber.log", "log"])

    def test_one_that_does_not_build_stops_before_anything_is_measured(self):
        with mock.patch.dict(os.environ, {"SPOILT": "yes"}):
            code, _, err, facts = self.run_peers("--only", "yield", "--rounds", "1", bench=[("", benched(20))])
        self.assertEqual((code, facts), (1, None))
        self.assertIn("the peer fiber does not build; the whole log is ", err)
        self.assertIn("fiber.cc:1: error: spoilt", err)
        self.assertFalse((self.folder / "log").exists())


class Texts(unittest.TestCase):
    def test_a_machine_with_few_facts(self):
        self.assertEqual(peer_table.machine_line({"cpu": "X", "cores": 1, "virtualization": "none"}), "Machine: X, 1 cores")

    def test_values_are_shown_in_their_unit(self):
        self.assertEqual([peer_table.si(value, unit) for value, unit in ((12.3456, "ns"), (4200, "ns"), (5e7, "ns"), (2e9, "ns"), (4200, "B"), (78e6, "B"),
                                                                        (1.66e6, "leaves/s"))],
                         ["12.3 ns", "4.2 us", "50 ms", "2 s", "4.10 KiB", "74 MiB", "1.66 M"])


if __name__ == "__main__":
    unittest.main()
