// What is one cell, and that a run says enough of it: effective values in plans and ids, filters that match nothing,
// records that could not be read back, and two runs that begin at once.
#include <gtest/gtest.h>

#include <filesystem>
#include <set>
#include <thread>

#include "base/os/disk.h"
#include "base/os/file.h"
#include "harness/plan.h"
#include "harness/run_directory.h"
#include "harness/sha256.h"

namespace gearbox::harness {
namespace {

namespace fs = std::filesystem;

std::string toml_of(const std::string& middle) {
  return "schema = 1\n[experiment]\nname = \"t\"\nquestion = \"q?\"\nhypothesis = \"h\"\n" + middle +
         "[design]\nblocks = 2\nseed = 9\n";
}
Result<Plan> plan_of(const std::string& middle) {
  auto experiment = parse_experiment(toml_of("[factors]\nprocs = [1]\n" + middle), "t.toml");
  if (!experiment) return experiment.error();
  return make_plan(*experiment, "b", nullptr);
}
std::string default_rounds() {
  auto workload = find_workload("ping_pong");
  GEARBOX_REQUIRE(workload.ok());
  for (const auto& info : options_of(*workload->make_params()))
    if (info.name == "rounds") return info.value;
  GEARBOX_PANIC("ping_pong has no parameter 'rounds'");
}

TEST(Identity, AParameterAtItsDefaultIsInThePlanAsEveryOtherOne) {
  auto plan =
      plan_of("[[workload]]\nname = \"ping_pong\"\nparams = { rounds = 500 }\n[[workload]]\nname = \"ping_pong\"\n");
  ASSERT_TRUE(plan) << plan.error().message;
  std::set<std::string> rounds, ids;
  for (const auto& cell : plan->cells) {
    const Json json = plan_json(cell);
    ASSERT_TRUE(json["params"].contains("rounds")) << to_line(json);
    rounds.insert(json["effective"]["params"]["rounds"].get<std::string>());
    ids.insert(cell.id);
  }
  EXPECT_EQ(rounds, (std::set<std::string>{"500", default_rounds()}));
  EXPECT_EQ(ids.size(), 2u);
}

TEST(Identity, TheDefaultWrittenOutIsTheSameSet) {
  auto plan = plan_of("[[workload]]\nname = \"ping_pong\"\n[[workload]]\nname = \"ping_pong\"\nparams = { rounds = " +
                      default_rounds() + " }\n");
  ASSERT_FALSE(plan);
  EXPECT_NE(plan.error().message.find("twice with the same parameters"), std::string::npos) << plan.error().message;
}

TEST(Identity, EveryOptionOfGearsAndRuntimeIsInPlanAndId) {
  auto plan = plan_of("[[workload]]\nname = \"ping_pong\"\n");
  ASSERT_TRUE(plan) << plan.error().message;
  Cell cell = plan->cells[0];
  const Json effective = plan_json(cell)["effective"];
  auto setup = set_up(cell);
  ASSERT_TRUE(setup) << setup.error().message;
  OptionView runtime(setup->runtime);
  const std::pair<const char*, OptionSet*> owners[] = {{"scheduler", setup->gears.scheduler_options.get()},
                                                       {"allocator", setup->gears.allocator_options.get()},
                                                       {"collector", setup->gears.collector_options.get()},
                                                       {"poller", setup->gears.poller_options.get()},
                                                       {"runtime", &runtime},
                                                       {"params", setup->params.get()}};
  for (const auto& [owner, set] : owners)
    for (const auto& info : options_of(*set))
      EXPECT_EQ(effective[owner].value(info.name, "missing"), info.value) << info.name;
  auto back = cell_from_json(plan_json(cell), "line");
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(to_line(plan_json(*back)), to_line(plan_json(cell)));
  // The same texts under a default that another build changed: another cell.
  for (OptionPairs* options : {&cell.params, &cell.gear_options[0], &cell.runtime_options}) {
    const std::string before = cell_id(cell, "b");
    (*options)[0].second += "0";
    EXPECT_NE(cell_id(cell, "b"), before);
  }
}

TEST(Identity, ACellRunsWithWhatThePlanSaysWhateverTheDefaultsAre) {
  auto plan = plan_of("[[workload]]\nname = \"ping_pong\"\n");
  ASSERT_TRUE(plan);
  Cell cell = plan->cells[0];
  cell.params = {{"rounds", "77"}};
  cell.gear_options[0] = {{"runnext", "off"}};
  cell.runtime_options = {{"sysmon", "off"}};
  auto setup = set_up(cell);
  ASSERT_TRUE(setup) << setup.error().message;
  EXPECT_FALSE(setup->runtime.sysmon);
  EXPECT_EQ(options_of(*setup->params)[0].value, "77");
  EXPECT_EQ(options_of(*setup->gears.scheduler_options)[0].value, "off");
}

TEST(Identity, APlanOfABuildWithOtherOptionsDoesNotFit) {
  auto plan = plan_of("[[workload]]\nname = \"ping_pong\"\n");
  ASSERT_TRUE(plan);
  Cell cell = plan->cells[0];
  EXPECT_TRUE(fits_this_build(cell));
  cell.gear_options[0].erase(cell.gear_options[0].begin());
  auto fits = fits_this_build(cell);
  ASSERT_FALSE(fits);
  EXPECT_NE(fits.error().message.find("has an option runnext in this build"), std::string::npos)
      << fits.error().message;
  cell.gear_options[0].insert(cell.gear_options[0].begin(), {"runnxt", "on"});
  fits = fits_this_build(cell);
  ASSERT_FALSE(fits);
  EXPECT_NE(fits.error().message.find("runnxt"), std::string::npos) << fits.error().message;
}

TEST(Constraints, AFilterThatMatchesNothingIsRefusedWithItsPlace) {
  const std::string levels = "collector = [\"concurrent\", \"stw\"]\n", work = "[[workload]]\nname = \"ping_pong\"\n";
  struct Case {
    const char *filter, *said;
  };
  for (const Case& c : {Case{"collector=none", "no cell has collector=none; there is concurrent, stw"},
                        Case{"workload=sieve", "no cell has workload=sieve; there is ping_pong"},
                        Case{"procs=2 & collector=stw", "no cell has procs=2; there is 1"},
                        Case{"scheduler=gmp:runnext=off", "no cell has scheduler=gmp:runnext=off; there is gmp"}}) {
    auto plan = plan_of(levels + work + "[constraints]\nforbid = [\"" + c.filter + "\"]\n");
    ASSERT_FALSE(plan) << c.filter;
    EXPECT_NE(plan.error().message.find("t.toml:12: [constraints] forbid"), std::string::npos) << plan.error().message;
    EXPECT_NE(plan.error().message.find(c.said), std::string::npos) << plan.error().message;
  }
  auto plan = plan_of(levels + work + "[constraints]\nforbid = [\"collector=stw & workload=ping_pong\"]\n");
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_EQ(plan->cells.size(), 2u);
  auto experiment = parse_experiment(toml_of("[factors]\nprocs = [1]\n" + work), "t.toml");
  ASSERT_TRUE(experiment);
  auto only = Filter::parse("poller=io_uring", "--only");
  ASSERT_TRUE(only);
  auto none = make_plan(*experiment, "b", &*only);
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().message,
            "--only 'poller=io_uring' matches no cell of this experiment: no cell has poller=io_uring; there is epoll");
}

class Folder : public ::testing::Test {
 protected:
  void SetUp() override { folder_ = *os::make_temporary_folder("gearbox-test-"); }
  void TearDown() override { fs::remove_all(folder_); }
  Result<RunDirectory> create() {
    const Json workload = {{"name", "fake"}, {"headline", "throughput"}};
    return RunDirectory::create(folder_, "fake", "text", {{"workloads", Json::array({workload})}}, "");
  }
  std::string folder_;
};

TEST_F(Folder, TheManifestCountsAndHashesWhatThereIs) {
  auto run = create();
  ASSERT_TRUE(run);
  CellOutcome outcome;
  outcome.record = {{"seq", 0}, {"attempt", 1}, {"workload", "x"}, {"status", "timeout"}};
  ASSERT_TRUE(run->append(outcome));
  ASSERT_TRUE(run->mark(false));
  const std::string text = *os::read_file(run->path() + "/manifest.json");
  Json manifest = *parse_json(text, "manifest");
  const std::string cells = *os::read_file(run->path() + "/cells.jsonl");
  Sha256 hash;
  hash.add(cells);
  EXPECT_EQ(manifest["records"], (Json{{"lines", 1}, {"bytes", cells.size()}, {"sha256", hash.hex()}}));
  EXPECT_FALSE(manifest.contains("ended"));
  const std::string sum = manifest["checksum"];
  std::string zeroed = text;
  zeroed.replace(zeroed.find(sum), sum.size(), std::string(64, '0'));
  Sha256 own;
  own.add(zeroed);
  EXPECT_EQ(own.hex(), sum);
  ASSERT_TRUE(run->mark(true));
  EXPECT_TRUE(run->manifest().contains("ended"));
}

TEST_F(Folder, RunsThatBeginAtOnceDoNotTakeEachOthersLinkAway) {
  constexpr int kThreads = 8, kRuns = 25;
  std::vector<std::string> said(kThreads);
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i)
    threads.emplace_back([&, i] {
      for (int k = 0; k < kRuns; ++k)
        if (auto linked = os::replace_link("run-" + std::to_string(i), folder_ + "/latest"); !linked)
          said[static_cast<std::size_t>(i)] = linked.error().message;
    });
  for (auto& thread : threads) thread.join();
  for (const auto& sentence : said) EXPECT_EQ(sentence, "");
  EXPECT_TRUE(fs::is_symlink(folder_ + "/latest"));
  int entries = 0;
  for (const auto& entry : fs::directory_iterator(folder_)) {
    (void)entry;
    ++entries;
  }
  EXPECT_EQ(entries, 1);
}

}  // namespace
}  // namespace gearbox::harness
