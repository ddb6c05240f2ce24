// How many blocks a budget pays for: fixed after the first, from records alone, and the same after any interruption. And
// runs in the record format before this one, which are ended as they were begun.
#include "harness/budget.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "base/os/disk.h"
#include "base/os/file.h"
#include "harness/experiment.h"
#include "harness/sweep.h"

namespace gearbox::harness {
namespace {

namespace fs = std::filesystem;

constexpr const char* kGood =
    R"(echo '{"status":"ok","metrics":[{"name":"throughput","unit":"x/s","better":"higher","value":1}]}' >&3)";

TEST(Budget, ABlockCostsItsCellsAndTheUsualTimeBetweenThem) {
  EXPECT_EQ(block_cost_s({}), 0);
  EXPECT_DOUBLE_EQ(block_cost_s({{1000, 500'000'000}}), 0.5);
  // Gaps of 0.1 s, one of an hour in which the runner was not there, and one that a clock set back made negative.
  const std::vector<CellTime> times = {{0, 400'000'000},          {500, 400'000'000},       {1000, 400'000'000},
                                       {3'600'000, 400'000'000},  {3'600'500, 400'000'000}, {3'000'000, 400'000'000},
                                       {3'000'500, 1'000'000'000}};
  EXPECT_NEAR(block_cost_s(times), 6 * 0.4 + 1 + 7 * 0.1, 1e-9);
}

TEST(Budget, IsRoundedDownAndKeptBetweenThreeAndTheMost) {
  EXPECT_EQ(blocks_within(330, 60, 100), 5u);
  EXPECT_EQ(blocks_within(330, 200, 100), 3u);
  EXPECT_EQ(blocks_within(330, 0.001, 100), 100u);
  EXPECT_EQ(blocks_within(330, 0, 100), 100u);
  EXPECT_EQ(blocks_within(60, 20, 100), 3u);
  EXPECT_EQ(blocks_within(80, 20, 100), 4u);
}

TEST(Budget, ReadsTheTimesThatRecordsHave) {
  EXPECT_EQ(ms_of_iso_time("1970-01-02T00:00:01.250Z"), 86'401'250);
  EXPECT_EQ(ms_of_iso_time(iso_time(1'764'000'000'123'000'000, true)), 1'764'000'000'123);
  EXPECT_EQ(ms_of_iso_time("never"), 0);
}

class BudgetTest : public ::testing::Test {
 protected:
  void SetUp() override { folder_ = *os::make_temporary_folder("gearbox-test-"); }
  void TearDown() override { fs::remove_all(folder_); }
  static constexpr std::uint64_t kCells = 4, kMost = 30;
  static Plan plan() {
    Plan plan;
    for (std::uint64_t i = 0; i < kCells * kMost; ++i) {
      Cell cell;
      cell.seq = i;
      cell.block = i / kCells;
      cell.workload = "fake";
      cell.params = {{"n", std::to_string(i % kCells)}};
      cell.id = cell_id(cell, "build");
      plan.cells.push_back(cell);
    }
    return plan;
  }
  RunDirectory new_run(std::uint64_t budget_s) {
    Json manifest = {{"blocks", kMost}, {"design", {{"kind", "factorial"}, {"blocks", kMost}, {"budget_s", budget_s}}}};
    auto run = RunDirectory::create(folder_, "fake", "text", manifest, plan_text(plan()));
    GEARBOX_REQUIRE(run.ok(), "{}", run.error().message);
    return std::move(*run);
  }
  static CellRunner runner(const std::string& script) { return CellRunner({"/bin/sh", "-c", script}); }
  static std::vector<Json> records_of(const std::string& path) {
    std::vector<Json> out;
    std::ifstream file(path + "/cells.jsonl");
    for (std::string line; std::getline(file, line);) out.push_back(*parse_json(line, "line"));
    return out;
  }
  // What the number must be, from the records that are there.
  static std::uint64_t blocks_of(const std::string& path, std::uint64_t budget_s) {
    std::vector<CellTime> times;
    for (const auto& record : records_of(path))
      if (record["block"] == 0)
        times.push_back({ms_of_iso_time(record["t_start"].get<std::string>()), record["wall_ns"].get<std::int64_t>()});
    EXPECT_EQ(times.size(), kCells);
    return blocks_within(budget_s, block_cost_s(times), kMost);
  }
  std::string folder_;
};

TEST_F(BudgetTest, TheFirstBlockFixesTheNumberAndTheRestOfThePlanIsNoPartOfTheRun) {
  RunDirectory run = new_run(2);
  auto end = run_plan(run, runner(std::string("sleep 0.08; ") + kGood), 1, true);
  ASSERT_TRUE(end) << end.error().message;
  const std::uint64_t blocks = blocks_of(run.path(), 2);
  EXPECT_LT(blocks, kMost);
  EXPECT_EQ(run.manifest()["blocks"], blocks);
  EXPECT_EQ(run.manifest()["budget"]["blocks"], blocks);
  EXPECT_EQ(run.manifest()["budget"]["budget_s"], 2);
  EXPECT_GT(run.manifest()["budget"]["block_0_s"].get<double>(), 0.08 * kCells);
  EXPECT_EQ(run.plan().size(), blocks * kCells);
  EXPECT_EQ(records_of(run.path()).size(), blocks * kCells);
  EXPECT_EQ(run.manifest()["plan"]["cells"], kCells * kMost);  // the file keeps what might have been
  EXPECT_TRUE(run.manifest().contains("ended"));
}

TEST_F(BudgetTest, ATinyBudgetHasThreeBlocksAndAHugeOneAllThatThereAre) {
  RunDirectory tiny = new_run(1);
  ASSERT_TRUE(run_plan(tiny, runner(std::string("sleep 0.3; ") + kGood), 1, true));
  EXPECT_EQ(tiny.plan().size(), 3 * kCells);
  RunDirectory huge = new_run(100'000);
  ASSERT_TRUE(run_plan(huge, runner(kGood), 1, true));
  EXPECT_EQ(huge.plan().size(), kMost * kCells);
}

// A runner that is killed again and again, in the first block above all, ends with what its records say, and every cell of
// the run has one record.
TEST_F(BudgetTest, AKilledRunHasTheBlocksThatItsRecordsSay) {
  const std::string script = std::string("sleep 0.1; ") + kGood;
  std::string path;
  {
    RunDirectory run = new_run(3);
    path = run.path();
  }
  for (const int after_us : {120'000, 260'000, 150'000, 700'000}) {
    const pid_t child = ::fork();
    if (child == 0) {
      auto run = RunDirectory::open(path);
      if (run) (void)run_plan(*run, runner(script), 1, true);
      ::_exit(0);
    }
    ::usleep(static_cast<useconds_t>(after_us));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
  }
  auto run = RunDirectory::open(path);
  ASSERT_TRUE(run) << run.error().message;
  ASSERT_TRUE(run_plan(*run, runner(script), 1, true));
  const std::uint64_t blocks = blocks_of(path, 3);
  EXPECT_EQ(run->manifest()["budget"]["blocks"], blocks);
  EXPECT_EQ(run->plan().size(), blocks * kCells);
  std::set<std::uint64_t> seqs;
  for (const auto& record : records_of(path)) EXPECT_TRUE(seqs.insert(record["seq"].get<std::uint64_t>()).second);
  EXPECT_EQ(seqs.size(), blocks * kCells);
  // Opened once more, the run is the same, and has nothing left to do.
  path = run->path();
  run = Error{"closed"};
  auto again = RunDirectory::open(path);
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(again->plan().size(), blocks * kCells);
  EXPECT_EQ(run_plan(*again, runner(script), 1, true)->ran, 0u);
}

TEST_F(BudgetTest, TheManifestThatAKillKeptFromBeingWrittenIsMadeFromTheRecords) {
  std::string path;
  Json fixed;
  {
    RunDirectory run = new_run(2);
    path = run.path();
    ASSERT_TRUE(run_plan(run, runner(std::string("sleep 0.08; ") + kGood), 1, true));
    fixed = run.manifest()["budget"];
  }
  // As it was after the last cell of the first block.
  std::vector<Json> records = records_of(path);
  std::ofstream cells(path + "/cells.jsonl", std::ios::trunc);
  for (std::size_t i = 0; i < kCells; ++i) cells << to_line(records[i]) << "\n";
  cells.close();
  Json manifest = *parse_json(*os::read_file(path + "/manifest.json"), "manifest");
  for (const char* key : {"budget", "ended", "records"}) manifest.erase(key);
  manifest["blocks"] = kMost;
  std::ofstream(path + "/manifest.json", std::ios::trunc) << to_page(manifest);
  auto run = RunDirectory::open(path);
  ASSERT_TRUE(run) << run.error().message;
  ASSERT_TRUE(run_plan(*run, runner(kGood), 1, true));
  EXPECT_EQ(to_line(run->manifest()["budget"]), to_line(fixed));
}

TEST_F(BudgetTest, ARunOfTheFormerSchemaIsEndedInIt) {
  std::string path;
  {
    RunDirectory run = new_run(100);
    path = run.path();
  }
  Json manifest = *parse_json(*os::read_file(path + "/manifest.json"), "manifest");
  manifest["schema"] = 2;
  manifest["design"] = "factorial";
  std::ofstream(path + "/manifest.json", std::ios::trunc) << to_page(manifest);
  std::string lines;
  std::ifstream file(path + "/plan.jsonl");
  for (std::string line; std::getline(file, line);) {
    Json json = *parse_json(line, "line");
    json.erase("replicate");
    json.erase("levels");
    lines += to_line(json) + "\n";
  }
  file.close();
  std::ofstream(path + "/plan.jsonl", std::ios::trunc) << lines;
  auto run = RunDirectory::open(path);
  ASSERT_TRUE(run) << run.error().message;
  auto end = run_plan(*run, runner(kGood), 1, true);
  ASSERT_TRUE(end) << end.error().message;
  EXPECT_EQ(end->ok, kCells * kMost);
  for (const auto& record : records_of(path)) {
    EXPECT_EQ(record["schema"], 2);
    EXPECT_FALSE(record.contains("replicate") || record.contains("levels"));
  }
  for (const int schema : {1, 4}) {
    manifest["schema"] = schema;
    std::ofstream(path + "/manifest.json", std::ios::trunc) << to_page(manifest);
    run = Error{"closed"};
    auto refused = RunDirectory::open(path);
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().message.find(fmt::format("its schema is {}; this program knows 2 and 3", schema)),
              std::string::npos);
  }
}

}  // namespace
}  // namespace gearbox::harness
