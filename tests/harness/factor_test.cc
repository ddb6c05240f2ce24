// Everything that a run can be told can be a factor: what the plan's lines say of it, what is refused, and which cells a
// filter means.
#include "harness/factor.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "harness/plan.h"
#include "harness/source_state.h"
#include "harness/sweep.h"

namespace gearbox::harness {
namespace {

std::string file_of(const std::string& factors, const std::string& more, const std::string& design = "") {
  return "schema = 1\n[experiment]\nname = \"t\"\nquestion = \"q?\"\nhypothesis = \"h\"\n[factors]\nprocs = [1]\n" +
         factors + more + "[design]\nblocks = 2\nseed = 9\n" + design;
}
const std::string kTrees = "[[workload]]\nname = \"binary_trees\"\n", kPing = "[[workload]]\nname = \"ping_pong\"\n";

Result<Experiment> experiment_of(const std::string& factors, const std::string& more, const std::string& design = "") {
  return parse_experiment(file_of(factors, more, design), "t.toml");
}
Plan plan_of(const std::string& factors, const std::string& more, const std::string& design = "",
             const char* only = nullptr) {
  auto experiment = experiment_of(factors, more, design);
  GEARBOX_REQUIRE(experiment.ok(), "{}", experiment.error().message);
  Filter filter;
  if (only != nullptr) filter = Filter::parse(only, "--only").value();
  auto plan = make_plan(*experiment, "b", only != nullptr ? &filter : nullptr);
  GEARBOX_REQUIRE(plan.ok(), "{}", plan.error().message);
  return std::move(*plan);
}
std::string refusal_of(const std::string& factors, const std::string& more, const std::string& design = "") {
  auto experiment = experiment_of(factors, more, design);
  if (!experiment) return experiment.error().message;
  auto plan = make_plan(*experiment, "b", nullptr);
  return plan ? "" : plan.error().message;
}
std::string level(const Cell& cell, const std::string& factor) {
  for (const auto& [name, text] : cell.levels)
    if (name == factor) return text;
  return "";
}

TEST(Factor, EachKindReachesTheCellAndItsLevels) {
  const Plan plan = plan_of(
      "scheduler = [\"gmp\", \"global_queue\"]\n\"param.depth\" = [12, 14]\n\"runtime.sysmon\" = [true, \"off\"]\n"
      "\"scheduler.runnext\" = [\"on\", \"off\"]\n\"collector.gogc\" = [50, 100]\n",
      kTrees + kPing);
  std::map<std::string, std::set<std::string>> cells;  // workload -> levels of its cells
  for (const Cell& cell : plan.cells) {
    if (cell.block != 0 || cell.replicate != 0) continue;
    const Json line = plan_json(cell), &effective = line["effective"];
    EXPECT_EQ(line["replicate"], 0);
    EXPECT_EQ(line["levels"]["procs"], "1");
    EXPECT_EQ(line["levels"]["allocator"], "size_class");
    EXPECT_EQ(line["levels"]["runtime.sysmon"], effective["runtime"]["sysmon"]);
    EXPECT_EQ(line["levels"]["collector.gogc"], effective["collector"]["gogc"]);
    EXPECT_EQ(line["levels"].contains("param.depth"), cell.workload == "binary_trees");
    if (line["levels"].contains("param.depth")) {
      EXPECT_EQ(line["levels"]["param.depth"], effective["params"]["depth"]);
      EXPECT_EQ(std::to_string(line["params"]["depth"].get<int>()), level(cell, "param.depth"));
    }
    EXPECT_EQ(line["levels"].contains("scheduler.runnext"), level(cell, "scheduler") == "gmp");
    if (line["levels"].contains("scheduler.runnext"))
      EXPECT_EQ(line["levels"]["scheduler.runnext"], effective["scheduler"]["runnext"]);
    EXPECT_EQ(gear_name(cell.combo[0]), level(cell, "scheduler"));
    auto back = cell_from_json(line, "line");
    ASSERT_TRUE(back) << back.error().message;
    EXPECT_EQ(to_line(plan_json(*back)), to_line(line));
    EXPECT_TRUE(cells[cell.workload].insert(join_pairs(cell.levels)).second) << join_pairs(cell.levels);
  }
  EXPECT_EQ(cells["binary_trees"].size(), 2u * 2 * 2 * (2 + 1));  // global_queue has no runnext
  EXPECT_EQ(cells["ping_pong"].size(), 2u * 2 * (2 + 1));
}

TEST(Factor, NamesWithoutQuotesAreTheSame) {
  const Plan quoted = plan_of("\"param.depth\" = [12, 14]\n", kTrees);
  const Plan bare = plan_of("param.depth = [12, 14]\n", kTrees);
  EXPECT_EQ(plan_text(bare), plan_text(quoted));
}

TEST(Factor, MistakesAreRefusedWithTheirPlaceAndTheNearest) {
  struct Case {
    std::string factors, more, said;
  };
  for (const Case& c :
       {Case{"\"param.dept\" = [12]\n", kTrees,
             "t.toml:8: [factors]: factor param.dept: no workload has a parameter 'dept'"},
        Case{"\"param.dept\" = [12]\n", kTrees, "did you mean 'depth'?"},
        Case{"\"param.primes\" = [12]\n", kTrees,
             "no workload of this experiment has a parameter 'primes', only sieve would"},
        Case{"\"param.depth\" = [12, 12]\n", kTrees, "t.toml:8: [factors] param.depth holds '12' twice"},
        Case{"\"param.depth\" = [12, \"12\"]\n", kTrees, "holds '12' twice"},
        Case{"\"param.depth\" = [-3]\n", kTrees,
             "t.toml:8: [factors] param.depth: option depth of workload binary_trees"},
        Case{"\"param.depth\" = [12.5]\n", kTrees, "that is not a whole number, true or false, or a text"},
        Case{"\"param.depth\" = []\n", kTrees, "empty list"},
        Case{"\"param.depth\" = [12]\n", kTrees + "params = { depth = 13 }\n",
             "t.toml:11: param.depth is a factor, so that params of workload binary_trees must not"},
        Case{"depth = [12]\n", kTrees, "did you mean 'param.depth'?"},
        Case{"\"runtime.gogc\" = [50]\n", kTrees, "the runtime has no option 'gogc'"},
        Case{"\"runtime.gogc\" = [50]\n", kTrees, "did you mean 'collector.gogc'?"},
        Case{"\"runtime.sysmon\" = [\"maybe\"]\n", kTrees,
             "t.toml:8: [factors] runtime.sysmon: option sysmon of the runtime has no value 'maybe'"},
        Case{"\"runtime.sysmon\" = [true]\n", kTrees + "[run]\nruntime = \"sysmon=off\"\n",
             "runtime.sysmon is a factor, so that [run] runtime must not set sysmon"},
        Case{"\"scheduler.runnxt\" = [true]\n", kTrees, "did you mean 'runnext'?"},
        Case{"scheduler = [\"global_queue\"]\n\"scheduler.runnext\" = [true]\n", kTrees,
             "no level of scheduler, which is global_queue, has an option 'runnext'"},
        Case{"scheduler = [\"gmp:runnext=off\"]\n\"scheduler.runnext\" = [true]\n", kTrees,
             "scheduler.runnext is a factor, so that the level 'gmp:runnext=off' must not set runnext"},
        Case{"schedular = [\"gmp\"]\n", kTrees, "did you mean 'scheduler'?"},
        Case{"schedular.runnext = [\"gmp\"]\n", kTrees, "did you mean 'scheduler'?"},
        Case{"label = [\"a b\"]\n", kTrees, "label takes words"},
        Case{"", kTrees + "[analysis]\nbaseline = \"procs=2\"\n", "procs=2 is not among the levels 1"},
        Case{"", kTrees + "[analysis]\nbaseline = \"param.depth=2\"\n",
             "param.depth is no factor of this experiment"}}) {
    const std::string said = refusal_of(c.factors, c.more);
    EXPECT_NE(said.find(c.said), std::string::npos)
        << c.factors << c.more << "\n  said: " << said << "\n  not:  " << c.said;
  }
}

TEST(Factor, SettingsAreSplitAtFactorsAndNotAtOptions) {
  auto settings = split_settings("scheduler=gmp:runnext=off,steal=one,procs=2,collector.gogc=50,param.depth=12");
  ASSERT_TRUE(settings) << settings.error().message;
  std::vector<std::string> got;
  for (const auto& [factor, text] : *settings) got.push_back(factor.name + " " + text);
  EXPECT_EQ(got, (std::vector<std::string>{"scheduler gmp:runnext=off,steal=one", "procs 2", "collector.gogc 50",
                                           "param.depth 12"}));
  for (const char* wrong : {"", "gmp", "scheduler=", "=gmp", "procs=1,procs=2", "scheduler=gmp,steal=one", "procs=1,"})
    EXPECT_FALSE(split_settings(wrong)) << wrong;
}

TEST(Factor, AnyLevelCanBeTheBaseline) {
  const std::string factors = "scheduler = [\"gmp\", \"global_queue\"]\n\"param.depth\" = [12, 14, 15]\n";
  auto experiment =
      experiment_of(factors, kTrees + "[analysis]\nbaseline = \"scheduler=global_queue,param.depth=14\"\n",
                    "baseline_runs = 4\nkind = \"ofat\"\n");
  ASSERT_TRUE(experiment) << experiment.error().message;
  auto plan = make_plan(*experiment, "b", nullptr);
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->per_block, 4u + 1 + 2);
  std::map<std::string, int> runs;
  for (const Cell& cell : plan->cells) runs[level(cell, "scheduler") + level(cell, "param.depth")] += cell.block == 0;
  EXPECT_EQ(runs, (std::map<std::string, int>{
                      {"global_queue14", 4}, {"gmp14", 1}, {"global_queue12", 1}, {"global_queue15", 1}}));
  const Json manifest = make_manifest(*experiment, *plan, "b", {}, Json::object());
  EXPECT_EQ(manifest["factors"]["param.depth"], (Json{"14", "12", "15"}));
  EXPECT_EQ(manifest["baseline"]["param.depth"], "14");
  EXPECT_EQ(manifest["baseline"]["scheduler"], "global_queue");
  EXPECT_EQ(manifest["schema"], 3);
  EXPECT_EQ(to_line(manifest["design"]), R"({"kind":"ofat","blocks":2,"baseline_runs":4,"budget_s":null})");
  EXPECT_FALSE(manifest["workloads"][0]["params"].contains("depth"));
  EXPECT_TRUE(manifest["workloads"][0]["params"].contains("workers"));
}

TEST(Factor, TheBaselineRunsAsOftenAsTheRuleSays) {
  const std::pair<std::uint64_t, std::uint64_t> rule[] = {{1, 1}, {2, 1}, {5, 1},  {6, 2},
                                                          {7, 2}, {8, 3}, {16, 3}, {100, 3}};
  for (const auto& [treatments, runs] : rule) EXPECT_EQ(baseline_runs_of(treatments), runs) << treatments;
  // Per work item: binary_trees has 8 treatments, ping_pong 4.
  const std::string factors =
      "scheduler = [\"gmp\", \"global_queue\"]\ncollector = [\"concurrent\", \"stw\"]\n\"param.depth\" = [12, 14]\n";
  const Plan plan = plan_of(factors, kTrees + kPing);
  std::map<std::pair<std::uint64_t, std::string>, std::set<std::uint64_t>> replicates;
  for (const Cell& cell : plan.cells)
    EXPECT_TRUE(replicates[std::pair(cell.block, cell.id)].insert(cell.replicate).second);
  std::map<std::size_t, int> count;
  for (const auto& [key, seen] : replicates) {
    ++count[seen.size()];
    EXPECT_EQ(*seen.rbegin() + 1, seen.size());
  }
  EXPECT_EQ(count, (std::map<std::size_t, int>{{1, 2 * (7 + 4)}, {3, 2}}));
  // Among the others, and not in a row.
  std::vector<std::uint64_t> places;
  for (const Cell& cell : plan.cells)
    if (cell.block == 0 && replicates[std::pair(cell.block, cell.id)].size() == 3) places.push_back(cell.seq);
  EXPECT_NE(places, (std::vector<std::uint64_t>{places[0], places[0] + 1, places[0] + 2}));
  // What a filter leaves counts, and a family that lost its baseline repeats nothing.
  EXPECT_EQ(plan_of(factors, kTrees + kPing, "", "collector=stw").per_block, 4u + 2);
  EXPECT_EQ(plan_of(factors, kTrees + kPing, "baseline_runs = 1\n").per_block, 8u + 4);
}

TEST(Factor, OneSeedOnePlan) {
  const auto text = [](const std::string& design) {
    return plan_text(
        plan_of("scheduler = [\"gmp\", \"global_queue\"]\n\"param.depth\" = [12, 13, 14]\n", kTrees + kPing, design));
  };
  for (const char* kind : {"factorial", "ofat", "pairwise"}) {
    const std::string design = fmt::format("kind = \"{}\"\n", kind);
    EXPECT_EQ(text(design), text(design));
  }
  EXPECT_EQ(text("kind = \"factorial\"\n"), text(""));
  // More blocks, with a budget too, begin with the same ones.
  std::string more = file_of("", kTrees, "budget_s = 5\n");
  more.replace(more.find("blocks = 2"), 10, "blocks = 7");
  auto budgeted = parse_experiment(more, "t.toml");
  ASSERT_TRUE(budgeted) << budgeted.error().message;
  const std::string few = plan_text(plan_of("", kTrees)), many = plan_text(make_plan(*budgeted, "b", nullptr).value());
  EXPECT_EQ(many.substr(0, few.size()), few);
}

TEST(Factor, LabelsRunTheSameCellAndAreToldApartByTheirLevels) {
  const Plan plan = plan_of("label = [\"A\", \"B\"]\n", kTrees, "kind = \"ab\"\n");
  EXPECT_EQ(plan.per_block, 2u);
  std::set<std::string> ids, labels;
  for (const Cell& cell : plan.cells) {
    ids.insert(cell.id);
    labels.insert(fmt::format("{} {} {}", cell.block, level(cell, "label"), cell.replicate));
  }
  EXPECT_EQ(ids.size(), 1u);
  EXPECT_EQ(labels, (std::set<std::string>{"0 A 0", "0 B 0", "1 A 0", "1 B 0"}));
}

TEST(Ablation, TurnsEverySwitchOfTheGearFromItsDeclaredLevels) {
  const Plan plan = plan_of("", kTrees, "kind = \"ablation\"\nablate = \"scheduler\"\n");
  std::set<std::string> combos;
  for (const Cell& cell : plan.cells) combos.insert(cell.combo[0]);
  std::set<std::string> wanted = {"gmp"};
  for (const auto& gear : gears_of(0))
    if (gear.name == "gmp")
      for (const auto& info : options_of(*gear.make_options()))
        for (const auto& text : info.levels)
          if (text != info.value) wanted.insert(fmt::format("gmp:{}={}", info.name, text));
  EXPECT_GT(wanted.size(), 5u);
  EXPECT_EQ(combos, wanted);
  // A gear that is given with options is ablated from there.
  const Plan moved = plan_of("scheduler = [\"gmp:runnext=off,global_tick=7\"]\n", kTrees,
                             "kind = \"ablation\"\nablate = \"scheduler\"\n");
  std::set<std::string> there;
  for (const Cell& cell : moved.cells) {
    there.insert(cell.combo[0]);
    EXPECT_EQ(level(cell, "scheduler"), "gmp:global_tick=7");
  }
  EXPECT_TRUE(there.contains("gmp:runnext=off,global_tick=7"));
  EXPECT_TRUE(there.contains("gmp:global_tick=7"));
  EXPECT_EQ(there.size(), wanted.size());
  for (const auto& [factors, design, said] :
       {std::tuple<const char*, const char*, const char*>{"", "kind = \"ablation\"\n", "needs `ablate`"},
        {"", "kind = \"ablation\"\nablate = \"schedular\"\n", "did you mean 'scheduler'?"},
        {"scheduler = [\"gmp\", \"global_queue\"]\n", "kind = \"ablation\"\nablate = \"scheduler\"\n", "lists 2"},
        {"scheduler = [\"null\"]\n", "kind = \"ablation\"\nablate = \"scheduler\"\n", "no switch to turn"},
        {"", "kind = \"ofat\"\nablate = \"scheduler\"\n", "belongs to kind = \"ablation\""},
        {"", "kind = \"ofat\"\nfraction = 2\n", "belongs to kind = \"fractional\""},
        {"", "kind = \"pairwize\"\n", "did you mean 'pairwise'?"}}) {
    const std::string refused = refusal_of(factors, kTrees, design);
    EXPECT_NE(refused.find(said), std::string::npos) << refused;
  }
}

TEST(Plan, AFractionWithHolesIsRefused) {
  const std::string three =
      "scheduler = [\"gmp\", \"global_queue\"]\ncollector = [\"concurrent\", \"stw\"]\n\"param.depth\" = [12, 14]\n";
  const std::string fractional = "kind = \"fractional\"\n";
  EXPECT_EQ(plan_of(three, kTrees, fractional).families[0].resolution, 3u);
  EXPECT_NE(refusal_of(three + "\"scheduler.runnext\" = [true, false]\n", kTrees, fractional).find("says nothing to"),
            std::string::npos);
  EXPECT_NE(
      refusal_of(three, kTrees + "[constraints]\nforbid = [\"scheduler=gmp & collector=concurrent\"]\n", fractional)
          .find("holes"),
      std::string::npos);
  EXPECT_NE(refusal_of(three, kTrees + kPing, fractional).find("workload ping_pong: fraction = 2 of 2 factors"),
            std::string::npos);
  EXPECT_NE(refusal_of("procs2 = [1]\n", kTrees, fractional), "");
}

TEST(Plan, MoreCellsThanCanBePlannedAreRefused) {
  const std::string said =
      refusal_of("\"param.depth\" = [10, 11, 12, 13, 14]\n\"runtime.seed\" = [1,2,3,4,5,6,7,8,9,10,11,12]\n", kTrees,
                 "baseline_runs = 1\n");
  EXPECT_EQ(said, "");
  auto experiment = experiment_of("", kTrees, "baseline_runs = 100\n");
  ASSERT_TRUE(experiment);
  experiment->blocks = 5000;
  auto plan = make_plan(*experiment, "b", nullptr);
  ASSERT_FALSE(plan);
  EXPECT_NE(plan.error().message.find("500000 cells"), std::string::npos) << plan.error().message;
}

TEST(Filter, NamesEverythingAndComparesNumbers) {
  const std::string factors =
      "scheduler = [\"gmp\", \"global_queue\"]\n\"param.depth\" = [9, 12, 14]\n\"runtime.sysmon\" = [true, "
      "false]\n\"scheduler.steal\" = [\"half\", \"one\"]\n";
  auto experiment = experiment_of(factors, kTrees + kPing, "baseline_runs = 1\n");
  ASSERT_TRUE(experiment) << experiment.error().message;
  experiment->blocks = 1;
  const auto matched = [&](const char* text) {
    auto filter = Filter::parse(text, "--only");
    if (!filter) ADD_FAILURE() << filter.error().message;
    const Plan all = make_plan(*experiment, "b", nullptr).value();
    return std::count_if(all.cells.begin(), all.cells.end(), [&](const Cell& cell) { return filter->matches(cell); });
  };
  // Each of the two sysmon levels has 3 schedulers (gmp twice); binary_trees has 3 depths.
  EXPECT_EQ(matched("param.depth>=12"), 12);
  EXPECT_EQ(matched("param.depth > 12"), 6);
  EXPECT_EQ(matched("param.depth<12"), 6);  // as numbers: 9 is below 12
  EXPECT_EQ(matched("param.depth<=12 & scheduler=global_queue"), 4);
  EXPECT_EQ(matched("param.depth != 12"), 12);  // ping_pong has none, and is not meant
  EXPECT_EQ(matched("runtime.sysmon=off"), 12);
  EXPECT_EQ(matched("scheduler.steal=one"), 8);
  EXPECT_EQ(matched("scheduler=gmp"), 16);
  EXPECT_EQ(matched("scheduler=gmp:steal=one"), 8);
  EXPECT_EQ(matched("procs<2 & workload=ping_pong"), 6);
  EXPECT_EQ(matched("param.workers=0"), 18);  // no factor, and yet of a cell
  EXPECT_EQ(matched("collector.gogc>99"), 24);
  for (const auto& [text, said] : {std::pair<const char*, const char*>{"depth=3", "did you mean 'param.depth'?"},
                                   {"scheduler<gmp", "compares numbers"},
                                   {"param.depth<x", "'x' is not one"},
                                   {"param.depth=x", "option depth of workload binary_trees"},
                                   {"procs=0", "1 to 256"},
                                   {"runtime.sysmn=off", "did you mean 'sysmon'?"},
                                   {"sheduler=gmp", "did you mean 'scheduler'?"},
                                   {"procs", "not a filter"},
                                   {"procs!2", "not a filter"},
                                   {"procs>", "not a filter"},
                                   {"procs=1 &", "not a filter"}}) {
    auto filter = Filter::parse(text, "--only");
    ASSERT_FALSE(filter) << text;
    EXPECT_NE(filter.error().message.find(said), std::string::npos) << filter.error().message;
  }
}

TEST(Filter, ConstraintsMayNameLevelsAndParameters) {
  const std::string factors = "collector = [\"concurrent\", \"stw\"]\n\"param.depth\" = [12, 14]\n";
  const Plan plan = plan_of(factors, kTrees + "[constraints]\nforbid = [\"collector=stw & param.depth > 12\"]\n",
                            "baseline_runs = 1\n");
  EXPECT_EQ(plan.per_block, 3u);
  EXPECT_NE(refusal_of(factors, kTrees + "[constraints]\nforbid = [\"param.depth > 14\"]\n")
                .find("no cell has param.depth>14; there is 12, 14"),
            std::string::npos);
  EXPECT_NE(refusal_of(factors, kPing + kTrees + "[constraints]\nforbid = [\"param.rounds < 5 & param.depth = 12\"]\n")
                .find("no cell has param.rounds<5"),
            std::string::npos);
  // A pairwise design goes around a filter that it never meets, and the filter still has to mean something.
  const Plan cover = plan_of(
      "collector = [\"concurrent\", \"stw\"]\nscheduler = [\"gmp\", \"global_queue\"]\n\"param.depth\" = [12, 14]\n",
      kTrees + "[constraints]\nforbid = [\"collector=stw & scheduler=global_queue & param.depth = 14\"]\n",
      "kind = \"pairwise\"\n");
  for (const Cell& cell : cover.cells)
    EXPECT_FALSE(level(cell, "collector") == "stw" && level(cell, "scheduler") == "global_queue" &&
                 level(cell, "param.depth") == "14");
  const std::string none =
      refusal_of(factors, kTrees + "[constraints]\nforbid = [\"param.depth > 14\"]\n", "kind = \"pairwise\"\n");
  EXPECT_NE(none.find("matches no cell"), std::string::npos) << none;
}

}  // namespace
}  // namespace gearbox::harness
