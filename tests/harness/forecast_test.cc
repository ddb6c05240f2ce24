// What a plan will cost and can find, and the experiments that one line on the command line asks for.
#include "harness/forecast.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <set>

#include "base/os/disk.h"
#include "base/os/file.h"
#include "base/random.h"
#include "harness/draft.h"
#include "harness/experiment_keys.h"
#include "harness/sweep.h"

namespace gearbox::harness {
namespace {

namespace fs = std::filesystem;

TEST(Forecast, TheDetectableEffectIsTheTableAndBetweenItsRowsSmooth) {
  EXPECT_FALSE(detectable_log(2, 3));
  for (const auto& [blocks, thrice, once] :
       {std::tuple(3, 3.13, 4.34), {5, 2.27, 2.85}, {10, 1.53, 1.81}, {30, .82, .97}}) {
    EXPECT_DOUBLE_EQ(*detectable_log(static_cast<std::uint64_t>(blocks), 3), thrice);
    EXPECT_DOUBLE_EQ(*detectable_log(static_cast<std::uint64_t>(blocks), 1), once);
  }
  for (std::uint64_t runs = 1; runs <= 4; ++runs)
    for (std::uint64_t blocks = 3; blocks < 200; ++blocks) {
      EXPECT_GT(*detectable_log(blocks, runs), *detectable_log(blocks + 1, runs)) << blocks;
      EXPECT_GE(*detectable_log(blocks, runs), *detectable_log(blocks, runs + 1));
    }
  EXPECT_NEAR(*detectable_log(120, 3), .41, 1e-9);
  EXPECT_NEAR(*detectable_log(7, 3), 1.87, .02);
}

TEST(Forecast, ResidualsAreWhatCellsAndBlocksLeave) {
  // Balanced, by hand: the interaction of a 2 x 2 table, one degree of freedom.
  const auto [squares, degrees] = residual_squares({{"a", 0, 1}, {"a", 1, 2}, {"b", 0, 5}, {"b", 1, 10}});
  EXPECT_NEAR(squares, 4 * 1.0, 1e-9);  // (1 - 2 - 5 + 10) / 4 = 1 in each of four
  EXPECT_EQ(degrees, 1u);
  EXPECT_EQ(residual_squares({{"a", 0, 1}, {"b", 0, 2}}).second, 0u);
  EXPECT_EQ(residual_squares({}).second, 0u);
  // Cells and blocks alone leave nothing, missing ones and repeated ones included.
  std::vector<LogValue> exact;
  for (std::uint64_t block = 0; block < 5; ++block)
    for (int cell = 0; cell < 4; ++cell)
      for (int run = 0; run < (cell == 0 ? 3 : block == 2 && cell == 3 ? 0 : 1); ++run)
        exact.push_back({std::to_string(cell), block, cell * 1.7 + std::sin(static_cast<double>(block))});
  EXPECT_NEAR(residual_squares(exact).first, 0, 1e-12);
  EXPECT_EQ(residual_squares(exact).second, exact.size() + 1 - 4 - 5);
  // The sd of noise is found again.
  Random random(5);
  std::vector<LogValue> noisy;
  for (std::uint64_t block = 0; block < 60; ++block)
    for (int cell = 0; cell < 16; ++cell) {
      double sum = -6;  // of twelve uniform numbers: nearly normal, sd 1
      for (int i = 0; i < 12; ++i) sum += static_cast<double>(random() >> 11) * 0x1p-53;
      noisy.push_back({std::to_string(cell), block, cell + 0.1 * static_cast<double>(block) + 0.2 * sum});
    }
  const auto found = residual_squares(noisy);
  EXPECT_NEAR(std::sqrt(found.first / static_cast<double>(found.second)), 0.2, 0.02);
}

Experiment experiment_of(const std::string& text) {
  auto experiment = parse_experiment(text, "t.toml");
  GEARBOX_REQUIRE(experiment.ok(), "{}", experiment.error().message);
  return std::move(*experiment);
}
const std::string kTwo =
    "schema = 1\n[experiment]\nname = \"t\"\nquestion = \"q?\"\nhypothesis = \"h\"\n[factors]\nprocs = [1]\nscheduler "
    "= [\"gmp\", \"global_queue\"]\n"
    "[[workload]]\nname = \"ping_pong\"\nparams = { rounds = 200 }\n[design]\nblocks = 3\n";

TEST(Forecast, EarlierRecordsOfTheSameCellsGiveTimeAndNoiseWhicheverBuildMadeThem) {
  const std::string folder = *os::make_temporary_folder("gearbox-test-");
  const Experiment experiment = experiment_of(kTwo);
  const Plan plan = make_plan(experiment, "an older build", nullptr).value();
  EXPECT_EQ(History::read(folder, plan.cells).runs(), 0u);
  EXPECT_FALSE(History::read(folder + "/nowhere", plan.cells).block_time(plan.cells));
  auto run =
      RunDirectory::create(folder, "t", experiment.text,
                           make_manifest(experiment, plan, "an older build", {}, Json::object()), plan_text(plan));
  ASSERT_TRUE(run) << run.error().message;
  double value = 100;
  for (const Cell& cell : run->plan()) {
    CellOutcome outcome;
    outcome.record = {{"schema", kRecordSchema}};
    outcome.record.update(plan_json(cell));
    outcome.record["attempt"] = 1;
    outcome.record["status"] = "ok";
    outcome.record["t_start"] = "2026-11-25T10:00:00.000Z";
    outcome.record["wall_ns"] = 250'000'000;
    outcome.record["metrics"] =
        Json::array({{{"name", "throughput"}, {"unit", "x/s"}, {"better", "higher"}, {"value", value += 7}}});
    ASSERT_TRUE(run->append(outcome));
  }
  const Plan today = make_plan(experiment, "today's build", nullptr).value();
  const History history = History::read(folder, today.cells);
  EXPECT_EQ(history.runs(), 1u);
  const std::vector<Cell> block(today.cells.begin(), today.cells.begin() + 2);
  const auto time = history.block_time(block);
  ASSERT_TRUE(time);
  EXPECT_NEAR(time->block_s, 0.5, 1e-9);
  EXPECT_EQ(time->known, 2u);
  const auto noise = history.noise("ping_pong");
  ASSERT_TRUE(noise);
  EXPECT_EQ(noise->degrees, 2u);
  EXPECT_GT(noise->sd, 0);
  // Other parameters are other cells.
  std::string other = kTwo;
  other.replace(other.find("200"), 3, "300");
  EXPECT_FALSE(History::read(folder, make_plan(experiment_of(other), "b", nullptr)->cells).block_time(block));
  // A cell without a time of its own counts as much as the others of its workload.
  std::string more = kTwo;
  more.replace(more.find("[1]"), 3, "[1, 2]");
  const Plan wider = make_plan(experiment_of(more), "b", nullptr).value();
  const std::vector<Cell> wide(wider.cells.begin(), wider.cells.begin() + static_cast<std::ptrdiff_t>(wider.per_block));
  const auto guessed = History::read(folder, wide).block_time(wide);
  ASSERT_TRUE(guessed);
  EXPECT_EQ(guessed->known, 2u);
  EXPECT_EQ(guessed->cells, 4u);
  EXPECT_NEAR(guessed->block_s, 1.0, 1e-9);
  fs::remove_all(folder);
}

std::vector<Experiment::Work> skynet() { return works_of("skynet", {{"leaves", "100"}}).value(); }
Plan plan_of(const Draft& draft) {
  auto plan = make_plan(experiment_of(draft_text(draft)), "b", nullptr);
  GEARBOX_REQUIRE(plan.ok(), "{}", plan.error().message);
  return std::move(*plan);
}
std::set<std::string> combos_in(const Plan& plan) {
  std::set<std::string> combos;
  for (const Cell& cell : plan.cells) combos.insert(fmt::format("{} {}", fmt::join(cell.combo, "/"), cell.procs));
  return combos;
}

TEST(Draft, AbIsTwoTreatmentsInTenBlocks) {
  const std::string rest = fmt::format("/size_class/concurrent/epoll {}", default_procs());
  auto draft = draft_ab("gmp", "gmp:runnext=off,steal=one", skynet());
  ASSERT_TRUE(draft) << draft.error().message;
  const Plan plan = plan_of(*draft);
  EXPECT_EQ(plan.cells.size(), 20u);
  EXPECT_EQ(combos_in(plan), (std::set<std::string>{"gmp" + rest, "gmp:runnext=off,steal=one" + rest}));
  for (const Cell& cell : plan.cells) EXPECT_EQ(cell.params, (OptionPairs{{"leaves", "100"}}));
  draft =
      draft_ab("scheduler=gmp,collector=stw,procs=1", "scheduler=global_queue,allocator=mimalloc,procs=2", skynet());
  ASSERT_TRUE(draft) << draft.error().message;
  EXPECT_EQ(combos_in(plan_of(*draft)),
            (std::set<std::string>{"gmp/size_class/stw/epoll 1", "global_queue/mimalloc/concurrent/epoll 2"}));
  draft = draft_ab("collector.gogc=100", "collector.gogc=50", skynet());
  ASSERT_TRUE(draft) << draft.error().message;
  EXPECT_EQ(plan_of(*draft).families[0].treatments, 2u);
  // The same twice is asked for: two labels.
  for (const char* same : {"gmp:runnext=on", "scheduler=gmp"}) {
    draft = draft_ab("gmp", same, skynet());
    ASSERT_TRUE(draft) << draft.error().message;
    const Plan twice = plan_of(*draft);
    EXPECT_EQ(twice.per_block, 2u);
    EXPECT_EQ(combos_in(twice).size(), 1u);
  }
  for (const auto& [a, b, said] :
       {std::tuple<const char*, const char*, const char*>{"gmpp", "gmp", "did you mean 'gmp'?"},
        {"gmp", "stw", "do not stand for one another"},
        {"gmp", "collector.gogc=50", "say it in both"},
        {"gmp:runnxt=off", "gmp", "did you mean 'runnext'?"},
        {"scheduler=gmp,procs=0", "scheduler=gmp", "1 to 256"},
        {"null", "gmp", "more than one gear; write scheduler=null or"},
        {"scheduler=gmp,scheduler=gmp", "gmp", "twice"}}) {
    draft = draft_ab(a, b, skynet());
    ASSERT_FALSE(draft) << a << " " << b;
    EXPECT_NE(draft.error().message.find(said), std::string::npos) << draft.error().message;
  }
}

TEST(Draft, OneSideThatCannotRunIsNoComparison) {
  auto draft = draft_ab("scheduler=null,procs=2", "scheduler=gmp,procs=2", skynet());
  ASSERT_TRUE(draft) << draft.error().message;
  auto plan = make_plan(experiment_of(draft_text(*draft)), "b", nullptr);
  ASSERT_FALSE(plan);
  EXPECT_NE(plan.error().message.find("nothing to compare"), std::string::npos) << plan.error().message;
}

TEST(Draft, AnAblationNeedsNothingTyped) {
  auto draft = draft_ablation(0, "gmp", split_settings("collector=stw,procs=2").value(), skynet());
  ASSERT_TRUE(draft) << draft.error().message;
  const Plan plan = plan_of(*draft);
  EXPECT_GT(plan.families[0].treatments, 10u);
  EXPECT_EQ(plan.families[0].baseline_runs, 3u);
  for (const auto& combo : combos_in(plan)) EXPECT_NE(combo.find("/stw/epoll 2"), std::string::npos) << combo;
  EXPECT_FALSE(draft_ablation(0, "gmpp", {}, skynet()));
  EXPECT_FALSE(draft_ablation(0, "gmp", split_settings("scheduler=gmp").value(), skynet()));
  EXPECT_FALSE(works_of("skynet,skynet", {}));
  EXPECT_FALSE(works_of("skynet", {{"rounds", "1"}}));
  EXPECT_FALSE(works_of("skynet", {{"leaves", "x"}}));
  EXPECT_FALSE(works_of("", {}));
}

TEST(Draft, AaIsTheBaselineTwiceOverTheWorkloadsOfTheFile) {
  const Experiment experiment = experiment_of(
      "schema = 1\n[experiment]\nname = \"t\"\nquestion = \"say \\\"q\\\" \\\\ ?\"\nhypothesis = "
      "\"h\"\n[factors]\nprocs = [1, 2]\n"
      "scheduler = [\"gmp\", \"global_queue\"]\ncollector = [\"concurrent\", \"stw\"]\n\"param.rounds\" = [200, "
      "300]\n\"scheduler.runnext\" = [\"on\", \"off\"]\n"
      "[[workload]]\nname = \"ping_pong\"\n[[workload]]\nname = \"skynet\"\nparams = { leaves = 10 }\n"
      "[constraints]\nforbid = [\"scheduler=global_queue & procs=2\", \"collector=stw & "
      "scheduler=gmp\"]\n[run]\ntimeout_s = 7\nruntime = \"sysmon=off\"\n"
      "[analysis]\nbaseline = \"scheduler=global_queue,param.rounds=300,collector=stw\"\n");
  auto draft = draft_aa(experiment);
  ASSERT_TRUE(draft) << draft.error().message;
  const Experiment again = experiment_of(draft_text(*draft));
  EXPECT_EQ(again.timeout_s, 7u);
  const Plan plan = make_plan(again, "b", nullptr).value();
  EXPECT_EQ(plan.per_block, 4u);
  std::set<std::string> ids, labels;
  for (const Cell& cell : plan.cells) {
    EXPECT_EQ(cell.combo[0], "global_queue");
    EXPECT_EQ(cell.combo[2], "stw");
    EXPECT_EQ(cell.runtime, "sysmon=off");
    if (cell.workload == "ping_pong") EXPECT_EQ(cell.params[0].second, "300");
    ids.insert(cell.id);
    labels.insert(cell.levels.back().second);
  }
  EXPECT_EQ(ids.size(), 2u);
  EXPECT_EQ(labels, (std::set<std::string>{"A", "B"}));
  for (const auto& name : experiment_names(GEARBOX_SOURCE_DIR)) {
    auto there = draft_aa(load_experiment(std::string(GEARBOX_SOURCE_DIR) + "/experiments/" + name + ".toml").value());
    EXPECT_TRUE(there) << name << ": " << there.error().message;
  }
}

// The page is a build product that readers see: stale, it lies about what a file may say.
TEST(ExperimentReference, DocsExperimentsIsWhatTheReaderDeclares) {
  auto page = os::read_file(GEARBOX_SOURCE_DIR "/docs/EXPERIMENTS.md");
  ASSERT_TRUE(page) << page.error().message;
  EXPECT_TRUE(experiment_reference() == *page)
      << "docs/EXPERIMENTS.md is stale; renew it with: ./gearbox experiment-reference > docs/EXPERIMENTS.md";
}

// Each number that is declared is read, at both ends of its range and no further; what the page says of a key that is left
// out is what the reader does.
TEST(ExperimentReference, WhatIsDeclaredIsWhatIsRead) {
  for (const auto& key : experiment_keys()) {
    if (key.type != ExperimentKey::Type::kInteger && key.type != ExperimentKey::Type::kNumber) continue;
    if (key.section.empty()) continue;
    const auto with = [&](const std::string& value) {
      std::string text = kTwo;
      const std::string line = fmt::format("{} = {}\n", key.name, value);
      if (key.section == "design") {
        if (key.name == "blocks") text.erase(text.find("blocks = 3\n"));
        if (key.name == "fraction") text += "kind = \"fractional\"\n";
        text += line;
      } else {
        text += fmt::format("[{}]\n{}", key.section, line);
      }
      return parse_experiment(text, "t.toml");
    };
    const bool whole = key.type == ExperimentKey::Type::kInteger;
    const std::string low = whole ? std::to_string(key.range.low) : fmt::format("{}", key.low);
    const std::string high = whole ? std::to_string(key.range.high) : fmt::format("{}", key.high);
    EXPECT_TRUE(with(low)) << key.name << " " << with(low).error().message;
    EXPECT_TRUE(with(high)) << key.name << " " << with(high).error().message;
    if (key.fallback.find_first_not_of("0123456789.") == std::string_view::npos) {
      auto said = with(std::string(key.fallback)),
           silent = parse_experiment(key.name == "fraction" ? kTwo + "kind = \"fractional\"\n" : kTwo, "t.toml");
      ASSERT_TRUE(said && silent) << key.name;
      const auto values = [](const Experiment& e) {
        return std::tuple(e.fraction, e.seed, e.timeout_s, e.mem_limit_mib, e.alpha, e.rope_pct);
      };
      EXPECT_EQ(values(*said), values(*silent)) << key.name;
    }
    EXPECT_FALSE(with("-1")) << key.name;
    EXPECT_FALSE(with("\"x\"")) << key.name;
    if (whole && key.range.high < INT64_MAX) EXPECT_FALSE(with(std::to_string(key.range.high + 1))) << key.name;
  }
  EXPECT_EQ(experiment_key("design", "blocks").fallback,
            fmt::format("{}; {} with a budget", Experiment().blocks, kBudgetBlocks));
  EXPECT_EQ(experiment_key("design", "kind").fallback, experiment_of(kTwo).kind);
}

}  // namespace
}  // namespace gearbox::harness
