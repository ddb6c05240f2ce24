// Cells that misbehave, records that survive, runs that go on: with a shell script in the place of the cell's program.
#include "harness/sweep.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include "base/os/file.h"
#include "base/os/memory.h"

namespace gearbox::harness {
namespace {

namespace fs = std::filesystem;

constexpr const char* kGood =
    R"(echo '{"status":"ok","metrics":[{"name":"throughput","unit":"x/s","better":"higher","value":1}]}' >&3)";

class SweepTest : public ::testing::Test {
 protected:
  void SetUp() override { folder_ = *os::make_temporary_folder("gearbox-test-"); }
  void TearDown() override { fs::remove_all(folder_); }
  static CellRunner runner(const std::string& script) { return CellRunner({"/bin/sh", "-c", script}); }
  static Plan small_plan(std::uint64_t cells) {
    Plan plan;
    for (std::uint64_t i = 0; i < cells; ++i) {
      Cell cell;
      cell.seq = i;
      cell.workload = "fake";
      cell.params = {{"n", std::to_string(i)}};
      cell.id = cell_id(cell, "build");
      plan.cells.push_back(cell);
    }
    return plan;
  }
  RunDirectory new_run(std::uint64_t cells) {
    auto run = RunDirectory::create(folder_, "fake", "text", {{"schema", 1}}, plan_text(small_plan(cells)));
    GEARBOX_REQUIRE(run.ok(), "{}", run.error().message);
    return std::move(*run);
  }
  static std::string text_of(const std::string& path) { return *os::read_file(path); }
  static std::map<std::uint64_t, int> lines_per_seq(const std::string& path) {
    std::map<std::uint64_t, int> out;
    std::ifstream file(path + "/cells.jsonl");
    for (std::string line; std::getline(file, line);) ++out[(*parse_json(line, "line"))["seq"].get<std::uint64_t>()];
    return out;
  }
  std::string folder_;
};

TEST_F(SweepTest, EachWayToEndHasItsStatus) {
  struct Case {
    const char *script, *status, *in_reason;
  };
  for (const Case& c :
       {Case{kGood, "ok", ""}, Case{"exit 3", "exit", "exit code 3"},
        Case{"echo 'panic: boo' >&2; exit 2", "exit", "panic: boo"}, Case{"kill -SEGV $$", "signal", "SIGSEGV"},
        Case{"sleep 60 & sleep 60", "timeout", "within 1 s"},
        Case{"trap '' TERM; while :; do sleep 0.1; done", "timeout", "within 1 s"},
        Case{"echo garbage >&3", "infra", "no readable result"}, Case{"echo '[]' >&3", "infra", "must be an object"},
        Case{"true", "infra", "no readable result"}, Case{"yes", "signal", "printed more than"}}) {
    CellRunner r = runner(c.script);
    r.limits.timeout_s = 1;
    r.limits.output_limit_mib = 8;
    const auto outcome = r.run(small_plan(1).cells[0], 1, 7);
    EXPECT_EQ(outcome.record["status"], c.status) << c.script << ": " << to_line(outcome.record);
    if (*c.in_reason != '\0')
      EXPECT_NE(outcome.record["reason"].get<std::string>().find(c.in_reason), std::string::npos)
          << to_line(outcome.record);
    if (outcome.record["status"] != "ok") EXPECT_TRUE(outcome.record["metrics"].empty());
  }
  CellRunner missing({"/nonexistent/cell"});
  const Json record = missing.run(small_plan(1).cells[0], 1, 7).record;
  EXPECT_EQ(record["status"], "infra");
  for (const char* key : {"checks", "metrics", "hists"}) EXPECT_TRUE(record.at(key).is_array()) << key;
  for (const char* key : {"rusage", "noise", "effective", "counters"}) EXPECT_TRUE(record.at(key).is_object()) << key;
}

TEST_F(SweepTest, AWrongAnswerIsAFailureAndARefusedGearIsNot) {
  RunDirectory wrong = new_run(2);
  const auto result = [](const char* status) {
    return fmt::format(R"(echo '{{"status":"{}","reason":"a sentence","metrics":[]}}' >&3)", status);
  };
  auto end = run_plan(wrong, runner(result("check_failed")), 1, true);
  ASSERT_TRUE(end);
  EXPECT_EQ(end->failed, 2u);
  EXPECT_TRUE(fs::exists(wrong.path() + "/blobs/0-1.stdout"));
  RunDirectory refused = new_run(2);
  end = run_plan(refused, runner(result("unsupported")), 1, true);
  ASSERT_TRUE(end);
  EXPECT_EQ(end->unsupported, 2u);
  EXPECT_EQ(end->failed, 0u);
}

TEST_F(SweepTest, AStatusThatNobodyKnowsEndsTheCellAndNotTheSweep) {
  RunDirectory run = new_run(2);
  auto end = run_plan(run, runner(R"(echo '{"status":"banana"}' >&3)"), 1, true);
  ASSERT_TRUE(end) << end.error().message;
  EXPECT_EQ(end->failed, 2u);
}

TEST_F(SweepTest, ARecordThatLacksOnlyItsNewlineCountsAndGetsIt) {
  std::string path;
  {
    RunDirectory run = new_run(3);
    path = run.path();
    ASSERT_TRUE(run_plan(run, runner(kGood), 1, true));
  }
  const std::string before = text_of(path + "/cells.jsonl");
  fs::resize_file(path + "/cells.jsonl", before.size() - 1);
  auto run = RunDirectory::open(path);
  ASSERT_TRUE(run) << run.error().message;
  EXPECT_FALSE(run->repaired());
  EXPECT_EQ(run->done().size(), 3u);
  EXPECT_EQ(text_of(path + "/cells.jsonl"), before);
}

TEST_F(SweepTest, MemoryOverTheLimitIsOom) {
  CellRunner r({"/usr/bin/python3", "-c",
                "import time\nx = bytearray(400 << 20)\nfor i in range(0, len(x), 4096): x[i] = 1\ntime.sleep(30)"});
  r.limits.mem_limit_mib = 100;
  EXPECT_EQ(r.run(small_plan(1).cells[0], 1, 7).record["status"], "oom");
}

TEST_F(SweepTest, TheMemoryOfACellsChildrenCounts) {
  CellRunner r(
      {"/usr/bin/python3", "-c",
       "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'import time\\nx = bytearray(400 << 20)\\n"
       "for i in range(0, len(x), 4096): x[i] = 1\\ntime.sleep(30)'])"});
  r.limits.mem_limit_mib = 100;
  EXPECT_EQ(r.run(small_plan(1).cells[0], 1, 7).record["status"], "oom");
}

TEST_F(SweepTest, ACellSeesACleanEnvironmentAndAnEmptyFolder) {
  ::setenv("GEARBOX_SECRET", "1", 1);
  const auto outcome = runner("ls -A; env; exit 1").run(small_plan(1).cells[0], 1, 7);
  EXPECT_EQ(outcome.output.find("GEARBOX_SECRET"), std::string::npos);
  EXPECT_EQ(outcome.output.find("spec.json"), std::string::npos);
  EXPECT_NE(outcome.output.find("GEARBOX_PADDING=x"), std::string::npos);
}

TEST_F(SweepTest, RunsEveryCellOnceAndKeepsWhatFailedCellsPrinted) {
  RunDirectory run = new_run(5);
  auto end = run_plan(run, runner("echo out; echo err >&2; exit 4"), 1, true);
  ASSERT_TRUE(end);
  EXPECT_EQ(end->failed, 5u);
  for (const auto& [seq, lines] : lines_per_seq(run.path())) EXPECT_EQ(lines, 1) << seq;
  EXPECT_EQ(text_of(run.path() + "/blobs/3-1.stdout"), "out\n");
  EXPECT_EQ(text_of(run.path() + "/blobs/3-1.stderr"), "err\n");
  EXPECT_EQ(run_plan(run, runner(kGood), 1, true)->ran, 0u);  // failed cells are results, too
}

TEST_F(SweepTest, ATruncatedLastLineIsCutOffAndItsCellRunsAgain) {
  std::string path;
  {
    RunDirectory run = new_run(3);
    path = run.path();
    ASSERT_TRUE(run_plan(run, runner(kGood), 1, true));
  }
  fs::resize_file(path + "/cells.jsonl", fs::file_size(path + "/cells.jsonl") - 5);
  auto run = RunDirectory::open(path);
  ASSERT_TRUE(run) << run.error().message;
  EXPECT_TRUE(run->repaired());
  EXPECT_EQ(run->done().size(), 2u);
  EXPECT_EQ(run_plan(*run, runner(kGood), 1, true)->ran, 1u);
  EXPECT_EQ(lines_per_seq(path).size(), 3u);
}

TEST_F(SweepTest, DamageInTheMiddleIsRefusedWithItsLine) {
  std::string path;
  {
    RunDirectory run = new_run(1);
    path = run.path();
  }
  std::ofstream(path + "/cells.jsonl") << "{\"seq\":0,\"status\":\"ok\"}\ngarbage\n{\"seq\":0,\"status\":\"ok\"}\n";
  auto run = RunDirectory::open(path);
  ASSERT_FALSE(run);
  EXPECT_NE(run.error().message.find("cells.jsonl:2"), std::string::npos) << run.error().message;
  // A whole line of rubbish at the end is no half-written record either.
  std::ofstream(path + "/cells.jsonl") << "{\"seq\":0,\"status\":\"ok\"}\ngarbage\n";
  EXPECT_FALSE(RunDirectory::open(path));
}

TEST_F(SweepTest, TheRunnerNeedsNoMoreMemoryThanItsCellsSay) {
  RunDirectory run = new_run(3);
  const pid_t child = ::fork();  // a process of its own: its peak begins with what it has now
  if (child == 0) {
    const std::uint64_t before = os::peak_resident_bytes();
    auto end = run_plan(run, runner(kGood), 1, true);
    ::_exit(!end || end->ok != 3 ? 1 : os::peak_resident_bytes() - before > 32u << 20 ? 2 : 0);
  }
  int status = -1;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0) << "exit code 2: the peak of the resident memory grew by more than 32 MiB";
}

// Records that vanish or change under a running sweep end it: what would be written has no place any more.
TEST_F(SweepTest, RecordsThatAreTakenAwayEndTheSweep) {
  for (const char* deed : {"rm {}/cells.jsonl", "mv {}/cells.jsonl {}/elsewhere; : >{}/cells.jsonl",
                           ": >{}/cells.jsonl", "echo '{{}}' >>{}/cells.jsonl", "rm -r {}", "mv {} {}.moved"}) {
    for (const char* when : {"1", "2"}) {  // the last cell, too
      RunDirectory run = new_run(3);
      const std::string command = fmt::format(fmt::runtime(deed), run.path(), run.path(), run.path());
      const std::string script =
          fmt::format("mkdir -p {0}; n=$(ls {0} | wc -l); : >{0}/$n; [ $n != {1} ] || {{ {2}; }}; {3}",
                      folder_ + "/count", when, command, kGood);
      auto end = run_plan(run, runner(script), 1, true);
      ASSERT_FALSE(end) << command << ", cell " << when;
      EXPECT_NE(end.error().message.find("cells.jsonl"), std::string::npos) << end.error().message;
      fs::remove_all(folder_ + "/count");
    }
  }
}

TEST_F(SweepTest, OneWriterAtATime) {
  RunDirectory run = new_run(1);
  auto second = RunDirectory::open(run.path());
  ASSERT_FALSE(second);
  EXPECT_NE(second.error().message.find("another gearbox"), std::string::npos);
}

TEST_F(SweepTest, AFullDiskLeavesWholeLinesOnly) {
  auto full = os::open_for_appending("/dev/full");
  ASSERT_TRUE(full);
  auto status = os::append_line(*full, "line", "/dev/full");
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().error_number, ENOSPC);
}

TEST_F(SweepTest, KilledRunnerResumesWithTheSamePlanAndNothingLostOrTwice) {
  constexpr std::uint64_t kCells = 30;
  std::string path;
  {
    RunDirectory run = new_run(kCells);
    path = run.path();
  }
  const std::string plan_before = text_of(path + "/plan.jsonl");
  const std::string script = std::string("sleep 0.01; ") + kGood;
  for (int round = 0; round < 3; ++round) {
    const pid_t child = ::fork();
    if (child == 0) {
      auto run = RunDirectory::open(path);
      if (run) (void)run_plan(*run, runner(script), 1, true);
      ::_exit(0);
    }
    ::usleep(300'000);
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
  }
  auto run = RunDirectory::open(path);
  ASSERT_TRUE(run) << run.error().message;
  ASSERT_TRUE(run_plan(*run, runner(script), 1, true));
  EXPECT_EQ(text_of(path + "/plan.jsonl"), plan_before);
  const auto lines = lines_per_seq(path);
  EXPECT_EQ(lines.size(), kCells);
  for (const auto& [seq, count] : lines) EXPECT_EQ(count, 1) << "seq " << seq;
}

constexpr const char* kToml =
    "schema = 1\n[experiment]\nname = \"t\"\nquestion = \"q?\"\nhypothesis = \"h\"\n%s[design]\nblocks = 4\nseed = 9\n";

std::string toml_with(const std::string& middle) {
  std::string text = kToml;
  return text.replace(text.find("%s"), 2, middle);
}
std::string any_workload() { return "[[workload]]\nname = \"" + std::string(all_workloads().at(0).name) + "\"\n"; }

TEST(Plan, SameSeedSameBytesAndEachBlockHoldsEachCellOnce) {
  auto experiment = parse_experiment(toml_with(any_workload()), "t.toml");
  ASSERT_TRUE(experiment) << experiment.error().message;
  experiment->factor("procs").levels = {"1", "2", "3", "4", "5"};
  auto a = make_plan(*experiment, "b", nullptr), b = make_plan(*experiment, "b", nullptr);
  ASSERT_TRUE(a && b);
  EXPECT_EQ(plan_text(*a), plan_text(*b));
  std::map<std::uint64_t, std::set<std::string>> blocks;
  for (std::size_t i = 0; i < a->cells.size(); ++i) {
    EXPECT_EQ(a->cells[i].seq, i);
    EXPECT_TRUE(blocks[a->cells[i].block].insert(a->cells[i].id).second);
  }
  EXPECT_EQ(blocks.size(), 4u);
  for (const auto& [block, ids] : blocks) EXPECT_EQ(ids, blocks[0]) << block;
  experiment->seed = 10;
  EXPECT_NE(plan_text(*make_plan(*experiment, "b", nullptr)), plan_text(*a));
  EXPECT_NE(make_plan(*experiment, "other", nullptr)->cells[0].id, a->cells[0].id);
}

TEST(Experiment, MistakesNameFileLineAndNearest) {
  struct Case {
    std::string text, expected;
  };
  for (const Case& c :
       {Case{toml_with("questoin = \"x\"\n" + any_workload()), "t.toml:6: [experiment] has no key 'questoin'"},
        Case{toml_with("[factors]\nscheduler = [\"gmpp\"]\n" + any_workload()),
             "t.toml:7: there is no scheduler 'gmpp'"},
        Case{toml_with("[factors]\nprocs = [0]\n" + any_workload()), "t.toml:7: "},
        Case{toml_with("[factors]\nprocs = [-1]\n" + any_workload()), "t.toml:7: "},
        Case{toml_with("[factors]\nscheduler = []\n" + any_workload()), "empty list"},
        Case{toml_with("[[workload]]\nname = \"siev\"\n"), "t.toml:7: there is no workload 'siev'"},
        Case{toml_with(any_workload() + any_workload()), "twice"}, Case{toml_with(""), "at least one workload"},
        Case{"schema = 2\n", "t.toml:1: "}, Case{"schema = \n", "t.toml:1: not valid TOML"}, Case{"", "schema"}}) {
    auto experiment = parse_experiment(c.text, "t.toml");
    ASSERT_FALSE(experiment) << c.text;
    EXPECT_NE(experiment.error().message.find(c.expected), std::string::npos) << experiment.error().message;
  }
}

TEST(Experiment, TheAnalysisSectionIsReadAndChecked) {
  const std::string levels =
      "[factors]\nscheduler = [\"gmp\", \"gmp:runnext=off,queue_slots=64\"]\ncollector = [\"concurrent\", \"stw\"]\n";
  const auto with = [&](const std::string& analysis) {
    return parse_experiment(toml_with(levels + any_workload()) + "[analysis]\n" + analysis, "t.toml");
  };
  auto set =
      with("alpha = 0.01\nrope_pct = 2\nbaseline = \"scheduler=gmp:queue_slots=64,runnext=off,collector=stw\"\n");
  ASSERT_TRUE(set) << set.error().message;
  EXPECT_EQ(set->alpha, 0.01);
  EXPECT_EQ(set->rope_pct, 2.0);
  EXPECT_EQ(set->factor("scheduler").baseline_level(), "gmp:runnext=off,queue_slots=64");
  EXPECT_EQ(set->factor("collector").baseline_level(), "stw");
  auto bare = with("baseline = \"scheduler=gmp\"\n");
  ASSERT_TRUE(bare) << bare.error().message;
  EXPECT_EQ(bare->factor("scheduler").baseline_level(), "gmp");
  for (const char* wrong :
       {"alpha = 0\n", "alpha = \"x\"\n", "rope_pct = 100\n", "baseline = \"scheduler=global_queue\"\n",
        "baseline = \"gmp\"\n", "baseline = \"scheduler=gmp,scheduler=gmp\"\n"})
    EXPECT_FALSE(with(wrong)) << wrong;
}

TEST(Experiment, TheOnesInTheTreeAreValid) {
  const std::string root = GEARBOX_SOURCE_DIR;
  for (const auto& name : experiment_names(root)) {
    auto experiment = load_experiment(root + "/experiments/" + name + ".toml");
    EXPECT_TRUE(experiment) << experiment.error().message;
  }
}

}  // namespace
}  // namespace gearbox::harness
